"""Measure models of known sizes on a card: ``python docs/gpu.py [PART ...]``.

The weights are random, so nothing is downloaded; what a call costs depends on sizes
alone. Prints a line of JSON for each figure. ``--tiny`` tries it out anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import sys
import threading
import time
from functools import partial
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from socratic_agents.lab.bench.device.random_models import build
from socratic_agents.lab.bench.device.random_vision_models import VOCABULARY
from socratic_agents.models.acceleration import Acceleration
from socratic_agents.models.clip import Clip
from socratic_agents.models.devices import choose_device, choose_dtype, free_memory
from socratic_agents.models.diffusion import Diffusion
from socratic_agents.models.loading import quiet
from socratic_agents.scheduler.worker import Stage, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

TIMES = 3
"""Calls of each kind, of which the median counts; one more comes before."""
WORDS = 20
"""Tokens of every caption."""
SECONDS = 2.0
"""How long a thread or a process is watched."""
SHARES = (0.0, 0.3, 0.9)
"""Of the time that the program beside them computes."""
H200 = {
    "sd15": {1: 0.570, 2: 0.589, 4: 0.695, 8: 1.149, 16: 2.151},
    "sdxl": {1: 1.334, 2: 1.739, 4: 3.226, 8: 6.117},
    "captioner": {1: 0.182, 2: 0.178, 4: 0.188, 8: 0.197, 16: 0.213},
    "scorer": {1: 0.018, 2: 0.027, 4: 0.043, 8: 0.070, 16: 0.118},
}
"""Seconds of a call by its size, as the bench of ``sd15`` and this script found."""
SLICE = 0.005
"""Seconds in which a busy program computes once and waits once."""


class Bench:
    """What is measured on, and where figures go.

    Args:
        tiny: Whether all models are small.
    """

    def __init__(self, *, tiny: bool) -> None:
        self.tiny = tiny
        self.device = choose_device()
        self.dtype = choose_dtype("bfloat16", self.device)
        self.card = "cpu"
        if self.device.type == "cuda":
            self.card = torch.cuda.get_device_name(self.device)

    def tell(self, part: str, **facts: Any) -> None:
        """Print a figure."""
        told = {"part": part, "device": self.card, **facts}
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()

    def generator(self, name: str) -> Diffusion:
        """Build a generator."""
        return build(name, device=self.device, dtype=self.dtype, tiny=self.tiny)[0]

    def seconds(self, call: Callable[[], object], *, times: int = TIMES) -> float:
        """Return the median seconds of a call, after one that does not count."""
        call()
        taken = []
        for _ in range(times):
            self.wait()
            began = time.perf_counter()
            call()
            self.wait()
            taken.append(time.perf_counter() - began)
        return median(taken)

    def wait(self) -> None:
        """Wait until the device has done all that it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak(self, *, reset: bool = False) -> float:
        """Return the most memory that tensors took until now, in GB."""
        if self.device.type != "cuda":
            return 0.0
        if reset:
            free_memory()
            torch.cuda.reset_peak_memory_stats()
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)

    def curve(
        self,
        part: str,
        call: Callable[[int], object],
        sizes: Iterable[int],
        **facts: Any,
    ) -> None:
        """Measure calls of each size, until the memory is spent."""
        for size in sizes:
            self.peak(reset=True)
            try:
                seconds = self.seconds(lambda size=size: call(size))
            except torch.cuda.OutOfMemoryError:
                self.tell(part, items=size, error="out of memory", **facts)
                return
            each = 1000 * seconds / size
            told = {"seconds": round(seconds, 5), "ms_each": round(each, 3)}
            self.tell(part, items=size, **told, peak_gb=self.peak(), **facts)


def requests(count: int, start: int = 0) -> list[tuple[str, int]]:
    """Return prompts with seeds."""
    return [(f"picture {number} of a thing", start + number) for number in range(count)]


def pictures(count: int, size: int = 512) -> list[Image.Image]:
    """Return images of noise."""
    chance = np.random.default_rng(0)
    levels = chance.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in levels]


def captioner(bench: Bench) -> None:
    """BLIP-2 with OPT-2.7b: captions of twenty tokens."""
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        BlipImageProcessor,
    )

    # The sizes are those of the model's card.
    vision = {"hidden_size": 1408, "num_hidden_layers": 39, "num_attention_heads": 16}
    text = {"hidden_size": 2560, "word_embed_proj_dim": 2560, "ffn_dim": 10240}
    text |= {"num_hidden_layers": 32, "num_attention_heads": 32}
    query, pixels = {}, 224
    if bench.tiny:
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        vision, query = small | {"intermediate_size": 16}, small
        query |= {"intermediate_size": 16, "encoder_hidden_size": 16}
        text, pixels = small | {"word_embed_proj_dim": 16, "ffn_dim": 16}, 28
    config = Blip2Config(
        vision_config=vision | {"image_size": pixels, "patch_size": 14},
        qformer_config=query,
        text_config=text | {"model_type": "opt", "vocab_size": VOCABULARY + 1000},
        num_query_tokens=32,
        image_token_index=VOCABULARY,
    )
    with quiet(), bench.device:
        model = Blip2ForConditionalGeneration(config).to(bench.dtype).eval()
    look = BlipImageProcessor(size={"height": pixels, "width": pixels})
    images = pictures(64)

    def caption(count: int) -> object:
        seen = look(images[:count], return_tensors="pt", device=bench.device)
        with torch.inference_mode(), quiet():
            return model.generate(
                seen["pixel_values"].to(bench.dtype),
                max_new_tokens=WORDS,
                min_new_tokens=WORDS,
                do_sample=False,
            ).cpu()

    bench.curve("captioner", caption, (1, 2, 4, 8, 16, 32, 64), model="blip2-opt-2.7b")


