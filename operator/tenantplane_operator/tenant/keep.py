"""What stays published while a Tenant's spec cannot be compiled: the last document, with the keys as they are now.

Guarantees that a revoked, deleted or new APIKey takes effect although somebody broke the Tenant: whether a key works
must not depend on a typo elsewhere. Everything else of the document stays as it was, as with any bad reload.
"""

import msgspec

from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import DocumentError
from tenantplane_operator.context import Context, Published
from tenantplane_operator.tenant.document import accepted_keys


async def keep_published(ctx: Context, tenant: str) -> Published | None:
    """Bring the keys of a published document up to date; what stands published, ``None`` when nothing does.

    Raises:
        ApiError: it could not be read or written.
    """
    name = names.tenant_document_name(tenant)
    if ctx.publisher.revision(name) is None:
        return None
    try:
        document = await ctx.publisher.read_tenant(name)
    except DocumentError:
        # Not ours to understand any more: the data plane refuses it as well, and nobody is let in by it.
        return None
    if document is None:
        return None
    observed = ctx.cache.in_namespace(names.KIND_API_KEY, document.namespace)
    keys = accepted_keys(observed, namespace=document.namespace)
    kept = msgspec.structs.replace(document, spec=msgspec.structs.replace(document.spec, keys=keys))
    revision, _ = await ctx.publisher.publish(kept)
    return Published(revision, frozenset(entry.hash for entry in keys))
