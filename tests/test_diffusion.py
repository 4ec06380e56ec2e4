"""What holds for every pipeline that is drawn with.

D1  A batch draws what its requests draw alone, each from its own seed.
D2  The same requests twice give the same images.
D3  One bad image fails alone, with the status that tells why.
D4  What cannot work is said in one line before anything is drawn.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import (
    BatchError,
    CandidateError,
    ConfigurationError,
    LoadError,
)
from socratic_agents.core.history import Status
from socratic_agents.models.devices import choose_device, choose_dtype
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.models.loading import local_folder, quiet
from socratic_agents.models.noise import scheduler_noise
from socratic_agents.models.pipelines import only_variant, place
from socratic_agents.models.validation import image_fault
from socratic_agents.runtime.generators import open_generator
from socratic_agents.scheduler.worker import Stage, Worker
from tests import tiny_captioners, tiny_models
from tests.loopback import Loopback, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Raised inside diffusers by its Euler schedulers.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

REQUESTS = (
    ("a red circle", 1),
    ("a much longer prompt about a blue square on a green hill", 2),
    ("a red circle", 3),
)

SMALL: dict[str, Any] = {"steps": 2, "width": 16, "height": 16}

CALLS: dict[str, dict[str, Any]] = {
    "sd15": {**SMALL, "negative_prompt": "blurred"},
    "sdxl": {**SMALL, "negative_prompt": "blurred", "negative_prompt_2": "dark"},
    "sd3": {**SMALL, "negative_prompt": "blurred"},
    "flux": SMALL,
    "pixart-sigma": {**SMALL, "use_resolution_binning": False, "clean_caption": False},
    "sana": {
        "steps": 2,
        "width": 32,
        "height": 32,
        "use_resolution_binning": False,
        "complex_human_instruction": [],
    },
    "qwen-image": {**SMALL, "negative_prompt": " ", "true_cfg_scale": 2.0},
    "z-image": {**SMALL, "negative_prompt": "blurred"},
}


class Painter:
    """Stands in for a pipeline: gives the images that it was made with."""

    def __init__(self, *images: NDArray[np.float32] | Exception, **output: Any) -> None:
        self.images = images
        self.output = output
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        prompt: list[str],
        generator: list[torch.Generator],
        output_type: str = "pil",
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        negative_prompt: list[str] | None = None,
        **deprecated: Any,
    ) -> Any:
        call = dict(locals())
        self.calls.append({k: v for k, v in call.items() if k != "self"})
        for image in self.images:
            if isinstance(image, Exception):
                raise image
        return SimpleNamespace(images=list(self.images), **self.output)


def noise(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((8, 8, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.tiny_stable_diffusion(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def stacked(
    results: Sequence[NDArray[np.float32] | CandidateError],
) -> NDArray[np.float32]:
    """Return the arrays as one, for there must be no failure among them."""
    return np.stack([r for r in results if not isinstance(r, CandidateError)])


def statuses(results: Sequence[Image.Image | CandidateError]) -> list[Status]:
    return [
        result.status if isinstance(result, CandidateError) else Status.OK
        for result in results
    ]


@pytest.mark.parametrize("family", tiny_models.PIPELINES)
def test_batch_draws_what_single_requests_draw(family: str) -> None:
    """A request's neighbours do not change its image, whatever their length."""
    draw = Diffusion(tiny_models.PIPELINES[family](), **CALLS[family])

    together = stacked(draw.arrays(REQUESTS))
    alone = stacked([draw.arrays([request])[0] for request in REQUESTS])

    assert len(REQUESTS) == len(together)
    assert np.abs(alone - together).max() <= 1e-4
    assert not np.allclose(together[0], together[2], atol=0.01)


@pytest.mark.parametrize("family", tiny_models.PIPELINES)
def test_images_are_rgb_of_the_size_asked_for(family: str) -> None:
    """A call gives images, and leaves the caller's requests as they were."""
    requests = list(REQUESTS[:2])
    images = Diffusion(tiny_models.PIPELINES[family](), **CALLS[family])(requests)

    assert list(REQUESTS[:2]) == requests
    for image in images:
        assert isinstance(image, Image.Image)
        assert "RGB" == image.mode
        assert (CALLS[family]["width"], CALLS[family]["height"]) == image.size
        assert 0 == image.info["truncated_tokens"]


