"""Whenever a batch is killed, the same command finishes it, and nothing is done twice.

F5a  SIGKILL at a random time: 300 trials. 280 fork a warm process (small image models,
     the language model over the wire); 20 start the real command on the pocket profile.
F5b  SIGKILL at each named point of the code, six times each: 60 trials.
F5c  SIGINT and SIGTERM at a random time: 50 trials each.

The numbers of a trial are its seed.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.trials import PROMPTS, left_in, numbered, without_times

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from tests.faults.trials import Bench, Ended, Left

pytestmark = [
    pytest.mark.no_cover,  # what is killed runs in processes of its own
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

POINTS = (
    *("file:write", "file:sync", "file:replace", "file:replaced"),
    *("journal:append", "journal:sync", "journal:synced"),
    *("results:append", "results:sync", "results:synced"),
)
TIMES = 6
"""Kills at each point."""
AT_A_TIME = 8
"""Prompts on their way, each of which asks one question at a time."""


@dataclass(frozen=True)
class Whole:
    """What a batch that nobody interrupts comes to."""

    left: Left
    ended: Ended
    requests: Counter[str]


@pytest.fixture(scope="module")
def whole(bench: Bench) -> Whole:
    """Run a batch to its end; twice, for the first one has to import everything."""
    for name in ("first", "whole"):
        bench.forget()
        ended = bench.run(bench.folder / name)
        assert 0 == ended.code, ended.told
    left = left_in(bench.folder / "whole")
    assert len(PROMPTS) == len(left.results)
    assert {1} == set(left.steps.values())
    found = Whole(left, ended, bench.requests())
    assert {1} == set(found.requests.values())
    assert left.asked == found.requests.total()
    return found


@pytest.fixture
def out(bench: Bench) -> Iterator[Path]:
    """Return an empty run directory."""
    folder = bench.folder / "run"
    bench.forget()
    yield folder
    shutil.rmtree(folder)


def killed(
    bench: Bench, out: Path, whole: Whole, chance: random.Random, number: int
) -> Ended:
    """Run a batch and end it at a random time; one that ended sooner does not count."""
    longest = whole.ended.seconds
    while True:
        ended = bench.run(out, signal=number, after=chance.uniform(0, longest))
        if ended.code != 0:
            return ended
        longest = min(longest, ended.seconds)  # the machine is not always as busy
        shutil.rmtree(out)
        bench.forget()


def finishes(bench: Bench, out: Path, whole: Whole, before: Left) -> None:
    """Check that the same command ends the batch well, and does nothing again."""
    asked = bench.requests()
    ended = bench.run(out)
    assert 0 == ended.code, ended.told
    after, requests = left_in(out), bench.requests()
    assert without_times(whole.left.results) == without_times(after.results)
    assert whole.left.objects == after.objects
    assert all(name == f"{sha256}.png" for name, sha256 in after.objects.items())
    assert (0, 0) == (after.torn, after.parts)
    # What was whole in the journal was not done again, and the rest was done once.
    assert after.steps <= whole.left.steps
    assert whole.left.asked == after.asked
    # Guesses that a finished prompt did not need may have died before they were
    # written; nobody asks for them any more.
    assert before.results or whole.left.steps == after.steps
    # On the wire: all that was asked is in the journal, but what was in flight.
    flying = asked.total() - before.asked
    assert 0 <= flying <= AT_A_TIME
    assert whole.requests.keys() == requests.keys()
    assert whole.left.asked + flying == requests.total()
    assert max(requests.values()) <= 2


@pytest.mark.parametrize("trial", numbered(280, smoke=6))
def test_a_kill_at_any_time_costs_what_was_in_flight(
    bench: Bench, whole: Whole, out: Path, trial: int
) -> None:
    """The results are those of a run that nobody killed."""
    chance = random.Random(trial)
    assert 137 == killed(bench, out, whole, chance, signal.SIGKILL).code
    finishes(bench, out, whole, left_in(out))


@pytest.mark.parametrize("trial", numbered(TIMES * len(POINTS), smoke=len(POINTS)))
def test_a_kill_at_any_point_costs_what_was_in_flight(
    bench: Bench, whole: Whole, out: Path, trial: int
) -> None:
    """Before and after each write, sync and replacement of a file."""
    point, turn = POINTS[trial % len(POINTS)], trial // len(POINTS)
    hit = max(1, whole.ended.hits[point] * turn // TIMES)
    # Lines that are written together reach a point together: how often is chance.
    while 0 == bench.run(out, point=point, hit=hit).code:
        shutil.rmtree(out)
        bench.forget()
        hit = max(1, hit // 2)
    finishes(bench, out, whole, left_in(out))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("trial", numbered(50, smoke=2))
def test_a_signal_ends_a_batch_soon_and_well(
    bench: Bench, whole: Whole, out: Path, number: int, trial: int
) -> None:
    """With its exit code, with a word on how to go on, and what was done is kept."""
    chance = random.Random(trial)
    ended = killed(bench, out, whole, chance, number)
    assert 128 + number == ended.code, ended.told
    assert ended.ended is not None
    assert ended.ended < 5
    assert re.search(
        r"error: interrupted; run the same command again to resume: socratic batch \S+ "
        rf"--out {re.escape(str(out))}",
        ended.told,
    ), ended.told
    assert "Traceback" not in ended.told
    before = left_in(out)
    if "interrupted: what is in flight" in ended.told:
        (done,) = re.findall(rf"(\d+) of {len(PROMPTS)} done, in", ended.told)
        assert int(done) == len(before.results)
    finishes(bench, out, whole, before)


@pytest.fixture(scope="module")
def pocket(bench: Bench) -> tuple[list[str], Left, float]:
    """Run the real command on the pocket profile to its end."""
    command = [
        *(str(Path(sys.executable).with_name("socratic")), "batch"),
        *(str(bench.folder / "few.txt"), "--rounds", "2", "--out"),
    ]
    (bench.folder / "few.txt").write_text("\n".join(PROMPTS[:2]) + "\n")
    out, begun = bench.folder / "pocket", time.monotonic()
    assert 0 == ended(bench, [*command, str(out)])
    return command, left_in(out), time.monotonic() - begun


def ended(bench: Bench, command: list[str], *, after: float | None = None) -> int:
    """Run a command, killed after some seconds, and return its exit code."""
    # Strict: a batch that is gone on with is not cut up as it was, and otherwise the
    # same image may differ in its last bit.
    environment = {**bench.environment, "SOCRATIC_STRICT": "true"}
    del environment["SOCRATIC_BASE_URL"]
    try:
        return subprocess.run(
            command,
            check=False,
            env=environment,
            capture_output=True,
            timeout=after or 300,
        ).returncode
    except subprocess.TimeoutExpired:
        assert after
        return -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("trial", numbered(20, smoke=1))
def test_a_kill_of_the_real_command_costs_what_was_in_flight(
    bench: Bench, pocket: tuple[list[str], Left, float], out: Path, trial: int
) -> None:
    """With real models, started from nothing, killed while it imports or draws."""
    command, expected, seconds = pocket
    command = [*command, str(out)]
    chance = random.Random(trial)
    while 0 == ended(bench, command, after=chance.uniform(0, seconds)):
        shutil.rmtree(out)
    out.mkdir(exist_ok=True)
    before = left_in(out)
    assert 0 == ended(bench, command)
    after = left_in(out)
    assert without_times(expected.results) == without_times(after.results)
    assert expected.objects == after.objects
    assert (0, 0) == (after.torn, after.parts)
    assert expected.steps == after.steps
    assert before.steps <= after.steps
