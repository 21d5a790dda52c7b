"""One round each: a control plane with an empty etcd, the chart, and then the operator or the bare client.

Every round has its own control plane, so that none works on what another left behind; it is ended with the round. The
operator is a process of its own under its ServiceAccount, as in a cluster.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from bench.common import Usage, cpu_between, usage
from bench.operator_bench.floor import SAMPLE, Floor, Write, bare_apply, capture
from bench.operator_bench.load import Client, LoadError, until_ready
from tests.operator.e2e.world import Operator, World, wait

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import LeaderElection
from tenantplane_cli.cluster import Cluster, install_chart, open_cluster
from tenantplane_cli.cluster.controlplane import OwnControlPlane
from tenantplane_cli.cluster.toolchain import ETCD
from tenantplane_operator.runtime.kubeconfig import Connection, connect
from tenantplane_operator.runtime.resources import RESOURCES

READS = frozenset({"get", "list", "watch"})
_SETTLE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says; see ``__main__``."""

    tenants: int
    workers: int
    rounds: int
    idle_seconds: int
    outlook: int
    profile: Path | None = None
    keep_log: Path | None = None

    def names(self, count: int | None = None) -> list[str]:
        """Names of the Tenants, each as long as the captured one's."""
        return [f"bench-{number:04d}" for number in range(self.tenants if count is None else count)]

    def deadline(self, count: int) -> float:
        """Seconds after which a round is given up: ten times the target, and never less than a slow start."""
        return max(120.0, 10 * 0.15 * count)


@dataclass
class OperatorRound:
    """What one round of the operator showed; times in seconds."""

    ready: dict[str, float]
    requests: dict[str, int]
    reconciles: dict[str, int]
    log: str
    settled: float
    cpu: float | None
    peak_mib: float | None
    api_server_cpu: float | None
    restart: dict[str, Any] = field(default_factory=dict)
    idle: dict[str, Any] = field(default_factory=dict)


class Bench:
    """A control plane with the chart, and what the rounds need of it."""

    def __init__(self, cluster: Cluster, folder: Path, settings: Settings) -> None:
        self.cluster = cluster
        self.settings = settings
        self.world = World(cluster, folder)
        self.folder = folder
        self.admin: Connection = connect(cluster.kubeconfig)

    def api_server(self) -> Usage | None:
        """What the API server used so far, ``None`` when it is not ours."""
        return usage(self.cluster.pids().get("kube-apiserver")) if isinstance(self.cluster, OwnControlPlane) else None

    def operator_connection(self) -> Connection:
        """The operator's own rights."""
        account = self.cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR)
        return connect(account.kubeconfig)

    def start(self, *, profile: Path | None = None) -> Operator:
        """Start an operator; it need not be ready yet."""
        account = self.cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR)
        platform = self.world.platform_file(
            workers=self.settings.workers,
            resyncSeconds=3600,
            # As the product has it: with the tests' short Lease, a busy machine loses it.
            leaderElection=msgspec.to_builtins(LeaderElection()),
        )
        profiler = [] if profile is None else ["-m", "cProfile", "-o", str(profile)]
        argv = [
            sys.executable, *profiler, "-m", "tenantplane_operator.main", "run", "--platform", str(platform),
            "--kubeconfig", str(account.kubeconfig), "--probe-port", "0",
        ]  # fmt: skip
        return self.world.spawn_as(argv)

    def burst(self, operator: Operator, tenants: Sequence[str], *, deadline: float) -> dict[str, float]:
        """Create all and wait for all; seconds to Ready.

        Raises:
            LoadError: with what one of those that are not Ready says, and the end of the operator's log.
        """
        try:
            return asyncio.run(until_ready(self.admin, tenants, deadline=deadline))
        except LoadError as error:
            said = (self.world.get(names.KIND_TENANT, tenants[-1]) or {}).get("status")
            raise LoadError(f"{error}\n{tenants[-1]}: {said}\n{operator.tail()}") from None

    def versions(self) -> dict[str, str]:
        """resourceVersion of everything that carries our label, and of the Tenants."""
        return asyncio.run(_versions(self.admin))


async def _versions(admin: Connection) -> dict[str, str]:
    found = {}
    async with Client(admin) as client:
        for kind, resource in RESOURCES.items():
            if kind in ("Event", "Job", "Lease", "Pod"):
                continue
            status, answer = await client.send("GET", resource.path())
            if status != 200:
                raise LoadError(f"{kind} cannot be listed: {status} {answer.get('message')}")
            for item in answer["items"]:
                meta = item["metadata"]
                if kind == names.KIND_TENANT or names.LABEL_TENANT in meta.get("labels", {}):
                    # Usage in a quota's status is written by the controller manager when it pleases.
                    state = str(item["spec"]) if kind == "ResourceQuota" else meta["resourceVersion"]
                    found[f"{kind} {meta.get('namespace', '')}/{meta['name']}"] = state
    return found


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Bench]:
    """A fresh control plane for one round."""
    with tempfile.TemporaryDirectory(prefix="bench-operator-") as folder, open_cluster(progress=_quiet) as cluster:
        install_chart(cluster, progress=_quiet)
        bench = Bench(cluster, Path(folder), settings)
        try:
            yield bench
        finally:
            bench.world.close()


