"""Running a comparison: every arm on every prompt, at the same number of images."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_agents.agents.registry import check_vision, find_roles, find_templates
from socratic_agents.agents.search.registry import find_search
from socratic_agents.config.settings import FEWEST
from socratic_agents.core.errors import ConfigurationError, SocraticError
from socratic_agents.core.extras import require
from socratic_agents.core.history import History
from socratic_agents.core.loop import Limits, refine_prompt
from socratic_agents.core.text import error_line
from socratic_agents.lab.compare.arms import find_arms
from socratic_agents.lab.compare.result import ArmResult, Comparison, Step, Trial
from socratic_agents.lab.compare.shared_calls import WORK, SharedCalls
from socratic_agents.lab.metrics.open import open_metric
from socratic_agents.llm.usage import UsageMeter, using_meter
from socratic_agents.runtime.build import build_agents, check_models, open_all
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from PIL.Image import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.history import Candidate
    from socratic_agents.core.loop import Agents
    from socratic_agents.core.outcome import Refinement
    from socratic_agents.core.search import Search
    from socratic_agents.lab.compare.arms import ArmSpec
    from socratic_agents.lab.metrics.open import Metric
    from socratic_agents.llm.templates import Template
    from socratic_agents.runtime.build import Opened

    Scorer = Callable[[str, Image], Awaitable[float]]

__all__ = ("compare",)

AGAINST = "best_of_n"
"""The arm that every other is set beside: it needs no rewriting at all."""


@dataclass(frozen=True, kw_only=True)
class _PreparedArm:
    """An arm, ready to run."""

    name: str
    policy: ArmSpec
    settings: Settings
    search: Search
    templates: Mapping[str, Template]


async def compare(  # noqa: PLR0913 - a study has many parts
    prompts: Sequence[str],
    settings: Settings,
    *,
    arms: Sequence[str],
    images: int,
    given: Mapping[str, Any] | None = None,
    metric: str | Scorer | None = None,
    command: str | None = None,
    keep: Callable[[Image], str] | None = None,
    on_trial: Callable[[Trial, str], None] = lambda _trial, _arm: None,
) -> Comparison:
    """Run arms on the same prompts at an equal number of images, and compare them.

    All arms draw from the same seeds, and what one has drawn and seen serves the
    others too. An arm that fails on a prompt is left out there, with its cause.

    Args:
        prompts: User prompts; at least 1.
        settings: The models, and what the arms leave open.
        arms: Names of policies; see ``ARMS``.
        images: What each arm may draw for a prompt, 1 to 64.
        given: Which of the settings were set explicitly, for all arms.
        metric: What is reported: a name, or an async callable of a prompt and an image;
            ``None``: the pocket world's oracle.
        command: What was typed, for the record.
        keep: Keeps an image that an arm returns, and says where; blocks, in a thread.
        on_trial: Called with each trial and the name of its arm.

    Raises:
        ConfigurationError: If an arm is unknown, or an arm selects with the metric, or
            something cannot be opened or imported; nothing is drawn before.
    """
    require("scipy", purpose="for intervals")
    if settings.final_generator is not None:
        message = (
            "expected one generator for a comparison at an equal number of images, got "
            "a final_generator beside it; leave it out"
        )
        raise ConfigurationError(message)
    policies = find_arms(arms, images=images)
    prepared = [
        _prepare(name, policy, settings, images, given or {})
        for name, policy in policies.items()
    ]
    base = _richest(settings, prepared)
    wanted = find_templates(base)
    for one in prepared:
        wanted = {**one.templates, **wanted}
    check_models(settings, speaks=bool(wanted))
    async with Worker() as worker:
        opened = await worker.call(partial(open_all, base, wanted, worker))
        try:
            for one in prepared:
                check_vision(one.settings, one.templates, opened.llm)
            measure = await worker.call(partial(open_metric, metric, base, worker))
            trials = await _trials(
                prompts, prepared, opened, measure, settings, keep, on_trial
            )
            costs = _costs(worker)
        finally:
            for close in opened.closers:
                await close()
    return Comparison(
        metric=measure.name,
        images=images,
        against=AGAINST,
        arms=tuple(
            ArmResult(
                name=one.name,
                trials=tuple(_priced(trial, work, costs) for trial, work in of_one),
            )
            for one, of_one in zip(prepared, zip(*trials, strict=True), strict=True)
        ),
        settings=settings.public(),
        command=command,
        seed=settings.seed,
        bounds=measure.bounds,
    )


def _prepare(
    name: str,
    policy: ArmSpec,
    settings: Settings,
    images: int,
    given: Mapping[str, Any],
) -> _PreparedArm:
    own = policy.settings(settings, images, given)
    return _PreparedArm(
        name=name,
        policy=policy,
        settings=own,
        search=find_search(own.but(speculate=False)),
        templates=find_templates(own),
    )


def _richest(settings: Settings, prepared: Sequence[_PreparedArm]) -> Settings:
    """Return settings that open all that any arm needs."""
    checks = any(find_roles(one.settings).uses_checklist for one in prepared)
    policy = {"judge": "checklist", "selector": "checklist"} if checks else {}
    grids = [g for one in prepared if (g := one.settings.guidance_grid)]
    return settings.but(**policy, guidance_grid=grids[0] if grids else None)


async def _trials(
    prompts: Sequence[str],
    prepared: Sequence[_PreparedArm],
    opened: Opened,
    metric: Metric,
    settings: Settings,
    keep: Callable[[Image], str] | None,
    on_trial: Callable[[Trial, str], None],
) -> list[list[tuple[Trial, Counter[str]]]]:
    """Return for each prompt what every arm did, and what work that was."""
    room = asyncio.Semaphore(settings.in_flight or FEWEST)

    async def one_prompt(
        index: int, user_prompt: str
    ) -> list[tuple[Trial, Counter[str]]]:
        async with room:
            sharing = SharedCalls(opened.models, opened.agents.inquire)

            async def one_arm(one: _PreparedArm) -> tuple[Trial, Counter[str]]:
                work = Counter[str]()
                WORK.set(work)
                agents = _agents(one, opened, sharing)
                trial = await _trial(index, user_prompt, one, agents, metric, keep=keep)
                on_trial(trial, one.name)
                return trial, work

            async with asyncio.TaskGroup() as group:
                arms = [group.create_task(one_arm(one)) for one in prepared]
            return [arm.result() for arm in arms]

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(one_prompt(index, prompt))
            for index, prompt in enumerate(prompts)
        ]
    return [task.result() for task in tasks]


def _agents(one: _PreparedArm, opened: Opened, sharing: SharedCalls) -> Agents:
    agents = build_agents(
        one.settings,
        one.templates,
        opened.llm,
        sharing.models,
        retries=opened.retries,
    )
    if agents.inquire is not None:
        agents = replace(agents, inquire=sharing.inquire)
    return one.policy.wrap_agents(agents)


async def _trial(
    index: int,
    user_prompt: str,
    one: _PreparedArm,
    agents: Agents,
    metric: Metric,
    *,
    keep: Callable[[Image], str] | None,
) -> Trial:
    """Run one arm on one prompt; what fails is left out, and says why."""
    settings = one.settings
    meter = UsageMeter(budget=settings.budget, prices=settings.prices)
    with using_meter(meter):
        try:
            refinement = await refine_prompt(
                user_prompt,
                agents,
                one.search,
                limits=Limits(
                    max_images=settings.max_images,
                    spent=lambda: meter.spent() is not None,
                ),
            )
        except Exception as problem:  # noqa: BLE001 - a bug fails its trial, not all
            ours = isinstance(problem, SocraticError)
            history = getattr(problem, "history", None)
            drawn = history.candidates if history else ()
            return Trial(
                index=index,
                user_prompt=user_prompt,
                reported=None,
                excluded=str(problem) if ours else error_line(problem),
                images=len(drawn),
                llm_calls=meter.llm_calls,
                input_tokens=meter.input_tokens,
                output_tokens=meter.output_tokens,
            )

    async def measured(candidate: Candidate | None) -> float | None:
        if candidate is None or candidate.image is None:
            return None
        try:
            return await metric.measure(user_prompt, candidate.image)
        except SocraticError:
            return None

    reported = await measured(refinement.best)
    first, best = refinement.history.candidates[0], refinement.best
    selector = find_roles(settings).selector
    # Its choice can be told for every image, as it costs nothing.
    instant = isinstance(settings.selector, str) and not selector.requests
    kept = None
    if keep is not None and best.image is not None:
        with suppress(SocraticError):  # a full disk fails later, with the figures
            kept = await asyncio.to_thread(keep, best.image)
    return Trial(
        index=index,
        user_prompt=user_prompt,
        reported=reported,
        excluded=None if reported is not None else f"no {metric.name} of its image",
        images=refinement.usage.images,
        llm_calls=meter.llm_calls,
        input_tokens=meter.input_tokens,
        output_tokens=meter.output_tokens,
        stop=refinement.stop.value,
        selection=dict(best.scores),
        first_selection=dict(first.scores),
        image=kept,
        below_first=instant and selector.ranks and _below(best, first),
        steps=await _steps(refinement, agents, measured, instant=instant),
    )


def _below(best: Candidate, first: Candidate) -> bool:
    """Return whether an image scores less than the first one, in any name they share."""
    names = [name for name in best.scores if name in first.scores]
    return [best.scores[n] for n in names] < [first.scores[n] for n in names]


async def _steps(
    refinement: Refinement,
    agents: Agents,
    measured: Callable[[Candidate | None], Awaitable[float | None]],
    *,
    instant: bool,
) -> tuple[Step, ...]:
    """Return each image's value, and that of what would be returned after it."""
    steps, history = list[Step](), refinement.history
    candidates, seen = history.candidates, History(user_prompt=history.user_prompt)
    for number, round_ in enumerate(history.rounds):
        for place in range(len(round_.candidates)):
            part = replace(round_, candidates=round_.candidates[: place + 1])
            returned = None
            if len(steps) + 1 == len(candidates):
                returned = refinement.best
            elif instant:
                returned = await _returned(seen + part, agents)
            step = Step(
                round=number,
                reported=await measured(round_.candidates[place]),
                returned=await measured(returned),
            )
            steps.append(step)
        seen += round_
    return tuple(steps)


async def _returned(history: History, agents: Agents) -> Candidate | None:
    try:
        return history.candidates[await agents.select(history)]
    except SocraticError:
        return None


def _costs(worker: Worker) -> dict[str, float]:
    """Return the seconds that one item of each image model took of the device."""
    return {
        name: stage.seconds / stage.items
        for name, stage in worker.statistics().stages.items()
        if stage.items
    }


def _priced(trial: Trial, work: Counter[str], costs: Mapping[str, float]) -> Trial:
    """Return a trial with the seconds that its work takes when nothing is shared."""
    seconds = sum(costs.get(name, 0.0) * times for name, times in work.items())
    return replace(trial, seconds=seconds)
