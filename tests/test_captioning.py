"""What holds for every captioner.

C1  A batch says what its images alone are said to show.
C2  Nobody gets a caption of no use: it is tried again, and then it is an error.
C3  An answer holds no word of the question.
C4  A decision is yes where yes is at least as probable as no, and only there.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.core.errors import CandidateError, ConfigurationError, LoadError
from socratic_agents.core.history import Status
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.eyes.first_words import HEARD, FirstSaid
from socratic_agents.models.loading import quiet
from socratic_agents.models.validation import caption_fault
from tests import tiny_captioners, tiny_models

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

QUESTIONS = ("is there a red circle", "what color", "is it a square at the left")

FORMAT = "question : {question} ? answer :"


def image(seed: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 24, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def tiny_flan_blip2(path: Path) -> Path:
    """Save a BLIP-2 model whose language model is an encoder and a decoder."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, T5Config

    tiny_models.tiny_blip2(path)
    config = Blip2Config.from_pretrained(path).to_dict()
    vocabulary = config["text_config"]["vocab_size"]
    config["text_config"] = T5Config(
        vocab_size=vocabulary,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=0,
    ).to_dict()
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(Blip2Config(**config))
    # Random T5 weights are large: it would be sure of one word, whatever it sees.
    model.language_model.get_output_embeddings().weight.data.mul_(0.1)
    with quiet():
        model.save_pretrained(path)
    return path


@pytest.fixture(scope="module", params=["blip2", "flan", "llava"])
def captioner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Captioner:
    """BLIP-2 models of both kinds, and one spoken to through a chat template."""
    save = {
        "blip2": tiny_models.tiny_blip2,
        "flan": tiny_flan_blip2,
        "llava": tiny_models.tiny_llava,
    }
    folder = save[request.param](tmp_path_factory.mktemp("models") / request.param)
    return Captioner.load(
        str(folder), device="cpu", question_format=FORMAT, max_new_tokens=12
    )


class Speaker:
    """Stands in for a model: says of each image what its script says.

    Args:
        script: For each image, told apart by its first red value, what is said at
            the first and at the second try.
        echo: Whether the prompt comes before what is said, as decoders do.
        shares: How probable each word is as the first one, where that is asked; all
            others share the rest.
    """

    device = torch.device("cpu")
    dtype = torch.float32
    config = SimpleNamespace(num_query_tokens=4)

    def __init__(
        self,
        script: Mapping[int, tuple[str, ...]],
        *,
        echo: bool = True,
        shares: dict[str, float] | None = None,
    ) -> None:
        self.script = script
        self.echo = echo
        self.shares = shares or {}
        self.calls: list[dict[str, Any]] = []
        self.tokenizer = tiny_models.word_tokenizer()

    def eval(self) -> Speaker:
        return self

    def generate(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **decoding: Any,
    ) -> Any:
        self.calls.append({"size": len(pixel_values), **decoding})
        attempt = int(decoding["num_beams"] > 1)
        said = [self.script[int(value)][attempt] for value in pixel_values]
        tokens = self.tokenizer(
            said, return_tensors="pt", padding=True, add_special_tokens=False
        ).input_ids.long()
        if input_ids is not None and self.echo:
            tokens = torch.cat([input_ids, tokens], dim=1)
        if "output_logits" not in decoding:
            return tokens
        names = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
        rest = (1 - sum(self.shares.values())) / (len(names) - len(self.shares))
        first = torch.tensor([self.shares.get(name, rest) for name in names]).log()
        return SimpleNamespace(sequences=tokens, logits=(first.repeat(len(said), 1),))


class Inputs(dict[str, torch.Tensor]):
    def to(self, *_: object) -> Inputs:
        return self


