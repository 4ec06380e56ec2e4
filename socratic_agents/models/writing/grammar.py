"""Grammars: JSON schemas as masks over a tokenizer's vocabulary, by llguidance.

Of the libraries that do so it has no dependencies of its own, needs no compiler and no
graphics card, and knows what schemas say of sizes.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from socratic_agents.config.catalog import QWEN3_VL_4B
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.extras import needs_extra
from socratic_agents.core.text import error_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ("Grammar", "Grammars", "Vocabulary")

MOST_SCHEMAS = 64
"""Compiled schemas that are kept, the last ones; a run has about ten."""


QUOTE, ESCAPE = b'"\\'
CLOSERS = frozenset(b'"]}')


class Vocabulary:
    """The texts of a tokenizer's tokens.

    Args:
        tokenizer: Of llguidance.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.text_of: Callable[[list[int]], bytes] = tokenizer.decode_bytes
        self._size = tokenizer.vocab_size

    @cached_property
    def quotes(self) -> NDArray[np.bool_]:
        """Which tokens close a text, and maybe what is around it."""
        return self._closing(b'"')

    @cached_property
    def brackets(self) -> NDArray[np.bool_]:
        """Which tokens close a list or an object, and maybe what is around it."""
        return self._closing(b"]}")

    def _closing(self, first: bytes) -> NDArray[np.bool_]:
        # Masks are filled up to whole words of 32 bits.
        found = np.zeros(self._size + 32, np.bool_)
        for token in range(self._size):
            text = self.text_of([token])
            found[token] = text[:1] in first and CLOSERS.issuperset(text or b"?")
        return found


class Grammar:
    """Where one answer stands in its schema.

    Args:
        matcher: Of llguidance, at its beginning.
        vocabulary: Of the tokenizer.
    """

    def __init__(self, matcher: Any, vocabulary: Vocabulary) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary
        self._quoted = self._escaped = False

    def allowed(self, scores: int, *, hurry: bool = False) -> torch.Tensor:
        """Return which tokens may come next, as booleans.

        Args:
            scores: How many tokens the model has scores for.
            hurry: Close what is open wherever the schema lets one.
        """
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        known = np.unpackbits(packed, bitorder="little").astype(np.bool_)
        if hurry:
            # A bracket within a text would only be one more of its characters.
            closers = self._vocabulary
            some = closers.quotes if self._quoted else closers.brackets
            closing = known & some[: len(known)]
            known = closing if closing.any() else known
        bits = np.zeros(scores, np.bool_)
        bits[: len(known)] = known[:scores]
        return torch.from_numpy(bits)

    def advance(self, token: int) -> bool:
        """Go on by a token; return whether the answer is complete."""
        self._matcher.consume_token(token)
        self._check()
        for byte in self._vocabulary.text_of([token]):
            if byte == QUOTE and not self._escaped:
                self._quoted = not self._quoted
            self._escaped = byte == ESCAPE and not self._escaped
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if error := self._matcher.get_error():
            message = f"expected a schema that can be followed to its end, got: {error}"
            raise ValueError(message)


class Grammars:
    """The schemas that one tokenizer was held to, each compiled once.

    Args:
        tokenizer: A fast tokenizer of transformers.
        ends: The tokens that end an answer.
        who: Whose tokenizer it is, for messages.

    Raises:
        ConfigurationError: If llguidance is missing, or the tokenizer's tokens are no
            pieces of text that could be put together to JSON.
    """

    def __init__(self, tokenizer: Any, *, ends: Sequence[int], who: str) -> None:
        with needs_extra("to hold answers to their JSON schema"):
            from llguidance.hf import from_tokenizer
        try:
            self._tokenizer = from_tokenizer(tokenizer, eos_token=list(ends))
        except Exception as problem:
            message = (
                f"expected a captioner that can write JSON, got {who}, whose tokenizer "
                f"({type(tokenizer).__name__}) cannot ({error_line(problem)}); choose "
                f"another captioner, such as {QWEN3_VL_4B}, or another llm"
            )
            raise ConfigurationError(message) from problem
        self._compiled: dict[str, Any] = {}
        self._vocabulary = Vocabulary(self._tokenizer)

    def begin(self, schema: str) -> Grammar:
        """Return the beginning of an answer.

        Args:
            schema: JSON schema, as text.

        Raises:
            ValueError: If it is none, or says what llguidance does not know.
        """
        compiled = self._compiled.pop(schema, None) or self._compile(schema)
        self._compiled[schema] = compiled  # the last one used stands last
        if len(self._compiled) > MOST_SCHEMAS:
            del self._compiled[next(iter(self._compiled))]
        return Grammar(compiled.deep_copy(), self._vocabulary)

    def _compile(self, schema: str) -> Any:
        from llguidance import LLMatcher

        # Without room to choose: a model of little wit fills it with blanks for ever.
        tight: Any = {"whitespace_flexible": False}
        grammar = LLMatcher.grammar_from_json_schema(schema, defaults=tight)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if error := matcher.get_error():
            message = f"expected a JSON schema that can be enforced, got: {error}"
            raise ValueError(message)
        return matcher
