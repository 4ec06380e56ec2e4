"""Readiness: what a choice of models needs, told before anything is loaded."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.cli.doctor import checks
from socratic_agents.config.settings import Settings
from socratic_agents.runtime.readiness.endings import endings

if TYPE_CHECKING:
    from pathlib import Path

DAY = date(2026, 11, 29)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, so that no other file counts."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"llm": "openai:gpt-5.4-mini"}, []),
        ({"llm": "openai:gpt-5-mini"}, ["WARN llm: openai:gpt-5-mini ends on 2026-12"]),
        ({"llm": "openai:gpt-4"}, ["FAIL llm: openai:gpt-4 ended on 2026-10-23; use"]),
        ({"llm": "openai:gpt-4", "base_url": "http://127.0.0.1:1/v1"}, []),
        ({"llm": "anthropic:gpt-4"}, []),
        (
            {"generator": "openai:dall-e-3"},
            ["FAIL generator: openai:dall-e-3 ended on"],
        ),
        (
            {"generator": "https://api.openai.com/v1", "image_model": "gpt-image-1"},
            ["FAIL generator: openai:gpt-image-1 ended on 2026-10-23"],
        ),
        ({"generator": "http://127.0.0.1:1/v1", "image_model": "gpt-image-1"}, []),
        (
            {"generator": "runwayml/stable-diffusion-v1-5"},
            ["such as stable-diffusion-v1-5/stable-diffusion-v1-5"],
        ),
    ],
)
def test_models_that_end_are_told(given: dict[str, Any], expected: list[str]) -> None:
    """A warning before the day and a problem from it on, at their owner's alone."""
    found = [str(one) for one in endings(Settings(**given), DAY)]
    assert len(expected) == len(found)
    assert all(words in line for words, line in zip(expected, found, strict=True))


def test_a_model_has_ended_on_its_day() -> None:
    """The day that is announced is the first one without it."""
    settings = {"llm": "openai:gpt-5-mini"}
    for day, state in ((10, "warning"), (11, "problem")):
        found = checks({}, overrides=settings, today=date(2026, 12, day))
        assert [state] == [one.state for one in found if one.name == "llm"]
