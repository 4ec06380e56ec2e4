"""Roles: who plays what, by which template, and who must be able to see."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from socratic_agents.agents.checklist_answerers import ANSWERERS
from socratic_agents.agents.guard import GUARDS
from socratic_agents.agents.judges import JUDGES
from socratic_agents.agents.optimizer import OPTIMIZERS
from socratic_agents.agents.registry import check_vision, find_roles, find_templates
from socratic_agents.agents.selectors import SELECTORS
from socratic_agents.agents.spec import BuildContext
from socratic_agents.config.fields import FIELDS
from socratic_agents.config.settings import Settings
from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import History, Verdict
from socratic_agents.llm.template_files import find_template
from socratic_agents.runtime.build import build_agents
from socratic_agents.runtime.cost_estimate import worst_case
from socratic_agents.runtime.image_models import ImageModels
from socratic_agents.runtime.refiner import Refiner
from tests.fakes import ScriptedChatModel, drawn, history


async def paint(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), "red")


async def describe(image: Image.Image) -> str:
    return "a thing"


async def decide(image: Image.Image, question: str) -> Answer:
    return Answer(said=YesNo.YES)


async def rewrite(history: History) -> tuple[str, ...]:
    return ("a red ball",)


async def let_through(history: History, prompts: tuple[str, ...]) -> tuple[str, ...]:
    return prompts[-1:]


async def pick(history: History) -> int:
    return 0


@dataclass
class Unhashable:
    """Roles of one's own may be objects that compare by value."""

    satisfied: bool = True

    async def __call__(self, history: History) -> Any:
        return Verdict(satisfied=self.satisfied)


def _templates(**overrides: Any) -> dict[str, str]:
    found = find_templates(Settings(**overrides))
    return {role: template.name for role, template in found.items()}


CHECKED = {"optimizer": "default", "checklist": "default", "guard": "default"}
JUDGED = CHECKED | {"judge": "default"}
OWN: dict[str, Any] = {"judge": "never", "selector": "last", "optimizer": rewrite}


@pytest.mark.parametrize(
    ("overrides", "templates"),
    [
        ({}, JUDGED),
        ({"judge": "checklist"}, CHECKED),
        ({"answerer": "llm"}, JUDGED | {"answerer": "default"}),
        ({"guard": None}, {n: JUDGED[n] for n in JUDGED if n != "guard"}),
        ({"guard": let_through}, {n: JUDGED[n] for n in JUDGED if n != "guard"}),
        ({"optimizer": rewrite}, {"judge": "default", "checklist": "default"}),
        (
            {"preset": "classic"},
            {"judge": "default", "optimizer": "classic", "selector": "default"},
        ),
        ({"judge": "vision", "selector": "clip"}, CHECKED | {"judge": "vision"}),
        ({"judge": "never", "selector": "vision"}, CHECKED | {"selector": "vision"}),
        (
            {"judge": "vision", "judge_template": "default", "selector": "clip"},
            CHECKED | {"judge": "default"},
        ),
        (OWN, {}),
        (OWN | {"answerer": "llm"}, {}),
        (OWN | {"guard": let_through}, {}),
        (
            {"judge": "never", "selector": "last", "guard": None},
            {"optimizer": "default"},
        ),
        (OWN | {"judge": Unhashable(), "selector": Unhashable()}, {}),
    ],
)
def test_who_speaks_gets_a_template(
    overrides: dict[str, Any], templates: dict[str, str]
) -> None:
    """Roles that nobody plays have none, and each name brings its own words."""
    assert templates == _templates(**overrides)
    settings = Settings(**overrides)
    roles = find_roles(settings)
    assert roles.needs_llm == bool(templates)
    assert ("checklist" in templates) == roles.writes_checklist
    assert ("answerer" in templates) == (
        roles.uses_checklist and settings.answerer == "llm"
    )


@pytest.mark.parametrize(
    ("overrides", "role"),
    [
        ({"judge": "vision"}, "judge"),
        ({"selector": "vision", "selector_template": "default"}, "selector"),
        ({"optimizer_template": "vision"}, "optimizer"),
        ({"answerer": "llm"}, "answerer"),
    ],
)
def test_who_looks_needs_eyes(overrides: dict[str, Any], role: str) -> None:
    """Only a model that says it takes no images is refused, by the role's name."""
    settings = Settings(**overrides)
    templates = find_templates(settings)
    for said in ({"image_inputs": True}, {}, None):
        check_vision(settings, templates, ScriptedChatModel(profile=said))
    blind = ScriptedChatModel(profile={"image_inputs": False})
    with pytest.raises(ConfigurationError, match=f"sees images for the {role}"):
        check_vision(settings, templates, blind)


def test_a_blind_model_is_named() -> None:
    """A name is quoted, and an object is named by its class."""
    blind = ScriptedChatModel(profile={"image_inputs": False})
    for llm, shown in ((blind, "got ScriptedChatModel,"), ("openai:x", "'openai:x'")):
        settings = Settings(judge="vision", llm=llm)
        with pytest.raises(ConfigurationError, match=shown):
            check_vision(settings, find_templates(settings), blind)


def test_who_looks_at_nothing_needs_no_eyes() -> None:
    """The captioner looks for everyone else."""
    settings = Settings()
    blind = ScriptedChatModel(profile={"image_inputs": False})
    check_vision(settings, find_templates(settings), blind)
    check_vision(Settings(judge="vision"), {}, None)


