"""Replaced texts in their grace: which are still accepted, until when, and how many. Pure.

Guarantees that a text is accepted for the whole of its grace (its end is rounded up to a second), that at most
``limits.PREVIOUS_KEYS_MAX`` are accepted beside the current one (the one that would end first is dropped, the oldest of
several), and that the same facts give the same list in the same order, so that an unchanged status is not written.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tenantplane_api.crd.apikey import APIKeySpec, PreviousKey
from tenantplane_api.runtime import limits
from tenantplane_api.runtime.durations import parse_duration
from tenantplane_operator.tenant.parse import as_utc, format_time


@dataclass(frozen=True, slots=True)
class Previous:
    """One replaced text. ``until`` is aware; it is refused from then on."""

    digest: str
    key_id: str
    until: datetime


def grace_of(spec: APIKeySpec) -> timedelta:
    """How long a replaced text of this key is accepted."""
    return parse_duration(spec.rotation.grace if spec.rotation is not None else limits.KEY_GRACE_DEFAULT)


def in_grace(entries: Iterable[PreviousKey], now: datetime) -> tuple[Previous, ...]:
    """What of a status is still accepted, the longest first."""
    found = (Previous(entry.hash, entry.key_id, as_utc(entry.accepted_until)) for entry in entries)
    return _ordered(entry for entry in found if entry.until > as_utc(now))


def retire(
    previous: Iterable[Previous], *, digest: str | None, key_id: str | None, now: datetime, grace: timedelta
) -> tuple[Previous, ...]:
    """The list after the text with ``digest`` was replaced at ``now``; ``None`` when nothing was replaced."""
    kept = [entry for entry in previous if entry.digest != digest]
    if digest is not None and grace > timedelta(0):
        kept.insert(0, Previous(digest, key_id or "", _ceiling(as_utc(now) + grace)))
    return _ordered(kept)


def without(previous: Iterable[Previous], digest: str | None) -> tuple[Previous, ...]:
    """The list without one text, because it is the current one (again)."""
    return tuple(entry for entry in previous if entry.digest != digest)


def as_status(previous: Iterable[Previous]) -> list[dict[str, Any]]:
    """As it stands in the status."""
    return [
        {"hash": entry.digest, "keyID": entry.key_id, "acceptedUntil": format_time(entry.until)} for entry in previous
    ]


def first_end(previous: Iterable[Previous], now: datetime) -> float | None:
    """Seconds until the first of them ends; ``None`` when there is none."""
    return min(((entry.until - as_utc(now)).total_seconds() for entry in previous), default=None)


def _ordered(entries: Iterable[Previous]) -> tuple[Previous, ...]:
    # Stable: of those that end together, the one that was replaced last stays first.
    ordered = sorted(entries, key=lambda entry: -entry.until.timestamp())
    return tuple(ordered[: limits.PREVIOUS_KEYS_MAX])


def _ceiling(when: datetime) -> datetime:
    whole = when.replace(microsecond=0)
    return whole if whole == when else whole + timedelta(seconds=1)
