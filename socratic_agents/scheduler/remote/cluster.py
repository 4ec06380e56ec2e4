"""Clusters: what runs actors, and what is asked of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

__all__ = ("Cluster", "Reference", "RemoteMethod", "ReplicaActor")


class Reference(Protocol):
    """An answer that is to come from an actor."""

    def future(self) -> Future[Any]:
        """Return the future of the answer."""


class RemoteMethod(Protocol):
    """A method of an actor."""

    def remote(self, *inputs: Any) -> Reference:
        """Call it there."""


class ReplicaActor(Protocol):
    """A ``Replica`` elsewhere."""

    @property
    def open(self) -> RemoteMethod:
        """As the replica's own, like all of these."""

    @property
    def generate(self) -> RemoteMethod: ...  # noqa: D102 - see above

    @property
    def query(self) -> RemoteMethod: ...  # noqa: D102 - see above

    @property
    def write(self) -> RemoteMethod: ...  # noqa: D102 - see above

    @property
    def close(self) -> RemoteMethod: ...  # noqa: D102 - see above


class Cluster(Protocol):
    """Where actors run: in processes of this machine, or of those that Ray knows.

    A cluster gets back its own actors and references, so that it need not say here of
    which class they are.
    """

    count: int
    """How many actors there shall be."""
    lost_errors: tuple[type[BaseException], ...]
    """What is raised where an actor or its answer is lost, or of no use."""

    def start(self, *inputs: Any, **named: Any) -> ReplicaActor:
        """Return a new actor around a ``Replica`` of these arguments."""

    def put(self, value: Any) -> Any:
        """Return what stands for a value among the inputs of actors."""

    def cancel(self, reference: Any) -> None:
        """Cancel a request at its actor."""

    def kill(self, actor: Any) -> None:
        """End an actor and whatever it does, if it has not ended."""

    def unwrap(self, problem: BaseException) -> BaseException:
        """Return the error as the actor raised it."""

    def close(self, actors: Iterable[Any]) -> None:
        """Close these actors in good order, and end all."""
