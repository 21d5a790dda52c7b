"""The work queue: which object is reconciled next, by how many workers, and when again.

Semantics of client-go's workqueue: a key is worked on by one worker at a time, a key that is added while it waits is
one piece of work, a key that is added while it is worked on runs once more afterwards. Beyond that: three priorities,
so that a person's edit does not wait behind a resync of everything; exponential backoff with jitter per key, so that
one broken object never slows the others; a deadline per reconcile, so that a hanging one ends; a slow one lends its
worker's place to others, and of those that were slow the last time only few run at once, so that even as many hanging
ones as there are workers delay nobody else.

Does not survive the process: whoever restarts adds everything again.
"""

import asyncio
import bisect
import logging
import random
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, TypeVar

from tenantplane_operator.runtime.permits import Permit, Places

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


class Priority(IntEnum):
    """Lower goes first."""

    FRESH = 0
    """Somebody changed something and waits."""
    ROLLOUT = 1
    """A change of a plan or of the platform that touches many."""
    RESYNC = 2
    """Nothing is known to have changed."""


@dataclass(frozen=True, slots=True)
class Done:
    """The object is as wanted; failures are forgotten. ``after`` seconds from now it is looked at again."""

    after: float | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """Not yet as wanted: again after the key's backoff, but not before ``after`` seconds."""

    after: float = 0.0


Result = Done | Again


@dataclass(frozen=True, slots=True)
class Backoff:
    """``base * 2^(failures-1)`` seconds up to ``maximum``, shortened at random by up to ``jitter`` of itself."""

    base: float = 0.2
    maximum: float = 60.0
    jitter: float = 0.3

    def delay(self, failures: int, draw: float) -> float:
        """Seconds to wait after the ``failures``-th failure in a row; ``draw`` is in [0, 1)."""
        full = min(self.maximum, self.base * 2.0 ** min(failures - 1, 32))
        return full * (1.0 - self.jitter * draw)


