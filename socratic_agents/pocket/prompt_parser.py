"""What a prompt of the pocket world asks for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from socratic_agents.core.errors import PromptError, UnknownWordError
from socratic_agents.pocket.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    LEXICON,
    NUMBERS,
    SHAPES,
    Word,
    meaning,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("ObjectSpec", "SceneSpec", "check", "parse_prompt", "parse_words")


@dataclass(frozen=True)
class ObjectSpec:
    """What is asked of one object; ``None`` where nothing is."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class SceneSpec:
    """What a prompt asks for, in canonical words; ``None`` where nothing is."""

    objects: tuple[ObjectSpec, ...]
    """One or two objects, in the order of the prompt."""
    relation: str | None = None
    """How the first stands to the second."""
    background: str | None = None


def parse_prompt(prompt: str) -> SceneSpec:
    """Read what a prompt of the pocket world asks for.

    Args:
        prompt: Canonical or foreign words, in any case.

    Raises:
        UnknownWordError: If the pocket world does not know a word.
        PromptError: If the words ask for something that it cannot show.
    """
    found = []
    for text in words_of(prompt):
        word = meaning(text)
        if word is None:
            raise UnknownWordError(_unknown(text))
        found.append(word)
    return parse_words(found, prompt)


def parse_words(words: Iterable[Word], prompt: str) -> SceneSpec:
    """Put the words of a prompt together.

    Args:
        words: In their order.
        prompt: The text itself, for messages.

    Raises:
        PromptError: If the words ask for something that cannot be shown.
    """
    reader = _Reader(prompt)
    for word in words:
        reader.take(word)
    return reader.spec()


def check(prompt: str) -> None:
    """Raise a clear error unless the pocket world can show what is asked.

    Raises:
        UnknownWordError: If the pocket world does not know a word.
        PromptError: If the words ask for something that it cannot show.
    """
    parse_prompt(prompt)


class _Reader:
    """Takes word after word, and gathers them into a spec."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._objects: list[ObjectSpec] = []
        self._open: dict[str, str] = {}
        self._last: Word | None = None
        self._relation: str | None = None
        self._background: str | None = None
        self._ground: str | None = None
        self._number = 1

    def take(self, word: Word) -> None:
        if word.kind == "filler":
            return
        if word.kind == "ground":
            self._close_ground()
        elif word.kind == "background":
            self._ground = word.canonical
        elif word.kind == "relation":
            self._close()
            if self._relation:
                self._refuse("one relation at most")
            self._relation = word.canonical
        elif word.kind == "number":
            self._number = NUMBERS[word.canonical]
        elif word.kind in {"shape", "thing"}:
            shape = word.canonical if word.kind == "shape" else None
            spec = ObjectSpec(shape=shape, **self._open)
            self._objects += [spec] * self._number
            self._open, self._number = {}, 1
        else:
            if word.kind in self._open:
                self._close()
            self._open[word.kind] = word.canonical

    def _close_ground(self) -> None:
        if self._ground is None:
            if not self._open.get("colour"):
                return
            self._refuse(f"a background of {', '.join(BACKGROUNDS)}")
        self._background, self._ground = self._ground, None

    def _close(self) -> None:
        """Give adjectives that no noun followed to the object before them."""
        if not self._open:
            return
        last = self._objects[-1] if self._objects else None
        if last and all(getattr(last, kind) is None for kind in self._open):
            self._objects[-1] = ObjectSpec(
                shape=last.shape,
                colour=self._open.get("colour", last.colour),
                size=self._open.get("size", last.size),
            )
        else:
            self._objects.append(ObjectSpec(**self._open))
        self._open = {}

    def spec(self) -> SceneSpec:
        self._close()
        if self._ground:
            self._refuse(f"'{self._ground}' before 'background' only")
        if not 1 <= len(self._objects) <= 2:
            self._refuse(f"one or two objects, not {len(self._objects)}")
        if self._relation and len(self._objects) == 1:
            self._refuse("two objects where there is a relation")
        return SceneSpec(tuple(self._objects), self._relation, self._background)

    def _refuse(self, expected: str) -> NoReturn:
        message = (
            f"the pocket world can show {expected}; got {self._prompt[:80]!r}; "
            "rephrase it, or use --profile local or api"
        )
        raise PromptError(message)


def _unknown(word: str) -> str:
    known = [text for text, other in LEXICON.items() if other.kind != "filler"]
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean '{near[0]}'? It" if near else "it"
    return (
        f"the pocket world does not know the word '{word[:40]}'; {hint} knows "
        f"{', '.join(SHAPES)} in {', '.join(COLOURS)} and their synonyms; for anything "
        "else use --profile local (your GPU) or --profile api"
    )
