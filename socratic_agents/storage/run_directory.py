"""The run directory: finished work is kept, under names of its content.

``DIR/`` holds ``config.json``, ``journal.jsonl``, ``objects/<sha256>.png``,
``results.jsonl`` and ``lock``; corrupt files go to ``quarantine/``. Names never come
from user text.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from socratic_agents.core.concurrency import ProcessGuard
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import StopReason
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.storage.failpoints import failpoint
from socratic_agents.storage.files import (
    QUARANTINE,
    list_quarantine,
    open_append,
    quarantine_bytes,
    read_file,
    remove_partial_files,
    wrap_os_errors,
    write_atomic,
)
from socratic_agents.storage.folder import (
    CONFIG,
    JOURNAL,
    LOCK,
    RESULTS,
    check_own,
    locked,
)
from socratic_agents.storage.journal import Journal
from socratic_agents.storage.objects import OBJECTS, ImageStore
from socratic_agents.storage.provenance import encode_png
from socratic_agents.storage.result_index import ResultIndex, head_of
from socratic_agents.storage.results import NOT_ONE, is_result, result_key
from socratic_agents.storage.run_config import (
    check_resumable,
    read_config,
    write_config,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Future
    from typing import Self

    from PIL.Image import Image

    from socratic_agents.core.history import Candidate, History

__all__ = ("RunDirectory",)

MOST_WAITING = 1000
"""Lines that are on their way to the journal at once, where many are written."""

OutcomeT = TypeVar("OutcomeT", bound=Refinement | Failure)


def _pixels_only(image: Image, _prompt: str, _seed: int) -> bytes:
    return encode_png(image, None)


class RunDirectory:
    """Where a run is kept: one process writes, and finished work is never lost.

    Args:
        path: The folder; made if it is not there.
        settings: The resolved settings as JSON, secrets left out.
        templates: The hash of each role's template.
        resume: Whether this is one run of many inputs that can be resumed: each place
            has one input, and one whose place has changed keeps what it has. Without
            it, an outcome whose place another prompt has gets the next one.
        accept_changes: Whether other settings than those that it was started with are
            accepted, for the rest.
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
        self._index = ResultIndex(self.path / RESULTS)
        self._known_inputs = False
        self._place = (0, 0)
        self._lock = threading.RLock()
        self._quarantined = 0
        self._process = ProcessGuard()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the folder for this process alone.

        Raises:
            ConfigurationError: If it cannot be written, another process is writing
                in it, it is of another version, or it was started with other settings.
        """
        self._process = ProcessGuard()
        with ExitStack() as stack, wrap_os_errors(self.path):
            check_own(self.path)
            existed = self.path.exists()
            (self.path / OBJECTS).mkdir(parents=True, exist_ok=True)
            if not stack.enter_context(locked(self.path)):
                message = (
                    f"expected {self.path} to be free, but {self._writer()} is writing "
                    "in it; wait for it, or choose another folder"
                )
                raise ConfigurationError(message)
            if not existed:
                stack.callback(self._remove_if_empty)
            remove_partial_files(self.path, self.path / OBJECTS, self.path / QUARANTINE)
            self._quarantined = len(list_quarantine(self.path))
            config = read_config(self.path)
            if config and not self._accept_changes:
                check_resumable(self.path, config, self._settings, self._templates)
            self._place = _place_of(self.path)
            known = (self.path / JOURNAL).exists()
            self._index, self._known_inputs = ResultIndex(self.path / RESULTS), False
            stack.enter_context(self.journal)
            self._read(known=known)
            stack.callback(self._write_if_stale)
            write_config(self.path, self._settings, self._templates)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Release the folder; one that was made for nothing is removed."""
        if not self._process.left:  # a fork has nothing to release
            self._stack.close()

    async def __aenter__(self) -> Self:
        """Open it in a thread: reading a large run takes seconds."""
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        """Release it in a thread."""
        await asyncio.to_thread(self.__exit__)

    @property
    def quarantined(self) -> int:
        """How many corrupt files were found since it was opened."""
        return len(list_quarantine(self.path)) - self._quarantined

    def set_inputs(self, prompts: Iterable[str]) -> None:
        """Tell what the inputs of the run are, so that changed ones are recognised.

        What was done for a prompt that stands elsewhere now moves there, and what
        belongs to no input any more leaves the results.

        Args:
            prompts: All of them, in their order.

        Raises:
            ConfigurationError: If the disk is full or the folder is not writable.
        """
        with self._lock, wrap_os_errors(self.path):
            self._index.keep_only(prompts)
            self._known_inputs = True
            if self._index.stale:
                self._write_all()

    def finished(self, index: int, user_prompt: str) -> Refinement | None:
        """Return the finished refinement of a prompt, if its images are valid.

        Raises:
            ConfigurationError: If a corrupt image cannot be moved to quarantine.
        """
        with self._lock:
            if self._resume and not self._known_inputs:
                self._index.claim(index, user_prompt)
        refinement = self._intact(index, user_prompt)
        if refinement is None or refinement.stop is StopReason.LLM_FAILED:
            return None  # like a failure: another try may go on
        return refinement

    def _intact(self, index: int, user_prompt: str) -> Refinement | None:
        try:
            with self._lock:
                line = self._index.read(index, user_prompt)
            refinement = Refinement.from_json(json.loads(line)) if line else None
        except NOT_ONE:  # the disk has lost it since it was found
            return None
        if refinement is None:
            return None
        kept = [*refinement.history.candidates]
        kept += [refinement.receipt.best_of_n] if refinement.receipt else []
        with wrap_os_errors(self.path):
            valid = [self.journal.objects.verify(c.path) for c in kept if c.path]
        return refinement if all(valid) else None

    def save(self, outcome: OutcomeT) -> OutcomeT:
        """Write the images of an outcome, then its line; return it with their paths.

        It replaces what was saved for the same input before, except that a failure does
        not replace a refinement. Blocks until it is on disk; any thread may
        call it.

        Raises:
            ConfigurationError: If the disk is full or the folder is not writable.
            ClosedError: If this is a fork of the process that opened it.
        """
        self._process.check("a run directory")
        with wrap_os_errors(self.path):
            if self._place != _place_of(self.path):
                message = (
                    f"expected {self.path} to stay where it is while it is written, "
                    "got another folder in its place; run the same command again"
                )
                raise ConfigurationError(message)
            outcome = self.with_paths(outcome)
        with self._lock, wrap_os_errors(self.path):
            prompt = outcome.user_prompt
            if not self._resume:
                place = self._index.free_place(outcome.index, prompt)
                outcome = replace(outcome, index=place)
            if isinstance(outcome, Failure) and self._intact(outcome.index, prompt):
                return outcome
            line = _line({**outcome.to_json(), "settings": self._settings})
            # The journal first: a line that it does not know counts as corrupt.
            self._tell_journal([line])
            head = head_of(line)
            self._index.add(head, self._append(line), len(line))
            if self._resume:
                self._index.evict(head.place, but=head.name)
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

    def _append(self, line: bytes) -> int:
        """Append a line, and return where it begins."""
        failpoint("results:append")
        with open_append(self.path / RESULTS) as file:
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
        return end

    def _tell_journal(self, lines: Iterable[bytes]) -> None:
        """Let the journal know that lines are results, and wait until it does."""
        written: deque[Future[int]] = deque()
        for key in map(result_key, lines):
            if key not in self.journal:
                written.append(self.journal.put("result", key, {}))
            if len(written) == MOST_WAITING:
                written.popleft().result()
        for one in written:
            one.result()

    def _remove_if_empty(self) -> None:
        """Remove the folder if not one call was finished in it."""
        if len(self._index) or len(self.journal):
            return
        with suppress(OSError):
            for name in (CONFIG, JOURNAL, LOCK):
                (self.path / name).unlink(missing_ok=True)
            for folder in (self.path / OBJECTS, self.path):
                folder.rmdir()

    def _writer(self) -> str:
        try:
            return f"process {int(json.loads(read_file(self.path / CONFIG))['pid'])}"
        except (OSError, *NOT_ONE):  # it has only just begun
            return "another process"

    def _read(self, *, known: bool) -> None:
        """Find what is finished; corrupt lines go to quarantine.

        Without a journal there is nothing to compare the lines with, and what is no
        result may be somebody else's.
        """
        bad = self._index.scan(
            valid=lambda line: (
                result_key(line) in self.journal if known else is_result(line)
            )
        )
        if bad and not known and (len(bad) > 1 or bad[0].endswith(b"\n")):
            message = (
                f"expected every line of {self.path / RESULTS} to be a result, got "
                f"{len(bad)} that are none; restore the file, or choose another folder"
            )
            raise ConfigurationError(message)
        if bad:
            quarantine_bytes(self.path, RESULTS, b"".join(bad))
        if self._index.stale:
            self._write_all()
        elif not known:
            self._tell_journal(self._index.lines())

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
        """Write the results anew: one line for each input, and no others."""
        self._tell_journal(self._index.lines())
        write_atomic(self.path / RESULTS, self._index.lines())
        self._index.reload()

    def _write_if_stale(self) -> None:
        # What cannot be written now stays as it is: the last line of an input counts.
        with suppress(OSError, ConfigurationError):
            if self._index.stale:
                self._write_all()


def _place_of(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _line(record: Mapping[str, Any]) -> bytes:
    # ASCII, because some readers take U+2028 for the end of a line.
    return json.dumps(record, allow_nan=False).encode() + b"\n"
