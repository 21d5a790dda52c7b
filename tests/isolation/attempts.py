"""Ways out of a tenant's namespace, as a table: what is tried, who must refuse it, and what the same person may do.

Guarantees nothing by itself; test_escape runs every row as all kinds of people, in both directions. ``who`` acts,
``own`` is the side that it belongs to, ``other`` the neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.chart.kube import Answer
from tests.isolation.conftest import Side
from tests.isolation.people import (
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
    Manifest,
    Person,
    obj,
    pod,
    pod_spec,
    template,
    workload,
)

from tenantplane_api.runtime import names

Act = Callable[[Person, Side, Side], Answer]
NOBODY = ""


@dataclass(frozen=True)
class Attempt:
    """``admin``: who refuses the tenant's admin. ``mallory``: who refuses one with every right in the namespace.

    ``instead`` is what the admin may do; ``None`` where the act has no harmless counterpart.
    """

    act: Act
    admin: str
    mallory: str
    instead: Act | None = None


def make(resource: str, item: Manifest) -> Act:
    return lambda who, own, other: who.make(resource, own.space, item)


def look(resource: str, name: str = "") -> Act:
    return lambda who, own, other: who.look(resource, own.space, name)


def change(resource: str, name: str, patch: Manifest, sub: str = "") -> Act:
    return lambda who, own, other: who.change(resource, own.space, name, patch, sub=sub)


def labels(key: str = names.LABEL_TENANT, value: str = "x") -> dict[str, str]:
    return {key: value}


def service(name: str = "probe", **spec: Any) -> Manifest:
    return obj("v1", "Service", name, spec={"selector": {"app": "probe"}, "ports": [{"port": 80}], **spec})


def claim_spec(**more: Any) -> Manifest:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "standard",
        "resources": {"requests": {"storage": "1Gi"}},
        **more,
    }
    return {key: value for key, value in spec.items() if value is not None}


def claim(**more: Any) -> Manifest:
    return obj("v1", "PersistentVolumeClaim", "probe", spec=claim_spec(**more))


def stateful(**more: Any) -> Manifest:
    item = workload(STATEFUL_SETS, template())
    item["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "v"}, "spec": claim_spec(**more)}]
    return item


def ephemeral(**more: Any) -> Manifest:
    return pod_spec(volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": claim_spec(**more)}}}])


def token_secret(account: str) -> Manifest:
    kind = "kubernetes.io/service-account-token"
    return obj("v1", "Secret", "probe", type=kind, annotations={"kubernetes.io/service-account.name": account})


TOKEN: Manifest = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}


def binding(role: str, name: str = "probe", cluster: bool = False) -> Manifest:
    return obj(
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding" if cluster else "RoleBinding",
        name,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        subjects=[{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}],
    )


def namespace(patch: Manifest, sub: str = "") -> Act:
    return lambda who, own, other: who.change(NAMESPACES, "", own.space, patch, sub=sub)


def slices(name: str) -> Manifest:
    return obj(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        name,
        labels={"kubernetes.io/service-name": "web"},
        addressType="IPv4",
        endpoints=[{"addresses": ["10.1.2.3"]}],
        ports=[{"port": 80}],
    )


def endpoints() -> Manifest:
    return obj("v1", "Endpoints", "web", subsets=[{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}])


HARMLESS_POD = make(PODS, pod())
HARMLESS_SERVICE = make(SERVICES, service())
HARMLESS_DEPLOYMENT = make(DEPLOYMENTS, workload(DEPLOYMENTS, template()))
OWN_SECRET = make(SECRETS, obj("v1", "Secret", "probe", stringData={"a": "b"}))


def foreign(resource: str, item: Manifest | None, existing: str) -> dict[str, Act]:
    """Reading, making, changing and deleting in the neighbour's namespace."""
    acts: dict[str, Act] = {
        "list": lambda who, own, other: who.look(resource, other.space),
        "read": lambda who, own, other: who.look(resource, other.space, existing),
        "change": lambda who, own, other: who.change(resource, other.space, existing, {"metadata": {"labels": {}}}),
        "delete": lambda who, own, other: who.remove(resource, other.space, existing),
    }
    if item is not None:
        acts["make"] = lambda who, own, other: who.make(resource, other.space, item)
    return acts


def model(more: Manifest | None = None) -> Manifest:
    return obj(
        "tenantplane.dev/v1alpha1", "ModelDeployment", "probe", spec={"engine": {"type": "Extractive"}, **(more or {})}
    )


def api_key() -> Manifest:
    return obj("tenantplane.dev/v1alpha1", "APIKey", "probe", spec={})


def event(ns: str) -> Manifest:
    about = {"kind": "Pod", "namespace": ns, "name": "x"}
    return obj("v1", "Event", "probe", involvedObject=about, reason="Killing", message="trust me", type="Normal")
