"""Identity, adoption, retention, deletion: what a namespace survives and who gets it."""

import subprocess
import time

import pytest
from tests.operator.e2e.world import Object, Operator, TimeoutFailure, World, wait

from tenantplane_api.runtime import keys, names

pytestmark = pytest.mark.cluster


def told(world: World, reason: str, tenant: str) -> int:
    """How often an event tells this of a Tenant."""
    found = [event for event in world.events(reason) if event["regarding"]["name"] == tenant]
    return sum(event.get("series", {}).get("count", 1) for event in found)


def of_one_second(world: World, names_: tuple[str, str], **spec: object) -> tuple[Object, Object]:
    """Two Tenants made within one second, the one with the smaller UID first."""
    for _ in range(20):
        pair = [world.create("Tenant", name, spec=dict(spec)) for name in names_]
        if len({tenant["metadata"]["creationTimestamp"] for tenant in pair}) == 1:
            smaller, larger = sorted(pair, key=lambda tenant: tenant["metadata"]["uid"])
            return smaller, larger
        for name in names_:
            world.delete("Tenant", name)
    raise AssertionError("never two within one second")


def test_a_newcomer_of_the_same_second_does_not_take_over(world: World) -> None:
    """Times have whole seconds; by UID alone the newcomer would win against one that serves."""
    newcomer, serving = of_one_second(world, ("twin-a", "twin-b"), tenantID="twins-0001")
    name = serving["metadata"]["name"]
    body = {"status": {"namespace": f"tenant-{name}", "runtimeRevision": "0123456789abcdef", "observedGeneration": 1}}
    path = f"{world.path('Tenant', name)}/status"
    assert world.call("PATCH", path, body, content_type="application/merge-patch+json")[0] == 200
    with world.operator():
        world.await_ready(name)
        world.await_condition("Tenant", newcomer["metadata"]["name"], "Stalled", "True", "DuplicateTenantID")
        assert world.document(newcomer["metadata"]["name"]) is None


def test_created_and_ready(world: World, operator: Operator) -> None:
    world.tenant("story")
    world.await_ready("story")
    tenant = world.get("Tenant", "story")
    assert tenant is not None
    assert tenant["metadata"]["finalizers"] == [names.FINALIZER]
    wait(lambda: told(world, "TenantReady", "story") == 1, "it is told that it is ready")
    wait(lambda: told(world, "NamespaceCreated", "story") == 1, "and how it came to its namespace")
    assert told(world, "NamespaceTakenBack", "story") == 0
    argv = [str(world.cluster.kubectl), f"--kubeconfig={world.cluster.kubeconfig}", "describe", "tenant", "story"]
    shown = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "TenantReady" in shown
    assert "NamespaceCreated" in shown


def test_suspended_and_resumed(world: World, operator: Operator) -> None:
    world.tenant("pauses")
    world.await_ready("pauses")
    for suspend, reason in ((True, "Suspended"), (False, "Resumed")):
        world.patch("Tenant", "pauses", spec={"suspend": suspend})

        def done(wanted: bool = suspend) -> bool:
            document = world.document("pauses")
            return document is not None and document.spec.suspended is wanted

        wait(done, reason)
        wait(lambda reason=reason: told(world, reason, "pauses") == 1, f"{reason} is told")  # type: ignore[misc]
        assert world.condition("Tenant", "pauses")["status"] == "True"
    assert world.condition("Tenant", "pauses", "Suspended") == {}


