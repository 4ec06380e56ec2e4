"""A comparison: complete, honest whichever way it came out, and escaped.

Invariants, each a property test:

* Whatever was measured, the JSON form has no NaN, and all its counts add up.
* No text becomes markup of the page or of the terminal.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.core.errors import ConfigurationError
from socratic_agents.lab.compare.findings import comparison_json, findings, warnings
from socratic_agents.lab.compare.page import comparison_html
from socratic_agents.lab.compare.plots import anytime_plot, round_plot
from socratic_agents.lab.compare.result import (
    ArmResult,
    Comparison,
    Step,
    Trial,
    trials_jsonl,
)
from socratic_agents.lab.compare.tables import print_table
from tests.test_report import EVIL, Reader, squeezed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STEERING = "[bold red]loud[/] [link=x]y[/link] \x1b[31mred\x1b[0m \x07 $x_1$"
"""What would be markup for rich, a colour for a terminal, a formula for a plot."""


def trial(index: int, value: float | None = 0.5, **fields: Any) -> Trial:
    """Return a trial with this value, or excluded because there is none."""
    cause = "no route" if value is None else None
    given = {"reported": value, "excluded": cause, "images": 1, **fields}
    return Trial(index=index, user_prompt=f"prompt {index}", **given)


def arm(name: str, values: Sequence[float | None], **fields: Any) -> ArmResult:
    return ArmResult(
        name=name,
        trials=tuple(
            trial(index, value, **fields) for index, value in enumerate(values)
        ),
    )


def steps(*pairs: tuple[float | None, float | None]) -> tuple[Step, ...]:
    """Return one image a round, each with its value and what would be returned."""
    return tuple(
        Step(round=number, reported=reported, returned=returned)
        for number, (reported, returned) in enumerate(pairs)
    )


def comparison(*arms: ArmResult, **fields: Any) -> Comparison:
    named = {"metric": "oracle", "images": 3, "against": "best_of_n", **fields}
    return Comparison(arms=arms, **named)


BASE = [0.25, 0.5, 0.75, 1.0] * 10
"""Values of 40 prompts."""


def shifted(by: float) -> list[float | None]:
    """Return the values, each moved by about so much."""
    return [value + by + 0.02 * (place % 3 - 1) for place, value in enumerate(BASE)]


def printed(shown: Comparison) -> str:
    file = io.StringIO()
    print_table(shown, file)
    return file.getvalue()


def test_the_json_form() -> None:
    """Every promised key is there, with the figures of the measured trials."""
    best = arm("best_of_n", [0.5, 1.0, 0.75, 0.25], images=3, seconds=2.0)
    default = ArmResult(
        name="default",
        trials=(
            trial(0, 1.0, images=2, llm_calls=4, input_tokens=100, output_tokens=10),
            trial(1, 1.0, images=1, llm_calls=1, seconds=1.0, below_first=True),
            trial(2, 0.5, images=3, llm_calls=4, input_tokens=50, seconds=2.0),
            trial(3, None, images=9, llm_calls=99, seconds=99.0),
        ),
    )
    shown = comparison(
        *(default, best),
        settings={"seed": 7},
        command="socratic lab",
        bounds=(0.0, 1.0),
    )
    record = comparison_json(shown)
    assert record == json.loads(json.dumps(record, allow_nan=False))
    assert {
        "schema": 1,
        "metric": "oracle",
        "images": 3,
        "n": 4,
        "against": "best_of_n",
        "settings": {"seed": 7},
        "command": "socratic lab",
    }.items() <= record.items()
    assert ["default", "best_of_n"] == list(record["arms"])
    told = record["arms"]["default"]
    assert {
        "mean": 0.8333,
        "images": 2.0,
        "llm_calls": 3.0,
        "input_tokens": 50.0,
        "output_tokens": 3.3333,
        "seconds": 1.0,
        "n": 3,
        "whole": 0.6667,
        "excluded": 1,
        "excluded_causes": {"no route": 1},
        "below_first": 1,
    }.items() <= told.items()
    low, high = told["ci"]
    assert 0.0 <= low <= 0.8333 <= high <= 1.0
    low, high = told["whole_ci"]
    assert 0.2 <= low <= 0.6667 <= high <= 0.95
    assert ["default"] == list(record["differences"])
    difference = record["differences"]["default"]
    assert {"mean": 0.0833, "win": 1, "tie": 1, "loss": 1, "n": 3}.items() <= (
        difference.items()
    )
    assert 2 == len(difference["ci"])


def test_what_is_not_known_is_null() -> None:
    """An arm without one value has no mean, no interval and no share."""
    told = comparison_json(comparison(arm("best_of_n", [None]), arm("default", [None])))
    empty = told["arms"]["default"]
    unknown = ("mean", "whole", "images", "llm_calls", "seconds", "input_tokens")
    assert [None] * 6 == [empty[key] for key in unknown]
    assert [None, None] == empty["ci"]
    assert {
        "mean": None,
        "ci": [None, None],
        "win": 0,
        "tie": 0,
        "loss": 0,
        "n": 0,
    } == told["differences"]["default"]


numbers = st.none() | st.floats(0, 1)
many = st.lists(numbers, min_size=1, max_size=6)


@settings(max_examples=40)
@given(many, many, st.floats(), st.text())
def test_any_values_can_be_told(
    ours: list[float | None], theirs: list[float | None], score: float, text: str
) -> None:
    """Whatever was measured there is JSON without NaN, a table and a page."""
    shown = comparison(
        arm("default", ours, steps=steps((0.5, 0.5)), selection={"clip": score}),
        arm("best_of_n", theirs),
        arm("classic_last", theirs, steps=steps((None, None), (0.25, 0.25))),
        command=text,
    )
    record = comparison_json(shown)
    json.dumps(record, allow_nan=False)
    for name, values in (("default", ours), ("best_of_n", theirs)):
        told = record["arms"][name]
        assert len(values) == told["n"] + told["excluded"]
        assert told["excluded"] == sum(told["excluded_causes"].values())
    for told in record["differences"].values():
        assert told["n"] == told["win"] + told["tie"] + told["loss"]
    assert len(list(trials_jsonl(shown))) == len(ours) + 2 * len(theirs)
    assert printed(shown)
    assert [] == Reader(comparison_html(shown, plots={})).open


def test_trials_can_be_analysed_again() -> None:
    """Each line is one arm on one prompt, unrounded, its steps among it."""
    third = 1 / 3
    shown = comparison(
        ArmResult(
            name="default",
            trials=(
                trial(
                    4,
                    third,
                    stop="satisfied",
                    selection={"clip": math.nan, "checklist": third},
                    first_selection={"clip": 0.25},
                    steps=steps((0.25, 0.25), (third, third), (None, third)),
                ),
                trial(5, None),
            ),
        )
    )
    first, second = map(json.loads, trials_jsonl(shown))
    assert ("default", 4, "prompt 4", third, None, "satisfied") == tuple(
        first[key]
        for key in ("arm", "index", "user_prompt", "reported", "excluded", "stop")
    )
    assert {"clip": None, "checklist": third} == first["selection"]
    assert {"clip": 0.25} == first["first_selection"]
    assert {"round": 1, "reported": third, "returned": third} == first["steps"][1]
    assert {"round": 2, "reported": None, "returned": third} == first["steps"][2]
    assert (None, "no route") == (second["reported"], second["excluded"])


@pytest.mark.parametrize(
    ("value", "cause", "said"),
    [
        (None, None, "either a value or why there is none, got None and None"),
        (0.5, "no route", "either a value or why there is none, got 0.5"),
        (math.nan, None, "expected a finite value or None, got nan"),
    ],
)
def test_a_failure_is_no_value(
    value: float | None, cause: str | None, said: str
) -> None:
    """A trial has a value or a cause, never both, never neither, never NaN."""
    with pytest.raises(ValueError, match=said):
        Trial(index=0, user_prompt="a", reported=value, excluded=cause)


@pytest.mark.parametrize("key", ["reported", "returned"])
def test_a_step_has_numbers(key: str) -> None:
    """What an image could not be measured with is ``None``, not infinite."""
    given: dict[str, Any] = {"reported": 0.5, "returned": 0.5, key: math.inf}
    with pytest.raises(ValueError, match="expected a finite value or None, got inf"):
        Step(round=0, **given)


def test_an_arm_is_run_once() -> None:
    """Two arms of one name could not be told apart."""
    with pytest.raises(ValueError, match="expected each arm once, got a, b, a"):
        comparison(arm("a", []), arm("b", []), arm("a", []))


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (0.1, "default is above best_of_n: oracle +0.0995 on average"),
        (-0.1, "default is below best_of_n: oracle -0.1005 on average"),
        (
            0.0,
            "default cannot be distinguished from best_of_n: oracle -0.0005 on average",
        ),
    ],
)
def test_findings_whichever_way(by: float, said: str) -> None:
    """A gain, a loss and nothing are told in the same words, with their figures."""
    shown = comparison(arm("best_of_n", BASE), arm("default", shifted(by)))
    (finding,) = findings(shown)
    assert finding.startswith(said)
    told = shown.differences["default"]
    assert f"; {told.win} won, {told.tie} tied, {told.loss} lost." in finding
    assert f"95 % interval {told.low:+.4f} to {told.high:+.4f};" in finding
    assert () == warnings(shown)


def test_a_finding_needs_more_than_an_interval() -> None:
    """Where few prompts differ there is no interval, which would be narrow."""
    shown = comparison(
        arm("best_of_n", [0.5] * 40), arm("default", [0.75] * 5 + [0.5] * 35)
    )
    (finding,) = findings(shown)
    assert shown.differences["default"].low is None
    assert finding.startswith("default cannot be distinguished from best_of_n")
    assert finding.endswith("5 won, 35 tied, 0 lost; too few differ to tell.")


def test_a_finding_of_one_pair_has_no_interval() -> None:
    """One prompt gives a figure, and no interval."""
    shown = comparison(arm("best_of_n", [0.5]), arm("default", [0.75]))
    assert (
        "default cannot be distinguished from best_of_n: oracle +0.2500 on average; "
        "1 won, 0 tied, 0 lost; too few differ to tell."
    ) == findings(shown)[0]


def test_without_pairs_there_is_no_finding() -> None:
    """Arms without a common prompt cannot be compared, and that is said."""
    shown = comparison(arm("best_of_n", [None, 0.5]), arm("default", [0.5, None]))
    assert (
        "default cannot be compared with best_of_n: no prompt has a value of both."
    ) == findings(shown)[0]


@pytest.mark.parametrize("name", ["classic_last", "classic_caption"])
@pytest.mark.parametrize(
    ("by", "said", "meant"),
    [
        (0.1, "is above", "contradicts"),
        (-0.1, "is below", "repeats"),
        (0.0, "cannot be distinguished from", "neither repeats nor contradicts"),
    ],
)
def test_the_predecessors_finding(name: str, by: float, said: str, meant: str) -> None:
    """What the predecessor's arms return is set beside their own first images."""
    trials = tuple(
        trial(index, value, steps=steps((first, first), (value, value)))
        for index, (first, value) in enumerate(zip(BASE, shifted(by), strict=True))
    )
    shown = comparison(ArmResult(name=name, trials=trials))
    (finding,) = findings(shown)
    assert finding.startswith(f"What {name} returns {said} its own first image: oracle")
    assert f"This {meant} the predecessor's finding" in finding
    assert 40 == comparison_json(shown)["since_first"][name]["n"]


