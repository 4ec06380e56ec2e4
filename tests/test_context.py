"""The context: requests are made to fit it, answers are bounded, and an overflow ends little.

The wordings are those of servers; each says in its own words what it cannot take.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import httpx2 as httpx
import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from socratic_agents.agents.attempts import shorter_offers
from socratic_agents.agents.judges import Judgement, caption_judge
from socratic_agents.agents.optimizer import Rewrites, optimizer
from socratic_agents.agents.selectors import caption_selector
from socratic_agents.core.errors import AnswerError
from socratic_agents.core.history import Verdict
from socratic_agents.llm.cache import ResponseCache, using_cache
from socratic_agents.llm.context import Conversation, estimate_tokens
from socratic_agents.llm.methods import DELIBERATION, MOST_DELIBERATION, Server
from socratic_agents.llm.refusals import context_limit
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.schemas import largest_answer, schema_of, without_sizes
from socratic_agents.llm.structured import StructuredCaller
from socratic_agents.llm.template_files import find_template
from socratic_agents.storage.run_directory import RunDirectory
from tests.fakes import drawn, history
from tests.loopback import Loopback, Reply, Request, chat
from tests.test_structured import no_sleep, openai_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from socratic_agents.core.history import History


class Answer(BaseModel):
    """How well it fits."""

    model_config = ConfigDict(extra="forbid", strict=True)
    EXAMPLE: ClassVar[dict[str, Any]] = {"words": ["large"]}

    words: list[Annotated[str, Field(json_schema_extra={"maxLength": 30})]] = Field(
        json_schema_extra={"minItems": 1, "maxItems": 5}
    )


GOOD = '{"words": ["small"]}'
RIGHT = Answer(words=["small"])
QUESTION = [HumanMessage("How well does it fit?")]


def said(status: int, words: Any, **more: Any) -> Reply:
    body = words if isinstance(words, dict) else {"message": words, **more}
    return Reply(json.dumps({"error": body}), status=status)


def status_error(status: int, body: Any) -> openai.APIStatusError:
    request = httpx.Request("POST", "http://127.0.0.1/v1")
    response = httpx.Response(status, json=body, request=request)
    return openai.APIStatusError("no", response=response, body=body)


OVERFLOWS: dict[str, tuple[int, str, int]] = {
    "OpenAI": (
        400,
        (
            "This model's maximum context length is 8192 tokens. However, your messages "
            "resulted in 9000 tokens. Please reduce the length of the messages."
        ),
        8192,
    ),
    "OpenAI, newer": (
        400,
        (
            "Input tokens exceed the configured limit of 272000 tokens. Your messages "
            "resulted in 300000 tokens."
        ),
        272000,
    ),
    "OpenAI, without a number": (
        400,
        "Your input exceeds the context window of this model.",
        0,
    ),
    "vLLM": (
        400,
        (
            "This model's maximum context length is 4096 tokens. However, you requested "
            "5000 tokens (904 in the messages, 4096 in the completion)."
        ),
        4096,
    ),
    "vLLM, the answer": (
        400,
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's "
            "maximum context length is 2048 tokens and your request has 900 input tokens"
        ),
        2048,
    ),
    "vLLM, the prompt": (
        400,
        (
            "The decoder prompt (length 5000) is longer than the maximum model length of "
            "4096. Make sure that max_model_len is no smaller."
        ),
        4096,
    ),
    "llama.cpp": (
        400,
        (
            "request (5000 tokens) exceeds the available context size (2048 tokens), try "
            "increasing it"
        ),
        2048,
    ),
    "llama.cpp, while it writes": (500, "Context size has been exceeded.", 0),
    "llama-cpp-python": (
        500,
        "Requested tokens (2100) exceed context window of 2048",
        2048,
    ),
    "Ollama": (400, "prompt too long; exceeded max context length by 1000 tokens", 0),
    "LM Studio": (
        400,
        (
            "Trying to keep the first 5000 tokens when context the overflows. However, the "
            "model is loaded with context length of only 4096 tokens, which is not enough."
        ),
        4096,
    ),
    "Anthropic": (400, "prompt is too long: 210000 tokens > 200000 maximum", 200000),
    "Anthropic, the answer": (
        400,
        (
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, "
            "decrease input length or `max_tokens` and try again"
        ),
        200000,
    ),
    "Gemini": (
        400,
        (
            "The input token count (1200000) exceeds the maximum number of tokens allowed "
            "(1048576)."
        ),
        1048576,
    ),
    "TGI": (
        422,
        (
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. "
            "Given: 3900 `inputs` tokens and 512 `max_new_tokens`"
        ),
        4096,
    ),
    "Mistral": (
        400,
        (
            "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 "
            "maximum context length"
        ),
        32768,
    ),
    "Groq": (
        413,
        (
            "Request too large for model `x` on tokens per minute (TPM): Limit 6000, "
            "Requested 7000, please reduce your message size and try again."
        ),
        6000,
    ),
    "SGLang": (
        400,
        (
            "The input (5000 tokens) is longer than the model's context length (4,096 "
            "tokens)."
        ),
        4096,
    ),
    "OpenRouter": (
        400,
        (
            "This endpoint's maximum context length is 32768 tokens. However, you requested "
            "about 40000 tokens (36000 of text input, 4000 in the output)."
        ),
        32768,
    ),
    "Bedrock": (400, "Input is too long for requested model.", 0),
    "a proxy": (413, "Payload Too Large", 0),
}


@pytest.mark.parametrize("case", OVERFLOWS)
def test_an_overflow_is_told_in_many_words(case: str) -> None:
    """And with it, where the server says so, how much would have fitted."""
    status, words, limit = OVERFLOWS[case]
    assert limit == context_limit(status_error(status, {"error": {"message": words}}))
    assert limit == context_limit(status_error(status, {"detail": words}))


def test_an_overflow_may_stand_in_a_field_or_be_of_this_process() -> None:
    """llama.cpp gives the number by itself, and llama-cpp-python has no status."""
    fields = {"message": "too many tokens", "n_ctx": 1024}
    assert 1024 == context_limit(status_error(400, {"error": fields}))
    named = {"message": "no", "code": "context_length_exceeded"}
    assert 0 == context_limit(status_error(429, {"error": named}))
    here = ValueError("Requested tokens (2100) exceed context window of 2048")
    assert 2048 == context_limit(here)
    assert context_limit(OSError("the context length is exceeded")) is None


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, "Rate limit reached: tokens per min (TPM): Limit 30000, Requested 40000"),
        (401, "Incorrect API key; the request exceeds what it may do"),
        (400, "Unsupported parameter: 'max_tokens' is not supported with this model"),
        (400, "Invalid parameter: response_format"),
        (400, "Invalid schema: 'maxLength' is not permitted."),
        (500, "the model has crashed"),
        (404, "The model `x` does not exist"),
        (400, "System role not supported"),
    ],
)
def test_other_failures_are_no_overflow(status: int, words: str) -> None:
    """A spent rate, a wrong key and an unknown parameter are other matters."""
    assert context_limit(status_error(status, {"error": {"message": words}})) is None


def test_sizes_are_no_part_of_what_is_read() -> None:
    """They are sent, taken out again where a server does not know them, and not checked."""
    schema = schema_of(Answer, {})
    assert 5 == schema["properties"]["words"]["maxItems"]
    assert 2 == schema_of(Answer, {"words": 2})["properties"]["words"]["maxItems"]
    assert not {"maxItems", "maxLength"} & set(
        json.dumps(without_sizes(schema)).split('"')
    )
    assert 9 == len(Answer(words=["x" * 99] * 9).words)


def test_the_largest_answer_follows_from_the_schema() -> None:
    """Each size counts, and parts that are defined elsewhere."""
    small, large = (
        largest_answer(schema_of(Rewrites, {"prompts": n})) for n in (1, 10)
    )
    assert 500 < small < 700
    assert 5500 < large < 6500
    assert 300 < largest_answer(schema_of(Judgement, {})) < 600


def bodies(server: Loopback) -> list[Any]:
    return [request.body for request in server.requests]


async def asked(
    server: Loopback, policy: RetryPolicy, question: Any = QUESTION, **settings: Any
) -> Answer:
    llm = openai_model(server, **settings)
    return await StructuredCaller(llm, Answer, retries=policy)(question)


def policy_of(**facts: Any) -> RetryPolicy:
    return RetryPolicy(sleep=no_sleep, server=Server(**facts))


def sent_sizes(body: Any) -> bool:
    return "maxItems" in json.dumps(body)


async def test_a_server_of_ones_own_gets_sizes_and_a_limit() -> None:
    """The schema says how long texts and lists may be, and the request how many tokens."""
    with Loopback(chat(GOOD)) as server:
        assert RIGHT == await asked(server, policy_of(), extra_body={"ttl": 9})
    (body,) = bodies(server)
    schema = body["response_format"]["json_schema"]["schema"]
    assert 5 == schema["properties"]["words"]["maxItems"]
    assert 30 == schema["properties"]["words"]["items"]["maxLength"]
    assert 9 == body["ttl"]
    limit = largest_answer(schema_of(Answer, {})) + DELIBERATION
    assert limit == body["max_tokens"]
    assert "max_completion_tokens" not in body


@pytest.mark.parametrize("limit", [None, 700])
async def test_openais_own_api_gets_neither_unless_it_is_set(limit: int | None) -> None:
    """Its strict mode refuses sizes, and its models deliberate within the limit."""
    seen: list[Any] = []

    def play(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(200, text=chat(GOOD).body)

    client = httpx.AsyncClient(transport=httpx.MockTransport(play))
    key = SecretStr("sk")
    llm = ChatOpenAI(model="m", api_key=key, http_async_client=client)
    policy = policy_of(max_tokens=limit)
    assert RIGHT == await StructuredCaller(llm, Answer, retries=policy)(QUESTION)
    (body,) = seen
    assert not sent_sizes(body)
    assert "max_tokens" not in body
    assert limit == body.get("max_completion_tokens")


async def test_a_limit_of_ones_own_is_sent() -> None:
    """The setting wins over what the schema takes."""
    with Loopback(chat(GOOD)) as server:
        await asked(server, policy_of(max_tokens=77))
    assert 77 == bodies(server)[0]["max_tokens"]


@pytest.mark.parametrize(
    "words",
    [
        "Invalid schema: In context=('properties', 'words'), 'maxItems' is not permitted",
        "schema keyword maxLength is not supported by this grammar",
    ],
)
async def test_a_server_without_sizes_gets_the_same_method_without(words: str) -> None:
    """One request more, once for the run."""

    def play(request: Request) -> Reply:
        return said(400, words) if sent_sizes(request.body) else chat(GOOD)

    policy = policy_of()
    with Loopback(play) as server:
        assert RIGHT == await asked(server, policy)
        assert RIGHT == await asked(server, policy)
    assert [True, False, False] == [sent_sizes(body) for body in bodies(server)]
    assert all("response_format" in body for body in bodies(server))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "Unsupported parameter: 'max_tokens' is not supported with this model."),
        (422, {"detail": [{"loc": ["body", "max_tokens"], "msg": "Extra inputs"}]}),
        (
            400,
            (
                "max_tokens is too large: 9000. This model supports at most 4096 "
                "completion tokens"
            ),
        ),
    ],
)
async def test_a_server_without_a_limit_gets_none(status: int, words: Any) -> None:
    """One request more, once for the run."""

    def play(request: Request) -> Reply:
        text = words if isinstance(words, dict) else {"error": {"message": words}}
        refusal = Reply(json.dumps(text), status=status)
        return refusal if "max_tokens" in request.body else chat(GOOD)

    policy = policy_of()
    with Loopback(play) as server:
        assert RIGHT == await asked(server, policy)
        assert RIGHT == await asked(server, policy)
    assert 3 == len(server.requests)


async def test_a_model_that_deliberates_long_gets_more_room() -> None:
    """What was cut off before the answer began, twice as much, to a limit."""
    policy = policy_of()
    cut = chat("<think>well, well", finish_reason="length")
    later = chat("<think>well, well, well", finish_reason="length")
    with Loopback(cut, later, chat(GOOD)) as server:
        assert RIGHT == await asked(server, policy)
    first, second, third = (body["max_tokens"] for body in bodies(server))
    assert (DELIBERATION, 2 * DELIBERATION) == (second - first, third - second)
    with Loopback(cut) as server, pytest.raises(AnswerError, match="length limit"):
        await asked(server, policy)
    assert MOST_DELIBERATION == policy.server.deliberation


async def test_a_runaway_answer_gets_no_more_room() -> None:
    """An answer that was begun and never ended is the model's fault."""
    policy = policy_of()
    with Loopback(
        chat('{"words": ["8888', finish_reason="length"), chat(GOOD)
    ) as server:
        assert RIGHT == await asked(server, policy)
    assert DELIBERATION == policy.server.deliberation


