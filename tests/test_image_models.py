"""Image models: what the models can do, found out when they are opened, one item a call."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pytest
from PIL import Image

from socratic_agents.agents.registry import find_templates
from socratic_agents.config.settings import Settings
from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.counts import Count
from socratic_agents.core.errors import CandidateError, ConfigurationError
from socratic_agents.core.history import Candidate
from socratic_agents.llm.usage import using_meter
from socratic_agents.pocket import weights_folder
from socratic_agents.runtime.build import build_agents
from socratic_agents.runtime.generators import images_server
from socratic_agents.runtime.image_models import CALL_KINDS, ImageModels, guarded
from socratic_agents.runtime.open_models import open_image_models, open_scorer
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.scheduler.worker import Worker
from tests.fakes import ScriptedChatModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from socratic_agents.runtime.image_models import CallKind

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")

IMAGE = Image.new("RGB", (8, 8))
RED = Checklist(questions=(Question(text="Is it red?", requirement="red"),))


async def paint(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (seed % 256, 0, 9))


async def describe(image: Image.Image) -> str:
    return "a thing"


async def measure(user_prompt: str, image: Image.Image) -> float:
    return 0.5


async def fail(*_: Any) -> Any:
    raise LookupError("no\nmodel")


class Captions:
    """Captions, and nothing else."""

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        return ["a thing"] * len(images)


class Writes(Captions):
    """Answers in words."""

    def answer(self, questions: Sequence[tuple[Image.Image, str]]) -> list[str]:
        return [f"Yes, {question.lower()}" for _, question in questions]


class Decides(Captions):
    """Decides, and scores a whole prompt, but writes nothing."""

    def decide(self, questions: Sequence[tuple[Image.Image, str]]) -> list[Answer]:
        return [Answer(said=YesNo.NO, probability=0.25)] * len(questions)

    def fit(self, pairs: Sequence[tuple[str, Image.Image]]) -> list[float]:
        return [len(text) / 100 for text, _ in pairs]


class Breaks(Decides):
    """Loses its mind over questions."""

    def decide(self, questions: Sequence[tuple[Image.Image, str]]) -> list[Answer]:
        raise LookupError("no\nmodel")


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    async with Worker() as worker:
        yield worker


def _settings(captioner: Any, **overrides: Any) -> Settings:
    fakes = {"generator": paint, "captioner": captioner, "scorer": None}
    return Settings(**(fakes | overrides))


async def test_a_captioner_that_writes_is_read(worker: Worker) -> None:
    """It looks, and the yes or no that it begins with decides."""
    image_models = open_image_models(_settings(Writes()), worker)
    assert image_models.answer_open is not None
    assert image_models.answer_yes_no is not None
    assert "Yes, what?" == await image_models.answer_open(IMAGE, "What?")
    assert YesNo.YES == (await image_models.answer_yes_no(IMAGE, "Is it?")).said


async def test_a_captioner_that_counts_and_reads_is_asked_to(worker: Worker) -> None:
    """By methods of its own; the pocket captioner was taught neither."""

    class Able(Decides):
        def count(self, questions: Sequence[tuple[Image.Image, str]]) -> list[Count]:
            return [Count(number=len(text)) for _, text in questions]

        def read(self, questions: Sequence[tuple[Image.Image, str]]) -> list[str]:
            return [text.upper() for _, text in questions]

    image_models = open_image_models(_settings(Able()), worker)
    assert image_models.answer_count is not None
    assert image_models.read_text is not None
    assert Count(number=9) == await image_models.answer_count(IMAGE, "How many?")
    assert "WHAT?" == await image_models.read_text(IMAGE, "What?")
    for other in (Decides(), "pocket"):
        less = open_image_models(_settings(other), worker)
        assert (None, None) == (less.answer_count, less.read_text)


async def test_a_captioner_that_decides_need_not_write(worker: Worker) -> None:
    """Nobody asks it open questions then."""
    image_models = open_image_models(_settings(Decides()), worker)
    assert image_models.answer_open is None
    assert image_models.answer_yes_no is not None
    assert 0.25 == (await image_models.answer_yes_no(IMAGE, "Is it?")).probability


@pytest.mark.parametrize("captioner", [Captions(), describe])
async def test_a_captioner_that_only_captions_is_not_asked(
    worker: Worker, captioner: object
) -> None:
    """Objects and callables alike."""
    image_models = open_image_models(_settings(captioner), worker)
    assert (None, None, None) == (
        image_models.answer_yes_no,
        image_models.answer_open,
        image_models.score,
    )
    assert "a thing" == await image_models.caption(IMAGE)


async def test_a_question_that_fails_fails_its_candidate(worker: Worker) -> None:
    """What a captioner raises is told in one line, and the image is kept."""
    image_models = open_image_models(_settings(Breaks()), worker)
    assert image_models.answer_yes_no is not None
    with pytest.raises(CandidateError, match="LookupError: no model"):
        await image_models.answer_yes_no(IMAGE, "Is it?")
    question = {"requirement": "red", "question": "Is it red?", "needs": []}
    script = [
        {"questions": [{**question, "instead": ""}]},
        {"reason": "", "missing": [], "satisfied": True},
    ]
    async with Refiner(
        _settings(Breaks(), judge="caption", scorer=measure, rounds=1),
        llm=ScriptedChatModel(script=script),
    ) as refiner:
        refinement = await refiner.refine("a ball")
    assert ({"score": 0.5}, ()) == (refinement.best.scores, refinement.best.answers)
    assert "LookupError: no model" == refinement.best.error


async def test_the_captioner_that_was_given_scores(worker: Worker) -> None:
    """The score bears the method's name and the model's."""
    name, score = open_scorer(
        _settings(Decides(), scorer="captioner"), worker, Decides()
    )
    assert ("p_yes Decides", 0.06) == (name, await score("a ball", IMAGE))


async def test_the_captioner_of_a_folder_scores(worker: Worker) -> None:
    """Who asks for the scorer alone gets the captioner opened; a path is cut short."""
    folder = weights_folder("captioner")
    settings = Settings(captioner=str(folder), scorer="captioner")
    name, score = open_scorer(settings, worker)
    assert f"p_yes {Path(folder).name}" == name
    assert 0 <= await score("a red circle", Image.new("RGB", (32, 32))) <= 1


@pytest.mark.parametrize(
    ("generator", "server"),
    [
        ("pocket", None),
        ("some/model", None),
        (paint, None),
        ("openai:an-image", ("https://api.openai.com/v1", "an-image")),
        ("http://localhost:1/v1", ("http://localhost:1/v1", "tiny")),
    ],
)
def test_addresses_are_images_servers(
    generator: object, server: tuple[str, str] | None
) -> None:
    """And so is a name of the provider; nothing else is."""
    assert server == images_server(Settings(generator=generator, image_model="tiny"))


async def test_a_strict_answer_does_not_depend_on_other_questions() -> None:
    """To the last bit: a longer question beside would be filled up to."""
    image = Image.new("RGB", (32, 32), (200, 30, 30))
    short = "is there a red circle ?"
    long = f"is there {' and '.join(['a small red circle'] * 6)} ?"
    async with Refiner(strict=True) as refiner:
        await refiner.agents()
        assert refiner._opened is not None
        decide = refiner._opened.models.answer_yes_no
        assert decide is not None
        alone = await decide(image, short)
        together = await asyncio.gather(decide(image, long), decide(image, short))
    assert alone == together[1]


async def test_what_is_asked_for_is_counted() -> None:
    """Images that fail cost too, and every mode becomes RGB."""
    given: list[Any] = [Image.new("L", (8, 8), 9), None, LookupError("no")]

    async def draw(prompt: str, seed: int) -> Any:
        if isinstance(one := given.pop(0), Exception):
            raise one
        return one

    models = guarded(ImageModels(generate=draw, caption=describe))
    with using_meter() as meter:
        assert "RGB" == (await models.generate("a ball", 1)).mode
        for message in ("a PIL image, got NoneType", "LookupError: no"):
            with pytest.raises(CandidateError, match=message):
                await models.generate("a ball", 1)
    assert 3 == meter.images


async def test_the_worker_tells_its_stages_apart() -> None:
    """Captions, decisions, open questions and scores are counted each."""
    async with Refiner(seed=4, max_images=3) as refiner:
        refinement = await refiner.refine("a crimson ball")
        statistics = refiner.statistics()
    assert statistics is not None
    stages = statistics.stages
    assert {"generator", "captioner", "decide", "scorer"} <= set(stages)
    images, questions = refinement.usage.images, refinement.history.checklist
    assert questions is not None
    for name in ("generator", "captioner", "scorer"):
        assert images == stages[name].items
    assert images * len(questions.questions) == stages["decide"].items


async def test_a_captioner_that_is_no_use_is_told(worker: Worker) -> None:
    """Where only opening it shows that it decides nothing, the remedy is named."""
    mute = Decides()
    mute.decide = None  # type: ignore[method-assign, assignment]
    settings = _settings(mute)
    image_models = open_image_models(settings, worker)
    with pytest.raises(ConfigurationError, match="set answerer='llm'"):
        build_agents(
            settings, find_templates(settings), ScriptedChatModel(), image_models
        )


@pytest.mark.parametrize(
    ("overrides", "answers", "order"),
    [
        ({}, YesNo.YES, ["checklist", "score"]),
        ({"selector": "clip"}, YesNo.NO, ["score", "checklist"]),
        ({}, None, ["score"]),
        ({"judge": "never", "selector": "last"}, YesNo.YES, ["checklist", "score"]),
        ({"scorer": None}, YesNo.NO, ["checklist"]),
        ({"scorer": None}, None, []),
        ({"scorer": fail}, YesNo.YES, ["checklist"]),
    ],
)
async def test_scores_stand_in_the_order_of_their_weight(
    worker: Worker, overrides: dict[str, Any], answers: YesNo | None, order: list[str]
) -> None:
    """The first one ranks: the checklist, unless one selects by the scorer alone."""
    settings = _settings(Writes(), **({"scorer": measure} | overrides))
    image_models = open_image_models(settings, worker)
    agents = build_agents(
        settings, find_templates(settings), ScriptedChatModel(), image_models
    )
    said = RED.resolved([Answer(said=answers)]) if answers else ()
    candidate = Candidate(prompt="p", seed=0, image=IMAGE, answers=said)
    assert agents.assess is not None
    assert order == list(await agents.assess("a ball", candidate))


async def test_a_scorer_that_stands_alone_may_not_fail(worker: Worker) -> None:
    """Where nothing was answered, its failure is the candidate's."""
    settings = _settings(Writes(), scorer=fail)
    image_models = open_image_models(settings, worker)
    agents = build_agents(
        settings, find_templates(settings), ScriptedChatModel(), image_models
    )
    assert agents.assess is not None
    with pytest.raises(CandidateError, match="LookupError: no model"):
        await agents.assess("a ball", Candidate(prompt="p", seed=0, image=IMAGE))


