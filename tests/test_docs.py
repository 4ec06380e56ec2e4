"""The documentation tells the truth: every block in it is run or compared.

``python tests/test_docs.py`` puts sources and settings into the pages that show them.
"""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from socratic_agents.cli.app import main
from socratic_agents.config.catalog import MODELS, PROFILES
from socratic_agents.config.field import Group
from socratic_agents.config.fields import FIELDS
from socratic_agents.config.profiles import default_in_words
from socratic_agents.config.recipes.table import RECIPES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SOURCE = re.compile(r"<!-- source: (\S+) (\w+) -->\n```(\w+)\n(.*?)```", re.DOTALL)
TABLE = re.compile(r"<!-- settings: ([^>]+) -->\n(.*?)<!-- end -->", re.DOTALL)
PROFILE_TABLE = re.compile(r"<!-- profiles -->\n(.*?)<!-- end -->", re.DOTALL)
FAMILIES = re.compile(r"<!-- families -->\n(.*?)<!-- end -->", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def _name(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else ""


def _blocks(wanted: str) -> list[Any]:
    """Return the blocks of all pages in a language, but for shown sources."""
    return [
        pytest.param(page, text, id=f"{_name(page)} {number}")
        for page in PAGES
        for number, (language, text) in enumerate(
            BLOCK.findall(SOURCE.sub("", page.read_text("utf-8")))
        )
        if language == wanted
    ]


def _shown(file: str, name: str) -> str:
    """Return what a page shows of a file: a function, or the tree in its docstring."""
    text = (ROOT / file).read_text("utf-8")
    tree = ast.parse(text)
    if name == "tree":
        return (ast.get_docstring(tree) or "").partition("\n\n")[2] + "\n"
    (node,) = [n for n in tree.body if getattr(n, "name", "") == name]
    return (ast.get_source_segment(text, node) or "") + "\n"


def _settings(group: str) -> str:
    """Return the table of a group's settings."""
    rows = ["| setting | what it is | default | decides |", "|---|---|---|---|"]
    for field in FIELDS.values():
        if field.group == group:
            decides = ", ".join(str(one.name).lower() for one in field.decides)
            default = default_in_words(field.name)
            rows.append(f"| `{field.name}` | {field.help} | {default} | {decides} |")
    return "\n".join([*rows, ""])


def _profiles() -> str:
    """Return the table of profiles, and that of what is known of their models."""
    roles = ("generator", "captioner", "scorer", "llm")
    rows = ["| profile | generator | captioner | scorer | language model |"]
    rows += ["|---|---|---|---|---|"]
    for name, values in PROFILES.items():
        preset = ", preset " + values["preset"] if "preset" in values else ""
        named = [
            str(values.get(role, FIELDS[role].default) or "none") for role in roles
        ]
        if final := values.get("final_generator"):
            named[0] += f", then {final}"
        rows.append(f"| `{name}`{preset} | {' | '.join(named)} |")
    rows += ["", "| model | licence | GB | looked up |", "|---|---|---|---|"]
    for name, known in MODELS.items():
        size = "" if known.weights is None else f"{known.weights:g}"
        rows.append(f"| {name} | {known.licence} | {size} | {known.checked} |")
    return "\n".join([*rows, ""])


def _families() -> str:
    """Return the table of recipes."""
    names = ("steps", "guidance_scale", "true_cfg_scale", "max_sequence_length")
    heads = ("family", "pipeline", *names, "side", "multiple of", "licence", "memory")
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for recipe in RECIPES:
        numbers = [f"{recipe.settings.get(name, ''):}" for name in names]
        cells = (
            *(recipe.family, f"`{recipe.pipeline}`", *numbers),
            *(recipe.size, recipe.multiple, recipe.licence, recipe.memory or "?"),
        )
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*rows, ""])


def _current(page: str) -> str:
    """Return a page with the sources, settings and recipes of today."""
    page = FAMILIES.sub(lambda _: f"<!-- families -->\n{_families()}<!-- end -->", page)
    page = SOURCE.sub(
        lambda m: f"<!-- source: {m[1]} {m[2]} -->\n```{m[3]}\n{_shown(m[1], m[2])}```",
        page,
    )
    page = PROFILE_TABLE.sub(
        lambda _: f"<!-- profiles -->\n{_profiles()}<!-- end -->", page
    )
    return TABLE.sub(
        lambda m: f"<!-- settings: {m[1]} -->\n{_settings(m[1])}<!-- end -->", page
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory."""
    monkeypatch.delenv("SOCRATIC_ALLOW_POCKET")  # as of who copies it
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("page", "code"), _blocks("python"))
def test_python_blocks_run(page: Path, code: str, folder: Path) -> None:
    """Every Python block runs as it stands."""
    script = folder / f"{page.stem}.py"
    script.write_text(code, "utf-8")
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize(("page", "text"), _blocks("sh"))
def test_shell_blocks_run(page: Path, text: str, folder: Path) -> None:
    """Every socratic command works, and every make target exists."""
    for language, block in BLOCK.findall(page.read_text("utf-8")):
        if language == "yaml":
            (folder / "short.yaml").write_text(block, "utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in text.splitlines():
        program, *arguments = shlex.split(line, comments=True) or [""]
        if program.endswith("socratic"):
            assert 0 == main(arguments), line
        elif program == "make":
            assert f"\n{arguments[0]}:" in makefile, line
        else:
            assert program in {"", "git", "cd", "python"}, line


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_shown_sources_and_settings_are_current(page: Path) -> None:
    """Code that a page shows is the code that runs, and so are the settings."""
    text = page.read_text("utf-8")
    assert _current(text) == text, "run 'python tests/test_docs.py'"


def test_every_setting_is_in_the_docs() -> None:
    """The page of settings has a table for each group, in the order of the help."""
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert list(Group) == [name for name, _ in TABLE.findall(text)]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file leads to a file."""
    for target in LINK.findall(page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=_name)
def test_examples_run_and_are_short(
    example: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every example runs, says something, and can be read at a glance."""
    runpy.run_path(str(example), run_name="__main__")

    assert capsys.readouterr().out
    assert len(example.read_text("utf-8").splitlines()) < 50
    assert folder.exists()


def test_the_citation_is_that_of_the_package() -> None:
    """``CITATION.cff`` has what the format asks for, as the package has it."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert ("1.2.0", "software") == (cited["cff-version"], cited["type"])
    assert cited["message"]
    assert cited["title"] == project["name"].replace("-", "_")
    for name in ("authors", "keywords", "license", "version"):
        assert cited[name] == project[name]
    assert cited["abstract"].rstrip(".") == project["description"]


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(_current(page.read_text("utf-8")), "utf-8")
    sys.exit()
