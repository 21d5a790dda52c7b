"""Limits against a simple reference model with a fake clock, and keys that never meet."""

from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_api.runtime.names import TenantID
from tenantplane_dataplane.policy.gcra import MINUTE_NS, Rate, rescale, take
from tenantplane_dataplane.policy.limit_keys import LimitKey, limit_key
from tenantplane_dataplane.policy.limiter import (
    Denial,
    Descriptor,
    Grant,
    LocalLimiter,
    RateDescriptor,
    SlotDescriptor,
)

SECOND = 1_000_000_000


class Clock:
    """Nanoseconds that move when told."""

    def __init__(self) -> None:
        self.now = 17 * SECOND

    def __call__(self) -> int:
        return self.now


@dataclass
class Bucket:
    """The textbook's token bucket in exact fractions: as many tokens as the limit, refilled continuously."""

    limit: int
    interval: int
    tokens: Fraction = field(init=False)
    at: int = 0

    def __post_init__(self) -> None:
        self.tokens = Fraction(self.limit)

    def take(self, now: int) -> bool:
        self.tokens = min(Fraction(self.limit), self.tokens + Fraction(now - self.at, self.interval))
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@given(
    limit=st.integers(1, 1_000_000),
    steps=st.lists(st.one_of(st.just(0), st.integers(0, 3 * MINUTE_NS), st.integers(0, 10_000_000)), max_size=60),
)
def test_gcra_is_the_token_bucket(limit: int, steps: list[int]) -> None:
    rate = Rate(limit)
    bucket, now, tat = Bucket(limit, rate.interval_ns), 0, None
    for step in steps:
        now += step
        outcome = take(tat, now, rate)
        assert outcome.admitted == bucket.take(now)
        if outcome.admitted:
            tat = outcome.tat
            assert outcome.remaining == int(bucket.tokens)
        else:
            # Exactly then, and not a nanosecond before.
            assert take(tat, now + outcome.retry_ns, rate).admitted
            assert not take(tat, now + outcome.retry_ns - 1, rate).admitted


@given(limit=st.integers(1, 5_000), starts=st.lists(st.integers(0, MINUTE_NS), max_size=200))
def test_a_window_never_sees_more_than_stated(limit: int, starts: list[int]) -> None:
    rate, tat, admitted = Rate(limit), None, 0
    for now in sorted(starts):
        outcome = take(tat, now, rate)
        if outcome.admitted:
            tat, admitted = outcome.tat, admitted + 1
    assert admitted <= 2 * limit


@given(owed=st.integers(0, 100), before=st.integers(100, 10_000), after=st.integers(100, 10_000))
def test_a_changed_limit_keeps_what_is_owed(owed: int, before: int, after: int) -> None:
    old, new = Rate(before), Rate(after)
    tat = rescale(owed * old.interval_ns, 0, old, new)
    assert abs(tat - owed * new.interval_ns) <= owed + 1


def rate(name: str, limit: int) -> RateDescriptor:
    return RateDescriptor(LimitKey(name), Rate(limit))


def slot(name: str, limit: int) -> SlotDescriptor:
    return SlotDescriptor(LimitKey(name), limit)


async def granted(limiter: LocalLimiter, *descriptors: Descriptor) -> Grant:
    decision = await limiter.acquire(descriptors)
    assert isinstance(decision, Grant), decision
    return decision


async def denied(limiter: LocalLimiter, *descriptors: Descriptor) -> Denial:
    decision = await limiter.acquire(descriptors)
    assert isinstance(decision, Denial), decision
    return decision


async def test_all_or_nothing() -> None:
    limiter = LocalLimiter(clock=Clock())
    held = await granted(limiter, rate("r", 2), slot("s", 1))
    denial = await denied(limiter, rate("r", 2), slot("s", 1))
    assert denial.kind == "concurrency"
    assert denial.standing is not None
    assert denial.standing.remaining == 1, "the refused request was not counted"
    await limiter.release(held)
    held = await granted(limiter, rate("r", 2), slot("s", 1))
    await limiter.release(held)
    denial = await denied(limiter, rate("r", 2), slot("s", 1))
    assert denial.kind == "requests"
    await granted(limiter, slot("s", 1))


async def test_refused_requests_do_not_push_the_next_one_back() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock=clock)
    await granted(limiter, rate("r", 1))
    for _ in range(100):
        denial = await denied(limiter, rate("r", 1))
        assert denial.retry_seconds == 60
    clock.now += 60 * SECOND
    await granted(limiter, rate("r", 1))


async def test_changed_limits_take_effect_on_the_same_counter() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock=clock)
    await granted(limiter, rate("r", 1))
    await denied(limiter, rate("r", 1))
    grant = await granted(limiter, rate("r", 600))
    assert grant.standing is not None
    assert grant.standing.remaining == 598
    for _ in range(598):
        await granted(limiter, rate("r", 600))
    await denied(limiter, rate("r", 600))
    await denied(limiter, rate("r", 1))


@given(st.lists(st.tuples(st.sampled_from(["take", "give"]), st.sampled_from(["a", "b"])), max_size=60))
async def test_slots_never_exceed_their_limit_and_never_leak(steps: list[tuple[str, str]]) -> None:
    limiter, limits = LocalLimiter(clock=Clock()), {"a": 2, "b": 3}
    held: dict[str, list[Grant]] = {"a": [], "b": []}
    for action, name in steps:
        if action == "take":
            decision = await limiter.acquire([slot(name, limits[name])])
            assert isinstance(decision, Grant) == (len(held[name]) < limits[name])
            if isinstance(decision, Grant):
                held[name].append(decision)
        elif held[name]:
            await limiter.release(held[name].pop())
    for grants in held.values():
        for grant in grants:
            await limiter.release(grant)
    assert not limiter._slots


async def test_counters_of_idle_tenants_are_forgotten() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock=clock)
    for number in range(4000):
        await granted(limiter, rate(f"old-{number}", 60))
    clock.now += 61 * SECOND
    for number in range(200):
        await granted(limiter, rate(f"new-{number}", 60))
    assert len(limiter._rates) == 200


TEXT = st.text(max_size=12)
FIELDS = st.tuples(TEXT.filter(bool), TEXT, st.lists(TEXT, max_size=3))


@given(FIELDS, FIELDS)
def test_two_different_lists_of_fields_never_give_one_key(
    one: tuple[str, str, list[str]], other: tuple[str, str, list[str]]
) -> None:
    first = limit_key(TenantID(one[0]), one[1], *one[2])
    second = limit_key(TenantID(other[0]), other[1], *other[2])
    assert (first == second) == (one == other)


@given(TEXT, TEXT, TEXT)
def test_moving_a_character_between_fields_changes_the_key(a: str, b: str, c: str) -> None:
    tenant = TenantID("t")
    assert limit_key(tenant, a + b, c) != limit_key(tenant, a, b + c) or not b


def test_a_key_without_a_tenant_is_a_bug() -> None:
    with pytest.raises(ValueError, match="tenant"):
        limit_key(TenantID(""), "requests")
