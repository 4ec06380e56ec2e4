"""Search: what is tried next, as a value that the loop asks."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from socratic_agents.core.errors import CandidateError
from socratic_agents.core.history import Candidate, Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from PIL.Image import Image

    from socratic_agents.core.history import History, StopReason
    from socratic_agents.core.loop import Agents

__all__ = (
    "Attempt",
    "Draw",
    "Plan",
    "Proposal",
    "Search",
    "Session",
    "proposed",
    "seed_bank",
)


class Attempt(Protocol):
    """One image to be made.

    ``Draw`` is one; what changes an earlier image, from a parent, an instruction and
    a seed, can be another, and the loop need not know.
    """

    def candidate(self) -> Candidate:
        """Return what is known before there is an image: a prompt and a seed."""

    async def make(self, agents: Agents, history: History) -> Image:
        """Make the image.

        Args:
            agents: Who can make one.
            history: All rounds before this one.

        Raises:
            CandidateError: If this image cannot be made; the others can.
        """


class Proposal(str):
    """A prompt and how strongly to draw it; a text like any other for those who only read.

    So what an optimizer wrote passes through guards and searches that know nothing of
    guidance.

    Args:
        text: The prompt.
        guidance: Strength of the prompt, at least 0; ``None``: the generator's usual.
    """

    __slots__ = ("guidance",)
    guidance: float | None

    def __new__(cls, text: str, guidance: float | None = None) -> Self:
        """Return the text with its guidance."""
        proposal = super().__new__(cls, text)
        proposal.guidance = guidance
        return proposal

    @classmethod
    def like(cls, text: str, other: str) -> str:
        """Return a text that is drawn as another one is.

        Args:
            text: The other one, in other words.
            other: Any text; only a proposal says how it is drawn.
        """
        guidance = other.guidance if isinstance(other, Proposal) else None
        return text if guidance is None else cls(text, guidance)


def proposed(candidate: Candidate) -> str:
    """Return what was proposed for a candidate: its prompt, with its guidance if any."""
    guidance = candidate.guidance
    return (
        candidate.prompt if guidance is None else Proposal(candidate.prompt, guidance)
    )


@dataclass(frozen=True)
class Draw:
    """An attempt that draws a prompt from a seed's noise."""

    prompt: str
    seed: int
    guidance: float | None = None
    """Strength of the prompt; ``None``: what a proposal says, or the generator's usual."""

    def __post_init__(self) -> None:
        """Take a proposal apart."""
        if isinstance(self.prompt, Proposal):
            chosen = (
                self.guidance if self.guidance is not None else self.prompt.guidance
            )
            object.__setattr__(self, "guidance", chosen)
            object.__setattr__(self, "prompt", str(self.prompt))

    def candidate(self) -> Candidate:
        """Return the prompt, the seed and the guidance."""
        return Candidate(prompt=self.prompt, seed=self.seed, guidance=self.guidance)

    async def make(self, agents: Agents, history: History) -> Image:  # noqa: ARG002 - another attempt may look back
        """Draw it."""
        if self.guidance is None:
            return await agents.generate(self.prompt, self.seed)
        if agents.generate_guided is None:
            message = (
                f"expected a generator that takes guidance, got {self.guidance:g} for "
                "one that takes none; set a guidance_grid, or propose texts alone"
            )
            raise CandidateError(Status.GENERATION_FAILED, message)
        return await agents.generate_guided(self.prompt, self.seed, self.guidance)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The next round: what is made at once, and judged together."""

    attempts: tuple[Attempt, ...] = ()
    """At least one; the first fit into what may still be made."""
    error: str | None = None
    """Why it is no better plan, for the round's record."""


class Session(Protocol):
    """One refinement's search; inherit, and only ``next`` is to be written.

    It may keep what it likes from question to question: seeds, a population, tasks
    that write ahead. It may ask any agent, but the images that it asks for are made by
    the loop alone, so that they are counted, observed and kept. An error that it
    raises ends the refinement.
    """

    async def next(self, history: History, left: int | None) -> Plan | StopReason:
        """Return what is made next, or why nothing is.

        Asked at the beginning, and again after each verdict until one is satisfied.

        Args:
            history: All rounds, each with its verdict.
            left: Images that may still be made; ``None``: any number. With 0 the
                answer can only name the reason.
        """

    async def more(self, history: History, left: int | None) -> tuple[Attempt, ...]:  # noqa: ARG002 - for those who want more
        """Return what joins a round before it is judged; nothing lets the judge speak.

        Asked when a round's images are there, again when those that join it are, and
        not at all if nothing may be made any more.

        Args:
            history: All rounds; the last one has no verdict yet.
            left: Images that may still be made; ``None``: any number.
        """
        return ()


class Search(Protocol):
    """Decides which images are made, and when there are enough of them."""

    def session(self, agents: Agents) -> AbstractAsyncContextManager[Session]:
        """Begin a refinement; leaving the context ends all that it has begun.

        Args:
            agents: Whom it may ask, such as the optimizer.
        """


def seed_bank(seed: int) -> Iterator[int]:
    """Yield the seeds of one refinement: the seed itself, then derived ones, endless.

    They depend on nothing but the seed, so a prompt is refined alike wherever it
    stands in a list and whatever stands beside it.

    Args:
        seed: At least 0.
    """
    yield seed
    for number in itertools.count(1):
        digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
        yield int.from_bytes(digest[:4], "big") >> 1
