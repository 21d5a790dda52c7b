"""Bodies of ``POST /chat`` as pydantic models: validation, and the source of the OpenAPI document."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from tenantplane_api.runtime import limits

QUERY_MAX = 32_768
HISTORY_MAX = 100

Text = Annotated[str, StringConstraints(max_length=QUERY_MAX, strict=True)]


class ChatTurn(BaseModel):
    """One earlier message."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant"] = Field(description="Who said it. Instructions belong to the assistant.")
    content: Text = Field(description="What was said.")


class ChatBody(BaseModel):
    """A question to an assistant."""

    model_config = ConfigDict(extra="forbid")

    query: Annotated[str, StringConstraints(min_length=1, max_length=QUERY_MAX, strict=True, pattern=r"\S")] = Field(
        description="The question.", examples=["How long may a pallet stand on the ramp?"]
    )
    history: list[ChatTurn] = Field(
        default_factory=list, max_length=HISTORY_MAX, description="Earlier messages, oldest first."
    )
    assistant: Annotated[str, StringConstraints(max_length=limits.NAME_MAX, strict=True)] | None = Field(
        default=None, description="Name of the assistant; may be left out when the tenant has exactly one."
    )
    stream: StrictBool = Field(default=False, description="Answer as server-sent events.")


class ChatCitation(BaseModel):
    """A passage that backs the answer."""

    index: str
    document: str
    title: str
    section: str
    chunk_ids: list[str]
    snippet: str
    marker: int | None = Field(description="Number of the `[n]` in the answer; null: shown to the model, not cited.")


class ChatUsage(BaseModel):
    """Tokens, as metered."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatAnswer(BaseModel):
    """An assistant's answer."""

    answer: str
    citations: list[ChatCitation]
    route: str = Field(description="How the answer came about: `answered` or `no_evidence`.")
    refusal_reason: str | None = Field(description="Why there is no answer; null when there is one.")
    usage: ChatUsage
    latency_ms: int = Field(description="From acceptance of the request to here, in milliseconds.")
    request_id: str


class ErrorDetail(BaseModel):
    """OpenAI's error object and our request id."""

    message: str
    type: str
    param: str | None
    code: str = Field(description="Stable: clients may match on it.")
    request_id: str


class ErrorAnswer(BaseModel):
    """Every answer that is not 2xx."""

    error: ErrorDetail
