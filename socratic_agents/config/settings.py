"""Settings: what to refine with, resolved once and never changed.

An explicit argument wins over a ``SOCRATIC_*`` environment variable, that over
``socratic.toml`` in the working directory, and that over the profile.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from socratic_agents.config.catalog import PROFILES
from socratic_agents.config.conflicts import conflict
from socratic_agents.config.fields import FIELDS
from socratic_agents.config.guidance import grid_text, parse_grid
from socratic_agents.config.image_options import (
    ImageOptions,
    options_text,
    parse_options,
)
from socratic_agents.config.loras import parse_loras
from socratic_agents.config.messages import (
    PREFIX,
    TOML,
    error_message,
    one_of,
    public_value,
)
from socratic_agents.config.profiles import (
    LOCAL,
    PRESETS,
    pick_profile,
    resolve_other_generator,
    resolve_preset,
    resolve_profile,
)
from socratic_agents.config.workers import parse_workers
from socratic_agents.core.budget import Budget, Prices
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.prompts import validate_prompt
from socratic_agents.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

__all__ = ("FEWEST", "Settings")

FEWEST = 8
"""Prompts that are refined at the same time at least, where nobody says how many."""

_Count = Annotated[int, Field(ge=1)]
_Few = Annotated[int, Field(ge=1, le=64)]
_Many = Annotated[int, Field(ge=1, le=4096)]
_Steps = Annotated[int, Field(ge=1, le=1000)]
_Tokens = Annotated[int, Field(ge=16, le=10**8)]
_Pixels = Annotated[int, Field(ge=8, le=8192, multiple_of=8)]
_Area = Annotated[int, Field(ge=1024, le=2**26)]
_Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _ProfileSource(PydanticBaseSettingsSource):
    """The profile's values; asked last, so that everything else wins."""

    def get_field_value(
        self,
        field: FieldInfo,  # noqa: ARG002 - the signature is given
        field_name: str,
    ) -> tuple[Any, str, bool]:
        """Return nothing: the values come together, from ``__call__``."""
        return None, field_name, False  # pragma: no cover - never asked for

    def __call__(self) -> dict[str, Any]:
        """Return what profile and preset set."""
        return resolve_profile(self.current_state)


def _setting(name: str, default: Any = None) -> Any:
    """Return a setting as its field describes it; some defaults are values of ours."""
    field = FIELDS[name]
    return Field(default or field.default, description=field.help)


