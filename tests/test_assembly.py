"""Pipelines that are put together from what people have.

P1  A batch draws what its requests draw alone, whatever the pipeline is made of.
P2  What does not fit, or is something else, is said in one line, with where it belongs.
P3  Nothing is left out in silence.
P4  What is in the files decides the image, so it stands in the keys of cached calls.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import CHECKPOINT_KEY_NAMES
from safetensors.torch import load_file, save_file

from socratic_agents.cli.app import main
from socratic_agents.config.loras import Lora, parse_loras
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError, LoadError
from socratic_agents.models.assembly.autoencoder import set_vae
from socratic_agents.models.assembly.parts import Parts
from socratic_agents.models.assembly.quantization import (
    quantization_config,
    store_in_8_bits,
)
from socratic_agents.models.assembly.schedulers import set_scheduler
from socratic_agents.models.assembly.weights_file import (
    Holds,
    find_file,
    read_weights_file,
)
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.models.loading import quiet
from socratic_agents.models.pipelines import open_pipeline
from socratic_agents.runtime.cached_models import model_identity
from socratic_agents.runtime.generators import open_generator
from socratic_agents.scheduler.worker import Worker
from socratic_agents.storage.provenance import provenance_of
from tests import single_files, tiny_models

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Raised inside diffusers by its schedulers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept"),
]

REQUESTS = [("a red circle", 1), ("a much longer prompt about a blue square", 2)]
SMALL: dict[str, Any] = {"steps": 3, "width": 16, "height": 16}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with everything that a model site has, in small."""
    place = tmp_path_factory.mktemp("models")
    with quiet():
        pipeline, flux = tiny_models.stable_diffusion(), tiny_models.flux()
        pipeline.save_pretrained(place / "sd")
        flux.save_pretrained(place / "flux")
        single_files.checkpoint(pipeline, place / "sd.safetensors")
        single_files.checkpoint(
            pipeline, place / "no text.safetensors", without="cond_stage_model."
        )
        marks = {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}
        single_files.checkpoint(pipeline, place / "v.safetensors", **marks)
        marks.pop("ztsnr")
        single_files.checkpoint(pipeline, place / "v alone.safetensors", **marks)
        torch.manual_seed(5)
        weights = {
            name: tensor + 0.02 * torch.randn_like(tensor)
            for name, tensor in flux.transformer.state_dict().items()
        }
        save_file(weights, place / "flux.safetensors")
        single_files.quantized(weights, place / "flux.gguf")
        single_files.lora(pipeline, place / "style")
    (place / "style" / "pytorch_lora_weights.safetensors").rename(
        place / "style" / "ink.safetensors"
    )
    (place / "pickle.ckpt").write_bytes(b"PK")
    (place / "notes.txt").write_text("notes", encoding="utf-8")
    for name in ("sd.safetensors", "flux.gguf"):
        data = (place / name).read_bytes()
        (place / f"cut {name}").write_bytes(data[:-1000])
    _changed_loras(place)
    return place


def _changed_loras(place: Path) -> None:
    """Save LoRA weights with all that can be wrong with them."""
    ink = load_file(place / "style" / "ink.safetensors")
    changes: dict[str, Callable[[str], str]] = {
        "no part": lambda name: name.replace("unet.", "transformer."),
        "no layer": lambda name: name.replace(".attn", ".attn7"),
        "half": lambda name: name.replace(".attn2", ".attn7"),
    }
    for title, rename in changes.items():
        renamed = {rename(name): tensor for name, tensor in ink.items()}
        save_file(renamed, place / f"{title}.safetensors")
    save_file(
        {name: tensor * torch.nan for name, tensor in ink.items()},
        place / "nan.safetensors",
    )
    doubled = {name: tensor.repeat(1, 2) for name, tensor in ink.items()}
    save_file(doubled, place / "wide.safetensors")


