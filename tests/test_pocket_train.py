"""Training of the pocket models: short runs of the real recipe."""

from __future__ import annotations

import itertools
import json
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from socratic_agents.models.captioning import Captioner
from socratic_agents.models.clip import Clip
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.pocket import SAMPLING, render
from socratic_agents.pocket.prompt_parser import parse_prompt
from socratic_agents.pocket.prompt_writer import caption
from socratic_agents.pocket.scene import PALETTE, Scene, SceneObject, sample_scene
from socratic_agents.pocket.train.__main__ import main
from socratic_agents.pocket.train.data import SLOTS, describe, draw_scenes, mutate
from socratic_agents.pocket.train.generated_images import generated_examples
from socratic_agents.pocket.train.questions import (
    CHECKS,
    PLACES,
    QUESTION_WORDS,
    ask_about,
    places,
)
from socratic_agents.pocket.train.tokenizers import EVERY, GLUE
from socratic_agents.pocket.train.trainer import fit
from socratic_agents.pocket.vocabulary import FOREIGN

if TYPE_CHECKING:
    from pathlib import Path


def test_an_interrupted_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """What was done before the last checkpoint is not done again."""
    seen: list[int] = []

    def loss_of(module: torch.nn.Module, stop: int) -> Any:
        def loss(step: int) -> torch.Tensor:
            seen.append(step)
            if step == stop:
                raise KeyboardInterrupt
            return module(torch.ones(1, 2)).square().mean()

        return loss

    def run(stop: int) -> torch.nn.Module:
        torch.manual_seed(0)
        module = torch.nn.Linear(2, 1)
        fit(module, loss_of(module, stop), tmp_path, steps=500, learning_rate=0.01)
        return module

    with pytest.raises(KeyboardInterrupt):
        run(stop=300)
    assert 301 == len(seen)
    module = run(stop=-1)
    assert list(range(250, 500)) == seen[301:]
    assert abs(module(torch.ones(1, 2)).item()) < 0.1
    run(stop=-1)
    assert 551 == len(seen)
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()
    ]
    assert 500 == steps[-1]


@pytest.mark.filterwarnings("ignore::UserWarning")  # one step learns nothing
def test_the_recipe_makes_models_that_the_library_loads(tmp_path: Path) -> None:
    """Every stage runs, is kept, and comes out as a folder of a stock class."""
    out = tmp_path / "weights"
    arguments = ["--effort", "0", "--scenes", "100", "--threads", "1"]
    arguments += ["--folder", str(tmp_path / "run"), "--out", str(out)]
    main(arguments)
    (image,) = Diffusion.load(str(out / "generator"), **SAMPLING)([("a red ring", 1)])
    captioner = Captioner.load(str(out / "captioner"))
    scorer = Clip.load(str(out / "scorer"), prefix="")

    assert not isinstance(image, Exception)
    assert (64, 64) == image.size
    assert 1 == len(captioner.caption([image]))
    assert 0 <= scorer.score([("a crimson hoop", image)])[0] <= 2.5
    grids = sorted(path.name for path in (tmp_path / "run").rglob("*.png"))
    assert ["samples-1.png"] == grids
    before = (out / "scorer" / "open_clip_model.safetensors").read_bytes()
    main([*arguments, "--stage", "scorer"])
    main([*arguments, "--stage", "generator"])  # its parts now come from a folder
    for config in out.rglob("config.json"):
        assert "_name_or_path" not in config.read_text("utf-8")
    assert before == (out / "scorer" / "open_clip_model.safetensors").read_bytes()
    # Another run goes on from a captioner that was shipped before.
    again = ["--folder", str(tmp_path / "again"), "--start", str(out / "captioner")]
    main([*arguments, "--stage", "captioner", *again])
    for config in out.rglob("config.json"):
        assert str(tmp_path) not in config.read_text("utf-8")


class Renderer:
    """Stands in for a trained generator: renders the same scenes again and again."""

    def __init__(self, *scenes: Scene) -> None:
        self.images = itertools.cycle([render(scene) for scene in scenes])
        self.seeds = list[int]()

    def __call__(self, texts: list[str], **options: Any) -> SimpleNamespace:
        self.seeds += [one.initial_seed() for one in options["generator"]]
        return SimpleNamespace(images=[next(self.images) for _ in texts])


def test_examples_are_what_the_oracle_saw(tmp_path: Path) -> None:
    """Where it saw one or two things; each has a seed of its own, and is drawn once."""
    one = Scene((SceneObject("circle", "red", "large", 32, 32),), "white")
    drawing: Any = Renderer(one, Scene((), "black"))
    scenes, pixels = generated_examples(tmp_path, drawing, 20)
    assert list(range(43, 63)) == drawing.seeds
    assert 10 == len(scenes)
    assert {("circle", "red", "white")} == {
        (scene.objects[0].shape, scene.objects[0].colour, scene.background)
        for scene in scenes
    }
    assert (10, 3, 64, 64) == pixels.shape
    darkest, lightest = min(PALETTE["red"]), max(PALETTE["white"])
    ends = [value / 127.5 - 1 for value in (darkest, lightest)]
    assert ends == pytest.approx([float(pixels.min()), float(pixels.max())])
    again, _ = generated_examples(tmp_path, drawing, 20)
    assert scenes == again
    assert 20 == len(drawing.seeds)


