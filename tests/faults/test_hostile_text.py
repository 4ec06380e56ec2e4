"""Untrusted text stays text: 60 texts from 3 sources into 4 sinks, 720 cases.

* A language model is sent as many messages of the same roles as ever, the text stands
  verbatim in its block, and no block begins or ends in it.
* A page has no element, attribute or address that it has not with harmless text.
* A terminal gets nothing but characters that can be seen.
* JSON, a run directory and an image's provenance give the text back as it was.
"""

from __future__ import annotations

import csv
import io
import json
import re
import time
import unicodedata
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from rich.console import Console

from socratic_agents.agents.judges import caption_judge
from socratic_agents.cli.app import main
from socratic_agents.cli.progress import Progress
from socratic_agents.config.settings import Settings
from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.errors import PromptError
from socratic_agents.core.history import (
    Candidate,
    CandidateRef,
    History,
    Round,
    Status,
    StopReason,
    Verdict,
)
from socratic_agents.core.loop import Event, EventKind
from socratic_agents.core.outcome import Failure, Refinement, Usage
from socratic_agents.core.prompts import sanitize_for_terminal, validate_prompt
from socratic_agents.lab.compare.page import comparison_html
from socratic_agents.lab.compare.result import (
    ArmResult,
    Comparison,
    Trial,
    trials_jsonl,
)
from socratic_agents.lab.compare.tables import print_table
from socratic_agents.lab.table import Table
from socratic_agents.llm.template_files import find_template
from socratic_agents.report.html import notebook_html, report_html, word_changes
from socratic_agents.storage.provenance import (
    encode_png,
    provenance_of,
    read_provenance,
)
from socratic_agents.storage.results import read_outcomes
from socratic_agents.storage.run_directory import RunDirectory
from tests.fakes import TextModel, drawn, history
from tests.faults.corpus import HOSTILE

if TYPE_CHECKING:
    from socratic_agents.llm.templates import Template

pytestmark = pytest.mark.no_cover  # it repeats what other tests measure

SOURCES = ("prompt", "caption", "answer")
HARMLESS = "a cat and a dog"
ROOT = Path(__file__).parents[2]
PICTURE = Image.new("RGB", (8, 8), (200, 30, 30))
SHIPPED = [
    (path.parent.name, path.stem) for path in sorted((ROOT / "prompts").rglob("*.yaml"))
]

MARKER = "the-marked-thing"
"""Harmless, and nowhere else."""

each_source = pytest.mark.parametrize("source", SOURCES)
each_text = pytest.mark.parametrize("name", HOSTILE)


def refinement(source: str, text: str) -> Refinement:
    """Return a refinement into which a source has put a text wherever it can."""
    prompt, caption, answer = (text if source == s else HARMLESS for s in SOURCES)
    question = Question(text=answer, requirement=answer, instead=answer)
    told = (Answer(said=YesNo.NO, passed=False),)
    first = Candidate(
        prompt=prompt, seed=1, caption=caption, image=PICTURE, answers=told
    )
    failed = Candidate(
        prompt=answer, seed=2, status=Status.GENERATION_FAILED, error=answer
    )
    better = Candidate(prompt=answer, seed=3, caption=caption, image=PICTURE)
    verdict = Verdict(satisfied=False, missing=(answer,), reason=answer)
    return Refinement(
        history=History(
            user_prompt=prompt,
            checklist=Checklist(questions=(question,), error=answer),
            rounds=(
                Round(candidates=(first,), verdict=verdict),
                Round(candidates=(failed, better), verdict=verdict, error=answer),
            ),
        ),
        best_place=CandidateRef(round=1, candidate=1),
        stop=StopReason.ROUNDS_SPENT,
        usage=Usage(images=3, llm_calls=4),
        selection_error=answer,
        settings={"judge": answer, "seed": 7},
        templates={"judge": {"name": "default", "sha256": "0" * 64}},
    )


