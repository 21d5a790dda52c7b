"""The fence of two tenants as a matrix of flows, and that the matrix sees each guard that is taken away."""

import copy
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.tenant.build import ACME, BETA, platform
from tests.operator.tenant.netpol import End, World, in_block

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.tenant.effective import EffectiveNetwork
from tenantplane_operator.tenant.manifest import Manifest, Owner
from tenantplane_operator.tenant.network import network_policies

GAMMA = Owner(name=names.TenantName("gamma"), tenant_id=names.TenantID("gamma-001"))

COMPONENT, MODEL = names.LABEL_COMPONENT, names.LABEL_MODEL
ENDS = {
    "acme": End("10.0.0.10", "tenant-acme", {"app": "web"}),
    "acme2": End("10.0.0.11", "tenant-acme", {"app": "db"}),
    "acme-model": End("10.0.0.12", "tenant-acme", {COMPONENT: "model", MODEL: "llm"}),
    "acme-index": End("10.0.0.13", "tenant-acme", {COMPONENT: "index"}),
    "beta": End("10.0.0.20", "tenant-beta", {"app": "web"}),
    "beta2": End("10.0.0.21", "tenant-beta", {"app": "db"}),
    "gamma": End("10.0.0.25", "tenant-gamma"),
    "dataplane": End("10.0.1.5", "tenantplane-system", {COMPONENT: "dataplane"}),
    "operator": End("10.0.1.6", "tenantplane-system", {COMPONENT: "operator"}),
    "fake-dataplane": End("10.0.0.22", "tenant-beta", {COMPONENT: "dataplane"}),
    "dns": End("10.0.2.2", "kube-system", {"k8s-app": "kube-dns"}),
    "fake-dns": End("10.0.0.23", "tenant-beta", {"k8s-app": "kube-dns"}),
    "kube-system": End("10.0.2.3", "kube-system", {"k8s-app": "metrics"}),
    "tools": End("10.0.3.3", "tools"),
    "fake-tools": End("10.0.3.4", "tools", {COMPONENT: "dataplane"}),
    "node": End("10.0.9.9"),
    "node-local-dns": End("169.254.20.10"),
    "metadata": End("169.254.169.254"),
    "metadata6": End("fd00:ec2::254"),
    "pod-identity": End("169.254.170.23"),
    "carrier": End("100.64.1.1"),
    "private": End("192.168.7.7"),
    "cluster-public": End("11.5.0.1"),
    "listed": End("198.51.101.9"),
    "internet": End("8.8.8.8"),
    "internet6": End("2600::1"),
    "mapped-metadata": End("::ffff:a9fe:a9fe"),
    "nat64-metadata": End("64:ff9b::a9fe:a9fe"),
    "nat64-internet": End("64:ff9b::808:808"),
}

# acme opens nothing, beta the internet and one company range, gamma one namespace each way.
NETWORKS = {
    ACME: EffectiveNetwork(),
    BETA: EffectiveNetwork(internet=True, egress_cidrs=("198.51.101.0/24",)),
    GAMMA: EffectiveNetwork(egress_namespaces=("tools",), ingress_namespaces=("tools",)),
}
CLUSTER = ("10.0.0.0/16", "11.5.0.0/16")

MATRIX = """
acme        acme2            8080 yes
acme2       acme             5432 yes
beta        beta2            8080 yes
acme        beta             8080 no
beta        acme             8080 no
gamma       acme             8080 no
acme        gamma            8080 no
acme        dataplane        8080 yes
beta        dataplane        8080 yes
acme        dataplane        8090 no
acme        operator         8080 no
beta        fake-dataplane   8080 no
acme        fake-dataplane   8080 no
dataplane   acme-model       8000 yes
operator    acme-model       8000 no
fake-dataplane acme-model    8000 no
fake-tools  acme-model       8000 no
acme        acme-model       8000 no
beta        acme-model       8000 no
beta        acme-index       8000 no
acme        acme-index       8000 no
kube-system acme-index       8000 no
node        acme-index       8000 no
acme-model  acme             8080 no
acme-model  internet         443  no
dataplane   acme             8080 no
kube-system acme             8080 no
tools       acme             8080 no
tools       gamma            8080 yes
gamma       tools            5432 yes
acme        tools            5432 no
internet    acme             8080 no
node        acme             8080 no
acme        dns              53   yes
acme-model  dns              53   yes
acme        dns              9153 no
acme        fake-dns         53   no
acme        kube-system      53   no
acme        node-local-dns   53   no
acme        metadata         53   no
acme        metadata         80   no
beta        metadata         80   no
beta        metadata6        80   no
beta        pod-identity     80   no
beta        mapped-metadata  80   no
beta        nat64-metadata   80   no
beta        node             10250 no
beta        carrier          443  no
beta        private          443  no
beta        cluster-public   443  no
beta        dns              443  no
beta        kube-system      443  no
beta        internet         443  yes
beta        internet6        443  yes
beta        nat64-internet   443  yes
beta        listed           443  yes
acme        internet         443  no
acme        internet6        443  no
acme        internet         53   no
acme        listed           443  no
gamma       internet         443  no
"""
ROWS = [tuple(line.split()) for line in MATRIX.strip().splitlines()]


