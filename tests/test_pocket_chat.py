"""The rule-based chat model: LangChain's standard tests, its rules, and its learning."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_tests.unit_tests import ChatModelUnitTests

from socratic_agents.agents.checklist_writer import checklist_writer
from socratic_agents.agents.guard import fidelity_guard
from socratic_agents.agents.judges import caption_judge
from socratic_agents.agents.optimizer import optimizer
from socratic_agents.agents.selectors import caption_selector
from socratic_agents.core.checklist import Answer, YesNo
from socratic_agents.core.errors import AnswerError
from socratic_agents.core.history import Candidate, History, Round
from socratic_agents.llm.template_files import find_template
from socratic_agents.pocket import PocketChatModel, sample_prompts
from socratic_agents.pocket.prompt_parser import parse_prompt
from socratic_agents.pocket.prompt_writer import phrase
from socratic_agents.pocket.synonyms import HELD_OUT, parse_known, slots, unknown_words
from socratic_agents.pocket.vocabulary import FOREIGN

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


class TestStandard(ChatModelUnitTests):
    """LangChain's standard unit tests of a chat model."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return PocketChatModel

    @property
    def has_tool_choice(self) -> bool:
        return True


def history(
    user_prompt: str, *attempts: tuple[str, str, float], seed: int = 0
) -> History:
    """Return a history of attempts: prompt, caption, score."""
    candidates = tuple(
        Candidate(prompt=prompt, seed=seed, caption=caption, scores={"clip": score})
        for prompt, caption, score in attempts
    )
    return History(user_prompt=user_prompt, rounds=(Round(candidates=candidates),))


exact = PocketChatModel(error_rate=0)


async def rewritten(past: History, template: str = "default", n: int = 4) -> Any:
    return await optimizer(exact, find_template("optimizer", template), prompts=n)(past)


async def test_says_foreign_words_in_the_generators_own() -> None:
    """A word that it knows is replaced by the word that the generator knows."""
    past = history("a crimson ball above an azure box", ("x", "a green ring", 0.1))

    assert "a red circle above a blue square" == (await rewritten(past))[0]


async def test_all_prompts_of_a_call_are_different() -> None:
    """As many prompts as were asked for, no two alike, all asking for the same."""
    past = history("a crimson ball above an azure box", ("x", "a green ring", 0.1))
    prompts = await rewritten(past, n=4)

    assert 4 == len(set(prompts))
    for prompt in prompts:
        assert {"red", "circle", "blue", "square"} <= set(prompt.split())


async def test_tries_what_an_untaught_word_could_mean() -> None:
    """For a word that it was not taught it proposes different meanings."""
    past = history("a salmon ball", ("a salmon ball", "a blue circle", 0.3))
    prompts = await rewritten(past, n=4)

    assert 4 == len({prompt.split()[1] for prompt in prompts})
    assert {"circle"} == {prompt.split()[2] for prompt in prompts}


async def test_tries_other_meanings_than_before() -> None:
    """As long as little was tried, all words take meanings that they had not yet."""
    past = history(
        "a salmon loop",
        ("a green circle", "a green circle", 0.2),
        ("a pink square", "a pink square", 0.6),
    )
    prompts = await rewritten(past, n=3)

    for prompt in prompts:
        colour, shape = prompt.split()[1:]
        assert colour not in {"green", "pink"}
        assert shape not in {"circle", "square"}


async def test_puts_together_what_scored_best() -> None:
    """Meanings that did well in different prompts are tried in one."""
    past = history(
        "a salmon loop",
        ("a red circle", "a red circle", 0.2),
        ("a blue cross", "a blue cross", 0.2),
        ("a cyan triangle", "a cyan triangle", 0.2),
        ("a green ring", "a green ring", 1.1),
        ("a pink square", "a pink square", 1.2),
    )
    prompts = await rewritten(past, n=4)

    assert {"a pink ring", "a green square"} == set(prompts[:2])


