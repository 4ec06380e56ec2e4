"""The refiner: opens everything for some settings, owns it, refines one or many."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from socratic_agents.agents.registry import find_roles, find_templates
from socratic_agents.agents.search.registry import find_search
from socratic_agents.config.settings import FEWEST, Settings
from socratic_agents.core.concurrency import each_result, is_cancelled
from socratic_agents.core.errors import (
    BudgetError,
    ClosedError,
    ConfigurationError,
    ServerDownError,
    SocraticError,
)
from socratic_agents.core.final import refine_with_final
from socratic_agents.core.loop import NO_LIMITS, Limits
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.core.prompts import validate_prompt
from socratic_agents.core.search import seed_bank
from socratic_agents.core.spread import mean_spread
from socratic_agents.core.text import error_line
from socratic_agents.llm.cache import ResponseCache, using_cache
from socratic_agents.llm.usage import UsageMeter, using_meter
from socratic_agents.runtime.build import check_models, open_all
from socratic_agents.runtime.cached_models import (
    language_model_identity,
    tell_unidentified,
)
from socratic_agents.runtime.receipt import draw_receipt
from socratic_agents.runtime.runnable import RunnableRefiner
from socratic_agents.runtime.sync_bridge import SyncBridge
from socratic_agents.scheduler.cost_model import CostModel, cache_file
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
    from typing import Self

    from socratic_agents.core.errors import CallError
    from socratic_agents.core.loop import Agents, Event
    from socratic_agents.core.spread import SeedSpread
    from socratic_agents.runtime.build import Opened
    from socratic_agents.scheduler.worker import Statistics
    from socratic_agents.storage.run_directory import RunDirectory

__all__ = ("MOST", "Refiner")

Result = TypeVar("Result")

MOST = 64
"""Prompts that are refined at the same time at most, where nobody says how many."""


class Refiner(RunnableRefiner):
    """Refines prompts with everything that its settings name.

    ``async with`` opens the models and closes them; without it they are opened by the
    first prompt, and ``close`` or the end of the program closes them. As a LangChain
    runnable it takes a user prompt and returns a ``Refinement``.

    Args:
        settings: What to refine with; resolved from the surroundings by default.
        overrides: Settings by name; they win.

    Raises:
        ConfigurationError: If a setting cannot be used, a template or key is missing,
            or pocket models would judge other images; nothing is loaded before.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        if settings is None:
            settings = Settings(**overrides)
        elif overrides:
            settings = settings.but(**overrides)
        self.settings = settings
        self._search = find_search(settings)
        self._templates = find_templates(settings)
        check_models(settings, speaks=find_roles(settings).needs_llm)
        self._lock = threading.Lock()
        self._bridge = SyncBridge()
        self._worker: Worker | None = None
        self._opened: Opened | None = None
        self._closed = False
        self._cost_model = CostModel(cache_file())
        self._directory: RunDirectory | None = None
        self._response_cache: ResponseCache | None = None
        self._seed_spread: SeedSpread | None = None
        self._run = UsageMeter(budget=settings.run_budget, prices=settings.prices)

    async def __aenter__(self) -> Self:
        try:
            await self.agents()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def remember(self, run: RunDirectory) -> Self:
        """Do no step again that a run directory knows, and keep all others there.

        Args:
            run: It must be open as long as the refiner is.

        Raises:
            ConfigurationError: If the models are open already.
        """
        with self._lock:
            if self._worker is not None:
                message = (
                    "expected a run before the models are opened, got "
                    "an open refiner; call remember first"
                )
                raise ConfigurationError(message)
            tell_unidentified(self.settings)
            identity = language_model_identity(self.settings)
            self._directory = run
            self._response_cache = ResponseCache(
                journal=run.journal, model_identity=identity
            )
        return self

    async def agents(self) -> Agents:
        """Return the agents, opened by the first who asks; others wait for it.

        Raises:
            ConfigurationError: If something that the settings name cannot be opened.
            ClosedError: If the refiner is closed, or was opened before a fork.
        """
        if self._worker is not None:
            self._worker.process.check("a refiner")
        with self._lock:
            if self._closed:
                message = "expected an open refiner, got a closed one; make a new one"
                raise ClosedError(message)
            if self._worker is None:
                self._worker = Worker(cost_model=self._cost_model)
                self._worker.open()
            worker = self._worker
        if (opened := self._opened) is None:
            opened = await worker.call(partial(self._open, worker))
        return opened.agents

    def _open(self, worker: Worker) -> Opened:
        # In the worker's thread, of which there is one: no two can open at once.
        if self._opened is None:
            self._opened = open_all(
                self.settings,
                self._templates,
                worker,
                run=self._directory,
                cost_model=self._cost_model,
            )
        return self._opened

    async def aclose(self) -> None:
        """Close everything; who still waits is answered with a ``ClosedError``."""
        if self._worker is not None and self._worker.process.left:
            return  # a fork has nothing to close
        with self._lock:
            self._closed = True
        if self._worker is not None:
            await self._worker.__aexit__()
        for close in self._opened.closers if self._opened else ():
            await close()
        await asyncio.to_thread(self._bridge.close)

    def close(self) -> None:
        """Close everything, for those who cannot await."""
        with SyncBridge() as bridge:
            bridge.run(self.aclose())

    def statistics(self) -> Statistics | None:
        """Return what the worker has done; ``None`` before it is there, or elsewhere."""
        if self._worker is None or self.settings.workers is not None:
            return None
        return replace(self._worker.statistics(), seed_spread=self._seed_spread)

    def admission(self) -> int:
        """Return how many prompts are refined at the same time, for now."""
        if self.settings.in_flight is not None:
            return self.settings.in_flight
        known = self._worker.admission_limit() if self._worker else None
        return min(max(known or 0, FEWEST), MOST)

    def check(self, user_prompt: str) -> str:
        """Return the prompt as it will be refined, if it can be.

        Raises:
            PromptError: If it is blank, too long, has control characters, or has a
                word that the pocket world does not know.
        """
        user_prompt = validate_prompt(user_prompt)
        if self.settings.generator == "pocket":
            from socratic_agents.pocket import check

            check(user_prompt)
        return user_prompt

    async def refine(
        self,
        prompt: str,
        *,
        user: str | None = None,
        deadline: float | None = None,
        cancel: asyncio.Event | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Refinement:
        """Refine one user prompt.

        The result depends only on the prompt and the settings, the seed among them,
        unless it is interrupted. Cancelling the task raises ``CancelledError`` as ever.

        Args:
            prompt: What to draw.
            user: For whom; users get equal shares of the devices.
            deadline: Seconds, above 0 and not counting that models are opened, after
                which what is in flight is abandoned and the best so far returned.
            cancel: When it is set, the same is done at once.
            on_event: Called for every candidate and every verdict.

        Raises:
            SocraticError: If it cannot be refined, or is interrupted without a usable
                image; ``error.history`` keeps what was done until then.
        """
        return await self._refine(
            prompt,
            user=user,
            deadline=deadline,
            cancel=cancel,
            on_event=on_event,
            survives=lambda _: self.settings.llm_failure == "return",
        )

    async def _refine(
        self,
        prompt: str,
        *,
        survives: Callable[[CallError], bool],
        user: str | None = None,
        deadline: float | None = None,
        cancel: asyncio.Event | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Refinement:
        """Refine one prompt; ``survives`` as in ``Limits``."""
        user_prompt = self.check(prompt)
        _check_deadline(deadline)
        agents = await self.agents()
        worker, settings = cast("Worker", self._worker), self.settings
        opened = cast("Opened", self._opened)
        if limit := self._run.spent():
            message = f"expected room in the budget of the run, got {limit}; raise it"
            raise BudgetError(message)
        meter = UsageMeter(
            budget=settings.budget, prices=settings.prices, parent=self._run
        )

        with (
            using_meter(meter),
            using_cache(self._response_cache),
            worker.session(user=user),
        ):
            most = [n for n in (settings.max_images, meter.images_left()) if n]
            limits = Limits(
                max_images=min(most, default=None),
                spent=lambda: meter.spent() is not None,
                cancel=cancel,
                deadline=deadline and asyncio.get_running_loop().time() + deadline,
                survives=survives,
            )
            refinement = await refine_with_final(
                user_prompt,
                agents,
                self._search,
                final=opened.final,
                limits=limits,
                on_event=opened.telling(on_event),
            )
            images = refinement.usage.images
            refinement = replace(refinement, usage=meter.usage(images))
            receipt = None
            if settings.receipt:
                receipt = await draw_receipt(
                    refinement,
                    agents,
                    settings,
                    seeds=seed_bank(settings.seed),
                    limits=replace(limits, max_images=None, spent=NO_LIMITS.spent),
                )
        spread = (receipt and receipt.seed_spread) or refinement.seed_spread
        self._seed_spread = mean_spread((self._seed_spread, spread))
        return replace(
            refinement,
            receipt=receipt,
            seed_spread=spread,
            notices=opened.tell_notices(),
            settings=settings.public(),
            templates={
                role: {"name": template.name, "sha256": template.sha256}
                for role, template in self._templates.items()
            },
        )

    async def refine_many(
        self,
        prompts: Iterable[str],
        *,
        user: str | None = None,
        deadline: float | None = None,
        on_event: Callable[[int, Event], None] | None = None,
    ) -> AsyncGenerator[Refinement | Failure, None]:
        """Refine many user prompts at once, and yield each outcome when it is there.

        At most ``admission()`` prompts are on their way at a time; more are taken from the iterable only then. A prompt that fails is a value, and the
        others go on. Leaving the iteration cancels what still runs.

        Args:
            prompts: What to draw; ``outcome.index`` tells an outcome's place in it.
            user: For whom; users get equal shares of the devices.
            deadline: As of ``refine``, for each prompt from its own beginning.
            on_event: Called with that place for every candidate and every verdict.

        Raises:
            ConfigurationError: If something that the settings name cannot be opened.
            ServerDownError: If the server of the language model died and did not come
                back. What is finished is yielded before; the rest has no outcome.
        """
        _check_deadline(deadline)
        await self.agents()
        outcomes = each_result(
            prompts,
            lambda index, prompt: self._outcome(
                index, prompt, user, deadline, on_event
            ),
            room=self.admission,
        )
        async with aclosing(outcomes):
            async for outcome in outcomes:
                yield outcome

    async def _outcome(
        self,
        index: int,
        prompt: str,
        user: str | None,
        deadline: float | None,
        on_event: Callable[[int, Event], None] | None,
    ) -> Refinement | Failure:
        observe = partial(on_event, index) if on_event else None

        def survives(problem: CallError) -> bool:
            down = isinstance(problem, ServerDownError)
            return self.settings.llm_failure == "return" and not down

        try:
            outcome = await self._refine(
                prompt,
                user=user,
                deadline=deadline,
                on_event=observe,
                survives=survives,
            )
            return replace(outcome, index=index)
        except ServerDownError:
            raise  # the same happens to all others
        except SocraticError as problem:
            error, history, kind = str(problem), problem.history, problem.kind
        except (Exception, asyncio.CancelledError) as problem:  # fails alone
            if is_cancelled():
                raise
            kind, error, history = type(problem).__name__, error_line(problem), None
        return Failure(
            user_prompt=prompt, error=error, kind=kind, history=history, index=index
        )

    def wait(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Return what a coroutine returns, for those who cannot await it."""
        return self._bridge.run(coroutine)


def _check_deadline(deadline: float | None) -> None:
    if deadline is not None and not deadline > 0:
        message = (
            f"expected more than 0 seconds, got {deadline}; leave the deadline out"
        )
        raise ConfigurationError(message)
