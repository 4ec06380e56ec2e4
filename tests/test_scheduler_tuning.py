"""The scheduler's tunables: documented, checked, and handed in rather than read."""

from __future__ import annotations

import ast
import inspect
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.scheduler.cost_curve import CostCurve
from socratic_agents.scheduler.policy import BatchPolicy, RunBatch
from socratic_agents.scheduler.queues import QueueItem
from socratic_agents.scheduler.tuning import DEFAULT_TUNING, SchedulerTuning

DOCS = Path(__file__).parent.parent / "docs" / "performance.md"


def documented() -> str:
    """Return the table of all tunables, as the documentation shows it."""
    tree = ast.parse(inspect.getsource(SchedulerTuning)).body[0]
    assert isinstance(tree, ast.ClassDef)
    names = [
        one.target.id
        for one in tree.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    ]
    reasons = [
        ast.literal_eval(one.value)
        for one in tree.body[1:]
        if isinstance(one, ast.Expr)
    ]
    whys = dict(zip(names, reasons, strict=True))
    rows = ["| tunable | default | unit | range | why |", "|---|---|---|---|---|"]
    for one in fields(SchedulerTuning):
        facts, high = one.metadata, one.metadata["high"]
        limits = f"≥ {facts['low']}" if high == math.inf else f"{facts['low']}-{high}"
        why = " ".join(whys[one.name].split())
        cells = (f"`{one.name}`", one.default, facts["unit"], limits, why)
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows)


def test_the_documentation_shows_every_tunable() -> None:
    """With today's default, its unit, its range and why; the test prints the table."""
    assert documented() in DOCS.read_text("utf-8"), f"put this there:\n{documented()}"


@pytest.mark.parametrize("name", [one.name for one in fields(SchedulerTuning)])
def test_every_tunable_is_used_and_has_a_range(name: str) -> None:
    """One that nothing reads would be a promise that is not kept."""
    package = Path(__file__).parent.parent / "socratic_agents" / "scheduler"
    sources = [p.read_text("utf-8") for p in package.glob("*.py")]
    assert any(re.search(rf"tuning\.{name}\b", source) for source in sources)
    facts = next(one.metadata for one in fields(SchedulerTuning) if one.name == name)
    wrong = [facts["low"] - 1] + [facts["high"] + 1] * (facts["high"] < math.inf)
    for value in [*wrong, math.nan]:
        with pytest.raises(ConfigurationError, match=f"expected {name} from"):
            replace(DEFAULT_TUNING, **{name: value})


@pytest.mark.parametrize(("factor", "size"), [(1.005, 4), (1.5, 2)])
def test_what_is_handed_in_decides(factor: float, size: int) -> None:
    """Batches stop growing earlier where more is tolerated."""
    tuning = SchedulerTuning(best_size_factor=factor, good_size_factor=factor)
    curve = CostCurve((1.0, 1.25, 1.5, 1.75), tuning)
    policy = BatchPolicy[int](tuning)
    for number in range(4):
        item = QueueItem(number, number, number)
        policy.add(item, stage="images", max_batch=4, curve=curve)
    decision = policy.decide(0.0)
    assert isinstance(decision, RunBatch)
    assert size == curve.best_size == len(decision.items)
