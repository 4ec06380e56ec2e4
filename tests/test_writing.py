"""The writer: a captioner's language model, asked as a chat model is.

W1  A batch writes what its conversations alone are answered.
W2  What a schema is asked for, is JSON that fits it, even where it was cut off.
W3  Nobody's words pass for marks of the template.
"""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from socratic_agents.agents.checklist_answerers import Answers
from socratic_agents.agents.checklist_writer import Questions
from socratic_agents.agents.guard import Checks
from socratic_agents.agents.judges import Judgement
from socratic_agents.agents.optimizer import Rewrites
from socratic_agents.agents.selectors import Choice
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.llm.refusals import context_limit
from socratic_agents.llm.schemas import schema_of, untitled, with_sizes
from socratic_agents.models.captioning import Captioner
from socratic_agents.models.writing.requests import Turn, WriteRequest
from socratic_agents.models.writing.sampling import Row
from socratic_agents.models.writing.writer import Writer
from tests import tiny_captioners, tiny_eyes, tiny_models, tiny_writers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Note(BaseModel):
    """What the writer is asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(json_schema_extra={"maxLength": 30})
    numbers: list[int] = Field(json_schema_extra={"maxItems": 3})
    kind: str = Field(json_schema_extra={"enum": ["one", "other"]})


def form(answer: type[BaseModel]) -> str:
    return json.dumps(with_sizes(untitled(schema_of(answer, {}))))


def png(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(file, "PNG")
    return file.getvalue()


def asked(*parts: str | bytes, **options: Any) -> WriteRequest:
    turns = (Turn("system", ("Be brief.",)), Turn("user", parts))
    return WriteRequest(turns=turns, **{"max_tokens": 160, **options})


@pytest.fixture(scope="module")
def writer() -> Writer:
    return Captioner(*tiny_writers.writing_llava()).writer


@pytest.mark.parametrize("shown", [(), (png(),), (png(), png("blue"))])
def test_a_batch_writes_what_each_alone_is_answered(
    writer: Writer, shown: tuple[bytes, ...]
) -> None:
    """Neighbours change nothing: lengths, schemas, temperatures and limits differ."""
    options: tuple[dict[str, Any], ...] = (
        {"schema": form(Note)},
        {"schema": form(Note), "temperature": 1.0},
        {"schema": form(Choice), "temperature": 0.3},
        {"temperature": 1.5, "max_tokens": 12},
        {"max_tokens": 7, "temperature": 0.0},
    )
    requests = [
        asked("What is this?" * times, *shown, seed=times, **one)
        for times, one in enumerate(options, start=1)
    ]

    together = writer.write(requests)

    assert together == [writer.write([one])[0] for one in requests]
    for request, written in zip(requests, together, strict=True):
        assert written.output_tokens <= request.max_tokens
        if request.schema is None:
            assert "length" == written.finish
    Note.model_validate_json(together[0].text)
    assert [] == writer.write([])


@pytest.mark.parametrize(
    "answer", [Answers, Checks, Choice, Judgement, Questions, Rewrites]
)
@pytest.mark.parametrize("limit", [200, 700])
def test_all_roles_get_json_that_fits(
    writer: Writer, answer: type[BaseModel], limit: int
) -> None:
    """Random weights write nonsense in the right form; what is short of room says so."""
    requests = [
        asked("Answer.", schema=form(answer), max_tokens=limit, **chance)
        for chance in ({}, {"temperature": 1.0}, {"temperature": 1.0, "seed": 1})
    ]
    for written in writer.write(requests):
        answer.model_validate_json(written.text)
        # The last tokens of an answer that is cut off only close what it has opened.
        hurried = written.output_tokens > limit - min(128, limit // 2)
        assert ("length" == written.finish) == hurried


def test_the_seed_decides_where_chance_does(writer: Writer) -> None:
    """The same question twice is answered alike; another seed answers otherwise."""
    first, again, other = writer.write(
        [asked("?", temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    )
    assert first == again != other
    cold = writer.write([asked("?", seed=seed) for seed in (1, 2)])
    assert cold[0] == cold[1]


def test_chance_is_the_model_s_own_where_nobody_says_otherwise() -> None:
    """Temperature, top-k and top-p stand in a model's generation config."""
    model, processor = tiny_writers.writing_llava()
    model.generation_config.update(do_sample=True, temperature=0.9, top_k=1)
    writer = Writer(model, processor)

    assert writer.write([asked("?")]) == writer.write([asked("?", temperature=0.0)])

    model.generation_config.update(top_k=0, top_p=0.9)
    assert writer.write([asked("?")]) != writer.write([asked("?", temperature=0.0)])


