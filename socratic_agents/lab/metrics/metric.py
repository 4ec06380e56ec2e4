"""A metric: what it needs to see, on what its values depend, and how it measures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import (
    BatchError,
    CandidateError,
    ClosedError,
    SocraticError,
)
from socratic_agents.core.history import Candidate, Status
from socratic_agents.core.text import error_line
from socratic_agents.lab.metrics.scores import Subject, Value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from PIL.Image import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.lab.metrics.models import MetricModels

__all__ = ("Measure", "Metric", "MetricSpec", "Need", "only_pocket")

POCKET = "pocket"
CAPTIONER = "captioner"


class Need(StrEnum):
    """What a subject must have to be measured."""

    TEXT = "text"
    """The user prompt."""
    IMAGE = "image"
    CAPTION = "caption"
    """What the captioner said of the image in the loop."""
    REFERENCE = "reference"
    """The row's image that shows the prompt."""
    QUESTIONS = "questions"
    """The row's questions."""
    CHECKLIST = "checklist"
    """The questions that the loop wrote."""
    ROUNDS = "rounds"
    """All images of the refinement."""

    def lack(self, subject: Subject) -> str | None:
        """Return why a subject lacks this; ``None`` if it has it."""
        candidate, row, history = subject.candidate, subject.row, subject.history
        checklist = history.checklist if history else None
        lacking = {
            Need.TEXT: (not subject.user_prompt.strip(), "no user prompt"),
            Need.IMAGE: (
                candidate.image is None,
                f"no image ({candidate.status.value}: {candidate.error or 'not there'})",
            ),
            Need.CAPTION: (
                not (candidate.caption or "").strip(),
                f"no caption ({candidate.status.value})",
            ),
            Need.REFERENCE: (
                row is None or row.reference is None,
                "no reference image in its row",
            ),
            Need.QUESTIONS: (
                row is None or not row.questions,
                "no questions in its row",
            ),
            Need.CHECKLIST: (
                checklist is None or not checklist.questions,
                f"no checklist ({(checklist and checklist.error) or 'none written'})",
            ),
            Need.ROUNDS: (history is None, "no history of its refinement"),
        }
        there, reason = lacking[self]
        return reason if there else None


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How a metric measures, and on what that depends."""

    record: Mapping[str, Any]
    measure: Callable[[Subject], Awaitable[float | Value]] = field(repr=False)
    """What it raises becomes the reason why there is no value."""


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A metric that is not open yet; other packages write theirs as one of these."""

    name: str
    title: str
    """What it measures, in a line."""
    needs: tuple[Need, ...]
    open: Callable[[MetricModels], Measure]
    """Opens the models that it uses; blocks, in the worker's thread."""
    higher_is_better: bool | None = True
    """``None``: neither more nor less of it is good in itself."""
    model: Callable[[Settings], str | None] = lambda _settings: None
    """The scorer's name of the model that it uses; ``captioner``; or nothing."""
    bounds: tuple[float, float] | None = None
    """Least and greatest value that there can be; ``None``: not known. Where nearly all
    values are equal, an interval of their mean rests on them."""
    refuse: Callable[[Settings], str | None] = lambda _settings: None
    """Why it cannot measure what these settings draw; ``None`` if it can."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric that is open: what is reported of an image."""

    name: str
    needs: tuple[Need, ...]
    higher_is_better: bool | None
    """``None``: neither more nor less of it is good in itself."""
    how: Measure
    bounds: tuple[float, float] | None = None
    """Least and greatest value that there can be; ``None``: not known."""

    @property
    def record(self) -> Mapping[str, Any]:
        """What its values depend on: compare none whose records differ."""
        return self.how.record

    async def value(self, subject: Subject) -> Value:
        """Return what is measured of a subject, or why nothing is.

        Args:
            subject: Its image is not changed, and not kept.

        Raises:
            ClosedError: If its worker is closed.
            BatchError: If its model broke its contract, or is stuck.
        """
        for need in self.needs:
            reason = need.lack(subject)
            if reason is not None:
                return Value.missing(reason)
        try:
            found = await self.how.measure(subject)
        except (BatchError, ClosedError):
            raise  # nothing is wrong with the image
        except SocraticError as problem:
            return Value.missing(str(problem))
        except Exception as problem:  # noqa: BLE001 - one image fails, not the study
            return Value.missing(error_line(problem))
        if isinstance(found, Value):
            return found
        if not math.isfinite(found):
            return Value.missing(f"its {self.name} is {found}, which is no number")
        return Value(value=float(found))

    async def measure(self, user_prompt: str, image: Image) -> float:
        """Return the value of an image of a user prompt.

        Raises:
            CandidateError: If there is none.
        """
        candidate = Candidate(prompt=user_prompt, seed=0, image=image)
        found = await self.value(Subject(user_prompt=user_prompt, candidate=candidate))
        if found.value is None:
            raise CandidateError(Status.OK, found.reason or "")
        return found.value


def only_pocket(settings: Settings) -> str | None:
    """Refuse what is drawn outside of the pocket world.

    Args:
        settings: What draws the images.
    """
    if settings.generator == POCKET:
        return None
    return "which knows the pocket world alone"


SEEN = (Need.TEXT, Need.IMAGE)
"""What every image of a refinement has."""
SHARE = (0.0, 1.0)
"""Bounds of a share or a probability."""
