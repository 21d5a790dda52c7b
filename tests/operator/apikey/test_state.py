"""APIKeys and their Secrets: the state machine as a table, and what must never happen."""

import base64
import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from tenantplane_api.crd.conditions import ConditionType
from tenantplane_api.runtime import keys, names
from tenantplane_api.runtime.names import Revision, TenantID, TenantName
from tenantplane_operator.apikey.parse import ParsedAPIKey, parse_api_key
from tenantplane_operator.apikey.secret import (
    ABSENT,
    ObservedSecret,
    SecretState,
    TenantRef,
    observe_secret,
    secret_manifest,
)
from tenantplane_operator.apikey.state import Action, KeyDecision, decide, live_key_hash
from tenantplane_operator.tenant.concern import Refused
from tenantplane_operator.tenant.manifest import Manifest

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ACME = TenantRef(TenantName("acme"), TenantID("acme-0001"))
BETA = TenantRef(TenantName("beta"), TenantID("beta-0001"))
TEXT, OTHER = keys.generate_key(), keys.generate_key()
R1, R2 = Revision("r1"), Revision("r2")


def obj(
    spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, notes: dict[str, str] | None = None
) -> Manifest:
    return {
        "metadata": {
            "name": "web",
            "namespace": "tenant-acme",
            "uid": "u",
            "generation": 2,
            "annotations": notes or {},
        },
        "spec": spec or {},
        "status": status or {},
    }


def key(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **rest: Any) -> ParsedAPIKey:
    return parse_api_key(obj(spec, status, **rest))


def secret(text: keys.ApiKeyText = TEXT, tenant: TenantRef = ACME, of: ParsedAPIKey | None = None) -> Manifest:
    made = secret_manifest(of or key(), tenant, text=text, base_url="http://x/v1")
    made["metadata"]["uid"] = "secret-uid"
    return made


OURS = observe_secret(secret(), key(), ACME)
KNOWN = {"hash": TEXT.digest, "keyID": TEXT.key_id}


def ask(
    this: ParsedAPIKey,
    observed: ObservedSecret = OURS,
    *,
    tenant: TenantRef | None = ACME,
    taken: frozenset[str] = frozenset(),
    published: dict[str, Revision] | None = None,
    now: datetime = NOW,
) -> KeyDecision:
    return decide(this, tenant=tenant, secret=observed, now=now, taken=taken, published=published or {})


def said(found: KeyDecision) -> tuple[str, str]:
    ready = found.conditions[ConditionType.READY]
    return ready.status, ready.reason


# The Secret.


def test_the_secret_as_it_is_created() -> None:
    made = secret_manifest(key({"secretName": "my-key"}), ACME, text=TEXT, base_url="https://chat.example.com/v1")
    assert made["metadata"] == {
        "name": "my-key",
        "namespace": "tenant-acme",
        "labels": {
            "tenantplane.dev/api-key": "web",
            "tenantplane.dev/tenant": "acme",
            "tenantplane.dev/component": "apikey",
            "app.kubernetes.io/managed-by": "tenantplane-operator",
        },
        "annotations": {
            "tenantplane.dev/key-id": TEXT.key_id,
            "tenantplane.dev/key-hash": TEXT.digest,
            "tenantplane.dev/tenant-id": "acme-0001",
        },
    }
    assert {name: base64.b64decode(value).decode() for name, value in made["data"].items()} == {
        "apiKey": TEXT.text,
        "baseURL": "https://chat.example.com/v1",
    }
    assert TEXT.text not in str(made["metadata"])


def test_what_is_read_back_is_ours_and_holds_no_key() -> None:
    assert ObservedSecret(SecretState.OURS, TEXT.digest, TEXT.key_id, "secret-uid") == OURS
    assert TEXT.text not in repr(OURS)


