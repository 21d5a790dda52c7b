"""Who has the right to a text: the same answer in whatever order the objects are seen."""

import itertools
from typing import Any

from tenantplane_operator.apikey.owners import HashOwners
from tenantplane_operator.runtime.resources import ObjectKey

A, B, C = (ObjectKey("APIKey", namespace, "k") for namespace in ("a", "b", "c"))


def holds(digest: str, since: str = "2026-01-02", *, previous: str = "", deleting: bool = False) -> dict[str, Any]:
    status: dict[str, Any] = {"hash": digest, "lastRotatedAt": since} if digest else {}
    if previous:
        status["previous"] = [{"hash": previous, "keyID": "x", "acceptedUntil": "2099-01-01T00:00:00Z"}]
    meta = {"creationTimestamp": "2026-01-01", **({"deletionTimestamp": "now"} if deleting else {})}
    return {"metadata": meta, "status": status}


def test_the_older_publication_wins_in_any_order() -> None:
    states = [(A, holds("h", "2026-01-03")), (B, holds("h", "2026-01-02")), (C, holds("", previous="x"))]
    for order in itertools.permutations(states):
        owners = HashOwners()
        for key, obj in order:
            owners.see(key, obj)
        assert owners.taken(A, "h")
        assert not owners.taken(B, "h")
        assert owners.taken(C, "h"), "who does not hold it comes last"
        assert "h" in owners.outside("a")
        assert "h" not in owners.outside("b")


def test_a_tie_is_broken_by_name() -> None:
    owners = HashOwners()
    owners.see(B, holds("h"))
    owners.see(A, holds("h"))
    assert owners.taken(B, "h")
    assert not owners.taken(A, "h")


def test_a_text_in_its_grace_is_held() -> None:
    owners = HashOwners()
    owners.see(A, holds("new", previous="old"))
    assert owners.taken(B, "old")
    owners.see(B, holds("old", "2020-01-01"))
    assert owners.taken(B, "old"), "it was there before"
    assert not owners.taken(A, "old")


def test_who_waits_is_told_when_a_text_is_free() -> None:
    owners = HashOwners()
    owners.see(A, holds("new", previous="old"))
    owners.want(B, "old")
    owners.want(C, "new")
    assert owners.see(A, holds("new", previous="old")) == frozenset()
    assert owners.see(A, holds("new")) == {B}
    assert owners.see(A, None) == {C}
    assert not owners.taken(B, "old")
    owners.want(C, None)
    assert owners.wanting({"new"}) == frozenset()


def test_a_reservation_comes_last_and_ends_with_the_next_look() -> None:
    owners = HashOwners()
    owners.reserve(A, "h")
    assert owners.taken(B, "h")
    owners.see(B, holds("h"))
    assert owners.taken(A, "h")
    owners.see(B, None)
    assert not owners.taken(A, "h")
    owners.see(A, holds(""))
    assert not owners.taken(C, "h")


def test_what_is_being_deleted_holds_nothing() -> None:
    owners = HashOwners()
    owners.see(A, holds("h"))
    owners.want(B, "h")
    assert owners.see(A, holds("h", deleting=True)) == {B}
    assert not owners.taken(B, "h")
    assert owners.first("h") is None
    assert 5 not in owners.outside("a")
