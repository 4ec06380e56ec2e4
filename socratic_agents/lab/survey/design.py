"""A survey: which pairs of images people are shown, and the key that says whose."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.storage.files import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from socratic_agents.lab.survey.sources import PromptKey, ShownImage

__all__ = ("QUESTIONS", "Item", "Survey", "SurveyKey", "plan_survey", "read_key")

LARGEST_KEY = 2**28
"""Bytes of a key; one of 10,000 pairs has a hundredth of it."""

QUESTIONS: Mapping[str, str] = {
    "preference": "Which picture do you prefer?",
    "match": "Which one shows better what the text says?",
    "plausibility": "Which one has fewer odd or broken parts?",
}
"""Name of each question to its words, in the order in which they are asked."""

MOST = 2_000
"""Pairs at most; nobody answers more, and the page would grow without end."""

CANDIDATES = 20
"""Other prompts from which the least similar one is taken for a catch pair."""


class Item(BaseModel):
    """Two images under one prompt. Which of them stands left is up to the page."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    """Its place after shuffling, so that it gives nothing away."""
    kind: Literal["pair", "catch"]
    """Two arms, or an image of the prompt and one of quite another."""
    number: int = Field(ge=0)
    """The prompt's, the same in every pair of it."""
    prompt: str
    arms: tuple[str, str]
    """Whose image is ``a`` and whose is ``b``; of a catch pair ``right`` and ``wrong``."""
    images: tuple[str, str]
    """Where the two are kept."""
    scores: tuple[dict[str, float], dict[str, float]]
    """What automatic judges said of each: metric's name to value, higher is better."""


