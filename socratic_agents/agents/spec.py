"""What judges, selectors, optimizers, guards and answerers are known by, and made from.

Each kind has a registry beside its code; other packages add entries by entry points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.language_models import BaseChatModel
    from PIL.Image import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.checklist import Answer, Checklist
    from socratic_agents.core.counts import Count
    from socratic_agents.core.history import Candidate, History, Verdict
    from socratic_agents.llm.retry import RetryPolicy
    from socratic_agents.llm.templates import Template

__all__ = (
    "AgentSpec",
    "AnswererSpec",
    "BuildContext",
    "GuardSpec",
    "JudgeSpec",
    "OptimizerSpec",
    "SelectorSpec",
)

Agent = TypeVar("Agent")

Judge: TypeAlias = "Callable[[History], Awaitable[Verdict]]"
Selector: TypeAlias = "Callable[[History], Awaitable[int]]"
Optimizer: TypeAlias = "Callable[[History], Awaitable[tuple[str, ...]]]"
Guard: TypeAlias = "Callable[[History, tuple[str, ...]], Awaitable[tuple[str, ...]]]"
Answerer: TypeAlias = "Callable[[Checklist, Candidate], Awaitable[tuple[Answer, ...]]]"


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """What an agent may be made from."""

    settings: Settings
    llm: BaseChatModel | None = None
    """The language model; there for every entry that has ``requests``."""
    template: Template | None = None
    """The words to ask it with; there for every entry that has a ``template``."""
    argument: object = None
    """What ``read_argument`` returned."""
    retries: RetryPolicy | None = None
    """How often a failed request is sent again, and at what rate."""
    answer_yes_no: Callable[[Image, str], Awaitable[Answer]] | None = None
    """Image, question -> the captioner's answer; ``None``: it only captions."""
    answer_open: Callable[[Image, str], Awaitable[str]] | None = None
    """Image, open question -> the captioner's answer; ``None``: it only captions."""
    answer_count: Callable[[Image, str], Awaitable[Count]] | None = None
    """Image, "how many …?" -> the captioner's count; ``None``: it does not count."""
    read_text: Callable[[Image, str], Awaitable[str]] | None = None
    """Image, "what is written …?" -> text, by the reader or the captioner; ``None``:
    nobody reads."""
    max_tokens: int | None = None
    """Tokens of a prompt that the generator reads at most, where it is known."""
    guard: Guard | None = None
    """For an optimizer that is ``guarded``."""

    def asked(self) -> tuple[BaseChatModel, Template]:
        """Return the language model and the template of an entry that has both."""
        return cast("BaseChatModel", self.llm), cast("Template", self.template)


@dataclass(frozen=True, kw_only=True)
class AgentSpec(Generic[Agent]):
    """An agent by its name in the settings, and what it takes to use it."""

    name: str
    title: str
    """What it does, in a line."""
    build: Callable[[BuildContext], Agent]
    """Makes the agent, an async callable; nothing is asked or loaded yet."""
    requests: int = 0
    """To the language model at most, validation retries included, each time it is
    called; ``0``: it asks none."""
    template: str | None = None
    """Its words where the settings name no others: a shipped template, or a file."""
    needs_image: bool = False
    """Whether its language model must take images."""
    read_argument: Callable[[str], object] | None = None
    """Reads what the settings say after a colon, ``0.8`` of ``score:0.8``; raises
    ``ValueError``. ``None``: there is nothing to say."""


@dataclass(frozen=True, kw_only=True)
class JudgeSpec(AgentSpec[Judge]):
    """History -> is the incumbent what was asked for, and what is missing?"""

    uses_checklist: bool = False
    needs_score: bool = False
    """Whether it judges by the ranking score."""
    slow: bool = False
    """Whether its verdicts take time, without any requests."""


@dataclass(frozen=True, kw_only=True)
class SelectorSpec(AgentSpec[Selector]):
    """History -> index of the best of its candidates."""

    most_compared: int = 0
    """How many candidates after the first one cost ``requests`` at most."""
    uses_checklist: bool = False
    needs_scorer: bool = False
    """Whether it selects by the scorer, which then ranks before the checklist."""
    ranks: bool = False
    """Whether a higher ranking score brings a candidate forward."""


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec(AgentSpec[Optimizer]):
    """History -> the next prompts to try."""

    guarded: bool = False
    """Whether it is given the guard, to hold its prompts against the checklist."""


@dataclass(frozen=True, kw_only=True)
class GuardSpec(AgentSpec[Guard]):
    """History, new prompts -> those that are faithful to the user prompt."""


@dataclass(frozen=True, kw_only=True)
class AnswererSpec(AgentSpec[Answerer]):
    """Checklist, candidate -> what its image answers to each question."""

    needs_captioner: bool = False
    """Whether the captioner must answer questions."""
