"""The optimizer: writes the next prompts."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from socratic_agents.agents.attempts import attempt, attempts, shorter_offers
from socratic_agents.agents.guided_rewrites import GuidedRewrites, guided_rewrites
from socratic_agents.agents.images import BELOW, as_png, with_pngs
from socratic_agents.agents.spec import OptimizerSpec
from socratic_agents.config.guidance import grid_text, parse_grid
from socratic_agents.config.registry import Registry
from socratic_agents.core.errors import (
    AgentError,
    AnswerError,
    BudgetError,
    ConfigurationError,
    TemplateError,
)
from socratic_agents.core.search import Proposal
from socratic_agents.core.text import printable_line
from socratic_agents.llm.few_shot import chosen_examples
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.structured import MOST_REQUESTS, StructuredCaller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

    from socratic_agents.agents.spec import BuildContext, Optimizer
    from socratic_agents.core.history import Candidate, History
    from socratic_agents.llm.templates import Template, Value

__all__ = ("OPTIMIZERS", "SOFTER", "Rewrites", "optimizer")

SOFTER = (
    "harmless words for the same thing: what was asked so far, the image model's safety "
    "filter withheld"
)
"""What is missing where nothing was let through."""
_TAGS = re.compile(r"</?\w+>|```\w*")
_AROUND = re.compile(r"""^\s*(?:\d+[.)]\s+|[-*•]\s+)?["'“]?|["'”]?\s*$""")
"""What stands around a prompt in a line: a number or a bullet, and quotes."""
_MARK = re.compile(
    r"</?(?:user_prompt|incumbent|history|attempt|example|missing|prompt|caption|score"
    r"|guidance|passed|failed|number_of_prompts)s?\d*\s*/?>",
    re.IGNORECASE,
)
"""The marks around blocks of the templates."""
TRIED = "was already tried"
WORDS_PER_TOKEN = 0.75
"""Of English prose, roughly; the generator's text encoder counts tokens."""


class Rewrites(BaseModel):
    """New prompts for the text-to-image model."""

    model_config = ConfigDict(extra="forbid", strict=True)
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "prompts": [
            "a wooden chair beside a round table",
            "a round table with a wooden chair next to it",
        ]
    }

    prompts: list[Annotated[str, Field(json_schema_extra={"maxLength": 2000})]] = Field(
        description="As many new prompts as were asked for, one line each."
    )

    @field_validator("prompts", mode="before")
    @classmethod
    def _bare(cls, prompts: Any) -> Any:
        """Take an object with a prompt for the prompt: many models write one."""
        if not isinstance(prompts, list):
            return prompts
        return [
            one.get("prompt", one) if isinstance(one, dict) else one for one in prompts
        ]

    @property
    def texts(self) -> list[str]:
        """The prompts."""
        return self.prompts

    @classmethod
    def from_text(cls, text: str) -> Rewrites:
        """Read prompts that are written one a line, as base models continue a record.

        Args:
            text: The lines; numbers, quotes and tags around them are no part of a prompt.

        Raises:
            ValueError: If there is no prompt.
        """
        lines = [_AROUND.sub("", line) for line in _TAGS.sub("\n", text).splitlines()]
        said = [line for line in lines if re.search(r"\w", line) and line[-1] != ":"]
        if not said:
            message = "expected prompts, one a line"
            raise ValueError(message)
        return cls(prompts=said)


