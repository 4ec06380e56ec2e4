"""Tiny eyes of every family that is named: real classes, random weights, no download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers as t

from socratic_agents.models.loading import quiet
from tests import tiny_captioners, tiny_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = (
    "ANSWERING",
    "EYES",
    "SIGHT",
    "SIZE",
    "SQUARE",
    "save",
    "save_eye",
    "template_for",
    "text_config",
    "tokenizer_of",
)

SIZE = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
TEXT = {**SIZE, "num_key_value_heads": 2, "max_position_embeddings": 4096}
TEXT |= {"head_dim": 8}
SIGHT = {**SIZE, "image_size": 16, "patch_size": 8}
SQUARE = {"height": 16, "width": 16}
GRID = [[16, 32], [32, 16], [32, 32]]
WORDS = [*tiny_models.WORDS, "how", "many", "two", "three", "1", "2", "3"]

THINKING = (
    "{% if enable_thinking is defined and enable_thinking %}<think>\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}"
)
"""How the template of a model that thinks on request ends."""


def template_for(mark: str, end: str = "") -> str:
    return (
        "{% for message in messages %}{{ message.role }} : "
        "{% for part in message.content %}{% if part.type == 'image' %}"
        + mark
        + " {% else %}{{ part.text }} {% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}assistant : " + end + "{% endif %}"
    )


def tokenizer_of(*marks: str, **named: str) -> Any:
    """Build a tokenizer of words; some of its marks have names that processors ask for."""
    tokenizer = tiny_models.word_tokenizer(WORDS)
    tokenizer.add_tokens([*named.values(), *marks], special_tokens=True)
    tokenizer._set_model_specific_special_tokens(named)
    return tokenizer


def _merged_tokenizer(*marks: str) -> Any:
    """Build a tokenizer that makes words of bytes, as the newest Qwen models have."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    words = ["yes", "no", "two", "many"]
    ways = [(word[:end], word[end]) for word in words for end in range(1, len(word))]
    ways += [("Ġ", word) for word in words]
    named = ["<|endoftext|>", *letters, "Ġ", "Ċ", *map("".join, ways)]
    vocabulary = {entry: place for place, entry in enumerate(dict.fromkeys(named))}
    tokenizer = t.Qwen2Tokenizer(vocab=vocabulary, merges=ways)
    tokenizer.add_tokens([*marks], special_tokens=True)
    return tokenizer


def text_config(tokenizer: Any) -> dict[str, Any]:
    marks = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return {**TEXT, **marks, "vocab_size": len(tokenizer)}


QWEN = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")


def _qwen(kind: str, end: str = "", *, merged: bool = False) -> tuple[Any, Any]:
    named = {"image_token": QWEN[1], "video_token": QWEN[3]}
    if merged:
        tokenizer = _merged_tokenizer(*QWEN, "<think>", "</think>")
        tokenizer._set_model_specific_special_tokens(named)
    else:
        tokenizer = tokenizer_of(QWEN[0], QWEN[2], "<think>", "</think>", **named)
    places = [tokenizer.convert_tokens_to_ids(mark) for mark in QWEN]
    names = ("vision_start", "image", "vision_end", "video")
    marks = {f"{n}_token_id": place for n, place in zip(names, places, strict=True)}
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e4}
    text = {**text_config(tokenizer), "rope_parameters": rope}
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
    sight |= {"out_hidden_size": 16, "patch_size": 4}
    further: dict[str, Any] = {}
    if kind == "Qwen2VL":
        sight = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2}
        sight |= {"mlp_ratio": 1, "patch_size": 4}
    elif kind == "Qwen2_5_VL":
        further = {"fullatt_block_indexes": [0], "window_size": 16}
    else:
        rope["mrope_interleaved"] = True
        further = {"num_position_embeddings": 64}
    if kind == "Qwen3VL":
        further |= {"deepstack_visual_indexes": [0]}
    if kind == "Qwen3_5":
        rope["partial_rotary_factor"] = 1.0
        lines = ("key_head_dim", "value_head_dim", "num_key_heads", "num_value_heads")
        text |= {f"linear_{n}": v for n, v in zip(lines, (8, 8, 2, 2), strict=True)}
        text |= {"layer_types": ["linear_attention", "full_attention"]}
        text |= {"num_hidden_layers": 2}
    config = getattr(t, f"{kind}Config")(
        text_config=text, vision_config={**sight, **further}, **marks
    )
    look = t.Qwen2VLImageProcessor(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 1024}
    )
    modern = kind in {"Qwen3VL", "Qwen3_5"}
    video = t.Qwen3VLVideoProcessor if modern else t.Qwen2VLVideoProcessor
    speaker = t.Qwen3VLProcessor if modern else getattr(t, f"{kind}Processor")
    processor = speaker(
        look,
        tokenizer,
        video(patch_size=4),
        chat_template=template_for("".join(QWEN[:3]), end),
    )
    return getattr(t, f"{kind}ForConditionalGeneration")(config), processor


