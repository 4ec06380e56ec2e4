"""A language model that sees is shown the images, whole and in both orders.

The winner of a selection is usable and in memory, and only what wins in both orders
replaces what was better before.
"""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64decode
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from PIL import Image
from pydantic import PrivateAttr

from socratic_agents.agents.images import BELOW, LARGEST, accepts_images, with_images
from socratic_agents.agents.judges import caption_judge, vision_judge
from socratic_agents.agents.selectors import (
    Preference,
    caption_selector,
    vision_selector,
)
from socratic_agents.core.errors import (
    AnswerError,
    CallError,
    ConfigurationError,
    TemplateError,
)
from socratic_agents.core.history import Candidate, History, Round, Status, Verdict
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.template_files import find_template
from socratic_agents.llm.usage import using_meter
from socratic_agents.pocket import PocketChatModel
from tests.fakes import (
    ScriptedChatModel,
    TextModel,
    ask_structured,
    drawn,
    failed,
    history,
)
from tests.loopback import Loopback, Reply, Request, chat, error

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

JUDGE = find_template("judge", "vision")
SELECTOR = find_template("selector", "vision")
OPTIMIZER = find_template("optimizer", "vision")


def grey(level: int, size: tuple[int, int] = (8, 6)) -> Image.Image:
    """Return an image of one brightness, from 0 to 255, by which it is told again."""
    return Image.new("RGB", size, (level, level, level))


def level(picture: Image.Image) -> int:
    value = picture.getpixel((0, 0))
    assert isinstance(value, tuple)
    return int(value[0])


def pictures(message: BaseMessage) -> list[Image.Image]:
    """Return the images of a message, as LangChain holds them."""
    found: list[Image.Image] = []
    for block in message.content_blocks:
        if block["type"] == "image":
            assert "image/png" == block["mime_type"]
            found.append(Image.open(BytesIO(b64decode(block["base64"]))))
    return found


def said(*missing: str) -> dict[str, Any]:
    return {"reason": " so ", "missing": list(missing), "satisfied": not missing}


class ViewerModel(ScriptedChatModel):
    """Looks at two images and names one, by their brightness or by their place."""

    prefers: str = "brighter"
    """``brighter``, or the letter that it names whatever it sees."""
    _pairs: list[tuple[int, int]] = PrivateAttr(default_factory=list)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The brightness of the two images of every call, in the order shown."""
        return self._pairs

    def _generate(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> ChatResult:
        first, second = map(level, pictures(messages[-1]))
        self._pairs.append((first, second))
        letter = self.prefers
        if letter == "brighter":
            letter = "A" if first > second else "B"
        said = {"reason": "so", "better": letter}
        message = self._message(said, tool=kwargs["tool"])
        return ChatResult(generations=[ChatGeneration(message=message)])


def test_images_follow_the_text_of_the_last_human_message() -> None:
    """Each has its label before it; the other messages, and the given ones, stay."""
    messages = [
        SystemMessage("Look."),
        HumanMessage("An example."),
        AIMessage("Well."),
        HumanMessage("And this?", name="ann"),
        AIMessage("It is"),
    ]
    shown = with_images(messages, [("Image A:", grey(1)), ("Image B:", grey(2))])
    assert messages[:3] == shown[:3]
    assert messages[4:] == shown[4:]
    kinds = ["text", "text", "image", "text", "image"]
    assert kinds == [block["type"] for block in shown[3].content_blocks]
    assert "And this?" == messages[3].content
    texts = [b["text"] for b in shown[3].content_blocks if b["type"] == "text"]
    assert ["And this?", "Image A:", "Image B:"] == texts
    assert [1, 2] == [level(picture) for picture in pictures(shown[3])]
    assert "ann" == shown[3].name


def test_parts_that_are_there_stay() -> None:
    """A message that has parts gets more of them."""
    question = HumanMessage(["Which?", {"type": "text", "text": "Say."}])
    (shown,) = with_images([question], [("This:", grey(1))])
    texts = [block.get("text") for block in shown.content_blocks]
    assert ["Which?", "Say.", "This:", None] == texts


def test_without_a_human_message_there_is_one_more() -> None:
    """Images are the user's part of a conversation."""
    system, shown = with_images([SystemMessage("Look.")], [("This:", grey(1))])
    assert "Look." == system.content
    assert "human" == shown.type
    assert [1] == [level(picture) for picture in pictures(shown)]


