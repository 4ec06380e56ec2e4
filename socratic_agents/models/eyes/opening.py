"""Opening: how a captioner is loaded, checked before its weights are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import LoadError
from socratic_agents.models.devices import choose_dtype
from socratic_agents.models.eyes.families import ANOTHER, check_sees
from socratic_agents.models.eyes.pixels import limit_pixels
from socratic_agents.models.eyes.placement import Placement, quantized
from socratic_agents.models.hub import hub_options
from socratic_agents.models.loading import (
    check_folder,
    load_errors,
    local_folder,
    quiet,
)
from socratic_agents.models.notices import Notices
from socratic_agents.models.pipelines import check_offload

if TYPE_CHECKING:
    import torch

__all__ = ("open_eye",)

INDEX = "config.json"
"""The file that every saved transformers model has."""

WHAT = "an image-text-to-text model"


def open_eye(
    name: str,
    *,
    device: torch.device,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    quantization: str | None = None,
    offload: str | None = None,
    pixels: int | None = None,
    reader: bool = False,
) -> tuple[Any, Any, Placement]:
    """Return a model, its processor and where it is; arguments as of ``Captioner.load``.

    Raises:
        ConfigurationError: If an argument does not fit the machine, or the model is no
            captioner.
        LoadError: If there is no such model, or it cannot be opened safely.
    """
    check_offload(offload, device)
    # Said outright: left open, transformers asks the person at the terminal.
    safely: dict[str, Any] = {"trust_remote_code": False}
    folder = local_folder(name)
    if folder is not None:
        check_folder(folder, INDEX)
    else:
        safely |= hub_options(WHAT, name, index=INDEX, revision=revision)
    with quiet(), load_errors(WHAT, name):
        from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

        known, _ = PreTrainedConfig.get_config_dict(folder or name, **safely)
        kind = str(known.get("model_type", ""))
        foreign = "auto_map" in known and kind not in CONFIG_MAPPING
        config = (
            None if foreign else AutoConfig.from_pretrained(folder or name, **safely)
        )
    if foreign:
        message = (
            f"expected a model of transformers itself, got {name!r}, a {kind or 'model'} "
            "that needs Python code of its own, which is not run; name another, such as "
            f"{ANOTHER!r}"
        )
        raise LoadError(message)
    check_sees(config, name, reader=reader)
    weights = {
        "dtype": choose_dtype(dtype, device),
        "use_safetensors": True,
        **quantized(quantization, device),
    }
    notices = Notices()
    with quiet(notices), load_errors(WHAT, name, notices):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        processor = AutoProcessor.from_pretrained(folder or name, **safely)
        model = AutoModelForImageTextToText.from_pretrained(
            folder or name, **weights, **safely
        )
    if not hasattr(processor, "tokenizer"):
        message = (
            f"expected a processor with a tokenizer, got the {type(processor).__name__} of "
            f"{name!r}; name another captioner, such as {ANOTHER!r}"
        )
        raise LoadError(message)
    if pixels is not None:
        limit_pixels(processor, model.config, pixels)
    return model, processor, Placement(model, device, offload, notices)
