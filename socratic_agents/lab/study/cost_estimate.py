"""The forecast of a study: what it may cost at most, and how long that takes."""

from __future__ import annotations

import json
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from socratic_agents.runtime.cost_estimate import worst_case
from socratic_agents.scheduler.cost_model import UNREADABLE, cache_file
from socratic_agents.storage.files import read_file

if TYPE_CHECKING:
    from pathlib import Path

    from socratic_agents.lab.study.plan import StudyPlan

__all__ = ("forecast_study", "seconds_each")

AMOUNTS = ("images", "llm_calls", "tokens", "money")
VOICES = ("generator", "captioner", "scorer")
"""Stages that every image passes; those who answer questions are left out, because
nobody knows how many there will be."""


def forecast_study(plan: StudyPlan, *, curves: Path | None = None) -> dict[str, Any]:
    """Return what a study may cost at most, as JSON, with ``lines`` for people.

    Nothing is opened for that.

    Args:
        plan: As from ``plan_study``.
        curves: The file of measured calls; ``None``: the user's own.
    """
    n, repeats = len(plan.prompts), len(plan.seeds)
    arms = {}
    for arm in plan.arms:
        each = worst_case(arm.settings).total(n).to_json(1)
        arms[arm.name] = {
            key: None if each[key] is None else each[key] * repeats for key in AMOUNTS
        }
    total: dict[str, Any] = {
        key: None
        if any(arm[key] is None for arm in arms.values())
        else sum(arm[key] for arm in arms.values())
        for key in AMOUNTS
    }
    limits = plan.run_budget.limits()
    for key, limit in limits.items():
        if key in total and (total[key] is None or limit < total[key]):
            total[key] = limit
    each_takes = seconds_each(plan, curves or cache_file())
    seconds = each_takes and round(each_takes * total["images"], 1)
    total["seconds"] = seconds
    shown = _smallest(n)
    return {
        "study": plan.name,
        "prompts": n,
        "arms": arms,
        "total": total,
        "limited_by_run_budget": sorted(limits),
        "smallest_effect": shown,
        "lines": [
            f"{plan.name}: {n} prompts, {len(arms)} arms, {repeats} seeds",
            *(
                f"{name}: at most {_in_words(amounts)}"
                for name, amounts in arms.items()
            ),
            f"in all at most {_in_words(total)}",
            "what several arms draw alike is drawn once",
            _time_in_words(seconds),
            f"{n} prompts show a difference of {shown:.2f} of its spread with 80 % power",
        ],
    }


def seconds_each(plan: StudyPlan, curves: Path) -> float | None:
    """Return the seconds of one image, drawn and looked at, as measured before.

    Args:
        plan: Names the models.
        curves: The file in which measured calls are kept.
    """
    try:
        kept = json.loads(read_file(curves))["curves"]
        best: dict[str, float] = {}
        for one in kept:
            name = one["stage"]
            model = getattr(plan.base, name, None) if name in VOICES else None
            if model is None or str(one["model"]).partition(",")[0] != str(model):
                continue
            least = min(float(s) / int(size) for size, s in one["seconds"].items())
            best[name] = min(least, best.get(name, least))
    except UNREADABLE:
        return None
    return sum(best.values()) if "generator" in best else None


def _smallest(n: int) -> float:
    """Return the difference that n pairs show with 80 % power, in its own spread."""
    normal = NormalDist()
    reach = normal.inv_cdf(0.975) + normal.inv_cdf(0.8)
    return float(reach / n**0.5)


def _in_words(amounts: dict[str, Any]) -> str:
    named = {
        "images": "images",
        "llm_calls": "calls of the language model",
        "tokens": "tokens",
        "money": "of money",
    }
    known = [
        f"{amounts[key]:,.10g} {name}"
        for key, name in named.items()
        if amounts.get(key) is not None
    ]
    return ", ".join(known)


def _time_in_words(seconds: float | None) -> str:
    if seconds is None:
        return "how long that takes is not known: nothing was drawn with this model yet"
    return (
        f"at most about {seconds / 60:,.1f} minutes of the image models, by what calls "
        "took before, without the time of the language model"
    )
