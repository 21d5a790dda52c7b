"""``POST /chat``: answers, citations, streams, refusals, and that it counts like ``/v1``."""

import json
from typing import Any

import msgspec
import pytest
from tests.dataplane.api.conftest import AssistantWorld
from tests.dataplane.harness import Key, eventually

from tenantplane_api.runtime import documents
from tenantplane_api.runtime.documents import TenantLimits
from tenantplane_cli.fakeengine import Fault
from tenantplane_dataplane.api.ask import Assistants


async def ask(world: AssistantWorld, key: Key | None, **body: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    return await world.plane.request("POST", "/chat", key=key, json=body)


async def test_answer_with_citations(assistants: AssistantWorld) -> None:
    status, body, headers = await ask(
        assistants, assistants.acme, query="Within how many days are faulty goods sent back?", assistant="handbook"
    )
    assert status == 200, body
    assert "30 days" in body["answer"]
    assert body["citations"][0]["document"] == "docs/returns.md"
    assert body["citations"][0]["chunk_ids"]
    assert body["route"] == "answered"
    assert body["refusal_reason"] is None
    assert body["request_id"] == headers["x-request-id"]
    assert set(body) == {"answer", "citations", "route", "refusal_reason", "usage", "latency_ms", "request_id"}
    assert headers["cache-control"] == "private, no-store"
    (event,) = await assistants.plane.events(1)
    assert (event.type, event.assistant, event.tenant) == ("dev.tenantplane.usage.assistant", "handbook", "acme")
    assert event.citations == len(body["citations"])
    assert event.output_text == body["usage"]["completion_tokens"]


async def test_the_same_question_finds_only_the_callers_own_documents(assistants: AssistantWorld) -> None:
    question = "Within how many days are faulty goods sent back?"
    acme = (await ask(assistants, assistants.acme, query=question, assistant="handbook"))[1]
    globex = (await ask(assistants, assistants.globex, query=question, assistant="handbook"))[1]
    assert "30 days" in acme["answer"]
    assert "77 days" not in json.dumps(acme)
    assert "77 days" in globex["answer"]
    assert "30 days" not in json.dumps(globex)
    secret = "What is the reactor cooling valve called?"
    assert "canary-omega-9" in (await ask(assistants, assistants.globex, query=secret))[1]["answer"]
    assert "canary-omega-9" not in json.dumps(
        (await ask(assistants, assistants.acme, query=secret, assistant="handbook"))[1]
    )


async def test_the_only_assistant_needs_no_name(assistants: AssistantWorld) -> None:
    assert (await ask(assistants, assistants.globex, query="What is the reactor valve called?"))[0] == 200
    status, body, _ = await ask(assistants, assistants.acme, query="hello")
    assert (status, body["error"]["param"]) == (400, "assistant")


async def test_a_foreign_or_unknown_assistant_is_404(assistants: AssistantWorld) -> None:
    for name in ("modelled", "nope", "../handbook", "handbook\n"):
        status, body, _ = await ask(assistants, assistants.globex, query="x", assistant=name)
        assert (status, body["error"]["code"]) == (404, "model_not_found"), name


async def test_an_index_that_is_not_built_is_503(assistants: AssistantWorld) -> None:
    status, body, headers = await ask(assistants, assistants.acme, query="x", assistant="building")
    assert (status, body["error"]["code"]) == (503, "index_unavailable")
    assert headers["retry-after"]
    (event,) = await assistants.plane.events(1)
    assert event.code == "index_unavailable"


async def test_through_a_model(assistants: AssistantWorld) -> None:
    status, body, _ = await ask(
        assistants, assistants.acme, query="Within how many days are faulty goods sent back?", assistant="modelled"
    )
    assert status == 200
    assert body["answer"].startswith("[fake engine, no model]")
    sent = assistants.engine.requests[-1]
    assert sent.headers["authorization"] == "Bearer upstream-secret-key"
    assert sent.headers["x-request-id"] == body["request_id"]
    assert "30 days" in json.dumps(sent.body["messages"])
    (event,) = await assistants.plane.events(1)
    assert (event.alias, event.engine, event.measured) == ("chat", "External", "provider")


async def test_a_failing_model_is_told_as_on_v1(assistants: AssistantWorld) -> None:
    assistants.engine.fault = Fault(status=500)
    for stream in (False, True):
        question: dict[str, Any] = {"query": "faulty goods", "assistant": "modelled", "stream": stream}
        status, body, _ = await ask(assistants, assistants.acme, **question)
        assert (status, body["error"]["code"]) == (502, "upstream_error")
        assert "engine.internal" not in json.dumps(body)


async def test_stream(assistants: AssistantWorld) -> None:
    body = {"query": "Who repairs the blast freezer?", "assistant": "handbook", "stream": True}
    headers = {"Authorization": f"Bearer {assistants.acme.text}"}
    async with assistants.plane.session.post(f"{assistants.plane.url}/chat", json=body, headers=headers) as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["cache-control"] == "private, no-store"
        lines = (await answer.text()).strip().split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [event["type"] for event in events] == ["delta"] * (len(events) - 1) + ["done"]
    assert "".join(event["text"] for event in events[:-1]) == events[-1]["answer"]
    assert "Mirella Tosh" in events[-1]["answer"]
    assert events[-1]["citations"]
    (event,) = await assistants.plane.events(1)
    assert event.stream
    assert event.status == 200


async def test_a_stream_whose_model_breaks_off_ends_with_an_error(assistants: AssistantWorld) -> None:
    assistants.engine.fault = Fault(drop_after=4)
    body = {"query": "faulty goods sent back", "assistant": "modelled", "stream": True}
    headers = {"Authorization": f"Bearer {assistants.acme.text}"}
    async with assistants.plane.session.post(f"{assistants.plane.url}/chat", json=body, headers=headers) as answer:
        lines = (await answer.text()).strip().split("\n\n")
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "upstream_error"
    (event,) = await assistants.plane.events(1)
    assert event.code == "upstream_error"


async def test_a_client_that_leaves_ends_the_models_request(assistants: AssistantWorld) -> None:
    assistants.engine.interval = 0.05
    body = {"query": "faulty goods " * 20, "assistant": "modelled", "stream": True}
    headers = {"Authorization": f"Bearer {assistants.acme.text}"}
    answer = await assistants.plane.session.post(f"{assistants.plane.url}/chat", json=body, headers=headers)
    await answer.content.readany()
    answer.close()
    await eventually(lambda: assistants.engine.active == 0 and assistants.engine.requests[-1].cancelled)
    (event,) = await assistants.plane.events(1)
    assert event.code == "client_disconnected"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_request", "query"),
        ({"query": ""}, "invalid_request", "query"),
        ({"query": "  "}, "invalid_request", "query"),
        ({"query": 7}, "invalid_request", "query"),
        ({"query": "x" * 40_000}, "invalid_request", "query"),
        ({"query": "x", "stream": "yes"}, "invalid_request", "stream"),
        ({"query": "x", "session_id": "1"}, "unsupported_parameter", "session_id"),
        ({"query": "x", "history": [{"role": "system", "content": "x"}]}, "invalid_request", "history[0].role"),
        ({"query": "x", "history": [{"role": "user"}]}, "invalid_request", "history[0].content"),
        ({"query": "x", "history": [{"role": "user", "content": "x"}] * 101}, "invalid_request", "history"),
        ([], "invalid_json", None),
    ],
)
async def test_bad_bodies(assistants: AssistantWorld, body: Any, code: str, param: str | None) -> None:
    status, answer, _ = await assistants.plane.request("POST", "/chat", key=assistants.acme, json=body)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, code, param)
    (event,) = await assistants.plane.events(1)
    assert event.code == code


