"""Policies: what is compared, each as settings and, where these do not do, a twist."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from socratic_agents.config.profiles import PRESETS, spread_images
from socratic_agents.core.errors import AnswerError, ConfigurationError
from socratic_agents.core.history import History, Round

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from PIL.Image import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.core.history import Verdict
    from socratic_agents.core.loop import Agents

__all__ = ("ARMS", "ArmSpec", "find_arms")

MOST = 64
"""Images of one prompt at most; the settings allow no more seeds of it."""


def _as_they_are(agents: Agents) -> Agents:
    return agents


@dataclass(frozen=True, kw_only=True)
class ArmSpec:
    """One way to spend a number of images on a user prompt."""

    about: str
    """What it does, in a sentence."""
    preset: str = "default"
    """Where it starts from."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What it sets beyond the preset."""
    alone: bool = False
    """Spend all images on one prompt, in one round."""
    wrap_agents: Callable[[Agents], Agents] = _as_they_are
    """What it does to the agents that play these settings."""

    def settings(
        self, base: Settings, images: int, given: Mapping[str, Any]
    ) -> Settings:
        """Return the settings with which it spends so many images.

        Args:
            base: The models, and what the policy leaves open.
            images: At least 1.
            given: What the person set outright; it wins over a preset, but not over
                what makes the policy what it is, and the predecessor stays as it was.
        """
        preset = dict(PRESETS[self.preset])
        if self.alone:
            preset |= {"rounds": 1, "seeds_per_prompt": images, "judge": "never"}
            given = {k: v for k, v in given.items() if k in _LOOKING}
        elif self.preset == "classic":
            preset |= {"rounds": images, **_OWN_WORDS}
            given = {}
        else:
            preset = spread_images(preset, images)
        own = {**preset, **given, **self.changes, "preset": self.preset}
        return base.but(**{**own, "max_images": images})


_LOOKING = ("selector", "selector_template", "checklist_template", "answerer")
"""How images are looked at, which is the same for all arms."""

_OWN_WORDS = {"judge_template": None, "selector_template": None}
"""The words that the predecessor's roles came with."""


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


ARMS: dict[str, ArmSpec] = {
    "first": ArmSpec(
        about="One image of the user prompt.",
        alone=True,
        changes={"seeds_per_prompt": 1, "guard": None},
    ),
    "best_of_n": ArmSpec(
        about="All images of the user prompt; the same selector picks the best.",
        alone=True,
        changes={"guard": None},
    ),
    "expand": ArmSpec(
        about="One rewrite, made before anything was drawn; then the best of its images.",
        alone=True,
        changes={"guard": None, "prompts_per_round": 1},
        wrap_agents=_expanded,
    ),
    "classic_last": ArmSpec(
        about="The predecessor: one image a round, a caption judge, the last image.",
        preset="classic",
        changes={"selector": "last"},
    ),
    "classic_caption": ArmSpec(
        about="The predecessor: one image a round, a caption judge and selector.",
        preset="classic",
    ),
    **{
        name: ArmSpec(about=f"The preset {name}.", preset=name)
        for name in ("quick", "default", "thorough")
    },
    "no_checklist": ArmSpec(
        about="default without checklist: caption judge, no guard, selection by CLIP.",
        changes={"judge": "caption", "selector": "clip", "guard": None},
    ),
    "no_history": ArmSpec(
        about="default, but the optimizer sees nothing but the incumbent.",
        wrap_agents=_forgetful,
    ),
    "no_incumbent": ArmSpec(
        about="default, but what came last is judged, rewritten and returned.",
        wrap_agents=_hasty,
    ),
    "no_guard": ArmSpec(
        about="default, but rewrites are drawn unchecked.", changes={"guard": None}
    ),
    "no_caption": ArmSpec(
        about="default, but the optimizer learns nothing of what the images show.",
        changes={"optimizer_template": "no_caption"},
    ),
    "no_tie_break": ArmSpec(
        about="default, but nothing except the checklist scores.",
        changes={"scorer": None},
    ),
}
"""Name of an arm to what it does."""


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
    known = ", ".join(ARMS)
    unknown = [name for name in wanted if name not in ARMS]
    if unknown or not wanted:
        came = repr(unknown[0]) if unknown else "none"
        message = f"expected arms of {known}, got {came}"
        raise ConfigurationError(message)
    if len(set(wanted)) < len(wanted):
        message = f"expected each arm once, got {', '.join(wanted)}; leave one out"
        raise ConfigurationError(message)
    if not 1 <= images <= MOST:
        message = f"expected from 1 to {MOST} images a prompt, got {images}"
        raise ConfigurationError(message)
    return {name: ARMS[name] for name in wanted}