@pytest.mark.parametrize("scheduler", ["PNDMScheduler", "EulerDiscreteScheduler"])
def test_same_requests_twice_give_the_same_images(scheduler: str) -> None:
    """A scheduler's memory of the last call does not leak into the next.

    https://github.com/huggingface/diffusers/issues/3672
    """
    pipeline = tiny_models.stable_diffusion(scheduler=scheduler)
    draw = Diffusion(pipeline, **SMALL | {"steps": 5})

    first, second = stacked(draw.arrays(REQUESTS)), stacked(draw.arrays(REQUESTS))

    assert np.array_equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheduler", "count"),
    [
        ("EulerDiscreteScheduler", 40),
        ("DPMSolverMultistepScheduler", 40),
        ("PNDMScheduler", 200),
        ("DDIMScheduler", 40),
        ("UniPCMultistepScheduler", 40),
    ],
)
async def test_many_at_once_draw_what_each_draws_alone(
    scheduler: str, count: int
) -> None:
    """Bit by bit where all batches have one size, and up to rounding elsewhere.

    Shared between threads, PNDM would give wrong images here without a word.
    """
    pipeline = tiny_models.stable_diffusion(scheduler=scheduler)
    draw = Diffusion(pipeline, **SMALL | {"steps": 3})
    strict = Stage(name="strict", run=draw.arrays, max_batch=8, padded=True)
    loose = Stage(name="loose", run=draw.arrays, max_batch=8)
    requests = [(f"a red circle {seed % 7}", seed) for seed in range(count)]
    async with Worker() as worker:

        async def drawn(stage: Any) -> NDArray[np.float32]:
            # All of them wait before the first batch is formed.
            begin = threading.Event()
            busy = asyncio.create_task(worker.call(begin.wait))
            submitted = [worker.submit(stage, request) for request in requests]
            tasks = [asyncio.create_task(one) for one in submitted]
            await asyncio.sleep(0)
            begin.set()
            await busy
            return np.stack(await asyncio.gather(*tasks))

        bits, rounded = await drawn(strict), await drawn(loose)
        stages = worker.statistics().stages
        # Not all of them: alone, each costs as much as eight.
        few = slice(None, None, 13)
        alone = [await worker.submit(strict, request) for request in requests[few]]

    single = stacked([draw.arrays([request])[0] for request in requests[few]])
    strictly = stages["strict"]
    assert (count, count // 8) == (strictly.items, strictly.batches)
    assert count > stages["loose"].batches
    assert np.array_equal(np.stack(alone), bits[few])
    assert np.abs(single - bits[few]).max() <= 1e-4
    assert np.abs(single - rounded[few]).max() <= 1e-4
    assert not np.allclose(single[0], single[1], atol=0.01)


def test_nothing_asked_draws_nothing() -> None:
    """An empty batch does not reach the pipeline."""
    painter = Painter()

    assert [] == Diffusion(painter)([])
    assert [] == painter.calls


def test_bad_images_fail_alone() -> None:
    """Each image is looked at by itself, before its numbers become bytes."""
    broken, black, white = noise(), 0 * noise(), 0 * noise() + 1
    broken[3, 4, 1] = np.nan
    images = (noise(1), broken, black, white, noise(2), noise(3))
    flags = [False, False, False, False, True, False]
    draw = Diffusion(Painter(*images, nsfw_content_detected=flags))

    got = draw([("a", seed) for seed in range(6)])

    bad = Status.NUMERICAL_FAILURE
    expected = [Status.OK, bad, bad, Status.OK, Status.SAFETY_FILTERED, Status.OK]
    assert expected == statuses(got)
    assert isinstance(got[0], Image.Image)
    assert np.array_equal((noise(1) * 255).round(), np.asarray(got[0]))
    assert "not finite" in str(got[1])
    assert "black" in str(got[2])
    assert "safety filter" in str(got[4])


def test_weights_that_are_not_finite_are_a_numerical_failure() -> None:
    """What a real pipeline turns into a black image is recognised as no image."""
    pipeline = tiny_models.stable_diffusion()
    torch.nn.init.constant_(pipeline.vae.decoder.conv_out.weight, float("nan"))

    got = Diffusion(pipeline, **SMALL)(REQUESTS)

    assert [Status.NUMERICAL_FAILURE] * 3 == statuses(got)


def test_dark_and_noisy_images_are_no_fault() -> None:
    """500 dark, pale and low-contrast images pass, and so does a red wall."""
    for seed in range(500):
        random = np.random.default_rng(seed)
        pixels = random.uniform(0, 0.9) + random.uniform(0.01, 0.1) * noise(seed)

        assert image_fault(pixels) is None
    assert image_fault(noise() * 0 + np.array([1, 0, 0])) is None


@pytest.mark.parametrize("family", tiny_models.PIPELINES)
def test_images_are_what_the_pipeline_makes_of_them(family: str) -> None:
    """Made into bytes where they were drawn, and the same as diffusers' own."""
    pipeline = tiny_models.PIPELINES[family]()
    asked: dict[str, Any] = {}
    draw = Diffusion(pipeline, **CALLS[family])
    inner = pipeline.__class__.__call__

    class Asked(pipeline.__class__):  # type: ignore[name-defined]
        def __call__(self, **call: Any) -> Any:
            asked.update(call)
            return inner(self, **call)

    pipeline.__class__ = Asked
    (image, _) = draw(REQUESTS[:2])
    generators = [torch.Generator("cpu").manual_seed(seed) for _, seed in REQUESTS[:2]]
    own = inner(pipeline, **asked | {"generator": generators, "output_type": "pil"})

    assert "pt" == asked["output_type"]
    assert isinstance(image, Image.Image)
    assert np.array_equal(np.asarray(own.images[0]), np.asarray(image))


@pytest.mark.parametrize("flag", ["nsfw_content_detected", "nsfw_detected"])
def test_safety_flags_may_be_absent(flag: str) -> None:
    """A pipeline without a safety checker says ``None``, which filters nothing."""
    draw = Diffusion(Painter(noise(), **{flag: None}))

    assert [Status.OK] == statuses(draw([("a", 0)]))


def test_lone_failure_is_a_value_and_a_batch_raises() -> None:
    """Whoever splits a failing batch learns which request it was."""
    draw = Diffusion(Painter(RuntimeError("no kernel\nfor this")))

    got = draw([("a", 0)])

    assert [Status.GENERATION_FAILED] == statuses(got)
    assert "RuntimeError: no kernel for this" in str(got[0])
    with pytest.raises(RuntimeError, match="no kernel"):
        draw([("a", 0), ("b", 1)])


@pytest.mark.parametrize("given", [{}, {"true_cfg_scale": 1.0}])
def test_a_negative_prompt_needs_the_guidance_that_reads_it(
    given: dict[str, Any],
) -> None:
    """Guidance that is distilled into the model reads no negative prompt."""

    class Distilled:
        def __call__(
            self,
            prompt: list[str],
            generator: list[torch.Generator],
            output_type: str = "pil",
            negative_prompt: list[str] | None = None,
            guidance_scale: float = 3.5,
            true_cfg_scale: float = 1.0,
        ) -> Any: ...

    with pytest.raises(ConfigurationError, match="true_cfg_scale above 1"):
        Diffusion(Distilled(), negative_prompt="dark", **given)
    Diffusion(Distilled(), negative_prompt="dark", true_cfg_scale=4.0)
    Diffusion(Distilled(), **given)


def test_wrong_number_of_images_is_refused() -> None:
    """No image is handed out when it is not sure whose it is."""
    with pytest.raises(BatchError, match="expected 2 images of Painter, got 1"):
        Diffusion(Painter(noise()))([("a", 0), ("b", 1)])


def test_each_request_has_its_own_generator() -> None:
    """Steps and texts reach the pipeline under its names, ``None`` does not."""
    painter = Painter(noise(), noise(1))
    draw = Diffusion(painter, steps=3, guidance_scale=None, negative_prompt="dark")

    draw([("a", 5), ("b", -6)])

    (call,) = painter.calls
    assert ["a", "b"] == call["prompt"]
    assert [5, -6 % 2**64] == [g.initial_seed() % 2**64 for g in call["generator"]]
    assert {"cpu"} == {g.device.type for g in call["generator"]}
    assert 3 == call["num_inference_steps"]
    assert 7.5 == call["guidance_scale"]
    assert ["dark", "dark"] == call["negative_prompt"]
    assert "np" == call["output_type"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            {"width": 8, "stpes": 3},
            "takes (guidance_scale, negative_prompt, num_inference_steps), got stpes, width; ",
        ),
        ({"prompt": "a"}, "got prompt"),
        (
            {"negative_prompt": "dark", "guidance_scale": 1.0},
            "expected a guidance_scale above 1 for a negative prompt, which Painter",
        ),
        ({"deprecated": 1}, "got deprecated"),
        ({"steps": 0}, "expected num_inference_steps to be a whole number above 0"),
        ({"steps": 2.5}, "got 2.5"),
        ({"steps": 2, "num_inference_steps": 2}, "got both"),
    ],
)
def test_unsupported_arguments_are_named(call: dict[str, Any], message: str) -> None:
    """The signature is asked once, when the generator is made."""
    with pytest.raises(ConfigurationError) as caught:
        Diffusion(Painter(), **call)

    assert message in str(caught.value)


