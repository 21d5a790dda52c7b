"""The fence of three tenants as a matrix of flows, and that the matrix sees each guard that is taken away.

A row says what the source's policies say about the way out and the target's about the way in: ``open``, ``shut``, or
``-`` where no policy of ours selects that end. The two are told apart because most flows are shut twice, and a guard
that is gone at one end would not be seen otherwise.
"""

import copy
import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.tenant.build import ACME, BETA, platform
from tests.operator.tenant.netpol import End, Verdict, World, in_block

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Network, Platform, Shared
from tenantplane_operator.tenant import network
from tenantplane_operator.tenant.effective import EffectiveNetwork
from tenantplane_operator.tenant.manifest import Manifest, Owner
from tenantplane_operator.tenant.network import network_policies

GAMMA = Owner(name=names.TenantName("gamma"), tenant_id=names.TenantID("gamma-001"))

COMPONENT, MODEL = names.LABEL_COMPONENT, names.LABEL_MODEL
SERVED = {COMPONENT: "model", MODEL: "llm"}
ENDS = {
    "acme": End("10.0.0.10", "tenant-acme", {"app": "web"}, node="n1"),
    "acme2": End("10.0.0.11", "tenant-acme", {"app": "db"}, node="n2"),
    "acme-model": End("10.0.0.12", "tenant-acme", SERVED, node="n1"),
    "acme-index": End("10.0.0.13", "tenant-acme", {COMPONENT: "index"}, node="n1"),
    # What the tenant fence keeps from being: here the labels are there all the same, and open nothing.
    "acme-as-dataplane": End("10.0.0.14", "tenant-acme", {COMPONENT: "dataplane"}, node="n1"),
    "acme-as-dns": End("10.0.0.15", "tenant-acme", {"k8s-app": "kube-dns"}, node="n1"),
    "beta": End("10.0.0.20", "tenant-beta", {"app": "web"}, node="n1"),
    "beta2": End("10.0.0.21", "tenant-beta", {"app": "db"}, node="n2"),
    "beta-model": End("10.0.0.22", "tenant-beta", SERVED, node="n1"),
    "beta-as-dataplane": End("10.0.0.23", "tenant-beta", {COMPONENT: "dataplane"}, node="n1"),
    "beta-as-dns": End("10.0.0.24", "tenant-beta", {"k8s-app": "kube-dns"}, node="n1"),
    "gamma": End("10.0.0.30", "tenant-gamma", node="n1"),
    "gamma-model": End("10.0.0.31", "tenant-gamma", SERVED, node="n1"),
    "dataplane": End("10.0.1.5", "tenantplane-system", {COMPONENT: "dataplane"}, node="n2"),
    "operator": End("10.0.1.6", "tenantplane-system", {COMPONENT: "operator"}, node="n2"),
    "build": End("10.0.1.7", "tenantplane-jobs", {COMPONENT: "index"}, node="n2"),
    "shared-model": End("10.0.1.8", "tenantplane-models", SERVED, node="n2"),
    "dns": End("10.0.2.2", "kube-system", {"k8s-app": "kube-dns"}, node="n2"),
    "kube-system": End("10.0.2.3", "kube-system", {"k8s-app": "metrics"}, node="n2"),
    "tools": End("10.0.3.3", "tools", node="n2"),
    "tools-as-dataplane": End("10.0.3.4", "tools", {COMPONENT: "dataplane"}, node="n2"),
    "own-node": End("10.0.9.1", node="n1"),
    "other-node": End("10.0.9.2", node="n2"),
    "on-own-node": End("10.0.9.1", "kube-system", {"k8s-app": "agent"}, node="n1", host_network=True),
    "api-server": End("10.0.9.100"),
    "service-address": End("172.20.0.1"),
    "node-local-dns": End("169.254.20.10"),
    "metadata": End("169.254.169.254"),
    "carrier": End("100.64.1.1"),
    "private": End("192.168.7.7"),
    "private6": End("fd12::1"),
    "cluster-public": End("11.5.0.1"),
    "listed": End("192.168.9.9"),
    "internet": End("8.8.8.8"),
    "internet6": End("2600::1"),
    "nat64-internet": End("64:ff9b::808:808"),
    "nat64-cluster": End("64:ff9b::b05:1"),
}

