"""Metrics by CLIP: match of text and image, likeness to others, look, diversity."""

from __future__ import annotations

import asyncio
import itertools
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.metrics.metric import (
    POCKET,
    SEEN,
    SHARE,
    Measure,
    MetricSpec,
    Need,
    only_pocket,
)
from socratic_agents.lab.metrics.scores import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from socratic_agents.config.settings import Settings
    from socratic_agents.lab.metrics.models import MetricModels
    from socratic_agents.lab.metrics.scores import Subject

__all__ = (
    "OPENCLIP",
    "PUBLISHED",
    "clipscore",
    "diversity",
    "general_clip",
    "image_similarity",
    "quality",
)

PUBLISHED = "ViT-B-32-quickgelu/openai"
"""Whose score is called CLIPScore (Hessel et al., EMNLP 2021, section 3)."""
OPENCLIP = "ViT-B-32/laion2b_s34b_b79k"
"""With what the predecessor's scores were measured, without a prefix."""

PHOTOS = ("Good photo.", "Bad photo.")
"""Source: J. Wang et al., CLIP-IQA (AAAI 2023), section 3.2."""
SCALE = 100.0
"""By which CLIP's cosines are multiplied before a softmax, as it was trained."""

W = 2.5
"""Stretches CLIPScore to about [0, 1]; W of the paper."""
SCORE = (0.0, W)
"""Bounds of CLIPScore."""


def general_clip(settings: Settings) -> str:
    """Return the CLIP model that knows what the generator draws."""
    return "pocket" if settings.generator == "pocket" else PUBLISHED


def clipscore(models: MetricModels, *, name: str, prefix: str, w: float = W) -> Measure:
    """Return ``w * max(cos(prefix + user prompt, image), 0)`` by a model.

    Source: Hessel et al., CLIPScore (EMNLP 2021), section 3.
    """
    from socratic_agents.models.clip import clip_scores

    clip = models.clip(name)

    async def measure(subject: Subject) -> Value:
        text, image = await asyncio.gather(
            clip.text(prefix + subject.user_prompt),
            clip.image(subject.image),
        )
        (score,) = clip_scores(text.vector[None], image[None], w=w)
        note = "the end of a long prompt was not read" if text.cut else None
        return Value(value=float(score), note=note)

    record = {**clip.record, "prefix": prefix, "w": w, "text": "user prompt"}
    return Measure(record=record, measure=measure)


def image_similarity(models: MetricModels) -> Measure:
    """Return the cosine of the image and the row's reference image, in [-1, 1]."""
    clip = models.clip(general_clip(models.settings))

    async def measure(subject: Subject) -> float:
        reference = subject.row.reference if subject.row else None
        path = _reference(str(reference), models.references)
        ours, theirs = await asyncio.gather(clip.image(subject.image), clip.file(path))
        return _cosine(ours, theirs)

    record = {**clip.record, "against": "the row's reference image"}
    return Measure(record=record, measure=measure)


def quality(models: MetricModels) -> Measure:
    """Return how much likelier an image is a good photo than a bad one, in [0, 1].

    The softmax of the cosines with two texts. It is made like CLIP-IQA, which has
    another model, so the two must not be compared.

    Source: J. Wang, K. Chan, C. Loy, "Exploring CLIP for Assessing the Look and Feel of
    Images" (AAAI 2023), section 3.2.
    """
    clip = models.clip(PUBLISHED)

    async def measure(subject: Subject) -> float:
        image, good, bad = await asyncio.gather(
            clip.image(subject.image), *(clip.text(text) for text in PHOTOS)
        )
        ahead = _cosine(image, good.vector) - _cosine(image, bad.vector)
        return 1 / (1 + math.exp(-SCALE * ahead))

    record = {**clip.record, "texts": list(PHOTOS), "scale": SCALE}
    return Measure(record=record, measure=measure)


def diversity(models: MetricModels) -> Measure:
    """Return the mean of 1 - cosine over pairs of images of different rounds.

    Images of one round are not compared: they differ by what the round tried, and
    would count as a change between rounds. It lies in [0, 2].
    """
    clip = models.clip(general_clip(models.settings))

    async def measure(subject: Subject) -> Value:
        rounds = subject.history.rounds if subject.history else ()
        images = [
            [c.image for c in round_.candidates if c.image is not None]
            for round_ in rounds
        ]
        drawn = [some for some in images if some]
        if len(drawn) < 2:
            return Value.missing("fewer than two rounds with an image")
        vectors = [
            await asyncio.gather(*(clip.image(image) for image in some))
            for some in drawn
        ]
        apart = [
            1 - _cosine(one, other)
            for first, second in itertools.combinations(vectors, 2)
            for one, other in itertools.product(first, second)
        ]
        lost = sum(c.image is None for round_ in rounds for c in round_.candidates)
        note = f"{lost} of its images are not there" if lost else None
        return Value(value=math.fsum(apart) / len(apart), note=note)

    record = {**clip.record, "pairs": "between rounds"}
    return Measure(record=record, measure=measure)


def _cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    from socratic_agents.models.clip import cosines

    (cosine,) = cosines(a[None], b[None]).clip(-1.0, 1.0)
    return float(cosine)


def _reference(reference: str, folder: Path | None) -> Path:
    """Return the file of a reference image.

    Raises:
        ConfigurationError: If it is an address, and no folder holds its image.
    """
    address = urlsplit(reference)
    web = address.scheme in {"http", "https"}
    if folder is not None:
        return folder / Path(address.path if web else reference).name
    if web:
        message = (
            "its reference image is an address; put the images into a folder and name "
            "it as 'references'"
        )
        raise ConfigurationError(message)
    return Path(reference)


CLIP_METRICS = (
    MetricSpec(
        name="clipscore",
        title="CLIPScore as published (OpenAI's ViT-B/32)",
        needs=SEEN,
        open=partial(clipscore, name=PUBLISHED, prefix="A photo depicts "),
        bounds=SCORE,
        model=lambda _: PUBLISHED,
    ),
    MetricSpec(
        name="clipscore_openclip",
        title="the predecessor's CLIPScore (LAION's ViT-B/32, no prefix)",
        needs=SEEN,
        open=partial(clipscore, name=OPENCLIP, prefix=""),
        bounds=SCORE,
        model=lambda _: OPENCLIP,
    ),
    MetricSpec(
        name="clipscore_pocket",
        title="the same formula by the pocket scorer",
        needs=SEEN,
        open=partial(clipscore, name=POCKET, prefix=""),
        bounds=SCORE,
        model=lambda _: POCKET,
        refuse=only_pocket,
    ),
    MetricSpec(
        name="image_similarity",
        title="likeness to the row's reference image",
        needs=(Need.IMAGE, Need.REFERENCE),
        open=image_similarity,
        bounds=(-1.0, 1.0),
        model=general_clip,
    ),
    MetricSpec(
        name="quality",
        title="good photo or bad photo, by CLIP",
        needs=(Need.IMAGE,),
        open=quality,
        bounds=SHARE,
        model=lambda _: PUBLISHED,
    ),
    MetricSpec(
        name="diversity",
        title="how much images change between rounds",
        needs=(Need.ROUNDS,),
        open=diversity,
        bounds=(0.0, 2.0),
        higher_is_better=None,
        model=general_clip,
    ),
)
