"""What goes into an assistant and what comes out: the interface to the API layer and to the engines."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

ROUTE_ANSWERED: Final = "answered"
ROUTE_NO_EVIDENCE: Final = "no_evidence"
REFUSAL_NO_EVIDENCE: Final = "no_evidence"


class ModelUnavailable(Exception):  # noqa: N818 -- a condition of the service, named as its error code
    """Raise (in a ``ChatModel``) when the engine cannot be reached, fails or takes too long.

    It passes through the graph unchanged, before or in the middle of a stream; the message is for logs.
    """


@dataclass(frozen=True, slots=True)
class ModelDelta:
    """A piece of a model's answer. ``usage`` has ``prompt_tokens``, ``completion_tokens``, ``total_tokens``."""

    text: str = ""
    finish_reason: str | None = None
    usage: Mapping[str, int] | None = None


class ChatModel(Protocol):
    """An engine behind an alias, with the tenant's limits and policies already around it."""

    def stream(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int | None, temperature: float | None
    ) -> AsyncIterator[ModelDelta]:
        """Answer OpenAI-style messages (``role``, ``content``); written as an async generator.

        Closing or cancelling it ends the upstream request. Raises ``ModelUnavailable``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier message of the conversation."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class AssistantRequest:
    """One question. ``max_tokens`` and ``temperature`` go to the model as they are, ``None`` leaves them out."""

    query: str
    history: Sequence[Turn] = ()
    max_tokens: int | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class AssistantSpec:
    """An assistant's configuration. ``context_tokens`` and ``history_tokens`` are estimated tokens."""

    name: str
    instructions: str = ""
    indexes: tuple[str, ...] = ()
    top_k: int = 6
    context_tokens: int = 1800
    history_turns: int = 12
    history_tokens: int = 1500


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that backs the answer, always one that was retrieved for this request.

    ``marker`` is the number in the answer's ``[n]``. ``None`` marks evidence that the model was shown and did not cite:
    it says what the answer could rest on, not what it rests on. ``section`` joins the headings with `` > ``.
    """

    index: str
    document: str
    title: str
    section: str
    chunk_ids: tuple[str, ...]
    snippet: str
    marker: int | None


@dataclass(frozen=True, slots=True)
class AssistantResult:
    """A finished answer. ``answer`` is exactly the text that was streamed."""

    answer: str
    citations: tuple[Citation, ...]
    route: str
    refusal_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer, ready to be sent."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of a stream that did not fail."""

    result: AssistantResult


AssistantEvent = TextDelta | Done
