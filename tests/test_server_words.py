"""What a server says in an error is told, whatever its shape, and never a key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIStatusError

from socratic_agents import Settings
from socratic_agents.core.text import PAGE, words_of
from socratic_agents.llm.failures import describe
from socratic_agents.runtime.language_model import open_language_model
from tests.loopback import Loopback, Reply

SAID = "the prompt is too rude, sir"


@pytest.mark.parametrize(
    "body",
    [
        SAID,
        {"reason": SAID},
        {"errors": [SAID]},
        {"error": {"type": "rude", "info": {"why": SAID}}},
        {"fault": {"faultstring": SAID, "code": 7}},
        {"title": "Bad", "status": 400, "description": f"{SAID}."},
        {"base_resp": {"status_msg": SAID}},
        [{"explanation": [SAID]}],
        f"<html><head><style>p {{}}</style></head><body><p>{SAID}</p></body></html>",
    ],
)
def test_words_are_found_wherever_they_stand(body: Any) -> None:
    """Where there is no usual member, any text is better than none."""
    assert SAID == words_of(body, anywhere=True)


def test_what_was_sent_is_not_repeated() -> None:
    """A server that sends the request back is quoted without it."""
    body = {"input": "a secret ball", "messages": ["a secret ball"], "why": SAID}
    assert SAID == words_of(body, anywhere=True)


def test_codes_stand_in_for_sentences() -> None:
    """Where a server has only codes, they are told."""
    assert "rude_prompt. E7" == words_of(
        {"kind": "rude_prompt", "number": "E7", "n": 7}, anywhere=True
    )
    assert not words_of({"n": 7, "deep": {"deeper": None}}, anywhere=True)


def test_only_usual_members_count_where_no_error_is() -> None:
    """What is no error may hold anything, images for example."""
    assert not words_of({"images": ["aGVsbG8="]})


def test_a_page_without_an_end_takes_no_time() -> None:
    """Only its beginning is looked through."""
    assert len(words_of("<script" * 100_000, anywhere=True)) <= PAGE


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_body_is_read(body: Any) -> None:
    """No shape is an error of its own, and words stay on one line."""
    words = words_of(body, anywhere=True)
    assert words == " ".join(words.split())


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (
            403,
            "this model is not enabled here",
            "HTTP 403 (this model is not enabled here)",
        ),
        (401, "Incorrect API key provided: sk-l**********fXYZ", "HTTP 401"),
        (403, "sk-l...fXYZ may not", "HTTP 403"),
        (403, "what you sent, sk-live-0123456789abcdefXYZ, may not", "HTTP 403"),
        (400, "sk-live-0123456789abcdefXYZ may not", "HTTP 400 ([key] may not)"),
    ],
)
async def test_a_refusal_is_quoted_unless_it_may_hold_the_key(
    status: int, said: str, told: str
) -> None:
    """What a key may not do is told; what the key is, in no part."""
    key = "sk-live-0123456789abcdefXYZ"
    reply = Reply(json.dumps({"error": {"message": said}}), status=status)
    with Loopback(reply) as server:
        settings = Settings(llm="openai:a", base_url=server.base_url, api_key=key)
        with pytest.raises(APIStatusError) as caught:
            await open_language_model(settings).ainvoke("?")
    assert told == describe(caught.value)
