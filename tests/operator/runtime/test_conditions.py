"""Conditions: times move on a flip only, and an unchanged state writes nothing."""

from datetime import UTC, datetime, timedelta

from tenantplane_operator.runtime.conditions import Condition, find, is_true, merge, rfc3339, same

NOW = datetime(2027, 1, 1, 12, 0, 0, 999, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def test_the_time_moves_only_when_the_status_flips() -> None:
    first = merge([], [Condition("Ready", "False", "Progressing", "one")], generation=1, now=NOW)
    assert first[0]["lastTransitionTime"] == "2027-01-01T12:00:00Z"
    second = merge(first, [Condition("Ready", "False", "Waiting", "two")], generation=2, now=LATER)
    assert second[0]["lastTransitionTime"] == first[0]["lastTransitionTime"]
    assert second[0]["reason"] == "Waiting"
    assert second[0]["observedGeneration"] == 2
    third = merge(second, [Condition("Ready", "True", "Ready")], generation=2, now=LATER)
    assert third[0]["lastTransitionTime"] == rfc3339(LATER)


def test_conditions_that_are_not_wanted_go() -> None:
    before = merge([], [Condition("Ready", "False", "x"), Condition("Stalled", "True", "x")], generation=1, now=NOW)
    after = merge(before, [Condition("Ready", "True", "Ready")], generation=1, now=LATER)
    assert find(after, "Stalled") is None
    assert is_true(after, "Ready")


def test_same_ignores_order_and_emptiness_and_nothing_else() -> None:
    conditions = merge([], [Condition("A", "True", "x"), Condition("B", "True", "y")], generation=1, now=NOW)
    status = {"conditions": conditions, "a": {"b": 1}, "empty": ""}
    assert same(status, {"conditions": conditions[::-1], "a": {"b": 1}, "list": []})
    assert not same(status, {"conditions": conditions[:1], "a": {"b": 1}})
    assert not same(status, {"conditions": conditions})
    assert not same({"a": 0}, {})
    assert not same({"items": [1, 2]}, {"items": [2, 1]})


def test_a_long_message_is_cut_to_what_the_schema_takes() -> None:
    assert len(merge([], [Condition("A", "True", "x", "m" * 9999)], generation=1, now=NOW)[0]["message"]) == 4096
