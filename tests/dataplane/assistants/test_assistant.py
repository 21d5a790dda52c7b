"""The assistant end to end: routes, citations, streams, failures, cancellation."""

import asyncio
import os
import re
from collections.abc import Sequence
from contextlib import aclosing

import pytest
from tests.dataplane.assistants.scripted import ScriptedModel

from tenantplane_dataplane.assistants.assistant import Assistant
from tenantplane_dataplane.assistants.extractive import NO_EVIDENCE
from tenantplane_dataplane.assistants.types import (
    AssistantRequest,
    AssistantResult,
    AssistantSpec,
    Done,
    ModelUnavailable,
    TextDelta,
    Turn,
)
from tenantplane_dataplane.knowledge.index import TenantIndexes
from tenantplane_dataplane.knowledge.retrieve import RetrievalOptions

SPEC = AssistantSpec(name="helpdesk", instructions="Answer in a friendly tone.", indexes=("handbook",))
QUESTION = "Within how many days can faulty goods be sent back?"
DEADLINE = 30


async def collect(assistant: Assistant, request: AssistantRequest) -> tuple[str, AssistantResult]:
    text: list[str] = []
    async with aclosing(assistant.stream(request)) as events:
        async for event in events:
            if isinstance(event, Done):
                return "".join(text), event.result
            assert isinstance(event, TextDelta)
            text.append(event.text)
    raise AssertionError("no Done")


async def test_extractive_answers_with_citations(indexes: TenantIndexes) -> None:
    text, result = await collect(Assistant(SPEC, indexes, None), AssistantRequest(QUESTION))
    assert text == result.answer
    assert "Customers send faulty goods back within 30 days." in result.answer
    assert (result.route, result.refusal_reason, result.usage) == ("answered", None, {})
    cited = {citation.marker for citation in result.citations}
    assert cited == {int(number) for number in re.findall(r"\[(\d+)\]", result.answer)}
    first = result.citations[0]
    assert (first.index, first.document, first.title) == ("handbook", "docs/returns.md", "Returns")
    assert first.chunk_ids
    assert first.snippet


async def test_the_sentences_stand_in_the_evidence(indexes: TenantIndexes) -> None:
    """Every word of an extractive answer is the document's own."""
    found = await indexes.search(["handbook"], QUESTION, RetrievalOptions())
    result = await Assistant(SPEC, indexes, None).run(AssistantRequest(QUESTION))
    for sentence in re.split(r" \[\d+\]\s*", result.answer):
        assert any(sentence in passage.text for passage in found.passages)


@pytest.mark.parametrize("model", [None, ScriptedModel(["Paris [1]."])])
async def test_no_evidence_is_refused_without_asking_a_model(
    indexes: TenantIndexes, model: ScriptedModel | None
) -> None:
    text, result = await collect(Assistant(SPEC, indexes, model), AssistantRequest("What is the capital of France?"))
    assert text == result.answer == NO_EVIDENCE
    assert (result.route, result.refusal_reason, result.citations) == ("no_evidence", "no_evidence", ())
    assert model is None or model.messages == []


@pytest.mark.parametrize(
    ("pieces", "answer", "markers"),
    [
        (["Within 30 days [1]."], "Within 30 days [1].", [1]),
        (["Within 30 days [", "1", "] and [9", "9]."], "Within 30 days [1] and.", [1]),
        (["Both [1, 7]. ", "[8] done"], "Both [1]. done", [1]),
        (["Nothing is cited."], "Nothing is cited.", [None]),
        (["An open bracket ["], "An open bracket [", [None]),
        (["a", " ", " b ", "[0]"], "a  b ", [None]),
        (["see [2026] and [x]"], "see [2026] and [x]", [None]),
    ],
)
async def test_markers_resolve_or_go(
    indexes: TenantIndexes, pieces: Sequence[str], answer: str, markers: list[int | None]
) -> None:
    text, result = await collect(Assistant(SPEC, indexes, ScriptedModel(pieces)), AssistantRequest(QUESTION))
    assert text == result.answer
    assert result.answer.rstrip() == answer.rstrip()
    assert [citation.marker for citation in result.citations][: len(markers)] == markers
    assert result.usage == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert result.finish_reason == "length"


