"""The captioner's own language model in the place of a chat model: ``llm="captioner"``.

L1  All roles are played by the weights that caption, in batches of the same worker.
L2  What a real model answers there, refines; what nobody can use, is said.
L3  It is a chat model like any other of LangChain's.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from PIL import Image
from pydantic import BaseModel

from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.outcome import Refinement
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.writing.requests import Turn, WriteRequest, Written
from socratic_agents.runtime.cached_models import (
    language_model_identity,
    model_identity,
)
from socratic_agents.runtime.captioner_llm.chat_model import CaptionerChatModel
from socratic_agents.runtime.captioner_llm.messages import turns_of
from socratic_agents.runtime.language_model import open_language_model
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.storage.run_directory import RunDirectory
from tests import tiny_writers
from tests.role_calls import SHIPPED, call_role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

USER_PROMPT = "a crimson ball above an azure box"
PICTURE = base64.b64encode(b"a file").decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_writers.tiny_writer(tmp_path_factory.mktemp("writer")))


def settings_of(captioner: Any, **changes: Any) -> Settings:
    quick = {"rounds": 2, "prompts_per_round": 1, "llm_max_tokens": 260}
    return Settings(captioner=captioner, llm="captioner", **{**quick, **changes})


def writes(writer: Any) -> Callable[[WriteRequest], Awaitable[Written]]:
    async def write(request: WriteRequest) -> Written:
        written: Written = writer.write([request])[0]
        return written

    return write


# L1


@pytest.mark.parametrize("checks", [{}, {"judge": "vision", "answerer": "llm"}])
async def test_refinements_share_calls_of_the_captioner(
    folder: str, checks: dict[str, Any]
) -> None:
    """Many prompts are refined at once, with no second model and no key."""
    settings = settings_of(folder, strict=False, in_flight=4, **checks)
    async with Refiner(settings) as refiner:
        prompts = [USER_PROMPT, "a red square", "a green circle", "a blue box"]
        outcomes = [one async for one in refiner.refine_many(prompts)]
        statistics = refiner.statistics()

    calls = 0
    for one in outcomes:
        assert isinstance(one, Refinement)
        calls += one.usage.llm_calls
        assert one.usage.input_tokens > one.usage.output_tokens > 0
    assert statistics is not None
    writer = statistics.stages["writer"]
    assert calls == writer.items > writer.batches


async def test_all_roles_get_answers_in_their_form(folder: str) -> None:
    """With images in their messages or without; nonsense is told, never broken JSON."""
    writer, seen = Captioner.load(folder).writer, list[tuple[WriteRequest, str]]()

    async def write(request: WriteRequest) -> Written:
        (written,) = writer.write([request])
        seen.append((request, written.text))
        return written

    llm = CaptionerChatModel(write=write)
    for role, name in SHIPPED:
        outcome = await call_role(role, name, USER_PROMPT, llm, retries=_brief())
        assert "CallError" != outcome.get("failed"), outcome
    held = [(one, json.loads(text)) for one, text in seen if one.schema]
    assert all(isinstance(answer, dict) for _, answer in held)
    assert {0, 1, 2} <= {one.images for one, _ in held}


def _brief() -> Any:
    from socratic_agents.llm.methods import Server
    from socratic_agents.llm.retry import RetryPolicy

    return RetryPolicy(server=Server(max_tokens=300))


@pytest.mark.slow
async def test_it_writes_in_processes_of_their_own(folder: str) -> None:
    """A worker that is elsewhere has the captioner, and with it the language model."""
    settings = settings_of(folder, workers="process", rounds=1)
    async with Refiner(settings) as refiner:
        there = await refiner.refine(USER_PROMPT)
    async with Refiner(settings.but(workers=None)) as refiner:
        here = await refiner.refine(USER_PROMPT)

    assert here.usage.llm_calls == there.usage.llm_calls > 0
    assert here.usage.output_tokens == there.usage.output_tokens
    assert here.history.checklist == there.history.checklist


async def test_several_devices_share_it(folder: str) -> None:
    """Each device has a captioner, and what is asked goes to where the fewest wait."""
    settings = settings_of(folder, device="cpu,cpu", rounds=1)
    async with Refiner(settings) as refiner:
        refinement = await refiner.refine(USER_PROMPT)
    assert refinement.usage.output_tokens > 0


async def test_what_it_said_is_not_asked_again(folder: str, tmp_path: Path) -> None:
    """Its answers are kept like those of other language models, by captioner and seed."""
    settings = settings_of(folder, rounds=1)
    calls = []
    for _ in range(2):
        with RunDirectory(tmp_path / "run", settings=settings.public()) as run:
            async with Refiner(settings).remember(run) as refiner:
                await refiner.refine(USER_PROMPT)
                statistics = refiner.statistics()
        assert statistics is not None
        calls.append("writer" in statistics.stages)
    assert [True, False] == calls

    known = language_model_identity(settings)
    assert model_identity(settings, "captioner") == known["writes"]
    assert known != language_model_identity(settings.but(seed=1))
    assert known != language_model_identity(settings.but(captioner="another"))


async def test_its_context_is_known(tmp_path: Path) -> None:
    """Requests are shortened to it before they are sent; what cannot be is said."""
    small = tiny_writers.tiny_writer(tmp_path, context=600)
    async with Refiner(settings_of(str(small), rounds=1)) as refiner:
        refinement = await refiner.refine(USER_PROMPT)
    assert refinement.history.checklist is not None
    assert "context of 600 tokens" in str(refinement.history.checklist.error)


# L2

_FILE = Path(__file__).parent / "data" / "smollm2-135m-answers.jsonl"
RECORDED = [json.loads(line) for line in _FILE.read_text("utf-8").splitlines()[1:]]


class _Recorded:
    """Generates what a real model once answered to each role."""

    def __init__(self, tokenizer: Any, texts: dict[str, list[str]]) -> None:
        self.tokenizer, self.texts = tokenizer, texts
        self.asked: list[str] = []

    def generate(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return prompts with what was recorded, filled up on the right."""
        prompts = self.tokenizer.batch_decode(input_ids)
        answers = [[*self._answer(prompt), 2] for prompt in prompts]
        width = max(map(len, answers))
        filled = [one + [0] * (width - len(one)) for one in answers]
        return torch.cat([input_ids, torch.tensor(filled)], dim=1)

    def _answer(self, prompt: str) -> list[int]:
        role = next(role for role, mark in MARKS.items() if mark in prompt)
        self.asked.append(role)
        left = self.texts[role]
        text = left.pop(0) if len(left) > 1 else left[0]
        ids: list[int] = self.tokenizer(text=text).input_ids
        return ids


