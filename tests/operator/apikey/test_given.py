"""Keys from users' Secrets: what counts as one, what happens when it goes or changes, and that nothing of it leaks."""

import base64
from typing import Any

import pytest
from tests.operator.apikey.build import (
    ACME,
    GIVEN,
    NOW,
    OTHER,
    R1,
    ROTATE_NOTE,
    TEXT,
    THIRD,
    ask,
    key,
    known,
    secret,
    users,
)

from tenantplane_api.crd.conditions import ConditionType
from tenantplane_operator.apikey.secret import ObservedSecret, SecretState, observe_secret
from tenantplane_operator.apikey.state import Action, KeyDecision
from tenantplane_operator.tenant.manifest import Manifest

FLIPPED = TEXT.text[:-1] + ("a" if TEXT.text[-1] != "a" else "b")


def look(found: Manifest | None) -> ObservedSecret:
    return observe_secret(found, key(GIVEN), ACME)


def ready(found: KeyDecision) -> tuple[str, str]:
    return found.conditions[ConditionType.READY].status, found.conditions[ConditionType.READY].reason


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        (None, SecretState.MISSING, "there is no Secret mine"),
        (users(TEXT.text), SecretState.GIVEN, ""),
        ({"metadata": {"name": "mine"}}, SecretState.MISSING, "has no key k"),
        ({"metadata": {"name": "mine"}, "data": {"other": "eA=="}}, SecretState.MISSING, "has no key k"),
        (users(TEXT.text) | {"metadata": {"deletionTimestamp": "now"}}, SecretState.MISSING, "there is no Secret"),
        (users(TEXT.text + "\n"), SecretState.UNUSABLE, "white space around it"),
        (users(FLIPPED), SecretState.UNUSABLE, "checksum"),
        (users("hunter2"), SecretState.UNUSABLE, "not an API key"),
        (users(""), SecretState.UNUSABLE, "not an API key"),
        (users("x") | {"data": {"k": "not base64"}}, SecretState.UNUSABLE, "not an API key"),
        (users("x") | {"data": {"k": base64.b64encode(b"\xff").decode()}}, SecretState.UNUSABLE, "not an API key"),
        (users(TEXT.text, type="kubernetes.io/service-account-token"), SecretState.UNUSABLE, "may come from"),
        (secret(), SecretState.UNUSABLE, "may come from"),
    ],
)
def test_what_a_users_secret_is(found: Manifest | None, state: SecretState, words: str) -> None:
    observed = look(found)
    assert observed.state is state
    assert words in observed.problem
    assert (observed.digest is not None) is (state is SecretState.GIVEN)
    for text in (TEXT.text, FLIPPED, "hunter2"):
        assert text[3:] not in repr(observed)


def test_its_secret_is_the_one_that_the_spec_names() -> None:
    assert key(GIVEN).secret_name == "mine"


STATES: list[tuple[str, dict[str, Any], ObservedSecret, tuple[str, str]]] = [
    ("not there yet", {}, look(None), ("False", "SecretNotFound")),
    ("no key", {}, look(users("hunter2")), ("False", "KeyRejected")),
    ("there", {}, look(users(THIRD.text)), ("False", "Progressing")),
    ("published", known(), look(users(TEXT.text)), ("True", "Ready")),
    ("replaced", known(OTHER), look(users(TEXT.text)), ("True", "Ready")),
    ("gone", known(), look(None), ("False", "SecretNotFound")),
    ("spoilt", known(), look(users(FLIPPED)), ("False", "KeyRejected")),
]


@pytest.mark.parametrize(("name", "status", "observed", "expected"), STATES, ids=[row[0] for row in STATES])
def test_states(name: str, status: dict[str, Any], observed: ObservedSecret, expected: tuple[str, str]) -> None:
    for spec in (GIVEN, {**GIVEN, "revoked": True}):
        found = ask(key(spec, status), observed, published={TEXT.digest: R1})
        # A Secret that is not ours is neither made nor deleted, whatever is wanted.
        assert found.action in (Action.KEEP, Action.REFUSE), name
        assert TEXT.text[12:] not in repr(found)
        assert "hunter2" not in repr(found)
        if "revoked" in spec:
            assert ready(found) == ("False", "Revoked")
        else:
            assert ready(found) == expected
            wrong = observed.state is not SecretState.GIVEN
            assert (found.requeue_after == 5) is wrong


def test_a_changed_text_is_a_rotation_with_grace() -> None:
    found = ask(key({**GIVEN, "rotation": {"grace": "10m"}}, known()), look(users(OTHER.text)))
    assert found.status["hash"] == OTHER.digest
    assert found.status["previous"][0] == {
        "hash": TEXT.digest,
        "keyID": TEXT.key_id,
        "acceptedUntil": "2026-11-01T12:10:00Z",
    }


@pytest.mark.parametrize("lost", [look(None), look(users(FLIPPED))])
def test_a_text_that_is_lost_ends_with_its_grace_and_comes_back_with_its_secret(lost: ObservedSecret) -> None:
    gone = ask(key(GIVEN, known()), lost)
    assert "hash" not in gone.status
    assert gone.status["previous"][0]["acceptedUntil"] == "2026-11-01T13:00:00Z"
    assert "works until 2026-11-01T13:00:00Z" in gone.conditions[ConditionType.READY].message
    # The grace does not begin again with every look.
    later = ask(key(GIVEN, gone.status), lost, now=NOW.replace(minute=30))
    assert later.status["previous"] == gone.status["previous"]
    back = ask(key(GIVEN, later.status), look(users(TEXT.text)))
    assert back.status["hash"] == TEXT.digest
    assert "previous" not in back.status
    ended = ask(key(GIVEN, gone.status), lost, now=NOW.replace(hour=13))
    assert "previous" not in ended.status
    refused = ask(key({**GIVEN, "rotation": {"grace": "0s"}}, known()), lost)
    assert "previous" not in refused.status


def test_a_rotation_that_is_asked_for_is_answered_by_reading() -> None:
    asked = key(GIVEN, known(), {ROTATE_NOTE: "2026-11-01T11:00:00Z"})
    found = ask(asked, look(users(TEXT.text)))
    assert found.action is Action.KEEP
    assert found.status["handledRequests"] == {"rotate-requested-at": "2026-11-01T11:00:00Z"}


def test_a_text_of_another_is_rejected_and_the_old_one_ends_with_its_grace() -> None:
    found = ask(key(GIVEN, known()), look(users(OTHER.text)), taken=frozenset({OTHER.digest}))
    assert ready(found) == ("False", "KeyRejected")
    assert "hash" not in found.status
    assert found.status["previous"][0]["hash"] == TEXT.digest
    assert found.wanted == OTHER.digest
