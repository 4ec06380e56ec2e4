"""The report: one HTML file, readable offline, of what was tried and what came of it.

It knows outcomes by their attributes alone, so that a refinement can show itself.
"""

from __future__ import annotations

import base64
import difflib
import io
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jinja2 import Template
    from PIL.Image import Image

    from socratic_agents.checklist import Answer, Checklist
    from socratic_agents.history import (
        Candidate,
        Failure,
        History,
        Receipt,
        Refinement,
        Round,
    )

__all__ = (
    "Change",
    "data_uri",
    "notebook_html",
    "page_template",
    "report_html",
    "word_changes",
)

LARGEST = 640
"""Pixels of a side; a larger image is shown smaller, the file itself stays whole."""

SMALLEST = 0.0005
"""A difference below it would be rounded to 0.000."""


@dataclass(frozen=True)
class Change:
    """Words that two prompts share, or that one of them has alone."""

    kind: str
    """``same``, ``del`` (only in the old prompt) or ``ins`` (only in the new one)."""
    words: str


def word_changes(old: str, new: str) -> tuple[Change, ...]:
    """Return what became of the words of one prompt in another."""
    before, after = old.split(), new.split()
    changes = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, stop, begin, end in matcher.get_opcodes():
        if kind == "equal":
            changes.append(Change("same", " ".join(after[begin:end])))
            continue
        if start < stop:
            changes.append(Change("del", " ".join(before[start:stop])))
        if begin < end:
            changes.append(Change("ins", " ".join(after[begin:end])))
    return tuple(changes)


def _nowhere(_path: str) -> None:
    """Read nothing: the images are in memory."""


def report_html(
    outcomes: Sequence[Refinement | Failure],
    *,
    read: Callable[[str], bytes | None] = _nowhere,
) -> str:
    """Return a whole page about outcomes, its images inside.

    Args:
        outcomes: What came of each prompt, in the order in which to show them.
        read: Path of a candidate's image -> PNG bytes, or ``None`` if it is lost;
            only asked where the image itself is not in memory.
    """
    views = [_view(outcome, read) for outcome in outcomes]
    done = [view for view in views if not view["failed"]]
    totals = {
        "prompts": len(views),
        "failed": len(views) - len(done),
        "satisfied": sum(view["stop"] == "satisfied" for view in done),
        "images": sum(view["usage"].images for view in done),
        "llm_calls": sum(view["usage"].llm_calls for view in done),
        "seconds": sum(view["usage"].seconds for view in done),
        "money": [m for view in done if (m := view["usage"].money) is not None],
        "done": len(done),
        "gains": _gains([view["receipt"] for view in done if view["receipt"]]),
    }
    return page_template("report.html.j2").render(views=views, totals=totals)


def notebook_html(refinement: Refinement) -> str:
    """Return one refinement as a piece of a page, its images inside."""
    view = _view(refinement, _nowhere)
    return page_template("notebook.html.j2").render(view=view)


