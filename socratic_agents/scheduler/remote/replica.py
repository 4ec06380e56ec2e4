"""A replica: the image models in a process of their own, asked from another one.

It knows nothing of Ray; ``replicas`` makes an actor of it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_agents.scheduler.cost_model import CostModel, cache_file
from socratic_agents.scheduler.requests import Session, current_session
from socratic_agents.scheduler.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray
    from PIL import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.image_models import Voices

__all__ = ("Abilities", "ForgottenError", "Replica")

KEPT = 256
"""Images that a replica remembers: 1 GB at 1024 x 1024 pixels."""


class ForgottenError(LookupError):
    """Raised when a replica is asked about an image that it does not have any more."""


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What the models can do, for those who cannot look at them."""

    voices: frozenset[str]
    """Which voices there are, such as ``decide``."""
    score_name: str
    """What the score is called."""
    max_tokens: int | None
    """Tokens of a prompt that the generator reads; ``None``: not known"""


class Replica:
    """Models with a worker of their own, and the last images that they drew.

    Many calls may be on their way at once: the worker forms the batches beneath.

    Args:
        settings: What to open.
        open_with: Opens the voices, as ``open_voices`` does.
        kept: Images that are remembered, at least 1.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        open_with: Callable[[Settings, Worker], Voices],
        kept: int = KEPT,
    ) -> None:
        self._open_with = partial(open_with, settings)
        self._worker = Worker("socratic-replica", cost_model=CostModel(cache_file()))
        self._images: OrderedDict[int, Image.Image] = OrderedDict()
        self._kept = kept

    async def open(self) -> Abilities:
        """Open the models and return what they can do."""
        worker = self._worker
        worker.open()
        self._voices = voices = await worker.call(partial(self._open_with, worker))
        names = ("generate", "caption", "decide", "look", "score")
        return Abilities(
            voices=frozenset(n for n in names if getattr(voices, n) is not None),
            score_name=voices.score_name,
            max_tokens=voices.max_tokens,
        )

    async def close(self) -> None:
        """Close the worker, which keeps what its calls cost."""
        await self._worker.__aexit__()

    async def generate(
        self, whose: tuple[int, Hashable] | None, token: int, prompt: str, seed: int
    ) -> tuple[NDArray[Any], dict[Any, Any]]:
        """Draw an image and remember it; return its pixels and what is known of it.

        Args:
            whose: Order and user of the loop that asks.
            token: Whoever asks about the image names it by that.
            prompt: What to draw.
            seed: Where the noise comes from.
        """
        import numpy as np

        _belong_to(whose)
        image = await self._voices.generate(prompt, seed)
        self._keep(token, image)
        return np.asarray(image), image.info

    async def see(
        self,
        whose: tuple[int, Hashable] | None,
        token: int,
        pixels: NDArray[Any] | None,
        voice: str,
        *words: str,
    ) -> Any:
        """Return what a voice says about an image.

        Args:
            whose: Order and user of the loop that asks.
            token: Which image.
            pixels: The image itself, ``(height, width, 3)``, uint8; ``None``: it was
                drawn here, or sent before.
            voice: ``caption``, ``decide``, ``look`` or ``score``.
            words: The question, or the user prompt.

        Raises:
            ForgottenError: If the image is needed again.
        """
        from PIL import Image

        _belong_to(whose)
        if pixels is not None:
            self._keep(token, Image.fromarray(pixels))
        elif token not in self._images:
            raise ForgottenError(token)
        self._images.move_to_end(token)
        image = self._images[token]
        call = getattr(self._voices, voice)
        if voice == "score":
            return await call(*words, image)
        return await call(image, *words)

    def _keep(self, token: int, image: Image.Image) -> None:
        self._images[token] = image
        if len(self._images) > self._kept:
            self._images.popitem(last=False)


def _belong_to(whose: tuple[int, Hashable] | None) -> None:
    """Let the oldest loop go first here too; lasts as long as the task."""
    current_session.set(Session(*whose) if whose else None)
