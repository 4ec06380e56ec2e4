"""The tools of an agent: LangChain's own standard tests, and use from everywhere."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import ToolException
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from PIL import Image

from socratic_agents import Refiner, image_tools
from socratic_agents.runtime.langchain_tools import (
    CaptionImage,
    GenerateImage,
    ImageCache,
    RefinePrompt,
    ScoreImage,
)
from tests.fakes import TextModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.tools import BaseTool

    from socratic_agents.core.history import History


async def generate(prompt: str, seed: int) -> Image.Image:
    if "bug" in prompt:
        raise ZeroDivisionError
    return Image.new("RGB", (2, 2), (len(prompt), seed % 256, 0))


async def caption(image: Image.Image) -> str:
    return f"an image of {image.getpixel((0, 0))}"


async def score(user_prompt: str, image: Image.Image) -> float:
    return 0.5


async def optimize(history: History) -> tuple[str, ...]:
    return (f"{history.user_prompt}, round {len(history.rounds)}",)


def make_refiner(**overrides: Any) -> Refiner:
    fakes: dict[str, Any] = {
        "generator": generate,
        "captioner": caption,
        "scorer": score,
        "optimizer": optimize,
        "judge": "never",
        "rounds": 2,
        "prompts_per_round": 1,
        "seed": 7,
    }
    return Refiner(**(fakes | overrides))


@pytest.fixture
def refiner() -> Iterator[Refiner]:
    refiner = make_refiner()
    yield refiner
    refiner.close()


def _call(tool: str, call_id: str = "1", **arguments: Any) -> dict[str, Any]:
    return {"name": tool, "args": arguments, "id": call_id, "type": "tool_call"}


def _named(refiner: Refiner) -> dict[str, BaseTool]:
    return {tool.name: tool for tool in image_tools(refiner)}


SEEN = Image.new("RGB", (2, 2), (1, 2, 3))
"""An image that was drawn before the standard tests look at it."""


class _Standard:
    """What LangChain's standard tests need to know of each tool."""

    tool_class: type[BaseTool]
    example: dict[str, Any]

    @property
    def tool_constructor(self) -> type[BaseTool]:
        return self.tool_class

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        image_cache = ImageCache()
        image_cache.add(SEEN)
        return {"refiner": make_refiner(), "image_cache": image_cache}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return self.example


class _Generate(_Standard):
    tool_class = GenerateImage
    example = {"prompt": "a cat", "seed": 7}  # noqa: RUF012 - the standard tests only read it


class _Caption(_Standard):
    tool_class = CaptionImage
    example = {"image": ImageCache().add(SEEN)}  # noqa: RUF012 - the standard tests only read it


class _Score(_Standard):
    tool_class = ScoreImage
    example = {"image": ImageCache().add(SEEN), "prompt": "a cat"}  # noqa: RUF012 - the standard tests only read it


class _Refine(_Standard):
    tool_class = RefinePrompt
    example = {"prompt": "a cat"}  # noqa: RUF012 - the standard tests only read it


class TestGenerateUnit(_Generate, ToolsUnitTests):
    pass


class TestGenerateIntegration(_Generate, ToolsIntegrationTests):
    pass


class TestCaptionUnit(_Caption, ToolsUnitTests):
    pass


class TestCaptionIntegration(_Caption, ToolsIntegrationTests):
    pass


class TestScoreUnit(_Score, ToolsUnitTests):
    pass


class TestScoreIntegration(_Score, ToolsIntegrationTests):
    pass


class TestRefineUnit(_Refine, ToolsUnitTests):
    pass


class TestRefineIntegration(_Refine, ToolsIntegrationTests):
    pass


async def test_an_image_is_drawn_looked_at_and_scored(refiner: Refiner) -> None:
    """The id that one tool returns is what the next one takes."""
    tools = _named(refiner)
    drawn = await tools["generate_image"].ainvoke(
        _call("generate_image", prompt="a cat")
    )
    name = drawn.artifact["id"]
    assert f"Image {name}: drawn from 'a cat' with seed 7." == drawn.content
    seen = await tools["caption_image"].ainvoke(_call("caption_image", image=name))
    assert "an image of (5, 7, 0)" == seen.content
    assert {"image": name, "caption": seen.content} == seen.artifact
    scored = await tools["score_image"].ainvoke(
        _call("score_image", image=name, prompt="a cat")
    )
    assert "score 0.500" == scored.content
    assert {"score": 0.5} == scored.artifact["scores"]


def test_an_artifact_is_plain_data(refiner: Refiner) -> None:
    """A checkpointer can store it, and the image can be read from it."""
    message = _named(refiner)["generate_image"].invoke(
        _call("generate_image", prompt="a cat", seed=9)
    )
    artifact = json.loads(json.dumps(message.artifact))
    assert ("image", "image/png") == (artifact["type"], artifact["mime_type"])
    image = Image.open(io.BytesIO(base64.b64decode(artifact["base64"])))
    assert (5, 9, 0) == image.getpixel((0, 0))


