"""Rotation: when it is due, what happens to the text that was there, and that no crash makes it happen twice."""

from datetime import timedelta
from typing import Any

import pytest
from tests.operator.apikey.build import (
    ACME,
    NOW,
    OTHER,
    R1,
    ROTATE_NOTE,
    TEXT,
    THIRD,
    ask,
    key,
    known,
    replaced,
    secret,
    seen,
)

from tenantplane_api.crd.conditions import ConditionType
from tenantplane_api.runtime import keys, limits, names
from tenantplane_operator.apikey.again import look_again
from tenantplane_operator.apikey.secret import ABSENT, observe_secret
from tenantplane_operator.apikey.state import Action, KeyDecision
from tenantplane_operator.tenant.concern import Refused

HOURLY = {"rotation": {"interval": "1h", "grace": "10m"}}
ASKED = {ROTATE_NOTE: "2026-11-01T11:59:00Z"}
ANSWERED: dict[str, Any] = {"handledRequests": {"rotate-requested-at": "2026-11-01T11:59:00Z"}}


def hashes(found: KeyDecision) -> list[str]:
    return [entry["hash"] for entry in found.status.get("previous", [])]


# When.


@pytest.mark.parametrize(
    ("spec", "status", "notes", "action"),
    [
        ({}, known(), {}, Action.KEEP),
        (HOURLY, known(), {}, Action.ROTATE),
        (HOURLY, known(lastRotatedAt="2026-11-01T11:00:01Z"), {}, Action.KEEP),
        (HOURLY, known(lastRotatedAt="2026-11-01T11:00:00Z"), {}, Action.ROTATE),
        ({}, known(), ASKED, Action.ROTATE),
        ({}, known(**ANSWERED), ASKED, Action.KEEP),
        ({}, known(handledRequests={"rotate-requested-at": "2026-11-01T09:00:00Z"}), ASKED, Action.ROTATE),
        ({}, known(), {ROTATE_NOTE: "now"}, Action.KEEP),
        ({"expiresAt": "2026-11-01T00:00:00Z"}, known(), ASKED, Action.KEEP),
        ({**HOURLY, "expiresAt": "2026-11-01T00:00:00Z"}, known(), {}, Action.KEEP),
        ({"revoked": True}, known(), ASKED, Action.DELETE_SECRET),
    ],
)
def test_when_a_key_is_rotated(
    spec: dict[str, Any], status: dict[str, Any], notes: dict[str, str], action: Action
) -> None:
    found = ask(key(spec, status, notes), seen())
    assert found.action is action
    # Until the new text is there, nothing about the old one changes.
    assert found.status["hash"] == TEXT.digest


def test_the_age_of_a_text_that_has_none_is_counted_from_now() -> None:
    found = ask(key(HOURLY, {"hash": TEXT.digest, "keyID": TEXT.key_id}), seen())
    assert found.action is Action.KEEP
    assert found.status["lastRotatedAt"] == "2026-11-01T12:00:00Z"
    assert found.status["nextRotationAt"] == "2026-11-01T13:00:00Z"
    assert found.requeue_after == 3600


def test_the_next_look_is_at_what_comes_first() -> None:
    status = known(lastRotatedAt="2026-11-01T11:30:00Z", previous=[replaced(OTHER, "2026-11-01T12:20:00Z")])
    assert ask(key(HOURLY, status), seen()).requeue_after == 1200
    assert ask(key(HOURLY, known(lastRotatedAt="2026-11-01T11:30:00Z")), seen()).requeue_after == 1800
    expiring = {**HOURLY, "expiresAt": "2026-11-01T12:01:00Z"}
    assert ask(key(expiring, status), seen()).requeue_after == 60
    tampered = observe_secret(secret() | {"data": {}}, key(), ACME)
    assert ask(key(HOURLY, status), tampered).requeue_after == 5


# Crash points, in order. The request is pending throughout.


