"""Other people's folders: nothing of theirs is deleted, moved, or written through."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.storage import folder as own
from socratic_agents.storage.files import remove_partial_files
from socratic_agents.storage.folder import check_own, locked
from socratic_agents.storage.journal import Journal
from socratic_agents.storage.results import read_outcomes
from socratic_agents.storage.run_directory import RunDirectory
from tests.test_run_directory import refinement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

THEIRS = {
    "config.json": ['{"model_type": "bert"}', "{", "[]", "\0" * 9],
    "journal.jsonl": ['{"my": "diary"}\n', "diary\n" * 200, "x" * 3_000_000],
    "results.jsonl": ['{"score": 1}\n', "7\n"],
}


def opened(path: Path) -> RunDirectory:
    return RunDirectory(path, settings={})


def held(folder: Path) -> dict[str, bytes]:
    """Return all files and links of a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            bytes(path.readlink()) if path.is_symlink() else path.read_bytes()
        )
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name in THEIRS for text in THEIRS[name]]
)
@pytest.mark.parametrize("open_it", [opened, lambda path: Journal(path, shared=True)])
def test_a_folder_of_another_program_is_refused(
    tmp_path: Path, name: str, text: str, open_it: Callable[[Path], RunDirectory]
) -> None:
    """As a run and as a cache, and not a byte or a name of it changes."""
    (tmp_path / name).write_text(text)
    (tmp_path / ".download.part").write_text("9 GB")
    (tmp_path / ".0123456789abcdef.part").write_text("8 GB")
    (tmp_path / "lock").write_text("process 7")
    before = held(tmp_path)
    with (
        pytest.raises(ConfigurationError, match=rf"files of another program \({name}"),
        open_it(tmp_path),
    ):
        pass
    assert before == held(tmp_path)
    assert not (tmp_path / "objects").exists()


def test_files_with_other_names_are_no_matter(tmp_path: Path) -> None:
    """They stay as they are, parts that others download among them."""
    (tmp_path / "objects").mkdir()
    for name in ("note.txt", ".download.part", "objects/.mine.part", "lock"):
        (tmp_path / name).write_text(name)
    before = held(tmp_path)
    for _ in range(2):
        with opened(tmp_path) as run:
            run.save(refinement())
    assert before.items() <= held(tmp_path).items()


@pytest.mark.parametrize("kept", ["config.json", "journal.jsonl", "results.jsonl"])
def test_one_file_of_ours_makes_it_a_run(tmp_path: Path, kept: str) -> None:
    """Then what is corrupt was ours, and goes to quarantine."""
    with opened(tmp_path) as run:
        run.save(refinement())
    for name in {"config.json", "journal.jsonl"} - {kept}:
        (tmp_path / name).write_text("~\n")
    check_own(tmp_path)


@pytest.mark.parametrize("size", range(12))
def test_a_journal_that_was_just_begun_is_ours(tmp_path: Path, size: int) -> None:
    """Its writer may have been killed anywhere in its first line."""
    (tmp_path / "journal.jsonl").write_text('{"check": "0123'[:size])
    with opened(tmp_path) as run:
        run.save(refinement())
    assert 1 == len(list(read_outcomes(tmp_path)))


@pytest.mark.parametrize(
    "name",
    ["config.json", "journal.jsonl", "results.jsonl", "lock", "objects", "quarantine"],
)
def test_no_link_is_followed(tmp_path: Path, name: str) -> None:
    """Somebody may have laid it, and what it leads to is not ours."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    outside.mkdir()
    target = outside / "file"
    target.write_text("theirs")
    folder = name in {"objects", "quarantine"}
    (run / name).symlink_to(outside if folder else target)
    before = held(tmp_path)
    with (
        pytest.raises(ConfigurationError, match="of its own, got a link"),
        opened(run),
    ):
        pass
    assert before == held(tmp_path)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    """One typed its name oneself."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with opened(tmp_path / "run") as run:
        run.save(refinement())
    assert 1 == len(list(read_outcomes(tmp_path / "disk")))