async def test_one_function_stands_before_every_call() -> None:
    """``map`` wraps the calls that there are, each with its kind, and keeps the rest."""
    seen: list[str] = []

    def noted(
        kind: CallKind[Output], call: Callable[Inputs, Awaitable[Output]]
    ) -> Callable[Inputs, Awaitable[Output]]:
        async def ask(*inputs: Inputs.args, **named: Inputs.kwargs) -> Output:
            seen.append(kind.name)
            return await call(*inputs, **named)

        return ask

    image_models = ImageModels(
        generate=paint, caption=describe, score=measure, score_name="size", max_tokens=7
    ).map(noted)
    image = await image_models.generate("a ball", 1)
    assert "a thing" == await image_models.caption(image)
    assert image_models.score is not None
    assert 0.5 == await image_models.score("a ball", image)
    assert ["generate", "caption", "score"] == seen
    assert {"generate", "caption", "score"} == image_models.can()
    assert ("size", 7) == (image_models.score_name, image_models.max_tokens)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("caption", "a thing"),
        ("answer_open", "red"),
        ("answer_count", Count(number=2, shares={2: 0.75, 3: 0.25})),
        ("answer_count", Count(number=None)),
        ("read_text", "OPEN"),
        ("answer_yes_no", Answer(said=YesNo.YES, probability=0.25)),
        ("score", 0.5),
    ],
)
def test_stored_answers_are_read_as_they_were(name: str, output: Any) -> None:
    """Every kind of call reads its own JSON back; images are no JSON."""
    codecs = {kind.name: kind.codec for kind in CALL_KINDS}
    codec = codecs[name]
    assert codec is not None
    assert output == codec.decode(json.loads(json.dumps(codec.encode(output))))
    assert codecs["generate"] is None


def test_stored_names_of_calls_stay() -> None:
    """Journals, statistics and calibrations of earlier versions have them."""
    assert [
        ("generate", "generator"),
        ("caption", "captioner"),
        ("decide", "decide"),
        ("look", "look"),
        ("count", "count"),
        ("read", "read"),
        ("score", "scorer"),
    ] == [(kind.journal, kind.stage) for kind in CALL_KINDS]
