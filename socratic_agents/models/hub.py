"""Hub: whether a model is on this machine, and if not, whether the hub gives it out.

The libraries ask the hub again and again where it cannot be reached, for minutes, and
then say that a file is missing. Here it is asked once, and what it says is told.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from socratic_agents.core.errors import LoadError
from socratic_agents.core.text import error_line, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = (
    "HubProblem",
    "cached_file",
    "cached_folder",
    "hub_options",
    "hub_problem",
    "unfinished",
)

SECONDS = 10.0
"""What connecting may take, and each wait for an answer."""
_LIGHT = re.compile("(Scheduler|Tokenizers?|Processor|Extractor)(Fast|Backend)?$")
"""Classes of a pipeline's parts that have no weights."""
LINE = 200
"""Characters of the hub's own words that are repeated."""


@dataclass(frozen=True)
class HubProblem:
    """Why the hub does not give a model out."""

    reason: str
    advice: str
    everywhere: bool = False
    """Whether it is the same for every model: the hub is not reached."""

    def error(self, what: str, name: str) -> LoadError:
        """Return it as an error about a model.

        Args:
            what: What was expected, such as ``"a text-to-image model"``.
            name: What was asked for.
        """
        message = (
            f"expected {what}, got {name!r}, which is not on this machine, and "
            f"{self.reason}; {self.advice}"
        )
        return LoadError(message)


def hub_options(
    what: str, name: str, *, index: str, revision: str | None
) -> dict[str, Any]:
    """Return with which arguments the libraries open a model of the hub.

    Args:
        what: What is expected, such as ``"a text-to-image model"``.
        name: The model's hub id.
        index: The file that every model of this kind has.
        revision: Branch, tag or commit; ``None`` is ``main``.

    Raises:
        LoadError: If it is not on this machine, and the hub does not give it out; it
            says why, on one line.
    """
    options: dict[str, Any] = {} if revision is None else {"revision": revision}
    problem = hub_problem(name, index=index, revision=revision)
    if problem is None:
        return options
    if cached_folder(name, index=index, revision=revision) is not None:
        return options | {"local_files_only": True}
    raise problem.error(what, name)


def cached_folder(name: str, *, index: str, revision: str | None = None) -> Path | None:
    """Return where the hub's cache has a whole model, or ``None``.

    Args:
        name: The model's hub id.
        index: The file that every model of this kind has.
        revision: Branch, tag or commit; ``None`` is ``main``.
    """
    found = cached_file(name, index, revision=revision)
    if found is None or next(unfinished(found.parent), None) is not None:
        return None
    return found.parent


def cached_file(name: str, file: str, *, revision: str | None = None) -> Path | None:
    """Return where the hub's cache has one file of a model, or ``None``.

    Args:
        name: The model's hub id.
        file: Its path there.
        revision: Branch, tag or commit; ``None`` is ``main``.
    """
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, file, revision=revision)
    except ValueError:  # no model can have that name
        return None
    return Path(found) if isinstance(found, str) else None


