"""A key goes to its server and nowhere else: 15 faults in 6 encodings, 90 scans.

The server repeats the key in whatever it says. For each of its faults, everything that
a run leaves behind is looked through: the logs of all libraries at their most talkative,
errors with all that led to them, results, journal, images, the report, both outputs.
"""

from __future__ import annotations

import asyncio
import base64
import html
import io
import json
import logging
import traceback
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image
from pydantic import SecretStr

from socratic_agents.agents.judges import Judgement
from socratic_agents.cli.app import main
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import AgentError, CandidateError
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.models.images_api import ImagesAPI
from socratic_agents.runtime.language_model import open_language_model
from socratic_agents.runtime.refiner import Refiner
from tests.fakes import ask_structured
from tests.loopback import NO_CHOICES, RESET, STALL, Loopback, Reply, error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = 'sk-sentinel/"+=&<0123456789>'
"""Each way to write it down is another text."""
ECHO = f"the key {KEY} in 'Bearer {KEY}' is not good"
TALKATIVE = (
    "openai",
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "langchain",
    "asyncio",
)


def body(text: str, kind: str = "text/html") -> Reply:
    return Reply(text, content_type=kind)


FAULTS = {
    "400": error(400, message=ECHO),
    "401": error(401, "invalid_api_key", message=ECHO),
    "403": error(403, message=ECHO),
    "404": error(404, message=ECHO),
    "408": error(408, message=ECHO),
    "409": error(409, message=ECHO),
    "429": error(429, message=ECHO, retry_after="1"),
    "quota": error(429, "insufficient_quota", message=ECHO),
    "500": error(500, message=ECHO),
    "503": error(503, message=ECHO),
    "page": body(f"<html><body>{html.escape(ECHO)} {ECHO}</body></html>"),
    "no choices": NO_CHOICES,
    "error object": body(
        json.dumps({"error": {"message": ECHO, "code": 502}}), "application/json"
    ),
    "reset": RESET,
    "stall": STALL,
}


def _shifted(text: str) -> set[str]:
    """Return what surely stands in base64 of anything that holds a text."""
    found = set()
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + text.encode()).decode()
        found.add(whole[4 if before else 0 : -4])
    return found


ENCODINGS: dict[str, set[str]] = {
    "plain": {KEY, KEY[:20], KEY[-12:]},
    "json": {json.dumps(KEY)[1:-1], json.dumps(json.dumps(KEY))[3:-3]},
    "html": {html.escape(KEY), html.escape(KEY, quote=False)},
    "url": {quote(KEY), quote(KEY, safe="")},
    "base64": _shifted(KEY)
    | {each.replace("+", "-").replace("/", "_") for each in _shifted(KEY)},
    "hex": {KEY.encode().hex(), KEY.encode().hex().upper()},
}
"""How somebody might write a key down without seeing that it is one."""


@dataclass(frozen=True)
class Left:
    """What a run leaves behind, by where it lies."""

    texts: dict[str, str]

    def hits(self, encoding: str) -> list[str]:
        """Return where the key stands."""
        return [
            place
            for place, text in self.texts.items()
            if any(form in text for form in ENCODINGS[encoding])
        ]


@contextmanager
def talking() -> Iterator[io.StringIO]:
    """Let all libraries log whatever they can, tracebacks included."""
    told, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(told)
    loggers = [root, *map(logging.getLogger, TALKATIVE)]
    before = [logger.level for logger in loggers]
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield told
    finally:
        root.removeHandler(handler)
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def whole_story(problem: BaseException) -> str:
    """Return an error and all that led to it, hidden or not."""
    told, left, seen = [], [problem], set()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        told += [str(one), repr(one), repr(one.args), *traceback.format_exception(one)]
        told += [str(getattr(one, "raw", "")), *getattr(one, "__notes__", [])]
        left += [each for each in (one.__cause__, one.__context__) if each is not None]
    return "\n".join(told)


async def generate(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (200, 30, 30))


async def caption(image: Image.Image) -> str:
    return "a red square"


def opened(settings: Settings) -> Refiner:
    return Refiner(settings.but(generator=generate, captioner=caption, scorer=None))


async def nowait(seconds: float) -> None:
    """Let no time pass."""


