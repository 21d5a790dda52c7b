"""Which of several operators works: the one that holds a Lease (``coordination.k8s.io/v1``).

Guarantees, with ``retry < renew < lease`` seconds:

- Clocks of different machines are never compared. Another's Lease counts as expired when *we* saw no change in it for
  as long as it promises; our own right to write ends ``renew`` seconds after the last renewal was *asked for*, which
  is at least ``lease - renew`` seconds before anybody else may begin. The clock also runs while the process is stopped
  or, on Linux, its machine suspended.
- Every change of the Lease names the resourceVersion that it was decided on, so of two that try one succeeds.
- An API server that is away ends nothing: nothing may be written while in doubt (``check`` raises), and the first
  renewal that succeeds proves, by its resourceVersion, that nobody else held the Lease meanwhile. Somebody else's name
  in it is final (``LeaseLost``).

Not guaranteed: a virtual machine whose host stops its clocks too cannot know that time went by.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.errors import AlreadyExists, ApiError, Conflict, NotFound, NotLeading
from tenantplane_operator.runtime.resources import Manifest, resource_of

logger = logging.getLogger(__name__)

VERB: Final = "lease"
"""How requests about the Lease are counted, reads too."""
_PATIENCE: Final = 5.0
"""Seconds that an answer may take at least."""
_OUTAGE: Final = 2
"""Failures in a row after which an answer means that the API server is back, and not only that it was slow once."""


class LeaseLost(RuntimeError):  # noqa: N818 -- what happened
    """Raise when another operator leads; the message names it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; see the module."""

    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


def running_clock() -> float:
    """Seconds on a clock that also runs while the process is stopped or the machine suspended."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(boot) if boot is not None else time.monotonic()


