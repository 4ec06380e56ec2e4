"""The rules by which the pocket chat model plays its roles.

Each role reads the marked blocks of a rendered template and returns the fields of
its answer. ``inject_error`` asks for an answer that is wrong in a plausible way.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from socratic_agents.pocket.checklist_rules import check_rewrites, write_questions
from socratic_agents.pocket.evidence import Evidence, find_evidence, rank_by_evidence
from socratic_agents.pocket.hypotheses import Attempt, rank_by_score
from socratic_agents.pocket.prompt_parser import SceneSpec
from socratic_agents.pocket.prompt_writer import phrase
from socratic_agents.pocket.scene import Scene, SceneObject
from socratic_agents.pocket.synonyms import (
    CHOICES,
    infer_meanings,
    parse_known,
    slots,
    translate,
    unknown_words,
    variants,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

__all__ = ("guard", "judge", "optimize", "select", "write_checklist")


def _block(text: str, name: str) -> str:
    """Return what stands in the last block of this name, or nothing."""
    return (_all_blocks(text, name) or [""])[-1]


def _all_blocks(text: str, name: str) -> list[str]:
    found = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
    return [str(block).strip() for block in found]


def _without(text: str, name: str) -> str:
    return re.sub(rf"<{name}>.*?</{name}>", "", text, flags=re.DOTALL)


def optimize(text: str, rng: random.Random, *, inject_error: bool) -> dict[str, Any]:
    """Write prompts in canonical words; try meanings for the words it lacks.

    More than were asked for, the best first: some may have been tried before.
    """
    asked = parse_known(_block(_without(text, "examples"), "user_prompt"))
    if asked is None:
        prompt = _block(_without(text, "examples"), "user_prompt")
        return {"prompts": [f"a {prompt}"]}
    wanted = int(_block(text, "number_of_prompts") or 1)
    meanings = _taught(text, asked)
    open_words = {w: k for w, k in unknown_words(asked).items() if w not in meanings}
    blocks = _all_blocks(text, "attempt")
    drawn = {_block(block, "prompt") for block in blocks}
    if open_words:
        attempts = [_attempt(block, asked) for block in blocks]
        found = [c for block in blocks for c in _evidence(block, open_words)]
        proposed = [
            phrase(translate(asked, meanings | hypothesis))
            for hypothesis in (
                rank_by_evidence(open_words, found)
                if found
                else rank_by_score(open_words, attempts, wanted)
            )
        ]
        told = [attempt for attempt in attempts if attempt.meanings]
        best = max(told, key=lambda attempt: attempt.score, default=Attempt({}, 0.0))
        known, again = best.meanings, []
        if known.keys() >= open_words.keys():
            again = _phrasings(translate(asked, {**meanings, **known}))
        fresh = [prompt for prompt in proposed if prompt not in drawn]
        prompts = _mixed(fresh, again)
    else:
        prompts = _phrasings(translate(asked, meanings))
    prompts = [p for p in dict.fromkeys(prompts) if p not in drawn]
    if inject_error:
        prompts = [_with_wrong_word(prompt, rng) for prompt in prompts]
    return {"prompts": _guided(prompts[: 6 * wanted], text)}


def _guided(prompts: list[str], text: str) -> list[Any]:
    """Return prompts, each with a guidance in turn where it may be chosen."""
    offered = re.search(r"a guidance, one of ([\d., ]*\d):", text)
    if offered is None:
        return list(prompts)
    grid = [float(scale) for scale in offered[1].split(",")]
    return [
        {"prompt": prompt, "guidance": scale}
        for prompt, scale in zip(prompts, itertools.cycle(grid), strict=False)
    ]


def _evidence(block: str, open_words: Mapping[str, str]) -> list[Evidence]:
    """Return what the checklist's answers on one attempt tell of the open words."""
    return find_evidence(
        open_words,
        caption=_block(block, "caption"),
        passed=_block(block, "passed").split("; "),
        failed=_block(block, "failed").split("; "),
    )


def _mixed(proposed: list[str], again: list[str]) -> list[str]:
    """Return three hypotheses, then one more description of the best one, and so on."""
    pairs = itertools.zip_longest(*(proposed[i::3] for i in range(3)), again)
    return [prompt for group in pairs for prompt in group if prompt]


def _phrasings(spec: SceneSpec) -> list[str]:
    """Return prompts that mean the same, the plainest first."""
    specs = list(variants(spec))
    plain = [phrase(variant) for variant in specs]
    terse = [phrase(variant, articles=False) for variant in specs]
    return [*plain, *terse, *(f"a picture of {text}" for text in plain)]


