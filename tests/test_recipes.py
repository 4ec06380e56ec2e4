"""Recipes: a model of a known family is drawn as its authors say, and told so."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from socratic_agents.cli.doctor import checks
from socratic_agents.cli.show import command_again
from socratic_agents.config.recipes.recognition import nearest_sizes, recipe_of
from socratic_agents.config.recipes.table import RECIPES
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.runtime.cached_models import model_identity
from socratic_agents.runtime.generators import open_generator
from socratic_agents.runtime.replay import settings_of
from socratic_agents.scheduler.worker import Worker
from socratic_agents.storage.provenance import provenance_of

TURBO = "Tongyi-MAI/Z-Image-Turbo"
QWEN = "Qwen/Qwen-Image"


def _family(model: object) -> str | None:
    recipe = recipe_of(model)
    return recipe.family if recipe else None


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("stabilityai/stable-diffusion-xl-base-1.0", "SDXL"),
        ("stabilityai/sdxl-turbo", "SDXL-Turbo"),
        ("stabilityai/sd-turbo", "SD-Turbo"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "SD 1.5 and 2.1"),
        ("stabilityai/stable-diffusion-2-1", "SD 1.5 and 2.1"),
        ("stabilityai/stable-diffusion-3-medium-diffusers", "SD 3 medium"),
        ("stabilityai/stable-diffusion-3.5-medium", "SD 3.5 medium"),
        ("stabilityai/stable-diffusion-3.5-large", "SD 3.5 large"),
        ("stabilityai/stable-diffusion-3.5-large-turbo", "SD 3.5 large turbo"),
        ("black-forest-labs/FLUX.1-dev", "FLUX.1 dev"),
        ("black-forest-labs/FLUX.1-schnell", "FLUX.1 schnell"),
        ("diffusers/FLUX.2-dev-bnb-4bit", "FLUX.2 dev"),
        ("black-forest-labs/FLUX.2-klein-4B", "FLUX.2 klein 4B"),
        ("black-forest-labs/FLUX.2-klein-9B", "FLUX.2 klein 9B"),
        ("black-forest-labs/FLUX.2-klein-base-4B", "FLUX.2 klein base 4B"),
        ("black-forest-labs/FLUX.2-klein-base-9B", "FLUX.2 klein base 9B"),
        (TURBO, "Z-Image-Turbo"),
        ("Tongyi-MAI/Z-Image", "Z-Image"),
        (QWEN, "Qwen-Image and Qwen-Image-2512"),
        ("Qwen/Qwen-Image-2512", "Qwen-Image and Qwen-Image-2512"),
        ("Qwen/Qwen-Image-2.1", "Qwen-Image-2.1"),
        ("Efficient-Large-Model/Sana_1600M_1024px_diffusers", "SANA and SANA-1.5"),
        ("Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers", "SANA and SANA-1.5"),
        ("Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers", "SANA-Sprint"),
        ("PixArt-alpha/PixArt-XL-2-1024-MS", "PixArt-alpha"),
        ("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "PixArt-Sigma"),
        ("HiDream-ai/HiDream-I1-Full", "HiDream-I1 full"),
        ("HiDream-ai/HiDream-I1-Dev", "HiDream-I1 dev"),
        ("HiDream-ai/HiDream-I1-Fast", "HiDream-I1 fast"),
        ("kandinskylab/Kandinsky-5.0-T2I-Lite-sft-Diffusers", "Kandinsky 5.0 image"),
        ("lodestones/Chroma1-HD", "Chroma1"),
        ("Alpha-VLLM/Lumina-Next-SFT-diffusers", "Lumina-Next"),
        ("Alpha-VLLM/Lumina-Image-2.0", "Lumina-Image 2.0"),
    ],
)
def test_hub_ids_are_of_their_families(name: str, family: str) -> None:
    """Every family is found by the hub ids of its authors."""
    assert family == _family(name)


def test_every_family_is_found_by_some_hub_id() -> None:
    """The list above is whole."""
    mark = test_hub_ids_are_of_their_families.pytestmark[0]  # type: ignore[attr-defined]
    assert [r.family for r in RECIPES] == [
        r.family for r in RECIPES if any(r.family == case[1] for case in mark.args[1])
    ]


@pytest.mark.parametrize(
    "name",
    [
        "somebody/a-model-of-her-own",
        "lightx2v/Qwen-Image-Lightning",
        "tensorart/stable-diffusion-3.5-medium-turbo",
        "Qwen/Qwen-Image-Edit-2511",
        "black-forest-labs/FLUX.1-Kontext-dev",
        "stabilityai/stable-diffusion-xl-refiner-1.0",
        "pocket",
        "openai:gpt-image-1",
        "http://127.0.0.1:1/v1",
        "plugin:sdxl-turbo",
        "\0",
        object(),
    ],
)
def test_others_have_no_recipe(name: object) -> None:
    """A guess would be worse: few steps, another task, or no hub id at all."""
    assert recipe_of(name) is None


def _saved(folder: Path, index: dict[str, Any], **parts: dict[str, Any]) -> Path:
    """Save what the files of a pipeline's folder say."""
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps(index))
    for part, config in parts.items():
        (folder / part).mkdir()
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (folder / part / name).write_text(json.dumps(config))
    return folder


