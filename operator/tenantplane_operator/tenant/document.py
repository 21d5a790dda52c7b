"""The tenant's runtime document: all that the data plane will know of it.

Guarantees that a document is the same bytes for the same input (parts are sorted), holds key hashes and never a key's
text, and is never larger than what the data plane reads. A revoked or deleted APIKey is out of it at once; an expired
one stays in with its time, so that the data plane can say *expired* rather than *unknown*. An assistant may name an
alias or index that is not in the document (a model that is gone, an index that was never built); the data plane
refuses such a request, not the document.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tenantplane_api.crd.conditions import Reason
from tenantplane_api.crd.tenant import Assistant
from tenantplane_api.runtime import documents, limits, names
from tenantplane_api.runtime.documents import (
    AssistantEntry,
    IndexPointer,
    KeyEntry,
    ModelAlias,
    TenantLimits,
    TenantRuntime,
    TenantSpec,
)
from tenantplane_operator.tenant import manifest
from tenantplane_operator.tenant.concern import Refused, failed
from tenantplane_operator.tenant.parse import ParsedTenant, parse_time

_KEY_ID: Final = "keyID"


def accepted_keys(observed: Iterable[Mapping[str, Any]], *, namespace: str) -> tuple[KeyEntry, ...]:
    """Entries of the APIKeys that are in force, oldest first for the bound, then sorted by name.

    Beyond the bound of keys the youngest are left out: a tenant that makes too many must not be able to freeze its own
    document and with it the revocation of the others.
    """
    live = sorted(
        (obj for obj in observed if is_live(obj) and _meta(obj).get("namespace") == namespace),
        key=lambda obj: (str(_meta(obj).get("creationTimestamp") or ""), str(_meta(obj).get("name"))),
    )
    found: dict[str, KeyEntry] = {}
    for obj in live:
        digest = str(obj["status"]["hash"])
        if digest not in found and len(found) < limits.RUNTIME_KEYS_MAX:
            found[digest] = _entry(obj, digest)
    return tuple(sorted(found.values(), key=lambda entry: (entry.name, entry.hash)))


def is_live(obj: Mapping[str, Any]) -> bool:
    """True for an APIKey whose hash is to be accepted: made, read back, neither revoked nor going away."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return bool(
        status.get("hash")
        and not status.get("revokedAt")
        and not spec.get("revoked")
        and not manifest.is_terminating(obj)
        and manifest.annotation(obj, names.ANNOTATION_REVOKE) is None
    )


def _meta(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return obj.get("metadata") or {}


def _entry(obj: Mapping[str, Any], digest: str) -> KeyEntry:
    spec = obj.get("spec") or {}
    expires = spec.get("expiresAt")
    if isinstance(expires, str):
        expires = parse_time(expires)
    return KeyEntry(
        hash=digest,
        id=str(obj["status"].get(_KEY_ID) or ""),
        name=str(_meta(obj).get("name")),
        owner=str(spec.get("owner") or ""),
        expires_at=None if expires is None else int(expires.timestamp()),
    )


def compile_document(
    tenant: ParsedTenant,
    *,
    plan: str,
    keys: Iterable[KeyEntry],
    models: Iterable[ModelAlias],
    indexes: Iterable[IndexPointer],
    rates: TenantLimits,
) -> TenantRuntime:
    """The document.

    Raises:
        Refused: RuntimeConfigTooLarge; the message names the largest part.
    """
    document = documents.tenant_runtime(
        name=tenant.name,
        namespace=tenant.namespace,
        tenant_id=tenant.tenant_id,
        spec=TenantSpec(
            display_name=tenant.spec.display_name,
            plan=plan,
            suspended=tenant.spec.suspend,
            keys=tuple(keys),
            models=tuple(models),
            assistants=tuple(_assistant(a) for a in sorted(tenant.spec.assistants, key=lambda a: a.name)),
            indexes=tuple(sorted(indexes, key=lambda pointer: pointer.name)),
            limits=rates,
        ),
    )
    check_size(document)
    return document


def _assistant(assistant: Assistant) -> AssistantEntry:
    return AssistantEntry(
        name=assistant.name,
        model=assistant.model,
        knowledge=tuple(assistant.knowledge),
        instructions=assistant.instructions,
    )


def check_size(document: TenantRuntime, *, maximum: int = limits.RUNTIME_DOCUMENT_MAX_BYTES) -> None:
    """Refuse a document that the data plane would not read.

    Raises:
        Refused: RuntimeConfigTooLarge; the message names the largest part.
    """
    size = len(documents.canonical(document))
    if size <= maximum:
        return
    part, part_size = documents.largest_part(document)
    raise Refused(
        failed(
            Reason.RUNTIME_CONFIG_TOO_LARGE,
            f"the runtime document has {size} bytes, at most {maximum} are served; the largest part is `{part}` with "
            f"{part_size} bytes: shorten it. The document that was published last stays in force",
        )
    )
