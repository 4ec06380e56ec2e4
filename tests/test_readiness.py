"""Readiness: what a choice of models needs, told before anything is loaded."""

from __future__ import annotations

import json
import os
from datetime import date
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from huggingface_hub import constants

from socratic_agents.cli import doctor
from socratic_agents.cli.app import main
from socratic_agents.cli.doctor import checks
from socratic_agents.config import card
from socratic_agents.config.card import Card, find_cards
from socratic_agents.config.catalog import KLEIN, QWEN3_VL_2B, Z_IMAGE_TURBO
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import LoadError
from socratic_agents.models import devices
from socratic_agents.runtime import build
from socratic_agents.runtime.readiness import choice, memory, places
from socratic_agents.runtime.readiness.choice import choice_findings
from socratic_agents.runtime.readiness.endings import endings
from socratic_agents.runtime.readiness.memory import memory_findings
from socratic_agents.runtime.readiness.parts import (
    Part,
    Weights,
    model_parts,
    read_weights,
)
from socratic_agents.runtime.readiness.places import check_hub
from socratic_agents.runtime.refiner import Refiner
from tests import tiny_models
from tests.fakes import ScriptedChatModel
from tests.hubs import answering, cached, online
from tests.light import run_light

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from socratic_agents.runtime.readiness.finding import Finding

DAY = date(2026, 11, 29)
HUB = {
    "generator": "owner/model",
    "captioner": "owner/eyes",
    "scorer": None,
    "llm": "openai:x",
    "base_url": "http://127.0.0.1:1/v1",
}


@pytest.fixture(autouse=True)
def at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], None]]:
    """Work in an empty folder, without a card; return what says where the hub is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOCRATIC_ALLOW_POCKET")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(card, "DRIVERS", tmp_path)
    find_cards.cache_clear()
    with online(monkeypatch, tmp_path) as put:
        put("http://127.0.0.1:9")
        yield put
    find_cards.cache_clear()


def found(**settings: Any) -> dict[str, Finding]:
    """Return what is found of a choice, by name."""
    return {one.name: one for one in choice_findings(Settings(**settings), DAY)}


def lines(**settings: Any) -> list[str]:
    """Return what is found of a choice, as it is printed."""
    return [str(one) for one in choice_findings(Settings(**settings), DAY)]


@pytest.fixture
def has_card(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what puts a card of so many GB into the machine, for torch as well."""

    def put(size: float, kind: str = "cuda") -> None:
        one = SimpleNamespace(name="Some Card", total_memory=int(size * 10**9))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: one)
        monkeypatch.setattr(devices, "choose_device", lambda _: torch.device(kind))
        cards = (Card("Some Card", one.total_memory),)
        monkeypatch.setattr(choice, "cards_for", lambda _: cards)
        monkeypatch.setattr(
            "socratic_agents.config.profiles.cards_for", lambda _: cards
        )

    return put


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"llm": "openai:gpt-5.4-mini"}, []),
        ({"llm": "openai:gpt-5-mini"}, ["WARN llm: openai:gpt-5-mini ends on 2026-12"]),
        ({"llm": "openai:gpt-4"}, ["FAIL llm: openai:gpt-4 ended on 2026-10-23; use"]),
        ({"llm": "openai:gpt-4", "base_url": "http://127.0.0.1:1/v1"}, []),
        ({"llm": "anthropic:gpt-4"}, []),
        (
            {"generator": "openai:dall-e-3"},
            ["FAIL generator: openai:dall-e-3 ended on"],
        ),
        (
            {"generator": "https://api.openai.com/v1", "image_model": "gpt-image-1"},
            ["FAIL generator: openai:gpt-image-1 ended on 2026-10-23"],
        ),
        ({"generator": "http://127.0.0.1:1/v1", "image_model": "gpt-image-1"}, []),
        (
            {"generator": "runwayml/stable-diffusion-v1-5"},
            ["such as stable-diffusion-v1-5/stable-diffusion-v1-5"],
        ),
    ],
)
def test_models_that_end_are_told(given: dict[str, Any], expected: list[str]) -> None:
    """A warning before the day and a problem from it on, at their owner's alone."""
    found = [str(one) for one in endings(Settings(**given), DAY)]
    assert len(expected) == len(found)
    assert all(words in line for words, line in zip(expected, found, strict=True))


