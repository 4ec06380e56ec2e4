"""What holds for images of a server, who may be anybody.

A1  What fails is a candidate's error with its cause, and never a score.
A2  The key is in no text that a person or a log could see.
A3  No address is followed but the server's own.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import itertools
import json
import logging
import struct
import threading
import time
import traceback
import zlib
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from pydantic import SecretStr

from socratic_agents.core.errors import CandidateError, ClosedError, ConfigurationError
from socratic_agents.core.history import Status
from socratic_agents.models.images_api import ImagesAPI
from socratic_agents.models.images_api_answers import NoImageError, first_image
from socratic_agents.models.images_api_errors import (
    cause_of,
    is_refusal,
    is_retryable,
    refused_parameters,
)
from socratic_agents.network.rate_limit import RateLimiter
from tests.loopback import Reply, error
from tests.test_network import reply, serving

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
        self.paths: list[str] = []
        self.release = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                server.bodies.append(json.loads(self.rfile.read(length)))
                server.paths.append(self.path)
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


REFUSED = {
    "xAI": {"code": "400", "error": "Argument not supported: NAME"},
    "OpenAI": {"error": {"message": "Unknown parameter: 'NAME'.", "param": "NAME"}},
    "param": {"error": {"message": "Unknown parameter", "param": "NAME"}},
    "FastAPI": {
        "detail": [{"loc": ["body", "NAME"], "msg": "Extra inputs are not permitted"}]
    },
    "words": {"detail": "the NAME parameter cannot be used with this model"},
    "Python": {"message": "generate() got an unexpected keyword argument 'NAME'"},
    "Google": [{"error": {"code": 400, "message": "Invalid value at 'NAME'"}}],
    "spoken": {"message": "This model does not accept a NAME."},
    "list": {"error": "unrecognized request argument supplied: NAME"},
    "code": {"error": {"code": "unsupported_parameter", "message": "NAME is unknown"}},
}


@pytest.mark.parametrize(
    ("wording", "name"),
    [
        *itertools.product(REFUSED, ["size", "seed", "response_format", "quality"]),
        *itertools.product(["xAI", "OpenAI", "FastAPI", "Google", "list"], ["n"]),
    ],
)
async def test_a_parameter_is_left_out_however_it_is_refused(
    server: Server, wording: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers have their own words for what they do not take, and a line tells of it."""
    body = json.dumps(REFUSED[wording]).replace("NAME", name)
    server.replies = [Reply(body, status=400), drawn()]
    images = api(server, options={"quality": "high"})

    await images.generate(f"a drawing of {name}", 7)
    await images.generate(f"a drawing of {name}", 8)

    first, second, third = server.bodies
    assert first.keys() - {name} == second.keys() == third.keys()
    assert name in first
    assert f"takes no {name}; its images are drawn without" in caplog.text


@pytest.mark.parametrize(
    "words", ["Bad Request", "", "Unsupported parameter", "invalid request."]
)
async def test_an_unnamed_parameter_is_sought_among_the_rarest(
    server: Server, words: str
) -> None:
    """A server that does not say what it does not take is asked with ever less."""
    refusal = Reply(json.dumps({"error": {"message": words}}), status=422)
    server.replies = [refusal, refusal, drawn()]
    images = api(server)

    await images.generate("a red circle", 7)
    await images.generate("a red circle", 7)

    rest = {"prompt"}
    assert [body.keys() - rest for body in server.bodies] == [
        {"n", "size", "seed", "response_format"},
        {"n", "size"},
        set(),
        set(),
    ]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "the model 'm' does not exist"),
        (400, "a seed of doubt"),
        (500, "CUDA error: invalid buffer size"),
        (401, "Unknown parameter: 'size'"),
        (404, "no such size"),
        (413, "the size is not allowed"),
    ],
)
async def test_other_errors_are_about_no_parameter(
    server: Server, status: int, words: str
) -> None:
    """What is wrong is not mended by leaving something out."""
    server.replies = [Reply(json.dumps({"error": words}), status=status)]

    await failure(server, attempts=1)

    assert 1 == len(server.bodies)


