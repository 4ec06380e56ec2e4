"""What is believed of a run directory, to the letter: changes that went unnoticed once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.storage import failpoints
from socratic_agents.storage.checksum_lines import record_line
from socratic_agents.storage.files import (
    list_quarantine,
    quarantine_bytes,
    quarantine_file,
    write_atomic,
    write_files,
)
from socratic_agents.storage.objects import ImageStore, ObjectStore
from socratic_agents.storage.results import read_outcomes
from socratic_agents.storage.run_directory import RunDirectory
from tests.test_run_directory import refinement


def test_a_number_that_is_none_is_no_record() -> None:
    """JSON has no word for it, and a reader elsewhere would stumble."""
    with pytest.raises(ValueError, match="JSON"):
        record_line({"score": float("nan")})


def test_readers_believe_no_result_that_was_changed(tmp_path: Path) -> None:
    """Also where it still is a result; without a journal there is nothing to ask."""
    with RunDirectory(tmp_path, settings={}) as run:
        saved = run.save(refinement())
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes().replace(b"a ball", b"a bull", 1))
    with pytest.raises(
        ConfigurationError, match="run the same command again to repair"
    ):
        list(read_outcomes(tmp_path))
    (tmp_path / "journal.jsonl").unlink()
    (read,) = list(read_outcomes(tmp_path))
    assert saved.user_prompt == read.user_prompt


def test_a_name_that_no_folder_can_have_is_told(tmp_path: Path) -> None:
    """As any folder without results is."""
    with pytest.raises(
        ConfigurationError, match=r"expected a folder with results\.jsonl"
    ):
        read_outcomes(tmp_path / ("x" * 300))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
def test_all_that_is_written_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and folders: what only lies in memory is lost with the power."""
    synced, real = set[str](), os.fsync

    def record(number: int) -> None:
        synced.add(Path(f"/proc/self/fd/{number}").readlink().name)
        real(number)

    monkeypatch.setattr(os, "fsync", record)
    with RunDirectory(tmp_path / "run", settings={}) as run:
        run.save(refinement())
    expected = {"journal.jsonl", "results.jsonl", "run", "objects"}
    assert expected == {name for name in synced if not name.endswith(".part")}
    assert synced > expected


def test_each_point_where_it_could_end_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run and one result reach all of them, each before or after its deed."""
    points = list[str]()
    monkeypatch.setattr(failpoints, "hook", points.append)
    with RunDirectory(tmp_path, settings={}) as run:
        run.save(refinement())
    whole = ["file:write", "file:sync", "file:replace", "file:replaced"]
    files = [point for point in points if point.startswith("file:")]
    assert whole * 2 == files  # the config and an image
    results = [point for point in points if point.startswith("results:")]
    assert ["results:append", "results:sync", "results:synced"] == results
    steps = [point for point in points if point.startswith("journal:")]
    assert ["journal:append", "journal:sync", "journal:synced"] == steps[:3]
    assert 0 == len(steps) % 3


def test_parts_of_a_killed_process_are_taken_away(tmp_path: Path) -> None:
    """By the next who writes there; nothing else is."""
    with RunDirectory(tmp_path, settings={}) as run:
        run.save(refinement())
    (tmp_path / "quarantine").mkdir()
    name = ".socratic-0123456789abcdef.part"
    parts = [tmp_path / name, tmp_path / "objects" / name]
    parts += [tmp_path / "quarantine" / name]
    others = [
        tmp_path / "objects" / "mine.part",
        tmp_path / ".download.part",
        tmp_path / ".socratic-mine.part",
    ]
    for path in (*others, *parts):
        path.write_bytes(b"half")
    with RunDirectory(tmp_path, settings={}) as run:
        assert not any(path.exists() for path in parts)
        assert all(path.exists() for path in others)
        assert run.finished(0, "a red ball") is not None


def test_only_what_was_spoilt_since_is_counted(tmp_path: Path) -> None:
    """What an earlier run quarantined is reported no second time."""
    for number in range(1, 4):
        with RunDirectory(tmp_path, settings={}) as run:
            run.save(refinement())
            assert min(1, number - 1) == run.quarantined
        with (tmp_path / "results.jsonl").open("ab") as file:
            file.write(b"{")
        assert number - 1 == len([*(tmp_path / "quarantine").glob("*")])


def test_a_job_with_other_settings_is_refused_unless_accepted(tmp_path: Path) -> None:
    """Nobody has to say so."""
    with RunDirectory(tmp_path, settings={"seed": 1}, resume=True) as run:
        run.save(refinement())
    with (
        pytest.raises(ConfigurationError, match=r"seed: 1 -> 2"),
        RunDirectory(tmp_path, settings={"seed": 2}, resume=True),
    ):
        pass


def test_files_are_written_into_folders_that_may_be_there(tmp_path: Path) -> None:
    """And are made with all that leads to them if not."""
    folder = tmp_path / "one" / "two"
    for text in (b"a", b"b"):
        write_files(folder, {"it.txt": text})
        assert text == (folder / "it.txt").read_bytes()


def test_a_file_is_complete_before_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that a buffer still holds would be missing after a crash."""
    seen = list[bytes]()

    def look(point: str) -> None:
        if point == "file:sync":
            seen.extend(part.read_bytes() for part in tmp_path.glob(".socratic-*.part"))

    monkeypatch.setattr(failpoints, "hook", look)
    write_atomic(tmp_path / "whole", b"every byte")
    assert [b"every byte"] == seen


def test_what_is_quarantined_needs_no_folder_and_spares_what_is_there(
    tmp_path: Path,
) -> None:
    """Files of one name, and what is cut off of them, lie beside each other."""
    folder = tmp_path / "not" / "yet"
    quarantine_bytes(folder, "journal.jsonl", b"one")
    quarantine_bytes(folder, "journal.jsonl", b"two")
    for content in (b"three", b"four"):
        (folder / "config.json").write_bytes(content)
        quarantine_file(folder, folder / "config.json")
    moved = list_quarantine(folder)
    assert {b"one", b"two", b"three", b"four"} == {one.read_bytes() for one in moved}
    other = tmp_path / "nor" / "yet"
    (tmp_path / "corrupt").write_bytes(b"corrupt")
    assert b"corrupt" == quarantine_file(other, tmp_path / "corrupt").read_bytes()


def test_an_image_that_was_read_is_not_written_again(tmp_path: Path) -> None:
    """The first path that was noted holds; another one gets a path of its own."""
    encoded = list[str]()

    def encode(image: Image.Image, prompt: str, seed: int) -> bytes:
        encoded.append(f"{prompt} {seed}")
        return image.tobytes()

    store = ImageStore(ObjectStore(tmp_path / "not" / "yet"), encode)
    known, new = Image.new("RGB", (2, 2)), Image.new("RGB", (2, 2), "red")
    store.register(known, "objects/known.png")
    assert "objects/known.png" == store.add(known, prompt="a", seed=1)
    store.register(known, "objects/other.png")
    assert "objects/known.png" == store.add(known, prompt="a", seed=1)
    path = store.add(new, prompt="b", seed=2)
    assert path == store.add(new, prompt="b", seed=2)
    assert ["b 2"] == encoded
    assert new.tobytes() == (tmp_path / "not" / "yet" / path).read_bytes()
