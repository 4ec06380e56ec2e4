"""What the pocket chat model knows of words, and how it learns the rest.

Of every three foreign words it knows two. The role of an unknown word it reads from
its place in the sentence; its meaning it learns from examples, or by trying.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from socratic_agents.core.errors import PromptError
from socratic_agents.pocket.prompt_parser import ObjectSpec, SceneSpec, parse_words
from socratic_agents.pocket.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    FOREIGN,
    INVERSE,
    LEXICON,
    RELATIONS,
    SHAPES,
    SIZES,
    Word,
    meaning,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = (
    "CHOICES",
    "HELD_OUT",
    "MARK",
    "infer_meanings",
    "parse_known",
    "parse_literally",
    "reordered",
    "slots",
    "translate",
    "unknown_words",
    "variants",
)

HELD_OUT = frozenset(words[2] for words in FOREIGN.values())
"""The third of the foreign words that the chat model was not taught."""

CHOICES = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "background": BACKGROUNDS,
    "relation": RELATIONS,
}
"""Kind of word to the canonical words that it can mean."""

MARK = "?"
"""Stands before a word whose meaning is not known."""


def parse_known(prompt: str) -> SceneSpec | None:
    """Read a prompt with the words that the chat model knows.

    An unknown word stays in the spec as it is, behind a ``MARK``. ``None`` if the
    prompt makes no sense in the pocket world.
    """
    return _parse(_words(words_of(prompt)), prompt)


def parse_literally(prompt: str) -> SceneSpec | None:
    """Read a prompt, and leave every word as it is; ``None`` if it makes no sense."""
    texts = words_of(prompt)
    words = [
        Word(word.kind, _singular(text)) if word.kind in CHOICES else word
        for text, word in zip(texts, _words(texts), strict=True)
    ]
    return _parse(words, prompt)


def _words(texts: list[str]) -> list[Word]:
    words = [_taught(text) for text in texts]
    # From the last to the first: what a relation is shows from what follows it.
    for place in reversed(range(len(texts))):
        if words[place] is None:
            unknown = MARK + _singular(texts[place])
            words[place] = Word(_role(texts, words, place), unknown)
    return [word for word in words if word]


def _parse(words: list[Word], prompt: str) -> SceneSpec | None:
    try:
        return parse_words(words, prompt)
    except PromptError:
        return None


def _singular(text: str) -> str:
    """Return a word of the lexicon without its plural ending, if it has one."""
    stems = (text, text.removesuffix("s"), text.removesuffix("es"))
    return next((stem for stem in stems if stem in LEXICON), text)


def _taught(text: str) -> Word | None:
    singular = text.removesuffix("s")
    return None if {text, singular} & HELD_OUT else meaning(text)


def _role(texts: list[str], words: list[Word | None], place: int) -> str:
    """Return what kind of word must stand here, from the words around it."""

    def kind(at: int) -> str:
        word = words[at] if 0 <= at < len(words) else Word("end", "")
        return word.kind if word else "unknown"

    if kind(place + 1) == "ground":
        return "background"
    start = end = place
    while kind(start - 1) not in {"filler", "end", "relation", "ground"}:
        start -= 1
    while kind(end + 1) not in {"filler", "end", "relation", "ground"}:
        end += 1
    group = [kind(at) for at in range(start, end + 1)]
    inner = place - start
    joined = any(word and word.kind == "relation" for word in words) or "and" in texts
    more = sum(text in {"a", "an"} for text in texts[end + 1 :])
    grounded = any(word and word.kind == "ground" for word in words[end + 1 :])
    if not joined and place == end and more - grounded > 0:
        # A first object, no word yet for how it stands to the second: this is it.
        return "relation"
    if "shape" not in group and place == end:
        return "shape"
    if "colour" in group or (inner == 0 and len(group) > 2):
        return "size"
    return "colour"


def slots(spec: SceneSpec) -> dict[str, str]:
    """Return every word of a spec by its place, such as ``colour 0``."""
    found = {
        f"{kind} {place}": getattr(obj, kind)
        for place, obj in enumerate(spec.objects)
        for kind in ("shape", "colour", "size")
    }
    found |= {"relation": spec.relation, "background": spec.background}
    return {place: word for place, word in found.items() if word}


def unknown_words(spec: SceneSpec) -> dict[str, str]:
    """Return each unknown word of a spec and its kind, in a fixed order."""
    return {
        word.removeprefix(MARK): place.split()[0]
        for place, word in slots(spec).items()
        if word.startswith(MARK)
    }


def infer_meanings(asked: SceneSpec, written: SceneSpec) -> dict[str, str]:
    """Return what the unknown words of one prompt became in another.

    The other may name the objects in the other order; it is read in the order in
    which more of the known words agree.
    """

    def shared(other: SceneSpec) -> int:
        theirs = slots(other)
        return sum(theirs.get(place) == word for place, word in slots(asked).items())

    best = max((written, reordered(written)), key=shared)
    theirs = slots(best)
    return {
        word.removeprefix(MARK): theirs[place]
        for place, word in slots(asked).items()
        if word.startswith(MARK) and not theirs.get(place, MARK).startswith(MARK)
    }


def translate(spec: SceneSpec, meanings: Mapping[str, str]) -> SceneSpec:
    """Return a spec in canonical words; what has no meaning is left out."""

    def known(word: str | None) -> str | None:
        if word is None or not word.startswith(MARK):
            return word
        return meanings.get(word.removeprefix(MARK))

    return SceneSpec(
        tuple(
            ObjectSpec(known(t.shape), known(t.colour), known(t.size))
            for t in spec.objects
        ),
        known(spec.relation),
        known(spec.background),
    )


def variants(spec: SceneSpec) -> Iterator[SceneSpec]:
    """Yield specs that ask for the same, and then for more where that is open."""
    sizes = [spec]
    for size in reversed(SIZES):
        sized = tuple(replace(t, size=t.size or size) for t in spec.objects)
        sizes += [replace(spec, objects=sized)] if sized != spec.objects else []
    grounds = [spec.background, *(BACKGROUNDS if spec.background is None else ())]
    for ground in grounds:
        for sized_spec in sizes:
            grounded = replace(sized_spec, background=ground)
            yield grounded
            yield reordered(grounded)


def reordered(spec: SceneSpec) -> SceneSpec:
    """Return a spec that means the same, its objects named in the other order."""
    relation = INVERSE.get(spec.relation or "", spec.relation)
    return replace(spec, objects=spec.objects[::-1], relation=relation)
