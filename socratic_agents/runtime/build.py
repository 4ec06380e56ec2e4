"""Opens what the names in the settings stand for, and builds the agents of it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

from socratic_agents.agents.answer_checks import held_to_its_role
from socratic_agents.agents.checklist_writer import checklist_writer
from socratic_agents.agents.registry import check_vision, find_roles, find_templates
from socratic_agents.agents.spec import AgentSpec, BuildContext
from socratic_agents.config.final import final_settings
from socratic_agents.core.checklist import share_passed
from socratic_agents.core.errors import CandidateError, ConfigurationError
from socratic_agents.core.final import Final
from socratic_agents.core.loop import Agents
from socratic_agents.llm.methods import Server
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.pocket.mixing import check_mixing
from socratic_agents.runtime.cached_models import with_journal
from socratic_agents.runtime.captioner_llm.calls import (
    by_language_model,
    looks_itself,
    writes_too,
)
from socratic_agents.runtime.devices.multi_device import open_devices
from socratic_agents.runtime.devices.remote_models import open_replicas
from socratic_agents.runtime.generators import OPENAI, images_key, images_server
from socratic_agents.runtime.image_models import FINAL, GUIDANCE
from socratic_agents.runtime.language_model import (
    open_http_client,
    open_language_model,
    open_rate_limiter,
)
from socratic_agents.runtime.readiness.places import check_hub
from socratic_agents.storage.provenance import encode_png, provenance_of
from socratic_agents.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path
    from typing import Any

    from langchain_core.language_models import BaseChatModel
    from PIL.Image import Image

    from socratic_agents.agents.registry import Roles
    from socratic_agents.agents.spec import Guard
    from socratic_agents.config.settings import Settings
    from socratic_agents.core.history import Candidate, History, Verdict
    from socratic_agents.core.loop import Event
    from socratic_agents.llm.templates import Template
    from socratic_agents.runtime.image_models import ImageModels
    from socratic_agents.scheduler.cost_model import CostModel
    from socratic_agents.scheduler.worker import Worker

__all__ = (
    "Opened",
    "build_agents",
    "check_keys",
    "check_models",
    "open_all",
    "open_run_directory",
)

_log = logging.getLogger(__name__)

Agent = TypeVar("Agent")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Everything that was opened for some settings."""

    agents: Agents
    models: ImageModels
    llm: BaseChatModel | None
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    """How requests to the language model are repeated, and at what rate."""
    final: Final | None = None
    """Who draws the end of a refinement; ``None``: the best draft is it."""
    closers: tuple[Callable[[], Awaitable[None]], ...] = field(default=())
    """To be awaited when they are not needed any more."""
    told: set[str] = field(default_factory=set)
    """Notices that were told."""

    def tell_notices(self) -> tuple[str, ...]:
        """Return what the models noticed; what is new is logged, and so told once."""
        notices = self.models.notices()
        for notice in notices:
            if notice not in self.told:
                self.told.add(notice)
                _log.warning("%s", notice)
        return notices

    def telling(
        self, on_event: Callable[[Event], None] | None
    ) -> Callable[[Event], None]:
        """Return who observes a refinement, and tells what is noticed meanwhile."""

        def observe(event: Event) -> None:
            self.tell_notices()
            if on_event is not None:
                on_event(event)

        return observe


def check_models(settings: Settings, *, speaks: bool) -> None:
    """Check what can be known of the models together before anything is loaded.

    Args:
        settings: What is to be opened.
        speaks: Whether a language model will be asked anything.

    Raises:
        ConfigurationError: If a key is missing, or pocket models would have to judge
            what another generator draws.
    """
    for one in filter(None, (settings, final_settings(settings))):
        check_mixing(one, speaks=speaks)
        check_keys(one, speaks=speaks)


def check_keys(settings: Settings, *, speaks: bool) -> None:
    """Check that the services which the settings name get the key they will ask for.

    Nothing is loaded or written for that.

    Args:
        settings: What is to be opened.
        speaks: Whether a language model will be asked anything.

    Raises:
        ConfigurationError: If a key is missing.
    """
    server = images_server(settings)
    services = {
        f"llm {settings.llm!r}": speaks
        and isinstance(settings.llm, str)
        and settings.llm.startswith("openai:")
        and settings.base_url is None
        and settings.api_key is None
        and "SOCRATIC_API_KEY",
        f"generator {settings.generator!r}": server is not None
        and urlsplit(server[0]).hostname == urlsplit(OPENAI).hostname
        and images_key(settings) is None
        and "SOCRATIC_IMAGE_API_KEY",
    }
    for service, variable in services.items():
        if variable and not os.environ.get("OPENAI_API_KEY"):
            message = (
                f"expected a key for {service}, got none; set OPENAI_API_KEY or "
                f"{variable}"
            )
            raise ConfigurationError(message)


