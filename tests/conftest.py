"""What every test gets: one thread, no downloads, and the same examples each time.

The network is closed by pytest-socket's options in pyproject.toml.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

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
    derandomize=True,
    print_blob=True,
    suppress_health_check=[
        HealthCheck.too_slow,
        # Our function-scoped fixtures only set what is the same for each example.
        HealthCheck.function_scoped_fixture,
    ],
)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _own_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keep what belongs to the person who runs the tests out of them, and whole."""
    for name in list(os.environ):
        if name.startswith(("SOCRATIC_", "OPENAI_")):
            monkeypatch.delenv(name)
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("SOCRATIC_CACHE", str(cache))
