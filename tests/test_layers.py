"""The house stands: imports run downward only, and nothing heavy is loaded early."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "socratic_agents"
HEAVY = ("torch", "diffusers", "transformers", "open_clip", "langchain_openai", "ray")

LAYERS: dict[str, int] = {
    "errors": 0,
    "pictures": 0,
    "faults": 0,
    "views": 0,
    "bridge": 1,
    "budget": 1,
    "checklist": 1,
    "chunks": 1,
    "options": 1,
    "profiles": 1,
    "prompt": 1,
    "report": 1,
    "curve": 1,
    "gathering": 1,
    "jobs": 1,
    "line": 1,
    "answered": 1,
    "appender": 1,
    "objects": 1,
    "records": 1,
    "stage": 1,
    "tally": 1,
    "thinking": 1,
    "workers": 1,
    "calibration": 2,
    "calls": 2,
    "dispatch": 2,
    "provenance": 2,
    "history": 2,
    "journal": 2,
    "settings": 3,
    "scheduler": 3,
    "browser_row": 3,
    "results": 3,
    "store": 4,
    "chains": 3,
    "models": 3,
    "batching": 4,
    "browser": 4,
    "callables": 4,
    "pocket": 4,
    "replica": 4,
    "loop": 5,
    "process_child": 1,
    "process_cluster": 5,
    "ray_cluster": 5,
    "replicas": 5,
    "roles": 5,
    "tools": 5,
    "doctor": 6,
    "forecast": 6,
    "ray_voices": 7,
    "parts": 8,
    "steps": 5,
    "devices": 7,
    "runs": 6,
    "generators": 5,
    "voices": 6,
    "progress": 6,
    "receipt": 6,
    "refiner": 9,
    "cli": 12,
    "lab": 10,
    "interruption": 1,
    "replay": 10,
    "refine_commands": 11,
    "replay_command": 11,
    "show_command": 10,
}
"""How high each part stands; a part imports only what stands lower, or itself."""

LOOP_NEEDS = {"checklist", "errors", "history", "loop"}
"""All that the loop may know."""


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _part(module: str) -> str:
    """Return the part of the house that a module's full name belongs to."""
    return [*module.split("."), ""][1]


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _imports(path: Path) -> set[str]:
    """Return the full names of our own modules that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: expected absolute imports"
            module = node.module or ""
            if module == "socratic_agents":
                found.update(f"{module}.{alias.name}" for alias in node.names)
            else:
                found.add(module)
    return {name for name in found if name.startswith("socratic_agents.")}


def _typing_only(path: Path) -> set[str]:
    """Return our modules that a file imports only for type annotations."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for inner in node.body:
                if isinstance(inner, ast.ImportFrom) and inner.module:
                    found.add(inner.module)
    return found


@pytest.mark.parametrize("path", _sources(), ids=_name)
def test_imports_run_downward(path: Path) -> None:
    """No module imports from a layer above its own, nor from its own layer."""
    part = _part(_name(path))
    if part == "":  # the package's front door names everything
        return
    assert part in LAYERS, f"give {part!r} a place in LAYERS"
    for module in _imports(path) - _typing_only(path):
        other = _part(module)
        if other not in LAYERS:  # a public name through the front door
            pytest.fail(f"{_name(path)} imports {module}, expected its own module")
        downward = LAYERS[other] < LAYERS[part]
        assert downward or other == part, (
            f"{_name(path)} (layer {LAYERS[part]}) imports {module} "
            f"(layer {LAYERS[other]}); expected imports to run downward"
        )


def test_the_loop_knows_only_values_and_errors() -> None:
    """loop.py can be read alone: it imports the values and the errors."""
    parts = {_part(module) for module in _imports(PACKAGE / "loop.py")}
    assert parts <= LOOP_NEEDS


def _loaded_by(code: str) -> set[str]:
    """Return the top-level names in ``sys.modules`` after running the code."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(run.stdout.splitlines()[-1].split())


HELP = """
import contextlib, io
from socratic_agents.cli import main
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
    command = [sys.executable, "-c", "from socratic_agents.cli import main; main()"]
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


@pytest.mark.parametrize("path", _sources(), ids=_name)
def test_all_is_sorted(path: Path) -> None:
    """Every ``__all__`` is a sorted tuple of public names."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            assert isinstance(names, tuple)
            assert sorted(names, key=_rank) == list(names)
            assert not [n for n in names if n.startswith("_") and n != "__version__"]


def _defined(tree: ast.Module) -> set[str]:
    """Return the public functions and classes that a module defines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {node.name for node in tree.body if isinstance(node, kinds)}
    return {name for name in defined if not name.startswith("_")}


@pytest.mark.parametrize(
    "path",
    [path for path in _sources() if not path.name.startswith("__")],
    ids=_name,
)
def test_all_is_what_the_module_defines(path: Path) -> None:
    """``__all__`` names every public function and class of its module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    listed = [
        set(ast.literal_eval(node.value))
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    if listed:
        assert set() == _defined(tree) - listed[0]


def test_the_front_door_keeps_its_word() -> None:
    """Every name in the package's ``__all__`` can be imported from it."""
    package = importlib.import_module("socratic_agents")
    names = package.__all__
    assert sorted(names, key=_rank) == list(names)
    assert [] == [name for name in names if not hasattr(package, name)]
