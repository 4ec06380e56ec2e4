"""The memory plan: what takes turns on a device, told before anything is opened."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.cli.app import main
from socratic_agents.config.card import Card
from socratic_agents.config.settings import Settings
from socratic_agents.runtime.readiness import memory
from socratic_agents.runtime.readiness.memory import memory_findings, plan_memory
from socratic_agents.runtime.readiness.memory_plan import memory_plan
from socratic_agents.runtime.readiness.parts import Weights
from socratic_agents.scheduler.residency import GB

ROLES = ("generator", "captioner", "scorer", "final_generator")
SIZES = {"generator": 20.0 * GB, "captioner": 9.0 * GB, "scorer": 1.0 * GB}


@given(
    st.dictionaries(st.sampled_from(ROLES), st.floats(1.0, 30.0 * GB), min_size=1),
    st.floats(1.0, 60.0 * GB),
    st.integers(1, 5),
    st.integers(0, 40),
)
def test_no_step_has_more_on_the_device_than_fits(
    sizes: dict[str, float], capacity: float, rounds: int, prompts: int
) -> None:
    """Each step has its model there; more prompts never take fewer swaps."""
    settings = Settings(rounds=rounds, final_generator="pocket")
    plan = memory_plan(settings, sizes, capacity, prompts=prompts)
    needs = {"draw": "generator", "look": "captioner", "score": "scorer"}
    needs["draw at the end"] = "final_generator"
    for step, there in plan.steps.items():
        assert sum(sizes[name] for name in there) <= capacity + len(there)
        assert needs[step] in there
    assert (plan.problem is not None) is any(
        int(one) > int(capacity) and plan.total > capacity for one in sizes.values()
    )
    more = memory_plan(settings, sizes, capacity, prompts=prompts + 1)
    assert plan.swaps <= more.swaps
    assert (plan.total <= capacity) is (not plan.steps and plan.problem is None)


def test_a_plan_says_what_lies_there_when() -> None:
    """And that its numbers are reckoned."""
    plan = memory_plan(Settings(rounds=3), SIZES, 22.0 * GB, prompts=9)
    turns, when, swaps = plan.lines()
    assert "generator 20 + captioner 9 + scorer 1 = 30 GB by arithmetic, more" in turns
    assert "to draw: generator and scorer" in when
    assert "to look: captioner and scorer" in when
    # To draw and to look, in three rounds of two waves.
    assert "about 12 swaps" in swaps
    assert "not measured" in swaps
    fits = memory_plan(Settings(), SIZES, 40.0 * GB, prompts=9)
    assert ["which fit into 40 GB together"] == [
        line.partition("arithmetic, ")[2] for line in fits.lines()
    ]
    lost = memory_plan(Settings(), SIZES, 10.0 * GB, prompts=9)
    assert "got generator of 20 GB" in lost.lines()[1]


def test_who_writes_with_the_captioner_writes_before_it_leaves() -> None:
    """A step more, and no swap more."""
    plain = Settings(rounds=3)
    writing = plain.model_copy(update={"llm": "captioner"})
    plans = [memory_plan(one, SIZES, 22.0 * GB, prompts=1) for one in (plain, writing)]
    assert plans[0].swaps == plans[1].swaps
    assert "write" in plans[1].steps


def _dry(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[str, dict[str, Any]]:
    assert 0 == main(["refine", "a red ball", "--dry-run", "--json", *more])
    told = capsys.readouterr()
    data: dict[str, Any] = json.loads(told.out)
    return told.err, data


def test_the_plan_is_part_of_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    """By the files of this machine, or by the catalog; nothing is asked of the hub."""
    told, data = _dry(capsys, "--device-memory", "0.0195")
    assert "memory: weights generator 0.0181 + captioner 0.00353" in told
    assert data["memory"]["steps"]["draw"] == ["generator"]
    assert data["memory"]["fits"] is False
    told, data = _dry(capsys)
    assert "memory" not in told
    assert "memory" not in data


def test_models_of_the_catalog_are_planned_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where there is no card, only for what the settings say that there will be."""
    monkeypatch.setattr(memory, "cards_for", lambda _: ())
    settings = Settings(profile="local-24gb", offload=None)
    assert plan_memory(settings, prompts=1) is None
    plan = plan_memory(settings.but(device_memory=24), prompts=1)
    assert plan is not None
    assert pytest.approx(29.4, abs=0.05) == plan.total / GB
    away = Settings(
        generator="openai:m", captioner=str, scorer=None, device_memory=1, api_key="k"
    )
    assert plan_memory(away, prompts=1) is None


def test_a_model_of_unknown_size_is_named() -> None:
    """A plan without it would be wrong."""
    settings = Settings(generator="a/b", captioner="c/d", device_memory=24)
    plan = plan_memory(settings, prompts=1)
    assert plan is not None
    assert ["generator", "captioner"] == plan.to_json()["unknown"]
    assert "the size of generator and captioner is not known" in plan.lines()[0]


def test_a_card_that_holds_them_in_turns_is_good_enough() -> None:
    """The doctor warns, and says how; it fails where one does not fit alone."""
    weights = {
        "generator": Weights(parameters=10 * 10**9, largest=6e9),
        "captioner": Weights(parameters=4.5 * 10**9, largest=4.5e9),
    }
    settings = Settings(generator="somebody/s", captioner="somebody/e", llm="a:b")
    told, main = memory_findings(settings, weights, (Card("a card", 25 * 10**9),))
    assert "warning" == told.state
    assert "they take turns there; on the device to draw: generator" in told.detail
    assert "weights generator 20.0 + captioner 9.0 = 29.0 GB" in main.detail
    [told] = memory_findings(settings, weights, (Card("a card", 22 * 10**9),))
    assert "problem" == told.state
    assert "they do not fit" in told.detail
    told, _ = memory_findings(
        settings.but(device_memory=21), weights, (Card("a card", 22 * 10**9),)
    )
    assert "warning" == told.state
