"""``/v1/chat/completions`` over real HTTP: plain, streaming, through the unmodified OpenAI SDK."""

import asyncio
import json

import aiohttp
import openai
import pytest
from tests.dataplane.conftest import World
from tests.dataplane.harness import eventually

from tenantplane_cli.fakeengine import Fault


async def test_plain(world: World) -> None:
    status, body, headers = await world.plane.chat(world.acme, "chat", "what is the time")
    assert status == 200
    assert body["choices"][0]["message"]["content"] == "[fake engine, no model] You said: what is the time"
    assert body["model"] == "chat", "the engine's served name stays inside"
    assert headers["cache-control"] == "private, no-store"
    assert headers["x-request-id"].startswith("req_")
    (event,) = await world.plane.events(1)
    assert event.id == headers["x-request-id"]
    assert (event.tenant, event.subject, event.status, event.measured) == ("acme", "acme-account", 200, "provider")
    assert event.input_uncached == body["usage"]["prompt_tokens"]
    assert event.output_text == body["usage"]["completion_tokens"]
    assert event.type == "dev.tenantplane.usage.chat"


async def test_stream(world: World) -> None:
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "a b c"}]}
    headers = {"Authorization": f"Bearer {world.acme.text}"}
    async with world.plane.session.post(f"{world.plane.url}/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        text = (await answer.read()).decode()
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks).endswith("You said: a b c")
    assert {c["model"] for c in chunks} == {"chat"}
    assert all(not c.get("usage") for c in chunks), "the client did not ask for usage"
    (event,) = await world.plane.events(1)
    assert event.stream
    assert event.measured == "provider"
    assert event.output_text > 0
    assert world.engine.requests[-1].body["stream_options"] == {"include_usage": True}


async def test_openai_sdk(world: World) -> None:
    async with openai.AsyncOpenAI(base_url=f"{world.plane.url}/v1", api_key=world.acme.text, max_retries=0) as client:
        plain = await client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hi"}])
        assert plain.choices[0].message.content == "[fake engine, no model] You said: hi"
        stream = await client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == plain.choices[0].message.content
        assert chunks[-1].usage == plain.usage
        listed = await client.models.list()
        assert [model.id async for model in listed] == ["chat", "acme-canary"]
        assert (await client.models.retrieve("chat")).id == "chat"
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("talk")
        assert missing.value.code == "model_not_found"


async def test_openai_sdk_error_classes(world: World) -> None:
    async with openai.AsyncOpenAI(base_url=f"{world.plane.url}/v1", api_key=world.acme.text, max_retries=0) as client:

        async def ask(model: str = "chat", **more: object) -> object:
            messages = [{"role": "user", "content": "hi"}]
            return await client.chat.completions.create(model=model, messages=messages, **more)  # type: ignore[call-overload]

        with pytest.raises(openai.NotFoundError):
            await ask("nope")
        with pytest.raises(openai.BadRequestError) as bad:
            await ask(max_tokens=0)
        assert bad.value.param == "max_tokens"
        world.engine.fault = Fault(status=500)
        with pytest.raises(openai.InternalServerError) as broken:
            await ask()
        assert broken.value.code == "upstream_error"
        world.engine.fault = Fault(error_event=True)
        with pytest.raises(openai.APIError) as cut:
            async for _ in await ask(stream=True):  # type: ignore[attr-defined]
                pass
        assert cut.value.code == "upstream_error"
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="sk-wrong").models.list()


async def test_a_client_that_leaves_ends_the_upstream_request_and_is_metered(world: World) -> None:
    world.engine.interval = 0.02
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "word " * 150}]}
    headers = {"Authorization": f"Bearer {world.acme.text}"}
    async with aiohttp.ClientSession() as leaving:
        answer = await leaving.post(f"{world.plane.url}/v1/chat/completions", json=body, headers=headers)
        await answer.content.readany()
        answer.close()
    await eventually(lambda: world.engine.active == 0 and world.engine.requests[-1].cancelled)
    (event,) = await world.plane.events(1)
    assert event.code == "client_disconnected"
    assert event.measured == "estimated"
    assert 0 < event.output_text < 150


async def test_a_client_that_leaves_before_the_head_ends_the_upstream_request(world: World) -> None:
    world.engine.latency = 30.0
    request = asyncio.create_task(world.plane.chat(world.acme, "chat"))
    await eventually(lambda: world.engine.active == 1)
    request.cancel()
    await eventually(lambda: world.engine.active == 0)
    (event,) = await world.plane.events(1)
    assert (event.status, event.code) == (499, "client_disconnected")
    assert event.measured == "none"


async def test_a_stream_that_breaks_off_is_not_ended_as_if_it_were_whole(world: World) -> None:
    world.engine.fault = Fault(drop_after=3)
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "a b c d e"}]}
    headers = {"Authorization": f"Bearer {world.acme.text}"}
    async with world.plane.session.post(f"{world.plane.url}/v1/chat/completions", json=body, headers=headers) as answer:
        text = (await answer.read()).decode()
    assert "[DONE]" not in text
    assert json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["code"] == "upstream_error"
    (event,) = await world.plane.events(1)
    assert (event.code, event.measured) == ("upstream_error", "estimated")
    assert event.output_text > 0


async def test_absent_usage_is_estimated_never_zero(world: World) -> None:
    world.engine.fault = Fault(no_usage=True)
    assert (await world.plane.chat(world.acme, "chat", "count me please"))[0] == 200
    (event,) = await world.plane.events(1)
    assert event.measured == "estimated"
    assert event.input_uncached > 0
    assert event.output_text > 0
