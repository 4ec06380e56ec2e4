"""How many threads torch uses for models as small as these."""

from __future__ import annotations

import os
import sys

__all__ = ("THREADS", "prefer_one_thread")

THREADS = "OMP_NUM_THREADS"


def prefer_one_thread() -> None:
    """Let torch use one thread, for programs that only run pocket models.

    Such small calls are dominated by thread wake-ups: on two idle cores the second
    thread saves a sixth of the time, on busy ones waiting for it costs ten times as
    much. Nothing happens if torch is already loaded, or the number of threads is set.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(THREADS, "1")