def test_plan_changed_and_shrunk(world: World, operator: Operator) -> None:
    """What only the old plan and spec wanted is pruned: exactly what we made, and nothing that looks like it."""
    ns = "tenant-shrinks"
    people = {"viewers": [{"kind": "User", "name": "vic"}], "editors": [{"kind": "User", "name": "ed"}]}
    world.tenant("shrinks", access=people, network={"egress": {"internet": True}, "ingress": {"namespaces": ["web"]}})
    world.await_ready("shrinks")
    wait(operator.idle, "idle")
    kinds = ("NetworkPolicy", "RoleBinding", "LimitRange", "ResourceQuota", "ConfigMap", "ServiceAccount", "APIKey")
    theirs = {"labels": {"app.kubernetes.io/part-of": "tenantplane", "app.kubernetes.io/name": "tenantplane"}}
    world.create("ConfigMap", "tenantplane-allow-egress", ns, metadata=theirs, data={"a": "b"})
    world.create("ServiceAccount", "tenantplane-viewers", ns, metadata=theirs)
    # Our label alone, put there by somebody who may: without our managed-by it is not ours to prune.
    world.create("ConfigMap", "labelled", ns, metadata={"labels": {names.LABEL_TENANT: "shrinks"}}, data={"a": "b"})
    world.create("APIKey", "of-the-user", ns, spec={})
    before = {(kind, item["metadata"]["name"]) for kind in kinds for item in world.items(kind, ns)}
    world.patch("Tenant", "shrinks", spec={"plan": "large", "access": None, "network": None})
    doomed = {
        ("LimitRange", names.CHILD_LIMIT_RANGE),
        ("NetworkPolicy", names.CHILD_NETWORK_POLICY_EGRESS),
        ("NetworkPolicy", names.CHILD_NETWORK_POLICY_INGRESS),
        ("RoleBinding", names.CHILD_ROLE_BINDING_VIEWERS),
        ("RoleBinding", names.CHILD_ROLE_BINDING_EDITORS),
    }

    def left() -> set[tuple[str, str]]:
        return {(kind, item["metadata"]["name"]) for kind in kinds for item in world.items(kind, ns)}

    wait(lambda: not left() & doomed, "what nobody wants any more is pruned", target=2)
    wait(operator.idle, "idle")
    gone = before - left()
    assert doomed <= gone
    assert gone - doomed <= {("ResourceQuota", names.CHILD_QUOTA)}, "nothing of anybody else is pruned"
    wait(lambda: told(world, "PlanChanged", "shrinks") == 1, "the other plan is told")


def test_a_namespace_that_lost_our_label_waits_for_it(world: World, operator: Operator) -> None:
    world.tenant("unlabelled")
    world.await_ready("unlabelled")
    world.patch("Namespace", "tenant-unlabelled", metadata={"labels": {names.LABEL_TENANT: None}})
    lost = world.await_condition("Tenant", "unlabelled", "Stalled", "True", "AdoptionNotConsented", target=3)
    command = f"kubectl label namespace tenant-unlabelled {names.LABEL_TENANT}=unlabelled"
    assert command in lost["message"]
    wait(lambda: world.document("unlabelled") is None, "without a fence there is no access", target=2)
    # The message says what to do, and doing it helps.
    argv = [str(world.cluster.kubectl), f"--kubeconfig={world.cluster.kubeconfig}", *command.split()[1:]]
    subprocess.run(argv, capture_output=True, timeout=60, check=True)
    world.await_ready("unlabelled")
    assert world.document("unlabelled") is not None


def test_of_two_that_want_one_namespace_the_older_gets_it(world: World, operator: Operator) -> None:
    world.tenant("first-one", namespace={"name": "wanted"})
    world.await_ready("first-one")
    created = int(time.time())
    wait(lambda: int(time.time()) > created, "another second", target=1)
    world.tenant("second-one", namespace={"name": "wanted"})
    world.await_condition("Tenant", "second-one", "Stalled", "True", "NamespaceConflict")
    space = world.get("Namespace", "wanted")
    assert space is not None
    assert space["metadata"]["labels"][names.LABEL_TENANT] == "first-one"
    assert world.document("second-one") is None
    # Not even when the first one is gone: what is in the namespace is that customer's.
    world.delete("Tenant", "first-one")
    wait(lambda: world.get("Tenant", "first-one") is None, "the first is gone", target=2)
    world.await_condition("Tenant", "second-one", "Stalled", "True", "NamespaceConflict")
    assert world.document("second-one") is None


def foreign_namespace(world: World, name: str, *, label: str = "", tenant_id: str = "", adoptable: str = "") -> None:
    """A namespace that somebody else made."""
    labels = {"made-by": "somebody"} | ({names.LABEL_TENANT: label} if label else {})
    annotations = {names.ANNOTATION_TENANT_ID: tenant_id} if tenant_id else {}
    annotations |= {names.ANNOTATION_ADOPTABLE_BY: adoptable} if adoptable else {}
    world.create("Namespace", name, metadata={"labels": labels, "annotations": annotations})


def untouched(world: World, name: str, version: str) -> bool:
    """True when a namespace is as it was and nothing of ours is in it."""
    space = world.get("Namespace", name)
    ours = [obj for kind in ("NetworkPolicy", "RoleBinding", "APIKey") for obj in world.items(kind, name)]
    return space is not None and space["metadata"]["resourceVersion"] == version and not ours