def _changed(path: tuple[str, ...], value: object) -> Manifest:
    made = copy.deepcopy(secret())
    part: Any = made
    for step in path[:-1]:
        part = part[step]
    if value is None:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return made


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (None, SecretState.ABSENT),
        (secret(), SecretState.OURS),
        (_changed(("metadata", "labels"), None), SecretState.FOREIGN),
        (_changed(("metadata", "labels", names.LABEL_TENANT), "beta"), SecretState.FOREIGN),
        (_changed(("metadata", "labels", "tenantplane.dev/api-key"), "another"), SecretState.FOREIGN),
        (_changed(("metadata", "annotations", names.ANNOTATION_TENANT_ID), "other-0001"), SecretState.FOREIGN),
        (_changed(("metadata", "annotations", names.ANNOTATION_TENANT_ID), None), SecretState.FOREIGN),
        (secret(tenant=BETA), SecretState.FOREIGN),
        ({"metadata": {"name": "web"}, "data": {}}, SecretState.FOREIGN),
        (_changed(("data", "apiKey"), secret(OTHER)["data"]["apiKey"]), SecretState.EDITED),
        (_changed(("data", "apiKey"), None), SecretState.EDITED),
        (_changed(("data",), None), SecretState.EDITED),
        (_changed(("data", "apiKey"), "not base64"), SecretState.EDITED),
        (_changed(("data", "apiKey"), base64.b64encode(TEXT.text.encode() + b"\n").decode()), SecretState.EDITED),
        (_changed(("data", "apiKey"), base64.b64encode(b"\xff\xfe").decode()), SecretState.EDITED),
        (_changed(("metadata", "annotations", "tenantplane.dev/key-hash"), OTHER.digest), SecretState.EDITED),
    ],
)
def test_whose_a_secret_is(found: Manifest | None, state: SecretState) -> None:
    observed = observe_secret(found, key(), ACME)
    assert observed.state is state
    assert (observed.digest is not None) is (state is SecretState.OURS)


# The state machine.

EXPIRED, LATER = {"expiresAt": "2026-10-31T00:00:00Z"}, {"expiresAt": "2026-11-01T13:00:00Z"}
REVOKED = {"revoked": True}
EDITED, FOREIGN = ObservedSecret(SecretState.EDITED, uid="x"), ObservedSecret(SecretState.FOREIGN, uid="x")

STATES: list[tuple[str, ParsedAPIKey, dict[str, Any], Action, tuple[str, str]]] = [
    ("new", key(), {"observed": ABSENT}, Action.CREATE_SECRET, ("False", "Progressing")),
    ("read back", key(), {}, Action.KEEP, ("False", "Progressing")),
    ("published", key(status=KNOWN), {"published": {TEXT.digest: R1}}, Action.KEEP, ("True", "Ready")),
    ("Secret deleted", key(status=KNOWN), {"observed": ABSENT}, Action.CREATE_SECRET, ("False", "Progressing")),
    ("Secret edited", key(status=KNOWN), {"observed": EDITED}, Action.REFUSE, ("False", "KeyTampered")),
    ("Secret of another", key(), {"observed": FOREIGN}, Action.REFUSE, ("False", "SecretConflict")),
    ("no tenant", key(), {"tenant": None, "observed": ABSENT}, Action.REFUSE, ("False", "NotInATenant")),
    ("in use elsewhere", key(), {"taken": frozenset({TEXT.digest})}, Action.REFUSE, ("False", "KeyRejected")),
    (
        "Secret held by a finalizer",
        key(status=KNOWN),
        {"observed": ObservedSecret(SecretState.LEAVING, uid="x")},
        Action.REFUSE,
        ("False", "Progressing"),
    ),
    ("expired", key(EXPIRED, KNOWN), {"published": {TEXT.digest: R1}}, Action.KEEP, ("False", "Expired")),
    ("born expired", key(EXPIRED), {"observed": ABSENT}, Action.KEEP, ("False", "Expired")),
    ("revoked", key(REVOKED, KNOWN), {}, Action.DELETE_SECRET, ("False", "Revoked")),
    ("revoked and edited", key(REVOKED, KNOWN), {"observed": EDITED}, Action.DELETE_SECRET, ("False", "Revoked")),
    ("revoked and gone", key(REVOKED, KNOWN), {"observed": ABSENT}, Action.KEEP, ("False", "Revoked")),
    ("revoked, Secret of another", key(REVOKED), {"observed": FOREIGN}, Action.KEEP, ("False", "Revoked")),
    ("revoked without a tenant", key(REVOKED), {"tenant": None, "observed": ABSENT}, Action.KEEP, ("False", "Revoked")),
    (
        "revoked by request",
        key(status=KNOWN, notes={names.ANNOTATION_REVOKE: "2026-11-01T00:00:00Z"}),
        {},
        Action.DELETE_SECRET,
        ("False", "Revoked"),
    ),
    (
        "revoked once, the wish taken back",
        key(status={**KNOWN, "revokedAt": "2026-10-01T00:00:00Z"}),
        {"observed": ABSENT},
        Action.KEEP,
        ("False", "Revoked"),
    ),
]


@pytest.mark.parametrize(("name", "this", "facts", "action", "ready"), STATES, ids=[row[0] for row in STATES])
def test_states(name: str, this: ParsedAPIKey, facts: dict[str, Any], action: Action, ready: tuple[str, str]) -> None:
    found = ask(this, **facts)
    assert found.action is action, name
    assert said(found) == ready
    stalled, reconciling = ConditionType.STALLED in found.conditions, ConditionType.RECONCILING in found.conditions
    assert (ready[0] == "True", stalled, reconciling).count(True) == 1
    assert found.conditions[ConditionType.PUBLISHED] is not None


