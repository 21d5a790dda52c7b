"""Answerers that the gateway does not know: assistants, and models of engine ``Extractive``."""

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec

from tenantplane_dataplane.api.ask import Assistants
from tenantplane_dataplane.api.completions import CompletionWriter, assistant_request, check_fields, messages_of
from tenantplane_dataplane.assistants.extractive import extractive_reply
from tenantplane_dataplane.assistants.types import AssistantResult, Done
from tenantplane_dataplane.gateway.body import ChatRequest, check_output_bound
from tenantplane_dataplane.gateway.exchange import Exchange
from tenantplane_dataplane.metering.usage import BYTES_PER_TOKEN, estimated_tokens
from tenantplane_dataplane.policy.authorise import AliasTarget, AssistantTarget, Target


class AssistantResponder:
    """``model: "assistant/<name>"`` on ``/v1/chat/completions``."""

    def __init__(self, assistants: Assistants) -> None:
        self._assistants = assistants

    def check(self, request: ChatRequest, target: Target) -> None:
        """See ``Responder``."""
        assert isinstance(target, AssistantTarget)
        check_fields(request)
        assistant_request(request)
        if target.model is not None:
            check_output_bound(request, max_output_tokens=target.model.model.document.spec.max_output_tokens)

    async def respond(self, exchange: Exchange, request: ChatRequest, target: Target) -> None:
        """See ``Responder``."""
        assert isinstance(target, AssistantTarget)
        question, writer = assistant_request(request), CompletionWriter(exchange, request)
        if not request.stream:
            result = await self._assistants.answer(exchange, target, question)
            await writer.whole(
                result.answer, finish=result.finish_reason, usage=usage_of(exchange), extra=_extra(result)
            )
            return
        async with aclosing(self._assistants.stream(exchange, target, question)) as events:
            result_: AssistantResult | None = None
            async for event in events:
                if isinstance(event, Done):
                    result_ = event.result
                else:
                    await writer.delta(event.text)
        if result_ is not None:
            await writer.finish(finish=result_.finish_reason, usage=usage_of(exchange), extra=_extra(result_))


class ExtractiveResponder:
    """An alias whose model is the built-in extractive answerer: no engine, no documents, sentences of the prompt."""

    def check(self, request: ChatRequest, target: Target) -> None:
        """See ``Responder``."""
        check_fields(request)
        messages_of(request)

    async def respond(self, exchange: Exchange, request: ChatRequest, target: Target) -> None:
        """See ``Responder``."""
        assert isinstance(target, AliasTarget)
        messages: list[dict[str, Any]] = messages_of(request)
        # A long prompt takes a while to read: not on the event loop.
        text = await asyncio.to_thread(extractive_reply, messages)
        exchange.draft.tokens = estimated_tokens(
            input_bytes=request.input_bytes, output_tokens=-(-len(text) // BYTES_PER_TOKEN)
        )
        writer = CompletionWriter(exchange, request)
        if request.stream:
            await writer.delta(text)
            await writer.finish(finish="stop", usage=usage_of(exchange), extra={})
        else:
            await writer.whole(text, finish="stop", usage=usage_of(exchange), extra={})


def usage_of(exchange: Exchange) -> dict[str, int]:
    """OpenAI's usage object from what was metered, so that an invoice and an answer never disagree."""
    tokens = exchange.draft.tokens
    prompt = 0 if tokens is None else tokens.input_uncached + tokens.cache_read
    output = 0 if tokens is None else tokens.output_text
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def citations_of(result: AssistantResult) -> list[dict[str, Any]]:
    """Citations as plain JSON."""
    plain: list[dict[str, Any]] = msgspec.to_builtins(list(result.citations))
    return plain


def _extra(result: AssistantResult) -> dict[str, Any]:
    return {"citations": citations_of(result)}
