"""No pocket model judges what another generator draws, unless somebody says so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from socratic_agents.cli.app import main
from socratic_agents.cli.show import command_again
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.compare.run import compare
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.pocket import weights_folder
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.storage.provenance import Provenance
from tests.fakes import ScriptedChatModel

if TYPE_CHECKING:
    from socratic_agents.core.history import History


@pytest.fixture(autouse=True)
def _as_users_have_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away what the other tests say, and work in an empty folder."""
    monkeypatch.delenv("SOCRATIC_ALLOW_POCKET")
    monkeypatch.chdir(tmp_path)


async def draw(prompt: str, seed: int) -> Image.Image:
    """Draw as any callable does."""
    return Image.new("RGB", (8, 8), (len(prompt) % 256, seed % 256, 0))


async def caption(image: Image.Image) -> str:
    """Caption as any callable does."""
    return f"a picture of {image.width} pixels"


async def score(prompt: str, image: Image.Image) -> float:
    """Score as any callable does."""
    return 0.0 * len(prompt) * image.width


async def rewrite(_: History) -> tuple[str, ...]:
    """Write nothing new."""
    return ()


OTHERS: dict[str, Any] = {
    "captioner": "owner/eyes",
    "scorer": None,
    "llm": ScriptedChatModel(),
}


@pytest.mark.parametrize(
    "generator",
    ["owner/model", "folder/of/mine", "https://host.example/v1", "mine:model", draw],
)
@pytest.mark.parametrize("part", ["captioner", "scorer", "llm"])
def test_one_pocket_part_beside_another_generator_is_refused(
    generator: Any, part: str
) -> None:
    """The line names that part alone, with what mends it and what allows it."""
    with pytest.raises(ConfigurationError) as caught:
        Refiner(generator=generator, **{**OTHERS, part: "pocket"})

    (line,) = str(caught.value).splitlines()
    assert f"got the pocket {part};" in line
    assert f"{part}='" in line
    assert "profile='local'" in line
    assert "--allow-pocket" in line
    for other in OTHERS.keys() - {part}:
        assert f"{other}='" not in line


def test_defaults_beside_another_generator_are_refused() -> None:
    """Who only names a generator is told of all three."""
    with pytest.raises(ConfigurationError, match="pocket captioner, scorer, llm;"):
        Refiner(generator="owner/model")


def test_the_final_generator_is_another_one_too() -> None:
    """What it draws is judged as well."""
    with pytest.raises(ConfigurationError, match="beside the generator 'owner/model'"):
        Refiner(final_generator="owner/model")

    assert Refiner(final_generator="pocket").settings.final_generator == "pocket"


def test_it_is_allowed_where_somebody_says_so() -> None:
    """For tests and experiments."""
    assert Refiner(generator=draw, allow_pocket=True).settings.allow_pocket


def test_others_beside_the_pocket_generator_are_fine() -> None:
    """A real language model in the pocket world is common."""
    assert "pocket" == Refiner(**OTHERS).settings.generator


@pytest.mark.parametrize("opened", [False, True])
def test_the_pocket_generator_is_known_by_its_weights(*, opened: bool) -> None:
    """A folder or a pipeline of the same weights is the same generator."""
    folder = str(weights_folder("generator"))
    model = Diffusion.load(folder, device="cpu") if opened else folder

    given: Any = model
    for generator in (given, getattr(given, "pipeline", given)):
        assert Refiner(generator=generator).settings.generator is generator


def test_what_is_never_asked_is_not_looked_at() -> None:
    """Where no role is a language model's, the pocket one harms nobody."""
    with pytest.raises(ConfigurationError, match="got the pocket llm;"):
        Refiner(generator=draw, captioner=caption, scorer=score)

    refiner = Refiner(
        generator=draw,
        captioner=caption,
        scorer=score,
        optimizer=rewrite,
        judge="never",
        selector="last",
    )

    assert "pocket" == refiner.settings.llm


@pytest.mark.parametrize(
    "arguments",
    [
        ["refine", "a red circle", "--generator", "owner/model"],
        ["refine", "a red circle", "--generator", "owner/model", "--dry-run"],
        ["lab", "compare", "--generator", "owner/model", "--prompts", "words.txt"],
    ],
)
def test_commands_refuse_it_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is that of a wrong setting."""
    Path("words.txt").write_text("a red circle\n", encoding="utf-8")

    assert 2 == main(arguments)

    run = capsys.readouterr()
    assert "" == run.out
    assert "got the pocket captioner, scorer, llm;" in run.err


def test_the_command_that_reproduces_an_image_is_not_refused() -> None:
    """It draws one image, and nobody heeds what is said of it."""
    provenance: dict[str, Any] = {"prompt": "a dog", "seed": 1, "version": "1"}
    words = command_again(Provenance(model="owner/model", **provenance)) or ()

    assert "--allow-pocket" in words
    assert "--allow-pocket" not in (
        command_again(Provenance(model="pocket", **provenance)) or ()
    )


async def test_comparisons_refuse_it_before_anything_is_loaded() -> None:
    """What they would measure means nothing."""
    with pytest.raises(ConfigurationError, match="got the pocket captioner"):
        await compare(
            ["a red circle"],
            settings=Settings(generator=draw),
            arms=["first"],
            images=1,
        )
