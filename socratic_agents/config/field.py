"""Field: what is known of one setting besides its type and range."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import Flag, StrEnum, auto
from typing import Any

__all__ = ("Decides", "Field", "Group", "Part")


class Decides(Flag):
    """What a setting has a say in."""

    IMAGE = auto()
    """What the generator draws from a prompt and a seed."""
    ROUNDING = auto()
    """The last bits of what a model returns."""
    CAPTION = auto()
    """What the captioner says of an image."""
    SCORE = auto()
    """How an image is scored."""
    ANSWER = auto()
    """What the language model answers."""
    COST = auto()
    """How long a call of a model takes, and how much memory."""
    PLACE = auto()
    """Where calls run, how many at once, and how long one waits for them."""
    SEARCH = auto()
    """What is tried, when to stop, and what is returned."""
    PRIVACY = auto()
    """Who may see prompts, images and answers."""


class Part(Flag):
    """A model whose calls a setting is about."""

    NONE = 0
    GENERATOR = auto()
    CAPTIONER = auto()
    SCORER = auto()
    LLM = auto()


class Group(StrEnum):
    """The panel of the help, and the section of the page, in which a setting stands."""

    MODELS = "Models"
    SEARCH = "Search"
    BUDGET = "Budget"
    IMAGE = "Image"
    CAPTIONER = "Captioner"
    LLM = "Language model"
    HARDWARE = "Hardware"
    TEMPLATES = "Templates"
    OUTPUT = "Output"


@dataclass(frozen=True)
class Field:
    """A setting: what it is called and what it means, but for its type and range."""

    name: str
    help: str
    """One line, whole sentences or a part of one, for options and docs."""
    _: KW_ONLY
    group: Group
    decides: Decides
    of: Part = Part.NONE
    """Whose calls it is about; of none: about the whole."""
    default: Any = None
    """Where neither profile nor preset nor anybody else says anything."""
    unset: str = ""
    """What ``None`` stands for, where that is the default."""
    metavar: str = "NAME"
    """What an option's value is, or its unit; a flag has none."""
    secret: bool = False
    """Never shown and never an option, which would stand in the list of processes."""
    argument: bool = False
    """Whether it is an argument of a pipeline's call, under this name."""
    server: bool = False
    """Whether an images server takes it."""
    at_opening: bool = False
    """Whether a generator that is open already cannot take it any more."""
    file: bool = False
    """Whether it may name files or folders: what is in them decides, and their paths are
    nobody's business."""
    in_every_key: bool = False
    """Whether keys of cached calls hold it at its default, too. So it is for the first
    settings; leave it out for a new one, so that what was cached is still found."""

    @property
    def is_flag(self) -> bool:
        """Whether it is switched on or off."""
        return isinstance(self.default, bool)

    @property
    def is_text(self) -> bool:
        """Whether it is prose: a call takes as long whatever it says."""
        return self.metavar == "TEXT"

    @property
    def option(self) -> str:
        """What the command line calls it."""
        return f"--{self.name.replace('_', '-')}"
