"""What tells one object's answers from another's: its code and its own fields.

A model that is named in the settings is known by its name. An object is known by its
attribute ``identity``, if it has one, and else by its class or its code, and by what it
holds, as far as that is public and made of plain values. Of any other object nobody can
say whether it answers as before.
"""

from __future__ import annotations

import functools
import hashlib
import json
import types
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Seen: TypeAlias = dict[int, int]
    """Numbers of the objects that were met, in their order."""

__all__ = ("object_identity",)

_HEAP_TYPE = 1 << 9
"""Set where a class was made by a class statement; others hide what they hold."""

_NOT_DECISIVE = frozenset(
    (
        *("cache", "callbacks", "custom_get_token_ids", "disable_streaming"),
        *("max_retries", "metadata", "name", "rate_limiter", "request_timeout"),
        *("stream_usage", "streaming", "tags", "timeout", "verbose"),
    )
)
"""Fields of LangChain's models that do not decide what they answer."""


_LIBRARIES = frozenset(("abc", "builtins", "pydantic", "typing"))


class _UnidentifiedError(Exception):
    """Something holds what cannot be compared with an earlier run."""


def object_identity(value: object) -> str | None:
    """Return a hash that two objects share if they answer alike.

    Args:
        value: A model, a callable or a LangChain model.

    Returns:
        ``None`` where it cannot be told from others.
    """
    try:
        facts = json.dumps(_facts(value, {}), sort_keys=True)
    except (_UnidentifiedError, RecursionError):
        return None
    return hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()


def _facts(value: Any, seen: Seen) -> Any:
    """Return what decides how a value behaves, as JSON."""
    if value is None or isinstance(value, bool | int | str):
        return value
    kind = type(value)
    if kind in _PLAIN:
        return [kind.__name__, _PLAIN[kind](value, seen)]
    if id(value) in seen:
        return ["seen", seen[id(value)]]
    seen[id(value)] = len(seen)
    given = None if isinstance(value, type) else getattr(value, "identity", None)
    if given is not None and not callable(given):
        return {"identity": _facts(given, seen), "type": _name(kind)}
    known = (read for kinds, read in _READERS if isinstance(value, kinds))
    return next(known, _instance)(value, seen)


def _items(value: Iterable[Any], seen: Seen) -> Any:
    return [_facts(one, seen) for one in value]


def _members(value: Iterable[Any], seen: Seen) -> Any:
    return sorted(json.dumps(_facts(one, seen)) for one in value)


def _pairs(value: Mapping[Any, Any], seen: Seen) -> list[Any]:
    pairs = ([_facts(key, seen), _facts(one, seen)] for key, one in value.items())
    return sorted(pairs, key=lambda pair: json.dumps(pair[0]))


def _function(function: types.FunctionType, seen: Seen) -> Any:
    """Return a function's code, and the values that it was made with."""
    cells = {}
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            cells[name] = _fixed(cell.cell_contents, seen)
        except ValueError:  # nothing is bound to the name yet
            cells[name] = "unbound"
    package = _package(function)
    used = {}
    for name in sorted(_global_names(function.__code__)):
        value = function.__globals__.get(name)
        own = isinstance(value, types.FunctionType) and _package(value) == package
        if own or isinstance(value, bool | int | float | str | bytes):
            used[name] = _facts(value, seen)
    return {
        "function": _name(function),
        "code": _code(function.__code__, seen),
        "defaults": _facts(function.__defaults__, seen),
        "named": _facts(function.__kwdefaults__, seen),
        "closure": cells,
        "globals": used,
    }


def _fixed(value: Any, seen: Seen) -> Any:
    """Return the facts of a value that a function closes over and may not change.

    Raises:
        _UnidentifiedError: If it may: it would say something else the next time.
    """
    if type(value) in {list, dict, set}:
        raise _UnidentifiedError
    return _facts(value, seen)


def _code(code: types.CodeType, seen: Seen) -> Any:
    consts = [
        _code(const, seen) if isinstance(const, types.CodeType) else _facts(const, seen)
        for const in code.co_consts
    ]
    names = [*code.co_names, "|", *code.co_varnames]
    return [hashlib.sha256(code.co_code).hexdigest(), names, consts]


