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
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError, StageTimeoutError
from socratic_agents.core.text import error_line
from socratic_agents.scheduler.remote.child import BEGUN, CANCEL, Child
from socratic_agents.scheduler.remote.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.connection import Connection

    from socratic_agents.config.settings import Settings
    from socratic_agents.config.workers import ProcessWorkers

__all__ = ("LostProcessError", "ProcessCluster")

LONGEST = 5.0
"""Seconds that a killed process may take to end."""


class LostProcessError(RuntimeError):
    """Raised where the process that an answer should come from has ended."""


class ProcessCluster:
    """Processes of this machine, each of which runs a replica.

    Args:
        workers: How many are wanted.
        device: The settings' device; several, with commas, are taken in turn.
    """

    def __init__(self, workers: ProcessWorkers, *, device: str | None = None) -> None:
        self.lost = (LostProcessError, StageTimeoutError)
        """What is raised where a process is gone, or of no use any more."""
        spared = device is not None or workers.count == 1
        self._devices = _devices(device, cuda=0 if spared else _cuda_devices())
        self.count = workers.count or len(self._devices)
        self._actors: list[_Actor] = []

    def start(self, settings: Settings, **named: Any) -> _Actor:
        """Return a new actor around a ``Replica`` of these arguments.

        It gets the device that the fewest others have.
        """
        self._actors = [actor for actor in self._actors if actor.reader.is_alive()]
        taken = Counter(actor.device for actor in self._actors if not actor.doomed)
        device = min(self._devices, key=lambda name: taken[name])
        own = settings.model_copy(update={"device": device})
        actor = _Actor(device, partial(Replica, own, **named))
        self._actors.append(actor)
        return actor

    def put(self, value: Any) -> Any:
        """Return the value; it crosses with each request that needs it."""
        return value

    def cancel(self, reference: _Reference) -> None:
        """Let an actor know that nobody waits for this answer any more."""
        reference.actor.send(reference.number, CANCEL, ())

    def kill(self, actor: _Actor) -> None:
        """End a process and whatever it does, if it has not ended."""
        actor.kill()

    def bare(self, problem: BaseException) -> BaseException:
        """Return the error: errors cross as they are."""
        return problem

    def close(self, actors: Iterable[_Actor], *, patience: float = 1.0) -> None:
        """Close these actors in good order, and end all processes.

        Args:
            actors: Replicas.
            patience: Seconds that they have to end in good order.
        """
        wait([actor.ask("close").future() for actor in actors], timeout=patience)
        for actor in self._actors:
            actor.kill()
        for actor in self._actors:
            actor.reader.join(LONGEST)


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """An answer that an actor owes."""

    actor: _Actor
    number: int
    answer: Future[Any] = field(default_factory=Future)

    def future(self) -> Future[Any]:
        return self.answer


class _Actor:
    """A replica that is made in a process, and the thread that hears from it."""

    def __init__(self, device: str | None, make: Callable[[], Replica]) -> None:
        self.device = device
        self.doomed = self.over = False
        self._numbers = itertools.count(BEGUN + 1)
        self._owed: dict[int, Future[Any]] = {BEGUN: Future()}
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

    def __getattr__(self, name: str) -> SimpleNamespace:
        # Called as the methods of Ray's actors are.
        return SimpleNamespace(remote=partial(self.ask, name))

    def ask(self, name: str, *inputs: Any) -> _Reference:
        """Call a method of the replica."""
        reference = _Reference(actor=self, number=next(self._numbers))
        with self._ending:
            if self.over:
                reference.answer.set_exception(self._end())
                return reference
            self._owed[reference.number] = reference.answer
        self.send(reference.number, name, inputs)
        return reference

    def send(self, number: int, name: str, inputs: tuple[Any, ...]) -> None:
        """Send a request; the child has a thread that does nothing but take them."""
        # Of an end the reader hears, too, and it knows what to do.
        with contextlib.suppress(OSError), self._sending:
            self._pipe.send((number, name, inputs))

    def kill(self) -> None:
        """End the process; whoever waits for an answer hears of it."""
        self.doomed = True
        self._process.kill()

    def _read(self) -> None:
        """Settle what comes, until nothing comes any more."""
        try:
            with contextlib.suppress(EOFError, OSError):
                while True:
                    for number, output, problem in self._pipe.recv():
                        future = self._owed.pop(number)
                        if problem is None:
                            future.set_result(output)
                        else:
                            future.set_exception(problem)
        finally:
            self._bury()

    def _bury(self) -> None:
        """Wait for the end, and tell of it whoever waits for an answer."""
        self.doomed = True
        self._process.join(1)
        self._process.kill()  # one that has closed its pipe is of no use
        self._process.join()
        with self._ending:
            self.over = True
        with self._sending:
            self._pipe.close()
        for future in self._owed.values():
            future.set_exception(self._end())

    def _end(self) -> Exception:
        """Return what to say of the end."""
        code = self._process.exitcode
        if BEGUN in self._owed and code and code > 0:
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
    resource_tracker.ensure_running()  # it would unblock the signal too soon
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(pipe: Connection, make: Callable[[], Replica]) -> None:
    """Answer until the pipe closes; what is printed goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.dup2(2, 1)

    # Named locks, such as tqdm's, would outlive a process that is killed; it is a
    # daemon, which starts no others, so that the method decides about nothing else.
    multiprocessing.set_start_method("fork", force=True)

    async def work() -> None:
        await Child(pipe, make(), describe=error_line).run()
        os._exit(0)  # whatever a model still computes: nobody waits for it

    asyncio.run(work())