# acme opens nothing, beta the internet and one company range, gamma one namespace each way.
NETWORKS = {
    ACME: EffectiveNetwork(),
    BETA: EffectiveNetwork(internet=True, egress_cidrs=("192.168.9.0/24",)),
    GAMMA: EffectiveNetwork(egress_namespaces=("tools",), ingress_namespaces=("tools",)),
}
CLUSTER = ("10.0.0.0/16", "11.5.0.0/16", "172.20.0.0/16")

MATRIX = """
# the tenant's own pods among themselves
acme         acme2              8080 open open
acme2        acme               5432 open open
beta         beta2              8080 open open
acme         acme               8080 node node
# its models: neither from its pods nor to them
acme         acme-model         8000 shut shut
acme-model   acme               8080 shut shut
acme         acme-index         8000 shut shut
acme-index   acme               8080 shut shut
acme-model   acme-index         8000 shut shut
acme-index   acme-model         8000 shut shut
# another tenant, each way
acme         beta               8080 shut shut
beta         acme               8080 shut shut
gamma        acme               8080 shut shut
acme         gamma              8080 shut shut
beta         acme-model         8000 shut shut
beta-model   acme-model         8000 shut shut
beta         acme-index         8000 shut shut
gamma        beta               8080 shut shut
# the data plane: from the tenant to its public port, from it to models
acme         dataplane          8080 open -
beta         dataplane          8080 open -
acme         dataplane          8081 shut -
acme         dataplane          8080/UDP shut -
acme-model   dataplane          8080 shut -
acme         operator           8080 shut -
acme         acme-as-dataplane  8080 shut shut
acme         beta-as-dataplane  8080 shut shut
beta         beta-as-dataplane  8080 shut shut
gamma        tools-as-dataplane 8080 open -
acme         tools-as-dataplane 8080 shut -
dataplane    acme-model         8000 -    open
dataplane    acme               8080 -    shut
dataplane    acme-index         8000 -    shut
operator     acme-model         8000 -    shut
beta-as-dataplane  acme-model   8000 shut shut
acme-as-dataplane  acme-model   8000 shut shut
tools-as-dataplane acme-model   8000 -    shut
# other parts of the platform and of Kubernetes
acme         build              8080 shut -
build        acme               8080 -    shut
acme         shared-model       8000 shut -
gamma        shared-model       8000 shut -
shared-model acme-model         8000 -    shut
kube-system  acme               8080 -    shut
kube-system  acme-index         8000 -    shut
acme         kube-system        443  shut -
beta         kube-system        443  shut -
gamma        kube-system        443  shut -
# a namespace that one tenant opens
tools        acme               8080 -    shut
tools        gamma              8080 -    open
tools        gamma-model        8000 -    shut
gamma        tools              5432 open -
gamma-model  tools              5432 shut -
acme         tools              5432 shut -
kube-system  gamma              8080 -    shut
internet     gamma              8080 -    shut
# names are looked up at the cluster's resolver and nowhere else
acme         dns                53/UDP open -
acme         dns                53/TCP open -
acme-model   dns                53/UDP open -
acme         dns                53/SCTP shut -
acme         dns                9153 shut -
acme         dns                9153/UDP shut -
acme         beta-as-dns        53/UDP shut shut
acme-model   acme-as-dns        53/UDP shut shut
acme         kube-system        53/UDP shut -
acme         node-local-dns     53/UDP shut -
acme         metadata           53/UDP shut -
acme         internet           53/UDP shut -
acme         other-node         53/UDP shut -
# nodes, the API server, addresses of Services
own-node     acme               8080 -    node
own-node     acme-model         8000 -    node
on-own-node  acme               8080 -    node
acme         own-node           10250 node -
other-node   acme               8080 -    shut
other-node   acme-index         8000 -    shut
acme         other-node         10250 shut -
beta         other-node         10250 shut -
gamma        other-node         10250 shut -
acme         api-server         6443 shut -
beta         api-server         6443 shut -
beta         service-address    443  shut -
# the outside
internet     acme               8080 -    shut
internet     beta               8080 -    shut
internet     acme-model         8000 -    shut
internet     acme-index         8000 -    shut
acme         internet           443  shut -
acme         internet6          443  shut -
acme         listed             443  shut -
acme         private            443  shut -
gamma        internet           443  shut -
beta         internet           443  open -
beta         internet6          443  open -
beta         nat64-internet     443  open -
beta         nat64-cluster      443  shut -
beta         listed             443  open -
beta         private            443  shut -
beta         private6           443  shut -
beta         carrier            443  shut -
beta         cluster-public     443  shut -
beta         dns                443  shut -
beta-model   internet           443  shut -
beta-model   internet6          443  shut -
beta-model   listed             443  shut -
"""