def test_the_same_question_is_the_same_question() -> None:
    """No part has a random name, so caches and repeated runs know it again."""
    one, other = (
        with_images([HumanMessage("Which?")], [("This:", grey(1))]) for _ in range(2)
    )
    assert one == other
    assert not any("id" in block for block in one[0].content_blocks)


@settings(max_examples=30)
@given(
    width=st.integers(1, 2 * LARGEST),
    height=st.integers(1, 2 * LARGEST),
    mode=st.sampled_from(["RGB", "RGBA", "L", "P", "1"]),
)
def test_no_image_is_sent_large(width: int, height: int, mode: str) -> None:
    """The longer side fits, the shape is kept, and a small image stays as it is."""
    image = Image.new(mode, (width, height))
    (shown,) = with_images([HumanMessage("?")], [("This:", image)])
    (picture,) = pictures(shown)
    assert ("PNG", "RGB") == (picture.format, picture.mode)
    longer = max(width, height)
    assert min(longer, LARGEST) == max(picture.size)
    scale = min(1.0, LARGEST / longer)
    for before, after in zip((width, height), picture.size, strict=True):
        assert max(1.0, before * scale) == pytest.approx(after, abs=1.0)
    assert (mode, (width, height)) == (image.mode, image.size)


def seen(
    prompt: str, brightness: int = 1, score: float | None = None, **facts: Any
) -> Candidate:
    """Return a candidate with an image of this brightness."""
    return drawn(prompt, image=grey(brightness), score=score, **facts)


async def test_the_incumbent_is_judged_by_its_image() -> None:
    """The model sees the best image and no other, and its caption is not needed."""
    best = seen("a dog", 7, 0.9, caption=None, status=Status.CAPTION_FAILED)
    past = history("a dog", best, seen("one dog", 8, 0.1))
    llm = ScriptedChatModel(script=[said("a dog", " ")])
    verdict = await vision_judge(llm, JUDGE)(past)
    assert Verdict(satisfied=False, missing=("a dog",), reason="so") == verdict
    _, question = llm.asked[0]
    assert f"<image>{BELOW}</image>The image:" in question.text
    assert [7] == [level(picture) for picture in pictures(question)]


async def test_without_an_image_there_is_no_verdict() -> None:
    """No call is made, and nobody says "not satisfied"."""
    judge = vision_judge(ScriptedChatModel(script=[]), JUDGE)
    for past in (history("a dog", drawn("a dog")), history("a dog", failed("a dog"))):
        verdict = await judge(past)
        assert not verdict.judged
        assert "no image in memory" in verdict.reason


async def test_an_incumbent_that_was_judged_keeps_its_verdict() -> None:
    """Nothing better was drawn since, so no call is made."""
    verdict = Verdict(satisfied=False, missing=("a dog",), reason="so")
    past = history("a dog", seen("a dog", 7, 0.9)).judged(verdict)
    past += Round(candidates=(seen("one dog", 8, 0.1),))
    judge = vision_judge(ScriptedChatModel(script=[]), JUDGE)
    assert verdict is await judge(past)
    llm = ScriptedChatModel(script=[said()])
    better = past + Round(candidates=(seen("dogs", 9, 1.0),))
    assert (await vision_judge(llm, JUDGE)(better)).satisfied


async def test_a_failure_is_not_a_verdict() -> None:
    """What goes wrong is raised, for the loop to call the round unjudged."""
    past = history("a dog", seen("a dog"))
    judge = vision_judge(ScriptedChatModel(script=[OSError("gone")]), JUDGE)
    with pytest.raises(CallError, match="gone"):
        await judge(past)
    judge = vision_judge(ScriptedChatModel(script=["yes"] * 3), JUDGE)
    with pytest.raises(AnswerError):
        await judge(past)


