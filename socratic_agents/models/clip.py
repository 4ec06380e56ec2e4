"""Text and image compared with CLIP: CLIPScore as published, and likeness of images."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from socratic_agents.core.errors import ConfigurationError, LoadError
from socratic_agents.core.extras import needs_extra
from socratic_agents.models.devices import choose_device, choose_dtype
from socratic_agents.models.hub import cached_file, hub_problem
from socratic_agents.models.loading import check_folder, load_errors, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ("Clip", "cached_weights", "clip_scores", "cosines", "hub_place")

WEIGHTS = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    *("model.safetensors", "open_clip_pytorch_model.bin"),
)
"""What the hub calls an open_clip model's weights."""
INDEX = "open_clip_config.json"
"""The file that every saved open_clip model has."""
WHAT = "a CLIP model"
MOST_THREADS = 8
"""At most so many resize images at a time."""

PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
"""open_clip's names for number formats."""


def cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows.

    Args:
        a: ``(n, d)``, rows of any length above 0.
        b: As ``a``.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / lengths)


def clip_scores(
    texts: NDArray[Any], images: NDArray[Any], *, w: float = 2.5
) -> NDArray[np.float64]:
    """Return ``w * max(cos(text, image), 0)`` for each pair of embeddings.

    Args:
        texts: ``(n, d)``.
        images: ``(n, d)``.
        w: Stretches the scores; 2.5 brings them to about [0, 1].

    Source: Hessel et al., CLIPScore (EMNLP 2021), section 3.
    """
    return w * np.maximum(cosines(texts, images), 0.0)


class Clip:
    """Scores images against texts, and images against images.

    Args:
        model: An open_clip model, on its device.
        preprocess: Its transform of an image to a tensor.
        tokenizer: Its tokenizer; it cuts long texts in silence.
        name: What the model is called in records.
        pretrained: Which weights it has, for records.
        prefix: What stands before each text; the published one by default.
        w: As in ``clip_scores``.
        precision: open_clip's name of the number format.
    """

    def __init__(
        self,
        model: Any,
        preprocess: Any,
        tokenizer: Any,
        *,
        name: str,
        pretrained: str,
        prefix: str = "A photo depicts ",
        w: float = 2.5,
        precision: str = "fp32",
    ) -> None:
        self._model = model.eval()
        self._preprocess = preprocess
        self._tokenizer = tokenizer
        self._name = name
        self._pretrained = pretrained
        self._prefix = prefix
        self._w = w
        self._precision = precision

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        **options: Any,
    ) -> Self:
        """Open a model by name; no pickle of a folder is read.

        Args:
            name: ``"ViT-B-32-quickgelu/openai"`` (an architecture and its weights),
                ``"hf-hub:owner/model"``, or a folder.
            device: Where to run; ``None`` takes the best of this machine.
            dtype: Number format; ``None`` takes float32 everywhere, so that scores
                can be compared between machines.
            options: ``prefix`` and ``w`` as in the constructor.

        Raises:
            ConfigurationError: If an argument does not fit the machine.
            LoadError: If there is no such model, it cannot be opened safely, or its
                activation is not the one that its weights were trained with.
        """
        chosen = choose_device(device)
        format_ = choose_dtype("float32" if dtype is None else dtype, chosen)
        precision = PRECISIONS.get(str(format_).removeprefix("torch."))
        if precision is None:
            message = (
                f"expected dtype {', '.join(PRECISIONS)} for CLIP, got {format_}; "
                "choose one of them, or none"
            )
            raise ConfigurationError(message)
        folder = Path(name).expanduser()
        with quiet():
            with needs_extra("to open a CLIP model"):
                import open_clip

            arguments: dict[str, Any] = {}
            if name and folder.is_dir():
                check_folder(folder, INDEX)
                identifier = f"local-dir:{folder.resolve()}"
                called, pretrained = folder.name, _fingerprint(folder)
            elif name.startswith("hf-hub:"):
                identifier = name
                called, _, revision = name.partition("@")
                pretrained = revision or "main"
            else:
                called, _, pretrained = name.partition("/")
                identifier = called
                arguments = {
                    "pretrained": pretrained,
                    "force_quick_gelu": _needs_quick_gelu(called, pretrained),
                }
            if not identifier.startswith("local-dir:"):
                _check_hub(name)
            with load_errors(WHAT, name):
                model, preprocess = open_clip.create_model_from_pretrained(
                    identifier, precision=precision, device=chosen, **arguments
                )
                tokenizer = open_clip.get_tokenizer(identifier)
        return cls(
            model,
            preprocess,
            tokenizer,
            name=called,
            pretrained=pretrained,
            precision=precision,
            **options,
        )

    @property
    def record(self) -> dict[str, Any]:
        """What a score depends on: compare no scores whose records differ."""
        return {
            "model": self._name,
            "pretrained": self._pretrained,
            "prefix": self._prefix,
            "w": self._w,
        }

    def score(self, pairs: Sequence[tuple[str, Image]]) -> list[float]:
        """Return the CLIPScore of each pair: at least 0, higher is better.

        Args:
            pairs: Texts, without prefix, with the images that should show them.
        """
        if not pairs:
            return []
        texts = self._texts([text for text, _ in pairs])
        images = self._images([image for _, image in pairs])
        return [float(score) for score in clip_scores(texts, images, w=self._w)]

    def _images(self, images: Sequence[Image]) -> NDArray[Any]:
        import open_clip
        import torch

        pixels = torch.stack(self._seen(images))
        kind = open_clip.get_input_dtype(self._precision)
        with torch.inference_mode():
            encoded = self._model.encode_image(pixels.to(self._device, kind))
        return np.asarray(encoded.float().cpu())

    def _seen(self, images: Sequence[Image]) -> list[torch.Tensor]:
        """Return images as the model sees them, resized at the same time.

        A large image takes Pillow several milliseconds, in which it needs no lock.
        """
        rgb: list[Any] = [image.convert("RGB") for image in images]
        steps = list(getattr(self._preprocess, "transforms", ()))
        names = [type(step).__name__ for step in steps]
        # From there on it is torch, which has threads of its own.
        first = next((n for n, name in enumerate(names) if "ToTensor" in name), 0)
        threads = min(len(rgb), MOST_THREADS, (os.cpu_count() or 1) // 2)
        if first == 0 or threads <= 1:
            return [self._preprocess(image) for image in rgb]
        with ThreadPoolExecutor(threads) as pool:
            small = list(pool.map(partial(_through, steps[:first]), rgb))
        return [_through(steps[first:], image) for image in small]

    def _texts(self, texts: Sequence[str]) -> NDArray[Any]:
        import torch

        tokens = self._tokenizer([self._prefix + text for text in texts])
        with torch.inference_mode():
            encoded = self._model.encode_text(tokens.to(self._device))
        return np.asarray(encoded.float().cpu())

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self._model.parameters()).device
        return device


