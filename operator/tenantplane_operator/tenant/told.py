"""What stands published of a tenant, remembered, and told to the APIKeys that it concerns.

Guarantees that an APIKey is looked at again when a text of its enters or leaves its tenant's document, when there is no
longer (or again) room for it, and when nothing was known before; and that a change of one key does not wake all others,
which for many keys would be work that grows with their square.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from tenantplane_api.runtime import names
from tenantplane_operator.context import Context, Published
from tenantplane_operator.runtime.resources import key_of
from tenantplane_operator.tenant.document import left_out

_NOTHING: Final = frozenset[str]()


def tell_keys(ctx: Context, tenant: str, namespace: str, now: Published | None) -> None:
    """Remember what is published (``None``: nothing), and wake the APIKeys whose state that changes."""
    before = ctx.published.get(tenant)
    observed = ctx.cache.in_namespace(names.KIND_API_KEY, namespace)
    if now is None:
        ctx.published.pop(tenant, None)
    else:
        now = replace(now, left_out=left_out(observed, namespace=namespace, taken=ctx.hashes.outside(namespace)))
        ctx.published[tenant] = now
    hashes, outside = (_NOTHING, _NOTHING) if now is None else (now.hashes, now.left_out)
    if before is None:
        for key in observed:
            ctx.queue.add(key_of(key))
        return
    moved = (hashes ^ before.hashes) | (outside ^ before.left_out)
    if not moved:
        return
    # Who waits for a text that this tenant had may have it from now on.
    for waiting in ctx.hashes.wanting(before.hashes - hashes):
        ctx.queue.add(waiting)
    for key in observed:
        if any(digest in moved for digest in _texts(key)):
            ctx.queue.add(key_of(key))


def _texts(key: Mapping[str, Any]) -> Iterator[str]:
    status = key.get("status") or {}
    for entry in (status, *(status.get("previous") or ())):
        if entry.get("hash"):
            yield str(entry["hash"])