def short_sighted(
    limit: int, answer: str, *, known: bool = True, answers_count: bool = False
) -> Callable[[Request], Reply]:
    """Return a server that reads so many tokens, by our own estimate.

    Args:
        limit: Its context.
        answer: What it answers.
        known: Whether it says how long its context is.
        answers_count: Whether the tokens that are asked for count, as with vLLM.
    """

    def play(request: Request) -> Reply:
        texts = [message["content"] for message in request.body["messages"]]
        used = sum(len(text) for text in texts) / 3.5
        used += request.body["max_tokens"] if answers_count else 0
        if used <= limit:
            return chat(answer)
        size = f"maximum context length is {limit} tokens" if known else "context size"
        return said(400, f"{size}; the request of {int(used)} tokens exceeds it")

    return play


def long_history(attempts: int = 5) -> History:
    """Return attempts of which the first is the worst, with captions of 600 letters."""
    candidates = [
        drawn(f"dog {n}", "very " * 120 + str(n), score=n / 10) for n in range(attempts)
    ]
    return history("a dog", *candidates).judged(
        Verdict(satisfied=False, missing=("a dog",))
    )


REWRITTEN = '{"prompts": ["a big dog"]}'


@pytest.mark.parametrize(
    ("known", "answers_count"), [(True, True), (True, False), (False, False)]
)
async def test_the_worst_attempts_are_left_out(
    *, known: bool, answers_count: bool
) -> None:
    """After an overflow the same call is shorter, and so is the next one, unasked."""
    policy = policy_of()
    play = short_sighted(1200, REWRITTEN, known=known, answers_count=answers_count)
    with Loopback(play) as server:
        write = optimizer(
            openai_model(server), find_template("optimizer", "default"), retries=policy
        )
        assert ("a big dog",) == await write(long_history())
        before = len(server.requests)
        assert ("a big dog",) == await write(long_history())
    assert (1200 if known else None) == policy.server.context
    if known:
        assert 1 == len(server.requests) - before
    last = server.requests[-1].body["messages"][-1]["content"]
    assert "<prompt>dog 0</prompt>" not in last.partition("<history>")[2]
    assert "<prompt>dog 4</prompt>" in last.partition("<history>")[2]
    assert before <= 3


