"""``socratic doctor --llm``: one tiny request for each method, and what to set."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.cli.app import main
from socratic_agents.llm.methods import METHODS
from socratic_agents.llm.probe import Probe, probe_methods, recommendations
from tests.fakes import ScriptedChatModel, TextModel
from tests.loopback import RESET, Loopback, Reply, Request, chat, error
from tests.tiny_writers import tiny_writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANSWER = json.dumps({"colour": "blue"})
KEY = "sk-secret-0123456789abcdef"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOCRATIC_API_KEY", KEY)
    return tmp_path


@pytest.fixture
def doctor(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return what runs the command, with its exit code and what it prints."""

    def run(*arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        return main(["doctor", *arguments]), capfd.readouterr().out

    return run


def only_words(request: Request) -> Reply:
    """Answer as a server that knows neither schemas nor tools."""
    if "response_format" in request.body:
        return error(400, message="response_format is not supported here")
    if "tools" in request.body:
        return error(500, message=f"no tools; your key is {KEY}")
    return chat(f"The sky:\n{ANSWER}")


def asked(url: str) -> tuple[str, ...]:
    return "--llm", "openai:loopback", "--base-url", url


def test_a_captioner_that_writes_is_asked_nothing(
    doctor: Callable[..., tuple[int, str]], folder: Path
) -> None:
    """It is opened with a run; the flag names it all the same, as for other commands."""
    eye = tiny_writer(folder / "eye")
    chosen = ("--captioner", str(eye), "--scorer", "none")
    code, text = doctor("--llm", "captioner", *chosen)
    assert code == 0
    assert "OK llm: captioner: of this machine, no key is needed" in text
    assert "OK language model: captioner: it is opened with a run" in text


def test_without_the_flag_nothing_is_sent(
    doctor: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is set hears nothing of an ordinary check."""
    with Loopback(chat(ANSWER)) as server:
        monkeypatch.setenv("SOCRATIC_LLM", "openai:loopback")
        monkeypatch.setenv("SOCRATIC_BASE_URL", server.base_url)
        _, out = doctor()
        assert [] == server.requests
        assert "language model" not in out
        doctor("--llm")
        assert len(METHODS) == len(server.requests)


def test_each_method_is_tried_once(doctor: Callable[..., tuple[int, str]]) -> None:
    """What works is told from what does not, in the server's words and without keys."""
    with Loopback(only_words) as server:
        code, out = doctor(*asked(server.base_url), "--timeout", "9999")
        assert len(METHODS) == len(server.requests)
    assert 0 == code
    assert "WARN llm json_schema: HTTP 400 (response_format is not supported" in out
    assert "WARN llm tools: HTTP 500 (no tools; your key is [key])" in out
    assert "WARN llm json_object: HTTP 400" in out
    assert "OK llm words: works: " in out
    assert "7 tokens" in out
    assert (
        "OK language model: openai:loopback is asked by words; there is nothing" in out
    )
    assert KEY not in out


def test_json_has_the_same(doctor: Callable[..., tuple[int, str]]) -> None:
    """With --json stdout is one object: findings, methods, and what to set."""
    with Loopback(only_words) as server:
        code, out = doctor(*asked(server.base_url), "--json")
        url = server.base_url
    found = json.loads(out)
    assert 0 == code
    assert 1 == found["schema"]
    assert {"state", "name", "detail"} == set(found["findings"][0])
    llm = found["llm"]
    assert ("openai:loopback", url, "words") == (
        llm["model"],
        llm["base_url"],
        llm["method"],
    )
    assert list(METHODS) == [one["method"] for one in llm["methods"]]
    assert [False, False, False, True] == [one["works"] for one in llm["methods"]]
    words = llm["methods"][-1]
    assert (11, 7) == (words["input_tokens"], words["output_tokens"])
    assert words["tokens_per_second"] > 0
    assert doctor("--json")[0] == 0


def test_json_without_a_language_model(doctor: Callable[..., tuple[int, str]]) -> None:
    """Nobody was asked, so nothing is said of it."""
    assert json.loads(doctor("--json")[1])["llm"] is None


def test_a_form_that_is_passed_over_does_not_work(
    doctor: Callable[..., tuple[int, str]],
) -> None:
    """Status 200 proves nothing: prose is no answer in a form."""
    with Loopback(chat("Blue.")) as server:
        code, out = doctor(*asked(server.base_url))
    assert 2 == code
    assert "WARN llm json_schema: the answer is not in the form" in out
    assert "FAIL language model: use a more capable model" in out


def test_an_answer_that_breaks_off_does_not_work(
    doctor: Callable[..., tuple[int, str]],
) -> None:
    """Some servers let a model write a few words only; no method mends that."""
    with Loopback(chat(ANSWER, finish_reason="length")) as server:
        code, out = doctor(*asked(server.base_url))
    assert 2 == code
    assert "llm words: the answer was cut off" in out


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (error(401, message=f"wrong key {KEY}"), "check the API key"),
        (RESET, "check the network and the server"),
    ],
)
def test_what_no_method_would_mend_is_asked_once(
    doctor: Callable[..., tuple[int, str]], reply: Reply, told: str
) -> None:
    """A wrong key or address is told with what to do, after one request."""
    with Loopback(reply) as server:
        code, out = doctor(*asked(server.base_url))
        assert 1 == len(server.requests)
    assert 2 == code
    assert told in out
    assert KEY not in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--llm"], "got 'pocket', which is part of this package; name one"),
        (["--llm", "gpt-tiny"], "write 'openai:gpt-tiny', for example"),
        (["--llm", "openai:a", "--rounds", "0"], "FAIL settings: rounds"),
    ],
)
def test_what_cannot_be_asked_is_a_problem(
    doctor: Callable[..., tuple[int, str]], arguments: list[str], told: str
) -> None:
    """The other checks are printed all the same."""
    code, out = doctor(*arguments)
    assert 2 == code
    assert told in out
    assert "python: " in out


