"""A server for a survey: it shows the page, and keeps what people answer."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.survey.responses import LARGEST, parse_responses
from socratic_agents.storage.files import write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from socratic_agents.lab.survey.design import SurveyKey

__all__ = ("SurveyServer",)

TIMEOUT = 30
"""Seconds for which a silent connection is kept."""

MOST = 10_000
"""Files of answers; whoever floods the server fills no disk."""


class SurveyServer(ThreadingHTTPServer):
    """Serves one page, and keeps each person's answers whole under ``answers/``.

    A file's name is a hash, never anything that came over the wire. Who sends again
    replaces what they sent before, unless it was more.

    Args:
        page: What is shown.
        key: Of the survey that the answers must belong to.
        folder: Where ``answers/`` is made.
        host: Name or address to listen on.
        port: 0 takes any that is free.
        on_answers: Called with a line for each file that was kept.

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
        on_answers: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.page, self.key = page.encode("utf-8", "replace"), key
        self.folder, self.on_answers = folder / "answers", on_answers
        self._writing = threading.Lock()
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

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of people who left while they were answered."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def keep(self, data: bytes) -> None:
        """Keep a file of answers.

        Raises:
            ConfigurationError: If it is none of this survey, or cannot be written.
        """
        answers = parse_responses(data, key=self.key, name="what was sent")
        name = f"{hashlib.sha256(answers.rater.encode()).hexdigest()[:32]}.json"
        with self._writing:
            known = (self.folder / name).exists()
            if known:
                before = (self.folder / name).read_bytes()
                kept = parse_responses(before, key=self.key, name=name)
                if len(kept.answers) > len(answers.answers):
                    return
            elif len([*self.folder.glob("*.json")]) >= MOST:
                message = f"expected at most {MOST:,} files of answers; move some away"
                raise ConfigurationError(message)
            write_files(self.folder, {name: data})
        progress = f"{len(answers.answers)} of {answers.total} pairs"
        self.on_answers(f"{name}: {progress}{', sent again' if known else ''}")


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: SurveyServer
    timeout = TIMEOUT
    server_version, sys_version = "survey", ""

    def do_GET(self) -> None:
        if self.path in {"/", "/survey.html"}:
            self._reply(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "expected / or /answers")

    def do_POST(self) -> None:
        # Reading what is refused would cost time, and what stays unread would be
        # taken for the next request.
        self.close_connection = True
        if self.path != "/answers":
            self._refuse(HTTPStatus.NOT_FOUND, "expected /answers")
            return
        # Pages of other sites may not send this type without asking, which is refused.
        if self.headers.get_content_type() != "application/json":
            message = "expected application/json"
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "expected Content-Length")
            return
        if len(length) > 12 or int(length) > LARGEST:
            message = f"expected at most {LARGEST:,} bytes"
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
            return
        try:
            self.server.keep(self.rfile.read(int(length)))
        except ConfigurationError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._reply(HTTPStatus.CREATED, b'{"status": "ok"}', "application/json")

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
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing of each request: addresses of people are nobody's business."""
