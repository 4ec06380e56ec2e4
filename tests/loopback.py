"""A server on the loopback that speaks the chat protocol, and misbehaves on demand."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self


@dataclass(frozen=True)
class Reply:
    """What the server does with one request."""

    body: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    stall: bool = False
    """Answer nothing until the server is closed."""
    reset: bool = False
    """Close the connection without an answer."""


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    path: str
    headers: Mapping[str, str]
    body: Any
    """The parsed JSON."""


def chat(
    content: str | None,
    *,
    finish_reason: str = "stop",
    refusal: str | None = None,
    arguments: str | None = None,
    tool: str = "Answer",
) -> Reply:
    """Return a completion; with ``arguments`` it is a call of ``tool``."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if refusal is not None:
        message["refusal"] = refusal
    if arguments is not None:
        function = {"name": tool, "arguments": arguments}
        call = {"id": "call_1", "type": "function", "function": function}
        message["tool_calls"] = [call]
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return completion([choice])


def completion(choices: list[Any]) -> Reply:
    """Return a completion with these choices; 11 tokens went in and 7 came out."""
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "loopback",
        "choices": choices,
        "usage": usage,
    }
    return Reply(json.dumps(body))


def error(
    status: int, code: str | None = None, *, message: str = "no", **headers: str
) -> Reply:
    """Return an error of the protocol; underscores in header names become dashes."""
    body = {"error": {"message": message, "type": "error", "code": code}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps(body), status=status, headers=named)


HTML = Reply("<html><body>Sign in</body></html>", content_type="text/html")
"""What a portal or a wrong address answers."""
NO_CHOICES = completion([])
ERROR_OBJECT = Reply('{"error": {"message": "the upstream is down", "code": 502}}')
"""How some proxies report an error: with status 200."""
STALL = Reply(stall=True)
RESET = Reply(reset=True)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """With the usual 5, many clients at once would wait for seconds to be let in."""


class Loopback:
    """Answers with one reply after another, the last one for ever.

    A reply may be a function of the request. ``requests`` holds everything that came
    over the wire, and ``connections`` how often a client connected; with ``kept`` it may
    send several requests over one.
    """

    def __init__(
        self,
        *replies: Reply | Callable[[Request], Reply],
        kept: bool = False,
        port: int = 0,
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self._kept = kept
        self.port = port
        """Where it listens; 0 until it begins, if any will do."""
        self._replies = replies
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @property
    def base_url(self) -> str:
        """Where a client finds the server."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/v1"

    def answer(self, request: Request) -> Reply:
        """Record a request and return the reply to it."""
        with self._lock:
            self.requests.append(request)
            number = min(len(self.requests), len(self._replies)) - 1
        reply = self._replies[number]
        return reply if isinstance(reply, Reply) else reply(request)

    def __enter__(self) -> Self:
        loopback, closing = self, self._closing

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1" if loopback._kept else "HTTP/1.0"

            def setup(self) -> None:
                super().setup()
                with loopback._lock:
                    loopback.connections += 1

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = loopback.answer(Request(self.path, headers, body))
                if reply.stall:
                    closing.wait()
                if reply.stall or reply.reset:
                    return
                content = reply.body.encode()
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(content)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Stay silent: what came is in ``requests``."""

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._server.daemon_threads = False
        # A short poll: closing waits for it, and every test closes a server.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), name="loopback"
        )
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
