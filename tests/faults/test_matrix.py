"""Every fault of a server in every place, and answers of every broken form.

F1  15 faults, in the judge's call and the optimizer's, awaited and blocking, at the
    first, the second and the last attempt: 180 cases.
F2  What a server writes into Retry-After, over the wire: 10 forms.
F3  24 malformed answers in the three ways in which a model can be asked: 72 cases; and
    answers that were mutated at random: 2,000.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage

from socratic_agents.agents.judges import caption_judge
from socratic_agents.agents.optimizer import optimizer
from socratic_agents.core.errors import AnswerError, CallError
from socratic_agents.core.history import Verdict
from socratic_agents.llm.failures import FailureKind
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.template_files import find_template
from socratic_agents.runtime.sync_bridge import SyncBridge
from tests.fakes import ScriptedChatModel, TextModel, drawn, history
from tests.faults.trials import numbered
from tests.loopback import Loopback, chat, error
from tests.test_retries import WIRE, Waits, openai_model

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from langchain_core.language_models import BaseChatModel

pytestmark = pytest.mark.no_cover  # it repeats what other tests measure

FAULTS = (
    *("400", "401", "403", "404", "408", "409", "429", "429 quota", "500", "503"),
    *("200 HTML", "200 no choices", "200 error object", "reset", "read timeout"),
)
ATTEMPTS = 6
PLACES = {"first": 0, "second": 1, "last": ATTEMPTS - 1}
PAST = history("a dog", drawn("a dog", "a cat"), satisfied=False, reason="so")
FRESH = history("a dog", drawn("a dog", "a cat"))
JUDGED = {"reason": "so", "missing": [], "satisfied": True}
REWRITTEN = {"reason": "so", "prompts": [{"aim": "whole", "prompt": "one dog"}]}


def role(name: str, llm: BaseChatModel) -> Callable[[], Coroutine[Any, Any, Any]]:
    """Return a role's call."""
    retries = RetryPolicy(sleep=Waits())
    judge: Any
    rewrite: Any
    if name == "judge":
        judge = caption_judge(llm, find_template("judge", "default"), retries=retries)
        return lambda: judge(FRESH)
    template = find_template("optimizer", "default")
    rewrite = optimizer(llm, template, retries=retries)
    return lambda: rewrite(PAST)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "how", ["awaited", pytest.param("blocking", marks=[pytest.mark.nightly])]
)
@pytest.mark.parametrize("name", ["judge", "optimizer"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_in_each_place_ends_as_it_must(
    fault: str, name: str, how: str, place: str
) -> None:
    """The exact class, and the exact number of requests on the wire."""
    row, before = WIRE[fault], PLACES[place]
    good = chat(json.dumps(JUDGED if name == "judge" else REWRITTEN))
    replies = [*[error(503)] * before, row.reply, good]
    # A bad request that is not explained is sent once more, in words alone.
    again = fault == "400" or (row.kind is FailureKind.RETRY and place != "last")
    with Loopback(*replies) as server:
        limit = 1.0 if fault == "read timeout" else row.timeout
        call = role(name, openai_model(server.base_url, timeout=limit))
        try:
            if how == "awaited":
                got = await call()
            else:
                with SyncBridge() as bridge:
                    got = await asyncio.to_thread(bridge.run, call())
        except CallError as problem:
            got = problem
        assert before + 1 + again == len(server.requests)
    if again:
        expected: object = ("one dog",)
        if name == "judge":
            expected = Verdict(satisfied=True, reason="so")
        assert expected == got
    else:
        assert isinstance(got, CallError)
        assert row.raised == type(got.__cause__).__name__
        assert before + 1 == got.attempts
        assert row.told in str(got)


def date(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@dataclass(frozen=True)
class Hint:
    """What stands in the header, and how long is waited: the least and the most."""

    text: Callable[[], str]
    least: float
    most: float
    header: str = "retry_after"


NONE = 0.0, 1.0
HINTS = {
    "whole": Hint(lambda: "7", 7.0, 7.0),
    "fraction": Hint(lambda: "0.5", 0.5, 0.5),
    "milliseconds": Hint(lambda: "1500", 1.5, 1.5, "retry_after_ms"),
    "date ahead": Hint(lambda: date(60), 57.0, 60.0),
    "date past": Hint(lambda: date(-60), *NONE),
    "zero": Hint(lambda: "0", *NONE),
    "negative": Hint(lambda: "-5", *NONE),
    "garbage": Hint(lambda: "soon", *NONE),
    "absent": Hint(lambda: "", *NONE),
}


@pytest.mark.parametrize("form", HINTS)
async def test_the_server_says_how_long_to_wait(form: str) -> None:
    """Within 5 %; what is no hint is as if it were not there."""
    hint, waits = HINTS[form], Waits()
    busy = error(429, **{hint.header: hint.text()} if hint.text() else {})
    with Loopback(busy, chat(json.dumps(JUDGED))) as server:
        llm = openai_model(server.base_url)
        template = find_template("judge", "default")
        judge = caption_judge(llm, template, retries=RetryPolicy(sleep=waits))
        assert (await judge(FRESH)).satisfied
    (waited,) = waits
    assert hint.least <= waited <= hint.most


async def test_a_server_that_says_too_long_is_not_waited_for() -> None:
    """121 s are more than 120: it fails at once, and the time is named."""
    with Loopback(error(429, retry_after="121")) as server:
        with pytest.raises(CallError, match="wait 121 s, longer than 120 s"):
            await role("judge", openai_model(server.base_url))()
        assert 1 == len(server.requests)


GOOD = json.dumps(JUDGED)
BAD = {
    "truncated": GOOD[:-9],
    "truncated word": GOOD[:-2],
    "empty": "",
    "prose": "Yes, it shows the dog.",
    "yes": "yes",
    "a number": "1",
    "ten of ten": '{"reason": "so", "missing": [], "satisfied": "10/10"}',
    "NaN": '{"reason": "so", "missing": [], "satisfied": NaN}',
    "null": "null",
    "null for a truth": '{"reason": "so", "missing": [], "satisfied": null}',
    "key missing": '{"reason": "so", "missing": []}',
    "other digits": '{"reason": "so", "missing": [], "satisfied": \u0661}',
    "two answers": f"{GOOD} {GOOD.replace('true', 'false')}",
    "a megabyte": f'{{"reason": "{"so " * 350_000}", "missing": [], "sat',
}
YES = Verdict(satisfied=True, reason="so")
USABLE = {
    "fenced": (f"```json\n{GOOD}\n```", YES),
    "list": (f"[{GOOD}]", YES),
    "text for a truth": ('{"reason": "so", "missing": [], "satisfied": "true"}', YES),
    "number for a truth": ('{"reason": "so", "missing": [], "satisfied": 1}', YES),
    "key too many": (
        '{"reason": "so", "missing": [], "satisfied": true, "score": 9}',
        YES,
    ),
    "other keys": ('{"Reason": "so", "Missing": [], "Satisfied": true}', YES),
    "single quotes": ("{'reason': 'so', 'missing': [], 'satisfied': True}", YES),
    "one thing for a list": (
        '{"reason": "so", "missing": "a dog", "satisfied": false}',
        Verdict(satisfied=False, missing=("a dog",), reason="so"),
    ),
    "list of numbers": (
        '{"reason": "so", "missing": [1], "satisfied": false}',
        Verdict(satisfied=False, missing=("1",), reason="so"),
    ),
    "contradiction": (
        '{"reason": "so", "missing": ["a dog"], "satisfied": true}',
        Verdict(
            satisfied=False,
            missing=("a dog",),
            reason="so (called satisfied, with something missing)",
        ),
    ),
}


def spoken(way: str, text: str) -> BaseChatModel:
    """Return a model that always says this in one of the ways to be asked."""
    if way == "text":
        return TextModel(script=[text] * 3)
    try:
        arguments = json.loads(text)
    except ValueError:
        arguments = None
    name = "Judgement"
    message = (
        AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": "1"}])
        if isinstance(arguments, dict)
        else AIMessage(
            text,
            invalid_tool_calls=[{"name": name, "args": text, "id": "1", "error": "no"}],
        )
    )
    return ScriptedChatModel(script=[message] * 3)


async def verdict_of(llm: BaseChatModel) -> Verdict | AnswerError:
    """Return what the judge says, or that it gave no usable answer."""
    try:
        verdict: Verdict = await role("judge", llm)()
    except AnswerError as problem:
        return problem
    return verdict


async def heard(way: str, text: str) -> tuple[Verdict | AnswerError, int]:
    """Return what comes of an answer, and how often the model was asked."""
    if way == "schema":
        with Loopback(chat(text)) as server:
            return await verdict_of(openai_model(server.base_url)), len(server.requests)
    llm: Any = spoken(way, text)
    return await verdict_of(llm), len(llm.asked)


@pytest.mark.parametrize("way", ["schema", "tool", "text"])
@pytest.mark.parametrize("form", USABLE)
async def test_what_can_only_mean_one_thing_is_a_verdict(form: str, way: str) -> None:
    """However a right answer is written, it is used at the first try."""
    text, verdict = USABLE[form]
    assert (verdict, 1) == await heard(way, text)


@pytest.mark.parametrize("way", ["schema", "tool", "text"])
@pytest.mark.parametrize("form", BAD)
async def test_a_malformed_answer_is_no_verdict(form: str, way: str) -> None:
    """The same words again end the asking, and what was written is kept for who looks."""
    got, asked = await heard(way, BAD[form])
    assert isinstance(got, AnswerError)
    assert "\n" not in str(got)
    assert (3 if form == "empty" else 2) == asked
    if way != "tool":
        assert BAD[form] == got.raw


def mutated(chance: random.Random) -> str:
    """Return a right answer with some of its characters changed."""
    text = GOOD
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice((0, 1, 1, 2, 8)))
        new = chance.choice(
            ("", '"', "{", "}", "]", ",", "tru", "NaN", "\\u", "é", "9")
        )
        text = text[:start] + new + text[end:]
    return text


@pytest.mark.parametrize("trial", numbered(20, smoke=1))
async def test_a_mutated_answer_is_a_verdict_or_none(trial: int) -> None:
    """A hundred a trial: either it still is what was asked for, or nobody believes it."""
    chance = random.Random(trial)
    for _ in range(100):
        text = mutated(chance)
        got = await verdict_of(TextModel(script=[text] * 3))
        if isinstance(got, Verdict):
            assert got.satisfied in {True, False}
            assert '"satisfied"' in text
            assert not (got.satisfied and got.missing)
        else:
            assert text == got.raw
