"""The report: complete, offline, escaped, and honest about what is missing."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    Status,
    StopReason,
    Verdict,
)
from socratic_agents.core.outcome import Failure, Receipt, Refinement, Usage
from socratic_agents.report.html import Change, notebook_html, report_html, word_changes
from socratic_agents.report.run_browser_rows import Row
from tests.strategies import refinements

EVIL = '<script>alert("x")</script>&{{ 7 * 7 }}'


def png() -> bytes:
    buffer = io.BytesIO()
    image().save(buffer, "PNG")
    return buffer.getvalue()


def image(side: int = 8) -> Image.Image:
    return Image.new("RGB", (side, side), (200, 30, 30))


def candidate(prompt: str = "a red ball", caption: str = "a circle") -> Candidate:
    return Candidate(
        prompt=prompt, seed=7, image=image(), caption=caption, scores={"clip": 0.5}
    )


def refinement(
    prompt: str = "a crimson ball",
    rewrite: str = "a red ball",
    caption: str = "a circle",
) -> Refinement:
    failed = Candidate(
        prompt=rewrite,
        seed=8,
        status=Status.NUMERICAL_FAILURE,
        error="the image is black",
        truncated_tokens=3,
    )
    better = replace(candidate(rewrite, "a red circle"), scores={"clip": 0.75})
    return Refinement(
        history=History(
            user_prompt=prompt,
            rounds=(
                Round(
                    candidates=(candidate(prompt, caption),),
                    verdict=Verdict(
                        satisfied=False, missing=("crimson",), reason="it is grey"
                    ),
                ),
                Round(
                    candidates=(failed, better),
                    verdict=Verdict(satisfied=True, reason="there it is"),
                ),
                Round(
                    candidates=(replace(better, scores={}),),
                    verdict=Verdict.unjudged("no route"),
                    error="no prompt came",
                ),
                Round(candidates=(replace(better, image=None, path="gone.png"),)),
            ),
        ),
        best_place=CandidateRef(round=1, candidate=1),
        stop=StopReason.SATISFIED,
        usage=Usage(images=4, llm_calls=1, input_tokens=10, output_tokens=3, seconds=2),
        settings={"seed": 7, "scorer": None},
        templates={"judge": {"name": "default", "sha256": "ab" * 32}, "own": "mine"},
    )


def asked(*said: YesNo | None, words: str = "a") -> Refinement:
    """Return a refinement with a checklist in which each question needs the first.

    ``said`` is what its best image answers; ``None`` stands for one that nobody asked.
    """
    checklist = Checklist(
        questions=tuple(
            Question(
                text=f"Is there {words} {place}?",
                requirement=f"{words} {place}",
                parents=(0,) if place else (),
            )
            for place in range(len(said))
        )
    )
    told = [Answer(said=one, probability=0.25) for one in said if one]
    answers = checklist.resolved(told) if told else ()
    best = replace(candidate("a red ball"), answers=answers)
    rounds = (Round(candidates=(candidate("a ball"),)), Round(candidates=(best,)))
    return replace(
        refinement(),
        history=History(user_prompt="a ball", rounds=rounds, checklist=checklist),
        best_place=CandidateRef(round=1, candidate=0),
    )


def compared(
    returned: float, alone: float, *, images: int = 5, **facts: Any
) -> Refinement:
    """Return a refinement with a receipt."""
    best = replace(candidate("a crimson ball", "a square"), seed=9)
    named = {"best_of_n": best, "metric": "oracle", "independent": True, **facts}
    receipt = Receipt(images=images, returned=returned, compared=alone, **named)
    return replace(refinement(), receipt=receipt)


def shown(*outcomes: Refinement | Failure) -> str:
    """Return what one reads on the page."""
    return squeezed(Reader(report_html(outcomes)).text)


def marks(html: str) -> list[tuple[str, str]]:
    """Return the state and the words of each mark on a page."""
    return re.findall(r'class="mark (\w+)" role="img" title="([^"]*)"', html)


PNG = png()


class Reader(HTMLParser):
    """Reads the tags, the addresses and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in {"src", "href", "srcset"}]

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += f"{data} "


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_everything_is_shown() -> None:
    """Images, captions, scores, verdicts, usage and settings are all on the page."""
    page = Reader(report_html([refinement()]))
    assert [] == page.open
    text = squeezed(page.text)
    for words in (
        "a crimson ball",
        "a red circle",
        "clip 0.750",
        "seed 8",
        "numerical failure",
        "the image is black",
        "3 tokens cut off",
        "Satisfied there it is",
        "Not yet missing: crimson it is grey",
        "Not judged no route",
        "No new prompt: no prompt came",
        "image not found",
        "4 rounds",
        "4 images",
        "1 LLM call",
        "10 + 3 tokens",
        "judge template default abababababab",
        "own template mine",
        "seed 7",
    ):
        assert words in text
    assert "scorer" not in text


