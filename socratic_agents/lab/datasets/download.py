"""Where prompt sets come from: fetched once, into the user's cache folder."""

from __future__ import annotations

import hashlib
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.extras import needs_extra
from socratic_agents.scheduler.cost_model import cache_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("Source", "cache_folder", "fetch")

TIMEOUT = 30
"""Seconds without a byte after which a download has failed."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file that a prompt set is made of, where it is published."""

    name: str
    """Its name in the cache folder; its ending says how it is read."""
    url: str
    """For people, and for fetching what is not on the Hugging Face hub."""
    revision: str
    """The commit; the name of a branch where no commit could be learned."""
    sha256: str | None = None
    """What the file must have; ``None`` where nobody could compute it for us."""
    hub: str | None = None
    """``owner/name`` of the hub's dataset that holds the file."""


def cache_folder() -> Path:
    """Return the folder that holds what was fetched."""
    return cache_file().with_name("prompt_sets")


def fetch(source: Source, folder: Path) -> Path:
    """Return the file of a source, which is downloaded if it is not there yet.

    Args:
        source: What to get. If its sha256 is known, the file has it.
        folder: Where it is kept.

    Raises:
        ConfigurationError: If it cannot be had, or is another than was published.
    """
    kept = folder / source.revision / source.name
    get = _from_hub if source.hub else _from_web
    try:
        return get(source, kept)
    except ConfigurationError:
        raise
    except (OSError, ValueError) as error:
        lines = " ".join(str(error).split())[:200]
        message = (
            f"expected {source.name} from {source.url}, which cannot be had "
            f"({type(error).__name__}: {lines}); check the network, or get it yourself "
            "and give it with --file"
        )
        raise ConfigurationError(message) from error


def _from_web(source: Source, kept: Path) -> Path:
    with needs_extra(f"to download {source.url}"):
        import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    if not kept.exists():
        _tell(source)
    # It writes a temporary file first, and keeps none whose hash is another.
    pooch.retrieve(
        source.url,
        known_hash=source.sha256 and f"sha256:{source.sha256}",
        fname=kept.name,
        path=kept.parent,
        downloader=pooch.HTTPDownloader(timeout=TIMEOUT),
    )
    return kept


def _from_hub(source: Source, kept: Path) -> Path:
    with needs_extra(f"to download {source.url}", extra="lab"):
        from huggingface_hub import hf_hub_download
        from huggingface_hub import logging as hub_log

    if not kept.exists():
        _tell(source)
        verbosity = hub_log.get_verbosity()
        hub_log.set_verbosity(logging.ERROR)  # one line says it all
        try:
            hf_hub_download(
                source.hub or "",
                source.name,
                repo_type="dataset",
                revision=source.revision,
                local_dir=kept.parent,
            )
        except Exception as error:  # it raises what its own client raises
            raise OSError(str(error)) from error
        finally:
            hub_log.set_verbosity(verbosity)
    found = hashlib.sha256(kept.read_bytes()).hexdigest()
    if source.sha256 not in {None, found}:
        kept.unlink()
        message = f"its sha256 is {found}, expected {source.sha256}"
        raise ValueError(message)
    return kept


def _tell(source: Source) -> None:
    sys.stderr.write(f"downloading {source.url}\n")
