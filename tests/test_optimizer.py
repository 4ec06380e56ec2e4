"""The optimizer writes from the incumbent, and only what is new comes out."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.example_selectors import (
    MaxMarginalRelevanceExampleSelector,
    SemanticSimilarityExampleSelector,
)
from langchain_core.vectorstores import InMemoryVectorStore
from PIL import Image

from socratic_agents.agents.attempts import attempt, attempts
from socratic_agents.agents.images import BELOW
from socratic_agents.agents.optimizer import SOFTER, Rewrites, optimizer
from socratic_agents.core.checklist import Answer, Checklist, Question, YesNo
from socratic_agents.core.errors import (
    AnswerError,
    CallError,
    ConfigurationError,
    TemplateError,
)
from socratic_agents.core.history import Candidate, History, Round, Status, Verdict
from socratic_agents.llm.retry import RetryPolicy
from socratic_agents.llm.template_files import find_template
from tests.fakes import ScriptedChatModel, drawn, failed, history

DEFAULT = find_template("optimizer", "default")
FEW_SHOT = find_template("optimizer", "few_shot")
VISION = find_template("optimizer", "vision")
CHECKLIST = Checklist(
    questions=tuple(
        Question(text=f"Is there {thing}?", requirement=thing)
        for thing in ("a dog", "a cat", "snow")
    )
)


def said(*prompts: str) -> dict[str, Any]:
    return {"prompts": list(prompts)}


def answered(*told: YesNo) -> tuple[Answer, ...]:
    """Return what an image answers to the checklist."""
    return CHECKLIST.resolved([Answer(said=one) for one in told])


def blocks(name: str, text: str) -> list[str]:
    """Return what stands in each block of this name."""
    return re.findall(f"<{name}>(.*?)</{name}>", text, re.DOTALL)


async def test_it_writes_from_the_incumbent() -> None:
    """The model sees the best candidate, not the latest, and what is missing."""
    past = history(
        "a dog and a cat",
        drawn("a dog and a cat", "a cat", score=0.5),
        drawn("a dog beside a cat", "a dog", score=0.8125),
        drawn("dog, cat", "a mouse", score=0.25),
        satisfied=False,
        missing=("a cat", " "),
    )
    llm = ScriptedChatModel(script=[said("a cat beside a dog")])
    assert ("a cat beside a dog",) == await optimizer(llm, DEFAULT)(past)
    text = llm.last_question
    assert ["a dog and a cat"] == blocks("user_prompt", text)
    (incumbent,) = blocks("incumbent", text)
    assert ["a dog beside a cat"] == blocks("prompt", incumbent)
    assert ["0.812"] == blocks("score", incumbent)
    assert ["a cat"] == blocks("missing", text)
    (tried,) = blocks("history", text)
    assert ["0.250", "0.500", "0.812"] == blocks("score", tried)
    assert ["1"] == blocks("number_of_prompts", text)


@pytest.mark.parametrize("name", ["default", "few_shot", "vision"])
async def test_the_attempts_tell_what_they_passed(name: str) -> None:
    """Each image's requirements stand beside its prompt; nobody's guess does."""
    best = drawn("dog", score=0.9, answers=answered(YesNo.YES, YesNo.NO, YesNo.UNKNOWN))
    worse = drawn("cat", score=0.5, answers=answered(YesNo.NO, YesNo.YES, YesNo.NO))
    unasked = drawn("mud", score=0.1)
    past = replace(history("a dog", best, worse, unasked), checklist=CHECKLIST)
    llm = ScriptedChatModel(script=[said("a big dog")])
    await optimizer(llm, find_template("optimizer", name))(past)
    (tried,) = blocks("history", llm.last_question)
    first, second, third = blocks("attempt", tried)
    assert ([], []) == (blocks("passed", first), blocks("failed", first))
    assert (["a cat"], ["a dog; snow"]) == (
        blocks("passed", second),
        blocks("failed", second),
    )
    assert (["a dog"], ["a cat"]) == (blocks("passed", third), blocks("failed", third))


async def test_what_was_said_about_an_image_is_no_new_prompt() -> None:
    """Weak models send the caption, or what is missing, back as a prompt."""
    llm = ScriptedChatModel(script=[said("A thing", "a hat", "a dog in a hat")])
    past = history("a dog", drawn("a dog")).judged(
        Verdict(satisfied=False, missing=("a hat",))
    )
    got = await optimizer(llm, DEFAULT, prompts=3)(past)
    assert ("a dog in a hat",) == got


async def test_one_prompt_may_come_without_its_list() -> None:
    """A text in place of the list is the one prompt that it can only be."""
    llm = ScriptedChatModel(script=[{"prompts": "a big dog"}])
    got = await optimizer(llm, DEFAULT)(history("a dog", drawn("a dog")))
    assert ("a big dog",) == got


@pytest.mark.parametrize("first", ["a big dog", {"aim": "whole", "prompt": "one dog"}])
async def test_a_prompt_may_come_in_an_object(first: Any) -> None:
    """Many models write one about each prompt; what counts is the prompt."""
    llm = ScriptedChatModel(script=[{"reason": "so", "prompts": [first, "more"]}])
    got = await optimizer(llm, DEFAULT, prompts=2)(history("a dog", drawn("a dog")))
    assert (first if isinstance(first, str) else "one dog", "more") == got


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ([{"aim": "beauty"}], "prompts.0: Input should be"),
        ([7], "a prompt has no words"),
        (["?!"], "a prompt has no words"),
        (Rewrites.EXAMPLE["prompts"], "was already tried"),
    ],
    ids=["no prompt", "a number", "signs", "the example"],
)
async def test_an_answer_of_another_form_is_shown(wrong: Any, told: str) -> None:
    """Only prompts in a list are mended in silence, nothing else is."""
    script = [{"prompts": wrong}, said("a big dog")]
    llm = ScriptedChatModel(script=script)
    past = history("a dog", drawn("a dog"))
    assert ("a big dog",) == await optimizer(llm, DEFAULT)(past)
    assert told in llm.last_question


async def test_the_incumbents_image_is_sent_along() -> None:
    """A template that shows it gets the best image, and says where it stands."""
    image = Image.new("RGB", (8, 8))
    llm = ScriptedChatModel(script=[said("a big dog")])
    past = history("a dog", drawn("a dog", score=0.9, image=image), drawn("no dog"))
    assert ("a big dog",) == await optimizer(llm, VISION)(past)
    _, question = llm.asked[0]
    assert [BELOW] == blocks("image", question.text)
    kinds = [block["type"] for block in question.content_blocks]
    assert ["text", "text", "image"] == kinds


@pytest.mark.parametrize("candidate", [drawn("a dog"), failed("a dog")])
async def test_without_an_image_in_memory_the_words_do(candidate: Candidate) -> None:
    """No image is promised that does not come; it works from caption and scores."""
    llm = ScriptedChatModel(script=[said("a big dog")])
    past = history("a dog", candidate)
    assert ("a big dog",) == await optimizer(llm, VISION)(past)
    _, question = llm.asked[0]
    assert [] == blocks("image", question.text)
    assert isinstance(question.content, str)


@pytest.mark.parametrize(
    "name", ["base_lm", "classic", "default", "few_shot", "history", "no_caption"]
)
async def test_each_template_gets_what_it_declares(name: str) -> None:
    """Every shipped template works with the same optimizer."""
    llm = ScriptedChatModel(script=[said("a big dog")])
    write = optimizer(llm, find_template("optimizer", name))
    past = history("a dog", drawn("a dog", "a cat", score=0.1), satisfied=False)
    assert ("a big dog",) == await write(past)
    asked = "\n".join(message.text for message in llm.asked[0])
    assert ("<caption>a cat</caption>" in asked) == (name != "no_caption")


async def test_several_prompts_are_asked_for_in_one_call() -> None:
    """One call brings them all, in order, and never more than were asked for."""
    llm = ScriptedChatModel(script=[said("one", "two", "three", "four")])
    past = history("a dog", drawn("a dog"))
    assert ("one", "two", "three") == await optimizer(llm, DEFAULT, prompts=3)(past)
    assert ["3"] == blocks("number_of_prompts", llm.last_question)


async def test_what_is_not_worth_an_image_is_left_out() -> None:
    """Said twice, tried before, empty, too long: none of these is drawn."""
    llm = ScriptedChatModel(
        script=[
            said(
                "A  dog",
                "",
                " \n",
                "the lost one",
                "a new dog",
                "a NEW\ndog ",
                "one two three four five",
            )
        ]
    )
    past = history("a dog", [drawn("a dog"), failed("the lost one")])
    write = optimizer(llm, DEFAULT, prompts=5, max_words=4)
    assert ("a new dog",) == await write(past)
    assert "at most 4 words" in llm.asked[0][0].text


async def test_a_prompt_is_one_clean_line() -> None:
    """Line breaks become spaces, and control characters do not reach the generator."""
    llm = ScriptedChatModel(script=[said("a\tdog\x00 \x1b[31min\r\n snow")])
    got = await optimizer(llm, DEFAULT)(history("a dog", drawn("a dog")))
    assert ("a dog [31min snow",) == got


@pytest.mark.parametrize(
    "written",
    [
        "<history> a red dog",
        "<prompt>a red dog</prompt>",
        "<Example1> a red dog <examples>",
    ],
)
async def test_marks_of_the_template_are_no_part_of_a_prompt(written: str) -> None:
    """A small model copies them; the words between them are its prompt."""
    llm = ScriptedChatModel(script=[said(written)])
    assert ("a red dog",) == await optimizer(llm, DEFAULT)(history("a dog"))


async def test_other_marks_stay() -> None:
    """Image models have marks of their own."""
    llm = ScriptedChatModel(script=[said("a dog <lora:oil:0.8> <b>")])
    written = await optimizer(llm, DEFAULT)(history("a dog"))
    assert ("a dog <lora:oil:0.8> <b>",) == written


@pytest.mark.parametrize("same", ["a dog.", '"A dog"', " a dog , ", "<prompt>a dog"])
async def test_another_full_stop_is_no_new_prompt(same: str) -> None:
    """What only differs around the words is not drawn and paid for again."""
    llm = ScriptedChatModel(script=[said(same, "a red dog")])
    write = optimizer(llm, DEFAULT, prompts=2)
    assert ("a red dog",) == await write(history("a dog", drawn("a dog")))


async def test_who_repeats_a_prompt_is_asked_for_a_paraphrase() -> None:
    """Before anybody else writes one."""
    llm = ScriptedChatModel(script=[said("a dog"), said("the picture of a dog")])
    write = optimizer(llm, DEFAULT)
    past = history("a dog", drawn("a dog"))
    assert ("the picture of a dog",) == await write(past)
    assert "say the best prompt in other words" in llm.last_question


async def test_nothing_new_is_a_mistake_that_is_shown() -> None:
    """The model is told why nothing of it can be used, and writes again."""
    llm = ScriptedChatModel(script=[said("a dog", ""), said(), said("a big dog")])
    past = history("a dog", drawn("a dog"))
    assert ("a big dog",) == await optimizer(llm, DEFAULT)(past)
    first, second = llm.asked[1][-1].text, llm.asked[2][-1].text
    assert "'a dog' was already tried; a prompt has no words" in first
    assert "the list of prompts is empty" in second


async def test_nothing_new_at_all_is_an_error() -> None:
    """After two validation retries it is the model's failure, with its words kept."""
    llm = ScriptedChatModel(script=[said("one two three")] * 3)
    write = optimizer(llm, DEFAULT, max_words=2)
    with pytest.raises(AnswerError, match="3 words, more than 2") as caught:
        await write(history("a dog", drawn("a dog")))
    assert "one two three" in caught.value.raw


