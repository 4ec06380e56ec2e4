"""Plain answers: what base models continue, and what chat models say without JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import LLM
from langchain_core.messages import AIMessage
from pydantic import Field

from socratic_agents.agents.judges import Judgement, caption_judge
from socratic_agents.agents.optimizer import Rewrites, optimizer
from socratic_agents.agents.registry import find_templates
from socratic_agents.config.settings import Settings
from socratic_agents.core.errors import AnswerError, ConfigurationError, TemplateError
from socratic_agents.llm.completion import CompletionModel
from socratic_agents.llm.template_files import find_template
from socratic_agents.pocket import PocketChatModel
from socratic_agents.runtime.language_model import open_language_model
from socratic_agents.runtime.refiner import Refiner
from tests.fakes import TextModel, drawn, history
from tests.loopback import Loopback, chat
from tests.test_structured import openai_model

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_core.callbacks import CallbackManagerForLLMRun

BASE_LM = find_template("optimizer", "base_lm")
PLAIN = find_template("judge", "plain")


class Continuing(LLM):
    """A base model: it continues texts, and knows nothing else."""

    script: list[str] = Field(default_factory=list)
    asked: list[tuple[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "continuing"

    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        self.asked.append((prompt, stop))
        return self.script.pop(0) if self.script else "a red circle"


def test_a_base_model_answers_those_who_do_not_await() -> None:
    """It continues the messages as one text."""
    llm = Continuing(script=["a blue box"])
    assert "a blue box" == CompletionModel(llm=llm).invoke("a red").text
    ((prompt, _),) = llm.asked
    assert "a red" in prompt


CONTINUED = """a big dog</prompt>
<prompt>one dog</prompt>
</prompts>
</example>
<example>
<user_prompt>a cat</user_prompt>
<prompts>
<prompt>a small cat</prompt>"""


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        (CONTINUED.partition("</prompts>")[0], ["a big dog", "one dog"]),
        ("1. a big dog\n2) 'one dog'\n", ["a big dog", "one dog"]),
        ("Here are the prompts:\n\n- “a big dog”\n* one dog", ["a big dog", "one dog"]),
        ("```\na 3 m dog\n```", ["a 3 m dog"]),
        ("12 dogs, 1.5 m high", ["12 dogs, 1.5 m high"]),
    ],
)
def test_prompts_are_read_line_by_line(text: str, prompts: list[str]) -> None:
    """Numbers, bullets, quotes, tags, fences and an introduction are no part of one."""
    assert prompts == Rewrites.from_text(text).prompts


@pytest.mark.parametrize("text", ["", "\n \n", "Here they are:", "</prompt>", "..."])
def test_where_no_prompt_is_there_is_no_answer(text: str) -> None:
    """An empty continuation is a mistake of the model's, and no empty prompt."""
    with pytest.raises(ValueError, match="expected prompts, one a line"):
        Rewrites.from_text(text)


@pytest.mark.parametrize(
    ("text", "satisfied", "reason"),
    [
        ("Yes", True, "it says yes"),
        ("no.", False, "it says no"),
        ("**Yes**, all is there", True, "all is there"),
        ("No, the hat is missing", False, "the hat is missing"),
        ("Answer: NO - a cat\nis drawn", False, "a cat is drawn"),
        ("no, yes is what I would say with a hat", False, None),
    ],
)
def test_the_first_word_counts(
    text: str, *, satisfied: bool, reason: str | None
) -> None:
    """In any case and in any dress; the rest is the reason."""
    if reason is None:
        with pytest.raises(ValueError, match="yes or no"):
            Judgement.from_text(text)
    else:
        read = Judgement.from_text(text)
        assert (satisfied, reason, []) == (read.satisfied, read.reason, read.missing)


@pytest.mark.parametrize(
    "text",
    [
        *("", "Yesterday it was there", "nothing is missing", "The answer is yes"),
        *("not yes", "yes or no?", "Yes/No", "no-one knows", "maybe", "now, yes"),
    ],
)
def test_a_word_inside_another_does_not_count(text: str) -> None:
    """Nor one that comes later, nor both."""
    with pytest.raises(ValueError, match="yes or no as the first word"):
        Judgement.from_text(text)


