"""Names of files come from content, never from text: 80 nasty prompts and 1,000 more.

Every path lies in the run directory, is of at most 255 bytes, can be written on Windows
too, and no two images share one.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.config.settings import Settings
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    StopReason,
    Verdict,
)
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.storage.objects import ObjectStore
from socratic_agents.storage.provenance import encode_png, provenance_of
from socratic_agents.storage.run_directory import RunDirectory
from tests.faults.corpus import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.no_cover  # it repeats what other tests measure

PORTABLE = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9]+)*")
"""Lower case alone: some disks take two names for one that differ only in case."""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
SETTINGS = Settings()


def shade(prompt: str) -> Image.Image:
    """Return an image; few prompts share one."""
    number = zlib.crc32(prompt.encode("utf-8", "surrogatepass")) % 2**24
    return Image.new("RGB", (4, 4), (number >> 16, number >> 8 & 255, number & 255))


def refinement(prompt: str, *, index: int = 0) -> Refinement:
    """Return a refinement that says a text wherever a text may stand."""
    drawn = Candidate(prompt=prompt, seed=1, caption=prompt, image=shade(prompt))
    verdict = Verdict(satisfied=False, missing=(prompt,), reason=prompt)
    return Refinement(
        history=History(
            user_prompt=prompt, rounds=(Round(candidates=(drawn,), verdict=verdict),)
        ),
        best_place=CandidateRef(round=0, candidate=0),
        stop=StopReason.ROUNDS_SPENT,
        index=index,
        settings={"judge": prompt},
        templates={prompt: {"name": prompt, "sha256": "0" * 64}},
    )


def encode(image: Image.Image, prompt: str, seed: int) -> bytes:
    return encode_png(image, provenance_of(SETTINGS, {}, prompt=prompt, seed=seed))


def check(root: Path) -> set[str]:
    """Hold every path below a folder to what it must be; return them."""
    paths = set()
    for path in root.rglob("*"):
        assert path.resolve().is_relative_to(root.resolve())
        assert not path.is_symlink()
        paths.add(path.relative_to(root).as_posix())
        assert PORTABLE.fullmatch(path.name), path.name
        assert not RESERVED.fullmatch(path.name)
        assert len(path.name.encode()) <= 255
        assert len(path.relative_to(root).as_posix()) <= 100  # of 260 on Windows
    assert len(paths) == len({path.casefold() for path in paths})
    return paths


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDirectory]:
    """Return a run directory that takes in everything."""
    path = tmp_path_factory.mktemp("around") / "run"
    with RunDirectory(path, settings={}, encode=encode) as opened:
        yield opened


def kept(run: RunDirectory, prompt: str, **facts: Any) -> str:
    """Keep an image of a prompt; return its path."""
    saved = run.save(refinement(prompt, **facts))
    path = saved.best.path
    assert path is not None
    assert re.fullmatch(r"objects/[0-9a-f]{64}\.png", path)
    assert ObjectStore(run.path).get(path) is not None
    return path


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_a_prompt_is_no_path(number: int, run: RunDirectory) -> None:
    """What would lead somewhere else, or be no name at all, names no file."""
    prompt = NAMES[number]
    before = check(run.path)
    path = kept(run, prompt, index=number)
    run.save(Failure(user_prompt=prompt, error=prompt, kind=prompt, index=1_000))
    after = check(run.path)
    # An image, and at most the few files that every run has.
    assert after - before <= {path, "results.jsonl", "journal.jsonl", "config.json"}
    assert [run.path] == [*run.path.parent.iterdir()]


def test_the_corpus_is_whole() -> None:
    """There are 80 prompts, no two alike, and each has an image of its own."""
    assert 80 == len(NAMES) == len(set(NAMES))
    names = {encode(shade(prompt), prompt, 1) for prompt in NAMES}
    assert len(names) >= 79  # two are too long for their provenance


@settings(max_examples=1_000)
@given(st.text(max_size=300))
@example("../" * 100)
@example("x" * 10_000)
def test_any_text_is_no_path(run: RunDirectory, prompt: str) -> None:
    """The bytes of the image decide its name, and the same ones have the same name."""
    first, second = shade(prompt), shade(prompt)
    folder = run.journal.objects
    path = folder.add(encode(first, prompt, 1))
    assert re.fullmatch(r"objects/[0-9a-f]{64}\.png", path)
    assert path == folder.add(encode(second, prompt, 1))
    assert (run.path / path).is_file()


def test_all_that_was_written_is_portable(run: RunDirectory) -> None:
    """After all these texts, every path in the folder is as it must be."""
    paths = check(run.path)
    assert len([path for path in paths if path.startswith("objects/")]) >= 79


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_a_path_from_somebody_else_is_not_followed(number: int, tmp_path: Path) -> None:
    """A run directory's own images are read, and nothing else in the world."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    name = NAMES[number]
    for path in (name, f"objects/{name}", f"objects/{'0' * 64}.png{name}"):
        assert ObjectStore(tmp_path / "run").get(path) is None
