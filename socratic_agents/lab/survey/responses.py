"""Answers to a survey: one file of one person, whole, unedited and of this study."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.storage.files import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from socratic_agents.lab.survey.design import SurveyKey

__all__ = ("LARGEST", "Response", "Responses", "parse_responses", "read_responses")

LARGEST = 2_000_000
"""Bytes of a file of answers; 2,000 pairs and their repeats need a fifth of it."""

Choice = Literal["left", "right", "tie"]


class Response(BaseModel):
    """What a person said of one pair."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    item: str
    left: Literal["a", "b"]
    """Which of the two images stood left."""
    repeat: bool
    """Whether it was shown for the second time."""
    preference: Choice
    match: Choice
    plausibility: Choice
    ms: int = Field(ge=0, le=2**53)
    """Milliseconds for which the pair was looked at."""

    def sign(self, question: str) -> int:
        """Return 1 if image ``a`` was chosen, -1 if ``b`` was, 0 for a tie."""
        choice = getattr(self, question)
        if choice == "tie":
            return 0
        return 1 if (choice == "left") == (self.left == "a") else -1


class Responses(BaseModel):
    """What one person said."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_: Literal[1] = Field(alias="schema")
    study: str
    rater: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """Made by chance in the browser; it says nothing of the person."""
    total: int = Field(ge=1, le=10**6)
    """How many pairs the person was to be shown."""
    answers: tuple[Response, ...]
    checksum: str

    @property
    def first(self) -> tuple[Response, ...]:
        """The answers to pairs that were seen for the first time."""
        return tuple(answer for answer in self.answers if not answer.repeat)


def parse_responses(data: bytes, *, key: SurveyKey, name: str) -> Responses:
    """Return the answers of a file.

    Args:
        data: What the survey's page exported.
        key: Of the survey that they must belong to.
        name: What to call the file in an error.

    Raises:
        ConfigurationError: If it is cut off, edited, empty, or of another survey.
    """
    try:
        record = json.loads(data.decode("utf-8"), parse_constant=_refused)
        checksum = _checksum(record)
        answers = Responses.model_validate_json(data)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "the whole"
        message = (
            f"expected answers as the survey's page exports them, got {name}, wrong at "
            f"{where}; export them again"
        )
        raise ConfigurationError(message) from None
    except (ValueError, AttributeError, RecursionError):
        message = (
            f"expected answers as the survey's page exports them, got {name}, which is "
            "cut off or something else; export them again"
        )
        raise ConfigurationError(message) from None
    if answers.checksum != checksum:
        message = f"expected {name} as it was exported, got it edited; export it again"
        raise ConfigurationError(message)
    if answers.study != key.study:
        message = (
            f"expected answers of study {key.study}, got {name} of study "
            f"{answers.study[:16]!r}; leave it out, or use its own --key"
        )
        raise ConfigurationError(message)
    if not answers.answers:
        message = f"expected at least one answer in {name}, got none; leave it out"
        raise ConfigurationError(message)
    _check_items(answers, key, name)
    return answers


def read_responses(
    paths: Iterable[Path],
    *,
    key: SurveyKey,
    on_left_out: Callable[[str], None] | None = None,
) -> tuple[Responses, ...]:
    """Return the answers of all people; of a folder, all its ``.json`` files.

    Args:
        paths: Files and folders.
        key: Of the survey that they must belong to.
        on_left_out: Called with a line for each file of a folder that cannot be used:
            one person's must not take all others' away. ``None`` refuses it.

    Raises:
        ConfigurationError: If a file cannot be read or used, or two are of one person.
    """
    people: dict[str, Responses] = {}
    names: dict[str, Path] = {}
    for path in paths:
        folder = path.is_dir()
        for file in sorted(path.glob("*.json")) if folder else [path]:
            try:
                answers = _read_one(file, key)
            except ConfigurationError as error:
                if not folder or on_left_out is None:
                    raise
                on_left_out(f"left out: {error}")
                continue
            if answers.rater in people:
                message = (
                    f"expected each person's answers once, got {names[answers.rater]} "
                    f"and {file} of the same person; leave one of them out"
                )
                raise ConfigurationError(message)
            people[answers.rater], names[answers.rater] = answers, file
    if not people:
        message = "expected at least one file of answers, got none; name one or more"
        raise ConfigurationError(message)
    return tuple(people.values())


def _read_one(file: Path, key: SurveyKey) -> Responses:
    try:
        data = read_file(file, LARGEST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"expected a file of answers at {file}, got: {reason}"
        raise ConfigurationError(message) from error
    return parse_responses(data, key=key, name=str(file))


def _checksum(record: Any) -> str:
    """Return the hash that the page writes: of the text without it, as JSON."""
    content = {name: value for name, value in record.items() if name != "checksum"}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _check_items(answers: Responses, key: SurveyKey, name: str) -> None:
    known = {item.id for item in key.items}
    seen = [(answer.item, answer.repeat) for answer in answers.answers]
    if len(set(seen)) < len(seen) or not {item for item, _ in seen} <= known:
        message = (
            f"expected each pair of the study at most once, got {name} with others; "
            "export it again"
        )
        raise ConfigurationError(message)


def _refused(constant: str) -> NoReturn:
    raise ValueError(constant)
