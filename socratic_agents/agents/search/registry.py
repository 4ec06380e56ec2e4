"""The searches by name, and the one that the settings name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, cast

from socratic_agents.agents.registry import find_roles
from socratic_agents.agents.search.classic import ClassicSearch
from socratic_agents.agents.search.default import DefaultSearch
from socratic_agents.config.recipes.recognition import recipe_of
from socratic_agents.config.registry import Registry
from socratic_agents.core.search import seed_bank

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.agents.search.rounds import RoundSearch
    from socratic_agents.config.settings import Settings
    from socratic_agents.core.search import Search

__all__ = ("SEARCHES", "SearchSpec", "find_search", "is_distilled", "speculates")

_DISTILLED = re.compile(
    r"turbo|schnell|lightning|sprint|hyper-?sd|distill|\blcm|klein(?!.*base)",
    re.IGNORECASE,
)
"""What names of models that draw in a few steps have in them."""


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """A search by its name in the settings."""

    name: str
    title: str
    """What it does, in a line."""
    build: Callable[[Settings], Search]
    """Makes the search; nothing is asked or loaded yet."""


def _build(kind: type[RoundSearch], settings: Settings) -> Search:
    return kind(
        rounds=settings.rounds,
        seeds=partial(seed_bank, settings.seed),
        seeds_per_prompt=settings.seeds_per_prompt,
        speculate=speculates(settings),
        distilled=is_distilled(settings),
    )


SEARCHES = Registry(
    "a search",
    [
        SearchSpec(
            name="default",
            title="Rounds of rewrites, compared under the best image's noise.",
            build=partial(_build, DefaultSearch),
        ),
        SearchSpec(
            name="classic",
            title="Rounds of rewrites, each image from fresh noise.",
            build=partial(_build, ClassicSearch),
        ),
    ],
    spec=SearchSpec,
    group="socratic_agents.searches",
)
"""What decides which images are made, by name."""


def find_search(settings: Settings) -> Search:
    """Return the search that the settings name, or bring along.

    Raises:
        ConfigurationError: If there is none of this name.
    """
    if settings.search is not None and not isinstance(settings.search, str):
        return cast("Search", settings.search)
    name = settings.search or ("classic" if settings.fresh_noise else "default")
    return SEARCHES.find(name).build(settings)


def is_distilled(settings: Settings) -> bool:
    """Return whether the generator is known to draw in a few steps, by family or name."""
    given = settings.generator
    if recipe := recipe_of(given, base=settings.generator_config):
        return recipe.distilled
    return isinstance(given, str) and bool(_DISTILLED.search(PurePath(given).name))


def speculates(settings: Settings) -> bool:
    """Return whether the optimizer may begin while the judge still thinks.

    Other judges are quick. And where requests are counted, chance would decide which of
    the two gets the last one.
    """
    judge, budgets = find_roles(settings).judge, (settings.budget, settings.run_budget)
    limits = [n for b in budgets for n in (b.llm_calls, b.tokens, b.money)]
    thinks = judge.slow or judge.requests > 0
    return settings.speculate and thinks and limits == [None] * len(limits)
