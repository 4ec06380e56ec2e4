"""The world with dials: what is set goes wrong as often, and nothing else does."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.cli.app import main
from socratic_agents.core.checklist import YesNo
from socratic_agents.core.errors import CandidateError, ConfigurationError
from socratic_agents.lab.stress import run as stress_run
from socratic_agents.lab.stress.dials import STRESSES
from socratic_agents.lab.stress.plots import stress_plot
from socratic_agents.lab.stress.run import (
    Cell,
    CellResult,
    run_cell,
    run_stress,
    stress_cells,
    stress_table,
)
from socratic_agents.lab.stress.world import (
    Dials,
    SimulatedCaptioner,
    SimulatedGenerator,
    SimulatedScorer,
    seen,
)
from socratic_agents.pocket import sample_prompts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from socratic_agents.pocket.scene import Scene

PROMPT = "a small red circle above a large blue square on a white background"


def drawn(dials: Dials, prompt: str = PROMPT, seed: int = 1) -> Image.Image:
    return asyncio.run(SimulatedGenerator(dials)(prompt, seed))


def scene(dials: Dials, prompt: str = PROMPT, seed: int = 1) -> Scene:
    return seen(drawn(dials, prompt, seed))[1]


def wrong(dials: Dials, times: int = 200, *, prompts: bool = False) -> float:
    """Return the share of images that do not show all of the prompt."""
    many = sample_prompts(times, 3) if prompts else [PROMPT] * times
    shown = [scene(dials, one, n).agreement(one) for n, one in enumerate(many)]
    return sum(value < 1 for value in shown) / times


@given(st.integers(0, 2**31), st.sampled_from(sample_prompts(30, 5, "foreign")))
def test_nothing_goes_wrong_that_no_dial_says(seed: int, prompt: str) -> None:
    """The picture shows the prompt, and everybody says so."""
    calm = Dials(scorer_noise=0.0)
    image = drawn(calm, prompt, seed)
    assert 1.0 == seen(image)[1].agreement(prompt)
    assert 1.0 == asyncio.run(SimulatedScorer(calm)(prompt, image))
    captioner = SimulatedCaptioner(calm)
    (caption,) = captioner.caption([image])
    assert 1.0 == seen(image)[1].agreement(caption)
    (answer,) = captioner.decide([(image, "are there two objects ?")])
    assert (answer.said is YesNo.YES) == (len(seen(image)[1].objects) == 2)


@pytest.mark.parametrize(
    ("dials", "prompts", "low", "high"),
    [
        (Dials(seed_noise=0.1), False, 0.4, 0.8),  # of eight attributes: 1 - 0.9 ** 8
        (Dials(noise_of_seed=0.1), False, 0.4, 0.8),
        (Dials(wording=0.1), True, 0.25, 0.8),
        (Dials(swapped_colours=0.3), False, 0.15, 0.45),
        (Dials(missed_objects=0.3), False, 0.15, 0.45),
        (Dials(hard_concepts=1.0), False, 0.9, 1.0),
    ],
)
def test_a_dial_is_how_often_something_goes_wrong(
    dials: Dials, low: float, high: float, *, prompts: bool
) -> None:
    """Of many images about as many are wrong."""
    assert low <= wrong(dials, prompts=prompts) <= high


def test_what_decides_is_what_the_dial_says() -> None:
    """The words' failures stay whatever the seed, the seed's whatever the words."""
    other = PROMPT.replace("a small", "a picture of a small")
    words = [scene(Dials(wording=0.3), PROMPT, n) for n in range(20)]
    assert 1 == len({one.agreement(PROMPT) for one in words})
    alone = Dials(noise_of_seed=0.3)
    for seed in range(20):
        first, second = scene(alone, PROMPT, seed), scene(alone, other, seed)
        assert first.agreement(PROMPT) == second.agreement(PROMPT)
    distilled = Dials(seed_noise=0.3, distilled=True)
    assert drawn(distilled, seed=1).tobytes() == drawn(distilled, seed=2).tobytes()
    assert drawn(Dials()).tobytes() == drawn(Dials()).tobytes()


def test_foreign_words_are_drawn_as_others() -> None:
    """A word of the world's own is known; another is mistaken, each time for the same."""
    dials = Dials(foreign_words=1.0)
    assert 1.0 == scene(dials).agreement(PROMPT)
    foreign = "a small crimson circle"
    colours = {scene(dials, foreign, n).objects[0].colour for n in range(9)}
    assert 1 == len(colours)
    assert {"red"} != colours


