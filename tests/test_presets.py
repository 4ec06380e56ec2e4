"""Presets, budgets and what else a policy is made of, from every source."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.config.profiles import PRESETS, prompts_for
from socratic_agents.config.settings import Settings
from socratic_agents.core.budget import Budget, Prices
from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.core.errors import BudgetError, ConfigurationError
from socratic_agents.core.history import StopReason
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.runtime.refine import refine_sync
from socratic_agents.runtime.refiner import Refiner
from tests.fakes import ScriptedChatModel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from socratic_agents.core.history import History


async def paint(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (seed % 256, len(prompt) % 256, 90))


async def describe(image: Image.Image) -> str:
    return f"something {image.getpixel((0, 0))}"


async def rewrite(history: History) -> tuple[str, ...]:
    return tuple(f"rewrite {len(history.candidates)}.{n}" for n in range(2))


class Seer:
    """Captions, and says yes to everything that it is asked."""

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        return ["a thing"] * len(images)

    def decide(self, questions: Sequence[tuple[Image.Image, str]]) -> list[Answer]:
        return [Answer(said=YesNo.YES, probability=0.9)] * len(questions)


class Reader:
    """Captions, and answers in words."""

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        return ["a thing"] * len(images)

    def answer(self, questions: Sequence[tuple[Image.Image, str]]) -> list[str]:
        return ["No, there is none."] * len(questions)


SMALL: dict[str, Any] = {
    "generator": paint,
    "captioner": describe,
    "scorer": None,
    "judge": "never",
    "selector": "last",
    "optimizer": rewrite,
    "prompts_per_round": 2,
}
"""Settings of a refinement that asks no model at all."""


def test_a_profile_stands_above_a_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Explicit wins over environment, that over file, profile, and preset."""
    monkeypatch.chdir(tmp_path)
    assert PRESETS["default"]["max_images"] == Settings().max_images
    assert PRESETS["thorough"]["max_images"] == Settings(preset="thorough").max_images
    (tmp_path / "socratic.toml").write_text('preset = "quick"\nrounds = 7\n')
    assert ("quick", 7, None) == (
        Settings().preset,
        Settings().rounds,
        Settings().max_images,
    )
    monkeypatch.setenv("SOCRATIC_ROUNDS", "8")
    assert 8 == Settings().rounds
    assert 9 == Settings(rounds=9).rounds


def test_the_classic_profile_is_the_classic_preset() -> None:
    """The predecessor's loop is a policy, with whatever models."""
    profile, preset = Settings(profile="classic"), Settings(preset="classic")
    assert dict(profile) | {"profile": "pocket"} == dict(preset)
    assert (None, "caption", "caption", True) == (
        preset.scorer,
        preset.judge,
        preset.selector,
        preset.fresh_noise,
    )


def test_another_preset_brings_its_policy() -> None:
    """Changing the preset of settings changes what it stands for, and no more."""
    changed = Settings(seed=5).but(preset="quick", judge="never")
    assert (5, 2, "never") == (changed.seed, changed.prompts_per_round, changed.judge)
    with pytest.raises(ConfigurationError, match="a preset"):
        Settings().but(preset="slow")


@pytest.mark.parametrize(
    ("images", "prompts"), [(1, 1), (5, 1), (6, 2), (11, 2), (12, 4), (60, 4)]
)
def test_few_images_are_spread_over_the_rounds(images: int, prompts: int) -> None:
    """A small budget leaves rounds to learn in."""
    assert prompts == prompts_for(images)
    assert prompts == Settings(max_images=images).prompts_per_round


@pytest.mark.parametrize(
    ("given", "came"),
    [
        ({}, (None, 12, 4)),
        ({"preset": "quick"}, (None, 6, 2)),
        ({"preset": "thorough"}, (None, 24, 4)),
        ({"rounds": 2}, (2, None, 4)),
        ({"rounds": 2, "max_images": 6}, (2, 6, 2)),
        ({"max_images": 6, "prompts_per_round": 5}, (None, 6, 5)),
        ({"preset": "classic"}, (6, None, 1)),
        ({"preset": "classic", "max_images": 3}, (6, 3, 1)),
    ],
)
def test_nothing_that_is_asked_for_is_lowered(
    given: dict[str, Any], came: tuple[int | None, ...]
) -> None:
    """A preset is a number of images, in whose place rounds stand where they are said."""
    settings = Settings(**given)
    assert came == (settings.rounds, settings.max_images, settings.prompts_per_round)