class Looker:
    """Stands in for a processor: shows the model each image's first red value."""

    num_query_tokens = None

    def __init__(
        self,
        chat_template: str | None = None,
        *,
        words: Sequence[str] = tiny_models.WORDS,
    ) -> None:
        self.tokenizer = tiny_models.word_tokenizer(words)
        self.chat_template = chat_template
        self.texts: list[str] = []

    def __call__(
        self,
        images: Sequence[Image.Image],
        text: list[str] | None = None,
        **options: Any,
    ) -> Inputs:
        assert {"RGB"} == {image.mode for image in images}
        values = [image.getpixel((0, 0)) for image in images]
        inputs = Inputs(pixel_values=torch.tensor([v[0] for v in values]))  # type: ignore[index]
        if text is not None:
            self.texts += text
            inputs.update(self.tokenizer(text, padding=True, return_tensors="pt"))
        return inputs

    def apply_chat_template(
        self, conversations: list[list[dict[str, Any]]], **options: Any
    ) -> Inputs:
        contents = [conversation[0]["content"] for conversation in conversations]
        return self(
            [content[0]["image"] for content in contents],
            [content[1]["text"] for content in contents],
        )


def flat(value: int) -> Image.Image:
    return Image.new("RGB", (2, 2), (value, 0, 0))


def test_batch_says_what_single_images_get(captioner: Captioner) -> None:
    """An image's neighbours change neither its caption nor its error."""
    images = [image(seed) for seed in range(3)]

    together = captioner.caption(images)
    alone = [captioner.caption([image])[0] for image in images]

    assert [str(caption) for caption in alone] == [str(c) for c in together]


def test_batch_answers_what_single_questions_get(captioner: Captioner) -> None:
    """Questions of different length are padded where it does no harm."""
    asked = [(image(seed), question) for seed, question in enumerate(QUESTIONS)]

    together = captioner.answer(asked)
    alone = [captioner.answer([pair])[0] for pair in asked]

    assert alone == together
    for answer, question in zip(together, QUESTIONS, strict=True):
        assert question not in answer
        assert len(answer.split()) <= 12


def test_every_mode_of_image_is_seen(captioner: Captioner) -> None:
    """Grey, transparent, palette and one-bit images are looked at in RGB."""
    images = [image(0, mode) for mode in ("L", "RGBA", "P", "1", "LA", "CMYK")]

    assert (
        len(images) == len(captioner.caption([*images, Image.new("RGB", (1, 1))])) - 1
    )


def test_nothing_asked_says_nothing(captioner: Captioner) -> None:
    """Empty batches are answered without the model."""
    assert [] == captioner.caption([])
    assert [] == captioner.answer([])
    assert [] == captioner.decide([])
    assert [] == captioner.fit([])


def test_batch_decides_as_single_questions_do(captioner: Captioner) -> None:
    """Probabilities lie in [0, 1], and padding and neighbours do not move them."""
    asked = [(image(seed), question) for seed, question in enumerate(QUESTIONS)]

    together = captioner.decide(asked)
    alone = [captioner.decide([pair])[0] for pair in asked]

    for one, other in zip(alone, together, strict=True):
        assert one.probability is not None
        assert other.probability is not None
        assert 0 <= other.probability <= 1
        assert one.probability == pytest.approx(other.probability, abs=1e-4)
        assert (YesNo.YES if other.probability >= 0.5 else YesNo.NO) is other.said
    assert 1 < len({answer.probability for answer in together})


def test_batch_fits_as_single_pairs_do(captioner: Captioner) -> None:
    """How surely an image shows a text is one number in [0, 1] for each pair."""
    pairs = [("a red circle", image(0)), ("the blue square at the left", image(1))]

    together = captioner.fit(pairs)

    assert together == pytest.approx([captioner.fit([p])[0] for p in pairs], abs=1e-4)
    assert all(0 <= share <= 1 for share in together)


def _asked_for_a_circle(captioner: Captioner, count: int) -> list[Answer]:
    return captioner.decide([(flat(n), "is there a circle ?") for n in range(count)])


@pytest.mark.parametrize("echo", [True, False], ids=["decoder", "encoder-decoder"])
def test_the_models_own_probabilities_decide(echo: bool) -> None:
    """Not its words: they are the likelier of two that may be as good as even."""
    shares = {"yes": 0.3, "no": 0.1}
    speaker = Speaker({0: ("no",), 1: ("a circle",)}, echo=echo, shares=shares)

    answers = _asked_for_a_circle(Captioner(speaker, Looker()), 2)

    assert [YesNo.YES] * 2 == [answer.said for answer in answers]
    assert [0.75] * 2 == pytest.approx([answer.probability for answer in answers])
    assert {None} == {answer.passed for answer in answers}
    (call,) = speaker.calls
    assert (2, 4, 1) == (call["size"], call["max_new_tokens"], call["num_beams"])


