"""Plug-ins: other packages' judges, selectors and optimizers are used like our own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.agents.judges import JUDGES
from socratic_agents.agents.registry import find_roles
from socratic_agents.cli.app import main
from socratic_agents.cli.plugins import REGISTRIES
from socratic_agents.config.settings import Settings
from socratic_agents.runtime.cost_estimate import worst_case
from socratic_agents.runtime.refiner import Refiner
from tests import plugins
from tests.fakes import ScriptedChatModel
from tests.source_code import FOLDER

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
from socratic_agents.agents.judges import caption_judge
from socratic_agents.agents.spec import JudgeSpec, OptimizerSpec, SelectorSpec
from socratic_agents.core.history import Verdict


async def content(history):
    return Verdict(satisfied=True, reason="it will do")


async def second(history):
    return 1


def patient(context):
    limit = context.argument

    async def judge(history):
        return Verdict(satisfied=len(history.rounds) >= limit)

    return judge


def repeat(context):
    async def optimize(history):
        written = ("a blue square",)
        return await context.guard(history, written) if context.guard else written

    return optimize


async def ask(llm, history):
    reply = await llm.ainvoke("is it good?")
    return Verdict(satisfied="yes" in str(reply.content), reason=str(reply.content))


MINE = JudgeSpec(name="mine", title="Anything will do.", build=lambda _: content)
PATIENT = JudgeSpec(
    name="patient", title="After some rounds.", build=patient, read_argument=int
)
WORDY = JudgeSpec(
    name="wordy",
    title="A language model, in our own words.",
    build=lambda context: lambda history: ask(context.llm, history),
    requests=1,
)
SECOND = SelectorSpec(name="second", title="The second image.", build=lambda _: second)
REPEAT = OptimizerSpec(
    name="repeat", title="Always the same.", build=repeat, guarded=True
)
BROKEN = 1 / 0
"""
ENTRIES = {
    "socratic_agents.judges": {
        "mine": "plug_agents:MINE",
        "patient": "plug_agents:PATIENT",
        "wordy": "plug_agents:WORDY",
    },
    "socratic_agents.selectors": {"second": "plug_agents:SECOND"},
    "socratic_agents.optimizers": {"repeat": "plug_agents:REPEAT"},
}
FEW: dict[str, Any] = {"rounds": 2, "prompts_per_round": 1}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that Python finds packages in, and work in it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plug(folder: Path) -> None:
    source = SOURCE.replace("BROKEN = 1 / 0\n", "")
    plugins.install(folder, "plug", {"plug_agents": source}, ENTRIES)


@pytest.mark.usefixtures("plug")
async def test_agents_of_another_package_are_used_by_name() -> None:
    """Judge, selector and optimizer each are one entry of one file."""
    names: dict[str, Any] = {
        "judge": "patient:2",
        "selector": "second",
        "optimizer": "repeat",
    }
    async with Refiner(guard=None, **FEW, **names) as refiner:
        refinement = await refiner.refine("a red circle")
    assert 2 == len(refinement.history.rounds)
    assert "a blue square" == refinement.best.prompt
    assert names.items() <= refinement.settings.items()


@pytest.mark.usefixtures("plug")
def test_the_command_line_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    """As an option like any other, and a wrong name is told theirs, too."""
    command = ["refine", "a red circle", "--judge", "mine", "--json"]
    assert 0 == main(command)
    out = json.loads(capsys.readouterr().out)
    assert "it will do" == out["rounds"][0]["verdict"]["reason"]
    assert 2 == main(["refine", "a red circle", "--judge", "mien", "--dry-run"])
    assert "did you mean 'mine'?" in capsys.readouterr().err


@pytest.mark.usefixtures("plug")
async def test_a_judge_may_ask_without_a_template() -> None:
    """It says how often, and the language model is opened and counted for it."""
    llm = ScriptedChatModel(script=["yes"])
    own = {"judge": "wordy", "selector": "first", "guard": None}
    settings = Settings(llm=llm, optimizer="repeat", **FEW, **own)
    assert find_roles(settings).needs_llm
    assert 2 == worst_case(settings).llm_calls
    async with Refiner(settings) as refiner:
        refinement = await refiner.refine("a red circle")
    verdict = refinement.history.verdict
    assert verdict is not None
    assert verdict.satisfied


@pytest.mark.usefixtures("plug")
async def test_an_optimizer_may_be_guarded() -> None:
    """One that says so gets the guard, and a checklist is written for it."""
    seen = list[tuple[str, ...]]()

    async def drop(history: Any, prompts: tuple[str, ...]) -> tuple[str, ...]:
        seen.append(prompts)
        return ("a green cross",)

    settings = Settings(
        optimizer="repeat", judge="never", selector="last", guard=drop, **FEW
    )
    assert find_roles(settings).writes_checklist
    async with Refiner(settings) as refiner:
        refinement = await refiner.refine("a red circle")
    assert [("a blue square",)] == seen
    assert "a green cross" == refinement.best.prompt


@pytest.mark.usefixtures("plug")
def test_plugins_lists_all_with_their_packages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For people one line each, for programs as JSON."""
    assert 0 == main(["plugins"])
    lines = {" ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert "judge mine plug 1.0 Anything will do." in lines
    assert "selector last socratic_agents The last usable image." in lines
    title = "Rounds of rewrites, compared under fresh noise."
    assert f"search classic socratic_agents {title}" in lines
    assert 0 == main(["plugins", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert {
        "kind": "selector",
        "name": "second",
        "package": "plug 1.0",
        "title": "The second image.",
        "error": None,
    } in rows
    assert len(JUDGES) == sum(row["kind"] == "judge" for row in rows)


def test_a_plug_in_that_fails_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, all others are listed, and only who asks for it is stopped."""
    entries = {"socratic_agents.judges": {"mine": "bad_agents:MINE"}}
    plugins.install(folder, "bad", {"bad_agents": SOURCE}, entries)

    assert 0 == main(["plugins"])
    shown = capsys.readouterr()
    line = (
        "warning: cannot load judge 'mine' of bad 1.0: ZeroDivisionError: division by"
    )
    assert shown.err.startswith(line)
    assert 1 == shown.err.count("\n")
    assert "judge mine bad 1.0 cannot be loaded" in " ".join(shown.out.split())
    assert 2 == main(["refine", "a red circle", "--judge", "mine"])
    assert (
        "its package cannot load it, see 'socratic plugins'" in capsys.readouterr().err
    )


def test_a_name_that_clashes_is_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both packages are named."""
    source = SOURCE.replace("BROKEN = 1 / 0\n", "")
    for package in ("one", "two"):
        entries = {"socratic_agents.judges": {"mine": f"{package}_agents:MINE"}}
        plugins.install(folder, package, {f"{package}_agents": source}, entries)

    assert 2 == main(["plugins"])
    err = capsys.readouterr().err
    assert "expected one package to define a judge 'mine', got " in err
    assert "one 1.0" in err
    assert "two 1.0" in err


def test_every_registry_is_listed() -> None:
    """A new one is added to the command's table."""
    made = re.compile(r"^([A-Z_]+)(?:: [^=]+)? = Registry\(", re.MULTILINE)
    found = [
        f"{'.'.join(path.relative_to(FOLDER).with_suffix('').parts)}:{name}"
        for path in FOLDER.rglob("*.py")
        for name in made.findall(path.read_text("utf-8"))
    ]
    assert sorted(REGISTRIES) == sorted(found)
