"""The house stands: imports run downward only, and nothing heavy is loaded early."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.source_code import FOLDER, SYNTAX, imported_modules, listed_names

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAVY = ("torch", "diffusers", "transformers", "open_clip", "langchain_openai", "ray")

RANKS: dict[str, int] = {
    "core": 0,
    "config": 1,
    "network": 2,
    "scheduler": 2,
    "storage": 2,
    "llm": 3,
    "models": 3,
    "report": 3,
    "pocket": 4,
    "agents": 5,
    "runtime": 6,
    "lab": 7,
    "cli": 8,
}
"""How high each package stands; a module imports only lower packages, or its own."""

UPWARD = {("socratic_agents.core.outcome", "socratic_agents.report.html")}
"""Imports that run upward all the same: a refinement shows itself in a notebook."""

LOOP_NEEDS = {"checklist", "concurrency", "errors", "history", "outage", "outcome"}
LOOP_NEEDS |= {"search", "spread"}
"""All of the package ``core`` that the loop may know; of other packages, nothing."""

MOST_MODULES = 20
"""In one folder: more do not fit into one idea."""
MOST_LINES = 400
"""In one module, documentation included."""


def _package(module: str) -> str:
    """Return the package below ours that a module's full name belongs to."""
    return [*module.split("."), ""][1]


def test_the_package_holds_ranked_packages_and_nothing_else() -> None:
    """Beside the packages with a rank there is the front door and the typing mark."""
    entries = {path.name for path in FOLDER.iterdir()} - {"__pycache__"}
    assert entries == {*RANKS, "__init__.py", "py.typed"}


def _import_problems(name: str) -> Iterator[str]:
    """Say of each import of a module why it should not be there."""
    package = _package(name)
    if package == "":  # the package's front door names everything
        return
    for module in imported_modules(name, runtime=True):
        other = _package(module)
        if module not in SYNTAX:
            yield f"{name} imports {module}, which is no module of ours"
        elif not other:
            yield f"{name} imports the front door, not the name's own module"
        elif (
            other != package
            and RANKS[other] >= RANKS[package]
            and (name, module) not in UPWARD
        ):
            yield (
                f"{name} (rank {RANKS[package]}) imports {module} (rank {RANKS[other]})"
            )


def test_imports_run_to_a_lower_rank() -> None:
    """A module imports its own package or one of lower rank; equals are strangers."""
    assert [] == [problem for name in SYNTAX for problem in _import_problems(name)]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Following imports, lazy ones included, never leads back to where one began."""
    rest = {
        name: {
            other
            for other in imported_modules(name, runtime=True)
            if (name, other) not in UPWARD and other != name
        }
        for name in SYNTAX
    }
    # Take away what imports nothing that is left; a circle can never be taken away.
    while free := {name for name, needs in rest.items() if not needs & rest.keys()}:
        rest = {name: needs for name, needs in rest.items() if name not in free}
    assert [] == sorted(rest), "these, or what they import, stand in a circle"


def test_folders_hold_few_modules_of_a_readable_size() -> None:
    """No folder has more modules, and no module more lines, than can be overseen."""
    modules = [path for path in FOLDER.rglob("*.py") if path.name != "__init__.py"]
    folders = Counter(path.parent for path in modules)
    assert {} == {path: n for path, n in folders.items() if n > MOST_MODULES}
    sizes = {path: len(path.read_text("utf-8").splitlines()) for path in modules}
    assert {} == {path: lines for path, lines in sizes.items() if lines > MOST_LINES}


def test_the_loop_knows_only_values_and_errors() -> None:
    """The loop can be read alone: it imports values, errors and how to run together."""
    core = "socratic_agents.core"
    allowed = {f"{core}.{name}" for name in LOOP_NEEDS}
    assert imported_modules(f"{core}.loop") <= allowed


def _loaded_by(code: str) -> set[str]:
    """Return the top-level names in ``sys.modules`` after running the code."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(run.stdout.splitlines()[-1].split())


HELP = """
import contextlib, io
from socratic_agents.cli.app import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["--help"])
"""


@pytest.mark.parametrize(
    "code", ["import socratic_agents", HELP], ids=["import", "help"]
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    """Importing the package and asking for help load no model library."""
    assert set() == _loaded_by(code).intersection(HEAVY)


def test_help_is_quick() -> None:
    """``socratic --help`` answers in half a second; the best of several runs counts.

    A busy machine only ever makes a run slower, so the best is what the program
    needs; processor time is what is left when neighbours take turns with us.
    """
    command = [sys.executable, "-c", "from socratic_agents.cli.app import main; main()"]
    best = float("inf")
    for _ in range(5):
        before, start = os.times(), time.perf_counter()
        subprocess.run([*command, "--help"], capture_output=True, check=True)
        wall, after = time.perf_counter() - start, os.times()
        spent = (after.children_user + after.children_system) - (
            before.children_user + before.children_system
        )
        best = min(best, wall, spent)
        if best < 0.5:
            return
    pytest.fail(f"expected help within 0.5 s, got {best:.2f} s at best")


def _rank(name: str) -> tuple[int, str]:
    """Constants come first, then classes, then functions: as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _defined(tree: ast.Module) -> set[str]:
    """Return the public functions and classes that a module defines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {node.name for node in tree.body if isinstance(node, kinds)}
    return {name for name in defined if not name.startswith("_")}


def _listing_problems(name: str, tree: ast.Module) -> Iterator[str]:
    """Say what is wrong with a module's ``__all__``, if it has one."""
    listed = listed_names(name)
    if listed is None:
        return
    if sorted(listed, key=_rank) != list(listed):
        yield f"{name}: not sorted"
    yield from (
        f"{name}: {one} is private"
        for one in listed
        if one.startswith("_") and one != "__version__"
    )
    if not name.endswith(".__main__"):
        missing = _defined(tree).difference(listed)
        yield from (f"{name}: {one} is missing" for one in sorted(missing))


def test_all_names_what_a_module_defines() -> None:
    """``__all__`` is a sorted tuple of every public function and class of a module."""
    problems = [
        p for name, tree in SYNTAX.items() for p in _listing_problems(name, tree)
    ]
    assert [] == problems


def test_every_waiver_says_why() -> None:
    """A rule is waived (``noqa``) with a reason after the dash, or not at all."""
    root = FOLDER.parent
    folders = (FOLDER, root / "tests", root / "docs", root / "examples")
    bare = re.compile(r"# noqa(?!: [A-Z]+\d+(, [A-Z]+\d+)* - \S)")
    assert [] == [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if bare.search(line) and path != Path(__file__)
    ]


def test_the_front_door_keeps_its_word() -> None:
    """Every name in the package's ``__all__`` can be imported from it."""
    package = importlib.import_module("socratic_agents")
    names = package.__all__
    assert sorted(names, key=_rank) == list(names)
    assert [] == [name for name in names if not hasattr(package, name)]
