"""Word-level tokenizers of the pocket models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from socratic_agents.pocket.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    FOREIGN,
    RELATIONS,
    SHAPES,
    SIZES,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("CANONICAL", "EVERY", "GLUE", "build_tokenizer")

CANONICAL = (*SHAPES, *COLOURS, *SIZES, *BACKGROUNDS, *RELATIONS)
EVERY = (*CANONICAL, *(word for words in FOREIGN.values() for word in words))
GLUE = ("a", "an", "the", "of", "on", "and", "background", "thing", "with", "in")
START, END, UNKNOWN, PAD = "<s>", "</s>", "<unk>", "<pad>"


def build_tokenizer(
    words: Sequence[str], length: int, *, end: bool = True, side: str = "right"
) -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows these words and no others.

    Args:
        words: In the order of their ids, after the four special tokens.
        length: Longest text in tokens, special tokens included.
        end: Whether a text is closed with an end token.
        side: Where it is padded, ``right`` or ``left``.
    """
    vocabulary = {
        word: number for number, word in enumerate((START, END, UNKNOWN, PAD, *words))
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}" if end else f"{START} $A",
        special_tokens=[(START, 0), (END, 1)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        unk_token=UNKNOWN,
        pad_token=PAD,
        model_max_length=length,
        padding_side=side,
        truncation_side="right",
        clean_up_tokenization_spaces=False,
    )