def offer(source: str, text: str) -> dict[str, Any]:
    """Return what the roles' templates are filled with."""
    prompt, caption, answer = (text if source == s else HARMLESS for s in SOURCES)
    attempt = {
        "prompt": answer,
        "caption": caption,
        "score": "0.5",
        "guidance": "",
        "passed": answer,
        "failed": answer,
    }
    return {
        "user_prompt": prompt,
        "incumbent": attempt,
        "image": "the image below",
        "missing": [answer],
        "history": [attempt, attempt],
        "examples": [{"user_prompt": prompt, "caption": caption, "prompt": answer}],
        "number_of_prompts": "2",
        "max_words": "30",
        "guidance_grid": "3, 5",
        "candidates": [{"number": "1", "prompt": answer, "caption": caption}],
        "first": "A",
        "second": "B",
        "questions": [{"number": "1", "question": answer}],
        "requirements": [answer],
        "prompts": [{"number": "1", "prompt": answer}],
    }


def marks(text: str, names: set[str]) -> list[str]:
    """Return what opens or closes a block, however it is spelt."""
    found = re.findall(rf"<[\s/]*(?:{'|'.join(names)})\b", text, re.IGNORECASE)
    return [re.sub(r"\s", "", mark).lower() for mark in found]


@cache
def shipped(role: str, name: str) -> Template:
    return find_template(role, name)


def written(role: str, name: str, source: str, text: str) -> tuple[list[str], str]:
    """Return who speaks in a template's messages, and all their words."""
    messages = shipped(role, name).filled(offer(source, text))
    assert all(isinstance(message.content, str) for message in messages)
    words = "\n".join(str(message.content) for message in messages)
    return [message.type for message in messages], words


harmless = cache(written)


@each_source
@each_text
def test_a_language_model_reads_it_as_data(source: str, name: str) -> None:
    """The template says who speaks and where a block ends; the text says neither."""
    text, places = HOSTILE[name], 0
    for role, template in SHIPPED:
        roles, words = written(role, template, source, text)
        expected_roles, expected = harmless(role, template, source, MARKER)
        assert expected_roles == roles
        literals = "".join(text for _, text in shipped(role, template).messages)
        blocks = set(re.findall(r"</?(\w+)>", literals))
        assert marks(expected, blocks) == marks(words, blocks)
        # A block's own mark is written with another bracket; all else is verbatim.
        verbatim = words.replace("\u2039", "<") if marks(text, blocks) else words
        places += expected.count(MARKER)
        assert expected.count(MARKER) <= verbatim.count(text)
    assert places


@each_text
async def test_a_wrong_answer_is_shown_as_the_models_own(name: str) -> None:
    """What a model wrote comes back to it as its own message, and gives no orders."""
    text = HOSTILE[name]
    good = {"reason": "so", "missing": ["a hat"], "satisfied": False}
    llm = TextModel(script=[text, good])
    judge = caption_judge(llm, shipped("judge", "default"))
    verdict = await judge(history(HARMLESS, drawn(HARMLESS, HARMLESS)))
    assert verdict.judged
    asked = llm.asked[-1]
    if name == "verdict":  # it is a good answer to what was asked
        assert ["system", "human"] == [message.type for message in asked]
        return
    assert ("a hat",) == verdict.missing
    assert ["system", "human", "ai", "human"] == [message.type for message in asked]
    assert text[:4_000] == asked[2].content


