"""Random vision models: a captioner and a scorer at full size, with weights out of thin air.

Source:
    The sizes are those of BLIP large and of CLIP ViT-L/14.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from socratic_agents.models.clip import Clip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

__all__ = ("VOCABULARY", "Placement", "RandomCaptioner", "random_scorer")

WORDS = 20
"""Tokens of every caption: whatever the weights, it is neither shorter nor longer."""
VOCABULARY = 49408


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where models are built, and how large."""

    device: torch.device
    dtype: torch.dtype
    tiny: bool = False
    """Whether all of them are small, with the same parts."""

    def place(self, model: Any) -> Any:
        """Return a model on its device, in its number format."""
        return model.to(self.device, self.dtype).eval()


class RandomCaptioner:
    """Writes captions of random words, each as long as the other.

    Args:
        placement: Where it is built.
    """

    def __init__(self, placement: Placement) -> None:
        from transformers import BlipConfig, BlipForConditionalGeneration

        self._where = placement
        self._pixels = 32 if placement.tiny else 384
        vision = {"hidden_size": 1024, "intermediate_size": 4096}
        vision |= {"num_hidden_layers": 24, "num_attention_heads": 16}
        text = {"encoder_hidden_size": 1024}
        if placement.tiny:
            small = {"hidden_size": 16, "intermediate_size": 16}
            small |= {"num_hidden_layers": 1, "num_attention_heads": 2}
            vision, text = small, small | {"encoder_hidden_size": 16}
        vision |= {"image_size": self._pixels, "patch_size": 16}
        config = BlipConfig(text_config=text, vision_config=vision)
        self._model = placement.place(BlipForConditionalGeneration(config))

    def caption(self, images: Sequence[Image]) -> list[str]:
        """Say something about each image, in order."""
        seen = [self._seen(image) for image in images]
        with torch.inference_mode():
            written = self._model.generate(
                torch.cat(seen).to(self._where.dtype),
                max_new_tokens=WORDS,
                min_new_tokens=WORDS,
            )
        return [" ".join(map(str, tokens.tolist())) for tokens in written]

    def _seen(self, image: Image) -> torch.Tensor:
        """Return an image as the model sees it, resized on its device."""
        levels = torch.from_numpy(np.array(image)).to(self._where.device)
        pixels = levels.permute(2, 0, 1)[None].float() / 127.5 - 1
        return torch.nn.functional.interpolate(
            pixels,
            (self._pixels, self._pixels),
            mode="bicubic",
            align_corners=False,
            antialias=True,
        )


def random_scorer(placement: Placement) -> Clip:
    """Build a scorer.

    Args:
        placement: Where it is built.
    """
    import open_clip

    config = open_clip.get_model_config("ViT-L-14")
    if placement.tiny:
        sight = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8}
        text = {"context_length": 77, "vocab_size": VOCABULARY, "width": 8}
        config = {
            "embed_dim": 16,
            "vision_cfg": sight | {"patch_size": 16},
            "text_cfg": text | {"heads": 2, "layers": 1},
        }
    model = open_clip.CLIP(**config).to(placement.device).eval()
    preprocess = open_clip.image_transform(
        config["vision_cfg"]["image_size"],
        is_train=False,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    return Clip(
        model, preprocess, open_clip.SimpleTokenizer(), name="random", pretrained="none"
    )