def _global_names(code: types.CodeType) -> set[str]:
    inner = (one for one in code.co_consts if isinstance(one, types.CodeType))
    return {*code.co_names}.union(*map(_global_names, inner))


def _partial(value: functools.partial[Any], seen: Seen) -> Any:
    return ["partial", *_items((value.func, value.args, value.keywords), seen)]


def _builtin(value: types.BuiltinFunctionType, seen: Seen) -> Any:
    return [_name(value), _facts(value.__self__, seen)]


def _method(value: types.MethodType, seen: Seen) -> Any:
    return _items((value.__func__, value.__self__), seen)


def _pydantic(value: Any, seen: Seen) -> Any:
    """Return the public fields of a LangChain model, secrets left out."""
    fields = {
        name: _without_secrets(getattr(value, name), seen)
        for name, field in type(value).model_fields.items()
        if not (field.exclude or name in _NOT_DECISIVE or name.startswith("_"))
    }
    own = [one for one in type(value).__mro__ if not _is_library(one)]
    private = (getattr(value, "__pydantic_private__", None) or {}) if own else {}
    return {
        "type": [_name(type(value)), *(_class(one, seen) for one in own)],
        "fields": fields,
        "private": _facts(dict(private), seen),
    }


def _is_library(given: type) -> bool:
    """Return whether a class is known by its name: its code is not a user's own."""
    package = given.__module__.partition(".")[0]
    return package.startswith("langchain") or package in _LIBRARIES


def _without_secrets(value: Any, seen: Seen) -> Any:
    return None if hasattr(value, "get_secret_value") else _facts(value, seen)


def _instance(value: Any, seen: Seen) -> Any:
    """Return an object's class and fields.

    Raises:
        _UnidentifiedError: If it has private ones, or hides what it holds.
    """
    classes = [one for one in type(value).__mro__ if one is not object]
    if hasattr(type(value), "model_fields"):
        return _pydantic(value, seen)
    if not classes or not all(one.__flags__ & _HEAP_TYPE for one in classes):
        raise _UnidentifiedError
    fields = dict(getattr(value, "__dict__", {}))
    for one in classes:
        slots = one.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"} and hasattr(value, name):
                fields[name] = getattr(value, name)
    if any(name.startswith("_") for name in fields):
        raise _UnidentifiedError
    return {
        "type": [_class(one, seen) for one in classes],
        "fields": {name: _facts(one, seen) for name, one in sorted(fields.items())},
    }


def _class(given: type, seen: Seen) -> Any:
    """Return a class's name, code and plain values."""
    held = {}
    for name, one in sorted(vars(given).items()):
        if name.startswith("__") and name != "__call__":
            continue  # what sets fields up, compares or shows them
        code = getattr(one, "__func__", None) or getattr(one, "fget", None) or one
        own = (
            isinstance(code, types.FunctionType) and code.__module__ == given.__module__
        )
        if own or isinstance(code, int | float | str):
            held[name] = _facts(code, seen)
    return [_name(given), held]


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _package(function: types.FunctionType) -> str:
    return (function.__module__ or "").partition(".")[0]


_PLAIN: dict[type, Callable[[Any, Seen], Any]] = {
    **dict.fromkeys((float, complex, range, type(...)), lambda value, _: repr(value)),
    bytes: lambda value, _: hashlib.sha256(value).hexdigest(),
    **dict.fromkeys((list, tuple), _items),
    **dict.fromkeys((set, frozenset), _members),
    **dict.fromkeys((dict, types.MappingProxyType), _pairs),
}
"""How to read what is a value and nothing else."""

_READERS: tuple[tuple[type, Callable[[Any, Seen], Any]], ...] = (
    (type, lambda value, _: _name(value)),
    (types.ModuleType, lambda value, _: value.__name__),
    (Enum, lambda value, _: [_name(type(value)), value.name]),
    (PurePath, lambda value, _: ["path", str(value)]),
    (types.FunctionType, _function),
    (types.MethodType, _method),
    (functools.partial, _partial),
    (types.BuiltinFunctionType, _builtin),
)
"""How to read what has an identity of its own; anything else is an object."""
