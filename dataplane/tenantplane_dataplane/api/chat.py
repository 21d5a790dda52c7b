"""``POST /chat`` and ``/openapi.json``: a FastAPI application behind the gate.

The gate authenticates before FastAPI sees a byte, and answers go out through the ``Exchange``, so that headers, records
and errors are those of ``/v1``. FastAPI validates the body and describes the routes.
"""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, Final, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.api.ask import Assistants
from tenantplane_dataplane.api.openapi import describe
from tenantplane_dataplane.api.responders import citations_of, usage_of
from tenantplane_dataplane.api.schema import ChatAnswer, ChatBody, ErrorAnswer
from tenantplane_dataplane.assistants.types import AssistantRequest, AssistantResult, Done, Turn
from tenantplane_dataplane.gateway.body import require_json
from tenantplane_dataplane.gateway.exchange import Exchange
from tenantplane_dataplane.policy.authorise import AssistantTarget, assistant_target
from tenantplane_dataplane.wire import asgi
from tenantplane_dataplane.wire.asgi import Refusal

CHAT_PATH: Final = "/chat"
OPENAPI_PATH: Final = "/openapi.json"
_STATE: Final = "tenantplane.exchange"


class _Answered(Response):
    """Sends nothing: the exchange has answered already."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        return None


class ChatApi:
    """Handlers for the gate; ``app`` is the FastAPI application inside."""

    def __init__(self, assistants: Assistants) -> None:
        self._assistants = assistants
        self.app = FastAPI(title="tenantplane", docs_url=None, redoc_url=None, openapi_url=None)
        self.app.add_exception_handler(RequestValidationError, _refuse_validation)
        self.app.add_exception_handler(Refusal, _refuse)
        self.app.add_exception_handler(Exception, _refuse_unexpected)
        errors: dict[int | str, dict[str, Any]] = {"default": {"model": ErrorAnswer, "description": "An error."}}
        self.app.post(CHAT_PATH, response_model=ChatAnswer, responses=errors, summary="Ask an assistant")(self._chat)
        self._document = describe(self.app)

    async def chat(self, exchange: Exchange) -> None:
        """POST /chat."""
        await exchange.gate.authenticate(exchange)
        require_json(exchange.headers)
        body = await exchange.read_body()
        scope = dict(exchange.scope)
        scope["state"] = {_STATE: exchange}
        # FastAPI takes a body for JSON only when its type says so; for us a missing type is JSON.
        scope["headers"] = [*(h for h in exchange.headers if h[0] != b"content-type"), asgi.JSON_TYPE]
        await self.app(scope, _replay(body, exchange.receive), exchange.send)

    async def openapi(self, exchange: Exchange) -> None:
        """GET /openapi.json."""
        await exchange.respond_json(self._document)

    async def _chat(self, body: ChatBody, request: Request) -> Response:
        """Answer a question from the tenant's own documents, with citations."""
        exchange = cast("Exchange", request.scope["state"][_STATE])
        target = _target(exchange, body.assistant)
        exchange.draft.stream = body.stream
        await exchange.gate.admit(exchange, target)
        question = AssistantRequest(
            query=body.query, history=tuple(Turn(role=turn.role, content=turn.content) for turn in body.history)
        )
        if body.stream:
            await self._stream(exchange, target, question)
        else:
            result = await self._assistants.answer(exchange, target, question)
            await exchange.respond_json(_answer(exchange, result))
        return _Answered()

    async def _stream(self, exchange: Exchange, target: AssistantTarget, question: AssistantRequest) -> None:
        try:
            result: AssistantResult | None = None
            async with aclosing(self._assistants.stream(exchange, target, question)) as events:
                async for event in events:
                    if not exchange.started:
                        await exchange.start_stream()
                    if isinstance(event, Done):
                        result = event.result
                    else:
                        await exchange.stream_piece(asgi.sse({"type": "delta", "text": event.text}))
            if result is not None:
                await exchange.end_stream(asgi.sse({"type": "done", **_answer(exchange, result)}))
        except Refusal as refusal:
            # Not through FastAPI: it cannot answer in a stream that has begun.
            await exchange.refuse(refusal)


def _target(exchange: Exchange, name: str | None) -> AssistantTarget:
    """The assistant asked for; the only one when none is named."""
    if name is None:
        known = list(exchange.tenant.assistants)
        if len(known) != 1:
            message = "`assistant` is required: GET /v1/models lists yours as assistant/<name>."
            raise Refusal(ErrorCode.INVALID_REQUEST, message=message, param="assistant")
        name = known[0]
    try:
        return assistant_target(exchange.tenant, name, exchange.snapshot)
    except Refusal as refusal:
        if refusal.code is ErrorCode.MODEL_NOT_FOUND:
            message = "This assistant does not exist or you may not use it: GET /v1/models lists yours."
            raise Refusal(refusal.code, message=message, param="assistant") from None
        raise


def _answer(exchange: Exchange, result: AssistantResult) -> dict[str, Any]:
    return {
        "answer": result.answer,
        "citations": citations_of(result),
        "route": result.route,
        "refusal_reason": result.refusal_reason,
        "usage": usage_of(exchange),
        "latency_ms": round(exchange.seconds * 1000),
        "request_id": exchange.request_id,
    }


def _replay(body: bytes, receive: asgi.Receive) -> asgi.Receive:
    """A ``receive`` that gives a body that was read already, then what the connection says."""
    sent = False

    async def replay() -> asgi.Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    exchange = cast("Exchange", request.scope["state"][_STATE])
    await exchange.refuse(error)
    return _Answered()


async def _refuse_unexpected(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this, and the gate logs it.
    return await _refuse(request, Refusal(ErrorCode.INTERNAL_ERROR))


async def _refuse_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _refuse(request, validation_refusal(error.errors()))


def validation_refusal(errors: Sequence[Any]) -> Refusal:
    """The first problem of a body, without repeating what was sent."""
    first = errors[0]
    where = ""
    for part in first["loc"][1:]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    where = where[:128]
    if first["type"] == "json_invalid" or not where:
        return Refusal(ErrorCode.INVALID_JSON)
    if first["type"] == "extra_forbidden":
        return Refusal(ErrorCode.UNSUPPORTED_PARAMETER, message=f"`{where}` is not supported here.", param=where)
    return Refusal(ErrorCode.INVALID_REQUEST, message=f"`{where}`: {first['msg']}.", param=where)
