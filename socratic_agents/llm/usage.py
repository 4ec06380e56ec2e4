"""Usage meters: what the work costs, without passing a counter everywhere."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from socratic_agents.core.budget import MOST, Budget
from socratic_agents.core.errors import BudgetError
from socratic_agents.core.outcome import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from socratic_agents.core.budget import Prices

__all__ = ("UsageMeter", "current_meter", "using_meter")


@dataclass(kw_only=True, eq=False)
class UsageMeter:
    """What one refinement costs, or a run of many, and whether there is room for more.

    Tasks started inside ``using_meter`` count too. All meters of a run share one lock, so
    that refinements in other threads and event loops count right.

    Raises:
        ConfigurationError: If money is limited and nothing has a price.
    """

    budget: Budget = field(default_factory=Budget)
    """What may be spent here."""
    prices: Prices | None = None
    """What things cost; ``None``: nobody knows."""
    parent: UsageMeter | None = None
    """The run's meter, in which all is counted as well, and whose budget counts too."""
    clock: Callable[[], float] = time.perf_counter
    """Seconds from any time on, never going back."""

    images: int = field(default=0, init=False)
    """Images that were asked for, failed ones included."""
    llm_calls: int = field(default=0, init=False)
    """Requests that were sent, failed and repeated ones included."""
    input_tokens: int = field(default=0, init=False)
    output_tokens: int = field(default=0, init=False)
    lock: threading.Lock = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        self.budget.check(self.prices)
        self._start = self.clock()
        self.lock = self.parent.lock if self.parent else threading.Lock()

    @property
    def seconds(self) -> float:
        """Wall time from the start."""
        return self.clock() - self._start

    @property
    def money(self) -> float | None:
        """What was spent until now; ``None`` if nobody knows what things cost."""
        if self.prices is None:
            return None
        return self.prices.cost(
            self.images,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
        )

    def usage(self, images: int) -> Usage:
        """Return what was spent until now, as a refinement tells it.

        Args:
            images: Of the refinement; what else was drawn beside it is counted here, too.
        """
        return Usage(
            images=images,
            llm_calls=self.llm_calls,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            money=self.money,
            seconds=self.seconds,
        )

    def add_call(self) -> None:
        """Count a request that is about to be sent, if there is room for it.

        Raises:
            BudgetError: If a limit is reached; nothing is counted then.
        """
        with self.lock:
            # Together: between the two, no other thread may take the last place.
            self.expect_room()
            for meter in self._upward():
                meter.llm_calls += 1

    def add_images(self, images: int = 1) -> None:
        """Count images that are about to be drawn; whether they may be is not asked."""
        with self.lock:
            for meter in self._upward():
                meter.images += images

    def add_tokens(self, usage: Mapping[str, object] | None) -> None:
        """Add what a reply reports, where it reports anything."""
        read, written = (
            _tokens((usage or {}).get(name))
            for name in ("input_tokens", "output_tokens")
        )
        with self.lock:
            for meter in self._upward():
                meter.input_tokens += read
                meter.output_tokens += written

    def expect_room(self, *, within: float = 0.0) -> None:
        """Check that no limit is reached, and none will be by a wait.

        Args:
            within: How long that wait is, in seconds.

        Raises:
            BudgetError: If one is.
        """
        limit = self.spent(within=within)
        if limit is not None:
            wait = f" after a wait of {within:.1f} s" if within else ""
            message = (
                "expected room in the budget for another request to the language "
                f"model, got {limit}{wait}; raise the budget to continue"
            )
            raise BudgetError(message)

    def spent(self, *, within: float = 0.0) -> str | None:
        """Return which limit is reached, here or of the run, in words.

        ``20 of 20 llm_calls``, ``61.2 of 60 seconds of the run``, or ``None``.

        Args:
            within: Seconds to look ahead; only time passes in them.
        """
        for meter in self._upward():
            used: dict[str, float] = {
                "images": meter.images,
                "llm_calls": meter.llm_calls,
                "tokens": meter.input_tokens + meter.output_tokens,
                "money": meter.money or 0.0,
                "seconds": meter.seconds + within,
            }
            for name, limit in meter.budget.limits().items():
                if used[name] >= limit:
                    digits = {"money": ".6g", "seconds": ".1f"}.get(name, "d")
                    whose = "" if meter is self else " of the run"
                    return f"{used[name]:{digits}} of {limit:.15g} {name}{whose}"
        return None

    def images_left(self) -> int | None:
        """Return how many images may still be drawn; ``None``: as many as one likes."""
        left = [
            max(0, meter.budget.images - meter.images)
            for meter in self._upward()
            if meter.budget.images is not None
        ]
        return min(left, default=None)

    @asynccontextmanager
    async def in_time(self, what: str) -> AsyncIterator[None]:
        """Give up what is done inside when no time is left for it.

        Args:
            what: Is done there, in words.

        Raises:
            BudgetError: If a limit of seconds is reached meanwhile.
        """
        limits = ((one, one.budget.seconds) for one in self._upward())
        left = [limit - one.seconds for one, limit in limits if limit is not None]
        try:
            async with asyncio.timeout(min(left, default=None)) as timer:
                yield
        except TimeoutError:
            if not timer.expired():
                raise
            message = (
                f"expected {what} within the budget, got {self.spent()} before its "
                "end; raise the budget"
            )
            raise BudgetError(message) from None

    def _upward(self) -> Iterator[UsageMeter]:
        """Yield this meter and those that it is counted in."""
        meter: UsageMeter | None = self
        while meter is not None:
            yield meter
            meter = meter.parent


def _tokens(reported: object) -> int:
    # A server says so, and anything may be said: what cannot be true must not break
    # the sums, nor give something back.
    return min(max(reported, 0), MOST) if isinstance(reported, int) else 0


_METER: ContextVar[UsageMeter | None] = ContextVar("socratic_meter", default=None)


def current_meter() -> UsageMeter:
    """Return the usage meter in force, or one that nobody reads."""
    return _METER.get() or UsageMeter()


@contextmanager
def using_meter(meter: UsageMeter | None = None) -> Iterator[UsageMeter]:
    """Count all calls made inside into one meter.

    Args:
        meter: Count on in this one; a fresh one by default.
    """
    meter = meter if meter is not None else UsageMeter()
    token = _METER.set(meter)
    try:
        yield meter
    finally:
        _METER.reset(token)