def test_only_the_predecessor_has_its_finding() -> None:
    """Other arms, and trials without steps, say nothing of the predecessor."""
    shown = comparison(
        arm("default", [0.5], steps=steps((0.25, 0.5))), arm("classic_last", [0.5])
    )
    assert () == findings(shown)
    assert ["classic_last"] == list(shown.since_first)


def test_an_arm_is_held_to_its_own_scores() -> None:
    """How often an arm returned less than its first image is always told."""
    scored: dict[str, Any] = {
        "selection": {"clip": 0.5},
        "first_selection": {"clip": 0.25},
    }
    worse = ArmResult(
        name="default",
        trials=(trial(0, **scored), trial(1, **scored, below_first=True), trial(2)),
    )
    shown = comparison(arm("expand", [0.5, 0.5], **scored), worse, arm("first", [0.5]))
    assert (
        "Returned less than the first image, by the arm's own scores: "
        "expand 0 of 2, default 1 of 2."
    ) == findings(shown)[-1]


def test_what_is_left_out_is_warned_of() -> None:
    """Excluded trials are counted, with the most frequent cause."""
    left_out = ArmResult(
        name="default",
        trials=(
            trial(0, None, excluded="time out"),
            trial(1, None),
            trial(2, None),
            *(trial(index) for index in range(3, 40)),
        ),
    )
    shown = comparison(arm("best_of_n", BASE), left_out)
    assert {"no route": 2, "time out": 1} == left_out.causes
    assert (
        "default: 3 of 40 prompts are left out of all means, 2 because: no route"
    ) in warnings(shown)
    assert 37 == shown.differences["default"].n


