"""An image says what it was made from, to those who ask, and trusts no other file.

What was written is read back; the same input gives the same bytes; a file of
somebody else is refused in one line, before anything in it is unfolded.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.config.catalog import REVISIONS
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.storage.provenance import (
    CALL,
    MAX_TEXT,
    Provenance,
    encode_png,
    provenance_of,
    read_provenance,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEMPLATES = {"judge": {"name": "default", "sha256": "0" * 64}}
PICTURE = Image.linear_gradient("L").resize((16, 16)).convert("RGB")
PLAIN = Provenance(prompt="a red circle", seed=7, model="pocket", version="0.1.0")

provenances = st.builds(
    Provenance,
    prompt=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
    seed=st.integers(0, 2**63 - 1),
    model=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    kind=st.sampled_from(["name", "folder", "object"]),
    revision=st.none() | st.just("a" * 40),
    negative_prompt=st.none() | st.text('ab -"\n', min_size=1, max_size=20),
    steps=st.none() | st.integers(1, 1000),
    guidance_scale=st.none() | st.floats(0, allow_infinity=False),
    width=st.none() | st.integers(1, 1024).map(lambda n: 8 * n),
    dtype=st.none() | st.sampled_from(["float32", "float16", "bfloat16"]),
    strict=st.booleans(),
    templates=st.dictionaries(
        st.sampled_from(["judge", "optimizer"]), st.just("0f" * 32)
    ),
    version=st.just("0.1.0"),
)


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a part of a PNG file."""
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def header(width: int = 16, height: int = 16) -> bytes:
    """Return how a PNG file begins."""
    sizes = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", sizes)


END = chunk(b"IEND", b"")
OURS = b"socratic_agents\0"


def png(*parts: bytes) -> bytes:
    """Return a PNG file of these parts, whose pixels nobody needs."""
    return header() + b"".join(parts) + chunk(b"IDAT", b"x") + END


def saying(text: str | bytes) -> bytes:
    """Return a PNG file that says this where ours say theirs."""
    data = text if isinstance(text, bytes) else text.encode()
    return png(chunk(b"iTXt", OURS + b"\0\0\0\0" + data))


def told(**changes: Any) -> bytes:
    """Return a PNG file that tells the plain provenance with some changes."""
    record = {**PLAIN.to_json(), **changes}
    return saying(json.dumps({k: v for k, v in record.items() if v != "left out"}))


@given(provenances)
def test_what_is_written_is_read_back(provenance: Provenance) -> None:
    """Every provenance comes back as it was, and its bytes are always the same."""
    data = encode_png(PICTURE, provenance)
    assert provenance == read_provenance(data)
    assert data == encode_png(PICTURE.copy(), replace(provenance))
    assert json.loads(json.dumps(provenance.to_json())) == provenance.to_json()


def test_the_pixels_are_the_pixels() -> None:
    """Provenance changes no pixel, and nothing that a generator noted is written."""
    noted = PICTURE.copy()
    noted.info |= {"transparency": (0, 0, 0), "secret": "of mine", "dpi": (72, 72)}
    for provenance in (None, PLAIN):
        data = encode_png(noted, provenance)
        with Image.open(io.BytesIO(data)) as image:
            assert PICTURE.tobytes() == image.tobytes()
            named = {"socratic_agents"} if provenance else set()
            assert named == set(image.info)
        assert encode_png(PICTURE, provenance) == data
    assert "of mine" in noted.info.values()


def test_the_text_is_readable_to_others() -> None:
    """Any program that knows PNG shows what is in it: JSON in UTF-8."""
    data = encode_png(PICTURE, replace(PLAIN, prompt="ein grüner Würfel 🎲"))
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert (
            "ein grüner Würfel 🎲"
            == json.loads(image.info[OURS[:-1].decode()])["prompt"]
        )
    assert "ein grüner Würfel 🎲".encode() in data


def test_bytes_are_the_same_in_every_release_of_today() -> None:
    """What decides the name of an object does not change without anybody noticing."""
    data = encode_png(PICTURE, PLAIN)
    start = data.index(b"iTXt")
    length = struct.unpack(">I", data[start - 4 : start])[0]
    text = data[start + 4 : start + 4 + length]
    expected = (
        OURS + b'\0\0\0\0{"schema": 1, "prompt": "a red circle", "seed": 7, '
        b'"model": "pocket", "version": "0.1.0", "templates": {}}'
    )
    assert expected == text
    assert (
        hashlib.sha256(data).digest()
        == hashlib.sha256(encode_png(PICTURE, PLAIN)).digest()
    )