def policies(on: Platform | None = None) -> list[Manifest]:
    chosen = on or platform(shared={"network": {"clusterCIDRs": list(CLUSTER)}})
    return [
        policy
        for owner, network in NETWORKS.items()
        for policy in network_policies(owner, f"tenant-{owner.name}", network=network, platform=chosen)
    ]


def wrong_rows(found: Sequence[Manifest]) -> list[tuple[str, ...]]:
    # Labels that beta's admin managed to put on its namespace must open nothing (capsule#200).
    world = World(found, {"tenant-beta": {"name": "tenantplane-system", names.LABEL_TENANT: "acme"}})
    return [
        row
        for row in ROWS
        if world.allows(ENDS[row[0]], ENDS[row[1]], int(row[2]), "UDP" if row[2] == "53" else "TCP")
        != (row[3] == "yes")
    ]


def test_every_flow_is_as_the_matrix_says() -> None:
    assert wrong_rows(policies()) == []


def _named(found: Sequence[Manifest], name: str, tenant: str) -> Manifest:
    return next(p for p in found if p["metadata"]["name"] == name and p["metadata"]["namespace"] == f"tenant-{tenant}")


def _without(name: str, tenant: str) -> Callable[[list[Manifest]], list[Manifest]]:
    return lambda found: [policy for policy in found if policy is not _named(found, name, tenant)]


def _edited(name: str, tenant: str, edit: Callable[[Any], object]) -> Callable[[list[Manifest]], list[Manifest]]:
    def apply(found: list[Manifest]) -> list[Manifest]:
        edit(_named(found, name, tenant)["spec"])
        return found

    return apply