def _quiet(_: str) -> None:
    """Progress of the cluster provider is nobody's figure."""


def counted(operator: Operator, metric: str) -> dict[str, int]:
    """A counter of the operator by its label."""
    return {name: int(value) for name, value in operator.metric(metric).items()}


def at_rest(operator: Operator, *, target: float) -> float:
    """Wait until nothing waits or runs, and still does so a moment later; seconds since the call at the first look."""
    started = time.monotonic()
    while True:
        wait(operator.idle, "the operator is idle", target=target)
        took = time.monotonic() - started
        time.sleep(1.0)
        if operator.idle():
            return took


def take_sample(settings: Settings) -> tuple[list[Write], dict[str, str]]:
    """One Tenant, made by the operator and captured; the writes of it, and versions of the control plane."""
    with opened(settings) as bench:
        operator = bench.start()
        wait(operator.ready, "the operator is ready", target=6)
        bench.burst(operator, [SAMPLE], deadline=15)
        at_rest(operator, target=6)
        found = bench.world.get(names.KIND_TENANT, SAMPLE)
        assert found is not None
        writes = asyncio.run(capture(bench.admin, found))
        version = str(bench.world.call("GET", "/version")[1]["gitVersion"])
        operator.stop()
        return writes, {"kubernetes": version, "etcd": ETCD.version}


def floor_round(settings: Settings, writes: Sequence[Write]) -> tuple[Floor, float | None]:
    """The bare client on a fresh control plane; what it did, and processor seconds of the API server."""
    with opened(settings) as bench:
        connection = bench.operator_connection()
        before = bench.api_server()
        work = bare_apply(bench.admin, connection, writes, settings.names(), workers=settings.workers)
        done = asyncio.run(work)
        return done, cpu_between(before, bench.api_server())


def operator_round(settings: Settings, count: int | None = None) -> OperatorRound:
    """The operator on a fresh control plane: burst, restart, idle."""
    tenants = settings.names(count)
    with opened(settings) as bench:
        operator = bench.start(profile=settings.profile)
        wait(operator.ready, "the operator is ready", target=6)
        requests, api_server = counted(operator, "api_requests_total"), bench.api_server()
        before = usage(operator.process.pid)
        ready = bench.burst(operator, tenants, deadline=settings.deadline(len(tenants)))
        settled = at_rest(operator, target=30)
        after = usage(operator.process.pid)
        now = counted(operator, "api_requests_total")
        found = OperatorRound(
            ready=ready,
            requests={verb: now[verb] - requests.get(verb, 0) for verb in sorted(now)},
            reconciles=counted(operator, "reconcile_total"),
            log=operator.log.read_text(encoding="utf-8"),
            settled=max(ready.values()) + settled,
            cpu=cpu_between(before, after),
            peak_mib=None if after is None else round(after.peak_mib, 1),
            api_server_cpu=cpu_between(api_server, bench.api_server()),
        )
        operator.stop()
        _restart(bench, found, len(tenants))
        return found


def _restart(bench: Bench, found: OperatorRound, tenants: int) -> None:
    # What the controller manager has still to write about the burst must not count as ours.
    time.sleep(_SETTLE_SECONDS)
    before = bench.versions()
    started = time.monotonic()
    operator = bench.start()
    # Each Tenant and its key are looked at.
    everything = 2 * tenants

    def looked_at() -> bool:
        return operator.ready() and sum(operator.metric("reconcile_total").values()) >= everything and operator.idle()

    wait(looked_at, "the operator has looked at everything", target=30)
    took = time.monotonic() - started
    at_rest(operator, target=30)
    used = usage(operator.process.pid)
    changed = sorted(key for key, value in bench.versions().items() if before.get(key) != value)
    found.restart = {
        "seconds": round(took, 2),
        "changed_objects": len(changed),
        "changed": changed[:5],
        "requests": counted(operator, "api_requests_total"),
        "cpu_s": None if used is None else round(used.cpu, 2),
        "peak_mib": None if used is None else round(used.peak_mib, 1),
    }
    _idle(bench, operator, found)
    operator.stop()


def _idle(bench: Bench, operator: Operator, found: OperatorRound) -> None:
    seconds = bench.settings.idle_seconds
    before, versions = usage(operator.process.pid), bench.versions()
    requests = counted(operator, "api_requests_total")
    time.sleep(seconds)
    used = cpu_between(before, usage(operator.process.pid))
    now = counted(operator, "api_requests_total")
    made = {verb: now[verb] - requests.get(verb, 0) for verb in now if now[verb] > requests.get(verb, 0)}
    after = bench.versions()
    found.idle = {
        "seconds": seconds,
        "requests": made,
        "changed_objects": sum(1 for key, value in after.items() if versions.get(key) != value),
        "cpu_percent": None if used is None else round(100 * used / seconds, 2),
    }
