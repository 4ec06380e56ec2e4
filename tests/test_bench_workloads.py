"""What the bench runs on a device: each workload opens, and each contender can use it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.bench.device import costs
from socratic_agents.lab.bench.device import mixed_workload as mixed
from socratic_agents.lab.bench.device.random_models import ARCHITECTURES, build
from socratic_agents.lab.bench.device.run import BenchPlan, run_benchmark
from socratic_agents.lab.bench.device.testbeds import open_testbed
from socratic_agents.lab.bench.device.workloads import KINDS, find_workload
from tests.fakes import TextModel

if TYPE_CHECKING:
    from socratic_agents.lab.bench.device.schedulers import Testbed

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of sizes that nobody makes are not measured."""
    monkeypatch.setattr(costs, "LEAST", 1)


def measured(
    testbed: Testbed, *contenders: str
) -> tuple[list[dict[str, Any]], Any, list[str]]:
    """Return what contenders reach in a moment, and what was said meanwhile."""
    said = list[str]()
    plan = BenchPlan(
        loops=(2,),
        llm_seconds=(0.001,),
        seed=1,
        repeats=1,
        seconds=0.01,
        contenders=contenders,
    )
    return *run_benchmark(testbed, plan, report=said.append), said


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_random_models_are_small_where_that_is_asked(name: str) -> None:
    """Of the same parts as the large ones; the same request, the same image."""
    generator, captioner, scorer = build(
        name, device=CPU, dtype=torch.float32, tiny=True
    )
    first, second = (
        image
        for image in generator([("a", 1), ("b", 2)])
        if not isinstance(image, Exception)
    )
    assert first.tobytes() != second.tobytes()
    captions = captioner.caption([first, second])
    assert 20 <= len(captions[0].split()) == len(captions[1].split())
    assert all(score >= 0 for score in scorer.score([("a", first), ("b", second)]))
    encoders = 2 if name == "sdxl" else 1
    assert encoders == sum(
        "text_encoder" in part for part in generator.pipeline.components
    )


@pytest.mark.slow
def test_random_models_serve_all_kinds_of_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whole drawings, calls of one size, and step by step."""
    quick = replace(ARCHITECTURES["sd15"], call={"steps": 1})
    monkeypatch.setitem(ARCHITECTURES, "sd15", quick)
    usual = find_workload("sd15", tiny=True, settings={})
    variants = ("ours", "ours_strict", "ours_step", "langgraph")
    results, facts, said = measured(usual.open(0), *variants)
    assert {"sequential", *variants} == {one["contender"] for one in results}
    assert facts["images"]["compared"] > 0
    assert not any(line.startswith("left out") for line in said)


@pytest.mark.slow
def test_mixed_images_keep_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls have one key, and what they cost is measured for each."""
    monkeypatch.setattr(mixed, "LARGEST", 2)
    kinds = {kind: KINDS[kind] | {"steps": 1} for kind in ("quick", "large")}
    monkeypatch.setattr("socratic_agents.lab.bench.device.workloads.KINDS", kinds)
    testbed = find_workload("mixed", tiny=False, settings={}).open(0)
    results, facts, said = measured(testbed, "ours", "ours_step")
    assert ["sequential", "ours"] == [one["contender"] for one in results]
    keys = [one["key"] for one in facts["calls"] if one["stage"] == "generator"]
    assert [*kinds] == keys
    assert "left out: ours_step: items have several keys in this workload" in said
    assert {"greedy"} == set(testbed.loops.users[:2])


@pytest.mark.slow
def test_a_profile_is_measured_with_its_own_language_model() -> None:
    """Its checklist is asked for and answered, and no judge ends a loop."""
    option = {"preset": "quick", "rounds": "2", "generator": "pocket", "steps": 1}
    testbed = find_workload("profile", tiny=False, settings=option).open(0)
    results, _, said = measured(testbed, "lock", "langgraph", "ours")
    assert ["sequential", "lock", "ours"] == [one["contender"] for one in results]
    assert all(one["thinking_seconds"] > 0 for one in results)
    assert "decide" in results[0]["fill"]
    assert any(line.startswith("left out: langgraph") for line in said)


def test_a_profile_has_as_many_loops_as_its_settings() -> None:
    """And one alone."""
    usual = find_workload("profile", tiny=False, settings={"in_flight": 5})
    assert (1, 5) == usual.loops


def test_the_pocket_workload_has_prompts_by_its_seed() -> None:
    """The same for the same seed, of the same models."""
    usual = find_workload("pocket", tiny=True, settings={})
    assert (1, 32) == usual.loops
    first, again, other = (usual.open(seed).loops.prompts for seed in (1, 1, 2))
    assert first == again != other


def test_a_profile_may_name_models_of_its_own() -> None:
    """Its language model is asked, though not by opening it."""

    def draw(prompt: str, seed: int) -> Any:
        from PIL import Image

        return Image.new("RGB", (16, 16), (seed % 256, 200, 9))

    given: dict[str, Any] = {"judge": "never", "selector": "first", "scorer": None}
    given |= {"generator": draw, "llm": TextModel()}
    testbed = find_workload("profile", tiny=False, settings=given).open(0)
    assert ("profile", True) == (testbed.name, testbed.speaks)
    assert given["llm"].asked == []


def test_a_bench_is_of_this_process() -> None:
    """Replicas elsewhere have devices that nobody sees from here."""
    usual = find_workload("profile", tiny=False, settings={"workers": "ray"})
    with pytest.raises(ConfigurationError, match="expected a device of this process"):
        usual.open(0)


def test_a_generator_that_is_no_pipeline_has_no_steps() -> None:
    """Nor calls of one size."""

    def draw(prompt: str, seed: int) -> Any:
        from PIL import Image

        return Image.new("RGB", (16, 16), (seed, 200, 9))

    settings = Settings(
        generator=draw, judge="never", selector="first", llm=TextModel(), scorer=None
    )
    testbed = open_testbed("own", settings, ["a red circle"])
    results, _, said = measured(testbed, "ours", "ours_strict", "ours_step")
    assert "ours" in {one["contender"] for one in results}
    for name in ("ours_strict", "ours_step"):
        assert f"left out: {name}: its generator is no pipeline of this process" in said