MUTATIONS = {
    "no denial": _without(names.CHILD_NETWORK_POLICY_DENY, "acme"),
    "denial of ingress only": _edited(
        names.CHILD_NETWORK_POLICY_DENY, "acme", lambda spec: spec["policyTypes"].remove("Ingress")
    ),
    "no DNS": _without(names.CHILD_NETWORK_POLICY_DNS, "acme"),
    "no data plane": _without(names.CHILD_NETWORK_POLICY_DATAPLANE, "acme"),
    "no same namespace": _without(names.CHILD_NETWORK_POLICY_SAME_NAMESPACE, "beta"),
    "same namespace for models too": _edited(
        names.CHILD_NETWORK_POLICY_SAME_NAMESPACE,
        "acme",
        lambda spec: spec.update(
            podSelector={}, ingress=[{"from": [{"podSelector": {}}]}], egress=[{"to": [{"podSelector": {}}]}]
        ),
    ),
    "same namespace from anybody": _edited(
        names.CHILD_NETWORK_POLICY_SAME_NAMESPACE, "acme", lambda spec: spec.update(ingress=[{}])
    ),
    "data plane in any namespace": _edited(
        names.CHILD_NETWORK_POLICY_DATAPLANE,
        "beta",
        lambda spec: spec["egress"][0]["to"][0].update(
            namespaceSelector={"matchLabels": {"name": "tenantplane-system"}}
        ),
    ),
    "data plane's every port": _edited(
        names.CHILD_NETWORK_POLICY_DATAPLANE, "acme", lambda spec: spec["egress"][0].pop("ports")
    ),
    "models open to the whole system namespace": _edited(
        "tenantplane-allow-dataplane-to-models", "acme", lambda spec: spec["ingress"][0]["from"][0].pop("podSelector")
    ),
    "models open to such a pod anywhere": _edited(
        "tenantplane-allow-dataplane-to-models",
        "acme",
        lambda spec: spec["ingress"][0]["from"][0].update(namespaceSelector={}),
    ),
    "DNS of any pod": _edited(
        names.CHILD_NETWORK_POLICY_DNS, "acme", lambda spec: spec["egress"][0]["to"][0].pop("podSelector")
    ),
    "DNS anywhere": _edited(names.CHILD_NETWORK_POLICY_DNS, "acme", lambda spec: spec["egress"][0].pop("to")),
    "internet without exceptions": _edited(
        names.CHILD_NETWORK_POLICY_EGRESS, "beta", lambda spec: spec["egress"][0]["to"][0]["ipBlock"].pop("except")
    ),
    "internet without IPv6 exceptions": _edited(
        names.CHILD_NETWORK_POLICY_EGRESS, "beta", lambda spec: spec["egress"][0]["to"][1]["ipBlock"].pop("except")
    ),
    "no ingress": _without(names.CHILD_NETWORK_POLICY_INGRESS, "gamma"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_matrix_sees_a_missing_guard(name: str) -> None:
    assert wrong_rows(MUTATIONS[name](copy.deepcopy(policies()))) != []


PRESETS = {
    # preset: which of (kube-dns pods, node-local address, metadata server, private resolver, public resolver) open
    "coredns": (True, False, False, False, False),
    "nodelocal": (True, True, False, False, False),
    "gke-clouddns": (False, False, True, False, False),
    "eks-auto": (True, True, False, True, False),
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_dns_presets(preset: str, protocol: str) -> None:
    world = World(policies(platform(shared={"network": {"dns": preset}})))
    resolvers = ("dns", "node-local-dns", "metadata", "private", "internet")
    assert tuple(world.allows(ENDS["acme"], ENDS[name], 53, protocol) for name in resolvers) == PRESETS[preset]
    # Whatever answers DNS, nothing but DNS opens there.
    assert not any(world.allows(ENDS["acme"], ENDS[name], 80) for name in resolvers)


def test_eks_auto_uses_the_clusters_ranges_where_they_are_known() -> None:
    known = platform(shared={"network": {"dns": "eks-auto", "clusterCIDRs": ["10.0.0.0/16"]}})
    world = World(policies(known))
    assert world.allows(ENDS["acme"], End("10.0.0.2"), 53, "UDP")
    assert not world.allows(ENDS["acme"], ENDS["private"], 53, "UDP")


def test_openings_that_nobody_asked_for_are_not_there() -> None:
    found = {policy["metadata"]["name"] for policy in policies() if policy["metadata"]["namespace"] == "tenant-acme"}
    assert found == {
        "tenantplane-default-deny",
        "tenantplane-allow-dns",
        "tenantplane-allow-same-namespace",
        "tenantplane-allow-dataplane",
        "tenantplane-allow-dataplane-to-models",
    }


def test_policies_share_no_mutable_part() -> None:
    first = policies()
    for policy in first:
        policy["spec"]["podSelector"]["matchLabels"] = {"edited": "yes"}
        for rule in policy["spec"].get("egress", ()):
            rule["to"] = []
    assert wrong_rows(policies()) == []


@given(st.ip_addresses(v=4))
def test_no_address_that_is_not_global_is_internet(address: ipaddress.IPv4Address) -> None:
    """Against the standard library's reading of the IANA registry."""
    egress = _named(policies(), names.CHILD_NETWORK_POLICY_EGRESS, "beta")["spec"]["egress"][0]["to"]
    block4, block6 = egress[0]["ipBlock"], egress[1]["ipBlock"]
    opened = in_block(str(address), block4)
    assert not (opened and not address.is_global)
    value = int(address)
    # The same address through NAT64 is opened exactly when it is opened itself; as a mapped address never.
    assert in_block(str(ipaddress.IPv6Address((0x64 << 112) | (0xFF9B << 96) | value)), block6) == opened
    assert not in_block(str(ipaddress.IPv6Address((0xFFFF << 32) | value)), block6)


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_that_is_not_global_is_internet(address: ipaddress.IPv6Address) -> None:
    block = _named(policies(), names.CHILD_NETWORK_POLICY_EGRESS, "beta")["spec"]["egress"][0]["to"][1]["ipBlock"]
    assert not (in_block(str(address), block) and not address.is_global)
