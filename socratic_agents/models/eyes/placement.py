"""Placement: where a captioner's weights are, at work and at rest."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.extras import require
from socratic_agents.models.notices import Notices

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = ("Placement", "quantized")


class Placement:
    """Brings a model to its device, whole or piece by piece as it is needed.

    Args:
        model: A transformers model.
        device: Where it computes; ``None``: where it is.
        offload: What is kept in main memory while it does not run: ``model`` (all),
            ``sequential`` (layers) or ``group`` (groups of layers); ``None``: nothing.
        notices: What was noticed of it until now.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device | None = None,
        offload: str | None = None,
        notices: Notices | None = None,
    ) -> None:
        self.notices = notices or Notices()
        self._model, self._device = model, device
        self._moves = offload == "model"
        if device is None or self._moves:
            return
        if offload == "sequential":
            from accelerate import cpu_offload

            cpu_offload(model, execution_device=device)
        elif offload == "group":
            from diffusers.hooks import apply_group_offloading

            apply_group_offloading(
                model,
                onload_device=device,
                offload_type="leaf_level",
                use_stream=device.type == "cuda",
            )
        elif not getattr(model, "is_quantized", False):
            model.to(device)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self._device or self._model.device
        return device

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have the model where it computes."""
        if not self._moves:
            yield
            return
        self._model.to(self.device)
        try:
            yield
        finally:
            self._model.to("cpu")


def quantized(bits: str | None, device: torch.device) -> dict[str, Any]:
    """Return how a model is opened with fewer bits a weight, through bitsandbytes.

    Args:
        bits: ``4bit``, ``8bit``, or ``None`` for as they are.
        device: Where it will run.

    Raises:
        ConfigurationError: If there is no graphics card, or no bitsandbytes.
    """
    if bits is None:
        return {}
    if device.type != "cuda":
        message = (
            f"expected a graphics card for captioner_quantization {bits!r}, got the "
            f"{device.type}; leave captioner_quantization out"
        )
        raise ConfigurationError(message)
    require("bitsandbytes", purpose=f"for captioner_quantization {bits!r}")
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(**{f"load_in_{bits}": True}),
        "device_map": {"": device},
    }
