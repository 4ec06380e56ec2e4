"""Policies: settings and twists of what is compared, and who may measure them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import AnswerError, ConfigurationError
from socratic_agents.core.history import Candidate, History, Round, Verdict
from socratic_agents.core.loop import Agents
from socratic_agents.lab.compare.arms import ARMS, MOST, find_arms
from socratic_agents.lab.metrics.open import open_metric
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping


def _settings(
    name: str, images: int = 6, given: Mapping[str, Any] | None = None
) -> Settings:
    base = Settings(**(given or {}))
    return ARMS[name].settings(base, images, given or {})


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("images", [1, 6, 12])
def test_no_policy_may_draw_more(name: str, images: int) -> None:
    """The number of images is the one thing that all arms have in common."""
    assert images == _settings(name, images).max_images


def test_baselines_spend_all_on_one_prompt() -> None:
    """They select like ours, ask no judge, and check no rewrites."""
    for name, seeds in (("first", 1), ("best_of_n", 6), ("expand", 6)):
        settings = _settings(name, given={"selector": "clip", "rounds": 9})
        assert (1, seeds) == (settings.rounds, settings.seeds_per_prompt)
        assert ("never", "clip", None) == (
            settings.judge,
            settings.selector,
            settings.guard,
        )


def test_the_predecessor_stays_as_it_was() -> None:
    """Nothing that is set for ours changes it: one image a round, fresh noise."""
    given = {
        "selector": "clip",
        "prompts_per_round": 4,
        "seeds_per_prompt": 2,
        "judge_template": "vision",
        "selector_template": "vision",
    }
    for name, selector in (("classic_last", "last"), ("classic_caption", "caption")):
        settings = _settings(name, given=given)
        assert (6, 1, 1) == (
            settings.rounds,
            settings.prompts_per_round,
            settings.seeds_per_prompt,
        )
        assert ("caption", selector, "classic") == (
            settings.judge,
            settings.selector,
            settings.optimizer_template,
        )
        assert (None, None) == (settings.judge_template, settings.selector_template)
        assert (None, None, True) == (
            settings.scorer,
            settings.guard,
            settings.fresh_noise,
        )


def test_ours_take_what_is_set_outright() -> None:
    """A preset gives way to the person, and an ablation to nobody."""
    assert 3 == _settings("default", given={"prompts_per_round": 3}).prompts_per_round
    assert 2 == _settings("default").prompts_per_round
    assert _settings("no_guard", given={"guard": "llm"}).guard is None


def test_each_ablation_lacks_its_part() -> None:
    """What an arm is named for is what it does."""
    without = _settings("no_checklist")
    assert ("caption", "clip", None) == (
        without.judge,
        without.selector,
        without.guard,
    )
    assert _settings("no_tie_break").scorer is None
    assert "no_caption" == _settings("no_caption").optimizer_template


@pytest.mark.parametrize(
    ("names", "images", "message"),
    [
        (["nobody"], 6, r"expected an arm \(first, best_of_n.*got 'nobody'"),
        ([" "], 6, "got none"),
        (["first", "first"], 6, "expected each arm once"),
        (["first"], 0, f"from 1 to {MOST} images"),
        (["first"], MOST + 1, f"from 1 to {MOST} images"),
    ],
)
def test_what_cannot_be_compared_is_told(
    names: list[str], images: int, message: str
) -> None:
    """One line says what was expected, and what came."""
    with pytest.raises(ConfigurationError, match=message):
        find_arms(names, images=images)


def _candidate(prompt: str, score: float) -> Candidate:
    return Candidate(prompt=prompt, seed=1, caption="x", scores={"clip": score})


HISTORY = History(
    user_prompt="a cat",
    rounds=(
        Round(candidates=(_candidate("a cat", 0.9),)),
        Round(
            candidates=(_candidate("one", 0.1), _candidate("two", 0.3)),
            verdict=Verdict(satisfied=False, missing=("a cat",)),
        ),
    ),
)


class Watched:
    """Agents that remember the histories that they were shown."""

    def __init__(self, rewrites: tuple[str, ...] | None = ("a tom", "a pet")) -> None:
        self.seen: list[History] = []
        self.drawn: list[tuple[str, int]] = []
        self.rewrites = rewrites

    def agents(self) -> Agents:
        return Agents(
            generate=self.generate,
            caption=self.caption,
            judge=self.judge,
            optimize=self.optimize,
            select=self.select,
        )

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        self.drawn.append((prompt, seed))
        return Image.new("RGB", (1, 1), "red")

    async def caption(self, image: Image.Image) -> str:
        return "x"

    async def judge(self, history: History) -> Verdict:
        self.seen.append(history)
        return Verdict(satisfied=False)

    async def optimize(self, history: History) -> tuple[str, ...]:
        self.seen.append(history)
        if self.rewrites is None:
            message = "no words"
            raise AnswerError(message)
        return self.rewrites

    async def select(self, history: History) -> int:
        self.seen.append(history)
        return 0


async def test_without_history_only_the_incumbent_is_shown() -> None:
    """The optimizer sees the best image and what it lacks, and nothing else."""
    watched = Watched()
    agents = ARMS["no_history"].wrap_agents(watched.agents())
    await agents.optimize(HISTORY)
    await agents.optimize(History(user_prompt="a cat"))

    (shown, empty) = watched.seen
    assert ["a cat"] == [candidate.prompt for candidate in shown.candidates]
    assert HISTORY.verdict == shown.verdict
    assert () == empty.candidates


async def test_without_incumbent_the_latest_counts() -> None:
    """Judge, optimizer and selector take the last round for all there is."""
    watched = Watched()
    agents = ARMS["no_incumbent"].wrap_agents(watched.agents())
    await agents.judge(HISTORY)
    await agents.optimize(HISTORY)
    await agents.select(HISTORY)

    assert ["two"] * 3 == [h.incumbent.prompt for h in watched.seen if h.incumbent]
    assert [3] * 3 == [len(history.candidates) for history in watched.seen]


async def test_expanding_draws_one_rewrite() -> None:
    """It is written once, before anything was seen, and drawn with every seed."""
    watched = Watched()
    agents = ARMS["expand"].wrap_agents(watched.agents())
    for seed in range(3):
        await agents.generate("a cat", seed)

    assert [("a tom", 0), ("a tom", 1), ("a tom", 2)] == watched.drawn
    assert [()] == [history.candidates for history in watched.seen]


@pytest.mark.parametrize("rewrites", [None, ()])
async def test_who_cannot_expand_draws_what_was_asked(
    rewrites: tuple[str, ...] | None,
) -> None:
    """An optimizer without an answer is asked once, and costs no image."""
    watched = Watched(rewrites)
    agents = ARMS["expand"].wrap_agents(watched.agents())
    await asyncio.gather(*(agents.generate("a cat", seed) for seed in range(3)))

    assert [("a cat", 0), ("a cat", 1), ("a cat", 2)] == watched.drawn
    assert 1 == len(watched.seen)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (None, {"generator": "org/model"}, "expected --metric"),
        ("oracle", {"generator": "org/model"}, "knows the pocket world alone"),
        ("pocket", {}, "no arm selects with, got 'pocket'"),
        ("captioner", {}, "no arm selects with, got 'captioner'"),
    ],
)
async def test_who_selects_may_not_measure(
    name: str | None, settings: dict[str, Any], message: str
) -> None:
    """What selects looks better than it is by its own measure."""
    with pytest.raises(ConfigurationError, match=message):
        open_metric(name, Settings(**settings), Worker())


async def test_the_oracle_measures_the_pocket_world() -> None:
    """It is the metric where nothing else is named."""
    from socratic_agents.pocket import Scene, SceneObject, render

    scene = Scene((SceneObject("circle", "red", "large", 32, 32),), "white")
    async with Worker() as worker:
        metric = open_metric(None, Settings(), worker)
        value = await metric.measure("a crimson ball", render(scene))

    assert ("oracle", 1.0) == (metric.name, value)


async def test_a_scorer_that_nobody_uses_may_measure() -> None:
    """Where the arms select without CLIP, CLIP can report."""
    async with Worker() as worker:
        settings = Settings(scorer=None)
        metric = await worker.call(lambda: open_metric("pocket", settings, worker))
        value = await metric.measure("a red ball", Image.new("RGB", (64, 64), "red"))

    assert "pocket" == metric.name
    assert 0 <= value
