"""HTTP connections to a provider that are kept, each in the event loop that opened it.

Importing this loads OpenAI's client; who needs it does so late.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import openai

from socratic_agents.network.client import BoundedClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ("PerLoopClient",)

KEPT = 4.0
"""Seconds that an idle connection is kept: less than the 5 s after which common servers
hang up, for a request that meets the hanging up is lost."""


class PerLoopClient(BoundedClient):
    """A client that can be used from any event loop, and keeps connections in each.

    A connection belongs to the loop that opened it, and fails or hangs in another. So
    each loop has a client of its own, which is closed when the loop ends.

    Args:
        timeout: Seconds that one request may take, from connecting to the last byte.
    """

    def __init__(self, *, timeout: float) -> None:
        self._options: dict[str, Any] = {
            "timeout": timeout,
            # How many there are is the rate limiter's matter.
            "limits": type(openai.DEFAULT_CONNECTION_LIMITS)(keepalive_expiry=KEPT),
        }
        self._clients: dict[
            asyncio.AbstractEventLoop,
            tuple[BoundedClient, AsyncGenerator[Any, None]],
        ] = {}
        super().__init__(**self._options)

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request over a connection of the running event loop."""
        client = await self._client()
        return await client.send(request, **options)

    async def aclose(self) -> None:
        """Close the running event loop's connections; other loops close their own."""
        _, living = self._clients.get(asyncio.get_running_loop(), (None, None))
        if living is not None:
            await living.aclose()

    async def _client(self) -> BoundedClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            # An asynchronous generator is what an event loop closes when it ends.
            living = self._living(loop)
            self._clients[loop] = await anext(living), living
        return self._clients[loop][0]

    async def _living(
        self, loop: asyncio.AbstractEventLoop
    ) -> AsyncGenerator[BoundedClient, None]:
        async with BoundedClient(**self._options) as client:
            try:
                yield client
            finally:
                del self._clients[loop]