async def test_a_context_that_is_set_is_kept_from_the_start() -> None:
    """No request is refused, and the answer's limit fits as well."""
    play = short_sighted(1200, REWRITTEN, answers_count=True)
    with Loopback(play) as server:
        write = optimizer(
            openai_model(server),
            find_template("optimizer", "default"),
            retries=policy_of(context=1200),
        )
        assert ("a big dog",) == await write(long_history())
    assert 1 == len(server.requests)


async def test_examples_go_after_the_attempts() -> None:
    """The last one first."""
    with Loopback(short_sighted(800, REWRITTEN)) as server:
        write = optimizer(
            openai_model(server),
            find_template("optimizer", "few_shot"),
            retries=policy_of(context=900),
        )
        past = history("a dog", drawn("dog 1"), drawn("dog 2"))
        assert ("a big dog",) == await write(past)
    text = server.requests[-1].body["messages"][-1]["content"]
    assert "<attempt>" not in text
    assert "crimson ball" in text
    assert "linocut" not in text


async def test_judge_and_selector_are_shortened_too() -> None:
    """The judge loses attempts, the selector the worst candidates and never the best."""
    policy = policy_of(context=900)
    judged = '{"reason": "so", "missing": [], "satisfied": true}'
    with Loopback(short_sighted(900, judged)) as server:
        judge = caption_judge(
            openai_model(server), find_template("judge", "default"), retries=policy
        )
        assert (await judge(long_history())).satisfied
    with Loopback(short_sighted(900, '{"choice": 5}')) as server:
        select = caption_selector(
            openai_model(server), find_template("selector", "default"), retries=policy
        )
        assert 4 == await select(long_history())
    text = server.requests[-1].body["messages"][-1]["content"]
    assert "<number>1</number>" not in text
    assert "<number>4</number>" in text
    assert "<number>5</number>" in text


