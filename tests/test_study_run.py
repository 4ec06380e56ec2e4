"""Running studies: nothing is done twice, nothing that failed becomes a value.

The images are painted by hand; the last test is of the pocket models themselves.
"""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.lab.study.aggregate import study_values
from socratic_agents.lab.study.folder import StudyFolder
from tests.prompt_files import PARTI, write
from tests.studies import SMALL, TINY, Painter, ran, written

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a study that ran."""
    folder = tmp_path_factory.mktemp("study")
    out = folder / "out"
    assert 0 == ran(Painter(), "run", written(folder, TINY), "--out", out)
    return out


def figures_of(folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((folder / "figures.json").read_text())
    return figures


def rows_of(folder: Path, table: str, **wanted: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = figures_of(folder)["tables"][table]
    return [row for row in rows if wanted.items() <= row.items()]


def test_a_study_leaves_tables_plots_and_pages(finished: Path) -> None:
    """All of it as files; the page has a link to all prompts, whose images are there."""
    tables = {path.stem for path in (finished / "tables").iterdir()}
    assert set(figures_of(finished)["tables"]) == tables
    for plot in ("arms", "differences", "iterations", "stops"):
        assert b"\x89PNG" == (finished / f"{plot}.png").read_bytes()[:4]
    page = (finished / "study.html").read_text()
    assert 'href="prompts.html"' in page
    assert "http" not in page.replace("http-equiv", "")
    browser = (finished / "prompts.html").read_text()
    assert "arms/early_stop/0" in browser
    assert "## How it ends" in (finished / "tables.md").read_text()


def test_every_table_says_how_many_there_are(finished: Path) -> None:
    """Both n and what is left out stand beside each mean and each share."""
    for name in ("arms", "differences", "since_first", "rounds", "endings"):
        for row in rows_of(finished, name):
            assert row["n"] + row["excluded"] in {2, 4} or row["ended"] >= 0
    assert 4 == rows_of(finished, "arms", arm="one", set="all", metric="oracle")[0]["n"]
    assert [] == rows_of(finished, "left_out")


def test_stopping_is_compared_with_going_on(finished: Path) -> None:
    """Where the judge stops is a share, and its best is sought among all images."""
    early = rows_of(finished, "endings", arm="early_stop", metric="oracle", set="all")
    assert "to_the_end" == early[0]["of all of"]
    assert pytest.approx(1 / 3) == early[0]["chance"]
    stops = rows_of(finished, "stops", arm="early_stop", set="all")
    assert 4 == sum(row["prompts"] for row in stops)
    assert {4} == {row["n"] for row in stops}
    assert [] == rows_of(finished, "stops", arm="to_the_end")


def test_the_arms_share_their_first_image(finished: Path) -> None:
    """All draw from the same seeds, so that the loops start alike."""
    firsts = {
        row["first"] for row in rows_of(finished, "arms", set="all", metric="oracle")
    }
    assert 1 == len(firsts)
    folder = StudyFolder(finished)
    manifest = folder.manifest()
    values = study_values(manifest, folder.runs(manifest))
    assert ("oracle", "sharpness") == values.metrics
    for arm in values.arms.values():
        best = arm.quantity("oracle", "maximum").known
        assert all(
            most >= one
            for most, one in zip(
                best, arm.quantity("oracle", "selected").known, strict=True
            )
        )


def test_the_methods_name_what_the_figures_rest_on(finished: Path) -> None:
    """Sets with their hashes, templates, metrics with their records, versions."""
    told = figures_of(finished)["methods"]
    manifest = StudyFolder(finished).manifest()
    for facts in manifest["sets"]:
        assert facts["sha256"][:12] in told
    assert "optimizer classic" in told
    for word in ("socratic-agents", "torch", "seed 0", "BCa", "Holm", "Wilson"):
        assert word in told


def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    """A cause that a spreadsheet would work out is text there."""
    from socratic_agents.lab.table import Table

    table = Table(
        name="t",
        title="T",
        note="N",
        columns=("cause", "p", "share", "share low", "share high", "tokens in", "k"),
        rows=(("=1+1|<b>", -0.5, 0.25, 0.1, 0.5, 1234.4, 1000), ("@x", *[None] * 6)),
    )
    header, first, second = csv.reader(table.as_csv().decode().splitlines())
    assert ["cause", "p", "share"] == header[:3]
    assert ["'=1+1|<b>", "-0.5", "0.25"] == first[:3]
    assert ["'@x", ""] == second[:2]
    shown = table.as_markdown()
    assert "| =1+1\\|&lt;b> | -0.5 | 25.0% (10.0% to 50.0%) | 1,234 | 1,000 |" in shown
    assert "| @x | - | - | - | - |" in shown


def test_the_same_again_does_nothing_again(finished: Path) -> None:
    """Nothing is opened or painted; the figures are the same."""
    before, painter = figures_of(finished), Painter()
    study = finished.parent / "tiny.yaml"
    assert 0 == ran(painter, "run", study, "--out", finished)
    assert [] == painter.opened
    after = figures_of(finished)
    assert before["tables"] == after["tables"]


def test_a_report_alone_needs_no_models(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints the same figures as JSON, and nothing else on stdout."""
    painter = Painter()
    assert 0 == ran(painter, "report", finished, "--json")
    out, err = capsys.readouterr()
    assert figures_of(finished) == json.loads(out)
    assert "study.html" in err
    assert [] == painter.opened


