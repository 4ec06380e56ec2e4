"""Kinds of metrics: every one by its name, what it needs, and who looks."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.metrics.caption import caption_similarity
from socratic_agents.lab.metrics.clip import (
    OPENCLIP,
    PUBLISHED,
    clipscore,
    diversity,
    general_clip,
    image_similarity,
    quality,
)
from socratic_agents.lab.metrics.metric import Need
from socratic_agents.lab.metrics.pixels import contrast, oracle, sharpness
from socratic_agents.lab.metrics.vqa import checklist, dsg, p_yes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from socratic_agents.config.settings import Settings
    from socratic_agents.lab.metrics.metric import Measure
    from socratic_agents.lab.metrics.models import MetricModels

__all__ = (
    "CAPTIONER",
    "ELSEWHERE",
    "METRICS",
    "ORACLE",
    "POCKET",
    "SEEN",
    "MetricSpec",
    "find_metrics",
    "selecting",
)

ORACLE = "oracle"
"""The pocket world's own: what the pixels really show."""
CAPTIONER = "captioner"
POCKET = "pocket"


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A metric that is not open yet."""

    name: str
    title: str
    """What it tells, in a line."""
    needs: tuple[Need, ...]
    open: Callable[[MetricModels], Measure]
    """Opens what it looks through; blocks, in the worker's thread."""
    higher_is_better: bool | None = True
    """``None``: neither more nor less of it is good in itself."""
    model: Callable[[Settings], str | None] = lambda _settings: None
    """The scorer's name of what it looks through; ``captioner``; or nothing."""
    refuse: Callable[[Settings], str | None] = lambda _settings: None
    """Why it cannot measure what these settings draw; ``None`` if it can."""


def _only_pocket(settings: Settings) -> str | None:
    """Refuse what is drawn outside of the pocket world."""
    if settings.generator == POCKET:
        return None
    return "which knows the pocket world alone"


def _untaught(settings: Settings) -> str | None:
    """Refuse a captioner that says no to whatever it was not taught."""
    if settings.captioner != POCKET:
        return None
    return "a question that the pocket captioner was not taught"


SEEN = (Need.TEXT, Need.IMAGE)
"""What every image of a refinement has."""

METRICS: dict[str, MetricSpec] = {
    one.name: one
    for one in (
        MetricSpec(
            name="clipscore",
            title="CLIPScore as published (OpenAI's ViT-B/32)",
            needs=SEEN,
            open=partial(clipscore, name=PUBLISHED, prefix="A photo depicts "),
            model=lambda _: PUBLISHED,
        ),
        MetricSpec(
            name="clipscore_openclip",
            title="the predecessor's CLIPScore (LAION's ViT-B/32, no prefix)",
            needs=SEEN,
            open=partial(clipscore, name=OPENCLIP, prefix=""),
            model=lambda _: OPENCLIP,
        ),
        MetricSpec(
            name="clipscore_pocket",
            title="the same formula by the pocket scorer",
            needs=SEEN,
            open=partial(clipscore, name=POCKET, prefix=""),
            model=lambda _: POCKET,
            refuse=_only_pocket,
        ),
        MetricSpec(
            name="image_similarity",
            title="likeness to the row's reference image",
            needs=(Need.IMAGE, Need.REFERENCE),
            open=image_similarity,
            model=general_clip,
        ),
        MetricSpec(
            name="caption_similarity",
            title="the caption's words against the user prompt's (chrF)",
            needs=(Need.TEXT, Need.CAPTION),
            open=caption_similarity,
        ),
        MetricSpec(
            name="p_yes",
            title="how surely the captioner says that the image shows the prompt",
            needs=SEEN,
            open=p_yes,
            model=lambda _: CAPTIONER,
            refuse=_untaught,
        ),
        MetricSpec(
            name="dsg",
            title="share of the row's questions passed, by the captioner",
            needs=(Need.IMAGE, Need.QUESTIONS),
            open=dsg,
            model=lambda _: CAPTIONER,
        ),
        MetricSpec(
            name="checklist",
            title="share of the loop's own questions passed, by the captioner",
            needs=(Need.IMAGE, Need.CHECKLIST),
            open=checklist,
            model=lambda _: CAPTIONER,
        ),
        MetricSpec(
            name=ORACLE,
            title="what the pixels of the pocket world really show",
            needs=SEEN,
            open=oracle,
            refuse=_only_pocket,
        ),
        MetricSpec(
            name="quality",
            title="good photo or bad photo, by CLIP",
            needs=(Need.IMAGE,),
            open=quality,
            model=lambda _: PUBLISHED,
        ),
        MetricSpec(
            name="sharpness",
            title="how strongly neighbouring pixels differ",
            needs=(Need.IMAGE,),
            open=sharpness,
            higher_is_better=None,
        ),
        MetricSpec(
            name="contrast",
            title="how far light and dark are apart",
            needs=(Need.IMAGE,),
            open=contrast,
            higher_is_better=None,
        ),
        MetricSpec(
            name="diversity",
            title="how much images change between rounds",
            needs=(Need.ROUNDS,),
            open=diversity,
            higher_is_better=None,
            model=general_clip,
        ),
    )
}
"""Every metric of single images, by its name."""

