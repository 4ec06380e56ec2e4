"""LoRA files in the settings: where each is, and how strongly it counts."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ("ADAPTER_CONFIG", "Lora", "parse_loras")

ADAPTER_CONFIG = "adapter_config.json"
"""Beside a file of PEFT: how strongly it counts, among other things."""


@dataclass(frozen=True)
class Lora:
    """Weights that are added to some layers of a generator."""

    source: str
    """A safetensors file, a folder with one, or a hub id, with a file of it or without."""
    weight: float = 1.0
    """1: as it was trained; 0: not at all; below 0: the opposite."""

    def __str__(self) -> str:
        """Return it as ``parse_loras`` reads it."""
        return self.source if self.weight == 1 else f"{self.source}:{self.weight!r}"


def parse_loras(given: Any) -> tuple[Lora, ...]:
    """Read ``FILE[:weight]``, several with commas between them, or a list of such.

    Raises:
        ValueError: If it is neither, or a weight is no number.
    """
    if isinstance(given, str | os.PathLike):
        texts = [text.strip() for text in os.fspath(given).split(",")]
    elif isinstance(given, Iterable):
        texts = [
            os.fspath(one) if isinstance(one, os.PathLike) else one for one in given
        ]
    else:
        texts = [given]
    return tuple(map(_parse, texts))


def _parse(text: Any) -> Lora:
    if not isinstance(text, str) or not text.strip(" :") or "," in text:
        message = (
            "expected FILE[:weight] of LoRA weights, several with commas between them, "
            f"got {text!r}; leave out what is empty, and rename files with a comma"
        )
        raise ValueError(message)
    source, colon, tail = text.strip().rpartition(":")
    if not colon:
        return Lora(tail)
    try:
        weight = float(tail)
    except ValueError:
        if len(source) == 1 and source.isalpha():  # C:\style.safetensors
            return Lora(text.strip())
        weight = math.nan
    if not math.isfinite(weight):
        message = (
            f"expected a weight after the colon, such as {source}:0.8, got {tail!r}; "
            "write a number, or leave it out for 1"
        )
        raise ValueError(message)
    return Lora(source, weight)
