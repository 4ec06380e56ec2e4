"""What saving, resuming and reporting runs of 1,000, 10,000 and 100,000 prompts cost."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from socratic_agents import Candidate, History, Refinement, Round, RunDirectory
from socratic_agents.cli.app import main as command_line
from socratic_agents.core.history import CandidateRef, StopReason, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = {"seed": 7, "rounds": 4}


def refinement(index: int) -> Refinement:
    """Return one of usual size: 4 rounds, 10 images, some 4 kB in all."""
    prompt = f"prompt {index}: a crimson ball above an azure box, at night"

    def candidate(seed: int) -> Candidate:
        said = "a red ball lies on a blue box in front of a dark wall"
        scores = {"checklist": 0.75, "clip": 0.3}
        return Candidate(prompt=prompt, seed=seed, caption=said, scores=scores)

    verdict = Verdict(satisfied=False, missing=("above",), reason="it lies on it")
    rounds = [range(4), range(4, 6), range(6, 8), range(8, 10)]
    return Refinement(
        history=History(
            user_prompt=prompt,
            rounds=tuple(
                Round(candidates=tuple(map(candidate, seeds)), verdict=verdict)
                for seeds in rounds
            ),
        ),
        best_place=CandidateRef(round=3, candidate=1),
        stop=StopReason.ROUNDS_SPENT,
        settings=SETTINGS,
        index=index,
    )


def opened(folder: Path) -> RunDirectory:
    """Return the directory of a run that can be resumed."""
    return RunDirectory(folder, settings=SETTINGS, resume=True)


def save(folder: Path, count: int) -> int:
    """Save all results of a new run."""
    with opened(folder) as run:
        return len([run.save(refinement(index)).index for index in range(count)])


def open_it(folder: Path, count: int) -> int:
    """Open a finished run, in a thread of the event loop."""

    async def work() -> int:
        async with opened(folder):
            return count

    return asyncio.run(work())


def resume(folder: Path, count: int) -> int:
    """Resume with one more line at the top, which moves all others."""
    prompts = ["a new prompt", *(refinement(i).user_prompt for i in range(count))]
    with opened(folder) as run:
        run.set_inputs(prompts)
        return sum(run.finished(i, p) is not None for i, p in enumerate(prompts))


def report(folder: Path, count: int) -> int:
    """Write the page of a run."""
    return count if command_line(["report", str(folder)]) == 0 else 0


def report_inside(folder: Path, count: int) -> int:
    """Write the page of a run that has all of it inside."""
    return count if command_line(["report", str(folder), "--no-linked"]) == 0 else 0


PARTS: dict[str, Callable[[Path, int], int]] = {
    "save": save,
    "open": open_it,
    "resume": resume,
    "report": report,
    "report --no-linked": report_inside,
}


def measure(part: str, folder: Path, count: int) -> None:
    """Do one part in this process, and print what it cost."""
    setattr(os, "fsync", int)  # noqa: B010 - the disk is not what is measured
    before = _written()
    start, busy = time.perf_counter(), time.process_time()
    if PARTS[part](folder, count) != count:
        sys.exit(f"expected {count} results")
    seconds = [time.perf_counter() - start, time.process_time() - busy]
    facts = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(f.split()[1]) for f in facts if f.startswith("VmHWM"))
    say(json.dumps([*seconds, peak / 1024, (_written() - before) / 1e6]))


def _written() -> int:
    fields = dict(f.split(": ") for f in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def main(counts: list[int]) -> None:
    """Print a table; the exponent is that of the processor's time."""
    say("| part | prompts | seconds | of processor | peak MB | MB written | exponent |")
    say("|---|---|---|---|---|---|---|")
    for part, found in measured(counts).items():
        exponent = ""
        for place, (count, costs) in enumerate(found):
            if place:
                fewer, before = found[place - 1]
                ratio = math.log(costs[1] / before[1]) / math.log(count / fewer)
                exponent = f"{ratio:.2f}"
            seconds, busy, peak, written = costs
            numbers = f"{seconds:.2f} | {busy:.2f} | {peak:.0f} | {written:.1f}"
            say(f"| {part} | {count:,} | {numbers} | {exponent} |")


def measured(counts: list[int]) -> dict[str, list[tuple[int, list[float]]]]:
    """Return what each part costs for so many prompts, in a process of its own."""
    rows: dict[str, list[tuple[int, list[float]]]] = {part: [] for part in PARTS}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            for part, found in rows.items():
                command = [sys.executable, __file__, part, folder, str(count)]
                done = subprocess.run(  # noqa: S603 - this script itself
                    command, capture_output=True, check=True
                )
                found.append((count, json.loads(done.stdout)))
    return rows


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in PARTS:
        measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main([int(count) for count in sys.argv[1:]] or [1_000, 10_000, 100_000])
