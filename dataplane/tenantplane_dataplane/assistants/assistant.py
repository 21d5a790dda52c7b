"""``Assistant``: one configured assistant of one tenant, ready to be asked; safe for concurrent requests."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from tenantplane_dataplane.assistants.graph import AssistantNodes, compile_graph
from tenantplane_dataplane.assistants.types import (
    AssistantEvent,
    AssistantRequest,
    AssistantResult,
    AssistantSpec,
    ChatModel,
    Done,
)
from tenantplane_dataplane.knowledge.index import TenantIndexes


class Assistant:
    """Answers from its tenant's indices; make one per configuration and keep it (compiling costs milliseconds).

    Args:
        spec: from the tenant's runtime document.
        indexes: that tenant's.
        model: the engine behind the assistant's alias; ``None`` answers extractively.
    """

    def __init__(self, spec: AssistantSpec, indexes: TenantIndexes, model: ChatModel | None) -> None:
        self.spec = spec
        self._graph = compile_graph(AssistantNodes(spec, indexes, model))

    async def run(self, request: AssistantRequest) -> AssistantResult:
        """The whole answer.

        Raises:
            ModelUnavailable: the engine failed.
            IndexUnavailable: an index cannot be read.
            KeyError: the assistant names an index that has no active generation.
        """
        async with aclosing(self._events(request)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.result
        raise RuntimeError("the assistant's graph ended without a result")

    def stream(self, request: AssistantRequest) -> AsyncGenerator[AssistantEvent]:
        """The answer as it is made: ``TextDelta`` …, then one ``Done``; raises as ``run`` does.

        An async generator: close it (``aclosing``) or cancel the task that reads it, and the model's stream is closed
        before that returns.
        """
        return self._events(request)

    async def _events(self, request: AssistantRequest) -> AsyncGenerator[AssistantEvent]:
        async with aclosing(self._graph.astream({"request": request}, stream_mode="custom")) as events:
            async for event in events:
                yield event
