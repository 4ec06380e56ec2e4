"""A negative prompt changes the image, and everything that names the image with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.cli.app import main
from socratic_agents.cli.show import command_again
from socratic_agents.config.settings import Settings
from socratic_agents.runtime.batching import stage_options
from socratic_agents.runtime.cached_models import max_tokens_of, model_identity
from socratic_agents.runtime.open_models import open_image_models
from socratic_agents.scheduler.worker import Worker
from socratic_agents.storage.journal import Journal
from socratic_agents.storage.provenance import provenance_of, read_provenance

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = "a red circle"


def refined(
    capfd: pytest.CaptureFixture[str], cache: Path, out: Path, *options: str
) -> Any:
    """Return what a command printed, sharing its calls with others."""
    words = ("refine", PROMPT, "--json", "--cache", str(cache), "--out", str(out))
    capfd.readouterr()
    assert 0 == main([*words, "--rounds", "1", "--judge", "never", *options])
    return json.loads(capfd.readouterr().out)


def images(folder: Path) -> set[str]:
    return {path.name for path in (folder / "objects").glob("*.png")}


def test_another_negative_prompt_never_returns_the_old_image(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one draws another image into the same cache; the same one draws none."""
    monkeypatch.chdir(tmp_path)
    cache, negative = tmp_path / "cache", ("--negative-prompt", "a red circle")
    plain = refined(capfd, cache, tmp_path / "plain")
    drawn = images(cache)
    against = refined(capfd, cache, tmp_path / "against", *negative)
    assert plain["best"]["image"] != against["best"]["image"]
    assert 1 == len(images(cache) - drawn)

    known = images(cache)
    monkeypatch.setattr(
        "socratic_agents.models.diffusion.Diffusion.__call__",
        lambda *_: pytest.fail("drawn"),
    )
    again = refined(capfd, cache, tmp_path / "again", *negative)
    assert against["best"]["image"] == again["best"]["image"]
    assert known == images(cache)

    said = read_provenance(tmp_path / "against" / against["best"]["image"])
    assert "a red circle" == said.negative_prompt
    words = command_again(said)
    assert words is not None
    assert "a red circle" == words[words.index("--negative-prompt") + 1]
    with Journal(cache, shared=True) as journal:
        assert max_tokens_of(journal, Settings(negative_prompt="a red circle"))
        assert max_tokens_of(journal, Settings(negative_prompt="a blue one")) is None


def test_a_key_knows_a_negative_prompt_only_where_there_is_one() -> None:
    """What was cached before there were any is still found."""
    assert "negative_prompt" not in model_identity(Settings(), "generator")
    settings = Settings(negative_prompt="dark")
    assert "dark" == model_identity(settings, "generator")["negative_prompt"]
    assert "negative_prompt" not in model_identity(settings, "captioner")
    told = provenance_of(Settings(), {}, prompt="a cat", seed=0)
    assert told is not None
    assert "negative_prompt" not in told.to_json()


async def test_a_cost_knows_whether_there_is_one_but_not_what_it_says() -> None:
    """Every text takes the same time, and is nobody's business."""
    async with Worker() as worker:
        models = [
            stage_options(
                "generator", Settings(negative_prompt=text), worker, stage="generator"
            )["model"]
            for text in (None, "dark", "blurred")
        ]
    assert models[0] != models[1] == models[2]
    assert "dark" not in models[1]


@pytest.mark.parametrize(
    "changes", [{"negative_prompt": PROMPT}, {"guidance_scale": 0}]
)
async def test_the_pocket_generator_is_steered(changes: dict[str, Any]) -> None:
    """Steered away from what is asked for, or not at all, it draws something else."""
    drawn = []
    for settings in (Settings(), Settings(**changes)):
        async with Worker() as worker:
            opened = open_image_models(settings, worker)
            drawn.append((await opened.generate(PROMPT, 7)).tobytes())
    assert drawn[0] != drawn[1]
