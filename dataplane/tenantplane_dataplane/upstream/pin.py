"""Where a connection may go, decided when it is made.

A model's URL was checked when it was compiled, but a name may resolve to another address later (DNS rebinding), so
the rules are asked again for every request's URL and for every address that its name resolves to. Guarantees that a
socket is opened only to an address that the platform's rule for that host permits; numeric hosts, which aiohttp
connects to without a resolver, are judged in ``check_url``.
"""

import asyncio
import functools
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from tenantplane_api.runtime.platform import ExternalHost
from tenantplane_api.runtime.urls import UrlNotAllowedError, address_allowed, find_rule


class AddressNotAllowedError(OSError):
    """Raise when a permitted name resolves to no permitted address."""


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


class Pinner:
    """The platform's ``shared.externalHosts``, as decisions."""

    def __init__(self, rules: Sequence[ExternalHost]) -> None:
        self._rules = tuple(rules)
        # Documents are few and repeat for every request; the rules never change in a process.
        self._check = functools.lru_cache(maxsize=4096)(self._check_uncached)

    def check_url(self, url: str) -> None:
        """Require that a rule permits ``url`` and, when its host is an address, that address.

        Raises:
            UrlNotAllowedError: it does not.
        """
        problem = self._check(url)
        if problem is not None:
            raise UrlNotAllowedError(problem)

    def _check_uncached(self, url: str) -> str | None:
        try:
            rule = find_rule(url, self._rules)
        except UrlNotAllowedError as error:
            return str(error)
        host = (urlsplit(url).hostname or "").rstrip(".")
        if _literal(host) and not address_allowed(host, rule):
            return "the address is not permitted by the platform's rule"
        return None

    def permitted(self, host: str, port: int, addresses: Sequence[str]) -> list[str]:
        """Those of ``addresses`` that ``host`` may lead to."""
        name = f"[{host}]" if ":" in host else host
        try:
            # The scheme was judged with the URL; which rule matches depends on the host alone.
            rule = find_rule(f"https://{name}:{port}", self._rules)
        except UrlNotAllowedError:
            return []
        return [address for address in addresses if address_allowed(address, rule)]


class PinnedResolver(AbstractResolver):
    """aiohttp's resolver seam: the system's resolver, less the addresses that the rules forbid."""

    def __init__(self, pinner: Pinner) -> None:
        self._pinner = pinner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Permitted addresses of ``host``.

        Raises:
            AddressNotAllowedError: it resolves, but to nothing permitted.
            OSError: it does not resolve.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
        permitted = set(self._pinner.permitted(host, port, [str(info[4][0]) for info in found]))
        results = [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=family_,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family_, _, proto, _, address in found
            if str(address[0]) in permitted
        ]
        if not results:
            raise AddressNotAllowedError("the host resolves to no permitted address")
        return results

    async def close(self) -> None:
        """Nothing is held."""