def _built(role: str, settings: Settings, **script: Any) -> Any:
    """Return who plays a role, as a refiner makes him."""
    template = find_templates(settings).get(role)
    llm = ScriptedChatModel(**script)
    context = BuildContext(settings=settings, llm=llm, template=template)
    return getattr(find_roles(settings), role).build(context)


@pytest.mark.parametrize("judge", [*sorted({*JUDGES} - {"score"}), "score:0.8", pick])
@pytest.mark.parametrize("selector", [*SELECTORS, pick])
def test_every_name_is_built(judge: Any, selector: Any) -> None:
    """All judges and selectors go together, and a callable is taken as it is."""
    settings = Settings(judge=judge, selector=selector)
    for given, role in ((judge, "judge"), (selector, "selector")):
        agent = _built(role, settings)
        assert asyncio.iscoroutinefunction(agent)
        assert (given is agent) == callable(given)


async def test_a_guard_of_ones_own_holds_the_rewrites() -> None:
    """It gets what the language model wrote, and what it lets through is drawn."""
    settings = Settings(guard=let_through, prompts_per_round=2)
    script = [{"reason": "", "prompts": ["a scarlet ball", "a ruby ball"]}]
    llm = ScriptedChatModel(script=script)
    models = ImageModels(generate=paint, caption=describe, answer_yes_no=decide)
    agents = build_agents(settings, find_templates(settings), llm, models)
    past = history("a ball", drawn("a ball"))
    assert ("a ruby ball",) == await agents.optimize(past)


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"judge": "capton"},
        "expected a judge .checklist, confirmed, caption, vision, score, never., got 'capton'",
    ),
    ({"judge": "Caption"}, "judge: .*; did you mean 'caption'"),
    ({"judge": "score:high"}, "judge: expected a number after 'score:', such as 0.8"),
    ({"judge": "score"}, "expected a number after 'score:', such as 0.8, got 'score:'"),
    ({"judge": "never:3"}, "expected judge 'never' alone, got 'never:3'; leave out"),
    ({"judge": print}, "expected the judge to be a name or an async"),
    ({"selector": print}, "expected the selector to be a name or an async"),
    ({"optimizer": print}, "expected the optimizer to be a name or an async"),
    ({"guard": print}, "expected the guard to be a name or an async"),
    ({"selector": "clib"}, "did you mean 'clip'"),
    ({"optimizer": "lm"}, "did you mean 'llm'"),
    ({"guard": "lm"}, "guard: expected a guard.*did you mean 'llm'"),
    ({"guard": "lm", "optimizer": rewrite}, "guard: expected a guard"),
    ({"answerer": "me"}, "answerer: expected an answerer .captioner, llm., got 'me'"),
    ({"scorer": None, "selector": "clip"}, "expected a scorer for selector 'clip'"),
    (
        {"scorer": None, "selector": "last", "judge": "score:0.8"},
        "expected a scorer for judge 'score:0.8'",
    ),
    (
        {"captioner": describe, "judge": "checklist"},
        "got 'describe', which only captions; .* set answerer='llm'",
    ),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=[b[1] for b in BAD])
def test_a_role_that_cannot_be_played_is_refused(
    given: dict[str, Any], message: str
) -> None:
    """Before anything is opened, by whoever refines or estimates what it costs."""
    settings = Settings(**given)
    for refuse in (find_roles, find_templates, Refiner, worst_case):
        with pytest.raises(ConfigurationError, match=message) as caught:
            refuse(settings)
        assert "\n" not in str(caught.value)


REGISTRIES: dict[str, Any] = {
    "judge": JUDGES,
    "selector": SELECTORS,
    "optimizer": OPTIMIZERS,
    "guard": GUARDS,
    "answerer": ANSWERERS,
}


@pytest.mark.parametrize("role", REGISTRIES)
def test_the_help_names_every_entry(role: str) -> None:
    """Options and docs/settings.md are built without the agents, so it is compared."""
    missing = [name for name in REGISTRIES[role] if name not in FIELDS[role].help]
    assert [] == missing
    assert FIELDS[role].default in REGISTRIES[role]


@pytest.mark.parametrize("role", REGISTRIES)
def test_an_entry_says_what_it_takes(role: str) -> None:
    """Whoever has words of his own asks a language model, and his words exist."""
    for spec in REGISTRIES[role].values():
        assert spec.title.endswith(".")
        if spec.template is not None:
            assert spec.requests > 0
            template = find_template(role, spec.template)
            assert not ("image" in template.variables and not spec.needs_image)


async def test_a_role_without_a_hash_is_a_role() -> None:
    """Objects that compare by value judge as others do."""
    async with Refiner(
        generator=paint,
        captioner=describe,
        scorer=None,
        optimizer=rewrite,
        judge=Unhashable(),
        selector=pick,
    ) as refiner:
        refinement = await refiner.refine("a ball")
    assert 1 == refinement.usage.images


def test_nobody_inquires_where_nobody_asks() -> None:
    """Without a checklist there is nobody to write or to answer it."""
    models = ImageModels(generate=paint, caption=describe)
    agents = build_agents(Settings(**OWN), {}, None, models)
    assert agents.inquire is None
    assert agents.answer is None


def test_a_captioner_that_turns_out_to_only_caption_is_refused() -> None:
    """A name says nothing of that before it is opened."""
    context = BuildContext(settings=Settings())
    with pytest.raises(ConfigurationError, match="got one that only captions"):
        ANSWERERS["captioner"].build(context)