def unfinished(folder: Path) -> Iterator[str]:
    """Yield what a model's folder lacks, such as a download that broke off leaves.

    Args:
        folder: Of a pipeline, or of one model.
    """
    places = [folder]
    pipeline = folder / "model_index.json"
    if pipeline.is_file():
        parts = _json(pipeline)
        named = [
            folder / part
            for part, of in parts.items()
            if isinstance(of, list) and all(isinstance(word, str) for word in of)
        ]
        yield from (f"{part.name}/" for part in named if not part.is_dir())
        places = [
            part
            for part in named
            if part.is_dir() and not _LIGHT.search(parts[part.name][1])
        ]
    for place in places:
        shards = {
            shard
            for file in place.glob("*.safetensors.index*.json")
            for shard in _json(file).get("weight_map", {}).values()
        }
        lacking = sorted(one for one in shards if not (place / str(one)).is_file())
        yield from lacking
        if not shards and not any(place.glob("*.safetensors")):
            yield f"{place.name}/*.safetensors"


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def hub_problem(name: str, *, index: str, revision: str | None) -> HubProblem | None:
    """Return why the hub does not give a model out; ``None``: it does.

    It is asked once, for the head of one file, and never where the environment says
    that it must not be.

    Args:
        name: The model's hub id.
        index: The file that every model of this kind has.
        revision: Branch, tag or commit; ``None`` is ``main``.
    """
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    if constants.HF_HUB_OFFLINE:
        return HubProblem(
            "this is offline: HF_HUB_OFFLINE says that the hub must not be asked",
            f"run 'hf download {name}' where it may be, or unset HF_HUB_OFFLINE",
            everywhere=True,
        )
    try:
        url = hf_hub_url(name, index, revision=revision)
    except ValueError as error:
        return HubProblem(f"it can be no hub's ({error_line(error)})", "check the name")
    try:
        response = get_session().head(
            url, headers=build_hf_headers(), timeout=SECONDS, follow_redirects=False
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, there is no answer
        return _unreachable(error, url)
    if response.status_code < HTTPStatus.BAD_REQUEST:
        return None
    return _refusal(response, name, index, revision)


def _unreachable(error: BaseException, url: str) -> HubProblem:
    """Say why there was no answer, by the first cause."""
    place = urlsplit(url).netloc.rpartition("@")[2]
    causes = list(_causes(error))
    proxy = getproxies().get(urlsplit(url).scheme)
    through = ", through a proxy of the environment" if proxy else ""
    advice = "check the network, or give the folder of the model"
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        if proxy:
            place = urlsplit(proxy).netloc.rpartition("@")[2] or proxy
        reason = f"no address is known of {place} (DNS){through}"
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        reason = f"{place} refuses the connection{through}"
        if proxy:
            advice = "check HTTP_PROXY and HTTPS_PROXY, or give the model's folder"
    elif any(isinstance(cause, ssl.SSLError) for cause in causes):
        reason = f"the certificate of {place} cannot be verified{through}"
        advice = "check the clock, and SSL_CERT_FILE behind a proxy of a company"
    elif any("Timeout" in type(cause).__name__ for cause in causes):
        reason = f"{place} does not answer within {SECONDS:.0f} s{through}"
    else:
        reason = f"{place} cannot be reached{through} ({error_line(causes[-1])})"
    return HubProblem(reason, advice, everywhere=True)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _refusal(response: Any, name: str, index: str, revision: str | None) -> HubProblem:
    """Say what a status of the hub means for this model."""
    from huggingface_hub import constants, get_token

    status, code = response.status_code, response.headers.get("x-error-code")
    place = urlsplit(constants.ENDPOINT).netloc.rpartition("@")[2]
    words = one_line(response.headers.get("x-error-message", ""), LINE)
    told = f"HTTP {status}" + (f": {words}" if words else "")
    page = f"{urlsplit(constants.ENDPOINT).scheme}://{place}/{name}"
    token = "the token of this machine" if get_token() else "no token, set HF_TOKEN"
    gated = HubProblem(
        f"it is gated: {place} gives it only to those who were let in ({told})",
        f"accept its terms at {page}, with an account whose token is HF_TOKEN",
    )
    known = {
        "GatedRepo": gated,
        HTTPStatus.FORBIDDEN: gated,
        "RevisionNotFound": HubProblem(
            f"{place} has no revision {revision or 'main'!r} of it ({told})",
            f"see {page}",
        ),
        "EntryNotFound": HubProblem(
            f"{place} has it without {index}, which a model of this kind has ({told})",
            f"see {page}, or name another model",
        ),
        HTTPStatus.NOT_FOUND: HubProblem(
            f"it is not found: {place} has no model of this name ({told})",
            "check the name",
        ),
        HTTPStatus.UNAUTHORIZED: HubProblem(
            f"{place} has no model of this name, or not for everybody ({told}; {token})",
            f"check the name and the token; see {page}",
        ),
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: HubProblem(
            f"the proxy of the environment wants a password ({told})",
            "put it into HTTPS_PROXY",
            everywhere=True,
        ),
    }
    other = HubProblem(
        f"{place} answers {told}",
        "try again later, or give its folder",
        everywhere=True,
    )
    return known.get(code) or known.get(status, other)
