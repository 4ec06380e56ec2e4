"""Tiny models with random weights, built from config: real classes, no download.

``tiny_*`` functions of a path save a folder that loads like one from the hub;
``PIPELINES`` maps a family to a function that builds its pipeline in memory.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from socratic_agents.models.loading import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

__all__ = (
    "PIPELINES",
    "tiny_blip2",
    "tiny_clip",
    "tiny_llava",
    "tiny_stable_diffusion",
)

WORDS = [
    "a",
    "an",
    "the",
    "of",
    "is",
    "there",
    "what",
    "color",
    "shape",
    "in",
    "at",
    "and",
    "above",
    "below",
    "left",
    "right",
    "to",
    "no",
    "yes",
    "red",
    "green",
    "blue",
    "yellow",
    "circle",
    "square",
    "triangle",
    "photo",
    "picture",
    "image",
    "question",
    "answer",
    "describe",
    "this",
    "one",
    "sentence",
    "user",
    "assistant",
    ".",
    ":",
    "?",
    ",",
]
"""The words of the tiny captioners."""


def tiny_stable_diffusion(path: Path) -> Path:
    """Save a Stable Diffusion 1.5 pipeline of about 300 KiB, and return its folder.

    It draws 16x16 images; its prompts may have 77 tokens, one for each letter.
    """
    with quiet():
        stable_diffusion().save_pretrained(path)
    return path


def tiny_blip2(path: Path, *, words: Iterable[str] = WORDS) -> Path:
    """Save a BLIP-2 model with a word-level tokenizer, and return its folder.

    Its random weights caption every image with some of ``words``.
    """
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor

    tokenizer = word_tokenizer(words)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2}
    config = Blip2Config(
        vision_config={**size, **heads, "image_size": 16, "patch_size": 8},
        qformer_config={
            **size,
            **heads,
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
            "max_position_embeddings": 128,
            "word_embed_proj_dim": 16,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config).eval()
    processor = Blip2Processor(_image_processor(16), tokenizer, num_query_tokens=4)
    _save(path, model, processor)
    return path


def tiny_llava(path: Path) -> Path:
    """Save a LLaVA model that is spoken to through a chat template."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = word_tokenizer(WORDS)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            **size, **heads, image_size=16, patch_size=8, projection_dim=16
        ),
        text_config=LlamaConfig(
            **size,
            **heads,
            num_key_value_heads=2,
            vocab_size=len(tokenizer),
            max_position_embeddings=256,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config).eval()
    processor = LlavaProcessor(
        _image_processor(16),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(
            "{% for message in messages %}{{ message.role }} : "
            "{% for part in message.content %}"
            "{% if part.type == 'image' %}<image> {% else %}{{ part.text }} {% endif %}"
            "{% endfor %}{% endfor %}"
            "{% if add_generation_prompt %}assistant : {% endif %}"
        ),
    )
    _save(path, model, processor)
    return path


def tiny_clip(path: Path, *, quick_gelu: bool = False) -> Path:
    """Save an open_clip model of 32x32 images for ``local-dir:``; return its folder."""
    import open_clip
    from safetensors.torch import save_file

    config: dict[str, Any] = {
        "embed_dim": 16,
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 16,
            "head_width": 8,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 8,
            "heads": 2,
            "layers": 1,
        },
    }
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    path.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    (path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    )
    save_file(model.state_dict(), path / "open_clip_model.safetensors")
    return path


def stable_diffusion(*, scheduler: str = "PNDMScheduler") -> Any:
    """Build a Stable Diffusion 1.5 pipeline with the named scheduler."""
    import diffusers

    options = {"steps_offset": 1}
    if scheduler == "PNDMScheduler":
        options["skip_prk_steps"] = True
    torch.manual_seed(0)
    return diffusers.StableDiffusionPipeline(
        vae=autoencoder(blocks=2),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        unet=_unet(cross_attention_dim=16),
        scheduler=make_scheduler(scheduler, **options),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> Any:
    """Build a Stable Diffusion XL pipeline."""
    import diffusers
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(0)
    return diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(blocks=2),
        text_encoder=clip_text(),
        text_encoder_2=clip_text(CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=_unet(
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=16 + 6 * 4,
        ),
        scheduler=make_scheduler("EulerDiscreteScheduler", steps_offset=1),
        add_watermarker=False,
    )


def stable_diffusion_3() -> Any:
    """Build a Stable Diffusion 3 pipeline."""
    import diffusers
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(0)
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_projection_dim=16,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            pos_embed_max_size=16,
        ),
        scheduler=make_scheduler("FlowMatchEulerDiscreteScheduler"),
        vae=autoencoder(blocks=2, shift_factor=0.0609),
        text_encoder=clip_text(CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text(CLIPTextModelWithProjection),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(),
        tokenizer_3=byte_tokenizer(),
    )


def flux() -> Any:
    """Build a FLUX.1 pipeline."""
    import diffusers

    torch.manual_seed(0)
    return diffusers.FluxPipeline(
        scheduler=make_scheduler("FlowMatchEulerDiscreteScheduler"),
        vae=autoencoder(blocks=1, latent_channels=1, shift_factor=0.0609),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=byte_tokenizer(),
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def pixart_sigma() -> Any:
    """Build a PixArt-Sigma pipeline."""
    import diffusers

    torch.manual_seed(0)
    return diffusers.PixArtSigmaPipeline(
        tokenizer=byte_tokenizer(),
        text_encoder=t5(),
        vae=autoencoder(blocks=2),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_channels=32,
            in_channels=4,
            cross_attention_dim=16,
            out_channels=8,
            attention_bias=True,
            num_embeds_ada_norm=1000,
            norm_elementwise_affine=False,
            norm_eps=1e-6,
        ),
        scheduler=make_scheduler("DDIMScheduler"),
    )


