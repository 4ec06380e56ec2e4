"""Who plays the roles that the settings name, with which words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from socratic_agents.agents.checklist_answerers import ANSWERERS
from socratic_agents.agents.guard import GUARDS
from socratic_agents.agents.images import accepts_images
from socratic_agents.agents.judges import JUDGES
from socratic_agents.agents.optimizer import OPTIMIZERS
from socratic_agents.agents.selectors import SELECTORS
from socratic_agents.agents.spec import (
    AgentSpec,
    GuardSpec,
    JudgeSpec,
    OptimizerSpec,
    SelectorSpec,
)
from socratic_agents.core.concurrency import is_async
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.llm.template_files import find_template
from socratic_agents.llm.templates import PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langchain_core.language_models import BaseChatModel

    from socratic_agents.agents.spec import AnswererSpec
    from socratic_agents.config.registry import Registry
    from socratic_agents.config.settings import Settings
    from socratic_agents.llm.templates import Template

__all__ = ("Roles", "check_vision", "find_roles", "find_templates")

Spec = TypeVar("Spec", bound=AgentSpec[Any])


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Who plays the roles, as the settings name them or bring them along."""

    judge: JudgeSpec
    optimizer: OptimizerSpec
    selector: SelectorSpec
    answerer: AnswererSpec | None
    """``None``: no image is held against a checklist."""
    guard: GuardSpec | None
    """``None``: rewrites are not checked."""
    llm_looks: bool = False
    """Whether the language model is the captioner as well."""

    @property
    def uses_checklist(self) -> bool:
        """Whether images are held against a checklist."""
        return self.judge.uses_checklist or self.selector.uses_checklist

    @property
    def writes_checklist(self) -> bool:
        """Whether a checklist is written: images or rewrites are held against it."""
        return self.uses_checklist or self.guard is not None

    @property
    def needs_llm(self) -> bool:
        """Whether a language model is asked anything."""
        asked = any(one.requests for _, one in self.played())
        return asked or self.writes_checklist or self.llm_looks

    def played(self) -> Iterator[tuple[str, AgentSpec[Any]]]:
        """Yield each role that is played, with who plays it."""
        for role in ("judge", "optimizer", "selector", "answerer", "guard"):
            spec = getattr(self, role)
            if spec is not None:
                yield role, spec


def find_roles(settings: Settings) -> Roles:
    """Return who plays the roles; nothing is opened for that.

    Raises:
        ConfigurationError: If a name is unknown, an agent of one's own cannot be
            awaited, or a role needs what other settings do not give.
    """
    judge = _find(settings.judge, "judge", JUDGES, JudgeSpec(slow=True, **_OWN))
    selector = _find(settings.selector, "selector", SELECTORS, SelectorSpec(**_OWN))
    optimizer = _find(
        settings.optimizer, "optimizer", OPTIMIZERS, OptimizerSpec(**_OWN)
    )
    guard = settings.guard and _find(settings.guard, "guard", GUARDS, GuardSpec(**_OWN))
    answerer = _named(settings.answerer, "answerer", ANSWERERS)
    checks = judge.uses_checklist or selector.uses_checklist
    roles = Roles(
        judge=judge,
        optimizer=optimizer,
        selector=selector,
        answerer=answerer if checks else None,
        guard=guard if optimizer.guarded else None,
        llm_looks=isinstance(settings.captioner, str) and settings.captioner == "llm",
    )
    _check_needs(settings, roles)
    return roles


def find_templates(settings: Settings) -> dict[str, Template]:
    """Return the templates of the roles that a language model plays, by role.

    Raises:
        ConfigurationError: As of ``find_roles``.
        TemplateError: If a template cannot be found or read.
    """
    roles = find_roles(settings)
    names = {
        role: getattr(settings, f"{role}_template") or spec.template
        for role, spec in roles.played()
        if spec.template is not None
    }
    if roles.writes_checklist:
        names["checklist"] = settings.checklist_template
    order = ("judge", "optimizer", "selector", "checklist", "answerer", "guard")
    found = {role: find_template(role, names[role]) for role in order if role in names}
    return _plain(settings, found) if _is_base_model(settings.llm) else found


