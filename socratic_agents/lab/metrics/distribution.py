"""Metrics of whole sets of images: FID and the inception score, for thousands."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from PIL.Image import Image

__all__ = ("SET_METRICS", "SetScore", "check_set", "evaluate_set")

SET_METRICS = {
    "fid": "frechet_inception_distance",
    "inception_score": "inception_score_mean",
}
"""Each with the name that torch-fidelity gives its value."""

FEWEST = 2_000
"""Images of a set. The covariance of 2,048 features is singular with fewer."""
ENOUGH = 10_000
"""Below it both are biased, FID upward: a smaller set looks worse than it is.

Source: M. Chong, D. Forsyth, "Effectively Unbiased FID and Inception Score and Where to
Find Them" (CVPR 2020), section 3.
"""
SIDE = 299
"""Width and height that the network reads, in pixels."""


@dataclass(frozen=True, kw_only=True)
class SetScore:
    """What a metric says of a whole set."""

    metric: str
    record: Mapping[str, Any]
    value: float
    n: int
    """Images of the set."""
    warning: str | None
    """Why it is not to be trusted, if so."""


def check_set(name: str, n: int) -> str | None:
    """Check that a set is large enough, and return what to warn of.

    Args:
        name: ``fid`` or ``inception_score``.
        n: Images of the smaller set.

    Raises:
        ConfigurationError: If there is no such metric, or the set is too small.
    """
    if name not in SET_METRICS:
        message = f"expected a metric of sets ({', '.join(SET_METRICS)}), got {name!r}"
        raise ConfigurationError(message)
    if n < FEWEST:
        message = (
            f"expected at least {FEWEST:,} images for {name}, got {n:,}: with fewer it "
            "says more about their number than about the images; use clipscore, dsg or "
            "image_similarity"
        )
        raise ConfigurationError(message)
    if n < ENOUGH:
        return (
            f"{name} of {n:,} images is biased; compare it with sets of the same size "
            f"alone, or use {ENOUGH:,}"
        )
    return None


def evaluate_set(
    name: str,
    images: Sequence[Callable[[], Image]],
    references: Sequence[Callable[[], Image]] = (),
    *,
    cuda: bool = False,
    calculate: Callable[..., Mapping[str, Any]] | None = None,
) -> SetScore:
    """Return what a metric says of a set; blocks, for minutes.

    All images are brought to 299 x 299 pixels in the same way, since the way alone
    moves FID.

    Args:
        name: ``fid``, of which less is better, or ``inception_score``.
        images: Functions that read one each, so that they need not be in memory.
        references: Real ones, which FID compares with.
        cuda: Whether to run on a GPU.
        calculate: ``None``: ``torch_fidelity.calculate_metrics``.

    Raises:
        ConfigurationError: If a set is too small, or torch-fidelity is not installed.

    Source: M. Heusel et al., FID (NeurIPS 2017); T. Salimans et al., inception score
    (NeurIPS 2016); G. Parmar et al., on resizing (CVPR 2022).
    """
    fid = name == "fid"
    warning = check_set(name, min(len(images), len(references)) if fid else len(images))
    if calculate is None:
        try:
            module: Any = import_module("torch_fidelity")
        except ImportError as problem:
            message = (
                f"expected torch-fidelity for the metric {name!r}, got none; pip install "
                "torch-fidelity, or leave the metric out"
            )
            raise ConfigurationError(message) from problem
        calculate = module.calculate_metrics
        library = f"torch-fidelity {module.__version__}"
    else:
        library = getattr(calculate, "__name__", type(calculate).__name__)
    asked: dict[str, Any] = {"input2": _pixels(references)} if fid else {}
    found = calculate(
        input1=_pixels(images),
        **asked,
        fid=fid,
        isc=not fid,
        cuda=cuda,
        verbose=False,
        save_cpu_ram=True,
    )
    record: dict[str, Any] = {"library": library, "resize": f"bicubic {SIDE}"}
    if fid:
        record["references"] = len(references)
    return SetScore(
        metric=name,
        record=record,
        value=float(found[SET_METRICS[name]]),
        n=len(images),
        warning=warning,
    )


def _pixels(images: Sequence[Callable[[], Image]]) -> Any:
    """Return a data set as torch reads it: bytes of ``(3, 299, 299)``."""
    import numpy as np
    import torch
    from PIL.Image import Resampling

    class Pixels(torch.utils.data.Dataset):  # type: ignore[misc]  # torch has no types here
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> Any:
            image = images[index]().convert("RGB")
            pixels = np.array(image.resize((SIDE, SIDE), Resampling.BICUBIC))
            return torch.from_numpy(pixels).permute(2, 0, 1)

    return Pixels()
