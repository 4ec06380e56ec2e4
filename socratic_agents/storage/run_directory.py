"""The run directory: finished work is kept, under names of its content.

``DIR/`` holds ``config.json``, ``journal.jsonl``, ``objects/<sha256>.png``,
``results.jsonl`` and ``lock``; corrupt files go to ``quarantine/``. Names never come
from user text.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import StopReason
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.storage.failpoints import failpoint
from socratic_agents.storage.files import (
    QUARANTINE,
    list_quarantine,
    quarantine_bytes,
    remove_partial_files,
    wrap_os_errors,
    write_atomic,
)
from socratic_agents.storage.journal import FILE as JOURNAL
from socratic_agents.storage.journal import Journal
from socratic_agents.storage.objects import OBJECTS, ImageStore
from socratic_agents.storage.provenance import encode_png
from socratic_agents.storage.results import RESULTS, read_results, result_key
from socratic_agents.storage.run_config import (
    CONFIG,
    check_resumable,
    decisive_settings,
    read_config,
    write_config,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from PIL.Image import Image

    from socratic_agents.core.history import Candidate, History

__all__ = ("RunDirectory",)

LOCK = "lock"

OutcomeT = TypeVar("OutcomeT", bound=Refinement | Failure)


def _pixels_only(image: Image, _prompt: str, _seed: int) -> bytes:
    return encode_png(image, None)


class RunDirectory:
    """Where a run is kept: one process writes, and finished work is never lost.

    Args:
        path: The folder; made if it is not there.
        settings: The resolved settings as JSON, secrets left out.
        templates: The hash of each role's template.
        resume: Whether this is one run that can be resumed: finished prompts are found
            whatever the settings were, and other settings are refused.
        accept_changes: Whether other settings are accepted then, for the rest.
        cache: A folder of cached calls that is shared with other runs.
        encode: Makes a PNG of an image, its prompt and its seed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        settings: Mapping[str, Any],
        templates: Mapping[str, str] | None = None,
        resume: bool = False,
        accept_changes: bool = False,
        cache: str | Path | None = None,
        encode: Callable[[Image, str, int], bytes] = _pixels_only,
    ) -> None:
        self.path = Path(path)
        shared = None if cache is None else Journal(Path(cache), shared=True)
        self.journal = Journal(self.path, cache=shared)
        self.images = ImageStore(self.journal.objects, encode)
        self._settings, self._templates = dict(settings), dict(templates or {})
        self._resume, self._accept_changes = resume, accept_changes
        self._records: dict[str, dict[str, Any]] = {}
        self._quarantined = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the folder for this process alone.

        Raises:
            ConfigurationError: If it cannot be written, another process is writing
                in it, it is of another version, or it was started with other settings.
        """
        with ExitStack() as stack, wrap_os_errors(self.path):
            existed = self.path.exists()
            (self.path / OBJECTS).mkdir(parents=True, exist_ok=True)
            self._lock(stack)
            if not existed:
                stack.callback(self._remove_if_empty)
            remove_partial_files(self.path, self.path / OBJECTS, self.path / QUARANTINE)
            self._quarantined = len(list_quarantine(self.path))
            config = read_config(self.path)
            if config and self._resume and not self._accept_changes:
                check_resumable(self.path, config, self._settings, self._templates)
            known = (self.path / JOURNAL).exists()
            stack.enter_context(self.journal)
            self._read(known=known)
            write_config(self.path, self._settings, self._templates)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Release the folder; one that was made for nothing is removed."""
        self._stack.close()

    @property
    def quarantined(self) -> int:
        """How many corrupt files were found since it was opened."""
        return len(list_quarantine(self.path)) - self._quarantined

    def finished(self, index: int, user_prompt: str) -> Refinement | None:
        """Return the finished refinement of a prompt, if its images are valid.

        Raises:
            ConfigurationError: If a corrupt image cannot be moved to quarantine.
        """
        key = _resume_key(index, user_prompt, self._settings)
        record = self._records.get(key)
        if record is None and self._resume:
            asked = {"index": index, "user_prompt": user_prompt}
            same = (r for r in self._records.values() if asked.items() <= r.items())
            record = next(same, None)
        if record is None or record["status"] != "ok":
            return None
        if record["stop"] == StopReason.LLM_FAILED:
            return None  # like a failure: another try may go on
        refinement = Refinement.from_json(record)
        kept = [*refinement.history.candidates]
        kept += [refinement.receipt.best_of_n] if refinement.receipt else []
        with wrap_os_errors(self.path):
            valid = [self.journal.objects.verify(c.path) for c in kept if c.path]
        return refinement if all(valid) else None

    def save(self, outcome: OutcomeT) -> OutcomeT:
        """Write the images of an outcome, then its line; return it with their paths.

        Raises:
            ConfigurationError: If the disk is full or the folder is not writable.
        """
        with wrap_os_errors(self.path):
            outcome = self.with_paths(outcome)
            record = {**outcome.to_json(), "settings": self._settings}
            line, key = _line(record), _key(record)
            # The journal first: a line that it does not know counts as corrupt.
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
        failpoint("results:append")
        with (self.path / RESULTS).open("ab") as file:
            end = file.tell()
            try:
                file.write(line)
                file.flush()
                failpoint("results:sync")
                os.fsync(file.fileno())
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(file.fileno(), end)
                raise
        failpoint("results:synced")

    def _remove_if_empty(self) -> None:
        """Remove the folder if not one call was finished in it."""
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

    def _read(self, *, known: bool) -> None:
        """Read what is finished; corrupt lines go to quarantine.

        Without a journal there is nothing to compare the lines with, and what is no
        result may be somebody else's.
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
            quarantine_bytes(self.path, RESULTS, b"".join(bad))
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
        path = self.images.add(
            candidate.image, prompt=candidate.prompt, seed=candidate.seed
        )
        return replace(candidate, path=path)

    def _write_all(self) -> None:
        lines = b"".join(map(_line, self._records.values()))
        write_atomic(self.path / RESULTS, lines)


def _key(record: Mapping[str, Any]) -> str:
    return _resume_key(
        record["index"], record["user_prompt"], record.get("settings", {})
    )


def _resume_key(index: int, user_prompt: str, settings: Mapping[str, Any]) -> str:
    """Return what decides an outcome: input and settings, but not the speed."""
    decisive = json.dumps([index, user_prompt, decisive_settings(settings)])
    return hashlib.sha256(decisive.encode()).hexdigest()


def _line(record: Mapping[str, Any]) -> bytes:
    # ASCII, because some readers take U+2028 for the end of a line.
    return json.dumps(record, allow_nan=False).encode() + b"\n"
