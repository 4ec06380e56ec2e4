"""How many threads the pocket models compute in."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from socratic_agents.pocket.threads import THREADS, prefer_one_thread

if TYPE_CHECKING:
    import pytest


def test_one_thread_is_preferred_and_never_forced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who says how many, or has torch already, is left alone."""
    monkeypatch.setenv(THREADS, "3")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    prefer_one_thread()
    assert "3" == os.environ[THREADS]
    monkeypatch.delenv(THREADS)
    monkeypatch.setitem(sys.modules, "torch", sys)
    prefer_one_thread()
    assert THREADS not in os.environ
    monkeypatch.delitem(sys.modules, "torch")
    prefer_one_thread()
    assert "1" == os.environ[THREADS]