@cache
def page_template(name: str) -> Template:
    """Return a template of this package, which escapes all that is put into it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only needed to show

    # Prompts, captions and answers are data: everything is escaped.
    environment = Environment(
        autoescape=True,
        loader=PackageLoader("socratic_agents"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["signed"] = _signed
    return environment.get_template(name)


def _view(
    outcome: Refinement | Failure, read: Callable[[str], bytes | None]
) -> dict[str, Any]:
    """Return what the templates show of one outcome."""
    record = outcome.to_json()
    history, failed = outcome.history, record["status"] == "failed"
    place = record.get("best", {"round": None, "candidate": None})
    rounds = [
        _round_view(history, number, round_, place, read)
        for number, round_ in enumerate(history.rounds if history else ())
    ]
    checklist = history.checklist if history else None
    answers = getattr(outcome, "best").answers if not failed else ()  # noqa: B009 - a failure has none
    shown = {
        "index": outcome.index,
        "user_prompt": outcome.user_prompt,
        "failed": failed,
        "rounds": rounds,
        "first": rounds[0]["candidates"][0] if rounds else None,
        "best": next((c for r in rounds for c in r["candidates"] if c["chosen"]), None),
        "checklist": _checks(checklist, answers),
        "checklist_error": checklist.error if checklist else None,
    }
    if failed:
        return shown | {
            "receipt": None,
            "error": record["error"],
            "kind": record["kind"],
        }
    return shown | {
        "stop": record["stop"],
        "usage": getattr(outcome, "usage"),  # noqa: B009 - a failure has none
        "selection_error": record["selection_error"],
        "receipt": _receipt_view(getattr(outcome, "receipt"), read, checklist),  # noqa: B009 - a failure has none
        "settings": record["settings"],
        "templates": record["templates"],
    }


def _round_view(
    history: History | None,
    number: int,
    round_: Round,
    place: dict[str, Any],
    read: Callable[[str], bytes | None],
) -> dict[str, Any]:
    assert history is not None  # noqa: S101 - a round is part of a history
    # What the optimizer started from is the best of all earlier rounds.
    incumbent = replace(history, rounds=history.rounds[:number]).incumbent
    old = incumbent.prompt if incumbent else history.user_prompt
    chosen = place["candidate"] if place["round"] == number else None
    return {
        "number": number + 1,
        "verdict": round_.verdict,
        "error": round_.error,
        "candidates": [
            _candidate_view(
                candidate, old, read, history.checklist, chosen=index == chosen
            )
            for index, candidate in enumerate(round_.candidates)
        ],
    }


def _candidate_view(
    candidate: Candidate,
    old: str,
    read: Callable[[str], bytes | None],
    checklist: Checklist | None,
    *,
    chosen: bool,
) -> dict[str, Any]:
    return {
        "prompt": candidate.prompt,
        "changes": word_changes(old, candidate.prompt),
        "caption": candidate.caption,
        "scores": dict(candidate.scores),
        "seed": candidate.seed,
        "status": candidate.status.value,
        "error": candidate.error,
        "truncated": candidate.truncated_tokens,
        "image": _data_uri(candidate, read),
        "checks": _checks(checklist, candidate.answers) if candidate.answers else (),
        "chosen": chosen,
    }


def _checks(
    checklist: Checklist | None, answers: Sequence[Answer]
) -> list[dict[str, Any]]:
    """Return each question with what became of it on one image."""
    checks: list[dict[str, Any]] = []
    for place, question in enumerate(checklist.questions if checklist else ()):
        answer = answers[place] if place < len(answers) else None
        # Only what stands before: a run directory may come from somebody else.
        needs = [checks[parent] for parent in question.parents if 0 <= parent < place]
        checks.append(
            {
                "number": place + 1,
                "question": question,
                "needs": [parent["number"] for parent in needs],
                "state": _state(answer, [parent["state"] for parent in needs]),
                "sure": answer and answer.probability,
            }
        )
    return checks


def _state(answer: Answer | None, parents: Sequence[str]) -> str:
    if answer is None:
        return "unasked"
    if answer.passed is None:
        return "unknown"
    if answer.passed:
        return "passed"
    # Where there is no dog, nothing more is to be learned from its colour.
    return "void" if {"failed", "void"} & {*parents} else "failed"


def _receipt_view(
    receipt: Receipt | None,
    read: Callable[[str], bytes | None],
    checklist: Checklist | None,
) -> dict[str, Any] | None:
    if receipt is None:
        return None
    best = receipt.best_of_n
    return {
        "facts": receipt,
        "best": _candidate_view(best, best.prompt, read, checklist, chosen=False),
    }


def _gains(receipts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the receipts say together: different metrics have no mean."""
    gains: dict[str, list[float]] = {}
    for receipt in receipts:
        facts = receipt["facts"]
        gains.setdefault(facts.metric, []).append(facts.gain)
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
    """Return a difference in which nothing small becomes nothing."""
    small = 0 < abs(value) < SMALLEST
    return f"{value:+.0e}" if small else f"{value:+.3f}" if value else "0.000"


def _data_uri(candidate: Candidate, read: Callable[[str], bytes | None]) -> str | None:
    from PIL import Image  # noqa: PLC0415 - only needed to show

    if candidate.image is not None:
        return _encoded(candidate.image)
    data = read(candidate.path) if candidate.path else None
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            return _encoded(image)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None  # a run directory may come from somebody else


def _encoded(image: Image) -> str:
    """Return a small image without loss, and a large one as a smaller picture."""
    shown, buffer = image.convert("RGB"), io.BytesIO()
    if max(shown.size) <= LARGEST // 2:
        shown.save(buffer, "PNG")
        kind = "png"
    else:
        shown.thumbnail((LARGEST, LARGEST))
        shown.save(buffer, "WEBP", quality=88)
        kind = "webp"
    return data_uri(buffer.getvalue(), kind=kind)


def data_uri(data: bytes, *, kind: str) -> str:
    """Return an image's bytes as an address, so that they lie inside the page.

    Args:
        data: The image's file.
        kind: Its format as the web names it, such as ``png``.
    """
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
