"""The bridge: coroutines for code that cannot await."""

from __future__ import annotations

import asyncio
import threading

import pytest

from socratic_agents.core.errors import ClosedError
from socratic_agents.runtime.sync_bridge import SyncBridge


async def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_all_calls_meet_in_one_loop() -> None:
    """Clients that keep connections stay in the loop in which they opened them."""
    with SyncBridge() as bridge:
        assert bridge.run(_loop()) is bridge.run(_loop())


async def test_it_works_inside_a_running_loop() -> None:
    """A notebook's own loop is only blocked, not entered."""
    with SyncBridge() as bridge:
        assert asyncio.get_running_loop() is not bridge.run(_loop())


def test_errors_come_back() -> None:
    """What the coroutine raises is raised where it was called."""

    async def fail() -> None:
        raise ZeroDivisionError

    with SyncBridge() as bridge, pytest.raises(ZeroDivisionError):
        bridge.run(fail())


def test_a_call_from_inside_is_an_error_and_no_deadlock() -> None:
    """A coroutine on the bridge cannot wait for the bridge."""
    with SyncBridge() as bridge:

        async def inside() -> None:
            bridge.run(_loop())

        with pytest.raises(ClosedError, match="await the method instead"):
            bridge.run(inside())


def test_a_closed_bridge_says_so() -> None:
    """After closing, nothing is run any more; closing again is harmless."""
    bridge = SyncBridge()
    assert bridge.run(_loop()).is_running()
    bridge.close()
    bridge.close()
    with pytest.raises(ClosedError, match="got a closed one"):
        bridge.run(_loop())


def test_closing_cancels_what_still_runs() -> None:
    """Nobody waits for ever for a coroutine of a closed bridge."""
    bridge, begun = SyncBridge(), threading.Event()
    outcomes: list[BaseException] = []

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    def call() -> None:
        try:
            bridge.run(wait())
        except BaseException as problem:  # noqa: BLE001 - a cancelled error is none
            outcomes.append(problem)

    thread = threading.Thread(target=call)
    thread.start()
    begun.wait()
    bridge.close()
    thread.join()
    assert ["CancelledError"] == [type(outcome).__name__ for outcome in outcomes]
