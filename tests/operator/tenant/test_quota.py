"""ResourceQuota and LimitRange: room for what is ours, wrong values made safe and told, surprises told."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.tenant.build import ACME, api_key, by_name, parsed, platform

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_operator.tenant import quota
from tenantplane_operator.tenant.compile import Compiled, Observed, compile_tenant
from tenantplane_operator.tenant.containers import SECTIONS
from tenantplane_operator.tenant.manifest import Manifest
from tenantplane_operator.tenant.quantity import parse_quantity

LISTED: dict[str, Any] = {
    "access": {
        "admins": [{"kind": "User", "name": "ann"}],
        "editors": [{"kind": "User", "name": "ed"}],
        "viewers": [{"kind": "User", "name": "vi"}],
        "workloads": "Restricted",
    },
    "network": {"egress": {"internet": True}, "ingress": {"namespaces": ["tools"]}},
    "auth": {"apiKeys": [{"name": "web"}, {"name": "batch"}]},
}
PLAN_LIMITS = {"default": {"cpu": "500m"}}


def compiled(spec: Mapping[str, Any], plan: Mapping[str, Any] | None = None, **facts: Any) -> Compiled:
    return compile_tenant(
        parsed(spec=spec), platform(operator={"plans": {"default": dict(plan or {})}}), Observed(**facts)
    )


def hard(spec: Mapping[str, Any], plan: Mapping[str, Any] | None = None, **facts: Any) -> dict[str, str]:
    found = by_name([child.manifest for child in compiled(spec, plan, **facts).children])
    values: dict[str, str] = found["ResourceQuota/tenantplane"]["spec"]["hard"]
    return values


def counts_of(manifests: Iterable[Manifest]) -> dict[str, int]:
    found: dict[str, int] = {}
    for manifest in manifests:
        if manifest["kind"] != "Namespace":
            found[manifest["kind"]] = found.get(manifest["kind"], 0) + 1
    return found


ENTRIES = {
    "Secret": ("secrets", "count/secrets"),
    "ConfigMap": ("configmaps", "count/configmaps"),
    "ServiceAccount": ("count/serviceaccounts",),
    "ResourceQuota": ("resourcequotas", "count/resourcequotas"),
    "LimitRange": ("count/limitranges",),
    "NetworkPolicy": ("count/networkpolicies.networking.k8s.io",),
    "RoleBinding": ("count/rolebindings.rbac.authorization.k8s.io",),
    "APIKey": ("count/apikeys.tenantplane.dev",),
}


def test_a_quota_of_nothing_still_has_room_for_every_object_of_ours() -> None:
    zero = dict.fromkeys([entry for entries in ENTRIES.values() for entry in entries] + ["pods", "requests.cpu"], "0")
    plan = {"containerLimits": PLAN_LIMITS, "quota": zero}
    made = counts_of(child.manifest for child in compiled(LISTED, plan).children)
    # Not among the children: a Secret for each key and one in a rotation, the status ConfigMap, kube-root-ca.crt.
    needed = made | {"Secret": 3, "ConfigMap": 2}
    assert set(needed) == set(ENTRIES), "a kind that we put into the namespace and no entry has room for"
    found = hard(LISTED, plan)
    for kind, entries in ENTRIES.items():
        assert [found[entry] for entry in entries] == [str(needed[kind])] * len(entries), kind
    assert (found["pods"], found["requests.cpu"]) == ("0", "0")


def test_keys_that_the_tenants_admin_makes_bring_room_for_their_secrets() -> None:
    bound = {"quota": {"secrets": "5"}}
    own = [api_key("default", ours=ACME), api_key("one"), api_key("two")]
    assert hard({"auth": {"apiKeys": []}}, bound)["secrets"] == "5"
    assert hard({}, bound)["secrets"] == "7"
    assert hard({}, bound, api_keys=own)["secrets"] == "9"
    # One whose text the admin brings has no Secret of ours; one that goes needs none any more.
    theirs = api_key("three", spec={"valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}})
    going = api_key("four", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert hard({}, bound, api_keys=[*own, theirs, going])["secrets"] == "9"
    # One that ended has a Secret for as long as its status names one; "default" is to be made, and was revoked.
    ended = [api_key(f"ended-{reason}", ready=("False", reason)) for reason in ("Revoked", "Expired")]
    kept = api_key("kept", ready=("False", "Expired"), status={"secretRef": {"name": "kept"}})
    broken = api_key("broken", ready=("False", "KeyTampered"))
    assert hard({}, bound, api_keys=[*own, *ended])["secrets"] == "9"
    assert hard({}, bound, api_keys=[*own, kept, broken])["secrets"] == "11"
    assert hard({}, bound, api_keys=[api_key("default", ours=ACME, ready=("False", "Revoked"))])["secrets"] == "5"
    many = [api_key(f"k{number}") for number in range(2000)]
    assert hard({}, bound, api_keys=many)["secrets"] == str(5 + 1024 + 1)


def test_our_own_kinds_are_counted_only_when_kubernetes_can() -> None:
    """Until the quota controller has discovered a fresh CRD, an entry for it refuses every object of it."""
    bound = {
        "quota": {"count/apikeys.tenantplane.dev": "3", "count/modeldeployments.tenantplane.dev": "2", "pods": "1"}
    }
    assert hard({}, bound) == {
        "count/apikeys.tenantplane.dev": "4",
        "count/modeldeployments.tenantplane.dev": "2",
        "pods": "1",
    }
    assert hard({}, bound, own_kinds_countable=False) == {"pods": "1"}
    # What is in force is told either way: it is a matter of seconds.
    effective = compiled({}, bound, own_kinds_countable=False).effective
    assert effective is not None
    assert set(effective.quota) == set(bound["quota"])


@given(st.dictionaries(st.sampled_from(["secrets", "configmaps", "pods"]), st.integers(0, 10**6).map(str)))
def test_room_is_added_exactly(entries: dict[str, str]) -> None:
    found = quota.with_room(entries, {"Secret": 2, "ConfigMap": 3})
    extra = {"secrets": 2, "configmaps": 3, "pods": 0}
    assert {key: int(value) for key, value in found.items()} == {k: int(v) + extra[k] for k, v in entries.items()}


@pytest.mark.parametrize(
    ("entry", "value", "enforced"),
    [
        ("pods", "1500m", "1"),
        ("services.nodeports", "0.5", "0"),
        ("count/jobs.batch", "2.5", "2"),
        ("gold.storageclass.storage.k8s.io/persistentvolumeclaims", "1.5", "1"),
        ("pods", "1k", None),
        ("requests.cpu", "1500m", None),
        ("gold.storageclass.storage.k8s.io/requests.storage", "1.5Gi", None),
    ],
)
@pytest.mark.parametrize("whose", ["spec", "plan"])
def test_a_part_of_an_object_is_no_count(entry: str, value: str, enforced: str | None, whose: str) -> None:
    spec, plan = ({"quota": {entry: value}}, {}) if whose == "spec" else ({}, {"quota": {entry: value}})
    out = compiled(spec, plan)
    assert hard(spec, plan)[entry] == (enforced or value)
    concern = out.concerns[ConditionType.QUOTA_READY]
    assert concern.ok is (enforced is None)
    if enforced is not None:
        where = "spec.quota" if whose == "spec" else "plan default: quota"
        assert (concern.reason, concern.permanent) == (Reason.INVALID_SPEC, True)
        assert concern.message == (
            f"{where}.{entry}: {value} is not a whole number of objects; {enforced} is enforced instead"
        )


@pytest.mark.parametrize(
    ("bounds", "limits", "told"),
    [
        ({"requests.cpu": "1", "limits.memory": "1Gi"}, {}, "limits.memory, requests.cpu"),
        ({"cpu": "1"}, {}, "cpu"),
        ({"limits.cpu": "1"}, {"defaultRequest": {"cpu": "1"}}, "limits.cpu"),
        # Kubernetes fills a default limit from max, and a default request from the limit.
        ({"limits.cpu": "1", "requests.cpu": "1"}, {"max": {"cpu": "1"}}, None),
        ({"requests.cpu": "1"}, {"min": {"cpu": "1"}}, None),
        ({"pods": "1", "requests.storage": "1Gi", "requests.nvidia.com/gpu": "1", "count/secrets": "1"}, {}, None),
    ],
)
def test_a_quota_without_a_default_is_no_fault_but_is_told(
    bounds: dict[str, str], limits: dict[str, Any], told: str | None
) -> None:
    concern = compiled({"quota": bounds, "containerLimits": limits}).concerns[ConditionType.QUOTA_READY]
    assert concern.ok
    assert (f"pods that do not state {told} are refused" in concern.message) is (told is not None)
    assert told is not None or not concern.message


def test_ephemeral_storage_that_nobody_stated_is_not_counted() -> None:
    spec = {"quota": {"limits.ephemeral-storage": "1Gi"}}
    message = compiled(spec).concerns[ConditionType.QUOTA_READY].message
    assert "limits.ephemeral-storage of containers that do not state it counts as none" in message
    assert "containerLimits" in message


@pytest.mark.parametrize(
    ("own", "in_force", "field"),
    [
        ({"default": {"cpu": "8"}, "max": {"cpu": "4"}}, {"default": "4", "max": "4"}, "default"),
        ({"default": {"cpu": "1"}, "min": {"cpu": "2"}}, {"default": "2", "min": "2"}, "default"),
        ({"default": {"cpu": "1"}, "defaultRequest": {"cpu": "1500m"}}, {"default": "1", "defaultRequest": "1"},
         "defaultRequest"),
        ({"defaultRequest": {"cpu": "5"}, "max": {"cpu": "4"}}, {"defaultRequest": "4", "max": "4"}, "defaultRequest"),
        ({"defaultRequest": {"cpu": "1"}, "min": {"cpu": "2"}}, {"defaultRequest": "2", "min": "2"}, "defaultRequest"),
        ({"min": {"cpu": "5"}, "max": {"cpu": "4"}}, {"min": "4", "max": "4"}, "min"),
        ({"default": {"cpu": "1000m"}, "defaultRequest": {"cpu": "1"}, "max": {"cpu": "1"}, "min": {"cpu": "1"}},
         {"default": "1000m", "defaultRequest": "1", "max": "1", "min": "1"}, None),
    ],
)  # fmt: skip
def test_limits_that_contradict_each_other(own: dict[str, Any], in_force: dict[str, str], field: str | None) -> None:
    out = compiled({"containerLimits": own})
    item = by_name([child.manifest for child in out.children])["LimitRange/tenantplane"]["spec"]["limits"][0]
    assert {section: item[section]["cpu"] for section in SECTIONS if section in item} == in_force
    concern = out.concerns[ConditionType.QUOTA_READY]
    assert concern.ok is (field is None)
    if field is not None:
        assert concern.reason == Reason.INVALID_SPEC
        assert concern.message.startswith(f"spec.containerLimits.{field}.cpu: ")


def test_a_contradiction_between_plan_and_tenant_names_both() -> None:
    concern = compiled(
        {"containerLimits": {"default": {"cpu": "8"}}}, {"containerLimits": {"max": {"cpu": "4"}}}
    ).concerns[ConditionType.QUOTA_READY]
    assert concern.message == (
        "spec.containerLimits.default.cpu: 8 is more than plan default: containerLimits.max.cpu: 4; 4 is enforced "
        "instead"
    )


def test_what_is_shared_by_nobody_is_requested_as_it_is_limited() -> None:
    own = {"default": {"nvidia.com/gpu": "2"}, "defaultRequest": {"nvidia.com/gpu": "1"}}
    concern = compiled({"containerLimits": own}).concerns[ConditionType.QUOTA_READY]
    assert "spec.containerLimits.defaultRequest.nvidia.com/gpu: 1 is not its default limit 2" in concern.message


@pytest.mark.parametrize("name", ["pods", "bananas", "requests.nvidia.com/gpu", "storage"])
def test_a_resource_that_no_container_has(name: str) -> None:
    out = compiled({"containerLimits": {"max": {name: "1", "cpu": "1"}}})
    item = by_name([child.manifest for child in out.children])["LimitRange/tenantplane"]["spec"]["limits"][0]
    assert item == {"type": "Container", "max": {"cpu": "1"}}
    concern = out.concerns[ConditionType.QUOTA_READY]
    assert concern.message.startswith(f"spec.containerLimits.max: {name!r} is no resource of a container")


amounts = st.none() | st.integers(0, 9)


@given(st.tuples(amounts, amounts, amounts, amounts), st.sampled_from(["cpu", "hugepages-2Mi", "example.com/gpu"]))
def test_what_is_applied_always_agrees_with_itself(values: tuple[int | None, ...], resource: str) -> None:
    """By the API server's own rules, after it has filled in what is missing."""
    own = {s: {resource: str(v)} for s, v in zip(SECTIONS, values, strict=True) if v is not None}
    found = by_name([child.manifest for child in compiled({"containerLimits": own}).children])
    if not own:
        assert "LimitRange/tenantplane" not in found
        return
    item = found["LimitRange/tenantplane"]["spec"]["limits"][0]
    have = {s: int(parse_quantity(item[s][resource])) for s in SECTIONS if s in item}
    assert set(have) == set(own)
    have.setdefault("default", have.get("max", -1))
    if have["default"] < 0:
        del have["default"]
    if "defaultRequest" not in have and ("default" in have or "min" in have):
        have["defaultRequest"] = have["default"] if "default" in have else have["min"]
    order = [have[s] for s in ("min", "defaultRequest", "default", "max") if s in have]
    assert order == sorted(order)
    if resource != "cpu" and {"default", "defaultRequest"} <= set(have):
        assert have["default"] == have["defaultRequest"]
    # Never looser than what was asked for.
    if values[2] is not None:
        assert have["max"] == values[2]
