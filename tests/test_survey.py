"""A survey: blind, even-handed, the same for the same seed, and one file.

Invariants, each a property test:

* No pair shows an image beside itself, and none is asked twice.
* All two arms are asked about equally often, give or take one.
* Whatever a prompt says, the page stays one page and runs no script of it.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.cli.app import main
from socratic_agents.cli.lab import survey as command
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    StopReason,
    Verdict,
)
from socratic_agents.core.outcome import Failure, Refinement
from socratic_agents.lab.compare.run import compare
from socratic_agents.lab.survey.design import Drawn, _caught, plan_survey, read_key
from socratic_agents.lab.survey.page import survey_html
from socratic_agents.lab.survey.sources import ShownImage, read_arms
from socratic_agents.storage.objects import ObjectStore, write_image
from socratic_agents.storage.run_directory import RunDirectory
from tests.fakes import ScriptedChatModel
from tests.surveys import compared, planned
from tests.test_report import EVIL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from socratic_agents.lab.compare.result import Trial
    from socratic_agents.lab.survey.design import Survey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a comparison of three arms on eight prompts, two of them alike."""
    return compared(tmp_path / "study", alike=2)


def told(survey: Survey) -> dict[str, Any]:
    """Return what the page holds for its script."""
    found = re.search(r'id="survey">(.*?)</script>', survey_html(survey), re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_what_is_asked(folder: Path) -> None:
    """Six prompts differ, so six are asked; what is not asked is counted."""
    key = planned(folder).key
    pairs = [item for item in key.items if item.kind == "pair"]
    catches = [item for item in key.items if item.kind == "catch"]
    assert {f"prompt {number}" for number in range(6)} == {i.prompt for i in pairs}
    assert {"the same image": 2} == key.left_out
    assert (6, 3, 2, 11) == (len(pairs), len(catches), key.repeats, key.total)
    assert all({"ours", "theirs"} == set(item.arms) for item in pairs)
    assert 1 < len({item.arms for item in pairs})
    ours = pairs[0].scores[pairs[0].arms.index("ours")]
    assert {"oracle": 200 / 255, "clip": 1 - 200 / 255, "checklist": 0.5} == ours


def test_a_catch_pair_has_an_image_of_another_prompt(folder: Path) -> None:
    """The right image is one of the prompt's, the wrong one is not."""
    survey = planned(folder, catch=0.5)
    of_prompt: dict[str, set[str]] = {}
    for item in survey.key.items:
        if item.kind == "pair":
            of_prompt.setdefault(item.prompt, set()).update(item.images)
    for item in survey.key.items:
        if item.kind == "catch":
            sides = dict(zip(item.arms, item.images, strict=True))
            assert sides["right"] in of_prompt[item.prompt]
            assert sides["wrong"] not in of_prompt[item.prompt]


def test_a_catch_pair_never_shows_one_image_twice(tmp_path: Path) -> None:
    """Where another prompt has the very same image, nobody could tell which is wrong."""
    image = ShownImage(folder=tmp_path, path="a.png")
    drawn: list[Drawn] = [
        ("pair", ("ours", "theirs"), (prompt, 0), (image, image))
        for prompt in ("a red ball", "a blue box")
    ]
    assert [] == list(_caught(drawn, 2, random.Random(0)))


def test_the_same_seed_is_the_same_survey(folder: Path) -> None:
    """A survey can be made again, and another seed makes another study."""
    assert planned(folder) == planned(folder)
    assert planned(folder).key.study != planned(folder, seed=2).key.study


def test_more_pairs_than_wanted_are_counted(folder: Path) -> None:
    """What was left to chance is not hidden."""
    key = planned(folder, arms="ours,theirs,third", pairs=4, catch=0).key
    assert {"the same image": 6, "more than wanted": 14} == key.left_out
    assert 4 == len(key.items)


@given(st.integers(1, 30), st.integers(0, 5))
def test_arms_are_asked_about_equally_often(pairs: int, seed: int) -> None:
    """No two arms are asked about more than others, and nothing is asked twice."""
    places = [(f"prompt {number}", 0) for number in range(8)]
    arms = {
        arm: {
            place: ShownImage(folder=FOLDER, path=f"{arm}/{place[0]}")
            for place in places
        }
        for arm in "abc"
    }
    key = plan_survey(arms, pairs=pairs, seed=seed, catch=0).key
    asked = [(frozenset(item.arms), item.prompt) for item in key.items]
    assert min(pairs, 24) == len(set(asked)) == len(asked)
    counts = [sum(two == {*arms} for two, _ in asked) for arms in ("ab", "ac", "bc")]
    assert max(counts) - min(counts) <= 1
    assert all(item.images[0] != item.images[1] for item in key.items)
    assert key.repeats <= len(key.items) / 2


FOLDER: Any = None
"""Of images that nobody reads."""


def test_the_page_is_blind(folder: Path) -> None:
    """Neither arms nor scores nor the kinds of pairs stand in it."""
    survey = planned(folder)
    page = survey_html(survey)
    for word in ("ours", "theirs", "oracle", "checklist", "wrong", "objects/"):
        assert not re.search(rf"\b{word}\b", page), word
    assert {"study", "repeats", "questions", "items", "images"} == set(told(survey))


def test_the_page_needs_nothing_from_outside(folder: Path) -> None:
    """One file: no address of another host, and a policy that lets none in."""
    page = survey_html(planned(folder))
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=[\"']?https?:", page)
    assert "unsafe-inline" not in page


def test_images_are_encoded_anew(tmp_path: Path) -> None:
    """A large image becomes a smaller one, and what its file tells is left behind."""
    folder = compared(tmp_path, prompts=2)
    survey = planned(folder, pairs=1, catch=0)
    large = write_image(folder, Image.effect_noise((1200, 800), 40))
    first, second = survey.key.items[0].images
    images = {
        **survey.images,
        first: ShownImage(folder=folder, path=large),
        second: replace(survey.images[second]),
    }
    shown = told(replace(survey, images=images))["images"]
    kinds = sorted(image.partition(";")[0] for image in shown)
    assert ["data:image/png", "data:image/webp"] == kinds
    assert all(len(image) < 200_000 for image in shown)


@given(st.sampled_from([EVIL, "</script>", "<!--<script>", "\u2028'\"\\", "{{ 1 }}"]))
def test_prompts_become_no_markup(evil: str) -> None:
    """A prompt cannot leave the data in which it stands."""
    image = Image.new("RGB", (4, 4))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")

    class Kept(ShownImage):
        def read(self) -> bytes:
            return buffer.getvalue()

    arms = {
        arm: {(f"{evil}{n}", 0): Kept(folder=FOLDER, path=f"{arm}{n}") for n in (1, 2)}
        for arm in ("a", "b")
    }
    survey = plan_survey(arms, pairs=2, seed=0, catch=0)
    shown = {item[1] for item in told(survey)["items"]}
    assert {f"{evil}1", f"{evil}2"} == shown
    assert 2 == survey_html(survey).count("</script>")


def batch(folder: Path, *, shade: int) -> None:
    """Keep three refinements, two of one prompt, and a failure."""
    with RunDirectory(folder, settings={}) as run:
        for index, prompt in enumerate(("a ball", "a box", "a ball")):
            image = Image.new("RGB", (8, 8), (shade, index, 0))
            best = Candidate(prompt=prompt, seed=1, image=image, scores={"clip": 0.5})
            rounds = (Round(candidates=(best,), verdict=Verdict(satisfied=True)),)
            run.save(
                Refinement(
                    history=History(user_prompt=prompt, rounds=rounds),
                    best_place=CandidateRef(round=0, candidate=0),
                    stop=StopReason.SATISFIED,
                    index=index,
                )
            )
        run.save(Failure(user_prompt="a cat", error="no", kind="X", index=3))


def test_batches_are_arms_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run directories are compared prompt by prompt, each under its name."""
    for name, shade in (("1", 9), ("2", 99)):
        batch(tmp_path / name, shade=shade)
    arms = f"one={tmp_path / '1'}, two={tmp_path / '2'}"
    found = read_arms(tmp_path, arms)
    assert ["one", "two"] == list(found)
    expected = [("a ball", 0), ("a box", 0), ("a ball", 1), ("a cat", 0)]
    assert expected == list(found["one"])
    shown = found["one"]["a box", 0]
    assert shown is not None
    assert {"clip": 0.5} == shown.scores
    assert found["two"]["a cat", 0] is None
    out = tmp_path / "new" / "page.html"
    survey = ["lab", "survey", str(tmp_path), "--arms", arms, "--out", str(out)]
    assert 0 == main([*survey, "--pairs", "3"])
    said = capsys.readouterr()
    assert "" == said.out
    assert read_key(out.with_suffix(".key.json")).study in said.err
    assert "1 not asked: no image of both" in said.err
    assert "keep it to yourself" in said.err


async def paint(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (seed % 256, len(prompt) % 256, 90))


async def describe(image: Image.Image) -> str:
    return "something"


async def brightness(user_prompt: str, image: Image.Image) -> float:
    return image.convert("L").getpixel((0, 0)) / 255  # type: ignore[operator]


def small(keep: Callable[[Image.Image], str]) -> list[Trial]:
    """Return the trials of one arm on one prompt."""
    policy: dict[str, Any] = {"judge": "never", "guard": None, "selector": "first"}
    models: dict[str, Any] = {"generator": paint, "captioner": describe, "scorer": None}
    work = compare(
        ["a cat"],
        Settings(llm=ScriptedChatModel(), **models, **policy),
        arms=["first"],
        images=1,
        given=policy,
        metric=brightness,
        keep=keep,
    )
    return list(asyncio.run(work).arms[0].trials)


def test_a_comparison_keeps_what_a_survey_shows(tmp_path: Path) -> None:
    """The image that an arm returns lies where its trial says."""
    (trial,) = small(partial(write_image, tmp_path))
    assert trial.image == trial.to_json()["image"]
    data = ObjectStore(tmp_path).get(str(trial.image))
    assert data is not None
    with Image.open(io.BytesIO(data)) as image:
        assert (8, 8) == image.size


def test_a_full_disk_does_not_end_a_comparison(tmp_path: Path) -> None:
    """The trial keeps its figures; that the disk is full is told when they are kept."""
    (tmp_path / "objects").write_text("no folder", "utf-8")
    (trial,) = small(partial(write_image, tmp_path))
    assert trial.image is None
    assert trial.reported is not None


def test_trials_without_an_image_are_left_out(folder: Path) -> None:
    """An arm that failed on a prompt is not asked about there.

    Nor is a prompt that only one arm had, as each of two that differ.
    """
    lines = (folder / "trials.jsonl").read_text("utf-8").splitlines()
    failed = {**json.loads(lines[0]), "image": None, "reported": None}
    lines[1] = lines[1].replace("prompt 1", "prompt \\ud800")
    (folder / "trials.jsonl").write_text(
        "\n".join([json.dumps(failed), *lines[1:]]), "utf-8"
    )
    key = planned(folder).key
    assert {"no image of both": 3, "the same image": 2} == key.left_out
    assert key.model_dump_json()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--arms", "ours"), "expected two or more arms"),
        (("--arms", "ours,ours"), "each once"),
        (("--arms", "ours,=x"), "each once"),
        (("--arms", "ours,nobody"), "expected arms of ours, theirs, third or name=DIR"),
        (("--arms", "ours,x=nowhere"), "expected a folder with results.jsonl"),
        (("--pairs", "0"), "from 1 to 2,000 pairs"),
        (("--repeats", "0.6"), "share of repeats from 0 to 0.5"),
        (("--catch", "-1"), "share of catch from 0 to 0.5"),
        (("--pairs", "1"), "expected two prompts or more for catch pairs"),
        (("--out", "page.txt"), "expected --out to end in .html"),
    ],
)
def test_bad_options_are_one_line(
    option: tuple[str, ...],
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, one line, and no page."""
    arms = () if "--arms" in option else ("--arms", "ours,theirs")
    assert 2 == main(["lab", "survey", str(folder), *arms, *option])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not list(folder.glob("*.html"))


def spoil_trials(folder: Path) -> None:
    (folder / "trials.jsonl").write_text("{}\n", "utf-8")


def lose_trials(folder: Path) -> None:
    (folder / "trials.jsonl").unlink()


def lose_images(folder: Path) -> None:
    for image in (folder / "objects").iterdir():
        image.unlink()


def forget_images(folder: Path) -> None:
    text = (folder / "trials.jsonl").read_text("utf-8")
    text = re.sub(r'"objects/[^"]*"', "null", text)
    (folder / "trials.jsonl").write_text(text, "utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_trials, "expected line 1 of"),
        (lose_trials, "expected a folder with trials.jsonl"),
        (lose_images, "as it was written, got another file or none"),
        (forget_images, "expected a comparison that kept its images"),
    ],
)
def test_bad_folders_are_one_line(
    spoil: Any, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing or damaged is named, and nothing is half-written."""
    spoil(folder)
    assert 2 == main(["lab", "survey", str(folder), "--arms", "ours,theirs"])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not list(folder.glob("survey*"))


def test_an_object_that_is_no_image_is_refused(tmp_path: Path) -> None:
    """A folder may come from somebody else."""
    survey = planned(compared(tmp_path, prompts=2), pairs=1, catch=0)

    class Odd(ShownImage):
        def read(self) -> bytes:
            return b"GIF89a"

    images = {path: Odd(folder=tmp_path, path=path) for path in survey.images}
    with pytest.raises(ConfigurationError, match="to be a PNG image"):
        survey_html(replace(survey, images=images))


def test_where_all_is_alike_there_is_nothing_to_ask(tmp_path: Path) -> None:
    """Arms that returned the same images have nothing to be compared by."""
    folder = compared(tmp_path, prompts=2, alike=2)
    with pytest.raises(ConfigurationError, match="2 the same, 0 without"):
        planned(folder)


def test_a_page_with_answers_is_not_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same survey may be written again, another one may not."""
    command = ["lab", "survey", str(folder), "--arms", "ours,theirs"]
    assert 0 == main(command)
    assert 0 == main(command)
    before = (folder / "survey.html").read_bytes()
    capsys.readouterr()
    assert 2 == main([*command, "--seed", "9"])
    assert "choose another --out" in capsys.readouterr().err
    assert before == (folder / "survey.html").read_bytes()


def test_a_key_is_checked(folder: Path, tmp_path: Path) -> None:
    """A key that is gone, something else or edited is told in a line."""
    key = planned(folder).key
    file = tmp_path / "x.key.json"
    with pytest.raises(ConfigurationError, match="use --key"):
        read_key(file)
    file.write_text("{}", "utf-8")
    with pytest.raises(ConfigurationError, match=r"ends in \.key\.json"):
        read_key(file)
    written = key.model_dump_json(by_alias=True)
    file.write_text(written, "utf-8")
    assert key == read_key(file)
    file.write_text(written.replace('"prompt 1"', '"prompt one"'), "utf-8")
    with pytest.raises(ConfigurationError, match="got it edited"):
        read_key(file)


def test_a_page_that_is_gone_or_no_text_is_told(folder: Path, tmp_path: Path) -> None:
    """In one line, before anybody is asked."""
    page, key = tmp_path / "x.html", planned(folder).key
    page.with_suffix(".key.json").write_text(key.model_dump_json(by_alias=True))
    with pytest.raises(ConfigurationError, match="got: No such file"):
        command._serve(tmp_path, page, "127.0.0.1", 0, ())
    page.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="got: no UTF-8 text; make it again"):
        command._serve(tmp_path, page, "127.0.0.1", 0, ())
