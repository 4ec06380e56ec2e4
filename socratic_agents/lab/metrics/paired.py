"""Paired tests: whether two arms differ on the same prompts, and in a family of tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import stdev
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.metrics.scores import same_record
from socratic_agents.lab.stats.bootstrap import Difference, paired_difference
from socratic_agents.lab.stats.permutation import holm, sign_flip_test
from socratic_agents.lab.stats.power import smallest_effect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from socratic_agents.lab.metrics.scores import Scores

__all__ = ("PairedTest", "compare_scores", "with_holm")


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """One arm set beside another by one metric."""

    metric: str
    record: Mapping[str, Any]
    difference: Difference
    """Ours minus theirs with its BCa interval, wins, ties and losses."""
    p: float | None
    """Of the sign-flip test, two-sided; ``None`` if there are no pairs."""
    exact: bool
    excluded: int
    """Prompts that at least one side has no value of."""
    p_holm: float | None = None
    """The same, adjusted for its family; ``None`` until ``with_holm``."""
    smallest: float | None = None
    """True mean difference that this many pairs show with 80 % power, by the normal
    approximation; ``None`` if there are fewer than two pairs."""


def compare_scores(
    ours: Scores, theirs: Scores, *, seed: int = 0, margin: float = 1e-9
) -> PairedTest:
    """Set two arms' scores on the same prompts beside each other.

    Args:
        ours: One value a prompt.
        theirs: The other arm's, on the same prompts in the same order.
        seed: Of the resampling.
        margin: In units of the metric; values as close as this are a tie.

    Raises:
        ConfigurationError: If they are of another metric or record, or are not of the
            same number of prompts.
    """
    same_record((ours, theirs))
    if len(ours.values) != len(theirs.values):
        message = (
            f"expected scores of the same prompts, got {len(ours.values)} and "
            f"{len(theirs.values)} values; measure both arms on all prompts"
        )
        raise ConfigurationError(message)
    one = {index: v.value for index, v in enumerate(ours.values)}
    other = {index: v.value for index, v in enumerate(theirs.values)}
    difference = paired_difference(one, other, seed=seed, margin=margin)
    differences = [
        0.0 if abs(a - b) <= margin else a - b
        for a, b in zip(one.values(), other.values(), strict=True)
        if a is not None and b is not None
    ]
    flips = sign_flip_test(differences, seed=seed)
    return PairedTest(
        metric=ours.metric,
        record=ours.record,
        difference=difference,
        p=flips.p,
        exact=flips.exact,
        excluded=len(one) - difference.n,
        smallest=_smallest(differences),
    )


def with_holm(tests: Mapping[str, PairedTest]) -> dict[str, PairedTest]:
    """Return the tests of one family with their adjusted p values."""
    adjusted = holm({name: one.p for name, one in tests.items()})
    return {name: replace(one, p_holm=adjusted[name]) for name, one in tests.items()}


def _smallest(differences: Sequence[float]) -> float | None:
    if len(differences) < 2:
        return None
    return smallest_effect(stdev(differences), len(differences))
