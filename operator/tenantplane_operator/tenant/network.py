"""NetworkPolicies around a tenant's namespace.

Guarantees, where the cluster enforces NetworkPolicies: nothing enters or leaves but what is listed here, DNS included,
and pods that carry our ``component`` label (models) are reached by the data plane only, not by the tenant's own pods.
Other namespaces are selected by ``kubernetes.io/metadata.name``, which no tenant can set (capsule#200). NetworkPolicies
add up, so each opening is a policy of its own that can be pruned alone. They do not bind pods on the host's network;
Pod Security keeps tenants off it.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.tenant import ranges
from tenantplane_operator.tenant.effective import EffectiveNetwork
from tenantplane_operator.tenant.manifest import Manifest, Owner, metadata

_ALL_PODS: Final[Mapping[str, Any]] = {}
# The tenant fence lets nobody but us set the component label, so a tenant's pod cannot pose as a model, nor a model's
# port be opened to a tenant's pod.
_TENANT_PODS: Final[Mapping[str, Any]] = {
    "matchExpressions": [{"key": names.LABEL_COMPONENT, "operator": "DoesNotExist"}]
}
_MODEL_PODS: Final[Mapping[str, Any]] = {"matchExpressions": [{"key": names.LABEL_MODEL, "operator": "Exists"}]}
_DNS_PORTS: Final = ({"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"})

_KUBE_DNS: Final[Mapping[str, Any]] = {
    "namespaceSelector": {"matchLabels": {names.LABEL_NAMESPACE_NAME: "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
_NODE_LOCAL: Final = ipaddress.IPv4Network("169.254.20.10/32")
_METADATA_SERVER: Final = ipaddress.IPv4Network("169.254.169.254/32")


def network_policies(
    owner: Owner, namespace: str, *, network: EffectiveNetwork, platform: Platform
) -> tuple[Manifest, ...]:
    """All policies of a tenant's namespace, the denial first."""
    policies = (
        (names.CHILD_NETWORK_POLICY_DENY, deny_all()),
        (names.CHILD_NETWORK_POLICY_DNS, allow_dns(platform)),
        (names.CHILD_NETWORK_POLICY_SAME_NAMESPACE, allow_same_namespace()),
        (names.CHILD_NETWORK_POLICY_DATAPLANE, allow_to_dataplane(platform)),
        (names.CHILD_NETWORK_POLICY_MODELS, allow_dataplane_to_models(platform)),
        (names.CHILD_NETWORK_POLICY_EGRESS, allow_egress(network, platform)),
        (names.CHILD_NETWORK_POLICY_INGRESS, allow_ingress(network)),
    )
    return tuple(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata(owner, name=name, namespace=namespace, component=names.COMPONENT_FENCE),
            "spec": spec,
        }
        for name, spec in policies
        if spec is not None
    )


def _copy(selector: Mapping[str, Any]) -> dict[str, Any]:
    """A selector of its own for each manifest, so that no two share a mutable part."""
    return {
        key: [dict(item) for item in value] if isinstance(value, list) else dict(value)
        for key, value in selector.items()
    }


def _in_namespace(name: str, pods: Mapping[str, str] | None = None) -> dict[str, Any]:
    peer: dict[str, Any] = {"namespaceSelector": {"matchLabels": {names.LABEL_NAMESPACE_NAME: name}}}
    if pods is not None:
        peer["podSelector"] = {"matchLabels": dict(pods)}
    return peer


def deny_all() -> dict[str, Any]:
    """Every pod is isolated both ways; what follows only adds openings."""
    return {"podSelector": _copy(_ALL_PODS), "policyTypes": ["Ingress", "Egress"]}


def allow_dns(platform: Platform) -> dict[str, Any]:
    """Port 53 of the cluster's resolver, by the platform's preset.

    ``coredns``: the pods behind ``kube-dns``. ``nodelocal``: those, and NodeLocal DNSCache's own address.
    ``gke-clouddns``: Cloud DNS answers at the metadata server's address; only its port 53 opens, not the metadata.
    ``eks-auto``: CoreDNS runs on each node outside pods, so it can be selected by address only: the cluster's ranges
    where the platform names them, else the private ranges; never a public resolver, which would be a tunnel out.
    """
    network = platform.shared.network
    cluster = ranges.cluster_networks(network.cluster_cidrs)
    blocks: Sequence[ranges.Network]
    match network.dns:
        case "coredns":
            pods, blocks = True, ()
        case "nodelocal":
            pods, blocks = True, (_NODE_LOCAL,)
        case "gke-clouddns":
            pods, blocks = False, (_METADATA_SERVER,)
        case "eks-auto":
            pods, blocks = False, (_NODE_LOCAL, *(cluster or ranges.PRIVATE))
    peers = [{key: _copy(value) for key, value in _KUBE_DNS.items()}] if pods else []
    return {
        "podSelector": _copy(_ALL_PODS),
        "policyTypes": ["Egress"],
        "egress": [
            {
                "to": [*peers, *({"ipBlock": ranges.block(network)} for network in blocks)],
                "ports": [dict(port) for port in _DNS_PORTS],
            }
        ],
    }


def allow_same_namespace() -> dict[str, Any]:
    """The tenant's own pods among themselves; models on neither side."""
    peer = {"podSelector": _copy(_TENANT_PODS)}
    return {
        "podSelector": _copy(_TENANT_PODS),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [peer]}],
        "egress": [{"to": [{"podSelector": _copy(_TENANT_PODS)}]}],
    }


def allow_to_dataplane(platform: Platform) -> dict[str, Any]:
    """The tenant's pods may call ``/v1`` and ``/chat``: the data plane's public port, not its internal one."""
    address = platform.shared.dataplane
    return {
        "podSelector": _copy(_TENANT_PODS),
        "policyTypes": ["Egress"],
        "egress": [
            {
                "to": [_in_namespace(platform.shared.namespaces.system, address.pod_labels)],
                "ports": [{"port": address.port, "protocol": "TCP"}],
            }
        ],
    }


def allow_dataplane_to_models(platform: Platform) -> dict[str, Any]:
    """The data plane may reach model pods; nobody else may, because an engine's own API guards only part of itself."""
    address = platform.shared.dataplane
    return {
        "podSelector": _copy(_MODEL_PODS),
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [_in_namespace(platform.shared.namespaces.system, address.pod_labels)]}],
    }


def allow_egress(network: EffectiveNetwork, platform: Platform) -> dict[str, Any] | None:
    """What the Tenant opens towards the outside; ``None`` when nothing."""
    peers: list[dict[str, Any]] = []
    if network.internet:
        own = ranges.cluster_networks(platform.shared.network.cluster_cidrs)
        peers += [{"ipBlock": every} for every in ranges.internet(own)]
    peers += [{"ipBlock": {"cidr": cidr}} for cidr in network.egress_cidrs]
    peers += [_in_namespace(name) for name in network.egress_namespaces]
    if not peers:
        return None
    return {"podSelector": _copy(_TENANT_PODS), "policyTypes": ["Egress"], "egress": [{"to": peers}]}


def allow_ingress(network: EffectiveNetwork) -> dict[str, Any] | None:
    """Namespaces that the Tenant lets in; ``None`` when there is none."""
    if not network.ingress_namespaces:
        return None
    peers = [_in_namespace(name) for name in network.ingress_namespaces]
    return {"podSelector": _copy(_TENANT_PODS), "policyTypes": ["Ingress"], "ingress": [{"from": peers}]}
