"""Spread: how much the images of one prompt differ from seed to seed.

Distilled models draw nearly the same image from every seed. There, another seed brings
little, and another wording brings more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from PIL.Image import Image

    from socratic_agents.core.history import Candidate

__all__ = ("SeedSpread", "mean_spread", "measure_spread")

SIDE = 16
"""Pixels of a side to which images are scaled down: what is left is the composition."""
LITTLE = 0.05
"""Images that differ by less hardly vary: two that have nothing in common differ by 0.2
and more, and the grain of one composition by 0.02."""


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """How much images of one prompt from different seeds differ."""

    pixels: float
    """Mean absolute difference of two such images, scaled down to 16 by 16 pixels, from
    0 (the same) to 1 (one black, one white); a prompt counts as much as another."""
    scores: float | None
    """Mean absolute difference of their ranking scores, in the score's own unit; ``None``
    where no two were scored."""
    prompts: int
    """Prompts that were drawn from several seeds, at least 1."""
    images: int
    """Images of these prompts, at least 2."""

    @property
    def little(self) -> bool:
        """Whether another seed hardly makes a difference."""
        return self.pixels < LITTLE

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "pixels": self.pixels,
            "scores": self.scores,
            "prompts": self.prompts,
            "images": self.images,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SeedSpread:
        """Read the JSON form."""
        return cls(**data)


def measure_spread(candidates: Iterable[Candidate]) -> SeedSpread | None:
    """Return how much the images of one prompt differ; ``None``: none was drawn twice.

    Args:
        candidates: Of any prompts; those without an image in memory are passed over.
    """
    by_prompt: defaultdict[tuple[str, bool], dict[int, tuple[Image, float | None]]]
    by_prompt = defaultdict(dict)
    for one in candidates:
        if one.usable and one.image is not None:
            by_prompt[one.prompt, one.final].setdefault(
                one.seed, (one.image, one.score)
            )
    groups = [list(group.values()) for group in by_prompt.values() if len(group) > 1]
    spreads = [
        SeedSpread(
            pixels=_pixel_spread([image for image, _ in group]),
            scores=_difference([score for _, score in group if score is not None]),
            prompts=1,
            images=len(group),
        )
        for group in groups
    ]
    return mean_spread(spreads)


def mean_spread(spreads: Iterable[SeedSpread | None]) -> SeedSpread | None:
    """Return what several measurements say together; ``None``: there is none.

    Args:
        spreads: Of different prompts.
    """
    known = [one for one in spreads if one is not None]
    if not known:
        return None
    prompts = sum(one.prompts for one in known)
    scored = [(one.scores, one.prompts) for one in known if one.scores is not None]
    weight = sum(number for _, number in scored)
    return SeedSpread(
        pixels=sum(one.pixels * one.prompts for one in known) / prompts,
        scores=sum(s * number for s, number in scored) / weight if weight else None,
        prompts=prompts,
        images=sum(one.images for one in known),
    )


def _pixel_spread(images: Iterable[Image]) -> float:
    small = [one.convert("RGB").resize((SIDE, SIDE)).tobytes() for one in images]
    columns = list(zip(*small, strict=True))
    return sum(_difference(column) or 0.0 for column in columns) / len(columns) / 255


def _difference(values: Sequence[float]) -> float | None:
    """Return the mean absolute difference of two of the values; ``None``: too few."""
    count = len(values)
    if count < 2:  # noqa: PLR2004 - a pair
        return None
    # In ascending order, each is subtracted by those above and added by those below.
    ordered = enumerate(sorted(values))
    total = sum((2 * place - count + 1) * value for place, value in ordered)
    return total * 2 / (count * (count - 1))
