"""What the work costs beside the models: counted where it can be, bounded where not.

Times are processor time and their bounds are several times what was measured, so that
they fail when something grows with the square, and not when the machine is busy.
docs/performance.md has the figures.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.utils import mustache
from PIL import Image

from socratic_agents import Failure, Refiner, Settings
from socratic_agents.agents.judges import Judgement
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.structured import StructuredCaller
from socratic_agents.network.openai_client import PerLoopClient
from socratic_agents.runtime.language_model import open_http_client, open_language_model
from tests.fakes import ScriptedChatModel
from tests.loopback import Loopback, Request, chat, error
from tests.test_refiner import FAKES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.loopback import Reply

pytestmark = pytest.mark.no_cover  # it repeats what other tests measure

JUDGED: dict[str, Any] = {"reason": "", "missing": ["a hat"], "satisfied": False}


def _player() -> Callable[[Request], Reply]:
    """Return who answers each request as the role that its schema is for."""
    numbers = itertools.count(1)

    def play(request: Request) -> Reply:
        # Longer each time: new, and better by the score of FAKES, so that it is judged.
        prompt = "a cat" + " indeed" * next(numbers)
        answers: dict[str, dict[str, Any]] = {
            "Judgement": JUDGED,
            "Rewrites": {"reason": "", "prompts": [prompt]},
        }
        schema = request.body["response_format"]["json_schema"]["name"]
        return chat(json.dumps(answers[schema]))

    return play


def _over(url: str, **others: Any) -> Refiner:
    """Return a refiner whose language model is behind the address."""
    own = {
        "llm": "openai:loopback",
        "base_url": url,
        "judge": "caption",
        "optimizer": "llm",
        "guard": None,
        "rounds": 4,
    }
    return Refiner(**(FAKES | own | others))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count how often schemas are made, templates parsed, and models bound."""
    counts = {"schema": 0, "template": 0, "bound": 0}

    def counted(name: str, of: Any, attribute: str) -> None:
        real = getattr(of, attribute)

        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(of, attribute, call)

    counted("schema", Judgement, "model_json_schema")
    counted("template", mustache, "tokenize")
    counted("bound", BaseChatModel, "bind_tools")
    return counts


class TestCalls:
    async def test_what_a_call_needs_is_built_once(self, built: dict[str, int]) -> None:
        """A hundred calls of one role take one schema, and one parse of each text."""
        async with Refiner(
            **(FAKES | {"judge": "caption", "rounds": 1, "in_flight": 5}),
            llm=ScriptedChatModel(script=[JUDGED] * 20),
        ) as refiner:
            parsed = built["template"]  # when the templates were checked
            done = [o async for o in refiner.refine_many(["a cat"] * 20)]
            texts = len(refiner._templates["judge"].messages)
        assert not any(isinstance(outcome, Failure) for outcome in done)
        assert built["schema"] <= 1, "another test may have needed it before"
        assert texts == built["template"] - parsed

    async def test_one_client_serves_a_refiner(self) -> None:
        """Calls one after the other go over one connection, in all roles."""
        with Loopback(_player(), kept=True) as server:
            async with _over(server.base_url) as refiner:
                refinement = await refiner.refine("a cat")
            assert 1 == server.connections
        assert 7 == refinement.usage.llm_calls == len(server.requests)

    async def test_calls_at_the_same_time_share_what_is_free(self) -> None:
        """There are as many connections as calls at a time, not as calls."""
        with Loopback(_player(), kept=True) as server:
            async with _over(server.base_url, llm_concurrency=3) as refiner:
                prompts = [f"cat {number}" for number in range(8)]
                done = [o async for o in refiner.refine_many(prompts)]
            assert 1 <= server.connections <= 3
        assert not any(isinstance(outcome, Failure) for outcome in done)
        assert 56 == len(server.requests)

    async def test_a_schema_that_is_refused_is_not_sent_again(self) -> None:
        """A server without schemas is told once; later calls come in words at once."""

        def wordy(request: Request) -> Reply:
            if "response_format" in request.body:
                return error(400, message="response_format is not known here")
            return chat(json.dumps(JUDGED))

        with Loopback(wordy, kept=True) as server:
            settings = Settings(llm="openai:loopback", base_url=server.base_url)
            client = open_http_client(settings)
            llm = open_language_model(settings, client=client)
            ask = StructuredCaller(llm, Judgement, retries=RetryPolicy())
            for _ in range(3):
                assert not (await ask([HumanMessage("Well?")])).satisfied
            await client.aclose()
        assert 4 == len(server.requests)