def test_images_that_show_nothing_are_no_examples(tmp_path: Path) -> None:
    """Then there are none."""
    drawing: Any = Renderer(Scene((), "black"))
    scenes, pixels = generated_examples(tmp_path, drawing, 3)
    assert ([], (0, 3, 64, 64)) == (scenes, pixels.shape)


def test_sayings_are_true_of_their_scene() -> None:
    """What is said of a scene in training agrees with it wholly."""
    rng = random.Random(1)
    for scene in draw_scenes(rng, 300):
        description = describe(scene, rng, unknown=0.0)
        assert 1 == scene.spec_agreement(description.spec)
        assert set(SLOTS) == set(description.slots())
        assert all(
            0 <= number < SLOTS[slot] for slot, number in description.slots().items()
        )


def test_sayings_hide_some_words() -> None:
    """Some descriptions have unknown words, so that the generator bears them."""
    rng = random.Random(2)
    texts = [describe(scene, rng).text for scene in draw_scenes(rng, 500)]

    assert 20 < sum("<unk>" in text for text in texts) < 120


def test_a_mutated_scene_is_another_one() -> None:
    """A hard negative differs in something that can be said, but for twins."""
    rng = random.Random(3)
    for scene in draw_scenes(rng, 300):
        other = mutate(scene, rng)
        same = other.spec_agreement(parse_prompt(caption(scene))) == 1
        twins = len({(t.shape, t.colour, t.size) for t in scene.objects}) == 1
        partly = len(scene.objects) == 2
        assert not same or twins or partly


def test_answers_are_true() -> None:
    """Questions have words that the captioner knows, and answers that are right."""
    rng = random.Random(4)
    words = {*EVERY, *GLUE, *QUESTION_WORDS}
    answers = {"yes": 0, "no": 0}
    for _ in range(2000):
        scene = sample_scene(rng)
        question, answer = ask_about(scene, rng)
        assert set(question.split()) <= words
        assert set(answer.split()) <= words
        if answer in answers:
            answers[answer] += 1

    assert 0.9 < answers["yes"] / answers["no"] < 1.1


def test_most_questions_have_foreign_words() -> None:
    """People ask in their own words, so that is what the captioner learns."""
    rng = random.Random(6)
    theirs = {word for words in FOREIGN.values() for word in words}
    asked = [ask_about(sample_scene(rng), rng)[0] for _ in range(1000)]

    assert 500 < sum(not theirs.isdisjoint(text.split()) for text in asked) < 750


@pytest.mark.parametrize("kind", CHECKS)
def test_a_checklist_is_answered_as_often_by_yes_as_by_no(kind: str) -> None:
    """Whoever always says yes is right in one half of each kind of question."""
    rng = random.Random(7)
    scenes = [sample_scene(rng, pair=1.0) for _ in range(1000)]
    answers = [ask_about(scene, rng, kind=kind)[1] for scene in scenes]

    assert {"yes", "no"} == set(answers)
    assert 430 < answers.count("yes") < 570


def test_places_of_what_a_question_names() -> None:
    """Of each noun it is known where in the image its objects stand."""
    ball = SceneObject("circle", "red", "small", 16, 32)
    ring = SceneObject("ring", "red", "large", 48, 32)
    pair, alone = Scene((ball, ring), "white"), Scene((ball,), "white")

    assert {"left", "right"} < set(PLACES)
    assert [(2, "left"), (8, "right")] == places(
        "is the ball west of the big crimson hoop ?", pair
    )
    assert [(4, "everywhere")] == places("is there a scarlet thing ?", pair)
    assert [(3, "nowhere")] == places("is there a box ?", pair)
    assert [(2, "everywhere")] == places("is the ball tiny ?", alone)
    assert [] == places("are there two objects ?", pair)
    assert [] == places("is there a white background ?", pair)


def test_questions_about_one_scene() -> None:
    """Of a known scene, the answers to all kinds of questions are as they should be."""
    objects = (
        SceneObject("circle", "red", "small", 16, 32),
        SceneObject("ring", "blue", "large", 48, 32),
    )
    scene = Scene(objects, "white")
    true_answer = {
        "is the red circle left of the blue ring ?": "yes",
        "is the red circle right of the blue ring ?": "no",
        "is the background white ?": "yes",
        "are there two objects ?": "yes",
        "is there one object ?": "no",
        "what color is the ring ?": "blue",
        "what shape is the red thing ?": "circle",
        "is the ring large ?": "yes",
    }
    rng = random.Random(5)
    asked = dict(
        itertools.islice((ask_about(scene, rng) for _ in itertools.count()), 9000)
    )

    for question, answer in true_answer.items():
        assert answer == asked[question], question
    assert render(scene).size == (64, 64)
