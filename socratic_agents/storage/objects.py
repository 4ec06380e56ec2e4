"""Objects: files that are there whole or not at all, under the names of their content.

What is read back is checked against its name. What does not fit it is put aside, so
that nobody takes it for good and it can still be looked at.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from weakref import finalize

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.storage.failpoints import reached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from PIL.Image import Image

__all__ = (
    "OBJECTS",
    "Gallery",
    "Objects",
    "list_aside",
    "put_aside",
    "remove_parts",
    "writable",
    "write_aside",
    "write_whole",
)

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
        if self.get(path) is None:  # a spoilt one is no reason to stay spoilt
            whole = self._folder / path
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


class Gallery:
    """Images of a run: each is encoded once, by whoever needs it first.

    Args:
        objects: Where they are kept.
        encode: Makes a PNG of an image, its prompt and its seed.
    """

    def __init__(
        self, objects: Objects, encode: Callable[[Image, str, int], bytes]
    ) -> None:
        self._objects, self._encode = objects, encode
        self._lock = threading.Lock()
        self._paths: dict[int, Future[str]] = {}

    def keep(self, image: Image, *, prompt: str, seed: int) -> str:
        """Return an image's path in the folder, where it is from now on.

        Args:
            image: As it was drawn.
            prompt: Of what it was drawn.
            seed: Of its noise, at least 0.

        Raises:
            OSError: If it cannot be written.
        """
        path, first = self._place(image)
        if first:
            try:
                path.set_result(self._objects.add(self._encode(image, prompt, seed)))
            except BaseException as problem:
                path.set_exception(problem)
                with self._lock:
                    self._paths.pop(id(image), None)
                raise
        return path.result()

    def note(self, image: Image, path: str) -> None:
        """Take note of where an image was read from."""
        place, first = self._place(image)
        if first:
            place.set_result(path)

    def _place(self, image: Image) -> tuple[Future[str], bool]:
        with self._lock:
            place = self._paths.get(id(image))
            if place is not None:
                return place, False
            place = self._paths[id(image)] = Future()
        # Another image may have the same number later, but not while this one lives.
        finalize(image, self._paths.pop, id(image), None)
        return place, True


def list_aside(folder: Path) -> list[Path]:
    """Return what was put aside in a folder."""
    return sorted((folder / QUARANTINE).glob("*"))


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


def remove_parts(folder: Path) -> None:
    """Take away what a killed process began to write; nobody else may be writing.

    Raises:
        OSError: If it cannot be removed.
    """
    for place in (folder, folder / OBJECTS, folder / QUARANTINE):
        for part in place.glob(".*.part"):
            part.unlink(missing_ok=True)


def write_aside(folder: Path, name: str, data: bytes) -> None:
    """Keep what is no part of a file any more in ``quarantine/``.

    Raises:
        OSError: If it cannot be written.
    """
    aside = folder / QUARANTINE
    aside.mkdir(parents=True, exist_ok=True)
    write_whole(aside / f"{secrets.token_hex(4)}-{name}", data)


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
