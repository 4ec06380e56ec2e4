"""The command line: what it prints where, what it leaves behind, how it ends."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import signal
import subprocess
import sys
import warnings
import zlib
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest
from PIL import Image
from rich.console import Console

from socratic_agents.cli import refine as refine_command
from socratic_agents.cli.app import main
from socratic_agents.cli.doctor import _version, checks
from socratic_agents.cli.progress import Progress
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import (
    CallError,
    CandidateError,
    ConfigurationError,
    LoadError,
    SocraticError,
    UnknownWordError,
)
from socratic_agents.core.history import History, Status, Verdict
from socratic_agents.core.loop import Agents, Event
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.core.prompts import (
    PromptLine,
    read_lines,
    sanitize_for_terminal,
    validate_prompt,
)
from socratic_agents.runtime.readiness.finding import Finding
from tests.strategies import refine_in_rounds

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from typing import Self

    from socratic_agents.runtime.refiner import Refiner

ROOT = Path(__file__).parent.parent


async def generate(prompt: str, seed: int) -> Image.Image:
    print("a library that prints")  # noqa: T201 - that is what is tested
    if "unlucky" in prompt:
        raise CandidateError(Status.NUMERICAL_FAILURE, "the image is black")
    shade = zlib.crc32(f"{prompt}{seed}".encode()) % 256
    return Image.new("RGB", (8, 8), (shade, shade, 90))


async def caption(image: Image.Image) -> str:
    return f"shade {image.getpixel((0, 0))}"


async def judge(history: History) -> Verdict:
    if "unjudged" in history.user_prompt:
        return Verdict.unjudged("no route")
    if len(history.rounds) == 1:
        return Verdict(satisfied=False, missing=("more",), reason="too little")
    return Verdict(satisfied=len(history.rounds) > 2, reason="so it is")


async def optimize(history: History) -> tuple[str, ...]:
    if "mute" in history.user_prompt:
        raise CallError("expected an answer,\ngot none; \x1b[31mtry again")
    return (f"{history.user_prompt}, more",)


async def select(history: History) -> int:
    return len(history.candidates) - 1


class SmallRefiner:
    """Refines with six small functions, in the way of the real one."""

    opened = 0

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        if settings.generator == "broken":
            raise LoadError("expected a model, got 'broken'; name another")

    async def __aenter__(self) -> Self:
        type(self).opened += 1
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def remember(self, run: object) -> Self:
        return self

    def check(self, prompt: str) -> str:
        if "flower" in prompt:
            raise UnknownWordError("expected words of this world, got 'flower'")
        return validate_prompt(prompt)

    async def refine(
        self, prompt: str, *, on_event: Callable[[Event], None]
    ) -> Refinement:
        self.check(prompt)
        if "interrupt" in prompt:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        agents = Agents(
            generate=generate,
            caption=caption,
            judge=judge,
            optimize=optimize,
            select=select,
        )
        refinement = await refine_in_rounds(
            prompt,
            agents,
            rounds=self.settings.rounds or 4,
            seeds=count(self.settings.seed),
            seeds_per_prompt=self.settings.seeds_per_prompt,
            on_event=on_event,
        )
        return replace(refinement, settings=self.settings.public())

    async def refine_many(
        self, prompts: Iterable[str], *, on_event: Callable[[int, Event], None]
    ) -> AsyncGenerator[Refinement | Failure, None]:
        for index, prompt in reversed(list(enumerate(prompts))):

            def observe(event: Event, index: int = index) -> None:
                on_event(index, event)

            try:
                refinement = await self.refine(prompt, on_event=observe)
                yield replace(refinement, index=index)
            except SocraticError as error:
                yield Failure(
                    user_prompt=prompt,
                    error=str(error),
                    kind=type(error).__name__,
                    index=index,
                    history=error.history,
                )


class Run(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def socratic(capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Return what runs the command line in this process, with the small refiner."""

    def run(*arguments: str) -> Run:
        capfd.readouterr()
        opener = cast("Callable[[Settings], Refiner]", SmallRefiner)
        code = main(arguments, open_refiner=opener)
        return Run(code, *capfd.readouterr())

    return run


