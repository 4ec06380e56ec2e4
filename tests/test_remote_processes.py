"""A process cluster: models run in children, and come to the same.

* What crosses the pipe, answers and errors, arrives as it was sent.
* A child that dies is replaced, and what it had is done again.
* Nothing is left behind: no child, no thread, no waiter, not a word on stdout.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent import futures
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from PIL import Image

from socratic_agents.config.settings import Settings
from socratic_agents.config.workers import ProcessWorkers, RayWorkers, parse_workers
from socratic_agents.core.errors import (
    AnswerError,
    BatchError,
    CandidateError,
    ClosedError,
    ConfigurationError,
    LoadError,
)
from socratic_agents.core.history import Status
from socratic_agents.core.text import error_line
from socratic_agents.runtime.devices.remote_models import open_replicas
from socratic_agents.runtime.open_models import open_image_models
from socratic_agents.scheduler.remote import processes
from socratic_agents.scheduler.remote.child import CANCEL, READY, RpcServer
from socratic_agents.scheduler.remote.pool import TRIES, ReplicaPool
from socratic_agents.scheduler.remote.processes import (
    LostProcessError,
    ProcessCluster,
    _devices,
)
from socratic_agents.scheduler.worker import Worker
from tests.child_models import HELD_BACK, UnpicklableError, open_child_models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from socratic_agents.runtime.image_models import ImageModels

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let children find ``tests``, and see that each test leaves nothing behind."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    yield
    assert [] == multiprocessing.active_children()
    assert [] == [t for t in threading.enumerate() if "replica" in t.name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the pipes by which held drawings tell of themselves."""
    for name in ("begun a", "begun b", "ended"):
        os.mkfifo(tmp_path / name)  # who reads it waits for who writes it
    return tmp_path


@pytest.fixture
async def replicas(folder: Path) -> AsyncIterator[ReplicaPool]:
    """Return two open processes, on two devices."""
    cluster = ProcessCluster(ProcessWorkers(2), device="a, b")
    start = partial(
        cluster.start, Settings(), open_with=partial(open_child_models, folder)
    )
    replicas = ReplicaPool(cluster, start=start)
    await _all_opened(replicas)
    yield replicas
    await asyncio.to_thread(replicas.close)


async def _all_opened(replicas: ReplicaPool) -> None:
    opened = [slot.opened for slot in replicas._slots]
    await asyncio.to_thread(futures.wait, opened)


async def _opened(folder: Path, **named: Any) -> ImageModels:
    settings = Settings(workers=ProcessWorkers(1), generator="fake").but(**named)
    open_with = partial(open_child_models, folder)
    return await asyncio.to_thread(open_replicas, settings, open_with=open_with)


async def _closed(image_models: ImageModels) -> None:
    for close in image_models.closers:
        await close()


