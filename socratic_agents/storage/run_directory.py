"""The run directory: what is finished stays, whole and under names of its content.

``DIR/`` holds ``config.json``, ``journal.jsonl``, ``objects/<sha256>.png``,
``results.jsonl`` and ``lock``; what is found spoilt goes to ``quarantine/``. Names never
come from user text.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import SCHEMA, Failure, Refinement
from socratic_agents.storage.failpoints import reached
from socratic_agents.storage.journal import FILE as JOURNAL
from socratic_agents.storage.journal import Journal
from socratic_agents.storage.objects import (
    OBJECTS,
    Gallery,
    Objects,
    list_aside,
    put_aside,
    remove_parts,
    writable,
    write_aside,
    write_whole,
)
from socratic_agents.storage.results import (
    RESULTS,
    read_outcomes,
    read_results,
    result_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from PIL.Image import Image

    from socratic_agents.core.history import Candidate, History

__all__ = (
    "RunDirectory",
    "read_object",
    "read_outcomes",
    "write_files",
    "write_object",
    "write_page",
)

CONFIG = "config.json"
LOCK = "lock"
REPORT = "report.html"

OutcomeT = TypeVar("OutcomeT", bound=Refinement | Failure)

HOW_FAST = frozenset(
    (
        "device",
        "in_flight",
        "llm_concurrency",
        "llm_rate",
        "metadata",
        "offload",
        "patience",
        "timeout",
        "workers",
    )
)
"""Settings that do not decide what comes out; changing them goes on with a run."""


class RunDirectory:
    """Where a run is kept: one process writes, and finished work is never lost.

    Args:
        path: The folder; made if it is not there.
        settings: The resolved settings as JSON, secrets left out.
        templates: The hash of each role's template.
        going_on: Whether this is one job that is gone on with: finished prompts are
            found whatever the settings were, and other settings are refused.
        accept: Whether other settings are accepted then, for what is not finished.
        cache: A folder of steps that is shared with other runs.
        encode: Makes a PNG of an image, its prompt and its seed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        settings: Mapping[str, Any],
        templates: Mapping[str, str] | None = None,
        going_on: bool = False,
        accept: bool = False,
        cache: str | Path | None = None,
        encode: Callable[[Image, str, int], bytes] | None = None,
    ) -> None:
        self.path = Path(path)
        shared = None if cache is None else Journal(Path(cache), shared=True)
        self.journal = Journal(self.path, cache=shared)
        self.gallery = Gallery(self.journal.objects, encode or _bare)
        self._settings, self._templates = dict(settings), dict(templates or {})
        self._going_on, self._accept = going_on, accept
        self._records: dict[str, dict[str, Any]] = {}
        self._aside = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the folder for this process alone.

        Raises:
            ConfigurationError: If it cannot be written, another process is writing
                in it, it is of another version, or it was begun with other settings.
        """
        with ExitStack() as stack, writable(self.path):
            existed = self.path.exists()
            (self.path / OBJECTS).mkdir(parents=True, exist_ok=True)
            self._lock(stack)
            if not existed:
                stack.callback(self._remove_if_empty)
            remove_parts(self.path)
            self._aside = len(list_aside(self.path))
            self._compare()
            known = (self.path / JOURNAL).exists()
            stack.enter_context(self.journal)
            self._read(known=known)
            self._write_config()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Let other processes in; a folder made for nothing is taken away again."""
        self._stack.close()

    @property
    def spoilt(self) -> int:
        """How many files were put aside since it was opened."""
        return len(list_aside(self.path)) - self._aside

    def finished(self, index: int, user_prompt: str) -> Refinement | None:
        """Return what was made of a prompt, if it and its images are still whole.

        Raises:
            ConfigurationError: If a spoilt image cannot be put aside.
        """
        key = _key_of(index, user_prompt, self._settings)
        record = self._records.get(key)
        if record is None and self._going_on:
            asked = {"index": index, "user_prompt": user_prompt}
            same = (r for r in self._records.values() if asked.items() <= r.items())
            record = next(same, None)
        if record is None or record["status"] != "ok":
            return None
        refinement = Refinement.from_json(record)
        kept = [*refinement.history.candidates]
        kept += [refinement.receipt.best_of_n] if refinement.receipt else []
        with writable(self.path):
            whole = [self.journal.objects.sound(c.path) for c in kept if c.path]
        return refinement if all(whole) else None

    def save(self, outcome: OutcomeT) -> OutcomeT:
        """Write the images of an outcome, then its line; return it with their paths.

        Raises:
            ConfigurationError: If the disk is full or the folder is not writable.
        """
        with writable(self.path):
            outcome = self.with_paths(outcome)
            record = {**outcome.to_json(), "settings": self._settings}
            line, key = _line(record), _key(record)
            # The journal first: a line that it does not know is not believed.
            written = self.journal.put("result", result_key(line), {"index": key[:16]})
            written.result()
            known, self._records[key] = key in self._records, record
            if known:
                self._write_all()
            else:
                self._append(line)
        return outcome

    def with_paths(self, outcome: OutcomeT) -> OutcomeT:
        """Return an outcome whose images are in the folder, with their paths.

        Raises:
            OSError: If an image is not there yet and cannot be written.
        """
        if outcome.history is not None:
            outcome = replace(outcome, history=self._with_paths(outcome.history))
        if isinstance(outcome, Refinement) and outcome.receipt is not None:
            best = self._kept(outcome.receipt.best_of_n)
            receipt = replace(outcome.receipt, best_of_n=best)
            outcome = replace(outcome, receipt=receipt)
        return outcome

    def _append(self, line: bytes) -> None:
        reached("results:append")
        with (self.path / RESULTS).open("ab") as file:
            end = file.tell()
            try:
                file.write(line)
                file.flush()
                reached("results:sync")
                os.fsync(file.fileno())
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(file.fileno(), end)
                raise
        reached("results:synced")

    def _remove_if_empty(self) -> None:
        """Leave nothing half-written behind when not one step was finished."""
        if self._records or len(self.journal):
            return
        with suppress(OSError):
            for name in (CONFIG, JOURNAL, LOCK):
                (self.path / name).unlink(missing_ok=True)
            for folder in (self.path / OBJECTS, self.path):
                folder.rmdir()

    def _lock(self, stack: ExitStack) -> None:
        from filelock import FileLock, Timeout

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

    def _compare(self) -> None:
        """Refuse to go on with other settings than those that the run began with."""
        config = _config(self.path)
        if config is None:
            return
        if config["schema"] != SCHEMA:
            message = (
                f"expected a run of version {SCHEMA} in {self.path}, got version "
                f"{config['schema']}; use the release of this package that made it, "
                "or choose another folder"
            )
            raise ConfigurationError(message)
        if not self._going_on or self._accept:
            return
        before = _decisive(config["settings"], config["templates"])
        now = _decisive(self._settings, self._templates)
        changes = [
            f"{name}: {json.dumps(before.get(name))} -> {json.dumps(now.get(name))}"
            # A setting that the release of then or of now does not have, decides nothing.
            for name in sorted(before.keys() & now.keys())
            if before.get(name) != now.get(name)
        ]
        if changes:
            message = (
                f"expected the settings with which {self.path} was begun, got other "
                f"ones ({', '.join(changes)}); use the same, choose another folder, "
                "or take --continue-with to do the rest with these"
            )
            raise ConfigurationError(message)

    def _write_config(self) -> None:
        config = {
            "schema": SCHEMA,
            "pid": os.getpid(),
            "settings": self._settings,
            "templates": self._templates,
        }
        config["sha256"] = _hash(config)
        write_whole(self.path / CONFIG, json.dumps(config, indent=2).encode() + b"\n")

    def _read(self, *, known: bool) -> None:
        """Read what is finished; lines that are not as they were written go aside.

        Where there was no journal there is nothing to hold the lines against, and
        what is no result may be somebody else's.
        """
        records, bad = read_results(
            self.path,
            written=lambda line: (
                not known or self.journal.get(result_key(line)) is not None
            ),
        )
        self._records = {_key(record): record for record in records}
        if bad and not known and (len(bad) > 1 or bad[0].endswith(b"\n")):
            message = (
                f"expected every line of {self.path / RESULTS} to be a result, got "
                f"{len(bad)} that are none; restore the file, or choose another folder"
            )
            raise ConfigurationError(message)
        if bad:
            write_aside(self.path, RESULTS, b"".join(bad))
        if bad or len(records) != len(self._records):
            self._write_all()
        if not known:
            for key, record in self._records.items():
                line = _line(record)
                self.journal.put("result", result_key(line), {"index": key[:16]})

    def _with_paths(self, history: History) -> History:
        rounds = (
            replace(round_, candidates=tuple(map(self._kept, round_.candidates)))
            for round_ in history.rounds
        )
        return replace(history, rounds=tuple(rounds))

    def _kept(self, candidate: Candidate) -> Candidate:
        if candidate.image is None:
            return candidate
        path = self.gallery.keep(
            candidate.image, prompt=candidate.prompt, seed=candidate.seed
        )
        return replace(candidate, path=path)

    def _write_all(self) -> None:
        lines = b"".join(map(_line, self._records.values()))
        write_whole(self.path / RESULTS, lines)


