"""Puts the operator together: start order, what runs beside each other, and a graceful end.

Order: wait for our CRDs (no crash loop while the chart is still being installed), prove that the fence is there, list
everything once, and only then work: nothing is decided on half a picture. A part that ends unexpectedly ends the
process, because an operator that half works is worse than one that is restarted.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

import kopf

from tenantplane_api.crd.tenantstatus import KnowledgeStatus, TenantStatus
from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.apikey.reconcile import reconcile_api_key
from tenantplane_operator.context import Context
from tenantplane_operator.fencecheck import check_fence
from tenantplane_operator.knowledge.orders import settle
from tenantplane_operator.knowledge.runner import Builder, BuildResult, BuildRunner, Order, sweep_workspaces
from tenantplane_operator.knowledge.subprocess import SubprocessBuilder
from tenantplane_operator.knowledge.unavailable import UnavailableBuilder
from tenantplane_operator.modeldeployment.reconcile import reconcile_model
from tenantplane_operator.publish import Publisher
from tenantplane_operator.runtime import watches
from tenantplane_operator.runtime.api import KubeApi, wait_until_served
from tenantplane_operator.runtime.apply import Applier
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.errors import ApiError
from tenantplane_operator.runtime.events import EventRecorder
from tenantplane_operator.runtime.kubeconfig import Connection
from tenantplane_operator.runtime.outcome import from_api
from tenantplane_operator.runtime.probes import Health, Metric, ProbeServer, counter, counters, gauge
from tenantplane_operator.runtime.queue import Again, Priority, Result, WorkQueue
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of
from tenantplane_operator.runtime.resync import Listed, Resync
from tenantplane_operator.runtime.secretwatch import watch_secrets
from tenantplane_operator.tenant.deletion import CRDS
from tenantplane_operator.tenant.parse import lenient
from tenantplane_operator.tenant.reconcile import reconcile_tenant
from tenantplane_operator.wake import Waker, document_owner

logger = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 15.0
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
    ) -> None:
        self.platform = platform
        self._waker = Waker()
        self._fence_patience = fence_patience
        api = KubeApi(connection)
        cache = Cache(index_label=names.LABEL_TENANT, on_change=self._waker.changed)
        self.queue: WorkQueue[ObjectKey] = WorkQueue(self._reconcile, workers=platform.operator.workers)
        self.ctx = Context(
            platform=platform,
            api=api,
            cache=cache,
            # An APIKey that we make is reconciled like any other.
            applier=Applier(api, cache, manager=names.MANAGER_CHILDREN, news=frozenset({names.KIND_API_KEY})),
            recorder=EventRecorder(api, component=names.MANAGED_BY, instance=_instance()),
            publisher=Publisher(api, cache, platform.shared.namespaces.runtime),
            queue=self.queue,
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
        self.failed: asyncio.Event = asyncio.Event()

    def _builder(self) -> Builder:
        if self.platform.operator.indexer.runner == "Subprocess":
            return SubprocessBuilder(self.platform, self._read_config_map)
        return UnavailableBuilder(self.platform)

    async def _read_config_map(self, namespace: str, name: str) -> Manifest | None:
        return await self.ctx.api.find(ObjectKey("ConfigMap", namespace, name))

    # Life.

    async def start(self) -> None:
        """Come up; returns when the workers work.

        Raises:
            FenceError: the operator's fence is not in force.
        """
        await asyncio.to_thread(sweep_workspaces)
        await self.probes.start()
        logger.info("probes are served", extra={"port": self.probes.bound_port})
        api, spaces = self.ctx.api, self.platform.shared.namespaces
        logger.info("waiting for our custom resource definitions", extra={"server": api.server})
        await wait_until_served(api, names.API_VERSION, CRDS)
        patience = {} if self._fence_patience is None else {"patience": self._fence_patience}
        await check_fence(api, system_namespace=spaces.system, **patience)
        await self.resync.first()
        self._requeue_orphans()
        self._waker.priority = Priority.FRESH
        secrets = self._lists[-1]
        assert secrets.label_selector is not None
        self._spawn("workers", self.queue.run())
        self._spawn("events", self.ctx.recorder.run())
        self._spawn("resync", self.resync.run())
        self._spawn("documents", watch_secrets(api, self.ctx.cache, spaces.runtime, secrets.label_selector))
        logger.info("working", extra={"objects": len(self.ctx.cache), "queue": self.queue.depth})

    def _spawn(self, name: str, body: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(body, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            logger.critical("%s ended: the operator stops", task.get_name(), exc_info=task.exception())
            self.failed.set()

    async def stop(self) -> None:
        """Finish what is in flight, end builds, close connections."""
        if not await self.queue.drain(DRAIN_SECONDS):
            logger.warning("stopping with reconciles in flight")
        await self.ctx.builds.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.probes.stop()
        await self.ctx.api.close()

    def configure_kopf(self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> None:
        """Make kopf our watcher."""
        watches.configure(settings, watched())
        watches.register(registry, self.ctx.api, self.ctx.cache, watched())

    async def look_again(self) -> None:
        """List and reconcile everything, for example after a gap in watching."""
        await self.resync.once()
        self._requeue_all()

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

    def _requeue_all(self) -> None:
        """After a complete list: look at everything again, users' objects included."""
        self.ctx.epoch += 1
        for kind in _RECONCILERS:
            for obj in self.ctx.cache.of_kind(kind):
                self.queue.add(key_of(obj), Priority.RESYNC)
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
        prefix, ctx = "tenantplane_operator", self.ctx
        since = self.resync.since_complete()
        yield counters(f"{prefix}_reconcile_total", "Reconciles by outcome.", "outcome", self.queue.outcomes.items())
        yield counter(f"{prefix}_reconcile_seconds_total", "Time spent in reconciles.", self.queue.seconds)
        yield gauge(f"{prefix}_queue_depth", "Keys that wait for a worker.", self.queue.depth)
        yield gauge(f"{prefix}_queue_delayed", "Keys that wait for their time.", self.queue.delayed)
        yield gauge(f"{prefix}_queue_oldest_seconds", "Age of the oldest waiting key.", self.queue.oldest_age)
        yield gauge(f"{prefix}_in_flight", "Reconciles right now.", self.queue.in_flight)
        yield gauge(f"{prefix}_stalled_seconds", "Time without progress while work waits.", self.queue.stalled_for())
        yield counters(f"{prefix}_api_requests_total", "API requests by verb.", "verb", ctx.api.requests.items())
        yield counters(f"{prefix}_api_failures_total", "Failed API requests by verb.", "verb", ctx.api.failures.items())
        yield gauge(f"{prefix}_cached_objects", "Objects in the cache.", len(ctx.cache))
        age = -1 if since is None else since
        yield gauge(f"{prefix}_last_list_seconds", "Age of the last complete list; -1 for none.", age)
        yield counter(f"{prefix}_events_dropped_total", "Events that were not written.", ctx.recorder.dropped)


def stored_knowledge(tenant: Manifest, index: str) -> KnowledgeStatus | None:
    """State of an index in a Tenant's status, ``None`` when there is none."""
    status = lenient(TenantStatus, tenant.get("status"))
    return next((entry for entry in status.knowledge if entry.name == index), None)


def _instance() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"[:128]
