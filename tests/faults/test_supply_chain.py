"""What comes from elsewhere runs nothing: 20 cases, each refused with its reason.

Models bring no pickles and no code, images no more pixels than is said, templates no
objects and no other files, and who is offline asks nobody.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import socket
import struct
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image

from socratic_agents.agents.judges import Judgement
from socratic_agents.cli.app import main
from socratic_agents.core.errors import AnswerError, ConfigurationError
from socratic_agents.core.history import Candidate
from socratic_agents.core.outcome import Failure
from socratic_agents.llm.template_files import find_template
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.clip import Clip
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.models.validation import decoded_image
from socratic_agents.report.html import report_html
from socratic_agents.storage.objects import ObjectStore
from socratic_agents.storage.safe_png import MAX_PIXELS, decode_png
from tests.fakes import TextModel, ask_structured, history

if TYPE_CHECKING:
    from collections.abc import Callable

RAN: list[Any] = []
"""What ran although it should not, and which hosts were asked for."""

SIDES = (9_000, 12_000, 14_000, 20_000)
TEMPLATE = """\
description: Short.
variables: [user_prompt]
messages:
  - role: human
    text: "<user_prompt>{{{user_prompt}}}</user_prompt>"
"""
SERIALISED = {
    "lc": 1,
    "type": "constructor",
    "id": ["langchain_core", "prompts", "chat", "ChatPromptTemplate"],
    "kwargs": {"messages": [{"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}]},
}
"""What LangChain writes for an object; reading it back makes one."""


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return RAN.append, ("a pickle",)


@pytest.fixture(autouse=True)
def _nothing_runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fail a test in which something of somebody else ran, or the network was asked."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sentinel")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **_: RAN.append(asked))
    RAN.clear()
    yield
    assert [] == RAN


def bomb(side: int) -> bytes:
    """Return a whole PNG file of few bytes and many pixels, all black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    packer, row = zlib.compressobj(9), bytes(1 + (side + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">II5B", side, side, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def pipeline(folder: Path, *, index: dict[str, Any] | None = None) -> Path:
    """Return the folder of a pipeline without anything in it."""
    folder.mkdir()
    told = {"_class_name": "StableDiffusionPipeline", **(index or {})}
    (folder / "model_index.json").write_text(json.dumps(told))
    return folder


def _pickled_unet(path: Path) -> None:
    folder = pipeline(path / "model")
    (folder / "unet").mkdir()
    weights = folder / "unet" / "diffusion_pytorch_model.bin"
    weights.write_bytes(pickle.dumps(Payload()))
    Diffusion.load(str(folder))


def _own_pipeline(path: Path) -> None:
    folder = pipeline(path / "model", index={"_class_name": ["pipeline", "MyPipeline"]})
    (folder / "pipeline.py").write_text("raise SystemExit('ran')")
    Diffusion.load(str(folder))


def _own_part(path: Path) -> None:
    folder = pipeline(path / "model", index={"unet": ["my_unet", "MyUNet"]})
    (folder / "unet").mkdir()
    (folder / "unet" / "my_unet.py").write_text("raise SystemExit('ran')")
    Diffusion.load(str(folder))


def _pickled_captioner(path: Path) -> None:
    (path / "config.json").write_text(json.dumps({"model_type": "blip-2"}))
    (path / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    Captioner.load(str(path), device="cpu")


def _captioner_with_code(path: Path) -> None:
    mapped = {"AutoConfig": "mine.C", "AutoModelForImageTextToText": "mine.M"}
    config = {"model_type": "mine", "auto_map": mapped}
    for name in ("config.json", "processor_config.json", "preprocessor_config.json"):
        (path / name).write_text(json.dumps(config))
    (path / "mine.py").write_text("raise SystemExit('ran')")
    Captioner.load(str(path), device="cpu")


def _pickled_scorer(path: Path) -> None:
    (path / "open_clip_config.json").write_text("{}")
    (path / "open_clip_pytorch_model.pt").write_bytes(pickle.dumps(Payload()))
    Clip.load(str(path), device="cpu")


def _pickle_in_disguise(path: Path) -> None:
    folder = pipeline(path / "model")
    (folder / "unet").mkdir()
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(pickle.dumps(Payload()))
    Diffusion.load(str(folder))


def _template(text: str | bytes) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        data = text.encode() if isinstance(text, str) else text
        (path / "mine.yaml").write_bytes(data)
        find_template("judge", path / "mine.yaml")

    return read


def _linked(path: Path) -> None:
    (path / "outside.yaml").write_text(TEMPLATE)
    (path / "theirs" / "judge").mkdir(parents=True)
    (path / "theirs" / "judge" / "default.yaml").symlink_to(path / "outside.yaml")
    find_template("judge", path / "theirs")


def _endless(path: Path) -> None:
    (path / "mine.yaml").symlink_to("/dev/zero")
    find_template("judge", path / "mine.yaml")


def _secret_file(path: Path) -> None:
    (path / "id_rsa").write_text("SENTINEL: [\nSENTINEL")
    (path / "mine.yaml").symlink_to(path / "id_rsa")
    find_template("judge", path / "mine.yaml")


def _hub_model(path: Path) -> None:
    Diffusion.load("nobody/no-such-model", device="cpu")


def _hub_captioner(path: Path) -> None:
    Captioner.load("nobody/no-such-model", device="cpu")


LAUGHS = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)

CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickled unet": (_pickled_unet, "expected safetensors weights, got only pickles"),
    "pickled captioner": (_pickled_captioner, "got only pickles"),
    "pickled scorer": (_pickled_scorer, "got only pickles"),
    "pickle in disguise": (_pickle_in_disguise, "truncated or damaged"),
    "own pipeline": (_own_pipeline, "needs its own Python code"),
    "own part": (_own_part, r"needs its own Python code \(my_unet\)"),
    "captioner with code": (_captioner_with_code, "which is not run; name another"),
    "yaml object": (
        _template("!!python/object/apply:os.system ['exit 1']"),
        "expected YAML, got could not determine a constructor",
    ),
    "yaml in a text": (
        _template(TEMPLATE.replace("Short.", "!!python/name:os.system x")),
        "expected YAML, got could not determine a constructor",
    ),
    "laughing yaml": (_template(LAUGHS), "expected YAML, got an alias"),
    "deep yaml": (_template("[" * 1_500), "expected YAML|nested"),
    "serialised template": (
        _template(json.dumps(SERIALISED)),
        "expected description, variables and messages, got",
    ),
    "huge template": (_template(b"#" * 2**21), "at most 1,048,576 bytes"),
    "endless template": (_endless, "expected a file, got a pipe or a device"),
    "linked template": (_linked, "a link that leads out of it"),
    "linked secret": (_secret_file, "correct the judge template"),
    "hub model offline": (_hub_model, "the hub must not be asked"),
    "hub captioner offline": (_hub_captioner, "the hub must not be asked"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    """One line says why, soon, without what stands in the file; nothing ran."""
    load, reason = CASES[name]
    start = time.process_time()
    with pytest.raises(ConfigurationError, match=reason) as problem:
        load(tmp_path)
    assert "\n" not in str(problem.value)
    assert "SENTINEL" not in str(problem.value)
    assert len(str(problem.value)) < 1_000
    assert time.process_time() - start < 20  # most of it imports


@pytest.mark.parametrize("side", SIDES)
def test_a_bomb_is_not_decoded(
    side: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Few bytes that unfold to many pixels are refused by whoever reads images."""
    data = bomb(side)
    assert side * side > MAX_PIXELS
    assert len(data) < 100_000
    start = time.process_time()
    with pytest.raises(ValueError, match=r"which are many|no whole PNG"):
        decoded_image(data)  # of an images server
    assert decode_png(data) is None  # of a cache
    path = f"objects/{hashlib.sha256(data).hexdigest()}.png"
    (tmp_path / "objects").mkdir()
    (tmp_path / path).write_bytes(data)
    assert ObjectStore(tmp_path).get(path) == data
    past = history("a cat", Candidate(prompt="a cat", seed=1, path=path))
    failure = Failure(user_prompt="a cat", error="no", kind="x", history=past)
    page = report_html([failure], read=ObjectStore(tmp_path).get)
    assert "image not found" in page
    assert "data:image" not in page
    assert 2 == main(["show", str(tmp_path / path)])
    assert f"of {side}x{side}" in capfd.readouterr().err
    assert time.process_time() - start < 1


def test_a_second_header_does_not_help() -> None:
    """A file that first claims to be small is not decoded either."""
    small, large = io.BytesIO(), bomb(9_000)
    Image.linear_gradient("L").save(small, "PNG")
    assert decode_png(small.getvalue()) is not None
    assert decode_png(small.getvalue()[:33] + large[8:]) is None
    assert decode_png(large[:8] + large[8:33] + small.getvalue()[8:]) is None
    assert decode_png(b"") is None
    assert decode_png(small.getvalue()[:200]) is None


async def test_an_answer_is_no_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """What LangChain would make an object of stays a wrong answer, and reads no key."""
    text = json.dumps(SERIALISED)
    with pytest.raises(AnswerError) as problem:
        await ask_structured(
            TextModel(script=[text]),
            [HumanMessage("?")],
            Judgement,
            validation_retries=0,
        )
    assert text == problem.value.raw
    assert "sk-sentinel" not in f"{problem.value!r} {problem.value.raw}"


def test_a_text_in_a_template_is_no_object() -> None:
    """What LangChain would make an object of stays text in a message."""
    text = json.dumps(SERIALISED)
    messages = find_template("checklist", "default").filled({"user_prompt": text})
    assert f"<user_prompt>{text}</user_prompt>" in str(messages[-1].content)


def test_a_users_own_link_is_followed(tmp_path: Path) -> None:
    """A file that one names oneself may be a link, as home folders often have."""
    (tmp_path / "real.yaml").write_text(TEMPLATE)
    (tmp_path / "mine.yaml").symlink_to(tmp_path / "real.yaml")
    assert "mine" == find_template("judge", tmp_path / "mine.yaml").name


@pytest.mark.parametrize(
    "text",
    ["torch.load(", "pickle.load", "trust_remote_code=True", "yaml.load(", "eval("],
)
def test_nothing_in_the_package_reads_code(text: str) -> None:
    """No module calls what would run what it reads; training reads its own files."""
    package = Path(__file__).parents[2] / "socratic_agents"
    files = [p for p in package.rglob("*.py") if "train" not in p.parts]
    assert [] == [p for p in files if f" {text}" in p.read_text("utf-8")]
