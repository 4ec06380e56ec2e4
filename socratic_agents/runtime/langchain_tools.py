"""LangChain tools: what an agent can do with images, one small step at a time.

A language model can only pass text on, so every image has a short id: the tools that
draw return it, and the tools that look take it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages.content import create_image_block
from langchain_core.tools import BaseTool, ToolException
from pydantic import BaseModel, Field

from socratic_agents.core.errors import SocraticError
from socratic_agents.core.history import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.messages.content import ImageContentBlock
    from PIL.Image import Image

    from socratic_agents.runtime.refiner import Refiner

__all__ = (
    "CaptionImage",
    "GenerateImage",
    "ImageCache",
    "RefinePrompt",
    "ScoreImage",
    "image_tools",
)


class ImageCache:
    """The last images, each under a short id that is made from its pixels.

    Args:
        size: How many images are kept, at least 1.
    """

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._images: OrderedDict[str, Image] = OrderedDict()

    def add(self, image: Image) -> str:
        """Keep an image, and return its id; the same pixels have the same id."""
        name = hashlib.sha256(image.tobytes()).hexdigest()[:12]
        with self._lock:
            self._images[name] = image
            self._images.move_to_end(name)
            while len(self._images) > self._size:
                self._images.popitem(last=False)
        return name

    def __getitem__(self, name: str) -> Image:
        with self._lock:
            image = self._images.get(name.strip())
            known = ", ".join(self._images) or "none yet; draw one first"
        if image is None:
            message = (
                f"expected the id of an image that was drawn here, got {name!r}; "
                f"known ids: {known}"
            )
            raise ToolException(message)
        return image


@contextmanager
def _told() -> Iterator[None]:
    """Turn our errors into those that an agent is told of."""
    try:
        yield
    except SocraticError as problem:
        raise ToolException(str(problem)) from problem


class _Prompt(BaseModel):
    prompt: str = Field(description="What to draw, in plain words.")


class _Generate(_Prompt):
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description=(
            "Seed of the image's noise: another number draws another image of the "
            "same prompt, the same number the same image. Optional."
        ),
    )


class _Image(BaseModel):
    image: str = Field(description="The id of an image, as a tool returned it.")


class _Score(_Image):
    prompt: str = Field(description="What the image should show.")


class _ImageTool(BaseTool):
    """What the tools share: a refiner, opened on first use, and a cache of images."""

    response_format: Literal["content_and_artifact"] = "content_and_artifact"
    # A tool's error is an answer to the agent, who can do better the next time.
    handle_tool_error: Any = True
    # Their types are not named: pydantic would import them to look.
    refiner: Any = Field(repr=False, exclude=True)
    image_cache: Any = Field(default_factory=ImageCache, repr=False, exclude=True)

    def _run(self, **arguments: Any) -> tuple[str, Any]:
        with _told():
            answer: tuple[str, Any] = self.refiner.wait(self._arun(**arguments))
        return answer

    def _show(self, image: Image) -> tuple[str, ImageContentBlock]:
        """Return an image's id and its content block, plain data that can be stored."""
        name, png = self.image_cache.add(image), io.BytesIO()
        image.save(png, format="PNG")
        text = base64.b64encode(png.getvalue()).decode()
        return name, create_image_block(base64=text, mime_type="image/png", id=name)


class GenerateImage(_ImageTool):
    """Draws one image of a prompt."""

    name: str = "generate_image"
    description: str = (
        "Draws one image of a prompt, and returns the image's id. You cannot see the "
        "image: use caption_image with its id to learn what it shows."
    )
    args_schema: Any = _Generate

    async def _arun(self, prompt: str, seed: int | None = None) -> tuple[str, Any]:
        with _told():
            prompt = self.refiner.check(prompt)
            seed = self.refiner.settings.seed if seed is None else seed
            agents = await self.refiner.agents()
            image = await agents.generate(prompt, seed)
        name, block = self._show(image)
        return f"Image {name}: drawn from {prompt!r} with seed {seed}.", block


class CaptionImage(_ImageTool):
    """Says what an image shows."""

    name: str = "caption_image"
    description: str = (
        "Says in a sentence what an image shows. Takes the id that generate_image or "
        "refine_prompt returned."
    )
    args_schema: Any = _Image

    async def _arun(self, image: str) -> tuple[str, Any]:
        seen = self.image_cache[image]
        with _told():
            agents = await self.refiner.agents()
            caption = await agents.caption(seen)
        return caption, {"image": image, "caption": caption}


class ScoreImage(_ImageTool):
    """Says how well an image fits a prompt."""

    name: str = "score_image"
    description: str = (
        "Says as a number how well an image fits a prompt; higher is better. Takes "
        "the id that generate_image or refine_prompt returned."
    )
    args_schema: Any = _Score

    async def _arun(self, image: str, prompt: str) -> tuple[str, Any]:
        seen = self.image_cache[image]
        with _told():
            agents = await self.refiner.agents()
            if agents.assess is None:
                message = "expected a scorer, got none; name one in the settings"
                raise ToolException(message)
            candidate = Candidate(prompt=prompt, seed=0, image=seen)
            scores = await agents.assess(prompt, candidate)
        text = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
        return text, {"image": image, "prompt": prompt, "scores": dict(scores)}


class RefinePrompt(_ImageTool):
    """Draws, looks and rewrites until the image is what was asked for."""

    name: str = "refine_prompt"
    description: str = (
        "Draws a prompt, looks at the image, rewrites the prompt and draws again "
        "until the image shows what was asked for. Returns the best image's id, its "
        "caption and the prompt that drew it. Slower than generate_image, and better."
    )
    args_schema: Any = _Prompt

    async def _arun(self, prompt: str) -> tuple[str, Any]:
        with _told():
            refinement = await self.refiner.refine(prompt)
        best = refinement.best
        name, block = self._show(best.image)
        text = (
            f"Image {name}: drawn from {best.prompt!r} with seed {best.seed}. It shows: "
            f"{best.caption or 'no caption'}. Ended after "
            f"{refinement.usage.images} images: {refinement.stop}."
        )
        if refinement.llm_error:
            text += f" The language model failed: {refinement.llm_error}"
        return text, block


def image_tools(refiner: Refiner) -> list[BaseTool]:
    """Return tools for an agent: draw, caption, refine, and score if there is a scorer.

    Each works with and without ``await``, from any thread or event loop. The refiner
    is opened by the first call, and stays its owner's to close.

    A tool call's artifact is plain data: an image as a LangChain content block with a
    PNG in base64, so that a checkpointer can store it.

    Args:
        refiner: Draws and looks, with its settings.
    """
    shared: dict[str, Any] = {"refiner": refiner, "image_cache": ImageCache()}
    tools: list[BaseTool] = [
        GenerateImage(**shared),
        CaptionImage(**shared),
        RefinePrompt(**shared),
    ]
    if refiner.settings.scorer is not None:
        tools.append(ScoreImage(**shared))
    return tools
