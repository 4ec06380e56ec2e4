"""Notices: what means other images than those that were asked for is told, once."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from diffusers.utils import logging as diffusers_log
from safetensors.torch import load_file, save_file

from socratic_agents import Refiner
from socratic_agents.cli.app import main
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import CandidateError, LoadError
from socratic_agents.core.outcome import Refinement
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.models.loading import quiet
from socratic_agents.models.notices import Notices
from socratic_agents.runtime.devices.multi_device import open_devices
from socratic_agents.runtime.image_models import ImageModels
from socratic_agents.scheduler.worker import Worker
from tests.tiny_models import tiny_blip2
from tests.tiny_pipelines import PIPELINES

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

UNGUIDED = (
    "true_cfg_scale is passed as 4.0, but classifier-free guidance is not enabled"
)
SMALL: dict[str, Any] = {"width": 32, "height": 32, "steps": 1}
QUICK = ("--scorer", "none", "--judge", "never", "--selector", "first")


class Heard(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())


@pytest.fixture
def heard() -> Any:
    """Return what diffusers' own handlers get to see."""
    handler = Heard()
    diffusers_log.add_handler(handler)
    yield handler.lines
    diffusers_log.remove_handler(handler)


def test_what_changes_results_is_kept_once_and_nothing_is_printed(
    heard: list[str],
) -> None:
    """What is counted elsewhere, or changes nothing, is not kept."""
    log, notices = diffusers_log.get_logger("diffusers.some.pipeline"), Notices()
    with quiet(notices):
        for _ in range(2):
            log.warning("Guidance scale 4.0 is ignored for step-wise models.")
        log.warning("This attention is a little slower.")
        log.warning("Your input was truncated at 77 tokens, and the rest ignored.")
        log.warning("The generation flags temperature and top_p may be ignored.")
        log.error("It is broken.")
    assert ("Guidance scale 4.0 is ignored for step-wise models.",) == notices()
    assert ["It is broken."] == heard
    log.warning("Heard again.")
    assert "Heard again." == heard[-1]


def test_a_listener_hears_its_own_thread_alone(heard: list[str]) -> None:
    """Loggers are shared by all threads, and each is told only of its own model."""
    log = diffusers_log.get_logger("diffusers.some.pipeline")
    mine, others = Notices(), Notices()

    def work() -> None:
        log.warning("steps of nobody's model")
        with quiet():
            log.warning("steps that nobody listens to")
        with quiet(others):
            log.warning("steps of another model")

    with quiet(mine):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        log.warning("steps of my model")
    assert ("steps of my model",) == mine()
    assert ("steps of another model",) == others()
    assert ["steps of nobody's model"] == heard


def test_libraries_are_silent_for_those_who_do_not_listen() -> None:
    """A listener beside them changes nothing, and goes without a trace."""
    before = diffusers_log.get_verbosity()
    with quiet():
        assert diffusers_log.ERROR == diffusers_log.get_verbosity()
        with quiet(Notices()):
            assert diffusers_log.WARNING == diffusers_log.get_verbosity()
        assert diffusers_log.ERROR == diffusers_log.get_verbosity()
    assert before == diffusers_log.get_verbosity()


def test_a_distilled_model_that_is_guided_is_noticed() -> None:
    """Its pipeline ignores the number, which nobody would see."""
    draw = Diffusion(PIPELINES["flux-2-klein"](), guidance_scale=4.0, **SMALL)
    draw([("a red circle", 1)])
    (notice,) = draw.notices()
    assert "Guidance scale 4.0 is ignored" in notice


def test_a_size_that_is_not_drawn_is_noticed() -> None:
    """FLUX rounds sides down, whoever asked for others."""
    draw = Diffusion(PIPELINES["flux"](), steps=1, width=33, height=32)
    draw([("a red circle", 1)])
    assert "asked for 33x32, it draws 32x32" in draw.notices()


def _without(folder: Path, part: str, *, gone: bool = True) -> str:
    """Take a weight out of a model's files beside one of no use; return its name."""
    file = next((folder / part).glob("*.safetensors"))
    weights = load_file(file)
    name = sorted(weights)[5]
    weights["of.another.head"] = weights[name].clone()
    if gone:
        del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    return name


