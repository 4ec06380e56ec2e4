"""Refine one prompt, and look at what was tried."""

import asyncio

from socratic_agents import refine


async def main() -> None:
    """Refine a prompt with words that the generator has never seen."""
    result = await refine("a crimson ball above an azure box", seed=7)

    for number, round_ in enumerate(result.rounds):
        for candidate in round_.candidates:
            print(f"round {number}: {candidate.prompt}")
            print(f"    shows {candidate.caption}, scores {dict(candidate.scores)}")
        if round_.verdict:
            print(f"    verdict: {round_.verdict.reason}")

    print(f"best: {result.best.prompt} ({result.stop}, {result.usage.images} images)")
    if result.best.image is not None:
        result.best.image.save("best.png")


if __name__ == "__main__":
    asyncio.run(main())