def _micro_time() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Leader:
    """One candidate. ``acquire``, then ``hold`` beside the work, and ``release`` after it."""

    def __init__(
        self,
        api: KubeApi,
        *,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing = Timing(),
        clock: Callable[[], float] = running_clock,
        draw: Callable[[], float] = random.random,
        on_recovered: Callable[[], None] | None = None,
    ) -> None:
        """Take the client, which should have a pool of its own: a Lease must not wait behind what it protects.

        ``on_recovered`` is called when the API server answers again after some silence, or when a doubt ended.
        """
        self._api = api
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._timing = timing
        self._clock = clock
        self._draw = draw
        self.on_recovered = on_recovered
        self._lease: Manifest | None = None
        self._until: float | None = None
        """Until when we may write; ``None`` when we do not lead."""
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = 0.0
        self._failures = 0
        self._doubted = False

    # What others ask.

    @property
    def leading(self) -> bool:
        """True while we may write."""
        return self._until is not None and self._clock() < self._until

    @property
    def holding(self) -> bool:
        """True while we lead, also in doubt."""
        return self._until is not None

    def check(self) -> None:
        """Return when we may write now.

        Raises:
            NotLeading: we do not lead, or cannot be sure of it.
        """
        if not self.leading:
            self._doubted = True
            raise NotLeading("this operator does not lead at the moment, so it writes nothing")

    # Life.

    async def acquire(self) -> None:
        """Return when we lead; an API server that is away is waited for."""
        while True:
            try:
                if await self._take():
                    logger.info("leading", extra={"identity": self.identity})
                    return
                self._answered()
            except ApiError as error:
                self._failed(error)
            await asyncio.sleep(self._timing.retry * (1.0 + 0.2 * self._draw()))

    async def hold(self) -> None:
        """Renew until cancelled.

        Raises:
            LeaseLost: another operator leads.
        """
        while True:
            await asyncio.sleep(self._timing.retry)
            try:
                await self._renew()
                self._answered()
            except ApiError as error:
                self._failed(error)

    async def release(self) -> None:
        """Let somebody else lead at once; to be called when nothing is written any more. Never fails."""
        if self._lease is None or not self.leading:
            self._until = None
            return
        self._until = None
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time()}
        try:
            try:
                await self._put(self._lease, spec, deadline=3.0)
            except Conflict:
                # A renewal that was broken off took effect after all, or somebody edited it.
                lease = await self._find(3.0)
                if lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self.identity:
                    await self._put(lease, spec, deadline=3.0)
            logger.info("the Lease is released")
        except ApiError as error:
            logger.warning("the Lease was not released and expires by itself: %s", error.message)

    async def close(self) -> None:
        """Close the client."""
        await self._api.close()

    # Requests.

    def _path(self, *, named: bool = True) -> str:
        return resource_of("Lease").path(self._namespace, self._name if named else None)

    def _deadline(self) -> float:
        # Two attempts fit into the time that is left. Breaking off sooner than a busy server answers would help nobody:
        # it may well have written, and an answer that comes too late gives no right to write.
        return max(_PATIENCE, self._timing.renew / 2)

    async def _find(self, deadline: float) -> Manifest | None:
        try:
            found: Manifest = await self._api.request(VERB, "GET", self._path(), deadline=deadline)
        except NotFound:
            return None
        return found

    async def _create(self, deadline: float) -> Manifest:
        spec = self._mine() | {"acquireTime": _micro_time(), "leaseTransitions": 0}
        meta = {"name": self._name, "namespace": self._namespace}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
        made: Manifest = await self._api.request(VERB, "POST", self._path(named=False), body=body, deadline=deadline)
        return made

    async def _put(self, lease: Manifest, spec: Manifest, *, deadline: float) -> Manifest:
        """Replace the spec of the version that was seen; a later version makes it a conflict."""
        body = {**lease, "spec": {**(lease.get("spec") or {}), **spec}}
        stored: Manifest = await self._api.request(VERB, "PUT", self._path(), body=body, deadline=deadline)
        return stored

    def _mine(self) -> Manifest:
        # Rounded up: a Lease that others respect for longer than we use it is safe.
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": math.ceil(self._timing.lease),
            "renewTime": _micro_time(),
        }

    # Decisions.

    async def _take(self) -> bool:
        """Try to get the Lease; True when it is ours."""
        started, deadline = self._clock(), self._deadline()
        lease = await self._find(deadline)
        try:
            if lease is None:
                started = self._clock()
                self._keep(await self._create(deadline), started)
                return True
            spec = lease.get("spec") or {}
            if not self._free(spec):
                return False
            transitions = int(spec.get("leaseTransitions") or 0) + 1
            mine = self._mine() | {"acquireTime": _micro_time(), "leaseTransitions": transitions}
            started = self._clock()
            self._keep(await self._put(lease, mine, deadline=deadline), started)
        except (Conflict, AlreadyExists, NotFound):
            # Another one was faster.
            return False
        return True

    def _free(self, spec: Manifest) -> bool:
        """True when nobody holds it, or its holder did not renew it for as long as we watched."""
        holder = str(spec.get("holderIdentity") or "")
        if not holder:
            return True
        seen = (holder, spec.get("renewTime"), spec.get("acquireTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            if self._seen is None or self._seen[0] != holder:
                logger.info("another operator leads", extra={"leader": holder})
            self._seen, self._seen_at = seen, self._clock()
        promised = float(spec.get("leaseDurationSeconds") or self._timing.lease)
        return self._clock() - self._seen_at >= promised

    async def _renew(self) -> None:
        assert self._lease is not None
        deadline = self._deadline()
        for attempt in (1, 2):
            started = self._clock()
            try:
                self._keep(await self._put(self._lease, self._mine(), deadline=deadline), started)
                return
            except (Conflict, NotFound):
                if attempt == 2:
                    raise
            # Somebody wrote it. An edit that left our name in it took nothing from us; every acquisition has another.
            lease = await self._find(deadline)
            if lease is None:
                started = self._clock()
                try:
                    self._keep(await self._create(deadline), started)
                    return
                except AlreadyExists:
                    lease = await self._find(deadline)
            holder = str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")
            if holder != self.identity:
                self._until = None
                raise LeaseLost(f"another operator leads: {holder or 'the Lease was released by somebody'}")
            assert lease is not None
            self._lease = lease

    def _keep(self, lease: Manifest, started: float) -> None:
        self._lease = lease
        # From when it was asked for, not from when it was answered: it took effect somewhere between.
        self._until = started + self._timing.renew

    def _failed(self, error: ApiError) -> None:
        self._failures += 1
        if self._failures == _OUTAGE:
            logger.warning("the Lease cannot be renewed or read: %s", error.message)

    def _answered(self) -> None:
        recovered = self._failures >= _OUTAGE or (self._doubted and self.leading)
        self._failures = 0
        if self.leading:
            self._doubted = False
        if recovered:
            logger.info("the API server answers again")
            if self.on_recovered is not None:
                self.on_recovered()
