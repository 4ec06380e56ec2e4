"""A pipeline from one file, as model sites have them: a checkpoint, or a denoiser.

The file has weights and no more: how many layers there are, and which scheduler it was
trained for, stands in the files of the pipeline that it was made from, here its base.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError, LoadError, SocraticError
from socratic_agents.core.text import error_line
from socratic_agents.models.assembly.weights_file import (
    GGUF,
    Holds,
    expect,
    read_weights_file,
)
from socratic_agents.models.hub import cached_file, hub_options, hub_problem
from socratic_agents.models.loading import load_errors, local_folder
from socratic_agents.models.pipelines import INDEX, check_no_code, open_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from socratic_agents.models.assembly.weights_file import WeightsFile

__all__ = ("denoiser_name", "open_single_file", "quantized_already")

DENOISERS = ("transformer", "unet")
PREFIX = "model.diffusion_model."
SMALL_FILES = ["*.json", "**/*.json", "*.txt", "**/*.txt", "**/*.model"]
"""Of a hub model: all that is no weights."""
BASE = "the pipeline that it was made from"
GIVE = (
    "give generator_config, the folder or hub id of the pipeline that it was made from"
)


def denoiser_name(parts: Mapping[str, Any]) -> str:
    """Return what a pipeline calls the model that draws.

    Args:
        parts: Its components, or its index; what it lacks is ``None``, or a pair of it.
    """
    there = [n for n in DENOISERS if parts.get(n) not in (None, [None, None])]
    return there[0] if there else DENOISERS[-1]


def open_single_file(path: Path, base: str | None, options: Mapping[str, Any]) -> Any:
    """Open a pipeline whose denoiser, and what else is in it, come from a file.

    Args:
        path: A safetensors file in the layout of its authors or of diffusers, or GGUF.
        base: Folder or hub id of the pipeline that it was made from; ``None``: what its
            tensors look like, from the hub.
        options: For whatever is opened: ``dtype``, ``use_safetensors``, and perhaps a
            ``quantization_config`` of diffusers.

    Raises:
        ConfigurationError: If it is another kind of file.
        LoadError: If it cannot be opened, or its base cannot be had.
    """
    file = read_weights_file(path)
    expect(file, "generator", Holds.CHECKPOINT, Holds.DENOISER)
    base = base or _base_of(file)
    folder = _settings_folder(base, path)
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    name, config = denoiser_name(index), options.get("quantization_config")
    quantization = config and config._resolve_quant_config(module_name=name)  # noqa: SLF001 - there is no other way to ask for one model's
    if file.quantized:
        if config is not None:
            raise ConfigurationError(quantized_already(path))
        quantization = _gguf_config(options["dtype"])
    given: dict[str, Any] = {}
    if file.holds is Holds.DENOISER or quantization is not None:
        given[name] = _denoiser(path, folder, name, index, options, quantization)
    if file.holds is Holds.DENOISER:
        return _with_base(base, options, given)
    pipeline = _checkpoint(path, folder, index, base, options, given)
    _heed_marks(pipeline, file)
    return pipeline


def quantized_already(path: Path) -> str:
    """Say that weights cannot be quantized twice."""
    return (
        f"expected no quantization for {str(path)!r}, whose weights are quantized "
        "already; leave it out"
    )


def _base_of(file: WeightsFile) -> str:
    """Return the pipeline that a file seems to be made from, as diffusers guesses."""
    import torch
    from diffusers.loaders.single_file_utils import (
        CHECKPOINT_KEY_NAMES,
        fetch_diffusers_config,
    )

    empty = {
        name: torch.empty(shape, device="meta") for name, shape in file.shapes.items()
    }
    guess: str = fetch_diffusers_config(empty)["pretrained_model_name_or_path"]
    # What it does not know it takes for Stable Diffusion 1.5.
    if "v1-5" in guess and CHECKPOINT_KEY_NAMES["v1"] not in empty:
        message = (
            f"expected weights of a family that can be told by its tensors, got "
            f"{str(file.path)!r}; {GIVE}"
        )
        raise LoadError(message)
    return guess


def _settings_folder(base: str, path: Path) -> Path:
    """Return a folder with all of a pipeline but, perhaps, its weights."""
    try:
        folder = local_folder(base) or _downloaded(base)
    except LoadError as error:
        message = f"{str(path)!r} was made from another pipeline: {error}; {GIVE}"
        raise LoadError(message) from error
    if not (folder / INDEX).is_file():
        message = (
            f"expected a pipeline with {INDEX} for {str(path)!r}, got {base!r} without; "
            f"{GIVE}"
        )
        raise LoadError(message)
    check_no_code(folder)
    return folder


def _downloaded(base: str) -> Path:
    """Return the folder of a hub model's small files."""
    from huggingface_hub import snapshot_download

    problem = hub_problem(base, index=INDEX, revision=None)
    if problem is None:
        with load_errors(BASE, base):
            return Path(snapshot_download(base, allow_patterns=SMALL_FILES))
    known = cached_file(base, INDEX)
    if known is None:
        raise problem.error(BASE, base)
    return known.parent