class TestConnections:
    def test_each_event_loop_has_its_own(self) -> None:
        """A client serves loops that come and go, and each loop ends its connections."""
        with Loopback(_player(), kept=True) as server:
            refiner = _over(server.base_url)
            for expected in (1, 2):
                assert 7 == asyncio.run(refiner.refine("a cat")).usage.llm_calls
                assert expected == server.connections
            refiner.close()
            # Leaving waits for the server's threads, which wait for connections to end.

    async def test_closing_closes_the_loops_own(self) -> None:
        """In a program that goes on, nothing is kept after the refiner is closed."""
        client = PerLoopClient(timeout=5)
        with Loopback(chat("{}"), kept=True) as server:
            for expected in (1, 2):
                for _ in range(2):
                    await client.post(f"{server.base_url}/chat", json={})
                assert expected == server.connections
                await client.aclose()
                await client.aclose()  # a second time does nothing

    def test_others_have_their_own(self) -> None:
        """Only OpenAI's client is known; a pocket model needs none."""
        assert open_http_client(Settings()) is None
        assert open_http_client(Settings(llm=ScriptedChatModel())) is None


def _draw(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), "red")


def _named(prompt: str, seed: int) -> Image.Image:
    """Draw what the captioner of FAKES can read."""
    image = _draw(prompt, seed)
    image.info["prompt"] = prompt
    return image


def _caption(image: Image.Image) -> str:
    return "a cat"


def _score(user_prompt: str, image: Image.Image) -> float:
    return 0.5


async def _rewrite_once(history: Any) -> tuple[str, ...]:
    return (f"{history.user_prompt} {len(history.rounds)}",)


async def _rewrite(history: Any) -> tuple[str, ...]:
    return tuple(f"{history.user_prompt} {len(history.rounds)}.{n}" for n in range(2))


def _instant(**others: Any) -> Refiner:
    """Return a refiner whose models take no time, and run in the worker's thread."""
    own = {
        "generator": _draw,
        "captioner": _caption,
        "scorer": _score,
        "optimizer": _rewrite,
        "in_flight": 500,
    }
    return Refiner(**(FAKES | own | others))


def _prompts(count: int) -> Iterator[str]:
    return (f"a cat {number}" for number in range(count))


class TestLoops:
    async def test_a_candidate_takes_a_millisecond_at_most(self) -> None:
        """Five hundred loops, the worker and the events between: 0.3 ms, bound at 3."""
        async with _instant(rounds=4) as refiner:
            begun, images = time.process_time(), 0
            async for outcome in refiner.refine_many(_prompts(500)):
                assert not isinstance(outcome, Failure)
                images += outcome.usage.images
            spent = time.process_time() - begun
        assert 3500 == images
        assert spent / images < 0.003

    @pytest.mark.slow
    async def test_what_is_done_is_let_go(self) -> None:
        """After thousands of rounds there are no more objects than after a few hundred.

        Counted, since how much memory a process holds depends on what ran before.
        """
        own = {
            "generator": _named,
            "captioner": FAKES["captioner"],
            "scorer": None,
            "optimizer": _rewrite_once,
            "selector": "last",
        }
        async with _instant(**own, rounds=4) as refiner:
            alive = []
            for count in (500, 1500, 1500):
                async for outcome in refiner.refine_many(_prompts(count)):
                    assert not isinstance(outcome, Failure)
                del outcome
                gc.collect()
                alive.append(len(gc.get_objects()))
        # Something may be made once, on the way; what is kept grows every time.
        grown = [after - before for before, after in itertools.pairwise(alive)]
        assert min(grown) < 2000
