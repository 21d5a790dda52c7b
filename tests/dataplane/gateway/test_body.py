"""Bodies: what is checked, what goes on byte for byte."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dataplane.conftest import World
from tests.dataplane.harness import eventually, external_model

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.gateway.body import check_output_bound, parse_chat, rewrite
from tenantplane_dataplane.wire.asgi import Refusal

MESSAGES: Any = [{"role": "user", "content": "x"}]


def body(**more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES, **more}).encode()


@pytest.mark.parametrize(
    ("data", "code", "param"),
    [
        (b"", ErrorCode.INVALID_JSON, None),
        (b"{", ErrorCode.INVALID_JSON, None),
        (b"[]", ErrorCode.INVALID_JSON, None),
        (b"null", ErrorCode.INVALID_JSON, None),
        (b"\xff\xfe", ErrorCode.INVALID_JSON, None),
        (b'{"a":' * 50_000, ErrorCode.INVALID_JSON, None),
        (b'{"model":"a","model":"b","messages":[]}', ErrorCode.INVALID_REQUEST, "model"),
        (b'{"messages":[]}', ErrorCode.INVALID_REQUEST, "model"),
        (body(model=7), ErrorCode.INVALID_REQUEST, "model"),
        (body(model=""), ErrorCode.INVALID_REQUEST, "model"),
        (body(model=None), ErrorCode.INVALID_REQUEST, "model"),
        (body(model="x" * 300), ErrorCode.INVALID_REQUEST, "model"),
        (b'{"model":"m"}', ErrorCode.INVALID_REQUEST, "messages"),
        (body(stream="true"), ErrorCode.INVALID_REQUEST, "stream"),
        (body(stream=1), ErrorCode.INVALID_REQUEST, "stream"),
        (body(stream_options=[]), ErrorCode.INVALID_REQUEST, "stream_options"),
        (body(stream_options={"include_usage": True}), ErrorCode.INVALID_REQUEST, "stream_options"),
        (
            body(stream=True, stream_options={"include_usage": "y"}),
            ErrorCode.INVALID_REQUEST,
            "stream_options.include_usage",
        ),
        (body(max_tokens=0), ErrorCode.INVALID_REQUEST, "max_tokens"),
        (body(max_tokens=1.5), ErrorCode.INVALID_REQUEST, "max_tokens"),
        (body(max_completion_tokens=-1), ErrorCode.INVALID_REQUEST, "max_completion_tokens"),
    ],
)
def test_refused(data: bytes, code: ErrorCode, param: str | None) -> None:
    with pytest.raises(Refusal) as refused:
        parse_chat(data)
    assert (refused.value.code, refused.value.param) == (code, param)


def test_the_word_model_elsewhere_is_no_repetition() -> None:
    tools = [{"type": "function", "function": {"parameters": {"properties": {"model": {"type": "string"}}}}}]
    assert parse_chat(body(tools=tools)).model == "m"


def test_what_is_forwarded_is_what_was_checked() -> None:
    """A key spelt with an escape is the same key to a JSON parser: there is one `model` in what goes on."""
    request = parse_chat(b'{"model":"cheap","messages":[],"mod\\u0065l":"dear"}')
    sent = rewrite(request, served_name="served", max_output_tokens=None)
    assert request.model == "dear"
    assert json.loads(sent, object_pairs_hook=list) == [["model", "served"], ["messages", []]] or json.loads(
        sent, object_pairs_hook=list
    ) == [("model", "served"), ("messages", [])]


def test_values_go_on_as_they_were_sent() -> None:
    sent = rewrite(
        parse_chat(
            b'{"model":"m", "messages" : [ {"role":"user","content":"\\u00e9 \xc3\xa9"} ], "temperature":1.000}'
        ),
        served_name="s",
        max_output_tokens=None,
    )
    assert sent == b'{"model":"s","messages":[ {"role":"user","content":"\\u00e9 \xc3\xa9"} ],"temperature":1.000}'


@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda k: k not in {"model", "messages", "stream", "stream_options", "cache_salt"}),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        ),
        max_size=6,
    ).filter(lambda d: not {"max_tokens", "max_completion_tokens"} & d.keys())
)
def test_every_other_field_passes_unchanged(more: dict[str, Any]) -> None:
    content = {"model": "m", "messages": MESSAGES, **more}
    sent = json.loads(rewrite(parse_chat(json.dumps(content).encode()), served_name="s", max_output_tokens=None))
    assert sent == {**content, "model": "s"}


def test_usage_is_always_asked_of_a_stream() -> None:
    asked = rewrite(parse_chat(body(stream=True)), served_name="s", max_output_tokens=None)
    assert msgspec.json.decode(asked)["stream_options"] == {"include_usage": True}
    kept = parse_chat(body(stream=True, stream_options={"include_usage": False, "x": 1}))
    assert not kept.include_usage
    sent = msgspec.json.decode(rewrite(kept, served_name="s", max_output_tokens=None))
    assert sent["stream_options"] == {"include_usage": True, "x": 1}
    assert "stream_options" not in msgspec.json.decode(
        rewrite(parse_chat(body()), served_name="s", max_output_tokens=None)
    )


def test_output_bound() -> None:
    check_output_bound(parse_chat(body(max_tokens=10)), max_output_tokens=10)
    check_output_bound(parse_chat(body(max_tokens=10)), max_output_tokens=None)
    check_output_bound(parse_chat(body()), max_output_tokens=10)
    for name in ("max_tokens", "max_completion_tokens"):
        with pytest.raises(Refusal) as refused:
            check_output_bound(parse_chat(body(**{name: 11})), max_output_tokens=10)
        assert refused.value.param == name
    bounded = rewrite(parse_chat(body(max_tokens=None)), served_name="s", max_output_tokens=10)
    assert msgspec.json.decode(bounded)["max_tokens"] == 10
    own = rewrite(parse_chat(body(max_completion_tokens=3)), served_name="s", max_output_tokens=10)
    assert "max_tokens" not in msgspec.json.decode(own)


async def test_bounds_media_types_and_suspension_over_http(world: World) -> None:
    status, answer, _ = await world.plane.request(
        "POST", "/v1/chat/completions", key=world.acme, data=b"model=chat", headers={"Content-Type": "text/plain"}
    )
    assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")
    external = world.models["shared"].spec.external
    assert external is not None
    world.plane.config.write(external_model("shared", external.base_url, max_output_tokens=5))
    store, key = world.plane.app.store, world.models["shared"].key
    await eventually(lambda: store.current.models[key].compiled().document.spec.max_output_tokens == 5)
    status, answer, _ = await world.plane.chat(world.acme, "chat", max_tokens=6)
    assert (status, answer["error"]["param"]) == (400, "max_tokens")
    status, answer, _ = await world.plane.chat(world.acme, "chat", "one two three four five six")
    assert (status, answer["choices"][0]["finish_reason"]) == (200, "length")
    world.plane.config.write(external_model("shared", external.base_url, suspended=True))
    await eventually(lambda: store.current.models[key].compiled().document.spec.suspended)
    status, answer, _ = await world.plane.chat(world.acme, "chat")
    assert (status, answer["error"]["code"]) == (503, "model_suspended")


async def test_unknown_routes_and_methods(world: World) -> None:
    for path in ("/", "/v1", "/v1/chat/completions/", "/V1/models", "/v1//models", "/metrics", "/v1/models/", "/chat"):
        status, answer, _ = await world.plane.request("GET", path, key=world.acme)
        assert (status, answer["error"]["code"]) == (404, "route_not_found"), path
    status, answer, headers = await world.plane.request("DELETE", "/v1/models", key=world.acme)
    assert (status, answer["error"]["code"], headers["allow"]) == (405, "method_not_allowed", "GET")
    assert (await world.plane.request("GET", "/healthz"))[0] == 200
    assert (await world.plane.request("GET", "/readyz"))[0] == 200
