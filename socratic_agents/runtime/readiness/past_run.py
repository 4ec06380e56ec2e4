"""Past run: what the images of a run have shown of its models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socratic_agents.core.outcome import Refinement
from socratic_agents.core.spread import mean_spread
from socratic_agents.runtime.readiness.finding import Finding
from socratic_agents.storage.results import read_outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ("run_findings",)


def run_findings(folder: Path) -> Iterator[Finding]:
    """Say how much the seed changed the images of a run.

    Args:
        folder: Its directory.

    Raises:
        ConfigurationError: If it holds no results, or corrupt ones.
    """
    outcomes = read_outcomes(folder)
    spread = mean_spread(
        one.seed_spread for one in outcomes if isinstance(one, Refinement)
    )
    if spread is None:
        text = "not known: no prompt of this run was drawn from several seeds"
        yield Finding("ok", "seed spread", text)
        return
    text = (
        f"two images of one prompt differ by {spread.pixels:.3f} of 1, by "
        f"{spread.images} images of {spread.prompts} prompts"
    )
    if spread.little:
        text += "; another seed brings little, so leave seeds_per_prompt at 1"
    yield Finding("warning" if spread.little else "ok", "seed spread", text)
