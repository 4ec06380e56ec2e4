"""The refiner: opens what the settings name, refines one or many, and is a runnable."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import socratic_agents
from socratic_agents import (
    Failure,
    Refinement,
    Refiner,
    Settings,
    StopReason,
    refine,
    refine_many,
    refine_sync,
)
from socratic_agents.core.errors import (
    BudgetError,
    CallError,
    ClosedError,
    ConfigurationError,
    NothingDrawnError,
    PromptError,
    TemplateError,
    UnknownWordError,
)
from socratic_agents.core.history import History, Status, Verdict
from socratic_agents.core.loop import Event, EventKind
from socratic_agents.core.search import seed_bank
from socratic_agents.scheduler.worker import Worker
from tests.fakes import ScriptedChatModel
from tests.loopback import Loopback, chat

if TYPE_CHECKING:
    from collections.abc import Iterator


async def generate(prompt: str, seed: int) -> Image.Image:
    """Draw a plain image whose colour is made from prompt and seed."""
    if "bug" in prompt:
        raise ZeroDivisionError
    number = sum(map(ord, prompt)) + seed
    image = Image.new("RGB", (2, 2), (number % 256, len(prompt) % 256, seed % 256))
    image.info["prompt"] = prompt
    return image


async def caption(image: Image.Image) -> str:
    return f"an image of {image.info['prompt']}"


async def score(user_prompt: str, image: Image.Image) -> float:
    return len(image.info["prompt"]) / 100


async def optimize(history: History) -> tuple[str, ...]:
    return (f"{history.user_prompt}, round {len(history.rounds)}",)


FAKES: dict[str, Any] = {
    "generator": generate,
    "captioner": caption,
    "scorer": score,
    "optimizer": optimize,
    "judge": "never",
    "selector": "clip",
    "rounds": 2,
    "prompts_per_round": 1,
    "seed": 7,
}
"""Settings that need no model and no language model."""


def _refiner(**overrides: Any) -> Refiner:
    return Refiner(**(FAKES | overrides))


def _prompts(outcome: Refinement) -> list[str]:
    return [candidate.prompt for candidate in outcome.history.candidates]


class TestSeeds:
    def test_the_first_seed_is_the_users(self) -> None:
        """A seed that somebody liked draws the same image again."""
        assert 7 == next(seed_bank(7))

    @given(st.integers(0, 2**63 - 1))
    def test_seeds_are_the_same_everywhere(self, seed: int) -> None:
        """The bank is a function of the seed, and its seeds fit every generator."""
        first, second = [list(islice(seed_bank(seed), 20)) for _ in range(2)]
        assert first == second
        assert all(0 <= one < 2**31 for one in first[1:])
        assert 20 == len(set(first))

    def test_the_derivation_is_pinned(self) -> None:
        """Old results can be drawn again: these numbers never change."""
        assert [7, 1808820083, 1187467706] == list(islice(seed_bank(7), 3))


class TestOnePrompt:
    async def test_everything_is_in_the_result(self) -> None:
        """Images, captions, scores, settings and usage of a whole refinement."""
        async with _refiner() as refiner:
            outcome = await refiner.refine("  a cat  ")
        assert "a cat" == outcome.user_prompt
        assert ["a cat", "a cat, round 1"] == _prompts(outcome)
        assert [7, 1808820083] == [one.seed for one in outcome.history.candidates]
        assert "an image of a cat, round 1" == outcome.best.caption
        assert {"score": 0.14} == outcome.best.scores
        assert StopReason.ROUNDS_SPENT is outcome.stop
        assert (2, 0, 0) == (
            outcome.usage.images,
            outcome.usage.llm_calls,
            outcome.usage.input_tokens,
        )
        assert outcome.usage.seconds > 0
        assert ("generate", 7) == (
            outcome.settings["generator"],
            outcome.settings["seed"],
        )
        assert {} == outcome.templates

    async def test_events_are_observed(self) -> None:
        """Progress is told while the refinement runs."""
        events: list[Event] = []
        async with _refiner() as refiner:
            await refiner.refine("a cat", on_event=events.append)
        assert [EventKind.DRAWN, EventKind.JUDGED] * 2 == [e.kind for e in events]

    async def test_a_language_model_plays_the_roles(self) -> None:
        """Judge, optimizer and selector by name: counted, and named by their hash."""
        llm = ScriptedChatModel(
            script=[
                {"reason": "", "missing": ["a hat"], "satisfied": False},
                {"reason": "", "prompts": ["a cat in a hat"]},
                {"reason": "", "missing": [], "satisfied": True},
                {"reason": "", "choice": 1},
            ]
        )
        async with _refiner(
            llm=llm, judge="caption", selector="caption", optimizer="llm"
        ) as refiner:
            outcome = await refiner.refine("a cat")
        assert ["a cat", "a cat in a hat"] == _prompts(outcome)
        assert (StopReason.SATISFIED, 4) == (outcome.stop, outcome.usage.llm_calls)
        assert "a cat" == outcome.best.prompt
        assert {"judge", "optimizer", "selector"} == set(outcome.templates)
        assert all(len(t["sha256"]) == 64 for t in outcome.templates.values())

    @pytest.mark.parametrize("prompt", ["", "  ", "a\0b", "x" * 100_000, None])
    async def test_a_bad_prompt_is_refused(self, prompt: Any) -> None:
        """Nothing is opened for a prompt that cannot be refined."""
        refiner = _refiner()
        with pytest.raises(PromptError, match="expected a prompt"):
            await refiner.refine(prompt)
        assert refiner.statistics() is None

    async def test_errors_carry_the_history(self) -> None:
        """What was drawn before the error is not lost."""
        async with _refiner() as refiner:
            with pytest.raises(NothingDrawnError, match="ZeroDivisionError") as caught:
                await refiner.refine("a bug")
        assert caught.value.history is not None
        (first, *_) = caught.value.history.candidates
        assert Status.GENERATION_FAILED is first.status

    async def test_the_same_seed_is_the_same_run(self) -> None:
        """Only prompt and settings decide; neighbours and places in a list do not."""
        async with _refiner() as refiner:
            alone = await refiner.refine("a cat")
            among = [
                outcome
                async for outcome in refiner.refine_many(["a dog", "a cat", "a cow"])
                if isinstance(outcome, Refinement) and outcome.user_prompt == "a cat"
            ]
        assert [alone.history] == [outcome.history for outcome in among]
        assert [1] == [outcome.index for outcome in among]


class TestManyPrompts:
    async def test_one_failure_fails_alone(self) -> None:
        """Each prompt has its outcome, in whatever order they finish."""
        prompts = ["a cat", "", "a bug", "a dog"]
        async with _refiner() as refiner:
            outcomes = [outcome async for outcome in refiner.refine_many(prompts)]
        outcomes.sort(key=lambda outcome: outcome.index)
        assert [0, 1, 2, 3] == [outcome.index for outcome in outcomes]
        kinds = [o.kind if isinstance(o, Failure) else "ok" for o in outcomes]
        assert ["ok", "PromptError", "NothingDrawnError", "ok"] == kinds
        assert prompts == [outcome.user_prompt for outcome in outcomes]
        failure = outcomes[2]
        assert isinstance(failure, Failure)
        assert failure.history is not None

    async def test_a_bug_fails_alone_too(self) -> None:
        """An unforeseen error of one prompt is told in one line, with its class."""

        async def judge(history: History) -> Verdict:
            if history.user_prompt == "a cat":
                message = "no\ncats"
                raise LookupError(message)
            return Verdict(satisfied=True)

        async with _refiner(judge=judge) as refiner:
            outcomes = [o async for o in refiner.refine_many(["a cat", "a dog"])]
        (failure,) = [o for o in outcomes if isinstance(o, Failure)]
        assert ("LookupError", "LookupError: no cats") == (failure.kind, failure.error)
        assert 2 == len(outcomes)

    async def test_events_name_their_prompt(self) -> None:
        """Who watches many prompts knows which one an event is of."""
        events: list[tuple[int, str]] = []
        async with _refiner(rounds=1) as refiner:
            async for _ in refiner.refine_many(
                ["a cat", "a dog"],
                on_event=lambda n, e: events.append((n, e.history.user_prompt)),
            ):
                pass
        assert {(0, "a cat"), (1, "a dog")} == set(events)

    async def test_prompts_are_admitted_as_others_finish(self) -> None:
        """No more than ``in_flight`` run, and no more are taken from the iterable."""
        running, most, taken = 0, 0, 0

        async def draw(prompt: str, seed: int) -> Image.Image:
            nonlocal running, most
            running += 1
            most = max(most, running)
            for _ in range(3):
                await asyncio.sleep(0)
            running -= 1
            return await generate(prompt, seed)

        def prompts() -> Iterator[str]:
            nonlocal taken
            for number in range(20):
                taken += 1
                yield f"prompt {number}"

        seen = 0
        async with _refiner(generator=draw, in_flight=3, rounds=1) as refiner:
            async for _ in refiner.refine_many(prompts()):
                seen += 1
                assert taken <= seen + 5
        assert (20, 3) == (seen, most)

    async def test_more_are_admitted_where_they_keep_the_device_busy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where nobody says how many: at least 8, as measured, and at most 64."""
        refiner = _refiner()
        assert 8 == refiner.admission()
        async with refiner:
            assert 8 == refiner.admission()
            for known, expected in ((3, 8), (20, 20), (900, 64)):
                monkeypatch.setattr(Worker, "admission_limit", lambda _, n=known: n)
                assert expected == refiner.admission()
        async with _refiner(in_flight=3) as refiner:
            assert 3 == refiner.admission()

    async def test_fewer_are_admitted_where_fewer_keep_it_busy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those on their way go on; new ones wait until there is room again."""
        known = iter([20, *[9] * 100])
        monkeypatch.setattr(Worker, "admission_limit", lambda _: next(known))
        async with _refiner(rounds=1) as refiner:
            prompts = [f"prompt {number}" for number in range(40)]
            seen = [outcome.index async for outcome in refiner.refine_many(prompts)]
        assert [*range(40)] == sorted(seen)

    async def test_an_early_end_cancels_the_rest(self) -> None:
        """Leaving the iteration leaves nothing running."""
        waiting, cancelled = asyncio.Event(), asyncio.Event()

        async def draw(prompt: str, seed: int) -> Image.Image:
            if prompt == "slow":
                waiting.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()
            await waiting.wait()
            return await generate(prompt, seed)

        async with _refiner(generator=draw) as refiner:
            async with aclosing(refiner.refine_many(["slow", "fast"])) as outcomes:
                async for outcome in outcomes:
                    assert "fast" == outcome.user_prompt
                    break
            assert cancelled.is_set()

    async def test_no_prompts_are_no_outcomes(self) -> None:
        """An empty list is done at once."""
        async with _refiner() as refiner:
            assert [] == [outcome async for outcome in refiner.refine_many([])]


@dataclass
class Blocking:
    """Blocking models that remember their threads."""

    threads: set[str] = field(default_factory=set)

    def draw(self, prompt: str, seed: int) -> Image.Image:
        self.threads.add(threading.current_thread().name)
        return asyncio.run(generate(prompt, seed)).convert("L")

    def caption(self, images: list[Image.Image]) -> list[str]:
        self.threads.add(threading.current_thread().name)
        return ["a thing" for _ in images]

    def score(self, pairs: list[tuple[str, Image.Image]]) -> list[float]:
        self.threads.add(threading.current_thread().name)
        return [len(prompt) / 10 for prompt, _ in pairs]


class TestParts:
    async def test_models_that_block_run_in_the_worker(self) -> None:
        """Objects and plain functions share the one thread that owns the device."""
        models = Blocking()
        async with _refiner(
            generator=models.draw, captioner=models, scorer=models
        ) as refiner:
            outcome = await refiner.refine("a cat")
            statistics = refiner.statistics()
        assert {"socratic-worker"} == models.threads
        assert outcome.best.image is not None
        assert ("RGB", {"clip": 0.5}) == (outcome.best.image.mode, outcome.best.scores)
        assert statistics is not None
        assert 6 < statistics.items

    async def test_without_a_scorer_nothing_is_scored(self) -> None:
        """Scores are left out, not invented; the latest image is the incumbent."""
        async with _refiner(scorer=None, selector="last") as refiner:
            outcome = await refiner.refine("a cat")
        assert ({}, "a cat, round 1") == (outcome.best.scores, outcome.best.prompt)

    async def test_a_score_can_end_the_loop(self) -> None:
        """The judge ``score:…`` needs no language model."""
        async with _refiner(judge="score:0.01") as refiner:
            outcome = await refiner.refine("a cat")
        assert StopReason.SATISFIED is outcome.stop

    @pytest.mark.parametrize("selector", ["first", "last"])
    async def test_selectors_without_a_measure(self, selector: str) -> None:
        """For ablations, the first or the last image can be returned."""
        async with _refiner(selector=selector) as refiner:
            outcome = await refiner.refine("a cat")
        place = {"first": 0, "last": 1}[selector]
        assert place == outcome.best_place.round

    async def test_any_async_callable_can_judge_and_select(self) -> None:
        """Own roles are plain async functions, or objects that are called like one."""

        class Select:
            async def __call__(self, history: History) -> int:
                return 1

        async def judge(history: History) -> Verdict:
            return Verdict(satisfied=None, reason="who am I to judge")

        async with _refiner(judge=judge, selector=Select()) as refiner:
            outcome = await refiner.refine("a cat")
        assert 1 == outcome.best_place.round
        assert "who am I to judge" == outcome.rounds[0].verdict.reason  # type: ignore[union-attr]

    async def test_a_failing_model_fails_its_candidate(self) -> None:
        """Whatever a captioner or scorer raises, the image is kept."""

        async def fail(*_: Any) -> Any:
            message = "out of\nwords"
            raise LookupError(message)

        async with _refiner(captioner=fail, scorer=fail, selector="first") as refiner:
            outcome = await refiner.refine("a cat")
        assert Status.CAPTION_FAILED is outcome.best.status
        assert "LookupError: out of words" == outcome.best.error

    async def test_a_generator_that_draws_no_image_is_told(self) -> None:
        """What came is named, in the candidate's error."""

        async def draw(prompt: str, seed: int) -> Any:
            return "a picture"

        async with _refiner(generator=draw) as refiner:
            with pytest.raises(NothingDrawnError, match="a PIL image, got str"):
                await refiner.refine("a cat")

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            ({"generator": 3}, "expected a generator's name, model or callable"),
            ({"captioner": 3}, "expected a captioner's name, model or callable"),
            ({"scorer": 3}, "expected a scorer's name, model or callable"),
            ({"llm": 3, "optimizer": "llm"}, "expected llm to be 'pocket'"),
            (
                {"llm": "nobody:nothing", "optimizer": "llm"},
                "expected a language model such as 'openai:.*', got 'nobody",
            ),
        ],
    )
    async def test_what_cannot_be_opened_is_named(
        self, overrides: dict[str, Any], message: str
    ) -> None:
        """A wrong part is an error when the refiner is opened, in one line."""
        refiner = _refiner(**overrides)
        with pytest.raises(ConfigurationError, match=message) as caught:
            await refiner.__aenter__()
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "overrides",
        [
            {"llm": "openai:tiny", "optimizer": "llm"},
            {"generator": "openai:an-image"},
            {"generator": "https://api.openai.com/v1"},
        ],
    )
    def test_a_missing_key_is_told_before_anything(
        self, overrides: dict[str, Any]
    ) -> None:
        """Not even a thread is started where a key is missing."""
        with pytest.raises(ConfigurationError, match="expected a key for"):
            _refiner(**overrides)
        assert _refiner(**overrides, api_key="k").statistics() is None

    def test_a_language_model_that_nobody_asks_needs_no_key(self) -> None:
        """Settings without a language model's role do not open one."""
        assert _refiner(llm="openai:tiny").settings.llm == "openai:tiny"

    def test_a_server_of_ones_own_needs_no_key(self) -> None:
        """A base URL leads elsewhere, and there the keys are others' matter."""
        _refiner(
            llm="openai:tiny", optimizer="llm", base_url="http://localhost:1/v1"
        ).close()

    async def test_a_name_opens_a_chat_model(self) -> None:
        """A model's name goes through LangChain, with our retries and no others."""
        async with _refiner(
            llm="openai:tiny",
            optimizer="llm",
            base_url="http://localhost:1/v1",
            temperature=0.5,
        ) as refiner:
            await refiner.agents()

    def test_a_wrong_template_is_told_before_anything(self) -> None:
        """Template files are read when the refiner is made."""
        with pytest.raises(TemplateError, match="expected a template"):
            _refiner(optimizer="llm", optimizer_template="nothing")

    @pytest.mark.parametrize(
        "name", ["steps", "guidance_scale", "offload", "quantization"]
    )
    async def test_an_images_server_takes_no_pipeline_settings(self, name: str) -> None:
        """What a server would ignore is an error that names it."""
        value = {"offload": "model", "quantization": "4bit"}.get(name, 1)
        refiner = _refiner(generator="http://localhost:1/v1", **{name: value})
        with pytest.raises(ConfigurationError, match=f"expected no {name} for"):
            await refiner.__aenter__()


