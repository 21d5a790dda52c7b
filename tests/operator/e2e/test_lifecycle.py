"""Identity, adoption, retention, deletion: what a namespace survives and who gets it."""

import time

import pytest
from tests.operator.e2e.world import Operator, World, wait

from tenantplane_api.runtime import keys, names

pytestmark = pytest.mark.cluster


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
    ("case", "label", "tenant_id", "adoptable", "reason"),
    [
        ("plain", "", "", "", "AdoptionNotConsented"),
        ("other", "", "", "somebody-else", "AdoptionNotConsented"),
        ("taken", "adopt-taken", "another-0001", "", "NamespaceConflict"),
        ("named", "another", "another-0001", "", "NamespaceConflict"),
    ],
)
def test_a_foreign_namespace_is_not_touched(
    world: World, operator: Operator, case: str, label: str, tenant_id: str, adoptable: str, reason: str
) -> None:
    name, ns = f"adopt-{case}", f"tenant-adopt-{case}"
    foreign_namespace(world, ns, label=label, tenant_id=tenant_id, adoptable=adoptable)
    space = world.get("Namespace", ns)
    assert space is not None
    world.tenant(name)
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
    assert world.events("NamespaceAdopt")


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
    wait(lambda: world.document("leave") is None, "access is cut")

    def told() -> bool:
        return "example.com/hold" in world.condition("Tenant", "leave").get("message", "")

    wait(told, "the status names the holder", target=5)
    assert world.condition("Tenant", "leave")["reason"] == "Deleting"
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