def read_object(folder: Path, path: str) -> bytes | None:
    """Return a kept image's bytes, or ``None`` if it is not there as it was written.

    Args:
        folder: The run directory.
        path: A candidate's path; anything but ``objects/<sha256>.png`` is refused,
            because a run directory may come from somebody else.
    """
    return Objects(folder).get(path)


def write_object(folder: Path, image: Image) -> str:
    """Keep an image under the name of its content, and return its path in the folder.

    Raises:
        ConfigurationError: If the disk is full or the folder is not writable.
    """
    with writable(folder):
        return Objects(folder).add(_bare(image))


def write_page(folder: Path, page: str) -> Path:
    """Write the report of a run directory and return where it is.

    Raises:
        ConfigurationError: If the disk is full or the folder is not writable.
    """
    with writable(folder):
        # Half a surrogate pair is no character; it is shown as a question mark.
        write_whole(folder / REPORT, page.encode("utf-8", "replace"))
    return folder / REPORT


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is made if it is not there; each is whole.

    Raises:
        ConfigurationError: If the disk is full or the folder is not writable.
    """
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_whole(folder / name, data)


def _config(folder: Path) -> dict[str, Any] | None:
    """Return what a run says of itself; what is not as it was written goes aside."""
    path = folder / CONFIG
    if not path.exists():
        return None
    try:
        config: dict[str, Any] = json.loads(path.read_bytes())
        if config.pop("sha256") == _hash(config):
            return config
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    put_aside(folder, path)
    return None


def _hash(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in sorted(settings.items()) if k not in HOW_FAST}


def _decisive(
    settings: Mapping[str, Any], templates: Mapping[str, str]
) -> dict[str, Any]:
    named = {f"{role} template": sha256 for role, sha256 in templates.items()}
    return _deciding(settings) | named


def _key(record: Mapping[str, Any]) -> str:
    return _key_of(record["index"], record["user_prompt"], record.get("settings", {}))


def _key_of(index: int, user_prompt: str, settings: Mapping[str, Any]) -> str:
    """Return what decides an outcome: input and settings, but not the speed."""
    decisive = json.dumps([index, user_prompt, _deciding(settings)])
    return hashlib.sha256(decisive.encode()).hexdigest()


def _line(record: Mapping[str, Any]) -> bytes:
    # ASCII, because some readers take U+2028 for the end of a line.
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def _bare(image: Image, prompt: str = "", seed: int = 0) -> bytes:  # noqa: ARG001 - says nothing of them
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", icc_profile=None)
    return buffer.getvalue()
