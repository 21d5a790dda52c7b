"""One control plane for the chart's tests, because they take fences down; two tenants, made by the operator's user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from tests.chart.kube import Actor, Manifest, fence_down, manifest, until, until_ok
from tests.chart.plans import PLANS, SPACES, Case, keep

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Allowances, allow_annotations
from tenantplane_cli.cluster import PROGRAMS_DISABLED, Cluster, install_chart, open_cluster
from tenantplane_operator.tenant.namespace import pod_security_labels

NEVER_PASSES = "robot@gitops.example"
"""User of the values' fence.neverBypass."""
RESTRICTED = pod_security_labels("restricted", "latest")
VALUES = {
    **PROGRAMS_DISABLED,
    "fence.neverBypass": ["system:serviceaccount:gitops:applier", NEVER_PASSES],
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


PLAN = Allowances(registries=("example.com/",), storage_classes=("standard",))
"""Of the tenants acme and globex."""


def tenant_namespace(
    tenant: str, name: str = "", allow: Allowances = PLAN, *, security: str | None = "restricted"
) -> Manifest:
    """What the operator makes for a tenant whose plan allows ``allow``; ``security`` is the enforced Pod Security."""
    ours = {names.LABEL_TENANT: tenant, names.LABEL_MANAGED_BY: names.MANAGED_BY}
    if security is not None:
        ours |= pod_security_labels(security, "latest")
    return manifest(
        "Namespace",
        name or names.default_namespace(tenant),
        labels=ours,
        annotations={names.ANNOTATION_TENANT_ID: f"{tenant}-00000001", **allow_annotations(allow)},
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
        # As strict as a tenant's, so that the operator is refused for whose it is and for nothing else.
        assert admin.create(manifest("Namespace", "elsewhere", labels=dict(RESTRICTED))).ok
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


@dataclass(frozen=True)
class Plans:
    """Tenants of the plans of ``plans.PLANS``, with requesters who have every right there; see that module."""

    world: World
    user: Actor
    robots: dict[str, Actor]  # the ServiceAccount `tenant` of each namespace, by plan

    def check(self, case: Case) -> None:
        """The user under every plan of the case; a ServiceAccount under one that refuses and one that allows."""
        case.check([self.user])
        for plan in (*sorted(case.plans - case.allowed)[:1], *sorted(case.plans & case.allowed)[:1]):
            replace(case, plans=frozenset({plan})).check([self.robots[plan]])

    def check_without(self, policy: str, cases: Mapping[str, Case]) -> None:
        """Take ``policy`` down: what it alone refused under the plan ``closed`` then happens."""
        space = SPACES["closed"]
        acts = {
            name: case.act for name, case in cases.items() if case.policy == policy and "closed" not in case.allowed
        }
        probe = next(iter(acts.values()))
        with fence_down(self.world.admin, policy, lambda: probe(self.user, space)):
            until(lambda: probe(self.user, space).ok, "the fence is down")
            still = {name: answer.message for name, act in acts.items() if not (answer := act(self.user, space)).ok}
            assert not still

    def check_kept(self, kind: str, there: Manifest, fresh: Manifest, policy: str, word: str) -> None:
        """An object that its plan no longer allows may be changed where nothing is new, and be deleted."""
        space = SPACES["closed"]
        rest = {key: value for key, value in there.items() if key != "metadata"}
        keep(self.world.admin, manifest(kind, "old", space, **there.get("metadata", {}), **rest))
        try:
            for who in (self.user, self.robots["closed"]):
                label = {"metadata": {"labels": {"a": "b"}}}
                assert (answer := who.merge(kind, space, "old", label, dry=True)).ok, answer.body
                answer = who.merge(kind, space, "old", fresh, dry=True)
                assert answer.denied_by(policy), answer.body
                assert word in answer.message
        finally:
            assert self.user.delete(kind, space, "old").ok


@pytest.fixture(scope="session")
def plans(world: World) -> Plans:
    """Namespaces of the four plans; ``carla`` and the ServiceAccount ``tenant`` hold all rights in them."""
    carla = Actor(world.cluster.persona("carla"))
    robots: dict[str, Actor] = {}
    for name in ("tenants", "tenants2"):
        assert world.admin.create(manifest("PriorityClass", name, value=1)).ok
    for name in ("gvisor", "kata"):
        assert world.admin.create(manifest("RuntimeClass", name, handler=name)).ok
    for plan, space in SPACES.items():
        assert world.operator.apply(tenant_namespace(f"plan-{plan}", space, PLANS[plan])).ok
        # So that what is refused here is refused by the fence, and not by Pod Security before it.
        level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
        assert world.admin.merge("Namespace", "", space, level).ok
        for name in (names.CHILD_SERVICE_ACCOUNT, "builder"):
            account = manifest("ServiceAccount", name, space)
            until_ok(partial(world.admin.create, account), "the ServiceAccount is there")
        robot = {"kind": "ServiceAccount", "name": names.CHILD_SERVICE_ACCOUNT, "namespace": space}
        assert world.admin.create(binding("everything", space, "cluster-admin", user("carla"), robot)).ok
        robots[plan] = Actor(world.cluster.service_account(space, names.CHILD_SERVICE_ACCOUNT))
        for who in (carla, robots[plan]):
            until_ok(partial(who.get, "Secret", space), "the rights are there")
        until(lambda: world.admin.get("ServiceAccount", space, "default").ok, "Kubernetes made its ServiceAccount")  # noqa: B023
    return Plans(world, carla, robots)
