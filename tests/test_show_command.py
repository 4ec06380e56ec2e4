"""``socratic show`` tells what an image was made from, and how to make it again."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.cli.app import main
from socratic_agents.cli.show import command_again, shell_words
from socratic_agents.config.catalog import IMAGE_SERVER_MODEL, Z_IMAGE_TURBO
from socratic_agents.config.settings import Settings
from socratic_agents.runtime.refine import refine_sync
from socratic_agents.storage.provenance import Provenance, encode_png, provenance_of

PICTURE = Image.new("RGB", (16, 16), "red")
PLAIN = Provenance(prompt="a red circle", seed=7, model="pocket", version="0.1.0")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(provenance: Provenance | None, *options: str) -> int:
    """Write an image into the working directory and show it."""
    Path("image.png").write_bytes(encode_png(PICTURE, provenance))
    return main(["show", "image.png", *options])


def test_the_command_draws_the_same_image_again(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is printed is a command, and its image has the same pixels and says so."""
    alone = {"judge": "never", "selector": "first", "guard": None, "scorer": None}
    settings = Settings(rounds=1, seeds_per_prompt=2, seed=5, **alone)
    refinement = refine_sync("a crimson ball above an azure box", settings)
    candidate = refinement.rounds[0].candidates[1]
    assert candidate.image is not None
    assert 5 != candidate.seed
    told = provenance_of(
        settings, refinement.templates, prompt=candidate.prompt, seed=candidate.seed
    )
    assert told is not None
    Path("image.png").write_bytes(encode_png(candidate.image, told))

    assert 0 == main(["show", "image.png", "--json"])
    command = json.loads(capfd.readouterr().out)["command"]
    words = subprocess.run(
        ["/bin/bash", "-c", f'socratic() {{ printf "%s\\0" "$@"; }}; {command}'],
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert 0 == main([*words.split("\0")[:-1], "--out", "again", "--json"])

    record = json.loads(capfd.readouterr().out)
    again = record["best"]
    assert (candidate.prompt, candidate.seed) == (again["prompt"], again["seed"])
    assert 1 == record["usage"]["images"]
    assert 0 == record["usage"]["llm_calls"]
    with Image.open(folder / "again" / again["image"]) as image:
        assert candidate.image.tobytes() == image.convert("RGB").tobytes()


def test_it_says_everything(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each fact has a line, and the command stands last."""
    full = replace(
        PLAIN,
        model="owner/model",
        revision="c0ffee",
        steps=20,
        guidance_scale=7.5,
        width=512,
        height=512,
        dtype="bfloat16",
        templates={"judge": "0f" * 32},
    )
    assert 0 == shown(full)
    out, err = capfd.readouterr()
    *facts, blank, command = out.splitlines()
    assert [
        "prompt: a red circle",
        "seed: 7",
        "model: owner/model",
        "revision: c0ffee",
        "steps: 20",
        "guidance scale: 7.5",
        "width: 512",
        "height: 512",
        "dtype: bfloat16",
        "version: 0.1.0",
        f"templates judge: {'0f' * 32}",
    ] == facts
    assert ("", "") == (blank, err)
    expected = (
        "socratic refine 'a red circle' --profile pocket --generator owner/model "
        "--rounds 1 --seeds-per-prompt 1 --seed 7 --steps 20 --guidance-scale 7.5 "
        "--width 512 --height 512 --dtype bfloat16 --no-channels-last --no-strict "
        "--allow-pocket --judge never --selector first --guard none --scorer none"
    )
    assert expected == command


def test_json_is_all_that_is_printed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With --json there is one object on stdout, and nothing else."""
    assert 0 == shown(PLAIN, "--json")
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert PLAIN.to_json() == {k: told[k] for k in PLAIN.to_json()}
    assert [] == told["remarks"]
    assert shell_words(command_again(PLAIN) or ()) == told["command"]
    assert "" == err


@pytest.mark.parametrize(
    ("provenance", "words", "command"),
    [
        (replace(PLAIN, version="0.0.1"), "made with version 0.0.1", True),
        (replace(PLAIN, model="tiny", kind="folder"), "a folder of this name", True),
        (replace(PLAIN, model="Painter", kind="object"), "a Python object", False),
        (replace(PLAIN, prompt=" a circle"), "does not accept this pro", False),
        (replace(PLAIN, prompt="a\x1b[2Jcircle"), "does not accept this pro", False),
    ],
)
def test_what_stands_in_the_way_is_said(
    provenance: Provenance,
    words: str,
    command: bool,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Where the same image may not come out, or no command helps, one is told why."""
    assert 0 == shown(provenance)
    out = capfd.readouterr().out
    assert words in out
    assert command == ("socratic refine" in out)
    assert not [c for c in out if not c.isprintable() and c != "\n"]


def test_an_image_without_it_is_a_clear_error(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An image that does not say what it was made from ends with 2 and one line."""
    assert 2 == shown(None)
    out, err = capfd.readouterr()
    assert ("", 1) == (out, len(err.splitlines()))
    assert "expected an image with its provenance" in err


def _read(line: str) -> list[str]:
    """Return the words that a shell makes of a line."""
    run = subprocess.run(
        ["/bin/bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True
    )
    return run.stdout.decode().split("\0")[:-1]


prompts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.lists(prompts, max_size=8), min_size=1, max_size=8))
def test_a_shell_reads_the_words_back(lists: list[list[str]]) -> None:
    """Any words come through a shell unchanged, on one line that steers nothing."""
    words = ["x", *(word for each in lists for word in each)]
    line = shell_words(words)
    assert line.isprintable()
    assert words == _read(line)


@pytest.mark.parametrize(
    "prompt", ["-1 cats", "--help", "a\tb\nc", "$(id) `id`", "'; id #", "\u202eabc"]
)
def test_a_prompt_stays_a_prompt(prompt: str) -> None:
    """Whatever a prompt looks like, the command takes it for a prompt."""
    words = command_again(replace(PLAIN, prompt=prompt))
    assert words is not None
    assert list(words) == _read(shell_words(words))
    place = words.index(prompt)
    assert (place == 2) != (words[place - 1] == "--")


@pytest.mark.parametrize("name", ["strict", "channels_last"])
def test_a_switch_is_said_either_way(name: str) -> None:
    """A profile may switch it on, so that it is off has to be said too."""
    option = name.replace("_", "-")
    on, off = (
        command_again(replace(PLAIN, **{name: value}))  # type: ignore[arg-type]
        for value in (True, False)
    )
    assert on is not None
    assert off is not None
    assert f"--{option}" in on
    assert f"--no-{option}" in off


def test_an_image_of_a_run_tells_what_the_run_chose(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its models and who judges, also from the folder of its objects."""
    assert 0 == main(["refine", "a red circle", "--rounds", "1", "--out", "run"])
    image = next((folder / "run" / "objects").rglob("*.png"))
    capfd.readouterr()
    assert 0 == main(["show", str(image), "--json"])
    told = json.loads(capfd.readouterr().out)["run"]
    assert ("pocket", "pocket", "confirmed", None) == (
        told["profile"],
        told["captioner"],
        told["judge"],
        told["final_generator"],
    )
    assert 0 == main(["show", str(image)])
    out = capfd.readouterr().out
    assert "run scorer: pocket\nrun llm: pocket\nrun judge: confirmed" in out


@pytest.mark.parametrize(
    "config",
    [b"[" * 10_000, b"{}", b"[]", b'{"settings": [1]}', b'{"settings": {"llm": 3}}'],
)
def test_what_is_no_run_chose_nothing(
    folder: Path, config: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever lies beside an image; it stays as it is."""
    (folder / "config.json").write_bytes(config)
    assert 0 == shown(PLAIN, "--json")
    assert json.loads(capfd.readouterr().out)["run"] is None
    assert config == (folder / "config.json").read_bytes()


def test_the_terms_of_a_model_are_told(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With its recipe, or alone where it has none."""
    assert 0 == shown(replace(PLAIN, model=IMAGE_SERVER_MODEL))
    assert "licence: OpenAI's terms (paid)" in capfd.readouterr().out
    assert 0 == shown(replace(PLAIN, model=Z_IMAGE_TURBO), "--json")
    told = json.loads(capfd.readouterr().out)
    assert "Apache-2.0, commercial use free" == told["licence"]
    assert "Apache-2.0" in told["recipe"]