def test_the_page_needs_no_network() -> None:
    """All images are inside, and every address leads to the page itself."""
    page = Reader(report_html([refinement(), refinement("two")]))
    assert [] == [a for a in page.addresses if not a.startswith(("data:image/", "#"))]
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)
    first = next(a for a in page.addresses if a.startswith("data:"))
    assert base64.b64decode(first.partition(",")[2]).startswith(b"\x89PNG")


def test_one_is_chosen() -> None:
    """The returned image is marked, once, and stands beside the first."""
    html = report_html([refinement()])
    assert 1 == html.count('class="card chosen"')
    assert "first image" in html
    assert "returned image" in html


def test_the_first_image_is_not_compared_with_itself() -> None:
    """Where the first image is returned there is nothing to set beside it."""
    kept = replace(refinement(), best_place=CandidateRef(round=0, candidate=0))
    assert "returned image" not in report_html([kept])


def test_differences_are_marked() -> None:
    """New words are inserted, lost words deleted, against the prompt before."""
    html = squeezed(report_html([refinement()]))
    assert "a <del>crimson</del> <ins>red</ins> ball" in html
    assert 2 == html.count("<del>crimson</del>")  # the failed one and the better one


def test_a_failure_is_shown() -> None:
    """A prompt that failed is told with its cause, and with what was drawn."""
    history = History(
        user_prompt="a cat", rounds=(Round(candidates=(candidate("a cat"),)),)
    )
    failure = Failure(
        user_prompt="a cat", error="no route", kind="CallError", history=history
    )
    early = Failure(
        user_prompt=" ", error="got blank text", kind="PromptError", index=1
    )
    page = Reader(report_html([failure, early]))
    text = squeezed(page.text)
    assert "Failed. no route" in text
    assert "Failed. got blank text" in text
    assert "failed 2" in text
    assert any(address.startswith("data:") for address in page.addresses)


def test_a_failed_choice_is_told() -> None:
    """Where the selector failed the page says that the incumbent was returned."""
    told = replace(refinement(), selection_error="no answer")
    assert "the incumbent was returned: no answer" in squeezed(report_html([told]))


def test_a_language_model_that_failed_is_told() -> None:
    """Page and list say why there was no more."""
    told = replace(refinement(), llm_error="no route", stop=StopReason.LLM_FAILED)
    page = squeezed(report_html([told]))
    assert "the best until then was returned: no route" in page
    assert "llm failed" in page
    both = replace(told, selection_error="no answer")
    assert (
        "the language model failed: no route; no usable choice, so the incumbent was "
        "returned: no answer"
    ) == Row.of(both).error
    assert Row.of(refinement()).error is None


def test_what_was_noticed_of_a_model_is_told() -> None:
    """An image that is not as it was asked for says so."""
    told = replace(refinement(), notices=("generator: no guidance <b>",))
    page = squeezed(report_html([told]))
    assert "Not as it was asked for: generator: no guidance &lt;b&gt;" in page


def test_images_are_read_where_they_lie() -> None:
    """An image that is only on the disk is read through its path, a lost one told."""
    asked: list[str] = []

    def read(path: str) -> bytes | None:
        asked.append(path)
        return None

    page = report_html([refinement()], read=read)
    assert ["gone.png"] == asked
    assert "image not found" in page


@pytest.mark.parametrize(
    ("data", "shown"),
    [(PNG, True), (b"GIF89a", False), (PNG[:40], False), (b"", False)],
)
def test_only_an_image_is_shown(data: bytes, *, shown: bool) -> None:
    """What is read and is no whole PNG counts as lost."""
    lost = replace(candidate(), image=None, path="objects/x.png")
    history = History(user_prompt="a", rounds=(Round(candidates=(lost,)),))
    failure = Failure(user_prompt="a", error="e", kind="K", history=history)
    page = Reader(report_html([failure], read=lambda path: data))
    assert shown == any(address.startswith("data:") for address in page.addresses)


def test_a_large_image_is_shown_smaller() -> None:
    """A large image does not make a large page."""
    history = refinement().history
    large = replace(candidate(), image=image(2048))
    shown = replace(
        refinement(),
        history=replace(history, rounds=(Round(candidates=(large,)),)),
        best_place=CandidateRef(round=0, candidate=0),
    )
    html = report_html([shown])
    assert "data:image/webp" in html
    assert 100_000 > len(html)


