"""Parts: what a pipeline is put together from, beside the model that it is named for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.assembly.autoencoder import set_vae
from socratic_agents.models.assembly.lora_weights import add_loras
from socratic_agents.models.assembly.quantization import store_in_8_bits
from socratic_agents.models.assembly.schedulers import set_scheduler
from socratic_agents.models.assembly.single_file import (
    open_single_file,
    quantized_already,
)
from socratic_agents.models.assembly.weights_file import GGUF
from socratic_agents.models.pipelines import open_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from socratic_agents.config.loras import Lora

__all__ = ("Parts",)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a pipeline is put together from."""

    base: str | None = None
    """Of a single file: folder or hub id of the pipeline that it was made from; ``None``:
    what its tensors look like."""
    loras: tuple[Lora, ...] = ()
    """Weights that are added to some layers."""
    scheduler: str | None = None
    """As ``set_scheduler`` reads it; ``None``: the pipeline's own."""
    vae: str | None = None
    """File, folder or hub id; ``None``: the pipeline's own."""
    fp8: bool = False
    """Whether the denoiser's weights are kept as 8-bit floats."""

    def open(
        self,
        source: Path | str,
        options: Mapping[str, Any],
        *,
        tell: Callable[[str], None],
    ) -> Any:
        """Open a pipeline and put everything into it, on the CPU.

        Args:
            source: A file of weights, or a folder or a hub id as text.
            options: Of diffusers: ``dtype``, ``use_safetensors`` and more.
            tell: Is told what is used in part alone.

        Raises:
            ConfigurationError: If something does not fit the other.
            LoadError: If something cannot be opened safely.
        """
        if isinstance(source, Path):
            if "variant" in options:
                message = (
                    f"expected no variant for the single file {str(source)!r}, got "
                    f"{options['variant']!r}; leave it out"
                )
                raise ConfigurationError(message)
            if self.fp8 and source.suffix == GGUF:
                raise ConfigurationError(quantized_already(source))
            pipeline = open_single_file(source, self.base, options)
        elif self.base is not None:
            message = (
                f"expected a single file as generator for generator_config={self.base!r}, "
                f"got {source!r}, which has its own; leave it out"
            )
            raise ConfigurationError(message)
        else:
            pipeline = open_pipeline(source, options)
        if self.vae is not None:
            set_vae(pipeline, self.vae, options["dtype"])
        if self.scheduler is not None:
            set_scheduler(pipeline, self.scheduler)
        add_loras(pipeline, self.loras, tell=tell)
        if self.fp8:
            store_in_8_bits(pipeline, options["dtype"])
        return pipeline
