"""Settings: precedence, one-line errors, contradictions, and no secrets shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from socratic_agents.agents.registry import find_roles
from socratic_agents.config.catalog import PROFILES
from socratic_agents.config.image_options import ImageOptions
from socratic_agents.config.messages import unknown_variables
from socratic_agents.config.profiles import PRESETS
from socratic_agents.config.settings import Settings
from socratic_agents.core.budget import Budget
from socratic_agents.core.errors import ConfigurationError, PromptError
from socratic_agents.core.prompts import validate_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socratic_agents.core.history import History


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, so that no other file counts."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def describe(image: object) -> str:
    return "a thing"


class Captions:
    def caption(self, images: Sequence[object]) -> list[str]:
        return ["a thing" for _ in images]


async def last_one(history: History) -> int:
    return len(history.candidates) - 1


class Painter:
    def __call__(self, prompt: str, seed: int) -> None: ...


def test_the_pocket_world_is_the_default() -> None:
    """Where nothing is configured, everything is embedded and offline."""
    settings = Settings()
    parts = {settings.generator, settings.captioner, settings.scorer, settings.llm}
    assert {"pocket"} == parts


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid(profile: str) -> None:
    """Each profile can be used as it is, and says which one it is."""
    settings = Settings(profile=profile)
    assert profile == settings.public()["profile"]
    for name, value in PROFILES[profile].items():
        assert value == getattr(settings, name)


def test_precedence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument beats the environment, that the file, and that the profile."""
    assert 8 == Settings(profile="local-24gb").steps
    (folder / "socratic.toml").write_text('profile = "local-24gb"\nsteps = 5\nseed = 5')
    assert (5, 5) == (Settings().steps, Settings().seed)
    monkeypatch.setenv("SOCRATIC_STEPS", "6")
    assert (6, 5) == (Settings().steps, Settings().seed)
    assert (7, 5) == (Settings(steps=7).steps, Settings(steps=7).seed)


def test_the_environment_can_name_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """SOCRATIC_PROFILE brings in all that its profile sets."""
    monkeypatch.setenv("SOCRATIC_PROFILE", "classic")
    assert ("classic", 1) == (
        Settings().optimizer_template,
        Settings().prompts_per_round,
    )


def test_a_profile_beats_a_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a profile says of the policy wins over its preset, and loses to the file."""
    monkeypatch.setitem(PROFILES, "patient", {"preset": "quick", "rounds": 9})
    settings = Settings(profile="patient")
    assert ("quick", 9, None) == (
        settings.preset,
        settings.rounds,
        settings.max_images,
    )
    settings = Settings(profile="patient", preset="classic")
    assert (9, 1) == (settings.rounds, settings.prompts_per_round)
    Path("socratic.toml").write_text("rounds = 3")
    assert 3 == Settings(profile="patient").rounds


@pytest.mark.parametrize(
    ("name", "value"),
    [("PRESET", " thorough "), ("PROFILE", " classic "), ("MAX_IMAGES", " 6 ")],
)
def test_blanks_around_a_name_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A padded variable is the same as a plain one, with all that follows from it."""
    monkeypatch.setenv(f"SOCRATIC_{name}", value)
    padded = Settings()
    monkeypatch.setenv(f"SOCRATIC_{name}", value.strip())
    assert dict(Settings()) == dict(padded)
    assert PRESETS["default"].items() - dict(padded).items()


def test_a_captioner_without_answers_leaves_the_classic_as_it_is() -> None:
    """The predecessor asks for captions alone, and scores nothing."""
    settings = Settings(profile="classic", captioner=describe)
    assert ("caption", "caption", None) == (
        settings.judge,
        settings.selector,
        settings.scorer,
    )


@pytest.mark.parametrize("scorer", [None, " None "])
def test_nobody_answers_and_nobody_scores(scorer: object) -> None:
    """A selector that nobody chose is not the one that needs what nobody gave."""
    settings = Settings(captioner=Captions(), scorer=scorer)
    assert ("caption", "caption", None) == (
        settings.judge,
        settings.selector,
        settings.guard,
    )