def test_a_prompt_of_another_world_fails_alone() -> None:
    """It is no picture, and says why."""
    with pytest.raises(CandidateError, match="a prompt of the pocket world"):
        drawn(Dials(), "a red circle and a blue ring and a green cross")


@pytest.mark.parametrize("wanted", [YesNo.YES, YesNo.NO])
def test_answers_err_as_they_are_told(wanted: YesNo) -> None:
    """Always wrong is the opposite of the truth; a bias only ever says yes."""
    question = f"is there a {'red' if wanted is YesNo.YES else 'green'} circle ?"
    other = {YesNo.YES: YesNo.NO, YesNo.NO: YesNo.YES}[wanted]
    image = drawn(Dials())

    def said(dials: Dials) -> YesNo:
        return SimulatedCaptioner(dials).decide([(image, question)])[0].said

    assert wanted is said(Dials())
    assert other is said(Dials(vqa_error=1.0))
    assert YesNo.YES is said(Dials(yes_bias=1.0))


def test_captions_and_scores_err_as_they_are_told() -> None:
    """The same image is mistaken in the same way each time."""
    image, dials = drawn(Dials()), Dials(caption_error=1.0, scorer_noise=0.3)
    captioner, scorer = SimulatedCaptioner(dials), SimulatedScorer(dials)
    first, second = captioner.caption([image, image.copy()])
    assert first == second
    assert scene(Dials()).agreement(first) < 0.5
    scores = [asyncio.run(scorer(PROMPT, image)) for _ in range(2)]
    assert scores[0] == scores[1] != 1.0


@pytest.mark.parametrize("name", [field.name for field in fields(Dials)])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_dial_is_a_share(name: str, value: Any) -> None:
    """Anything else is refused by name."""
    with pytest.raises(ConfigurationError, match=f"dial {name} from 0 to 1"):
        Dials(**{name: value})


@pytest.mark.parametrize("stress", STRESSES.values(), ids=str)
def test_every_dial_is_turned(stress: Any) -> None:
    """Each has at least three settings, and each setting is another world."""
    worlds = {stress.at(value) for value in stress.values}
    assert len(worlds) == len(stress.values) >= 3
    assert STRESSES[stress.name] is stress


def cells(**changes: Any) -> list[Cell]:
    small: dict[str, Any] = {"dials": ["wording"], "images": [3], "prompts": 4}
    return stress_cells(**small | changes)


def test_a_cell_is_a_comparison() -> None:
    """The real loop plays it; nobody draws more than was allowed."""
    (cell,) = cells(values=[0.2], seed=4)
    result = run_cell(cell)
    assert ["best_of_n", "expand", "default"] == list(result.agreement)
    assert all(value is not None for arm in result.agreement.values() for value in arm)
    assert result.images["best_of_n"] == 3 >= result.images["default"]
    assert result.llm_calls["default"] > result.llm_calls["best_of_n"]
    assert run_cell(cell) == result


