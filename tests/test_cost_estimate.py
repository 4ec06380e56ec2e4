"""The forecast: no refinement passes it, and the worst one reaches it.

Invariant: whatever the judge and the optimizer say, the real loop draws no more images
and sends no more requests than were forecast.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.agents.registry import find_roles
from socratic_agents.agents.search.registry import SEARCHES, find_search
from socratic_agents.config.settings import Settings
from socratic_agents.core.budget import Budget
from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.errors import CandidateError
from socratic_agents.core.history import Status, Verdict
from socratic_agents.core.loop import Agents, Limits, refine_prompt
from socratic_agents.core.search import seed_bank
from socratic_agents.llm.usage import UsageMeter
from socratic_agents.runtime.cost_estimate import worst_case
from socratic_agents.runtime.receipt import draw_receipt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from socratic_agents.core.history import Candidate, History


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, so that no other file counts."""
    monkeypatch.chdir(tmp_path)


def plain(**settings: Any) -> Settings:
    """Return settings in which nobody asks a language model but who is named."""
    quiet = {"judge": "never", "selector": "first", "guard": None, "rounds": 4}
    painter: dict[str, Any] = {"generator": Image.new, "prompts_per_round": 4}
    return Settings(**{**quiet, **painter, "search": "paired", **settings})


def painter(meter: UsageMeter, *, broken: bool) -> Callable[[str, int], Awaitable[Any]]:
    """Return who draws and counts; if it is broken, the first image fails."""

    async def generate(prompt: str, seed: int) -> Image.Image:
        meter.add_images()
        if broken and meter.images == 1:
            raise CandidateError(Status.GENERATION_FAILED, "no")
        return Image.new("RGB", (1, 1), "red")

    return generate


async def caption(image: Image.Image) -> str:
    return "a thing"


def costliest(
    settings: Settings, meter: UsageMeter, rewrites: list[int], *, broken: bool
) -> Agents:
    """Return agents that are never satisfied and need every repair for an answer.

    Args:
        settings: Say who asks a language model.
        meter: Counts.
        rewrites: How many prompts each optimizer's answer has.
        broken: Whether the first image fails.
    """
    roles = find_roles(settings)

    def ask(times: int, *, requests: int = 3) -> None:
        for _ in range(times * requests):
            meter.add_call()

    async def inquire(user_prompt: str) -> Checklist:
        ask(1, requests=2)
        return Checklist(questions=(Question(text="Is it?", requirement="it"),))

    async def answer(checklist: Checklist, candidate: Candidate) -> tuple[Answer, ...]:
        ask(settings.answerer == "llm", requests=2)
        return (Answer(said=YesNo.NO, passed=False),)

    async def judge(history: History) -> Verdict:
        ask(settings.judge in ("caption", "vision"))
        return Verdict(satisfied=False)

    async def optimize(history: History) -> tuple[str, ...]:
        ask(settings.optimizer == "llm")
        ask(2 * (roles.guard is not None))
        number = len(history.rounds)
        written = rewrites[(number - 1) % len(rewrites)]
        return tuple(f"{number}.{n}" for n in range(written))

    async def select(history: History) -> int:
        others = len(history.candidates) - 1
        ask(settings.selector == "caption" and others > 0)
        ask(2 * min(others, 2) * (settings.selector == "vision"))
        return others

    return Agents(
        generate=painter(meter, broken=broken),
        caption=caption,
        judge=judge,
        optimize=optimize,
        select=select,
        inquire=inquire if roles.writes_checklist else None,
        answer=answer if roles.uses_checklist else None,
    )


def run(settings: Settings, rewrites: list[int], *, broken: bool = False) -> UsageMeter:
    """Return what a refinement with these settings cost, its receipt included."""
    meter = UsageMeter()
    agents = costliest(settings, meter, rewrites, broken=broken)
    limits = [settings.max_images, settings.budget.images]

    async def refined() -> None:
        most = min(filter(None, limits), default=None)
        refinement = await refine_prompt(
            "a cat", agents, find_search(settings), limits=Limits(max_images=most)
        )
        if settings.receipt:
            bank = seed_bank(settings.seed)
            await draw_receipt(refinement, agents, settings, seeds=bank)

    asyncio.run(refined())
    return meter


limit = st.none() | st.integers(3, 30)
policies = st.fixed_dictionaries(
    {
        "rounds": st.integers(1, 6),
        "search": st.sampled_from(sorted(SEARCHES)),
        "prompts_per_round": st.integers(1, 4),
        "seeds_per_prompt": st.integers(1, 3),
        "max_images": limit,
        "budget": st.builds(Budget, images=limit),
        "judge": st.sampled_from(["checklist", "caption", "vision", "never"]),
        "selector": st.sampled_from(["checklist", "caption", "vision", "first"]),
        "guard": st.sampled_from(["llm", None]),
        "answerer": st.sampled_from(["captioner", "llm"]),
        "receipt": st.booleans(),
    }
)