def history_of_shades(*levels: int) -> History:
    """Return a history of images, the best score first."""
    candidates = [
        seen(f"prompt {n}", brightness, 1.0 - n / 10)
        for n, brightness in enumerate(levels)
    ]
    return history("a dog", candidates)


async def test_a_challenger_that_wins_in_both_orders_replaces() -> None:
    """The incumbent meets the second best, and the winner the third."""
    llm = ViewerModel()
    assert 1 == await vision_selector(llm, SELECTOR)(history_of_shades(10, 30, 20, 99))
    assert {(10, 30), (30, 10)} == set(llm.pairs[:2])
    assert {(30, 20), (20, 30)} == set(llm.pairs[2:])


@pytest.mark.parametrize("letter", ["A", "B"])
async def test_a_love_of_one_place_changes_nothing(letter: str) -> None:
    """A model that names the same letter in both orders disagrees with itself."""
    llm = ViewerModel(prefers=letter)
    assert 0 == await vision_selector(llm, SELECTOR)(history_of_shades(10, 30, 20))
    assert 4 == len(llm.pairs)


@given(
    levels=st.lists(st.integers(0, 255), min_size=1, max_size=6, unique=True),
    scored=st.booleans(),
    finalists=st.integers(1, 4),
)
async def test_the_best_of_the_finalists_is_selected(
    levels: list[int], *, scored: bool, finalists: int
) -> None:
    """With a model of good eyes; it takes two calls for each one after the first."""
    scores = [float(value % 7) if scored else None for value in levels]
    past = history(
        "a dog",
        [failed("lost")],
        [seen("a dog", *pair) for pair in zip(levels, scores, strict=True)],
    )
    llm = ViewerModel()
    index = await vision_selector(llm, SELECTOR, finalists=finalists)(past)
    final = past.ranked()[:finalists]
    assert max(final, key=lambda i: levels[i - 1]) == index
    assert 2 * (len(final) - 1) == len(llm.pairs)


async def test_a_single_image_needs_no_call() -> None:
    """There is nothing to compare, also where other images are only on the disk."""
    select = vision_selector(ScriptedChatModel(script=[]), SELECTOR)
    past = history("a dog", drawn("one", score=0.9), failed("lost"), seen("two", 1))
    assert 2 == await select(past)
    with pytest.raises(AnswerError, match="image in memory, got none"):
        await select(history("a dog", drawn("one")))


async def test_a_wrong_letter_is_shown() -> None:
    """Only A and B are answers, and the repair still shows both images."""
    wrong, right = ({"reason": "so", "better": letter} for letter in "CA")
    llm = ScriptedChatModel(script=[wrong, right])
    asked = with_images(
        [HumanMessage("Which?")], [("Image A:", grey(1)), ("Image B:", grey(2))]
    )
    assert "A" == (await ask_structured(llm, asked, Preference)).better
    assert "better: Input should be 'A' or 'B'" in llm.last_question
    assert [1, 2] == [level(picture) for picture in pictures(llm.asked[1][0])]


class HalfModel(ViewerModel):
    """Waits for ever in one order of the images, and meanwhile fails in the other."""

    _waiting: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)
    _cancelled: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> ChatResult:
        first, second = map(level, pictures(messages[-1]))
        if first > second:
            await self._waiting.wait()
            raise OSError("gone")
        self._waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self._cancelled.set()
        raise AssertionError("expected to be cancelled")


async def test_an_error_in_one_order_ends_the_other() -> None:
    """It is raised bare, for the loop to return the incumbent and say why."""
    llm = HalfModel()
    with pytest.raises(CallError, match="gone"):
        await vision_selector(llm, SELECTOR)(history_of_shades(10, 30))
    assert llm._cancelled.is_set()


def test_there_is_a_finalist() -> None:
    """Of none, none is the best."""
    with pytest.raises(ConfigurationError, match="at least 1 finalist, got 0"):
        vision_selector(ScriptedChatModel(), SELECTOR, finalists=0)