def test_rare_tokens_are_left_out() -> None:
    """Of the likeliest tokens, as many are kept as have the asked share."""
    scores = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()

    def drawn(**options: Any) -> set[int]:
        row = Row(limit=9, temperature=1.0, **options)
        return {row.draw(scores) for _ in range(200)}

    assert {0, 1, 2, 3} == drawn()
    assert {0, 1} == drawn(top_p=0.6) == drawn(top_k=2)
    assert {0} == drawn(top_p=0.0001)


def test_words_are_no_marks(writer: Writer) -> None:
    """An image's mark, or the mark of the end, in a user prompt is left out."""
    harmless, mark = "a   and a  ", "a <image> and a </s>"

    first, second = writer.write([asked(harmless), asked(mark)])

    assert first == second
    assert writer.write([asked(mark, png())])[0].input_tokens > second.input_tokens


CHATTING = (
    *(
        "qwen2-vl",
        "qwen2.5-vl",
        "qwen3-vl",
        "qwen3-vl-thinking",
        "idefics2",
        "idefics3",
    ),
    *("gemma3", "gemma4", "llava-next", "llava-onevision", "internvl"),
)
"""Families of tiny eyes that have a chat template."""


@pytest.mark.parametrize("family", CHATTING)
def test_every_family_that_chats_writes(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no image, one or two, in a batch as alone, and in the form of its schema."""

    def of_bytes(_: Any) -> Any:
        tokenizer = tiny_models.byte_tokenizer()
        tokenizer.padding_side = "left"
        return tokenizer

    monkeypatch.setattr(tiny_models, "word_tokenizer", of_bytes)
    torch.manual_seed(0)
    writer = Captioner(*tiny_eyes.EYES[family]()).writer
    for shown in ((), (png(),), (png(), png("blue"))):
        requests = [
            asked("Why? " * n, *shown, schema=form(Note), temperature=1.0, seed=n)
            for n in (1, 2, 3)
        ]
        together = writer.write(requests)
        assert together == [writer.write([one])[0] for one in requests]
        for written in together:
            Note.model_validate_json(written.text)


def test_a_text_ends_an_answer(writer: Writer) -> None:
    """What stops it is no part of it, and what comes after is not written."""
    whole = writer.write([asked("?", temperature=1.0, max_tokens=60)])[0]
    stop = (whole.text[20], "never said")

    written = writer.write([asked("?", temperature=1.0, max_tokens=60, stop=stop)])[0]

    assert whole.text.partition(stop[0])[0] == written.text
    assert "stop" == written.finish
    assert written.output_tokens < whole.output_tokens


def test_a_request_beyond_the_context_says_how_much_fits() -> None:
    """In words that the caller of language models reads; what fits is answered."""
    writer = Writer(*tiny_writers.writing_llava(context=128))

    with pytest.raises(ValueError, match="128 tokens, and the request has") as caught:
        writer.write([asked("long " * 60)])
    assert 128 == context_limit(caught.value)

    (written,) = writer.write([asked("short", max_tokens=1000)])
    assert 128 >= written.input_tokens + written.output_tokens
    assert 128 == writer.context


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (asked("?", schema='{"type": "what"}'), "JSON schema that can be enforced"),
        (asked("?", b"no image"), "no whole PNG"),
    ],
    ids=["schema", "image"],
)
def test_what_cannot_be_asked_is_said(
    writer: Writer, request_: WriteRequest, problem: str
) -> None:
    """A wrong schema or file is an error of its request."""
    with pytest.raises(ValueError, match=problem):
        writer.write([request_])


def test_numbers_that_are_none_are_no_answer() -> None:
    """A model whose numbers overflow writes nothing, rather than nonsense."""
    model, processor = tiny_writers.writing_llava()
    torch.nn.init.constant_(model.lm_head.weight, torch.nan)

    with pytest.raises(ValueError, match="finite numbers"):
        Writer(model, processor).write([asked("?")])


def test_a_base_model_goes_on_with_a_transcript() -> None:
    """BLIP-2 has no chat template: with one image, and without, it writes all the same."""
    writer = Captioner(*tiny_writers.writing_blip2()).writer

    for shown in ((), (png(),)):
        requests = [asked("Say it." * n, *shown, schema=form(Note)) for n in (1, 2)]
        together = writer.write(requests)
        assert together == [writer.write([one])[0] for one in requests]
        for written in together:
            Note.model_validate_json(written.text)
    with pytest.raises(ValueError, match="one image"):
        writer.write([asked("Compare.", png(), png())])


@pytest.mark.parametrize(
    "build",
    [
        tiny_captioners.CAPTIONERS["git"],
        tiny_captioners.CAPTIONERS["blip"],
        tiny_captioners.CAPTIONERS["instruct-blip"],
    ],
    ids=["git", "blip", "words"],
)
def test_a_captioner_that_cannot_write_is_refused(
    build: Callable[[], tuple[Any, Any]],
) -> None:
    """It has no language model, or no tokens that JSON could be made of."""
    with pytest.raises(ConfigurationError, match="captioner that can write"):
        _ = Captioner(*build()).writer


def test_the_library_of_grammars_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What to install is one line."""
    monkeypatch.setitem(sys.modules, "llguidance.hf", None)
    with pytest.raises(ConfigurationError, match=r"socratic-agents\[local\]"):
        Writer(*tiny_writers.writing_llava())


def test_deliberation_that_a_template_begins_is_ended() -> None:
    """A model that always thinks first is asked for its answer at once."""
    thinking = tiny_writers.TEMPLATE.replace("assistant: {%", "assistant: <think>{%")
    switched = thinking.replace("<think>", "{{ '<think>' if enable_thinking else '' }}")
    tokens = {}
    for name, template in {
        "plain": tiny_writers.TEMPLATE,
        "always": thinking,
        "switched": switched,
    }.items():
        writer = Writer(*tiny_writers.writing_llava(template=template))
        tokens[name] = writer.write([asked("?", max_tokens=1)])[0].input_tokens

    assert len("<think>\n\n</think>\n\n") == tokens["always"] - tokens["plain"]
    assert tokens["plain"] == tokens["switched"]


def test_a_template_without_a_system_gets_its_words_from_the_user() -> None:
    """Nothing that the system says is lost where its role is not known."""
    refusing = (
        "{% for message in messages %}{% if message.role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}{% endfor %}"
        + tiny_writers.TEMPLATE
    )
    writer = Writer(*tiny_writers.writing_llava(template=refusing))
    alone = WriteRequest(turns=(Turn("system", ("Be brief.",)),), max_tokens=1)

    both = writer.write([asked("Why?", max_tokens=1)])[0]

    # Templates are rendered without the line's end that follows a block.
    assert len("user: Be brief.\n\nWhy?assistant: ") == both.input_tokens
    assert len("user: Be brief.assistant: ") == writer.write([alone])[0].input_tokens


def test_it_is_the_captioner_itself_that_writes(tmp_path: Path) -> None:
    """One set of weights captions, answers and writes, wherever it was loaded."""
    captioner = Captioner.load(str(tiny_writers.tiny_writer(tmp_path)))

    assert captioner.writer is captioner.writer
    assert captioner.writer._model is captioner._model
    assert captioner.caption([Image.new("RGB", (16, 16), "red")])
    assert captioner.writer.write([asked("?", schema=form(Note))])


def test_a_token_beside_the_schema_is_an_error(writer: Writer) -> None:
    """Nobody may go on with an answer that has left its form."""
    grammar = writer._grammars.begin(form(Note))
    with pytest.raises(ValueError, match="followed to its end"):
        grammar.advance(writer._tokenizer("x").input_ids[0])


def test_a_model_may_not_say_how_much_it_reads() -> None:
    """Then the limit of a request is its own."""
    writer = Writer(*tiny_writers.writing_llava(context=64))
    writer.context = None
    (written,) = writer.write([asked("?", max_tokens=100)])
    assert written.input_tokens + written.output_tokens > 64


def test_schemas_are_compiled_once(writer: Writer) -> None:
    """And the ones that were used last are kept."""
    grammars = writer._grammars
    grammars._compiled.clear()
    for number in range(70):
        grammars.begin(json.dumps({"type": "integer", "maximum": number}))
        grammars.begin(form(Note))
    assert 64 == len(grammars._compiled)
    assert form(Note) in grammars._compiled


def test_the_words_of_the_pocket_world_make_no_json(tmp_path: Path) -> None:
    """A tokenizer of whole words is refused when it is opened."""
    captioner = Captioner.load(str(tiny_models.tiny_blip2(tmp_path)))
    with pytest.raises(ConfigurationError, match="can write JSON"):
        _ = captioner.writer