def test_a_rotation_that_stops_at_any_step_is_continued_and_not_repeated() -> None:
    status = known()
    asked = key(HOURLY, status, ASKED)
    assert ask(asked, seen()).action is Action.ROTATE
    # The Secret is deleted, the new one is not there.
    assert ask(asked, ABSENT).action is Action.CREATE_SECRET
    # The new Secret is there, the status does not know: it is taken, with what it answers.
    made = observe_secret(secret(OTHER, of=asked), asked, ACME)
    assert made.request == ASKED[ROTATE_NOTE]
    found = ask(asked, made)
    assert found.action is Action.KEEP
    assert found.status["hash"] == OTHER.digest
    assert found.status["handledRequests"] == ANSWERED["handledRequests"]
    assert found.status["previous"] == [replaced(TEXT, "2026-11-01T12:10:00Z")]
    # The status is there, the document is not: nothing to do but wait.
    again = ask(key(HOURLY, found.status, ASKED), made)
    assert again.action is Action.KEEP
    assert again.status == found.status


def test_a_request_that_came_while_another_was_answered_is_not_lost() -> None:
    made = observe_secret(secret(OTHER, of=key(notes=ASKED)), key(), ACME)
    later = {ROTATE_NOTE: "2026-11-01T12:00:00Z"}
    found = ask(key({}, known(), later), made)
    assert found.action is Action.KEEP
    assert found.status["hash"] == OTHER.digest
    assert found.requeue_after == 0
    assert ask(key({}, found.status, later), made).action is Action.ROTATE


def test_a_lost_status_does_not_repeat_what_the_secret_answered() -> None:
    made = observe_secret(secret(of=key(notes=ASKED)), key(), ACME)
    found = ask(key({}, {}, ASKED), made)
    assert found.action is Action.KEEP
    assert found.status["handledRequests"] == ANSWERED["handledRequests"]
    assert ask(key({}, found.status, ASKED), made).action is Action.KEEP


# What was there.


def test_between_two_texts_the_key_can_be_used() -> None:
    found = ask(key({}, known()), seen(OTHER), published={TEXT.digest: R1})
    assert found.conditions[ConditionType.READY].ok
    assert not found.conditions[ConditionType.PUBLISHED].ok
    without_grace = ask(key({"rotation": {"grace": "0s"}}, known()), seen(OTHER), published={TEXT.digest: R1})
    assert hashes(without_grace) == []
    assert not without_grace.conditions[ConditionType.READY].ok


def test_the_grace_is_never_shorter_than_asked_for() -> None:
    now = NOW + timedelta(milliseconds=1)
    found = ask(key({"rotation": {"grace": "1s"}}, known()), seen(OTHER), now=now)
    assert found.status["previous"][0]["acceptedUntil"] == "2026-11-01T12:00:02Z"
    assert ask(key({}, known()), seen(OTHER)).status["previous"][0]["acceptedUntil"] == "2026-11-01T13:00:00Z"


@pytest.mark.parametrize("state", ["ours", "edited", "absent", "expired"])
def test_after_its_grace_a_text_is_gone_whatever_the_state(state: str) -> None:
    spec = {"expiresAt": "2026-11-01T00:00:00Z"} if state == "expired" else {}
    observed = {
        "ours": seen(),
        "edited": observe_secret(secret() | {"data": {}}, key(), ACME),
        "absent": ABSENT,
        "expired": seen(),
    }[state]
    status = known(previous=[replaced(OTHER, "2026-11-01T12:00:00Z"), replaced(THIRD, "2026-11-01T12:00:01Z")])
    found = ask(key(spec, status), observed)
    assert hashes(found) == [THIRD.digest]
    assert found.requeue_after == 1 or state == "absent"