async def test_without_an_incumbent_it_still_writes() -> None:
    """Where nothing could be drawn, the user prompt is all that there is."""
    llm = ScriptedChatModel(script=[said("a big dog")])
    past = history("a dog", failed("a dog"))
    assert ("a big dog",) == await optimizer(llm, DEFAULT)(past)
    assert [] == blocks("incumbent", llm.last_question)


async def test_what_was_withheld_is_to_be_said_in_harmless_words() -> None:
    """The optimizer is told why there is no image."""
    llm = ScriptedChatModel(script=[said("a red apple")])
    withheld = Candidate(prompt="a cat", seed=0, status=Status.SAFETY_FILTERED)
    rewrite = optimizer(llm, find_template("optimizer", "default"))
    await rewrite(history("a cat", withheld, satisfied=None))
    assert SOFTER in llm.last_question


async def test_user_text_cannot_become_template() -> None:
    """Mustache in a user prompt and a caption reaches the model as it was written."""
    nasty = "{{#history}}{{{user_prompt}}}{{/history}} & {{missing}}"
    llm = ScriptedChatModel(script=[said("a dog")])
    await optimizer(llm, DEFAULT)(history(nasty, drawn(nasty, nasty, score=1.0)))
    assert [nasty] == blocks("user_prompt", llm.last_question)
    assert [nasty] * 2 == blocks("caption", llm.last_question)