class TestLife:
    async def test_settings_can_be_given_and_overridden(self) -> None:
        """Values come as settings, as keywords, or as both; keywords win."""
        settings = Settings(**FAKES)
        assert settings is Refiner(settings).settings
        refiner = Refiner(settings, rounds=1)
        assert (1, 7) == (refiner.settings.rounds, refiner.settings.seed)

    async def test_models_are_opened_once(self) -> None:
        """Many prompts at once on a fresh refiner open its parts a single time."""
        refiner = _refiner()
        first, *rest = await asyncio.gather(*(refiner.agents() for _ in range(5)))
        assert all(first is other for other in rest)
        await refiner.aclose()

    async def test_a_closed_refiner_says_so(self) -> None:
        """After closing, nothing is opened again behind one's back."""
        async with _refiner() as refiner:
            pass
        with pytest.raises(ClosedError, match="expected an open refiner"):
            await refiner.refine("a cat")
        with pytest.raises(ClosedError, match="expected an open refiner"):
            refiner.invoke("a cat")

    def test_a_refiner_can_be_closed_without_await(self) -> None:
        """Scripts close it too; closing twice is closing."""
        refiner = _refiner()
        assert "a cat" == refiner.invoke("a cat").user_prompt
        refiner.close()
        refiner.close()

    async def test_closing_answers_those_who_wait(self) -> None:
        """Prompts on their way end with an error, not with silence."""
        begun, gate = threading.Event(), threading.Event()

        def draw(prompt: str, seed: int) -> Image.Image:
            begun.set()
            gate.wait()
            return Image.new("RGB", (1, 1), "red")

        refiner = _refiner(generator=draw)
        task = asyncio.create_task(refiner.refine("a cat"))
        await asyncio.to_thread(begun.wait)
        closing = asyncio.create_task(refiner.aclose())
        with pytest.raises(ClosedError):
            await task
        gate.set()
        await closing


