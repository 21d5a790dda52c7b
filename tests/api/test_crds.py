"""The CRDs on a real API server: accepted with headroom, and every invalid object is refused with its field named."""

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantplane_api.crd import generate
from tenantplane_api.crd.tenant import TenantSpec
from tenantplane_api.runtime import names
from tenantplane_cli.cluster import Cluster
from tenantplane_cli.rest import Rest

ROOT = Path(__file__).resolve().parents[2]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TENANTS = f"/apis/{names.API_VERSION}/tenants"
MODELS = f"/apis/{names.API_VERSION}/namespaces/default/modeldeployments"
KEYS = f"/apis/{names.API_VERSION}/namespaces/default/apikeys"
APPLY = "application/apply-patch+yaml"


def test_the_files_are_what_the_models_say() -> None:
    assert generate.main(["--check", str(ROOT / "crds"), str(ROOT / "charts/tenantplane/files/crds")]) == 0


def test_drift_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate.main([str(tmp_path)])
    path = tmp_path / "tenantplane.dev_tenants.yaml"
    path.write_text(path.read_text().replace("displayName", "displayNom"))
    assert generate.main(["--check", str(tmp_path)]) == 1
    assert "make crds" in capsys.readouterr().err


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> Iterator[Rest]:
    with Rest(cluster.kubeconfig) as rest:
        for crd in generate.custom_resource_definitions():
            name = crd["metadata"]["name"]
            status, answer = rest.call(
                "PATCH", f"{CRDS}/{name}", crd, query={"fieldManager": "tests", "force": "true"}, content_type=APPLY
            )
            assert status in (200, 201), answer
        for path in (TENANTS, MODELS, KEYS):
            deadline = time.monotonic() + 30
            while rest.call("GET", path)[0] != 200:
                assert time.monotonic() < deadline, f"{path} is not served"
        yield rest


def _scaled(node: Any, factor: int) -> Any:
    if isinstance(node, dict):
        bounds = ("maxItems", "maxProperties", "maxLength")
        return {k: v * factor if k in bounds and isinstance(v, int) else _scaled(v, factor) for k, v in node.items()}
    return [_scaled(v, factor) for v in node] if isinstance(node, list) else node


@pytest.mark.cluster
@pytest.mark.parametrize("crd", generate.custom_resource_definitions(), ids=lambda c: c["spec"]["names"]["kind"])
def test_rules_stay_within_the_api_servers_cost_budget(admin: Rest, crd: dict[str, Any]) -> None:
    """The server prices rules by the schema's bounds: with every bound doubled it must still accept them all."""
    query = {"dryRun": "All"}
    probe = _scaled(copy.deepcopy(crd), 2)
    status, answer = admin.call("PUT", f"{CRDS}/{crd['metadata']['name']}", _with_version(admin, probe), query=query)
    assert status == 200, answer.get("message")


@pytest.mark.cluster
def test_a_rule_without_bounds_would_be_refused(admin: Rest) -> None:
    crd = copy.deepcopy(generate.custom_resource_definitions()[0])
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    del spec["models"]["maxItems"]
    status, answer = admin.call(
        "PUT", f"{CRDS}/{crd['metadata']['name']}", _with_version(admin, crd), query={"dryRun": "All"}
    )
    assert status == 422
    assert "cost" in answer["message"]


