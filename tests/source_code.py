"""The package's own source, parsed once for the tests that read it."""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ("FOLDER", "SYNTAX", "imported_modules", "listed_names")

FOLDER = Path(__file__).parent.parent / "socratic_agents"


def _module_name(path: Path) -> str:
    parts = path.relative_to(FOLDER.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


SYNTAX: dict[str, ast.Module] = {
    _module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path))
    for path in sorted(FOLDER.rglob("*.py"))
}
"""The syntax tree of every module, by the module's full name."""


def imported_modules(name: str, *, runtime: bool = False) -> set[str]:
    """Return the full names of our own modules that a module imports anywhere.

    Args:
        name: The module's full name.
        runtime: Leave out what stands under ``if TYPE_CHECKING:``.
    """
    tree = SYNTAX[name]
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if runtime and node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: expected absolute imports"
            module = node.module or ""
            names = {f"{module}.{alias.name}" for alias in node.names}
            found.update(names & SYNTAX.keys() or {module})
    return {name for name in found if name.partition(".")[0] == FOLDER.name}


def listed_names(name: str) -> tuple[str, ...] | None:
    """Return a module's ``__all__``, or None if it has none."""
    for node in SYNTAX[name].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            assert isinstance(names, tuple), f"{name}: expected a tuple"
            return names
    return None
