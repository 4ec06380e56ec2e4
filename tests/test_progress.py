"""The lines about a prompt say what stood in the way, and not only that something did."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from socratic_agents.cli.progress import Progress
from socratic_agents.core.history import (
    CandidateRef,
    History,
    Round,
    StopReason,
    Verdict,
)
from socratic_agents.core.loop import Event, EventKind
from socratic_agents.core.outcome import Refinement
from tests.fakes import drawn

NO_ROUTE = Verdict.unjudged("the model answered with a poem")
ROUNDS = (
    Round(candidates=(drawn("a cat"),), verdict=NO_ROUTE),
    Round(candidates=(drawn("a cat"),), verdict=NO_ROUTE, error="it wrote nothing"),
    Round(
        candidates=(drawn("a cat"),),
        verdict=Verdict(satisfied=False, missing=("a hat",)),
        error="it wrote nothing",
    ),
    Round(candidates=(drawn("a cat"),), verdict=Verdict(satisfied=True)),
    Round(candidates=(drawn("a cat"),)),
)
HISTORY = History(user_prompt="a cat", rounds=ROUNDS)


def _shown(*, terminal: bool) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, soft_wrap=True, width=200)
    return Progress(total=1, done=0, images=5, console=console), text


def test_a_line_says_why_a_round_is_not_judged() -> None:
    """And why its prompts are not new, beside what the judge says."""
    progress, text = _shown(terminal=False)
    with progress:
        for number in range(1, 6):
            history = replace(HISTORY, rounds=ROUNDS[:number])
            progress.observe(0, Event(EventKind.JUDGED, history))
    poem = "not judged (the model answered with a poem)"
    fallback = "no rewrite, the best prompt again (it wrote nothing)"
    assert text.getvalue().splitlines() == [
        f"[1] round 1, image 1: {poem}",
        f"[1] round 2, image 2: {poem}; {fallback}",
        f"[1] round 3, image 3: not yet, missing a hat; {fallback}",
        "[1] round 4, image 4: satisfied",
        "[1] round 5, image 5: not judged",
    ]


def test_the_live_display_says_it_too() -> None:
    """Beside the prompt's bar, cut to fit."""
    progress, text = _shown(terminal=True)
    with progress:
        history = replace(HISTORY, rounds=ROUNDS[:1])
        progress.observe(0, Event(EventKind.JUDGED, history))
        progress._bars.refresh()
    assert "not judged (the model answered with a poem)" in text.getvalue()


def test_the_summary_says_each_cause_once() -> None:
    """With the rounds that it befell, what ended it, and who chose."""
    progress, text = _shown(terminal=False)
    place = CandidateRef(round=0, candidate=0)
    refinement = Refinement(
        history=replace(HISTORY, rounds=ROUNDS[:4]),
        best_place=place,
        stop=StopReason.LLM_FAILED,
        llm_error="no route",
        selection_error="no choice",
    )
    with progress:
        progress.finish(refinement)
    first, *others = text.getvalue().splitlines()
    assert first.startswith("[1] llm failed, 0 images")
    assert [
        "[1] rounds 1, 2: not judged (the model answered with a poem)",
        "[1] rounds 2, 3: no rewrite, the best prompt again (it wrote nothing)",
        "[1] ended with the best so far: no route",
        "[1] the latest image, not by the selector: no choice",
    ] == others
