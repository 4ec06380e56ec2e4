"""Finding: the result of one check."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("Finding",)

MARKS = {"ok": "OK", "warning": "WARN"}


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    state: str
    """``ok``, ``warning`` (it works, but you should know) or ``problem``."""
    name: str
    detail: str

    def __str__(self) -> str:
        """Return it on one line."""
        return f"{MARKS.get(self.state, 'FAIL')} {self.name}: {self.detail}"
