"""A language model that fails for good: no image is lost, and no prompt of a batch."""

from __future__ import annotations

import itertools
import json
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_openai import ChatOpenAI

from socratic_agents import (
    Failure,
    Refinement,
    Refiner,
    Settings,
    image_tools,
    refine_sync,
)
from socratic_agents.cli.app import main
from socratic_agents.core.errors import (
    AnswerError,
    CallError,
    NothingDrawnError,
    ServerDownError,
)
from socratic_agents.core.history import History, Status, StopReason, Verdict
from socratic_agents.core.loop import Agents, Limits, refine_prompt
from socratic_agents.core.outage import Outage
from socratic_agents.core.search import Draw, Plan, Session
from socratic_agents.llm.circuit_breaker import CircuitBreaker
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.runtime import build
from socratic_agents.runtime.language_model import (
    open_language_model,
    open_rate_limiter,
)
from socratic_agents.storage.results import outcome_of
from tests.fakes import ScriptedChatModel
from tests.loopback import Loopback, Reply, Request, chat
from tests.strategies import Script, ScriptedAgents, refine_in_rounds
from tests.test_refiner import FAKES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

JUDGED: dict[str, Any] = {"reason": "", "missing": ["a hat"], "satisfied": False}
GONE = "expected an answer, got none; start the server"


async def gone(*_: object) -> Any:
    raise CallError(GONE)


async def down(*_: object) -> Any:
    raise ServerDownError(GONE)


async def refined(agents: Agents, **facts: Any) -> Refinement:
    return await refine_in_rounds(
        "a cat",
        agents,
        rounds=3,
        seeds=itertools.count(),
        survives=lambda _: True,
        **facts,
    )


class TestLoop:
    async def test_an_image_outlives_the_optimizer(self) -> None:
        """The best so far is returned, with the cause, and survives JSON."""
        outcome = await refined(replace(ScriptedAgents().agents(), optimize=gone))
        assert (StopReason.LLM_FAILED, GONE) == (outcome.stop, outcome.llm_error)
        assert 1 == len(outcome.rounds)
        assert outcome.stop.cut_short
        assert not outcome.stop.interrupted
        found = outcome.to_json()
        assert ("llm_failed", GONE) == (found["stop"], found["llm_error"])
        assert GONE == Refinement.from_json(json.loads(json.dumps(found))).llm_error

    async def test_one_that_writes_ahead_is_no_exception(self) -> None:
        """What it raises is told when its prompts are needed."""
        outcome = await refined(
            replace(ScriptedAgents().agents(), optimize=gone), speculate=True
        )
        assert StopReason.LLM_FAILED is outcome.stop

    async def test_without_an_image_it_is_an_error(self) -> None:
        """There is nothing to return."""
        script = Script(statuses=(Status.GENERATION_FAILED,))
        with pytest.raises(CallError, match="got none") as caught:
            await refined(replace(ScriptedAgents(script).agents(), optimize=gone))
        assert caught.value.history is not None

    @pytest.mark.parametrize("role", ["judge", "inquire", "answer"])
    async def test_whoever_finds_the_server_down_ends_it(self, role: str) -> None:
        """The next round would have nobody to judge it or to write for it."""
        scripted = ScriptedAgents(Script(questions=2, scores=None))
        outcome = await refined(replace(scripted.agents(), **{role: down}))
        assert (StopReason.LLM_FAILED, GONE) == (outcome.stop, outcome.llm_error)
        assert 1 == len(outcome.rounds)
        assert "optimize" not in [call[0] for call in scripted.asked]

    @pytest.mark.parametrize("role", ["judge", "optimize", "select", "answer"])
    async def test_a_run_that_ends_with_its_server_gets_the_error(
        self, role: str
    ) -> None:
        """It is done again, so nothing half done is returned, whoever met it."""
        agents = replace(ScriptedAgents(Script(questions=2)).agents(), **{role: down})
        with pytest.raises(ServerDownError) as caught:
            await refine_in_rounds("a cat", agents, rounds=2, seeds=itertools.count())
        assert caught.value.history is not None
        assert caught.value.history.candidates

    async def test_a_selector_without_a_server_gives_way(self) -> None:
        """The end was reached before: the incumbent is returned, and why."""
        outcome = await refined(replace(ScriptedAgents().agents(), select=down))
        assert (None, GONE) == (outcome.llm_error, outcome.selection_error)
        assert StopReason.LLM_FAILED is not outcome.stop

    async def test_a_round_in_the_making_is_kept(self) -> None:
        """A search that cannot ask on has images that nobody judged."""
        agents = ScriptedAgents().agents()

        class Asking(Session):
            async def next(self, history: History, left: int | None) -> Plan:
                return Plan(attempts=(Draw("a cat", 1),))

            async def more(self, history: History, left: int | None) -> Any:
                raise CallError(GONE)

        class Search:
            def session(self, agents: Agents) -> AbstractAsyncContextManager[Session]:
                @asynccontextmanager
                async def session() -> AsyncIterator[Session]:
                    yield Asking()

                return session()

        limits = Limits(survives=lambda _: True)
        outcome = await refine_prompt("a cat", agents, Search(), limits=limits)
        assert [Verdict.unjudged(GONE)] == [r.verdict for r in outcome.rounds]
        assert StopReason.LLM_FAILED is outcome.stop

    async def test_another_error_is_no_outage(self) -> None:
        """An agent that answers badly is not noted."""
        outage = Outage()

        async def mumble() -> None:
            raise AnswerError("mumbled")

        with pytest.raises(AnswerError):
            await outage.watch(mumble)()
        outage.check()
        with pytest.raises(ServerDownError):
            await outage.watch(down)()
        outage.check(lambda _: True)
        with pytest.raises(ServerDownError):
            outage.check()