BANK = [
    {"user_prompt": "a crimson ball", "prompt": "a red circle", "source": "x"},
    {"user_prompt": "an azure box", "prompt": "a blue square", "caption": "a box"},
    {"user_prompt": "a jade hoop", "prompt": "a green ring", "caption": ""},
]


class Sync:
    """A selector that is only there synchronously."""

    def select_examples(self, query: dict[str, str]) -> list[dict[str, str]]:
        assert {"user_prompt": "a dog"} == query
        return BANK[:1]


def _similar() -> Any:
    return SemanticSimilarityExampleSelector.from_examples(
        BANK, DeterministicFakeEmbedding(size=8), InMemoryVectorStore, k=1
    )


def _similar_by_key() -> Any:
    return SemanticSimilarityExampleSelector.from_examples(
        BANK,
        DeterministicFakeEmbedding(size=8),
        InMemoryVectorStore,
        k=1,
        input_keys=["user_prompt"],
    )


def _diverse() -> Any:
    return MaxMarginalRelevanceExampleSelector.from_examples(
        BANK, DeterministicFakeEmbedding(size=8), InMemoryVectorStore, k=1, fetch_k=3
    )


@pytest.mark.parametrize("make", [Sync, _similar, _similar_by_key, _diverse])
async def test_examples_come_from_a_selector(make: Any) -> None:
    """Any LangChain example selector takes the place of the file's examples."""
    llm = ScriptedChatModel(script=[said("a big dog")])
    write = optimizer(llm, FEW_SHOT, example_selector=make())
    await write(history("a dog", drawn("a dog")))
    (example,) = blocks("example", llm.last_question)
    (prompt,) = blocks("prompt", example)
    assert prompt in {entry["prompt"] for entry in BANK}


