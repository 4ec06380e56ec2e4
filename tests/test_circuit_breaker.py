"""The circuit breaker: a server that dies is noticed once, probed alone, waited for.

Time is what was slept: the tests' sleep lets the others run, and no time pass.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from socratic_agents.core.errors import CallError, ServerDownError
from socratic_agents.llm.circuit_breaker import FAILURES, CircuitBreaker
from socratic_agents.llm.retry import RetryPolicy


class Server:
    """Answers, or is down; counts what reaches it and what does not."""

    def __init__(self) -> None:
        self.up, self.asked, self.lost = True, 0, 0
        self.inside = self.most = 0

    async def __call__(self) -> str:
        self.inside += 1
        if not self.up:
            self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(0)
            if not self.up:
                self.lost += 1
                message = "connection refused"
                raise ConnectionRefusedError(message)
            self.asked += 1
            return "fine"
        finally:
            self.inside -= 1


class Sleep:
    """Sleeps no time, and wakes a server after so many seconds."""

    def __init__(self, server: Server, *, back_after: float | None) -> None:
        self.server, self.back_after, self.slept = server, back_after, 0.0

    async def __call__(self, seconds: float) -> None:
        self.slept += seconds
        if self.back_after is not None and self.slept >= self.back_after:
            self.server.up = True
        await asyncio.sleep(0)


def policy(
    server: Server, *, back_after: float | None = None, seconds: float = 60
) -> RetryPolicy:
    return RetryPolicy(
        sleep=Sleep(server, back_after=back_after),
        breaker=CircuitBreaker(seconds=seconds),
    )


async def test_a_server_that_comes_back_costs_nobody_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Sixty requests outlive an outage; it is said once, and once that it is over."""
    server = Server()
    send = policy(server, back_after=200, seconds=10_000)
    assert "fine" == await send(server)
    server.up = False
    with caplog.at_level(logging.WARNING):
        answers = await asyncio.gather(*(send(server) for _ in range(60)))
    assert ["fine"] * 60 == answers
    assert 61 == server.asked
    assert [True, True] == ["server" in record.message for record in caplog.records]


async def test_one_request_probes_for_all() -> None:
    """While the server is down no two requests are sent at the same time."""
    server = Server()
    send = policy(server, back_after=300, seconds=10_000)
    await send(server)
    server.up = False
    for _ in range(FAILURES):
        send.breaker.failed()
    assert send.breaker.open
    await asyncio.gather(*(send(server) for _ in range(20)))
    assert 1 == server.most


async def test_a_server_that_stays_away_ends_all_that_wait() -> None:
    """After the stated time each request fails, and says what to do."""
    server = Server()
    send = policy(server, seconds=60)
    await send(server)
    server.up = False
    errors = await asyncio.gather(
        *(send(server) for _ in range(5)), return_exceptions=True
    )
    assert [ServerDownError] * 5 == [type(error) for error in errors]
    assert str(errors[0]) == (
        "expected an answer of the language model, got ConnectionRefusedError (connection "
        "refused) for 60 s; start the server, and run the same command again"
    )
    lost = server.lost
    with pytest.raises(ServerDownError):
        await send(server)
    assert lost + 1 == server.lost, "it is asked once more, and not waited for"
    server.up = True
    assert "fine" == await send(server)
    assert not send.breaker.open


async def test_a_server_that_never_answered_is_not_waited_for() -> None:
    """A wrong address is told after the usual attempts."""
    server = Server()
    server.up = False
    send = policy(server)
    with pytest.raises(CallError, match="in 6 attempts") as caught:
        await send(server)
    assert CallError is type(caught.value)
    assert not send.breaker.open


async def test_a_cancelled_probe_leaves_the_probing_to_others() -> None:
    """Who leaves while he probes, or waits to, holds nobody up."""
    server = Server()
    send = policy(server, back_after=10, seconds=10_000)
    await send(server)
    server.up = False
    for _ in range(FAILURES):
        send.breaker.failed()
    for steps in range(6):
        task = asyncio.create_task(send(server))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "fine" == await send(server)


async def test_a_failure_that_shows_nothing_changes_nothing() -> None:
    """A timeout is no answer, and no proof that the server is down."""
    server = Server()
    send = policy(server)
    await send(server)

    async def slow() -> str:
        raise TimeoutError

    send.breaker.failed()
    with pytest.raises(CallError):
        await send(slow)
    send.breaker.failed()
    assert not send.breaker.open
    send.breaker.failed()
    assert send.breaker.open


async def test_what_went_out_before_shows_nothing() -> None:
    """A late answer or failure of an earlier request changes nothing of the waiting."""
    breaker = CircuitBreaker(first_wait=1)
    sent = breaker.openings
    breaker.answered(sent)
    for _ in range(40):
        breaker.failed(sent)
    assert breaker.open
    breaker.answered(sent)
    assert breaker.open, "it answered before it died"
    slept = list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await breaker.pass_through(sleep)
    assert [1] == slept, "forty failures at once are one"
    breaker.abandoned(sent)
    probe = asyncio.create_task(breaker.pass_through())
    await asyncio.sleep(0)
    assert not probe.done(), "there is a probe on its way"
    breaker.answered(breaker.openings)
    await probe
    assert not breaker.open
