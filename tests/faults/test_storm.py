"""A storm: everything goes wrong now and then, for a thousand batches of 20 prompts.

F4  Of the language model's answers 10 % are 429, 5 % are 500 or 503, 3 % time out (one
    in three with a real stall, the others as the 408 or 504 of a proxy), 3 % are
    malformed and 1 % are refusals; of the images 2 % are not finite or black and 1 %
    are filtered. Chance is a function of the question and how often it was asked, so
    the same batch meets the same storm.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import threading
from collections import Counter
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from socratic_agents.config.settings import Settings
from socratic_agents.core.history import Status
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.runtime import build as parts
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.storage.results import read_outcomes
from socratic_agents.storage.run_directory import RunDirectory
from tests.faults.trials import numbered
from tests.loopback import STALL, Loopback, Reply, Request, chat, error

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

pytestmark = pytest.mark.no_cover  # it repeats what other tests measure

AT_ONCE = 5
"""Batches that share a server and a trial."""
PROMPTS = 20
ROUNDS = 3
ATTEMPTS = 6
VALIDATION_RETRIES = 2
TIMEOUT = 3.0
"""Seconds: enough for an honest answer on a busy machine."""
CAP = 60.0
"""Seconds after which a batch hangs."""


def share(*facts: object) -> float:
    """Return a number from 0 to 1 that depends on nothing but what is given."""
    digest = hashlib.sha256(repr(facts).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


JUDGEMENT = re.compile(r'\\*"satisfied\\*": \{')
"""Its field in a schema, be it sent apart, as a tool or in words."""


class Storm:
    """A language model behind a bad line."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.replies: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Reply:
        question = json.dumps(request.body, sort_keys=True)
        with self._lock:
            self.asked[question] += 1
            turn = self.asked[question]
        kind, reply = self._reply(request.body, share(question, turn), question)
        with self._lock:
            self.replies[kind] += 1
        return reply

    def _reply(
        self, body: dict[str, Any], chance: float, question: str
    ) -> tuple[str, Reply]:
        bad = (
            (0.10, "429", error(429, retry_after="2")),
            (0.03, "500", error(500)),
            (0.02, "503", error(503, retry_after_ms="700")),
            (0.01, "stall", STALL),
            (0.01, "408", error(408)),
            (0.01, "504", error(504)),
            (0.03, "malformed", chat('{"reason": "so", "satisf')),
            (0.01, "refusal", chat(None, refusal="I will not")),
        )
        for portion, kind, reply in bad:
            if chance < portion:
                return kind, reply
            chance -= portion
        answer = json.dumps(self._answer(question))
        return "good", (
            chat(None, arguments=answer) if "tools" in body else chat(answer)
        )

    def _answer(self, question: str) -> dict[str, Any]:
        if JUDGEMENT.search(question):
            satisfied = share("judge", question) < 0.2
            missing = [] if satisfied else ["a hat"]
            return {"reason": "so", "missing": missing, "satisfied": satisfied}
        new = hashlib.sha256(question.encode()).hexdigest()[:8]
        return {"reason": "so", "prompts": [f"a cat {new}", f"a dog {new}"]}


def pipeline(
    prompt: list[str],
    generator: list[Any],
    output_type: str = "np",
    num_inference_steps: int = 2,
    guidance_scale: float = 1.0,
) -> Any:
    """Stand in for a pipeline that fails as real ones do."""
    images, flags = [], []
    for text, noise in zip(prompt, generator, strict=True):
        chance = share(text, noise.initial_seed())
        pixels = np.full((8, 8, 3), 0.2 + chance / 2, dtype=np.float32)
        if chance < 0.01:
            pixels[3, 4, 1] = np.nan
        elif chance < 0.02:
            pixels *= 0
        images.append(pixels)
        flags.append(0.02 <= chance < 0.03)
    return SimpleNamespace(images=images, nsfw_content_detected=flags)


async def caption(image: Image.Image) -> str:
    return f"a thing of shade {image.getpixel((0, 0))}"


async def score(user_prompt: str, image: Image.Image) -> float:
    return share(user_prompt, image.tobytes())


def settings(url: str) -> Settings:
    return Settings(
        generator=Diffusion(pipeline),
        captioner=caption,
        scorer=score,
        llm="openai:storm",
        base_url=url,
        judge="caption",
        selector="clip",
        guard=None,
        rounds=ROUNDS,
        timeout=TIMEOUT,
    )