@pytest.mark.parametrize(
    ("case", "label", "tenant_id", "adoptable", "policy", "reason"),
    [
        ("plain", "", "", "", "ByConsent", "AdoptionNotConsented"),
        ("other", "", "", "somebody-else", "ByConsent", "AdoptionNotConsented"),
        ("never", "", "", "adopt-never", "Never", "AdoptionNotConsented"),
        ("taken", "adopt-taken", "another-0001", "", "ByConsent", "NamespaceConflict"),
        ("named", "another", "another-0001", "", "ByConsent", "NamespaceConflict"),
    ],
)
def test_a_foreign_namespace_is_not_touched(
    world: World, operator: Operator, case: str, label: str, tenant_id: str, adoptable: str, policy: str, reason: str
) -> None:
    name, ns = f"adopt-{case}", f"tenant-adopt-{case}"
    foreign_namespace(world, ns, label=label, tenant_id=tenant_id, adoptable=adoptable)
    space = world.get("Namespace", ns)
    assert space is not None
    world.tenant(name, namespace={"adoptionPolicy": policy})
    stalled = world.await_condition("Tenant", name, "Stalled", "True", reason)
    assert ns in stalled["message"]
    wait(operator.idle, "idle")
    assert untouched(world, ns, space["metadata"]["resourceVersion"])
    assert world.document(name) is None
    # Deleting the Tenant, even with policy Delete, leaves what was never its own.
    world.patch("Tenant", name, spec={"deletionPolicy": "Delete"})
    world.delete("Tenant", name)
    wait(lambda: world.get("Tenant", name) is None, "the Tenant is gone")
    assert untouched(world, ns, space["metadata"]["resourceVersion"])


def test_consent_lets_a_tenant_adopt(world: World, operator: Operator) -> None:
    foreign_namespace(world, "legacy", adoptable="adopter")
    world.create("ConfigMap", "theirs", "legacy", data={"a": "b"})
    world.tenant("adopter", namespace={"name": "legacy"})
    world.await_ready("adopter")
    space = world.get("Namespace", "legacy")
    assert space is not None
    assert space["metadata"]["labels"]["made-by"] == "somebody"
    assert space["metadata"]["annotations"][names.ANNOTATION_TENANT_ID] == "adopter-0001"
    assert world.get("ConfigMap", "theirs", "legacy") is not None
    assert world.events("NamespaceAdopted")


def test_what_the_earlier_owner_left_is_told_until_it_is_gone(world: World, operator: Operator) -> None:
    foreign_namespace(world, "prepared", adoptable="heir")
    v1 = "networking.k8s.io/v1"
    world.create("NetworkPolicy", "back-door", "prepared", apiVersion=v1, spec={"podSelector": {}, "ingress": [{}]})
    closed = {"podSelector": {}, "policyTypes": ["Ingress"]}
    world.create("NetworkPolicy", "denial", "prepared", apiVersion=v1, spec=closed)
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}
    rbac = f"{role['apiGroup']}/v1"
    world.create("RoleBinding", "left-over", "prepared", apiVersion=rbac, roleRef=role, subjects=[user])
    world.tenant("heir", namespace={"name": "prepared"})
    world.tenant("neighbour")
    told = world.await_condition("Tenant", "heir", "NetworkReady", "False", "ForeignPolicies")
    assert "back-door" in told["message"]
    assert "denial" not in told["message"]
    access = world.condition("Tenant", "heir", "AccessReady")
    assert access["status"] == "True"
    assert "left-over" in access["message"]
    world.await_ready("neighbour")
    assert world.condition("Tenant", "heir")["status"] == "False"
    assert world.condition("Tenant", "neighbour", "NetworkReady")["status"] == "True"
    # Not ours to delete.
    assert world.get("NetworkPolicy", "back-door", "prepared") is not None
    world.delete("NetworkPolicy", "back-door", "prepared")
    world.delete("RoleBinding", "left-over", "prepared")
    world.patch("Tenant", "heir", metadata={"annotations": {names.ANNOTATION_RECONCILE: "2026-11-01T00:00:00Z"}})
    world.await_ready("heir")
    assert not world.condition("Tenant", "heir", "AccessReady").get("message")


def test_a_namespace_of_the_same_tenant_id_is_taken_back(world: World, operator: Operator) -> None:
    foreign_namespace(world, "tenant-restored", label="restored", tenant_id="restored-0001")
    world.tenant("restored")
    world.await_ready("restored")


