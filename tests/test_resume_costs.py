"""The script that measures what resuming costs runs, and what it measures is linear."""

from __future__ import annotations

import subprocess
import sys

from tests.test_docs import ROOT


def test_bytes_that_are_written_are_linear_in_the_prompts() -> None:
    """Each part of the table has a row for each number of prompts."""
    command = [sys.executable, str(ROOT / "docs" / "resume.py"), "20", "80"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.strip("| ").split(" | ") for line in run.stdout.splitlines()[2:]]
    assert [*("save", "open", "resume", "report"), "report --no-linked"] == [
        row[0] for row in rows[::2]
    ]
    assert ["20", "80"] * 5 == [row[1] for row in rows]
    written = {(row[0], row[1]): float(row[5]) for row in rows}
    for part in ("save", "resume"):
        assert 0 < written[part, "80"] < 6 * written[part, "20"]
    assert 0 == written["open", "80"]
