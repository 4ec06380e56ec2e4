"""What really comes over the wire, what it is called, and how often it is asked again.

The tables hold what the real client was seen to raise for each behaviour of a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from socratic_agents.core.errors import (
    AgentError,
    AnswerError,
    CallError,
    ConfigurationError,
)
from socratic_agents.llm.failures import FailureKind, advice, classify, unreachable
from socratic_agents.llm.retry import RetryPolicy, single_attempt
from socratic_agents.llm.usage import using_meter
from socratic_agents.network.rate_limit import RateLimiter
from socratic_agents.network.server_errors import server_hint
from tests.fakes import TextModel, ask_structured
from tests.loopback import (
    ERROR_OBJECT,
    HTML,
    NO_CHOICES,
    RESET,
    STALL,
    Loopback,
    Reply,
    chat,
    error,
)

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

KEY = "sk-sentinel-0123456789"


class Answer(BaseModel):
    """How well it fits."""

    model_config = ConfigDict(extra="forbid", strict=True)

    score: int


GOOD = chat('{"score": 3}')


class Waits(list[float]):
    """Records how long was waited, and waits for nothing."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def openai_model(url: str, **settings: Any) -> BaseChatModel:
    """Return the real client."""
    from langchain_openai import ChatOpenAI

    options = {"max_retries": 0, "timeout": 20, **settings}
    return ChatOpenAI(model="m", api_key=KEY, base_url=url, **options)


async def ask_at(
    url: str, *, sleep: Any = None, limit: float = 20, **patience: Any
) -> Answer:
    """Ask the real client at an address, waiting for nothing."""
    from langchain_core.messages import HumanMessage

    return await ask_structured(
        openai_model(url, timeout=limit),
        [HumanMessage("How well does it fit?")],
        Answer,
        retries=RetryPolicy(sleep=Waits() if sleep is None else sleep, **patience),
    )


@dataclass(frozen=True)
class Row:
    """One behaviour of a server and what comes of it."""

    reply: Reply
    raised: str
    """The class of what the client raises."""
    kind: FailureKind
    error: type[Exception]
    """What ``ask`` raises in the end."""
    requests: int
    """How many came over the wire."""
    told: str = ""
    """A part of the message: what to do."""
    timeout: float = 20


JSON_PAGE = Reply("<html>Sign in</html>")
QUOTA = error(429, "insufficient_quota", message="You exceeded your quota")
REPORTED = Reply('{"error": {"message": "bad key", "code": 401}}')
TEXT_ERROR = Reply('{"error": "the upstream is down"}')

