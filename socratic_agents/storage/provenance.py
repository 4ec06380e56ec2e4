"""Provenance: what an image was made from, written into its PNG and read back.

An object of the store is named by the hash of its bytes, so these depend only on the
pixels and the provenance: not on the time, the run or the machine.
"""

from __future__ import annotations

import io
import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from socratic_agents.config.catalog import REVISIONS
from socratic_agents.config.field import Decides, Part
from socratic_agents.config.fields import FIELDS, deciding
from socratic_agents.config.loras import Lora, parse_loras
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.prompts import LONGEST
from socratic_agents.storage.png_chunks import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

    from socratic_agents.config.settings import Settings

__all__ = ("CALL", "Provenance", "encode_png", "provenance_of", "read_provenance")

SCHEMA = 1
"""Version of the JSON form."""
KEYWORD = b"socratic_agents"
"""Of the chunk of international text that holds it."""

MAX_TEXT = 2**17
"""Bytes of the JSON; the longest prompt needs half of it."""

CALL = deciding(Decides.IMAGE | Decides.ROUNDING, Part.GENERATOR)
"""Settings that decide an image besides its prompt, its seed and its model."""

_HUB_ID = re.compile(r"([A-Za-z][\w-]+:)?[\w-][\w.-]*(/[\w-][\w.-]*)?")
"""Or what another back end is given, after its name; a drive has one letter."""
_HUB_FILE = re.compile(r"[\w-][\w.-]*(/[\w-][\w. -]*)*")
"""A hub model, or a file of one."""

_Name = Annotated[str, Field(min_length=1, max_length=2_000)]
_Role = Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Size = Annotated[int, Field(ge=8, le=8192, multiple_of=8)]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What one image was made from; settings have their own names."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    prompt: Annotated[str, Field(min_length=1, max_length=LONGEST)]
    """What was sent to the generator."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """Of the image's noise."""
    model: _Name
    """The generator: its name, the last part of its folder's path, or its class."""
    kind: Literal["name", "folder", "object"] = "name"
    """What ``model`` is; only a name says all."""
    revision: Annotated[str, Field(max_length=100)] | None = None
    """The commit of a hub model, where we name one."""
    image_model: _Name | None = None
    image_options: _Name | None = None
    generator_config: _Name | None = None
    lora: _Name | None = None
    scheduler: _Name | None = None
    vae: _Name | None = None
    negative_prompt: Annotated[str, Field(min_length=1, max_length=LONGEST)] | None = (
        None
    )
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    true_cfg_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    max_sequence_length: Annotated[int, Field(ge=16, le=10**8)] | None = None
    width: _Size | None = None
    height: _Size | None = None
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    variant: _Name | None = None
    quantization: Literal["4bit", "8bit", "fp8"] | None = None
    batching: Literal["request", "step"] = "request"
    channels_last: bool = False
    compile: Literal["regional", "full"] | None = None
    vae_batch: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    strict: bool = False
    templates: Annotated[dict[_Role, _Digest], Field(max_length=32)] = field(
        default_factory=dict
    )
    """Role to the sha256 of the template that its language model was asked with."""
    version: Annotated[str, Field(min_length=1, max_length=100)]
    """Of this library."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without default values."""
        values = asdict(self)
        return (
            {"schema": SCHEMA}
            | {
                one.name: values[one.name]
                for one in fields(self)
                if one.name != "templates" and values[one.name] != one.default
            }
            | {"templates": dict(sorted(self.templates.items()))}
        )


def provenance_of(
    settings: Settings,
    templates: Mapping[str, Mapping[str, str]],
    *,
    prompt: str,
    seed: int,
    **chosen: float,
) -> Provenance | None:
    """Return what an image is made from, or ``None`` if that cannot be written down.

    Args:
        settings: Of the refinement. No address's login, no path, and no key of it is
            written.
        templates: Role to name and sha256, as a ``Refinement`` has them.
        prompt: What the generator was sent. One of more than 10,000 characters, or
            with half a surrogate pair, cannot be written down.
        seed: Of the noise.
        chosen: Settings that were other ones for this image.
    """
    model, kind = _model(settings)
    facts = {
        "prompt": prompt,
        "seed": seed,
        "model": model,
        "kind": kind,
        "revision": REVISIONS.get(model) if kind == "name" else None,
        **{name: _without_folders(name, getattr(settings, name)) for name in CALL},
        **chosen,
        "templates": {role: one["sha256"] for role, one in templates.items()},
        "version": _version(),
    }
    try:
        return _validated(facts)
    except ValueError:  # pydantic's error is one too
        return None