class TestSetting:
    def test_the_best_so_far_is_the_default(self) -> None:
        """So it is in Python, without one setting."""
        outcome = refine_sync("a cat", **(FAKES | {"optimizer": gone}))
        assert ("llm_failed", GONE) == (outcome.stop, outcome.llm_error)
        assert outcome.best.image is not None

    def test_the_error_can_be_had(self) -> None:
        """``llm_failure="raise"`` brings it back, with the history."""
        with pytest.raises(CallError, match="got none") as caught:
            refine_sync("a cat", **(FAKES | {"optimizer": gone}), llm_failure="raise")
        assert caught.value.history is not None

    async def test_a_receipt_needs_no_language_model(self) -> None:
        """What was drawn is compared all the same."""
        settings = FAKES | {"optimizer": gone, "receipt": True}
        async with Refiner(**settings) as refiner:
            outcome = await refiner.refine("a cat")
        assert "llm_failed" == outcome.stop
        assert outcome.receipt is not None

    async def test_an_agent_is_told(self) -> None:
        """The tool that refines says why there is no more."""
        async with Refiner(**(FAKES | {"optimizer": gone})) as refiner:
            (tool,) = [t for t in image_tools(refiner) if t.name == "refine_prompt"]
            said = await tool.ainvoke({"prompt": "a cat"})
        assert f"llm_failed. The language model failed: {GONE}" in str(said)

    async def test_one_image_at_least(self) -> None:
        """Black images alone are an error of their own or the model's, never a result."""

        async def black(prompt: str, seed: int) -> Any:
            raise RuntimeError(prompt)

        async with Refiner(**(FAKES | {"optimizer": gone, "generator": black})) as it:
            with pytest.raises((CallError, NothingDrawnError)):
                await it.refine("a cat")


def _player(*, seconds: float = 0) -> Callable[[Request], Reply]:
    """Return who answers as the role that a request's schema is for, one at a time."""
    slot, numbers = threading.Lock(), itertools.count(1)

    def play(request: Request) -> Reply:
        with slot:
            time.sleep(seconds)
        prompt = "a cat" + " indeed" * next(numbers)
        answers: dict[str, Any] = {
            "Judgement": JUDGED,
            "Rewrites": {"reason": "", "prompts": [prompt]},
        }
        schema = request.body["response_format"]["json_schema"]["name"]
        return chat(json.dumps(answers[schema]))

    return play