WIRE = {
    "400": Row(
        error(400),
        "OpenAIInvalidRequestError",
        FailureKind.FATAL,
        CallError,
        2,  # once more in words alone: the cause is not said
        "settings",
    ),
    "content policy": Row(
        error(400, "content_policy_violation"),
        "OpenAIInvalidRequestError",
        FailureKind.CONTENT,
        AnswerError,
        1,
        "reword the user prompt",
    ),
    "401": Row(
        error(401),
        "OpenAIAuthenticationError",
        FailureKind.FATAL,
        CallError,
        1,
        "API key",
    ),
    "403": Row(
        error(403),
        "OpenAIPermissionDeniedError",
        FailureKind.FATAL,
        CallError,
        1,
        "API key",
    ),
    "404": Row(
        error(404), "OpenAIModelNotFoundError", FailureKind.FATAL, CallError, 1, "name"
    ),
    "408": Row(
        error(408), "APIStatusError", FailureKind.RETRY, CallError, 6, "try again"
    ),
    "409": Row(
        error(409), "ConflictError", FailureKind.RETRY, CallError, 6, "try again"
    ),
    "422": Row(
        error(422),
        "UnprocessableEntityError",
        FailureKind.FATAL,
        CallError,
        2,  # once more in words alone: the cause is not said
        "settings",
    ),
    "429": Row(
        error(429), "OpenAIRateLimitError", FailureKind.RETRY, CallError, 6, "try again"
    ),
    "429 quota": Row(
        QUOTA, "OpenAIRateLimitError", FailureKind.FATAL, CallError, 1, "add credit"
    ),
    "500": Row(
        error(500), "OpenAIAPIError", FailureKind.RETRY, CallError, 6, "try again"
    ),
    "500 without eyes": Row(
        error(500, message="image input is not supported - hint: provide the mmproj"),
        "OpenAIAPIError",
        FailureKind.FATAL,
        CallError,
        1,
        "sees images",
    ),
    "503": Row(
        error(503), "OpenAIAPIError", FailureKind.RETRY, CallError, 6, "try again"
    ),
    "read timeout": Row(
        STALL,
        "OpenAITimeoutError",
        FailureKind.RETRY,
        CallError,
        6,
        "llm_concurrency",
        timeout=0.1,
    ),
    "reset": Row(
        RESET, "OpenAIConnectionError", FailureKind.RETRY, CallError, 6, "network"
    ),
    # The line answered, but nobody there speaks the protocol.
    "200 HTML, called JSON": Row(
        JSON_PAGE, "JSONDecodeError", FailureKind.RETRY, CallError, 6, "base URL"
    ),
    "200 HTML": Row(
        HTML, "AttributeError", FailureKind.RETRY, CallError, 6, "base URL"
    ),
    "200 no choices": Row(
        NO_CHOICES, "IndexError", FailureKind.RETRY, CallError, 6, "base URL"
    ),
    "200 error object": Row(
        ERROR_OBJECT,
        "TypeError",
        FailureKind.RETRY,
        CallError,
        6,
        "the upstream is down",
    ),
    "200 error text": Row(
        TEXT_ERROR, "TypeError", FailureKind.RETRY, CallError, 6, "base URL"
    ),
    "200 error object, 401": Row(
        REPORTED, "TypeError", FailureKind.FATAL, CallError, 1, "API key"
    ),
    # An answer, but none to use: one request if it is refused, two validation retries if not.
    # The client calls a refusal malformed; what it is stands in the message beside it.
    "refusal": Row(
        chat(None, refusal="no"),
        "OutputParserException",
        FailureKind.MALFORMED,
        AnswerError,
        1,
        "refusal",
    ),
    "content filter": Row(
        chat("", finish_reason="content_filter"),
        "ContentFilterFinishReasonError",
        FailureKind.CONTENT,
        AnswerError,
        1,
        "reword the user prompt",
    ),
    "length": Row(
        chat('{"sc', finish_reason="length"),
        "LengthFinishReasonError",
        FailureKind.MALFORMED,
        AnswerError,
        2,  # not a third time: the repair is the same word for word
        "cut off",
    ),
}


@pytest.mark.parametrize("name", WIRE)
async def test_each_behaviour_ends_as_it_must(name: str) -> None:
    """The exact class, and the exact number of requests on the wire."""
    row = WIRE[name]
    with Loopback(row.reply) as server, using_meter() as meter:
        with pytest.raises(row.error, match=re.escape(row.told)) as caught:
            await ask_at(server.base_url, limit=row.timeout)
        assert row.requests == len(server.requests)
    assert row.requests == meter.llm_calls
    assert row.error is type(caught.value)
    if isinstance(caught.value, CallError):
        assert row.requests == caught.value.attempts
        assert row.raised == type(caught.value.__cause__).__name__
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", WIRE)
async def test_what_the_client_raises_is_classified(name: str) -> None:
    """The client's own exception has the class that was seen, and means what we say."""
    row = WIRE[name]
    with Loopback(row.reply) as server:
        llm = openai_model(server.base_url, timeout=row.timeout)
        chain = llm.with_structured_output(
            Answer.model_json_schema(), method="json_schema", strict=True
        )
        with pytest.raises(Exception) as caught:
            await chain.ainvoke("How well does it fit?")
    assert row.raised == type(caught.value).__name__
    assert row.kind is classify(caught.value)


@pytest.mark.parametrize("name", [n for n, row in WIRE.items() if row.requests == 6])
async def test_a_bad_line_that_recovers_is_not_noticed(name: str) -> None:
    """Five bad replies and a good one are an answer, at the price of six requests."""
    row = WIRE[name]
    with Loopback(*[row.reply] * 5, GOOD) as server, using_meter() as meter:
        got = await ask_at(server.base_url, limit=max(row.timeout, 0.3))
        assert 6 == len(server.requests)
    assert Answer(score=3) == got
    assert 6 == meter.llm_calls


