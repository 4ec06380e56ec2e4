"""Packages of others, laid down as pip would install them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def install(
    folder: Path,
    package: str,
    modules: Mapping[str, str],
    entries: Mapping[str, Mapping[str, str]],
) -> None:
    """Lay down a distribution with entry points.

    Args:
        folder: Where Python finds packages.
        package: Name of the distribution, of version 1.0.
        modules: Name to source.
        entries: Group to the names in it, each with its ``module:OBJECT``.
    """
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {package}\nVersion: 1.0\n", "utf-8")
    lines = [
        line
        for group, names in entries.items()
        for line in (f"[{group}]", *(f"{name} = {at}" for name, at in names.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source, "utf-8")
