"""Comparisons: every arm on every prompt, and the command that runs them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.cli import main
from socratic_agents.history import StopReason
from socratic_agents.lab.compare import compare
from socratic_agents.settings import Settings
from tests.fakes import ScriptedChatModel

if TYPE_CHECKING:
    from pathlib import Path

    from socratic_agents.lab.comparison import Comparison

ARMS = ("first", "best_of_n", "expand", "classic_last", "classic_caption", "default")


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Return a small comparison of the pocket models."""
    prompts = ["a crimson ball", "a salmon loop above an azure box"]
    return asyncio.run(
        compare(prompts, Settings(seed=3), arms=ARMS, images=3, command="typed")
    )


def test_every_arm_refines_every_prompt(comparison: Comparison) -> None:
    """Nobody is left out, and nobody draws too much."""
    assert ARMS == tuple(arm.name for arm in comparison.arms)
    for arm in comparison.arms:
        assert [0, 1] == [trial.index for trial in arm.trials]
        assert all(1 <= trial.images <= 3 for trial in arm.trials)
        assert all(trial.images == len(trial.steps) for trial in arm.trials)
        assert all(trial.seconds > 0 for trial in arm.trials)


def test_arms_share_seeds_and_checklists(comparison: Comparison) -> None:
    """The first image of ours and of the baselines is the very same."""
    arms = {arm.name: arm for arm in comparison.arms}
    for number in range(2):
        firsts = {
            name: arms[name].trials[number].first_selection
            for name in ("first", "best_of_n", "default")
        }
        assert firsts["first"] == firsts["best_of_n"] == firsts["default"]
    assert all(trial.llm_calls == 1 for trial in arms["best_of_n"].trials)


def test_nobody_falls_below_its_first_image(comparison: Comparison) -> None:
    """What ranks returns the best by its own scores, after every image."""
    for arm in comparison.arms:
        assert 0 == arm.below_first
        if arm.name in {"first", "best_of_n", "expand", "default"}:
            for trial in arm.trials:
                assert (
                    trial.selection["checklist"] >= trial.first_selection["checklist"]
                )
                assert trial.reported == trial.steps[-1].returned


def test_the_last_image_is_the_predecessors(comparison: Comparison) -> None:
    """One image a round, and what comes last is returned."""
    last = next(arm for arm in comparison.arms if arm.name == "classic_last")
    for trial in last.trials:
        assert list(range(trial.images)) == [step.round for step in trial.steps]
        assert trial.reported == trial.steps[-1].reported
        assert {} == trial.selection


def test_what_is_reported_is_the_oracle(comparison: Comparison) -> None:
    """The record says by what, against whom, and with which command."""
    told = comparison.to_json()
    assert ("oracle", 3, 2, "best_of_n", "typed") == (
        told["metric"],
        told["images"],
        told["n"],
        told["against"],
        told["command"],
    )
    assert set(ARMS) - {"best_of_n"} == set(told["differences"])


async def paint(prompt: str, seed: int) -> Image.Image:
    if "broken" in prompt:
        raise LookupError(prompt)
    return Image.new("RGB", (8, 8), (seed % 256, len(prompt) % 256, 90))


async def describe(image: Image.Image) -> str:
    return "something"


async def measure(user_prompt: str, image: Image.Image) -> float:
    if "unmeasured" in user_prompt:
        raise LookupError(user_prompt)
    return float(str(image.getpixel((0, 0)))[1:].split(",", maxsplit=1)[0]) / 255


def _small(prompts: list[str], arms: list[str], **settings: Any) -> Comparison:
    given: dict[str, Any] = {
        "generator": paint,
        "captioner": describe,
        "scorer": None,
        "llm": ScriptedChatModel(),
        "selector": "first",
        **settings,
    }
    base = Settings(judge="never", guard=None, **given)
    work = compare(
        prompts,
        base,
        arms=arms,
        images=2,
        given={"judge": "never", "guard": None, **given},
        metric=measure,  # type: ignore[arg-type]
    )
    return asyncio.run(work)


