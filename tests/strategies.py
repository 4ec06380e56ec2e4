"""Hypothesis strategies for the values that flow, and small agents for the loop."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from PIL import Image

from socratic_agents.agents.search.classic import ClassicSearch
from socratic_agents.agents.search.paired import PairedSearch
from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.errors import AnswerError, CandidateError
from socratic_agents.core.history import (
    Candidate,
    History,
    Round,
    Status,
    StopReason,
    Verdict,
)
from socratic_agents.core.loop import Agents, Event, Limits, refine_prompt
from socratic_agents.core.outcome import Receipt, Refinement, Usage
from socratic_agents.core.spread import SeedSpread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

texts = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
seeds = st.integers(0, 2**31 - 1)

answers = st.builds(
    Answer,
    said=st.sampled_from(YesNo),
    probability=st.none() | st.floats(0, 1),
    passed=st.none() | st.booleans(),
)


@st.composite
def checklists(draw: st.DrawFn, *, least: int = 0) -> Checklist:
    """Draw a checklist of at most five questions, each parent before its children."""
    questions = tuple(
        Question(
            text=draw(texts),
            requirement=draw(texts),
            parents=tuple(p for p in range(place) if draw(st.booleans())),
            instead=draw(texts),
        )
        for place in range(draw(st.integers(least, 5)))
    )
    return Checklist(questions=questions, error=None if questions else draw(texts))


def candidates_of(questions: int) -> st.SearchStrategy[Candidate]:
    """Return a strategy for candidates with an answer to each question, or none."""
    told = st.lists(answers, min_size=questions, max_size=questions)
    return st.builds(
        Candidate,
        prompt=texts,
        seed=seeds,
        status=st.sampled_from(Status),
        caption=st.none() | texts,
        scores=st.dictionaries(texts, numbers, max_size=3),
        answers=st.just(()) | told.map(tuple),
        error=st.none() | texts,
        truncated_tokens=st.integers(0, 100),
        path=st.none() | texts,
    )


candidates = st.integers(0, 3).flatmap(candidates_of)
verdicts = st.builds(
    Verdict,
    satisfied=st.none() | st.booleans(),
    missing=st.lists(texts, max_size=3).map(tuple),
    reason=texts,
)


def histories_of(checklist: Checklist | None) -> st.SearchStrategy[History]:
    """Return a strategy for histories whose answers fit the checklist."""
    drawn = candidates_of(len(checklist.questions) if checklist else 0)
    rounds = st.builds(
        Round,
        candidates=st.lists(drawn, min_size=1, max_size=4).map(tuple),
        verdict=st.none() | verdicts,
        error=st.none() | texts,
    )
    return st.builds(
        History,
        user_prompt=texts,
        rounds=st.lists(rounds, min_size=1, max_size=4).map(tuple),
        checklist=st.just(checklist),
    )


histories = (st.none() | checklists()).flatmap(histories_of)
spreads = st.none() | st.builds(
    SeedSpread,
    pixels=st.floats(0, 1),
    scores=st.none() | st.floats(0, 1),
    prompts=st.integers(1, 9),
    images=st.integers(2, 99),
)
receipts = st.builds(
    Receipt,
    images=st.integers(1, 100),
    best_of_n=candidates,
    metric=texts,
    independent=st.booleans(),
    returned=numbers,
    compared=numbers,
    seed_spread=spreads,
)
usages = st.builds(
    Usage,
    images=st.integers(0, 100),
    llm_calls=st.integers(0, 100),
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**6),
    money=st.none() | st.floats(0, 1000),
    seconds=st.integers(0, 10**6).map(lambda milliseconds: milliseconds / 1000),
)
named = st.dictionaries(texts, st.none() | texts | numbers, max_size=3)


@st.composite
def refinements(draw: st.DrawFn) -> Refinement:
    """Draw a refinement whose best place is a place of its history."""
    history = draw(histories)
    index = draw(st.integers(0, len(history.candidates) - 1))
    return Refinement(
        history=history,
        best_place=history.place(index),
        stop=draw(st.sampled_from(StopReason)),
        usage=draw(usages),
        selection_error=draw(st.none() | texts),
        llm_error=draw(st.none() | texts.filter(bool)),
        settings=draw(named),
        templates=draw(st.dictionaries(texts, named, max_size=3)),
        receipt=draw(st.none() | receipts),
        seed_spread=draw(spreads),
        index=draw(st.integers(0, 1000)),
    )


@dataclass(frozen=True, kw_only=True)
class Script:
    """What small agents do: everything is looked up in a table, nothing is random.

    The tables are read modulo their lengths, so that short ones serve long runs.
    """

    statuses: tuple[Status, ...] = (Status.OK,)
    """What becomes of each image, by a hash of its prompt and seed."""
    scores: tuple[float | None, ...] | None = None
    """Score by the same hash; an entry ``None`` cannot be scored; no table, no scorer."""
    questions: int | None = None
    """How many the checklist has; 0 cannot be written; ``None``: no writer."""
    answers: tuple[YesNo | None, ...] = (YesNo.YES,)
    """To every question by the same hash; an entry ``None`` cannot be answered."""
    verdicts: tuple[bool | None, ...] = (False,)
    """What the judge says in each round; ``None`` cannot judge."""
    rewrites: tuple[int | None, ...] = (1,)
    """How many prompts each round's optimizer writes; ``None`` cannot write."""
    choices: tuple[int | None, ...] | None = None
    """What the selector chooses, by history length; no table: highest score."""


