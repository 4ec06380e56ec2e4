"""The form of ``study.json``: what a report of a study takes for granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ("check_manifest",)

Name = Annotated[str, Field(pattern=r"^[^/\\\x00]+$")]
"""Of an arm, which is a folder, too."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Set(_Part):
    name: str
    title: str
    method: str
    n: int
    seed: int
    sha256: str
    excluded: Mapping[str, int] | None = None
    citation: str | None = None
    file_sha256: str | None = None


class _Prompt(_Part):
    set: str
    text: str


class _Arm(_Part):
    name: Name
    about: str
    continued_by: str | None
    settings: Mapping[str, Any]
    templates: Mapping[str, Mapping[str, str]]


class _Metric(_Part):
    name: str
    title: str
    higher_is_better: bool | None


class _Manifest(_Part):
    name: str
    title: str
    about: str
    notes: list[str]
    warnings: list[str]
    sets: list[_Set]
    prompts: list[_Prompt] = Field(min_length=1)
    arms: list[_Arm] = Field(min_length=1)
    metrics: list[_Metric] = Field(min_length=1)
    against: str
    seeds: list[int] = Field(min_length=1)
    command: str | None
    versions: Mapping[str, str]

    @model_validator(mode="after")
    def _are_there(self) -> _Manifest:
        """Check that what is named is there, once."""
        arms, metrics = [a.name for a in self.arms], [m.name for m in self.metrics]
        named = {self.against, *(a.continued_by for a in self.arms)} - {None}
        for names in (arms, metrics, self.seeds):
            if len({*names}) < len(names):
                message = f"expected each once, got {names}"
                raise ValueError(message)
        if not named <= {*arms} or {".", ".."} & {*arms}:
            message = f"expected arms of the study, got {named}"
            raise ValueError(message)
        return self


def check_manifest(data: Mapping[str, Any]) -> None:
    """Check that a manifest has the form in which studies write it.

    Args:
        data: What was read.

    Raises:
        ValueError: If it has not.
    """
    _Manifest.model_validate(data)
