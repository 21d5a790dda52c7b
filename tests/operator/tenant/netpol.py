"""An evaluator of NetworkPolicies: what the API's documentation says a flow may do, over plain manifests.

Sources: Kubernetes API reference, NetworkPolicy v1; concepts page "Network Policies". A pod is isolated in a direction
as soon as one policy selects it for that direction; then a flow needs one rule that permits it, at both ends. Policies
add up. A pod is always reached from its own node, and always reaches it, and itself. Pods on the host's network are
nodes to a policy: neither selected by it nor matched by its selectors. ``ipBlock`` is matched against pods' addresses
too: plugins differ there, and a fence must hold under the wider reading. What is not understood raises.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class End:
    """One end of a flow: a pod (``namespace`` set), a node (``node`` alone) or an address outside.

    ``ports`` are the named ports of a pod's containers: name to number and protocol.
    """

    address: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    node: str | None = None
    host_network: bool = False
    ports: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def selectable(self) -> bool:
        """True when policies see a pod here and not only an address."""
        return self.namespace is not None and not self.host_network


class Verdict(StrEnum):
    """What the policies at one end say."""

    OPEN = "open"
    SHUT = "shut"
    NOT_ISOLATED = "-"
    """No policy selects this end in this direction, or it is none that a policy can select."""
    OWN_NODE = "node"
    """Between a pod and its own node, or itself: no policy stands there."""


@dataclass(frozen=True)
class World:
    """All policies, and labels of namespaces beyond ``kubernetes.io/metadata.name``."""

    policies: Sequence[Mapping[str, Any]]
    namespace_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def allows(self, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
        """True when both ends let the flow through."""
        return Verdict.SHUT not in self.verdicts(source, target, port, protocol)

    def verdicts(self, source: End, target: End, port: int, protocol: str = "TCP") -> tuple[Verdict, Verdict]:
        """What the source's egress and the target's ingress say."""
        return (
            self._verdict("Egress", source, target, target, port, protocol),
            self._verdict("Ingress", target, source, target, port, protocol),
        )

    def _verdict(self, direction: str, own: End, peer: End, target: End, port: int, protocol: str) -> Verdict:
        if not own.selectable:
            return Verdict.NOT_ISOLATED
        if own == peer or (own.node is not None and own.node == peer.node and not peer.selectable):
            return Verdict.OWN_NODE
        selecting = [
            policy["spec"]
            for policy in self.policies
            if policy["metadata"]["namespace"] == own.namespace
            and direction in policy_types(policy["spec"])
            and selects(policy["spec"]["podSelector"], own.labels)
        ]
        if not selecting:
            return Verdict.NOT_ISOLATED
        rules, ends = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        permitted = any(
            self._rule_allows(rule, ends, str(own.namespace), peer, target, port, protocol)
            for spec in selecting
            for rule in spec.get(rules) or ()
        )
        return Verdict.OPEN if permitted else Verdict.SHUT

    def _rule_allows(
        self, rule: Mapping[str, Any], ends: str, home: str, peer: End, target: End, port: int, protocol: str
    ) -> bool:
        _only(rule, ends, "ports")
        ports = rule.get("ports")
        # An absent or empty list is every port, and everybody: the classic slip.
        if ports and not any(port_matches(item, target, port, protocol) for item in ports):
            return False
        peers = rule.get(ends)
        return not peers or any(self._peer_matches(item, home, peer) for item in peers)

    def _peer_matches(self, item: Mapping[str, Any], home: str, peer: End) -> bool:
        _only(item, "ipBlock", "namespaceSelector", "podSelector")
        if not item or ("ipBlock" in item and len(item) > 1):
            raise ValueError("a peer is an ipBlock, or selectors")
        if "ipBlock" in item:
            return in_block(peer.address, item["ipBlock"])
        if not peer.selectable:
            return False
        if "namespaceSelector" in item:
            # Of the first label no namespace can have another value: the API server sets it.
            extra = self.namespace_labels.get(str(peer.namespace), {})
            if not selects(item["namespaceSelector"], {**extra, "kubernetes.io/metadata.name": str(peer.namespace)}):
                return False
        elif peer.namespace != home:
            return False
        return selects(item.get("podSelector") or {}, peer.labels)


def policy_types(spec: Mapping[str, Any]) -> Sequence[str]:
    """Directions of a policy; unset means Ingress, and Egress when there are egress rules."""
    _only(spec, "podSelector", "policyTypes", "ingress", "egress")
    types: Sequence[str] = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    if not set(types) <= {"Ingress", "Egress"}:
        raise ValueError(f"unknown policy types {types}")
    return types


def port_matches(item: Mapping[str, Any], target: End, port: int, protocol: str) -> bool:
    """One entry of a rule's ports; a name means what the target's containers call so."""
    _only(item, "port", "endPort", "protocol")
    wanted, last = item.get("port"), item.get("endPort")
    if last is not None and (not isinstance(wanted, int) or last < wanted):
        raise ValueError("endPort needs a number before it that is not larger")
    if item.get("protocol", "TCP") != protocol:
        return False
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return target.ports.get(wanted) == (port, protocol)
    return int(wanted) <= port <= int(wanted if last is None else last)


@cache
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


@cache
def _network(text: str) -> Network:
    return ipaddress.ip_network(text)


def in_block(address: str, block: Mapping[str, Any]) -> bool:
    """True when the address is in the block and in none of its exceptions."""
    _only(block, "cidr", "except")
    ip, whole = _address(address), _network(block["cidr"])
    closed = [_network(item) for item in block.get("except") or ()]
    if any(net.version != whole.version or net == whole or not _inside(net, whole) for net in closed):
        raise ValueError("an exception must lie strictly within its range")
    return ip in whole and not any(ip in net for net in closed)


def _inside(inner: Network, outer: Network) -> bool:
    return inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Label selector semantics; an empty selector selects everything, and all requirements must hold."""
    _only(selector, "matchLabels", "matchExpressions")
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(item, labels) for item in selector.get("matchExpressions") or ())


def _expression(item: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    _only(item, "key", "operator", "values")
    needs_values = item["operator"] in ("In", "NotIn")
    if needs_values is not bool(item.get("values")):
        raise ValueError(f"{item['operator']} and values do not go together")
    match item["operator"]:
        case "Exists":
            return item["key"] in labels
        case "DoesNotExist":
            return item["key"] not in labels
        case "In":
            return labels.get(item["key"]) in item["values"]
        case "NotIn":
            return labels.get(item["key"]) not in item["values"]
    raise ValueError(f"unknown operator {item['operator']}")


def _only(part: Mapping[str, Any], *keys: str) -> None:
    unknown = set(part) - set(keys)
    if unknown:
        raise ValueError(f"not understood: {sorted(unknown)}")