def test_cells_are_run_in_processes() -> None:
    """The results come in their order, each as soon as it is there."""
    told = list[CellResult]()
    wanted = cells(values=[0.1, 0.2], arms=["best_of_n", "default"], prompts=2)
    results = run_stress(wanted, processes=1, on_cell=told.append)
    assert wanted == [result.cell for result in results]
    assert told == results


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dials": ["words"]}, "expected dials .* got words"),
        ({"prompts": 1}, "at least 2 prompts"),
        ({"images": [0]}, "from 1 to 64 images"),
        ({"arms": ["best"]}, "an arm"),
        ({"values": [2.0]}, "from 0 to 1"),
    ],
)
def test_what_cannot_be_run_is_told_before(
    changes: dict[str, Any], message: str
) -> None:
    """Nothing is drawn for it."""
    with pytest.raises(ConfigurationError, match=message):
        cells(**changes)


def result_of(
    cell: Cell, ours: tuple[float | None, ...], theirs: tuple[float | None, ...]
) -> CellResult:
    numbers = {"default": 2.0, "best_of_n": 3.0}
    return CellResult(
        cell=cell,
        agreement={"best_of_n": theirs, "default": ours},
        images=numbers,
        llm_calls=numbers,
    )


def test_the_table_pairs_by_prompt_and_corrects_over_all() -> None:
    """A prompt without both values is left out; p is Holm's over the whole table."""
    first, second = cells(values=[0.1, 0.2])
    table = stress_table(
        [
            result_of(first, (*[1.0] * 3, None), (0.5,) * 4),
            result_of(second, (0.5, 0.5, 0.3, 0.35, 0.4, 0.4, 0.45, 0.3), (0.5,) * 8),
        ]
    )
    one, two = table.to_json()
    assert (3, 0.5) == (one["n"], one["difference"])
    assert ("wording", 0.2, 3, "best_of_n", 8) == tuple(two.values())[:5]
    assert -0.1 == pytest.approx(two["difference"])
    assert two["difference low"] < -0.1 < two["difference high"] < 0
    assert (0.25, 0.0625) == (one["p (Holm)"], two["p (Holm)"])  # 2 of 8, 2 of 64


def test_the_curves_are_a_picture() -> None:
    """A panel for each dial, a curve for each number of images."""
    results = [
        result_of(cell, (1.0, 0.5), (0.5, 0.5))
        for cell in cells(dials=["wording", "yes_bias"], images=[3, 6], prompts=2)
    ]
    with Image.open(io.BytesIO(stress_plot(results))) as image:
        assert "PNG" == image.format
        assert image.width > 600


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run cells here: a process of its own takes seconds to begin."""

    def run(
        cells: list[Cell], *, processes: int, on_cell: Callable[[CellResult], None]
    ) -> list[CellResult]:
        assert 1 == processes
        results = [run_cell(cell) for cell in cells]
        for result in results:
            on_cell(result)
        return results

    monkeypatch.setattr(stress_run, "run_stress", run)


def test_the_command_writes_table_and_curves(
    in_process: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it opens without the program."""
    words = ["lab", "stress", "--dials", "wording", "--values", "0.2", "--images", "3"]
    words += ["--sample", "3", "--processes", "1", "--arms", "best_of_n,default"]
    assert 0 == main([*words, "--out", str(tmp_path / "out")])
    shown = capsys.readouterr()
    assert "1 of 1: wording 0.2, 3 images" in shown.err
    assert "| wording | 0.200 | 3 | best_of_n | 3 |" in shown.out
    table = (tmp_path / "out" / "stress.csv").read_text()
    assert "wording" == next(csv.DictReader(io.StringIO(table)))["dial"]
    assert {"stress.csv", "stress.md", "stress.png"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }
    assert 0 == main([*words, "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert 3 == row["n"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arms", "default"], "expected 'default' and another of --arms"),
        (["--ours", "expand", "--arms", "best_of_n,default"], "expected 'expand'"),
        (["--images", "3,many"], "numbers with commas for --images"),
        (["--values", "x"], "numbers with commas for --values"),
    ],
)
def test_the_command_tells_what_it_cannot_run(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, before anything is run."""
    assert 2 == main(["lab", "stress", *words])
    assert message in capsys.readouterr().err