_XL, _SD3 = "StableDiffusionXLPipeline", "StableDiffusion3Pipeline"
_ANCESTRAL, _LCM = "EulerAncestralDiscreteScheduler", "FlowMatchLCMScheduler"
CASES: list[tuple[str, str, dict[str, Any], str | None]] = [
    ("m", _XL, {"scheduler": {"_class_name": "EulerDiscreteScheduler"}}, "SDXL"),
    (
        "m",
        _XL,
        {"scheduler": {"_class_name": _ANCESTRAL, "timestep_spacing": "trailing"}},
        "SDXL-Turbo",
    ),
    ("sdxl-turbo", _XL, {"scheduler": {"_class_name": "DDIM"}}, "SDXL-Turbo"),
    ("my_sdxl_lightning", _XL, {}, None),
    ("m", _XL, {"scheduler": {"_class_name": "LCMScheduler"}}, None),
    ("m", _SD3, {"transformer": {"num_layers": 38}}, "SD 3.5 large"),
    ("m", _SD3, {"transformer": {"num_layers": 24, "qk_norm": None}}, "SD 3 medium"),
    ("m", _SD3, {"transformer": {"qk_norm": "rms_norm"}}, "SD 3.5 medium"),
    (
        "sd3.5_large_turbo",
        _SD3,
        {"transformer": {"num_layers": 38}},
        "SD 3.5 large turbo",
    ),
    ("m", "FluxPipeline", {"transformer": {"guidance_embeds": True}}, "FLUX.1 dev"),
    (
        "FLUX.1-schnell",
        "FluxPipeline",
        {"transformer": {"guidance_embeds": True}},
        None,
    ),
    (
        "m",
        "FluxPipeline",
        {"transformer": {"guidance_embeds": False}},
        "FLUX.1 schnell",
    ),
    (
        "m",
        "Flux2KleinPipeline",
        {"is_distilled": True, "text_encoder": {"hidden_size": 2560}},
        "FLUX.2 klein 4B",
    ),
    ("m", "Flux2KleinPipeline", {"is_distilled": True}, "FLUX.2 klein 9B"),
    ("m", "Flux2KleinPipeline", {"is_distilled": False}, "FLUX.2 klein base 9B"),
    ("m", "ZImagePipeline", {"scheduler": {"shift": 3.0}}, "Z-Image-Turbo"),
    ("m", "ZImagePipeline", {"scheduler": {"shift": 6.0}}, "Z-Image"),
    (
        "m",
        "HiDreamImagePipeline",
        {"scheduler": {"_class_name": _LCM, "shift": 6.0}},
        "HiDream-I1 dev",
    ),
    ("m", "SomeOtherPipeline", {}, None),
]


@pytest.mark.parametrize(("name", "pipeline", "parts", "family"), CASES)
def test_folders_are_told_by_their_files(
    name: str, pipeline: str, parts: dict[str, Any], family: str | None, tmp_path: Path
) -> None:
    """The class, what tells a distilled from a full model, and the name at last."""
    index = {"_class_name": pipeline}
    index |= {key: value for key, value in parts.items() if key == "is_distilled"}
    configs = {key: value for key, value in parts.items() if isinstance(value, dict)}
    folder = _saved(tmp_path / name, index, **configs)

    assert family == _family(str(folder)) == _family(folder)