def test_weights_that_are_missing_are_noticed(tmp_path: Path) -> None:
    """They are random, and what comes out looks like a bad model."""
    eyes = tiny_blip2(tmp_path / "eyes")
    _without(eyes, ".", gone=False)
    assert not Captioner.load(str(eyes)).notices()
    name = _without(eyes, ".")
    (notice,) = Captioner.load(str(eyes)).notices()
    assert notice.startswith("1 weights of Blip2ForConditionalGeneration are missing")
    assert notice.endswith(name)


@pytest.mark.parametrize("part", ["text_encoder", "unet"])
def test_weights_that_are_missing_are_the_reason(part: str, tmp_path: Path) -> None:
    """Whether the library goes on with random ones, or fails for another reason."""
    with quiet():
        PIPELINES["sdxl"]().save_pretrained(tmp_path)
    name = _without(tmp_path, part)
    try:
        said = "; ".join(Diffusion.load(str(tmp_path)).notices())
    except LoadError as error:
        said = str(error)
    assert "are missing in its files, and random instead" in said
    assert name in said


class Clear:
    """A pipeline whose images have an alpha."""

    def __call__(
        self, prompt: list[str], generator: Any, output_type: str = "np"
    ) -> Any:
        """Draw half a red pixel."""
        red = np.array([[[1.0, 0.0, 0.0, 0.5]] * 8] * 8, dtype=np.float32)
        return type("Output", (), {"images": [red for _ in prompt]})()


def test_what_is_transparent_is_shown_on_white() -> None:
    """Whatever lies behind it otherwise, a viewer would decide."""
    (pixels,) = Diffusion(Clear()).arrays([("a red circle", 1)])
    assert not isinstance(pixels, CandidateError)
    assert (8, 8, 3) == pixels.shape
    assert [1.0, 0.5, 0.5] == pixels[0, 0].tolist()


async def _caption(image: Image.Image) -> str:
    return "something"


async def test_a_refinement_says_what_was_noticed_and_the_log_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two prompts share the model: the second is noticed like the first."""
    roles: dict[str, Any] = {"judge": "never", "selector": "first", "guard": None}
    async with Refiner(
        generator=PIPELINES["qwen-image"](),
        captioner=_caption,
        scorer=None,
        rounds=1,
        true_cfg_scale=None,
        **roles,
        **SMALL,
    ) as refiner:
        with caplog.at_level(logging.WARNING, "socratic_agents"):
            done = [await refiner.refine(p) for p in ("a red circle", "a blue one")]
    for refinement in done:
        assert any(UNGUIDED in notice for notice in refinement.notices)
        again = Refinement.from_json(refinement.to_json())
        assert refinement.notices == again.notices
    told = [r.getMessage() for r in caplog.records if UNGUIDED in r.getMessage()]
    assert 1 == len(told)
    assert told[0].startswith("generator: ")


def test_an_image_from_a_cache_keeps_its_notice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It was drawn without guidance, whether it is drawn now or not."""
    folder, eyes = tmp_path / "model", tiny_blip2(tmp_path / "eyes")
    with quiet():
        PIPELINES["qwen-image"]().save_pretrained(folder)
    for run in ("first", "second"):
        words = ["refine", "a red circle", "--generator", str(folder), *QUICK]
        words += ["--captioner", str(eyes), "--guard", "none", "--rounds", "1"]
        words += ["--true-cfg-scale", "none", "--steps", "1", "--json"]
        words += ["--width", "32", "--height", "32", "--cache", str(tmp_path / "cache")]
        assert 0 == main([*words, "--out", str(tmp_path / run)])
        out = capfd.readouterr()
        assert any(UNGUIDED in one for one in json.loads(out.out)["notices"]), run
        assert 1 == out.err.count(UNGUIDED)


async def test_several_devices_notice_one_thing_once() -> None:
    """Each opens the same models."""

    def opened(settings: Settings, worker: Worker) -> ImageModels:
        said = ("generator: a", f"generator: {settings.device}")
        return ImageModels(generate=_none, caption=_none, notices=lambda: said)

    async with Worker() as worker:
        settings = Settings(device="b, c")
        models, _ = await worker.call(
            lambda: open_devices(settings, worker, open_with=opened)
        )
        assert ("generator: a", "generator: b", "generator: c") == models.notices()
        for close in models.closers:
            await close()


async def _none(*_: Any) -> Any:
    return None
