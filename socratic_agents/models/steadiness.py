"""Steadiness: whether an item gets the same bits at any place of a call, beside anything.

Most processors give them as long as all calls have one size; on others the rows at the
end of a matrix go through other instructions than those before, or a model fills items
up to the longest of a call. Nobody promises either, so it is measured: three small calls
when a model is opened, whose result is kept by model, settings, device and versions.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import secrets
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from PIL import Image

from socratic_agents.scheduler.cost_model import UNREADABLE, cache_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from socratic_agents.models.captioning import Captioner
    from socratic_agents.models.clip import Clip
    from socratic_agents.models.diffusion import Diffusion

__all__ = (
    "Measurement",
    "captioner_steadiness",
    "found_before",
    "generator_steadiness",
    "is_steady",
    "remembered",
    "scorer_steadiness",
)

Item = TypeVar("Item")

Measurement: TypeAlias = "Callable[[int], bool]"
"""Says of calls of so many items whether they are steady; blocks."""

SCHEMA = 1
MOST = 200
"""Results that are kept; the oldest go."""
TEXTS = (
    "a red circle",
    "a small blue square above a large green triangle, on a plain white ground",
    "two yellow rings",
    "a cross",
)
"""Of several lengths, for some models fill texts up to the longest beside them."""
ASKED = "is there a red circle ?"
SIDE = 256
"""Pixels of the images that are shown to models."""
PROCESSORS = Path("/proc/cpuinfo")
LIBRARIES = re.compile(r"(MKL|ONEDNN|DNNL|OMP|KMP|GOMP|ATEN|OPENBLAS)_\w+")
"""Variables that decide in which order numbers are added."""

_log = logging.getLogger(__name__)
_lock = threading.Lock()  # devices are opened in threads of their own


def is_steady(
    compute: Callable[[list[Item]], Sequence[Any]], items: Sequence[Item], size: int
) -> bool:
    """Return whether each item gets the same bits in calls of one size.

    Copies of one item show whether its place matters, others beside it whether they do.

    Args:
        compute: Returns numbers for each item of a call.
        items: Some that differ.
        size: Items of a call, at least 2.
    """
    mixed = [place % len(items) for place in range(size)]
    seen: dict[int, set[bytes]] = {}
    for call in ([0] * size, mixed, mixed[::-1]):
        outputs = compute([items[index] for index in call])
        for index, output in zip(call, outputs, strict=True):
            if isinstance(output, Exception):
                raise output
            seen.setdefault(index, set()).add(np.asarray(output).tobytes())
    return all(len(bits) == 1 for bits in seen.values())


def generator_steadiness(model: Diffusion) -> Measurement:
    """Return how to measure a generator: it draws, with a single step where it can.

    Args:
        model: What draws.
    """
    drawn = [(text, seed) for seed, text in enumerate(TEXTS)]

    def measure(size: int) -> bool:
        with suppress(Exception):  # not every scheduler takes one step
            return is_steady(model.with_steps(1).arrays, drawn, size)
        return is_steady(model.arrays, drawn, size)

    return measure


def captioner_steadiness(captioner: Captioner, *, asked: bool) -> Measurement:
    """Return how to measure a captioner: by its numbers for its first words.

    Args:
        captioner: What looks.
        asked: Whether it answers a question; else it captions.
    """
    questions = [ASKED] if asked else None
    return lambda size: is_steady(
        lambda images: captioner.first_words(images, questions and questions * size),
        _images(),
        size,
    )


def scorer_steadiness(model: Clip) -> Measurement:
    """Return how to measure a scorer: it scores.

    Args:
        model: What scores.
    """
    pairs = list(zip(TEXTS, _images(), strict=True))
    return lambda size: is_steady(model.score, pairs, size)


def remembered(key: str | None, measure: Callable[[], bool]) -> bool:
    """Return whether calls are steady, measured unless that was done before.

    Args:
        key: Tells the model, its call, settings, device and versions; ``None``: it is
            measured each time.
        measure: Measures it; one that fails is no proof, so it counts as not steady.
    """
    with _lock:
        known, whole = found_before(), f"{key}, {_processor()}"
        if key is not None and whole in known:
            return known[whole]
        try:
            steady = measure()
        except Exception:  # noqa: BLE001 - models raise anything
            _log.debug("%s could not be measured", key, exc_info=True)
            steady = False
        if not steady:
            _log.warning(
                "strict: on this device the last bits of %s depend on what else is in a "
                "call, so calls of one item are made, which takes longer",
                key or "a model",
            )
        if key is not None:
            _store({**known, whole: steady})
        return steady


def found_before() -> dict[str, bool]:
    """Return what was measured before, by key; nothing if the file cannot be read."""
    path = _path()
    try:
        kept = json.loads(path.read_bytes()) if path.is_file() else {}
        found = kept["steady"] if kept.get("schema") == SCHEMA else {}
        return {str(key): one for key, one in found.items() if isinstance(one, bool)}
    except UNREADABLE:
        return {}


def _path() -> Path:
    return cache_file().with_name("steadiness.json")


def _store(known: dict[str, bool]) -> None:
    path, kept = _path(), dict([*known.items()][-MOST:])
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    # It is measured anew where it cannot be stored.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(json.dumps({"schema": SCHEMA, "steady": kept}, indent=1))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _images() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [
        Image.fromarray(noise.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
        for _ in TEXTS
    ]


def _processor() -> str:
    """Return what decides which instructions a library takes."""
    import torch

    model = platform.processor()
    with suppress(OSError):
        found = re.search(r"model name\s*:\s*(.*)", PROCESSORS.read_text())
        model = found[1] if found else model
    told = [f"{k}={v}" for k, v in sorted(os.environ.items()) if LIBRARIES.fullmatch(k)]
    capability = torch.backends.cpu.get_cpu_capability()
    return ", ".join([model, capability, *told])
