"""What the package asks for, and what it leaves to the extras."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from socratic_agents.core.extras import EXTRAS
from tests.light import LEFT_OUT

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGES = {"open_clip": "open-clip-torch", "tokenizers": "transformers"}
"""Which package brings a module of another name."""


def requirements(*extras: str) -> set[str]:
    """Return the names that a plain installation, or an extra, asks for."""
    lines = [
        line for extra in extras for line in PROJECT["optional-dependencies"][extra]
    ] or PROJECT["dependencies"]
    return {re.split(r"[<>=\[]", line)[0].replace("_", "-").lower() for line in lines}


def test_each_extra_brings_what_is_said_of_it() -> None:
    """Whoever runs the line that an error names has the module afterwards."""
    for extra, modules in EXTRAS.items():
        brought = requirements(extra)
        for module in modules:
            assert PACKAGES.get(module, module.replace("_", "-")) in brought


def test_a_plain_installation_is_light() -> None:
    """Nothing that an extra brings is asked for by everybody, nor by the other ends."""
    names = {PACKAGES.get(name, name.replace("_", "-")) for name in LEFT_OUT}
    assert set() == requirements() & names
    assert {"socratic-agents"} <= requirements("test")
    pinned = {
        line.partition("==")[0].replace("_", "-").lower()
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    }
    asked = requirements() | requirements("local", "lab", "gepa", "ray", "test")
    assert {"socratic-agents"} == asked - pinned
