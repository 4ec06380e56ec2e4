"""``socratic bench``: one JSON object on stdout, a table for people, files on demand."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from socratic_agents.cli.app import main
from socratic_agents.cli.bench import BENCHES, Bench, Options
from socratic_agents.lab.bench.device import workloads
from socratic_agents.lab.bench.device.workloads import Workload
from socratic_agents.lab.bench.results import (
    device_table,
    efficiency_plot,
    efficiency_table,
)
from socratic_agents.lab.bench.simulated import run as virtual
from socratic_agents.lab.bench.simulated.model_costs import MODELS
from socratic_agents.lab.bench.simulated.run import LOOPS, simulate
from socratic_agents.lab.bench.simulated.schedulers import SIMULATED_SCHEDULERS
from tests.benches import small_testbed

if TYPE_CHECKING:
    from pathlib import Path

RESULT_KEYS = {
    *("curve", "n", "llm_seconds", "contender", "efficiency", "ratio_to_sequential"),
    *("images_per_second", "loops_per_second", "busy", "fill"),
    *("latency_p50", "latency_p95", "batching_limit"),
}


@dataclass
class Small:
    """A workload that takes no time, and keeps what it was told."""

    told: Options | None = None
    error: Exception | None = None

    def __call__(self, options: Options) -> Bench:
        self.told = options
        return Bench(
            results=({"contender": "ours", "efficiency": 1.0},),
            table="a table\n",
            files={"plot.bin": self.draw},
        )

    def draw(self) -> bytes:
        if self.error:
            raise self.error
        return b"plot"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Small:
    """Return a small workload in the place of the virtual one."""
    one = Small()
    monkeypatch.setitem(BENCHES, "virtual", one)
    return one


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    """Return results of a few settings, one of which lacks a contender."""
    options: dict[str, Any] = {"names": ("sdxl", "sdturbo"), "loops": (1, 2)}
    found = list(
        simulate(**options, llm_seconds=(0.5, 1.0), contenders=("lock", "ours"))
    )
    return found[:-1]


@pytest.mark.slow
def test_the_virtual_bench_is_repeatable() -> None:
    """All of it, as it is typed; each of its figures comes out again by its seed."""
    run = "from socratic_agents.cli.app import main; raise SystemExit(main())"
    command = [sys.executable, "-c", run, "bench", "--workload", "virtual"]
    printed = subprocess.run(
        [*command, "--seed", "3", "--json"], capture_output=True, text=True, check=True
    )
    told = json.loads(printed.stdout)

    assert 1 == printed.stdout.count("\n")
    assert (1, "virtual", 3) == (told["schema"], told["workload"], told["seed"])
    assert len(MODELS) * len(LOOPS) * len(SIMULATED_SCHEDULERS) == len(told["results"])
    for one in simulate(seed=3, names=("sdxl",), loops=(8,)):
        assert one in told["results"]
    other = simulate(seed=4, names=("sdxl",), loops=(8,), contenders=("ours",))
    assert next(other) not in told["results"]
    assert efficiency_table(told["results"]) in printed.stderr


def test_the_command_prints_one_object_and_keeps_files(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the virtual bench, here of one setting that takes no time."""
    few = partial(simulate, names=("sdxl",), loops=(2,))
    monkeypatch.setattr(virtual, "simulate", few)
    assert 0 == main(["bench", "--json", "--out", str(tmp_path)])
    printed = capsys.readouterr()
    told = json.loads(printed.out)

    assert 1 == printed.out.count("\n")
    assert {"schema", "workload", "seed", "results"} == told.keys()
    assert list(SIMULATED_SCHEDULERS) == [one["contender"] for one in told["results"]]
    for one in told["results"]:
        extra = {"wait"} if one["contender"] == "ray_tuned" else set()
        assert RESULT_KEYS | extra == one.keys()
    assert printed.err.startswith(efficiency_table(told["results"]))
    assert told == json.loads((tmp_path / "bench.json").read_text("utf-8"))
    with Image.open(tmp_path / "bench.png") as image:
        assert "PNG" == image.format


