"""The run directory: whole files, one writer, and nothing finished is done again.

Invariants: what is saved is read back equal; a torn last line costs that line alone;
no file's name comes from user text.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    Status,
    StopReason,
    Verdict,
)
from socratic_agents.core.outcome import Failure, Receipt, Refinement
from socratic_agents.storage import failpoints
from socratic_agents.storage import run_directory as directories
from socratic_agents.storage.files import write_atomic
from socratic_agents.storage.journal import read_keys
from socratic_agents.storage.objects import ObjectStore
from socratic_agents.storage.result_index import ResultIndex
from socratic_agents.storage.results import read_outcomes
from socratic_agents.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {"seed": 7, "rounds": 2, "in_flight": 8}


def refinement(
    prompt: str = "a red ball", index: int = 0, shade: int = 9
) -> Refinement:
    image = Image.new("RGB", (8, 8), (shade, 0, 0))
    image.info["truncated_tokens"] = 3
    drawn = Candidate(prompt=prompt, seed=7, image=image, caption="a ball")
    failed = Candidate(
        prompt=prompt, seed=8, status=Status.GENERATION_FAILED, error="out of memory"
    )
    verdict = Verdict(satisfied=True, reason="it is there")
    return Refinement(
        history=History(
            user_prompt=prompt,
            rounds=(Round(candidates=(drawn, failed), verdict=verdict),),
        ),
        best_place=CandidateRef(round=0, candidate=0),
        stop=StopReason.SATISFIED,
        settings=SETTINGS,
        index=index,
    )


def with_receipt(shade: int = 7) -> Refinement:
    image = Image.new("RGB", (8, 8), (0, shade, 0))
    best = Candidate(prompt="a red ball", seed=9, image=image, caption="a ball")
    receipt = Receipt(
        images=2,
        best_of_n=best,
        metric="clip",
        independent=True,
        returned=0.75,
        compared=0.5,
    )
    return replace(refinement(), receipt=receipt)


def failure(prompt: str = "a red ball", index: int = 0) -> Failure:
    return Failure(user_prompt=prompt, error="no route", kind="CallError", index=index)


def opened(path: Path, **changes: Any) -> RunDirectory:
    return RunDirectory(path, settings=SETTINGS | changes)


def job(path: Path, **changes: Any) -> RunDirectory:
    """Return a directory of one run that can be resumed."""
    options: dict[str, Any] = {"templates": {"optimizer": "a"}, "accept_changes": False}
    options |= {name: changes.pop(name) for name in [*options] if name in changes}
    settings = SETTINGS | changes
    return RunDirectory(path, settings=settings, resume=True, **options)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_saving_gives_paths(tmp_path: Path) -> None:
    """A saved refinement names its images, and they are there."""
    with opened(tmp_path / "run") as run:
        saved = run.save(refinement())
        drawn, failed = saved.history.candidates
        assert drawn.path is not None
        assert (run.path / drawn.path).is_file()
        assert failed.path is None
        with Image.open(run.path / drawn.path) as image:
            assert (9, 0, 0) == image.getpixel((0, 0))
        assert saved.to_json() == json.loads((run.path / "results.jsonl").read_text())
    files = {"config.json", "journal.jsonl", "objects", "results.jsonl", "lock"}
    assert files == names(tmp_path / "run") | {"lock"}
    assert SETTINGS == json.loads((run.path / "config.json").read_text())["settings"]


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    """Outcomes come back as they were saved, in the order of their inputs."""
    with opened(tmp_path) as run:
        second = run.save(refinement(index=1))
        first = run.save(failure())
    read = list(read_outcomes(tmp_path))
    assert [first.to_json(), second.to_json()] == [one.to_json() for one in read]


def test_finished_work_is_found(tmp_path: Path) -> None:
    """The same place, text and settings are finished; any other is not."""
    with opened(tmp_path) as run:
        saved = run.save(refinement())
    with opened(tmp_path, in_flight=99) as run:
        found = run.finished(0, "a red ball")
        assert found is not None
        assert saved.to_json() == found.to_json()
        assert run.finished(1, "a red ball") is None
        assert run.finished(0, "a blue ball") is None


def test_a_lost_image_is_drawn_again(tmp_path: Path) -> None:
    """A result whose image is gone is not finished."""
    with opened(tmp_path) as run:
        path = run.save(refinement()).best.path
        assert path is not None
        (tmp_path / path).unlink()
        assert run.finished(0, "a red ball") is None


def test_a_failure_is_tried_again_and_replaced(tmp_path: Path) -> None:
    """There is one line for each input: what came of it last."""
    with opened(tmp_path) as run:
        run.save(failure())
    with opened(tmp_path) as run:
        assert run.finished(0, "a red ball") is None
        run.save(refinement())
    assert ["ok"] == [one.to_json()["status"] for one in list(read_outcomes(tmp_path))]
    assert 1 == (tmp_path / "results.jsonl").read_text().count("\n")


def test_other_settings_are_refused_everywhere(tmp_path: Path) -> None:
    """Whether it is one run or several prompts; nothing of it is touched."""
    with opened(tmp_path) as run:
        run.save(refinement())
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with (
        pytest.raises(ConfigurationError, match=r"got other ones \(seed: 7 -> 8\)"),
        opened(tmp_path, seed=8),
    ):
        pass
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_several_prompts_have_several_places(tmp_path: Path) -> None:
    """Where they are no one run, the next prompt gets the next place."""
    prompts = ["a", "b", "a", "c", "b"]
    with opened(tmp_path) as run:
        places = [run.save(refinement(prompt)).index for prompt in prompts]
    assert [0, 1, 0, 2, 1] == places
    read = list(read_outcomes(tmp_path))
    assert ["a", "b", "c"] == [one.user_prompt for one in read]


def batch(folder: Path, prompts: list[str], *, declared: bool) -> int:
    """Do what is not finished, and return how many that were."""
    done = 0
    with job(folder) as run:
        if declared:
            run.set_inputs(prompts)
        pending = [(i, p) for i, p in enumerate(prompts) if not run.finished(i, p)]
        for index, prompt in pending:
            run.save(refinement(prompt, index))
            done += 1
    return done


INPUTS = st.lists(st.sampled_from("abcd"), max_size=6)


@pytest.mark.parametrize("declared", [True, False])
@settings(max_examples=40)
@given(before=INPUTS, after=INPUTS)
def test_changed_inputs_are_recognised(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    declared: bool,
    before: list[str],
    after: list[str],
) -> None:
    """What is the same is kept, what is new is done, what is gone is nowhere."""
    folder = tmp_path_factory.mktemp("run")
    assert len(before) == batch(folder, before, declared=declared)
    new = sum((Counter(after) - Counter(before)).values())
    done = batch(folder, after, declared=declared)
    if declared:
        assert new == done
        assert 0 == batch(folder, after, declared=False)
    read = list(read_outcomes(folder)) if before or after else []
    if declared:
        assert list(enumerate(after)) == [(o.index, o.user_prompt) for o in read]
    else:  # what lies behind all that was asked for may be an input still
        shown = {one.index: one.user_prompt for one in read}
        assert after == [shown[place] for place in range(len(after))]
        assert len(shown) == len(read)


def test_a_moved_result_is_whole(tmp_path: Path) -> None:
    """It differs in its place alone, and the journal knows its line."""
    with job(tmp_path) as run:
        saved = run.save(refinement())
    with job(tmp_path) as run:
        run.set_inputs(["new", "a red ball"])
        moved = run.finished(1, "a red ball")
    assert moved is not None
    assert saved.to_json() | {"index": 1} == moved.to_json()
    assert [moved.to_json()] == [one.to_json() for one in list(read_outcomes(tmp_path))]


def test_a_failure_does_not_replace_a_refinement(tmp_path: Path) -> None:
    """Unless an image of that is lost."""
    with opened(tmp_path) as run:
        path = run.save(refinement()).best.path
        run.save(failure())
        assert run.finished(0, "a red ball") is not None
        (tmp_path / str(path)).unlink()
        run.save(failure())
    assert ["failed"] == [
        one.to_json()["status"] for one in list(read_outcomes(tmp_path))
    ]


def test_a_replaced_line_is_left_out_at_the_end(tmp_path: Path) -> None:
    """Until then the last line of an input counts, also for those who only read."""
    with opened(tmp_path) as run:
        run.save(failure())
        run.save(refinement())
        assert 2 == (tmp_path / "results.jsonl").read_text().count("\n")
        assert ["ok"] == [
            one.to_json()["status"] for one in list(read_outcomes(tmp_path))
        ]
    assert 1 == (tmp_path / "results.jsonl").read_text().count("\n")


def test_a_directory_that_cannot_be_compacted_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is whole, only longer, and the next one compacts it."""

    def hook(reached: str) -> None:
        if reached == "file:write":
            raise OSError(28, "full")

    with opened(tmp_path) as run:
        run.save(failure())
        run.save(refinement())
        monkeypatch.setattr(failpoints, "hook", hook)
    monkeypatch.setattr(failpoints, "hook", None)
    assert 2 == (tmp_path / "results.jsonl").read_text().count("\n")
    with opened(tmp_path) as run:
        assert run.finished(0, "a red ball") is not None
    assert 1 == (tmp_path / "results.jsonl").read_text().count("\n")


