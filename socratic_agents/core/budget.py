"""Budgets: how much a refinement or a run may cost, and what things cost."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Budget", "Prices")

MOST = 10**15
"""Of anything; beyond it, floating-point numbers soon miss whole ones."""

MILLION = 1_000_000
"""Tokens that the price of tokens is for."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much may be spent; what is ``None`` has no limit.

    Its text form is ``images=12,llm-calls=20,money=0.5``, or ``none``.

    Raises:
        ConfigurationError: If a limit is not above 0 and at most ``MOST``, or one of
            images, calls or tokens is not a whole number.
    """

    images: int | None = None
    """Images that are drawn, failed ones included."""
    llm_calls: int | None = None
    """Requests to the language model, repairs and repeated ones included."""
    tokens: int | None = None
    """Tokens of the language model, in and out, as far as it reports them."""
    money: float | None = None
    """What images and tokens cost together, in the currency of the prices."""
    seconds: float | None = None
    """Wall time from the start."""

    def __post_init__(self) -> None:
        """Refuse limits under which nothing could be done, or that are none."""
        for name, limit in self.limits().items():
            whole = name in {"images", "llm_calls", "tokens"}
            kind = "a whole number" if whole else "a number"
            if not _is_number(limit, whole=whole) or not 0 < limit <= MOST:
                message = (
                    f"expected {name} to be {kind} above 0 and at most {MOST:,}, got "
                    f"{_shown(limit)}; leave it out for no limit"
                )
                raise ConfigurationError(message)

    def __str__(self) -> str:
        return _text(self.limits()) or "none"

    @classmethod
    def parse(cls, given: Any) -> Budget:
        """Read a budget, a mapping, or text such as ``images=12,llm-calls=20``.

        Args:
            given: Names may have hyphens or underscores; ``none`` and ``None`` mean
                no limit.

        Raises:
            ConfigurationError: If it cannot be read, or a name is unknown.
        """
        if isinstance(given, cls):
            return given
        if given is None or _said(given) == "none":
            return cls()
        example = "images=12,llm-calls=20"
        return cls(**_read(given, _names(cls), "a budget", example=example))

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)

    def limits(self) -> dict[str, int | float]:
        """Return the limits that there are, by name."""
        every = {name: getattr(self, name) for name in _names(type(self))}
        return {name: limit for name, limit in every.items() if limit is not None}

    def check(self, prices: Prices | None) -> None:
        """Check that a limit of money can ever be reached.

        Args:
            prices: What things cost, if that is known.

        Raises:
            ConfigurationError: If money is limited and nothing has a price.
        """
        if self.money is not None and not (prices and any(prices.to_json().values())):
            came = "none" if prices is None else "only prices of 0"
            message = (
                f"expected prices for a budget of money={_number(self.money)}, got "
                f"{came}; give some, such as prices='image=0.01,output-tokens=2', or "
                "leave money out"
            )
            raise ConfigurationError(message)

    def to_json(self) -> dict[str, int | float | None]:
        """Return the JSON form; ``parse`` reads it."""
        return {name: getattr(self, name) for name in _names(type(self))}


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What things cost, in a currency of one's own; what has no price is free.

    Its text form is ``image=0.01,input-tokens=0.25,output-tokens=2``.

    Raises:
        ConfigurationError: If a price is not from 0 to ``MOST``.
    """

    image: float = 0.0
    """For one image."""
    input_tokens: float = 0.0
    """For a million tokens that the language model reads."""
    output_tokens: float = 0.0
    """For a million tokens that the language model writes."""

    def __post_init__(self) -> None:
        """Refuse what is no price."""
        for name, price in self.to_json().items():
            if not _is_number(price, whole=False) or not 0 <= price <= MOST:
                message = (
                    f"expected the price {name} to be a number from 0 to {MOST:,}, got "
                    f"{_shown(price)}; leave it out if it is free"
                )
                raise ConfigurationError(message)

    def __str__(self) -> str:
        return _text(self.to_json())

    @classmethod
    def parse(cls, given: Any) -> Prices:
        """Read prices, a mapping, or text such as ``image=0.01,output-tokens=2``.

        Args:
            given: Names may have hyphens or underscores.

        Raises:
            ConfigurationError: If it cannot be read, or a name is unknown.
        """
        if isinstance(given, cls):
            return given
        example = "image=0.01,output-tokens=2"
        return cls(**_read(given, _names(cls), "prices", example=example))

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)

    def cost(self, images: int, *, input_tokens: int, output_tokens: int) -> float:
        """Return what so many images and tokens cost together.

        Args:
            images: At least 0.
            input_tokens: Read by the language model, at least 0.
            output_tokens: Written by it, at least 0.
        """
        tokens = input_tokens * self.input_tokens + output_tokens * self.output_tokens
        return images * self.image + tokens / MILLION

    def to_json(self) -> dict[str, float]:
        """Return the JSON form; ``parse`` reads it."""
        return {name: getattr(self, name) for name in _names(type(self))}


def _names(cls: type[Budget | Prices]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))


def _read(
    given: Any, names: Iterable[str], what: str, *, example: str
) -> dict[str, Any]:
    """Return the numbers by name, as far as they are numbers."""
    if isinstance(given, Mapping):
        pairs = [(str(name), value) for name, value in given.items()]
    elif isinstance(given, str):
        parts = [part.partition("=") for part in given.split(",")]
        broken = next((name for name, equals, _ in parts if not equals), None)
        if broken is not None:
            message = (
                f"expected {what} such as {example}, got {_shown(broken)} without '='; "
                "write NAME=NUMBER, separated by commas"
            )
            raise ConfigurationError(message)
        pairs = [(name, value) for name, _, value in parts]
    else:
        message = (
            f"expected {what} such as {example}, got {type(given).__name__}; give text "
            "or a mapping"
        )
        raise ConfigurationError(message)
    known, numbers = ", ".join(names), dict[str, Any]()
    for written, value in pairs:
        name = _said(written).replace("-", "_")
        if name not in names:
            close = difflib.get_close_matches(name, list(names), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "name one of these"
            message = f"expected {what} of {known}, got {_shown(written)}; {hint}"
            raise ConfigurationError(message)
        if name in numbers:
            message = f"expected {name} once in {what}, got it twice; leave one out"
            raise ConfigurationError(message)
        numbers[name] = _number_of(value) if isinstance(value, str) else value
    return {name: value for name, value in numbers.items() if value is not None}


def _said(given: Any) -> str:
    return str(given).strip().lower()


def _number_of(text: str) -> int | float | str:
    """Return the number that a text writes; the text itself if it writes none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip()


def _is_number(value: Any, *, whole: bool) -> bool:
    # Truth is no number, though Python takes it for one.
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _text(numbers: Mapping[str, int | float]) -> str:
    """Return numbers by name as they are typed."""
    pairs = [(name.replace("_", "-"), number) for name, number in numbers.items()]
    return ",".join(f"{name}={_number(number)}" for name, number in pairs)


def _number(number: float) -> str:
    return str(number).removesuffix(".0")


def _shown(value: Any) -> str:
    """Return what came, on one line and not too long of it."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:80]}…"  # noqa: PLR2004 - a line's worth
