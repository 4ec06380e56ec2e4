"""What people said: read with care, counted honestly, and set beside the judges.

Invariants, each a property test:

* Whoever stood left does not matter.
* Whatever is cut off or changed in a file of answers, it is refused.
"""

from __future__ import annotations

import io
import json
import math
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socratic_agents.cli.app import main
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.survey.design import Item, SurveyKey
from socratic_agents.lab.survey.responses import parse_responses, read_responses
from socratic_agents.lab.survey.results import survey_results
from socratic_agents.lab.survey.tables import print_results
from tests.surveys import answered, compared, planned, prefer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from socratic_agents.lab.survey.responses import Responses


def asked(pairs: int = 40, catches: int = 4, repeats: int = 4) -> SurveyKey:
    """Return the key of a survey about images that nobody drew."""
    items = [
        Item(
            id=str(number),
            kind="pair" if number < pairs else "catch",
            number=number,
            prompt=f"prompt {number}",
            arms=("ours", "theirs") if number < pairs else ("wrong", "right"),
            images=("a.png", "b.png"),
            scores=(
                {"good": 0.9, "bad": 0.1, "flat": 0.5, "late": 0.2},
                {"good": 0.2, "bad": 0.6, "flat": 0.5},
            )
            if number < pairs
            else ({}, {}),
        )
        for number in range(pairs + catches)
    ]
    key = SurveyKey(
        seed=0,
        arms=("ours", "theirs"),
        repeats=repeats,
        left_out={"the same image": 3},
        items=tuple(items),
    )
    return key.model_copy(update={"study": key.hashed()})


KEY = asked()


def person(
    choose: Callable[[Item, str], int], *, key: SurveyKey = KEY, **fields: Any
) -> Responses:
    return parse_responses(answered(key, choose, **fields), key=key, name="x")


def wavering(seed: int, share: float) -> Callable[[Item, str], int]:
    """Return somebody who prefers ours in so many cases, but knows a wrong image."""
    chance = random.Random(seed)

    def choose(item: Item, question: str) -> int:
        better = "ours" if chance.random() < share else "theirs"
        return prefer(better)(item, question)

    return choose


def test_the_planted_winner_is_found() -> None:
    """Three people who mostly prefer ours make ours the stronger arm."""
    people = [person(wavering(n, 0.85), rater=n) for n in range(3)]
    told = survey_results(KEY, people).to_json()
    for said in told["questions"].values():
        assert "ours" == said["preference"]["strengths"][0]["arm"]
        assert said["preference"]["strengths"][0]["low"] > 0
        assert (120, 40) == (said["votes"], said["pairs"])
        (standing,) = said["standings"]
        assert standing["won"] + standing["tied"] + standing["lost"] == 40
        assert standing["low"] > 0.5
        assert 0.5 < said["person"] <= 1
        decided = standing["won"] + standing["lost"]
        assert standing["won"] / decided == said["arm"]
    assert (3, 0, 40) == (told["n"], told["excluded"], told["asked"])
    assert {"the same image": 3} == told["left_out"]
    assert any("match: ours is above theirs" in line for line in told["findings"])
    assert json.dumps(told, allow_nan=False)


def test_the_judge_that_says_the_same_is_trusted() -> None:
    """A metric that always prefers ours deserves trust where people do, too."""
    results = survey_results(KEY, [person(wavering(1, 0.9))])
    judges = {judge.metric: judge for judge in results.questions[1].judges}
    assert ["bad", "flat", "good", "late"] == sorted(judges)
    good, bad, flat = judges["good"], judges["bad"], judges["flat"]
    assert (1, -1, 0) == (good.sign, bad.sign, flat.sign)
    assert good.accuracy == pytest.approx(1 - (bad.accuracy or 0))
    assert (0, 40, 40) == (flat.n, flat.undecided, judges["late"].unscored)
    assert (0.5, None) == (flat.auc, judges["late"].auc)
    (sentence,) = [s for s in results.findings() if "trust" in s and "match" in s]
    assert sentence.startswith("match: good deserves trust most, it agrees with people")
    assert sentence.endswith("no better than a coin: bad.")