class State(TypedDict, total=False):
    prompt: str
    best: str


class TestRunnable:
    def test_it_can_be_invoked(self) -> None:
        """The simplest use of a runnable: text in, refinement out."""
        refiner = _refiner()
        outcome = refiner.invoke("a cat")
        refiner.close()
        assert "a cat" == outcome.user_prompt

    async def test_it_can_be_invoked_inside_a_running_loop(self) -> None:
        """Notebooks have a loop of their own; the blocking call works there too."""
        refiner = _refiner()
        assert "a cat" == refiner.invoke("a cat").user_prompt
        assert "a dog" == (await refiner.ainvoke("a dog")).user_prompt
        await refiner.aclose()

    def test_it_works_in_one_event_loop_after_another(self) -> None:
        """The refiner outlives the loops in which it is used."""
        refiner = _refiner()
        for prompt in ("a cat", "a dog"):
            assert prompt == asyncio.run(refiner.ainvoke(prompt)).user_prompt
        refiner.close()

    def test_batches_keep_their_order(self) -> None:
        """As LangChain promises: outputs stand where their inputs stood."""
        refiner = _refiner(in_flight=2)
        prompts = [f"prompt {n}" for n in range(5)]
        outcomes = refiner.batch(prompts)
        refiner.close()
        assert prompts == [outcome.user_prompt for outcome in outcomes]

    async def test_a_batch_can_return_exceptions(self) -> None:
        """One failure is raised, or stands in the list, as it was asked for."""
        async with _refiner() as refiner:
            good, bad = await refiner.abatch(["a cat", ""], return_exceptions=True)
            assert isinstance(good, Refinement)
            assert "PromptError" == type(bad).__name__
            with pytest.raises(PromptError):
                await refiner.abatch(["a cat", ""], {"max_concurrency": 1})
            assert [] == await refiner.abatch([])

    async def test_it_streams_its_result(self) -> None:
        """A stream has one chunk: a refinement is whole or it is not."""
        async with _refiner() as refiner:
            chunks = [chunk async for chunk in refiner.astream("a cat")]
        assert ["a cat"] == [chunk.user_prompt for chunk in chunks]

    async def test_it_composes_with_other_runnables(self) -> None:
        """It is a link in a chain like any other."""
        async with _refiner() as refiner:
            chain = (
                itemgetter("prompt") | refiner | (lambda outcome: outcome.best.prompt)
            )
            assert "a cat, round 1" == await chain.ainvoke({"prompt": "a cat"})
            assert "a cat, round 1" == chain.invoke({"prompt": "a cat"})

    async def test_it_is_a_node_of_a_graph(self) -> None:
        """In a LangGraph graph it refines what the state asks for."""
        from langgraph.graph import END, START, StateGraph

        async with _refiner() as refiner:
            node = (
                itemgetter("prompt")
                | refiner
                | (lambda outcome: {"best": outcome.best.caption})
            )
            graph = StateGraph(State)
            graph.add_node("refine", node)
            graph.add_edge(START, "refine")
            graph.add_edge("refine", END)
            state = await graph.compile().ainvoke({"prompt": "a cat"})
        assert "an image of a cat, round 1" == state["best"]

    def test_it_describes_itself(self) -> None:
        """Its schemas and its graph can be asked for, as servers and studios do."""
        refiner = _refiner()
        assert "string" == refiner.get_input_jsonschema()["type"]
        assert "RefinerOutput" == refiner.get_output_jsonschema()["title"]
        assert "Refiner" in refiner.get_graph().draw_mermaid()

    async def test_callbacks_see_it(self) -> None:
        """Tracing shows a refinement as a chain, with its input."""
        from langchain_core.callbacks import AsyncCallbackHandler

        started: list[Any] = []

        class Handler(AsyncCallbackHandler):
            async def on_chain_start(
                self, serialized: Any, inputs: Any, **_: Any
            ) -> None:
                started.append(inputs)

        async with _refiner() as refiner:
            await refiner.ainvoke("a cat", {"callbacks": [Handler()]})
        assert ["a cat"] == started