# One address at least of each range that is no internet, from the IANA registries and the clouds' documentation; the
# builder's own list is not consulted. Each must be shut to a tenant that has `internet`.
NOT_INTERNET = """
0.0.0.1 10.200.0.1 100.64.0.1 100.100.100.200 100.127.255.254 127.0.0.1 169.254.169.254 169.254.170.2 169.254.170.23
169.254.20.10 172.16.0.1 172.31.255.254 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.254
198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
:: ::1 ::a9fe:a9fe ::ffff:169.254.169.254 ::ffff:8.8.8.8 64:ff9b:1::1 100::1 100:0:0:1::1 2001::1 2001:2::1 2001:10::1
2001:20::1 2001:db8::1 2002:a9fe:a9fe::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fd00:ec2::23 fd20:ce::254
fd00:c1::a9fe:a9fe fe80::1 fec0::1 ff02::1
"""
CLOSED = NOT_INTERNET.split()
THROUGH_NAT64 = [
    str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) + int(ipaddress.IPv4Address(text))))
    for text in [*CLOSED, "11.5.0.1"]
    if ":" not in text
]

Row = tuple[str, str, int, str, str, str]


def _rows() -> Iterator[Row]:
    for line in MATRIX.strip().splitlines():
        if not line.startswith("#"):
            source, target, port, out, into = line.split()
            number, _, protocol = port.partition("/")
            yield source, target, int(number), protocol or "TCP", out, into
    for address in (*CLOSED, *THROUGH_NAT64):
        yield "beta", address, 80, "TCP", "shut", "-"


ROWS = list(_rows())
# Labels that beta's admin managed to put on its namespace must open nothing (capsule#200).
FORGED = {"tenant-beta": {"name": "tenantplane-system", names.LABEL_TENANT: "acme"}}


def policies(on: Platform | None = None) -> list[Manifest]:
    chosen = on or platform(shared={"network": {"clusterCIDRs": list(CLUSTER)}})
    return [
        policy
        for owner, opened in NETWORKS.items()
        for policy in network_policies(owner, f"tenant-{owner.name}", network=opened, platform=chosen)
    ]


def wrong_rows(found: Sequence[Manifest]) -> Iterator[str]:
    world = World(found, FORGED)
    for source, target, port, protocol, out, into in ROWS:
        verdicts = world.verdicts(ENDS[source], ENDS.get(target) or End(target), port, protocol)
        if verdicts != (out, into):
            yield f"{source} -> {target}:{port}/{protocol} is {verdicts[0]}, {verdicts[1]}"


def test_every_flow_is_as_the_matrix_says() -> None:
    assert list(wrong_rows(policies())) == []


def test_every_kind_of_end_is_in_the_matrix() -> None:
    assert {row[0] for row in ROWS} | {row[1] for row in ROWS} >= set(ENDS)


# Mutants: every part of every policy, left out or widened, one at a time.

EQUIVALENT = {
    # Every pod is isolated towards the outside by the DNS policy as well; the denial alone is tested below.
    "tenantplane-default-deny: policyTypes without Egress",
}


