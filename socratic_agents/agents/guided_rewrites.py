"""Guided rewrites: the optimizer's answer where it chooses guidance, too."""

from __future__ import annotations

from contextlib import suppress
from functools import cache, partial
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
    field_validator,
)

from socratic_agents.core.search import Proposal

__all__ = ("GuidedRewrites", "guided_rewrites")


class _Rewrite(BaseModel):
    """One prompt, and how strongly to draw it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Annotated[str, Field(json_schema_extra={"maxLength": 2000})]
    guidance: float | None


class GuidedRewrites(BaseModel):
    """New prompts for the text-to-image model, each with its guidance."""

    model_config = ConfigDict(extra="forbid", strict=True)
    EXAMPLE: ClassVar[dict[str, Any]]

    prompts: list[_Rewrite] = Field(
        description="As many new prompts as were asked for, one line each."
    )

    @field_validator("prompts", mode="before")
    @classmethod
    def _whole(cls, prompts: Any) -> Any:
        """Take a text for a prompt that says nothing of guidance."""
        if not isinstance(prompts, list):
            return prompts
        blank = {"guidance": None}
        return [
            blank | (one if isinstance(one, dict) else {"prompt": one})
            for one in prompts
        ]

    @property
    def texts(self) -> list[str]:
        """The prompts, those with a guidance as proposals."""
        return [
            one.prompt if one.guidance is None else Proposal(one.prompt, one.guidance)
            for one in self.prompts
        ]


@cache
def guided_rewrites(grid: tuple[float, ...]) -> type[GuidedRewrites]:
    """Return the model of an answer whose guidance is one of a grid, or none.

    Args:
        grid: Strengths of the prompt, at least one.
    """
    chosen = Annotated[
        float | None,
        BeforeValidator(partial(_of_grid, grid)),
        WithJsonSchema({"type": "number", "enum": list(grid)}),
    ]
    rewrite = create_model("GuidedRewrite", __base__=_Rewrite, guidance=(chosen, ...))
    # Its name and first line are what the language model is told of it.
    answer = create_model(
        "GuidedRewrites",
        __base__=GuidedRewrites,
        __doc__=GuidedRewrites.__doc__,
        prompts=(list[rewrite], GuidedRewrites.model_fields["prompts"]),
    )
    answer.EXAMPLE = {
        "prompts": [
            {"prompt": "a wooden chair beside a round table", "guidance": grid[0]},
            {
                "prompt": "a round table with a wooden chair next to it",
                "guidance": grid[-1],
            },
        ]
    }
    return answer


def _of_grid(grid: tuple[float, ...], given: Any) -> float | None:
    """Return a strength of the grid; what is named outside of it is none."""
    with suppress(TypeError, ValueError):
        if (scale := float(given)) in grid:
            return scale
    return None
