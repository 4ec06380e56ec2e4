"""The file of a study: what it may say, and what is said to a mistake in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.cli.app import main
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.study.cost_estimate import forecast_study
from socratic_agents.lab.study.load import read_study, shipped_studies
from socratic_agents.lab.study.plan import StudyPlan, plan_study
from tests.prompt_files import PARTI, write
from tests.studies import TINY, written

if TYPE_CHECKING:
    from pathlib import Path


def planned(folder: Path, text: str = TINY, **given: Any) -> StudyPlan:
    """Return the plan of a study's text."""
    study, file = read_study(written(folder, text))
    return plan_study(study, name="tiny", folder=file.parent, **given)


@pytest.mark.parametrize("name", list(shipped_studies()))
def test_each_ready_made_study_can_be_run_in_the_pocket_world(name: str) -> None:
    """Its sets, arms and metrics are there; no arm selects by the main metric."""
    study, file = read_study(name)
    plan = plan_study(study, name=name, folder=file.parent, n=8)
    assert 8 == len(plan.prompts)
    assert len(plan.arms) > 2
    assert "oracle" == plan.metrics[0].name
    assert plan.against in {arm.name for arm in plan.arms}


def test_the_predecessors_study_has_the_arms_of_its_blog() -> None:
    """Stopping and not, every block left out, the caption too, and best-of-N."""
    study, _ = read_study("predecessor")
    arms = {arm.name: arm.settings for arm in plan_study(study, name="p", n=2).arms}
    assert ("never", 6) == (arms["to_the_end"].judge, arms["to_the_end"].rounds)
    assert "caption" == arms["early_stop"].judge
    for block in ("format", "verbosity", "orotundity", "caption"):
        template = arms[f"without_{block}"].optimizer_template
        assert f"predecessor without {block}" == template
    best = arms["best_of_n"]
    assert (1, 6, "caption") == (best.rounds, best.seeds_per_prompt, best.selector)
    assert {6} == {settings.max_images for settings in arms.values()}
    assert [("coco", 200), ("parti", 200)] == [
        (source.set_name, source.n) for source in study.prompts
    ]


