"""The journal: every finished step, so that none is done again.

``journal.jsonl`` is only ever appended to, one line a step: what decides its answer, as
a hash (the key), and the answer. Lines carry a checksum of their own, so a torn tail, a
flipped bit or a foreign line is never read as an answer; it is put aside, and that step
alone is done again.

Lines that come while others are being written are written together and synced once, in
a thread of the journal's own. Whoever pays for a step waits until it is on the disk;
nobody else does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from socratic_agents.errors import ClosedError, ConfigurationError
from socratic_agents.faults import reached
from socratic_agents.objects import Objects, writable, write_aside, write_whole
from socratic_agents.records import record_line, record_of

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path
    from typing import Self

__all__ = ("FILE", "Journal", "key_of", "steps_of")

FILE = "journal.jsonl"
SCHEMA = 1
ENCODERS = 2
"""Threads that encode and write images, beside the device's."""


def key_of(kind: str, *decisive: Any) -> str:
    """Return the name of a step: the hash of all that decides its answer.

    Args:
        kind: Of the step.
        decisive: JSON values.
    """
    text = json.dumps([kind, *decisive], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """The finished steps of a folder, and the images that belong to them.

    Args:
        folder: Where it is kept; made if it is not there.
        cache: Another folder's, which is asked too, and told too.
        shared: Whether others may append to it at the same time, as to a cache. Then
            nothing of it is ever mended or put aside.

    Raises:
        ConfigurationError: When opened, if the folder cannot be written, or if the
            journal is of another version.
    """

    def __init__(
        self, folder: Path, *, cache: Journal | None = None, shared: bool = False
    ) -> None:
        self.folder, self.objects = folder, Objects(folder)
        self.known: Counter[str] = Counter()
        """Steps that were not done again, by kind."""
        self.done: Counter[str] = Counter()
        """Steps that were done, by kind."""
        self._path, self._cache, self._shared = folder / FILE, cache, shared
        self._places: dict[bytes, tuple[int, int]] = {}
        self._fresh: dict[bytes, dict[str, Any]] = {}
        self._queue: list[tuple[bytes, bytes, Future[None]]] = []
        self._pending: set[Future[Any]] = set()
        self._flights: WeakKeyDictionary[
            AbstractEventLoop, dict[str, asyncio.Future[None]]
        ] = WeakKeyDictionary()
        self._changed = threading.Condition()
        self._broken: BaseException | None = None
        self._reading = threading.Lock()
        self._closing = True
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack, writable(self.folder):
            if self._cache is not None:
                stack.enter_context(self._cache)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._read()
            self._file = stack.enter_context(self._path.open("ab", buffering=0))
            self._reader = stack.enter_context(self._path.open("rb", buffering=0))
            self._closing = False
            if not self._path.stat().st_size:
                self._enqueue(b"", record_line({"journal": SCHEMA}))
            writer = threading.Thread(
                target=self._write, name="socratic-journal", daemon=True
            )
            writer.start()
            stack.callback(self._stop, writer)
            encoders = ThreadPoolExecutor(ENCODERS, "socratic-encoder")
            self._encoders = stack.enter_context(encoders)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is on its way, and close; an error of the disk was told before."""
        self._stack.close()

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a step's answer; ``None``: it has not been done, or is not whole."""
        name = bytes.fromhex(key)
        value = self._fresh.get(name)
        if value is None and (place := self._places.get(name)) is not None:
            with self._reading:
                self._reader.seek(place[0])
                step = record_of(self._reader.read(place[1]))
            # It was whole when it was read at first; the disk may have lost it since.
            value = step["value"] if step and step.get("key") == key else None
        return value

    def put(self, kind: str, key: str, value: dict[str, Any]) -> Future[None]:
        """Append a finished step, and return what is done when it is on the disk.

        Raises:
            ConfigurationError: If an earlier one could not be written.
            ClosedError: If the journal is closed.
        """
        line = record_line({"kind": kind, "key": key, "value": value})
        self.done[kind] += 1
        self._fresh[bytes.fromhex(key)] = value
        if self._cache is not None:
            data = self.objects.get(value.get("object", ""))
            if data is not None:
                self._cache.objects.add(data)
            self._cache.put(kind, key, value)
        return self._enqueue(bytes.fromhex(key), line)

    async def paid(self, kind: str, key: str, value: dict[str, Any]) -> None:
        """Append a step that cost money, and wait until it cannot be lost any more.

        Images that were drawn before are on the disk then, too: after a crash the
        same images lead to the same questions.
        """
        with writable(self.folder):
            for earlier in list(self._pending):
                # Who waits may be cancelled; what he waits for is written all the same.
                await asyncio.shield(asyncio.wrap_future(earlier))
            await asyncio.wrap_future(self.put(kind, key, value))

    def later(self, kind: str, key: str, work: Callable[[], dict[str, Any]]) -> None:
        """Append a step whose answer takes work to write down, in a thread beside.

        Args:
            kind: Of the step.
            key: Of the step.
            work: Returns the answer.

        Raises:
            ConfigurationError: If an earlier one could not be written.
            ClosedError: If the journal is closed.
        """
        self._check()
        job = self._encoders.submit(self._worked, kind, key, work)
        self._pending.add(job)
        job.add_done_callback(self._pending.discard)

    def recall(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return a step's answer; one that only the cache knows is kept here, too."""
        value = self.get(key)
        if value is None and self._cache is not None:
            value = self._cache.get(key)
            path = value and value.get("object")
            if path:
                data = self._cache.objects.get(path)
                if data is None:
                    return None
                self.objects.add(data)
            if value is not None:
                self._fresh[bytes.fromhex(key)] = value
                line = record_line({"kind": kind, "key": key, "value": value})
                self._enqueue(bytes.fromhex(key), line)
        return value

    async def step(
        self,
        kind: str,
        key: str,
        do: Callable[[], Any],
        *,
        paid: bool = False,
    ) -> dict[str, Any]:
        """Return a step's answer: the known one, or what is done for it now.

        Args:
            kind: Of the step.
            key: Its name, as from ``key_of``.
            do: A coroutine function that returns the answer, a JSON object.
            paid: Whether to wait until the answer is on the disk.
        """
        async with self.alone(key):
            value = self.recall(kind, key)
            if value is not None:
                self.known[kind] += 1
                return value
            value = cast("dict[str, Any]", await do())
            if paid:
                await self.paid(kind, key, value)
            else:
                self.put(kind, key, value)
            return value

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncGenerator[None, None]:
        """Wait while somebody else does this step: it may be known then."""
        loop = asyncio.get_running_loop()
        flights = self._flights.setdefault(loop, {})
        while (flight := flights.get(key)) is not None:
            await asyncio.wait([flight])
        flight = flights[key] = loop.create_future()
        try:
            yield
        finally:
            del flights[key]
            flight.set_result(None)

    def flush(self) -> None:
        """Wait until everything that was finished is on the disk; blocks.

        Raises:
            ConfigurationError: If it could not be written.
        """
        for job in list(self._pending):
            job.exception()
        with writable(self.folder):
            self._enqueue(b"", b"").result()

    def _worked(self, kind: str, key: str, work: Callable[[], dict[str, Any]]) -> None:
        try:
            self.put(kind, key, work())
        except BaseException as problem:
            with self._changed:
                self._broken = self._broken or problem
            raise

    def _check(self) -> None:
        with self._changed:
            closing, broken = self._closing, self._broken
        if closing:
            message = "expected an open journal, got a closed one; open it again"
            raise ClosedError(message)
        if broken is not None:
            with writable(self.folder):
                raise broken

    def _enqueue(self, name: bytes, line: bytes) -> Future[None]:
        self._check()
        written: Future[None] = Future()
        written.set_running_or_notify_cancel()  # from now on nobody can cancel it
        with self._changed:
            self._queue.append((name, line, written))
            self._changed.notify()
        return written

    def _stop(self, writer: threading.Thread) -> None:
        wait(self._pending)
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
            place = 0
            try:
                place = self._append(b"".join(line for _, line, _ in batch))
            except BaseException as problem:  # noqa: BLE001 - it is told to all who wait
                with self._changed:
                    self._broken = problem
            self._settle(batch, place)

    def _append(self, data: bytes) -> int:
        """Write lines whole, or leave the file as it was; return where they begin."""
        if self._broken is not None:
            raise self._broken
        end = os.fstat(self._file.fileno()).st_size
        reached("journal:append")
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
            reached("journal:sync")
            os.fsync(self._file.fileno())
        except BaseException:
            if not self._shared:
                with suppress(OSError):
                    self._file.truncate(end)
            raise
        reached("journal:synced")
        # Others may have appended, too, but a write of ours is whole.
        return self._file.tell() - len(data)

    def _settle(
        self, batch: list[tuple[bytes, bytes, Future[None]]], place: int
    ) -> None:
        for name, line, written in batch:
            if self._broken is not None:
                written.set_exception(self._broken)
                continue
            if name:
                self._places[name] = place, len(line)
                self._fresh.pop(name, None)
            place += len(line)
            written.set_result(None)

    def _read(self) -> None:
        """Find all whole lines; put the others aside, and go on without them."""
        if not self._path.exists():
            return
        good, bad, place = list[bytes](), list[bytes](), 0
        with self._path.open("rb") as file:
            for line in file:
                step = record_of(line)
                if step is None:
                    bad.append(line)
                else:
                    self._note(step, place, len(line))
                    good.append(line)
                if step is not None or self._shared:
                    place += len(line)
        if self._shared and bad and not bad[-1].endswith(b"\n"):
            with self._path.open("ab") as file:
                file.write(b"\n")  # or our first line would be part of a torn one
        elif bad and not self._shared:
            write_aside(self.folder, FILE, b"".join(bad))
            write_whole(self._path, b"".join(good))

    def _note(self, step: dict[str, Any], place: int, length: int) -> None:
        if "journal" in step:
            if step["journal"] != SCHEMA:
                message = (
                    f"expected a journal of version {SCHEMA} in {self._path}, got "
                    f"version {step['journal']}; use the release of this package "
                    "that wrote it, or choose another folder"
                )
                raise ConfigurationError(message)
        else:
            self._places[bytes.fromhex(step["key"])] = place, length


def steps_of(folder: Path, kind: str) -> set[str] | None:
    """Return the keys of all steps of a kind, without opening the journal.

    Args:
        folder: Where it is kept.
        kind: Of the steps.

    Returns:
        ``None`` if there is no journal.
    """
    try:
        lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    except OSError:
        return None
    records = filter(None, map(record_of, lines))
    return {record["key"] for record in records if record.get("kind") == kind}
