"""A typed answer comes back, or an error that says why; a mistake is shown."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel, ConfigDict, Field

from socratic_agents.core.budget import Budget
from socratic_agents.core.errors import AgentError, AnswerError, BudgetError, CallError
from socratic_agents.llm.methods import Server
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.structured import StructuredCaller
from socratic_agents.llm.usage import UsageMeter, using_meter
from tests.fakes import ScriptedChatModel, TextModel, ask_structured
from tests.loopback import Loopback, Reply, chat, error

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

QUESTION = [HumanMessage("How well does it fit?")]


async def no_sleep(seconds: float) -> None:
    """Wait for nothing."""


class Answer(BaseModel):
    """How well it fits."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str
    score: int


class Bounded(BaseModel):
    """How well it fits, within limits that only we check."""

    model_config = ConfigDict(extra="forbid", strict=True)

    score: int = Field(ge=0, le=10)


GOOD = '{"reason": "it fits", "score": 3}'


def openai_model(server: Loopback, **settings: Any) -> BaseChatModel:
    """Return the real client, pointed at the loopback."""
    from langchain_openai import ChatOpenAI

    options = {"max_retries": 0, "timeout": 20, **settings}
    return ChatOpenAI(
        model="m", api_key="sk-sentinel", base_url=server.base_url, **options
    )


async def asked(server: Loopback, answer: type[BaseModel] = Answer) -> BaseModel:
    retries = RetryPolicy(sleep=no_sleep)
    return await ask_structured(openai_model(server), QUESTION, answer, retries=retries)


async def test_the_schema_is_sent_strictly() -> None:
    """The server gets the JSON schema of the answer, without defaults, as strict."""
    with Loopback(chat(GOOD)) as server:
        assert Answer(reason="it fits", score=3) == await asked(server)
    (request,) = server.requests
    sent = request.body["response_format"]
    assert "json_schema" == sent["type"]
    assert sent["json_schema"]["strict"]
    assert not sent["json_schema"]["schema"]["additionalProperties"]
    assert ["reason", "score"] == sent["json_schema"]["schema"]["required"]


