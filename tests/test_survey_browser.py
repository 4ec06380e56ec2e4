"""The survey's page in a real browser: by mouse and by keys, offline, without a fault.

Left out where playwright or a browser is missing; neither is needed to install.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from socratic_agents.cli.app import main
from socratic_agents.lab.survey.design import read_key
from socratic_agents.lab.survey.server import SurveyServer
from tests.surveys import STEP, compared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here"),
    pytest.mark.slow,
]

TOTAL = 40
"""Of 34 pairs, 2 catch pairs and 4 repeats."""

COLOURS = """() => [...document.querySelectorAll('#pair img')].map(img => {
  const canvas = document.createElement('canvas');
  const sheet = canvas.getContext('2d');
  sheet.drawImage(img, 0, 0);
  return [...sheet.getImageData(2, 2, 1, 1).data];
})"""
"""What the two pictures look like to somebody who sees them."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = compared(tmp_path_factory.mktemp("browser") / "study", prompts=34)
    command = ["lab", "survey", str(folder), "--arms", "ours,theirs", "--pairs", "34"]
    assert 0 == main(command)
    assert read_key(folder / "survey.key.json").total == TOTAL
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Person:
    """Somebody who sees the page, and nothing else.

    Args:
        browser: A browser that is open.
        address: Of the page.
        options: For the browser's window.
    """

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.faults: list[str] = []
        self.requests: list[str] = []
        self._context = browser.new_context(**options)
        self.page = self._context.new_page()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda line: self.faults.append(line.text))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)

    def close(self) -> None:
        self._context.close()

    @property
    def count(self) -> str:
        return str(self.page.inner_text("#count"))

    def taste(self) -> list[str]:
        """Return left, same or right for each question: the greener, the fitting."""
        number = int(self.page.inner_text("#prompt").split()[-1])
        left, right = self.page.evaluate(COLOURS)
        greener = "left" if left[1] > right[1] else "right"
        for side, other in ((left, "right"), (right, "left")):
            if side[2] != number * STEP:  # an image of another prompt
                return [other, other, "same"]
        return [greener, greener, "same"]

    def answer_by_mouse(self) -> None:
        for question, choice in enumerate(self.taste()):
            button = self.page.locator(".choices").nth(question).get_by_role("button")
            button.filter(has_text=re.compile(choice, re.IGNORECASE)).click()
        self.page.click("#next")

    def answer_by_keys(self) -> None:
        keys = {"left": "ArrowLeft", "same": "ArrowDown", "right": "ArrowRight"}
        for choice in self.taste():
            self.page.keyboard.press(keys[choice])
        self.page.keyboard.press("Enter")


