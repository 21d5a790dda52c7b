"""One control plane for the chart's tests, because they take fences down; two tenants, made by the operator's user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
from tests.chart.kube import Actor, Manifest, manifest, until, until_ok

from tenantplane_api.runtime import names
from tenantplane_cli.cluster import PROGRAMS_DISABLED, Cluster, install_chart, open_cluster

VALUES = {
    **PROGRAMS_DISABLED,
    "namespaces.createSystem": True,
    "access.platformAdmins": [{"kind": "Group", "name": "platform-team"}],
}


@dataclass(frozen=True)
class World:
    """The cluster with the chart and its people. ``acme`` and ``globex`` are tenants, ``elsewhere`` is foreign."""

    cluster: Cluster
    admin: Actor  # cluster administrator, of system:masters
    operator: Actor
    dataplane: Actor
    platform: Actor  # of the group that access.platformAdmins names
    alice: Actor  # admin of acme
    bob: Actor  # admin of globex
    eve: Actor  # a stranger: authenticated, no rights
    spaces: dict[str, str] = field(default_factory=lambda: {"acme": "tenant-acme", "globex": "tenant-globex"})


def tenant_namespace(tenant: str, name: str = "") -> Manifest:
    """What the operator makes for a tenant."""
    return manifest(
        "Namespace",
        name or names.default_namespace(tenant),
        labels={names.LABEL_TENANT: tenant, names.LABEL_MANAGED_BY: names.MANAGED_BY},
        annotations={names.ANNOTATION_TENANT_ID: f"{tenant}-00000001"},
    )


def binding(name: str, namespace: str, role: str, *subjects: Manifest) -> Manifest:
    """A RoleBinding to a ClusterRole."""
    return manifest(
        "RoleBinding",
        name,
        namespace,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        subjects=list(subjects),
    )


OPERATOR: Manifest = {
    "kind": "ServiceAccount",
    "name": names.SERVICE_ACCOUNT_OPERATOR,
    "namespace": names.NAMESPACE_SYSTEM,
}


def user(name: str) -> Manifest:
    return {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name}


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """Chart installed, both programs off; tenants' namespaces, bindings and one managed object each are there."""
    with open_cluster() as cluster:
        install_chart(cluster, sets=VALUES)
        admin = Actor(cluster.persona("admin", groups=["system:masters"], user="kubernetes-admin"))
        world = World(
            cluster=cluster,
            admin=admin,
            operator=Actor(cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR)),
            dataplane=Actor(cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_DATAPLANE)),
            platform=Actor(cluster.persona("petra", groups=["platform-team"])),
            alice=Actor(cluster.persona("alice")),
            bob=Actor(cluster.persona("bob")),
            eve=Actor(cluster.persona("eve")),
        )
        probe = binding("probe", "kube-system", names.CLUSTER_ROLE_OPERATOR_NAMESPACE, OPERATOR)
        # A new policy acts up to a second after it was accepted.
        until(lambda: world.operator.create(probe, dry=True).denied_by("tenantplane-operator-fence"), "the fence acts")
        for tenant, who in (("acme", "alice"), ("globex", "bob")):
            _make_tenant(world, tenant, who)
        assert admin.create(manifest("Namespace", "elsewhere")).ok
        assert admin.create(manifest("Secret", "foreign", "elsewhere", stringData={"password": "hunter2"})).ok
        yield world


def _make_tenant(world: World, tenant: str, who: str) -> None:
    """With the operator's own rights, so that they are proved to be enough."""
    space = world.spaces[tenant]
    ours = {names.LABEL_TENANT: tenant, names.LABEL_MANAGED_BY: names.MANAGED_BY}
    assert world.operator.apply(tenant_namespace(tenant)).ok
    for item in (
        binding(names.CHILD_ROLE_BINDING_OPERATOR, space, names.CLUSTER_ROLE_OPERATOR_NAMESPACE, OPERATOR),
        binding(names.CHILD_ROLE_BINDING_ADMINS, space, names.CLUSTER_ROLE_TENANT_ADMIN, user(who)),
        binding(names.CHILD_ROLE_BINDING_WORKLOADS, space, names.CLUSTER_ROLE_TENANT_WORKLOADS, user(who)),
        manifest("ConfigMap", names.CHILD_STATUS_CONFIG_MAP, space, labels=ours, data={"endpoint": "http://x"}),
        manifest("ResourceQuota", names.CHILD_QUOTA, space, labels=ours, spec={"hard": {"pods": "9"}}),
        manifest("LimitRange", names.CHILD_LIMIT_RANGE, space, labels=ours, spec={"limits": []}),
        manifest("ServiceAccount", names.CHILD_SERVICE_ACCOUNT, space, labels=ours),
        manifest("NetworkPolicy", names.CHILD_NETWORK_POLICY_DENY, space, labels=ours, spec={"podSelector": {}}),
        manifest("APIKey", "default", space, labels=ours, spec={"owner": "acme"}),
    ):
        # Right after a namespace or binding was made, caches of the API server may not know it yet.
        until_ok(partial(world.operator.apply, item), f"the operator applies {item['kind']} {item['metadata']['name']}")
    secret = manifest("Secret", "default", space, labels=ours, stringData={"apiKey": "tp_x"})
    until_ok(partial(world.operator.create, secret), "the operator makes an API key's Secret")
    person = world.alice if who == "alice" else world.bob
    until_ok(partial(person.get, "ConfigMap", space), "the tenant's admin reads")
    for item in (
        manifest("ConfigMap", "own", space, data={"a": "b"}),
        manifest("Secret", "own", space, stringData={"password": tenant}),
    ):
        until_ok(partial(person.create, item), f"the tenant's admin makes a {item['kind']}")