def _through(steps: Sequence[Callable[[Any], Any]], image: Any) -> Any:
    """Return what becomes of an image, step by step."""
    for step in steps:
        image = step(image)
    return image


def hub_place(name: str) -> tuple[str, str | None] | None:
    """Return where the hub has a model, with its revision; ``None``: it is not there.

    Args:
        name: As for ``Clip.load``.
    """
    if name.startswith("hf-hub:"):
        repository, _, revision = name.removeprefix("hf-hub:").partition("@")
        return repository, revision or None
    import open_clip

    model, _, tag = name.partition("/")
    known = open_clip.pretrained.get_pretrained_cfg(model, tag)
    repository = "/".join(str(known.get("hf_hub") or "").split("/")[:2])
    return (repository, None) if repository else None


def cached_weights(place: tuple[str, str | None]) -> Path | None:
    """Return the folder in which the hub's cache has a model's weights, or ``None``.

    Args:
        place: As from ``hub_place``.
    """
    found = (cached_file(place[0], file, revision=place[1]) for file in WEIGHTS)
    return next((file.parent for file in found if file is not None), None)


def _check_hub(name: str) -> None:
    """Check that weights are here or can be had, before the library tries for long.

    Raises:
        LoadError: If they are not, and why.
    """
    place = hub_place(name)
    if place is None or cached_weights(place):
        return
    problem = hub_problem(place[0], index=INDEX, revision=place[1])
    if problem is not None:
        raise problem.error(WHAT, name)


def _needs_quick_gelu(architecture: str, weights: str) -> bool:
    """Return whether an architecture must be told to use its weights' activation.

    OpenAI's weights were trained with QuickGELU. With plain GELU they give other
    scores; open_clip only warns of it.

    Raises:
        LoadError: If there is no such pair, or the architecture has QuickGELU
            and the weights were trained without.
    """
    from open_clip import get_model_config
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    config = get_model_config(architecture)
    if config is None:
        message = (
            "expected a CLIP model such as 'ViT-B-32-quickgelu/openai', "
            f"'hf-hub:owner/model' or a folder, got {architecture!r}, which open_clip "
            "does not know; check the name or path"
        )
        raise LoadError(message)
    tag = get_pretrained_cfg(architecture, weights)
    if not tag:
        known = list_pretrained_tags_by_model(architecture)
        message = (
            f"expected weights for {architecture} ({', '.join(known) or 'it has none'})"
            f", got {weights!r}; write '{architecture}/' and one of them"
        )
        raise LoadError(message)
    trained, built = bool(tag.get("quick_gelu")), bool(config.get("quick_gelu"))
    if built and not trained:
        message = (
            f"expected an architecture without QuickGELU for the weights {weights!r}, "
            f"got {architecture}; use {architecture.removesuffix('-quickgelu')}/{weights}"
        )
        raise LoadError(message)
    return trained and not built


def _fingerprint(folder: Path) -> str:
    """Return what tells a folder's model from all others: its config and weights."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        message = (
            f"expected safetensors weights in {str(folder)!r}, got none; save the "
            "model's weights there"
        )
        raise LoadError(message)
    digest = hashlib.sha256()
    for file in (folder / INDEX, *weights):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"
