"""Conditions of a Tenant whose deletion is held, or that lost APIKeys whose deletion is.

Guarantees that a Tenant that waits for a person is ``Stalled`` and not ``Ready`` whatever its concerns say, and that
keys that are held do not lower a Tenant that works.
"""

from collections.abc import Mapping, Sequence

from tenantplane_api.crd.conditions import ConditionType, Reason
from tenantplane_operator.tenant.concern import Concern, clip, failed, ok


def hold_conditions(
    conditions: Mapping[ConditionType, Concern], why: str | None, keys: Sequence[str]
) -> dict[ConditionType, Concern]:
    """All conditions.

    Args:
        conditions: as if nothing were held.
        why: why the Tenant's own deletion is held; ``None`` when it is not.
        keys: names of APIKeys that are gone and still accepted.
    """
    out = dict(conditions)
    if why is not None:
        out.pop(ConditionType.RECONCILING, None)
        out[ConditionType.READY] = failed(Reason.MASS_DELETION_HELD, clip(why))
        out[ConditionType.STALLED] = Concern("True", str(Reason.MASS_DELETION_HELD), clip(why))
        out[ConditionType.MASS_DELETION_HELD] = ok(Reason.MASS_DELETION_HELD, clip(why))
    elif keys:
        shown = ", ".join(keys[:10]) + (f" and {len(keys) - 10} more" if len(keys) > 10 else "")
        message = (
            f"APIKeys {shown} are gone and still accepted. If that was meant, run `tenantplane release --confirm` with "
            "this Tenant's name; if not, apply them again"
        )
        out[ConditionType.MASS_DELETION_HELD] = ok(Reason.MASS_DELETION_HELD, message)
    return out
