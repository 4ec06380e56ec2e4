"""The replica pool: the actors of a cluster that have the models, and who does what.

Every replica is an actor with a worker of its own, which forms the batches there; here
it is only decided who gets an item. Items depend on nothing but themselves, so what an
actor had not answered when it died is done again by another one.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import BatchError, ClosedError, ConfigurationError
from socratic_agents.core.image_map import WeakImageMap
from socratic_agents.core.text import error_line
from socratic_agents.scheduler.remote.replica import NOTICES, ImageEvictedError
from socratic_agents.scheduler.requests import Request, current_session
from socratic_agents.scheduler.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from concurrent.futures import Future

    from PIL import Image

    from socratic_agents.core.errors import SocraticError
    from socratic_agents.scheduler.remote.cluster import (
        Cluster,
        Reference,
        ReplicaActor,
    )
    from socratic_agents.scheduler.remote.replica import Capabilities

__all__ = ("ReplicaPool",)

TRIES = 3
"""Deaths in a row, of one item's actors or of the actors of one slot, before others
are spared."""

_REMOTE: Stage[Any, Any] = Stage(name="replica", run=list)


@dataclass(eq=False)
class _Slot:
    """The place of one actor; its successor after its death has a slot of its own."""

    actor: ReplicaActor
    opened: Future[Capabilities]
    deaths: int = 0
    """How many before it died in a row, without one answer."""
    outstanding: int = 0
    """Items that it has not answered yet."""


@dataclass(eq=False)
class _ImageLocation:
    """Which actor has an image, and under which name."""

    token: int
    slot: _Slot | None = None
    pixels: Any = None
    """The image while it is being sent to the slot: whoever asks meanwhile sends the
    same reference."""


class ReplicaPool:
    """The actors, and who of them does what.

    Args:
        cluster: Runs them.
        start: Returns a new actor.
    """

    def __init__(self, cluster: Cluster, *, start: Callable[[], ReplicaActor]) -> None:
        self._cluster, self._start = cluster, start
        self._lock = threading.RLock()
        self._waiting = set[Request]()
        self._locations: WeakImageMap[_ImageLocation] = WeakImageMap()
        self._tokens = itertools.count()
        self._closed, self._last_death = False, "none was started"
        self._notices = dict[str, None]()
        self._slots = [self._open_slot() for _ in range(cluster.count)]

    def open(self, timeout: float) -> Capabilities:
        """Wait until the first actor has opened its models; the others may come later.

        Args:
            timeout: Seconds to wait.

        Raises:
            ConfigurationError: If that takes too long, or what the actor raised.
        """
        while True:
            with self._lock:
                if not self._slots:
                    raise self._no_answer()
                opened = [slot.opened for slot in self._slots]
            done, _ = wait(opened, timeout=timeout, return_when=FIRST_COMPLETED)
            if not done:
                message = (
                    f"expected an actor to open its models within {timeout:g} s, got "
                    f"none of {len(opened)}; look for room (with 'ray status', where "
                    "Ray runs them), or raise the patience of the workers"
                )
                raise ConfigurationError(message)
            for future in done:
                if (problem := future.exception()) is None:
                    return future.result()
                error = self._cluster.unwrap(problem)
                if not isinstance(error, self._cluster.lost_errors):
                    raise error
            self._replace_failed()

    def notices(self) -> tuple[str, ...]:
        """Return what the models of the actors noticed, as far as they drew."""
        return tuple(self._notices)

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        """Draw where the fewest items are outstanding."""
        from PIL import Image

        token, owner = next(self._tokens), _owner()

        def call(slot: _Slot) -> Reference:
            return slot.actor.generate.remote(owner, token, prompt, seed)

        slot, (pixels, info) = await self._request(call)
        self._notices |= dict.fromkeys(info.pop(NOTICES, ()))
        image = Image.fromarray(pixels)
        image.info.update(info)
        self._location(image, _ImageLocation(token, slot))
        return image

    async def query(self, operation: str, *inputs: str | Image.Image) -> Any:
        """Ask about an image where it was drawn, or send it along."""
        import numpy as np

        (image,) = (one for one in inputs if not isinstance(one, str))
        texts = [one if isinstance(one, str) else None for one in inputs]
        location, owner = self._location(image), _owner()

        def call(slot: _Slot) -> Reference:
            if slot is not location.slot or location.pixels is not None:
                if location.pixels is None:
                    rgb = np.asarray(image.convert("RGB"))
                    location.pixels = self._cluster.put(rgb)
                location.slot = slot
            query, token = slot.actor.query, location.token
            return query.remote(owner, token, location.pixels, operation, *texts)

        while True:
            try:
                _, answer = await self._request(call, location.slot)
            except ImageEvictedError:
                location.slot = None
            else:
                return answer
            finally:
                location.pixels = None

    async def write(self, request: Any) -> Any:
        """Let the captioner's language model write where the fewest wait."""
        owner = _owner()
        _, written = await self._request(
            lambda slot: slot.actor.write.remote(owner, request)
        )
        return written

    def close(self) -> None:
        """Answer every waiter with an error, and end the actors."""
        with self._lock:
            self._closed = True
            for request in self._waiting:
                request.resolve(self._refusal())
            slots, self._slots = self._slots, []
        for slot in slots:
            if not slot.opened.done():
                self._cluster.kill(slot.actor)
        self._cluster.close([slot.actor for slot in slots if slot.opened.done()])

    async def _request(
        self, call: Callable[[_Slot], Reference], preferred: _Slot | None = None
    ) -> tuple[_Slot, Any]:
        """Return what an actor answers, and which; a dead one's item is asked again."""
        for _ in range(TRIES):
            slot = await self._choose_slot(preferred)
            try:
                reference = call(slot)
                try:
                    await self._wait_for_any([answer := reference.future()])
                except asyncio.CancelledError:
                    self._cluster.cancel(reference)
                    raise
                output = answer.result()
            except Exception as problem:  # noqa: BLE001 - whatever the actor raised
                error = self._cluster.unwrap(problem)
                if not isinstance(error, self._cluster.lost_errors):
                    slot.deaths = 0
                    raise error from None
                self._replace(slot, error)
            else:
                slot.deaths = 0
                return slot, output
            finally:
                with self._lock:
                    slot.outstanding -= 1
        raise self._no_answer()

    async def _choose_slot(self, preferred: _Slot | None) -> _Slot:
        """Return an open slot, and count one more item for it."""
        while True:
            self._replace_failed()
            with self._lock:
                if self._closed:
                    raise self._refusal()
                if not self._slots:
                    raise self._no_answer()
                ready = [slot for slot in self._slots if slot.opened.done()]
                if ready:
                    fewest = min(ready, key=lambda slot: slot.outstanding)
                    slot = preferred if preferred in ready else fewest
                    slot.outstanding += 1
                    return slot
                opened = [slot.opened for slot in self._slots]
            await self._wait_for_any(opened)

    async def _wait_for_any(self, futures: Iterable[Future[Any]]) -> None:
        """Wait for one of these, or for the end."""
        request = Request(None, _REMOTE)
        with self._lock:
            if self._closed:
                raise self._refusal()
            self._waiting.add(request)
        for future in futures:
            future.add_done_callback(lambda _: request.resolve(None))
        try:
            await request.answer
        finally:
            with self._lock:
                self._waiting.discard(request)

    def _open_slot(self, deaths: int = 0) -> _Slot:
        actor = self._start()
        return _Slot(actor, actor.open.remote().future(), deaths)

    def _replace_failed(self) -> None:
        """Replace the actors that could not open their models."""
        with self._lock:
            for slot in list(self._slots):
                problem = slot.opened.exception() if slot.opened.done() else None
                if problem is not None:
                    self._replace(slot, self._cluster.unwrap(problem))

    def _replace(self, slot: _Slot, problem: BaseException) -> None:
        """Start a new actor for one that is lost, unless too many died in a row."""
        with self._lock:
            if slot not in self._slots:
                return  # somebody else has noticed it before
            self._last_death = error_line(problem)
            self._cluster.kill(slot.actor)  # it may only be out of reach
            at, deaths = self._slots.index(slot), slot.deaths + 1
            lost = isinstance(problem, self._cluster.lost_errors)
            again = lost and deaths < TRIES
            self._slots[at : at + 1] = [self._open_slot(deaths)] if again else []

    def _location(
        self, image: Image.Image, location: _ImageLocation | None = None
    ) -> _ImageLocation:
        """Return where an image is; one from elsewhere is nowhere yet."""
        with self._lock:
            known = self._locations.get(image)
            if known is None:
                known = location or _ImageLocation(next(self._tokens))
                self._locations[image] = known
            return known

    def _no_answer(self) -> SocraticError:
        message = (
            f"expected an actor that answers, got {TRIES} in a row that ended without, "
            f"the last with: {self._last_death}; see what its process wrote (with "
            "Ray, in its logs)"
        )
        return BatchError(message)

    def _refusal(self) -> SocraticError:
        message = "expected open replicas, got closed ones; open a new refiner"
        return ClosedError(message)


def _owner() -> tuple[int, Hashable] | None:
    """Return the order and the user of the session that asks."""
    session = current_session.get()
    return (session.order, session.user) if session else None
