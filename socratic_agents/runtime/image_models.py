"""Image models: what they do as one value, calls of one item each.

Whatever stands between a loop and the models (a cache, sharing, counting, a choice of
devices) is a function of one call, and ``ImageModels.map`` puts it before all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
)

from socratic_agents.core.checklist import Answer
from socratic_agents.core.concurrency import is_cancelled
from socratic_agents.core.counts import Count
from socratic_agents.core.errors import BatchError, CandidateError, SocraticError
from socratic_agents.core.history import Status
from socratic_agents.core.text import error_line
from socratic_agents.llm.usage import current_meter
from socratic_agents.models.output_checks import (
    own_answer,
    own_caption,
    own_count,
    own_image,
    own_score,
    own_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from PIL import Image

    from socratic_agents.models.writing.requests import WriteRequest, Written

__all__ = (
    "ANSWER_COUNT",
    "ANSWER_OPEN",
    "ANSWER_YES_NO",
    "CALL_KINDS",
    "CAPTION",
    "FINAL",
    "GENERATE",
    "GENERATE_FINAL",
    "GENERATE_GUIDED",
    "GUIDANCE",
    "SCORE",
    "WRITE",
    "CallKind",
    "Codec",
    "ImageModels",
    "ModelName",
    "Wrapper",
    "as_candidate_errors",
    "counted",
    "guarded",
)

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")

ModelName: TypeAlias = Literal["generator", "captioner", "scorer"]


@dataclass(frozen=True, kw_only=True)
class Codec(Generic[Output]):
    """How an answer becomes JSON, and JSON the answer again."""

    encode: Callable[[Output], dict[str, Any]]
    decode: Callable[[Mapping[str, Any]], Output]


@dataclass(frozen=True, kw_only=True)
class CallKind(Generic[Output]):
    """One of the calls: what it is called where, and how its answer is stored."""

    name: str
    """Attribute of ``ImageModels``."""
    journal: str
    """Kind of its entries in the journal."""
    stage: str
    """Name in statistics, and in what calls cost."""
    model: ModelName
    """Whose answer it is."""
    codec: Codec[Output] | None
    """``None``: the answer is an image, which no JSON holds."""
    check: Callable[[Any], Output | Awaitable[Output]]
    """Takes over what was returned; raises a ``CandidateError`` if it is no answer."""
    failure: Status = Status.OK
    """Status of a candidate whose call failed; ``OK``: its image and caption stay."""


TEXT: Codec[str] = Codec(
    encode=lambda text: {"text": text}, decode=lambda value: str(value["text"])
)
GENERATE: CallKind[Image.Image] = CallKind(
    name="generate",
    journal="generate",
    stage="generator",
    model="generator",
    codec=None,
    check=own_image,
    failure=Status.GENERATION_FAILED,
)
FINAL = "final_generator"
"""What marks an image of the final generator, in its ``info``; name of its stage."""
GENERATE_FINAL: CallKind[Image.Image] = replace(
    GENERATE, name="generate_final", stage=FINAL
)
GENERATE_GUIDED: CallKind[Image.Image] = replace(GENERATE, name="generate_guided")
"""Of the same stage, in batches of equal guidance."""
GUIDANCE = "guidance"
"""What marks an image whose guidance was chosen, in its ``info``: name and strength."""
CAPTION: CallKind[str] = CallKind(
    name="caption",
    journal="caption",
    stage="captioner",
    model="captioner",
    codec=TEXT,
    check=own_caption,
    failure=Status.CAPTION_FAILED,
)
ANSWER_YES_NO: CallKind[Answer] = CallKind(
    name="answer_yes_no",
    journal="decide",
    stage="decide",
    model="captioner",
    codec=Codec(encode=Answer.to_json, decode=Answer.from_json),
    check=own_answer,
)
ANSWER_OPEN: CallKind[str] = CallKind(
    name="answer_open",
    journal="look",
    stage="look",
    model="captioner",
    codec=TEXT,
    check=own_text,
)
ANSWER_COUNT: CallKind[Count] = CallKind(
    name="answer_count",
    journal="count",
    stage="count",
    model="captioner",
    codec=Codec(encode=Count.to_json, decode=Count.from_json),
    check=own_count,
)
READ_TEXT: CallKind[str] = CallKind(
    name="read_text",
    journal="read",
    stage="read",
    model="captioner",
    codec=TEXT,
    check=own_text,
)
SCORE: CallKind[float] = CallKind(
    name="score",
    journal="score",
    stage="scorer",
    model="scorer",
    codec=Codec(
        encode=lambda score: {"score": float(score)},
        decode=lambda value: float(value["score"]),
    ),
    check=own_score,
)
CALL_KINDS: tuple[CallKind[Any], ...] = (
    *(GENERATE, CAPTION),
    *(ANSWER_YES_NO, ANSWER_OPEN, ANSWER_COUNT, READ_TEXT, SCORE),
)
WRITE: CallKind[Written] = CallKind(
    name="write",
    journal="llm",
    stage="writer",
    model="captioner",
    codec=None,
    check=lambda written: cast("Written", written),
)
"""Apart from the others: the language model's calls have a cache, retries and errors of
their own, so nothing that stands before all calls stands before this one."""


class Wrapper(Protocol):
    """Puts something before a call, of whatever kind."""

    def __call__(
        self, kind: CallKind[Output], call: Callable[Inputs, Awaitable[Output]], /
    ) -> Callable[Inputs, Awaitable[Output]]:
        """Return a call with the same inputs and the same output."""


@dataclass(frozen=True, kw_only=True)
class ImageModels:
    """What the image models do, one item a call; a failure is a candidate's error."""

    generate: Callable[[str, int], Awaitable[Image.Image]]
    """prompt, seed -> image (RGB)"""
    caption: Callable[[Image.Image], Awaitable[str]]
    """image -> caption"""
    generate_final: Callable[[str, int], Awaitable[Image.Image]] | None = None
    """prompt, seed -> image of the final generator; ``None``: there is none"""
    generate_guided: Callable[[str, int, float], Awaitable[Image.Image]] | None = None
    """prompt, seed, guidance -> image; ``None``: no guidance is chosen"""
    answer_yes_no: Callable[[Image.Image, str], Awaitable[Answer]] | None = None
    """image, yes/no question -> answer; ``None``: the captioner only captions"""
    answer_open: Callable[[Image.Image, str], Awaitable[str]] | None = None
    """image, open question -> answer"""
    answer_count: Callable[[Image.Image, str], Awaitable[Count]] | None = None
    """image, "how many …?" -> count; ``None``: the captioner does not count"""
    read_text: Callable[[Image.Image, str], Awaitable[str]] | None = None
    """image, "what is written …?" -> text; ``None``: nobody reads"""
    score: Callable[[str, Image.Image], Awaitable[float]] | None = None
    """user prompt, image -> score, higher is better"""
    score_name: str = "score"
    """What that score is called."""
    write: Callable[[WriteRequest], Awaitable[Written]] | None = None
    """conversation -> what the captioner's language model says; for that llm alone"""
    context: int | None = None
    """Tokens that such a conversation may have; ``None``: not known"""
    max_tokens: int | None = None
    """Tokens of a prompt that the generator reads; ``None``: not known"""
    notices: Callable[[], tuple[str, ...]] = tuple
    """What means other results than those that were asked for, as far as it is known"""
    closers: tuple[Callable[[], Awaitable[None]], ...] = ()
    """To be awaited when the models are not needed any more."""

    @classmethod
    def make(
        cls,
        call: Callable[[CallKind[Any]], Callable[..., Awaitable[Any]] | None],
        **more: Any,
    ) -> Self:
        """Return models whose calls are made one by one.

        Args:
            call: Returns the call of a kind; ``None``: there is none.
            more: The other fields.
        """
        calls: dict[str, Any] = {kind.name: call(kind) for kind in CALL_KINDS}
        return cls(**calls, **more)

    def map(self, wrap: Wrapper) -> Self:
        """Return models with something before every call that there is.

        Args:
            wrap: Returns what stands before a call of some kind.
        """
        decide, look, score = self.answer_yes_no, self.answer_open, self.score
        count, read = self.answer_count, self.read_text
        final, guided = self.generate_final, self.generate_guided
        return replace(
            self,
            generate=wrap(GENERATE, self.generate),
            generate_final=final and wrap(GENERATE_FINAL, final),
            generate_guided=guided and wrap(GENERATE_GUIDED, guided),
            caption=wrap(CAPTION, self.caption),
            answer_yes_no=decide and wrap(ANSWER_YES_NO, decide),
            answer_open=look and wrap(ANSWER_OPEN, look),
            answer_count=count and wrap(ANSWER_COUNT, count),
            read_text=read and wrap(READ_TEXT, read),
            score=score and wrap(SCORE, score),
        )

    def can(self) -> frozenset[str]:
        """Return the names of the calls that there are."""
        names = (kind.name for kind in (*CALL_KINDS, WRITE))
        return frozenset(name for name in names if getattr(self, name) is not None)


