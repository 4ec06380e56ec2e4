"""Replicas: the actors of a cluster that have the models, and who does what.

Every replica is an actor with a worker of its own, which forms the batches there; here
it is only decided who gets an item. Items depend on nothing but themselves, so what an
actor took with it when it died is done again by another one.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import weakref
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from socratic_agents.core.errors import BatchError, ClosedError, ConfigurationError
from socratic_agents.core.text import error_line
from socratic_agents.scheduler.remote.replica import ForgottenError
from socratic_agents.scheduler.requests import Request, current_session
from socratic_agents.scheduler.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from PIL import Image

    from socratic_agents.core.errors import SocraticError
    from socratic_agents.scheduler.remote.replica import Abilities

__all__ = ("Cluster", "Replicas")

TRIES = 3
"""Deaths in a row, of one item's actors or of the actors of one place, before others
are spared."""

_ASKED: Stage[Any, Any] = Stage(name="replica", run=list)


class Cluster(Protocol):
    """Where actors run: in processes of this machine, or of those that Ray knows."""

    @property
    def count(self) -> int:
        """How many there shall be."""

    @property
    def lost(self) -> tuple[type[BaseException], ...]:
        """What is raised where an actor or its answer is gone, or of no use."""

    def start(self, *inputs: Any, **named: Any) -> Any:
        """Return a new actor around a ``Replica`` of these arguments."""

    def put(self, value: Any) -> Any:
        """Return what stands for a value among the inputs of actors."""

    def cancel(self, reference: Any) -> None:
        """Let an actor know that nobody waits for this answer any more."""

    def kill(self, actor: Any) -> None:
        """End an actor and whatever it does, if it has not ended."""

    def bare(self, problem: BaseException) -> BaseException:
        """Return the error as the actor raised it."""

    def close(self, actors: Iterable[Any]) -> None:
        """Close these actors in good order, and end all."""


@dataclass(eq=False)
class _Place:
    """Where one actor is; the next one after its death has a place of its own."""

    actor: Any
    opened: Future[Abilities]
    deaths: int = 0
    """How many before it died in a row, without one answer."""
    outstanding: int = 0
    """Items that it has not answered yet."""


@dataclass(eq=False)
class _Home:
    """Which actor has an image, and under which name."""

    token: int
    place: _Place | None = None
    pixels: Any = None
    """The image on its way to the place: whoever asks meanwhile sends the same."""
    alive: Any = field(default=None, repr=False)
    """The weak reference that ends the entry with its image."""


class Replicas:
    """The actors, and who of them does what.

    Args:
        cluster: Runs them.
        start: Returns a new actor.
    """

    def __init__(self, cluster: Cluster, *, start: Callable[[], Any]) -> None:
        self._cluster, self._start = cluster, start
        self._lock = threading.RLock()
        self._requests = set[Request]()
        self._homes: dict[int, _Home] = {}
        self._tokens = itertools.count()
        self._closed, self._last = False, "none was started"
        self._places = [self._place() for _ in range(cluster.count)]

    def open(self, patience: float) -> Abilities:
        """Wait until the first actor has opened its models; the others may come later.

        Args:
            patience: Seconds to wait.

        Raises:
            ConfigurationError: If that takes too long, or what the actor raised.
        """
        while True:
            with self._lock:
                if not self._places:
                    raise self._gone()
                opened = [place.opened for place in self._places]
            done, _ = wait(opened, timeout=patience, return_when=FIRST_COMPLETED)
            if not done:
                message = (
                    f"expected an actor to open its models within {patience:g} s, got "
                    f"none of {len(opened)}; look for room (with 'ray status', where "
                    "Ray runs them), or raise the patience of the workers"
                )
                raise ConfigurationError(message)
            for future in done:
                if (problem := future.exception()) is None:
                    return future.result()
                bare = self._cluster.bare(problem)
                if not isinstance(bare, self._cluster.lost):
                    raise bare
            self._tend()

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        """Draw where the fewest items are outstanding."""
        from PIL import Image

        token, whose = next(self._tokens), _whose()

        def ask(place: _Place) -> Any:
            return place.actor.generate.remote(whose, token, prompt, seed)

        place, (pixels, info) = await self._answer(ask)
        image = Image.fromarray(pixels)
        image.info.update(info)
        self._home(image, _Home(token, place))
        return image

    async def see(self, voice: str, image: Image.Image, *words: str) -> Any:
        """Ask about an image where it was drawn, or send it along."""
        import numpy as np

        home, whose = self._home(image), _whose()

        def ask(place: _Place) -> Any:
            if place is not home.place or home.pixels is not None:
                if home.pixels is None:
                    rgb = np.asarray(image.convert("RGB"))
                    home.pixels = self._cluster.put(rgb)
                home.place = place
            see = place.actor.see
            return see.remote(whose, home.token, home.pixels, voice, *words)

        while True:
            try:
                _, answer = await self._answer(ask, home.place)
            except ForgottenError:
                home.place = None
            else:
                return answer
            finally:
                home.pixels = None

    def close(self) -> None:
        """Answer every waiter with an error, and end the actors."""
        with self._lock:
            self._closed = True
            for request in self._requests:
                request.resolve(self._refusal())
            places, self._places = self._places, []
        for place in places:
            if not place.opened.done():
                self._cluster.kill(place.actor)
        self._cluster.close([p.actor for p in places if p.opened.done()])

    async def _answer(
        self, ask: Callable[[_Place], Any], preferred: _Place | None = None
    ) -> tuple[_Place, Any]:
        """Return what an actor answers, and which; a dead one's item is asked again."""
        for _ in range(TRIES):
            place = await self._choose(preferred)
            try:
                reference = ask(place)
                try:
                    await self._until([answer := reference.future()])
                except asyncio.CancelledError:
                    self._cluster.cancel(reference)
                    raise
                output = answer.result()
            except Exception as problem:  # noqa: BLE001 - whatever the actor raised
                bare = self._cluster.bare(problem)
                if not isinstance(bare, self._cluster.lost):
                    place.deaths = 0
                    raise bare from None
                self._lose(place, bare)
            else:
                place.deaths = 0
                return place, output
            finally:
                with self._lock:
                    place.outstanding -= 1
        raise self._gone()

    async def _choose(self, preferred: _Place | None) -> _Place:
        """Return an open place, and count one more item for it."""
        while True:
            self._tend()
            with self._lock:
                if self._closed:
                    raise self._refusal()
                if not self._places:
                    raise self._gone()
                ready = [place for place in self._places if place.opened.done()]
                if ready:
                    fewest = min(ready, key=lambda place: place.outstanding)
                    place = preferred if preferred in ready else fewest
                    place.outstanding += 1
                    return place
                opened = [place.opened for place in self._places]
            await self._until(opened)

    async def _until(self, futures: Iterable[Future[Any]]) -> None:
        """Wait for one of these, or for the end."""
        request = Request(None, _ASKED)
        with self._lock:
            if self._closed:
                raise self._refusal()
            self._requests.add(request)
        for future in futures:
            future.add_done_callback(lambda _: request.resolve(None))
        try:
            await request.answer
        finally:
            with self._lock:
                self._requests.discard(request)

    def _place(self, deaths: int = 0) -> _Place:
        actor = self._start()
        return _Place(actor, actor.open.remote().future(), deaths)

    def _tend(self) -> None:
        """Look after those who could not open their models."""
        with self._lock:
            for place in list(self._places):
                problem = place.opened.exception() if place.opened.done() else None
                if problem is not None:
                    self._lose(place, self._cluster.bare(problem))

    def _lose(self, place: _Place, problem: BaseException) -> None:
        """Put a new actor in the place of one that is lost, but not for ever."""
        with self._lock:
            if place not in self._places:
                return  # somebody else has missed it before
            self._last = error_line(problem)
            self._cluster.kill(place.actor)  # it may only be out of reach
            at, deaths = self._places.index(place), place.deaths + 1
            mortal = isinstance(problem, self._cluster.lost) and deaths < TRIES
            self._places[at : at + 1] = [self._place(deaths)] if mortal else []

    def _home(self, image: Image.Image, home: _Home | None = None) -> _Home:
        """Return where an image is known; one from elsewhere is not known anywhere."""
        with self._lock:
            if (known := self._homes.get(id(image))) is not None:
                return known
            home = home or _Home(next(self._tokens))
            forget = partial(self._homes.pop, id(image), None)
            home.alive = weakref.ref(image, lambda _: forget())
            self._homes[id(image)] = home
            return home

    def _gone(self) -> SocraticError:
        message = (
            f"expected an actor that answers, got {TRIES} in a row that ended without, "
            f"the last with: {self._last}; see what its process wrote (with Ray, in its logs)"
        )
        return BatchError(message)

    def _refusal(self) -> SocraticError:
        message = "expected open replicas, got closed ones; open a new refiner"
        return ClosedError(message)


def _whose() -> tuple[int, Any] | None:
    loop = current_session.get()
    return (loop.order, loop.user) if loop else None