async def test_what_stays_refused_is_told_in_the_servers_words(server: Server) -> None:
    """Leaving out ends when nothing is left that the server could mean."""
    detail = [{"loc": ["body", "size"], "msg": "Input should be less than 768"}]
    server.replies = [Reply(json.dumps({"detail": detail}), status=400)]

    got = await failure(server)

    assert "HTTP 400: body.size: Input should be less than 768" in str(got)
    assert 2 == len(server.bodies)


async def test_parameters_can_be_chosen(server: Server) -> None:
    """Another value, one more, or one less; the rest stays as it is."""
    options = {"size": "auto", "seed": None, "quality": "high"}

    await api(server, options=options).generate("a red circle", 7)
    await api(server, size=None).generate("a red circle", 7)

    usual = {"n": 1, "prompt": "a red circle", "response_format": "b64_json"}
    assert usual | {"size": "auto", "quality": "high"} == server.bodies[0]
    assert usual | {"seed": 7} == server.bodies[1]


@pytest.mark.parametrize(
    ("end", "path"),
    [
        ("", "/v1/images/generations"),
        ("/", "/v1/images/generations"),
        ("/images/generations", "/v1/images/generations"),
        (
            "/deployments/d?api-version=2026-01-01",
            "/v1/deployments/d/images/generations?api-version=2026-01-01",
        ),
        (
            "/d/images/generations?api-version=1&x=%2F",
            "/v1/d/images/generations?api-version=1&x=%2F",
        ),
    ],
)
async def test_addresses_lead_where_they_say(
    server: Server, end: str, path: str
) -> None:
    """A query stays, the way to images is added once, and Azure reads its own header."""
    server.replies = [drawn(url="files/1.png")]

    await ImagesAPI(server.url + end, api_key=SecretStr(KEY)).generate("a cat", 1)

    assert [path] == server.paths
    azure = KEY if "api-version" in end else None
    assert azure == server.headers[0].get("api-key")
    assert server.fetched == [
        path.partition("?")[0].removesuffix("images/generations") + "files/1.png"
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "data",
                    "error",
                    "code",
                    "message",
                    "detail",
                    "b64_json",
                    "url",
                    "param",
                    "loc",
                    "msg",
                    "retry_after",
                    "choices",
                    "type",
                    "revised_prompt",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


class AnsweredError(Exception):
    """What a client raises after an answer with some status and some body."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__("no")
        self.status_code, self.body = status, body


@given(JSON, st.sampled_from([200, 400, 401, 403, 422, 429, 500, 503]))
def test_any_answer_is_an_image_or_says_what_it_is(body: Any, status: int) -> None:
    """Whatever a server sends, reading it ends in an image or in one line (A1)."""
    answered: Exception = AnsweredError(status, body)
    try:
        drawn = first_image(json.dumps(body).encode())
        assert drawn.address or isinstance(drawn.content, bytes)
    except NoImageError as problem:
        answered = problem if status == 200 else answered
    names = {"n", "size", "seed", "response_format"}
    assert refused_parameters(answered, names, "a cat") <= names
    assert is_refusal(answered, "a cat") in {True, False}
    assert isinstance(is_retryable(answered), bool)
    told = cause_of(answered, [KEY])
    assert len(told) < 400
    assert "\n" not in told


def in_lines(data: bytes) -> str:
    return base64.encodebytes(data).decode()


@pytest.mark.parametrize(
    "image",
    [
        {"b64_json": in_lines(png())},
        {"b64_json": f"data:image/png;base64,{in_lines(png())}"},
        {"b64_json": base64.urlsafe_b64encode(png()).decode().rstrip("=")},
        {"b64_json": quote(base64.b64encode(png()).decode(), safe="")},
        {"b64_json": None, "url": f"DATA:image/png;base64,{in_lines(png())}"},
        {"url": f"data:image/png;base64,{quote(in_lines(png()))}"},
        {"url": f"data:image/png,{quote(png())}"},
    ],
)
async def test_base64_is_read_in_any_dress(
    server: Server, image: dict[str, Any]
) -> None:
    """Lines, addresses, other alphabets and missing ends are no reason to lose it."""
    server.replies = [drawn(**image)]

    got = await api(server).generate("a red circle", 7)

    assert picture().tobytes() == got.tobytes()
    assert [] == server.fetched


def ring(mode: str) -> Image.Image:
    """Return a black square on nothing."""
    image = Image.new("RGBA", (8, 8))
    image.paste((0, 0, 0, 255), (2, 2, 6, 6))
    if mode == "P":
        return image.quantize(4)
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
async def test_what_is_transparent_is_white(server: Server, mode: str) -> None:
    """Black ink on nothing is a drawing, not a black image."""
    server.replies = [drawn(png(ring(mode)))]

    got = await api(server).generate("a square", 7)

    assert "RGB" == got.mode
    assert (255, 255, 255) == got.getpixel((0, 0))
    assert (0, 0, 0) == got.getpixel((4, 4))


async def test_half_transparent_is_half_white(server: Server) -> None:
    """Alpha is composed, not cut."""
    server.replies = [drawn(png(Image.new("RGBA", (2, 2), (0, 0, 0, 128))))]

    got = await api(server).generate("a shade", 7)

    assert (127, 127, 127) == got.getpixel((0, 0))


async def test_deep_grey_keeps_its_shades(server: Server) -> None:
    """16 bits a pixel are scaled, not cut off at white."""
    deep = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    server.replies = [drawn(png(deep))]

    got = await api(server).generate("a shade", 7)

    assert (127, 127, 127) == got.getpixel((0, 0))


REFUSALS: dict[str, Reply] = {
    "OpenAI": error(400, "content_policy_violation"),
    "Azure": Reply(
        json.dumps(
            {
                "error": {
                    "code": "contentFilter",
                    "innererror": {"code": "ResponsibleAIPolicyViolation"},
                }
            }
        ),
        status=400,
    ),
    "xAI": Reply(
        '{"code": "x", "error": "Generated image rejected by content moderation."}',
        status=400,
    ),
    "FastAPI": Reply('{"detail": "NSFW content detected"}', status=422),
    "500": Reply('{"error": "Potential NSFW content was detected"}', status=500),
    "451": error(451, message="This prompt violates our usage guidelines."),
    "403": error(403, message="Your request was flagged as unsafe content."),
    "Google": Reply(
        '{"error": {"message": "filtered out because they violated the guidelines"}}'
    ),
    "reason": Reply('{"data": [{"finish_reason": "CONTENT_FILTERED"}]}'),
    "flag": Reply('{"data": [{"b64_json": "", "has_nsfw_concepts": true}]}'),
    "choice": Reply('{"choices": [{"finish_reason": "content_filter"}]}'),
    "chat": Reply('{"choices": [{"message": {"refusal": "I cannot draw that."}}]}'),
    "DashScope": Reply('{"code": "DataInspectionFailed", "message": "no"}', status=400),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_is_one_in_any_shape(server: Server, refusal: str) -> None:
    """What is not drawn for what it shows is told apart from what went wrong."""
    server.replies = [REFUSALS[refusal]]

    got = await failure(server)

    assert Status.SAFETY_FILTERED == got.status
    assert 1 == len(server.bodies)


@pytest.mark.parametrize(
    "reply",
    [
        Reply('{"data": [], "nsfw": false}'),
        Reply('{"data": [{"b64_json": null, "has_nsfw_concepts": false}]}'),
        error(400, message="sorry, no moderation, safety filter or nsfw here"),
        error(400, message="content type must be JSON; the request was rejected"),
        error(401, message="content_policy"),
    ],
)
async def test_what_is_denied_or_repeated_is_no_refusal(
    server: Server, reply: Reply
) -> None:
    """A flag that is off, or the prompt's own words, accuse nobody."""
    server.replies = [reply]
    images = api(server, attempts=1)

    with pytest.raises(CandidateError) as caught:
        await images.generate("no moderation, safety filter or nsfw here", 7)

    assert Status.GENERATION_FAILED == caught.value.status


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"data": []}', "its list of images is empty"),
        ('{"data": null, "created": 1}', "it has data, created"),
        ('{"images": ["x"]}', "it has images"),
        ("{}", "it has nothing"),
        ("[]", "it is no object"),
        ('{"data": [{"b64_json": "", "id": 3}]}', "its image has id, but no b64_json"),
        ('{"data": [{"b64_json": 3}]}', "its image has b64_json, but no b64_json"),
        ('{"error": {"message": "the queue is full"}}', "it says 'the queue is full'"),
        ('{"detail": "warming up"}', "it says 'warming up'"),
        ("<html>Sign in</html>", "it is no JSON, but '<html>Sign in</html>'"),
        ("", "it is no JSON, but ''"),
        ("[" * 100_000, "it is no JSON, but"),
        ('{"data": [{"b64_json": "no base64!"}]}', "it is no base64"),
    ],
)
async def test_an_answer_without_an_image_says_what_it_is(
    server: Server, body: str, words: str
) -> None:
    """What came instead is what one needs to know."""
    server.replies = [Reply(body)]

    assert words in str(await failure(server))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "model foo is not loaded"}, "foo is not loaded"),
        ({"code": "400", "error": "no such model"}, "no such model"),
        ([{"error": {"code": 400, "message": "the key is not valid"}}], "is not valid"),
        ("a bare text", "a bare text"),
    ],
)
async def test_a_cause_is_told_in_the_servers_words(
    server: Server, body: Any, words: str
) -> None:
    """Whatever shape it has, what the server says is passed on."""
    server.replies = [Reply(json.dumps(body), status=400)]

    assert words in str(await failure(server))