def test_what_cannot_be_read_has_no_recipe(tmp_path: Path) -> None:
    """Loading it says what is wrong with it."""
    (tmp_path / "model_index.json").write_text("[1")
    assert recipe_of(tmp_path) is None
    (tmp_path / "model_index.json").write_text("[1]")
    assert recipe_of(tmp_path) is None


def test_a_file_is_known_by_its_name(tmp_path: Path) -> None:
    """A single file of weights has no other sign that could be read at once."""
    file = tmp_path / "sd_xl_base_1.0.safetensors"
    file.touch()
    assert "SDXL" == _family(str(file))


def test_a_file_is_told_by_what_it_was_made_from(tmp_path: Path) -> None:
    """Its own name says that it was distilled, and no more."""
    base = "black-forest-labs/FLUX.1-dev"
    settings = Settings(generator=str(tmp_path / "ink.gguf"), generator_config=base)
    known = Settings(generator=base)
    assert known.steps is not None
    assert (known.steps, known.guidance_scale) == (
        settings.steps,
        settings.guidance_scale,
    )
    with pytest.raises(ConfigurationError, match="multiples of 16"):
        settings.but(width=1016)

    assert settings.but(generator=str(tmp_path / "ink-lightning.gguf")).steps is None
    assert settings.but(generator="owner/model", generator_config=None).steps is None


class FluxPipeline:
    """As much of a pipeline as tells what it is."""

    components = ()

    def __init__(self, name: str | None, *, guided: bool) -> None:
        self.scheduler = SimpleNamespace()
        self.config = SimpleNamespace(_name_or_path=name)
        embeds = SimpleNamespace(guidance_embeds=guided)
        self.transformer = SimpleNamespace(config=embeds)


def test_pipelines_in_memory_are_told_likewise() -> None:
    """A pipeline that a program opened is drawn with as one that we opened."""
    assert "FLUX.1 dev" == _family(FluxPipeline("black-forest-labs/x", guided=True))
    assert "FLUX.1 schnell" == _family(FluxPipeline(None, guided=False))


def test_a_recipe_is_used_where_nobody_says_otherwise() -> None:
    """An argument wins over it, and so does ``none``: the pipeline's own."""
    settings = Settings(generator=TURBO)
    assert (8, 0.0) == (settings.steps, settings.guidance_scale)
    assert 4.0 == Settings(generator=f" {QWEN} ").true_cfg_scale
    settings = Settings(generator=TURBO, steps=3, guidance_scale="none")
    assert (3, None) == (settings.steps, settings.guidance_scale)


def test_environment_and_file_win_over_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are what somebody said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOCRATIC_STEPS", "7")
    Path("socratic.toml").write_text(f'generator = "{TURBO}"\nguidance_scale = 2.5\n')
    assert (7, 2.5) == (Settings().steps, Settings().guidance_scale)


def test_another_generator_brings_another_recipe() -> None:
    """What the old one's recipe or profile said goes; what somebody said stays."""
    turbo = Settings(generator=TURBO, guidance_scale=0.5)
    qwen = turbo.but(generator=QWEN)
    assert (50, 4.0) == (qwen.steps, qwen.true_cfg_scale)
    assert 0.5 == qwen.guidance_scale
    back = qwen.but(generator="pocket")
    assert (None, None) == (back.steps, back.true_cfg_scale)
    assert 5 == turbo.but(generator=QWEN, steps=5).steps
    assert turbo == turbo.but(generator=TURBO)


def test_what_a_recipe_decides_names_the_image() -> None:
    """It is part of keys, settings and provenance like what somebody said."""
    settings = Settings(generator=QWEN)
    facts = model_identity(settings, "generator")
    assert (50, 4.0) == (facts["steps"], facts["true_cfg_scale"])
    assert 4.0 == settings.public()["true_cfg_scale"]
    told = provenance_of(settings, {}, prompt="a cat", seed=0)
    assert told is not None
    assert 4.0 == told.true_cfg_scale
    words = command_again(told)
    assert words is not None
    assert "4.0" == words[words.index("--true-cfg-scale") + 1]


def test_what_was_drawn_without_a_recipe_is_drawn_so_again() -> None:
    """The command says of each of its settings that nobody asked for it."""
    plain = Settings(generator=QWEN, steps=5, true_cfg_scale=None)
    told = provenance_of(plain, {}, prompt="a cat", seed=0)
    assert told is not None
    words = command_again(told)
    assert words is not None
    assert "none" == words[words.index("--true-cfg-scale") + 1]
    assert "--guidance-scale" not in words


