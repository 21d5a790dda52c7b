"""The operator under its own ServiceAccount: what it may do, what the fence refuses, and that it is the fence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.chart.conftest import OPERATOR, RESTRICTED, World, binding, tenant_namespace, user
from tests.chart.kube import Answer, Manifest, fence_down, manifest, until

from tenantplane_api.runtime import names

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("chart")]

POLICY = "tenantplane-operator-fence"
Act = Callable[[World], Answer]


def _bind(namespace: str, role: str = names.CLUSTER_ROLE_OPERATOR_NAMESPACE, *subjects: Manifest) -> Act:
    return lambda w: w.operator.create(binding("probe", namespace, role, *(subjects or (OPERATOR,))), dry=True)


def _label(namespace: str, tenant: str | None, *, sub: str = "") -> Act:
    return _relabel(namespace, {names.LABEL_TENANT: tenant, **RESTRICTED}, sub=sub)


def _relabel(namespace: str, labels: Mapping[str, str | None], *, sub: str = "") -> Act:
    patch = {"metadata": {"labels": dict(labels)}}
    return lambda w: w.operator.merge("Namespace", "", namespace, patch, dry=True, sub=sub)


def _annotate(namespace: str, key: str, value: str) -> Act:
    return lambda w: w.operator.merge("Namespace", "", namespace, {"metadata": {"annotations": {key: value}}}, dry=True)


def _make(name: str, **rest: Any) -> Act:
    return lambda w: w.operator.create(manifest("Namespace", name, **rest), dry=True)


def _remove(namespace: str) -> Act:
    return lambda w: w.operator.delete("Namespace", "", namespace, dry=True)


def _group(name: str) -> Manifest:
    return {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name}


def _account(namespace: str, name: str = "default") -> Manifest:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def _secret(kind: str) -> Act:
    notes = {"kubernetes.io/service-account.name": names.CHILD_SERVICE_ACCOUNT}
    return lambda w: w.operator.create(
        manifest("Secret", "probe", "tenant-acme", type=kind, annotations=notes), dry=True
    )


OURS = {names.LABEL_TENANT: "initech", **RESTRICTED}
ENFORCE = "pod-security.kubernetes.io/enforce"
WORKLOADS = names.CLUSTER_ROLE_TENANT_WORKLOADS

# What the fence alone refuses: RBAC allows it, and it happens as soon as the fence is down.
REFUSED: dict[str, Act] = {
    "binds itself in kube-system": _bind("kube-system"),
    "binds itself in kube-public": _bind("kube-public"),
    "binds itself in default": _bind("default"),
    "binds itself in the system namespace": _bind(names.NAMESPACE_SYSTEM),
    "binds itself in the runtime namespace": _bind(names.NAMESPACE_RUNTIME),
    "binds itself in a foreign namespace": _bind("elsewhere"),
    "binds a tenant's admin in a foreign namespace": _bind("elsewhere", names.CLUSTER_ROLE_TENANT_ADMIN, user("alice")),
    "gives its own role to a user": _bind("tenant-acme", names.CLUSTER_ROLE_OPERATOR_NAMESPACE, user("alice")),
    "gives its own role to another ServiceAccount": _bind(
        "tenant-acme", names.CLUSTER_ROLE_OPERATOR_NAMESPACE, {**OPERATOR, "namespace": "elsewhere"}
    ),
    "gives a tenant to everybody": _bind(
        "tenant-acme",
        names.CLUSTER_ROLE_TENANT_ADMIN,
        _group("system:authenticated"),
    ),
    "gives a tenant to EKS": _bind("tenant-acme", names.CLUSTER_ROLE_TENANT_ADMIN, _group("eks:managed")),
    # Root on a node, by a namespace without Pod Security and the right to run pods there.
    "makes a namespace without Pod Security": _make("initech", labels={names.LABEL_TENANT: "initech"}),
    "makes a namespace below the floor": _make("initech", labels={**OURS, ENFORCE: "baseline"}),
    "makes a privileged namespace": _make("initech", labels={**OURS, ENFORCE: "privileged"}),
    "makes a namespace of an old standard": _make("initech", labels={**OURS, f"{ENFORCE}-version": "v1.20"}),
    "lowers a tenant's Pod Security": _relabel("tenant-acme", {ENFORCE: "privileged"}),
    "takes a tenant's Pod Security away": _relabel("tenant-acme", {ENFORCE: None}),
    "turns a tenant's standard back": _relabel("tenant-acme", {f"{ENFORCE}-version": "v1.20"}),
    "adopts and leaves Pod Security out": _relabel("offered", {names.LABEL_TENANT: "acme"}),
    "gives itself the right to run pods": _bind("tenant-acme", WORKLOADS, OPERATOR),
    "gives the data plane the right to run pods": _bind(
        "tenant-acme", WORKLOADS, _account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_DATAPLANE)
    ),
    "gives kube-system the right to run pods": _bind("tenant-acme", WORKLOADS, _account("kube-system")),
    "gives default the right to run pods": _bind("tenant-acme", WORKLOADS, _account("default")),
    "makes a Secret with another's token": _secret("kubernetes.io/service-account-token"),
    "deletes a binding of kube-system": lambda w: w.operator.delete(
        "RoleBinding", "kube-system", "system::leader-locking-kube-scheduler", dry=True
    ),
    "deletes a tenant's binding to a foreign role": lambda w: w.operator.delete(
        "RoleBinding", "tenant-acme", "foreign", dry=True
    ),
    "makes a namespace that is nobody's": _make("stray"),
    "makes a kube- namespace": _make("kube-tenants", labels=OURS),
    "makes a tenantplane- namespace": _make("tenantplane-tenants", labels=OURS),
    "makes a namespace with consent in it": _make(
        "initech", labels=OURS, annotations={names.ANNOTATION_ADOPTABLE_BY: "initech"}
    ),
    "takes a foreign namespace": _label("elsewhere", "acme"),
    "takes kube-system": _label("kube-system", "acme"),
    "takes default": _label("default", "acme"),
    "takes the runtime namespace": _label(names.NAMESPACE_RUNTIME, "acme"),
    "takes a namespace with another tenant's consent": _label("offered", "globex"),
    "takes kube-public, consent or not": _label("kube-public", "acme"),
    "annotates a foreign namespace": _annotate("elsewhere", "example.com/note", "x"),
    "consents for the cluster admin": _annotate("tenant-acme", names.ANNOTATION_ADOPTABLE_BY, "globex"),
    "hands a tenant's namespace to another tenant": _label("tenant-acme", "globex"),
    "lets a tenant's namespace go": _label("tenant-acme", None),
    "gives a namespace to another tenantID": _annotate("tenant-acme", names.ANNOTATION_TENANT_ID, "other-00000002"),
    "deletes a foreign namespace": _remove("elsewhere"),
    "deletes a namespace that was only offered": _remove("offered"),
    "deletes the runtime namespace": _remove(names.NAMESPACE_RUNTIME),
}

ALLOWED: dict[str, Act] = {
    "binds itself in a tenant's namespace": _bind("tenant-acme"),
    "binds a tenant's admin there": _bind("tenant-acme", names.CLUSTER_ROLE_TENANT_ADMIN, user("carol")),
    "binds a group of the tenant's": _bind(
        "tenant-acme",
        names.CLUSTER_ROLE_TENANT_VIEWER,
        _group("acme-viewers"),
    ),
    "gives a tenant's ServiceAccount the right to run pods": _bind("tenant-acme", WORKLOADS, _account("tenant-acme")),
    "gives a pipeline's ServiceAccount the right to run pods": _bind("tenant-acme", WORKLOADS, _account("ci")),
    "makes a Secret": _secret("Opaque"),
    "deletes its own binding": lambda w: w.operator.delete(
        "RoleBinding", "tenant-acme", names.CHILD_ROLE_BINDING_WORKLOADS, dry=True
    ),
    "makes a tenant's namespace": _make("tenant-initech", labels=OURS),
    "makes a tenant's namespace as the operator does": lambda w: w.operator.apply(
        tenant_namespace("initech"), dry=True
    ),
    "adopts with consent": _label("offered", "acme"),
    "labels a tenant's namespace": _annotate("tenant-acme", "example.com/note", "x"),
    "applies a tenant's namespace again": lambda w: w.operator.apply(tenant_namespace("acme"), dry=True),
    "deletes a tenant's namespace": _remove("tenant-acme"),
}

# RBAC alone refuses these, with the fence down too.
FORBIDDEN: dict[str, Act] = {
    "reads a foreign Secret": lambda w: w.operator.get("Secret", "elsewhere", "foreign"),
    "lists kube-system's Secrets": lambda w: w.operator.get("Secret", "kube-system"),
    "lists all Secrets": lambda w: w.operator.get("Secret"),
    "reads its own namespace's Secrets": lambda w: w.operator.get("Secret", names.NAMESPACE_SYSTEM),
    "binds cluster-admin in a tenant's namespace": _bind("tenant-acme", "cluster-admin"),
    "binds itself to a tenant's role cluster-wide": lambda w: w.operator.create(
        manifest(
            "ClusterRoleBinding",
            "probe",
            roleRef={
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": names.CLUSTER_ROLE_OPERATOR_NAMESPACE,
            },
            subjects=[OPERATOR],
        ),
        dry=True,
    ),
    "widens its own ClusterRole": lambda w: w.operator.merge(
        "ClusterRole", "", "tenantplane-operator", {"rules": []}, dry=True
    ),
    "makes a Role": lambda w: w.operator.create(manifest("Role", "probe", "tenant-acme", rules=[]), dry=True),
    "takes the fence down": lambda w: Answer(
        *w.operator.rest.call(
            "DELETE", f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/{POLICY}"
        )
    ),
    "makes a token of another ServiceAccount": lambda w: w.operator.put(
        "ServiceAccount", "tenant-acme", "default", {}, dry=True, sub="token"
    ),
    "runs a pod in a tenant's namespace": lambda w: w.operator.create(
        manifest("Pod", "probe", "tenant-acme", spec={"containers": [{"name": "c", "image": "i"}]}), dry=True
    ),
    "labels a foreign namespace by its status": _label("elsewhere", "acme", sub="status"),
    "makes a Tenant": lambda w: w.operator.create(
        manifest("Tenant", "probe", spec={"tenantID": "probe-00000001"}), dry=True
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _spaces(world: World) -> None:
    """A namespace that a cluster admin offered to acme, and a binding in acme that is not ours."""
    offered = manifest("Namespace", "offered", annotations={names.ANNOTATION_ADOPTABLE_BY: "acme"})
    assert world.admin.create(offered).ok
    assert world.admin.create(binding("foreign", "tenant-acme", "view", user("auditor"))).ok
    consent = {"metadata": {"annotations": {names.ANNOTATION_ADOPTABLE_BY: "acme"}}}
    assert world.admin.merge("Namespace", "", "kube-public", consent).ok


@pytest.mark.parametrize("name", REFUSED)
def test_the_fence_refuses(world: World, name: str) -> None:
    answer = REFUSED[name](world)
    assert answer.denied_by(POLICY), answer.body


@pytest.mark.parametrize("name", ALLOWED)
def test_the_fence_lets_through(world: World, name: str) -> None:
    answer = ALLOWED[name](world)
    assert answer.ok, answer.body


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_right_at_all(world: World, name: str) -> None:
    answer = FORBIDDEN[name](world)
    assert answer.denied_by_rbac, answer.body


def test_without_the_fence_all_of_it_happens(world: World) -> None:
    """Each refusal above is the fence's doing; and one self-binding is enough to read kube-system's Secrets."""
    probe = REFUSED["binds itself in kube-system"]
    secret = manifest("Secret", "crown-jewels", "kube-system", stringData={"token": "s3cr3t"})
    assert world.admin.create(secret).ok
    with fence_down(world.admin, POLICY, lambda: probe(world)):
        until(lambda: probe(world).ok, "the fence is down")
        refused = {name: answer.body for name, act in REFUSED.items() if not (answer := act(world)).ok}
        assert not refused
        assert world.operator.create(
            binding("takeover", "kube-system", names.CLUSTER_ROLE_OPERATOR_NAMESPACE, OPERATOR)
        ).ok
        until(lambda: world.operator.get("Secret", "kube-system", "crown-jewels").ok, "the self-binding gives Secrets")
        assert world.admin.delete("RoleBinding", "kube-system", "takeover").ok
    until(lambda: world.operator.get("Secret", "kube-system", "crown-jewels").denied_by_rbac, "the right is gone again")


def test_adopts_a_namespace_with_consent_and_then_works_in_it(world: World) -> None:
    offered = manifest(
        "Namespace",
        "handover",
        annotations={names.ANNOTATION_ADOPTABLE_BY: "acme"},
    )
    assert world.admin.create(offered).ok
    assert world.operator.create(
        binding("b", "handover", names.CLUSTER_ROLE_TENANT_ADMIN, user("alice")), dry=True
    ).denied_by(POLICY)
    assert world.operator.apply(tenant_namespace("acme", "handover")).ok
    item = binding("b", "handover", names.CLUSTER_ROLE_TENANT_ADMIN, user("alice"))
    until(lambda: world.operator.create(item, dry=True).ok, "the adopted namespace is the tenant's")
    assert world.operator.delete("Namespace", "", "handover").ok


def test_reads_secrets_of_its_tenants_and_of_the_platform(world: World) -> None:
    assert world.operator.get("Secret", "tenant-acme", "own").ok
    assert world.operator.get("Secret", names.NAMESPACE_RUNTIME).ok
    assert world.admin.create(manifest("Secret", "upstream", names.NAMESPACE_MODELS, stringData={"k": "v"})).ok
    assert world.operator.get("Secret", names.NAMESPACE_MODELS, "upstream").ok


def _sub(namespace: str, sub: str, **metadata: Any) -> Act:
    """PUT of a Namespace's subresource, with ``metadata`` merged into its own."""

    def act(w: World) -> Answer:
        body = dict(w.operator.get("Namespace", "", namespace).body)
        body["metadata"] = {**body["metadata"], **metadata}
        return w.operator.put("Namespace", "", namespace, body, dry=True, sub=sub)

    return act


