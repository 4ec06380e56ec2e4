"""How a model is opened: the true reason first, safetensors only, no remote code."""

from __future__ import annotations

import json
import logging
import re
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from socratic_agents.core.errors import LoadError, SocraticError
from socratic_agents.core.extras import install_line, needs_extra
from socratic_agents.models.notices import Ear, listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from socratic_agents.models.notices import Notices

__all__ = (
    "PICKLES",
    "check_folder",
    "load_errors",
    "local_folder",
    "quiet",
    "read_header",
)

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Endings of weight files that may run code when they are read."""


def local_folder(name: str) -> Path | None:
    """Return the folder that a name means, or ``None`` if it names a hub model.

    Args:
        name: A folder, or a hub id such as ``"stabilityai/sdxl-turbo"``.

    Raises:
        LoadError: If the name can only be a path, and there is no such folder.
    """
    try:
        path = Path(name).expanduser()
        folder, file = bool(name) and path.is_dir(), path.is_file()
    except (OSError, RuntimeError):  # too long, or a home that nobody has
        folder = file = False
    if folder:
        return path
    if file:
        message = (
            f"expected the folder of a model, got the file {name!r}; give a folder"
        )
        raise LoadError(message)
    if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        return None
    message = (
        f"expected a hub id such as 'owner/model' or the folder of a model, got "
        f"{name!r}, and there is no such folder; check the path"
    )
    raise LoadError(message)


def check_folder(folder: Path, index: str) -> None:
    """Check that a folder holds a model whose weights can be read safely.

    The libraries that read it say other things: a missing file sounds like a
    broken connection, and a truncated one like a wrong model.

    Args:
        folder: The model's folder.
        index: The file that every model of this kind has.

    Raises:
        LoadError: If the index is missing, a part has no weights but pickles, or
            a weight file is truncated.
    """
    if not (folder / index).is_file():
        message = (
            f"expected the folder of a model with {index}, got {str(folder)!r} "
            "without it; save a model there, or give another folder"
        )
        raise LoadError(message)
    for part in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        safe = sorted(part.glob("*.safetensors"))
        pickles = sorted(p.name for p in part.iterdir() if p.suffix in PICKLES)
        if pickles and not safe:
            message = (
                f"expected safetensors weights, got only pickles in {str(part)!r} "
                f"({', '.join(pickles)}); convert them, since a pickle can run code"
            )
            raise LoadError(message)
        for file in safe:
            read_header(file)


def read_header(file: Path) -> dict[str, Any]:
    """Return what a safetensors file says of each of its tensors, by name.

    Raises:
        LoadError: If the file is not as long as its own header says.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length <= size else {}
        header.pop("__metadata__", None)
        ends = [entry["data_offsets"][1] for entry in header.values()]
    except (ValueError, KeyError, TypeError, AttributeError):
        length, ends, header = size, [], {}
    if 8 + length + max(ends, default=0) != size:
        message = (
            f"expected whole safetensors weights, got {str(file)!r}, which is "
            "truncated or damaged; copy or download it again"
        )
        raise LoadError(message)
    return cast("dict[str, Any]", header)


@contextmanager
def load_errors(what: str, name: str, notices: Notices | None = None) -> Iterator[None]:
    """Turn whatever a library raises while a model is opened into one line.

    Args:
        what: What was expected, such as ``"a text-to-image model"``.
        name: What was asked for.
        notices: What was noticed meanwhile, which may be the true reason.

    Raises:
        LoadError: If anything went wrong.
    """
    try:
        yield
    except SocraticError:
        raise  # one line already
    except Exception as error:  # the libraries raise a dozen unrelated classes
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {' '.join(lines)[:300]}"
        reason = "; ".join([*(notices() if notices else ()), reason])
        missing = install_line(error) if isinstance(error, ImportError) else None
        remedy = (
            f"run {missing}" if missing else "check the name, the files and the network"
        )
        message = (
            f"expected {what}, got {name!r}, which cannot be opened "
            f"({reason}); {remedy}"
        )
        raise LoadError(message) from error


class _Silence:
    """Counts who wants silence, since several threads may load and draw at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wanted = self._listeners = 0
        self._restore: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Silence the libraries, unless somebody did already."""
        with needs_extra("to run models on this machine"):
            from diffusers.utils import logging as diffusers_log
            from huggingface_hub.utils.tqdm import (
                are_progress_bars_disabled,
                enable_progress_bars,
            )
            from transformers.utils import logging as transformers_log

        with self._lock:
            self._wanted += 1
            if self._wanted > 1:
                return
            downloads_shown = not are_progress_bars_disabled()
            for log in (diffusers_log, transformers_log):
                self._restore.append(partial(log.set_verbosity, log.get_verbosity()))
                if log.is_progress_bar_enabled():
                    self._restore.append(log.enable_progress_bar)
                self._restore.append(_with_ear(log))
                log.set_verbosity_error()
                log.disable_progress_bar()
            # open_clip logs to the root logger in a way that would give it a handler
            # which prints, from then on, what every library warns of.
            sink, root = logging.NullHandler(), logging.getLogger()
            root.addHandler(sink)
            self._restore.append(partial(root.removeHandler, sink))
            # transformers hides downloads too; they take minutes and must be seen.
            if downloads_shown:
                enable_progress_bars()

    def listen(self, count: int) -> None:
        """Let the libraries log warnings as long as somebody listens."""
        from diffusers.utils import logging as diffusers_log
        from transformers.utils import logging as transformers_log

        with self._lock:
            self._listeners += count
            level = logging.WARNING if self._listeners else logging.ERROR
            for log in (diffusers_log, transformers_log):
                log.set_verbosity(level)

    def end(self) -> None:
        """Let the libraries speak again once nobody wants silence."""
        with self._lock:
            self._wanted -= 1
            while self._restore and not self._wanted:
                self._restore.pop()()


def _with_ear(log: ModuleType) -> Callable[[], None]:
    """Take the place of a library's handlers; return how to give it back."""
    logger = log.get_logger(log.__name__.partition(".")[0])
    handlers, propagates = logger.handlers[:], logger.propagate
    logger.handlers, logger.propagate = [Ear(handlers, logger.level)], False

    def restore() -> None:
        logger.handlers, logger.propagate = handlers, propagates

    return restore


_SILENCE = _Silence()


@contextmanager
def quiet(notices: Notices | None = None) -> Iterator[None]:
    """Silence the libraries' progress bars and warnings, downloads excepted.

    Args:
        notices: Keeps the warnings that mean other results.
    """
    _SILENCE.begin()
    try:
        with listening(notices):
            if notices is None:
                yield
                return
            _SILENCE.listen(1)
            try:
                yield
            finally:
                _SILENCE.listen(-1)
    finally:
        _SILENCE.end()
