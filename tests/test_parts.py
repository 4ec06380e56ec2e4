"""The parts with real classes: tiny models, an images server, a chat server."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from PIL import Image
from pydantic import SecretStr

from socratic_agents import Refiner, Settings, StopReason
from socratic_agents.agents.judges import Judgement
from socratic_agents.config.final import final_settings
from socratic_agents.core.errors import (
    CallError,
    ConfigurationError,
    LoadError,
    NothingDrawnError,
)
from socratic_agents.core.history import History, Status, Verdict
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.structured import StructuredCaller
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.clip import Clip
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.pocket import PocketChatModel
from socratic_agents.runtime.generators import images_key
from socratic_agents.runtime.language_model import (
    language_model_address,
    open_language_model,
)
from socratic_agents.scheduler.requests import current_session
from tests import tiny_models
from tests.loopback import Loopback, Reply, chat, error
from tests.test_network import reply, serving

if TYPE_CHECKING:
    from pathlib import Path


async def optimize(history: History) -> tuple[str, ...]:
    return (f"red {history.user_prompt}", f"blue {history.user_prompt}")


async def caption(image: Image.Image) -> str:
    return "a red circle"


async def generate(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (1, 1), (seed, 0, 0))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "generator": str(tiny_models.tiny_stable_diffusion(folder / "generator")),
        "captioner": str(tiny_models.tiny_blip2(folder / "captioner")),
        "scorer": str(tiny_models.tiny_clip(folder / "scorer")),
    }


def _refiner(**overrides: Any) -> Refiner:
    fakes: dict[str, Any] = {
        "generator": generate,
        "captioner": caption,
        "scorer": None,
        "optimizer": optimize,
        "judge": "never",
        "selector": "last",
        "prompts_per_round": 2,
        "rounds": 2,
        "device": "cpu",
        "seed": 7,
    }
    return Refiner(**(fakes | overrides))


async def test_folders_are_opened_as_models(models: dict[str, str]) -> None:
    """Names of folders drive real classes, and the same seed is the same image."""
    runs = []
    for _ in range(2):
        options = {"steps": 2, "selector": "clip", "strict": True}
        async with _refiner(**models, **options) as refiner:
            runs.append(await refiner.refine("circle"))
    first, second = runs
    assert first.history == second.history  # images, captions and scores, every bit
    assert 3 == first.usage.images
    for candidate in first.history.candidates:
        assert candidate.image is not None
        assert (16, 16) == candidate.image.size
        assert set(candidate.scores) == {"clip"}
    assert first.best.score == max(c.score or 0 for c in first.history.candidates)


async def test_neighbours_do_not_change_a_result(models: dict[str, str]) -> None:
    """A prompt among others gives what it gives alone, where that is asked for."""
    options = {"steps": 2, "selector": "clip", "strict": True}
    async with _refiner(**models, **options) as refiner:
        alone = await refiner.refine("circle")
        prompts = ["square", "circle", "triangle"]
        many = {o.index: o async for o in refiner.refine_many(prompts)}
    assert alone.history == many[1].history


async def test_opened_objects_are_taken_as_they_are(models: dict[str, str]) -> None:
    """A pipeline, and our own classes, need no name."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(models["generator"])
    opened = {
        "captioner": Captioner.load(models["captioner"], device="cpu"),
        "scorer": Clip.load(models["scorer"], device="cpu"),
    }
    for generator in (pipeline, Diffusion(pipeline, steps=2)):
        steps = None if isinstance(generator, Diffusion) else 2
        async with _refiner(generator=generator, steps=steps, **opened) as refiner:
            outcome = await refiner.refine("circle")
        assert "StableDiffusionPipeline" == type(pipeline).__name__
        assert 3 == outcome.usage.images
        assert type(generator).__name__ == outcome.settings["generator"]


async def test_the_prompt_is_short_enough_for_the_generator(
    models: dict[str, str],
) -> None:
    """The optimizer is told how many words the text encoder reads."""
    llm_says = json.dumps(
        {"reason": "", "prompts": ["word " * 80, "one round red thing"]}
    )
    with Loopback(chat(llm_says)) as server:
        async with _refiner(
            generator=models["generator"],
            steps=1,
            optimizer="llm",
            prompts_per_round=1,
            llm="openai:loopback",
            base_url=server.base_url,
        ) as refiner:
            outcome = await refiner.refine("circle")
    assert ["circle", "one round red thing"] == [
        c.prompt for c in outcome.history.candidates
    ]