def test_a_model_has_ended_on_its_day() -> None:
    """The day that is announced is the first one without it."""
    settings = {"llm": "openai:gpt-5-mini"}
    for day, state in ((10, "warning"), (11, "problem")):
        found = checks({}, overrides=settings, today=date(2026, 12, day))
        ends = [one for one in found if "2026-12-11" in one.detail]
        assert [state] == [one.state for one in ends]


def test_the_local_profile_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a card and without the hub: what, why, and what to do; exit code 1."""
    monkeypatch.setenv("SOCRATIC_PROFILE", "local")
    assert 1 == main(["doctor"])
    out = capfd.readouterr().out
    assert "OK settings: profile local-8gb" in out
    assert "none is found, so models run on the processor; 'local' is local-8gb" in out
    assert (
        f"FAIL generator: {KLEIN}: not on this machine, and 127.0.0.1:9 refuses" in out
    )
    assert f"FAIL captioner: {QWEN3_VL_2B}: not on this machine, and 127.0.0.1:9" in out
    assert "FAIL quantization: 4bit needs an NVIDIA graphics card, and mod" in out
    assert "FAIL captioner_quantization: 4bit needs an NVIDIA graphics card" in out
    assert "FAIL offload: model needs a graphics card" in out
    assert "WARN speed: generator and captioner on the processor" in out
    assert "OK recipe: FLUX.2 klein 4B: steps 4" in out
    assert "OK generator licence: Apache-2.0, commercial use free" in out


def test_a_tiny_local_set_is_ready(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """With folders for the models nothing is missing; nobody is asked."""
    monkeypatch.setenv("SOCRATIC_PROFILE", "local")
    monkeypatch.setenv("SOCRATIC_API_KEY", "sk-sentinel")
    generator = tiny_models.tiny_stable_diffusion(tmp_path / "generator")
    captioner = tiny_models.tiny_llava(tmp_path / "captioner")
    given = ["--generator", str(generator), "--captioner", str(captioner)]
    assert 0 == main(["doctor", *given, "--json"])
    told = json.loads(capfd.readouterr().out)
    assert {"schema", "choice", "findings", "llm"} == set(told)
    assert ("local-8gb", str(generator)) == (
        told["choice"]["profile"],
        told["choice"]["generator"],
    )
    by_name = {one["name"]: one for one in told["findings"]}
    assert "a folder of this machine" in by_name["generator"]["detail"]
    assert "by how surely the captioner says yes" in by_name["scorer"]["detail"]
    assert "by arithmetic" in by_name["main memory"]["detail"]
    assert "sentinel" not in str(told)


def test_the_pocket_world_is_ready(capfd: pytest.CaptureFixture[str]) -> None:
    """It needs no hub, no key and no card."""
    assert 0 == main(["doctor"])
    out = capfd.readouterr().out
    assert "OK generator: pocket: embedded in this package" in out
    assert "OK llm: pocket: embedded, no key is needed" in out
    assert "FAIL" not in out


def test_settings_that_cannot_be_read_are_the_only_finding(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """There is no choice then; the exit code is that of wrong usage."""
    assert 2 == main(["doctor", "--rounds", "0", "--json"])
    told = json.loads(capfd.readouterr().out)
    assert told["choice"] is None
    assert "generator" not in {one["name"] for one in told["findings"]}


@pytest.mark.parametrize(
    ("status", "state", "text"),
    [
        (200, "warning", "not here yet; the hub gives it out, at the first run"),
        (404, "problem", "has no model of this name (HTTP 404); check the name"),
        (403, "problem", "gives it only to those who were let in"),
    ],
)
def test_the_hub_is_asked_for_what_is_not_here(
    at: Callable[[str], None], status: int, state: str, text: str
) -> None:
    """Once for each model, and for nothing else."""
    with answering(status) as hub:
        at(hub.url)
        one = found(**HUB)["generator"]
    assert state == one.state
    assert text in one.detail
    assert ["model_index.json", "config.json"] == [
        path.rpartition("/")[2] for _, path in hub.asked
    ]


def test_a_hub_that_fails_is_asked_once(at: Callable[[str], None]) -> None:
    """It fails for the other models as well."""
    with answering(503) as hub:
        at(hub.url)
        told = found(**HUB | {"scorer": "hf-hub:owner/clip"})
    assert 1 == len(hub.asked)
    for role in ("generator", "captioner", "scorer"):
        assert "answers HTTP 503" in told[role].detail


def test_models_in_the_cache_are_found(tmp_path: Path) -> None:
    """With their sizes and what their pages say of the licence; nobody is asked."""
    cache = constants.HF_HUB_CACHE
    eyes = cached(tiny_models.tiny_blip2(tmp_path / "b"), cache, "owner/eyes")
    cached(tiny_models.tiny_clip(tmp_path / "c"), cache, "owner/clip")
    cached(tiny_models.tiny_stable_diffusion(tmp_path / "a"), cache)
    (eyes / "README.md").write_text("---\nlicense: bsd-3-clause\n---\nlicense: no\n")
    told = found(**HUB | {"scorer": "hf-hub:owner/clip"})
    for role in ("generator", "captioner", "scorer"):
        assert "ok" == told[role].state
        assert "in the hub's cache" in told[role].detail
    assert "bsd-3-clause, as its folder says" in told["captioner licence"].detail
    assert "warning" == told["scorer licence"].state
    assert "weights generator 0.0 + captioner 0.0" in told["main memory"].detail


def test_what_is_kept_here_is_known_without_asking(tmp_path: Path) -> None:
    """The pocket weights lie in the package; an object or a server keeps nothing."""
    pocket = [
        Part(role=role, name="pocket", backend="pocket").kept
        for role in ("generator", "final_generator", "captioner")
    ]
    assert pocket[0] == pocket[1] != pocket[2]
    assert all(one is not None and one.is_dir() for one in pocket)
    assert Part(role="generator", name="draw", backend="object").kept is None
    eyes = tiny_models.tiny_blip2(tmp_path / "b")
    assert eyes == Part(role="captioner", name=str(eyes), backend="transformers").kept


def test_the_hub_is_not_looked_into_without_its_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which one to install is said in place of where the model is."""

    def missing(_: Part) -> None:
        raise ModuleNotFoundError(name="huggingface_hub")

    monkeypatch.setattr(places, "_here", missing)
    part = Part(role="generator", name="owner/model", backend="diffusers")
    told = places.locate(part, [])
    assert "not looked for on the hub; run pip install 'socratic-agents[" in str(told)


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (b"no front matter\nlicense: mit\n", None),
        (b"---\nlicense_name: 'my own'\n---\n", "my own"),
        (b"---\ntags: []\n---\n", None),
    ],
)
def test_a_folder_may_say_its_licence(
    tmp_path: Path, page: bytes, told: str | None
) -> None:
    """In the head of its page, where hubs look for it."""
    folder = tiny_models.tiny_llava(tmp_path / "model")
    (folder / "README.md").write_bytes(page)
    one = found(**HUB | {"captioner": str(folder)})["captioner licence"]
    assert ("ok" if told else "warning") == one.state
    assert (told or "not known here") in one.detail


