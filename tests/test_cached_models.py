"""Steps: what a journal knows is neither drawn, nor looked at, nor asked again."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.config.catalog import CLIP, REVISIONS
from socratic_agents.config.settings import Settings
from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.core.errors import CandidateError, ConfigurationError
from socratic_agents.core.history import Status
from socratic_agents.llm.usage import using_meter
from socratic_agents.runtime.cached_models import (
    language_model_identity,
    model_identity,
    with_journal,
)
from socratic_agents.runtime.image_models import ImageModels
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.storage.run_directory import RunDirectory
from tests.fakes import ScriptedChatModel

if TYPE_CHECKING:
    from pathlib import Path


class Models:
    """Counts what is asked of it."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        self.asked["generate"] += 1
        await asyncio.sleep(0)
        if prompt == "black":
            raise CandidateError(Status.NUMERICAL_FAILURE, "the image is black")
        image = Image.new("RGB", (8, 8), (len(prompt), seed % 256, 9))
        image.info["truncated_tokens"] = 3
        return image

    async def caption(self, image: Image.Image) -> str:
        self.asked["caption"] += 1
        return f"a caption of {image.getpixel((0, 0))}"

    async def decide(self, image: Image.Image, question: str) -> Answer:
        self.asked["decide"] += 1
        return Answer(said=YesNo.YES, probability=0.75)

    async def look(self, image: Image.Image, question: str) -> str:
        self.asked["look"] += 1
        return question.upper()

    async def score(self, text: str, image: Image.Image) -> float:
        self.asked["score"] += 1
        return 0.5

    def image_models(self) -> ImageModels:
        return ImageModels(
            generate=self.generate,
            caption=self.caption,
            answer_yes_no=self.decide,
            answer_open=self.look,
            score=self.score,
        )


SETTINGS = Settings()


def kept(
    models: Models, run: RunDirectory, settings: Settings = SETTINGS
) -> ImageModels:
    return with_journal(models.image_models(), run.journal, settings, images=run.images)


async def everything(image_models: ImageModels, prompt: str = "a ball") -> list[Any]:
    """Ask all that can be asked of one image."""
    image = await image_models.generate(prompt, 7)
    assert image_models.answer_yes_no is not None
    assert image_models.answer_open is not None
    assert image_models.score is not None
    return [
        image,
        await image_models.caption(image),
        await image_models.answer_yes_no(image, "is it red ?"),
        await image_models.answer_open(image, "what is it ?"),
        await image_models.score("a ball", image),
    ]


async def test_nothing_is_done_twice(tmp_path: Path) -> None:
    """Neither by one process nor by the next; answers are the same."""
    models, told = Models(), list[list[Any]]()
    for _ in range(2):
        with RunDirectory(tmp_path, settings={}) as run:
            image_models = kept(models, run)
            told += [await everything(image_models), await everything(image_models)]
    assert {1} == set(models.asked.values())
    assert 5 == len(models.asked)
    for one in told[1:]:
        assert told[0] == one
    assert 3 == told[-1][0].info["truncated_tokens"]


async def test_each_input_is_a_step_of_its_own(tmp_path: Path) -> None:
    """Another prompt, seed, question, text, or image."""
    models = Models()
    with RunDirectory(tmp_path, settings={}) as run:
        image_models = kept(models, run)
        one = await image_models.generate("a ball", 1)
        other = await image_models.generate("a ball", 2)
        await image_models.generate("a box", 1)
        for image in (one, other):
            await image_models.caption(image)
            for question in ("a ?", "b ?"):
                assert image_models.answer_yes_no is not None
                await image_models.answer_yes_no(image, question)
    assert {"generate": 3, "caption": 2, "decide": 4} == models.asked


async def test_those_who_draw_the_same_at_once_share_it(tmp_path: Path) -> None:
    """It is charged to each as if it had been drawn for him alone."""
    models = Models()
    with RunDirectory(tmp_path, settings={}) as run, using_meter() as meter:
        image_models = kept(models, run)
        images = await asyncio.gather(
            *(image_models.generate("a ball", 7) for _ in "abc")
        )
    assert images[0] is images[1] is images[2]
    assert 1 == models.asked["generate"]
    # The one that was really drawn is counted by the model itself.
    assert 2 == meter.images


async def test_a_spoilt_image_is_drawn_again(tmp_path: Path) -> None:
    """And nothing else is done again, for it is the same image."""
    models = Models()
    with RunDirectory(tmp_path, settings={}) as run:
        before = await everything(kept(models, run))
    (path,) = (tmp_path / "objects").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with RunDirectory(tmp_path, settings={}) as run:
        assert before == await everything(kept(models, run))
        assert 1 == run.quarantined
    assert 2 == models.asked.pop("generate")
    assert {1} == set(models.asked.values())
    with RunDirectory(tmp_path, settings={}) as run:
        assert before == await everything(kept(models, run))
    assert 0 == models.asked["generate"]


