"""A server for a survey: it shows the page, and keeps what people answer."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import sys
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.survey.responses import LARGEST, parse_responses
from socratic_agents.storage.files import quarantine_file, write_files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from socratic_agents.lab.survey.design import SurveyKey
    from socratic_agents.lab.survey.responses import Responses

__all__ = ("SurveyServer",)

TIMEOUT = 30
"""Seconds for which a silent connection is kept."""

DEADLINE, SENDING = 60, 600
"""Seconds for all that a connection says, however slowly, and for all it is sent."""

MOST_CONNECTIONS = 128
"""At one time, and so threads; one more closes the oldest."""

MOST = 10_000
"""Files of answers, of one address half of it: who floods the server fills no disk,
and leaves room for others."""


class SurveyServer(ThreadingHTTPServer):
    """Serves one page, and keeps each person's answers whole under ``answers/``.

    A file's name is a hash, never anything that came over the wire. Who sends again
    replaces what they sent before, unless it was more. Other sites cannot use it: it
    answers to addresses, to ``localhost`` and to its own names only.

    Args:
        page: What is shown.
        key: Of the survey that the answers must belong to.
        folder: Where ``answers/`` is made.
        host: Name or address to listen on.
        port: 0 takes any that is free.
        names: Further names under which people open it, such as that of a proxy.
        on_answers: Called with a line for each file that was kept, or could not be.

    Raises:
        ConfigurationError: If it cannot listen there.
    """

    daemon_threads = True

    def __init__(
        self,
        page: str,
        *,
        key: SurveyKey,
        folder: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        names: Collection[str] = (),
        on_answers: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.page, self.key = page.encode("utf-8", "replace"), key
        self.folder, self.on_answers = folder / "answers", on_answers
        self.names = {
            name.lower() for name in ("localhost", host, socket.gethostname(), *names)
        }
        self._writing, self._counting = threading.Lock(), threading.Lock()
        self._open: dict[Any, None] = {}
        self._of_address: dict[str, set[str]] = {}
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            message = f"expected to listen on {host}:{port}, got: {reason}; use --port"
            raise ConfigurationError(message) from error

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread; too many close the oldest."""
        with self._counting:
            # The oldest has had its time: a person is answered within a second.
            while len(self._open) >= MOST_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._counting:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of people who left while they were answered."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def knows(self, host: str) -> bool:
        """Whether a ``Host`` means this server.

        A site can let its own name lead here, and its pages then speak for whoever
        opened them; it cannot do so with an address.
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
            return name in self.names or bool(ip_address(name))
        except ValueError:
            return False

    def keep(self, data: bytes, address: str = "") -> None:
        """Keep a file of answers.

        Args:
            data: What was sent.
            address: Of the sender.

        Raises:
            ConfigurationError: If it is none of this survey.
        OSError: If it cannot be written.
        """
        with self._writing:  # reading takes memory, too: one at a time
            answers = parse_responses(data, key=self.key, name="what was sent")
            name = f"{hashlib.sha256(answers.rater.encode()).hexdigest()[:32]}.json"
            before = self._before(name)
            if before is not None and len(before.answers) > len(answers.answers):
                return
            if before is None:
                self._check_room(name, address)
            try:
                write_files(self.folder, {name: data})
            except ConfigurationError as error:
                self.tell(str(error))  # names folders, which people need not know
                raise OSError from error
        again = ", sent again" if before is not None else ""
        progress = f"{len(answers.answers)} of {answers.total} pairs"
        self.tell(f"{name}: {progress}{again}")

    def tell(self, line: str) -> None:
        """Pass a line on; who closed the terminal loses lines, not answers."""
        with suppress(OSError, ValueError):
            self.on_answers(line)

    def _before(self, name: str) -> Responses | None:
        """Return what a person sent before; what is spoilt is put aside."""
        file = self.folder / name
        try:
            return parse_responses(file.read_bytes(), key=self.key, name=name)
        except FileNotFoundError:
            return None
        except (ConfigurationError, OSError) as error:
            with suppress(OSError):
                moved = quarantine_file(self.folder, file)
                self.tell(f"{name}: spoilt, moved to {moved.name} ({error})")
            return None

    def _check_room(self, name: str, address: str) -> None:
        """Refuse what would be one file too many."""
        mine = self._of_address.setdefault(address, set())
        if (
            len(mine | {name}) * 2 > max(MOST, 2)
            or len([*self.folder.glob("*.json")]) >= MOST
        ):
            message = f"expected at most {MOST:,} files of answers; move some away"
            raise ConfigurationError(message)
        mine.add(name)


class _Reader(io.RawIOBase):
    """What a connection says, until its deadline."""

    def __init__(self, handler: _Handler) -> None:
        self._handler = handler

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._handler.hurry()
        return int(self._handler.connection.recv_into(buffer))


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: SurveyServer
    server_version, sys_version = "survey", ""

    def setup(self) -> None:
        """Begin the time that all of it may take."""
        super().setup()
        self._ends = time.monotonic() + DEADLINE
        self.rfile = io.BufferedReader(_Reader(self))

    def hurry(self) -> None:
        """Leave what comes next no more time than there is.

        Raises:
            TimeoutError: If there is none.
        """
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(min(TIMEOUT, left))

    def do_GET(self) -> None:
        if not self._for_us():
            return
        if self.path in {"/", "/survey.html"}:
            self._reply(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "expected / or /answers")

    def do_POST(self) -> None:
        # Reading what is refused would cost time, and what stays unread would be
        # taken for the next request.
        self.close_connection = True
        if not self._for_us():
            return
        length = self.headers.get("Content-Length", "")
        if fault := self._fault(length):
            self._refuse(*fault)
            return
        data = self.rfile.read(int(length))
        try:
            self.server.keep(data, self.client_address[0])
        except ConfigurationError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except OSError:
            message = "expected room for the answers, got none; send them again later"
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, message)
        else:
            self._reply(HTTPStatus.CREATED, b'{"status": "ok"}', "application/json")

    def _fault(self, length: str) -> tuple[HTTPStatus, str] | None:
        """Return why what is about to come is not read, if it is not."""
        if self.path != "/answers":
            return HTTPStatus.NOT_FOUND, "expected /answers"
        # Pages of other sites may not send this type without asking, which is refused.
        if self.headers.get_content_type() != "application/json":
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json"
        if not (length.isascii() and length.isdigit()):
            return HTTPStatus.LENGTH_REQUIRED, "expected Content-Length"
        if len(length) > 12 or int(length) > LARGEST:
            message = f"expected at most {LARGEST:,} bytes"
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message
        return None

    def _for_us(self) -> bool:
        """Whether it was sent to this server, by its own page if by one; or refuse."""
        host = self.headers.get("Host", "127.0.0.1")
        if not self.server.knows(host):
            message = "expected an address or a known name; use --name for another one"
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, message)
            return False
        origin = self.headers.get("Origin")
        if origin not in {None, f"http://{host}", f"https://{host}"}:
            self._refuse(HTTPStatus.FORBIDDEN, "expected answers of the survey's page")
            return False
        return True

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        body = json.dumps({"status": "failed", "error": message}).encode()
        self._reply(status, body, "application/json")

    def _reply(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.connection.settimeout(SENDING)  # of each call, and it is one
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing of each request: addresses of people are nobody's business."""
