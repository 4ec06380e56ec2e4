"""The words of the pocket world: its own, and those that people use instead."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = (
    "BACKGROUNDS",
    "COLOURS",
    "FILLERS",
    "FOREIGN",
    "GROUNDS",
    "INVERSE",
    "LEXICON",
    "NUMBERS",
    "OBJECT_WORDS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "Word",
    "meaning",
    "words_of",
)

SHAPES = ("circle", "square", "triangle", "cross", "ring")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "cyan")
SIZES = ("small", "large")
BACKGROUNDS = ("white", "black", "gray", "brown")
RELATIONS = ("left", "right", "above", "below")
INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above"}
"""How the second of two objects stands to the first."""

FOREIGN: dict[str, tuple[str, str, str]] = {
    "circle": ("ball", "disc", "orb"),
    "square": ("box", "block", "tile"),
    "triangle": ("pyramid", "wedge", "cone"),
    "cross": ("plus", "crucifix", "crossbar"),
    "ring": ("hoop", "donut", "loop"),
    "red": ("crimson", "scarlet", "ruby"),
    "orange": ("tangerine", "amber", "apricot"),
    "yellow": ("golden", "lemon", "canary"),
    "green": ("emerald", "jade", "olive"),
    "blue": ("azure", "cobalt", "sapphire"),
    "purple": ("violet", "plum", "lavender"),
    "pink": ("rose", "fuchsia", "salmon"),
    "cyan": ("turquoise", "teal", "aqua"),
    "small": ("tiny", "little", "mini"),
    "large": ("big", "huge", "giant"),
    "white": ("snowy", "ivory", "chalky"),
    "black": ("ebony", "inky", "sooty"),
    "gray": ("ashen", "slate", "silver"),
    "brown": ("chocolate", "umber", "walnut"),
    "left": ("west", "leftward", "leftwards"),
    "right": ("east", "rightward", "rightwards"),
    "above": ("over", "atop", "upon"),
    "below": ("under", "beneath", "underneath"),
}
"""Words that people use and that the generator never saw, three for each of its own."""

FILLERS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "on",
        "and",
        "with",
        "in",
        "to",
        "at",
        "is",
        "are",
        "it",
        "there",
        "that",
        "this",
        "which",
        "side",
        "from",
        "against",
        "picture",
        "image",
        "photo",
        "photograph",
        "drawing",
        "painting",
        "scene",
        "showing",
        "shows",
        "draw",
        "please",
        "placed",
        "sits",
        "sitting",
        "lies",
        "lying",
        "standing",
        "stands",
        "floating",
        "plain",
        "simple",
        "single",
        "colored",
        "coloured",
        "one",
        "shaped",
    ]
)
GROUNDS = frozenset(("background", "backdrop"))
OBJECT_WORDS = frozenset(("thing", "object", "shape", "something"))
NUMBERS = {"two": 2, "both": 2, "pair": 2}


@dataclass(frozen=True)
class Word:
    """One word's meaning: its kind, and its canonical form."""

    kind: str
    """shape, colour, size, background, relation, ground, thing, number or filler."""
    canonical: str


def _lexicon() -> dict[str, Word]:
    kinds = {
        "shape": SHAPES,
        "colour": COLOURS,
        "size": SIZES,
        "background": BACKGROUNDS,
        "relation": RELATIONS,
    }
    lexicon = {"grey": Word("background", "gray")}
    for kind, canonicals in kinds.items():
        for canonical in canonicals:
            for word in (canonical, *FOREIGN[canonical]):
                lexicon[word] = Word(kind, canonical)
    lexicon.update((word, Word("filler", word)) for word in FILLERS)
    lexicon.update((word, Word("ground", "background")) for word in GROUNDS)
    lexicon.update((word, Word("thing", "thing")) for word in OBJECT_WORDS)
    lexicon.update((word, Word("number", word)) for word in NUMBERS)
    return lexicon


LEXICON = _lexicon()


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case and without punctuation."""
    return re.findall(r"[^\W\d_]+", text.lower())


def meaning(word: str) -> Word | None:
    """Return what a word means in the pocket world, or ``None`` if it is unknown."""
    found = LEXICON.get(word)
    if found is None and word.endswith("s"):
        singular = LEXICON.get(word[:-1]) or LEXICON.get(word.removesuffix("es"))
        found = singular if singular and singular.kind in {"shape", "thing"} else None
    return found
