"""Who passes the tenant fence: controllers of a cloud, and not who is named in fence.neverBypass, whatever it holds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from tests.chart.conftest import NEVER_PASSES, World, binding, user
from tests.chart.kube import Actor, Answer, Manifest, manifest, until, until_ok
from tests.chart.plans import SPACES, Act, create, keep, pod

from tenantplane_api.runtime import names

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("chart")]

SPACE = "tenant-acme"
OPEN: Manifest = {"podSelector": {}, "ingress": [{}], "egress": [{}]}


def _all_rights(world: World, name: str, *subjects: Manifest) -> Manifest:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    item = manifest("ClusterRoleBinding", f"{name}-for-test", roleRef=reference, subjects=list(subjects))
    keep(world.admin, item)
    return item


REACHES: dict[str, tuple[Act, str]] = {
    # what a tenant's repository may hold, and who must refuse it
    "opens the network": (
        create(partial(manifest, "NetworkPolicy", "probe", spec=OPEN)),
        "tenantplane-tenant-boundary-fence",
    ),
    "binds a role": (
        lambda who, space: who.create(binding("probe", space, "cluster-admin", user("alice")), dry=True),
        "tenantplane-tenant-boundary-fence",
    ),
    "marks an object as ours": (
        create(partial(manifest, "ConfigMap", "probe", labels={names.LABEL_TENANT: "acme"})),
        "tenantplane-tenant-fence",
    ),
    "runs anybody's image": (
        pod({"name": "c", "image": "evil.example/x", "imagePullPolicy": "Always"}),
        "tenantplane-tenant-pods-fence",
    ),
    "takes a disk": (
        create(
            partial(
                manifest,
                "PersistentVolumeClaim",
                "probe",
                spec={
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "fast",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            )
        ),
        "tenantplane-tenant-storage-fence",
    ),
    "takes an address": (
        create(
            partial(
                manifest,
                "Service",
                "probe",
                spec={"ports": [{"port": 80}], "externalIPs": ["203.0.113.7"], "type": "ClusterIP"},
            )
        ),
        "tenantplane-tenant-services-fence",
    ),
    "takes a host": (
        create(
            partial(
                manifest,
                "Ingress",
                "probe",
                spec={
                    "ingressClassName": "public",
                    "defaultBackend": {"service": {"name": "s", "port": {"number": 80}}},
                },
            )
        ),
        "tenantplane-tenant-ingress-fence",
    ),
    "takes a role in a cloud": (
        create(partial(manifest, "ServiceAccount", "probe", annotations={names.ANNOTATION_ROLE_ARN: "x"})),
        "tenantplane-tenant-identity-fence",
    ),
}


@pytest.fixture(scope="module")
def applier(world: World) -> Iterator[tuple[Actor, Actor]]:
    """Two cluster admins by RBAC: one of fence.neverBypass, and one like it that is not."""
    item = _all_rights(world, "cluster-admin", user(NEVER_PASSES), user("rooty"))
    never = Actor(world.cluster.persona("gitops", user=NEVER_PASSES))
    other = Actor(world.cluster.persona("rooty"))
    for who in (never, other):
        until_ok(partial(who.get, "Secret"), "all rights are there")
    yield never, other
    assert world.admin.delete("ClusterRoleBinding", "", item["metadata"]["name"]).ok


@pytest.mark.usefixtures("plans")
def test_a_controller_that_never_passes_applies_for_a_tenant_what_the_tenant_may(applier: tuple[Actor, Actor]) -> None:
    never, other = applier
    space = SPACES["closed"]
    for name, (act, policy) in REACHES.items():
        assert (answer := act(never, space)).denied_by(policy), (name, answer.body)
        # It holds `bypass` too, so it is the list that refuses.
        assert (answer := act(other, space)).ok, (name, answer.body)
    assert never.create(manifest("ConfigMap", "probe", space), dry=True).ok
    assert pod()(never, space).ok
    # Outside of tenants' namespaces, and over Namespaces, it is what RBAC made it.
    assert never.create(manifest("NetworkPolicy", "probe", "elsewhere", spec=OPEN), dry=True).ok
    patch = {"metadata": {"annotations": {"example.com/a": "b"}}}
    assert never.merge("Namespace", "", space, patch, dry=True).ok


def test_controllers_of_eks_do_their_work_and_nobody_else_does_it(world: World) -> None:
    """On EKS they are Users and, in Auto Mode, of the group `eks:managed`; RBAC gives them their kinds."""
    rules = [
        {"apiGroups": [""], "resources": ["services/status"], "verbs": ["patch", "update"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "update"]},
    ]
    group = {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "eks:managed"}
    keep(world.admin, manifest("ClusterRole", "cloud", rules=rules))
    _all_rights(world, "cloud", group, user("eks:kms-storage-migrator"), user("ellie"))
    keep(world.admin, manifest("Service", "front", SPACE, spec={"ports": [{"port": 80}]}))
    auto = Actor(world.cluster.persona("auto", user="eks:load-balancing", groups=["eks:managed"]))
    migrator = Actor(world.cluster.persona("migrator", user="eks:kms-storage-migrator"))
    ellie = Actor(world.cluster.persona("ellie"))

    def status(who: Actor) -> Answer:
        return who.merge("Service", SPACE, "front", {"metadata": {"annotations": {"a": "b"}}}, dry=True, sub="status")

    def rewrite(who: Actor) -> Answer:
        return who.put("Secret", SPACE, "default", dict(who.get("Secret", SPACE, "default").body), dry=True)

    try:
        until_ok(partial(status, auto), "the load balancer's controller writes the status")
        until_ok(partial(rewrite, migrator), "the migrator writes a Secret of ours back")
        until(lambda: status(ellie).denied_by("tenantplane-tenant-boundary-fence"), "others do not, by the fence")
        assert rewrite(ellie).denied_by("tenantplane-tenant-fence")
    finally:
        assert world.admin.delete("Service", SPACE, "front").ok
        assert world.admin.delete("ClusterRoleBinding", "", "cloud-for-test").ok
        assert world.admin.delete("ClusterRole", "", "cloud").ok
