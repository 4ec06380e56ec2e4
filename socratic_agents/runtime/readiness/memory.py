"""Memory: what the weights take, against what the card and the machine have.

It is arithmetic and no measurement: numbers times bytes. What a model computes with on
the way comes on top, and is what the margins are for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from socratic_agents.config.card import cards_for
from socratic_agents.runtime.devices.residents import ROOMY
from socratic_agents.runtime.readiness.finding import Finding
from socratic_agents.runtime.readiness.memory_plan import memory_plan
from socratic_agents.runtime.readiness.parts import model_parts, read_weights
from socratic_agents.scheduler.residency import GB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from socratic_agents.config.card import Card
    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.readiness.memory_plan import MemoryPlan
    from socratic_agents.runtime.readiness.parts import Weights

__all__ = ("memory_findings", "plan_memory")

BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}
QUANTIZED: dict[str | None, float] = {"4bit": 0.6, "8bit": 1.1, "fp8": 1.1}
"""Bytes of a number, with the scales beside it and the layers that are left as they are."""
ROOM = {"card memory": 1.5 * GB, "main memory": 4 * GB}
"""What should be left of each for images in the making and for everything else."""
STREAMED = 0.1
"""What of a model is on the card at a time where it comes there piece by piece."""


@dataclass(frozen=True, kw_only=True)
class _Share:
    """What a model takes of both memories, in bytes."""

    role: str
    card: float
    main: float
    leaves: bool = False
    """Whether it leaves the card when it has run."""


def memory_findings(
    settings: Settings, weights: Mapping[str, Weights], cards: Sequence[Card]
) -> Iterator[Finding]:
    """Say whether the models fit, and how that was reckoned.

    Args:
        settings: Say where and how they run.
        weights: By setting, of the models that are loaded here.
        cards: Where they run; none: on the processor.
    """
    shares = [_share(r, settings, w, on_card=bool(cards)) for r, w in weights.items()]
    if cards and shares:
        card = min(cards, key=lambda one: one.memory)
        stays = sum(one.card for one in shares if not one.leaves)
        most = max((one.card for one in shares if one.leaves), default=0)
        parts = [(one.role, one.card) for one in shares]
        told = ", of what is offloaded the largest part" if most else ""
        there = (_limit(settings, card), f"{card.name} has")
        told_finding = _fits("card memory", parts, told, stays + most, there)
        if told_finding.state == "problem":
            plan = _plan(settings, shares, card, prompts=1)
            if plan.problem is None:
                turns = "; ".join(plan.turns())
                text = told_finding.detail.partition(": they do not fit")[0]
                text = f"{text}: they take turns there; {turns}"
                told_finding = Finding("warning", "card memory", text)
                # While others have their turn, a model waits in main memory.
                shares = [replace(one, main=one.main or one.card) for one in shares]
        yield told_finding
    kept = [(one.role, one.main) for one in shares if one.main]
    if kept:
        total = sum(size for _, size in kept)
        yield _fits("main memory", kept, "", total, (_machine(), "the machine has"))


def plan_memory(settings: Settings, *, prompts: int) -> MemoryPlan | None:
    """Return which models take turns on the device, by what is known without the hub.

    Args:
        settings: Name the models.
        prompts: How many are refined, at least 0.

    Returns:
        ``None`` where nothing limits them, or where all of them run elsewhere.
    """
    cards = cards_for(settings.device)
    if settings.device_memory is None and not cards:
        return None
    # Where there is no card, it is asked for one, unless the pocket world is.
    on_card = bool(cards) or settings.generator != "pocket"
    shares, unknown = list[_Share](), list[str]()
    for part in model_parts(settings):
        weights = read_weights(part, part.kept)
        if weights is not None:
            shares.append(_share(part.role, settings, weights, on_card=on_card))
        elif part.is_loaded:
            unknown.append(part.role)
    if not shares and not unknown:
        return None
    card = min(cards, key=lambda one: one.memory, default=None)
    plan = _plan(settings, shares, card, prompts=prompts)
    return replace(plan, unknown=tuple(unknown))


def _limit(settings: Settings, card: Card | None) -> float:
    """Return how many bytes weights may take of a card, or of what is told."""
    if settings.device_memory is not None or card is None:
        return (settings.device_memory or 0.0) * GB
    return card.memory


def _plan(
    settings: Settings, shares: Sequence[_Share], card: Card | None, *, prompts: int
) -> MemoryPlan:
    """Plan for the models that can be moved, beside those that move themselves."""
    most = max((one.card for one in shares if one.leaves), default=0.0)
    limit = _limit(settings, card) * (1 if settings.device_memory else ROOMY)
    sizes = {one.role: one.card or one.main for one in shares if not one.leaves}
    return memory_plan(settings, sizes, limit - most, prompts=prompts)


def _share(role: str, settings: Settings, weights: Weights, *, on_card: bool) -> _Share:
    """Return what a model takes of the card, and of main memory."""
    prefix = {"captioner": "captioner_", "scorer": None}.get(role, "")
    quantization = offload = None
    if prefix is not None:
        quantization = getattr(settings, f"{prefix}quantization")
        offload = getattr(settings, f"{prefix}offload")
    usual = "bfloat16" if on_card and role != "scorer" else "float32"
    each = QUANTIZED.get(quantization, BYTES[settings.dtype or usual])
    whole, largest = weights.parameters * each, weights.largest * each
    if not on_card:
        return _Share(role=role, card=0, main=whole)
    if offload is None:
        return _Share(role=role, card=whole, main=0)
    there = largest if offload == "model" else largest * STREAMED
    return _Share(role=role, card=there, main=whole, leaves=True)


def _fits(
    name: str,
    parts: Sequence[tuple[str, float]],
    told: str,
    total: float,
    there: tuple[float, str],
) -> Finding:
    """Compare what is taken with what is there."""
    size, whose = there
    summands = " + ".join(f"{role} {taken / GB:.1f}" for role, taken in parts)
    text = (
        f"weights {summands}{told} = {total / GB:.1f} GB by arithmetic, {whose} "
        f"{size / GB:.1f} GB"
    )
    if total > size:
        return Finding(
            "problem",
            name,
            f"{text}: they do not fit; choose a smaller profile or model, or "
            "quantization and offload",
        )
    if total + ROOM[name] > size:
        return Finding("warning", name, f"{text}: little room to compute in")
    return Finding("ok", name, text)


def _machine() -> int:
    """Return the machine's main memory, in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # there is no such question there
        return 2**63