def test_a_provenance_has_bounds() -> None:
    """What is too long to be read is not written."""
    with pytest.raises(ConfigurationError, match="expected a provenance of at most"):
        encode_png(PICTURE, replace(PLAIN, prompt="ü" * MAX_TEXT))
    longest = replace(PLAIN, prompt="\x01" * 10_000)
    assert longest == read_provenance(encode_png(PICTURE, longest))


def test_it_is_read_from_a_file(tmp_path: Path) -> None:
    """A path does as well as bytes."""
    path = tmp_path / "image.png"
    path.write_bytes(encode_png(PICTURE, PLAIN))
    assert PLAIN == read_provenance(path) == read_provenance(str(path))


def test_settings_tell_what_decides_the_image() -> None:
    """The settings that decide an image are told, and no others."""
    settings = Settings(
        generator="stabilityai/stable-diffusion-xl-base-1.0",
        steps=20,
        guidance_scale=5.5,
        width=512,
        height=768,
        dtype="float32",
        rounds=9,
    )
    found = provenance_of(settings, TEMPLATES, prompt="a cat", seed=3)
    assert found is not None
    name = "stabilityai/stable-diffusion-xl-base-1.0"
    assert (name, "name", REVISIONS[name]) == (found.model, found.kind, found.revision)
    assert {"judge": "0" * 64} == found.templates
    expected = {
        "steps": 20,
        "guidance_scale": 5.5,
        "width": 512,
        "height": 768,
        "dtype": "float32",
    }
    said = {k: v for k, v in found.to_json().items() if k in CALL}
    assert expected == said
    assert found == read_provenance(encode_png(PICTURE, found))


def test_every_setting_of_the_call_is_a_setting() -> None:
    """The names are those of the settings, with their defaults."""
    for name in CALL:
        assert Settings.model_fields[name].default == getattr(PLAIN, name)


class Painter:
    def __call__(self, prompt: str, seed: int) -> Image.Image:
        return PICTURE