async def test_a_directory_is_opened_in_a_thread(tmp_path: Path) -> None:
    """So that other tasks of the loop run on."""
    async with opened(tmp_path) as run:
        await asyncio.to_thread(run.save, refinement())
    assert 1 == len(list(read_outcomes(tmp_path)))


def test_images_of_a_failure_are_kept(tmp_path: Path) -> None:
    """What was drawn before an error is saved too."""
    history = refinement().history
    with opened(tmp_path) as run:
        saved = run.save(replace(failure(), history=history))
    assert saved.history is not None
    path = saved.history.candidates[0].path
    assert path is not None
    assert (tmp_path / path).is_file()


def test_the_image_of_a_receipt_is_kept(tmp_path: Path) -> None:
    """It lies beside the others under the hash of its bytes, and is read back."""
    with opened(tmp_path) as run:
        saved = run.save(with_receipt())
    assert saved.receipt is not None
    path = saved.receipt.best_of_n.path
    assert path is not None
    data = (tmp_path / path).read_bytes()
    assert f"objects/{hashlib.sha256(data).hexdigest()}.png" == path
    assert data == ObjectStore(tmp_path).get(path)
    with Image.open(tmp_path / path) as image:
        assert (0, 7, 0) == image.getpixel((0, 0))
    (read,) = list(read_outcomes(tmp_path))
    assert saved.to_json() == read.to_json()


