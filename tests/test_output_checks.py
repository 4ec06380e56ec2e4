"""What holds for whatever a callable of one's own returns.

O1  What is wrong fails the candidate that it is about, and nothing else.
O2  That is the same with and without a run directory.
O3  Every candidate's image is its own, and whole.
"""

from __future__ import annotations

import asyncio
import io
import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.agents.answer_checks import held_to_its_role
from socratic_agents.config.settings import Settings
from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.core.errors import AnswerError, CandidateError, ClosedError
from socratic_agents.core.history import History, Status, Verdict
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.core.text import error_line
from socratic_agents.models.output_checks import (
    own_answer,
    own_caption,
    own_image,
    own_score,
    own_text,
)
from socratic_agents.runtime.build import open_run_directory
from socratic_agents.runtime.image_models import CALL_KINDS, as_candidate_errors
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.scheduler.stage import Stage
from socratic_agents.scheduler.worker import Worker
from socratic_agents.storage.provenance import read_provenance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGE = (300, 300)
"""Too large to be examined in the event loop."""


async def paint(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (sum(map(ord, prompt)) % 256, seed % 256, 9))


async def describe(image: Image.Image) -> str:
    return "an image"


async def rate(user_prompt: str, image: Image.Image) -> float:
    return 0.5


async def rewrite(history: History) -> tuple[str, ...]:
    return (f"{history.user_prompt}, round {len(history.rounds)}",)


def _settings(**own: Any) -> Settings:
    return Settings(
        **{
            "generator": paint,
            "captioner": describe,
            "scorer": rate,
            "optimizer": rewrite,
            "judge": "never",
            "selector": "clip",
            "guard": None,
            "prompts_per_round": 1,
            "rounds": 2,
            **own,
        }
    )


async def _refined(
    settings: Settings, prompts: list[str], folder: Path | None = None
) -> list[Refinement | Failure]:
    """Refine prompts, with a run directory or without."""
    refiner = Refiner(settings)
    run = open_run_directory(folder, settings, resume=True) if folder else None
    with run or nullcontext():
        if run:
            refiner.remember(run)
        async with refiner:
            done = [outcome async for outcome in refiner.refine_many(prompts)]
        if run:
            done = [run.save(outcome) for outcome in done]
    return sorted(done, key=lambda outcome: outcome.index)


def _png(size: tuple[int, int] = (64, 64)) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(file, "PNG")
    return file.getvalue()


def _closed() -> Image.Image:
    image = Image.new("RGB", (8, 8), "red")
    image.close()
    return image


def _raising(problem: BaseException) -> Callable[[], Any]:
    def make() -> Any:
        raise problem

    return make


WRONG: dict[str, tuple[Callable[[], Any], Status]] = {
    "cut off": (lambda: Image.open(io.BytesIO(_png()[:900])), Status.GENERATION_FAILED),
    "large and cut off": (
        lambda: Image.open(io.BytesIO(_png(LARGE)[:9000])),
        Status.GENERATION_FAILED,
    ),
    "closed": (_closed, Status.GENERATION_FAILED),
    "empty": (lambda: Image.new("RGB", (0, 5)), Status.GENERATION_FAILED),
    "an array": (lambda: np.ones((8, 8, 3)), Status.GENERATION_FAILED),
    "a file's name": (lambda: "image.png", Status.GENERATION_FAILED),
    "cancelled": (_raising(asyncio.CancelledError()), Status.GENERATION_FAILED),
    "half a character": (_raising(OSError("\ud800")), Status.GENERATION_FAILED),
    "black": (lambda: Image.new("RGB", (8, 8)), Status.NUMERICAL_FAILURE),
    "large and black": (
        lambda: Image.new("RGBA", LARGE, "black"),
        Status.NUMERICAL_FAILURE,
    ),
    "NaN": (
        lambda: Image.fromarray(np.full((8, 8), math.nan, np.float32)),
        Status.NUMERICAL_FAILURE,
    ),
    "infinite": (
        lambda: Image.fromarray(np.full((8, 8), math.inf, np.float32)),
        Status.NUMERICAL_FAILURE,
    ),
}