MARKS = {
    "guard": "<rewrite>",
    "optimizer": "<number_of_prompts>",
    "checklist": "Write the checklist.",
}
"""By what the prompts of the roles are told from each other."""


async def test_recorded_answers_of_a_real_model_refine() -> None:
    """What a small model wrote under its schema is what the roles work with."""
    whole: dict[str, list[str]] = {}
    for call in RECORDED:
        if call["method"] == "json_schema":
            for reply in call["replies"]:
                if reply["finish_reason"] == "stop":
                    whole.setdefault(call["role"], []).append(reply["text"])
    # The last one counts for all that is asked beyond.
    model, processor = tiny_writers.writing_llava()
    captioner = Captioner(model, processor)
    recorded = _Recorded(processor.tokenizer, whole)
    object.__setattr__(captioner.writer, "_model", _Fake(model, recorded))

    async with Refiner(settings_of(captioner, llm_max_tokens=None)) as refiner:
        refinement = await refiner.refine(USER_PROMPT)

    assert {"checklist", "optimizer"} <= set(recorded.asked)
    assert refinement.history.checklist is not None
    assert refinement.history.checklist.questions
    assert 2 == len(refinement.history.rounds)
    assert all(one.verdict is not None for one in refinement.history.rounds)


class _Fake:
    """A model of which only ``generate`` is another one's."""

    def __init__(self, model: Any, recorded: _Recorded) -> None:
        self._model, self.generate = model, recorded.generate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


# L3


class TestStandard(ChatModelUnitTests):
    """LangChain's standard unit tests of a chat model."""

    @property
    def chat_model_class(self) -> type[CaptionerChatModel]:
        return CaptionerChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {}


class TestStandardAnswers(ChatModelIntegrationTests):
    """LangChain's standard tests of what a chat model answers, with random weights."""

    @property
    def chat_model_class(self) -> type[CaptionerChatModel]:
        return CaptionerChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        writer = Captioner(*tiny_writers.writing_llava()).writer
        return {"write": writes(writer), "max_tokens": 40}


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


async def test_structured_output_may_come_with_what_was_written() -> None:
    """A pydantic model, a JSON schema or any object at all; other methods are refused."""
    said = {"text": '{"name": "Ada", "age": 36}'}
    asked: list[WriteRequest] = []

    async def write(request: WriteRequest) -> Written:
        asked.append(request)
        return Written(
            text=said["text"], finish="stop", input_tokens=3, output_tokens=2
        )

    llm = CaptionerChatModel(write=write)
    ada = Person(name="Ada", age=36)
    assert ada == await llm.with_structured_output(Person, strict=True).ainvoke("Who?")
    schema = Person.model_json_schema()
    assert ada.model_dump() == llm.with_structured_output(schema).invoke("Who?")
    assert json.loads(asked[1].schema or "")["properties"] == schema["properties"]
    loose = llm.with_structured_output(schema, method="json_mode")
    assert ada.model_dump() == await loose.ainvoke("Who?")
    assert {"type": "object"} == json.loads(asked[2].schema or "")

    both = llm.with_structured_output(Person, include_raw=True)
    result: Any = await both.ainvoke("Who?")
    assert (ada, None) == (result["parsed"], result["parsing_error"])
    said["text"] = "nobody"
    result = await both.ainvoke("Who?")
    assert result["parsed"] is None
    assert result["parsing_error"] is not None
    assert "nobody" == result["raw"].content

    with pytest.raises(ValueError, match="json_schema"):
        llm.with_structured_output(Person, method="words")