def test_a_receipt_is_finished_with_its_image(tmp_path: Path) -> None:
    """A run goes on with a whole receipt, and draws a lost one again."""
    with opened(tmp_path) as run:
        saved = run.save(with_receipt())
    with opened(tmp_path) as run:
        found = run.finished(0, "a red ball")
        assert found is not None
        assert saved.to_json() == found.to_json()
        assert saved.receipt is not None
        (tmp_path / str(saved.receipt.best_of_n.path)).unlink()
        assert run.finished(0, "a red ball") is None


def test_a_receipt_shares_the_images_of_its_refinement(tmp_path: Path) -> None:
    """Where the best of N is an image that the refinement drew, it lies there once."""
    one = with_receipt()
    assert one.receipt is not None
    receipt = replace(one.receipt, best_of_n=one.best)
    with opened(tmp_path) as run:
        saved = run.save(replace(one, receipt=receipt))
    assert saved.receipt is not None
    assert saved.best == saved.receipt.best_of_n
    assert 1 == len(names(tmp_path / "objects"))


def test_a_torn_last_line_costs_that_line_alone(tmp_path: Path) -> None:
    """Whatever is left of a line that was being written is dropped."""
    with opened(tmp_path) as run:
        run.save(refinement())
        run.save(refinement(index=1))
    whole = (tmp_path / "results.jsonl").read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole) - 1, 97):
        (tmp_path / "results.jsonl").write_bytes(whole[:end])
        assert 1 == len(list(read_outcomes(tmp_path)))
        with opened(tmp_path) as run:
            assert run.finished(0, "a red ball") is not None
            assert run.finished(1, "a red ball") is None
        assert whole[:first] == (tmp_path / "results.jsonl").read_bytes()


@pytest.mark.parametrize("line", ["{", "[]", "7", '{"status": "ok"}', "null"])
def test_a_line_that_was_not_written_is_quarantined(tmp_path: Path, line: str) -> None:
    """It is told, not believed, and not thrown away."""
    with opened(tmp_path) as run:
        run.save(refinement())
        assert 0 == run.quarantined
    good = (tmp_path / "results.jsonl").read_text()
    (tmp_path / "results.jsonl").write_text(f"{line}\n{good}")
    with pytest.raises(ConfigurationError, match=r"every line of .* got 1 other"):
        list(read_outcomes(tmp_path))
    with opened(tmp_path) as run:
        assert 1 == run.quarantined
        assert run.finished(0, "a red ball") is not None
    assert good == (tmp_path / "results.jsonl").read_text()
    (aside,) = (tmp_path / "quarantine").iterdir()
    assert f"{line}\n" == aside.read_text()


