"""Pairs: what the owner may, the other may not, and no text of one reaches the other."""

import asyncio
import json
from typing import Any

import pytest
from tests.dataplane.conftest import World
from tests.dataplane.harness import Key, eventually, external_model, new_key, tenant_document

from tenantplane_api.runtime import keys
from tenantplane_api.runtime.documents import TenantLimits
from tenantplane_cli.fakeengine import Fault

CANARIES = ("acme-canary", "acme-only", "fake-secret-7b", "upstream-secret-key", "127.0.0.1", "acme-account")


def no_canary(body: Any, *, allowed: tuple[str, ...] = ()) -> None:
    text = json.dumps(body)
    assert not [canary for canary in CANARIES if canary in text and canary not in allowed]


async def test_a_private_model_by_every_name_it_has(world: World) -> None:
    assert (await world.plane.chat(world.acme, "acme-canary"))[0] == 200
    for name in ("acme-canary", "tenantplane-models/acme-only", "acme-only", "fake-secret-7b", "chat", "assistant/x"):
        status, body, headers = await world.plane.chat(world.globex, name)
        assert (status, body["error"]["code"]) == (404, "model_not_found"), name
        no_canary(body)
        no_canary(headers)


async def test_a_wrong_document_opens_no_model(world: World) -> None:
    """Tenant and model must both agree: an alias alone, as a faulty compiler might write it, is not enough."""
    stolen = tenant_document("globex", keys=[world.globex], models={"stolen": "tenantplane-models/acme-only"})
    world.plane.config.write(stolen)
    store = world.plane.app.store

    def loaded() -> bool:
        tenant = store.current.tenant(stolen.name)
        return tenant is not None and "stolen" in tenant.aliases

    await eventually(loaded)
    status, body, _ = await world.plane.chat(world.globex, "stolen")
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    # The guard is what refuses: with it open, the same request passes.
    open_model = external_model("acme-only", _url(world), shared_with=["acme", "globex"], served_name="fake-secret-7b")
    world.plane.config.write(open_model)

    async def opened() -> bool:
        return (await world.plane.chat(world.globex, "stolen"))[0] == 200

    for _ in range(500):
        if await opened():
            break
    else:
        pytest.fail("the shared model was not reached")


def _url(world: World) -> str:
    external = world.models["private"].spec.external
    assert external is not None
    return external.base_url


async def test_listings(world: World) -> None:
    acme = await world.plane.request("GET", "/v1/models", key=world.acme)
    globex = await world.plane.request("GET", "/v1/models", key=world.globex)
    assert [model["id"] for model in acme[1]["data"]] == ["chat", "acme-canary"]
    assert [model["id"] for model in globex[1]["data"]] == ["talk"]
    no_canary(globex[1])
    assert (await world.plane.request("GET", "/v1/models/acme-canary", key=world.acme))[0] == 200
    status, body, _ = await world.plane.request("GET", "/v1/models/acme-canary", key=world.globex)
    assert status == 404
    no_canary(body)


async def test_limits_are_each_tenants_own(world: World) -> None:
    limited = tenant_document(
        "acme",
        keys=[world.acme],
        models={"chat": "tenantplane-models/shared"},
        limits=TenantLimits(requests_per_minute=1, concurrency=1),
    )
    world.plane.config.write(limited)
    store = world.plane.app.store

    def loaded() -> bool:
        tenant = store.current.tenant(limited.name)
        return tenant is not None and tenant.concurrency == 1

    await eventually(loaded)
    status, _, headers = await world.plane.chat(world.acme, "chat")
    assert status == 200
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"].endswith("s")
    status, body, headers = await world.plane.chat(world.acme, "chat")
    assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(headers["retry-after"]) <= 60
    for _ in range(3):
        status, body, headers = await world.plane.chat(world.globex, "talk")
        assert status == 200
        assert not [name for name in headers if name.startswith("x-ratelimit")]
    # The same limit for the other tenant is a counter of its own.
    world.plane.config.write(
        tenant_document(
            "globex",
            keys=[world.globex],
            models={"talk": "tenantplane-models/shared"},
            limits=TenantLimits(requests_per_minute=1, concurrency=1),
        )
    )
    await eventually(lambda: store.current.tenants[world.documents["globex"].name].compiled().concurrency == 1)
    assert (await world.plane.chat(world.globex, "talk"))[0] == 200
    assert (await world.plane.chat(world.globex, "talk"))[0] == 429
    events = await world.plane.events(7)
    assert [(event.tenant, event.status) for event in events[:2]] == [("acme", 200), ("acme", 429)]


async def test_concurrency_slots_come_back(world: World) -> None:
    limited = tenant_document(
        "acme", keys=[world.acme], models={"chat": "tenantplane-models/shared"}, limits=TenantLimits(concurrency=1)
    )
    world.plane.config.write(limited)
    store = world.plane.app.store

    def loaded() -> bool:
        tenant = store.current.tenant(limited.name)
        return tenant is not None and tenant.concurrency == 1

    await eventually(loaded)
    world.engine.latency = 30.0
    first = asyncio.create_task(world.plane.chat(world.acme, "chat"))
    await eventually(lambda: world.engine.active == 1)
    status, body, headers = await world.plane.chat(world.acme, "chat")
    assert (status, body["error"]["code"]) == (429, "concurrency_limit_exceeded")
    assert headers["retry-after"]
    world.engine.latency = 0.0
    assert (await world.plane.chat(world.globex, "talk"))[0] == 200
    first.cancel()
    await eventually(lambda: world.engine.active == 0)
    await eventually(lambda: len(world.plane.usage.events) == 3)
    assert (await world.plane.chat(world.acme, "chat"))[0] == 200


