"""Arms: what is compared, each as settings and, where these do not do, wrapped agents."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from socratic_agents.config.profiles import PRESETS, prompts_for
from socratic_agents.config.registry import Registry
from socratic_agents.core.errors import AnswerError, ConfigurationError
from socratic_agents.core.history import History, Round

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from PIL.Image import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.history import Verdict
    from socratic_agents.core.loop import Agents

    Configure = Callable[[Settings, int, Mapping[str, Any]], Settings]

__all__ = (
    "ArmSpec",
    "as_published",
    "find_arms",
    "from_preset",
    "in_one_round",
    "unchanged",
)

MOST = 64
"""Images of one prompt at most; the settings allow no more seeds of it."""


def unchanged(agents: Agents) -> Agents:
    """Return the agents as the settings cast them."""
    return agents


@dataclass(frozen=True, kw_only=True)
class ArmSpec:
    """One way to spend a number of images on a user prompt.

    Other packages write theirs as one of these, with a function for its settings such
    as ``from_preset`` returns, and one that wraps what plays these settings.
    """

    name: str
    title: str
    """What it does, in a sentence."""
    settings: Configure
    """The models with what the arm leaves open, the images of a prompt, and what the
    person set explicitly -> the arm's settings."""
    wrap_agents: Callable[[Agents], Agents] = unchanged
    """What it does to the agents that play these settings."""


def from_preset(preset: str = "default", **changes: Any) -> Configure:
    """Return how an arm is set up that is a preset with so many images at most.

    What the person set explicitly wins over the preset, but not over the changes.

    Args:
        preset: Where it starts from.
        changes: What makes the arm what it is.
    """

    def settings(base: Settings, images: int, given: Mapping[str, Any]) -> Settings:
        few = {"prompts_per_round": prompts_for(images)}
        own = few | PRESETS[preset] | {**given, **_USUAL, **changes}
        return base.but(**own | {"preset": preset, "max_images": images})

    return settings


def in_one_round(**changes: Any) -> Configure:
    """Return how an arm is set up that spends all images on one prompt, in one round.

    Of what the person set explicitly, only how images are looked at counts.

    Args:
        changes: What makes the arm what it is.
    """

    def settings(base: Settings, images: int, given: Mapping[str, Any]) -> Settings:
        own = PRESETS["default"] | {
            "rounds": 1,
            "seeds_per_prompt": images,
            "judge": "never",
            "search": None,
            "guard": None,
            **_USUAL,
            **{name: value for name, value in given.items() if name in _LOOKING},
        }
        return base.but(**own | changes | {"preset": "default", "max_images": images})

    return settings


def as_published(**changes: Any) -> Configure:
    """Return how the predecessor's loop is set up: nothing that is set changes it.

    Args:
        changes: What makes the arm what it is.
    """

    def settings(base: Settings, images: int, given: Mapping[str, Any]) -> Settings:  # noqa: ARG001 - it stays as it was
        own = PRESETS["classic"] | {"rounds": images, **_OWN_WAY, **changes}
        return base.but(**own | {"preset": "classic", "max_images": images})

    return settings


_LOOKING = ("selector", "selector_template", "checklist_template", "answerer")
"""How images are looked at, which is the same for all arms."""

_USUAL = {"guidance_grid": None}
"""What all arms share but for the one that is about it."""

_OWN_WAY = {"judge_template": None, "selector_template": None, "search": None, **_USUAL}
"""What the predecessor's roles came with."""


def _tuned(base: Settings, images: int, given: Mapping[str, Any]) -> Settings:
    """Return the default preset with a grid of guidance, the person's or a usual one."""
    grid = base.guidance_grid or "3,5,7.5"
    return from_preset(guidance_grid=grid)(base, images, given)


def _expanded(agents: Agents) -> Agents:
    """Draw one rewrite, made before anything was seen, in place of the user prompt."""
    rewriting: dict[str, asyncio.Future[tuple[str, ...]]] = {}

    async def generate(prompt: str, seed: int) -> Image:
        if prompt not in rewriting:
            blank = agents.optimize(History(user_prompt=prompt))
            rewriting[prompt] = asyncio.ensure_future(blank)
        try:
            rewrites = await asyncio.shield(rewriting[prompt])
        except AnswerError:
            rewrites = ()
        # Who cannot rewrite draws what was asked.
        return await agents.generate(next(iter(rewrites), prompt), seed)

    return replace(agents, generate=generate)


