"""The run directory: what is finished stays, whole and under names of its content.

``DIR/`` holds ``config.json``, ``objects/<sha256>.png``, ``results.jsonl`` and
``lock``. Names never come from user text.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from socratic_agents.checklist import Checklist
from socratic_agents.errors import ConfigurationError
from socratic_agents.history import SCHEMA, Failure, History, Refinement, Round

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

    from PIL.Image import Image

    from socratic_agents.history import Candidate

__all__ = (
    "RunDirectory",
    "read_object",
    "read_outcomes",
    "write_files",
    "write_page",
    "write_whole",
)

RESULTS = "results.jsonl"
CONFIG = "config.json"
LOCK = "lock"
REPORT = "report.html"
OBJECTS = "objects"

OutcomeT = TypeVar("OutcomeT", bound=Refinement | Failure)

_OBJECT = re.compile(rf"{OBJECTS}/([0-9a-f]{{64}})\.png")
_HOW_FAST = frozenset(("device", "in_flight", "offload", "timeout"))
"""Settings that do not decide what comes out; changing them goes on with a run."""


class RunDirectory:
    """Where a run is kept: one process writes, and finished work is never lost.

    Args:
        path: The folder; made if it is not there.
        settings: The resolved settings as JSON, secrets left out.
    """

    def __init__(self, path: str | Path, *, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._settings = dict(settings)
        self._records: dict[str, dict[str, Any]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the folder for this process alone.

        Raises:
            ConfigurationError: If it cannot be written, or another process is
                writing in it, or its results cannot be read.
        """
        with ExitStack() as stack, _writable(self.path):
            existed = self.path.exists()
            (self.path / OBJECTS).mkdir(parents=True, exist_ok=True)
            self._lock(stack)
            if not existed:
                stack.callback(self._remove_if_empty)
            lines = _lines(self.path)
            self._records = {_key(record): record for record in lines}
            config = {"schema": SCHEMA, "pid": os.getpid(), "settings": self._settings}
            write_whole(self.path / CONFIG, _pretty(config))
            if (self.path / RESULTS).exists():
                self._write_all()  # without a line that a killed process left torn
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Let other processes in; a folder made for nothing is taken away again."""
        self._stack.close()

    def finished(self, index: int, user_prompt: str) -> Refinement | None:
        """Return what these settings made of a prompt, if that is still whole."""
        record = self._records.get(_key_of(index, user_prompt, self._settings))
        if record is None or record["status"] != "ok":
            return None
        refinement = Refinement.from_json(record)
        kept = [*refinement.history.candidates]
        kept += [refinement.receipt.best_of_n] if refinement.receipt else []
        paths = [c.path for c in kept if c.path]
        whole = all((self.path / path).is_file() for path in paths)
        return refinement if whole else None

    def save(self, outcome: OutcomeT) -> OutcomeT:
        """Write the images of an outcome, then its line; return it with their paths.

        Raises:
            ConfigurationError: If the disk is full or the folder is not writable.
        """
        with _writable(self.path):
            if outcome.history is not None:
                outcome = replace(outcome, history=self._with_paths(outcome.history))
            if isinstance(outcome, Refinement) and outcome.receipt is not None:
                best = self._kept(outcome.receipt.best_of_n)
                receipt = replace(outcome.receipt, best_of_n=best)
                outcome = replace(outcome, receipt=receipt)
            record = {**outcome.to_json(), "settings": self._settings}
            known = _key(record) in self._records
            self._records[_key(record)] = record
            if known:
                self._write_all()
            else:
                with (self.path / RESULTS).open("ab") as file:
                    file.write(_line(record))
                    file.flush()
                    os.fsync(file.fileno())
        return outcome

    def _remove_if_empty(self) -> None:
        """Leave nothing half-written behind when not one outcome was saved."""
        if self._records:
            return
        with suppress(OSError):
            for name in (CONFIG, LOCK):
                (self.path / name).unlink(missing_ok=True)
            for folder in (self.path / OBJECTS, self.path):
                folder.rmdir()

    def _lock(self, stack: ExitStack) -> None:
        from filelock import FileLock, Timeout  # noqa: PLC0415 - only writers need it

        try:
            stack.enter_context(FileLock(self.path / LOCK, timeout=0))
        except Timeout:
            message = (
                f"expected {self.path} to be free, but {self._writer()} is writing in "
                "it; wait for it, or choose another folder"
            )
            raise ConfigurationError(message) from None

    def _writer(self) -> str:
        try:
            return f"process {json.loads((self.path / CONFIG).read_bytes())['pid']}"
        except (OSError, ValueError, KeyError):  # it has only just begun
            return "another process"

    def _with_paths(self, history: History) -> History:
        rounds = (
            replace(round_, candidates=tuple(map(self._kept, round_.candidates)))
            for round_ in history.rounds
        )
        return replace(history, rounds=tuple(rounds))

    def _kept(self, candidate: Candidate) -> Candidate:
        if candidate.image is None:
            return candidate
        data = _png(candidate.image)
        path = f"{OBJECTS}/{hashlib.sha256(data).hexdigest()}.png"
        if not (self.path / path).exists():
            write_whole(self.path / path, data)
        return replace(candidate, path=path)

    def _write_all(self) -> None:
        lines = b"".join(map(_line, self._records.values()))
        write_whole(self.path / RESULTS, lines)


def read_outcomes(path: str | Path) -> list[Refinement | Failure]:
    """Return what a run directory holds, in the order of its inputs.

    Raises:
        ConfigurationError: If there are no results, or they cannot be read.
    """
    folder = Path(path)
    if not (folder / RESULTS).is_file():
        message = (
            f"expected a folder with {RESULTS}, got {folder}; "
            "make one with 'socratic batch' or 'socratic refine'"
        )
        raise ConfigurationError(message)
    outcomes = [_outcome(record) for record in _lines(folder)]
    return sorted(outcomes, key=lambda outcome: outcome.index)


def read_object(folder: Path, path: str) -> bytes | None:
    """Return a kept image's bytes, or ``None`` if it is not there as it was written.

    Args:
        folder: The run directory.
        path: A candidate's path; anything but ``objects/<sha256>.png`` is refused,
            because a run directory may come from somebody else.
    """
    named = _OBJECT.fullmatch(path)
    if named is None:
        return None
    try:
        data = (folder / path).read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == named[1] else None


def write_page(folder: Path, page: str) -> Path:
    """Write the report of a run directory and return where it is.

    Raises:
        ConfigurationError: If the disk is full or the folder is not writable.
    """
    with _writable(folder):
        # Half a surrogate pair is no character; it is shown as a question mark.
        write_whole(folder / REPORT, page.encode("utf-8", "replace"))
    return folder / REPORT


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is made if it is not there; each is whole.

    Raises:
        ConfigurationError: If the disk is full or the folder is not writable.
    """
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_whole(folder / name, data)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a crash."""
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every system can sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = (
            f"expected to write in {path}, got: {reason}; "
            "make room or get rights, or choose another folder"
        )
        raise ConfigurationError(message) from error


def _lines(folder: Path) -> list[dict[str, Any]]:
    """Read the results; the last line may be torn if the writer was killed."""
    path = folder / RESULTS
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            record = json.loads(line)
            _outcome(record)
        except (ValueError, KeyError, TypeError, AttributeError):
            if number == len(lines):
                break
            message = (
                f"expected line {number} of {path} to be a result, got something else; "
                "restore the file, or choose another folder"
            )
            raise ConfigurationError(message) from None
        records.append(record)
    return records


def _outcome(record: Mapping[str, Any]) -> Refinement | Failure:
    if record["status"] == "ok":
        return Refinement.from_json(record)
    rounds = tuple(map(Round.from_json, record["rounds"]))
    checklist = record.get("checklist")
    return Failure(
        user_prompt=record["user_prompt"],
        error=record["error"],
        kind=record["kind"],
        history=History(
            user_prompt=record["user_prompt"],
            rounds=rounds,
            checklist=checklist and Checklist.from_json(checklist),
        ),
        index=record["index"],
    )


def _key(record: Mapping[str, Any]) -> str:
    return _key_of(record["index"], record["user_prompt"], record.get("settings", {}))


def _key_of(index: int, user_prompt: str, settings: Mapping[str, Any]) -> str:
    """Return what decides an outcome: input and settings, but not the speed."""
    deciding = {k: v for k, v in sorted(settings.items()) if k not in _HOW_FAST}
    return json.dumps([index, user_prompt, deciding])


def _line(record: Mapping[str, Any]) -> bytes:
    # ASCII, because some readers take U+2028 for the end of a line.
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def _pretty(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", icc_profile=None)
    return buffer.getvalue()
