"""Back ends: what opens a model, and how another package adds one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from socratic_agents import Refiner
from socratic_agents.config.backends import Backend, choose_backend
from socratic_agents.config.registry import PluginWarning, Registry
from socratic_agents.config.settings import Settings
from socratic_agents.runtime.captioners import CAPTIONERS
from socratic_agents.runtime.generators import GENERATORS
from socratic_agents.runtime.open_models import SCORERS, score_name
from tests.plugins import install

if TYPE_CHECKING:
    from pathlib import Path

PLUG = '''
"""A generator, a captioner and a scorer of another package."""
from PIL import Image
from socratic_agents.config.backends import Backend
from socratic_agents.runtime.batching import batched_call
from socratic_agents.runtime.generators import OpenedGenerator
from socratic_agents.runtime.image_models import GENERATE

def open_generator(settings, worker):
    shade = int(settings.generator.partition(":")[2] or 9)
    def draw(requests):
        return [Image.new("RGB", (8, 8), (shade, seed % 256, 0)) for _, seed in requests]
    generate = batched_call(GENERATE, draw, settings, worker)
    return OpenedGenerator(generate=generate, max_tokens=20)

class Captioner:
    def caption(self, images):
        return [f"a shade of {image.getpixel((0, 0))[0]}" for image in images]

class Scorer:
    def score(self, pairs):
        return [image.getpixel((0, 0))[0] / 100 for _, image in pairs]

GENERATOR = Backend(name="mine", title="Draws shades.", open=open_generator)
CAPTIONER = Backend(name="mine", title="Sees shades.", open=lambda settings: Captioner())
SCORER = Backend(
    name="mine", title="Scores shades.", open=lambda settings: Scorer(),
    claims=lambda value: value.endswith(".shade"),
)
'''
GROUPS = ("generators", "captioners", "scorers")


@pytest.fixture
def _plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay down a distribution with entry points, as pip would."""
    monkeypatch.syspath_prepend(tmp_path)
    entries = {
        f"socratic_agents.{group}": {"mine": f"shades_plug:{group[:-1].upper()}"}
        for group in GROUPS
    }
    install(tmp_path, "shades", {"shades_plug": PLUG}, entries)


@pytest.mark.usefixtures("_plug")
async def test_another_package_brings_its_models() -> None:
    """One file and its entry points: settings name them, and nothing else changes."""
    settings = Settings(
        generator="mine:77",
        captioner="mine",
        scorer="some.shade",
        judge="never",
        selector="clip",
        rounds=1,
        seed=7,
    )
    async with Refiner(settings) as refiner:
        refinement = await refiner.refine("a ball")
    best = refinement.best
    assert best.image is not None
    assert (77, 7, 0) == best.image.getpixel((0, 0))
    assert ("a shade of 77", {"mine": 0.77}) == (best.caption, best.scores)


@pytest.mark.usefixtures("_plug")
def test_what_is_there_says_where_it_is_from() -> None:
    """Ours come first, then other packages'."""
    for registry in (GENERATORS, CAPTIONERS, SCORERS):
        *ours, last = registry.listed()
        assert {"socratic_agents"} == {one.package for one in ours}
        assert ("mine", "shades 1.0") == (last.name, last.package)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("pocket", "pocket"),
        ("https://example.org/v1", "images-server"),
        ("openai:an-image", "images-server"),
        ("owner/model", "diffusers"),
        ("pocket:model", "diffusers"),
    ],
)
def test_a_value_is_for_one_back_end(value: str, name: str) -> None:
    """What nobody claims is a hub id or a folder."""
    assert name == choose_backend(GENERATORS, value, default="diffusers").name


def test_a_score_is_called_by_its_back_end() -> None:
    """The pocket scorer is a CLIP, too."""
    for scorer in ("pocket", "ViT-B-32/openai", None):
        assert "clip" == score_name(Settings(scorer=scorer))


def test_a_back_end_that_is_broken_claims_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, and the others are asked."""
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "broken", {}, {"socratic_agents.x": {"mine": "no:NO"}})
    last: Backend[None] = Backend(name="last", title="", open=None)
    backends: Registry[Backend[None]] = Registry(
        "a back end", (last,), spec=Backend, group="socratic_agents.x"
    )
    with pytest.warns(PluginWarning, match="'mine' of broken"):
        assert last is choose_backend(backends, "mine:1", default="last")