def keep_first_lines(file: Path, number: int) -> None:
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:number]))


# refine


def test_refine_prints_one_object(socratic: Callable[..., Run], folder: Path) -> None:
    """With --json stdout has one JSON object, whose images exist, and nothing else."""
    run = socratic("refine", " a cat ", "--seed", "7", "--out", "OUT", "--json")
    assert 0 == run.code
    (found,) = run.lines
    assert ("ok", "a cat", "satisfied") == (
        found["status"],
        found["user_prompt"],
        found["stop"],
    )
    assert 3 == len(found["rounds"])
    assert 7 == found["rounds"][0]["candidates"][0]["seed"]
    assert "a cat, more" == found["best"]["prompt"]
    assert 7 == found["settings"]["seed"]
    for round_ in found["rounds"]:
        for candidate in round_["candidates"]:
            assert (folder / "OUT" / candidate["image"]).is_file()
    assert found == json.loads((folder / "OUT" / "results.jsonl").read_text())


def test_refine_tells_people_on_stderr(socratic: Callable[..., Run]) -> None:
    """Without --json stdout stays empty; rounds and the best image are on stderr."""
    run = socratic("refine", "a cat")
    assert (0, "") == (run.code, run.out)
    assert "[1] round 1, image 1: not yet, missing more" in run.err
    assert "[1] round 2, image 2: not yet\n" in run.err
    assert "[1] round 3, image 3: satisfied" in run.err
    assert "best image: socratic-run/objects/" in run.err


def test_the_same_seed_gives_the_same(socratic: Callable[..., Run]) -> None:
    """Twice the same command gives the same object, also in the same folder."""
    first = socratic("refine", "a cat", "--seed", "3", "--out", "A", "--json")
    for out in ("A", "B"):
        again = socratic("refine", "a cat", "--seed", "3", "--out", out, "--json")
        for one in (*first.lines, *again.lines):
            one["usage"].pop("seconds")
        assert [one["rounds"] for one in first.lines] == [
            one["rounds"] for one in again.lines
        ]


def test_options_are_settings(socratic: Callable[..., Run]) -> None:
    """Every shared option reaches the settings."""
    run = socratic(
        *("refine", "a cat", "--json", "--profile", "local-24gb", "--generator", "g/g"),
        *("--captioner", "c/c", "--scorer", "none", "--llm", "openai:x"),
        *("--judge", "never", "--selector", "last", "--rounds", "1"),
        *("--optimizer-template", "classic", "--judge-template", "j"),
        *("--selector-template", "s", "--prompts-per-round", "3"),
        *("--seeds-per-prompt", "2", "--max-images", "9", "--seed", "5"),
    )
    settings = run.lines[0]["settings"]
    expected = {
        "profile": "local-24gb",
        "generator": "g/g",
        "captioner": "c/c",
        "scorer": None,
        "llm": "openai:x",
        "judge": "never",
        "selector": "last",
        "rounds": 1,
        "optimizer_template": "classic",
        "judge_template": "j",
        "selector_template": "s",
        "prompts_per_round": 3,
        "seeds_per_prompt": 2,
        "max_images": 9,
        "seed": 5,
    }
    assert expected == {name: settings[name] for name in expected}


def test_options_of_the_policy_are_settings(
    socratic: Callable[..., Run], folder: Path
) -> None:
    """Preset, guard, templates, budgets and the receipt can be said in a command."""
    for role in ("checklist", "answerer"):
        shipped = (ROOT / "prompts" / role / "default.yaml").read_bytes()
        (folder / f"{role[0]}.yaml").write_bytes(shipped)
    run = socratic(
        *("refine", "a cat", "--json", "--preset", "quick", "--guard", "none"),
        *("--answerer", "llm", "--checklist-template", "c.yaml"),
        *("--answerer-template", "a.yaml", "--guard-template", "g"),
        *("--budget", "images=5,llm-calls=7", "--run-budget", "money=2.5"),
        *("--prices", "image=0.5,output-tokens=2", "--receipt"),
    )
    settings = run.lines[0]["settings"]
    nothing = dict.fromkeys(("images", "llm_calls", "tokens", "money", "seconds"))
    expected = {
        "preset": "quick",
        "prompts_per_round": 2,
        "guard": None,
        "answerer": "llm",
        "checklist_template": "c.yaml",
        "answerer_template": "a.yaml",
        "guard_template": "g",
        "budget": nothing | {"images": 5, "llm_calls": 7},
        "run_budget": nothing | {"money": 2.5},
        "prices": {"image": 0.5, "input_tokens": 0.0, "output_tokens": 2.0},
        "receipt": True,
    }
    assert expected == {name: settings[name] for name in expected}