def guarded(models: ImageModels) -> ImageModels:
    """Return models whose failures and wrong answers fail one candidate each."""
    safe = models.map(as_candidate_errors)
    final, guided = safe.generate_final, safe.generate_guided
    return replace(
        safe,
        generate=counted(safe.generate),
        generate_guided=guided and counted(guided),
        generate_final=final and _marked(counted(final)),
    )


def _marked(
    generate: Callable[[str, int], Awaitable[Image.Image]],
) -> Callable[[str, int], Awaitable[Image.Image]]:
    """Note on each image that the final generator drew it, for its provenance."""

    async def draw(prompt: str, seed: int) -> Image.Image:
        image = await generate(prompt, seed)
        image.info[FINAL] = True
        return image

    return draw


def as_candidate_errors(
    kind: CallKind[Output], call: Callable[Inputs, Awaitable[Any]]
) -> Callable[Inputs, Awaitable[Output]]:
    """Hold a call to what it promises; what it raises is the failure of one candidate."""

    async def safe(*inputs: Inputs.args, **named: Inputs.kwargs) -> Output:
        try:
            answer = kind.check(await call(*inputs, **named))
            if isinstance(answer, Awaitable):
                return await answer
            return answer  # noqa: TRY300 - all of it can fail
        except BatchError as problem:
            if problem.__cause__ is None:
                raise
            # It raised what no callable may raise, for this one item.
            raise CandidateError(kind.failure, str(problem)) from problem
        except SocraticError:
            raise
        except asyncio.CancelledError as problem:
            if is_cancelled():
                raise
            message = (
                "expected an answer, but it was cancelled, and nobody asked for that"
            )
            raise CandidateError(kind.failure, message) from problem
        except Exception as problem:
            raise CandidateError(kind.failure, error_line(problem)) from problem

    return safe


def counted(
    generate: Callable[Inputs, Awaitable[Image.Image]],
) -> Callable[Inputs, Awaitable[Image.Image]]:
    """Count what is drawn, failed images included."""

    async def draw(*inputs: Inputs.args, **named: Inputs.kwargs) -> Image.Image:
        current_meter().add_images()
        return await generate(*inputs, **named)

    return draw