class Settings(BaseSettings):
    """Everything that a refinement needs to know; frozen.

    ``config.fields`` says what each setting means; here are types and ranges.

    Raises:
        ConfigurationError: If a setting is unknown, cannot be read, is out of its
            range, or contradicts another.
    """

    model_config = SettingsConfigDict(
        arbitrary_types_allowed=True,
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        toml_file=TOML,
        validate_default=False,
    )

    profile: str = _setting("profile")
    preset: str = _setting("preset")
    generator: Any = _setting("generator")
    captioner: Any = _setting("captioner")
    scorer: Any = _setting("scorer")
    llm: Any = _setting("llm")
    allow_pocket: bool = _setting("allow_pocket")
    final_generator: Any = _setting("final_generator")
    judge: Any = _setting("judge")
    selector: Any = _setting("selector")
    optimizer: Any = _setting("optimizer")
    guard: Any = _setting("guard")
    answerer: str = _setting("answerer")
    optimizer_template: str = _setting("optimizer_template")
    judge_template: str | None = _setting("judge_template")
    selector_template: str | None = _setting("selector_template")
    checklist_template: str = _setting("checklist_template")
    answerer_template: str = _setting("answerer_template")
    guard_template: str = _setting("guard_template")
    rounds: _Count | None = _setting("rounds")
    prompts_per_round: _Few = _setting("prompts_per_round")
    seeds_per_prompt: _Few = _setting("seeds_per_prompt")
    final_images: _Few = _setting("final_images")
    search: Any = _setting("search")
    fresh_noise: bool = _setting("fresh_noise")
    max_images: _Count | None = _setting("max_images")
    budget: Annotated[Budget, NoDecode] = _setting("budget", Budget())
    run_budget: Annotated[Budget, NoDecode] = _setting("run_budget", Budget())
    prices: Annotated[Prices | None, NoDecode] = _setting("prices")
    receipt: bool = _setting("receipt")
    metadata: bool = _setting("metadata")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = _setting("seed")
    in_flight: _Many | None = _setting("in_flight")
    image_model: str | None = _setting("image_model")
    image_options: str | None = _setting("image_options")
    image_timeout: _AboveZero = _setting("image_timeout")
    image_concurrency: _Many = _setting("image_concurrency")
    image_rate: _AboveZero | None = _setting("image_rate")
    generator_config: str | None = _setting("generator_config")
    lora: str | None = _setting("lora")
    scheduler: str | None = _setting("scheduler")
    vae: str | None = _setting("vae")
    negative_prompt: str | None = _setting("negative_prompt")
    steps: _Steps | None = _setting("steps")
    guidance_scale: _Strength | None = _setting("guidance_scale")
    guidance_grid: str | None = _setting("guidance_grid")
    true_cfg_scale: _Strength | None = _setting("true_cfg_scale")
    max_sequence_length: _Tokens | None = _setting("max_sequence_length")
    final_steps: _Steps | None = _setting("final_steps")
    final_guidance_scale: _Strength | None = _setting("final_guidance_scale")
    width: _Pixels | None = _setting("width")
    height: _Pixels | None = _setting("height")
    reader: str | None = _setting("reader")
    captioner_options: str | None = _setting("captioner_options")
    captioner_pixels: _Area | None = _setting("captioner_pixels")
    captioner_quantization: Literal["4bit", "8bit"] | None = _setting(
        "captioner_quantization"
    )
    captioner_offload: Literal["model", "sequential", "group"] | None = _setting(
        "captioner_offload"
    )
    device: str | None = _setting("device")
    device_memory: _AboveZero | None = _setting("device_memory")
    dtype: Literal["float32", "float16", "bfloat16"] | None = _setting("dtype")
    offload: Literal["model", "sequential", "group"] | None = _setting("offload")
    variant: str | None = _setting("variant")
    quantization: Literal["4bit", "8bit", "fp8"] | None = _setting("quantization")
    batching: Literal["request", "step"] = _setting("batching")
    channels_last: bool = _setting("channels_last")
    compile: Literal["regional", "full"] | None = _setting("compile")
    vae_batch: _Count | None = _setting("vae_batch")
    workers: Any = _setting("workers")
    strict: bool = _setting("strict")
    patience: _AboveZero | None = _setting("patience")
    base_url: str | None = _setting("base_url")
    api_key: SecretStr | None = _setting("api_key")
    image_api_key: SecretStr | None = _setting("image_api_key")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = _setting("temperature")
    timeout: _AboveZero = _setting("timeout")
    llm_concurrency: _Many | None = _setting("llm_concurrency")
    llm_rate: _AboveZero | None = _setting("llm_rate")
    llm_failure: Literal["return", "raise"] = _setting("llm_failure")
    llm_max_tokens: _Tokens | None = _setting("llm_max_tokens")
    llm_context: _Tokens | None = _setting("llm_context")
    speculate: bool = _setting("speculate")

    def __init__(self, **explicit: Any) -> None:
        try:
            super().__init__(**explicit)
        except ValidationError as error:
            # "from None": the original shows the values, keys among them.
            raise ConfigurationError(error_message(error, explicit)) from None
        except (SettingsError, OSError, ValueError) as error:
            # Values from the environment are only split, so the file is to blame.
            message = f"expected {TOML} to be readable TOML, got: {one_line(error)}"
            raise ConfigurationError(message) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is given
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is given
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings come from, the strongest first."""
        toml = TomlConfigSettingsSource(settings_cls)
        return init_settings, env_settings, toml, _ProfileSource(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _pick_profile(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Say which one it is where the profile depends on the machine."""
        return given | {"profile": pick_profile(given)}

    @field_validator("*", mode="before")
    @classmethod
    def _no_blanks(cls, value: Any) -> Any:
        """Read ``none``, for places that have no ``None``, and refuse blanks."""
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str):
            value = value.strip()
            if not value:
                message = "expected a value, got an empty string; leave it out instead"
                raise ValueError(message)
            if value.lower() == "none":
                return None
        return value

    @field_validator("budget", "run_budget", mode="before")
    @classmethod
    def _read_budget(cls, value: Any) -> Budget:
        return Budget.parse(value)

    @field_validator("image_options", mode="before")
    @classmethod
    def _read_image_options(cls, given: Any) -> str | None:
        return None if given is None else str(ImageOptions.parse(given)) or None

    @field_validator("captioner_options", mode="before")
    @classmethod
    def _read_captioner_options(cls, given: Any) -> str | None:
        if given is None:
            return None
        options = parse_options(given, example="enable_thinking=false")
        return options_text(options) or None

    @field_validator("guidance_grid", mode="before")
    @classmethod
    def _read_guidance_grid(cls, given: Any) -> str | None:
        unset = given is None or str(given).strip().lower() == "none"
        return None if unset else grid_text(parse_grid(given))

    @field_validator("lora", mode="before")
    @classmethod
    def _read_loras(cls, given: Any) -> str | None:
        return None if given is None else ",".join(map(str, parse_loras(given)))

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, name: str) -> str:
        return one_of(name, (*PROFILES, LOCAL), "a profile")

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, name: str) -> str:
        return one_of(name, PRESETS, "a preset")

    @field_validator("judge", "selector", "optimizer", "guard")
    @classmethod
    def _is_name_or_callable(cls, value: Any, info: ValidationInfo) -> Any:
        # Which names there are is known above: other packages add some.
        off = value is None and info.field_name == "guard"
        if off or isinstance(value, str) or callable(value):
            return value
        role = f"{'an' if info.field_name == 'optimizer' else 'a'} {info.field_name}"
        message = f"expected {role}'s name or a callable, got {type(value).__name__}"
        raise ValueError(message)

    @field_validator("generator", "captioner", "llm")
    @classmethod
    def _needed(cls, value: Any) -> Any:
        if value is None:
            message = "expected a name or an object, got none; every loop needs one"
            raise ValueError(message)
        return value

    @field_validator("negative_prompt")
    @classmethod
    def _can_be_drawn(cls, prompt: str | None) -> str | None:
        return None if prompt is None else validate_prompt(prompt)

    @field_validator("search")
    @classmethod
    def _name_or_search(cls, search: Any) -> Any:
        # Which names there are is known above: other packages add some.
        if isinstance(search, str | None) or hasattr(search, "session"):
            return search
        message = f"expected a search or its name, got {type(search).__name__}"
        raise ValueError(message)

    @field_validator("workers")
    @classmethod
    def _known_workers(cls, workers: Any) -> Any:
        if workers is not None:
            parse_workers(workers)
        return workers

    @model_validator(mode="after")
    def _agreeing(self) -> Settings:
        """Refuse settings that contradict each other."""
        for budget in (self.budget, self.run_budget):
            budget.check(self.prices)
        if message := conflict(self):
            raise ValueError(message)
        return self

    @property
    def devices(self) -> tuple[str | None, ...]:
        """The devices where models run, each by its own name."""
        if self.device is None:
            return (None,)
        return tuple(name.strip() for name in self.device.split(","))

    def but(self, **changes: Any) -> Settings:
        """Return these settings with a few changed; nothing is read anew.

        Another preset brings its whole policy with it, another generator its recipe.

        Raises:
            ConfigurationError: As for new settings; also where the profile is
                changed, because everything else already stands.
        """
        if changes.get("profile", self.profile) != self.profile:
            message = (
                f"expected the profile to stay {self.profile!r}, "
                f"got {changes['profile']!r}; make new Settings instead"
            )
            raise ConfigurationError(message)
        moved = changes.get("preset", self.preset) != self.preset
        brought = self._brought(changes) if moved else {}
        own = self.max_images == PRESETS[self.preset]["max_images"]
        if not moved and own and changes.get("rounds") is not None:
            brought = {"max_images": None}  # rounds stand in their place
        if (other := changes.get("generator", self.generator)) != self.generator:
            base = changes.get("generator_config", self.generator_config)
            brought |= resolve_other_generator(self.profile, dict(self), other, base)
        return Settings(**(dict(self) | brought | changes))

    def _brought(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return what another preset brings, and what goes with the old one."""
        preset = changes["preset"]
        gone = {
            name: FIELDS[name].default
            for name, value in PRESETS[self.preset].items()
            if name not in resolve_preset(preset, {}) and getattr(self, name) == value
        }
        given = {name: getattr(self, name) for name in ("captioner", "scorer")} | gone
        if self.max_images != PRESETS[self.preset]["max_images"]:
            given["max_images"] = self.max_images
        if self.answerer == "llm":
            given["answerer"] = "llm"
        brought = gone | resolve_preset(preset, {**given, **changes})
        profile = PROFILES[self.profile]  # it stands above every preset
        return {name: profile.get(name, value) for name, value in brought.items()}

    def public(self) -> dict[str, Any]:
        """Return what may be shown: JSON values, objects by name, no secrets."""
        return {
            name: public_value(value) for name, value in self if not FIELDS[name].secret
        }
