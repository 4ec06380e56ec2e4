"""Text to image through a server that speaks OpenAI's images protocol."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit, urlunsplit

import tenacity
from pydantic import SecretStr

from socratic_agents.core.errors import CandidateError, ClosedError, ConfigurationError
from socratic_agents.core.history import Status
from socratic_agents.models.images_api_answers import first_image
from socratic_agents.models.images_api_errors import (
    LONGEST_HINT,
    OPENAI,
    cause_of,
    checked_address,
    is_lost,
    is_refusal,
    is_retryable,
    origin,
    refused_parameters,
    secrets_in,
    wait,
)
from socratic_agents.models.validation import decoded_image
from socratic_agents.network.rate_limit import RateLimiter
from socratic_agents.network.server_errors import server_hint, status_of, without_keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Self

    from openai import AsyncOpenAI
    from PIL.Image import Image

__all__ = ("ImagesAPI",)

T = TypeVar("T")

LOG = logging.getLogger(__name__)
PATH = "/images/generations"
TOO_MANY = 429
BUSY_ATTEMPTS = 30
"""How often a server is asked that says each time when to come back."""


class ImagesAPI:
    """Draws images on a server with ``/images/generations``.

    The server says what an image is, and may be anybody's: an address in its
    answer is only followed to the server itself, never elsewhere and over no
    redirect; an answer may be so large and take so long, and an image is only decoded
    from the usual formats and sizes.

    Args:
        base_url: The server's address with its version, such as
            ``"http://localhost:8080/v1"``; it may end in ``/images/generations``, and
            have a query, as Azure's.
        model: The server's name of the model; ``None`` leaves it to the server.
        api_key: The server's key; for OpenAI itself ``OPENAI_API_KEY`` by default,
            which is sent to no other server.
        negative_prompt: What not to draw, for servers that take one besides OpenAI's
            own parameters; ``None`` sends none.
        size: Width and height in pixels, such as ``"1024x1024"``, or ``"auto"``;
            ``None`` leaves it to the server.
        options: Further parameters, or other values of those that are sent by
            themselves (``n``, ``size``, ``seed``, ``response_format``); ``None`` leaves
            one out.
        timeout: Seconds that one request may take, from connecting to the last byte.
        attempts: How often an image is asked for at most, at least 1, where the
            line or the server is at fault; oftener, for as long as ``timeout``, where
            too many ask and the server says when to come back.
        limiter: Where each request waits its turn; by default 8 go out at once.
        on_lost: Called when an image is asked for again that may have been drawn.
        sleep: Waits between attempts.

    Raises:
        ConfigurationError: If the address is none, OpenAI's key is missing, or OpenAI
            is given a negative prompt.
    """

    def __init__(  # noqa: PLR0913 - a server differs from others in many ways
        self,
        base_url: str,
        *,
        model: str | None = None,
        api_key: SecretStr | None = None,
        negative_prompt: str | None = None,
        size: str | None = "1024x1024",
        options: Mapping[str, Any] | None = None,
        timeout: float = 300.0,
        attempts: int = 3,
        limiter: RateLimiter | None = None,
        on_lost: Callable[[], None] = lambda: None,
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
        path = address.path.rstrip("/").removesuffix(PATH) + PATH
        self._address = address._replace(path=path, fragment="")
        self._api_key = api_key or SecretStr("")
        named = {"model": model, "negative_prompt": negative_prompt}
        self._needed = {
            name: value for name, value in named.items() if value is not None
        }
        self._values = {"n": 1, "size": size, "response_format": "b64_json"}
        self._options = dict(options or {})
        self._timeout, self._attempts = timeout, attempts
        self._limiter = limiter or RateLimiter(concurrency=8)
        self._on_lost, self._sleep = on_lost, sleep
        self._refused = _known_refusals(model) if openai_itself else set[str]()
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

        A server that refuses a parameter is asked without it from then on; without a
        seed its images cannot be drawn again.

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
        raise self._candidate_error(problem, prompt)

    async def _image(self, client: AsyncOpenAI, prompt: str, seed: int) -> Image:
        answer = await self._ask(client, prompt, seed)
        # In a thread: other refinements go on while megabytes are read.
        drawn = await asyncio.to_thread(first_image, answer)
        content = drawn.content
        if drawn.address:
            content = await self._fetch(client, drawn.address)
        image = await asyncio.to_thread(decoded_image, content)
        if drawn.revised_prompt is not None:
            image.info["revised_prompt"] = drawn.revised_prompt
        return image

    async def _ask(self, client: AsyncOpenAI, prompt: str, seed: int) -> bytes:
        """Ask for an image, without the parameters that the server refuses."""
        import openai

        values = self._values | {"seed": seed} | self._options
        left_out = {name for name, value in values.items() if value is None}
        left_out |= self._refused
        url = urlunsplit(self._address)

        def refused(error: BaseException) -> set[str]:
            sent = (values.keys() - left_out) | self._needed.keys() - {"model"}
            return refused_parameters(error, sent, prompt)

        while True:
            sent = {k: v for k, v in values.items() if k not in left_out}
            body = {"prompt": prompt, **sent, **self._needed}
            post = partial(
                client.post, url, cast_to=openai.HttpxBinaryResponseContent, body=body
            )
            try:
                answer = await self._patiently(
                    post,
                    lambda e: not refused(e) and not is_refusal(e, prompt),
                )
            except openai.APIStatusError as error:
                fewer = refused(error)
                if not fewer:
                    raise
            else:
                self._learn(left_out & values.keys())
                return answer.content
            if missed := fewer & self._needed.keys():
                # Without it the image would be another one.
                message = (
                    f"expected a server that takes a {missed.pop()}, got one that "
                    "refuses it; leave it out"
                )
                raise CandidateError(Status.GENERATION_FAILED, message)
            left_out |= fewer

    def _learn(self, left_out: set[str]) -> None:
        """Note what the server was rightly not sent."""
        learned = (
            left_out - self._refused - {k for k, v in self._options.items() if not v}
        )
        if learned:
            LOG.warning(
                "%s takes no %s; its images are drawn without",
                self._address.netloc,
                ", ".join(sorted(learned)),
            )
        self._refused |= learned

    async def _fetch(self, client: AsyncOpenAI, url: str) -> bytes:
        """Get an image's bytes from the server itself."""
        import openai

        # A folder's address: what is joined to it stays below it.
        base = urlunsplit(self._address._replace(query="")).removesuffix(PATH[1:])
        whole = urljoin(base, url)
        if origin(urlsplit(whole)) != origin(self._address):
            message = (
                "the answer's image lies at another address, which is not followed; "
                "let the server answer with b64_json"
            )
            raise ValueError(message)
        file = await self._patiently(
            lambda: client.get(whole, cast_to=openai.HttpxBinaryResponseContent)
        )
        return file.content

    async def _patiently(
        self,
        request: Callable[[], Awaitable[T]],
        worth_it: Callable[[BaseException], bool] = lambda _: True,
    ) -> T:
        """Send a request, again where the line or the server was at fault."""
        import openai

        def lost(state: tenacity.RetryCallState) -> None:
            error = state.outcome and state.outcome.exception()
            if error and is_lost(error):
                self._on_lost()

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: is_retryable(error) and worth_it(error)
            ),
            stop=self._enough,
            wait=wait,
            before_sleep=lost,
            sleep=self._sleep,
            reraise=True,
        )

        async def attempt() -> T:
            async with self._limiter.turn():
                sent = self._limiter.now()
                try:
                    return await request()
                except openai.APITimeoutError:
                    self._limiter.timed_out(sent)
                    raise

        return await retrying(attempt)

    def _enough(self, state: tenacity.RetryCallState) -> bool:
        """Whether to give up; who says when to come back is believed for longer."""
        error = state.outcome and state.outcome.exception()
        most = self._attempts
        if error and most > 1 and status_of(error) == TOO_MANY and server_hint(error):
            late = state.idle_for + state.upcoming_sleep > self._timeout
            most = most if late else BUSY_ATTEMPTS
        return state.attempt_number >= most

    def _client(self) -> AsyncOpenAI:
        import openai

        from socratic_agents.network.client import BoundedClient

        key = self._api_key.get_secret_value()
        azure = "api-version=" in self._address.query
        return openai.AsyncOpenAI(
            base_url=urlunsplit(self._address),
            api_key=key or "none",
            max_retries=0,
            timeout=self._timeout,
            default_headers={"api-key": key} if key and azure else {},
            http_client=BoundedClient(timeout=self._timeout, follow_redirects=False),
        )

    def _candidate_error(self, problem: Exception, prompt: str) -> CandidateError:
        secrets = [self._api_key.get_secret_value(), *secrets_in(self._address)]
        if isinstance(problem, CandidateError):
            return CandidateError(problem.status, without_keys(secrets, str(problem)))
        cause = cause_of(problem, secrets)
        if is_refusal(problem, prompt):
            message = (
                f"expected an image, got a refusal of the content ({cause}); "
                "write another prompt"
            )
            return CandidateError(Status.SAFETY_FILTERED, message)
        message = (
            f"expected an image of {self._address.netloc}, got {cause}; "
            f"{_advice(problem)}"
        )
        return CandidateError(Status.GENERATION_FAILED, message)


def _known_refusals(model: str | None) -> set[str]:
    """Return what OpenAI itself does not take."""
    only_base64 = model is not None and "gpt-image" in model
    return {"seed", "response_format"} if only_base64 else {"seed"}


def _advice(problem: Exception) -> str:
    """Return what a person can do about a request that failed for good."""
    import openai

    hint = server_hint(problem) or 0.0
    if hint > LONGEST_HINT:
        return f"it asks to wait {hint:.0f} s; try again then"
    if status_of(problem) == TOO_MANY:
        return "set a lower image_rate, or image_concurrency"
    if isinstance(problem, openai.APITimeoutError):
        return "a slow server needs a higher image_timeout"
    return "see the server's address, key and model"
