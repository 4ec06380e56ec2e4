"""Yes/no questions about the pocket world, and the exact oracle's answers."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from socratic_agents.core.errors import PromptError
from socratic_agents.pocket.prompt_parser import read_wish
from socratic_agents.pocket.scene import Scene
from socratic_agents.pocket.vocabulary import meaning, words_of

if TYPE_CHECKING:
    from socratic_agents.pocket.prompt_parser import ThingWish, Wish
    from socratic_agents.pocket.scene import Thing

__all__ = ("truth",)

COUNTS = {
    "is there one object": 1,
    "is there only one object": 1,
    "are there two objects": 2,
}
"""Question to the number of objects at which the answer is yes."""

_THING = "(?:(?:size|colour) )*(?:shape|thing)"
_THINGS = re.compile(
    f"is there an? {_THING}|"
    f"is the {_THING} (?:size|colour)|"
    f"is the {_THING} relation(?: of)? the {_THING}"
)
_GROUND = re.compile("is the ground background|is there an? background ground")


def truth(question: str, scene: Scene) -> bool:
    """Return whether the true answer to a yes/no question about a scene is yes.

    One object, or one pair of different objects, for which all words hold is enough.

    Args:
        question: Such as ``is there a tiny crimson ball ?``,
            ``is the ball above the box ?``, ``is the ball tiny ?``,
            ``is the background ivory ?`` or ``are there two objects ?``, in
            canonical or foreign words and any case.
        scene: What is shown.

    Raises:
        UnknownWordError: If the pocket world does not know a word.
        PromptError: If this is no question of these forms.
    """
    text = " ".join(words_of(question))
    if text in COUNTS:
        return len(scene.things) == COUNTS[text]
    text = re.sub("^does the image show ", "is there ", text)
    known = {word: meaning(word) for word in text.split()}
    kinds = " ".join(
        word if found is None or found.kind == "filler" else found.kind
        for word, found in ((word, known[word]) for word in text.split())
    )
    if _GROUND.fullmatch(kinds):
        return scene.background in {
            found.canonical for found in known.values() if found
        }
    wish = read_wish(text)
    if not _THINGS.fullmatch(kinds):
        message = (
            "expected a question such as 'is there a red circle ?' or 'is the circle "
            f"above the square ?', got {question[:80]!r}; ask about one thing at a time"
        )
        raise PromptError(message)
    return _shows(scene, wish)


def _shows(scene: Scene, wish: Wish) -> bool:
    return any(
        all(map(_is, things, wish.things))
        and wish.relation in {None, Scene(things, scene.background).relation()}
        for things in itertools.permutations(scene.things, len(wish.things))
    )


def _is(thing: Thing, wish: ThingWish) -> bool:
    return all(
        getattr(wish, kind) in {None, getattr(thing, kind)}
        for kind in ("shape", "colour", "size")
    )
