"""Is it installed: API server, CRDs, rights, namespaces, Platform file.

Guarantees: the schema in the cluster is compared with the one that this command line was made with, field by field, and
the operator's rights are asked of the API server itself, those that it needs and those that it must not have. Does not:
change anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tenantplane_api.crd.generate import custom_resource_definitions
from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_cli.doctor.report import Finding, fail, ok, skip, warn
from tenantplane_cli.kube import FORBIDDEN, Kube, KubeError

LEAST_MINOR: Final = 33
MAY_NOT_ASK: Final = "you may not ask for others' rights (create subjectaccessreviews)"
_CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_ROLES: Final = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
_BINDINGS: Final = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_RBAC: Final = "rbac.authorization.k8s.io"
_LEVEL: Final = "pod-security.kubernetes.io/enforce"
_CHART: Final = "helm upgrade --install tenantplane charts/tenantplane"
CLUSTER_ROLES: Final = (
    "tenantplane-operator",
    "tenantplane-platform-admin",
    "tenantplane-fence-bypass",
    names.CLUSTER_ROLE_TENANT_ADMIN,
    names.CLUSTER_ROLE_TENANT_EDITOR,
    names.CLUSTER_ROLE_TENANT_VIEWER,
    names.CLUSTER_ROLE_TENANT_WORKLOADS,
    names.CLUSTER_ROLE_OPERATOR_NAMESPACE,
)
CLUSTER_ROLE_BINDINGS: Final = ("tenantplane-operator", "tenantplane-fence-bypass")


class Right(NamedTuple):
    """Something that the API server can be asked for. ``space``: a platform namespace by its role, or a name."""

    verb: str
    group: str
    resource: str
    space: str = ""
    name: str = ""

    def __str__(self) -> str:
        where = f" in {self.space}" if self.space else ""
        return f"{self.verb} {self.resource}{'.' + self.group if self.group else ''}{where}"


BYPASS: Final = Right("bypass", names.GROUP, "fence")
"""Who has it passes the tenant fence."""
NEEDED: Final = (
    Right("patch", names.GROUP, names.PLURAL_TENANTS),
    Right("patch", names.GROUP, f"{names.PLURAL_TENANTS}/status"),
    Right("list", names.GROUP, names.PLURAL_API_KEYS),
    Right("list", names.GROUP, names.PLURAL_MODEL_DEPLOYMENTS),
    Right("create", "", "namespaces"),
    Right("patch", "", "namespaces"),
    Right("create", _RBAC, "rolebindings"),
    Right("bind", _RBAC, "clusterroles", name=names.CLUSTER_ROLE_OPERATOR_NAMESPACE),
    Right("watch", "networking.k8s.io", "networkpolicies"),
    Right("patch", "", "secrets", space="runtime"),
    Right("create", "coordination.k8s.io", "leases", space="system"),
    Right("update", "coordination.k8s.io", "leases", space="system", name=names.LEASE_NAME),
    BYPASS,
)
FORBIDDEN_RIGHTS: Final = (
    Right("get", "", "secrets"),
    Right("list", "", "secrets", space="kube-system"),
    Right("create", _RBAC, "clusterrolebindings"),
    Right("create", _RBAC, "clusterroles"),
    Right("escalate", _RBAC, "clusterroles"),
    Right("bind", _RBAC, "clusterroles", name="cluster-admin"),
    Right("impersonate", "", "users"),
)


def api_server(kube: Kube) -> Iterator[Finding]:
    """Reachable, and not too old for what the fences use."""
    found = kube.get("/version")
    version, minor = str(found.get("gitVersion", "")), re.match(r"\d+", str(found.get("minor", "")))
    if minor is None or (found.get("major"), int(minor[0])) < ("1", LEAST_MINOR):
        yield fail(
            "api server",
            f"{kube.server}: Kubernetes {version}",
            f"use Kubernetes 1.{LEAST_MINOR} or newer: the fences are not tested with older ones",
        )
    else:
        yield ok("api server", f"{kube.server}: Kubernetes {version}")


def crds(kube: Kube) -> Iterator[Finding]:
    """There, established, and of this command line's schema."""
    for wanted in custom_resource_definitions():
        name = str(wanted["metadata"]["name"])
        check = f"crd {name}"
        found = kube.find(f"{_CRDS}/{name}")
        if found is None:
            yield fail(check, "is not installed", f"install the chart: {_CHART}")
            continue
        if found["metadata"].get("deletionTimestamp"):
            yield fail(check, "is being deleted: with it go all objects of the kind", "see who deleted it, and why")
            continue
        conditions = {each["type"]: each["status"] for each in (found.get("status") or {}).get("conditions") or ()}
        if conditions.get("Established") != "True":
            yield fail(check, "is not established", f"look at its conditions: kubectl describe crd {name}")
        elif _schema(found) != _schema(wanted):
            yield warn(
                check,
                "has another schema than this command line: plan and status may err",
                "upgrade the chart, or use the command line of the chart's version",
            )
        else:
            yield ok(check, f"established, {names.VERSION}, the schema of this command line")


