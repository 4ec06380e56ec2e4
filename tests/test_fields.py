"""Fields: every setting is described once, and everything else follows from that."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.cli.options import with_settings
from socratic_agents.config.catalog import PROFILES, SDXL
from socratic_agents.config.field import Decides, Field, Group, Part
from socratic_agents.config.fields import FIELDS, deciding, defaults_of
from socratic_agents.config.profiles import PRESETS, default_in_words
from socratic_agents.config.settings import Settings
from socratic_agents.core.budget import Budget
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.runtime.cached_models import (
    language_model_identity,
    model_identity,
)
from socratic_agents.storage.journal import key_of
from socratic_agents.storage.run_config import (
    PERFORMANCE_ONLY,
    check_resumable,
    decisive_settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EACH = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)


def test_every_setting_has_a_field() -> None:
    """A setting without an entry in the table is told apart, and so is the reverse."""
    assert FIELDS.keys() == Settings.model_fields.keys()


@EACH
def test_settings_say_what_their_fields_say(field: Field) -> None:
    """Each setting is bound to its own field: the same default, the same text."""
    setting = Settings.model_fields[field.name]
    default = setting.default
    if isinstance(default, Budget):
        assert Budget.parse(field.default) == default
    else:
        assert field.default == default
    assert field.help == setting.description


@EACH
def test_every_field_says_all_that_is_needed(field: Field) -> None:
    """It decides something, reads as one line, and ``None`` has a meaning."""
    assert field.decides
    assert "\n" not in field.help
    assert "|" not in field.help
    assert (field.default is None) == bool(field.unset)
    models = Decides.IMAGE | Decides.CAPTION | Decides.SCORE | Decides.ANSWER
    if field.decides & (models | Decides.COST):
        assert field.of
    if field.argument or field.server or field.at_opening:
        assert Part.GENERATOR in field.of


@EACH
def test_no_key_of_a_cached_call_is_older_than_its_setting(field: Field) -> None:
    """Only what decides an answer can stand in a key."""
    answers = Decides.IMAGE | Decides.CAPTION | Decides.SCORE | Decides.ANSWER
    assert field.decides & answers or not field.in_every_key


def _options() -> dict[str, inspect.Parameter]:
    def command(**overrides: Any) -> int:
        return 0

    signature = inspect.signature(_wrapped(command))
    return {p.name: p for p in signature.parameters.values() if p.annotation}


def _wrapped(command: Callable[..., int]) -> Callable[..., int]:
    return with_settings(command)


def test_all_settings_but_secrets_are_options() -> None:
    """A key would stand in the list of processes; everything else can be typed."""
    assert list(_options()) == [n for n, field in FIELDS.items() if not field.secret]
    assert ["image_api_key", "api_key"] == [
        name for name, field in FIELDS.items() if field.secret
    ]


def test_options_stand_in_the_panels_of_their_groups_with_their_defaults() -> None:
    """The help shows what happens where an option is left out."""
    for name, parameter in _options().items():
        info = parameter.annotation.__metadata__[0]
        assert FIELDS[name].group == info.rich_help_panel
        assert default_in_words(name) == info.show_default


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("profile", "pocket"),
        ("max_images", "12, by preset"),
        ("prompts_per_round", "4, by preset"),
        ("strict", "on, by profile"),
        ("scorer", "pocket, by preset and profile"),
        ("metadata", "on"),
        ("timeout", "60"),
        ("budget", "no limit"),
        ("device", "the best that is there"),
    ],
)
def test_a_default_is_what_one_gets(name: str, words: str) -> None:
    """Not what the field alone says, if profile and preset say otherwise."""
    assert words == default_in_words(name)


@EACH
def test_a_default_in_words_is_the_default(field: Field) -> None:
    """It begins with the value that settings have where nobody says anything."""
    value = Settings.model_fields[field.name].default
    usual = {**PRESETS["default"], **PROFILES["pocket"]}.get(field.name, value)
    words = default_in_words(field.name)
    if usual is None or isinstance(usual, Budget):
        assert words.startswith(field.unset)
    elif isinstance(usual, bool):
        assert words.startswith("on" if usual else "off")
    else:
        assert words.startswith(
            f"{usual:g}" if isinstance(usual, float) else f"{usual}"
        )


def test_what_decides_what() -> None:
    """Names are found by what they decide and whose calls they are about."""
    asked = ("base_url", "temperature", "llm_max_tokens", "llm_context")
    assert asked == deciding(Decides.ANSWER)
    own = {f"captioner_{n}" for n in ("options", "pixels", "quantization", "offload")}
    assert own | {"dtype"} == set(deciding(Decides.COST, Part.CAPTIONER))
    assert "steps" in deciding(Decides.IMAGE, Part.GENERATOR)
    assert "generator" not in deciding(Decides.IMAGE)
    assert {"prompts_per_round": 4, "seed": 0} == defaults_of(
        ["prompts_per_round", "seed"]
    )
    assert list(Group) == list(dict.fromkeys(f.group for f in FIELDS.values()))


def test_keys_of_cached_calls_stay_what_they_were() -> None:
    """What an earlier release drew and asked is found again."""
    settings = Settings(
        generator=SDXL,
        captioner="Salesforce/blip2-opt-2.7b",
        scorer="ViT-B-32-quickgelu/openai",
        llm="openai:gpt-5-mini",
        steps=25,
        width=1024,
        height=1024,
        dtype="float16",
        quantization="4bit",
        compile="full",
        vae_batch=2,
        base_url="http://x:1/v1",
        temperature=0.5,
    )
    parts = ("generator", "captioner", "scorer")
    keys = [key_of("x", model_identity(settings, part))[:16] for part in parts]
    assert ["59abc9ab9a4d9537", "1d7709290fc97986", "8910d799917a6e41"] == keys
    assert "fc4bb4e9308ea55d" == key_of("x", language_model_identity(settings))[:16]


def test_a_setting_of_today_does_not_stand_in_keys_until_it_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new setting that decides the image leaves old keys as they are."""
    new = replace(FIELDS["steps"], in_every_key=False)
    known = model_identity(Settings(), "generator")
    monkeypatch.setattr(
        "socratic_agents.runtime.cached_models.FIELDS", {**FIELDS, "steps": new}
    )
    assert "steps" not in model_identity(Settings(), "generator")
    assert 3 == model_identity(Settings(steps=3), "generator")["steps"]
    assert "steps" in known


