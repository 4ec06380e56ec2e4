"""Spread: how much the seed matters, and what is drawn where it hardly does.

Invariants:
* The spread lies in [0, 1], and depends neither on the order nor on other prompts.
* A paraphrase holds the whole prompt, and was not drawn before.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents import Refiner
from socratic_agents.agents.paraphrase import FRAMES, ROOM, paraphrases
from socratic_agents.agents.search.default import DefaultSearch
from socratic_agents.agents.search.registry import is_distilled
from socratic_agents.cli.app import main
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import AnswerError
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    Status,
    StopReason,
)
from socratic_agents.core.loop import refine_prompt
from socratic_agents.core.outcome import Refinement
from socratic_agents.core.search import seed_bank
from socratic_agents.core.spread import mean_spread, measure_spread
from socratic_agents.report.html import report_html
from socratic_agents.runtime.readiness.past_run import run_findings
from socratic_agents.storage.run_directory import RunDirectory
from tests.strategies import Script, ScriptedAgents
from tests.test_refiner import FAKES

if TYPE_CHECKING:
    from pathlib import Path


def grey(level: int, *, seed: int, prompt: str = "a box", **facts: object) -> Candidate:
    image = Image.new("RGB", (32, 20), (level, level, level))
    one = Candidate(prompt=prompt, seed=seed, image=image)
    return replace(one, **facts)  # type: ignore[arg-type]


LEVELS = st.lists(st.integers(0, 255), min_size=2, max_size=6)


@given(LEVELS)
def test_the_spread_is_the_mean_difference_of_pairs(levels: list[int]) -> None:
    """The quick sum over sorted values is the sum over all pairs."""
    pairs = list(itertools.combinations(levels, 2))
    expected = sum(abs(a - b) for a, b in pairs) / len(pairs) / 255
    spread = measure_spread(grey(one, seed=n) for n, one in enumerate(levels))
    assert spread is not None
    assert expected == pytest.approx(spread.pixels, abs=1e-9)
    assert (1, len(levels)) == (spread.prompts, spread.images)
    assert spread.little is (spread.pixels < 0.05)


@given(LEVELS)
def test_the_order_and_other_prompts_change_nothing(levels: list[int]) -> None:
    """What was drawn once says nothing of seeds, and whoever came first neither."""
    drawn = [grey(one, seed=n) for n, one in enumerate(levels)]
    alone = measure_spread(drawn)
    again = measure_spread([*reversed(drawn), grey(9, seed=0, prompt="a ball")])
    assert alone is not None
    assert again is not None
    assert alone.pixels == pytest.approx(again.pixels)
    assert alone.images == again.images


def test_where_no_prompt_was_drawn_twice_there_is_no_spread() -> None:
    """One seed, one prompt each, no image, and what cannot be used tell nothing."""
    once = [grey(0, seed=1), grey(255, seed=1), grey(255, seed=1, prompt="a ball")]
    failed = grey(255, seed=2, status=Status.NUMERICAL_FAILURE)
    assert measure_spread([*once, failed, grey(0, seed=3, image=None)]) is None
    assert mean_spread([None]) is None


def test_scores_spread_in_their_own_unit() -> None:
    """Prompts count alike, and those without scores do not count for the scores."""
    drawn = [grey(0, seed=n, scores={"clip": n * 2.0}) for n in range(3)]
    dull = [grey(51 * n, seed=n, prompt="a ball") for n in range(2)]
    spread = measure_spread(drawn + dull)
    assert spread is not None
    assert spread.scores == pytest.approx(8 / 3)
    assert spread.pixels == pytest.approx(0.1)
    assert (2, 5) == (spread.prompts, spread.images)


@given(st.text("ab ", min_size=1).filter(str.strip), st.sampled_from(FRAMES))
def test_a_paraphrase_holds_the_whole_prompt(prompt: str, frame: str) -> None:
    """A frame that the user wrote stays; one of ours is changed for another."""
    own = frame.format(prompt)
    assert all(own in said for said in paraphrases(own, [own]))
    ours = paraphrases(own, [prompt, own])
    assert len(FRAMES) - 1 == len(ours)
    assert all(prompt in said and said != own for said in ours)
    assert () == paraphrases(prompt, [f.format(prompt).upper() for f in FRAMES])


def test_nothing_is_put_before_a_long_prompt() -> None:
    """Its end might not be read any more; what stands behind it may be cut off."""
    long = " ".join(["red"] * (ROOM + 1))
    assert all(said.startswith(long) for said in paraphrases(long, []))
    assert paraphrases(long, [])


class Painter(ScriptedAgents):
    """Draws by the seed as far as it is told to."""

    def __init__(self, *, varies: bool) -> None:
        super().__init__(Script(rewrites=(None,)))
        self.varies = varies

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        image = await super().generate(prompt, seed)
        level = 40 * (sum(1 for one in self.asked if one[0] == "generate") % 5)
        image.paste((level * self.varies,) * 3, (0, 0, 1, 1))
        return image


async def _drawn(painter: Painter, *, distilled: bool, rounds: int = 4) -> Refinement:
    search = DefaultSearch(
        rounds=rounds, seeds=lambda: seed_bank(7), distilled=distilled
    )
    return await refine_prompt("a cat", painter.agents(), search)


def _prompts(refinement: Refinement) -> list[str]:
    return [candidate.prompt for candidate in refinement.history.candidates]


async def test_where_seeds_matter_a_failed_optimizer_means_other_noise() -> None:
    """As ever: the same prompt, and fresh noise."""
    drawn = await _drawn(Painter(varies=True), distilled=False)
    assert ["a cat"] * 4 == _prompts(drawn)


async def test_where_seeds_hardly_matter_it_means_other_words() -> None:
    """As soon as a prompt was drawn twice, it is known; the round says what failed."""
    drawn = await _drawn(Painter(varies=False), distilled=False)
    first, second, *rest = _prompts(drawn)
    assert first == second == "a cat"
    assert ["an image of a cat", "a picture that shows a cat"] == rest
    assert drawn.rounds[-1].error
    assert drawn.seed_spread is not None
    assert drawn.seed_spread.little


async def test_a_distilled_model_is_known_before_it_was_seen() -> None:
    """Unless it is seen to vary after all; what was all tried is drawn again."""
    drawn = await _drawn(Painter(varies=True), distilled=True, rounds=9)
    said = _prompts(drawn)
    assert [frame.format("a cat") for frame in FRAMES] == said[1:7]
    assert 2 == said.count("a cat") or said[7] in said[:7]


@pytest.mark.parametrize(
    ("generator", "distilled"),
    [
        ("stabilityai/sdxl-turbo", True),
        ("Tongyi-MAI/Z-Image-Turbo", True),
        ("black-forest-labs/FLUX.2-klein-4B", True),
        ("black-forest-labs/FLUX.2-klein-base-4B", False),
        ("stabilityai/stable-diffusion-xl-base-1.0", False),
        ("Turbo-Labs/plain", False),
        ("pocket", False),
        (lambda prompt, seed: None, False),
    ],
)
def test_names_tell_who_is_distilled(generator: object, distilled: bool) -> None:
    """The model's own name counts, and not whose it is."""
    settings = Settings().model_copy(update={"generator": generator})
    assert distilled is is_distilled(settings)


