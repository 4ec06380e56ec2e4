"""What the trials share: one warm process, and the language model that it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.trials import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Keep a process in which everything is imported."""
    with Bench(tmp_path_factory.mktemp("bench")) as opened:
        yield opened