async def batch(
    folder: Path, url: str, number: int
) -> tuple[list[dict[str, Any]], int]:
    """Refine 20 prompts; return their records, and how many answers were known."""
    prompts = [f"prompt {place} of batch {number}" for place in range(PROMPTS)]
    given = settings(url)
    with RunDirectory(folder, settings=given.public()) as run:
        async with asyncio.timeout(CAP), Refiner(given).remember(run) as refiner:
            async for outcome in refiner.refine_many(prompts):
                run.save(outcome)
    outcomes = list(read_outcomes(folder))
    # Exactly one record a prompt, under its own place.
    assert list(enumerate(prompts)) == [(o.index, o.user_prompt) for o in outcomes]
    records = [outcome.to_json() for outcome in outcomes]
    for record in records:
        if "usage" in record:
            record["usage"].pop("seconds")
    return records, run.journal.reused["llm"]


def check_candidate(candidate: dict[str, Any]) -> None:
    """No number where there was no image, and a cause where there is none."""
    if candidate["status"] == Status.OK:
        assert candidate["image"]
        assert all(math.isfinite(one) for one in candidate["scores"].values())
        assert {"score"} == candidate["scores"].keys()
    else:
        assert {} == candidate["scores"]
        assert candidate["error"]
        assert candidate["status"] in {
            Status.NUMERICAL_FAILURE,
            Status.SAFETY_FILTERED,
        }


def check_record(record: dict[str, Any]) -> None:
    """No verdict where the judge gave none, and a cause where there is none."""
    for round_ in record.get("rounds", ()):
        for candidate in round_["candidates"]:
            check_candidate(candidate)
        verdict = round_["verdict"]
        if verdict is not None and verdict["status"] == "unjudged":
            assert verdict["satisfied"] is None
            assert verdict["reason"]
    if record["status"] == "ok":
        assert "ok" == record["best"]["status"]
        if record["stop"] == "satisfied":
            assert record["rounds"][-1]["verdict"]["satisfied"] is True
    else:
        assert record["error"]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the retries wait for nothing."""

    async def no_time(seconds: float) -> None:
        assert 0 <= seconds <= 120
        await asyncio.sleep(0)

    monkeypatch.setattr(parts, "RetryPolicy", partial(RetryPolicy, sleep=no_time))


async def storm(
    folder: Path, numbers: list[int]
) -> tuple[list[tuple[list[dict[str, Any]], int]], Storm]:
    """Refine some batches at once; return what came of them and what was asked."""
    weather = Storm()
    with Loopback(weather, kept=True) as server:
        jobs = [
            batch(folder / str(number), server.base_url, number) for number in numbers
        ]
        return await asyncio.gather(*jobs), weather


@pytest.mark.timeout(300)
@pytest.mark.parametrize("trial", numbered(200, smoke=1))
async def test_a_storm_loses_and_invents_nothing(tmp_path: Path, trial: int) -> None:
    """One record a prompt, no number without a judgement, no request too many."""
    numbers = list(range(trial * AT_ONCE, (trial + 1) * AT_ONCE))
    batches, weather = await storm(tmp_path, numbers)
    records = [record for batch_, _ in batches for record in batch_]
    for record in records:
        check_record(record)
    # Each question is sent so often at most, and only so many can be asked.
    assert max(weather.asked.values()) <= ATTEMPTS
    asks = AT_ONCE * PROMPTS * (ROUNDS + ROUNDS - 1)
    assert len(weather.asked) <= asks * (1 + VALIDATION_RETRIES)
    # A known answer is counted, and not sent; of a failed prompt nothing is told.
    counted = sum(one["usage"]["llm_calls"] for one in records if "usage" in one)
    assert counted <= weather.asked.total() + sum(known for _, known in batches)
    assert weather.replies["good"]
    assert weather.replies["429"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("trial", numbered(20, smoke=1))
async def test_the_same_storm_leads_to_the_same(tmp_path: Path, trial: int) -> None:
    """Two runs decide alike, count alike and ask alike."""
    numbers = [1000 + trial]
    (one, first), (two, second) = [
        await storm(tmp_path / name, numbers) for name in ("one", "two")
    ]
    for records, _ in (*one, *two):
        for record in records:
            record.get("settings", {}).pop("base_url", None)  # the port
    assert one == two
    assert first.asked == second.asked
