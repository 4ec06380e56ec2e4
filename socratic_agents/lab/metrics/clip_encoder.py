"""CLIP in batches: embeddings of images and texts, each computed once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from socratic_agents.core.image_map import WeakImageMap
from socratic_agents.models.clip import Clip

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from socratic_agents.scheduler.worker import Stage, Worker

__all__ = ("BatchedClip", "ClipEncoder", "EmbeddedText")


@dataclass(frozen=True, kw_only=True)
class EmbeddedText:
    """A text as a model read it."""

    vector: NDArray[Any]
    cut: int
    """How many of its tokens the model did not read."""


class ClipEncoder(Clip):
    """A CLIP model that gives its embeddings, so that several metrics share them."""

    def embed_images(self, images: Sequence[Image]) -> list[NDArray[Any]]:
        """Return the embedding of each image, of any length.

        Args:
            images: Images of any mode and size.
        """
        return list(self._images(images)) if images else []

    def embed_texts(self, texts: Sequence[str]) -> list[EmbeddedText]:
        """Return the embedding of each text, of any length, and what was cut off.

        Args:
            texts: With their prefix, if they shall have one.
        """
        if not texts:
            return []
        return [
            EmbeddedText(vector=vector, cut=self._cut(text))
            for vector, text in zip(self._texts(texts), texts, strict=True)
        ]

    def _cut(self, text: str) -> int:
        inner = getattr(self._tokenizer, "tokenizer", None)
        # open_clip's own tokenizer counts neither the start nor the end.
        tokens = (
            len(inner(text).input_ids)
            if inner is not None
            else len(self._tokenizer.encode(text)) + 2
        )
        return max(0, tokens - int(self._tokenizer.context_length))


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchedClip:
    """A CLIP model behind a worker; what it saw once, it is not shown again."""

    worker: Worker
    images: Stage[Image, NDArray[Any]]
    texts: Stage[str, EmbeddedText]
    record: Mapping[str, Any]
    """Which model and weights it is."""
    _seen: dict[Hashable, asyncio.Task[Any]] = field(default_factory=dict, init=False)
    _images_seen: WeakImageMap[asyncio.Task[Any]] = field(
        default_factory=WeakImageMap, init=False
    )

    async def image(self, image: Image) -> NDArray[Any]:
        """Return the embedding of an image; it must not be changed afterwards."""
        found: NDArray[Any] = await self._once(
            self._images_seen, image, lambda: self.worker.submit(self.images, image)
        )
        return found

    async def file(self, path: Path) -> NDArray[Any]:
        """Return the embedding of an image file.

        Raises:
            OSError: If it cannot be read.
        """

        async def ask() -> Any:
            image = await asyncio.to_thread(_read, path)
            return await self.worker.submit(self.images, image)

        found: NDArray[Any] = await self._once(self._seen, path, ask)
        return found

    async def text(self, text: str) -> EmbeddedText:
        """Return the embedding of a text."""
        found: EmbeddedText = await self._once(
            self._seen, text, lambda: self.worker.submit(self.texts, text)
        )
        return found

    async def _once(
        self, seen: Any, key: Any, ask: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Any:
        task = seen.get(key)
        if task is None:
            # It is nobody's own, so it outlives whoever asked first.
            task = asyncio.create_task(ask())
            seen[key] = task

            def forget(done: asyncio.Task[Any]) -> None:
                failed = done.cancelled() or done.exception()
                if failed and seen.get(key) is done:
                    del seen[key]

            task.add_done_callback(forget)
        return await asyncio.shield(task)


def _read(path: Path) -> Image:
    from PIL.Image import open as opened

    with opened(path) as image:
        return image.convert("RGB")
