"""Reading answers: the one object that fits, out of all that real models write.

Strict in what is sent, lenient in what is read. Around the answer may stand a
deliberation, words, code fences, and tokens that mark the end; inside it, numbers as
text, one thing in place of a list, or keys that nobody asked for. Where two readings are
possible, or the answer breaks off, there is none: a guess would be drawn and paid for.
"""

from __future__ import annotations

import ast
import json
import re
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from pydantic import BaseModel, ValidationError

from socratic_agents.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = (
    "SHOWN",
    "UnreadableError",
    "after_deliberation",
    "fitting",
    "mistakes_in",
    "read_answer",
)

AnswerT = TypeVar("AnswerT", bound=BaseModel)

SHOWN = 4_000
"""Characters of a wrong answer, or of an error, that are shown to the model again."""
LARGEST = 200_000
"""Characters that are searched for an answer; no role needs a tenth of it."""
MOST_PLACES = 2_000
"""Braces at which an answer may begin; a text with more is not an answer."""

_OPENED = re.compile(
    r"<(think|thinking|thought|thoughts|reasoning|reflection|analysis|seed:think)>"
    r"|\[THINK\]|◁think▷|<\|channel\|>analysis",
    re.IGNORECASE,
)
"""How a deliberation begins."""
_CLOSED = re.compile(
    r"</(?:think|thinking|thought|thoughts|reasoning|reflection|analysis|seed:think)>"
    r"|\[/THINK\]|◁/think▷|<\|channel\|>final(?:<\|[a-z]+\|>[^<{]*)?<\|message\|>",
    re.IGNORECASE,
)
"""How it ends; what the model says comes after the last one."""
_BEGINS = re.compile(r"""\{\s*(?:["'}]|\Z)|\[\s*\{""")
"""Where an object may begin. Another brace is prose, as in "{yes}"."""
_NOTHING = frozenset({"", "none", "null", "n/a", "nothing", "-"})
"""What stands for an empty list where a list was asked for."""
_TRUE = frozenset({"true", "yes", "1"})
_FALSE = frozenset({"false", "no", "0"})


class UnreadableError(ValueError):
    """A text that holds no answer, or more than one; says why to who wrote it."""


class _BrokenError(ValueError):
    """An object that is not closed: the text breaks off, or was never JSON."""


def read_answer(
    text: str, answer: type[AnswerT], *, calls: Sequence[Any] = (), example: Any = None
) -> AnswerT:
    """Return the answer that a model wrote.

    Args:
        text: What it says, deliberation and all.
        answer: What it was asked for.
        calls: The arguments of tool calls, as objects or as text; they come first.
        example: What it was shown as an example; an echo of it is no second answer.

    Raises:
        UnreadableError: If no object fits, if several that differ do, or if the text
            breaks off.
    """
    called = [one for one in map(_unwrapped, calls) if isinstance(one, dict)]
    if called:
        try:
            return fitting(called, answer)
        except UnreadableError:
            if "{" not in text:
                raise
    text = text[:LARGEST].strip().removeprefix("\ufeff").strip()
    if not text:
        message = "it is empty"
        raise UnreadableError(message)
    whole = _whole(text)
    found = [whole] if whole is not None else list(_objects(after_deliberation(text)))
    if not found:
        message = "it holds no JSON object in the form that was asked for"
        raise UnreadableError(message)
    return fitting([one for one in found if one != example] or found, answer)


def after_deliberation(text: str, begins: str = "{") -> str:
    """Return what a model says once it has stopped to deliberate.

    Args:
        text: All that it wrote.
        begins: How an answer begins that may stand before a deliberation.

    Raises:
        UnreadableError: If it never stops.
    """
    text = text[max((mark.end() for mark in _CLOSED.finditer(text)), default=0) :]
    opened = _OPENED.search(text)
    if opened is None:
        return text
    if begins not in text[: opened.start()] or not text[: opened.start()].strip():
        message = "it ends in the middle of its deliberation; think less"
        raise UnreadableError(message)
    return text[: opened.start()]


def fitting(found: Sequence[Any], answer: type[AnswerT]) -> AnswerT:
    """Return the one value that fits, as it stands or else leniently read.

    Args:
        found: JSON values, in the order in which they were written.
        answer: What one of them shall be.

    Raises:
        UnreadableError: If none fits, or several that differ.
    """

    def lenient(value: Any) -> AnswerT:
        return _lenient(value, answer)

    readings: tuple[Callable[[Any], AnswerT], ...] = (answer.model_validate, lenient)
    for read in readings:
        fits: list[AnswerT] = []
        faults: list[str] = []
        for value in found:
            try:
                one = read(value)
            except (ValueError, RecursionError) as problem:
                faults.append(mistakes_in(problem))
                continue
            if one not in fits:
                fits.append(one)
        if len(fits) == 1:
            return fits[0]
        if fits:
            message = f"it holds {len(fits)} different answers; give one"
            raise UnreadableError(message)
    raise UnreadableError(faults[-1])


