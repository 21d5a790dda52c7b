"""Drift of every kind that we manage, by edit and by deletion; what others own survives; who fights us is seen."""

from typing import Any

import pytest
from tests.operator.e2e.world import Object, Operator, TimeoutFailure, World, wait

from tenantplane_api.runtime import keys, names

pytestmark = pytest.mark.cluster
NS = "tenant-drift"
ACCESS = {
    "admins": [{"kind": "User", "name": "ada"}],
    "editors": [{"kind": "User", "name": "ed"}],
    "viewers": [{"kind": "User", "name": "vic"}],
    "workloads": "Restricted",
}
NETWORK = {"egress": {"internet": True}, "ingress": {"namespaces": ["monitoring"]}}
EDITS: dict[str, Object] = {
    "ResourceQuota": {"spec": {"hard": {"pods": "9999"}}},
    "LimitRange": {"spec": {"limits": [{"type": "Container", "default": {"cpu": "64"}}]}},
    "NetworkPolicy": {"spec": {"podSelector": {"matchLabels": {"never": "there"}}, "ingress": [{}], "egress": [{}]}},
    "RoleBinding": {"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}]},
    "ServiceAccount": {"automountServiceAccountToken": True},
    "ConfigMap": {"data": {"conditions": "forged"}},
    "APIKey": {"spec": {"description": "forged"}},
}
"""What somebody with every right may do to an object of ours, by kind."""


@pytest.fixture(scope="module")
def drifting(world: World, operator: Operator) -> World:
    """A Tenant that has every kind of child, and a user's object beside each."""
    world.tenant("drift", access=ACCESS, network=NETWORK, namespace={"labels": {"team": "blue"}})
    world.await_ready("drift")
    return world


def managed(world: World) -> dict[tuple[str, str], Object]:
    """Everything of ours in the tenant's namespace but Secrets."""
    return {
        (kind, item["metadata"]["name"]): item
        for kind in EDITS
        for item in world.items(kind, NS)
        if item["metadata"].get("labels", {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
    }


def content(obj: Object) -> Object:
    """What of an object is ours to keep: all but the API server's bookkeeping, and what others added."""
    meta = obj["metadata"]
    ours = {key: value for key, value in meta["labels"].items() if key != "theirs"}
    notes = {key: value for key, value in meta.get("annotations", {}).items() if key != "theirs"}
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status", "secrets")}
    if obj.get("kind") == "ConfigMap" or "data" in rest:
        # Its text tells the state, which changes; that it is not somebody's is what counts.
        rest["data"] = {key: value == "forged" for key, value in rest["data"].items()}
        notes.pop(names.ANNOTATION_APPLIED_HASH, None)
    return {"labels": ours, "annotations": notes, **rest}


def healed(world: World, before: dict[tuple[str, str], Object], what: str, operator: Operator) -> None:
    def differ() -> list[str]:
        now = managed(world)
        return [
            f"{kind}/{name}"
            for (kind, name), obj in before.items()
            if (kind, name) not in now or content(now[kind, name]) != content(obj)
        ]

    try:
        _, took = wait(lambda: not differ(), what, target=4)
    except TimeoutFailure as error:
        raise TimeoutFailure(f"{error}: {differ()}\n{operator.tail()}") from None
    print(f"{what} after {took:.2f} s")


def test_drift_of_every_kind_is_healed(drifting: World, operator: Operator) -> None:
    world = drifting
    wait(operator.idle, "idle", target=3)
    before = managed(world)
    kinds = {kind for kind, _ in before}
    assert kinds == set(EDITS)
    assert {name for kind, name in before if kind == "NetworkPolicy"} == {
        names.CHILD_NETWORK_POLICY_DENY,
        names.CHILD_NETWORK_POLICY_DNS,
        names.CHILD_NETWORK_POLICY_SAME_NAMESPACE,
        names.CHILD_NETWORK_POLICY_DATAPLANE,
        names.CHILD_NETWORK_POLICY_MODELS,
        names.CHILD_NETWORK_POLICY_EGRESS,
        names.CHILD_NETWORK_POLICY_INGRESS,
    }
    assert len([kind for kind, _ in before if kind == "RoleBinding"]) >= 5
    # Objects of users with names and labels like ours are theirs.
    world.create("ConfigMap", "tenantplane-theirs", NS, metadata={"labels": {"app": "x"}}, data={"a": "b"})
    world.create("ServiceAccount", "tenantplane-theirs", NS)
    # Every object edited, with a label and an annotation of somebody else.
    for kind, name in before:
        theirs = {"labels": {"theirs": "stays"}, "annotations": {"theirs": "stays"}}
        world.patch(kind, name, NS, metadata=theirs, **EDITS[kind])
    healed(world, before, "every edit is healed", operator)
    now = managed(world)
    lost = [key for key, obj in now.items() if obj["metadata"]["labels"].get("theirs") != "stays"]
    assert lost == [], "what others own survives"
    # Labels by which we know our objects, taken away. An APIKey without them counts as one that a user made.
    for kind, name in before:
        if kind == "APIKey":
            continue
        world.patch(kind, name, NS, metadata={"labels": {names.LABEL_TENANT: None, names.LABEL_MANAGED_BY: None}})
    healed(world, before, "every label is back", operator)
    # Every object deleted, our own rights in the namespace among them.
    for kind, name in sorted(before, key=lambda key: key[1] != names.CHILD_ROLE_BINDING_OPERATOR):
        world.delete(kind, name, NS)
    healed(world, before, "every deleted object is back", operator)
    assert world.get("ConfigMap", "tenantplane-theirs", NS) is not None
    assert world.get("ServiceAccount", "tenantplane-theirs", NS) is not None
    # The document.
    document = world.document("drift")
    world.delete("Secret", "t.drift", names.NAMESPACE_RUNTIME)
    wait(lambda: world.document("drift") is not None, "the document is back", target=2)
    text = world.key_text("default", NS)
    wait(lambda: keys.hash_key(text) in world.hashes("drift"), "with the key as it is now", target=3)
    assert document is not None
    # The Namespace: fence labels back, others' labels stay.
    enforce = "pod-security.kubernetes.io/enforce"
    world.patch("Namespace", NS, metadata={"labels": {enforce: "privileged", "team": "red", "theirs": "stays"}})

    def space() -> dict[str, Any]:
        found = world.get("Namespace", NS)
        return found["metadata"]["labels"] if found is not None else {}

    wait(lambda: space()[enforce] == "restricted" and space()["team"] == "blue", "the fence is back", target=2)
    assert space()["theirs"] == "stays"


def test_another_manager_that_fights_does_not_starve_anybody(drifting: World, operator: Operator) -> None:
    """Somebody who writes the same field again and again loses each round, and costs nobody else their turn."""
    world = drifting
    world.tenant("calm")
    world.await_ready("calm")
    for _ in range(20):
        world.patch("ResourceQuota", names.CHILD_QUOTA, NS, spec={"hard": {"pods": "9999"}})

    def hard() -> str:
        found = world.get("ResourceQuota", names.CHILD_QUOTA, NS)
        return str(found["spec"]["hard"]["pods"]) if found is not None else ""

    wait(lambda: hard() != "9999", "the last word is ours", target=2)
    world.patch("Tenant", "calm", spec={"displayName": "quick"})
    wait(lambda: (d := world.document("calm")) is not None and d.spec.display_name == "quick", "the other one's turn")
    wait(operator.idle, "it comes to rest", target=3)


def test_an_edited_key_secret_is_found_on_request(drifting: World, operator: Operator) -> None:
    """Secrets are not watched: an edit is found when it is asked for, an absence is a rotation."""
    world = drifting
    world.create("APIKey", "asked", NS, spec={})
    world.await_condition("APIKey", "asked", "Ready", "True", ns=NS)
    text = world.key_text("asked", NS)
    world.patch("Secret", "asked", NS, stringData={names.SECRET_KEY_API_KEY: "tp_forged"})
    wait(operator.idle, "idle", target=2)
    assert world.condition("APIKey", "asked", ns=NS)["status"] == "True"

    def ask(when: str) -> None:
        world.patch("APIKey", "asked", NS, metadata={"annotations": {names.ANNOTATION_RECONCILE: when}})

    ask("2026-01-01T00:00:00Z")
    world.await_condition("APIKey", "asked", "Ready", "False", "KeyTampered", ns=NS)
    assert keys.hash_key(text) in world.hashes("drift"), "the text that was given out goes on working"
    world.delete("Secret", "asked", NS)
    ask("2026-01-01T00:00:01Z")
    world.await_condition("APIKey", "asked", "Ready", "True", ns=NS)
    new = world.key_text("asked", NS)
    assert new not in ("", text)
    wait(lambda: keys.hash_key(new) in world.hashes("drift"), "the new key works", target=2)
