"""Budgets and prices: read from text and mappings, refused in one line, written back.

Invariants: what is written as text or JSON is read back as it was; a cost is never
below 0, and never less for more.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_settings import BaseSettings, NoDecode

from socratic_agents.core.budget import MOST, Budget, Prices
from socratic_agents.core.errors import ConfigurationError

whole = st.none() | st.integers(1, MOST)
above = st.none() | st.integers(1, MOST) | st.floats(0, MOST, exclude_min=True)
prices = st.builds(
    Prices,
    image=st.integers(0, MOST) | st.floats(0, MOST),
    input_tokens=st.floats(0, MOST),
    output_tokens=st.floats(0, MOST),
)
budgets = st.builds(
    Budget, images=whole, llm_calls=whole, tokens=whole, money=above, seconds=above
)
counts = st.integers(0, MOST)


@given(budgets)
def test_a_budget_is_read_as_it_was_written(budget: Budget) -> None:
    """Text and JSON hold all of it; a budget itself and its dictionary are read too."""
    assert budget == Budget.parse(str(budget))
    assert budget == Budget.parse(json.loads(json.dumps(budget.to_json())))
    assert budget == Budget.parse(budget)
    assert budget == Budget.parse(budget.limits())


@given(prices)
def test_prices_are_read_as_they_were_written(price: Prices) -> None:
    """Text and JSON hold all of them; prices themselves are read too."""
    assert price == Prices.parse(str(price))
    assert price == Prices.parse(json.loads(json.dumps(price.to_json())))
    assert price == Prices.parse(price)


def test_the_text_form() -> None:
    """Text is what one would type: hyphens, no needless zeros, ``none`` for no limit."""
    text = "images=12,llm-calls=20,tokens=50000,money=0.5,seconds=60"
    every = Budget(images=12, llm_calls=20, tokens=50_000, money=0.5, seconds=60.0)
    assert text == str(every)
    assert every == Budget.parse(text)
    assert "none" == str(Budget())
    assert "image=0.01,input-tokens=0,output-tokens=2" == str(
        Prices(image=0.01, output_tokens=2.0)
    )


@pytest.mark.parametrize(
    "given",
    [
        "images=12,llm_calls=20",
        "llm-calls=20, images=12",
        " Images = 12 , LLM-Calls = 20 ",
        {"images": 12, "llm_calls": 20},
        {"images": "12", "llm-calls": 20, "money": None},
    ],
    ids=["underscore", "order", "spaces", "mapping", "texts"],
)
def test_many_ways_to_write_a_budget(given: Any) -> None:
    """Hyphens, underscores, spaces, capitals and order make no difference."""
    assert Budget(images=12, llm_calls=20) == Budget.parse(given)


@pytest.mark.parametrize("given", [None, "none", " None ", {}])
def test_no_budget_is_no_limit(given: Any) -> None:
    """Nothing, said in any way, limits nothing."""
    assert Budget() == Budget.parse(given)
    assert {} == Budget.parse(given).limits()


BROKEN = {
    "a word": ("images", "got 'images' without '='; write NAME=NUMBER"),
    "nothing": ("", "got '' without '='"),
    "thousands": ("tokens=50,000", "got '000' without '='"),
    "a number": (12, "got int; give text or a mapping"),
    "a typing error": ("imges=12", "got 'imges'; did you mean 'images'?"),
    "a hyphen too few": ({"llmcalls": 1}, "did you mean 'llm_calls'?"),
    "another name": ({"steps": 3}, "money, seconds, got 'steps'; name one of these"),
    "no name": ({3: 3}, "got '3'; name one of these"),
    "twice": ("llm-calls=1,llm_calls=2", "expected llm_calls once in a budget"),
    "words": ("images=many", "expected images to be a whole number above 0"),
    "half an image": ("images=0.5", "got 0.5; leave it out for no limit"),
    "half a call": ({"llm_calls": 2.5}, "expected llm_calls to be a whole number"),
    "half a token": ({"tokens": 2.5}, "expected tokens to be a whole number"),
    "zero": ("seconds=0", "expected seconds to be a number above 0"),
    "less than zero": ("money=-1", "got -1; leave it out"),
    "no number at all": ("seconds=nan", "got nan"),
    "no end": ("money=inf", "and at most 1,000,000,000,000,000, got inf"),
    "too much": ({"images": MOST + 1}, f"got {MOST + 1}"),
    "truth": ({"images": True}, "got True"),
    "a list": ({"money": [1]}, "got [1]"),
    "very long": ({"money": "9" * 400 + "x\n"}, "99…"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_budget_is_refused_in_one_line(case: str) -> None:
    """The message says what was expected, what came, and what to do."""
    given, told = BROKEN[case]
    with pytest.raises(ConfigurationError) as caught:
        Budget.parse(given)
    message = str(caught.value)
    assert told in message
    assert message.startswith("expected ")
    assert "\n" not in message
    assert 300 > len(message)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("image=-0.1", "expected the price image to be a number from 0"),
        ("images=1", "did you mean 'image'?"),
        ("output-tokens=inf", "got inf; leave it out if it is free"),
        ({"input_tokens": "a lot"}, "got 'a lot'"),
        ({"input_tokens": False}, "got False"),
        (None, "expected prices such as image=0.01,output-tokens=2, got NoneType"),
        ("none", "got 'none' without '='"),
    ],
)
def test_broken_prices_are_refused_in_one_line(given: Any, told: str) -> None:
    """A price is a number from 0 on; the currency is the user's own."""
    with pytest.raises(ConfigurationError) as caught:
        Prices.parse(given)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text() | st.dictionaries(st.text(), st.text() | st.floats() | st.none()))