async def test_a_base_model_continues_the_record() -> None:
    """It gets one text and where to stop; what runs on is cut, what was tried is dropped."""
    llm = Continuing(script=[CONTINUED])
    write = optimizer(CompletionModel(llm=llm), BASE_LM, prompts=2)
    assert ("a big dog", "one dog") == await write(history("a dog", drawn("a dog")))
    ((text, stop),) = llm.asked
    assert text.endswith("<prompts>\n<prompt>")
    assert ["</prompts>", "<user_prompt>", "</example>"] == stop
    assert "JSON" not in text


async def test_a_base_model_is_not_shown_its_mistakes() -> None:
    """It knows no conversations; one wrong answer is the end of the call."""
    llm = Continuing(script=["  \n"])
    write = optimizer(CompletionModel(llm=llm), BASE_LM)
    with pytest.raises(AnswerError, match="expected prompts, one a line"):
        await write(history("a dog", drawn("a dog")))
    assert 1 == len(llm.asked)


@pytest.mark.parametrize(
    ("said", "satisfied"), [("Yes.\n<caption>", True), (" no\nyes", False)]
)
async def test_a_base_model_judges(said: str, *, satisfied: bool) -> None:
    """By the first word of what it continues."""
    judge = caption_judge(CompletionModel(llm=Continuing(script=[said])), PLAIN)
    verdict = await judge(history("a dog", drawn("a dog", "a dog")))
    assert verdict.satisfied is satisfied


async def test_a_chat_model_may_answer_plainly() -> None:
    """It is shown a mistake, thinks aloud, or answers in JSON all the same."""
    past = history("a dog", drawn("a dog", "a cat"))
    llm = TextModel(script=["Perhaps", "<think>yes? no</think>\n\nNo, a cat."])
    verdict = await caption_judge(llm, PLAIN)(past)
    assert (False, "a cat") == (verdict.satisfied, verdict.reason)
    assert "yes or no as the first word" in llm.last_question
    assert "JSON" not in llm.asked[0][-1].text
    written = TextModel(
        script=[{"reason": "so", "missing": ["a dog"], "satisfied": False}]
    )
    assert ("a dog",) == (await caption_judge(written, PLAIN)(past)).missing
    exact = PocketChatModel(error_rate=0)
    red = history("a crimson ball", drawn("a red circle", "a red circle"))
    assert (await caption_judge(exact, PLAIN)(red)).satisfied


async def test_what_breaks_off_is_read_as_far_as_it_goes() -> None:
    """Whole lines are; a part of JSON never is."""
    script = [
        AIMessage("a big dog\none do", response_metadata={"finish_reason": "length"}),
        '{"prompts": ["a big dog", "a sm',
        "a small dog",
    ]
    write = optimizer(TextModel(script=script), BASE_LM, prompts=2)
    past = history("a dog", drawn("a dog"))
    assert ("a big dog",) == await write(past)
    assert ("a small dog",) == await write(past)


async def test_a_plain_request_asks_for_no_method() -> None:
    """Over the wire there is no schema, no tool, and no word of JSON."""
    with Loopback(chat("no")) as server:
        judge = caption_judge(openai_model(server), PLAIN)
        await judge(history("a dog", drawn("a dog", "a cat")))
    (request,) = server.requests
    assert not {"response_format", "tools"} & set(request.body)


async def test_a_refinement_with_a_base_model_ends_with_an_image() -> None:
    """With who needs no JSON; whatever template is named, a plain one takes its place."""
    llm = Continuing()
    settings = Settings(llm=llm, judge="caption", selector="clip", guard=None, rounds=2)
    found = find_templates(settings)
    assert ["plain", "base_lm"] == [one.name for one in found.values()]
    assert isinstance(open_language_model(settings), CompletionModel)
    async with Refiner(settings) as refiner:
        refinement = await refiner.refine("a crimson ball above an azure box")
    assert refinement.best.image is not None
    prompts = {one.prompt for one in refinement.history.candidates}
    assert "a red circle" in prompts


def test_a_base_model_is_refused_where_json_is_needed() -> None:
    """The message names the role, and what would do."""
    with pytest.raises(ConfigurationError, match="chat model for the checklist, got"):
        find_templates(Settings(llm=Continuing()))


def test_a_role_without_plain_answers_refuses_such_a_template(tmp_path: Path) -> None:
    """Nobody would read what came."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "description: Mine.\nvariables: [user_prompt]\nanswer: text\nmessages:\n"
        "  - {role: human, text: '{{{user_prompt}}}'}\n"
    )
    assert () == find_template("judge", path).stop
    with pytest.raises(TemplateError, match="'answer: json' for the checklist"):
        find_template("checklist", path)
