"""Compare optimizer templates: what do history and examples change?"""

import asyncio

from socratic_agents import Refinement, Refiner
from socratic_agents.pocket import read_scene, sample_prompts

TEMPLATES = ("classic", "default", "few_shot")


def agreement(result: Refinement) -> float:
    """Return how far the returned image shows what was asked for, in [0, 1]."""
    assert result.best.image is not None  # noqa: S101 - the best one is usable
    return read_scene(result.best.image).agreement(result.user_prompt)


async def main(n: int = 3) -> None:
    """Refine the same foreign prompts with each template."""
    prompts = sample_prompts(n, seed=5, kind="foreign")
    for template in TEMPLATES:
        async with Refiner(optimizer_template=template, rounds=3, seed=5) as refiner:
            outcomes = [outcome async for outcome in refiner.refine_many(prompts)]
        scores = [agreement(o) for o in outcomes if isinstance(o, Refinement)]
        images = sum(o.usage.images for o in outcomes if isinstance(o, Refinement))
        print(
            f"{template:10} agreement {sum(scores) / len(scores):.2f} "
            f"of {len(scores)} prompts, {images} images"
        )


if __name__ == "__main__":
    asyncio.run(main())
