"""Registries: every entry of a kind by its name, our own and other packages'.

An entry is a frozen value with a ``name`` and a ``title``. Other packages add theirs
through an entry point, whose name is the entry's and whose object is the entry itself.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.text import error_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ("Entry", "Listed", "PluginWarning", "Registry")

OURS = "socratic_agents"
"""Where an entry is from that came with this package."""


class PluginWarning(UserWarning):
    """An entry of another package cannot be used."""


class Entry(Protocol):
    """What every registry holds."""

    @property
    def name(self) -> str:
        """What settings and options call it."""

    @property
    def title(self) -> str:
        """What it does, in a line."""


Spec = TypeVar("Spec", bound=Entry)


@dataclass(frozen=True, kw_only=True)
class Listed(Generic[Spec]):
    """An entry, and where it is from."""

    name: str
    package: str
    """Name and version of the distribution; ``socratic_agents`` for our own."""
    entry: Spec | None
    """``None``: it could not be loaded."""
    error: str | None = None
    """Why it could not be loaded, in a line."""


class Registry(Mapping[str, Spec]):
    """The entries of one kind, by name; other packages' are loaded when asked for.

    Args:
        kind: What an entry is, with its article, for messages: ``a judge``.
        own: The entries that come with this package, in the order of help texts.
        spec: The type of every entry.
        group: The entry points by which others add theirs, such as
            ``socratic_agents.judges``; ``None``: nobody does.
    """

    def __init__(
        self, kind: str, own: Iterable[Spec], *, spec: type[Spec], group: str | None
    ) -> None:
        self.kind, self.group = kind, group
        self._spec = spec
        self._own = {entry.name: entry for entry in own}
        self._loaded: dict[EntryPoint, Listed[Spec]] = {}

    def __getitem__(self, name: str) -> Spec:
        if name in self._own:
            return self._own[name]
        point = self._points().get(name)
        entry = self._load(point).entry if point else None
        if entry is None:
            raise KeyError(name)
        return entry

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self._points()

    def __len__(self) -> int:
        return len(self._own) + len(self._points())

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._points()

    def find(self, name: str) -> Spec:
        """Return the entry of this name.

        Raises:
            ConfigurationError: If there is none, it cannot be loaded, or two packages
                claim one name.
        """
        try:
            return self[name]
        except KeyError:
            known = list(self)
            close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else "name one of these"
            if name in known:
                hint = "its package cannot load it, see 'socratic plugins'"
            message = f"expected {self.kind} ({', '.join(known)}), got {name!r}; {hint}"
            raise ConfigurationError(message) from None

    def listed(self) -> tuple[Listed[Spec], ...]:
        """Return every entry with the package that it is from; loads them all."""
        own = (Listed(name=n, package=OURS, entry=e) for n, e in self._own.items())
        return (*own, *(self._load(point) for point in self._points().values()))

    def _points(self) -> dict[str, EntryPoint]:
        """Return other packages' entry points by name, none of them loaded."""
        found: dict[str, EntryPoint] = {}
        if self.group is None:
            return found
        for point in entry_points(group=self.group):
            rival = _package(found[point.name]) if point.name in found else OURS
            if point.name in found or point.name in self._own:
                message = (
                    f"expected one package to define {self.kind} {point.name!r}, got "
                    f"{rival} and {_package(point)}; uninstall one, or rename its entry"
                )
                raise ConfigurationError(message)
            found[point.name] = point
        return found

    def _load(self, point: EntryPoint) -> Listed[Spec]:
        """Return another package's entry; one that fails is a warning that names it."""
        if point not in self._loaded:
            entry, error = None, None
            try:
                entry = self._checked(point.name, point.load())
            except Exception as problem:  # noqa: BLE001 - it is anybody's code
                error = error_line(problem)
                message = (
                    f"cannot load {self.kind} {point.name!r} of {_package(point)}: "
                    f"{error}"
                )
                warnings.warn(message, PluginWarning, stacklevel=2)
            self._loaded[point] = Listed(
                name=point.name, package=_package(point), entry=entry, error=error
            )
        return self._loaded[point]

    def _checked(self, name: str, entry: object) -> Spec:
        if not isinstance(entry, self._spec):
            message = (
                f"expected a {self._spec.__name__}, got {type(entry).__name__}; let the "
                "entry point name a value"
            )
            raise TypeError(message)
        if entry.name != name:
            message = (
                f"expected the name {name!r} of its entry point, got {entry.name!r}"
            )
            raise ValueError(message)
        return entry


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown one"