def test_a_file_that_others_share_is_not_written(tmp_path: Path) -> None:
    """A backup by hard links would change with it."""
    with opened(tmp_path / "run") as run:
        run.save(refinement())
    (tmp_path / "backup").hardlink_to(tmp_path / "run" / "results.jsonl")
    with (
        pytest.raises(ConfigurationError, match="got one that other names share"),
        opened(tmp_path / "run"),
    ):
        pass


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe would be read for ever."""
    os.mkfifo(tmp_path / "config.json")
    with (
        pytest.raises(ConfigurationError, match="a file of its own, got something"),
        opened(tmp_path),
    ):
        pass


def test_parts_of_others_are_not_removed(tmp_path: Path) -> None:
    """Nor what only looks like one of ours."""
    ours = tmp_path / ".socratic-0123456789abcdef.part"
    ours.write_text("half")
    others = [".x.part", ".0123456789abcdef.part", ".socratic-a.part"]
    for name in others:
        (tmp_path / name).write_text("half")
    (tmp_path / ".socratic-fedcba9876543210.part").mkdir()
    remove_partial_files(tmp_path)
    assert {*others, ".socratic-fedcba9876543210.part"} == {
        path.name for path in tmp_path.iterdir()
    }


WRITER = """
import sys
from pathlib import Path
from socratic_agents.storage.folder import locked
with locked(Path(sys.argv[1])) as got:
    print(got)
"""


def elsewhere(folder: Path) -> str:
    """Return whether another process gets the lock."""
    command = [sys.executable, "-c", WRITER, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("change", ["nothing", "removed", "replaced"])
def test_the_lock_is_the_folder_and_no_name(tmp_path: Path, change: str) -> None:
    """Removing the file lets nobody in, and leaving lets the next one in."""
    with locked(tmp_path) as got:
        assert got
        if change != "nothing":
            (tmp_path / "lock").unlink()
        if change == "replaced":
            (tmp_path / "lock").touch()
        assert "False\n" == elsewhere(tmp_path)
        with locked(tmp_path) as second:
            assert not second
    assert "True\n" == elsewhere(tmp_path)


def test_a_lock_file_is_not_written(tmp_path: Path) -> None:
    """It may be somebody else's."""
    (tmp_path / "lock").write_text("process 7")
    with locked(tmp_path) as got:
        assert got
    assert "process 7" == (tmp_path / "lock").read_text()


def failing(problem: OSError, *, which: set[int]) -> Callable[[int, int], None]:
    """Return a flock that cannot lock some of the files that it is asked for."""
    asked: list[int] = []

    def flock(file: int, how: int) -> None:
        asked.append(file)
        if len(asked) in which:
            raise problem

    return flock


def test_a_system_that_locks_no_folders_locks_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is with some network file systems."""
    flock = failing(OSError(errno.EBADF, "no"), which={1})
    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path) as got:
        assert got


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes would spoil each other's work."""
    flock = failing(OSError(errno.ENOLCK, "no"), which={1, 2})
    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(ConfigurationError, match="got one without locks; choose a"),
        opened(tmp_path / "run"),
    ):
        pass


def test_another_problem_of_a_lock_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of every other file."""
    flock = failing(OSError(errno.EIO, "broken disk"), which={1})
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ConfigurationError, match="got: broken disk"), opened(tmp_path):
        pass


def test_a_system_without_flock_locks_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files that are open cannot be removed, that is enough."""
    monkeypatch.setattr(own, "fcntl", None)
    with locked(tmp_path) as got:
        assert got
        with locked(tmp_path) as second:
            assert not second


def test_a_config_is_ours_whatever_was_changed_in_it(tmp_path: Path) -> None:
    """It goes to quarantine then, and is written anew."""
    with opened(tmp_path) as run:
        run.save(refinement())
    config = json.loads((tmp_path / "config.json").read_text()) | {"pid": "x"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "journal.jsonl").unlink()
    with opened(tmp_path) as run:
        assert 1 == run.quarantined


@pytest.mark.parametrize("name", ["results.jsonl", "objects"])
def test_a_link_that_is_laid_meanwhile_is_not_followed(
    tmp_path: Path, name: str
) -> None:
    """The result is refused, and what the link leads to stays as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("theirs")
    with opened(tmp_path / "run") as run:
        target = outside / "file" if name == "results.jsonl" else outside
        if name == "objects":
            (run.path / name).rmdir()
        (run.path / name).symlink_to(target)
        with pytest.raises(ConfigurationError, match="expected to write in"):
            run.save(refinement())
    assert {"file": b"theirs"} == held(outside)


def test_a_folder_that_is_replaced_is_not_written(tmp_path: Path) -> None:
    """Another process may have locked the new one."""
    with opened(tmp_path / "run") as run:
        run.save(refinement())
        (tmp_path / "run").rename(tmp_path / "old")
        (tmp_path / "run").mkdir()
        with pytest.raises(ConfigurationError, match="got another folder in its place"):
            run.save(refinement("another"))
    assert {} == held(tmp_path / "run")