@pytest.mark.parametrize("thing", [3, print, Image.new("RGB", (1, 1))])
def test_what_is_no_pipeline_is_refused(thing: object) -> None:
    """An object whose call takes no prompt and generator cannot draw."""
    with pytest.raises(ConfigurationError, match="text-to-image pipeline"):
        Diffusion(thing)


@pytest.mark.parametrize(
    ("family", "limit"),
    [
        ("sd15", 77),
        ("sdxl", 77),
        ("sd3", 256),
        ("flux", 512),
        ("pixart-sigma", 300),
        ("z-image", 512),
    ],
)
def test_truncated_tokens_are_those_that_no_encoder_reads(
    family: str, limit: int
) -> None:
    """The most patient text encoder of a pipeline sets the limit."""
    draw = Diffusion(tiny_models.PIPELINES[family]())

    assert limit == draw.max_tokens
    assert 0 == draw.truncated_tokens("a" * (limit - 2))
    assert 0 < draw.truncated_tokens("a" * (limit + 10)) <= 12


def test_max_sequence_length_that_is_asked_for_counts() -> None:
    """Whoever asks for fewer tokens gets fewer."""
    draw = Diffusion(tiny_models.flux(), max_sequence_length=128)

    assert 128 == draw.max_tokens


def test_long_prompts_say_how_much_was_cut(capfd: pytest.CaptureFixture[str]) -> None:
    """An image knows what of its prompt was not read, and nothing is printed."""
    draw = Diffusion(tiny_models.stable_diffusion(), **SMALL)

    (short, long) = draw([("a" * 75, 0), ("a" * 80, 0)])

    assert isinstance(short, Image.Image)
    assert isinstance(long, Image.Image)
    assert 0 == short.info["truncated_tokens"]
    assert 5 == long.info["truncated_tokens"]
    assert ("", "") == capfd.readouterr()


