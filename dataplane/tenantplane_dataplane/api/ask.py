"""From an admitted request for an assistant to its events, with failures as refusals and usage in the draft.

Assistants are compiled once per configuration and kept; a configuration is named by the tenant, the revision of its
document and that of the model's, so that a change of either is a new assistant and no two tenants share one.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.api.model import EngineChatModel, current_request
from tenantplane_dataplane.assistants.assistant import Assistant
from tenantplane_dataplane.assistants.types import (
    AssistantRequest,
    AssistantResult,
    AssistantSpec,
    Done,
    ModelUnavailable,
    TextDelta,
)
from tenantplane_dataplane.gateway.exchange import Exchange
from tenantplane_dataplane.knowledge.cache import IndexCache
from tenantplane_dataplane.knowledge.errors import IndexUnavailable
from tenantplane_dataplane.knowledge.index import TenantIndexes
from tenantplane_dataplane.metering.usage import BYTES_PER_TOKEN, Tokens, estimated_tokens, provider_tokens
from tenantplane_dataplane.observability.logs import get_logger
from tenantplane_dataplane.policy.authorise import AssistantTarget
from tenantplane_dataplane.upstream.engine import Engine
from tenantplane_dataplane.wire.asgi import Refusal

ASSISTANTS_MAX: Final = 1024
_log = get_logger("api")


def index_unavailable() -> Refusal:
    """503: the documents cannot be read, or are still being built."""
    return Refusal(ErrorCode.INDEX_UNAVAILABLE, headers=[(b"retry-after", b"5")])


class Assistants:
    """Compiled assistants of all tenants, reached only through an authenticated exchange."""

    def __init__(self, engine: Engine, cache: IndexCache | None) -> None:
        self._engine = engine
        self._cache = cache
        self._compiled: OrderedDict[tuple[str, ...], Assistant] = OrderedDict()

    def get(self, exchange: Exchange, target: AssistantTarget) -> Assistant:
        """The caller's assistant.

        Raises:
            Refusal: ``index_unavailable`` when an index it needs has no generation yet, or there is no store.
        """
        tenant, entry = exchange.tenant, target.assistant
        model = target.model
        identity = (tenant.tenant_id, tenant.name, tenant.revision, entry.name, "" if model is None else model.alias)
        key = (*identity, "" if model is None else model.model.key, "" if model is None else model.model.revision)
        found = self._compiled.get(key)
        if found is not None:
            self._compiled.move_to_end(key)
            return found
        pointers = [pointer for pointer in tenant.document.spec.indexes if pointer.name in entry.knowledge]
        if self._cache is None or len(pointers) != len(set(entry.knowledge)):
            raise index_unavailable()
        spec = AssistantSpec(name=entry.name, instructions=entry.instructions, indexes=tuple(entry.knowledge))
        indexes = TenantIndexes(self._cache, tenant.tenant_id, pointers)
        chat_model = None if model is None else EngineChatModel(self._engine, model)
        made = self._compiled[key] = Assistant(spec, indexes, chat_model)
        while len(self._compiled) > ASSISTANTS_MAX:
            self._compiled.popitem(last=False)
        return made

    async def stream(
        self, exchange: Exchange, target: AssistantTarget, request: AssistantRequest
    ) -> AsyncGenerator[TextDelta | Done]:
        """The answer's events. Usage is in the draft when this ends, however it ends.

        Raises:
            Refusal: the model or an index failed.
        """
        assistant = self.get(exchange, target)
        question = sum(len(turn.content) for turn in request.history) + len(request.query)
        written, result = 0, None
        token = current_request.set(exchange.request_id)
        try:
            events = assistant.stream(request)
            async with aclosing(events) as closing:
                async for event in closing:
                    if isinstance(event, TextDelta):
                        written += len(event.text)
                    else:
                        result = event.result
                    yield event
        except ModelUnavailable as error:
            cause = error.__cause__
            raise cause if isinstance(cause, Refusal) else Refusal(ErrorCode.UPSTREAM_UNAVAILABLE) from None
        except IndexUnavailable as error:
            _log.error("an index cannot be read", extra={"fields": {**exchange.fields(), "problem": str(error)}})
            raise index_unavailable() from None
        finally:
            # Set and reset in the same context: the generator is driven and closed by one task.
            current_request.reset(token)
            exchange.draft.tokens = _tokens(result, question=question, written=written)
            exchange.draft.citations = 0 if result is None else len(result.citations)

    async def answer(self, exchange: Exchange, target: AssistantTarget, request: AssistantRequest) -> AssistantResult:
        """The whole answer; raises as ``stream`` does."""
        result = None
        async with aclosing(self.stream(exchange, target, request)) as events:
            async for event in events:
                if isinstance(event, Done):
                    result = event.result
        if result is None:
            raise Refusal(ErrorCode.INTERNAL_ERROR)
        return result


def _tokens(result: AssistantResult | None, *, question: int, written: int) -> Tokens:
    usage = {} if result is None else result.usage
    if usage.get("prompt_tokens"):
        return provider_tokens(usage["prompt_tokens"], usage.get("completion_tokens", 0), 0)
    return estimated_tokens(input_bytes=question, output_tokens=-(-written // BYTES_PER_TOKEN))
