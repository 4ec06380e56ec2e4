"""What holds where a pipeline is made faster.

V1  What is drawn stays the same, up to rounding.
V2  A compiled denoiser has one graph for each bucket_size, and none is made twice.
V3  What a model does not have, or a device cannot do, is said before anything is drawn.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.models.acceleration import (
    Acceleration,
    accelerate,
    bucket_size,
    check_acceleration,
)
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.models.loading import quiet
from socratic_agents.models.step_batching.batcher import StepBatcher
from socratic_agents.models.step_batching.hooks import DenoiserProxy
from socratic_agents.runtime.open_models import open_image_models
from socratic_agents.scheduler.worker import Worker
from tests import tiny_models
from tests.test_diffusion import CALLS, REQUESTS, SMALL, stacked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Raised inside diffusers by its Euler schedulers.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

FIVE = tuple(("a red circle", seed) for seed in range(5))


class Counter:
    """A compiler that compiles nothing, and counts the graphs that it is given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, _: Any, **__: Any) -> Any:
        self.graphs += 1
        return graph.forward


@pytest.fixture
def backend() -> Iterator[Counter]:
    """Forget what was compiled, for all models of a kind share their code."""
    torch._dynamo.reset()
    yield Counter()
    torch._dynamo.reset()


@pytest.mark.parametrize("family", tiny_models.PIPELINES)
def test_channels_last_draws_the_same(family: str) -> None:
    """The order of weights in memory changes no more than the last bits."""
    pipeline = tiny_models.PIPELINES[family]()
    expected = stacked(Diffusion(pipeline, **CALLS[family]).arrays(REQUESTS))

    draw = Diffusion(
        pipeline, acceleration=Acceleration(channels_last=True), **CALLS[family]
    )

    assert np.abs(expected - stacked(draw.arrays(REQUESTS))).max() <= 1e-4
    convolutions = [
        weight
        for part in (pipeline.vae, getattr(pipeline, "unet", None))
        for weight in (part.parameters() if part is not None else ())
        if weight.ndim == 4
    ]
    for weight in convolutions:
        assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("family", tiny_models.PIPELINES)
def test_fused_projections_draw_the_same(family: str) -> None:
    """One product in the place of three, or a word that there is none."""
    pipeline = tiny_models.PIPELINES[family]()
    expected = stacked(Diffusion(pipeline, **CALLS[family]).arrays(REQUESTS))
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    acceleration = Acceleration(fuse_qkv=True)
    if not hasattr(denoiser, "fuse_qkv_projections"):
        with pytest.raises(ConfigurationError, match="leave fuse_qkv out"):
            Diffusion(pipeline, acceleration=acceleration, **CALLS[family])
        return

    draw = Diffusion(pipeline, acceleration=acceleration, **CALLS[family])

    assert np.abs(expected - stacked(draw.arrays(REQUESTS))).max() <= 1e-4


@pytest.mark.parametrize("family", tiny_models.PIPELINES)
@pytest.mark.parametrize("most", [1, 2, 7])
def test_decoding_in_parts_draws_the_same(family: str, most: int) -> None:
    """No more images are decoded at once than allowed, and the order stays."""
    pipeline = tiny_models.PIPELINES[family]()
    expected = stacked(Diffusion(pipeline, **CALLS[family]).arrays(FIVE))
    draw = Diffusion(
        pipeline, acceleration=Acceleration(vae_batch=most), **CALLS[family]
    )
    sizes: list[int] = []
    # Decoders are called by method, so that no hook of torch sees it.
    decoder = pipeline.vae.decoder
    decoder.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))

    got = stacked(draw.arrays(FIVE))

    assert np.abs(expected - got).max() <= 1e-4
    assert most >= max(sizes)
    assert "decode" in vars(draw.pipeline.vae)
    assert "decode" not in vars(pipeline.vae)


def test_decoders_answers_keep_their_kind() -> None:
    """Who asks for an object gets one, as from the decoder itself."""
    pipeline = accelerate(tiny_models.stable_diffusion(), Acceleration(vae_batch=2))
    latents = torch.ones(3, 4, 4, 4)

    with torch.no_grad():
        output = pipeline.vae.decode(latents)
        (expected,) = pipeline.vae.decode(latents, return_dict=False)

    assert torch.equal(expected, output.sample)


@given(st.integers(1, 2000))
def test_buckets_are_powers_of_two(count: int) -> None:
    """The smallest that holds so many."""
    size = bucket_size(count)

    assert count <= size < 2 * count
    assert 0 == size & (size - 1)


