"""Templates: the words with which a role is asked.

They are strict both ways: what is used must be declared, what is declared must be used,
and a call gives exactly that. ``template_files`` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import TypeAlias

    from langchain_core.messages import BaseMessage

    Value: TypeAlias = (
        str | Mapping[str, str] | Sequence[str] | Sequence[Mapping[str, str]] | None
    )

__all__ = ("OFFERS", "PLAIN", "Template", "check_variables", "names_in")

PLAIN: Mapping[str, str] = MappingProxyType({"optimizer": "base_lm", "judge": "plain"})
"""Role that can answer in plain text to the shipped template that asks for it."""

_ATTEMPT = ("prompt", "caption", "score", "passed", "failed", "guidance")

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
            "guidance_grid": (),
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
    stop: tuple[str, ...] | None = None
    """What ends an answer in plain text, where it would run on; ``None``: the answer is
    JSON."""
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
        from langchain_core.messages import convert_to_messages
        from langchain_core.utils import mustache

        values = {name: self._inert(value) for name, value in variables.items()}
        texts = [mustache.render(tokens, values) for tokens in self._tokens]
        roles = [role for role, _ in self.messages]
        return convert_to_messages(list(zip(roles, texts, strict=True)))

    @cached_property
    def _tokens(self) -> list[list[tuple[str, str]]]:
        """Each message's text, parsed once: for a call there is enough to do."""
        from langchain_core.utils import mustache

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


def check_variables(template: Template) -> None:
    """Hold a template to its own declarations and to what its role offers."""
    if template.stop is not None and template.role not in PLAIN:
        message = (
            f"expected 'answer: json' for the {template.role}, got text; only "
            f"{' and '.join(PLAIN)} answer in plain text"
        )
        raise TemplateError(message)
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
        for sections, name in names_in(text):
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


def names_in(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each name in a mustache text with the sections around it."""
    from langchain_core.utils.mustache import ChevronError, tokenize

    sections: list[str] = []
    try:
        for kind, name in tokenize(text):
            match kind:
                case "section" | "inverted section":
                    yield tuple(sections), name
                    if name in sections:
                        message = (
                            f"expected sections in others, got {name!r} within itself"
                        )
                        raise TemplateError(message)
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
