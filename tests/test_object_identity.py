"""Objects as models: what was answered by one is never taken for another's answer."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from PIL import Image
from pydantic import PrivateAttr

from socratic_agents.config.settings import Settings
from socratic_agents.runtime.cached_models import (
    language_model_identity,
    model_identity,
)
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.storage.object_identity import object_identity
from socratic_agents.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}
SHADE = 3


class Painter:
    """Draws one colour; the field says which."""

    def __init__(self, colour: str) -> None:
        self.colour = colour

    def __call__(self, prompt: str, seed: int) -> Image.Image:
        return Image.new("RGB", (8, 8), self.colour)

    def draw(self, prompt: str, seed: int) -> Image.Image:
        return self(prompt, seed)


class Secretive(Painter):
    """Keeps its colour to itself."""

    def __init__(self, colour: str) -> None:
        super().__init__("")
        del self.colour
        self._colour = colour

    def __call__(self, prompt: str, seed: int) -> Image.Image:
        return Image.new("RGB", (8, 8), self._colour)


class Named(Secretive):
    """Says who it is."""

    def __init__(self, colour: str, identity: str) -> None:
        super().__init__(colour)
        self.identity = identity


class Slotted:
    """Has no dictionary of its fields."""

    __slots__ = ("colour",)

    def __init__(self, colour: str) -> None:
        self.colour = colour


@dataclass(frozen=True)
class Nested:
    """Holds another object."""

    colour: str
    painter: Painter = field(default_factory=lambda: Painter("red"))


def closing(colour: str) -> Callable[..., Image.Image]:
    def draw(prompt: str, seed: int) -> Image.Image:
        return Image.new("RGB", (8, 8), colour)

    return draw


def with_default(colour: str) -> Callable[..., Image.Image]:
    def draw(prompt: str, seed: int, shade: str = colour) -> Image.Image:
        return Image.new("RGB", (8, 8), shade)

    return draw


def local_class(colour: str) -> Any:
    class Local:
        shade = colour

        def __call__(self, prompt: str, seed: int) -> Image.Image:
            return Image.new("RGB", (8, 8), self.shade)

    return Local()


def plain(colour: str, prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), colour)


def using_a_global(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (SHADE, 0, 0))


KINDS: dict[str, Callable[[str], Any]] = {
    "object": Painter,
    "method": lambda colour: Painter(colour).draw,
    "slots": Slotted,
    "nested": Nested,
    "closure": closing,
    "default": with_default,
    "class": local_class,
    "partial": lambda colour: functools.partial(plain, colour),
    "chat model": lambda colour: FakeListChatModel(responses=[colour]),
    "identity": lambda colour: Named("red", colour),
}


@pytest.mark.parametrize("kind", KINDS)
def test_objects_are_told_apart_by_what_they_hold(kind: str) -> None:
    """And two that hold the same are one."""
    make = KINDS[kind]
    known = object_identity(make("red"))
    assert known is not None
    assert known == object_identity(make("red"))
    assert known != object_identity(make("blue"))


class Answering(FakeListChatModel):
    """A chat model of one's own, with something of its own that is private."""

    _mood: Any = PrivateAttr(default="calm")


def test_what_a_chat_model_of_ones_own_keeps_private_counts() -> None:
    """Plain values tell it apart; of others nobody can say anything."""

    def model(mood: Any) -> Answering:
        made = Answering(responses=["red"])
        made._mood = mood
        return made

    known = object_identity(model("calm"))
    assert known is not None
    assert known == object_identity(model("calm"))
    assert known != object_identity(model("wild"))
    assert object_identity(model(object())) is None


def test_a_chat_model_is_told_apart_by_its_code() -> None:
    """Two classes of one name may answer differently."""

    def make(said: str) -> Any:
        class Local(FakeListChatModel):
            def _call(self, *args: Any, **named: Any) -> str:
                return said

        return Local(responses=["red"])

    assert object_identity(make("red")) == object_identity(make("red"))
    assert object_identity(make("red")) != object_identity(make("blue"))


def test_kinds_are_told_apart() -> None:
    """Whatever they hold."""
    assert len(KINDS) == len({object_identity(make("red")) for make in KINDS.values()})


