"""The tenant's runtime document: all that the data plane will know of it.

Guarantees that a document is the same bytes for the same input (parts are sorted), holds key hashes and never a key's
text, and is never larger than what the data plane reads. A revoked or deleted APIKey is out of it at once, with what
it had in its grace; an expired one stays in with its time, so that the data plane can say *expired* rather than
*unknown*; a replaced text is in it with the end of its grace. An assistant may name an
alias or index that is not in the document (a model that is gone, an index that was never built); the data plane
refuses such a request, not the document.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

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
from tenantplane_operator.tenant.parse import ParsedTenant, as_utc, parse_time

_KEY_ID: Final = "keyID"
KEYS_BYTES_MAX: Final = 320 * 1024
"""Bytes of a document that its keys may take: 1024 of them with long owners still fit, beside the rest of a spec."""
_ENTRY_MAX: Final = 1024
"""No entry of a key is longer, however its owner is written."""


def accepted_keys(
    observed: Iterable[Mapping[str, Any]], *, namespace: str, taken: Container[str] = frozenset()
) -> tuple[KeyEntry, ...]:
    """Entries of the APIKeys that are in force, sorted by name and hash.

    Beyond the bounds (number, and bytes in the document) the youngest are left out, and replaced texts before any
    current one: a tenant that makes too many must not be able to freeze its own document and with it the revocation of
    the others.

    Args:
        observed: APIKey objects; only those of ``namespace`` count.
        namespace: the tenant's.
        taken: hashes to which another tenant has the better right.
    """
    live = sorted(
        (obj for obj in observed if is_live(obj) and _meta(obj).get("namespace") == namespace),
        key=lambda obj: (str(_meta(obj).get("creationTimestamp") or ""), str(_meta(obj).get("name"))),
    )
    found: dict[str, KeyEntry] = {}
    room = KEYS_BYTES_MAX
    for entry in (*(e for obj in live for e in _current(obj)), *(e for obj in live for e in _replaced(obj))):
        if entry.hash in found or entry.hash in taken:
            continue
        room -= entry_bytes(entry)
        if room < 0 or len(found) == limits.RUNTIME_KEYS_MAX:
            break
        found[entry.hash] = entry
    return tuple(sorted(found.values(), key=lambda entry: (entry.name, entry.hash)))


def entry_bytes(entry: KeyEntry) -> int:
    """What a key takes in the document, its comma included."""
    return len(msgspec.json.encode(entry)) + 1


def left_out(
    observed: Sequence[Mapping[str, Any]], *, namespace: str, taken: Container[str] = frozenset()
) -> frozenset[str]:
    """Hashes of current texts for which ``accepted_keys``, asked the same, has no room."""
    if len(observed) * _ENTRY_MAX * (1 + limits.PREVIOUS_KEYS_MAX) <= KEYS_BYTES_MAX:
        return frozenset()
    current = {
        str(obj["status"]["hash"])
        for obj in observed
        if is_live(obj) and obj["status"].get("hash") and _meta(obj).get("namespace") == namespace
    }
    accepted = {entry.hash for entry in accepted_keys(observed, namespace=namespace, taken=taken)}
    return frozenset(digest for digest in current - accepted if digest not in taken)


def is_live(obj: Mapping[str, Any]) -> bool:
    """True for an APIKey with hashes to accept: made, read back, neither revoked nor going away."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return bool(
        (status.get("hash") or status.get("previous"))
        and not status.get("revokedAt")
        and not spec.get("revoked")
        and not manifest.is_terminating(obj)
        and manifest.annotation(obj, names.ANNOTATION_REVOKE) is None
        # An end that cannot be read must not become none.
        and (spec.get("expiresAt") is None or _seconds(spec["expiresAt"]) is not None)
    )


def _meta(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return obj.get("metadata") or {}


def _current(obj: Mapping[str, Any]) -> Iterator[KeyEntry]:
    status = obj["status"]
    if status.get("hash"):
        yield _entry(obj, str(status["hash"]), str(status.get(_KEY_ID) or ""), _expiry(obj))


def _replaced(obj: Mapping[str, Any]) -> Iterator[KeyEntry]:
    """Texts in their grace; one whose end cannot be read has none."""
    expires = _expiry(obj)
    for entry in obj["status"].get("previous") or []:
        until = _seconds(entry.get("acceptedUntil"))
        if entry.get("hash") and until is not None:
            end = until if expires is None else min(until, expires)
            yield _entry(obj, str(entry["hash"]), str(entry.get(_KEY_ID) or ""), end)


def _entry(obj: Mapping[str, Any], digest: str, key_id: str, expires_at: int | None) -> KeyEntry:
    return KeyEntry(
        hash=digest,
        id=key_id,
        name=str(_meta(obj).get("name")),
        owner=str((obj.get("spec") or {}).get("owner") or ""),
        expires_at=expires_at,
    )


def _expiry(obj: Mapping[str, Any]) -> int | None:
    return _seconds((obj.get("spec") or {}).get("expiresAt"))


def _seconds(value: object) -> int | None:
    """Unix seconds of a time as JSON or YAML has it; ``None`` for no time."""
    if isinstance(value, str):
        try:
            value = parse_time(value)
        except ValueError:
            return None
    return int(as_utc(value).timestamp()) if isinstance(value, datetime) else None


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
