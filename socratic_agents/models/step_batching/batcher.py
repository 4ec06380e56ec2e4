"""A meeting place for drawings: they share the calls of the denoiser, step by step.

Each drawing runs the pipeline's own ``__call__``, unmodified, in a thread of its own,
on a shallow copy of the pipeline with a scheduler of its own. Where it calls the
denoiser it stops. A turn joins the calls that are there, runs them at once, and hands
each its rows. So drawings with different steps and guidance share batches, new ones
join while others are on their way, and one may leave between two steps.

The threads are there for their stacks alone: of all of them and the one that takes the
turns, a single one runs at any moment, and only the latter runs the denoiser. Nothing
that a pipeline shares with its copies is ever used by two at once.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from socratic_agents.core.errors import ClosedError
from socratic_agents.models.step_batching.calls import (
    alike,
    equal,
    joined,
    kind_of,
    rows_of,
)
from socratic_agents.models.step_batching.hooks import check_joinable
from socratic_agents.models.step_batching.tasks import Drawing, Strand, Unwanted

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from typing import Self

    from socratic_agents.models.step_batching.calls import Call

__all__ = ("Rendezvous",)

Result = TypeVar("Result")

CLOSED = "expected an open meeting place, got a closed one; open a new one"


class Rendezvous:
    """Runs drawings of one pipeline, whose denoiser calls it joins.

    ``with`` owns the drawings' threads: leaving it ends them all. ``join``, ``abort``
    and ``close`` may come from any thread; one thread at a time takes turns.

    Two calls are joined if their arguments have the same names, types and sizes but
    for the number of rows. The first time that calls of a kind meet they are run one
    by one as well; if the answers differ, that kind is run one by one from then on.

    Args:
        pipeline: A diffusers pipeline, ready and on its device.
        max_batch: Drawings that are on their way at once, at least 1; others wait.
        padded: Fill every call up to ``max_batch`` drawings with copies of its last:
            then a drawing is the same, to the last bit, whatever is beside it.

    Raises:
        ConfigurationError: If the pipeline's calls cannot be joined.
    """

    def __init__(
        self, pipeline: Any, *, max_batch: int = 8, padded: bool = False
    ) -> None:
        check_joinable(pipeline)
        self.calls = 0
        """How often the denoiser was run."""
        self.steps = 0
        """How many calls of drawings that answered."""
        self._pipeline = pipeline
        self._max_batch = self._cap = max_batch
        self._padded = padded
        self._changed = threading.Condition()
        self._turning = self._closed = False
        self._queue: deque[Strand] = deque()
        self._going: list[Strand] = []
        self._joinable: dict[Hashable, bool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def join(self, draw: Callable[[Any], Result]) -> Drawing[Result]:
        """Add a drawing; it starts with the next turn that has room for it.

        Args:
            draw: Draws with the pipeline that it is given, in a thread of its own:
                ``lambda pipeline: pipeline("a red circle").images[0]``.

        Raises:
            ClosedError: If the meeting place is closed.
        """
        strand = Strand(self._pipeline, draw)
        with self._changed:
            if self._closed:
                raise ClosedError(CLOSED)
            self._queue.append(strand)
        return Drawing(strand, functools.partial(self._abort, strand))

    def run(self, draws: Sequence[Callable[[Any], Result]]) -> list[Result | Exception]:
        """Return what these draw, in order; of a failed one, its error.

        Raises:
            ClosedError: If the meeting place is closed.
        """
        drawings = [self.join(draw) for draw in draws]
        while not all(drawing.done for drawing in drawings):
            self.turn()
        outcomes: list[Result | Exception] = []
        for drawing in drawings:
            try:
                outcomes.append(drawing.result())
            except Exception as error:  # noqa: BLE001 - here it is a value
                outcomes.append(error)
        return outcomes

    def turn(self) -> None:
        """Let every drawing that is on its way take one step; blocks meanwhile.

        Raises:
            ClosedError: If the meeting place is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._turning)
            if self._closed:
                raise ClosedError(CLOSED)
            self._turning = True
        try:
            self._admit()
            for strands in self._groups():
                calls = [strand.call for strand in strands]
                for strand, answer in zip(strands, self._answers(calls), strict=True):
                    strand.answer = answer
            for strand in self._going:
                strand.go_on()
        finally:
            with self._changed:
                self._turning = False
                self._clear()
                self._changed.notify_all()

    def close(self) -> None:
        """End all drawings; a turn that is running comes to its end first."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._turning)
            for strand in (*self._going, *self._queue):
                strand.unwanted = strand.unwanted or "lost its meeting place"
            self._clear()

    def _abort(self, strand: Strand) -> None:
        with self._changed:
            strand.unwanted = "was aborted"
            if not self._turning:  # or the turn sees to it at its end
                self._clear()

    def _clear(self) -> None:
        """Unwind what nobody wants; under the lock and between two turns."""
        for strand in (*self._going, *self._queue):
            if strand.unwanted is not None:
                strand.end(Unwanted(strand.unwanted))
        self._going = [s for s in self._going if s.outcome is None]
        self._queue = deque(s for s in self._queue if s.outcome is None)

    def _admit(self) -> None:
        """Start drawings, the oldest first, as long as there is room."""
        while len(self._going) < self._max_batch:
            with self._changed:
                if not self._queue:
                    return
                strand = self._queue.popleft()
                self._going.append(strand)
            strand.go_on()
            self._going = [s for s in self._going if s.outcome is None]

    def _groups(self) -> list[list[Strand]]:
        """Return who can share a call, the oldest first."""
        groups: list[list[Strand]] = []
        for strand in self._going:
            for group in groups:
                if len(group) < self._cap and self._fit(group[0].call, strand.call):
                    group.append(strand)
                    break
            else:
                groups.append([strand])
        return groups

    def _fit(self, one: Call, other: Call) -> bool:
        """Return whether two calls can be joined."""
        return (
            one.form == other.form
            and one.rows > 0
            # The last bits of a row depend on how many there are.
            and (one.rows == other.rows or not self._padded)
            and all(map(equal, one.wholes, other.wholes))
        )

    def _answers(self, calls: list[Call]) -> list[Any]:
        """Return the denoiser's answer to each call, or its error."""
        import torch

        self.steps += len(calls)
        kind = kind_of(calls)
        if (len(calls) == 1 and not self._padded) or self._joinable.get(kind) is False:
            return [self._alone(call) for call in calls]
        copies = calls[-1:] * (self._cap - len(calls)) if self._padded else []
        together, problem = None, None
        try:
            together = self._together([*calls, *copies])[: len(calls)]
        except Exception as error:  # noqa: BLE001 - each call gets an error of its own
            problem = type(error)
        if together and (len(calls) == 1 or self._joinable.get(kind)):
            return together
        # Outside of the "except": there, the traceback would keep the tensors alive.
        alone = [self._alone(call) for call in calls]
        if problem and issubclass(problem, torch.OutOfMemoryError):
            self._cap = max(len(calls) // 2, 1)
        elif not any(isinstance(answer, Exception) for answer in alone):
            self._joinable[kind] = together is not None and alike(together, alone)
        return together if together and self._joinable.get(kind) else alone

    def _together(self, calls: list[Call]) -> list[Any]:
        rows = [call.rows for call in calls]
        names = calls[0].arguments
        first = next(iter(names.values()))
        device = (first[0] if isinstance(first, list) else first).device
        together = {
            name: joined([call.arguments[name] for call in calls], rows, device)
            for name in names
        }
        output = self._run(calls[0].model, together)
        ends = list(itertools.accumulate(rows))
        return [
            rows_of(output, slice(end - count, end), ends[-1])
            for end, count in zip(ends, rows, strict=True)
        ]

    def _alone(self, call: Call) -> Any:
        try:
            return self._run(call.model, call.arguments)
        except Exception as error:  # noqa: BLE001 - it is raised where it was called
            return error

    def _run(self, model: Any, arguments: Mapping[str, Any]) -> Any:
        import torch

        self.calls += 1
        with torch.no_grad():  # a setting of the thread, and this is not the caller's
            return model(**arguments)