def test_what_may_change_when_a_run_is_resumed() -> None:
    """Where it runs and who may see it, but nothing that decides what comes out."""
    expected = {"device", "in_flight", "llm_concurrency", "llm_rate", "metadata"}
    expected |= {"device_memory"}
    expected |= {
        "offload",
        "captioner_offload",
        "patience",
        "timeout",
        "workers",
        "llm_failure",
    }
    expected |= {"api_key", "image_api_key"}
    expected |= {"allow_pocket", "image_concurrency", "image_rate", "image_timeout"}
    assert expected == PERFORMANCE_ONLY


def test_a_setting_that_a_run_does_not_know_had_its_default(tmp_path: Path) -> None:
    """A run of an earlier release is resumed as it was, and not with a new setting."""
    shown = Settings().public()
    old = {name: value for name, value in shown.items() if name != "steps"}
    config = {"settings": old, "templates": {}}
    check_resumable(tmp_path, config, shown, {})
    with pytest.raises(ConfigurationError, match="steps: null -> 3"):
        check_resumable(tmp_path, config, shown | {"steps": 3}, {})
    config = {"settings": shown | {"gone": 1}, "templates": {}}
    check_resumable(tmp_path, config, shown, {})
    assert decisive_settings(old) == decisive_settings(shown)


def test_fields_are_cheap_to_import() -> None:
    """Help needs them, so neither pydantic nor a model library comes with them."""
    code = (
        "import sys, json, socratic_agents.cli.options;"
        "print(json.dumps([m.partition('.')[0] for m in sys.modules]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert not {"pydantic", "pydantic_core", "torch"} & set(json.loads(run.stdout))
