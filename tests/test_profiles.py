"""Profiles: which one ``local`` is on which card, and that every name in one is known."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openai.types import image_model
from openai.types.shared import chat_model

from socratic_agents.config import card, catalog
from socratic_agents.config.card import Card, cards_for, find_cards
from socratic_agents.config.catalog import ENDS, MODELS, PROFILES, REVISIONS
from socratic_agents.config.profiles import SIZES, pick_profile
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL.Image import Image

ROLES = ("generator", "final_generator", "captioner", "scorer", "llm")


@pytest.fixture(autouse=True)
def _nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty folder, on a machine whose cards are not known yet."""
    monkeypatch.chdir(tmp_path)
    for name in ("CUDA_VISIBLE_DEVICES", "SOCRATIC_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    find_cards.cache_clear()
    yield
    find_cards.cache_clear()


@pytest.fixture
def has_cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return what gives the machine NVIDIA's program, which tells of such cards."""

    def put(*lines: str, code: int = 0) -> None:
        program = tmp_path / "nvidia-smi"
        told = "\n".join(lines)
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{told}\nEND\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        find_cards.cache_clear()

    return put


def listed(number: int, mebibytes: object) -> str:
    return f"GPU-{number}abc, Some, Card {number}, {mebibytes}"


@pytest.mark.parametrize("name", PROFILES)
def test_every_name_of_a_profile_is_in_the_catalog(name: str) -> None:
    """With its licence, the day of the look-up, and the commit of a hub model."""
    for role in ROLES:
        model = PROFILES[name].get(role)
        if model not in {None, "captioner", "llm"}:
            known = MODELS[model]
            assert known.licence.name
            assert date(2026, 1, 1) < known.checked
            assert model not in ENDS
            hub = role not in {"scorer", "llm"} and ":" not in model
            assert hub == (model in REVISIONS)


def test_a_commit_is_a_commit() -> None:
    """All forty digits of it."""
    assert all(re.fullmatch("[0-9a-f]{40}", one) for one in REVISIONS.values())


@pytest.mark.parametrize("module", [chat_model, image_model])
def test_what_ends_is_what_the_provider_says(module: Any) -> None:
    """Every model that OpenAI's client calls deprecated is known with its day."""
    (text,) = re.findall(
        r'"""Deprecated values:(.*?)"""', _source(module), flags=re.DOTALL
    )
    for item in re.split(r"\n- ", " ".join(text.split()).replace(" - ", "\n- "))[1:]:
        names, _, said = item.partition(": ")
        day = re.search(r"\d{4}-\d\d-\d\d|[A-Z][a-z]+ \d+, \d{4}", said)
        if day is None:
            assert "Not a supported model ID" in said
            continue
        for name in re.findall('"([^"]+)"', names):
            assert _day(day[0]) == ENDS[f"openai:{name}"].day, name


def _source(module: Any) -> str:
    return Path(module.__file__).read_text("utf-8")


def _day(text: str) -> date:
    if text[0].isdecimal():
        return date.fromisoformat(text)
    months = {"May": 5, "October": 10}
    month, number, year = text.replace(",", "").split()
    return date(int(year), months[month], int(number))


def test_what_takes_the_place_of_what_ended_has_no_end() -> None:
    """Nobody is sent from one model that ends to another."""
    assert not {end.successor for end in ENDS.values()} & ENDS.keys()
    assert {end.successor for end in ENDS.values()} <= MODELS.keys()


@pytest.mark.parametrize(
    ("mebibytes", "profile"),
    [
        (81_559, "local-80gb"),
        (46_068, "local-24gb"),
        (24_564, "local-24gb"),
        (23_034, "local-24gb"),
        (16_376, "local-16gb"),
        (15_360, "local-16gb"),
        (12_288, "local-8gb"),
        (8_192, "local-8gb"),
        (4_096, "local-8gb"),
    ],
)
def test_local_is_what_suits_the_card(
    has_cards: Callable[..., None], mebibytes: int, profile: str
) -> None:
    """By all memory of the card, in whichever GB its maker counts."""
    has_cards(listed(0, mebibytes), listed(1, 999_999))
    settings = Settings(profile="local")
    assert profile == settings.profile == settings.public()["profile"]
    assert dict(Settings(profile=profile)) == dict(settings)
    assert PROFILES[profile]["captioner"] == settings.captioner


def test_a_pick_stays_what_it_was(has_cards: Callable[..., None]) -> None:
    """Settings that were resolved do not look at the machine again."""
    has_cards(listed(0, 24_564))
    settings = Settings(profile="local")
    has_cards(listed(0, 8_192))
    assert "local-24gb" == settings.but(rounds=2).profile
    assert "local-8gb" == Settings(profile=" local ").profile


def test_without_a_card_local_is_the_smallest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whether it runs there is another question, which the doctor answers."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(card, "DRIVERS", tmp_path)
    assert "local-8gb" == Settings(profile="local").profile


@pytest.mark.parametrize(
    ("device", "visible", "names"),
    [
        (None, None, ["Some, Card 0"]),
        ("cuda", None, ["Some, Card 0"]),
        ("cuda:2", None, ["Some, Card 2"]),
        ("cuda:1, cuda:2", None, ["Some, Card 1", "Some, Card 2"]),
        ("cuda:7", None, []),
        ("cpu", None, []),
        (None, "2,0", ["Some, Card 2"]),
        ("cuda:1", "2,0", ["Some, Card 0"]),
        (None, "GPU-1abc", ["Some, Card 1"]),
        (None, "", []),
        (None, "-1", []),
        ("cuda:1", "0,9,1", []),
    ],
)
def test_the_cards_are_those_that_the_process_sees(
    has_cards: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    device: str | None,
    visible: str | None,
    names: list[str],
) -> None:
    """Those that a setting names, of those that the environment leaves."""
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    has_cards(*(listed(number, 8_192) for number in range(3)))
    assert names == [one.name for one in cards_for(device)]


def test_the_least_of_several_cards_decides(has_cards: Callable[..., None]) -> None:
    """Each of them holds the models."""
    has_cards(listed(0, 81_559), listed(1, 16_376))
    assert "local-16gb" == Settings(profile="local", device="cuda:0,cuda:1").profile
    assert "local-80gb" == Settings(profile="local").profile


def test_odd_answers_are_no_cards(has_cards: Callable[..., None]) -> None:
    """A driver that fails, and memory that nobody counts."""
    has_cards("NVIDIA-SMI has failed", code=9)
    assert () == card._nvidia({})
    has_cards(listed(0, "[N/A]"))
    assert () == card._nvidia({})


def test_other_makers_cards_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AMD's through the kernel, and Apple's by the machine's memory."""
    for number, told in enumerate((str(16 * 2**30), "none")):
        device = tmp_path / f"card{number}" / "device"
        device.mkdir(parents=True)
        (device / "mem_info_vram_total").write_text(told)
    assert (Card("AMD graphics", 16 * 2**30),) == card._amd(tmp_path)
    assert () == card._apple()
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    (apple,) = card._apple()
    assert ("Apple graphics", True) == (apple.name, apple.memory > 10**8)


def test_a_profile_that_is_none_stays_as_it_was() -> None:
    """What is wrong with it is said where it is read."""
    assert 3 == pick_profile({"profile": 3})
    assert "local-8gb" == pick_profile({"profile": "local", "device": 3})
    with pytest.raises(ConfigurationError, match="device"):
        Settings(profile="local", device=3)


class Captions:
    def caption(self, images: list[Image]) -> list[str]:
        return ["a thing" for _ in images]


def test_a_captioner_of_ones_own_need_not_score() -> None:
    """A profile that scores by its captioner does without, and nothing else changes."""
    settings = Settings(profile="local-24gb", captioner=Captions())
    assert (None, "caption", "caption") == (
        settings.scorer,
        settings.judge,
        settings.selector,
    )
    assert "captioner" == Settings(profile="local-24gb", captioner="a/b").scorer


def test_the_sizes_are_those_of_the_profiles() -> None:
    """Each size has its profile, and they fall."""
    assert [*SIZES.values()] == sorted(SIZES.values(), reverse=True)
    assert {*SIZES, "local-8gb"} == {n for n in PROFILES if n.startswith("local-")}
    assert catalog.CHECKED == max(one.checked for one in MODELS.values())
