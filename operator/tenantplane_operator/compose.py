"""Puts the operator together: start order, what runs beside each other, and a graceful end.

Order: wait for our CRDs (no crash loop while the chart is still being installed), prove that the fence is there, list
everything once, and only then, as the leader, work: nothing is decided on half a picture. An operator that does not
lead keeps its cache warm and does nothing else. A part that ends unexpectedly ends the process, because an operator
that half works is worse than one that is restarted.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final

import kopf

from tenantplane_api.crd.tenantstatus import KnowledgeStatus, TenantStatus
from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.apikey.reconcile import reconcile_api_key
from tenantplane_operator.context import Context
from tenantplane_operator.crdwatch import OwnKinds
from tenantplane_operator.deletions import Deletions
from tenantplane_operator.fencecheck import check_fence
from tenantplane_operator.knowledge.orders import settle
from tenantplane_operator.knowledge.runner import Builder, BuildResult, BuildRunner, Order, sweep_workspaces
from tenantplane_operator.knowledge.subprocess import SubprocessBuilder
from tenantplane_operator.knowledge.unavailable import UnavailableBuilder
from tenantplane_operator.metrics import collect
from tenantplane_operator.modeldeployment.reconcile import reconcile_model
from tenantplane_operator.publish import Publisher
from tenantplane_operator.reload import PlatformReload
from tenantplane_operator.runtime import watches
from tenantplane_operator.runtime.api import KubeApi, wait_until_served
from tenantplane_operator.runtime.apply import Applier
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.errors import ApiError
from tenantplane_operator.runtime.events import EventRecorder
from tenantplane_operator.runtime.kubeconfig import Connection
from tenantplane_operator.runtime.leader import Leader, LeaseLost, Timing
from tenantplane_operator.runtime.outcome import from_api
from tenantplane_operator.runtime.probes import Health, Metric, ProbeServer
from tenantplane_operator.runtime.queue import Again, Priority, Result, WorkQueue
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of
from tenantplane_operator.runtime.resync import Listed, Resync
from tenantplane_operator.runtime.rollout import RollOut
from tenantplane_operator.runtime.secretwatch import watch_secrets
from tenantplane_operator.runtime.watchdog import Watchdog
from tenantplane_operator.tenant.deletion import CRDS
from tenantplane_operator.tenant.parse import lenient
from tenantplane_operator.tenant.reconcile import reconcile_tenant
from tenantplane_operator.wake import Waker, document_owner

logger = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 15.0
_EVENTS_SECONDS: Final = 2.0
_LOOK_AGAIN_SECONDS: Final = 10.0
"""At least so long between two looks at everything that outages cause."""
_RECONCILERS: Final[dict[str, Callable[[Context, ObjectKey], Awaitable[Result]]]] = {
    names.KIND_TENANT: reconcile_tenant,
    names.KIND_API_KEY: reconcile_api_key,
    names.KIND_MODEL_DEPLOYMENT: reconcile_model,
}


def watched() -> tuple[Listed, ...]:
    """What kopf watches, cluster-wide; children only where they carry our label."""
    ours = names.LABEL_TENANT
    return (
        Listed("Namespace", ours),
        Listed(names.KIND_TENANT),
        Listed(names.KIND_MODEL_DEPLOYMENT),
        Listed(names.KIND_API_KEY),
        Listed("ResourceQuota", ours),
        Listed("LimitRange", ours),
        Listed("NetworkPolicy", ours),
        Listed("RoleBinding", ours),
        Listed("ServiceAccount", ours),
        Listed("ConfigMap", ours),
    )


def documents(platform: Platform) -> Listed:
    """The runtime documents: metadata of Secrets in one namespace."""
    selector = f"{names.LABEL_COMPONENT}={names.COMPONENT_RUNTIME}"
    return Listed("Secret", selector, namespace=platform.shared.namespaces.runtime, metadata_only=True)


class OperatorApp:
    """The operator of one process. ``start``, then watch with ``registry`` and ``settings`` through kopf, ``stop``."""

    def __init__(
        self,
        platform: Platform,
        connection: Connection,
        *,
        probe_port: int | None = None,
        builder: Builder | None = None,
        fence_patience: float | None = None,
        platform_path: Path | None = None,
    ) -> None:
        """Take the services; ``platform_path`` is the file to read again when it changes."""
        self.platform = platform
        """As it was at the start; ``ctx.platform`` is the one in force."""
        self._waker = Waker()
        self._fence_patience = fence_patience
        api = KubeApi(connection)
        election = platform.operator.leader_election
        self.leader = Leader(
            # A pool of its own: the Lease must not wait behind what it protects.
            api.sibling(limit=2),
            namespace=platform.shared.namespaces.system,
            name=names.LEASE_NAME,
            identity=f"{_instance()}-{secrets.token_hex(4)}",
            timing=Timing(election.lease_seconds, election.renew_seconds, election.retry_seconds),
            on_recovered=self._recovered,
        )
        api.guard = self.leader.check
        cache = Cache(index_label=names.LABEL_TENANT, on_change=self._waker.changed)
        self.queue: WorkQueue[ObjectKey] = WorkQueue(
            self._reconcile, workers=platform.operator.workers, kind_of=lambda key: key.kind
        )
        # Until we lead, nothing that is seen is work.
        self.queue.close()
        self.rollout: RollOut[ObjectKey] = RollOut(
            lambda key: self.queue.add(key, Priority.ROLLOUT), backlog=lambda: self.queue.waiting(Priority.ROLLOUT)
        )
        self.watchdog = Watchdog()
        self.reload = PlatformReload(platform_path, platform, self._replatform) if platform_path is not None else None
        recorder = EventRecorder(api, component=names.MANAGED_BY, instance=_instance())
        kinds = OwnKinds(api, on_change=self._redefined)
        spaces = platform.shared.namespaces
        publisher = Publisher(api, cache, spaces.runtime, definition=lambda kind: kinds.known(kind).uid)
        self.ctx = Context(
            platform=platform,
            api=api,
            cache=cache,
            # An APIKey that we make is reconciled like any other.
            applier=Applier(api, cache, manager=names.MANAGER_CHILDREN, news=frozenset({names.KIND_API_KEY})),
            recorder=recorder,
            publisher=publisher,
            queue=self.queue,
            kinds=kinds,
            deletions=Deletions(
                api=api,
                cache=cache,
                publisher=publisher,
                kinds=kinds,
                recorder=recorder,
                limits=lambda: self.ctx.platform.operator.mass_deletion,
                system_namespace=spaces.system,
                models_namespace=spaces.models,
                wake=self._wake_held,
            ),
            builds=BuildRunner(
                builder or self._builder(),
                concurrency=platform.operator.indexer.concurrency,
                on_result=self._built,
            ),
        )
        self._waker.ctx = self.ctx
        self._lists = (*watched(), documents(platform))
        self.resync = Resync(
            api, cache, self._lists, seconds=platform.operator.resync_seconds, requeue=self._requeue_all
        )
        self.probes = ProbeServer(
            port=platform.operator.probe_port if probe_port is None else probe_port,
            health=self.health,
            metrics=self.metrics,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._acquired = asyncio.Event()
        self._again = asyncio.Event()
        self._drained = False
        self.failed: asyncio.Event = asyncio.Event()
        """Set when a part ended: the process is to end too."""
        self.lost = False
        """True when another operator leads: nothing may be written any more."""

    def _builder(self) -> Builder:
        if self.platform.operator.indexer.runner == "Subprocess":
            return SubprocessBuilder(self.platform, self._read_config_map)
        return UnavailableBuilder(self.platform)

    async def _read_config_map(self, namespace: str, name: str) -> Manifest | None:
        return await self.ctx.api.find(ObjectKey("ConfigMap", namespace, name))

    # Life.

    async def start(self) -> None:
        """Come up; returns when the cache is complete. Work begins with leading, which may be later.

        Raises:
            FenceError: the operator's fence is not in force.
        """
        self.watchdog.start()
        await asyncio.to_thread(sweep_workspaces)
        await self.probes.start()
        logger.info("probes are served", extra={"port": self.probes.bound_port})
        api, spaces = self.ctx.api, self.platform.shared.namespaces
        logger.info("waiting for our custom resource definitions", extra={"server": api.server})
        await self.wait_until_served()
        self._spawn("lease", self._lead())
        patience = {} if self._fence_patience is None else {"patience": self._fence_patience}
        await check_fence(api, system_namespace=spaces.system, **patience)
        await self.resync.first()
        documents_list = self._lists[-1]
        assert documents_list.label_selector is not None
        self._spawn("documents", watch_secrets(api, self.ctx.cache, spaces.runtime, documents_list.label_selector))
        self._spawn("resync", self.resync.run())
        if self.reload is not None:
            self._spawn("reload", self.reload.run())
        if self._acquired.is_set():
            await self._take_stock()
            self._begin()
        else:
            logger.info("this operator does not lead yet; ready to take over", extra={"objects": len(self.ctx.cache)})
            self._spawn("follow", self._follow())

    async def wait_until_served(self) -> None:
        """Return when the API server serves our kinds."""
        await wait_until_served(self.ctx.api, names.API_VERSION, CRDS)

    async def _lead(self) -> None:
        await self.leader.acquire()
        self._acquired.set()
        try:
            await self.leader.hold()
        except LeaseLost as error:
            self.lost = True
            self.ctx.api.stop_writes()
            logger.critical("%s: this one ends", error)
            raise

    async def _follow(self) -> None:
        await self._acquired.wait()
        # The watches kept the cache warm, but only a list knows of what they missed.
        await self.resync.first()
        await self._take_stock()
        self._begin()
        await asyncio.Event().wait()

    async def _take_stock(self) -> None:
        """What vanished while nobody led, before the first decision about it; asked until the API server says."""
        while True:
            try:
                await self.ctx.kinds.look_at_all()
                await self.ctx.deletions.survey()
                return
            except ApiError as error:
                logger.warning("what is published cannot be read: %s", error.message)
                await asyncio.sleep(1.0)

    def _begin(self) -> None:
        """Lead: look at everything, and work."""
        if self._drained:
            return
        self.queue.open()
        self._requeue_all(Priority.ROLLOUT)
        self._waker.priority = Priority.FRESH
        self._spawn("workers", self.queue.run())
        self._spawn("rollout", self.rollout.run())
        self._spawn("events", self.ctx.recorder.run())
        self._spawn("definitions", self.ctx.kinds.run())
        self._spawn("deletions", self.ctx.deletions.run())
        self._spawn("outages", self._after_outages())
        logger.info("working", extra={"objects": len(self.ctx.cache), "queue": self.queue.depth})

    def _spawn(self, name: str, body: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(body, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            if not isinstance(task.exception(), LeaseLost):
                logger.critical("%s ended: the operator stops", task.get_name(), exc_info=task.exception())
            self.failed.set()

    async def drain(self) -> None:
        """Take no more work, finish what is in flight, write what is due, and let another operator lead. Once."""
        if self._drained:
            return
        self._drained = True
        self.rollout.stop()
        if not await self.queue.drain(0.0 if self.lost else DRAIN_SECONDS):
            logger.warning("stopping with reconciles in flight")
        await self.ctx.builds.stop()
        if self.leader.leading:
            await self.ctx.recorder.finish(_EVENTS_SECONDS)
        # Whoever releases the Lease must not renew it meanwhile, and what still hangs must not write after it.
        last = [task for task in self._tasks if task.get_name() in ("lease", "workers")]
        for task in last:
            task.cancel()
        await asyncio.gather(*last, return_exceptions=True)
        self.ctx.api.stop_writes()
        await self.leader.release()

    async def stop(self) -> None:
        """``drain``, and close everything."""
        await self.drain()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.probes.stop()
        await self.leader.close()
        await self.ctx.api.close()
        self.watchdog.stop()

    def configure_kopf(self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> None:
        """Make kopf our watcher."""
        watches.configure(settings, watched())
        watches.register(registry, self.ctx.api, self.ctx.cache, watched())

    async def look_again(self) -> None:
        """List and reconcile everything, for example after a gap in watching."""
        await self.resync.once()
        self._requeue_all()

    def _wake_held(self, key: ObjectKey) -> None:
        """Something that was held is to be looked at again, with whom it concerns."""
        self.queue.add(key)
        self._waker.concerned(key)

    def _redefined(self, kind: str) -> None:
        """A CRD of ours went, came or came back: look again at all that is of it, and at what was."""
        for obj in self.ctx.cache.of_kind(kind):
            self.queue.add(key_of(obj), Priority.ROLLOUT)
        self._requeue_orphans()

    def _recovered(self) -> None:
        """The API server answers again: do not wait for backoffs and watches to find out."""
        self._again.set()

    async def _after_outages(self) -> None:
        while True:
            await self._again.wait()
            self._again.clear()
            await self.look_again()
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    def _replatform(self, platform: Platform) -> None:
        """The Platform file changed: in force at once for whatever is reconciled, and brought to all, one by one."""
        self.ctx.platform = platform
        if self._acquired.is_set():
            keys = [key_of(obj) for kind in _RECONCILERS for obj in self.ctx.cache.of_kind(kind)]
            self.rollout.begin(keys, per_second=platform.operator.rollout_per_second)

    # Work.

    async def _reconcile(self, key: ObjectKey) -> Result:
        try:
            return await _RECONCILERS[key.kind](self.ctx, key)
        except ApiError as error:
            # A step that could not even tell: the API server is away, or our view is old. Time mends both.
            end = from_api(error, key)
            logger.warning("reconcile of %s failed: %s", key, end.message)
            return Again(after=getattr(end, "after", 0.0))

    def _built(self, order: Order, result: BuildResult) -> None:
        """A build ended: keep what it says, and have its Tenant look at it."""
        uid = order.payload[0]
        known = self.ctx.knowledge[uid].get(order.index)
        tenant = self.ctx.cache.get(self.ctx.tenant_key(order.tenant))
        if known is None and tenant is not None:
            known = stored_knowledge(tenant, order.index)
        uid, status = settle(order, result, known)
        self.ctx.knowledge[uid][order.index] = status
        if tenant is not None:
            if result.manifest is not None:
                counts = result.manifest.counts
                note = f"index {order.index}: {counts.documents} documents, {counts.chunks} chunks"
                self.ctx.recorder.record(tenant, "Normal", "IndexBuilt", note)
            else:
                self.ctx.recorder.record(tenant, "Warning", "BuildFailed", f"index {order.index}: {result.message}")
        self.ctx.wake_tenant(order.tenant)

    def _requeue_all(self, priority: Priority = Priority.RESYNC) -> None:
        """After a complete list: look at everything again, users' objects included."""
        self.ctx.epoch += 1
        for kind in _RECONCILERS:
            for obj in self.ctx.cache.of_kind(kind):
                self.queue.add(key_of(obj), priority)
        live = {str(obj["metadata"].get("uid")) for obj in self.ctx.cache.of_kind(names.KIND_TENANT)}
        for uid in [uid for uid in self.ctx.knowledge if uid not in live]:
            del self.ctx.knowledge[uid]
        self._requeue_orphans()

    def _requeue_orphans(self) -> None:
        """Documents whose owner is not known: their reconcile asks the API server before it cuts anything."""
        for secret in self.ctx.cache.of_kind("Secret"):
            owner = document_owner(str(secret["metadata"]["name"]))
            if owner is not None and self.ctx.cache.get(owner) is None:
                self.queue.add(owner, Priority.RESYNC)

    # Told to others.

    def health(self) -> Health:
        """For the probes."""
        return Health(
            synced=self.resync.synced,
            stalled_for=self.queue.stalled_for(),
            since_resync=self.resync.since_complete(),
            resync_seconds=self.platform.operator.resync_seconds,
        )

    def metrics(self) -> Iterable[Metric]:
        """For Prometheus."""
        return collect(self)


def stored_knowledge(tenant: Manifest, index: str) -> KnowledgeStatus | None:
    """State of an index in a Tenant's status, ``None`` when there is none."""
    status = lenient(TenantStatus, tenant.get("status"))
    return next((entry for entry in status.knowledge if entry.name == index), None)


def _instance() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"[:128]
