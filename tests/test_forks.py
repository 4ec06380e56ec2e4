"""Forks: what was opened before one says so in the child, and never waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from socratic_agents import Refiner
from socratic_agents.core.errors import ClosedError
from socratic_agents.runtime.build import open_run_directory

ROOT = Path(__file__).parents[1]

PARENT = """
import asyncio, os, signal, sys, warnings
from pathlib import Path

warnings.simplefilter("ignore")  # of newer Pythons, that threads and forks go ill together
from socratic_agents import Refiner
from socratic_agents.core.errors import ClosedError
from socratic_agents.runtime.build import open_run_directory
from tests.test_forks import objects

how, folder = sys.argv[1], Path(sys.argv[2])
refiner = Refiner(**objects())
run = open_run_directory(folder, refiner.settings).__enter__()
if how != "unopened":
    refiner.remember(run)
    first = refiner.invoke("a cat")
child = os.fork()
if child:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how != "unopened":
        assert refiner.invoke("a dog").best is not None  # the parent's is as it was
    refiner.close()
    sys.exit(code)
signal.alarm(30)  # a child that waits ends with it, and not with 0
try:
    if how == "refine":
        asyncio.run(refiner.refine("a dog"))
    elif how == "close":
        refiner.close()
        sys.exit(0)
    elif how == "save":
        run.save(first)
    else:
        refiner.invoke("a dog")
except ClosedError as error:
    assert "got a fork of that" in str(error), error
    sys.exit(3)
sys.exit(0)
"""


def objects() -> dict[str, Any]:
    """Return settings whose agents are functions."""
    from PIL import Image

    async def generate(prompt: str, seed: int) -> Image.Image:
        return Image.new("RGB", (8, 8), (len(prompt) % 256, seed % 256, 90))

    async def caption(_image: object) -> str:
        return "an image"

    async def score(_prompt: str, _image: object) -> float:
        return 0.5

    return {
        "generator": generate,
        "captioner": caption,
        "scorer": score,
        "judge": "never",
        "selector": "clip",
        "guard": None,
        "rounds": 1,
    }


@pytest.mark.parametrize(
    ("how", "code"),
    [("refine", 3), ("invoke", 3), ("save", 3), ("close", 0), ("unopened", 0)],
)
def test_a_child_is_told_at_once(how: str, code: int, tmp_path: Path) -> None:
    """An opened refiner or run is refused there; an unopened one opens there."""
    done = subprocess.run(
        [sys.executable, "-c", PARENT, how, str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (code, "") == (done.returncode, done.stderr)


def test_a_fork_has_nothing_to_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the number of its process, and what the first one opened stays open."""
    refiner = Refiner(**objects())
    with (
        open_run_directory(tmp_path / "run", refiner.settings) as run,
        closing(refiner),
    ):
        refiner.remember(run)
        saved = run.save(refiner.invoke("a cat"))
        with monkeypatch.context() as fork:
            fork.setattr(os, "getpid", lambda: -1)
            with pytest.raises(ClosedError, match="expected a refiner in the process"):
                refiner.invoke("a dog")
            with pytest.raises(ClosedError, match="expected a run directory in the"):
                run.save(saved)
            with pytest.raises(ClosedError, match="expected a journal in the process"):
                run.journal.put("llm", "00", {})
            refiner.close()
            run.__exit__()
        assert refiner.invoke("a dog").best.image is not None
        assert run.finished(0, "a cat") is not None
