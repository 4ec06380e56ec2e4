"""Yes/no questions about the pocket world, and the exact oracle's answers."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from socratic_agents.core.errors import PromptError
from socratic_agents.pocket.prompt_parser import parse_prompt
from socratic_agents.pocket.scene import Scene
from socratic_agents.pocket.vocabulary import meaning, words_of

if TYPE_CHECKING:
    from socratic_agents.pocket.prompt_parser import ObjectSpec, SceneSpec
    from socratic_agents.pocket.scene import SceneObject

__all__ = ("true_answer",)

COUNTS = {
    "is there one object": 1,
    "is there only one object": 1,
    "are there two objects": 2,
}
"""Question to the number of objects at which the answer is yes."""

_OBJECT = "(?:(?:size|colour) )*(?:shape|thing)"
_OBJECTS = re.compile(
    f"is there an? {_OBJECT}|"
    f"is the {_OBJECT} (?:size|colour)|"
    f"is the {_OBJECT} relation(?: of)? the {_OBJECT}"
)
_GROUND = re.compile("is the ground background|is there an? background ground")


def true_answer(question: str, scene: Scene) -> bool:
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
        return len(scene.objects) == COUNTS[text]
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
    spec = parse_prompt(text)
    if not _OBJECTS.fullmatch(kinds):
        message = (
            "expected a question such as 'is there a red circle ?' or 'is the circle "
            f"above the square ?', got {question[:80]!r}; ask about one thing at a time"
        )
        raise PromptError(message)
    return _shows(scene, spec)


def _shows(scene: Scene, spec: SceneSpec) -> bool:
    return any(
        all(map(_matches, objects, spec.objects))
        and spec.relation in {None, Scene(objects, scene.background).relation()}
        for objects in itertools.permutations(scene.objects, len(spec.objects))
    )


def _matches(obj: SceneObject, spec: ObjectSpec) -> bool:
    return all(
        getattr(spec, kind) in {None, getattr(obj, kind)}
        for kind in ("shape", "colour", "size")
    )