def test_something_ends_every_refinement() -> None:
    """Without rounds, images or a budget of images, only a search of one's own ends."""
    with pytest.raises(ConfigurationError, match="something that ends a refinement"):
        Settings(max_images=None)
    assert None is Settings(max_images=None, budget="images=5").max_images
    assert 3 == Settings(max_images=None, rounds=3).rounds


def test_another_preset_keeps_the_images_that_were_asked_for() -> None:
    """What was said outright stands above every preset; what a preset said does not."""
    assert 9 == Settings(max_images=9).but(preset="thorough").max_images
    assert 24 == Settings().but(preset="thorough").max_images
    assert (6, None) == (
        (moved := Settings().but(preset="classic")).rounds,
        moved.max_images,
    )


def test_a_captioner_that_only_captions_is_judged_by_captions() -> None:
    """A preset's checklist gives way; one that was asked for is an error."""
    settings = Settings(captioner=describe)
    assert ("caption", "clip", None) == (
        settings.judge,
        settings.selector,
        settings.guard,
    )
    assert "confirmed" == Settings(captioner=Seer()).judge
    assert "confirmed" == Settings(captioner=Reader()).judge
    assert "confirmed" == Settings(captioner=describe, answerer="llm").judge
    with pytest.raises(ConfigurationError, match="set answerer='llm'"):
        Refiner(captioner=describe, judge="checklist")


