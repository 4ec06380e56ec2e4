"""Other packages' metrics, arms and prompt sets: one file of code and an entry each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from socratic_agents.cli.app import main
from socratic_agents.lab.compare.arms import ARMS
from socratic_agents.lab.datasets.catalog import PROMPT_SETS
from socratic_agents.lab.metrics.registry import METRICS

DOCS = Path(__file__).parent.parent / "docs"

CODE = '''
"""A metric, an arm and a prompt set of somebody else."""

from dataclasses import replace

from PIL import ImageStat

from socratic_agents.lab.compare.arms import ArmSpec, from_preset
from socratic_agents.lab.datasets.catalog import PromptSet
from socratic_agents.lab.datasets.types import PromptRow
from socratic_agents.lab.metrics.metric import SEEN, Measure, MetricSpec


def open_brightness(models):
    async def measure(subject):
        return ImageStat.Stat(subject.image.convert("L")).mean[0] / 255

    return Measure(record={"formula": "mean luma"}, measure=measure)


BRIGHTNESS = MetricSpec(
    name="brightness", title="mean luma", needs=SEEN, open=open_brightness
)


def shouting(agents):
    async def generate(prompt, seed):
        return await agents.generate(prompt.lower(), seed)

    return replace(agents, generate=generate)


LOUD = ArmSpec(
    name="loud",
    title="default, but every prompt is drawn in small letters.",
    settings=from_preset(guard=None),
    wrap_agents=shouting,
)


def parse(files):
    return [PromptRow(id=one.stem, text="a red circle") for one in files]


MINE = PromptSet("mine", title="One prompt a file", parse=parse, members=("*.txt",))
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay down a distribution with one entry of each kind, as pip would."""
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: theirs\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text(
        "[socratic_agents.metrics]\nbrightness = theirs:BRIGHTNESS\n"
        "[socratic_agents.arms]\nloud = theirs:LOUD\n"
        "[socratic_agents.prompt_sets]\nmine = theirs:MINE\n",
        "utf-8",
    )
    (tmp_path / "theirs.py").write_text(CODE, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_a_metric_and_an_arm_of_another_package(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are compared and reported like our own, with the same command."""
    arguments = ("--arms", "best_of_n,loud", "--metric", "brightness", "--images", "1")
    assert 0 == main(["lab", "compare", *arguments, "--sample", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert "brightness" == found["metric"]
    assert {"best_of_n", "loud"} == found["arms"].keys()
    assert 0 < found["arms"]["loud"]["mean"] <= 1


@pytest.mark.usefixtures("installed")
def test_a_prompt_set_of_another_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is listed, and sampled."""
    (tmp_path / "one.txt").write_text("x", "utf-8")
    assert 0 == main(["lab", "sample", "mine", "--file", str(tmp_path / "one.txt")])
    assert "one: a red circle" in capsys.readouterr().err
    assert 0 == main(["lab", "sets"])
    assert "mine: One prompt a file." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("metrics.md", METRICS),
        ("comparison.md", ARMS),
        ("prompt-sets.md", PROMPT_SETS),
    ],
    ids=["metrics", "arms", "prompt sets"],
)
def test_every_entry_is_documented(page: str, names: dict[str, object]) -> None:
    """The page of its kind names it."""
    text = (DOCS / page).read_text("utf-8")
    assert [] == [name for name in names if f"`{name}`" not in text]
