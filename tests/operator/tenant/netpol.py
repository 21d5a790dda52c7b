"""A small evaluator of NetworkPolicies: what the API's documentation says a flow may do, over plain manifests.

Source: Kubernetes API reference, NetworkPolicy v1. A pod is isolated in a direction as soon as one policy selects it
for that direction; then a flow needs one rule that permits it, at both ends. ``ipBlock`` is matched against pods'
addresses too: plugins differ there, and a fence must hold under the wider reading. What is not understood raises.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class End:
    """One end of a flow: a pod (``namespace`` set) or an address outside."""

    address: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """All policies, and labels of namespaces beyond ``kubernetes.io/metadata.name``."""

    policies: Sequence[Mapping[str, Any]]
    namespace_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def allows(self, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
        """True when both ends let the flow through."""
        return self._end_allows("Egress", source, target, port, protocol) and self._end_allows(
            "Ingress", target, source, port, protocol
        )

    def _end_allows(self, direction: str, own: End, peer: End, port: int, protocol: str) -> bool:
        if own.namespace is None:
            return True
        selecting = [
            policy["spec"]
            for policy in self.policies
            if policy["metadata"]["namespace"] == own.namespace
            and direction in policy["spec"]["policyTypes"]
            and selects(policy["spec"]["podSelector"], own.labels)
        ]
        if not selecting:
            return True
        peers, ends = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        return any(
            self._rule_allows(rule, ends, own.namespace, peer, port, protocol)
            for spec in selecting
            for rule in spec.get(peers, ())
        )

    def _rule_allows(self, rule: Mapping[str, Any], ends: str, home: str, peer: End, port: int, protocol: str) -> bool:
        _only(rule, ends, "ports")
        ports = rule.get("ports")
        if ports is not None and not any(p["port"] == port and p["protocol"] == protocol for p in ports):
            return False
        peers = rule.get(ends)
        # An absent or empty list of peers is everybody: the classic slip.
        return not peers or any(self._peer_matches(item, home, peer) for item in peers)

    def _peer_matches(self, item: Mapping[str, Any], home: str, peer: End) -> bool:
        _only(item, "ipBlock", "namespaceSelector", "podSelector")
        if "ipBlock" in item:
            return in_block(peer.address, item["ipBlock"])
        if peer.namespace is None:
            return False
        if "namespaceSelector" in item:
            labels = {"kubernetes.io/metadata.name": peer.namespace, **self.namespace_labels.get(peer.namespace, {})}
            if not selects(item["namespaceSelector"], labels):
                return False
        elif peer.namespace != home:
            return False
        return selects(item.get("podSelector", {}), peer.labels)


def in_block(address: str, block: Mapping[str, Any]) -> bool:
    """True when the address is in the block and in none of its exceptions."""
    _only(block, "cidr", "except")
    ip = ipaddress.ip_address(address)
    inside = ip in ipaddress.ip_network(block["cidr"])
    return inside and not any(ip in ipaddress.ip_network(item) for item in block.get("except", ()))


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Label selector semantics; an empty selector selects everything."""
    _only(selector, "matchLabels", "matchExpressions")
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_expression(item, labels) for item in selector.get("matchExpressions", ()))


def _expression(item: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
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
