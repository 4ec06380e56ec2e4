"""What holds for images of a server, who may be anybody.

A1  What fails is a candidate's error with its cause, and never a score.
A2  The key is in no text that a person or a log could see.
A3  No address is followed but the server's own.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import struct
import threading
import traceback
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from pydantic import SecretStr

from socratic_agents.core.errors import CandidateError, ClosedError, ConfigurationError
from socratic_agents.core.history import Status
from socratic_agents.models.images_api import ImagesAPI
from tests.loopback import Reply, error

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-sentinel-0123456789"


def picture(seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 10, 3), np.uint8)
    return Image.fromarray(pixels)


def png(image: Image.Image | None = None, **notes: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, value in notes.items():
        info.add_text(name, value)
    buffer = io.BytesIO()
    (image or picture()).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """Return the head of a PNG that claims to be as large as this."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def drawn(content: bytes | None = None, **image: Any) -> Reply:
    """Return an answer with one image, as base64 unless something else is given."""
    if not image or content is not None:
        image["b64_json"] = base64.b64encode(content or png()).decode()
    return Reply(json.dumps({"created": 1, "data": [image]}))


class Server:
    """Answers one reply after another, the last for ever, and serves one file."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [drawn()]
        self.file: tuple[int, bytes, dict[str, str]] = (200, png(), {})
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.fetched: list[str] = []
        self.release = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                server.bodies.append(json.loads(self.rfile.read(length)))
                server.headers.append({k.lower(): v for k, v in self.headers.items()})
                number = min(len(server.bodies), len(server.replies)) - 1
                reply = server.replies[number]
                if reply.stall:
                    server.release.wait()
                if reply.reset or reply.stall:
                    return
                headers = {"Content-Type": reply.content_type, **reply.headers}
                self.reply(reply.status, reply.body.encode(), headers)

            def do_GET(self) -> None:
                server.fetched.append(self.path)
                self.reply(*server.file)

            def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Stay silent."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.release.set()
    server.http.shutdown()
    thread.join()
    server.http.server_close()


class Clock:
    """Waits without waiting."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


def api(server: Server, **options: Any) -> ImagesAPI:
    return ImagesAPI(server.url, api_key=SecretStr(KEY), **options)


async def failure(server: Server, **options: Any) -> CandidateError:
    """Return the error of drawing, which must not show the key anywhere."""
    options = {"sleep": Clock(), **options}
    with pytest.raises(CandidateError) as caught:
        await api(server, **options).generate("a red circle", 7)
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown
    assert "\n" not in str(caught.value)
    return caught.value


async def test_base64_is_drawn(server: Server) -> None:
    """The pixels arrive as they were, and the seed travels with the prompt."""
    async with api(server, model="m", size="10x8") as images:
        got = await images.generate("a red circle", 7)

    assert "RGB" == got.mode
    assert picture().tobytes() == got.tobytes()
    expected = {
        "model": "m",
        "n": 1,
        "prompt": "a red circle",
        "response_format": "b64_json",
        "seed": 7,
        "size": "10x8",
    }
    assert [expected] == server.bodies
    assert f"Bearer {KEY}" == server.headers[0]["authorization"]


async def test_model_may_be_left_to_the_server(server: Server) -> None:
    """No name is sent where none was given."""
    await api(server).generate("a red circle", 7)

    assert "model" not in server.bodies[0]


async def test_notes_of_a_file_are_not_believed(server: Server) -> None:
    """A server's file cannot say how many tokens were cut; its rewrite is kept."""
    content = png(truncated_tokens="9", Comment="<script>")
    server.replies = [drawn(content, revised_prompt="a very red circle")]

    got = await api(server).generate("a red circle", 7)

    assert {"revised_prompt": "a very red circle"} == got.info


@pytest.mark.parametrize(
    "url",
    [
        "{origin}/files/1.png",
        "/files/1.png",
        "data:image/png;base64," + base64.b64encode(png()).decode(),
    ],
)
async def test_addresses_of_the_server_itself_are_followed(
    server: Server, url: str
) -> None:
    """A server that keeps its images beside itself, or in the address, is fine."""
    server.replies = [drawn(url=url.format(origin=server.url.removesuffix("/v1")))]

    got = await api(server).generate("a red circle", 7)

    assert picture().tobytes() == got.tobytes()
    assert server.fetched == ([] if url.startswith("data:") else ["/files/1.png"])


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:1/1.png",
        "http://localhost/1.png",
        "https://127.0.0.1/1.png",
        "//example.org/1.png",
        "file:///etc/hostname",
        "",
    ],
)
async def test_other_addresses_are_never_followed(server: Server, url: str) -> None:
    """A server must not make this machine look around in its own network."""
    server.replies = [drawn(url=url)]

    got = await failure(server)

    assert Status.GENERATION_FAILED == got.status
    assert "another address, which is not followed" in str(got)


