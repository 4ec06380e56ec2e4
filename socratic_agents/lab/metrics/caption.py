"""Metrics by the caption: how far its words are those of the user prompt."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from socratic_agents.core.extras import needs_extra
from socratic_agents.lab.metrics.metric import SHARE, Measure, MetricSpec, Need

if TYPE_CHECKING:
    from socratic_agents.lab.metrics.models import MetricModels
    from socratic_agents.lab.metrics.scores import Subject

__all__ = ("caption_similarity",)


def caption_similarity(models: MetricModels) -> Measure:
    """Return chrF of the caption against the user prompt, in [0, 1].

    The F score (beta 2) of character n-grams up to six, so that a plural or another
    ending is no miss. Synonyms are: it compares words, not meaning.

    Raises:
        ConfigurationError: If sacrebleu is not installed.

    Source: M. Popović, "chrF: character n-gram F-score for automatic MT evaluation"
    (WMT 2015); by sacrebleu, whose signature is in the record.
    """
    with needs_extra("for the metric 'caption_similarity'"):
        chrf = import_module("sacrebleu.metrics.chrf").CHRF()

    async def measure(subject: Subject) -> float:
        caption = subject.candidate.caption or ""
        return float(chrf.sentence_score(caption, [subject.user_prompt]).score) / 100

    chrf.sentence_score("one", ["one"])  # it has no signature before it scored
    captioner = models.settings.public()["captioner"]
    record = {"signature": str(chrf.get_signature()), "captioner": captioner}
    return Measure(record=record, measure=measure)


CAPTION_METRICS = (
    MetricSpec(
        name="caption_similarity",
        title="the caption's words against the user prompt's (chrF)",
        needs=(Need.TEXT, Need.CAPTION),
        open=caption_similarity,
        bounds=SHARE,
    ),
)