def _is_base_model(llm: Any) -> bool:
    if isinstance(llm, str):
        return False
    from langchain_core.language_models import BaseLLM

    return isinstance(llm, BaseLLM)


def _plain(settings: Settings, templates: dict[str, Template]) -> dict[str, Template]:
    """Return templates that a base model can continue; others give way to the shipped."""
    for role, template in templates.items():
        if template.stop is None and role not in PLAIN:
            message = (
                f"expected a chat model for the {role}, got {_shown(settings.llm)}, a "
                "base model, which continues text and writes no JSON; choose a chat "
                "model, or judge 'caption' or a score, selector 'clip' and no guard"
            )
            raise ConfigurationError(message)
    return {
        role: template
        if template.stop is not None
        else find_template(role, PLAIN[role])
        for role, template in templates.items()
    }


def check_vision(
    settings: Settings, templates: Mapping[str, Template], llm: BaseChatModel | None
) -> None:
    """Check that a language model that shall see says nothing to the contrary.

    Raises:
        ConfigurationError: If it takes no images.
    """
    roles = find_roles(settings)
    shown = {role for role, one in templates.items() if "image" in one.variables}
    needed = {role for role, one in roles.played() if one.needs_image}
    looking = [role for role in templates if role in shown | needed]
    if roles.llm_looks:
        looking.insert(0, "captioner")
    if looking and llm is not None and accepts_images(llm) is False:
        message = (
            f"expected an llm that sees images for the {looking[0]}, got "
            f"{_shown(settings.llm)}, which takes none; choose another llm, or one that "
            "needs no images, such as judge 'checklist'"
        )
        raise ConfigurationError(message)


def _shown(given: Any) -> str:
    """Return how messages name an object of one's own, or a name."""
    if isinstance(given, str):
        return repr(given)
    return str(getattr(given, "__qualname__", type(given).__name__))


_OWN: dict[str, Any] = {"name": "", "title": "your own", "build": None}


def _find(given: Any, role: str, registry: Registry[Spec], own: Spec) -> Spec:
    """Return the entry that a setting names, or one for a callable of one's own."""
    if isinstance(given, str):
        return _named(given, role, registry)
    if is_async(given):
        return replace(own, build=lambda _: given)
    message = (
        f"expected the {role} to be a name or an async callable of a history, got "
        f"{_shown(given)}; write 'async def'"
    )
    raise ConfigurationError(message)


def _named(given: str, role: str, registry: Registry[Spec]) -> Spec:
    name, colon, text = given.partition(":")
    try:
        spec = registry.find(name)
        if spec.read_argument is not None:
            argument = spec.read_argument(text)
        elif colon:
            message = (
                f"expected {role} {name!r} alone, got {given!r}; leave out {text!r}"
            )
            raise ConfigurationError(message)
        else:
            return spec
    except ValueError as problem:
        message = f"{role}: {problem}"
        raise ConfigurationError(message) from None
    return replace(
        spec, build=lambda context: spec.build(replace(context, argument=argument))
    )


def _check_needs(settings: Settings, roles: Roles) -> None:
    """Refuse roles that need what other settings do not give."""
    captioner, answerer = settings.captioner, roles.answerer
    only_captions = not isinstance(captioner, str) and not (
        hasattr(captioner, "decide") or hasattr(captioner, "answer")
    )
    unscored = settings.scorer is None
    contradictions = {
        f"expected a scorer for selector {settings.selector!r}, got none; name a "
        "scorer, or choose selector 'caption'": unscored
        and roles.selector.needs_scorer,
        "expected a captioner that answers questions for the checklist, got "
        f"{_shown(captioner)!r}, which only captions; give one with "
        "'decide' or 'answer', set answerer='llm', or choose judge 'caption' and "
        "selector 'clip'": answerer and answerer.needs_captioner and only_captions,
        f"expected a scorer for judge {settings.judge!r}, got none; name a scorer, or "
        "choose judge 'caption'": unscored and roles.judge.needs_score,
    }
    for message, contradicted in contradictions.items():
        if contradicted:
            raise ConfigurationError(message)
