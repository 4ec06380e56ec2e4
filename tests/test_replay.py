"""Replay: other rules on what was done, without one more image or request."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.cli import replay as command
from socratic_agents.cli.app import main
from socratic_agents.core.errors import ConfigurationError, MissingStepError
from socratic_agents.runtime.replay import (
    Replayed,
    _or_else,
    in_words,
    replay,
    settings_of,
)
from tests.loopback import Loopback, error

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS = ("a crimson ball above an azure box", "a red circle", "a tiny emerald ring")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of the pocket world."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "in.txt").write_text("\n".join(PROMPTS))
    out = folder / "OUT"
    assert 0 == main(["batch", str(folder / "in.txt"), "--out", str(out)])
    return out


def again(run: Path, **changes: Any) -> list[Replayed]:
    async def collect() -> list[Replayed]:
        settings = settings_of(run).but(**changes)
        return [one async for one in replay(run, settings)]

    return asyncio.run(collect())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_usage(outcome: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in outcome.items() if name != "usage"}


def test_the_same_rules_give_the_same(run: Path) -> None:
    """Every score, verdict and choice, and nothing is written."""
    before = (run / "journal.jsonl").read_bytes()
    replayed = again(run)
    assert [0, 1, 2] == [one.index for one in replayed]
    assert all(one.same for one in replayed)
    results = {one["index"]: one for one in lines(run / "results.jsonl")}
    for one in replayed:
        assert one.refinement is not None
        now = without_usage(one.refinement.to_json())
        then = without_usage(results[one.index])
        assert then["rounds"] == now["rounds"]
        assert then["best"] == now["best"]
        assert then["stop"] == now["stop"]
    assert before == (run / "journal.jsonl").read_bytes()


def test_another_selector_needs_nothing(run: Path) -> None:
    """All that was drawn is there to choose from, by a judge that asks nobody."""
    for selector in ("clip", "first", "last"):
        replayed = again(run, selector=selector, judge="checklist")
        assert all(one.refinement for one in replayed)
    first = again(run, selector="first", judge="checklist")
    for one in first:
        assert one.refinement is not None
        assert one.user_prompt == one.refinement.best.prompt


def test_another_judge_stops_elsewhere(run: Path) -> None:
    """Sooner, without asking anybody; later, where rounds were drawn."""
    for one in again(run, judge="score:0.01"):
        assert one.refinement is not None
        assert 1 == len(one.refinement.history.rounds)
        assert "satisfied" == one.refinement.stop
    for one in again(run, rounds=1, judge="never"):
        assert one.refinement is not None
        assert "rounds_spent" == one.refinement.stop


def test_no_scorer_is_needed_where_none_decides(run: Path) -> None:
    """Its scores are no part of what comes out."""
    for one in again(run, scorer=None, selector="first", judge="checklist"):
        assert one.refinement is not None
        assert not one.refinement.best.scores.keys() & {"clip"}


def test_what_was_never_done_is_told(run: Path) -> None:
    """In place of a result: images, captions, or what somebody would say."""
    for one in again(run, judge="never"):
        assert one.refinement is None
        assert {"generate": 4, "llm": 1} == one.needs
        assert not one.same
    for one in again(run, judge="caption", selector="clip"):
        assert {"llm": 1} == one.needs
    assert {"score": 1} == again(run, scorer="captioner")[0].needs


def test_a_lost_image_is_told(run: Path, tmp_path: Path) -> None:
    """What is not as it was written cannot be looked at."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for path in (copy / "objects").iterdir():
        path.write_bytes(b"")
    assert {"generate": 1} == again(copy)[0].needs


def test_the_command_prints_what_changed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a prompt, and one object with --json."""
    given = ["replay", str(run), "--selector", "clip", "--judge", "checklist"]
    assert 0 == main([*given, "--json"])
    told = capsys.readouterr()
    assert "3 of 3 replayed" in told.err
    objects = [json.loads(line) for line in told.out.splitlines()]
    assert [*PROMPTS] == [one["user_prompt"] for one in objects]
    assert "clip" == objects[0]["refinement"]["settings"]["selector"]
    assert 1 == main(["replay", str(run), "--judge", "never"])
    told = capsys.readouterr()
    assert "" == told.out
    assert "[1] would need at least 4 images, 1 answer of the language" in told.err
    assert "the others need at least 12 images, 3 answers of the" in told.err


def test_a_prompt_that_failed_can_be_decided(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that never began needs everything; one with a bad image fails again."""
    (tmp_path / "in.txt").write_text("a red circle\na violin\n")
    out = str(tmp_path / "OUT")
    assert 1 == main(["batch", str(tmp_path / "in.txt"), "--out", out])
    assert 1 == main(["replay", out])
    assert "[2] would need at least 1" in capsys.readouterr().err


def test_no_run_is_told(tmp_path: Path, run: Path) -> None:
    """In one line."""
    with pytest.raises(ConfigurationError, match="expected the folder of a run"):
        settings_of(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigurationError, match="expected the folder of a run"):
        settings_of(tmp_path)
    assert 2 == main(["replay", str(tmp_path)])


async def test_what_a_run_neither_counted_nor_read_is_nothing() -> None:
    """Then yes and no do, as they did; what it did is taken."""
    image = Image.new("RGB", (8, 8))

    async def look(_: Image.Image, question: str) -> str:
        if question == "known":
            return "STOP"
        raise MissingStepError({"read": 1})

    read = _or_else(look, "")
    assert "STOP" == await read(image, "known")
    assert "" == await read(image, "unknown")


def test_needs_are_told_in_words() -> None:
    """One, or several."""
    assert "2 images, 1 answer of the language model" == in_words(
        {"llm": 1, "generate": 2}
    )


def test_a_failure_is_told() -> None:
    """As an error of the prompt, and in its line."""
    one = Replayed(index=0, user_prompt="a ball", before=None, error="no")
    assert ("incomplete", "no") == (one.to_json()["status"], one.to_json()["error"])
    assert "[1] failed: no: a ball" == command._line(one)


def test_an_end_that_a_language_model_brought_comes_again(tmp_path: Path) -> None:
    """What stopped halfway is decided as far as it goes, and says the same cause."""
    (tmp_path / "in.txt").write_text(PROMPTS[0])
    out = tmp_path / "OUT"
    given = ["batch", str(tmp_path / "in.txt"), "--out", str(out), "--llm", "openai:a"]
    given += ["--judge", "score:0.999", "--selector", "clip", "--guard", "none"]
    with Loopback(error(401)) as server:
        assert 1 == main([*given, "--base-url", server.base_url])
    (before,) = lines(out / "results.jsonl")
    (one,) = again(out, selector="first")
    assert one.refinement is not None
    assert ("llm_failed", before["llm_error"]) == (
        one.refinement.stop,
        one.refinement.llm_error,
    )
    assert "HTTP 401" in before["llm_error"]
