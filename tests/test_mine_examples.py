"""The harvest takes what gained, once for each prompt, and templates take it in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import CandidateRef, StopReason
from socratic_agents.core.outcome import Failure, Refinement, Usage
from socratic_agents.lab.study.template_variants import read_bank, variant
from socratic_agents.lab.tuning.mine_examples import as_bank, harvest
from socratic_agents.llm.few_shot import chosen_examples, likeness
from socratic_agents.llm.template_files import find_template
from tests.fakes import drawn, history
from tests.studies import Painter, ran, written

if TYPE_CHECKING:
    from pathlib import Path

WORDS = st.sampled_from(["a red ball", "a blue box", "two rings", "a crimson balloon"])


def refined(user_prompt: str, first: float | None, best: float, **facts: Any) -> Any:
    """Return a refinement whose second image is the best."""
    prompt = facts.pop("prompt", "a red circle")
    past = history(
        user_prompt, drawn(user_prompt, score=first), drawn(prompt, score=best)
    )
    return Refinement(
        history=past,
        best_place=CandidateRef(round=1, candidate=0),
        stop=StopReason.SATISFIED,
        usage=Usage(),
        settings={},
        templates={},
        **facts,
    )


def test_what_gained_enough_is_taken_the_best_first() -> None:
    """Of one prompt the best rewrite; nothing of failures, and nothing unscored."""
    found = harvest(
        [
            refined("a ball", 0.5, 0.6),
            refined("a ball", 0.5, 0.8, prompt="a round ball"),
            refined("a ball", 0.5, 0.7, prompt="a flat ball"),
            refined("a box", 0.2, 0.9),
            refined("a cat", 0.5, 0.52),
            refined("a dog", None, 0.9),
            refined("a cup", 0.1, 0.9, prompt="a  cup"),
            refined("a nan", 0.1, float("nan")),
            Failure(user_prompt="x", error="no", kind="E"),
        ],
        min_gain=0.05,
    )
    assert [("a box", 0.7), ("a ball", 0.3)] == [
        (one.user_prompt, round(one.gain, 6)) for one in found
    ]
    assert ("a round ball", "a thing", "clip") == (
        found[1].prompt,
        found[1].caption,
        found[1].score,
    )


def test_a_bank_is_read_as_it_was_written(tmp_path: Path) -> None:
    """As lines of JSON and as YAML; anything else is refused."""
    found = harvest([refined("a ball: crimson\u2028", 0.5, 0.8)])
    for ending in (".jsonl", ".yaml"):
        path = tmp_path / f"bank{ending}"
        path.write_bytes(as_bank(found, ending=ending))
        assert [found[0].to_json()] == read_bank(path)
    with pytest.raises(ConfigurationError, match=r"bank\.jsonl"):
        as_bank(found, ending=".csv")
    with pytest.raises(ConfigurationError, match="No such file"):
        read_bank(tmp_path / "none.yaml")


def test_harvesting_a_study_and_showing_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command takes one arm or all, and says what it took."""
    out, bank = tmp_path / "out", tmp_path / "bank.jsonl"
    study = written(tmp_path)
    assert 0 == ran(Painter(), "run", study, "--out", out)
    # The predecessor's loop scores nothing, so there is no gain to be seen.
    assert 2 == ran(Painter(), "harvest", out, "--out", bank)
    assert "lower --min-gain" in capsys.readouterr().err
    assert not bank.exists()
    results = out / "arms" / "early_stop" / "0"
    assert 2 == ran(Painter(), "harvest", out, "--arm", "x", "--out", bank)
    assert "expected an arm of to_the_end" in capsys.readouterr().err
    assert 2 == ran(Painter(), "harvest", results, "--arm", "x", "--out", bank)
    assert "leave it out" in capsys.readouterr().err
    assert 2 == ran(Painter(), "harvest", results, "--out", tmp_path / "bank.txt")
    assert "expected --out with a name" in capsys.readouterr().err