@dataclass
class ScriptedAgents:
    """Agents who play a script and remember what they were asked."""

    script: Script = field(default_factory=Script)
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def agents(self) -> Agents:
        """Return the agents for the loop."""
        return Agents(
            generate=self.generate,
            caption=self.caption,
            judge=self.judge,
            optimize=self.optimize,
            select=self.select,
            assess=None if self.script.scores is None else self.assess,
            inquire=None if self.script.questions is None else self.inquire,
            answer=self.answer,
        )

    def _number(self, prompt: str, seed: int) -> int:
        return sum(map(ord, prompt)) * 31 + seed

    def _status(self, prompt: str, seed: int) -> Status:
        table = self.script.statuses
        return table[self._number(prompt, seed) % len(table)]

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        self.asked.append(("generate", prompt, seed))
        status = self._status(prompt, seed)
        if status not in {Status.OK, Status.CAPTION_FAILED}:
            raise CandidateError(status, "the script says so")
        image = Image.new("RGB", (1, 1))
        image.info["made_from"] = (prompt, seed)
        return image

    async def caption(self, image: Image.Image) -> str:
        prompt, seed = image.info["made_from"]
        self.asked.append(("caption", prompt, seed))
        if self._status(prompt, seed) is not Status.OK:
            raise CandidateError(Status.CAPTION_FAILED, "the script says so")
        return f"an image of {prompt!r} with seed {seed}"

    async def assess(
        self, user_prompt: str, candidate: Candidate
    ) -> Mapping[str, float]:
        self.asked.append(("assess", user_prompt, candidate.prompt, candidate.seed))
        table = self.script.scores or (None,)
        score = table[self._number(candidate.prompt, candidate.seed) % len(table)]
        if score is None:
            raise CandidateError(Status.OK, "no score")
        return {"clip": score}

    async def inquire(self, user_prompt: str) -> Checklist:
        self.asked.append(("inquire", user_prompt))
        if not self.script.questions:
            message = "the writer mumbled"
            raise AnswerError(message)
        return Checklist(
            questions=tuple(
                Question(text=f"Is there a {n}?", requirement=f"a {n}")
                for n in range(self.script.questions)
            )
        )

    async def answer(
        self, checklist: Checklist, candidate: Candidate
    ) -> tuple[Answer, ...]:
        self.asked.append(("answer", candidate.prompt, candidate.seed))
        table = self.script.answers
        said = table[self._number(candidate.prompt, candidate.seed) % len(table)]
        if said is None:
            raise CandidateError(Status.OK, "no answer")
        return checklist.resolved([Answer(said=said)] * len(checklist.questions))

    async def judge(self, history: History) -> Verdict:
        self.asked.append(("judge", len(history.rounds)))
        table = self.script.verdicts
        satisfied = table[(len(history.rounds) - 1) % len(table)]
        if satisfied is None:
            message = "the judge mumbled"
            raise AnswerError(message)
        return Verdict(satisfied=satisfied, missing=() if satisfied else ("a hat",))

    async def optimize(self, history: History) -> tuple[str, ...]:
        self.asked.append(("optimize", len(history.rounds)))
        table = self.script.rewrites
        count = table[(len(history.rounds) - 1) % len(table)]
        if count is None:
            message = "the optimizer mumbled"
            raise AnswerError(message)
        return tuple(f"rewrite {len(history.rounds)}.{n}" for n in range(count))

    async def select(self, history: History) -> int:
        self.asked.append(("select", len(history.candidates)))
        if self.script.choices is None:
            assert history.incumbent is not None
            return history.candidates.index(history.incumbent)
        table = self.script.choices
        choice = table[len(history.candidates) % len(table)]
        if choice is None:
            message = "the selector mumbled"
            raise AnswerError(message)
        return choice


def noisy(agents: Agents) -> Agents:
    """Return agents whose images differ from seed to seed."""

    async def generate(prompt: str, seed: int) -> Image.Image:
        image = await agents.generate(prompt, seed)
        image.paste(((97 * seed) % 256, (31 * seed) % 256, 0), (0, 0, *image.size))
        return image

    return replace(agents, generate=generate)


async def refine_in_rounds(
    user_prompt: str,
    agents: Agents,
    *,
    seeds: Iterator[int],
    fresh_noise: bool = False,
    on_event: Callable[[Event], None] = lambda _: None,
    **facts: Any,
) -> Refinement:
    """Refine by the paired search, or the classic one; the rest are limits."""
    names = {field.name for field in fields(PairedSearch)} & facts.keys()
    of_search = {name: facts.pop(name) for name in names}
    kind = ClassicSearch if fresh_noise else PairedSearch
    search = kind(seeds=lambda: seeds, **of_search)
    limits = Limits(**facts)
    return await refine_prompt(
        user_prompt, agents, search, limits=limits, on_event=on_event
    )


def _table(entries: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(entries, min_size=1, max_size=5).map(tuple)


scripts = st.builds(
    Script,
    statuses=_table(st.sampled_from([Status.OK, *Status])),
    scores=st.none() | _table(st.none() | numbers),
    questions=st.none() | st.integers(0, 3),
    answers=_table(st.none() | st.sampled_from(YesNo)),
    verdicts=_table(st.sampled_from([False, False, None, True])),
    rewrites=_table(st.none() | st.integers(0, 3)),
    choices=st.none() | _table(st.none() | st.integers(-2, 12)),
)