async def test_a_refused_connection_is_tried_six_times() -> None:
    """Nobody listens: after six attempts the error says to check the network."""
    with Loopback() as server:
        url = server.base_url
    with pytest.raises(CallError, match="check the network") as caught:
        await ask_at(url)
    assert 6 == caught.value.attempts
    assert "OpenAIConnectionError" == type(caught.value.__cause__).__name__


async def test_a_repair_may_need_the_line_again() -> None:
    """The two remedies do not know of each other, and do not multiply."""
    replies = (error(503), chat("well"), error(503), GOOD)
    with Loopback(*replies) as server:
        assert Answer(score=3) == await ask_at(server.base_url)
        assert 4 == len(server.requests)


@pytest.mark.parametrize("max_retries", [None, 2, 5])
async def test_the_clients_own_retries_are_off(max_retries: int | None) -> None:
    """A model that retries on its own sends six requests too, and stays as it was."""
    from langchain_core.messages import HumanMessage

    with Loopback(error(503)) as server:
        llm = openai_model(server.base_url, max_retries=max_retries)
        retries = RetryPolicy(sleep=Waits())
        with pytest.raises(CallError):
            await ask_structured(llm, [HumanMessage("?")], Answer, retries=retries)
        assert 6 == len(server.requests)
    assert max_retries == llm.max_retries  # type: ignore[attr-defined]


def test_the_synchronous_client_and_plain_calls_are_turned_too() -> None:
    """Whatever way the copy is called, it sends one request."""
    with Loopback(error(503)) as server:
        llm = single_attempt(openai_model(server.base_url, max_retries=2))
        with pytest.raises(Exception, match="503"):
            llm.invoke("?")
        assert 1 == len(server.requests)
        with pytest.raises(Exception, match="503"):
            asyncio.run(llm.ainvoke("?"))
        assert 2 == len(server.requests)
    assert llm is single_attempt(llm)


def test_a_model_without_retries_of_its_own_is_left_alone() -> None:
    """A model that has no such field is used as it is."""
    llm = TextModel()
    assert llm is single_attempt(llm)


class CountingModel(TextModel):
    """Has the field, but no client that could be turned."""

    max_retries: int = 2


def test_a_field_without_a_client_is_set() -> None:
    """The copy has 0 there, the model its own number."""
    llm = CountingModel()
    assert 0 == single_attempt(llm).max_retries  # type: ignore[attr-defined]
    assert 2 == llm.max_retries


NOW = 1_800_000_000.0


def _date(seconds: float) -> str:
    return email.utils.formatdate(NOW + seconds, usegmt=True)


HINTS = {
    "seconds": ({"retry-after": "3"}, 3.0),
    "a fraction": ({"retry-after": "0.5"}, 0.5),
    "milliseconds": ({"retry-after-ms": "250"}, 0.25),
    "milliseconds first": ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
    "milliseconds garbled": ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
    "a date ahead": ({"retry-after": _date(30)}, 30.0),
    "a date past": ({"retry-after": _date(-30)}, None),
    "zero": ({"retry-after": "0"}, None),
    "negative": ({"retry-after": "-5"}, None),
    "garbage": ({"retry-after": "soon"}, None),
    "infinite": ({"retry-after": "inf"}, None),
    "no number": ({"retry-after": "nan"}, None),
    "long": ({"retry-after": "121"}, 121.0),
    "absent": ({}, None),
}


class Told(Exception):  # noqa: N818 - as a client's exception carries a response
    def __init__(self, **headers: str) -> None:
        super().__init__("no")
        self.response = type("Response", (), {"headers": headers})()


@pytest.mark.parametrize("name", HINTS)
def test_the_servers_hint_is_read(name: str) -> None:
    """Seconds, milliseconds or a date; what is past or garbled is no hint."""
    headers, expected = HINTS[name]
    assert expected == server_hint(Told(**headers), now=NOW)


@given(st.text(max_size=40))
def test_no_header_breaks_the_reading(text: str) -> None:
    """Whatever a server writes there, it is a positive number of seconds or nothing."""
    problem = Told(**{"retry-after": text})
    hint = server_hint(problem, now=NOW)
    assert hint is None or 0 < hint < float("inf")


