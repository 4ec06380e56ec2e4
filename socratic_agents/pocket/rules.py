"""The rules by which the pocket chat model plays its roles.

Each role reads the marked blocks of a rendered template and returns the fields of
its answer. ``astray`` asks for an answer that is wrong in a plausible way.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

from socratic_agents.pocket.phrases import phrase
from socratic_agents.pocket.thesaurus import (
    CHOICES,
    learn,
    read,
    slots,
    translate,
    unknowns,
    variants,
)
from socratic_agents.pocket.wishes import Wish
from socratic_agents.pocket.world import Scene, Thing

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("judge", "optimize", "select")


def _block(text: str, name: str) -> str:
    """Return what stands in the last block of this name, or nothing."""
    return (_all_blocks(text, name) or [""])[-1]


def _all_blocks(text: str, name: str) -> list[str]:
    found = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
    return [str(block).strip() for block in found]


def _without(text: str, name: str) -> str:
    return re.sub(rf"<{name}>.*?</{name}>", "", text, flags=re.DOTALL)


def optimize(text: str, chance: random.Random, *, astray: bool) -> dict[str, Any]:
    """Write prompts in canonical words; try meanings for the words it lacks.

    Twice as many as were asked for, the best first: some may have been tried.
    """
    asked = read(_block(_without(text, "examples"), "user_prompt"))
    if asked is None:
        prompt = _block(_without(text, "examples"), "user_prompt")
        return {"reason": "I do not understand it.", "prompts": [f"a {prompt}"]}
    wanted = int(_block(text, "number_of_prompts") or 1)
    meanings = _taught(text, asked)
    open_words = {w: k for w, k in unknowns(asked).items() if w not in meanings}
    attempts = [_Attempt(block, asked) for block in _all_blocks(text, "attempt")]
    incumbent = _Attempt(_block(text, "incumbent"), asked)
    best = next((a for a in reversed(attempts) if a.meanings), incumbent)
    tried = {
        word: [a.meanings[word] for a in attempts if word in a.meanings]
        for word in open_words
    }
    prompts = [
        phrase(variant)
        for guess in _guesses(open_words, best.meanings, tried, wanted, chance)
        for variant in list(variants(translate(asked, meanings | guess)))[
            : 1 if open_words else None
        ]
    ]
    if astray:
        prompts = [_slip(prompt, chance) for prompt in prompts]
    reason = (
        f"I try what {', '.join(open_words)} could mean."
        if open_words
        else "I say it in the words that the generator knows."
    )
    return {"reason": reason, "prompts": list(dict.fromkeys(prompts))[: 2 * wanted]}


def _guesses(
    words: Mapping[str, str],
    best: Mapping[str, str],
    tried: Mapping[str, list[str]],
    wanted: int,
    chance: random.Random,
) -> list[dict[str, str]]:
    """Return meanings to try for the open words, twice as many as are wanted.

    At first all words change at once; once something was tried, one word changes and
    the others keep their best meaning.
    """
    if not words:
        return [{}]
    orders = {}
    for word, kind in words.items():
        order = list(CHOICES[kind])
        random.Random(word).shuffle(order)
        fresh = [meaning for meaning in order if meaning not in tried[word]]
        orders[word] = fresh or order
    names = list(words)
    guesses = []
    for number in range(2 * wanted):
        if all(word in best for word in names):
            word = names[number % len(names)]
            step = number // len(names)
            new = orders[word][step % len(orders[word])]
            guesses.append({**best, word: new})
        else:
            guesses.append(
                {word: orders[word][number % len(orders[word])] for word in names}
            )
    if not any(tried.values()):
        return guesses
    return guesses + [{w: chance.choice(orders[w]) for w in names} for _ in names]


class _Attempt:
    """What one attempt tells of the open words."""

    def __init__(self, block: str, asked: Wish) -> None:
        drawn = read(_block(block, "caption"))
        written = read(_block(block, "prompt"))
        self.meanings: dict[str, str] = {}
        if written and len(written.things) == len(asked.things):
            self.meanings = learn(asked, written)
        if drawn:
            # What the generator did not draw says nothing about the word.
            shown = set(slots(drawn).values())
            self.meanings = {
                word: meaning
                for word, meaning in self.meanings.items()
                if meaning in shown or meaning in CHOICES["relation"]
            }


def _taught(text: str, asked: Wish) -> dict[str, str]:
    """Return what the template's examples teach of the words that are asked."""
    meanings: dict[str, str] = {}
    for example in _all_blocks(_block(text, "examples"), "example"):
        before = read(_block(example, "user_prompt"))
        after = read(_block(example, "prompt"))
        if before and after and len(before.things) == len(after.things):
            meanings |= learn(before, after)
    return {word: meanings[word] for word in unknowns(asked) if word in meanings}