@pytest.mark.parametrize(
    "given",
    [
        Budget(images=3, llm_calls=4),
        {"images": 3, "llm_calls": 4},
        "images=3,llm-calls=4",
    ],
)
def test_budgets_come_in_every_form(
    given: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value, mapping and text say the same, and so does the environment."""
    budget = Budget(images=3, llm_calls=4)
    assert budget == Settings(budget=given).budget
    monkeypatch.setenv("SOCRATIC_RUN_BUDGET", "images=3,llm-calls=4")
    monkeypatch.setenv("SOCRATIC_PRICES", "image=0.5")
    assert budget == Settings().run_budget
    assert Prices(image=0.5) == Settings().prices
    assert budget.to_json() == Settings().public()["run_budget"]


def test_money_needs_prices() -> None:
    """A limit that could never be reached is told at once."""
    with pytest.raises(ConfigurationError, match="expected prices"):
        Settings(budget="money=1")
    assert Settings(budget="money=1", prices="image=0.5").prices is not None


@pytest.mark.parametrize(
    ("budget", "images"),
    [("images=4", 4), ("money=2", 5), ("images=1", 1)],
)
def test_a_spent_budget_ends_with_the_best_so_far(budget: str, images: int) -> None:
    """Images are never passed; money by no more than the round in flight."""
    result = refine_sync(
        "a thing",
        **SMALL,
        rounds=9,
        budget=budget,
        prices="image=0.5",
    )
    assert (StopReason.BUDGET_SPENT, images) == (result.stop, result.usage.images)
    assert images * 0.5 == result.usage.money


def test_seconds_end_a_refinement() -> None:
    """Time is a budget, too."""
    result = refine_sync("a thing", **SMALL, rounds=9, budget="seconds=0.000001")
    assert (StopReason.BUDGET_SPENT, 1) == (result.stop, result.usage.images)


def test_calls_end_a_refinement() -> None:
    """The language model is not asked beyond its budget."""
    result = refine_sync("a crimson ball", budget="llm-calls=2", seed=4, rounds=5)
    assert StopReason.BUDGET_SPENT == result.stop
    assert 2 == result.usage.llm_calls


def test_a_run_has_a_budget_of_its_own() -> None:
    """Prompts that begin when it is spent are failures that say so."""

    async def run() -> list[Refinement | Failure]:
        settings: dict[str, Any] = {"run_budget": "images=4", "in_flight": 1}
        async with Refiner(**SMALL, **settings, rounds=2) as refiner:
            return [o async for o in refiner.refine_many(["one", "two", "three"])]

    first, second, third = asyncio.run(run())
    assert isinstance(first, Refinement)
    assert isinstance(second, Refinement)
    assert isinstance(third, Failure)
    assert (3, 1) == (first.usage.images, second.usage.images)
    assert StopReason.BUDGET_SPENT == second.stop
    assert BudgetError.__name__ == third.kind
    assert "4 of 4 images" in third.error


@pytest.mark.parametrize(
    ("captioner", "satisfied"), [(Seer(), True), (Reader(), False)]
)
def test_a_captioner_of_ones_own_answers(captioner: object, *, satisfied: bool) -> None:
    """It decides, or writes words of which the first one counts."""
    result = refine_sync(
        "a ball",
        generator=paint,
        captioner=captioner,
        scorer=None,
        judge="checklist",
        rounds=1,
    )
    assert satisfied == (result.stop == StopReason.SATISFIED)
    assert {"checklist": float(satisfied)} == result.best.scores


@pytest.mark.parametrize(
    "settings",
    [
        {"judge": "vision"},
        {"selector": "vision"},
        {"optimizer_template": "vision"},
        {"answerer": "llm"},
    ],
)
def test_a_language_model_that_sees_nothing_is_refused(
    settings: dict[str, Any],
) -> None:
    """It is told before the first image is drawn."""
    drawn: list[str] = []

    async def watched(prompt: str, seed: int) -> Image.Image:
        drawn.append(prompt)
        return await paint(prompt, seed)

    with pytest.raises(ConfigurationError, match="an llm that sees images"):
        refine_sync("a ball", generator=watched, **settings)
    assert [] == drawn


def test_vision_roles_open_for_a_model_that_may_see() -> None:
    """A model that does not say what it sees is given the chance."""
    llm = ScriptedChatModel(script=[{"reason": "r", "missing": [], "satisfied": True}])
    result = refine_sync(
        "a ball",
        generator=paint,
        captioner=describe,
        scorer=None,
        llm=llm,
        judge="vision",
        selector="vision",
        optimizer=rewrite,
    )
    assert StopReason.SATISFIED == result.stop
    assert "image" in str(llm.asked[0][-1].content)


def test_a_language_model_answers_the_checklist() -> None:
    """With answerer 'llm' it writes the list, and answers it on the image."""
    question = {
        "requirement": "a ball",
        "question": "Is there a ball?",
        "needs": [],
        "instead": "",
    }
    script = [
        {"questions": [question]},
        {"answers": [{"number": 1, "answer": "yes"}]},
        {"reason": "It is there.", "missing": [], "satisfied": True},
    ]
    result = refine_sync(
        "a ball",
        generator=paint,
        captioner=describe,
        scorer=None,
        llm=ScriptedChatModel(script=script),
        answerer="llm",
    )
    assert StopReason.SATISFIED == result.stop
    assert {"checklist": 1.0} == result.best.scores


def test_the_captioner_scores_the_whole_prompt() -> None:
    """P(yes) is recorded under its method and model."""
    result = refine_sync("a red circle", scorer="captioner", rounds=1, seed=2)
    assert ["checklist", "p_yes pocket"] == list(result.best.scores)
    assert 0 <= result.best.scores["p_yes pocket"] <= 1


def test_the_order_of_scores_follows_the_selector() -> None:
    """Who selects by CLIP alone ranks by it; elsewhere it breaks ties."""
    for selector, order in (
        ("checklist", ["checklist", "clip"]),
        ("clip", ["clip", "checklist"]),
    ):
        result = refine_sync("a red circle", selector=selector, rounds=1, seed=2)
        assert order == list(result.best.scores)


def test_a_scorer_that_fails_costs_no_answers() -> None:
    """What was answered stays, although nothing breaks its ties."""

    async def broken(prompt: str, image: Image.Image) -> float:
        raise LookupError(prompt)

    result = refine_sync(
        "a ball", generator=paint, captioner=Seer(), scorer=broken, rounds=1
    )
    assert {"checklist": 1.0} == result.best.scores


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_runs(preset: str) -> None:
    """Each policy refines a prompt of the pocket world."""
    result = refine_sync("a crimson ball", preset=preset, seed=4, max_images=3)
    assert 1 <= result.usage.images <= 3
    assert preset == result.settings["preset"]


def test_a_receipt_compares_with_the_user_prompt_alone() -> None:
    """It is asked for by a setting, and comes with the refinement."""
    result = refine_sync("a crimson ball", receipt=True, seed=4, max_images=3)
    assert result.receipt is not None
    assert ("oracle", True) == (result.receipt.metric, result.receipt.independent)
    assert result.usage.images == result.receipt.images
