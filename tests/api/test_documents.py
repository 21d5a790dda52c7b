"""Runtime documents: both programs read and write the same JSON, and nothing passes under another name."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_api.runtime import documents, limits, names
from tenantplane_api.runtime.documents import DocumentError


def tenant(name: str = "acme", **spec: object) -> documents.TenantRuntime:
    return documents.tenant_runtime(
        name=name,
        namespace=f"tenant-{name}",
        tenant_id=f"{name}-12345678",
        spec=documents.TenantSpec(**spec),  # type: ignore[arg-type]
    )


def full_tenant() -> documents.TenantRuntime:
    return tenant(
        display_name="Acme",
        plan="default",
        keys=(documents.KeyEntry(hash="sha256:" + "0" * 64, id="abcdefgh", name="k", owner="o", expires_at=1),),
        models=(documents.ModelAlias(alias="chat", model=names.model_key("tenantplane-models", "m")),),
        assistants=(documents.AssistantEntry(name="a", model="chat", knowledge=("i",), instructions="x"),),
        indexes=(
            documents.IndexPointer(
                name="i",
                generation="g",
                manifest_sha256="0" * 64,
                prefix="file:///x",
                embedder="hashing",
                dimension=384,
            ),
        ),
        limits=documents.TenantLimits(requests_per_minute=1, concurrency=2),
    )


def test_round_trip_is_exact_and_camel_case() -> None:
    document = full_tenant()
    data = documents.canonical(document)
    assert documents.decode_tenant(data, document_name="t.acme", label="acme") == document
    assert documents.canonical(documents.decode_tenant(data, document_name="t.acme")) == data
    wire = msgspec.json.decode(data)
    assert wire["tenantID"] == "acme-12345678"
    assert wire["spec"]["indexes"][0]["manifestSHA256"] == "0" * 64
    assert wire["spec"]["limits"] == {"requestsPerMinute": 1, "concurrency": 2}


def test_revision_depends_on_content_only() -> None:
    first, second = documents.canonical(full_tenant()), documents.canonical(full_tenant())
    assert documents.revision(first) == documents.revision(second)
    assert documents.revision(first) != documents.revision(documents.canonical(tenant()))
    assert len(documents.revision(first)) == 16


@pytest.mark.parametrize("name", ["t.borealis", "t.acme ", "acme", "m.acme", "t.Acme", "../t.acme"])
def test_a_document_under_another_name_is_refused(name: str) -> None:
    data = documents.canonical(tenant())
    assert documents.decode_tenant(data, document_name="t.acme").name == "acme"
    with pytest.raises(DocumentError, match="disagree"):
        documents.decode_tenant(data, document_name=name)


def test_a_document_with_another_label_is_refused() -> None:
    data = documents.canonical(tenant())
    with pytest.raises(DocumentError, match="label"):
        documents.decode_tenant(data, document_name="t.acme", label="borealis")


def test_model_and_tenant_documents_do_not_pass_for_each_other() -> None:
    model = documents.model_runtime(
        name="m", namespace="tenantplane-models", spec=documents.ModelSpec(engine="Extractive", served_name="m")
    )
    data = documents.canonical(model)
    assert documents.decode_model(data, document_name="m.tenantplane-models.m").key == "tenantplane-models/m"
    with pytest.raises(DocumentError):
        documents.decode_tenant(data, document_name="t.m")
    with pytest.raises(DocumentError):
        documents.decode_model(documents.canonical(tenant()), document_name="m.tenant-acme.acme")


def test_unknown_fields_are_ignored_but_required_features_are_not() -> None:
    wire = msgspec.json.decode(documents.canonical(tenant()))
    wire["spec"]["fromTheFuture"] = {"a": 1}
    assert documents.decode_tenant(msgspec.json.encode(wire), document_name="t.acme") == tenant()
    wire["requires"] = ["time-travel"]
    with pytest.raises(DocumentError, match="time-travel"):
        documents.decode_tenant(msgspec.json.encode(wire), document_name="t.acme")


def test_an_external_model_needs_its_endpoint() -> None:
    model = documents.model_runtime(
        name="m", namespace="n", spec=documents.ModelSpec(engine="External", served_name="m")
    )
    with pytest.raises(DocumentError, match=r"spec\.external"):
        documents.decode_model(documents.canonical(model), document_name="m.n.m")


def test_too_large_is_refused_and_the_largest_part_is_named() -> None:
    document = tenant(
        assistants=tuple(
            documents.AssistantEntry(name=f"a{i}", instructions="x" * limits.INSTRUCTIONS_MAX) for i in range(200)
        )
    )
    data = documents.canonical(document)
    assert len(data) > limits.RUNTIME_DOCUMENT_MAX_BYTES
    with pytest.raises(DocumentError, match="larger"):
        documents.decode_tenant(data, document_name="t.acme")
    assert documents.largest_part(document)[0] == "assistants"


@given(st.binary(max_size=300))
def test_garbage_raises_only_document_error(data: bytes) -> None:
    with pytest.raises(DocumentError):
        documents.decode_tenant(data, document_name="t.acme")


def test_the_message_never_holds_a_value() -> None:
    wire = msgspec.json.decode(documents.canonical(full_tenant()))
    wire["spec"]["keys"][0]["expiresAt"] = "canary-secret"
    with pytest.raises(DocumentError) as caught:
        documents.decode_tenant(msgspec.json.encode(wire), document_name="t.acme")
    assert "canary" not in str(caught.value)
    assert "expiresAt" in str(caught.value)