def judge(text: str, chance: random.Random, *, astray: bool) -> dict[str, Any]:
    """Hold what was asked against the caption; an unknown word is missing."""
    asked = read(_block(_without(text, "examples"), "user_prompt"))
    shown = read(_block(_without(text, "history"), "caption"))
    if asked is None or shown is None:
        reason = "I do not understand the prompt or the caption."
        return {"reason": reason, "missing": [reason], "satisfied": False}
    meanings = _taught(text, asked)
    missing = [f"I do not know '{w}'" for w in unknowns(asked) if w not in meanings]
    plain = translate(asked, meanings)
    scene = _scene(shown)
    if scene.fulfilment(plain) < 1:
        missing += _lacking(plain, scene)
    if astray:
        missing = [] if missing else [chance.choice(list(slots(plain).values()))]
    reason = f"The caption says: {phrase(shown)}."
    return {"reason": reason, "missing": missing, "satisfied": not missing}


def _lacking(wish: Wish, scene: Scene) -> list[str]:
    """Return the parts of a wish that a scene lacks."""
    parts = [phrase(Wish((thing,))) for thing in wish.things]
    lacking = [
        part
        for part, thing in zip(parts, wish.things, strict=True)
        if not any(
            Scene((t,), "").fulfilment(Wish((thing,))) == 1 for t in scene.things
        )
    ]
    if len(scene.things) != len(wish.things):
        lacking.append(f"{len(wish.things)} object(s)")
    if wish.background and wish.background != scene.background:
        lacking.append(f"{wish.background} background")
    return lacking or [phrase(wish)]


def _scene(wish: Wish) -> Scene:
    """Return the scene that a caption describes."""
    across, down = {
        "left": (-1, 0),
        "right": (1, 0),
        "above": (0, -1),
        "below": (0, 1),
    }.get(wish.relation or "", (0, 0))
    things = tuple(
        Thing(t.shape or "", t.colour or "", t.size or "", across * side, down * side)
        for t, side in zip(wish.things, (1, -1), strict=False)
    )
    return Scene(things, wish.background or "")


def select(text: str, chance: random.Random, *, astray: bool) -> dict[str, Any]:
    """Choose the candidate whose caption agrees best with what was asked."""
    asked = read(_block(text, "user_prompt"))
    plain = translate(asked, {}) if asked else None
    scores: dict[int, float] = {}
    for block in _all_blocks(_block(text, "candidates"), "candidate"):
        shown = read(_block(block, "caption"))
        number = int(_block(block, "number") or len(scores) + 1)
        scores[number] = _scene(shown).fulfilment(plain) if plain and shown else 0.0
    numbers = list(scores) or [1]
    choice = max(numbers, key=lambda number: scores.get(number, 0.0))
    if astray:
        choice = chance.choice(numbers)
    return {"reason": "Its caption agrees best with what was asked.", "choice": choice}


def _slip(prompt: str, chance: random.Random) -> str:
    """Return a prompt with one word mistaken for another of its kind."""
    words = prompt.split()
    places = [
        (place, kind)
        for place, word in enumerate(words)
        for kind in ("shape", "colour")
        if word in CHOICES[kind]
    ]
    place, kind = chance.choice(places)
    words[place] = chance.choice(CHOICES[kind])
    return " ".join(words)
