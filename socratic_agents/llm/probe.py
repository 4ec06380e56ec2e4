"""The probe: which structured-output methods a language model knows, and how fast it is.

One tiny request for each method, none of them repeated. A run finds the same out by
itself; here people see it before.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from socratic_agents.llm.answers import UnreadableError, read_answer
from socratic_agents.llm.failures import FailureKind, advice, classify, describe, redact
from socratic_agents.llm.methods import METHODS, Reply, open_method, read_reply
from socratic_agents.llm.retry import single_attempt
from socratic_agents.llm.structured import CUT
from socratic_agents.llm.usage import using_meter
from socratic_agents.network.server_errors import ABOUT_KEYS, status_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

    from socratic_agents.llm.methods import StructuredMethod

__all__ = ("Probe", "probe_methods", "recommendations")

LONG_ANSWER = 400
"""Tokens of a long answer: a checklist, or four prompts with their reasons."""


class _Colour(BaseModel):
    """A colour."""

    model_config = ConfigDict(extra="forbid", strict=True)

    colour: str = Field(description="One word.")


QUESTION = "Which colour has the sky at noon when there are no clouds?"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What one method is good for."""

    method: str
    """Its rung of ``llm.methods.METHODS``."""
    works: bool
    """Whether the answer came in the form that was asked for."""
    detail: str = ""
    """Why it does not, in the server's own words where it has some."""
    seconds: float | None = None
    """How long the request took; ``None`` if the client cannot send it."""
    input_tokens: int = 0
    output_tokens: int = 0
    advice: str = ""
    """What a person can do about a request that failed."""
    ends: bool = False
    """Whether every other method would fail alike."""

    @property
    def tokens_per_second(self) -> float | None:
        """How fast the model writes, waiting for its first word included."""
        if not self.seconds or not self.output_tokens:
            return None
        return self.output_tokens / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        speed, shown = self.tokens_per_second, asdict(self)
        del shown["ends"]
        seconds = None if self.seconds is None else round(self.seconds, 3)
        rounded = None if speed is None else round(speed, 1)
        return {**shown, "seconds": seconds, "tokens_per_second": rounded}


async def probe_methods(llm: BaseChatModel) -> AsyncIterator[Probe]:
    """Send one tiny request by each method, the strictest first.

    Where the server cannot be reached at all, or takes no key, the first one is the last.

    Args:
        llm: Any LangChain chat model.
    """
    from langchain_core.messages import HumanMessage

    llm = single_attempt(llm)
    for name in METHODS:
        method = open_method(llm, _Colour, name)
        if method is None:
            yield Probe(method=name, works=False, detail="the client does not know it")
            continue
        probe = await _probed(method, [HumanMessage(QUESTION)])
        yield probe
        if probe.ends:
            return


def _lost(problem: Exception) -> bool:
    """Return whether no answer came at all, whatever was asked for."""
    return status_of(problem) is None and classify(problem) is FailureKind.RETRY


async def _probed(method: StructuredMethod, messages: list[BaseMessage]) -> Probe:
    began, detail, reply = time.perf_counter(), "", None
    with using_meter() as meter:
        try:
            reply = read_reply(await method.send(messages))
        except Exception as problem:  # noqa: BLE001 - clients of any make raise anything
            redact(problem)
            if classify(problem) is not FailureKind.MALFORMED:
                return Probe(
                    method=method.name,
                    works=False,
                    detail=describe(problem),
                    seconds=time.perf_counter() - began,
                    advice=advice(problem),
                    ends=status_of(problem) in ABOUT_KEYS or _lost(problem),
                )
            detail = describe(problem)
    return Probe(
        method=method.name,
        works=reply is not None and not (detail := _mistake(reply)),
        detail=detail,
        seconds=time.perf_counter() - began,
        input_tokens=meter.input_tokens,
        output_tokens=meter.output_tokens,
    )


def _mistake(reply: Reply) -> str:
    """Return what is wrong with an answer, or nothing."""
    if reply.refusal:
        return f"it refuses ({reply.refusal})"
    if reply.finish in CUT:
        return "the answer was cut off at the server's own length limit"
    try:
        read_answer(reply.text, _Colour, calls=reply.calls)
    except UnreadableError as problem:
        return f"the answer is not in the form that was asked for ({problem})"
    return ""


def recommendations(
    probes: Sequence[Probe], *, timeout: float, slots: int | None
) -> list[str]:
    """Return what to set, in sentences; nothing where all is well.

    Args:
        probes: As from ``probe_methods``.
        timeout: The setting, in seconds.
        slots: How many requests a server of one's own may get at the same time. It may
            answer one after the other, and their timeouts run meanwhile. ``None``: a
            provider answers, who is quick enough.
    """
    working = [probe for probe in probes if probe.works]
    if not working:
        told = dict.fromkeys(probe.advice for probe in probes if probe.advice)
        return list(told) or ["use a more capable model: no method brought an answer"]
    speed = working[0].tokens_per_second
    if speed is None or slots is None or LONG_ANSWER / speed * slots <= timeout:
        return []
    alone, together = (math.ceil(n * LONG_ANSWER / speed / 10) * 10 for n in (1, slots))
    one = f", or llm_concurrency=1 and timeout={max(alone, math.ceil(timeout))}"
    return [
        (
            f"set timeout={together}{one if slots > 1 else ''}: at {speed:.1f} tokens a second, "
            f"{slots} long answers one after the other may take {together} s"
        )
    ]
