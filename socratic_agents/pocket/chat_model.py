"""A rule-based chat model that plays the language model's roles in the pocket world.

It is no language model and says so. It works from nothing but the messages that it
is sent: it reads the marked blocks of the rendered template, and answers in the JSON
schema that comes with them.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from socratic_agents.pocket.roles import guard, judge, optimize, select, write_checklist

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable

__all__ = ("PocketChatModel",)


class PocketChatModel(BaseChatModel):
    """Plays optimizer, judge and selector by rules, for the words of the pocket world.

    It was not taught a third of the foreign words. Their meaning it takes from the
    examples of a template, or finds by trying and looking at scores and captions in
    the history. On purpose it is wrong now and then.
    """

    error_rate: float = Field(default=0.01, ge=0.0, le=1.0)
    """Share of the answers that are wrong on purpose."""
    seed: int = 0
    """The same seed and messages give the same answer."""

    model: str = "pocket"
    """What traces call it."""
    profile: ModelProfile | None = Field(
        default=ModelProfile(
            text_inputs=True, image_inputs=False, text_outputs=True, tool_calling=True
        ),
        exclude=True,
    )
    """What it can take and give; it reads captions and sees no image."""

    @property
    def _llm_type(self) -> str:
        return "pocket"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"error_rate": self.error_rate, "seed": self.seed}

    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[Any, AIMessage]:
        """Bind tools, among them the schema of a structured answer."""
        return self.bind(
            tools=[convert_to_openai_tool(tool) for tool in tools],
            tool_choice=tool_choice,
            **kwargs,
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - the base class's signature
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the base class's signature
        **kwargs: Any,
    ) -> ChatResult:
        text = "\n".join(str(message.text) for message in messages)
        tools = [tool["function"] for tool in kwargs.get("tools") or ()]
        message = self._use(messages, tools) or self._answer(text, tools)
        words = len(text.split())
        said = len(str(message.content).split()) + len(str(message.tool_calls).split())
        message.usage_metadata = {
            "input_tokens": words,
            "output_tokens": said,
            "total_tokens": words + said,
        }
        message.response_metadata = {"model_name": "pocket", "finish_reason": "stop"}
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _answer(self, text: str, tools: list[dict[str, Any]]) -> AIMessage:
        """Play a role, in the schema that was sent or in plain JSON."""
        digest = hashlib.sha256(f"{self.seed} {text}".encode()).hexdigest()
        rng = random.Random(digest)
        inject_error = rng.random() < self.error_rate
        for tool in tools:
            for field, play in _ROLES.items():
                if field in tool["parameters"].get("properties", {}):
                    call = {
                        "name": tool["name"],
                        "args": play(text, rng, inject_error=inject_error),
                        "id": f"call-{digest[:12]}",
                    }
                    return AIMessage(content="", tool_calls=[call])
        for block, field in _BLOCKS.items():
            if block in text:
                answer = _ROLES[field](text, rng, inject_error=inject_error)
                return AIMessage(content=json.dumps(answer))
        return AIMessage(content=_INTRODUCTION)

    def _use(
        self, messages: list[BaseMessage], tools: list[dict[str, Any]]
    ) -> AIMessage | None:
        """Play an agent that draws what it is asked for and then looks at it."""
        names = [tool["name"] for tool in tools]
        if "generate_image" not in names:
            return None
        last = messages[-1]
        if not isinstance(last, ToolMessage):
            args, name = {"prompt": str(last.text)}, "generate_image"
        elif last.name == "generate_image" and "caption_image" in names:
            found = re.search(r"\b[0-9a-f]{8,64}\b", str(last.text))
            args, name = {"image": found[0] if found else ""}, "caption_image"
        else:
            return AIMessage(content=f"Here it is: {last.text}")
        call = {"name": name, "args": args, "id": f"call-{len(messages)}"}
        return AIMessage(content="", tool_calls=[call])


_INTRODUCTION = (
    "I am the rule-based chat model of the pocket world, not a language model. I only "
    "play the optimizer, the judge and the selector, from their templates."
)


_ROLES: dict[str, Callable[..., dict[str, Any]]] = {
    "questions": write_checklist,
    "checks": guard,
    "prompts": optimize,
    "satisfied": judge,
    "choice": select,
}
"""Field of a role's JSON schema to the rules that play it."""

_BLOCKS = {
    "<candidates>": "choice",
    "<rewrite>": "checks",
    "<number_of_prompts>": "prompts",
    "Write the checklist.": "questions",
    "<user_prompt>": "satisfied",
}
"""Block of a role's template to the field, for those who send no schema."""