def _attempt(block: str, asked: SceneSpec) -> Attempt:
    """Return what one attempt tells of the open words."""
    drawn = parse_known(_block(block, "caption"))
    written = parse_known(_block(block, "prompt"))
    meanings: dict[str, str] = {}
    if written and len(written.objects) == len(asked.objects):
        meanings = infer_meanings(asked, written)
    if drawn:
        # What the generator did not draw says nothing about the word.
        shown = set(slots(drawn).values())
        meanings = {word: m for word, m in meanings.items() if m in shown}
    return Attempt(meanings, float(_block(block, "score") or 0))


def _taught(text: str, asked: SceneSpec) -> dict[str, str]:
    """Return what the template's examples teach of the words that are asked."""
    meanings: dict[str, str] = {}
    for example in _all_blocks(_block(text, "examples"), "example"):
        before = parse_known(_block(example, "user_prompt"))
        after = parse_known(_block(example, "prompt"))
        if before and after and len(before.objects) == len(after.objects):
            meanings |= infer_meanings(before, after)
    return {word: meanings[word] for word in unknown_words(asked) if word in meanings}


def write_checklist(
    text: str, rng: random.Random, *, inject_error: bool
) -> dict[str, Any]:
    """Write the checklist of the user prompt."""
    return write_questions(_block(text, "user_prompt"), rng, inject_error=inject_error)


def guard(text: str, rng: random.Random, *, inject_error: bool) -> dict[str, Any]:
    """Check the rewrites of the user prompt."""
    prompts = [_block(block, "prompt") for block in _all_blocks(text, "rewrite")]
    asked = _block(text, "user_prompt")
    return check_rewrites(asked, prompts, rng, inject_error=inject_error)


def judge(text: str, rng: random.Random, *, inject_error: bool) -> dict[str, Any]:
    """Hold what was asked against the caption; an unknown word is missing."""
    asked = parse_known(_block(_without(text, "examples"), "user_prompt"))
    shown = parse_known(_block(_without(text, "history"), "caption"))
    if asked is None or shown is None:
        reason = "I do not understand the prompt or the caption."
        return {"reason": reason, "missing": [reason], "satisfied": False}
    meanings = _taught(text, asked)
    missing = [
        f"I do not know '{w}'" for w in unknown_words(asked) if w not in meanings
    ]
    plain = translate(asked, meanings)
    scene = _scene(shown)
    if scene.spec_agreement(plain) < 1:
        missing += _missing_parts(plain, scene)
    if inject_error:
        # A judge overlooks one thing, or misses one that is there.
        other = [rng.choice(list(slots(plain).values()) or ["something"])]
        missing = missing[1:] if missing else other
    reason = f"The caption says: {phrase(shown)}."
    return {"reason": reason, "missing": missing, "satisfied": not missing}


def _missing_parts(spec: SceneSpec, scene: Scene) -> list[str]:
    """Return the parts of a spec that a scene lacks."""
    parts = [phrase(SceneSpec((obj,))) for obj in spec.objects]
    lacking = [
        part
        for part, obj in zip(parts, spec.objects, strict=True)
        if not any(
            Scene((t,), "").spec_agreement(SceneSpec((obj,))) == 1
            for t in scene.objects
        )
    ]
    if len(scene.objects) != len(spec.objects):
        lacking.append(f"{len(spec.objects)} object(s)")
    if spec.background and spec.background != scene.background:
        lacking.append(f"{spec.background} background")
    return lacking or [phrase(spec)]


def _scene(spec: SceneSpec) -> Scene:
    """Return the scene that a caption describes."""
    across, down = {
        "left": (-1, 0),
        "right": (1, 0),
        "above": (0, -1),
        "below": (0, 1),
    }.get(spec.relation or "", (0, 0))
    objects = tuple(
        SceneObject(
            t.shape or "", t.colour or "", t.size or "", across * side, down * side
        )
        for t, side in zip(spec.objects, (1, -1), strict=False)
    )
    return Scene(objects, spec.background or "")


def select(text: str, rng: random.Random, *, inject_error: bool) -> dict[str, Any]:
    """Choose the candidate whose caption agrees best with what was asked."""
    asked = parse_known(_block(text, "user_prompt"))
    plain = translate(asked, {}) if asked else None
    scores: dict[int, float] = {}
    for block in _all_blocks(_block(text, "candidates"), "candidate"):
        shown = parse_known(_block(block, "caption"))
        number = int(_block(block, "number") or len(scores) + 1)
        scores[number] = _scene(shown).spec_agreement(plain) if plain and shown else 0.0
    numbers = list(scores) or [1]
    choice = max(numbers, key=lambda number: scores.get(number, 0.0))
    if inject_error:
        choice = rng.choice(numbers)
    return {"choice": choice}


def _with_wrong_word(prompt: str, rng: random.Random) -> str:
    """Return a prompt with one word mistaken for another of its kind."""
    words = prompt.split()
    places = [
        (place, kind)
        for place, word in enumerate(words)
        for kind in ("shape", "colour")
        if word in CHOICES[kind]
    ]
    place, kind = rng.choice(places)
    words[place] = rng.choice(CHOICES[kind])
    return " ".join(words)
