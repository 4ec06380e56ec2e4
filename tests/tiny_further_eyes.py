"""Tiny eyes of families that nobody asked for by name: whoever has a chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import transformers as t

from tests.tiny_eyes import SIGHT, SIZE, SQUARE, template_for, text_config, tokenizer_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("FURTHER",)


def _mistral3() -> tuple[Any, Any]:
    named = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]"}
    tokenizer = tokenizer_of(**named, image_end_token="[IMG_END]")
    config = t.Mistral3Config(
        text_config={"model_type": "mistral", **text_config(tokenizer)},
        vision_config={
            "model_type": "pixtral",
            **SIZE,
            "head_dim": 8,
            "image_size": 64,
            "patch_size": 4,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        vision_feature_layer=-1,
    )
    processor = t.PixtralProcessor(
        t.PixtralImageProcessor(patch_size=4, size={"longest_edge": 32}),
        tokenizer,
        patch_size=4,
        spatial_merge_size=2,
        chat_template=template_for("[IMG]"),
    )
    return t.Mistral3ForConditionalGeneration(config), processor


def _mllama() -> tuple[Any, Any]:
    tokenizer = tokenizer_of(image_token="<|image|>")
    ratios = [[a, b] for a in range(1, 5) for b in range(1, 5) if a * b <= 4]
    config = t.MllamaConfig(
        text_config={
            **text_config(tokenizer),
            "cross_attention_layers": [1],
            "num_hidden_layers": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        vision_config={
            "hidden_size": 16,
            "attention_heads": 2,
            "num_hidden_layers": 1,
            "num_global_layers": 1,
            "intermediate_size": 16,
            "vision_output_dim": 32,
            "image_size": 16,
            "patch_size": 8,
            "intermediate_layers_indices": [0],
            "supported_aspect_ratios": ratios,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    processor = t.MllamaProcessor(
        t.MllamaImageProcessor(size=SQUARE),
        tokenizer,
        chat_template=template_for("<|image|>"),
    )
    return t.MllamaForConditionalGeneration(config), processor


def _aya_vision() -> tuple[Any, Any]:
    marks = ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "TILE_GLOBAL"]
    tiles = [f"TILE_{number}" for number in range(1, 13)]
    tokenizer = tokenizer_of(
        *marks, "<|IMG_LINE_BREAK|>", *tiles, image_token="<image>"
    )
    config = t.AyaVisionConfig(
        text_config={
            "model_type": "cohere2",
            **text_config(tokenizer),
            "layer_types": ["full_attention"],
        },
        vision_config={
            "model_type": "siglip_vision_model",
            **SIGHT,
            "patch_size": 4,
            "vision_use_head": False,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
        downsample_factor=2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    processor = t.AyaVisionProcessor(
        t.GotOcr2ImageProcessor(size=SQUARE, max_patches=4),
        tokenizer,
        patch_size=4,
        img_size=16,
        downsample_factor=2,
        chat_template=template_for("<image>"),
    )
    return t.AyaVisionForConditionalGeneration(config), processor


def _glm4v() -> tuple[Any, Any]:
    marks = {"image_start": "<|begin_of_image|>", "image_end": "<|end_of_image|>"}
    marks |= {"video_start": "<|begin_of_video|>", "video_end": "<|end_of_video|>"}
    named = {"image_token": "<|image|>", "video_token": "<|video|>"}
    tokenizer = tokenizer_of(*marks.values(), **named)
    marks |= {"image": "<|image|>", "video": "<|video|>"}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    config = t.Glm4vConfig(
        text_config={
            **text_config(tokenizer),
            "rope_parameters": {**rope, "partial_rotary_factor": 1.0},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "patch_size": 4,
            "image_size": 32,
        },
        **{
            f"{name}_token_id": tokenizer.convert_tokens_to_ids(mark)
            for name, mark in marks.items()
        },
    )
    processor = t.Glm4vProcessor(
        t.Glm4vImageProcessor(
            patch_size=4, size={"shortest_edge": 64, "longest_edge": 2048}
        ),
        tokenizer,
        t.Glm4vVideoProcessor(patch_size=4),
        chat_template=template_for("<|begin_of_image|><|image|><|end_of_image|>"),
    )
    return t.Glm4vForConditionalGeneration(config), processor


def _lfm2_vl() -> tuple[Any, Any]:
    tokenizer = tokenizer_of(
        image_token="<image>",
        image_start_token="<|image_start|>",
        image_end_token="<|image_end|>",
        image_thumbnail_token="<|img_thumbnail|>",
    )
    config = t.Lfm2VlConfig(
        text_config={
            "model_type": "lfm2",
            **text_config(tokenizer),
            "layer_types": ["full_attention"],
            "block_auto_adjust_ff_dim": False,
        },
        vision_config={
            **SIZE,
            "patch_size": 4,
            "num_patches": 64,
            "vision_use_head": False,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        downsample_factor=2,
    )
    look = t.Lfm2VlImageProcessor(
        encoder_patch_size=4,
        tile_size=32,
        max_image_tokens=16,
        min_image_tokens=4,
        downsample_factor=2,
        max_num_patches=64,
    )
    processor = t.Lfm2VlProcessor(
        look, tokenizer, chat_template=template_for("<image>")
    )
    return t.Lfm2VlForConditionalGeneration(config), processor


FURTHER: dict[str, Callable[[], tuple[Any, Any]]] = {
    "mistral-3": _mistral3,
    "mllama": _mllama,
    "aya-vision": _aya_vision,
    "glm-4v": _glm4v,
    "lfm2-vl": _lfm2_vl,
}
"""Family to what builds its model and its processor."""