def optimizer(
    llm: BaseChatModel,
    template: Template,
    *,
    prompts: int = 1,
    max_words: int | None = None,
    guidance_grid: tuple[float, ...] = (),
    example_selector: Any = None,
    guard: Callable[[History, tuple[str, ...]], Awaitable[tuple[str, ...]]]
    | None = None,
    retries: RetryPolicy | None = None,
) -> Callable[[History], Awaitable[tuple[str, ...]]]:
    """Return the optimizer that writes with a language model from the incumbent.

    One call asks for all prompts, of mixed aims. What was already tried, what is said
    twice, what is empty or too long is left out; if nothing is left, that is shown to
    the model as its mistake.

    The template may use these variables: ``user_prompt``; ``incumbent`` with
    ``prompt``, ``caption``, ``score``, ``passed`` and ``failed``; ``image``, words for
    where the incumbent's image stands, which is then sent along; ``missing``, a list of
    texts; ``history``, a list with the fields of the incumbent, the best last;
    ``examples``, a list with ``user_prompt``, ``caption`` and ``prompt``;
    ``number_of_prompts``; ``max_words``; ``guidance_grid``, the strengths with commas. What is unknown, a score for example, is empty.

    Args:
        llm: Any LangChain chat model.
        template: Its words; see ``find_template``.
        prompts: How many prompts to ask for, at least 1; there may come fewer.
        max_words: Words of a prompt at most, at least 1; ``None`` means no limit.
        guidance_grid: Strengths of the prompt of which it chooses one for each of its
            prompts; without any, it chooses none.
        example_selector: Chooses examples by the user prompt, in place of the
            template's own; anything with LangChain's ``aselect_examples`` or
            ``select_examples``.
        guard: History, new prompts -> those that are faithful to the user prompt;
            ``None``: all are drawn. One that cannot answer holds nothing up.
        retries: How often a failed request is sent again.

    Raises:
        ConfigurationError: If a number is below 1.
        TemplateError: If it is no optimizer's template, if it shows examples and there
            are none, or if there is a selector and it shows none, or a grid.
    """
    for name, number in (("prompts", prompts), ("max_words", max_words)):
        if number is not None and number < 1:
            message = f"expected {name} of at least 1, got {number}; give 1 or more"
            raise ConfigurationError(message)
    _check_template(template, example_selector, guidance_grid)
    retries = retries or RetryPolicy()
    answer: type[Rewrites | GuidedRewrites] = Rewrites
    if guidance_grid:
        answer = guided_rewrites(guidance_grid)
    ask: StructuredCaller[Rewrites | GuidedRewrites] = StructuredCaller(
        llm,
        answer,
        retries=retries,
        most={"prompts": prompts},
        stop=template.stop,
    )

    async def optimize(history: History) -> tuple[str, ...]:
        incumbent = history.incumbent
        shown = None if incumbent is None else attempt(incumbent, history.checklist)
        examples: Sequence[Mapping[str, str]] = template.examples
        if template.choice is not None:
            by, number = template.choice
            asked = history.user_prompt
            examples = chosen_examples(examples, asked, by=by, number=number)
        if example_selector is not None:
            examples = await _chosen(example_selector, history.user_prompt, retries)
        offer: dict[str, Value] = {
            "user_prompt": history.user_prompt,
            "incumbent": shown,
            "image": BELOW if _visible(incumbent) else None,
            "missing": _missing(history),
            "history": attempts(history),
            "examples": examples,
            "number_of_prompts": str(prompts),
            "max_words": None if max_words is None else str(max_words),
            "guidance_grid": grid_text(guidance_grid).replace(",", ", ") or None,
        }
        tried = _tried(history)

        def fresh(rewrites: Rewrites | GuidedRewrites) -> tuple[str, ...]:
            return _fresh(rewrites.texts, tried, max_words)

        pictures = await _pictures(template, incumbent)

        def written(offer: Mapping[str, Value]) -> list[BaseMessage]:
            words = template.filled(offer)
            return with_pngs(words, pictures) if pictures else words

        shorter = shorter_offers(
            offer, {"history": offer["history"], "examples": [*examples][::-1]}
        )
        rewrites = await ask(written(offer), check=fresh, shorter=map(written, shorter))
        kept = fresh(rewrites)[:prompts]
        return await _guarded(history, kept, guard, max_words) if guard else kept

    return optimize


def _check_template(
    template: Template, example_selector: Any, guidance_grid: tuple[float, ...]
) -> None:
    """Raise ``TemplateError`` if the template cannot show what there is to be shown."""
    template.expect("optimizer")
    shows = "examples" in template.variables
    if shows and not template.examples and example_selector is None:
        message = (
            f"expected examples for the optimizer template {template.name!r}, got "
            "none; write some into the file or pass an example selector"
        )
        raise TemplateError(message)
    if example_selector is not None and not shows:
        message = (
            f"expected a template that shows examples for the example selector, got "
            f"{template.name!r}; use few_shot, or add {{{{#examples}}}} to it"
        )
        raise TemplateError(message)
    if guidance_grid and "guidance_grid" not in template.variables:
        message = (
            f"expected a template that shows guidance_grid for a grid of guidance, got "
            f"{template.name!r}; use default, or add {{{{{{guidance_grid}}}}}} to it"
        )
        raise TemplateError(message)


def _tried(history: History) -> list[str]:
    """Return what is no new prompt: what was drawn, and what was said about it.

    Weak models send a caption, what is missing, or the example back as a prompt.
    """
    drawn = history.candidates
    said = [*(c.caption or "" for c in drawn), *_missing(history)]
    said += Rewrites.EXAMPLE["prompts"]
    return [history.user_prompt, *(c.prompt for c in drawn), *said]


