"""What is to be done about an APIKey: a decision over observed facts, without clock, randomness or client.

Guarantees that a hash is published only after its Secret was read back, that a Secret of somebody else is neither
read for a key nor touched, that a revoked key stays revoked whatever its spec says later, that no two APIKeys are ever
given the same text, and that a text which was given out works until its grace ends unless the key was revoked, expired
or lost to whoever had the text before. The states of a key that we make, in short::

    no tenant            -> Refuse  NotInATenant     revoked            -> DeleteSecret  Revoked
    Secret absent        -> CreateSecret             expired            -> Keep          Expired
    Secret edited        -> Refuse  KeyTampered      Secret not ours    -> Refuse        SecretConflict
    due, or asked for    -> Rotate                   hash of another    -> Refuse        KeyRejected
    Secret ours          -> Keep, hash into the status

and of one from ``valueFrom``: Keep, or Refuse with SecretNotFound (not there) or KeyRejected (no key, or another's).

A hash in the status changes in one step only: the text that was there goes to ``previous`` for the grace, and the new
one takes its place. So a crash between any two steps (Secret deleted, new Secret made, status written, document
published) is continued from what is there, and nothing is done twice.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_api.runtime import limits, names
from tenantplane_api.runtime.names import Revision
from tenantplane_operator.apikey.again import earliest, look_again
from tenantplane_operator.apikey.parse import ParsedAPIKey
from tenantplane_operator.apikey.previous import Previous, as_status, first_end, grace_of, in_grace, retire, without
from tenantplane_operator.apikey.rotation import REVOKE, ROTATE, TEXT_MAX, Requests, next_rotation, requests_of
from tenantplane_operator.apikey.secret import ObservedSecret, SecretState, TenantRef
from tenantplane_operator.tenant.concern import Concern, failed, ok
from tenantplane_operator.tenant.document import is_live
from tenantplane_operator.tenant.parse import as_utc, format_time

_UNSEEN = frozenset(
    {SecretState.MISSING, SecretState.UNUSABLE, SecretState.LEAVING, SecretState.FOREIGN, SecretState.EDITED}
)
"""What somebody will mend in a Secret that nobody watches for us."""


class Action(StrEnum):
    """What to do about the Secret."""

    CREATE_SECRET = "CreateSecret"  # noqa: S105 -- an action, not a secret
    KEEP = "Keep"
    DELETE_SECRET = "DeleteSecret"  # noqa: S105 -- an action, not a secret
    ROTATE = "Rotate"
    """Delete the Secret, because a new text is due; its absence leads to the new one."""
    REFUSE = "Refuse"


@dataclass(frozen=True, slots=True)
class KeyDecision:
    """What to do and to say.

    ``status`` has no conditions; ``requeue_after`` is in seconds, ``None`` for never; ``wanted`` is a hash that the key
    would have if another did not have it.
    """

    action: Action
    conditions: dict[ConditionType, Concern]
    status: dict[str, Any]
    requeue_after: float | None = None
    wanted: str | None = None


@dataclass(frozen=True, slots=True)
class _Facts:
    """What goes into the status. ``since``: when the current text came into force."""

    key_id: str | None = None
    digest: str | None = None
    since: datetime | None = None
    previous: tuple[Previous, ...] = ()
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
    taken: Container[str],
    published: Mapping[str, Revision],
    left_out: Container[str] = (),
) -> KeyDecision:
    """The next step for an APIKey.

    Args:
        key: the APIKey.
        tenant: whose namespace it is in; ``None`` when no tenant's.
        secret: what lies under its Secret's name.
        now: aware time.
        taken: hashes to which another APIKey has the better right.
        published: for each hash in the tenant's published document, the revision that stands published.
        left_out: hashes for which there is no room in it.
    """
    return _Decision(key, secret, as_utc(now), taken, published, left_out).decide(tenant)


@dataclass(frozen=True, slots=True)
class _Decision:
    """One decision's facts."""

    key: ParsedAPIKey
    secret: ObservedSecret
    now: datetime
    taken: Container[str]
    published: Mapping[str, Revision]
    left_out: Container[str]

    def decide(self, tenant: TenantRef | None) -> KeyDecision:
        key, secret, known = self.key, self.secret, self._known()
        if known.revoked_at is not None:
            return self._revoked(known)
        if tenant is None:
            return self._refuse(
                known,
                Reason.NOT_IN_A_TENANT,
                f"namespace {key.namespace} belongs to no Tenant: create the APIKey in a tenant's namespace",
            )
        match secret.state:
            case SecretState.OURS | SecretState.GIVEN:
                return self._found(known)
            case SecretState.ABSENT:
                return self._absent(known)
            case SecretState.MISSING | SecretState.UNUSABLE:
                return self._unusable(known)
            case SecretState.LEAVING:
                return self._refuse(
                    known,
                    Reason.PROGRESSING,
                    f"Secret {key.secret_name} is being deleted and held by a finalizer: a new one is made when it is "
                    "gone",
                )
            case SecretState.FOREIGN:
                return self._refuse(
                    known,
                    Reason.SECRET_CONFLICT,
                    f"Secret {key.secret_name} exists and is not this APIKey's: it is left alone. Delete it, or make a "
                    "new APIKey with another spec.secretName",
                )
            case SecretState.EDITED:
                return self._refuse(
                    known,
                    Reason.KEY_TAMPERED,
                    f"Secret {key.secret_name} was edited; its text is not accepted: delete the Secret to get a new "
                    "key",
                )

    # Facts.

    def _known(self) -> _Facts:
        """What the status says, without what has ended and what another has the better right to."""
        status = self.key.status
        held = status.hash is not None and status.hash not in self.taken
        return _Facts(
            key_id=status.key_id if held else None,
            digest=status.hash if held else None,
            since=status.last_rotated_at if held else None,
            previous=tuple(p for p in in_grace(status.previous, self.now) if p.digest not in self.taken),
            revoked_at=self._revoked_at(),
        )

    def _revoked_at(self) -> str | None:
        """When the key was revoked, once and for all; ``None`` when it was not."""
        if self.key.status.revoked_at is not None:
            return format_time(self.key.status.revoked_at)
        if self.key.spec.revoked or names.ANNOTATION_REVOKE in self.key.annotations:
            return format_time(self.now)
        return None

    def _retired(self, known: _Facts) -> tuple[Previous, ...]:
        return retire(
            known.previous, digest=known.digest, key_id=known.key_id, now=self.now, grace=grace_of(self.key.spec)
        )

    @property
    def _expired(self) -> bool:
        return self._left is not None and self._left <= 0

    @property
    def _left(self) -> float | None:
        expires = self.key.spec.expires_at
        return None if expires is None else (as_utc(expires) - self.now).total_seconds()

    # States.

    def _revoked(self, known: _Facts) -> KeyDecision:
        ours = self.secret.state in (SecretState.OURS, SecretState.EDITED)
        status = self.key.status
        hashes = {status.hash, *(entry.hash for entry in status.previous)}
        still = any(digest in self.published for digest in hashes if digest)
        why = failed(Reason.REVOKED, f"revoked at {known.revoked_at}; it stays so: make a new APIKey")
        shown = failed(Reason.PROGRESSING, "the key is being withdrawn") if still else why
        # The hash stays as a mark: nobody else may come with this text while the APIKey is there. What is in its grace
        # is named until it is withdrawn.
        facts = _Facts(
            key_id=status.key_id,
            digest=status.hash,
            since=status.last_rotated_at,
            previous=known.previous if still else (),
            revoked_at=known.revoked_at,
        )
        return KeyDecision(
            action=Action.DELETE_SECRET if ours else Action.KEEP,
            conditions=_conditions(why, shown),
            status=self._status(facts, requests_of(self.key), has_secret=False),
        )

    def _refuse(self, facts: _Facts, reason: Reason, message: str, *, wanted: str | None = None) -> KeyDecision:
        why = failed(reason, message)
        # Another text is put into a Secret that was refused, and nobody watches it for us either.
        unseen = self.secret.state in _UNSEEN or reason == Reason.KEY_REJECTED
        poll = unseen and reason != Reason.NOT_IN_A_TENANT
        return KeyDecision(
            action=Action.REFUSE,
            conditions=_conditions(why, why),
            status=self._status(facts, requests_of(self.key), has_secret=False),
            requeue_after=earliest(
                first_end(facts.previous, self.now), look_again(self.key.status, self.now) if poll else None
            ),
            wanted=wanted,
        )

    def _absent(self, known: _Facts) -> KeyDecision:
        if self._expired:
            # A key that nobody could use is not worth making.
            why = self._expiry()
            return KeyDecision(
                Action.KEEP,
                _conditions(why, why),
                self._status(known, requests_of(self.key), has_secret=False),
                requeue_after=first_end(known.previous, self.now),
            )
        works = "; the previous key works until then" if known.digest else ""
        why = failed(Reason.PROGRESSING, f"Secret {self.key.secret_name} is being made{works}")
        return KeyDecision(
            Action.CREATE_SECRET,
            _conditions(why, why),
            self._status(known, requests_of(self.key), has_secret=False),
            requeue_after=first_end(known.previous, self.now),
        )

    def _unusable(self, known: _Facts) -> KeyDecision:
        """A user's Secret that gives no key: what it gave last is replaced by nothing, and ends with its grace."""
        facts = _Facts(previous=self._retired(known))
        until = f"; the last key works until {format_time(facts.previous[0].until)}" if facts.previous else ""
        if self.secret.state is SecretState.MISSING:
            return self._refuse(
                facts,
                Reason.SECRET_NOT_FOUND,
                f"{self.secret.problem}: create it, or correct spec.valueFrom{until}",
            )
        return self._refuse(
            facts,
            Reason.KEY_REJECTED,
            f"{self.secret.problem}; make a text with `tenantplane keys new --offline`{until}",
        )

    def _found(self, known: _Facts) -> KeyDecision:
        secret, key = self.secret, self.key
        given = secret.state is SecretState.GIVEN
        if secret.digest is None or secret.digest in self.taken:
            # Whoever has a copy of another's key must not be let in here with it, nor the other way round.
            facts = replace(known, key_id=None, digest=None, since=None, previous=self._retired(known))
            mend = "put another text into it" if given else "delete the Secret to get a new key"
            return self._refuse(
                facts if given else known,
                Reason.KEY_REJECTED,
                f"the key in Secret {key.secret_name} is in use elsewhere: {mend}",
                wanted=secret.digest,
            )
        facts = known
        if secret.digest != known.digest:
            left = without(self._retired(known), secret.digest)
            facts = replace(known, key_id=secret.key_id, digest=secret.digest, since=self.now, previous=left)
        elif known.since is None:
            facts = replace(known, since=self.now)
        requests = requests_of(key, by_secret=secret.request)
        if given and requests.asked is not None:
            # The Secret was read; more than that cannot be done about a text that is not ours to make.
            requests.answered[ROTATE] = requests.asked
        due = next_rotation(key, facts.since)
        overdue = due is not None and due <= self.now
        rotate = not given and not self._expired and (requests.rotation_pending or overdue)
        settled = secret.digest == key.status.hash
        if rotate and settled:
            return replace(self._keep(facts, requests, due), action=Action.ROTATE)
        kept = self._keep(facts, requests, due)
        # What was found is told first: a rotation starts from a status that knows what it replaces.
        return replace(kept, requeue_after=0.0) if rotate else kept

    def _keep(self, facts: _Facts, requests: Requests, due: datetime | None) -> KeyDecision:
        stands = facts.digest in self.published
        # Between two texts the key can be used by the one that was there before.
        bridged = any(entry.digest in self.published for entry in facts.previous)
        shown = ok(Reason.PUBLISHED) if stands else self._unpublished(facts)
        expired = self._expired
        status = self._status(facts, requests, has_secret=True)
        if due is not None and not expired:
            status["nextRotationAt"] = format_time(due)
        ready = self._expiry() if expired else ok() if stands or bridged else shown
        return KeyDecision(
            Action.KEEP,
            _conditions(ready, shown),
            status,
            requeue_after=earliest(
                first_end(facts.previous, self.now),
                None if expired else self._left,
                None if due is None or expired else (due - self.now).total_seconds(),
            ),
        )

    def _unpublished(self, facts: _Facts) -> Concern:
        if facts.digest in self.left_out:
            return failed(
                Reason.QUOTA_EXCEEDED,
                f"the tenant has as many keys as it can have (at most {limits.RUNTIME_KEYS_MAX}, fewer with long "
                "owners); the older ones work: delete some of its APIKeys",
            )
        return failed(Reason.PROGRESSING, "the key is not in the data plane yet")

    def _expiry(self) -> Concern:
        when = "" if self.key.spec.expires_at is None else f" at {format_time(self.key.spec.expires_at)}"
        return failed(Reason.EXPIRED, f"expired{when}: set spec.expiresAt later, or make a new APIKey")

    def _status(self, facts: _Facts, requests: Requests, *, has_secret: bool) -> dict[str, Any]:
        """Status without conditions. ``publishedRevision`` is the first revision that had this very key."""
        key, published = self.key, self.published
        body: dict[str, Any] = {"observedGeneration": key.generation}
        if facts.key_id:
            body["keyID"] = facts.key_id
        if facts.digest:
            body["hash"] = facts.digest
            same = facts.digest == key.status.hash
            revision = (key.status.published_revision if same else None) or published.get(facts.digest)
            if revision:
                body["publishedRevision"] = revision
            if facts.since is not None:
                body["lastRotatedAt"] = format_time(facts.since)
        if has_secret:
            body["secretRef"] = {"name": key.secret_name}
        if facts.previous:
            body["previous"] = as_status(facts.previous)
        if facts.revoked_at:
            body["revokedAt"] = facts.revoked_at
        answered = dict(requests.answered)
        asked = key.annotations.get(names.ANNOTATION_REVOKE)
        if facts.revoked_at and asked is not None:
            answered[REVOKE] = asked[:TEXT_MAX]
        if answered:
            body["handledRequests"] = answered
        return body


def _conditions(ready: Concern, published: Concern) -> dict[ConditionType, Concern]:
    """``Ready`` as decided, ``Published`` beside it, and what follows from the two."""
    out = {ConditionType.PUBLISHED: published, ConditionType.READY: ready}
    if ready.permanent:
        out[ConditionType.STALLED] = Concern("True", ready.reason, ready.message)
    elif not ready.ok:
        out[ConditionType.RECONCILING] = Concern("True", ready.reason, ready.message)
    return out