@pytest.mark.parametrize(
    ("generator", "model", "kind"),
    [
        ("pocket", "pocket", "name"),
        ("owner/model", "owner/model", "name"),
        ("openai:a-model.1", "openai:a-model.1", "name"),
        ("mine:/home/S3CRET/tiny", "tiny", "folder"),
        ("http://localhost:1/v1?key=S3CRET", "http://localhost:1/v1", "name"),
        ("http://me:S3CRET@localhost:1/v1", "http://localhost:1/v1", "name"),
        ("/home/S3CRET/models/tiny", "tiny", "folder"),
        ("/home/S3CRET/models/tiny/", "tiny", "folder"),
        ("~/S3CRET/tiny", "tiny", "folder"),
        (r"C:\S3CRET\tiny", "tiny", "folder"),
        ("./tiny", "tiny", "folder"),
        (".", "folder", "folder"),
        ("folder/here", "here", "folder"),
        (Painter(), "Painter", "object"),
        (Painter().__call__, "Painter.__call__", "object"),
    ],
)
def test_no_path_and_no_secret_is_told(
    generator: object,
    model: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder is called by its last part, and an address loses its login."""
    (tmp_path / "folder" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    settings = Settings(generator=generator, api_key="S3CRET")
    found = provenance_of(settings, {}, prompt="a cat", seed=0)
    assert found is not None
    assert (model, kind) == (found.model, found.kind)
    data = encode_png(PICTURE, found)
    assert b"S3CRET" not in data
    assert str(tmp_path).encode() not in data


@pytest.mark.parametrize("prompt", ["", "a" * 10_001, "half \ud800", "\udfff"])
def test_what_cannot_be_written_down_is_left_out(prompt: str) -> None:
    """A prompt that no command would take leaves the image without provenance."""
    assert provenance_of(Settings(), {}, prompt=prompt, seed=0) is None


@pytest.mark.parametrize("place", [*range(0, 90, 3), -1, -4, -9, -13])
def test_a_truncated_file_is_refused(place: int) -> None:
    """Wherever a file breaks off, it is not taken for whole."""
    with pytest.raises(ConfigurationError, match="PNG file"):
        read_provenance(encode_png(PICTURE, PLAIN)[:place])


@given(st.integers(33, 33 + 12 + 120), st.integers(0, 7))
def test_a_flipped_bit_is_noticed(place: int, bit: int) -> None:
    """A changed bit in our chunk is never read as something else."""
    data = bytearray(encode_png(PICTURE, PLAIN))
    data[place] ^= 1 << bit
    with pytest.raises(ConfigurationError):
        read_provenance(bytes(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_line(data: bytes) -> None:
    """Whatever stands in a file or in our chunk, it is one clear error."""
    for source in (
        data,
        header() + data,
        saying(data),
        png(chunk(b"iTXt", OURS + data)),
    ):
        with pytest.raises(ConfigurationError) as problem:
            read_provenance(source)
        assert "\n" not in str(problem.value)


BOMB = zlib.compress(b"a" * 10_000_000)


FOREIGN = [
    (b"", "which is none"),
    (b"GIF89a", "which is none"),
    (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b""), "which is damaged"),
    (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"short"), "which is damaged"),
    (header(20_000, 20_000) + END, "at most 67,108,864 pixels, got .* 20000x20000"),
    (header(0, 16) + END, "of 0x16"),
    (header(2**31, 2**31) + END, "expected an image of at most"),
    (png(), "without; it was made by something else, with --no-metadata"),
    (png(chunk(b"tEXt", OURS + b"{}")), "without"),
    (png(chunk(b"zTXt", OURS + b"\0" + BOMB)), "without"),
    (png(chunk(b"iTXt", b"other\0\0\0\0\0{}")), "without"),
    (png(chunk(b"iTXt", OURS + b"\1\0\0\0" + BOMB)), "a compressed one"),
    (png(chunk(b"iTXt", OURS + b"\0\0en\0\0{}")), "another form"),
    (png(chunk(b"iTXt", OURS)), "another form"),
    (png(*2 * [chunk(b"iTXt", OURS + b"\0\0\0\0{}")]), "expected one text of ours"),
    (saying(" " * (MAX_TEXT + 200)), "at most 131,072 bytes"),
    (header() + 70_000 * chunk(b"tEXt", b""), "which is damaged"),
    (saying("{"), "to be ours, got something else"),
    (saying("[1]"), "got something else"),
    (saying('"schema"'), "got something else"),
    (saying("{}"), "got something else"),
    (saying("[" * 100_000), "got something else"),
    (saying(b"\xff\xfe"), "got something else"),
    (saying('{"schema": %s}' % ("9" * 5_000)), "got something else"),
    (told(schema=2), "provenance of version 1 in these bytes, got '2'"),
    (told(schema=True), "version 1"),
    (told(schema="\x1b]0;x" * 9), "version 1"),
    (told(seed=-1), "'seed' that is not"),
    (told(seed=2**63), "'seed'"),
    (told(seed=10**400), "'seed'"),
    (told(seed="7"), "'seed'"),
    (told(seed=7.5), "'seed'"),
    (told(seed=True), "'seed'"),
    (told(seed="left out"), "'seed'"),
    (told(prompt=""), "'prompt'"),
    (told(prompt=["a"]), "'prompt'"),
    (told(prompt="a" * 10_001), "'prompt'"),
    (told(prompt="\ud800"), "that is not"),
    (told(model=None), "'model'"),
    (told(kind="file"), "'kind'"),
    (told(steps=0), "'steps'"),
    (told(steps=1e300), "'steps'"),
    (told(guidance_scale=float("nan")), "'guidance_scale'"),
    (told(guidance_scale=float("inf")), "'guidance_scale'"),
    (told(width=7), "'width'"),
    (told(dtype="int8"), "'dtype'"),
    (told(strict="yes"), "'strict'"),
    (told(templates={"judge": "../../etc"}), "templates"),
    (told(templates={"\x1b[2J": "0" * 64}), "templates"),
    (told(templates={f"r{'x' * n}": "0" * 64 for n in range(33)}), "'templates'"),
    (told(unknown=1), "'unknown'"),
    (told(version=""), "'version'"),
    (saying('{"schema": 1e0}'), "version 1"),
]


@pytest.mark.parametrize("number", range(len(FOREIGN)))
def test_a_file_of_somebody_else_is_refused(number: int) -> None:
    """What is no image of ours is refused with what is wrong with it."""
    data, words = FOREIGN[number]
    with pytest.raises(ConfigurationError, match=words) as problem:
        read_provenance(data)
    assert str(problem.value).splitlines() == [str(problem.value)]
    assert len(str(problem.value)) < 300


def _folder(path: Path) -> Path:
    return path


def _nothing(path: Path) -> Path:
    return path / "nothing.png"


def _nul(path: Path) -> Path:
    return path / "a\0b.png"


def _locked(path: Path) -> Path:
    return path / ("x" * 300)


@pytest.mark.parametrize("make", [_folder, _nothing, _nul, _locked])
def test_what_is_no_file_is_named(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """A folder, a missing file and an impossible name are told by name."""
    with pytest.raises(ConfigurationError, match=r"expected a .*PNG file, got '"):
        read_provenance(make(tmp_path))


def test_a_pipe_is_not_waited_for() -> None:
    """A device that never ends is not read at all."""
    with pytest.raises(ConfigurationError, match="which is no file"):
        read_provenance("/dev/zero")
