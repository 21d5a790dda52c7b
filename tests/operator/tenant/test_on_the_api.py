"""What the builders make, on a real API server: it is accepted, means what we wrote, and is not rewritten."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.operator.tenant.build import by_name, model, parsed, platform, tenant
from tests.support.cluster import with_chart

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import Revision
from tenantplane_cli.cluster import Cluster
from tenantplane_cli.rest import Rest
from tenantplane_operator.runtime.apply import differs, with_hash
from tenantplane_operator.runtime.resources import RESOURCES
from tenantplane_operator.tenant.compile import Compiled, Observed, compile_tenant
from tenantplane_operator.tenant.concern import failed
from tenantplane_operator.tenant.manifest import Manifest
from tenantplane_operator.tenant.models import observed_model
from tenantplane_operator.tenant.parse import ParsedTenant, parse_tenant, parse_time
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
    "identity": {"aws": {"roleARN": "arn:aws:iam::123456789012:role/tenants/acme-0001/chat"}},
    "quota": {"requests.cpu": 4, "limits.memory": "8Gi", "secrets": 10, "count/deployments.apps": 3, "pods": "1k"},
    "containerLimits": {
        "default": {"cpu": "1000m", "memory": "256Mi"},
        "defaultRequest": {"cpu": "100m"},
        "max": {"memory": "1Gi"},
    },
    "plan": "wide",
    "network": {
        "egress": {"internet": True, "cidrs": ["192.168.5.0/24", "2600:1:2::/48"], "namespaces": ["tools"]},
        "ingress": {"namespaces": ["monitoring"]},
    },
    "models": [{"alias": "chat", "ref": {"name": "gpt"}}],
    "assistants": [{"name": "help", "model": "chat", "knowledge": ["handbook"]}],
    "knowledge": [{"name": "handbook", "sources": [{"name": "docs", "configMap": {"name": "docs"}}]}],
}
PLACE = platform(
    operator={
        "plans": {
            "default": {},
            "wide": {
                "quota": {
                    "requests.hugepages-2Mi": "0",
                    "hugepages-1Gi": "0",
                    "requests.nvidia.com/gpu": "0",
                    "gold.storageclass.storage.k8s.io/requests.storage": "1Gi",
                    "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
                    "any.deviceclass.resource.k8s.io/devices": "0",
                    "count/resourceclaims.resource.k8s.io": "0",
                },
                "containerLimits": {"min": {"memory": "16Mi"}},
                "allow": {"registries": ["registry.example/"], "imagePullPolicies": ["Always", "IfNotPresent"]},
            },
        },
        "aws": {"allowedRoleARNs": ["arn:aws:iam::123456789012:role/tenants/{tenantID}/*"]},
    },
    shared={"network": {"dns": "nodelocal", "clusterCIDRs": ["10.0.0.0/16", "11.5.0.0/16", "fd12::/56"]}},
)

QUOTA_SPACE = "quota-on-the-api"
BOUNDED: dict[str, Any] = {
    "tenantID": "quota-0001",
    "namespace": {"name": QUOTA_SPACE},
    "identity": SPEC["identity"],
    "quota": {
        "pods": 20,
        "secrets": 2,
        "configmaps": 1,
        "requests.cpu": "2100m",
        "requests.nvidia.com/gpu": 0,
        "services.loadbalancers": 0,
        "resourcequotas": 0,
        "count/apikeys.tenantplane.dev": 1,
    },
    "containerLimits": {"default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}},
}
PROMPT = 60.0
"""Seconds until a controller must have done its part; it takes less than one."""


WRITTEN_BY_CONTROLLERS = ("Namespace", "ResourceQuota")
"""Their status moves by itself in between."""


def compiled(found: ParsedTenant) -> Compiled:
    shared = observed_model(model(sharing={"mode": "AllTenants"}))
    return compile_tenant(found, PLACE, Observed(models={shared.key: shared}))


def path_of(manifest: Manifest) -> str:
    group = str(manifest["apiVersion"])
    root = f"/api/{group}" if group == "v1" else f"/apis/{group}"
    home = manifest["metadata"].get("namespace")
    kind = str(manifest["kind"])
    plural = RESOURCES[kind].plural if kind in RESOURCES else f"{kind.lower()}s"
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
    with Rest(with_chart(cluster).kubeconfig) as rest:
        yield rest
        for name in ("builders-on-the-api", QUOTA_SPACE):
            rest.call("DELETE", f"/api/v1/namespaces/{name}")
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


def until(done: Callable[[], bool], what: str, *, within: float = PROMPT) -> None:
    deadline = time.monotonic() + within
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def used(api: Rest) -> dict[str, str]:
    """What Kubernetes counts in the namespace by now."""
    found = api.call("GET", f"/api/v1/namespaces/{QUOTA_SPACE}/resourcequotas/{names.CHILD_QUOTA}")[1]
    return dict((found.get("status") or {}).get("used") or {})


def make(api: Rest, kind: str, name: str, *, dry: bool = False, **parts: Any) -> tuple[int, Manifest]:
    version = names.API_VERSION if kind == names.KIND_API_KEY else "v1"
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": QUOTA_SPACE}, **parts}
    return api.call("POST", path_of(body).rpartition("/")[0], body, query={"dryRun": "All"} if dry else {})


def pod(**container: Any) -> Manifest:
    """A pod that Pod Security lets in and that states no resources."""
    secure = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {"containers": [{"name": "c", "image": "registry.example/x", "securityContext": secure, **container}]}


def exceeded(answer: tuple[int, Manifest], entry: str) -> bool:
    return answer[0] == 403 and "exceeded quota: tenantplane" in answer[1]["message"] and entry in answer[1]["message"]


def bounded(api: Rest, **facts: Any) -> Compiled:
    """The namespace with its quota, counting; without our keys, whose Secrets the tests make themselves."""
    out = compile_tenant(
        parsed("quota", spec=BOUNDED | {"auth": {"apiKeys": [{"name": "k"}]}}), QUOTA_PLACE, Observed(**facts)
    )
    for child in out.children:
        if child.manifest["kind"] != names.KIND_API_KEY:
            apply(api, child.manifest)
    wanted = by_name([child.manifest for child in out.children])["ResourceQuota/tenantplane"]["spec"]["hard"]
    until(lambda: set(wanted) <= set(used(api)), "the quota is not counted")
    return out


QUOTA_PLACE = platform(
    operator={
        "plans": {"default": {"allow": {"imagePullPolicies": []}}},
        "aws": {"allowedRoleARNs": ["arn:aws:iam::123456789012:role/tenants/acme-0001/*"]},
    }
)


def test_a_quota_refuses_what_the_tenant_was_not_given_and_nothing_of_ours(api: Rest) -> None:
    bounded(api, own_kinds_countable=False)
    refused = make(api, "Pod", "gpu", spec=pod(resources={"limits": {"nvidia.com/gpu": 1}}), dry=True)
    assert exceeded(refused, "requests.nvidia.com/gpu")
    status, answer = make(api, "Pod", "large", spec=pod(resources={"limits": {"cpu": 2}}), dry=True)
    assert (status, "maximum cpu usage per Container is 1" in answer["message"]) == (403, True)
    for number in range(20):
        status, made = make(api, "Pod", f"p{number}", spec=pod())
        assert status == 201, made.get("message")
    container = made["spec"]["containers"][0]
    assert container["resources"] == {"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}}
    assert not made["spec"].get("volumes"), "a token of the API server is mounted"
    assert exceeded(make(api, "Pod", "p20", spec=pod()), "pods")
    assert exceeded(make(api, "Pod", "p21", spec=pod(resources={"limits": {"cpu": "200m"}})), "requests.cpu")
    balancer = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    assert exceeded(make(api, "Service", "lb", spec=balancer), "services.loadbalancers")
    assert exceeded(make(api, "ResourceQuota", "own", spec={"hard": {"pods": "99"}}), "resourcequotas")
    # The tenant fills what it was given; what is ours still finds room.
    until(lambda: used(api).get("configmaps") == "1", "kube-root-ca.crt is not there")
    for kind, share in (("Secret", 2), ("ConfigMap", 1)):
        for number in range(share):
            assert make(api, kind, f"own{number}")[0] == 201, kind
    for kind, name in (("Secret", "k"), ("Secret", "k-rotated"), ("ConfigMap", names.CHILD_STATUS_CONFIG_MAP)):
        status, answer = make(api, kind, name)
        assert status == 201, answer.get("message")
    assert exceeded(make(api, "Secret", "more"), "secrets")
    assert exceeded(make(api, "ConfigMap", "more"), "configmaps")
    assert make(api, names.KIND_API_KEY, "k")[0] == 201, "our kinds are not counted yet, and not refused"


def test_what_widens_the_fence_and_is_not_wanted_any_more_goes(api: Rest) -> None:
    out = bounded(api, own_kinds_countable=False)
    account = by_name([child.manifest for child in out.children])["ServiceAccount/tenant"]

    def notes(manifest: Manifest) -> dict[str, str]:
        return dict(api.call("GET", path_of(manifest))[1]["metadata"].get("annotations") or {})

    assert notes(account)[names.ANNOTATION_ROLE_ARN] == SPEC["identity"]["aws"]["roleARN"]
    bare = compile_tenant(parsed("quota", spec=BOUNDED | {"identity": None}), QUOTA_PLACE, Observed())
    apply(api, by_name([child.manifest for child in bare.children])["ServiceAccount/tenant"])
    assert names.ANNOTATION_ROLE_ARN not in notes(account)


@pytest.mark.slow
def test_our_own_kinds_are_counted_once_kubernetes_can(api: Rest) -> None:
    """The quota controller looks for new kinds every 30 s; what a quota names before, it refuses for minutes."""
    definition = api.call("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/apikeys.tenantplane.dev")[1]
    established = next(c for c in definition["status"]["conditions"] if c["type"] == "Established")
    since = datetime.now(UTC) - parse_time(established["lastTransitionTime"])
    time.sleep(max(0.0, 61 - since.total_seconds()))
    bounded(api, own_kinds_countable=True)
    entry = "count/apikeys.tenantplane.dev"
    api.call("DELETE", f"/apis/{names.API_VERSION}/namespaces/{QUOTA_SPACE}/apikeys/k")
    until(lambda: used(api)[entry] == "0", "a deleted APIKey is still counted")
    assert make(api, names.KIND_API_KEY, "own")[0] == 201
    assert make(api, names.KIND_API_KEY, "k")[0] == 201, "there is room for the key that the Tenant lists"
    assert exceeded(make(api, names.KIND_API_KEY, "more"), entry)
