"""Who owns a namespace, as a table of small worlds.

A Tenant is ``name/tenantID@age`` with ``>namespace`` where it names one, ``*`` where it serves and ``!`` where it is
being deleted; the first of a world asks. UIDs sort as names do. The namespace is ``-`` (none), ``plain``, or
``label:tenantID`` with ``.`` for a missing one; ``+name`` is a cluster admin's consent, ``~`` that it is terminating.
"""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operator.tenant.build import platform, tenant

from tenantplane_api.runtime import names
from tenantplane_operator.tenant.concern import Concern
from tenantplane_operator.tenant.identity import Claim, Owned, claim_of, decide
from tenantplane_operator.tenant.manifest import Manifest

_TENANT = re.compile(r"(?P<name>[^/]+)/(?P<id>[^@]+)@(?P<age>\d)(>(?P<space>[^!*]+))?(?P<serves>\*)?(?P<deleting>!)?")

TABLE = """
acme/A@1                            | -                | Create
acme/A@1                            | acme:A           | TakeBack
acme/A@1 recorded                   | acme:A           | Own
acme/A@1 recorded                   | -                | Create
acme/A@1                            | acme:A+acme      | TakeBack
acme/A@1 never                      | acme:A           | TakeBack
acme/A@1                            | plain            | AdoptionNotConsented
acme/A@1                            | plain+acme       | Adopt
acme/A@1                            | plain+beta       | AdoptionNotConsented
acme/A@1 never                      | plain+acme       | AdoptionNotConsented
acme/A@1                            | acme:B           | NamespaceConflict
acme/A@1                            | acme:B+acme      | NamespaceConflict
acme/A@1 recorded                   | acme:B           | NamespaceConflict
acme/A@1                            | beta:B           | NamespaceConflict
acme/A@1                            | beta:B+acme      | NamespaceConflict
acme/A@1                            | beta:A           | NamespaceConflict
acme/A@1                            | beta:A+acme      | NamespaceConflict
acme/A@1                            | beta:A~          | NamespaceConflict
acme/A@1                            | .:B              | NamespaceConflict
acme/A@1                            | .:A              | AdoptionNotConsented
acme/A@1                            | .:A+acme         | Adopt
acme/A@1                            | acme:.           | AdoptionNotConsented
acme/A@1                            | beta:.           | NamespaceConflict
acme/A@1                            | beta:.+acme      | NamespaceConflict
acme/A@1                            | acme:A~          | Waiting
acme/A@1                            | plain~           | Waiting
acme/A@1                            | acme:B~          | NamespaceConflict
acme/A@1>default                    | -                | NamespaceReserved
acme/A@1>kube-system                | plain+acme       | NamespaceReserved
acme/A@1>tenantplane-runtime        | acme:A           | NamespaceReserved
acme/A@1>shared beta/B@2>shared     | -                | Create
acme/A@2>shared beta/B@1>shared     | -                | NamespaceConflict
acme/A@2>shared beta/B@1>shared     | plain+acme       | NamespaceConflict
acme/A@2>shared beta/B@1>shared     | acme:A           | TakeBack
acme/A@1>shared beta/B@2>shared     | beta:B           | NamespaceConflict
acme/A@2>shared beta/B@1>shared!    | -                | Deleting
acme/A@2>tenant-beta beta/B@1       | -                | NamespaceConflict
acme/A@1 beta/A@2                   | -                | Create
acme/A@2 beta/A@1                   | -                | DuplicateTenantID
acme/A@2 beta/A@1                   | acme:A           | DuplicateTenantID
acme/A@2 beta/A@1!                  | acme:A           | Deleting
acme/A@2 beta/B@1                   | -                | Create
acme/A@0 beta/A@1                   | -                | DuplicateTenantID
acme/A@1 beta/A@1                   | -                | Create
beta/A@1 acme/A@1                   | -                | DuplicateTenantID
beta/A@1* acme/A@1                  | beta:A           | TakeBack
beta/A@1* acme/A@1                  | -                | Create
acme/A@1 beta/A@1*                  | -                | DuplicateTenantID
acme/A@1 beta/A@1*                  | acme:A           | DuplicateTenantID
beta/A@2* acme/A@1                  | beta:A           | DuplicateTenantID
beta/A@1>s* acme/B@1>s              | -                | Create
acme/B@1>s beta/A@1>s*              | -                | NamespaceConflict
"""
CASES = [tuple(part.strip() for part in line.split("|")) for line in TABLE.strip().splitlines()]


def _claim(text: str) -> Claim:
    match = _TENANT.fullmatch(text)
    assert match is not None, text
    name, age = match["name"], match["age"]
    return Claim(
        name=names.TenantName(name),
        tenant_id=names.TenantID(match["id"]),
        uid=f"uid-{name}",
        created=f"2026-01-0{age}T00:00:00Z" if age != "0" else "",
        namespace=match["space"] or names.default_namespace(name),
        deleting=match["deleting"] is not None,
        serves=match["serves"] is not None,
    )