@pytest.mark.parametrize(
    "words",
    [
        [*tiny_models.WORDS, "Yes", "YES", "NO"],
        [*(word for word in tiny_models.WORDS if word != "yes"), "Yes"],
    ],
    ids=["all ways of writing", "one way"],
)
def test_every_way_to_write_the_words_counts(words: list[str]) -> None:
    """Yes is yes, large or small."""
    yes = [word for word in words if word.lower() == "yes"]
    no = [word for word in words if word.lower() == "no"]
    shares = dict.fromkeys(yes, 0.6 / len(yes)) | dict.fromkeys(no, 0.2 / len(no))
    speaker = Speaker({0: ("a circle",)}, shares=shares)
    speaker.tokenizer = tiny_models.word_tokenizer(words)

    (answer,) = _asked_for_a_circle(Captioner(speaker, Looker(words=words)), 1)

    assert answer.probability == pytest.approx(0.75)


def test_where_the_words_are_not_heard_the_text_decides() -> None:
    """A model that says something else has no probability of yes."""
    script = {0: ("yes .",), 1: ("no , a square",), 2: ("a circle",), 3: ("",)}
    speaker = Speaker(script, shares={"circle": 0.995})

    answers = _asked_for_a_circle(Captioner(speaker, Looker()), 4)

    assert [
        Answer(said=said)
        for said in (YesNo.YES, YesNo.NO, YesNo.UNKNOWN, YesNo.UNKNOWN)
    ] == answers


@pytest.mark.parametrize("word", ["yes", "no"])
def test_a_tokenizer_without_the_words_leaves_the_text(word: str) -> None:
    """Where one of them is no word of the model, its share would be nothing's."""
    words = [one for one in tiny_models.WORDS if one != word]
    speaker = Speaker({0: ("no",), 1: ("a circle",)}, shares={"<unk>": 0.9})
    looker = Looker(words=words)
    speaker.tokenizer = looker.tokenizer

    first, second = _asked_for_a_circle(Captioner(speaker, looker), 2)

    assert Answer(said=YesNo.NO if word == "yes" else YesNo.UNKNOWN) == first
    assert Answer(said=YesNo.UNKNOWN) == second


def test_chat_models_are_held_to_the_two_words() -> None:
    """BLIP-2 says them by itself."""
    chat, plain = Looker(chat_template="a template"), Looker()

    for looker in (chat, plain):
        Captioner(Speaker({0: ("yes",)}), looker).decide([(flat(0), "Is it red?")])

    told = "Is it red? Answer yes or no. Answer in a few words."
    assert [told] == chat.texts
    assert ["Question: Is it red? Answer:"] == plain.texts


@given(
    text=st.sampled_from(["yes", "no", "a"]), yes=st.floats(0, 1), no=st.floats(0, 1)
)
@example(text="yes", yes=0.25, no=0.25 + 2**-54)  # their sum is rounded
@example(text="no", yes=HEARD / 2, no=HEARD / 2)
@example(text="yes", yes=0.0, no=0.0)
def test_yes_is_what_is_at_least_as_probable(text: str, yes: float, no: float) -> None:
    """Where it is heard, the probability decides, and nothing else does."""
    answer = FirstSaid(text, yes, no, {}).answer()
    assert (yes + no >= HEARD) == (answer.probability is not None)
    if answer.probability is None:
        assert {"yes": YesNo.YES, "no": YesNo.NO, "a": YesNo.UNKNOWN}[
            text
        ] is answer.said
        return
    assert 0 <= answer.probability <= 1
    assert (YesNo.YES if answer.probability >= 0.5 else YesNo.NO) is answer.said
    if abs(yes - no) > 1e-9:
        assert (yes > no) == (answer.said is YesNo.YES)


def test_an_image_is_asked_whether_it_shows_a_text() -> None:
    """Each pair is one question, and the text stands in it as it is."""
    looker = Looker()
    speaker = Speaker({1: ("yes",), 2: ("no",)}, shares={"yes": 0.3, "no": 0.1})
    pairs = [("a red {question}", flat(1)), ("{prompt}", flat(2))]

    shares = Captioner(speaker, looker).fit(pairs)

    assert [0.75, 0.75] == pytest.approx(shares)
    assert [
        'Question: Does this image show "a red {question}"? Answer:',
        'Question: Does this image show "{prompt}"? Answer:',
    ] == looker.texts


