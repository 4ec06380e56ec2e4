"""The journal: what is finished stays, what is not whole is never believed."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.core.errors import ClosedError, ConfigurationError
from socratic_agents.storage import failpoints
from socratic_agents.storage.checksum_lines import record_line, record_of
from socratic_agents.storage.journal import Journal, key_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

KEYS = [key_of("caption", number) for number in range(5)]


def filled(folder: Path, count: int = 3) -> bytes:
    """Return the bytes of a journal with some steps."""
    with Journal(folder) as journal:
        for number in range(count):
            journal.put("caption", KEYS[number], {"text": f"caption {number}"})
    return (folder / "journal.jsonl").read_bytes()


def texts(folder: Path) -> list[Any]:
    """Return what a journal knows of the steps."""
    with Journal(folder) as journal:
        values = [journal.get(key) for key in KEYS]
    return [value and value["text"] for value in values]


def answers(value: dict[str, Any], asked: list[int]) -> Callable[[], Awaitable[Any]]:
    async def do() -> dict[str, Any]:
        asked.append(1)
        await asyncio.sleep(0)
        return value

    return do


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none(), min_size=1))
def test_a_record_comes_back_as_it_was_written(record: dict[str, Any]) -> None:
    """Whatever it holds, on one line of ASCII."""
    line = record_line(record)
    assert record == record_of(line)
    assert line.isascii()
    assert 1 == line.count(b"\n")


@given(st.data())
def test_no_other_line_is_taken_for_a_record(data: st.DataObject) -> None:
    """One flipped bit, or a missing end, and it is none."""
    line = record_line({"key": "a", "value": {"text": "héllo"}})
    place = data.draw(st.integers(0, len(line) - 1))
    flipped = bytearray(line)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    assert record_of(bytes(flipped)) is None
    assert record_of(line[:place]) is None
    assert record_of(data.draw(st.binary())) is None


def test_a_step_outlives_its_process(tmp_path: Path) -> None:
    """The next one that opens the folder knows it."""
    filled(tmp_path)
    assert ["caption 0", "caption 1", "caption 2", None, None] == texts(tmp_path)
    with Journal(tmp_path) as journal:
        assert 3 == len(journal)


def test_the_last_answer_of_a_step_counts(tmp_path: Path) -> None:
    """A step that had to be done again has two lines."""
    filled(tmp_path)
    with Journal(tmp_path) as journal:
        journal.put("caption", KEYS[0], {"text": "again"})
        assert {"text": "again"} == journal.get(KEYS[0])
        journal.flush()
        assert {"text": "again"} == journal.get(KEYS[0])
    assert "again" == texts(tmp_path)[0]


def test_a_torn_tail_costs_its_step_alone(tmp_path: Path) -> None:
    """Wherever the writer was killed; what was torn goes to quarantine."""
    whole = filled(tmp_path)
    first = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(first, len(whole), 5):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(whole[:cut])
        assert ["caption 0", "caption 1", None] == texts(folder)[:3]
        assert whole[:first] == (folder / "journal.jsonl").read_bytes()
        aside = [path.read_bytes() for path in folder.glob("quarantine/*")]
        assert ([whole[first:cut]] if cut > first else []) == aside


@pytest.mark.parametrize("line", range(4))
def test_a_spoilt_line_costs_its_step_alone(tmp_path: Path, line: int) -> None:
    """The others stay, and so does what was written about the corrupt one."""
    lines = filled(tmp_path).splitlines(keepends=True)
    lines[line] = lines[line].replace(b"a", b"A", 1)
    (tmp_path / "journal.jsonl").write_bytes(b"".join(lines))
    expected = ["caption 0", "caption 1", "caption 2"]
    if line:
        expected[line - 1] = None  # type: ignore[call-overload]
    assert expected == texts(tmp_path)[:3]
    assert [lines[line]] == [p.read_bytes() for p in tmp_path.glob("quarantine/*")]


def test_a_line_that_is_spoilt_meanwhile_is_not_believed(tmp_path: Path) -> None:
    """What is read back is checked again."""
    with Journal(tmp_path) as journal:
        journal.put("caption", KEYS[0], {"text": "a ball"})
        journal.flush()
        path = tmp_path / "journal.jsonl"
        path.write_bytes(path.read_bytes().replace(b"a ball", b"a bull"))
        assert journal.get(KEYS[0]) is None


def test_other_versions_are_told(tmp_path: Path) -> None:
    """And left as they are."""
    line = record_line({"journal": 2})
    (tmp_path / "journal.jsonl").write_bytes(line)
    with pytest.raises(
        ConfigurationError, match=r"version 1 in .*, got version 2; use"
    ):
        Journal(tmp_path).__enter__()
    assert line == (tmp_path / "journal.jsonl").read_bytes()


async def test_a_known_step_is_not_done_again(tmp_path: Path) -> None:
    """Neither here nor by the next who opens the folder; both are counted."""
    asked: list[int] = []
    for number in range(2):
        with Journal(tmp_path) as journal:
            for _ in range(2):
                call = answers({"text": "a ball"}, asked)
                value = await journal.cached_call("look", KEYS[0], call)
                assert {"text": "a ball"} == value
            assert 1 - number == journal.added["look"]
            assert 1 + number == journal.reused["look"]
    assert [1] == asked


async def test_those_who_ask_at_once_wait_for_the_first(tmp_path: Path) -> None:
    """The call is made once."""
    asked: list[int] = []
    with Journal(tmp_path) as journal:
        call = answers({"text": "a ball"}, asked)
        calls = [journal.cached_call("look", KEYS[0], call) for _ in range(9)]
        values = await asyncio.gather(*calls)
    assert [{"text": "a ball"}] * 9 == values
    assert [1] == asked


async def test_a_step_that_failed_is_done_by_the_next(tmp_path: Path) -> None:
    """An error is no answer, and is not kept; nor is a step that was cancelled."""
    asked: list[int] = []

    async def fail() -> dict[str, Any]:
        asked.append(0)
        await asyncio.sleep(0)
        raise LookupError

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    with Journal(tmp_path) as journal:
        first = asyncio.create_task(journal.cached_call("look", KEYS[0], fail))
        second = asyncio.create_task(journal.cached_call("look", KEYS[0], never))
        third = journal.cached_call("look", KEYS[0], answers({"text": "a ball"}, asked))
        last = asyncio.create_task(third)
        with pytest.raises(LookupError):
            await first
        await asyncio.sleep(0)
        second.cancel()
        assert {"text": "a ball"} == await last
    assert [0, 1] == asked


async def test_what_was_paid_for_is_on_the_disk(tmp_path: Path) -> None:
    """Before anybody goes on with it, and after the images that led to it."""
    release, order = threading.Event(), list[str]()

    def encode() -> dict[str, Any]:
        release.wait()
        order.append("image")
        return {"object": "there"}

    with Journal(tmp_path) as journal:
        journal.put_async("generate", KEYS[1], encode)
        put = journal.put_durable("llm", KEYS[0], {"text": "yes"})
        task = asyncio.create_task(put)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        release.set()
        await task
        lines = (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    records = [record_of(line) or {} for line in lines]
    assert [None, "generate", "llm"] == [record.get("kind") for record in records]


def test_lines_that_wait_are_synced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is asked far less often than there are steps."""
    syncs, go, busy = list[str](), threading.Event(), threading.Event()

    def hook(point: str) -> None:
        if point == "journal:sync":
            syncs.append(point)
            busy.set()
            go.wait()

    monkeypatch.setattr(failpoints, "hook", hook)
    with Journal(tmp_path) as journal:
        busy.wait()
        for number in range(100):
            journal.put("look", key_of("look", number), {"text": "x"})
        go.set()
        journal.flush()
    assert 2 == len(syncs)


