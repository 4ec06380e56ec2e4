"""Runs the command line again and again in children of one process, and kills them.

Everything is imported once; a trial is a fork of this process, so it takes as long as
its work and not as long as the imports. It reads trials as JSON, one a line, and answers
each with what became of it. ``trials.py`` starts it.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import os
import resource
import select
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from socratic_agents.cli.app import main
from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.storage import failpoints

if TYPE_CHECKING:
    from socratic_agents.config.settings import Settings

LIMIT = 120.0
"""Seconds after which a child hangs."""
HANGS = -1
"""The exit code of one that does."""


def _share(*facts: object) -> float:
    """Return a number from 0 to 1 that depends on nothing but what is given."""
    digest = hashlib.sha256(repr(facts).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


async def paint(prompt: str, seed: int) -> Image.Image:
    """Draw what tells its prompt and seed, in about the time of a real disk."""
    await asyncio.sleep(0.01)
    digest = hashlib.sha256(f"{seed} {prompt}".encode()).digest()
    return Image.frombytes("RGB", (8, 8), digest * 6)


class Eyes:
    """Says of an image what its pixels say, and yes to most questions."""

    def caption(self, images: list[Image.Image]) -> list[str]:
        return [f"a thing of shade {image.getpixel((0, 0))}" for image in images]

    def decide(self, questions: list[tuple[Image.Image, str]]) -> list[Answer]:
        shares = [_share(image.tobytes(), asked) for image, asked in questions]
        return [
            Answer(said=YesNo.YES if share < 0.6 else YesNo.NO, probability=share)
            for share in shares
        ]


def small(settings: Settings) -> Refiner:
    """Return a refiner with the language model of the settings and small models."""
    return Refiner(settings.but(generator=paint, captioner=Eyes(), scorer=None))


def _child(trial: dict[str, Any], hits: Counter[str]) -> int:
    """Run the command line; at the point that is asked for, end without a word."""
    lock = threading.Lock()

    def hook(point: str) -> None:
        with lock:
            hits[point] += 1
            if (point, hits[point]) == (trial.get("point"), trial.get("hit")):
                os.kill(os.getpid(), signal.SIGKILL)
        # Who has the folder keeps it until the other one has seen that it is taken.
        while point == "results:append" and Path(trial.get("held", "")).is_file():
            time.sleep(0.001)

    failpoints.hook = hook
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (trial.get("fsize", most), most))
    # A signal that comes when the program has let go of them came too late to count.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return main(trial["arguments"], open_refiner=small)


def _forked(trial: dict[str, Any]) -> int:
    """Start a child whose output goes to files, and return its number."""
    child = os.fork()
    if child:
        return child
    code, hits = 70, Counter[str]()
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(trial[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        if "pipe" in trial:
            read, write = os.pipe()
            os.dup2(write, 1)
            os.close(read)
        code = _child(trial, hits)
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        told = {"hits": hits, "modules": sorted(sys.modules)}
        # Whole or not at all: a kill may come at any time.
        whole = Path(f"{trial['facts']}.whole")
        whole.write_text(json.dumps(told))
        whole.replace(trial["facts"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _heeds(child: int) -> bool:
    """Whether a process has said what it does when it is asked to terminate."""
    try:
        status = Path(f"/proc/{child}/status").read_text()
    except OSError:
        return True  # it is over
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def _run(trial: dict[str, Any]) -> dict[str, Any]:
    """Return how a child ended, as a shell says it, and how long it took."""
    if "beside" in trial:
        return _run_both(trial)
    child = _forked(trial)
    while "signal" in trial and not _heeds(child):
        time.sleep(0.0005)
    begun, sent = time.monotonic(), 0.0
    ends = os.pidfd_open(child)  # readable when it is over
    try:
        if "signal" in trial and not select.select([ends], [], [], trial["after"])[0]:
            os.kill(child, trial["signal"])
            sent = time.monotonic()
        over, _, _ = select.select([ends], [], [], LIMIT)
    finally:
        os.close(ends)
    if not over:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    now = time.monotonic()
    if not over:
        return {"code": HANGS, "seconds": now - begun, "ended": now - sent}
    code = os.waitstatus_to_exitcode(status)
    code = 128 - code if code < 0 else code
    return {
        "code": code,
        "seconds": now - begun,
        "ended": now - sent if sent else None,
    }


def _run_both(trial: dict[str, Any]) -> dict[str, Any]:
    """Return how two children ended of which the first to end lets the other go on."""
    held = Path(trial["held"])
    held.touch()
    children = [_forked(trial), _forked(trial | trial["beside"])]
    begun, codes = time.monotonic(), dict[int, int]()
    while len(codes) < len(children):
        for child in children:
            done, status = (
                os.waitpid(child, os.WNOHANG) if child not in codes else (0, 0)
            )
            if done:
                codes[child] = os.waitstatus_to_exitcode(status)
                held.unlink(missing_ok=True)
        if time.monotonic() - begun > LIMIT:
            for child in {*children} - codes.keys():
                os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
    code, beside = (codes[child] for child in children)
    seconds = time.monotonic() - begun
    return {"code": code, "beside": beside, "seconds": seconds, "ended": None}


def _import_what_was_needed(facts: Path) -> None:
    """Import what a child had to import, so that the next ones need not."""
    if facts.exists():
        for name in json.loads(facts.read_text())["modules"]:
            if name not in sys.modules:
                with suppress(ImportError):
                    importlib.import_module(name)
    # An import may start a thread that ends by itself; a fork would not take it along.
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(LIMIT)
    assert 1 == threading.active_count(), "a fork takes no other thread with it"


def _serve() -> None:
    for line in sys.stdin:
        trial = json.loads(line)
        sys.stdout.write(f"{json.dumps(_run(trial))}\n")
        sys.stdout.flush()
        _import_what_was_needed(Path(trial["facts"]))


if __name__ == "__main__":
    _serve()