async def test_draws_the_best_guess_again_when_there_is_no_other() -> None:
    """When all meanings were tried, the best one is said in other words."""
    shapes = ("circle", "square", "triangle", "cross", "ring")
    past = history(
        "a red loop",
        *((f"a red {s}", f"a red {s}", 0.9 if s == "ring" else 0.1) for s in shapes),
    )
    prompts = await rewritten(past, n=3)

    assert all({"red", "ring"} <= set(prompt.split()) for prompt in prompts)


async def test_an_attempt_that_was_not_drawn_tells_nothing() -> None:
    """A meaning counts as tried only if the caption shows that it was drawn."""
    before = "a pink circle on a gray background"
    past = history("a salmon ball", (before, "a blue circle", 0.3))
    prompts = await rewritten(past, n=8)

    assert "pink" in {prompt.split()[1] for prompt in prompts}


async def test_learns_from_examples() -> None:
    """A word that an example explains is no longer guessed."""
    template = find_template("optimizer", "few_shot")
    examples = ({"user_prompt": "a salmon cone", "prompt": "a pink triangle"},)

    class Fixed:
        def select_examples(self, _: Any) -> Any:
            return examples

    write = optimizer(exact, template, prompts=1, example_selector=Fixed())
    past = history("a salmon ball", ("a salmon ball", "a blue circle", 0.3))

    assert ("a pink circle",) == await write(past)


@given(st.integers(0, 10_000))
def test_reads_the_kind_of_every_word_from_its_place(seed: int) -> None:
    """What an untaught word is (a colour, a shape) shows from where it stands."""
    (prompt,) = sample_prompts(1, seed, "foreign")
    spec = parse_known(prompt)
    assert spec is not None
    ours, true_answer = slots(spec), slots(parse_prompt(prompt))

    assert set(true_answer) == set(ours)
    for place, word in ours.items():
        assert word == true_answer[place] or word.removeprefix("?") in HELD_OUT


def test_was_not_taught_a_third_of_the_foreign_words() -> None:
    """One of every three foreign words is unknown to it; the others are not."""
    words = [word for three in FOREIGN.values() for word in three]
    specs = [parse_known(word) for word in words if word in HELD_OUT]

    assert len(words) == 3 * len(HELD_OUT)
    assert all(spec is None or unknown_words(spec) for spec in specs)


async def test_judges_by_the_caption() -> None:
    """A caption that shows everything satisfies; what it lacks is named."""
    judge = caption_judge(exact, find_template("judge", "default"))
    good = await judge(history("a ruby ball", ("x", "a large red circle", 0.9)))
    past = history("a crimson ball", ("x", "a large red circle", 0.9))
    right = await judge(past)
    past = history(
        "a crimson ball above a box on an ivory background",
        ("x", "a large red ring above a small blue square on a black background", 0.9),
    )
    wrong = await judge(past)

    assert not good.satisfied
    assert ("I do not know 'ruby'",) == good.missing
    assert right.satisfied
    assert not wrong.satisfied
    assert ("a red circle", "white background") == wrong.missing


async def test_a_turned_relation_does_not_satisfy() -> None:
    """Right objects in the wrong places are not what was asked for."""
    judge = caption_judge(exact, find_template("judge", "default"))
    past = history(
        "a crimson ball above an azure box",
        ("x", "a large red circle below a small blue square", 0.9),
    )
    verdict = await judge(past)

    assert not verdict.satisfied
    assert verdict.missing


async def test_judges_how_many_there_are() -> None:
    """A second object that nobody asked for is named; nonsense satisfies nobody."""
    judge = caption_judge(exact, find_template("judge", "default"))
    crowded = await judge(
        history("a red circle", ("x", "a red circle above a blue square", 0.9))
    )
    nonsense = await judge(history("a red circle", ("x", "circle " * 3, 0.9)))

    assert ("1 object(s)",) == crowded.missing
    assert nonsense.satisfied is False
    assert ("I do not understand the prompt or the caption.",) == nonsense.missing


async def test_writes_a_checklist() -> None:
    """Each part of the request becomes a question, in the words of the request."""
    write = checklist_writer(exact, find_template("checklist", "default"))
    found = await write("a crimson ball above an azure box")

    assert (
        *("a crimson thing", "a ball", "a crimson ball"),
        *("an azure thing", "a box", "an azure box"),
        *("two objects", "a ball above a box"),
    ) == tuple(question.requirement for question in found.questions)
    assert (0, 1) == found.questions[2].parents
    with pytest.raises(AnswerError, match="expected 3 to 10, got none"):
        await write("circle circle circle")


