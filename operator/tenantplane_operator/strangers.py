"""Looks for NetworkPolicies and RoleBindings in tenants' namespaces that are not ours; ``tenant.strangers`` judges.

By one list of each kind for all tenants at each resync, and in one namespace when it was adopted or taken back, when
somebody asks, and every half minute while some open it; no pass but the first after a resync waits for the list of all.
What is made behind the fence's back is not seen before the next resync.
"""

import asyncio
import logging
from collections.abc import Callable

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.errors import ApiError
from tenantplane_operator.runtime.resources import Manifest
from tenantplane_operator.tenant.strangers import KINDS, LOOK_AGAIN, NONE, Strangers, is_strange, sorted_out

logger = logging.getLogger(__name__)


class Watch:
    """What is known of all namespaces."""

    def __init__(self) -> None:
        self._epoch = -1
        self._known: dict[str, Strangers] = {}
        self._looked: dict[str, float] = {}
        self._asked: dict[str, str] = {}
        self._due: set[str] = set()

    def doubt(self, namespace: str) -> None:
        """Have a namespace looked into at its next pass, because it came to us just now."""
        self._due.add(namespace)

    async def of(
        self, api: KubeApi, namespace: str, *, epoch: int, asked: str | None, wake: Callable[[str], bool]
    ) -> Strangers:
        """What is known of one namespace.

        Args:
            api: the API server.
            namespace: a tenant's.
            epoch: number of the resync; with a new one all namespaces are listed.
            asked: text of the request to look at everything again; ``None`` when nobody asked.
            wake: has the Tenants of another namespace reconciled; False when it has none.

        Raises:
            ApiError: this namespace could not be looked into; it is at the next pass.
        """
        now = asyncio.get_running_loop().time()
        if self._epoch != epoch:
            self._epoch = epoch
            await self._look_at_all(api, namespace, wake)
        found = self._known.get(namespace, NONE)
        old = now - self._looked.get(namespace, -LOOK_AGAIN) >= LOOK_AGAIN
        if asked is not None and self._asked.get(namespace) != asked:
            self._due.add(namespace)
        if namespace not in self._due and not (found.policies and old):
            return found
        objects = [obj for kind in KINDS for obj in await api.list_all(kind, namespace=namespace)]
        self._due.discard(namespace)
        if asked is not None:
            self._asked[namespace] = asked
        return self._keep(namespace, sorted_out(objects).get(namespace, NONE), now)

    def _keep(self, namespace: str, found: Strangers, now: float) -> Strangers:
        if found:
            self._known[namespace], self._looked[namespace] = found, now
        else:
            self._known.pop(namespace, None)
            self._looked.pop(namespace, None)
        return found

    async def _look_at_all(self, api: KubeApi, asking: str, wake: Callable[[str], bool]) -> None:
        found: list[Manifest] = []
        try:
            for kind in KINDS:
                # What carries our label is in the cache, and pruned. What counts of a RoleBinding is that it is there.
                listed = await api.list_all(
                    kind, label_selector=f"!{names.LABEL_TENANT}", metadata_only=kind == "RoleBinding"
                )
                found += [obj for obj in listed if is_strange(obj)]
        except ApiError as error:
            logger.warning("policies that are not ours could not be looked for: %s", error.message)
            return
        before = self._known
        seen = {**self._known, **sorted_out(found)}
        self._known = {space: strangers for space, strangers in seen.items() if space == asking or wake(space)}
        # What a closer look found, and this one may not see, is looked at closely again.
        self._due |= before.keys() & self._known.keys()
        self._looked = dict.fromkeys(self._known, asyncio.get_running_loop().time())
