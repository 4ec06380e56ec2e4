"""Comparisons: every arm on every prompt, and the command that runs them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.cli.app import main
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import CallError
from socratic_agents.core.history import StopReason
from socratic_agents.lab.compare.findings import comparison_json
from socratic_agents.lab.compare.run import compare
from tests.fakes import ScriptedChatModel
from tests.loopback import Loopback, Reply

if TYPE_CHECKING:
    from pathlib import Path

    from socratic_agents.core.history import History
    from socratic_agents.lab.compare.result import Comparison

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
    told = comparison_json(comparison)
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


def _small(
    prompts: list[str], arms: list[str], *, metric: Any = measure, **settings: Any
) -> Comparison:
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
        metric=metric,
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
    assert 2 == comparison_json(found)["arms"]["first"]["excluded"]


def test_why_an_arm_ended_is_told() -> None:
    """Each trial keeps the stop reason of its refinement."""
    found = _small(["a cat"], ["first"])
    assert StopReason.ROUNDS_SPENT == found.arms[0].trials[0].stop


async def rewrite(history: History) -> tuple[str, ...]:
    if "mute" in history.user_prompt:
        raise CallError("no line")
    if "buggy" in history.user_prompt:
        raise LookupError("no hat")
    prompts = [history.user_prompt, *(c.prompt for c in history.candidates)]
    return (f"{prompts[-1]}, more",)


async def shorter(user_prompt: str, image: Image.Image) -> float:
    """Score an image by how little was said to draw it."""
    return -float(str(image.getpixel((0, 0)))[1:-1].split(", ")[1])


class Studio:
    """A generator that counts its images, and a metric that keeps what it saw."""

    def __init__(self, *, fails: int = 0) -> None:
        self.drawn: Counter[tuple[str, int]] = Counter()
        self.seen: set[bytes] = set()
        self.fails = fails

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        self.drawn[prompt, seed] += 1
        if self.drawn.total() <= self.fails:
            raise LookupError("not yet")
        return await paint(prompt, seed)

    async def measure(self, user_prompt: str, image: Image.Image) -> float:
        self.seen.add(image.tobytes())
        return await measure(user_prompt, image)


def test_what_arms_have_in_common_is_one_object() -> None:
    """An image is drawn once, and measured for whoever wants it."""
    studio = Studio()
    arms = ["first", "best_of_n", "expand", "default", "classic_last"]
    unhappy = {"reason": "no", "missing": ["a hat"], "satisfied": False}
    found = _small(
        ["a cat"],
        arms,
        metric=studio.measure,
        generator=studio.generate,
        optimizer=rewrite,
        llm=ScriptedChatModel(script=[unhappy, unhappy]),  # of the caption judge
    )
    first, most, expand, ours, theirs = (arm.trials[0] for arm in found.arms)

    assert [1, 2, 2, 2, 2] == [t.images for t in (first, most, expand, ours, theirs)]
    # Of the nine, the first one serves four arms, and both rewrites are expand's own.
    assert {1} == set(studio.drawn.values())
    assert len(studio.drawn) == len(studio.seen) < 9
    assert first.reported == most.first == ours.first == theirs.first


def test_a_failing_arm_is_left_out_with_its_cause() -> None:
    """The other arms of the same prompt go on, and what it drew is counted."""
    prompts = ["a mute cat", "a buggy cat"]
    found = _small(prompts, ["default", "first"], optimizer=rewrite)
    (mute, buggy), others = (arm.trials for arm in found.arms)

    assert ("no line", None, 1) == (mute.excluded, mute.reported, mute.images)
    assert "LookupError: no hat" == buggy.excluded
    assert [None, None] == [trial.excluded for trial in others]


def test_what_would_be_returned_may_be_unknown() -> None:
    """Before there is a usable image, nothing would be returned."""
    studio = Studio(fails=1)
    found = _small(
        ["a cat"],
        ["best_of_n"],
        generator=studio.generate,
        selector="clip",
        scorer=shorter,
    )
    (trial,) = found.arms[0].trials
    early, late = trial.steps

    assert (None, None) == (early.reported, early.returned)
    assert trial.reported == late.returned is not None


def test_only_who_forgets_falls_below_its_first_image() -> None:
    """Without the incumbent the last image is returned, though it scores less."""
    found = _small(
        ["a cat"],
        ["default", "no_incumbent"],
        selector="clip",
        scorer=shorter,
        optimizer=rewrite,
    )
    ours, hasty = found.arms

    assert (0, 1) == (ours.below_first, hasty.below_first)
    assert ours.trials[0].first_selection == ours.trials[0].selection
    assert hasty.trials[0].first_selection != hasty.trials[0].selection


def test_a_server_is_let_go_at_the_end() -> None:
    """What was opened for the comparison is closed with it."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    data = [{"b64_json": base64.b64encode(file.getvalue()).decode()}]
    with Loopback(Reply(json.dumps({"data": data}))) as server:
        url = server.base_url
        found = _small(["a cat"], ["best_of_n"], generator=url, image_model="small")

    assert 2 == len(server.requests)
    assert 1.0 == found.arms[0].trials[0].reported


