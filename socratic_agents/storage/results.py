"""Results: the lines of ``results.jsonl``, one for each prompt of a run.

The journal holds the hash of each line, so that a corrupt one is recognised.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from socratic_agents.core.checklist import Checklist
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import History, Round
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.storage.journal import key_of, read_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ("RESULTS", "outcome_of", "read_outcomes", "read_results", "result_key")

RESULTS = "results.jsonl"

_NOT_ONE = (ValueError, KeyError, TypeError, AttributeError)
"""What reading a line that is no result can raise."""


def result_key(line: bytes) -> str:
    """Return the name under which the journal knows a line."""
    return key_of("result", hashlib.sha256(line).hexdigest())


def read_results(
    folder: Path, *, written: Callable[[bytes], bool]
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the results of a folder, and the lines that are corrupt.

    Args:
        folder: The run directory.
        written: Whether a line, its end included, was written like this.
    """
    path = folder / RESULTS
    good: list[dict[str, Any]] = []
    bad: list[bytes] = []
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
            outcome_of(record)
        except _NOT_ONE:
            bad.append(line)
            continue
        if written(line):
            good.append(record)
        else:
            bad.append(line)
    return good, bad


def read_outcomes(folder: Path) -> list[Refinement | Failure]:
    """Return what a run directory holds, in the order of its inputs.

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
    good, bad = read_results(
        folder, written=lambda line: known is None or result_key(line) in known
    )
    # A torn tail is what a killed writer leaves; its prompt is not finished.
    if bad and not (len(bad) == 1 and not bad[0].endswith(b"\n")):
        message = (
            f"expected every line of {folder / RESULTS} to be a result as it was "
            f"written, got {len(bad)} other ones; run the same command again to "
            "repair it"
        )
        raise ConfigurationError(message)
    return sorted(map(outcome_of, good), key=lambda outcome: outcome.index)


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
