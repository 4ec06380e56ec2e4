"""What was tried and what was said of it: frozen values, JSON in and out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from socratic_agents.core.checklist import Answer, Checklist

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

__all__ = (
    "Candidate",
    "CandidateRef",
    "History",
    "Round",
    "Status",
    "StopReason",
    "Verdict",
)


class Status(StrEnum):
    """What became of a candidate. A failure is never turned into a score."""

    OK = "ok"
    """Drawn and captioned."""
    GENERATION_FAILED = "generation_failed"
    """The generator raised an error."""
    NUMERICAL_FAILURE = "numerical_failure"
    """The image is black, or its numbers are not finite."""
    SAFETY_FILTERED = "safety_filtered"
    """The generator's own safety filter withheld the image."""
    CAPTION_FAILED = "caption_failed"
    """There is an image, but no usable caption of it."""


class StopReason(StrEnum):
    """Why a refinement ended. Running out of something is a result, not an error."""

    SATISFIED = "satisfied"
    """The judge found what was asked."""
    ROUNDS_SPENT = "rounds_spent"
    """All rounds were used; allow more rounds to go on."""
    BUDGET_SPENT = "budget_spent"
    """The next round would have passed the budget; raise it to go on."""
    CANCELLED = "cancelled"
    """The caller asked to stop; what was seen until then is returned."""
    DEADLINE = "deadline"
    """The time that the caller gave was over; what was seen until then is returned."""
    LLM_FAILED = "llm_failed"
    """The language model failed for good; what was seen until then is returned."""

    @property
    def cut_short(self) -> bool:
        """Whether there was more to try, and something in the way of it."""
        return self.interrupted or self is StopReason.LLM_FAILED

    @property
    def interrupted(self) -> bool:
        """Whether the caller ended it, with work in flight."""
        return self in {StopReason.CANCELLED, StopReason.DEADLINE}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One image with all that belongs to it, so that nothing can be mispaired."""

    prompt: str
    """What was sent to the generator."""
    seed: int
    """Seed of the image's noise."""
    status: Status = Status.OK
    image: Image | None = field(default=None, repr=False)
    """RGB; ``None`` if nothing was drawn."""
    caption: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """Name to value, higher is better; the first ranks, the others break its ties."""
    answers: tuple[Answer, ...] = ()
    """To each question of the checklist, what was seen; empty if nobody asked."""
    error: str | None = None
    """Why the status is not ``ok``, or why there is no score."""
    truncated_tokens: int = 0
    """How many tokens of the prompt the generator's text encoder cut off."""
    path: str | None = None
    """Where the image was saved, relative to its run directory."""
    final: bool = False
    """Whether the final generator drew it, and not the one of the drafts."""
    guidance: float | None = None
    """Strength of the prompt that was chosen for it; ``None``: the generator's usual."""

    @property
    def score(self) -> float | None:
        """The score that ranks candidates, if there is one."""
        return next(iter(self.scores.values()), None)

    @property
    def usable(self) -> bool:
        """Whether this candidate can be returned: there is an image to look at."""
        return self.status in {Status.OK, Status.CAPTION_FAILED}

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; the image is named by its path."""
        return {
            "prompt": self.prompt,
            "seed": self.seed,
            "caption": self.caption,
            "scores": dict(self.scores),
            "answers": [answer.to_json() for answer in self.answers],
            "image": self.path,
            "status": self.status.value,
            "error": self.error,
            "truncated_tokens": self.truncated_tokens,
            **({"final": True} if self.final else {}),
            **({} if self.guidance is None else {"guidance": self.guidance}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Candidate:
        """Read the JSON form; the image itself is not loaded."""
        return cls(
            prompt=data["prompt"],
            seed=data["seed"],
            caption=data["caption"],
            scores=dict(data["scores"]),
            answers=tuple(map(Answer.from_json, data.get("answers", ()))),
            path=data["image"],
            status=Status(data["status"]),
            error=data["error"],
            truncated_tokens=data.get("truncated_tokens", 0),
            final=data.get("final", False),
            guidance=data.get("guidance"),
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judge says of the incumbent.

    ``satisfied`` is ``None`` when nobody judged: that is not "not satisfied".
    """

    satisfied: bool | None
    missing: tuple[str, ...] = ()
    """What was asked for and is not seen, in words for the optimizer."""
    reason: str = ""
    """Why, in a sentence; the cause if nobody judged."""

    @property
    def judged(self) -> bool:
        """Whether there was a judgement at all."""
        return self.satisfied is not None

    @classmethod
    def unjudged(cls, cause: str) -> Verdict:
        """Return the verdict of a judge that could not judge."""
        return cls(satisfied=None, reason=cause)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "status": "judged" if self.judged else "unjudged",
            "satisfied": self.satisfied,
            "missing": list(self.missing),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Read the JSON form."""
        return cls(
            satisfied=data["satisfied"],
            missing=tuple(data["missing"]),
            reason=data["reason"],
        )


@dataclass(frozen=True, kw_only=True)
class Round:
    """The candidates made from one set of prompts, and the verdict on them."""

    candidates: tuple[Candidate, ...]
    verdict: Verdict | None = None
    """``None`` until the judge has spoken."""
    error: str | None = None
    """Why the optimizer wrote no prompts for this round, if it did not."""

    @property
    def final(self) -> bool:
        """Whether it shows the winner again, drawn by the final generator."""
        return any(candidate.final for candidate in self.candidates)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "verdict": self.verdict and self.verdict.to_json(),
            "error": self.error,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Round:
        """Read the JSON form."""
        verdict = data["verdict"]
        return cls(
            candidates=tuple(map(Candidate.from_json, data["candidates"])),
            verdict=verdict and Verdict.from_json(verdict),
            error=data.get("error"),
        )


@dataclass(frozen=True, kw_only=True)
class CandidateRef:
    """Which candidate of a history, both counted from 0."""

    round: int
    candidate: int


@dataclass(frozen=True, kw_only=True)
class History:
    """The user prompt and all rounds so far."""

    user_prompt: str
    rounds: tuple[Round, ...] = ()
    checklist: Checklist | None = None
    """What an image must show; ``None`` if nobody was asked to say."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates in the order in which they were asked for."""
        return tuple(c for round_ in self.rounds for c in round_.candidates)

    @property
    def incumbent(self) -> Candidate | None:
        """The best candidate so far, or ``None`` if none is usable.

        The highest score wins, the further scores break its ties, and of equals the
        earlier candidate wins. Where nothing is scored, it is the latest usable one.
        """
        ranked = self.ranked()
        return self.candidates[ranked[0]] if ranked else None

    def ranked(self) -> tuple[int, ...]:
        """Return the indices of the usable candidates, the best first."""
        usable = [(i, c) for i, c in enumerate(self.candidates) if c.usable]
        # Who was scored in full tells the order: others may lack the first score.
        names = max((tuple(c.scores) for _, c in usable), key=len, default=())
        if not names:
            return tuple(index for index, _ in reversed(usable))

        def rank(one: tuple[int, Candidate]) -> tuple[float, ...]:
            scores = (one[1].scores.get(name, -math.inf) for name in names)
            return tuple(
                -score if math.isfinite(score) else math.inf for score in scores
            )

        return tuple(index for index, _ in sorted(usable, key=rank))

    @property
    def verdict(self) -> Verdict | None:
        """The latest verdict, if there is one."""
        spoken = [r.verdict for r in self.rounds if r.verdict is not None]
        return spoken[-1] if spoken else None

    def place(self, index: int) -> CandidateRef:
        """Return where the candidate with this index of ``candidates`` stands."""
        for number, round_ in enumerate(self.rounds):
            if index < len(round_.candidates):
                return CandidateRef(round=number, candidate=index)
            index -= len(round_.candidates)
        message = f"expected an index of a candidate, got {index} too many"
        raise IndexError(message)

    def __add__(self, round_: Round) -> History:
        """Return a new history with one more round."""
        return replace(self, rounds=(*self.rounds, round_))

    @property
    def filtered(self) -> bool:
        """Whether a safety filter withheld every image so far."""
        withheld = [c.status is Status.SAFETY_FILTERED for c in self.candidates]
        return bool(withheld) and all(withheld)

    def judged(self, verdict: Verdict) -> History:
        """Return a new history in which the last round has this verdict."""
        *earlier, last = self.rounds
        return replace(self, rounds=(*earlier, replace(last, verdict=verdict)))