def test_without_json_nothing_goes_to_stdout(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is for people; the virtual workload is the one that is run."""
    assert 0 == main(["bench"])
    assert ("", "a table\n") == capsys.readouterr()
    assert Options() == small.told


def test_workloads_are_told_what_is_asked_for(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each length of a call once, in the order in which it was asked for."""
    assert 0 == main(["bench", "--seed", "7", "--llm-seconds", "3,0.5,3", "--json"])
    assert Options(seed=7, llm_seconds=(3.0, 0.5)) == small.told
    assert 7 == json.loads(capsys.readouterr().out)["seed"]


def test_files_are_kept_in_the_folder(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed is kept, and what a workload draws."""
    out = tmp_path / "deep" / "out"
    assert 0 == main(["bench", "--json", "--out", str(out)])
    printed = capsys.readouterr()
    kept = (out / "bench.json").read_text("utf-8")
    assert json.loads(printed.out) == json.loads(kept)
    assert b"plot" == (out / "plot.bin").read_bytes()
    assert {"bench.json", "plot.bin"} == {path.name for path in out.iterdir()}
    assert f"results: {out}\n" in printed.err


def test_figures_are_kept_where_nothing_can_be_drawn(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plot that is impossible costs nobody what was measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(Exception, match="pip install") as problem:
            efficiency_plot(
                [{"curve": "sdxl", "llm_seconds": 1.0, "contender": "ours"}]
            )
    small.error = problem.value
    assert 2 == main(["bench", "--json", "--out", str(tmp_path)])
    printed = capsys.readouterr()
    kept = (tmp_path / "bench.json").read_text("utf-8")
    assert json.loads(printed.out) == json.loads(kept)
    assert "expected matplotlib to draw plots, got none" in printed.err


def test_an_unwritable_folder_is_told_before_the_work(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Time is not spent on what cannot be kept."""
    file = tmp_path / "file"
    file.write_text("", "utf-8")
    assert 2 == main(["bench", "--out", str(file / "below")])
    assert "expected to write in" in capsys.readouterr().err
    assert small.told is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workload", "nonsense"), "got 'nonsense', which is none"),
        (("--workload", ""), "got '', which is none"),
        (("--seed", "-1"), "expected --seed with a whole number from 0 on, got '-1'"),
        (("--seed", "²"), "expected --seed with a whole number"),
        (("--loops", "1,0"), "expected --loops with numbers above 0 and up to 4096"),
        (("--loops", "2.5"), "such as 1,32, got '2.5'"),
        (("--repeats", "2"), "expected no --repeats for workload 'virtual'"),
        (("--seconds", "2"), "expected no --seconds for workload 'virtual'"),
        (("--seconds", "-2"), "expected --seconds with numbers above 0"),
        (("--workload", "pocket", "--repeats", "0"), "greater than or equal to 1"),
        (("--tiny",), "expected no --tiny for workload 'virtual'"),
        (("--workload", "mixed", "--tiny"), "expected no --tiny for workload 'mixed'"),
        (("--generator", "x"), "expected no --generator for workload 'virtual'"),
        (
            ("--workload", "pocket", "--max-images", "3"),
            "expected no --max-images for workload 'pocket'",
        ),
        (
            ("--workload", "profile", "--llm-seconds", "3"),
            "expected no --llm-seconds for workload 'profile'",
        ),
        (("--llm-seconds", "soon"), "expected --llm-seconds with numbers above 0"),
        (("--llm-seconds", ""), "got ''"),
        (("--llm-seconds", "1,"), "got '1,'"),
        (("--llm-seconds", "0"), "got '0'"),
        (("--llm-seconds", "1,-1"), "got '1,-1'"),
        (("--llm-seconds", "nan"), "got 'nan'"),
        (("--llm-seconds", "3601"), "up to 3600"),
    ],
)
def test_bad_options_are_one_line(
    small: Small,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, what was expected, what came; and nothing was measured."""
    assert 2 == main(["bench", *arguments])
    printed = capsys.readouterr()
    assert "" == printed.out
    assert message in printed.err
    assert 1 == printed.err.count("\n")
    assert small.told is None


@pytest.mark.parametrize("workload", ["virtual", "pocket"])
def test_an_unknown_contender_is_told(
    workload: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With those that there are, and before any model is opened."""
    arguments = ("--workload", workload, "--contenders", "ours,theirs")
    assert 2 == main(["bench", *arguments])
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected contenders out of sequential, lock" in line
    assert "got 'theirs'" in line


@pytest.mark.parametrize("name", ["sd15", "sdxl", "turbo"])
def test_large_models_need_an_accelerator(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is none, it is said how to try them out."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert 2 == main(["bench", "--workload", name])
    (line,) = capsys.readouterr().err.splitlines()
    assert f"expected a CUDA device for workload {name!r}" in line
    assert "add --tiny" in line


def test_a_workload_on_a_device_is_measured_as_asked(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Small models stand in the place of those that take minutes."""
    usual = Workload(
        open=lambda seed: small_testbed(), loops=(9,), llm_seconds=0.001, seconds=9.0
    )
    monkeypatch.setattr(workloads, "find_workload", lambda *_, **__: usual)
    option = ("--loops", "2", "--repeats", "1", "--seconds", "0.01", "--seed", "5")
    who = ("--contenders", "ours,ours", "--json", "--out", str(tmp_path))
    assert 0 == main(["bench", "--workload", "pocket", *option, *who])
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert ["sequential", "ours"] == [one["contender"] for one in told["results"]]
    assert ("pocket", 5) == (told["workload"], told["seed"])
    assert {"batching_limit", "calls", "images"} < told.keys()
    assert efficiency_table(told["results"]) in printed.err
    assert device_table(told["results"]) in printed.err
    assert "2 in flight: trial 1 of 1 is over" in printed.err
    assert {"bench.json", "bench.png"} == {path.name for path in tmp_path.iterdir()}


def test_the_virtual_bench_takes_loops_and_contenders(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As all the others do."""
    assert 0 == main(["bench", "--loops", "2", "--contenders", "lock", "--json"])
    results = json.loads(capsys.readouterr().out)["results"]
    assert {(2, "lock")} == {(one["n"], one["contender"]) for one in results}


def test_the_table_has_a_row_for_each_setting(results: list[dict[str, Any]]) -> None:
    """Percent of the bound, one contender beside the other."""
    head, *rows = efficiency_table(results).splitlines()
    assert ["lock", "ours"] == head.removeprefix("percent of the bound").split()
    assert 2 * 2 * 2 == len(rows)
    assert rows[0].startswith("sdxl, llm 0.5 s, n 1 ")
    percents = [f"{one['efficiency']:.1%}" for one in results[:2]]
    assert percents == rows[0].split()[-2:]
    assert rows[-1].endswith(" -")


def test_the_plot_has_a_panel_for_each_setting(results: list[dict[str, Any]]) -> None:
    """It grows with the settings, and is the same each time."""
    heights = []
    for seconds in ((0.5,), (0.5, 1.0)):
        some = [one for one in results if one["llm_seconds"] in seconds]
        plot = efficiency_plot(some)
        assert plot == efficiency_plot(some)
        with Image.open(io.BytesIO(plot)) as image:
            heights.append(image.height)
    assert heights[0] < heights[1]
    odd = [one for one in results if (one["curve"], one["llm_seconds"]) != ("sdxl", 1)]
    with Image.open(io.BytesIO(efficiency_plot(odd))) as image:
        assert heights[1] == image.height
