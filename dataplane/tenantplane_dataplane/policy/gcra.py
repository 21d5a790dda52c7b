"""The generic cell rate algorithm, in integers.

Source: ITU-T I.371, Annex A (virtual scheduling). A counter is one *theoretical arrival time*; a request conforms when
it comes no earlier than that time minus the tolerance. With ``limit`` per ``period`` and a tolerance of one period
less one interval, ``limit`` requests may come at once and then one per interval; any window of one period sees at
most ``2 x limit - 1`` (the burst plus what refills), as with every token bucket. Times are nanoseconds of any
monotonic clock; the interval is rounded up, so that rounding never admits more than the limit.
"""

from dataclasses import dataclass
from typing import Final

MINUTE_NS: Final = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """``limit`` requests per ``period_ns`` nanoseconds; ``limit`` ≥ 1."""

    limit: int
    period_ns: int = MINUTE_NS

    @property
    def interval_ns(self) -> int:
        """Time that one request costs."""
        return -(-self.period_ns // self.limit)

    @property
    def tolerance_ns(self) -> int:
        """How far ahead of its schedule a counter may run."""
        return self.interval_ns * (self.limit - 1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``tat`` is the counter to store (unchanged when refused); durations in nanoseconds from now.

    ``retry_ns`` is 0 when admitted; ``reset_ns`` is when the whole limit is free again.
    """

    admitted: bool
    tat: int
    remaining: int
    retry_ns: int
    reset_ns: int


def take(tat: int | None, now: int, rate: Rate) -> Outcome:
    """Ask for one request at ``now`` with counter ``tat`` (``None``: never used)."""
    interval, tolerance = rate.interval_ns, rate.tolerance_ns
    start = now if tat is None or tat < now else tat
    if start - tolerance > now:
        return Outcome(False, start, 0, start - tolerance - now, start - now)
    after = start + interval
    remaining = (now + tolerance + interval - after) // interval
    return Outcome(True, after, remaining, 0, after - now)


def rescale(tat: int, now: int, before: Rate, after: Rate) -> int:
    """The same counter under a changed limit: as many requests owed, at the new price each."""
    owed = max(0, tat - now)
    return now + owed * after.interval_ns // before.interval_ns
