"""Receipts: drawn fairly, chosen alike, and compared by what can be compared.

Invariants:
* As many images on both sides, and no image of the user prompt is drawn twice.
* The seeds are the first of the bank, in order.
* Nothing is asked anew that was asked before: no checklist, no judge, no optimizer.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.cli.app import main
from socratic_agents.config.settings import Settings
from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.errors import AnswerError, BudgetError, CandidateError
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    Status,
    StopReason,
    Verdict,
)
from socratic_agents.core.loop import Agents
from socratic_agents.core.outcome import Refinement, Usage
from socratic_agents.pocket import render
from socratic_agents.pocket.scene import Scene, SceneObject
from socratic_agents.runtime.receipt import draw_receipt
from socratic_agents.runtime.refiner import Refiner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from socratic_agents.core.outcome import Receipt

REAL = Settings(generator="org/model", judge="caption", selector="clip", guard=None)
"""Settings of a generator that no oracle knows."""


def picture(seed: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (seed, 0, 90))


def drawn(prompt: str, seed: int, score: float | None = None) -> Candidate:
    return Candidate(
        prompt=prompt,
        seed=seed,
        image=picture(seed),
        caption=prompt,
        scores={} if score is None else {"clip": score},
    )


def refined(*candidates: Candidate, images: int | None = None) -> Refinement:
    """Return a refinement that returns its last candidate.

    ``images`` is how many it cost, where that is more than are told here.
    """
    rounds = (Round(candidates=candidates),)
    return Refinement(
        history=History(user_prompt=candidates[0].prompt, rounds=rounds),
        best_place=CandidateRef(round=0, candidate=len(candidates) - 1),
        stop=StopReason.ROUNDS_SPENT,
        usage=Usage(images=images or len(candidates)),
    )


class Painter:
    """Draws, scores an image by its seed, and remembers what it was asked."""

    def __init__(self, *, broken: bool = False, scored: bool = True) -> None:
        self.drawn: list[tuple[str, int]] = []
        self.checklists: list[Checklist] = []
        self.broken = broken
        self.scored = scored

    def agents(self, **others: Any) -> Agents:
        agents = Agents(
            generate=self.generate,
            caption=self.caption,
            judge=self.judge,
            optimize=self.optimize,
            select=self.select,
            assess=self.assess if self.scored else None,
            inquire=self.inquire,
            answer=self.answer,
        )
        return replace(agents, **others)

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        self.drawn.append((prompt, seed))
        if self.broken:
            raise CandidateError(Status.GENERATION_FAILED, "no")
        return picture(seed)

    async def caption(self, image: Image.Image) -> str:
        return "x"

    async def judge(self, history: History) -> Verdict:
        raise AssertionError

    async def optimize(self, history: History) -> tuple[str, ...]:
        raise AssertionError

    async def inquire(self, user_prompt: str) -> Checklist:
        raise AssertionError

    async def answer(
        self, checklist: Checklist, candidate: Candidate
    ) -> tuple[Answer, ...]:
        self.checklists.append(checklist)
        return checklist.resolved([Answer(said=YesNo.YES)] * len(checklist.questions))

    async def select(self, history: History) -> int:
        return history.ranked()[0]

    async def assess(
        self, user_prompt: str, candidate: Candidate
    ) -> Mapping[str, float]:
        return {"clip": candidate.seed / 10}


async def receipt_of(
    refinement: Refinement, agents: Agents, settings: Settings = REAL
) -> Receipt | None:
    """Draw a receipt with a bank whose seeds are 1, 2, 3 and so on."""
    return await draw_receipt(refinement, agents, settings, seeds=itertools.count(1))


async def test_only_what_is_missing_is_drawn() -> None:
    """The user prompt's own image serves again; the bank's next seeds follow."""
    painter = Painter()
    refinement = refined(drawn("a cat", 1, 0.1), drawn("tom", 1, 0.9), images=3)
    receipt = await receipt_of(refinement, painter.agents())
    assert [("a cat", 2), ("a cat", 3)] == painter.drawn
    assert receipt is not None
    assert (3, "clip", 0.9, 0.3) == (
        receipt.images,
        receipt.metric,
        receipt.returned,
        receipt.compared,
    )
    assert ("a cat", 3) == (receipt.best_of_n.prompt, receipt.best_of_n.seed)
    assert pytest.approx(0.6) == receipt.gain


@given(st.sets(st.integers(1, 6)), st.integers(0, 6))
async def test_nothing_is_drawn_twice(kept: set[int], rewrites: int) -> None:
    """Whatever was drawn of the user prompt, each missing seed is drawn once."""
    painter = Painter()
    own = [drawn("a cat", seed, 0.1) for seed in sorted(kept | {1})]
    others = [drawn(f"tom {number}", 1, 0.2) for number in range(rewrites)]
    refinement = refined(*own, *others)
    await receipt_of(refinement, painter.agents())
    seeds = set(range(1, refinement.usage.images + 1)) - kept - {1}
    assert [("a cat", seed) for seed in sorted(seeds)] == painter.drawn


async def test_a_failed_image_is_tried_again() -> None:
    """What has no image cannot serve."""
    painter = Painter()
    failed = Candidate(prompt="a cat", seed=1, status=Status.SAFETY_FILTERED)
    await receipt_of(refined(failed, drawn("tom", 1, 0.9)), painter.agents())
    assert [("a cat", 1), ("a cat", 2)] == painter.drawn


async def test_the_same_selector_chooses() -> None:
    """The best of N is what the refinement's own selector takes for it."""

    async def first(history: History) -> int:
        return 0

    refinement = refined(drawn("a cat", 1, 0.1), drawn("tom", 1, 0.9))
    receipt = await receipt_of(refinement, Painter().agents(select=first))
    assert receipt is not None
    assert (1, 0.1) == (receipt.best_of_n.seed, receipt.compared)


