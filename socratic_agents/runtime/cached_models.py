"""Steps: what the image models do, taken from a journal where it is known.

A step's key holds everything that decides its answer: the model with its revision, the
prompt and the seed, or the pixels of the image. What only decides how fast it comes,
such as the device, is left out.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary, finalize

from socratic_agents.config.field import Decides
from socratic_agents.config.fields import FIELDS, deciding
from socratic_agents.config.profiles import REVISIONS
from socratic_agents.core.checklist import Answer
from socratic_agents.llm.usage import current_meter
from socratic_agents.storage.journal import key_of
from socratic_agents.storage.safe_png import decode_png

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from PIL import Image

    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.image_models import Voices
    from socratic_agents.storage.journal import Journal
    from socratic_agents.storage.objects import ImageStore

__all__ = ("language_model_identity", "max_tokens_of", "model_identity", "remembered")

PARTS = {
    "generator": Decides.IMAGE,
    "captioner": Decides.CAPTION,
    "scorer": Decides.SCORE,
}
"""What each image model returns."""


def model_identity(settings: Settings, part: str) -> dict[str, Any]:
    """Return what tells one model's answers from another's, as JSON.

    Args:
        settings: Name the models.
        part: ``generator``, ``captioner`` or ``scorer``.
    """
    given = settings.public()[part]
    facts: dict[str, Any] = {"model": given, "revision": REVISIONS.get(given)}
    facts |= _deciding(settings, PARTS[part])
    return facts | _whose(getattr(settings, part))


def language_model_identity(settings: Settings) -> dict[str, Any]:
    """Return what tells one language model's answers from another's, as JSON."""
    facts = {"llm": settings.public()["llm"], **_deciding(settings, Decides.ANSWER)}
    return facts | _whose(settings.llm)


def _deciding(settings: Settings, what: Decides) -> dict[str, Any]:
    """Return the settings that decide it; new ones only where they are set."""
    shown = settings.public()
    return {
        name: shown[name]
        for name in deciding(what)
        if FIELDS[name].in_every_key or shown[name] != FIELDS[name].default
    }


def max_tokens_of(journal: Journal, settings: Settings) -> int | None:
    """Return how many tokens the generator of a run reads, as far as it was opened."""
    known = journal.get(key_of("opened", model_identity(settings, "generator")))
    return known["max_tokens"] if known else None


def remembered(
    voices: Voices,
    journal: Journal,
    settings: Settings,
    *,
    gallery: ImageStore,
) -> Voices:
    """Return voices that do no step again that a journal knows.

    Args:
        voices: What the image models do.
        journal: Is asked first, and told of every answer. A failure is not kept.
        settings: Name the models.
        gallery: Keeps the images.
    """
    steps = _Steps(journal, gallery)
    identity = {
        part: model_identity(settings, part)
        for part in ("generator", "captioner", "scorer")
    }
    captioner, scorer = identity["captioner"], identity["scorer"]
    if settings.scorer == "captioner":
        scorer = captioner | {"score": "p_yes"}
    return replace(
        voices,
        generate=steps.generate(
            voices.generate, identity["generator"], reads=voices.max_tokens
        ),
        caption=steps.caption(voices.caption, captioner),
        decide=voices.decide and steps.decide(voices.decide, captioner),
        look=voices.look and steps.look(voices.look, captioner),
        score=voices.score and steps.score(voices.score, scorer),
    )


class _Steps:
    """Each voice as steps of one journal."""

    def __init__(self, journal: Journal, gallery: ImageStore) -> None:
        self._journal, self._gallery = journal, gallery
        self._drawn: WeakValueDictionary[str, Image.Image] = WeakValueDictionary()
        self._pixels: dict[int, str] = {}

    def generate(
        self,
        draw: Callable[[str, int], Awaitable[Image.Image]],
        who: Mapping[str, Any],
        *,
        reads: int | None,
    ) -> Callable[[str, int], Awaitable[Image.Image]]:
        journal, opened = self._journal, key_of("opened", who)

        async def generate(prompt: str, seed: int) -> Image.Image:
            key = key_of("generate", who, prompt, seed)
            async with journal.single_flight(key):
                # While it lives it need not be decoded, nor be on the disk already.
                image = self._drawn.get(key) or self._read(journal, key)
                if image is not None:
                    journal.reused["generate"] += 1
                    current_meter().add_images()  # it belongs to this refinement, too
                else:
                    image = await draw(prompt, seed)
                    if journal.get(opened) is None:
                        journal.put("opened", opened, {"max_tokens": reads})
                    journal.put_async(
                        "generate", key, self._writing(image, prompt, seed)
                    )
                self._drawn[key] = image
                return image

        return generate

    def caption(
        self, say: Callable[[Image.Image], Awaitable[str]], who: Mapping[str, Any]
    ) -> Callable[[Image.Image], Awaitable[str]]:
        async def caption(image: Image.Image) -> str:
            async def do() -> dict[str, Any]:
                return {"text": await say(image)}

            key = key_of("caption", who, self._of(image))
            text: str = (await self._journal.cached_call("caption", key, do))["text"]
            return text

        return caption

    def decide(
        self,
        ask: Callable[[Image.Image, str], Awaitable[Answer]],
        who: Mapping[str, Any],
    ) -> Callable[[Image.Image, str], Awaitable[Answer]]:
        async def decide(image: Image.Image, question: str) -> Answer:
            async def do() -> dict[str, Any]:
                return (await ask(image, question)).to_json()

            key = key_of("decide", who, self._of(image), question)
            return Answer.from_json(await self._journal.cached_call("decide", key, do))

        return decide

    def look(
        self, ask: Callable[[Image.Image, str], Awaitable[str]], who: Mapping[str, Any]
    ) -> Callable[[Image.Image, str], Awaitable[str]]:
        async def look(image: Image.Image, question: str) -> str:
            async def do() -> dict[str, Any]:
                return {"text": await ask(image, question)}

            key = key_of("look", who, self._of(image), question)
            text: str = (await self._journal.cached_call("look", key, do))["text"]
            return text

        return look

    def score(
        self,
        rate: Callable[[str, Image.Image], Awaitable[float]],
        who: Mapping[str, Any],
    ) -> Callable[[str, Image.Image], Awaitable[float]]:
        async def score(text: str, image: Image.Image) -> float:
            async def do() -> dict[str, Any]:
                return {"score": float(await rate(text, image))}

            key = key_of("score", who, text, self._of(image))
            value: float = (await self._journal.cached_call("score", key, do))["score"]
            return value

        return score

    def _read(self, journal: Journal, key: str) -> Image.Image | None:
        """Return a known image, if it is still as it was written."""
        value = journal.get_or_copy_from_cache("generate", key)
        if value is None:
            return None
        data = journal.objects.get(value["object"])
        if data is None:
            journal.objects.verify(value["object"])  # moves it to quarantine
            return None
        image = decode_png(data)
        if image is None:  # a cache may be anybody's, and its images of any size
            return None
        image.info["truncated_tokens"] = value["truncated_tokens"]
        self._gallery.register(image, value["object"])
        return image

    def _writing(
        self, image: Image.Image, prompt: str, seed: int
    ) -> Callable[[], dict[str, Any]]:
        def write() -> dict[str, Any]:
            path = self._gallery.add(image, prompt=prompt, seed=seed)
            tokens = image.info.get("truncated_tokens", 0)
            return {"object": path, "truncated_tokens": tokens}

        return write

    def _of(self, image: Image.Image) -> str:
        """Return what tells an image's pixels from others."""
        known = self._pixels.get(id(image))
        if known is None:
            head = f"{image.mode} {image.size}".encode()
            known = hashlib.sha256(head + image.tobytes()).hexdigest()
            self._pixels[id(image)] = known
            finalize(image, self._pixels.pop, id(image), None)
        return known


def _whose(given: Any) -> dict[str, Any]:
    """Return what is known of a model beyond its name."""
    if given == "pocket":
        # Its weights and rules are part of this package.
        return {"package": version("socratic-agents")}
    if isinstance(given, str) and (folder := Path(given).expanduser()).is_dir():
        return {"folder": _fingerprint(folder)}
    return {}


def _fingerprint(folder: Path) -> str:
    """Return what tells a model's folder from another: names, sizes, small files."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
            if path.suffix == ".json":
                digest.update(path.read_bytes())
    return digest.hexdigest()