def errors_of(settings: Settings, url: str) -> dict[str, str]:
    """Return the errors of those who use the parts by themselves."""
    llm, retries = open_language_model(settings), RetryPolicy(attempts=2, sleep=nowait)

    async def asked() -> BaseException:
        with pytest.raises(AgentError) as problem:
            await ask_structured(llm, [HumanMessage("?")], Judgement, retries=retries)
        return problem.value

    async def drawn() -> BaseException:
        server = ImagesAPI(
            url, api_key=SecretStr(KEY), timeout=0.2, attempts=2, sleep=nowait
        )
        with pytest.raises(CandidateError) as problem:
            await server.generate("a cat", 1)
        return problem.value

    return {
        "the chat's error": whole_story(asyncio.run(asked())),
        "the images' error": whole_story(asyncio.run(drawn())),
        "settings": f"{settings!r} {settings} {settings.public()} {settings.model_dump_json()}",
        "language model": f"{llm!r} {llm} {llm.to_json()}",
    }


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Left]:
    """Return what a run against a fault leaves, run once for all encodings."""
    known: dict[str, Left] = {}

    def of(fault: str) -> Left:
        if fault not in known:
            known[fault] = run(FAULTS[fault], tmp_path_factory.mktemp("secrets"))
        return known[fault]

    return of


def run(fault: Reply, folder: Path) -> Left:
    (folder / "prompts.txt").write_text("a cat\na dog\n")
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        talking() as logs,
        Loopback(fault) as server,
    ):
        patch.chdir(folder)
        values: dict[str, Any] = {
            "api_key": KEY,
            "base_url": server.base_url,
            "llm": "openai:some-model",
            "timeout": "0.2",
        }
        for name, value in values.items():
            patch.setenv(f"SOCRATIC_{name.upper()}", value)
        command = ["batch", "prompts.txt", "--out", "run", "--json", "--rounds", "2"]
        command += ["--judge", "caption", "--selector", "caption", "--guard", "none"]
        command += ["--scorer", "none", "--budget", "seconds=0.5"]
        with redirect_stdout(out), redirect_stderr(err):
            code = main(command, open_refiner=opened)
            assert 0 == main(["report", "run"])
        texts = errors_of(Settings(**command_settings()), server.base_url)
        assert f"Bearer {KEY}" == server.requests[0].headers["authorization"]
    assert code in {0, 1}
    texts |= {
        "logs": logs.getvalue(),
        "stdout": out.getvalue(),
        "stderr": err.getvalue(),
    }
    for path in sorted((folder / "run").rglob("*")):
        if path.is_file():
            texts[str(path.relative_to(folder))] = path.read_bytes().decode("latin-1")
    return Left(texts)


def command_settings() -> dict[str, Any]:
    return {"judge": "never", "selector": "first", "guard": None, "scorer": None}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_key_is_nowhere(
    fault: str, encoding: str, left: Callable[[str], Left]
) -> None:
    """Whatever goes wrong, what is left behind does not hold the key."""
    assert [] == left(fault).hits(encoding)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_looked_through_is_all_there(
    fault: str, left: Callable[[str], Left]
) -> None:
    """Logs, errors, results, journal, images and the report were there to look at."""
    texts = left(fault).texts
    assert len(texts["logs"]) > 1_000
    assert "a cat" in texts["stdout"]
    assert texts["stderr"]
    assert "Traceback" in texts["the chat's error"]
    assert "Traceback" in texts["the images' error"]
    expected = {"config.json", "journal.jsonl", "results.jsonl", "report.html"}
    assert {f"run/{name}" for name in expected} <= texts.keys()
    assert [place for place in texts if place.endswith(".png")]


def test_a_scan_finds_a_key() -> None:
    """Each encoding is found where it stands in the middle of something else."""
    plain = f"x{KEY}y"
    written = {
        "plain": plain,
        "json": json.dumps({"key": plain}),
        "html": html.escape(plain),
        "url": quote(plain),
        "base64": base64.b64encode(plain.encode()).decode(),
        "hex": plain.encode().hex(),
    }
    assert written.keys() == ENCODINGS.keys()
    for encoding, text in written.items():
        assert ["here"] == Left({"here": text, "there": "a cat"}).hits(encoding)
