"""Schedulers by name, of those that a pipeline's model was trained for."""

from __future__ import annotations

import inspect
import math
from typing import Any

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.text import error_line

__all__ = ("set_scheduler",)

NAMES = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "deis": "DEISMultistepScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm++-single": "DPMSolverSinglestepScheduler",
    "dpm++-sde": "DPMSolverSDEScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "kdpm2": "KDPM2DiscreteScheduler",
    "kdpm2-ancestral": "KDPM2AncestralDiscreteScheduler",
    "lcm": "LCMScheduler",
    "lms": "LMSDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "tcd": "TCDScheduler",
    "unipc": "UniPCMultistepScheduler",
    "flow-euler": "FlowMatchEulerDiscreteScheduler",
    "flow-lcm": "FlowMatchLCMScheduler",
}
"""What schedulers are called for short."""
ALIKE = (
    {"DDIMScheduler", "LCMScheduler", "TCDScheduler"},
    {"FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler"},
)
"""Schedulers that may stand for each other, though diffusers does not say so."""
UNLIKE = {"EDMEulerScheduler"}
"""Schedulers that are not for models of other families, though diffusers says so."""

_SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
OPTIONS: dict[str, dict[str, Any]] = {
    **{name.split("_")[1]: {one: one == name for one in _SIGMAS} for name in _SIGMAS},
    **{
        name: {"timestep_spacing": name} for name in ("leading", "linspace", "trailing")
    },
    "sde": {"algorithm_type": "sde-dpmsolver++"},
    "stochastic": {"stochastic_sampling": True},
    "v-prediction": {"prediction_type": "v_prediction"},
    "zero-snr": {"rescale_betas_zero_snr": True},
}
"""What can be said after the name."""
NUMBERS = ("shift", "eta", "solver_order")
"""Options with a number, such as ``shift=3``."""


def set_scheduler(pipeline: Any, text: str) -> None:
    """Give a pipeline another scheduler, with all that its model was trained with.

    Args:
        pipeline: As it was opened.
        text: A name, short or as of the class, and options after colons, such as
            ``dpm++:karras`` or ``flow-euler:shift=3``.

    Raises:
        ConfigurationError: If it does not fit the pipeline, or an option the scheduler;
            the message names those that do.
    """
    name, *options = text.split(":")
    own = pipeline.scheduler
    fitting = _fitting(own)
    wanted = NAMES.get(name.strip().lower(), name.strip())
    if wanted not in fitting:
        short = {cls: known for known, cls in NAMES.items()}
        names = ", ".join(sorted(short.get(one, one) for one in fitting))
        message = (
            f"expected a scheduler that fits {type(pipeline).__name__} ({names}), got "
            f"{name!r}; choose one"
        )
        raise ConfigurationError(message)
    kind = fitting[wanted]
    values = _values(options, kind)
    if "clip_sample" not in own.config:  # it is for pixels, and these are latents
        values["clip_sample"] = False
    try:
        pipeline.scheduler = kind.from_config(own.config, **values)
    except (ValueError, NotImplementedError, ImportError) as error:
        message = (
            f"expected a scheduler that can be made, got {text!r}, which cannot "
            f"({error_line(error)}); leave an option out, or choose another"
        )
        raise ConfigurationError(message) from error


def _fitting(own: Any) -> dict[str, Any]:
    """Return the classes that a scheduler may be replaced with, by name."""
    import diffusers

    if not hasattr(own, "compatibles"):
        return {type(own).__name__: type(own)}
    names = {cls.__name__ for cls in own.compatibles} - UNLIKE
    for alike in ALIKE:
        if names & alike:
            names |= alike
    classes = {name: getattr(diffusers, name, None) for name in names}
    return {
        name: cls
        for name, cls in classes.items()
        # What needs a package that is not there is a dummy.
        if cls is not None and ".dummy_" not in cls.__module__
    }


def _values(options: list[str], kind: Any) -> dict[str, Any]:
    """Return the arguments that options stand for."""
    takes = inspect.signature(kind.__init__).parameters.keys()
    fitting = [name for name, values in OPTIONS.items() if _needed(values) <= takes]
    fitting += [f"{name}=NUMBER" for name in NUMBERS if name in takes]
    found: dict[str, Any] = {}
    for option in options:
        name, equals, number = option.strip().partition("=")
        if equals:
            values: dict[str, Any] = {name: _number(number)} if name in NUMBERS else {}
        else:
            values = OPTIONS.get(name, {})
        if not values or None in values.values() or not _needed(values) <= takes:
            message = (
                f"expected options of {kind.__name__} ({', '.join(fitting)}), got "
                f"{option!r}; leave it out"
            )
            raise ConfigurationError(message)
        found |= {one: value for one, value in values.items() if one in takes}
    return found


def _needed(values: dict[str, Any]) -> set[str]:
    """Return which arguments a scheduler must take for an option."""
    return {name for name, value in values.items() if value is not False}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else number
