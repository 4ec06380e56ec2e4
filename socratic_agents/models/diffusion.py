"""Text to image with any diffusers pipeline, one seed for each image."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from socratic_agents.core.errors import BatchError, CandidateError, is_out_of_memory
from socratic_agents.core.history import Status
from socratic_agents.core.text import one_line
from socratic_agents.models.acceleration import (
    Acceleration,
    accelerate,
    bucket_size,
    check_acceleration,
)
from socratic_agents.models.assembly.parts import Parts
from socratic_agents.models.assembly.quantization import FP8, quantization_config
from socratic_agents.models.assembly.weights_file import find_file
from socratic_agents.models.devices import choose_device, choose_dtype
from socratic_agents.models.hub import hub_options
from socratic_agents.models.loading import (
    check_folder,
    load_errors,
    local_folder,
    quiet,
)
from socratic_agents.models.noise import (
    Noise,
    noise_states,
    scheduler_noise,
    seeded_noise,
)
from socratic_agents.models.notices import Notices
from socratic_agents.models.pipelines import (
    ALONE,
    INDEX,
    check_no_code,
    check_offload,
    checked_call,
    guided_call,
    named_parameters,
    only_variant,
    place,
    token_count,
    token_limits,
)
from socratic_agents.models.pixels import checked_pixels, withheld_flags
from socratic_agents.models.step_batching.hooks import check_caches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ("Diffusion",)

WHAT = "a text-to-image model"
PER_PROMPT = re.compile(r"negative_prompt(_\d+)?|prompt_\d+")
"""Arguments that most pipelines want as a list as long as the batch."""


class Diffusion:
    """Draws images with a diffusers pipeline, each from a prompt and a seed.

    A seed means the same image on every device and in every batch, up to
    rounding, since the noise is drawn on the CPU, image by image.

    The pipeline's progress bar is switched off. A pipeline is not safe to share
    between threads: its scheduler counts steps, and some draw wrong images in
    silence when two threads do so at once.

    Args:
        pipeline: A diffusers text-to-image pipeline, ready and on its device.
        acceleration: How to make it faster, its models in place; ``None``: as it is.
        notices: Keeps what means other images than those that were asked for.
        call: Arguments for every call of the pipeline; ``steps`` stands for
            ``num_inference_steps``, and ``None`` for the pipeline's own default.

    Raises:
        ConfigurationError: If the pipeline does not take one of the arguments, is no
            text-to-image pipeline, or has a cache that makes an image depend on its
            neighbours; or if it cannot be made faster like this.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        acceleration: Acceleration | None = None,
        notices: Notices | None = None,
        **call: Any,
    ) -> None:
        self.notices = notices or Notices()
        self._defaults = named_parameters(pipeline)
        self._call = checked_call(call, self._defaults, type(pipeline).__name__)
        self._encoders = token_limits(pipeline, self._call, self._defaults)
        if callable(getattr(pipeline, "set_progress_bar_config", None)):
            pipeline.set_progress_bar_config(disable=True)
        check_caches(pipeline)
        if acceleration is not None:
            check_acceleration(acceleration, pipeline.device)
            pipeline = accelerate(pipeline, acceleration)
        self._bucketed = acceleration is not None and acceleration.compile is not None
        self._pipeline = pipeline
        self._noise = Noise.SEEDED
        self._alone = type(pipeline).__name__ in ALONE
        # Tensors stay on the device; where there is no such processor, "pt" may be
        # numbers of another range.
        processor = getattr(pipeline, "image_processor", None)
        self._output = "pt" if hasattr(processor, "pt_to_numpy") else "np"

    @classmethod
    def load(  # noqa: PLR0913 - each is a setting of its own
        cls,
        name: str,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        revision: str | None = None,
        variant: str | None = None,
        offload: str | None = None,
        quantization: Mapping[str, Any] | Any | None = None,
        parts: Parts | None = None,
        acceleration: Acceleration | None = None,
        **call: Any,
    ) -> Self:
        """Open a pipeline by name; no pickles, and no code from the hub.

        Args:
            name: A hub id such as ``"stabilityai/sdxl-turbo"``, a folder, or one file
                of weights.
            device: Where to draw; ``None`` takes the best of this machine.
            dtype: Number format of the weights; ``None`` takes what suits the device.
            revision: The hub's branch, tag or commit.
            variant: Which of several files of weights, such as ``"fp16"``; ``None``
                takes the plain ones, or of a folder the only ones there are.
            offload: ``"model"``, ``"sequential"`` or ``"group"`` keeps weights in
                main memory while they are not used; each saves more and is slower.
            quantization: ``"4bit"``, ``"8bit"`` or ``"fp8"``; or a diffusers
                ``PipelineQuantizationConfig``, or its arguments.
            parts: What else it is put together from; ``None``: its own parts.
            acceleration: As in the constructor.
            call: As in the constructor.

        Raises:
            ConfigurationError: If an argument does not fit the machine or pipeline.
            LoadError: If there is no such pipeline, or it cannot be opened safely.
        """
        chosen = choose_device(device)
        options: dict[str, Any] = {
            "dtype": choose_dtype(dtype, chosen),
            "use_safetensors": True,
        }
        check_offload(offload, chosen)
        if acceleration is not None:
            check_acceleration(acceleration, chosen, offload)
        parts = replace(parts or Parts(), fp8=quantization == FP8)
        bits = quantization_config(quantization, chosen)
        file = find_file(name)
        folder = None if file else local_folder(name)
        if folder is not None:
            check_folder(folder, INDEX)
            check_no_code(folder)
            variant = variant or only_variant(folder)
        elif file is None:
            options |= hub_options(WHAT, name, index=INDEX, revision=revision)
        if variant is not None:
            options["variant"] = variant
        if bits is not None:
            options["quantization_config"] = bits
        notices = Notices()
        with quiet(notices), load_errors(WHAT, name, notices):
            pipeline = parts.open(
                file or str(folder or name), options, tell=notices.add
            )
            place(pipeline, chosen, offload)
        return cls(pipeline, acceleration=acceleration, notices=notices, **call)

    @property
    def pipeline(self) -> Any:
        """What draws."""
        return self._pipeline

    @property
    def defaults(self) -> dict[str, Any]:
        """What the pipeline does where it is told nothing, under our names."""
        ours = {"num_inference_steps": "steps"}
        return {ours.get(name, name): value for name, value in self._defaults.items()}

    def drawing_with(self, pipeline: Any) -> Self:
        """Return the same generator over a copy of its pipeline.

        Args:
            pipeline: A copy, such as the step batcher gives to each task.
        """
        other = copy.copy(self)
        other._pipeline = pipeline  # noqa: SLF001 - it is one of us
        other._noise = Noise.SHARED  # noqa: SLF001 - as above
        return other

    def with_steps(self, steps: int) -> Self:
        """Return the same generator over the same pipeline, with other steps.

        Args:
            steps: At least 1; of no effect where the pipeline counts none.
        """
        other = copy.copy(self)
        if "num_inference_steps" in self._defaults:
            other._call = {**self._call, "num_inference_steps": steps}  # noqa: SLF001 - it is one of us
        return other

    def with_guidance(self, scale: float) -> tuple[str, Self]:
        """Return what the pipeline calls guidance, and the same generator with another."""
        call, other = self._call, copy.copy(self)
        pipeline = type(self._pipeline).__name__
        name, other._call = guided_call(scale, call, self._defaults, pipeline)  # noqa: SLF001 - it is one of us
        return name, other

    def decode_in_tiles(self) -> None:
        """Decode an image piece by piece from now on, where the pipeline can.

        It takes less memory; where two pieces meet, the image differs a little.
        """
        tile = getattr(getattr(self._pipeline, "vae", None), "enable_tiling", None)
        if callable(tile):
            tile()

    @property
    def max_tokens(self) -> int | None:
        """How many tokens of a prompt are read, marks included; ``None``: unknown."""
        limits = [limit for _, limit in self._encoders if limit is not None]
        return max(limits) if len(limits) == len(self._encoders) > 0 else None

    def __call__(
        self, requests: Sequence[tuple[str, int]]
    ) -> list[Image.Image | CandidateError]:
        """Draw one image for each request, in order.

        A single request that fails gives its error; a batch that fails, or has too
        little memory, raises what the pipeline raised, so that the caller can split
        it or make room.

        Args:
            requests: Prompts with their seeds.

        Returns:
            RGB images, whose ``info["truncated_tokens"]`` says how many tokens of
            the prompt were not read; or why there is no image.

        Raises:
            BatchError: If the pipeline gave another number of images.
        """
        drawn: list[Image.Image | CandidateError] = []
        for (prompt, _), pixels in zip(requests, self._pixels(requests), strict=True):
            if isinstance(pixels, CandidateError):
                drawn.append(pixels)
                continue
            # Made into bytes where it was drawn: a quarter of the way to be copied.
            levels = (pixels * 255).round().byte().cpu().numpy()
            image = Image.fromarray(levels)
            image.info["truncated_tokens"] = self.truncated_tokens(prompt)
            drawn.append(image)
        return drawn

    def arrays(
        self, requests: Sequence[tuple[str, int]]
    ) -> list[NDArray[np.float32] | CandidateError]:
        """Draw as a call does, but give the numbers before they become bytes.

        Args:
            requests: Prompts with their seeds.

        Returns:
            Arrays ``(height, width, 3)`` of float32 in [0, 1], or why there is none.

        Raises:
            BatchError: If the pipeline gave another number of images.
        """
        return [
            pixels if isinstance(pixels, CandidateError) else pixels.cpu().numpy()
            for pixels in self._pixels(requests)
        ]

    def _pixels(
        self, requests: Sequence[tuple[str, int]]
    ) -> list[torch.Tensor | CandidateError]:
        """Return ``(height, width, 3)`` of float32 in [0, 1] where it was drawn."""
        if not requests:
            return []
        if (self._alone or self._noise is Noise.PROCESS) and len(requests) > 1:
            return [pixels for one in requests for pixels in self._pixels([one])]
        try:
            output = self._draw(requests)
        except Exception as error:
            # Whoever schedules calls knows what to do where memory is short.
            if len(requests) > 1 or is_out_of_memory(error):
                raise
            message = (
                "expected an image, got an error of the generator "
                f"({type(error).__name__}: {one_line(error, 300)}); see the generator's "
                "settings"
            )
            # Without the traceback, whose frames would keep the batch in memory.
            return [CandidateError(Status.GENERATION_FAILED, message)]
        if output is None:
            return self._pixels(requests)
        images = list(output.images if hasattr(output, "images") else output.image)
        if self._bucketed and len(images) == bucket_size(len(requests)):
            images = images[: len(requests)]
        if len(images) != len(requests):
            message = (
                f"expected {len(requests)} images of {type(self._pipeline).__name__}, "
                f"got {len(images)}; use a pipeline that draws one image a prompt"
            )
            raise BatchError(message)
        withheld = withheld_flags(output, len(images))
        drawn = [
            checked_pixels(image, filtered=flag)
            for image, flag in zip(images, withheld, strict=True)
        ]
        self._compare_sizes(drawn)
        return drawn

    def _compare_sizes(self, drawn: Sequence[torch.Tensor | CandidateError]) -> None:
        """Note where a pipeline draws another size than it was asked for."""
        for pixels in drawn:
            if isinstance(pixels, CandidateError):
                continue
            height, width = pixels.shape[:2]
            asked = (self._call.get("width", width), self._call.get("height", height))
            if asked != (width, height):
                message = f"asked for {asked[0]}x{asked[1]}, it draws {width}x{height}"
                self.notices.add(message)

    def truncated_tokens(self, prompt: str) -> int:
        """Count the tokens that no text encoder of the pipeline reads.

        Of several encoders the most patient counts: FLUX reads 77 tokens with one
        and 512 with the other. The count is exact for CLIP and T5, and a few too
        low where the pipeline wraps the prompt in a chat template.

        Args:
            prompt: The text to draw.
        """
        with quiet():
            cut = [
                0 if limit is None else max(0, token_count(tokenizer, prompt) - limit)
                for tokenizer, limit in self._encoders
            ]
        return min(cut, default=0)

    def _draw(self, requests: Sequence[tuple[str, int]]) -> Any:
        """Return what the pipeline returned; ``None`` if it must be drawn again.

        A pipeline that draws from the process's own source of noise is drawn with one
        image at a time from then on, with that source seeded, too.
        """
        if self._noise is Noise.PROCESS:
            with seeded_noise(requests[0][1]):
                return self._called(requests)
        device = getattr(self._pipeline, "device", None)
        before = noise_states(device)
        output = self._called(requests)
        if self._noise is Noise.SEEDED and noise_states(device) != before:
            self._noise = Noise.PROCESS
            return None
        return output

    def _called(self, requests: Sequence[tuple[str, int]]) -> Any:
        import torch

        if self._bucketed:
            copies = [requests[-1]] * (bucket_size(len(requests)) - len(requests))
            requests = [*requests, *copies]
        call = {
            name: [value] * len(requests)
            if isinstance(value, str) and PER_PROMPT.fullmatch(name)
            else value
            for name, value in self._call.items()
        }
        seeded = [torch.Generator("cpu").manual_seed(seed) for _, seed in requests]
        with quiet(self.notices), scheduler_noise(self._pipeline, seeded):
            return self._pipeline(
                # A fresh list: some pipelines (Z-Image) write into it.
                prompt=[prompt for prompt, _ in requests],
                generator=seeded,
                output_type=self._output,
                **call,
            )