def test_a_captioner_scores_if_it_can() -> None:
    """Whether it can is known before anything is loaded."""
    with pytest.raises(ConfigurationError, match="'Captions'; give one, or name"):
        Settings(captioner=Captions(), scorer="captioner")
    assert "captioner" == Settings(scorer="captioner").scorer


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("other", PRESETS)
def test_changing_the_preset_is_choosing_it(preset: str, other: str) -> None:
    """Nothing of the policy that was left stays behind."""
    for overrides in ({}, {"profile": "local-24gb"}, {"max_images": 7}):
        changed = Settings(preset=preset, **overrides).but(preset=other)
        assert dict(Settings(preset=other, **overrides)) == dict(changed)


def test_another_preset_knows_the_captioner() -> None:
    """A checklist that nobody can answer is not brought by a preset either."""
    settings = Settings(captioner=describe).but(preset="quick")
    assert ("caption", "clip") == (settings.judge, settings.selector)
    settings = Settings(captioner=describe, answerer="llm").but(preset="quick")
    assert ("confirmed", "checklist") == (settings.judge, settings.selector)
    with pytest.raises(ConfigurationError, match="set answerer='llm'"):
        find_roles(Settings(captioner=describe).but(judge="checklist"))


def test_what_was_set_outright_outlives_the_preset() -> None:
    """Only what the old preset wanted goes with it."""
    mine = Settings(preset="classic", scorer="ViT-B-32/openai", optimizer_template="x")
    changed = mine.but(preset="quick")
    assert ("ViT-B-32/openai", "x") == (changed.scorer, changed.optimizer_template)


@pytest.mark.parametrize(
    "text",
    [
        'budget = "images=3,llm-calls=4"\nprices = "image=0.5"',
        "[budget]\nimages = 3\nllm_calls = 4\n[prices]\nimage = 0.5",
    ],
)
def test_budgets_stand_in_the_file(folder: Path, text: str) -> None:
    """As text or as a table; the environment wins, as everywhere."""
    (folder / "socratic.toml").write_text(text)
    settings = Settings()
    assert Budget(images=3, llm_calls=4) == settings.budget
    assert {"image": 0.5, "input_tokens": 0.0, "output_tokens": 0.0} == (
        settings.public()["prices"]
    )


def test_a_budget_in_the_environment_wins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable beats the file, an argument beats both, and none means no limit."""
    (folder / "socratic.toml").write_text('budget = "images=3"')
    monkeypatch.setenv("SOCRATIC_BUDGET", "seconds=2.5")
    assert Budget(seconds=2.5) == Settings().budget
    assert Budget(tokens=9) == Settings(budget={"tokens": 9}).budget
    monkeypatch.setenv("SOCRATIC_BUDGET", "none")
    assert Budget() == Settings().budget


def test_details_belong_to_the_profiles_own_generator() -> None:
    """Another generator does not inherit the steps and guidance of the profile's."""
    settings = Settings(profile="local-24gb", generator="some/other-model")
    details = (settings.steps, settings.guidance_scale, settings.offload)
    assert (None, None, None) == details
    assert PROFILES["local-24gb"]["llm"] == settings.llm


def test_an_object_is_a_generator_too() -> None:
    """Objects pass through untouched and are shown by the name of their class."""
    painter = Painter()
    settings = Settings(generator=painter, selector=last_one)
    assert painter is settings.generator
    assert last_one is settings.selector
    shown = settings.public()
    assert ("Painter", "last_one") == (shown["generator"], shown["selector"])


def test_a_path_is_a_name(folder: Path) -> None:
    """A local folder may be given as a path."""
    assert str(folder) == Settings(generator=folder).generator


