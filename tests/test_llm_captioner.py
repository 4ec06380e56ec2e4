"""The language model as the captioner: ``captioner="llm"``, and nothing is loaded here.

E1  It captions and answers in plain words, with evidence where a server tells.
E2  What fails, fails one image or question, and is counted, kept and repeated as ever.
E3  A refinement needs no model in this process, and no torch.
"""

from __future__ import annotations

import base64
import io
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI
from PIL import Image

from socratic_agents.agents.llm_captioner import CAPTION, Decided, LLMCaptioner
from socratic_agents.agents.registry import check_vision, find_roles, find_templates
from socratic_agents.agents.search.registry import most_rounds
from socratic_agents.config.settings import Settings
from socratic_agents.core.checklist import YesNo
from socratic_agents.core.counts import Count
from socratic_agents.core.errors import (
    CandidateError,
    ConfigurationError,
    ServerDownError,
)
from socratic_agents.core.history import Status
from socratic_agents.llm.methods import Server, read_reply
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.usage import using_meter
from socratic_agents.runtime.cached_models import model_identity
from socratic_agents.runtime.captioner_llm.calls import look_later
from socratic_agents.runtime.cost_estimate import worst_case
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.storage.run_directory import RunDirectory
from tests import light
from tests.loopback import Loopback, Reply, chat, error

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback import Request

RED = Image.new("RGB", (16, 16), "red")


def told(*first: tuple[str, float]) -> dict[str, Any]:
    """Return what OpenAI's protocol says of first words and their logarithms."""
    alternatives = [{"token": token, "logprob": share} for token, share in first]
    return {"content": [{"token": first[0][0], "top_logprobs": alternatives}]}


class Eyes(BaseChatModel):
    """Says what it is told to, and keeps what it was asked."""

    says: Any
    identity: str = "eyes"
    asked: list[Any] = []  # noqa: RUF012 - a field of pydantic

    @property
    def _llm_type(self) -> str:
        return "eyes"

    def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
        self.asked.append(messages)
        said = self.says(messages) if callable(self.says) else self.says
        if isinstance(said, Exception):
            raise said
        message = AIMessage(said) if isinstance(said, str) else said
        return ChatResult(generations=[ChatGeneration(message=message)])


def eyes(says: Any, **server: Any) -> tuple[Eyes, LLMCaptioner]:
    async def at_once(_: float) -> None:
        pass

    llm = Eyes(says=says)
    policy = RetryPolicy(attempts=2, sleep=at_once, server=Server(**server))
    return llm, LLMCaptioner(llm, retries=policy)


# E1


async def test_it_captions_and_answers_in_plain_words() -> None:
    """Each request shows the image, small enough, and asks one thing."""
    llm, captioner = eyes("A red\nball.")
    large = Image.new("RGB", (2000, 1000), "red")

    assert "A red ball." == await captioner.caption(large)
    assert "A red ball." == await captioner.answer_open(large, "What is it?")
    answer = await captioner.answer_yes_no(large, "Is it red?")

    assert (YesNo.UNKNOWN, None) == (answer.said, answer.probability)
    texts = [" ".join(message.text for message in asked) for asked in llm.asked]
    assert texts[0].startswith(CAPTION)
    assert texts[1].startswith("What is it? Answer in a few words.")
    assert texts[2].startswith("Is it red? Answer with one word")
    blocks = llm.asked[0][-1].content_blocks
    file = base64.b64decode(next(b["base64"] for b in blocks if b["type"] == "image"))
    assert (768, 384) == Image.open(io.BytesIO(file)).size


@pytest.mark.parametrize(
    ("text", "first", "said", "probability"),
    [
        ("Yes.", {}, YesNo.YES, None),
        ("no", {}, YesNo.NO, None),
        ("unknown", {"unknown": 0.9, "yes": 0.1}, YesNo.UNKNOWN, None),
        ("Yes", {"Yes": 0.6, " yes": 0.15, "No": 0.25}, YesNo.YES, 0.75),
        ("yes", {"yes": 0.2, "no": 0.6}, YesNo.NO, 0.25),
        ("Yes", {"The": 0.99, "yes": 0.01}, YesNo.YES, None),
    ],
)
def test_first_words_are_evidence(
    text: str, first: dict[str, float], said: YesNo, probability: float | None
) -> None:
    """Of yes and no, the likelier one; where neither was near, the text decides."""
    decided = Decided.from_text(text, first)
    assert said is decided.said
    assert probability == (decided.probability and pytest.approx(decided.probability))


