"""The replica pool: items go to actors on a cluster, and come back whatever dies meanwhile.

* Every item is answered once, and as it would be answered here.
* An image crosses once at most, unless its actor is gone or has forgotten it.
* Nobody waits for ever: deaths are bounded, and closing answers every waiter.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.cli.app import main
from socratic_agents.config.settings import Settings
from socratic_agents.config.workers import RayWorkers, parse_workers
from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.core.errors import (
    AnswerError,
    BatchError,
    CandidateError,
    ClosedError,
    ConfigurationError,
    LoadError,
    SocraticError,
    UnknownWordError,
)
from socratic_agents.core.history import Candidate, Status
from socratic_agents.llm.usage import UsageMeter, using_meter
from socratic_agents.runtime.devices.remote_models import _portable, open_replicas
from socratic_agents.runtime.image_models import ImageModels
from socratic_agents.runtime.refiner import Refiner
from socratic_agents.scheduler.remote.pool import TRIES, ReplicaPool
from socratic_agents.scheduler.remote.ray import RayCluster
from socratic_agents.scheduler.remote.replica import (
    Capabilities,
    ImageEvictedError,
    Replica,
)
from socratic_agents.scheduler.requests import Session, current_session
from socratic_agents.scheduler.worker import Stage, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ray = pytest.importorskip("ray")

ABLE = Capabilities(
    operations=frozenset(("generate", "caption")), score_name="score", max_tokens=None
)
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}
QUIET = {"log_to_driver": False, "logging_level": "error"}


def without_digits(candidate: Candidate) -> Candidate:
    """Return a candidate without its image and the numbers of its answers."""
    answers = tuple(replace(one, probability=None) for one in candidate.answers)
    return replace(candidate, image=None, answers=answers)


class Lost(Exception):  # noqa: N818 - it stands for what Ray raises
    """An actor is gone."""


class Call:
    """A call of an actor: the reference that it gives has a future, as Ray's."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run

    def remote(self, *inputs: Any) -> Call:
        self._future = self._run(*inputs)
        return self

    def future(self) -> Future[Any]:
        return self._future


