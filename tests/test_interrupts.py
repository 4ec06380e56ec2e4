"""InterruptHandler: a signal ends the program soon, and tells how."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from socratic_agents.runtime import interrupts as module
from socratic_agents.runtime.interrupts import InterruptHandler

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = [signal.getsignal(number) for number in module.SIGNALS]
    monkeypatch.setattr(module, "GRACE", 0.05)
    yield
    assert before == [signal.getsignal(number) for number in module.SIGNALS]


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_what_ends_in_time_ends_well(number: int, code: int) -> None:
    """Who is nearly done is let finish; nothing new is begun."""
    told: list[str] = []
    interruption = InterruptHandler(told.append)

    async def work() -> str:
        kill(number)
        while not interruption.code:  # noqa: ASYNC110 - a signal sets it
            await asyncio.sleep(0)
        assert [] == list(interruption.until([1, 2]))
        return "done"

    with interruption.handling():
        assert [1, 2] == list(interruption.until([1, 2]))
        assert "done" == interruption.run(work())
    assert code == interruption.code
    assert 1 == len(told)
    assert "within 0.05 s" in told[0]


@pytest.mark.parametrize("times", [1, 2])
def test_what_does_not_is_cancelled(times: int) -> None:
    """After a moment, or at once where it is asked for twice."""
    interruption, ended = InterruptHandler(print), list[str]()

    async def work() -> None:
        for _ in range(times):
            kill(signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("tidy")

    with interruption.handling(), pytest.raises(KeyboardInterrupt):
        interruption.run(work())
    assert ["tidy"] == ended
    assert 130 == interruption.code


def test_outside_of_a_loop_it_interrupts_at_once() -> None:
    """While models are imported, for example; and after a loop as before it."""
    interruption = InterruptHandler(print)

    async def work() -> None: ...

    with interruption.handling():
        interruption.run(work())
        with pytest.raises(KeyboardInterrupt):
            kill(signal.SIGTERM)
    assert 143 == interruption.code


def test_a_model_that_is_busy_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thread that computes cannot be stopped; the process ends without it."""
    left, gone = list[int](), threading.Event()
    monkeypatch.setattr(module, "LIMIT", 0.0)

    def leave(code: int) -> None:
        left.append(code)
        gone.set()

    interruption = InterruptHandler(sys.stderr.write, leave=leave)
    with interruption.handling():
        with pytest.raises(KeyboardInterrupt):
            kill(signal.SIGINT)
        assert gone.wait(10)
    assert [130] == left
    assert "still busy and is left behind" in capsys.readouterr().err


def test_a_thread_without_signals_works_too() -> None:
    """Where nobody can be told, nothing is handling."""
    done: list[int] = []

    async def work() -> int:
        return 7

    def run() -> None:
        interruption = InterruptHandler(print)
        with interruption.handling():
            done.append(interruption.run(work()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [7] == done
