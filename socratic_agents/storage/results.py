"""Results: the lines of ``results.jsonl``, one for each input of a run.

The journal holds the hash of each line, so that a corrupt one is recognised.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socratic_agents.core.checklist import Checklist
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import History, Round
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.storage.folder import RESULTS
from socratic_agents.storage.journal import key_of, read_keys
from socratic_agents.storage.result_index import ResultIndex

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = (
    "NOT_ONE",
    "RESULTS",
    "Outcomes",
    "is_result",
    "outcome_of",
    "read_outcomes",
    "result_key",
)

NOT_ONE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a line that is no result can raise."""


def result_key(line: bytes) -> str:
    """Return the name under which the journal knows a line."""
    return key_of("result", hashlib.sha256(line).hexdigest())


def is_result(line: bytes) -> bool:
    """Return whether a line holds a refinement or a failure; it is read in full."""
    try:
        outcome_of(json.loads(line))
    except NOT_ONE:
        return False
    return True


@dataclass(frozen=True)
class Outcomes:
    """What a run directory holds, in the order of its inputs.

    Each is read when it is asked for, so that a large run needs little memory.
    """

    index: ResultIndex

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Refinement | Failure]:
        return (outcome_of(json.loads(line)) for line in self.index.lines())


def read_outcomes(folder: Path) -> Outcomes:
    """Return what a run directory holds, to be read one by one.

    Raises:
        ConfigurationError: If there are no results, or one is corrupt.
    """
    there = False
    with suppress(OSError):  # a name that no file can have
        there = (folder / RESULTS).is_file()
    if not there:
        message = (
            f"expected a folder with {RESULTS}, got {folder}; "
            "make one with 'socratic batch' or 'socratic refine'"
        )
        raise ConfigurationError(message)
    known = read_keys(folder, "result")
    index = ResultIndex(folder / RESULTS)

    def written(line: bytes) -> bool:
        return known is None or bytes.fromhex(result_key(line)) in known

    bad = index.scan(valid=lambda line: written(line) and is_result(line))
    # A torn tail is what a killed writer leaves; its prompt is not finished.
    if bad and not (len(bad) == 1 and not bad[0].endswith(b"\n")):
        message = (
            f"expected every line of {folder / RESULTS} to be a result as it was "
            f"written, got {len(bad)} other ones; run the same command again to "
            "repair it"
        )
        raise ConfigurationError(message)
    return Outcomes(index)


def outcome_of(record: Mapping[str, Any]) -> Refinement | Failure:
    """Read the JSON form of a refinement or a failure."""
    if record["status"] == "ok":
        return Refinement.from_json(record)
    rounds = tuple(map(Round.from_json, record["rounds"]))
    checklist = record.get("checklist")
    return Failure(
        user_prompt=record["user_prompt"],
        error=record["error"],
        kind=record["kind"],
        history=History(
            user_prompt=record["user_prompt"],
            rounds=rounds,
            checklist=checklist and Checklist.from_json(checklist),
        ),
        index=record["index"],
    )