@pytest.mark.parametrize("known", [True, False])
async def test_what_cannot_be_made_short_enough_is_an_answer_error(
    *, known: bool
) -> None:
    """It fails this call alone, after at most one request more, with the server's words."""
    with (
        Loopback(short_sighted(20, GOOD, known=known)) as server,
        pytest.raises(AnswerError, match="fits the language model's context") as caught,
    ):
        await asked(server, policy_of(), [HumanMessage("word " * 60)])
    assert len(server.requests) <= 2
    assert "tokens exceeds it" in str(caught.value)


async def test_a_repair_that_overflows_is_made_short() -> None:
    """The wrong answer is shown again in part, and the question stays whole."""
    long = json.dumps({"word": "well " * 400})

    def play(request: Request) -> Reply:
        if 1 == len(request.body["messages"]):
            return chat(long)
        return short_sighted(300, GOOD)(request)

    with Loopback(play) as server:
        assert RIGHT == await asked(server, policy_of())
    question, wrong, _ = bodies(server)[-1]["messages"]
    assert QUESTION[0].content in question["content"]
    assert len(wrong["content"]) < 400


async def test_a_replay_makes_a_request_as_short_as_it_was(tmp_path: Path) -> None:
    """It knows nothing of the server, and finds the answer all the same."""
    with (
        RunDirectory(tmp_path, settings={}) as run,
        Loopback(short_sighted(1200, REWRITTEN)) as server,
    ):
        for replay_only in (False, True):
            cache = ResponseCache(
                journal=run.journal, model_identity={}, replay_only=replay_only
            )
            with using_cache(cache):
                write = optimizer(
                    openai_model(server),
                    find_template("optimizer", "default"),
                    retries=policy_of(),
                )
                assert ("a big dog",) == await write(long_history())
    assert 2 == len(server.requests)