@pytest.mark.parametrize("line", ["{", "[]", "7"])
def test_the_results_of_something_else_are_left_alone(
    tmp_path: Path, line: str
) -> None:
    """A folder without a journal was never one of ours."""
    (tmp_path / "results.jsonl").write_text(f"{line}\n")
    with (
        pytest.raises(
            ConfigurationError,
            match=r"files of another program \(results.jsonl\); restore the files",
        ),
        opened(tmp_path),
    ):
        pass
    assert f"{line}\n" == (tmp_path / "results.jsonl").read_text()


def test_results_without_a_journal_are_taken_as_they_are(tmp_path: Path) -> None:
    """And known from then on."""
    with opened(tmp_path) as run:
        run.save(refinement())
    (tmp_path / "journal.jsonl").unlink()
    for _ in range(2):
        with opened(tmp_path) as run:
            assert run.finished(0, "a red ball") is not None


@pytest.mark.parametrize("begin", ['"x"\n7\n', "{}\n"])
def test_results_among_lines_of_others_are_refused_without_a_journal(
    tmp_path: Path, begin: str
) -> None:
    """Nothing says which of them was written here, so that none is moved."""
    with opened(tmp_path) as run:
        run.save(refinement())
    (tmp_path / "journal.jsonl").unlink()
    mixed = begin + (tmp_path / "results.jsonl").read_text()
    (tmp_path / "results.jsonl").write_text(mixed)
    with (
        pytest.raises(
            ConfigurationError,
            match=rf"to be a result, got {begin.count(chr(10))} that are none; restore",
        ),
        opened(tmp_path),
    ):
        pass
    assert mixed == (tmp_path / "results.jsonl").read_text()
    assert not (tmp_path / "quarantine").exists()


def test_a_result_that_the_disk_lost_meanwhile_is_not_finished(tmp_path: Path) -> None:
    """It is made again, and found again."""
    with opened(tmp_path) as run:
        run.save(refinement())
        (tmp_path / "results.jsonl").write_bytes(b"")
        assert run.finished(0, "a red ball") is None
        run.save(refinement())
        assert run.finished(0, "a red ball") is not None


def test_an_image_that_the_disk_cannot_read_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was never written."""
    with opened(tmp_path) as run:
        path = str(run.save(refinement()).best.path)
    assert ObjectStore(tmp_path).get(path) is not None

    def broken(_: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(type(tmp_path), "read_bytes", broken)
    assert ObjectStore(tmp_path).get(path) is None


def test_a_journal_learns_of_many_results_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few wait at a time, and all are known at the end."""
    with opened(tmp_path) as run:
        for place in range(5):
            run.save(refinement(index=place))
    (tmp_path / "journal.jsonl").unlink()
    monkeypatch.setattr(directories, "MOST_WAITING", 2)
    with opened(tmp_path):
        pass
    assert 5 == len(read_keys(tmp_path, "result") or ())


def test_results_with_other_keys_first_are_read(tmp_path: Path) -> None:
    """A place that changes is changed in them, too; a failure moves nowhere."""
    path = tmp_path / "results.jsonl"
    records = [refinement(index=0).to_json(), failure("a blue box", 1).to_json()]
    path.write_text("".join(f"{json.dumps(one, sort_keys=True)}\n" for one in records))
    index = ResultIndex(path)
    assert [] == index.scan(valid=lambda _: True)
    assert [*map(json.loads, index.lines())] == records
    index.keep_only(["a blue box", "a red ball"])
    assert [json.loads(line) for line in index.lines()] == [records[0] | {"index": 1}]


@pytest.mark.parametrize("wrong", [{"index": "0"}, {"user_prompt": 7}])
def test_a_line_with_a_wrong_place_or_prompt_is_no_result(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    """Whatever else it says."""
    path = tmp_path / "results.jsonl"
    path.write_text(f"{json.dumps(refinement().to_json() | wrong, sort_keys=True)}\n")
    index = ResultIndex(path)
    assert [path.read_bytes()] == index.scan(valid=lambda _: True)
    assert 0 == len(index)


def test_a_flipped_bit_costs_its_prompt_alone(tmp_path: Path) -> None:
    """Also where the line is still a result."""
    with opened(tmp_path) as run:
        run.save(refinement())
        run.save(refinement(index=1))
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes().replace(b"a ball", b"a bull", 1))
    with opened(tmp_path) as run:
        assert run.finished(0, "a red ball") is None
        assert run.finished(1, "a red ball") is not None


