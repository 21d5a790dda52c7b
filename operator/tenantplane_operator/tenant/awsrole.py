"""Which AWS role a tenant may bring: the platform's allow-list against ``spec.identity.aws.roleARN``.

Guarantees that an entry's ``*`` stands for the rest of a role's path and name and never for a partition or an account,
and that an entry with ``{tenantID}`` admits roles of that tenantID only: where another tenantID could be read into the
same text (``acme-0001-*`` is also a beginning of ``acme-0001-prod``'s roles), nothing is admitted. Whether the role
exists and trusts the tenant's ServiceAccount is for AWS to say.
"""

import re
from collections.abc import Iterable
from typing import Final

from tenantplane_api.runtime import limits
from tenantplane_api.runtime.indexjob import whole

TENANT_ID: Final = "{tenantID}"
_ARN: Final = re.compile(whole(limits.ROLE_ARN_PATTERN))
_ROLE: Final = ":role/"
_AMBIGUOUS: Final = re.compile(r"[{]tenantID[}][a-z0-9{*-]")
"""Where a tenantID does not end: before what it may have in it, or before anything."""


def role_allowed(arn: str, entries: Iterable[str], *, tenant_id: str) -> bool:
    """True when ``arn`` is a role's ARN and an entry of the allow-list admits it for this tenant."""
    return _ARN.fullmatch(arn) is not None and any(_admits(entry, arn, tenant_id) for entry in entries)


def _admits(entry: str, arn: str, tenant_id: str) -> bool:
    if _AMBIGUOUS.search(entry):
        return False
    if not entry.endswith("*"):
        return arn == entry.replace(TENANT_ID, tenant_id)
    prefix = entry[:-1]
    if _ROLE not in prefix or "*" in prefix:
        return False
    return arn.startswith(prefix.replace(TENANT_ID, tenant_id))
