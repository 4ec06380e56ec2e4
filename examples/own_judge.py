"""Put your own judge into the loop: any async callable that takes a history."""

import asyncio

from socratic_agents import History, Refiner, Verdict
from socratic_agents.pocket import read_scene


async def exact_judge(history: History) -> Verdict:
    """Judge by what the image really shows, as the pocket world's oracle sees it."""
    incumbent = history.incumbent
    if incumbent is None or incumbent.image is None:
        return Verdict.unjudged("there is no image to look at")
    scene = read_scene(incumbent.image)
    agreement = scene.agreement(history.user_prompt)
    return Verdict(satisfied=agreement == 1, reason=f"agreement is {agreement:.2f}")


async def main() -> None:
    """Refine until the oracle is content."""
    async with Refiner(judge=exact_judge, rounds=4, seed=3) as refiner:
        result = await refiner.refine("a golden donut upon a big cobalt tile")

    for round_ in result.rounds:
        print(round_.verdict.reason if round_.verdict else "not judged")
    print(f"{result.stop}: {result.best.prompt}")


if __name__ == "__main__":
    asyncio.run(main())
