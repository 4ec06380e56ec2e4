"""Testbeds: what all schedulers work with, opened from settings."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from socratic_agents.agents.search.registry import most_rounds
from socratic_agents.config.fields import defaults_of
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import Verdict
from socratic_agents.core.loop import Agents
from socratic_agents.lab.bench.device.determinism import DeterminismCheck
from socratic_agents.lab.bench.device.memory import Memory
from socratic_agents.lab.bench.device.recording_worker import RecordingWorker
from socratic_agents.lab.bench.device.schedulers import Testbed, Variants
from socratic_agents.lab.bench.device.trial import LoopSetup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from PIL.Image import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.history import Candidate, History
    from socratic_agents.lab.bench.device.instrumentation import CallLog
    from socratic_agents.lab.bench.device.trial import LlmDelay
    from socratic_agents.runtime.image_models import ImageModels

__all__ = (
    "open_profile_testbed",
    "open_testbed",
    "open_testbed_and_models",
    "simulated_agents",
)

UNSATISFIED = Verdict(satisfied=False, missing=("more",), reason="it goes on")


def open_testbed(name: str, settings: Settings, prompts: Sequence[str]) -> Testbed:
    """Open the image models of some settings, for loops that only let time pass.

    Args:
        name: Of the workload.
        settings: What to open.
        prompts: What is drawn.

    Raises:
        ConfigurationError: If something cannot be opened, or is of the wrong type.
    """
    return open_testbed_and_models(name, settings, prompts)[0]


def open_testbed_and_models(
    name: str, settings: Settings, prompts: Sequence[str]
) -> tuple[Testbed, ImageModels]:
    """Do as ``open_testbed``, and return what the image models do, too."""
    from socratic_agents.runtime.open_models import open_image_models

    recorder = RecordingWorker()
    models = open_image_models(settings, recorder)  # type: ignore[arg-type] # it does as a worker

    def loops(spoken: ImageModels) -> LoopSetup:
        return LoopSetup(
            agents=simulated_agents(spoken, prompts, recorder), prompts=prompts
        )

    return _testbed(name, settings, recorder, models, loops), models


def open_profile_testbed(settings: Settings, prompts: Sequence[str]) -> Testbed:
    """Open all that some settings name, its language model too; no judge ends a loop.

    Args:
        settings: What to open.
        prompts: What is drawn.

    Raises:
        ConfigurationError: If something cannot be opened, or is of the wrong type.
    """
    from socratic_agents.agents.registry import find_roles, find_templates
    from socratic_agents.runtime.build import build_agents, open_all
    from socratic_agents.runtime.cost_estimate import worst_case

    if settings.workers:
        message = (
            f"expected a device of this process for a bench, got {settings.workers} "
            "workers; leave them out"
        )
        raise ConfigurationError(message)
    recorder, templates = RecordingWorker(), find_templates(settings)
    opened = open_all(settings, templates, recorder)  # type: ignore[arg-type] # as above

    def loops(models: ImageModels) -> LoopSetup:
        agents = build_agents(
            settings, templates, opened.llm, models, retries=opened.retries
        )
        return LoopSetup(agents=partial(_spoken, agents, recorder), prompts=prompts)

    testbed = _testbed("profile", settings, recorder, opened.models, loops)
    many = settings.prompts_per_round * settings.seeds_per_prompt > 1
    return replace(
        testbed,
        rounds=most_rounds(settings, worst_case(settings).images),
        speaks=True,
        plain=not (many or find_roles(settings).uses_checklist),
        closers=opened.closers,
    )


def simulated_agents(
    models: ImageModels, prompts: Sequence[str], recorder: RecordingWorker
) -> Callable[[LlmDelay], Agents]:
    """Return the agents of a loop whose language model only lets time pass.

    Each round waits for it twice, as if to judge and to rewrite; the last one to
    judge and to select.

    Args:
        models: What the image models do.
        prompts: What rewrites are taken from.
        recorder: Told when a loop thinks.
    """

    def agents(pace: LlmDelay) -> Agents:
        async def judge(_: History) -> Verdict:
            recorder.think()
            await pace.wait()
            return UNSATISFIED

        async def optimize(history: History) -> tuple[str, ...]:
            recorder.think()
            await pace.wait()
            pace.end_round()
            place = pace.number + 7 * len(history.rounds)
            return (prompts[place % len(prompts)],)

        async def select(_: History) -> int:
            await pace.wait()
            pace.end_round()
            return 0

        return Agents(
            generate=models.generate,
            caption=models.caption,
            assess=_assess(models),
            judge=judge,
            optimize=optimize,
            select=select,
        )

    return agents


def _spoken(given: Agents, recorder: RecordingWorker, pace: LlmDelay) -> Agents:
    """Return agents whose language model is asked, and whose rounds are noted."""

    async def judge(history: History) -> Verdict:
        recorder.think()
        verdict: Verdict = await pace.timed(given.judge(history))
        if not verdict.satisfied:
            return verdict
        return replace(verdict, satisfied=False, missing=("more",))

    async def optimize(history: History) -> tuple[str, ...]:
        recorder.think()
        prompts: tuple[str, ...] = await pace.timed(given.optimize(history))
        pace.end_round()
        return prompts

    async def select(history: History) -> int:
        best: int = await pace.timed(given.select(history))
        pace.end_round()
        return best

    return replace(given, judge=judge, optimize=optimize, select=select)


def _testbed(
    name: str,
    settings: Settings,
    recorder: RecordingWorker,
    models: ImageModels,
    loops: Callable[[ImageModels], LoopSetup],
) -> Testbed:
    from socratic_agents.models.devices import choose_device, choose_dtype

    device = choose_device(settings.device)
    fine = "float32" in str(choose_dtype(settings.dtype, device))
    return Testbed(
        name=name,
        recorder=recorder,
        loops=loops(models),
        others=partial(_others, settings, recorder, models, loops),
        memory=Memory(device),
        determinism=DeterminismCheck(exact=device.type == "cpu", fine=fine),
        steady=device.type == "cuda",
        closers=models.closers,
    )


def _others(
    settings: Settings,
    recorder: RecordingWorker,
    models: ImageModels,
    loops: Callable[[ImageModels], LoopSetup],
    log: CallLog,
) -> Variants:
    """Return the same models called with one size, and step by step."""
    from socratic_agents.models.diffusion import Diffusion
    from socratic_agents.runtime.generators import AT_OPENING
    from socratic_agents.runtime.open_models import open_image_models

    runs = {stage.name: stage.run for stage, _ in log.samples}
    generator = runs.get("generator")
    if not isinstance(generator, Diffusion):
        why = "its generator is no pipeline of this process"
        return Variants(lacks={"strict": why, "step": why})
    opened: dict[str, Any] = {
        **defaults_of(AT_OPENING),  # the pipeline has them already, or has them not
        "generator": generator,
        "batching": "request",
    }
    for part in ("captioner", "scorer"):
        if (model := getattr(runs.get(part), "__self__", None)) is not None:
            opened[part] = model
    variants, lacks, closers = (
        dict[str, LoopSetup](),
        dict[str, str](),
        models.closers[:0],
    )
    changes: dict[str, dict[str, Any]] = {
        "strict": {"strict": True},
        "step": {"strict": False, "batching": "step"},
    }
    for name, change in changes.items():
        try:
            changed = settings.but(**opened | change)
            other = open_image_models(changed, recorder)  # type: ignore[arg-type] # as above
        except ConfigurationError as error:
            lacks[name] = str(error)
        else:
            variants[name], closers = loops(other), (*closers, *other.closers)
    return Variants(loops=variants, lacks=lacks, closers=closers)


def _assess(models: ImageModels) -> Any:
    """Return the loop's ``assess``; ``None`` where nothing is scored."""
    score = models.score
    if score is None:
        return None

    async def assess(user_prompt: str, candidate: Candidate) -> Mapping[str, float]:
        image = cast("Image", candidate.image)
        return {models.score_name: await score(user_prompt, image)}

    return assess