def test_every_option_reaches_its_setting(socratic: Callable[..., Run]) -> None:
    """What a program could set and a command could not, both can."""
    given = {
        "device": "cpu",
        "dtype": "float32",
        "base_url": "http://localhost:1/v1",
        "llm": "openai:x",
        "temperature": 0.5,
        "timeout": 7.5,
        "llm_rate": 30.0,
        "llm_concurrency": 3,
        "patience": 60.0,
        "in_flight": 2,
        "optimizer": "llm",
        "negative_prompt": "a box",
    }
    options = [
        word
        for name, value in given.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    run = socratic("refine", "a cat", "--json", "--fresh-noise", *options)
    settings = run.lines[0]["settings"]
    assert given | {"fresh_noise": True} == {
        name: settings[name] for name in (*given, "fresh_noise")
    }


def test_a_flag_that_is_not_set_leaves_the_setting_alone(
    socratic: Callable[..., Run], folder: Path
) -> None:
    """What socratic.toml switches on stays on without the option."""
    assert not socratic("refine", "a cat", "--json").lines[0]["settings"]["receipt"]
    (folder / "socratic.toml").write_text("receipt = true")
    assert socratic("refine", "a cat", "--json").lines[0]["settings"]["receipt"]


def test_a_receipt_is_printed(capfd: pytest.CaptureFixture[str], folder: Path) -> None:
    """With --receipt the object tells what the user prompt alone would have brought."""
    command = ("refine", "a crimson ball", "--receipt", "--seed", "4", "--json")
    assert 0 == main([*command, "--max-images", "3"])
    (line,) = capfd.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["usage"]["images"] == found["receipt"]["images"]
    assert "oracle" == found["receipt"]["metric"]


def test_a_dry_run_of_one_prompt_draws_nothing(
    socratic: Callable[..., Run], folder: Path
) -> None:
    """The worst case is told to people; no folder is made and nothing is opened."""
    opened = SmallRefiner.opened
    command = ("refine", "a cat", "--dry-run", "--budget", "llm-calls=20")
    run = socratic(*command, "--out", "OUT")
    assert (0, "") == (run.code, run.out)
    assert "1 prompt: at most 12 images, 20 calls of the language model\n" in run.err
    assert "limited by max_images (images), budget (calls" in run.err
    assert (opened, []) == (SmallRefiner.opened, list(folder.iterdir()))
    (told,) = socratic(*command, "--json").lines
    assert (1, 12, 20) == (told["prompts"], told["images"], told["llm_calls"])
    assert [] == list(folder.iterdir())


def test_a_dry_run_of_many_counts_those_that_can_be_refined(
    socratic: Callable[..., Run], folder: Path
) -> None:
    """A line that is no prompt costs nothing, and the run's budget bounds the sum."""
    (folder / "in.jsonl").write_text('"a cat"\n"a dog"\n{"text": 1}\n')
    opened = SmallRefiner.opened
    command = ("batch", "in.jsonl", "--dry-run", "--preset", "quick", "--json")
    (told,) = socratic(*command, "--out", "OUT").lines
    assert (2, 12, 6) == (told["prompts"], told["images"], told["each"]["images"])
    run = socratic(*command, "--run-budget", "images=10")
    assert (0, 10, "run_budget") == (
        run.code,
        run.lines[0]["images"],
        run.lines[0]["limited_by"]["images"],
    )
    assert "2 prompts: at most 10 images" in run.err
    assert opened == SmallRefiner.opened
    assert ["in.jsonl"] == [path.name for path in folder.iterdir()]


def test_a_dry_run_refuses_what_a_run_would(socratic: Callable[..., Run]) -> None:
    """A blank prompt and a wrong setting are errors before anything is forecast."""
    assert (2, "") == socratic("refine", " ", "--dry-run")[:2]
    assert (2, "") == socratic("refine", "a", "--dry-run", "--rounds", "0")[:2]


def test_nothing_usable_is_a_failure(
    socratic: Callable[..., Run], folder: Path
) -> None:
    """A prompt of which nothing came is said, printed as JSON, kept, and exit 1."""
    run = socratic("refine", "unlucky", "--json")
    assert 1 == run.code
    assert ("failed", "NothingDrawnError") == (
        run.lines[0]["status"],
        run.lines[0]["kind"],
    )
    assert "numerical_failure" == run.lines[0]["rounds"][0]["candidates"][0]["status"]
    assert "failed" in run.err
    assert (folder / "socratic-run" / "results.jsonl").is_file()


def test_images_before_a_failure_are_kept(
    socratic: Callable[..., Run], folder: Path
) -> None:
    """What was drawn before an error is saved, and the error steers no terminal."""
    run = socratic("refine", "mute", "--json")
    assert 1 == run.code
    image = run.lines[0]["rounds"][0]["candidates"][0]["image"]
    assert (folder / "socratic-run" / image).is_file()
    assert "\x1b" not in run.err


BAD = [
    (["refine", ""], "got blank text"),
    (["refine", " \n"], "got blank text"),
    (["refine", "x" * 100_000], "at most 10,000 characters"),
    (["refine", "a\x1b[2Jb"], r"got U+001B"),
    (["refine", "a flower"], "got 'flower'"),
    (["refine", "a", "--rounds", "0"], "rounds: expected greater than or equal to 1"),
    (["refine", "a", "--rounds", "-1"], "got '-1'"),
    (["refine", "a", "--rounds", "few"], "rounds: expected a valid integer"),
    (["refine", "a", "--profile", "lcal"], "did you mean 'local'"),
    (["refine", "a", "--judge", "x"], "expected a judge"),
    (["refine", "a", "--preset", "quik"], "did you mean 'quick'"),
    (["refine", "a", "--guard", "x"], "expected a guard"),
    (["refine", "a", "--answerer", "x"], "expected an answerer (captioner, llm)"),
    (["refine", "a", "--budget", "imges=3"], "did you mean 'images'"),
    (["refine", "a", "--run-budget", "images=0"], "expected images to be a whole"),
    (["refine", "a", "--budget", "money=1"], "expected prices for a budget"),
    (["refine", "a", "--prices", "image"], "without '='"),
    (["refine", "a", "--max-images", "1", "--seeds-per-prompt", "2"], "max_images"),
    (["refine", "a", "--generator", "broken"], "got 'broken'; name another"),
    (["refine", "a", "--out", "file.txt/x"], "expected to write in"),
    (["refine", "a", "--roundz", "3"], "--roundz"),
    (["refine"], "Missing argument"),
    (["refine", "a", "b"], "unexpected extra argument"),
    (["nothing"], "No such command 'nothing'"),
    (["batch", "missing.txt"], "expected a readable file"),
    (["batch", "a\0b.txt"], "expected a readable file"),
    (["batch", "prompts.csv"], "expected a .txt, .jsonl or .json file"),
    (["batch", "empty.txt"], "expected at least one prompt"),
    (["batch", "file.txt", "--in-flight", "0"], "in_flight"),
    (["batch", "file.txt", "--generator", "broken"], "got 'broken'"),
    (["report", "missing"], "expected a folder with results.jsonl"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=[str(b[0])[:60] for b in BAD]
)
def test_bad_input_is_one_line(
    socratic: Callable[..., Run], folder: Path, arguments: list[str], message: str
) -> None:
    """Wrong usage is one line on stderr and exit 2; nothing half-written stays."""
    (folder / "file.txt").write_text("a cat\n")
    (folder / "empty.txt").write_text("\n \n")
    before = sorted(folder.rglob("*"))
    run = socratic(*arguments)
    assert (2, "") == (run.code, run.out)
    assert message in run.err
    assert "Traceback" not in run.err
    assert 1 == run.err.count("\n")
    assert sorted(folder.rglob("*")) == before


def test_no_command_shows_the_help(socratic: Callable[..., Run]) -> None:
    """Without a command the help is shown, as an error."""
    run = socratic()
    assert (2, "") == (run.code, run.out)
    assert "Usage: socratic" in run.err


def test_version(socratic: Callable[..., Run]) -> None:
    """--version prints the version alone."""
    assert (0, "0.1.0\n") == socratic("--version")[:2]


# batch


def test_batch_writes_one_line_each(socratic: Callable[..., Run], folder: Path) -> None:
    """Each prompt gets an object with its place, on stdout and in results.jsonl."""
    (folder / "in.txt").write_text("a cat\n\na dog\nunjudged\n")
    run = socratic("batch", "in.txt", "--out", "OUT", "--json", "--in-flight", "2")
    assert 0 == run.code
    expected = {0: "a cat", 1: "a dog", 2: "unjudged"}
    assert expected == {one["index"]: one["user_prompt"] for one in run.lines}
    kept = (folder / "OUT" / "results.jsonl").read_text()
    assert run.out == kept
    assert "3 of 3 done, in OUT" in run.err
    assert "[3] round 1, image 1: not judged" in run.err


def test_batch_resumes(socratic: Callable[..., Run], folder: Path) -> None:
    """The same command again does only what is missing, and prints everything."""
    (folder / "in.txt").write_text("a cat\na dog\na cow\n")
    first = socratic("batch", "in.txt", "--out", "OUT", "--json")
    opened = SmallRefiner.opened
    again = socratic("batch", "in.txt", "--out", "OUT", "--json")
    assert (0, opened) == (again.code, SmallRefiner.opened)
    assert "3 of 3 were already finished" in again.err
    keep_first_lines(folder / "OUT" / "results.jsonl", 1)
    part = socratic("batch", "in.txt", "--out", "OUT", "--json")
    assert "1 of 3 were already finished" in part.err
    for run in (again, part):
        by_index = sorted(run.lines, key=lambda one: one["index"])
        assert sorted(first.lines, key=lambda one: one["index"]) == by_index


def test_a_changed_file_is_recognised(
    socratic: Callable[..., Run], folder: Path
) -> None:
    """What is the same is kept under its new index, what is gone is nowhere."""
    (folder / "in.txt").write_text("a cat\na dog\na cow\n")
    socratic("batch", "in.txt", "--out", "OUT")
    (folder / "in.txt").write_text("a fox\na cow\na cat\n")
    again = socratic("batch", "in.txt", "--out", "OUT", "--json")
    assert "2 of 3 were already finished" in again.err
    told = {one["index"]: one["user_prompt"] for one in again.lines}
    assert {0: "a fox", 1: "a cow", 2: "a cat"} == told
    lines = (folder / "OUT" / "results.jsonl").read_text().splitlines()
    kept = sorted((one["index"], one["user_prompt"]) for one in map(json.loads, lines))
    assert sorted(told.items()) == kept
    assert 0 == socratic("report", "OUT").code
    assert "a dog" not in (folder / "OUT" / "report.html").read_text()


def test_other_settings_of_a_named_folder_are_refused(
    socratic: Callable[..., Run], folder: Path
) -> None:
    """With what is different, unless one says that they may be."""
    known = ("refine", "a cat", "--out", "OUT")
    assert 0 == socratic(*known).code
    refused = socratic(*known, "--seed", "9")
    assert 2 == refused.code
    assert "(seed: 0 -> 9)" in refused.err
    assert 0 == socratic(*known, "--seed", "9", "--continue-with").code
    assert 1 == (folder / "OUT" / "results.jsonl").read_text().count("\n")


def test_a_folder_that_is_not_named_is_one_with_these_settings(
    socratic: Callable[..., Run], folder: Path
) -> None:
    """Trying other settings needs no other option, and keeps what there was."""
    for seed in ("0", "9", "0", "9"):
        run = socratic("refine", "a cat", "--seed", seed)
        assert 0 == run.code
    assert "best image: socratic-run-2/objects/" in run.err
    assert {"socratic-run", "socratic-run-2"} == {
        path.name for path in folder.iterdir() if path.is_dir()
    }


def test_one_bad_line_fails_alone(socratic: Callable[..., Run], folder: Path) -> None:
    """A bad line is told with its place, the others are refined, and exit 1."""
    lines = [b"a cat", b"a\0b", b"x" * 100_000, b"\xff\xfe", b"a flower", b"a dog"]
    (folder / "in.txt").write_bytes(b"\n".join(lines))
    run = socratic("batch", "in.txt", "--out", "OUT", "--json")
    assert 1 == run.code
    statuses = {one["index"]: one["status"] for one in run.lines}
    assert (
        dict.fromkeys((0, 5), "ok") | dict.fromkeys(range(1, 5), "failed") == statuses
    )
    assert "2 of 6 done" in run.err
    for number in (2, 3, 4, 5):
        assert f"failed: prompt {number} (" in run.err
    assert "got 'flower'" in run.err
    assert 3_000 > len(run.err)


def test_failures_are_tried_again(socratic: Callable[..., Run], folder: Path) -> None:
    """A batch that failed in part tries again what failed, and nothing else."""
    (folder / "in.txt").write_text("a cat\nmute\n")
    for _ in range(2):
        run = socratic("batch", "in.txt", "--out", "OUT")
        assert 1 == run.code
    assert "1 of 2 were already finished" in run.err
    assert 2 == (folder / "OUT" / "results.jsonl").read_text().count("\n")


def test_batch_reads_jsonl(socratic: Callable[..., Run], folder: Path) -> None:
    """A .jsonl file has objects with a prompt, or strings; a bad one fails alone."""
    (folder / "in.jsonl").write_text('{"prompt": "a cat"}\n"a dog"\n{"text": 1}\n{')
    run = socratic("batch", "in.jsonl", "--json")
    assert 1 == run.code
    statuses = {one["index"]: one["status"] for one in run.lines}
    assert {0: "ok", 1: "ok", 2: "failed", 3: "failed"} == statuses


@pytest.mark.parametrize(
    "text",
    [
        "a cat\na dog\n",
        "\ufeffa cat\ra dog\r",
        '{"prompt": "a cat"}\n"a dog"\n',
        '\ufeff{"prompt": "a cat"}\r\n{"prompt": "a dog"}',
        ' [{"prompt": "a cat"},\n"a dog"]\n',
    ],
)
def test_batch_reads_stdin(
    socratic: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A dash stands for stdin, with plain lines or JSON, as other programs write it."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    run = socratic("batch", "-", "--json")
    assert {"a cat", "a dog"} == {one["user_prompt"] for one in run.lines}


@pytest.mark.parametrize("closed", [True, False])
def test_a_closed_stdin_is_one_line(
    socratic: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, *, closed: bool
) -> None:
    """A process may have been started without a standard input, or lose it."""
    stdin = io.TextIOWrapper(io.BytesIO())
    stdin.close()
    monkeypatch.setattr("sys.stdin", stdin if closed else None)
    run = socratic("batch", "-")
    assert 2 == run.code
    assert "expected prompts on standard input, got none" in run.err
    assert 1 == run.err.count("\n")


def test_batch_reads_a_list(socratic: Callable[..., Run], folder: Path) -> None:
    """A list in JSON is as good as lines; what is no prompt in it fails alone."""
    (folder / "in.json").write_text('[{"prompt": "a cat"}, "[a dog]", 7, {}]', "utf-8")
    run = socratic("batch", "in.json", "--json")
    assert 1 == run.code
    found = {one["index"]: (one["status"], one["user_prompt"]) for one in run.lines}
    assert {
        0: ("ok", "a cat"),
        1: ("ok", "[a dog]"),
        2: ("failed", "7"),
        3: ("failed", "{}"),
    } == found


def test_an_interrupted_batch_can_go_on(
    socratic: Callable[..., Run], folder: Path
) -> None:
    """Ctrl-C ends with exit 130 and a hint; what is finished stays finished."""
    (folder / "in.txt").write_text("interrupt\na dog\n")
    run = socratic("batch", "in.txt", "--out", "OUT", "--json")
    assert (130, 1) == (run.code, len(run.lines))
    assert "error: interrupted; run the same command again" in run.err
    assert "Traceback" not in run.err
    (folder / "in.txt").write_text("a cat\na dog\n")
    run = socratic("batch", "in.txt", "--out", "OUT")
    assert 0 == run.code
    assert "1 of 2 were already finished" in run.err


# report, doctor, and the parts beneath


def test_report_is_one_page(socratic: Callable[..., Run], folder: Path) -> None:
    """The report of a run is one file with every image inside."""
    (folder / "in.txt").write_text("a cat\nmute\n")
    socratic("batch", "in.txt", "--out", "OUT")
    run = socratic("report", "OUT")
    assert (0, "") == (run.code, run.out)
    assert f"report: {folder / 'OUT' / 'report.html'}" in run.err
    page = (folder / "OUT" / "report.html").read_text(encoding="utf-8")
    assert "a cat" in page
    assert "data:image/png;base64," in page
    assert "image not found" not in page


def test_a_report_that_cannot_be_written(
    socratic: Callable[..., Run], folder: Path
) -> None:
    """Where the page cannot be put is told in one line."""
    socratic("refine", "a cat")
    (folder / "socratic-run" / "report.html").mkdir()
    run = socratic("report", "socratic-run")
    assert 2 == run.code
    assert "expected to write in" in run.err


def test_doctor_looks_at_everything(
    socratic: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor tells versions, device and keys, and never a key's value."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden")
    monkeypatch.setenv("SOCRATIC_ROUNDZ", "3")
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    run = socratic("doctor")
    assert run.code in {0, 2}
    assert "OK OPENAI_API_KEY: set" in run.out
    assert "OK HF_TOKEN: not set" in run.out
    assert "WARN SOCRATIC_ROUNDZ: is no setting; did you mean" in run.out
    assert "WARN tracing: on (LANGSMITH_TRACING)" in run.out
    assert "OK torch device: cpu" in run.out
    assert "OK settings: profile pocket" in run.out
    assert "sk-hidden" not in run.out + run.err


def test_doctor_names_problems(socratic: Callable[..., Run], folder: Path) -> None:
    """Settings that cannot be read are a problem, and the exit code says so."""
    (folder / "socratic.toml").write_text("rounds = 0")
    run = socratic("doctor")
    assert 2 == run.code
    assert "FAIL settings: rounds in socratic.toml" in run.out


def test_checks_read_the_environment_it_is_given(folder: Path) -> None:
    """Offline hub, tracing and a settings file are seen."""
    (folder / "socratic.toml").write_text("rounds = 2")
    found = {one.name: one for one in checks({"HF_HUB_OFFLINE": "1"})}
    assert "offline, only models on this disk" == found["hugging face hub"].detail
    assert Finding("ok", "tracing", "off") == found["tracing"]
    assert "profile pocket, with socratic.toml" == found["settings"].detail


def test_weights_that_are_not_there_are_a_problem(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """A package without its weights is named with what to do."""
    monkeypatch.setattr("importlib.resources.files", lambda _: folder)
    (found,) = [one for one in checks({}) if one.state == "problem"]
    assert "got none; reinstall it" in found.detail


def test_a_package_that_is_not_there_is_a_problem() -> None:
    """A missing package is named with what to do."""
    expected = Finding("problem", "no-such", "not installed; run 'pip install no-such'")
    assert expected == _version("no-such")


def test_lines_are_read_one_by_one() -> None:
    """A byte order mark, Windows line ends and odd separators do no harm."""
    expected = (PromptLine("a cat"), PromptLine("a\u2028dog"))
    data = b"\xef\xbb\xbfa cat\r\n\r\n" + "a\u2028dog".encode()
    assert expected == read_lines(data, jsonl=False)
    assert expected == read_lines(data.replace(b"\n", b""), jsonl=False)
    assert (PromptLine("[a] cat"),) == read_lines(b"[a] cat", jsonl=False)
    deep = read_lines(b"[" * 100_000, jsonl=True)
    assert deep[0].error is not None


def test_printable_text_steers_no_terminal() -> None:
    """Control characters are replaced, line breaks become blanks, length is bounded."""
    assert "a\ufffd[31m b \ufffdc" == sanitize_for_terminal("a\x1b[31m\nb \u202ec")
    assert 500 == len(sanitize_for_terminal("x" * 1000))


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_text_as_it_is(*, terminal: bool) -> None:
    """Markup and escapes of a prompt are shown, not obeyed, live and plain."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=200, no_color=True)
    failure = Failure(user_prompt="p", error="[bold]e\x1b]0;x[/nope]", kind="K")
    history = History(user_prompt="[red]cat\x1b]0;x[/nope]")

    async def watch() -> Refinement:
        def observe(event: Event) -> None:
            progress.observe(0, event)

        refiner = SmallRefiner(Settings(rounds=2))
        return await refiner.refine("[red]cat[/nope]", on_event=observe)

    with Progress(total=2, done=0, images=2, console=console) as progress:
        refinement = asyncio.run(watch())
        progress.observe(1, Event("drawn", history))  # type: ignore[arg-type]
        progress.finish(refinement)
        progress.finish(failure)
    shown = stream.getvalue()
    assert "[red]cat[/nope]" in shown
    assert "[bold]e\ufffd]0;x[/nope]" in shown
    assert "\x1b]0" not in shown


def test_the_console_script_answers() -> None:
    """The installed program runs as a process of its own, without a terminal."""
    program = Path(sys.executable).with_name("socratic")
    run = subprocess.run(
        [program, "refine", ""], capture_output=True, text=True, check=False
    )
    assert (2, "") == (run.returncode, run.stdout)
    assert "error: expected a prompt, got blank text; say what to draw\n" == run.stderr


def test_the_real_refiner_is_the_default(
    capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    """What it refuses before any model is loaded is one line, and leaves nothing."""
    assert 2 == main(["refine", "a zeppelin"])
    caught = capfd.readouterr()
    assert "zeppelin" in caught.err
    assert 1 == caught.err.count("\n")
    assert [] == list(folder.iterdir())


@pytest.mark.parametrize(("options", "warns"), [([], False), (["error"], True)])
def test_warnings_of_libraries_are_for_programmers(
    monkeypatch: pytest.MonkeyPatch, options: list[str], *, warns: bool
) -> None:
    """They are silenced for a command, unless the interpreter was asked for them."""
    monkeypatch.setattr("sys.warnoptions", options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 2 == main(["refine", "a zeppelin"])
        assert warns == (warnings.filters[0][0] == "error")


def test_an_error_without_a_home_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """An error of ours outside of any prompt is one line and exit 1."""

    def opener(settings: Settings) -> Refiner:
        raise CallError("expected a server, got none")

    Path("in.txt").write_text("a cat")
    assert 1 == main(["batch", "in.txt"], open_refiner=opener)
    assert "error: expected a server, got none\n" == capfd.readouterr().err


def test_a_configuration_error_is_a_value_error() -> None:
    """Callers that know only the standard errors catch it too."""
    assert issubclass(ConfigurationError, ValueError)


def test_stdout_that_is_full_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line that says that nothing is lost; nothing more is written there."""

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def fileno(self) -> int:
            return file.fileno()

    with (tmp_path / "out").open("wb") as file:
        monkeypatch.setattr(sys, "stdout", Full())
        with pytest.raises(ConfigurationError, match="No space left on device; finish"):
            refine_command._write_json({"a": 1})
        file.write(b"lost")
    assert b"" == (tmp_path / "out").read_bytes()


def test_an_interrupt_before_anything_begins_ends_in_good_order() -> None:
    """With the exit code of one, and no trace."""

    def stop(_: Settings) -> Refiner:
        raise KeyboardInterrupt

    assert 130 == main(["refine", "a red circle"], open_refiner=stop)