class Mortal:
    """A server that dies when it has answered so often; ``wake`` starts it again."""

    def __init__(self, *, requests: int) -> None:
        self.requests = 0
        self._deadly, self._play = requests, _player()
        self._server = Loopback(self._answer).__enter__()
        self.base_url = self._server.base_url
        self.dead = threading.Event()
        self._lock = threading.Lock()

    def _answer(self, request: Request) -> Reply:
        with self._lock:
            self.requests += 1
            dies = self.requests == self._deadly
        if dies:
            threading.Thread(target=self.die).start()
        if self.requests >= self._deadly and not self.dead.is_set():
            return Reply(reset=True)
        return self._play(request)

    def die(self) -> None:
        self._server.__exit__()
        self.dead.set()

    def wake(self, seconds: float = 0) -> None:
        self.dead.wait(20)
        time.sleep(seconds)
        self._server = Loopback(self._play, port=self._server.port)
        self._server.__enter__()

    def answered(self) -> int:
        return len(self._server.requests)

    def end(self) -> None:
        self._server.__exit__()


@pytest.fixture
def batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Return what runs a batch of sixty prompts against an address."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("\n".join(f"cat {n}" for n in range(60)))
    images = {name: FAKES[name] for name in ("generator", "captioner", "scorer")}

    def open_refiner(settings: Settings) -> Refiner:
        return Refiner(settings.but(**images, judge="caption", selector="clip"))

    def run(url: str, *options: str, seconds: float = 300) -> tuple[int, str]:
        breaker = {"seconds": seconds, "first_wait": 0.01, "longest_wait": 0.05}
        monkeypatch.setattr(
            build,
            "RetryPolicy",
            lambda **given: RetryPolicy(breaker=CircuitBreaker(**breaker), **given),
        )
        given = ["batch", "in.txt", "--out", "OUT", "--llm", "openai:loopback"]
        given += ["--base-url", url, "--rounds", "2", "--guard", "none", *options]
        capfd.readouterr()
        return main(given, open_refiner=open_refiner), capfd.readouterr().err

    return run


def _kept(folder: Path) -> list[Refinement | Failure]:
    lines = (folder / "OUT" / "results.jsonl").read_text().splitlines()
    return [outcome_of(json.loads(line)) for line in lines]