def test_functions_are_told_apart_by_their_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And by the plain globals that they use, though not by their names."""
    red, blue = lambda p, s: "red", lambda p, s: "blue"
    assert object_identity(red) != object_identity(blue)
    known = object_identity(using_a_global)
    assert known == object_identity(using_a_global)
    monkeypatch.setitem(globals(), "SHADE", 9)
    assert known != object_identity(using_a_global)


def test_a_function_is_told_apart_by_what_it_calls() -> None:
    """As far as that is of the same package."""

    def make(helper: Callable[[], str]) -> Callable[[], str]:
        def call() -> str:
            return helper()

        return call

    first, second = make(lambda: "red"), make(lambda: "blue")
    assert object_identity(first) != object_identity(second)


@pytest.mark.parametrize(
    "value",
    [
        Secretive("red"),
        Image.new("RGB", (2, 2)),
        Nested("red", Secretive("red")),
        Secretive("red").draw,
        functools.partial(print, Secretive("red")),
        object(),
        iter([]),
    ],
)
def test_who_hides_what_it_holds_is_not_identified(value: object) -> None:
    """Nobody could say whether it answers as before."""
    assert object_identity(value) is None


def test_what_may_change_meanwhile_identifies_nobody() -> None:
    """A list that a function closes over holds something else the next time."""
    asked: list[str] = []

    def draw(prompt: str, seed: int) -> str:
        asked.append(prompt)
        return prompt

    assert object_identity(draw) is None


def test_objects_may_hold_themselves_and_each_other() -> None:
    """Each is followed once, and which one is met again is part of the identity."""
    painter: Any = Painter("red")
    one, two = Painter("red"), Painter("blue")
    painter.again = painter
    assert object_identity(painter) is not None
    assert object_identity((one, two, one)) != object_identity((one, two, two))
    assert object_identity(painter) != object_identity(Painter("red"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner)
    ),
    max_leaves=5,
)


@given(values, values)
def test_different_values_are_different_identities(one: Any, other: Any) -> None:
    """True is not 1, a list is not a tuple, and -0.0 is not 0.0."""
    same = object_identity(Painter(one)) == object_identity(Painter(other))
    assert same == (repr(one) == repr(other) or _sorted(one) == _sorted(other))


def _sorted(value: Any) -> str:
    if isinstance(value, dict):
        pairs = sorted((key, _sorted(one)) for key, one in value.items())
        return f"dict {pairs}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} {list(map(_sorted, value))}"
    return repr(value)


def test_language_models_are_told_apart_without_their_keys() -> None:
    """By name, temperature and server; a key and a time limit decide nothing."""
    from langchain_openai import ChatOpenAI

    def identity(**given: Any) -> Any:
        llm = ChatOpenAI(**{"model": "small", "api_key": "sk-1"} | given)
        return language_model_identity(Settings(llm=llm, captioner="pocket"))

    known = identity()
    assert known == identity() == identity(api_key="sk-2") == identity(timeout=3)
    assert "sk-1" not in str(known)
    others = [
        identity(model="large"),
        identity(temperature=0.5),
        identity(base_url="http://127.0.0.1:1/v1"),
        identity(top_p=0.5),
    ]
    assert all(known != other for other in others)


def settings_with(generator: Any) -> Settings:
    return Settings(
        generator=generator,
        captioner=lambda image: "a thing",
        scorer=lambda text, image: 0.5,
        optimizer=_no_prompts,
        guard=None,
        judge="never",
        selector="clip",
        rounds=1,
    )


async def _no_prompts(history: Any) -> tuple[str, ...]:
    return ()


async def drawn(folder: Path, generator: Any) -> tuple[Any, int]:
    """Return a pixel of what is drawn, and how many images were found in a cache."""
    settings = settings_with(generator)
    cache = folder.parent / "cache"
    with RunDirectory(folder, settings=settings.public(), cache=cache) as run:
        async with Refiner(settings).remember(run) as refiner:
            refinement = await refiner.refine("a ball")
        assert refinement.best.image is not None
        return refinement.best.image.getpixel((0, 0)), run.journal.reused["generate"]


async def test_another_objects_image_is_not_shown(tmp_path: Path) -> None:
    """Its own is, without being drawn again."""
    assert (COLOURS["red"], 0) == await drawn(tmp_path / "1", Painter("red"))
    assert (COLOURS["blue"], 0) == await drawn(tmp_path / "2", Painter("blue"))
    assert (COLOURS["red"], 1) == await drawn(tmp_path / "3", Painter("red"))


async def test_who_cannot_be_told_from_others_is_asked_again_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In one line for each, which says what to do about it."""
    with caplog.at_level(logging.WARNING):
        assert (COLOURS["red"], 0) == await drawn(tmp_path / "1", Secretive("red"))
        assert (COLOURS["blue"], 0) == await drawn(tmp_path / "2", Secretive("blue"))
    lines = [record.getMessage() for record in caplog.records]
    assert 2 == len(lines)
    assert all("expected generator to be told" in line for line in lines)
    assert all("got Secretive" in line and "'identity'" in line for line in lines)


async def test_an_identity_that_is_given_is_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is told then, and a new one is another model."""
    assert (COLOURS["red"], 0) == await drawn(tmp_path / "1", Named("red", "v1"))
    assert (COLOURS["red"], 1) == await drawn(tmp_path / "2", Named("red", "v1"))
    assert (COLOURS["blue"], 0) == await drawn(tmp_path / "3", Named("blue", "v2"))
    assert not caplog.records


def test_a_name_is_its_own_identity() -> None:
    """Settings that name models have the keys that they always had."""
    assert "object" not in model_identity(Settings(), "generator")
    assert "object" in model_identity(settings_with(Painter("red")), "generator")


def test_a_set_counts_whatever_its_order() -> None:
    """The same members are the same model, and others are another."""

    def painter(colours: set[str]) -> Painter:
        one = Painter("red")
        vars(one)["colours"] = colours
        return one

    first, again, other = (
        object_identity(painter(colours))
        for colours in ({"a", "b"}, {"b", "a"}, {"a", "c"})
    )
    assert first == again != other


def test_a_field_that_was_never_set_is_none() -> None:
    """A slot without a value is another object than one with any."""
    empty = Slotted.__new__(Slotted)
    assert object_identity(empty) is not None
    assert object_identity(empty) != object_identity(Slotted("red"))