@pytest.mark.parametrize(
    ("make", "role", "name", "told"),
    [
        (vision_judge, "selector", "vision", "template for the judge"),
        (vision_judge, "judge", "default", "uses image, got 'default' with user_"),
        (caption_judge, "judge", "vision", "does not use image, got 'vision' with u"),
        (vision_selector, "judge", "vision", "template for the selector"),
        (vision_selector, "selector", "default", "uses first and second and does not"),
        (caption_selector, "selector", "vision", "uses candidates and does not use f"),
    ],
)
def test_a_template_for_other_eyes_is_refused(
    make: Callable[..., object], role: str, name: str, told: str
) -> None:
    """Found when the role is made: who reads captions shows no image, and back."""
    with pytest.raises(TemplateError, match=told):
        make(ScriptedChatModel(), find_template(role, name))


def test_the_optimizer_is_shown_the_incumbent() -> None:
    """Its words and the image come in one message, the words first."""
    messages = OPTIMIZER.render(
        user_prompt="a dog",
        incumbent={"prompt": "a hound", "caption": "a cat", "score": ""},
        image=BELOW,
        missing=["a dog"],
        history=[],
        number_of_prompts="1",
        max_words=None,
    )
    shown = with_images(messages, [("The best image so far:", grey(5))])[-1]
    assert f"<image>{BELOW}</image>\n<prompt>a hound</prompt>" in shown.text
    assert [5] == [level(picture) for picture in pictures(shown)]


def test_a_model_says_whether_it_sees() -> None:
    """By its profile; where there is none, or it is silent, nobody knows."""
    assert accepts_images(PocketChatModel()) is False
    assert accepts_images(TextModel(profile={"image_inputs": True})) is True
    assert accepts_images(TextModel(profile={"image_inputs": False})) is False
    assert accepts_images(TextModel(profile={"tool_calling": True})) is None
    assert accepts_images(TextModel()) is None


def test_the_answer_is_fit_for_strict_schemas() -> None:
    """No defaults and no extra fields: what strict servers insist on."""
    schema = Preference.model_json_schema()
    assert ["better"] == schema["required"]
    assert set(schema["properties"]) == set(schema["required"])
    assert schema["additionalProperties"] is False


async def no_sleep(seconds: float) -> None:
    """Wait for nothing."""


RETRIES = RetryPolicy(sleep=no_sleep)


def openai_model(server: Loopback) -> BaseChatModel:
    """Return the real client, pointed at the loopback."""
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model="m",
        api_key="sk-sentinel",
        base_url=server.base_url,
        max_retries=0,
        timeout=20,
    )


def sent(request: Request) -> list[tuple[str, Image.Image]]:
    """Return what a request shows: each image with the text before it."""
    (question,) = [m for m in request.body["messages"][:2] if m["role"] == "user"]
    label, found = "", list[tuple[str, Image.Image]]()
    for part in question["content"]:
        if part["type"] == "text":
            assert {"type", "text"} == set(part), "strict servers know no more"
            label = part["text"]
            continue
        assert {"type": "image_url", "image_url": {"url"}} == {
            "type": part["type"],
            "image_url": set(part["image_url"]),
        }
        head, _, data = part["image_url"]["url"].partition(",")
        assert "data:image/png;base64" == head
        picture = Image.open(BytesIO(b64decode(data, validate=True)))
        assert ("PNG", "RGB") == (picture.format, picture.mode)
        found.append((label, picture))
    return found


