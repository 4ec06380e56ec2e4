"""Methods: the strictest that a server knows is found by what it says, or does.

The bodies are what servers of these kinds send; each knows some methods and no others.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, ConfigDict

from socratic_agents.core.errors import AnswerError, CallError
from socratic_agents.llm.cache import ResponseCache, using_cache
from socratic_agents.llm.methods import METHODS, Server
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.structured import StructuredCaller
from socratic_agents.storage.run_directory import RunDirectory
from tests.fakes import TextModel
from tests.loopback import Loopback, Reply, Request, chat
from tests.test_structured import no_sleep, openai_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Answer(BaseModel):
    """How well it fits."""

    model_config = ConfigDict(extra="forbid", strict=True)
    EXAMPLE: ClassVar[dict[str, Any]] = {"reason": "too large", "score": 1}

    reason: str
    score: int


GOOD = '{"reason": "it fits", "score": 3}'
RIGHT = Answer(reason="it fits", score=3)
SYSTEM = [SystemMessage("You judge."), HumanMessage("How well does it fit?")]


def said(status: int, body: Any) -> Reply:
    return Reply(json.dumps(body), status=status)


REFUSALS: dict[str, Reply] = {
    "OpenAI": said(
        400,
        {"error": {"message": "Invalid parameter", "param": "response_format"}},
    ),
    "FastAPI": said(
        422,
        {
            "detail": [
                {
                    "type": "extra_forbidden",
                    "loc": ["body", "response_format"],
                    "msg": "Extra inputs are not permitted",
                }
            ]
        },
    ),
    "llama-cpp-python": said(
        500, {"error": {"message": "json_schema is not handled", "type": "internal"}}
    ),
    "xgrammar": said(
        400,
        {"object": "error", "message": "The JSON schema has features not supported"},
    ),
    "OpenRouter": said(
        404,
        {
            "error": {
                "code": 404,
                "message": "No endpoints take the requested parameters",
            }
        },
    ),
    "LiteLLM": said(
        500, {"error": {"message": "BadRequestError: response_format not supported"}}
    ),
    "Gemini": said(
        400, [{"error": {"code": 400, "message": 'Unknown "additionalProperties"'}}]
    ),
    "SiliconFlow": said(
        400,
        {"code": 20024, "message": "Json mode is not supported here.", "data": None},
    ),
    "a text": said(400, "structured outputs are not available"),
    "no reason": said(400, {"error": {"message": "bad request"}}),
}


def knowing(*methods: str, refusal: Reply, answer: str = GOOD) -> Callable[..., Reply]:
    """Return a server that knows these methods besides words, and refuses others."""

    def play(request: Request) -> Reply:
        format_ = request.body.get("response_format", {}).get("type")
        asked = "tools" if "tools" in request.body else format_ or "words"
        if asked != "words" and asked not in methods:
            return refusal
        return chat(None, arguments=answer) if asked == "tools" else chat(answer)

    return play


async def asked(server: Loopback, policy: RetryPolicy | None = None) -> Answer:
    caller = StructuredCaller(
        openai_model(server),
        Answer,
        retries=policy or RetryPolicy(sleep=no_sleep),
    )
    return await caller([HumanMessage("How well does it fit?")])


def methods_in(server: Loopback) -> list[str]:
    """Return by which method each request asked."""
    bodies = [request.body for request in server.requests]
    return [
        "tools" if "tools" in b else b.get("response_format", {}).get("type", "words")
        for b in bodies
    ]


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_moves_one_rung_down(case: str) -> None:
    """However it is said, one request more finds the method, and it is remembered."""
    known = {"tools", "json_object", "words"}
    policy = RetryPolicy(sleep=no_sleep)
    with Loopback(knowing(*known, refusal=REFUSALS[case])) as server:
        assert RIGHT == await asked(server, policy)
        assert RIGHT == await asked(server, policy)
    *refused, last, again = methods_in(server)
    assert ["json_schema"] == refused
    assert last == again == ("words" if case == "no reason" else "tools")


@pytest.mark.parametrize("known", ["json_object", "words"])
async def test_the_ladder_is_climbed_down_to_what_is_known(known: str) -> None:
    """A server that knows only JSON objects, or nothing, is asked with the form in words."""
    with Loopback(knowing(known, refusal=REFUSALS["OpenAI"])) as server:
        assert RIGHT == await asked(server)
    assert list(METHODS)[: list(METHODS).index(known) + 1] == methods_in(server)
    told = server.requests[-1].body["messages"][-1]["content"]
    assert "fit this JSON schema" in told
    assert json.dumps(Answer.EXAMPLE) in told


async def test_a_schema_that_is_passed_over_ends_in_words() -> None:
    """A server may take a schema and ignore it: the next request shows it in words."""
    policy = RetryPolicy(sleep=no_sleep)
    with Loopback(chat("well"), chat(GOOD), chat(GOOD)) as server:
        assert RIGHT == await asked(server, policy)
        assert RIGHT == await asked(server, policy)
    assert ["json_schema", "words", "words"] == methods_in(server)


async def test_a_method_that_has_worked_is_kept() -> None:
    """A wrong answer of a model that answered before is the model's, not the server's."""
    policy = RetryPolicy(sleep=no_sleep)
    with Loopback(chat(GOOD), chat("well"), chat(GOOD)) as server:
        assert RIGHT == await asked(server, policy)
        assert RIGHT == await asked(server, policy)
    assert ["json_schema"] * 3 == methods_in(server)


async def test_a_bad_request_that_words_do_not_cure_is_told_as_it_was() -> None:
    """If the method was not to blame, the first complaint is the error, and the rung stays."""
    first, second = said(400, {"error": "odd"}), said(400, {"error": "still odd"})
    policy = RetryPolicy(sleep=no_sleep)
    with Loopback(first, second) as server, pytest.raises(CallError, match=r"\(odd\)"):
        await asked(server, policy)
    assert ["json_schema", "words"] == methods_in(server)
    assert Server() == policy.server


@pytest.mark.parametrize(
    "words",
    [
        "The model `x` is not loaded",
        "Your credit is too low",
    ],
)
async def test_a_bad_request_with_another_cause_is_not_sent_again(words: str) -> None:
    """What the server says is to blame is not looked for elsewhere."""
    refusal = said(400, {"error": {"message": words}})
    with Loopback(refusal) as server, pytest.raises(CallError, match=words[:8]):
        await asked(server)
    assert 1 == len(server.requests)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "System role not supported"),
        (500, "TemplateError: System role not supported by this model"),
        (400, "Conversation roles must alternate user/assistant/user"),
        (400, "Developer instruction is not enabled for models/gemma"),
        (422, "messages.0.role: unexpected value 'system'"),
    ],
)
async def test_system_messages_become_words_of_a_human(status: int, words: str) -> None:
    """A model without a system role gets those words at the head of the first message."""

    def play(request: Request) -> Reply:
        roles = [message["role"] for message in request.body["messages"]]
        return said(status, {"detail": words}) if "system" in roles else chat(GOOD)

    policy = RetryPolicy(sleep=no_sleep)
    with Loopback(play) as server:
        caller = StructuredCaller(openai_model(server), Answer, retries=policy)
        assert RIGHT == await caller(SYSTEM)
        assert RIGHT == await caller(SYSTEM)
    assert 3 == len(server.requests)
    (message,) = server.requests[-1].body["messages"]
    assert "You judge.\n\nHow well does it fit?" == message["content"]


def test_messages_with_pictures_keep_them_without_a_system_role() -> None:
    """The words become one more part; messages of the system alone stay as they are."""
    server = Server(takes_system=False)
    shown = HumanMessage([{"type": "text", "text": "How well?"}])
    (merged,) = server.fit([SYSTEM[0], shown])
    assert [{"type": "text", "text": "You judge."}, *shown.content] == merged.content
    assert SYSTEM[:1] == server.fit(SYSTEM[:1])
    assert [shown, AIMessage("no")] == server.fit([shown, AIMessage("no")])


async def test_what_a_server_could_not_validate_is_an_answer() -> None:
    """Groq sends the model's words with its refusal: they are read, or shown to it."""

    def failed(text: str) -> Reply:
        code = {"message": "Failed", "code": "json_validate_failed"}
        return said(400, {"error": {**code, "failed_generation": text}})

    with Loopback(failed(f"Sure: {GOOD}")) as server:
        assert RIGHT == await asked(server)
    assert 1 == len(server.requests)
    with Loopback(failed("it fits"), chat(GOOD)) as server:
        assert RIGHT == await asked(server)
    assert "it fits" == server.requests[1].body["messages"][1]["content"]


