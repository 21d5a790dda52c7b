"""Engine ``External``: pass a chat completion on, stream its answer back.

Guarantees: a caller that goes away ends the upstream request; usage is the engine's own where it gave one, else an
estimate marked so; an answer that broke off is never ended as if it were whole.
"""

import contextlib
from typing import Final

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.gateway.body import ChatRequest, check_output_bound, rewrite
from tenantplane_dataplane.gateway.exchange import Exchange
from tenantplane_dataplane.metering.usage import BYTES_PER_TOKEN, Tokens, estimated_tokens, provider_tokens
from tenantplane_dataplane.policy.authorise import AliasTarget, Target
from tenantplane_dataplane.upstream.answers import ERROR_BODY_MAX, RESPONSE_MAX, error_refusal, rename_model
from tenantplane_dataplane.upstream.engine import FORWARDED_HEADERS, Engine, EngineRequest, EngineResponse
from tenantplane_dataplane.upstream.stream import EngineUsage, EventStream, parse_usage
from tenantplane_dataplane.wire.asgi import Refusal

CHAT_PATH: Final = "/chat/completions"
_EVENT_STREAM: Final = "text/event-stream"


class PassThrough:
    """``Responder`` for models behind an OpenAI-compatible endpoint."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def check(self, request: ChatRequest, target: Target) -> None:
        """See ``Responder``."""
        assert isinstance(target, AliasTarget)
        check_output_bound(request, max_output_tokens=target.model.document.spec.max_output_tokens)

    async def respond(self, exchange: Exchange, request: ChatRequest, target: Target) -> None:
        """See ``Responder``."""
        assert isinstance(target, AliasTarget)
        response = await self._engine.open(engine_request(exchange, request, target))
        try:
            if response.status != 200:
                raise await refused_by_engine(response, target)
            if response.content_type == _EVENT_STREAM and request.stream:
                await self._stream(exchange, request, target, response)
            elif response.content_type == _EVENT_STREAM:
                raise Refusal(ErrorCode.UPSTREAM_ERROR)
            else:
                await self._whole(exchange, request, target, response)
        finally:
            response.close()

    async def _whole(
        self, exchange: Exchange, request: ChatRequest, target: AliasTarget, response: EngineResponse
    ) -> None:
        exchange.draft.tokens = estimated_tokens(input_bytes=request.input_bytes, output_tokens=0)
        body, fields = rename_model(await response.read(RESPONSE_MAX), target.alias)
        usage = parse_usage(fields.get("usage"))
        output = len(fields.get("choices", b"")) // BYTES_PER_TOKEN
        exchange.draft.tokens = engine_tokens(usage, request=request, output_tokens=output)
        await exchange.respond_bytes(body)

    async def _stream(
        self, exchange: Exchange, request: ChatRequest, target: AliasTarget, response: EngineResponse
    ) -> None:
        stream = EventStream(response.chunks(), alias=target.alias, include_usage=request.include_usage)
        try:
            await exchange.start_stream()
            async with contextlib.aclosing(stream.pieces()) as pieces:
                async for piece in pieces:
                    await exchange.stream_piece(piece)
            await exchange.end_stream()
        finally:
            exchange.draft.tokens = engine_tokens(stream.usage, request=request, output_tokens=stream.events)


def engine_request(exchange: Exchange, request: ChatRequest, target: AliasTarget) -> EngineRequest:
    """The upstream request for a chat completion."""
    spec = target.model.document.spec
    if spec.external is None:
        raise Refusal(ErrorCode.MODEL_SUSPENDED)
    forwarded = {
        name.decode("ascii"): value.decode("latin-1") for name, value in exchange.headers if name in FORWARDED_HEADERS
    }
    return EngineRequest(
        base_url=spec.external.base_url,
        path=CHAT_PATH,
        body=rewrite(request, served_name=spec.served_name, max_output_tokens=spec.max_output_tokens),
        label=target.model.key,
        request_id=exchange.request_id,
        api_key=spec.external.api_key,
        stream=request.stream,
        headers=forwarded,
    )


async def refused_by_engine(response: EngineResponse, target: AliasTarget) -> Refusal:
    """What to answer when the engine's status is not 200."""
    try:
        body = await response.read(ERROR_BODY_MAX)
    except Refusal:
        body = b""
    served = target.model.document.spec.served_name
    return error_refusal(response.status, body, served_name=served, alias=target.alias)


def engine_tokens(usage: EngineUsage | None, *, request: ChatRequest, output_tokens: int) -> Tokens:
    """The engine's count, or an estimate."""
    if usage is None:
        return estimated_tokens(input_bytes=request.input_bytes, output_tokens=output_tokens)
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details is not None else 0
    return provider_tokens(usage.prompt_tokens, usage.completion_tokens or 0, cached)
