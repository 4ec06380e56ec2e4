"""HTTP with limits: a deadline for the whole, a largest answer, no way elsewhere.

Importing this loads OpenAI's client; who needs it does so late.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any

import openai

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("BoundedClient", "ResponseRefusedError")

LARGEST = 64 * 2**20
"""Bytes of an answer, unpacked; a PNG of 4096x4096 in base64 seldom has as many."""
LARGEST_ERROR = 64 * 2**10
"""Bytes of an error that are read; the others say nothing new."""
REDIRECTS = 5
"""How often a server may send us on, to itself."""
OPENAI = "api.openai.com"
_PRIVATE = ("openai-organization", "openai-project")
"""Headers that the client takes from the environment, meant for OpenAI alone."""
_PACKED = {"gzip", "x-gzip", "deflate"}
"""Encodings that can be unpacked up to a size."""
_GZIP_OR_ZLIB = 47
"""How zlib is told to see by itself which of them it is."""


class ResponseRefusedError(openai.OpenAIError):
    """Raised when an answer is not read: too large, packed strangely, or elsewhere.

    Being one of theirs, it comes through OpenAI's client as it is.
    """


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """A client whose requests end in time, whose answers are small enough to keep.

    A timeout of httpx begins anew with every byte; this one is for the whole exchange.
    A redirect is followed to the same server, and to no other: not even a prompt goes
    there. An answer is always read whole, a stream of events too.

    Args:
        timeout: Seconds from connecting to the last byte.
        largest: Bytes of an answer, unpacked.
        options: As of httpx's client.
    """

    def __init__(
        self, *, timeout: float, largest: int = LARGEST, **options: Any
    ) -> None:
        super().__init__(timeout=timeout, **options)
        self._seconds, self._largest = timeout, largest

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request, and return the answer, read.

        Raises:
            APITimeoutError: If it took too long.
            ResponseRefusedError: If the answer is none that may be read.
        """
        if request.url.host != OPENAI:
            for name in _PRIVATE:
                request.headers.pop(name, None)
        request.headers["accept-encoding"] = "gzip"
        try:
            async with asyncio.timeout(self._seconds) as timer:
                return await self._exchange(request, options)
        except TimeoutError:
            if not timer.expired():
                raise
        raise openai.APITimeoutError(request=request)

    async def _exchange(self, request: Any, options: dict[str, Any]) -> Any:
        options |= {"stream": True, "follow_redirects": False}
        for _ in range(REDIRECTS + 1):
            response = await super().send(request, **options)
            try:
                onward = response.next_request
                if onward is None:
                    return await self._read(response)
                if not self.follow_redirects or _origin(onward) != _origin(request):
                    message = (
                        f"the server sends us on to {_origin(onward)}, which is not "
                        "followed; give the address that it should be"
                    )
                    raise ResponseRefusedError(message)
                request = onward
            finally:
                await response.aclose()
        message = f"the server sends us on more than {REDIRECTS} times"
        raise ResponseRefusedError(message)

    async def _read(self, response: Any) -> Any:
        """Return a response with its content, no larger than allowed."""
        content, unpack = bytearray(), _unpacker(response.headers)
        async for part in response.aiter_raw():
            if response.is_error and len(content) > LARGEST_ERROR:
                break
            content += unpack(part, self._largest + 1 - len(content))
            if len(content) > self._largest:
                message = (
                    f"the answer is larger than {self._largest / 2**20:g} MiB, which "
                    "no answer needs to be"
                )
                raise ResponseRefusedError(message)
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name not in {"content-encoding", "content-length", "transfer-encoding"}
        ]
        return type(response)(
            response.status_code,
            headers=headers,
            content=bytes(content),
            request=response.request,
            extensions=response.extensions,
        )


def _unpacker(headers: Any) -> Callable[[bytes, int], bytes]:
    """Return what unpacks a body part by part, no more of it than is wanted."""
    packed = headers.get("content-encoding", "").strip().lower()
    if packed in {"", "identity"}:
        return lambda part, _: part
    if packed not in _PACKED:
        message = f"the answer is packed as {packed[:40]!r}, which was not asked for"
        raise ResponseRefusedError(message)
    decompress = zlib.decompressobj(_GZIP_OR_ZLIB).decompress

    def unpack(part: bytes, most: int) -> bytes:
        try:
            return decompress(part, most)
        except zlib.error as problem:
            message = f"the answer cannot be unpacked ({problem})"
            raise ResponseRefusedError(message) from None

    return unpack


def _origin(request: Any) -> str:
    url = request.url
    port = "" if url.port is None else f":{url.port}"  # None where it is the usual one
    return f"{url.scheme}://{url.host}{port}"
