"""The pocket world and its oracle.

Invariants:
I1 What is drawn is what is read: every rendered scene is read back exactly.
I2 Agreement is in [0, 1], and 1 exactly for the scene's own description.
I3 A change for the worse never raises the agreement.
I4 The same seed makes the same prompts, and every prompt can be drawn.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.core.errors import UnknownWordError
from socratic_agents.pocket import read_scene, render, sample_prompts
from socratic_agents.pocket.prompt_parser import check, parse_prompt
from socratic_agents.pocket.prompt_writer import caption
from socratic_agents.pocket.scene import PALETTE, SIDE, Scene, SceneObject, sample_scene
from socratic_agents.pocket.train.data import mutate
from socratic_agents.pocket.vocabulary import FOREIGN

scenes = st.integers(0, 2**32).map(lambda seed: sample_scene(random.Random(seed)))


@given(scenes)
def test_a_rendered_scene_is_read_back(scene: Scene) -> None:
    """I1: objects, colours, sizes, places and background come back as drawn."""
    seen = read_scene(render(scene))

    assert scene.background == seen.background
    drawn = sorted(scene.objects, key=lambda t: (round(t.x), round(t.y)))
    parse_known = sorted(seen.objects, key=lambda t: (round(t.x), round(t.y)))
    assert {(t.shape, t.colour, t.size) for t in drawn} == {
        (t.shape, t.colour, t.size) for t in parse_known
    }
    assert 1.0 == seen.agreement(caption(scene))


@given(scenes, st.sampled_from([32, 128, 300]))
def test_size_and_mode_of_an_image_do_not_matter(scene: Scene, side: int) -> None:
    """An image of another size or with an alpha channel is read just as well."""
    image = render(scene).resize((side, side), Image.Resampling.LANCZOS)
    seen = read_scene(image.convert("RGBA"))

    assert scene.background == seen.background
    assert len(scene.objects) == len(seen.objects)


@given(scenes, st.integers(0, 2**32))
def test_a_near_miss_agrees_less(scene: Scene, seed: int) -> None:
    """I2, I3: only a scene that shows everything agrees wholly."""
    other = mutate(scene, random.Random(seed))
    agreement = read_scene(render(other)).agreement(caption(scene))

    assert 0 <= agreement <= 1
    same = caption(other) == caption(scene) or caption(
        Scene(other.objects[::-1], other.background)
    ) == caption(scene)
    assert same == (agreement == 1)


def test_every_part_counts_the_same() -> None:
    """Count, shapes, colours, sizes, relation and background weigh alike."""
    scene = Scene(
        (
            SceneObject("circle", "red", "small", 16, 32),
            SceneObject("ring", "blue", "large", 48, 32),
        ),
        "white",
    )
    prompt = "a small red circle left of a large blue ring on a white background"

    assert 1 == scene.agreement(prompt)
    assert 5 / 6 == pytest.approx(replace(scene, background="black").agreement(prompt))
    one_colour = replace(scene.objects[1], colour="green")
    wrong = Scene((scene.objects[0], one_colour), "white")
    assert 5.5 / 6 == pytest.approx(wrong.agreement(prompt))
    assert 5 / 6 == pytest.approx(scene.agreement(prompt.replace("left of", "above")))


def test_what_is_not_asked_for_does_not_count() -> None:
    """A prompt that leaves the rest open is content with anything there."""
    scene = Scene((SceneObject("cross", "pink", "large", 30, 30),), "gray")

    assert 1 == scene.agreement("a fuchsia plus")
    assert 1 == scene.agreement("a cross")
    assert 0.5 == scene.agreement("a ring")


def test_an_empty_image_agrees_with_the_background_at_most() -> None:
    """Nothing drawn is nothing right, but for the background."""
    seen = read_scene(Image.new("RGB", (SIDE, SIDE), "white"))

    assert () == seen.objects
    assert 0 == seen.agreement("a red circle")
    assert 0.25 == seen.agreement("a red circle on a white background")


def test_a_blob_is_no_shape() -> None:
    """What resembles no shape is called unknown, and is never right."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    image.paste((222, 38, 44), (4, 30, 60, 34))
    (obj,) = read_scene(image).objects

    assert ("unknown", "red") == (obj.shape, obj.colour)


def test_two_objects_that_touch_are_two() -> None:
    """A thin bridge between two shapes makes no third one of them."""
    left, right = (SceneObject("triangle", "cyan", "large", x, 32) for x in (17, 47))
    picture = render(Scene((left, right), "black")).convert("RGB")
    picture.paste(PALETTE["cyan"], (29, 38, 35, 40))
    seen = read_scene(picture)

    assert ["triangle", "triangle"] == [obj.shape for obj in seen.objects]
    assert 1 == seen.agreement("a cyan triangle left of a cyan triangle")


def test_agreement_refuses_unknown_words() -> None:
    """A prompt from outside the little world has no agreement at all."""
    with pytest.raises(UnknownWordError):
        Scene((), "white").agreement("a horse")


@given(st.integers(), st.sampled_from(["canonical", "foreign", "terse"]))
def test_sampled_prompts_can_be_drawn(seed: int, kind: str) -> None:
    """I4: prompts of every kind are repeatable and within the world."""
    prompts = sample_prompts(5, seed, kind)  # type: ignore[arg-type]

    assert prompts == sample_prompts(5, seed, kind)  # type: ignore[arg-type]
    for prompt in prompts:
        check(prompt)


def test_foreign_prompts_have_foreign_words() -> None:
    """A foreign prompt has at least one word that the generator never saw."""
    words = {word for three in FOREIGN.values() for word in three}

    for prompt in sample_prompts(200, 3, "foreign"):
        assert words & set(prompt.split())
    for prompt in sample_prompts(200, 3, "canonical"):
        assert not words & set(prompt.split())


def test_a_third_of_the_prompts_have_two_objects() -> None:
    """Every kind has two objects in at least a third of its prompts."""
    for kind in ("canonical", "foreign", "terse"):
        prompts = sample_prompts(300, 8, kind)
        pairs = sum(len(parse_prompt(prompt).objects) == 2 for prompt in prompts)
        assert pairs >= 100


def test_an_unknown_kind_is_refused() -> None:
    """A kind that does not exist is named together with those that do."""
    with pytest.raises(ValueError, match="canonical, foreign or terse"):
        sample_prompts(1, 0, "rude")  # type: ignore[arg-type]