@pytest.mark.parametrize(
    ("text", "first", "count"),
    [
        ("3", {}, Count(number=3)),
        ("three dogs", {"three": 0.6, "two": 0.2}, Count.of({3: 0.6, 2: 0.2})),
        ("12", {"1": 0.9}, Count(number=12)),
        ("some", {"some": 0.9}, Count(number=None)),
    ],
)
async def test_it_counts(text: str, first: dict[str, float], count: Count) -> None:
    """With the probabilities of numbers where the first word is one."""
    content = [
        {
            "top_logprobs": [
                {"token": t, "logprob": math.log(p)} for t, p in first.items()
            ]
        }
    ]
    facts = {"logprobs": {"content": content}}
    _, captioner = eyes(AIMessage(text, response_metadata=facts))
    assert count == await captioner.answer_count(RED, "How many dogs are there?")
    assert text == await captioner.read_text(RED, "What is written on the sign?")


def _decisions(request: Request) -> Reply:
    if "logprobs" not in request.body:
        return chat("no")
    assert 5 == request.body["top_logprobs"]
    reply = json.loads(chat("Yes").body)
    reply["choices"][0]["logprobs"] = told(("Yes", -0.2231), ("no", -1.6094))
    return Reply(json.dumps(reply))


def _client(server: Loopback) -> ChatOpenAI:
    return ChatOpenAI(model="m", base_url=server.base_url, api_key="k", max_retries=0)


async def test_a_server_is_asked_how_sure_it_was(tmp_path: Path) -> None:
    """Its first word's probabilities are the evidence, from the cache as well."""
    with Loopback(_decisions) as server:
        captioner = LLMCaptioner(_client(server), retries=RetryPolicy(attempts=1))
        answer = await captioner.answer_yes_no(RED, "Is it red?")
    assert YesNo.YES is answer.said
    assert 0.8 == pytest.approx(answer.probability, abs=1e-3)


@pytest.mark.parametrize(
    "words",
    [
        "Unsupported parameter: 'logprobs' is not supported with this model.",
        "You are not allowed to request logprobs from this model",
    ],
)
async def test_a_server_that_does_not_tell_is_asked_without(words: str) -> None:
    """It is asked once whether it tells, for all questions of a run."""
    seen = list[bool]()

    def reply(request: Request) -> Reply:
        seen.append("logprobs" in request.body)
        return error(400, message=words) if seen[-1] else chat("no")

    with Loopback(reply) as server:
        captioner = LLMCaptioner(_client(server), retries=RetryPolicy(attempts=1))
        answers = [await captioner.answer_yes_no(RED, "Is it red?") for _ in range(2)]
    assert [YesNo.NO] * 2 == [one.said for one in answers]
    assert [True, False, False] == seen


@pytest.mark.parametrize(
    "logprobs", [None, {}, {"content": []}, {"content": [{"top_logprobs": [{}]}]}, 3]
)
def test_whatever_a_server_tells_is_read(logprobs: Any) -> None:
    """What is no list of first words tells nothing."""
    facts = {"logprobs": logprobs}
    assert {} == read_reply(AIMessage("yes", response_metadata=facts)).first_word


# E2


async def test_what_cannot_be_answered_fails_alone() -> None:
    """A caption of no use is asked for twice; what fails for good is a candidate's."""
    llm, captioner = eyes("a photo of")
    with pytest.raises(CandidateError, match="only an opening") as caught:
        await captioner.caption(RED)
    assert Status.CAPTION_FAILED is caught.value.status
    assert 2 == len(llm.asked)

    _, captioner = eyes(LookupError("no model"))
    with pytest.raises(CandidateError, match="no model") as caught:
        await captioner.answer_open(RED, "What?")
    assert Status.OK is caught.value.status


async def test_a_server_that_is_down_ends_more_than_one_image() -> None:
    """The same would happen to all others."""
    _, captioner = eyes("a ball")

    async def down(*_: Any, **__: Any) -> Any:
        raise ServerDownError("expected a server, got none")

    captioner._caption = down  # type: ignore[assignment]
    with pytest.raises(ServerDownError):
        await captioner.caption(RED)


async def test_its_requests_are_counted() -> None:
    """They are the language model's, and belong to its budget."""
    _, captioner = eyes("a ball")
    with using_meter() as meter:
        await captioner.caption(RED)
        await captioner.answer_yes_no(RED, "Is it?")
    assert 2 == meter.llm_calls