def test_a_model_without_the_flag_is_a_mistake(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Nobody shall believe that it was asked."""
    assert 2 == main(["doctor", "openai:a"])
    assert "add --llm" in capfd.readouterr().err


async def test_a_client_without_methods_is_asked_in_words() -> None:
    """What it does not know is not sent."""
    llm = TextModel(script=[ANSWER])
    probes = [probe async for probe in probe_methods(llm)]
    assert ["words"] == [probe.method for probe in probes if probe.works]
    assert {"the client does not know it"} == {p.detail for p in probes if not p.works}
    assert 1 == len(llm.asked)


async def test_refusals_are_told() -> None:
    """A model that does not want to is not one that cannot."""
    refusal: Any = Loopback(chat(None, refusal="I would rather not"))
    with refusal as server:
        from socratic_agents import Settings
        from socratic_agents.runtime.language_model import open_language_model

        llm = open_language_model(
            Settings(llm="openai:loopback", base_url=server.base_url)
        )
        probes = [probe async for probe in probe_methods(llm)]
    assert all("refuses (I would rather not)" in probe.detail for probe in probes)


async def test_a_schema_that_the_model_could_not_keep() -> None:
    """What a client makes of a wrong answer is an answer too, and the next is asked."""
    wrong = ValueError("no")
    wrong.code = "json_validate_failed"  # type: ignore[attr-defined]
    llm = ScriptedChatModel(script=[wrong, {"colour": "blue"}, ANSWER, ANSWER])
    probes = [probe async for probe in probe_methods(llm)]
    assert not probes[0].works
    assert "ValueError (no)" == probes[0].detail
    assert probes[1].works


@pytest.mark.parametrize(
    ("tokens", "timeout", "slots", "told"),
    [
        (40, 60, 4, ""),
        (10, 60, 4, "set timeout=160, or llm_concurrency=1 and timeout=60: at 10.0"),
        (4, 60, 4, "set timeout=400, or llm_concurrency=1 and timeout=100: at 4.0"),
        (4, 60, 1, "set timeout=100: at 4.0 tokens a second, 1 long answers"),
        (4, 60, None, ""),
        (0, 60, 4, ""),
    ],
)
def test_what_to_set_for_a_slow_server(
    tokens: int, timeout: float, slots: int | None, told: str
) -> None:
    """Answers one after the other must fit into the timeout of the last."""
    probe = Probe(method="words", works=True, seconds=1, output_tokens=tokens)
    advice = recommendations([probe], timeout=timeout, slots=slots)
    assert (told == "") == (advice == [])
    assert all(one.startswith(told) for one in advice)
