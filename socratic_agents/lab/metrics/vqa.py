"""Metrics by the captioner: P(yes) of the whole prompt, and shares of questions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from socratic_agents.core.checklist import Checklist, Question, share_passed
from socratic_agents.lab.metrics.metric import (
    CAPTIONER,
    POCKET,
    SEEN,
    SHARE,
    Measure,
    MetricSpec,
    Need,
)
from socratic_agents.lab.metrics.scores import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from socratic_agents.config.settings import Settings
    from socratic_agents.lab.metrics.models import MetricModels
    from socratic_agents.lab.metrics.scores import Subject

__all__ = ("checklist", "dsg", "p_yes")


def p_yes(models: MetricModels) -> Measure:
    """Return how surely an image shows the user prompt: P(yes), in [0, 1].

    Source: Z. Lin et al., VQAScore (ECCV 2024), section 3; model and words are others,
    so the two must not be compared.
    """
    from socratic_agents.models.captioning import SHOWS

    vqa_model = models.vqa_model()

    async def measure(subject: Subject) -> Value:
        question = SHOWS.replace("{prompt}", subject.user_prompt)
        answer = await vqa_model.decide(subject.image, question)
        if answer.probability is None:
            return Value.missing("the captioner gave no probability of yes")
        return Value(value=answer.probability)

    return Measure(record={**vqa_model.record, "question": SHOWS}, measure=measure)


def dsg(models: MetricModels) -> Measure:
    """Return the share of the row's questions that an image passes, in [0, 1].

    A question fails where one of its parents fails.

    Source: J. Cho et al., Davidsonian Scene Graph (ICLR 2024), section 3; the captioner
    that answers is another one.
    """
    return _shares(models, _of_row, "the row's")


def checklist(models: MetricModels) -> Measure:
    """Return the share of the loop's own questions that an image passes, in [0, 1].

    They are asked anew, so that images which the loop did not ask about are measured
    in the same way.
    """
    return _shares(models, _of_loop, "the loop's")


def _shares(
    models: MetricModels, of: Callable[[Subject], Sequence[Question]], whose: str
) -> Measure:
    vqa_model = models.vqa_model()

    async def measure(subject: Subject) -> Value:
        questions = of(subject)
        replies = await asyncio.gather(
            *(vqa_model.decide(subject.image, q.text) for q in questions)
        )
        answers = Checklist(questions=tuple(questions)).resolved(replies)
        share = share_passed(answers)
        if share is None:
            return Value.missing("none of its questions was answered by yes or no")
        unknown = sum(answer.passed is None for answer in answers)
        note = "some of its questions were not answered" if unknown else None
        return Value(value=share, note=note)

    return Measure(record={**vqa_model.record, "questions": whose}, measure=measure)


def _of_row(subject: Subject) -> Sequence[Question]:
    return [
        Question(text=q.text, requirement=q.requirement, parents=q.parents)
        for q in (subject.row.questions if subject.row else ())
    ]


def _of_loop(subject: Subject) -> Sequence[Question]:
    written = subject.history.checklist if subject.history else None
    return written.questions if written else ()


def _untaught(settings: Settings) -> str | None:
    """Refuse a captioner that says no to whatever it was not taught."""
    if settings.captioner != POCKET:
        return None
    return "a question that the pocket captioner was not taught"


VQA_METRICS = (
    MetricSpec(
        name="p_yes",
        title="how surely the captioner says that the image shows the prompt",
        needs=SEEN,
        open=p_yes,
        bounds=SHARE,
        model=lambda _: CAPTIONER,
        refuse=_untaught,
    ),
    MetricSpec(
        name="dsg",
        title="share of the row's questions passed, by the captioner",
        needs=(Need.IMAGE, Need.QUESTIONS),
        open=dsg,
        bounds=SHARE,
        model=lambda _: CAPTIONER,
    ),
    MetricSpec(
        name="checklist",
        title="share of the loop's own questions passed, by the captioner",
        needs=(Need.IMAGE, Need.CHECKLIST),
        open=checklist,
        bounds=SHARE,
        model=lambda _: CAPTIONER,
    ),
)