def test_messages_are_turns() -> None:
    """Who speaks twice in a row is heard once; images may stand in a data address."""
    picture = {"type": "image", "base64": PICTURE, "mime_type": "image/png"}
    address = {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{PICTURE}"},
    }
    data = {"type": "image", "url": address["image_url"]["url"]}  # type: ignore[index]
    turns = turns_of(
        [
            SystemMessage("brief"),
            HumanMessage("what"),
            HumanMessage([{"type": "text", "text": "is it"}, picture, address, data]),
            AIMessage([{"type": "reasoning", "reasoning": "hm"}, "a thing"]),
            ToolMessage("a note", tool_call_id="1"),
        ]
    )
    assert turns == (
        Turn("system", ("brief",)),
        Turn("user", ("what", "is it", b"a file", b"a file", b"a file")),
        Turn("assistant", ("a thing",)),
        Turn("user", ("a note",)),
    )


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "url": "http://127.0.0.1:9/x.png"},
        {"type": "image", "base64": "?", "mime_type": "image/png"},
        {"type": "audio", "base64": PICTURE, "mime_type": "audio/wav"},
    ],
    ids=["address", "broken", "audio"],
)
def test_nothing_is_fetched_for_a_message(block: dict[str, Any]) -> None:
    """An image has to be there; sounds and addresses are refused in a line."""
    with pytest.raises(ValueError, match="for the captioner"):
        turns_of([HumanMessage([block])])


# What cannot be, is said before anything is loaded.


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"captioner": "pocket"}, "captioner that can write"),
        ({"captioner": "llm"}, "stand for each other"),
        ({"captioner": "x", "base_url": "http://127.0.0.1:9/v1"}, "base_url"),
    ],
    ids=["pocket", "each other", "server"],
)
def test_what_contradicts_itself_is_refused(
    given: dict[str, Any], problem: str
) -> None:
    """Settings that name no language model are told so."""
    with pytest.raises(ConfigurationError, match=problem):
        Settings(llm="captioner", **given)


async def test_a_captioner_of_one_s_own_has_to_write() -> None:
    """An object with a ``writer`` does; others are refused when they are opened."""

    def caption(images: Sequence[Image.Image]) -> list[str]:
        return ["a red ball"] * len(images)

    def decide(questions: Sequence[Any]) -> list[str]:
        return ["yes"] * len(questions)

    def write(requests: Sequence[WriteRequest]) -> list[Written]:
        text = '{"satisfied": true, "missing": [], "reason": "so it is"}'
        return [
            Written(text=text, finish="stop", input_tokens=1, output_tokens=1)
        ] * len(requests)

    mute = SimpleNamespace(caption=caption, answer=decide)
    with pytest.raises(ConfigurationError, match="with a 'writer'"):
        async with Refiner(settings_of(mute)):
            pass
    mute.writer = SimpleNamespace(write=write)
    settings = settings_of(mute, judge="caption", selector="first", guard=None)
    async with Refiner(settings) as refiner:
        refinement = await refiner.refine("a red ball")
    assert "satisfied" == refinement.stop.value


async def test_alone_it_says_what_it_lacks() -> None:
    """Outside of a refiner nobody has opened the captioner."""
    llm = open_language_model(settings_of("some/model", temperature=0.5))
    assert isinstance(llm, CaptionerChatModel)
    assert ("some/model", 0.5) == (llm.model, llm.temperature)
    with pytest.raises(ConfigurationError, match="within a Refiner"):
        await llm.ainvoke("?")


def test_a_picture_is_seen(folder: str) -> None:
    """An image in a message reaches the model."""
    llm = CaptionerChatModel(write=writes(Captioner.load(folder).writer), max_tokens=5)
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    picture = {"type": "image", "base64": data, "mime_type": "image/png"}

    blind = llm.invoke("what").usage_metadata
    seeing = llm.invoke(
        [HumanMessage([{"type": "text", "text": "what"}, picture])]
    ).usage_metadata

    assert blind is not None
    assert seeing is not None
    assert seeing["input_tokens"] > blind["input_tokens"]
