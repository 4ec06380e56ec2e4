"""Settings: what to refine with, resolved once and never changed.

An explicit argument wins over a ``SOCRATIC_*`` environment variable, that over
``socratic.toml`` in the working directory, and that over the profile.
"""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from socratic_agents.config.profiles import PRESETS, PROFILES, ProfileSource, policy
from socratic_agents.config.workers import read_workers
from socratic_agents.core.budget import Budget, Prices
from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

__all__ = ("FEWEST", "Settings", "unknown_variables")

FEWEST = 8
"""Prompts that are refined at the same time at least, where nobody says how many."""

PREFIX = "SOCRATIC_"
TOML = "socratic.toml"

JUDGES = ("checklist", "caption", "vision", "score:THRESHOLD", "never")
SELECTORS = ("checklist", "caption", "clip", "vision", "first", "last")
OPTIMIZERS = ("llm",)
GUARDS = ("llm",)

_SECRETS = frozenset(("api_key",))
_ELSEWHERE = {f"{PREFIX}CACHE"}
"""Variables that are read by others: where measured curves are kept."""
_NUMBER = re.compile(r"\d+(\.\d+)?|\.\d+")


class Settings(BaseSettings):
    """Everything that a refinement needs to know; frozen.

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
        use_attribute_docstrings=True,
        validate_default=False,
    )

    profile: str = "pocket"
    """Where every other setting starts from: ``pocket`` (embedded models, offline),
    ``local`` (Stable Diffusion and BLIP-2 here, a language model over the network),
    ``api`` (images over the network too) or ``classic`` (the predecessor's loop)."""
    preset: str = "default"
    """The policy: ``quick`` (about 6 images), ``default`` (about 12), ``thorough``
    (about 30) or ``classic`` (the predecessor's loop, one image a round)."""

    generator: Any = "pocket"
    """Text to image: ``pocket``, a hub id, a local folder, the ``http(s)://…/v1``
    address of an OpenAI-compatible images server, or an object."""
    captioner: Any = "pocket"
    """Image to text: ``pocket``, a hub id, a local folder, or an object."""
    scorer: Any = "pocket"
    """Image and text to score: ``pocket``, an open_clip ``model/tag``, ``hf-hub:…``,
    a local folder, ``captioner`` (how surely the captioner says yes to the whole
    prompt), or an object. ``None``: only the checklist scores, if there is one."""
    llm: Any = "pocket"
    """The language model: ``pocket``, a ``provider:model`` name such as
    ``openai:gpt-5-mini``, or a LangChain chat model."""
    judge: Any = "checklist"
    """Says when to stop and what is missing: ``checklist`` (all questions pass),
    ``caption``, ``vision``, ``score:0.8`` (satisfied from that score on), ``never``, or
    an async callable."""
    selector: Any = "checklist"
    """Picks what is returned: ``checklist`` (most questions passed), ``clip``,
    ``caption``, ``vision``, ``first``, ``last``, or an async callable."""
    optimizer: Any = "llm"
    """Writes new prompts: ``llm``, or an async callable."""
    guard: Any = "llm"
    """Holds new prompts against the checklist before they are drawn: ``llm``, or an
    async callable of a history and prompts. ``None``: all are drawn."""
    answerer: Literal["captioner", "llm"] = "captioner"
    """Who looks at the image to answer the checklist: the captioner, or a language
    model that sees."""
    optimizer_template: str = "default"
    """Name of a shipped template, or path of a YAML file."""
    judge_template: str | None = None
    """Name of a shipped template, or path of a YAML file; ``None``: the judge's own."""
    selector_template: str | None = None
    """Name of a shipped template, or path of a YAML file; ``None``: the selector's
    own."""
    checklist_template: str = "default"
    """Name of a shipped template, or path of a YAML file."""
    answerer_template: str = "default"
    """Name of a shipped template, or path of a YAML file."""
    guard_template: str = "default"
    """Name of a shipped template, or path of a YAML file."""

    rounds: Annotated[int, Field(ge=1)] = 4
    """How many rounds at most; the first draws the user prompt."""
    prompts_per_round: Annotated[int, Field(ge=1, le=64)] = 2
    """Rewrites in each round after the first."""
    seeds_per_prompt: Annotated[int, Field(ge=1, le=64)] = 1
    """Images of each prompt: a rewrite's first one from the incumbent's noise, to be
    compared with it, the others from fresh noise."""
    fresh_noise: bool = False
    """Draw rewrites from fresh noise alone."""
    max_images: Annotated[int, Field(ge=1)] | None = None
    """Images of one refinement at most; ``None``: rounds alone decide."""
    budget: Annotated[Budget, NoDecode] = Budget()
    """What one refinement may spend: ``images``, ``llm_calls``, ``tokens``, ``money``
    and ``seconds``, as text such as ``llm-calls=20,seconds=60``, a mapping, or a
    ``Budget``. Reaching a limit ends the refinement with the best so far."""
    run_budget: Annotated[Budget, NoDecode] = Budget()
    """The same of everything that one refiner does in its life."""
    prices: Annotated[Prices | None, NoDecode] = None
    """What things cost, in a currency of your own: ``image`` for one, ``input_tokens``
    and ``output_tokens`` for a million."""
    receipt: bool = False
    """Draw the same number of images of the user prompt too, and tell in each
    refinement whether the rewrites were worth it."""
    metadata: bool = True
    """Write into each PNG file what it was made from; see docs/provenance.md."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Where all noise of a refinement comes from: the same seed, the same images."""
    in_flight: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Prompts that are refined at the same time, sharing the models' batches;
    ``None``: 8, and up to 64 where it is measured that so many keep the device busy."""

    image_model: str | None = None
    """Model that an images server is asked for; ``None``: the server's default."""
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Denoising steps; ``None``: the pipeline's default."""
    guidance_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Strength of the prompt; ``None``: the pipeline's default."""
    width: Annotated[int, Field(ge=8, le=8192, multiple_of=8)] | None = None
    """Of the image, in pixels; ``None``: the model's own."""
    height: Annotated[int, Field(ge=8, le=8192, multiple_of=8)] | None = None
    """Of the image, in pixels; ``None``: the model's own."""
    device: str | None = None
    """Where models run, such as ``cuda:0``, ``mps`` or ``cpu``; ``None``: the best
    that is there. Several, with commas, have all models each and share the work."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Number format of the weights; ``None``: what suits the device."""
    offload: Literal["model", "sequential", "group"] | None = None
    """Keep in the main memory what does not run: whole models, all layers, or groups
    of layers. ``None``: everything stays on the device."""
    quantization: Literal["4bit", "8bit"] | None = None
    """Bits of a weight, through bitsandbytes; ``None``: as ``dtype`` says."""
    batching: Literal["request", "step"] = "request"
    """What shares a batch: whole drawings, or (``step``) calls of the denoiser, so that
    a drawing may join while others are in flight (experimental); see docs/speed.md."""
    channels_last: bool = False
    """Keep the weights of the generator's convolutions as tensor cores read them."""
    compile: Literal["regional", "full"] | None = None
    """Compile the denoiser: the blocks that it repeats, or all of it; ``None``: run it
    as it is."""
    vae_batch: Annotated[int, Field(ge=1)] | None = None
    """Images that are decoded at once; ``None``: the whole batch."""
    workers: Any = None
    """Where the image models run: ``process`` (here, in processes of their own),
    ``ray`` (the cluster of this machine, or one that is started), ``ray://HOST:PORT``,
    ``ProcessWorkers`` or ``RayWorkers``. ``None``: in this process."""
    strict: bool = False
    """Make every call of a model with one size, filled up with copies: a candidate is
    the same to the last bit whatever else is on its way, and a lone one takes longer.
    ``False``: up to rounding, with calls of a few sizes."""
    patience: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 3600.0
    """Seconds after which a call of a model is taken to be stuck; ``None``: never."""

    base_url: str | None = None
    """Address of an OpenAI-compatible server of the language model; ``None``: the
    provider's own."""
    api_key: SecretStr | None = None
    """Key of the language model and of the images server; ``None``: the provider's
    own environment variable, such as ``OPENAI_API_KEY``."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Of the language model; ``None``: the model's default."""
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    """Seconds that one request over the network may take."""
    llm_concurrency: Annotated[int, Field(ge=1, le=4096)] = 64
    """Requests to the language model on their way at the same time; the others wait,
    without using up their ``timeout``."""
    llm_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Requests to the language model a minute, evenly spaced, repeated ones included;
    ``None``: no limit."""
    speculate: bool = False
    """Write the next prompts while a judge that is a language model, or a callable,
    still thinks: sooner, but without its verdict on the last round."""

    def __init__(self, **explicit: Any) -> None:
        try:
            super().__init__(**explicit)
        except ValidationError as error:
            # "from None": the original shows the values, keys among them.
            raise ConfigurationError(_sentence(error, explicit)) from None
        except (SettingsError, OSError, ValueError) as error:
            # Values from the environment are only split, so the file is to blame.
            message = f"expected {TOML} to be readable TOML, got: {_line(error)}"
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
        return init_settings, env_settings, toml, ProfileSource(settings_cls)

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

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, name: str) -> str:
        return _one_of(name, PROFILES, "a profile")

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, name: str) -> str:
        return _one_of(name, PRESETS, "a preset")

    @field_validator("guard")
    @classmethod
    def _known_guard(cls, guard: Any) -> Any:
        return guard and _name_or_callable(guard, GUARDS, "a guard")

    @field_validator("generator", "captioner", "llm")
    @classmethod
    def _needed(cls, value: Any) -> Any:
        if value is None:
            message = "expected a name or an object, got none; every loop needs one"
            raise ValueError(message)
        return value

    @field_validator("workers")
    @classmethod
    def _known_workers(cls, workers: Any) -> Any:
        if workers is not None:
            read_workers(workers)
        return workers

    @field_validator("judge")
    @classmethod
    def _known_judge(cls, judge: Any) -> Any:
        if isinstance(judge, str) and judge.startswith("score:"):
            if not _NUMBER.fullmatch(judge.removeprefix("score:")):
                message = (
                    f"expected a number after 'score:', such as 0.8, got {judge!r}"
                )
                raise ValueError(message)
            return judge
        return _name_or_callable(judge, JUDGES, "a judge")

    @field_validator("selector")
    @classmethod
    def _known_selector(cls, selector: Any) -> Any:
        return _name_or_callable(selector, SELECTORS, "a selector")

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, optimizer: Any) -> Any:
        return _name_or_callable(optimizer, OPTIMIZERS, "an optimizer")

    @model_validator(mode="after")
    def _agreeing(self) -> Settings:
        """Refuse settings that contradict each other."""
        scored = isinstance(self.judge, str) and self.judge.startswith("score:")
        most, seeds = self.max_images, self.seeds_per_prompt
        blind = not isinstance(self.captioner, str) and not (
            hasattr(self.captioner, "decide") or hasattr(self.captioner, "answer")
        )
        unfit = not isinstance(self.captioner, str) and not hasattr(
            self.captioner, "fit"
        )
        for budget in (self.budget, self.run_budget):
            budget.check(self.prices)
        models = {n: getattr(self, n) for n in ("generator", "captioner", "scorer")}
        given = ", ".join(
            f"{name} {_shown(model)!r}"
            for name, model in models.items()
            if not isinstance(model, str | None)
        )
        contradictions = {
            "expected names for workers, which open the models elsewhere, got the "
            f"object {given}; name it, or leave workers out": self.workers and given,
            f"expected max_images to be at least seeds_per_prompt ({seeds}), "
            f"got {most}; raise the one or lower the other": most and most < seeds,
            "expected a scorer for selector 'clip', got none; name a scorer, or choose "
            "selector 'caption'": self.scorer is None and self.selector == "clip",
            "expected a captioner that answers questions for the checklist, got "
            f"{_shown(self.captioner)!r}, which only captions; give one with 'decide' "
            "or 'answer', set answerer='llm', or choose judge 'caption' and selector "
            "'clip'": self.checks and self.answerer == "captioner" and blind,
            "expected a captioner with 'fit' for scorer 'captioner', got "
            f"{_shown(self.captioner)!r}; give one, or name another scorer": unfit
            and self.scorer == "captioner",
            f"expected a scorer for judge {self.judge!r}, got none; name a scorer, or "
            "choose judge 'caption'": self.scorer is None and scored,
            "expected an llm that base_url leads to, got 'pocket', which needs no "
            "server; name one, such as llm='openai:MODEL'": self.base_url
            and self.llm == "pocket",
            f"expected a device to offload from, got offload {self.offload!r} on the "
            "cpu; leave offload out": self.offload and self.device == "cpu",
        }
        for message, contradicted in contradictions.items():
            if contradicted:
                raise ValueError(message)
        return self

    @property
    def devices(self) -> tuple[str | None, ...]:
        """The devices where models run, each by its own name."""
        if self.device is None:
            return (None,)
        return tuple(name.strip() for name in self.device.split(","))

    @property
    def checks(self) -> bool:
        """Whether images are held against a checklist."""
        return "checklist" in (self.judge, self.selector)

    def but(self, **changes: Any) -> Settings:
        """Return these settings with a few changed; nothing is read anew.

        Another preset brings its whole policy with it.

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
        return Settings(**(dict(self) | brought | changes))

    def _brought(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return what another preset brings, and what goes with the old one."""
        preset, fields = changes["preset"], type(self).model_fields
        gone = {
            name: fields[name].default
            for name, value in PRESETS[self.preset].items()
            if name not in policy(preset, {}) and getattr(self, name) == value
        }
        stands = ("captioner", "scorer", "max_images")
        given = {name: getattr(self, name) for name in stands} | gone
        if self.answerer == "llm":
            given["answerer"] = "llm"
        brought = gone | policy(preset, {**given, **changes})
        profile = PROFILES[self.profile]  # it stands above every preset
        return {name: profile.get(name, value) for name, value in brought.items()}

    def public(self) -> dict[str, Any]:
        """Return what may be shown: JSON values, objects by name, no secrets."""
        return {name: _shown(value) for name, value in self if name not in _SECRETS}


def unknown_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return ``SOCRATIC_*`` variables that set nothing, each with what to do."""
    names = {PREFIX + name.upper() for name in Settings.model_fields} | _ELSEWHERE
    return {
        name: f"is no setting{_suggestion(name.upper(), names)}"
        for name in sorted(environment)
        if name.upper().startswith(PREFIX) and name.upper() not in names
    }


def _name_or_callable(value: Any, names: Iterable[str], what: str) -> Any:
    if isinstance(value, str):
        return _one_of(value, names, what)
    if not callable(value):
        message = f"expected {what}'s name or a callable, got {type(value).__name__}"
        raise ValueError(message)  # noqa: TRY004 - pydantic turns it into our own error
    return value


def _one_of(name: str, names: Iterable[str], what: str) -> str:
    if name in names:
        return name
    choices = ", ".join(names)
    hint = _suggestion(name, names)
    message = f"expected {what} ({choices}), got {name!r}{hint}"
    raise ValueError(message)


def _suggestion(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _sentence(error: ValidationError, explicit: Mapping[str, Any]) -> str:
    """Say in one line what is wrong, where it came from, and what to do."""
    details: ErrorDetails = error.errors(include_url=False, include_context=False)[0]
    if not details["loc"]:
        return _line(details["msg"]).removeprefix("Value error, ")
    name = str(details["loc"][0])
    variable = next((v for v in os.environ if v.upper() == PREFIX + name.upper()), None)
    if name in explicit:
        where = name
    elif variable and name in Settings.model_fields:
        where = variable
    else:
        where = f"{name} in {TOML}"
    if details["type"] == "extra_forbidden":
        known = sorted(Settings.model_fields)
        hint = _suggestion(name, known) or f"; known are {', '.join(known)}"
        return f"expected a setting, got {where}{hint}"
    text = _line(details["msg"])
    if text.startswith("Value error, "):
        return f"{where}: {text.removeprefix('Value error, ')}"
    return (
        f"{where}: {text.replace('Input should be', 'expected')}{_came(details, name)}"
    )


def _came(details: ErrorDetails, name: str) -> str:
    """Return what came instead, unless it could be a secret."""
    if name in _SECRETS:
        return ""
    return f", got {_line(repr(details['input']))[:80]}"


def _line(problem: object) -> str:
    return re.sub(r"\s+", " ", str(problem)).strip()


def _shown(value: Any) -> Any:
    """Return a value as JSON can hold it; an object by its name."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _without_login(value)
    if isinstance(value, Budget | Prices):
        return value.to_json()
    return getattr(value, "__qualname__", None) or type(value).__name__


def _without_login(text: str) -> str:
    """Cut user name, password and query, which may hold a key, from an address."""
    if not text.startswith(("http://", "https://")):
        return text
    parts = urlsplit(text)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