def open_all(
    settings: Settings,
    templates: Mapping[str, Template],
    worker: Worker,
    *,
    run: RunDirectory | None = None,
    cost_model: CostModel | None = None,
) -> Opened:
    """Open everything that the settings name; blocks, in the worker's thread.

    Args:
        settings: What to open.
        templates: As from ``find_templates``.
        worker: Runs the models from now on.
        run: Knows what was done before, and keeps what is done now.
        cost_model: What calls cost, for workers of further devices.

    Raises:
        ConfigurationError: If something cannot be opened, or is of the wrong type.
    """
    # The language model first: what is wrong with it is found soon.
    asks = bool(templates) or find_roles(settings).needs_llm
    client = open_http_client(settings) if asks else None
    llm = open_language_model(settings, client=client) if asks else None
    check_vision(settings, templates, llm)
    limiter = open_rate_limiter(settings, llm)
    workers: tuple[Worker, ...] = (worker,)
    if settings.workers:
        models = open_replicas(settings)
    else:
        check_hub(settings)
        models, workers = open_devices(settings, worker, cost_model=cost_model)
    if llm is not None and writes_too(settings):
        llm = llm.model_copy(update={"write": models.write})
    context = settings.llm_context or models.context
    server = Server(
        max_tokens=settings.llm_max_tokens,
        context=context,
        # What computes here takes the time that it takes.
        timeout=settings.timeout if _is_remote(settings.llm) else None,
    )
    retries = RetryPolicy(rate_limiter=limiter, server=server)
    if llm is not None and looks_itself(settings):
        models = by_language_model(models, llm, retries)
    if run is not None:
        models = with_journal(models, run.journal, settings, images=run.images)
    agents = build_agents(settings, templates, llm, models, retries=retries)
    return Opened(
        agents=_announced(agents, workers),
        models=models,
        llm=llm,
        retries=retries,
        final=models.generate_final
        and Final(generate=models.generate_final, images=settings.final_images),
        closers=(*models.closers, *([client.aclose] if client else [])),
    )


def _is_remote(llm: object) -> bool:
    """Return whether a language model is one of a provider, by its name."""
    return isinstance(llm, str) and ":" in llm


def build_agents(
    settings: Settings,
    templates: Mapping[str, Template],
    llm: BaseChatModel | None,
    models: ImageModels,
    *,
    retries: RetryPolicy | None = None,
) -> Agents:
    """Give the roles that the settings name to a language model and some image models.

    Args:
        settings: Who plays what.
        templates: As from ``find_templates``.
        llm: The language model, if there is one.
        models: What the image models do.
        retries: How often a failed request is sent again, and at what rate.

    Raises:
        ConfigurationError: If a role cannot be played by who is there.
    """
    roles = find_roles(settings)
    context = BuildContext(
        settings=settings,
        llm=llm,
        retries=retries,
        answer_yes_no=models.answer_yes_no,
        answer_open=models.answer_open,
        answer_count=models.answer_count,
        read_text=models.read_text,
        max_tokens=models.max_tokens,
    )

    def built(role: str, spec: AgentSpec[Agent], guard: Guard | None = None) -> Agent:
        given = replace(context, template=templates.get(role), guard=guard)
        agent = cast("Callable[..., Awaitable[Any]]", spec.build(given))
        return cast("Agent", held_to_its_role(role, agent))

    guard = built("guard", roles.guard) if roles.guard else None
    write = None
    if roles.writes_checklist:
        model = cast("BaseChatModel", llm)
        write = checklist_writer(model, templates["checklist"], retries=retries)
    return Agents(
        generate=models.generate,
        generate_guided=models.generate_guided,
        caption=models.caption,
        assess=_assess(settings, roles, models),
        judge=built("judge", roles.judge),
        optimize=built("optimizer", roles.optimizer, guard),
        select=built("selector", roles.selector),
        inquire=write,
        answer=built("answerer", roles.answerer) if roles.answerer else None,
    )


def _announced(agents: Agents, workers: tuple[Worker, ...]) -> Agents:
    """Let the workers know when a loop thinks: it will want an image soon."""

    async def judge(history: History) -> Verdict:
        for worker in workers:
            worker.think()
        return await agents.judge(history)

    async def optimize(history: History) -> tuple[str, ...]:
        for worker in workers:
            worker.think()
        return await agents.optimize(history)

    return replace(agents, judge=judge, optimize=optimize)


def _assess(settings: Settings, roles: Roles, models: ImageModels) -> Any:
    """Return the loop's ``assess``, or ``None`` where nothing is scored.

    The checklist ranks and the scorer breaks its ties, unless one selects by the
    scorer alone.
    """
    name, score = models.score_name, models.score if settings.scorer else None
    if score is None and not roles.uses_checklist:
        return None

    async def assess(user_prompt: str, candidate: Candidate) -> Mapping[str, float]:
        share, scores = share_passed(candidate.answers), {}
        if score is not None and candidate.image is not None:
            try:
                scores = {name: await score(user_prompt, candidate.image)}
            except CandidateError:
                if share is None:
                    raise
                # It would only have broken ties: what was answered stays.
        if share is None:
            return scores
        checked = {"checklist": share}
        return scores | checked if roles.selector.needs_scorer else checked | scores

    return assess


def open_run_directory(
    path: Path,
    settings: Settings,
    *,
    shown: Mapping[str, Any] | None = None,
    **options: Any,
) -> RunDirectory:
    """Return the directory of a run, whose images tell what they were made from.

    Args:
        path: The folder; made when it is opened, if it is not there.
        settings: What the run refines with.
        shown: What is kept of the settings; ``None``: all that may be shown.
        options: As for ``RunDirectory``.

    Raises:
        TemplateError: If a template cannot be found or read.
    """
    found = find_templates(settings)
    templates = {role: {"sha256": one.sha256} for role, one in found.items()}
    final = final_settings(settings)

    def encode(image: Image, prompt: str, seed: int) -> bytes:
        source = None
        if settings.metadata:
            own = final if final and image.info.get(FINAL) else settings
            # Only the pipelines that take a grid note this; others' notes are anything.
            guided = own is settings and settings.guidance_grid is not None
            chosen = (image.info.get(GUIDANCE) if guided else None) or {}
            source = provenance_of(own, templates, prompt=prompt, seed=seed, **chosen)
        return encode_png(image, source)

    return RunDirectory(
        path,
        settings=settings.public() if shown is None else shown,
        templates={role: template.sha256 for role, template in found.items()},
        encode=encode,
        **options,
    )