def test_what_is_wrong_with_a_folder_is_told(tmp_path: Path) -> None:
    """As opening it would say, and what a broken copy lacks."""
    folder = tiny_models.tiny_stable_diffusion(tmp_path / "model")
    for missing, text in (
        ("unet/diffusion_pytorch_model.safetensors", "lacks unet/*.safetensors; copy"),
        ("model_index.json", "with model_index.json, got"),
    ):
        (folder / missing).unlink()
        one = found(**HUB | {"generator": str(folder)})["generator"]
        assert "problem" == one.state
        assert text in one.detail
    nowhere = found(**HUB | {"generator": "./nowhere"})["generator"]
    assert "there is no such folder" in nowhere.detail


def test_a_tag_that_the_hub_does_not_have_is_not_looked_for() -> None:
    """Some weights of open_clip come from elsewhere."""
    told = found(**HUB | {"scorer": "ViT-B-32/nothing"})["scorer"]
    assert ("warning", True) == (told.state, "not of the hub" in told.detail)


async def draw(prompt: str, seed: int) -> None: ...


def test_objects_and_back_ends_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they need, they know themselves."""
    told = found(
        generator=draw, captioner="pocket", llm=ScriptedChatModel(), allow_pocket=True
    )
    assert "draw: an object of a program" in told["generator"].detail
    assert "ScriptedChatModel: an object" in told["llm"].detail
    assert "generator licence" not in told
    part = Part(role="generator", name="mine:x", backend="mine")
    assert "opened by the back end 'mine'" == part.note
    assert read_weights(part, None) is None


def test_pocket_eyes_beside_another_generator_are_a_problem() -> None:
    """They are refused when it is opened, so it is told before."""
    told = found(**HUB | {"captioner": "pocket"})["pocket models"]
    assert "problem" == told.state
    assert "pocket captioner" in told.detail


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        ({}, "llm", "FAIL llm: expected a key for llm 'openai:x', got none"),
        (
            {"api_key": "sk-sentinel"},
            "llm",
            "OK llm: openai:x at https://api.openai.com, with the key of the setting",
        ),
        (
            {"base_url": "http://me:sentinel@127.0.0.1:1/v1"},
            "llm",
            "OK llm: openai:x at http://127.0.0.1:1/v1, with no key of ours",
        ),
        ({"llm": "nobody:x"}, "llm", "FAIL llm: expected a language model such as"),
        (
            {"judge": "never", "optimizer": draw, "guard": None, "selector": "first"},
            "llm",
            "OK llm: openai:x: no role asks it",
        ),
        (
            {"generator": "openai:i", "image_api_key": "sk-sentinel"},
            "images server",
            "with the key of the setting image_api_key",
        ),
        (
            {"generator": "openai:i", "api_key": "sk-sentinel"},
            "images server",
            "OK images server: openai:i at https://api.openai.com/v1, with the key of",
        ),
        (
            {"generator": "openai:i", "llm": "anthropic:x", "api_key": "sk-sentinel"},
            "images server",
            "FAIL images server: expected a key for generator 'openai:i', got none",
        ),
        (
            {"generator": "http://127.0.0.1:1/v1"},
            "images server",
            "OK images server: http://127.0.0.1:1/v1 at http://127.0.0.1:1/v1, with no",
        ),
    ],
)
def test_each_server_has_its_key_or_not(
    given: dict[str, Any], name: str, expected: str
) -> None:
    """Which one and for which address, and never the key."""
    told = found(**HUB | {"base_url": None, "captioner": draw} | given)[name]
    assert expected in str(told)
    assert "sentinel" not in str(told)


def test_a_final_images_server_is_told_too() -> None:
    """It has a key of its own, or none."""
    told = found(**HUB | {"final_generator": "http://127.0.0.1:1/v1"})
    assert "with no key of ours" in told["final images server"].detail
    assert "images server" not in told


def test_a_key_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's own variable counts at its own address."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sentinel")
    told = found(**HUB | {"base_url": None})["llm"]
    assert "with the key of OPENAI_API_KEY" in told.detail
    told = found(**HUB)["llm"]
    assert "with no key of ours" in told.detail


@pytest.mark.parametrize(
    ("size", "given", "state", "text"),
    [
        (
            8.6,
            {"profile": "local-8gb"},
            "ok",
            "generator 2.4 + captioner 1.3, of what",
        ),
        (16.9, {"profile": "local-16gb"}, "ok", "the largest part = 15.0 GB by"),
        (15.6, {"profile": "local-16gb"}, "warning", "little room to compute in"),
        (25.7, {"profile": "local-24gb"}, "ok", "the largest part = 21.2 GB by"),
        (
            16.9,
            {"profile": "local-24gb", "captioner_offload": "model"},
            "ok",
            "captioner 8.9, of what is offloaded the largest part = 12.3 GB",
        ),
        (16.9, {"profile": "local-24gb"}, "problem", "they do not fit; choose"),
        (
            85.0,
            {"profile": "local-80gb", "offload": "model"},
            "ok",
            "captioner 17.5, of what is offloaded the largest part = 58.4 GB",
        ),
        (
            85.0,
            {"profile": "local-80gb"},
            "warning",
            "final_generator 57.7 + captioner 17.5 = 95.7 GB",
        ),
        (25.7, {"profile": "local-24gb", "offload": "group"}, "ok", "generator 1.2 +"),
        (25.7, {"profile": "local-24gb", "dtype": "float32"}, "problem", "= 42.4 GB"),
    ],
)
def test_the_card_holds_the_weights_or_not(
    has_card: Callable[[float], None],
    size: float,
    given: dict[str, Any],
    state: str,
    text: str,
) -> None:
    """By arithmetic, which is said; of what is offloaded the largest part is there."""
    has_card(size)
    told = found(**given, api_key="k")["card memory"]
    assert text in told.detail
    assert "by arithmetic, Some Card has" in told.detail
    assert state == told.state


def test_main_memory_holds_what_is_offloaded(
    has_card: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a processor all of it, in its own number format."""
    monkeypatch.setattr(memory, "_machine", lambda: 16 * 10**9)
    weights = {"generator": Weights(parameters=10**10, largest=6e9)}
    settings = Settings(profile="local-24gb")
    told = list(memory_findings(settings, weights, (Card("a card", 24 * 10**9),)))
    assert ["card memory", "main memory"] == [one.name for one in told]
    assert "weights generator 20.0 = 20.0 GB by arithmetic, the machine" in str(told[1])
    assert "problem" == told[1].state
    (alone,) = memory_findings(settings.but(offload=None), weights, ())
    assert "generator 40.0" in alone.detail
    assert [] == list(memory_findings(settings, {}, (Card("a card", 1),)))


