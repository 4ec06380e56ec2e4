"""Requests to servers: they end in time, stay small and go nowhere else.

N1  A request takes no longer than its deadline, whatever the server does.
N2  An answer takes no more memory than allowed, however it is packed.
N3  Nothing is sent to another server than the one that was named.
N4  No text that is passed on holds a key, or a part of one.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import resource
import threading
import time
import zlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.network.client import BoundedClient, ResponseRefusedError
from socratic_agents.network.server_errors import PART, server_hint, without_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "sk-proj-Ab3dEf6hIj9lMn2p"


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Let a server do with each request whatever it likes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                answer(self)
            except ConnectionError:
                """The client left."""

        do_GET = do_POST  # noqa: N815 - the base class's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reply(
    handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


async def sent(url: str, **options: Any) -> Any:
    """Send one request, by a client of its own."""
    async with BoundedClient(**{"timeout": 20.0, **options}) as client:
        return await client.post(f"{url}/x", json={"prompt": "a cat"})


class TestDeadlines:
    async def test_a_dripping_server_is_given_up(self) -> None:
        """One byte now and then is no answer: the deadline is for the whole (N1)."""

        def drip(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            for _ in range(100):
                handler.wfile.write(b" ")
                time.sleep(0.05)

        with serving(drip) as url:
            start = time.monotonic()
            with pytest.raises(openai.APITimeoutError):
                await sent(url, timeout=0.3)
            assert time.monotonic() - start < 3

    async def test_dripping_headers_are_given_up(self) -> None:
        """A head without an end counts, too (N1)."""

        def drip(handler: BaseHTTPRequestHandler) -> None:
            for number in range(100):
                handler.wfile.write(
                    b"HTTP/1.1 200 OK\r\n" if not number else b"x: 1\r\n"
                )
                time.sleep(0.05)

        with serving(drip) as url, pytest.raises(openai.APITimeoutError):
            await sent(url, timeout=0.3)


class TestSizes:
    @pytest.mark.parametrize("packed", ["gzip", "deflate", ""])
    async def test_what_is_small_is_read(self, packed: str) -> None:
        """Packed or not, the same bytes arrive."""
        body = json.dumps({"data": "a cat" * 1000}).encode()
        content = {"gzip": gzip.compress(body), "deflate": zlib.compress(body)}
        more: Any = {"Content_Encoding": packed} if packed else {}
        with serving(
            lambda handler: reply(handler, content.get(packed, body), **more)
        ) as url:
            got = await sent(url)
        assert {"data": "a cat" * 1000} == got.json()

    @pytest.mark.parametrize("packed", [True, False])
    async def test_a_larger_answer_is_not_read(self, packed: bool) -> None:
        """Neither a large body nor a small one that unfolds to a large one (N2)."""
        body = b" " * (1 << 20)
        content = gzip.compress(body) if packed else body
        more: Any = {"Content_Encoding": "gzip"} if packed else {}
        with (
            serving(lambda handler: reply(handler, content, **more)) as url,
            pytest.raises(ResponseRefusedError, match=r"larger than 0\.5 MiB"),
        ):
            await sent(url, largest=1 << 19)

    async def test_of_an_error_the_beginning_is_read(self) -> None:
        """What is wrong stands there, and the status is more than the rest."""
        body = b"no " * (1 << 20)
        with serving(lambda handler: reply(handler, body, 503)) as url:
            got = await sent(url, largest=1 << 19)
        assert 503 == got.status_code
        assert got.content.startswith(b"no no")
        assert len(got.content) < 1 << 18

    async def test_a_bomb_takes_little_memory(self) -> None:
        """What is not allowed is not unpacked first (N2)."""
        bomb = gzip.compress(b" " * (300 << 20), 9)
        async with BoundedClient(timeout=1):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        more: Any = {"Content_Encoding": "gzip"}
        with (
            serving(lambda handler: reply(handler, bomb, **more)) as url,
            pytest.raises(ResponseRefusedError, match="larger than 8 MiB"),
        ):
            await sent(url, largest=8 << 20)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert after - before < 100 << 10  # KiB

    @pytest.mark.parametrize(
        ("packed", "words"), [("br", "packed as 'br'"), ("gzip", "cannot be unpacked")]
    )
    async def test_what_cannot_be_unpacked_is_refused(
        self, packed: str, words: str
    ) -> None:
        """A strange packing, or a broken one, says so in one line."""
        with (
            serving(lambda h: reply(h, b"no gzip", Content_Encoding=packed)) as url,
            pytest.raises(ResponseRefusedError, match=words),
        ):
            await sent(url)


class TestElsewhere:
    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    async def test_a_redirect_to_another_server_is_refused(self, status: int) -> None:
        """Neither the key nor the prompt goes there (N3)."""
        asked = list[str]()
        with serving(lambda h: asked.append(h.path)) as other:
            there = {"Location": f"{other}/y?key={KEY}"}
            with (
                serving(lambda h: reply(h, b"", status, **there)) as url,
                pytest.raises(ResponseRefusedError, match="is not followed") as caught,
            ):
                await sent(url)
        assert [] == asked
        assert KEY not in str(caught.value)

    async def test_a_redirect_to_the_server_itself_is_followed(self) -> None:
        """A missing slash is no reason to fail, and nobody is sent round for ever."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            if handler.path.endswith("/x"):
                reply(handler, b"", 307, Location="/v1/x/")
            else:
                reply(handler, b"here")

        with serving(answer) as url:
            assert b"here" == (await sent(url)).content
            with pytest.raises(ResponseRefusedError, match="which is not followed"):
                await sent(url, follow_redirects=False)
        with (
            serving(lambda h: reply(h, b"", 307, Location="/v1/x")) as url,
            pytest.raises(ResponseRefusedError, match="more than 5 times"),
        ):
            await sent(url)

    async def test_names_for_openai_go_to_nobody_else(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An organization from the environment is not told to another server (N3)."""
        monkeypatch.setenv("OPENAI_ORG_ID", "org-sentinel")
        monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-sentinel")
        told = list[str]()

        def answer(handler: BaseHTTPRequestHandler) -> None:
            told.append(str(handler.headers))
            reply(handler, b'{"data": []}')

        with serving(answer) as url:
            async with openai.AsyncOpenAI(
                base_url=url, api_key="k", http_client=BoundedClient(timeout=9)
            ) as client:
                await client.models.list()
        assert "sentinel" not in told[0]


class ToldError(Exception):
    """What a client raises, with the body and the headers of an answer."""

    def __init__(self, body: Any, status: int = 429, **headers: str) -> None:
        super().__init__("no")
        self.body, self.status_code = body, status
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = SimpleNamespace(headers=named)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Please try again in 12s.", 12),
        ("Rate limit reached. Please try again in 1m30.5s. Visit …", 90.5),
        ("try again in 250ms", 0.25),
        ("Please retry after 26 seconds.", 26),
        ("Quota exceeded, retry in 34.07s", 34.07),
        ("Please wait 2 minutes before the next request", 120),
        ("You may try again after 500 milliseconds", 0.5),
        ("The limit resets in 1 hour", 3600),
        ("Try again later. Limit 5, used 5.", None),
        ("too many requests: 12 seconds of video were asked for", None),
    ],
)
def test_a_wish_in_words_is_a_wish(words: str, seconds: float | None) -> None:
    """Servers that say nothing in a header say it in their message."""
    for body in ({"message": words}, {"error": {"message": words}}, [words], words):
        assert seconds == server_hint(ToldError(body))
    assert server_hint(ToldError({"message": words}, status=400)) is None


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"retry_after": 1.5}, 1.5),
        ({"retry_after_ms": 1500}, 1.5),
        ({"error": {"details": [{"@type": "RetryInfo", "retryDelay": "34s"}]}}, 34),
        ({"retry_after": None, "detail": "no"}, None),
        ({"retry_after": -3}, None),
        ({"retry_after": True}, 1),
        (None, None),
    ],
)
def test_a_wish_in_a_member_is_a_wish(body: Any, seconds: float | None) -> None:
    """So it is where a program would look for it."""
    assert seconds == server_hint(ToldError(body))


def test_headers_come_before_words() -> None:
    """What HTTP says counts, and a bad header does not make words count."""
    words = {"message": "try again in 12s"}
    assert 7 == server_hint(ToldError(words, retry_after="7"))
    assert 0.5 == server_hint(ToldError(words, retry_after_ms="500"))
    assert server_hint(ToldError(words, retry_after="soon")) is None


FORMS = {
    "plain": KEY,
    "json": json.dumps(KEY),
    "html": html.escape(KEY),
    "url": quote(KEY, safe=""),
    "hex": KEY.encode().hex(),
    "base64": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "beginning": KEY[:9],
    "end": KEY[-9:],
    "masked": f"{KEY[:3]}{'*' * 20}{KEY[-4:]}",
    "dots": f"{KEY[:8]}...{KEY[-4:]}",
    "ellipsis": f"{KEY[:4]}…{KEY[-4:]}",
}


@pytest.mark.parametrize("form", FORMS)
def test_keys_are_taken_out_in_any_form(form: str) -> None:
    """What a server repeats of a key is not passed on (N4)."""
    text = f"Incorrect key: {FORMS[form]}. Ask for a cat."
    got = without_keys([KEY], text)
    assert got.startswith("Incorrect key: ")
    assert got.endswith(". Ask for a cat.")
    assert "[key]" in got
    assert KEY[-4:] not in got
    assert KEY[:8] not in got


@given(
    st.text(max_size=40), st.text(max_size=40), st.integers(0, 15), st.integers(7, 24)
)
def test_no_part_of_a_key_is_left(
    before: str, after: str, start: int, size: int
) -> None:
    """Wherever it stands, no run of ``PART`` characters stays (N4)."""
    part = KEY[start : start + size]
    got = without_keys([KEY], f"{before}{part}{after}")
    assert not [n for n in range(len(KEY) - PART + 1) if KEY[n : n + PART] in got]


@given(st.text(alphabet="abcdefgh .,", max_size=80))
def test_other_words_stay(text: str) -> None:
    """A text without a key is passed on as it is."""
    assert text == without_keys([KEY, "none", ""], text.replace("none", ""))


async def test_a_timeout_of_something_else_is_told_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The deadline of the exchange has not come, and is not said to have."""
    problem = TimeoutError("of the resolver")

    async def fail(*_: object) -> None:
        raise problem

    async with BoundedClient(timeout=20.0) as client:
        monkeypatch.setattr(client, "_exchange", fail)
        with pytest.raises(TimeoutError) as caught:
            await client.post("http://127.0.0.1:1/x")
    assert problem is caught.value
