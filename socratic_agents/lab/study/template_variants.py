"""Variants of a template: other blocks, or other examples, as a file of their own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.llm.template_files import template_source
from socratic_agents.llm.templates import OFFERS
from socratic_agents.llm.yaml_files import parse_yaml
from socratic_agents.storage.files import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ("read_bank", "variant")

FIELDS = ("user_prompt", "caption", "prompt")
"""Of an example; a bank may say more."""

LARGEST = 2**26
"""Bytes of a bank."""

MOST_VALUES = 1_000_000
"""Of a bank in YAML; an example has about ten."""


def variant(
    role: str,
    name: str,
    *,
    blocks: Mapping[str, str] | None = None,
    examples: Sequence[Mapping[str, str]] | None = None,
    choice: tuple[str, int] | None = None,
) -> str:
    """Return the text of a template file with some parts of another one changed.

    Args:
        role: Whose words they are.
        name: As for ``find_template``.
        blocks: Names of its blocks to their new texts.
        examples: What it shows in place of its own; ``None``: its own.
        choice: How, and how many are chosen; see ``chosen_examples``.

    Raises:
        ConfigurationError: If there is no such template or block, or it shows no
            examples.
    """
    data, without = template_source(role, name)
    there = data.get("blocks", {})
    for block in blocks or {}:
        if block not in there:
            message = (
                f"expected a block of the {role} template {name!r} "
                f"({', '.join(there) or 'none'}), got {block!r}; name one of these"
            )
            raise ConfigurationError(message)
    kept = {k: v for k, v in {**there, **(blocks or {})}.items() if k not in without}
    for message_ in data["messages"]:
        for block in without:
            include = rf"\{{\{{>\s*{re.escape(block)}\s*\}}\}}\n?"
            message_["text"] = re.sub(include, "", message_["text"])
    if examples is not None or choice is not None:
        if "examples" not in data["variables"]:
            message = (
                f"expected a template that shows examples, got {name!r}; use few_shot, "
                "or add {{#examples}} to it"
            )
            raise ConfigurationError(message)
        own = data.get("examples", []) if examples is None else examples
        data["examples"] = [{f: e.get(f) or "" for f in FIELDS} for e in own]
        if choice is not None:
            data["choice"] = {"by": choice[0], "number": choice[1]}
    text = "".join([*kept.values(), *(m["text"] for m in data["messages"])])
    used = set(re.findall(r"\{\{\{?[#^]?\s*(\w+)", text))
    data["variables"] = [v for v in OFFERS[role] if v in used]
    data["messages"] = [m for m in data["messages"] if m["text"].strip()]
    data["blocks"] = kept
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000)


def read_bank(file: Path) -> list[dict[str, Any]]:
    """Return the examples of a bank, as ``socratic lab harvest`` writes it.

    Raises:
        ConfigurationError: If it cannot be read, or has none.
    """
    try:
        text = read_file(file, LARGEST).decode("utf-8-sig")
        if file.suffix == ".jsonl":
            read: Any = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            read = parse_yaml(text, most=MOST_VALUES)
            read = read.get("examples") if isinstance(read, dict) else read
    except (OSError, ValueError, RecursionError) as problem:
        reason = " ".join(str(problem).split())[:120]
        message = f"expected a bank of examples, got {str(file)!r} ({reason})"
        raise ConfigurationError(message) from problem
    good = isinstance(read, list) and all(
        isinstance(e, dict)
        and all(isinstance(e.get(f), str) and e[f].strip() for f in FIELDS[::2])
        for e in read
    )
    if not good or not read:
        message = (
            "expected examples with user_prompt and prompt, got "
            f"{'none' if good else 'something else'} in {str(file)!r}; make a bank with "
            "'socratic lab harvest'"
        )
        raise ConfigurationError(message)
    return list(read)
