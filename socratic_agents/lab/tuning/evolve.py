"""Evolution of a template: its blocks rewritten by reflection, and held to a test.

The gain of our own loop is what is optimized; what comes out is accepted only if it
gains on prompts that nobody has seen before.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.stats.bootstrap import Difference, paired_difference
from socratic_agents.lab.tuning.gepa_adapter import search

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from socratic_agents.lab.tuning.gepa_adapter import Rollout

__all__ = ("Evolution", "Split", "evolve", "split")

FEWEST = 2
"""Prompts of each part of the split at least."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Places of the prompts: to learn from, to choose by, and to be tested on."""

    learn: tuple[int, ...]
    choose: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """What came of it."""

    accepted: bool
    blocks: Mapping[str, str]
    """The best by the prompts to choose by; the first ones, if nothing was better."""
    changed: tuple[str, ...]
    difference: Difference
    """Gain of the best minus that of the first template, on the prompts to test on."""
    excluded: int
    """Of these, the prompts without both gains."""
    candidates: int
    rollouts: int
    split: Split
    reason: str
    """Why it was accepted, or not."""
    tried: tuple[float, ...] = field(default=())
    """Mean gain of every candidate that was kept, on the prompts to choose by."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        one = self.difference
        return {
            "accepted": self.accepted,
            "reason": self.reason,
            "changed": list(self.changed),
            "blocks": dict(self.blocks),
            "held_out": {
                "mean": one.mean,
                "ci": [one.low, one.high],
                "win": one.win,
                "tie": one.tie,
                "loss": one.loss,
                "n": one.n,
                "excluded": self.excluded,
            },
            "candidates": self.candidates,
            "rollouts": self.rollouts,
            "split": {name: list(places) for name, places in vars(self.split).items()},
            "tried": list(self.tried),
        }


def split(prompts: Sequence[str], *, test: float = 0.5) -> Split:
    """Split prompts by their hashes: the same prompt is always on the same side.

    Args:
        prompts: At least 6 different ones.
        test: Share that is held out, above 0 and below 1; what is left is halved.

    Raises:
        ConfigurationError: If there are too few.
    """
    if len(set(prompts)) < 3 * FEWEST:
        message = (
            f"expected at least {3 * FEWEST} different prompts to evolve with, got "
            f"{len(set(prompts))}; take more"
        )
        raise ConfigurationError(message)
    first = {prompt: place for place, prompt in reversed([*enumerate(prompts)])}
    order = sorted(first, key=lambda text: hashlib.sha256(text.encode()).digest())
    places = [first[text] for text in order]
    held = min(max(FEWEST, math.ceil(test * len(places))), len(places) - 2 * FEWEST)
    seen = places[held:]
    half = len(seen) // 2
    return Split(
        learn=tuple(seen[:half]), choose=tuple(seen[half:]), test=tuple(places[:held])
    )


def evolve(
    blocks: Mapping[str, str],
    prompts: Sequence[str],
    *,
    run: Callable[[Mapping[str, str], Sequence[int]], list[Rollout]],
    reflect: Callable[[str], str],
    rollouts: int,
    seed: int = 0,
) -> Evolution:
    """Rewrite the blocks of a template, and accept them only on a held-out gain.

    Args:
        blocks: Of the template as it is.
        prompts: What to refine.
        run: Refines the prompts at these places with these blocks; raises a
            ``TemplateError`` if they make no good template.
        reflect: The language model that writes new blocks: text in, text out.
        rollouts: Refinements to spend on the search, at least as many as there are
            prompts to choose by; the test comes on top.
        seed: Of the search.

    Raises:
        ConfigurationError: If gepa is not installed, there are no blocks, or there are
            too few prompts or rollouts.

    Source: L. Agrawal et al., "GEPA: Reflective Prompt Evolution Can Outperform
    Reinforcement Learning", arXiv:2507.19457, 2025, through the package ``gepa``.
    """
    parts = split(prompts)
    if not blocks:
        message = (
            "expected a template with blocks to evolve, got one without; take in_blocks "
            "or predecessor, or name blocks in your own"
        )
        raise ConfigurationError(message)
    if rollouts < len(parts.choose) + FEWEST:
        message = (
            f"expected at least {len(parts.choose) + FEWEST} rollouts, since "
            f"{len(parts.choose)} prompts are chosen by, got {rollouts}; spend more"
        )
        raise ConfigurationError(message)
    found = search(
        blocks,
        parts.learn,
        parts.choose,
        run=run,
        reflect=reflect,
        rollouts=rollouts,
        seed=seed,
    )
    best: dict[str, str] = dict(found.best_candidate)
    changed = tuple(name for name in blocks if best[name] != blocks[name])
    spent = int(found.total_metric_calls or 0)
    tried = tuple(float(score) for score in found.val_aggregate_scores)
    before = _gains(run(blocks, parts.test)) if changed else {}
    after = _gains(run(best, parts.test)) if changed else {}
    difference = paired_difference(after, before, seed=seed)
    accepted = difference.sign == 1
    return Evolution(
        accepted=accepted,
        blocks=best,
        changed=changed,
        difference=difference,
        excluded=len(parts.test) - difference.n if changed else 0,
        reason=_reason(difference, changed, accepted=accepted),
        tried=tried,
        candidates=len(found.candidates),
        rollouts=spent,
        split=parts,
    )


def _reason(difference: Difference, changed: Sequence[str], *, accepted: bool) -> str:
    if not changed:
        return "rejected: no other template was better on the prompts to choose by"
    ends = "no interval"
    if difference.low is not None and difference.high is not None:
        ends = f"95 % interval {difference.low:+.4f} to {difference.high:+.4f}"
    mean = "unknown" if difference.mean is None else f"{difference.mean:+.4f}"
    text = (
        f"held-out gain {mean}, {ends}; {difference.win} won, {difference.tie} tied, "
        f"{difference.loss} lost"
    )
    verdict = "accepted" if accepted else "rejected, since that can be chance"
    return f"{verdict}: {text}"


def _gains(rollouts: Sequence[Rollout]) -> dict[int, float | None]:
    return {place: one.gain for place, one in enumerate(rollouts)}
