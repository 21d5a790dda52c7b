"""The evaluator itself, sentence by sentence of the documentation: a matrix is worth what its evaluator is."""

import pytest
import yaml
from tests.operator.tenant.netpol import End, Verdict, World, in_block, policy_types, selects

WEB = End("10.0.0.1", "a", {"app": "web"}, node="n1", ports={"http": (8080, "TCP"), "dns": (53, "UDP")})
DB = End("10.0.0.2", "a", {"app": "db"}, node="n2")
OTHER = End("10.0.0.3", "b", {"app": "web"}, node="n1")
NODE1, NODE2 = End("10.9.0.1", node="n1"), End("10.9.0.2", node="n2")
ON_HOST = End("10.9.0.1", "a", {"app": "web"}, node="n1", host_network=True)
OUTSIDE = End("8.8.8.8")


def world(*specs: str, labels: dict[str, dict[str, str]] | None = None) -> World:
    """Policies in namespace ``a`` from YAML."""
    policies = [{"metadata": {"namespace": "a"}, "spec": yaml.safe_load(spec)} for spec in specs]
    return World(policies, labels or {})


DENY = "{podSelector: {}, policyTypes: [Ingress, Egress]}"


def test_without_a_policy_everything_flows() -> None:
    assert World([]).verdicts(WEB, DB, 1) == (Verdict.NOT_ISOLATED, Verdict.NOT_ISOLATED)
    assert World([]).allows(OUTSIDE, WEB, 1)


def test_a_selected_pod_is_isolated_in_the_policys_directions_only() -> None:
    found = world("{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}")
    assert not found.allows(DB, WEB, 1)
    assert found.allows(WEB, DB, 1)
    assert found.allows(OTHER, DB, 1)
    assert found.allows(DB, OTHER, 1), "a policy reaches no other namespace"


def test_both_ends_must_let_a_flow_through() -> None:
    out = "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{}]}"
    into = "{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: [{}]}"
    assert not world(DENY).allows(WEB, DB, 1)
    assert world(DENY, out).verdicts(WEB, DB, 1) == (Verdict.OPEN, Verdict.SHUT)
    assert world(DENY, into).verdicts(WEB, DB, 1) == (Verdict.SHUT, Verdict.OPEN)
    assert world(DENY, out, into).allows(WEB, DB, 1)


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ("{podSelector: {}}", ["Ingress"]),
        ("{podSelector: {}, ingress: [{}]}", ["Ingress"]),
        ("{podSelector: {}, egress: [{}]}", ["Ingress", "Egress"]),
        ("{podSelector: {}, egress: []}", ["Ingress"]),
        ("{podSelector: {}, policyTypes: [Egress], ingress: [{}]}", ["Egress"]),
    ],
)
def test_policy_types_and_their_default(spec: str, types: list[str]) -> None:
    assert policy_types(yaml.safe_load(spec)) == types


def test_rules_of_a_direction_that_the_policy_does_not_have_open_nothing() -> None:
    assert not world(DENY, "{podSelector: {}, policyTypes: [Egress], ingress: [{}], egress: [{}]}").allows(
        OTHER, WEB, 1
    )


@pytest.mark.parametrize("empty", ["{}", "{from: []}", "{from: [], ports: []}"])
def test_an_empty_list_is_everybody(empty: str) -> None:
    assert world(f"{{podSelector: {{}}, ingress: [{empty}]}}").allows(OUTSIDE, WEB, 1)


@pytest.mark.parametrize(
    ("peer", "from_db", "from_other"),
    [
        ("{podSelector: {}}", True, False),
        ("{podSelector: {matchLabels: {app: web}}}", False, False),
        ("{namespaceSelector: {}}", True, True),
        ("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: b}}}", False, True),
        ("{namespaceSelector: {matchLabels: {team: blue}}}", False, True),
        ("{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: web}}}", False, True),
        ("{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: db}}}", False, False),
        ("{namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}", True, False),
        ("{ipBlock: {cidr: 10.0.0.2/32}}", True, False),
    ],
)
def test_peers(peer: str, from_db: bool, from_other: bool) -> None:
    found = world(f"{{podSelector: {{}}, ingress: [{{from: [{peer}]}}]}}", labels={"b": {"team": "blue"}})
    assert (found.allows(DB, WEB, 1), found.allows(OTHER, WEB, 1)) == (from_db, from_other)
    assert not found.allows(OUTSIDE, WEB, 1)


def test_two_selectors_in_one_peer_are_both_needed_and_in_two_peers_either() -> None:
    blue, database = "namespaceSelector: {matchLabels: {team: blue}}", "podSelector: {matchLabels: {app: db}}"
    labels = {"b": {"team": "blue"}}
    both = world(f"{{podSelector: {{}}, ingress: [{{from: [{{{blue}, {database}}}]}}]}}", labels=labels)
    either = world(f"{{podSelector: {{}}, ingress: [{{from: [{{{blue}}}, {{{database}}}]}}]}}", labels=labels)
    assert [both.allows(DB, WEB, 1), both.allows(OTHER, WEB, 1)] == [False, False]
    assert [either.allows(DB, WEB, 1), either.allows(OTHER, WEB, 1)] == [True, True]


def test_a_namespaces_name_is_not_its_admins_to_set() -> None:
    peer = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: sys}}}"
    found = world(
        f"{{podSelector: {{}}, ingress: [{{from: [{peer}]}}]}}",
        labels={"b": {"kubernetes.io/metadata.name": "sys"}},
    )
    assert not found.allows(OTHER, WEB, 1)