@pytest.mark.parametrize(
    ("family", "compiled", "blocks"),
    [("sd15", "full", 1), ("sd15", "regional", 1), ("flux", "regional", 2)],
)
def test_compiled_denoisers_have_one_graph_for_each_bucket(
    family: str, compiled: Any, blocks: int, backend: Counter
) -> None:
    """Batches of 1 to 5 need four graphs of each block, and only at first."""
    pipeline = tiny_models.PIPELINES[family]()
    plain = Diffusion(pipeline, **CALLS[family])
    expected = [stacked(plain.arrays(FIVE[:size])) for size in range(1, 6)]
    acceleration = Acceleration(compile=compiled, backend=backend)
    draw = Diffusion(pipeline, acceleration=acceleration, **CALLS[family])

    graphs = []
    for size in (1, 2, 3, 4, 5, 5, 3, 1):
        got = stacked(draw.arrays(FIVE[:size]))
        assert size == len(got)
        assert np.abs(expected[size - 1] - got).max() <= 1e-4
        graphs.append(backend.graphs)

    assert [blocks * n for n in (1, 2, 3, 3, 4, 4, 4, 4)] == graphs


def test_joined_steps_use_one_graph_where_they_are_padded(backend: Counter) -> None:
    """However many are on their way, the denoiser sees one size."""
    pipeline = tiny_models.stable_diffusion()
    acceleration = Acceleration(compile="full", backend=backend)
    draw = Diffusion(pipeline, acceleration=acceleration, **SMALL)
    joint = StepBatcher(draw.pipeline, max_batch=4, padded=True)
    with quiet(), joint as batcher:
        for size in (1, 2, 3, 4):
            images = batcher.run(
                [lambda p: draw.drawing_with(p).arrays(FIVE[:1])[0]] * size
            )
            assert size == len(images)

    # And one for the comparison with a call alone, the first time that two met.
    assert 2 == backend.graphs


def test_older_torch_is_not_told_of_its_limit(
    backend: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of graphs is an argument of newer versions only."""
    compile_ = torch.compile

    def older(model: Any, *, backend: Any, dynamic: bool, mode: Any = None) -> Any:
        return compile_(model, backend=backend, dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", older)
    pipeline = tiny_models.stable_diffusion()
    Diffusion(
        pipeline, acceleration=Acceleration(compile="full", backend=backend), **SMALL
    )(REQUESTS)

    assert 1 == backend.graphs


@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_replayed_graphs_give_outputs_that_last(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs are copied, for the next replay writes over them."""
    pipeline = tiny_models.PIPELINES[family]()
    name = "unet" if family == "sd15" else "transformer"
    model = getattr(pipeline, name)
    expected = stacked(Diffusion(pipeline, **CALLS[family]).arrays(REQUESTS))
    modes: list[Any] = []
    monkeypatch.setattr(model, "compile", lambda **options: modes.append(options))
    acceleration = Acceleration(compile="full", cuda_graphs=True)
    draw = Diffusion(accelerate(pipeline, acceleration), **CALLS[family])
    seat = vars(draw.pipeline)[name]
    given_out: list[Any] = []
    model.register_forward_hook(lambda *_: given_out.append(_[-1]))

    assert np.array_equal(expected, stacked(draw.arrays(REQUESTS)))
    assert ["reduce-overhead"] == [options["mode"] for options in modes]
    assert isinstance(seat, type(model))
    assert seat.config is model.config
    pipeline = draw.pipeline
    arguments: dict[str, Any] = {
        "sd15": {
            "sample": torch.ones(1, 4, 8, 8),
            "timestep": 1,
            "encoder_hidden_states": torch.ones(1, 3, 16),
        },
        "sd3": {
            "hidden_states": torch.ones(1, 4, 8, 8),
            "timestep": torch.ones(1),
            "encoder_hidden_states": torch.ones(1, 3, 32),
            "pooled_projections": torch.ones(1, 32),
        },
    }[family]
    with torch.no_grad():
        output = seat(**arguments)
    assert torch.equal(given_out[-1].sample, output.sample)
    assert given_out[-1].sample is not output.sample


CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize(
    ("acceleration", "device", "offload", "message"),
    [
        ({"compile": "some"}, CPU, None, "expected compile 'regional', 'full' or"),
        ({"vae_batch": 0}, CPU, None, "expected vae_batch to be a whole number above"),
        ({"cuda_graphs": True}, CUDA, None, "expected compile 'full' for CUDA graphs"),
        (
            {"cuda_graphs": True, "compile": "full"},
            CPU,
            None,
            "expected a CUDA device for CUDA graphs, got 'cpu'",
        ),
        (
            {"cuda_graphs": True, "compile": "full"},
            CUDA,
            "model",
            "for CUDA graphs, got offload 'model'",
        ),
        ({"vae_batch": 1}, CUDA, "model", "for vae_batch, got offload 'model'"),
        ({"fuse_qkv": True}, CUDA, "group", "fuse_qkv, got offload 'group'"),
        ({"channels_last": True}, CUDA, "sequential", "got offload 'sequential'"),
    ],
)
def test_contradictions_are_refused(
    acceleration: dict[str, Any],
    device: torch.device,
    offload: str | None,
    message: str,
) -> None:
    """What does not go together is said with both sides."""
    with pytest.raises(ConfigurationError) as caught:
        check_acceleration(Acceleration(**acceleration), device, offload)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("acceleration", "device", "offload"),
    [
        ({"cuda_graphs": True, "compile": "full"}, CUDA, None),
        ({"channels_last": True, "fuse_qkv": True}, CUDA, "model"),
        ({"compile": "regional", "vae_batch": 1}, CUDA, "group"),
    ],
)
def test_what_goes_together_is_let_through(
    acceleration: dict[str, Any], device: torch.device, offload: str | None
) -> None:
    """Offload and speed are no contradiction as such."""
    check_acceleration(Acceleration(**acceleration), device, offload)


