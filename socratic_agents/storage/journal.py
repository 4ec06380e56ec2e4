"""The journal: every finished step, so that none is done again.

``journal.jsonl`` is only ever appended to, one line a step: what decides its answer, as
a hash (the key), and the answer. Lines carry a checksum of their own, so a torn tail, a
flipped bit or a foreign line is never read as an answer; it is put aside, and that step
alone is done again.

Lines are written together and synced once (``appender``). Whoever pays for a step waits until it is on the disk;
nobody else does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.storage.append_log import Appender
from socratic_agents.storage.checksum_lines import record_line, record_of
from socratic_agents.storage.objects import Objects, writable, write_aside, write_whole

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
        self._pending: set[Future[Any]] = set()
        self._flights: WeakKeyDictionary[
            AbstractEventLoop, dict[str, asyncio.Future[None]]
        ] = WeakKeyDictionary()
        self._appender = Appender(self._path, shared=shared)
        self._reading = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack, writable(self.folder):
            if self._cache is not None:
                stack.enter_context(self._cache)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._read()
            stack.enter_context(self._appender)
            self._reader = stack.enter_context(self._path.open("rb", buffering=0))
            if not self._path.stat().st_size:
                self._enqueue(b"", record_line({"journal": SCHEMA}))
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

    def put(self, kind: str, key: str, value: dict[str, Any]) -> Future[int]:
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
        with writable(self.folder):
            self._appender.check()
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
            self._appender.fail(problem)
            raise

    def _enqueue(self, name: bytes, line: bytes) -> Future[int]:
        with writable(self.folder):
            written = self._appender.append(line)
        if name:
            written.add_done_callback(partial(self._settle, name, len(line)))
        return written

    def _settle(self, name: bytes, length: int, written: Future[int]) -> None:
        if written.exception() is None:
            self._places[name] = written.result(), length
            self._fresh.pop(name, None)

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
