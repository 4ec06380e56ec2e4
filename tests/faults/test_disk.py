"""A disk that fails: what was there stays, the message names the folder, one can go on.

F6  Full, over quota, read-only and broken, at each place where something is written: 48
    cases by hooks. Real ones beside: files that may not grow, a folder that nobody can
    write, and a full standard output.
"""

from __future__ import annotations

import errno
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from socratic_agents.cli.app import main
from socratic_agents.storage import failpoints
from tests.faults.runner import small
from tests.faults.trials import PROMPTS, left_in, numbered, without_times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.trials import Bench, Left

ERRORS = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT)


@dataclass(frozen=True)
class Site:
    """A place in the code where something is written."""

    name: str
    point: str
    hit: int = 1
    """When it is reached so often, it fails."""
    command: str = "batch"


# The config is the first whole file of a run, images are the later ones.
SITES = (
    Site("config written", "file:write"),
    Site("config synced", "file:sync"),
    Site("config in place", "file:replace"),
    Site("image written", "file:write", 3),
    Site("image synced", "file:sync", 3),
    Site("image in place", "file:replace", 3),
    Site("step written", "journal:append", 3),
    Site("steps synced", "journal:sync", 3),
    Site("result written", "results:append"),
    Site("result synced", "results:sync"),
    Site("report written", "file:write", command="report"),
    Site("report in place", "file:replace", command="report"),
)
CASES = [(site, code) for code in ERRORS for site in SITES]


@dataclass(frozen=True)
class Jobs:
    """Prompt files, a folder where the first is finished, and one where both are."""

    prompts: Path
    begun: Path
    whole: Left

    def run(self, command: str, out: Path) -> int:
        """Run a command in this process, with small models."""
        if command == "report":
            return main(["report", str(out)])
        arguments = ["batch", str(self.prompts), "--out", str(out), "--rounds", "2"]
        return main(arguments, open_refiner=small)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """Finish one prompt of two, and in another folder both."""
    folder = tmp_path_factory.mktemp("disk")
    prompts = folder / "prompts.txt"
    made = {}
    for name, count in (("begun", 1), ("whole", 2)):
        prompts.write_text("\n".join(PROMPTS[:count]) + "\n")
        made[name] = folder / name
        job = Jobs(prompts, made["begun"], left_in(folder))
        assert 0 == job.run("batch", made[name])
    return Jobs(prompts, made["begun"], left_in(made["whole"]))


@pytest.fixture(autouse=True)
def _no_hook() -> Iterator[None]:
    yield
    failpoints.hook = None


def complaint(out: Path, reason: str) -> str:
    return (
        f"error: expected to write in {out}, got: {reason}; make room or get rights, "
        "or choose another folder"
    )


def intact(out: Path, before: dict[str, bytes]) -> None:
    """Check that all that was written before is there as it was."""
    for name, data in before.items():
        there = (out / name).read_bytes()
        if name.endswith(".jsonl"):
            assert there.startswith(data)
        elif name != "config.json":
            assert data == there
    assert json.loads((out / "config.json").read_text())["sha256"]
    left = left_in(out)
    assert (0, 0) == (left.torn, left.parts)
    assert all(name == f"{sha256}.png" for name, sha256 in left.objects.items())


def files(out: Path) -> dict[str, bytes]:
    """Return what lies in a folder, but for the lock."""
    paths = [path for path in out.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("trial", numbered(len(CASES), smoke=len(SITES)))
def test_a_disk_that_fails_costs_nothing_that_was_there(
    tmp_path: Path, jobs: Jobs, capfd: pytest.CaptureFixture[str], trial: int
) -> None:
    """One line with the folder, exit code 2, and the same command goes on."""
    site, code = CASES[trial]
    out, hits = tmp_path / "run", 0
    shutil.copytree(jobs.begun, out)
    before = files(out)
    capfd.readouterr()

    def hook(point: str) -> None:
        nonlocal hits
        if point == site.point:
            hits += 1
            if hits >= site.hit:
                raise OSError(code, "no luck")

    failpoints.hook = hook
    assert 2 == jobs.run(site.command, out)
    failpoints.hook = None
    told = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert [complaint(out, "no luck")] == told
    intact(out, before)
    assert 0 == jobs.run(site.command, out)
    if site.command == "report":
        assert (out / "report.html").exists()
        return
    after = left_in(out)
    assert without_times(jobs.whole.results) == without_times(after.results)
    assert jobs.whole.objects == after.objects
    assert jobs.whole.steps == after.steps


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's files")
@pytest.mark.parametrize("size", [1500, 4000, 16000, 50000])
def test_files_that_may_not_grow_are_a_full_disk(bench: Bench, size: int) -> None:
    """The system itself cuts a write in the middle, and half of it is taken back."""
    out = bench.folder / f"full-{size}"
    ended = bench.run(out, fsize=size)
    assert 2 == ended.code, ended.told
    told = [line for line in ended.told.splitlines() if "error:" in line]
    assert [complaint(out, "File too large")] == told
    left = left_in(out)
    assert (0, 0) == (left.torn, left.parts)
    assert 0 == bench.run(out).code
    left = left_in(out)
    assert len(PROMPTS) == len(left.results)
    assert (0, 0) == (left.torn, left.parts)
    assert {1} == set(left.steps.values())


@pytest.mark.skipif(sys.platform != "linux", reason="writes into /proc")
def test_a_folder_that_cannot_be_is_told(
    jobs: Jobs, capfd: pytest.CaptureFixture[str]
) -> None:
    """In one line, and nothing is drawn."""
    assert 2 == jobs.run("batch", Path("/proc/socratic"))
    told = capfd.readouterr().err
    assert told.startswith("error: expected to write in /proc/socratic, got: ")
    assert 1 == told.count("\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_output_is_told(bench: Bench) -> None:
    """What was printed is lost, what was made is not."""
    out = bench.folder / "deaf"
    ended = bench.run(out, out="/dev/full", more=["--json"])
    assert 2 == ended.code, ended.told
    assert "Traceback" not in ended.told
    assert "error: expected to write to stdout, got: No space left" in ended.told
    again = bench.run(out, more=["--json"])
    assert 0 == again.code, again.told
    assert len(PROMPTS) == len(left_in(out).results)


def test_a_reader_that_goes_is_told(bench: Bench) -> None:
    """As with ``| head``: no traceback, and the same command goes on."""
    ended = bench.run(bench.folder / "gone", pipe=True, more=["--json"])
    assert 2 == ended.code, ended.told
    assert "Traceback" not in ended.told
    assert "error: expected to write to stdout, got: Broken pipe" in ended.told
