"""What is to be done about an APIKey: a decision over observed facts, without clock, randomness or client.

Guarantees that a hash is published only after its Secret was read back, that a Secret of somebody else is neither
read for a key nor touched, that a revoked key stays revoked whatever its spec says later, and that no two tenants are
ever given the same key. The states in short::

    no tenant                  -> Refuse  NotInATenant        revoked            -> DeleteSecret  Revoked
    tenant not serving         -> Refuse  TenantNotReady      expired            -> Keep          Expired
    Secret absent              -> CreateSecret                Secret not ours    -> Refuse        SecretConflict
    Secret edited              -> Refuse  KeyTampered         hash of another    -> Refuse        KeyRejected
    Secret ours                -> Keep, hash into the status, Ready once it is published

A deleted Secret is a rotation: the hash in the status goes on being accepted until the new key was read back. After an
edit the key that was given out goes on working; the edited text never does.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import names
from tenantplane_api.runtime.names import Revision
from tenantplane_operator.apikey.parse import ParsedAPIKey
from tenantplane_operator.apikey.secret import ObservedSecret, SecretState, TenantRef
from tenantplane_operator.tenant.concern import Concern, failed, ok
from tenantplane_operator.tenant.document import is_live
from tenantplane_operator.tenant.parse import as_utc, format_time, parse_time


class Action(StrEnum):
    """What to do about the Secret."""

    CREATE_SECRET = "CreateSecret"  # noqa: S105 -- an action, not a secret
    KEEP = "Keep"
    DELETE_SECRET = "DeleteSecret"  # noqa: S105 -- an action, not a secret
    REFUSE = "Refuse"


@dataclass(frozen=True, slots=True)
class KeyDecision:
    """What to do and to say. ``status`` has no conditions; ``requeue_after`` is in seconds, ``None`` for never."""

    action: Action
    conditions: dict[ConditionType, Concern]
    status: dict[str, Any]
    requeue_after: float | None = None


@dataclass(frozen=True, slots=True)
class _Facts:
    key_id: str | None
    digest: str | None
    revoked_at: str | None = None


def live_key_hash(obj: Mapping[str, Any]) -> str | None:
    """Hash of an APIKey object that is in force; ``None`` when it is not."""
    return str(obj["status"]["hash"]) if is_live(obj) else None


def decide(
    key: ParsedAPIKey,
    *,
    tenant: TenantRef | None,
    secret: ObservedSecret,
    now: datetime,
    foreign_hashes: Container[str],
    published: Mapping[str, Revision],
) -> KeyDecision:
    """The next step for an APIKey.

    Args:
        key: the APIKey.
        tenant: whose namespace it is in; ``None`` when no tenant's.
        secret: what lies under its Secret's name.
        now: aware time.
        foreign_hashes: hashes that other tenants have.
        published: for each hash in the tenant's published document, the revision that stands published.
    """
    known = _Facts(key.status.key_id, key.status.hash)
    revoked_at = _revoked_at(key, now)
    if revoked_at is not None:
        return _revoked(key, secret, _Facts(known.key_id, known.digest, revoked_at), published)
    if tenant is None:
        return _refuse(
            key,
            known,
            Reason.NOT_IN_A_TENANT,
            f"namespace {key.namespace} belongs to no Tenant: create the APIKey in a tenant's namespace",
        )
    if not tenant.serving:
        return _refuse(key, known, Reason.TENANT_NOT_READY, f"Tenant {tenant.name} has not got its namespace yet")
    match secret.state:
        case SecretState.FOREIGN:
            return _refuse(
                key,
                known,
                Reason.SECRET_CONFLICT,
                f"Secret {key.secret_name} exists and is not this APIKey's: it is left alone. Delete it, or make a new "
                "APIKey with another spec.secretName",
            )
        case SecretState.EDITED:
            return _refuse(
                key,
                known,
                Reason.KEY_TAMPERED,
                f"Secret {key.secret_name} was edited; its text is not accepted: delete the Secret to get a new key",
            )
        case SecretState.ABSENT:
            return _absent(key, known, now)
        case SecretState.OURS:
            return _ours(key, secret, now, foreign_hashes, published)


def _revoked_at(key: ParsedAPIKey, now: datetime) -> str | None:
    """When the key was revoked, once and for all; ``None`` when it was not."""
    if key.status.revoked_at is not None:
        return format_time(key.status.revoked_at)
    if key.spec.revoked or names.ANNOTATION_REVOKE in key.annotations:
        return format_time(now)
    return None


def _expired(key: ParsedAPIKey, now: datetime) -> bool:
    return key.spec.expires_at is not None and as_utc(key.spec.expires_at) <= as_utc(now)


def _revoked(
    key: ParsedAPIKey, secret: ObservedSecret, facts: _Facts, published: Mapping[str, Revision]
) -> KeyDecision:
    ours = secret.state in (SecretState.OURS, SecretState.EDITED)
    still = facts.digest is not None and facts.digest in published
    why = failed(Reason.REVOKED, f"revoked at {facts.revoked_at}; it stays so: make a new APIKey")
    shown = failed(Reason.PROGRESSING, "the key is being withdrawn") if still else why
    return KeyDecision(
        action=Action.DELETE_SECRET if ours else Action.KEEP,
        conditions=_conditions(why, shown),
        status=_status(key, facts, has_secret=False, published=published),
    )


def _refuse(key: ParsedAPIKey, facts: _Facts, reason: Reason, message: str) -> KeyDecision:
    why = failed(reason, message)
    return KeyDecision(
        action=Action.REFUSE,
        conditions=_conditions(why, why),
        status=_status(key, facts, has_secret=False, published={}),
    )


def _absent(key: ParsedAPIKey, known: _Facts, now: datetime) -> KeyDecision:
    if _expired(key, now):
        # A key that nobody could use is not worth making.
        why = _expiry(key)
        return KeyDecision(Action.KEEP, _conditions(why, why), _status(key, known, has_secret=False, published={}))
    why = failed(
        Reason.PROGRESSING,
        f"Secret {key.secret_name} is being made" + ("; the previous key works until then" if known.digest else ""),
    )
    return KeyDecision(Action.CREATE_SECRET, _conditions(why, why), _status(key, known, has_secret=False, published={}))


def _ours(
    key: ParsedAPIKey,
    secret: ObservedSecret,
    now: datetime,
    foreign_hashes: Container[str],
    published: Mapping[str, Revision],
) -> KeyDecision:
    digest = secret.digest
    if digest is None or digest in foreign_hashes:
        # Whoever has a copy of another tenant's key must not be let into this tenant with it, nor the other way round.
        return _refuse(
            key,
            _Facts(None, None),
            Reason.KEY_REJECTED,
            f"the key in Secret {key.secret_name} is in use elsewhere: delete the Secret to get a new key",
        )
    facts = _Facts(secret.key_id, digest)
    status = _status(key, facts, has_secret=True, published=published)
    stands = digest in published
    shown = ok(Reason.PUBLISHED) if stands else failed(Reason.PROGRESSING, "the key is not in the data plane yet")
    if _expired(key, now):
        why = _expiry(key)
        return KeyDecision(Action.KEEP, _conditions(why, shown), status)
    left = None if key.spec.expires_at is None else (as_utc(key.spec.expires_at) - as_utc(now)).total_seconds()
    return KeyDecision(Action.KEEP, _conditions(ok() if stands else shown, shown), status, requeue_after=left)


def _expiry(key: ParsedAPIKey) -> Concern:
    when = "" if key.spec.expires_at is None else f" at {format_time(key.spec.expires_at)}"
    return failed(Reason.EXPIRED, f"expired{when}: set spec.expiresAt later, or make a new APIKey")


def _conditions(ready: Concern, published: Concern) -> dict[ConditionType, Concern]:
    """``Ready`` as decided, ``Published`` beside it, and what follows from the two."""
    out = {ConditionType.PUBLISHED: published, ConditionType.READY: ready}
    if ready.permanent:
        out[ConditionType.STALLED] = Concern("True", ready.reason, ready.message)
    elif not ready.ok:
        out[ConditionType.RECONCILING] = Concern("True", ready.reason, ready.message)
    return out


def _status(key: ParsedAPIKey, facts: _Facts, *, has_secret: bool, published: Mapping[str, Revision]) -> dict[str, Any]:
    """Status without conditions. ``publishedRevision`` is the first revision that had this very key."""
    body: dict[str, Any] = {"observedGeneration": key.generation}
    if facts.key_id:
        body["keyID"] = facts.key_id
    if facts.digest:
        body["hash"] = facts.digest
        same = facts.digest == key.status.hash
        revision = (key.status.published_revision if same else None) or published.get(facts.digest)
        if revision:
            body["publishedRevision"] = revision
    if has_secret:
        body["secretRef"] = {"name": key.secret_name}
    if facts.revoked_at:
        body["revokedAt"] = facts.revoked_at
    requested = key.annotations.get(names.ANNOTATION_REVOKE)
    handled = dict(key.status.handled_requests)
    if facts.revoked_at and requested is not None:
        handled["revoke-requested-at"] = _request_time(requested, facts.revoked_at)
    if handled:
        body["handledRequests"] = handled
    return body


def _request_time(text: str, fallback: str) -> str:
    """The time that a request names; a text that is no time was answered when the key was revoked."""
    try:
        return format_time(parse_time(text))
    except ValueError:
        return fallback
