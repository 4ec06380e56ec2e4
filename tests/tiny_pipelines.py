"""Tiny random pipelines of the families of 2025 and 2026; older ones: ``tiny_models``.

Real classes, built from config. Some of the pipelines read fixed layers of their text
encoders, which therefore have as many, of 8 numbers each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tests import tiny_models
from tests.tiny_models import (
    BYTE_VOCABULARY,
    autoencoder,
    byte_tokenizer,
    clip_text,
    clip_tokenizer,
    make_scheduler,
    t5,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("PIPELINES",)

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
)
MARKS = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
VISION = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
IDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXT: dict[str, Any] = {
    "vocab_size": BYTE_VOCABULARY + 4,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 4,
    **IDS,
}


def _flow(**options: Any) -> Any:
    return make_scheduler("FlowMatchEulerDiscreteScheduler", **options)


def _flux_2_vae() -> Any:
    import diffusers

    return diffusers.AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(4,),
        layers_per_block=1,
        latent_channels=1,
        norm_num_groups=1,
        sample_size=16,
    )


def _flux_2_transformer(width: int, *, guided: bool) -> Any:
    import diffusers

    return diffusers.Flux2Transformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=width,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guided,
    )


def flux_2() -> Any:
    """Build FLUX.2 dev, whose tokenizer is a processor, and reads layers 10 to 30."""
    import diffusers
    from transformers import (
        Mistral3Config,
        Mistral3ForConditionalGeneration,
        PixtralImageProcessor,
        PixtralProcessor,
    )

    tokenizer = byte_tokenizer(chat_template=TEMPLATE, more=MARKS)
    config = Mistral3Config(
        text_config={"model_type": "mistral", **TEXT, "num_hidden_layers": 31},
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
        },
        image_token_index=tokenizer.convert_tokens_to_ids(MARKS[0]),
    )
    return diffusers.Flux2Pipeline(
        scheduler=_flow(),
        vae=_flux_2_vae(),
        text_encoder=Mistral3ForConditionalGeneration(config).eval(),
        tokenizer=PixtralProcessor(
            PixtralImageProcessor(), tokenizer, chat_template=TEMPLATE
        ),
        transformer=_flux_2_transformer(24, guided=True),
    )


def flux_2_klein(*, distilled: bool = True) -> Any:
    """Build FLUX.2 klein, which reads layers 9 to 27 of its text encoder."""
    import diffusers
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(**{**TEXT, "num_hidden_layers": 28})
    return diffusers.Flux2KleinPipeline(
        scheduler=_flow(),
        vae=_flux_2_vae(),
        text_encoder=Qwen3ForCausalLM(config).eval(),
        tokenizer=byte_tokenizer(chat_template=TEMPLATE),
        transformer=_flux_2_transformer(24, guided=False),
        is_distilled=distilled,
    )


def qwen_image_21() -> Any:
    """Build Qwen-Image-2.1, whose images have an alpha channel."""
    import diffusers
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = byte_tokenizer(chat_template=TEMPLATE, more=VISION)
    patches = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    config = Qwen3VLConfig(
        text_config={**TEXT, "rope_parameters": _rope([1, 1, 0])},
        vision_config={
            "depth": 1,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_heads": 2,
            "out_hidden_size": 8,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
    )
    return diffusers.QwenImage21Pipeline(
        scheduler=_flow(),
        vae=diffusers.AutoencoderKLQwenImage21(
            base_dim=4,
            decoder_base_dim=4,
            z_dim=8,
            dim_mult=[1, 1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.0] * 8,
            latents_std=[1.0] * 8,
        ),
        text_encoder=Qwen3VLForConditionalGeneration(config).eval(),
        processor=Qwen3VLProcessor(
            Qwen2VLImageProcessor(**patches),
            tokenizer,
            Qwen3VLVideoProcessor(**patches),
            chat_template=TEMPLATE,
        ),
        transformer=diffusers.QwenImage21Transformer2DModel(
            in_channels=8,
            out_channels=8,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            context_in_dim=8,
            mlp_ratio=2,
            axes_dims_rope=(4, 6, 6),
        ),
    )


def _rope(section: list[int]) -> dict[str, Any]:
    return {"mrope_section": section, "rope_type": "default", "rope_theta": 1e6}


def sana_sprint() -> Any:
    """Build SANA-Sprint: SANA with guidance as an input, and two steps."""
    import diffusers

    base = sana()
    return diffusers.SanaSprintPipeline(
        tokenizer=base.tokenizer,
        text_encoder=base.text_encoder,
        vae=base.vae,
        transformer=diffusers.SanaTransformer2DModel(
            **{
                **base.transformer.config,
                "sample_size": 32,
                "guidance_embeds": True,
                "guidance_embeds_scale": 0.1,
                "qk_norm": "rms_norm_across_heads",
            }
        ),
        scheduler=make_scheduler("SCMScheduler", prediction_type="trigflow"),
    )


def sana() -> Any:
    """Build a SANA pipeline that has sizes of its own, as the real ones have."""
    return _sized(
        tiny_models.sana(),
        16,
        encoder_block_types=("ResBlock",) * 6,
        decoder_block_types=("ResBlock",) * 6,
        encoder_block_out_channels=(4,) * 6,
        decoder_block_out_channels=(4,) * 6,
        encoder_qkv_multiscales=((),) * 6,
        decoder_qkv_multiscales=((),) * 6,
        encoder_layers_per_block=(1,) * 6,
        decoder_layers_per_block=(1,) * 6,
    )


def pixart_sigma() -> Any:
    """Build a PixArt-Sigma pipeline that has sizes of its own."""
    return _sized(
        tiny_models.pixart_sigma(),
        32,
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def _sized(pipeline: Any, sample_size: int, **vae: Any) -> Any:
    """Return a pipeline that draws the nearest of its sizes, and scales it down."""
    config = {**pipeline.transformer.config, "sample_size": sample_size}
    parts = {
        "transformer": type(pipeline.transformer)(**config),
        "vae": type(pipeline.vae)(**{**pipeline.vae.config, **vae}),
    }
    return type(pipeline)(**{**pipeline.components, **parts})


def pixart_alpha() -> Any:
    """Build a PixArt-alpha pipeline."""
    import diffusers

    return diffusers.PixArtAlphaPipeline(**pixart_sigma().components)


def hidream() -> Any:
    """Build HiDream-I1, whose fourth text encoder is a language model."""
    import diffusers
    from transformers import CLIPTextModelWithProjection, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**{**TEXT, "vocab_size": BYTE_VOCABULARY})
    return diffusers.HiDreamImagePipeline(
        scheduler=_flow(),
        vae=autoencoder(blocks=1, shift_factor=0.1),
        text_encoder=clip_text(CLIPTextModelWithProjection, positions=256),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text(CLIPTextModelWithProjection, positions=256),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(),
        tokenizer_3=byte_tokenizer(limit=128),
        text_encoder_4=LlamaForCausalLM(config).eval(),
        tokenizer_4=byte_tokenizer(limit=128),
        transformer=diffusers.HiDreamImageTransformer2DModel(
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=1,
            caption_channels=[32, 8],
            text_emb_dim=32,
            num_routed_experts=2,
            num_activated_experts=1,
            axes_dims_rope=(4, 2, 2),
            max_resolution=(64, 64),
            llama_layers=(0, 1),
        ).eval(),
    )


def kandinsky_5() -> Any:
    """Build Kandinsky 5, whose tokenizer is a processor; it draws a few sizes only."""
    import diffusers
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = byte_tokenizer(chat_template=TEMPLATE, more=VISION)
    config = Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_parameters": _rope([1, 1, 0])},
        vision_config={
            "depth": 1,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_heads": 2,
            "out_hidden_size": 8,
        },
    )
    return diffusers.Kandinsky5T2IPipeline(
        transformer=diffusers.Kandinsky5Transformer3DModel(
            in_visual_dim=4,
            out_visual_dim=4,
            in_text_dim=8,
            in_text_dim2=16,
            time_dim=8,
            model_dim=8,
            ff_dim=8,
            num_text_blocks=1,
            num_visual_blocks=1,
            axes_dims=(2, 2, 4),
        ),
        vae=autoencoder(blocks=1),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=Qwen2VLProcessor(
            Qwen2VLImageProcessor(),
            tokenizer,
            Qwen2VLVideoProcessor(),
            chat_template=TEMPLATE,
        ),
        text_encoder_2=clip_text(),
        tokenizer_2=clip_tokenizer(),
        scheduler=_flow(shift=7.0),
    )


def chroma() -> Any:
    """Build Chroma: FLUX with true guidance, and one text encoder."""
    import diffusers

    return diffusers.ChromaPipeline(
        scheduler=_flow(),
        vae=autoencoder(blocks=1, latent_channels=1, shift_factor=0.1),
        text_encoder=t5(),
        tokenizer=byte_tokenizer(),
        transformer=diffusers.ChromaTransformer2DModel(
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8),
            approximator_num_channels=8,
            approximator_hidden_dim=16,
            approximator_layers=1,
        ),
    )


def _gemma() -> Any:
    from transformers import GemmaConfig, GemmaForCausalLM

    return GemmaForCausalLM(
        GemmaConfig(**{**TEXT, "vocab_size": BYTE_VOCABULARY})
    ).eval()


def lumina() -> Any:
    """Build Lumina-Next."""
    import diffusers

    transformer = diffusers.LuminaNextDiT2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        hidden_size=8,
        num_layers=1,
        num_attention_heads=1,
        num_kv_heads=1,
        multiple_of=8,
        cross_attention_dim=8,
    )
    # Diffusers leaves it uninitialised, and whatever was in memory may be NaN.
    torch.nn.init.ones_(transformer.pad_token)
    return diffusers.LuminaPipeline(
        transformer=transformer,
        scheduler=_flow(),
        vae=autoencoder(blocks=4),
        text_encoder=_gemma(),
        tokenizer=byte_tokenizer(opens=True),
    )


def lumina_2() -> Any:
    """Build Lumina-Image 2.0."""
    import diffusers

    return diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(
            sample_size=4,
            in_channels=4,
            hidden_size=8,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=1,
            num_kv_heads=1,
            multiple_of=8,
            axes_dim_rope=(4, 2, 2),
            axes_lens=(300, 64, 64),
            cap_feat_dim=8,
        ),
        scheduler=_flow(),
        vae=autoencoder(blocks=4, shift_factor=0.1),
        text_encoder=_gemma(),
        tokenizer=byte_tokenizer(opens=True),
    )


def _seeded(build: Callable[[], Any]) -> Callable[[], Any]:
    def built() -> Any:
        torch.manual_seed(0)
        return build()

    return built


PIPELINES: dict[str, Callable[[], Any]] = {
    **tiny_models.PIPELINES,
    "pixart-sigma": _seeded(pixart_sigma),
    "sana": _seeded(sana),
    "flux-2": _seeded(flux_2),
    "flux-2-klein": _seeded(flux_2_klein),
    "flux-2-klein-base": _seeded(lambda: flux_2_klein(distilled=False)),
    "qwen-image-21": _seeded(qwen_image_21),
    "sana-sprint": _seeded(sana_sprint),
    "pixart-alpha": _seeded(pixart_alpha),
    "hidream": _seeded(hidream),
    "kandinsky-5": _seeded(kandinsky_5),
    "chroma": _seeded(chroma),
    "lumina": _seeded(lumina),
    "lumina-2": _seeded(lumina_2),
}
"""Family to the function that builds a pipeline of it."""