@pytest.mark.parametrize("show", [lambda r: report_html([r]), notebook_html])
def test_text_is_never_markup(show: object) -> None:
    """Prompts, captions, reasons and errors cannot become tags or template code."""
    assert callable(show)
    evil = refinement(EVIL, EVIL + " more", EVIL)
    evil = replace(evil, selection_error=EVIL, settings={EVIL: EVIL})
    receipt = compared(1, 0, metric=EVIL).receipt
    hostile = asked(YesNo.NO, YesNo.YES, words=EVIL)
    mute = replace(hostile.history, checklist=Checklist(error=EVIL))
    for one in (
        evil,
        replace(hostile, receipt=receipt),
        replace(hostile, history=mute),
    ):
        html = show(one)
        assert "<script" not in html
        assert "49" not in re.sub(r"base64,[^\"]*", "", html)
        assert EVIL in Reader(html).text


def test_answers_are_marked() -> None:
    """Each question has a mark, and what is not seen is told in words."""
    html = report_html([asked(YesNo.YES, YesNo.NO, YesNo.UNKNOWN)])
    expected = [
        ("passed", "1. Is there a 0? passed, P(yes) 0.25"),
        ("failed", "2. Is there a 1? failed, P(yes) 0.25"),
        ("unknown", "3. Is there a 2? unknown, P(yes) 0.25"),
    ]
    # Under the returned image, on its card, and in the table.
    assert expected * 3 == marks(html)
    text = squeezed(Reader(html).text)
    assert "✓ ✗ ? lacks: a 1 0.25 unknown: a 2 0.25" in text
    assert "Checklist: the returned image passes 1 of 3" in text
    assert '<details class="checklist" open>' in html


def test_what_hangs_on_a_failed_question_is_void() -> None:
    """Where there is no ball its colour is neither passed nor a thing to mend."""
    html = report_html([asked(YesNo.NO, YesNo.YES)])
    voided = ("void", "2. Is there a 1? counts as failed: it needs 1, P(yes) 0.25")
    assert voided == marks(html)[1]
    text = squeezed(Reader(html).text)
    assert "lacks: a 0" in text
    assert "lacks: a 1" not in text


def test_a_passed_checklist_is_folded() -> None:
    """Where all is well the table does not stand in the way."""
    html = report_html([asked(YesNo.YES, YesNo.YES)])
    assert "the returned image passes 2 of 2" in html
    assert '<details class="checklist">' in html
    assert "lacks" not in html


def test_questions_that_nobody_asked_are_told_so() -> None:
    """A checklist without answers counts nothing."""
    html = report_html([asked(None, None)])
    assert [("unasked", "1. Is there a 0? not asked")] == marks(html)[:1]
    assert "Checklist: 2 questions" in html
    assert "passes" not in html
    assert "Checklist: 1 question<" in report_html([asked(None)])


def test_an_answer_in_words_has_no_probability() -> None:
    """Nothing is made up where only text came."""
    one = asked(YesNo.NO)
    said = replace(one.best, answers=(Answer(said=YesNo.NO, passed=False),))
    rounds = (Round(candidates=(said,)),)
    place = CandidateRef(round=0, candidate=0)
    worded = replace(one, history=replace(one.history, rounds=rounds), best_place=place)
    assert "P(yes)" not in report_html([worded])


def test_a_checklist_that_does_not_fit_is_shown_as_far_as_it_does() -> None:
    """A run directory may come from somebody else: no answer, no parent is missed."""
    one = asked(YesNo.YES, YesNo.NO)
    question = Question(text="Is it odd?", requirement="odd", parents=(7, 2, -1))
    assert one.history.checklist is not None
    questions = (*one.history.checklist.questions, question)
    history = replace(one.history, checklist=Checklist(questions=questions))
    html = report_html([replace(one, history=history)])
    assert ("unasked", "3. Is it odd? not asked") == marks(html)[2]
    assert "<td>3. Is it odd?</td><td></td>" in html


def test_a_failure_shows_its_checklist() -> None:
    """What was asked before the error is told, and what each image answered."""
    one = asked(YesNo.YES, YesNo.NO)
    failure = Failure(
        user_prompt="a ball", error="no route", kind="CallError", history=one.history
    )
    html = report_html([failure])
    assert "Checklist: 2 questions" in html
    assert ["passed", "failed", "unasked", "unasked"] == [m for m, _ in marks(html)]


def test_a_missing_checklist_is_told() -> None:
    """Where nobody could write one, the page says why."""
    one = refinement()
    mute = replace(one.history, checklist=Checklist(error="no answer came"))
    assert "No checklist: no answer came" in shown(replace(one, history=mute))
    assert "hecklist" not in shown(one)


@pytest.mark.parametrize(
    ("returned", "alone", "words"),
    [
        (1.0, 0.75, "0.750, this brought 1.000 (oracle); gain +0.250 ."),
        (0.5, 0.75, "0.750, this brought 0.500 (oracle); loss -0.250 ."),
        (0.5, 0.5, "0.500, this brought 0.500 (oracle); no gain ."),
        (0.5, 0.50001, "0.500, this brought 0.500 (oracle); loss -1e-05 ."),
    ],
)
def test_a_receipt_is_honest(returned: float, alone: float, words: str) -> None:
    """A loss is called a loss, nothing is called nothing, and little is not nothing."""
    text = shown(compared(returned, alone))
    assert f"5 images of your prompt alone would have brought {words}" in text
    assert "flatters" not in text