def test_without_a_probability_nothing_fits() -> None:
    """A text that says yes is no number: an error comes, and no score."""
    speaker = Speaker({1: ("yes",)}, shares={"circle": 0.995})

    with pytest.raises(CandidateError, match="expected yes or no of the c") as caught:
        Captioner(speaker, Looker()).fit([("a red circle", flat(1))])

    assert Status.OK is caught.value.status


def test_useless_captions_are_tried_again_and_then_fail() -> None:
    """Only what failed is tried again, alone, with other decoding; then it is an error."""
    speaker = Speaker(
        {
            1: ("a red circle",),
            2: ("", "a blue square"),
            3: ("a photo of", "a photo of a"),
            4: ("red red red red", ""),
        }
    )
    captions = Captioner(speaker, Looker()).caption([flat(n) for n in (1, 2, 3, 4)])

    assert ["a red circle", "a blue square"] == captions[:2]
    opening, empty = captions[2:]
    assert isinstance(opening, CandidateError)
    assert isinstance(empty, CandidateError)
    assert Status.CAPTION_FAILED == opening.status == empty.status
    assert "only an opening ('a photo of a'), at the second try too" in str(opening)
    assert "it is empty" in str(empty)
    assert [(4, 1), *[(1, 5)] * 3] == [
        (c["size"], c["num_beams"]) for c in speaker.calls
    ]
    assert 1.5 == speaker.calls[1]["repetition_penalty"]
    assert not speaker.calls[0]["do_sample"]


def test_echo_of_the_instruction_is_no_caption() -> None:
    """A chat model that says what it was told has said nothing."""
    told = "describe this image in one sentence ."
    speaker = Speaker({1: (told, told), 2: ("a red circle",)})
    looker = Looker(chat_template="a template")

    echo, good = Captioner(speaker, looker, instruction=told).caption(
        [flat(1), flat(2)]
    )

    assert isinstance(echo, CandidateError)
    assert "it repeats the instruction" in str(echo)
    assert "a red circle" == good
    assert [told] * 3 == looker.texts


@pytest.mark.parametrize("echo", [True, False], ids=["decoder", "encoder-decoder"])
def test_answers_hold_no_prompt(echo: bool) -> None:
    """The prompt is cut off where the model repeats it, and nothing else is."""
    speaker = Speaker({1: ("yes",), 2: ("a circle to the left",)}, echo=echo)
    looker = Looker()

    answers = Captioner(speaker, looker).answer(
        [(flat(1), "is  there {question}\na circle ?"), (flat(2), "what is there ?")]
    )

    assert ["yes", "a circle to the left"] == answers
    assert "Question: is there {question} a circle ? Answer:" == looker.texts[0]


def test_chat_models_are_asked_in_their_words() -> None:
    """A chat model gets the question without BLIP-2's frame."""
    looker = Looker(chat_template="a template")

    Captioner(Speaker({1: ("yes",)}), looker).answer([(flat(1), "Is it red?")])

    assert ["Is it red? Answer in a few words."] == looker.texts


def test_old_checkpoints_get_their_number_of_queries() -> None:
    """A BLIP-2 processor that lacks the number takes it from its model."""
    looker = Looker()

    Captioner(Speaker({}), looker)

    assert 4 == looker.num_query_tokens
    assert "left" == looker.tokenizer.padding_side


def test_question_format_needs_a_place() -> None:
    """A format that would ask every image the same is refused."""
    with pytest.raises(ConfigurationError, match=r"expected a question format with"):
        Captioner(Speaker({}), Looker(), question_format="Is it good?")


@pytest.mark.parametrize(
    ("caption", "fault"),
    [
        ("", "empty"),
        (" .,!\n", "empty"),
        ("a photo of", "opening"),
        ("An image of the", "opening"),
        ("A Picture.", "opening"),
        ("a cat cat cat cat", "repeats itself"),
        ("a cat on a mat on a mat on a mat", "repeats itself"),
        ("Describe this image in one sentence. A cat", "repeats the instruction"),
    ],
)
def test_faults_are_recognised(caption: str, fault: str) -> None:
    """Empty, looping and echoing captions and mere openings tell nothing.

    https://github.com/salesforce/LAVIS/issues/132
    https://github.com/salesforce/LAVIS/issues/697
    """
    instruction = "Describe this image in one sentence."

    assert fault in str(caption_fault(caption, instruction))


