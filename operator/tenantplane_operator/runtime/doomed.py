"""Which of what we made is no longer wanted. Pure, and free of any client; ``prune`` deletes.

Only objects that carry our label with the owner's value, of kinds that the caller lists, that are not desired. Never a
Namespace, whatever the caller says; a Secret only when the caller names the kind and the object's component is among
those given.
"""

from collections.abc import Collection, Iterable

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, is_deleting, key_of, labels_of

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