def test_none_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The word none stands for None where there is no other way to say it."""
    monkeypatch.setenv("SOCRATIC_SCORER", "none")
    assert Settings(selector="caption").scorer is None


def test_settings_are_frozen() -> None:
    """Settings cannot be changed, only made anew."""
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.rounds = 9  # type: ignore[misc]
    assert (9, None) == (settings.but(rounds=9).rounds, settings.rounds)


def test_rounds_said_later_stand_in_the_place_of_images_too() -> None:
    """What was said of images outright is not touched."""
    assert (None, 12) == (Settings().but(rounds=9).max_images, Settings().max_images)
    assert 7 == Settings(max_images=7).but(rounds=9).max_images
    assert 5 == Settings().but(rounds=9, max_images=5).max_images
    assert 12 == Settings().but(seed=3).max_images


def test_but_keeps_what_was_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing a few settings does not look at the environment again."""
    settings = Settings(api_key="sk-hidden", profile="classic")
    monkeypatch.setenv("SOCRATIC_ROUNDS", "9")
    changed = settings.but(seed=3)
    assert (6, 3) == (changed.rounds, changed.seed)
    assert changed.api_key is not None
    assert "sk-hidden" == changed.api_key.get_secret_value()
    with pytest.raises(ConfigurationError, match="make new Settings"):
        settings.but(profile="local")


def test_secrets_are_not_shown() -> None:
    """A key and an address's login appear neither in public() nor in repr()."""
    settings = Settings(
        api_key="sk-hidden",
        llm="openai:x",
        base_url="https://me:sk-hidden@server:8000/v1?key=sk-hidden",
        generator="https://sk-hidden@images/v1",
    )
    assert "sk-hidden" not in json.dumps(settings.public())
    assert "https://server:8000/v1" == settings.public()["base_url"]
    assert "api_key" not in settings.public()
    assert "sk-hidden" not in repr(settings.api_key)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"profile": "lokal"}, r"profile: expected a profile \(.*got 'lokal'.*'local'\?"),
    ({"profile": None}, "profile: expected a valid string, got None"),
    ({"roundz": 3}, "expected a setting, got roundz; did you mean 'rounds'"),
    ({"q": 3}, "expected a setting, got q; known are "),
    ({"rounds": 0}, "rounds: expected greater than or equal to 1, got 0"),
    ({"rounds": -1}, "rounds: .*got -1"),
    ({"rounds": "many"}, "rounds: expected a valid integer.*got 'many'"),
    ({"rounds": " "}, "rounds: expected a value, got an empty string"),
    ({"guidance_scale": float("nan")}, "expected a finite number"),
    ({"width": 100}, "width: expected a multiple of 8, got 100"),
    ({"dtype": "int3"}, "dtype: expected 'float32', 'float16' or 'bfloat16'"),
    ({"llm": None}, "llm: expected a name or an object, got none"),
    ({"judge": 7}, "expected a judge's name or a callable, got int"),
    ({"preset": "slow"}, r"preset: expected a preset \(quick, default, thorough"),
    ({"preset": "slow", "max_images": 6}, "preset: expected a preset"),
    ({"preset": 3, "max_images": 6}, "preset: expected a valid string"),
    ({"guard": 7}, "expected a guard's name or a callable, got int"),
    ({"optimizer": 7}, "expected an optimizer's name or a callable, got int"),
    ({"selector": None}, "expected a selector's name or a callable, got NoneType"),
    ({"budget": "imges=3"}, "budget: expected.*did you mean 'images'"),
    ({"budget": "images=-3"}, "budget: expected images to be a whole number above 0"),
    ({"run_budget": 7}, "run_budget: expected a budget such as.*got int"),
    ({"run_budget": "money=1"}, "expected prices for a budget of money=1, got none"),
    ({"prices": "image=-1"}, "prices: expected the price image to be"),
    ({"max_images": 1, "seeds_per_prompt": 2}, "max_images.*raise the one"),
    ({"base_url": "http://x/v1"}, "expected an llm that base_url leads to"),
    ({"offload": "model", "device": "cpu"}, "offload"),
    (
        {"negative_prompt": "a\0b"},
        r"negative_prompt: expected a prompt without control",
    ),
    (
        {"negative_prompt": "dark", "guidance_scale": 1},
        "expected a guidance_scale .* above 1 for a negative prompt.*got 1",
    ),
]