@pytest.mark.parametrize("status", [400, 401, 403, 500])
@pytest.mark.parametrize(
    "form", ["{key}", "{part}*****{end}", "{part}…{end}", "{json}", "{base64}"]
)
async def test_no_part_of_a_key_is_passed_on(
    server: Server, status: int, form: str
) -> None:
    """Servers repeat keys in part, quoted and encoded."""
    shown = form.format(
        key=KEY,
        part=KEY[:8],
        end=KEY[-4:],
        json=json.dumps(KEY),
        base64=base64.b64encode(KEY.encode()).decode(),
    )
    server.replies = [error(status, message=f"Incorrect API key: {shown}")]

    got = str(await failure(server, attempts=1))

    assert KEY[:8] not in got
    assert f"*{KEY[-4:]}" not in got
    assert KEY[-8:] not in got
    assert base64.b64encode(KEY.encode()).decode()[:12] not in got


async def test_secrets_of_an_address_are_not_passed_on(server: Server) -> None:
    """A key in a query is one, too."""
    server.replies = [error(400, message="the code QUERYSECRET is unknown")]
    images = ImagesAPI(f"{server.url}?code=QUERYSECRET&api-version=2026-01-01")

    with pytest.raises(CandidateError) as caught:
        await images.generate("a cat", 1)

    assert "QUERYSECRET" not in str(caught.value)


