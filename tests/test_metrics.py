"""Metrics: published formulas, records that keep scores apart, and no false zeros."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from socratic_agents.config.settings import Settings
from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.errors import (
    BatchError,
    CandidateError,
    ClosedError,
    ConfigurationError,
)
from socratic_agents.core.history import Candidate, History, Round, Status
from socratic_agents.lab.datasets.types import PromptRow, RowQuestion
from socratic_agents.lab.metrics.clip_encoder import ClipEncoder, EmbeddedText
from socratic_agents.lab.metrics.evaluate import evaluate
from socratic_agents.lab.metrics.metric import Measure, Metric, Need
from socratic_agents.lab.metrics.models import MetricModels
from socratic_agents.lab.metrics.open import open_metric, open_metrics
from socratic_agents.lab.metrics.registry import (
    METRICS,
    find_metrics,
    metrics_that_select,
)
from socratic_agents.lab.metrics.scores import Subject, Value
from socratic_agents.scheduler.worker import Worker
from tests import tiny_models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from socratic_agents.lab.metrics.scores import Scores

REAL = {"generator": "org/model", "captioner": "org/captioner"}


class GoldenClip:
    """Embeds what it is given by a table, and remembers how often it was asked."""

    def __init__(self, texts: dict[str, Sequence[float]]) -> None:
        self.texts, self.looked = texts, list[int]()
        self.record = {"model": "golden", "pretrained": "table"}

    def embed_images(self, images: Sequence[Image.Image]) -> list[NDArray[Any]]:
        self.looked.append(len(images))
        return [np.array(image.getpixel((0, 0)), float) for image in images]

    def embed_texts(self, texts: Sequence[str]) -> list[EmbeddedText]:
        return [
            EmbeddedText(vector=np.array(self.texts[text], float), cut=len(text) > 40)
            for text in texts
        ]


class Eyes:
    """Answers questions by a table; what is no answer is raised."""

    def __init__(self, **said: Any) -> None:
        self.said, self.asked = said, list[str]()

    async def __call__(self, image: Image.Image, question: str) -> Answer:
        self.asked.append(question)
        found = self.said.get(question.strip("?").split()[-1], YesNo.NO)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, float):
            return Answer(said=YesNo.YES, probability=found)
        return Answer(said=found)


def flat(*colour: int, size: int = 8) -> Image.Image:
    """Return an image of one colour; the golden model takes it for its vector."""
    red, green, blue = colour
    return Image.new("RGB", (size, size), (red, green, blue))


def subject(text: str = "a cat", *colour: int, **facts: Any) -> Subject:
    candidate = {
        "prompt": "rewritten",
        "seed": 1,
        "image": flat(*(colour or (1, 0, 0))),
    }
    own = {name: facts.pop(name) for name in [*facts] if name not in {"row", "history"}}
    return Subject(
        user_prompt=text,
        candidate=Candidate(**{**candidate, **own}),
        **facts,
    )


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    async with Worker() as opened:
        yield opened


def models(worker: Worker, clip: Any = None, **facts: Any) -> MetricModels:
    settings = Settings(**facts.pop("settings", REAL))
    load = None if clip is None else lambda _name, **_options: clip
    return MetricModels(settings=settings, worker=worker, load_clip=load, **facts)


def opened(name: str, opener: MetricModels) -> Metric:
    (metric,) = open_metrics(find_metrics([name], opener.settings), opener)
    return metric


async def scores_of(
    name: str, opener: MetricModels, *subjects: Subject, **options: Any
) -> Scores:
    """Return what one metric says of subjects."""
    return (await evaluate([opened(name, opener)], subjects, **options))[name]


def reference_clipscore(text: NDArray[Any], image: NDArray[Any]) -> float:
    """Return the published formula, written out: unit vectors, then 2.5 max(cos, 0)."""
    text, image = text / np.sqrt((text**2).sum()), image / np.sqrt((image**2).sum())
    return float(2.5 * np.clip((text * image).sum(), 0, None))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("clipscore", "A photo depicts "), ("clipscore_openclip", "")],
)
async def test_clipscore_is_the_reference_formula(
    worker: Worker, name: str, prefix: str
) -> None:
    """On golden vectors it is the published formula to 1e-6, with its own prefix."""
    vectors = {"a": (3, 4, 0), "b": (1, 2, 2), "c": (-5, -1, -1), "d": (0, 1, 0)}
    clip = GoldenClip({prefix + text: vector for text, vector in vectors.items()})
    colours = [(4, 3, 0), (2, 1, 2), (9, 9, 9), (7, 0, 0)]
    subjects = [subject(t, *c) for t, c in zip(vectors, colours, strict=True)]

    found = await scores_of(name, models(worker, clip), *subjects)

    expected = [
        reference_clipscore(np.array(vector, float), np.array(colour, float))
        for vector, colour in zip(vectors.values(), colours, strict=True)
    ]
    assert expected[:2] == pytest.approx([2.5 * 24 / 25, 2.5 * 8 / 9])
    assert np.abs(np.array(expected) - found.known).max() <= 1e-6
    assert (prefix, 2.5) == (found.record["prefix"], found.record["w"])


async def test_clipscore_with_real_weights(worker: Worker, tmp_path: Path) -> None:
    """Through a real, tiny model it is what the scorer of the loop says."""
    folder = str(tiny_models.tiny_clip(tmp_path / "clip"))
    opener = MetricModels(
        settings=Settings(**REAL),
        worker=worker,
        load_clip=lambda _name, **options: ClipEncoder.load(folder, **options),
    )
    long = "a cat " * 60
    subjects = [subject("a cat", 9, 1, 1), subject("a dog", 1, 9, 200), subject(long)]

    found = await scores_of("clipscore", opener, *subjects)

    plain = ClipEncoder.load(folder, device="cpu")
    pairs = [(one.user_prompt, one.image) for one in subjects]
    assert pytest.approx(plain.score(pairs), abs=1e-5) == list(found.known)
    assert plain.record["pretrained"] == found.record["pretrained"]
    assert {"the end of a long prompt was not read": 1} == found.notes
    assert [] == plain.embed_images([]) == plain.embed_texts([])


async def test_the_pocket_model_has_a_record_of_its_own(worker: Worker) -> None:
    """It is never called CLIPScore, and its words are counted by its own tokenizer."""
    opener = MetricModels(settings=Settings(), worker=worker)
    found = await scores_of(
        "clipscore_pocket",
        opener,
        subject("a red circle"),
        subject("a red circle above " * 9),
    )

    assert "pocket" == found.record["model"]
    assert found.record["pretrained"].startswith("sha256:")
    assert [None, "the end of a long prompt was not read"] == [
        value.note for value in found.values
    ]


async def test_an_image_is_embedded_once(worker: Worker) -> None:
    """However many metrics and rounds look at an image, the model sees it once."""
    clip = GoldenClip(
        {
            "A photo depicts a cat": (1, 0, 0),
            "Good photo.": (1, 0, 0),
            "Bad photo.": (0, 1, 0),
        }
    )
    opener = models(worker, clip)
    one = subject("a cat", 2, 0, 0)
    metrics = open_metrics(
        find_metrics(["clipscore", "quality"], opener.settings), opener
    )

    first = await evaluate(metrics, [one, one])
    again = await evaluate(metrics, [one])

    assert 1 == sum(clip.looked)
    assert 2.5 == pytest.approx(first["clipscore"].known[0])
    assert 1.0 == pytest.approx(again["quality"].known[0])
    voice = opener.clip("ViT-B-32-quickgelu/openai")
    kept = len(voice._images_seen)
    await worker.call(lambda: None)  # its thread has let go of the last batch
    del one
    gc.collect()
    assert kept - 1 == len(voice._images_seen)


async def test_what_failed_is_asked_again(worker: Worker) -> None:
    """A text that could not be read once is not remembered as unreadable."""
    clip = GoldenClip({})
    opener, one = models(worker, clip), subject("a cat", 2, 0, 0)

    before = await scores_of("clipscore", opener, one)
    clip.texts["A photo depicts a cat"] = (1, 0, 0)
    after = await scores_of("clipscore", opener, one)

    assert {"KeyError: 'A photo depicts a cat'": 1} == before.causes
    assert (2.5,) == pytest.approx(after.known)


async def test_quality_sets_two_texts_against_each_other(worker: Worker) -> None:
    """Half is neither; the record names the texts, so that it is no CLIP-IQA."""
    clip = GoldenClip({"Good photo.": (1, 0, 0), "Bad photo.": (0, 1, 0)})
    found = await scores_of(
        "quality",
        models(worker, clip),
        subject("", 5, 5, 0),
        subject("", 0, 5, 0),
        subject("", 100, 99, 0),
    )

    ahead = 100 * (1 / math.sqrt(100**2 + 99**2))
    expected = [0.5, 1 / (1 + math.exp(100)), 1 / (1 + math.exp(-ahead))]
    assert expected == pytest.approx(found.known)
    assert ["Good photo.", "Bad photo."] == found.record["texts"]


async def test_image_similarity_looks_at_the_reference(
    worker: Worker, tmp_path: Path
) -> None:
    """A reference is a file, or an address whose image lies in a folder."""
    flat(0, 3, 0).save(tmp_path / "photo.png")
    rows = [
        PromptRow(id="1", text="x", reference=str(tmp_path / "photo.png")),
        PromptRow(id="2", text="x", reference="https://example.org/a/photo.png?size=1"),
        PromptRow(id="3", text="x", reference="https://example.org/a/other.png"),
        PromptRow(id="4", text="x"),
        None,
    ]
    subjects = [subject("x", 3, 3, 0, row=row) for row in rows]
    clip = GoldenClip({})

    alone = await scores_of("image_similarity", models(worker, clip), *subjects)
    found = await scores_of(
        "image_similarity", models(worker, clip, references=tmp_path), *subjects
    )

    half = math.sqrt(0.5)
    assert [half, None, None, None, None] == pytest.approx(
        [value.value for value in alone.values]
    )
    assert "put the images into a folder" in str(alone.values[1].reason)
    assert (half, half) == pytest.approx(found.known)
    assert str(found.values[2].reason).startswith("FileNotFoundError")
    assert 2 == found.causes["no reference image in its row"]


def rounds(*colours: Sequence[tuple[int, int, int] | None], **facts: Any) -> History:
    """Return a history whose rounds have images of these colours."""
    return History(
        user_prompt="x",
        rounds=tuple(
            Round(
                candidates=tuple(
                    Candidate(
                        prompt="x",
                        seed=1,
                        image=None if c is None else flat(*c),
                        path=None if c is None else "-".join(map(str, c)),
                    )
                    for c in round_
                )
            )
            for round_ in colours
        ),
        **facts,
    )


async def test_diversity_is_between_rounds(worker: Worker) -> None:
    """Images of one round are not compared, and a lost one is told of."""
    red, green, both = (9, 0, 0), (0, 9, 0), (9, 9, 0)
    found = await scores_of(
        "diversity",
        models(worker, GoldenClip({})),
        subject("x", history=rounds([red, green], [red])),
        subject("x", history=rounds([red], [both], [None])),
        subject("x", history=rounds([red, green])),
        subject("x", history=rounds([red], [None])),
        subject("x"),
    )

    expected = [0.5, 1 - math.sqrt(0.5), None, None, None]
    assert expected == pytest.approx([value.value for value in found.values])
    assert {"1 of its images are not there": 1} == found.notes
    assert found.higher_is_better is None


def row(*questions: tuple[str, tuple[int, ...]]) -> PromptRow:
    asked = tuple(
        RowQuestion(id=str(n), text=text, parents=parents)
        for n, (text, parents) in enumerate(questions)
    )
    return PromptRow(id="1", text="x", questions=asked)


async def test_dsg_fails_the_children_of_who_fails(worker: Worker) -> None:
    """A question whose parent fails counts as no, and an unknown one as nothing."""
    eyes = Eyes(cat=YesNo.YES, dog=YesNo.NO, brown=YesNo.YES, fog=YesNo.UNKNOWN)
    found = await scores_of(
        "dsg",
        models(worker, decide=eyes),
        subject(row=row(("Is there a cat?", ()), ("Is it brown?", (0,)))),
        subject(row=row(("Is there a dog?", ()), ("Is it brown?", (0,)))),
        subject(row=row(("Is there a cat?", ()), ("Is it in fog?", (0,)))),
        subject(row=row(("Is it in fog?", ()))),
        subject(row=row()),
    )

    assert [1.0, 0.0, 1.0, None, None] == [value.value for value in found.values]
    assert {"some of its questions were not answered": 1} == found.notes
    assert {
        "none of its questions was answered by yes or no": 1,
        "no questions in its row": 1,
    } == found.causes
    assert "main" == found.record["revision"]


async def test_the_checklist_is_the_loops(worker: Worker) -> None:
    """It asks what the loop asked, of images that the loop did not ask about too."""
    questions = (
        Question(text="Is there a cat?", requirement="cat"),
        Question(text="Is there a dog?", requirement="dog"),
    )
    asked = History(user_prompt="x", checklist=Checklist(questions=questions))
    empty = History(user_prompt="x", checklist=Checklist(error="the model was mute"))
    found = await scores_of(
        "checklist",
        models(worker, decide=Eyes(cat=YesNo.YES)),
        subject(history=asked),
        subject(history=empty),
        subject(history=History(user_prompt="x")),
        subject(),
    )

    assert [0.5, None, None, None] == [value.value for value in found.values]
    assert {
        "no checklist (none written)": 2,
        "no checklist (the model was mute)": 1,
    } == (found.causes)


async def test_p_yes_is_no_guess(worker: Worker) -> None:
    """A probability is the value; a word without one, or a failure, is none."""
    eyes = Eyes(
        **{'"cat"': 0.75, '"dog"': YesNo.YES},
        **{'"cow"': CandidateError(Status.OK, "the captioner broke")},
    )
    found = await scores_of(
        "p_yes",
        models(worker, decide=eyes),
        *(subject(text) for text in ("cat", "dog", "cow", " ")),
    )

    assert [0.75, None, None, None] == [value.value for value in found.values]
    assert {
        "the captioner gave no probability of yes",
        "the captioner broke",
        "no user prompt",
    } == set(found.causes)
    assert 'Does this image show "cat"?' in eyes.asked


async def test_the_captioner_is_opened_once(worker: Worker, tmp_path: Path) -> None:
    """A folder's weights are in the record, and all its questions share batches."""
    folder = tiny_models.tiny_blip2(tmp_path / "blip", words=("yes", "no", "cat"))
    opener = models(worker, settings={**REAL, "captioner": str(folder)})
    metrics = open_metrics(find_metrics(["p_yes", "dsg"], opener.settings), opener)
    asked = [subject(row=row(("Is there a cat?", ()))) for _ in range(2)]

    found = await evaluate(metrics, asked)

    assert found["p_yes"].record["revision"].startswith("sha256:")
    assert found["p_yes"].record["revision"] == found["dsg"].record["revision"]
    assert {"metric looks"} == set(worker.statistics().stages)
    assert 4 == worker.statistics().stages["metric looks"].items


async def test_the_pocket_captioner_answers(worker: Worker) -> None:
    """In the pocket world the row's questions are answered by our own weights."""
    from socratic_agents.pocket import Scene, SceneObject, render

    scene = Scene((SceneObject("circle", "red", "large", 32, 32),), "white")
    opener = MetricModels(settings=Settings(), worker=worker)
    asked = row(("Is there a circle?", ()), ("Is there a triangle?", ()))
    found = await scores_of("dsg", opener, subject(image=render(scene), row=asked))

    assert (0.5,) == found.known


async def test_a_captioner_that_only_captions_is_refused(worker: Worker) -> None:
    """One of one's own must answer by yes or no, and then has no weights to name."""

    def only(_image: Image.Image) -> str:
        return "a thing"

    def decide(questions: list[tuple[Image.Image, str]]) -> list[Answer]:
        return [Answer(said=YesNo.YES) for _ in questions]

    with pytest.raises(ConfigurationError, match="answers by yes or no"):
        opened("dsg", models(worker, settings={**REAL, "captioner": only}))
    eyes = SimpleNamespace(caption=only, decide=decide)
    opener = models(worker, settings={**REAL, "captioner": eyes})
    found = await scores_of("dsg", opener, subject(row=row(("Is it so?", ()))))
    assert (1.0,) == found.known
    assert "revision" not in found.record


async def test_the_caption_is_held_against_the_prompt(worker: Worker) -> None:
    """The same words are 1, none of them 0; sacrebleu's signature is the record."""
    pytest.importorskip("sacrebleu")
    found = await scores_of(
        "caption_similarity",
        models(worker),
        subject("a red cat", caption="a red cat"),
        subject("a red cat", caption="two red cats"),
        subject("a red cat", caption="zzz", image=None),
        subject("a red cat", caption=" "),
    )

    same, near, far = found.known
    assert 1.0 == pytest.approx(same)
    assert 0.3 < near < 1
    assert 0.0 == far
    assert {"no caption (ok)": 1} == found.causes
    assert "nc:6" in found.record["signature"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sacrebleu the metric says what to install."""
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.chrf", None)
    with pytest.raises(ConfigurationError, match=r"install 'socratic-agents\[lab\]'"):
        opened("caption_similarity", models(Worker()))


async def test_pixels_have_contrast_and_edges(worker: Worker) -> None:
    """A flat image has neither; a board of black and white has all there is."""
    board = Image.fromarray(np.indices((8, 8)).sum(axis=0).astype(np.uint8) % 2 * 255)
    subjects = [subject(image=flat(5, 5, 5)), subject(image=board)]
    kinds = find_metrics(["sharpness", "contrast"], Settings(**REAL))

    found = await evaluate(open_metrics(kinds, models(worker)), subjects)

    assert (0.0, 0.5) == pytest.approx(found["contrast"].known)
    assert 0.0 == found["sharpness"].known[0]
    assert found["sharpness"].known[1] > 100_000


async def test_the_oracle_has_its_own_words(worker: Worker) -> None:
    """A prompt outside of the pocket world is excluded, and its neighbours are not."""
    from socratic_agents.pocket import Scene, SceneObject, render

    scene = Scene((SceneObject("circle", "red", "large", 32, 32),), "white")
    drawn = {"image": render(scene)}
    found = await scores_of(
        "oracle",
        MetricModels(settings=Settings(), worker=worker),
        subject("a red circle", **drawn),
        subject("a red dragon", **drawn),
    )

    assert (1.0,) == found.known
    assert "does not know the word 'dragon'" in str(found.values[1].reason)


async def test_images_are_loaded_when_they_are_needed(worker: Worker) -> None:
    """What was kept as a file is read, once a subject, and let go; or says why not."""
    read = list[str]()

    def load(candidate: Candidate) -> Image.Image:
        read.append(candidate.path or "")
        if candidate.path == "lost":
            message = "no such file"
            raise FileNotFoundError(message)
        return flat(*map(int, (candidate.path or "").split("-")))

    past = rounds([(9, 0, 0)], [(0, 9, 0)], [(9, 0, 0)], [None])
    bare = History(
        user_prompt="x",
        rounds=tuple(
            Round(
                candidates=tuple(
                    Candidate(prompt="x", seed=1, path=c.path) for c in r.candidates
                )
            )
            for r in past.rounds
        ),
    )
    kinds = find_metrics(["contrast", "diversity"], Settings(**REAL))
    metrics = open_metrics(kinds, models(worker, GoldenClip({})))
    subjects = [
        subject(image=None, path="9-0-0", history=bare),
        subject(image=None, path="lost"),
        subject(image=flat(1, 1, 1), path="lost"),
    ]

    found = await evaluate(metrics, subjects, load=load, in_flight=1)

    assert ["9-0-0", "0-9-0", "lost"] == read
    assert (2 / 3,) == pytest.approx(found["diversity"].known)
    assert "no image (ok: FileNotFoundError: no such file)" in found["contrast"].causes
    assert 2 == len(found["contrast"].known)
    words = Metric(
        name="words",
        needs=(Need.TEXT,),
        higher_is_better=None,
        how=Measure(record={}, measure=lambda s: _length(s.user_prompt)),
    )
    assert (5.0,) == (await evaluate([words], [subjects[0]], load=load))["words"].known
    assert 3 == len(read)


async def _length(text: str) -> float:
    return len(text)


def constant(found: Any) -> Metric:
    """Return a metric that says, or raises, one thing."""

    async def measure(_: Subject) -> float | Value:
        await asyncio.sleep(0)
        if isinstance(found, Exception):
            raise found
        said: float | Value = found
        return said

    return Metric(
        name="constant",
        needs=(),
        higher_is_better=True,
        how=Measure(record={}, measure=measure),
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
async def test_what_is_no_number_is_excluded(bad: float) -> None:
    """A value that is not finite is a reason, never a score."""
    (value,) = (await evaluate([constant(bad)], [subject()]))["constant"].values
    assert value.value is None
    assert "no number" in str(value.reason)


@pytest.mark.parametrize("problem", [ClosedError("closed"), BatchError("broken")])
async def test_a_broken_worker_is_no_value(problem: Exception) -> None:
    """Where nothing is wrong with the images, nothing is excluded: it fails."""
    with pytest.raises(type(problem), match=str(problem)):
        await evaluate([constant(problem)], [subject(), subject()])


async def test_a_value_by_itself() -> None:
    """What measures single images tells the value, or raises why there is none."""
    image = flat(1, 1, 1)
    assert 0.5 == await constant(0.5).measure("x", image)
    with pytest.raises(CandidateError, match="ValueError: odd"):
        await constant(ValueError("odd")).measure("x", image)
    assert {} == await evaluate([], [subject()])


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["clip_score"], REAL, "did you mean 'clipscore'"),
        (["zzz"], REAL, "name one of these"),
        (["dsg", "dsg"], REAL, "each metric once, got dsg twice"),
        (["oracle"], REAL, "knows the pocket world alone"),
        (["clipscore_pocket"], REAL, "knows the pocket world alone"),
        (["p_yes"], {}, "was not taught"),
        (["image_reward"], REAL, "an environment of its own"),
        (["hps"], REAL, "pins protobuf"),
        (["fid"], REAL, "use evaluate_set"),
    ],
)
def test_what_cannot_measure_is_refused(
    names: list[str], settings: dict[str, Any], message: str
) -> None:
    """Before anything is opened, in a line that says what to do instead."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        find_metrics(names, Settings(**settings))
    assert "\n" not in str(caught.value)


def test_every_metric_can_be_found() -> None:
    """Each is found by its own name in the pocket world, or in a real one."""
    real, pocket = Settings(**REAL), Settings()
    only = {"oracle", "clipscore_pocket"}
    others = [name for name in METRICS if name not in only]
    assert others == [kind.name for kind in find_metrics(others, real)]
    assert only == {kind.name for kind in find_metrics(sorted(only), pocket)}
    assert all(kind.title for kind in METRICS.values())


def test_who_selects_is_told() -> None:
    """A metric whose model selects in the loop is no evidence for it."""
    names = ["clipscore", "clipscore_openclip", "dsg", "contrast"]
    settings = Settings(**REAL, scorer="ViT-B-32-quickgelu/openai")
    assert ("clipscore", "dsg") == metrics_that_select(
        find_metrics(names, settings), settings
    )
    blind = settings.but(scorer=None, judge="never", selector="last")
    assert () == metrics_that_select(find_metrics(names, blind), blind)


def test_a_comparison_takes_metrics_by_name() -> None:
    """``lab compare --metric`` knows the names, and refuses what it cannot feed."""
    settings = Settings()
    assert "oracle" == open_metric("oracle", settings, Worker()).name
    for name in ("dsg", "contrast"):
        with pytest.raises(ConfigurationError, match="of which more is better, got"):
            open_metric(name, settings.but(answerer="llm"), Worker())
    with pytest.raises(ConfigurationError, match="no arm selects with"):
        open_metric("clipscore_pocket", settings, Worker())