def sana() -> Any:
    """Build a Sana pipeline."""
    import diffusers
    from transformers import Gemma2Config, Gemma2Model

    torch.manual_seed(0)
    return diffusers.SanaPipeline(
        tokenizer=byte_tokenizer(),
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=BYTE_VOCABULARY,
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            )
        ).eval(),
        vae=diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        transformer=diffusers.SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=8,
            sample_size=8,
        ),
        scheduler=make_scheduler("FlowMatchEulerDiscreteScheduler", shift=7.0),
    )


def qwen_image() -> Any:
    """Build a Qwen-Image pipeline."""
    import diffusers
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    return diffusers.QwenImagePipeline(
        scheduler=make_scheduler("FlowMatchEulerDiscreteScheduler"),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(
                text_config={
                    "vocab_size": BYTE_VOCABULARY,
                    "hidden_size": 16,
                    "intermediate_size": 16,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                    "num_key_value_heads": 2,
                    "rope_parameters": {
                        "mrope_section": [1, 1, 2],
                        "rope_type": "default",
                        "rope_theta": 1e6,
                    },
                    "pad_token_id": 0,
                    "bos_token_id": 1,
                    "eos_token_id": 2,
                },
                vision_config={
                    "depth": 1,
                    "hidden_size": 16,
                    "intermediate_size": 16,
                    "num_heads": 2,
                    "out_hidden_size": 16,
                },
                image_token_id=3,
                video_token_id=4,
                vision_start_token_id=5,
                vision_end_token_id=6,
            )
        ).eval(),
        tokenizer=byte_tokenizer(),
        transformer=diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
    )


def z_image() -> Any:
    """Build a Z-Image pipeline."""
    import diffusers
    from transformers import Qwen3Config, Qwen3Model

    torch.manual_seed(0)
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 32, 32],
    )
    # Diffusers leaves these uninitialised, and whatever was in memory may be NaN.
    torch.nn.init.ones_(transformer.x_pad_token)
    torch.nn.init.ones_(transformer.cap_pad_token)
    return diffusers.ZImagePipeline(
        scheduler=make_scheduler("FlowMatchEulerDiscreteScheduler"),
        vae=autoencoder(blocks=2, shift_factor=0.0609),
        text_encoder=Qwen3Model(
            Qwen3Config(
                vocab_size=BYTE_VOCABULARY,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            )
        ).eval(),
        tokenizer=byte_tokenizer(
            chat_template="{% for message in messages %}{{ message.content }}"
            "{% endfor %}"
        ),
        transformer=transformer,
    )


PIPELINES: dict[str, Callable[[], Any]] = {
    "sd15": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "flux": flux,
    "pixart-sigma": pixart_sigma,
    "sana": sana,
    "qwen-image": qwen_image,
    "z-image": z_image,
}
"""Family to the function that builds a pipeline of it."""


def autoencoder(
    *, blocks: int, latent_channels: int = 4, shift_factor: float | None = None
) -> Any:
    """Build an autoencoder that halves a side with each further block."""
    import diffusers

    return diffusers.AutoencoderKL(
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=latent_channels,
        layers_per_block=1,
        norm_num_groups=2,
        sample_size=16,
        shift_factor=shift_factor,
    )


def _unet(**options: Any) -> Any:
    import diffusers

    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=8,
        norm_num_groups=2,
        **options,
    )


def make_scheduler(name: str, **options: Any) -> Any:
    """Build the scheduler of a name."""
    import diffusers

    return getattr(diffusers, name)(**options)


def clip_text(kind: Any = None, *, positions: int = 77) -> Any:
    """Build a CLIP text encoder."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(_clip_vocabulary()),
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=positions,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (kind or CLIPTextModel)(config).eval()


def _clip_vocabulary() -> dict[str, int]:
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    entries = ["<|startoftext|>", "<|endoftext|>"]
    entries += letters + [f"{letter}</w>" for letter in letters]
    return {entry: index for index, entry in enumerate(entries)}


def clip_tokenizer() -> Any:
    """Build CLIP's tokenizer, with a token for each letter."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=_clip_vocabulary(), merges=[], model_max_length=77)


def t5() -> Any:
    """Build a T5 encoder."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=BYTE_VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
    )
    return T5EncoderModel(config).eval()


_SPECIAL = ("<pad>", "<s>", "</s>", "<3>", "<4>", "<5>", "<6>")
BYTE_VOCABULARY = len(_SPECIAL) + 256


def byte_tokenizer(
    chat_template: str | None = None,
    *,
    more: Iterable[str] = (),
    limit: int | None = None,
    opens: bool = False,
) -> Any:
    """Build a tokenizer of bytes, with ``more`` tokens and a limit of length.

    ``opens``: a text begins with a mark, so that an empty one is not empty.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    entries = (*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()))
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if opens:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )
    tokenizer.chat_template = chat_template
    tokenizer.add_tokens(list(more), special_tokens=True)
    if limit is not None:
        tokenizer.model_max_length = limit
    return tokenizer


def word_tokenizer(words: Iterable[str] = WORDS) -> Any:
    """Build a tokenizer with one token for each word, and ``<unk>`` for others."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    entries = dict.fromkeys(("<pad>", "<s>", "</s>", "<unk>", *words))
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    backend = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
    )


def _image_processor(size: int) -> Any:
    from transformers import BlipImageProcessor

    return BlipImageProcessor(size={"height": size, "width": size})


def _save(path: Path, model: Any, processor: Any) -> None:
    with quiet():
        model.save_pretrained(path)
        processor.save_pretrained(path)
