"""Sampling: the next token of each row by itself, whoever shares its batch.

Chance comes from the row's own seed, the grammar from its own schema, and each row ends
by itself, so that an answer does not depend on what else is written meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from socratic_agents.models.writing.grammar import Grammar
    from socratic_agents.models.writing.requests import Finish

__all__ = ("Row", "RowSampler")

HURRY = 128
"""Tokens before its limit from which on an answer only closes what it has opened."""
TAIL = 24
"""Tokens at the end of an answer that are searched for a text that ends it."""


@dataclass(kw_only=True, eq=False)
class Row:
    """One answer in the making."""

    limit: int
    """Tokens at most."""
    temperature: float = 0.0
    top_k: int | None = None
    """Likeliest tokens that chance chooses from; ``None``: all."""
    top_p: float | None = None
    """Of them, the fewest that have this share of the probability."""
    seed: int = 0
    grammar: Grammar | None = None
    """What it is held to; ``None``: it is free."""
    stop: tuple[str, ...] = ()
    tokens: list[int] = field(default_factory=list, init=False)
    """What was written, without the token that ends it."""
    finish: Finish | None = field(default=None, init=False)
    """Why it ended; ``None``: it has not."""

    def __post_init__(self) -> None:
        """Set up its chance."""
        self._chance = torch.Generator("cpu").manual_seed(self.seed)

    @property
    def hurries(self) -> bool:
        """Whether it has to come to an end, so as to end as JSON at all."""
        left = self.limit - len(self.tokens)
        return self.grammar is not None and left <= min(HURRY, self.limit // 2)

    def draw(self, scores: torch.Tensor) -> int:
        """Return a token by chance.

        Args:
            scores: Of one row, ``(vocabulary,)``; what is not allowed is -inf.
        """
        shares = (scores.float() / self.temperature).softmax(-1)
        most = min(self.top_k or len(shares), len(shares))
        shares, tokens = shares.topk(most)
        total = shares.cumsum(-1)
        if self.top_p is not None:
            total = total[total - shares < self.top_p * total[-1]]
        # One number for each token, from the CPU: the same seed says the same on
        # every device.
        chance = torch.rand((), generator=self._chance).item()
        place = torch.searchsorted(total, total[-1] * chance, right=True)
        return int(tokens[min(int(place), len(total) - 1)])

    def note(self, token: int, ends: frozenset[int]) -> None:
        """Take a token over; it may be the last one.

        Args:
            token: What comes next.
            ends: The tokens that end an answer.
        """
        # What was brought to an end in a hurry was cut off, though it is whole.
        ended: Finish = "length" if self.hurries else "stop"
        if token in ends:
            self.finish = ended
            return
        self.tokens.append(token)
        if self.grammar is not None and self.grammar.advance(token):
            self.finish = ended
        elif len(self.tokens) >= self.limit:
            self.finish = "length"

    def take(self, tokens: list[int], ends: frozenset[int]) -> None:
        """Take over what was written without asking for any token."""
        last = next((n for n, one in enumerate(tokens) if one in ends), None)
        self.tokens = tokens[:last]
        self.finish = "length" if last is None else "stop"


class RowSampler:
    """Chooses every token, and says who is done: all that ``generate`` is told.

    Args:
        rows: The answers, in the order of the batch.
        ends: The tokens that end an answer.
        read: Returns the text of tokens, to find what else ends one.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        ends: frozenset[int],
        read: Callable[[list[int]], str],
    ) -> None:
        self._rows, self._ends, self._read = rows, ends, read

    def choose(self, _: Any, scores: torch.Tensor) -> torch.Tensor:
        """Return scores that leave no choice: a logits processor of transformers.

        Raises:
            ValueError: If the model's numbers are not finite.
        """
        for place, row in enumerate(self._rows):
            if row.finish is None and row.grammar is not None:
                allowed = row.grammar.allowed(scores.shape[-1], hurry=row.hurries)
                scores[place].masked_fill_(~allowed.to(scores.device), -torch.inf)
        best = scores.max(-1)
        chosen = best.indices.tolist()
        for place, finite in enumerate(best.values.isfinite().tolist()):
            row = self._rows[place]
            if row.finish is not None:
                continue
            if not finite:
                message = (
                    "expected finite numbers of the captioner's language model, got "
                    "others; try dtype bfloat16 or float32"
                )
                raise ValueError(message)
            if row.temperature > 0:
                chosen[place] = row.draw(scores[place])
            row.note(chosen[place], self._ends)
            self._note_stop(row)
        forced = torch.full_like(scores, -torch.inf)
        places = torch.tensor(chosen, device=scores.device)
        return forced.scatter_(1, places[:, None], 0.0)

    def done(self, tokens: torch.Tensor, _: Any) -> torch.Tensor:
        """Return who is done: a stopping criterion of transformers."""
        ended = [row.finish is not None for row in self._rows]
        return torch.tensor(ended, device=tokens.device)

    def _note_stop(self, row: Row) -> None:
        if row.finish is None and row.stop:
            tail = self._read(row.tokens[-TAIL:])
            if any(text in tail for text in row.stop):
                row.finish = "stop"