async def test_a_judge_sends_its_image_as_a_data_url() -> None:
    """The server gets a PNG of the scaled size, after its label, and the schema."""
    image = grey(9, size=(LARGEST * 2, LARGEST))
    past = history("a dog", drawn("a dog", image=image))
    with Loopback(chat(json.dumps(said("a dog")))) as server:
        verdict = await vision_judge(openai_model(server), JUDGE)(past)
    assert Verdict(satisfied=False, missing=("a dog",), reason="so") == verdict
    (request,) = server.requests
    ((label, picture),) = sent(request)
    assert "The image:" == label
    assert (LARGEST, LARGEST // 2) == picture.size
    assert 9 == level(picture)
    assert "json_schema" == request.body["response_format"]["type"]


def viewer(better: Callable[[int, int], str]) -> Callable[[Request], Reply]:
    """Return a server's answers to pairs; it answers none until it has both orders."""
    both = threading.Barrier(2, timeout=20)

    def answer(request: Request) -> Reply:
        (first, one), (second, other) = sent(request)
        assert ("Image A:", "Image B:") == (first, second)
        both.wait()
        letter = better(level(one), level(other))
        return chat(json.dumps({"reason": "so", "better": letter}))

    return answer


@pytest.mark.parametrize(
    ("better", "expected"),
    [
        (lambda one, other: "A" if one > other else "B", 1),
        (lambda one, other: "A", 0),
        (lambda one, other: "B", 0),
    ],
    ids=["agreement", "always A", "always B"],
)
async def test_a_pair_is_sent_in_both_orders_at_once(
    better: Callable[[int, int], str], expected: int
) -> None:
    """An agreement replaces the incumbent, and a disagreement keeps it."""
    with Loopback(viewer(better)) as server, using_meter() as meter:
        select = vision_selector(openai_model(server), SELECTOR, retries=RETRIES)
        assert expected == await select(history_of_shades(10, 20))
    shown = [[level(picture) for _, picture in sent(r)] for r in server.requests]
    assert [[10, 20], [20, 10]] == sorted(shown)
    assert (2, 22) == (meter.llm_calls, meter.input_tokens)


async def test_a_repair_still_shows_the_image() -> None:
    """The question is kept as it was; the mistake comes after it."""
    past = history("a dog", seen("a dog", 9))
    with Loopback(chat("it is a dog"), chat(json.dumps(said()))) as server:
        verdict = await vision_judge(openai_model(server), JUDGE, retries=RETRIES)(past)
    assert verdict.satisfied
    first, second = (request.body["messages"] for request in server.requests)
    assert first == second[:2]
    assert ["system", "user", "assistant", "user"] == [m["role"] for m in second]
    assert [9] == [level(picture) for _, picture in sent(server.requests[1])]


async def test_a_server_without_schemas_is_shown_the_image() -> None:
    """Asked in words and shown its mistake there, the model sees the image still."""
    past = history("a dog", seen("a dog", 9))
    refusal = error(400, message="response_format is not supported")
    replies = (*[refusal] * 3, chat("it is a dog"), chat(json.dumps(said())))
    with Loopback(*replies) as server:
        verdict = await vision_judge(openai_model(server), JUDGE, retries=RETRIES)(past)
    assert verdict.satisfied
    assert 5 == len(server.requests)
    for request in server.requests:
        assert [9] == [level(picture) for _, picture in sent(request)]
    asked, repaired = (request.body["messages"] for request in server.requests[3:])
    assert "fit this JSON schema" in asked[-1]["content"][-1]["text"]
    assert "fit this JSON schema" in repaired[-1]["content"]


async def test_a_model_that_only_writes_is_shown_the_image() -> None:
    """Without tools the form becomes one more part, after the image."""
    llm = TextModel(script=[json.dumps(said())])
    assert (
        await vision_judge(llm, JUDGE)(history("a dog", seen("a dog", 9)))
    ).satisfied
    blocks = llm.asked[0][-1].content_blocks
    assert ["text", "text", "image", "text"] == [block["type"] for block in blocks]


async def test_a_server_without_eyes_is_a_failed_call() -> None:
    """What it says is told, and the image is not."""
    past = history("a dog", seen("a dog", 9))
    refusal = error(400, message="image input is not supported")
    with Loopback(refusal) as server, pytest.raises(CallError) as caught:
        await vision_judge(openai_model(server), JUDGE, retries=RETRIES)(past)
    assert "image input is not supported" in str(caught.value)
    assert "base64" not in str(caught.value)
    assert 1 == len(server.requests)
