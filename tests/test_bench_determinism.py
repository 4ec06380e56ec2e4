"""Whether images are the same, what calls cost, and what memory there is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.core.errors import BatchError
from socratic_agents.lab.bench.device.costs import Cost, CostMeter, Costs
from socratic_agents.lab.bench.device.determinism import KEPT, DeterminismCheck
from socratic_agents.lab.bench.device.instrumentation import CallLog, TracedItem
from socratic_agents.lab.bench.device.memory import Memory
from socratic_agents.scheduler.stage import Stage


def grey(level: int, *, odd: int = 0) -> Image.Image:
    """Return an image of one grey, with one value that is off by ``odd``."""
    pixels = np.full((10, 10, 3), level, dtype=np.uint8)
    pixels[0, 0, 0] += odd
    return Image.fromarray(pixels)


def test_rounding_is_forgiven_and_counted() -> None:
    """A level or two of a few values, with calls of several sizes."""
    determinism = DeterminismCheck(exact=True, fine=True)
    determinism.see("lock", "single", "a", 1, grey(100))
    determinism.see("ours", "", "a", 1, grey(100, odd=2))
    determinism.see("ours", "", "never drawn alone", 1, grey(7))
    told = determinism.to_json()
    assert (2, 1, 2) == (
        told["compared"],
        told["differing"],
        told["largest_difference"],
    )
    assert 10 * math.log10(255**2 / (4 / 300)) == pytest.approx(
        told["least_psnr"], abs=0.01
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (grey(100, odd=3), "differs by 3 of 255 levels"),
        (grey(101), "differs by 1 of 255 levels"),
        (Image.new("RGB", (5, 5)), r"image of shape \(10, 10, 3\), got \(5, 5, 3\)"),
    ],
    ids=["far", "everywhere", "small"],
)
def test_another_image_is_found(image: Image.Image, message: str) -> None:
    """Whether it is off by much, in many places, or of another size."""
    determinism = DeterminismCheck(exact=True, fine=True)
    determinism.see("lock", "single", "a", 1, grey(100))
    with pytest.raises(BatchError, match=message):
        determinism.see("ours", "", "a", 1, image)


@pytest.mark.parametrize("rule", ["single", "strict"])
def test_calls_of_one_size_draw_the_same_to_the_last_bit(rule: str) -> None:
    """On a CPU; on other devices up to rounding."""
    for exact in (True, False):
        determinism = DeterminismCheck(exact=exact, fine=True)
        determinism.see("lock", rule, "a", 1, grey(100))
        determinism.see("lock", rule, "a", 1, grey(100))
        if exact:
            with pytest.raises(BatchError, match="the same image to the last bit"):
                determinism.see("lock", rule, "a", 1, grey(100, odd=1))
        else:
            determinism.see("lock", rule, "a", 1, grey(100, odd=1))


def test_coarse_numbers_are_compared_by_decibels() -> None:
    """A level everywhere is nothing to them, thirty are."""
    determinism = DeterminismCheck(exact=False, fine=False)
    determinism.see("lock", "single", "a", 1, grey(100))
    determinism.see("ours", "", "a", 1, grey(102))
    with pytest.raises(BatchError, match=r"\(18\.6 dB\)"):
        determinism.see("ours", "", "a", 1, grey(130))


def test_no_more_images_are_kept_than_needed() -> None:
    """The others are drawn, and not compared."""
    determinism = DeterminismCheck(exact=True, fine=True)
    for seed in range(3 * KEPT):
        determinism.see("lock", "single", "a", seed, grey(100))
    assert 2 * KEPT == determinism.compared


def cost(seconds: dict[int, float], *, items: float = 4, widest: int = 1) -> Cost:
    return Cost(seconds=seconds, items=items, widest=widest)


@given(
    st.dictionaries(st.sampled_from([1, 2, 4, 8, 16]), st.floats(0.01, 9), min_size=1)
)
def test_the_bound_is_what_nobody_exceeds(seconds: dict[int, float]) -> None:
    """It grows with the loops, up to what the device can do, and falls with thinking."""
    seconds |= {1: seconds.get(1, 1.0)}
    costs = Costs({("generator", None): cost(seconds)}, {})
    assert costs.bound(1, 0.5) <= costs.bound(2, 0.5) <= 1 / costs.best + 1e-9
    assert costs.bound(1, 2.0) <= costs.bound(1, 0.5)
    assert costs.bound(9, 0.0, slow=2.0) == pytest.approx(costs.bound(9, 0.0) / 2)
    assert costs.best <= costs.alone <= 4 * seconds[1]
    assert costs.batching_limit >= 1 - 1e-9
    assert costs.caps["generator"] in seconds


def test_a_lone_loop_can_fill_what_it_asks_for_at_once() -> None:
    """Several questions of one image share a call; images one after the other do not."""
    seconds = {1: 1.0, 2: 1.0, 4: 1.0}
    assert 1.0 == cost(seconds).alone
    assert 0.5 == cost(seconds, widest=3).alone
    assert (0.25, 4) == (cost(seconds).best, cost(seconds).cap)


class OutOfMemoryError(RuntimeError):
    pass


def test_sizes_that_do_not_fit_are_left_out() -> None:
    """And a stage of single items is called with single items."""

    def run(items: list[int]) -> list[int]:
        if len(items) > 4:
            raise OutOfMemoryError
        return items

    log, many = CallLog(), Stage[int, int](name="many", run=run)
    one = Stage[int, int](name="one", run=run, max_batch=1)
    for stage in (many, one):
        log.enter(stage, TracedItem(7, None, ""))
    meter = CostMeter(log, loops=1)
    meter.measure(2, warm=True)
    costs = meter.costs()
    assert [1, 2, 4] == list(costs.stages["many", None].seconds)
    assert [1] == list(costs.stages["one", None].seconds)
    assert costs.cost_model().curve(one, None) is None
    assert ["many", "one"] == [call["stage"] for call in costs.to_json()]


def test_what_a_stage_raises_is_not_taken_for_a_lack_of_room() -> None:
    """Nor is a lack of room for one item forgiven."""

    def run(_: list[int]) -> list[int]:
        raise OutOfMemoryError

    log = CallLog()
    log.enter(Stage[int, int](name="full", run=run), TracedItem(7, None, ""))
    with pytest.raises(OutOfMemoryError):
        CostMeter(log, loops=1).measure()


def test_memory_is_what_the_process_has() -> None:
    """In bytes, now and not at its height."""
    memory = Memory(torch.device("cpu"))
    memory.reset()
    before, block = memory.peak(), np.ones(2**25)
    assert before + block.nbytes // 2 < memory.peak()
    del block
    assert before + 2**27 > memory.peak()


def test_memory_of_a_card_is_what_it_gave_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Since the reset."""
    given = {"peak": 5}
    monkeypatch.setattr(
        torch.cuda, "reset_peak_memory_stats", lambda _: given.update(peak=3)
    )
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: given["peak"])
    memory = Memory(torch.device("cuda"))
    assert 5 == memory.peak()
    memory.reset()
    assert 3 == memory.peak()
