"""Evolution within a study: candidates are arms, and keep what they have done."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.lab.study.folder import StudyFolder, manifest_of
from socratic_agents.lab.study.run import measure_arms, refine_arm
from socratic_agents.lab.study.template_variants import variant
from socratic_agents.lab.study.trajectory import trajectory_of
from socratic_agents.lab.tuning.evolve import Evolution, evolve
from socratic_agents.lab.tuning.gepa_adapter import Rollout
from socratic_agents.llm.template_files import find_template
from socratic_agents.storage.files import write_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from socratic_agents.lab.study.arms import PlannedArm
    from socratic_agents.lab.study.plan import StudyPlan
    from socratic_agents.lab.study.run import StudyContext

__all__ = ("evolve_study",)

OURS = "optimizer"
FOUND, RECORD = "evolved.yaml", "evolution.json"


def evolve_study(
    plan: StudyPlan,
    path: Path,
    *,
    by: StudyContext,
    reflect: Callable[[str], str],
    rollouts: int,
    arm: str | None = None,
) -> Evolution:
    """Evolve the optimizer's template of one arm, by the gain in the main metric.

    What is found lies in the folder, also if it was rejected. Candidates that were run
    before are not run again.

    Args:
        plan: Whose prompts, main metric and first seed are taken.
        path: A folder of its own.
        by: What it needs of its surroundings.
        reflect: As for ``evolve``.
        rollouts: As for ``evolve``.
        arm: Its name; ``None``: the first whose template has blocks.

    Raises:
        ConfigurationError: If there is no such arm, or as ``evolve`` says.
    """
    start = _start(plan, arm)
    name = start.settings.optimizer_template
    blocks = dict(find_template(OURS, name).blocks)
    folder = StudyFolder(path)
    alone = replace(start, continued_by=None)  # no other arm lies in the folder
    of_one = replace(plan, arms=(alone,), against=alone.name)
    folder.begin(manifest_of(of_one, by.command))

    def run(texts: Mapping[str, str], places: Sequence[int]) -> list[Rollout]:
        feedback = json.dumps([name, dict(texts)], sort_keys=True).encode()
        candidate = replace(
            start,
            name=f"candidate-{hashlib.sha256(feedback).hexdigest()[:12]}",
            template=variant(OURS, name, blocks=texts),
        )
        return _rollouts(plan, folder, candidate, places, by)

    found = evolve(
        blocks,
        [prompt.row.text for prompt in plan.prompts],
        run=run,
        reflect=reflect,
        rollouts=rollouts,
        seed=plan.seeds[0],
    )
    text = json.dumps(found.to_json(), indent=1, allow_nan=False)
    template = variant(OURS, name, blocks=found.blocks)
    write_files(path, {RECORD: f"{text}\n".encode(), FOUND: template.encode()})
    return found


def _start(plan: StudyPlan, name: str | None) -> PlannedArm:
    arms = {
        arm.name: arm
        for arm in plan.arms
        if arm.settings.optimizer == "llm"
        and find_template(OURS, arm.settings.optimizer_template).blocks
        and arm.template is None
    }
    if not arms or (name is not None and name not in arms):
        came = "none" if name is None else repr(name)
        message = (
            "expected an arm whose optimizer's template has blocks "
            f"({', '.join(arms) or 'there is none'}), got {came}; set "
            "optimizer_template to in_blocks or to one of your own"
        )
        raise ConfigurationError(message)
    return arms[name] if name is not None else next(iter(arms.values()))


def _rollouts(
    plan: StudyPlan,
    folder: StudyFolder,
    arm: PlannedArm,
    places: Sequence[int],
    by: StudyContext,
) -> list[Rollout]:
    seed, metric = plan.seeds[0], plan.metrics[0].name
    one = replace(plan, seeds=(seed,))
    refine_arm(one, folder, arm, seed, by=by, places=places)
    if by.interruption.code:
        raise KeyboardInterrupt
    by.interruption.run(measure_arms(one, folder, (arm,), report=lambda _: None))
    outcomes = folder.outcomes(arm.name, seed)
    values, found, at = folder.scores(arm.name, seed)[metric].values, {}, 0
    for place, outcome in sorted(outcomes.items()):
        if isinstance(outcome, Failure):
            continue
        size = len(outcome.history.candidates)
        trajectory = trajectory_of(outcome, values[at : at + size])
        at += size
        first, last = trajectory.first.value, trajectory.selected.value
        if first is not None and last is not None:
            found[place] = last - first
    return [
        Rollout(
            user_prompt=plan.prompts[place].row.text,
            gain=found.get(place),
            feedback="\n".join(_described(outcomes[place])),
        )
        for place in places
    ]


def _described(outcome: Refinement | Failure) -> Iterator[str]:
    """Yield what happened, in lines for who reflects on it."""
    if isinstance(outcome, Failure):
        yield f"it failed: {outcome.error}"
        return
    for number, round_ in enumerate(outcome.rounds):
        for candidate in round_.candidates:
            yield f"round {number}, drawn: {candidate.prompt}"
            yield f"round {number}, seen: {candidate.caption or 'nothing'}"
        if round_.verdict is not None and round_.verdict.missing:
            yield f"round {number}, missing: {'; '.join(round_.verdict.missing)}"
