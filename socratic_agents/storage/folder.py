"""A folder of our own: one process writes in it, and nobody else's files are touched."""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.storage.checksum_lines import looks_ours, record_of
from socratic_agents.storage.files import QUARANTINE
from socratic_agents.storage.objects import OBJECTS

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ("CONFIG", "JOURNAL", "LOCK", "RESULTS", "check_own", "locked")

CONFIG = "config.json"
JOURNAL = "journal.jsonl"
LOCK = "lock"
RESULTS = "results.jsonl"

_FILES = (CONFIG, JOURNAL, RESULTS, LOCK)
_APPENDED = frozenset((JOURNAL, RESULTS))
_MOST_LINES, _LONGEST_LINE = 100, 2**20
"""Of a file, read to find one line of ours; it may be a large one of somebody else."""

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL}


def check_own(folder: Path) -> None:
    """Refuse a folder whose files are somebody else's, or lie in another place.

    Nothing is written, and no link is followed but the folder's own.

    Raises:
        ConfigurationError: If it holds links, or files of another program.
    """
    for name in (*_FILES, OBJECTS, QUARANTINE):
        _check_kind(folder / name, folder=name not in _FILES)
    there = [name for name in (CONFIG, JOURNAL, RESULTS) if (folder / name).exists()]
    if there and not any(_OURS[name](folder / name) for name in there):
        message = (
            f"expected {folder} to be empty or a run, got files of another program "
            f"({', '.join(there)}); restore the files, or choose another folder"
        )
        raise ConfigurationError(message)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Keep other processes out of a folder; yield whether that worked.

    The folder itself is locked, so that it does not help to remove the file ``lock``;
    the file is locked, too, for systems that cannot lock folders.

    Raises:
        ConfigurationError: If its file system has no locks.
        OSError: If the file cannot be made.
    """
    with ExitStack() as stack:
        if fcntl is None:
            yield _locked_by_name(folder / LOCK, stack)
            return
        whole = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, whole)
        # Whoever may write here can make the file anew, but not what nobody owns.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        if _flock(whole, stack) is False:
            yield False
            return
        file = os.open(folder / LOCK, flags, 0o644)
        stack.callback(os.close, file)
        got = _flock(file, stack)
        if got is None:
            message = (
                f"expected a file system that keeps a second process out of {folder}, "
                "got one without locks; choose a folder on a local disk"
            )
            raise ConfigurationError(message)
        yield got


def _flock(file: int, stack: ExitStack) -> bool | None:
    """Return whether a file was locked; ``None`` where that is not possible."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as problem:
        if problem.errno in _NO_LOCKS:
            return None
        raise
    # A forked child may have the file open still, so that closing it is not enough.
    stack.callback(fcntl.flock, file, fcntl.LOCK_UN)
    return True


def _locked_by_name(path: Path, stack: ExitStack) -> bool:
    from filelock import FileLock, Timeout

    try:
        stack.enter_context(FileLock(path, timeout=0))
    except Timeout:
        return False
    return True


def _check_kind(path: Path, *, folder: bool) -> None:
    """Refuse what is no file, or no folder, of the run directory's own."""
    try:
        found = path.lstat()
    except OSError:
        return
    if stat.S_ISLNK(found.st_mode):
        came = "a link to another place"
    elif not (stat.S_ISDIR if folder else stat.S_ISREG)(found.st_mode):
        came = "something else"
    elif path.name in _APPENDED and found.st_nlink > 1:
        came = "one that other names share"
    else:
        return
    message = (
        f"expected {path} to be a {'folder' if folder else 'file'} of its own, got "
        f"{came}; choose another folder"
    )
    raise ConfigurationError(message)


def _first_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for _ in range(_MOST_LINES):
            yield file.readline(_LONGEST_LINE)


def _our_config(path: Path) -> bool:
    """Return whether it is one, changed or not."""
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and {"sha256", "settings"} <= config.keys()


def _our_journal(path: Path) -> bool:
    """Return whether a line is ours, or the first one was being written."""
    first, *others = _first_lines(path)
    return looks_ours(first) or any(record_of(line) for line in others)


def _our_results(path: Path) -> bool:
    return any(line.startswith(b'{"schema": ') for line in _first_lines(path))


_OURS = {CONFIG: _our_config, JOURNAL: _our_journal, RESULTS: _our_results}