def test_a_missing_base_is_warned_of() -> None:
    """Where the arm to compare with was not run nothing is compared."""
    shown = comparison(arm("default", BASE))
    assert {} == comparison_json(shown)["differences"]
    assert ("best_of_n was not run, so nothing is compared with it.",) == warnings(
        shown
    )
    assert "prompt by prompt" not in printed(shown)


def test_unequal_arms_are_warned_of() -> None:
    """An arm that drew more than was allowed, or ran on less, is named."""
    shown = comparison(
        arm("best_of_n", BASE), arm("greedy", BASE, images=4), arm("short", BASE[:30])
    )
    text = " ".join(warnings(shown))
    assert "greedy drew up to 4 images for a prompt, though 3 were allowed" in text
    assert "short was run on 30 of 40 prompts only." in text
    assert "best_of_n" not in text


def test_what_has_no_interval_is_told() -> None:
    """Where there are enough prompts for one, with the reason."""
    shown = comparison(
        arm("best_of_n", [0.5] * 24), arm("default", [0.75] + [0.5] * 23)
    )
    pairs = "1 of 24 pairs differ, and at least 6 must"
    few = "of 24 values differ from the most frequent one, and at least 6 must"
    assert [
        f"best_of_n: the mean has no interval, since 0 {few}.",
        f"default: the mean has no interval, since 1 {few}.",
        f"default: the difference has no interval, since {pairs}.",
    ] == list(warnings(shown)[:3])


