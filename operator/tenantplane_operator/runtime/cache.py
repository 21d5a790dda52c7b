"""What we last saw of every watched object: filled by watch events and LIST, read by reconciles instead of requests.

Guarantees that an older state never replaces a newer one of the same object, that an object seen as deleted does not
come back by a late event, and that a failed or missing list removes nothing. Does not guarantee to be current: a
reconcile that must be sure asks the API server, and every write has its precondition there.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of, labels_of, uid_of

_TOMBSTONES_MAX: Final = 20_000


def _version(obj: Manifest) -> int | None:
    version = str(obj.get("metadata", {}).get("resourceVersion") or "")
    return int(version) if version.isdecimal() else None


def _older(candidate: Manifest, known: Manifest) -> bool:
    """True when ``candidate`` is an earlier state of the same object.

    Resource versions of one object are ordered decimal numbers (Kubernetes KEP-5504); what is not a number is taken as
    newer, because it came later.
    """
    if uid_of(candidate) != uid_of(known):
        return False
    new, old = _version(candidate), _version(known)
    return new is not None and old is not None and new < old


@dataclass(slots=True)
class _Flight:
    """A write under way: what was known before something was seen, and the version that the write answered."""

    before: Manifest | None = None
    seen: bool = False
    answer: int | None = None


class Cache:
    """Objects by key, and by the value of one label.

    ``on_change`` is told of every state that is news: key, the state before, the state now (``None``: not there).
    """

    def __init__(
        self,
        *,
        index_label: str,
        on_change: Callable[[ObjectKey, Manifest | None, Manifest | None], None] | None = None,
    ) -> None:
        self._index_label = index_label
        self._on_change = on_change
        self._objects: dict[ObjectKey, Manifest] = {}
        self._by_label: dict[str, set[ObjectKey]] = {}
        self._by_kind: dict[str, dict[ObjectKey, None]] = {}
        self._by_place: dict[tuple[str, str], set[ObjectKey]] = {}
        self._deleted: OrderedDict[str, int] = OrderedDict()
        self._under_way: dict[ObjectKey, _Flight] = {}
        self.synced: set[str] = set()
        """Kinds of which a complete list was seen since the start."""

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: ObjectKey) -> Manifest | None:
        """The last known state. Do not change it in place."""
        return self._objects.get(key)

    def of_kind(self, kind: str) -> Iterator[Manifest]:
        """All known objects of a kind."""
        return iter([self._objects[key] for key in self._by_kind.get(kind, ())])

    def in_namespace(self, kind: str, namespace: str) -> list[Manifest]:
        """All known objects of a kind in a namespace, by name."""
        return [self._objects[key] for key in sorted(self._by_place.get((kind, namespace), ()))]

    def labelled(self, value: str) -> Iterator[Manifest]:
        """All known objects whose index label has this value."""
        return iter([self._objects[key] for key in sorted(self._by_label.get(value, ()))])

    def put(self, obj: Manifest, *, notify: bool = True) -> bool:
        """Take in a state that was seen; False when it is older than what is known, or of a deleted object.

        ``notify`` False is for answers to our own writes, which are no news to anybody.
        """
        key, uid = key_of(obj), uid_of(obj)
        known = self._objects.get(key)
        if (known is not None and _older(obj, known)) or self._buried(uid, obj):
            return False
        unchanged = known is not None and _version(known) is not None and _version(known) == _version(obj)
        if known is not None:
            if uid_of(known) != uid:
                self._bury(known)
            self._unlink(key, known)
        # Who wrote which field is half of an object's size and is never asked for here.
        obj.get("metadata", {}).pop("managedFields", None)
        self._objects[key] = obj
        self._by_kind.setdefault(key.kind, {})[key] = None
        self._by_place.setdefault((key.kind, key.namespace), set()).add(key)
        label = labels_of(obj).get(self._index_label)
        if label is not None:
            self._by_label.setdefault(label, set()).add(key)
        flight = self._under_way.get(key)
        if flight is not None:
            if notify and not unchanged:
                flight.before, flight.seen = (flight.before if flight.seen else known), True
            elif not notify:
                flight.answer = _version(obj)
        elif notify and not unchanged and self._on_change is not None:
            self._on_change(key, known, obj)
        return True

    @contextlib.contextmanager
    def writing(self, key: ObjectKey) -> Iterator[None]:
        """While a write of ours is under way: what is seen of the object is told when it ended.

        A watch often sees a write before its answer is here. When what was seen last is what the write answered (put
        in with ``notify`` False), it is no news and is not told at all; anything else is, a failed write's included.
        That it went is told at once.
        """
        if key in self._under_way:
            yield
            return
        flight = self._under_way[key] = _Flight()
        try:
            yield
        finally:
            del self._under_way[key]
            now = self._objects.get(key)
            ours = now is not None and flight.answer is not None and _version(now) == flight.answer
            if flight.seen and not ours and self._on_change is not None:
                self._on_change(key, flight.before, now)

    def remove(self, key: ObjectKey, last: Manifest | None = None) -> bool:
        """Take in that an object is gone, or no longer matches what is watched.

        ``last`` is its last state where the caller has one: only that object is removed, a new one of the same name
        stays. False when nothing was known of it.
        """
        if last is not None:
            self._bury(last)
        known = self._objects.get(key)
        if known is None or (last is not None and (uid_of(known) != uid_of(last) or _older(last, known))):
            return False
        self._bury(known)
        self._unlink(key, known)
        del self._objects[key]
        self._by_kind[key.kind].pop(key, None)
        place = self._by_place[key.kind, key.namespace]
        place.discard(key)
        if not place:
            del self._by_place[key.kind, key.namespace]
        flight = self._under_way.get(key)
        if flight is not None:
            # That something went is told at once; what comes after it began from nothing.
            flight.before, flight.seen = None, False
        if self._on_change is not None:
            self._on_change(key, known, None)
        return True

    def uids(self, kind: str) -> frozenset[str]:
        """UIDs of what is known of a kind; taken before a list starts, it says what the list may remove."""
        return frozenset(uid_of(self._objects[key]) for key in self._by_kind.get(kind, ()))

    def replace_all(self, kind: str, items: Iterable[Manifest], *, before: frozenset[str]) -> list[ObjectKey]:
        """Take in a complete list and drop what is not in it; keys of what was dropped.

        Only for lists that were read to the end: a partial list would delete what it did not reach. ``before`` is
        ``uids(kind)`` from before the list started: what appeared meanwhile is not in the list and yet not gone.
        """
        seen = set()
        for item in items:
            seen.add(key_of(item))
            self.put(item)
        return self.drop_missing(kind, seen, before=before)

    def drop_missing(self, kind: str, seen: Collection[ObjectKey], *, before: frozenset[str]) -> list[ObjectKey]:
        """The second half of ``replace_all``, for a caller that took the items in by itself, piece by piece."""
        gone = [
            key for key in list(self._by_kind.get(kind, ())) if key not in seen and uid_of(self._objects[key]) in before
        ]
        for key in gone:
            self.remove(key)
        self.synced.add(kind)
        return gone

    def _buried(self, uid: str, obj: Manifest) -> bool:
        grave = self._deleted.get(uid)
        if grave is None:
            return False
        version = _version(obj)
        # A label selector reports a lost label as a deletion; the object lives, and comes back with a newer version.
        return version is None or version <= grave

    def _bury(self, last: Manifest) -> None:
        uid = uid_of(last)
        if uid:
            self._deleted[uid] = max(_version(last) or 0, self._deleted.get(uid, 0))
            self._deleted.move_to_end(uid)
            while len(self._deleted) > _TOMBSTONES_MAX:
                self._deleted.popitem(last=False)

    def _unlink(self, key: ObjectKey, obj: Manifest) -> None:
        label = labels_of(obj).get(self._index_label)
        if label is not None and label in self._by_label:
            self._by_label[label].discard(key)
            if not self._by_label[label]:
                del self._by_label[label]