async def test_the_hint_decides_how_long_to_wait() -> None:
    """Each wait is the one that the server asked for."""
    waits = Waits()
    busy = (
        error(429, retry_after="7"),
        error(503, retry_after_ms="1500"),
        error(429, retry_after=email.utils.formatdate(usegmt=True)),
    )
    with Loopback(*busy, GOOD) as server:
        assert Answer(score=3) == await ask_at(server.base_url, sleep=waits)
    assert [7.0, 1.5] == waits[:2]
    assert 0 <= waits[2] <= 4, "a date that has passed is no hint"


async def test_a_date_is_waited_for() -> None:
    """An HTTP date is a hint like a number of seconds."""
    import time

    waits = Waits()
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    with Loopback(error(429, retry_after=date), GOOD) as server:
        await ask_at(server.base_url, sleep=waits)
    assert 50 <= waits[0] <= 60


async def test_a_hint_that_is_too_long_fails_at_once() -> None:
    """Beyond two minutes nobody waits; the error names the time."""
    waits = Waits()
    with Loopback(error(429, retry_after="600")) as server:
        with pytest.raises(CallError, match="wait 600 s, longer than 120 s"):
            await ask_at(server.base_url, sleep=waits)
        assert 1 == len(server.requests)
    assert [] == waits


async def test_without_a_hint_the_wait_is_random_within_a_growing_limit() -> None:
    """Full jitter: between nothing and 1, 2, 4, 8, 16 seconds."""
    waits = Waits()
    with Loopback(error(500)) as server, pytest.raises(CallError):
        await ask_at(server.base_url, sleep=waits)
    assert 5 == len(waits)
    for wait, limit in zip(waits, (1, 2, 4, 8, 16), strict=True):
        assert 0 <= wait <= limit


async def test_the_total_time_is_bounded() -> None:
    """No attempt starts past the limit: 100 s fit into 180 s once, not twice."""
    waits = Waits()
    with Loopback(error(429, retry_after="100")) as server:
        with pytest.raises(CallError, match="the next one past 180 s") as caught:
            await ask_at(server.base_url, sleep=waits)
        assert 2 == len(server.requests)
    assert (2, [100.0]) == (caught.value.attempts, waits)


async def test_the_number_of_attempts_is_a_setting() -> None:
    """One attempt means one request, and less than one is refused."""
    with Loopback(error(500)) as server:
        with pytest.raises(CallError, match="in 1 attempt;"):
            await ask_at(server.base_url, attempts=1)
        assert 1 == len(server.requests)
    with pytest.raises(ConfigurationError, match="at least 1 attempt, got 0"):
        RetryPolicy(attempts=0)


class Coded(Exception):  # noqa: N818 - as a client raises it
    """An exception with a status and a body, of no known make."""

    def __init__(self, status: int | None = None, body: object = None) -> None:
        super().__init__("no")
        self.status_code, self.body = status, body


def _refusal() -> Exception:
    from langchain_openai.chat_models.base import OpenAIRefusalError as Refusal

    return Refusal("no")


def _httpx_error() -> Exception:
    import httpx

    return httpx.ReadError("gone")


OTHERS = {
    "a time limit": (TimeoutError, FailureKind.RETRY),
    "asyncio's time limit": (asyncio.TimeoutError, FailureKind.RETRY),
    "a reset": (ConnectionResetError, FailureKind.RETRY),
    "a transport error": (_httpx_error, FailureKind.RETRY),
    "a stale connection": (
        lambda: RuntimeError("Event loop is closed"),
        FailureKind.RETRY,
    ),
    "a refusal": (_refusal, FailureKind.CONTENT),
    "no JSON": (lambda: json.JSONDecodeError("no", "", 0), FailureKind.RETRY),
    "a bug": (lambda: TypeError("no"), FailureKind.FATAL),
    "a bug with an index": (lambda: IndexError("no"), FailureKind.FATAL),
    "memory": (MemoryError, FailureKind.FATAL),
    "too early": (lambda: Coded(425), FailureKind.RETRY),
    "overloaded": (lambda: Coded(529), FailureKind.RETRY),
    "gone": (lambda: Coded(410), FailureKind.FATAL),
    "quota in the body": (
        lambda: Coded(429, {"error": {"type": "insufficient_quota"}}),
        FailureKind.FATAL,
    ),
    "filter in the body": (
        lambda: Coded(400, {"code": "content_filter"}),
        FailureKind.CONTENT,
    ),
    "a body of text": (lambda: Coded(400, "no"), FailureKind.FATAL),
    "an error of text": (lambda: Coded(500, {"error": "no"}), FailureKind.RETRY),
}


