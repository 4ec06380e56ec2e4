"""Where each result stands in ``results.jsonl``: one for each input, none in memory.

A result is known by its place among the inputs and by its prompt. A later line of the
same place and prompt replaces an earlier one; lines that were replaced, or whose input
is gone, are left out when the file is written anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ("ResultIndex", "head_of")

_HEAD = re.compile(
    rb'\{"schema": \d+, "index": (\d+), "user_prompt": ("(?:[^"\\]|\\.)*"), '
    rb'"status": "(ok|failed)", '
)
_PLACE = re.compile(rb'(?<=, "index": )\d+')


class _Line(NamedTuple):
    begin: int
    length: int
    ok: bool
    """Whether it is a refinement and no failure."""


class _Head(NamedTuple):
    place: int
    name: bytes
    """Of the prompt."""
    ok: bool


def head_of(line: bytes) -> _Head:
    """Return what a result is known by, without reading it all.

    Raises:
        ValueError: If it is none.
        KeyError: If it is none.
        TypeError: If it is none.
    """
    found = _HEAD.match(line)
    if found:
        place, prompt, status = int(found[1]), json.loads(found[2]), found[3]
        return _Head(place, _name(prompt), status == b"ok")
    record = json.loads(line)
    place, prompt = record["index"], record["user_prompt"]
    if not isinstance(place, int) or not isinstance(prompt, str):
        message = "expected a place and a prompt"
        raise TypeError(message)
    return _Head(place, _name(prompt), record["status"] == "ok")


class ResultIndex:
    """The results of a folder by place and prompt.

    Args:
        path: The file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._asked: set[tuple[int, bytes]] = set()
        self._clear()

    def _clear(self) -> None:
        self._lines: dict[tuple[int, bytes], _Line] = {}
        self._names: dict[int, list[bytes]] = {}
        self._places: dict[bytes, list[int]] = {}
        self._next = 0
        self.stale = False
        """Whether the file holds more than the results, or other places than they."""

    def __len__(self) -> int:
        return len(self._lines)

    def scan(self, *, valid: Callable[[bytes], bool]) -> list[bytes]:
        """Find all results, and return the lines that are none.

        Args:
            valid: Whether a line, its end included, was written like this.
        """
        bad, begin = [], 0
        for line in self._file_lines():
            try:
                head = head_of(line) if valid(line) else None
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                head = None
            if head is None:
                bad.append(line)
            else:
                self.add(head, begin, len(line))
            begin += len(line)
        self.stale |= bool(bad)
        return bad

    def add(self, head: _Head, begin: int, length: int) -> None:
        """Note where a result stands; an earlier one of the same input is replaced."""
        key = head.place, head.name
        if key in self._lines:
            self.stale = True
        else:
            self._names.setdefault(head.place, []).append(head.name)
        self._lines[key] = _Line(begin, length, head.ok)
        places = self._places.setdefault(head.name, [])
        if places[-1:] != [head.place]:
            places.append(head.place)
        self._next = max(self._next, head.place + 1)

    def reload(self) -> None:
        """Find all results again, after they were written as ``lines`` has them."""
        self._clear()
        self.scan(valid=lambda _: True)

    def read(self, place: int, user_prompt: str) -> bytes | None:
        """Return the line of an input that was refined, with its place as it is now."""
        line = self._lines.get((place, _name(user_prompt)))
        if line is None or not line.ok:
            return None
        with self._path.open("rb") as file:
            file.seek(line.begin)
            return _placed(file.read(line.length), place)

    def lines(self) -> Iterator[bytes]:
        """Return the lines of all results, in the order of their places."""
        if not self._lines:
            return
        with self._path.open("rb") as file:
            ordered = sorted((place, line) for (place, _), line in self._lines.items())
            for place, line in ordered:
                file.seek(line.begin)
                yield _placed(file.read(line.length), place)

    def claim(self, place: int, user_prompt: str) -> None:
        """Let an input have its result, wherever it stood before.

        Where it has none, it gets that of an input with the same prompt whose place
        nobody has asked for; who had its place before is gone.
        """
        key = place, _name(user_prompt)
        self._asked.add(key)
        if key not in self._lines:
            before = self._spare_place(key[1])
            if before is None:
                return
            line = self._lines[before, key[1]]
            self._drop(before, key[1])
            self._lines[key] = line
            self._names.setdefault(place, []).append(key[1])
            self.stale = True
        self.evict(place, but=key[1])

    def keep_only(self, inputs: Iterable[str]) -> None:
        """Let inputs have their results; what belongs to none of them is gone."""
        keys = [(place, _name(prompt)) for place, prompt in enumerate(inputs)]
        wanted = set(keys)
        before, self._lines = self._lines, {}
        spare: dict[bytes, list[_Line]] = {}
        for key, line in before.items():
            if key in wanted:
                self._lines[key] = line
            elif line.ok:
                spare.setdefault(key[1], []).append(line)
        for key in reversed(keys):
            if key not in self._lines and spare.get(key[1]):
                self._lines[key] = spare[key[1]].pop()
        self._asked = wanted
        self._names = {}
        for place, name in self._lines:
            self._names.setdefault(place, []).append(name)
        self.stale |= before.keys() != self._lines.keys()

    def evict(self, place: int, *, but: bytes) -> None:
        """Leave out what other prompts have at a place."""
        for name in [*self._names.get(place, ())]:
            if name != but:
                self._drop(place, name)
                self.stale = True

    def free_place(self, place: int, user_prompt: str) -> int:
        """Return a place that no other prompt has: this one, or the next of all."""
        name, taken = _name(user_prompt), self._names.get(place)
        if not taken or name in taken:
            return place
        known = (self._places.get(name) or [-1])[-1]
        return known if (known, name) in self._lines else self._next

    def _drop(self, place: int, name: bytes) -> None:
        self._names[place].remove(name)
        del self._lines[place, name]

    def _spare_place(self, name: bytes) -> int | None:
        """Return a place that this prompt had, if nobody has asked for it."""
        places = self._places.get(name, [])
        while places:
            place = places.pop()
            line = self._lines.get((place, name))
            if (place, name) not in self._asked and line and line.ok:
                return place
        return None

    def _file_lines(self) -> Iterator[bytes]:
        if self._path.exists():
            with self._path.open("rb") as file:
                yield from file


def _name(user_prompt: str) -> bytes:
    text = user_prompt.encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest()[:16]


def _placed(line: bytes, place: int) -> bytes:
    """Return a result's line with the place that it has now."""
    if head_of(line).place == place:
        return line
    if _HEAD.match(line):
        return _PLACE.sub(str(place).encode(), line, count=1)
    record: dict[str, Any] = json.loads(line) | {"index": place}
    return json.dumps(record, allow_nan=False).encode() + b"\n"
