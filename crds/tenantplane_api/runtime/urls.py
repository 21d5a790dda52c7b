"""Which outside hosts a tenant's YAML may name: the pure half of the defence against server-side request forgery.

Checked when a ModelDeployment is compiled and again by the data plane before it connects, which also checks the
*address* (``address_allowed``), because a permitted name may resolve to a private address.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from tenantplane_api.runtime import limits
from tenantplane_api.runtime.platform import ExternalHost

_INTERNAL_SUFFIXES: Final = (".svc", ".cluster.local", ".internal", ".local", ".localhost")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class UrlNotAllowedError(ValueError):
    """Raise when a URL must not be used; the message says why and what to do."""


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def find_rule(url: str, rules: Sequence[ExternalHost]) -> ExternalHost:
    """The platform's rule that lets ``url`` through.

    Args:
        url: base URL from a ModelDeployment.
        rules: ``shared.externalHosts`` of the Platform file; the first rule that matches decides.

    Raises:
        UrlNotAllowedError: malformed, with credentials, query or fragment, or no rule permits it.
    """
    if len(url) > limits.URL_MAX or any(c.isspace() or not c.isprintable() or c == "\\" for c in url):
        raise UrlNotAllowedError("the URL is malformed")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise UrlNotAllowedError("the URL is malformed") from None
    if parts.scheme not in ("http", "https") or not host:
        raise UrlNotAllowedError("the URL must be http(s)://host[:port]/path")
    if parts.username is not None or parts.query or parts.fragment:
        raise UrlNotAllowedError("the URL must not hold credentials, a query or a fragment: use auth.secretRef")
    for rule in rules:
        if not _matches(host, rule.host):
            continue
        # A wildcard is for public names: an address, or a name inside the cluster, must be listed as itself.
        private_name = _is_ip(host) or "." not in host or host.endswith(_INTERNAL_SUFFIXES)
        if private_name and rule.host.startswith("*") and not rule.private:
            continue
        if parts.scheme == "http" and not rule.http:
            raise UrlNotAllowedError(f"{host} must be reached by https (the platform's rule {rule.host!r} has no http)")
        if rule.ports and (port or {"http": 80, "https": 443}[parts.scheme]) not in rule.ports:
            raise UrlNotAllowedError(f"the port is not among those the platform allows for {rule.host!r}")
        return rule
    raise UrlNotAllowedError(f"host {host} is not among the platform's shared.externalHosts: ask the platform team")


def _matches(host: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return host.endswith(pattern[1:].lower()) and len(host) > len(pattern) - 1
    return host == pattern.lower()


def address_allowed(address: str, rule: ExternalHost) -> bool:
    """True when a resolved address may be connected to under ``rule``.

    Only globally routable unicast addresses, unless the rule says ``private``; link-local (cloud metadata) never.
    IPv4 addresses embedded in IPv6 are judged as IPv4.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip.sixtofour is not None:
            ip = ip.sixtofour
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or str(ip) == "fd00:ec2::254":
        return False
    return rule.private or ip.is_global
