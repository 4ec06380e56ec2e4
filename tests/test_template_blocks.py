"""Blocks: named parts of a template, which a name can leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from socratic_agents.agents.optimizer import optimizer
from socratic_agents.core.errors import TemplateError
from socratic_agents.llm.template_files import find_template, template_source
from tests.fakes import ScriptedChatModel, history
from tests.studies import written

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = """\
description: In blocks.
variables: [user_prompt, missing]
blocks:
  ask: |
    Rewrite it.
  missing: |
    {{#missing}}
    <missing>{{{.}}}</missing>
    {{/missing}}
messages:
  - role: system
    text: |
      Hello.
      {{> ask}}
      Goodbye.
  - role: human
    text: |
      <user_prompt>{{{user_prompt}}}</user_prompt>
      {{> missing}}
"""


def text_of(name: str | Path, **values: object) -> str:
    """Render a template of the optimizer, and return all text."""
    messages = find_template("optimizer", name).render(**values)  # type: ignore[arg-type]
    return "\n".join(message.text for message in messages)


def test_the_default_in_blocks_says_the_same() -> None:
    """Whole, it is the default word for word."""
    one, other = (find_template("optimizer", name) for name in ("default", "in_blocks"))
    assert one.messages == other.messages
    assert one.variables == other.variables


def test_a_block_is_left_out_with_its_line(tmp_path: Path) -> None:
    """And with the variables that only it used; the hash tells the two apart."""
    path = written(tmp_path, BLOCKS)
    whole = find_template("optimizer", path)
    assert "Hello.\nRewrite it.\nGoodbye." in text_of(path, user_prompt="x", missing=[])
    lesser = find_template("optimizer", f"{path} without ask")
    assert ("tiny without ask", {"missing"}) == (lesser.name, set(lesser.blocks))
    assert "Hello.\nGoodbye." in text_of(
        f"{path} without ask", user_prompt="x", missing=[]
    )
    least = find_template("optimizer", f"{path} without missing,ask")
    assert ("user_prompt",) == least.variables
    hashes = {whole.sha256, lesser.sha256, least.sha256}
    assert 3 == len(hashes)
    turned = find_template("optimizer", f"{path} without ask, missing")
    assert least == turned


def test_the_examples_go_with_the_block_that_shows_them(tmp_path: Path) -> None:
    """A template that shows none any more needs none."""
    text = BLOCKS.replace("missing", "examples").replace("{{{.}}}", "{{{prompt}}}")
    text += "examples:\n  - {user_prompt: a, prompt: b}\n"
    path = written(tmp_path, text)
    assert 1 == len(find_template("optimizer", path).examples)
    assert () == find_template("optimizer", f"{path} without examples").examples


def test_a_file_may_have_such_a_name(tmp_path: Path) -> None:
    """A file whose own name has the word in it is that file."""
    path = written(tmp_path, BLOCKS, "mine without ask.yaml")
    assert {"ask", "missing"} == set(find_template("optimizer", path).blocks)
    assert [] == template_source("optimizer", path)[1]


@pytest.mark.parametrize(
    ("text", "without", "said"),
    [
        (BLOCKS, "aks", r"got 'aks'; did you mean 'ask'\?"),
        (BLOCKS, "x", "leave out of ask, missing, got 'x'"),
        (BLOCKS.replace("{{> ask}}", "{{> aks}}"), "", "expected a block of ask, miss"),
        (BLOCKS.replace("{{> ask}}\n", "\n"), "", r"got no \{\{> ask\}\}"),
        (BLOCKS.replace("  ask: |", "  a-k: |"), "", "blocks"),
        (BLOCKS.replace("Rewrite it.", "{{{mood}}}"), "", "got 'mood'"),
    ],
)
def test_a_wrong_block_is_named(
    tmp_path: Path, text: str, without: str, said: str
) -> None:
    """One that is not there, not included, or uses what nobody offers."""
    path = written(tmp_path, text)
    with pytest.raises(TemplateError, match=said):
        find_template("optimizer", f"{path} without {without}" if without else path)


async def test_examples_are_chosen_for_each_prompt(tmp_path: Path) -> None:
    """The template says how many, and by what."""
    text = BLOCKS.replace("missing", "examples").replace("{{{.}}}", "{{{prompt}}}")
    text += "examples:\n  - {user_prompt: a cup, prompt: one}\n"
    text += "  - {user_prompt: a red hat, prompt: two}\n"
    text += "choice: {by: similar, number: 1}\n"
    template = find_template("optimizer", written(tmp_path, text))
    answer = {"reason": "r", "prompts": [{"aim": "whole", "prompt": "new"}]}
    model = ScriptedChatModel(script=[answer])
    assert ("new",) == await optimizer(model, template)(history("a red cap"))
    assert "<examples>two</examples>" in model.last_question
    assert "one" not in model.last_question