@pytest.mark.parametrize(
    "caption",
    [
        "a cat",
        "cat",
        "a photo of a cat",
        "a red circle to the left of a red square on a red background",
        "two dogs, two cats and two birds",
        "very very very tall tower",
        "a man and a woman and a child and a dog",
        "猫",
    ],
)
def test_captions_of_use_have_no_fault(caption: str) -> None:
    """Short captions, lists and stressed words are left alone."""
    assert caption_fault(caption, "Describe this image in one sentence.") is None


@pytest.mark.parametrize(
    ("dtype", "q_former"),
    [("bfloat16", torch.bfloat16), ("float16", torch.float32)],
)
def test_number_format_is_taken(
    tmp_path: Path, dtype: str, q_former: torch.dtype
) -> None:
    """Captions come although float16 leaves the Q-Former in float32.

    That is where transformers pins it, since float16 overflows there.
    """
    folder = tiny_models.tiny_blip2(tmp_path)

    captioner = Captioner.load(
        str(folder), device="cpu", dtype=dtype, revision="main", max_new_tokens=5
    )

    assert getattr(torch, dtype) == captioner._model.language_model.dtype
    parameters = captioner._model.qformer.parameters()
    assert {q_former} == {parameter.dtype for parameter in parameters}
    assert 1 == len(captioner.answer([(image(0), "is there a red circle")]))


@pytest.mark.parametrize("backend", ["torchvision", "pil"])
def test_images_are_resized_where_the_model_is(tmp_path: Path, backend: str) -> None:
    """Where the processor can, and not in the thread that everything waits for."""
    captioner = Captioner.load(
        str(tiny_models.tiny_blip2(tmp_path)), device="cpu", max_new_tokens=5
    )
    processor, told = captioner._talk._processor, list[dict[str, Any]]()

    class Watched:
        tokenizer = processor.tokenizer
        image_processor = SimpleNamespace(backend=backend)

        def __call__(self, **options: Any) -> Any:
            told.append(options)
            return processor(**options)

    captioner._talk._processor = Watched()
    captioner.answer([(image(0), "is there a red circle")])

    expected = {"torchvision": torch.device("cpu"), "pil": None}[backend]
    assert [expected] == [options.get("device") for options in told]


def test_loading_and_captioning_print_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The libraries' bars and hints stay out of the terminal."""
    folder = tiny_models.tiny_blip2(tmp_path)
    capfd.readouterr()

    Captioner.load(str(folder), device="cpu").caption([image(0)])

    assert ("", "") == capfd.readouterr()


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _with_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _of_another_kind(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


def _with_own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "mine"
    config["auto_map"] = {
        "AutoConfig": "mine.Config",
        "AutoModelForImageTextToText": "mine.Model",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('ran')")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_config, "expected the folder of a model with config.json"),
        (_with_pickles, "got only pickles in"),
        (_of_another_kind, "which cannot be opened"),
        (_with_own_code, "needs Python code of its own, which is not run"),
    ],
)
def test_what_cannot_be_opened_is_one_line(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    """The true reason, and no code of the folder is run."""
    folder = tiny_models.tiny_blip2(tmp_path / "model")
    spoil(folder)

    with pytest.raises(LoadError) as caught:
        Captioner.load(str(folder), device="cpu")

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("revision", [None, "main"])
def test_hub_model_that_cannot_be_had_is_one_line(revision: str | None) -> None:
    """Offline, a name that is not cached is an error that says so."""
    with pytest.raises(LoadError, match="expected an image-text-to-text model"):
        Captioner.load("nobody/no-such-model", device="cpu", revision=revision)


@pytest.mark.parametrize("family", tiny_captioners.CAPTIONERS)
def test_every_family_captions_and_answers(family: str) -> None:
    """In a batch as alone, whatever the lengths of the questions."""
    eyes = Captioner(*tiny_captioners.CAPTIONERS[family](), max_new_tokens=5)
    images = [image(seed) for seed in range(3)]
    asked = list(zip(images, QUESTIONS, strict=True))

    captions = [str(one) for one in eyes.caption(images)]
    assert [str(eyes.caption([one])[0]) for one in images] == captions
    answers = eyes.answer(asked)
    assert [eyes.answer([one])[0] for one in asked] == answers
    assert not any("question" in answer and ":" in answer for answer in answers)
    for one, pair in zip(eyes.decide(asked), asked, strict=True):
        (alone,) = eyes.decide([pair])
        assert alone.said is one.said
        if alone.probability is not None:
            assert alone.probability == pytest.approx(one.probability, abs=1e-4)
    # What may not be filled up is as wide as it is long.
    widths = {eyes.width(question) % 16 for question in QUESTIONS}
    assert (widths == {0}) == (family == "instruct-blip")


class Thinker(Looker):
    """Stands in for a processor whose words have marks of a deliberation."""

    def __init__(self, template: str, *, special: bool = False) -> None:
        super().__init__(template)
        self.tokenizer.add_tokens(["<think>", "</think>"], special_tokens=special)
        self.options: list[dict[str, Any]] = []

    def apply_chat_template(
        self, conversations: list[list[dict[str, Any]]], **options: Any
    ) -> Inputs:
        self.options.append(options)
        inputs = super().apply_chat_template(conversations)
        if str(self.chat_template).endswith("<think>"):
            (mark,) = self.tokenizer("<think>", add_special_tokens=False).input_ids
            column = torch.full((len(conversations), 1), mark)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], column], 1)
        return inputs


