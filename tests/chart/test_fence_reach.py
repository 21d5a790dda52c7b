"""What a tenant reaches beyond its pods: disks, addresses, identities, and the kinds that are never its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.chart.conftest import Plans, World, user
from tests.chart.kube import Actor, Answer, Manifest, manifest, until, until_ok
from tests.chart.plans import (
    ANY,
    LISTED,
    NEVER,
    SPACES,
    WITH_IMAGE,
    Act,
    Case,
    create,
    custom,
    keep,
    pod,
    pod_spec,
    serve,
    workload,
)

from tenantplane_api.runtime import names

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("chart")]

STORAGE = "tenantplane-tenant-storage-fence"
SERVICES = "tenantplane-tenant-services-fence"
IDENTITY = "tenantplane-tenant-identity-fence"
BOUNDARY = "tenantplane-tenant-boundary-fence"
TENANT = "tenantplane-tenant-fence"
CLOSED = SPACES["closed"]


def _claim(annotations: Any = None, **spec: Any) -> Manifest:
    full = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return {"metadata": {"annotations": annotations or {}}, "spec": full}


def _pvc(annotations: Any = None, **spec: Any) -> Act:
    item = _claim(annotations, **spec)
    return create(
        lambda space: manifest(
            "PersistentVolumeClaim", "probe", space, annotations=annotations or {}, spec=item["spec"]
        )
    )


def _in_pod(**spec: Any) -> Act:
    return pod(volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": _claim(**spec)}}])


def _in_cronjob(**spec: Any) -> Act:
    volume = {"name": "v", "ephemeral": {"volumeClaimTemplate": _claim(**spec)}}
    return create(lambda space: workload("CronJob", pod_spec(volumes=[volume]), space))


def _in_set(annotations: Any = None, **spec: Any) -> Act:
    def make(space: str) -> Manifest:
        item = workload("StatefulSet", pod_spec(), space)
        claim = _claim(annotations, **spec)
        item["spec"]["volumeClaimTemplates"] = [{**claim, "metadata": {**claim["metadata"], "name": "v"}}]
        return item

    return create(make)


def _volume(**source: Any) -> Act:
    return pod(volumes=[{"name": "v", **source}])


OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
ELSEWHERE = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s", "namespace": "tenant-globex"}


CASES: dict[str, Case] = {
    "claim of the plan's class": Case(_pvc(storageClassName="standard"), LISTED, STORAGE, "storageClassName standard"),
    "claim of another class": Case(_pvc(storageClassName="fast"), ANY, STORAGE, "storageClassName fast"),
    "claim of no class": Case(_pvc(), NEVER, STORAGE, "names no storageClassName"),
    "claim of a volume without class": Case(_pvc(storageClassName=""), NEVER, STORAGE, "names no storageClassName"),
    "claim by the annotation of old": Case(_pvc({OLD_CLASS: "fast"}), ANY, STORAGE, "storageClassName fast"),
    "claim by both": Case(
        _pvc({OLD_CLASS: "fast"}, storageClassName="standard"), ANY, STORAGE, "storageClassName fast"
    ),
    "claim of one volume": Case(
        _pvc(storageClassName="standard", volumeName="pv-globex"), NEVER, STORAGE, "volumeName", plans=LISTED
    ),
    # Where the API server does not know this yet, it drops the namespace from a claim, but not from a template.
    "StatefulSet's claim from another namespace": Case(
        _in_set(storageClassName="standard", dataSourceRef=ELSEWHERE), NEVER, STORAGE, "dataSourceRef", plans=LISTED
    ),
    "claim from its own namespace": Case(
        _pvc(storageClassName="standard", dataSourceRef={k: v for k, v in ELSEWHERE.items() if k != "namespace"}),
        LISTED,
        STORAGE,
        "storageClassName standard",
    ),
    "claim of other attributes": Case(
        _pvc(storageClassName="standard", volumeAttributesClassName="gold"),
        ANY,
        STORAGE,
        "volumeAttributesClassName",
        plans=LISTED,
    ),
    "claim that says it is bound": Case(
        _pvc({"pv.kubernetes.io/bind-completed": "yes"}, storageClassName="standard"),
        NEVER,
        STORAGE,
        "pv.kubernetes.io",
        plans=LISTED,
    ),
    "pod's claim of the plan's class": Case(_in_pod(storageClassName="standard"), LISTED, STORAGE, "storageClassName"),
    "pod's claim of another class": Case(_in_pod(storageClassName="fast"), ANY, STORAGE, "storageClassName fast"),
    "CronJob's claim of another class": Case(
        _in_cronjob(storageClassName="fast"), ANY, STORAGE, "storageClassName fast"
    ),
    "CronJob's claim of the plan's class": Case(
        _in_cronjob(storageClassName="standard"), LISTED, STORAGE, "storageClassName"
    ),
    "StatefulSet's claim of the plan's class": Case(
        _in_set(storageClassName="standard"), LISTED, STORAGE, "storageClassName"
    ),
    "StatefulSet's claim of another class": Case(
        _in_set(storageClassName="fast"), ANY, STORAGE, "storageClassName fast"
    ),
    "StatefulSet's claim of no class": Case(_in_set(), NEVER, STORAGE, "names no storageClassName"),
    "StatefulSet's claim by the annotation of old": Case(
        _in_set({OLD_CLASS: "fast"}), ANY, STORAGE, "storageClassName fast"
    ),
    "StatefulSet's claim of one volume": Case(
        _in_set(storageClassName="standard", volumeName="pv-globex"), NEVER, STORAGE, "volumeName", plans=LISTED
    ),
    "volume from a server": Case(_volume(nfs={"server": "10.0.0.1", "path": "/"}), NEVER, STORAGE, "a volume is"),
    "volume of a driver": Case(_volume(csi={"driver": "nfs.csi.k8s.io"}), ANY, STORAGE, "a volume is"),
    "volume of a claim": Case(_volume(persistentVolumeClaim={"claimName": "own"}), WITH_IMAGE, STORAGE, ""),
    "volume of a Secret": Case(_volume(secret={"secretName": "own"}), WITH_IMAGE, STORAGE, ""),
    "empty volume": Case(_volume(emptyDir={}), WITH_IMAGE, STORAGE, ""),
    "resource of a cloud": Case(
        create(partial(manifest, "Bucket", "probe", spec={})), NEVER, TENANT, "resources of a cloud"
    ),
    "ServiceAccount": Case(create(lambda space: manifest("ServiceAccount", "probe", space)), WITH_IMAGE, IDENTITY, ""),
    **{
        f"ServiceAccount with {key}": Case(
            create(partial(manifest, "ServiceAccount", "probe", annotations={key: "x"})), NEVER, IDENTITY, "cloud role"
        )
        for key in (names.ANNOTATION_ROLE_ARN, "eks.amazonaws.com/audience", "iam.gke.io/gcp-service-account")
    },
    "ServiceAccount for Azure": Case(
        create(partial(manifest, "ServiceAccount", "probe", labels={"azure.workload.identity/use": "true"})),
        NEVER,
        IDENTITY,
        "cloud role",
    ),
    "ServiceAccount in use gets a role": Case(
        lambda who, space: who.merge(
            "ServiceAccount",
            space,
            "default",
            {"metadata": {"annotations": {names.ANNOTATION_ROLE_ARN: "x"}}},
            dry=True,
        ),
        NEVER,
        IDENTITY,
        "cloud role",
    ),
    "ServiceAccount in use gets a note": Case(
        lambda who, space: who.merge(
            "ServiceAccount", space, "default", {"metadata": {"annotations": {"example.com/a": "b"}}}, dry=True
        ),
        WITH_IMAGE,
        IDENTITY,
        "",
    ),
    "Secret that gives a token": Case(
        create(
            partial(
                manifest,
                "Secret",
                "probe",
                type="kubernetes.io/service-account-token",
                annotations={"kubernetes.io/service-account.name": "tenant"},
            )
        ),
        NEVER,
        IDENTITY,
        "service-account-token",
    ),
    "Secret": Case(create(partial(manifest, "Secret", "probe", stringData={"a": "b"})), WITH_IMAGE, IDENTITY, ""),
}


@pytest.fixture(scope="module", autouse=True)
def _things(plans: Plans) -> Iterator[None]:
    """One of each kind that is there already, in the namespaces of three plans; and add-ons' kinds."""
    admin = plans.world.admin
    spaces = [SPACES[plan] for plan in ("closed", "listed", "any")]
    for space in spaces:
        keep(admin, workload("Pod", pod_spec(), space, name="plain"))
        keep(admin, manifest("NetworkPolicy", "plain", space, spec={"podSelector": {}}))
        keep(admin, manifest("Service", "plain", space, spec={"ports": [{"port": 80}]}))
        keep(admin, manifest("PersistentVolumeClaim", "plain", space, spec=_claim(storageClassName="standard")["spec"]))
    yield from serve(
        admin,
        custom("gateway.networking.k8s.io", "Gateway"),
        custom("networking.istio.io", "VirtualService"),
        custom("cert-manager.io", "Certificate"),
        custom("s3.services.k8s.aws", "Bucket"),
    )
    for space in spaces:
        for kind in ("Pod", "NetworkPolicy", "Service", "PersistentVolumeClaim"):
            assert admin.delete(kind, space, "plain").ok