STARVED: Final = 30.0
"""Seconds after which waiting work goes first whatever its priority."""
SLOW: Final = 5.0
"""Seconds after which a reconcile counts as slow: its place is lent on, and its key waits apart the next time."""
BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the histogram of durations, in seconds."""


@dataclass(slots=True)
class Durations:
    """A histogram: how many took at most ``BUCKETS[i]`` seconds and more than the one before; the last is the rest."""

    counts: list[int]
    seconds: float = 0.0

    @classmethod
    def empty(cls) -> "Durations":
        """Nothing seen."""
        return cls([0] * (len(BUCKETS) + 1))

    def see(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


class WorkQueue(Generic[K]):
    """The queue and its workers. All methods but ``run`` and ``drain`` are synchronous; use it on one event loop."""

    def __init__(
        self,
        reconcile: Callable[[K], Awaitable[Result]],
        *,
        workers: int = 16,
        deadline: float = 120.0,
        backoff: Backoff = Backoff(),
        draw: Callable[[], float] = random.random,
        kind_of: Callable[[K], str] = lambda _: "",
        slow: float = SLOW,
    ) -> None:
        """Take what to do; ``kind_of`` names a key's kind for the counts."""
        self._reconcile = reconcile
        self._places = Places(workers, overflow=workers, slow=slow)
        self._slow_after = slow
        self._slow_limit = max(1, workers // 2)
        self._slow: set[K] = set()
        """Keys whose last reconcile was slow."""
        self._kind_of = kind_of
        self._deadline = deadline
        self._backoff = backoff
        self._draw = draw
        # Per priority those that are quick, and those that are not.
        self._ready: dict[tuple[Priority, bool], OrderedDict[K, float]] = {
            (priority, slow): OrderedDict() for priority in Priority for slow in (False, True)
        }
        self._dirty: dict[K, Priority] = {}
        self._processing: dict[K, bool] = {}
        """Keys that are worked on, and whether they were taken as slow ones."""
        self._timers: dict[K, tuple[asyncio.TimerHandle, Priority]] = {}
        self._failures: dict[K, int] = {}
        self._wakeup = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._rest = asyncio.Event()
        self._closed = False
        self._progress_at: float | None = None
        self.results: Counter[tuple[str, str]] = Counter()
        """Reconciles by kind and outcome."""
        self.durations: dict[str, Durations] = defaultdict(Durations.empty)
        """By kind."""

    # What others ask.

    @property
    def outcomes(self) -> Counter[str]:
        """Reconciles by outcome."""
        out: Counter[str] = Counter()
        for (_, outcome), count in self.results.items():
            out[outcome] += count
        return out

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._dirty)

    def waiting(self, priority: Priority) -> int:
        """Keys of one priority that wait for a worker."""
        return len(self._ready[priority, False]) + len(self._ready[priority, True])

    @property
    def slow(self) -> int:
        """Keys whose last reconcile was slow."""
        return len(self._slow)

    @property
    def idle_for(self) -> float | None:
        """Seconds since the last finished reconcile, ``None`` when none finished yet."""
        return None if self._progress_at is None else asyncio.get_running_loop().time() - self._progress_at

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._timers)

    @property
    def in_flight(self) -> int:
        """Keys that are worked on right now."""
        return len(self._processing)

    @property
    def oldest_age(self) -> float:
        """Seconds that the oldest waiting key has waited; 0 when none waits."""
        now = asyncio.get_running_loop().time()
        heads = [next(iter(lane.values())) for lane in self._ready.values() if lane]
        return max((now - head for head in heads), default=0.0)

    def stalled_for(self) -> float:
        """Seconds without a finished reconcile while work was waiting; 0 when nothing waits."""
        if not self._dirty:
            return 0.0
        now = asyncio.get_running_loop().time()
        return min(self.oldest_age, now - self._progress_at) if self._progress_at is not None else self.oldest_age

    def failures(self, key: K) -> int:
        """How often in a row this key failed."""
        return self._failures.get(key, 0)

    # What others do.

    def add(self, key: K, priority: Priority = Priority.FRESH) -> None:
        """Have a key reconciled soon. Cancels a pending delay: what is known now is newer than the plan to wait."""
        if self._closed:
            return
        known = self._dirty.get(key)
        if known is not None and known <= priority:
            return
        if priority is not Priority.RESYNC and key in self._timers:
            self._timers.pop(key)[0].cancel()
        self._dirty[key] = priority
        self._idle.clear()
        if key in self._processing:
            return
        since = asyncio.get_running_loop().time()
        if known is not None:
            since = self._ready[known, key in self._slow].pop(key, since)
        self._ready[priority, key in self._slow][key] = since
        self._wakeup.set()

    def add_after(self, key: K, seconds: float, priority: Priority = Priority.FRESH) -> None:
        """Have a key reconciled in ``seconds``; of several plans for a key the earliest counts."""
        if self._closed:
            return
        if seconds <= 0:
            self.add(key, priority)
            return
        loop = asyncio.get_running_loop()
        pending = self._timers.get(key)
        if pending is not None:
            if pending[0].when() <= loop.time() + seconds:
                return
            pending[0].cancel()
        self._timers[key] = (loop.call_later(seconds, self._due, key), priority)

    def _due(self, key: K) -> None:
        _, priority = self._timers.pop(key)
        self.add(key, priority)

    def forget(self, key: K) -> None:
        """Forget a key's failures and plans, for example because its object is gone."""
        self._failures.pop(key, None)
        pending = self._timers.pop(key, None)
        if pending is not None:
            pending[0].cancel()

    def close(self) -> None:
        """Drop everything that waits, and ignore whatever is added until ``open``."""
        self._closed = True
        for timer, _ in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for lane in self._ready.values():
            lane.clear()
        self._dirty = {}
        if not self._processing:
            self._idle.set()

    def open(self) -> None:
        """Take work again; whoever closed it adds what is to be looked at."""
        self._closed = False
        self._rest.clear()

    async def run(self) -> None:
        """Work until cancelled. Cancelling stops reconciles in the middle; ``drain`` first for a graceful end."""
        async with asyncio.TaskGroup() as group:
            while True:
                permit = await self._places.acquire()
                while (taken := self._take()) is None:
                    self._wakeup.clear()
                    await self._wakeup.wait()
                group.create_task(self._work(*taken, permit), name=f"reconcile {taken[0]}")

    async def join(self) -> None:
        """Wait until nothing waits for a worker and none works; delayed keys do not count."""
        await self._idle.wait()

    async def drain(self, seconds: float) -> bool:
        """Take no more work and let what is in flight finish; False when ``seconds`` were not enough."""
        self.close()
        if self._processing:
            try:
                async with asyncio.timeout(seconds):
                    await self._rest.wait()
            except TimeoutError:
                return False
        return True

    # The workers.

    def _take(self) -> tuple[K, Priority] | None:
        now = asyncio.get_running_loop().time()
        slow_too = self._places.lent + sum(self._processing.values()) < self._slow_limit
        lanes = [(priority, slow) for (priority, slow), lane in self._ready.items() if lane and (slow_too or not slow)]
        if not lanes:
            return None
        oldest, first = min((next(iter(self._ready[lane].values())), lane) for lane in lanes)
        if now - oldest < STARVED:
            first = min(lanes)
        key, _ = self._ready[first].popitem(last=False)
        del self._dirty[key]
        self._processing[key] = first[1]
        return key, first[0]

    async def _work(self, key: K, priority: Priority, permit: Permit) -> None:
        started = asyncio.get_running_loop().time()
        try:
            # A slow key that is known as such keeps its place: those are few by themselves.
            if not self._processing[key]:
                permit.begin()
            await self._one(key, priority)
        finally:
            permit.release()
            self._finish(key, started)

    def _finish(self, key: K, started: float) -> None:
        del self._processing[key]
        now = self._progress_at = asyncio.get_running_loop().time()
        if now - started > self._slow_after:
            self._slow.add(key)
        else:
            self._slow.discard(key)
        if key in self._dirty:
            self._ready[self._dirty[key], key in self._slow][key] = now
        elif not self._dirty and not self._processing:
            self._idle.set()
        # Also when nothing was added: a place for a slow one may have become free.
        self._wakeup.set()
        if self._closed and not self._processing:
            self._rest.set()

    async def _one(self, key: K, priority: Priority) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        result: Result
        try:
            async with asyncio.timeout(self._deadline):
                result = await self._reconcile(key)
            outcome = "done" if isinstance(result, Done) else "again"
        except TimeoutError:
            logger.warning("reconcile of %s took longer than %s s and was stopped", key, self._deadline)
            result, outcome = Again(), "timeout"
        except Exception:
            # The last line of defence: one broken object must not take the others' workers along.
            logger.exception("reconcile of %s failed in a way that nobody foresaw", key)
            result, outcome = Again(), "error"
        kind = self._kind_of(key)
        self.results[kind, outcome] += 1
        self.durations[kind].see(loop.time() - started)
        if isinstance(result, Done):
            self._failures.pop(key, None)
            if result.after is not None:
                self.add_after(key, result.after, priority)
            return
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.add_after(key, max(result.after, self._backoff.delay(failures, self._draw())), priority)
