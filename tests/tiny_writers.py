"""A tiny captioner that writes bytes: a real class, random weights, any text and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from socratic_agents.models.loading import quiet
from tests import tiny_models

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("byte_tokenizer", "tiny_writer", "writing_blip2", "writing_llava")

TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: "
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SIZE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
HEADS = {"num_attention_heads": 2}


def byte_tokenizer() -> Any:
    """Return a tokenizer with a token for each byte, and one for an image."""
    tokenizer = tiny_models.byte_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.padding_side = "left"
    return tokenizer


def writing_llava(
    *, template: str | None = TEMPLATE, context: int = 32768
) -> tuple[Any, Any]:
    """Build a LLaVA whose tokens are bytes; return the model and its processor."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            **SIZE, **HEADS, image_size=16, patch_size=8, projection_dim=16
        ),
        text_config=LlamaConfig(
            **SIZE,
            **HEADS,
            num_key_value_heads=2,
            vocab_size=len(tokenizer),
            max_position_embeddings=context,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    processor = LlavaProcessor(
        tiny_models._image_processor(16),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    return LlavaForConditionalGeneration(config).eval(), processor


def writing_blip2() -> tuple[Any, Any]:
    """Build a BLIP-2 whose tokens are bytes: it has no chat template."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor

    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = Blip2Config(
        vision_config={**SIZE, **HEADS, "image_size": 16, "patch_size": 8},
        qformer_config={
            **SIZE,
            **HEADS,
            "encoder_hidden_size": 16,
            "vocab_size": len(tokenizer),
        },
        text_config={
            "model_type": "opt",
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "ffn_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 2048,
            "word_embed_proj_dim": 16,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    look = tiny_models._image_processor(16)
    processor = Blip2Processor(look, tokenizer, num_query_tokens=4)
    return Blip2ForConditionalGeneration(config).eval(), processor


def tiny_writer(path: Path, **options: Any) -> Path:
    """Save it, and return its folder."""
    with quiet():
        model, processor = writing_llava(**options)
        model.save_pretrained(path)
        processor.save_pretrained(path)
    return path
