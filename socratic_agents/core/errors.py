"""The tree of errors: each says what was expected, what came, and what to do.

SocraticError
├── ConfigurationError      what was asked for cannot be done as it stands (exit code 2)
│   ├── PromptError         a user prompt that cannot be refined
│   │   └── UnknownWordError    a word that the pocket world does not know
│   ├── TemplateError       a template that cannot be read or rendered
│   └── LoadError           a model that cannot be opened
├── CandidateError          one image could not be drawn or captioned; carries its status
├── AgentError              one of the language model's roles gave no usable answer
│   ├── AnswerError         it answered, but invalidly, even after validation retries
│   ├── CallError           the call itself failed
│   │   └── ServerDownError     its server answered before, and was waited for in vain
│   └── BudgetError         the call was not made, because the budget is spent
├── NothingDrawnError       no candidate of a refinement can be returned
│   └── RefusedError        a safety filter withheld all of them
├── BatchError              a model broke its contract: one output for every input
│   └── StageTimeoutError   a call of a model does not end
├── MissingStepError        a step that a replay would need was never done
└── ClosedError             work was handed to something that is already closed
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from socratic_agents.core.history import History, Status

__all__ = (
    "AgentError",
    "AnswerError",
    "BatchError",
    "BudgetError",
    "CallError",
    "CandidateError",
    "ClosedError",
    "ConfigurationError",
    "LoadError",
    "MissingStepError",
    "NothingDrawnError",
    "PromptError",
    "RefusedError",
    "ServerDownError",
    "SocraticError",
    "StageTimeoutError",
    "TemplateError",
    "UnknownWordError",
    "is_out_of_memory",
)

_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory", re.IGNORECASE)
"""What a plain error says of a lack of memory: Apple's graphics', and the CPU's."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device had too little memory for a call.

    Args:
        error: What torch raised; torch is not loaded to recognize it.
    """
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return type(error) is RuntimeError and bool(_OUT_OF_MEMORY.search(str(error)))


class SocraticError(Exception):
    """Base of everything that this package raises on purpose."""

    kind: ClassVar[str] = "SocraticError"
    """What stored failures call it: the class's name, or the one it once had."""
    history: History | None = None
    """What was drawn and judged before the error, so that nothing is lost."""

    def __init_subclass__(cls, *, kind: str | None = None) -> None:
        super().__init_subclass__()
        cls.kind = kind or cls.__name__


class ConfigurationError(SocraticError, ValueError):
    """Raised when what was asked for cannot be done as it stands."""


class PromptError(ConfigurationError):
    """Raised when a user prompt cannot be refined, blank or too long for example."""


class UnknownWordError(PromptError):
    """Raised when a prompt has a word that the pocket world does not know."""


class TemplateError(ConfigurationError):
    """Raised when a template cannot be read, or does not fit its variables."""


class LoadError(ConfigurationError):
    """Raised when a model cannot be opened."""


class CandidateError(SocraticError):
    """Raised when one image could not be drawn or captioned.

    Args:
        status: The status that the candidate gets; never ``ok``.
        message: What happened and what to do.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is made anew of its message alone, and this one needs two things.
        return type(self), (self.status, str(self)), self.__dict__


class AgentError(SocraticError):
    """Raised when a role of the language model gave no usable answer."""


class AnswerError(AgentError):
    """Raised when a language model's answer stayed invalid after all repairs.

    Args:
        message: What was expected and what came.
        raw: The last answer as the model wrote it.
    """

    def __init__(self, message: str, *, raw: str = "") -> None:
        super().__init__(message)
        self.raw = raw


class CallError(AgentError):
    """Raised when a call of a language model failed for good.

    Args:
        message: What happened and what to do.
        attempts: How many requests were made.
    """

    def __init__(self, message: str, *, attempts: int = 1) -> None:
        super().__init__(message)
        self.attempts = attempts


class ServerDownError(CallError):
    """Raised when a server that answered before was waited for in vain.

    The same happens to every other call, so a run ends here, and resumes when the
    server is back.
    """


class BudgetError(AgentError):
    """Raised in place of a call that the budget has no room for."""


class NothingDrawnError(SocraticError):
    """Raised when a refinement ends without one usable candidate."""


class RefusedError(NothingDrawnError):
    """Raised when a safety filter withheld every image, of a softer rewrite too."""


class BatchError(SocraticError):
    """Raised when a model gave another number of outputs than it got inputs."""


class StageTimeoutError(BatchError, kind="StuckError"):
    """Raised when a call of a model takes longer than its stage has patience."""


class MissingStepError(SocraticError, kind="MissingError"):
    """Raised in place of steps that a replay would need and nobody has done.

    Args:
        needs: How many steps, at least, by the kind that the journal calls them.
    """

    def __init__(self, needs: Mapping[str, int]) -> None:
        super().__init__(
            f"expected only steps that were done before, got a need of {dict(needs)}; "
            "do them in a run of its own"
        )
        self.needs = dict(needs)


class ClosedError(SocraticError, RuntimeError):
    """Raised when work is handed to something that is already closed."""
