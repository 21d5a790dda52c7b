"""Event streams cut at any byte, renaming, usage events, and what of an engine's error a client may read."""

import itertools
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.upstream.answers import ModelRenamer, error_refusal, rename_model
from tenantplane_dataplane.upstream.stream import EVENT_MAX, EventStream, event_data, split_events
from tenantplane_dataplane.wire.asgi import Refusal


def chunk(text: str, **more: Any) -> dict[str, Any]:
    return {"id": "1", "model": "served-7b", "choices": [{"index": 0, "delta": {"content": text}}], **more}


def event(content: Any, end: str = "\n\n") -> bytes:
    return b"data: " + (content if isinstance(content, bytes) else json.dumps(content).encode()) + end.encode()


USAGE = {"id": "1", "model": "served-7b", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


async def source(pieces: list[bytes]) -> AsyncGenerator[bytes]:
    for piece in pieces:
        yield piece


async def collect(pieces: list[bytes], *, include_usage: bool = False) -> tuple[bytes, EventStream]:
    stream = EventStream(source(pieces), alias='my "alias"', include_usage=include_usage)
    return b"".join([piece async for piece in stream.pieces()]), stream


def payloads(data: bytes) -> list[Any]:
    found = [event_data(item) for item in split_events(data)]
    assert found[-1] == b"[DONE]"
    return [json.loads(item) for item in found[:-1]]


TEXTS = ['plain "usage":{ "model":"served-7b"', "line\nbreak\n\nand more", "data: [DONE]\n\n", "\r\n\r\n", "é😀", "\\"]


@given(cuts=st.sets(st.integers(1, 2000), max_size=40), end=st.sampled_from(["\n\n", "\r\n\r\n"]), ask=st.booleans())
async def test_any_cut_gives_the_same_events(cuts: set[int], end: str, ask: bool) -> None:
    whole = b"".join([*(event(chunk(text), end) for text in TEXTS), event(USAGE, end), event(b"[DONE]", end)])
    edges = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    data, stream = await collect([whole[a:b] for a, b in itertools.pairwise(edges)], include_usage=ask)
    found = payloads(data)
    assert [item["choices"][0]["delta"]["content"] for item in found if item["choices"]] == TEXTS
    assert {item["model"] for item in found} == {'my "alias"'}
    assert ("usage" in found[-1]) == ask
    assert stream.usage is not None
    assert (stream.usage.prompt_tokens, stream.usage.completion_tokens) == (5, 2)


async def test_usage_beside_content_is_read_and_kept() -> None:
    data, stream = await collect(
        [event(chunk("a", usage={"prompt_tokens": 3, "completion_tokens": 1})), event(b"[DONE]")]
    )
    assert stream.usage is not None
    assert payloads(data)[0]["choices"][0]["delta"]["content"] == "a"


@pytest.mark.parametrize(
    "pieces",
    [
        [event(chunk("a"))],
        [event(chunk("a")), b'data: {"id"'],
        [event(chunk("a")), event({"error": {"message": "CUDA at gpu-7"}}), event(b"[DONE]")],
        [b"data: " + b"x" * (EVENT_MAX + 1)],
        [],
    ],
)
async def test_what_is_not_whole_is_an_error(pieces: list[bytes]) -> None:
    with pytest.raises(Refusal) as refused:
        await collect(pieces)
    assert refused.value.code is ErrorCode.UPSTREAM_ERROR


def test_renaming_leaves_text_alone() -> None:
    text = json.dumps({"content": 'say "model": "x" and \\"model\\":\\"y\\"', "model": "served\\u002d7b"}).encode()
    assert json.loads(ModelRenamer("a\\b")(text)) == {
        "content": 'say "model": "x" and \\"model\\":\\"y\\"',
        "model": "a\\b",
    }


def test_a_whole_answer_keeps_every_value() -> None:
    body, fields = rename_model(b'{"model":"served","x": [1.0,  2],"usage":{"prompt_tokens":1}}', "alias")
    assert body == b'{"model":"alias","x":[1.0,  2],"usage":{"prompt_tokens":1}}'
    assert "usage" in fields
    for bad in (b"", b"[]", b"<html>", b"\xff", b'{"a":' * 50_000):
        with pytest.raises(Refusal):
            rename_model(bad, "alias")


def test_an_engines_message_passes_without_addresses() -> None:
    said = (
        "The model `served-7b` at http://10.1.2.3:8000/v1 (engine.models.svc.cluster.local:8000, 10.1.2.3, "
        "fd00::1:2:3:4) has a maximum context length of 4096 tokens."
    )
    refusal = error_refusal(
        400, json.dumps({"error": {"message": said}}).encode(), served_name="served-7b", alias="chat"
    )
    assert refusal.message is not None
    assert "maximum context length of 4096 tokens" in refusal.message
    assert "`chat`" in refusal.message
    for secret in ("10.1.2.3", "svc", "served-7b", "fd00"):
        assert secret not in refusal.message


@pytest.mark.parametrize(
    "body", [b"", b"<html>Traceback", b"[]", b'{"error":"x"}', b'{"error":{"message":7}}', b"x" * 20_000]
)
def test_other_bodies_are_not_shown(body: bytes) -> None:
    refusal = error_refusal(400, body, served_name="s", alias="a")
    assert refusal.message is None
    assert refusal.code is ErrorCode.INVALID_REQUEST
