"""The hub is asked once, and what stands in the way is told at once and truthfully."""

from __future__ import annotations

import json
import socket
import ssl
from typing import TYPE_CHECKING, Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from socratic_agents.core.errors import LoadError
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.clip import Clip
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.models.hub import (
    cached_folder,
    hub_options,
    hub_problem,
    unfinished,
)
from tests import tiny_models
from tests.hubs import COMMIT, answering, cached, online

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "owner/model"


@pytest.fixture(autouse=True)
def at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[str], None]]:
    """Return what says where the hub is; it may be asked."""
    with online(monkeypatch, tmp_path) as put:
        yield put


def problem(name: str = NAME, revision: str | None = None) -> str:
    """Return what stands in the way, whole."""
    found = hub_problem(name, index="config.json", revision=revision)
    assert found is not None
    return f"{found.reason}; {found.advice}"


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (401, {}, "no model of this name, or not for everybody (HTTP 401; no token"),
        (401, {"x_error_code": "RepoNotFound"}, "no model of this name, or not for"),
        (401, {"x_error_code": "GatedRepo"}, "only to those who were let in"),
        (403, {"x_error_code": "GatedRepo"}, "it is gated: 127.0.0.1"),
        (403, {}, "accept its terms at http://127.0.0.1"),
        (403, {"x_error_message": "Ask  first"}, "(HTTP 403: Ask first)"),
        (404, {"x_error_code": "RepoNotFound"}, "has no model of this name (HTTP 404)"),
        (404, {}, "it is not found: 127.0.0.1"),
        (404, {"x_error_code": "RevisionNotFound"}, "has no revision 'v9' of it"),
        (404, {"x_error_code": "EntryNotFound"}, "has it without config.json"),
        (407, {}, "the proxy of the environment wants a password"),
        (429, {}, "answers HTTP 429; try again later"),
        (503, {}, "answers HTTP 503; try again later"),
    ],
)
def test_each_answer_of_the_hub_is_told(
    monkeypatch: pytest.MonkeyPatch,
    at: Callable[[str], None],
    status: int,
    headers: dict[str, str],
    told: str,
) -> None:
    """After one request for the head of one file."""
    with answering(status, **headers) as hub:
        at(hub.url)
        assert told in problem(revision="v9")
    assert [("HEAD", "/owner/model/resolve/v9/config.json")] == hub.asked


@pytest.mark.parametrize("status", [200, 302, 307])
def test_what_the_hub_gives_out_is_no_problem(
    monkeypatch: pytest.MonkeyPatch, at: Callable[[str], None], status: int
) -> None:
    """Nor is a name under which it stood before; nobody is followed for that."""
    with answering(status, location="http://127.0.0.1:9/elsewhere") as hub:
        at(hub.url)
        given = hub_options("a model", NAME, index="config.json", revision=COMMIT)
    assert {"revision": COMMIT} == given
    assert 1 == len(hub.asked)


def test_a_token_that_does_not_help_is_told(
    monkeypatch: pytest.MonkeyPatch, at: Callable[[str], None]
) -> None:
    """Without its value."""
    monkeypatch.setenv("HF_TOKEN", "hf_sentinel")
    with answering(401) as hub:
        at(hub.url)
        told = problem()
    assert "the token of this machine" in told
    assert "sentinel" not in told


def test_a_server_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, at: Callable[[str], None]
) -> None:
    """A login in its address is not."""
    at("http://me:sentinel@127.0.0.1:9")
    assert "127.0.0.1:9 refuses the connection; check the network" in problem()
    assert "sentinel" not in problem()


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (
            socket.gaierror(-2, "Name or service not known"),
            "no address is known of hub",
        ),
        (ssl.SSLCertVerificationError("self-signed"), "certificate of hub.test cannot"),
        (TimeoutError("timed out"), "hub.test does not answer within 10 s"),
        (OSError(101, "Network is unreachable"), "hub.test cannot be reached (OSError"),
    ],
)
def test_the_first_cause_is_told(
    monkeypatch: pytest.MonkeyPatch,
    at: Callable[[str], None],
    cause: Exception,
    told: str,
) -> None:
    """However deep it lies in what the client raises."""

    class Session:
        def head(self, *_: object, **__: object) -> None:
            middle = RuntimeError("middle")
            middle.__context__ = cause
            message = "outer"
            raise RuntimeError(message) from middle

    at("https://hub.test")
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    assert told in problem()


def test_a_proxy_is_part_of_the_reason(
    monkeypatch: pytest.MonkeyPatch, at: Callable[[str], None]
) -> None:
    """It is what refuses, and where to look; its login is not shown."""
    monkeypatch.setenv("http_proxy", "http://me:sentinel@127.0.0.1:9")
    at("http://hub.test")
    told = problem()
    assert "refuses the connection, through a proxy of the environment" in told
    assert "check HTTP_PROXY and HTTPS_PROXY" in told
    assert "sentinel" not in told