async def test_redirects_are_never_followed(server: Server) -> None:
    """The way from the server's own address to another one is closed too."""
    server.replies = [drawn(url="/files/1.png")]
    server.file = (302, b"", {"Location": "/elsewhere.png"})

    got = await failure(server)

    assert Status.GENERATION_FAILED == got.status
    assert ["/files/1.png"] == server.fetched


@pytest.mark.parametrize(
    ("refused", "kept"),
    [
        ({"param": "seed", "message": "Unknown parameter"}, {"response_format"}),
        ({"message": "Unknown parameter: 'response_format'."}, {"seed"}),
    ],
)
async def test_what_a_server_refuses_is_left_out_from_then_on(
    server: Server, refused: dict[str, str], kept: set[str]
) -> None:
    """A server without seeds is asked once, and then in its own way."""
    server.replies = [Reply(json.dumps({"error": refused}), status=400), drawn()]
    images = api(server)

    await images.generate("a red circle", 7)
    await images.generate("a red circle", 8)

    optional = [body.keys() & {"seed", "response_format"} for body in server.bodies]
    assert [{"seed", "response_format"}, kept, kept] == optional


async def test_a_negative_prompt_is_sent_where_there_is_one(server: Server) -> None:
    """It is no part of OpenAI's protocol, so nobody else sees the word."""
    server.replies = [drawn(), drawn()]

    await api(server).generate("a red circle", 7)
    await api(server, negative_prompt="a box").generate("a red circle", 7)

    assert [None, "a box"] == [body.get("negative_prompt") for body in server.bodies]


async def test_a_server_that_takes_no_negative_prompt_draws_nothing(
    server: Server,
) -> None:
    """Without it the image would be another one, so it is not left out."""
    refused = {"param": "negative_prompt", "message": "Unknown parameter"}
    server.replies = [Reply(json.dumps({"error": refused}), status=400)]

    got = await failure(server, negative_prompt="a box")

    assert "expected a server that takes a negative_prompt" in str(got)
    assert 1 == len(server.bodies)
    with pytest.raises(ConfigurationError, match="expected no negative prompt for"):
        ImagesAPI(
            "https://api.openai.com/v1",
            api_key=SecretStr(KEY),
            negative_prompt="a box",
        )


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (error(400, "content_policy_violation"), Status.SAFETY_FILTERED),
        (error(400, "moderation_blocked"), Status.SAFETY_FILTERED),
        (error(400, message="Rejected by our safety system."), Status.SAFETY_FILTERED),
        (error(400, message="a seed of doubt"), Status.GENERATION_FAILED),
        (error(401, message=f"Incorrect key: {KEY}"), Status.GENERATION_FAILED),
        (error(403, message="not\nallowed"), Status.GENERATION_FAILED),
        (error(404, "model_not_found"), Status.GENERATION_FAILED),
        (error(429, "insufficient_quota"), Status.GENERATION_FAILED),
        (
            Reply("<html>Sign in</html>", content_type="text/html"),
            Status.GENERATION_FAILED,
        ),
        (Reply("no json"), Status.GENERATION_FAILED),
        (Reply('{"data": []}'), Status.GENERATION_FAILED),
        (Reply('{"error": {"message": "down"}}'), Status.GENERATION_FAILED),
        (Reply('{"data": [3]}'), Status.GENERATION_FAILED),
        (drawn(b64_json="no base64!"), Status.GENERATION_FAILED),
        (drawn(b"no image"), Status.GENERATION_FAILED),
        (drawn(png()[:-30]), Status.GENERATION_FAILED),
        (drawn(bomb(9000)), Status.GENERATION_FAILED),
        (drawn(bomb(12000)), Status.GENERATION_FAILED),
        (drawn(bomb(30000)), Status.GENERATION_FAILED),
        (drawn(png(Image.new("RGB", (8, 8)))), Status.NUMERICAL_FAILURE),
    ],
)
async def test_failures_that_stay_are_asked_once(
    server: Server, reply: Reply, status: Status
) -> None:
    """Each failure is the candidate's, with its cause, after exactly one request."""
    server.replies = [reply]

    got = await failure(server)

    assert status == got.status
    assert 1 == len(server.bodies)