async def test_guards_rewrites() -> None:
    """What gives up a part of the request is mended, and what keeps it stays."""
    write = checklist_writer(exact, find_template("checklist", "default"))
    guard = fidelity_guard(exact, find_template("guard", "default"))
    prompt = "a crimson ball above an azure box"
    past = replace(history(prompt), checklist=await write(prompt))
    sound, lost = "a blue square below a red circle", "a red square"

    assert (sound, "a red circle above a blue square") == await guard(
        past, (sound, lost)
    )


@pytest.mark.parametrize("caption", ["a red circle", "", "circle circle circle"])
async def test_an_attempt_at_something_else_teaches_nothing(caption: str) -> None:
    """Another number of objects says nothing about the words that it lacks."""
    past = history("a salmon ball", ("a red circle above a blue box", caption, 0.3))
    prompts = await rewritten(past, n=8)

    assert {"circle"} == {prompt.split()[2] for prompt in prompts}
    # A caption is no prompt: it says what was drawn, and not what was asked.
    colours = {prompt.split()[1] for prompt in prompts}
    assert ("red" in colours) == (caption != "a red circle")


async def test_answers_on_an_attempt_narrow_a_word_down() -> None:
    """A colour that was looked for in vain is none of those that were there."""
    prompt = "a salmon ball"
    write = checklist_writer(exact, find_template("checklist", "default"))
    checklist = await write(prompt)
    said = [Answer(said=yes) for yes in (YesNo.NO, YesNo.YES, YesNo.YES, YesNo.YES)]
    (attempt,) = history(prompt, (prompt, "a pink circle", 0.3)).candidates
    attempts = [
        replace(attempt, prompt=f"a {colour} circle", caption=f"a {colour} circle")
        for colour in ("red", "blue", "green", "cyan")
    ]
    drawn = [replace(a, answers=checklist.resolved(said)) for a in attempts]
    past = History(
        user_prompt=prompt,
        rounds=(Round(candidates=tuple(drawn)),),
        checklist=checklist,
    )
    colours = {text.split()[1] for text in await rewritten(past, n=4)}

    assert {"pink", "orange", "yellow", "purple"} == colours


async def test_selects_the_caption_that_agrees_best() -> None:
    """Of several captions the one that shows most of what was asked is chosen."""
    past = history(
        "a crimson ball",
        ("a", "a blue ring", 0.9),
        ("b", "a small red circle", 0.1),
        ("c", "a red square", 0.5),
    )

    assert 1 == await caption_selector(exact, find_template("selector", "default"))(
        past
    )


async def test_is_wrong_at_the_stated_rate_and_repeatably() -> None:
    """About one answer in five is wrong at that rate, the same ones every time."""
    judge = caption_judge(
        PocketChatModel(error_rate=0.2), find_template("judge", "default")
    )
    prompts = sample_prompts(300, 1, "canonical")
    verdicts = [await judge(history(p, ("x", p, 0.5))) for p in prompts]
    again = [await judge(history(p, ("x", p, 0.5))) for p in prompts[:40]]
    wrong = sum(not verdict.satisfied for verdict in verdicts)

    assert 40 <= wrong <= 80
    assert verdicts[:40] == again


async def test_wrong_answers_stay_in_the_schema() -> None:
    """A wrong rewrite is a prompt, and a wrong choice is a number that was offered."""
    inject_error = PocketChatModel(error_rate=1)
    past = history("a crimson ball", ("a", "a blue ring", 0.9), ("b", "a ring", 0.1))
    prompts = await optimizer(inject_error, find_template("optimizer", "default"))(past)
    choice = await caption_selector(inject_error, find_template("selector", "default"))(
        past
    )

    assert 3 == len(prompts[0].split())
    assert choice in {0, 1}


