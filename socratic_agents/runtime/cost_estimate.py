"""The cost estimate: what a refinement, or a run of many, may cost at most."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from socratic_agents.agents.checklist_writer import MOST as MOST_QUESTIONS
from socratic_agents.agents.checklist_writer import (
    VALIDATION_RETRIES as CHECKLIST_RETRIES,
)
from socratic_agents.agents.llm_captioner import VALIDATION_RETRIES as LOOKS_RETRIES
from socratic_agents.agents.registry import find_roles
from socratic_agents.agents.search.registry import most_rounds
from socratic_agents.core.budget import Budget, Prices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socratic_agents.config.settings import Settings

__all__ = ("CostEstimate", "worst_case")

CHECKLIST_ASKED = 1 + CHECKLIST_RETRIES
"""Requests for one checklist, validation retries included."""

LOOKS_ASKED = 1 + LOOKS_RETRIES
"""The same for what a language model is asked about an image as its captioner."""
ASKED_OF_ONE = 3
"""Requests for one question of a checklist: it may count and read before yes or no."""
LOOKERS = frozenset({"answerer", "captioner"})
"""Roles that make more requests the more images there are."""
BUDGETS = ("budget", "run_budget")
"""The limits that are reached while work is in flight."""
WORDS = {"images": "images", "llm_calls": "calls of the language model"}
"""Amounts that a person reads otherwise than a program."""


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """What may be spent at most; ``None``: nobody can know.

    A refinement that satisfies its judge soon costs far less.
    """

    images: int
    llm_calls: int
    """Requests to the language model with validation retries, without those that are sent
    again because of network errors or the server takes no schema."""
    tokens: int | None = None
    money: float | None = None
    """In the currency of the prices."""
    seconds: float | None = None
    limited_by: Mapping[str, str] = field(default_factory=dict)
    """Amount to what bounds it: ``rounds``, ``max_images``, ``budget`` or
    ``run_budget``."""
    receipt: bool = False
    """Whether a receipt is among it, which no budget of one refinement bounds."""
    finals: int = 0
    """How many of the images of one prompt the final generator draws."""
    own: tuple[str, ...] = ()
    """Roles whose part is played by a callable, which may ask for more."""
    prices: Prices | None = None
    run_budget: Budget = field(default_factory=Budget)

    def total(self, prompts: int) -> CostEstimate:
        """Return the estimate of that many prompts, within the run's budget.

        Args:
            prompts: At least 0.
        """
        every = replace(
            self,
            images=prompts * self.images,
            llm_calls=prompts * self.llm_calls,
            tokens=None if self.tokens is None else prompts * self.tokens,
            money=None if self.money is None else prompts * self.money,
            seconds=None if self.seconds is None else prompts * self.seconds,
        )
        return _capped(every, self.run_budget, "run_budget")

    def lines(self, prompts: int) -> list[str]:
        """Return the estimate of that many prompts in words for people.

        Args:
            prompts: At least 0.
        """
        total = self.total(prompts)
        lines = [f"{_counted(prompts, 'prompts')}: at most {total.amounts()}"]
        if prompts > 1:
            lines.append(f"each prompt: at most {self.amounts()}")
        bounded: dict[str, list[str]] = {}
        for amount, limit in total.limited_by.items():
            bounded.setdefault(limit, []).append(WORDS.get(amount, amount))
        by = [f"{limit} ({', '.join(names)})" for limit, names in bounded.items()]
        return [*lines, f"limited by {', '.join(by)}", *total.notes()]

    def amounts(self) -> str:
        """Return what is known of the amounts, in words."""
        known = [
            _counted(self.images, "images"),
            _counted(self.llm_calls, WORDS["llm_calls"]),
        ]
        if self.tokens is not None:
            known.append(_counted(self.tokens, "tokens"))
        if self.money is not None:
            known.append(f"a cost of {self.money:.10g}")
        if self.seconds is not None:
            known.append(f"{self.seconds:,.10g} seconds")
        return ", ".join(known)

    def notes(self) -> tuple[str, ...]:
        """Return what must be known to read the amounts rightly."""
        budgets = {kind for kind, limit in self.limited_by.items() if limit in BUDGETS}
        drawn = self.images * (self.prices.image if self.prices else 0)
        notes = {
            "requests that are repeated after network errors come on top": (
                self.llm_calls and "llm_calls" not in budgets
            ),
            "work in flight when a limit of the budget is reached comes on top": (
                budgets - {"llm_calls"}
            ),
            "up to half of the images are drawn for the receipt": self.receipt,
            f"of each prompt's images, the final generator draws {self.finals}": (
                self.finals
            ),
            f"what your own {' and '.join(self.own)} may ask for comes on top": self.own,
            f"the images cost at most {drawn:.10g}, what the tokens cost is not known "
            "beforehand; limit tokens or money": self.prices and self.money is None,
        }
        return tuple(note for note, needed in notes.items() if needed)

    def to_json(self, prompts: int) -> dict[str, Any]:
        """Return the JSON form of the estimate of that many prompts.

        Args:
            prompts: At least 0.
        """
        total = self.total(prompts)
        return {
            "prompts": prompts,
            **_numbers(total),
            "limited_by": dict(total.limited_by),
            "each": {**_numbers(self), "limited_by": dict(self.limited_by)},
            "notes": list(total.notes()),
        }


def worst_case(settings: Settings) -> CostEstimate:
    """Return what one refinement with these settings may cost at most.

    Nothing is opened or asked for that.
    """
    seeds = settings.seeds_per_prompt
    each = settings.prompts_per_round * seeds
    finals = settings.final_images if settings.final_generator is not None else 0
    bounds = {
        "rounds": settings.rounds and seeds + (settings.rounds - 1) * each + finals,
        "max_images": settings.max_images,
        "budget": settings.budget.images,
    }
    known = {name: bound for name, bound in bounds.items() if bound is not None}
    most = min(known, key=known.__getitem__)
    drawn = known[most]
    drafts = max(1, drawn - finals)
    rounds = most_rounds(settings, drafts)
    calls = _calls(settings, drawn, rounds)
    by_images = rounds != settings.rounds or not calls.keys().isdisjoint(LOOKERS)
    roles = {
        "judge": settings.judge,
        "optimizer": settings.optimizer,
        "guard": settings.guard,
        "selector": settings.selector,
    }
    estimate = CostEstimate(
        images=drawn * (1 + settings.receipt),
        llm_calls=sum(calls.values()),
        limited_by={"images": most, "llm_calls": most if by_images else "rounds"},
        receipt=settings.receipt,
        finals=drawn - drafts,
        own=tuple(role for role, who in roles.items() if callable(who)),
        prices=settings.prices,
        run_budget=settings.run_budget,
    )
    # The images are within it already, and the receipt draws as many again.
    return _capped(estimate, replace(settings.budget, images=None), "budget")


def _calls(settings: Settings, images: int, rounds: int) -> dict[str, int]:
    """Return how many requests each role of the language model makes at most.

    Args:
        settings: Say who it is.
        images: Of the refinement, without its receipt.
        rounds: How many there may be.
    """
    roles, choices = find_roles(settings), 1 + settings.receipt
    times = {
        "judge": rounds,
        "optimizer": rounds - 1,
        "selector": min(images - 1, roles.selector.most_compared) * choices,
        "answerer": images * choices,
        "guard": rounds - 1,
    }
    calls = {role: spec.requests * times[role] for role, spec in roles.played()}
    calls["checklist"] = CHECKLIST_ASKED * roles.writes_checklist
    if roles.llm_looks:
        asked = roles.answerer is not None and roles.answerer.needs_captioner
        each = 1 + ASKED_OF_ONE * MOST_QUESTIONS * asked
        # The judge asks what is seen instead, where a question fails.
        instead = MOST_QUESTIONS * roles.judge.uses_checklist * rounds
        calls["captioner"] = LOOKS_ASKED * (images * choices * each + instead)
    return {role: number for role, number in calls.items() if number}


def _capped(estimate: CostEstimate, budget: Budget, name: str) -> CostEstimate:
    """Return the estimate within a budget."""
    limits, by = budget.limits(), dict(estimate.limited_by)
    amounts = _numbers(estimate)

    def cap(*kinds: str) -> None:
        for kind in kinds:
            limit, amount = limits.get(kind), amounts[kind]
            if limit is not None and (amount is None or limit < amount):
                amounts[kind], by[kind] = limit, name

    if amounts["llm_calls"] == 0:
        amounts["tokens"] = 0
    cap("images", "llm_calls", "tokens", "seconds")
    costs = [amounts["money"], _cost(estimate.prices, amounts)]
    amounts["money"] = min((cost for cost in costs if cost is not None), default=None)
    cap("money")
    return replace(estimate, limited_by=by, **amounts)


def _cost(prices: Prices | None, amounts: Mapping[str, Any]) -> float | None:
    """Return what images and tokens cost at most, if that can be known."""
    if prices is None:
        return None
    tokens, dearest = amounts["tokens"], max(prices.input_tokens, prices.output_tokens)
    if tokens is None and dearest:
        return None
    dear = replace(prices, input_tokens=dearest)
    return dear.cost(amounts["images"], input_tokens=tokens or 0, output_tokens=0)


def _numbers(estimate: CostEstimate) -> dict[str, Any]:
    """Return the amounts by name."""
    return {
        "images": estimate.images,
        "llm_calls": estimate.llm_calls,
        "tokens": estimate.tokens,
        "money": estimate.money,
        "seconds": estimate.seconds,
    }


def _counted(number: int, things: str) -> str:
    """Return a number of things, one of them in the singular."""
    one = things.replace("calls", "call") if "calls" in things else things[:-1]
    return f"{number:,} {one if number == 1 else things}"
