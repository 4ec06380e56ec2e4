"""The cost model: what calls cost, learned from the calls themselves, and stored.

A curve is learned for each stage, model and key. Those of models with a name are stored
in the user's cache folder, so that the next run knows them from its first batch on.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from socratic_agents.scheduler.cost_curve import CostCurve
from socratic_agents.scheduler.tuning import DEFAULT_TUNING, SchedulerTuning

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from typing import TypeAlias

    from socratic_agents.scheduler.stage import AnyStage

    _Identity: TypeAlias = tuple[str, str | None, str]

__all__ = ("UNREADABLE", "CostModel", "cache_file")

SCHEMA = 1
UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading a file of unknown content can raise."""


def cache_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where curves are stored between runs.

    ``SOCRATIC_CACHE`` names the folder; else it is ``socratic_agents`` in
    ``XDG_CACHE_HOME``, or in ``~/.cache``.
    """
    if own := environment.get("SOCRATIC_CACHE"):
        return Path(own) / "calibration.json"
    caches = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "socratic_agents" / "calibration.json"


@dataclass(eq=False)
class _Record:
    """What is known of one stage, model and key."""

    seconds: dict[int, deque[float]] = field(default_factory=dict)
    """Of the last calls, by their size."""
    cap: int | None = None
    """What fits into the memory; ``None``: everything so far. It is not stored, since
    something else may lie there the next time."""
    curves: dict[int, CostCurve | None] = field(default_factory=dict)
    """Cache of the curves since the last call, by the size limit."""


class CostModel:
    """What calls cost, and how large they can be.

    Args:
        path: Where curves are stored between runs; ``None``: nowhere. A file that
            cannot be read, or is of another version, is ignored.
        tuning: What it depends on.
    """

    def __init__(
        self, path: Path | None = None, *, tuning: SchedulerTuning = DEFAULT_TUNING
    ) -> None:
        self._path, self._tuning = path, tuning
        self._lock = threading.Lock()  # the worker learns while others ask
        self._records = {} if path is None else _read(path, tuning)
        self._learned = False  # something that is worth storing

    def observe(
        self, stage: AnyStage, key: Hashable, *, items: int, seconds: float
    ) -> None:
        """Learn from a call.

        Args:
            stage: What was done.
            key: What the items had in common.
            items: With how many the model was called, copies included.
            seconds: How long it took.
        """
        if stage.max_batch == 1:
            return  # there is nothing to choose
        with self._lock:
            record = self._record(stage, key)
            record.seconds.setdefault(
                items, deque(maxlen=self._tuning.calls_per_size)
            ).append(seconds)
            record.curves.clear()
            self._learned = self._learned or stage.model is not None

    def curve(self, stage: AnyStage, key: Hashable) -> CostCurve | None:
        """Return what calls cost up to the largest one; ``None``: not known yet."""
        if stage.max_batch == 1:
            return None
        with self._lock:
            record = self._records.get(_identity(stage, key))
            if record is None:
                return None
            limit = min(record.cap or stage.max_batch, stage.max_batch)
            if limit not in record.curves:
                record.curves[limit] = _curve(
                    stage, record.seconds, limit, self._tuning
                )
            return record.curves[limit]

    def limit(self, stage: AnyStage, key: Hashable) -> int:
        """Return how many items one call may have, as far as the memory goes."""
        if stage.max_batch == 1:
            return 1
        with self._lock:
            record = self._records.get(_identity(stage, key))
            cap = record.cap if record else None
        return min(cap or stage.max_batch, stage.max_batch)

    def largest(self, stage: str, model: str | None) -> int:
        """Return the largest call that was seen of a model with a name; 0: none.

        Args:
            stage: What the stage is called.
            model: The model's name, as the stage has it.
        """
        if model is None:
            return 0
        with self._lock:
            return max(
                (
                    size
                    for (name, known, _), record in self._records.items()
                    if (name, known) == (stage, model)
                    for size in record.seconds
                ),
                default=0,
            )

    def lower_limit(self, stage: AnyStage, key: Hashable, *, cap: int) -> None:
        """Learn that larger calls do not fit into the memory."""
        with self._lock:
            record = self._record(stage, key)
            record.cap = min(cap, record.cap or cap)

    def save(self) -> None:
        """Store the curves of named models; errors of the file system are ignored."""
        if self._path is None or not self._learned:
            return
        with self._lock:
            curves = [
                {"stage": name, "model": model, "key": key, "seconds": medians}
                for (name, model, key), record in self._records.items()
                if model is not None
                and (medians := _medians(record.seconds, self._tuning))
            ]
        if not curves:
            return
        data = json.dumps({"schema": SCHEMA, "curves": curves}, indent=1).encode()
        part = self._path.with_name(f".{secrets.token_hex(8)}.part")
        # Whole or not at all; it need not outlive a power cut, as results must.
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_bytes(data)
                part.replace(self._path)
            finally:
                part.unlink(missing_ok=True)

    def _record(self, stage: AnyStage, key: Hashable) -> _Record:
        record = self._records.setdefault(_identity(stage, key), _Record())
        if len(self._records) > self._tuning.stored_curves:
            del self._records[next(iter(self._records))]
        return record


def _read(path: Path, tuning: SchedulerTuning) -> dict[_Identity, _Record]:
    """Return what an earlier run has learned, as if seen often enough; all or none."""
    records: dict[_Identity, _Record] = {}
    try:
        # A pipe would be waited for.
        kept = json.loads(path.read_bytes()) if path.is_file() else {}
        if kept["schema"] != SCHEMA:
            return {}
        for one in kept["curves"][-tuning.stored_curves :]:
            identity = (str(one["stage"]), str(one["model"]), str(one["key"]))
            seconds = {int(n): float(s) for n, s in one["seconds"].items()}
            if not all(n > 0 and 0 < s < math.inf for n, s in seconds.items()):
                return {}
            records[identity] = _Record(
                {
                    n: deque([s] * tuning.trusted_calls, tuning.calls_per_size)
                    for n, s in seconds.items()
                }
            )
    except UNREADABLE:
        return {}
    return records


def _identity(stage: AnyStage, key: Hashable) -> _Identity:
    # Keys of all types, and always the same text for the same key.
    return stage.name, stage.model, repr(key)


def _medians(
    seconds: Mapping[int, deque[float]], tuning: SchedulerTuning
) -> dict[int, float]:
    return {
        items: median(lasted)
        for items, lasted in sorted(seconds.items())
        if len(lasted) >= tuning.trusted_calls
    }


def _curve(
    stage: AnyStage,
    seconds: Mapping[int, deque[float]],
    limit: int,
    tuning: SchedulerTuning,
) -> CostCurve | None:
    """Return the curve through the medians, linear between the sizes."""
    known = _medians(seconds, tuning)
    if max(known.values(), default=0.0) < tuning.negligible_seconds:
        return None
    sizes, points = sorted(known), list[float]()
    for items in range(1, limit + 1):
        size = stage.padded_size(items, limit=limit)
        above = next((n for n in sizes if n >= size), None)
        below = next((n for n in reversed(sizes) if n <= size), None)
        if below is None:
            # Smaller than all that were seen: half of it is taken to be fixed.
            least = sizes[0]
            point = known[least] * (1 + size / least) / 2
        elif above is None:
            beyond = tuning.extrapolated_share * (size - below) / below
            point = known[below] * (1 + beyond)
        elif above == below:
            point = known[size]
        else:
            slope = (known[above] - known[below]) / (above - below)
            point = known[below] + slope * (size - below)
        # More items are never quicker; where they seem so, that was chance.
        points.append(max(point, points[-1] if points else 0.0, 1e-9))
    return CostCurve(tuple(points), tuning)