class TestFrontDoor:
    async def test_refine_refines_one_prompt(self) -> None:
        """A prompt and settings by name are all that is needed."""
        events: list[Event] = []
        outcome = await refine("a cat", on_event=events.append, **FAKES)
        assert ("a cat", 4) == (outcome.user_prompt, len(events))

    async def test_refine_opens_nothing_for_a_bad_prompt(self) -> None:
        """The prompt is looked at before models are loaded."""
        with pytest.raises(PromptError):
            await refine("", **(FAKES | {"captioner": 3}))

    async def test_refine_many_refines_many(self) -> None:
        """Outcomes come from the front door as from a refiner."""
        outcomes = [o async for o in refine_many(["a cat", ""], Settings(**FAKES))]
        assert [0, 1] == sorted(outcome.index for outcome in outcomes)

    async def test_refine_sync_works_inside_a_running_loop(self) -> None:
        """In a notebook it blocks the cell, and nothing else goes wrong."""
        assert "a cat" == refine_sync("a cat", **FAKES).user_prompt

    def test_refine_sync_works_in_a_script(self) -> None:
        """Without any event loop around."""
        with pytest.raises(PromptError):
            refine_sync("", **FAKES)
        assert "a cat" == refine_sync("a cat", **FAKES).user_prompt

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        """The lazy front door behaves like any module."""
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = socratic_agents.nothing
        assert set(socratic_agents.__all__) <= set(dir(socratic_agents))


