"""The state of one concern: a condition before it has times, and how concerns add up to ``Ready``.

Guarantees that ``Ready``, ``Reconciling`` and ``Stalled`` say the same as the concerns they are made from, in one
place for all kinds. It does not know when anything happened: ``lastTransitionTime`` belongs to whoever writes status.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tenantplane_api.crd.conditions import ConditionType, Reason

Status = Literal["True", "False", "Unknown"]

PERMANENT_REASONS: Final[frozenset[str]] = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.UNKNOWN_PLAN,
        Reason.NAMESPACE_CONFLICT,
        Reason.NAMESPACE_RESERVED,
        Reason.ADOPTION_NOT_CONSENTED,
        Reason.DUPLICATE_TENANT_ID,
        Reason.ROLE_NOT_ALLOWED,
        Reason.SUBJECT_DENIED,
        Reason.POD_SECURITY_BELOW_FLOOR,
        Reason.RUNTIME_CONFIG_TOO_LARGE,
        Reason.SOURCE_NOT_ALLOWED,
        Reason.URL_NOT_ALLOWED,
        Reason.SHARING_NOT_ALLOWED,
        Reason.SECRET_CONFLICT,
        Reason.KEY_REJECTED,
        Reason.KEY_TAMPERED,
        Reason.EXPIRED,
        Reason.REVOKED,
        Reason.NOT_IN_A_TENANT,
    }
)
"""Waiting does not mend these; somebody has to change something. They make an object ``Stalled``."""

MESSAGE_MAX: Final = 2048
"""Within the schema's bound of a condition's message: a longer one would make the whole status unwritable."""


@dataclass(frozen=True, slots=True)
class Concern:
    """One concern's state. ``message`` says what it means and what to do; it never holds secret material."""

    status: Status
    reason: str
    message: str = ""

    @property
    def ok(self) -> bool:
        """True when the concern holds."""
        return self.status == "True"

    @property
    def permanent(self) -> bool:
        """True when waiting will not mend it."""
        return self.status == "False" and self.reason in PERMANENT_REASONS


class Refused(Exception):  # noqa: N818 -- a decision, not a fault
    """Raise when an object must not be acted on as it is; ``concern`` says why and what to do."""

    def __init__(self, concern: Concern) -> None:
        super().__init__(f"{concern.reason}: {concern.message}")
        self.concern = concern


def ok(reason: str = Reason.READY, message: str = "") -> Concern:
    """A concern that holds."""
    return Concern("True", str(reason), message)


def failed(reason: str, message: str) -> Concern:
    """A concern that does not hold; whether waiting helps follows from the reason."""
    return Concern("False", str(reason), message)


def pending(reason: str, message: str) -> Concern:
    """A concern of which nothing can be said yet."""
    return Concern("Unknown", str(reason), message)


def not_configured(message: str = "") -> Concern:
    """A concern that the object does not use: nothing is missing, so it holds."""
    return Concern("True", str(Reason.NOT_CONFIGURED), message)


def clip(message: str) -> str:
    """The message within the schema's bound."""
    return message if len(message) <= MESSAGE_MAX else message[: MESSAGE_MAX - 1] + "…"


def summarize(
    concerns: Mapping[ConditionType, Concern], *, lowering: Iterable[ConditionType] | None = None
) -> dict[ConditionType, Concern]:
    """``concerns`` with ``Ready``, and with ``Stalled`` or ``Reconciling`` when they are True.

    Args:
        concerns: one per type, in the order in which people should hear of them.
        lowering: the types that take ``Ready`` away when they do not hold; all of them when ``None``.

    A permanent failure makes the object Stalled even where it does not lower ``Ready``: somebody wrote something that
    cannot be done and has to hear of it. Retryable states show as Reconciling only while ``Ready`` is lowered, so that
    an object that can be used is not shown as in progress for ever.
    """
    counting = set(concerns if lowering is None else lowering)
    lowered = {kind: concern for kind, concern in concerns.items() if kind in counting and not concern.ok}
    stalled = {kind: concern for kind, concern in concerns.items() if concern.permanent}
    out = dict(concerns)
    if not lowered:
        out[ConditionType.READY] = ok(Reason.READY)
    else:
        first = next(iter({**{k: v for k, v in lowered.items() if v.permanent}, **lowered}.values()))
        status: Status = "False" if any(concern.status == "False" for concern in lowered.values()) else "Unknown"
        out[ConditionType.READY] = Concern(status, first.reason, _joined(lowered))
    if stalled:
        out[ConditionType.STALLED] = Concern("True", next(iter(stalled.values())).reason, _joined(stalled))
    elif lowered:
        out[ConditionType.RECONCILING] = Concern("True", next(iter(lowered.values())).reason, _joined(lowered))
    return out


def _joined(concerns: Mapping[ConditionType, Concern]) -> str:
    if len(concerns) == 1:
        return next(iter(concerns.values())).message
    return clip("; ".join(f"{kind}: {concern.message or concern.reason}" for kind, concern in concerns.items()))
