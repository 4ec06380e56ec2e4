"""ResponseCache: an answer that is known is not paid for again, whatever it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel, ConfigDict

from socratic_agents.core.budget import Budget
from socratic_agents.core.errors import AnswerError, BudgetError
from socratic_agents.llm.cache import ResponseCache, current_cache, using_cache
from socratic_agents.llm.usage import UsageMeter, using_meter
from socratic_agents.storage.journal import Journal
from tests.fakes import TextModel, ask_structured

if TYPE_CHECKING:
    from pathlib import Path


class Reply(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="forbid")

    word: str


def said(text: str, **more: Any) -> AIMessage:
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    return AIMessage(text, usage_metadata=usage, **more)


def model(*script: Any) -> TextModel:
    return TextModel(script=list(script))


async def asked(
    folder: Path, llm: TextModel, question: str = "why ?", **who: Any
) -> tuple[Reply, UsageMeter]:
    """Ask once, in a process of its own as it were."""
    with (
        Journal(folder) as journal,
        using_cache(ResponseCache(journal=journal, model_identity=who)),
        using_meter() as meter,
    ):
        return await ask_structured(llm, [HumanMessage(question)], Reply), meter


async def test_a_known_answer_is_not_asked_for_again(tmp_path: Path) -> None:
    """It is read, and counted, as if it had just been said."""
    llm = model(said('{"word": "so"}'))
    for _ in range(2):
        reply, meter = await asked(tmp_path, llm)
        assert "so" == reply.word
        assert (1, 5, 2) == (meter.llm_calls, meter.input_tokens, meter.output_tokens)
    assert 1 == len(llm.asked)


async def test_a_wrong_answer_is_known_too(tmp_path: Path) -> None:
    """It was paid for: its repair is shown the same mistake, and is known as well."""
    llm = model(said("what ?"), said('{"word": "so"}'))
    for _ in range(2):
        reply, meter = await asked(tmp_path, llm)
        assert ("so", 2) == (reply.word, meter.llm_calls)
    assert 2 == len(llm.asked)


async def test_a_refusal_is_known_too(tmp_path: Path) -> None:
    """And told alike."""
    no = said("", additional_kwargs={"refusal": "I will not"})
    llm = model(no)
    for _ in range(2):
        with pytest.raises(AnswerError, match="I will not"):
            await asked(tmp_path, llm)
    assert 1 == len(llm.asked)


async def test_an_answer_that_was_cut_off_stays_one(tmp_path: Path) -> None:
    """What the provider says about it is kept with it."""
    cut = said('{"word": "s', response_metadata={"finish_reason": "length"})
    llm = model(cut, cut)
    for _ in range(2):
        with pytest.raises(AnswerError, match="cut off"):
            await asked(tmp_path, llm)
    assert 2 == len(llm.asked)


async def test_other_questions_and_models_are_asked(tmp_path: Path) -> None:
    """An answer belongs to one model and one question."""
    llm = model(*[said('{"word": "so"}')] * 3)
    await asked(tmp_path, llm)
    await asked(tmp_path, llm, "how ?")
    await asked(tmp_path, llm, model="another")
    assert 3 == len(llm.asked)


async def test_a_budget_holds_for_known_answers(tmp_path: Path) -> None:
    """So a run that is gone on with decides as if nothing had happened."""
    llm = model(said('{"word": "so"}'))
    await asked(tmp_path, llm)
    with (
        Journal(tmp_path) as journal,
        using_cache(ResponseCache(journal=journal, model_identity={})),
        using_meter(UsageMeter(budget=Budget(llm_calls=1))) as meter,
    ):
        meter.add_call()
        with pytest.raises(BudgetError):
            await ask_structured(llm, [HumanMessage("why ?")], Reply)


def test_nothing_is_cached_outside(tmp_path: Path) -> None:
    """Without a cache in force there is none."""
    cache = ResponseCache(journal=Journal(tmp_path), model_identity={})
    with using_cache(cache):
        assert cache is current_cache()
    assert current_cache() is None
