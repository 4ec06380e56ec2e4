"""Measure what a call of the language model, and a candidate, cost in processor time.

``python docs/calls.py`` prints the figures of docs/performance.md. The server that
answers runs in a process of its own, so that only our side is measured.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from PIL import Image

from socratic_agents import Candidate, Failure, History, Refiner, Round
from socratic_agents.runtime.refiner import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from multiprocessing.connection import Connection

CALLS = 400
LOOPS = 500

SAID = {"reason": "It has none.", "missing": ["a hat"], "satisfied": False}
REPLY = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": json.dumps(SAID)},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
}


class Handler(BaseHTTPRequestHandler):
    """Answers every question alike, over a connection that is kept."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for headers and body

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(REPLY).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class Server(ThreadingHTTPServer):
    """Takes many connections at once."""

    request_queue_size = 512


def serve(port: Connection) -> None:
    """Answer on a port of the loopback until the process is ended."""
    server = Server(("127.0.0.1", 0), Handler)
    port.send(server.server_address[1])
    server.serve_forever()


async def measured(work: Callable[[], Awaitable[int]]) -> float:
    """Return the milliseconds of a processor for one of what the work counts."""
    begun = time.process_time()
    count = await work()
    return 1000 * (time.process_time() - begun) / count


async def calls(url: str, concurrency: int) -> float:
    """Return what one call of the judge costs, in milliseconds."""
    settings: dict[str, Any] = {"llm": "openai:m", "base_url": url, "judge": "caption"}
    seen = Candidate(prompt="a cat", seed=0, caption="a cat sits", scores={"clip": 0.5})
    history = History(user_prompt="a cat in a hat", rounds=(Round(candidates=(seen,)),))
    async with Refiner(
        Settings(**settings, **INSTANT), llm_concurrency=concurrency
    ) as refiner:
        agents = await refiner.agents()

        async def work() -> int:
            verdicts = await asyncio.gather(
                *(agents.judge(history) for _ in range(CALLS))
            )
            assert all(verdict.missing for verdict in verdicts)  # noqa: S101 - a check
            return CALLS

        await work()
        return min([await measured(work) for _ in range(3)])


def draw(prompt: str, seed: int) -> Image.Image:  # noqa: ARG001 - a generator's
    """Draw at once."""
    return Image.new("RGB", (8, 8), "red")


def caption(image: Image.Image) -> str:  # noqa: ARG001 - a captioner's
    """Say at once what is there."""
    return "a cat"


def score(user_prompt: str, image: Image.Image) -> float:  # noqa: ARG001 - a scorer's
    """Score at once."""
    return 0.5


async def rewrite(history: History) -> tuple[str, ...]:
    """Write two prompts at once."""
    return tuple(f"{history.user_prompt} {len(history.rounds)}.{n}" for n in range(2))


INSTANT: dict[str, Any] = {
    "generator": draw,
    "captioner": caption,
    "scorer": score,
    "optimizer": rewrite,
    "selector": "clip",
    "in_flight": LOOPS,
}


async def loops() -> float:
    """Return what one candidate of many loops costs, in milliseconds."""
    async with Refiner(**INSTANT, judge="never") as refiner:

        async def work() -> int:
            images = 0
            prompts = [f"a cat {number}" for number in range(LOOPS)]
            async for outcome in refiner.refine_many(prompts):
                assert not isinstance(outcome, Failure)  # noqa: S101 - a check
                images += outcome.usage.images
            return images

        return min([await measured(work) for _ in range(3)])


async def main() -> None:
    """Print all figures."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    for concurrency in (1, 8, 64):
        cost = await calls(url, concurrency)
        print(f"{cost:.1f} ms a call, {concurrency} at a time")  # noqa: T201 - figures
    server.terminate()
    print(f"{await loops():.2f} ms a candidate, {LOOPS} loops")  # noqa: T201 - figures


if __name__ == "__main__":
    asyncio.run(main())
