"""The survey's server: it shows one page, and keeps answers whole or not at all."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from socratic_agents.cli.app import main
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.survey import server as survey_server
from socratic_agents.lab.survey.responses import LARGEST, read_responses
from socratic_agents.lab.survey.results import survey_results
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


def test_one_address_leaves_room_for_others(
    key: SurveyKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who floods the server from one place fills half of it, and no more."""
    monkeypatch.setattr(survey_server, "MOST", 6)
    with SurveyServer("", key=key, folder=tmp_path) as server:
        for rater in (1, 2, 3):
            server.keep(answered(key, prefer("ours"), rater=rater), "10.0.0.1")
        for rater in (4, 5):
            with pytest.raises(ConfigurationError, match="at most 6 files"):
                server.keep(answered(key, prefer("ours"), rater=rater), "10.0.0.1")
        server.keep(answered(key, prefer("ours"), rater=9), "10.0.0.2")
        server.keep(answered(key, prefer("ours"), rater=1), "10.0.0.1")


HOSTS = {
    "127.0.0.1:8000": True,
    "192.168.0.7": True,
    "[::1]:8000": True,
    "LocalHost.:1": True,
    "survey.example": True,
    socket.gethostname(): True,
    "evil.example": False,
    "evil.example:8000": False,
    "localhost.evil.example": False,
    "127.0.0.1.evil.example": False,
    "127.0.0.1@evil.example": False,
    "": False,
    "[": False,
}


@pytest.mark.parametrize(("host", "known"), HOSTS.items())
def test_other_sites_names_are_not_answered(
    host: str, known: bool, key: SurveyKey, tmp_path: Path
) -> None:
    """A name that a site lets lead here neither shows the page nor takes answers."""
    sent = answered(key, prefer("ours"))
    with SurveyServer("", key=key, folder=tmp_path, names=["Survey.example"]) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        port = server.server_address[1]
        try:
            shown = ask(port, "GET", "/", headers={"Host": host})[0]
            kept = ask(port, "POST", "/answers", sent, {**JSON, "Host": host})[0]
        finally:
            server.shutdown()
            thread.join()
    assert ((200, 201) if known else (421, 421)) == (shown, kept)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 201),
        ("https://127.0.0.1:8000", 201),
        ("http://127.0.0.1:9000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_other_pages_cannot_answer(
    origin: str, status: int, key: SurveyKey, tmp_path: Path
) -> None:
    """Where a browser says whose page sends, it must be this one's."""
    headers = {**JSON, "Host": "127.0.0.1:8000", "Origin": origin}
    with serving(key, tmp_path) as port:
        sent = answered(key, prefer("ours"))
        assert status == ask(port, "POST", "/answers", sent, headers)[0]


@pytest.mark.parametrize("spoilt", [b"{", b"", b"[1]"])
def test_a_spoilt_file_locks_nobody_out(
    spoilt: bytes, key: SurveyKey, tmp_path: Path
) -> None:
    """Who sends again over it is kept; what was there is put aside."""
    lines: list[str] = []
    sent = answered(key, prefer("ours"))
    with serving(key, tmp_path, lines) as port:
        assert 201 == ask(port, "POST", "/answers", sent, JSON)[0]
        (file,) = (tmp_path / "answers").glob("*.json")
        file.write_bytes(spoilt)
        assert 201 == ask(port, "POST", "/answers", sent, JSON)[0]
        assert sent == file.read_bytes()
        file.unlink()
        file.mkdir()
        assert 201 == ask(port, "POST", "/answers", sent, JSON)[0]
        assert sent == file.read_bytes()
    assert 2 == len([*(tmp_path / "answers" / "quarantine").iterdir()])
    assert 2 == sum("spoilt, moved to" in line for line in lines)


@pytest.mark.parametrize("ms", [2**53 + 1, 10**400, -1])
def test_no_answer_breaks_the_results(ms: int, key: SurveyKey, tmp_path: Path) -> None:
    """A number that cannot be counted with is refused when it comes."""
    with serving(key, tmp_path) as port:
        sent = answered(key, prefer("ours"), ms=ms)
        assert 400 == ask(port, "POST", "/answers", sent, JSON)[0]
        longest = answered(key, prefer("ours"), ms=2**53)
        assert 201 == ask(port, "POST", "/answers", longest, JSON)[0]
    people = read_responses([tmp_path / "answers"], key=key)
    assert 2**53 / 1000 == survey_results(key, people).people[0].seconds


def test_what_cannot_be_written_is_told_to_both(key: SurveyKey, tmp_path: Path) -> None:
    """The person keeps the answers and sends them later, without our folders' names."""
    (tmp_path / "answers").write_text("in the way")
    lines: list[str] = []
    with serving(key, tmp_path, lines) as port:
        sent = answered(key, prefer("ours"))
        status, reply, _ = ask(port, "POST", "/answers", sent, JSON)
    assert 507 == status
    assert "send them again later" in json.loads(reply)["error"]
    assert str(tmp_path) not in reply.decode()
    assert str(tmp_path) in lines[-1]


def test_a_closed_terminal_loses_no_answers(key: SurveyKey, tmp_path: Path) -> None:
    """What is said about answers may go nowhere; they are kept all the same."""

    def closed(_line: str) -> None:
        raise BrokenPipeError

    with SurveyServer("", key=key, folder=tmp_path, on_answers=closed) as server:
        server.keep(answered(key, prefer("ours")))
    assert 1 == len(read_responses([tmp_path / "answers"], key=key))


@pytest.mark.parametrize(
    "start", [b"", b"GET / HTTP/1.0\r\n", b"POST /answers HTTP/1.0\r\n"]
)
def test_a_slow_connection_has_an_end(
    start: bytes, key: SurveyKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps a connection no longer than its deadline."""
    monkeypatch.setattr(survey_server, "DEADLINE", 0.5)
    with (
        serving(key, tmp_path) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as slow,
    ):
        slow.sendall(start)
        left, closed = time.monotonic() + 20, False
        while not closed and time.monotonic() < left:
            try:
                slow.sendall(b"X")
                slow.settimeout(0.05)
                closed = not slow.recv(64)
            except TimeoutError:
                continue
            except OSError:
                closed = True
    assert closed


def test_connections_have_a_most(
    key: SurveyKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds many open loses the oldest, and the next person is answered."""
    monkeypatch.setattr(survey_server, "MOST_CONNECTIONS", 4)
    before = threading.active_count()
    with serving(key, tmp_path) as port, ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            for _ in range(12)
        ]
        assert 200 == ask(port, "GET", "/")[0]
        assert b"" == held[0].recv(64)
        while threading.active_count() > before + 6:  # it takes its time
            time.sleep(0.01)


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
