"""Conversations: messages as the inputs of a model, batched with padding on the left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.models.captioner_processor import marks_of
from socratic_agents.models.eyes.deliberation import Deliberation
from socratic_agents.models.validation import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from socratic_agents.models.writing.requests import Turn

__all__ = ("Conversations",)

NAMES = {"system": "", "user": "User: ", "assistant": "Assistant: "}
"""Who speaks, where there is no chat template."""


class Conversations:
    """Puts conversations into the form that a model was trained with.

    Where there is a chat template it is used, without deliberation; marks of images and
    turns that stand in a text are left out. Elsewhere it becomes a transcript.

    Args:
        processor: Of the model; its tokenizer pads on the left.
        chats: Whether it has a chat template.
    """

    def __init__(self, processor: Any, *, chats: bool) -> None:
        self._processor, self._chats = processor, chats
        self._marks = marks_of(processor.tokenizer)
        self._template: str | None = None
        self._takes_system = True
        self._quick: dict[str, Any] = {}
        if chats:
            self._learn()

    def _learn(self) -> None:
        """Learn from its template what it takes, and whether it begins to deliberate."""
        template = self._processor.chat_template
        if "enable_thinking" in str(template):
            self._quick = {"enable_thinking": False}
        self._takes_system = self._renders(("system", "a"), ("user", "b"))
        said = self._render([_message("user", ["a"])])
        thinking = Deliberation(self._processor.tokenizer, str(template))
        if isinstance(template, str) and thinking.opened(said):
            # It begins one for the model, so it has to end it, too.
            self._template = f"{template}{{{{ {thinking.ending(opened=True)!r} }}}}"

    def _renders(self, *turns: tuple[str, str]) -> bool:
        """Return whether its template takes these roles, and repeats all words."""
        try:
            self._render([_message(role, [text]) for role, text in turns])
        except Exception:  # noqa: BLE001 - templates raise what they like
            return False
        return True

    def _render(self, messages: list[dict[str, Any]]) -> str:
        said: str = self._processor.apply_chat_template(
            messages, add_generation_prompt=True, **self._quick
        )
        return said

    def inputs(self, conversations: Sequence[Sequence[Turn]]) -> Any:
        """Return what the model takes, a row for each conversation.

        Args:
            conversations: With the same number of images each.

        Raises:
            ValueError: If an image cannot be read, or there are more than a model
                without a chat template takes.
        """
        if not self._chats:
            return self._transcripts(conversations)
        read: list[list[dict[str, Any]]] = []
        for turns in conversations:
            kept = turns if self._takes_system else _without_system(turns)
            read.append([_message(turn.role, self._parts(turn)) for turn in kept])
        return self._processor.apply_chat_template(
            read,
            chat_template=self._template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
            **self._quick,
        )

    def _parts(self, turn: Turn) -> list[Any]:
        """Return files as images, and texts without marks of images and turns."""
        return [
            self._plain(p) if isinstance(p, str) else read_image(p) for p in turn.parts
        ]

    def _plain(self, text: str) -> str:
        return self._marks.sub(" ", text)

    def _transcripts(self, conversations: Sequence[Sequence[Turn]]) -> Any:
        parts = [[self._parts(turn) for turn in turns] for turns in conversations]
        images = [
            [p for t in one for p in t if not isinstance(p, str)] for one in parts
        ]
        texts = [
            "\n\n".join(
                NAMES[turn.role] + " ".join(p for p in said if isinstance(p, str))
                for turn, said in zip(turns, one, strict=True)
            )
            + "\n\nAssistant:"
            for turns, one in zip(conversations, parts, strict=True)
        ]
        if not any(images):
            tokenize: Callable[..., Any] = self._processor.tokenizer
            return tokenize(text=texts, padding=True, return_tensors="pt")
        if any(len(some) != 1 for some in images):
            message = (
                f"expected one image for a model without a chat template, got "
                f"{max(map(len, images))}; choose a captioner that chats"
            )
            raise ValueError(message)
        return self._processor(
            images=[some[0] for some in images],
            text=texts,
            padding=True,
            return_tensors="pt",
        )


def _message(role: str, parts: Sequence[Any]) -> dict[str, Any]:
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image", "image": part}
        for part in parts
    ]
    return {"role": role, "content": content}


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with the system's words at the head of the first other one."""
    words = [part for turn in turns if turn.role == "system" for part in turn.parts]
    others = [turn for turn in turns if turn.role != "system"]
    if not words or not others:
        return [type(turn)("user", turn.parts) for turn in turns]
    first, *rest = others
    return [type(first)(first.role, (*words, "\n\n", *first.parts)), *rest]
