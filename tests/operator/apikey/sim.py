"""Two tenants, an API server and an operator in memory, for what a real one cannot show: a crash between requests.

The reconcile is the real one. A crash is an exception after (or instead of) the n-th write, followed by an operator
that knows only what the API server has. Tenants are reconciled before keys after a start, as the queue has them.
"""

import asyncio
import copy
import dataclasses
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from tests.operator.tenant.build import platform

from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import KeyEntry
from tenantplane_api.runtime.names import Revision
from tenantplane_operator.apikey.reconcile import reconcile_api_key
from tenantplane_operator.context import Context, Published
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.errors import AlreadyExists
from tenantplane_operator.runtime.queue import Done
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of
from tenantplane_operator.tenant.document import accepted_keys
from tenantplane_operator.tenant.told import tell_keys
from tenantplane_operator.wake import Waker

TENANTS = ("acme", "beta")
START = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Crash(BaseException):
    """The process is gone."""


class Api:
    """What the reconcile asks of an API server. ``crash_in`` counts writes down; ``lost``: the last one is not done."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, Manifest] = {}
        self.versions = 0
        self.crash_in: int | None = None
        self.lost = False
        self.made: Counter[ObjectKey] = Counter()

    def put(self, obj: Manifest) -> Manifest:
        self.versions += 1
        stored = copy.deepcopy(obj)
        stored["metadata"].setdefault("uid", f"uid-{self.versions}")
        stored["metadata"]["resourceVersion"] = str(self.versions)
        stored["metadata"].setdefault("creationTimestamp", f"2026-01-01T00:00:{self.versions % 60:02d}Z")
        self.objects[key_of(stored)] = stored
        return copy.deepcopy(stored)

    def _write(self) -> bool:
        """True when the process dies after this write."""
        if self.crash_in is None:
            return False
        self.crash_in -= 1
        if self.crash_in > 0:
            return False
        if self.lost:
            raise Crash
        return True

    async def find(self, key: ObjectKey) -> Manifest | None:
        return copy.deepcopy(self.objects.get(key))

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        dies = self._write()
        key = key_of(manifest)
        if key in self.objects:
            raise AlreadyExists("there", status=409)
        self.made[key] += 1
        made = self.put(manifest)
        if dies:
            raise Crash
        return made

    async def delete(self, key: ObjectKey, *, uid: str | None = None) -> bool:
        dies = self._write()
        gone = self.objects.pop(key, None)
        if dies:
            raise Crash
        return gone is not None

    async def apply_status(self, obj: Manifest, status: dict[str, Any], *, manager: str) -> Manifest:
        dies = self._write()
        made = self.put({**self.objects[key_of(obj)], "status": status})
        if dies:
            raise Crash
        return made


class Queue:
    """Remembers who is to be looked at."""

    def __init__(self) -> None:
        self.keys: dict[ObjectKey, None] = {}

    def add(self, key: ObjectKey, priority: object = None) -> None:
        self.keys[key] = None

    def forget(self, key: ObjectKey) -> None:
        self.keys.pop(key, None)

    def failures(self, key: ObjectKey) -> int:
        return 0


class Quiet:
    """Recorder and judge of deletions that have nothing to say."""

    def record(self, *_: object) -> None:
        return None

    def see(self, *_: object) -> None:
        return None

    async def verdict(self, *_: object) -> None:
        return None


class Sim:
    """The whole."""

    def __init__(self) -> None:
        self.api, self.now = Api(), START
        self.documents: dict[str, tuple[KeyEntry, ...]] = dict.fromkeys(TENANTS, ())
        self.due: dict[ObjectKey, datetime] = {}
        for name in TENANTS:
            self.api.put(_object(names.KIND_TENANT, name, spec={"tenantID": f"{name}-0001"}))
            space = _object("Namespace", f"tenant-{name}")
            space["metadata"] |= {
                "labels": {names.LABEL_TENANT: name},
                "annotations": {names.ANNOTATION_TENANT_ID: f"{name}-0001"},
            }
            self.api.put(space)
        self.restart()

    def restart(self) -> None:
        """A new process: lists everything, then has every tenant published once."""
        self.queue, waker = Queue(), Waker()
        self.api.crash_in = None
        self.due.clear()
        cache = Cache(index_label=names.LABEL_TENANT, on_change=waker.changed)
        given: dict[str, Any] = {
            field.name: Quiet()
            for field in dataclasses.fields(Context)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        given |= {"platform": platform(), "api": self.api, "cache": cache, "queue": self.queue}
        self.ctx = Context(**cast("Any", given))
        # Shadows the clock of the class.
        self.ctx.__dict__["now"] = lambda: self.now
        waker.ctx = self.ctx
        for obj in list(self.api.objects.values()):
            if obj["kind"] != "Secret":
                cache.put(copy.deepcopy(obj))
        for name in TENANTS:
            self.publish(name)
        for key in self.api_keys():
            self.queue.add(key)

    def api_keys(self) -> list[ObjectKey]:
        return sorted(key for key in self.api.objects if key.kind == names.KIND_API_KEY)

    def user(self, obj: Manifest | None, key: ObjectKey) -> None:
        """A change that somebody makes; the operator hears of what it watches."""
        before = self.api.objects.get(key)
        if obj is None:
            self.api.objects.pop(key, None)
            if key.kind != "Secret" and before is not None:
                self.ctx.cache.remove(key, before)
        else:
            stored = self.api.put(obj)
            if key.kind != "Secret":
                self.ctx.cache.put(stored)

    def publish(self, tenant: str) -> None:
        """The tenant's reconcile, as far as keys go."""
        namespace = f"tenant-{tenant}"
        observed = self.ctx.cache.in_namespace(names.KIND_API_KEY, namespace)
        entries = accepted_keys(observed, namespace=namespace, taken=self.ctx.hashes.outside(namespace))
        self.documents[tenant] = entries
        hashes = frozenset(entry.hash for entry in entries)
        extra = (entries,) if len(dataclasses.fields(Published)) > 2 else ()
        now = Published(Revision(str(abs(hash(entries)))), hashes, *cast("Any", extra))
        tell_keys(self.ctx, tenant, namespace, now)

    def reconcile(self, key: ObjectKey, *, crash_in: int | None = None, lost: bool = False) -> None:
        """One pass over one key; it may be the process's last."""
        self.api.crash_in, self.api.lost = crash_in, lost
        self.queue.keys.pop(key, None)
        try:
            result = asyncio.run(reconcile_api_key(self.ctx, key))
        except Crash:
            self.restart()
            return
        finally:
            self.api.crash_in = None
        self.due.pop(key, None)
        if isinstance(result, Done) and result.after is not None:
            self.due[key] = self.now + timedelta(seconds=result.after)

    def settle(self) -> None:
        """Work until nothing is left to do now."""
        for _ in range(50):
            late = [key for key, when in self.due.items() if when <= self.now]
            todo = [key for key in {**self.queue.keys, **dict.fromkeys(late)} if key.kind == names.KIND_API_KEY]
            self.queue.keys.clear()
            for name in TENANTS:
                self.publish(name)
            if not todo and not self.queue.keys:
                return
            for key in [*todo, *(key for key in self.queue.keys if key.kind == names.KIND_API_KEY)]:
                self.reconcile(key)
        raise AssertionError("it does not come to rest")


def _object(kind: str, name: str, namespace: str = "", **rest: Any) -> Manifest:
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    group = "v1" if kind in ("Namespace", "Secret") else names.API_VERSION
    return {"apiVersion": group, "kind": kind, "metadata": meta, **rest}


def new_object(key: ObjectKey, **rest: Any) -> Manifest:
    """An object without status."""
    return _object(key.kind, key.name, key.namespace, **rest)
