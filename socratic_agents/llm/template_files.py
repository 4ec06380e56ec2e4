"""Template files: where templates are found, and what a file must say.

A file is YAML: ``description``, ``variables``, ``messages`` (role and mustache text)
and, for few-shot learning, ``examples``. Parts of the text may be ``blocks`` with
names, which a study can leave out.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from socratic_agents.core.errors import TemplateError
from socratic_agents.llm.template_blocks import WITHOUT, included, without_blocks
from socratic_agents.llm.templates import OFFERS, Template, check_variables, names_in
from socratic_agents.llm.yaml_files import parse_yaml
from socratic_agents.storage.files import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("find_template", "template_source")

LARGEST = 2**20
"""Bytes of a template; the shipped ones have a few thousand."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "human", "ai"]
    text: str = Field(min_length=1)


class _Example(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    user_prompt: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    caption: str = ""


class _Choice(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    by: Literal["fixed", "similar", "mmr"] = "fixed"
    number: int = Field(ge=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    description: str
    variables: list[str]
    blocks: dict[Annotated[str, Field(pattern=r"^\w+$")], str] = Field(
        default_factory=dict
    )
    messages: list[_Message] = Field(min_length=1)
    examples: list[_Example] = Field(default_factory=list)
    choice: _Choice | None = None
    answer: Literal["json", "text"] = "json"
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)


def find_template(role: str, name: str | Path) -> Template:
    """Return a shipped template by its name, or the user's own by its path.

    Args:
        role: A key of ``OFFERS``, such as ``optimizer``.
        name: The name of a shipped template, a path to a ``.yaml`` file, a folder
            that has ``<role>/default.yaml``, or ``<folder>/<name>`` for the file
            ``<folder>/<role>/<name>.yaml``. ``<any of these> without a, b`` leaves
            the blocks a and b of it out.

    Raises:
        TemplateError: If there is no such template, or it is not a good one; the
            message names what there is, or what is wrong with it.
    """
    plain, without = _split(str(name))
    file = _located(role, plain)
    try:
        return _read(role, file, without)
    except TemplateError as problem:
        message = f"{problem}; correct the {role} template {str(name)!r}"
        raise TemplateError(message) from problem


def template_source(role: str, name: str | Path) -> tuple[dict[str, Any], list[str]]:
    """Return what stands in a template's file, and which blocks the name leaves out.

    Raises:
        TemplateError: As for ``find_template``.
    """
    find_template(role, name)  # so that what follows is a good one
    plain, without = _split(str(name))
    data: dict[str, Any] = parse_yaml(_located(role, plain).read_bytes())
    return data, without


def _split(plain: str) -> tuple[str, list[str]]:
    """Return the name itself, and the blocks that it leaves out."""
    return (plain, []) if _is_file(Path(plain)) else without_blocks(plain)


def _located(role: str, name: str) -> Path:
    """Return the file of a template.

    Raises:
        TemplateError: If there is none.
    """
    if role not in OFFERS:
        message = f"expected a role of {', '.join(OFFERS)}, got {role!r}"
        raise TemplateError(message)
    shipped = {path.stem: path for path in sorted((_folder() / role).glob("*.yaml"))}
    own = Path(name)
    if name in shipped:
        file = shipped[name]
    elif own.suffix in {".yaml", ".yml"}:
        file = own
    else:
        places = {
            own.parent / role / f"{own.name}.yaml": own.parent,
            own / role / "default.yaml": own,
        }
        found = [place for place in places if _is_file(place)]
        if not found:
            message = (
                f"expected a template for the {role}, one of {', '.join(shipped)}, a "
                f".yaml file, or a folder with {role}/<name>.yaml, got {name!r}; "
                "choose one of these or correct the path"
            )
            raise TemplateError(message)
        file = found[0]
        # The folder may be somebody else's, and its links lead anywhere.
        if not file.resolve().is_relative_to(places[file].resolve()):
            message = (
                f"expected a template for the {role} inside {str(places[file])!r}, got "
                f"{str(file)!r}, a link that leads out of it; name the file itself"
            )
            raise TemplateError(message)
    return file


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except OSError:  # a name that no file can have
        return False


def _folder() -> Path:
    """Return where the shipped templates are."""
    package = Path(__file__).parents[1]
    # A wheel has them inside; a checkout keeps them beside the package, in the open.
    inside = package / "prompts"
    return inside if inside.is_dir() else package.parent / "prompts"


def _read(role: str, file: Path, without: Sequence[str] = ()) -> Template:
    try:
        content = read_file(file, LARGEST)
        data = parse_yaml(content)
    except OSError as problem:
        message = f"expected a readable file, got {problem.strerror}"
        raise TemplateError(message) from problem
    except ValueError as problem:
        raise TemplateError(str(problem)) from None
    try:
        parsed = _File.model_validate(data)
    except ValidationError as problem:
        wrong = "; ".join(
            f"{'.'.join(map(str, error['loc'])) or 'the file'}: {error['msg']}"
            for error in problem.errors(include_url=False)
        )
        message = f"expected description, variables and messages, got {wrong}"
        raise TemplateError(message) from problem
    template = Template(
        role=role,
        name=file.stem,
        description=parsed.description.strip(),
        variables=tuple(parsed.variables),
        messages=included(_texts(parsed), parsed.blocks),
        examples=tuple(example.model_dump() for example in parsed.examples),
        choice=(chosen.by, chosen.number) if (chosen := parsed.choice) else None,
        stop=tuple(parsed.stop) if parsed.answer == "text" else None,
        blocks=parsed.blocks,
        sha256=hashlib.sha256(content).hexdigest(),
    )
    check_variables(template)
    return _lesser(template, parsed, without) if without else template


def _texts(parsed: _File) -> list[tuple[str, str]]:
    return [(one.role, one.text) for one in parsed.messages]


def _lesser(template: Template, parsed: _File, without: Sequence[str]) -> Template:
    """Return a template that lacks some of its blocks, and declares what is left."""
    for name in without:
        if name not in template.blocks:
            close = difflib.get_close_matches(name, list(template.blocks), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            message = (
                f"expected blocks to leave out of "
                f"{', '.join(template.blocks) or 'a template that has any'}, got "
                f"{name!r}{hint}"
            )
            raise TemplateError(message)
    left = {name: text for name, text in template.blocks.items() if name not in without}
    messages = included(_texts(parsed), {**left, **dict.fromkeys(without)})
    used = {
        name.partition(".")[0] for _, text in messages for _, name in names_in(text)
    }
    identity = f"{template.sha256} without {', '.join(without)}"
    lesser = replace(
        template,
        name=f"{template.name}{WITHOUT}{', '.join(without)}",
        variables=tuple(name for name in template.variables if name in used),
        messages=messages,
        # Examples that nothing shows any more are not there.
        examples=template.examples if "examples" in used else (),
        blocks=left,
        sha256=hashlib.sha256(identity.encode()).hexdigest(),
    )
    check_variables(lesser)
    return lesser
