"""Results of a survey: how careful people were, what they prefer, whom to trust."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.stats.agreement import exact_agreement, krippendorff_alpha
from socratic_agents.lab.stats.preference import Vote, majority, preference, standings
from socratic_agents.lab.survey.design import QUESTIONS
from socratic_agents.lab.survey.judge_agreement import (
    agreement_sentence,
    judge_agreement,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from socratic_agents.lab.stats.preference import PairwiseResult, PreferenceScale
    from socratic_agents.lab.survey.design import Item, SurveyKey
    from socratic_agents.lab.survey.judge_agreement import JudgeAgreement
    from socratic_agents.lab.survey.responses import Responses

__all__ = ("QuestionResult", "RaterCare", "SurveyResults", "survey_results")

SCHEMA = 1
"""Version of the JSON form."""

FEWEST_CAUGHT = 3
"""Catch pairs; with fewer, nobody is left out because of them."""

QUICKEST = 1_500
"""Milliseconds; who looks at most pairs for less answers without looking."""


@dataclass(frozen=True, kw_only=True)
class RaterCare:
    """How careful one person was."""

    rater: str
    """The first 8 digits, which are enough to find the file."""
    answers: int
    """To pairs of arms, each counted once."""
    caught: int
    """Catch pairs in which the right image was said to match."""
    catches: int
    same: float | None
    """Share of the questions answered alike when a pair came again."""
    repeats: int
    left: float | None
    """Share of left among all that is not a tie; far from half, it tells of haste."""
    seconds: float
    """The median for a pair."""
    excluded: str | None
    """Why the answers are left out; ``None`` if they are not."""


@dataclass(frozen=True, kw_only=True)
class QuestionResult:
    """What people said to one question."""

    question: str
    votes: int
    pairs: int
    """Pairs that at least one person judged."""
    alpha: float | None
    """Krippendorff's, a tie half way between the sides; of pairs with two judges."""
    same: float | None
    """Share of the pairs of people who said the very same."""
    person: float | None
    """How often one person agrees with most of the others: no judge can do better."""
    arm: float | None
    """How often the image that most people prefer is of the stronger arm: a judge that
    says no more often what they say knows no more than whose image it is."""
    preference: PreferenceScale | None
    standings: tuple[PairwiseResult, ...]
    judges: tuple[JudgeAgreement, ...]


