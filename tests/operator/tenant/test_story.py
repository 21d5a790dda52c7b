"""What is told of a Tenant, and what its conditions say while something of it is held."""

from typing import Any

import pytest

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_operator.tenant.concern import Concern, failed, ok
from tenantplane_operator.tenant.heldstatus import hold_conditions
from tenantplane_operator.tenant.identity import Owned, Ownership
from tenantplane_operator.tenant.story import namespace_event, story


def status(plan: str = "", *, suspended: bool = False) -> dict[str, Any]:
    out: dict[str, Any] = {"conditions": [{"type": "Suspended", "status": "True"}] if suspended else []}
    return {**out, "effective": {"plan": plan}} if plan else out


@pytest.mark.parametrize(
    ("before", "now", "reasons"),
    [
        ({}, status("small"), []),
        (status("small"), status("small"), []),
        (status("small"), status("large"), ["PlanChanged"]),
        (status("small"), {}, []),
        (status("small"), status("small", suspended=True), ["Suspended"]),
        (status("small", suspended=True), status("small", suspended=True), []),
        (status("small", suspended=True), status("large"), ["Resumed", "PlanChanged"]),
        ({}, status("small", suspended=True), ["Suspended"]),
    ],
)
def test_a_change_is_told_once(before: dict[str, Any], now: dict[str, Any], reasons: list[str]) -> None:
    assert [event.reason for event in story(before, now)] == reasons


def test_how_the_namespace_was_come_by() -> None:
    told = {how: namespace_event(Owned(how, "because"), "tenant-acme") for how in Ownership}
    assert told.pop(Ownership.OWN) is None
    assert {event.reason for event in told.values() if event is not None} == {
        "NamespaceCreated",
        "NamespaceAdopted",
        "NamespaceTakenBack",
    }
    made = namespace_event(Owned(Ownership.CREATE), "tenant-acme")
    assert made is not None
    assert "tenant-acme" in made.note


def test_a_held_tenant_is_stalled_whatever_its_concerns_say() -> None:
    fine = {ConditionType.NAMESPACE_READY: ok(), ConditionType.READY: ok()}
    waiting = {ConditionType.READY: failed(Reason.WAITING, "x"), ConditionType.RECONCILING: Concern("True", "Waiting")}
    for conditions in (fine, waiting):
        shown = hold_conditions(conditions, "too many at once", ["a"])
        assert shown[ConditionType.MASS_DELETION_HELD].ok
        assert shown[ConditionType.STALLED].ok
        assert shown[ConditionType.READY].status == "False"
        assert shown[ConditionType.READY].reason == Reason.MASS_DELETION_HELD
        assert shown[ConditionType.READY].message == "too many at once"
        assert ConditionType.RECONCILING not in shown
    assert fine[ConditionType.READY].ok, "the input is not changed"


def test_held_keys_do_not_lower_a_tenant_that_works() -> None:
    conditions = {ConditionType.READY: ok()}
    shown = hold_conditions(conditions, None, [f"key-{number}" for number in range(12)])
    assert shown[ConditionType.READY].ok
    message = shown[ConditionType.MASS_DELETION_HELD].message
    assert "key-9 and 2 more" in message
    assert "release --confirm" in message
    assert hold_conditions(conditions, None, []) == conditions
