"""The group-commit log: lines that are appended to a file together and synced once.

Lines that arrive during a write wait for the next one, in a thread of the log's own. A
write that fails leaves the file as it was, and nothing is written after it.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from socratic_agents.core.concurrency import ProcessGuard
from socratic_agents.core.errors import ClosedError
from socratic_agents.storage.failpoints import failpoint
from socratic_agents.storage.files import open_append

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

__all__ = ("GroupCommitLog",)


class GroupCommitLog:
    """A file to which lines are appended.

    Args:
        path: The file; made if it is not there.
        shared: Whether others may append at the same time. Then a line that was
            written in part is not taken back, for theirs may follow it.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self._path, self._shared = path, shared
        self._queue: list[tuple[bytes, Future[int]]] = []
        self._changed = threading.Condition()
        self._broken: BaseException | None = None
        self._closing = True
        self._process = ProcessGuard()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._file = stack.enter_context(open_append(self._path, buffering=0))
            self._closing = False
            self._process = ProcessGuard()
            writer = threading.Thread(
                target=self._write, name="socratic-journal", daemon=True
            )
            writer.start()
            stack.callback(self._stop, writer)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is queued, and close."""
        self._stack.close()

    def append(self, line: bytes) -> Future[int]:
        """Append a line; the future's result, where it begins, is set once it is on disk.

        Raises:
            ClosedError: If the log is closed.
            BaseException: What an earlier write raised.
        """
        self._process.check("a journal")
        written: Future[int] = Future()
        written.set_running_or_notify_cancel()  # from now on nobody can cancel it
        with self._changed:
            self._check()
            self._queue.append((line, written))
            self._changed.notify()
        return written

    def check(self) -> None:
        """Raise what ``append`` would raise."""
        self._process.check("a journal")
        with self._changed:
            self._check()

    def fail(self, problem: BaseException) -> None:
        """Refuse further writes, since something that the lines refer to is lost."""
        with self._changed:
            self._broken = self._broken or problem

    def _check(self) -> None:
        if self._closing:
            message = "expected an open journal, got a closed one; open it again"
            raise ClosedError(message)
        if self._broken is not None:
            raise self._broken

    def _stop(self, writer: threading.Thread) -> None:
        if self._process.left:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        writer.join()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                batch, self._queue = self._queue, []
            if not batch:
                return
            try:
                offset = self._append(b"".join(line for line, _ in batch))
            except BaseException as problem:  # noqa: BLE001 - it is reported to all who wait
                self.fail(problem)
                for _, written in batch:
                    written.set_exception(problem)
                continue
            for line, written in batch:
                written.set_result(offset)
                offset += len(line)

    def _append(self, data: bytes) -> int:
        """Write lines whole, or leave the file as it was; return where they begin."""
        if self._broken is not None:
            raise self._broken
        end = os.fstat(self._file.fileno()).st_size
        failpoint("journal:append")
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
            failpoint("journal:sync")
            os.fsync(self._file.fileno())
        except BaseException:
            if not self._shared:
                with suppress(OSError):
                    self._file.truncate(end)
            raise
        failpoint("journal:synced")
        # Others may have appended, too, but a write of ours is whole.
        return self._file.tell() - len(data)
