"""The script that measures how often intervals hold the truth."""

from __future__ import annotations

import subprocess
import sys

from tests.test_docs import ROOT


def test_every_interval_is_measured_at_every_size() -> None:
    """Those of nearly equal pairs are refused; nothing else is."""
    command = [sys.executable, str(ROOT / "docs" / "coverage.py"), "--times", "4"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.strip("| ").split(" | ") for line in run.stdout.splitlines()[2:]]
    assert 8 == len(rows)
    for name, *cells in rows:
        assert 3 == len(cells)
        assert ("difference" in name) == (["refused"] * 3 == cells)