def test_even_answers_say_so() -> None:
    """Where nobody sees a difference, there is no winner and nobody to trust."""
    results = survey_results(
        KEY, [person(lambda item, _q: "right" in item.arms and -1)]
    )
    said = results.questions[0]
    assert (0, 40, 0) == tuple(
        getattr(said.standings[0], name) for name in ("won", "tied", "lost")
    )
    assert said.person is None
    assert said.arm is None
    assert said.alpha is None
    first, second = results.findings()[:2]
    assert "ours cannot be distinguished from theirs" in first
    assert "too few pairs are decided" in second


def test_the_better_arm_is_named_first_in_a_finding() -> None:
    """A finding is about the one that is above, whatever its name."""
    results = survey_results(KEY, [person(prefer("theirs"))])
    assert results.findings()[0].startswith(
        "preference: theirs is above ours: 40 prompts won, 0 tied, 0 lost"
    )


def test_arms_without_a_link_have_no_scale() -> None:
    """Where people answered too little to link all arms, strengths are left open."""
    items = [
        item.model_copy(update={"arms": arms})
        for item, arms in zip(
            asked(pairs=2, catches=0).items, (("a", "b"), ("c", "d")), strict=True
        )
    ]
    key = SurveyKey(
        seed=0, arms=tuple("abcd"), repeats=0, left_out={}, items=tuple(items)
    )
    key = key.model_copy(update={"study": key.hashed()})
    said = survey_results(key, [person(prefer("a"), key=key)]).questions[0]
    assert (None, None, 2) == (said.preference, said.arm, len(said.standings))


def test_what_is_not_known_is_not_printed() -> None:
    """Neither strengths without a scale, nor judges where nothing was scored."""
    items = [
        item.model_copy(update={"arms": arms, "scores": ({}, {})})
        for item, arms in zip(
            asked(pairs=2, catches=0).items, (("a", "b"), ("c", "d")), strict=True
        )
    ]
    key = SurveyKey(
        seed=0, arms=tuple("abcd"), repeats=0, left_out={}, items=tuple(items)
    )
    key = key.model_copy(update={"study": key.hashed()})
    people = [person(prefer("a"), key=key)]
    printed = io.StringIO()
    print_results(survey_results(key, people), printed)
    assert "a : b" in printed.getvalue()
    assert not {"strength", "undecided"} & {*printed.getvalue().split()}
    printed = io.StringIO()
    print_results(survey_results(KEY, [person(prefer("ours"))]), printed)
    assert {"strength", "undecided"} <= {*printed.getvalue().split()}


def test_care_is_measured() -> None:
    """Catch pairs, repeats, sides and time tell how somebody answered."""
    care = survey_results(KEY, [person(prefer("ours"), ms=7_000)]).people[0]
    assert (40, 4, 4) == (care.answers, care.caught, care.catches)
    assert (1.0, 4, 7.0, None) == (care.same, care.repeats, care.seconds, care.excluded)
    assert "00000000" == care.rater
    assert care.left is not None
    assert 0.5 < care.left < 1


def test_who_does_not_look_is_left_out() -> None:
    """Blind answers and haste are left out, counted, and can be kept."""
    careful = person(prefer("ours"))
    blind = person(lambda _item, _question: 1, rater=2)
    hasty = person(prefer("theirs"), rater=3, ms=100)
    told = survey_results(KEY, [careful, blind, hasty]).to_json()
    assert (1, 2, 40) == (
        told["n"],
        told["excluded"],
        told["questions"]["match"]["votes"],
    )
    assert "took 4 of 4 wrong images for right" == told["people"][1]["excluded"]
    assert "less than 1.5 seconds" in told["people"][2]["excluded"]
    kept = survey_results(KEY, [careful, blind, hasty], keep_careless=True)
    assert 3 == kept.to_json()["n"]
    with pytest.raises(ConfigurationError, match="use --keep-careless to see"):
        survey_results(KEY, [blind])


