"""Kinds of questions: those about a number are counted, those about a text are read.

A question says by itself of which kind it is, whoever wrote it: the checklist of a
language model, that of a person, or that of a prompt set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socratic_agents.agents.lettering import QUOTED, compare_text
from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.core.counts import NUMBER_WORDS, read_number

if TYPE_CHECKING:
    from socratic_agents.core.checklist import Question
    from socratic_agents.core.counts import Count

__all__ = ("CountAsked", "TextAsked", "count_asked", "text_asked")

EVEN = 0.5
"""A number is met from that probability on."""


@dataclass(frozen=True, kw_only=True)
class CountAsked:
    """A question about how many there are."""

    question: str
    """How many …?"""
    least: int
    most: int | None
    """``None``: any number from ``least`` on."""

    def answer(self, count: Count) -> Answer:
        """Return whether a count is what was asked for; nobody knows what is unsure.

        Args:
            count: How many there are.
        """
        if count.number is None:
            return Answer(said=YesNo.UNKNOWN)
        if not count.shares:
            said = YesNo.YES if self._meets(count.number) else YesNo.NO
            return Answer(said=said, seen=self._seen(said, str(count.number)))
        # Shares that are rounded may add up to a little more than 1.
        probability = min(
            1.0, sum(share for n, share in count.shares.items() if self._meets(n))
        )
        if probability >= EVEN:
            said = YesNo.YES
        else:
            said = YesNo.UNKNOWN if self._meets(count.number) else YesNo.NO
        likely = sorted(count.shares, key=lambda n: -count.shares[n])[:2]
        shown = str(count.number)
        if said is YesNo.UNKNOWN:
            shown = " or ".join(map(str, sorted(likely)))
        seen = self._seen(said, shown)
        return Answer(said=said, probability=probability, seen=seen)

    def _meets(self, number: int) -> bool:
        return self.least <= number and (self.most is None or number <= self.most)

    def _seen(self, said: YesNo, shown: str) -> str:
        """Return what differs, in words for the optimizer."""
        if said is YesNo.YES:
            return ""
        asked = str(self.least)
        if self.most is None:
            asked = f"at least {self.least}"
        elif self.most != self.least:
            asked = f"{self.least} to {self.most}"
        return f"asked for {asked}, the image shows {shown}"


@dataclass(frozen=True, kw_only=True)
class TextAsked:
    """A question about what is written."""

    question: str
    """What is written …?"""
    text: str
    """What was asked for, letter by letter."""

    def answer(self, read: str) -> Answer:
        """Return whether a reading is what was asked for.

        Args:
            read: What was read on the image.
        """
        return compare_text(self.text, read)


_WORD = (
    rf"(?:\d{{1,3}}|{'|'.join(NUMBER_WORDS)}|a (?:pair|couple|dozen)(?: of)?|a single)"
)
_AMOUNT = (
    r"(?P<how>exactly|precisely|only|just|a total of|at least|no fewer than|"
    r"no less than|at most|no more than|up to|more than|fewer than|less than)?\s*"
    rf"(?P<number>{_WORD}|no)(?:\s*(?:or|to|-|\u2013)\s*(?P<upto>{_WORD}))?"
    # Not "two of the cats", "a three-storey house" or "3 o'clock".
    r"\s+(?!of\b|in\b|on\b|at\b|and\b|or\b|o'clock|years?\b|hours?\b|minutes?\b|percent|"
    r"degrees?\b|a\.?m\b|p\.?m\b|feet\b|foot\b|inch(?:es)?\b|(?:centi|kilo)?met(?:er|re)s?\b)"
    r"(?P<what>[^\W\d_][^?]*?)"
)
_SHOWN = (
    r"(?:\s+(?:visible|shown|present|depicted|seen|displayed|in total|overall|"
    r"(?:in|within) (?:the|this) (?:image|picture|photo|photograph|scene)))*"
)
_SCENE = r"(?:the|this) (?:image|picture|photo|photograph|scene|painting|drawing)"
_HAVE = r"(?:have|show|contain|include|feature|depict|display|hold|carry|wear|bear)"
_FORMS = tuple(
    re.compile(form + _SHOWN + r"\s*\?", re.IGNORECASE)
    for form in (
        rf"(?:is|are) there {_AMOUNT}",
        rf"(?:can|could|do) (?:you|we|one) (?:see|count|find) {_AMOUNT}",
        rf"do(?:es)? {_SCENE} {_HAVE} {_AMOUNT}",
        rf"do(?:es)? (?P<whose>.+?) {_HAVE} {_AMOUNT}",
        rf"are {_AMOUNT}",
    )
)
_HOW_MANY = re.compile(r"how many\b.*\?", re.IGNORECASE)


def count_asked(question: Question) -> CountAsked | None:
    """Return what a question asks to be counted, if it asks for a number.

    Such as "Are there three cats?", "Does the table have four legs?" or "Is there at most
    one lamp?". Its own open question counts, if that is "How many …?".

    Args:
        question: Of a checklist.
    """
    own = question.instead if _HOW_MANY.fullmatch(question.instead.strip()) else ""
    for form in _FORMS:
        found = form.fullmatch(question.text.strip())
        if found is not None:
            what, whose = found["what"].strip(), found.groupdict().get("whose")
            if _number(found["number"]) == 1:
                what = _plural(what)
            asked = f"How many {what} are there?"
            if whose:
                asked = f"How many {what} does {whose} have?"
            return _amount(found, own or asked)
    number = read_number(question.text)
    if own and number is not None:
        return CountAsked(question=own, least=number, most=number)
    return None


def _amount(found: re.Match[str], question: str) -> CountAsked:
    number, upto = _number(found["number"]), found["upto"]
    least, most = number, _number(upto) if upto else number
    bounds: dict[str, tuple[int, int | None]] = {
        "at least": (number, None),
        "no fewer than": (number, None),
        "no less than": (number, None),
        "more than": (number + 1, None),
        "at most": (0, number),
        "no more than": (0, number),
        "up to": (0, number),
        "fewer than": (0, max(0, number - 1)),
        "less than": (0, max(0, number - 1)),
    }
    low, high = bounds.get((found["how"] or "").lower(), (least, most))
    return CountAsked(question=question, least=low, most=high)


def _number(word: str) -> int:
    """Return the number that a word means."""
    word = word.lower().removesuffix(" of")
    named = {"a pair": 2, "a couple": 2, "a dozen": 12, "a single": 1, "no": 0}
    known = named | NUMBER_WORDS
    return known[word] if word in known else int(word)


_HEAD = re.compile(
    r"(.*?)(\w+)((?:\s+(?:of|on|in|at|with|under|over|by|to|from|that|which)\b.*)?)"
)
_PLURALS = {"person": "people", "man": "men", "woman": "women", "child": "children"}


def _plural(what: str) -> str:
    """Return a thing in the plural, as "how many" asks for it."""
    found = _HEAD.fullmatch(what)
    if found is None:
        return what
    before, noun, rest = found.groups()
    if noun in _PLURALS:
        more = _PLURALS[noun]
    elif re.search(r"[^aeiou]y$", noun):
        more = f"{noun[:-1]}ies"
    else:
        more = f"{noun}es" if re.search(r"(?:s|x|z|ch|sh)$", noun) else f"{noun}s"
    return f"{before}{more}{rest}"


_CAPITALS = re.compile(
    r"\b(?:says?|reads?|spells?)\s+((?-i:[A-Z0-9][A-Z0-9&!.'\u2019-]*(?: [A-Z0-9&!.'\u2019-]+)*))\s*\?",
    re.IGNORECASE,
)
_READING = re.compile(
    r"\b(?:says?|saying|reads?|reading|spells?|spelling|spelled|spelt|written|writing|"
    r"texts?|words?|letters?|lettering|label(?:l?ed)?|inscri\w+|captions?|titled?|signs?|"
    r"slogan|logo|printed|engraved|headline)\b",
    re.IGNORECASE,
)
_WHAT = re.compile(
    r"what\b.*\b(?:says?|say|reads?|read|written|text|words?|letters?)\b.*\?",
    re.IGNORECASE,
)
_WHERE = re.compile(
    r"(?:does|do|is|are|can)\s+((?:the|a|an|this)\s+[\w' -]+?)\s+"
    r"(?:says?|say|reads?|read|spells?|spell|show|display|have|bear|feature|contain|"
    r"labell?ed|titled|printed|engraved|inscribed)\b",
    re.IGNORECASE,
)


def text_asked(question: Question) -> TextAsked | None:
    """Return what a question asks to be read, if it asks for a text.

    The text stands in quotes, in the question or in its requirement, or in capitals at
    the question's end, as in "Does the sign say OPEN?".

    Args:
        question: Of a checklist.
    """
    whole = f"{question.text} {question.requirement}"
    found = QUOTED.search(question.text) or _CAPITALS.search(question.text)
    found = found or QUOTED.search(question.requirement)
    if found is None or not _READING.search(whole):
        return None
    text = next(filter(None, found.groups())).strip()
    if not text:
        return None
    asked = question.instead.strip()
    if not _WHAT.fullmatch(asked):
        where = _WHERE.match(question.text.strip())
        place = where[1] if where else "the image"
        asked = (
            f"What is written on {place}?" if where else "What is written in the image?"
        )
    return TextAsked(question=asked, text=text)