def test_an_interrupted_study_goes_on(tmp_path: Path) -> None:
    """What is finished is not done again, and the result is as if nothing had been."""
    study, out, whole = written(tmp_path), tmp_path / "out", tmp_path / "whole"
    first, second, third = Painter(stop_at=1), Painter(), Painter()
    assert 130 == ran(first, "run", study, "--out", out)
    assert 1 == ran(Painter(), "report", out)
    assert 0 == ran(second, "run", study, "--out", out)
    assert 2 == len(second.opened)
    assert not first.painted.keys() & second.painted.keys()
    assert 0 == ran(third, "run", study, "--out", whole)
    assert figures_of(whole)["tables"] == figures_of(out)["tables"]
    assert {1} == set(third.painted.values())


def test_a_prompt_that_fails_is_left_out_with_its_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no value; exit code 1; it is tried again when the study is run again."""
    study, out = written(tmp_path), tmp_path / "out"
    texts = _texts(tmp_path)
    word = next(
        w for w in texts[0].split() if all(w not in t.split() for t in texts[1:])
    )
    assert 1 == ran(Painter(broken=word), "run", study, "--out", out)
    figures = figures_of(out)
    assert 1 == figures["failed"]
    (row,) = rows_of(out, "arms", arm="one")
    assert (3, 1) == (row["n"], row["excluded"])
    cause = rows_of(out, "left_out", arm="one", metric="oracle")[0]["cause"]
    assert "it failed (NothingDrawnError" in cause
    assert any("1 of 4 prompts are left out" in line for line in figures["warnings"])
    assert 0 == ran(Painter(), "run", study, "--out", out)
    assert 0 == figures_of(out)["failed"]
    capsys.readouterr()


def _texts(folder: Path) -> list[str]:
    from socratic_agents.lab.study.load import read_study
    from socratic_agents.lab.study.plan import plan_study

    study, _ = read_study(written(folder))
    return [prompt.row.text for prompt in plan_study(study, name="t").prompts]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("rounds: 3", "rounds: 2"), "got other arms"),
        (("n: 2", "n: 3"), "got other prompts"),
        (("title: Tiny", "seeds: [5]\ntitle: Tiny"), "got other seeds"),
    ],
)
def test_another_study_in_the_folder_is_refused(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    said: str,
) -> None:
    """One folder, one study; what is there is not mixed with anything."""
    study = written(tmp_path, TINY.replace(*change))
    assert 2 == ran(Painter(), "run", study, "--out", finished)
    assert 2 == ran(Painter(), "run", study, "--out", finished.parent)
    told = capsys.readouterr().err
    # The study's name is its file's, and the same in both.
    assert said in told
    assert "where something else lies" in told


def test_a_folder_that_is_no_study_has_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged one and one of another version have none either."""
    for text in (None, "{", '{"schema": 99}'):
        if text is not None:
            (tmp_path / "study.json").write_text(text)
        assert 2 == ran(Painter(), "report", tmp_path)
        assert "run a study there first" in capsys.readouterr().err


