"""``model: "assistant/<name>"`` and engine Extractive on ``/v1/chat/completions``, with the unmodified OpenAI SDK."""

from typing import Any

import openai
import pytest
from tests.dataplane.api.conftest import AssistantWorld


def client_of(world: AssistantWorld) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{world.plane.url}/v1", api_key=world.acme.text, max_retries=0)


async def test_openai_sdk_plain_and_streaming(assistants: AssistantWorld) -> None:
    async with client_of(assistants) as client:
        messages: Any = [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": [{"type": "text", "text": "Who repairs the blast freezer?"}]},
        ]
        plain = await client.chat.completions.create(model="assistant/handbook", messages=messages)
        text = plain.choices[0].message.content or ""
        assert "Mirella Tosh" in text
        assert plain.model == "assistant/handbook"
        assert plain.usage is not None
        assert plain.usage.completion_tokens > 0
        assert (plain.model_extra or {})["citations"][0]["document"] == "docs/freezer.txt"
        stream = await client.chat.completions.create(
            model="assistant/handbook", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
        assert chunks[-1].usage is not None
        assert [c for c in chunks if c.choices][-1].choices[0].finish_reason == "stop"
        assert (chunks[-2].model_extra or {})["citations"]
        listed = [model.id async for model in await client.models.list()]
        assert listed == ["chat", "extract", "assistant/handbook", "assistant/modelled", "assistant/building"]
        assert (await client.models.retrieve("assistant/handbook")).id == "assistant/handbook"
    first, second = await assistants.plane.events(2)
    assert first.assistant == second.assistant == "handbook"
    assert first.output_text == second.output_text


async def test_another_tenants_assistant_is_404(assistants: AssistantWorld) -> None:
    ok, _, _ = await assistants.plane.chat(assistants.acme, "assistant/modelled")
    status, body, _ = await assistants.plane.chat(assistants.globex, "assistant/modelled")
    assert (ok, status, body["error"]["code"]) == (200, 404, "model_not_found")


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"messages": [{"role": "system", "content": "x"}]}, "unsupported_parameter", "messages[0].role"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "unsupported_parameter", "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "unsupported_parameter", "messages[0].role"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "invalid_request", "messages[0].role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "invalid_request", "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "invalid_request", "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "invalid_request",
            "messages[0].content",
        ),
        ({"messages": []}, "invalid_request", "messages"),
        ({"messages": "x"}, "invalid_request", "messages"),
        ({"tools": []}, "unsupported_parameter", "tools"),
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"temperature": 9}, "invalid_request", "temperature"),
        ({"temperature": "hot"}, "invalid_request", "temperature"),
    ],
)
async def test_what_an_assistant_does_not_take(
    assistants: AssistantWorld, more: dict[str, Any], code: str, param: str
) -> None:
    status, body, _ = await assistants.plane.chat(assistants.acme, "assistant/handbook", **more)
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, code, param)


async def test_harmless_fields_pass(assistants: AssistantWorld) -> None:
    more: dict[str, Any] = {"user": "u-1", "n": 1, "temperature": 0.2, "max_tokens": 50, "tools": None}
    assert (await assistants.plane.chat(assistants.acme, "assistant/handbook", "freezer", **more))[0] == 200
    assert (await assistants.plane.chat(assistants.acme, "assistant/modelled", "freezer", **more))[0] == 200
    sent = assistants.engine.requests[-1].body
    assert (sent["temperature"], sent["max_tokens"]) == (0.2, 50)
    assert "user" not in sent


async def test_an_extractive_alias(assistants: AssistantWorld) -> None:
    messages: Any = [
        {"role": "system", "content": "The canteen opens at noon. The gate closes at ten."},
        {"role": "user", "content": "When does the canteen open?"},
    ]
    status, body, _ = await assistants.plane.chat(assistants.acme, "extract", messages=messages)
    assert status == 200
    assert "noon" in body["choices"][0]["message"]["content"]
    assert body["model"] == "extract"
    async with client_of(assistants) as client:
        stream = await client.chat.completions.create(model="extract", messages=messages, stream=True)
        text = "".join([c.choices[0].delta.content or "" async for c in stream])
    assert text == body["choices"][0]["message"]["content"]
    first, _ = await assistants.plane.events(2)
    assert (first.engine, first.measured) == ("Extractive", "estimated")
