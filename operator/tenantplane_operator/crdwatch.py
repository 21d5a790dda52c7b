"""The CRDs of our own kinds, looked at: objects of a CRD that is being deleted or is gone were not deleted by anybody.

Kubernetes deletes all objects of a CRD with it, and a GitOps tool that reinstalls CRDs does so in seconds
(capsule#1181: every customer's namespace was lost). The API server marks the CRD before it touches the first object,
so a look that begins after a deletion was seen tells for certain which of the two it is. ``look`` is such a look;
several that wait share one. Does not watch: between looks nothing depends on it.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.errors import ApiError, Forbidden

logger = logging.getLogger(__name__)

PLURALS: Final = {
    names.KIND_TENANT: names.PLURAL_TENANTS,
    names.KIND_API_KEY: names.PLURAL_API_KEYS,
    names.KIND_MODEL_DEPLOYMENT: names.PLURAL_MODEL_DEPLOYMENTS,
}
COUNTABLE_AFTER: Final = 60.0
"""Seconds until Kubernetes' quota controller counts the objects of a fresh CRD; before that it refuses them."""
_POLL: Final = 30.0
_POLL_UNSETTLED: Final = 2.0
_WHOLE: Final = "application/json"
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class State(StrEnum):
    """What may be concluded from an object's absence."""

    SERVED = "Served"
    TERMINATING = "Terminating"
    MISSING = "Missing"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Definition:
    """A CRD. ``uid`` is empty unless it is there; ``established`` in seconds since the epoch, ``None`` if unknown."""

    state: State = State.UNKNOWN
    uid: str = ""
    established: float | None = None

    @property
    def problem(self) -> str:
        """Why nothing may be concluded from an absence, for people; empty when something may."""
        match self.state:
            case State.SERVED:
                return ""
            case State.TERMINATING:
                return "its CRD is being deleted"
            case State.MISSING:
                return "its CRD is not installed"
            case State.UNKNOWN:
                return "its CRD was not looked at yet"


def path(kind: str) -> str:
    """URL path of a kind's CRD."""
    return f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURALS[kind]}.{names.GROUP}"


class OwnKinds:
    """What is known of the three CRDs. ``on_change`` is told of a kind whose definition became another one."""

    def __init__(self, api: KubeApi, *, on_change: Callable[[str], None] = lambda _: None) -> None:
        self._api = api
        self._on_change = on_change
        self._known = {kind: Definition() for kind in PLURALS}
        self._locks = {kind: asyncio.Lock() for kind in PLURALS}
        self._begun = dict.fromkeys(PLURALS, -1.0)

    def known(self, kind: str) -> Definition:
        """What the last look found."""
        return self._known[kind]

    async def look(self, kind: str) -> Definition:
        """The CRD as it is now: the request begins after this call.

        Raises:
            ApiError: the API server did not say.
        """
        asked = asyncio.get_running_loop().time()
        async with self._locks[kind]:
            # Somebody before us in the line may have asked after we came; a look that failed tells us nothing.
            if self._begun[kind] <= asked:
                begun = asyncio.get_running_loop().time()
                self._keep(kind, await self._read(kind, whole=False))
                self._begun[kind] = begun
            return self._known[kind]

    def countable(self, now: float) -> float:
        """Seconds until a ResourceQuota may count APIKeys and ModelDeployments; 0 when it may."""
        waits = []
        for kind in (names.KIND_API_KEY, names.KIND_MODEL_DEPLOYMENT):
            since = self._known[kind].established
            waits.append(COUNTABLE_AFTER if since is None else COUNTABLE_AFTER - (now - since))
        return max(0.0, *waits)

    async def look_at_all(self) -> None:
        """Look at everything, also since when they are established; what cannot be read stays as it is known."""
        for kind in PLURALS:
            async with self._locks[kind]:
                try:
                    self._keep(kind, await self._read(kind, whole=True))
                except ApiError as error:
                    logger.warning("the CRD of %s could not be read: %s", kind, error.message)

    async def run(self) -> None:
        """Look now and then until cancelled; more often while something is not as it should be."""
        while True:
            settled = all(known.state is State.SERVED and known.established for known in self._known.values())
            await asyncio.sleep(_POLL if settled else _POLL_UNSETTLED)
            for kind in PLURALS:
                try:
                    if settled:
                        await self.look(kind)
                    else:
                        async with self._locks[kind]:
                            self._keep(kind, await self._read(kind, whole=True))
                except ApiError:
                    continue

    async def _read(self, kind: str, *, whole: bool) -> Definition:
        known = self._known[kind]
        try:
            accept = _WHOLE if whole else _METADATA
            found: dict[str, Any] = await self._api.request("get", "GET", path(kind), accept=accept)
        except Forbidden as error:
            # Also what a restarted API server answers until it has read its roles: tried again, never remembered.
            raise Forbidden(f"{error.message}; if this lasts, upgrade the chart's RBAC", status=403) from None
        except ApiError as error:
            if error.status == 404:
                return Definition(State.MISSING)
            raise
        meta = found.get("metadata") or {}
        uid = str(meta.get("uid") or "")
        state = State.TERMINATING if meta.get("deletionTimestamp") else State.SERVED
        established = _established(found) if whole else known.established if uid == known.uid else None
        return Definition(state, uid, established)

    def _keep(self, kind: str, now: Definition) -> None:
        before, self._known[kind] = self._known[kind], now
        if (before.state, before.uid) == (now.state, now.uid):
            return
        if now.problem:
            logger.warning("nothing of kind %s is cut or deleted: %s", kind, now.problem)
        self._on_change(kind)


def _established(definition: dict[str, Any]) -> float | None:
    for condition in (definition.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Established" and condition.get("status") == "True":
            try:
                since = datetime.fromisoformat(str(condition.get("lastTransitionTime")).replace("Z", "+00:00"))
            except ValueError:
                return None
            return since.astimezone(UTC).timestamp()
    return None