WRONG = {
    "no title": (TINY.replace("title: Tiny\n", ""), "title: Field required"),
    "a key": (TINY.replace("metrics:", "metrix:"), "did you mean 'metrics'?"),
    "a key of a set": (TINY.replace("kind: terse", "kin: x"), "did you mean 'kind'?"),
    "a key of an arm": (TINY.replace("judge: caption", "jduge: x"), "mean 'judge'?"),
    "a budget": (TINY.replace("images: 3", "image: 3"), "did you mean 'images'?"),
    "too many": (TINY.replace("images: 3", "images: 65"), "less than or equal to 64"),
    "a set": (TINY.replace("set: pocket", "set: part"), "did you mean 'parti'?"),
    "a metric": (TINY.replace("oracle", "oracel"), "did you mean 'oracle'?"),
    "an arm": (TINY.replace("against: one", "against: to_end"), "mean 'to_the_end'?"),
    "a continuing arm": (TINY.replace("by: to_the_end", "by: x"), "expected an arm"),
    "a setting": (TINY.replace("rounds: 3", "round: 3"), "did you mean 'rounds'?"),
    "a value": (TINY.replace("judge: caption", "judge: captoin"), "mean 'caption'?"),
    "a policy": (TINY.replace("policy: first", "policy: expand"), "lab compare"),
    "a template": (
        TINY.replace("judge: caption", "optimizer_template: clasic"),
        "in the arm 'early_stop'",
    ),
    "a block": (
        TINY.replace("judge: caption", "blocks: {caption: hello}"),
        "expected a block of the optimizer template 'classic' (none)",
    ),
    "examples": (
        TINY.replace("judge: caption", "examples: {number: 2}"),
        "expected a template that shows examples",
    ),
    "a key of examples": (
        TINY.replace("judge: caption", "examples: {numbr: 2}"),
        "did you mean 'number'?",
    ),
    "one name twice": (TINY.replace("name: terse", "name: foreign"), "twice"),
    "no arms": (TINY[: TINY.index("arms:")] + "metrics: [oracle]\n", "got none"),
    "one seed twice": (f"{TINY}seeds: [1, 1]\n", "expected seeds that differ"),
    "a run budget": (
        TINY.replace("images: 3", "images: 3, run: {images: 11}"),
        "at least 12 images",
    ),
    "a limit": (
        TINY.replace("images: 3", "images: 3, run: {imags: 11}"),
        "did you mean 'images'?",
    ),
    "a key of a pocket set": (
        f"{TINY}pocket: {{prompts: [{{set: pocket, kin: terse}}]}}\n",
        "did you mean 'kind'?",
    ),
    "a key of the pocket world": (
        f"{TINY}pocket: {{metrix: [oracle]}}\n",
        "did you mean 'metrics'?",
    ),
    "an arm that is a text": (TINY.replace("{policy: first", "x #"), "arms.one"),
    "too large a file": ("#" * 2**20 + TINY, "expected a file of at most"),
    "no YAML": ("a: [", "expected YAML"),
    "a list": ("- a\n", "the file"),
    "what selects": (
        TINY.replace("judge: caption", "selector: clip, scorer: pocket").replace(
            "[oracle, sharpness]", "[clipscore_pocket]"
        ),
        "expected a first metric that no arm selects with, got 'clipscore_pocket'",
    ),
    "an images budget": (
        TINY.replace("budget: {images: 3}\n", ""),
        "expected a budget of images for the policy 'first'",
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_line_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """Exit code 2, what is wrong and what was meant; no folder is made."""
    out = tmp_path / "out"
    assert 2 == main(["lab", "run", written(tmp_path, text), "--out", str(out)])
    printed, told = capsys.readouterr()
    assert "" == printed
    assert 1 == len(told.splitlines())
    assert said in told
    assert not out.exists()


def test_an_unknown_study_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The ready-made ones are listed, and the closest is offered."""
    assert 2 == main(["lab", "run", "predecesor"])
    assert "did you mean 'predecessor'?" in capsys.readouterr().err
    assert 2 == main(["lab", "run", "none.yaml"])
    assert "correct the path" in capsys.readouterr().err
    assert 2 == main(["lab", "run", f"{'x' * 300}.yaml"])
    assert "name too long" in capsys.readouterr().err


def test_prompts_are_shared_among_the_sets(tmp_path: Path) -> None:
    """``n`` keeps their proportions, takes one of each at least, and none twice."""
    text = TINY.replace("terse, n: 2", "terse, n: 6")
    prompts = planned(tmp_path, text, n=8).prompts
    assert 2 == sum(prompt.source == "foreign" for prompt in prompts)
    assert 8 == len({prompt.row.text for prompt in prompts})
    with pytest.raises(ConfigurationError, match="at least 2 prompts, one of each"):
        planned(tmp_path, n=1)


def test_prompts_come_from_files(tmp_path: Path) -> None:
    """A file stands beside the study, or is named on the command line."""
    write(tmp_path / "p.tsv", PARTI)
    sets = "[{set: parti, file: p.tsv, n: 2, stratify: Category}]"
    head, tail = TINY[: TINY.index("prompts:")], TINY[TINY.index("settings:") :]
    text = f"{head}prompts: {sets}\n{tail}".replace(
        "[oracle, sharpness]", "[sharpness]"
    )
    given = {"generator": "some/model", "llm": "pocket"}
    plan = planned(tmp_path, text, overrides=given)
    assert ("parti", 2) == (plan.prompts[0].source, len(plan.prompts))
    assert "stratified" == plan.drawn[0]["method"]
    assert plan.drawn[0]["citation"]
    with pytest.raises(ConfigurationError, match=r"none\.tsv"):
        planned(tmp_path, text, overrides=given, files={"parti": tmp_path / "none.tsv"})


def test_an_arm_may_have_nothing_of_its_own(tmp_path: Path) -> None:
    """It is what the study's settings say; another preset spreads its images."""
    text = TINY.replace("{about: All rounds.}", "").replace("judge: never, ", "")
    text = text.replace("settings: {preset: classic, rounds: 3,", "settings: {")
    text = text.replace("judge: caption", "preset: default")
    arms = {arm.name: arm.settings for arm in planned(tmp_path, text).arms}
    assert (3, "last") == (arms["to_the_end"].max_images, arms["to_the_end"].selector)
    assert 1 == arms["early_stop"].prompts_per_round


def test_the_pocket_world_makes_so_many_prompts_and_no_more(tmp_path: Path) -> None:
    """Canonical prompts of one seed are soon all there."""
    with pytest.raises(
        ConfigurationError, match="different prompts of the kind 'terse'"
    ):
        planned(tmp_path, TINY.replace("terse, n: 2", "terse, n: 9000"))


def test_a_grid_has_an_arm_for_each_combination(tmp_path: Path) -> None:
    """Values may have names; an ablation leaves out one block at a time."""
    text = TINY[: TINY.index("arms:")] + TINY[TINY.index("budget:") :]
    text += "grid: {factors: {judge: [never, caption], rounds: {few: 2, many: 3}}}\n"
    text += "ablation: {template: predecessor, without: [format, caption]}\n"
    arms = {arm.name: arm.settings for arm in planned(tmp_path, text).arms}
    assert 7 == len(arms)
    both = arms["judge=caption+rounds=many"]
    assert ("caption", 3) == (both.judge, both.rounds)
    assert "predecessor without format" == arms["without_format"].optimizer_template


def test_what_is_set_outright_wins_but_not_over_the_arms(tmp_path: Path) -> None:
    """The command line changes what the study leaves open to all arms."""
    plan = planned(tmp_path, overrides={"rounds": "2", "judge": "caption", "seed": "7"})
    arms = {arm.name: arm.settings for arm in plan.arms}
    assert (7,) == plan.seeds
    assert {2, 1} == {settings.rounds for settings in arms.values()}
    assert "never" == arms["one"].judge


def test_a_dry_run_tells_the_most_that_it_may_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images, calls and time by what calls took before; nothing is opened for it."""
    assert 0 == main(["lab", "run", written(tmp_path, TINY), "--dry-run", "--json"])
    printed, told = capsys.readouterr()
    forecast = json.loads(printed)
    assert 12 + 12 + 4 == forecast["total"]["images"]
    assert "in all at most 28 images" in told
    curves = tmp_path / "calibration.json"
    known = [
        {"stage": "generator", "model": "pocket, cpu", "seconds": {"1": 3, "4": 8}},
        {"stage": "captioner", "model": "pocket, cpu", "seconds": {"2": 1}},
        {"stage": "generator", "model": "other", "seconds": {"1": 0.1}},
        {"stage": "decide", "model": "pocket", "seconds": {"1": 9}},
    ]
    curves.write_text(json.dumps({"curves": known}))
    plan = planned(tmp_path)
    assert 28 * 2.5 == forecast_study(plan, curves=curves)["total"]["seconds"]
    curves.write_text("{}")
    assert forecast_study(plan, curves=curves)["total"]["seconds"] is None


def test_the_run_budget_bounds_the_forecast(tmp_path: Path) -> None:
    """What the study may spend is the most that it does."""
    text = TINY.replace("images: 3", "images: 3, run: {images: 20, tokens: 5}")
    total = forecast_study(planned(tmp_path, text))["total"]
    assert (20, 5) == (total["images"], total["tokens"])


def test_a_metric_that_selects_somewhere_is_marked(tmp_path: Path) -> None:
    """It may describe, and is said to be no evidence."""
    text = TINY.replace("judge: caption", "selector: clip, scorer: pocket")
    text = text.replace("sharpness", "clipscore_pocket")
    (warning,) = planned(tmp_path, text).warnings
    assert "selects in early_stop" in warning
