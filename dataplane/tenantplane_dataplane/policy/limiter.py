"""Limits of a request: asked for all at once, granted all or none.

``Limiter`` is the seam that a shared store (Redis) fills for several workers; ``LocalLimiter`` is exact for one
process, which is the only number of processes that may run without such a store. Guarantees of ``LocalLimiter``: a
refused request costs nothing of any limit; counters survive configuration changes and follow changed limits; the
number of counters is bounded by what was used within the last period. It does not queue or wait.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from tenantplane_dataplane.policy.gcra import Rate, rescale, take
from tenantplane_dataplane.policy.limit_keys import LimitKey

_SWEEP_MIN: Final = 4096
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RateDescriptor:
    """One request of a rate."""

    key: LimitKey
    rate: Rate
    kind: Literal["requests"] = "requests"


@dataclass(frozen=True, slots=True)
class SlotDescriptor:
    """One slot of ``limit`` at the same time, until released."""

    key: LimitKey
    limit: int
    kind: Literal["concurrency"] = "concurrency"


Descriptor = RateDescriptor | SlotDescriptor


@dataclass(frozen=True, slots=True)
class Standing:
    """How a rate stands after a request; ``reset_seconds`` until all of it is free again."""

    limit: int
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission to go on. ``slots`` must be given back with ``release``; a grant may be released once only."""

    slots: tuple[LimitKey, ...]
    standing: Standing | None


@dataclass(frozen=True, slots=True)
class Denial:
    """The first limit that refused, and when asking again may help."""

    kind: Literal["requests", "concurrency"]
    limit: int
    retry_seconds: float
    standing: Standing | None


class Limiter(Protocol):
    """Counts across everybody who shares it."""

    async def acquire(self, descriptors: Sequence[Descriptor]) -> Grant | Denial:
        """Take one of every descriptor, or nothing at all."""
        ...

    async def release(self, grant: Grant) -> None:
        """Give the grant's slots back."""
        ...


@dataclass(slots=True)
class _Counter:
    tat: int
    rate: Rate


class LocalLimiter:
    """All counters in this process. ``clock`` gives nanoseconds that never go back."""

    def __init__(self, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._rates: dict[LimitKey, _Counter] = {}
        self._slots: dict[LimitKey, int] = {}
        self._sweep_at = _SWEEP_MIN

    async def acquire(self, descriptors: Sequence[Descriptor]) -> Grant | Denial:
        """See ``Limiter``. Runs without an await, so that nothing comes between looking and taking."""
        now = self._clock()
        taken: list[tuple[LimitKey, _Counter]] = []
        slots: list[LimitKey] = []
        standing: Standing | None = None
        denial: Denial | None = None
        for item in descriptors:
            if isinstance(item, SlotDescriptor):
                if self._slots.get(item.key, 0) + slots.count(item.key) >= item.limit:
                    denial = denial or Denial("concurrency", item.limit, 1.0, None)
                slots.append(item.key)
                continue
            outcome = take(self._tat(item, now), now, item.rate)
            here = Standing(item.rate.limit, outcome.remaining, outcome.reset_ns / _NS)
            if standing is None or here.remaining < standing.remaining:
                standing = here
            if not outcome.admitted:
                denial = denial or Denial("requests", item.rate.limit, outcome.retry_ns / _NS, None)
            taken.append((item.key, _Counter(outcome.tat, item.rate)))
        if denial is not None:
            if denial.kind == "concurrency" and standing is not None:
                # The request was not counted after all.
                standing = Standing(standing.limit, min(standing.limit, standing.remaining + 1), standing.reset_seconds)
            return Denial(denial.kind, denial.limit, denial.retry_seconds, standing)
        self._rates.update(taken)
        for key in slots:
            self._slots[key] = self._slots.get(key, 0) + 1
        if len(self._rates) > self._sweep_at:
            self._sweep(now)
        return Grant(tuple(slots), standing)

    async def release(self, grant: Grant) -> None:
        """See ``Limiter``."""
        for key in grant.slots:
            left = self._slots.get(key, 0) - 1
            if left > 0:
                self._slots[key] = left
            else:
                self._slots.pop(key, None)

    def _tat(self, item: RateDescriptor, now: int) -> int | None:
        counter = self._rates.get(item.key)
        if counter is None:
            return None
        return counter.tat if counter.rate == item.rate else rescale(counter.tat, now, counter.rate, item.rate)

    def _sweep(self, now: int) -> None:
        """Forget counters whose limit is wholly free again: they are like those that were never used."""
        self._rates = {key: counter for key, counter in self._rates.items() if counter.tat > now}
        self._sweep_at = max(_SWEEP_MIN, 2 * len(self._rates))
