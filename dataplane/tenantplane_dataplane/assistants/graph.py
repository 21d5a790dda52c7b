"""The assistant's graph: retrieve → pack → answer | extract | refuse → finish, compiled once per assistant.

No checkpointer, no memory between runs: a conversation's past comes with each request. Text leaves the graph as it is
made, through LangGraph's custom stream; the last event is ``Done``.
"""

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypedDict, cast

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph

from tenantplane_dataplane.assistants.citations import MarkerFilter, citations
from tenantplane_dataplane.assistants.extractive import NO_EVIDENCE, content_words, extract_answer
from tenantplane_dataplane.assistants.prompts import build_messages
from tenantplane_dataplane.assistants.types import (
    REFUSAL_NO_EVIDENCE,
    ROUTE_ANSWERED,
    ROUTE_NO_EVIDENCE,
    AssistantEvent,
    AssistantRequest,
    AssistantResult,
    AssistantSpec,
    ChatModel,
    Done,
    TextDelta,
)
from tenantplane_dataplane.knowledge.index import TenantIndexes
from tenantplane_dataplane.knowledge.pack import pack
from tenantplane_dataplane.knowledge.retrieve import (
    DEFAULT_COVERAGE,
    QUESTION_MAX,
    Passage,
    RetrievalOptions,
    Retrieved,
)

_FEW_WORDS: Final = 2
_MODEL_GATE: Final = 0.34
"""A model can tell weak evidence from none and understands other words for the same thing: its gate is lower."""


class GraphState(TypedDict, total=False):
    """What the nodes hand on; ``used`` are the numbers of the passages that the answer cites."""

    request: AssistantRequest
    question: str
    retrieved: Retrieved
    passages: tuple[Passage, ...]
    answer: str
    used: tuple[int, ...]
    usage: Mapping[str, int]
    finish_reason: str
    route: str


class AssistantNodes:
    """The nodes of one assistant's graph."""

    def __init__(self, spec: AssistantSpec, indexes: TenantIndexes, model: ChatModel | None) -> None:
        self._spec = spec
        self._indexes = indexes
        self._model = model
        gate = _MODEL_GATE if model else DEFAULT_COVERAGE
        self._options = RetrievalOptions(top_k=spec.top_k, min_coverage=gate)

    async def retrieve(self, state: GraphState) -> GraphState:
        """Search the assistant's indices; a question that says little alone is read with the one before it."""
        request = state["request"]
        question = request.query[:QUESTION_MAX]
        earlier = next((turn.content for turn in reversed(request.history) if turn.role == "user"), "")[:QUESTION_MAX]
        if not self._spec.indexes:
            return {"retrieved": Retrieved(), "question": question}
        found = Retrieved()
        if not earlier or content_words(question) > _FEW_WORDS:
            found = await self._search(question)
        if not found.passages and earlier:
            question = f"{question}\n{earlier}"
            found = await self._search(question)
        return {"retrieved": found, "question": question}

    async def _search(self, question: str) -> Retrieved:
        return await self._indexes.search(self._spec.indexes, question, self._options)

    async def pack(self, state: GraphState) -> GraphState:
        """Keep what fits the context."""
        return {"passages": pack(state["retrieved"].passages, self._spec.context_tokens)}

    def route(self, state: GraphState) -> str:
        """``answer`` with a model and evidence (or with a model that has no knowledge to look in), else …"""
        if self._model is not None and (state["passages"] or not self._spec.indexes):
            return "answer"
        return "extract" if state["passages"] else "refuse"

    async def answer(self, state: GraphState) -> GraphState:
        """Stream the model's answer through the marker filter."""
        assert self._model is not None
        request, passages = state["request"], state["passages"]
        write = _writer()
        markers = MarkerFilter(len(passages))
        parts: list[str] = []
        usage: Mapping[str, int] = {}
        finish_reason = "stop"

        def emit(text: str) -> None:
            if text:
                parts.append(text)
                write(TextDelta(text))

        stream = self._model.stream(
            build_messages(self._spec, request, passages),
            max_tokens=request.max_tokens,
            temperature=request.temperature,
        )
        # Closed here and now when the run is cancelled: the engine must not go on for a client that has gone.
        async with aclosing(cast("Any", stream)) as deltas:
            async for delta in deltas:
                emit(markers.feed(delta.text))
                usage = delta.usage or usage
                finish_reason = delta.finish_reason or finish_reason
        emit(markers.finish())
        return {
            "answer": "".join(parts),
            "used": tuple(markers.used),
            "usage": usage,
            "finish_reason": finish_reason,
            "route": ROUTE_ANSWERED,
        }

    async def extract(self, state: GraphState) -> GraphState:
        """Quote the evidence."""
        retrieved = state["retrieved"]
        made = extract_answer(state["question"], state["passages"], retrieved.weights or {})
        if not made.passages:
            return await self.refuse(state)
        _writer()(TextDelta(made.answer))
        return {"answer": made.answer, "used": made.passages, "route": ROUTE_ANSWERED}

    async def refuse(self, state: GraphState) -> GraphState:
        """Say that there is no evidence; nothing is made up, no model is asked."""
        _writer()(TextDelta(NO_EVIDENCE))
        return {"answer": NO_EVIDENCE, "used": (), "passages": (), "route": ROUTE_NO_EVIDENCE}

    async def finish(self, state: GraphState) -> GraphState:
        """Resolve the citations and end the stream."""
        refused = state["route"] == ROUTE_NO_EVIDENCE
        result = AssistantResult(
            answer=state["answer"],
            citations=citations(state["passages"], state["used"]),
            route=state["route"],
            refusal_reason=REFUSAL_NO_EVIDENCE if refused else None,
            usage=state.get("usage", {}),
            finish_reason=state.get("finish_reason", "stop"),
        )
        _writer()(Done(result))
        return {}


def _writer() -> Callable[[AssistantEvent], None]:
    writer: Callable[[AssistantEvent], None] = get_stream_writer()
    return writer


def compile_graph(nodes: AssistantNodes) -> Any:
    """The compiled graph; LangGraph's type parameters are of no use to the one caller."""
    graph: Any = StateGraph(GraphState)
    for name in ("retrieve", "pack", "answer", "extract", "refuse", "finish"):
        graph.add_node(name, getattr(nodes, name))
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", "pack")
    graph.add_conditional_edges("pack", nodes.route, ["answer", "extract", "refuse"])
    for name in ("answer", "extract", "refuse"):
        graph.add_edge(name, "finish")
    graph.add_edge("finish", END)
    return graph.compile()