@pytest.mark.parametrize("point", ["journal:append", "journal:sync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
async def test_a_disk_that_fails_is_told_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, code: int
) -> None:
    """In one line with the folder; nothing more is written, and no half of a line."""
    before = filled(tmp_path)

    def hook(reached: str) -> None:
        if reached == point:
            raise OSError(code, "no luck")

    with Journal(tmp_path) as journal:
        monkeypatch.setattr(failpoints, "hook", hook)
        with pytest.raises(ConfigurationError, match=f"write in {tmp_path}, got: no"):
            await journal.put_durable("llm", KEYS[3], {"text": "yes"})
        monkeypatch.setattr(failpoints, "hook", None)
        with pytest.raises(ConfigurationError, match="no luck"):
            journal.put("llm", KEYS[3], {"text": "yes"})
        with pytest.raises(ConfigurationError, match="no luck"):
            journal.flush()
    assert before == (tmp_path / "journal.jsonl").read_bytes()


def test_an_image_that_cannot_be_kept_is_told_soon(tmp_path: Path) -> None:
    """By the next who finishes a step."""

    def fail() -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "full")

    with Journal(tmp_path) as journal:
        journal.put_async("generate", KEYS[0], fail)
        with pytest.raises(ConfigurationError, match="full"):
            journal.flush()
        with pytest.raises(ConfigurationError, match="full"):
            journal.put("look", KEYS[1], {"text": "x"})


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """When it is opened."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="expected to write in"):
        Journal(tmp_path / "file").__enter__()


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    """What was put before is there."""
    journal = Journal(tmp_path)
    with pytest.raises(ClosedError):
        journal.put("look", KEYS[0], {"text": "x"})
    with journal:
        pass
    with pytest.raises(ClosedError):
        journal.put_async("look", KEYS[0], dict)


async def test_a_cache_serves_another_folder(tmp_path: Path) -> None:
    """With its images; what is found there need not be found again."""
    with Journal(tmp_path / "cache", shared=True) as cache:
        path = cache.objects.add(b"png")
        cache.put("generate", KEYS[0], {"object": path})
        gone = f"objects/{'0' * 64}.png"
        cache.put("generate", KEYS[1], {"object": gone})
    run = tmp_path / "run"
    with Journal(run, cache=Journal(tmp_path / "cache", shared=True)) as journal:
        assert {"object": path} == journal.get_or_copy_from_cache("generate", KEYS[0])
        assert b"png" == journal.objects.get(path)
        assert journal.get_or_copy_from_cache("generate", KEYS[1]) is None
        journal.put("look", KEYS[2], {"text": "x"})
    with Journal(run) as journal:
        assert {"object": path} == journal.get(KEYS[0])
    with Journal(tmp_path / "cache", shared=True) as cache:
        assert {"text": "x"} == cache.get(KEYS[2])


def test_several_may_append_to_a_cache(tmp_path: Path) -> None:
    """Each finds its own lines, and the next one all; a torn one spoils no other."""
    (tmp_path / "journal.jsonl").write_bytes(b'{"check": "torn')
    one, two = Journal(tmp_path, shared=True), Journal(tmp_path, shared=True)
    with one, two:
        for number in range(4):
            journal = (one, two)[number % 2]
            journal.put("caption", KEYS[number], {"text": str(number)})
            journal.flush()
        assert {"text": "0"} == one.get(KEYS[0])
        assert {"text": "3"} == two.get(KEYS[3])
    with Journal(tmp_path, shared=True) as journal:
        known = [journal.get(key) for key in KEYS[:4]]
    assert [{"text": str(number)} for number in range(4)] == known
    assert b'{"check": "torn\n' in (tmp_path / "journal.jsonl").read_bytes()
    assert not (tmp_path / "quarantine").exists()


def test_keys_tell_everything_apart() -> None:
    """The kind, each value and their order."""
    keys = [
        key_of("look", "a", "b"),
        key_of("look", "ab"),
        key_of("look", "b", "a"),
        key_of("decide", "a", "b"),
        key_of("look", {"a": "b"}),
        key_of("look", ["a", "b"]),
    ]
    assert len(keys) == len(set(keys))
    assert key_of("x", {"a": 1, "b": 2}) == key_of("x", {"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        key_of("look", float("nan"))


def test_the_file_says_its_version(tmp_path: Path) -> None:
    """In its first line."""
    first = filled(tmp_path).splitlines()[0]
    assert 1 == json.loads(first)["journal"]