class Reader(HTMLParser):
    """Reads a page as a browser would: its elements, their attributes, its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[tuple[str, str]] = set()
        self.addresses: set[str] = set()
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements |= {(tag, name) for name, _ in attrs} | {(tag, "")}
        told = {name: value or "" for name, value in attrs}
        self.addresses |= {told[n] for n in ("src", "href", "action") if n in told}
        self.words.append(told.get("alt", ""))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        self.elements.add(("comment", ""))

    def handle_pi(self, data: str) -> None:
        self.elements.add(("instruction", ""))

    def unknown_decl(self, data: str) -> None:
        self.elements.add(("declaration", ""))


def comparison(source: str, text: str) -> Comparison:
    """Return a comparison that tells a text wherever it can."""
    prompt, cause, arm = (text if source == s else HARMLESS for s in SOURCES)
    good = Trial(index=0, user_prompt=prompt, reported=0.5, images=1)
    bad = Trial(index=1, user_prompt=prompt, reported=None, excluded=cause)
    return Comparison(
        metric="oracle",
        images=1,
        against="best_of_n",
        arms=(
            ArmResult(name="best_of_n", trials=(good, bad)),
            ArmResult(name=f"own {arm[:200]}", trials=(good, bad)),
        ),
        settings={"judge": arm},
        command=arm,
    )


def pages(source: str, text: str) -> list[str]:
    """Return everything that is shown in a browser, as it comes from the disk."""
    one = refinement(source, text)
    failure = Failure(
        user_prompt=one.user_prompt,
        error=text,
        kind="CallError",
        history=one.history,
        index=1,
    )
    shown = [
        report_html([one, failure]),
        notebook_html(one),
        comparison_html(comparison(source, text), plots={}),
    ]
    return [page.encode("utf-8", "replace").decode() for page in shown]


@cache
def harmless_pages() -> list[Reader]:
    return [Reader(page) for page in pages("prompt", MARKER)]


def squeezed(text: str) -> str:
    return "".join(text.encode("utf-8", "replace").decode().split())


@each_source
@each_text
def test_a_page_shows_it_as_text(source: str, name: str) -> None:
    """No element, attribute or address comes into a page with a text."""
    text = HOSTILE[name]
    for page, expected in zip(pages(source, text), harmless_pages(), strict=True):
        found = Reader(page)
        changed = {("ins", ""), ("del", "")}  # words that the optimizer changed
        assert found.elements <= expected.elements | changed
        assert {n for _, n in found.elements if n.startswith("on")} == set()
        assert {"script", "iframe", "base"}.isdisjoint(t for t, _ in found.elements)
        for address in found.addresses:
            assert address.startswith(("#prompt-", "data:image/"))
        assert squeezed(text) in squeezed("".join(found.words))


def steering(text: str) -> list[str]:
    """Return what is neither to be seen nor the end of a line."""
    return [c for c in text if not c.isprintable() and c != "\n"]


LIVE = re.compile("\x1b\\[(?:\\?25[lh]|1A|2K|[0-9;]*m)|\r")
"""How a live display of our own hides the cursor, goes up a line and colours."""


@each_source
@each_text
def test_a_terminal_is_not_steered(source: str, name: str) -> None:
    """Nothing but characters that can be seen comes to a terminal."""
    text, plain, live = HOSTILE[name], io.StringIO(), io.StringIO()
    one = refinement(source, text)
    failure = Failure(user_prompt=one.user_prompt, error=text, kind="CallError")
    for file, terminal in ((plain, False), (live, True)):
        console = Console(file=file, force_terminal=terminal, width=80, soft_wrap=True)
        progress = Progress(total=2, done=0, images=2, console=console)
        progress.observe(0, Event(EventKind.DRAWN, one.history))
        progress.observe(1, Event(EventKind.JUDGED, one.history))
        console.print(progress._bars)  # one frame of what would be live
        progress.finish(one)
        progress.finish(failure)
    print_table(comparison(source, text), plain)
    assert [] == steering(plain.getvalue())
    assert {*LIVE.findall(harmless_frame())} >= {*LIVE.findall(live.getvalue())}
    assert [] == steering(LIVE.sub("", live.getvalue()))


@each_text
def test_a_command_line_does_not_steer_its_terminal(
    name: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What is not understood is repeated in one line that can be seen."""
    text = HOSTILE[name].replace("\0", "")[:1_000]
    path = tmp_path / "image.png"
    told = provenance_of(Settings(), {}, prompt=HOSTILE[name], seed=1)
    path.write_bytes(encode_png(PICTURE, told))
    assert (0 if told else 2) == main(["show", str(path)])
    template = f"--optimizer-template=x{text}"
    for words in (["report", f"x{text}"], ["refine", "a cat", template], [f"x{text}"]):
        assert 2 == main(words)
    shown = capfd.readouterr()
    assert [] == steering(shown.out + shown.err)
    assert (3 if told else 4) == len(shown.err.splitlines())


