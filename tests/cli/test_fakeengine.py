"""The fake engine against the OpenAI SDK's own types, strictly, and through the SDK itself."""

import json
from typing import Any

import aiohttp
import openai
import pytest
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tenantplane_cli.fakeengine import OWNER, FakeEngine, Fault, running

BODY: dict[str, Any] = {"model": "fake-chat", "messages": [{"role": "user", "content": "hello there"}]}


async def post(url: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/chat/completions", json=body, headers=headers) as answer,
    ):
        return answer.status, await answer.read()


async def test_answers_have_the_sdks_types() -> None:
    async with running(FakeEngine()) as url:
        status, body = await post(url, BODY)
        assert status == 200
        plain = ChatCompletion.model_validate(json.loads(body), strict=False)
        assert not plain.model_extra
        assert "fake engine" in (plain.choices[0].message.content or "")
        assert plain.usage is not None
        assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens
        stream = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
        _, body = await post(url, stream)
        events = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line]
        assert events.pop() == "[DONE]"
        chunks = [ChatCompletionChunk.model_validate(json.loads(event)) for event in events]
        assert not any(chunk.model_extra for chunk in chunks)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == plain.choices[0].message.content
        assert chunks[-1].usage == plain.usage
        assert (await post(url, BODY))[1] == json.dumps(
            json.loads((await post(url, BODY))[1]), separators=(",", ":")
        ).encode()


async def test_it_says_that_it_is_a_fake() -> None:
    async with running(FakeEngine(models=("a", "b"))) as url, openai.AsyncOpenAI(base_url=url, api_key="x") as client:
        models = [Model.model_validate(model.model_dump()) async for model in client.models.list()]
        assert [model.id for model in models] == ["a", "b"]
        assert {model.owned_by for model in models} == {OWNER}
        answer = await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "x"}])
        assert answer.system_fingerprint == OWNER


@pytest.mark.parametrize(
    ("header", "status"),
    [("status=503", 503), ("status=418", 418), ("hang=0.01", 200), ("no-usage", 200), ("nope", 400)],
)
async def test_faults_by_header(header: str, status: int) -> None:
    async with running(FakeEngine()) as url:
        assert (await post(url, BODY, {"x-fake-fault": header}))[0] == status


async def test_broken_streams() -> None:
    async with running(FakeEngine(chunks=10)) as url:
        with pytest.raises(aiohttp.ClientPayloadError):
            await post(url, {**BODY, "stream": True}, {"x-fake-fault": "drop=3"})
        assert b"error" in (await post(url, {**BODY, "stream": True}, {"x-fake-fault": "error-event"}))[1]


async def test_bounds_keys_and_bad_requests() -> None:
    async with running(FakeEngine(api_key="secret", fault=Fault())) as url:
        assert (await post(url, BODY))[0] == 401
        key = {"Authorization": "Bearer secret"}
        assert (await post(url, BODY, key))[0] == 200
        _, body = await post(url, {**BODY, "max_tokens": 2}, key)
        answer = ChatCompletion.model_validate(json.loads(body))
        assert answer.choices[0].finish_reason == "length"
        bodies: list[Any] = [{}, {"model": "x", "messages": []}, {"model": "nope", "messages": [{"role": "user"}]}, []]
        for bad in bodies:
            assert (await post(url, bad, key))[0] in (400, 404)