def test_a_conversation_is_shortened_step_by_step() -> None:
    """Wrong answers first, then what the caller offers; then nothing is left."""
    sent = Conversation(
        [HumanMessage("a" * 70)], [[HumanMessage("a" * 35)], [HumanMessage("a" * 7)]]
    )
    sent.add(HumanMessage("b" * 700))
    assert 220 == estimate_tokens(sent.messages)
    sent.fit(1000)
    assert 220 == estimate_tokens(sent.messages)
    sent.fit(107)
    assert ["a" * 70, "b" * 300 + "…"] == [m.text for m in sent.messages]
    sent.fit(90)
    assert "a" * 7 == sent.messages[0].text
    assert not sent.shorten()


def test_what_is_offered_gets_less_and_less() -> None:
    """Attempts in the given order, then examples; what was offered stays as it was."""
    attempts, examples = [{"prompt": "1"}, {"prompt": "2"}], [{"prompt": "3"}]
    offer: dict[str, Any] = {"history": attempts, "examples": examples, "missing": None}
    leaving = {"history": attempts, "missing": None, "examples": examples}
    steps: list[Any] = list(shorter_offers(offer, leaving))
    sizes = [(len(one["history"]), len(one["examples"])) for one in steps]
    assert [(1, 1), (0, 1), (0, 0)] == sizes
    assert (2, 1) == (len(attempts), len(examples))