async def test_a_drip_is_given_up() -> None:
    """One byte now and then keeps nobody waiting beyond the timeout."""

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    start = time.monotonic()
    with serving(drip) as url, pytest.raises(CandidateError, match="APITimeoutError"):
        await ImagesAPI(url, timeout=0.3).generate("a cat", 1)
    assert time.monotonic() - start < 4


async def test_an_error_of_any_size_and_depth_is_an_error(server: Server) -> None:
    """Neither megabytes nor a thousand brackets keep a failure from being told."""
    server.replies = [Reply("x" * (8 << 20), status=400)]
    got = await failure(server)
    assert "HTTP 400" in str(got)
    assert len(str(got)) < 1000

    deep = '{"error": ' * 900 + '"no"' + "}" * 900
    for one in (Reply(deep, status=400), Reply(deep)):
        server.replies = [one]
        assert Status.GENERATION_FAILED == (await failure(server)).status


async def test_a_bomb_of_text_is_not_unpacked(server: Server) -> None:
    """A few bytes that unfold to more than an answer may have are refused, once."""
    asked = list[str]()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        bomb_of_blanks = gzip.compress(b" " * (65 << 20), 9)
        reply(handler, bomb_of_blanks, Content_Encoding="gzip")

    with serving(answer) as url, pytest.raises(CandidateError, match="larger than 64"):
        await ImagesAPI(url).generate("a cat", 1)
    assert 1 == len(asked)


