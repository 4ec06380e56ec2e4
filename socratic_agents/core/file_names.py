"""File names that hold on every file system."""

from __future__ import annotations

import re

__all__ = ("file_name_fault",)

_RESERVED = re.compile(
    r"(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3]) *",
    re.IGNORECASE,
)
LONGEST = 255
"""Bytes of a name."""
_CHARACTERS = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def file_name_fault(name: str) -> str | None:
    """Say why some system cannot have a file or folder of this name.

    Args:
        name: Of a file in its folder.

    Returns:
        ``None`` if all can.

    Source: Microsoft, "Naming Files, Paths, and Namespaces".
    """
    if _CHARACTERS.search(name):
        return "it has a character that paths are made of"
    if not name or name[-1] in ". ":
        return "it ends with a dot or a blank"
    if len(name.encode("utf-8", "replace")) > LONGEST:
        return f"it has more than {LONGEST} bytes"
    if _RESERVED.fullmatch(name.partition(".")[0]):
        return "Windows keeps the name for a device"
    return None
