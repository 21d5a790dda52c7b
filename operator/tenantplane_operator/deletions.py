"""Stops a mass deletion before it cuts anybody off: what was deleted, what went through, what waits for a person.

Asked before access is cut because an object is gone or going: ``verdict``. It holds while the CRD is away, when the
object went with a CRD that was reinstalled since, and when too many of its kind were deleted at once (``hold``). What
is held stays held until it is back or a person released it, across restarts: a Tenant's condition remembers it, and
for objects that are gone an annotation on the runtime document that their absence would cut.

A person releases a Tenant by its annotation ``release-requested-at``, which also releases the keys that a live Tenant
lost; and documents of objects that are gone by the ConfigMap ``tenantplane-held``, in which they are listed. Neither is
part of a ``spec`` that a GitOps tool would restore. Single deletions are never delayed.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tenantplane_api.crd.conditions import ConditionType
from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import DocumentError
from tenantplane_api.runtime.platform import MassDeletion
from tenantplane_operator import hold
from tenantplane_operator.crdwatch import OwnKinds
from tenantplane_operator.hold import Deletion
from tenantplane_operator.publish import Publisher, document_owner
from tenantplane_operator.runtime import conditions as cond
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.errors import ApiError, Conflict
from tenantplane_operator.runtime.events import EventRecorder
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, annotations_of, is_deleting, key_of, labels_of

logger = logging.getLogger(__name__)

_POLL: Final = 2.0
_LISTED_MAX: Final = 1000
"""Documents that the ConfigMap lists; it must stay far below what an object may be."""
_SAFE: Final = 60.0
_HOW: Final = "To let it be cut, run `tenantplane release --confirm`"


@dataclass(slots=True)
class _Entry:
    """One deletion that was seen. ``document`` is what it would cut; ``at`` in seconds since the epoch."""

    key: ObjectKey
    document: str
    at: float
    held: str = ""
    going_since: float | None = None


class Deletions:
    """One per process; use it on one event loop."""

    def __init__(
        self,
        *,
        api: KubeApi,
        cache: Cache,
        publisher: Publisher,
        kinds: OwnKinds,
        recorder: EventRecorder,
        limits: Callable[[], MassDeletion],
        system_namespace: str,
        models_namespace: str,
        wake: Callable[[ObjectKey], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._cache = cache
        self._publisher = publisher
        self._kinds = kinds
        self._recorder = recorder
        self._limits = limits
        self._list_key = ObjectKey("ConfigMap", system_namespace, names.CONFIG_MAP_HELD)
        self._models_namespace = models_namespace
        self._wake = wake
        self._now = now
        self._entries: dict[ObjectKey, _Entry] = {}
        self._passed: list[tuple[str, Deletion]] = []
        self._releases: dict[str, str] = {}
        self._listed: dict[str, str] | None = None
        self._returned: set[ObjectKey] = set()
        self._changed = asyncio.Event()

    # What was seen.

    def see(self, key: ObjectKey, old: Manifest | None, new: Manifest | None) -> None:
        """Take in a change of one of our own objects; ``new`` is ``None`` when it is gone."""
        if new is not None and not is_deleting(new):
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._changed.set()
                if entry.going_since is None:
                    self._returned.add(key)
            return
        self._returned.discard(key)
        last = new if new is not None else old
        if key in self._entries or last is None:
            return
        if key.kind == names.KIND_API_KEY and not (last.get("status") or {}).get("hash"):
            return
        document = self._cuts(key, new)
        if document is None:
            return
        entry = self._note(key, document, self._deletion_time(new))
        if new is not None:
            told = cond.find((new.get("status") or {}).get("conditions") or [], ConditionType.MASS_DELETION_HELD)
            entry.held = str(told.get("message")) if told is not None and told.get("status") == "True" else ""

    def expect(self, key: ObjectKey) -> None:
        """Our own deletion, which follows from what somebody wrote: it counts for nothing."""
        self._entries[key] = _Entry(key, "", self._now(), going_since=self._now())

    def _deletion_time(self, obj: Manifest | None) -> float:
        text = ((obj or {}).get("metadata") or {}).get("deletionTimestamp")
        return _seconds(str(text), self._now()) if text else self._now()

    def _note(self, key: ObjectKey, document: str, at: float) -> _Entry:
        entry = self._entries[key] = _Entry(key, document, at)
        return entry

    def _found(self, key: ObjectKey, document: str) -> None:
        """An object that vanished while nobody looked. A mark on the document says that it was held before."""
        entry = self._note(key, document, self._now())
        since = self._publisher.held_since(document)
        if since is not None:
            entry.at = _seconds(since, entry.at)
            entry.held = f"{key} is gone, and was held before the operator started: nothing is cut. {_HOW}"

    def _cuts(self, key: ObjectKey, obj: Manifest | None) -> str | None:
        """The document from which something would be missing; ``None`` when nobody would lose anything."""
        document = names.tenant_document_name(key.name)
        if key.kind == names.KIND_TENANT:
            stands = self._publisher.revision(document) is not None
            return document if stands or (obj is not None and self._has_namespace(obj)) else None
        if key.kind == names.KIND_MODEL_DEPLOYMENT:
            document = names.model_document_name(key.namespace, key.name)
            if self._publisher.revision(document) is None:
                return None
            if key.namespace == self._models_namespace:
                return document
        tenant = self._tenant(key.namespace)
        owner = names.tenant_document_name(tenant) if tenant else ""
        if self._publisher.revision(owner) is None:
            # It goes with its tenant, which was let through.
            return None
        return document if key.kind == names.KIND_MODEL_DEPLOYMENT else owner

    def _has_namespace(self, tenant: Manifest) -> bool:
        """True when the Tenant's end would delete a namespace that is there."""
        spec, meta = tenant.get("spec") or {}, tenant["metadata"]
        if spec.get("deletionPolicy") != "Delete":
            return False
        section = spec.get("namespace")
        wanted = section.get("name") if isinstance(section, dict) else None
        space = self._cache.get(ObjectKey("Namespace", "", str(wanted or names.default_namespace(meta["name"]))))
        return space is not None and not is_deleting(space) and labels_of(space).get(names.LABEL_TENANT) == meta["name"]

    def _tenant(self, namespace: str) -> str | None:
        space = self._cache.get(ObjectKey("Namespace", "", namespace))
        return labels_of(space).get(names.LABEL_TENANT) if space is not None else None

    async def survey(self) -> None:
        """Once after a complete list, before the first verdict: what is going, and what vanished while nobody led.

        It counts as one burst. What was noted before is forgotten: another operator may have seen to it.

        Reads every document once, page by page, for the names of the keys in it, and keeps nothing of them.

        Raises:
            ApiError: the documents could not be read.
        """
        self._entries.clear()
        self._returned.clear()
        for kind in (names.KIND_TENANT, names.KIND_API_KEY, names.KIND_MODEL_DEPLOYMENT):
            for obj in self._cache.of_kind(kind):
                self.see(key_of(obj), None, obj)
        await self._read_releases()
        space = self._publisher.namespace
        selector = f"{names.LABEL_COMPONENT}={names.COMPONENT_RUNTIME}"
        async for page in self._api.pages("Secret", namespace=space, label_selector=selector, limit=100):
            for secret in page:
                name = str(secret["metadata"]["name"])
                owner = document_owner(name)
                if owner is None or self._publisher.revision(name) is None:
                    continue
                if self._cache.get(owner) is None:
                    if owner not in self._entries:
                        self._found(owner, name)
                elif owner.kind == names.KIND_TENANT:
                    self._survey_keys(name, secret)

    def _survey_keys(self, name: str, secret: Manifest) -> None:
        try:
            document = self._publisher.decode_tenant(name, secret)
        except DocumentError:
            return
        for entry in document.spec.keys:
            key = ObjectKey(names.KIND_API_KEY, document.namespace, entry.name)
            obj = self._cache.get(key)
            if obj is not None and not (obj.get("status") or {}).get("hash"):
                self._returned.add(key)
            elif obj is None and key not in self._entries:
                self._found(key, name)

    # What is decided.

    async def verdict(self, key: ObjectKey, asked: Manifest | None = None) -> str | None:
        """Whether what follows from this deletion must wait: why, or ``None`` to go on.

        Args:
            key: the object that is gone, or going.
            asked: the object whose annotation may release it: itself, or the Tenant of an APIKey.

        Raises:
            ApiError: it cannot be told now; nothing may be cut.
        """
        entry = self._entries.get(key)
        if entry is not None and entry.going_since is not None:
            return None
        definition = await self._kinds.look(key.kind)
        obj = self._cache.get(key)
        if obj is not None and not is_deleting(obj):
            raise Conflict(f"{key} is back", status=409)
        entry = self._entries.get(key)
        if entry is None:
            document = self._cuts(key, obj)
            if document is None:
                return definition.problem or None
            entry = self._note(key, document, self._deletion_time(obj))
        if self._released(entry, asked):
            self._go(entry, counted=False)
            return None
        why = self._reason(entry, definition.problem, definition.uid)
        if why is None:
            self._go(entry, counted=True)
            return None
        fresh = not entry.held
        entry.held = why
        if fresh:
            logger.warning("held: %s", why, extra={"object": str(key)})
            self._changed.set()
        if self._cache.get(key) is None and self._publisher.held_since(entry.document) is None:
            since = datetime.fromtimestamp(entry.at, UTC)
            await self._publisher.mark_held(entry.document, cond.rfc3339(since))
        return why

    def _reason(self, entry: _Entry, problem: str, uid: str) -> str | None:
        gone = self._cache.get(entry.key) is None
        what = f"{entry.key} is {'gone' if gone else 'being deleted'}"
        if problem:
            return f"{what}, but {problem}: nothing is cut. Install the CRD and apply the object again. {_HOW}"
        published = self._publisher.definitions_of(entry.document).get(entry.key.kind)
        if gone and published and published != uid:
            return f"{what} since its CRD was installed anew: nothing is cut. Apply the object again. {_HOW}"
        if entry.held:
            return entry.held
        limits = self._limits()
        mine = [
            Deletion(str(other.key), self._scope(other.key), other.at)
            for other in self._entries.values()
            if other.going_since is None and other.key.kind == entry.key.kind
        ]
        passed = [deletion for kind, deletion in self._passed if kind == entry.key.kind]
        if len(mine) + len(passed) <= limits.floor:
            return None
        live = sum(1 for obj in self._cache.of_kind(entry.key.kind) if not is_deleting(obj))
        if str(entry.key) not in hold.held(mine, passed, live=live, limits=limits, now=self._now()):
            return None
        return (
            f"{what} as one of {len(mine) + len(passed)} of kind {entry.key.kind} within "
            f"{limits.window_seconds:.0f} s, more than the Platform's operator.massDeletion lets through: nothing is "
            f"cut. {_HOW}"
        )

    def _scope(self, key: ObjectKey) -> str:
        """The namespace that a tenant answers for; shared models and Tenants are the platform's."""
        return "" if key.namespace == self._models_namespace else key.namespace

    def _released(self, entry: _Entry, asked: Manifest | None) -> bool:
        wishes = [self._releases.get(names.RELEASE_PREFIX + entry.document), self._releases.get(names.RELEASE_ALL)]
        if asked is not None:
            wishes.append(annotations_of(asked).get(names.ANNOTATION_RELEASE))
        return any(hold.released(wish, since=entry.at, now=self._now()) for wish in wishes)

    def _go(self, entry: _Entry, *, counted: bool) -> None:
        now, window = self._now(), self._limits().window_seconds
        entry.going_since = now
        entry.held = ""
        self._passed = [(kind, gone) for kind, gone in self._passed if now - gone.at < window]
        if counted:
            self._passed.append((entry.key.kind, Deletion(str(entry.key), self._scope(entry.key), now)))
        else:
            logger.info("released: %s", entry.key)
        for key, other in list(self._entries.items()):
            if other.going_since is not None and now - other.going_since > window + _SAFE:
                del self._entries[key]
        self._changed.set()

    def holds(self, key: ObjectKey) -> bool:
        """True when this object's deletion is held."""
        entry = self._entries.get(key)
        return entry is not None and bool(entry.held)

    def returned(self, key: ObjectKey) -> bool:
        """True for an object that was put back before what it had was cut; ``settled`` ends that."""
        return key in self._returned

    def settled(self, key: ObjectKey) -> None:
        """What an object that was put back has now is known."""
        self._returned.discard(key)

    def held_keys(self, document: str) -> list[str]:
        """Names of the APIKeys that are gone and held in a tenant's document."""
        kept = (e.key for e in self._entries.values() if e.held and e.document == document)
        return sorted(key.name for key in kept if key.kind == names.KIND_API_KEY)

    def held_counts(self) -> dict[str, float]:
        """Number of held deletions by kind, for the metric."""
        kinds = (names.KIND_TENANT, names.KIND_API_KEY, names.KIND_MODEL_DEPLOYMENT)
        held = [entry.key.kind for entry in self._entries.values() if entry.held]
        return {kind: float(held.count(kind)) for kind in kinds}

    async def settle(self, document: str) -> None:
        """Take the mark from a document of which nothing is held any more.

        Raises:
            ApiError: it may still be there.
        """
        if self._publisher.held_since(document) is None:
            return
        if not any(e.document == document and (e.held or e.going_since is None) for e in self._entries.values()):
            await self._publisher.mark_held(document, None)

    # What is told.

    async def run(self) -> None:
        """Keep the list of what is held, and look for releases while something is; until cancelled."""
        while True:
            if not any(entry.held for entry in self._entries.values()):
                self._changed.clear()
                await self._list({})
                await self._changed.wait()
                continue
            await asyncio.sleep(_POLL)
            try:
                before = self._releases
                await self._read_releases()
            except ApiError as error:
                logger.warning("ConfigMap %s cannot be read: %s", self._list_key.name, error.message)
                continue
            await self._list(self._gone())
            if self._releases != before:
                for entry in list(self._entries.values()):
                    if entry.held:
                        self._wake(entry.key)

    def _gone(self) -> dict[str, str]:
        """By document: what is held of it although its object is gone."""
        found: dict[str, list[str]] = {}
        for entry in self._entries.values():
            if entry.held and self._cache.get(entry.key) is None:
                since = cond.rfc3339(datetime.fromtimestamp(entry.at, UTC))
                found.setdefault(entry.document, []).append(f"{entry.key} since {since}")
        lines = {names.HELD_PREFIX + document: _joined(items) for document, items in sorted(found.items())}
        return dict(list(lines.items())[:_LISTED_MAX])

    async def _read_releases(self) -> None:
        found = await self._api.find(self._list_key)
        data = ((found or {}).get("data") or {}).items()
        self._releases = {str(k): str(v) for k, v in data if str(k).startswith(names.RELEASE_PREFIX)}
        if self._listed is None:
            self._listed = {str(k): str(v) for k, v in data if str(k).startswith(names.HELD_PREFIX)}

    async def _list(self, wanted: dict[str, str]) -> None:
        if wanted == (self._listed or {}):
            return
        meta = {"name": self._list_key.name, "namespace": self._list_key.namespace}
        manifest: Manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
        if wanted:
            manifest["data"] = wanted
        try:
            live = await self._api.apply(manifest, manager=names.MANAGER_HOLD)
        except ApiError as error:
            logger.warning("ConfigMap %s cannot be written: %s", self._list_key.name, error.message)
            return
        for document in wanted.keys() - (self._listed or {}).keys():
            note = f"{wanted[document]}: still served; `tenantplane release --confirm` cuts it"
            self._recorder.record(live, "Warning", "MassDeletionHeld", note)
        self._listed = wanted


def _seconds(text: str, fallback: float) -> float:
    """RFC 3339 as seconds since the epoch."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return fallback


def _joined(items: Iterable[str]) -> str:
    found = sorted(items)
    return "; ".join(found[:20]) + (f"; and {len(found) - 20} more" if len(found) > 20 else "")