def scorer(bench: Bench) -> None:
    """CLIP ViT-B/32: an image and its text."""
    import open_clip

    pairs = [("a thing", image) for image in pictures(64)]
    for precision in ("fp32", "bf16"):
        with quiet():
            model, _, look = open_clip.create_model_and_transforms(
                "ViT-B-32", precision=precision, device=bench.device
            )
        tokens = open_clip.get_tokenizer("ViT-B-32")
        options = {"name": "random", "pretrained": "none", "precision": precision}
        score = Clip(model, look, tokens, **options).score
        bench.curve(
            "scorer",
            lambda count, score=score: score(pairs[:count]),
            (1, 4, 16, 64),
            model="ViT-B-32",
            dtype=precision,
        )


def generator(bench: Bench, name: str, sizes: Sequence[int]) -> None:
    """Call a generator in all sizes, as it is."""
    draw = bench.generator(name)
    bench.curve("generator", lambda count: draw(requests(count)), sizes, model=name)


def speeds(bench: Bench) -> None:
    """Compare what makes a generator faster."""
    name, size = "sd15", 8
    plain = bench.generator(name)
    call = dict(plain._call)  # noqa: SLF001 - the same steps and guidance
    for way, acceleration in (
        ("eager", Acceleration()),
        ("channels_last", Acceleration(channels_last=True)),
        ("channels_last, regional", Acceleration(compile="regional")),
    ):
        # Each is put upon the last: the weights are changed in place.
        draw = Diffusion(plain.pipeline, acceleration=acceleration, **call)
        began = time.perf_counter()
        draw(requests(size))
        first = time.perf_counter() - began
        seconds = bench.seconds(lambda draw=draw: draw(requests(size)))
        told = {"first": round(first, 2), "seconds": round(seconds, 4)}
        bench.tell("speed", model=name, items=size, way=way, **told)


def strict(bench: Bench) -> None:
    """Hold an image beside itself, drawn among others, and in calls of other sizes."""
    draw, mine = bench.generator("sd15"), ("picture of the same thing", 7)

    def drawn(place: int, size: int, start: int) -> np.ndarray[Any, Any]:
        asked = requests(size, start)
        asked[place] = mine
        image = draw(asked)[place]
        if isinstance(image, Exception):
            raise image
        return np.asarray(image).astype(int)

    first, alone = drawn(0, 4, 0), drawn(0, 1, 0)
    beside = [drawn(0, 4, start) for start in (100, 200, 300)]
    places = [drawn(place, 4, 0) for place in (1, 2, 3)]
    bench.tell(
        "strict",
        calls_of=4,
        equal_beside_others=f"{sum(bool((first == one).all()) for one in beside)} of 3",
        equal_in_other_places=f"{sum(bool((first == one).all()) for one in places)} of 3",
        equal_alone=bool((alone == drawn(0, 1, 5)).all()),
    )
    for size in (1, 2, 8):
        apart = np.abs(first - drawn(0, size, 0))
        psnr = float(10 * np.log10(255**2 / max((apart**2).mean(), 1e-12)))
        told = {
            "levels": int(apart.max()),
            "share": round(float((apart > 0).mean()), 4),
        }
        bench.tell("strict", calls_of=size, **told, psnr=round(psnr, 1))


def memory(bench: Bench) -> None:
    """Ask for more at once than there is memory for."""
    draw = bench.generator("sd15")
    draw(requests(1))
    stage: Stage[Any, Any] = Stage(
        name="generator", run=draw, max_batch=32, free_memory=free_memory
    )
    ballast = None
    if bench.device.type == "cuda":
        free_memory()
        free, _ = torch.cuda.mem_get_info()
        ballast = torch.empty(free - int(5e9), dtype=torch.uint8, device=bench.device)

    async def ask() -> tuple[int, float, list[Any]]:
        async with Worker() as worker:
            tasks = [worker.submit(stage, one) for one in requests(32)]
            began = time.perf_counter()
            images = await asyncio.gather(*tasks)
            told = worker.statistics().stages["generator"]
            return told.batches, time.perf_counter() - began, images

    calls, seconds, images = asyncio.run(ask())
    right = sum(isinstance(image, Image.Image) for image in images)
    told = {"asked": 32, "drawn": right, "calls": calls, "seconds": round(seconds, 2)}
    bench.tell("memory", **told, left_gb=5)
    del ballast


