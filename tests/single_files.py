"""Writes pipelines as the single files that model sites have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import gguf
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def checkpoint(pipeline: Any, path: Path, *, without: str = "", **marks: Any) -> Path:
    """Save a Stable Diffusion pipeline in the layout of its authors, in one file.

    Args:
        pipeline: What to save.
        path: Where.
        without: What its names begin with is left out.
        marks: Further tensors.
    """
    tensors = {**_unet(pipeline.unet), **_vae(pipeline.vae), **marks}
    for name, tensor in pipeline.text_encoder.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{name}"] = tensor
    kept = {
        name: tensor.contiguous()
        for name, tensor in tensors.items()
        if not (without and name.startswith(without))
    }
    save_file(kept, path)
    return path


def quantized(weights: Mapping[str, torch.Tensor], path: Path) -> Path:
    """Save weights as GGUF, in 8 bits where their shape allows it."""
    bits = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(path, "flux")
    for name, tensor in weights.items():
        values = tensor.float().numpy()
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            packed = gguf.quants.quantize(values, bits)
            writer.add_tensor(name, packed, raw_dtype=bits)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def lora(pipeline: Any, folder: Path) -> Path:
    """Save random LoRA weights for the attention of a pipeline's denoiser."""
    pipeline.unet.add_adapter(
        LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_k", "to_v"])
    )
    torch.manual_seed(1)
    for name, weight in pipeline.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    layers = get_peft_model_state_dict(pipeline.unet)
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    (file,) = folder.iterdir()
    return file


def kohya(file: Path, folder: Path) -> Path:
    """Save LoRA weights as another trainer names them, with some of a text encoder."""
    weights = {}
    for name, tensor in load_file(file).items():
        layer, _, matrix = name.removeprefix("unet.").rpartition(".lora_")
        layer = f"lora_unet_{layer.replace('.', '_')}"
        way = "down" if matrix.startswith("A") else "up"
        weights[f"{layer}.lora_{way}.weight"] = tensor
        weights[f"{layer}.alpha"] = torch.tensor(4.0)
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        layer = f"lora_te_text_model_encoder_layers_0_self_attn_{part}"
        weights[f"{layer}.lora_down.weight"] = torch.randn(2, 16)
        weights[f"{layer}.lora_up.weight"] = torch.randn(16, 2)
        weights[f"{layer}.alpha"] = torch.tensor(2.0)
    save_file(weights, folder / "kohya.safetensors")
    return folder / "kohya.safetensors"


def _unet(unet: Any) -> dict[str, Any]:
    """Return a denoiser's weights under their authors' names."""
    count, each = len(unet.config.block_out_channels), unet.config.layers_per_block
    names = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    for block in range(count):
        first = (each + 1) * block
        for layer in range(each):
            below = f"input_blocks.{first + layer + 1}"
            names[f"down_blocks.{block}.resnets.{layer}"] = f"{below}.0"
            names[f"down_blocks.{block}.attentions.{layer}"] = f"{below}.1"
        below = f"input_blocks.{first + each + 1}"
        names[f"down_blocks.{block}.downsamplers.0.conv"] = f"{below}.0.op"
        for layer in range(each + 1):
            above = f"output_blocks.{first + layer}"
            names[f"up_blocks.{block}.resnets.{layer}"] = f"{above}.0"
            names[f"up_blocks.{block}.attentions.{layer}"] = f"{above}.1"
        last = 2 if "CrossAttn" in unet.config.up_block_types[block] else 1
        above = f"output_blocks.{first + each}.{last}"
        names[f"up_blocks.{block}.upsamplers.0"] = above
    weights = {}
    for name, tensor in unet.state_dict().items():
        new = _renamed(name, names)
        if match := re.fullmatch(r"(.*\.resnets\.\d+)\.(.*)", name):
            new = f"{_renamed(match[1], names)}.{_renamed(match[2], RESNET)}"
        weights[f"model.diffusion_model.{new}"] = tensor
    return weights


def _vae(vae: Any) -> dict[str, Any]:
    """Return a VAE's weights under their authors' names."""
    last = len(vae.config.block_out_channels) - 1
    rules: tuple[tuple[str, Any], ...] = (
        (r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block."),
        (r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample"),
        (r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{last - int(m[1])}.block."),
        (
            r"up_blocks\.(\d+)\.upsamplers\.0",
            lambda m: f"up.{last - int(m[1])}.upsample",
        ),
        (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"),
        (r"conv_norm_out", "norm_out"),
        (r"conv_shortcut", "nin_shortcut"),
    )
    weights = {}
    for name, tensor in vae.state_dict().items():
        new, kept = name, tensor
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        head, found, tail = new.partition("mid_block.attentions.0.")
        if found:
            new = f"{head}mid.attn_1.{_renamed(tail, ATTENTION)}"
            kept = kept[:, :, None, None] if kept.ndim == 2 else kept
        weights[f"first_stage_model.{new}"] = kept
    return weights


def _renamed(name: str, names: Mapping[str, str]) -> str:
    (old,) = [one for one in names if name == one or name.startswith(f"{one}.")]
    return names[old] + name[len(old) :]
