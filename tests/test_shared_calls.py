"""What arms share: everyone who asks the same gets the same, and pays for it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.core.budget import Budget
from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.errors import AnswerError, BudgetError, CandidateError
from socratic_agents.core.history import Status
from socratic_agents.lab.compare.shared_calls import WORK, SharedCalls
from socratic_agents.llm.usage import UsageMeter, current_meter, using_meter
from socratic_agents.runtime.image_models import ImageModels


class Models:
    """ImageModels that count how often they really work, and wait to be let go."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def generate(self, prompt: str, seed: int) -> Image.Image:
        current_meter().add_images()
        self.begun.set()
        await self.go.wait()
        self.done["generate"] += 1
        if prompt == "nothing":
            raise CandidateError(Status.GENERATION_FAILED, "nothing to draw")
        return Image.new("RGB", (1, 1), "red")

    async def caption(self, image: Image.Image) -> str:
        self.done["caption"] += 1
        return "a dot"

    async def decide(self, image: Image.Image, question: str) -> Answer:
        self.done["decide"] += 1
        return Answer(said=YesNo.YES)

    async def look(self, image: Image.Image, question: str) -> str:
        self.done["look"] += 1
        return "red"

    async def score(self, user_prompt: str, image: Image.Image) -> float:
        self.done["score"] += 1
        return 0.5

    async def inquire(self, user_prompt: str) -> Checklist:
        self.done["inquire"] += 1
        current_meter().add_call()
        current_meter().add_tokens({"input_tokens": 7, "output_tokens": 3})
        if user_prompt == "nothing":
            message = "nothing to ask"
            raise AnswerError(message)
        question = Question(text="Is there a dot?", requirement="a dot")
        return Checklist(questions=(question,))

    def shared(self) -> SharedCalls:
        image_models = ImageModels(
            generate=self.generate,
            caption=self.caption,
            answer_yes_no=self.decide,
            answer_open=self.look,
            score=self.score,
        )
        return SharedCalls(image_models, self.inquire)


async def test_the_same_question_has_one_answer() -> None:
    """Every model works once for equal inputs, and again for others."""
    models = Models()
    image_models = models.shared().models
    assert image_models.answer_yes_no is not None
    assert image_models.answer_open is not None
    assert image_models.score is not None
    first, again = await asyncio.gather(
        image_models.generate("a dot", 1), image_models.generate("a dot", 1)
    )
    other = await image_models.generate("a dot", 2)

    assert first is again
    assert first is not other
    for image in (first, again, other):
        await image_models.caption(image)
        await image_models.answer_yes_no(image, "Is there a dot?")
        await image_models.answer_open(image, "What is there?")
        await image_models.score("a dot", image)
    assert dict.fromkeys(("generate", "caption", "decide", "look", "score"), 2) == dict(
        models.done
    )


async def test_everyone_is_charged_for_the_checklist() -> None:
    """It is written once, and costs each arm what it cost to write."""
    models = Models()
    sharing = models.shared()
    assert sharing.inquire is not None
    meters = [UsageMeter(), UsageMeter()]
    for meter in meters:
        with using_meter(meter):
            await sharing.inquire("a dot")

    assert 1 == models.done["inquire"]
    assert [(1, 7, 3)] * 2 == [
        (m.llm_calls, m.input_tokens, m.output_tokens) for m in meters
    ]


async def test_everyone_is_charged_for_an_image() -> None:
    """A budget of images or money ends every arm where it would end alone."""
    image_models = Models().shared().models

    async def arm() -> int:
        with using_meter() as meter:
            await asyncio.gather(
                image_models.generate("a dot", 1), image_models.generate("a", 1)
            )
            return meter.images

    assert [2, 2] == list(await asyncio.gather(arm(), arm()))


async def test_everyone_is_charged_for_what_failed() -> None:
    """A checklist that could not be written was asked for all the same."""
    models = Models()
    sharing = models.shared()
    assert sharing.inquire is not None
    meters = [UsageMeter(), UsageMeter()]
    for meter in meters:
        with using_meter(meter), pytest.raises(AnswerError, match="nothing to ask"):
            await sharing.inquire("nothing")

    assert 1 == models.done["inquire"]
    assert [1, 1] == [meter.llm_calls for meter in meters]


