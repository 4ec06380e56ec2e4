"""Receipts: drawn fairly, kept whole, and shown for what they are."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.checklist import Answer, Checklist, Question, Said
from socratic_agents.cli import main
from socratic_agents.errors import CandidateError
from socratic_agents.history import (
    Candidate,
    History,
    Place,
    Receipt,
    Refinement,
    Round,
    Status,
    StopReason,
    Usage,
    Verdict,
)
from socratic_agents.loop import Agents
from socratic_agents.receipt import draw_receipt
from socratic_agents.report import report_html
from socratic_agents.settings import Settings
from socratic_agents.store import RunDirectory, read_outcomes

if TYPE_CHECKING:
    from pathlib import Path

EVIL = '<script>alert("x")</script>'


def drawn(prompt: str, seed: int, score: float) -> Candidate:
    return Candidate(
        prompt=prompt,
        seed=seed,
        image=Image.new("RGB", (4, 4), (seed, 0, 90)),
        caption=prompt,
        scores={"clip": score},
    )


def refined(*candidates: Candidate, checklist: Checklist | None = None) -> Refinement:
    """Return a refinement that returns its last candidate."""
    first, *others = candidates
    rounds = [Round(candidates=(first,)), Round(candidates=tuple(others))]
    return Refinement(
        history=History(
            user_prompt=first.prompt,
            rounds=tuple(r for r in rounds if r.candidates),
            checklist=checklist,
        ),
        best_place=Place(round=int(bool(others)), candidate=max(0, len(others) - 1)),
        stop=StopReason.ROUNDS_SPENT,
        usage=Usage(images=len(candidates)),
    )


class Painter:
    """Draws, and scores an image by its seed; remembers what it was asked."""

    def __init__(self, *, broken: bool = False, scores: bool = True) -> None:
        self.drawn: list[tuple[str, int]] = []
        self.broken = broken
        self.scores = scores

    def agents(self) -> Agents:
        return Agents(
            generate=self.generate,
            caption=self.caption,
            judge=self.judge,
            optimize=self.optimize,
            select=self.select,
            assess=self.assess if self.scores else None,
        )

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        self.drawn.append((prompt, seed))
        if self.broken:
            raise CandidateError(Status.GENERATION_FAILED, "no")
        return Image.new("RGB", (4, 4), (seed, 0, 90))

    async def caption(self, image: Image.Image) -> str:
        return "x"

    async def judge(self, history: History) -> Verdict:
        raise AssertionError

    async def optimize(self, history: History) -> tuple[str, ...]:
        raise AssertionError

    async def select(self, history: History) -> int:
        return history.ranked()[0]

    async def assess(self, user_prompt: str, candidate: Candidate) -> dict[str, float]:
        assert candidate.image is not None
        red = candidate.image.getpixel((0, 0))
        assert isinstance(red, tuple)
        return {"clip": red[0] / 10}


REAL = Settings(generator="org/model", judge="caption", selector="clip", guard=None)


async def test_only_what_is_missing_is_drawn() -> None:
    """The user prompt's own image serves again; the bank's next seeds follow."""
    painter = Painter()
    refinement = refined(drawn("a cat", 1, 0.1), drawn("tom", 1, 0.9))
    two = replace(refinement, usage=Usage(images=3))
    receipt = await draw_receipt(two, painter.agents(), REAL, seeds=itertools.count(1))

    assert [("a cat", 2), ("a cat", 3)] == painter.drawn
    assert receipt is not None
    assert (3, "clip", 0.9, 0.3) == (
        receipt.images,
        receipt.metric,
        receipt.returned,
        receipt.compared,
    )
    assert pytest.approx(0.6) == receipt.gain


@pytest.mark.parametrize(
    ("changes", "independent"),
    [
        ({}, False),
        ({"selector": "caption"}, True),
        ({"selector": "caption", "judge": "score:0.8"}, False),
    ],
)
async def test_who_selected_is_told(
    changes: dict[str, Any], *, independent: bool
) -> None:
    """A score that took part in selecting flatters both sides."""
    receipt = await draw_receipt(
        refined(drawn("a cat", 1, 0.1)),
        Painter().agents(),
        REAL.but(**changes),
        seeds=itertools.count(1),
    )
    assert receipt is not None
    assert independent == receipt.independent


async def test_without_something_to_compare_there_is_no_receipt() -> None:
    """No image, or no score, is no comparison; the refinement stays."""
    lonely = replace(drawn("a cat", 1, 0.1), image=None)
    for painter, refinement in (
        (Painter(broken=True), refined(lonely)),
        (Painter(scores=False), refined(drawn("a cat", 1, 0.1))),
    ):
        assert None is await draw_receipt(
            refinement, painter.agents(), REAL, seeds=itertools.count(1)
        )


async def test_an_image_that_is_lost_has_no_oracle() -> None:
    """The pocket world's oracle needs the pixels."""
    lost = refined(replace(drawn("a red ball", 1, 0.1), image=None))
    assert None is await draw_receipt(
        lost, Painter().agents(), Settings(), seeds=itertools.count(1)
    )


