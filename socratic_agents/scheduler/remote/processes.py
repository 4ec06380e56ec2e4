"""A process cluster: child processes of this one that run replicas.

The thread that launches a model's kernels and the event loop fight for one interpreter
lock; in a process of its own a model does not notice what else the program computes.
Requests and answers go through one pipe for each child, with numbers to match them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import Counter
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError, StageTimeoutError
from socratic_agents.core.text import error_line
from socratic_agents.scheduler.remote.child import CANCEL, READY, RpcServer
from socratic_agents.scheduler.remote.cluster import Cluster
from socratic_agents.scheduler.remote.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.connection import Connection

    from socratic_agents.config.settings import Settings
    from socratic_agents.config.workers import ProcessWorkers

__all__ = ("LostProcessError", "ProcessCluster")

KILL_TIMEOUT = 5.0
"""Seconds that a killed process may take to end."""


class LostProcessError(RuntimeError):
    """Raised where the process that an answer should come from has ended."""


class ProcessCluster(Cluster):
    """Processes of this machine, each of which runs a replica.

    Args:
        workers: How many are wanted.
        device: The settings' device; several, with commas, are taken in turn.
    """

    def __init__(self, workers: ProcessWorkers, *, device: str | None = None) -> None:
        self.lost_errors = (LostProcessError, StageTimeoutError)
        needless = device is not None or workers.count == 1
        self._devices = _devices(device, cuda=0 if needless else _cuda_devices())
        self.count = workers.count or len(self._devices)
        self._actors: list[_Actor] = []

    def start(self, settings: Settings, **named: Any) -> _Actor:
        """Return a new actor around a ``Replica`` of these arguments.

        It gets the device that the fewest others have.
        """
        self._actors = [actor for actor in self._actors if actor.reader.is_alive()]
        taken = Counter(actor.device for actor in self._actors if not actor.killed)
        device = min(self._devices, key=lambda name: taken[name])
        own = settings.model_copy(update={"device": device})
        actor = _Actor(device, partial(Replica, own, **named))
        self._actors.append(actor)
        return actor

    def put(self, value: Any) -> Any:
        """Return the value; it is sent with each request that needs it."""
        return value

    def cancel(self, reference: _Reference) -> None:
        """Cancel a request at its actor."""
        reference.actor.send(reference.number, CANCEL, ())

    def kill(self, actor: _Actor) -> None:
        """End a process and whatever it does, if it has not ended."""
        actor.kill()

    def unwrap(self, problem: BaseException) -> BaseException:
        """Return the error: errors are sent as they are."""
        return problem

    def close(self, actors: Iterable[_Actor], *, timeout: float = 1.0) -> None:
        """Close these actors in good order, and end all processes.

        Args:
            actors: To be closed.
            timeout: Seconds that they have to end in good order.
        """
        wait([actor.close.remote().future() for actor in actors], timeout=timeout)
        for actor in self._actors:
            actor.kill()
        for actor in self._actors:
            actor.reader.join(KILL_TIMEOUT)


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """An answer that is to come from an actor."""

    actor: _Actor
    number: int
    answer: Future[Any] = field(default_factory=Future)

    def future(self) -> Future[Any]:
        return self.answer


@dataclass(frozen=True)
class _Method:
    """A method of an actor, called as those of Ray's actors are."""

    actor: _Actor
    name: str

    def remote(self, *inputs: Any) -> _Reference:
        return self.actor.ask(self.name, *inputs)


class _Actor:
    """A replica in a process of its own, and the thread that reads its answers."""

    def __init__(self, device: str | None, make: Callable[[], Replica]) -> None:
        self.device = device
        self.open, self.close = _Method(self, "open"), _Method(self, "close")
        self.generate, self.query = _Method(self, "generate"), _Method(self, "query")
        self.write = _Method(self, "write")
        self.killed = self.ended = False
        self._numbers = itertools.count(READY + 1)
        self._pending: dict[int, Future[Any]] = {READY: Future()}
        self._sending, self._ending = threading.Lock(), threading.Lock()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_child, args=(theirs, make), name="socratic-replica", daemon=True
        )
        with theirs:
            _start(self._process)
        self.reader = threading.Thread(
            target=self._read, name="socratic-replica-reader", daemon=True
        )
        self.reader.start()

    def ask(self, name: str, *inputs: Any) -> _Reference:
        """Call a method of the replica."""
        reference = _Reference(actor=self, number=next(self._numbers))
        with self._ending:
            if self.ended:
                reference.answer.set_exception(self._end_error())
                return reference
            self._pending[reference.number] = reference.answer
        self.send(reference.number, name, inputs)
        return reference

    def send(self, number: int, name: str, inputs: tuple[Any, ...]) -> None:
        """Send a request; the child has a thread that does nothing but receive them."""
        # The reader notices an end too, and handles it.
        with contextlib.suppress(OSError), self._sending:
            self._pipe.send((number, name, inputs))

    def kill(self) -> None:
        """End the process; whoever waits for an answer gets an error."""
        self.killed = True
        self._process.kill()

    def _read(self) -> None:
        """Set the results that come, until the pipe closes."""
        try:
            with contextlib.suppress(EOFError, OSError):
                while True:
                    for number, output, problem in self._pipe.recv():
                        future = self._pending.pop(number)
                        if problem is None:
                            future.set_result(output)
                        else:
                            future.set_exception(problem)
        finally:
            self._reap()

    def _reap(self) -> None:
        """Wait for the end, and answer whoever waits with an error."""
        self.killed = True
        self._process.join(1)
        self._process.kill()  # one that has closed its pipe is of no use
        self._process.join()
        with self._ending:
            self.ended = True
        with self._sending:
            self._pipe.close()
        for future in self._pending.values():
            future.set_exception(self._end_error())

    def _end_error(self) -> Exception:
        """Return the error that says how the process ended."""
        code = self._process.exitcode
        if READY in self._pending and code and code > 0:
            message = (
                f"expected a process that imports what it needs, got exit code {code}; "
                "what the main program does has to stand under "
                "if __name__ == '__main__'"
            )
            return ConfigurationError(message)
        return LostProcessError(f"the process ended with exit code {code}")


def _devices(device: str | None, *, cuda: int) -> tuple[str | None, ...]:
    """Return the devices that processes take in turn.

    Args:
        device: As the settings name it.
        cuda: How many CUDA devices there are, where none is named.
    """
    if device is not None:
        return tuple(name.strip() for name in device.split(","))
    return tuple(f"cuda:{n}" for n in range(cuda)) or (None,)


def _cuda_devices() -> int:
    import torch

    return int(torch.cuda.device_count())


def _start(process: multiprocessing.process.BaseProcess) -> None:
    """Start a process that Ctrl-C at the terminal does not reach, not even early."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows; it ignores it once it runs
        process.start()
        return
    resource_tracker.ensure_running()  # it would unblock the signal too soon
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(  # pragma: no cover - runs in a process that ends without a trace
    pipe: Connection, make: Callable[[], Replica]
) -> None:
    """Answer until the pipe closes; what is printed goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.dup2(2, 1)

    # Named locks, such as tqdm's, would outlive a process that is killed; it is a
    # daemon, which starts no others, so that the method decides about nothing else.
    if "fork" in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method("fork", force=True)

    async def work() -> None:
        await RpcServer(pipe, make(), describe=error_line).run()
        os._exit(0)  # whatever a model still computes: nobody waits for it

    asyncio.run(work())