def test_repeats_are_averaged_by_prompt(tmp_path: Path) -> None:
    """Two seeds give as many prompts as one; each has its own images."""
    out, painter = tmp_path / "out", Painter()
    study = written(tmp_path, f"{SMALL}seeds: [0, 1]\n")
    assert 0 == ran(painter, "run", study, "--out", out)
    assert 6 == len(painter.opened)
    (row,) = rows_of(out, "arms", arm="one")
    assert 4 == row["n"]
    folder = StudyFolder(out)
    manifest = folder.manifest()
    (runs,) = (
        study_values(manifest, folder.runs(manifest)).arms["one"].trajectories.values()
    )
    firsts = [[trajectory.first.value for trajectory in of] for of in runs]  # type: ignore[union-attr]
    assert firsts[0] != firsts[1]
    every = [value for of in firsts for value in of if value is not None]
    assert pytest.approx(sum(every) / 8) == row["first"]
    assert "early_stop, seed 1" in (out / "prompts.html").read_text()


def test_a_spent_budget_ends_the_study_and_more_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an arm may spend is what the arms before it have left."""
    small = SMALL.replace("images: 3}", "images: 3, run: {images: 12}}")
    out = tmp_path / "out"
    assert 2 == ran(Painter(), "run", written(tmp_path, small), "--out", out)
    assert "images spent (12 of 12)" in capsys.readouterr().err
    large = small.replace("images: 12", "images: 99")
    assert 0 == ran(Painter(), "run", written(tmp_path, large), "--out", out)


def test_more_metrics_are_measured_without_drawing_again(tmp_path: Path) -> None:
    """A study may go on with another metric; what is measured is kept."""
    out, painter = tmp_path / "out", Painter()
    assert 0 == ran(Painter(), "run", written(tmp_path), "--out", out)
    more = SMALL.replace("[oracle]", "[oracle, contrast]")
    assert 0 == ran(painter, "run", written(tmp_path, more), "--out", out)
    assert [] == painter.opened
    assert rows_of(out, "arms", metric="contrast")


def test_an_arm_has_its_own_blocks_and_examples(tmp_path: Path) -> None:
    """They are a file of the study, whose hash is in the record; no path is."""
    bank = [{"user_prompt": "a crimson ball", "prompt": "a red circle", "gain": 0.5}]
    (tmp_path / "bank.jsonl").write_text("".join(f"{json.dumps(e)}\n" for e in bank))
    text = SMALL.replace(
        "judge: caption, continued_by: to_the_end",
        "optimizer_template: few_shot, examples: {bank: bank.jsonl, choice: similar}",
    ).replace(
        "{about: All rounds.}",
        "{optimizer_template: predecessor, blocks: {verbosity: '- Be terse.'}}",
    )
    out = tmp_path / "out"
    assert 0 == ran(Painter(), "run", written(tmp_path, text), "--out", out)
    own = (out / "templates" / "early_stop.yaml").read_text()
    assert "a red circle" in own
    assert "- Be terse." in (out / "templates" / "to_the_end.yaml").read_text()
    arms = {arm["name"]: arm for arm in StudyFolder(out).manifest()["arms"]}
    assert (
        "templates/early_stop.yaml"
        == arms["early_stop"]["settings"]["optimizer_template"]
    )
    assert str(tmp_path) not in (out / "study.json").read_text()
    assert str(tmp_path) not in (out / "arms/early_stop/0/results.jsonl").read_text()
    assert "early_stop" == arms["early_stop"]["templates"]["optimizer"]["name"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.jsonl", ""),
        ("b.jsonl", "{"),
        ("b.jsonl", '{"prompt": "x"}'),
        ("b.yaml", "a"),
    ],
)
def test_a_bank_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    """Empty, damaged, without what was asked, or something else."""
    bank = tmp_path / name
    bank.write_text(text)
    arguments: Sequence[Any] = ("few_shot", "--bank", bank, "--dry-run")
    assert 2 == ran(Painter(), "run", *arguments)
    assert "bank" in capsys.readouterr().err


def test_a_set_has_its_file_on_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SET=FILE, or it is said how to write it."""
    assert 2 == ran(Painter(), "run", "predecessor", "--file", "coco")
    assert "SET=FILE" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_study_of_the_pocket_models(tmp_path: Path) -> None:
    """They draw, look and are measured; what arms draw alike is drawn once."""
    from socratic_agents.cli.app import main

    out = tmp_path / "out"
    text = SMALL.replace("n: 4", "n: 2").replace("rounds: 3", "rounds: 1")
    text = "".join(x for x in text.splitlines(keepends=True) if "early_stop" not in x)
    study = written(tmp_path, text)
    assert 0 == main(["lab", "run", study, "--out", str(out), "--in-flight", "2"])
    assert 2 == len(rows_of(out, "arms"))
    assert any("too few" in line for line in figures_of(out)["warnings"])
    assert 2 == len([*(out / "cache" / "objects").iterdir()])