@given(policies, st.lists(st.integers(1, 4), min_size=1, max_size=5), st.booleans())
def test_no_refinement_passes_its_forecast(
    policy: dict[str, Any], rewrites: list[int], broken: bool
) -> None:
    """However many prompts come back each time, the forecast is an upper bound."""
    settings = plain(**policy)
    most = settings.prompts_per_round
    several = policy["rounds"] > 1 or settings.seeds_per_prompt > 1
    written = [min(number, most) for number in rewrites]
    meter = run(settings, written, broken=broken and several)
    forecast = worst_case(settings)
    assert meter.images <= forecast.images
    assert meter.llm_calls <= forecast.llm_calls


@given(policies)
def test_the_worst_refinement_reaches_its_forecast(policy: dict[str, Any]) -> None:
    """All prompts draw the most images, and one at a time takes the most calls."""
    settings = plain(**{**policy, "answerer": "captioner", "receipt": False})
    forecast = worst_case(settings)
    widest = run(settings, [settings.prompts_per_round])
    slowest = run(settings, [1] * (policy["rounds"] - 2) + [4])
    assert forecast.images == widest.images
    picks = settings.selector in ("caption", "vision")
    few = forecast.images > slowest.images  # a selector with less to choose from
    assert forecast.llm_calls == slowest.llm_calls or (picks and few)


def test_a_receipt_draws_all_again_and_chooses_again() -> None:
    """It is forecast to the last image and call, in the case that it keeps nothing."""
    policy = {"judge": "checklist", "answerer": "llm", "selector": "caption"}
    settings = plain(**policy, receipt=True, budget="images=5", seeds_per_prompt=2)
    meter, forecast = run(settings, [1], broken=True), worst_case(settings)
    assert 10 == forecast.images
    assert 5 + 5 - 1 == meter.images, "the second image is kept"
    # A checklist, two rewrites, two choices, and answers about ten images.
    assert 2 + 2 * 3 + 2 * 3 + 10 * 2 == forecast.llm_calls
    assert forecast.llm_calls - 2 == meter.llm_calls, "a failed image has no answers"
    assert "up to half of the images are drawn for the receipt" in forecast.lines(1)


@pytest.mark.parametrize(
    ("policy", "calls"),
    [
        ({"rounds": 1}, 0),
        ({"rounds": 4}, 3 * 3),
        ({"judge": "caption"}, 3 * 3 + 4 * 3),
        ({"judge": "vision"}, 3 * 3 + 4 * 3),
        ({"judge": "score:0.8"}, 3 * 3),
        ({"judge": "checklist"}, 3 * 3 + 2),
        ({"judge": "checklist", "selector": "checklist"}, 3 * 3 + 2),
        ({"guard": "llm"}, 3 * 3 + 2 + 3 * 2 * 3),
        ({"guard": "llm", "answerer": "llm"}, 3 * 3 + 2 + 3 * 2 * 3),
        ({"selector": "checklist", "answerer": "llm"}, 3 * 3 + 2 + 13 * 2),
        ({"selector": "caption"}, 3 * 3 + 3),
        ({"selector": "vision"}, 3 * 3 + 2 * 2 * 3),
        ({"selector": "vision", "max_images": 2}, 3 + 2 * 3),
        ({"selector": "vision", "max_images": 1}, 0),
        ({"selector": "caption", "max_images": 1}, 0),
    ],
)
def test_each_role_is_asked_as_often_as_it_may_be(
    policy: dict[str, Any], calls: int
) -> None:
    """Three requests a question, two for a checklist's, all repairs included."""
    assert calls == worst_case(plain(**policy)).llm_calls


@pytest.mark.parametrize(
    ("policy", "images", "by"),
    [
        ({}, 13, "rounds"),
        ({"seeds_per_prompt": 2}, 26, "rounds"),
        ({"max_images": 13}, 13, "rounds"),
        ({"max_images": 12}, 12, "max_images"),
        ({"max_images": 12, "budget": "images=12"}, 12, "max_images"),
        ({"max_images": 12, "budget": "images=5"}, 5, "budget"),
    ],
)
def test_what_limits_the_images_is_named(
    policy: dict[str, Any], images: int, by: str
) -> None:
    """The smallest bound counts, the first of equals."""
    forecast = worst_case(plain(**policy))
    assert (images, by) == (forecast.images, forecast.limited_by["images"])


@pytest.mark.parametrize(
    ("policy", "calls", "by"),
    [
        ({}, 9, "rounds"),
        ({"max_images": 12}, 9, "rounds"),
        ({"max_images": 3}, 6, "max_images"),
        ({"max_images": 12, "judge": "checklist", "answerer": "llm"}, 35, "max_images"),
        ({"budget": "images=3"}, 6, "budget"),
        ({"budget": "llm-calls=8"}, 8, "budget"),
        ({"budget": "llm-calls=9"}, 9, "rounds"),
    ],
)
def test_what_limits_the_calls_is_named(
    policy: dict[str, Any], calls: int, by: str
) -> None:
    """Fewer images mean fewer rounds, and where each is looked at, fewer answers."""
    forecast = worst_case(plain(**policy))
    assert (calls, by) == (forecast.llm_calls, forecast.limited_by["llm_calls"])