async def test_what_the_model_is_told(indexes: TenantIndexes) -> None:
    model = ScriptedModel(["ok"])
    history = (Turn("user", "Hello there"), Turn("assistant", "Hello!"))
    await Assistant(SPEC, indexes, model).run(AssistantRequest(QUESTION, history, max_tokens=9, temperature=0.5))
    assert [message["role"] for message in model.messages] == ["system", "user", "assistant", "user"]
    system, last = model.messages[0]["content"], model.messages[-1]["content"]
    assert "Answer in a friendly tone." in system
    assert "30 days" not in system
    assert '<passage number="1">' in last
    assert "30 days" in last
    assert last.endswith(f"Question: {QUESTION}")
    assert model.options == (9, 0.5)


async def test_a_follow_up_is_read_with_the_question_before(indexes: TenantIndexes) -> None:
    assistant = Assistant(SPEC, indexes, None)
    history = (Turn("user", "What is the price of express handling?"), Turn("assistant", "EUR 42."))
    alone = await assistant.run(AssistantRequest("And storage?"))
    following = await assistant.run(AssistantRequest("And storage?", history))
    assert "EUR 7.80" in following.answer
    assert alone.route == "answered" or "EUR 7.80" not in alone.answer


async def test_without_knowledge_a_model_chats_and_nobody_else(indexes: TenantIndexes) -> None:
    spec = AssistantSpec(name="poet")
    model = ScriptedModel(["A poem [1]."])
    result = await Assistant(spec, indexes, model).run(AssistantRequest("Write a poem"))
    assert (result.answer, result.citations, result.route) == ("A poem.", (), "answered")
    assert "passages" not in model.messages[0]["content"]
    assert (await Assistant(spec, indexes, None).run(AssistantRequest("Write a poem"))).route == "no_evidence"


async def test_a_failing_engine_is_its_own_exception(indexes: TenantIndexes) -> None:
    model = ScriptedModel(["Within"], error=ModelUnavailable("down"))
    assistant = Assistant(SPEC, indexes, model)
    with pytest.raises(ModelUnavailable, match="down"):
        await assistant.run(AssistantRequest(QUESTION))
    seen: list[str] = []

    async def read() -> None:
        async for event in assistant.stream(AssistantRequest(QUESTION)):
            assert isinstance(event, TextDelta)
            seen.append(event.text)

    with pytest.raises(ModelUnavailable):
        await read()
    assert seen == ["Within"]
    assert model.closed


async def test_an_index_that_is_not_there_is_a_key_error(indexes: TenantIndexes) -> None:
    spec = AssistantSpec(name="x", indexes=("handbook", "absent"))
    with pytest.raises(KeyError):
        await Assistant(spec, indexes, None).run(AssistantRequest(QUESTION))


async def test_closing_the_stream_closes_the_models(indexes: TenantIndexes) -> None:
    model = ScriptedModel(["Within ", "30 "], hang=True)
    async with aclosing(Assistant(SPEC, indexes, model).stream(AssistantRequest(QUESTION))) as events:
        assert isinstance(await anext(events), TextDelta)
    assert model.closed


async def test_cancelling_the_reader_closes_the_models_stream(indexes: TenantIndexes) -> None:
    model = ScriptedModel(["Within "], hang=True)
    started = asyncio.Event()

    async def read() -> None:
        async for _ in Assistant(SPEC, indexes, model).stream(AssistantRequest(QUESTION)):
            started.set()

    reader = asyncio.create_task(read())
    await asyncio.wait_for(started.wait(), DEADLINE)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert model.closed


async def test_concurrent_requests_do_not_mix(indexes: TenantIndexes) -> None:
    assistant = Assistant(SPEC, indexes, None)
    questions = {QUESTION: "within 30 days", "How high is the fuel surcharge?": "4.5 percent"} | {
        "who repairs the blast freezers": "Mirella Tosh"
    }
    asked = list(questions) * 8
    results = await asyncio.gather(*(assistant.run(AssistantRequest(question)) for question in asked))
    for question, result in zip(asked, results, strict=True):
        assert questions[question] in result.answer


def test_tracing_is_off_whatever_the_environment_says() -> None:
    assert os.environ["LANGSMITH_TRACING"] == os.environ["LANGCHAIN_TRACING_V2"] == "false"
    from langsmith.utils import tracing_is_enabled

    assert not tracing_is_enabled()