def _tiles(kind: str) -> tuple[Any, Any]:
    """Build SmolVLM or Idefics3, which split an image into tiles."""
    rows = [f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)]
    tokenizer = tokenizer_of(
        *rows,
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
    )
    config = getattr(t, f"{kind}Config")(
        text_config={"model_type": "llama", **text_config(tokenizer)},
        vision_config={**SIZE, "image_size": 16, "patch_size": 4},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    look = getattr(t, f"{kind}ImageProcessor")(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 16}
    )
    video = [t.SmolVLMVideoProcessor(size={"longest_edge": 16})]
    processor = getattr(t, f"{kind}Processor")(
        look,
        tokenizer,
        *(video if kind == "SmolVLM" else []),
        image_seq_len=4,
        chat_template=template_for("<image>"),
    )
    return getattr(t, f"{kind}ForConditionalGeneration")(config), processor


def _idefics2(template: str | None = template_for("<image>")) -> tuple[Any, Any]:
    tokenizer = tokenizer_of(
        "<end_of_utterance>",
        image_token="<image>",
        image_boundary_token="<fake_token_around_image>",
    )
    config = t.Idefics2Config(
        text_config={"model_type": "mistral", **text_config(tokenizer)},
        vision_config={**SIZE, "image_size": 32, "patch_size": 8},
        perceiver_config={
            "hidden_size": 16,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 8,
            "num_key_value_heads": 2,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    look = t.Idefics2ImageProcessor(size={"shortest_edge": 16, "longest_edge": 32})
    processor = t.Idefics2Processor(
        look, tokenizer, image_seq_len=4, chat_template=template
    )
    return t.Idefics2ForConditionalGeneration(config), processor


def _idefics() -> tuple[Any, Any]:
    tokenizer = tokenizer_of("<fake_token_around_image>", "<image>")
    text = {
        n: v for n, v in text_config(tokenizer).items() if n != "num_key_value_heads"
    }
    del text["head_dim"]
    config = t.IdeficsConfig(
        **{**text, "vocab_size": len(tokenizer) - 2},
        additional_vocab_size=2,
        vision_config={**SIGHT, "embed_dim": 16},
        use_resampler=False,
        cross_layer_interval=1,
    )
    processor = t.IdeficsProcessor(t.IdeficsImageProcessor(image_size=16), tokenizer)
    return t.IdeficsForVisionText2Text(config), processor


def _gemma3() -> tuple[Any, Any]:
    named = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>"}
    tokenizer = tokenizer_of(**named, eoi_token="<end_of_image>")
    place = tokenizer.convert_tokens_to_ids
    config = t.Gemma3Config(
        text_config={
            **text_config(tokenizer),
            "layer_types": ["full_attention"],
            "query_pre_attn_scalar": 8,
        },
        vision_config={**SIGHT, "patch_size": 4, "vision_use_head": False},
        mm_tokens_per_image=4,
        image_token_index=place("<image_soft_token>"),
        boi_token_index=place("<start_of_image>"),
        eoi_token_index=place("<end_of_image>"),
    )
    processor = t.Gemma3Processor(
        t.Gemma3ImageProcessor(size=SQUARE),
        tokenizer,
        image_seq_length=4,
        chat_template=template_for("<start_of_image>"),
    )
    return t.Gemma3ForConditionalGeneration(config), processor


def _gemma4() -> tuple[Any, Any]:
    named = {"image": "<|image|>", "boi": "<|image>", "eoi": "<image|>"}
    named |= {"audio": "<|audio|>", "boa": "<|audio>", "eoa": "<audio|>"}
    named |= {"video": "<|video|>"}
    tokenizer = tokenizer_of(**{f"{name}_token": mark for name, mark in named.items()})
    place = tokenizer.convert_tokens_to_ids
    config = t.Gemma4Config(
        text_config={
            **text_config(tokenizer),
            "layer_types": ["full_attention"],
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 0,
            "global_head_dim": 8,
            "vocab_size_per_layer_input": len(tokenizer),
        },
        vision_config={
            **SIZE,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "global_head_dim": 8,
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "position_embedding_size": 64,
        },
        **{f"{name}_token_id": place(mark) for name, mark in named.items()},
    )
    processor = t.Gemma4Processor(
        t.Gemma4AudioFeatureExtractor(),
        t.Gemma4ImageProcessor(patch_size=4, pooling_kernel_size=2),
        tokenizer,
        t.Gemma4VideoProcessor(patch_size=4, pooling_kernel_size=2),
        chat_template=template_for("<|image|>"),
        image_seq_length=4,
    )
    return t.Gemma4ForConditionalGeneration(config), processor


def _llava_next() -> tuple[Any, Any]:
    tokenizer = tokenizer_of(image_token="<image>")
    rule = {"vision_feature_select_strategy": "default"}
    config = t.LlavaNextConfig(
        text_config={"model_type": "llama", **text_config(tokenizer)},
        vision_config={
            "model_type": "clip_vision_model",
            **SIGHT,
            "projection_dim": 16,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=GRID,
        vision_feature_layer=-1,
        **rule,
    )
    processor = t.LlavaNextProcessor(
        t.LlavaNextImageProcessor(
            size={"shortest_edge": 16}, crop_size=SQUARE, image_grid_pinpoints=GRID
        ),
        tokenizer,
        patch_size=8,
        num_additional_image_tokens=1,
        chat_template=template_for("<image>"),
        **rule,
    )
    return t.LlavaNextForConditionalGeneration(config), processor


def _llava_onevision() -> tuple[Any, Any]:
    tokenizer = tokenizer_of(image_token="<image>", video_token="<video>")
    rules = {"vision_feature_select_strategy": "full"}
    rules |= {"vision_aspect_ratio": "anyres_max_4"}
    config = t.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **text_config(tokenizer)},
        vision_config={
            "model_type": "siglip_vision_model",
            **SIGHT,
            "vision_use_head": False,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=GRID,
        vision_feature_layer=-1,
        **rules,
    )
    processor = t.LlavaOnevisionProcessor(
        t.LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=GRID),
        tokenizer,
        t.LlavaOnevisionVideoProcessor(size=SQUARE),
        num_image_tokens=4,
        chat_template=template_for("<image>"),
        **rules,
    )
    return t.LlavaOnevisionForConditionalGeneration(config), processor


def _internvl() -> tuple[Any, Any]:
    named = {"start_image_token": "<img>", "end_image_token": "</img>"}
    named |= {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tokenizer = tokenizer_of(**named)
    config = t.InternVLConfig(
        text_config={"model_type": "qwen2", **text_config(tokenizer)},
        vision_config={**SIZE, "image_size": [16, 16], "patch_size": [4, 4]},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    processor = t.InternVLProcessor(
        t.GotOcr2ImageProcessor(size=SQUARE, max_patches=4),
        tokenizer,
        t.InternVLVideoProcessor(size=SQUARE),
        image_seq_length=4,
        chat_template=template_for("<IMG_CONTEXT>"),
    )
    return t.InternVLForConditionalGeneration(config), processor


def _paligemma() -> tuple[Any, Any]:
    look = t.SiglipImageProcessor(size=SQUARE)
    look.image_seq_length = 4
    tokenizer = tokenizer_of()
    processor = t.PaliGemmaProcessor(look, tokenizer)
    config = t.PaliGemmaConfig(
        text_config={"model_type": "gemma", **text_config(tokenizer)},
        vision_config={
            "model_type": "siglip_vision_model",
            **SIGHT,
            "vision_use_head": False,
        },
        image_token_index=processor.image_token_id,
        vocab_size=len(tokenizer),
        projection_dim=16,
        hidden_size=16,
    )
    return t.PaliGemmaForConditionalGeneration(config), processor


def _kosmos2() -> tuple[Any, Any]:
    tokenizer = tokenizer_of()
    processor = t.Kosmos2Processor(
        t.CLIPImageProcessor(size=SQUARE, crop_size=SQUARE),
        tokenizer,
        num_patch_index_tokens=16,
    )
    config = t.Kosmos2Config(
        text_config={
            "vocab_size": len(tokenizer),
            "embed_dim": 16,
            "layers": 1,
            "ffn_dim": 16,
            "attention_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config=SIGHT,
        latent_query_num=64,
    )
    return t.Kosmos2ForConditionalGeneration(config), processor


def _florence2() -> tuple[Any, Any]:
    tokenizer = tokenizer_of(image_token="<image>")
    coders = ("encoder", "decoder")
    config = t.Florence2Config(
        text_config={
            "model_type": "bart",
            "vocab_size": len(tokenizer),
            "d_model": 16,
            **{f"{one}_layers": 1 for one in coders},
            **{f"{one}_attention_heads": 2 for one in coders},
            **{f"{one}_ffn_dim": 16 for one in coders},
            "max_position_embeddings": 128,
            "decoder_start_token_id": 2,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "forced_eos_token_id": None,
        },
        vision_config={
            "depths": [1] * 4,
            "embed_dim": [8, 8, 8, 16],
            "num_heads": [2] * 4,
            "num_groups": [2] * 4,
            "window_size": 2,
            "projection_dim": 16,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    size = {"height": 64, "width": 64}
    look = t.CLIPImageProcessor(size=size, crop_size=size)
    look.image_seq_length = 5
    processor = t.Florence2Processor(look, tokenizer)
    return t.Florence2ForConditionalGeneration(config), processor


def _llava() -> tuple[Any, Any]:
    """Build LLaVA without a chat template: the place of the image is for us to say."""
    tokenizer = tokenizer_of(image_token="<image>")
    rule = {"vision_feature_select_strategy": "default"}
    config = t.LlavaConfig(
        text_config={"model_type": "llama", **text_config(tokenizer)},
        vision_config={"model_type": "clip_vision_model", **SIGHT},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        **rule,
    )
    look = t.CLIPImageProcessor(size=SQUARE, crop_size=SQUARE)
    processor = t.LlavaProcessor(
        look, tokenizer, patch_size=8, num_additional_image_tokens=1, **rule
    )
    return t.LlavaForConditionalGeneration(config), processor


def _got_ocr2() -> tuple[Any, Any]:
    """Build GOT-OCR 2, which writes its own prompt, and reads."""
    named = {"start": "<img>", "end": "</img>", "pad": "<imgpad>"}
    tokenizer = tokenizer_of(*named.values(), "<|im_start|>", "<|im_end|>")
    config = t.GotOcr2Config(
        text_config={"model_type": "qwen2", **text_config(tokenizer)},
        vision_config={
            "hidden_size": 16,
            "output_channels": 4,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "window_size": 4,
            "global_attn_indexes": [],
            "mlp_dim": 16,
        },
        image_token_index=tokenizer.convert_tokens_to_ids(named["pad"]),
    )
    look = t.GotOcr2ImageProcessor(size={"height": 1024, "width": 1024})
    processor = t.GotOcr2Processor(look, tokenizer)
    return t.GotOcr2ForConditionalGeneration(config), processor


ANSWERING: dict[str, Callable[[], tuple[Any, Any]]] = {
    **tiny_captioners.CAPTIONERS,
    "qwen2-vl": lambda: _qwen("Qwen2VL"),
    "qwen2.5-vl": lambda: _qwen("Qwen2_5_VL"),
    "qwen3-vl": lambda: _qwen("Qwen3VL"),
    "qwen3-vl-thinking": lambda: _qwen("Qwen3VL", "<think>\n"),
    "qwen3.5": lambda: _qwen("Qwen3_5", THINKING, merged=True),
    "smolvlm": lambda: _tiles("SmolVLM"),
    "idefics": _idefics,
    "idefics2": _idefics2,
    "idefics2-base": lambda: _idefics2(None),
    "idefics3": lambda: _tiles("Idefics3"),
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "llava-base": _llava,
    "llava-next": _llava_next,
    "llava-onevision": _llava_onevision,
    "internvl": _internvl,
    "paligemma": _paligemma,
    "kosmos-2": _kosmos2,
}
"""Family to what builds its model and its processor; all of these answer questions."""

EYES = {**ANSWERING, "florence-2": _florence2, "got-ocr2": _got_ocr2}
"""Those that only caption or only read, too."""


def save_eye(family: str, folder: Path) -> Path:
    """Save a tiny model of a family, and return its folder."""
    return save(EYES[family], folder)


def save(build: Callable[[], tuple[Any, Any]], folder: Path) -> Path:
    """Save a tiny model, and return its folder."""
    torch.manual_seed(0)
    model, processor = build()
    with quiet():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder
