"""When a key is due for a new text, by age or by request, and which requests are answered. Pure.

A request is the annotation ``tenantplane.dev/rotate-requested-at`` with an RFC 3339 time. Guarantees that each text of
it is answered once, over crashes and lost statuses: the Secret of a new key carries the request that was there when it
was made, and a request counts as answered when the status *or* the Secret says so. The time in it only tells requests
apart; it is not compared with a clock, because the asking machine's may be wrong.
"""

from dataclasses import dataclass, field
from datetime import datetime

from tenantplane_api.runtime import names
from tenantplane_api.runtime.durations import parse_duration
from tenantplane_operator.apikey.parse import ParsedAPIKey
from tenantplane_operator.tenant.parse import later, parse_time

ROTATE, REVOKE, RECONCILE = (
    name.partition("/")[2] for name in (names.ANNOTATION_ROTATE, names.ANNOTATION_REVOKE, names.ANNOTATION_RECONCILE)
)
TEXT_MAX = 64
"""Characters of a request's text that are kept: the schema's bound of an answer."""


@dataclass(frozen=True, slots=True)
class Requests:
    """What is asked for and what was answered, as texts. ``invalid``: a rotation was asked for with no time in it."""

    asked: str | None = None
    invalid: bool = False
    answered: dict[str, str] = field(default_factory=dict)

    @property
    def rotation_pending(self) -> bool:
        """True when a rotation was asked for that was not answered yet."""
        return self.asked is not None and self.answered.get(ROTATE) != self.asked


def requests_of(key: ParsedAPIKey, *, by_secret: str | None = None) -> Requests:
    """The requests of a key; ``by_secret`` is the one that its Secret says it answers."""
    text = key.annotations.get(names.ANNOTATION_ROTATE)
    asked = None if text is None else text[:TEXT_MAX]
    answered = dict(key.status.handled_requests)
    if by_secret:
        answered[ROTATE] = by_secret[:TEXT_MAX]
    reconcile = key.annotations.get(names.ANNOTATION_RECONCILE)
    if reconcile is not None:
        # Whoever decides has looked at everything.
        answered[RECONCILE] = reconcile[:TEXT_MAX]
    if asked is not None and not _is_time(asked):
        # Answered, so that it is told once: nothing is done about it.
        answered[ROTATE] = asked
        return Requests(None, True, answered)
    return Requests(asked, False, answered)


def next_rotation(key: ParsedAPIKey, since: datetime | None) -> datetime | None:
    """When a text that came into force at ``since`` is too old; ``None`` when it never is."""
    rotation = key.spec.rotation
    if rotation is None or rotation.interval is None or since is None:
        return None
    return later(since, parse_duration(rotation.interval))


def _is_time(text: str) -> bool:
    try:
        parse_time(text)
    except ValueError:
        return False
    return True