class Actor:
    """A replica without models: an image has the colour of its seed."""

    def __init__(self, machines: Machines) -> None:
        self.machines, self.images = machines, dict[int, Any]()
        self.dead, self.unanswered = False, list[Future[Any]]()

    def __getattr__(self, name: str) -> Call:
        return Call(partial(self._call, getattr(self, f"_{name}")))

    def die(self) -> None:
        self.dead = True
        for future in self.unanswered:
            future.set_exception(Lost())
        self.unanswered.clear()

    def answer(self) -> None:
        """Answer all that was held back."""
        for future, run in zip(self.unanswered, self.machines.held, strict=True):
            future.set_result(run())
        self.unanswered.clear()

    def _call(self, run: Callable[..., Any], *inputs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.unanswered.append(future)
        if run != self._open and next(self.machines.deaths, False):
            self.die()
        if self.dead:
            self.die()
        elif (run == self._open) not in self.machines.holding:
            self.unanswered.remove(future)
            try:
                future.set_result(run(*inputs))
            except Exception as problem:  # noqa: BLE001 - as it would cross
                future.set_exception(problem)
        return future

    def _open(self) -> Capabilities:
        if self.machines.problem:
            raise self.machines.problem
        return ABLE

    def _generate(self, owner: Any, token: int, prompt: str, seed: int) -> Any:
        self.machines.drawn += 1
        self.images[token] = np.full((2, 2, 3), seed, np.uint8)
        return self.images[token], {"prompt": prompt, "owner": owner}

    def _query(
        self, owner: Any, token: int, pixels: Any, operation: str, *texts: str | None
    ) -> tuple[Any, ...]:
        if pixels is not None:
            self.images[token] = pixels
        elif token not in self.images:
            raise ImageEvictedError(token)
        words = (one for one in texts if one is not None)
        return operation, int(self.images[token][0, 0, 0]), *words


class Machines:
    """A cluster in this process; actors die at the calls that ``deaths`` says."""

    lost_errors = (Lost,)

    def __init__(
        self,
        count: int = 2,
        *,
        deaths: Iterator[bool] | None = None,
        problem: Exception | None = None,
    ) -> None:
        self.count, self.problem = count, problem
        self.deaths = deaths or iter(())
        self.actors = list[Actor]()
        self.held = list[Callable[[], Any]]()
        """What is answered when ``Actor.answer`` is called."""
        self.holding: set[bool] = set()
        """``True``: actors do not open; ``False``: they answer nothing else."""
        self.drawn = self.crossed = 0
        self.cancelled = list[Any]()
        self.grown = asyncio.Event()
        """Somebody has died and was replaced."""

    def start(self) -> Actor:
        if len(self.actors) == self.count:
            self.grown.set()
        self.actors.append(Actor(self))
        return self.actors[-1]

    def put(self, value: Any) -> Any:
        self.crossed += 1
        return value

    def cancel(self, reference: Any) -> None:
        self.cancelled.append(reference)

    def kill(self, actor: Actor) -> None:
        actor.die()

    def unwrap(self, problem: BaseException) -> BaseException:
        return problem

    def close(self, actors: list[Actor]) -> None:
        for actor in actors:
            actor.die()

    def replicas(self) -> ReplicaPool:
        return ReplicaPool(self, start=self.start)  # type: ignore[arg-type]


async def _item(replicas: ReplicaPool, seed: int) -> Any:
    """Draw an image and ask about it; return what must come out, or the error."""
    try:
        image = await replicas.generate("a thing", seed)
        caption = await replicas.query("caption", image)
        looked = await replicas.query("look", image, "What?")
    except BatchError as problem:
        return problem
    return image.getpixel((0, 0)), caption, looked


def _right(seed: int) -> Any:
    return (seed, seed, seed), ("caption", seed), ("look", seed, "What?")


class TestDeaths:
    @given(st.integers(1, 3), st.integers(1, 6), st.lists(st.booleans(), max_size=40))
    def test_every_item_is_answered_once_and_rightly(
        self, count: int, items: int, deaths: list[bool]
    ) -> None:
        """Whoever dies when: the answer is the local one, or says that all died."""
        replicas = Machines(count, deaths=iter(deaths)).replicas()

        async def run() -> list[Any]:
            return await asyncio.gather(*(_item(replicas, n) for n in range(items)))

        for seed, answer in enumerate(asyncio.run(run())):
            if sum(deaths) < TRIES:
                assert _right(seed) == answer
            assert isinstance(answer, BatchError) or _right(seed) == answer

    async def test_an_item_that_kills_is_not_asked_for_ever(self) -> None:
        """Three actors are spent on it, and the error says how they ended."""
        machines = Machines(4, deaths=iter([True] * TRIES))
        replicas = machines.replicas()
        with pytest.raises(BatchError, match=r"3 in a row that ended without.*Lost"):
            await replicas.generate("a bomb", 1)
        assert _right(2) == await _item(replicas, 2)

    async def test_a_place_where_all_die_is_given_up(self) -> None:
        """When no place is left, whoever comes next hears of it at once."""
        machines = Machines(1, deaths=iter([True] * TRIES))
        replicas = machines.replicas()
        for _ in range(2):
            with pytest.raises(BatchError):
                await replicas.generate("a thing", 1)
        assert TRIES == len(machines.actors)

    async def test_an_answer_forgives_earlier_deaths(self) -> None:
        """Only deaths in a row count, however many there are in a long life."""
        deaths = iter([True, False, True, False, True, False, True, False, True, False])
        replicas = Machines(1, deaths=deaths).replicas()
        for seed in range(5):
            image = await replicas.generate("a thing", seed)
            assert (seed, seed, seed) == image.getpixel((0, 0))

    async def test_one_that_cannot_open_again_is_not_replaced(self) -> None:
        """The others remain; when there are none, the error has the cause."""
        machines = Machines(1)
        replicas = machines.replicas()
        machines.problem = LoadError("expected weights, got none")
        machines.actors[0].die()
        with pytest.raises(BatchError, match="expected weights, got none"):
            await replicas.generate("a thing", 1)

    async def test_items_wait_for_the_next_one_to_open(self) -> None:
        """Where all have died, an item waits for a successor and not in vain."""
        machines = Machines(1)
        replicas = machines.replicas()
        machines.holding = {True}
        machines.actors[0].die()
        item = asyncio.create_task(_item(replicas, 7))
        await machines.grown.wait()
        successor = machines.actors[1]
        assert not item.done()
        machines.held = [successor._open]
        successor.answer()
        assert _right(7) == await item


class TestCrossing:
    async def test_an_image_stays_where_it_was_drawn(self) -> None:
        """Its caption and its questions go there, and nothing is sent."""
        machines = Machines(3)
        replicas = machines.replicas()
        for seed in range(6):
            assert _right(seed) == await _item(replicas, seed)
        assert 0 == machines.crossed

    async def test_what_is_known_of_an_image_crosses_too(self) -> None:
        """How many tokens were cut off, for example; and whose session it is."""
        token = current_session.set(Session(5, "ann"))
        image = await Machines().replicas().generate("a thing", 1)
        current_session.reset(token)
        assert {"prompt": "a thing", "owner": (5, "ann")} == image.info

    async def test_a_foreign_image_is_sent_once(self) -> None:
        """However often one asks; also a grey one, which becomes RGB."""
        machines = Machines(3)
        replicas, image = machines.replicas(), Image.new("L", (2, 2), 9)
        for _ in range(4):
            assert ("caption", 9) == await replicas.query("caption", image)
        assert 1 == machines.crossed

    async def test_questions_at_once_send_an_image_once(self) -> None:
        """Whoever asks while it is being sent sends the same reference."""
        machines = Machines(3)
        replicas, image = machines.replicas(), Image.new("RGB", (2, 2), (9, 9, 9))
        machines.holding = {False}
        asked = [asyncio.create_task(replicas.query("look", image, "?")) for _ in "abc"]
        await asyncio.sleep(0)
        (actor,) = [actor for actor in machines.actors if actor.unanswered]
        machines.held = [lambda: "seen"] * 3
        actor.answer()
        assert ["seen"] * 3 == await asyncio.gather(*asked)
        assert 1 == machines.crossed

    async def test_a_forgotten_image_is_sent_again(self) -> None:
        """An actor keeps only its last images."""
        machines = Machines(1)
        replicas = machines.replicas()
        image = await replicas.generate("a thing", 8)
        machines.actors[0].images.clear()
        assert ("caption", 8) == await replicas.query("caption", image)
        assert 1 == machines.crossed

    async def test_an_image_whose_actor_died_is_sent_to_another(self) -> None:
        """Nothing is drawn a second time for that."""
        machines = Machines(2)
        replicas = machines.replicas()
        image = await replicas.generate("a thing", 8)
        next(actor for actor in machines.actors if actor.images).die()
        assert ("caption", 8) == await replicas.query("caption", image)
        assert (1, 1) == (machines.drawn, machines.crossed)

    async def test_images_that_are_gone_are_forgotten(self) -> None:
        """What is known of where images are does not grow for ever."""
        replicas = Machines().replicas()
        image = await replicas.generate("a thing", 8)
        assert 1 == len(replicas._locations)
        del image
        assert 0 == len(replicas._locations)


class TestWaiting:
    async def test_items_go_where_the_fewest_wait(self) -> None:
        """Two actors, four images: two each."""
        machines = Machines(2)
        replicas = machines.replicas()
        machines.holding = {False}
        tasks = [asyncio.create_task(replicas.generate("a", n)) for n in range(4)]
        await asyncio.sleep(0)
        assert [2, 2] == [len(actor.unanswered) for actor in machines.actors]
        replicas.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def test_a_cancelled_item_is_cancelled_at_its_actor(self) -> None:
        """Nobody draws what nobody waits for."""
        machines = Machines(1)
        replicas = machines.replicas()
        machines.holding = {False}
        task = asyncio.create_task(replicas.generate("a thing", 1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 1 == len(machines.cancelled)
        assert [0] == [slot.outstanding for slot in replicas._slots]

    async def test_closing_answers_every_waiter(self) -> None:
        """Those whose item is in flight, those who wait for an actor, and the late."""
        machines = Machines(1)
        replicas = machines.replicas()
        machines.holding = {False}
        early = asyncio.create_task(replicas.generate("a thing", 1))
        await asyncio.sleep(0)
        replicas.close()
        for waiter in (early, replicas.generate("a thing", 1)):
            with pytest.raises(ClosedError, match="expected open replicas"):
                await waiter
        with pytest.raises(ClosedError):
            await replicas._wait_for_any([])

    def test_the_first_to_open_opens_for_all(self) -> None:
        """An actor that dies while it opens is replaced meanwhile."""
        machines = Machines(2)
        machines.holding = {True}
        replicas = machines.replicas()
        machines.holding = set()
        machines.actors[0].die()
        assert ABLE == replicas.open(1)
        assert 3 == len(machines.actors)

    def test_actors_that_die_while_they_open_end_the_opening(self) -> None:
        """After three in each place nobody else is tried."""
        machines = Machines(2, problem=Lost("no memory"))
        with pytest.raises(BatchError, match="no memory"):
            machines.replicas().open(1)
        assert 2 * TRIES == len(machines.actors)

    def test_what_an_actor_cannot_open_is_told_as_it_is(self) -> None:
        """A wrong setting is wrong on every machine."""
        machines = Machines(problem=LoadError("expected weights, got none"))
        with pytest.raises(LoadError, match=r"^expected weights, got none$"):
            machines.replicas().open(1)

    def test_the_timeout_ends_the_opening(self) -> None:
        """A cluster without room says so, some time."""
        machines = Machines()
        machines.holding = {True}
        with pytest.raises(ConfigurationError, match=r"within 0.01 s, got none of 2"):
            machines.replicas().open(0.01)


class TestReplica:
    """What runs in the actor, here in this process."""

    async def test_it_keeps_its_last_images(self) -> None:
        """The one that was asked about longest ago is forgotten first."""
        replica = Replica(Settings(), open_with=_opener(), kept=2)
        able = await replica.open()
        assert {"generate", "caption", "answer_yes_no", "score"} == able.operations
        for token in (1, 2):
            pixels, info = await replica.generate(None, token, "a thing", token)
            assert ((4, 4, 3), {"truncated_tokens": 0}) == (pixels.shape, info)
        assert "1 thing" == await replica.query(None, 1, None, "caption", None)
        await replica.generate((3, None), 3, "a thing", 3)
        with pytest.raises(ImageEvictedError):
            await replica.query(None, 2, None, "caption", None)
        assert "2 thing" == await replica.query(
            None, 2, np.full((4, 4, 3), 2, np.uint8), "caption", None
        )
        assert 0.02 == await replica.query(None, 2, None, "score", "a thing", None)
        answer = await replica.query(None, 2, None, "answer_yes_no", None, "Is it 2?")
        assert YesNo.YES == answer.said
        await replica.close()


def _opener(  # noqa: C901 - a closure crosses whole to another process
    folder: Path | None = None,
) -> Callable[[Settings, Worker], ImageModels]:
    """Return what opens small models, also in another process.

    On the node that ``hold`` names, nothing is drawn as long as anybody waits.
    """
    problems = {
        "a secret": CandidateError(Status.SAFETY_FILTERED, "expected less"),
        "a lie": AnswerError("expected truth", raw="a lie"),
        "a bug": ZeroDivisionError(),
    }

    def held() -> bool:
        import ray

        hold = folder and folder / "hold"
        if hold is None or not hold.exists():
            return False
        here: str = ray.get_runtime_context().get_node_id()
        return here in hold.read_text()

    def draw(items: list[tuple[str, int]]) -> list[Any]:
        return [Image.new("RGB", (4, 4), (n % 256, len(text), 0)) for text, n in items]

    def snap(nothing: list[None]) -> list[None]:
        """Never end, but only once."""
        if folder and not (folder / "sprung").exists():
            (folder / "sprung").write_text("")
            threading.Event().wait()
        return nothing

    def open_image_models(settings: Settings, worker: Worker) -> ImageModels:
        if settings.generator == "broken":
            raise LoadError("expected weights, got none")
        stage: Stage[tuple[str, int], Any] = Stage(name="generator", run=draw)
        trap: Stage[None, None] = Stage(name="trap", run=snap, timeout=1)

        async def generate(prompt: str, seed: int) -> Image.Image:
            if folder and held():
                (folder / "begun").write_text("")
                try:
                    await asyncio.Event().wait()
                finally:
                    (folder / "ended").write_text("cancelled")
            if prompt == "a trap":
                await worker.submit(trap, None)
            if prompt in problems:
                raise problems[prompt]
            image = await worker.submit(stage, (prompt, seed))
            image.info["truncated_tokens"] = 0
            return image

        async def caption(image: Image.Image) -> str:
            return f"{np.asarray(image)[0, 0, 0]} thing"

        async def decide(image: Image.Image, question: str) -> Answer:
            return Answer(said=YesNo.YES, probability=1.0)

        async def score(user_prompt: str, image: Image.Image) -> float:
            return float(np.asarray(image)[0, 0, 0]) / 100

        return ImageModels(
            generate=generate, caption=caption, answer_yes_no=decide, score=score
        )

    return open_image_models


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one processor, and nobody connected."""
    from ray.cluster_utils import Cluster

    head = {**NODE, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        # Or a token of whoever runs the tests would shut nodes out that have none.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(**NODE)
        patch.setenv("RAY_ADDRESS", cluster.address)  # there may be other clusters
        yield cluster
        cluster.shutdown()


@pytest.fixture
def connected(cluster: Any) -> Iterator[Any]:
    """Be connected as somebody who uses Ray for other things, too."""
    ray.init(address=cluster.address, **QUIET)
    yield cluster
    ray.shutdown()


def _settings(count: int = 2, **facts: Any) -> Settings:
    workers = RayWorkers(count, gpus_each=0, **facts)
    return Settings(workers=workers, generator="fake")


async def _through(image_models: ImageModels, seed: int) -> Any:
    image = await image_models.generate(f"thing {seed}", seed)
    assert image_models.answer_yes_no is not None
    assert image_models.score is not None
    answer = await image_models.answer_yes_no(image, "Is it?")
    score = await image_models.score("a thing", image)
    caption = await image_models.caption(image)
    return image.tobytes(), image.info, caption, answer, score


async def _locally(seeds: range) -> list[Any]:
    async with Worker() as worker:
        image_models = _opener()(Settings(), worker)
        return [await _through(image_models, seed) for seed in seeds]


class TestRay:
    """The same on two nodes."""

    async def test_all_is_as_it_would_be_here(self, connected: Any) -> None:
        """Answers, errors and what is counted; and closing leaves others connected."""
        image_models = await asyncio.to_thread(
            open_replicas, _settings(), open_with=_opener()
        )
        with using_meter(UsageMeter()) as meter:
            answers = await asyncio.gather(
                *(_through(image_models, n) for n in range(12))
            )
        assert await _locally(range(12)) == answers
        assert 12 == meter.images
        assert image_models.answer_open is None
        foreign = Image.new("RGB", (4, 4), (5, 0, 0))
        assert "5 thing" == await image_models.caption(foreign)
        with pytest.raises(CandidateError, match=r"^expected less$") as refused:
            await image_models.generate("a secret", 1)
        assert (CandidateError, Status.SAFETY_FILTERED) == (
            type(refused.value),
            refused.value.status,
        )
        with pytest.raises(AnswerError) as lied:
            await image_models.generate("a lie", 1)
        assert "a lie" == lied.value.raw
        with pytest.raises(CandidateError, match="ZeroDivisionError") as bug:
            await image_models.generate("a bug", 1)
        assert Status.GENERATION_FAILED == bug.value.status
        for close in image_models.closers:
            await close()
        with pytest.raises(ClosedError):
            await image_models.generate("a thing", 1)
        assert ray.is_initialized()

    async def test_what_nobody_waits_for_is_not_drawn(
        self, connected: Any, tmp_path: Path
    ) -> None:
        """A cancelled item ends at its actor."""
        nodes = [node["NodeID"] for node in ray.nodes()]
        (tmp_path / "hold").write_text(" ".join(nodes))
        for name in ("begun", "ended"):
            os.mkfifo(tmp_path / name)  # who reads it waits for who writes it
        image_models = await asyncio.to_thread(
            open_replicas, _settings(1), open_with=_opener(tmp_path)
        )
        task = asyncio.ensure_future(image_models.generate("a thing", 1))
        await asyncio.to_thread((tmp_path / "begun").read_text)
        task.cancel()
        assert "cancelled" == await asyncio.to_thread((tmp_path / "ended").read_text)
        for close in image_models.closers:
            await close()

    async def test_what_the_dead_had_is_done_again(
        self, connected: Any, tmp_path: Path
    ) -> None:
        """An actor, or its machine, ends with work in flight: all is answered, once."""
        node = connected.add_node(**NODE)
        connected.wait_for_nodes()
        cluster = RayCluster(RayWorkers(3, gpus_each=0))
        start = partial(cluster.start, Settings(), open_with=_opener(tmp_path))
        replicas = ReplicaPool(cluster, start=start)
        right = await _locally(range(9))
        for end in ("actor", "machine"):
            places = replicas._slots
            opened = [place.opened for place in places]
            await asyncio.to_thread(futures.wait, opened)
            (tmp_path / "hold").write_text(node.node_id)
            tasks = [
                asyncio.create_task(replicas.generate(f"thing {seed}", seed))
                for seed in range(9)
            ]
            for done in islice(asyncio.as_completed(tasks), 6):
                await done
            (held,) = [place for place in places if place.outstanding]
            assert 3 == held.outstanding
            (tmp_path / "hold").unlink()
            if end == "actor":
                ray.kill(held.actor)
            else:
                connected.remove_node(node)
            images = await asyncio.gather(*tasks)
            assert [one[0] for one in right] == [image.tobytes() for image in images]
            assert held not in replicas._slots
        captions = await asyncio.gather(*(replicas.query("caption", i) for i in images))
        assert [one[2] for one in right] == captions
        await asyncio.to_thread(replicas.close)

    async def test_an_actor_that_is_stuck_is_replaced(
        self, connected: Any, tmp_path: Path
    ) -> None:
        """A call that does not end takes its process with it, and is done again."""
        image_models = await asyncio.to_thread(
            open_replicas, _settings(1), open_with=_opener(tmp_path)
        )
        image = await image_models.generate("a trap", 3)
        assert (3, 6, 0) == image.getpixel((0, 0))
        for close in image_models.closers:
            await close()

    async def test_what_cannot_be_opened_is_told(self, connected: Any) -> None:
        """As it would be here: class and message."""
        settings = _settings(1).but(generator="broken")
        with pytest.raises(LoadError, match=r"^expected weights, got none$") as refused:
            await asyncio.to_thread(open_replicas, settings, open_with=_opener())
        assert LoadError is type(refused.value)

    def test_there_must_be_room_for_one(self, connected: Any) -> None:
        """A cluster without GPUs has none to give."""
        with pytest.raises(ConfigurationError, match=r"1 GPUs.*got 0; lower gpus_each"):
            RayCluster(RayWorkers())

    @pytest.mark.slow
    @pytest.mark.timeout(300)  # two processes load everything, on a busy machine
    async def test_the_pocket_world_is_the_same_there(self, cluster: Any) -> None:
        """A refinement on the cluster is the local one; it is left as it was found.

        Images are the same to the last bit; of a P(yes) the last digits of float32 once
        were not, beside other tests in the local process.
        """
        prompt, found = "a crimson ball", dict[str, Any]()
        for workers in (None, RayWorkers(1, gpus_each=0)):
            async with Refiner(seed=3, rounds=2, workers=workers) as refiner:
                found[str(workers)] = await refiner.refine(prompt)
                assert (workers is None) == (refiner.statistics() is not None)
        here, there = (
            [
                (one.image and one.image.tobytes(), without_digits(one))
                for one in refinement.history.candidates
            ]
            for refinement in found.values()
        )
        assert here == there
        near, far = (
            [
                answer.probability
                for one in refinement.history.candidates
                for answer in one.answers
            ]
            for refinement in found.values()
        )
        assert pytest.approx(near, abs=1e-5) == far
        assert not ray.is_initialized()


class TestCluster:
    def test_ray_must_be_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is missing is named, and how to get it."""
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(ConfigurationError, match=r"install .*socratic-agents\[ray"):
            RayCluster(RayWorkers())

    @pytest.mark.parametrize(
        ("problem", "said"),
        [
            (ConnectionError("nobody\nis there"), "got: nobody is there; start one"),
            (ValueError("Ray Client requires pip package"), "requires pip package"),
        ],
    )
    def test_an_address_where_nobody_answers(
        self, monkeypatch: pytest.MonkeyPatch, problem: Exception, said: str
    ) -> None:
        """One line says so."""

        def refuse(*_: Any, **__: Any) -> None:
            raise problem

        monkeypatch.setattr(ray, "init", refuse)
        with pytest.raises(ConfigurationError, match=said):
            RayCluster(RayWorkers(address="ray://nowhere:10001"))

    def test_where_no_cluster_is_one_is_started(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And it ends with the connection."""
        addresses = list[str]()

        def init(address: str, **named: Any) -> None:
            addresses.append(address)
            if address == "auto":
                raise ConnectionError

        with monkeypatch.context() as patch:
            patch.setattr(ray, "init", init)
            patch.setattr(ray, "cluster_resources", lambda: {"GPU": 4.0})
            patch.setattr(ray, "nodes", lambda: [{"Alive": True}, {"Alive": False}])
            patch.setattr(ray, "shutdown", lambda: addresses.append("down"))
            shares = {
                count: RayCluster(cast("RayWorkers", parse_workers(workers))).count
                for count, workers in (
                    (4, "ray://head:10001"),
                    (8, RayWorkers(gpus_each=0.5)),
                    (1, RayWorkers(gpus_each=0)),
                    (3, RayWorkers(3)),
                )
            }
            RayCluster(RayWorkers()).close(())
        assert list(shares) == list(shares.values())
        assert ["ray://head:10001", *["auto", "local"] * 4, "down"] == addresses


class TestSettings:
    @pytest.mark.parametrize(
        "value", ["ray", "ray://head:10001", RayWorkers(2), RayWorkers(gpus_each=0.5)]
    )
    def test_workers_are_read(self, value: Any) -> None:
        """By name, or as an object, which is shown by its class."""
        settings = Settings(workers=value)
        shown = value if isinstance(value, str) else "RayWorkers"
        assert shown == settings.public()["workers"]
        assert isinstance(parse_workers(settings.workers), RayWorkers)

    @pytest.mark.parametrize("value", ["roy", "ray://head", "ray://you:pw@head:1", 3])
    def test_other_workers_are_refused(self, value: Any) -> None:
        """One line says what can be given."""
        with pytest.raises(ConfigurationError, match=r"ray://HOST:PORT.*or RayWorkers"):
            Settings(workers=value)

    @pytest.mark.parametrize(
        "facts",
        [
            {"count": 0},
            {"count": 1.5},
            {"gpus_each": -1},
            {"gpus_each": float("nan")},
            {"address": "http://head"},
            {"patience": 0},
        ],
    )
    def test_ranges(self, facts: dict[str, Any]) -> None:
        """What is out of its range is named."""
        with pytest.raises(
            ConfigurationError, match=f"expected {next(iter(facts))} to"
        ):
            RayWorkers(**facts)

    @pytest.mark.parametrize("part", ["generator", "captioner", "scorer"])
    def test_objects_stay_here(self, part: str) -> None:
        """A model that is an object cannot be opened elsewhere."""
        with pytest.raises(ConfigurationError, match=f"object {part} 'Machines'"):
            Settings(workers="ray", **{part: Machines()})

    def test_an_images_server_needs_no_workers(self) -> None:
        """It has machines of its own."""
        settings = Settings(workers="ray", generator="http://127.0.0.1:1/v1")
        with pytest.raises(ConfigurationError, match="leave workers out"):
            open_replicas(settings)

    def test_the_command_line_knows_them(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """As an option, checked before anything is opened."""
        out = str(tmp_path / "run")
        assert 2 == main(["refine", "a ball", "--workers", "roy", "--out", out])
        assert "workers: expected workers (process, ray," in capsys.readouterr().err

    def test_what_crosses_has_no_secrets_and_no_objects(self) -> None:
        """Only what decides how the image models are opened."""
        settings = Settings(
            workers=RayWorkers(2), api_key="secret", judge=_item, scorer=None, steps=3
        )
        crossed = pickle.dumps(_portable(settings))
        assert b"secret" not in crossed
        there = pickle.loads(crossed)  # noqa: S301 - our own
        assert (None, None, 3) == (there.workers, there.scorer, there.steps)


@pytest.mark.parametrize(
    "problem",
    [
        CandidateError(Status.SAFETY_FILTERED, "expected less"),
        AnswerError("expected truth", raw="a lie"),
        BatchError("expected 2, got 1"),
        UnknownWordError("expected a word"),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_errors_cross_whole(problem: SocraticError) -> None:
    """Class, message, and what else they tell."""
    crossed = pickle.loads(pickle.dumps(problem))  # noqa: S301 - our own
    assert (type(problem), str(problem)) == (type(crossed), str(crossed))
    assert vars(problem) == vars(crossed)
