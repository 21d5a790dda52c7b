"""Apply differences: when a live object is as wanted, when it is drift, and what one pass costs."""

import copy
from typing import Any

import pytest
from tests.operator.runtime.objects import obj

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.apply import Applier, covers, differs, explicit, with_hash
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.errors import ApiError, Forbidden
from tenantplane_operator.runtime.prune import to_prune
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of

POLICY: Manifest = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": "ns", "labels": {"a": "b"}},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}
QUOTA: Manifest = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "q", "namespace": "ns"},
    "spec": {"hard": {"requests.cpu": "4000m", "limits.memory": "1Gi", "pods": "20"}},
}


def live(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest as it was stored, with edits by others."""
    stored = copy.deepcopy(with_hash(explicit(manifest)))
    stored["metadata"] |= {"uid": "u", "resourceVersion": "5"}
    for path, value in changes.items():
        node: Any = stored
        *parents, leaf = path.split("__")
        for parent in parents:
            node = node[int(parent)] if parent.isdigit() else node.setdefault(parent, {})
        node[leaf] = value
    return stored


def wanted(manifest: Manifest) -> Manifest:
    return with_hash(explicit(manifest))


@pytest.mark.parametrize(
    ("want", "have", "expected"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": {"b": "c"}}, {"a": {"b": "d"}}, False),
        ({"a": []}, {}, True),
        ({"a": []}, {"a": [{}]}, False),
        ({"a": {}}, {"a": {"matchLabels": {"x": "y"}}}, False),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, False),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1, "default": 2}]}, True),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": "x"}, {}, False),
        ({"a": False}, {}, True),
    ],
)
def test_covers(want: Any, have: Any, expected: bool) -> None:
    assert covers(want, have) is expected


def test_an_unchanged_object_does_not_differ() -> None:
    assert not differs(wanted(POLICY), live(POLICY))
    assert not differs(wanted(QUOTA), live(QUOTA))


def test_what_is_missing_deleted_or_of_an_older_manifest_differs() -> None:
    assert differs(wanted(POLICY), None)
    assert differs(wanted(POLICY), live(POLICY, metadata__deletionTimestamp="2027-01-01T00:00:00Z"))
    newer = {**POLICY, "spec": {**POLICY["spec"], "policyTypes": ["Ingress"]}}
    assert differs(wanted(newer), live(POLICY))


@pytest.mark.parametrize(
    "edit",
    [
        {"spec__ingress": [{}]},
        {"spec__podSelector": {"matchLabels": {"only": "this"}}},
        {"spec__policyTypes": ["Ingress"]},
        {"metadata__labels": {}},
        {"metadata__annotations": {}},
    ],
)
def test_an_edit_by_hand_is_drift(edit: dict[str, Any]) -> None:
    assert differs(wanted(POLICY), live(POLICY, **edit))


def test_a_wider_fence_is_drift_where_another_field_would_be_tolerated() -> None:
    peer = {"from": [{"podSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"port": 80}]}
    policy = {**POLICY, "spec": {**POLICY["spec"], "ingress": [peer]}}
    assert not differs(wanted(policy), live(policy, spec__ingress__0__ports__0__protocol="TCP"))
    assert differs(wanted(policy), live(policy, spec__ingress__0__ports__0__endPort=90))
    binding: Manifest = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "admins", "namespace": "ns"},
        "roleRef": {"kind": "ClusterRole", "name": "x", "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [{"kind": "User", "name": "alice"}],
    }
    mallory = [{"kind": "User", "name": "alice"}, {"kind": "User", "name": "mallory"}]
    assert differs(wanted(binding), live(binding, subjects=mallory))


def test_labels_of_others_survive() -> None:
    assert not differs(wanted(POLICY), live(POLICY, metadata__labels={"a": "b", "team": "blue"}))


def test_quantities_are_compared_as_quantities_where_the_server_rewrites_them() -> None:
    canonical = {"requests.cpu": "4", "limits.memory": "1024Mi", "pods": "20"}
    assert not differs(wanted(QUOTA), live(QUOTA, spec__hard=canonical))
    assert differs(wanted(QUOTA), live(QUOTA, spec__hard={**canonical, "pods": "21"}))
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"x": "1000m"}}
    assert differs(wanted(config_map), live(config_map, data={"x": "1"}))


class FakeApi:
    """Counts applies; refuses names that start with ``bad``; fills in a default as a server may."""

    def __init__(self) -> None:
        self.applied: list[ObjectKey] = []

    async def apply(self, manifest: Manifest, *, manager: str) -> Manifest:
        key = key_of(manifest)
        self.applied.append(key)
        if key.name.startswith("bad"):
            raise Forbidden("no", status=403)
        stored = copy.deepcopy(manifest)
        stored["metadata"] |= {"uid": key.name, "resourceVersion": "7"}
        stored.setdefault("spec", {})["defaulted"] = ["by", "the", "server"]
        return stored


def config_map(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ns"}, "data": {"k": "v"}}


async def test_a_second_pass_costs_nothing_and_errors_stay_apart() -> None:
    api, cache = FakeApi(), Cache(index_label=names.LABEL_TENANT)
    applier = Applier(api, cache, manager="m")  # type: ignore[arg-type]
    manifests = [config_map("one"), config_map("bad"), config_map("two")]
    first = await applier.apply(manifests)
    assert sorted(key.name for key in first.written) == ["one", "two"]
    assert {key.name: type(error) for key, error in first.errors.items()} == {"bad": Forbidden}
    second = await applier.apply(manifests)
    assert [key.name for key in second.unchanged] == ["one", "two"]
    assert [key.name for key in api.applied] == ["one", "bad", "two", "bad"]


async def test_what_the_server_made_of_our_apply_is_no_drift() -> None:
    api, cache = FakeApi(), Cache(index_label=names.LABEL_TENANT)
    applier = Applier(api, cache, manager="m")  # type: ignore[arg-type]
    assert (await applier.apply([POLICY])).written
    # By the rules of closed fields alone this would be drift for ever.
    assert differs(wanted(POLICY), cache.get(key_of(POLICY)))
    assert (await applier.apply([POLICY])).unchanged


async def test_recover_takes_errors_away() -> None:
    api, cache = FakeApi(), Cache(index_label=names.LABEL_TENANT)
    applier = Applier(api, cache, manager="m")  # type: ignore[arg-type]
    asked: list[ApiError] = []

    def recover(_: Manifest, error: ApiError) -> bool:
        asked.append(error)
        return True

    assert not (await applier.apply([config_map("bad")], recover=recover)).errors
    assert len(asked) == 1


def test_prune_takes_only_what_is_ours_and_unwanted() -> None:
    owned = [
        obj("NetworkPolicy", "old"),
        obj("NetworkPolicy", "wanted"),
        obj("NetworkPolicy", "elsewhere", ns="other"),
        obj("NetworkPolicy", "theirs", metadata={"labels": {names.LABEL_TENANT: "acme"}}),
        obj("NetworkPolicy", "going", metadata={"deletionTimestamp": "2027-01-01T00:00:00Z"}),
        obj("Secret", "key"),
        obj("Namespace", "ns", ns=""),
        obj("Deployment", "app"),
    ]
    keep = {ObjectKey("NetworkPolicy", "ns", "wanted")}
    kinds = {"NetworkPolicy", "Secret", "Namespace"}
    doomed = to_prune(owned, keep, kinds=kinds, namespace="ns")
    assert [key_of(item).name for item in doomed] == ["old"]
    told = to_prune(owned, keep, kinds={"Secret"}, namespace="ns", components={names.COMPONENT_FENCE})
    assert [key_of(item).name for item in told] == ["key"]
    assert to_prune(owned, keep, kinds={"Secret"}, namespace="ns", components={names.COMPONENT_APIKEY}) == []
    assert to_prune([obj("Namespace", "x", ns="")], (), kinds={"Namespace"}, namespace="") == []
