"""The pocket models as they are shipped: small samples of their card's figures."""

from __future__ import annotations

import asyncio
import json

import pytest

from socratic_agents import Refiner, StopReason
from socratic_agents.lab.pocket_card import (
    _attributes,
    caption_figures,
    generator_figures,
    main,
    refinement_figures,
)
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.clip import Clip
from socratic_agents.pocket import (
    Scene,
    SceneObject,
    read_scene,
    render,
    sample_prompts,
    weights_folder,
)


def test_the_weights_are_small() -> None:
    """All weights have at most 12 MB; there is no pickle, and no path of a machine."""
    files = [f for f in weights_folder("scorer").parent.rglob("*") if f.is_file()]

    assert 12e6 > sum(file.stat().st_size for file in files)
    assert {".json", ".safetensors"} == {file.suffix for file in files}
    for file in files:
        if file.suffix == ".json":
            assert "_name_or_path" not in file.read_text("utf-8"), file.name


def test_a_caption_that_is_no_scene_tells_nothing_of_one() -> None:
    """Nor does one with another number of things."""
    scene = Scene((SceneObject("circle", "red", "large", 32, 32),), "white")
    assert 0 == _attributes("the of and", scene)
    assert 0 == _attributes("a red circle above a blue square", scene)
    assert 0 < _attributes("a large red circle", scene) <= 1


def test_the_generator_follows_its_own_words_and_no_others() -> None:
    """Canonical prompts are drawn; foreign ones leave something to refine."""
    figures = generator_figures(24, 11)

    assert figures["canonical"]["mean"] >= 0.93
    assert figures["foreign"]["mean"] <= figures["canonical"]["mean"] - 0.15


def test_the_captioner_tells_what_is_there() -> None:
    """Captions of rendered scenes are right in nine of ten attributes."""
    assert caption_figures(100, 11)["attributes"] >= 0.9


def test_the_captioner_answers_questions() -> None:
    """Questions are answered on the image, in foreign words as well."""
    captioner = Captioner.load(
        str(weights_folder("captioner")),
        question_format="question: {question} answer:",
    )
    image = render(Scene((SceneObject("circle", "red", "large", 32, 32),), "white"))
    questions = {
        "is there a red circle ?": "yes",
        "is there a crimson ball ?": "yes",
        "is there a blue square ?": "no",
        "is the background white ?": "yes",
        "is the background black ?": "no",
        "what color is the circle ?": "red",
    }
    answers = captioner.answer([(image, question) for question in questions])

    assert list(questions.values()) == answers


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("a crimson ball above an azure box", "a crimson ball beneath an azure box"),
        ("a red circle above a blue square", "a blue circle above a red square"),
        ("a red circle above a blue square", "a red circle above a green square"),
        ("a red circle above a blue square", "a red ring above a blue square"),
    ],
)
def test_the_scorer_tells_near_misses(right: str, wrong: str) -> None:
    """A prompt that is true of the image scores higher than one that is nearly."""
    scorer = Clip.load(str(weights_folder("scorer")), prefix="")
    objects = (
        SceneObject("circle", "red", "large", 32, 16),
        SceneObject("square", "blue", "small", 32, 48),
    )
    image = render(Scene(objects, "gray"))
    true, false = scorer.score([(right, image), (wrong, image)])

    assert true > false + 0.1


def test_refining_helps_foreign_prompts() -> None:
    """The returned image shows more of what was asked than the first, on average."""
    figures = asyncio.run(refinement_figures(6, 12, 4))["foreign"]

    assert 0 == figures["below_first"]
    assert 0 == figures["failed"]
    assert figures["returned"]["mean"] >= figures["first"]["mean"] + 0.15


async def test_the_same_seed_is_the_same_refinement() -> None:
    """Prompts, captions, scores and pixels come again, also among neighbours."""
    prompt = "a crimson ball above an azure box"
    async with Refiner(seed=7, rounds=2) as refiner:
        alone = await refiner.refine(prompt)
        prompts = [*sample_prompts(2, 1, "foreign"), prompt]
        among = {o.index: o async for o in refiner.refine_many(prompts)}[2]

    assert alone.history == among.history
    assert alone.stop in {StopReason.SATISFIED, StopReason.ROUNDS_SPENT}
    assert alone.best.image is not None
    assert read_scene(alone.best.image).agreement(prompt) >= 0.5


def test_the_card_prints_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """The command of the model card prints one JSON object."""
    main(["-n", "2", "--rounds", "1", "--seed", "3"])
    figures = json.loads(capsys.readouterr().out)

    assert {"captioner", "generator", "megabytes", "n", "refinement", "seed"} == set(
        figures
    )
    assert 1.0 == figures["refinement"]["foreign"]["images"]