def encode_png(image: Image, provenance: Provenance | None) -> bytes:
    """Return an image as PNG; the same image and provenance give the same bytes.

    Args:
        image: Of any mode; written as RGB, and nothing of its ``info`` is.
        provenance: Written into the file; ``None`` writes the pixels alone.

    Raises:
        ConfigurationError: If the provenance takes more than 128 KiB.
    """
    from PIL.PngImagePlugin import PngInfo

    pixels, notes = image.convert("RGB").copy(), PngInfo()
    pixels.info.clear()  # what a generator noted there is not ours to pass on
    if provenance is not None:
        text = json.dumps(provenance.to_json(), ensure_ascii=False, allow_nan=False)
        # What is no character of its own is written as JSON escapes it.
        data = text.encode("utf-8", "backslashreplace")
        if len(data) > MAX_TEXT:
            message = (
                f"expected a provenance of at most {MAX_TEXT:,} bytes, got "
                f"{len(data):,}; leave it out"
            )
            raise ConfigurationError(message)
        notes.add_itxt(KEYWORD.decode("ascii"), data.decode("utf-8"))
    file = io.BytesIO()
    pixels.save(file, "PNG", pnginfo=notes)
    return file.getvalue()


def read_provenance(source: Path | str | bytes) -> Provenance:
    """Return the provenance that a PNG file contains.

    The file may come from anybody. Its pixels are never decoded, nothing in it is
    decompressed, and its values are validated; whether they are true, no file can
    prove.

    Args:
        source: A path, or the file's bytes.

    Raises:
        ConfigurationError: If it cannot be read, is no whole PNG file or too large a
            one, or if what it says is missing, broken or of another version.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), "these bytes")
    name = repr(str(source))
    try:
        if not Path(source).is_file():  # a pipe or a device may never end
            message = f"expected a PNG file, got {name}, which is no file"
            raise ConfigurationError(message)
        with Path(source).open("rb") as file:
            return _read(file, name)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        reason = getattr(error, "strerror", None) or error
        message = f"expected a readable PNG file, got {name}: {reason}"
        raise ConfigurationError(message) from error


def _read(file: BinaryIO, name: str) -> Provenance:
    text = read_text(file, KEYWORD, most=MAX_TEXT, name=name)
    if text is None:
        message = (
            f"expected an image with its provenance, got {name} without; it was made "
            "by something else, with --no-metadata, or saved anew by another program"
        )
        raise ConfigurationError(message)
    try:
        values = json.loads(text.decode("utf-8"))
        schema = values.pop("schema")
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        message = f"expected the provenance in {name} to be ours, got something else"
        raise ConfigurationError(message) from error
    if type(schema) is not int or schema != SCHEMA:
        message = (
            f"expected provenance of version {SCHEMA} in {name}, got "
            f"{str(schema)[:20]!r}; read it with the version that wrote it"
        )
        raise ConfigurationError(message)
    try:
        return _validated(values)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"]))[:60]
        message = (
            f"expected the provenance in {name} to be ours, got {place!r} that is not "
            f"({wrong['msg']})"
        )
        raise ConfigurationError(message) from None


def _without_folders(name: str, value: Any) -> Any:
    """Return a setting as anybody may see it: of a path its last part."""
    if value is None or not FIELDS[name].file:
        return value
    loras = parse_loras(value) if name == "lora" else (Lora(value),)
    return ",".join(str(replace(one, source=_last(one.source))) for one in loras)


def _last(source: str) -> str:
    with suppress(OSError):  # a name that no file can have
        if _HUB_FILE.fullmatch(source) and not Path(source).exists():
            return source
    return PureWindowsPath(source).name or "folder"


def _model(settings: Settings) -> tuple[str, str]:
    """Return what to call the generator, and what that is."""
    given, shown = settings.generator, str(settings.public()["generator"])
    if not isinstance(given, str):
        return shown, "object"
    if given == "pocket" or given.startswith(("http://", "https://")):
        return shown, "name"
    with suppress(OSError):  # a name that no folder can have
        if _HUB_ID.fullmatch(given) and not Path(given).exists():
            return shown, "name"
    return PureWindowsPath(given).name or "folder", "folder"


def _validated(values: Mapping[str, Any]) -> Provenance:
    # As JSON: only so does strictness let a mapping be a dataclass.
    return _adapter().validate_json(json.dumps(values, ensure_ascii=False))


@cache
def _adapter() -> TypeAdapter[Provenance]:
    return TypeAdapter(Provenance)


@cache
def _version() -> str:
    return version("socratic-agents")