async def test_a_failure_is_no_finished_step(tmp_path: Path) -> None:
    """It may go better the next time."""
    models = Models()
    with RunDirectory(tmp_path, settings={}) as run:
        image_models = kept(models, run)
        for _ in range(2):
            with pytest.raises(CandidateError):
                await image_models.generate("black", 7)
        assert 0 == len(run.journal)
    assert 2 == models.asked["generate"]


async def test_a_cache_serves_other_runs(tmp_path: Path) -> None:
    """With the same models and the same inputs."""
    models, cache = Models(), tmp_path / "cache"
    for name in ("one", "two"):
        with RunDirectory(tmp_path / name, settings={}, cache=cache) as run:
            await everything(kept(models, run))
    assert {1} == set(models.asked.values())
    with RunDirectory(tmp_path / "three", settings={}, cache=cache) as run:
        await everything(kept(models, run, SETTINGS.but(steps=3)))
    # The image was the same, so what is known of it still holds.
    assert {"generate": 2, "caption": 1, "decide": 1, "look": 1, "score": 1} == (
        models.asked
    )


@pytest.mark.parametrize("reader", [None, "reader/one"])
async def test_what_was_read_belongs_to_the_reader(
    tmp_path: Path, reader: str | None
) -> None:
    """Where there is one; another captioner reads no other text then."""
    asked: Counter[str] = Counter()

    async def read(image: Image.Image, question: str) -> str:
        asked[question] += 1
        return "OPEN"

    image, models = (
        Image.new("RGB", (4, 4)),
        replace(Models().image_models(), read_text=read),
    )
    for name, captioner in (("one", "eye/one"), ("two", "eye/two")):
        settings = Settings(captioner=captioner, reader=reader)
        folder, cache = tmp_path / name, tmp_path / "cache"
        with RunDirectory(folder, settings={}, cache=cache) as run:
            cached = with_journal(models, run.journal, settings, images=run.images)
            assert cached.read_text is not None
            assert "OPEN" == await cached.read_text(image, "What?")
    assert (1 if reader else 2) == asked["What?"]


def test_a_model_is_told_by_what_decides_its_answers(tmp_path: Path) -> None:
    """Not by where it runs, or how fast."""
    settings = Settings(profile="local-80gb", scorer=CLIP)
    known = model_identity(settings, "generator")
    assert REVISIONS[settings.generator] == known["revision"]
    assert known == model_identity(settings.but(device="cpu", strict=True), "generator")
    assert known != model_identity(settings.but(steps=3), "generator")
    assert known != model_identity(settings.but(dtype="float32"), "generator")
    assert "package" in model_identity(SETTINGS, "captioner")
    (tmp_path / "config.json").write_text("{}")
    folder = settings.but(captioner=str(tmp_path))
    first = model_identity(folder, "captioner")
    assert first == model_identity(folder, "captioner")
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert first != model_identity(folder, "captioner")
    clip, fit = settings, settings.but(scorer="captioner")
    assert model_identity(clip, "scorer") != model_identity(fit, "scorer")


def test_a_speaker_is_told_by_model_server_and_temperature() -> None:
    """And by nothing secret."""
    settings = Settings(profile="predecessor", api_key="secret")
    known = language_model_identity(settings)
    assert "secret" not in str(known)
    assert known != language_model_identity(settings.but(temperature=0.5))
    assert known != language_model_identity(
        settings.but(base_url="http://127.0.0.1:1/v1")
    )
    assert known == language_model_identity(settings.but(seed=3))
    own = settings.but(llm=ScriptedChatModel(script=[]))
    assert "ScriptedChatModel" == language_model_identity(own)["llm"]


async def test_a_refiner_is_told_of_its_run_before_it_opens(tmp_path: Path) -> None:
    """Later it would be too late: some steps were done."""
    with RunDirectory(tmp_path, settings={}) as run:
        refiner = Refiner()
        refiner.remember(run)
        await refiner.agents()
        with pytest.raises(ConfigurationError, match="call remember first"):
            refiner.remember(run)
        await refiner.aclose()


async def test_a_refinement_comes_out_of_its_journal(tmp_path: Path) -> None:
    """Equal but for the seconds: language model, images and everything counted."""
    outcomes = []
    for folder in ("once", "once", "cached"):
        cache = tmp_path / "cache"
        path = tmp_path / folder
        with RunDirectory(path, settings={}, cache=cache) as run:
            async with Refiner(seed=3).remember(run) as refiner:
                refinement = await refiner.refine("a crimson ball above an azure box")
            outcomes.append(refinement.to_json())
            outcomes[-1]["usage"].pop("seconds")
            if len(outcomes) > 1:
                assert 0 == run.journal.added.total()
                assert 5 == run.journal.reused["generate"]
                assert 4 == run.journal.reused["llm"]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert 5 == outcomes[0]["usage"]["images"]
    assert 4 == outcomes[0]["usage"]["llm_calls"]