def test_where_everything_failed_there_is_a_report(tmp_path: Path) -> None:
    """It has no means and no plots of them, and says why."""
    out = tmp_path / "out"
    painter = Painter(broken="a")
    assert 1 == ran(painter, "run", written(tmp_path), "--out", out)
    figures = figures_of(out)
    assert 12 == figures["failed"]
    assert "to_the_end cannot be compared with one." == figures["findings"][0]
    assert {None} == {row["selected"] for row in rows_of(out, "arms")}
    for arm in ("to_the_end", "early_stop", "one"):
        assert 4 == sum(row["prompts"] for row in rows_of(out, "left_out", arm=arm))
    assert not (out / "differences.png").exists()


def test_a_study_of_a_published_set(tmp_path: Path) -> None:
    """Its file, hash, what was left out, and whom to cite are in the methods."""
    write(tmp_path / "p.tsv", PARTI)
    head, tail = SMALL[: SMALL.index("prompts:")], SMALL[SMALL.index("settings:") :]
    sets = "[{set: parti, file: p.tsv, n: 2, min_words: 3}]"
    text = f"{head}prompts: {sets}\n{tail}".replace("[oracle]", "[sharpness]")
    out, study = tmp_path / "out", written(tmp_path, text)
    models = ("--generator", "some/model", "--llm", "pocket")
    assert 0 == ran(Painter(), "run", study, *models, "--out", out)
    told = figures_of(out)["methods"]
    assert "Autoregressive" in told
    assert "left out: 2 too_short" in told
    assert "file " in told


def test_a_signal_between_two_arms_ends_the_study(tmp_path: Path) -> None:
    """The arm that was on its way is kept, and the next one does not begin."""
    from socratic_agents.lab.study.load import read_study
    from socratic_agents.lab.study.plan import plan_study
    from socratic_agents.lab.study.run import StudyContext, run_study
    from socratic_agents.runtime.interrupts import InterruptHandler

    plan = plan_study(read_study(written(tmp_path))[0], name="tiny")
    painter, interruption = Painter(), InterruptHandler(str)
    interruption.code = 130
    by = StudyContext(
        open_refiner=painter.open, interruption=interruption, report=lambda _: None
    )
    with pytest.raises(KeyboardInterrupt):
        run_study(plan, tmp_path / "out", by=by)
    assert 1 == len(painter.opened)


def test_an_image_that_is_gone_has_no_value_and_a_reason(finished: Path) -> None:
    """It is not measured again as something else."""
    import asyncio
    import shutil

    from socratic_agents.lab.study.load import read_study
    from socratic_agents.lab.study.plan import plan_study
    from socratic_agents.lab.study.run import measure_arms

    study = read_study(str(finished.parent / "tiny.yaml"))[0]
    plan = plan_study(study, name="tiny")
    copy = StudyFolder(finished.parent / "copy")
    shutil.copytree(finished, copy.path)
    run = copy.run_folder("one", 0)
    (run / "scores.json").unlink()
    next((run / "objects").iterdir()).unlink()
    work = measure_arms(plan, copy, plan.arms, report=lambda _: None)
    asyncio.run(work)
    scores = copy.scores("one", 0)["oracle"]
    assert 1 == scores.excluded
    assert "restore it" in next(iter(scores.causes))


def test_a_file_without_its_set_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what to write instead."""
    study, out = written(tmp_path), tmp_path / "out"
    assert 2 == ran(Painter(), "run", study, "--out", out, "--file", "parti")
    assert "expected --file SET=FILE" in capsys.readouterr().err
    assert not out.exists()
