"""Templates: the words with which a role is asked, kept in files.

A template is YAML: ``description``, ``variables``, ``messages`` (role and mustache
text) and, for few-shot learning, ``examples``. It is strict both ways: what is used
must be declared, what is declared must be used, and a call gives exactly that.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from socratic_agents.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from langchain_core.messages import BaseMessage

    Value: TypeAlias = (
        str | Mapping[str, str] | Sequence[str] | Sequence[Mapping[str, str]] | None
    )

__all__ = ("OFFERS", "Template", "find_template")

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


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    description: str
    variables: list[str]
    messages: list[_Message] = Field(min_length=1)
    examples: list[_Example] = Field(default_factory=list)


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
    sha256: str
    """Of the file, in hexadecimal: two results are comparable if it is the same."""

    def render(self, **variables: Value) -> list[BaseMessage]:
        """Return the messages with the variables put in, each verbatim.

        A value is data: mustache inside it stays as it is.

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
        from langchain_core.prompts import ChatPromptTemplate  # noqa: PLC0415

        prompt = ChatPromptTemplate.from_messages(
            list(self.messages), template_format="mustache"
        )
        return prompt.format_messages(**variables)

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
            ``<folder>/<role>/<name>.yaml``.

    Raises:
        TemplateError: If there is no such template, or it is not a good one; the
            message names what there is, or what is wrong with it.
    """
    if role not in OFFERS:
        message = f"expected a role of {', '.join(OFFERS)}, got {role!r}"
        raise TemplateError(message)
    shipped = {path.stem: path for path in sorted((_folder() / role).glob("*.yaml"))}
    own = Path(name)
    if str(name) in shipped:
        file = shipped[str(name)]
    elif own.suffix in {".yaml", ".yml"}:
        file = own
    else:
        places = (own.parent / role / f"{own.name}.yaml", own / role / "default.yaml")
        found = [place for place in places if place.is_file()]
        if not found:
            message = (
                f"expected a template for the {role}, one of {', '.join(shipped)}, a "
                f".yaml file, or a folder with {role}/<name>.yaml, got {str(name)!r}; "
                "choose one of these or correct the path"
            )
            raise TemplateError(message)
        file = found[0]
    try:
        return _read(role, file)
    except TemplateError as problem:
        message = f"{problem}; correct the {role} template {str(name)!r}"
        raise TemplateError(message) from problem


def _folder() -> Path:
    """Return where the shipped templates are."""
    package = Path(__file__).parents[1]
    # A wheel has them inside; a checkout keeps them beside the package, in the open.
    inside = package / "prompts"
    return inside if inside.is_dir() else package.parent / "prompts"


def _read(role: str, file: Path) -> Template:
    try:
        content = file.read_bytes()
        data = yaml.safe_load(content)
    except OSError as problem:
        message = f"expected a readable file, got {problem.strerror}"
        raise TemplateError(message) from problem
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        message = f"expected YAML, got {' '.join(str(problem).split())}"
        raise TemplateError(message) from problem
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
        messages=tuple((part.role, part.text.strip()) for part in parsed.messages),
        examples=tuple(example.model_dump() for example in parsed.examples),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    _check(template)
    return template


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