@pytest.mark.parametrize(("given_", "message"), BAD, ids=[str(b[0]) for b in BAD])
def test_bad_settings_are_one_line(given_: dict[str, Any], message: str) -> None:
    """A setting that cannot be is told in one line: expected, came, what to do."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        Settings(**given_)
    assert "\n" not in str(caught.value)


def test_a_bad_secret_is_not_quoted() -> None:
    """A key of the wrong type is refused without being shown."""
    with pytest.raises(ConfigurationError) as caught:
        Settings(api_key=["sk-hidden"])
    assert "sk-hidden" not in str(caught.value)


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that comes from the environment names the variable."""
    monkeypatch.setenv("SOCRATIC_ROUNDS", "few")
    with pytest.raises(ConfigurationError, match=r"^SOCRATIC_ROUNDS: expected"):
        Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("roundz = 3", "got roundz in socratic.toml; did you mean 'rounds'"),
        ("rounds = 0", "rounds in socratic.toml: expected"),
        ("rounds = ", "expected socratic.toml to be readable TOML"),
        ("[llm]\nkey = 3\n[x]", "expected a setting, got x in socratic.toml"),
    ],
)
def test_a_bad_file_is_named(folder: Path, text: str, message: str) -> None:
    """An error that comes from socratic.toml names the file."""
    (folder / "socratic.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        Settings()


def test_a_file_that_is_no_text_is_named(folder: Path) -> None:
    """Bytes that are no UTF-8 are an error of the file, not a traceback."""
    (folder / "socratic.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"socratic\.toml"):
        Settings()


def test_variables_that_set_nothing_are_found() -> None:
    """A misspelt variable is told apart, with the one that was meant."""
    known = {"SOCRATIC_SEED": "1", "SOCRATIC_CACHE": "here", "A": "b"}
    found = unknown_variables({"SOCRATIC_ROUNDZ": "3", **known})
    expected = {"SOCRATIC_ROUNDZ": "is no setting; did you mean 'SOCRATIC_ROUNDS'?"}
    assert expected == found


def test_a_prompt_is_stripped() -> None:
    """White space around a prompt is not part of it; line breaks inside are."""
    assert "a red ball\n\tand a box" == validate_prompt(
        "  a red ball\n\tand a box \r\n"
    )


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "got blank text"),
        (" \t\n", "got blank text"),
        ("x" * 100_000, "at most 10,000 characters, got 100,000"),
        ("a\0b", r"U\+0000 at character 2"),
        ("a\x1b[31m", r"U\+001B"),
        ("a\x7f", r"U\+007F"),
        ("\ud800a", r"U\+D800"),
        (7, "expected a prompt as text, got int"),
    ],
    ids=["empty", "blank", "long", "nul", "escape", "delete", "surrogate", "number"],
)
def test_a_prompt_that_cannot_be_refined(prompt: Any, message: str) -> None:
    """Such a prompt is refused in one line before anything is spent on it."""
    with pytest.raises(PromptError, match=message) as caught:
        validate_prompt(prompt)
    assert "\n" not in str(caught.value)
    assert 200 > len(str(caught.value))


@given(st.text())
def test_checked_is_idempotent(text: str) -> None:
    """What passes once passes again unchanged, and can be written as UTF-8."""
    try:
        prompt = validate_prompt(text)
    except PromptError:
        return
    assert prompt == validate_prompt(prompt)
    assert prompt.encode()


@pytest.mark.parametrize(
    ("given", "text", "values"),
    [
        (
            "size=auto, quality=high,seed=None",
            "quality=high,seed=none,size=auto",
            {"size": "auto", "quality": "high", "seed": None},
        ),
        (
            {"n": 2, "x": 0.5, "hd": True, "style": "vivid", "seed": None},
            "hd=true,n=2,seed=none,style=vivid,x=0.5",
            {"n": 2, "x": 0.5, "hd": True, "style": "vivid", "seed": None},
        ),
    ],
)
def test_image_options_are_read(given: Any, text: str, values: dict[str, Any]) -> None:
    """Text and mappings say the same, in one order, and with types as JSON has them."""
    assert text == Settings(image_options=given).image_options
    assert values == ImageOptions.parse(text).values
    assert Settings().image_options is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("size", "write name=value, with commas between them"),
        ("size=", "write name=value"),
        ("=auto", "write name=value"),
        ("a b=c", "write name=value"),
        ("prompt=a cat", "expected no prompt among the image options"),
        ("model=m", "expected no model among the image options"),
    ],
)
def test_image_options_that_are_none_are_told(given: str, message: str) -> None:
    """In one line, as of every setting."""
    with pytest.raises(ConfigurationError, match=message):
        Settings(image_options=given)