def test_the_proxys_own_address_may_be_unknown(
    monkeypatch: pytest.MonkeyPatch,
    at: Callable[[str], None],
) -> None:
    """Then it is the proxy's, and not the hub's, that has none."""

    class Session:
        def head(self, *_: object, **__: object) -> None:
            raise socket.gaierror(-2, "unknown")

    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    at("https://hub.test")
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    assert "no address is known of proxy.test:3128 (DNS), through a proxy" in problem()


def test_a_name_that_no_model_can_have_is_told() -> None:
    """The hub is not asked for it."""
    assert "it can be no hub's (HFValidationError" in problem("-x" * 99)
    assert cached_folder("-x" * 99, index="config.json") is None


def test_offline_nobody_is_asked(
    monkeypatch: pytest.MonkeyPatch, at: Callable[[str], None]
) -> None:
    """The switch is named, and how to bring the model here."""
    with answering(200) as hub:
        at(hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        told = problem()
    assert "HF_HUB_OFFLINE says that the hub must not be asked" in told
    assert "run 'hf download owner/model'" in told
    assert [] == hub.asked


def test_without_the_hub_what_is_cached_is_opened(
    monkeypatch: pytest.MonkeyPatch, at: Callable[[str], None], tmp_path: Path
) -> None:
    """A pipeline and a captioner that were downloaded before."""
    at("http://127.0.0.1:9")
    folder = tiny_models.tiny_blip2(tmp_path / "model")
    snapshot = cached(folder, constants.HF_HUB_CACHE)
    assert snapshot == cached_folder(NAME, index="config.json")
    assert snapshot == cached_folder(NAME, index="config.json", revision=COMMIT)
    captioner = Captioner.load(NAME, device="cpu")
    assert isinstance(captioner, Captioner)
    (snapshot / "model.safetensors").unlink()
    assert cached_folder(NAME, index="config.json") is None
    with pytest.raises(LoadError, match=r"got 'owner/model', which is not.*refuses"):
        Captioner.load(NAME, device="cpu")


def test_a_download_that_broke_off_is_seen(tmp_path: Path) -> None:
    """A part, a piece of its weights, or all of them."""
    folder = tiny_models.tiny_stable_diffusion(tmp_path / "model")
    assert [] == list(unfinished(folder))
    parts = json.loads((folder / "model_index.json").read_text("utf-8"))
    parts["tokenizer"][1] = "TokenizersBackend"  # what transformers 5 calls it
    (folder / "model_index.json").write_text(json.dumps(parts), encoding="utf-8")
    assert [] == list(unfinished(folder))
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert ["unet/*.safetensors"] == list(unfinished(folder))
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    file = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    file.write_text(json.dumps(index))
    (folder / "unet" / "one.safetensors").write_bytes(b"")
    assert ["two.safetensors"] == list(unfinished(folder))
    file.write_text("[]")
    assert [] == list(unfinished(folder))
    (folder / "scheduler" / "scheduler_config.json").unlink()
    (folder / "scheduler").rmdir()
    assert ["scheduler/"] == list(unfinished(folder))
    (folder / "model_index.json").write_text("{")
    assert [] == list(unfinished(folder))


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (Diffusion.load, NAME),
        (Captioner.load, NAME),
        (Clip.load, "hf-hub:owner/model@v1"),
        (Clip.load, "ViT-B-32-quickgelu/openai"),
    ],
    ids=["pipeline", "captioner", "clip of the hub", "clip by tag"],
)
def test_every_kind_of_model_says_it_after_one_request(
    monkeypatch: pytest.MonkeyPatch, at: Callable[[str], None], load: Any, name: str
) -> None:
    """Where the libraries would ask for minutes, and then miss a file."""
    with answering(503) as hub:
        at(hub.url)
        with pytest.raises(LoadError, match="answers HTTP 503") as caught:
            load(name, device="cpu")
    assert 1 == len(hub.asked)
    assert "\n" not in str(caught.value)


def test_weights_of_open_clip_that_are_cached_need_no_hub(
    monkeypatch: pytest.MonkeyPatch, at: Callable[[str], None], tmp_path: Path
) -> None:
    """They are not even asked for."""
    folder = tiny_models.tiny_clip(tmp_path / "model")
    cached(folder, constants.HF_HUB_CACHE)
    with answering(503) as hub:
        at(hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert isinstance(Clip.load("hf-hub:owner/model", device="cpu"), Clip)
    assert [] == hub.asked