def mistakes_in(problem: Exception) -> str:
    """Return what is wrong with a value, on one line, without addresses of manuals."""
    if not isinstance(problem, ValidationError):
        text, _, _ = str(problem).partition("\nFor troubleshooting")
        text = one_line(text)
        return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    parts = []
    for error in problem.errors(include_url=False):
        place = ".".join(map(str, error["loc"]))
        parts.append(f"{place}: {error['msg']}" if place else error["msg"])
    return "; ".join(parts)


def _whole(text: str) -> dict[str, Any] | None:
    """Return a text that is one object and nothing else, whatever stands in it."""
    try:
        value = _decoder.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the outermost JSON objects of a text, those in a list one by one.

    Raises:
        UnreadableError: At an object that breaks off: what stands in it is a part.
    """
    place, tried = 0, 0
    while begins := _BEGINS.search(text, place):
        start, tried = begins.start(), tried + 1
        if tried > MOST_PLACES:
            return
        try:
            value, place = _decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            try:
                place = _closed(text, start)
            except _BrokenError:
                message = "it breaks off before the JSON object is complete; be shorter"
                raise UnreadableError(message) from None
            value = _nearly(text[start:place])
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield one


def _closed(text: str, start: int) -> int:
    """Return where the bracket that opens at a place is closed, strings apart."""
    depth, quote, place = 0, "", start
    while place < len(text):
        char = text[place]
        if quote:
            if char == "\\":
                place += 1
            elif char == quote:
                quote = ""
        elif char == '"' or (char == "'" and _quotes(text, place)):
            quote = char
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == 0:
                return place + 1
        place += 1
    raise _BrokenError


def _quotes(text: str, place: int) -> bool:
    """Return whether an apostrophe opens a text of Python, and is not one of prose."""
    return text[:place].rstrip()[-1:] in {"{", "[", ",", ":"}


def _nearly(text: str) -> Any:
    """Return an object in the spelling of Python, or with a comma too many."""
    try:
        return _decoder.decode(_COMMA.sub(lambda m: m[1] or m[2], text))
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,\s*([}\]])', re.DOTALL)
"""A text in quotes, which stays, or a comma before a closing bracket, which goes."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, unless it says two things about one key."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made and made[key] != value:
            message = f"{key} is said twice"
            raise ValueError(message)
        made[key] = value
    return made


_decoder = json.JSONDecoder(object_pairs_hook=_once, strict=False)


def _lenient(value: Any, answer: type[AnswerT]) -> AnswerT:
    """Return a value read leniently, or what it wraps if that alone fits."""
    try:
        return answer.model_validate(_object(value, answer))
    except ValueError as problem:
        inner = [_unwrapped(one) for one in value.values()]
        fits = []
        for one in inner:
            if isinstance(one, dict):
                try:
                    fits.append(answer.model_validate(_object(one, answer)))
                except ValueError:
                    continue
        if len(fits) == 1:
            return fits[0]
        raise problem from None


def _unwrapped(value: Any) -> Any:
    """Return the arguments of a call that were written as text, as an object."""
    return _whole(value) if isinstance(value, str) and value[:1] == "{" else value


def _object(value: Any, model: type[BaseModel]) -> Any:
    """Return an object with the keys of a model alone, each value as its field's."""
    if not isinstance(value, dict):
        return value
    keys: dict[str, list[str]] = {}
    for key in value:
        keys.setdefault(_folded(key), []).append(key)
    made = {}
    for name, field in model.model_fields.items():
        spelled = [name] if name in value else keys.get(_folded(name), [])
        if len(spelled) == 1:
            made[name] = _as(value[spelled[0]], field.annotation)
    return made


def _folded(key: object) -> str:
    return re.sub(r"[\s_-]", "", str(key)).casefold()


def _as(value: Any, kind: Any) -> Any:  # noqa: PLR0911 - one line for each type
    """Return a value as a field's type, if it can only mean one thing."""
    origin, of = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        kinds = [one for one in of if one is not NoneType]
        return None if value is None and NoneType in of else _as(value, kinds[0])
    if origin is Annotated:
        return _as(value, of[0])
    if origin is list:
        return _listed(value, of[0])
    if origin is Literal:
        alike = [one for one in of if _folded(one) == _folded(value)]
        return alike[0] if len(alike) == 1 else value
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _object(value, kind)
    if kind is str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if value is None else str(value) if number else value
    if kind is bool:
        said = str(value).strip().casefold()
        return said in _TRUE if said in _TRUE | _FALSE else value
    if kind in {int, float} and isinstance(value, str | float | int):
        return _number(value, kind)
    return value


def _listed(value: Any, kind: Any) -> Any:
    """Return a list; one thing in place of a list is a list of one."""
    if value is None or (
        isinstance(value, str) and one_line(value).casefold() in _NOTHING
    ):
        return []
    items = value if isinstance(value, list | tuple) else [value]
    return [_as(item, kind) for item in items if item is not None]


def _number(value: str | float, kind: type[int | float]) -> Any:
    """Return a number that is written as text, or as another kind of number."""
    if isinstance(value, bool):
        return value
    try:
        number = float(value)
        return int(number) if kind is int and number == int(number) else number
    except (ValueError, OverflowError):
        return value
