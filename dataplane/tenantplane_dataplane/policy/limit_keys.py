"""Keys of limits: the one constructor.

The tenant is the first, required argument, and every field is preceded by its length, so that no two different lists
of fields give the same key and no two tenants ever meet in one counter, whatever characters their fields hold.
"""

from typing import NewType

from tenantplane_api.runtime.names import TenantID

LimitKey = NewType("LimitKey", str)
"""Identity of one counter, the same in every replica."""


def limit_key(tenant_id: TenantID, kind: str, *fields: str) -> LimitKey:
    """``{<tenant>}`` (the hash tag that keeps a tenant's counters on one Redis node), then the other fields.

    Every field is written as ``<length>:<text>``; the length counts characters.
    """
    if not tenant_id:
        raise ValueError("a limit belongs to a tenant: tenant_id is empty")
    rest = "".join(f"{len(field)}:{field}" for field in (kind, *fields))
    return LimitKey(f"tp:{{{len(tenant_id)}:{tenant_id}}}{rest}")
