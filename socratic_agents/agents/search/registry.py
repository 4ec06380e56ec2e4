"""The searches by name, and the one that the settings name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import PurePath
from typing import TYPE_CHECKING, cast

from socratic_agents.agents.registry import find_roles
from socratic_agents.agents.search.classic import ClassicSearch
from socratic_agents.agents.search.default import DefaultSearch
from socratic_agents.agents.search.paired import PairedSearch
from socratic_agents.config.recipes.recognition import recipe_of
from socratic_agents.config.registry import Registry
from socratic_agents.core.search import seed_bank

if TYPE_CHECKING:
    from collections.abc import Callable

    from socratic_agents.agents.search.rounds import RoundSearch
    from socratic_agents.config.settings import Settings
    from socratic_agents.core.search import Search

__all__ = (
    "SEARCHES",
    "SearchSpec",
    "find_search",
    "is_distilled",
    "most_rounds",
    "speculates",
)

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
    fills: bool = False
    """Whether each round after the first has as many images as there is room for."""


def _build(kind: type[RoundSearch], settings: Settings, **own: int) -> Search:
    return kind(
        rounds=settings.rounds,
        seeds=partial(seed_bank, settings.seed),
        seeds_per_prompt=settings.seeds_per_prompt,
        speculate=speculates(settings),
        distilled=is_distilled(settings),
        **own,
    )


def _default(settings: Settings) -> Search:
    most = settings.prompts_per_round
    return _build(DefaultSearch, settings, prompts_per_round=most)


SEARCHES = Registry(
    "a search",
    [
        SearchSpec(
            name="default",
            title="Rewrites, each on fresh noise, until all images are spent.",
            build=_default,
            fills=True,
        ),
        SearchSpec(
            name="paired",
            title="Rounds of rewrites, compared under the best image's noise.",
            build=partial(_build, PairedSearch),
        ),
        SearchSpec(
            name="classic",
            title="Rounds of rewrites, compared under fresh noise.",
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
    spec = _find_spec(settings)
    return spec.build(settings) if spec else cast("Search", settings.search)


def _find_spec(settings: Settings) -> SearchSpec | None:
    if settings.search is not None and not isinstance(settings.search, str):
        return None
    name = settings.search or ("classic" if settings.fresh_noise else "default")
    return SEARCHES.find(name)


def _smallest_round(settings: Settings) -> int:
    """Return how many images each round after the first has at least."""
    spec = _find_spec(settings)
    prompts = settings.prompts_per_round if spec and spec.fills else 1
    return prompts * settings.seeds_per_prompt


def most_rounds(settings: Settings, images: int) -> int:
    """Return how many rounds there are at most.

    Args:
        settings: Say how small a round can be.
        images: How many are drawn at most.
    """
    later = max(0, images - settings.seeds_per_prompt)
    fitting = 1 + ceil(later / _smallest_round(settings))
    return min(settings.rounds or fitting, fitting)


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