def test_anything_is_a_budget_or_an_error_of_ours(given: Any) -> None:
    """Whatever is given, no other error comes out."""
    for cls in (Budget, Prices):
        with suppress(ConfigurationError):
            read = cls.parse(given)
            assert read == cls.parse(read.to_json())


def test_a_price_is_for_one_image_and_for_a_million_tokens() -> None:
    """The cost is the sum over images, tokens read, and tokens written."""
    price = Prices(image=0.04, input_tokens=0.25, output_tokens=2)
    assert pytest.approx(0.48) == price.cost(12, input_tokens=0, output_tokens=0)
    assert 0.25 == price.cost(0, input_tokens=1_000_000, output_tokens=0)
    assert 0.001 == price.cost(0, input_tokens=0, output_tokens=500)
    assert 0.0 == Prices().cost(9, input_tokens=9, output_tokens=9)


@given(prices, st.tuples(counts, counts, counts), st.tuples(counts, counts, counts))
def test_more_never_costs_less(
    price: Prices, some: tuple[int, int, int], more: tuple[int, int, int]
) -> None:
    """A cost is at least 0, and grows with what is used."""
    together = [a + b for a, b in zip(some, more, strict=True)]
    costs = [
        price.cost(images, input_tokens=read, output_tokens=written)
        for images, read, written in (some, together)
    ]
    assert 0 <= costs[0] <= costs[1]


def test_a_limit_of_money_needs_prices() -> None:
    """A limit that could never be reached is refused before anything is spent."""
    Budget(images=3).check(None)
    Budget(money=0.5).check(Prices(image=0.01))
    with pytest.raises(ConfigurationError, match=r"money=0\.5, got none; give some"):
        Budget(money=0.5).check(None)
    with pytest.raises(ConfigurationError, match="got only prices of 0"):
        Budget(money=1).check(Prices())


class Spending(BaseSettings, env_prefix="SPENDING_"):
    """Settings that have a budget and prices."""

    budget: Annotated[Budget, NoDecode] = Budget()
    prices: Annotated[Prices | None, NoDecode] = None


def test_budgets_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings take them as text, mapping or value, and from the environment."""
    assert (Budget(), None) == (Spending().budget, Spending().prices)
    monkeypatch.setenv("SPENDING_BUDGET", "images=3,llm-calls=4")
    monkeypatch.setenv("SPENDING_PRICES", "image=1")
    three = Budget(images=3, llm_calls=4)
    assert (three, Prices(image=1)) == (Spending().budget, Spending().prices)
    for same in (three, {"images": 3, "llm_calls": 4}, "images=3,llm-calls=4"):
        assert three == Spending(budget=same).budget
    with pytest.raises(ValidationError, match="expected images to be a whole number"):
        Spending(budget="images=0")
