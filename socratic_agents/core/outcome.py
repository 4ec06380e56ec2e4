"""What comes of a prompt: a refinement or a failure, what it cost, and its receipt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from socratic_agents.core.checklist import Checklist
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    StopReason,
)
from socratic_agents.core.spread import SeedSpread

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Failure", "Receipt", "Refinement", "Usage")

SCHEMA = 1
"""Version of the JSON form."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a refinement cost."""

    images: int = 0
    """Images that were asked for, failed ones included."""
    llm_calls: int = 0
    """Requests to a language model, failed ones included."""
    input_tokens: int = 0
    output_tokens: int = 0
    money: float | None = None
    """What images and tokens cost together; ``None`` where no prices are given."""
    seconds: float = 0.0
    """Wall time from the first request to the result."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "images": self.images,
            "llm_calls": self.llm_calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "money": self.money,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What the same number of images of the user prompt alone would have brought.

    The best of these was chosen by the same selector, so the comparison shows whether
    the rewrites were worth it.
    """

    images: int
    """Images on each side."""
    best_of_n: Candidate
    """The best of that many images of the user prompt."""
    metric: str
    """Name of the score that both are compared by."""
    independent: bool
    """Whether that score took no part in selecting; if it did, it flatters both."""
    returned: float
    """What the refinement's best image scores."""
    compared: float
    """What ``best_of_n`` scores."""
    seed_spread: SeedSpread | None = None
    """How much the images of one prompt differ, those of the refinement included."""

    @property
    def gain(self) -> float:
        """How much better the refinement is; negative if it is worse."""
        return self.returned - self.compared

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "images": self.images,
            "best_of_n": self.best_of_n.to_json(),
            "metric": self.metric,
            "independent": self.independent,
            "returned": self.returned,
            "compared": self.compared,
            "gain": self.gain,
            **_told(self.seed_spread),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Receipt:
        """Read the JSON form."""
        return cls(
            images=data["images"],
            best_of_n=Candidate.from_json(data["best_of_n"]),
            metric=data["metric"],
            independent=data["independent"],
            returned=data["returned"],
            compared=data["compared"],
            seed_spread=_spread(data),
        )


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """The finished result: everything that was tried, and the best of it."""

    history: History
    best_place: CandidateRef
    stop: StopReason
    usage: Usage = Usage()
    selection_error: str | None = None
    """Why the incumbent was returned instead of the selector's choice, if so."""
    llm_error: str | None = None
    """Why the language model failed for good, if that ended it."""
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The resolved settings, secrets left out."""
    templates: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Role to name and sha256 of the template that was used."""
    receipt: Receipt | None = None
    """The comparison with best-of-N at equal cost, if it was asked for."""
    seed_spread: SeedSpread | None = None
    """How much the images of one prompt differ; ``None``: none was drawn twice."""
    notices: tuple[str, ...] = ()
    """What means other images or answers than those that the settings ask for."""
    index: int = 0
    """The input's place when many prompts are refined."""

    @property
    def user_prompt(self) -> str:
        """What the person asked for."""
        return self.history.user_prompt

    @property
    def rounds(self) -> tuple[Round, ...]:
        """Everything that was tried."""
        return self.history.rounds

    @property
    def best(self) -> Candidate:
        """The candidate that is returned."""
        return self.rounds[self.best_place.round].candidates[self.best_place.candidate]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form of design schema 1."""
        best = self.best.to_json()
        place = self.best_place
        return {
            "schema": SCHEMA,
            "index": self.index,
            "user_prompt": self.user_prompt,
            "status": "ok",
            "stop": self.stop.value,
            "best": {"round": place.round, "candidate": place.candidate, **best},
            "rounds": [round_.to_json() for round_ in self.rounds],
            "checklist": self.history.checklist and self.history.checklist.to_json(),
            "receipt": self.receipt and self.receipt.to_json(),
            "usage": self.usage.to_json(),
            "selection_error": self.selection_error,
            "settings": dict(self.settings),
            "templates": dict(self.templates),
            # Only where there is something to tell.
            **({"statistics": told} if (told := _told(self.seed_spread)) else {}),
            **({"llm_error": self.llm_error} if self.llm_error else {}),
            # Only where there are any.
            **({"notices": list(self.notices)} if self.notices else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Refinement:
        """Read the JSON form; images stay on disk, at each candidate's ``path``."""
        best, receipt = data["best"], data.get("receipt")
        checklist = data.get("checklist")
        return cls(
            history=History(
                user_prompt=data["user_prompt"],
                rounds=tuple(map(Round.from_json, data["rounds"])),
                checklist=checklist and Checklist.from_json(checklist),
            ),
            receipt=receipt and Receipt.from_json(receipt),
            best_place=CandidateRef(round=best["round"], candidate=best["candidate"]),
            stop=StopReason(data["stop"]),
            usage=Usage(**data["usage"]),
            selection_error=data.get("selection_error"),
            llm_error=data.get("llm_error"),
            seed_spread=_spread(data.get("statistics", {})),
            settings=dict(data["settings"]),
            templates=dict(data["templates"]),
            notices=tuple(data.get("notices", ())),
            index=data["index"],
        )

    def _repr_html_(self) -> str:
        """Show the refinement in a notebook."""
        from socratic_agents.report.html import notebook_html

        return notebook_html(self)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The outcome of a prompt that could not be refined; the others go on."""

    user_prompt: str
    error: str
    """What was expected, what came, what to do."""
    kind: str
    """Name of the error's class."""
    history: History | None = None
    """What was drawn and judged before it failed."""
    index: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with the same keys for what both outcomes share."""
        rounds = self.history.rounds if self.history else ()
        checklist = self.history.checklist if self.history else None
        return {
            "schema": SCHEMA,
            "index": self.index,
            "user_prompt": self.user_prompt,
            "status": "failed",
            "error": self.error,
            "kind": self.kind,
            "rounds": [round_.to_json() for round_ in rounds],
            "checklist": checklist and checklist.to_json(),
        }


def _told(spread: SeedSpread | None) -> dict[str, Any]:
    return {"seed_spread": spread.to_json()} if spread else {}


def _spread(data: Mapping[str, Any]) -> SeedSpread | None:
    told = data.get("seed_spread")
    return told and SeedSpread.from_json(told)
