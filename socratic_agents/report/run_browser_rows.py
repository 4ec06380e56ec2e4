"""Rows of the run browser: what one line of the list shows, and its details."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from socratic_agents.core.history import History
from socratic_agents.core.outcome import Failure
from socratic_agents.report.view_models import receipt_view, round_views

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from socratic_agents.core.checklist import Checklist
    from socratic_agents.core.history import Candidate, CandidateRef
    from socratic_agents.core.outcome import Receipt, Refinement

__all__ = ("Row", "object_path", "row_json")

_OBJECT = re.compile(r"objects/[0-9a-f]{64}\.png")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the list: what was drawn for a prompt, and what came of it."""

    history: History
    """All rounds; images are named by their paths and need not be in memory."""
    index: int = 0
    """The prompt's place, from 0; it is shown from 1."""
    arm: str = ""
    """Whose result it is, where the list holds several."""
    status: str = ""
    """Why it ended, such as ``satisfied``; one can filter by it."""
    best_place: CandidateRef | None = None
    """Of the candidate that was returned; ``None`` if none was."""
    first: float | None = None
    """What the first image scores; ``None`` if that is not known."""
    returned: float | None = None
    """What the returned image scores, by the same score."""
    receipt: Receipt | None = None
    error: str | None = None
    """What went wrong, if something did."""
    facts: tuple[str, ...] = ()
    """A few words each, such as what it cost."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Name to value, shown in a table."""
    folder: str = ""
    """Holds ``objects/``, relative to the page and with ``/``; empty: the page's own."""
    link: str = ""
    """Address of a page that says more, relative to this one."""

    def __post_init__(self) -> None:
        for address in (self.folder, self.link):
            if address.startswith("/"):
                message = f"expected an address relative to the page, got {address!r}"
                raise ValueError(message)

    @property
    def gain(self) -> float | None:
        """Returned minus first, or ``None`` if one of them is not known."""
        if self.returned is None or self.first is None:
            return None
        return self.returned - self.first

    @classmethod
    def of(cls, outcome: Refinement | Failure, **facts: Any) -> Row:
        """Return the row of an outcome, by the score that ranked its images.

        Args:
            outcome: What came of a prompt; its history may be missing.
            facts: Fields of the row to set, such as ``arm`` and ``folder``.
        """
        if isinstance(outcome, Failure):
            failed = {"status": "failed", "error": outcome.error}
            history = outcome.history or History(user_prompt=outcome.user_prompt)
            return cls(history=history, index=outcome.index, **(failed | facts))
        metric = next(iter(outcome.best.scores), "")
        errors = {
            "the language model failed": outcome.llm_error,
            "no usable choice, so the incumbent was returned": outcome.selection_error,
        }
        known = {
            "status": outcome.stop.value,
            "best_place": outcome.best_place,
            "first": outcome.rounds[0].candidates[0].scores.get(metric),
            "returned": outcome.best.scores.get(metric),
            "receipt": outcome.receipt,
            "error": "; ".join(f"{what}: {why}" for what, why in errors.items() if why)
            or None,
            "facts": tuple(_costs(outcome)),
            "settings": dict(_settings(outcome)),
        }
        return cls(history=outcome.history, index=outcome.index, **(known | facts))


def row_json(
    row: Row, tables: dict[tuple[tuple[str, str], ...], int]
) -> dict[str, Any]:
    """Return what the page's script needs of a row; what is empty is left out.

    Args:
        row: What to show.
        tables: Each table of settings to its number; a new one is added.
    """
    table = tuple((str(name), str(value)) for name, value in row.settings.items())
    base = f"{quote(row.folder.rstrip('/'))}/" if row.folder else ""
    checklist = row.history.checklist

    def image_src(candidate: Candidate) -> str | None:
        path = object_path(candidate)
        return path and f"{base}{path}"

    rounds = round_views(row.history, place=row.best_place, image_src=image_src)
    receipt = receipt_view(row.receipt, checklist, image_src)
    data = {
        "index": row.index + 1,
        "prompt": row.history.user_prompt,
        "arm": row.arm,
        "status": row.status.replace("_", " "),
        "error": row.error,
        "first": _number(row.first),
        "returned": _number(row.returned),
        "gain": _number(row.gain),
        "facts": row.facts,
        "link": quote(row.link, safe="/?&=#."),
        "mute": checklist and checklist.error,
        "questions": checklist and list(_questions(checklist)),
        "rounds": [
            _without_empty(
                {
                    "error": round_["error"],
                    "verdict": round_["verdict"]
                    and _without_empty(vars(round_["verdict"])),
                    "candidates": list(map(_candidate, round_["candidates"])),
                }
            )
            for round_ in rounds
        ],
        "receipt": receipt and _receipt(receipt["facts"], receipt["best"]),
    }
    return _without_empty(data) | {"settings": tables.setdefault(table, len(tables))}


def _questions(checklist: Checklist) -> Iterator[tuple[str, str, list[int]]]:
    for number, question in enumerate(checklist.questions):
        parents = [place + 1 for place in question.parents if 0 <= place < number]
        yield question.text, question.requirement, parents


def _receipt(receipt: Receipt, best: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "images": receipt.images,
        "metric": receipt.metric,
        "independent": receipt.independent,
        "returned": _number(receipt.returned),
        "compared": _number(receipt.compared),
        "gain": _number(receipt.gain),
        "best": _candidate(best),
    }


def object_path(candidate: Candidate) -> str | None:
    """Return the path of an image in the object store; any other path is refused."""
    path = candidate.path or ""
    return path if _OBJECT.fullmatch(path) else None


def _costs(refinement: Refinement) -> Iterator[str]:
    usage = refinement.usage
    yield f"{usage.images} image{'' if usage.images == 1 else 's'}"
    yield f"{usage.llm_calls} LLM call{'' if usage.llm_calls == 1 else 's'}"
    if usage.input_tokens or usage.output_tokens:
        yield f"{usage.input_tokens} + {usage.output_tokens} tokens"
    if usage.money is not None:
        yield f"cost {usage.money:.6g}"
    yield f"{usage.seconds:.1f} s"
    if refinement.seed_spread:
        yield f"seed spread {refinement.seed_spread.pixels:.3f}"


def _settings(refinement: Refinement) -> Iterator[tuple[str, Any]]:
    for name, value in refinement.settings.items():
        if value is not None:
            yield name, value
    for role, template in refinement.templates.items():
        named = template
        if isinstance(template, dict):
            sha256 = template.get("sha256") or ""
            named = f"{template.get('name', '')} {str(sha256)[:12]}".strip()
        yield f"{role} template", named


def _candidate(view: Mapping[str, Any]) -> dict[str, Any]:
    scores = {name: _number(value) for name, value in view["scores"].items()}
    return _without_empty(
        {
            "image": view["image"],
            "changes": [(change.kind, change.words) for change in view["changes"]],
            "caption": view["caption"],
            "scores": {k: v for k, v in scores.items() if v is not None},
            "seed": view["seed"],
            "final": view["final"] or None,
            "status": "" if view["status"] == "ok" else view["status"],
            "error": view["error"],
            "truncated": view["truncated"] or None,
            "checks": [(c["state"], _number(c["sure"])) for c in view["checks"]],
            "chosen": view["chosen"] or None,
        }
    )


def _without_empty(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return values without the empty ones; 0 and "no" are not empty."""
    return {k: v for k, v in facts.items() if v not in (None, "", [], (), {})}


def _number(value: Any) -> float | None:
    """Return a finite number; a run directory may come from somebody else."""
    try:
        number = float(f"{value:.6g}")
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
