"""A Ray cluster: connected to, asked for room, and given actors to run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from socratic_agents.config.workers import RAY
from socratic_agents.core.errors import ConfigurationError, StageTimeoutError
from socratic_agents.core.extras import needs_extra
from socratic_agents.scheduler.remote.cluster import Cluster, ReplicaActor
from socratic_agents.scheduler.remote.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Iterable

    from socratic_agents.config.workers import RayWorkers

__all__ = ("RayCluster",)

IN_FLIGHT = 4096
"""Calls that one actor accepts at a time; its worker queues them."""


class RayCluster(Cluster):
    """A connection to Ray; one that was there before is used, and left open.

    Args:
        workers: Where it is, and what is wanted of it.

    Raises:
        ConfigurationError: If Ray is not installed, nobody answers at the address, or
            there is no room for a single actor.
    """

    def __init__(self, workers: RayWorkers) -> None:
        with needs_extra(f"for workers {workers.address!r}"):
            import ray
        self._ray, self._workers = ray, workers
        self.lost_errors = (
            ray.exceptions.RayActorError,
            ray.exceptions.ObjectLostError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.OutOfMemoryError,
            StageTimeoutError,  # a thread cannot be ended, but its process can
        )
        self._owned = not ray.is_initialized()
        if self._owned:
            self._connect(workers.address)
        try:
            self._options, self.count = self._room()
        except BaseException:
            self.close(())
            raise

    def start(self, *inputs: Any, **named: Any) -> ReplicaActor:
        """Return a new actor, which may have to wait for room, or for a machine."""
        options = self._ray.remote(Replica).options(**self._options)
        actor: ReplicaActor = options.remote(*inputs, **named)
        return actor

    def put(self, value: Any) -> Any:
        """Return a reference by which a value is sent to each machine once."""
        return self._ray.put(value)

    def cancel(self, reference: Any) -> None:
        """Cancel a request at its actor."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.cancel(reference)

    def kill(self, actor: Any) -> None:
        """End an actor and whatever it does, if it has not ended."""
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(actor)

    def unwrap(self, problem: BaseException) -> BaseException:
        """Return the error as the actor raised it, or Ray's own."""
        if isinstance(problem, self._ray.exceptions.RayTaskError):
            cause: BaseException = problem.cause
            return cause
        return problem

    def close(self, actors: Iterable[Any], *, timeout: float = 5.0) -> None:
        """Close these actors and kill them; disconnect from what was connected here.

        Args:
            actors: To be closed.
            timeout: Seconds that they have to end in good order.
        """
        with contextlib.suppress(self._ray.exceptions.RayError):
            ends = [actor.close.remote() for actor in actors]
            if ends:
                self._ray.wait(ends, num_returns=len(ends), timeout=timeout)
        for actor in actors:
            self.kill(actor)
        if self._owned:
            self._ray.shutdown()

    def _connect(self, address: str) -> None:
        # What actors print would come out of our stdout, which may be read by a program.
        quiet: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
        if address == RAY:
            try:
                self._ray.init(address="auto", **quiet)
            except ConnectionError:
                self._ray.init(address="local", include_dashboard=False, **quiet)
            return
        try:
            self._ray.init(address=address, **quiet)
        except (ConnectionError, ImportError, RuntimeError, ValueError) as problem:
            said = " ".join(str(problem).split())[:200]
            message = (
                f"expected a Ray client server at {address}, got: {said}; start one "
                "with 'ray start --head --ray-client-server-port PORT'"
            )
            raise ConfigurationError(message) from problem

    def _room(self) -> tuple[dict[str, Any], int]:
        """Return what an actor asks for, and how many of them there will be.

        More than there is room for may be asked for: clusters grow.
        """
        there, each = self._ray.cluster_resources(), self._workers.gpus_each
        gpus = there.get("GPU", 0)
        if each is None:
            each = 1 if gpus else 0
        if each > gpus:
            message = (
                f"expected {each:g} GPUs in the cluster for each worker, got {gpus:g}; "
                "lower gpus_each (0 computes on the CPU)"
            )
            raise ConfigurationError(message)
        machines = sum(node["Alive"] for node in self._ray.nodes())
        count = self._workers.count or int(gpus / each if each else machines)
        options = {
            "max_concurrency": IN_FLIGHT,
            "num_cpus": 0 if each else 1,
            "num_gpus": each,
            "scheduling_strategy": "SPREAD",
        }
        return options, count