@dataclass(frozen=True, kw_only=True)
class SurveyResults:
    """All that a survey says."""

    study: str
    people: tuple[RaterCare, ...]
    asked: int
    """Pairs of arms in the survey."""
    left_out: Mapping[str, int]
    """Why pairs of arms and prompts were not asked, to how many."""
    questions: tuple[QuestionResult, ...]

    def findings(self) -> tuple[str, ...]:
        """Return sentences on what came out, whichever way."""
        return tuple(
            sentence for result in self.questions for sentence in _findings(result)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        excluded = [care for care in self.people if care.excluded]
        return {
            "schema": SCHEMA,
            "study": self.study,
            "people": [asdict(care) for care in self.people],
            "n": len(self.people) - len(excluded),
            "excluded": len(excluded),
            "asked": self.asked,
            "left_out": dict(self.left_out),
            "questions": {
                result.question: {
                    name: value
                    for name, value in asdict(result, dict_factory=_finite).items()
                    if name != "question"
                }
                for result in self.questions
            },
            "intervals": "95 %: strengths by bootstrap over prompts, shares by Wilson",
            "findings": list(self.findings()),
        }


def _finite(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the JSON form of fields: an open end of an interval is ``null``."""
    return {
        name: None if isinstance(value, float) and math.isinf(value) else value
        for name, value in pairs
    }


def survey_results(
    key: SurveyKey,
    people: Sequence[Responses],
    *,
    keep_careless: bool = False,
    seed: int = 0,
) -> SurveyResults:
    """Return what people said, those left out who did not look.

    Args:
        key: Of the survey.
        people: One or more.
        keep_careless: Leave nobody out.
        seed: Of the intervals' resampling.

    Raises:
        ConfigurationError: If nobody is left.
    """
    items = {item.id: item for item in key.items}
    care = [_care(items, answers, keep=keep_careless) for answers in people]
    careful = [a for a, how in zip(people, care, strict=True) if not how.excluded]
    if not careful:
        message = (
            f"expected somebody who answered with care, got {len(people)} who did not, "
            f"the first because: {care[0].excluded}; use --keep-careless to see"
        )
        raise ConfigurationError(message)
    return SurveyResults(
        study=key.study,
        people=tuple(care),
        asked=sum(item.kind == "pair" for item in key.items),
        left_out=key.left_out,
        questions=tuple(
            _question_result(name, items, careful, seed) for name in QUESTIONS
        ),
    )


def _care(items: Mapping[str, Item], answers: Responses, *, keep: bool) -> RaterCare:
    firsts = {answer.item: answer for answer in answers.first}
    caught = [
        answer.sign("match") == (1 if items[answer.item].arms[0] == "right" else -1)
        for answer in answers.first
        if items[answer.item].kind == "catch"
    ]
    again = [
        answer.sign(question) == firsts[answer.item].sign(question)
        for answer in answers.answers
        if answer.repeat and answer.item in firsts
        for question in QUESTIONS
    ]
    sides = [
        choice == "left"
        for answer in answers.answers
        for question in QUESTIONS
        if (choice := getattr(answer, question)) != "tie"
    ]
    ms = median(answer.ms for answer in answers.answers)
    why = None
    if len(caught) >= FEWEST_CAUGHT and sum(caught) * 3 < len(caught) * 2:
        why = (
            f"took {len(caught) - sum(caught)} of {len(caught)} wrong images for right"
        )
    elif ms < QUICKEST:
        why = f"looked at most pairs for less than {QUICKEST / 1000} seconds"
    return RaterCare(
        rater=answers.rater[:8],
        answers=len(firsts) - len(caught),
        caught=sum(caught),
        catches=len(caught),
        same=fmean(again) if again else None,
        repeats=len(again) // len(QUESTIONS),
        left=fmean(sides) if sides else None,
        seconds=ms / 1000,
        excluded=None if keep else why,
    )


def _question_result(
    question: str, items: Mapping[str, Item], people: Sequence[Responses], seed: int
) -> QuestionResult:
    """Return what people said to a question: repeats and catch pairs stay out."""
    signs: dict[str, list[int]] = defaultdict(list)
    for answers in people:
        for answer in answers.first:
            if items[answer.item].kind == "pair":
                signs[answer.item].append(answer.sign(question))
    votes = [
        Vote(
            prompt=items[i].number, one=items[i].arms[0], other=items[i].arms[1], sign=s
        )
        for i, of_item in signs.items()
        for s in of_item
    ]
    found = preference(votes, seed=seed)
    return QuestionResult(
        question=question,
        votes=len(votes),
        pairs=len(signs),
        alpha=krippendorff_alpha(signs.values()),
        same=exact_agreement(signs.values()),
        person=_person(signs.values()),
        arm=_arm(items, signs, found),
        preference=found,
        standings=standings(votes),
        judges=tuple(_judges(items, signs)),
    )


def _person(units: Any) -> float | None:
    """Return how often one person agrees with most of the rest, where both decide."""
    agreed = [
        sign == rest
        for unit in units
        for place, sign in enumerate(unit)
        if sign and (rest := majority(unit[:place] + unit[place + 1 :]))
    ]
    return fmean(agreed) if agreed else None


def _arm(
    items: Mapping[str, Item],
    signs: Mapping[str, Sequence[int]],
    found: PreferenceScale | None,
) -> float | None:
    """Return how often most people prefer the image of the stronger arm."""
    if found is None:
        return None
    value = {strength.arm: strength.value for strength in found.strengths}
    agreed = [
        sign * (value[items[i].arms[0]] - value[items[i].arms[1]]) > 0
        for i, of_item in signs.items()
        if (sign := majority(of_item))
    ]
    return fmean(agreed) if agreed else None


def _judges(
    items: Mapping[str, Item], signs: Mapping[str, Sequence[int]]
) -> Iterator[JudgeAgreement]:
    """Yield how each metric agrees with most of the people, by its name."""
    decided = {i: sign for i, of_item in signs.items() if (sign := majority(of_item))}
    scores = itertools.chain.from_iterable(items[i].scores for i in signs)
    for metric in sorted({name for of_image in scores for name in of_image}):
        leads: list[float | None] = []
        for i, sign in decided.items():
            one, other = (of_image.get(metric) for of_image in items[i].scores)
            known = one is not None and other is not None
            leads.append(sign * (one - other) if known else None)  # type: ignore[operator]
        yield judge_agreement(metric, leads)


def _findings(result: QuestionResult) -> Iterator[str]:
    for one in result.standings:
        first, second, won, lost = one.one, one.other, one.won, one.lost
        if lost > won:
            first, second, won, lost = second, first, lost, won
        apart = one.low is not None and one.high is not None
        apart = apart and not one.low <= 0.5 <= one.high  # type: ignore[operator]
        standing = "is above" if apart else "cannot be distinguished from"
        yield (
            f"{result.question}: {first} {standing} {second}: {won} prompts won, "
            f"{one.tied} tied, {lost} lost, {one.votes} answers."
        )
    yield agreement_sentence(result.judges, question=result.question)