@pytest.mark.parametrize(
    ("policy", "money"),
    [
        ({}, None),
        ({"prices": "image=0.5"}, 6.5),
        ({"prices": "image=0.5,output-tokens=2"}, None),
        ({"prices": "output-tokens=2", "optimizer": "own"}, 0),
        ({"prices": "image=0.5,output-tokens=2", "budget": "tokens=500000"}, 7.5),
        ({"prices": "input-tokens=4,output-tokens=2", "budget": "tokens=500000"}, 2),
        ({"prices": "image=0.5,output-tokens=2", "budget": "money=3"}, 3),
        ({"prices": "image=0.5", "budget": "money=30"}, 6.5),
    ],
)
def test_the_cost_is_told_as_far_as_it_can_be_known(
    policy: dict[str, Any], money: float | None
) -> None:
    """Images have a price; tokens are bounded by a budget alone, at the dearer price."""

    async def own(history: History) -> tuple[str, ...]:
        raise AssertionError

    if policy.get("optimizer") == "own":
        policy = {**policy, "optimizer": own}
    assert money == worst_case(plain(**policy)).money


def test_many_prompts_share_the_runs_budget() -> None:
    """Amounts add up over the prompts until the run's budget bounds them."""
    settings = plain(
        budget="tokens=1000,seconds=60",
        run_budget="images=30,llm-calls=20,tokens=2500,seconds=100,money=9",
        prices="image=0.5",
    )
    forecast = worst_case(settings)
    assert {
        "prompts": 2,
        "images": 26,
        "llm_calls": 18,
        "tokens": 2000,
        "money": 9,
        "seconds": 100,
        "limited_by": {
            "images": "rounds",
            "llm_calls": "rounds",
            "tokens": "budget",
            "seconds": "run_budget",
            "money": "run_budget",
        },
        "each": {
            "images": 13,
            "llm_calls": 9,
            "tokens": 1000,
            "money": 6.5,
            "seconds": 60,
            "limited_by": {
                "images": "rounds",
                "llm_calls": "rounds",
                "tokens": "budget",
                "seconds": "budget",
            },
        },
        "notes": [
            "requests that are repeated after network errors come on top",
            "work in flight when a limit of the budget is reached comes on top",
        ],
    } == forecast.to_json(2)
    many = forecast.total(3)
    assert (30, 20, 2500) == (many.images, many.llm_calls, many.tokens)
    assert json.dumps(forecast.to_json(3), allow_nan=False)
    none = forecast.total(0)
    assert (0, 0, 0, 0) == (none.images, none.llm_calls, none.tokens, none.money)


def test_a_run_may_know_what_one_prompt_does_not() -> None:
    """A limit of tokens for the run bounds its cost, and that of no single prompt."""
    settings = plain(prices="image=1,output-tokens=1", run_budget="tokens=1000000")
    forecast = worst_case(settings)
    assert (None, None) == (forecast.money, forecast.tokens)
    assert 27 == forecast.total(2).money


def test_the_words_for_people() -> None:
    """One line says it all, the others what each prompt takes and what to know."""
    assert [
        "3 prompts: at most 39 images, 27 calls of the language model",
        "each prompt: at most 13 images, 9 calls of the language model",
        "limited by rounds (images, calls of the language model)",
        "requests that are repeated after network errors come on top",
    ] == worst_case(plain()).lines(3)
    settings = plain(budget="images=1,seconds=90", prices="image=0.1")
    first = (
        "1 prompt: at most 1 image, 0 calls of the language model, 0 tokens, a cost of "
        "0.1, 90 seconds"
    )
    assert [
        first,
        "limited by budget (images, calls of the language model, seconds)",
        "work in flight when a limit of the budget is reached comes on top",
    ] == worst_case(settings).lines(1)
    assert (
        "1 prompt: at most 2 images, 1 call of the language model"
        == worst_case(plain(budget="llm-calls=1", max_images=2)).lines(1)[0]
    )
    settings = plain(prices="image=0.1,output-tokens=2")
    assert (
        "the images cost at most 2.6, what the tokens cost is not known beforehand; "
        "limit tokens or money"
    ) == worst_case(settings).lines(2)[-1]


def test_own_callables_may_ask_for_more() -> None:
    """What nobody can count is said."""

    async def own(*_: Any) -> Any:
        raise AssertionError

    forecast = worst_case(plain(judge=own, optimizer=own))
    assert 0 == forecast.llm_calls
    assert (
        "what your own judge and optimizer may ask for comes on top"
    ) == forecast.lines(1)[-1]