def _with_base(base: str, options: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Return a base with some of its parts replaced."""
    reached = {}
    if local_folder(base) is None:
        reached = hub_options(BASE, base, index=INDEX, revision=None)
    return open_pipeline(base, {**options, **reached, **given})


def _gguf_config(dtype: Any) -> Any:
    from diffusers import GGUFQuantizationConfig

    return GGUFQuantizationConfig(compute_dtype=dtype)


def _denoiser(
    path: Path,
    folder: Path,
    name: str,
    index: Mapping[str, Any],
    options: Mapping[str, Any],
    quantization: Any,
) -> Any:
    import diffusers

    kind = getattr(diffusers, index[name][1])
    if not hasattr(kind, "from_single_file"):
        message = (
            f"expected a {kind.__name__} from a folder or the hub, since diffusers opens "
            f"none from one file, got {str(path)!r}; give the folder"
        )
        raise LoadError(message)
    more = {} if quantization is None else {"quantization_config": quantization}
    return _fitting(
        path,
        folder,
        lambda: kind.from_single_file(
            _unprefixed(path) or str(path),
            config=str(folder),
            subfolder=name,
            dtype=options["dtype"],
            local_files_only=True,
            **more,
        ),
    )


def _unprefixed(path: Path) -> dict[str, Any] | None:
    """Return the weights of a denoiser alone whose names say so; ``None`` for others.

    Not every reader of diffusers knows these names.
    """
    if path.suffix == GGUF:
        return None
    names = read_weights_file(path).shapes
    if not all(name.startswith(PREFIX) for name in names):
        return None
    from safetensors.torch import load_file

    return {name.removeprefix(PREFIX): one for name, one in load_file(path).items()}


def _checkpoint(
    path: Path,
    folder: Path,
    index: Mapping[str, Any],
    base: str,
    options: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Any:
    """Open a pipeline from a file; what is not in it comes from the base."""
    import diffusers
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    kind = getattr(diffusers, index["_class_name"])
    if not hasattr(kind, "from_single_file"):
        message = (
            f"expected a {kind.__name__} from a folder or the hub, since diffusers opens "
            f"none from one file, got {str(path)!r}; give the folder"
        )
        raise LoadError(message)

    def opened() -> Any:
        try:
            return kind.from_single_file(
                str(path),
                config=str(folder),
                dtype=options["dtype"],
                local_files_only=True,
                **given,
            )
        except SingleFileComponentError:  # a text encoder that many files share
            parts = [
                part for part in (denoiser_name(index), "vae") if part not in given
            ]
            own = {
                part: _denoiser(path, folder, part, index, options, None)
                for part in parts
            }
            return _with_base(base, options, {**given, **own})

    return _fitting(path, folder, opened)


def _fitting(path: Path, folder: Path, opened: Callable[[], Any]) -> Any:
    """Return a model; one whose weights do not fit its settings is told so."""
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    wrong = (ValueError, RuntimeError, KeyError, IndexError, SingleFileComponentError)
    try:
        model = opened()
    except SocraticError:
        raise
    except NotImplementedError:  # what was not read cannot be brought anywhere
        reason = "some tensors are not in the file"
    except wrong as error:
        reason = error_line(error)
    else:
        parts = getattr(model, "components", {"": model}).values()
        missing = [
            name
            for part in parts
            if hasattr(part, "named_parameters")
            for name, parameter in part.named_parameters()
            if parameter.is_meta
        ]
        if not missing:
            return model
        reason = f"some tensors are not in the file, such as {missing[0]}"
    message = (
        f"expected the weights of the pipeline {str(folder)!r}, got {str(path)!r}, which "
        f"do not fit it ({reason}); {GIVE}"
    )
    raise LoadError(message)


def _heed_marks(pipeline: Any, file: WeightsFile) -> None:
    """Set the scheduler as some checkpoints say that they were trained.

    Without it they draw noise, and nothing says why.
    """
    if "v_pred" not in file.shapes:
        return
    told: dict[str, Any] = {"prediction_type": "v_prediction"}
    if "ztsnr" in file.shapes:
        told |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    scheduler = pipeline.scheduler
    # What this one does not take, another that is made from it may.
    pipeline.scheduler = type(scheduler).from_config({**scheduler.config, **told})