def test_a_machine_may_not_say_how_much_memory_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then nothing is said to be too large for it."""
    assert memory._machine() > 10**8
    monkeypatch.delattr(os, "sysconf")
    assert memory._machine() > 10**15


def test_a_card_that_torch_cannot_use_is_a_problem(
    has_card: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build for the processor, or a driver that is missing."""
    has_card(24.0, "cpu")
    told = found(profile="local", api_key="k")
    assert "problem" == told["card"].state
    assert "Some Card, 24.0 GB is there, but this torch cannot use it" in str(told)
    assert "problem" == told["offload"].state
    has_card(24.0, "mps")
    assert "Some Card, 24.0 GB; 'local' is local-24gb" in str(found()["card"])
    monkeypatch.setattr(choice, "find_spec", lambda _: None)
    assert "Some Card, 24.0 GB; 'local' is local-24gb" in str(found()["card"])


def test_a_device_that_is_not_there_is_a_problem() -> None:
    """It is named with those that are."""
    told = found(device="cuda:7")["card"]
    assert "problem" == told.state
    assert "expected a device of this machine (cpu), got 'cuda:7'" in told.detail


def test_what_the_files_say_goes_before_the_catalog(tmp_path: Path) -> None:
    """Numbers are counted by the headers, of one variant, and of the largest part."""
    folder = tiny_models.tiny_stable_diffusion(tmp_path / "model")
    part = Part(role="generator", name=Z_IMAGE_TURBO, backend="diffusers")
    told = read_weights(part, folder)
    assert told is not None
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(
        unet.read_bytes()
    )
    (folder / "unet" / "broken.safetensors").write_bytes(b"\xff" * 9)
    assert told == read_weights(part, folder)
    assert 0 < told.largest < told.parameters < 10**6
    catalog = read_weights(part, None)
    assert catalog is not None
    assert (20.5, 12.3) == (
        catalog.parameters * 2 / 10**9,
        catalog.largest * 2 / 10**9,
    )


