"""Base models: they continue a text, and know neither messages nor JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

if TYPE_CHECKING:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForLLMRun,
        CallbackManagerForLLMRun,
    )
    from langchain_core.messages import BaseMessage

__all__ = ("CompletionModel",)


class CompletionModel(BaseChatModel):
    """A base model in the place of a chat model: its messages are one text to continue."""

    llm: BaseLLM = Field(exclude=True)
    """Continues the text."""

    @property
    def _llm_type(self) -> str:
        return f"completion-{self.llm._llm_type}"  # noqa: SLF001 - the base class's own way to say it

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the base class's signature
        **kwargs: Any,
    ) -> ChatResult:
        return _result(self.llm.invoke(_text(messages), stop=stop, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the base class's signature
        **kwargs: Any,
    ) -> ChatResult:
        return _result(await self.llm.ainvoke(_text(messages), stop=stop, **kwargs))


def _text(messages: list[BaseMessage]) -> str:
    return "\n\n".join(message.text for message in messages)


def _result(text: str) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])
