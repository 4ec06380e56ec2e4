"""Another VAE for a pipeline: from a file, a folder or the hub."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any, cast

from socratic_agents.core.errors import ConfigurationError, LoadError
from socratic_agents.models.assembly.weights_file import (
    Holds,
    expect,
    find_file,
    read_weights_file,
)
from socratic_agents.models.hub import hub_options
from socratic_agents.models.loading import check_folder, load_errors, local_folder
from socratic_agents.models.pipelines import INDEX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ("set_vae",)


def set_vae(pipeline: Any, source: str, dtype: Any) -> None:
    """Let a pipeline decode with another VAE.

    Args:
        pipeline: As it was opened.
        source: A file, which then is of the same kind as the pipeline's own; a folder
            or a hub id, of a VAE alone or of a pipeline with one.
        dtype: Number format of the weights.

    Raises:
        ConfigurationError: If the pipeline has none, or makes other latents.
        LoadError: If it cannot be opened safely.
    """
    own = getattr(pipeline, "vae", None)
    if own is None:
        message = (
            f"expected a pipeline with a VAE for vae={source!r}, got a "
            f"{type(pipeline).__name__}, which has none; leave vae out"
        )
        raise ConfigurationError(message)
    file = find_file(source)
    with load_errors("a VAE", source):
        if file is not None:
            vae = _from_file(file, own, dtype)
        else:
            vae = _from_folder(source, dtype)
    theirs, ours = _latents(vae), _latents(own)
    if theirs != ours or not hasattr(vae, "decode"):
        message = (
            f"expected a VAE for the latents of {type(pipeline).__name__} (channels and "
            f"pixels for each: {ours}), got {source!r} ({theirs}); give one of its family"
        )
        raise ConfigurationError(message)
    pipeline.register_modules(vae=vae)


def _from_file(file: Path, own: Any, dtype: Any) -> Any:
    expect(read_weights_file(file), "vae", Holds.VAE, Holds.CHECKPOINT)
    if not hasattr(type(own), "from_single_file"):
        message = (
            f"expected a {type(own).__name__} from a folder or the hub, since diffusers "
            f"opens none from one file, got {str(file)!r}; give the folder"
        )
        raise LoadError(message)
    with tempfile.TemporaryDirectory() as folder:
        own.save_config(folder)
        try:
            return type(own).from_single_file(
                str(file), config=folder, dtype=dtype, local_files_only=True
            )
        except (
            NotImplementedError
        ) as error:  # what was not read cannot be brought anywhere
            message = (
                f"expected a {type(own).__name__} for vae, got {str(file)!r}, which lacks "
                "tensors; give another file"
            )
            raise LoadError(message) from error


def _from_folder(source: str, dtype: Any) -> Any:
    from diffusers import AutoModel

    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    folder = local_folder(source)
    if folder is None:
        return _from_hub(source, options)
    if (folder / INDEX).is_file():
        folder /= "vae"
    check_folder(folder, "config.json")
    return AutoModel.from_pretrained(str(folder), **options)


def _from_hub(source: str, options: Mapping[str, Any]) -> Any:
    """Return a hub model that is a VAE alone, or that of a whole pipeline."""
    from diffusers import AutoModel

    problem: LoadError | None = None
    for place in ("", "vae/"):
        index = f"{place}config.json"
        try:
            reached = hub_options("a VAE", source, index=index, revision=None)
        except LoadError as error:
            problem = problem or error
        else:
            return AutoModel.from_pretrained(
                source, subfolder=place.rstrip("/"), **reached, **options
            )
    raise cast("LoadError", problem)


def _latents(vae: Any) -> tuple[Any, int]:
    """Return how many channels latents have, and how many pixels each stands for."""
    config = vae.config
    blocks = config.get("block_out_channels") or config.get(
        "encoder_block_out_channels"
    )
    return config.get("latent_channels"), 2 ** (len(blocks or ()) - 1)
