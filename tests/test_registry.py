"""Registries: one entry in one place; what other packages add is found by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from socratic_agents.config.registry import PluginWarning, Registry
from socratic_agents.core.errors import ConfigurationError
from tests import plugins

if TYPE_CHECKING:
    from pathlib import Path

GROUP = "socratic_agents.tests"


@dataclass(frozen=True)
class Tool:
    name: str
    title: str = "does something"


def registry(group: str | None = GROUP) -> Registry[Tool]:
    return Registry("a tool", (Tool("saw"), Tool("hammer")), spec=Tool, group=group)


TOOLS = """
from tests.test_registry import Tool

DRILL = Tool('drill')
MISNAMED = Tool('file')
NOTHING = None
"""


def install(folder: Path, package: str, **entries: str) -> None:
    """Lay down a distribution whose entry points are tools."""
    plugins.install(folder, package, {f"{package}_tools": TOOLS}, {GROUP: entries})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that Python finds packages in."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_own_entries_are_found_by_name_in_order() -> None:
    """A registry is a mapping of names to entries, in the order of its making."""
    tools = registry(None)

    assert ["saw", "hammer"] == list(tools)
    assert Tool("saw") == tools["saw"] == tools.find("saw")
    assert 2 == len(tools)
    assert "hammer" in tools
    assert "drill" not in tools


def test_an_unknown_name_is_told_what_there_is() -> None:
    """The error lists the names, and guesses which one was meant."""
    with pytest.raises(ConfigurationError) as raised:
        registry().find("hamer")
    message = "expected a tool (saw, hammer), got 'hamer'; did you mean 'hammer'?"
    assert message == str(raised.value)
    with pytest.raises(ConfigurationError, match="name one of these"):
        registry().find("xyz")


def test_other_packages_add_entries(folder: Path) -> None:
    """An entry point in the group is an entry like our own, and says where it is from."""
    install(folder, "plug", drill="plug_tools:DRILL")
    tools = registry()

    assert "drill" == tools.find("drill").name
    assert ["saw", "hammer", "drill"] == list(tools)
    assert 3 == len(tools)
    assert ["socratic_agents", "socratic_agents", "plug 1.0"] == [
        one.package for one in tools.listed()
    ]


@pytest.mark.parametrize("name", ["saw", "drill"])
def test_a_name_that_two_packages_claim_is_an_error(folder: Path, name: str) -> None:
    """Nobody can take a name over, be it ours or another package's."""
    install(folder, "plug", **{name: "plug_tools:DRILL"})
    install(folder, "other", **{name: "other_tools:DRILL"})

    with pytest.raises(
        ConfigurationError, match=f"one package to define a tool '{name}'"
    ):
        registry().find("drill")


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("plug_tools:NOTHING", "TypeError: expected a Tool, got NoneType"),
        ("plug_tools:MISNAMED", "ValueError: expected the name 'drill'"),
        ("plug_tools:ABSENT", "AttributeError"),
        ("no_such_module:DRILL", "ModuleNotFoundError"),
    ],
)
def test_a_plug_in_that_fails_is_a_warning_that_names_it(
    folder: Path, place: str, why: str
) -> None:
    """One broken package is told in a line, and stands in nobody's way."""
    install(folder, "plug", drill=place)
    tools = registry()

    with pytest.warns(
        PluginWarning, match=f"cannot load a tool 'drill' of plug 1.0: {why}"
    ):
        *_, broken = tools.listed()
    assert broken.entry is None
    assert broken.error
    assert broken.error.startswith(why)
    assert "saw" == tools.find("saw").name
    with pytest.raises(ConfigurationError, match="its package cannot load it"):
        tools.find("drill")
