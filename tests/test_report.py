"""The report: complete, offline, escaped, and honest about what is missing."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.history import (
    Candidate,
    Failure,
    History,
    Place,
    Refinement,
    Round,
    Status,
    StopReason,
    Usage,
    Verdict,
)
from socratic_agents.report import Change, notebook_html, report_html, word_changes

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
        best_place=Place(round=1, candidate=1),
        stop=StopReason.SATISFIED,
        usage=Usage(images=4, llm_calls=1, input_tokens=10, output_tokens=3, seconds=2),
        settings={"seed": 7, "scorer": None},
        templates={"judge": {"name": "default", "sha256": "ab" * 32}, "own": "mine"},
    )


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
    kept = replace(refinement(), best_place=Place(round=0, candidate=0))
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
        best_place=Place(round=0, candidate=0),
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
    html = show(evil)
    assert "<script" not in html
    assert "49" not in re.sub(r"base64,[^\"]*", "", html)
    assert EVIL in Reader(html).text


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
