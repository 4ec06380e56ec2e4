"""``socratic lab sample`` and ``lab sets``: JSON on stdout, one line for a mistake."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.cli.app import main
from socratic_agents.core.prompts import read_prompts
from socratic_agents.lab.datasets.catalog import PROMPT_SETS
from tests.prompt_files import DSG, PARTI, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def parti(tmp_path: Path) -> str:
    """Return the path of a small file of PartiPrompts."""
    return str(write(tmp_path / "p.tsv", PARTI))


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return what a command prints as JSON."""
    assert 0 == main(["lab", *arguments, "--json"])
    (line,) = capsys.readouterr().out.splitlines()
    figures: dict[str, Any] = json.loads(line)
    return figures


def test_sets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """People get a line for each set; programs get all that is known of it."""
    assert 0 == main(["lab", "sets"])
    out, err = capsys.readouterr()
    assert "" == out
    assert list(PROMPT_SETS) == [line.partition(":")[0] for line in err.splitlines()]

    figures = told(capsys, "sets")

    assert 1 == figures["schema"]
    assert list(PROMPT_SETS) == [one["set"] for one in figures["sets"]]
    assert "Apache-2.0" == figures["sets"][0]["licence"]


def test_a_stratified_sample_as_json(
    capsys: pytest.CaptureFixture[str], parti: str
) -> None:
    """The JSON has the prompts, how they were drawn, and whose they are."""
    command = ("sample", "parti", "--file", parti, "-n", "4", "--stratify", "Category")
    figures = told(capsys, *command, "--seed", "3")

    assert {"Animals": 2, "Artifacts": 2} == figures["allocation"]
    assert ("parti", 5, 4, 3) == tuple(figures[k] for k in ("set", "rows", "n", "seed"))
    assert "stratified" == figures["method"]
    assert figures["ids"] == [prompt["id"] for prompt in figures["prompts"]]
    assert "Apache-2.0" == figures["licence"]
    assert figures["citation"]
    assert 64 == len(figures["sha256"]) == len(figures["file_sha256"])
    assert figures["published"] is False
    assert {"set": 0, "sample": 0} == figures["questions"]
    assert figures == told(capsys, *command, "--seed", "3")


def test_questions_are_counted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Those of the set and those of the sample, for people too."""
    file = str(write(tmp_path / "d.csv", DSG))

    figures = told(capsys, "sample", "dsg", "--file", file, "--stratify", "source")

    assert {"set": 8, "sample": 8} == figures["questions"]
    assert 0 == main(["lab", "sample", "dsg", "--file", file, "-n", "1"])
    assert "of 8\n" in capsys.readouterr().err


def test_people_are_told_what_was_drawn(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Text goes to stderr, on lines in which nothing steers the terminal."""
    lines = "".join(f"prompt \u202e{i}\n" for i in range(7)) + "prompt 1\nnude\n"
    file = str(write(tmp_path / "x.txt", lines))

    assert 0 == main(["lab", "sample", "file", "--file", file, "--safe"])

    out, err = capsys.readouterr()
    assert "" == out
    assert "8 of 9 prompts of file (random, seed 0)" in err
    assert "left out: 1 unsafe\n" in err
    assert "and 3 more\n" in err
    assert "\u202e" not in err
    assert "warning" not in err


def test_another_file_than_the_published_one_is_a_warning(
    capsys: pytest.CaptureFixture[str], parti: str
) -> None:
    """People may have their reasons, but they are told."""
    assert 0 == main(["lab", "sample", "parti", "--file", parti])
    assert "warning: p.tsv is not the published file" in capsys.readouterr().err