async def test_an_echo_of_the_example_is_no_answer() -> None:
    """A model that repeats the example before it answers is understood."""
    echo = f"Example: {json.dumps(Answer.EXAMPLE)}\nMine: {GOOD}"
    llm = TextModel(script=[echo])
    caller = StructuredCaller(llm, Answer, retries=RetryPolicy(sleep=no_sleep))
    assert RIGHT == await caller([HumanMessage("How well does it fit?")])


async def test_a_cached_response_is_found_by_the_method_that_brought_it(
    tmp_path: Path,
) -> None:
    """A resumed run does not ask again only because it has to learn the server anew."""
    with Loopback(knowing(refusal=REFUSALS["OpenAI"])) as server:
        for _ in range(2):
            with RunDirectory(tmp_path, settings={}) as run:
                cache = ResponseCache(journal=run.journal, model_identity={"llm": "m"})
                with using_cache(cache):
                    assert RIGHT == await asked(server)
    assert list(METHODS) == methods_in(server)


async def test_an_answer_that_stays_wrong_keeps_the_models_words() -> None:
    """The error shows what was written, by whatever method it came."""
    wrong = Loopback(chat(None, arguments='{"score": 3}'))
    with wrong as server, pytest.raises(AnswerError) as caught:
        await asked(server)
    assert '{"score": 3}' == caught.value.raw