def test_weak_comparisons_are_warned_of_once() -> None:
    """Arms with the same warning share it."""
    shown = comparison(
        arm("best_of_n", [0.5] * 3),
        arm("a", [0.75] * 3),
        arm("b", [0.25] * 3),
    )
    assert (
        "a, b: 3 pairs are too few for a conclusion; run at least 20.",
    ) == warnings(shown)


def test_values_after_each_image() -> None:
    """A trial that stopped keeps its value; an excluded one is in no mean."""
    shown = ArmResult(
        name="default",
        trials=(
            trial(0, 1.0, steps=steps((0.5, 0.5), (1.0, 1.0), (0.25, 1.0))),
            trial(1, 0.5, steps=steps((0.5, 0.5))),
            trial(2, None, steps=steps((0.0, 0.0))),
            trial(3, 0.5, steps=steps((None, None), (0.5, 0.5))),
            trial(4, 0.5),
        ),
    )
    after = (0.5, 2 / 3, 2 / 3, 2 / 3)
    assert after == pytest.approx(shown.anytime(4))
    assert (0.5, 0.75, 0.25) == shown.by_round()
    record = comparison_json(comparison(shown, images=2))["arms"]["default"]
    assert ([0.5, 0.6667], [0.5, 0.75, 0.25]) == (record["anytime"], record["rounds"])


