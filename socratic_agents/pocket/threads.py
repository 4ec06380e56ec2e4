"""Threads: how many torch takes for models that are as small as these."""

from __future__ import annotations

import os
import sys

__all__ = ("THREADS", "prefer_one_thread")

THREADS = "OMP_NUM_THREADS"


def prefer_one_thread() -> None:
    """Let torch compute in one thread, for programs that run pocket models alone.

    Calls this small spend their time waking threads: on two free cores the second
    one saves a sixth of the time, and where others work, the waiting for it costs
    ten times as much as it brings. Nothing happens if torch is loaded already, or if
    the person has said how many threads there shall be.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(THREADS, "1")
