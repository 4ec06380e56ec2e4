"""Give LangChain's agent eyes and a brush: the image tools in ``create_agent``."""

import asyncio

from langchain.agents import create_agent

from socratic_agents import Refiner, image_tools
from socratic_agents.pocket import PocketChatModel


async def main() -> None:
    """Let an agent draw a prompt and say what it sees."""
    async with Refiner(seed=2) as refiner:
        # Any LangChain chat model that calls tools will do, "openai:gpt-5.4-mini" say.
        agent = create_agent(PocketChatModel(), image_tools(refiner))
        question = {"role": "user", "content": "a large red circle"}
        state = await agent.ainvoke({"messages": [question]})

    for message in state["messages"]:
        print(f"{message.type}: {message.text or message.tool_calls}")


if __name__ == "__main__":
    asyncio.run(main())
