"""Deletes what we made and no longer want.

Only objects that carry our label with the owner's value, of kinds that the caller lists, that are not desired, bound
to the UID that was seen. Never a Namespace, whatever the caller says; a Secret only when the caller names the kind and
the object's component is among those given.
"""

from collections.abc import Collection, Iterable

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.apply import Applied
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.errors import ApiError
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, is_deleting, key_of, labels_of, uid_of

NEVER: frozenset[str] = frozenset({"Namespace", names.KIND_TENANT, names.KIND_MODEL_DEPLOYMENT})


def to_prune(
    owned: Iterable[Manifest],
    desired: Collection[ObjectKey],
    *,
    kinds: Collection[str],
    namespace: str,
    components: Collection[str] | None = None,
) -> list[Manifest]:
    """Pure decision: which of ``owned`` are to be deleted.

    Args:
        owned: objects with our label for this owner.
        desired: keys that stay.
        kinds: kinds that this caller makes.
        namespace: only objects in it; what lies elsewhere under our label is somebody else's mistake to explain.
        components: values of our component label that this caller makes; needed for Secrets, which otherwise stay.
    """
    return [
        obj
        for obj in owned
        if (key := key_of(obj)).kind in kinds
        and key.kind not in NEVER
        and key.namespace == namespace
        and key not in desired
        and labels_of(obj).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
        and (key.kind != "Secret" if components is None else labels_of(obj).get(names.LABEL_COMPONENT) in components)
        and not is_deleting(obj)
    ]


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
