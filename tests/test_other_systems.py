"""Systems that are not Linux: what they lack is simulated here."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing import resource_tracker
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from socratic_agents.cli.doctor import _system
from socratic_agents.core.errors import ConfigurationError, is_out_of_memory
from socratic_agents.core.file_names import file_name_fault
from socratic_agents.lab.study.spec import Study
from socratic_agents.models.devices import choose_dtype
from socratic_agents.models.noise import noise_states, seeded_noise
from socratic_agents.runtime import interrupts
from socratic_agents.runtime.interrupts import InterruptHandler
from socratic_agents.scheduler.remote import processes
from tests.light import REFINE, answer, run_light
from tests.loopback import Loopback

if TYPE_CHECKING:
    from pathlib import Path

WINDOWS = """
import asyncio, os, signal, sys

sys.modules |= {"fcntl": None, "resource": None, "pwd": None, "grp": None}
for name in ("pthread_sigmask", "SIGKILL", "SIGHUP"):
    delattr(signal, name)
for name in ("O_DIRECTORY", "O_NOFOLLOW", "geteuid", "getuid", "fchmod", "statvfs"):
    delattr(os, name)

def opened(path, *rest, open=os.open, **named):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied")
    return open(path, *rest, **named)

def unheard(*_):
    raise NotImplementedError

os.open = opened
for name in ("add_signal_handler", "remove_signal_handler"):
    setattr(asyncio.SelectorEventLoop, name, unheard)
"""
"""Takes away what Windows lacks; what Python itself needs of it was imported before."""


def test_a_system_without_posix_refines_and_resumes(tmp_path: Path) -> None:
    """No folder can be opened or synced, nothing is locked by flock or masked.

    What was done is not done again, and is reported.
    """
    report = """
from socratic_agents.cli.app import main
assert 0 == main(["report", "run"])
assert 0 == main(["replay", "run", "--selector", "first"])
"""
    with Loopback(answer) as server:
        code = REFINE.format(url=server.base_url)
        first = run_light(WINDOWS + code, tmp_path)
        asked = len(server.requests)
        assert asked
        assert first == run_light(WINDOWS + code + report, tmp_path)
        assert asked == len(server.requests)
    assert "(64, 64) 2" == first.strip()
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_loop_that_hears_no_signals_is_told(
    monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    """What is in flight may finish there as well; afterwards all is as it was."""

    def unheard(*_: object) -> None:
        raise NotImplementedError

    for name in ("add_signal_handler", "remove_signal_handler"):
        monkeypatch.setattr(asyncio.SelectorEventLoop, name, unheard)
    before = [signal.getsignal(one) for one in interrupts.SIGNALS]
    told: list[str] = []
    interruption = InterruptHandler(told.append)

    async def work() -> str:
        os.kill(os.getpid(), number)
        while not interruption.code:  # noqa: ASYNC110 - a signal sets it
            await asyncio.sleep(0)
        return "done"

    with interruption.handling():
        assert "done" == interruption.run(work())
    assert code == interruption.code
    assert 1 == len(told)
    assert before == [signal.getsignal(one) for one in interrupts.SIGNALS]


def test_a_child_process_starts_without_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals cannot be masked, nothing forks, and no tracker runs on Windows."""
    done: list[str] = []
    monkeypatch.delattr(signal, "pthread_sigmask")
    monkeypatch.setattr(
        resource_tracker, "ensure_running", lambda: done.append("tracker")
    )
    process: Any = SimpleNamespace(start=lambda: done.append("start"))
    processes._start(process)
    assert ["start"] == done

    def run(work: Any) -> None:
        work.close()
        done.append("run")

    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    monkeypatch.setattr(
        multiprocessing, "set_start_method", lambda *_, **__: done.append("method")
    )
    monkeypatch.setattr(signal, "signal", lambda *_: done.append("ignored"))
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr(asyncio, "run", run)
    processes._child(process, lambda: process)
    assert ["start", "ignored", "run"] == done


@pytest.mark.parametrize(
    "name",
    [
        *("con", "NUL", "aux.yaml", "COM1", "lpt9.x", "con .x", "a.", "a ", "", "a:b"),
        *("a/b", "a\\b", "a?", "a\n", 'a"', "x" * 256, "ü" * 128),
    ],
)
def test_a_name_that_some_system_cannot_have_is_told(name: str) -> None:
    """Windows keeps names, endings and characters; no system has endless ones."""
    assert file_name_fault(name)


@pytest.mark.parametrize("name", ["a", "console", "com", "com10", "a.b", ".a", "a=1"])
def test_a_name_that_all_can_have_is_none(name: str) -> None:
    """What only begins like a kept name is not kept."""
    assert file_name_fault(name) is None


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        (("nul", "a"), "got 'nul': Windows keeps"),
        (("a.", "b"), "ends with a dot"),
        (("Best", "best"), "got 'Best' and 'best'"),
    ],
)
def test_arms_are_folders_everywhere(arms: tuple[str, ...], said: str) -> None:
    """On a disk that tells no capital letters, two arms would share a folder."""
    study = Study.model_validate(
        {
            "title": "t",
            "prompts": [{"set": "pocket", "n": 2}],
            "arms": {name: {"policy": "first"} for name in arms},
            "metrics": ["oracle"],
        }
    )
    with pytest.raises(ConfigurationError, match=said):
        study.every_arm()


def test_apple_computes_in_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """float64 never, bfloat16 from macOS 14: said before a model is loaded."""
    mps = torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_: False)
    for dtype in ("float64", "bfloat16", "float8_e4m3fn"):
        with pytest.raises(ConfigurationError, match="Apple's graphics have here"):
            choose_dtype(dtype, mps)
    assert torch.float32 == choose_dtype("float32", mps)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_: True)
    assert torch.bfloat16 == choose_dtype("bfloat16", mps)


def test_apples_noise_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed sets it too, and whoever draws from it is noticed."""
    states = [torch.tensor([7], dtype=torch.uint8)]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states[-1])
    monkeypatch.setattr(torch.mps, "set_rng_state", states.append)
    monkeypatch.setattr(torch, "manual_seed", states.append)
    assert bytes([7]) == noise_states(torch.device("mps"))[-1]
    with seeded_noise(3):
        assert 3 == states[-1]
    assert states[0] is states[-1]


@pytest.mark.parametrize(
    "text",
    [
        "MPS backend out of memory (MPS allocated: 17.97 GB)",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        "CUDA error: out of memory",
    ],
)
def test_a_lack_of_memory_is_recognised_by_its_words(text: str) -> None:
    """Where torch has no class of its own for it, batches are halved all the same."""
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(ValueError(text))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_doctor_says_where_it_was_tried() -> None:
    """Nobody should take for tried what was only written."""
    assert "ok" == _system("Linux").state
    assert ("warning", True) == (
        _system("Windows").state,
        "tried on Linux only" in _system("Windows").detail,
    )


def test_a_terminal_with_few_characters_gets_help() -> None:
    """What its encoding lacks is written by number, as in Python code."""
    code = "from socratic_agents.cli.app import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "refine", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "200"},
        capture_output=True,
        check=False,
    )
    assert (0, b"") == (run.returncode, run.stderr)
    assert rb"\u2026" in run.stdout