def test_a_failing_prompt_is_left_out_with_its_cause() -> None:
    """The other prompts and arms go on."""
    found = _small(["a cat", "broken", "unmeasured"], ["first", "best_of_n"])
    for arm in found.arms:
        good, bad, dark = arm.trials
        assert good.excluded is None
        assert "LookupError: broken" in str(bad.excluded)
        assert "no " in str(dark.excluded)
        assert bad.images == len(bad.steps) or not bad.steps
    assert 2 == found.to_json()["arms"]["first"]["excluded"]


def test_why_an_arm_ended_is_told() -> None:
    """Each trial keeps the stop reason of its refinement."""
    found = _small(["a cat"], ["first"])
    assert StopReason.ROUNDS_SPENT == found.arms[0].trials[0].stop


COMMAND = ("lab", "compare", "--images", "2", "--sample", "2", "--seed", "5")


def test_the_command_prints_one_object_and_keeps_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures go to stdout, words to stderr, page and plots into the folder."""
    out = tmp_path / "out"
    arms = ("--arms", "first,best_of_n,default", "--json", "--out", str(out))
    assert 0 == main([*COMMAND, *arms])
    printed = capsys.readouterr()
    told = json.loads(printed.out)

    assert {"first", "best_of_n", "default"} == set(told["arms"])
    assert 2 == told["n"]
    assert "best_of_n" in printed.err
    assert told == json.loads((out / "comparison.json").read_text("utf-8"))
    assert 6 == len((out / "trials.jsonl").read_text("utf-8").splitlines())
    page = (out / "comparison.html").read_text("utf-8")
    assert "data:image/png" in page
    for plot in ("anytime.png", "rounds.png"):
        with Image.open(out / plot) as image:
            assert image.width > 100


def test_the_same_seed_gives_the_same_figures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All but the seconds is repeatable."""
    runs = []
    for _ in range(2):
        assert 0 == main([*COMMAND, "--arms", "best_of_n,default", "--json"])
        told = json.loads(capsys.readouterr().out)
        for arm in told["arms"].values():
            del arm["seconds"]
        runs.append(told)

    assert runs[0] == runs[1]


def test_a_dry_run_draws_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worst case of every arm is told, and no folder is made."""
    out = tmp_path / "out"
    assert 0 == main([*COMMAND, "--dry-run", "--out", str(out)])
    told = capsys.readouterr()

    assert "best_of_n: 2 prompts: at most 4 images" in told.err
    assert "" == told.out
    assert not out.exists()


def test_prompts_come_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One prompt a line; a bad one is told before anything is drawn."""
    file = tmp_path / "prompts.txt"
    file.write_text("a crimson ball\n", "utf-8")
    arms = ("lab", "compare", "--images", "1", "--arms", "first")
    assert 0 == main([*arms, "--prompts", str(file), "--json"])
    assert 1 == json.loads(capsys.readouterr().out)["n"]
    file.write_text("a crimson ball\na dragon\n", "utf-8")
    assert 2 == main([*arms, "--prompts", str(file)])
    assert "does not know the word 'dragon'" in capsys.readouterr().err
    file.write_text("a crimson ball\n\x00\n", "utf-8")
    assert 2 == main([*arms, "--prompts", str(file)])
    assert "mend the file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--arms", "nobody"), "expected arms of"),
        (("--arms", "first,first"), "expected each arm once"),
        (("--images", "0"), "from 1 to 64 images"),
        (("--images", "65"), "from 1 to 64 images"),
        (("--sample", "0"), "expected --sample of at least 1"),
        (("--kind", "nonsense"), "expected kind canonical"),
        (("--prompts", "none.txt"), "expected --prompts or --sample, got both"),
        (("--generator", "org/model"), "expected --prompts FILE"),
        (("--metric", "pocket"), "no arm selects with"),
        (("--judge", "nobody"), "expected a judge"),
    ],
)
def test_bad_wishes_are_one_line(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, what was expected, what came; and no traceback."""
    assert 2 == main([*COMMAND, *arguments])
    told = capsys.readouterr().err.strip().splitlines()

    assert message in told[-1]
    assert "Traceback" not in "".join(told)


def test_an_unwritable_folder_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hours are not spent on what cannot be kept."""
    file = tmp_path / "file"
    file.write_text("", "utf-8")
    assert 2 == main([*COMMAND, "--out", str(file / "below")])
    assert "expected to write in" in capsys.readouterr().err
