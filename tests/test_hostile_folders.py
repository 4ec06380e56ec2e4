"""Run directories of other people: what is no file of ours is told, and never waited for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.survey.sources import read_arms
from socratic_agents.runtime.replay import settings_of
from socratic_agents.storage.objects import ObjectStore, write_image
from socratic_agents.storage.run_config import CONFIG, read_config

if TYPE_CHECKING:
    from pathlib import Path

DEEP = "[" * 100_000


def test_deep_json_is_no_run(tmp_path: Path) -> None:
    """Lists in lists without end are told in one line, or put aside."""
    for name in (CONFIG, "trials.jsonl", "comparison.json"):
        (tmp_path / name).write_text(DEEP)
    with pytest.raises(ConfigurationError, match="expected the folder of a run"):
        settings_of(tmp_path)
    with pytest.raises(ConfigurationError, match="expected a folder with trials"):
        read_arms(tmp_path, "a,b")
    (tmp_path / "comparison.json").write_text('{"metric": "oracle"}')
    with pytest.raises(ConfigurationError, match="expected line 1 of"):
        read_arms(tmp_path, "a,b")
    assert read_config(tmp_path) is None
    assert not (tmp_path / CONFIG).exists()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Whoever reads a pipe waits for a writer that may never come."""
    os.mkfifo(tmp_path / CONFIG)
    with pytest.raises(ConfigurationError, match="expected the folder of a run"):
        settings_of(tmp_path)
    (tmp_path / "objects").mkdir()
    path = write_image(tmp_path, Image.new("RGB", (4, 4)))
    (tmp_path / path).unlink()
    os.mkfifo(tmp_path / path)
    store = ObjectStore(tmp_path)
    assert store.get(path) is None
    assert not store.verify(path)
    assert not (tmp_path / path).exists()
