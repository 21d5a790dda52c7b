"""What the builders make, on a real API server: it is accepted, means what we wrote, and is not rewritten."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.operator.tenant.build import model, parsed, platform, tenant

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import Revision
from tenantplane_cli.cluster import Cluster, install_chart
from tenantplane_cli.rest import Rest
from tenantplane_operator.runtime.apply import differs, with_hash
from tenantplane_operator.runtime.resources import RESOURCES
from tenantplane_operator.tenant.compile import Compiled, Observed, compile_tenant
from tenantplane_operator.tenant.concern import failed
from tenantplane_operator.tenant.manifest import Manifest
from tenantplane_operator.tenant.models import observed_model
from tenantplane_operator.tenant.parse import ParsedTenant, parse_tenant
from tenantplane_operator.tenant.status import settle, tenant_conditions, tenant_status
from tenantplane_operator.tenant.status_configmap import status_config_map

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("builders-on-the-api")]

SPEC: dict[str, Any] = {
    "namespace": {"name": "builders-on-the-api", "labels": {"team": "blue"}},
    "access": {
        "admins": [{"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "name": "ci", "namespace": "build"}],
        "editors": [{"kind": "Group", "name": "writers"}],
        "viewers": [{"kind": "Group", "name": "readers"}],
        "workloads": "Restricted",
    },
    "quota": {"requests.cpu": 4, "limits.memory": "8Gi", "secrets": 10, "count/deployments.apps": 3, "pods": "1k"},
    "containerLimits": {
        "default": {"cpu": "1000m", "memory": "256Mi"},
        "defaultRequest": {"cpu": "100m"},
        "max": {"memory": "1Gi"},
    },
    "network": {
        "egress": {"internet": True, "cidrs": ["192.168.5.0/24", "2600:1:2::/48"], "namespaces": ["tools"]},
        "ingress": {"namespaces": ["monitoring"]},
    },
    "models": [{"alias": "chat", "ref": {"name": "gpt"}}],
    "assistants": [{"name": "help", "model": "chat", "knowledge": ["handbook"]}],
    "knowledge": [{"name": "handbook", "sources": [{"name": "docs", "configMap": {"name": "docs"}}]}],
}
PLACE = platform(
    shared={"network": {"dns": "nodelocal", "clusterCIDRs": ["10.0.0.0/16", "11.5.0.0/16", "fd12::/56"]}},
)

WRITTEN_BY_CONTROLLERS = ("Namespace", "ResourceQuota")
"""Their status moves by itself in between."""


def compiled(found: ParsedTenant) -> Compiled:
    shared = observed_model(model(sharing={"mode": "AllTenants"}))
    return compile_tenant(found, PLACE, Observed(models={shared.key: shared}))


def path_of(manifest: Manifest) -> str:
    group = str(manifest["apiVersion"])
    root = f"/api/{group}" if group == "v1" else f"/apis/{group}"
    home = manifest["metadata"].get("namespace")
    plural = RESOURCES[str(manifest["kind"])].plural
    return f"{root}{f'/namespaces/{home}' if home else ''}/{plural}/{manifest['metadata']['name']}"


def apply(api: Rest, manifest: Manifest, subresource: str = "") -> Manifest:
    status, answer = api.call(
        "PATCH",
        path_of(manifest) + subresource,
        manifest,
        query={"fieldManager": names.MANAGER_CHILDREN, "force": "true", "fieldValidation": "Strict"},
        content_type="application/apply-patch+yaml",
    )
    assert status in (200, 201), answer.get("message")
    return answer


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Rest]:
    install_chart(cluster, progress=lambda _: None)
    with Rest(cluster.kubeconfig) as rest:
        yield rest
        rest.call("DELETE", "/api/v1/namespaces/builders-on-the-api")
        rest.call("DELETE", f"/apis/{names.API_VERSION}/tenants/builders")


def test_every_child_is_accepted_and_is_no_drift_afterwards(api: Rest) -> None:
    children = [with_hash(child.manifest) for child in compiled(parsed(spec=SPEC)).children]
    first = [apply(api, manifest) for manifest in children]
    for manifest, live in zip(children, first, strict=True):
        assert not differs(manifest, live), live
        again = apply(api, manifest)
        if manifest["kind"] not in WRITTEN_BY_CONTROLLERS:
            assert again["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"], manifest["kind"]


def test_a_status_of_ours_is_what_the_schema_takes(api: Rest) -> None:
    made = tenant("builders", spec=SPEC | {"tenantID": "builders-01"})
    for volatile in ("uid", "generation", "creationTimestamp"):
        made["metadata"].pop(volatile)
    found = parse_tenant(apply(api, made))
    out = compiled(found)
    settled = settle(
        out.concerns,
        failures={ConditionType.QUOTA_READY: failed(Reason.APPLY_FAILED, "x" * 2048)},
        published=Revision("0123456789abcdef"),
    )
    conditions = tenant_conditions(settled, suspended=True, previous={})
    body = tenant_status(found, out, platform=PLACE, published=Revision("0123456789abcdef"))
    body["conditions"] = [
        {
            "type": str(kind),
            "status": concern.status,
            "reason": concern.reason,
            "message": concern.message,
            "lastTransitionTime": "2026-11-01T00:00:00Z",
            "observedGeneration": found.generation,
        }
        for kind, concern in conditions.items()
    ]
    head = {"apiVersion": names.API_VERSION, "kind": names.KIND_TENANT, "metadata": {"name": "builders"}}
    live = apply(api, {**head, "status": body}, "/status")
    assert live["status"] == body
    told = status_config_map(found, namespace="builders-on-the-api", status=body, conditions=conditions)
    assert not differs(with_hash(told), apply(api, with_hash(told)))
