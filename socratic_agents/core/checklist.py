"""The checklist: what an image must show, as questions that are answered by yes or no.

Source: the idea of atomic questions with dependencies is that of the Davidsonian Scene
Graph (J. Cho et al., ICLR 2024, section 3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("Answer", "Checklist", "Question", "YesNo", "read_answer", "share_passed")


class YesNo(StrEnum):
    """What was answered. What cannot be answered is not "no"."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Question:
    """One thing that an image must show."""

    text: str
    """Answered by yes where the image shows it."""
    requirement: str
    """What it asks about, in the words of the user prompt."""
    parents: tuple[int, ...] = ()
    """Places, from 0, of the questions that make no sense of this one if they fail:
    where there is no dog, it is not brown."""
    instead: str = ""
    """An open question, asked where this one fails, to learn what is seen instead."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "text": self.text,
            "requirement": self.requirement,
            "parents": list(self.parents),
            "instead": self.instead,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Question:
        """Read the JSON form."""
        return cls(
            text=data["text"],
            requirement=data["requirement"],
            parents=tuple(data["parents"]),
            instead=data["instead"],
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was seen on one image when one question was asked."""

    said: YesNo
    probability: float | None = None
    """P(yes) / (P(yes) + P(no)), in [0, 1]; ``None`` where only text came."""
    passed: bool | None = None
    """Whether the requirement is met, its parents included; ``None``: nobody knows."""
    seen: str = ""
    """How the image differs, in words, where it was counted or read."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        seen = {"seen": self.seen} if self.seen else {}
        return {
            "said": self.said.value,
            "probability": self.probability,
            "passed": self.passed,
            **seen,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Answer:
        """Read the JSON form."""
        return cls(
            said=YesNo(data["said"]),
            probability=data["probability"],
            passed=data["passed"],
            seen=data.get("seen", ""),
        )


@dataclass(frozen=True, kw_only=True)
class Checklist:
    """The questions about one user prompt, written once."""

    questions: tuple[Question, ...] = ()
    """In an order in which parents stand before their children."""
    error: str | None = None
    """Why there are no questions, if there are none."""

    def resolved(self, answers: Sequence[Answer]) -> tuple[Answer, ...]:
        """Return the answers with what follows from them: which requirements are met.

        A question fails where one of its parents fails, whatever was said to it.

        Args:
            answers: One for each question, in order.
        """
        own = {YesNo.YES: True, YesNo.NO: False, YesNo.UNKNOWN: None}
        resolved: list[Answer] = []
        for question, answer in zip(self.questions, answers, strict=True):
            orphan = any(resolved[p].passed is False for p in question.parents)
            passed = False if orphan else own[answer.said]
            resolved.append(replace(answer, passed=passed))
        return tuple(resolved)

    def failed(self, answers: Sequence[Answer]) -> tuple[Question, ...]:
        """Return the questions that did not pass.

        Args:
            answers: One for each question, or none at all if nobody asked.
        """
        return self._whose(answers, passed=False)

    def met(self, answers: Sequence[Answer]) -> tuple[Question, ...]:
        """Return the questions that passed; arguments as for ``failed``."""
        return self._whose(answers, passed=True)

    def _whose(
        self, answers: Sequence[Answer], *, passed: bool
    ) -> tuple[Question, ...]:
        pairs = zip(self.questions, answers, strict=bool(answers))
        return tuple(q for q, answer in pairs if answer.passed is passed)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "questions": [question.to_json() for question in self.questions],
            "error": self.error,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Checklist:
        """Read the JSON form."""
        return cls(
            questions=tuple(map(Question.from_json, data["questions"])),
            error=data["error"],
        )


def share_passed(answers: Sequence[Answer]) -> float | None:
    """Return the share of the answers that passed, of those that are known, in [0, 1].

    ``None`` where nothing is known: that is not 0.
    """
    known = [answer.passed for answer in answers if answer.passed is not None]
    return sum(known) / len(known) if known else None


def read_answer(text: str) -> Answer:
    """Return what a text answers: yes or no if it begins so, and else unknown."""
    first = re.match(r"\W*(yes|no)\b", text.lower())
    return Answer(said=YesNo(first[1]) if first else YesNo.UNKNOWN)
