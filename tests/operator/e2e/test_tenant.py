"""Tenants on a real API server: children, document, changes, drift, suspension, refusals."""

import pytest
from tests.operator.e2e.world import CHILDREN, Operator, TimeoutFailure, World, wait

from tenantplane_api.runtime import keys, names

pytestmark = pytest.mark.cluster


def test_two_five_line_tenants_get_everything(world: World, operator: Operator) -> None:
    world.tenant("acme", displayName="ACME")
    world.tenant("beta", access={"admins": [{"kind": "User", "name": "bea"}]})
    for name in ("acme", "beta"):
        ns = f"tenant-{name}"
        tenant = world.await_ready(name)
        status = tenant["status"]
        assert status["namespace"] == ns
        assert status["effective"]["plan"] == "default"
        assert status["effective"]["requestsPerMinute"] == 600
        assert status["observedGeneration"] == tenant["metadata"]["generation"]
        space = world.get("Namespace", ns)
        assert space is not None
        labels = space["metadata"]["labels"]
        assert labels[names.LABEL_TENANT] == name
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        assert space["metadata"]["annotations"][names.ANNOTATION_TENANT_ID] == f"{name}-0001"
        assert not space["metadata"].get("ownerReferences")
        for kind in CHILDREN:
            assert world.items(kind, ns), kind
        document = world.document(name)
        assert document is not None
        assert document.tenant_id == f"{name}-0001"
        assert status["runtimeRevision"] in tenant["status"]["conditions"][-2]["message"] or status["runtimeRevision"]
        assert keys.hash_key(world.key_text("default", ns)) in {entry.hash for entry in document.spec.keys}
        told = world.get("ConfigMap", names.CHILD_STATUS_CONFIG_MAP, ns)
        assert told is not None
        assert told["data"]
    assert world.hashes("acme").isdisjoint(world.hashes("beta"))
    assert world.get("RoleBinding", names.CHILD_ROLE_BINDING_ADMINS, "tenant-beta") is not None
    assert world.get("RoleBinding", names.CHILD_ROLE_BINDING_ADMINS, "tenant-acme") is None


def test_a_change_of_the_spec_is_published_within_a_second(world: World, operator: Operator) -> None:
    world.tenant("edit")
    world.await_ready("edit")
    world.patch("Tenant", "edit", spec={"limits": {"requests": {"perMinute": 7}}})

    def there() -> bool:
        document = world.document("edit")
        return document is not None and document.spec.limits.requests_per_minute == 7

    _, took = wait(there, "the new limit is published", target=1)
    print(f"published after {took:.2f} s")
    world.patch("Tenant", "edit", spec={"plan": "large"})
    wait(lambda: (d := world.document("edit")) is not None and d.spec.limits.concurrency == 64, "the plan", target=1)
    # What the plan no longer asks for is pruned.
    wait(lambda: not world.items("LimitRange", "tenant-edit"), "the LimitRange is pruned", target=1)


def test_suspension_only_flips_the_document(world: World, operator: Operator) -> None:
    world.tenant("pause")
    world.await_ready("pause")
    wait(operator.idle, "idle")
    before = world.versions("tenant-pause", "pause")
    world.patch("Tenant", "pause", spec={"suspend": True})
    wait(lambda: (d := world.document("pause")) is not None and d.spec.suspended, "suspended", target=1)
    world.await_condition("Tenant", "pause", "Suspended", "True")
    assert world.condition("Tenant", "pause")["status"] == "True"
    after = world.versions("tenant-pause", "pause")
    assert {key for key in after if after[key] != before.get(key)} <= {
        "Tenant pause",
        "Secret t.pause",
        f"ConfigMap/{names.CHILD_STATUS_CONFIG_MAP}",
    }
    world.patch("Tenant", "pause", spec={"suspend": False})
    wait(lambda: (d := world.document("pause")) is not None and not d.spec.suspended, "resumed", target=1)


