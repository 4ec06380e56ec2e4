"""LoRA weights by the denoiser's own names, under prefixes that diffusers passes over.

PEFT and several trainers write ``base_model.model.``, ``diffusion_model.`` or nothing
before a layer's name, and diffusers reads each of these for some families only.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from socratic_agents.config.loras import ADAPTER_CONFIG

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from socratic_agents.models.assembly.weights_file import WeightsFile

__all__ = ("by_own_names",)

PREFIXES = r"(base_model\.model\.)?((diffusion_model|{part})\.)?"
MATRIX = re.compile(r"(.+)\.lora(_A|_down|\.down|_B|_up|\.up)(\.default)?\.weight")
FIRST = frozenset(("_A", "_down", ".down"))
ALPHA = ".alpha"


def by_own_names(pipeline: Any, file: WeightsFile) -> dict[str, torch.Tensor] | None:
    """Return weights as diffusers names them, with their strength multiplied in.

    Args:
        pipeline: That they are for.
        file: LoRA weights.

    Returns:
        ``None``: not all of them have names of layers of its denoiser, or diffusers
        reads them as they are.
    """
    part = next((p for p in ("transformer", "unet") if hasattr(pipeline, p)), None)
    names = [name for name in file.shapes if not name.endswith(ALPHA)]
    matches = [MATRIX.fullmatch(name) for name in names]
    if part is None or file.quantized or None in matches:
        return None
    if all(name.startswith(f"{part}.") for name in names):
        return None
    layers = dict(getattr(pipeline, part).named_modules())
    prefix = re.compile(PREFIXES.format(part=part))
    plain = {name: prefix.sub("", name, count=1) for name in file.shapes}
    found = [match for name in names if (match := MATRIX.fullmatch(plain[name]))]
    if not all(match[1] in layers for match in found):
        return None
    from safetensors.torch import load_file

    tensors = {plain[name]: t for name, t in load_file(file.path).items()}
    firsts = {m[1]: tensors[m[0]] for m in found if m[2] in FIRST}
    rest = _strength(file.path.with_name(ADAPTER_CONFIG))
    weights = {}
    for match in found:
        layer, tensor = match[1], tensors[match[0]]
        if match[2] in FIRST:
            weights[f"{part}.{layer}.lora_A.weight"] = tensor
            continue
        alpha = tensors.get(f"{layer}{ALPHA}")
        scale = rest if alpha is None else float(alpha) / max(1, len(firsts[layer]))
        weights[f"{part}.{layer}.lora_B.weight"] = tensor * scale
    return weights


def _strength(config: Path) -> float:
    """Return by how much PEFT multiplies weights, as told beside them; else 1."""
    try:
        told = json.loads(config.read_text(encoding="utf-8"))
        alpha, rank = float(told["lora_alpha"]), float(told["r"])
        return alpha / (rank**0.5 if told.get("use_rslora") else rank)
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError):
        return 1.0
