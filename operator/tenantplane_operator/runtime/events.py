"""Event recorder: what happened to an object, told once, in the API that ``kubectl events`` reads.

Guarantees: recording never waits, never fails a reconcile and never floods: the same event within a quarter of an hour
becomes a series on the first one, and each object has a budget of fresh events. Does not guarantee delivery: events
are for people, conditions are for machines. Source: Kubernetes ``events.k8s.io/v1`` (KEP-383).
"""

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.errors import ApiError
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of

logger = logging.getLogger(__name__)

SERIES_SECONDS: Final = 900.0
FLUSH_SECONDS: Final = 10.0
BURST: Final = 20
REFILL_SECONDS: Final = 60.0
NOTE_MAX: Final = 1024
_QUEUE_MAX: Final = 2048
_SERIES_MAX: Final = 4096

Kind = Literal["Normal", "Warning"]


class _Same(NamedTuple):
    """Events that differ in nothing of this are one series."""

    uid: str
    type: str
    reason: str
    note: str


@dataclass(slots=True)
class _Series:
    key: ObjectKey
    count: int
    seen_at: float
    reported: int


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


def micro_time(now: datetime) -> str:
    """RFC 3339 with microseconds, as ``MicroTime`` wants it."""
    return now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class EventRecorder:
    """Collects events and writes them in the background while ``run`` runs."""

    def __init__(
        self,
        api: KubeApi,
        *,
        component: str,
        instance: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._component = component
        self._instance = instance
        self._now = now
        self._queue: asyncio.Queue[tuple[_Same, Manifest]] = asyncio.Queue(_QUEUE_MAX)
        self._series: OrderedDict[_Same, _Series] = OrderedDict()
        self._pending: set[_Same] = set()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self.dropped = 0
        self.written = 0

    def record(self, obj: Manifest, kind: Kind, reason: str, note: str, *, action: str = "Reconcile") -> None:
        """Tell what happened to ``obj``; returns at once."""
        key, clock = key_of(obj), asyncio.get_running_loop().time()
        uid = str(obj["metadata"].get("uid") or "")
        note = note[:NOTE_MAX]
        same = _Same(uid, kind, reason, note)
        known = self._series.get(same)
        if known is not None and clock - known.seen_at < SERIES_SECONDS:
            known.count += 1
            known.seen_at = clock
            return
        if same in self._pending:
            return
        if not self._take(uid, clock):
            self.dropped += 1
            return
        # Events about cluster-scoped objects live in `default`: the API server wants it so.
        namespace = key.namespace or "default"
        event: Manifest = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{key.name}.{secrets.token_hex(8)}", "namespace": namespace},
            "eventTime": micro_time(self._now()),
            "reportingController": self._component,
            "reportingInstance": self._instance,
            "action": action,
            "reason": reason,
            "type": kind,
            "note": note,
            "regarding": {
                "apiVersion": str(obj.get("apiVersion") or ""),
                "kind": key.kind,
                "name": key.name,
                "namespace": key.namespace,
                "uid": uid,
            },
        }
        try:
            self._queue.put_nowait((same, event))
            self._pending.add(same)
        except asyncio.QueueFull:
            self.dropped += 1

    def _take(self, uid: str, clock: float) -> bool:
        bucket = self._buckets.setdefault(uid, _Bucket(tokens=BURST, at=clock))
        self._buckets.move_to_end(uid)
        while len(self._buckets) > _SERIES_MAX:
            self._buckets.popitem(last=False)
        bucket.tokens = min(BURST, bucket.tokens + (clock - bucket.at) / REFILL_SECONDS)
        bucket.at = clock
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_events(), name="events")
            group.create_task(self._flush_series(), name="event-series")

    async def _write_events(self) -> None:
        while True:
            same, event = await self._queue.get()
            try:
                await self._api.create(event)
                self.written += 1
                clock = asyncio.get_running_loop().time()
                self._series[same] = _Series(key=key_of(event), count=1, seen_at=clock, reported=1)
                while len(self._series) > _SERIES_MAX:
                    self._series.popitem(last=False)
            except ApiError as error:
                self.dropped += 1
                logger.debug("an event was not written: %s", error.message)
            finally:
                self._pending.discard(same)
                self._queue.task_done()

    async def _flush_series(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def finish(self, seconds: float) -> None:
        """Write what is due before the end, for at most ``seconds``; ``run`` must still run."""
        try:
            async with asyncio.timeout(seconds):
                await self._queue.join()
                await self.flush()
        except TimeoutError:
            logger.warning("some events were not written before the end")

    async def flush(self) -> None:
        """Write the counts of series that grew since the last time, and forget old series."""
        clock = asyncio.get_running_loop().time()
        for same, series in list(self._series.items()):
            if series.count > series.reported:
                patch = {"series": {"count": series.count, "lastObservedTime": micro_time(self._now())}}
                try:
                    await self._api.merge_patch(series.key, patch, manager=self._component)
                    series.reported = series.count
                except ApiError as error:
                    self.dropped += 1
                    if error.status == 404:
                        self._series.pop(same, None)
            elif clock - series.seen_at >= SERIES_SECONDS:
                self._series.pop(same, None)
