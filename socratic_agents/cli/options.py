"""The settings as options of the command line."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("with_settings",)

SETTINGS = {
    "profile": (
        "NAME",
        "Where the other settings start from: pocket, local, api, classic.",
    ),
    "preset": ("NAME", "The policy: quick, default, thorough, or classic."),
    "generator": ("NAME", "Text to image: pocket, hub id, folder, or http(s)://…/v1."),
    "captioner": ("NAME", "Image to text: pocket, hub id, or folder."),
    "scorer": (
        "NAME",
        "Image and text to score: pocket, open_clip model/tag, or none.",
    ),
    "llm": ("NAME", "Language model: pocket, or provider:model."),
    "judge": (
        "NAME",
        "When to stop: checklist, caption, vision, score:0.8, or never.",
    ),
    "selector": (
        "NAME",
        "What to return: checklist, clip, caption, vision, first, or last.",
    ),
    "guard": ("NAME", "Check rewrites before they are drawn: llm, or none."),
    "answerer": ("NAME", "Who answers the checklist: captioner, or llm."),
    "optimizer_template": ("NAME", "Shipped template, or a YAML file."),
    "judge_template": ("NAME", "Shipped template, or a YAML file."),
    "selector_template": ("NAME", "Shipped template, or a YAML file."),
    "checklist_template": ("NAME", "Shipped template, or a YAML file."),
    "answerer_template": ("NAME", "Shipped template, or a YAML file."),
    "guard_template": ("NAME", "Shipped template, or a YAML file."),
    "rounds": ("N", "Rounds at most; the first draws the user prompt."),
    "prompts_per_round": ("N", "Rewrites in each round."),
    "seeds_per_prompt": ("N", "Images of each prompt."),
    "max_images": ("N", "Images of one refinement at most."),
    "budget": (
        "LIMITS",
        "Of one refinement: images=…,llm-calls=…,tokens=…,money=…,seconds=…",
    ),
    "run_budget": ("LIMITS", "The same for the whole run."),
    "prices": ("PRICES", "For money: image=…,input-tokens=…,output-tokens=…"),
    "seed": ("N", "Where all noise comes from."),
    "image_model": ("NAME", "Model that an images server is asked for."),
    "steps": ("N", "Denoising steps."),
    "guidance_scale": ("X", "Strength of the prompt."),
    "width": ("PIXELS", "Of the image; a multiple of 8."),
    "height": ("PIXELS", "Of the image; a multiple of 8."),
    "dtype": ("NAME", "Of the weights: float32, float16, or bfloat16."),
    "quantization": ("BITS", "Of the weights: 4bit, 8bit, or none."),
    "batching": ("NAME", "What shares a batch: request, or step (experimental)."),
    "compile": ("NAME", "Compile the denoiser: regional, full, or none."),
    "vae_batch": ("N", "Images that are decoded at once."),
    "workers": ("WHERE", "Image models run in: process, ray, or ray://HOST:PORT."),
}
"""Settings that are options: metavar and help. Settings itself checks the values."""

FLAGS = {
    "receipt": "Compare each result with as many images of the user prompt alone.",
    "speculate": "Write the next prompts while the judge still thinks.",
    "strict": "Draw alike to the last bit, whatever else is drawn beside.",
    "channels_last": "Keep the generator's weights as tensor cores read them.",
    "metadata": "Write into each image what it was made from.",
}
"""Settings that are switched by an option without a value, on or, with no-, off."""


def with_settings(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command every setting as an option; they arrive as ``overrides``."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> int:
        given = {name: kwargs.pop(name) for name in (*SETTINGS, *FLAGS)}
        overrides = {name: value for name, value in given.items() if value is not None}
        return command(*args, overrides=overrides, **kwargs)

    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "overrides"]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(metavar=metavar, help=text, rich_help_panel="Settings"),
            ],
        )
        for name, (metavar, text) in SETTINGS.items()
    ]
    flags = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                bool | None,
                typer.Option(
                    "--{0}/--no-{0}".format(name.replace("_", "-")),
                    help=text,
                    rich_help_panel="Settings",
                ),
            ],
        )
        for name, text in FLAGS.items()
    ]
    parameters = [*own, *options, *flags]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped
