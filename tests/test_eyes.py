"""Every family of eyes captions and answers as it was taught, in a batch as alone.

E1  A batch says what its images alone are said to show, whatever sizes they have.
E2  A model that deliberates is not waited for: yes, no and numbers are read at once.
E3  An option, a limit or a machine that does not fit is one line before anything runs.
"""

from __future__ import annotations

import math
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from socratic_agents.cli.app import main
from socratic_agents.config.settings import Settings
from socratic_agents.core.checklist import YesNo
from socratic_agents.core.counts import Count, read_number
from socratic_agents.core.errors import ConfigurationError, LoadError
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.devices import choose_device
from socratic_agents.models.eyes import families
from socratic_agents.models.eyes.deliberation import Deliberation
from socratic_agents.models.eyes.first_words import FirstWords
from socratic_agents.models.eyes.pixels import limit_pixels
from socratic_agents.models.eyes.placement import Placement, quantized
from socratic_agents.runtime.captioners import (
    as_reader,
    captioner_calls,
    open_captioner,
)
from socratic_agents.runtime.open_models import open_image_models
from socratic_agents.scheduler.worker import Worker
from tests import tiny_eyes, tiny_models
from tests.tiny_further_eyes import FURTHER

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't")
"""PaliGemma's processor makes an array of a tensor in a way that numpy will give up."""

QUESTIONS = ("is there a red circle", "what color", "is it a square at the left")
SIZES = ((20, 24), (40, 24), (16, 50))


def image(seed: int, size: tuple[int, int] = (20, 24)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where each family is saved, which is done once."""
    home, saved = tmp_path_factory.mktemp("eyes"), dict[str, Path]()

    def find(family: str) -> Path:
        if family == "smolvlm" and find_spec("num2words") is None:
            pytest.skip("transformers opens SmolVLM with num2words alone")
        if family not in saved:
            build = {**tiny_eyes.EYES, **FURTHER}[family]
            saved[family] = tiny_eyes.save(build, home / family)
        return saved[family]

    return find


@pytest.fixture
def eye_of(folder_of: Callable[[str], Path]) -> Callable[..., Any]:
    """Open a family through the public settings."""

    def open_eye(family: str, **settings: Any) -> Any:
        given = Settings(captioner=str(folder_of(family)), device="cpu", **settings)
        eye = open_captioner(given)
        if hasattr(eye, "answers"):
            eye._max_new_tokens = (
                6  # what comes after is no other than what comes first
            )
        return eye

    return open_eye


@pytest.mark.parametrize("family", [*tiny_eyes.ANSWERING, *FURTHER])
def test_every_family_captions_and_answers(
    family: str, eye_of: Callable[..., Any]
) -> None:
    """By words, by P(yes) and by P(number), in a batch as alone."""
    eye = eye_of(family)
    images = [image(seed, size) for seed, size in enumerate(SIZES)]
    asked = list(zip(images, QUESTIONS, strict=True))

    captions = [str(one) for one in eye.caption(images)]
    assert [str(eye.caption([one])[0]) for one in images] == captions
    answers = eye.answer(asked)
    assert [eye.answer([pair])[0] for pair in asked] == answers
    for one, pair in zip(eye.decide(asked), asked, strict=True):
        (alone,) = eye.decide([pair])
        assert alone.said is one.said
        if family != "paligemma":  # of whose 1,000 marks of places yes is but one
            assert alone.probability == pytest.approx(one.probability, abs=1e-4)
            assert one.said is not YesNo.UNKNOWN
    for count, pair in zip(eye.count(asked), asked, strict=True):
        (alone,) = eye.count([pair])
        assert alone.number == count.number
        assert alone.shares == pytest.approx(count.shares, abs=1e-4)


def test_a_family_that_knows_tasks_alone_only_captions(
    eye_of: Callable[..., Any],
) -> None:
    """Florence-2 would take any question for another task."""
    eye = eye_of("florence-2")
    images = [image(seed) for seed in range(3)]

    captions = [str(one) for one in eye.caption(images)]

    assert [str(eye.caption([one])[0]) for one in images] == captions
    assert not hasattr(eye, "decide")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "set answerer='llm', or choose judge 'caption'"),
        (["--scorer", "captioner"], "which only captions; name another scorer"),
    ],
)
def test_questions_to_who_only_captions_are_refused_at_opening(
    options: list[str],
    expected: str,
    folder_of: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one line that says what to do, before anything is drawn."""
    given = ["--captioner", str(folder_of("florence-2")), *options]

    code = main(["refine", "a red circle", *given])

    assert code != 0
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ("got-ocr2", "OCR"),
        ("florence-2", "What is the text in the image"),
        ("paligemma", "ocr"),
        ("qwen3-vl", "is there"),
        ("instruct-blip", "Question: is there"),
    ],
)
def test_every_reader_reads_in_its_own_words(
    family: str, told: str, folder_of: Callable[[str], Path]
) -> None:
    """By its task, its own prompt, or a question; in a batch as alone."""
    eye = Captioner.load(
        str(folder_of(family)), device="cpu", reader=True, max_new_tokens=5
    )
    prompts = list[str]()
    tokenizer = eye._talk._processor.tokenizer
    whole = type(tokenizer)._encode_plus

    def noted(self: Any, text: Any = None, **options: Any) -> Any:
        prompts.extend([text] if isinstance(text, str) else text)
        return whole(self, text, **options)

    asked = [(image(seed), "is there a sign") for seed in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(tokenizer), "_encode_plus", noted)
        together = eye.read(asked)
    assert [eye.read([pair])[0] for pair in asked] == together
    assert any(told in str(prompt) for prompt in prompts)


def test_a_reader_of_pages_is_no_captioner(folder_of: Callable[[str], Path]) -> None:
    """It describes nothing; named as reader it opens beside one that does."""
    with pytest.raises(ConfigurationError, match="name it as reader, and another"):
        Captioner.load(str(folder_of("got-ocr2")), device="cpu")
    with pytest.raises(ConfigurationError, match="expected answerer 'captioner' for"):
        Settings(reader="x/y", answerer="llm")


async def test_a_reader_stands_beside_the_captioner(
    eye_of: Callable[..., Any], folder_of: Callable[[str], Path]
) -> None:
    """The one reads, the other counts; options of the captioner are not the reader's."""
    settings = Settings(
        captioner=str(folder_of("qwen3.5")),
        captioner_options="enable_thinking=false",
        reader=str(folder_of("florence-2")),
        device="cpu",
    )
    async with Worker() as worker:
        calls = captioner_calls(settings, open_captioner(settings), worker)
        read = await calls["read_text"](image(0), "What is written?")
        count = await calls["answer_count"](image(0), "How many?")
    assert isinstance(read, str)
    assert isinstance(count, Count)
    assert settings.captioner != as_reader(settings).captioner


async def test_a_reader_has_a_place_on_the_device(
    folder_of: Callable[[str], Path],
) -> None:
    """Like every other model, so that they take turns where they do not all fit."""
    settings = Settings(
        captioner=str(folder_of("qwen3.5")),
        reader=str(folder_of("florence-2")),
        device="cpu",
        device_memory=1,
    )
    async with Worker() as worker:
        await worker.call(partial(open_image_models, settings, worker))
        expected = {"generator", "captioner", "reader", "scorer"}
        assert expected == worker.residency.here


def test_an_eye_by_folder_refines(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """From the command line, with fewer pixels and an option of its template."""
    code = main(
        [
            *("refine", "a red circle", "--rounds", "1", "--scorer", "none"),
            *("--captioner", str(folder_of("qwen3.5"))),
            *("--captioner-options", "enable_thinking=false"),
            *("--captioner-pixels", "1024", "--out", str(tmp_path / "run")),
        ]
    )
    assert code == 0


def test_texts_hold_no_marks_of_images_or_turns() -> None:
    """A question with the mark of an image would be one image too many."""
    model, processor = tiny_eyes.EYES["qwen2-vl"]()
    eye = Captioner(model, processor, max_new_tokens=5)

    marked, plain = (
        eye.answer([(image(0), f"is there {mark} a circle")])
        for mark in ("<|image_pad|> </s>", "")
    )

    assert plain == marked


def test_a_deliberation_that_the_template_began_is_ended(
    eye_of: Callable[..., Any],
) -> None:
    """So that the next word is the answer's; asked for, it is left open."""
    eye = eye_of("qwen3-vl-thinking")
    talk = eye._talk

    for thought, ends in (("free", "<think>"), ("ended", "</think>")):
        inputs = talk.inputs([image(0)] * 2, ["is it red", "what"], thought=thought)
        last = talk._processor.tokenizer.batch_decode(inputs["input_ids"][:, -1:])
        assert [ends] * 2 == last
        assert inputs["input_ids"].shape == inputs["attention_mask"].shape


@pytest.mark.parametrize("given", [None, "enable_thinking=true"])
def test_who_thinks_on_request_does_so_on_request(
    given: str | None, eye_of: Callable[..., Any]
) -> None:
    """Captions wait for it, then; yes and no never do."""
    eye = eye_of("qwen3.5", captioner_options=given)
    prompts = list[str]()
    generate = eye._model.generate

    def watched(**options: Any) -> Any:
        prompts.append(eye._talk._processor.tokenizer.decode(options["input_ids"][0]))
        assert options["max_new_tokens"] <= 60 or given
        return generate(**{**options, "max_new_tokens": 4})

    eye._model.generate = watched
    eye.caption([image(0)])
    eye.decide([(image(0), "is it red")])

    first, last = prompts[0], prompts[-1]
    assert (given is None) == ("</think>" in first)
    assert "</think>" in last


def _thinker(said: int, then: int) -> tuple[Any, Any, list[int]]:
    """Return a model that says one token, and another after an ended deliberation."""
    model, processor = tiny_eyes.EYES["qwen3-vl"]()
    (end,) = processor.tokenizer("</think>", add_special_tokens=False).input_ids
    asked: list[int] = []

    def generate(input_ids: torch.Tensor, **options: Any) -> Any:
        asked.append(len(input_ids))
        chosen = torch.where((input_ids == end).any(1), then, said)
        logits = torch.full((len(input_ids), len(processor.tokenizer)), -9.0)
        logits[torch.arange(len(input_ids)), chosen] = 9.0
        tokens = torch.cat([input_ids, chosen[:, None]], 1)
        if "output_logits" not in options:
            return tokens
        return SimpleNamespace(sequences=tokens, logits=(logits,))

    model.generate = generate
    return model, processor, asked


def test_who_begins_to_think_unasked_is_asked_again_without() -> None:
    """Nothing is unknown only because a model deliberates before it answers."""
    tokenizer = tiny_eyes.EYES["qwen3-vl"]()[1].tokenizer
    think, yes = tokenizer.convert_tokens_to_ids(["<think>", "yes"])
    model, processor, asked = _thinker(think, yes)
    eye = Captioner(model, processor)

    (answer,) = eye.decide([(image(0), "is it red")])
    assert (YesNo.YES, [1, 1]) == (answer.said, asked)
    assert answer.probability == pytest.approx(1, abs=1e-3)
    assert ["yes"] * 2 == eye.answer([(image(n), "is it red") for n in range(2)])


@pytest.mark.parametrize(
    ("family", "most"),
    [
        *(("qwen3-vl", 256), ("smolvlm", 256), ("idefics3", 256), ("idefics2", 256)),
        *(("gemma4", 70 * 64), ("llava-next", 512), ("llava-onevision", 512)),
        *(("internvl", 256), ("aya-vision", 256), ("glm-4v", 256)),
        *(("mistral-3", 256), ("lfm2-vl", 512)),
    ],
)
def test_fewer_pixels_are_seen(
    family: str, most: int, eye_of: Callable[..., Any]
) -> None:
    """By whatever the processor of the family counts in; a batch stays as its parts."""
    large = [image(seed, (160, 96)) for seed in range(2)]
    asked = [(one, "is it red") for one in large]
    eye = eye_of(family)

    def seen() -> int:
        inputs = eye._talk.inputs(large, ["is it red"] * 2)
        return math.prod(inputs["pixel_values"].shape)

    before = seen()
    limit_pixels(eye._talk._processor, eye._model.config, most)
    assert seen() < before
    for one, pair in zip(eye.decide(asked), asked, strict=True):
        (alone,) = eye.decide([pair])
        assert alone.probability == pytest.approx(one.probability, abs=1e-4)


@pytest.mark.parametrize("family", ["gemma3", "paligemma", "instruct-blip", "mllama"])
def test_who_looks_at_one_size_takes_no_limit_below_it(
    family: str, eye_of: Callable[..., Any]
) -> None:
    """What is always 16x16 is within any limit; a smaller one is refused."""
    with_room = eye_of(family, captioner_pixels=1024)
    assert 1 == len(with_room.caption([image(0)]))
    processor = with_room._talk._processor
    processor.image_processor.size = {"height": 64, "width": 64}
    processor.image_processor.crop_size = None
    with pytest.raises(ConfigurationError, match="which always takes 64x64 pixels"):
        limit_pixels(processor, with_room._model.config, 1024)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("num_crops=1", "got 'num_crops'; leave it out"),
        ("return_tensors=np", "got 'return_tensors'; leave it out"),
        ("enable_thinking=true", "got 'enable_thinking'; leave it out"),
    ],
)
def test_an_option_that_nobody_would_look_at_is_refused(
    given: str, expected: str, eye_of: Callable[..., Any]
) -> None:
    """Processors pass over what they do not know without a word."""
    with pytest.raises(ConfigurationError, match="expected options that the capt") as e:
        eye_of("gemma3", captioner_options=given)
    assert expected in str(e.value)


def test_an_option_goes_to_who_takes_it(eye_of: Callable[..., Any]) -> None:
    """Splitting an image is the processor's, and not to think is everybody's."""
    options = {"do_image_splitting": False, "enable_thinking": False}
    whole = eye_of("idefics3", captioner_options=options)
    split = eye_of("idefics3")

    lengths = [
        eye._talk.inputs([image(0)], ["is it red"])["input_ids"].shape[1]
        for eye in (whole, split)
    ]
    assert lengths[0] < lengths[1]


@pytest.mark.parametrize("kind", families.BLIND)
def test_what_is_no_captioner_is_refused_by_its_kind(kind: str) -> None:
    """Before its weights are loaded."""
    with pytest.raises(ConfigurationError, match=f"got 'x', a {kind}, which"):
        families.check_sees(SimpleNamespace(model_type=kind), "x")


def test_a_model_of_another_kind_is_told_before_it_is_loaded(tmp_path: Path) -> None:
    """Pix2Struct stands among the image-text-to-text models, and is none for us."""
    (tmp_path / "config.json").write_text('{"model_type": "pix2struct"}')
    with pytest.raises(ConfigurationError, match="painted onto the image"):
        Captioner.load(str(tmp_path), device="cpu")
    (tmp_path / "config.json").write_text('{"model_type": "moondream1"}')
    with pytest.raises(LoadError, match="which cannot be opened"):
        Captioner.load(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("marks", "empty"),
    [
        (("<think>", "</think>"), "<think>\n\n</think>\n\n"),
        (("<|channel>", "<channel|>"), "<|channel>thought\n<channel|>"),
        (("◁think▷", "◁/think▷"), "◁think▷◁/think▷"),
    ],
)
def test_every_kind_of_deliberation_is_known(
    marks: tuple[str, str], empty: str
) -> None:
    """By its own marks, of which the tokenizer or the template knows."""
    tokenizer = tiny_models.word_tokenizer()
    begin, end = marks
    assert not Deliberation(tokenizer, "a template").possible
    assert Deliberation(tokenizer, f"a template {begin}").templated
    tokenizer.add_tokens([*marks], special_tokens=True)
    known = Deliberation(tokenizer, "a template")
    assert known.possible
    assert not Deliberation(tokenizer, "").possible
    assert empty == known.ending(opened=False)
    assert empty == begin + known.ending(opened=True)
    assert known.opened(f"{begin} a {end} b {begin}")
    assert not known.opened(f"{begin} a {end} b")
    assert known.begins_with(tokenizer.convert_tokens_to_ids(begin))
    assert not known.begins_with(0)


def test_a_tokenizer_without_a_mark_to_fill_up_with_takes_that_of_the_end() -> None:
    """Else no batch could be made."""
    model, processor = tiny_eyes.EYES["qwen3-vl"]()
    processor.tokenizer.pad_token = None
    eye = Captioner(model, processor, max_new_tokens=5)
    assert 2 == len(
        eye.answer([(image(n), text) for n, text in enumerate(QUESTIONS[:2])])
    )


def test_a_processor_of_images_alone_is_told(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not be asked anything; transformers opens some models with such a one."""
    look = tiny_eyes.EYES["llava-base"]()[1].image_processor
    monkeypatch.setattr(
        "transformers.AutoProcessor.from_pretrained", lambda *_, **__: look
    )
    with pytest.raises(LoadError, match="expected a processor with a tokenizer, got"):
        Captioner.load(str(folder_of("llava-base")), device="cpu")


def test_a_quantized_model_stays_where_it_was_loaded() -> None:
    """It stands on its card already."""
    moved = list[Any]()
    model = SimpleNamespace(is_quantized=True, to=moved.append, device="there")
    here: Any = "here"
    assert here == Placement(model, here).device
    assert "there" == Placement(model).device
    assert [] == moved


@pytest.mark.parametrize("offload", [None, "model", "sequential", "group"])
def test_an_eye_sees_the_same_wherever_its_weights_rest(offload: str | None) -> None:
    """In memory, moved as a whole, or layer by layer."""
    torch.manual_seed(0)
    model, processor = tiny_eyes.EYES["qwen3-vl"]()
    asked = [(image(seed), "is it red") for seed in range(2)]
    expected = [one.probability for one in Captioner(model, processor).decide(asked)]

    placement = Placement(model, torch.device("cpu"), offload)
    eye = Captioner(model, processor, placement=placement)

    got = [one.probability for one in eye.decide(asked)]
    assert expected == pytest.approx(got, abs=1e-6)


def test_what_a_machine_has_not_is_refused_in_one_line(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer bits need a card and a library, offloading needs somewhere to offload from."""
    folder = str(folder_of("qwen3-vl"))
    with pytest.raises(ConfigurationError, match="a graphics card for captioner_quant"):
        Captioner.load(folder, device="cpu", quantization="4bit")
    with pytest.raises(ConfigurationError, match="a graphics card for offload 'model'"):
        Captioner.load(folder, device="cpu", offload="model")
    with pytest.raises(ConfigurationError, match="leave captioner_offload out"):
        Settings(captioner_offload="model", device="cpu")
    monkeypatch.setattr("socratic_agents.core.extras.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="expected bitsandbytes for"):
        quantized("8bit", torch.device("cuda"))
    assert {} == quantized(None, choose_device("cpu"))


def test_fewer_bits_are_asked_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole model stands on its card from the beginning."""
    monkeypatch.setattr("socratic_agents.core.extras.find_spec", lambda _: object())
    import transformers

    monkeypatch.setattr(transformers, "BitsAndBytesConfig", dict)
    card = torch.device("cuda")
    assert {
        "quantization_config": {"load_in_4bit": True},
        "device_map": {"": card},
    } == quantized("4bit", card)


def test_settings_of_the_eye_are_refused_for_one_that_is_open() -> None:
    """They would be passed over in silence."""
    settings = Settings(captioner=SimpleNamespace(caption=str), captioner_pixels=4096)
    with pytest.raises(
        ConfigurationError, match="for a captioner that is open already"
    ):
        open_captioner(settings)


def test_options_are_read_from_text_and_mappings() -> None:
    """One text stands for them, so that runs with the same are the same."""
    for given in ({"b": False, "a": 1}, "b=false, a=1"):
        assert "a=1,b=false" == Settings(captioner_options=given).captioner_options
    assert Settings(captioner_options="none").captioner_options is None
    with pytest.raises(ConfigurationError, match="such as enable_thinking=false"):
        Settings(captioner_options="thinking")


def _words(*steps: dict[str, float]) -> tuple[FirstWords, list[torch.Tensor]]:
    """Return first words over a vocabulary, and the steps in which they are said."""
    tokenizer = tiny_models.word_tokenizer(
        [*"0123456789", "12", "yes", "no", "three", "*", "There", "the"]
    )
    size = len(tokenizer)
    logits = []
    for step in steps:
        rest = (1 - sum(step.values())) / (size - len(step))
        names = tokenizer.convert_ids_to_tokens(range(size))
        row = torch.tensor([step.get(name, rest) for name in names])
        logits.append(row.clamp(1e-9).log()[None])
    return FirstWords(tokenizer, frozenset({2})), logits


def test_a_number_is_as_probable_as_all_its_ways_of_writing() -> None:
    """In digits and in words."""
    words, logits = _words(
        {"3": 0.5, "three": 0.2, "4": 0.1, "12": 0.1}, {"the": 0.999}
    )
    heard = words.said([""], logits, counted=True)[0].numbers

    assert heard[3] == pytest.approx(0.7, abs=0.02)
    assert heard[4] == pytest.approx(0.1, abs=0.01)
    assert heard[12] == pytest.approx(0.1, abs=0.01)


def test_a_number_goes_on_with_the_next_digit() -> None:
    """A 1 before a 5 is fifteen, and not one."""
    words, logits = _words({"1": 0.9}, {"5": 0.8})
    heard = words.said([""], logits, counted=True)[0].numbers

    assert heard[15] == pytest.approx(0.72, abs=0.01)
    assert heard[1] < 0.15


def test_what_stands_before_the_first_word_is_passed_over() -> None:
    """Quotes, stars and line ends say nothing; the mark of the end ends the search."""
    words, logits = _words({"*": 0.9}, {"yes": 0.8, "no": 0.1})
    said = words.said([""], logits, counted=True)[0]
    assert (said.yes, said.no) == pytest.approx((0.8, 0.1), abs=0.01)
    words, logits = _words({"</s>": 0.9}, {"yes": 0.8})
    assert words.said([""], logits, counted=True)[0].yes < 0.1
    words, logits = _words({"*": 0.9}, {"*": 0.9})
    assert words.said([""], logits, counted=True)[0].yes < 0.1


def test_the_likeliest_number_is_the_count() -> None:
    """With what else it might be, of which the negligible is not kept."""
    count = Count.of({2: 0.3, 3: 0.1, 7: 1e-9})
    assert (2, {2, 3}) == (count.number, set(count.shares))
    assert count.shares[2] == pytest.approx(0.75)
    assert count == Count.from_json(count.to_json())


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3", 3),
        ("There are three cats.", 3),
        ("Twelve", 12),
        ("none", 0),
        ("No cats are there.", 0),
        ("12 apples and 3 pears", 12),
        ("many", None),
        ("3.5", None),
        ("someone", None),
        ("", None),
    ],
)
def test_a_number_is_read_from_words(text: str, number: int | None) -> None:
    """The first one counts, and a word that only holds one is none."""
    assert number == read_number(text)