async def test_the_checklist_is_answered_and_not_written_anew() -> None:
    """Each image is held against the questions that the refinement asked."""
    painter = Painter()
    question = Question(text="Is there a cat?", requirement="a cat")
    checklist = Checklist(questions=(question,))
    refinement = refined(drawn("a cat", 1, 0.1), drawn("tom", 1, 0.9))
    history = replace(refinement.history, checklist=checklist)
    receipt = await receipt_of(replace(refinement, history=history), painter.agents())
    assert [checklist] * 2 == painter.checklists
    assert receipt is not None
    assert (Answer(said=YesNo.YES, passed=True),) == receipt.best_of_n.answers


@pytest.mark.parametrize(
    ("changes", "independent"),
    [
        ({}, False),
        ({"selector": "checklist"}, False),
        ({"selector": "vision"}, False),
        ({"selector": "caption"}, True),
        ({"selector": "caption", "judge": "vision"}, True),
        ({"selector": "caption", "judge": "checklist"}, True),
        ({"selector": "caption", "judge": "score:0.8"}, False),
    ],
)
async def test_who_selected_is_told(
    changes: dict[str, Any], *, independent: bool
) -> None:
    """A score that took part in selecting flatters both sides."""
    receipt = await receipt_of(
        refined(drawn("a cat", 1, 0.1)), Painter().agents(), REAL.but(**changes)
    )
    assert receipt is not None
    assert independent == receipt.independent


async def test_a_checklist_that_stops_is_not_independent() -> None:
    """Where the judge stops by what is compared, the comparison is no surprise."""

    async def passed(user_prompt: str, candidate: Candidate) -> Mapping[str, float]:
        return {"checklist": 1.0}

    best = replace(drawn("a cat", 1), scores={"checklist": 1.0})
    settings = REAL.but(selector="caption", judge="checklist")
    receipt = await receipt_of(refined(best), Painter().agents(assess=passed), settings)
    assert receipt is not None
    assert ("checklist", False) == (receipt.metric, receipt.independent)


async def test_a_selector_that_fails_leaves_the_choice_to_the_score() -> None:
    """The incumbent is returned then, on either side, and that is the best by score."""

    async def mute(history: History) -> int:
        raise AnswerError("no answer")

    settings, refinement = REAL.but(selector="caption"), refined(drawn("a cat", 1, 0.1))
    for one, agents in (
        (refinement, Painter().agents(select=mute)),
        (replace(refinement, selection_error="no answer"), Painter().agents()),
    ):
        receipt = await receipt_of(one, agents, settings)
        assert receipt is not None
        assert not receipt.independent