def exported(person: Person, folder: Path) -> Path:
    with person.page.expect_download() as download:
        person.page.click("#download")
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def test_by_mouse_and_by_keys(
    study: Path, browser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty pairs each way, a reload between, and the planted winner comes out."""
    person = Person(browser, (study / "survey.html").as_uri())
    person.page.click("#start")
    for _ in range(20):
        person.answer_by_mouse()
    assert f"21 of {TOTAL}" == person.count
    person.page.reload()
    assert f"21 of {TOTAL}" == person.count
    assert 20 == person.page.evaluate("document.getElementById('progress').value")
    for _ in range(20):
        person.answer_by_keys()
    assert "Thank you!" == person.page.inner_text("#done")
    file = exported(person, tmp_path)
    assert file.read_text("utf-8") == person.page.input_value("#text")
    assert [] == person.faults
    assert all(url.startswith(("file:", "data:", "blob:")) for url in person.requests)
    person.close()

    capsys.readouterr()
    command = ["lab", "survey-results", str(file), "--keep-careless", "--json"]
    assert 0 == main([*command, "--key", str(study / "survey.key.json")])
    told = json.loads(capsys.readouterr().out)
    for question in ("preference", "match"):
        said = told["questions"][question]
        assert "ours" == said["preference"]["strengths"][0]["arm"]
        assert 34 == said["standings"][0]["won"]
        judges = {judge["metric"]: judge["accuracy"] for judge in said["judges"]}
        assert {"oracle": 1.0, "clip": 0.0, "checklist": None} == judges
    assert 34 == told["questions"]["plausibility"]["standings"][0]["tied"]
    (care,) = told["people"]
    assert (2, 2, 4, 1.0) == tuple(
        care[name] for name in ("caught", "catches", "repeats", "same")
    )


def test_order_and_sides_are_each_persons_own(study: Path, browser: Any) -> None:
    """Two people see other pairs first; what comes again has its sides exchanged."""
    orders = []
    for _ in range(2):
        person = Person(browser, (study / "survey.html").as_uri())
        person.page.click("#start")
        seen: list[tuple[str, tuple[Any, ...]]] = []
        for _ in range(TOTAL):
            colours = tuple(map(tuple, person.page.evaluate(COLOURS)))
            seen.append((person.page.inner_text("#prompt"), colours))
            person.answer_by_keys()
        orders.append(seen)
        person.close()
    assert orders[0] != orders[1]
    for seen in orders:
        again = [
            place
            for place, (prompt, colours) in enumerate(seen)
            if (prompt, colours[::-1]) in seen[:place]
        ]
        assert 4 == len(again)
        assert min(again) >= 24


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1440, 900)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable(
    width: int, height: int, scheme: str, study: Path, browser: Any
) -> None:
    """No line runs out of the window, and all that one taps is large enough."""
    person = Person(
        browser,
        (study / "survey.html").as_uri(),
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        has_touch=width < 500,
    )
    page = person.page
    for step in ("start", "stop"):
        assert width >= page.evaluate("document.documentElement.scrollWidth")
        for box in page.eval_on_selector_all(
            "button",
            "all => all.filter(b => b.offsetParent).map(b => [b.offsetWidth, b.offsetHeight])",
        ):
            assert min(box) >= 44
        if folder := os.environ.get("SHOTS"):
            page.screenshot(path=f"{folder}/{width}-{scheme}-{step}.png")
        page.click(f"#{step}")
        if step == "start":
            # The whole pair is in view, without scrolling.
            assert height >= page.evaluate("document.documentElement.scrollHeight")
            page.keyboard.press("ArrowRight")
    assert width >= page.evaluate("document.documentElement.scrollWidth")
    assert [] == person.faults
    person.close()


def test_one_can_go_back_and_look_closer(study: Path, browser: Any) -> None:
    """An answer can be changed, a picture enlarged, and none of the three left out."""
    person = Person(browser, (study / "survey.html").as_uri())
    page = person.page
    page.click("#start")
    page.keyboard.press("Enter")
    assert "Please answer all three questions first." == page.inner_text("#said")
    assert f"1 of {TOTAL}" == person.count
    page.keyboard.press("Tab")
    page.click(".picture >> nth=0")
    assert page.is_visible("#zoom img")
    page.keyboard.press("ArrowLeft")  # answers nothing while a picture is enlarged
    page.keyboard.press("Escape")
    pressed = ".choices button[aria-pressed=true]"
    assert 0 == page.locator(pressed).count()
    for key in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert ["Right", "Right", "Same"] == page.locator(pressed).all_inner_texts()
    page.keyboard.press("Enter")
    assert f"2 of {TOTAL}" == person.count
    page.keyboard.press("Backspace")
    assert ["Right", "Right", "Same"] == page.locator(pressed).all_inner_texts()
    page.click("#stop")
    assert f"1 of {TOTAL} pairs" in page.inner_text("#told")
    page.click("#more")
    assert f"2 of {TOTAL}" == person.count
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#stop")
    page.click("#another")
    assert page.is_visible("#intro")
    assert [] == person.faults
    person.close()


def test_without_storage_it_still_works(
    study: Path, browser: Any, tmp_path: Path
) -> None:
    """A browser that keeps nothing is told so; the answers can be exported."""
    page = (study / "survey.html").read_text("utf-8")
    # Where a page has an opaque origin, touching the storage is an error.
    frame = tmp_path / "frame.html"
    (tmp_path / "survey.html").write_text(page, "utf-8")
    frame.write_text(
        '<iframe sandbox="allow-scripts allow-downloads" src="survey.html" '
        'width="800" height="900"></iframe>',
        "utf-8",
    )
    person = Person(browser, frame.as_uri())
    inner = person.page.frame_locator("iframe")
    assert inner.locator("#intro .forgetful").is_visible()
    inner.locator("#start").click()
    for row in range(3):
        inner.locator(".choices").nth(row).locator("button").nth(1).click()
    inner.locator("#stop").click()
    assert "1 of" in inner.locator("#told").inner_text()
    assert '"preference":"tie"' in inner.locator("#text").input_value()
    assert [] == person.faults
    person.close()


def test_answers_can_be_sent(study: Path, browser: Any, tmp_path: Path) -> None:
    """A page that is served sends the answers back; a silent server loses none."""
    key = read_key(study / "survey.key.json")
    page = (study / "survey.html").read_text("utf-8")
    with SurveyServer(page, key=key, folder=tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        person = Person(browser, server.url)
        person.page.click("#start")
        person.answer_by_keys()
        person.page.click("#stop")
        person.page.click("#send")
        # Not a function: the page lets nobody evaluate text.
        person.page.locator("#outcome", has_text="arrived").wait_for()
        sent = person.page.input_value("#text")
        server.shutdown()
        thread.join()
    (file,) = (tmp_path / "answers").iterdir()
    assert sent == file.read_text("utf-8")
    assert [] == person.faults
    assert all(url.startswith((server.url, "data:")) for url in person.requests)
    person.page.click("#send")
    person.page.locator("#outcome", has_text="could not be sent").wait_for()
    person.close()
