"""Events: one for one story, and never a key's text."""

from typing import Any

import pytest
from tests.operator.apikey.build import ACME, GIVEN, OTHER, R1, TEXT, ask, key, known, secret, seen, users

from tenantplane_api.runtime.names import Revision
from tenantplane_operator.apikey.secret import ABSENT, ObservedSecret, observe_secret
from tenantplane_operator.apikey.state import KeyDecision
from tenantplane_operator.apikey.story import story

PUBLISHED: dict[str, Revision] = {TEXT.digest: R1, OTHER.digest: R1}
EDITED = observe_secret(secret() | {"data": {}}, key(), ACME)


def after(status: dict[str, Any], found: KeyDecision) -> dict[str, Any]:
    conditions = [{"type": str(kind), "status": c.status, "reason": c.reason} for kind, c in found.conditions.items()]
    return {**found.status, "conditions": conditions}


STORIES: list[tuple[dict[str, Any], dict[str, Any], ObservedSecret, str, str]] = [
    ({}, {}, seen(), "KeyCreated", f"key {TEXT.key_id} in Secret web"),
    (GIVEN, {}, observe_secret(users(TEXT.text), key(GIVEN), ACME), "KeyCreated", "in Secret mine"),
    ({}, known(), seen(OTHER), "KeyRotated", f"{TEXT.key_id} is accepted until 2026-11-01T13:00:00Z"),
    ({"rotation": {"grace": "0s"}}, known(), seen(OTHER), "KeyRotated", f"{TEXT.key_id} is refused"),
    ({"revoked": True}, known(), ABSENT, "KeyRevoked", TEXT.key_id),
    ({"expiresAt": "2026-11-01T00:00:00Z"}, known(), seen(), "KeyExpired", "expired at 2026-11-01"),
    ({}, known(), EDITED, "KeyTampered", "was edited"),
    ({}, {}, ObservedSecret(observe_secret(users("x"), key(), ACME).state), "SecretConflict", "left alone"),
    (GIVEN, {}, observe_secret(users("x"), key(GIVEN), ACME), "KeyRejected", "not an API key"),
    (GIVEN, {}, observe_secret(None, key(GIVEN), ACME), "SecretNotFound", "there is no Secret mine"),
]


# The words hold keys' ids, which are random: a test's name must not.
@pytest.mark.parametrize(
    ("spec", "status", "observed", "reason", "words"), STORIES, ids=[f"{n}-{s[3]}" for n, s in enumerate(STORIES)]
)
def test_each_story_is_told_once(
    spec: dict[str, Any], status: dict[str, Any], observed: ObservedSecret, reason: str, words: str
) -> None:
    found = ask(key(spec, status), observed, published=PUBLISHED)
    event = story(status, found)
    assert event is not None
    assert event.reason == reason
    assert words in event.note
    assert TEXT.text[12:] not in event.note
    again = ask(key(spec, found.status), observed, published=PUBLISHED)
    assert story(after(status, again), again) is None


def test_what_is_on_its_way_and_what_is_as_before_is_no_news() -> None:
    for status in ({}, known()):
        assert story(status, ask(key({}, status), ABSENT)) is None
    assert story(known(), ask(key({}, known()), seen())) is None


def test_what_was_wrong_and_is_mended_is_told() -> None:
    broken = after({}, ask(key({}, known()), EDITED))
    event = story(broken, ask(key({}, broken | {"conditions": []}), seen(), published=PUBLISHED))
    assert event is not None
    assert event.reason == "Ready"
