"""YAML of people's files: what it says, or one line on why it is not read.

Invariants, each a property test:

* What JSON can say comes back as it was written.
* No text raises anything but a ``ValueError`` of one line.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.core.errors import ConfigurationError, TemplateError
from socratic_agents.lab.study.load import read_study
from socratic_agents.lab.study.prompts import study_prompts
from socratic_agents.lab.study.spec import PromptSource, Study
from socratic_agents.lab.study.template_variants import read_bank
from socratic_agents.llm.template_files import find_template
from socratic_agents.llm.yaml_files import MOST_VALUES, parse_yaml
from socratic_agents.storage.files import read_file

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "description: x\nvariables: [user_prompt]\n"

MERGES = "a0: &a0 {k0: v}\n" + "".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], k{i}: v}}\n" for i in range(1, 24)
)

REFUSED = {
    "an alias": ("a: &x {b: c}\nd: *x\n", "an alias; write out", "line 2, column 4"),
    "a list in itself": ("a: &x [*x]\n", "an alias", "line 1"),
    "merges of merges": (MERGES, "an alias", "line 2"),
    "a merge key": ("a: {<<: {b: c}}\n", "a merge key; write out", "line 1, column 5"),
    "a long number": (f"a: {'1' * 5_000}\n", "more than 40 digits", "line 1"),
    "a long hexadecimal": (f"a: 0x{'f' * 5_000}\n", "more than 40 digits", "line 1"),
    "sixties": (f"a: 1{':1' * 200}.0\n", "more than 40 digits", "line 1"),
    "no binary number": ("a: 0b_\n", "not what its tag or its form says", ""),
    "no number": ("a: !!int x\n", "not what its tag or its form says", ""),
    "no date": ("a: !!timestamp 2001-99-99\n", "not what its tag", ""),
    "no truth": ("a: !!bool perhaps\n", "not what its tag or its form says", ""),
    "no bytes": ("a: !!binary \u00e9\n", "", "line 1"),
    "an object": ("!!python/object/apply:os.getcwd []\n", "constructor", "line 1"),
    "a list for a key": ("? [a]\n: b\n", "unhashable key", "line 1"),
    "too many": (f"[{'a,' * MOST_VALUES}]", "more than 20,000 values", "line 1"),
    "too deep": ("[" * 5_000, "nested too deeply", ""),
    "two documents": ("a\n---\nb\n", "another document", "line 2"),
    "a control character": ("a: \x00\n", "special characters", ""),
}


@pytest.mark.parametrize(("text", "fault", "place"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_read_is_told_with_its_place(
    text: str, fault: str, place: str, tmp_path: Path
) -> None:
    """Templates, studies and banks say it alike, on one line."""
    with pytest.raises(ValueError, match=r"expected YAML, got ") as caught:
        parse_yaml(text)
    assert fault in str(caught.value)
    assert place in str(caught.value)
    file = tmp_path / "mine.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(TemplateError, match="expected YAML, got"):
        find_template("optimizer", file)
    with pytest.raises(ConfigurationError, match="expected YAML, got"):
        read_study(str(file))
    with pytest.raises(ConfigurationError, match="expected"):
        read_bank(file)


def test_dates_are_texts() -> None:
    """A template described by the day it was made is as good as any."""
    assert {"a": "2001-99-99", "b": "2026-11-29"} == parse_yaml(
        b"a: 2001-99-99\nb: 2026-11-29\n"
    )


def test_a_bank_may_be_long(tmp_path: Path) -> None:
    """What is refused in a template is usual in a bank, whose file has a mark or not."""
    examples = [
        {"user_prompt": f"{i}", "prompt": "b", "caption": ""} for i in range(5_000)
    ]
    file = tmp_path / "bank.yaml"
    file.write_text(yaml.safe_dump({"examples": examples}), "utf-8-sig")
    assert examples == read_bank(file)


def test_what_may_never_end_is_not_read(tmp_path: Path) -> None:
    """A pipe is told at once, and so is a size."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    for read in (find_template.__get__("optimizer"), read_bank):
        with pytest.raises(ConfigurationError, match="a pipe or a device"):
            read(pipe)
    with pytest.raises(ConfigurationError, match="a pipe or a device"):
        read_study(str(pipe))
    file = tmp_path / "large"
    file.write_bytes(b"12345")
    with pytest.raises(ValueError, match="at most 4 bytes, got 5"):
        read_file(file, 4)
    assert b"12345" == read_file(file, 5)


def test_blocks_do_not_multiply(tmp_path: Path) -> None:
    """A block that is included ten thousand times is refused before it is put in."""
    text = "{{{user_prompt}}}" + "{{> b}}" * 10_000
    block = "x" * 100_000
    file = tmp_path / "mine.yaml"
    file.write_text(
        f'{HEAD}blocks: {{b: "{block}"}}\nmessages: [{{role: human, text: "{text}"}}]\n'
    )
    with pytest.raises(TemplateError, match="at most 200,000 characters"):
        find_template("optimizer", file)
    file.write_text(
        f'{HEAD}messages: [{{role: human, text: "{{{{{{user_prompt}}}}}}{block * 3}"}}]'
    )
    with pytest.raises(TemplateError, match="at most 200,000 characters"):
        find_template("optimizer", file)


def test_sections_do_not_multiply(tmp_path: Path) -> None:
    """A loop in itself would show a history of ten rounds ten thousand times."""
    text = "{{#history}}{{#history}}{{{prompt}}}{{/history}}{{/history}}"
    file = tmp_path / "mine.yaml"
    file.write_text(
        "description: x\nvariables: [history]\n"
        f'messages: [{{role: human, text: "{text}"}}]\n'
    )
    with pytest.raises(TemplateError, match="got 'history' within itself"):
        find_template("optimizer", file)


def test_studies_do_not_multiply() -> None:
    """Neither a grid nor a sample is made before its size is known."""
    grid = {f"factor{i}": list(range(10)) for i in range(9)}
    study = Study.model_validate(
        {
            "title": "t",
            "prompts": [{"set": "pocket"}],
            "metrics": ["oracle"],
            "grid": {"factors": grid},
        }
    )
    with pytest.raises(ConfigurationError, match="at most 1,000 arms, got 1,000,000,"):
        study.every_arm()
    source = PromptSource.model_validate({"set": "pocket", "n": 10**12})
    with pytest.raises(ConfigurationError, match="at most 100,000 pocket prompts"):
        study_prompts([source])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**38), 10**38)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=JSON)
def test_what_json_can_say_comes_back(value: object) -> None:
    """The reader is as good as PyYAML's for what it takes."""
    text = yaml.dump(value, Dumper=_Plain, allow_unicode=True)
    try:
        expected = yaml.safe_load(text)
    except yaml.YAMLError:  # characters that PyYAML itself writes and does not read
        return
    assert expected == parse_yaml(text)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, _data: object) -> bool:
        return True


@given(
    text=st.text(alphabet="ab0:1-_.<>*&!?[]{},\"'|#%@`\n \\xet~=+", max_size=60)
    | st.text(max_size=40)
    | st.binary(max_size=40)
)
def test_no_text_raises_anything_else(text: str | bytes) -> None:
    """It is read, or told on one line."""
    said = "expected YAML, got nothing to say"
    try:
        parse_yaml(text)
    except ValueError as error:
        said = str(error)
    assert said.startswith("expected YAML, got ")
    assert 1 == len(said.splitlines())
