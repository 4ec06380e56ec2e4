"""Whether the tests bite: small changes of the code, and how many of them are noticed.

``python -m tests.faults.mutants [--sample N] [MODULE ...]`` changes a module in one
place, runs its tests, and goes on to the next place. A change that no test notices
survives and is printed. Each change is tried in a fork of one process, in which all that
is not ours is imported already.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

ROOT = Path(__file__).parents[2]
BELIEF = "tests/faults/test_belief.py"
TESTS = {
    "socratic_agents.llm.failures": ["tests/test_retries.py"],
    "socratic_agents.storage.checksum_lines": ["tests/test_journal.py", BELIEF],
    "socratic_agents.storage.journal": [
        "tests/test_journal.py",
        "tests/test_run_directory.py",
        BELIEF,
    ],
    "socratic_agents.storage.files": [BELIEF],
    "socratic_agents.storage.objects": [
        "tests/test_run_directory.py",
        "tests/test_journal.py",
        BELIEF,
    ],
    "socratic_agents.storage.results": ["tests/test_run_directory.py", BELIEF],
    "socratic_agents.storage.run_directory": ["tests/test_run_directory.py", BELIEF],
    "socratic_agents.core.history": ["tests/test_history.py"],
    "socratic_agents.core.outcome": ["tests/test_history.py"],
}
UNREWRITTEN = "ignore::pytest.PytestAssertRewriteWarning"
TIME_LIMIT = 60.0
"""Seconds after which a change has made the tests hang, and is noticed."""
FLIPS: dict[type[Any], type[Any]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    line: int
    change: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Yield all changes of a module that this file knows to make."""
    tree = ast.parse(source)
    for number, node in enumerate(ast.walk(tree)):
        for turn in range(8):
            changed = copy.deepcopy(tree)
            twin = next(n for k, n in enumerate(ast.walk(changed)) if k == number)
            change = _changed(twin, turn)
            if change is None:
                break
            if change:
                line = getattr(node, "lineno", 0)
                yield Mutant(line, change, ast.fix_missing_locations(changed))


def _changed(node: Any, turn: int) -> str | None:  # noqa: C901, PLR0911 - a case each
    """Change a node in its nth way; return what was done, or ``None`` after the last."""
    if isinstance(node, ast.Compare):
        if turn < len(node.ops):
            new = FLIPS[type(node.ops[turn])]
            was, node.ops[turn] = type(node.ops[turn]).__name__, new()
            return f"{was} -> {new.__name__}"
    elif turn == 0 and isinstance(node, ast.BoolOp | ast.BinOp):
        if type(node.op) in FLIPS:
            was, node.op = type(node.op).__name__, FLIPS[type(node.op)]()
            return f"{was} -> {type(node.op).__name__}"
    elif turn == 0 and isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            node.value = not node.value
            return f"-> {node.value}"
        if isinstance(node.value, int):
            node.value += 1
            return f"-> {node.value}"
    elif turn == 0 and isinstance(node, ast.IfExp | ast.If | ast.While):
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return None  # it is false whenever anything runs
        node.test = ast.UnaryOp(ast.Not(), node.test)
        return f"not ({ast.unparse(node.test.operand)})"
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.With | ast.Try):
        plain = (ast.Expr, ast.Raise, ast.AugAssign)
        told = [
            number
            for number, one in enumerate(node.body)
            if isinstance(one, plain) and not _says_nothing(one)
        ]
        if turn < len(told):
            gone = node.body[told[turn]]
            node.body[told[turn]] = ast.Pass()
            return f"without {ast.unparse(gone).splitlines()[0]}"
    return None


def _says_nothing(statement: ast.stmt) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a changed module to whoever imports it."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(self, name: str, *_: object) -> Any:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, str(self._path), "exec"), vars(module))  # noqa: S102 - our own code


def notices(name: str, path: Path, mutant: Mutant) -> bool:
    """Run the tests of a module with one change, and return whether one fails."""
    child = os.fork()
    if not child:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        sys.meta_path.insert(0, _Changed(name, path, mutant.tree))
        options = ["-x", "-q", "-p", "no:cacheprovider", "--no-cov"]
        marks = ["-m", "not slow and not nightly", "-W", UNREWRITTEN]
        os._exit(int(pytest.main([*options, *marks, *TESTS[name]])) != 0)
    end = time.monotonic() + TIME_LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    """Try the changes, and print what survives and the share that does not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=[*TESTS])
    parser.add_argument("--sample", type=int, help="So many of a module, by chance.")
    given = parser.parse_args(arguments)
    os.chdir(ROOT)
    # Only what is not ours: a module that is imported cannot be changed any more.
    for library in ("hypothesis", "langchain_openai", "PIL.PngImagePlugin", "filelock"):
        importlib.import_module(library)
    for name in given.modules:
        path = ROOT / f"{name.replace('.', '/')}.py"
        every = list(mutants(path.read_text(encoding="utf-8")))
        if given.sample and given.sample < len(every):
            every = random.Random(0).sample(every, given.sample)
        whole = Mutant(0, "nothing", ast.parse(path.read_text(encoding="utf-8")))
        assert not notices(name, path, whole), "the tests fail without a change"
        noticed = 0
        for mutant in every:
            if notices(name, path, mutant):
                noticed += 1
            else:
                print(f"  survives: {path.name}:{mutant.line} {mutant.change}")  # noqa: T201 - it reports to whoever runs it
        share = noticed / len(every)
        print(f"{name}: {noticed} of {len(every)} noticed ({share:.0%})", flush=True)  # noqa: T201 - it reports to whoever runs it


if __name__ == "__main__":
    main()