def test_of_two_tenants_with_one_tenant_id_the_older_serves(world: World, operator: Operator) -> None:
    world.tenant("older")
    created = int(time.time())
    world.await_ready("older")
    wait(operator.idle, "idle")
    before = world.versions("tenant-older", "older")
    # Creation times have whole seconds; within one, the UID decides.
    wait(lambda: int(time.time()) > created, "another second", target=1)
    world.tenant("younger", tenantID="older-0001")
    stalled = world.await_condition("Tenant", "younger", "Stalled", "True", "DuplicateTenantID")
    assert "older" in stalled["message"]
    assert world.get("Namespace", "tenant-younger") is None
    assert world.document("younger") is None
    wait(operator.idle, "idle")
    assert world.versions("tenant-older", "older") == before
    world.delete("Tenant", "older")
    # The customer's namespace keeps its name: the younger Tenant has one of its own and serves from there.
    world.await_ready("younger")


def test_retained_and_taken_back_with_the_same_keys(world: World, operator: Operator) -> None:
    world.tenant("keep")
    world.await_ready("keep")
    text = world.key_text("default", "tenant-keep")
    fence = {item["metadata"]["uid"] for item in world.items("NetworkPolicy", "tenant-keep")}
    world.delete("Tenant", "keep")
    _, took = wait(lambda: world.document("keep") is None, "access is cut", target=1)
    print(f"cut after {took:.2f} s")
    wait(lambda: world.get("Tenant", "keep") is None, "the Tenant is gone")
    assert world.get("Namespace", "tenant-keep") is not None
    assert {item["metadata"]["uid"] for item in world.items("NetworkPolicy", "tenant-keep")} == fence
    world.await_condition("APIKey", "default", "Ready", "False", "NotInATenant", ns="tenant-keep")
    wait(lambda: told(world, "Released", "keep") == 1, "its end is told")
    world.tenant("keep")
    world.await_ready("keep")
    assert world.key_text("default", "tenant-keep") == text
    wait(lambda: keys.hash_key(text) in world.hashes("keep"), "the old key works again")


def test_the_same_name_with_another_tenant_id_gets_nothing(world: World, operator: Operator) -> None:
    world.tenant("reuse")
    world.await_ready("reuse")
    world.delete("Tenant", "reuse")
    wait(lambda: world.get("Tenant", "reuse") is None, "the Tenant is gone")
    wait(operator.idle, "idle")
    space = world.get("Namespace", "tenant-reuse")
    assert space is not None
    world.tenant("reuse", tenantID="somebody-0002")
    world.await_condition("Tenant", "reuse", "Stalled", "True", "NamespaceConflict")
    assert world.document("reuse") is None
    after = world.get("Namespace", "tenant-reuse")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == space["metadata"]["resourceVersion"]


def test_delete_reports_what_holds_the_namespace(world: World, operator: Operator) -> None:
    world.tenant("leave", deletionPolicy="Delete")
    world.await_ready("leave")
    world.create("ConfigMap", "holder", "tenant-leave", metadata={"finalizers": ["example.com/hold"]})
    world.delete("Tenant", "leave")
    try:
        wait(lambda: world.document("leave") is None, "access is cut")
    except TimeoutFailure as error:
        raise TimeoutFailure(f"{error}\n{operator.tail()}") from None

    def told_holder() -> bool:
        return "example.com/hold" in world.condition("Tenant", "leave").get("message", "")

    wait(told_holder, "the status names the holder", target=5)
    assert world.condition("Tenant", "leave")["reason"] == "Deleting"
    wait(lambda: told(world, "NamespaceHeld", "leave") >= 1, "an event names it")
    wait(lambda: told(world, "AccessCut", "leave") == 1, "so is the cut")
    world.patch("ConfigMap", "holder", "tenant-leave", metadata={"finalizers": None})
    wait(lambda: world.get("Tenant", "leave") is None, "the Tenant is gone", target=5)
    assert world.get("Namespace", "tenant-leave") is None


def test_a_finalizer_removed_by_hand_still_cuts_access(world: World, operator: Operator) -> None:
    world.tenant("torn")
    world.await_ready("torn")
    operator.process.send_signal(19)  # SIGSTOP: the operator sees nothing of what happens now
    try:
        world.delete("Tenant", "torn")
        world.patch("Tenant", "torn", metadata={"finalizers": None})
        assert world.get("Tenant", "torn") is None
        assert world.document("torn") is not None
    finally:
        operator.process.send_signal(18)
    wait(lambda: world.document("torn") is None, "access is cut", target=2)
    assert world.get("Namespace", "tenant-torn") is not None


def test_deleted_while_the_operator_was_down(world: World, operator: Operator) -> None:
    world.tenant("down")
    world.await_ready("down")
    assert operator.stop() == 0
    try:
        world.delete("Tenant", "down")
        assert world.document("down") is not None
    finally:
        world.start(resyncSeconds=3600)
    wait(lambda: world.get("Tenant", "down") is None, "the Tenant is gone", target=2)
    assert world.document("down") is None
