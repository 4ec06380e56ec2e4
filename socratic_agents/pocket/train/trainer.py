"""One resumable training loop for every pocket model."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ("fit",)

LOG_EVERY = 50
SAVE_EVERY = 250


def fit(
    module: torch.nn.Module,
    loss: Callable[[int], torch.Tensor],
    folder: Path,
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    float32_share: float = 0.0,
    after_step: Callable[[int], None] = lambda _: None,
    evaluate: Callable[[int], dict[str, float]] = lambda _: {},
    evaluate_every: int = 1000,
) -> None:
    """Train a module, resuming from its last checkpoint if there is one.

    The rate warms up over 100 steps and then falls along a cosine to a hundredth.

    Args:
        module: The module; parameters without gradients are not trained.
        loss: Step number -> loss of a fresh batch.
        folder: Gets ``checkpoint.pt`` and ``log.jsonl``.
        steps: How many steps in all.
        learning_rate: Highest learning rate (AdamW).
        weight_decay: Of AdamW.
        float32_share: Share of the steps, at the end, that run without bfloat16.
        after_step: Called after every step, such as to average the weights.
        evaluate: Step number -> metrics for the log.
        evaluate_every: Steps between two evaluations.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=weight_decay
    )
    checkpoint, start = folder / "checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
    device = parameters[0].device.type
    losses: list[float] = []
    began = time.perf_counter()
    for step in range(start, steps):
        share = step / steps
        fall = 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 100) * fall
        with torch.autocast(device, torch.bfloat16, enabled=share < 1 - float32_share):
            value = loss(step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        after_step(step)
        losses.append(value.item())
        done = step + 1
        if done % LOG_EVERY == 0 or done == steps:
            metrics = {"loss": sum(losses) / len(losses)}
            losses = []
            if done % evaluate_every == 0 or done == steps:
                metrics |= evaluate(done)
            _log(folder, done, time.perf_counter() - began, metrics)
        if done % SAVE_EVERY == 0 or done == steps:
            state = {
                "module": module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": done,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)


def _log(folder: Path, step: int, seconds: float, metrics: dict[str, float]) -> None:
    line = {"step": step, "seconds": round(seconds, 1)}
    line |= {name: round(value, 4) for name, value in metrics.items()}
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    print(folder.name, line, flush=True)