def test_limit_of_pipelines_without_tokenizer_is_unknown() -> None:
    """Nothing is guessed."""
    draw = Diffusion(Painter())

    assert draw.max_tokens is None
    assert 0 == draw.truncated_tokens("a" * 1000)


def test_limit_of_an_endless_tokenizer_is_unknown() -> None:
    """A tokenizer that has no limit says so with a huge number."""
    painter = Painter()
    painter.tokenizer = SimpleNamespace(model_max_length=10**30)  # type: ignore[attr-defined]
    draw = Diffusion(painter)

    assert draw.max_tokens is None
    assert 0 == draw.truncated_tokens("a" * 1000)


def test_folder_loads_and_draws(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A saved pipeline draws as it did in memory, without a word."""
    draw = Diffusion.load(str(folder), device="cpu", revision="main", **SMALL)
    expected = Diffusion(tiny_models.stable_diffusion(), **SMALL)

    got = stacked(draw.arrays(REQUESTS))
    assert np.allclose(stacked(expected.arrays(REQUESTS)), got, atol=1e-5)
    assert ("", "") == capfd.readouterr()


def test_families_without_a_mapping_load_too(tmp_path: Path) -> None:
    """A pipeline that ``AutoPipeline`` does not know is opened by its own class."""
    import diffusers

    parts = tiny_models.sana().components
    pipeline = diffusers.SanaSprintPipeline(**parts)
    pipeline.save_pretrained(tmp_path)

    draw = Diffusion.load(str(tmp_path), device="cpu")

    assert "SanaSprintPipeline" == type(draw._pipeline).__name__


def test_dtype_is_taken(folder: Path) -> None:
    """Weights come in the number format that was asked for."""
    draw = Diffusion.load(str(folder), device="cpu", dtype="bfloat16")

    assert torch.bfloat16 == draw._pipeline.unet.dtype


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "a/b/c", "~/nowhere", ""])
def test_missing_folder_is_called_missing(name: str) -> None:
    """A path is not mistaken for a hub id, whose lack sounds like a bad network."""
    with pytest.raises(LoadError, match="there is no such folder"):
        Diffusion.load(name)


def test_hub_ids_are_no_folders() -> None:
    """Names of one or two words belong to the hub."""
    assert local_folder("stabilityai/sdxl-turbo") is None
    assert local_folder("gpt2") is None


def test_hub_model_that_cannot_be_had_is_one_line() -> None:
    """Offline, a name that is not cached is an error that says so."""
    with pytest.raises(LoadError) as caught:
        Diffusion.load("nobody/no-such-model", revision="main")

    assert "expected a text-to-image model, got 'nobody/no-such-model'" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


def test_file_is_no_folder(folder: Path) -> None:
    """A file is one of weights, or of no use; captioners come from folders alone."""
    with pytest.raises(LoadError, match="expected a file of weights"):
        Diffusion.load(str(folder / "model_index.json"))
    with pytest.raises(LoadError, match="got the file"):
        local_folder(str(folder / "model_index.json"))


def test_folder_without_index_is_no_model(tmp_path: Path) -> None:
    """The true reason is said before diffusers speaks of a connection."""
    with pytest.raises(LoadError, match=r"a model with model_index\.json, got"):
        Diffusion.load(str(tmp_path))


def test_pickles_are_refused(copy: Path) -> None:
    """A folder whose unet is a pickle is not opened, for a pickle can run code."""
    (weights,) = (copy / "unet").glob("*.safetensors")
    weights.rename(weights.with_suffix(".bin"))

    with pytest.raises(LoadError, match=r"only pickles in .*unet.*; convert them"):
        Diffusion.load(str(copy))


def test_weights_that_are_missing_are_one_line(copy: Path) -> None:
    """What only diffusers can know is passed on in one line."""
    shutil.rmtree(copy / "unet")

    with pytest.raises(LoadError) as caught:
        Diffusion.load(str(copy))

    assert "which cannot be opened" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_called_truncated(copy: Path, keep: int) -> None:
    """A file that is shorter than its header says was not copied whole."""
    (weights,) = (copy / "vae").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:keep])

    with pytest.raises(LoadError, match="truncated or damaged"):
        Diffusion.load(str(copy))


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_unreadable_index_is_said(copy: Path, content: str) -> None:
    """A damaged index is the folder's fault, and the message says so."""
    (copy / "model_index.json").write_text(content)

    with pytest.raises(LoadError, match="that cannot be read"):
        Diffusion.load(str(copy))


@pytest.mark.parametrize("part", ["_class_name", "unet"])
def test_code_in_the_folder_is_never_run(copy: Path, part: str) -> None:
    """A pipeline that brings its own Python code is refused unread."""
    index = json.loads((copy / "model_index.json").read_text())
    index[part] = ["mine", "Mine"]
    (copy / "model_index.json").write_text(json.dumps(index))
    (copy / "unet" / "mine.py").write_text("raise SystemExit('ran')")

    with pytest.raises(LoadError, match=r"needs its own Python code \(mine"):
        Diffusion.load(str(copy))


@pytest.mark.parametrize("device", ["cuda:99", "abacus", "meta"])
def test_devices_that_are_not_there_are_refused(device: str) -> None:
    """The message lists what this machine has."""
    with pytest.raises(ConfigurationError, match="expected a device of this machine"):
        choose_device(device)


def test_best_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graphics card comes before Apple's, and that before the CPU."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch.device("cpu") == choose_device()

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert torch.device("mps") == choose_device()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch.device("cuda") == choose_device()
    assert torch.device("cuda:1") == choose_device("cuda:1")
    with pytest.raises(ConfigurationError):
        choose_device("cuda:2")


@pytest.mark.parametrize("native", [True, False])
def test_dtype_suits_the_device(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    """bfloat16 where the card has it, float16 where not, float32 on a CPU."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_: native)
    half = torch.bfloat16 if native else torch.float16

    assert half == choose_dtype(None, torch.device("cuda"))
    assert half == choose_dtype(None, torch.device("mps"))
    assert torch.float32 == choose_dtype(None, torch.device("cpu"))
    assert torch.float16 == choose_dtype("float16", torch.device("cpu"))
    assert torch.float64 == choose_dtype(torch.float64, torch.device("cuda"))


@pytest.mark.parametrize("dtype", ["int8", "nn", "float7"])
def test_dtypes_that_are_none_are_refused(dtype: str) -> None:
    """Only floating-point formats hold weights."""
    with pytest.raises(ConfigurationError, match="expected a floating-point dtype"):
        choose_dtype(dtype, torch.device("cpu"))


def test_offload_needs_a_card(folder: Path) -> None:
    """On a CPU there is nothing to offload from, and unknown names are listed."""
    with pytest.raises(ConfigurationError, match="leave offload out"):
        Diffusion.load(str(folder), device="cpu", offload="model")
    with pytest.raises(ConfigurationError, match="one of model, sequential, group"):
        Diffusion.load(str(folder), device="cpu", offload="some")


class Movable:
    """Writes down how it was brought to a device."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **options: self.told.append((name, args or options))


@pytest.mark.parametrize(
    ("offload", "expected"),
    [
        (None, ("to", (torch.device("cuda"),))),
        ("model", ("enable_model_cpu_offload", {"device": torch.device("cuda")})),
        (
            "sequential",
            ("enable_sequential_cpu_offload", {"device": torch.device("cuda")}),
        ),
        (
            "group",
            (
                "enable_group_offload",
                {
                    "onload_device": torch.device("cuda"),
                    "offload_type": "leaf_level",
                    "use_stream": True,
                },
            ),
        ),
    ],
)
def test_offload_reaches_the_pipeline(
    offload: str | None, expected: tuple[str, Any]
) -> None:
    """An offloaded pipeline is not moved as a whole as well."""
    pipeline = Movable()

    place(pipeline, torch.device("cuda"), offload)

    assert [expected] == pipeline.told


def test_quantization_settings_are_passed_through(folder: Path) -> None:
    """What diffusers makes of the settings is what the person gets to hear."""
    with pytest.raises(ConfigurationError, match="PipelineQuantizationConfig"):
        Diffusion.load(str(folder), device="cpu", quantization={"quant_backend": "no"})

    class Odd:
        quant_mapping = "odd"

    with pytest.raises(LoadError, match="which cannot be opened"):
        Diffusion.load(str(folder), device="cpu", quantization=Odd())


def test_silence_ends_with_the_last_who_wants_it() -> None:
    """Verbosity and progress bars are as they were, and only in the end."""
    from diffusers.utils import logging as log

    before = (log.get_verbosity(), log.is_progress_bar_enabled())
    first, second = quiet(), quiet()
    with first:
        with second:
            assert (log.ERROR, False) == (
                log.get_verbosity(),
                log.is_progress_bar_enabled(),
            )
        assert not log.is_progress_bar_enabled()
    assert before == (log.get_verbosity(), log.is_progress_bar_enabled())


class Multimodal(Painter):
    """Has a processor of images and texts for a tokenizer, as FLUX.2 has."""

    def __init__(self) -> None:
        super().__init__(noise())
        self.tokenizer = tiny_captioners.pixtral_processor()


def test_a_prompt_is_never_opened(tmp_path: Path) -> None:
    """Neither as an address nor as a file; and its tokens are counted."""
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), "red").save(secret)
    with Loopback(lambda _: Reply()) as server:
        prompts = [f"{server.base_url}/secret.png", str(secret), "a red circle"]
        for prompt in prompts:
            (drawn,) = Diffusion(Multimodal())([(prompt, 1)])
            assert isinstance(drawn, Image.Image)
        assert [] == server.requests
    pipeline = Multimodal()
    pipeline.tokenizer.tokenizer.model_max_length = 3
    (drawn,) = Diffusion(pipeline)([("a red circle", 1)])
    assert isinstance(drawn, Image.Image)
    assert {"truncated_tokens": 1} == drawn.info