def test_prompts_are_written_whole(
    capsys: pytest.CaptureFixture[str], parti: str, tmp_path: Path
) -> None:
    """The file can be refined as it is, and sampled again with its ids and columns."""
    out = tmp_path / "new/prompts.jsonl"
    figures = told(
        capsys, "sample", "parti", "--file", parti, "-n", "3", "--out", str(out)
    )

    texts = [prompt["text"] for prompt in figures["prompts"]]
    assert texts == [line.text for line in read_prompts(str(out))]
    assert [out] == list(out.parent.iterdir())
    again = told(capsys, "sample", "file", "--file", str(out))
    assert figures["ids"] == again["ids"]
    assert figures["sha256"] == again["sha256"]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (("--min-words", "3"), ["parti_1", "parti_2", "parti_5"]),
        (("--max-words", "2"), ["parti_3", "parti_4"]),
        (("--min-chars", "14"), ["parti_2", "parti_5"]),
        (("--max-chars", "5"), ["parti_3"]),
        (("--method", "systematic", "-n", "5"), [f"parti_{i}" for i in range(1, 6)]),
    ],
)
def test_options_reach_the_sieve(
    capsys: pytest.CaptureFixture[str],
    parti: str,
    options: tuple[str, ...],
    ids: list[str],
) -> None:
    """Each limit leaves out what its name says."""
    assert ids == told(capsys, "sample", "parti", "--file", parti, *options)["ids"]


def test_repeated_texts_can_be_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without --no-unique a text is there once; a column can say what is unsafe."""
    lines = "prompt,nsfw\na cup,0\nA cup,0.2\na fox,0.4\n"
    command = ("sample", "file", "--file", str(write(tmp_path / "x.csv", lines)))

    assert {"duplicate": 1} == told(capsys, *command)["excluded"]
    assert 3 == told(capsys, *command, "--no-unique")["n"]
    safety = ("--unsafe-column", "nsfw", "--unsafe-from", "0.3")
    assert {"unsafe": 1, "duplicate": 1} == told(capsys, *command, *safety)["excluded"]
    named = told(capsys, *command, "--column", "nsfw")
    assert "0" == named["prompts"][0]["text"]


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "set": (("partti",), "did you mean 'parti'?"),
    "column": (("parti", "--stratify", "Kind"), "'Category', 'Challenge', 'Note'"),
    "method": (("parti", "--method", "best"), "random, systematic, stratified"),
    "both": (("parti", "--method", "random", "--stratify", "Category"), "only with it"),
    "strata": (("parti", "--method", "stratified"), "only with it"),
    "none": (("parti", "-n", "0"), "expected 1 to 5"),
    "many": (("parti", "-n", "6"), "expected 1 to 5"),
    "words": (("parti", "--min-words", "9"), "5 too_short"),
    "hash": (("parti", "--sha256", "ab"), "expected prompts with the sha256 ab"),
    "seed": (("parti", "--seed", "-1"), "--seed"),
    "out": (("parti", "--out", "prompts.txt"), "prompts.jsonl"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    parti: str,
    tmp_path: Path,
    case: str,
) -> None:
    """Exit code 2, one line on stderr, nothing on stdout, and no file is written."""
    monkeypatch.chdir(tmp_path)
    arguments, expected = WRONG[case]
    out = () if "--out" in arguments else ("--out", "prompts.jsonl")

    code = main(["lab", "sample", *arguments, "--file", parti, *out, "--json"])

    stdout, stderr = capsys.readouterr()
    assert (2, "") == (code, stdout)
    assert 1 == len(stderr.splitlines())
    assert expected in stderr
    assert ["p.tsv"] == os.listdir(tmp_path)  # noqa: PTH208 - names are enough


def test_the_file_that_is_read_is_not_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What was not drawn would be lost."""
    file = write(tmp_path / "x.jsonl", '"a cup"\n"a fox"\n')
    command = ["lab", "sample", "file", "--file", str(file), "-n", "1"]

    assert 2 == main([*command, "--out", str(file)])

    assert "would be lost" in capsys.readouterr().err
    assert '"a cup"\n"a fox"\n' == file.read_text("utf-8")


def test_a_place_that_cannot_be_written_is_told(
    capsys: pytest.CaptureFixture[str], parti: str, tmp_path: Path
) -> None:
    """A folder in the place of the file is an error, and it stays as it is."""
    out = tmp_path / "prompts.jsonl"
    out.mkdir()

    assert 2 == main(["lab", "sample", "parti", "--file", parti, "--out", str(out)])

    stdout, stderr = capsys.readouterr()
    assert "" == stdout
    assert 1 == len(stderr.splitlines())
    assert [] == list(out.iterdir())
    assert {out, tmp_path / "p.tsv"} == set(tmp_path.iterdir())
