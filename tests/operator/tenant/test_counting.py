"""When a quota may count our own kinds: late rather than early, and not for ever when nobody counts."""

from typing import Any

from tenantplane_operator.tenant.counting import PATIENCE, PAUSE, Counting, counts_own_kinds, unfilled

ENTRY = "count/apikeys.tenantplane.dev"


def quota(*, used: bool) -> dict[str, Any]:
    return {
        "spec": {"hard": {ENTRY: "5", "pods": "10"}},
        "status": {"hard": {ENTRY: "5"}, "used": {"pods": "0", **({ENTRY: "1"} if used else {})}},
    }


def test_only_our_kinds_wait() -> None:
    assert counts_own_kinds({ENTRY: "5"})
    assert not counts_own_kinds({"pods": "5", "count/deployments.apps": "1"})
    assert unfilled(quota(used=False))
    assert not unfilled(quota(used=True))
    assert not unfilled(None)
    assert not unfilled({"spec": {"hard": {"pods": "1"}}})


def test_fresh_definitions_are_waited_for() -> None:
    counting = Counting()
    assert counting.look("acme", None, fresh=30.0, now=0.0) == (False, 31.0)
    assert counting.look("acme", None, fresh=0.0, now=31.0) == (True, None)
    assert counting.look("acme", quota(used=True), fresh=0.0, now=32.0) == (True, None)


def test_an_entry_that_nobody_fills_in_is_taken_out_for_a_while() -> None:
    counting = Counting()
    assert counting.look("acme", quota(used=False), fresh=0.0, now=0.0) == (True, PATIENCE)
    assert counting.look("acme", quota(used=False), fresh=0.0, now=4.0) == (True, PATIENCE - 4)
    assert counting.look("acme", quota(used=False), fresh=0.0, now=PATIENCE) == (False, PAUSE)
    # Without the entry nothing is unfilled, and yet it is not put back at once.
    assert counting.look("acme", None, fresh=0.0, now=PATIENCE + 1) == (False, PAUSE - 1)
    assert counting.look("beta", quota(used=True), fresh=0.0, now=PATIENCE + 1) == (True, None)
    assert counting.look("acme", None, fresh=0.0, now=PATIENCE + PAUSE) == (True, None)
    # Filled in late, it stays.
    assert counting.look("acme", quota(used=False), fresh=0.0, now=200.0)[0]
    assert counting.look("acme", quota(used=True), fresh=0.0, now=205.0) == (True, None)
    assert counting.look("acme", quota(used=False), fresh=0.0, now=299.0) == (True, PATIENCE)
    counting.forget("acme")
