"""First words: how probable a yes, a no or a number is as what a model says first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from socratic_agents.core.checklist import Answer, YesNo, read_answer
from socratic_agents.core.counts import NUMBER_WORDS, Count, read_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

__all__ = ("FirstSaid", "FirstWords")

HEARD = 0.02
"""Least share of all words that those asked for must have together to be an answer."""

MOST = 100
"""Numbers below it are looked for: larger ones nobody counts in an image."""


@dataclass(frozen=True)
class FirstSaid:
    """What a model said of one image, and what else it might have said first."""

    text: str
    yes: float
    no: float
    """How probable a yes and a no were."""
    numbers: Mapping[int, float]
    """How probable each number was."""

    def answer(self) -> Answer:
        """Return yes or no by what is more probable, or else by the text."""
        heard = self.yes + self.no
        if heard < HEARD:
            return read_answer(self.text)
        probability = self.yes / heard
        said = YesNo.YES if probability >= 0.5 else YesNo.NO  # noqa: PLR2004 - even odds
        return Answer(said=said, probability=probability)

    def count(self) -> Count:
        """Return how many there are by what is most probable, or else by the text."""
        if sum(self.numbers.values()) < HEARD:
            return Count(number=read_number(self.text))
        return Count.of(self.numbers)


class FirstWords:
    """What a model says first, by the probabilities of its words.

    What comes before the first letter or digit is passed over: blanks, quotes, the
    stars of a heading.

    Args:
        tokenizer: Of the model.
        ends: Tokens that end what it says.
    """

    def __init__(self, tokenizer: Any, ends: frozenset[int]) -> None:
        self._tokenizer, self._ends = tokenizer, ends

    def said(
        self, texts: Sequence[str], logits: Sequence[torch.Tensor], *, counted: bool
    ) -> list[FirstSaid]:
        """Return for each row what was said, and how probable other words were.

        A tokenizer that has digits alone says 12 as a 1 and a 2: of the number that
        the model goes on with, the second word decides what it is.

        Args:
            texts: What was said.
            logits: For each step, ``(rows, words)``.
            counted: Whether numbers are listened for.
        """
        yes, no = self._yes_no
        return [
            FirstSaid(
                text,
                yes=float(steps[0][yes].sum()) if yes and no else 0.0,
                no=float(steps[0][no].sum()) if yes and no else 0.0,
                numbers=self._numbers_in(steps) if counted else {},
            )
            for text, steps in zip(texts, self._steps(logits), strict=True)
        ]

    def _numbers_in(self, steps: list[torch.Tensor]) -> dict[int, float]:
        first, tokens = steps[0], [*self._numbers]
        shares = dict[int, float]()
        for token, share in zip(tokens, first[tokens].tolist(), strict=True):
            number = self._numbers[token]
            shares[number] = shares.get(number, 0.0) + share
        said = int(first.argmax())
        if said in self._digits and len(steps) > 1:
            begun, digits = self._digits[said], [*self._digits]
            share, longer = float(first[said]), steps[1][digits].tolist()
            for token, more in zip(digits, longer, strict=True):
                number = int(f"{begun}{self._digits[token]}")
                shares[number] = shares.get(number, 0.0) + share * more
            shares[int(begun)] -= share * sum(longer)
        return {number: share for number, share in shares.items() if share > 0}

    def _steps(self, logits: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
        """Return for each row the probabilities from its first word on."""
        said = [step.argmax(-1).tolist() for step in logits]
        return [
            [
                step[row].float().softmax(-1)
                for step in logits[self._begin([step[row] for step in said]) :]
            ]
            for row in range(len(said[0]))
        ]

    def _begin(self, tokens: list[int]) -> int:
        """Return the place of the first word, or 0 where there is none."""
        for place, token in enumerate(tokens):
            if token in self._ends:
                break
            text = self._tokenizer.decode([token], skip_special_tokens=True)
            if any(character.isalnum() for character in text):
                return place
        return 0

    @cached_property
    def _yes_no(self) -> tuple[list[int], list[int]]:
        return sorted(self._tokens("yes")), sorted(self._tokens("no"))

    @cached_property
    def _numbers(self) -> dict[int, int]:
        """The tokens that are one number each, in digits or in a word."""
        found = {t: n for n in range(MOST) for t in self._tokens(str(n))}
        return found | {t: n for w, n in NUMBER_WORDS.items() for t in self._tokens(w)}

    @cached_property
    def _digits(self) -> dict[int, str]:
        """The tokens that are digits without a space, with which a number may go on."""
        known = self._tokenizer.convert_ids_to_tokens(list(self._numbers))
        pairs = zip(self._numbers, known, strict=True)
        return {token: text for token, text in pairs if text.isdecimal()}

    def _tokens(self, word: str) -> set[int]:
        """Return the tokens that are this one word, in any case and spacing."""
        tokenizer, found = self._tokenizer, set[int]()
        for form in (word, word.capitalize(), word.upper()):
            for text in (form, f" {form}"):
                ids = tokenizer(text=text, add_special_tokens=False).input_ids
                if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                    found.add(ids[0])
        return found
