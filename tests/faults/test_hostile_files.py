"""Folders of anybody: what every command reads back may hold anything, and be anything.

F19 Each file of a run, a comparison, a study and a survey, and what calls cost, is cut,
    mutated (bytes, values, kinds of values, depth, numbers without end) and replaced by
    pipes, sockets, folders, links in circles, links to devices and to other people's
    files; what has a checksum also gets the right one. Every command that reads the file
    ends by itself, in one line and with an exit code of its own; what it does not
    understand is still there, and nobody else's file is changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.cli.app import main
from socratic_agents.lab.survey.design import read_key
from socratic_agents.storage.checksum_lines import record_line, record_of
from socratic_agents.storage.results import result_key
from socratic_agents.storage.run_config import _hash
from tests.faults.trials import numbered
from tests.studies import TINY, Painter, written
from tests.surveys import answered, compared, prefer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.no_cover  # it repeats what other tests measure

QUICK = ("--preset", "classic", "--rounds", "2", "--scorer", "none")
SHARES = 60
"""Of the trials of a file one in so many is made each time, and all of them at night."""
SECONDS = 60
"""After which a command hangs."""
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "x" * 9),
    *("../../etc/passwd", "objects/" + "0" * 64 + ".png", "\ud800", "\0", [], {}),
    *([[]], [None], {"": None}, {"a": {"b": []}}, ["x"] * 3, "NaN"),
)
RAW = (
    *(b"", b"\0", b"\xff\xfe{}", b"\n\n\n", b"null", b"[]", b"{}", b"true", b'"x"'),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b"1e99999", b"NaN", b"{" * 9),
    *(b'{"schema": 1, "schema": 2}', b'{"schema": ' + b"9" * 5_000 + b"}"),
    *(b"\xef\xbb\xbf{}", b"{}\r{}", b"\x1b[2J", b'{"schema": 1e999}'),
)
KINDS = (
    *("pipe", "socket", "folder", "circle", "zero", "nowhere", "elsewhere", "shared"),
    *("full folder",),
)


@dataclass(frozen=True)
class Reader:
    """A command that reads files back."""

    folder: str
    """The place of the folder that it is given."""
    arguments: tuple[str, ...]
    """``{}`` stands for the folder."""
    files: tuple[str, ...]
    writes: bool = False
    """Whether it goes on in the folder, and may set aside what is corrupt."""


RUN = ("config.json", "journal.jsonl", "results.jsonl", "objects", "quarantine", "lock")
SAVED = ("config.json", "journal.jsonl", "results.jsonl")
STUDY = (
    *("study.json", "arms/one/0/scores.json", "arms/one/0/results.jsonl"),
    *("arms/one/0/journal.jsonl", "arms/one/0/config.json", "arms/one/0"),
)
READERS = {
    "batch": Reader("run", ("batch", "{}/../in.txt", "--out", "{}", *QUICK), RUN, True),
    "refine": Reader("run", ("refine", "a red ring", "--out", "{}", *QUICK), RUN, True),
    "cache": Reader(
        "run",
        ("refine", "a blue disc", "--cache", "{}", "--out", "{}/../made", *QUICK),
        ("journal.jsonl", "objects"),
        True,
    ),
    "report": Reader("run", ("report", "{}"), SAVED),
    "report linked": Reader("run", ("report", "{}", "--linked"), SAVED),
    "replay": Reader("run", ("replay", "{}", "--selector", "last"), SAVED, True),
    "harvest": Reader("run", ("lab", "harvest", "{}", "--out", "{}/../b.jsonl"), SAVED),
    "survey": Reader(
        "compared",
        ("lab", "survey", "{}", "--arms", "ours,theirs", "--out", "{}/s.html"),
        ("trials.jsonl", "comparison.json", "objects", "s.key.json"),
    ),
    "survey of runs": Reader(
        "run",
        ("lab", "survey", "{}", "--arms", "a={},b={}", "--out", "{}/../s.html"),
        SAVED,
    ),
    "survey-results": Reader(
        "survey",
        ("lab", "survey-results", "{}/answers"),
        ("survey.key.json", "answers/1.json", "answers"),
    ),
    "survey-results of one": Reader(
        "survey",
        ("lab", "survey-results", "{}/answers/1.json"),
        ("survey.key.json", "answers/1.json"),
    ),
    "lab report": Reader("study", ("lab", "report", "{}"), STUDY),
    "lab run": Reader(
        "study", ("lab", "run", "{}/../tiny.yaml", "--out", "{}"), STUDY, True
    ),
    "lab harvest": Reader(
        "study",
        ("lab", "harvest", "{}", "--arm", "one", "--out", "{}/../b.jsonl"),
        STUDY,
    ),
    "cost": Reader(
        "cache",
        ("lab", "run", "{}/../tiny.yaml", "--out", "{}/../new", "--dry-run"),
        ("calibration.json",),
    ),
    "doctor": Reader("cache", ("doctor",), ("steadiness.json",)),
    "calibration": Reader(
        "cache",
        ("refine", "a blue disc", "--out", "{}/../made", *QUICK),
        ("calibration.json", "steadiness.json"),
        True,
    ),
}
READ: tuple[str, ...] = (
    *SAVED,
    "study.json",
    "scores.json",
    "trials.jsonl",
    "comparison.json",
)
READ += ("survey.key.json", "1.json", "2.json", "calibration.json")
"""What no command changes that only reads."""
CASES = [(name, file) for name, one in READERS.items() for file in one.files]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one folder of each kind."""
    root = tmp_path_factory.mktemp("places")
    (root / "in.txt").write_text("a blue disc\na red ring\n")
    written(root, TINY)
    batch = ["batch", str(root / "in.txt"), "--out", str(root / "run"), *QUICK]
    study = ["lab", "run", str(root / "tiny.yaml"), "--out", str(root / "study")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOCRATIC_ALLOW_POCKET", "1")
        patch.setenv("SOCRATIC_CACHE", str(root / "unused"))
        assert 0 == ran(batch)
        assert 0 == ran(study)
    (root / "compared").mkdir()
    compared(root / "compared")
    (root / "survey" / "answers").mkdir(parents=True)
    make = ["lab", "survey", str(root / "compared"), "--arms", "ours,theirs"]
    assert 0 == main([*make, "--out", str(root / "survey" / "survey.html")])
    assert 0 == main([*make, "--out", str(root / "compared" / "s.html")])
    key = read_key(root / "survey" / "survey.key.json")
    for rater in (1, 2):
        said = answered(key, prefer("ours"), rater=rater)
        (root / "survey" / "answers" / f"{rater}.json").write_bytes(said)
    (root / "cache").mkdir()
    curve = {
        "stage": "generator",
        "model": "pocket",
        "key": "None",
        "seconds": {"4": 1},
    }
    kept = {"schema": 1, "curves": [curve, {**curve, "stage": "captioner"}]}
    (root / "cache" / "calibration.json").write_text(json.dumps(kept))
    found = {"schema": 1, "steady": {"a": True}}
    (root / "cache" / "steadiness.json").write_text(json.dumps(found))
    return root


def ran(arguments: list[str]) -> int:
    """Run a command whose images are painted by hand."""
    return main(arguments, open_refiner=Painter().open)


@cache
def secret() -> bytes:
    """Return what another program keeps."""
    return random.Random(0).randbytes(200)


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a value."""
    yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, one in items:
        yield from paths_in(one, (*path, key))


def changed(
    value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]
) -> Any:
    """Return a copy of a value in which one place is another."""
    copy = json.loads(json.dumps(value))
    inside = copy
    for key in path[:-1]:
        inside = inside[key]
    change(inside, path[-1])
    return copy


def texts(value: Any, chance: random.Random, count: int) -> Iterator[Any]:
    """Yield a JSON value in which one thing is wrong."""
    places = [path for path in paths_in(value) if path]
    for _ in range(count if places else 0):
        path, new = chance.choice(places), chance.choice(VALUES)

        def put(inside: Any, key: Any, new: Any = new) -> None:
            inside[key] = new

        def drop(inside: Any, key: Any) -> None:
            del inside[key]

        yield changed(value, path, chance.choice((put, put, put, drop)))


def signed_as(name: str, value: Any, folder: Path) -> bytes:
    """Return a value as the file has it, with the checksum that it asks for."""
    if name == "config.json" and isinstance(value, dict):
        value.pop("sha256", None)
        with suppress(Exception):
            value["sha256"] = _hash(value)
    if name.endswith(".key.json") and isinstance(value, dict) and "study" in value:
        content = {k: v for k, v in value.items() if k != "study"}
        said = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        said_so = said.encode("utf-8", "surrogatepass")
        value["study"] = hashlib.sha256(said_so).hexdigest()[:16]
    if name == "1.json" and isinstance(value, dict):
        content = {k: v for k, v in value.items() if k != "checksum"}
        with suppress(Exception):
            said = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
            value["checksum"] = hashlib.sha256(said.encode()).hexdigest()
    text = json.dumps(value).encode()
    if name == "results.jsonl":
        line = record_line(
            {"kind": "result", "key": result_key(text + b"\n"), "value": {}}
        )
        with (folder / "journal.jsonl").open("ab") as journal:
            journal.write(line)
    return text


def mutated(file: Path, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield what a file may hold instead, and what that is."""
    data = file.read_bytes()
    for raw in RAW:
        yield repr(raw[:20]), raw
        yield f"whole and {raw[:20]!r}", data + raw
    for _ in range(12):
        at = chance.randrange(len(data) + 1)
        yield f"cut at {at}", data[:at]
        at = chance.randrange(len(data))
        bit = bytes([data[at] ^ 1 << chance.randrange(8)])
        yield f"bit at {at}", data[:at] + bit + data[at + 1 :]
        yield f"NUL at {at}", data[:at] + b"\0" * 9 + data[at:]
    yield "twice", data * 2
    whole = file.suffix == ".json"
    lines = [data] if whole else data.splitlines()
    for number, line in enumerate(lines):
        if file.name == "journal.jsonl":
            record = record_of(line + b"\n")
            for new in texts(record, chance, 4):
                with suppress(ValueError, TypeError):
                    put = [*lines[:number], record_line(new)[:-1], *lines[number + 1 :]]
                    yield f"line {number} is {new}", b"\n".join(put) + b"\n"
            continue
        for new in texts(json.loads(line), chance, 60 if whole else 8):
            text = signed_as(file.name, new, file.parent)
            put = [*lines[:number], text, *lines[number + 1 :]]
            yield f"line {number} is {text[:3000]!r}", b"\n".join(put) + b"\n"


def replaced(path: Path, others: Path, *, kind: str) -> None:
    """Put something else in the place of a file or folder."""
    aside = others / "moved"
    path.replace(aside)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(path.parent)  # their names may not be long
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
        os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    elif kind == "full folder":
        path.mkdir()
        (path / "mine.txt").write_bytes(secret())
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "nowhere":
        path.symlink_to(others / "nowhere" / "at all")
    elif kind == "elsewhere":
        path.symlink_to(aside)
    elif kind == "shared" and aside.is_file():
        os.link(aside, path)
    else:
        path.write_bytes(secret())


@contextmanager
def limited() -> Iterator[None]:
    """Interrupt what hangs."""

    def ring(*_: object) -> None:
        message = f"it took more than {SECONDS} s"
        raise AssertionError(message)

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def contents(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder, links not followed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def trial(
    case: Reader, root: Path, others: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run a command, which must end as one does."""
    folder, theirs = root / case.folder, contents(others)
    before = contents(folder)
    given = [part.replace("{}", str(folder)) for part in case.arguments]
    with limited():
        code = ran(given)
    said = capsys.readouterr()
    assert code in {0, 1, 2}, said
    assert "Traceback" not in said.err
    if code == 2:
        [line] = [x for x in said.err.splitlines() if x.startswith("error: ")]
        assert "expected" in line
        assert len(line) < 2_000
    assert theirs == contents(others)
    after = contents(folder)
    if not case.writes:
        gone = [name for name, data in before.items() if after.get(name) != data]
        assert [] == [
            name for name in gone if name.endswith(READ) or "objects/" in name
        ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("share", numbered(SHARES, smoke=1))
@pytest.mark.parametrize(("name", "file"), CASES)
def test_what_is_read_back_may_be_anything(
    places: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    file: str,
    share: int,
) -> None:
    """Each command ends by itself, in one line, and nobody's files are lost."""
    case, chance = READERS[name], random.Random(f"{name} {file}")
    monkeypatch.setenv("SOCRATIC_ALLOW_POCKET", "1")
    if case.folder == "cache":
        monkeypatch.setenv("SOCRATIC_CACHE", str(tmp_path / "w" / "cache"))
    problems = list[str]()
    # What is signed is noted in the journal beside it, so it is a copy's.
    copy = tmp_path / "c" / case.folder
    shutil.copytree(places / case.folder, copy, symlinks=True)
    ways = list(ways_to_spoil(copy / file, chance))
    for what, spoil in ways[share::SHARES]:
        root, others = tmp_path / "w", tmp_path / "others"
        lay_out(places, copy, root, others, case, file)
        spoil(root / case.folder / file, others)
        try:
            trial(case, root, others, capsys)
        except BaseException as problem:  # noqa: BLE001 - all of them are told
            where = traceback.extract_tb(problem.__traceback__)[-1]
            told = f"{where.filename}:{where.lineno}: {problem!r}"
            problems.append(f"{what[:500]}: {told[:1500]}")
    assert [] == problems


def ways_to_spoil(
    file: Path, chance: random.Random
) -> Iterator[tuple[str, Callable[[Path, Path], object]]]:
    """Yield what becomes of a file, and what makes it so, given it and a folder."""
    for kind in KINDS:
        yield kind, partial(replaced, kind=kind)
    if file.is_file() and file.stat().st_size:
        for what, data in mutated(file, chance):
            yield what, partial(put_instead, data=data)


def put_instead(path: Path, _: Path, *, data: bytes) -> None:
    """Write something else into a file."""
    path.write_bytes(data)


def lay_out(
    places: Path, copy: Path, root: Path, others: Path, case: Reader, file: str
) -> None:
    """Lay out the folders of a trial anew."""
    for old in (root, others):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(places / case.folder, root / case.folder, symlinks=True)
    for one in ("in.txt", "tiny.yaml"):
        shutil.copy(places / one, root)
    others.mkdir()
    (others / "theirs.txt").write_bytes(secret())
    beside = copy / Path(file).parent / "journal.jsonl"
    if file.endswith("results.jsonl") and beside.exists():
        shutil.copy(beside, root / case.folder / Path(file).parent)
    path = root / case.folder / file
    if not path.exists():
        path.mkdir() if file == "quarantine" else path.touch()
