"""The object store: images under the names of their content, checked when read.

What is read back is compared with its name; what is corrupt goes to quarantine.
"""

from __future__ import annotations

import errno
import hashlib
import re
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from socratic_agents.core.image_map import WeakImageMap
from socratic_agents.storage.files import quarantine_file, wrap_os_errors, write_atomic
from socratic_agents.storage.provenance import encode_png

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL.Image import Image

__all__ = ("OBJECTS", "ImageStore", "ObjectStore", "write_image")

OBJECTS = "objects"

_PATH = re.compile(rf"{OBJECTS}/([0-9a-f]{{64}})\.png")


class ObjectStore:
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
        if self.get(path) is None:  # not there, or corrupt
            target = self._folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.parent.is_symlink():
                raise OSError(errno.ELOOP, f"{OBJECTS} is a link to another folder")
            write_atomic(target, data)
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
            file = self._folder / path
            if not file.is_file():  # a pipe would never end
                return None
            data = file.read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == named[1] else None

    def verify(self, path: str) -> bool:
        """Return whether an image is there as it was written; quarantine it if not.

        Raises:
            OSError: If it cannot be moved.
        """
        if self.get(path) is not None:
            return True
        if _PATH.fullmatch(path) and (self._folder / path).exists():
            quarantine_file(self._folder, self._folder / path)
        return False


class ImageStore:
    """The images of a run: each is encoded once, by whoever needs it first.

    Args:
        objects: Where they are kept.
        encode: Makes a PNG of an image, its prompt and its seed.
    """

    def __init__(
        self, objects: ObjectStore, encode: Callable[[Image, str, int], bytes]
    ) -> None:
        self._objects, self._encode = objects, encode
        self._lock = threading.Lock()
        self._paths: WeakImageMap[Future[str]] = WeakImageMap()

    def add(self, image: Image, *, prompt: str, seed: int) -> str:
        """Store an image unless it is there already, and return its path in the folder.

        Args:
            image: As it was generated.
            prompt: It was generated from this.
            seed: Of its noise, at least 0.

        Raises:
            OSError: If it cannot be written.
        """
        path, first = self._path(image)
        if first:
            try:
                path.set_result(self._objects.add(self._encode(image, prompt, seed)))
            except BaseException as problem:
                path.set_exception(problem)
                with self._lock:
                    del self._paths[image]
                raise
        return path.result()

    def register(self, image: Image, path: str) -> None:
        """Record which path an image was read from."""
        future, first = self._path(image)
        if first:
            future.set_result(path)

    def _path(self, image: Image) -> tuple[Future[str], bool]:
        with self._lock:
            path = self._paths.get(image)
            if path is not None:
                return path, False
            path = self._paths[image] = Future()
            return path, True


def write_image(folder: Path, image: Image) -> str:
    """Store an image without provenance, and return its path in the folder.

    Raises:
        ConfigurationError: If the disk is full or the folder is not writable.
    """
    with wrap_os_errors(folder):
        return ObjectStore(folder).add(encode_png(image, None))
