"""A replica: the image models in a process of their own, called from another one.

It knows nothing of Ray or of pipes; a cluster makes an actor of it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from socratic_agents.scheduler.cost_model import CostModel, cache_file
from socratic_agents.scheduler.requests import Session, current_session
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray
    from PIL import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.image_models import ImageModels

__all__ = ("NOTICES", "Capabilities", "ImageEvictedError", "Replica")

NOTICES = "notices"
"""Of the models, among the metadata of an image on its way."""
KEPT = 256
"""Images that a replica keeps, the last ones: 1 GB at 1024 x 1024 pixels."""


class ImageEvictedError(LookupError):
    """Raised when a replica is asked about an image that it does not keep any more."""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What the models of a replica can do."""

    operations: frozenset[str]
    """Names of those there are, such as ``answer_yes_no``."""
    score_name: str
    """What the score is called."""
    max_tokens: int | None
    """Tokens of a prompt that the generator reads; ``None``: not known"""
    context: int | None = None
    """Tokens of a conversation that the captioner goes on with; ``None``: not known"""


class Replica:
    """Models with a worker of their own, and the last images that they drew.

    Many calls may be in flight at once: the worker forms the batches beneath.

    Args:
        settings: What to open.
        open_with: Opens the models, as ``open_image_models`` does.
        kept: Images that are kept, at least 1.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        open_with: Callable[[Settings, Worker], ImageModels],
        kept: int = KEPT,
    ) -> None:
        self._open_with = partial(open_with, settings)
        self._worker = Worker("socratic-replica", cost_model=CostModel(cache_file()))
        self._images: OrderedDict[int, Image.Image] = OrderedDict()
        self._kept = kept

    async def open(self) -> Capabilities:
        """Open the models and return what they can do."""
        worker = self._worker
        worker.open()
        self._models = models = await worker.call(partial(self._open_with, worker))
        return Capabilities(
            operations=models.can(),
            score_name=models.score_name,
            max_tokens=models.max_tokens,
            context=models.context,
        )

    async def close(self) -> None:
        """Close the worker, which stores what its calls cost."""
        await self._worker.__aexit__()

    async def generate(
        self, owner: tuple[int, Hashable] | None, token: int, prompt: str, seed: int
    ) -> tuple[NDArray[Any], dict[Any, Any]]:
        """Draw an image and keep it; return its pixels and its metadata.

        Args:
            owner: Order and user of the session that asks.
            token: Identifies the image in later queries.
            prompt: What to draw.
            seed: Where the noise comes from.
        """
        import numpy as np

        _join_session(owner)
        image = await self._models.generate(prompt, seed)
        self._keep(token, image)
        said = self._models.notices()
        return np.asarray(image), image.info | ({NOTICES: said} if said else {})

    async def query(
        self,
        owner: tuple[int, Hashable] | None,
        token: int,
        pixels: NDArray[Any] | None,
        operation: str,
        *texts: str | None,
    ) -> Any:
        """Return what a model answers about an image.

        Args:
            owner: Order and user of the session that asks.
            token: Which image.
            pixels: The image itself, ``(height, width, 3)``, uint8; ``None``: it was
                drawn here, or sent before.
            operation: Name of the call in ``ImageModels``.
            texts: Its inputs; ``None`` stands for the image.

        Raises:
            ImageEvictedError: If the image is needed again.
        """
        from PIL import Image

        _join_session(owner)
        if pixels is not None:
            self._keep(token, Image.fromarray(pixels))
        elif token not in self._images:
            raise ImageEvictedError(token)
        self._images.move_to_end(token)
        image = self._images[token]
        inputs = (image if text is None else text for text in texts)
        return await getattr(self._models, operation)(*inputs)

    async def write(self, owner: tuple[int, Hashable] | None, request: Any) -> Any:
        """Return what the captioner's language model says.

        Args:
            owner: Order and user of the session that asks.
            request: As of the models' ``write``.
        """
        _join_session(owner)
        return await cast("Any", self._models.write)(request)

    def _keep(self, token: int, image: Image.Image) -> None:
        self._images[token] = image
        if len(self._images) > self._kept:
            self._images.popitem(last=False)


def _join_session(owner: tuple[int, Hashable] | None) -> None:
    """Let the oldest session go first here too; lasts as long as the task."""
    current_session.set(Session(*owner) if owner else None)
