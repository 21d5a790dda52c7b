"""The Secret of an APIKey that is gone: deleted, when it is ours, and nothing else is.

What protects is not here: the hash of a deleted APIKey is out of its tenant's document at once, so that the text is
dead with or without its Secret. There is no finalizer for it, because one would keep namespaces and GitOps tools
waiting for an operator that is not there. An APIKey that was deleted while no operator ran is found by its name in the
tenant's document, before that is replaced; its Secret stays only when it had a ``secretName`` of its own. It also
stays while the deletion is held, or the CRD is away.
"""

import logging
from typing import Any, Final

from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_operator.apikey.secret import TenantRef, is_secret_of
from tenantplane_operator.context import Context
from tenantplane_operator.runtime.errors import ApiError
from tenantplane_operator.runtime.queue import Again, Done, Result
from tenantplane_operator.runtime.resources import ObjectKey, uid_of

logger = logging.getLogger(__name__)

_TRIES: Final = 8
_HELD: Final = 60.0


async def clean_up(ctx: Context, key: ObjectKey) -> Result:
    """Delete the Secret of the APIKey ``key``, whose last state is in ``ctx.gone_keys``."""
    tenant = ctx.tenant_of(key.namespace)
    if key not in ctx.gone_keys or tenant is None:
        ctx.gone_keys.pop(key, None)
        return Done()
    if await ctx.deletions.verdict(key, tenant) is not None:
        # Its hash is still accepted: whoever has the text must find it where it was.
        return Done(after=_HELD)
    last = ctx.gone_keys.pop(key)
    spec: dict[str, Any] = last.get("spec") or {}
    if spec.get("valueFrom"):
        return Done()
    ref = TenantRef(TenantName(str(tenant["metadata"]["name"])), TenantID(str(tenant["spec"]["tenantID"])))
    target = ObjectKey("Secret", key.namespace, str(spec.get("secretName") or key.name))
    try:
        found = await ctx.api.find(target)
        if found is not None and is_secret_of(found, key.name, ref):
            await ctx.api.delete(target, uid=uid_of(found))
            logger.info("deleted the Secret of a deleted APIKey", extra={"object": str(key)})
    except ApiError as error:
        if ctx.queue.failures(key) < _TRIES:
            ctx.gone_keys.setdefault(key, last)
            return Again()
        logger.warning("the Secret of the deleted %s stays: %s", key, error.message)
    ctx.queue.forget(key)
    return Done()


def find_vanished(ctx: Context, namespace: str, published: frozenset[str]) -> None:
    """Have the Secrets of APIKeys cleaned up that are in a document (``published``, by name) and do not exist."""
    present = {str(obj["metadata"]["name"]) for obj in ctx.cache.in_namespace(names.KIND_API_KEY, namespace)}
    for name in sorted(published - present):
        key = ObjectKey(names.KIND_API_KEY, namespace, name)
        ctx.gone_keys.setdefault(key, {"metadata": {"name": name, "namespace": namespace}})
        ctx.queue.add(key)
