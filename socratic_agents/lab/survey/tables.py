"""The tables of a survey's results, printed for a terminal."""

from __future__ import annotations

import math
from typing import IO, TYPE_CHECKING

from rich.console import Console

from socratic_agents.lab.table import Table, plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table as RichTable

    from socratic_agents.lab.survey.results import QuestionResult, SurveyResults

__all__ = ("print_results",)


def print_results(results: SurveyResults, file: IO[str]) -> None:
    """Print what came of a survey: people, answers, judges, findings.

    Args:
        results: What to print.
        file: Where to; there are colours only if it is a terminal, and none with
            ``NO_COLOR``.
    """
    console = Console(file=file, highlight=False)
    out = sum(care.excluded is not None for care in results.people)
    console.print(
        plain_text(
            f"study {results.study}: {results.asked} pairs, {len(results.people)} people, "
            f"{out} of them left out"
        )
    )
    for why, count in results.left_out.items():
        console.print(plain_text(f"{count} pairs of arms and prompts not asked: {why}"))
    console.print(
        _table(
            ("person", "answers", "caught", "again", "left", "s", "left out"),
            (
                (
                    care.rater,
                    str(care.answers),
                    f"{care.caught}/{care.catches}",
                    _share(care.same),
                    _share(care.left),
                    f"{care.seconds:.1f}",
                    care.excluded or "",
                )
                for care in results.people
            ),
        )
    )
    for result in results.questions:
        _print_question(console, result)
    for finding in results.findings():
        console.print(plain_text(finding), soft_wrap=True)


def _print_question(console: Console, result: QuestionResult) -> None:
    alpha = "-" if result.alpha is None else f"{result.alpha:.2f}"
    console.print(
        plain_text(
            f"{result.question}: {result.votes} answers to {result.pairs} pairs; alpha {alpha}, "
            f"the same {_share(result.same)}, one person with the rest "
            f"{_share(result.person)}, the stronger arm alone {_share(result.arm)}"
        )
    )
    if result.preference is not None:
        console.print(
            _table(
                ("arm", "strength", "95 %"),
                (
                    (one.arm, f"{one.value:+.2f}", _ends(one.low, one.high, "+.2f"))
                    for one in result.preference.strengths
                ),
            )
        )
    console.print(
        _table(
            ("prompts", "won", "tied", "lost", "rate", "95 %"),
            (
                (
                    f"{one.one} : {one.other}",
                    *map(str, (one.won, one.tied, one.lost)),
                    _share(one.rate),
                    _ends(one.low, one.high, ".0%"),
                )
                for one in result.standings
            ),
        )
    )
    if result.judges:
        console.print(
            _table(
                ("judge", "agrees", "95 %", "auc", "pairs", "undecided", "unscored"),
                (
                    (
                        one.metric,
                        _share(one.accuracy),
                        _ends(one.low, one.high, ".0%"),
                        "-" if one.auc is None else f"{one.auc:.2f}",
                        *map(str, (one.n, one.undecided, one.unscored)),
                    )
                    for one in result.judges
                ),
            )
        )


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> RichTable:
    return Table(columns=columns, rows=tuple(rows)).as_rich()


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _ends(low: float | None, high: float | None, form: str) -> str:
    if low is None or high is None:
        return "-"
    return " to ".join(
        "open" if math.isinf(end) else f"{end:{form}}" for end in (low, high)
    )