class TestBatch:
    def test_a_server_that_comes_back_costs_no_prompt(
        self,
        batch: Callable[..., tuple[int, str]],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It dies after ten of sixty prompts; the run waits, says so once, and ends."""
        server = Mortal(requests=30)
        waking = threading.Thread(target=server.wake, args=(0.5,))
        waking.start()
        code, err = batch(server.base_url)
        waking.join()
        server.end()
        assert 0 == code, err
        assert {"rounds_spent"} == {kept.stop for kept in _kept(tmp_path)}  # type: ignore[union-attr]
        assert 60 == len(_kept(tmp_path))
        outages = [r for r in caplog.records if "cannot be reached" in r.message]
        assert 1 == len(outages)
        assert 1 == err.count("the language model's server cannot be reached")
        assert "failed" not in err

    def test_a_server_that_stays_away_ends_the_run_with_one_line(
        self, batch: Callable[..., tuple[int, str]], tmp_path: Path
    ) -> None:
        """Whoever was on the way has no record, and the same command goes on."""
        server = Mortal(requests=30)
        code, err = batch(server.base_url, seconds=0.1)
        assert 1 == code
        told = [line for line in err.splitlines() if "run the same command" in line]
        assert 1 == len(told)
        assert told[0].startswith("error: expected an answer of the language model")
        before = _kept(tmp_path)
        assert 0 < len(before) < 60
        assert {"rounds_spent"} == {kept.stop for kept in before}  # type: ignore[union-attr]
        server.wake()
        code, err = batch(server.base_url)
        assert 0 == code, err
        assert f"{len(before)} of 60 were already finished" in err
        assert set(range(60)) == {kept.index for kept in _kept(tmp_path)}
        assert 60 == len(_kept(tmp_path))
        # Each prompt takes three; what is cached is not asked again.
        assert server.answered() + 29 <= 3 * 60 + 8
        server.end()

    def test_another_failure_is_kept_and_tried_again(
        self, batch: Callable[..., tuple[int, str]], tmp_path: Path
    ) -> None:
        """A wrong key leaves each first image; the same command goes on with them."""
        denied = Reply('{"error": {"message": "no such key"}}', status=401)
        with Loopback(denied) as server:
            code, err = batch(server.base_url)
        assert 1 == code
        assert {"llm_failed"} == {kept.stop for kept in _kept(tmp_path)}  # type: ignore[union-attr]
        assert "0 of 60 done" in err
        assert "60 ended with the best so far" in err
        with Loopback(_player(), port=server.port) as server:
            code, err = batch(server.base_url)
        assert 0 == code, err
        assert {"rounds_spent"} == {kept.stop for kept in _kept(tmp_path)}  # type: ignore[union-attr]
        assert 60 == len(_kept(tmp_path))

    def test_a_slow_server_of_one_slot_needs_no_settings(
        self, batch: Callable[..., tuple[int, str]], tmp_path: Path
    ) -> None:
        """Few are sent at a time, so none is given up and sent again."""
        (tmp_path / "in.txt").write_text("\n".join(f"cat {n}" for n in range(12)))
        with Loopback(_player(seconds=0.05), kept=True) as server:
            # A sixtieth of the defaults, as a call of one second would have it.
            code, err = batch(server.base_url, "--timeout", "3")
            assert 0 == code, err
            assert 36 == len(server.requests)
        assert 12 == len(_kept(tmp_path))


class Asynchronous(ScriptedChatModel):
    """Has an async call of its own."""

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        return self._generate(*args, **kwargs)


class TestConcurrency:
    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({}, 64),
            ({"base_url": "http://127.0.0.1:8080/v1"}, 4),
            ({"base_url": "https://api.openai.com/v1"}, 64),
            ({"base_url": "https://eu.api.openai.com/v1"}, 64),
            ({"base_url": "https://api.openai.com.example.org/v1"}, 4),
            ({"base_url": "http://127.0.0.1:8080/v1", "llm_concurrency": 9}, 9),
            ({"llm": "ollama:qwen3"}, 4),
            ({"llm": ScriptedChatModel()}, 1),
            ({"llm": ScriptedChatModel(), "llm_concurrency": 5}, 5),
            ({"llm": Asynchronous()}, 64),
            (
                {
                    "llm": ChatOpenAI(
                        model="a", base_url="http://[::1]:1/v1", api_key="k"
                    )
                },
                4,
            ),
        ],
    )
    def test_how_many_requests_fit_who_answers(
        self, settings: dict[str, Any], expected: int
    ) -> None:
        """Nobody has to know how many slots a server has, or whether a model may."""
        given = Settings(**({"llm": "openai:a", "api_key": "k"} | settings))
        there = given.llm != "ollama:qwen3"  # its package is not
        llm = open_language_model(given) if there else None
        assert expected == open_rate_limiter(given, llm).concurrency

    def test_the_environment_names_a_server_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """OpenAI's client reads an address of its own."""
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
        given = Settings(llm="openai:a", api_key="k")
        assert 4 == open_rate_limiter(given, open_language_model(given)).concurrency

    def test_a_blocking_model_is_asked_once_at_a_time_by_all(self) -> None:
        """Refiners in several threads and event loops share a model that may not mind."""
        inside, most, lock = 0, 0, threading.Lock()

        class Watched(ScriptedChatModel):
            def _generate(self, *args: Any, **kwargs: Any) -> Any:
                nonlocal inside, most
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.01)
                with lock:
                    inside -= 1
                    return super()._generate(*args, **kwargs)

        llm = Watched(script=[JUDGED] * 8)
        settings = FAKES | {"judge": "caption", "llm": llm, "rounds": 1}
        threads = [
            threading.Thread(target=lambda: refine_sync("a cat", **settings))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 4 == len(llm.script)
        assert 1 == most