def _missing(history: History) -> list[str]:
    """Return what the next prompts are to bring."""
    if history.filtered:
        return [SOFTER]
    verdict = history.verdict
    return [m for m in (verdict.missing if verdict else ()) if m.strip()]


async def _guarded(
    history: History,
    prompts: tuple[str, ...],
    guard: Callable[[History, tuple[str, ...]], Awaitable[tuple[str, ...]]],
    max_words: int | None,
) -> tuple[str, ...]:
    """Return the prompts that the guard lets through, repaired ones among them."""
    try:
        faithful = await guard(history, prompts)
    except BudgetError:
        raise
    except AgentError:
        return prompts  # nobody said that they are wrong
    tried = [c.prompt for c in history.candidates]
    try:
        return _fresh(faithful, tried, max_words)
    except ValueError as problem:
        message = f"expected a rewrite that is faithful to the user prompt; {problem}"
        raise AnswerError(message) from problem


def _visible(candidate: Candidate | None) -> bool:
    return candidate is not None and candidate.image is not None


async def _pictures(
    template: Template, incumbent: Candidate | None
) -> list[tuple[str, str]]:
    """Return the incumbent's image with its label, if the template shows it."""
    image = None if incumbent is None else incumbent.image
    if image is None or "image" not in template.variables:
        return []
    # In a thread: encoding takes long enough to hold up the other loops.
    return [("The best image so far:", await asyncio.to_thread(as_png, image))]


def _fresh(
    prompts: Sequence[str], tried: Sequence[str], max_words: int | None
) -> tuple[str, ...]:
    """Return the prompts worth drawing, or raise why there are none."""
    seen = {_bare(prompt).casefold() for prompt in tried}
    kept, faults = [], []
    for said in prompts:
        prompt = _unmarked(said)
        words = len(prompt.split())
        if not any(char.isalpha() for char in prompt):
            faults.append("a prompt has no words")
        elif _bare(prompt).casefold() in seen:
            faults.append(f"{prompt!r} {TRIED}")
        elif max_words is not None and words > max_words:
            faults.append(f"a prompt has {words} words, more than {max_words}")
        else:
            kept.append(Proposal.like(prompt, said))
            seen.add(_bare(prompt).casefold())
    if not kept:
        reasons = "; ".join(dict.fromkeys(faults)) or "the list of prompts is empty"
        message = f"prompts: expected at least one new prompt, got none ({reasons})"
        if any(fault.endswith(TRIED) for fault in faults):
            message += "; say the best prompt in other words, with all that it asks for"
        raise ValueError(message)
    return tuple(kept)


def _unmarked(prompt: str) -> str:
    """Return a prompt on one line, without the marks of blocks that weak models copy."""
    return printable_line(_MARK.sub(" ", prompt))


def _bare(prompt: str) -> str:
    """Return a prompt without what stands around it and draws nothing else."""
    return printable_line(prompt).strip(" .,;:!\"'")


async def _chosen(
    selector: Any, user_prompt: str, retries: RetryPolicy
) -> list[dict[str, str]]:
    """Return the examples that a selector chooses for a user prompt."""
    query = {"user_prompt": user_prompt}

    async def request() -> Any:
        # It may ask an embedding server, whose network may fail like any other.
        if hasattr(selector, "aselect_examples"):
            return await selector.aselect_examples(query)
        return await asyncio.to_thread(selector.select_examples, query)

    examples = []
    for example in await retries(request):
        if not {"user_prompt", "prompt"} <= set(example):
            message = (
                "expected user_prompt and prompt in each example of the selector, got "
                f"{', '.join(map(str, example)) or 'nothing'}; name its keys so"
            )
            raise TemplateError(message)
        fields = ("user_prompt", "caption", "prompt")
        examples.append({field: str(example.get(field) or "") for field in fields})
    return examples


def _build(context: BuildContext) -> Optimizer:
    tokens, grid = context.max_tokens, context.settings.guidance_grid
    return optimizer(
        *context.asked(),
        prompts=context.settings.prompts_per_round,
        # Two of the tokens are the marks of beginning and end.
        max_words=tokens and max(1, int((tokens - 2) * WORDS_PER_TOKEN)),
        guidance_grid=parse_grid(grid) if grid else (),
        guard=context.guard,
        retries=context.retries,
    )


OPTIMIZERS: Registry[OptimizerSpec] = Registry(
    "an optimizer",
    (
        OptimizerSpec(
            name="llm",
            title="A language model rewrites from the best image so far.",
            build=_build,
            requests=MOST_REQUESTS,
            template="default",
            guarded=True,
        ),
    ),
    spec=OptimizerSpec,
    group="socratic_agents.optimizers",
)
"""Who writes new prompts, by name."""