def test_who_took_only_ties_has_no_side() -> None:
    """A share of nothing is no share."""
    key = asked(catches=0, repeats=0)
    care = survey_results(key, [person(lambda _i, _q: 0, key=key)]).people[0]
    assert (None, None, 0) == (care.left, care.same, care.repeats)


@given(st.integers(0, 5), st.floats(0, 1))
@settings(max_examples=25)
def test_sides_do_not_matter(seed: int, share: float) -> None:
    """Who saw the images the other way round, and chose them alike, said the same."""
    key = asked(pairs=6, catches=0, repeats=0)
    one = person(wavering(seed, share), key=key, rater=1)
    other = person(wavering(seed, share), key=key, rater=2)
    assert [answer.left for answer in one.answers] != [a.left for a in other.answers]
    assert (
        survey_results(key, [one]).questions == survey_results(key, [other]).questions
    )


WHOLE = answered(KEY, prefer("ours"))


@given(st.integers(0, len(WHOLE) - 1))
def test_what_is_cut_off_is_refused(length: int) -> None:
    """No beginning of a file is taken for the file."""
    with pytest.raises(ConfigurationError, match="export them again"):
        parse_responses(WHOLE[:length], key=KEY, name="x")


@given(st.integers(0, 43), st.sampled_from(["left", "right", "tie"]))
def test_what_is_edited_is_refused(place: int, choice: str) -> None:
    """An answer that was changed afterwards does not fit its checksum."""
    record = json.loads(WHOLE)
    if record["answers"][place]["match"] == choice:
        return
    record["answers"][place]["match"] = choice
    with pytest.raises(ConfigurationError, match="got it edited"):
        parse_responses(json.dumps(record).encode(), key=KEY, name="x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "cut off or something else"),
        (b'"x"', "cut off or something else"),
        (b"\xff\xfe", "cut off or something else"),
        (b'{"schema": NaN}', "cut off or something else"),
        (b"[" * 100_000, "cut off or something else"),
        (b"{}", "wrong at schema"),
        (answered(KEY, prefer("ours"), changes={"rater": "../x"}), "wrong at rater"),
        (answered(KEY, prefer("ours"), changes={"study": "another"}), "of study 'anot"),
        (answered(KEY, prefer("ours"), changes={"answers": []}), "at least one answer"),
        (answered(asked(pairs=50), prefer("ours")), "expected answers of study"),
        (
            answered(
                KEY,
                prefer("ours"),
                changes={"answers": json.loads(WHOLE)["answers"] * 2},
            ),
            "each pair of the study at most once",
        ),
        (
            answered(
                KEY,
                prefer("ours"),
                changes={
                    "answers": [{**json.loads(WHOLE)["answers"][0], "item": "99"}]
                },
            ),
            "each pair of the study at most once",
        ),
    ],
)
def test_bad_files_are_one_line(data: bytes, message: str) -> None:
    """What is wrong with a file is named, and so is the file."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_responses(data, key=KEY, name="file.json")
    assert "file.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nobody_counts_twice(tmp_path: Path) -> None:
    """The same person's answers under two names are refused; both are named."""
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_bytes(WHOLE)
    with pytest.raises(
        ConfigurationError, match=r"one\.json and .*two\.json of the same"
    ):
        read_responses([tmp_path], key=KEY)
    (tmp_path / "two.json").unlink()
    assert 1 == len(read_responses([tmp_path], key=KEY))
    assert 1 == len(read_responses([tmp_path / "one.json"], key=KEY))


def test_a_spoilt_file_takes_nobody_elses_answers(tmp_path: Path) -> None:
    """Of a folder it is left out and told; named by itself it is refused."""
    (tmp_path / "one.json").write_bytes(answered(KEY, prefer("ours")))
    (tmp_path / "two.json").write_bytes(b"{")
    os.mkfifo(tmp_path / "pipe.json")
    lines: list[str] = []
    people = read_responses([tmp_path], key=KEY, on_left_out=lines.append)
    assert 1 == len(people)
    assert ["got: expected a file, got a pipe", "cut off"] == [
        next(
            part
            for part in ("got: expected a file, got a pipe", "cut off")
            if part in line
        )
        for line in lines
    ]
    with pytest.raises(ConfigurationError, match="cut off"):
        read_responses([tmp_path / "two.json"], key=KEY, on_left_out=lines.append)


