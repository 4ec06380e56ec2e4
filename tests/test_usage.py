"""The meter: what is counted, where, and when there is no room for more.

Invariants: calls never exceed their limit, here or in the run; the run's counts are the
sums of its refinements'; images left are never more than any limit leaves.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.core.budget import MOST, Budget, Prices
from socratic_agents.core.errors import BudgetError, ConfigurationError
from socratic_agents.llm.usage import UsageMeter, current_meter, using_meter

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Goes only where it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def used(meter: UsageMeter) -> tuple[int, int, int, int]:
    return meter.images, meter.llm_calls, meter.input_tokens, meter.output_tokens


def test_a_meter_without_a_budget_only_counts() -> None:
    """Calls, images and tokens add up, and nothing is ever spent."""
    meter = UsageMeter()
    meter.add_call()
    meter.add_images(3)
    meter.add_images()
    meter.add_tokens({"input_tokens": 11, "output_tokens": 7})
    assert (4, 1, 11, 7) == used(meter)
    assert (None, None, None) == (meter.spent(), meter.images_left(), meter.money)
    meter.expect_room(within=1e9)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"input_tokens": None, "output_tokens": "7"},
        {"input_tokens": -5, "output_tokens": 2.5},
    ],
    ids=["nothing", "empty", "no numbers", "impossible"],
)
def test_what_is_not_reported_is_not_counted(
    usage: dict[str, object] | None,
) -> None:
    """A reply that says nothing of its tokens, or nonsense, changes nothing."""
    meter = UsageMeter()
    meter.add_tokens(usage)
    assert (0, 0, 0, 0) == used(meter)


def test_an_impossible_number_breaks_no_sum() -> None:
    """A server may report anything; what it says is bounded, and money finite."""
    meter = UsageMeter(prices=Prices(input_tokens=1), budget=Budget(money=MOST))
    meter.add_tokens({"input_tokens": 10**400})
    assert MOST == meter.input_tokens
    assert 1e9 == meter.money
    assert meter.spent() is None


def test_each_limit_is_told_in_words() -> None:
    """What is reached is said with how much was used, once it is reached."""
    clock = Clock()
    prices = Prices(image=0.25, input_tokens=1, output_tokens=2)

    def meter(**limits: float) -> UsageMeter:
        budget = Budget.parse(limits)
        meter = UsageMeter(budget=budget, prices=prices, clock=clock)
        for _ in range(20):
            meter.llm_calls += 1
        meter.add_images(2)
        meter.add_tokens({"input_tokens": 200_000, "output_tokens": 50_000})
        return meter

    assert pytest.approx(0.8) == meter().money
    assert "2 of 2 images" == meter(images=2).spent()
    assert "2 of 1 images" == meter(images=1).spent()
    assert meter(images=3).spent() is None
    assert "20 of 20 llm_calls" == meter(llm_calls=20).spent()
    assert meter(llm_calls=21).spent() is None
    assert "250000 of 250000 tokens" == meter(tokens=250_000).spent()
    assert meter(tokens=250_001).spent() is None
    assert "0.8 of 0.7 money" == meter(money=0.7).spent()
    assert meter(money=0.81).spent() is None
    late = meter(seconds=60)
    clock.now += 59.9
    assert late.spent() is None
    clock.now += 1.3
    assert "61.2 of 60 seconds" == late.spent()
    assert pytest.approx(61.2) == late.seconds


def test_a_wait_may_go_past_the_end() -> None:
    """Looking ahead says whether a wait is worth it; only time passes in it."""
    meter = UsageMeter(budget=Budget(llm_calls=1, seconds=60), clock=Clock())
    meter.expect_room(within=59)
    with pytest.raises(BudgetError) as caught:
        meter.expect_room(within=90)
    assert str(caught.value) == (
        "expected room in the budget for another request to the language model, got "
        "90.0 of 60 seconds after a wait of 90.0 s; raise the budget to continue"
    )
    assert meter.spent() is None


def test_the_last_call_is_made_and_the_next_is_not() -> None:
    """A limit of two calls lets two through; a refused one is not counted."""
    meter = UsageMeter(budget=Budget(llm_calls=2))
    meter.add_call()
    meter.add_call()
    with pytest.raises(BudgetError, match="got 2 of 2 llm_calls; raise the budget"):
        meter.add_call()
    assert 2 == meter.llm_calls


def test_the_runs_limits_count_too() -> None:
    """A refinement's own limit is named first, then the run's, as the run's."""
    run = UsageMeter(budget=Budget(llm_calls=3, images=5))
    one = UsageMeter(parent=run, budget=Budget(llm_calls=2, images=4))
    other = UsageMeter(parent=run)
    one.add_call()
    one.add_call()
    assert ("2 of 2 llm_calls", None) == (one.spent(), other.spent())
    other.add_call()
    assert "2 of 2 llm_calls" == one.spent()
    assert "3 of 3 llm_calls of the run" == other.spent()
    assert "3 of 3 llm_calls" == run.spent()
    with pytest.raises(BudgetError, match="of the run"):
        other.add_call()
    assert (2, 1, 3) == (one.llm_calls, other.llm_calls, run.llm_calls)