def test_a_deleted_secret_is_a_rotation_and_the_old_key_works_until_the_new_one_is_there() -> None:
    gone = ask(key(status=KNOWN), ABSENT)
    assert gone.status["hash"] == TEXT.digest
    assert "secretRef" not in gone.status
    renewed = ask(key(status=gone.status), observe_secret(secret(OTHER), key(), ACME))
    assert renewed.status["hash"] == OTHER.digest
    assert renewed.status["secretRef"] == {"name": "web"}
    assert [entry["hash"] for entry in renewed.status["previous"]] == [TEXT.digest]


def test_after_an_edit_the_key_given_out_still_counts_and_the_edited_text_never_does() -> None:
    found = ask(key(status=KNOWN), EDITED)
    assert found.status["hash"] == TEXT.digest
    assert found.requeue_after == 5.0


def test_a_key_that_another_tenant_has_is_in_no_status() -> None:
    assert "hash" not in ask(key(status=KNOWN), taken=frozenset({TEXT.digest})).status
    assert ask(key(status=KNOWN), taken=frozenset({OTHER.digest})).status["hash"] == TEXT.digest


def test_the_published_revision_is_the_first_that_had_this_key() -> None:
    first = ask(key(), published={TEXT.digest: R1})
    assert first.status["publishedRevision"] == "r1"
    assert ask(key(status=first.status), published={TEXT.digest: R2}).status["publishedRevision"] == "r1"
    renewed = observe_secret(secret(OTHER), key(), ACME)
    assert "publishedRevision" not in ask(key(status=first.status), renewed, published={TEXT.digest: R2}).status
    assert ask(key(status=first.status), renewed, published={OTHER.digest: R2}).status["publishedRevision"] == "r2"


def test_a_revocation_is_told_as_withdrawn_only_when_it_is() -> None:
    this = key(REVOKED, KNOWN)
    under_way = ask(this, published={TEXT.digest: R1}).conditions[ConditionType.PUBLISHED]
    done = ask(this).conditions[ConditionType.PUBLISHED]
    assert (under_way.reason, done.reason) == ("Progressing", "Revoked")


def test_the_time_of_revocation_is_never_cleared_or_moved() -> None:
    first = ask(key(REVOKED, KNOWN)).status["revokedAt"]
    assert first == "2026-11-01T12:00:00Z"
    later = datetime(2026, 12, 1, tzinfo=UTC)
    assert ask(key(REVOKED, {**KNOWN, "revokedAt": first}), ABSENT, now=later).status["revokedAt"] == first
    assert ask(key({}, {**KNOWN, "revokedAt": first}), ABSENT, now=later).status["revokedAt"] == first


def test_a_request_is_answered_with_its_own_text() -> None:
    asked = key(status=KNOWN, notes={names.ANNOTATION_REVOKE: "2026-11-01T11:59:00+00:00"})
    assert ask(asked).status["handledRequests"] == {"revoke-requested-at": "2026-11-01T11:59:00+00:00"}
    nonsense = key(status=KNOWN, notes={names.ANNOTATION_REVOKE: "now " * 40})
    found = ask(nonsense)
    assert len(found.status["handledRequests"]["revoke-requested-at"]) == 64
    assert found.status["revokedAt"] == "2026-11-01T12:00:00Z"


def test_an_expiry_to_come_is_looked_at_in_time() -> None:
    assert ask(key(LATER, KNOWN)).requeue_after == 3600.0
    assert ask(key(status=KNOWN)).requeue_after is None
    assert ask(key(EXPIRED, KNOWN)).requeue_after is None


def test_expiry_is_reached_at_its_second() -> None:
    at = datetime(2026, 11, 1, 13, tzinfo=UTC)
    assert said(ask(key(LATER, KNOWN), now=at)) == ("False", "Expired")
    before = datetime(2026, 11, 1, 12, 59, 59, tzinfo=UTC)
    assert said(ask(key(LATER, KNOWN), now=before, published={TEXT.digest: R1})) == ("True", "Ready")


def test_nothing_said_holds_the_key() -> None:
    for _, this, facts, _, _ in STATES:
        assert TEXT.text not in repr(ask(this, **facts))


def test_the_hash_that_counts() -> None:
    assert live_key_hash(obj(status=KNOWN)) == TEXT.digest
    assert live_key_hash(obj()) is None
    assert live_key_hash(obj(REVOKED, KNOWN)) is None


def test_an_invalid_spec_names_the_field() -> None:
    with pytest.raises(Refused, match=r"spec\.expiresAt: "):
        key({"expiresAt": "tomorrow"})
    with pytest.raises(Refused, match=r"spec\.secretName: "):
        key({"secretName": "../x"})
