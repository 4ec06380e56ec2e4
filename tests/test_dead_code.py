"""Everything that the package defines is used by the package itself, not by tests alone.

A use is an import of the name, a mention of it in its own module, or an attribute of
that name anywhere; a function's own body does not count. A decorator that registers
what it decorates (a command, a validator) is a use as well, and so is a class from
elsewhere whose method is overridden.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tests.source_code import FOLDER, SYNTAX, listed_names

if TYPE_CHECKING:
    from collections.abc import Iterator

ALLOWED = {
    "app.main": "the console script of pyproject.toml",
    "Refinement._repr_html_": "notebooks call it",
    "distribution.evaluate_set": "public: docs/metrics.md shows it",
    "html.report_html": "the page as one text, for programs that have outcomes in memory",
    "_Handler.do_GET": "http.server calls it",
    "_Handler.do_POST": "http.server calls it",
    "_Adapter.evaluate": "gepa calls it",
    "_Adapter.make_reflective_dataset": "gepa calls it",
}
"""``module.name`` or ``Class.name``, and who uses it."""

PLAIN_DECORATORS = {
    *("abstractmethod", "asynccontextmanager", "cache", "cached_property"),
    *("classmethod", "contextmanager", "dataclass", "final", "lru_cache", "overload"),
    *("override", "property", "runtime_checkable", "setter", "staticmethod"),
}
"""They leave a function where it is; every other decorator puts it to use."""

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Definition:
    """What a module or one of its classes defines."""

    module: str
    owner: str
    """The class, or "" for the module itself."""
    name: str
    node: ast.stmt

    def __str__(self) -> str:
        parts = (*self.module.split(".")[1:], self.owner, self.name)
        return ".".join(filter(None, parts))


def _finds_methods_by_name(owner: ast.ClassDef) -> bool:
    """Whether a class looks up its own methods by names that it puts together."""
    return any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "getattr"
        and isinstance(node.args[1], ast.JoinedStr)
        for node in ast.walk(owner)
    )


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _definitions() -> Iterator[Definition]:
    for module, tree in SYNTAX.items():
        for node in tree.body:
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                yield Definition(module, "", node.name, node)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                for target in _targets(node):
                    if isinstance(target, ast.Name):
                        yield Definition(module, "", target.id, node)
        owners = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        yield from (
            Definition(module, owner.name, node.name, node)
            for owner in owners
            if not _finds_methods_by_name(owner)
            for node in owner.body
            if isinstance(node, FUNCTIONS)
        )


def _is_registered(node: ast.stmt) -> bool:
    """Whether a decorator hands the function or class to somebody."""
    decorators = getattr(node, "decorator_list", [])
    called = [d.func if isinstance(d, ast.Call) else d for d in decorators]
    names = [d.attr if isinstance(d, ast.Attribute) else ast.unparse(d) for d in called]
    return not PLAIN_DECORATORS.issuperset(names)


def _names_read(node: ast.AST) -> Counter[str]:
    return Counter(
        inner.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)
    )


def _attributes(node: ast.AST) -> Counter[str]:
    """Count the attributes that are read, and words that ``getattr`` may be given."""
    found = Counter(
        inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)
    )
    found.update(
        inner.value
        for inner in ast.walk(node)
        if isinstance(inner, ast.Constant)
        and isinstance(inner.value, str)
        and inner.value.isidentifier()
    )
    return found


@cache
def _imported_names() -> set[tuple[str, str]]:
    """Return (module, name) of every name that another module takes from a module."""
    found: set[tuple[str, str]] = set()
    passed_on: defaultdict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for module, tree in SYNTAX.items():
        # What a package's own file imports is passed on, and not yet used.
        is_package = any(other.startswith(f"{module}.") for other in SYNTAX)
        aliases = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    source = (node.module or "", alias.name)
                    if ".".join(source) in SYNTAX:
                        aliases[alias.asname or alias.name] = ".".join(source)
                    elif is_package:
                        passed_on[module, alias.name].add(source)
                    else:
                        found.add(source)
        found.update(
            (aliases[node.value.id], node.attr)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in aliases
        )
        if is_package:
            read = _names_read(tree)
            found.update(
                source
                for (owner, name), sources in passed_on.items()
                if owner == module and name in read
                for source in sources
            )
    for use in [*found]:
        found |= passed_on.get(use, set())
    return found


def _unused() -> Iterator[str]:
    read = {module: _names_read(tree) for module, tree in SYNTAX.items()}
    attributes: Counter[str] = Counter()
    for tree in SYNTAX.values():
        attributes += _attributes(tree)
    for module in SYNTAX:
        attributes -= Counter(listed_names(module) or ())
    public = {*(listed_names(FOLDER.name) or ())}
    assets = [p for p in FOLDER.rglob("assets/*") if p.suffix != ".png" and p.is_file()]
    in_templates = set(
        re.findall(r"\w+", " ".join(p.read_text("utf-8") for p in assets))
    )
    for one in _definitions():
        if one.name.startswith("__") or _is_registered(one.node):
            continue
        if one.owner:
            elsewhere = attributes[one.name] - _attributes(one.node)[one.name]
            used = elsewhere > 0 or one.name in in_templates
        else:
            inside = _names_read(one.node)[one.name]
            used = (
                read[one.module][one.name] > inside
                or (one.module, one.name) in _imported_names()
                or one.name in public
            )
        if not used and not (one.owner and _overrides(one)):
            yield str(one)


def _overrides(one: Definition) -> bool:
    """Whether a method stands in for one of a class from elsewhere, which calls it."""
    owner = getattr(importlib.import_module(one.module), one.owner, None)
    return any(
        hasattr(base, one.name)
        for base in getattr(owner, "__mro__", ())
        if not base.__module__.startswith(FOLDER.name)
    )


def _short(name: str) -> str:
    return ".".join(name.split(".")[-2:])


def test_everything_is_used() -> None:
    """What nothing uses is removed, or its reason to be there is written down."""
    unused = {name: _short(name) for name in _unused()}
    assert [] == [name for name, short in unused.items() if short not in ALLOWED], (
        "expected these to be used by the package, or to be in ALLOWED with a reason"
    )
    assert set() == ALLOWED.keys() - {*unused.values()}, "these need no reason any more"
