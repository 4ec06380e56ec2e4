"""Card: which graphics cards are there, and how much memory they have.

Nothing heavy is loaded for that, and nothing is set up on the card: a process that
does so can have no forked children.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Card", "cards_for", "find_cards")

QUERY = ("--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits")
DRIVERS = Path("/sys/class/drm")
"""Where Linux tells of cards that are not NVIDIA's."""
UNIFIED = 0.75
"""What of an Apple machine's memory its graphics may use."""


@dataclass(frozen=True)
class Card:
    """A graphics card."""

    name: str
    memory: int
    """All of it, in bytes, whoever uses it now."""


@cache
def find_cards() -> tuple[Card, ...]:
    """Return the graphics cards that this process may use, in the order of theirs.

    They are looked for once: what is chosen by them shall not change in between.
    """
    return _nvidia(os.environ) or _amd(DRIVERS) or _apple()


def cards_for(device: str | None) -> tuple[Card, ...]:
    """Return the cards that a setting ``device`` means.

    Args:
        device: ``None`` means the first one, ``cuda:1`` the second, and ``cpu`` none.
    """
    cards = find_cards()
    if device is None:
        return cards[:1]
    chosen: list[Card] = []
    for name in device.split(","):
        kind, _, number = name.strip().partition(":")
        place = int(number) if number.isdecimal() else 0
        if kind != "cpu":
            chosen += cards[place : place + 1]
    return tuple(chosen)


def _nvidia(environment: Mapping[str, str]) -> tuple[Card, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        told = subprocess.run(  # noqa: S603 - the driver's own program, with fixed words
            [program, *QUERY], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found: dict[str, Card] = {}
    for line in told.splitlines():
        uuid, _, rest = line.partition(",")
        name, _, memory = rest.rpartition(",")
        with suppress(ValueError):  # "[N/A]" where memory is shared
            found[uuid.strip()] = Card(name.strip(), int(memory) * 2**20)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(found.values())
    return tuple(_visible(found, visible))


def _visible(found: Mapping[str, Card], visible: str) -> list[Card]:
    """Return the cards that a process is let see, up to the first that is none."""
    cards: list[Card] = []
    for word in map(str.strip, visible.split(",")):
        if word.isdecimal():
            named = list(found.values())[int(word) : int(word) + 1]
        else:
            called = (c for uuid, c in found.items() if word and uuid.startswith(word))
            named = list(called)[:1]
        if not named:
            break
        cards += named
    return cards


def _amd(drivers: Path) -> tuple[Card, ...]:
    cards = []
    for file in sorted(drivers.glob("card*/device/mem_info_vram_total")):
        with suppress(OSError, ValueError):
            cards.append(Card("AMD graphics", int(file.read_text("ascii"))))
    return tuple(cards)


def _apple() -> tuple[Card, ...]:
    if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return ()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (Card("Apple graphics", int(memory * UNIFIED)),)
