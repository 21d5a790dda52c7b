"""``EngineChatModel``: an assistant's view of the engine behind its alias.

Guarantees that an assistant reaches an engine only through the same upstream seam, pinning and output bound as a direct
request, and that closing the generator ends the upstream request. The limits of the tenant were taken when the request
for the assistant was admitted: one question counts once.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Final

import msgspec

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.assistants.types import ModelDelta, ModelUnavailable
from tenantplane_dataplane.gateway.passthrough import CHAT_PATH, refused_by_engine
from tenantplane_dataplane.policy.authorise import AliasTarget
from tenantplane_dataplane.upstream.answers import RESPONSE_MAX
from tenantplane_dataplane.upstream.engine import Engine, EngineRequest
from tenantplane_dataplane.upstream.stream import EngineUsage, EventStream, event_data, split_events
from tenantplane_dataplane.wire.asgi import Refusal

current_request: ContextVar[str] = ContextVar("current_request", default="")
"""Request id of the question being answered: assistants are shared between requests, log lines are not."""

_EVENT_STREAM: Final = "text/event-stream"


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()
    message: _Delta = _Delta()
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: EngineUsage | None = None


_CHUNK: Final = msgspec.json.Decoder(_Chunk)


class EngineChatModel:
    """``ChatModel`` over one alias's engine."""

    def __init__(self, engine: Engine, target: AliasTarget) -> None:
        self._engine = engine
        self._target = target

    async def stream(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int | None, temperature: float | None
    ) -> AsyncIterator[ModelDelta]:
        """See ``ChatModel``; a ``Refusal`` that explains the failure is the cause of ``ModelUnavailable``."""
        try:
            response = await self._engine.open(self._request(messages, max_tokens, temperature))
            try:
                if response.status != 200:
                    raise await refused_by_engine(response, self._target)
                if response.content_type != _EVENT_STREAM:
                    yield _delta(await response.read(RESPONSE_MAX))
                    return
                stream = EventStream(response.chunks(), alias=self._target.alias, include_usage=True)
                async with aclosing(stream.pieces()) as pieces:
                    async for piece in pieces:
                        for event in split_events(piece):
                            data = event_data(event)
                            if data and data != b"[DONE]":
                                yield _delta(data)
            finally:
                response.close()
        except Refusal as refusal:
            raise ModelUnavailable(str(refusal.code)) from refusal

    def _request(
        self, messages: Sequence[Mapping[str, str]], max_tokens: int | None, temperature: float | None
    ) -> EngineRequest:
        spec = self._target.model.document.spec
        if spec.external is None:
            raise Refusal(ErrorCode.MODEL_SUSPENDED)
        body: dict[str, Any] = {
            "model": spec.served_name,
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        bounds = [bound for bound in (max_tokens, spec.max_output_tokens) if bound is not None]
        if bounds:
            body["max_tokens"] = min(bounds)
        if temperature is not None:
            body["temperature"] = temperature
        return EngineRequest(
            base_url=spec.external.base_url,
            path=CHAT_PATH,
            body=msgspec.json.encode(body),
            label=self._target.model.key,
            request_id=current_request.get(),
            api_key=spec.external.api_key,
            stream=True,
        )


def _delta(data: bytes) -> ModelDelta:
    try:
        chunk = _CHUNK.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal(ErrorCode.UPSTREAM_ERROR) from None
    text, finish = "", None
    if chunk.choices:
        choice = chunk.choices[0]
        text, finish = choice.delta.content or choice.message.content or "", choice.finish_reason
    usage = None
    if chunk.usage is not None:
        prompt, completion = chunk.usage.prompt_tokens, chunk.usage.completion_tokens or 0
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return ModelDelta(text=text, finish_reason=finish, usage=usage)
