"""Whatever is corrupt on disk is found, quarantined, and alone done again.

F7  A PNG file cut at 100 places and with 300 bits flipped; the journal and the results
    cut at every byte of their last line; config.json cut at every byte; flipped bits
    anywhere in the journal, the results and the config; a corrupt cache.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.config.settings import Settings
from socratic_agents.core.outcome import Failure
from socratic_agents.runtime.cached_models import with_journal
from socratic_agents.runtime.image_models import ImageModels
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.storage.journal import Journal, key_of
from socratic_agents.storage.results import read_outcomes
from socratic_agents.storage.run_directory import RunDirectory
from tests.faults.runner import Eyes, paint
from tests.faults.trials import PROMPTS, left_in, numbered, without_times
from tests.test_run_directory import SETTINGS as SAVED
from tests.test_run_directory import failure, refinement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.trials import Left

SETTINGS = Settings()
CUTS, FLIPS = 100, 300
SHARES = 4
"""Of the cases of a test one in four is tried each time, and all of them at night."""


def flipped(data: bytes, bit: int) -> bytes:
    """Return some bytes with one bit turned."""
    corrupt = bytearray(data)
    corrupt[bit // 8] ^= 1 << bit % 8
    return bytes(corrupt)


def ways(data: bytes) -> list[bytes]:
    """Return a file cut at 100 places, and with 300 of its bits turned."""
    chance = random.Random(0)
    cuts = [data[: len(data) * number // CUTS] for number in range(CUTS)]
    bits = chance.sample(range(8 * len(data)), FLIPS)
    return [*cuts, *(flipped(data, bit) for bit in bits)]


def quarantined(folder: Path) -> list[bytes]:
    """Return what is in quarantine."""
    return [path.read_bytes() for path in (folder / "quarantine").glob("*")]


class Models:
    """Counts what is asked of it."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        self.asked["generate"] += 1
        image = Image.frombytes("RGB", (4, 4), random.Random(seed).randbytes(48))
        image.info["truncated_tokens"] = 0
        return image

    async def caption(self, image: Image.Image) -> str:
        self.asked["caption"] += 1
        return str(image.getpixel((0, 0)))

    def kept(self, run: RunDirectory) -> ImageModels:
        image_models = ImageModels(generate=self.generate, caption=self.caption)
        return with_journal(image_models, run.journal, SETTINGS, images=run.images)


async def drawn(run: RunDirectory, models: Models) -> list[Any]:
    """Draw and caption three images."""
    image_models = models.kept(run)
    images = [await image_models.generate("a ball", seed) for seed in range(3)]
    return [images, [await image_models.caption(image) for image in images]]


@pytest.mark.parametrize("share", numbered(SHARES, smoke=1))
async def test_a_spoilt_image_is_drawn_again_and_nothing_else(
    tmp_path: Path, share: int
) -> None:
    """Each of 400 ways to spoil it: found, quarantined, drawn again as it was."""
    models = Models()
    with RunDirectory(tmp_path, settings={}) as run:
        before = await drawn(run, models)
    assert {"generate": 3, "caption": 3} == models.asked
    path = min((tmp_path / "objects").iterdir())
    whole = path.read_bytes()
    for corrupt in ways(whole)[share::SHARES]:
        models.asked.clear()
        shutil.rmtree(tmp_path / "quarantine", ignore_errors=True)
        path.write_bytes(corrupt)
        with RunDirectory(tmp_path, settings={}) as run:
            assert before == await drawn(run, models)
            assert 1 == run.quarantined
        assert {"generate": 1} == models.asked
        assert [corrupt] == quarantined(tmp_path)
        assert whole == path.read_bytes()


