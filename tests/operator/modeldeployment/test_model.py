"""ModelDeployments: who may use them, where they may point, and what a refusal leaves published."""

from typing import Any

import pytest

from tenantplane_api.crd.conditions import ConditionType
from tenantplane_api.runtime import documents, names
from tenantplane_api.runtime.names import Revision, TenantID, TenantName
from tenantplane_api.runtime.platform import Platform, parse_platform
from tenantplane_operator.modeldeployment.document import OwnerRef, compile_model
from tenantplane_operator.modeldeployment.parse import ParsedModel, parse_model
from tenantplane_operator.modeldeployment.state import ModelDecision, decide
from tenantplane_operator.tenant.concern import Refused
from tenantplane_operator.tenant.effective import AliasRef
from tenantplane_operator.tenant.models import resolve

SHARED = names.NAMESPACE_MODELS
ACME = OwnerRef(TenantName("acme"), TenantID("acme-0001"))
R1 = Revision("r1")
URL = "https://llm.example.com/v1"
EXTERNAL: dict[str, Any] = {"engine": {"type": "External"}, "external": {"baseURL": URL}}
EXTRACTIVE: dict[str, Any] = {"engine": {"type": "Extractive"}}
WITH_KEY: dict[str, Any] = {
    **EXTERNAL,
    "external": {"baseURL": URL, "auth": {"secretRef": {"name": "upstream", "key": "token"}}},
}


def place(*hosts: dict[str, Any]) -> Platform:
    return parse_platform({"shared": {"externalHosts": list(hosts) or [{"host": "*"}]}})


def model(spec: dict[str, Any], namespace: str = SHARED, **metadata: Any) -> ParsedModel:
    return parse_model(
        {"metadata": {"name": "gpt", "namespace": namespace, "uid": "u", "generation": 4, **metadata}, "spec": spec}
    )


def ask(
    spec: dict[str, Any],
    namespace: str = SHARED,
    *,
    tenant: OwnerRef | None = None,
    upstream_key: str | None = None,
    platform: Platform | None = None,
    published: Revision | None = R1,
    **metadata: Any,
) -> ModelDecision:
    return decide(
        model(spec, namespace, **metadata),
        tenant=tenant,
        platform=platform or place(),
        upstream_key=upstream_key,
        published=published,
    )


def said(found: ModelDecision, kind: ConditionType = ConditionType.AVAILABLE) -> tuple[str, str]:
    concern = found.conditions[kind]
    return concern.status, concern.reason


def test_the_data_plane_reads_what_is_compiled() -> None:
    spec = {**WITH_KEY, "model": {"servedName": "org/gpt", "contextLength": 8192, "maxOutputTokens": 1024}}
    document = compile_model(model(spec), tenant=None, platform=place(), upstream_key="sk-1\n")
    read = documents.decode_model(documents.canonical(document), document_name=f"m.{SHARED}.gpt")
    assert read == document
    assert read.spec == documents.ModelSpec(
        engine="External",
        served_name="org/gpt",
        shared_with=(),
        context_length=8192,
        max_output_tokens=1024,
        external=documents.ExternalEndpoint(base_url=URL, api_key="sk-1"),
    )
    assert read.tenant_id == ""


@pytest.mark.parametrize(
    ("namespace", "tenant", "sharing", "outcome"),
    [
        (SHARED, None, None, ()),
        (SHARED, None, {"mode": "Private"}, ()),
        (SHARED, None, {"mode": "AllTenants"}, ("*",)),
        (SHARED, None, {"mode": "Selected", "tenants": ["beta", "acme"]}, ("acme", "beta")),
        ("tenant-acme", ACME, None, ("acme",)),
        ("tenant-acme", ACME, {"mode": "AllTenants"}, "SharingNotAllowed"),
        ("tenant-acme", ACME, {"mode": "Selected", "tenants": ["acme"]}, "SharingNotAllowed"),
        ("tenant-acme", ACME, {"mode": "Selected", "tenants": ["beta"]}, "SharingNotAllowed"),
        ("elsewhere", None, {"mode": "AllTenants"}, "NotInATenant"),
        ("elsewhere", None, None, "NotInATenant"),
    ],
)
def test_sharing(
    namespace: str, tenant: OwnerRef | None, sharing: dict[str, Any] | None, outcome: tuple[str, ...] | str
) -> None:
    found = ask({**EXTRACTIVE, **({"sharing": sharing} if sharing else {})}, namespace, tenant=tenant)
    if isinstance(outcome, str):
        assert found.document is None
        assert found.withdraw
        assert said(found) == ("False", outcome)
        assert ConditionType.STALLED in found.conditions
    else:
        assert found.document is not None
        assert found.document.spec.shared_with == outcome
        assert found.document.tenant_id == (tenant.tenant_id if tenant else "")
        assert said(found) == ("True", "Available")


