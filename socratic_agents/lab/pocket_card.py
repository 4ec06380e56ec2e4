"""The figures of the pocket models' card: ``python -m socratic_agents.lab.pocket_card``."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from typing import TYPE_CHECKING, Any

from socratic_agents.core.outcome import Refinement
from socratic_agents.pocket import SAMPLING, weights_folder
from socratic_agents.pocket.oracle import read_scene
from socratic_agents.pocket.prompt_parser import parse_prompt
from socratic_agents.pocket.prompt_writer import sample_prompts
from socratic_agents.pocket.questions import true_answer
from socratic_agents.pocket.scene import render, sample_scene
from socratic_agents.pocket.train.questions import CHECKS, ask_about

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from PIL.Image import Image

    from socratic_agents.core.errors import CandidateError
    from socratic_agents.models.captioning import Captioner
    from socratic_agents.pocket.scene import Scene

__all__ = ("caption_figures", "generator_figures", "main", "refinement_figures")

CHECKED = 300
"""Fewest questions of each kind of a checklist."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m socratic_agents.lab.pocket_card")
    parser.add_argument("-n", type=int, default=100, help="prompts of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of prompts and noise")
    parser.add_argument("--rounds", type=int, default=5, help="of a refinement")
    options = parser.parse_args(arguments)
    figures = {
        "n": options.n,
        "seed": options.seed,
        "megabytes": round(_megabytes(), 2),
        "generator": generator_figures(options.n, options.seed),
        "captioner": caption_figures(options.n, options.seed),
        "refinement": asyncio.run(
            refinement_figures(options.n, options.seed, options.rounds)
        ),
    }
    print(json.dumps(figures, indent=2))  # noqa: T201 - that is what it is for


def generator_figures(n: int, seed: int) -> dict[str, Any]:
    """Draw one image of ``n`` prompts of each kind, and let the oracle read them."""
    from socratic_agents.models.diffusion import Diffusion

    draw = Diffusion.load(str(weights_folder("generator")), device="cpu", **SAMPLING)
    figures: dict[str, Any] = {}
    for kind in ("canonical", "terse", "foreign"):
        prompts = sample_prompts(n, seed, kind)
        requests = [(prompt, seed + place) for place, prompt in enumerate(prompts)]
        images: list[Image | CandidateError] = []
        began = time.perf_counter()
        for start in range(0, n, 8):
            images += draw(requests[start : start + 8])
        shown = [image for image in images if not isinstance(image, Exception)]
        seconds = (time.perf_counter() - began) / n
        agreements = [
            read_scene(image).agreement(prompt)
            for image, prompt in zip(shown, prompts, strict=True)
        ]
        figures[kind] = _summary(agreements)
        figures["seconds_per_image"] = round(seconds, 3)
    return figures


def caption_figures(n: int, seed: int) -> dict[str, Any]:
    """Caption ``n`` rendered scenes, and ask about each; count what is right.

    ``checks`` are a checklist's questions by kind, about ``CHECKED`` other scenes or
    ``n`` if that is more.
    """
    from socratic_agents.models.captioning import Captioner

    captioner = Captioner.load(
        str(weights_folder("captioner")),
        device="cpu",
        question_format="question: {question} answer:",
    )
    rng = random.Random(f"captions {seed}")
    scenes = [sample_scene(rng) for _ in range(n)]
    images = [render(scene) for scene in scenes]
    captions = captioner.caption(images)
    asked = [ask_about(scene, rng) for scene in scenes]
    pairs = [(image, text) for image, (text, _) in zip(images, asked, strict=True)]
    answers = zip(captioner.answer(pairs), asked, strict=True)
    shares = [
        _attributes(caption, scene) if isinstance(caption, str) else 0.0
        for caption, scene in zip(captions, scenes, strict=True)
    ]
    return {
        "attributes": round(sum(shares) / n, 4),
        "whole": round(sum(share == 1 for share in shares) / n, 4),
        "answers": round(sum(stated == true for stated, (_, true) in answers) / n, 4),
        "checks": {
            kind: _checked(captioner, kind, rng, max(n, CHECKED)) for kind in CHECKS
        },
    }


def _checked(captioner: Captioner, kind: str, rng: random.Random, n: int) -> float:
    """Return the share of a checklist's questions that are answered truly."""
    pair = 1.0 if kind == "relation" else 0.65
    scenes = [sample_scene(rng, pair=pair) for _ in range(n)]
    asked = [ask_about(scene, rng, kind=kind)[0] for scene in scenes]
    pairs = list(zip(map(render, scenes), asked, strict=True))
    stated = [
        answer
        for i in range(0, n, 100)
        for answer in captioner.answer(pairs[i : i + 100])
    ]
    true = [
        "yes" if true_answer(*both) else "no"
        for both in zip(asked, scenes, strict=True)
    ]
    right = sum(a == b for a, b in zip(stated, true, strict=True))
    return round(right / n, 4)


async def refinement_figures(n: int, seed: int, rounds: int) -> dict[str, Any]:
    """Refine ``n`` prompts of each kind, and compare first and returned images."""
    from socratic_agents.runtime.refiner import Refiner

    figures: dict[str, Any] = {}
    async with Refiner(profile="pocket", rounds=rounds, seed=seed) as refiner:
        for kind in ("canonical", "terse", "foreign"):
            prompts = sample_prompts(n, seed, kind)
            began = time.perf_counter()
            outcomes = [o async for o in refiner.refine_many(prompts)]
            done = [o for o in outcomes if isinstance(o, Refinement)]
            first = [o.rounds[0].candidates[0] for o in done]
            below = sum(
                (o.best.score or 0) < (f.score or 0)
                for o, f in zip(done, first, strict=True)
            )
            figures[kind] = {
                "first": _summary(_agreements(zip(first, done, strict=True))),
                "returned": _summary(_agreements((o.best, o) for o in done)),
                "below_first": below,
                "failed": n - len(done),
                "images": round(sum(o.usage.images for o in done) / len(done), 2),
                "llm_calls": round(sum(o.usage.llm_calls for o in done) / len(done), 2),
                "seconds": round(time.perf_counter() - began, 1),
            }
    return figures


def _agreements(pairs: Iterable[tuple[Any, Refinement]]) -> list[float]:
    return [
        read_scene(candidate.image).agreement(outcome.user_prompt)
        for candidate, outcome in pairs
    ]


def _summary(agreements: Sequence[float]) -> dict[str, float]:
    n = len(agreements)
    return {
        "mean": round(sum(agreements) / n, 4),
        "whole": round(sum(agreement == 1 for agreement in agreements) / n, 4),
    }


def _attributes(caption: str, scene: Scene) -> float:
    """Return the share of a scene's attributes that its caption tells."""
    try:
        spec = parse_prompt(caption)
    except ValueError:
        return 0.0
    return (
        scene.spec_agreement(spec) if len(spec.objects) == len(scene.objects) else 0.0
    )


def _megabytes() -> float:
    folder = weights_folder("generator").parent
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


if __name__ == "__main__":
    main()
