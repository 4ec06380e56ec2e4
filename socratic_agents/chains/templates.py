"""Templates: the words with which a role is asked, kept in files.

A template is YAML: ``description``, ``variables``, ``messages`` (role and mustache
text) and, for few-shot learning, ``examples``. Parts of the text may be ``blocks`` with
names, which a study can leave out. It is strict both ways: what is used must be
declared, what is declared must be used, and a call gives exactly that.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from socratic_agents.chains.blocks import WITHOUT, included, without_blocks
from socratic_agents.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import TypeAlias

    from langchain_core.messages import BaseMessage

    Value: TypeAlias = (
        str | Mapping[str, str] | Sequence[str] | Sequence[Mapping[str, str]] | None
    )

__all__ = ("OFFERS", "Template", "find_template", "template_source")

LARGEST = 2**20
"""Bytes of a template; the shipped ones have a few thousand."""

_ATTEMPT = ("prompt", "caption", "score", "passed", "failed")

OFFERS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "judge": {
            "user_prompt": (),
            "incumbent": _ATTEMPT,
            "image": (),
            "history": _ATTEMPT,
        },
        "optimizer": {
            "user_prompt": (),
            "incumbent": _ATTEMPT,
            "image": (),
            "missing": (),
            "history": _ATTEMPT,
            "examples": ("user_prompt", "caption", "prompt"),
            "number_of_prompts": (),
            "max_words": (),
        },
        "selector": {
            "user_prompt": (),
            "candidates": ("number", "prompt", "caption"),
            "first": (),
            "second": (),
        },
        "checklist": {"user_prompt": ()},
        "answerer": {"questions": ("number", "question"), "image": ()},
        "guard": {
            "user_prompt": (),
            "requirements": (),
            "prompts": ("number", "prompt"),
        },
    }
)
"""Role to the variables that it offers, each with the fields inside its section."""


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


@dataclass(frozen=True, kw_only=True)
class Template:
    """A chat prompt with variables, read from a file."""

    role: str
    """Whose words these are; a key of ``OFFERS``."""
    name: str
    """The file's name without its ending."""
    description: str
    variables: tuple[str, ...]
    """What ``render`` takes, no more and no less."""
    messages: tuple[tuple[str, str], ...]
    """Role (system, human, ai) and mustache text of each message."""
    examples: tuple[Mapping[str, str], ...] = ()
    """Good rewrites to learn from: ``user_prompt``, ``caption``, ``prompt``."""
    choice: tuple[str, int] | None = None
    """How some of the examples are chosen for a user prompt (``fixed``: the first,
    ``similar`` or ``mmr``), and how many; ``None`` shows all of them."""
    blocks: Mapping[str, str] = field(default_factory=dict)
    """The named texts that its messages include; those left out are not there."""
    sha256: str
    """Of the file, and of what is left out of it, in hexadecimal: two results are
    comparable if it is the same."""

    def render(self, **variables: Value) -> list[BaseMessage]:
        """Return the messages with the variables put in, each verbatim.

        A value is data: mustache inside it stays as it is, and what would end or open
        one of the template's own blocks begins with U+2039, which looks alike, instead.

        Args:
            variables: Exactly the declared ones: text, a list for a loop, a mapping
                for a section, or ``None`` to leave its section out.

        Raises:
            TemplateError: If a declared variable is missing, or one is given that
                the template does not declare.
        """
        missing = [name for name in self.variables if name not in variables]
        unused = [name for name in variables if name not in self.variables]
        if missing or unused:
            wrong = [f"no {name}" for name in missing]
            wrong += [f"{name}, which it does not use" for name in unused]
            message = (
                f"expected the variables {', '.join(self.variables)} for the "
                f"{self.role} template {self.name!r}, got {' and '.join(wrong)}; "
                "pass exactly what the template declares"
            )
            raise TemplateError(message)
        # Here and not at the top: the command line must not wait for LangChain.
        from langchain_core.messages import convert_to_messages  # noqa: PLC0415
        from langchain_core.utils import mustache  # noqa: PLC0415

        values = {name: self._inert(value) for name, value in variables.items()}
        texts = [mustache.render(tokens, values) for tokens in self._tokens]
        roles = [role for role, _ in self.messages]
        return convert_to_messages(list(zip(roles, texts, strict=True)))

    @cached_property
    def _tokens(self) -> list[list[tuple[str, str]]]:
        """Each message's text, parsed once: for a call there is enough to do."""
        from langchain_core.utils import mustache  # noqa: PLC0415

        return [list(mustache.tokenize(text)) for _, text in self.messages]

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        """What opens or closes a block of this template, however it is written."""
        text = "".join(text for _, text in self.messages)
        names = sorted(set(re.findall(r"</?(\w+)>", text))) or ["(?!)"]
        return re.compile(rf"<(?=[\s/]*(?:{'|'.join(names)})\b)", re.IGNORECASE)

    def _inert(self, value: Any) -> Any:
        """Return a value of which no part passes for one of the template's marks."""
        if isinstance(value, str):
            return self._marks.sub("\u2039", value)
        if isinstance(value, Mapping):
            return {name: self._inert(part) for name, part in value.items()}
        return value and [self._inert(part) for part in value]

    def filled(self, offer: Mapping[str, Value]) -> list[BaseMessage]:
        """Return the messages with what the template declares of a role's offer."""
        return self.render(**{name: offer[name] for name in self.variables})

    def expect(
        self, role: str, *, uses: Collection[str] = (), lacks: Collection[str] = ()
    ) -> None:
        """Raise ``TemplateError`` if the template was written for another purpose.

        Args:
            role: Whose words it holds.
            uses: Variables without which it would not say what is asked.
            lacks: Variables of the role that are not given to it.
        """
        if self.role != role:
            message = (
                f"expected a template for the {role}, got {self.name!r} for the "
                f"{self.role}; choose one with find_template({role!r}, ...)"
            )
            raise TemplateError(message)
        if not set(uses) <= set(self.variables) or set(lacks) & set(self.variables):
            wanted = [f"uses {' and '.join(uses)}"] if uses else []
            wanted += [f"does not use {' or '.join(lacks)}"] if lacks else []
            message = (
                f"expected a template that {' and '.join(wanted)}, got {self.name!r} "
                f"with {', '.join(self.variables)}; choose another template, or the "
                f"{role} that it was written for"
            )
            raise TemplateError(message)


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
    said, without = _split(str(name))
    file = _located(role, said)
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
    said, without = _split(str(name))
    data: dict[str, Any] = yaml.safe_load(_located(role, said).read_bytes())
    return data, without