def test_a_spoilt_image_ends_the_rest_of_its_prompt_alone(tmp_path: Path) -> None:
    """Of two finished prompts, the other one stays finished."""
    with RunDirectory(tmp_path, settings={}) as run:
        saved = run.save(refinement())
        run.save(refinement("a blue box", 1, shade=200))
    path = tmp_path / str(saved.best.path)
    whole = path.read_bytes()
    for corrupt in ways(whole)[::7]:
        path.write_bytes(corrupt)
        with RunDirectory(tmp_path, settings={}) as run:
            assert run.finished(0, "a red ball") is None
            assert run.finished(1, "a blue box") is not None
            assert 1 == run.quarantined
        path.write_bytes(whole)


@pytest.mark.parametrize("share", numbered(SHARES, smoke=1))
def test_a_journal_that_breaks_off_loses_its_last_step(
    tmp_path: Path, share: int
) -> None:
    """Cut at every byte of it; the torn piece is quarantined."""
    keys = [key_of("llm", number) for number in range(3)]
    with Journal(tmp_path) as journal:
        for number, key in enumerate(keys):
            journal.put("llm", key, {"content": f"{number} " * 130})
            journal.flush()
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    assert len(whole) - last > 400
    for cut in range(last + share, len(whole), SHARES):
        shutil.rmtree(tmp_path / "quarantine", ignore_errors=True)
        path.write_bytes(whole[:cut])
        with Journal(tmp_path) as journal:
            known = [journal.get(key) is not None for key in keys]
        assert [True, True, False] == known
        assert whole[:last] == path.read_bytes()
        assert ([whole[last:cut]] if cut > last else []) == quarantined(tmp_path)


@pytest.mark.parametrize("share", numbered(SHARES, smoke=1))
def test_results_that_break_off_lose_their_last_prompt(
    tmp_path: Path, share: int
) -> None:
    """Cut at every byte of it; readers see the others, and the next run mends it."""
    with RunDirectory(tmp_path, settings={}) as run:
        run.save(refinement())
        run.save(failure("a blue box", 1))
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    last = whole.index(b"\n") + 1
    assert len(whole) - last > 100
    for cut in range(last + share, len(whole), SHARES):
        shutil.rmtree(tmp_path / "quarantine", ignore_errors=True)
        path.write_bytes(whole[:cut])
        assert [0] == [outcome.index for outcome in list(read_outcomes(tmp_path))]
        with RunDirectory(tmp_path, settings={}) as run:
            assert run.finished(0, "a red ball") is not None
        assert whole[:last] == path.read_bytes()
        assert ([whole[last:cut]] if cut > last else []) == quarantined(tmp_path)


@dataclass(frozen=True)
class Corruption:
    """A file of a run directory and how many flipped bits of it are tried."""

    name: str
    flips: int


@pytest.mark.parametrize(
    "file",
    [
        Corruption("journal.jsonl", 150),
        Corruption("results.jsonl", 150),
        Corruption("config.json", 100),
    ],
    ids=lambda file: file.name,
)
@pytest.mark.parametrize("share", numbered(SHARES, smoke=1))
def test_a_flipped_bit_is_never_believed(
    tmp_path: Path, file: Corruption, share: int
) -> None:
    """Wherever it is: no more than its line and its neighbour are lost."""
    made = [refinement(f"prompt {n}", n, shade=n) for n in range(3)]
    with RunDirectory(tmp_path, settings=SAVED) as run:
        before = list(map(run.save, made))
    path = tmp_path / file.name
    whole = path.read_bytes()
    files = {
        name: (tmp_path / name).read_bytes()
        for name in ("journal.jsonl", "results.jsonl")
    }
    bits = random.Random(1).sample(range(8 * len(whole)), file.flips)
    for bit in bits[share::SHARES]:
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        path.write_bytes(flipped(whole, bit))
        with RunDirectory(tmp_path, settings=SAVED) as run:
            found = [run.finished(index, f"prompt {index}") for index in range(3)]
            assert run.quarantined
        lost = 0
        for one, other in zip(before, found, strict=True):
            lost += other is None
            assert other is None or one.to_json() == other.to_json()
        # A flipped end of a line joins it with the next.
        assert lost <= (0 if file.name == "config.json" else 2)
        assert run.path.joinpath("config.json").exists()


