"""The loop as a LangGraph graph: the same work with somebody else's machinery."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict

from socratic_agents.core.history import Candidate, History, Round

if TYPE_CHECKING:
    from PIL.Image import Image

    from socratic_agents.core.loop import Agents

__all__ = ("LangGraphLoop",)

NODES = ("generate", "caption", "score", "judge", "optimize")


class _State(TypedDict, total=False):
    """What the graph hands from node to node; images are named by their place."""

    loop: int
    prompt: str
    image: int
    caption: str
    scores: dict[str, float]
    round: int
    best: int


@dataclass(eq=False)
class _Room:
    """What a loop keeps beside the graph's state."""

    agents: Agents
    history: History
    seed: int
    rounds: int
    images: list[Image] = field(default_factory=list)


class LangGraphLoop:
    """A graph with a node for each step of a round, one image a round."""

    def __init__(self) -> None:
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(_State)
        for name in NODES:
            graph.add_node(name, getattr(self, f"_{name}"))
        for before, after in itertools.pairwise((START, *NODES)):
            graph.add_edge(before, after)
        graph.add_conditional_edges(
            "optimize", lambda state: END if "best" in state else "generate"
        )
        self._graph: Any = graph.compile()
        self._numbers = itertools.count()
        self._rooms: dict[int, _Room] = {}

    async def __call__(
        self, agents: Agents, prompt: str, *, seed: int, rounds: int
    ) -> None:
        """Refine a prompt.

        Args:
            agents: What the loop calls.
            prompt: What the person asked for.
            seed: Of the noise.
            rounds: At least 1.
        """
        loop = next(self._numbers)
        self._rooms[loop] = _Room(agents, History(user_prompt=prompt), seed, rounds)
        try:
            await self._graph.ainvoke(
                _State(loop=loop, prompt=prompt, round=0),
                {"recursion_limit": (len(NODES) + 1) * rounds},
            )
        finally:
            del self._rooms[loop]

    async def _generate(self, state: _State) -> _State:
        room = self._rooms[state["loop"]]
        room.images.append(await room.agents.generate(state["prompt"], room.seed))
        return _State(image=len(room.images) - 1)

    async def _caption(self, state: _State) -> _State:
        room = self._rooms[state["loop"]]
        return _State(caption=await room.agents.caption(room.images[state["image"]]))

    async def _score(self, state: _State) -> _State:
        room = self._rooms[state["loop"]]
        candidate = Candidate(
            prompt=state["prompt"],
            seed=room.seed,
            image=room.images[state["image"]],
            caption=state["caption"],
        )
        if room.agents.assess is not None:
            scores = await room.agents.assess(room.history.user_prompt, candidate)
            candidate = replace(candidate, scores=scores)
        room.history += Round(candidates=(candidate,))
        return _State(scores=dict(candidate.scores))

    async def _judge(self, state: _State) -> _State:
        room = self._rooms[state["loop"]]
        room.history = room.history.judged(await room.agents.judge(room.history))
        return _State(round=state["round"] + 1)

    async def _optimize(self, state: _State) -> _State:
        room = self._rooms[state["loop"]]
        if state["round"] >= room.rounds:
            return _State(best=await room.agents.select(room.history))
        return _State(prompt=(await room.agents.optimize(room.history))[0])
