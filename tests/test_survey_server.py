"""The survey's server: it shows one page, and keeps answers whole or not at all."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from socratic_agents.cli.app import main
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.survey import server as survey_server
from socratic_agents.lab.survey.responses import LARGEST, read_responses
from socratic_agents.lab.survey.server import SurveyServer
from tests.surveys import answered, compared, planned, prefer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from socratic_agents.lab.survey.design import SurveyKey

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def key(tmp_path: Path) -> SurveyKey:
    return planned(compared(tmp_path / "study")).key


@contextmanager
def serving(
    key: SurveyKey, folder: Path, lines: list[str] | None = None
) -> Iterator[int]:
    """Serve a page, and yield the port."""
    heard = [] if lines is None else lines
    with SurveyServer(
        "<p>page ü</p>", key=key, folder=folder, on_answers=heard.append
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes, Mapping[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body or None, dict(headers or {}))
        reply = connection.getresponse()
        return reply.status, reply.read(), dict(reply.headers)
    finally:
        connection.close()


def test_the_page_is_shown(key: SurveyKey, tmp_path: Path) -> None:
    """It is the same under its two addresses, and never kept by a cache."""
    with serving(key, tmp_path) as port:
        for path in ("/", "/survey.html"):
            status, body, headers = ask(port, "GET", path)
            assert (200, "<p>page ü</p>") == (status, body.decode())
            assert "no-store" == headers["Cache-Control"]
            assert "nosniff" == headers["X-Content-Type-Options"]


@pytest.mark.parametrize(
    "path",
    ["/survey.key.json", "/answers", "/../survey.key.json", "//etc/passwd", "/?x"],
)
def test_nothing_else_is_shown(path: str, key: SurveyKey, tmp_path: Path) -> None:
    """Neither the key nor other people's answers can be read."""
    with serving(key, tmp_path) as port:
        assert 404 == ask(port, "GET", path)[0]


def test_answers_are_kept_whole(key: SurveyKey, tmp_path: Path) -> None:
    """Each person's file is what was sent, byte by byte, and can be evaluated."""
    lines: list[str] = []
    sent = [answered(key, prefer("ours"), rater=rater) for rater in (1, 2)]
    with serving(key, tmp_path, lines) as port:
        assert [201, 201] == [ask(port, "POST", "/answers", s, JSON)[0] for s in sent]
    kept = [file.read_bytes() for file in (tmp_path / "answers").iterdir()]
    assert sorted(sent) == sorted(kept)
    assert 2 == len(read_responses([tmp_path / "answers"], key=key))
    assert 2 == len(lines)
    assert f"{key.total} of {key.total} pairs" in lines[0]


def test_who_sends_again_counts_once(key: SurveyKey, tmp_path: Path) -> None:
    """The fuller answers of a person stay, in whatever order they came."""
    whole = answered(key, prefer("ours"))
    first = json.loads(whole)["answers"][:2]
    part = answered(key, prefer("ours"), changes={"answers": first})
    lines: list[str] = []
    with serving(key, tmp_path, lines) as port:
        for sent in (part, whole, part):
            assert 201 == ask(port, "POST", "/answers", sent, JSON)[0]
    (file,) = (tmp_path / "answers").iterdir()
    assert whole == file.read_bytes()
    assert [False, True] == ["sent again" in line for line in lines]


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"{", JSON, 400, "cut off"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "application/json"),
        (b"", {**JSON, "Content-Length": str(LARGEST + 1)}, 413, "at most"),
        (b"", {**JSON, "Content-Length": "9" * 5000}, 413, "at most"),
        (b"", {**JSON, "Content-Length": "-1"}, 411, "Content-Length"),
        (
            b"",
            {**JSON, "Content-Length": "¹".encode().decode("latin-1")},
            411,
            "Length",
        ),
    ],
)
def test_bad_answers_are_refused(
    body: bytes,
    headers: Mapping[str, str],
    status: int,
    message: str,
    key: SurveyKey,
    tmp_path: Path,
) -> None:
    """What is no answer, too large or of a foreign page leaves no file behind."""
    with serving(key, tmp_path) as port:
        got, reply, _ = ask(port, "POST", "/answers", body, headers)
        assert (status, "failed") == (got, json.loads(reply)["status"])
        assert message in json.loads(reply)["error"]
        assert 404 == ask(port, "POST", "/elsewhere", b"{}", JSON)[0]
    assert not (tmp_path / "answers").exists()


def test_a_flood_ends(
    key: SurveyKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a most of files, so that nobody fills the disk."""
    monkeypatch.setattr(survey_server, "MOST", 1)
    sent = [answered(key, prefer("ours"), rater=rater) for rater in (1, 2, 1)]
    with serving(key, tmp_path) as port:
        statuses = [ask(port, "POST", "/answers", s, JSON)[0] for s in sent]
    assert [201, 400, 201] == statuses


def test_a_taken_port_is_told(key: SurveyKey, tmp_path: Path) -> None:
    """So is one that cannot be."""
    with serving(key, tmp_path) as port:
        for wish in (port, 99_999):
            with pytest.raises(ConfigurationError, match="use --port"):
                SurveyServer("", key=key, folder=tmp_path, port=wish)


def test_the_command_serves_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is made if there is none; an interrupt is how it ends."""
    folder = compared(tmp_path / "study")

    def interrupted(self: SurveyServer, _poll: float = 0.5) -> None:
        self.on_answers("a line")
        raise KeyboardInterrupt

    monkeypatch.setattr(SurveyServer, "serve_forever", interrupted)
    command = ["lab", "survey", str(folder), "--serve", "--port", "0"]
    assert 0 == main([*command, "--arms", "ours,theirs", "--seed", "4"])
    made = (folder / "survey.html").read_bytes()
    told = capsys.readouterr()
    assert "open http://127.0.0.1:" in told.err
    assert "a line\nstopped; the answers are kept\n" in told.err
    assert "" == told.out
    assert 0 == main(command)
    assert made == (folder / "survey.html").read_bytes()
    assert "study" not in capsys.readouterr().err.splitlines()[0].split()


def test_a_silent_connection_disturbs_nobody(key: SurveyKey, tmp_path: Path) -> None:
    """Who connects and says nothing leaves the others their answers."""
    with (
        serving(key, tmp_path) as port,
        socket.create_connection(("127.0.0.1", port)) as silent,
    ):
        assert 200 == ask(port, "GET", "/")[0]
        silent.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert silent.recv(64).startswith(b"HTTP/1.0 200")


def leave(problem: type[Exception]) -> None:
    raise problem


@pytest.mark.parametrize(
    ("problem", "heard"), [(ConnectionResetError, 0), (ValueError, 1)]
)
def test_who_leaves_is_no_fault(
    problem: type[Exception],
    heard: int,
    key: SurveyKey,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A connection that breaks is not told, a bug is."""
    with SurveyServer("", key=key, folder=tmp_path) as server:
        try:
            leave(problem)
        except problem:
            server.handle_error(None, ("127.0.0.1", 1))
    assert heard == capsys.readouterr().err.count("Traceback")
