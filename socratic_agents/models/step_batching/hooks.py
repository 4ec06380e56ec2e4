"""What a pipeline calls at each step, its proxy, and what may not be on it."""

from __future__ import annotations

import copy
import functools
import inspect
import re
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = (
    "DenoiserProxy",
    "check_caches",
    "check_step_batching",
    "denoisers",
    "signature_of",
    "stateful_hooks",
    "with_part",
)

DENOISERS = ("unet", "transformer", "transformer_2")
"""Where pipelines keep what they call at each step."""

ADAPTIVE = ("FBC", "SeaCache", "TeaCache")
"""Hooks of diffusers that skip work where the mean over all rows changed little."""
ADAPTIVE_MARKS = ("enable_teacache", "_is_cached")
"""What the adaptive caches of other libraries leave on a model or its class."""

COUPLED = re.compile("PAG|CrossFrame|SharedAtt|StyleAligned")
"""Attention processors that let the rows of a batch look at each other."""


class DenoiserProxy:
    """Stands in for a part of a pipeline: a few methods are its own, all else the part's.

    Args:
        part: What it stands in for; it stays as it is.
        call: What to do when it is called; ``None``: what the part does.
        methods: What else to do in the part's place, by name.
    """

    def __init__(
        self, part: Any, call: Callable[..., Any] | None = None, **methods: Any
    ) -> None:
        vars(self).update(methods, _part=part, _call=call or part)

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:
        """Be an instance of the part's class for those who ask."""
        return self._part.__class__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what is to be done when the part is called."""
        return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


def denoisers(pipeline: Any) -> dict[str, Any]:
    """Return what the pipeline calls at each step, by the names of its parts."""
    parts = {name: getattr(pipeline, name, None) for name in DENOISERS}
    return {name: part for name, part in parts.items() if callable(part)}


def with_part(pipeline: Any, name: str, part: Any) -> Any:
    """Return a shallow copy of a pipeline with another part; the old one stays whole.

    Past the pipeline's own ``__setattr__``, which would write into the configuration
    that both share.
    """
    changed = copy.copy(pipeline)
    vars(changed)[name] = part
    return changed


def stateful_hooks(model: Any) -> list[str]:
    """Return the names of hooks that remember something from call to call."""
    modules = model.modules() if callable(getattr(model, "modules", None)) else ()
    registries = [getattr(module, "_diffusers_hook", None) for module in modules]
    hooks = [h for r in registries if r is not None for h in r.hooks.values()]
    return sorted({type(hook).__name__ for hook in hooks if hook._is_stateful})  # noqa: SLF001 - diffusers has no other word for it


def check_caches(pipeline: Any) -> None:
    """Check that no adaptive cache makes an image depend on its neighbours.

    Raises:
        ConfigurationError: If one is switched on: it decides for a whole batch at
            once, by a mean over all rows, whether a step may be skipped.
    """
    for name, model in denoisers(pipeline).items():
        found = [h for h in stateful_hooks(model) if h.startswith(ADAPTIVE)]
        found += [mark for mark in ADAPTIVE_MARKS if getattr(model, mark, False)]
        if found:
            message = (
                f"expected a {name} whose rows do not depend on each other, got one "
                f"with an adaptive cache ({', '.join(found)}), which skips steps for "
                "all rows at once; switch the cache off"
            )
            raise ConfigurationError(message)


def check_step_batching(pipeline: Any) -> None:
    """Check that the calls of a pipeline's denoiser can be joined.

    Raises:
        ConfigurationError: If they cannot, as far as it can be seen from outside.
    """
    check_caches(pipeline)
    found = denoisers(pipeline)
    reasons = [] if found else ["it has no unet and no transformer"]
    if not hasattr(pipeline, "scheduler"):
        reasons.append("it has no scheduler")
    if getattr(pipeline, "_all_hooks", None):
        reasons.append("it moves its models on and off the device (offload 'model')")
    if hasattr(pipeline, "set_pag_applied_layers"):
        reasons.append("it changes its denoiser while it draws")
    for name, model in found.items():
        reasons += [f"its {name} has {hook}" for hook in stateful_hooks(model)]
        processors = getattr(model, "attn_processors", {}).values()
        kinds = sorted({type(processor).__name__ for processor in processors})
        reasons += [f"its {name} has {k}" for k in kinds if COUPLED.search(k)]
        if not _takes(model):
            reasons.append(f"its {name} does not say what it takes")
    if reasons:
        message = (
            f"expected a pipeline whose images can share steps, got a "
            f"{type(pipeline).__name__}, but {', and '.join(reasons)}; choose batching "
            "'request'"
        )
        raise ConfigurationError(message)


def signature_of(model: Any) -> inspect.Signature:
    """Return what a denoiser's forward takes."""
    # Of the class: hooks and compilers hide the instance's.
    return _of_class(getattr(model, "_orig_mod", model).__class__)


@functools.cache  # it is asked at every step, and takes longer than a copy
def _of_class(kind: type[Any]) -> inspect.Signature:
    return inspect.signature(kind.forward)


def _takes(model: Any) -> bool:
    """Return whether a denoiser names what it takes."""
    if not hasattr(model.__class__, "forward"):
        return False
    _, *parameters = signature_of(model).parameters.values()
    nameless = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
    return bool(parameters) and all(p.kind not in nameless for p in parameters)
