"""A hub on the loopback that answers every request alike, and no other hub."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import close_session, constants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Answers every request alike, and notes what was asked."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        self.asked: list[tuple[str, str]] = []
        self.url = ""


@contextmanager
def answering(status: int, **headers: str) -> Iterator[Hub]:
    """Serve a hub on the loopback; underscores in names of headers become dashes."""
    hub = Hub(status, {name.replace("_", "-"): one for name, one in headers.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            hub.asked.append((self.command, self.path))
            self.send_response(hub.status)
            for name, value in hub.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def online(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Iterator[Callable[[str], None]]:
    """Let the hub be asked, with an empty cache, no token and no proxy.

    What it gives says where the hub is, as HF_ENDPOINT does before Python starts.
    """
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def at(url: str) -> None:
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    close_session()
    yield at
    close_session()


def cached(folder: Path, cache: str, name: str = "owner/model") -> Path:
    """Move a model's files into the cache as the hub's client has them; return where."""
    place = Path(cache) / f"models--{name.replace('/', '--')}"
    snapshot = place / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    return snapshot