@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "with DIR"])
@pytest.mark.parametrize("blocks", [False, True], ids=["async", "blocking"])
@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_image_fails_its_candidate(
    case: str, blocks: bool, stored: bool, tmp_path: Path
) -> None:
    """Every other prompt is refined, and the failed one says what was wrong."""
    make, status = WRONG[case]

    def draw(prompt: str, seed: int) -> Any:
        if prompt.startswith("a bad"):
            return make()
        return Image.new("RGB", (4, 4), (len(prompt), seed % 256, 3))

    async def awaited(prompt: str, seed: int) -> Any:
        return draw(prompt, seed)

    settings = _settings(generator=draw if blocks else awaited, rounds=1, in_flight=3)
    prompts = ["a ball", "a bad ball", "a box"]
    before, bad, after = await _refined(settings, prompts, tmp_path if stored else None)
    assert isinstance(before, Refinement)
    assert isinstance(after, Refinement)
    assert isinstance(bad, Failure)
    assert bad.history is not None
    assert {status} == {c.status for c in bad.history.candidates}
    assert all(c.error for c in bad.history.candidates)


@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "with DIR"])
@pytest.mark.parametrize("score", [math.nan, -math.inf, None, "0.7", [1, 2], 10**400])
async def test_what_is_no_number_is_no_score(
    score: Any, stored: bool, tmp_path: Path
) -> None:
    """The candidate stays, unscored, and says why."""

    async def measure(user_prompt: str, image: Image.Image) -> Any:
        return 0.7 if image.getpixel((0, 0))[0] % 2 else score  # type: ignore[index]

    (done,) = await _refined(
        _settings(scorer=measure, rounds=6), ["a"], tmp_path if stored else None
    )
    assert isinstance(done, Refinement)
    found = [tuple(c.scores.values()) for c in done.history.candidates]
    assert {(), (0.7,)} == set(found)
    assert all(c.scores or c.error for c in done.history.candidates)


@pytest.mark.parametrize("said", [None, 3, "", " \n", b"a ball", ["a ball"]])
async def test_what_is_no_text_is_no_caption(said: Any, tmp_path: Path) -> None:
    """The image is kept without a caption."""

    async def caption(image: Image.Image) -> Any:
        return said

    for folder in (None, tmp_path):
        (done,) = await _refined(_settings(captioner=caption), ["a ball"], folder)
        assert isinstance(done, Refinement)
        assert Status.CAPTION_FAILED is done.best.status
        assert done.best.caption is None


@pytest.mark.parametrize("blocks", [False, True], ids=["async", "blocking"])
async def test_every_image_is_a_picture_of_its_own(
    blocks: bool, tmp_path: Path
) -> None:
    """Also where a generator paints on one canvas, and a captioner on what it sees."""
    canvas = Image.new("RGB", (4, 4))

    def draw(prompt: str, seed: int) -> Image.Image:
        canvas.paste((sum(map(ord, prompt)) % 256, 1, 7), (0, 0, 4, 4))
        return canvas

    async def awaited(prompt: str, seed: int) -> Image.Image:
        return draw(prompt, seed)

    async def vandal(image: Image.Image) -> str:
        image.paste("black", (0, 0, 4, 4))
        return "an image"

    settings = _settings(
        generator=draw if blocks else awaited, captioner=vandal, rounds=3
    )
    (done,) = await _refined(settings, ["a red ball"], tmp_path)
    assert isinstance(done, Refinement)
    seen = done.history.candidates
    assert 3 == len({c.prompt for c in seen})
    for candidate in seen:
        assert candidate.image is not None
        assert candidate.path is not None
        colour = (sum(map(ord, candidate.prompt)) % 256, 1, 7)
        assert colour == candidate.image.getpixel((0, 0))
        assert candidate.prompt == read_provenance(tmp_path / candidate.path).prompt


