"""The files of a prompt set as bytes: one file, a folder of them, or an archive."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("SetFile", "digest", "read_files")

LARGEST = 4 * 2**30
"""Bytes that an archive may unpack to; a small file can claim to be a huge one."""


@dataclass(frozen=True, kw_only=True)
class SetFile:
    """One file of a prompt set."""

    name: str
    """Without its folder."""
    data: bytes

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def ending(self) -> str:
        """The name's ending in lower case, with its dot."""
        return PurePosixPath(self.name).suffix.lower()


def read_files(path: Path, members: Sequence[str]) -> tuple[tuple[SetFile, ...], str]:
    """Return the files of a prompt set, by their names, and their sha256.

    Args:
        path: A file, a folder, or a ``.zip``; of the latter two what ``members`` says
            is read, folders within them included.
        members: Patterns such as ``*.txt``, of names without their folders.

    Raises:
        ConfigurationError: If it is not there, cannot be read, or holds nothing.
    """
    try:
        if path.is_dir():
            pieces = _of_folder(path, members)
            found = digest(pieces)
        else:
            data = path.read_bytes()
            found = hashlib.sha256(data).hexdigest()
            packed = path.suffix.lower() == ".zip"
            one = (SetFile(name=path.name, data=data),)
            pieces = _of_archive(one[0], members) if packed else one
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        reason = getattr(error, "strerror", None) or error
        message = f"expected a readable file, got {str(path)!r}: {reason}"
        raise ConfigurationError(message) from error
    if not pieces:
        message = (
            f"expected files such as {', '.join(members)} in {str(path)!r}, got none; "
            "give the file itself, or the folder that holds them"
        )
        raise ConfigurationError(message)
    if not any(piece.data.strip() for piece in pieces):
        message = f"expected prompts in {str(path)!r}, got an empty file; check it"
        raise ConfigurationError(message)
    return pieces, found


def digest(pieces: Sequence[SetFile]) -> str:
    """Return one sha256 for all files: of several, that of their names and hashes."""
    if len(pieces) == 1:
        return hashlib.sha256(pieces[0].data).hexdigest()
    whole = hashlib.sha256()
    for piece in pieces:
        own = hashlib.sha256(piece.data).hexdigest()
        whole.update(f"{own}  {piece.name}\n".encode("utf-8", "backslashreplace"))
    return whole.hexdigest()


def _of_folder(folder: Path, members: Sequence[str]) -> tuple[SetFile, ...]:
    # Sorted by their parts, so that every system reads them in the same order.
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return tuple(
        SetFile(name=file.name, data=file.read_bytes())
        for file in files
        if _wanted(file.name, members)
    )


def _of_archive(archive: SetFile, members: Sequence[str]) -> tuple[SetFile, ...]:
    try:
        with zipfile.ZipFile(BytesIO(archive.data)) as packed:
            entries = [
                (PurePosixPath(entry.filename), entry)
                for entry in packed.infolist()
                if not entry.is_dir()
                and _wanted(PurePosixPath(entry.filename).name, members)
            ]
            size = sum(entry.file_size for _, entry in entries)
            if size > LARGEST:
                message = (
                    f"expected an archive of at most {LARGEST:,} bytes, got {size:,} "
                    f"in {archive.name!r}; unpack it and give the file that is needed"
                )
                raise ConfigurationError(message)
            return tuple(
                SetFile(name=path.name, data=packed.read(entry))
                for path, entry in sorted(entries, key=lambda pair: pair[0])
            )
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        message = (
            f"expected a whole zip archive, got {archive.name!r}, which is truncated, "
            f"damaged or locked ({error}); copy or download it again"
        )
        raise ConfigurationError(message) from error


def _wanted(name: str, members: Sequence[str]) -> bool:
    # What other systems put beside files begins with a dot.
    lower = name.lower()
    return name[:1] != "." and any(fnmatch(lower, pattern) for pattern in members)