def test_without_steps_there_is_nothing_to_draw() -> None:
    """An arm whose steps are unknown has no value after any image."""
    assert (None, None) == arm("default", [0.5]).anytime(2)
    assert () == arm("default", [0.5]).by_round()


def test_rounds_may_be_skipped() -> None:
    """A round without a value is told as unknown, not left out."""
    late = (Step(round=2, reported=0.5, returned=0.5),)
    assert (None, None, 0.5) == arm("default", [0.5], steps=late).by_round()


def test_the_table() -> None:
    """The table has every figure and sentence, in plain text of 80 columns."""
    shown = comparison(
        arm("best_of_n", BASE, images=3),
        arm("classic_caption", [*shifted(-0.1)[:-1], None], llm_calls=12),
        arm("empty", [None] * 40, input_tokens=1),
    )
    text = printed(shown)
    assert "\x1b" not in text
    tables = text.partition("classic_caption is below")[0]
    assert 80 >= max(map(len, tables.splitlines()))
    assert "oracle on 40 prompts, up to 3 images for each" in text
    rows = [line.split() for line in tables.splitlines()]
    assert ["best_of_n", "0.625"] == next(r for r in rows if r[:1] == ["best_of_n"])[:2]
    ours = [row for row in rows if row[:1] == ["classic_caption"]]
    assert ["12.0", "0", "0.0", "1"] == ours[0][-4:]
    assert ["0", "0", "39", "39"] == ours[1][-4:]
    nothing = next(row for row in rows if row[:1] == ["empty"])
    assert ["empty", *["-"] * 7, "40"] == nothing
    for sentence in (*findings(shown), *warnings(shown)):
        assert sentence in text


def test_a_terminal_gets_colours_if_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs are coloured on a terminal, and not where ``NO_COLOR`` is set."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = comparison(arm("best_of_n", BASE), arm("default", shifted(0.1)))
    assert "\x1b[32m" in printed(shown)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in printed(shown)


def evil(text: str) -> Comparison:
    """Return a comparison that has a text wherever one can come from outside."""
    bad = Trial(index=0, user_prompt=text, reported=None, excluded=text)
    return comparison(
        ArmResult(name="best_of_n", trials=(bad, trial(1))),
        ArmResult(name=text, trials=(bad, trial(1, steps=steps((0.5, 0.5))))),
        metric=text,
        settings={text: text},
        command=text,
    )


def test_text_does_not_steer_a_terminal() -> None:
    """Markup and escapes in names and causes are printed, not obeyed."""
    text = printed(evil(STEERING))
    assert "Warning: [bold red]loud[/] [link=x]y[/link]" in text
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.mark.parametrize("text", [EVIL, STEERING])
def test_text_is_no_markup(text: str) -> None:
    """Prompts, causes, settings and the command cannot become tags."""
    html = comparison_html(evil(text), plots={text: b"\x89PNG"})
    page = Reader(html)
    assert [] == page.open
    assert "script" not in page.tags
    assert html.count("49") == html.replace("{{ 7 * 7 }}", "").count("49")
    assert 6 <= page.text.count(text)