@pytest.mark.parametrize(
    "template", ["default", "classic", "history", "few_shot", "no_caption", "base_lm"]
)
async def test_every_shipped_template_is_understood(template: str) -> None:
    """Whatever the words around the blocks, the rewrite is in canonical words."""
    past = history("a crimson ball", ("a crimson ball", "a blue ring", 0.2))

    assert "a red circle" == (await rewritten(past, template, n=1))[0]


async def test_nonsense_is_passed_on() -> None:
    """A prompt from outside the little world is not invented anew."""
    past = history("circle circle circle", ("x", "a blue ring", 0.2))

    assert ("a circle circle circle",) == await rewritten(past, n=1)


def test_answers_in_plain_json_without_a_schema() -> None:
    """Without tools the role shows from the blocks, and the answer is JSON."""
    asked = (
        "<user_prompt>a crimson ball</user_prompt><caption>a red circle</caption>"
        "<number_of_prompts>1</number_of_prompts>"
    )
    optimized = json.loads(str(exact.invoke(asked).content))
    judged = json.loads(
        str(exact.invoke(asked.split("<number", maxsplit=1)[0]).content)
    )

    assert "a red circle" == optimized["prompts"][0]
    assert judged["satisfied"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ("<user_prompt>a ball</user_prompt>\nWrite the checklist.", "questions"),
        (
            "<user_prompt>a ball</user_prompt>\n<rewrite><prompt>a disc</prompt></rewrite>",
            "checks",
        ),
    ],
)
def test_writes_and_checks_without_a_schema(asked: str, field: str) -> None:
    """The words of the template tell the role to those that send no schema."""
    answer = json.loads(str(exact.invoke(asked).content))

    assert [field] == list(answer)
    assert answer[field]


def test_a_schema_of_somebody_else_is_no_role() -> None:
    """Whose fields it does not know, it does not make answers up for."""

    @tool
    def weather(town: str) -> str:
        """Tell the weather."""
        return town

    answer = exact.bind_tools([weather]).invoke("Does it rain?")

    assert [] == answer.tool_calls
    assert "rule-based" in str(answer.content)


def test_says_what_it_is() -> None:
    """Asked anything else, it says that it is rule-based."""
    answer = exact.invoke("Who are you?")

    assert "rule-based" in str(answer.content)
    assert answer.usage_metadata is not None
    assert 3 == answer.usage_metadata["input_tokens"]


def test_plays_an_agent_with_image_tools() -> None:
    """With image tools it draws, looks at what came out, and tells."""

    @tool
    def generate_image(prompt: str) -> str:
        """Draw."""
        return prompt

    @tool
    def caption_image(image: str) -> str:
        """Look."""
        return image

    model = exact.bind_tools([generate_image, caption_image])
    drawn = model.invoke([HumanMessage("a red circle")])
    result = ToolMessage(
        "image 0123abcd", name="generate_image", tool_call_id=drawn.tool_calls[0]["id"]
    )
    looked = model.invoke([HumanMessage("a red circle"), drawn, result])
    seen = ToolMessage(
        "a red circle", name="caption_image", tool_call_id=looked.tool_calls[0]["id"]
    )
    told = model.invoke([HumanMessage("a red circle"), drawn, result, looked, seen])

    assert {"prompt": "a red circle"} == drawn.tool_calls[0]["args"]
    assert ("caption_image", {"image": "0123abcd"}) == (
        looked.tool_calls[0]["name"],
        looked.tool_calls[0]["args"],
    )
    assert "Here it is: a red circle" == told.content


@given(st.integers(0, 500), st.integers(1, 6))
async def test_rewrites_can_be_drawn(seed: int, n: int) -> None:
    """Every rewrite is within the generator's own words, however little is known."""
    (prompt,) = sample_prompts(1, seed, "foreign")
    rng = random.Random(seed)
    captions = sample_prompts(3, rng.randrange(100), "canonical")
    past = history(prompt, *((c, c, rng.random()) for c in captions))
    prompts = await rewritten(past, n=n)

    assert 1 <= len(prompts) <= n
    for rewrite in prompts:
        spec = parse_prompt(rewrite)
        again = phrase(spec)
        assert set(again.split()) <= set(rewrite.split()) | {"a", "an"}
