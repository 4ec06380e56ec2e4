"""Objects: files that are there whole or not at all, under the names of their content.

What is read back is checked against its name. What does not fit it is put aside, so
that nobody takes it for good and it can still be looked at.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from socratic_agents.errors import ConfigurationError
from socratic_agents.faults import reached

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ("Objects", "put_aside", "writable", "write_whole")

OBJECTS = "objects"
QUARANTINE = "quarantine"

_PATH = re.compile(rf"{OBJECTS}/([0-9a-f]{{64}})\.png")


class Objects:
    """Images of a folder.

    Args:
        folder: Holds ``objects/<sha256>.png``; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, data: bytes) -> str:
        """Keep an image's bytes, and return their path in the folder.

        Raises:
            OSError: If they cannot be written.
        """
        path = f"{OBJECTS}/{hashlib.sha256(data).hexdigest()}.png"
        whole = self._folder / path
        if not whole.exists():
            whole.parent.mkdir(parents=True, exist_ok=True)
            write_whole(whole, data)
        return path

    def get(self, path: str) -> bytes | None:
        """Return what was kept; ``None`` if it is not there as it was written.

        Args:
            path: As ``add`` returned it; anything but ``objects/<sha256>.png`` is
                refused, because a folder may come from somebody else.
        """
        named = _PATH.fullmatch(path)
        if named is None:
            return None
        try:
            data = (self._folder / path).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == named[1] else None

    def sound(self, path: str) -> bool:
        """Return whether an image is there as it was written; put it aside if not.

        Raises:
            OSError: If it cannot be put aside.
        """
        if self.get(path) is not None:
            return True
        if _PATH.fullmatch(path) and (self._folder / path).exists():
            put_aside(self._folder, self._folder / path)
        return False


def put_aside(folder: Path, path: Path) -> Path:
    """Move a file that is not as it was written into ``quarantine/``.

    Raises:
        OSError: If it cannot be moved.
    """
    aside = folder / QUARANTINE
    aside.mkdir(parents=True, exist_ok=True)
    # A second one of the same name must not write over the first.
    moved = aside / f"{secrets.token_hex(4)}-{path.name}"
    path.replace(moved)
    return moved


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a crash.

    Raises:
        OSError: If it cannot be written; an earlier file of the name stays.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        reached("file:write")
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            reached("file:sync")
            os.fsync(file.fileno())
        reached("file:replace")
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    reached("file:replaced")
    with suppress(OSError):  # not every system can sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Say of a folder that cannot be written what is wrong with it.

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
