"""The GEPA adapter: how gepa is given our loop, and what it asks of a language model."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import TemplateError
from socratic_agents.core.extras import needs_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ("Rollout", "search")

REFUSED = -1.0
"""What the optimizer is told of a template that cannot be used, or of a refinement that
failed; below any gain there can be. It enters no figure of ours."""

ASKED = """\
One block of the words with which a language model is asked to rewrite prompts for a \
text-to-image model:
```
<curr_param>
```
With it, these refinements were made. The feedback says how much better the returned \
image is than the first one:
<side_info>
Write the block anew so that the gain grows on prompts like these, and on others. Keep \
what stands in braces as it is: {{{name}}} puts in a value, and {{#name}} to {{/name}} \
is a part that is there only with it. Name no prompt from above. Give the new block \
between ``` and ```, and nothing else."""
"""What the reflecting model is asked, with what gepa puts in."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What came of one prompt with one template."""

    user_prompt: str
    gain: float | None
    """Of the returned image over the first one; ``None`` if there is none."""
    feedback: str = ""
    """What happened, for who reflects on it."""


def search(
    blocks: Mapping[str, str],
    learn: Sequence[int],
    choose: Sequence[int],
    *,
    run: Callable[[Mapping[str, str], Sequence[int]], list[Rollout]],
    reflect: Callable[[str], str],
    rollouts: int,
    seed: int,
) -> Any:
    """Return what gepa found: candidates, and their scores on what is chosen by.

    Args:
        blocks: Of the template as it is.
        learn: Places of the prompts that are reflected on.
        choose: Places of the prompts that decide which candidate is the best.
        run: As for ``evolve``.
        reflect: As for ``evolve``.
        rollouts: As for ``evolve``.
        seed: Of the search.

    Raises:
        ConfigurationError: If gepa is not installed.
    """
    with needs_extra("to evolve templates"):
        from gepa.api import optimize
    adapter: Any = _Adapter(run)

    def ask(prompt: Any) -> str:
        return reflect(prompt if isinstance(prompt, str) else json.dumps(prompt))

    return optimize(
        seed_candidate=dict(blocks),
        trainset=list(learn),
        valset=list(choose),
        adapter=adapter,
        reflection_lm=ask,
        reflection_prompt_template=ASKED,
        reflection_minibatch_size=min(3, len(learn)),
        skip_perfect_score=False,
        max_metric_calls=rollouts,
        logger=_Log(),
        seed=seed,
    )


class _Log:
    """Gives gepa's own words to our log, and not to stdout."""

    def log(self, message: str) -> None:
        logging.getLogger(__name__).info("%s", message)


class _Adapter:
    """How gepa runs our loop, and what it is told of it."""

    propose_new_texts = None

    def __init__(
        self, run: Callable[[Mapping[str, str], Sequence[int]], list[Rollout]]
    ) -> None:
        self._run = run

    def evaluate(
        self,
        batch: list[int],
        candidate: dict[str, str],
        capture_traces: bool = False,  # noqa: FBT001, FBT002 - gepa's own signature
    ) -> Any:
        from gepa.core.adapter import EvaluationBatch

        try:
            done = self._run(candidate, batch)
        except TemplateError as problem:
            refused = f"the template was refused: {problem}"
            done = [Rollout(user_prompt="", gain=None, feedback=refused) for _ in batch]
        return EvaluationBatch(
            outputs=done,
            scores=[REFUSED if one.gain is None else one.gain for one in done],
            trajectories=done if capture_traces else None,
        )

    def make_reflective_dataset(
        self,
        candidate: dict[str, str],  # noqa: ARG002 - gepa's own signature
        eval_batch: Any,
        components_to_update: list[str],
    ) -> dict[str, list[dict[str, str]]]:
        records = [
            {
                "Inputs": one.user_prompt,
                "Generated Outputs": one.feedback,
                "Feedback": "no image is there"
                if one.gain is None
                else f"gain {one.gain:+.3f}",
            }
            for one in eval_batch.trajectories
        ]
        return dict.fromkeys(components_to_update, records)