def mutants(policy: Manifest) -> Iterator[tuple[str, Manifest | None]]:
    """What could be wrong with one policy: ``None`` stands for its absence."""
    name, spec = str(policy["metadata"]["name"]), policy["spec"]

    def edited(what: str) -> tuple[Any, tuple[str, Manifest]]:
        mutant = copy.deepcopy(policy)
        return mutant["spec"], (f"{name}: {what}", mutant)

    yield f"{name}: absent", None
    if spec["podSelector"]:
        inner, mutant = edited("for all pods")
        inner["podSelector"] = {}
        yield mutant
    for kind in spec["policyTypes"] if len(spec["policyTypes"]) > 1 else ():
        inner, mutant = edited(f"policyTypes without {kind}")
        inner["policyTypes"].remove(kind)
        yield mutant
    for direction, ends in (("ingress", "from"), ("egress", "to")):
        for number, rule in enumerate(spec.get(direction, ())):
            where = f"{direction}[{number}]"
            inner, mutant = edited(f"{where} to everybody")
            del inner[direction][number][ends]
            yield mutant
            if "ports" in rule:
                inner, mutant = edited(f"{where} at every port")
                del inner[direction][number]["ports"]
                yield mutant
                for entry in range(len(rule["ports"])):
                    inner, mutant = edited(f"{where} without ports[{entry}]")
                    del inner[direction][number]["ports"][entry]
                    if inner[direction][number]["ports"]:
                        yield mutant
                    inner, mutant = edited(f"{where} ports[{entry}] at every number")
                    del inner[direction][number]["ports"][entry]["port"]
                    yield mutant
            for at, peer in enumerate(rule[ends]):
                inner, mutant = edited(f"{where} without {ends}[{at}]")
                del inner[direction][number][ends][at]
                if inner[direction][number][ends]:
                    yield mutant
                for what, change in _wider(peer):
                    inner, mutant = edited(f"{where} {ends}[{at}] {what}")
                    inner[direction][number][ends][at] = change
                    yield mutant


def _wider(peer: Any) -> Iterator[tuple[str, Any]]:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        everything = "0.0.0.0/0" if "." in block["cidr"] else "::/0"
        if block["cidr"] != everything:
            yield "is every address", {"ipBlock": {"cidr": everything}}
        for number, closed in enumerate(block.get("except", ())):
            rest = [item for at, item in enumerate(block["except"]) if at != number]
            yield f"without except {closed}", {"ipBlock": {"cidr": block["cidr"], "except": rest}}
        return
    for part in peer:
        others = {key: value for key, value in peer.items() if key != part}
        if others:
            yield f"without {part}", others
        if peer[part]:
            yield f"any {part}", {**peer, part: {}}


# acme stands for what all tenants have; the others for what they open beside it.
OPENINGS = (names.CHILD_NETWORK_POLICY_EGRESS, names.CHILD_NETWORK_POLICY_INGRESS)
MUTATED = {
    f"{policy['metadata']['namespace']}/{policy['metadata']['name']}": position
    for position, policy in enumerate(policies())
    if policy["metadata"]["namespace"] == "tenant-acme" or policy["metadata"]["name"] in OPENINGS
}


@pytest.mark.parametrize("name", MUTATED)
def test_the_matrix_sees_every_part_that_is_missing_or_wider(name: str) -> None:
    whole = policies()
    policy = whole.pop(MUTATED[name])
    made = list(mutants(policy))
    survivors = {
        what for what, mutant in made if next(wrong_rows([*whole, *([] if mutant is None else [mutant])]), None) is None
    }
    assert len({what for what, _ in made}) == len(made) > 1
    assert survivors <= EQUIVALENT


def test_the_denial_alone_isolates_both_ways() -> None:
    deny = [p for p in policies() if p["metadata"]["name"] == names.CHILD_NETWORK_POLICY_DENY]
    world = World(deny)
    for name in ("acme", "acme-model", "acme-index", "beta", "gamma-model"):
        for peer in ("acme2", "dataplane", "dns", "internet", "other-node"):
            assert world.verdicts(ENDS[name], ENDS[peer], 53)[0] is Verdict.SHUT
            assert world.verdicts(ENDS[peer], ENDS[name], 53)[1] is Verdict.SHUT