@pytest.mark.parametrize(
    "reply",
    [*(error(status) for status in (408, 409, 429, 500, 503)), Reply(reset=True)],
    ids=["408", "409", "429", "500", "503", "reset"],
)
async def test_failures_that_may_pass_are_asked_again(
    server: Server, reply: Reply
) -> None:
    """A busy server is asked three times in all, and no oftener."""
    clock = Clock()
    server.replies = [reply, reply, drawn()]
    images = api(server, sleep=clock)

    got = await images.generate("a red circle", 7)

    assert picture().tobytes() == got.tobytes()
    assert 2 == len(clock.waits)
    server.replies = [reply]
    assert Status.GENERATION_FAILED == (await failure(server)).status
    assert 3 + 3 == len(server.bodies)


@pytest.mark.parametrize(
    ("hint", "low", "high"),
    [("7", 7, 7), ("600", 0, 20), ("soon", 0, 20), ("-1", 0, 20)],
)
async def test_server_says_how_long_to_wait(
    server: Server, hint: str, low: float, high: float
) -> None:
    """A reasonable request is followed to the second."""
    clock = Clock()
    server.replies = [error(429, retry_after=hint), drawn()]

    await api(server, sleep=clock).generate("a red circle", 7)

    (waited,) = clock.waits
    assert low <= waited <= high


async def test_slow_servers_are_not_asked_to_draw_twice(server: Server) -> None:
    """After a timeout the first image may still be in the making, and be billed."""
    server.replies = [Reply(stall=True)]

    got = await failure(server, timeout=0.2)

    assert "Timeout" in str(got)
    assert 1 == len(server.bodies)


def test_key_is_never_shown(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """It is in no representation and no log, not even in the most talkative one.

    https://github.com/openai/openai-python/issues/1196
    """
    images = api(server)

    with caplog.at_level(logging.DEBUG):
        asyncio.run(images.generate("a red circle", 7))

    assert KEY not in repr(images) + str(vars(images)) + caplog.text


def test_several_event_loops_share_one_server(server: Server) -> None:
    """Nothing of one event loop is left behind for the next."""
    images = api(server)

    for _ in range(2):
        assert (10, 8) == asyncio.run(images.generate("a red circle", 7)).size


async def test_closed_is_closed(server: Server) -> None:
    """Nothing is drawn after the end."""
    async with api(server) as images:
        pass

    with pytest.raises(ClosedError, match="open another"):
        await images.generate("a red circle", 7)


async def test_environment_is_for_openai_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither OpenAI's key nor its organization goes to another server."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-sentinel")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-sentinel")

    await ImagesAPI(server.url).generate("a red circle", 7)

    sent = str(server.headers)
    assert KEY not in sent
    assert "sentinel" not in sent


def test_openai_itself_needs_a_key_and_takes_no_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its key may come from where its own client looks for it."""
    url = "https://api.openai.com/v1"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=r"set OPENAI_API_KEY$"):
        ImagesAPI(url)

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    images = ImagesAPI(url)

    assert KEY == images._api_key.get_secret_value()
    assert {"seed"} == images._refused
    assert KEY not in str(vars(images))


@pytest.mark.parametrize(
    ("base_url", "message"),
    [
        ("localhost:8080", "expected the address of an images server"),
        ("ftp://localhost/v1", "expected the address of an images server"),
        ("http://", "expected the address of an images server"),
        ("http://host:port/v1", "expected the address of an images server"),
        (f"http://me:{KEY}@host/v1", "without a user or password"),
        (f"http://me:{KEY}@host:port/v1", "without a user or password"),
    ],
)
def test_addresses_that_are_none_are_refused(base_url: str, message: str) -> None:
    """At once, in one line, and without the password in it."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        ImagesAPI(base_url)

    assert KEY not in str(caught.value)


def test_attempts_are_at_least_one() -> None:
    """Nobody asks zero times."""
    with pytest.raises(ConfigurationError, match="expected at least 1 attempt, got 0"):
        ImagesAPI("http://localhost/v1", attempts=0)
