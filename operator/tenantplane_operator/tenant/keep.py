"""What of a published document stays although what it was made from is not there, or cannot be read.

Guarantees that a revoked, deleted or new APIKey takes effect although somebody broke the Tenant: whether a key works
must not depend on a typo elsewhere; everything else of the document stays as it was, as with any bad reload. And that
an APIKey, ModelDeployment or index generation that vanished without anybody meaning it (a reinstalled CRD, a mass
deletion) goes on being served until it is back or a person released it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.crd.tenantstatus import KnowledgeStatus
from tenantplane_api.runtime import limits, names
from tenantplane_api.runtime.documents import DocumentError, KeyEntry, TenantRuntime, canonical, revision
from tenantplane_api.runtime.names import ModelKey
from tenantplane_operator.apikey.cleanup import find_vanished
from tenantplane_operator.context import Context, Published
from tenantplane_operator.runtime.conditions import find
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, is_deleting
from tenantplane_operator.tenant.concern import PERMANENT_REASONS
from tenantplane_operator.tenant.document import accepted_keys, entry_bytes
from tenantplane_operator.tenant.models import ObservedModel
from tenantplane_operator.tenant.parse import ParsedTenant

EVERY_TENANT = "*"


async def keep_published(ctx: Context, tenant: str, asked: Manifest | None = None) -> Published | None:
    """Bring the keys of a published document up to date; what stands published, ``None`` when nothing does.

    Args:
        ctx: shared services.
        tenant: name of the Tenant, which need not exist.
        asked: the Tenant's object, whose annotation may release keys that are held.

    Raises:
        ApiError: it could not be read or written.
    """
    document = await _read(ctx, tenant)
    if document is None:
        # None, or not ours to understand any more: the data plane refuses it as well, and lets nobody in by it.
        return None
    observed = ctx.cache.in_namespace(names.KIND_API_KEY, document.namespace)
    keys = accepted_keys(observed, namespace=document.namespace, taken=ctx.hashes.outside(document.namespace))
    kept = await _with_held(ctx, renewed(document, keys), document.spec.keys, asked)
    now, _ = await ctx.publisher.publish(kept)
    await ctx.deletions.settle(names.tenant_document_name(tenant))
    return as_published(now, kept)


def renewed(document: TenantRuntime, keys: tuple[KeyEntry, ...]) -> TenantRuntime:
    """A published document with these keys; where they do not all fit, with those of them that it had.

    What is published is so never larger than what the data plane reads, and a revocation always passes. Of a key that
    it had, only the end of its time is new: who asks for a longer owner waits until there is room.
    """
    found = _with_keys(document, keys)
    if fits(found):
        return found
    now = {entry.hash: entry for entry in keys}
    kept = [
        msgspec.structs.replace(entry, expires_at=now[entry.hash].expires_at)
        for entry in document.spec.keys
        if entry.hash in now
    ]
    while kept and not fits(found := _with_keys(document, tuple(kept))):
        # Ends that are new take room as well; whoever has none is refused rather than let in for longer.
        kept.pop()
    return found


def fits(document: TenantRuntime) -> bool:
    """True for a document that the data plane reads."""
    return len(canonical(document)) <= limits.RUNTIME_DOCUMENT_MAX_BYTES


def as_published(now: names.Revision, document: TenantRuntime) -> Published:
    """What is remembered of a document that stands published."""
    return Published(now, frozenset(entry.hash for entry in document.spec.keys), document.spec.keys)


async def keep_held_keys(ctx: Context, document: TenantRuntime, asked: Manifest | None) -> TenantRuntime:
    """The document to publish, with the keys whose APIKeys are gone and held.

    A document that says the same as the published one, or loses no key, costs nothing.

    Raises:
        ApiError: what stands published could not be read, or it cannot be told what is held.
    """
    return await _with_held(ctx, document, await _standing_keys(ctx, document), asked)


async def _standing_keys(ctx: Context, document: TenantRuntime) -> tuple[KeyEntry, ...]:
    stands = ctx.publisher.revision(names.tenant_document_name(document.name))
    known = ctx.published.get(document.name)
    if stands is None:
        return ()
    if known is not None and known.revision == stands:
        return known.keys
    if stands == revision(canonical(document)):
        return ()
    before = await _read(ctx, document.name)
    same = before is not None and (before.tenant_id, before.namespace) == (document.tenant_id, document.namespace)
    return before.spec.keys if before is not None and same else ()


async def _read(ctx: Context, tenant: str) -> TenantRuntime | None:
    name = names.tenant_document_name(tenant)
    if ctx.publisher.revision(name) is None:
        return None
    try:
        return await ctx.publisher.read_tenant(name)
    except DocumentError:
        return None


async def _with_held(
    ctx: Context, document: TenantRuntime, before: tuple[KeyEntry, ...], asked: Manifest | None
) -> TenantRuntime:
    have = {entry.hash for entry in document.spec.keys}
    elsewhere = ctx.hashes.outside(document.namespace)
    lost = [entry for entry in before if entry.hash not in have and entry.hash not in elsewhere]
    if not lost:
        return document
    # The document was compiled a moment ago: what an APIKey came to have since is not lost.
    observed = ctx.cache.in_namespace(names.KIND_API_KEY, document.namespace)
    accepted = {e.hash: e for e in accepted_keys(observed, namespace=document.namespace, taken=elsewhere)}
    kept = list(document.spec.keys)
    room = limits.RUNTIME_DOCUMENT_MAX_BYTES - len(canonical(document))
    for entry in lost:
        room -= entry_bytes(accepted.get(entry.hash, entry))
        if room < 0 or len(kept) >= limits.RUNTIME_KEYS_MAX:
            break
        if entry.hash in accepted:
            kept.append(accepted[entry.hash])
            continue
        key = ObjectKey(names.KIND_API_KEY, document.namespace, entry.name)
        obj = ctx.cache.get(key)
        if obj is not None and not is_deleting(obj):
            # Put back: until it is known which key it has, nothing says that it is another one.
            if not _decided(obj) and (ctx.deletions.returned(key) or not (obj.get("status") or {}).get("conditions")):
                kept.append(entry)
            else:
                ctx.deletions.settled(key)
        elif await ctx.deletions.verdict(key, asked) is not None:
            kept.append(entry)
        else:
            find_vanished(ctx, document.namespace, frozenset({entry.name}))
    if len(kept) == len(document.spec.keys):
        return document
    return _with_keys(document, tuple(sorted(kept, key=lambda entry: (entry.name, entry.hash))))


def _decided(api_key: Manifest) -> bool:
    """True when an APIKey has a key, or is known to have none."""
    spec: Mapping[str, Any] = api_key.get("spec") or {}
    notes: Mapping[str, str] = api_key["metadata"].get("annotations") or {}
    status: Mapping[str, Any] = api_key.get("status") or {}
    if status.get("hash") or status.get("revokedAt") or spec.get("revoked") or names.ANNOTATION_REVOKE in notes:
        return True
    ready = find(status.get("conditions") or [], ConditionType.READY) or {}
    return ready.get("status") == "False" and ready.get("reason") in PERMANENT_REASONS - {Reason.NOT_IN_A_TENANT}


def _with_keys(document: TenantRuntime, keys: tuple[KeyEntry, ...]) -> TenantRuntime:
    return msgspec.structs.replace(document, spec=msgspec.structs.replace(document.spec, keys=keys))


async def kept_model(ctx: Context, key: ModelKey) -> ObservedModel | None:
    """A ModelDeployment that is gone, or going, and held: as its published document says; ``None`` when it is not.

    Raises:
        ApiError: it cannot be told.
    """
    namespace, _, name = key.partition("/")
    document = names.model_document_name(namespace, name)
    if ctx.publisher.revision(document) is None:
        return None
    if await ctx.deletions.verdict(ObjectKey(names.KIND_MODEL_DEPLOYMENT, namespace, name)) is None:
        return None
    try:
        found = await ctx.publisher.read_model(document)
    except DocumentError:
        return None
    if found is None:
        return None
    everybody = EVERY_TENANT in found.spec.shared_with
    return ObservedModel(
        key=key,
        mode="AllTenants" if everybody else "Selected",
        tenants=frozenset(found.spec.shared_with),
        available=True,
    )


async def seed_knowledge(ctx: Context, tenant: ParsedTenant) -> None:
    """Remember which generations of its indexes a Tenant without status has served, so that they go on being served.

    That is a Tenant that was put back: its document still stands, and its status went with the CRD.

    Raises:
        ApiError: the published document could not be read.
    """
    stored = {entry.name for entry in tenant.status.knowledge}
    unknown = [i.name for i in tenant.spec.knowledge if i.name not in stored and (tenant.uid, i.name) not in ctx.seeded]
    if not unknown or ctx.publisher.tenant_id(names.tenant_document_name(tenant.name)) != tenant.tenant_id:
        return
    document = await _read(ctx, tenant.name)
    served = {} if document is None else {pointer.name: pointer for pointer in document.spec.indexes}
    for index in unknown:
        ctx.seeded.add((tenant.uid, index))
        pointer = served.get(index)
        if pointer is not None and index not in ctx.knowledge[tenant.uid]:
            ctx.knowledge[tenant.uid][index] = KnowledgeStatus(
                name=index,
                generation=pointer.generation,
                manifestSHA256=pointer.manifest_sha256,
                prefix=pointer.prefix,
                embedder=pointer.embedder,
                dimension=pointer.dimension,
            )
