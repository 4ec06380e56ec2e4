"""Roles: who plays what, by which template, and who must be able to see."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from socratic_agents.agents.registry import (
    check_eyes,
    find_templates,
    guards,
    inquires,
    open_answerer,
    open_inquirer,
    open_judge,
    open_optimizer,
    open_selector,
)
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import History, Verdict
from socratic_agents.runtime.refiner import Refiner
from tests.fakes import ScriptedChatModel, drawn, history


async def paint(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8))


async def describe(image: Image.Image) -> str:
    return "a thing"


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
OWN: dict[str, Any] = {"judge": "never", "selector": "last", "optimizer": rewrite}


@pytest.mark.parametrize(
    ("overrides", "templates"),
    [
        ({}, CHECKED),
        ({"answerer": "llm"}, CHECKED | {"answerer": "default"}),
        ({"guard": None}, {"optimizer": "default", "checklist": "default"}),
        ({"guard": let_through}, {"optimizer": "default", "checklist": "default"}),
        ({"optimizer": rewrite}, {"checklist": "default"}),
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
    assert ("guard" in templates) == guards(settings)
    assert ("checklist" in templates) == inquires(settings)


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
        check_eyes(settings, templates, ScriptedChatModel(profile=said))
    blind = ScriptedChatModel(profile={"image_inputs": False})
    with pytest.raises(ConfigurationError, match=f"sees images for the {role}"):
        check_eyes(settings, templates, blind)


def test_a_blind_model_is_named() -> None:
    """A name is quoted, and an object is named by its class."""
    blind = ScriptedChatModel(profile={"image_inputs": False})
    for llm, shown in ((blind, "got ScriptedChatModel,"), ("openai:x", "'openai:x'")):
        settings = Settings(judge="vision", llm=llm)
        with pytest.raises(ConfigurationError, match=shown):
            check_eyes(settings, find_templates(settings), blind)


def test_who_looks_at_nothing_needs_no_eyes() -> None:
    """The captioner looks for everyone else."""
    settings = Settings()
    blind = ScriptedChatModel(profile={"image_inputs": False})
    check_eyes(settings, find_templates(settings), blind)
    check_eyes(Settings(judge="vision"), {}, None)


@pytest.mark.parametrize(
    "judge", ["checklist", "caption", "vision", "score:0.8", "never", pick]
)
@pytest.mark.parametrize(
    "selector", ["checklist", "caption", "clip", "vision", "first", "last", pick]
)
def test_every_name_opens(judge: Any, selector: Any) -> None:
    """All judges and selectors go together, and a callable is taken as it is."""
    settings = Settings(judge=judge, selector=selector)
    templates, llm = find_templates(settings), ScriptedChatModel()
    opened = (
        open_judge(settings, templates, llm),
        open_selector(settings, templates, llm),
    )
    for given, role in zip((judge, selector), opened, strict=True):
        assert asyncio.iscoroutinefunction(role)
        assert (given is role) == callable(given)


def test_a_guard_of_ones_own_holds_the_rewrites() -> None:
    """It gets what the language model wrote, and what it lets through is drawn."""
    settings = Settings(guard=let_through, prompts_per_round=2)
    script = [{"reason": "", "prompts": ["a scarlet ball", "a ruby ball"]}]
    optimize = open_optimizer(
        settings, find_templates(settings), ScriptedChatModel(script=script), None
    )
    assert ("a ruby ball",) == asyncio.run(optimize(history("a ball", drawn("a ball"))))


def test_a_guard_of_ones_own_is_awaited() -> None:
    """One that blocks is told before it could hold everything up."""
    settings = Settings(guard=print)
    with pytest.raises(ConfigurationError, match="expected the guard to be a name"):
        open_optimizer(settings, find_templates(settings), ScriptedChatModel(), None)


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
    settings = Settings(**OWN)
    templates = find_templates(settings)
    assert open_inquirer(settings, templates, None) is None
    assert open_answerer(templates, None) is None