def test_each_ablation_lacks_its_part() -> None:
    """What an arm is named for is missing from what it does."""
    without = ("checklist", "guard", "tie_break", "caption", "history", "incumbent")
    arms = ["default", *(f"no_{part}" for part in without)]
    prompts = ["a salmon loop above an azure box"]
    found = asyncio.run(compare(prompts, Settings(seed=3), arms=arms, images=4))
    trials = {arm.name: arm.trials[0] for arm in found.arms}

    assert all(trial.excluded is None for trial in trials.values())
    assert ["checklist", "clip"] == list(trials["default"].selection)
    assert ["clip"] == list(trials["no_checklist"].selection)
    assert ["checklist"] == list(trials["no_tie_break"].selection)
    assert trials["no_guard"].llm_calls < trials["default"].llm_calls
    assert {0} == {arm.below_first for arm in found.arms if arm.name != "no_incumbent"}


COMMAND = ("lab", "compare", "--images", "2", "--sample", "2", "--seed", "5")


KEYS = {
    *("schema", "metric", "images", "n", "against", "arms", "differences"),
    *("since_first", "warnings", "findings", "settings", "seed", "command"),
}
ARM_KEYS = {
    *("mean", "ci", "n", "whole", "whole_ci", "images", "llm_calls", "input_tokens"),
    *("output_tokens", "seconds", "excluded", "excluded_causes", "below_first"),
    *("anytime", "rounds"),
}


def test_the_command_prints_one_object_and_keeps_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures go to stdout, words to stderr, page and plots into the folder."""
    out = tmp_path / "out"
    arms = ("--arms", "first,best_of_n,default", "--json", "--out", str(out))
    assert 0 == main([*COMMAND, *arms])
    printed = capsys.readouterr()
    told = json.loads(printed.out)

    assert 1 == printed.out.count("\n")
    assert KEYS == set(told)
    assert ARM_KEYS == set(told["arms"]["default"])
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


@pytest.mark.slow
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


def test_without_json_nothing_goes_to_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The table is for people; of many trials, every tenth part is told."""
    command = ("lab", "compare", "--images", "1", "--arms", "first", "--sample", "20")
    assert 0 == main(command)
    told = capsys.readouterr()

    assert "" == told.out
    progress = [line for line in told.err.splitlines() if line.endswith("trials")]
    assert [f"{done} of 20 trials" for done in range(2, 21, 2)] == progress


def test_another_generator_takes_any_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the pocket world has a vocabulary of its own."""
    file = tmp_path / "prompts.txt"
    file.write_text("a dragon\n", "utf-8")
    command = ("lab", "compare", "--prompts", str(file), "--dry-run")
    assert 0 == main([*command, "--generator", "org/model", "--arms", "first"])
    assert "first: 1 prompt: at most 1 image" in capsys.readouterr().err
    assert 2 == main([*command, "--arms", "first"])
    assert "does not know the word 'dragon'" in capsys.readouterr().err


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
    assert "fix the file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--arms", "nobody"), "expected an arm (first, "),
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
def test_bad_options_are_one_line(
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


@pytest.mark.parametrize("option", [("--arms", "nobody"), ("--metric", "pocket")])
def test_a_folder_for_nothing_is_taken_away(
    option: tuple[str, str], tmp_path: Path
) -> None:
    """A refused option leaves nothing behind, and takes away nobody's folder."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    for folder in (ours, theirs):
        assert 2 == main([*COMMAND, *option, "--out", str(folder)])

    assert [theirs] == list(tmp_path.iterdir())
