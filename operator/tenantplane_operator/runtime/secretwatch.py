"""Watches Secrets of one namespace by metadata only.

kopf watches either the whole cluster or fixed namespaces; we have no right to all Secrets, and want none. Feeds the
cache with metadata, so that no Secret's content is ever in it. Gaps are the resync's business: this only makes
deletions and foreign edits known at once.
"""

import asyncio
import logging

import aiohttp
import msgspec

from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.resources import key_of, resource_of

logger = logging.getLogger(__name__)

_ACCEPT = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_LINE_MAX = 1 << 20
_SILENCE = 90.0


async def watch_secrets(api: KubeApi, cache: Cache, namespace: str, label_selector: str) -> None:
    """Watch until cancelled; a broken stream is opened again from now on, without a list."""
    resource = resource_of("Secret")
    params = {"watch": "true", "allowWatchBookmarks": "true", "labelSelector": label_selector}
    while True:
        try:
            async with api.session.get(
                api.server + resource.path(namespace),
                params=params,
                headers={"Accept": _ACCEPT},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SILENCE),
                read_bufsize=_LINE_MAX,
            ) as response:
                if response.status != 200:
                    logger.warning("watching Secrets in %s: the API server answered %d", namespace, response.status)
                else:
                    async for line in response.content:
                        _take(cache, line)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, msgspec.DecodeError):
            pass
        await asyncio.sleep(1.0)


def _take(cache: Cache, line: bytes) -> None:
    event = msgspec.json.decode(line)
    obj = event.get("object") or {}
    if event.get("type") in ("ADDED", "MODIFIED"):
        obj["apiVersion"], obj["kind"] = "v1", "Secret"
        cache.put(obj)
    elif event.get("type") == "DELETED":
        obj["apiVersion"], obj["kind"] = "v1", "Secret"
        cache.remove(key_of(obj), obj)