_ALONE = (
    "does not install beside this package; run it in an environment of its own "
    "({what}), and read its values with Scores.from_json, see docs/metrics.md"
)
_SETS = "is of whole sets of images; use evaluate_set, see docs/metrics.md"
ELSEWHERE: dict[str, str] = {
    "image_reward": _ALONE.format(what="pip install image-reward, which pins timm"),
    "pick_score": _ALONE.format(what="transformers below 5"),
    "hps": _ALONE.format(what="pip install hpsv2, which pins protobuf"),
    "fid": _SETS,
    "inception_score": _SETS,
}
"""What is no metric here, by its name, and what to do instead."""


def find_metrics(names: Sequence[str], settings: Settings) -> tuple[MetricSpec, ...]:
    """Return the metrics of these names; nothing is opened.

    Args:
        names: Each once, in any order; see ``METRICS``.
        settings: What draws the images.

    Raises:
        ConfigurationError: If there is no such metric, it is named twice, or it cannot
            measure what these settings draw.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        message = f"expected each metric once, got {', '.join(twice)} twice; drop one"
        raise ConfigurationError(message)
    return tuple(_found(name, settings) for name in names)


def selecting(kinds: Sequence[MetricSpec], settings: Settings) -> tuple[str, ...]:
    """Return the names of the metrics whose model selects in the loop.

    What selects looks better than it is by its own measure, so these may describe a
    loop, and are no evidence for it.

    Args:
        kinds: Metrics of ``find_metrics``.
        settings: Of the loop.
    """
    from socratic_agents.agents.registry import find_roles

    answerer = find_roles(settings).answerer
    looks = answerer is not None and answerer.needs_captioner
    return tuple(
        kind.name
        for kind in kinds
        for model in [kind.model(settings)]
        if model is not None
        and (model == settings.scorer or (looks and model == CAPTIONER))
    )


def _found(name: str, settings: Settings) -> MetricSpec:
    if name in ELSEWHERE:
        message = (
            f"expected a metric of single images, got {name!r}, which {ELSEWHERE[name]}"
        )
        raise ConfigurationError(message)
    if name not in METRICS:
        close = difflib.get_close_matches(name.lower(), list(METRICS), n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else "name one of these"
        message = f"expected a metric ({', '.join(METRICS)}), got {name!r}; {hint}"
        raise ConfigurationError(message)
    kind = METRICS[name]
    reason = kind.refuse(settings)
    if reason is not None:
        message = (
            f"expected a metric that can measure what these settings draw, got {name!r}, "
            f"{reason}; name another one"
        )
        raise ConfigurationError(message)
    return kind