def _namespace(text: str) -> Manifest | None:
    if text == "-":
        return None
    body, _, consent = text.rstrip("~").partition("+")
    labels: dict[str, str] = {}
    notes: dict[str, str] = {names.ANNOTATION_ADOPTABLE_BY: consent} if consent else {}
    if body != "plain":
        label, _, tenant_id = body.partition(":")
        if label != ".":
            labels[names.LABEL_TENANT] = label
        if tenant_id != ".":
            notes[names.ANNOTATION_TENANT_ID] = tenant_id
    metadata: dict[str, Any] = {"name": "any", "labels": labels, "annotations": notes}
    if text.endswith("~"):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": metadata}


def ask(world: str, space: str) -> Owned | Concern:
    words = world.split()
    flags = {word for word in words if word in ("recorded", "never")}
    claims = [_claim(word) for word in words if word not in flags]
    return decide(
        claims[0],
        namespace=_namespace(space),
        others=claims,
        adoption_policy="Never" if "never" in flags else "ByConsent",
        recorded="recorded" in flags,
        platform=platform(),
    )


@pytest.mark.parametrize(("world", "space", "expected"), CASES, ids=[f"{a} on {b}" for a, b, _ in CASES])
def test_decision(world: str, space: str, expected: str) -> None:
    answer = ask(world, space)
    if isinstance(answer, Owned):
        assert answer.how.value == expected
    else:
        assert answer.reason == expected
        assert answer.status == "False"
        assert len(answer.message) > 20
        assert answer.permanent is (expected not in ("Waiting", "Deleting"))


@given(
    st.permutations([1, 2, 3]),
    st.permutations(["u1", "u2", "u3"]),
    st.booleans(),
    st.sampled_from([None, 0, 1, 2]),
)
def test_exactly_one_of_several_rivals_wins_whoever_asks(
    ages: list[int], uids: list[str], same_time: bool, serving: int | None
) -> None:
    claims = [
        Claim(
            name=names.TenantName(f"t{i}"),
            tenant_id=names.TenantID(f"id-{i}"),
            uid=uids[i],
            created="2026-01-01T00:00:00Z" if same_time else f"2026-01-0{ages[i]}T00:00:00Z",
            namespace="shared",
            serves=i == serving,
        )
        for i in range(3)
    ]
    answers = [
        decide(c, namespace=None, others=claims, adoption_policy="ByConsent", recorded=False, platform=platform())
        for c in claims
    ]
    winners = [claim for claim, answer in zip(claims, answers, strict=True) if isinstance(answer, Owned)]
    assert winners == [min(claims, key=lambda c: c.age)]
    if same_time and serving is not None:
        assert winners == [claims[serving]]


def test_an_invalid_tenant_still_claims() -> None:
    broken = tenant("acme", spec={"models": "not a list", "namespace": {"name": "shared"}})
    claim = claim_of(broken)
    assert claim is not None
    assert (claim.tenant_id, claim.namespace, claim.created) == ("acme-0001", "shared", "2026-01-01T00:00:00Z")
    assert claim_of({"metadata": {"name": "x"}, "spec": {}}) is None
    assert claim_of({"metadata": {"name": "x"}, "spec": None}) is None


def test_what_is_known_of_the_asking_tenant_is_in_the_list() -> None:
    """The reconcile asks with what the object says; that its document stands is known to the list."""
    asks, listed, rival = _claim("beta/A@1"), _claim("beta/A@1*"), _claim("acme/A@1")
    answer = decide(
        asks,
        namespace=None,
        others=[rival, listed],
        adoption_policy="ByConsent",
        recorded=False,
        platform=platform(),
    )
    assert isinstance(answer, Owned)


def test_serving_is_no_part_of_the_claim() -> None:
    assert _claim("beta/A@1") == _claim("beta/A@1*")
    served = tenant("acme", status={"namespace": "tenant-acme", "runtimeRevision": "0" * 16})
    claim = claim_of(served)
    assert claim is not None
    assert claim.serves
    claim = claim_of(tenant("acme", status={"namespace": "tenant-acme"}))
    assert claim is not None
    assert not claim.serves


def test_a_lost_label_says_how_to_put_it_back() -> None:
    refusal = ask("acme/A@1 recorded", ".:A")
    assert isinstance(refusal, Concern)
    assert "kubectl label namespace tenant-acme tenantplane.dev/tenant=acme" in refusal.message


def test_a_stale_consent_does_not_hand_a_customers_namespace_to_the_next_of_that_name() -> None:
    """The namespace stays with its tenantID after Retain; the old ``adoptable-by`` is still on it."""
    assert isinstance(ask("acme/A@1 recorded", "acme:A+acme"), Owned)
    refusal = ask("acme/B@1", "acme:A+acme")
    assert isinstance(refusal, Concern)
    assert refusal.reason == "NamespaceConflict"