def test_what_cannot_be_counted_is_drawn() -> None:
    """An image is not lost over the number of its prompt's tokens."""

    def refuse(**_: Any) -> Any:
        raise LookupError

    pipeline = Painter(noise())
    pipeline.tokenizer = refuse  # type: ignore[attr-defined]
    refuse.model_max_length = 2  # type: ignore[attr-defined]
    (drawn,) = Diffusion(pipeline)([("a red circle", 1)])
    assert isinstance(drawn, Image.Image)


def _restless(step: Any) -> Any:
    """Return a scheduler's step that adds noise of nobody's."""

    def noisy(output: Any, timestep: Any, sample: Any, **options: Any) -> Any:
        sample = sample + 0.5 * torch.randn_like(sample)
        return step(output, timestep, sample, **options)

    return noisy


@pytest.mark.parametrize("whose", ["the scheduler's", "the process's"])
def test_noise_of_every_step_comes_from_the_seed(whose: str) -> None:
    """FLUX does not tell its scheduler of the generators; others ask nobody."""
    import diffusers

    pipeline = tiny_models.PIPELINES["flux"]()
    if whose == "the scheduler's":
        pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
            stochastic_sampling=True
        )
    else:
        pipeline.scheduler.step = _restless(pipeline.scheduler.step)
    draw = Diffusion(pipeline, **SMALL, max_sequence_length=16)
    state = torch.get_rng_state()
    together = stacked(draw.arrays(REQUESTS))
    again = stacked(draw.arrays(REQUESTS))
    alone = stacked([draw.arrays([request])[0] for request in REQUESTS])
    assert np.abs(together - again).max() <= 1e-4
    assert np.abs(together - alone).max() <= 1e-4
    assert not np.allclose(together[0], together[2], atol=0.01)
    if whose == "the scheduler's":
        assert state.equal(torch.get_rng_state())


