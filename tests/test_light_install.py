"""A plain installation: what runs without torch, and what says which extra it needs."""

from __future__ import annotations

import json
import platform
import re
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.extras import install_line, is_installed, needs_extra, require
from socratic_agents.models.devices import free_memory
from socratic_agents.models.loading import load_errors
from socratic_agents.runtime import batching
from socratic_agents.scheduler.worker import Worker
from tests.light import REFINE, answer, run_light
from tests.loopback import Loopback

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = """
import contextlib, io, json, os
from pathlib import Path
from socratic_agents.cli.app import main

told = []
for command in {commands!r}:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(command)
    told.append([code, err.getvalue()])
print(json.dumps(told))
"""


def told(folder: Path, *commands: list[str]) -> list[Any]:
    """Return code and messages of each command, all run in one light program."""
    printed = run_light(COMMANDS.format(commands=commands), folder)
    return list(json.loads(printed.splitlines()[-1]))


def test_a_refinement_needs_no_torch(tmp_path: Path) -> None:
    """With servers for images and words, and eyes of one's own, nothing more is loaded.

    What is kept of it can be shown, reported and replayed as well.
    """
    with Loopback(answer) as server:
        printed = run_light(REFINE.format(url=server.base_url), tmp_path)
    assert "(64, 64) 2" == printed.strip()
    image = next((tmp_path / "run" / "objects").rglob("*.png"))
    commands = (
        ["report", "run"],
        ["show", str(image)],
        ["replay", "run", "--selector", "last"],
        ["plugins"],
        ["lab", "sets"],
        ["bench", "--workload", "virtual"],
        ["refine", "a red ball", "--dry-run"],
    )
    assert [0] * len(commands) == [code for code, _ in told(tmp_path, *commands)]
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_profile_of_servers_needs_no_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The language model looks at what the images server draws, from the command line.

    Doctor finds nothing that stands in the way.
    """
    monkeypatch.setenv("SOCRATIC_API_KEY", "k")
    monkeypatch.setenv("SOCRATIC_IMAGE_API_KEY", "k")
    with Loopback(answer) as server:
        servers = ["--generator", server.base_url, "--base-url", server.base_url]
        chosen = ["--profile", "api", *servers, "--llm", "openai:x"]
        commands = (
            ["refine", "a grey shade", *chosen, "--captioner", "llm", "--out", "run"],
            ["batch", "prompts.txt", *chosen, "--out", "runs"],
            ["doctor", *chosen],
        )
        (tmp_path / "prompts.txt").write_text("a grey shade\na black shade\n")
        done = told(tmp_path, *commands)
    assert [0] * len(commands) == [code for code, _ in done], done
    assert "best image: run/objects/" in done[0][1]
    assert "2 of 2 done" in done[1][1]


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    """Whatever asks for a model here, or for the lab, says what to install."""
    rows = "user_prompt\na red ball\n"
    (tmp_path / "rows.parquet").write_bytes(rows.encode())
    needs = {
        "local": (
            ["refine", "a red ball", "--out", "a"],
            ["refine", "a red ball", "--generator", "owner/model", "--out", "b"],
            ["bench", "calibrate"],
            ["bench", "--workload", "pocket"],
        ),
        "lab": (
            ["lab", "compare", "--sample", "2"],
            ["lab", "compare", "--sample", "2", "--out", "c"],
            ["lab", "run", "selector", "--out", "d"],
            ["lab", "sample", "parti", "-n", "2"],
            ["lab", "sample", "file", "--file", "rows.parquet", "-n", "1"],
        ),
    }
    for extra, commands in needs.items():
        for command, (code, text) in zip(
            commands, told(tmp_path, *commands), strict=True
        ):
            line = f"error: expected .*, got none; run pip install '{extra}'\n"
            line = line.replace("'local'", r"'socratic-agents\[local\]'")
            line = line.replace("'lab'", r"'socratic-agents\[lab\]'")
            assert 2 == code, (command, text)
            assert re.fullmatch(line, text), (command, text)


def test_models_in_python_say_what_to_install(tmp_path: Path) -> None:
    """Each kind of model, opened without a command line, raises our own error."""
    code = """
from socratic_agents import SocraticError
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.clip import Clip
from socratic_agents.models.diffusion import Diffusion

for kind in (Captioner, Clip, Diffusion):
    try:
        kind.load("owner/model")
    except SocraticError as error:
        print(error)
"""
    lines = run_light(code, tmp_path).splitlines()
    assert 3 == len(lines)
    assert all("run pip install 'socratic-agents[local]'" in line for line in lines)


def test_a_broken_package_is_not_called_missing() -> None:
    """What is there and cannot be loaded says why; what no extra brings is let through."""
    with (
        pytest.raises(
            ConfigurationError, match="got libcudart of torch is gone; run pip"
        ),
        needs_extra("to draw"),
    ):
        raise ImportError("libcudart of torch\nis gone", name="torch._C")
    with pytest.raises(ImportError, match="colour"), needs_extra("to draw"):
        raise ImportError("no colour", name="colour")


def test_long_work_asks_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is imported for that; where two extras bring it, the lighter one is named."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"ray for x, got none.*\[ray\]"):
        require("json", "ray", purpose="for x")
    missing = ModuleNotFoundError(name="huggingface_hub.utils")
    assert "pip install 'socratic-agents[local]'" == install_line(missing)
    with (
        pytest.raises(ConfigurationError, match=r"agents\[lab\]"),
        needs_extra("for x", extra="lab"),
    ):
        raise missing


def test_a_module_of_a_package_that_is_missing_is_missing() -> None:
    """Nothing is raised by looking for it; nor where it is hidden."""
    assert is_installed("json.decoder")
    assert not is_installed("no_such_package.part")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "json", None)
        assert not is_installed("json")


def test_a_package_that_a_library_misses_is_named() -> None:
    """Libraries name in words what else they need; the error says how to get it."""
    missing = ImportError("LlamaTokenizer requires the SentencePiece library.")
    assert "pip install 'socratic-agents[local]'" == install_line(missing)
    there = ModuleType("bitsandbytes")
    there.__spec__ = ModuleSpec("bitsandbytes", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "bitsandbytes", there)
        patch.setitem(sys.modules, "gepa", None)
        line = install_line(ImportError("bitsandbytes requires gepa: see its page"))
        assert "pip install 'socratic-agents[gepa]'" == line
        patch.setitem(sys.modules, "google.protobuf", None)
        line = install_line(ImportError("bitsandbytes requires Protobuf"))
        assert "pip install 'socratic-agents[local]'" == line
    with (
        pytest.raises(
            ConfigurationError, match=r"library.\); run pip install 'socratic"
        ),
        load_errors("a model", "owner/model"),
    ):
        raise missing
    with (
        pytest.raises(ConfigurationError, match="check the name"),
        load_errors("a model", "owner/model"),
    ):
        raise ImportError("no colour")


def test_models_of_others_are_batched_without_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model by name is told from others by the processor, and gets batches as on it."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(batching, "version", missing)
    settings = Settings(captioner="mine:model", scorer=None, strict=False)
    options = batching.stage_options("captioner", settings, Worker(), stage="look")
    assert options["model"].startswith(f"mine:model, cpu {platform.machine()}")
    assert batching.QUESTIONS == options["max_batch"]
    free_memory()
