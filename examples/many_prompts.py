"""Refine many prompts at once; they share the models, and come as they finish."""

import asyncio

from socratic_agents import Failure, Refiner

PROMPTS = [
    "a tiny emerald wedge on an ebony background",
    "a scarlet hoop west of a lemon disc",
    "a dragon",  # not in the pocket world: it fails alone
    "a violet plus beneath a turquoise block",
]


async def main() -> None:
    """Refine the prompts, three at a time."""
    async with Refiner(in_flight=3, rounds=3, seed=1) as refiner:
        async for outcome in refiner.refine_many(PROMPTS):
            if isinstance(outcome, Failure):
                print(f"{outcome.index}: failed: {outcome.error}")
            else:
                print(f"{outcome.index}: {outcome.best.prompt} ({outcome.stop})")


if __name__ == "__main__":
    asyncio.run(main())