WIDER: dict[str, Act] = {
    "finalizes a foreign namespace": _sub("elsewhere", "finalize"),
    "finalizes kube-system": _sub("kube-system", "finalize"),
    "finalizes the runtime namespace": _sub(names.NAMESPACE_RUNTIME, "finalize"),
    "takes a foreign namespace by its status": _label("elsewhere", "acme", sub="status"),
    "takes a foreign namespace by its finalizers": _sub("elsewhere", "finalize", labels=OURS),
    "lets a tenant's namespace go by its status": _label("tenant-acme", None, sub="status"),
    "lowers a tenant's Pod Security by its status": _relabel("tenant-acme", {ENFORCE: "privileged"}, sub="status"),
    "lowers a tenant's Pod Security by its finalizers": _sub(
        "tenant-acme", "finalize", labels={**OURS, names.LABEL_TENANT: "acme", ENFORCE: "privileged"}
    ),
    "makes a Role": lambda w: w.operator.create(manifest("Role", "probe", "tenant-acme", rules=[]), dry=True),
    "makes a ClusterRole": lambda w: w.operator.create(manifest("ClusterRole", "probe", rules=[]), dry=True),
    "makes a ClusterRoleBinding": lambda w: w.operator.create(
        manifest(
            "ClusterRoleBinding",
            "probe",
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            subjects=[OPERATOR],
        ),
        dry=True,
    ),
    "binds cluster-admin in a tenant's namespace": _bind("tenant-acme", "cluster-admin"),
    "binds a Role in a tenant's namespace": lambda w: w.operator.create(
        manifest(
            "RoleBinding",
            "probe",
            "tenant-acme",
            roleRef={
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": names.CLUSTER_ROLE_TENANT_ADMIN,
            },
            subjects=[OPERATOR],
        ),
        dry=True,
    ),
}


def test_a_wider_right_by_mistake_does_not_reach_past_the_fence(world: World) -> None:
    """Bound to `cluster-admin`, the operator still takes no namespace by a subresource and makes no roles."""
    item = manifest(
        "ClusterRoleBinding",
        "mistake",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        subjects=[OPERATOR],
    )
    assert world.admin.create(item).ok
    try:
        until(lambda: world.operator.get("Secret", "kube-system").ok, "the mistake acts")
        for name, act in WIDER.items():
            answer = act(world)
            assert answer.denied_by(POLICY), (name, answer.body)
        assert (answer := _sub("tenant-acme", "finalize")(world)).ok, answer.body
        with fence_down(world.admin, POLICY, lambda: WIDER["makes a Role"](world)):
            until(lambda: WIDER["makes a Role"](world).ok, "the fence is down")
            refused = {name: answer.body for name, act in WIDER.items() if not (answer := act(world)).ok}
            assert not refused
    finally:
        assert world.admin.delete("ClusterRoleBinding", "", "mistake").ok
    until(lambda: world.operator.get("Secret", "kube-system").denied_by_rbac, "the mistake is undone")