@pytest.mark.parametrize("part", ["generator", "captioner", "scorer"])
async def test_a_folder_that_is_no_model_is_told(part: str, tmp_path: Path) -> None:
    """The error comes when the refiner is opened, in one line."""
    refiner = _refiner(**{part: str(tmp_path)})
    with pytest.raises(LoadError, match="expected the folder of a model") as caught:
        await refiner.__aenter__()
    assert "\n" not in str(caught.value)


async def test_offloading_is_refused_where_there_is_nothing_to_offload(
    models: dict[str, str],
) -> None:
    """Settings reach the pipeline's loader, and its word comes back."""
    refiner = _refiner(generator=models["generator"], offload="model", device=None)
    with pytest.raises(ConfigurationError, match="leave offload out"):
        await refiner.__aenter__()


async def test_a_language_model_is_named_with_its_provider() -> None:
    """No provider is guessed: a guess would be found wrong only by the first call."""
    refiner = _refiner(optimizer="llm", llm="gpt-tiny")
    with pytest.raises(ConfigurationError, match="write 'openai:gpt-tiny'"):
        await refiner.__aenter__()


async def test_an_images_server_draws() -> None:
    """An address is an images server; size, model and seed reach it."""
    png = io.BytesIO()
    Image.effect_noise((8, 8), 90).convert("RGB").save(png, "PNG")
    data = [{"b64_json": base64.b64encode(png.getvalue()).decode()}]
    with Loopback(Reply(json.dumps({"created": 1, "data": data}))) as server:
        async with _refiner(
            generator=server.base_url, image_model="tiny", height=64, rounds=1
        ) as refiner:
            outcome = await refiner.refine("a cat")
    assert Status.OK is outcome.best.status
    (request,) = server.requests
    assert ("64x64", "tiny", 7, "a cat") == (
        request.body["size"],
        request.body["model"],
        request.body["seed"],
        request.body["prompt"],
    )


async def test_image_settings_reach_the_server() -> None:
    """Options, rate and timeout are the images server's own, and what is lost is paid."""
    png = io.BytesIO()
    Image.effect_noise((8, 8), 90).convert("RGB").save(png, "PNG")
    data = [{"b64_json": base64.b64encode(png.getvalue()).decode()}]
    drawn = Reply(json.dumps({"created": 1, "data": data}))
    with Loopback(Reply(reset=True), drawn) as server:
        async with _refiner(
            generator=server.base_url,
            image_options={"size": "auto", "seed": None, "quality": "high"},
            image_concurrency=1,
            image_rate=6000,
            rounds=1,
            timeout=1,
            prices="image=0.5",
        ) as refiner:
            outcome = await refiner.refine("a cat")
    assert Status.OK is outcome.best.status
    assert (1, 1.0) == (outcome.usage.images, outcome.usage.money)
    lost, request = server.requests
    assert lost.body == request.body
    expected = {"n", "prompt", "size", "quality", "response_format"}
    assert expected == request.body.keys()
    assert ("auto", "high") == (request.body["size"], request.body["quality"])
    assert "300.0" == request.headers["x-stainless-read-timeout"]


async def test_one_limit_is_for_all_who_ask_an_images_server() -> None:
    """Two refiners, or two devices, do not get twice what an account may do."""
    running, most = 0, 0
    png = io.BytesIO()
    Image.effect_noise((8, 8), 90).convert("RGB").save(png, "PNG")
    data = [{"b64_json": base64.b64encode(png.getvalue()).decode()}]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.05)
        running -= 1
        reply(handler, json.dumps({"data": data}).encode())

    with serving(answer) as url:
        options = {"generator": url, "image_concurrency": 1, "rounds": 1}
        async with _refiner(**options) as one, _refiner(**options) as other:
            await asyncio.gather(*(each.refine("a cat") for each in (one, other) * 2))
    assert 1 == most


async def test_a_limit_of_seconds_ends_requests_to_an_images_server() -> None:
    """It is not waited for, as the budget says, for as long as an image may take."""
    with Loopback(Reply(stall=True)) as server:
        start = time.monotonic()
        async with _refiner(generator=server.base_url, budget="seconds=0.3") as refiner:
            with pytest.raises(NothingDrawnError, match="an image within the budget"):
                await refiner.refine("a cat")
        assert time.monotonic() - start < 10


