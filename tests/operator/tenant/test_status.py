"""What Ready means, and the status body."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.operator.tenant.build import ACME, HASH_A, api_key, model, namespace, parsed, platform

from tenantplane_api.crd.conditions import TENANT_CONCERNS, ConditionType, Reason
from tenantplane_api.crd.tenantstatus import TenantStatus
from tenantplane_api.runtime.names import Revision
from tenantplane_operator.tenant.compile import Compiled, Observed, compile_tenant
from tenantplane_operator.tenant.concern import Concern, failed, not_configured, ok, pending, summarize
from tenantplane_operator.tenant.models import observed_model
from tenantplane_operator.tenant.parse import ParsedTenant
from tenantplane_operator.tenant.status import endpoint, settle, tenant_conditions, tenant_status
from tenantplane_operator.tenant.status_configmap import status_config_map

GOOD: dict[ConditionType, Concern] = dict.fromkeys(TENANT_CONCERNS, ok())
C = ConditionType


def conditions(
    change: Mapping[ConditionType, Concern], *, previous: Mapping[str, str] | None = None, suspended: bool = False
) -> dict[ConditionType, Concern]:
    return tenant_conditions({**GOOD, **change}, suspended=suspended, previous=previous or {})


def shown(found: Mapping[ConditionType, Concern]) -> tuple[str, bool, bool]:
    return found[C.READY].status, C.RECONCILING in found, C.STALLED in found


def test_all_good() -> None:
    assert shown(conditions({})) == ("True", False, False)
    assert C.SUSPENDED not in conditions({})


def test_a_suspended_tenant_is_ready() -> None:
    found = conditions({}, suspended=True)
    assert shown(found) == ("True", False, False)
    assert found[C.SUSPENDED].status == "True"


@pytest.mark.parametrize("kind", TENANT_CONCERNS)
def test_before_the_first_success_every_concern_lowers_ready(kind: ConditionType) -> None:
    found = conditions({kind: failed(Reason.APPLY_FAILED, "why")})
    assert shown(found) == ("False", True, False)
    assert (found[C.READY].reason, found[C.READY].message) == ("ApplyFailed", "why")


LATER_FORGIVEN = {C.KEYS_READY, C.MODELS_READY, C.KNOWLEDGE_READY}


@pytest.mark.parametrize("kind", TENANT_CONCERNS)
@pytest.mark.parametrize("memory", ["the concern", "Ready"])
def test_after_the_first_success_only_the_fence_and_the_document_do(kind: ConditionType, memory: str) -> None:
    previous = {str(kind): "True"} if memory == "the concern" else {str(C.READY): "True", str(kind): "False"}
    found = conditions({kind: failed(Reason.APPLY_FAILED, "why")}, previous=previous)
    forgiven = kind in LATER_FORGIVEN
    assert shown(found) == (("True", False, False) if forgiven else ("False", True, False))
    assert found[kind].status == "False"


def test_a_permanent_fault_is_stalled_even_where_ready_stays() -> None:
    fault = {C.KNOWLEDGE_READY: failed(Reason.SOURCE_NOT_ALLOWED, "no root")}
    assert shown(conditions(fault)) == ("False", False, True)
    assert shown(conditions(fault, previous={C.READY: "True"})) == ("True", False, True)


def test_several_faults_are_all_told_permanent_first() -> None:
    found = conditions(
        {C.QUOTA_READY: failed(Reason.APPLY_FAILED, "one"), C.ACCESS_READY: failed(Reason.SUBJECT_DENIED, "two")}
    )
    assert found[C.READY].reason == "SubjectDenied"
    assert found[C.READY].message == "QuotaReady: one; AccessReady: two"
    assert found[C.STALLED].message == "two"


def test_unknown_is_not_false() -> None:
    assert summarize({C.AVAILABLE: pending(Reason.WAITING, "x")})[C.READY].status == "Unknown"


def test_a_message_is_never_longer_than_the_schema_takes() -> None:
    many = {kind: failed(Reason.APPLY_FAILED, "x" * 2000) for kind in TENANT_CONCERNS}
    assert len(conditions(many)[C.READY].message) <= 2048


def test_settle() -> None:
    refused = failed(Reason.SUBJECT_DENIED, "by us")
    api = failed(Reason.API_UNAVAILABLE, "by the API")
    concerns = {**GOOD, C.ACCESS_READY: refused, C.QUOTA_READY: not_configured()}
    found = settle(concerns, failures={C.ACCESS_READY: api, C.NETWORK_READY: api}, published=Revision("abc"))
    assert found[C.ACCESS_READY] == refused
    assert found[C.NETWORK_READY] == api
    assert found[C.RUNTIME_PUBLISHED] == ok(Reason.PUBLISHED, "revision abc")
    assert settle(GOOD, published=None)[C.RUNTIME_PUBLISHED].reason == "Progressing"
    too_large = {**GOOD, C.RUNTIME_PUBLISHED: failed(Reason.RUNTIME_CONFIG_TOO_LARGE, "x")}
    assert settle(too_large, published=Revision("old"))[C.RUNTIME_PUBLISHED].reason == "RuntimeConfigTooLarge"


SPEC: dict[str, Any] = {
    "displayName": "Acme",
    "quota": {"pods": 5},
    "models": [{"alias": "chat", "ref": {"name": "gpt"}}, {"alias": "bad", "ref": {"name": "none"}}],
    "assistants": [{"name": "help"}],
}
STATUS: dict[str, Any] = {
    "namespace": "tenant-acme",
    "handledRequests": {"reindex-requested-at": "t0"},
    "knowledge": [{"name": "k", "generation": "0" * 16, "builtAt": "2026-11-01T00:00:00Z"}],
    "modelsUsable": "3/3",
    "effective": {"plan": "old", "workloads": "None", "podSecurity": "Restricted"},
}


def compiled(spec: dict[str, Any] = SPEC) -> tuple[ParsedTenant, Compiled]:
    tenant = parsed(spec=spec, status=STATUS)
    shared = observed_model(model(sharing={"mode": "AllTenants"}))
    observed = Observed(namespace=namespace(owner=ACME), api_keys=[api_key()], models={shared.key: shared})
    return tenant, compile_tenant(tenant, platform(), observed)


def test_status_body() -> None:
    tenant, out = compiled()
    body = tenant_status(
        tenant, out, platform=platform(), published=Revision("r1"), handled_requests={"reconcile-requested-at": "t1"}
    )
    assert body == {
        "observedGeneration": 3,
        "namespace": "tenant-acme",
        "endpoint": "http://tenantplane-dataplane.tenantplane-system.svc:8080/v1",
        "runtimeRevision": "r1",
        "modelsUsable": "1/2",
        "effective": {
            "plan": "default",
            "quota": {"pods": "5"},
            "network": {"internet": False},
            "allow": {"imagePullPolicies": ["Always"]},
            "workloads": "None",
            "podSecurity": "Restricted",
            "models": [
                {"alias": "bad", "model": "tenantplane-models/none", "usable": False},
                {"alias": "chat", "model": "tenantplane-models/gpt", "usable": True},
            ],
        },
        "handledRequests": {"reconcile-requested-at": "t1", "reindex-requested-at": "t0"},
    }
    TenantStatus.model_validate(body)


def test_a_status_read_back_is_written_the_same() -> None:
    tenant = parsed(spec={**SPEC, "knowledge": [{"name": "k", "sources": [{"name": "s", "configMap": {"name": "c"}}]}]})
    status = {**STATUS, "knowledge": [{**STATUS["knowledge"][0], "manifestSHA256": "0" * 64, "documents": 3}]}
    for _ in range(2):
        tenant = parsed(spec=tenant.spec.model_dump(by_alias=True, exclude_none=True), status=status)
        out = compile_tenant(tenant, platform(), Observed(namespace=namespace(owner=ACME)))
        again = tenant_status(tenant, out, platform=platform(), published=Revision("r1"))
        assert again["knowledge"] == status["knowledge"]
        status = again


def test_a_refused_tenant_keeps_what_is_still_in_force() -> None:
    tenant, out = compiled({**SPEC, "plan": "none"})
    assert out.refusal is not None
    body = tenant_status(tenant, out, platform=platform(), published=Revision("r0"))
    assert body["namespace"] == "tenant-acme"
    assert body["effective"]["plan"] == "old"
    assert body["modelsUsable"] == "3/3"
    assert body["knowledge"] == STATUS["knowledge"]
    assert body["runtimeRevision"] == "r0"


def test_an_endpoint_is_told_only_when_it_works() -> None:
    tenant, out = compiled()
    assert "endpoint" not in tenant_status(tenant, out, platform=platform(), published=None)
    assert endpoint(platform(shared={"dataplane": {"publicURL": "https://chat.example.com/"}})) == (
        "https://chat.example.com/v1"
    )


def test_status_config_map() -> None:
    tenant, out = compiled()
    body = tenant_status(tenant, out, platform=platform(), published=Revision("r1"))
    found = status_config_map(
        tenant, namespace="tenant-acme", status=body, conditions={C.READY: ok(), C.MODELS_READY: failed("No", "do it")}
    )
    assert found["metadata"]["name"] == "tenantplane-status"
    assert found["metadata"]["labels"]["tenantplane.dev/component"] == "status"
    assert found["data"] == {
        "tenant": "acme",
        "displayName": "Acme",
        "endpoint": "http://tenantplane-dataplane.tenantplane-system.svc:8080/v1",
        "models": "- alias: bad\n  usable: false\n- alias: chat\n  usable: true\n",
        "assistants": "- help\n",
        "knowledge": "[]\n",
        "effective": "plan: default\nquota:\n  pods: '5'\nnetwork:\n  internet: false\n"
        "allow:\n  imagePullPolicies:\n  - Always\nworkloads: None\npodSecurity: Restricted\n",
        "conditions": "- type: Ready\n  status: 'True'\n  reason: Ready\n"
        "- type: ModelsReady\n  status: 'False'\n  reason: 'No'\n  message: do it\n",
    }
    assert HASH_A not in str(found)


def test_everything_in_force_is_told() -> None:
    role = "arn:aws:iam::123456789012:role/acme"
    place = platform(
        operator={
            "plans": {
                "default": {
                    "quota": {"pods": "9", "secrets": "3"},
                    "containerLimits": {"max": {"cpu": "2"}},
                    "allow": {"registries": ["registry.example/"], "serviceTypes": ["NodePort"]},
                    "workloads": "Restricted",
                }
            },
            "aws": {"allowedRoleARNs": [role]},
        },
        shared={"network": {"clusterCIDRs": ["10.0.0.0/16"]}},
    )
    spec: dict[str, Any] = {
        "quota": {"pods": 5},
        "containerLimits": {"default": {"cpu": "1"}},
        "network": {
            "egress": {"internet": True, "cidrs": ["192.168.5.1/24"], "namespaces": ["tools"]},
            "ingress": {"namespaces": ["web"]},
        },
        "identity": {"aws": {"roleARN": role}},
    }
    tenant = parsed(spec=spec)
    out = compile_tenant(tenant, place, Observed(namespace=namespace(owner=ACME)))
    body = tenant_status(tenant, out, platform=place, published=None)
    assert body["modelsUsable"] == "0/0"
    assert body["effective"] == {
        "plan": "default",
        "quota": {"pods": "5", "secrets": "3"},
        "containerLimits": {"default": {"cpu": "1"}, "max": {"cpu": "2"}},
        "network": {
            "internet": True,
            "egressCIDRs": ["192.168.5.0/24"],
            "egressNamespaces": ["tools"],
            "ingressNamespaces": ["web"],
        },
        "allow": {
            "registries": ["registry.example/"],
            "imagePullPolicies": ["Always"],
            "serviceTypes": ["NodePort"],
        },
        "roleARN": role,
        "workloads": "Restricted",
        "podSecurity": "Restricted",
    }
    TenantStatus.model_validate(body)
    # What was refused is not in force, and is not told as if it were.
    refused = compile_tenant(tenant, platform(), Observed(namespace=namespace(owner=ACME)))
    told = tenant_status(tenant, refused, platform=platform(), published=None)["effective"]
    assert "roleARN" not in told
    assert "egressCIDRs" not in told["network"]