async def test_an_empty_purse_is_nobody_elses() -> None:
    """Who asks first and may spend nothing does not spoil it for the others."""
    models = Models()
    sharing = models.shared()
    assert sharing.inquire is not None
    poor = UsageMeter(budget=Budget(llm_calls=1))
    with using_meter(poor):
        await sharing.inquire("a dot")
        with pytest.raises(BudgetError, match="1 of 1 llm_calls"):
            await sharing.inquire("two dots")
    with using_meter() as rich:
        checklist = await sharing.inquire("two dots")

    assert 1 == len(checklist.questions)
    assert (1, 1) == (poor.llm_calls, rich.llm_calls)


async def test_work_is_counted_for_each_arm() -> None:
    """What an arm would have done alone is known, shared or not."""
    sharing = Models().shared()

    async def arm(images: int) -> Counter[str]:
        work = Counter[str]()
        WORK.set(work)
        for seed in range(images):
            await sharing.models.generate("a dot", seed)
        return work

    one, three = await asyncio.gather(arm(1), arm(3))

    assert (1, 3) == (one["generator"], three["generator"])


async def test_an_error_is_everyones() -> None:
    """What failed once is not tried again by the next who asks."""
    models = Models()
    image_models = models.shared().models
    for _ in range(2):
        with pytest.raises(CandidateError, match="nothing to draw"):
            await image_models.generate("nothing", 1)

    assert 1 == models.done["generate"]


async def test_a_cancelled_asker_hands_over() -> None:
    """Who waits for the answer of somebody who left does the work himself."""
    models = Models()
    models.go.clear()
    image_models = models.shared().models
    leaving = asyncio.ensure_future(image_models.generate("a dot", 1))
    await models.begun.wait()
    waiting = asyncio.ensure_future(image_models.generate("a dot", 1))
    await asyncio.sleep(0)  # it has asked, and now waits for the other
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    models.go.set()
    image = await waiting

    assert (1, 1) == image.size
    assert 1 == models.done["generate"]


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=8))
def test_whoever_stays_gets_the_same(askers: list[tuple[int, bool]]) -> None:
    """Whatever is asked for and whoever leaves, each image is drawn once for the rest.

    Args:
        askers: The seed that each asks for, and whether he leaves meanwhile.
    """
    models = Models()

    async def ask() -> list[Image.Image | BaseException]:
        models.go.clear()
        draw = models.shared().models.generate
        tasks = [asyncio.ensure_future(draw("a dot", seed)) for seed, _ in askers]
        await asyncio.sleep(0)  # all have asked
        for task, (_, leaves) in zip(tasks, askers, strict=True):
            if leaves:
                task.cancel()
        models.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    got = asyncio.run(ask())
    told = list(zip(askers, got, strict=True))
    staying = {seed for seed, leaves in askers if not leaves}

    assert all(
        leaves == isinstance(image, asyncio.CancelledError)
        for (_, leaves), image in told
    )
    assert len(staying) == models.done["generate"]
    assert len(staying) == len({id(i) for (_, leaves), i in told if not leaves})


async def test_who_waits_may_leave() -> None:
    """Whoever asked first goes on, and his answer stays."""
    models = Models()
    models.go.clear()
    image_models = models.shared().models
    first = asyncio.ensure_future(image_models.generate("a dot", 1))
    await models.begun.wait()
    leaving = asyncio.ensure_future(image_models.generate("a dot", 1))
    await asyncio.sleep(0)  # it has asked, and now waits for the other
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    models.go.set()

    assert await first is await image_models.generate("a dot", 1)
    assert 1 == models.done["generate"]


def test_what_is_not_there_is_not_shared() -> None:
    """A captioner that only captions stays one."""
    models = Models()
    image_models = ImageModels(generate=models.generate, caption=models.caption)
    sharing = SharedCalls(image_models)

    assert sharing.inquire is None
    assert (None, None, None) == (
        sharing.models.answer_yes_no,
        sharing.models.answer_open,
        sharing.models.score,
    )