RESOLVERS = ("dns", "node-local-dns", "metadata", "private", "internet")
PRESETS = {
    # preset: which of RESOLVERS are open at port 53
    "coredns": (True, False, False, False, False),
    "nodelocal": (True, True, False, False, False),
    "gke-clouddns": (False, False, True, False, False),
    "eks-auto": (True, True, False, True, False),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_dns_presets(preset: str) -> None:
    world = World(policies(platform(shared={"network": {"dns": preset}})))
    for source in ("acme", "acme-model", "beta"):
        for protocol in ("UDP", "TCP"):
            found = tuple(world.allows(ENDS[source], ENDS[name], 53, protocol) for name in RESOLVERS)
            # beta has the internet, with the port that DNS uses too.
            assert found == ((*PRESETS[preset][:4], True) if source == "beta" else PRESETS[preset])
        # Whatever answers DNS, nothing but DNS opens there.
        assert not any(world.allows(ENDS[source], ENDS[name], 80) for name in RESOLVERS[:4])
    # Never a way into another tenant: the other end is shut whatever the preset.
    assert not world.allows(ENDS["acme"], ENDS["beta-as-dns"], 53, "UDP")


def test_eks_auto_uses_the_clusters_ranges_where_they_are_known() -> None:
    known = platform(shared={"network": {"dns": "eks-auto", "clusterCIDRs": ["10.0.0.0/16"]}})
    world = World(policies(known))
    assert world.allows(ENDS["acme"], End("10.0.0.2"), 53, "UDP")
    assert not world.allows(ENDS["acme"], ENDS["private"], 53, "UDP")


@pytest.mark.parametrize("ranges", [[], ["fd00::/8", "10.0.0.0/16"], ["169.0.0.0/8"]])
def test_a_resolver_is_never_looked_for_where_credentials_are_handed_out(ranges: list[str]) -> None:
    world = World(policies(platform(shared={"network": {"dns": "eks-auto", "clusterCIDRs": ranges}})))
    for address in ("169.254.169.254", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23", "100.100.100.200"):
        assert not world.allows(ENDS["acme"], End(address), 53, "UDP"), address


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
    assert list(wrong_rows(policies())) == []


@pytest.mark.parametrize(
    ("ranges", "left"),
    [
        (["0.0.0.0/0"], ["::/0"]),
        (["0.0.0.0/1", "128.0.0.0/1"], ["::/0"]),
        (["::/0"], ["0.0.0.0/0"]),
        (["::/1", "8000::/1", "0.0.0.0/1", "128.0.0.0/1"], []),
        # What is left of it is special anyway.
        (["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"], ["::/0"]),
    ],
)
def test_a_cluster_that_has_every_address_leaves_no_internet(ranges: list[str], left: list[str]) -> None:
    """Without its exceptions the range would be open as a whole."""
    place = Platform(shared=Shared(network=Network(cluster_cidrs=tuple(ranges))))
    spec = network.allow_egress(NETWORKS[BETA], place)
    peers = [] if spec is None else [peer["ipBlock"] for peer in spec["egress"][0]["to"] if "ipBlock" in peer]
    wide = [peer for peer in peers if peer["cidr"].endswith("/0")]
    assert [peer["cidr"] for peer in wide] == left
    assert all(peer["except"] for peer in wide)


def _internet() -> tuple[Any, Any]:
    place = platform(shared={"network": {"clusterCIDRs": list(CLUSTER)}})
    spec = network.allow_egress(NETWORKS[BETA], place)
    assert spec is not None
    peers = spec["egress"][0]["to"]
    return peers[0]["ipBlock"], peers[1]["ipBlock"]


BLOCK4, BLOCK6 = _internet()


@given(st.ip_addresses(v=4))
def test_no_address_that_is_not_global_is_internet(address: ipaddress.IPv4Address) -> None:
    """Against the standard library's reading of the IANA registry."""
    opened = in_block(str(address), BLOCK4)
    assert not (opened and not address.is_global)
    value = int(address)
    # The same address through NAT64 is opened exactly when it is opened itself; as a mapped address never.
    assert in_block(str(ipaddress.IPv6Address((0x64 << 112) | (0xFF9B << 96) | value)), BLOCK6) == opened
    assert not in_block(str(ipaddress.IPv6Address((0xFFFF << 32) | value)), BLOCK6)


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_that_is_not_global_is_internet(address: ipaddress.IPv6Address) -> None:
    assert not (in_block(str(address), BLOCK6) and not address.is_global)