class SurveyKey(BaseModel):
    """What the page does not show: the arms behind every pair."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_: Literal[1] = Field(default=1, alias="schema")
    study: str = ""
    """Hash of all that follows, by which answers find their key."""
    seed: int
    arms: tuple[str, ...]
    repeats: int = Field(ge=0)
    """Pairs that each person is shown again, with the sides exchanged."""
    left_out: dict[str, int]
    """Why pairs of arms and prompts are not asked, to how many."""
    items: tuple[Item, ...]

    @property
    def total(self) -> int:
        """How many pairs each person is shown."""
        return len(self.items) + self.repeats

    def hashed(self) -> str:
        """Return the study's name: 16 hexadecimal digits."""
        content = self.model_dump_json(by_alias=True, exclude={"study"})
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is asked, and the images to show."""

    key: SurveyKey
    images: Mapping[str, ShownImage]
    """Path to image, of all that the items name."""


def plan_survey(
    arms: Mapping[str, Mapping[PromptKey, ShownImage | None]],
    *,
    pairs: int,
    seed: int,
    repeats: float = 0.1,
    catch: float = 0.05,
) -> Survey:
    """Return a survey of so many pairs, spread evenly over the pairs of arms.

    Where two arms returned the very same image there is nothing to ask, so these
    prompts are left out, and counted.

    Args:
        arms: Name to what the arm returned for each prompt.
        pairs: 1 to 2,000; fewer are asked if there are not so many.
        seed: Of all that is drawn; the same seed gives the same survey.
        repeats: Share of the pairs that are shown again, 0 to 0.5.
        catch: Catch pairs, as a share of the pairs, 0 to 0.5.

    Raises:
        ConfigurationError: If a number is out of range, or there is nothing to ask.
    """
    if not 1 <= pairs <= MOST:
        message = f"expected from 1 to {MOST:,} pairs, got {pairs}"
        raise ConfigurationError(message)
    for name, share in (("repeats", repeats), ("catch", catch)):
        if not 0 <= share <= 0.5:
            message = f"expected a share of {name} from 0 to 0.5, got {share}"
            raise ConfigurationError(message)
    chance = random.Random(seed)
    places = list(dict.fromkeys(place for arm in arms.values() for place in arm))
    left_out = {"no image of both": 0, "the same image": 0, "more than wanted": 0}
    askable = _askable(arms, places, left_out)
    drawn = _drawn(askable, pairs, chance)
    if not drawn:
        message = (
            "expected prompts for which two arms returned different images, got none "
            f"({left_out['the same image']} the same, {left_out['no image of both']} "
            "without an image of both); choose other arms"
        )
        raise ConfigurationError(message)
    left_out["more than wanted"] = sum(map(len, askable.values())) - len(drawn)
    images: dict[str, ShownImage] = {}
    items = [*drawn, *_caught(drawn, round(len(drawn) * catch + 0.499), chance)]
    chance.shuffle(items)
    kept = []
    for at, (kind, (one, other), place, shown) in enumerate(items, start=1):
        sides = [(one, shown[0]), (other, shown[1])]
        chance.shuffle(sides)
        images |= {image.path: image for _, image in sides}
        kept.append(
            Item(
                id=str(at),
                kind="pair" if kind == "pair" else "catch",
                number=places.index(place),
                prompt=place[0],
                arms=(sides[0][0], sides[1][0]),
                images=(sides[0][1].path, sides[1][1].path),
                scores=(dict(sides[0][1].scores), dict(sides[1][1].scores)),
            )
        )
    key = SurveyKey(
        seed=seed,
        arms=tuple(arms),
        repeats=min(round(len(drawn) * repeats + 0.499), len(kept) // 2),
        left_out={why: count for why, count in left_out.items() if count},
        items=tuple(kept),
    )
    return Survey(key=key.model_copy(update={"study": key.hashed()}), images=images)


def read_key(path: Path) -> SurveyKey:
    """Return the key of a survey.

    Raises:
        ConfigurationError: If it cannot be read, or is not as it was written.
    """
    try:
        data = read_file(path, LARGEST_KEY)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"expected the survey's key at {path}, got: {reason}; use --key"
        raise ConfigurationError(message) from error
    try:
        key = SurveyKey.model_validate_json(data)
    except ValidationError:
        message = (
            f"expected a key as 'socratic lab survey' writes it, got {path}; name the "
            "file that ends in .key.json"
        )
        raise ConfigurationError(message) from None
    if key.hashed() != key.study:
        message = f"expected {path} as it was written, got it edited; restore the file"
        raise ConfigurationError(message)
    return key


Drawn = tuple[str, tuple[str, str], "PromptKey", tuple["ShownImage", "ShownImage"]]
"""Kind, arms, prompt, and the image of each arm."""


def _askable(
    arms: Mapping[str, Mapping[PromptKey, ShownImage | None]],
    places: Sequence[PromptKey],
    left_out: dict[str, int],
) -> dict[tuple[str, str], list[Drawn]]:
    """Return for every two arms what can be asked, and count what cannot."""
    askable: dict[tuple[str, str], list[Drawn]] = {}
    for two in combinations(arms, 2):
        askable[two] = []
        for place in places:
            one, other = (arms[arm].get(place) for arm in two)
            if one is None or other is None:
                left_out["no image of both"] += 1
            elif one.path == other.path:  # a path is the hash of what it holds
                left_out["the same image"] += 1
            else:
                askable[two].append(("pair", two, place, (one, other)))
    return askable


def _drawn(
    askable: Mapping[tuple[str, str], Sequence[Drawn]],
    pairs: int,
    chance: random.Random,
) -> list[Drawn]:
    """Return so many of them, in turn from every two arms."""
    queues = [chance.sample(some, len(some)) for some in askable.values()]
    drawn: list[Drawn] = []
    while any(queues) and len(drawn) < pairs:
        for queue in queues:
            if queue and len(drawn) < pairs:
                drawn.append(queue.pop())
    return drawn


def _caught(
    drawn: Sequence[Drawn], count: int, chance: random.Random
) -> Iterator[Drawn]:
    """Yield pairs of a prompt's image and one of the prompt that is least like it.

    Raises:
        ConfigurationError: If there is but one prompt.
    """
    prompts = {place[0] for _, _, place, _ in drawn}
    if count and len(prompts) < 2:
        message = "expected two prompts or more for catch pairs, got one; use --catch 0"
        raise ConfigurationError(message)
    for _, _, place, shown in chance.sample(drawn, min(count, len(drawn))):
        right, words = chance.choice(shown), set(place[0].lower().split())
        others = [o for o in drawn if o[2][0] != place[0]]
        some = chance.sample(others, min(CANDIDATES, len(others)))
        least = min(some, key=lambda o: len(words & set(o[2][0].lower().split())))
        wrong = chance.choice(least[3])
        if wrong.path != right.path:
            yield "catch", ("right", "wrong"), place, (right, wrong)