async def test_the_oracle_compares_in_the_pocket_world() -> None:
    """It reads both images, whatever they score, and selects nowhere."""
    thing = SceneObject(shape="circle", colour="red", size="large", x=32, y=32)
    right = render(Scene(objects=(thing,), background="white"))
    wrong = render(Scene(objects=(replace(thing, colour="blue"),), background="white"))

    async def generate(prompt: str, seed: int) -> Image.Image:
        return wrong

    first = replace(drawn("a red circle", 1, 0.9), image=wrong)
    best = replace(drawn("a scarlet disc", 1, 0.2), image=right)
    agents = Painter().agents(generate=generate)
    receipt = await receipt_of(refined(first, best), agents, Settings())
    assert receipt is not None
    assert ("oracle", True) == (receipt.metric, receipt.independent)
    assert 1.0 == receipt.returned
    assert 1.0 > receipt.compared


async def test_without_something_to_compare_there_is_no_receipt() -> None:
    """No image, or no score, is no comparison; the refinement stays."""
    lost = replace(drawn("a cat", 1, 0.1), image=None)
    unscored = refined(drawn("a cat", 1))
    assert await receipt_of(refined(lost), Painter(broken=True).agents()) is None
    assert await receipt_of(unscored, Painter(scored=False).agents()) is None
    assert await receipt_of(unscored, Painter().agents()) is None
    scored = refined(drawn("a cat", 1, 0.1))
    assert await receipt_of(scored, Painter(scored=False).agents()) is None


async def test_an_image_that_is_lost_has_no_oracle() -> None:
    """The pocket world's oracle needs the pixels."""
    lost = refined(replace(drawn("a red ball", 1, 0.1), image=None))
    assert await receipt_of(lost, Painter().agents(), Settings()) is None


async def test_its_images_count_in_the_run_and_not_in_the_refinement() -> None:
    """They come on top of the refinement's usage, and out of the run's budget."""

    async def generate(prompt: str, seed: int) -> Image.Image:
        return picture(seed % 256)

    async def rewrite(history: History) -> tuple[str, ...]:
        return ("tom",)

    async def scored(prompt: str, image: Image.Image) -> float:
        return 0.5

    async with Refiner(
        generator=generate,
        captioner=Painter().caption,
        scorer=scored,
        judge="never",
        selector="clip",
        optimizer=rewrite,
        rounds=2,
        prompts_per_round=1,
        receipt=True,
        run_budget="images=3",
    ) as refiner:
        result = await refiner.refine("a cat")
        assert result.receipt is not None
        assert (2, 2) == (result.usage.images, result.receipt.images)
        with pytest.raises(BudgetError, match="of the run, got 3 of 3 images"):
            await refiner.refine("a cat")


def test_the_command_gives_a_receipt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --receipt the object has it, its image is a file, and the report tells."""
    out = tmp_path / "out"
    command = ["refine", "a crimson ball", "--seed", "4", "--max-images", "2"]
    assert 0 == main([*command, "--receipt", "--out", str(out), "--json"])
    told = json.loads(capsys.readouterr().out)
    receipt = told["receipt"]
    assert ("oracle", True) == (receipt["metric"], receipt["independent"])
    assert receipt["returned"] - receipt["compared"] == receipt["gain"]
    assert "a crimson ball" == receipt["best_of_n"]["prompt"]
    assert (out / receipt["best_of_n"]["image"]).is_file()
    assert told["usage"]["images"] == receipt["images"]
    assert 0 == main(["report", str(out)])
    page = (out / "report.html").read_text("utf-8")
    assert "of your prompt alone would have brought" in page


def test_a_dry_run_refines_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worst case is printed, twice the images with receipts; no folder is made."""
    out, file = tmp_path / "out", tmp_path / "prompts.txt"
    file.write_text("a crimson ball\na ring\n", "utf-8")
    for command, prompts, images in (
        (["refine", "a ball"], 1, 12),
        (["batch", str(file)], 2, 12),
        (["refine", "a ball", "--receipt"], 1, 24),
    ):
        assert 0 == main([*command, "--dry-run", "--json", "--out", str(out)])
        told = json.loads(capsys.readouterr().out)
        assert (prompts, images) == (told["prompts"], told["each"]["images"])
    assert not out.exists()
