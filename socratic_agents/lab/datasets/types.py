"""The rows of a prompt set: a prompt with what its set says about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("PromptRow", "RowQuestion")


@dataclass(frozen=True, kw_only=True, slots=True)
class RowQuestion:
    """A question about a row's image, which yes answers where the image is right."""

    id: str
    """Its number in the set's own file."""
    text: str
    parents: tuple[int, ...] = ()
    """Places, from 0 and below its own, of the row's questions that it depends on:
    where one of them is answered by no, it counts as no."""
    requirement: str = ""
    """What it asks about, in few words."""
    category: str = ""
    """Such as ``entity`` or ``attribute``."""
    detail: str = ""
    """Such as ``color``."""
    fact: str = ""
    """The tuple that it was made of, as the set writes it."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "text": self.text,
            "parents": list(self.parents),
            "requirement": self.requirement,
            "category": self.category,
            "detail": self.detail,
            "tuple": self.fact,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptRow:
    """One prompt of a set."""

    id: str
    """No other row of the set has it."""
    text: str
    """The prompt, without surrounding white space."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """What else the set says, by the names of its columns."""
    questions: tuple[RowQuestion, ...] = ()
    """In an order in which parents stand before their children."""
    reference: str | None = None
    """Address or file of an image that shows the prompt."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "text": self.text,
            "columns": dict(self.columns),
            "questions": [question.to_json() for question in self.questions],
            "reference": self.reference,
        }
