"""The command ``socratic doctor``: what an installation has, and what stands in the way."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from datetime import date
from importlib import metadata, resources
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from socratic_agents.cli.options import with_settings
from socratic_agents.config.catalog import LANGUAGE_MODEL
from socratic_agents.config.fields import CHOICE
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.extras import install_line, is_installed
from socratic_agents.core.prompts import sanitize_for_terminal
from socratic_agents.runtime.readiness.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from socratic_agents.config.settings import Settings
    from socratic_agents.llm.probe import Probe

__all__ = ("checks", "register")

PACKAGES = {
    "socratic-agents": None,
    "torch": "torch",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "open_clip_torch": "open_clip",
    "langchain": None,
    "langchain-openai": None,
    "pydantic": None,
    "pillow": None,
}
"""Each with its module, where only some choices need it."""
KEYS = (
    *("OPENAI_API_KEY", "SOCRATIC_API_KEY", "SOCRATIC_IMAGE_API_KEY"),
    "HF_TOKEN",
)
ASKED = "language model"
"""The finding on one that was asked."""
YES = frozenset(("1", "on", "true", "yes"))


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("doctor")(_doctor)


@with_settings
def _doctor(
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help=f"Language model to ask, such as {LANGUAGE_MODEL}.",
            show_default="the setting llm",
        ),
    ] = None,
    *,
    llm: Annotated[
        bool,
        typer.Option(
            "--llm", help="Send the language model one tiny request for each method."
        ),
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A run, of which it is told how much the seed changed its images.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what is found as JSON on stdout.")
    ] = False,
    overrides: dict[str, Any],
) -> int:
    """Check what the settings need: packages, card, memory, models, keys, licences.

    A line each, OK, WARN or FAIL; exit code 1 if one is FAIL, and 2 if that is the
    settings or the language model that --llm asked. The hub is asked for
    models of the settings that are not on this machine, unless HF_HUB_OFFLINE is set;
    nothing else leaves it, unless --llm asks for it.
    """
    if model is not None and not llm:
        message = f"expected --llm beside the model {model!r}, got none; add --llm"
        raise ConfigurationError(message)
    from socratic_agents.config.settings import Settings

    named = {} if model is None else {"llm": model}
    found: list[Finding] = []

    def tell(findings: Iterator[Finding]) -> None:
        for finding in findings:
            found.append(finding)
            if not as_json:
                typer.echo(sanitize_for_terminal(str(finding)))

    tell(checks(overrides=overrides | named))
    if run is not None:
        from socratic_agents.runtime.readiness.past_run import run_findings

        tell(run_findings(run))
    failed = {one.name for one in found if one.state == "problem"}
    settings = None if "settings" in failed else Settings(**overrides | named)
    probed: dict[str, Any] | None = None
    if llm and settings is not None:
        findings, probed = _asked(ctx, settings)
        tell(iter(findings))
    if as_json:
        shown = {
            "schema": 1,
            "choice": settings and {n: settings.public()[n] for n in CHOICE},
            "findings": list(map(asdict, found)),
            "llm": probed,
        }
        typer.echo(json.dumps(shown))
    failed = {one.name for one in found if one.state == "problem"}
    return 2 if failed & {"settings", ASKED} else 1 if failed else 0


def _asked(
    ctx: typer.Context, settings: Settings
) -> tuple[list[Finding], dict[str, Any] | None]:
    """Ask the language model; return what is said of it, and what came as JSON."""
    if settings.llm == "captioner":
        text = "captioner: it is opened with a run, and nothing is sent beforehand"
        return [Finding("ok", ASKED, text)], None
    try:
        probes, advice = ctx.obj.interruption.run(_probes(settings))
    except ConfigurationError as error:
        return [Finding("problem", ASKED, str(error))], None
    return list(_probe_findings(settings, probes, advice)), {
        "model": str(settings.llm),
        "base_url": settings.base_url,
        "method": next((one.method for one in probes if one.works), None),
        "methods": [one.to_json() for one in probes],
        "advice": advice,
    }


async def _probes(settings: Settings) -> tuple[list[Probe], list[str]]:
    """Ask the language model by each method; return what came, and what to set."""
    from socratic_agents.llm.probe import probe_methods, recommendations
    from socratic_agents.runtime.build import check_keys
    from socratic_agents.runtime.language_model import (
        is_own_server,
        open_http_client,
        open_language_model,
        open_rate_limiter,
    )

    if settings.llm == "pocket":
        message = (
            "expected a language model over the network, got 'pocket', which is part of "
            "this package; name one, such as 'socratic doctor --llm "
            f"{LANGUAGE_MODEL}'"
        )
        raise ConfigurationError(message)
    check_keys(settings, speaks=True)
    client = open_http_client(settings)
    try:
        llm = open_language_model(settings, client=client)
        probes = [probe async for probe in probe_methods(llm)]
        slots = None
        if is_own_server(settings, llm):
            slots = open_rate_limiter(settings, llm).concurrency
        return probes, recommendations(probes, timeout=settings.timeout, slots=slots)
    finally:
        if client is not None:
            await client.aclose()


def _probe_findings(
    settings: Settings, probes: list[Probe], advice: list[str]
) -> Iterator[Finding]:
    """Say of each method whether it works, which is used, and what to set."""
    for probe in probes:
        took = "" if probe.seconds is None else f"{probe.seconds:.1f} s"
        if speed := probe.tokens_per_second:
            took += f", {probe.output_tokens} tokens, {speed:.1f} tokens/s"
        state = "ok" if probe.works else "warning"
        said = "works" if probe.works else probe.detail
        yield Finding(
            state, f"llm {probe.method}", ": ".join(filter(None, [said, took]))
        )
    used = next((probe.method for probe in probes if probe.works), None)
    if used is None:
        yield Finding("problem", ASKED, "; ".join(advice))
        return
    text = f"{settings.llm} is asked by {used}; "
    yield Finding(
        "warning" if advice else "ok",
        ASKED,
        text + ("; ".join(advice) or "there is nothing to set"),
    )


def checks(
    environment: Mapping[str, str] = os.environ,
    *,
    overrides: Mapping[str, Any] | None = None,
    today: date | None = None,
) -> Iterator[Finding]:
    """Check versions, devices, settings, keys and weights, one after the other.

    No value of a key is ever shown, only whether there is one.

    Args:
        environment: The variables that are set.
        overrides: Settings from the command line.
        today: By which models have ended.
    """
    from socratic_agents.config.messages import unknown_variables
    from socratic_agents.runtime.readiness.choice import (
        choice_findings,
        needed_packages,
    )

    settings, told = _settings(overrides or {})
    needed = {} if settings is None else needed_packages(settings)
    yield Finding("ok", "python", f"{platform.python_version()}, {platform.platform()}")
    yield _system(platform.system())
    yield from _packages(needed)
    if "torch" in needed or is_installed("torch"):
        yield _checked("torch device", _device)
    yield told
    if settings is not None:
        yield from choice_findings(settings, today or date.today())  # noqa: DTZ011 - an end is a day wherever one is
    for name, text in unknown_variables(environment).items():
        yield Finding("warning", name, text)
    yield _checked("pocket weights", _weights)
    yield _checked("strict", _strict)
    offline = environment.get("HF_HUB_OFFLINE", "").lower() in YES
    state = "offline, only models on this disk" if offline else "online where needed"
    yield Finding("ok", "hugging face hub", state)
    for name in KEYS:
        yield Finding("ok", name, "set" if environment.get(name) else "not set")
    yield _tracing(environment)


def _system(name: str) -> Finding:
    if name == "Linux":
        return Finding("ok", "system", f"{name}, where everything was tried")
    text = (
        f"{name}: what it lacks is allowed for, but everything was tried on Linux only"
    )
    return Finding("warning", "system", text)


def _packages(needed: Mapping[str, str]) -> Iterator[Finding]:
    """Say which packages there are, and which of the missing ones are needed."""
    for name, module in PACKAGES.items():
        found = _version(name)
        if found.state == "ok" or module is None:
            yield found
        elif module not in needed:
            yield Finding("ok", name, "not installed, and these settings need it not")
    for module, why in needed.items():
        if not is_installed(module):
            line = install_line(ModuleNotFoundError(name=module))
            text = f"not installed, and {why} needs it; run {line}"
            yield Finding("problem", module, text)


def _version(name: str) -> Finding:
    try:
        return Finding("ok", name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding("problem", name, f"not installed; run 'pip install {name}'")


def _checked(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", name, check())
    except (ConfigurationError, ImportError, OSError) as error:
        return Finding("problem", name, str(error))


def _device() -> str:
    from socratic_agents.models.devices import choose_device

    return str(choose_device())


def _settings(overrides: Mapping[str, Any]) -> tuple[Settings | None, Finding]:
    """Return the settings, if they can be read, and what is to be said of them."""
    from socratic_agents.agents.registry import find_roles
    from socratic_agents.config.messages import TOML
    from socratic_agents.config.settings import Settings

    try:
        settings = Settings(**overrides)
        find_roles(settings)
    except ConfigurationError as error:
        return None, Finding("problem", "settings", str(error))
    where = f", with {TOML}" if os.path.exists(TOML) else ""  # noqa: PTH110 - a name in the working directory
    return settings, Finding("ok", "settings", f"profile {settings.profile}{where}")


def _weights() -> str:
    root = resources.files("socratic_agents") / "pocket" / "weights"
    with resources.as_file(root) as folder:
        files = sorted(folder.rglob("*.safetensors"))
        size = sum(file.stat().st_size for file in files) / 2**20
    if not files:
        message = "expected the pocket weights in the package, got none; reinstall it"
        raise ConfigurationError(message)
    return f"{len(files)} files, {size:.1f} MiB"


def _strict() -> str:
    """Say what was measured of calls of several items, on any processor."""
    from socratic_agents.models.steadiness import found_before

    found = found_before()
    if not found:
        return "not measured yet; it is when a model is opened with strict"
    alone = [key for key, steady in found.items() if not steady]
    said = f"calls of several items give the same bits for {len(found) - len(alone)}"
    return f"{said} of {len(found)} that were measured" + "".join(
        f"; calls of one item: {key}" for key in alone
    )


def _tracing(environment: Mapping[str, str]) -> Finding:
    names = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2")
    on = [name for name in names if environment.get(name, "").lower() in YES]
    if on:
        text = f"on ({on[0]}): prompts, captions and answers leave this machine"
        return Finding("warning", "tracing", text)
    return Finding("ok", "tracing", "off")