@cache
def harmless_frame() -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, soft_wrap=True)
    one = refinement("prompt", MARKER)
    progress = Progress(total=2, done=0, images=2, console=console)
    progress.observe(0, Event(EventKind.DRAWN, one.history))
    console.print(progress._bars)
    return file.getvalue()


@each_source
@each_text
def test_files_give_it_back(source: str, name: str, tmp_path: Path) -> None:
    """JSON, a run directory and an image hold the very text, and each line is one."""
    text = HOSTILE[name]
    one = refinement(source, text)
    line = json.dumps(one.to_json(), allow_nan=False)
    assert line.isascii()
    assert line.isprintable()
    assert one.to_json() == Refinement.from_json(json.loads(line)).to_json()
    with RunDirectory(tmp_path, settings={"judge": text}) as run:
        saved = run.save(one)
    (back,) = list(read_outcomes(tmp_path))
    assert isinstance(back, Refinement)
    assert saved.to_json()["rounds"] == back.to_json()["rounds"]
    first, verdict = back.rounds[0].candidates[0], back.rounds[0].verdict
    assert verdict is not None
    assert text in {back.user_prompt, first.caption, verdict.reason}
    lines = list(trials_jsonl(comparison(source, text)))
    trials = [json.loads(line.encode()) for line in lines]
    assert [[line] for line in lines] == [line.splitlines() for line in lines]
    told = {"prompt": "user_prompt", "caption": "excluded", "answer": "arm"}[source]
    assert text[:200] in trials[-1][told]
    made_of = provenance_of(Settings(), {}, prompt=text, seed=1)
    if made_of is None:
        assert name in {"long", "long word", "surrogates"}
    else:
        assert text == read_provenance(encode_png(PICTURE, made_of)).prompt


def test_one_place_writes_tables_for_spreadsheets() -> None:
    """The cells of another one would have to be tested as well."""
    writers = [
        path.stem
        for path in (ROOT / "socratic_agents").rglob("*.py")
        if re.search(r"csv\.(writer|DictWriter)|to_csv", path.read_text("utf-8"))
    ]
    assert ["table"] == writers


@each_text
def test_no_cell_of_a_table_is_a_formula(name: str) -> None:
    """It is the text, behind a quotation mark where a spreadsheet would work it out."""
    text = HOSTILE[name]
    table = Table(name="arms", title="Arms", note="", columns=("arm",), rows=((text,),))
    written = io.StringIO(table.as_csv().decode("utf-8"), newline="")
    _, (cell,) = csv.reader(written)
    assert cell[0] not in "=+-@\t\r\n"
    assert cell.removeprefix("'") == (
        text.encode("utf-8", "replace").decode("utf-8").removeprefix("'")
    )


@each_text
def test_a_user_prompt_is_text_to_draw(name: str) -> None:
    """What is no text to draw is refused at the door; the rest is taken as it is."""
    text = HOSTILE[name]
    wrong = len(text) > 10_000 or any(
        unicodedata.category(c) in {"Cc", "Cs"} and c not in "\t\n\r" for c in text
    )
    if wrong:
        with pytest.raises(PromptError) as problem:
            validate_prompt(text)
        assert [] == steering(str(problem.value))
    else:
        assert text.strip() == validate_prompt(text)
    assert [] == steering(sanitize_for_terminal(text))


def test_long_prompts_do_not_hold_up_a_report() -> None:
    """Comparing the words of two long prompts takes no time to speak of."""
    start = time.process_time()
    old, new = "a cat " * 1_600, "a dog " * 1_600
    kinds = [change.kind for change in word_changes(old, new)]
    assert ["same"] == [change.kind for change in word_changes(old, old)]
    assert ["del", "ins"] == kinds
    assert time.process_time() - start < 1