def test_images_left_are_the_fewest_that_any_limit_leaves() -> None:
    """Own limit and the run's count, and never less than none is left."""
    run = UsageMeter(budget=Budget(images=5))
    one, other = UsageMeter(parent=run, budget=Budget(images=4)), UsageMeter(parent=run)
    assert (4, 5, 5) == (one.images_left(), other.images_left(), run.images_left())
    other.add_images(2)
    assert (3, 3) == (one.images_left(), other.images_left())
    one.add_images(4)
    assert (0, 0, 0) == (one.images_left(), other.images_left(), run.images_left())


def test_money_without_prices_is_refused() -> None:
    """A limit that could never be reached is no limit."""
    with pytest.raises(ConfigurationError, match="expected prices"):
        UsageMeter(budget=Budget(money=1))


def test_the_run_may_have_prices_of_its_own() -> None:
    """Each meter knows what its own counts cost."""
    run = UsageMeter(prices=Prices(image=0.5), budget=Budget(money=1))
    one = UsageMeter(parent=run)
    one.add_images(2)
    assert (None, 1.0) == (one.money, run.money)
    assert "1 of 1 money of the run" == one.spent()


def test_the_meter_in_force_is_the_innermost() -> None:
    """Inside ``using_meter`` the meter is found; outside, one that nobody reads."""
    outside = current_meter()
    with using_meter() as outer:
        assert outer is current_meter()
        inner = UsageMeter(parent=outer)
        with using_meter(inner) as same:
            current_meter().add_call()
        assert inner is same
        assert outer is current_meter()
    assert (1, 1, 0) == (inner.llm_calls, outer.llm_calls, outside.llm_calls)
    assert current_meter() is not current_meter()


steps = st.lists(st.tuples(st.integers(0, 3), st.sampled_from("cit")), max_size=60)
limits = st.none() | st.integers(1, 12)


@given(steps, limits, st.lists(limits, min_size=4, max_size=4))
def test_counts_never_exceed_a_call_limit_and_add_up(
    steps: list[tuple[int, str]], shared: int | None, own: list[int | None]
) -> None:
    """Whatever is asked in whatever order, limits hold and the run is the sum."""
    run = UsageMeter(budget=Budget(llm_calls=shared, images=shared))
    children = [
        UsageMeter(parent=run, budget=Budget(llm_calls=limit, images=limit))
        for limit in own
    ]
    for number, step in steps:
        child = children[number]
        if step == "c":
            full, before = child.spent(), child.llm_calls
            with pytest.raises(BudgetError) if full else nullcontext():
                child.add_call()
            assert before + (full is None) == child.llm_calls
        elif step == "i":
            child.add_images(min(2, child.images_left() or 0))
        else:
            child.add_tokens({"input_tokens": 3, "output_tokens": 2})
    for meter in (run, *children):
        most = meter.budget.images or MOST
        assert meter.llm_calls <= most
        left = meter.images_left()
        assert meter.images + (left or 0) <= most
    sums = [sum(counts) for counts in zip(*map(used, children), strict=True)]
    assert sums == list(used(run))


@pytest.fixture
def busy() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("busy")
def test_threads_count_right_and_share_a_limit_exactly() -> None:
    """Refinements in other threads lose no count, and pass no limit together."""
    run, threads = UsageMeter(budget=Budget(llm_calls=1_000)), 8
    start = threading.Barrier(threads)

    def work() -> UsageMeter:
        meter = UsageMeter(parent=run)
        start.wait()
        for _ in range(500):
            meter.add_images()
            meter.add_tokens({"input_tokens": 2, "output_tokens": 1})
            try:
                meter.add_call()
            except BudgetError:
                continue
        return meter

    with ThreadPoolExecutor(threads) as pool:
        meters = [f.result() for f in [pool.submit(work) for _ in range(threads)]]
    assert (4_000, 1_000, 8_000, 4_000) == used(run)
    assert 1_000 == sum(meter.llm_calls for meter in meters)
