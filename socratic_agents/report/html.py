"""The report: one HTML file, readable offline, of what was tried and what came of it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections import Counter
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

from socratic_agents.core.outcome import Failure
from socratic_agents.core.spread import mean_spread
from socratic_agents.report.view_models import Change, outcome_view, word_changes
from socratic_agents.storage.safe_png import decode_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from jinja2 import Template
    from PIL.Image import Image

    from socratic_agents.core.history import Candidate
    from socratic_agents.core.outcome import Refinement
    from socratic_agents.core.spread import SeedSpread
    from socratic_agents.storage.results import Outcomes

__all__ = (
    "Change",
    "data_uri",
    "embedded_json",
    "notebook_html",
    "page_asset",
    "page_template",
    "policy_hash",
    "report_html",
    "report_parts",
    "run_totals",
    "word_changes",
)

ManyOutcomes: TypeAlias = "Sequence[Refinement | Failure] | Outcomes"
"""Outcomes that can be counted, and gone through more than once."""

LARGEST = 640
"""Pixels of a side; a larger image is shown smaller, the file itself stays whole."""

TOTALS = ("prompts", "done", "failed", "satisfied", "images", "llm_calls")

SMALLEST = 0.0005
"""A difference below it would be rounded to 0.000."""


def _nowhere(_path: str) -> None:
    """Read nothing: the images are in memory."""


def report_html(
    outcomes: ManyOutcomes,
    *,
    read: Callable[[str], bytes | None] = _nowhere,
) -> str:
    """Return a whole page at once; arguments as for ``report_parts``."""
    return "".join(report_parts(outcomes, read=read))


def report_parts(
    outcomes: ManyOutcomes,
    *,
    read: Callable[[str], bytes | None] = _nowhere,
) -> Iterator[str]:
    """Return a whole page about outcomes, its images inside.

    It comes in parts, each outcome when it is needed.

    Args:
        outcomes: What came of each prompt, in the order in which to show them; gone
            through more than once.
        read: Path of a candidate's image -> PNG bytes, or ``None`` if it is lost;
            only asked where the image itself is not in memory.
    """
    views = _Views(outcomes, partial(_image_src, read=read))
    totals = run_totals(outcomes)
    return page_template("report.html.j2").generate(views=views, totals=totals)


@dataclass(frozen=True)
class _Views:
    """What a page shows of outcomes; each is made when it is shown."""

    outcomes: ManyOutcomes
    image_src: Callable[[Candidate], str | None]

    def __len__(self) -> int:
        return len(self.outcomes)

    def __iter__(self) -> Iterator[Any]:
        return (outcome_view(one, image_src=self.image_src) for one in self.outcomes)


def notebook_html(refinement: Refinement) -> str:
    """Return one refinement as a piece of a page, its images inside."""
    view = outcome_view(refinement, image_src=partial(_image_src, read=_nowhere))
    return page_template("notebook.html.j2").render(view=view)


def run_totals(outcomes: Iterable[Refinement | Failure]) -> dict[str, Any]:
    """Return what the head of a report says about all outcomes, each read once."""
    totals: Counter[str] = Counter()
    seconds, money = 0.0, list[float]()
    receipts: list[tuple[str, float]] = []
    spreads: list[SeedSpread | None] = []
    for one in outcomes:
        totals["prompts"] += 1
        if isinstance(one, Failure):
            totals["failed"] += 1
            continue
        usage = one.usage
        totals["done"] += 1
        totals["satisfied"] += one.stop == "satisfied"
        totals["images"] += usage.images
        totals["llm_calls"] += usage.llm_calls
        seconds += usage.seconds
        if usage.money is not None:
            money.append(usage.money)
        spreads.append(one.seed_spread)
        if one.receipt:
            receipts.append((one.receipt.metric, one.receipt.gain))
    return {
        **{name: totals[name] for name in TOTALS},
        "seconds": seconds,
        "money": money,
        "gains": _gains(receipts),
        "seed_spread": mean_spread(spreads),
    }


@cache
def page_template(name: str) -> Template:
    """Return a template of this package, which escapes all that is put into it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Prompts, captions and answers are data: everything is escaped.
    environment = Environment(
        autoescape=True,
        loader=PackageLoader("socratic_agents.report", "assets"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["signed"] = _signed
    return environment.get_template(name)


def page_asset(name: str) -> str:
    """Return a style or a script of this package, to be put into a page."""
    return (resources.files("socratic_agents.report") / "assets" / name).read_text(
        "utf-8"
    )


def policy_hash(text: str) -> str:
    """Return the hash by which a content security policy allows one text."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def embedded_json(value: Any) -> str:
    """Return a value as JSON that can stand in a script element.

    Raises:
        ValueError: If a number in it is not finite: a browser could not read it.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    # The element ends at the first "</script", wherever that stands.
    return text.replace("<", "\\u003c")


def data_uri(data: bytes, *, kind: str) -> str:
    """Return an image's bytes as an address, so that they lie inside the page.

    Args:
        data: The image's file.
        kind: Its format as the web names it, such as ``png``.
    """
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _gains(receipts: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    """Return the gains by metric, since different metrics have no mean."""
    gains: dict[str, list[float]] = {}
    for metric, gain in receipts:
        gains.setdefault(metric, []).append(gain)
    return [
        {
            "metric": metric,
            "n": len(values),
            "mean": fmean(values),
            "wins": sum(value > 0 for value in values),
            "ties": sum(value == 0 for value in values),
            "losses": sum(value < 0 for value in values),
        }
        for metric, values in gains.items()
    ]


def _signed(value: float) -> str:
    """Return a difference; a small one is never rounded to zero."""
    small = 0 < abs(value) < SMALLEST
    return f"{value:+.0e}" if small else f"{value:+.3f}" if value else "0.000"


def _image_src(
    candidate: Candidate, *, read: Callable[[str], bytes | None]
) -> str | None:
    if candidate.image is not None:
        return _image_uri(candidate.image)
    data = read(candidate.path) if candidate.path else None
    # A run directory may come from somebody else.
    image = None if data is None else decode_png(data)
    return None if image is None else _image_uri(image)


def _image_uri(image: Image) -> str:
    """Return an image as an address: a small one lossless, a large one scaled down."""
    shown, buffer = image.convert("RGB"), io.BytesIO()
    if max(shown.size) <= LARGEST // 2:
        shown.save(buffer, "PNG")
        kind = "png"
    else:
        shown.thumbnail((LARGEST, LARGEST))
        shown.save(buffer, "WEBP", quality=88)
        kind = "webp"
    return data_uri(buffer.getvalue(), kind=kind)
