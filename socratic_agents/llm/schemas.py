"""Schemas: the JSON schema of an answer, with and without what it says of sizes."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

__all__ = (
    "CHARACTERS_PER_TOKEN",
    "json_schema",
    "largest_answer",
    "schema_of",
    "untitled",
    "with_sizes",
    "without_sizes",
)

CHARACTERS_PER_TOKEN = 3.5
"""Of English text and JSON, roughly; of other languages fewer."""
_SIZES = frozenset({"maxLength", "minItems", "maxItems"})
_TEXT, _ITEMS = 400, 10
"""Characters of a text, and items of a list, whose schema says nothing of it."""
_ENDS: dict[str, dict[str, int]] = {
    "string": {"maxLength": _TEXT},
    "array": {"maxItems": _ITEMS},
    "integer": {"minimum": -(10**9), "maximum": 10**9},
}
"""The same, for those who enforce a schema; and where whole numbers end."""


@cache
def json_schema(answer: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of an answer; it takes longer than all else of a call."""
    return answer.model_json_schema()


def schema_of(answer: Any, most: Mapping[str, int]) -> dict[str, Any]:
    """Return the JSON schema of an answer, sizes included.

    Args:
        answer: A pydantic model.
        most: List in it to how many items it holds at most.
    """
    schema = deepcopy(json_schema(answer))
    for name, number in most.items():
        schema["properties"][name]["maxItems"] = number
    return schema


def without_sizes(schema: Any) -> Any:
    """Return a schema without what it says of sizes."""
    if isinstance(schema, dict):
        return {k: without_sizes(v) for k, v in schema.items() if k not in _SIZES}
    return (
        [without_sizes(one) for one in schema] if isinstance(schema, list) else schema
    )


def with_sizes(schema: Any) -> Any:
    """Return a schema in which every text, list and whole number has an end.

    Without one, a model of little wit that is held to the schema would never stop.
    """
    if isinstance(schema, list):
        return [with_sizes(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    ends = _ENDS.get(str(schema.get("type")), {}) if "enum" not in schema else {}
    return ends | {key: with_sizes(value) for key, value in schema.items()}


def untitled(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without the titles of its parts, which repeat their names."""

    def bare(part: Any) -> Any:
        if isinstance(part, dict):
            return {
                key: bare(value)
                for key, value in part.items()
                if key != "title" or not isinstance(value, str)
            }
        return [bare(one) for one in part] if isinstance(part, list) else part

    return {key: bare(value) for key, value in schema.items()}


def largest_answer(
    schema: Mapping[str, Any], *, per_token: float = CHARACTERS_PER_TOKEN
) -> int:
    """Return the tokens of the largest answer that fits a schema, roughly.

    Args:
        schema: Of the answer.
        per_token: Characters of one.
    """
    return int(_characters(schema, schema.get("$defs", {})) / per_token)


def _characters(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> int:
    if "$ref" in schema:
        return _characters(parts[schema["$ref"].rpartition("/")[2]], parts)
    match schema.get("type"):
        case "object":
            fields = schema["properties"].items()
            return sum(len(n) + 6 + _characters(one, parts) for n, one in fields) + 2
        case "array":
            number = int(schema.get("maxItems", _ITEMS))
            return 2 + number * (2 + _characters(schema["items"], parts))
        case "string" if "enum" not in schema:
            return int(schema.get("maxLength", _TEXT)) + 2
    return 12