def test_a_run_of_an_earlier_release_is_read_as_it_was(tmp_path: Path) -> None:
    """What it does not know had its default, and no recipe."""
    old = Settings(generator=QWEN, steps=5, true_cfg_scale=None).public()
    del old["true_cfg_scale"]
    (tmp_path / "config.json").write_text(json.dumps({"settings": old}))
    assert settings_of(tmp_path).true_cfg_scale is None


@pytest.mark.parametrize(
    ("name", "given", "nearest"),
    [
        (
            TURBO,
            {"width": 1000},
            "width in multiples of 16.*got 1000; take 992 or 1008",
        ),
        (QWEN, {"height": 8}, "height in multiples of 16.*got 8; take 16$"),
    ],
)
def test_sizes_that_a_family_does_not_draw_are_refused(
    name: str, given: dict[str, int], nearest: str
) -> None:
    """Its pipeline would draw another size, or fail when everything is loaded."""
    with pytest.raises(ConfigurationError, match=nearest):
        Settings(generator=name, **given)
    assert nearest_sizes(name, 64) is None
    assert nearest_sizes("somebody/else", 8) is None


def test_a_negative_prompt_needs_guidance_of_either_kind() -> None:
    """True CFG is one, where other guidance is switched off."""
    with pytest.raises(ConfigurationError, match=r"above 1 for a negative.*got 0;"):
        Settings(generator=TURBO, negative_prompt="dark")
    flux = Settings(
        generator="black-forest-labs/FLUX.1-schnell",
        negative_prompt="dark",
        true_cfg_scale=4,
    )
    assert 0.0 == flux.guidance_scale


class Painter:
    """A pipeline that remembers what it is called with."""

    device = torch.device("cpu")
    scheduler = components = ()

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        prompt: list[str],
        *,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        true_cfg_scale: float = 4.0,
        negative_prompt: list[str] | None = None,
        generator: Any,
        output_type: str,
    ) -> Any:
        """Draw grey images."""
        self.calls.append({"negative_prompt": negative_prompt})
        return SimpleNamespace(images=[np.full((8, 8, 3), 0.5) for _ in prompt])


def test_true_cfg_has_the_negative_prompt_that_it_needs() -> None:
    """A blank is none in words, and all that switches the guidance on."""
    painter = Painter()
    Diffusion(painter, true_cfg_scale=4.0)([("a", 0), ("b", 1)])
    Diffusion(painter, true_cfg_scale=4.0, negative_prompt="dark")([("a", 0)])
    Diffusion(painter, true_cfg_scale=1.0)([("a", 0)])
    given = [call["negative_prompt"] for call in painter.calls]
    assert [[" ", " "], ["dark"], None] == given


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "steps 50, guidance_scale 7.5, true_cfg_scale 4.0"),
        ({"steps": 4}, "guidance_scale 7.5, true_cfg_scale 4.0"),
        ({"true_cfg_scale": 1}, "steps 50"),
        ({"steps": 4, "guidance_scale": 0}, None),
    ],
)
async def test_an_unknown_model_is_said_to_be_one(
    given: dict[str, Any], said: str | None
) -> None:
    """With the numbers that its pipeline takes of itself, unless somebody chose."""
    async with Worker() as worker:
        opened = open_generator(Settings(generator=Painter(), **given), worker)
    if said is None:
        assert not opened.notices()
    else:
        (notice,) = opened.notices()
        assert f"defaults are used ({said})" in notice
        assert "Painter" in notice


def test_the_doctor_tells_recipe_and_terms() -> None:
    """Before anything is loaded; that there is none is a warning."""

    def found(**settings: Any) -> list[tuple[str, str]]:
        told = checks({}, overrides=settings)
        return [(one.state, one.detail) for one in told if one.name == "recipe"]

    ((state, text),) = found(generator=TURBO)
    assert "ok" == state
    assert "steps 8, guidance scale 0" in text
    assert "Apache-2.0, commercial use free" in text
    ((state, text),) = found(generator="somebody/else")
    assert "warning" == state
    assert "somebody/else" in text
    ((state, text),) = found(generator="HiDream-ai/HiDream-I1-Full")
    assert "needs Llama" in text
    assert not found()
    assert not found(generator="openai:x")
    assert not found(steps=0)
