"""Files that are there whole or not at all, and a quarantine for those that are corrupt."""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.storage.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = (
    "QUARANTINE",
    "list_quarantine",
    "open_append",
    "quarantine_bytes",
    "quarantine_file",
    "read_file",
    "remove_partial_files",
    "wrap_os_errors",
    "write_atomic",
    "write_files",
)

QUARANTINE = "quarantine"
"""Folder, in the run directory, of what is corrupt: nobody reads it, people may."""

_PART = ".socratic-"
_OUR_PART = re.compile(re.escape(_PART) + r"[0-9a-f]{16}\.part")
"""Files that are being written; others' are none of ours, whatever they are."""


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file so that it is there whole or not at all, even after a crash.

    Args:
        path: Of the file.
        data: What it holds; in parts, where that is much.

    Raises:
        OSError: If it cannot be written; an earlier file of the name stays.
    """
    part = path.with_name(f"{_PART}{secrets.token_hex(8)}.part")
    try:
        failpoint("file:write")
        with part.open("xb") as file:
            file.writelines((data,) if isinstance(data, bytes) else data)
            file.flush()
            failpoint("file:sync")
            os.fsync(file.fileno())
        failpoint("file:replace")
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    failpoint("file:replaced")
    with suppress(OSError):  # not every system can sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def open_append(path: Path, *, buffering: int = -1) -> BinaryIO:
    """Open a file to append to it; a link in its place is not followed.

    Raises:
        OSError: If it cannot be opened, or is a link.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

    return open(path, "ab", buffering, opener=opener)


def write_files(folder: Path, files: Mapping[str, bytes | Iterable[bytes]]) -> None:
    """Write files into a folder, which is made if it is not there; each is atomic.

    Raises:
        ConfigurationError: If the disk is full or the folder is not writable.
    """
    with wrap_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_atomic(folder / name, data)


def remove_partial_files(*folders: Path) -> None:
    """Remove what a killed process of ours began to write; none may be writing.

    Raises:
        OSError: If it cannot be removed.
    """
    for folder in folders:
        for part in folder.glob(f"{_PART}*.part"):
            if _OUR_PART.fullmatch(part.name) and part.is_file():
                part.unlink(missing_ok=True)


def read_file(file: Path, largest: int | None = None) -> bytes:
    """Return a file's bytes; a pipe is not waited for.

    Args:
        file: May be anybody's.
        largest: Bytes that it may have; ``None``: any number.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is a pipe or a device, or larger.
    """
    status = file.stat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        message = "expected a file, got a pipe or a device, which may never end"
        raise ValueError(message)
    if largest is not None and status.st_size > largest:
        message = (
            f"expected a file of at most {largest:,} bytes, got {status.st_size:,}"
        )
        raise ValueError(message)
    return file.read_bytes()


def quarantine_file(folder: Path, path: Path) -> Path:
    """Move a corrupt file into ``quarantine/`` of a folder, and return its new path.

    Raises:
        OSError: If it cannot be moved.
    """
    return path.replace(_quarantine_path(folder, path.name))


def quarantine_bytes(folder: Path, name: str, data: bytes) -> None:
    """Keep corrupt parts of a file in ``quarantine/`` of a folder.

    Raises:
        OSError: If they cannot be written.
    """
    write_atomic(_quarantine_path(folder, name), data)


def list_quarantine(folder: Path) -> list[Path]:
    """Return what is in ``quarantine/`` of a folder."""
    return sorted((folder / QUARANTINE).glob("*"))


def _quarantine_path(folder: Path, name: str) -> Path:
    (folder / QUARANTINE).mkdir(parents=True, exist_ok=True)
    # A second one of the same name must not overwrite the first.
    return folder / QUARANTINE / f"{secrets.token_hex(4)}-{name}"


@contextmanager
def wrap_os_errors(path: Path) -> Iterator[None]:
    """Report what is wrong with a folder that cannot be written.

    Raises:
        ConfigurationError: In place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = (
            f"expected to write in {path}, got: {reason}; "
            "make room or get rights, or choose another folder"
        )
        raise ConfigurationError(message) from error