async def test_a_refiner_tells_the_spread_of_all_its_prompts() -> None:
    """In each result, its JSON, the statistics, and the report."""
    async with Refiner(**FAKES, seeds_per_prompt=2) as refiner:
        first = await refiner.refine("a cat")
        second = await refiner.refine("a dog")
        told = refiner.statistics()
    assert told is not None
    assert told.seed_spread is not None
    assert first.seed_spread is not None
    assert told.seed_spread == mean_spread([first.seed_spread, second.seed_spread])
    data = json.loads(json.dumps(first.to_json()))
    assert first.seed_spread.to_json() == data["statistics"]["seed_spread"]
    assert first.seed_spread == Refinement.from_json(data).seed_spread
    page = report_html([first, second])
    assert f"seed spread {first.seed_spread.pixels:.3f}" in page
    assert "n = 4 prompts" in page


async def test_a_receipt_tells_the_spread_where_the_rounds_cannot() -> None:
    """It draws the user prompt from many seeds anyway."""
    async with Refiner(**FAKES, receipt=True) as refiner:
        drawn = await refiner.refine("a cat")
    assert drawn.receipt is not None
    assert drawn.seed_spread is not None
    assert drawn.seed_spread == drawn.receipt.seed_spread
    assert 2 == drawn.seed_spread.images


def test_the_command_line_tells_of_seeds_that_hardly_matter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what that means for the settings."""

    def opened(settings: Settings) -> Refiner:
        async def generate(prompt: str, seed: int) -> Image.Image:
            return Image.new("RGB", (4, 4), (seed % 2, len(prompt), 90))

        async def optimize(history: History) -> tuple[str, ...]:
            raise AnswerError(history.user_prompt)

        async def caption(image: Image.Image) -> str:
            return "a thing"

        fakes = {"generator": generate, "captioner": caption, "optimizer": optimize}
        return Refiner(
            settings,
            **(FAKES | fakes | {"scorer": None, "judge": "never", "selector": "first"}),
        )

    out = str(tmp_path / "run")
    assert 0 == main(["refine", "a cat", "--out", out], open_refiner=opened)
    told = capsys.readouterr().err
    assert "no rewrite, the best prompt again (a cat)" in told
    assert "the seed hardly changes the image" in told


@pytest.mark.parametrize(
    ("seeds", "state", "words"),
    [
        (1, "ok", "no prompt of this run was drawn from several seeds"),
        (2, "ok", "by 4 images of 2 prompts"),
    ],
)
def test_the_doctor_tells_what_a_run_has_shown(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    seeds: int,
    state: str,
    words: str,
) -> None:
    """How much its seeds mattered, where it can be told."""
    out = tmp_path / "run"
    given = {"rounds": "2", "seeds-per-prompt": str(seeds), "prompts-per-round": "1"}
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    prompt = "a crimson ball above an azure box"
    assert 0 == main(["refine", prompt, "--seed", "7", *options, "--out", str(out)])
    capsys.readouterr()
    main(["doctor", "--run", str(out), "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    [told] = [one for one in found if one["name"] == "seed spread"]
    assert state == told["state"]
    assert words in told["detail"]


def test_a_run_whose_seeds_hardly_mattered_is_a_warning(tmp_path: Path) -> None:
    """With what that means for the settings."""
    refined = Refinement(
        history=History(
            user_prompt="a box", rounds=(Round(candidates=(grey(9, seed=1),)),)
        ),
        best_place=CandidateRef(round=0, candidate=0),
        stop=StopReason.ROUNDS_SPENT,
        seed_spread=measure_spread([grey(9, seed=1), grey(10, seed=2)]),
    )
    with RunDirectory(tmp_path / "run", settings={}) as run:
        run.save(refined)
    [told] = run_findings(tmp_path / "run")
    assert "warning" == told.state
    assert "leave seeds_per_prompt at 1" in told.detail
