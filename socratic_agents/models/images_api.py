"""Text to image through a server that speaks OpenAI's images protocol."""

from __future__ import annotations

import asyncio
import base64
import os
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

import tenacity
from pydantic import SecretStr

from socratic_agents.core.errors import CandidateError, ClosedError, ConfigurationError
from socratic_agents.core.history import Status
from socratic_agents.models.images_api_errors import (
    OPENAI,
    checked_address,
    is_refusal,
    is_retryable,
    origin,
    refused_parameters,
    wait,
)
from socratic_agents.models.validation import decoded_image

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from openai import AsyncOpenAI
    from PIL.Image import Image

__all__ = ("ImagesAPI",)

T = TypeVar("T")


class ImagesAPI:
    """Draws images on a server with ``/images/generations``.

    The server says what an image is, and may be anybody's: an address in its
    answer is only followed to the server itself, never elsewhere and over no
    redirect, and an image is only decoded from the usual formats and sizes.

    Args:
        base_url: The server's address with its version, such as
            ``"http://localhost:8080/v1"``.
        model: The server's name of the model; ``None`` leaves it to the server.
        api_key: The server's key; for OpenAI itself ``OPENAI_API_KEY`` by default,
            which is sent to no other server.
        negative_prompt: What not to draw, for servers that take one besides OpenAI's
            own parameters; ``None`` sends none.
        size: Width and height in pixels, such as ``"1024x1024"``.
        timeout: Seconds that one image may take.
        attempts: How often an image is asked for at most, at least 1, where the
            line or the server is at fault.
        sleep: Waits between attempts.

    Raises:
        ConfigurationError: If the address is none, OpenAI's key is missing, or OpenAI
            is given a negative prompt.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str | None = None,
        api_key: SecretStr | None = None,
        negative_prompt: str | None = None,
        size: str = "1024x1024",
        timeout: float = 300.0,
        attempts: int = 3,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        address = checked_address(base_url)
        openai_itself = address.hostname == OPENAI
        if api_key is None and openai_itself:
            api_key = SecretStr(os.environ.get("OPENAI_API_KEY", ""))
            if not api_key.get_secret_value():
                message = (
                    f"expected an API key for {OPENAI}, got none; set OPENAI_API_KEY"
                )
                raise ConfigurationError(message)
        if negative_prompt is not None and openai_itself:
            message = (
                f"expected no negative prompt for {OPENAI}, which takes none, got one; "
                "leave it out, or say in the prompt what not to draw"
            )
            raise ConfigurationError(message)
        if attempts < 1:
            message = f"expected at least 1 attempt, got {attempts}; give 1 or more"
            raise ConfigurationError(message)
        # A folder's address: what is joined to it stays below it.
        self._base_url = base_url.rstrip("/") + "/"
        self._model = model
        self._api_key = api_key or SecretStr("")
        self._needed = (
            {} if negative_prompt is None else {"negative_prompt": negative_prompt}
        )
        self._size = size
        self._timeout = timeout
        self._attempts = attempts
        self._sleep = sleep
        self._refused = {"seed"} if openai_itself else set()
        self._keeps_headers = openai_itself
        self._closed = False

    async def __aenter__(self) -> Self:
        """Return this server; it is connected to when an image is asked for."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """Draw no more; images in the making are finished."""
        self._closed = True

    async def generate(self, prompt: str, seed: int) -> Image:
        """Draw one image.

        A server that refuses seeds is asked without one from then on; its images
        cannot be drawn again.

        Args:
            prompt: What to draw.
            seed: Seed of the noise, if the server takes one.

        Returns:
            An RGB image, with ``info["revised_prompt"]`` if the server changed it.

        Raises:
            CandidateError: If there is no image: ``safety_filtered`` if the
                content was the reason, ``numerical_failure`` if it is black,
                ``generation_failed`` with the cause otherwise.
            ClosedError: If this was closed.
        """
        if self._closed:
            message = "expected an open images server, got a closed one; open another"
            raise ClosedError(message)
        problem: Exception
        try:
            # A client for each image: it belongs to one event loop, and images may
            # be asked for from several. Connecting is nothing beside drawing.
            async with self._client() as client:
                return await self._image(client, prompt, seed)
        except Exception as error:  # noqa: BLE001 - clients stumble over odd answers
            problem = error
        # Outside the handler, so that no traceback shows the client's own error:
        # its text is the server's and may hold the key.
        raise self._candidate_error(problem)

    async def _image(self, client: AsyncOpenAI, prompt: str, seed: int) -> Image:
        answer = await self._ask(client, prompt, seed)
        data = getattr(answer, "data", None)
        if not data:
            message = "the answer holds no image"
            raise ValueError(message)
        if data[0].b64_json:
            content = base64.b64decode(data[0].b64_json, validate=True)
        else:
            content = await self._fetch(client, data[0].url or "")
        image = decoded_image(content)
        if isinstance(data[0].revised_prompt, str):
            image.info["revised_prompt"] = data[0].revised_prompt
        return image

    async def _ask(self, client: AsyncOpenAI, prompt: str, seed: int) -> Any:
        """Ask for an image, without the parameters that the server refuses."""
        import openai

        values = {"seed": seed, "response_format": "b64_json"}
        while True:
            sent = {k: v for k, v in values.items() if k not in self._refused}
            request: dict[str, Any] = {
                "prompt": prompt,
                "n": 1,
                "size": self._size,
                "extra_body": sent | self._needed,
            }
            if self._model is not None:
                request["model"] = self._model
            try:
                return await self._patiently(partial(client.images.generate, **request))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = refused_parameters(error, sent.keys() | self._needed.keys())
                if not refused:
                    raise
            if missed := refused & self._needed.keys():
                # Without it the image would be another one.
                message = (
                    f"expected a server that takes a {missed.pop()}, got one that "
                    "refuses it; leave it out"
                )
                raise CandidateError(Status.GENERATION_FAILED, message)
            self._refused |= refused

    async def _fetch(self, client: AsyncOpenAI, url: str) -> bytes:
        """Get an image's bytes from a data URL, or from the server itself."""
        if url.startswith("data:"):
            return base64.b64decode(url.partition(",")[2], validate=True)
        import openai

        whole = urljoin(self._base_url, url)
        if not url or origin(urlsplit(whole)) != origin(urlsplit(self._base_url)):
            message = (
                "the answer's image lies at another address, which is not followed; "
                "let the server answer with b64_json"
            )
            raise ValueError(message)
        file = await self._patiently(
            lambda: client.get(whole, cast_to=openai.HttpxBinaryResponseContent)
        )
        return file.content

    async def _patiently(self, request: Callable[[], Awaitable[T]]) -> T:
        """Send a request, again where the line or the server was at fault."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(is_retryable),
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=wait,
            sleep=self._sleep,
            reraise=True,
        )

        async def attempt() -> T:
            # tenacity does not see that a wrapped coroutine function is one.
            return await request()

        return await retrying(attempt)

    def _client(self) -> AsyncOpenAI:
        import openai

        # From the environment, meant for OpenAI and for nobody else.
        private = ("OpenAI-Organization", "OpenAI-Project")
        headers: dict[str, Any] = {
            name: openai.Omit() for name in private if not self._keeps_headers
        }
        return openai.AsyncOpenAI(
            base_url=self._base_url,
            api_key=self._api_key.get_secret_value() or "none",
            max_retries=0,
            timeout=self._timeout,
            default_headers=headers,
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, timeout=self._timeout
            ),
        )

    def _candidate_error(self, problem: Exception) -> CandidateError:
        if isinstance(problem, CandidateError):
            return problem
        cause = " ".join(str(problem).split())
        secret = self._api_key.get_secret_value()
        if secret:
            cause = cause.replace(secret, "***")
        if is_refusal(problem):
            message = (
                f"expected an image, got a refusal of the content ({cause[:300]}); "
                "write another prompt"
            )
            return CandidateError(Status.SAFETY_FILTERED, message)
        message = (
            f"expected an image of {urlsplit(self._base_url).netloc}, got "
            f"{type(problem).__name__}: {cause[:300]}; see the server's address, key "
            "and model"
        )
        return CandidateError(Status.GENERATION_FAILED, message)
