"""What makes a pipeline faster, and changes what it draws by no more than rounding.

Nothing here is on by default: what pays depends on the card and on the model, and a
compiler takes minutes before the first image. Caches that skip steps are left out, for
they change the image; see ``check_caches``.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.step_batching.hooks import (
    DenoiserProxy,
    denoisers,
    with_part,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Acceleration", "accelerate", "bucket_size", "check_acceleration")

RECOMPILE_LIMIT = 64
"""Graphs of one function; torch's own 8 are too few for regions of a U-Net at several
resolutions, each in several batch sizes, and what is beyond runs uncompiled."""


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    """How a pipeline is made faster."""

    channels_last: bool = False
    """Keep the weights of convolutions as tensor cores read them; for U-Nets and
    decoders on a GPU."""
    fuse_qkv: bool = False
    """Compute queries, keys and values in one product, where the denoiser can; takes
    memory for a second copy of these weights."""
    compile: Literal["regional", "full"] | None = None
    """Compile the denoiser: ``regional`` the blocks that it repeats, ``full`` all of
    it. A graph for each bucket of batch sizes, 1, 2, 4, and so on, at its first use."""
    backend: str | Callable[..., Any] = "inductor"
    """What compiles; see ``torch.compile``."""
    cuda_graphs: bool = False
    """Replay the compiled denoiser without launching its kernels one by one; needs
    ``full`` and CUDA, and takes memory for each graph. Only one thread may draw, as
    the worker's does."""
    vae_batch: int | None = None
    """Images that are decoded at once, at least 1; ``None``: the whole batch. At high
    resolution decoding needs more memory than denoising."""


def check_acceleration(
    acceleration: Acceleration, device: Any, offload: str | None = None
) -> None:
    """Check that this can be done on a device.

    Args:
        acceleration: What is wanted.
        device: Where the denoiser runs.
        offload: As in ``Diffusion.load``.

    Raises:
        ConfigurationError: If something does not go together.
    """
    moved = acceleration.channels_last or acceleration.fuse_qkv
    contradictions = {
        # Its hooks are put on the parts anew after each call, and a stand-in has none.
        "expected models that stay where they are for vae_batch, got offload 'model'; "
        "leave one of them out": acceleration.vae_batch is not None
        and offload == "model",
        f"expected compile 'regional', 'full' or None, got {acceleration.compile!r}; choose "
        "one": acceleration.compile not in (None, "regional", "full"),
        "expected vae_batch to be a whole number above 0, got "
        f"{acceleration.vae_batch!r}": acceleration.vae_batch is not None
        and acceleration.vae_batch < 1,
        "expected compile 'full' for CUDA graphs, got "
        f"{acceleration.compile!r}": acceleration.cuda_graphs
        and acceleration.compile != "full",
        f"expected a CUDA device for CUDA graphs, got {str(device)!r}; leave "
        "cuda_graphs out": acceleration.cuda_graphs and device.type != "cuda",
        f"expected weights that stay where they are for CUDA graphs, got offload "
        f"{offload!r}; leave one of them out": acceleration.cuda_graphs and offload,
        "expected weights that stay where they are for channels_last and fuse_qkv, "
        f"got offload {offload!r}; leave one of them out": moved
        and offload in ("sequential", "group"),
    }
    for message, contradicted in contradictions.items():
        if contradicted:
            raise ConfigurationError(message)


def accelerate(pipeline: Any, acceleration: Acceleration) -> Any:
    """Return a pipeline that is faster; its models are changed in place.

    Args:
        pipeline: A diffusers pipeline on its device.
        acceleration: How.

    Raises:
        ConfigurationError: If the pipeline does not have what this needs.
    """
    found = denoisers(pipeline)
    vae = getattr(pipeline, "vae", None)
    if acceleration.channels_last:
        for model in (*found.values(), vae):
            _lay_out(model)
    for name, model in found.items():
        if acceleration.fuse_qkv:
            _fuse(name, model)
        if acceleration.compile is not None:
            _compile(name, model, acceleration)
        if acceleration.cuda_graphs:
            proxy = DenoiserProxy(model, partial(_replayed, model))
            pipeline = with_part(pipeline, name, proxy)
    if acceleration.vae_batch is not None and vae is not None:
        decode = partial(_decoded, vae.decode, acceleration.vae_batch)
        pipeline = with_part(pipeline, "vae", DenoiserProxy(vae, decode=decode))
    return pipeline


def bucket_size(count: int) -> int:
    """Return the batch size that so many requests are filled up to: a power of two.

    A compiled denoiser has a graph for each size; so it needs one for each bucket.
    """
    return 1 << max(count - 1, 0).bit_length()


def _lay_out(model: Any) -> None:
    import torch

    for weight in model.parameters() if hasattr(model, "parameters") else ():
        # Of two dimensions alone: a video decoder's have one more.
        if weight.ndim == 4:  # noqa: PLR2004 - out, in, height, width
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def _fuse(name: str, model: Any) -> None:
    try:
        model.fuse_qkv_projections()
    except (AttributeError, ValueError) as error:
        message = (
            f"expected a {name} whose projections can be fused, got a "
            f"{type(model).__name__} ({error}); leave fuse_qkv out"
        )
        raise ConfigurationError(message) from error


def _compile(name: str, model: Any, acceleration: Acceleration) -> None:
    import torch

    # Sizes are made static on purpose: shapes that may vary make slower kernels.
    options: dict[str, Any] = {"backend": acceleration.backend, "dynamic": False}
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        options["recompile_limit"] = RECOMPILE_LIMIT
    if acceleration.cuda_graphs:
        options["mode"] = "reduce-overhead"
    if acceleration.compile == "full":
        model.compile(**options)
        return
    try:
        model.compile_repeated_blocks(**options)
    except (AttributeError, ValueError) as error:
        message = (
            f"expected a {name} that names the blocks it repeats, got a "
            f"{type(model).__name__}; choose compile 'full'"
        )
        raise ConfigurationError(message) from error


def _replayed(model: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a model whose graphs write over their last output, and keep the output."""
    import torch

    torch.compiler.cudagraph_mark_step_begin()
    output = model(*args, **kwargs)
    # Schedulers of a higher order remember outputs of earlier steps.
    if isinstance(output, tuple):
        return tuple(one.clone() for one in output)
    return type(output)(**{name: one.clone() for name, one in output.items()})


def _decoded(
    decode: Callable[..., Any], most: int, latents: Any, *args: Any, **kwargs: Any
) -> Any:
    """Decode so many images at once, and give the answer of one call for all."""
    import torch

    parts = [decode(part, *args, **kwargs) for part in latents.split(most)]
    if isinstance(parts[0], tuple):
        return tuple(torch.cat(each) for each in zip(*parts, strict=True))
    return type(parts[0])(sample=torch.cat([part.sample for part in parts]))
