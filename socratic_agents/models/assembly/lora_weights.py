"""LoRA weights in a pipeline: all of them whole, each in layers that are there."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError, LoadError
from socratic_agents.core.text import error_line
from socratic_agents.models.assembly.lora_names import by_own_names
from socratic_agents.models.assembly.weights_file import (
    Holds,
    expect,
    find_file,
    read_weights_file,
)
from socratic_agents.models.loading import load_errors, local_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch

    from socratic_agents.config.loras import Lora
    from socratic_agents.models.assembly.weights_file import WeightsFile

__all__ = ("add_loras",)

NOWHERE = "none of its layers has their names"


def add_loras(
    pipeline: Any, loras: Sequence[Lora], *, tell: Callable[[str], None]
) -> None:
    """Add LoRA weights to a pipeline, each with its own strength.

    Args:
        pipeline: As it was opened, before it is brought to its device.
        loras: Where they are, and how strongly each counts.
        tell: Is told where a pipeline does not have all layers of some weights.

    Raises:
        ConfigurationError: If the pipeline takes none, or a file is something else.
        LoadError: If one cannot be opened safely, has numbers that are none, or fits
            no layer of the pipeline.
    """
    if not loras:
        return
    if not callable(getattr(pipeline, "load_lora_weights", None)):
        message = (
            f"expected a pipeline that takes LoRA weights, got {type(pipeline).__name__}, "
            "which does not; leave lora out, or choose another generator"
        )
        raise ConfigurationError(message)
    names = [f"lora_{index}" for index in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        file = _file(lora.source)
        _load(pipeline, name, lora.source, file)
        found = dict(_weights(pipeline, name))
        _check(pipeline, lora.source, found)
        if file is not None and (unused := _unused(file, found)):
            tell(unused)
    pipeline.set_adapters(names, [lora.weight for lora in loras])


def _file(source: str) -> WeightsFile | None:
    """Return the file that is meant; ``None``: the hub knows which."""
    path = find_file(source)
    if path is None and (folder := local_folder(source)) is not None:
        files = sorted(folder.glob("*.safetensors"))
        if len(files) != 1:
            message = (
                f"expected a folder with one safetensors file for lora, got {source!r} "
                f"with {len(files)}; give the file"
            )
            raise LoadError(message)
        path = files[0]
    if path is None:
        return None
    file = read_weights_file(path)
    expect(file, "lora", Holds.LORA)
    return file


def _load(pipeline: Any, name: str, source: str, file: WeightsFile | None) -> None:
    where: dict[str, Any] = {}
    given: Any = source
    try:
        with (
            warnings.catch_warnings(),
            load_errors("LoRA weights, of the hub as owner/model/FILE", source),
        ):
            warnings.simplefilter("ignore", UserWarning)  # peft's, of a second one
            if file is not None and (given := by_own_names(pipeline, file)) is None:
                given, where["weight_name"] = str(file.path.parent), file.path.name
            pipeline.load_lora_weights(
                given,
                adapter_name=name,
                use_safetensors=True,
                **where,
            )
    except LoadError as error:
        cause = error.__cause__
        if file is None or not isinstance(cause, ValueError | RuntimeError | KeyError):
            raise
        unknown = type(cause).__name__ == "NoMatchingPeftModuleError"
        raise _unfit(
            pipeline, source, NOWHERE if unknown else error_line(cause)
        ) from error


def _unfit(pipeline: Any, source: str, reason: str) -> LoadError:
    message = (
        f"expected LoRA weights for {type(pipeline).__name__}, got {source!r}, which do "
        f"not fit it ({reason[:200]}); choose the generator that they were trained for"
    )
    return LoadError(message)


def _check(pipeline: Any, source: str, found: Mapping[str, torch.Tensor]) -> None:
    """Check that weights have gone somewhere, and are numbers."""
    import torch

    if not found:
        raise _unfit(pipeline, source, NOWHERE)
    if not all(bool(torch.isfinite(one).all()) for one in found.values()):
        message = (
            f"expected LoRA weights that are finite, got {source!r} with infinite ones "
            "or NaN; download it again, or choose another"
        )
        raise LoadError(message)


def _unused(file: WeightsFile, found: Mapping[str, torch.Tensor]) -> str | None:
    """Return that the pipeline does not have all layers of a file."""
    # Some layers of a file become several of the pipeline, but never fewer.
    told = sum(bool(_FIRST.search(name)) for name in file.shapes)
    used = sum(bool(_FIRST.search(name)) for name in found)
    if used >= told:
        return None
    return (
        f"{used} of {told} layers of the LoRA weights {file.path.name!r} are used, since "
        "the generator does not have the others"
    )


_FIRST = re.compile(r"lora_A|lora_down|lora\.down")
"""One of the two matrices of each layer."""


def _weights(pipeline: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    for part in pipeline.components.values():
        if hasattr(part, "named_parameters"):
            for path, weight in part.named_parameters():
                if f".{name}." in path:
                    yield path, weight