@pytest.mark.parametrize(
    ("url", "hosts", "allowed"),
    [
        (URL, [{"host": "*"}], True),
        (URL, [{"host": "*.example.com"}], True),
        (URL, [{"host": "other.example.com"}], False),
        ("http://llm.example.com/v1", [{"host": "*"}], False),
        ("http://llm.example.com/v1", [{"host": "*", "http": True}], True),
        ("https://169.254.169.254/v1", [{"host": "*"}], False),
        ("https://vllm.tenant-beta.svc/v1", [{"host": "*"}], False),
        ("http://127.0.0.1:9000/v1", [{"host": "127.0.0.1", "http": True, "private": True}], True),
    ],
)
def test_urls(url: str, hosts: list[dict[str, Any]], allowed: bool) -> None:
    found = ask({**EXTERNAL, "external": {"baseURL": url}}, platform=place(*hosts))
    assert (found.document is not None) is allowed
    if not allowed:
        assert said(found) == ("False", "URLNotAllowed")
        assert found.conditions[ConditionType.READY].message.startswith("spec.external.baseURL: ")


def test_a_host_that_is_no_longer_allowed_is_withdrawn() -> None:
    assert not ask(EXTERNAL).withdraw
    assert ask(EXTERNAL, platform=place({"host": "other.example.com"})).withdraw


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("sk-1", "sk-1"),
        ("sk-1\r\n", "sk-1"),
        (None, "SecretNotFound"),
        ("", "InvalidSpec"),
        ("\n", "InvalidSpec"),
        ("sk\r\nX-Evil: 1", "InvalidSpec"),
        ("schlüssel", "InvalidSpec"),
        ("x" * 8193, "InvalidSpec"),
    ],
)
def test_the_upstream_key(value: str | None, outcome: str) -> None:
    found = ask(WITH_KEY, upstream_key=value)
    if found.document is not None:
        assert found.document.spec.external is not None
        assert found.document.spec.external.api_key == outcome
    else:
        assert said(found)[1] == outcome
        message = found.conditions[ConditionType.READY].message
        assert "Secret upstream, key token," in message
        assert not value or len(value) < 3 or value not in message


def test_without_auth_no_key_is_sent_even_if_there_is_one() -> None:
    document = ask(EXTERNAL, upstream_key="sk-1").document
    assert document is not None
    assert document.spec.external is not None
    assert document.spec.external.api_key is None


def test_a_missing_secret_is_waited_for_and_a_bad_one_is_not() -> None:
    assert ConditionType.RECONCILING in ask(WITH_KEY).conditions
    assert ConditionType.STALLED in ask(WITH_KEY, upstream_key="ü").conditions


def test_scaled_to_zero_is_available_and_suspended() -> None:
    found = ask({**EXTRACTIVE, "replicas": 0})
    assert found.document is not None
    assert found.document.spec.suspended
    assert said(found) == ("True", "ScaledToZero")
    assert said(found, ConditionType.READY)[0] == "True"
    other = ask({**EXTRACTIVE, "replicas": 3}).document
    assert other is not None
    assert not other.spec.suspended


def test_status() -> None:
    assert ask(EXTRACTIVE).status == {
        "observedGeneration": 4,
        "replicas": 0,
        "selector": "tenantplane.dev/model=gpt",
        "runtimeRevision": "r1",
    }
    assert "runtimeRevision" not in ask(EXTRACTIVE, published=None).status


def test_ready_only_when_published() -> None:
    found = ask(EXTRACTIVE, published=None)
    assert found.document is not None
    assert said(found, ConditionType.READY) == ("False", "Progressing")


def test_a_model_that_is_going_away_is_withdrawn() -> None:
    found = ask(EXTRACTIVE, deletionTimestamp="2026-11-01T00:00:00Z")
    assert found.withdraw
    assert said(found) == ("False", "Deleting")
    assert found.observed.deleting


def test_tenants_see_what_was_decided() -> None:
    """Standalone mode has no statuses: what ``decide`` returns is what aliases are resolved against."""
    shared = ask({**EXTRACTIVE, "sharing": {"mode": "Selected", "tenants": ["acme"]}}, published=None).observed
    for tenant, usable in (("acme", True), ("beta", False)):
        found = resolve(
            [AliasRef("chat", shared.key)],
            tenant=tenant,
            namespace=f"tenant-{tenant}",
            shared_namespace=SHARED,
            observed={shared.key: shared},
        )
        assert found.usable == {"chat": usable}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, r"spec\.engine: "),
        ({"engine": {"type": "VLLM"}}, r"spec\.engine\.type: "),
        ({"engine": {"type": "External"}}, r"spec\.external: "),
        ({**EXTERNAL, "engine": {"type": "Extractive"}}, r"spec\.external: "),
        ({**EXTRACTIVE, "sharing": {"mode": "Selected"}}, r"spec\.sharing\.tenants: "),
        ({**EXTRACTIVE, "sharing": {"tenants": ["acme"]}}, r"spec\.sharing\.tenants: "),
        ({**EXTERNAL, "external": {"baseURL": "ftp://x.example.com"}}, r"spec\.external\.baseURL: "),
        ({**EXTERNAL, "external": {"baseURL": "https://u:p@x.example.com"}}, r"spec\.external\.baseURL: "),
        ({**EXTRACTIVE, "replicas": -1}, r"spec\.replicas: "),
    ],
)
def test_an_invalid_spec_names_the_field(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        model(spec)