def _split(said: str) -> tuple[str, list[str]]:
    """Return the name itself, and the blocks that it leaves out."""
    return (said, []) if _is_file(Path(said)) else without_blocks(said)


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
        mode, size = file.stat().st_mode, file.stat().st_size
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            message = "expected a file, got a pipe or a device, which may never end"
            raise TemplateError(message)
        if size > LARGEST:
            message = f"expected a file of at most {LARGEST:,} bytes, got {size:,}"
            raise TemplateError(message)
        content = file.read_bytes()
        data = yaml.safe_load(content)
    except OSError as problem:
        message = f"expected a readable file, got {problem.strerror}"
        raise TemplateError(message) from problem
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as problem:
        message = f"expected YAML, got {_yaml_fault(problem)}"
        raise TemplateError(message) from None  # the original shows what is in the file
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
        blocks=parsed.blocks,
        sha256=hashlib.sha256(content).hexdigest(),
    )
    _check(template)
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
    used = {name.partition(".")[0] for _, text in messages for _, name in _names(text)}
    told = f"{template.sha256} without {', '.join(without)}"
    lesser = replace(
        template,
        name=f"{template.name}{WITHOUT}{', '.join(without)}",
        variables=tuple(name for name in template.variables if name in used),
        messages=messages,
        # Examples that nothing shows any more are not there.
        examples=template.examples if "examples" in used else (),
        blocks=left,
        sha256=hashlib.sha256(told.encode()).hexdigest(),
    )
    _check(lesser)
    return lesser


def _yaml_fault(problem: Exception) -> str:
    """Say what is wrong and where, without the lines themselves: they may be secret."""
    if isinstance(problem, RecursionError):
        return "lists or mappings that are nested too deeply"
    if not isinstance(problem, yaml.MarkedYAMLError):
        return " ".join(str(problem).split())
    mark = problem.problem_mark
    place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{' '.join(str(problem.problem).split())}{place}"


def _check(template: Template) -> None:
    """Hold a template to its own declarations and to what its role offers."""
    offer, declared = OFFERS[template.role], set(template.variables)
    for name in template.variables:
        if name not in offer:
            message = (
                f"expected variables that the {template.role} offers "
                f"({', '.join(offer)}), got {name!r}"
            )
            raise TemplateError(message)
    used: set[str] = set()
    for _, text in template.messages:
        for sections, name in _names(text):
            head, _, field = name.partition(".")
            inside = {f for section in sections for f in offer.get(section, ())}
            if head in inside or (name == "." and sections):
                continue
            if head not in declared or (field and field not in offer[head]):
                message = (
                    f"expected only declared variables in the text, got {name!r}; "
                    "declare it under variables or take it out"
                )
                raise TemplateError(message)
            used.add(head)
    if template.examples:
        # Examples are shown through the variable: without it they would be silent.
        declared.add("examples")
    for name in sorted(declared - used):
        message = f"expected every declared variable in the text, got no use of {name}"
        raise TemplateError(message)


def _names(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each name in a mustache text with the sections around it."""
    from langchain_core.utils.mustache import ChevronError, tokenize  # noqa: PLC0415

    sections: list[str] = []
    try:
        for kind, name in tokenize(text):
            match kind:
                case "section" | "inverted section":
                    yield tuple(sections), name
                    sections.append(name)
                case "end":
                    sections.pop()
                case "no escape":
                    yield tuple(sections), name
                case "variable":
                    # Double braces escape HTML: a quote would reach the model as
                    # &quot; and be drawn or judged as such.
                    message = (
                        f"expected triple braces, got {{{{{name}}}}}; write "
                        f"{{{{{{{name}}}}}}}"
                    )
                    raise TemplateError(message)
                case "literal":
                    pass
                case _:
                    message = f"expected variables and sections, got a {kind} {name!r}"
                    raise TemplateError(message)
    except ChevronError as problem:
        message = f"expected mustache, got {' '.join(str(problem).split())}"
        raise TemplateError(message) from problem
