"""Weights in fewer bits: what the machine can do, and how each kind is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.extras import require
from socratic_agents.models.assembly.single_file import denoiser_name

if TYPE_CHECKING:
    import torch

__all__ = ("FP8", "quantization_config", "store_in_8_bits")

FP8 = "fp8"
BITS = ("4bit", "8bit")


def quantization_config(quantization: Any, device: torch.device) -> Any:
    """Return a diffusers quantization config; ``None`` if none is needed.

    Args:
        quantization: ``4bit``, ``8bit`` or ``fp8``, a config of diffusers, or the
            arguments of one.
        device: Where the model runs.

    Raises:
        ConfigurationError: If the machine cannot do it, or there is no such thing.
    """
    if isinstance(quantization, str):
        _check(quantization, device)
        if quantization == FP8:
            return None
        bits = {f"load_in_{quantization}": True}
        backend = f"bitsandbytes_{quantization}"
        quantization = {"quant_backend": backend, "quant_kwargs": bits}
    if not isinstance(quantization, Mapping):
        return quantization
    from diffusers import PipelineQuantizationConfig

    try:
        return PipelineQuantizationConfig(**quantization)
    except (TypeError, ValueError, ImportError) as error:
        message = (
            "expected arguments of diffusers' PipelineQuantizationConfig, got "
            f"{dict(quantization)!r} ({error}); see its documentation"
        )
        raise ConfigurationError(message) from error


def _check(name: str, device: torch.device) -> None:
    """Check that this machine can do it; nothing is loaded for that."""
    if name not in (*BITS, FP8):
        message = f"expected quantization to be 4bit, 8bit or fp8, got {name!r}"
        raise ConfigurationError(message)
    if name == FP8 and device.type == "mps":
        message = (
            "expected a device that knows 8-bit floats for quantization 'fp8', got mps; "
            "leave it out"
        )
        raise ConfigurationError(message)
    if name in BITS and device.type in {"cpu", "mps"}:
        message = (
            f"expected a graphics card for quantization {name!r}, got {device.type}; "
            "leave it out, or take fp8 or a GGUF file"
        )
        raise ConfigurationError(message)
    if name in BITS:
        require("bitsandbytes", purpose=f"for quantization {name!r}")


def store_in_8_bits(pipeline: Any, dtype: torch.dtype) -> None:
    """Keep the denoiser's weights as 8-bit floats; it still computes with others.

    Args:
        pipeline: Before it is brought to its device.
        dtype: What to compute with.

    Raises:
        ConfigurationError: If its denoiser cannot.
    """
    import torch

    denoiser: Any = getattr(pipeline, denoiser_name(pipeline.components), None)
    if not hasattr(denoiser, "enable_layerwise_casting"):
        message = (
            f"expected a pipeline whose denoiser takes quantization 'fp8', got "
            f"{type(pipeline).__name__}; leave it out"
        )
        raise ConfigurationError(message)
    denoiser.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype
    )