def test_a_refinement_tells_what_was_found(refiner: Refiner) -> None:
    """The best image's id, prompt, caption and the cost, in words."""
    message = _named(refiner)["refine_prompt"].invoke(
        _call("refine_prompt", prompt="a cat")
    )
    name = message.artifact["id"]
    assert (
        f"Image {name}: drawn from 'a cat' with seed 7. It shows: an image of "
        "(5, 7, 0). Ended after 2 images: rounds_spent."
    ) == message.content


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("generate_image", {"prompt": ""}, "expected a prompt, got blank text"),
        ("generate_image", {"prompt": "a bug"}, "ZeroDivisionError"),
        ("refine_prompt", {"prompt": "a bug"}, "expected at least one usable image"),
        ("caption_image", {"image": "x"}, "known ids: none yet; draw one first"),
        ("score_image", {"image": "x", "prompt": "y"}, "got 'x'; known ids"),
    ],
)
async def test_an_error_is_an_answer(
    refiner: Refiner, tool: str, arguments: dict[str, Any], message: str
) -> None:
    """The agent is told what went wrong, with and without await, and can go on."""
    call = _call(tool, **arguments)
    answers = [_named(refiner)[tool].invoke(call)]
    answers.append(await _named(refiner)[tool].ainvoke(call))
    for answer in answers:
        assert "error" == answer.status
        assert message in answer.content


def test_without_a_scorer_there_is_no_score_tool() -> None:
    """An agent is not offered what cannot work; a tool made by hand says so."""
    refiner = make_refiner(scorer=None, selector="last")
    assert {"generate_image", "caption_image", "refine_prompt"} == set(_named(refiner))
    image_cache = ImageCache()
    tool = ScoreImage(refiner=refiner, image_cache=image_cache)
    answer = tool.invoke(_call("score_image", image=image_cache.add(SEEN), prompt="a"))
    assert "expected a scorer, got none; name one in the settings" == answer.content
    refiner.close()


def test_a_closed_refiner_is_an_answer_too() -> None:
    """Tools may outlive their refiner; the agent hears of it."""
    refiner = make_refiner()
    tools = _named(refiner)
    refiner.close()
    answer = tools["generate_image"].invoke(_call("generate_image", prompt="a cat"))
    assert "expected an open refiner" in answer.content


def test_the_gallery_forgets_the_oldest() -> None:
    """A long conversation does not fill the memory; looking again keeps an image."""
    image_cache = ImageCache(size=2)
    images = [Image.new("RGB", (1, 1), (n, 0, 0)) for n in range(3)]
    names = [image_cache.add(image) for image in images[:2]]
    assert names[0] == image_cache.add(images[0])
    names.append(image_cache.add(images[2]))
    assert images[0] is image_cache[f" {names[0]} "]
    assert images[2] is image_cache[names[2]]
    with pytest.raises(ToolException, match=f"known ids: {names[0]}, {names[2]}"):
        image_cache[names[1]]


def test_tools_work_from_many_threads_and_loops(refiner: Refiner) -> None:
    """Sync and async calls on a fresh refiner, from four threads at once."""
    tools, results = _named(refiner), dict[int, str]()
    start = threading.Barrier(4)

    def use(number: int) -> None:
        start.wait()
        call = _call("generate_image", prompt="a cat", seed=number)
        tool = tools["generate_image"]
        answer = tool.invoke(call) if number % 2 else asyncio.run(tool.ainvoke(call))
        results[number] = answer.content

    threads = [threading.Thread(target=use, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert results[number].endswith(f"with seed {number}.")


class Agent(TextModel):
    """A chat model that calls the tools of its script, the last image's id put in."""

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
        return self

    def _generate(self, messages: Any, *_: Any, **kwargs: Any) -> Any:
        step = self.script[0]
        artifacts = [m.artifact for m in messages if isinstance(m, ToolMessage)]
        if isinstance(step, dict):
            arguments = {
                name: artifacts[-1]["id"] if value == "LAST" else value
                for name, value in step["args"].items()
            }
            self.script[0] = AIMessage("", tool_calls=[{**step, "args": arguments}])
        return super()._generate(messages)


async def test_an_agent_uses_the_tools(refiner: Refiner) -> None:
    """LangChain's agent draws and looks, and its whole state can be stored."""
    from langchain.agents import create_agent
    from langgraph.checkpoint.memory import InMemorySaver

    llm = Agent(
        script=[
            _call("generate_image", prompt="a cat"),
            _call("caption_image", call_id="2", image="LAST"),
            "There it is.",
        ]
    )
    agent = create_agent(llm, image_tools(refiner), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    state = await agent.ainvoke({"messages": [HumanMessage("Draw a cat.")]}, config)
    *_, drawn, _, seen, last = state["messages"]
    assert "success" == drawn.status
    assert ("an image of (5, 7, 0)", "There it is.") == (seen.content, last.content)
    stored = await agent.aget_state(config)
    assert 6 == len(stored.values["messages"])
