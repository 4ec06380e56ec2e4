"""Trials of a batch that is killed, and what must hold when it is run again."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.pocket import PocketChatModel
from socratic_agents.storage.checksum_lines import record_of
from tests.loopback import Loopback, Reply, Request, chat

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ("PROMPTS", "Bench", "Ended", "Left", "left_in", "numbered", "without_times")

PROMPTS = (
    "a crimson ball above an azure box",
    "a lemon disc",
    "a green ring left of a red cross",
    "two blue squares",
)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a trial ended."""

    code: int
    """As a shell says it: 128 and the signal where one ended it."""
    seconds: float
    """From the first line of the program to the end."""
    ended: float | None
    """Seconds from the signal to the end."""
    told: str
    """What it said to people."""
    hits: dict[str, int]
    """How often each point was reached, if it came to its end."""
    beside: int = 0
    """How the other one ended that was started at the same time."""


@dataclass(frozen=True)
class Left:
    """What lies in a run directory."""

    results: list[dict[str, Any]]
    objects: dict[str, str]
    """The hash of each image's bytes."""
    steps: Counter[str]
    """How many lines of the journal each finished step has, without the results."""
    asked: int
    """Steps of the language model."""
    torn: int
    """Lines of the journal that are not as they were written."""
    parts: int
    """Files that were never finished."""


class Brain:
    """The pocket world's language model behind a server's protocol."""

    def __init__(self) -> None:
        self._llm = PocketChatModel()

    def __call__(self, request: Request) -> Reply:
        if "messages" not in request.body:
            return chat("")
        text = "\n".join(message["content"] for message in request.body["messages"])
        schema = request.body["response_format"]["json_schema"]
        tool = {"name": schema["name"], "parameters": schema["schema"]}
        message = self._llm._answer(text, [tool])
        return chat(json.dumps(message.tool_calls[0]["args"]))


class Bench:
    """A warm process that runs batches, and the language model that they ask.

    Args:
        folder: For all that is needed beside the run directories.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = Loopback(Brain())

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._prompts = self.folder / "prompts.txt"
        self._prompts.write_text("\n".join(PROMPTS) + "\n")
        self._server.__enter__()
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SOCRATIC_", "OPENAI_"))
        }
        environment |= {
            "OMP_NUM_THREADS": "1",
            "SOCRATIC_BASE_URL": self._server.base_url,
            "SOCRATIC_CACHE": str(self.folder / "cache"),
        }
        self.environment = environment
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.runner"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()
        self._server.__exit__()

    def arguments(self, out: Path) -> list[str]:
        """Return the command of a batch."""
        return [
            *("batch", str(self._prompts), "--out", str(out), "--rounds", "3"),
            *("--llm", "openai:loopback"),
        ]

    def run(self, out: Path, /, **trial: Any) -> Ended:
        """Run a batch in a child of the warm process; see ``runner.py`` for trials."""
        files = {name: str(self.folder / name) for name in ("out", "err", "facts")}
        Path(files["facts"]).unlink(missing_ok=True)
        arguments = [*self.arguments(out), *trial.pop("more", [])]
        asked = {"arguments": arguments, **files, **trial}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(asked)}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the warm process ended with {self._process.wait()}"
        ended = json.loads(line)
        facts = Path(files["facts"])
        return Ended(
            **ended,
            told=Path(files["err"]).read_text(),
            hits=json.loads(facts.read_text())["hits"] if facts.exists() else {},
        )

    def both(self, out: Path) -> list[Ended]:
        """Start two batches in one folder at the same time."""
        files = {
            name: str(self.folder / f"{name}2") for name in ("out", "err", "facts")
        }
        ended = self.run(out, beside=files, held=str(self.folder / "held"))
        told = Path(files["err"]).read_text()
        return [ended, replace(ended, code=ended.beside, told=told)]

    def requests(self) -> Counter[str]:
        """Return how often each question came over the wire until now."""
        # A server takes connections in turn: when it answers this one, it has taken
        # those of a process that died before.
        body = json.dumps({"last": True}).encode()
        asked = urllib.request.Request(f"{self._server.base_url}/x", data=body)  # noqa: S310 - our own server
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310 - our own server
            answer.read()
        bodies = [request.body for request in self._server.requests]
        return Counter(json.dumps(body) for body in bodies if "messages" in body)

    def forget(self) -> None:
        """Let the next question be the first."""
        self._server.requests.clear()


def numbered(full: int, *, smoke: int) -> list[Any]:
    """Return the numbers of trials; most of them are run at night alone."""
    marks = [pytest.mark.nightly]
    return [*range(smoke), *(pytest.param(n, marks=marks) for n in range(smoke, full))]


def left_in(folder: Path) -> Left:
    """Return what lies in a run directory."""
    results, journal = folder / "results.jsonl", folder / "journal.jsonl"
    text = results.read_text() if results.exists() else ""
    lines = journal.read_bytes() if journal.exists() else b""
    records = [record_of(line) for line in lines.splitlines(keepends=True)]
    steps = [record for record in records if record and "key" in record]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Left(
        results=[
            json.loads(line)
            for line in text.splitlines(keepends=True)
            if line[-1:] == "\n"
        ],
        objects={
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.suffix == ".png"
        },
        steps=Counter(
            step["key"] for step in steps if step["kind"] not in {"opened", "result"}
        ),
        asked=sum(step["kind"] == "llm" for step in steps),
        torn=records.count(None),
        parts=sum(path.suffix == ".part" for path in files),
    )


def without_times(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return results in the order of their prompts, without what a clock says."""
    found = json.loads(json.dumps(sorted(results, key=lambda one: one["index"])))
    for result in found:
        result["usage"].pop("seconds")
    return list(found)