async def test_a_limit_of_seconds_ends_requests_to_a_language_model() -> None:
    """What was drawn is returned, and the timeout of a request is not waited for."""
    with Loopback(Reply(stall=True)) as server:
        start = time.monotonic()
        async with _refiner(
            judge="caption",
            llm="openai:loopback",
            base_url=server.base_url,
            budget="seconds=0.5",
        ) as refiner:
            outcome = await refiner.refine("a cat")
        assert time.monotonic() - start < 10
    assert StopReason.BUDGET_SPENT is outcome.stop


async def test_a_clients_own_timeout_is_for_the_whole_request() -> None:
    """A model object's client waits anew after each byte; its requests end in time."""

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(60):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    with serving(drip) as url:
        llm = ChatOpenAI(model="m", base_url=url, api_key=SecretStr("k"), timeout=0.2)
        caller = StructuredCaller(llm, Judgement, retries=RetryPolicy(attempts=1))
        start = time.monotonic()
        with pytest.raises(CallError, match="Timeout"):
            await caller([HumanMessage("?")])
        assert time.monotonic() - start < 2


def test_an_address_in_a_file_gets_no_key_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder of somebody else's cannot have OpenAI's key sent to a server of theirs."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sentinel")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-sentinel")
    monkeypatch.chdir(tmp_path)
    says = json.dumps({"reason": "", "missing": [], "satisfied": True})
    with Loopback(chat(says)) as server:
        (tmp_path / "socratic.toml").write_text(
            f'llm = "openai:loopback"\nbase_url = "{server.base_url}"\n'
        )
        asyncio.run(_refiner(judge="caption").ainvoke("a cat"))
        assert "sentinel" not in str(server.requests)
        monkeypatch.setenv("SOCRATIC_API_KEY", "sk-theirs")
        asyncio.run(_refiner(judge="caption").ainvoke("a cat"))
    assert "Bearer sk-theirs" == server.requests[-1].headers["authorization"]


@pytest.mark.parametrize(
    ("base_url", "key"),
    [
        (None, "sk-home"),
        ("https://api.openai.com/v1", "sk-home"),
        ("http://api.openai.com/v1", "none"),
        ("https://api.openai.com.example.org/v1", "none"),
        ("https://example.org/api.openai.com", "none"),
        ("http://localhost:8000/v1", "none"),
    ],
)
def test_a_key_goes_where_it_belongs(
    base_url: str | None, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider's own address gets the provider's key, and no other does."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-home")
    llm: Any = open_language_model(Settings(llm="openai:m", base_url=base_url))
    assert key == llm.openai_api_key.get_secret_value()


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"llm": "openai:m"}, None),
        ({"llm": "openai:m", "base_url": "http://images:80/"}, "sk-mine"),
        ({"llm": "openai:m", "base_url": "https://images/v1"}, None),
        ({"llm": "somebody:m"}, None),
        ({"llm": "pocket"}, "sk-mine"),
        ({"llm": PocketChatModel()}, "sk-mine"),
        ({"llm": "openai:m", "image_api_key": "sk-theirs"}, "sk-theirs"),
        ({"generator": "openai:i", "llm": "openai:m"}, "sk-mine"),
        ({"generator": "openai:i", "llm": "anthropic:m"}, None),
        ({"generator": "openai:i", "llm": "openai:m", "base_url": "http://x/v1"}, None),
        ({"generator": "owner/model"}, None),
    ],
)
def test_the_language_models_key_goes_to_no_other_server(
    given: dict[str, Any], key: str | None
) -> None:
    """An images server gets it where it is the same server, or nobody else is meant."""
    defaults = {"generator": "http://images/v1", "api_key": "sk-mine"}
    found = images_key(Settings(**defaults | given))
    assert key == (found and found.get_secret_value())


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ({}, ("sk-images", None)),
        ({"image_api_key": None}, ("sk-mine", None)),
        ({"llm": "openai:m", "image_api_key": None}, (None, "sk-mine")),
        ({"final_generator": "HTTP://IMAGES:80/v2".lower()}, ("sk-images",) * 2),
        ({"generator": "owner/model"}, (None, "sk-images")),
    ],
)
def test_a_final_images_server_elsewhere_gets_no_key_of_the_drafts(
    given: dict[str, Any], keys: tuple[str | None, str | None]
) -> None:
    """Each key is for one server; where there is one, it is for that."""
    defaults = {
        "generator": "http://images/v1",
        "final_generator": "openai:i",
        "llm": "pocket",
        "api_key": "sk-mine",
        "image_api_key": "sk-images",
    }
    settings = Settings(**defaults | given)
    final = final_settings(settings)
    assert final is not None
    found = (images_key(one) for one in (settings, final))
    drafts, last = (key and key.get_secret_value() for key in found)
    assert keys == (drafts if settings.generator != "owner/model" else None, last)


