"""OpenAI's chat completion, spoken by us: reading messages, writing answers and chunks.

Source of the shapes: OpenAI's API reference, "Chat Completions". ``citations`` on the answer and on the last chunk with
a choice is our addition; clients that do not know it ignore it.
"""

import time
from typing import Any, Final

import msgspec

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.assistants.types import AssistantRequest, Turn
from tenantplane_dataplane.gateway.body import ChatRequest
from tenantplane_dataplane.gateway.exchange import Exchange
from tenantplane_dataplane.wire.asgi import Refusal, sse

DONE: Final = b"data: [DONE]\n\n"
ACCEPTED: Final = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "user",
        "n",
        "cache_salt",
    }
)
"""Fields that an assistant takes. ``user`` is a label without effect, ``n`` may be 1, ``cache_salt`` is dropped."""


def messages_of(request: ChatRequest) -> list[dict[str, Any]]:
    """The messages as objects.

    Raises:
        Refusal: not a list of objects, or empty.
    """
    try:
        messages = msgspec.json.decode(request.fields["messages"], type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid("messages", "`messages` must be a list of objects.") from None
    if not messages:
        raise _invalid("messages", "`messages` must hold at least one message.")
    return messages


def check_fields(request: ChatRequest) -> None:
    """Refuse fields that would have no effect here.

    Raises:
        Refusal: ``unsupported_parameter`` with the field.
    """
    for name, raw in request.fields.items():
        if name in ACCEPTED or bytes(raw).strip() == b"null":
            continue
        message = f"`{name}` is not supported here."[:200]
        raise Refusal(ErrorCode.UNSUPPORTED_PARAMETER, message=message, param=name[:64])
    count = request.fields.get("n")
    if count is not None and bytes(count).strip() not in (b"1", b"null"):
        raise Refusal(ErrorCode.UNSUPPORTED_PARAMETER, message="`n` may only be 1 here.", param="n")


def assistant_request(request: ChatRequest) -> AssistantRequest:
    """The question and what was said before.

    Raises:
        Refusal: a role that an assistant does not take (it has its own instructions, and tools of its own), or a
            conversation that does not end with the user.
    """
    turns: list[Turn] = []
    for number, message in enumerate(messages_of(request)):
        role = message.get("role")
        if role not in ("user", "assistant"):
            known = role in ("system", "developer", "tool", "function")
            text = "An assistant has its own instructions and tools: send `user` and `assistant` messages only."
            if known:
                raise Refusal(ErrorCode.UNSUPPORTED_PARAMETER, message=text, param=f"messages[{number}].role")
            raise _invalid(f"messages[{number}].role", f"`messages[{number}].role` must be user or assistant.")
        turns.append(Turn(role=role, content=_text(message.get("content"), number)))
    if turns[-1].role != "user":
        raise _invalid("messages", "The last message must be the user's question.")
    if not turns[-1].content.strip():
        raise _invalid(f"messages[{len(turns) - 1}].content", "The last message must not be empty.")
    return AssistantRequest(
        query=turns[-1].content,
        history=tuple(turns[:-1]),
        max_tokens=request.max_tokens,
        temperature=_temperature(request),
    )


def _temperature(request: ChatRequest) -> float | None:
    raw = request.fields.get("temperature")
    if raw is None:
        return None
    try:
        value = msgspec.json.decode(raw, type=float | None)
    except msgspec.DecodeError:
        raise _invalid("temperature", "`temperature` must be a number.") from None
    if value is not None and not 0 <= value <= 2:
        raise _invalid("temperature", "`temperature` must be between 0 and 2.")
    return value


def _text(content: Any, number: int) -> str:
    """Text of a message: a string, or a list of text parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    ):
        return "\n".join(part["text"] for part in content)
    where = f"messages[{number}].content"
    raise _invalid(where, f"`{where}` must be text: a string, or a list of text parts.")


def _invalid(param: str, message: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, message=message, param=param)


class CompletionWriter:
    """Writes one completion, whole or in chunks, under the model name that the caller used."""

    def __init__(self, exchange: Exchange, request: ChatRequest) -> None:
        self._exchange = exchange
        self._include_usage = request.include_usage
        self._base: dict[str, Any] = {
            "id": f"chatcmpl-{exchange.request_id}",
            "created": int(time.time()),
            "model": request.model,
        }

    async def whole(self, text: str, *, finish: str, usage: dict[str, int], extra: dict[str, Any]) -> None:
        """The answer in one piece."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        content = {**self._base, "object": "chat.completion", "choices": [choice], "usage": usage, **extra}
        await self._exchange.respond_json(content)

    async def delta(self, text: str) -> None:
        """A piece of the answer; the first one starts the stream."""
        await self._ensure_started()
        await self._exchange.stream_piece(self._chunk({"content": text}))

    async def finish(self, *, finish: str, usage: dict[str, int], extra: dict[str, Any]) -> None:
        """The end of the stream."""
        await self._ensure_started()
        last = self._chunk({}, finish, extra)
        if self._include_usage:
            last += sse({**self._base, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        await self._exchange.end_stream(last + DONE)

    async def _ensure_started(self) -> None:
        if not self._exchange.started:
            await self._exchange.start_stream()
            await self._exchange.stream_piece(self._chunk({"role": "assistant", "content": ""}))

    def _chunk(self, delta: dict[str, str], finish: str | None = None, extra: dict[str, Any] | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return sse({**self._base, "object": "chat.completion.chunk", "choices": [choice], **(extra or {})})