def test_models_without_blocks_are_told_of_the_whole() -> None:
    """Not every model says which blocks it repeats."""
    with pytest.raises(ConfigurationError, match="choose compile 'full'"):
        Diffusion(tiny_models.sana(), acceleration=Acceleration(compile="regional"))


def test_parts_that_are_not_there_are_left_out() -> None:
    """A pipeline in pixels has no decoder."""
    pipeline = SimpleNamespace(unet=SimpleNamespace(), vae=None)

    assert pipeline is accelerate(
        pipeline, Acceleration(channels_last=True, vae_batch=1)
    )


def test_stand_ins_pass_for_what_they_stand_in_for() -> None:
    """Only what they were told to do is done by them."""
    part = torch.nn.Linear(2, 3)
    plain, changed = (
        DenoiserProxy(part),
        DenoiserProxy(part, lambda: "called", bias="none"),
    )

    assert isinstance(plain, torch.nn.Linear)
    assert torch.equal(part(torch.ones(2)), plain(torch.ones(2)))
    assert ("called", "none", 3) == (changed(), changed.bias, changed.out_features)
    with pytest.raises(AttributeError):
        _ = plain.nothing


async def test_settings_reach_the_pipeline(tmp_path: Path) -> None:
    """Both a pipeline that is given and one that is loaded are made faster."""
    folder = tiny_models.tiny_stable_diffusion(tmp_path / "sd")
    given_ = tiny_models.stable_diffusion()
    for generator in (given_, str(folder)):
        settings = Settings(
            generator=generator,
            device="cpu",
            channels_last=True,
            vae_batch=1,
            steps=2,
            width=16,
            height=16,
        )
        async with Worker() as worker:
            image_models = open_image_models(settings, worker)
            image = await image_models.generate("a red circle", 1)
        assert (16, 16) == image.size
    weight = given_.unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(
        ConfigurationError, match="expected no vae_batch for the images"
    ):
        open_image_models(
            Settings(generator="http://127.0.0.1:1/v1", vae_batch=2), worker
        )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"vae_batch": 2}, "expected no vae_batch for {}, which takes none, got 2"),
        (
            {"compile": "full"},
            "expected no compile for {}, which takes none, got 'full'",
        ),
        ({"channels_last": True}, "expected no channels_last for {}"),
        ({"negative_prompt": "dark"}, "expected no negative_prompt for {}"),
    ],
)
async def test_settings_that_reach_nothing_are_refused(
    setting: dict[str, Any], message: str
) -> None:
    """What is no pipeline, or has a speed of its own already, is left as it is."""

    async def generator(prompt: str, seed: int) -> Any:
        raise NotImplementedError

    made = Diffusion(tiny_models.stable_diffusion())
    async with Worker() as worker:
        for given_, what in (
            (generator, "a generator that is no pipeline"),
            (made, "a Diffusion"),
        ):
            with pytest.raises(ConfigurationError) as caught:
                open_image_models(Settings(generator=given_, **setting), worker)
            assert str(caught.value).startswith(message.format(what))