def test_drift_heals_and_foreign_fields_survive(world: World, operator: Operator) -> None:
    world.tenant("drift", access={"viewers": [{"kind": "User", "name": "vic"}]})
    world.await_ready("drift")
    ns = "tenant-drift"
    world.patch(
        "Namespace", ns, metadata={"labels": {"team": "blue", "pod-security.kubernetes.io/enforce": "privileged"}}
    )
    world.patch("NetworkPolicy", names.CHILD_NETWORK_POLICY_DENY, ns, spec={"ingress": [{}]})
    world.patch("ResourceQuota", names.CHILD_QUOTA, ns, spec={"hard": {"pods": "9999"}})
    world.delete("RoleBinding", names.CHILD_ROLE_BINDING_VIEWERS, ns)
    world.delete("NetworkPolicy", names.CHILD_NETWORK_POLICY_DNS, ns)
    world.delete("Secret", "t.drift", names.NAMESPACE_RUNTIME)
    world.patch("ConfigMap", names.CHILD_STATUS_CONFIG_MAP, ns, metadata={"labels": {names.LABEL_TENANT: None}})

    def broken() -> set[str]:
        space, deny = world.get("Namespace", ns), world.get("NetworkPolicy", names.CHILD_NETWORK_POLICY_DENY, ns)
        quota, told = (
            world.get("ResourceQuota", names.CHILD_QUOTA, ns),
            world.get("ConfigMap", "tenantplane-status", ns),
        )
        assert space is not None
        assert deny is not None
        assert quota is not None
        assert told is not None
        healed = {
            "pod security": space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted",
            "default deny": not deny["spec"].get("ingress"),
            "quota": quota["spec"]["hard"]["pods"] != "9999",
            "status": told["metadata"]["labels"].get(names.LABEL_TENANT) == "drift",
            "viewers": world.get("RoleBinding", names.CHILD_ROLE_BINDING_VIEWERS, ns) is not None,
            "dns": world.get("NetworkPolicy", names.CHILD_NETWORK_POLICY_DNS, ns) is not None,
            "document": world.document("drift") is not None,
        }
        return {what for what, is_healed in healed.items() if not is_healed}

    try:
        _, took = wait(lambda: not broken(), "all drift is healed", target=2)
    except TimeoutFailure as error:
        raise TimeoutFailure(f"{error}: {broken()}\n{operator.tail()}") from None
    print(f"healed after {took:.2f} s")
    space = world.get("Namespace", ns)
    assert space is not None
    assert space["metadata"]["labels"]["team"] == "blue"


def test_a_namespace_that_loses_our_label_gets_it_back(world: World, operator: Operator) -> None:
    world.tenant("label")
    world.await_ready("label")
    world.patch("Namespace", "tenant-label", metadata={"labels": {names.LABEL_TENANT: None}})
    # The fence lets the operator write only into namespaces with our label, or with consent: this one waits for a
    # person and says so, instead of being served without its fence.
    world.await_condition("Tenant", "label", "NamespaceReady", "False", target=3)
    world.patch("Namespace", "tenant-label", metadata={"annotations": {names.ANNOTATION_ADOPTABLE_BY: "label"}})
    world.await_condition("Tenant", "label", "NamespaceReady", "True", target=3)


def test_a_tenant_that_cannot_be_is_stalled_and_says_why(world: World, operator: Operator) -> None:
    world.tenant("noplan", plan="gold-plated")
    stalled = world.await_condition("Tenant", "noplan", "Stalled", "True", "UnknownPlan")
    assert "gold-plated" in stalled["message"]
    assert world.document("noplan") is None
    assert world.get("Namespace", "tenant-noplan") is None
    world.patch("Tenant", "noplan", spec={"plan": "default"})
    world.await_ready("noplan")
    assert world.condition("Tenant", "noplan", "Stalled") == {}
    # A bad edit later leaves in force what was published.
    world.patch("Tenant", "noplan", spec={"plan": "gold-plated"})
    world.await_condition("Tenant", "noplan", "Stalled", "True", "UnknownPlan")
    assert world.document("noplan") is not None


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"tenantID": "short"}, "spec.tenantID"),
        ({}, "spec.tenantID"),
        ({"tenantID": "dup-models1", "models": [{"alias": "a", "ref": {"name": "m"}}] * 2}, "spec.models[1]"),
        ({"tenantID": "neg-quota-1", "quota": {"pods": "-1"}}, "spec.quota"),
        ({"tenantID": "res-label-1", "namespace": {"labels": {"kubernetes.io/x": "y"}}}, "spec.namespace.labels"),
        ({"tenantID": "res-namesp1", "namespace": {"name": "kube-system"}}, "spec.namespace.name"),
    ],
)  # fmt: skip
def test_the_schema_refuses_and_names_the_field(world: World, spec: dict[str, object], field: str) -> None:
    body = {"apiVersion": names.API_VERSION, "kind": "Tenant", "metadata": {"name": "bad"}, "spec": spec}
    status, answer = world.admin.call("POST", world.path("Tenant"), body)
    assert status == 422, answer
    assert field in answer["message"]


def test_identity_and_namespace_cannot_be_changed(world: World, operator: Operator) -> None:
    world.tenant("fixed")
    for spec in ({"tenantID": "another-0001"}, {"namespace": {"name": "elsewhere"}}):
        status, answer = world.admin.call(
            "PATCH", world.path("Tenant", "fixed"), {"spec": spec}, content_type="application/merge-patch+json"
        )
        assert status == 422, answer
        assert "cannot be changed" in answer["message"]
