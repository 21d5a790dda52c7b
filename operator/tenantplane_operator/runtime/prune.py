"""Deletes what we made and no longer want.

What that is, ``doomed`` decides; here each deletion is bound to the UID that was seen.
"""

from collections.abc import Iterable

from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.apply import Applied
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.doomed import NEVER, to_prune
from tenantplane_operator.runtime.errors import ApiError
from tenantplane_operator.runtime.resources import Manifest, key_of, uid_of

__all__ = ["NEVER", "prune", "to_prune"]


async def prune(api: KubeApi, cache: Cache, doomed: Iterable[Manifest]) -> Applied:
    """Delete, each bound to its UID; an object that is gone or was replaced meanwhile is no error."""
    outcome = Applied()
    for obj in doomed:
        key = key_of(obj)
        try:
            await api.delete(key, uid=uid_of(obj))
            outcome.written.append(key)
        except ApiError as error:
            if error.status != 409:
                outcome.errors[key] = error
                continue
        cache.remove(key, obj)
    return outcome