class TestChildren:
    """Real ones."""

    async def test_what_crosses_arrives_as_it_was(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Images and what is known of them, errors, and nothing on stdout."""
        image_models = await _opened(folder, device="here")
        image = await image_models.generate("a noise", 300)
        assert (44, 7, 0) == image.getpixel((0, 0))
        assert {"where": "here"} == image.info
        caption = await image_models.caption(image)
        assert caption.startswith("(44, 7, 0) in process ")
        assert str(os.getpid()) != caption.split()[-1]
        foreign = Image.new("RGB", (1000, 1000), (5, 0, 0))
        assert (await image_models.caption(foreign)).startswith("(5, 0, 0)")
        with pytest.raises(CandidateError, match=r"^expected less$") as refused:
            await image_models.generate("a secret", 1)
        assert Status.SAFETY_FILTERED is refused.value.status
        with pytest.raises(AnswerError) as lied:
            await image_models.generate("a lie", 1)
        assert "a lie" == lied.value.raw
        with pytest.raises(CandidateError, match=r"^ZeroDivisionError: a bug$") as bug:
            await image_models.generate("a bug", 1)
        assert Status.GENERATION_FAILED is bug.value.status
        with pytest.raises(BatchError, match=r"^UnpicklableError: a mule, no reason$"):
            await image_models.generate("a mule", 1)
        with pytest.raises(BatchError, match=r"^ValueError: .*a bolt"):
            await image_models.generate("a bolt", 1)
        await _closed(image_models)
        out, err = capfd.readouterr()
        assert ("", ["bang", "boom"]) == (out, err.splitlines())

    async def test_a_killed_one_has_a_successor(
        self, replicas: ReplicaPool, folder: Path
    ) -> None:
        """On the same device, and it answers what was in flight."""
        (folder / "hold").touch()
        items = [
            asyncio.create_task(replicas.generate(f"thing {seed}", seed))
            for seed in range(2 * HELD_BACK)
        ]
        for name in ("begun a", "begun b"):
            await asyncio.to_thread((folder / name).read_text)
        (folder / "hold").unlink()
        killed = multiprocessing.active_children()
        for child in killed:
            assert child.pid
            os.kill(child.pid, signal.SIGKILL)
        images = await asyncio.gather(*items)
        shades = [(seed, 7, 0) for seed in range(2 * HELD_BACK)]
        assert shades == [image.getpixel((0, 0)) for image in images]
        await _all_opened(replicas)
        both = await asyncio.gather(*(replicas.generate("x", seed) for seed in (1, 2)))
        assert {"a", "b"} == {image.info["where"] for image in both}
        assert not {*killed} & {*multiprocessing.active_children()}

    async def test_a_stuck_one_has_a_successor(self, folder: Path) -> None:
        """Its process is ended, and the item is drawn by the next."""
        image_models = await _opened(folder)
        image = await image_models.generate("a trap", 3)
        assert (3, 6, 0) == image.getpixel((0, 0))
        await _closed(image_models)

    async def test_an_item_that_kills_is_not_drawn_for_ever(self, folder: Path) -> None:
        """The error says how the last one ended."""
        image_models = await _opened(folder)
        with pytest.raises(BatchError, match=f"{TRIES} in a row .* exit code 7"):
            await image_models.generate("a bomb", 1)
        await _closed(image_models)

    async def test_what_nobody_waits_for_is_not_drawn(self, folder: Path) -> None:
        """A cancelled item ends where it is drawn; closing answers the others."""
        image_models = await _opened(folder, device="a")
        (folder / "hold").touch()
        item, *others = (
            asyncio.ensure_future(image_models.generate("a thing", seed))
            for seed in range(HELD_BACK)
        )
        await asyncio.to_thread((folder / "begun a").read_text)
        item.cancel()
        assert "cancelled" == await asyncio.to_thread((folder / "ended").read_text)
        await _closed(image_models)
        with pytest.raises(asyncio.CancelledError):
            await item
        for other in (*others, image_models.generate("a thing", 1)):
            with pytest.raises(ClosedError):
                await other

    async def test_ctrl_c_is_for_the_parent(self, folder: Path) -> None:
        """A child continues, for those whose work may still end."""
        image_models = await _opened(folder)
        (child,) = multiprocessing.active_children()
        assert child.pid
        os.kill(child.pid, signal.SIGINT)
        image = await image_models.generate("a thing", 1)
        assert (await image_models.caption(image)).endswith(f" {child.pid}")
        await _closed(image_models)

    async def test_what_cannot_be_opened_is_told(self, folder: Path) -> None:
        """As it would be here, and no child is left."""
        with pytest.raises(LoadError, match=r"^expected weights, got none$"):
            await _opened(folder, generator="broken")

    def test_what_cannot_cross_is_not_opened(self) -> None:
        """Nothing is left of an attempt."""
        settings = Settings(workers=ProcessWorkers(2), device="cpu")
        with pytest.raises((AttributeError, pickle.PicklingError)):
            open_replicas(settings, open_with=lambda *_: cast("Any", None))

    def test_what_the_child_cannot_import(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is no accident, and nobody tries again."""
        monkeypatch.setitem(sys.modules, "nowhere", module := ModuleType("nowhere"))
        module.open_with = _nowhere  # type: ignore[attr-defined]
        monkeypatch.setattr(_nowhere, "__module__", "nowhere")
        monkeypatch.setattr(_nowhere, "__qualname__", "open_with")
        settings = Settings(workers=ProcessWorkers(1))
        with pytest.raises(ConfigurationError, match="imports what it needs, got exit"):
            open_replicas(settings, open_with=_nowhere)

    def test_a_dead_one_says_so(self, folder: Path) -> None:
        """Whoever asks later does not wait, and cancelling does no harm."""
        cluster = ProcessCluster(ProcessWorkers(1))
        actor = cluster.start(Settings(), open_with=partial(open_child_models, folder))
        opened = actor.open.remote()
        assert opened.future().result(60).operations == {"generate", "caption"}
        cluster.kill(actor)
        actor.reader.join()
        late = actor.open.remote()
        with pytest.raises(LostProcessError, match="ended with exit code -9"):
            late.future().result()
        cluster.cancel(late)
        cluster.close([actor])

    def test_the_main_program_must_be_guarded(self, tmp_path: Path) -> None:
        """A child imports it, and would begin everything anew."""
        script = tmp_path / "script.py"
        script.write_text(
            "from socratic_agents.runtime.devices.remote_models import open_replicas\n"
            "from socratic_agents.config.settings import Settings\n"
            "from socratic_agents.config.workers import ProcessWorkers\n"
            "open_replicas(Settings(workers=ProcessWorkers(1)))\n"
        )
        run = subprocess.run(
            [sys.executable, script], capture_output=True, text=True, check=False
        )
        assert "" == run.stdout
        last = run.stderr.splitlines()[-1]
        assert "expected a process that imports what it needs, got exit" in last

    def test_they_end_with_a_parent_that_is_killed(self, folder: Path) -> None:
        """Their pipe closes, and that is enough."""
        script = folder / "script.py"
        script.write_text(
            "from functools import partial\n"
            "from pathlib import Path\n"
            "from socratic_agents.runtime.devices.remote_models import open_replicas\n"
            "from socratic_agents.config.settings import Settings\n"
            "from socratic_agents.config.workers import ProcessWorkers\n"
            "from tests.child_models import open_child_models\n"
            "if __name__ == '__main__':\n"
            "    settings = Settings(workers=ProcessWorkers(1))\n"
            "    open_replicas(settings, open_with=partial(open_child_models, Path()))\n"
            "    print('open', flush=True)\n"
            "    input()\n"
        )
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(
            [sys.executable, script],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
            **cast("Any", pipes),
        ) as parent:
            assert parent.stdout
            assert "open\n" == parent.stdout.readline()
            parent.kill()
            # Children have these pipes too: they end when the last of them does.
            assert ("", "") == parent.communicate(timeout=60)
        assert -signal.SIGKILL == parent.returncode

    @pytest.mark.slow
    async def test_the_pocket_world_is_the_same_there(self) -> None:
        """Image by image, to the last bit."""
        settings = Settings(strict=True, steps=2)

        async def images(image_models: ImageModels) -> list[Any]:
            prompts = ("a crimson ball", "an azure box", "two green rings")
            drawn = await asyncio.gather(
                *(
                    image_models.generate(text, seed)
                    for seed, text in enumerate(prompts)
                )
            )
            captions = await asyncio.gather(
                *(image_models.caption(one) for one in drawn)
            )
            return [[one.tobytes() for one in drawn], captions]

        far = settings.but(workers=ProcessWorkers(1))
        async with Worker() as worker:
            image_models, local = await asyncio.gather(
                asyncio.to_thread(open_replicas, far),
                worker.call(lambda: open_image_models(settings, worker)),
            )
            there, here = await images(image_models), await images(local)
        await _closed(image_models)
        assert here == there


def _nowhere(settings: Settings, worker: Worker) -> ImageModels:
    """Stand for what only this process has."""
    raise NotImplementedError


class Echo:
    """Something to ask: it says what it hears."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()

    async def say(self, *words: Any) -> Any:
        return words

    async def lock(self) -> Any:
        return threading.Lock()

    async def bolt(self) -> None:
        raise ValueError(threading.Lock())

    async def resist(self) -> None:
        raise UnpicklableError("a mule", "no reason")

    async def wait(self) -> None:
        self.waiting.set()
        await asyncio.Event().wait()

    async def wait_for_wait(self) -> str:
        await self.waiting.wait()
        return "waiting"


class Client:
    """A pipe to a server that runs in a thread."""

    def __init__(self) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.ready = dict[int, Any]()

        def work() -> None:
            with theirs:
                asyncio.run(RpcServer(theirs, Echo(), describe=error_line).run())

        self.thread = threading.Thread(target=work)
        self.thread.start()

    def ask(self, number: int, name: str, *inputs: Any) -> None:
        self.pipe.send((number, name, inputs))

    def answer(self, number: int) -> Any:
        while number not in self.ready:
            for at, output, problem in self.pipe.recv():
                self.ready[at] = problem or output
        return self.ready.pop(number)


@pytest.fixture
def client() -> Iterator[Client]:
    """Return a client whose server ends with it."""
    client = Client()
    yield client
    client.pipe.close()
    client.thread.join()


class TestRpcServer:
    """What runs in a child, here in a thread."""

    def test_answers_have_the_numbers_of_their_requests(self, client: Client) -> None:
        """In whatever order they are fetched; the first one is that it has begun."""
        for number in range(1, 200):
            client.ask(number, "say", number)
        assert [(n,) for n in range(199, 0, -1)] == [
            client.answer(n) for n in range(199, 0, -1)
        ]
        assert client.answer(READY) is None

    def test_arrays_cross(self, client: Client) -> None:
        """With type and shape."""
        pixels = np.arange(3_000_000, dtype=np.uint8).reshape(1000, 1000, 3)
        client.ask(1, "say", pixels)
        (back,) = client.answer(1)
        assert np.array_equal(pixels, back)
        assert np.uint8 == back.dtype

    def test_a_cancelled_request_is_answered_with_that(self, client: Client) -> None:
        """One that was answered before cannot be cancelled any more."""
        client.ask(1, "wait")
        client.ask(2, "wait_for_wait")
        assert "waiting" == client.answer(2)
        client.ask(2, CANCEL)
        client.ask(1, CANCEL)
        assert isinstance(client.answer(1), asyncio.CancelledError)

    @pytest.mark.parametrize("name", ["lock", "bolt"])
    def test_what_cannot_be_pickled_becomes_an_error(
        self, client: Client, name: str
    ) -> None:
        """That says what it was."""
        client.ask(1, name)
        problem = client.answer(1)
        assert BatchError is type(problem)
        assert "lock" in str(problem)

    def test_what_cannot_be_revived_becomes_an_error(self, client: Client) -> None:
        """An error is made anew of its arguments, and not all can be."""
        client.ask(1, "resist")
        problem = client.answer(1)
        assert BatchError is type(problem)
        assert "UnpicklableError: a mule, no reason" == str(problem)

    def test_a_request_that_cannot_be_read_ends_it(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever waits at the other end hears of that."""
        raised = list[threading.ExceptHookArgs]()
        monkeypatch.setattr(threading, "excepthook", raised.append)
        client.pipe.send_bytes(b"nonsense")
        client.thread.join()
        assert [pickle.UnpicklingError] == [one.exc_type for one in raised]
        with pytest.raises(EOFError):
            client.answer(1)

    def test_an_answer_that_cannot_cross_costs_no_other(self) -> None:
        """Those that were to be sent with it are sent by themselves."""
        ours, theirs = multiprocessing.Pipe()
        with ours, theirs:
            server = RpcServer(theirs, Echo(), describe=error_line)
            server._send([(1, "a", None), (2, threading.Lock(), None), (3, "c", None)])
            first, second, third = (ours.recv() for _ in range(3))
        assert [(1, "a", None)] == first
        assert [(3, "c", None)] == third
        ((number, output, problem),) = second
        assert (2, None, BatchError) == (number, output, type(problem))

    def test_a_closed_pipe_is_no_fault_of_an_answer(self) -> None:
        """Nobody is there any more to be told of one."""
        ours, theirs = multiprocessing.Pipe()
        server = RpcServer(theirs, Echo(), describe=error_line)
        ours.close()
        with theirs, pytest.raises(BrokenPipeError):
            server._send([(1, "a", None), (2, "b", None)])


def test_a_system_without_masks_of_signals_starts_processes_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On Windows a process ignores Ctrl-C once it runs."""
    monkeypatch.delattr(signal, "pthread_sigmask")
    begun: Any = threading.Event()
    processes._start(SimpleNamespace(start=begun.set))  # type: ignore[arg-type]
    assert begun.is_set()


class TestDevices:
    @pytest.mark.parametrize(
        ("device", "cuda", "expected"),
        [
            (None, 0, (None,)),
            (None, 1, ("cuda:0",)),
            (None, 3, ("cuda:0", "cuda:1", "cuda:2")),
            ("cpu", 3, ("cpu",)),
            ("cuda:1, cuda:3", 4, ("cuda:1", "cuda:3")),
        ],
    )
    def test_they_are_taken_in_turn(
        self, device: str | None, cuda: int, expected: tuple[str | None, ...]
    ) -> None:
        """All that are there, or those that are named."""
        assert expected == _devices(device, cuda=cuda)

    def test_there_is_a_process_for_each(self) -> None:
        """Unless somebody says how many."""
        import torch

        assert (
            max(1, torch.cuda.device_count()) == ProcessCluster(ProcessWorkers()).count
        )
        for count, expected in ((None, 2), (1, 1), (5, 5)):
            cluster = ProcessCluster(ProcessWorkers(count), device="a,b")
            assert expected == cluster.count


class TestSettings:
    @pytest.mark.parametrize("value", ["process", ProcessWorkers(2)])
    def test_workers_are_read(self, value: Any) -> None:
        """By name, or as an object, which is shown by its class."""
        settings = Settings(workers=value)
        shown = value if isinstance(value, str) else "ProcessWorkers"
        assert shown == settings.public()["workers"]
        assert isinstance(parse_workers(settings.workers), ProcessWorkers)
        assert isinstance(parse_workers("ray"), RayWorkers)

    def test_others_are_refused(self) -> None:
        """One line says what can be given."""
        with pytest.raises(
            ConfigurationError, match=r"\(process, ray, ray://HOST:PORT\), Process"
        ):
            Settings(workers="processes")

    @pytest.mark.parametrize("facts", [{"count": 0}, {"count": True}, {"patience": 0}])
    def test_ranges(self, facts: dict[str, Any]) -> None:
        """What is out of its range is named."""
        with pytest.raises(
            ConfigurationError, match=f"expected {next(iter(facts))} to"
        ):
            ProcessWorkers(**facts)

    def test_ray_is_not_needed(self) -> None:
        """Nor loaded."""
        code = (
            "import sys; from socratic_agents.runtime.devices.remote_models import open_replicas; "
            "from socratic_agents.config.settings import Settings; "
            "Settings(workers='process'); print('ray' in sys.modules)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert "False\n" == run.stdout