def test_every_image_model_is_a_part() -> None:
    """The final generator too; what another part plays is no model of its own."""
    parts = {one.role: one for one in model_parts(Settings(profile="local-80gb"))}
    assert ["generator", "final_generator", "captioner", "scorer"] == list(parts)
    assert not parts["scorer"].is_own
    assert "Qwen-Image" in found(profile="local-80gb")["final_recipe"].detail


def test_a_package_that_nobody_needs_may_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a choice needs is told once, listed or not."""
    monkeypatch.setattr(doctor, "PACKAGES", {"no-such": "no_such"})
    (told,) = doctor._packages({})
    assert "OK no-such: not installed, and these settings need it not" == str(told)
    (needed,) = doctor._packages({"no_such": "scorer", "json": "scorer"})
    assert "FAIL no_such: not installed, and scorer needs it" in str(needed)


DOCTOR = """
import contextlib, io, json
from socratic_agents.cli.app import main
told = []
for command in {commands!r}:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["doctor", *command])
    told.append([code, out.getvalue()])
print(json.dumps(told))
"""


def test_the_doctor_needs_no_torch(tmp_path: Path) -> None:
    """It says of each choice whether that needs it, and what to install."""
    servers = ["--generator", "http://127.0.0.1:1/v1", "--scorer", "none"]
    commands = [[], ["--generator", "owner/model"], servers]
    printed = run_light(DOCTOR.format(commands=commands), tmp_path)
    pocket, hub, remote = json.loads(printed.splitlines()[-1])
    line = "run pip install 'socratic-agents[local]'"
    assert 1 == pocket[0] == hub[0]
    assert f"FAIL torch: not installed, and generator needs it; {line}" in pocket[1]
    assert f"FAIL accelerate: not installed, and generator needs it; {line}" in hub[1]
    assert "generator needs it" not in remote[1]
    assert f"FAIL torch: not installed, and captioner needs it; {line}" in remote[1]


def test_what_a_generator_is_put_together_from_is_looked_for(tmp_path: Path) -> None:
    """By path here, by name on the hub; a name that can only be a path is a problem."""
    vae = tiny_models.tiny_stable_diffusion(tmp_path / "other")
    told = {
        str(one)
        for one in choice_findings(
            Settings(**HUB, vae=vae, lora="owner/style:0.5,loras/gone.safetensors"), DAY
        )
        if one.name in {"vae", "lora"}
    }
    assert {
        f"OK vae: {vae}: on this machine",
        "WARN lora: owner/style: not a path of this machine, so the hub is asked for it",
        "FAIL lora: loras/gone.safetensors: there is none; check the path",
    } == told


def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub() -> None:
    """A folder and a file look like an owner and a model, but for the ending."""
    told = found(**HUB | {"generator": "models/gone.safetensors"})
    assert told["generator"].state == "problem"
    assert "there is none; check the path" in told["generator"].detail


def test_a_single_file_is_looked_into(tmp_path: Path) -> None:
    """What it holds is told, and how large it is."""
    folder = tiny_models.tiny_stable_diffusion(tmp_path / "model")
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    told = found(**HUB | {"generator": str(unet)})
    assert "a file of this machine, a denoiser alone" in told["generator"].detail
    assert "weights generator 0.0" in told["main memory"].detail
    vae = folder / "vae" / "diffusion_pytorch_model.safetensors"
    told = found(**HUB | {"generator": str(vae)})
    assert "which is a VAE; give it as vae" in told["generator"].detail
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"x")
    told = found(**HUB | {"generator": str(broken)})
    assert "truncated or damaged" in told["generator"].detail
    told = found(**HUB | {"generator": "owner/model/it.safetensors"})
    assert "a file of the hub, which is asked for it" in told["generator"].detail
    told = found(**HUB | {"generator": "x" * 300})
    assert "problem" == told["generator"].state


def test_packages_that_only_some_settings_need() -> None:
    """Each with the setting that needs it first."""
    needed = choice.needed_packages(
        Settings(**HUB, captioner_quantization="4bit", lora="a/b")
    )
    assert ("captioner_quantization", "lora") == (
        needed["bitsandbytes"],
        needed["peft"],
    )
    assert "captioner" == needed["torchvision"]
    assert "llguidance" not in needed
    assert "llm" == choice.needed_packages(Settings(profile="local"))["llguidance"]
    fp8 = choice.needed_packages(Settings(**HUB, quantization="fp8"))
    assert "bitsandbytes" not in fp8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"captioner": "owner/eyes"},
            "expected an image-text-to-text model, got 'owner/eyes', which is not on",
        ),
        ({"scorer": "hf-hub:owner/clip"}, "expected a CLIP model, got 'hf-hub:owner"),
        ({"generator": "owner/model"}, "expected a text-to-image model, got 'owner/mo"),
    ],
)
async def test_nothing_is_loaded_before_all_can_be_had(
    given: dict[str, Any],
    message: str,
    at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong name of one model is told before gigabytes of another are fetched."""
    monkeypatch.setattr(build, "open_devices", None)  # it would be called
    with answering(404) as hub:
        at(hub.url)
        refiner = Refiner(**given, allow_pocket=True)
        with pytest.raises(LoadError, match=message):
            await refiner.refine("a red circle")
        await refiner.aclose()


def test_what_is_here_is_not_asked_for(tmp_path: Path) -> None:
    """Nor is what is not of the hub, or is told where it is opened."""
    cached(tiny_models.tiny_stable_diffusion(tmp_path / "a"), constants.HF_HUB_CACHE)
    eyes = str(tiny_models.tiny_llava(tmp_path / "eyes"))
    for given in ({"captioner": eyes}, {"captioner": eyes, "scorer": "ViT-B-32/none"}):
        check_hub(Settings(**HUB | given))
    check_hub(Settings(**HUB | {"generator": "./nowhere", "captioner": eyes}))
    with pytest.raises(LoadError, match="got 'owner/eyes', which is not on"):
        check_hub(Settings(**HUB))