def _shown(**changes: Any) -> Refinement:
    question = Question(text=f"Is there {EVIL}?", requirement=EVIL)
    child = Question(text="Is it red?", requirement="a red one", parents=(0,))
    third = Question(text="Is it big?", requirement="a big one")
    checklist = Checklist(questions=(question, child, third))
    no = Answer(said=Said.NO, probability=0.25)
    answers = checklist.resolved([no, Answer(said=Said.YES), Answer(said=Said.UNKNOWN)])
    best = replace(drawn("tom", 1, 0.9), answers=answers)
    receipt = Receipt(
        images=2,
        best_of_n=drawn("a cat", 2, 0.95),
        metric="clip",
        independent=False,
        returned=0.9,
        compared=0.95,
    )
    shown = refined(drawn("a cat", 1, 0.1), best, checklist=checklist)
    return replace(shown, **{"receipt": receipt, **changes})


def test_the_report_shows_checklist_and_receipt() -> None:
    """Also where the rewrites were not worth it, and nothing as markup."""
    usage = Usage(images=2, money=0.25)
    page = report_html([_shown(usage=usage)])

    for text in (
        (
            "2 images of the user prompt alone would have brought 0.950; this brought "
            "0.900 (clip): -0.050."
        ),
        "Both were chosen by this score",
        "best of 2 of the user prompt",
        "mean gain, 1 receipt",
        "cost 0.25",
        "Checklist: 3 questions",
        "needs 1",
        "(0.25)",
        'class="check failed"',
        'class="check unknown"',
    ):
        assert text in page
    assert EVIL not in page


def test_a_checklist_that_could_not_be_written_is_told() -> None:
    """Its cause stands in the report."""
    one = refined(drawn("a cat", 1, 0.1), checklist=Checklist(error=EVIL))
    page = report_html([one])

    assert "There is no checklist" in page
    assert EVIL not in page


def test_the_receipts_image_is_kept(tmp_path: Path) -> None:
    """It lies beside the others, and a lost one is drawn again."""
    with RunDirectory(tmp_path / "run", settings={}) as run:
        saved = run.save(_shown())
        assert saved.receipt is not None
        path = str(saved.receipt.best_of_n.path)
        assert (tmp_path / "run" / path).is_file()
        assert run.finished(0, "a cat") is not None
        (tmp_path / "run" / path).unlink()
        assert run.finished(0, "a cat") is None
    (read,) = read_outcomes(tmp_path / "run")
    assert isinstance(read, Refinement)
    assert read.receipt is not None
    assert path == read.receipt.best_of_n.path


def test_the_command_gives_a_receipt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --receipt the object has it, and its image is a file."""
    out = tmp_path / "out"
    command = ["refine", "a crimson ball", "--seed", "4", "--max-images", "2"]
    assert 0 == main([*command, "--receipt", "--out", str(out), "--json"])
    told = json.loads(capsys.readouterr().out)

    assert "oracle" == told["receipt"]["metric"]
    assert (out / told["receipt"]["best_of_n"]["image"]).is_file()
    assert told["usage"]["images"] == told["receipt"]["images"]
    assert 0 == main(["report", str(out)])
    assert "Receipt." in (out / "report.html").read_text("utf-8")


def test_a_dry_run_refines_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worst case is printed, and no folder is made."""
    out, file = tmp_path / "out", tmp_path / "prompts.txt"
    file.write_text("a crimson ball\na ring\n", "utf-8")
    for command in (["refine", "a ball"], ["batch", str(file)]):
        assert 0 == main([*command, "--dry-run", "--json", "--out", str(out)])
        told = json.loads(capsys.readouterr().out)
        assert len(command[1:]) <= told["prompts"]
        assert 13 == told["each"]["images"]
    assert 2 == told["prompts"]
    assert not out.exists()