def _forgetful(agents: Agents) -> Agents:
    """Let the optimizer see the incumbent alone."""

    async def optimize(history: History) -> tuple[str, ...]:
        incumbent = history.incumbent
        kept = (incumbent,) if incumbent else ()
        last = Round(candidates=kept, verdict=history.verdict)
        return await agents.optimize(replace(history, rounds=(last,)))

    return replace(agents, optimize=optimize)


def _hasty(agents: Agents) -> Agents:
    """Judge, rewrite and return what came last, as if nothing before had been."""

    def latest(history: History) -> History:
        *earlier, last = history.rounds
        faded = [
            replace(r, candidates=tuple(replace(c, scores={}) for c in r.candidates))
            for r in earlier
        ]
        return replace(history, rounds=(*faded, last))

    async def judge(history: History) -> Verdict:
        return await agents.judge(latest(history))

    async def optimize(history: History) -> tuple[str, ...]:
        return await agents.optimize(latest(history))

    async def select(history: History) -> int:
        return await agents.select(latest(history))

    return replace(agents, judge=judge, optimize=optimize, select=select)


ARMS = Registry(
    "an arm",
    (
        ArmSpec(
            name="first",
            title="One image of the user prompt.",
            settings=in_one_round(seeds_per_prompt=1),
        ),
        ArmSpec(
            name="best_of_n",
            title="All images of the user prompt; the same selector picks the best.",
            settings=in_one_round(),
        ),
        ArmSpec(
            name="expand",
            title="One rewrite, made before anything was drawn; then the best of its images.",
            settings=in_one_round(prompts_per_round=1),
            wrap_agents=_expanded,
        ),
        ArmSpec(
            name="classic_last",
            title="The predecessor: one image a round, a caption judge, the last image.",
            settings=as_published(selector="last"),
        ),
        ArmSpec(
            name="classic_caption",
            title="The predecessor: one image a round, a caption judge and selector.",
            settings=as_published(),
        ),
        *(
            ArmSpec(name=name, title=f"The preset {name}.", settings=from_preset(name))
            for name in ("quick", "default", "thorough")
        ),
        ArmSpec(
            name="no_checklist",
            title="default without checklist: caption judge, no guard, selection by CLIP.",
            settings=from_preset(judge="caption", selector="clip", guard=None),
        ),
        ArmSpec(
            name="paired",
            title="default, but rewrites are compared under the best image's noise.",
            settings=from_preset(search="paired"),
        ),
        ArmSpec(
            name="tuned_guidance",
            title="default, but the optimizer chooses a guidance for each rewrite.",
            settings=_tuned,
        ),
        ArmSpec(
            name="unconfirmed",
            title="default, but the checklist alone says when to stop.",
            settings=from_preset(judge="checklist"),
        ),
        ArmSpec(
            name="no_history",
            title="default, but the optimizer sees nothing but the incumbent.",
            settings=from_preset(),
            wrap_agents=_forgetful,
        ),
        ArmSpec(
            name="no_incumbent",
            title="default, but what came last is judged, rewritten and returned.",
            settings=from_preset(),
            wrap_agents=_hasty,
        ),
        ArmSpec(
            name="no_guard",
            title="default, but rewrites are drawn unchecked.",
            settings=from_preset(guard=None),
        ),
        ArmSpec(
            name="no_caption",
            title="default, but the optimizer learns nothing of what the images show.",
            settings=from_preset(optimizer_template="no_caption"),
        ),
        ArmSpec(
            name="no_tie_break",
            title="default, but nothing except the checklist scores.",
            settings=from_preset(scorer=None),
        ),
    ),
    spec=ArmSpec,
    group="socratic_agents.arms",
)
"""What can be compared, by name."""


def find_arms(names: Iterable[str], *, images: int) -> dict[str, ArmSpec]:
    """Return the policies of these names, in this order.

    Args:
        names: Keys of ``ARMS``.
        images: What each of them may draw for a prompt.

    Raises:
        ConfigurationError: If there is none, one is unknown or named twice, or the
            number of images is out of range.
    """
    wanted = [name.strip() for name in names if name.strip()]
    if not wanted:
        message = f"expected arms ({', '.join(ARMS)}), got none; name some of them"
        raise ConfigurationError(message)
    found = {name: ARMS.find(name) for name in wanted}
    if len(found) < len(wanted):
        message = f"expected each arm once, got {', '.join(wanted)}; leave one out"
        raise ConfigurationError(message)
    if not 1 <= images <= MOST:
        message = f"expected from 1 to {MOST} images a prompt, got {images}"
        raise ConfigurationError(message)
    return found