async def test_what_is_no_json(assistants: AssistantWorld) -> None:
    for data, kind, code in (
        (b"{", "application/json", "invalid_json"),
        (b"query=x", "text/plain", "unsupported_media_type"),
    ):
        _, answer, _ = await assistants.plane.request(
            "POST", "/chat", key=assistants.acme, data=data, headers={"Content-Type": kind}
        )
        assert answer["error"]["code"] == code


async def test_nobody_reaches_fastapi_without_a_key(assistants: AssistantWorld) -> None:
    status, body, _ = await ask(assistants, None, query=7)
    assert (status, body["error"]["code"]) == (401, "missing_credentials")
    assert (await assistants.plane.request("GET", "/docs"))[0] == 404
    assert (await assistants.plane.request("GET", "/chat"))[0] == 405


async def test_chat_and_v1_count_against_the_same_limit(assistants: AssistantWorld) -> None:
    limited = documents.tenant_runtime(
        name="globex",
        namespace="tenant-globex",
        tenant_id="globex-0001",
        spec=_with_limits(assistants.documents["globex"], TenantLimits(requests_per_minute=2)),
    )
    assistants.plane.config.write(limited)
    store = assistants.plane.app.store

    def effective() -> bool:
        tenant = store.current.tenant(limited.name)
        return tenant is not None and tenant.requests_per_minute == 2

    await eventually(effective)
    first = await ask(assistants, assistants.globex, query="reactor")
    assert first[0] == 200
    assert first[2]["x-ratelimit-remaining-requests"] == "1"
    assert (await assistants.plane.chat(assistants.globex, "chat"))[0] == 200
    status, body, headers = await ask(assistants, assistants.globex, query="reactor")
    assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(headers["retry-after"]) >= 1
    assert (await ask(assistants, assistants.acme, query="freezer", assistant="handbook"))[0] == 200


def _with_limits(document: documents.TenantRuntime, limits: TenantLimits) -> documents.TenantSpec:
    return msgspec.structs.replace(document.spec, limits=limits)


async def test_openapi_describes_the_routes(assistants: AssistantWorld) -> None:
    status, body, _ = await assistants.plane.request("GET", "/openapi.json")
    assert status == 200
    served = {*assistants.plane.app._public._exact, "/v1/models/{id}"}  # type: ignore[union-attr]
    assert set(body["paths"]) == served
    assert "ChatBody" in body["components"]["schemas"]


async def test_an_unexpected_error_has_our_shape_and_no_text(
    assistants: AssistantWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("canary-internals")

    monkeypatch.setattr(Assistants, "get", explode)
    for stream in (False, True):
        question: dict[str, Any] = {"query": "x", "assistant": "handbook", "stream": stream}
        status, body, headers = await ask(assistants, assistants.acme, **question)
        assert (status, body["error"]["code"]) == (500, "internal_error")
        assert "canary-internals" not in json.dumps(body)
        assert headers["x-request-id"] == body["error"]["request_id"]
    first, _ = await assistants.plane.events(2)
    assert (first.status, first.code) == (500, "internal_error")