@pytest.mark.parametrize(
    ("ports", "port", "protocol", "open_"),
    [
        ("[{port: 80}]", 80, "TCP", True),
        ("[{port: 80}]", 80, "UDP", False),
        ("[{port: 80}]", 81, "TCP", False),
        ("[{port: 80, protocol: UDP}]", 80, "UDP", True),
        ("[{protocol: UDP}]", 9999, "UDP", True),
        ("[{protocol: UDP}]", 9999, "TCP", False),
        ("[{port: 80, endPort: 90}]", 90, "TCP", True),
        ("[{port: 80, endPort: 90}]", 91, "TCP", False),
        ("[{port: 80, endPort: 90}]", 79, "TCP", False),
        ("[{port: http}]", 8080, "TCP", True),
        ("[{port: http}]", 8081, "TCP", False),
        ("[{port: dns}]", 53, "TCP", False),
        ("[{port: dns, protocol: UDP}]", 53, "UDP", True),
        ("[{port: none}]", 8080, "TCP", False),
        ("[{port: 1}, {port: 2}]", 2, "TCP", True),
        ("[]", 7, "TCP", True),
        ("[{port: 80, protocol: SCTP}]", 80, "SCTP", True),
    ],
)
def test_ports(ports: str, port: int, protocol: str, open_: bool) -> None:
    assert world(f"{{podSelector: {{}}, ingress: [{{ports: {ports}}}]}}").allows(DB, WEB, port, protocol) is open_


def test_a_named_port_is_the_targets_at_egress_too() -> None:
    found = world("{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}")
    assert found.allows(DB, WEB, 8080)
    assert not found.allows(WEB, DB, 8080), "that pod has no port of this name"


def test_ports_and_peers_of_one_rule_are_both_needed() -> None:
    rule = "{from: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 80}]}"
    found = world(f"{{podSelector: {{}}, ingress: [{rule}]}}")
    assert [found.allows(DB, WEB, 80), found.allows(DB, WEB, 81), found.allows(OTHER, WEB, 80)] == [True, False, False]


def test_policies_add_up_and_none_takes_away() -> None:
    one = "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"
    two = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 8.8.8.8/32}}]}]}"
    found = world(one, DENY, two)
    assert found.verdicts(OUTSIDE, WEB, 1) == (Verdict.NOT_ISOLATED, Verdict.OPEN)
    assert found.verdicts(DB, WEB, 1)[1] is Verdict.OPEN


def test_a_pod_its_own_node_and_the_others() -> None:
    found = world(DENY)
    assert found.verdicts(NODE1, WEB, 8080) == (Verdict.NOT_ISOLATED, Verdict.OWN_NODE)
    assert found.allows(WEB, NODE1, 10250)
    assert not found.allows(NODE2, WEB, 8080)
    assert not found.allows(WEB, NODE2, 10250)
    assert found.allows(WEB, WEB, 8080)
    assert not found.allows(OTHER, WEB, 8080), "a pod on the same node is not the node"


def test_a_pod_on_the_hosts_network_is_its_node() -> None:
    found = world(DENY, "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}")
    assert found.allows(OTHER, ON_HOST, 1), "no policy selects it"
    assert found.allows(ON_HOST, WEB, 1), "it is web's own node"
    assert not found.allows(ON_HOST, DB, 1), "no selector matches it"
    by_address = world(DENY, "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.9.0.0/24}}]}]}")
    assert by_address.allows(ON_HOST, DB, 1)


@pytest.mark.parametrize(
    ("address", "inside"),
    [("10.1.2.3", True), ("10.1.9.1", False), ("11.0.0.1", False), ("::ffff:10.1.2.3", False)],
)
def test_blocks(address: str, inside: bool) -> None:
    assert in_block(address, {"cidr": "10.0.0.0/8", "except": ["10.1.9.0/24"]}) is inside


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("{}", True),
        ("{matchLabels: {a: x}}", True),
        ("{matchLabels: {a: x, b: y}}", False),
        ("{matchExpressions: [{key: a, operator: In, values: [x, y]}]}", True),
        ("{matchExpressions: [{key: b, operator: In, values: [x]}]}", False),
        ("{matchExpressions: [{key: a, operator: NotIn, values: [x]}]}", False),
        ("{matchExpressions: [{key: b, operator: NotIn, values: [x]}]}", True),
        ("{matchExpressions: [{key: a, operator: Exists}]}", True),
        ("{matchExpressions: [{key: a, operator: DoesNotExist}]}", False),
        ("{matchLabels: {a: x}, matchExpressions: [{key: b, operator: Exists}]}", False),
    ],
)
def test_selectors(selector: str, selected: bool) -> None:
    assert selects(yaml.safe_load(selector), {"a": "x"}) is selected


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("{podSelector: {}, policyTypes: [Inwards], ingress: [{}]}", "unknown policy types"),
        ("{podSelector: {}, surprise: 1}", "not understood"),
        ("{podSelector: {}, ingress: [{to: []}]}", "not understood"),
        ("{podSelector: {}, ingress: [{from: [{}]}]}", "a peer is"),
        ("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}", "a peer is"),
        ("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]}]}", "strictly"),
        ("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}", "strictly"),
        ("{podSelector: {}, ingress: [{ports: [{port: http, endPort: 90}]}]}", "endPort"),
        ("{podSelector: {}, ingress: [{ports: [{port: 90, endPort: 80}]}]}", "endPort"),
        ("{podSelector: {matchExpressions: [{key: a, operator: Near}]}}", "unknown operator"),
        ("{podSelector: {matchExpressions: [{key: a, operator: In}]}}", "do not go together"),
    ],
)
def test_what_the_api_server_refuses_is_not_evaluated(spec: str, why: str) -> None:
    made = world(spec)
    with pytest.raises(ValueError, match=why):
        made.allows(DB, WEB, 1)