async def test_an_unreachable_language_model_fails_its_prompt() -> None:
    """Where one asks for it, a call that failed for good is an error with its history."""

    async def unreachable(history: History) -> tuple[str, ...]:
        message = "expected an answer, got none; start the server"
        raise CallError(message)

    async with _refiner(optimizer=unreachable, llm_failure="raise") as refiner:
        (failure,) = [o async for o in refiner.refine_many(["a cat"])]
    assert isinstance(failure, Failure)
    assert ("CallError", 1) == (
        failure.kind,
        len(failure.history.rounds if failure.history else ()),
    )


class TestBudgets:
    @pytest.mark.parametrize(
        ("budget", "calls"),
        [
            ("tokens=18", 1),
            ("tokens=19", 2),
            ("tokens=1", 1),
            ("llm-calls=1", 1),
            ("llm-calls=3", 3),
            ("money=0.00003", 2),
        ],
    )
    async def test_the_call_that_reaches_a_limit_is_the_last(
        self, budget: str, calls: int
    ) -> None:
        """Its answer is used, nothing new is asked, and the best so far is returned.

        Each call reads 11 tokens and writes 7.
        """
        said = [
            {"reason": "", "missing": ["a hat"], "satisfied": False},
            {"reason": "", "prompts": ["a cat in a hat"]},
            {"reason": "", "missing": ["a coat"], "satisfied": False},
            {"reason": "", "prompts": ["a cat in a coat"]},
        ]
        with Loopback(*(chat(json.dumps(one)) for one in said)) as server:
            async with _refiner(
                llm="openai:loopback",
                base_url=server.base_url,
                judge="caption",
                optimizer="llm",
                guard=None,
                rounds=9,
                budget=budget,
                prices="input-tokens=1,output-tokens=1",
            ) as refiner:
                outcome = await refiner.refine("a cat")
        assert StopReason.BUDGET_SPENT is outcome.stop
        assert calls == outcome.usage.llm_calls == len(server.requests)
        assert 11 * calls == outcome.usage.input_tokens
        assert outcome.best.image is not None
        # A rewrite that was written when the limit was reached is not drawn any more.
        assert {1: 1, 2: 1, 3: 2}[calls] == outcome.usage.images

    @given(
        images=st.integers(1, 12),
        most=st.none() | st.integers(1, 12),
        rewrites=st.integers(1, 4),
    )
    def test_images_are_never_passed(
        self, images: int, most: int | None, rewrites: int
    ) -> None:
        """A budget of images and ``max_images`` are both kept, whatever is written."""

        async def write(history: History) -> tuple[str, ...]:
            place = len(history.rounds)
            return tuple(f"cat {place}.{number}" for number in range(rewrites))

        refiner = _refiner(
            optimizer=write,
            rounds=20,
            budget={"images": images},
            max_images=most,
        )
        outcome = refiner.invoke("a cat")
        refiner.close()
        assert min(images, most or images) == outcome.usage.images
        assert StopReason.BUDGET_SPENT is outcome.stop

    @pytest.mark.parametrize("in_flight", [1, 3, 8])
    async def test_a_run_passes_its_budget_by_what_is_in_flight(
        self, in_flight: int
    ) -> None:
        """Every prompt has its outcome: a result, or that the money was gone."""
        async with _refiner(
            run_budget="images=5", in_flight=in_flight, rounds=2
        ) as refiner:
            prompts = [f"cat {number}" for number in range(9)]
            outcomes = [outcome async for outcome in refiner.refine_many(prompts)]
        assert prompts == [
            one.user_prompt for one in sorted(outcomes, key=lambda one: one.index)
        ]
        done = [one for one in outcomes if isinstance(one, Refinement)]
        images = sum(one.usage.images for one in done)
        assert 5 <= images < 5 + in_flight
        late = [one for one in outcomes if isinstance(one, Failure)]
        assert 9 == len(done) + len(late)
        assert in_flight == 8 or late
        for one in late:
            assert "BudgetError" == one.kind
            assert "expected room in the budget of the run, got" in one.error
            assert one.history is None

    async def test_a_run_lasts_as_long_as_its_refiner(self) -> None:
        """One prompt after another spends from the same purse."""
        async with _refiner(run_budget="money=1", prices="image=0.25") as refiner:
            usages = [(await refiner.refine(name)).usage for name in ("a", "b")]
            with pytest.raises(BudgetError, match="got 1 of 1 money; raise it"):
                await refiner.refine("c")
            with pytest.raises(PromptError):  # said first: it would cost nothing
                await refiner.refine("")
        assert [(2, 0.5), (2, 0.5)] == [(one.images, one.money) for one in usages]
        async with _refiner(run_budget="money=1", prices="image=0.25") as refiner:
            assert 2 == (await refiner.refine("c")).usage.images

    async def test_budgets_are_among_the_settings(self) -> None:
        """What bounded a result can be read in it; prices alone bound nothing."""
        async with _refiner(budget="images=9", prices="image=2") as refiner:
            outcome = await refiner.refine("a cat")
        assert StopReason.ROUNDS_SPENT is outcome.stop
        assert (9, 2.0) == (
            outcome.settings["budget"]["images"],
            outcome.settings["prices"]["image"],
        )
        assert 4.0 == outcome.usage.money
        async with _refiner() as refiner:
            assert (await refiner.refine("a cat")).usage.money is None


