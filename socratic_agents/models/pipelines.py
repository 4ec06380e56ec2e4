"""How a diffusers pipeline is opened, placed, and asked what it takes."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError, LoadError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

__all__ = (
    "ALONE",
    "INDEX",
    "check_no_code",
    "check_offload",
    "checked_call",
    "guided_call",
    "named_parameters",
    "only_variant",
    "open_pipeline",
    "place",
    "token_count",
    "token_limits",
)

INDEX = "model_index.json"
"""The file that every saved diffusers pipeline has."""

OURS = ("prompt", "generator", "output_type", "num_images_per_prompt", "return_dict")
"""Arguments of a pipeline's call that are set here, for each batch."""

TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4", "processor")
"""Parts of a pipeline that read prompts; processors among them."""

ALONE = ("QwenImage21Pipeline",)
"""Pipelines of whose batches one prompt's length moves the others' images."""

TWO_STEPS = 2

GUIDANCE = ("true_cfg_scale", "guidance_scale")
"""What pipelines call the strength of the prompt; some take both."""

OFFLOADS = ("model", "sequential", "group")


def named_parameters(pipeline: Any) -> dict[str, Any]:
    """Return what the pipeline's call takes by name, with the defaults."""
    try:
        signature = inspect.signature(pipeline)
    except (TypeError, ValueError):
        parameters: dict[str, Any] = {}
    else:
        named = (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        )
        parameters = {
            name: parameter.default
            for name, parameter in signature.parameters.items()
            if parameter.kind in named
        }
    missing = {"prompt", "generator", "output_type"} - parameters.keys()
    if missing:
        message = (
            "expected a diffusers text-to-image pipeline, got a "
            f"{type(pipeline).__name__} whose call takes no "
            f"{', '.join(sorted(missing))}; give another pipeline"
        )
        raise ConfigurationError(message)
    return parameters


def checked_call(
    call: Mapping[str, Any], parameters: Mapping[str, Any], pipeline: str
) -> dict[str, Any]:
    """Return the arguments under the pipeline's names, or say what it takes."""
    if "steps" in call and "num_inference_steps" in call:
        message = "expected steps or num_inference_steps, got both; leave one out"
        raise ConfigurationError(message)
    given = {
        "num_inference_steps" if name == "steps" else name: value
        for name, value in call.items()
        if value is not None
    }
    if given.get("true_cfg_scale", 0) > 1 and "negative_prompt" in parameters:
        # Without one there is no guidance at all, and a blank stands for none.
        given.setdefault("negative_prompt", " ")
    if given.get("num_inference_steps") != TWO_STEPS and "num_inference_steps" in given:
        # SANA-Sprint has a time between its two steps, and refuses it for others.
        for name in parameters.keys() & {"intermediate_timesteps"}:
            given.setdefault(name, None)
    takes = sorted(parameters.keys() - set(OURS))
    unknown = sorted(given.keys() - set(takes))
    if unknown:
        message = (
            f"expected arguments that {pipeline} takes ({', '.join(takes)}), got "
            f"{', '.join(unknown)}; leave out what it does not take"
        )
        raise ConfigurationError(message)
    for name in ("num_inference_steps", "width", "height"):
        value = given.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            message = f"expected {name} to be a whole number above 0, got {value!r}"
            raise ConfigurationError(message)
    _check_guidance(given, parameters, pipeline)
    return given


def guided_call(
    scale: float,
    call: Mapping[str, Any],
    parameters: Mapping[str, Any],
    pipeline: str,
) -> tuple[str, dict[str, Any]]:
    """Return a call with other guidance, and what the pipeline names that.

    Args:
        scale: Strength of the prompt, at least 0.
        call: Arguments, as from ``checked_call``.
        parameters: What the pipeline takes.
        pipeline: What it is called.

    Raises:
        ConfigurationError: If it takes no guidance, or not this one.
    """
    # What its recipe or its owner guides by; else, where both are taken, the one that
    # guides: the other is distilled into the model.
    names = [n for n in GUIDANCE if n in call] or [
        n for n in GUIDANCE if n in parameters
    ]
    if not names:
        message = (
            f"expected a pipeline that takes guidance for a guidance_grid, got {pipeline}"
            "; leave guidance_grid out"
        )
        raise ConfigurationError(message)
    blank = call.get("negative_prompt") == " "  # it was set here, for the guidance then
    kept = {n: v for n, v in call.items() if not (blank and n == "negative_prompt")}
    changed = {**kept, names[0]: scale}
    return names[0], checked_call(changed, parameters, pipeline)