def test_a_spoilt_image_costs_its_prompt_alone(tmp_path: Path) -> None:
    """It is quarantined and drawn again."""
    with opened(tmp_path) as run:
        saved = run.save(refinement())
    path = tmp_path / str(saved.best.path)
    path.write_bytes(path.read_bytes()[:-7])
    with opened(tmp_path) as run:
        assert run.finished(0, "a red ball") is None
        assert 1 == run.quarantined
        assert not path.exists()
        run.save(refinement())
        assert run.finished(0, "a red ball") is not None


@pytest.mark.parametrize(
    "corrupt", [b"{", b"{}", b"[]", b'{"schema": 2, "settings": {}, "sha256": "0"}']
)
def test_a_corrupt_config_is_written_anew(tmp_path: Path, corrupt: bytes) -> None:
    """Nothing that it says is believed."""
    with opened(tmp_path) as run:
        run.save(refinement())
    (tmp_path / "config.json").write_bytes(corrupt)
    with job(tmp_path) as run:
        assert 1 == run.quarantined
        assert run.finished(0, "a red ball") is not None
    config = json.loads((tmp_path / "config.json").read_text())
    assert SETTINGS == config["settings"]


def test_other_settings_of_a_job_are_refused(tmp_path: Path) -> None:
    """With what is different; those that decide nothing but the speed are not."""
    with job(tmp_path) as run:
        run.save(refinement())
    problem = (
        r'got other ones \(optimizer template: "a" -> "b", rounds: 2 -> 9\); use the same, '
        "choose another folder, or use --continue-with"
    )
    with (
        pytest.raises(ConfigurationError, match=problem),
        job(tmp_path, templates={"optimizer": "b"}, rounds=9),
    ):
        pass
    with job(tmp_path, device="cuda", in_flight=99) as run:
        assert run.finished(0, "a red ball") is not None


def test_a_setting_that_a_release_does_not_have_is_no_change(tmp_path: Path) -> None:
    """A run that began before an update is gone on with after it."""
    with job(tmp_path, gone="a"):
        pass
    (tmp_path / "journal.jsonl").touch()
    with job(tmp_path, new="b", templates={"optimizer": "a", "guard": "c"}) as run:
        assert run.finished(0, "a red ball") is None


def test_other_settings_can_be_accepted(tmp_path: Path) -> None:
    """For the rest: what is finished stays, and is not done again later either."""
    with job(tmp_path) as run:
        run.save(refinement())
    with job(tmp_path, accept_changes=True, rounds=9) as run:
        assert run.finished(0, "a red ball") is not None
        assert run.finished(1, "a red ball") is None
        run.save(refinement(index=1))
    with job(tmp_path, rounds=9) as run:
        assert run.finished(0, "a red ball") is not None
        assert run.finished(1, "a red ball") is not None
        assert run.finished(0, "a blue ball") is None


