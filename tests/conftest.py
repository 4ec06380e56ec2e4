"""What every test gets: one thread, no downloads, and the same examples each time.

It also gets what every test would make anew, or look through again and again, and
never looks at: certificates, the tree of commands, and the objects of libraries.

The network is closed by pytest-socket's options in pyproject.toml.
"""

from __future__ import annotations

import functools
import gc
import os
import ssl
import sys
from typing import TYPE_CHECKING

import pytest
import typer.main
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

MIXING = "SOCRATIC_ALLOW_POCKET"

# Threads of one process only get in each other's way where tests share few cores.
os.environ["OMP_NUM_THREADS"] = "1"
# A model that is not on the disk is an error at once, not a wait for the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Where tracing is on, prompts of the tests would leave the machine.
os.environ["LANGSMITH_TRACING"] = "false"

settings.register_profile(
    "tests",
    deadline=None,  # the machine may be busy
    max_examples=50,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[
        HealthCheck.too_slow,
        # Our function-scoped fixtures only set what is the same for each example.
        HealthCheck.function_scoped_fixture,
    ],
)
settings.register_profile("thorough", settings.get_profile("tests"), max_examples=500)
settings.load_profile("tests")

# Every client of a server reads all certificates (20 ms), also for plain HTTP.
ssl.create_default_context = functools.cache(ssl.create_default_context)  # type: ignore[assignment]
# Every call of ``main`` builds all commands with all options (25 ms).
typer.main.get_command = functools.cache(typer.main.get_command)


_modules = 0
"""How many modules were imported when the garbage collector last heard of it."""


@pytest.fixture(autouse=True)
def _known_objects() -> None:
    """Let the garbage collector pass over what libraries brought with them.

    PyTorch and its like bring a million objects; looking through all of them took a
    seventh of the time of all tests.
    """
    global _modules  # noqa: PLW0603 - the collector, too, is one for the process
    if len(sys.modules) > _modules + 50:
        gc.collect()
        gc.freeze()
        _modules = len(sys.modules)


@pytest.fixture(scope="session", autouse=True)
def _mixing_allowed() -> Iterator[None]:
    """Let fakes that draw be judged by pocket models, in shared fixtures, too.

    tests/test_mixing.py goes without.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MIXING, "1")
        yield


@pytest.fixture(autouse=True)
def _own_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keep what belongs to the person who runs the tests out of them, and whole."""
    for name in list(os.environ):
        if name.startswith(("SOCRATIC_", "OPENAI_")) and name != MIXING:
            monkeypatch.delenv(name)
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("SOCRATIC_CACHE", str(cache))


def pytest_sessionfinish() -> None:
    """Let everything be looked at once more, for some libraries report what is left."""
    gc.unfreeze()