def test_harvesting_a_run_that_was_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run directory gives a bank whose examples a template can show."""
    from socratic_agents.storage.run_directory import RunDirectory

    one = refined("a ball", 0.5, 0.8)
    rounds = one.history.rounds
    one = replace(one, history=replace(one.history, rounds=rounds))
    with RunDirectory(tmp_path / "run", settings={}) as run:
        run.save(one)
    bank = tmp_path / "bank.yaml"
    assert 0 == ran(Painter(), "harvest", tmp_path / "run", "--out", bank)
    assert "1 examples, gains from 0.300 to 0.300" in capsys.readouterr().err
    text = variant("optimizer", "few_shot", examples=read_bank(bank), choice=("mmr", 2))
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    template = find_template("optimizer", path)
    assert ("mmr", 2) == template.choice
    assert [
        {"user_prompt": "a ball", "caption": "a thing", "prompt": "a red circle"}
    ] == [dict(example) for example in template.examples]


BANK = [
    {"user_prompt": text, "prompt": text.upper()}
    for text in ("a red ball", "a red balloon", "a blue box", "two rings")
]


def test_examples_are_chosen_by_likeness() -> None:
    """The nearest stands last; MMR takes one that differs from it beside it."""

    def chosen(by: str, number: int = 2, asked: str = "a big red ball") -> list[str]:
        found = chosen_examples(BANK, asked, by=by, number=number)
        return [example["user_prompt"] for example in found]

    assert ["a red ball", "a red balloon"] == chosen("fixed")
    assert ["a red balloon", "a red ball"] == chosen("similar")
    assert "a red ball" == chosen("mmr")[-1]
    assert "a red balloon" != chosen("mmr")[0]
    assert "a red ball" not in chosen("similar", 9, "A red  ball")
    assert 4 == len(chosen("mmr", 9))


@given(st.text(), st.text())
def test_likeness_is_a_share(one: str, other: str) -> None:
    """From 0 to 1, the same both ways, and 1 with itself if there is a word."""
    assert -1e-9 <= likeness(one, other) <= 1 + 1e-9
    assert likeness(one, other) == pytest.approx(likeness(other, one))
    assert likeness(one, one) == pytest.approx(1) or not likeness(one, one)


@given(
    st.lists(st.builds(lambda u: {"user_prompt": u, "prompt": u}, WORDS)),
    WORDS,
    st.sampled_from(["fixed", "similar", "mmr"]),
    st.integers(1, 5),
)
def test_no_example_is_of_the_very_prompt(
    bank: list[dict[str, str]], asked: str, by: str, number: int
) -> None:
    """It would give the answer away; there are never more than were asked for."""
    found = chosen_examples(bank, asked, by=by, number=number)
    assert len(found) <= number
    assert asked not in [example["user_prompt"] for example in found]
    assert all(example in bank for example in found)


def test_a_variant_declares_what_it_uses() -> None:
    """Blocks are replaced and left out; the rest is as it was."""
    text = variant(
        "optimizer",
        "in_blocks without history",
        blocks={"missing": "{{#history}}<attempt>{{{prompt}}}</attempt>{{/history}}"},
    )
    data = yaml.safe_load(text)
    assert {"user_prompt", "incumbent", "history", "number_of_prompts"} <= set(
        data["variables"]
    )
    assert "missing" not in data["variables"]
    assert "history" not in data["blocks"]
    assert "{{> history}}" not in json.dumps(data["messages"])


def test_examples_without_a_choice_are_all_shown() -> None:
    """What one of them leaves out is empty."""
    example = {"user_prompt": "a ball", "prompt": "a round ball"}
    data = yaml.safe_load(variant("optimizer", "few_shot", examples=[example]))
    (shown,) = data["examples"]
    assert example.items() <= shown.items()
    assert {""} == {shown[field] for field in shown.keys() - example.keys()}
    assert "choice" not in data


def test_examples_of_the_template_itself_can_be_chosen() -> None:
    """Without a bank they are those that stand in it."""
    data = yaml.safe_load(variant("optimizer", "few_shot", choice=("similar", 1)))
    assert 8 == len(data["examples"])
    assert {"by": "similar", "number": 1} == data["choice"]
