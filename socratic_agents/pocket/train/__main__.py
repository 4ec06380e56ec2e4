"""Train the pocket models: ``python -m socratic_agents.pocket.train``.

Stages already done are not done again, and one that was interrupted resumes from its
last checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from transformers import CLIPTextModel

from socratic_agents.pocket import weights_folder
from socratic_agents.pocket.train.autoencoder import train_autoencoder
from socratic_agents.pocket.train.captioner import train_captioner
from socratic_agents.pocket.train.export import (
    export_captioner,
    export_generator,
    export_scorer,
)
from socratic_agents.pocket.train.generated_images import generated_examples
from socratic_agents.pocket.train.generator import train_denoiser, train_text_encoder
from socratic_agents.pocket.train.scorer import train_scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("main",)

ModelT = TypeVar("ModelT", bound=Any)

STEPS = {
    "autoencoder": 3200,
    "text": 2500,
    "denoiser": 7500,
    "scorer": 12_000,
    "captioner": 18_000,
}
"""Stage to its steps; about two hours in all on two cores."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is asked for, and save the weights."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    folder, out = options.folder, options.out
    steps = {stage: max(1, round(n * options.effort)) for stage, n in STEPS.items()}
    if options.stage in {"generator", "all"}:
        autoencoder = _kept(
            folder / "autoencoder" / "model",
            AutoencoderKL.from_pretrained,
            lambda: train_autoencoder(
                folder / "autoencoder", steps=steps["autoencoder"]
            ),
        )
        text_encoder = _kept(
            folder / "text" / "model",
            CLIPTextModel.from_pretrained,
            lambda: train_text_encoder(folder / "text", steps=steps["text"]),
        )
        denoiser = train_denoiser(
            folder / "denoiser",
            autoencoder.eval(),
            text_encoder.eval(),
            steps=steps["denoiser"],
            scenes=options.scenes,
        )
        export_generator(out / "generator", autoencoder, text_encoder, denoiser)
    if options.stage in {"scorer", "all"}:
        scorer = train_scorer(folder / "scorer", steps=steps["scorer"])
        export_scorer(out / "scorer", scorer)
    if options.stage in {"captioner", "all"}:
        generator = StableDiffusionPipeline.from_pretrained(
            out / "generator", dtype=torch.float32
        )
        generator.set_progress_bar_config(disable=True)
        examples = generated_examples(
            folder / "captioner", generator, options.scenes // 12
        )
        captioner = train_captioner(
            folder / "captioner",
            examples,
            steps=steps["captioner"],
            start=options.start,
        )
        export_captioner(out / "captioner", captioner)


def _kept(
    folder: Path, load: Callable[[Path], ModelT], train: Callable[[], ModelT]
) -> ModelT:
    """Return a model that was trained before, or train and keep it."""
    if folder.exists():
        return load(folder)
    model = train()
    model.save_pretrained(folder)
    return model


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m socratic_agents.pocket.train")
    parser.add_argument(
        "--stage",
        choices=("all", "generator", "scorer", "captioner"),
        default="all",
        help="which model to train",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("training"),
        help="checkpoints, logs and sample grids",
    )
    parser.add_argument(
        "--out", type=Path, default=weights_folder("generator").parent, help="weights"
    )
    parser.add_argument(
        "--effort", type=float, default=1.0, help="multiple of the usual steps"
    )
    parser.add_argument(
        "--scenes", type=int, default=60_000, help="scenes the denoiser learns from"
    )
    parser.add_argument(
        "--start", type=Path, help="a captioner's weights to continue from"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