def test_a_truncated_config_is_quarantined(tmp_path: Path) -> None:
    """Cut at every byte; the run goes on, and says anew what it is."""
    with RunDirectory(tmp_path, settings=SAVED) as run:
        run.save(refinement())
    path = tmp_path / "config.json"
    whole = path.read_bytes()
    for cut in range(len(whole) - 2):  # without its line's end it is still whole
        path.write_bytes(whole[:cut])
        with RunDirectory(tmp_path, settings=SAVED, resume=True) as run:
            assert 1 == run.quarantined
            assert run.finished(0, "a red ball") is not None
        assert SAVED == json.loads(path.read_text())["settings"]


@pytest.mark.parametrize("how", ["image", "line", "torn"])
async def test_a_spoilt_cache_is_asked_in_vain(tmp_path: Path, how: str) -> None:
    """Nothing of it is read, nothing of it is quarantined, and it heals."""
    cache, models = tmp_path / "cache", Models()
    with RunDirectory(tmp_path / "one", settings={}, cache=cache) as run:
        before = await drawn(run, models)
    path = min((cache / "objects").iterdir())
    if how == "line":
        path = cache / "journal.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        lines[1:] = [flipped(line, 500) for line in lines[1:]]
        path.write_bytes(b"".join(lines))
    elif how == "torn":
        path = cache / "journal.jsonl"
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.write_bytes(path.read_bytes()[:-9])
    models.asked.clear()
    with RunDirectory(tmp_path / "two", settings={}, cache=cache) as run:
        assert before == await drawn(run, models)
    # Lines of one sync may stand in any order: the torn one is any step's.
    assert {"image": 1, "line": 6, "torn": 1}[how] == models.asked.total()
    assert not (cache / "quarantine").exists()
    models.asked.clear()
    with RunDirectory(tmp_path / "three", settings={}, cache=cache) as run:
        assert before == await drawn(run, models)
    assert not models.asked


async def batch(folder: Path) -> Left:
    """Run what a batch runs, with small models, and return what lies there."""
    settings = Settings(rounds=2, in_flight=2)
    small = settings.but(generator=paint, captioner=Eyes(), scorer=None)
    with RunDirectory(folder, settings=settings.public(), resume=True) as run:
        todo = [n for n in range(2) if run.finished(n, PROMPTS[n]) is None]
        async with Refiner(small).remember(run) as refiner:
            async for outcome in refiner.refine_many([PROMPTS[n] for n in todo]):
                assert not isinstance(outcome, Failure)
                run.save(replace_index(outcome, todo))
    return left_in(folder)


def files_in(folder: Path) -> list[Path]:
    """Return all files that hold anything."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in paths if path.stat().st_size]


def replace_index(outcome: Any, places: list[int]) -> Any:
    """Return an outcome under its place in the whole batch."""
    return replace(outcome, index=places[outcome.index])


@pytest.mark.parametrize("trial", numbered(100, smoke=6))
async def test_a_batch_with_any_spoilt_file_ends_as_if_it_were_whole(
    tmp_path: Path, trial: int
) -> None:
    """A file of the directory is cut, flipped or lost, and the batch run again."""
    whole = await batch(tmp_path)
    chance = random.Random(trial)
    path = chance.choice(files_in(tmp_path))
    data = path.read_bytes()
    spoil: list[Callable[[], object]] = [
        lambda: path.write_bytes(data[: chance.randrange(len(data))]),
        lambda: path.write_bytes(flipped(data, chance.randrange(8 * len(data)))),
        path.unlink,
    ]
    chance.choice(spoil)()
    after = await batch(tmp_path)
    assert without_times(whole.results) == without_times(after.results)
    assert whole.objects == {
        name: sha256 for name, sha256 in after.objects.items() if name[8:9] != "-"
    }
    # Of a prompt that stays finished no lost step is done again.
    assert set(after.steps) <= set(whole.steps)
    assert max(after.steps.values(), default=0) <= 2
    assert (0, 0) == (after.torn, after.parts)
