"""Deliberation: what a model thinks before it answers, cut off or ended in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ("Deliberation",)


@dataclass(frozen=True)
class _Marks:
    """What stands around a deliberation."""

    begin: str
    end: str
    empty: str
    """What templates write between them where nothing was thought."""
    after: str = ""
    """What they write after them."""


KNOWN = (
    _Marks("<think>", "</think>", "\n\n", "\n\n"),
    _Marks("<|channel>", "<channel|>", "thought\n"),
    _Marks("◁think▷", "◁/think▷", ""),
)
"""Of Qwen, GLM and most others, of Gemma 4, and of Kimi."""


class Deliberation:
    """Knows by which marks a model deliberates, if it does at all.

    Args:
        tokenizer: Of the model.
        template: Its chat template; empty: it has none.
    """

    def __init__(self, tokenizer: Any, template: str) -> None:
        self._tokenizer = tokenizer
        fitting = [
            marks
            for marks in KNOWN
            if marks.begin in template or self._token(marks.end) is not None
        ]
        self._marks = fitting[0] if fitting else KNOWN[0]
        self.possible = bool(template and fitting)
        """Whether it may deliberate."""
        self.templated = self._marks.begin in template
        """Whether its template may begin that."""

    def opened(self, prompt: str) -> bool:
        """Return whether a prompt ends within a deliberation."""
        return prompt.rfind(self._marks.begin) > prompt.rfind(self._marks.end)

    def ending(self, *, opened: bool) -> str:
        """Return what ends a deliberation before anything was thought.

        Args:
            opened: Whether it has begun already.
        """
        marks = self._marks
        return ("" if opened else marks.begin) + marks.empty + marks.end + marks.after

    def begins_with(self, token: int) -> bool:
        """Return whether a token begins a deliberation."""
        return self.possible and token == self._token(self._marks.begin)

    def after(self, row: Any) -> Any:
        """Return the tokens after the mark that ends a deliberation, or all.

        Args:
            row: Tokens of one answer, a tensor.
        """
        mark = self._token(self._marks.end)
        if mark is None:
            return row
        places = (row == mark).nonzero()
        return row[int(places[-1]) + 1 :] if len(places) else row

    def answer_of(self, said: str, whole: str, *, closed: bool, opened: bool) -> str:
        """Return what was said after a deliberation; nothing where that has no end.

        Args:
            said: Without special tokens.
            whole: With them.
            closed: Whether a deliberation before it was left out already.
            opened: Whether it goes on with one that the prompt began.
        """
        begin, end = self._marks.begin, self._marks.end
        if not closed and end not in said and (opened or begin in whole):
            return ""
        return " ".join(said.rpartition(end)[2].split())

    def _token(self, mark: str) -> int | None:
        """Return the token that is a mark, if the tokenizer has one."""
        find = getattr(self._tokenizer, "convert_tokens_to_ids", None)
        token = find(mark) if find else None
        return None if token == self._tokenizer.unk_token_id else token
