"""Tiny captioners of families that differ from BLIP-2: real classes, random weights."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import torch

from tests import tiny_models

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("CAPTIONERS", "pixtral_processor")

SIZE = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
SIGHT = {**SIZE, "image_size": 16, "patch_size": 8}
SQUARE = {"height": 16, "width": 16}


def _bert() -> Any:
    from transformers import BertTokenizer

    file = Path(mkdtemp()) / "vocab.txt"
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    file.write_text("\n".join([*marks, *tiny_models.WORDS]))
    return BertTokenizer(str(file))


def _look() -> Any:
    from transformers import BlipImageProcessor

    return BlipImageProcessor(size=SQUARE)


def blip() -> tuple[Any, Any]:
    """Build BLIP: a decoder that ends with marks of its own."""
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipProcessor

    tokenizer = _bert()
    text = {
        **SIZE,
        "vocab_size": len(tokenizer),
        "encoder_hidden_size": 16,
        "bos_token_id": 5,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "pad_token_id": 0,
        "max_position_embeddings": 128,
    }
    config = BlipConfig(text_config=text, vision_config=SIGHT, projection_dim=16)
    return BlipForConditionalGeneration(config), BlipProcessor(_look(), tokenizer)


def git() -> tuple[Any, Any]:
    """Build GIT: a decoder over the image's patches."""
    from transformers import CLIPImageProcessor, GitConfig, GitForCausalLM, GitProcessor

    tokenizer = _bert()
    config = GitConfig(
        vision_config=SIGHT,
        **SIZE,
        vocab_size=len(tokenizer),
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
        max_position_embeddings=128,
    )
    look = CLIPImageProcessor(size=SQUARE, crop_size=SQUARE)
    return GitForCausalLM(config), GitProcessor(look, tokenizer)


def instruct_blip() -> tuple[Any, Any]:
    """Build InstructBLIP: its Q-Former reads the instruction, too."""
    from transformers import (
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        InstructBlipProcessor,
    )

    tokenizer, reader = tiny_models.word_tokenizer(), _bert()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    text = {
        "model_type": "opt",
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "ffn_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 128,
        "word_embed_proj_dim": 16,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    config = InstructBlipConfig(
        vision_config=SIGHT,
        qformer_config={
            **SIZE,
            "encoder_hidden_size": 16,
            "vocab_size": len(reader),
        },
        text_config=text,
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    processor = InstructBlipProcessor(_look(), tokenizer, reader, num_query_tokens=4)
    return InstructBlipForConditionalGeneration(config), processor


def pixtral_processor() -> Any:
    """Build the processor of images and texts that FLUX.2 calls its tokenizer."""
    from transformers import PixtralImageProcessor, PixtralProcessor

    marks = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    tokenizer = tiny_models.word_tokenizer([*marks, *tiny_models.WORDS])
    return PixtralProcessor(PixtralImageProcessor(), tokenizer)


def _seeded(build: Callable[[], tuple[Any, Any]]) -> Callable[[], tuple[Any, Any]]:
    def built() -> tuple[Any, Any]:
        torch.manual_seed(0)
        return build()

    return built


CAPTIONERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "blip": _seeded(blip),
    "git": _seeded(git),
    "instruct-blip": _seeded(instruct_blip),
}
"""Family to a function that builds its model and its processor."""
