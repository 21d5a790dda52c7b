"""Snapshots: everything that a request is judged by, at one moment.

A snapshot never changes; the next one shares what did not change. Guarantees that a key hash leads to at most one
tenant: a hash that a second tenant claims is refused for the later one, and when both turn up in the same load, so
that no order is known, it is refused for both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tenantplane_api.runtime.documents import KeyEntry
from tenantplane_api.runtime.names import ModelKey, TenantName
from tenantplane_dataplane.config.compiled import (
    CompiledModel,
    CompiledTenant,
    ConfigInvalid,
    TenantHandle,
    compile_model,
)
from tenantplane_dataplane.observability.logs import get_logger

_log = get_logger("config")


class ModelHandle:
    """One model's document and its compiled form once somebody asked."""

    __slots__ = ("_compiled", "_data", "_problem", "document_name", "key")

    def __init__(self, document_name: str, data: bytes | None) -> None:
        namespace, _, name = document_name.removeprefix("m.").partition(".")
        self.document_name = document_name
        self.key = ModelKey(f"{namespace}/{name}")
        self._data = data
        self._compiled: CompiledModel | None = None
        self._problem: str | None = None if data is not None else "it cannot be read"

    def compiled(self) -> CompiledModel:
        """The compiled document.

        Raises:
            ConfigInvalid: it must not be obeyed.
        """
        if self._compiled is not None:
            return self._compiled
        if self._problem is None and self._data is not None:
            try:
                self._compiled = compile_model(self._data, document_name=self.document_name)
            except ConfigInvalid as error:
                self._problem = str(error)
                fields = {"model": self.key, "problem": self._problem}
                _log.error("a model's document is invalid: it is out of service", extra={"fields": fields})
            else:
                return self._compiled
        raise ConfigInvalid(self._problem)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All documents at one moment. ``keys`` maps ``sha256:<hex>`` to the one tenant and entry it belongs to."""

    generation: int = 0
    tenants: Mapping[TenantName, TenantHandle] = field(default_factory=dict)
    models: Mapping[ModelKey, ModelHandle] = field(default_factory=dict)
    keys: Mapping[str, tuple[TenantHandle, KeyEntry]] = field(default_factory=dict)

    def tenant(self, name: TenantName) -> CompiledTenant | None:
        """The compiled tenant, or ``None`` when there is no such document.

        Raises:
            ConfigInvalid: its document must not be obeyed.
        """
        handle = self.tenants.get(name)
        return None if handle is None else handle.compiled()

    def model(self, key: ModelKey) -> CompiledModel | None:
        """The compiled model; see ``tenant``."""
        handle = self.models.get(key)
        return None if handle is None else handle.compiled()


@dataclass(frozen=True, slots=True)
class Conflict:
    """A key hash that this tenant claims in vain; the key's public id is for the log."""

    tenant: TenantName
    key_id: str


def advance(
    before: Snapshot, changes: Mapping[str, bytes | None], removed: frozenset[str]
) -> tuple[Snapshot, list[Conflict]]:
    """The snapshot after some documents changed.

    Args:
        changes: document name (``t.acme``, ``m.ns.name``) to content; ``None`` is a document that cannot be read.
        removed: names of documents that are gone.

    Returns:
        the new snapshot and the claims that were refused because of this change.
    """
    tenants, models, keys = dict(before.tenants), dict(before.models), dict(before.keys)
    arriving: list[TenantHandle] = []
    for name in removed | changes.keys():
        if name.startswith("m."):
            if name in removed:
                models.pop(ModelHandle(name, None).key, None)
            else:
                model = ModelHandle(name, changes[name])
                models[model.key] = model
            continue
        tenant = TenantName(name.removeprefix("t."))
        old = tenants.pop(tenant, None)
        if name not in removed:
            new = TenantHandle(name, changes[name], before=old)
            new.rejected = frozenset() if old is None else old.rejected & {entry.hash for entry in new.keys}
            tenants[tenant] = new
            arriving.append(new)
    _release(keys, before, removed, arriving)
    conflicts = _claim(keys, before, arriving)
    return Snapshot(generation=before.generation + 1, tenants=tenants, models=models, keys=keys), conflicts


def _release(
    keys: dict[str, tuple[TenantHandle, KeyEntry]],
    before: Snapshot,
    removed: frozenset[str],
    arriving: list[TenantHandle],
) -> None:
    """Take the hashes of gone and replaced documents out of the index."""
    leaving = [before.tenants.get(TenantName(name.removeprefix("t."))) for name in removed if name.startswith("t.")]
    leaving += [before.tenants.get(handle.tenant) for handle in arriving]
    for handle in leaving:
        for entry in () if handle is None else handle.keys:
            held = keys.get(entry.hash)
            if held is not None and held[0] is handle:
                del keys[entry.hash]


def _claim(
    keys: dict[str, tuple[TenantHandle, KeyEntry]], before: Snapshot, arriving: list[TenantHandle]
) -> list[Conflict]:
    """Enter the hashes of new documents; a document that had a hash before this change comes first."""
    claims: dict[str, list[tuple[TenantHandle, KeyEntry]]] = {}
    for handle in arriving:
        for entry in {entry.hash: entry for entry in handle.keys}.values():
            claims.setdefault(entry.hash, []).append((handle, entry))
    conflicts: list[Conflict] = []
    for digest, claimants in claims.items():
        holder = before.keys.get(digest)
        winner: tuple[TenantHandle, KeyEntry] | None = None
        if digest not in keys:
            same = [c for c in claimants if holder is not None and c[0].tenant == holder[0].tenant]
            fresh = [c for c in claimants if digest not in c[0].rejected]
            if same:
                winner = same[0]
            elif len(claimants) == 1 and fresh:
                winner = fresh[0]
        if winner is not None:
            keys[digest] = winner
        for handle, entry in claimants:
            if winner is None or handle is not winner[0]:
                handle.rejected = handle.rejected | {digest}
                conflicts.append(Conflict(tenant=handle.tenant, key_id=entry.id))
    return conflicts