def test_the_estimate_counts_what_it_is_asked() -> None:
    """A caption for each image, and an answer to each question."""
    settings = Settings(captioner="llm", llm="openai:m", api_key="k")
    blind = worst_case(settings.but(captioner="pocket"))
    seeing = worst_case(settings)
    assert blind.images == seeing.images
    instead = 10 * most_rounds(settings, seeing.images)
    looks = seeing.llm_calls - blind.llm_calls
    assert 2 * (seeing.images * (1 + 3 * 10) + instead) == looks
    plain = {"judge": "caption", "selector": "caption", "guard": None}
    seeing = worst_case(settings.but(**plain))
    blind = worst_case(settings.but(captioner="pocket", **plain))
    assert 2 * seeing.images == seeing.llm_calls - blind.llm_calls


async def test_its_captions_are_kept_with_the_model_s_name(tmp_path: Path) -> None:
    """A second run asks nothing again; another model's captions are others."""
    settings = Settings(
        generator="pocket",
        captioner="llm",
        scorer=None,
        llm=Eyes(says=_roles),
        rounds=2,
        judge="caption",
        selector="caption",
        guard=None,
        optimizer_template="classic",
    )
    for times in range(2):
        with RunDirectory(tmp_path / "run", settings=settings.public()) as run:
            async with Refiner(settings).remember(run) as refiner:
                refinement = await refiner.refine("a red ball")
            assert times == run.journal.reused["caption"]
    assert "a red ball" == refinement.best.caption
    named = Settings(captioner="llm", llm="openai:m", api_key="k")
    known = model_identity(named, "captioner")
    assert "openai:m" == known["looks"]["llm"]
    assert known != model_identity(named.but(llm="openai:n"), "captioner")


def _roles(messages: list[Any]) -> str:
    if messages[-1].text.startswith(CAPTION):
        return "a red ball"
    return json.dumps({"satisfied": True, "missing": [], "reason": "so it is"})


# E3


def test_without_torch_an_image_is_refined(tmp_path: Path) -> None:
    """The profile of servers loads no model: the command ends with an image."""
    with Loopback(_world) as server:
        code = REFINE.format(url=server.base_url)
        out = light.run_light(code, tmp_path)
    outcome = json.loads(out.splitlines()[0])
    assert "ok" == outcome["status"]
    assert "a grey gradient" == outcome["best"]["caption"]
    assert outcome["best"]["answers"]
    assert all(one["probability"] for one in outcome["best"]["answers"])
    assert (tmp_path / "out" / outcome["best"]["image"]).is_file()


REFINE = """
from socratic_agents.cli.app import main
import os
os.environ["SOCRATIC_API_KEY"] = "k"
code = main(["refine", "a grey shade", "--profile", "api", "--generator", "{url}",
    "--base-url", "{url}", "--llm", "openai:x", "--captioner", "llm", "--scorer", "none",
    "--rounds", "2", "--json", "--out", "out"])
assert code == 0, code
"""


def _world(request: Request) -> Reply:
    """Answer as an images server, and as a model that sees."""
    if "questions" in json.dumps(request.body.get("response_format")):
        question = {"requirement": "grey", "question": "Is it grey?", "needs": []}
        return chat(json.dumps({"questions": [{**question, "instead": ""}]}))
    if "messages" not in request.body or "response_format" in request.body:
        return light.answer(request)
    if CAPTION in json.dumps(request.body):
        return chat("a grey gradient")
    return _decisions(request)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"scorer": "captioner"}, "gives no scores"),
        ({"llm": "captioner"}, "stand for each other"),
    ],
    ids=["scorer", "each other"],
)
def test_what_it_cannot_do_is_said(given: dict[str, Any], problem: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigurationError, match=problem):
        Settings(**{"captioner": "llm", "llm": "openai:m", **given})


def test_a_model_that_sees_nothing_is_refused() -> None:
    """The pocket chat model, for example, which reads captions."""
    settings = Settings(captioner="llm")
    assert find_roles(settings).needs_llm
    blind = Eyes(says="", profile={"image_inputs": False})
    with pytest.raises(ConfigurationError, match="sees images for the captioner"):
        check_vision(settings, find_templates(settings), blind)


async def test_nobody_looks_where_no_language_model_was_opened() -> None:
    """Models alone, without agents, have no eyes then."""
    with pytest.raises(ConfigurationError, match="got none; open one"):
        await look_later(RED)


async def test_pocket_cannot_look() -> None:
    """It is refused when the refiner opens, in one line."""
    with pytest.raises(ConfigurationError, match="sees images for the captioner"):
        async with Refiner(Settings(captioner="llm")):
            pass