def test_nothing_is_not_enough(tmp_path: Path) -> None:
    """A folder without answers and a file that is not there are told."""
    with pytest.raises(ConfigurationError, match="got none; name one"):
        read_responses([tmp_path], key=KEY)
    with pytest.raises(ConfigurationError, match="No such file"):
        read_responses([tmp_path / "x.json"], key=KEY)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a folder with a page, its key and the answers of two people."""
    folder = compared(tmp_path / "study")
    command = ["lab", "survey", str(folder), "--arms", "ours,theirs,third"]
    assert 0 == main([*command, "--pairs", "24", "--catch", "0.2"])
    options = {"pairs": 24, "repeats": 0.1, "catch": 0.2, "seed": 0}
    key = planned(folder, arms="ours,theirs,third", **options).key
    (folder / "answers").mkdir()
    for rater in (1, 2):
        data = answered(key, prefer("ours"), rater=rater)
        (folder / "answers" / f"{rater}.json").write_bytes(data)
    return folder


def test_the_command(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key is found beside the answers; JSON alone goes to stdout."""
    capsys.readouterr()
    files = [str(study / "answers" / f"{rater}.json") for rater in (1, 2)]
    assert 0 == main(["lab", "survey-results", *files, "--json"])
    told = capsys.readouterr()
    results = json.loads(told.out)
    strengths = results["questions"]["preference"]["preference"]["strengths"]
    assert "ours" == strengths[0]["arm"]
    assert 2 == results["n"]
    for shown in ("ours : theirs", "strength", "judge", "oracle", "2 people", "alpha"):
        assert shown in told.err
    assert 0 == main(["lab", "survey-results", str(study / "answers")])
    assert "" == capsys.readouterr().out


def test_the_key_must_be_found(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key beside the answers, or with two, one has to be named."""
    key = study / "survey.key.json"
    command = ["lab", "survey-results", str(study / "answers" / "1.json")]
    (study / "other.key.json").write_bytes(key.read_bytes())
    assert 2 == main(command)
    assert "use --key" in capsys.readouterr().err.splitlines()[-1]
    assert 0 == main([*command, "--key", str(key)])
    for file in study.glob("*.key.json"):
        file.unlink()
    assert 2 == main(command)
    assert "expected one .key.json beside" in capsys.readouterr().err


def test_careless_people_are_shown(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table says who is left out and why, and what was never asked."""
    folder = compared(study / "again", alike=1)
    key = planned(folder, arms="ours,theirs").key
    (study / "x.key.json").write_text(key.model_dump_json(by_alias=True), "utf-8")
    files = []
    for rater, ms in ((1, 5_000), (2, 10)):
        files.append(study / f"{rater}.json")
        files[-1].write_bytes(answered(key, prefer("ours"), rater=rater, ms=ms))
    command = ["lab", "survey-results", *map(str, files)]
    assert 0 == main([*command, "--key", str(study / "x.key.json")])
    told = " ".join(capsys.readouterr().err.split())
    assert "2 people, 1 of them left out" in told
    assert "1 pairs of arms and prompts not asked: the same image" in told


def test_an_end_that_nobody_saw_is_open_in_json() -> None:
    """Who won everything may be stronger without end; JSON has no word for that."""
    people = [person(prefer("ours"), rater=n) for n in range(2)]
    results = survey_results(KEY, people)
    told = results.to_json()
    for question in results.questions:
        assert question.preference is not None
        first, second = question.preference.strengths
        assert (math.inf, -math.inf) == (first.high, second.low)
        said = told["questions"][question.question]["preference"]["strengths"]
        assert (None, None) == (said[0]["high"], said[1]["low"])
        assert said[0]["low"] is not None
    assert json.dumps(told, allow_nan=False)
    file = io.StringIO()
    print_results(results, file)
    assert "to open" in file.getvalue()
