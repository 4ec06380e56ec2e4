"""The rules by which the pocket chat model plays its roles.

Each role reads the marked blocks of a rendered template and returns the fields of
its answer. ``astray`` asks for an answer that is wrong in a plausible way.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from socratic_agents.pocket.checklist_rules import check_rewrites, write_questions
from socratic_agents.pocket.evidence import Clue, clues, guided
from socratic_agents.pocket.hypotheses import Trial, guesses
from socratic_agents.pocket.prompt_parser import Wish
from socratic_agents.pocket.prompt_writer import phrase
from socratic_agents.pocket.scene import Scene, Thing
from socratic_agents.pocket.synonyms import (
    CHOICES,
    learn,
    read,
    slots,
    translate,
    unknowns,
    variants,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

__all__ = ("guard", "inquire", "judge", "optimize", "select")


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

    More than were asked for, the best first: some may have been tried before.
    """
    asked = read(_block(_without(text, "examples"), "user_prompt"))
    if asked is None:
        prompt = _block(_without(text, "examples"), "user_prompt")
        bare = [{"aim": "whole", "prompt": f"a {prompt}"}]
        return {"reason": "I do not understand it.", "prompts": bare}
    wanted = int(_block(text, "number_of_prompts") or 1)
    meanings = _taught(text, asked)
    open_words = {w: k for w, k in unknowns(asked).items() if w not in meanings}
    blocks = _all_blocks(text, "attempt")
    drawn = {_block(block, "prompt") for block in blocks}
    aim = "history" if blocks else "whole"
    if open_words:
        trials = [_trial(block, asked) for block in blocks]
        found = [c for block in blocks for c in _clues(block, open_words)]
        guessed = [
            phrase(translate(asked, meanings | guess))
            for guess in (
                guided(open_words, found)
                if found
                else guesses(open_words, trials, wanted)
            )
        ]
        told = [trial for trial in trials if trial.meanings]
        best = max(told, key=lambda trial: trial.score, default=Trial({}, 0.0))
        known, again = best.meanings, []
        if known.keys() >= open_words.keys():
            again = _sayings(translate(asked, {**meanings, **known}))
        fresh = [prompt for prompt in guessed if prompt not in drawn]
        prompts = _mixed(fresh, again)
    else:
        aim = "missing" if _all_blocks(text, "missing") else "whole"
        prompts = _sayings(translate(asked, meanings))
    prompts = [p for p in dict.fromkeys(prompts) if p not in drawn]
    if astray:
        prompts = [_slip(prompt, chance) for prompt in prompts]
    reason = (
        f"I try what {', '.join(open_words)} could mean."
        if open_words
        else "I say it in the words that the generator knows."
    )
    return {
        "reason": reason,
        "prompts": [{"aim": aim, "prompt": prompt} for prompt in prompts[: 6 * wanted]],
    }


def _clues(block: str, open_words: Mapping[str, str]) -> list[Clue]:
    """Return what the checklist's answers on one attempt tell of the open words."""
    return clues(
        open_words,
        caption=_block(block, "caption"),
        passed=_block(block, "passed").split("; "),
        failed=_block(block, "failed").split("; "),
    )


def _mixed(guessed: list[str], again: list[str]) -> list[str]:
    """Return three guesses, then one more saying of the best one, and so on."""
    pairs = itertools.zip_longest(*(guessed[i::3] for i in range(3)), again)
    return [prompt for group in pairs for prompt in group if prompt]


def _sayings(wish: Wish) -> list[str]:
    """Return prompts that mean the same, the plainest first."""
    wishes = list(variants(wish))
    plain = [phrase(variant) for variant in wishes]
    terse = [phrase(variant, articles=False) for variant in wishes]
    return [*plain, *terse, *(f"a picture of {text}" for text in plain)]


def _trial(block: str, asked: Wish) -> Trial:
    """Return what one attempt tells of the open words."""
    drawn = read(_block(block, "caption"))
    written = read(_block(block, "prompt"))
    meanings: dict[str, str] = {}
    if written and len(written.things) == len(asked.things):
        meanings = learn(asked, written)
    if drawn:
        # What the generator did not draw says nothing about the word.
        shown = set(slots(drawn).values())
        meanings = {word: m for word, m in meanings.items() if m in shown}
    return Trial(meanings, float(_block(block, "score") or 0))


def _taught(text: str, asked: Wish) -> dict[str, str]:
    """Return what the template's examples teach of the words that are asked."""
    meanings: dict[str, str] = {}
    for example in _all_blocks(_block(text, "examples"), "example"):
        before = read(_block(example, "user_prompt"))
        after = read(_block(example, "prompt"))
        if before and after and len(before.things) == len(after.things):
            meanings |= learn(before, after)
    return {word: meanings[word] for word in unknowns(asked) if word in meanings}


def inquire(text: str, chance: random.Random, *, astray: bool) -> dict[str, Any]:
    """Write the checklist of the user prompt."""
    return write_questions(_block(text, "user_prompt"), chance, astray=astray)


def guard(text: str, chance: random.Random, *, astray: bool) -> dict[str, Any]:
    """Check the rewrites of the user prompt."""
    prompts = [_block(block, "prompt") for block in _all_blocks(text, "rewrite")]
    asked = _block(text, "user_prompt")
    return check_rewrites(asked, prompts, chance, astray=astray)


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
        # A judge overlooks one thing, or misses one that is there.
        other = [chance.choice(list(slots(plain).values()) or ["something"])]
        missing = missing[1:] if missing else other
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
