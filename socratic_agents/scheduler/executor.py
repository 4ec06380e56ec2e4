"""The batch executor: runs a batch and answers it, whatever the model does."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import BatchError, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from contextlib import AbstractContextManager

    from socratic_agents.scheduler.cost_model import CostModel
    from socratic_agents.scheduler.requests import Request
    from socratic_agents.scheduler.stage import AnyStage

__all__ = ("BatchExecutor",)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Outcome:
    """How a call of the model ended."""

    outputs: list[Any] | None
    """What it returned; ``None``: it failed."""
    problem: BaseException | None = None
    """What it raised, if that is for a single item."""
    out_of_memory: bool = False


class BatchExecutor:
    """Runs batches: pads them, halves those that fail, answers everyone once.

    Args:
        cost_model: Learns from the calls.
        watch: Returns a context that lasts as long as a call of a stage.
        record: Called after every call, failed ones included: stage, items, seconds.
        closed: Asked before every call; nothing is begun any more when true.
    """

    def __init__(
        self,
        cost_model: CostModel,
        *,
        watch: Callable[[AnyStage], AbstractContextManager[None]],
        record: Callable[[AnyStage, int, float], None],
        closed: Callable[[], bool],
    ) -> None:
        self._cost_model = cost_model
        self._watch, self._record, self._closed = watch, record, closed

    def run(
        self,
        stage: AnyStage,
        key: Hashable,
        requests: Sequence[Request],
        *,
        remedies: Sequence[Callable[[], object] | None] | None = None,
    ) -> None:
        """Run a batch and answer it; one that fails is tried again in halves.

        Args:
            stage: What to do.
            key: What the items have in common.
            requests: Who waits; those who do not any more are left out.
            remedies: What to try, one after the other, when there is too little
                memory for a single item; ``None``: all that the stage has.
        """
        requests = [request for request in requests if request.wanted]
        if not requests or self._closed():
            return
        limit = self._cost_model.limit(stage, key)
        if len(requests) > limit:
            self._run_in_pieces(stage, key, requests, limit)
            return
        size = stage.padded_size(len(requests), limit=limit)
        start = time.perf_counter()
        outcome = self._call(stage, requests, size)
        seconds = time.perf_counter() - start
        self._record(stage, len(requests), seconds)
        if outcome.out_of_memory:
            if remedies is None:
                remedies = (stage.free_memory, stage.reduce_memory)
            self._retry_smaller(stage, key, requests, size, remedies, outcome.problem)
        elif outcome.problem is not None:
            requests[0].resolve(_raisable(stage, outcome.problem))
        elif outcome.outputs is None:
            half = len(requests) // 2
            self.run(stage, key, requests[:half])
            self.run(stage, key, requests[half:])
        elif len(outcome.outputs) != size:
            # Before anyone is answered: nobody can say whose output is whose.
            for request in requests:
                request.resolve(_miscounted(stage, size, len(outcome.outputs)))
        else:
            self._cost_model.observe(stage, key, items=size, seconds=seconds)
            # Shorter than the outputs by the copies that pad the call.
            for request, output in zip(requests, outcome.outputs, strict=False):
                request.resolve(_raisable(stage, output))

    def _call(
        self, stage: AnyStage, requests: Sequence[Request], size: int
    ) -> _Outcome:
        """Call the model with the items, and copies of the last one.

        What follows is done outside of the "except": there, the traceback would keep
        the tensors of a failed call alive.
        """
        items = [request.item for request in requests]
        items += items[-1:] * (size - len(items))
        try:
            with self._watch(stage):
                return _Outcome(_listed(stage.run(items)))
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked
            if is_out_of_memory(error):
                return _Outcome(None, error.with_traceback(None), out_of_memory=True)
            return _Outcome(None, error if len(requests) == 1 else None)

    def _retry_smaller(
        self,
        stage: AnyStage,
        key: Hashable,
        requests: Sequence[Request],
        size: int,
        remedies: Sequence[Callable[[], object] | None],
        problem: BaseException | None,
    ) -> None:
        """Retry with less memory: in smaller batches, then with smaller pieces."""
        if size > 1:
            _try(stage.free_memory)
            cap = size // 2
            if stage.padded:
                _log.warning(
                    "too little memory for %d items of %s in a call: from now on %d, "
                    "which changes last bits",
                    size,
                    stage.name,
                    cap,
                )
            self._cost_model.lower_limit(stage, key, cap=cap)
            self._run_in_pieces(stage, key, requests, cap)
            return
        left = [remedy for remedy in remedies if remedy is not None]
        if not left:
            requests[0].resolve(problem)
            return
        _try(left[0])
        self.run(stage, key, requests, remedies=left[1:])

    def _run_in_pieces(
        self, stage: AnyStage, key: Hashable, requests: Sequence[Request], size: int
    ) -> None:
        for start in range(0, len(requests), size):
            self.run(stage, key, requests[start : start + size])


def _listed(outputs: Any) -> list[Any]:
    """Return outputs as a list; a text would be one of letters, a mapping of names."""
    if isinstance(outputs, str | bytes | Mapping):
        message = f"expected a list of outputs, got {type(outputs).__name__}"
        raise TypeError(message)
    return list(outputs)


def _try(remedy: Callable[[], object] | None) -> None:
    """Apply a remedy; one that fails must not end the worker's thread."""
    if remedy is not None:
        with contextlib.suppress(Exception):
            remedy()


def _miscounted(stage: AnyStage, expected: int, got: int) -> BatchError:
    message = (
        f"expected {expected} outputs of stage {stage.name!r}, one for each item, "
        f"got {got}; fix the model's list"
    )
    return BatchError(message)


def _raisable(stage: AnyStage, output: Any) -> Any:
    """Return an output that can be given to who awaits it; an exit cannot."""
    if not isinstance(output, BaseException) or (
        isinstance(output, Exception) and not isinstance(output, StopIteration)
    ):
        return output
    message = (
        f"expected stage {stage.name!r} to return or to raise an ordinary exception, "
        f"got {type(output).__name__}; fix the model"
    )
    error = BatchError(message)
    error.__cause__ = output
    return error
