"""APIKeys without Kubernetes: the operator's own state machine, with a record per key as Secret and status.

Guarantees that a text is made once and kept until its key is rotated, revoked or gone, and that a revoked key stays
revoked. Does not watch a clock: age and grace are looked at when the folder changes and at start; the data plane
refuses by time on its own.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime
from typing import Any, Final

from tenantplane_api.runtime import keys
from tenantplane_api.runtime.names import Revision
from tenantplane_operator.apikey.parse import parse_api_key
from tenantplane_operator.apikey.secret import TenantRef, observe_secret, secret_manifest
from tenantplane_operator.apikey.state import Action, KeyDecision
from tenantplane_operator.apikey.state import decide as decide_key

_KEPT: Final[tuple[str, ...]] = ("hash", "keyID", "revokedAt", "previous", "lastRotatedAt", "handledRequests")
"""What of a status is kept beside the text."""

Record = dict[str, Any]


def settle_key(
    record: Record,
    obj: Mapping[str, Any],
    ref: TenantRef,
    *,
    given: Mapping[str, Any] | None,
    taken: Container[str],
    now: datetime,
) -> tuple[Record, KeyDecision]:
    """Bring one key to what its APIKey says: what to keep of it, and what there is to say.

    Args:
        record: what was kept, empty for a new key.
        obj: the APIKey of the folder.
        ref: whose it is.
        given: the Secret that ``spec.valueFrom`` names, ``None`` when the folder has none.
        taken: hashes that other tenants have.
        now: aware time.
    """
    while True:
        status = {part: record[part] for part in _KEPT if record.get(part)}
        key = parse_api_key({**obj, "status": status})
        secret = given
        if key.given is None:
            secret = None
            if record.get("text"):
                secret = secret_manifest(key, ref, text=keys.parse_key(record["text"]), base_url="")
        hashes = [status.get("hash"), *(entry["hash"] for entry in status.get("previous", []))]
        decision = decide_key(
            key,
            tenant=ref,
            secret=observe_secret(secret, key, ref),
            now=now,
            taken=taken,
            published={digest: Revision("standalone") for digest in hashes if digest},
        )
        kept: Record = {part: decision.status[part] for part in _KEPT if part in decision.status}
        if decision.action in (Action.CREATE_SECRET, Action.ROTATE):
            record = {**kept, "text": keys.generate_key().text}
            continue
        gone = decision.action is Action.DELETE_SECRET or decision.status.get("revokedAt") or key.given is not None
        if not gone and record.get("text"):
            kept["text"] = record["text"]
        if kept != record:
            # What was found is settled before it is told: a key that is known stands in the next document.
            record = kept
            continue
        return record, decision
