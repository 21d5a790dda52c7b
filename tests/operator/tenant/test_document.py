"""The runtime document: who is in it, that it is the same bytes for the same input, and its bound."""

import random
from typing import Any

import pytest
from tests.operator.tenant.build import ACME, HASH_A, HASH_B, api_key, namespace, parsed, platform

from tenantplane_api.runtime import documents, limits, names
from tenantplane_api.runtime.documents import KeyEntry, ModelAlias, TenantLimits, TenantRuntime
from tenantplane_operator.tenant.compile import Observed, compile_tenant
from tenantplane_operator.tenant.concern import Refused
from tenantplane_operator.tenant.document import (
    KEYS_BYTES_MAX,
    accepted_keys,
    check_size,
    compile_document,
    entry_bytes,
    left_out,
)


def keys(*objects: dict[str, Any]) -> tuple[KeyEntry, ...]:
    return accepted_keys(objects, namespace="tenant-acme")


def compiled(**spec: Any) -> TenantRuntime:
    return compile_document(
        parsed(spec=spec),
        plan="gold",
        keys=keys(api_key()),
        models=[ModelAlias(alias="chat", model=names.model_key("tenantplane-models", "gpt"))],
        indexes=[],
        rates=TenantLimits(requests_per_minute=60),
    )


def test_the_data_plane_reads_what_is_compiled() -> None:
    document = compiled(displayName="Acme", suspend=True, assistants=[{"name": "help", "model": "chat"}])
    data = documents.canonical(document)
    read = documents.decode_tenant(data, document_name="t.acme", label="acme")
    assert read == document
    assert (read.name, read.namespace, read.tenant_id) == ("acme", "tenant-acme", "acme-0001")
    assert read.spec.suspended
    assert read.spec.limits.requests_per_minute == 60


def test_an_entry_holds_what_the_data_plane_needs_and_no_key_text() -> None:
    obj = api_key(spec={"owner": "Ann", "expiresAt": "2027-01-31T00:00:00Z", "description": "x"})
    assert keys(obj) == (KeyEntry(hash=HASH_A, id="abcdefgh", name="default", owner="Ann", expires_at=1801353600),)


@pytest.mark.parametrize(
    "gone",
    [
        {"digest": None},
        {"spec": {"revoked": True}},
        {"status": {"revokedAt": "2026-01-01T00:00:00Z"}},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"metadata": {"annotations": {names.ANNOTATION_REVOKE: "2026-01-01T00:00:00Z"}}},
        {"where": "tenant-beta"},
    ],
)
def test_a_key_that_is_not_in_force_is_out_and_its_neighbour_in(gone: dict[str, Any]) -> None:
    assert keys(api_key(**gone), api_key("other", digest=HASH_B)) == keys(api_key("other", digest=HASH_B))
    assert len(keys(api_key(), api_key("other", digest=HASH_B))) == 2


def test_an_expired_key_stays_with_its_time() -> None:
    assert keys(api_key(spec={"expiresAt": "2020-01-01T00:00:00Z"}))[0].expires_at == 1577836800


def test_one_hash_is_one_entry() -> None:
    assert [entry.name for entry in keys(api_key("b"), api_key("a"))] == ["a"]


def test_order_of_input_does_not_matter() -> None:
    objects = [api_key(f"k{i}", digest=f"sha256:{i:064x}") for i in range(20)]
    shuffled = list(objects)
    random.Random(7).shuffle(shuffled)
    assert keys(*objects) == keys(*shuffled)
    one, two = [{"name": "a"}, {"name": "b"}], [{"name": "b"}, {"name": "a"}]
    assert documents.canonical(compiled(assistants=one)) == documents.canonical(compiled(assistants=two))


def test_too_many_keys_cannot_freeze_the_older_ones() -> None:
    old = api_key("zzz", metadata={"creationTimestamp": "2025-01-01T00:00:00Z"})
    flood = [api_key(f"k{i}", digest=f"sha256:{i:064x}") for i in range(limits.RUNTIME_KEYS_MAX + 5)]
    found = keys(*flood, old)
    assert len(found) == limits.RUNTIME_KEYS_MAX
    assert "zzz" in {entry.name for entry in found}


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+01:00"])
def test_an_odd_end_keeps_no_neighbour_from_being_revoked_and_no_tenant_from_being_suspended(end: str) -> None:
    odd = api_key("odd", digest=HASH_A, spec={"expiresAt": end})
    both = [odd, api_key("other", digest=HASH_B)]
    assert [entry.name for entry in keys(*both)] == ["odd", "other"]
    both[1]["spec"]["revoked"] = True
    spec = {"suspend": True, "auth": {"apiKeys": [{"name": "odd", "expiresAt": end}]}}
    out = compile_tenant(parsed(spec=spec), platform(), Observed(namespace=namespace(owner=ACME), api_keys=both))
    assert out.document is not None
    assert out.document.spec.suspended
    assert [entry.name for entry in out.document.spec.keys] == ["odd"]


def test_keys_with_long_owners_leave_room_for_the_rest_and_the_youngest_out() -> None:
    # The most that 128 characters take in JSON.
    many = [
        api_key(
            f"key-{i:034d}",
            digest=f"sha256:{i:064x}",
            spec={"owner": "\x01" * 128},
            metadata={"creationTimestamp": f"2026-01-01T00:{i // 60:02d}:{i % 60:02d}Z"},
        )
        for i in range(1000)
    ]
    found = keys(*many)
    assert 300 < len(found) < 1000
    assert sum(map(entry_bytes, found)) <= KEYS_BYTES_MAX
    assert {entry.hash for entry in found} == {f"sha256:{i:064x}" for i in range(len(found))}
    outside = left_out(many, namespace="tenant-acme")
    assert outside == {f"sha256:{i:064x}" for i in range(len(found), 1000)}
    assert not left_out(many[: len(found)], namespace="tenant-acme")
    assert max(map(entry_bytes, found)) <= 1024, "what left_out takes an entry to have at most"
    # A revocation lets the next one in.
    many[0]["spec"]["revoked"] = True
    assert f"sha256:{len(found):064x}" in {entry.hash for entry in keys(*many)}


def test_a_document_that_is_too_large_names_its_largest_part() -> None:
    assistants = [{"name": f"a{i}", "instructions": "x" * 4096} for i in range(16)]
    document = compiled(assistants=assistants)
    check_size(document)
    with pytest.raises(Refused) as error:
        check_size(document, maximum=20_000)
    assert error.value.concern.reason == "RuntimeConfigTooLarge"
    assert "`assistants`" in error.value.concern.message


def test_the_largest_spec_that_the_schema_lets_through_is_served() -> None:
    spec = {
        "displayName": "ä" * 128,
        "assistants": [{"name": f"a{i}", "instructions": "ä" * 4096} for i in range(16)],
    }
    many = [api_key(f"key-{i:034d}", digest=f"sha256:{i:064x}", spec={"owner": "ä" * 64}) for i in range(1024)]
    document = compile_document(
        parsed(spec=spec),
        plan="gold",
        keys=keys(*many),
        models=[
            ModelAlias(alias=f"{i:064d}", model=names.model_key("n" * 63, "m" * 40)) for i in range(limits.MODELS_MAX)
        ],
        indexes=[],
        rates=TenantLimits(),
    )
    assert len(document.spec.keys) == 1024
