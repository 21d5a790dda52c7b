"""The process-wide cache of opened indices: least recently used first out, counted in bytes, fair between tenants.

Guarantees: an entry is found only with the tenant and the exact pointer that it was opened for; opening never runs on
the event loop; requests that want the same generation at the same time share one opening; when room is needed, tenants
above their share give up their own before anybody else loses anything. A failed opening is remembered for some seconds,
so that a damaged index cannot keep the disk busy. It does not count an evicted index that a running request still
holds, and mapped bytes are an upper bound of resident ones.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from tenantplane_api.runtime.documents import IndexPointer
from tenantplane_api.runtime.names import TenantID
from tenantplane_dataplane.knowledge.errors import IndexUnavailable
from tenantplane_dataplane.knowledge.generation import OpenIndex, open_index
from tenantplane_dataplane.knowledge.store import FileStore

_T = TypeVar("_T")
_Key = tuple[TenantID, IndexPointer]

FAILURE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class CacheStats:
    """For metrics: entries and bytes now, openings and evictions since the start."""

    entries: int
    bytes: int
    opened: int
    evicted: int


class IndexCache:
    """Opens and keeps indices of all tenants; tenants' code reaches it only through ``TenantIndexes``.

    Args:
        store: where the generations are.
        max_bytes: room for mapped files.
        tenant_share: the part of it that a tenant keeps when others need room, between 0 and 1.
        threads: size of the executor in which indices are opened and searched.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: FileStore,
        *,
        max_bytes: int,
        tenant_share: float = 0.25,
        threads: int = 2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_bytes <= 0 or not 0 < tenant_share <= 1:
            raise ValueError("max_bytes must be positive and tenant_share between 0 and 1")
        self._store = store
        self._max_bytes = max_bytes
        self._share = int(max_bytes * tenant_share)
        self._clock = clock
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="knowledge")
        self._entries: OrderedDict[_Key, OpenIndex] = OrderedDict()
        self._opening: dict[_Key, asyncio.Task[OpenIndex]] = {}
        self._failed: dict[_Key, tuple[float, str]] = {}
        self._opened = 0
        self._evicted = 0

    async def get(self, tenant_id: TenantID, pointer: IndexPointer) -> OpenIndex:
        """The opened index.

        Raises:
            IndexUnavailable: it cannot be opened, or is larger than the whole cache.
        """
        key = (tenant_id, pointer)
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            return entry
        self._raise_recent_failure(key)
        task = self._opening.get(key)
        if task is None:
            task = asyncio.create_task(self._open(key), name=f"open index {pointer.name}")
            self._opening[key] = task
            task.add_done_callback(lambda done: self._settled(key, done))
        # Shielded: one client that goes away must not take the opening from the others.
        return await asyncio.shield(task)

    async def run(self, function: Callable[[], _T]) -> _T:
        """Run blocking work on an index (a search) in the cache's executor."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def generations(self) -> list[tuple[TenantID, str, str]]:
        """(tenantID, index, generation) of everything that is open: what a replica reports."""
        return [(tenant_id, pointer.name, pointer.generation) for tenant_id, pointer in self._entries]

    def stats(self) -> CacheStats:
        """Figures for metrics."""
        return CacheStats(len(self._entries), self._total(), self._opened, self._evicted)

    def close(self) -> None:
        """Let go of everything; running searches end by themselves."""
        self._entries.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _open(self, key: _Key) -> OpenIndex:
        tenant_id, pointer = key
        opened = await self.run(lambda: open_index(self._store, tenant_id, pointer))
        if opened.bytes > self._max_bytes:
            raise IndexUnavailable(f"index {pointer.name}: {opened.bytes} bytes are more than the cache may hold")
        self._opened += 1
        self._entries[key] = opened
        self._make_room(key)
        return opened

    def _settled(self, key: _Key, task: "asyncio.Task[OpenIndex]") -> None:
        del self._opening[key]
        if task.cancelled():
            return
        error = task.exception()  # also marks it as seen, should every waiter have gone
        if isinstance(error, IndexUnavailable):
            now = self._clock()
            self._failed = {other: entry for other, entry in self._failed.items() if entry[0] > now}
            self._failed[key] = (now + FAILURE_SECONDS, str(error))

    def _raise_recent_failure(self, key: _Key) -> None:
        failed = self._failed.get(key)
        if failed is not None:
            until, message = failed
            if self._clock() < until:
                raise IndexUnavailable(message)
            del self._failed[key]

    def _total(self) -> int:
        return sum(entry.bytes for entry in self._entries.values())

    def _make_room(self, newest: _Key) -> None:
        while self._total() > self._max_bytes:
            del self._entries[self._victim(newest)]
            self._evicted += 1

    def _victim(self, newest: _Key) -> _Key:
        """Who goes: of the newcomer's tenant if above its share, else of others above theirs, else the oldest."""
        held: dict[TenantID, int] = {}
        for (tenant_id, _), entry in self._entries.items():
            held[tenant_id] = held.get(tenant_id, 0) + entry.bytes
        candidates = [key for key in self._entries if key != newest]
        over = [key for key in candidates if held[key[0]] > self._share]
        own = [key for key in over if key[0] == newest[0]]
        return (own or over or candidates)[0]