def test_the_page_is_complete() -> None:
    """Figures, findings, warnings, plots, causes, settings and the command are there."""
    shown = comparison(
        arm("best_of_n", BASE),
        arm("default", [*shifted(0.1)[:-1], None], steps=steps((0.5, 0.5))),
        arm("worse", shifted(-0.2)),
        arm("same", [None] * 39 + [0.75]),
        arm("none", [None] * 40),
        settings={"seed": 7, "scorer": None},
        command="socratic lab compare prompts.txt",
    )
    html = comparison_html(shown, plots={"after each image": anytime_plot(shown)})
    page = Reader(html)
    text = squeezed(page.text)
    assert [] == page.open
    for words in (
        "prompts 40",
        "images for each 3",
        "judged by oracle",
        "compared with best_of_n",
        "default +0.1",
        "not distinguished",
        "default 1 no route",
        "seed 7",
        "socratic lab compare prompts.txt",
        "prompt 39",
        "after each image",
        *findings(shown),
        *warnings(shown),
    ):
        assert words in text
    assert "scorer" not in text
    assert 3 == html.count('<b style="left: ')  # no pair, no mean
    assert 2 == html.count('<i style="left: ')  # one pair, no interval
    assert ["data:image/png;base64"] == [a.partition(",")[0] for a in page.addresses]
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)


def test_the_page_of_little() -> None:
    """Without plots, differences, warnings and settings the page has no empty parts."""
    alone = comparison(arm("best_of_n", BASE))
    text = Reader(comparison_html(alone, plots={})).text
    for heading in ("Warnings", "Compared with", "Findings", "Plots", "Left out"):
        assert heading not in text
    assert "Settings" not in text
    assert "Arms" in text


def test_bars_stay_on_the_page() -> None:
    """However large the differences, every bar lies within its track."""
    shown = comparison(
        arm("best_of_n", BASE), arm("up", shifted(9.0)), arm("down", shifted(-0.1))
    )
    html = comparison_html(shown, plots={})
    dots = [float(left) for left in re.findall(r'<b style="left: ([\d.]+)%', html)]
    tracks = re.findall(r'<i style="left: ([\d.]+)%; width: ([\d.]+)%', html)
    assert 2 == len(dots) == len(tracks)
    for dot, (left, width) in zip(dots, tracks, strict=True):
        assert 0 <= float(left) <= dot <= float(left) + float(width) + 0.02 <= 100


DRAWN = comparison(
    *(
        arm(
            name,
            [0.5, 0.75],
            steps=steps((0.5, 0.5), (0.25 + place / 20, 0.5 + place / 40)),
        )
        for place, name in enumerate(
            ("best_of_n", "first", "expand", "default", "vision", "_hidden", "a" * 40)
        )
    ),
    arm("stepless", [0.5]),
    arm(STEERING, [0.5], steps=steps((0.5, 0.5))),
)


@pytest.mark.parametrize("plot", [anytime_plot, round_plot])
def test_plots(plot: Callable[[Comparison], bytes]) -> None:
    """A plot is a sharp PNG, the same each time, and leaves pyplot alone."""
    before = "matplotlib.pyplot" in sys.modules  # other tests may have needed it
    data = plot(DRAWN)
    assert data == plot(DRAWN)
    assert 300_000 > len(data)
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        assert (1280, 800) == image.size
        # Each arm has its own colour: blue and vermilion are among them.
        colours = {c for _, c in image.convert("RGB").getcolors(1 << 20) or ()}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours
    assert before == ("matplotlib.pyplot" in sys.modules)


@pytest.mark.parametrize("plot", [anytime_plot, round_plot])
@pytest.mark.parametrize("arms", [(), (arm("best_of_n", [None]),), DRAWN.arms[:1]])
def test_plots_of_little(
    plot: Callable[[Comparison], bytes], arms: tuple[ArmResult, ...]
) -> None:
    """Even of nothing, or of one arm, there is a plot."""
    assert plot(comparison(*arms, images=1)).startswith(b"\x89PNG")


def test_plots_need_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib the error says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"'socratic-agents\[lab\]'"):
        anytime_plot(DRAWN)


def test_a_plot_goes_into_the_page_whole() -> None:
    """What was drawn is what the page shows."""
    data = round_plot(replace(DRAWN, arms=DRAWN.arms[:2]))
    page = Reader(comparison_html(DRAWN, plots={"rounds": data}))
    assert data == base64.b64decode(page.addresses[0].partition(",")[2])