@pytest.mark.parametrize("special", [False, True], ids=["words", "special tokens"])
@pytest.mark.parametrize(
    ("template", "said", "caption"),
    [
        ("talk", "a red circle", "a red circle"),
        ("talk <think>", "is there a photo ? </think> a red circle", "a red circle"),
        ("talk", "<think> is it red </think> a red circle", "a red circle"),
        ("talk <think>", "a red circle", "a red circle"),
        ("talk", "<think> is it red ? there is a", None),
    ],
)
def test_deliberation_is_no_caption(
    template: str, said: str, caption: str | None, special: bool
) -> None:
    """What comes after it is; one that the template began is over before it is said."""
    looker = Thinker(template, special=special)
    speaker = Speaker({0: (said, said)})
    speaker.tokenizer = looker.tokenizer
    (got,) = Captioner(speaker, looker).caption([flat(0)])
    if caption is None:
        assert isinstance(got, CandidateError)
        assert Status.CAPTION_FAILED is got.status
    else:
        assert caption == got


class OnlyDecodes:
    """A tokenizer that turns tokens into a text, and no text into tokens."""

    padding_side, pad_token_id, unk_token_id = "left", 0, 1

    def __init__(self, text: str) -> None:
        self.text = text

    def batch_decode(self, rows: Any, **_options: Any) -> list[str]:
        return [self.text for _ in rows]


class PlainLooker:
    """Stands in for a processor of which only the template is known."""

    chat_template = "talk <think>"

    def __init__(self, said: str) -> None:
        self.tokenizer = OnlyDecodes(said)

    def apply_chat_template(self, talks: Sequence[Any], **_options: Any) -> Inputs:
        pixels = torch.zeros(len(talks), dtype=torch.long)
        return Inputs(pixel_values=pixels, input_ids=torch.ones(len(talks), 3).long())


@pytest.mark.parametrize(
    ("said", "caption"),
    [("is it red ? </think> a red circle", "a red circle"), ("<think> is it", None)],
)
def test_who_cannot_be_told_to_stop_thinking_is_cut_off(
    said: str, caption: str | None
) -> None:
    """What ends a deliberation cannot be written by a tokenizer that only decodes."""
    captioner = Captioner(Speaker({0: (said, said)}), PlainLooker(said))
    (got,) = captioner.caption([flat(0)])
    assert got == caption if caption else isinstance(got, CandidateError)


def test_who_thinks_on_request_only_is_not_asked_to() -> None:
    """The option is given where the template has one."""
    for template, told in (("talk", None), ("{% if enable_thinking %}", False)):
        looker = Thinker(template)
        speaker = Speaker({0: ("a red circle",)})
        speaker.tokenizer = looker.tokenizer
        Captioner(speaker, looker).caption([flat(0)])
        assert told is looker.options[0].get("enable_thinking")
