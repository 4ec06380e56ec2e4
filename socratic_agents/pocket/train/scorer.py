"""The scorer: an OpenCLIP model that tells near misses from hits."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from open_clip.model import CLIP

from socratic_agents.pocket.prompt_parser import parse_prompt
from socratic_agents.pocket.prompt_writer import FOREIGN_SHARE, caption, foreign
from socratic_agents.pocket.scene import SIDE, Scene
from socratic_agents.pocket.train.data import (
    SLOTS,
    Description,
    describe,
    draw_scenes,
    mutate,
    pixels,
)
from socratic_agents.pocket.train.tokenizers import EVERY, GLUE, build_tokenizer
from socratic_agents.pocket.train.trainer import fit

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast

__all__ = ("MODEL_CONFIG", "build_scorer", "scorer_tokenizer", "train_scorer")

LENGTH = 24
FAMILIES, MEMBERS = 24, 3
"""A batch: scenes, each with a near miss and a near miss of that."""

MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": SIDE,
        "layers": [1, 1, 1, 1],
        "width": 8,
        "head_width": 32,
    },
    "text_cfg": {
        "context_length": LENGTH,
        "vocab_size": 4 + len(EVERY) + len(GLUE),
        "hf_tokenizer_name": "pocket",
        "width": 80,
        "heads": 4,
        "layers": 2,
        "mlp_ratio": 2.0,
        "pool_type": "eos",
        "eos_id": 1,
        "pad_id": 3,
    },
}


def scorer_tokenizer() -> PreTrainedTokenizerFast:
    """Return the scorer's tokenizer, which knows the foreign words as well."""
    return build_tokenizer((*EVERY, *GLUE), LENGTH)


def build_scorer() -> CLIP:
    """Return the untrained scorer."""
    return CLIP(
        MODEL_CONFIG["embed_dim"],
        MODEL_CONFIG["vision_cfg"],
        dict(MODEL_CONFIG["text_cfg"]),
    )


def train_scorer(folder: Path, *, steps: int) -> CLIP:
    """Train the scorer on families of scenes that differ in one respect.

    Contrastive, within the whole batch; a description that is true of a relative as well
    is no negative for it. Within a family the order follows the agreement.
    """
    model, tokenizer = build_scorer(), scorer_tokenizer()
    width = MODEL_CONFIG["embed_dim"]
    heads = torch.nn.ModuleDict(
        {slot: torch.nn.Linear(width, classes) for slot, classes in SLOTS.items()}
    )
    both = torch.nn.ModuleDict({"model": model, "heads": heads})
    rng = random.Random(31)
    torch.manual_seed(31)
    size = FAMILIES * MEMBERS
    family = torch.arange(size) // MEMBERS
    related = family[:, None] == family[None, :]

    def embed(
        scenes: list[Scene], descriptions: list[Description], rng: random.Random
    ) -> tuple[torch.Tensor, torch.Tensor]:
        texts = [_in_other_words(description.text, rng) for description in descriptions]
        tokens = tokenizer(texts, padding="max_length", return_tensors="pt")
        image = model.encode_image(pixels(scenes), normalize=False).float()
        text = model.encode_text(tokens.input_ids, normalize=True).float()
        return image, text

    def loss(_: int) -> torch.Tensor:
        scenes = _families(rng, FAMILIES)
        descriptions = [describe(scene, rng, unknown=0.0) for scene in scenes]
        raw, text = embed(scenes, descriptions, rng)
        image = torch.nn.functional.normalize(raw, dim=-1)
        cosine = text @ image.T
        agreement = _agreements(descriptions, scenes)
        own = torch.eye(size, dtype=torch.bool)
        also_true = related & (agreement > 0.999) & ~own
        logits = model.logit_scale.exp().clamp(max=100) * cosine
        logits = logits.masked_fill(also_true, -1e4)
        target = torch.arange(size)
        contrast = torch.nn.functional.cross_entropy(logits, target)
        contrast = contrast + torch.nn.functional.cross_entropy(logits.T, target)
        order = _order(cosine, agreement)
        slots = [_seen(scene) for scene in scenes]
        seen = [
            torch.nn.functional.cross_entropy(
                head(raw).float(), torch.tensor([said[slot] for said in slots])
            )
            for slot, head in heads.items()
        ]
        return contrast / 2 + order + 0.5 * torch.stack(seen).mean()

    @torch.no_grad()
    def evaluate(_: int) -> dict[str, float]:
        model.eval()
        judge = random.Random(32)
        scenes = _families(judge, 300)
        descriptions = [describe(scene, judge, unknown=0.0) for scene in scenes]
        image, text = embed(scenes, descriptions, judge)
        image = torch.nn.functional.normalize(image, dim=-1)
        right, wrong = [], []
        for start in range(0, len(scenes), MEMBERS):
            block = slice(start, start + MEMBERS)
            cosine = text[block] @ image[block].T
            agreement = _agreements(descriptions[block], scenes[block])
            clearly = agreement[:, :, None] > agreement[:, None, :] + 1e-3
            higher = cosine[:, :, None] > cosine[:, None, :]
            right.append((clearly & higher).sum().item())
            wrong.append((clearly & ~higher).sum().item())
        model.train()
        pairs = sum(right) + sum(wrong)
        return {"order": sum(right) / pairs}

    fit(
        both,
        loss,
        folder,
        steps=steps,
        learning_rate=2e-3,
        weight_decay=0.01,
        float32_share=1.0,
        evaluate=evaluate,
    )
    return model.eval()


def _seen(scene: Scene) -> dict[str, int]:
    """Return everything that a scene shows, as class numbers."""
    return Description(parse_prompt(caption(scene)), "").slots()


def _families(rng: random.Random, n: int) -> list[Scene]:
    scenes = []
    for scene in draw_scenes(rng, n):
        relative = mutate(scene, rng)
        scenes += [scene, relative, mutate(relative, rng)]
    return scenes


def _agreements(descriptions: list[Description], scenes: list[Scene]) -> torch.Tensor:
    """Return, within families, how far scenes (columns) show what is said (rows)."""
    agreement = np.zeros((len(descriptions), len(scenes)), np.float32)
    for row, description in enumerate(descriptions):
        start = row - row % MEMBERS
        for column in range(start, start + MEMBERS):
            agreement[row, column] = scenes[column].spec_agreement(description.spec)
    return torch.from_numpy(agreement)


def _order(cosine: torch.Tensor, agreement: torch.Tensor) -> torch.Tensor:
    """Return the loss of pairs within families that stand in the wrong order."""
    blocks = torch.arange(len(cosine)).view(-1, MEMBERS)
    rows = blocks[:, :, None].expand(-1, MEMBERS, MEMBERS)
    columns = blocks[:, None, :].expand(-1, MEMBERS, MEMBERS)
    near, true = cosine[rows, columns], agreement[rows, columns]
    ahead = true[:, :, :, None] > true[:, :, None, :] + 1e-3
    margin = near[:, :, :, None] - near[:, :, None, :]
    return torch.nn.functional.softplus(-15 * margin)[ahead].mean()


def _in_other_words(text: str, rng: random.Random) -> str:
    if rng.random() < 0.4:
        return text
    return foreign(text, rng, FOREIGN_SHARE)
