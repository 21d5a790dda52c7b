"""Two customers side by side on a real control plane, made by the real operator from two Tenants.

``place`` is shared by the tests of a module; a module has names of its own, because the cluster is shared by all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from tests.chart.kube import until, until_ok
from tests.isolation.people import CONFIG_MAPS, FENCE, PODS, Person, obj, pod, refused_by, url
from tests.operator.e2e.world import Operator, World, wait
from tests.support.cluster import with_chart

from tenantplane_api.runtime import names
from tenantplane_cli.cluster import Cluster

PLAN: dict[str, Any] = {
    "quota": {
        "requests.cpu": "4",
        "limits.cpu": "8",
        "requests.memory": "8Gi",
        "limits.memory": "16Gi",
        "requests.ephemeral-storage": "10Gi",
        "limits.ephemeral-storage": "20Gi",
        "requests.storage": "10Gi",
        "requests.nvidia.com/gpu": "1",
        "pods": "6",
        "services": "3",
        "services.loadbalancers": "0",
        "services.nodeports": "0",
        "persistentvolumeclaims": "3",
        "secrets": "5",
        "configmaps": "5",
        "count/jobs.batch": "3",
        "replicationcontrollers": "0",
        "resourcequotas": "0",
    },
    "containerLimits": {
        "default": {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "1Gi"},
        "defaultRequest": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "256Mi"},
        "max": {"cpu": "2", "memory": "4Gi"},
    },
    "workloads": "Restricted",
    "allow": {
        "registries": ["registry.example/", "registry.k8s.io/"],
        "storageClasses": ["standard"],
        "priorityClasses": ["batch"],
        "tolerations": ["example.com/gpu"],
    },
    "models": [],
}


@dataclass(frozen=True)
class Side:
    """One customer and the people of it.

    ``mallory`` holds every verb on everything in the namespace by a Role that somebody made beside the chart (worse
    than the built-in ClusterRole ``admin``): against her the fences must hold without RBAC. ``robot`` is the
    namespace's ServiceAccount ``tenant``, an admin by the Tenant; ``idle`` its ServiceAccount ``default``.
    """

    name: str
    space: str
    admin: Person
    editor: Person
    viewer: Person
    mallory: Person
    robot: Person
    idle: Person


@dataclass(frozen=True)
class Place:
    """Both customers. ``cluster_admin`` is of system:masters; ``stranger`` is authenticated and nothing else."""

    world: World
    operator: Operator
    cluster_admin: Person
    stranger: Person
    own: Side
    other: Side

    @property
    def both_ways(self) -> tuple[tuple[Side, Side], tuple[Side, Side]]:
        """(a side, the other one), in both directions."""
        return (self.own, self.other), (self.other, self.own)


def user(name: str) -> dict[str, str]:
    return {"kind": "User", "name": name}


def customer(world: World, name: str, **spec: Any) -> Side:
    """A customer by one Tenant; returns when it is Ready, its quota is counted and its people's rights act."""
    space = names.default_namespace(name)
    robot = {"kind": "ServiceAccount", "name": names.CHILD_SERVICE_ACCOUNT, "namespace": space}
    world.tenant(
        name,
        access={
            "admins": [user(f"admin@{name}"), robot],
            "editors": [user(f"editor@{name}")],
            "viewers": [user(f"viewer@{name}")],
            "workloads": "Restricted",
        },
        **spec,
    )
    world.await_ready(name, target=5)
    cluster_admin = Person(world.cluster.persona("admin", groups=["system:masters"], user="kubernetes-admin"))
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    role = obj("rbac.authorization.k8s.io/v1", "Role", "everything", rules=rules)
    binding = obj(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "everything",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "everything"},
        subjects=[{**user(f"mallory@{name}"), "apiGroup": "rbac.authorization.k8s.io"}],
    )
    for resource, item in (("roles", role), ("rolebindings", binding)):
        answer = cluster_admin.make(f"rbac.authorization.k8s.io/v1/{resource}", space, item, dry=False)
        assert answer.ok, answer.body
    people = {who: Person(world.cluster.persona(f"{who}@{name}")) for who in ("admin", "editor", "viewer", "mallory")}
    for account, who in ((names.CHILD_SERVICE_ACCOUNT, "robot"), ("default", "idle")):
        people[who] = Person(world.cluster.service_account(space, account))
    side = Side(name=name, space=space, **people)
    # Authorisers and quota controllers learn a moment later; waiting here keeps that out of every test.
    for person in (side.admin, side.mallory, side.robot):
        until_ok(partial(person.make, PODS, space, pod()), f"{person.user} may run pods")
    until_ok(partial(side.editor.look, CONFIG_MAPS, space), "the editor reads")
    return side


def offboard(world: World, *sides: str) -> None:
    """Delete Tenants and wait until they are gone; their namespaces go on ending by themselves."""
    for name in sides:
        world.delete("Tenant", name)
    wait(lambda: not any(world.get("Tenant", name) for name in sides), "the Tenants are gone", target=6)
    for name in sides:
        world.delete("Namespace", names.default_namespace(name))


def end_pods(place: Place, side: Side) -> None:
    """No kubelet here ends a pod."""
    at_once = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    for item in place.cluster_admin.look(PODS, side.space).body["items"]:
        name = item["metadata"]["name"]
        place.cluster_admin.change(PODS, side.space, name, {"metadata": {"finalizers": None}}, dry=False)
        place.cluster_admin.ask("DELETE", url(PODS, side.space, name), at_once, dry=False)


@pytest.fixture(scope="module")
def place(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Place]:
    """The chart, an operator, two customers."""
    world = World(with_chart(cluster), tmp_path_factory.mktemp("isolation"))
    world.documents.mkdir()
    word = str(request.module.__name__).rpartition(".")[2].removeprefix("test_").replace("_", "-")
    sides = f"harbor-{word}", f"quarry-{word}"
    operator = None
    try:
        operator = world.start(plans={"default": PLAN}, resyncSeconds=3600)
        own, other = (customer(world, name) for name in sides)
        cluster_admin = Person(cluster.persona("admin", groups=["system:masters"], user="kubernetes-admin"))
        forged = obj("v1", "ConfigMap", "probe", labels={names.LABEL_TENANT: "x"})
        until(lambda: refused_by(own.mallory.make(CONFIG_MAPS, own.space, forged)) == FENCE, "the tenant fence acts")
        yield Place(
            world=world,
            operator=operator,
            cluster_admin=cluster_admin,
            stranger=Person(cluster.persona("stranger")),
            own=own,
            other=other,
        )
    finally:
        try:
            if operator is not None and operator.process.poll() is None:
                offboard(world, *sides)
                # Not killed, which would leave its Lease to the next one to wait for.
                operator.stop()
        finally:
            world.close()