@pytest.mark.parametrize("name", CASES)
def test_what_a_tenant_reaches_is_the_plans_to_say(plans: Plans, name: str) -> None:
    plans.check(CASES[name])


SLICE: Manifest = {
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.1.2.3"]}],
    "labels": {"kubernetes.io/service-name": "anything"},
}
STATUS: Manifest = {"status": {"podIP": "10.1.2.3"}}
TOKEN: Manifest = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
BIND: Manifest = {"target": {"apiVersion": "v1", "kind": "Node", "name": "n"}}
REVISION: Manifest = {
    "revision": 9,
    "data": {"spec": {"template": {"metadata": {"labels": {names.LABEL_COMPONENT: "model"}}}}},
}
ROLE: Manifest = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
DEVICE: Manifest = {"devices": {"requests": [{"name": "g", "exactly": {"deviceClassName": "gpu"}}]}}
# Nothing opens these, whatever a plan lists.
BELONGS: dict[str, Act] = {
    "EndpointSlice": create(partial(manifest, "EndpointSlice", "probe", **SLICE)),
    "Endpoints": create(partial(manifest, "Endpoints", "probe", subsets=[{"addresses": [{"ip": "10.1.2.3"}]}])),
    "NetworkPolicy": create(partial(manifest, "NetworkPolicy", "probe", spec={"podSelector": {}, "ingress": [{}]})),
    "NetworkPolicy deleted": lambda who, space: who.delete("NetworkPolicy", space, "plain", dry=True),
    "ResourceQuota": create(partial(manifest, "ResourceQuota", "probe", spec={"hard": {"secrets": "0"}})),
    "LimitRange": create(partial(manifest, "LimitRange", "probe", spec={"limits": []})),
    "Role": create(partial(manifest, "Role", "probe", rules=[])),
    "RoleBinding": create(partial(manifest, "RoleBinding", "probe", roleRef=ROLE, subjects=[])),
    "ControllerRevision": create(partial(manifest, "ControllerRevision", "probe", **REVISION)),
    "ResourceClaim": create(partial(manifest, "ResourceClaim", "probe", spec=DEVICE)),
    "ResourceClaimTemplate": create(partial(manifest, "ResourceClaimTemplate", "probe", spec={"spec": DEVICE})),
    "Gateway": create(partial(manifest, "Gateway", "probe", spec={})),
    "VirtualService": create(partial(manifest, "VirtualService", "probe", spec={})),
    "Certificate": create(partial(manifest, "Certificate", "probe", spec={})),
    "PodDisruptionBudget": create(
        partial(manifest, "PodDisruptionBudget", "probe", spec={"maxUnavailable": 0, "selector": {}})
    ),
    "CSIStorageCapacity": create(
        partial(manifest, "CSIStorageCapacity", "probe", storageClassName="standard", capacity="1Ti", nodeTopology={})
    ),
    "status of a claim": lambda who, space: who.merge(
        "PersistentVolumeClaim", space, "plain", {"status": {"phase": "Bound"}}, dry=True, sub="status"
    ),
    "status of a pod": lambda who, space: who.merge("Pod", space, "plain", STATUS, dry=True, sub="status"),
    "status of a Service": lambda who, space: who.merge(
        "Service", space, "plain", {"metadata": {"annotations": {"a": "b"}}}, dry=True, sub="status"
    ),
    "node of a pod": lambda who, space: who.post(
        "Pod", space, "plain", "binding", manifest("Binding", "plain", space, **BIND), dry=True
    ),
    "node of a pod, by Binding": create(partial(manifest, "Binding", "plain", **BIND)),
    "eviction of a pod": lambda who, space: who.post(
        "Pod",
        space,
        "plain",
        "eviction",
        {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "plain", "namespace": space}},
        dry=True,
    ),
    "token of a ServiceAccount": lambda who, space: who.post(
        "ServiceAccount", space, "tenant", "token", TOKEN, dry=True
    ),
}


