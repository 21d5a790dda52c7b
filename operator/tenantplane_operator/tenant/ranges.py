"""Which addresses a tenant's pods may be let out to: the address arithmetic behind the egress policy.

Guarantees that ``internet`` never reaches private, carrier, link-local (cloud metadata), cluster or other special
addresses, written as IPv4, as IPv6 or as IPv4 inside IPv6, and that a listed range never reaches the ones that hand
out credentials, nor a private one while nobody has said which of them are the cluster's. Says nothing about names:
NetworkPolicies see addresses only.

Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries; RFC 6052 (NAT64).
"""

import functools
import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RangeError(ValueError):
    """Raise when a range must not be opened; the message says why and what to do."""


def _v4(*texts: str) -> tuple[ipaddress.IPv4Network, ...]:
    return tuple(ipaddress.IPv4Network(text) for text in texts)


def _v6(*texts: str) -> tuple[ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.IPv6Network(text) for text in texts)


PRIVATE: Final[tuple[Network, ...]] = (
    *_v4("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
    *_v6("fc00::/7"),
)
"""Private and carrier ranges: where clusters, nodes and company networks live."""

_NEVER_V4: Final = _v4(
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "192.0.0.0/24",
    "100.100.100.200/32",  # metadata on Alibaba Cloud
    "168.63.129.16/32",  # Azure's WireServer: a public address that hands out machines' secrets
)
_OTHER_V4: Final = _v4("192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def _in_nat64(networks: Iterable[Network]) -> tuple[ipaddress.IPv6Network, ...]:
    """The same IPv4 ranges as a NAT64 gateway is asked for them: RFC 6052, prefix 64:ff9b::/96."""
    return tuple(
        ipaddress.IPv6Network((int(_NAT64.network_address) + int(network.network_address), 96 + network.prefixlen))
        for network in networks
        if isinstance(network, ipaddress.IPv4Network)
    )


_NEVER_V6: Final = (
    *_v6(
        # Unspecified, loopback, IPv4-compatible and IPv4-mapped: the host would take the last as IPv4. The API server
        # refuses ::ffff:0:0/96 by itself in a policy; nothing else is allocated in ::/64.
        "::/64",
        "64:ff9b:1::/48",  # local-use NAT64: may lead to any IPv4 address
        "2001::/32",  # Teredo, IPv4 inside
        "2002::/16",  # 6to4, IPv4 inside
        "fd00:ec2::/32",  # metadata and Pod Identity credentials on EC2
        "fd20:ce::254/128",  # metadata on Google Cloud, Oracle Cloud and Scaleway
        "fd00:c1::a9fe:a9fe/128",
        "fd00:42::42/128",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ),
    *_in_nat64(_NEVER_V4),
)
_OTHER_V6: Final = _v6("100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16")

NEVER: Final[tuple[Network, ...]] = (*_NEVER_V4, *_NEVER_V6)
"""No tenant is let out to these, whoever asks: loopback, link-local, metadata services, multicast, tunnels."""


def _collapsed(networks: Iterable[Network]) -> list[Network]:
    """Without overlaps, IPv4 first, in order: so that the same ranges always give the same policy."""
    found = list(networks)
    return [
        *ipaddress.collapse_addresses(n for n in found if isinstance(n, ipaddress.IPv4Network)),
        *ipaddress.collapse_addresses(n for n in found if isinstance(n, ipaddress.IPv6Network)),
    ]


def cluster_networks(cidrs: Iterable[str]) -> tuple[Network, ...]:
    """The platform's own ranges, which the Platform file's reader has checked."""
    return tuple(ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)


def internet(cluster: Sequence[Network]) -> list[dict[str, object]]:
    """NetworkPolicy ``ipBlock`` of each address family that has an internet: everything, except what is not it.

    A family all of which is the cluster's own has none. Its exception would be as large as its range, which
    Kubernetes does not take, and without the exception everything would be open.
    """
    return [
        {"cidr": every, "except": list(closed)}
        for every, closed in zip(("0.0.0.0/0", "::/0"), _not_internet(tuple(cluster)), strict=True)
        if closed is not None
    ]


@functools.lru_cache(maxsize=8)
def _not_internet(cluster: tuple[Network, ...]) -> tuple[tuple[str, ...] | None, ...]:
    # Of IPv4 and of IPv6; ``None`` for all of it. The same for all tenants of a platform, and milliseconds of work.
    embedded = _in_nat64((*PRIVATE, *_OTHER_V4, *cluster))
    everything = _collapsed((*PRIVATE, *_OTHER_V4, *_OTHER_V6, *NEVER, *embedded, *cluster))
    families = ([n for n in everything if n.version == version] for version in (4, 6))
    return tuple(None if any(n.prefixlen == 0 for n in family) else tuple(map(str, family)) for family in families)


def block(network: Network) -> dict[str, object]:
    """A NetworkPolicy's ``ipBlock`` of a range without what no tenant is let out to."""
    closed = [
        str(n) for n in _collapsed(NEVER) if n != network and n.version == network.version and _within(n, network)
    ]
    return {"cidr": str(network), **({"except": closed} if closed else {})}


def _within(inner: Network, outer: Network) -> bool:
    return _overlap(inner, outer) and inner.prefixlen >= outer.prefixlen


def checked_range(text: str, cluster: Sequence[Network]) -> str:
    """A listed egress range in canonical form.

    Args:
        text: what the Tenant says, such as ``203.0.113.0/24``.
        cluster: the platform's own ranges.

    Raises:
        RangeError: it is no range, or holds addresses that no tenant is let out to.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise RangeError("is not an address range: write it as 203.0.113.0/24") from None
    if "/" not in text:
        raise RangeError(f"is not an address range: write it as {network}")
    if network.prefixlen == 0:
        raise RangeError("is every address: use `internet: true`, which leaves private and cluster addresses closed")
    for never in NEVER:
        if _overlap(network, never):
            raise RangeError(
                f"holds addresses of {never} (loopback, link-local, metadata or other special addresses), which no "
                "tenant may reach: list narrower ranges"
            )
    for own in (*cluster, *_in_nat64(cluster)):
        if _overlap(network, own):
            raise RangeError(
                f"overlaps the cluster's own range {own}: name in-cluster targets under `egress.namespaces` instead"
            )
    if not cluster and any(_overlap(network, private) for private in (*PRIVATE, *_in_nat64(PRIVATE))):
        raise RangeError(
            "is private, and nobody has said which private addresses are the cluster's own: ask the platform team to "
            "set shared.network.clusterCIDRs (pods, Services and nodes)"
        )
    return str(network)


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)
