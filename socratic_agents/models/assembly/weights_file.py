"""One file of weights: whether it is safe and whole, and what it holds.

What people download is named for its style and not for what it is. The names of its
tensors tell: they stand in the file's head, which is read without the weights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, cast

from socratic_agents.core.errors import ConfigurationError, LoadError
from socratic_agents.core.extras import needs_extra
from socratic_agents.core.text import error_line
from socratic_agents.models.loading import PICKLES, read_header

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "ENDINGS",
    "GGUF",
    "HUB_FILE",
    "Holds",
    "WeightsFile",
    "expect",
    "find_file",
    "read_weights_file",
)

GGUF = ".gguf"
ENDINGS = (".safetensors", GGUF)


class Holds(StrEnum):
    """What a file of weights is, in words for messages."""

    CHECKPOINT = "a whole checkpoint"
    DENOISER = "a denoiser alone"
    LORA = "LoRA weights"
    VAE = "a VAE"
    TEXT_ENCODER = "a text encoder"
    EMBEDDING = "a textual inversion"
    CONTROL = "a ControlNet"
    FOREIGN = "quantized in a format that diffusers does not read from one file"


INSTEAD = {
    Holds.CHECKPOINT: "give it as generator",
    Holds.DENOISER: "give it as generator",
    Holds.LORA: "give it as lora, beside the generator that it was trained for",
    Holds.VAE: "give it as vae, beside a generator",
    Holds.TEXT_ENCODER: "give a folder with the whole pipeline",
    Holds.EMBEDDING: "load it into a pipeline of your own, and give that",
    Holds.FOREIGN: "give GGUF, or the weights as they were before",
    Holds.CONTROL: "it needs an image to follow, which no prompt gives",
}
"""Where a file belongs that was given elsewhere."""

LORA = re.compile(r"lora_(A|B|up|down|unet|te)|\.lora\.|\.(hada|lokr)_w\d|\.oft_blocks")
FOREIGN = re.compile(
    r"scaled_fp8|\.(scale_weight|weight_scale(_\d)?|scale_input|input_scale|absmax"
    r"|quant_map|quant_state\..*|qweight|wscales|comfy_quant)$"
)
"""Beside weights that mean nothing without them."""
CONTROL = ("control_model.", "controlnet_", "control_")
VAE = ("first_stage_model.", "vae.")
VAE_ALONE = (*VAE, "encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "bn.")
TEXT = re.compile(
    r"(text_model|encoder\.block|embeddings\.\w+_embedding|(model\.)?embed_tokens"
    r"|token_embd)\."
)


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """What the head of a file of weights says."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    """Name of each tensor to its shape."""

    @property
    def quantized(self) -> bool:
        """Whether its weights are in a format of their own."""
        return self.path.suffix == GGUF

    @property
    def holds(self) -> Holds:
        """What it is."""
        names = self.shapes.keys()
        signs = {
            Holds.LORA: any(map(LORA.search, names)),
            Holds.FOREIGN: any(map(FOREIGN.search, names)),
            # emb_params, or clip_l and clip_g
            Holds.EMBEDDING: not any("." in name for name in names),
            Holds.CONTROL: any(name.startswith(CONTROL) for name in names),
            Holds.TEXT_ENCODER: any(map(TEXT.match, names))
            and not any("diffusion" in name for name in names),
            Holds.VAE: all(name.startswith(VAE_ALONE) for name in names),
            Holds.CHECKPOINT: any(name.startswith(VAE) for name in names),
            Holds.DENOISER: True,
        }
        return next(kind for kind, found in signs.items() if found)


def find_file(name: str) -> Path | None:
    """Return the file that a name means; ``None`` if it is no file's name.

    Args:
        name: A path, or a file of a hub model, such as ``owner/model/it.safetensors``,
            which is downloaded once.

    Raises:
        LoadError: If it can only be a file's, and there is none.
    """
    path = Path(name).expanduser()
    try:
        if path.is_file():
            return path
        if path.suffix not in ENDINGS or path.is_dir():
            return None
    except OSError:  # too long for a path
        return None
    if HUB_FILE.fullmatch(name):
        return _downloaded(name)
    message = (
        f"expected a file of weights, got {name!r}, and there is none; check the path"
    )
    raise LoadError(message)


HUB_FILE = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)/([\w-][\w. -]*(/[\w-][\w. -]*)*)")


def _downloaded(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    match = cast("re.Match[str]", HUB_FILE.fullmatch(name))
    try:
        return Path(hf_hub_download(match[1], match[2]))
    except Exception as error:  # the library raises a dozen unrelated classes
        message = (
            f"expected the file {match[2]!r} here or of the hub model {match[1]!r}, "
            f"which cannot be had ({error_line(error)}); check the path, and the network"
        )
        raise LoadError(message) from error


def read_weights_file(path: Path) -> WeightsFile:
    """Read the head of a file.

    Raises:
        LoadError: If it is a pickle, is truncated, or is no file of weights.
    """
    if path.suffix in PICKLES:
        message = (
            f"expected safetensors weights, got the pickle {str(path)!r}; convert it, "
            "since a pickle can run code"
        )
        raise LoadError(message)
    if path.suffix == ".safetensors":
        shapes = {
            name: tuple(entry["shape"]) for name, entry in read_header(path).items()
        }
    elif path.suffix == GGUF:
        shapes = _gguf_shapes(path)
    else:
        message = (
            f"expected a file of weights ({' or '.join(ENDINGS)}), got {str(path)!r}; "
            "give another file, or a folder"
        )
        raise LoadError(message)
    return WeightsFile(path=path, shapes=shapes)


def expect(file: WeightsFile, setting: str, *wanted: Holds) -> None:
    """Check that a file holds what a setting takes.

    Raises:
        ConfigurationError: If not; it says where the file belongs.
    """
    if file.holds not in wanted:
        message = (
            f"expected {' or '.join(wanted)} for {setting}, got {str(file.path)!r}, "
            f"which is {file.holds}; {INSTEAD[file.holds]}"
        )
        raise ConfigurationError(message)


def _gguf_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with needs_extra("to read GGUF weights"):
        from gguf import GGUFReader
    try:
        reader = GGUFReader(path)
        # Their order is that of the memory, the last one first.
        return {
            one.name: tuple(int(size) for size in reversed(one.shape))
            for one in reader.tensors
        }
    except Exception as error:  # the library raises a dozen unrelated classes
        message = (
            f"expected whole GGUF weights, got {str(path)!r}, which is truncated or "
            "damaged; copy or download it again"
        )
        raise LoadError(message) from error