class Bits:
    """Stands in for a pipeline's quantization, which needs a graphics card."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def _resolve_quant_config(self, *, module_name: str) -> Any:
        self.asked.append(module_name)
        return diffusers.GGUFQuantizationConfig(compute_dtype=torch.float32)


def load(name: Path | str, *, quantization: Any = None, **parts: Any) -> Diffusion:
    return Diffusion.load(
        str(name),
        device="cpu",
        quantization=quantization,
        parts=Parts(**{k: _text(v) for k, v in parts.items()}),
        **SMALL,
    )


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def drawn(model: Diffusion) -> NDArray[np.float32]:
    """Return the images of the requests, which are the same alone (P1)."""
    images = [np.asarray(one) for one in model.arrays(REQUESTS)]
    for image, request in zip(images, REQUESTS, strict=True):
        alone = np.asarray(model.arrays([request])[0])
        assert distance(alone, image) < 1e-4
    return np.stack(images)


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max())


@pytest.fixture(scope="module")
def usual(place: Path) -> NDArray[np.float32]:
    """Return what the folder draws."""
    return drawn(load(place / "sd"))


class TestASingleFile:
    """A checkpoint, or a denoiser alone, is a generator."""

    def test_a_checkpoint_draws_what_its_folder_draws(
        self, place: Path, usual: NDArray[np.float32]
    ) -> None:
        """All its weights are those of the pipeline that it was made from."""
        model = load(place / "sd.safetensors", base=place / "sd")

        assert distance(usual, drawn(model)) < 1e-5

    def test_a_text_encoder_that_it_lacks_is_the_bases(
        self, place: Path, usual: NDArray[np.float32]
    ) -> None:
        """Checkpoints leave out what many of them share."""
        model = load(place / "no text.safetensors", base=place / "sd")

        assert distance(usual, drawn(model)) < 1e-5

    @pytest.mark.parametrize("ending", [".safetensors", ".gguf"])
    def test_a_denoiser_alone_draws_with_the_rest_of_its_base(
        self, place: Path, ending: str
    ) -> None:
        """In the layout of diffusers, or quantized in that of llama.cpp."""
        model = load(place / f"flux{ending}", base=place / "flux")

        weights = load_file(place / "flux.safetensors")
        whole = tiny_models.flux()
        whole.transformer.load_state_dict(weights)
        expected = drawn(Diffusion(whole, **SMALL))
        assert distance(expected, drawn(model)) < (1e-5 if "safe" in ending else 0.02)
        assert distance(expected, drawn(load(place / "flux"))) > 0.02

    def test_its_tensors_may_be_named_as_in_a_checkpoint(
        self, place: Path, tmp_path: Path
    ) -> None:
        """Some programs save a denoiser alone so."""
        weights = load_file(place / "flux.safetensors")
        named = {f"model.diffusion_model.{name}": one for name, one in weights.items()}
        save_file(named, tmp_path / "it.safetensors")

        model = load(tmp_path / "it.safetensors", base=place / "flux")
        own = load(place / "flux.safetensors", base=place / "flux")
        assert distance(drawn(own), drawn(model)) < 1e-5

    def test_a_checkpoint_says_how_it_was_trained(self, place: Path) -> None:
        """Marks in the file, which other programs heed too, set the scheduler."""
        both = load(place / "v.safetensors", base=place / "sd", scheduler="euler")
        one = load(place / "v alone.safetensors", base=place / "sd", scheduler="euler")

        for model, snr in ((both, True), (one, False)):
            config = model.pipeline.scheduler.config
            assert "v_prediction" == config.prediction_type
            assert snr is config.rescale_betas_zero_snr

    def test_its_denoiser_is_quantized_as_any_other(self, place: Path) -> None:
        """The settings of one model are handed on where it is read."""
        config = Bits()
        model = load(place / "sd.safetensors", base=place / "sd", quantization=config)

        assert ["unet"] == config.asked
        assert model.pipeline.unet.hf_quantizer is not None

    @pytest.mark.parametrize(
        ("name", "base", "words"),
        [
            ("style/ink.safetensors", "sd", "which is LoRA weights; give it as lora"),
            (
                "sd/vae/diffusion_pytorch_model.safetensors",
                "sd",
                "which is a VAE; give it as vae",
            ),
            ("sd/text_encoder/model.safetensors", "sd", "which is a text encoder"),
            ("pickle.ckpt", "sd", "a pickle can run code"),
            ("notes.txt", "sd", r"expected a file of weights \(.safetensors or .gguf"),
            ("cut sd.safetensors", "sd", "truncated or damaged"),
            ("cut flux.gguf", "flux", "truncated or damaged"),
            ("none.safetensors", "sd", "there is none; check the path"),
            ("flux.safetensors", None, "told by its tensors.*give generator_config"),
            ("flux.gguf", None, "told by its tensors.*give generator_config"),
            ("flux.safetensors", "sd", "do not fit it .*give generator_config"),
            ("sd.safetensors", "flux", "do not fit it .*give generator_config"),
            ("sd.safetensors", "owner/model", "HF_HUB_OFFLINE.*give generator_config"),
            ("flux.safetensors", "owner/model", "HF_HUB_OFFLINE.*give generator_c"),
            ("sd.safetensors", "style", "model_index.json.*give generator_config"),
            ("sd", "sd", "expected a single file as generator"),
        ],
    )
    def test_what_cannot_be_opened_is_told_in_one_line(
        self, place: Path, name: str, base: str | None, words: str
    ) -> None:
        """It says what the file is, and what to give (P2)."""
        here = place / base if base and "/" not in base else base
        with pytest.raises(ConfigurationError, match=words) as caught:
            load(place / name, base=here)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("tensor", "words"),
        [
            ("emb_params", "which is a textual inversion"),
            ("control_model.time_embed.0.weight", "which is a ControlNet"),
        ],
    )
    def test_files_of_other_kinds_are_told_apart(
        self, tmp_path: Path, tensor: str, words: str
    ) -> None:
        """By the names of their tensors alone."""
        save_file({tensor: torch.zeros(2, 2)}, tmp_path / "it.safetensors")

        with pytest.raises(ConfigurationError, match=words):
            load(tmp_path / "it.safetensors")

    def test_a_known_family_without_the_network_asks_for_its_settings(
        self, tmp_path: Path
    ) -> None:
        """The line names the pipeline that it looks like."""
        name = CHECKPOINT_KEY_NAMES["xl_base"]
        assert isinstance(name, str)
        tensors = {name: torch.zeros(2), "first_stage_model.x": torch.zeros(1)}
        save_file(tensors, tmp_path / "it.safetensors")

        words = "stable-diffusion-xl-base-1.0.*HF_HUB_OFFLINE.*give generator_config"
        with pytest.raises(LoadError, match=words):
            load(tmp_path / "it.safetensors")

    def test_a_model_that_only_folders_have_is_told(
        self, place: Path, tmp_path: Path
    ) -> None:
        """Diffusers opens many denoisers from folders alone."""
        index = json.loads((place / "sd" / "model_index.json").read_text("utf-8"))
        (tmp_path / "model_index.json").write_text(
            json.dumps(index | {"_class_name": "PixArtSigmaPipeline"}), "utf-8"
        )
        with pytest.raises(LoadError, match="PixArtSigmaPipeline from a folder"):
            load(place / "sd.safetensors", base=tmp_path)
        (tmp_path / "model_index.json").write_text(
            json.dumps(
                index | {"transformer": ["diffusers", "PixArtTransformer2DModel"]}
            ),
            "utf-8",
        )
        with pytest.raises(LoadError, match="PixArtTransformer2DModel from a folder"):
            load(place / "flux.safetensors", base=tmp_path)

    @pytest.mark.parametrize("quantized", [False, True])
    @pytest.mark.parametrize(
        "lost",
        [
            "model.diffusion_model.out.2.bias",
            "first_stage_model.decoder.norm_out.bias",
            "cond_stage_model.transformer.text_model.final_layer_norm.bias",
        ],
    )
    def test_weights_that_lack_tensors_are_refused(
        self, place: Path, tmp_path: Path, lost: str, *, quantized: bool
    ) -> None:
        """They would be what happens to be in memory."""
        with quiet():
            pipeline = tiny_models.stable_diffusion()
        file = single_files.checkpoint(
            pipeline, tmp_path / "it.safetensors", without=lost
        )

        with pytest.raises(LoadError, match="some tensors are not in the file"):
            load(file, base=place / "sd", quantization=Bits() if quantized else None)

    def test_weights_are_quantized_once(self, place: Path) -> None:
        """A GGUF file, and a variant of a file, need no further word."""
        with pytest.raises(ConfigurationError, match="quantized already"):
            load(place / "flux.gguf", base=place / "flux", quantization="fp8")
        with pytest.raises(ConfigurationError, match="quantized already"):
            load(place / "flux.gguf", base=place / "flux", quantization=Bits())
        with pytest.raises(ConfigurationError, match="expected no variant"):
            Diffusion.load(str(place / "sd.safetensors"), device="cpu", variant="fp16")

    def test_a_file_of_a_hub_model_is_fetched(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its name stands after the model's."""
        asked = []

        def fetch(*names: str) -> str:
            asked.append(names)
            return str(place / "sd.safetensors")

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
        load("owner/model/sub/it.safetensors", base=place / "sd")

        assert [("owner/model", "sub/it.safetensors")] == asked

    def test_a_base_of_the_hub_is_taken_from_its_cache(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A checkpoint needs its small files, and a denoiser all that it is not."""
        asked = []

        def opened(name: str, options: dict[str, Any]) -> Any:
            asked.append((name, options.pop("local_files_only")))
            return open_pipeline(str(place / "flux"), options)

        def cached(name: str, file: str, **_: Any) -> Path:
            return place / name.partition("/")[2] / file

        single_file = "socratic_agents.models.assembly.single_file"
        monkeypatch.setattr("socratic_agents.models.hub.cached_file", cached)
        monkeypatch.setattr(f"{single_file}.cached_file", cached)
        monkeypatch.setattr(f"{single_file}.open_pipeline", opened)
        load(place / "sd.safetensors", base="owner/sd")
        assert [] == asked

        load(place / "flux.safetensors", base="owner/flux")
        assert [("owner/flux", True)] == asked

    def test_a_base_of_the_hub_is_downloaded_without_its_weights(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the hub gives it out."""

        def download(name: str, *, allow_patterns: list[str]) -> str:
            assert ("owner/sd", "*.json") == (name, allow_patterns[0])
            return str(place / "sd")

        place_of = "socratic_agents.models.assembly.single_file.hub_problem"
        monkeypatch.setattr(place_of, lambda *_, **__: None)
        monkeypatch.setattr("huggingface_hub.snapshot_download", download)

        assert load(place / "sd.safetensors", base="owner/sd").pipeline.unet

    def test_a_hub_file_that_cannot_be_had_is_told(self) -> None:
        """Without the network it must be in the cache."""
        with pytest.raises(LoadError, match=r"'it.safetensors' here or of the hub"):
            load("owner/model/it.safetensors")

    def test_a_name_that_no_file_can_have_is_none(self) -> None:
        """Some are too long to look for."""
        assert find_file("x" * 5000) is None

    def test_gguf_needs_a_package(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The line says which."""
        monkeypatch.setitem(__import__("sys").modules, "gguf", None)

        with pytest.raises(
            ConfigurationError, match=r"gguf to read GGUF weights.*\[local\]"
        ):
            load(place / "flux.gguf", base=place / "flux")


class TestLoRA:
    """Weights that are added, as strongly as one likes."""

    def test_its_strength_scales_what_it_changes(
        self, place: Path, usual: NDArray[np.float32]
    ) -> None:
        """0 changes nothing, and two halves are a whole; a folder with one file is it."""
        ink = str(place / "style" / "ink.safetensors")
        whole = drawn(load(place / "sd", loras=(Lora(ink),)))
        halves = (Lora(ink, 0.5), Lora(str(place / "style"), 0.5))

        assert distance(usual, whole) > 0.01
        assert distance(whole, drawn(load(place / "sd", loras=halves))) < 1e-4
        assert distance(usual, drawn(load(place / "sd", loras=(Lora(ink, 0.0),)))) == 0

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("sd.safetensors", "which is a whole checkpoint; give it as generator"),
            ("flux.safetensors", "which is a denoiser alone; give it as generator"),
            ("pickle.ckpt", "a pickle can run code"),
            ("no part.safetensors", "none of its layers has their names"),
            ("no layer.safetensors", "none of its layers has their names"),
            ("wide.safetensors", "do not fit it .*size mismatch"),
            ("nan.safetensors", "expected LoRA weights that are finite"),
            (".", "with one safetensors file for lora"),
            ("none.safetensors", "there is none; check the path"),
        ],
    )
    def test_what_does_not_fit_is_told_in_one_line(
        self, place: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """No image is drawn without it (P2), and no library says more."""
        with pytest.raises(ConfigurationError, match=words) as caught:
            load(place / "sd", loras=(Lora(str(place / name)),))
        assert "\n" not in str(caught.value)
        assert "" == capsys.readouterr().err

    def test_layers_that_are_not_there_are_told(self, place: Path) -> None:
        """What fits is used, and how much of it is said once (P3)."""
        model = load(place / "sd", loras=(Lora(str(place / "half.safetensors")),))

        (line,) = model.notices()
        assert line.startswith("12 of 24 layers of the LoRA weights 'half.safetensors'")

    def test_weights_of_other_trainers_are_read(
        self, place: Path, tmp_path: Path, usual: NDArray[np.float32]
    ) -> None:
        """Names and strengths of kohya's, and those of a text encoder."""
        file = single_files.kohya(place / "style" / "ink.safetensors", tmp_path)
        model = load(place / "sd", loras=(Lora(str(file)),))

        found = model.pipeline.get_list_adapters()
        assert {"unet": ["lora_0"], "text_encoder": ["lora_0"]} == found
        assert distance(usual, drawn(model)) > 0.01
        assert () == model.notices()

    @pytest.mark.parametrize("prefix", ["", "diffusion_model.", "base_model.model."])
    @pytest.mark.parametrize("told", ["nothing", "alpha", "config", "rslora"])
    def test_names_of_layers_are_known_under_every_prefix(
        self, place: Path, tmp_path: Path, prefix: str, told: str
    ) -> None:
        """With the strength that is told in the file, or beside it, as PEFT does."""
        ink, file = place / "style" / "ink.safetensors", tmp_path / "it.safetensors"
        tensors = {
            name.replace("unet.", prefix): tensor
            for name, tensor in load_file(ink).items()
        }
        if told == "alpha":
            firsts = [name for name in tensors if "lora_A" in name]
            tensors |= {
                n.replace("lora_A.weight", "alpha"): torch.tensor(4.0) for n in firsts
            }
        elif told != "nothing":
            config = {"lora_alpha": 4, "r": 2, "use_rslora": told == "rslora"}
            (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        save_file(tensors, file)
        strength = {"nothing": 1.0, "rslora": 4 / 2**0.5}.get(told, 2.0)

        model = load(place / "sd", loras=(Lora(str(file)),))

        usual = load(place / "sd", loras=(Lora(str(ink), strength),))
        assert distance(drawn(usual), drawn(model)) < 1e-4
        assert () == model.notices()

    def test_a_layer_with_half_of_its_weights_is_told(
        self, place: Path, tmp_path: Path
    ) -> None:
        """A strength says nothing of a matrix whose other one is missing."""
        layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
        half = {f"{layer}.lora_B.weight": torch.ones(8, 2)}
        file = tmp_path / "half.safetensors"
        save_file(half | {f"{layer}.alpha": torch.tensor(4.0)}, file)
        with pytest.raises(LoadError, match="do not fit it") as caught:
            load(place / "sd", loras=(Lora(str(file)),))
        assert "\n" not in str(caught.value)

    def test_the_strength_beside_a_file_is_part_of_who_draws(
        self, place: Path, tmp_path: Path
    ) -> None:
        """Else an image of another strength would come from a cache."""
        file = tmp_path / "it.safetensors"
        file.write_bytes((place / "style" / "ink.safetensors").read_bytes())
        settings = Settings(
            generator=str(place / "sd"), lora=str(file), allow_pocket=True
        )
        before = model_identity(settings, "generator")
        (tmp_path / "adapter_config.json").write_text("{}")
        assert before != model_identity(settings, "generator")

    def test_a_hub_model_is_asked_for_without_the_network(self, place: Path) -> None:
        """It says how a file of it is named."""
        with pytest.raises(LoadError, match="of the hub as owner/model/FILE"):
            load(place / "sd", loras=(Lora("owner/style"),))

    def test_a_hub_model_knows_which_file_it_is(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A name without a file is the hub's to resolve."""
        kind = diffusers.StableDiffusionPipeline
        known = kind.load_lora_weights

        def from_hub(pipeline: Any, name: str, **options: Any) -> None:
            assert "owner/style" == name
            known(pipeline, str(place / "style"), **options)

        monkeypatch.setattr(kind, "load_lora_weights", from_hub)
        model = load(place / "sd", loras=(Lora("owner/style", 0.5),))

        assert ["lora_0"] == model.pipeline.get_active_adapters()

    def test_a_pipeline_that_takes_none_is_told(
        self, place: Path, tmp_path: Path
    ) -> None:
        """PixArt, for example."""
        with quiet():
            tiny_models.pixart_sigma().save_pretrained(tmp_path)

        with pytest.raises(ConfigurationError, match="PixArtSigmaPipeline, which does"):
            load(tmp_path, loras=(Lora(str(place / "style")),))

    @pytest.mark.parametrize(
        ("given", "loras"),
        [
            ("a.safetensors", [("a.safetensors", 1.0)]),
            ("a.safetensors:0.8", [("a.safetensors", 0.8)]),
            ("a:-1, b/c:2e-1", [("a", -1.0), ("b/c", 0.2)]),
            (r"C:\x\a.safetensors:0.5", [(r"C:\x\a.safetensors", 0.5)]),
            (r"C:\x\a.safetensors", [(r"C:\x\a.safetensors", 1.0)]),
            (["a:1", Path("b:0")], [("a", 1.0), ("b", 0.0)]),
            (Path("a"), [("a", 1.0)]),
        ],
    )
    def test_files_and_strengths_are_read(
        self, given: Any, loras: list[tuple[str, float]]
    ) -> None:
        """From text, a path or a list; what is written reads the same again."""
        assert tuple(Lora(*one) for one in loras) == parse_loras(given)
        assert parse_loras(given) == parse_loras(str(Settings(lora=given).lora))

    @pytest.mark.parametrize("given", ["style:b", "a:nan", "a,", ":1", ["a,b"], 5, [5]])
    def test_what_is_neither_is_refused(self, given: Any) -> None:
        """With what is expected."""
        with pytest.raises(ConfigurationError, match=r"^lora: expected"):
            Settings(lora=given)

    def test_none_is_none(self) -> None:
        """For files of settings, which have no ``None``."""
        assert Settings(lora="none").lora is None


class TestSchedulers:
    """Another scheduler by name, if the model was trained for it."""

    def test_every_one_that_fits_draws_alike_in_every_batch(self, place: Path) -> None:
        """Those with noise of their own, too (P1)."""
        with pytest.raises(ConfigurationError) as caught:
            load(place / "sd", scheduler="nope")
        names = str(caught.value).partition("(")[2].partition(")")[0].split(", ")

        assert {"ddim", "dpm++", "euler", "euler-ancestral", "lcm"} <= {*names}
        images = [drawn(load(place / "sd", scheduler=name)) for name in names]
        assert all(np.isfinite(image).all() for image in images)

    @pytest.mark.parametrize(
        ("text", "config"),
        [
            ("dpm++:karras", {"use_karras_sigmas": True, "use_beta_sigmas": False}),
            ("EulerDiscreteScheduler:beta:trailing", {"use_beta_sigmas": True}),
            ("dpm++:sde", {"algorithm_type": "sde-dpmsolver++"}),
            ("dpm++:solver_order=3", {"solver_order": 3}),
            ("euler:v-prediction:zero-snr", {"prediction_type": "v_prediction"}),
            ("ddim", {"clip_sample": False, "steps_offset": 1}),
        ],
    )
    def test_options_stand_after_the_name(
        self, place: Path, text: str, config: dict[str, Any]
    ) -> None:
        """The rest is as the model was trained, and no latents are clipped."""
        found = load(place / "sd", scheduler=text).pipeline.scheduler.config

        assert config == {name: found[name] for name in config}

    @pytest.mark.parametrize(
        "text",
        [
            "dpm++:nope",
            "euler:shift=3",
            "dpm++:solver_order=x",
            "dpm++:solver_order=inf",
        ],
    )
    def test_an_option_that_it_does_not_take_is_refused(
        self, place: Path, text: str
    ) -> None:
        """With those that it takes."""
        with pytest.raises(ConfigurationError, match=r"options of \w+ \(karras, "):
            load(place / "sd", scheduler=text)

    def test_options_that_contradict_each_other_are_refused(self, place: Path) -> None:
        """What the scheduler says of it is told."""
        with pytest.raises(
            ConfigurationError, match="expected a scheduler that can be"
        ):
            load(place / "sd", scheduler="deis:solver_order=3:exponential:karras:sde")

    def test_clipping_stays_where_the_model_was_trained_with_it(self) -> None:
        """Its own scheduler says so."""
        pipeline = tiny_models.stable_diffusion(scheduler="DDIMScheduler")
        set_scheduler(pipeline, "ddpm")

        assert pipeline.scheduler.config.clip_sample

    def test_flow_models_take_those_for_flows(self, place: Path) -> None:
        """A scheduler of the other family draws noise, and nothing says why."""
        model = load(place / "flux", scheduler="flow-euler:shift=3:karras")

        assert 3 == model.pipeline.scheduler.config.shift
        with pytest.raises(ConfigurationError, match=r"\(flow-euler, flow-lcm\)"):
            load(place / "flux", scheduler="euler")

    def test_a_scheduler_without_relatives_stays(self) -> None:
        """Some schedulers are their pipeline's own."""

        class Own:
            """A scheduler that is its pipeline's own."""

        pipeline = SimpleNamespace(scheduler=Own())
        with pytest.raises(ConfigurationError, match=r"fits SimpleNamespace \(Own\)"):
            set_scheduler(pipeline, "euler")


class TestVAE:
    """Another VAE of the same family."""

    @pytest.mark.parametrize("name", ["sd", "sd/vae", "sd.safetensors"])
    def test_its_own_changes_nothing(
        self, place: Path, name: str, usual: NDArray[np.float32]
    ) -> None:
        """From a pipeline's folder, its own folder, or a file."""
        model = load(place / "sd", vae=place / name)

        assert distance(usual, drawn(model)) < 1e-5

    def test_another_decodes_otherwise(
        self, place: Path, tmp_path: Path, usual: NDArray[np.float32]
    ) -> None:
        """It is the one that is used."""
        name = "diffusion_pytorch_model.safetensors"
        weights = load_file(place / "sd" / "vae" / name)
        weights["decoder.conv_out.bias"] += 0.5
        save_file(weights, tmp_path / "bright.safetensors")

        model = load(place / "sd", vae=tmp_path / "bright.safetensors")
        assert distance(usual, drawn(model)) > 0.1

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("flux/vae", "expected a VAE for the latents of StableDiffusionPipeline"),
            ("sd/unet", "expected a VAE for the latents of StableDiffusionPipeline"),
            ("style/ink.safetensors", "which is LoRA weights; give it as lora"),
            ("style", "config.json"),
        ],
    )
    def test_what_does_not_fit_is_told(
        self, place: Path, name: str, words: str
    ) -> None:
        """Before anything is drawn (P2)."""
        with pytest.raises(ConfigurationError, match=words):
            load(place / "sd", vae=place / name)

    def test_a_hub_model_is_asked_for_without_the_network(self, place: Path) -> None:
        """One line tells it."""
        with pytest.raises(LoadError, match="expected a VAE, got 'owner/vae'"):
            load(place / "sd", vae="owner/vae")

    @pytest.mark.parametrize("part", ["", "vae"])
    def test_a_hub_model_is_a_vae_or_has_one(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, part: str
    ) -> None:
        """It is found in the cache without the network."""
        known = diffusers.AutoModel.from_pretrained
        files = {
            f"{part}/config.json".lstrip("/"): place / "sd" / "vae" / "config.json"
        }

        def from_cache(_: str, *, subfolder: str, **options: Any) -> Any:
            assert (part, True) == (subfolder, options["local_files_only"])
            return known(str(place / "sd" / "vae"), **options)

        monkeypatch.setattr(
            "socratic_agents.models.hub.cached_file",
            lambda _, file, **__: files.get(file),
        )
        monkeypatch.setattr(diffusers.AutoModel, "from_pretrained", from_cache)
        model = load(place / "sd", vae="owner/model")

        assert isinstance(model.pipeline.vae, diffusers.AutoencoderKL)

    def test_a_file_that_lacks_tensors_is_refused(
        self, place: Path, tmp_path: Path
    ) -> None:
        """They would be what happens to be in memory."""
        name = "diffusion_pytorch_model.safetensors"
        weights = load_file(place / "sd" / "vae" / name)
        weights.pop("decoder.conv_out.bias")
        save_file(weights, tmp_path / "it.safetensors")

        with pytest.raises(LoadError, match="which lacks tensors"):
            load(place / "sd", vae=tmp_path / "it.safetensors")

    def test_pipelines_without_one_and_kinds_of_folders_alone_are_told(
        self, place: Path
    ) -> None:
        """Sana's, for example, comes from folders alone."""
        without = SimpleNamespace(vae=None)
        with pytest.raises(ConfigurationError, match="SimpleNamespace, which has none"):
            set_vae(without, str(place / "sd"), torch.float32)
        odd = SimpleNamespace(vae=SimpleNamespace())
        with pytest.raises(LoadError, match="a SimpleNamespace from a folder"):
            set_vae(odd, str(place / "sd.safetensors"), torch.float32)


class TestFewerBits:
    """Weights that take less memory, where the machine can."""

    def test_fp8_draws_nearly_the_same(
        self, place: Path, usual: NDArray[np.float32]
    ) -> None:
        """The denoiser's weights are 8 bits wide, and computed with as ever."""
        model = load(place / "sd", quantization="fp8")

        kinds = {one.dtype for one in model.pipeline.unet.parameters()}
        assert torch.float8_e4m3fn in kinds
        assert 0 < distance(usual, drawn(model)) < 0.1

    @pytest.mark.parametrize(
        ("name", "device", "words"),
        [
            (
                "4bit",
                "cpu",
                "expected a graphics card for quantization '4bit', got cpu",
            ),
            (
                "8bit",
                "mps",
                "expected a graphics card for quantization '8bit', got mps",
            ),
            ("fp8", "mps", "8-bit floats"),
            ("2bit", "cpu", "to be 4bit, 8bit or fp8"),
        ],
    )
    def test_what_the_machine_cannot_is_told_before_anything_is_loaded(
        self, name: str, device: str, words: str
    ) -> None:
        """In one line (P2)."""
        with pytest.raises(ConfigurationError, match=words):
            quantization_config(name, torch.device(device))

    def test_bits_need_a_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The line says which."""
        place = "socratic_agents.core.extras.find_spec"
        monkeypatch.setattr(place, lambda _: None)
        with pytest.raises(
            ConfigurationError, match=r"socratic-agents\[quantization\]"
        ):
            quantization_config("4bit", torch.device("cuda"))
        monkeypatch.setattr(place, lambda name: name)
        config = quantization_config("4bit", torch.device("cuda"))
        assert "bitsandbytes_4bit" == config.quant_backend
        assert {"load_in_4bit": True} == config.quant_kwargs

    def test_a_denoiser_that_cannot_is_told(self) -> None:
        """Those that are no models of diffusers."""
        with pytest.raises(ConfigurationError, match="denoiser takes quantization"):
            store_in_8_bits(SimpleNamespace(components={}), torch.float32)


class TestSettings:
    """What it is put together from is said in the settings, and kept."""

    def test_they_name_all_of_it(self, place: Path) -> None:
        """The worker opens what they say."""
        settings = Settings(
            generator=place / "sd.safetensors",
            generator_config=place / "sd",
            lora=f"{place / 'style'}:0.5",
            scheduler="euler:karras",
            vae=place / "sd",
            quantization="fp8",
            device="cpu",
            **SMALL,
        )
        image = asyncio.run(_one(settings))

        assert (16, 16) == image.size

    @pytest.mark.parametrize(
        "name", ["generator_config", "lora", "scheduler", "vae", "variant"]
    )
    def test_an_open_pipeline_takes_none_of_it(self, name: str) -> None:
        """It would be passed over in silence (P3)."""
        settings = Settings(generator=tiny_models.stable_diffusion(), **{name: "x"})
        with pytest.raises(ConfigurationError, match=f"expected no {name}"):
            open_generator(settings, Worker())

    def test_a_server_takes_none_of_it(self) -> None:
        """It has its own."""
        settings = Settings(generator="http://127.0.0.1:9/v1", lora="x")
        with pytest.raises(ConfigurationError, match="expected no lora"):
            open_generator(settings, Worker())

    def test_what_is_in_the_files_names_the_image(self, tmp_path: Path) -> None:
        """Not where they are, and not what they are called alone (P4)."""
        files = [tmp_path / name for name in ("model", "lora", "vae")]
        given = dict(zip(("generator", "lora", "vae"), map(str, files), strict=True))

        def identity() -> str:
            return json.dumps(model_identity(Settings(**given), "generator"))

        known = {identity()}
        for file in files:
            for text in ("one", "two"):
                file.write_text(text, encoding="utf-8")
                assert identity() not in known
                assert identity() == identity()
                known.add(identity())

    def test_they_are_in_the_provenance_without_folders(self, tmp_path: Path) -> None:
        """A hub id is whole, and a path its last part."""
        file = tmp_path / "ink.safetensors"
        file.write_bytes(b"")
        settings = Settings(
            generator=str(file),
            lora=rf"{file}:0.5,owner/style,C:\me\own.safetensors,owner/m/i.safetensors",
            vae="owner/vae",
            generator_config=tmp_path,
            scheduler="dpm++:karras",
        )
        provenance = provenance_of(settings, {}, prompt="a dog", seed=1)

        assert provenance is not None
        loras = "ink.safetensors:0.5,owner/style,own.safetensors,owner/m/i.safetensors"
        assert loras == provenance.lora
        assert "owner/vae" == provenance.vae
        assert tmp_path.name == provenance.generator_config
        assert "dpm++:karras" == provenance.scheduler
        assert ("ink.safetensors", "folder") == (provenance.model, provenance.kind)

    def test_a_command_draws_with_them(
        self, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As a newcomer types it."""
        arguments = [
            "refine",
            "a red circle",
            "--generator",
            f"{place / 'sd.safetensors'}",
        ]
        arguments += ["--generator-config", f"{place / 'sd'}", "--rounds", "1"]
        arguments += ["--lora", f"{place / 'style'}:0.8", "--scheduler", "dpm++:karras"]
        arguments += [
            "--steps",
            "2",
            "--width",
            "16",
            "--height",
            "16",
            "--device",
            "cpu",
        ]

        assert 0 == main([*arguments, "--out", str(tmp_path / "run"), "--json"])
        told = json.loads(capsys.readouterr().out)["settings"]
        assert f"{place / 'style'}:0.8" == told["lora"]


async def _one(settings: Settings) -> Any:
    async with Worker() as worker:
        opened = await worker.call(lambda: open_generator(settings, worker))
        return await opened.generate("a red circle", 1)


@pytest.mark.parametrize(
    ("names", "holds"),
    [
        (["lora_unet_down.lora_up.weight"], Holds.LORA),
        (["x.weight", "scaled_fp8"], Holds.FOREIGN),
        (["x.weight", "x.weight.quant_state.bitsandbytes__nf4"], Holds.FOREIGN),
        (["clip_l", "clip_g"], Holds.EMBEDDING),
        (["encoder.block.0.layer.weight", "shared.weight"], Holds.TEXT_ENCODER),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], Holds.VAE),
        (["model.diffusion_model.x.weight", "vae.x.weight"], Holds.CHECKPOINT),
        (["double_blocks.0.img_attn.qkv.weight"], Holds.DENOISER),
    ],
)
def test_files_are_known_by_their_tensors(
    tmp_path: Path, names: list[str], holds: Holds
) -> None:
    """As those that people download have them."""
    file = tmp_path / "it.safetensors"
    save_file({name: torch.zeros(1) for name in names}, file)

    assert holds is read_weights_file(file).holds
