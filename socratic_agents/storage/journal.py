"""The journal: the answer of every finished call, so that none is made twice.

``journal.jsonl`` is append-only, one line a call: the hash of what decides its answer
(the key), and the answer. Each line has a checksum, so that a torn tail, a flipped bit
or a foreign line is never read as an answer: it goes to quarantine, and that call alone
is made again.

Lines are written together and synced once (``append_log``). Only who pays for a call
waits until its line is on disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.storage.append_log import GroupCommitLog
from socratic_agents.storage.checksum_lines import key_of_line, record_line, record_of
from socratic_agents.storage.files import quarantine_bytes, wrap_os_errors, write_atomic
from socratic_agents.storage.folder import JOURNAL, check_own
from socratic_agents.storage.objects import ObjectStore

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Self

__all__ = ("FILE", "Journal", "key_of", "read_keys")

FILE = JOURNAL
SCHEMA = 1
ENCODERS = 2
"""Threads that encode and write images, beside the device's."""

NAMED = 16
"""Bytes of a call's name that are held in memory; the rest is compared when read."""
_SHIFT = 32
_LENGTH = 2**_SHIFT - 1
"""Place and length of a line are one number, for there may be millions of lines."""


def key_of(kind: str, *decisive: Any) -> str:
    """Return the key of a call: the hash of all that decides its answer.

    Args:
        kind: Of the call.
        decisive: JSON values.
    """
    text = json.dumps([kind, *decisive], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """The finished calls of a folder, and the images that belong to them.

    Args:
        folder: Where it is kept; made if it is not there.
        cache: Another folder's journal, which is read and written too.
        shared: Whether others may append to it at the same time, as to a cache. Then
            nothing of it is ever repaired or moved to quarantine.

    Raises:
        ConfigurationError: When opened, if the folder cannot be written, or if the
            journal is of another version.
    """

    def __init__(
        self, folder: Path, *, cache: Journal | None = None, shared: bool = False
    ) -> None:
        self.folder, self.objects = folder, ObjectStore(folder)
        self.reused: Counter[str] = Counter()
        """Calls whose answer was known, by kind."""
        self.added: Counter[str] = Counter()
        """Calls whose answer was added, by kind."""
        self._path, self._cache, self._shared = folder / FILE, cache, shared
        self._locations: dict[bytes, int] = {}
        self._unwritten: dict[bytes, dict[str, Any]] = {}
        self._pending: set[Future[Any]] = set()
        self._flights: WeakKeyDictionary[
            AbstractEventLoop, dict[str, asyncio.Future[None]]
        ] = WeakKeyDictionary()
        self._log = GroupCommitLog(self._path, shared=shared)
        self._read_lock = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack, wrap_os_errors(self.folder):
            if self._cache is not None:
                stack.enter_context(self._cache)
            if self._shared:
                check_own(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._read()
            stack.enter_context(self._log)
            self._reader = stack.enter_context(self._path.open("rb", buffering=0))
            if not self._path.stat().st_size:
                self._append(b"", record_line({"journal": SCHEMA}))
            encoders = ThreadPoolExecutor(ENCODERS, "socratic-encoder")
            self._encoders = stack.enter_context(encoders)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is queued, and close; an error of the disk was reported before."""
        self._stack.close()

    def __len__(self) -> int:
        return len(self._locations)

    def __contains__(self, key: str) -> bool:
        """Return whether a call was finished; its answer is not read."""
        name = bytes.fromhex(key)
        return name in self._unwritten or name[:NAMED] in self._locations

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a call's answer; ``None`` if there is none, or it is corrupt."""
        name = bytes.fromhex(key)
        value = self._unwritten.get(name)
        location = self._locations.get(name[:NAMED])
        if value is None and location is not None:
            with self._read_lock:
                self._reader.seek(location >> _SHIFT)
                record = record_of(self._reader.read(location & _LENGTH))
            # It was valid when the journal was opened; the disk may have lost it since.
            value = record["value"] if record and record.get("key") == key else None
        return value

    def put(self, kind: str, key: str, value: dict[str, Any]) -> Future[int]:
        """Append a finished call; the future is done when it is on disk.

        Raises:
            ConfigurationError: If an earlier one could not be written.
            ClosedError: If the journal is closed.
        """
        line = record_line({"kind": kind, "key": key, "value": value})
        self.added[kind] += 1
        self._unwritten[bytes.fromhex(key)] = value
        if self._cache is not None:
            data = self.objects.get(value.get("object", ""))
            if data is not None:
                self._cache.objects.add(data)
            self._cache.put(kind, key, value)
        return self._append(bytes.fromhex(key), line)

    async def put_durable(self, kind: str, key: str, value: dict[str, Any]) -> None:
        """Append a call that cost money, and wait until it is on disk.

        Images that were generated before it are on disk then, too: after a crash the
        same images lead to the same questions.
        """
        with wrap_os_errors(self.folder):
            for earlier in list(self._pending):
                # The caller may be cancelled; what it waits for is written all the same.
                await asyncio.shield(asyncio.wrap_future(earlier))
            await asyncio.wrap_future(self.put(kind, key, value))

    def put_async(
        self, kind: str, key: str, work: Callable[[], dict[str, Any]]
    ) -> None:
        """Append a call whose answer takes work to encode, in another thread.

        Args:
            kind: Of the call.
            key: Of the call.
            work: Returns the answer.

        Raises:
            ConfigurationError: If an earlier one could not be written.
            ClosedError: If the journal is closed.
        """
        with wrap_os_errors(self.folder):
            self._log.check()
        job = self._encoders.submit(self._encode_and_put, kind, key, work)
        self._pending.add(job)
        job.add_done_callback(self._pending.discard)

    def get_or_copy_from_cache(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return a call's answer; one that only the cache has is copied here."""
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
                self._unwritten[bytes.fromhex(key)] = value
                line = record_line({"kind": kind, "key": key, "value": value})
                self._append(bytes.fromhex(key), line)
        return value

    async def cached_call(
        self, kind: str, key: str, call: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Return a call's answer: the known one, or else make the call.

        Args:
            kind: Of the call.
            key: As from ``key_of``.
            call: A coroutine function that returns the answer, a JSON object.
        """
        async with self.single_flight(key):
            value = self.get_or_copy_from_cache(kind, key)
            if value is not None:
                self.reused[kind] += 1
            else:
                value = await call()
                self.put(kind, key, value)
            return value

    @asynccontextmanager
    async def single_flight(self, key: str) -> AsyncGenerator[None, None]:
        """Wait while the same call is in flight: its answer is known then."""
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
        with wrap_os_errors(self.folder):
            self._append(b"", b"").result()

    def _encode_and_put(
        self, kind: str, key: str, work: Callable[[], dict[str, Any]]
    ) -> None:
        try:
            self.put(kind, key, work())
        except BaseException as problem:
            self._log.fail(problem)
            raise

    def _append(self, name: bytes, line: bytes) -> Future[int]:
        with wrap_os_errors(self.folder):
            written = self._log.append(line)
        if name:
            written.add_done_callback(partial(self._on_written, name, len(line)))
        return written

    def _on_written(self, name: bytes, length: int, written: Future[int]) -> None:
        if written.exception() is None:
            self._locations[name[:NAMED]] = written.result() << _SHIFT | length
            self._unwritten.pop(name, None)

    def _read(self) -> None:
        """Find all valid lines; corrupt ones go to quarantine."""
        if not self._path.exists():
            return
        bad = list[bytes]()
        places = list[tuple[int, int]]()
        """Of all that is good, as begin and end, neighbours put together."""
        offset = 0
        with self._path.open("rb") as file:
            for line in file:
                if not self._add(line, offset):
                    bad.append(line)
                elif places and places[-1][1] == offset:
                    places[-1] = places[-1][0], offset + len(line)
                else:
                    places.append((offset, offset + len(line)))
                offset += len(line)
        if self._shared and bad and not bad[-1].endswith(b"\n"):
            with self._path.open("ab") as file:
                file.write(b"\n")  # or our first line would be part of a torn one
        elif bad and not self._shared:
            quarantine_bytes(self.folder, FILE, b"".join(bad))
            write_atomic(self._path, _parts(self._path, places))
            self._locations.clear()
            self._read()

    def _add(self, line: bytes, offset: int) -> bool:
        """Note where a line stands; return whether it is valid."""
        name = key_of_line(line)
        if name is None:
            record = record_of(line)
            if record is None or "journal" not in record:
                return False
            self._check_version(record)
            return True
        self._locations[name[:NAMED]] = offset << _SHIFT | len(line)
        return True

    def _check_version(self, record: dict[str, Any]) -> None:
        if record["journal"] != SCHEMA:
            message = (
                f"expected a journal of version {SCHEMA} in {self._path}, got "
                f"version {record['journal']}; use the release of this package "
                "that wrote it, or choose another folder"
            )
            raise ConfigurationError(message)


def _parts(path: Path, places: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Return the parts of a file between these places, a megabyte at most at once."""
    with path.open("rb") as file:
        for begin, end in places:
            file.seek(begin)
            left = end - begin
            while left:
                part = file.read(min(left, 2**20))
                left -= len(part)
                yield part


def read_keys(folder: Path, kind: str) -> set[bytes] | None:
    """Return the keys of all calls of a kind, without opening the journal.

    Args:
        folder: Where it is kept.
        kind: Of the calls.

    Returns:
        ``None`` if there is no journal.
    """
    keys = set[bytes]()
    mark = f'"kind": "{kind}"'.encode()
    try:
        if not (folder / FILE).is_file():  # a pipe would be waited for
            return None
        with (folder / FILE).open("rb") as file:
            for line in file:
                if mark not in line:
                    continue
                record = record_of(line)
                if record and record.get("kind") == kind:
                    with suppress(ValueError, TypeError, KeyError):
                        keys.add(bytes.fromhex(record["key"]))
    except OSError:
        return None
    return keys