def _with_version(admin: Rest, crd: dict[str, Any]) -> dict[str, Any]:
    live = admin.call("GET", f"{CRDS}/{crd['metadata']['name']}")[1]
    return {**crd, "metadata": {**crd["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}}


def tenant(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "Tenant",
        "metadata": {"name": spec.pop("name", "acme")},
        "spec": {"tenantID": "acme-7f3k2m9q", **spec},
    }


VALID: dict[str, dict[str, Any]] = {
    "five lines": {},
    "numbers as quantities": {"quota": {"requests.cpu": 4, "pods": "10", "requests.nvidia.com/gpu": 1}},
    "object counts": {"quota": {"count/jobs.batch": 4, "count/pods": 4, "services.loadbalancers": 0}},
    "quota of classes": {
        "quota": {
            "requests.hugepages-2Mi": 1,
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims": 1,
            "gpu.deviceclass.resource.k8s.io/devices": 1,
        }
    },
    "namespace": {"namespace": {"name": "acme-prod", "labels": {"team": "a", "example.com/x": ""}}},
    "subjects": {"access": {"admins": [{"kind": "ServiceAccount", "name": "ci", "namespace": "ci"}]}},
    "egress": {"network": {"egress": {"cidrs": ["203.0.113.0/24", "2001:db8::/32"], "internet": True}}},
    "assistant on a plan's model": {"assistants": [{"name": "a", "model": "default"}]},
    "names that YAML or CEL might trip over": {
        "models": [{"alias": "null", "ref": {"name": "true"}}, {"alias": "a:b.c", "ref": {"name": "x"}}]
    },
}

INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "upper-case name": ({"name": "Acme"}, "metadata.name"),
    "dotted name": ({"name": "ac.me"}, "metadata.name"),
    "name too long": ({"name": "a" * 41}, "metadata.name"),
    "no tenantID": ({"tenantID": None}, "spec.tenantID"),
    "short tenantID": ({"tenantID": "acme"}, "spec.tenantID"),
    "tenantID with a slash": ({"tenantID": "acme/../borealis"}, "spec.tenantID"),
    "deletionPolicy": ({"deletionPolicy": "Erase"}, "spec.deletionPolicy"),
    "negative quota": ({"quota": {"pods": -1}}, "spec.quota.pods"),
    "negative quota as text": ({"quota": {"pods": "-1"}}, "spec.quota.pods"),
    "no quota name": ({"quota": {"bananas": 1}}, "spec.quota"),
    "a limit that Kubernetes does not count": ({"quota": {"limits.hugepages-2Mi": 1}}, "spec.quota"),
    "reserved namespace": ({"namespace": {"name": "kube-system"}}, "spec.namespace.name"),
    "our own namespace": ({"namespace": {"name": "tenantplane-runtime"}}, "spec.namespace.name"),
    "default namespace": ({"namespace": {"name": "default"}}, "spec.namespace.name"),
    "reserved label": ({"namespace": {"labels": {"kubernetes.io/metadata.name": "x"}}}, "spec.namespace.labels"),
    "our label": ({"namespace": {"labels": {"tenantplane.dev/tenant": "b"}}}, "spec.namespace.labels"),
    "pod security label": (
        {"namespace": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
        "spec.namespace.labels",
    ),
    "bad label key": ({"namespace": {"labels": {"a b": "x"}}}, "spec.namespace.labels"),
    "bad label value": ({"namespace": {"labels": {"a": "b c"}}}, "spec.namespace.labels"),
    "our annotation": (
        {"namespace": {"annotations": {"tenantplane.dev/tenant-id": "x"}}},
        "spec.namespace.annotations",
    ),
    "everybody": ({"access": {"admins": [{"kind": "Group", "name": "system:authenticated"}]}}, "spec.access.admins"),
    "account without namespace": ({"access": {"viewers": [{"kind": "ServiceAccount", "name": "x"}]}}, "spec.access"),
    "no address range": ({"network": {"egress": {"cidrs": ["10.0.0.0/99"]}}}, "spec.network.egress.cidrs"),
    "duplicate alias": ({"models": [{"alias": "a", "ref": {"name": "m"}}] * 2}, "spec.models"),
    "alias with a slash": ({"models": [{"alias": "assistant/a", "ref": {"name": "m"}}]}, "spec.models[0].alias"),
    "assistant without its index": ({"assistants": [{"name": "a", "knowledge": ["i"]}]}, "spec.assistants"),
    "assistant without its model": ({"models": [], "assistants": [{"name": "a", "model": "m"}]}, "spec.assistants"),
    "no source": ({"knowledge": [{"name": "i", "sources": []}]}, "spec.knowledge[0].sources"),
    "empty source": ({"knowledge": [{"name": "i", "sources": [{"name": "s"}]}]}, "spec.knowledge[0].sources[0]"),
    "two sources in one": (
        {
            "knowledge": [
                {"name": "i", "sources": [{"name": "s", "configMap": {"name": "c"}, "directory": {"path": "d"}}]}
            ]
        },
        "spec.knowledge[0].sources[0]",
    ),
    "path upwards": (
        {"knowledge": [{"name": "i", "sources": [{"name": "s", "directory": {"path": "../borealis"}}]}]},
        "spec.knowledge[0].sources[0].directory.path",
    ),
    "absolute path": (
        {"knowledge": [{"name": "i", "sources": [{"name": "s", "directory": {"path": "/etc"}}]}]},
        "spec.knowledge[0].sources[0].directory.path",
    ),
    "zero requests": ({"limits": {"requests": {"perMinute": 0}}}, "spec.limits.requests.perMinute"),
    "too many keys": ({"auth": {"apiKeys": [{"name": f"k{i}"} for i in range(9)]}}, "spec.auth.apiKeys"),
}


@pytest.mark.cluster
@pytest.mark.parametrize("spec", VALID.values(), ids=VALID.keys())
def test_valid_tenants(admin: Rest, spec: dict[str, Any]) -> None:
    status, answer = admin.call("POST", TENANTS, tenant(**spec), query={"dryRun": "All"})
    assert status == 201, answer.get("message")
    TenantSpec.model_validate(answer["spec"])


@pytest.mark.cluster
@pytest.mark.parametrize(("spec", "field"), INVALID.values(), ids=INVALID.keys())
def test_invalid_tenants_are_refused_by_field(admin: Rest, spec: dict[str, Any], field: str) -> None:
    status, answer = admin.call("POST", TENANTS, tenant(**spec), query={"dryRun": "All", "fieldValidation": "Strict"})
    assert status == 422, answer
    assert field in answer["message"]


@pytest.mark.cluster
def test_what_may_not_change(admin: Rest) -> None:
    made = admin.call("POST", TENANTS, tenant(name="unchanging"))[1]
    path = f"{TENANTS}/unchanging"
    try:
        for change, field in (
            ({"tenantID": "another-8chars"}, "tenantID"),
            ({"namespace": {"name": "elsewhere"}}, "namespace.name"),
        ):
            body = {**made, "spec": {**made["spec"], **change}}
            status, answer = admin.call("PUT", path, body)
            assert status == 422, answer
            assert f"{field} cannot be changed" in answer["message"]
        status, answer = admin.call("PUT", path, {**made, "spec": {**made["spec"], "displayName": "New"}})
        assert status == 200, answer
    finally:
        admin.call("DELETE", path)


@pytest.mark.cluster
def test_api_keys_and_models(admin: Rest) -> None:
    key = {"apiVersion": names.API_VERSION, "kind": "APIKey", "metadata": {"name": "k"}, "spec": {"revoked": True}}
    status, made = admin.call("POST", KEYS, key)
    assert status == 201, made
    try:
        for spec in ({"revoked": False}, {}):
            status, answer = admin.call("PUT", f"{KEYS}/k", {**made, "spec": spec})
            assert status == 422, answer
            assert "stays revoked" in answer["message"]
        status, answer = admin.call("PUT", f"{KEYS}/k", {**made, "spec": {"revoked": True, "secretName": "other"}})
        assert status == 422
        assert "secretName cannot be changed" in answer["message"]
    finally:
        admin.call("DELETE", f"{KEYS}/k")

    def model(**spec: Any) -> tuple[int, dict[str, Any]]:
        body = {"apiVersion": names.API_VERSION, "kind": "ModelDeployment", "metadata": {"name": "m"}, "spec": spec}
        return admin.call("POST", MODELS, body, query={"dryRun": "All"})

    external = {"engine": {"type": "External"}, "external": {"baseURL": "https://api.example.com/v1"}}
    assert model(**external)[0] == 201
    assert model(engine={"type": "Extractive"}, sharing={"mode": "AllTenants"}, replicas=0)[0] == 201
    refused: list[tuple[dict[str, Any], str]] = [
        ({"engine": {"type": "External"}}, "spec.external"),
        ({**external, "engine": {"type": "Extractive"}}, "spec.external"),
        ({**external, "engine": {"type": "VLLM"}}, "spec.engine.type"),
        ({**external, "external": {"baseURL": "https://user:pw@api.example.com"}}, "spec.external.baseURL"),
        ({**external, "external": {"baseURL": "file:///etc/passwd"}}, "spec.external.baseURL"),
        ({**external, "sharing": {"mode": "Selected"}}, "spec.sharing"),
        ({**external, "replicas": -1}, "spec.replicas"),
    ]
    for wrong, field in refused:
        status, answer = model(**wrong)
        assert status == 422, wrong
        assert field in answer["message"]


def test_descriptions_are_sentences() -> None:
    for path in (ROOT / "crds").glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        for part in ("spec", "status"):
            for where, text in _descriptions(schema[part], part):
                assert text.endswith((".", ")")), f"{path.name} {where}: {text!r}"
                assert text[0] == "`" or not text[0].islower(), f"{path.name} {where}: {text!r}"


def _descriptions(node: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child.get("description", "")
        yield from _descriptions(child, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(node.get(inner), dict):
            yield from _descriptions(node[inner], f"{path}[]")
