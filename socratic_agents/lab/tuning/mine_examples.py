"""The harvest: good rewrites of a run, as examples for the next one."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.outcome import Refinement
from socratic_agents.lab.study.folder import MANIFEST, StudyFolder
from socratic_agents.storage.results import read_outcomes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from socratic_agents.core.outcome import Failure

__all__ = ("Harvested", "as_bank", "harvest", "harvest_folder")


@dataclass(frozen=True, kw_only=True)
class Harvested:
    """One rewrite that was worth it."""

    user_prompt: str
    caption: str
    """What the first image showed."""
    prompt: str
    """The rewrite whose image is the best."""
    gain: float
    """Of that image over the first one, by the score that ranks."""
    score: str
    """The name of that score."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, which is a line of a bank."""
        return {
            "user_prompt": self.user_prompt,
            "caption": self.caption,
            "prompt": self.prompt,
            "gain": round(self.gain, 6),
            "score": self.score,
        }


def harvest(
    outcomes: Iterable[Refinement | Failure], *, min_gain: float = 0.05
) -> tuple[Harvested, ...]:
    """Return the best rewrite of each user prompt, the largest gain first.

    Args:
        outcomes: Of one run, or of several with the same score.
        min_gain: What it must gain over the first image, by the score that ranked the
            images, above 0.
    """
    best: dict[str, Harvested] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Refinement):
            continue
        first, found = outcome.history.candidates[0], outcome.best
        score = next(iter(found.scores), None)
        if score is None or score not in first.scores:
            continue
        gain = found.scores[score] - first.scores[score]
        same = found.prompt.split() == outcome.user_prompt.split()
        if same or not math.isfinite(gain) or gain < min_gain:
            continue
        one = Harvested(
            user_prompt=outcome.user_prompt,
            caption=first.caption or "",
            prompt=found.prompt,
            gain=gain,
            score=score,
        )
        known = best.get(one.user_prompt)
        if known is None or known.gain < gain:
            best[one.user_prompt] = one
    # Sorting keeps the order of equals, so that a bank is always the same.
    return tuple(sorted(best.values(), key=lambda one: -one.gain))


def harvest_folder(
    folder: Path, *, min_gain: float = 0.05, arm: str | None = None
) -> tuple[Harvested, ...]:
    """Return the good rewrites of a run directory, or of a study.

    Args:
        folder: Of ``socratic batch`` or ``socratic lab run``.
        min_gain: As for ``harvest``.
        arm: Of a study, whose rewrites alone to take; ``None``: of all.

    Raises:
        ConfigurationError: If it is neither, or has no such arm.
    """
    if not (folder / MANIFEST).exists():
        if arm is not None:
            message = (
                f"expected --arm with the folder of a study, got {arm!r} with {folder}, "
                "which is none; leave it out"
            )
            raise ConfigurationError(message)
        return harvest(read_outcomes(folder), min_gain=min_gain)
    study = StudyFolder(folder)
    runs = study.runs(study.manifest())
    names = list(dict.fromkeys(run.arm for run in runs))
    if arm is not None and arm not in names:
        message = (
            f"expected an arm of {', '.join(names)}, got {arm!r}; name one of these"
        )
        raise ConfigurationError(message)
    outcomes = [
        outcome
        for run in runs
        if arm in {None, run.arm}
        for outcome in run.outcomes.values()
    ]
    return harvest(outcomes, min_gain=min_gain)


def as_bank(found: Sequence[Harvested], *, ending: str) -> bytes:
    """Return a bank's file: lines of JSON, or YAML with ``examples``.

    Args:
        found: What is in it.
        ending: ``.jsonl``, ``.yaml`` or ``.yml``.

    Raises:
        ConfigurationError: If it is another one.
    """
    if ending == ".jsonl":
        return "".join(f"{json.dumps(one.to_json())}\n" for one in found).encode()
    if ending in {".yaml", ".yml"}:
        examples = [one.to_json() for one in found]
        text = yaml.safe_dump(
            {"examples": examples}, sort_keys=False, allow_unicode=True, width=1000
        )
        return text.encode("utf-8", "replace")
    message = (
        f"expected --out with a name such as bank.jsonl or bank.yaml, got {ending!r}"
    )
    raise ConfigurationError(message)
