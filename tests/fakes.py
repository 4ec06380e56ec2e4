"""Small real objects in the place of big ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel, Field, PrivateAttr

from socratic_agents.core.history import Candidate, History, Round, Status, Verdict
from socratic_agents.llm.structured import StructuredCaller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.runnables import Runnable

    from socratic_agents.llm.retry import RetryPolicy

AnswerT = TypeVar("AnswerT", bound=BaseModel)


class TextModel(BaseChatModel):
    """Says one thing after another in plain text, and knows no tools.

    An exception in the script is raised, a message is returned as it is, and
    anything else is written as JSON. ``asked`` holds the messages of every call.
    """

    script: list[Any] = Field(default_factory=list)
    _asked: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    @property
    def asked(self) -> list[list[BaseMessage]]:
        return self._asked

    @property
    def last_question(self) -> str:
        """The text of the last message of the last call."""
        return self._asked[-1][-1].text

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _message(self, said: Any, *, tool: str) -> AIMessage:
        text = said if isinstance(said, str) else json.dumps(said)
        return AIMessage(text)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self._asked.append(messages)
        assert self.script, "expected no further call"
        said = self.script.pop(0)
        if isinstance(said, Exception):
            raise said
        message = said
        if not isinstance(said, AIMessage):
            message = self._message(said, tool=kwargs.get("tool", ""))
        return ChatResult(generations=[ChatGeneration(message=message)])


class ScriptedChatModel(TextModel):
    """Calls the tool that it is given with one answer of its script after another.

    Text in the script is what a model says that calls no tool.
    """

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        return self.bind(tool=tools[0]["title"], **kwargs)

    def _message(self, said: Any, *, tool: str) -> AIMessage:
        if isinstance(said, str):
            return AIMessage(said)
        call = {"name": tool, "args": said, "id": "call_1", "type": "tool_call"}
        return AIMessage("", tool_calls=[call])


def drawn(prompt: str, caption: str | None = "a thing", **facts: Any) -> Candidate:
    """Return a candidate; ``score`` is its CLIP score."""
    score = facts.pop("score", None)
    scores = {} if score is None else {"clip": score}
    return Candidate(prompt=prompt, seed=0, caption=caption, scores=scores, **facts)


def failed(prompt: str) -> Candidate:
    """Return a candidate that could not be drawn."""
    status = Status.GENERATION_FAILED
    return Candidate(prompt=prompt, seed=0, status=status, error="no")


def history(
    user_prompt: str, *rounds: Sequence[Candidate] | Candidate, **verdict: Any
) -> History:
    """Return a history of these rounds, the last one with the verdict, if given."""
    groups = [[r] if isinstance(r, Candidate) else r for r in rounds]
    past = History(
        user_prompt=user_prompt,
        rounds=tuple(Round(candidates=tuple(group)) for group in groups),
    )
    return past.judged(Verdict(**verdict)) if verdict else past


async def ask_structured(
    llm: BaseChatModel,
    messages: Sequence[BaseMessage],
    answer: type[AnswerT],
    *,
    check: Callable[[AnswerT], object] | None = None,
    validation_retries: int = 2,
    retries: RetryPolicy | None = None,
) -> AnswerT:
    """Ask a language model once for a typed answer, as a role does."""
    caller = StructuredCaller(
        llm, answer, validation_retries=validation_retries, retries=retries
    )
    return await caller(messages, check=check)