def _check_guidance(
    given: Mapping[str, Any], parameters: Mapping[str, Any], pipeline: str
) -> None:
    """Refuse a negative prompt that the pipeline would not look at.

    Pipelines whose guidance is distilled into the model guide by another number.
    """
    name = "true_cfg_scale" if "true_cfg_scale" in parameters else "guidance_scale"
    scale = given.get(name, parameters.get(name))
    off = isinstance(scale, int | float) and scale <= 1
    if off and given.get("negative_prompt") is not None:
        message = (
            f"expected a {name} above 1 for a negative prompt, which {pipeline} ignores "
            f"otherwise, got {scale}; raise the one, or leave out the other"
        )
        raise ConfigurationError(message)


def token_limits(
    pipeline: Any, call: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[tuple[Callable[..., Any], int | None]]:
    """Return the pipeline's tokenizers, each with how many tokens are read."""
    encoders: list[tuple[Callable[..., Any], int | None]] = []
    for name in TOKENIZERS:
        tokenizer = getattr(pipeline, name, None)
        if tokenizer is None:
            continue
        # What is called a tokenizer may be a processor of images and texts.
        tokenizer = getattr(tokenizer, "tokenizer", None) or tokenizer
        own = getattr(tokenizer, "model_max_length", None)
        # Tokenizers without a limit say so with a huge number.
        limit = own if isinstance(own, int) and own < 1_000_000 else None  # noqa: PLR2004 - explained above
        if "CLIP" not in type(tokenizer).__name__:
            limit = call.get(
                "max_sequence_length", defaults.get("max_sequence_length", limit)
            )
        encoders.append((tokenizer, limit))
    return encoders


def token_count(tokenizer: Callable[..., Any], prompt: str) -> int:
    """Return how many tokens a prompt has; 0 where that cannot be counted.

    By name: the first argument of a processor is images, and it opens a text that
    looks like an address or a path.
    """
    try:
        return len(tokenizer(text=prompt, verbose=False).input_ids)
    except Exception:  # noqa: BLE001 - the image is drawn, and is worth more
        return 0


def only_variant(folder: Path) -> str | None:
    """Return the variant of a folder's weights, if some part has no other ones.

    Args:
        folder: Of a pipeline, saved with ``variant="fp16"`` for example.
    """
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        names = [path.name for path in part.glob("*.safetensors")]
        # unet/diffusion_pytorch_model.fp16.safetensors, or .fp16-00001-of-00002
        found = [_VARIANT.fullmatch(name) for name in names]
        variants = {match[1] for match in found if match}
        if names and all(found) and len(variants) == 1:
            return variants.pop()
    return None


_VARIANT = re.compile(r"[^.]+\.([^.-]+)(-\d+-of-\d+)?\.safetensors")


def check_offload(offload: str | None, device: torch.device) -> None:
    """Check that an offload is known, and that there is something to offload from."""
    if offload is None:
        return
    if offload not in OFFLOADS:
        message = (
            f"expected offload to be one of {', '.join(OFFLOADS)}, got {offload!r}; "
            "choose one, or none"
        )
        raise ConfigurationError(message)
    if device.type == "cpu":
        message = (
            f"expected a graphics card for offload {offload!r}, got the CPU, where "
            "there is nothing to offload from; leave offload out"
        )
        raise ConfigurationError(message)


def check_no_code(folder: Path) -> None:
    """Check that a folder needs no Python code of its own.

    Diffusers loads ``<part>/<module>.py`` for parts that name a module in the
    folder, so its own refusal is not the only one that is wanted here.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        named = [index["_class_name"], *index.values()]
        modules = [n[0] for n in named if isinstance(n, list) and n]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = (
            f"expected a pipeline's {INDEX}, got one in {str(folder)!r} that cannot "
            "be read; save the pipeline again"
        )
        raise LoadError(message) from error
    files = {
        file.stem for pattern in ("*.py", "*/*.py") for file in folder.glob(pattern)
    }
    code = [module for module in modules if module in files]
    if code or isinstance(index["_class_name"], list):
        message = (
            f"expected a pipeline of diffusers itself, got {str(folder)!r}, which "
            f"needs its own Python code ({', '.join(code) or index['_class_name']}); "
            "load it yourself and give the pipeline object"
        )
        raise LoadError(message)


def open_pipeline(name: str, options: Mapping[str, Any]) -> Any:
    """Open a pipeline, also one of a family that has no text-to-image mapping."""
    from diffusers import AutoPipelineForText2Image, DiffusionPipeline

    try:
        return AutoPipelineForText2Image.from_pretrained(name, **options)
    except ValueError:
        # What else may be wrong is wrong for this one too, and is its to say.
        return DiffusionPipeline.from_pretrained(name, **options)


def place(pipeline: Any, device: torch.device, offload: str | None) -> None:
    """Bring a pipeline to its device, whole or piece by piece as it is needed."""
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    elif offload == "group":
        pipeline.enable_group_offload(
            onload_device=device,
            offload_type="leaf_level",
            use_stream=device.type == "cuda",
        )
    else:
        pipeline.to(device)
