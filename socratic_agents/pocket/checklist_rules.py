"""The rules by which the pocket chat model writes checklists and checks rewrites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socratic_agents.pocket.prompt_parser import ObjectSpec, SceneSpec
from socratic_agents.pocket.prompt_writer import article, phrase
from socratic_agents.pocket.synonyms import (
    MARK,
    infer_meanings,
    parse_known,
    parse_literally,
    reordered,
    slots,
    translate,
)
from socratic_agents.pocket.vocabulary import words_of

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

__all__ = ("check_rewrites", "write_questions")


def write_questions(
    user_prompt: str, rng: random.Random, *, inject_error: bool
) -> dict[str, Any]:
    """Write the checklist of a prompt, in the prompt's own words.

    Args:
        user_prompt: What the person asked for.
        rng: Random number generator.
        inject_error: Omit one question.
    """
    asked = parse_literally(user_prompt)
    if asked is None:
        return {"questions": []}
    writer = _Writer(asked, user_prompt)
    items = writer.items()
    if inject_error and len(items) > 1:
        lost = rng.randrange(len(items)) + 1
        items = [_without(item, lost) for n, item in enumerate(items, 1) if n != lost]
    return {"questions": items}


class _Writer:
    """Puts one question after another on the list."""

    def __init__(self, asked: SceneSpec, text: str) -> None:
        self._asked = asked
        self._text = text
        self._numbers: dict[str, int] = {}
        self._items: list[dict[str, Any]] = []

    def items(self) -> list[dict[str, Any]]:
        asked = self._asked
        for obj in asked.objects:
            self._looks(obj)
        if len(asked.objects) > 1:
            self._add("are there two objects ?", "two objects", instead=HOW_MANY)
        else:
            self._add("is there only one object ?", "one object", instead=HOW_MANY)
        if asked.relation:
            self._relation(asked)
        if asked.background:
            ground = asked.background
            self._add(
                f"is the background {ground} ?",
                f"{article(ground)} {ground} background",
                instead="what color is the background ?",
            )
        return self._items

    def _looks(self, obj: ObjectSpec) -> None:
        """Ask about one object: its colour, its shape, and both in one."""
        roots = []
        if obj.colour:
            named = phrase(SceneSpec((ObjectSpec(colour=obj.colour),)))
            instead = f"what color is the {obj.shape} ?" if obj.shape else ""
            roots.append(self._is_there(named, instead=instead))
        if obj.shape:
            instead = f"what shape is the {obj.colour} thing ?" if obj.colour else ""
            named = phrase(SceneSpec((ObjectSpec(shape=obj.shape),)))
            roots.append(self._is_there(named, instead=instead))
        if (obj.colour and obj.shape) or obj.size:
            # One object alone cannot mix objects up: its size is all that is left.
            whole = obj if len(self._asked.objects) > 1 else _sized(obj)
            needs = roots if whole.colour or not whole.shape else roots[-1:]
            self._is_there(phrase(SceneSpec((whole,))), needs=needs)

    def _is_there(self, named: str, **further: Any) -> int:
        return self._add(f"is there {named} ?", named, **further)

    def _relation(self, asked: SceneSpec) -> None:
        plain = self._apart()
        first, second = (phrase(SceneSpec((t,)), articles=False) for t in plain)
        of = " of" if f"{asked.relation} of" in " ".join(words_of(self._text)) else ""
        how = f"{asked.relation}{of}"
        needs = [number for obj in plain for number in self._roots(obj)]
        self._add(
            f"is the {first} {how} the {second} ?",
            f"{article(first)} {first} {how} {article(second)} {second}",
            needs=needs,
        )

    def _roots(self, obj: ObjectSpec) -> list[int]:
        """Return the questions that say whether such an object is there at all."""
        parts = (ObjectSpec(shape=obj.shape), ObjectSpec(colour=obj.colour))
        whole = self._numbers.get(phrase(SceneSpec((obj,))))
        found = [self._numbers.get(phrase(SceneSpec((part,)))) for part in parts]
        return [number for number in ([whole] if whole else found) if number]

    def _apart(self) -> tuple[ObjectSpec, ...]:
        """Return both objects by as few words as tell them apart, or by all there are.

        Two words may mean the same: a disc is no other shape than a ball.
        """
        known = parse_known(self._text) or self._asked
        for kinds in (("shape",), ("shape", "colour")):
            told, meant = (
                tuple(
                    ObjectSpec(**{kind: getattr(obj, kind) for kind in kinds})
                    for obj in spec.objects
                )
                for spec in (self._asked, known)
            )
            whole = all(getattr(obj, kind) for obj in told for kind in kinds)
            if whole and len({getattr(obj, kinds[-1]) for obj in meant}) > 1:
                return told
        return self._asked.objects

    def _add(
        self,
        question: str,
        requirement: str,
        *,
        needs: list[int] | None = None,
        instead: str = "",
    ) -> int:
        """Put a question on the list, unless it is there; return its number."""
        if requirement not in self._numbers:
            self._numbers[requirement] = len(self._items) + 1
            item = {
                "requirement": requirement,
                "question": question,
                "needs": sorted(set(needs or [])),
                "instead": instead,
            }
            self._items.append(item)
        return self._numbers[requirement]


HOW_MANY = "how many objects are there ?"


def _sized(obj: ObjectSpec) -> ObjectSpec:
    if obj.size:
        return ObjectSpec(shape=obj.shape, size=obj.size)
    return obj


def _without(item: dict[str, Any], lost: int) -> dict[str, Any]:
    needs = [n - (n > lost) for n in item["needs"] if n != lost]
    return {**item, "needs": needs}


def check_rewrites(
    user_prompt: str, prompts: list[str], rng: random.Random, *, inject_error: bool
) -> dict[str, Any]:
    """Report what each prompt lost, in the words of the request, and correct it.

    An unknown word is kept by any word of its kind: nobody can say that it is wrong.

    Args:
        user_prompt: What the person asked for.
        prompts: The rewrites.
        rng: Random number generator.
        inject_error: Let one prompt pass unchecked.
    """
    asked, literal = parse_known(user_prompt), parse_literally(user_prompt)
    said = slots(literal) if literal else {}
    blind = rng.randrange(len(prompts)) if inject_error and prompts else -1
    checks = []
    for place, prompt in enumerate(prompts):
        lost, mended = ([], "") if place == blind else _lost(asked, prompt, said)
        checks.append({"number": place + 1, "lost": lost, "mended": mended})
    return {"checks": checks}


def _lost(
    asked: SceneSpec | None, prompt: str, literal: Mapping[str, str]
) -> tuple[list[str], str]:
    """Return what a prompt lost, and what it should have said."""
    if asked is None:
        return [], ""
    written, wanted = parse_known(prompt), slots(asked)
    if written is None or len(written.objects) != len(asked.objects):
        number = "two objects" if len(asked.objects) > 1 else "one object"
        return [number], phrase(translate(asked, {}))
    ways = [slots(written), slots(reordered(written))]
    said = max(ways, key=lambda way: sum(way.get(p) == w for p, w in wanted.items()))
    lost = [
        literal.get(place, word.removeprefix(MARK))
        for place, word in wanted.items()
        if said.get(place) != word and not (word.startswith(MARK) and place in said)
    ]
    mended = phrase(translate(asked, infer_meanings(asked, written)))
    return (lost, mended) if lost else ([], "")