def test_a_brownian_tree_grows_from_each_seed() -> None:
    """And a scheduler is left as it was."""
    scheduler = SimpleNamespace(noise_sampler_seed=None, step=lambda: None)
    step = scheduler.step
    seeds = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    with scheduler_noise(SimpleNamespace(scheduler=scheduler), seeds):
        assert [3, 4] == scheduler.noise_sampler_seed
        scheduler.step()
    assert step is scheduler.step


def test_a_schedulers_own_step_comes_back() -> None:
    """One that somebody has put there is no method of its class."""

    def step(noise: float, generator: object = None) -> object:
        return generator

    scheduler = SimpleNamespace(step=step)
    generators = [torch.Generator()]
    with scheduler_noise(SimpleNamespace(scheduler=scheduler), generators):
        assert scheduler.step is not step
        assert scheduler.step(0.0) is not None
    assert step is scheduler.step


def test_only_variants_are_found(tmp_path: Path) -> None:
    """A folder with fp16 weights alone opens; another variant is named."""
    with quiet():
        tiny_models.PIPELINES["sd15"]().save_pretrained(tmp_path, variant="fp16")
    for variant in (None, "fp16"):
        draw = Diffusion.load(str(tmp_path), device="cpu", variant=variant, **SMALL)
        assert isinstance(draw([("a red circle", 1)])[0], Image.Image)
    with pytest.raises(LoadError):
        Diffusion.load(str(tmp_path), device="cpu", variant="bf16")
    settings = Settings(generator=str(tmp_path), device="cpu", variant="bf16")
    with pytest.raises(LoadError, match="bf16"):
        open_generator(settings, Worker())


def test_plain_weights_come_first(copy: Path) -> None:
    """Where there are both, nobody asked for the variant."""
    weights = next((copy / "unet").glob("*.safetensors"))
    shutil.copy(weights, weights.with_name(f"{weights.stem}.fp16.safetensors"))
    assert only_variant(copy) is None
    assert isinstance(Diffusion.load(str(copy), device="cpu", **SMALL), Diffusion)