async def test_a_large_image_does_not_stop_the_others(server: Server) -> None:
    """While it is decoded, and looked at, the event loop goes on."""
    large = Image.new("RGB", (4096, 4096), (128, 128, 128))
    server.replies = [drawn(png(large))]
    worst, last = 0.0, time.monotonic()

    task = asyncio.create_task(api(server).generate("a cat", 1))
    while not task.done():
        await asyncio.sleep(0.005)
        worst, last = max(worst, time.monotonic() - last), time.monotonic()

    assert (4096, 4096) == task.result().size
    assert worst < 0.5


async def test_images_that_were_lost_are_told(server: Server) -> None:
    """Whoever pays for images wants to know of those that never came."""
    lost = list[int]()
    server.replies = [Reply(reset=True), error(503), drawn()]

    images = api(server, sleep=Clock(), on_lost=lambda: lost.append(1))
    await images.generate("a red circle", 7)

    assert [1] == lost

    images = ImagesAPI("http://127.0.0.1:9/v1", sleep=Clock(), on_lost=lost.clear)
    with pytest.raises(CandidateError):
        await images.generate("a red circle", 7)
    assert [1] == lost  # nothing was sent


async def test_images_wait_their_turn(server: Server) -> None:
    """No more requests are on their way than there are places."""
    running, most = 0, 0

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1
        reply(handler, drawn().body.encode())

    with serving(answer) as url:
        images = ImagesAPI(url, limiter=RateLimiter(concurrency=2))
        await asyncio.gather(*(images.generate("a cat", n) for n in range(6)))
    assert 2 == most


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
    [("7", 7, 7), ("120", 120, 120), ("soon", 0, 20), ("-1", 0, 20)],
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


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        ("no", {"retry-after-ms": "12000"}),
        ("Limit 5, Used 5. Please try again in 12s.", {}),
        ("Please retry after 12 seconds.", {}),
        ("no", {"retry-after": "DATE"}),
    ],
)
async def test_a_wish_is_honoured_in_every_form(
    server: Server, message: str, headers: dict[str, str]
) -> None:
    """Whoever says when to come back is asked then, and not thrice before."""
    clock = Clock()
    date = formatdate(time.time() + 13, usegmt=True)
    told = {name: value.replace("DATE", date) for name, value in headers.items()}
    body = json.dumps({"error": {"message": message}})
    server.replies = [Reply(body, status=429, headers=told), drawn()]

    await api(server, sleep=clock).generate("a red circle", 7)

    (waited,) = clock.waits
    assert 11 <= waited <= 13


async def test_who_says_when_to_come_back_is_believed_for_longer(
    server: Server,
) -> None:
    """With more prompts than an account may draw in a minute, all get their turn."""
    busy, clock = error(429, retry_after="12"), Clock()
    server.replies = [*[busy] * 7, drawn()]
    got = await api(server, sleep=clock).generate("a red circle", 7)
    assert picture().tobytes() == got.tobytes()
    assert [12.0] * 7 == clock.waits

    server.replies = [busy]
    await failure(server, timeout=60)
    assert 8 + 6 == len(server.bodies)
    await failure(server, attempts=1)
    assert 8 + 6 + 1 == len(server.bodies)


async def test_a_wish_that_takes_too_long_is_told(server: Server) -> None:
    """Nobody waits ten minutes for an image, or asks in vain before."""
    server.replies = [error(429, retry_after="600")]

    got = await failure(server)

    assert "asks to wait 600 s; try again then" in str(got)
    assert 1 == len(server.bodies)


async def test_slow_servers_are_not_asked_to_draw_twice(server: Server) -> None:
    """After a timeout the first image may still be in the making, and be billed."""
    server.replies = [Reply(stall=True)]

    got = await failure(server, timeout=0.2)

    assert "APITimeoutError" in str(got)
    assert "needs a higher image_timeout" in str(got)
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
    assert {"seed", "response_format"} == ImagesAPI(url, model="gpt-image-2")._refused
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
        (f"ftp://host/v1?key={KEY}", "expected the address of an images server"),
        ("http://api.openai.com/v1", "expected https for api.openai.com, got http"),
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
