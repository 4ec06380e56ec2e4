"""How many tokens requests to the language model have; writes the tables of docs.

``python docs/tokens.py`` counts the templates, ``--presets`` also runs refinements in
the pocket world, which takes some minutes. The tokenizer is CLIP's byte-pair encoding,
since it is installed with open_clip and needs no network.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socratic_agents import Refiner
from socratic_agents.agents.checklist_answerers import Answers
from socratic_agents.agents.checklist_writer import Questions
from socratic_agents.agents.guard import Checks
from socratic_agents.agents.judges import Judgement
from socratic_agents.agents.optimizer import Rewrites
from socratic_agents.agents.selectors import Choice, Preference
from socratic_agents.config.profiles import PRESETS
from socratic_agents.llm.methods import untitled, without_sizes
from socratic_agents.llm.template_files import find_template
from socratic_agents.pocket import PocketChatModel
from socratic_agents.pocket.prompt_writer import sample_prompts

if TYPE_CHECKING:
    from langchain_core.outputs import ChatResult

ROOT = Path(__file__).parents[1]
ANSWERS: dict[str, Any] = {
    "answerer": Answers,
    "checklist": Questions,
    "guard": Checks,
    "judge": Judgement,
    "optimizer": Rewrites,
    "selector": Choice,
    "selector/vision": Preference,
}
BEFORE = json.loads((ROOT / "docs" / "tokens-before.json").read_text("utf-8"))
"""What the same templates and schemas had before they were made lean."""
NOTHING: dict[str, Any] = {
    "user_prompt": "",
    "incumbent": None,
    "image": "the image below",
    "missing": (),
    "history": (),
    "examples": (),
    "candidates": (),
    "requirements": (),
    "prompts": (),
    "questions": (),
    "number_of_prompts": "2",
    "max_words": None,
    "guidance_grid": None,
    "first": "A",
    "second": "B",
}
PROMPTS = 3


@cache
def tokenizer() -> Any:
    """Return the tokenizer; loading it takes seconds."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def count(text: str) -> int:
    """Return how many tokens a text has."""
    return len(tokenizer().encode(text))


def sizes(role: str, name: str) -> tuple[int, int]:
    """Return the tokens of a template without material, and of the schema beside it."""
    template = find_template(role, name)
    words = sum(count(message.text) for message in template.filled(NOTHING))
    answer = ANSWERS.get(f"{role}/{name}", ANSWERS[role])
    schema = json.dumps(untitled(without_sizes(answer.model_json_schema())))
    return words, 0 if template.stop is not None else count(schema)


def templates_table() -> str:
    """Return the table of all shipped templates, with what they had before."""
    head = "| template | words | schema | both | before | less |\n|---|---|---|---|---|---|"
    lines, now, then = [head], 0, 0
    for path in sorted((ROOT / "prompts").glob("*/*.yaml")):
        name = f"{path.parent.name}/{path.stem}"
        words, schema = sizes(path.parent.name, path.stem)
        before = sum(BEFORE.get(name, ()))
        less = f"{1 - (words + schema) / before:.0%}" if before else ""
        lines.append(
            f"| `{name}` | {words} | {schema} | {words + schema} | {before or ''} | {less} |"
        )
        if before:
            now, then = now + words + schema, then + before
    lines.append(f"| all | | | {now} | {then} | {1 - now / then:.0%} |")
    return "\n".join(lines)


class Counted(PocketChatModel):
    """The pocket chat model, with usage as a tokenizer counts it."""

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        result = super()._generate(messages, *args, **kwargs)
        message: Any = result.generations[0].message
        read = sum(count(one.text) for one in messages)
        read += count(json.dumps(kwargs.get("tools") or ""))
        calls = [call["args"] for call in message.tool_calls]
        wrote = count(str(message.text)) + sum(count(json.dumps(one)) for one in calls)
        message.usage_metadata = {
            "input_tokens": read,
            "output_tokens": wrote,
            "total_tokens": read + wrote,
        }
        return result


async def presets_table() -> str:
    """Return what refinements cost by preset, measured in the pocket world."""
    lines = [
        "| preset | requests | tokens read | tokens written | tokens of the longest request |",
        "|---|---|---|---|---|",
    ]
    prompts = sample_prompts(PROMPTS, 1, "foreign")
    for preset in PRESETS:
        longest = 0

        class Watched(Counted):
            def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
                nonlocal longest
                result = super()._generate(messages, *args, **kwargs)
                message: Any = result.generations[0].message
                longest = max(longest, message.usage_metadata["input_tokens"])
                return result

        async with Refiner(preset=preset, llm=Watched()) as refiner:
            done = [await refiner.refine(one) for one in prompts]
        usages = [one.usage for one in done]
        calls, read, wrote = (
            sum(getattr(one, field) for one in usages) / len(usages)
            for field in ("llm_calls", "input_tokens", "output_tokens")
        )
        lines.append(
            f"| `{preset}` | {calls:.1f} | {read:,.0f} | {wrote:,.0f} | {longest:,} |"
        )
    return "\n".join(lines)


def put(page: str, name: str, table: str) -> str:
    """Return a page with a table in its place."""
    return re.sub(
        rf"(<!-- {name} -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{table}\n{found[2]}",
        page,
        flags=re.DOTALL,
    )


def main() -> None:
    """Write the tables into the pages."""
    page = ROOT / "docs" / "prompts.md"
    text = put(page.read_text("utf-8"), "tokens of templates", templates_table())
    page.write_text(text, encoding="utf-8")
    if "--presets" in sys.argv:
        page = ROOT / "docs" / "language-models.md"
        table = asyncio.run(presets_table())
        text = put(page.read_text("utf-8"), "tokens of presets", table)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