@pytest.mark.parametrize("variant", ["flipped", "truncated", "case", "other-id", "unknown", "empty", "sql"])
async def test_keys_that_are_almost_right(world: World, variant: str) -> None:
    text = world.acme.text
    wrong = {
        "flipped": text[:-1] + ("0" if text[-1] != "0" else "1"),
        "truncated": text[:-1],
        "case": text.upper(),
        "other-id": "tp_" + world.globex.text[3:11] + text[11:],
        "unknown": keys.generate_key().text,
        "empty": "",
        "sql": "' OR 1=1 --",
    }[variant]
    status, body, headers = await world.plane.request("GET", "/v1/models", key=Key(wrong, world.acme.entry))
    assert status == 401
    assert body["error"]["code"] in ("invalid_api_key", "missing_credentials")
    assert headers["www-authenticate"] == "Bearer"
    assert wrong == "" or wrong not in json.dumps(body)
    assert not world.plane.usage.events


async def test_nothing_but_the_key_names_the_tenant(world: World) -> None:
    headers = {
        "X-Tenant-Id": "acme",
        "x-tenant": "acme",
        "X-Tenantplane-Tenant": "acme-account",
        "Forwarded": "for=acme",
        "Cookie": "tenant=acme",
    }
    status, body, _ = await world.plane.request("GET", "/v1/models", key=world.globex, headers=headers)
    assert status == 200
    assert [model["id"] for model in body["data"]] == ["talk"]
    status, body, _ = await world.plane.chat(world.globex, "talk", user="acme", tenant="acme")
    assert status == 200
    (event,) = await world.plane.events(1)
    assert event.tenant == "globex"


async def test_two_different_keys_are_refused_not_chosen_from(world: World) -> None:
    headers = {"x-api-key": world.acme.text}
    status, body, _ = await world.plane.request("GET", "/v1/models", key=world.globex, headers=headers)
    assert (status, body["error"]["code"]) == (400, "invalid_request")
    assert (await world.plane.request("GET", "/v1/models", headers=headers))[0] == 200
    headers = {"x-api-key": world.globex.text}
    assert (await world.plane.request("GET", "/v1/models", key=world.globex, headers=headers))[0] == 200


async def test_what_goes_upstream(world: World) -> None:
    headers = {
        "Cookie": "secret",
        "X-Forwarded-For": "1.2.3.4",
        "OpenAI-Organization": "x",
        "traceparent": "00-ab-cd-01",
    }
    content = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "cache_salt": "other", "seed": 7}
    status, _, answered = await world.plane.request(
        "POST", "/v1/chat/completions", key=world.acme, json=content, headers=headers
    )
    assert status == 200
    seen = world.engine.requests[-1]
    assert set(seen.headers) == {
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "content-type",
        "content-length",
        "authorization",
        "x-request-id",
        "traceparent",
    }
    assert seen.headers["authorization"] == "Bearer upstream-secret-key"
    assert world.acme.text not in json.dumps(seen.headers)
    assert "cache_salt" not in seen.body
    assert seen.body["model"] == "fake-chat"
    assert seen.body["seed"] == 7
    assert "x-engine" not in answered


async def test_upstream_errors_name_nothing_of_ours(world: World) -> None:
    for upstream, status, code in (
        (400, 400, "invalid_request"),
        (422, 400, "invalid_request"),
        (413, 413, "request_too_large"),
        (429, 429, "rate_limit_exceeded"),
        (401, 502, "upstream_error"),
        (403, 502, "upstream_error"),
        (404, 502, "upstream_error"),
        (500, 502, "upstream_error"),
        (302, 502, "upstream_error"),
    ):
        world.engine.fault = Fault(status=upstream)
        got, body, headers = await world.plane.chat(world.acme, "acme-canary")
        assert (got, body["error"]["code"]) == (status, code), upstream
        assert "engine.internal" not in json.dumps(body)
        no_canary(body)
        no_canary(headers)


async def test_an_unreachable_engine_names_no_host(world: World) -> None:
    world.plane.config.write(external_model("shared", "http://127.0.0.1:1/v1"))
    store = world.plane.app.store

    def changed() -> bool:
        model = store.current.models[world.models["shared"].key].compiled()
        return model.document.spec.external is not None and model.document.spec.external.base_url.endswith(":1/v1")

    await eventually(changed)
    status, body, headers = await world.plane.chat(world.globex, "talk")
    assert (status, body["error"]["code"]) == (502, "upstream_unavailable")
    assert headers["retry-after"] == "1"
    no_canary(body)


async def test_tenants_whose_names_look_alike(world: World) -> None:
    """Names that a careless prefix, join or pattern would take for another's."""
    names = ["acme-1", "a", "acme--1", "acm", "x-acme", "0"]
    made = {name: new_key() for name in names}
    for name, key in made.items():
        world.plane.config.write(
            tenant_document(
                name, tenant_id=f"{name}-tenant-id", keys=[key], models={f"of-{name}": "tenantplane-models/shared"}
            )
        )
    await eventually(lambda: len(world.plane.app.store.current.tenants) == 2 + len(names))
    for name, key in made.items():
        _, body, _ = await world.plane.request("GET", "/v1/models", key=key)
        assert [model["id"] for model in body["data"]] == [f"of-{name}"]