async def test_the_most_similar_example_is_shown() -> None:
    """What was asked selects the example."""
    llm = ScriptedChatModel(script=[said("a big dog")])
    write = optimizer(llm, FEW_SHOT, example_selector=_similar_by_key())
    await write(history("an azure box", drawn("an azure box")))
    (example,) = blocks("example", llm.last_question)
    assert ["a blue square"] == blocks("prompt", example)
    assert ["a box"] == blocks("caption", example)


class Failing:
    def __init__(self, *problems: Exception) -> None:
        self.problems = list(problems)

    async def aselect_examples(self, query: dict[str, str]) -> list[dict[str, str]]:
        if self.problems:
            raise self.problems.pop(0)
        return BANK[:2]


async def no_sleep(seconds: float) -> None:
    """Wait for nothing."""


async def test_a_selector_whose_line_is_bad_is_asked_again() -> None:
    """Embeddings come over the network too; for good, it is a failed call."""
    retries = RetryPolicy(sleep=no_sleep)
    llm = ScriptedChatModel(script=[said("a big dog")])
    flaky = Failing(TimeoutError(), ConnectionError())
    write = optimizer(llm, FEW_SHOT, example_selector=flaky, retries=retries)
    await write(history("a dog", drawn("a dog")))
    assert 2 == len(blocks("example", llm.last_question))
    broken = Failing(ValueError("no index"))
    write = optimizer(llm, FEW_SHOT, example_selector=broken, retries=retries)
    with pytest.raises(CallError, match="no index"):
        await write(history("a dog", drawn("a dog")))


async def test_examples_of_another_kind_are_refused() -> None:
    """A bank with other keys is named, and so are its keys."""

    class Other:
        def select_examples(self, query: dict[str, str]) -> list[dict[str, str]]:
            return [{"question": "q", "answer": "a"}]

    write = optimizer(ScriptedChatModel(), FEW_SHOT, example_selector=Other())
    with pytest.raises(TemplateError, match="got question, answer; name its keys so"):
        await write(history("a dog", drawn("a dog")))


