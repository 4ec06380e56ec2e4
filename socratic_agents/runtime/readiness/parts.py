"""Parts: the image models that the settings name, where they are, and how large."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from socratic_agents.config.backends import choose_backend
from socratic_agents.config.catalog import MODELS, REVISIONS
from socratic_agents.config.messages import public_value
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.assembly.weights_file import read_weights_file
from socratic_agents.models.clip import cached_weights, hub_place
from socratic_agents.models.hub import cached_folder
from socratic_agents.models.loading import local_folder
from socratic_agents.runtime.captioners import CAPTIONERS
from socratic_agents.runtime.generators import GENERATORS, POCKET, model_source
from socratic_agents.runtime.open_models import SCORERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from socratic_agents.config.backends import Backend
    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.image_models import ModelName

__all__ = ("Part", "Weights", "model_parts", "read_weights")

INDEXES = {
    "diffusers": "model_index.json",
    "transformers": "config.json",
    "clip": "open_clip_config.json",
}
"""Back ends that open a model by a hub id or from a folder, with the file that every
model of theirs has."""
WHATS = {
    "diffusers": "a text-to-image model",
    "transformers": "an image-text-to-text model",
    "clip": "a CLIP model",
}
"""What each of them opens, in words for messages."""
SHARED = ("captioner", "llm")
"""Names of a part that another one plays as well."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One image model of the settings."""

    role: str
    """The setting that names it."""
    name: str
    backend: str
    """What opens it; ``object`` where it is one already, and the name of another part
    where that plays it."""

    @property
    def is_loaded(self) -> bool:
        """Whether its weights are loaded into this machine's memory by its name."""
        return self.backend in INDEXES

    @property
    def is_own(self) -> bool:
        """Whether it is a model with a licence of its own, as far as is known."""
        return self.backend not in {*SHARED, "object"}

    @property
    def index(self) -> str:
        """The file that every model of its kind has."""
        return INDEXES[self.backend]

    @property
    def what(self) -> str:
        """What is expected of it, in words."""
        return WHATS[self.backend]

    @property
    def file(self) -> Path | None:
        """The one file that it is, if it is one of this machine."""
        path = Path(self.name).expanduser()
        with suppress(OSError):  # too long for a path
            return path if self.backend == "diffusers" and path.is_file() else None
        return None

    @property
    def folder(self) -> Path | None:
        """Its folder; ``None``: it is of the hub.

        Raises:
            LoadError: If it can only be a folder, and there is none.
        """
        if self.backend == "clip":
            path = Path(self.name).expanduser()
            return path if path.is_dir() else None
        return local_folder(self.name)

    @property
    def kept(self) -> Path | None:
        """Its folder on this machine, if it is known without asking the hub."""
        if self.backend == POCKET:
            role = "generator" if self.role == "final_generator" else self.role
            return Path(model_source(POCKET, cast("ModelName", role)))
        if not self.is_loaded or self.file is not None:
            return None
        with suppress(ConfigurationError, ImportError):  # it is told when it is opened
            if self.folder is not None or self.hub_place is None:
                return self.folder
            name, revision = self.hub_place
            if self.backend == "clip":
                return cached_weights((name, revision))
            return cached_folder(name, index=self.index, revision=revision)
        return None

    @property
    def shown(self) -> str:
        """Its name as it may be shown."""
        return str(public_value(self.name))

    @property
    def note(self) -> str:
        """What is said of one that is not loaded by name."""
        known = {
            "object": "an object of a program",
            POCKET: "embedded in this package",
            "images-server": "drawn elsewhere",
            "captioner": "by how surely the captioner says yes",
            "llm": "the language model looks at the images",
        }
        return known.get(self.backend, f"opened by the back end {self.backend!r}")

    @property
    def hub_place(self) -> tuple[str, str | None] | None:
        """The hub's repository and the revision there; ``None``: it has none."""
        if self.backend == "clip":
            return hub_place(self.name)
        return self.name, REVISIONS.get(self.name)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How many numbers a model has."""

    parameters: float
    """All of them."""
    largest: float
    """Those of its largest part."""


def model_parts(settings: Settings) -> Iterator[Part]:
    """Yield the image models that the settings name.

    Args:
        settings: Name them.
    """
    for role, registry, default in (
        ("generator", GENERATORS, "diffusers"),
        ("final_generator", GENERATORS, "diffusers"),
        ("captioner", CAPTIONERS, "transformers"),
        ("scorer", SCORERS, "clip"),
    ):
        given = getattr(settings, role)
        if given is None:
            continue
        if not isinstance(given, str) or given in SHARED:
            kind = given if isinstance(given, str) else "object"
            yield Part(role=role, name=str(settings.public()[role]), backend=kind)
            continue
        found: Backend[Any] = choose_backend(registry, given, default=default)
        yield Part(role=role, name=given, backend=found.name)


def read_weights(part: Part, folder: Path | None) -> Weights | None:
    """Return how many numbers a model has: by its files, else by the catalog.

    Args:
        part: The model, which is there if it is a file.
        folder: Where its files are, if they are here.

    Returns:
        ``None`` where neither says.
    """
    if part.file is not None:
        with suppress(ConfigurationError):  # told where it is looked for
            shapes = read_weights_file(part.file).shapes.values()
            total = sum(map(math.prod, shapes))
            return Weights(parameters=total, largest=total)
    if folder is not None:
        whole = (folder / INDEXES["diffusers"]).is_file()
        places = [p for p in folder.iterdir() if p.is_dir()] if whole else [folder]
        sizes = list(map(_parameters, places))
        if total := sum(sizes):
            return Weights(parameters=total, largest=max(sizes))
    known = MODELS.get(part.name)
    if known is None or known.weights is None:
        return None
    each = 10**9 / 2  # the catalog counts bytes of 16 bits
    return Weights(
        parameters=known.weights * each,
        largest=(known.largest or known.weights) * each,
    )


def _parameters(folder: Path) -> int:
    """Return how many numbers the weights in a folder have, by their headers.

    Of several variants the largest counts, since only one is read.
    """
    counts: dict[str, int] = {}
    for file in folder.glob("*.safetensors"):
        # unet.fp16.safetensors, or model.fp16-00001-of-00002.safetensors
        variant = file.stem.partition(".")[2].partition("-")[0]
        counts[variant] = counts.get(variant, 0) + _numbers(file)
    return max(counts.values(), default=0)


def _numbers(file: Path) -> int:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(length, 2**27)))
        return sum(
            math.prod(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0
