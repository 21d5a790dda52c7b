"""Which deletions of a burst wait: tables for the thresholds, properties for what must hold of any burst."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_api.runtime.platform import MassDeletion
from tenantplane_operator.hold import Deletion, allowance, held, released

LIMITS = MassDeletion()
NOW = 1_000_000.0


def burst(count: int, *, scope: str = "", at: float = NOW, prefix: str = "d") -> list[Deletion]:
    return [Deletion(f"{prefix}{scope}{number}", scope, at) for number in range(count)]


@pytest.mark.parametrize(
    ("objects", "allowed"),
    [(0, 5), (1, 5), (50, 5), (59, 5), (60, 6), (100, 10), (1999, 199)],
)
def test_the_allowance_is_the_floor_or_the_fraction(objects: int, allowed: int) -> None:
    assert allowance(objects, LIMITS) == allowed


@pytest.mark.parametrize(
    ("pending", "passed", "live", "waits"),
    [
        (1, 0, 0, 0),
        (5, 0, 0, 0),
        (6, 0, 0, 6),
        (6, 0, 1000, 0),
        (1, 5, 0, 1),
        (1, 5, 100, 0),
        (100, 0, 900, 0),
        (101, 0, 900, 101),
        (1, 99, 900, 0),
        (1, 100, 899, 1),
    ],
)
def test_beyond_the_allowance_nothing_more_goes(pending: int, passed: int, live: int, waits: int) -> None:
    found = held(burst(pending), burst(passed, prefix="p"), live=live, limits=LIMITS, now=NOW)
    assert len(found) == waits


def test_what_went_through_is_forgotten_after_the_window() -> None:
    limits = MassDeletion(window_seconds=600)
    old, young = burst(5, at=NOW - 600, prefix="p"), burst(5, at=NOW - 599, prefix="p")
    assert held(burst(1), old, live=0, limits=limits, now=NOW) == frozenset()
    assert held(burst(1), young, live=0, limits=limits, now=NOW) == {"d0"}


def test_what_waits_counts_however_old_it_is() -> None:
    assert len(held(burst(6, at=NOW - 1e6), [], live=0, limits=LIMITS, now=NOW)) == 6


def test_one_tenants_deletions_never_hold_anothers() -> None:
    loud, quiet = burst(50, scope="tenant-loud"), burst(1, scope="tenant-quiet")
    found = held([*loud, *quiet], [], live=100, limits=LIMITS, now=NOW)
    assert found == {deletion.name for deletion in loud}
    # Let through ones of the loud one count no more against the quiet one than waiting ones do.
    assert held(quiet, loud, live=100, limits=LIMITS, now=NOW) == frozenset()


def test_many_tenants_that_lose_one_each_are_a_mass_deletion() -> None:
    many = [deletion for number in range(50) for deletion in burst(1, scope=f"tenant-{number}")]
    assert len(held(many, [], live=100, limits=LIMITS, now=NOW)) == 50


_SCOPES = st.sampled_from(["", "a", "b", "c"])
_ENTRIES = st.lists(st.tuples(_SCOPES, st.floats(NOW - 2000, NOW)), max_size=40)
_LIMITS = st.builds(
    MassDeletion,
    floor=st.integers(1, 10),
    fraction=st.floats(0, 1),
    window_seconds=st.floats(1, 1500),
)


def _named(entries: list[tuple[str, float]], prefix: str) -> list[Deletion]:
    return [Deletion(f"{prefix}{number}", scope, at) for number, (scope, at) in enumerate(entries)]


@given(_ENTRIES, _ENTRIES, st.integers(0, 500), _LIMITS)
def test_any_burst(
    waiting: list[tuple[str, float]], gone: list[tuple[str, float]], live: int, limits: MassDeletion
) -> None:
    pending, passed = _named(waiting, "w"), _named(gone, "p")
    found = held(pending, passed, live=live, limits=limits, now=NOW)
    assert found <= {deletion.name for deletion in pending}
    recent = [d for d in passed if NOW - d.at < limits.window_seconds]
    if len(pending) + len(recent) <= limits.floor:
        assert not found, "a handful is never delayed"
    # What goes now, with what went, stays within what one window lets through, a neighbour's noise left out.
    going = [d for d in pending if d.name not in found]
    total = allowance(live + len(pending) + len(recent), limits)
    for scope in {d.scope for d in going}:
        others: dict[str, int] = {}
        for deletion in (*pending, *recent):
            if deletion.scope and deletion.scope != scope:
                others[deletion.scope] = others.get(deletion.scope, 0) + 1
        loudest = max(others.values(), default=0) if scope else 0
        assert len(pending) + len(recent) - loudest <= total
    # All of one namespace, and all of the platform's, share one fate.
    fates = {(d.scope, d.name in found) for d in pending}
    assert len({scope for scope, _ in fates}) == len(fates)


@given(_ENTRIES, _ENTRIES, st.integers(0, 500), _LIMITS)
def test_more_deletions_never_hold_less(
    waiting: list[tuple[str, float]], more: list[tuple[str, float]], live: int, limits: MassDeletion
) -> None:
    limits = MassDeletion(floor=limits.floor, fraction=0.0, window_seconds=limits.window_seconds)
    before = held(_named(waiting, "w"), [], live=live, limits=limits, now=NOW)
    after = held([*_named(waiting, "w"), *[Deletion(d.name, "", d.at) for d in _named(more, "m")]], [], live=live,
                 limits=limits, now=NOW)  # fmt: skip
    assert before <= after


@pytest.mark.parametrize(
    ("request_", "since", "is_released"),
    [
        (None, 0.0, False),
        ("", 0.0, False),
        ("yes", 0.0, False),
        ("1970-01-12T13:46:40Z", NOW, True),
        ("1970-01-12T13:46:40.5Z", NOW + 0.7, True),
        ("1970-01-12T13:46:40", NOW, True),
        ("1970-01-12T13:46:39Z", NOW, False),
        ("1970-01-12T15:46:40+02:00", NOW, True),
        ("1970-01-12T14:40:00Z", NOW, True),
        ("1971-01-01T00:00:00Z", NOW, False),
    ],
)
def test_a_request_confirms_what_is_held_and_not_what_is_to_come(
    request_: str | None, since: float, is_released: bool
) -> None:
    assert released(request_, since=since, now=NOW + 10) is is_released