def test_the_environment_can_lead_the_key_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where OpenAI's client looks for an address, the language model answers there."""
    settings = Settings(generator="openai:i", llm="openai:m", api_key="sk-mine")
    assert "https://api.openai.com" == language_model_address(settings)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy/v1")
    assert "http://proxy/v1" == language_model_address(settings)
    assert images_key(settings) is None


async def test_an_images_server_that_fails_is_told() -> None:
    """Its error is the candidate's."""
    with Loopback(error(400)) as server:
        async with _refiner(generator=server.base_url) as refiner:
            with pytest.raises(NothingDrawnError, match="generation_failed"):
                await refiner.refine("a cat")


def test_a_chat_server_serves_one_loop_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PerLoopClient of a loop that ended are not used in the next one.

    Real servers keep connections open; this one must not wait for them for ever.
    """
    monkeypatch.setattr(BaseHTTPRequestHandler, "protocol_version", "HTTP/1.1")
    monkeypatch.setattr(BaseHTTPRequestHandler, "timeout", 5)
    says = json.dumps({"reason": "", "missing": [], "satisfied": True})
    with Loopback(chat(says)) as server:
        refiner = _refiner(
            judge="caption", llm="openai:loopback", base_url=server.base_url
        )
        outcomes = [asyncio.run(refiner.ainvoke("a cat")) for _ in range(3)]
        outcomes += [refiner.invoke("a cat")]
        outcomes += refiner.batch(["a cat", "a dog"])
        refiner.close()
    for outcome in outcomes:
        assert StopReason.SATISFIED is outcome.stop
        assert (1, 11, 7) == (
            outcome.usage.llm_calls,
            outcome.usage.input_tokens,
            outcome.usage.output_tokens,
        )
    assert 6 == len(server.requests)


async def test_the_worker_knows_which_loops_think() -> None:
    """A loop thinks from the judge on until it asks for the next image."""
    thinking, loops = dict[str, list[int]](), set[int]()

    def note(what: str) -> None:
        assert refiner._worker is not None
        loop = current_session.get()
        assert loop is not None
        loops.add(loop.order)
        thinks = len(refiner._worker._policy.think_times)
        thinking.setdefault(what, []).append(thinks)

    async def judge(history: History) -> Verdict:
        note("judge")
        return Verdict.unjudged("no")

    async def rewrite(history: History) -> tuple[str, ...]:
        note("optimize")
        return await optimize(history)

    async def see(image: Image.Image) -> str:
        note("caption")
        return await caption(image)

    def draw(prompt: str, seed: int) -> Image.Image:
        return Image.new("RGB", (1, 1), "red")

    async with _refiner(
        generator=draw, captioner=see, judge=judge, optimizer=rewrite
    ) as refiner:
        for _ in range(2):
            await refiner.refine("circle")
            assert refiner._worker is not None
            assert 0 == len(refiner._worker._policy.think_times)
    assert {"judge": [1] * 4, "optimize": [1] * 2, "caption": [0] * 6} == thinking
    assert 2 == len(loops)


def test_what_calls_cost_is_kept_of_models_with_a_name(
    models: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The next run knows it; of objects nothing is kept."""
    monkeypatch.setenv("SOCRATIC_CACHE", str(tmp_path))
    for given in ({}, models):
        assert not list(tmp_path.iterdir())
        refiner = _refiner(**given, steps=1)
        for _ in range(3):
            refiner.invoke("circle")
        refiner.close()
    kept = json.loads((tmp_path / "calibration.json").read_bytes())
    assert set(models) == {one["stage"] for one in kept["curves"]}
    assert models["generator"] in kept["curves"][0]["model"]


@pytest.mark.parametrize(
    ("llm", "seconds"), [("openai:some-model", 7.0), ("pocket", None)]
)
async def test_a_models_server_has_the_settings_timeout(
    llm: str, seconds: float | None
) -> None:
    """What computes on this machine takes the time that it takes."""
    at = "http://127.0.0.1:9/v1" if seconds else None
    settings = Settings(llm=llm, timeout=7.0, base_url=at, judge="caption")
    async with Refiner(settings) as refiner:
        assert refiner._opened is not None
        assert seconds == refiner._opened.retries.server.timeout