def test_at_most_four_are_kept_and_the_first_to_end_goes() -> None:
    old = [keys.generate_key() for _ in range(limits.PREVIOUS_KEYS_MAX)]
    listed = [replaced(text, f"2026-11-01T12:{10 + number}:00Z") for number, text in enumerate(old)]
    found = ask(key({"rotation": {"grace": "30m"}}, known(previous=listed)), seen(OTHER))
    assert hashes(found) == [TEXT.digest, *(text.digest for text in reversed(old[1:]))]
    # Whatever the order in which the API server gives them back, the same is said.
    shuffled = key({}, known(previous=list(reversed(listed))))
    assert hashes(ask(shuffled, seen())) == hashes(ask(key({}, known(previous=listed)), seen()))


def test_a_text_that_comes_back_is_not_in_its_grace() -> None:
    found = ask(key({}, known(OTHER, previous=[replaced(TEXT, "2026-11-01T12:30:00Z")])), seen())
    assert found.status["hash"] == TEXT.digest
    assert hashes(found) == [OTHER.digest]


def test_revocation_keeps_nothing_but_the_mark() -> None:
    status = known(previous=[replaced(OTHER, "2026-11-01T12:30:00Z")])
    under_way = ask(key({"revoked": True}, status), seen(), published={OTHER.digest: R1})
    assert under_way.conditions[ConditionType.PUBLISHED].reason == "Progressing"
    done = ask(key({"revoked": True}, status), seen())
    assert hashes(done) == []
    assert done.status["hash"] == TEXT.digest
    assert done.conditions[ConditionType.PUBLISHED].reason == "Revoked"


def test_what_another_has_the_better_right_to_is_dropped_from_the_grace_too() -> None:
    status = known(previous=[replaced(OTHER, "2026-11-01T12:30:00Z"), replaced(THIRD, "2026-11-01T12:30:00Z")])
    assert hashes(ask(key({}, status), seen(), taken=frozenset({OTHER.digest}))) == [THIRD.digest]


def test_a_new_text_that_another_has_leaves_the_one_that_was_given_out() -> None:
    found = ask(key({}, known()), seen(OTHER), taken=frozenset({OTHER.digest}))
    assert found.conditions[ConditionType.READY].reason == "KeyRejected"
    assert found.status["hash"] == TEXT.digest
    assert found.wanted == OTHER.digest


# Bounds that the schema has, said again.


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"rotation": {"interval": "59m"}}, r"spec\.rotation\.interval: must be at least 1h"),
        ({"rotation": {"grace": "721h"}}, r"spec\.rotation\.grace: must be at most 720h"),
        ({"rotation": {"grace": "1.5h"}}, r"spec\.rotation\.grace"),
        ({"valueFrom": {"secretKeyRef": {"name": "a", "key": "k"}}, "secretName": "b"}, r"spec\.secretName"),
        (
            {"valueFrom": {"secretKeyRef": {"name": "a", "key": "k"}}, "rotation": {"interval": "2h"}},
            r"spec\.rotation\.interval: a key from valueFrom",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        key(spec)


def test_a_revocation_survives_a_status_that_cannot_be_read() -> None:
    broken = known(revokedAt="2026-10-01T00:00:00Z", previous="nonsense")
    assert ask(key({}, broken), seen()).action is Action.DELETE_SECRET
    assert ask(key({}, broken), seen()).status["revokedAt"] == "2026-10-01T00:00:00Z"


def test_what_is_wrong_for_long_is_looked_at_less_often() -> None:
    def status(since: str) -> Any:
        ready = {"type": "Ready", "status": "False", "reason": "SecretNotFound", "lastTransitionTime": since}
        return key({}, {"conditions": [ready]}).status

    assert look_again(key().status, NOW) == 5
    assert look_again(status("2026-11-01T11:59:59Z"), NOW) == 5
    assert look_again(status("2026-11-01T11:59:00Z"), NOW) == 15
    assert look_again(status("2026-10-01T00:00:00Z"), NOW) == 30


def test_a_reconcile_request_is_answered_by_looking() -> None:
    notes = {names.ANNOTATION_RECONCILE: "2026-11-01T11:00:00Z"}
    assert ask(key({}, known(), notes), seen()).status["handledRequests"] == {
        "reconcile-requested-at": "2026-11-01T11:00:00Z"
    }
