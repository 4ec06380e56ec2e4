"""The recipes of ``CONTRIBUTING.md`` work: each is laid down as a package, and used."""

from __future__ import annotations

import re
import shlex
import tomllib
from typing import TYPE_CHECKING

import pytest

from socratic_agents.cli.app import main
from tests.plugins import install
from tests.test_docs import BLOCK, LINK, ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "CONTRIBUTING.md"
TEXT = PAGE.read_text("utf-8")
RECIPES = dict(
    re.findall(r"^### Add a (\w+)\n(.*?)(?=^### |\Z)", TEXT, re.MULTILINE | re.DOTALL)
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that Python finds packages in, and work in it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("SOCRATIC_ALLOW_POCKET")  # as of who copies it
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _blocks(recipe: str) -> dict[str, list[str]]:
    """Return a recipe's blocks by language."""
    found: dict[str, list[str]] = {}
    for language, block in BLOCK.findall(RECIPES[recipe]):
        found.setdefault(language, []).append(block)
    return found


@pytest.mark.parametrize("recipe", ["judge", "metric", "generator"])
def test_a_recipe_is_one_file_and_one_entry(
    recipe: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it shows is found by name once it is installed, and its commands work."""
    blocks = _blocks(recipe)
    (code,), (toml,), (commands,) = blocks["python"], blocks["toml"], blocks["sh"]
    module = code.partition("\n")[0].removeprefix("# ").removesuffix(".py")
    points = tomllib.loads(toml)["project"]["entry-points"]
    install(folder, f"my-{recipe}", {module: code}, points)

    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        assert ("socratic", 0) == (program, main(arguments))
    capsys.readouterr()
    assert 0 == main(["plugins"])
    assert f"my-{recipe} 1.0" in capsys.readouterr().out


def test_the_setting_of_the_recipe_stands_as_it_is_shown() -> None:
    """Its two places are quoted word by word."""
    for block in _blocks("setting")["python"]:
        first, _, shown = block.partition("\n")
        source = (ROOT / first.removeprefix("# ")).read_text("utf-8")
        assert " ".join(shown.split()) in " ".join(source.split()), first


def test_its_commands_and_links_exist() -> None:
    """Make has the targets, and every link leads to a file."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^make (\w+)", TEXT, re.MULTILINE)
    assert targets
    for target in targets:
        assert f"\n{target}:" in makefile
    for link in LINK.findall(TEXT):
        assert (ROOT / link).exists(), link