async def test_one_file_that_is_given_twice_is_two_images() -> None:
    """It may still be on the disk when it is returned, and is large enough for threads."""
    opened = Image.open(io.BytesIO(_png(LARGE)))
    one, other = await asyncio.gather(own_image(opened), own_image(opened))
    assert one is not other
    assert one.tobytes() == other.tobytes()
    assert LARGE == one.size


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("LA", (2, 2), (9, 255)), (9, 9, 9)),
        (Image.new("I;16", (2, 2), 257 * 100), (100, 100, 100)),
        (Image.new("L", (2, 2), 9), (9, 9, 9)),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("F", (2, 2), 9.0), (9, 9, 9)),
    ],
    ids=lambda one: getattr(one, "mode", ""),
)
async def test_every_mode_becomes_rgb(
    image: Image.Image, colour: tuple[int, int, int]
) -> None:
    """What is transparent stands on white, and 16 bits are cut down, not off."""
    image.info["note"] = "mine"
    rgb = await own_image(image)
    assert ("RGB", colour) == (rgb.mode, rgb.getpixel((0, 0)))
    assert {"note": "mine"} == rgb.info


@pytest.mark.parametrize(
    ("told", "kept"), [(0, 0), (7, 7), (-1, None), (math.nan, None), ("7", None)]
)
async def test_only_a_number_of_tokens_is_one(told: Any, kept: int | None) -> None:
    """It stands in the journal, where JSON has no NaN."""
    image = Image.new("RGB", (2, 2), "red")
    image.info["truncated_tokens"] = told
    assert kept == (await own_image(image)).info.get("truncated_tokens")


@given(st.floats(0, 1), st.sampled_from(YesNo))
def test_a_right_answer_is_what_was_said(probability: float, said: YesNo) -> None:
    """Nothing of it changes, but that whether it passed is not the captioner's to say."""
    assert Answer(said=said, probability=probability) == own_answer(
        Answer(said=said, probability=probability, passed=True)
    )
    assert Answer(said=said) == own_answer(Answer(said=said))
    assert probability == own_score(np.float64(probability))


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "yes",
        *(Answer(said=YesNo.YES, probability=p) for p in (math.nan, 2.0, -1)),
    ],
)
def test_a_wrong_answer_is_none(wrong: Any) -> None:
    """Neither text nor an impossible probability."""
    with pytest.raises(CandidateError, match="expected an Answer"):
        own_answer(wrong)


def test_texts_can_be_written_into_files() -> None:
    """Half of a surrogate pair is replaced; what is no text is refused."""
    assert ("a?b", "") == (own_caption("a\ud800b"), own_text(""))
    with pytest.raises(CandidateError, match="return text, got NoneType"):
        own_text(None)


def test_an_error_without_words_is_told() -> None:
    """Whatever its text form does."""

    class Mute(Exception):  # noqa: N818 - somebody else's
        def __str__(self) -> str:
            raise RuntimeError

    assert "Mute: it cannot be written as text" == error_line(Mute())


@pytest.mark.parametrize("kind", CALL_KINDS, ids=lambda kind: kind.name)
async def test_cancelling_is_no_failure_but_being_cancelled_is(kind: Any) -> None:
    """Only what somebody asked for ends a task."""

    async def cancelled(*_: Any) -> Any:
        raise asyncio.CancelledError

    async def endless(*_: Any) -> Any:
        await asyncio.Event().wait()

    with pytest.raises(CandidateError, match="nobody asked") as caught:
        await as_candidate_errors(kind, cancelled)()
    assert kind.failure is caught.value.status
    task: asyncio.Task[Any]
    task = asyncio.create_task(as_candidate_errors(kind, endless)())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_other_errors_of_a_batch_stay_what_they_are() -> None:
    """A closed worker is not a candidate's fault."""

    async def closed(*_: Any) -> Any:
        raise ClosedError

    with pytest.raises(ClosedError):
        await as_candidate_errors(CALL_KINDS[0], closed)()


