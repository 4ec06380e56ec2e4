"""Families: a tiny random pipeline of each draws through the settings, by its recipe.

The classes are diffusers' own, saved and loaded as one from the hub would be.
"""

from __future__ import annotations

import functools
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import pytest

from socratic_agents import Refiner
from socratic_agents.cli.app import main
from socratic_agents.config.recipes.recognition import recipe_of
from socratic_agents.config.recipes.table import RECIPES
from socratic_agents.core.errors import CandidateError
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.models.loading import quiet
from tests.tiny_models import tiny_blip2
from tests.tiny_pipelines import PIPELINES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

# Raised inside diffusers by its Euler schedulers.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

EACH = pytest.mark.parametrize("family", PIPELINES)
LONG = "a red circle above a blue square " * 40
REQUESTS = (("a red circle", 1), (LONG, 2), ("a red circle", 3))
SIDE = 32
SMALL: dict[str, Any] = {"width": SIDE, "height": SIDE}
FIXED = {"hidream": 128, "kandinsky-5": 128}
"""Sides of families that draw some sizes only, whatever they are asked for."""
CLEANS = ("lumina", "pixart-alpha", "pixart-sigma")
"""Families that clean prompts with a library that need not be there."""
ENDLESS = ("qwen-image-21",)
"""Families that read prompts to the end."""


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a family's pipeline, saved when it is first asked for."""
    root = tmp_path_factory.mktemp("families")

    @functools.cache
    def saved(family: str) -> Path:
        with quiet():
            PIPELINES[family]().save_pretrained(root / family)
        return root / family

    return saved


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what every pipeline is called with; it takes as few steps as it can."""
    seen: list[dict[str, Any]] = []

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def recorded(self: Any, **given: Any) -> Any:
            seen.append(given)
            least = min(2, given["num_inference_steps"])
            return call(self, **given | {"num_inference_steps": least})

        return recorded

    for name in {recipe.pipeline for recipe in RECIPES}:
        pipeline = getattr(diffusers, name)
        monkeypatch.setattr(pipeline, "__call__", watched(pipeline.__call__))
    return seen


async def caption(image: Image.Image) -> str:
    """Say nothing of interest."""
    return "something"


QUICK: dict[str, Any] = {
    "captioner": caption,
    "scorer": None,
    "rounds": 1,
    "judge": "never",
    "selector": "first",
    "guard": None,
}
"""One image, and nobody who judges it."""


def _arrays(drawn: Sequence[Any]) -> NDArray[np.float32]:
    """Return the arrays as one, for there must be no failure among them."""
    assert not [one for one in drawn if isinstance(one, CandidateError)]
    return np.stack(drawn)


def test_every_recipe_has_a_tiny_pipeline(
    folder_of: Callable[[str], Path],
) -> None:
    """No pipeline class of the table is only read."""
    built = {
        json.loads((folder_of(family) / "model_index.json").read_text())["_class_name"]
        for family in PIPELINES
    }
    assert {recipe.pipeline for recipe in RECIPES} == built


@EACH
async def test_a_folder_is_drawn_by_its_recipe(
    family: str, folder_of: Callable[[str], Path], calls: list[dict[str, Any]]
) -> None:
    """The numbers reach the pipeline, and an image comes out."""
    folder = folder_of(family)
    recipe = recipe_of(folder)
    assert recipe is not None
    async with Refiner(generator=str(folder), **SMALL, **QUICK) as refiner:
        refinement = await refiner.refine("a red circle", deadline=60)

    (call,) = calls
    ours = {"steps": "num_inference_steps"}
    for name, value in recipe.settings.items():
        assert value == call[ours.get(name, name)], name
        assert value == refinement.settings[name]
    if (recipe.true_cfg_scale or 0) > 1:
        assert [" "] == call["negative_prompt"]
    image = refinement.best.image
    assert image is not None
    side = FIXED.get(family, SIDE)
    assert ("RGB", (side, side)) == (image.mode, image.size)
    said = " ".join(refinement.notices)
    if family in FIXED:
        assert f"generator: asked for {SIDE}x{SIDE}, it draws {side}x{side}" in said
    elif family in CLEANS:
        assert ("clean_caption" in said) == (find_spec("bs4") is None)
    else:
        assert not said


@EACH
def test_neither_neighbours_nor_length_change_an_image(
    family: str, folder_of: Callable[[str], Path]
) -> None:
    """Each image comes from its own prompt and seed, and says what was cut of it."""
    steps = 2 if family == "sana-sprint" else 1
    draw = Diffusion.load(str(folder_of(family)), steps=steps, **SMALL)
    requests = REQUESTS if family not in FIXED else REQUESTS[1:]  # these are slow

    together = _arrays(draw.arrays(requests))
    alone = _arrays([draw.arrays([request])[0] for request in requests])

    assert np.abs(alone - together).max() <= 1e-4
    assert not np.allclose(together[0], together[-1], atol=0.01)
    assert 0 == draw.truncated_tokens("a red circle")
    assert (draw.truncated_tokens(LONG) > 0) == (family not in ENDLESS)


def test_steps_of_sana_sprint_are_free(folder_of: Callable[[str], Path]) -> None:
    """Its pipeline refuses others than two unless it is told to forget a time."""
    draw = Diffusion.load(str(folder_of("sana-sprint")), steps=1)
    _arrays(draw.arrays(REQUESTS[:1]))


def test_the_command_line_draws_with_a_folder(
    folder_of: Callable[[str], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    calls: list[dict[str, Any]],
) -> None:
    """What a recipe decided is in the results, and the run can be resumed with it."""
    eyes = tiny_blip2(tmp_path / "eyes")
    words = ["refine", "a red circle", "--generator", str(folder_of("qwen-image"))]
    words += ["--captioner", str(eyes), "--scorer", "none", "--rounds", "1"]
    words += ["--judge", "never", "--selector", "first", "--guard", "none"]
    words += ["--width", "32", "--height", "32", "--json"]
    words += ["--out", str(tmp_path / "run")]
    assert 0 == main(words)
    out = capfd.readouterr()
    told = json.loads(out.out)
    assert (50, 4.0) == (told["settings"]["steps"], told["settings"]["true_cfg_scale"])
    assert "guidance is not enabled" not in out.err
    assert "notices" not in told
    assert 0 == main(words)
    assert 1 == len(calls)