@pytest.mark.parametrize(
    "words",
    [
        "image input is not supported - hint: you may need to provide the mmproj",
        "No endpoints found that support image input",
        "This model does not support images",
        "m is not a multimodal model",
        "Vision is not supported by this model",
    ],
)
@pytest.mark.parametrize("status", [400, 404, 422, 500, 501])
def test_a_model_without_eyes_is_not_asked_again(words: str, status: int) -> None:
    """Whatever the status, the same request fails again, and another model helps."""
    problem = Coded(status, {"error": {"message": words}})
    assert FailureKind.FATAL is classify(problem)
    assert "sees images" in advice(problem)


@pytest.mark.parametrize("words", ["the image server is overloaded", "no"])
def test_other_words_about_images_are_no_blindness(words: str) -> None:
    """A server that fails for another reason is asked again."""
    problem = Coded(500, {"error": {"message": words}})
    assert FailureKind.RETRY is classify(problem)
    assert "network" in advice(problem)


@pytest.mark.parametrize("name", OTHERS)
def test_other_exceptions_are_classified(name: str) -> None:
    """Not only OpenAI's client fails; a bug in a model is no bad line."""
    make, expected = OTHERS[name]
    assert expected is classify(make())


async def test_an_index_error_of_ones_own_model_is_a_bug() -> None:
    """It is raised elsewhere than an empty list of choices, and tried once."""
    from langchain_core.messages import HumanMessage

    llm = TextModel(script=[IndexError("list index out of range")])
    with pytest.raises(CallError) as caught:
        await ask_structured(llm, [HumanMessage("?")], Answer)
    assert 1 == caught.value.attempts


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 200])
@pytest.mark.parametrize("code", [None, "content_policy_violation"])
async def test_the_key_stays_out_of_the_message(status: int, code: str | None) -> None:
    """A server that repeats the key in its error is not quoted with it."""
    with (
        Loopback(error(status, code, message=f"wrong key {KEY}")) as server,
        pytest.raises(AgentError) as caught,
    ):
        await ask_at(server.base_url)
    assert f"Bearer {KEY}" == server.requests[0].headers["authorization"]
    assert KEY not in str(caught.value)


async def test_cancelling_ends_the_waiting() -> None:
    """Cancelling while it waits for the next attempt ends it at once."""
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    with Loopback(error(500)) as server:
        task = asyncio.create_task(ask_at(server.base_url, sleep=sleep))
        await waiting.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert 1 == len(server.requests)


async def test_timeouts_halve_what_is_sent_at_the_same_time() -> None:
    """A server with one slot is learned from its timeouts; other errors teach nothing."""
    limiter = RateLimiter(concurrency=8)
    with Loopback(STALL, error(503), GOOD) as server:
        got = await ask_at(server.base_url, limit=0.3, rate_limiter=limiter)
    assert (Answer(score=3), 4) == (got, limiter.concurrency)


def test_a_cause_that_is_found_after_many_others_is_none() -> None:
    """Errors may be wrapped, but not without end."""
    shallow = deep = ConnectionRefusedError("nobody listens")
    for depth in range(9):
        outer = RuntimeError("wrapped")
        outer.__cause__ = deep
        deep = outer  # type: ignore[assignment]
        if depth == 3:
            shallow = deep
    assert unreachable(shallow)
    assert not unreachable(deep)


def test_a_wish_is_not_looked_for_without_end() -> None:
    """A body may be nested as deep as a server likes."""

    def problem(depth: int) -> Exception:
        body: Any = "try again in 20 s"
        for _ in range(depth):
            body = {"error": body}
        busy = RuntimeError("busy")
        vars(busy).update(status_code=429, body=body)
        return busy

    assert 20 == server_hint(problem(4))
    assert server_hint(problem(5)) is None
