"""Notices: what libraries say of a model that changes its results, each thing once.

While a model is loaded and called the libraries are silent, for most of what they log
helps nobody. What means that an image or an answer is not what was asked for is kept.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING

from socratic_agents.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ("Ear", "Notices", "listening")

_CHANGES_RESULTS = re.compile(
    r"guidance|ignored|resized|steps|not initialized|mismatch|not used when|unexpected"
    r"|clean_caption|cannot run",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"truncated|safety.checker|deprecated|No LoRA keys|adapter weights"
    r"|generation flags",
    re.IGNORECASE,
)
"""Each image counts what was cut of its own prompt, and LoRA weights their layers; where
nothing is sampled, flags of sampling change nothing."""


_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_REPORT = re.compile(r"(\w+) LOAD REPORT")
"""What transformers logs of weights that a model has and its files have not, or the
other way round, in a table; the other way round is common, and harms nothing."""
_ABSENT = re.compile(r"^(\S+)\s*\|\s*(?:MISSING|MISMATCH)", re.MULTILINE)
_NEW = re.compile(
    r"weights of (\w+) were not initialized .*newly initialized: \[(.*)\]"
)
"""The same of diffusers."""


class Notices:
    """What was said of one model, in the order in which it was first said."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._said: dict[str, None] = {}

    def add(self, text: str) -> None:
        """Keep a notice, unless it is known already."""
        with self._lock:
            self._said[one_line(text, 300)] = None

    def hear(self, record: logging.LogRecord) -> None:
        """Keep what a library logged, if it means other results."""
        text = _ANSI.sub("", record.getMessage())
        if report := _REPORT.search(text):
            self._add_random(report[1], _ABSENT.findall(text))
        elif new := _NEW.search(text):
            self._add_random(new[1], re.findall(r"'([^']+)'", new[2]))
        elif _CHANGES_RESULTS.search(text) and not _HARMLESS.search(text):
            self.add(text)

    def _add_random(self, model: str, weights: Sequence[str]) -> None:
        if weights:
            names = ", ".join(weights[:3]) + (", …" if weights[3:] else "")
            self.add(
                f"{len(weights)} weights of {model} are missing in its files, and random "
                f"instead: {names}"
            )

    def __call__(self) -> tuple[str, ...]:
        """Return what was said until now."""
        with self._lock:
            return tuple(self._said)


_listener: ContextVar[Notices | bool] = ContextVar("listener", default=False)
"""Whether this thread works in silence, and who listens then."""


@contextmanager
def listening(notices: Notices | None) -> Iterator[None]:
    """Work in silence in this thread.

    Args:
        notices: Keeps what matters; ``None``: nobody does.
    """
    token = _listener.set(notices or True)
    try:
        yield
    finally:
        _listener.reset(token)


class Ear(logging.Handler):
    """Stands for a library's handlers while some thread works in silence.

    Other threads are heard as ever, since loggers are shared by all.

    Args:
        handlers: What the library logs to.
        level: From which on it does.
    """

    def __init__(self, handlers: Sequence[logging.Handler], level: int) -> None:
        super().__init__()
        self._handlers, self._from = tuple(handlers), level

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, pass it on or drop it."""
        listener = _listener.get()
        passes = record.levelno >= (logging.ERROR if listener else self._from)
        if isinstance(listener, Notices) and not passes:
            listener.hear(record)
        for handler in self._handlers if passes else ():
            handler.handle(record)