class TestPocket:
    @pytest.mark.parametrize("overrides", [{"profile": "classic"}, {"preset": "quick"}])
    def test_a_policy_runs_to_its_end(self, overrides: dict[str, Any]) -> None:
        """The predecessor's loop scores nothing; the others hold to a checklist."""
        outcome = refine_sync("a crimson ball", seed=4, **overrides)
        classic = "profile" in overrides
        assert classic == (outcome.history.checklist is None)
        assert classic == (not outcome.best.scores)
        roles = {"selector"} if classic else {"checklist", "guard"}
        assert roles | {"judge", "optimizer"} == set(outcome.templates)
        spent = StopReason.ROUNDS_SPENT if classic else StopReason.BUDGET_SPENT
        assert outcome.stop in {StopReason.SATISFIED, spent}

    def test_an_unknown_word_is_told_before_anything(self) -> None:
        """The pocket world names the word, and nothing is loaded for it."""
        refiner = _refiner(generator="pocket")
        assert "a red circle" == refiner.check(" a red circle ")
        with pytest.raises(UnknownWordError, match="zebra"):
            refiner.check("a zebra")
        assert refiner.statistics() is None

    async def test_the_pocket_chat_model_plays_all_roles(self) -> None:
        """Offline, the rule-based model judges, writes and selects by the templates."""
        async with _refiner(
            llm="pocket", judge="caption", selector="caption", optimizer="llm"
        ) as refiner:
            outcome = await refiner.refine("a crimson ball")
        assert outcome.usage.llm_calls > 0
        assert all(r.verdict and r.verdict.judged for r in outcome.rounds)