def thread(bench: Bench) -> None:
    """Draw in a thread, or in a process, beside a program that computes in Python."""
    name, size = "turbo", 8
    told = {"model": name, "items": size}
    draw = bench.generator(name)
    draw(requests(size))
    usual = sys.getswitchinterval()
    for interval in (usual, usual / 10):
        sys.setswitchinterval(interval)
        for share in SHARES:
            found: list[float] = []
            drawing = threading.Thread(
                target=lambda found=found: found.append(_rate(draw, size))
            )
            drawing.start()
            _busy(share, until=lambda drawing=drawing: not drawing.is_alive())
            drawing.join()
            rate = {"busy": share, "images_s": found[0]}
            bench.tell("thread", switch_s=interval, **rate, **told)
    sys.setswitchinterval(usual)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(
        target=_apart, args=(there, bench.tiny, name, size), daemon=True
    )
    child.start()
    here.recv()
    for share in SHARES:
        here.send(share)
        _busy(share, until=here.poll)
        bench.tell("process", busy=share, images_s=here.recv(), **told)
    here.send(None)
    child.join()


def _apart(pipe: Any, tiny: bool, name: str, size: int) -> None:  # noqa: FBT001 - crosses a process
    """Draw whenever asked to, in a process of its own."""
    draw = Bench(tiny=tiny).generator(name)
    draw(requests(size))
    pipe.send("ready")
    while pipe.recv() is not None:
        pipe.send(_rate(draw, size))


def _rate(draw: Diffusion, size: int) -> float:
    """Return images per second, as many as can be drawn in the time."""
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        draw(requests(size))
        calls += 1
    return round(calls * size / (time.perf_counter() - began), 3)


def _busy(share: float, *, until: Callable[[], bool]) -> None:
    """Compute in Python for a share of the time, as an event loop with work does."""
    while not until():
        over = time.perf_counter() + SLICE * share
        while time.perf_counter() < over:
            json.dumps({"some": ["work", 1, 2.0]})
        time.sleep(SLICE * (1 - share))


def steady(bench: Bench) -> None:
    """Let the worker's decisions serve an H200 in virtual time, with what it took."""
    from socratic_agents.lab.bench.simulated import run as virtual
    from socratic_agents.lab.bench.simulated.schedulers import SIMULATED_SCHEDULERS
    from socratic_agents.lab.bench.simulated.simulator import Case
    from socratic_agents.scheduler.cost_curve import CostCurve

    eyes = {"captioner": H200["captioner"], "scorer": H200["scorer"]}
    for name in ("sd15", "sdxl"):
        points = {"generator": H200[name], **eyes}
        curves = {
            stage: CostCurve(tuple(_filled(seen, n) for n in range(1, max(seen) + 1)))
            for stage, seen in points.items()
        }
        models: Any = SimpleNamespace(name=name, curves=curves)
        for loops in (32, 128):
            case = Case(total=4 * loops, llm_seconds=1.0, seed=0)
            most = virtual.bound(models, case, loops=loops)
            seen = virtual.measure(
                models, SIMULATED_SCHEDULERS["ours"], case, loops=loops
            )
            share = round(seen.loops_per_second / most, 3)
            bench.tell("steady", model=name, n=loops, efficiency=share)


def _filled(seen: Mapping[int, float], items: int) -> float:
    """Return the seconds of a call that is filled up as the worker does."""
    stage: Stage[Any, Any] = Stage(
        name="", run=list, max_batch=max(seen), bucketed=True
    )
    size = stage.padded_size(items, limit=max(seen))
    return float(np.interp(size, sorted(seen), [seen[n] for n in sorted(seen)]))


PARTS: dict[str, Callable[[Bench], None]] = {
    part.__name__: part
    for part in (captioner, scorer, strict, memory, thread, speeds, steady)
} | {
    "turbo": partial(generator, name="turbo", sizes=(1, 2, 4, 8, 16, 32)),
    "sd15": partial(generator, name="sd15", sizes=(1, 2, 4, 8, 16, 32)),
    "sdxl": partial(generator, name="sdxl", sizes=(1, 2, 4, 8)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts that are asked for."""
    parser = argparse.ArgumentParser(prog="python docs/gpu.py")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--tiny", action="store_true", help="small models, anywhere")
    options = parser.parse_args(arguments)
    bench = Bench(tiny=options.tiny)
    for name in options.parts or PARTS:
        began = time.perf_counter()
        PARTS[name](bench)
        gc.collect()
        free_memory()
        bench.tell("over", of=name, seconds=round(time.perf_counter() - began, 1))


if __name__ == "__main__":
    main()