def test_a_receipt_says_what_selected() -> None:
    """A score that took part in selecting is told."""
    text = shown(compared(1, 0, independent=False))
    assert "This score took part in choosing, so it flatters both sides." in text


def test_the_best_of_n_is_shown() -> None:
    """Its image stands beside the returned one, read where it lies."""
    text = shown(compared(1, 0))
    assert "first image returned image best of 5 of your prompt alone" in text
    lone = replace(
        compared(1, 0, images=1), best_place=CandidateRef(round=0, candidate=0)
    )
    text = shown(lone)
    assert "1 image of your prompt alone would have brought" in text
    assert "returned image your prompt alone Round 1" in text
    assert "first image" not in text

    paths: list[str] = []

    def read(path: str) -> bytes | None:
        paths.append(path)
        return PNG

    kept = replace(candidate(), image=None, path="objects/best.png")
    report_html([compared(1, 0, best_of_n=kept)], read=read)
    assert "objects/best.png" in paths


def test_receipts_are_summed_up() -> None:
    """The mean gain stands with how many there are, and how many won."""
    pairs = [(1.0, 0.5), (1.0, 0.75), (0.5, 0.5), (0.5, 0.75)]
    outcomes = [compared(*pair) for pair in pairs]
    text = shown(*outcomes)
    assert (
        "mean gain over best-of-N (oracle) +0.125 n = 4: 2 wins, 1 tie, 1 loss" in text
    )
    lost = [compared(0, 1), compared(0, 1, metric="clip"), refinement()]
    text = shown(*lost)
    for metric in ("oracle", "clip"):
        words = "-1.000 n = 1 of 3: 0 wins, 0 ties, 1 loss"
        assert f"mean gain over best-of-N ({metric}) {words}" in text
    assert "mean gain" not in shown(refinement())


def test_money_is_summed_up() -> None:
    """What is known is added, and how much of it is unknown stands beside it."""

    def paid(money: float | None) -> Refinement:
        return replace(refinement(), usage=Usage(images=1, money=money))

    assert "cost" not in shown(paid(None))
    assert "cost 0.75 " in shown(paid(0.25), paid(0.5))
    assert "cost 0.25 0.0 s" in shown(paid(0.25))
    assert "cost, 1 of 2 0.25 " in shown(paid(0.25), paid(None))
    assert "cost 0 " in shown(paid(0.0))


def test_a_notebook_shows_a_refinement() -> None:
    """A refinement shows itself as a piece of a page, with its own style only."""
    html = refinement()._repr_html_()
    page = Reader(html)
    assert [] == page.open
    assert "body" not in page.tags
    style = html.partition("<style>")[2].partition("</style>")[0]
    rules = re.findall(r"(?m)^([^@\n{}]+)\{", style)
    assert [] == [rule for rule in rules if ".socratic" not in rule]


def test_word_changes() -> None:
    """Same, deleted and inserted words come in the order in which they are read."""
    expected = (
        Change("same", "a"),
        Change("del", "crimson"),
        Change("ins", "bright red"),
        Change("same", "ball"),
        Change("ins", "on black"),
    )
    assert expected == word_changes("a crimson ball", "a bright red ball on black")


def test_long_prompts_are_compared_as_a_whole() -> None:
    """Nobody waits for a comparison of thousands of words."""
    old, new = " ".join(["a"] * 600), " ".join(["b"] * 600)
    assert (Change("del", old), Change("ins", new)) == word_changes(old, new)
    assert (Change("same", old),) == word_changes(old, old)


@given(st.text(), st.text())
def test_changes_lead_from_old_to_new(old: str, new: str) -> None:
    """Without the inserted words it is the old prompt, without the deleted the new."""
    changes = word_changes(old, new)
    kept = " ".join(c.words for c in changes if c.kind != "ins")
    made = " ".join(c.words for c in changes if c.kind != "del")
    assert (" ".join(old.split()), " ".join(new.split())) == (kept, made)


@given(st.text(), st.text())
def test_any_text_can_be_shown(prompt: str, caption: str) -> None:
    """No text breaks the page."""
    page = Reader(report_html([refinement(prompt, prompt, caption)]))
    assert [] == page.open


@settings(max_examples=50)
@given(refinements())
def test_any_refinement_can_be_shown(one: Refinement) -> None:
    """Whatever was asked, answered and compared: the page is whole."""
    page = Reader(report_html([one]))
    assert [] == page.open