def test_runs_of_other_versions_are_told(tmp_path: Path) -> None:
    """Nothing of them is touched."""
    with opened(tmp_path) as run:
        run.save(refinement())
    path = tmp_path / "config.json"
    config = json.loads(path.read_text()) | {"schema": 2}
    del config["sha256"]
    text = json.dumps(config, sort_keys=True)
    config["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(config))
    with (
        pytest.raises(ConfigurationError, match=r"of version 1 in .* got version 2"),
        opened(tmp_path),
    ):
        pass
    assert config == json.loads(path.read_text())


def test_an_image_is_encoded_once(tmp_path: Path) -> None:
    """Whoever needs it, and however often."""
    encoded: list[tuple[str, int]] = []

    def encode(image: Image.Image, prompt: str, seed: int) -> bytes:
        encoded.append((prompt, seed))
        return image.tobytes()

    outcome = refinement()
    with RunDirectory(tmp_path, settings=SETTINGS, encode=encode) as run:
        first = run.save(outcome)
        second = run.save(replace(outcome, index=1))
    assert first.best.path == second.best.path
    assert 1 == len(encoded)


def test_an_image_that_could_not_be_written_is_tried_again(tmp_path: Path) -> None:
    """By the next who needs it."""
    tries: list[int] = []

    def encode(image: Image.Image, prompt: str, seed: int) -> bytes:
        tries.append(seed)
        if len(tries) == 1:
            raise OSError(28, "full")
        return image.tobytes()

    outcome = refinement()
    with RunDirectory(tmp_path, settings=SETTINGS, encode=encode) as run:
        with pytest.raises(ConfigurationError, match="got: full"):
            run.save(outcome)
        assert run.save(outcome).best.path
    assert 2 == len(tries)


@pytest.mark.parametrize("point", ["results:append", "results:sync"])
def test_a_line_that_cannot_be_written_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Earlier ones stay, and the next attempt finds a whole file."""

    def hook(reached: str) -> None:
        if reached == point:
            raise OSError(28, "full")

    with opened(tmp_path) as run:
        run.save(refinement())
        before = (tmp_path / "results.jsonl").read_bytes()
        monkeypatch.setattr(failpoints, "hook", hook)
        with pytest.raises(ConfigurationError, match="got: full"):
            run.save(refinement(index=1))
        assert before == (tmp_path / "results.jsonl").read_bytes()
    monkeypatch.setattr(failpoints, "hook", None)
    with opened(tmp_path) as run:
        assert 0 == run.quarantined
        run.save(refinement(index=1))
    assert 2 == len(list(read_outcomes(tmp_path)))


def test_one_process_writes(tmp_path: Path) -> None:
    """A second process is refused in one line that names the first."""
    code = (
        "import sys; from socratic_agents.storage.run_directory import RunDirectory\n"
        f"with RunDirectory({str(tmp_path)!r}, settings={{}}): pass"
    )
    with opened(tmp_path):
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
    assert 1 == run.returncode
    last = run.stderr.splitlines()[-1]
    assert "to be free, but process" in last


def test_a_writer_without_a_number_is_refused_too(tmp_path: Path) -> None:
    """Where the other's number cannot be read, it is refused all the same."""
    with opened(tmp_path):
        (tmp_path / "config.json").write_text("{}")
        with (
            pytest.raises(ConfigurationError, match="another process is writing"),
            opened(tmp_path),
        ):
            pass


def test_the_folder_is_free_afterwards(tmp_path: Path) -> None:
    """Leaving the directory lets the next one in."""
    for _ in range(2):
        with opened(tmp_path) as run:
            run.save(refinement())


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    """A folder that cannot be written is an error in one line, before any work."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigurationError, match="expected to write in"),
        opened(tmp_path / "file" / "run"),
    ):
        pass


def test_nothing_is_left_of_nothing(tmp_path: Path) -> None:
    """A folder that was made for a run that saved nothing is taken away again."""
    with opened(tmp_path / "new"):
        assert (tmp_path / "new" / "config.json").is_file()
    assert not (tmp_path / "new").exists()


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    """An existing folder is not removed, whatever is in it."""
    (tmp_path / "note.txt").write_text("mine")
    with opened(tmp_path):
        pass
    assert "note.txt" in names(tmp_path)


def test_a_failed_write_leaves_no_part(tmp_path: Path) -> None:
    """A file that cannot be put into place leaves nothing behind."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "taken", b"x")
    assert {"taken"} == names(tmp_path)


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    """Reading from a folder that holds no run says how to make one."""
    with pytest.raises(ConfigurationError, match=r"results\.jsonl.*socratic batch"):
        list(read_outcomes(tmp_path))


def test_a_changed_image_is_not_read(tmp_path: Path) -> None:
    """An object is read only if its bytes are what its name says."""
    with opened(tmp_path) as run:
        path = run.save(refinement()).best.path
    assert path is not None
    assert ObjectStore(tmp_path).get(path) is not None
    (tmp_path / path).write_bytes(b"other")
    assert ObjectStore(tmp_path).get(path) is None
    (tmp_path / path).unlink()
    assert ObjectStore(tmp_path).get(path) is None


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "objects/../config.json", "lock", ""]
)
def test_no_other_file_is_read(tmp_path: Path, path: str) -> None:
    """A path that is no object's is refused: results may come from somebody else."""
    with opened(tmp_path) as run:
        run.save(refinement())
    assert ObjectStore(tmp_path).get(path) is None


@settings(max_examples=25)
@given(prompt=st.text(min_size=1), shade=st.integers(0, 255))
def test_any_text_round_trips(
    tmp_path_factory: pytest.TempPathFactory, prompt: str, shade: int
) -> None:
    """Any text survives, on one line, and names no file."""
    folder = tmp_path_factory.mktemp("run")
    with opened(folder) as run:
        saved = run.save(refinement(prompt, shade=shade))
    with opened(folder) as run:
        found = run.finished(0, prompt)
    assert found is not None
    assert saved.to_json() == found.to_json()
    assert 1 == len((folder / "results.jsonl").read_text().splitlines())
    for path in (folder / "objects").iterdir():
        assert set("0123456789abcdef") >= set(path.stem)
