"""Extras: packages that a plain installation leaves out, and what to do without one."""

from __future__ import annotations

import re
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("install_line", "is_installed", "needs_extra", "require")

EXTRAS: dict[str, tuple[str, ...]] = {
    "local": (
        *("accelerate", "diffusers", "gguf", "huggingface_hub", "llguidance"),
        *("num2words", "open_clip", "peft", "protobuf", "psutil", "safetensors"),
        *("sentencepiece", "tokenizers", "torch", "torchvision", "transformers"),
    ),
    "lab": ("huggingface_hub", "matplotlib", "pooch", "pyarrow", "sacrebleu", "scipy"),
    "quantization": ("bitsandbytes",),
    "gepa": ("gepa",),
    "ray": ("ray",),
}
"""Each extra with the modules that it brings."""

_IMPORTED_AS = {"protobuf": "google.protobuf"}


def install_line(error: ImportError) -> str | None:
    """Return the command that installs what an import missed.

    Args:
        error: Of the import. Libraries that look for another one themselves name it
            in the text alone.

    Returns:
        ``None`` if no extra of this package brings it.
    """
    missed = _missed(error)
    return missed and _command(missed)


@contextmanager
def needs_extra(purpose: str, *, extra: str | None = None) -> Iterator[None]:
    """Turn the failed import of what an extra brings into one line.

    Args:
        purpose: What it is for, such as ``"to draw plots"``.
        extra: The one to name where several bring it; ``None``: the first.

    Raises:
        ConfigurationError: If an import failed of what an extra brings.
    """
    try:
        yield
    except ImportError as error:
        missed = _missed(error)
        if missed is None:
            raise
        # One that is there and broken says itself what is wrong with it.
        found = (
            "none"
            if isinstance(error, ModuleNotFoundError)
            else " ".join(str(error).split())[:200]
        )
        message = (
            f"expected {missed} {purpose}, got {found}; run {_command(missed, extra)}"
        )
        raise ConfigurationError(message) from error


def require(*modules: str, purpose: str) -> None:
    """Check what will be needed at the end of long work, before it begins.

    Args:
        modules: Of extras.
        purpose: As for ``needs_extra``.

    Raises:
        ConfigurationError: If one is not installed.
    """
    with needs_extra(purpose):
        for module in modules:
            if not is_installed(module):
                raise ModuleNotFoundError(name=module)


def is_installed(module: str) -> bool:
    """Return whether a module of an extra is there; it is not imported."""
    try:
        return find_spec(_IMPORTED_AS.get(module, module)) is not None
    except (ImportError, ValueError):  # its parent is not, or it is hidden on purpose
        return False


def _command(module: str, wanted: str | None = None) -> str:
    bringing = [extra for extra, modules in EXTRAS.items() if module in modules]
    extra = wanted if wanted in bringing else bringing[0]
    return f"pip install 'socratic-agents[{extra}]'"


def _missed(error: ImportError) -> str | None:
    """Return the module of an extra that an import missed.

    A text may name several, such as who looked for it; then it is one that is not there.
    """
    named = (error.name or "").partition(".")[0]
    words = (named, *re.findall(r"\w+", str(error).lower()))
    known = [word for word in words if any(word in some for some in EXTRAS.values())]
    return next(
        (one for one in known if not is_installed(one)), next(iter(known), None)
    )
