"""The tables of tokens in the docs are those of the templates that are shipped."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tokens() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "tokens.py"))


def test_the_table_of_templates_is_current(tokens: dict[str, Any]) -> None:
    """It is what the command writes, and puts nothing else on the page."""
    page = (ROOT / "docs" / "prompts.md").read_text("utf-8")
    table = tokens["templates_table"]()
    assert tokens["put"](page, "tokens of templates", table) == page, (
        "run 'python docs/tokens.py'"
    )


def test_the_templates_stay_lean(tokens: dict[str, Any]) -> None:
    """Words and schemas together have lost a third of what they had."""
    before, after = 0, 0
    for name, then in tokens["BEFORE"].items():
        role, _, template = name.partition("/")
        before, after = before + sum(then), after + sum(tokens["sizes"](role, template))
    assert after <= before * 2 / 3