WRONG = {
    "not JSON": (chat("it fits well"), "holds no JSON object"),
    "a wrong type": (chat('{"reason": "r", "score": "three"}'), "score: Input should"),
    "a missing field": (chat('{"score": 3}'), "reason: Field required"),
    "cut off": (chat('{"reason": "it', finish_reason="length"), "length limit"),
    "cut off, unsaid": (chat('{"score": 3, "reason": "it'), "breaks off"),
    "a list": (chat("[3]"), "holds no JSON object"),
    "null": (chat("null"), "holds no JSON object"),
    "a number that is none": (chat('{"reason": "r", "score": NaN}'), "score: Input"),
    "truth for a number": (chat('{"reason": "r", "score": true}'), "score: Input"),
    "two answers": (chat(f"{GOOD} or {GOOD.replace('3', '4')}"), "2 different answers"),
    "empty": (chat(""), "it is empty"),
    "a wrong tool call": (
        chat(None, arguments='{"score": 3}'),
        "reason: Field required",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_answer_is_shown_with_what_is_wrong(case: str) -> None:
    """The second request holds the model's own words and the error; it may mend."""
    reply, told = WRONG[case]
    with Loopback(reply, chat(GOOD)) as server, using_meter() as meter:
        assert Answer(reason="it fits", score=3) == await asked(server)
    first, second = (request.body["messages"] for request in server.requests)
    assert first == second[:1]
    assert ["user", "assistant", "user"] == [m["role"] for m in second]
    assert told in second[2]["content"]
    assert "http" not in second[2]["content"], "an address of a manual helps no model"
    assert 2 == meter.llm_calls
    assert (22, 14) == (meter.input_tokens, meter.output_tokens)


@pytest.mark.parametrize("case", WRONG)
async def test_what_stays_wrong_is_an_error_with_the_raw_answer(case: str) -> None:
    """The same words again end the asking; an empty answer may be told twice."""
    reply, told = WRONG[case]
    with Loopback(reply) as server, pytest.raises(AnswerError) as caught:
        await asked(server)
    assert (3 if case == "empty" else 2) == len(server.requests)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    raws = {"empty": "", "a wrong tool call": '{"score": 3}'}
    assert raws.get(case, _content(reply)) == caught.value.raw


async def test_other_words_are_shown_twice() -> None:
    """A model that tries something else gets two more requests, and no third."""
    llm = ScriptedChatModel(script=["one", "two", "three", "four"])
    with pytest.raises(AnswerError, match="stayed wrong"):
        await ask_structured(llm, QUESTION, Answer)
    assert 3 == len(llm.asked)


async def test_a_model_that_never_answers_is_not_shown_its_mistakes_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After three answers that stayed wrong it is said once, in the model's words."""
    good = {"reason": "r", "score": 3}
    wrong = [f"words {n}" for n in range(9)]
    llm = ScriptedChatModel(script=[*wrong, "no more", good, "again", good])
    ask = StructuredCaller(llm, Answer)
    for _ in range(4):
        with pytest.raises(AnswerError):
            await ask(QUESTION)
    assert 10 == len(llm.asked)
    (record,) = caplog.records
    assert "3 answers in a row stayed wrong as Answer" in record.message
    assert record.message.endswith("It wrote: words 8")
    assert 3 == (await ask(QUESTION)).score
    assert 3 == (await ask(QUESTION)).score, "a right one is worth repairs again"


def _content(reply: Reply) -> str:
    import json

    content: str = json.loads(reply.body)["choices"][0]["message"]["content"]
    return content


async def test_limits_are_checked_here() -> None:
    """A score of 99 passes the client but not us, and no client error escapes."""
    with Loopback(chat('{"score": 99}'), chat('{"score": 9}')) as server:
        assert Bounded(score=9) == await asked(server, Bounded)
    told = server.requests[1].body["messages"][-1]["content"]
    assert "score: Input should be less than or equal to 10" in told


REFUSED = {
    "a refusal": (chat(None, refusal="I cannot help"), "I cannot help"),
    "a content filter": (chat("", finish_reason="content_filter"), "content filter"),
    "a policy": (error(400, "content_policy_violation"), "400"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refusal_is_not_asked_again(case: str) -> None:
    """A refusal costs one request and is an answer, not a broken line."""
    reply, told = REFUSED[case]
    with Loopback(reply) as server, pytest.raises(AnswerError, match=told) as caught:
        await asked(server)
    assert 1 == len(server.requests)
    assert "reword the user prompt" in str(caught.value)


RIGHT = {
    "a fence": chat(f"```json\n{GOOD}\n```"),
    "a deliberation": chat(f"<think>Three? {{yes}}</think>{GOOD}"),
    "words": chat(f"Sure! {GOOD} Let me know."),
    "an extra field": chat('{"reason": "it fits", "score": 3, "x": 1}'),
    "a number as text": chat('{"reason": "it fits", "score": "3"}'),
    "a tool call": chat(None, arguments=GOOD),
}


@pytest.mark.parametrize("case", RIGHT)
async def test_a_right_answer_is_read_at_the_first_try(case: str) -> None:
    """What models put around an answer, or write otherwise, costs no second request."""
    with Loopback(RIGHT[case]) as server:
        assert Answer(reason="it fits", score=3) == await asked(server)
    assert 1 == len(server.requests)


async def test_a_function_calling_model_is_used_as_it_can() -> None:
    """A model that only calls functions gives the same answer."""
    llm = ScriptedChatModel(script=[{"reason": "r", "score": 3}])
    assert Answer(reason="r", score=3) == await ask_structured(llm, QUESTION, Answer)


BROKEN_CALL = AIMessage(
    "",
    invalid_tool_calls=[
        {"type": "invalid_tool_call", "id": "1", "name": "Answer", "args": '{"sc'}
    ],
)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("it fits", "it fits"),
        ("", "(empty)"),
        (BROKEN_CALL, '{"sc'),
        ({"reason": "r", "score": "x"}, '{"reason": "r", "score": "x"}'),
    ],
    ids=["text", "empty", "a broken call", "a wrong type"],
)
async def test_no_call_is_a_failure(said: Any, shown: str) -> None:
    """A function-calling model that calls nothing has not answered; it is told so."""
    llm = ScriptedChatModel(script=[said, {"reason": "r", "score": 3}])
    assert Answer(reason="r", score=3) == await ask_structured(llm, QUESTION, Answer)
    assert shown == llm.asked[1][1].text
    assert "cannot be used" in llm.last_question


@pytest.mark.parametrize("reason", ["length", "max_tokens"])
async def test_a_call_that_was_cut_off_is_a_failure(reason: str) -> None:
    """What a provider calls cut off is not trusted, even where it can be read."""
    call = {"name": "Answer", "args": {"reason": "", "score": 3}, "id": "1"}
    facts = {"stop_reason": reason}
    cut = AIMessage("", tool_calls=[call], response_metadata=facts)
    llm = ScriptedChatModel(script=[cut, {"reason": "r", "score": 3}])
    assert Answer(reason="r", score=3) == await ask_structured(llm, QUESTION, Answer)


async def test_a_model_that_only_writes_gets_the_schema_in_words() -> None:
    """Without tools the form is described, and the answer is validated the same."""
    llm = TextModel(script=["it fits", GOOD])
    assert Answer(reason="it fits", score=3) == await ask_structured(
        llm, QUESTION, Answer
    )
    assert "fit this JSON schema" in llm.asked[0][0].text
    assert "cannot be used" in llm.last_question
    assert "fit this JSON schema" in llm.last_question
    assert "How well does it fit?" == QUESTION[0].text, "the question stays as it was"


async def test_a_question_with_parts_keeps_them() -> None:
    """The description of the form becomes one more part of the last message."""
    llm = TextModel(script=[GOOD])
    await ask_structured(
        llm, [HumanMessage([{"type": "text", "text": "How well?"}])], Answer
    )
    content = llm.asked[0][0].content
    assert isinstance(content, list)
    first, second = content
    assert {"type": "text", "text": "How well?"} == first
    assert isinstance(second, dict)
    assert "fit this JSON schema" in second["text"]


class NarrowModel(ScriptedChatModel):
    """Its structured output takes a schema and nothing of OpenAI's."""

    def with_structured_output(  # type: ignore[override]
        self, schema: Any, *, include_raw: bool = False
    ) -> Any:
        return super().with_structured_output(schema, include_raw=include_raw)


class StubbornModel(TextModel):
    """Its structured output knows no schema at all."""

    def with_structured_output(self, schema: Any, **kwargs: Any) -> Any:
        message = "expected a class"
        raise ValueError(message)


async def test_a_model_with_a_narrow_signature_is_used_as_it_can() -> None:
    """What a model's structured output does not take is not insisted on."""
    narrow = NarrowModel(script=[{"reason": "r", "score": 3}])
    assert Answer(reason="r", score=3) == await ask_structured(narrow, QUESTION, Answer)
    stubborn = StubbornModel(script=[GOOD])
    assert Answer(reason="it fits", score=3) == await ask_structured(
        stubborn, QUESTION, Answer
    )


async def test_errors_of_validation_that_escape_are_mistakes() -> None:
    """Some clients raise on a wrong answer; it is repaired all the same."""
    from langchain_core.exceptions import OutputParserException

    with pytest.raises(ValueError) as caught:
        Answer.model_validate({})
    parser = OutputParserException("no JSON", llm_output="it fits")
    good = {"reason": "r", "score": 3}
    llm = ScriptedChatModel(script=[caught.value, parser, good])
    assert Answer(reason="r", score=3) == await ask_structured(llm, QUESTION, Answer)
    talk = [message.text for message in llm.asked[2]]
    assert ["(empty)", "it fits"] == talk[1::2]
    assert "no JSON" in talk[4]


async def test_a_check_of_the_caller_is_shown_too() -> None:
    """A further condition on the answer is a mistake like any other."""

    def odd(answer: Answer) -> None:
        if answer.score % 2 == 0:
            message = "expected an odd score"
            raise ValueError(message)

    even, good = {"reason": "r", "score": 4}, {"reason": "r", "score": 3}
    llm = ScriptedChatModel(script=[even, good])
    got = await ask_structured(llm, QUESTION, Answer, check=odd)
    assert 3 == got.score
    assert "expected an odd score" in llm.last_question


async def test_a_long_wrong_answer_is_shown_in_part() -> None:
    """A megabyte is not sent back; the error keeps it whole."""
    llm = ScriptedChatModel(script=["x" * 1_000_000] * 2)
    with pytest.raises(AnswerError) as caught:
        await ask_structured(llm, QUESTION, Answer, validation_retries=1)
    assert 4_000 == len(llm.asked[1][1].text)
    assert 1_000_000 == len(caught.value.raw)


async def test_a_broken_model_is_a_failed_call() -> None:
    """Whatever a model raises ends in our tree, with the cause kept, after one try."""
    llm = ScriptedChatModel(script=[RuntimeError("out of memory")])
    with (
        using_meter() as meter,
        pytest.raises(CallError, match="out of memory") as caught,
    ):
        await ask_structured(llm, QUESTION, Answer)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert (1, 1) == (caught.value.attempts, meter.llm_calls)


async def test_a_cut_off_description_of_an_error_is_one_line() -> None:
    """An error's words are bounded and on one line."""
    llm = ScriptedChatModel(script=[RuntimeError("a\nb" * 1_000)])
    with pytest.raises(CallError) as caught:
        await ask_structured(llm, QUESTION, Answer)
    assert "\n" not in str(caught.value)
    assert 400 > len(str(caught.value))


async def test_calls_in_tasks_count_into_the_same_meter() -> None:
    """Tasks started inside count; calls outside do not."""
    good = {"reason": "r", "score": 3}
    llm = ScriptedChatModel(script=[good] * 4)
    with using_meter() as meter:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(ask_structured(llm, QUESTION, Answer))
    await ask_structured(llm, QUESTION, Answer)
    assert 3 == meter.llm_calls
    with using_meter(meter) as same:
        assert meter is same


async def test_a_cancelled_call_is_cancelled() -> None:
    """Cancelling is not a failure of the call; it passes through."""
    llm = ScriptedChatModel(script=[])
    started = asyncio.Event()

    class Hanging(ScriptedChatModel):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
            started.set()
            await asyncio.Event().wait()

    llm = Hanging()
    task = asyncio.create_task(ask_structured(llm, QUESTION, Answer))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "facts",
    [
        {"response_metadata": {"finish_reason": "content_filter"}},
        {"response_metadata": {"stop_reason": "refusal"}},
        {"additional_kwargs": {"refusal": "I cannot help"}},
    ],
    ids=["a filter", "a stop reason", "a refusal"],
)
async def test_other_providers_refuse_in_their_own_ways(facts: dict[str, Any]) -> None:
    """However a provider says it, a refusal is not asked again."""
    llm = ScriptedChatModel(script=[AIMessage("", **facts)])
    with pytest.raises(AnswerError, match="got a refusal"):
        await ask_structured(llm, QUESTION, Answer)
    assert 1 == len(llm.asked)


ODD = {"reason": "r", "score": "odd"}
"""An answer that has to be repaired."""
SENT = {
    "the first request": ([{"reason": "r", "score": 3}], 0),
    "a repair": ([ODD], 1),
    "the second repair": ([ODD, "it fits"], 2),
}


@pytest.mark.parametrize("case", SENT)
async def test_a_request_without_room_is_not_sent(case: str) -> None:
    """With two calls left two requests go out; then the error says which limit."""
    script, most = SENT[case]
    llm = ScriptedChatModel(script=script)
    meter = UsageMeter(budget=Budget(llm_calls=3))
    for _ in range(3 - most):
        meter.add_call()
    with using_meter(meter), pytest.raises(BudgetError) as caught:
        await ask_structured(llm, QUESTION, Answer)
    assert (most, 3) == (len(llm.asked), meter.llm_calls)
    assert str(caught.value) == (
        "expected room in the budget for another request to the language model, got "
        "3 of 3 llm_calls; raise the budget to continue"
    )
    assert caught.value.__cause__ is None


async def test_a_repetition_needs_room_too() -> None:
    """A busy server is asked again only as often as the budget allows."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    retries, meter = RetryPolicy(sleep=sleep), UsageMeter(budget=Budget(llm_calls=2))
    with Loopback(error(503)) as server, using_meter(meter), pytest.raises(BudgetError):
        await ask_structured(openai_model(server), QUESTION, Answer, retries=retries)
    assert (2, 2, 1) == (len(server.requests), meter.llm_calls, len(waits))


async def test_the_way_around_a_schema_needs_room_too() -> None:
    """The request by another method is one more request."""
    refusal = error(400, message="This response_format type is unavailable now")
    one = using_meter(UsageMeter(budget=Budget(llm_calls=1)))
    with Loopback(refusal, chat(GOOD)) as server, one, pytest.raises(BudgetError):
        await asked(server)
    assert 1 == len(server.requests)


@pytest.mark.parametrize(
    ("seconds", "told", "waited"),
    [
        (40, "50.0 of 40 seconds after a wait of 50.0 s", []),
        (60, "HTTP 429", [50.0]),
    ],
    ids=["past the end", "within"],
)
async def test_a_wait_past_the_end_of_the_budget_is_not_begun(
    seconds: int, told: str, waited: list[float]
) -> None:
    """A server that asks to wait longer than there is time for is not waited for."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    retries = RetryPolicy(sleep=sleep, attempts=2)
    meter = UsageMeter(budget=Budget(seconds=seconds), clock=lambda: 0.0)
    with Loopback(error(429, retry_after="50")) as server, using_meter(meter):
        llm = openai_model(server)
        with pytest.raises(AgentError, match=told) as caught:
            await ask_structured(llm, QUESTION, Answer, retries=retries)
    assert (not waited) is isinstance(caught.value, BudgetError)
    assert (waited, 1 + len(waited)) == (waits, len(server.requests))


async def test_calls_in_flight_are_finished() -> None:
    """What was sent before a limit was reached is answered; no more is sent."""
    reply = AIMessage(
        GOOD,
        usage_metadata={"input_tokens": 60, "output_tokens": 40, "total_tokens": 0},
    )
    both, answer = asyncio.Event(), asyncio.Event()

    class Waiting(TextModel):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
            result = self._generate(*args, **kwargs)
            if len(self.asked) == 2:
                both.set()
            await answer.wait()
            return result

    llm = Waiting(script=[reply, reply])
    run = UsageMeter(budget=Budget(tokens=100))
    with using_meter(UsageMeter(parent=run)) as meter:
        tasks = [
            asyncio.create_task(ask_structured(llm, QUESTION, Answer)) for _ in range(2)
        ]
        await both.wait()
        answer.set()
        assert ["it fits", "it fits"] == [(await task).reason for task in tasks]
        with pytest.raises(BudgetError, match="200 of 100 tokens of the run"):
            await ask_structured(llm, QUESTION, Answer)
    assert (2, 200) == (meter.llm_calls, run.input_tokens + run.output_tokens)


async def test_a_budget_lets_exactly_as_many_requests_out() -> None:
    """Many questions at once send as many requests as the limit allows, no more."""
    llm = ScriptedChatModel(script=[{"reason": "r", "score": 3}] * 20)
    with using_meter(UsageMeter(budget=Budget(llm_calls=20))) as meter:
        questions = [ask_structured(llm, QUESTION, Answer) for _ in range(30)]
        outcomes = await asyncio.gather(*questions, return_exceptions=True)
    assert 10 == sum(isinstance(outcome, BudgetError) for outcome in outcomes)
    assert (20, 20) == (len(llm.asked), meter.llm_calls)


class Silent(ScriptedChatModel):
    """Never answers, and was told of no timeout."""

    async def _agenerate(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()


async def test_a_client_without_a_timeout_is_not_waited_for() -> None:
    """What is known of its server bounds the whole exchange."""
    retries = RetryPolicy(attempts=1, server=Server(timeout=0.05))
    with pytest.raises(CallError, match="a slow server needs a higher timeout"):
        await ask_structured(Silent(), QUESTION, Answer, retries=retries)
