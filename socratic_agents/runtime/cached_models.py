"""Cached calls: what the image models do, taken from a journal where it is known.

A call's key holds everything that decides its answer: the model with its revision, the
prompt and the seed, or the pixels of the image. What only decides how fast it comes,
such as the device, is left out.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from PIL.Image import Image

from socratic_agents.config.catalog import REVISIONS
from socratic_agents.config.field import Decides
from socratic_agents.config.fields import FIELDS, deciding
from socratic_agents.config.final import final_settings
from socratic_agents.config.loras import ADAPTER_CONFIG, parse_loras
from socratic_agents.core.image_map import WeakImageMap
from socratic_agents.llm.usage import current_meter
from socratic_agents.runtime.captioners import as_reader
from socratic_agents.runtime.image_models import GENERATE, READ_TEXT, SCORE
from socratic_agents.storage.journal import key_of
from socratic_agents.storage.object_identity import object_identity
from socratic_agents.storage.safe_png import decode_png

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.image_models import CallKind, ImageModels
    from socratic_agents.storage.journal import Journal
    from socratic_agents.storage.objects import ImageStore

__all__ = (
    "language_model_identity",
    "max_tokens_of",
    "model_identity",
    "tell_unidentified",
    "with_journal",
)

_log = logging.getLogger(__name__)

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")

PARTS = {
    "generator": Decides.IMAGE,
    "captioner": Decides.CAPTION,
    "scorer": Decides.SCORE,
}
"""What each image model returns."""


DECIDING_FILES = tuple(name for name, field in FIELDS.items() if field.file)
"""Settings that may name files beside the models themselves."""


def model_identity(settings: Settings, part: str) -> dict[str, Any]:
    """Return what tells one model's answers from another's, as JSON.

    Args:
        settings: Name the models.
        part: ``generator``, ``captioner`` or ``scorer``.
    """
    given = settings.public()[part]
    facts: dict[str, Any] = {"model": given, "revision": REVISIONS.get(given)}
    facts |= _deciding(settings, PARTS[part])
    facts |= _files(settings) if part == "generator" else {}
    if part == "captioner" and given == "llm":
        facts["looks"] = language_model_identity(settings)
    return facts | _beyond_its_name(getattr(settings, part))


def language_model_identity(settings: Settings) -> dict[str, Any]:
    """Return what tells one language model's answers from another's, as JSON."""
    facts = {"llm": settings.public()["llm"], **_deciding(settings, Decides.ANSWER)}
    if facts["llm"] == "captioner":
        facts["writes"] = model_identity(settings, "captioner")
        facts["seed"] = settings.seed
    return facts | _beyond_its_name(settings.llm)


def tell_unidentified(settings: Settings) -> None:
    """Say which models are not recognised by a later run, a line for each."""
    for part in (*PARTS, "final_generator", "llm"):
        given = getattr(settings, part)
        if given is None or isinstance(given, str) or object_identity(given):
            continue
        _log.warning(
            "expected %s to be told from others by public fields, got %s: its answers "
            "are kept, but no later run reuses them; give it an attribute 'identity', "
            "text that changes whenever its answers may",
            part,
            settings.public()[part],
        )


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


def with_journal(
    models: ImageModels,
    journal: Journal,
    settings: Settings,
    *,
    images: ImageStore,
) -> ImageModels:
    """Return models that do no call again that a journal knows.

    Args:
        models: What the image models do.
        journal: Is asked first, and told of every answer. A failure is not kept.
        settings: Name the models.
        images: Keeps the images.
    """
    cache, final = _CachedCalls(journal, images, settings), final_settings(settings)
    opened = key_of("opened", model_identity(settings, "generator"))

    def noted() -> dict[str, Any]:
        said = [one for one in models.notices() if one.startswith("generator: ")]
        more = {"notices": said} if said else {}
        return {"max_tokens": models.max_tokens, **more}

    def notices() -> tuple[str, ...]:
        known = (journal.get(opened) or {}).get("notices", ())
        return tuple(dict.fromkeys((*known, *models.notices())))

    generate = cache.generating(models.generate, settings, opened=noted)
    last, guided = models.generate_final, models.generate_guided
    if last is not None and final is not None:
        last = cache.generating(last, final)
    return replace(
        models.map(cache.wrap),
        generate=generate,
        generate_final=last,
        generate_guided=guided and cache.generating(guided, settings, opened=noted),
        notices=notices,
    )


class _CachedCalls:
    """Each call of the image models as entries of one journal."""

    def __init__(
        self, journal: Journal, images: ImageStore, settings: Settings
    ) -> None:
        self._journal, self._images = journal, images
        self._settings = settings
        self._drawn: WeakValueDictionary[str, Image] = WeakValueDictionary()
        self._pixels: WeakImageMap[str] = WeakImageMap()

    def wrap(
        self, kind: CallKind[Output], call: Callable[Inputs, Awaitable[Output]]
    ) -> Callable[Inputs, Awaitable[Output]]:
        """Return a call whose answers are JSON in the journal."""
        journal, codec = self._journal, kind.codec
        if codec is None:
            return call
        identity = model_identity(self._settings, kind.model)
        if kind.journal == READ_TEXT.journal and self._settings.reader:
            identity = model_identity(as_reader(self._settings), "captioner")
        if kind.journal == SCORE.journal and self._settings.scorer == "captioner":
            identity = model_identity(self._settings, "captioner") | {"score": "p_yes"}

        async def ask(*inputs: Inputs.args, **named: Inputs.kwargs) -> Output:
            async def do() -> dict[str, Any]:
                return codec.encode(await call(*inputs, **named))

            key = key_of(kind.journal, identity, *map(self._decisive, inputs))
            return codec.decode(await journal.cached_call(kind.journal, key, do))

        return ask

    def generating(
        self,
        draw: Callable[..., Awaitable[Image]],
        settings: Settings,
        *,
        opened: Callable[[], dict[str, Any]] | None = None,
    ) -> Callable[..., Awaitable[Image]]:
        """Return a generator whose images are objects of the journal's folder.

        Args:
            draw: Draws what is not known, from a prompt, a seed and perhaps a guidance.
            settings: Name it.
            opened: Returns what is noted of it, once it was opened.
        """
        journal, kind = self._journal, GENERATE.journal
        identity = model_identity(settings, "generator")
        noted = key_of("opened", identity)

        async def generate(prompt: str, seed: int, *guidance: float) -> Image:
            key = key_of(kind, identity, prompt, seed, *guidance)
            async with journal.single_flight(key):
                # While it lives it need not be decoded, nor be on the disk already.
                image = self._drawn.get(key) or self._read(key)
                if image is not None:
                    journal.reused[kind] += 1
                    current_meter().add_images()  # it belongs to this refinement, too
                    if opened is not None and journal.get(noted) is None:
                        journal.get_or_copy_from_cache("opened", noted)
                else:
                    image = await draw(prompt, seed, *guidance)
                    if opened is not None and journal.get(noted) is None:
                        journal.put("opened", noted, opened())
                    journal.put_async(kind, key, self._writing(image, prompt, seed))
                self._drawn[key] = image
                return image

        return generate

    def _read(self, key: str) -> Image | None:
        """Return a known image, if it is still as it was written."""
        journal = self._journal
        value = journal.get_or_copy_from_cache(GENERATE.journal, key)
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
        self._images.register(image, value["object"])
        return image

    def _writing(
        self, image: Image, prompt: str, seed: int
    ) -> Callable[[], dict[str, Any]]:
        def write() -> dict[str, Any]:
            path = self._images.add(image, prompt=prompt, seed=seed)
            tokens = image.info.get("truncated_tokens", 0)
            return {"object": path, "truncated_tokens": tokens}

        return write

    def _decisive(self, value: object) -> object:
        """Return what a key holds of an input: of an image, the hash of its pixels."""
        if not isinstance(value, Image):
            return value
        known = self._pixels.get(value)
        if known is None:
            head = f"{value.mode} {value.size}".encode()
            known = hashlib.sha256(head + value.tobytes()).hexdigest()
            self._pixels[value] = known
        return known


def _beyond_its_name(given: Any) -> dict[str, Any]:
    """Return what is known of a model beyond its name."""
    if given == "pocket":
        # Its weights and rules are part of this package.
        return {"package": version("socratic-agents")}
    if given is None:
        return {}
    if not isinstance(given, str):
        # What nobody can tell from others shares its answers with nobody.
        return {"object": object_identity(given) or secrets.token_hex(16)}
    return _content(given)


def _files(settings: Settings) -> dict[str, Any]:
    """Return what is in the files that settings name beside the generator."""
    named = {name: getattr(settings, name) for name in DECIDING_FILES}
    sources = {
        name: [*_lora_files(value)] if name == "lora" else [value]
        for name, value in named.items()
        if value is not None
    }
    contents = {name: [*map(_content, found)] for name, found in sources.items()}
    return {"files": contents} if contents else {}


def _lora_files(given: Any) -> Iterator[str]:
    for one in parse_loras(given):
        yield one.source
        path = Path(one.source).expanduser()
        beside = path.with_name(ADAPTER_CONFIG)
        if path.is_file() and beside.is_file():
            yield str(beside)


def _content(name: str) -> dict[str, str]:
    """Return what tells a file or a folder from others of its name; ``{}`` of the hub."""
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return {"folder": _fingerprint(path)}
        facts = path.stat()
    except (OSError, ValueError):  # it is no path
        return {}
    return {"file": _sha256(path, facts.st_size, facts.st_mtime_ns)}


@cache
def _sha256(path: Path, size: int, changed: int) -> str:  # noqa: ARG001 - what tells that it must be read again
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