def test_settings_that_contradict_are_refused(tmp_path: Any) -> None:
    """Each is found when the optimizer is made, before anything is drawn."""
    llm = ScriptedChatModel()
    with pytest.raises(ConfigurationError, match="prompts of at least 1, got 0"):
        optimizer(llm, DEFAULT, prompts=0)
    with pytest.raises(ConfigurationError, match="max_words of at least 1, got -1"):
        optimizer(llm, DEFAULT, max_words=-1)
    with pytest.raises(TemplateError, match="shows examples for the example selector"):
        optimizer(llm, DEFAULT, example_selector=Sync())
    with pytest.raises(TemplateError, match="template for the optimizer"):
        optimizer(llm, find_template("judge", "default"))
    text = (
        "description: d\nvariables: [examples]\nmessages:\n"
        "  - {role: human, text: '{{#examples}}{{{prompt}}}{{/examples}}'}\n"
    )
    bare = tmp_path / "bare.yaml"
    bare.write_text(text, encoding="utf-8")
    with pytest.raises(TemplateError, match="expected examples"):
        optimizer(llm, find_template("optimizer", bare))
    optimizer(llm, find_template("optimizer", bare), example_selector=Sync())


def test_the_history_is_short_and_ascending() -> None:
    """The five best and the latest, from the worst to the best."""
    scores = (0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4, 0.05)
    rounds = [drawn(f"prompt {s}", "c", score=s) for s in scores]
    shown = [entry["prompt"] for entry in attempts(history("a dog", *rounds))]
    assert [f"prompt {s}" for s in (0.05, 0.4, 0.6, 0.7, 0.8, 0.9)] == shown
    assert [] == attempts(history("a dog", failed("a dog")))


def test_a_score_that_is_no_number_is_not_shown() -> None:
    """Nothing is invented for a model to believe."""
    (shown,) = attempts(history("a dog", drawn("a dog", None, score=float("nan"))))
    bare = {"caption": "", "score": "", "guidance": "", "passed": "", "failed": ""}
    assert {"prompt": "a dog", **bare} == shown


def test_what_an_image_answered_is_shown_only_with_its_checklist() -> None:
    """Answers mean nothing without their questions."""
    candidate = drawn("a dog", answers=answered(YesNo.YES, YesNo.NO, YesNo.UNKNOWN))
    assert ("", "") == (attempt(candidate)["passed"], attempt(candidate)["failed"])
    told = attempt(candidate, CHECKLIST)
    assert ("a dog", "a cat") == (told["passed"], told["failed"])


PROMPTS = st.sampled_from(["a dog", "A  dog", "a cat", "snow", "a dog in snow", "b"])
CANDIDATES = st.builds(
    drawn, PROMPTS, st.none() | st.just("c"), score=st.none() | st.floats(0, 1)
) | st.builds(failed, PROMPTS)


@given(st.lists(st.lists(CANDIDATES, min_size=1, max_size=3), max_size=6))
def test_the_incumbent_is_the_last_attempt(groups: list[list[Candidate]]) -> None:
    """Attempts are distinct, at most six, ascending, and end with the incumbent."""
    past = History(
        user_prompt="a dog",
        rounds=tuple(Round(candidates=tuple(group)) for group in groups),
    )
    shown = attempts(past)
    assert 6 >= len(shown)
    names = [" ".join(entry["prompt"].split()).casefold() for entry in shown]
    assert len(set(names)) == len(names)
    scores = [float(entry["score"]) for entry in shown if entry["score"]]
    assert sorted(scores) == scores
    assert (past.incumbent is None) == (not shown)
    if past.incumbent is not None:
        assert past.incumbent.prompt == shown[-1]["prompt"]


@given(st.lists(st.text(max_size=12) | PROMPTS, max_size=6), st.integers(1, 3))
async def test_only_new_prompts_come_out(prompts: list[str], number: int) -> None:
    """Whatever a model writes: new, clean, distinct prompts come out, or an error."""
    llm = ScriptedChatModel(script=[said(*prompts)] * 3)
    past = history("a dog", drawn("a dog"), drawn("a cat"))
    try:
        got = await optimizer(llm, DEFAULT, prompts=number, max_words=3)(past)
    except AnswerError:
        assert 2 == len(llm.asked), "it said the same again"
        return
    assert 1 <= len(got) <= number
    assert len(got) == len({prompt.casefold() for prompt in got})
    for prompt in got:
        assert prompt.casefold() not in {"a dog", "a cat"}
        assert 1 <= len(prompt.split()) <= 3
        assert prompt.isprintable()


def test_the_answer_is_fit_for_strict_schemas() -> None:
    """No defaults and no extra fields: what strict servers insist on."""
    schema = Rewrites.model_json_schema()
    for part in (schema,):
        assert set(part["properties"]) == set(part["required"])
        assert part["additionalProperties"] is False
