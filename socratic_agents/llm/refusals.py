"""What a server does not know of a request, or cannot take: reading its refusals.

Servers say it in words of their own, with one status or another.
"""

from __future__ import annotations

import re
from enum import StrEnum
from http import HTTPStatus

from socratic_agents.core.text import words_of
from socratic_agents.llm.failures import FailureKind, classify
from socratic_agents.network.server_errors import (
    ABOUT_KEYS,
    body_of,
    codes_of,
    error_of,
    status_of,
)

__all__ = ("Unsupported", "context_limit", "unexplained", "unsupported")

_METHOD = re.compile(
    r"response[_ ]?(?:format|schema)|json[_ -]?(?:schema|mode|object)|structured[_ -]?"
    r"output|guided[_ ](?:json|decoding)|grammar|outlines|additional ?properties|"
    r"tool[_ ]?(?:choice|use|call)|\btools\b|function[_ -]?call|requested parameters",
    re.IGNORECASE,
)
"""What a server names that does not know a method."""
_SYSTEM = re.compile(
    r"(?:system|developer)[ _-]?(?:role|message|prompt|instruction)s?\b.{0,60}?"
    r"(?:not|n't|un)[ -]?(?:\w+ )?(?:support|allow|enabled|permitted)|"
    r"(?:not|n't|un)[ -]?(?:\w+ )?support\w*.{0,40}?(?:system|developer)[ _-]?"
    r"(?:role|message|prompt|instruction)|roles must alternate|"
    r"role.{0,20}system.{0,40}(?:not|invalid|unknown|unexpected)|"
    r"role.{0,40}(?:not|invalid|unknown|unexpected).{0,20}system|"
    r"(?:invalid|unknown|unexpected|unsupported).{0,20}role.{0,20}system",
    re.IGNORECASE,
)
"""How a server says that its model knows no system messages."""
_SIZES = re.compile(r"(?:max|min)(?:Length|Items)|(?:max|min)_(?:length|items)")
"""What a server names that takes a schema, but no sizes in it."""
_EVIDENCE = re.compile(r"log[_ -]?prob", re.IGNORECASE)
"""What a server names that does not tell how likely other words were."""
_LIMIT = re.compile(
    r"max_(?:completion_|new_)?tokens.{0,80}?(?:not |n't |un|extra|invalid)|"
    r"(?:not |n't |un|extra|invalid)\w*.{0,80}?max_(?:completion_|new_)?tokens|"
    r"at most \d+ completion tokens",
    re.IGNORECASE | re.DOTALL,
)
"""How a server says that it knows no limit of tokens, or not this one."""
_OVERFLOW = re.compile(
    r"context[ _-]?(?:length|size|window|limit)|maximum model length|"
    r"(?:prompt|input|request|message|messages|inputs?.{0,2} tokens?)\b.{0,60}?"
    r"(?:too (?:long|large)|longer than|exceeds?\b|exceeded|must (?:be <=|have less))|"
    r"too many (?:input )?tokens|tokens? .{0,40}?exceeds?\b|"
    r"maximum number of (?:input )?tokens",
    re.IGNORECASE | re.DOTALL,
)
"""How a server says that a request is longer than what its model can read."""
_NUMBER = r"(?<![\d,.])(\d[\d,_]{2,})(?!\d|\.\d)"
_CAPACITY = tuple(
    re.compile(pattern.replace("NUMBER", _NUMBER), re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"(?:>|<=|less than|only)\s*NUMBER",
        r"NUMBER\s*(?:tokens? )?maximum",
        (
            r"(?:maximum|\bmax\b|limit|context|window|length of|exceeds?\b)"
            r"(?:(?!\bby\b|\brequest|\bresult)[^\d]){0,50}?NUMBER"
        ),
    )
)
"""How it says how much that would be, the clearest words first."""
_OTHER_CAUSE = re.compile(
    r"\bcontext\b|\btokens?\b|\bmodels?\b|too long|\bkey\b|credit|billing|quota|"
    r"temperature|\bimages?\b",
    re.IGNORECASE,
)
"""What a server names where a bad request is no matter of the method."""
_BAD_REQUEST = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)


class Unsupported(StrEnum):
    """What of a request a server does not know."""

    METHOD = "method"
    """The structured output that it was asked for."""
    SYSTEM = "system"
    """Messages of the system."""
    SIZES = "sizes"
    """What a schema says of how long a text or a list may be."""
    LIMIT = "limit"
    """How many tokens an answer may have at most."""
    EVIDENCE = "evidence"
    """How likely other first words were."""


def unsupported(
    problem: BaseException,
    *,
    method: bool,
    system: bool,
    sizes: bool = False,
    limit: bool = False,
    evidence: bool = False,
) -> Unsupported | None:
    """Return what of the request the server says that it does not know, if it does.

    The words decide and not the status: servers say it with 400, 404, 422 and 500.

    Args:
        problem: The client's exception.
        method: Whether the request asked for structured output.
        system: Whether it may have held a message of the system.
        sizes: Whether its schema said how long texts and lists may be.
        limit: Whether it said how many tokens the answer may have.
        evidence: Whether it asked how likely other first words were.
    """
    status = status_of(problem)
    kinds = {FailureKind.RETRY, FailureKind.FATAL}
    if status is None or status in ABOUT_KEYS or classify(problem) not in kinds:
        return None
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return None
    words = words_of(body_of(problem), anywhere=True) or str(problem)
    named = (
        (Unsupported.EVIDENCE, evidence, _EVIDENCE),
        (Unsupported.SIZES, sizes, _SIZES),
        (Unsupported.LIMIT, limit, _LIMIT),
        (Unsupported.SYSTEM, system, _SYSTEM),
        (Unsupported.METHOD, method, _METHOD),
    )
    found = (what for what, asked, says in named if asked and says.search(words))
    return next(found, None)


def context_limit(problem: BaseException) -> int | None:
    """Return how many tokens the model can read, where a request was longer.

    ``0``: it was longer, and the server does not say how much would fit. ``None``: that
    is not what failed.

    Args:
        problem: The client's exception; one of a model in this process counts too.
    """
    status = status_of(problem)
    words = words_of(body_of(problem), anywhere=True) or str(problem)
    error = error_of(problem)
    spent = status in ABOUT_KEYS or status == HTTPStatus.TOO_MANY_REQUESTS
    named = "context_length_exceeded" in set(codes_of(problem))
    if spent and not named:
        return None
    if status is None and not isinstance(problem, ValueError | RuntimeError):
        return None
    too_large = status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if not (named or too_large or _OVERFLOW.search(words)):
        return None
    told = error.get("n_ctx")
    if isinstance(told, int) and told > 0:
        return told
    for pattern in _CAPACITY:
        if found := pattern.search(words):
            return int(found[1].replace(",", "").replace("_", ""))
    return 0


def unexplained(problem: BaseException | None) -> bool:
    """Return whether a server calls a request bad, and does not say why.

    Any part of it may be the cause, the structured output that it asks for too.
    """
    if problem is None or status_of(problem) not in _BAD_REQUEST:
        return False
    return not _OTHER_CAUSE.search(
        words_of(body_of(problem), anywhere=True) or str(problem)
    )