@pytest.mark.parametrize("name", BELONGS)
def test_some_kinds_are_never_a_tenants(plans: Plans, name: str) -> None:
    act = BELONGS[name]
    word = "serviceaccounts/token" if "token" in name else "belong to the platform"
    plans.check(Case(act, NEVER, BOUNDARY, word))
    # Who passes the fence may, so it is the fence that refuses.
    answer = act(plans.world.admin, CLOSED)
    assert answer.ok, answer.body


@pytest.mark.parametrize("policy", [STORAGE, IDENTITY, BOUNDARY, TENANT])
def test_without_the_fence_all_of_it_happens(plans: Plans, policy: str) -> None:
    belongs = {name: Case(act, NEVER, BOUNDARY, "") for name, act in BELONGS.items()}
    plans.check_without(policy, {**CASES, **belongs})


OBJECTS: dict[str, tuple[Manifest, Manifest, str, str]] = {
    # kind: (what is there though the plan no longer allows it, what is refused still, by whom, with which word)
    "PersistentVolumeClaim": (
        _claim(storageClassName="old"),
        {"spec": {"volumeName": "pv-globex"}},
        STORAGE,
        "volumeName",
    ),
    "Service": (
        {"spec": {"type": "NodePort", "ports": [{"port": 80}], "externalIPs": ["203.0.113.7"]}},
        {"spec": {"externalIPs": ["203.0.113.7", "203.0.113.8"]}},
        SERVICES,
        "externalIPs",
    ),
    "ServiceAccount": (
        {"metadata": {"annotations": {names.ANNOTATION_ROLE_ARN: "old"}}},
        {"metadata": {"annotations": {names.ANNOTATION_ROLE_ARN: None}}},
        IDENTITY,
        "cloud role",
    ),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_plan_that_shrinks_stops_nothing_that_is_there(plans: Plans, kind: str) -> None:
    there, fresh, policy, word = OBJECTS[kind]
    plans.check_kept(kind, there, fresh, policy, word)


NOTES = {
    "pv.kubernetes.io/bind-completed": "yes",
    "pv.kubernetes.io/bound-by-controller": "yes",
    "volume.beta.kubernetes.io/storage-provisioner": "ebs.csi.example",
    "volume.kubernetes.io/storage-provisioner": "ebs.csi.example",
    "volume.kubernetes.io/selected-node": "node-1",
}
ROLES = {names.ANNOTATION_ROLE_ARN: "r", "eks.amazonaws.com/audience": "a", "eks.amazonaws.com/token-expiration": "9"}


def test_annotations_have_no_order(world: World, plans: Plans) -> None:
    """Maps are walked in any order, so each update is tried often; and one that is taken away or changed is noticed."""
    claim, account = "PersistentVolumeClaim", "ServiceAccount"
    keep(world.admin, manifest(claim, "noted", CLOSED, annotations=NOTES, spec=_claim(storageClassName="old")["spec"]))
    keep(world.admin, manifest(account, "noted", CLOSED, annotations=ROLES))
    for kind, notes, policy in ((claim, NOTES, STORAGE), (account, ROLES, IDENTITY)):

        def write(kind: str = kind, **metadata: Any) -> Answer:
            return plans.user.merge(kind, CLOSED, "noted", {"metadata": metadata}, dry=True)

        for number in range(20):
            assert (answer := write(labels={"a": str(number)})).ok, answer.body
        for key in notes:
            assert write(annotations={key: None}).denied_by(policy), key
            assert write(annotations={key: "other"}).denied_by(policy), key
        assert world.admin.delete(kind, CLOSED, "noted").ok


def test_who_may_evict_in_the_whole_cluster_drains_tenants_pods_too(world: World, plans: Plans) -> None:
    """An update of nodes must not stop at a tenant's namespace, whose own people may not evict what is not theirs."""
    role = manifest(
        "ClusterRole", "drainer", rules=[{"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]}]
    )
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "drainer"}
    bound = manifest("ClusterRoleBinding", "drainer", roleRef=reference, subjects=[user("dora")])
    for item in (role, bound):
        keep(world.admin, item)
    dora = Actor(world.cluster.persona("dora"))
    until_ok(lambda: BELONGS["eviction of a pod"](dora, CLOSED), "the drainer evicts")
    assert not dora.can("bypass", names.GROUP, "fence")
    for item in (bound, role):
        assert world.admin.delete(item["kind"], "", "drainer").ok


def test_kubernetes_finds_nothing_wrong_with_the_policies(world: World) -> None:
    def checked(name: str) -> bool:
        status = world.admin.get("ValidatingAdmissionPolicy", "", name).body.get("status", {})
        return "observedGeneration" in status

    for name in names.FENCES:
        until(partial(checked, name), f"{name} is type-checked")
        status = world.admin.get("ValidatingAdmissionPolicy", "", name).body["status"]
        assert not status.get("typeChecking", {}).get("expressionWarnings"), status