@pytest.mark.parametrize("outputs", ["ab", b"cd", {"a": 1, "b": 2}])
async def test_a_text_is_no_list_of_outputs(outputs: Any) -> None:
    """Two images would get a letter each."""
    stage: Stage[int, str] = Stage(name="captioner", run=lambda _: outputs, max_batch=2)
    async with Worker() as worker:
        answers = await asyncio.gather(
            *(worker.submit(stage, n) for n in range(2)), return_exceptions=True
        )
    assert {TypeError} == {type(answer) for answer in answers}


RIGHT: list[tuple[str, Any]] = [
    ("judge", Verdict(satisfied=None, missing=("a hat",))),
    ("optimizer", ("a cat",)),
    ("selector", 3),
    ("guard", ()),
    ("answerer", (Answer(said=YesNo.NO, probability=0.25),)),
]
WRONG_ANSWERS: list[tuple[str, Any]] = [
    ("judge", None),
    ("judge", True),
    ("judge", Verdict(satisfied="yes")),  # type: ignore[arg-type]
    ("judge", Verdict(satisfied=False, missing="a hat")),  # type: ignore[arg-type]
    ("judge", Verdict(satisfied=False, missing=(None,))),  # type: ignore[arg-type]
    ("judge", Verdict(satisfied=False, reason=None)),  # type: ignore[arg-type]
    ("optimizer", "a cat"),
    ("optimizer", None),
    ("optimizer", {"a cat"}),
    ("optimizer", ("a cat", None)),
    ("optimizer", ("a cat", " ")),
    ("selector", None),
    ("selector", True),
    ("selector", "0"),
    ("selector", 0.5),
    ("guard", "a cat"),
    ("answerer", (True,)),
    ("answerer", None),
    ("answerer", (Answer(said=YesNo.NO, probability=math.nan),)),
]


@pytest.mark.parametrize(("role", "answer"), RIGHT)
async def test_what_a_role_may_answer_passes(role: str, answer: Any) -> None:
    """As it is."""
    assert answer == await held_to_its_role(role, lambda: asyncio.sleep(0, answer))()


@pytest.mark.parametrize(("role", "answer"), WRONG_ANSWERS)
async def test_what_a_role_may_not_answer_is_an_error(role: str, answer: Any) -> None:
    """Of that answer, and in words."""
    with pytest.raises(AnswerError, match=r"^expected "):
        await held_to_its_role(role, lambda: asyncio.sleep(0, answer))()


async def test_a_text_is_no_tuple_of_prompts() -> None:
    """Nothing is drawn of its letters: the round is drawn from fresh noise."""

    async def optimize(history: History) -> Any:
        return "a cat"

    async def judge(history: History) -> Verdict:
        raise asyncio.CancelledError

    async def select(history: History) -> int:
        raise asyncio.CancelledError

    own = {"optimizer": optimize, "judge": judge, "selector": select}
    (done,) = await _refined(_settings(**own), ["a dog"])
    assert isinstance(done, Refinement)
    assert ["a dog", "a dog"] == [c.prompt for c in done.history.candidates]
    first, second = done.history.rounds
    assert second.error is not None
    assert "a tuple of prompts, got 'a cat'" in second.error
    assert first.verdict is not None
    assert "nobody asked for that" in first.verdict.reason
    assert "nobody asked for that" in (done.selection_error or "")


async def test_cancelling_a_role_cancels_it() -> None:
    """The caller's wish is no answer."""
    task: asyncio.Task[Any]
    task = asyncio.create_task(held_to_its_role("judge", asyncio.Event().wait)())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_whatever_is_cancelled_inside_fails_its_prompt_alone() -> None:
    """An observer of one's own may raise anything; the caller's end of it stays one."""

    def observe(index: int, event: object) -> None:
        if index == 1:
            raise asyncio.CancelledError

    async with Refiner(_settings()) as refiner:
        done = [o async for o in refiner.refine_many(["a", "b", "c"], on_event=observe)]
    failed = {o.index: o.kind for o in done if isinstance(o, Failure)}
    assert (3, {1: "CancelledError"}) == (len(done), failed)