def _schema(crd: dict[str, Any]) -> list[Any]:
    return [
        (each["name"], each.get("served"), each.get("storage"), each.get("schema"), each.get("subresources"))
        for each in crd["spec"]["versions"]
    ]


def roles(kube: Kube) -> Iterator[Finding]:
    """The chart's ClusterRoles and their bindings."""
    missing = [f"ClusterRole {name}" for name in CLUSTER_ROLES if kube.find(f"{_ROLES}/{name}") is None]
    missing += [
        f"ClusterRoleBinding {name}" for name in CLUSTER_ROLE_BINDINGS if kube.find(f"{_BINDINGS}/{name}") is None
    ]
    if missing:
        yield fail("rbac", f"missing: {', '.join(missing)}", f"install or upgrade the chart: {_CHART}")
    else:
        yield ok("rbac", f"{len(CLUSTER_ROLES)} ClusterRoles of the chart are there and bound")


def operator_rights(kube: Kube, platform: Platform) -> Iterator[Finding]:
    """What the operator's ServiceAccount may do, asked of the API server."""
    check, spaces = "operator rights", platform.shared.namespaces
    account = f"system:serviceaccount:{spaces.system}:{names.SERVICE_ACCOUNT_OPERATOR}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{spaces.system}", "system:authenticated"]
    try:
        lacking = [right for right in NEEDED if not allowed(kube, account, groups, _placed(right, platform))]
        excess = [right for right in FORBIDDEN_RIGHTS if allowed(kube, account, groups, right)]
    except KubeError as error:
        if error.status != FORBIDDEN:
            raise
        yield skip(check, MAY_NOT_ASK, "run as a cluster admin")
        return
    if excess:
        yield fail(
            check,
            f"{account} may {'; '.join(map(str, excess))}, which no operator of ours needs",
            "find the binding that grants it: kubectl get clusterrolebindings,rolebindings -A -o wide | grep "
            f"{names.SERVICE_ACCOUNT_OPERATOR}",
        )
    if lacking:
        yield fail(check, f"{account} may not {'; '.join(map(str, lacking))}", f"upgrade the chart: {_CHART}")
    if not excess and not lacking:
        yield ok(check, f"{len(NEEDED)} needed rights are granted, {len(FORBIDDEN_RIGHTS)} dangerous ones are not")


def _placed(right: Right, platform: Platform) -> Right:
    spaces = platform.shared.namespaces
    return right._replace(space=getattr(spaces, right.space) if right.space in ("runtime", "system") else right.space)


def allowed(kube: Kube, user: str, groups: list[str], right: Right) -> bool:
    """Whether somebody has a right, asked of the API server. Raises KubeError: who asks may not ask that."""
    resource, _, sub = right.resource.partition("/")
    attributes = {
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        **({"subresource": sub} if sub else {}),
        **({"namespace": right.space} if right.space else {}),
        **({"name": right.name} if right.name else {}),
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
    }
    return bool((kube.create(_REVIEWS, review).get("status") or {}).get("allowed"))


def namespaces(kube: Kube, platform: Platform) -> Iterator[Finding]:
    """The platform's four namespaces, and Pod Security in them."""
    spaces = platform.shared.namespaces
    for name in (spaces.system, spaces.runtime, spaces.jobs, spaces.models):
        check = f"namespace {name}"
        found = kube.find(f"/api/v1/namespaces/{name}")
        if found is None:
            yield fail(check, "does not exist", f"install the chart: {_CHART}")
            continue
        level = (found["metadata"].get("labels") or {}).get(_LEVEL)
        if found["metadata"].get("deletionTimestamp"):
            yield fail(check, "is being deleted", "see who deleted it, and why")
        elif level != "restricted":
            yield warn(
                check,
                f"enforces Pod Security {level or 'at no level'}, not restricted",
                f"kubectl label namespace {name} --overwrite {_LEVEL}=restricted",
            )
        else:
            yield ok(check, "Pod Security restricted")
