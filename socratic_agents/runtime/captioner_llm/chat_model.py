"""A LangChain chat model that writes with the captioner's weights.

It holds no weights itself: a request goes to wherever the captioner runs, as an item of
the worker's queue, and shares its call with what other refinements ask meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import Field

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.writing.requests import WriteRequest, Written
from socratic_agents.runtime.captioner_llm.messages import turns_of
from socratic_agents.runtime.sync_bridge import SyncBridge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.callbacks import (
        AsyncCallbackManagerForLLMRun,
        CallbackManagerForLLMRun,
    )
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import BaseMessage
    from langchain_core.output_parsers import BaseOutputParser
    from langchain_core.runnables import Runnable

__all__ = ("CaptionerChatModel",)

METHODS = ("json_schema", "function_calling", "json_mode")
ANY_OBJECT = '{"type": "object"}'
"""The schema of method ``json_mode``."""


async def _unopened(_: WriteRequest) -> Written:
    message = (
        "expected a refiner that has opened its captioner, which is the language model, "
        "got none; ask within a Refiner, or choose another llm"
    )
    raise ConfigurationError(message)


class CaptionerChatModel(BaseChatModel):
    """Writes with the language model that is within the captioner.

    It takes images, and is held to a JSON schema by masks over its tokens.
    """

    write: Callable[[WriteRequest], Awaitable[Written]] = Field(
        default=_unopened, exclude=True
    )
    """Asks the captioner, wherever it runs."""
    model: str = "captioner"
    """What traces call it."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """``None``: as the model's authors have it."""
    max_tokens: int = Field(default=1024, ge=1)
    """Of an answer, where the request does not say."""
    stop: list[str] | None = None
    """What ends an answer, where the request does not say."""
    seed: int = 0
    """The same seed and messages give the same answer."""
    profile: ModelProfile | None = Field(
        default=ModelProfile(
            text_inputs=True,
            image_inputs=True,
            text_outputs=True,
            tool_calling=False,
            structured_output=True,
        ),
        exclude=True,
    )
    """What it can take and give."""

    @property
    def enforces_sizes(self) -> bool:
        """Whether it keeps to what schemas say of sizes; see ``llm.context``."""
        return True

    @property
    def _llm_type(self) -> str:
        return "captioner"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: str = "json_schema",
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return it held to a form.

        Args:
            schema: JSON schema, a pydantic model, or a typed dictionary.
            include_raw: Return a dictionary of ``raw``, ``parsed`` and
                ``parsing_error``.
            method: ``json_schema``, to which ``function_calling`` comes here, or
                ``json_mode`` for any JSON object.
            kwargs: ``strict`` is nothing new to it.

        Raises:
            ValueError: If the method is another one.
        """
        kwargs.pop("strict", None)
        if method not in METHODS or kwargs:
            message = (
                f"expected one of the methods {', '.join(METHODS)} and nothing else, "
                f"got {method!r} and {sorted(kwargs)}"
            )
            raise ValueError(message)
        form: dict[str, Any] = {"type": "json_object"}
        if method != "json_mode":
            described = convert_to_json_schema(schema)
            form = {"type": "json_schema", "json_schema": {"schema": described}}
        traced = {"kwargs": {"method": method}, "schema": schema}
        llm = self.bind(response_format=form, ls_structured_output_format=traced)
        parser: BaseOutputParser[Any] = JsonOutputParser()
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            parser = PydanticOutputParser(pydantic_object=schema)
        if not include_raw:
            return llm | parser
        read = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
        )
        unread = RunnablePassthrough.assign(parsed=lambda _: None)
        both = read.with_fallbacks([unread], exception_key="parsing_error")
        return RunnableMap(raw=llm) | both

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the base class's signature
        **kwargs: Any,
    ) -> ChatResult:
        with SyncBridge() as bridge:
            return bridge.run(self._agenerate(messages, stop, **kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the base class's signature
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        # In one piece: others of its batch wait for their last words, too.
        result = await self._agenerate(messages, stop, **kwargs)
        yield _chunk(result)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the base class's signature
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield _chunk(self._generate(messages, stop, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the base class's signature
        **kwargs: Any,
    ) -> ChatResult:
        written = await self.write(
            WriteRequest(
                turns=turns_of(messages),
                schema=_schema(kwargs.get("response_format")),
                max_tokens=kwargs.get("max_tokens") or self.max_tokens,
                temperature=kwargs.get("temperature", self.temperature),
                seed=kwargs.get("seed", self.seed),
                stop=tuple(stop or self.stop or ()),
            )
        )
        message = AIMessage(
            written.text,
            response_metadata={
                "finish_reason": written.finish,
                "model_name": self.model,
            },
            usage_metadata={
                "input_tokens": written.input_tokens,
                "output_tokens": written.output_tokens,
                "total_tokens": written.input_tokens + written.output_tokens,
            },
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def _chunk(result: ChatResult) -> ChatGenerationChunk:
    """Return an answer as the only chunk of a stream."""
    whole = result.generations[0].message
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content=whole.content,
            response_metadata=whole.response_metadata,
            usage_metadata=cast("AIMessage", whole).usage_metadata,
            chunk_position="last",
        )
    )


def _schema(form: dict[str, Any] | None) -> str | None:
    """Return the JSON schema of a response format, as text."""
    if form is None:
        return None
    described = form.get("json_schema")
    return ANY_OBJECT if described is None else json.dumps(described["schema"])
