"""Liveness, readiness and metrics of the operator, on a port of its own.

``/healthz`` fails only when a restart would help: the loop answers, but waiting work has not moved for a long time. An
event loop that is blocked does not answer at all, which the kubelet takes as a failure.
``/readyz`` fails until every watched kind was listed once, while waiting work does not move, and while the last
complete list is far too old. An operator that waits for its turn to lead is ready, or no rolling update would end.
kopf's own probe says only that its HTTP task runs, which is true in every outage that matters.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

STUCK_SECONDS = 300.0
UNREADY_SECONDS = 150.0
"""More than the deadline of a reconcile, within which something always ends."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the probes answer from. ``stalled_for`` and ``since_resync`` in seconds; ``None`` is never."""

    synced: bool
    stalled_for: float
    since_resync: float | None
    resync_seconds: float

    @property
    def alive(self) -> bool:
        """False when waiting work has not moved for ``STUCK_SECONDS``."""
        return self.stalled_for < STUCK_SECONDS

    @property
    def ready(self) -> bool:
        """True when what is known is complete and not far too old."""
        fresh = self.since_resync is not None and self.since_resync < 3 * self.resync_seconds + 60
        return self.synced and self.stalled_for < UNREADY_SECONDS and fresh


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric with its samples; a sample is labels and a value."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[tuple[tuple[str, str], ...], float], ...]
    suffixes: tuple[str, ...] = ()
    """What each sample's name ends with, where that differs (histograms)."""


def gauge(name: str, text: str, value: float) -> Metric:
    """A gauge without labels."""
    return Metric(name, "gauge", text, (((), value),))


def counter(name: str, text: str, value: float) -> Metric:
    """A counter without labels."""
    return Metric(name, "counter", text, (((), value),))


def counters(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    """A counter with one label."""
    return Metric(name, "counter", text, tuple((((label, key),), value) for key, value in sorted(values)))


def labelled(
    name: str, kind: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    """A gauge or counter with several labels; ``values`` are the labels' values in the same order, and the value."""
    samples = tuple((tuple(zip(labels, key, strict=True)), value) for key, value in sorted(values))
    return Metric(name, kind, text, samples)


def histogram(
    name: str, text: str, label: str, bounds: Sequence[float], values: Mapping[str, tuple[Sequence[int], float]]
) -> Metric:
    """A histogram with one label; per value of it the counts between the bounds (one more than those) and the sum."""
    samples: list[tuple[str, tuple[tuple[str, str], ...], float]] = []
    for key, (counts, total) in sorted(values.items()):
        running = 0
        for bound, count in zip((*bounds, None), counts, strict=True):
            running += count
            edge = "+Inf" if bound is None else f"{bound:g}"
            samples.append(("_bucket", ((label, key), ("le", edge)), running))
        samples += [("_sum", ((label, key),), total), ("_count", ((label, key),), running)]
    suffixes = tuple(suffix for suffix, _, _ in samples)
    return Metric(name, "histogram", text, tuple((labels, value) for _, labels, value in samples), suffixes)


def render(metrics: Iterable[Metric]) -> str:
    """Prometheus text format 0.0.4."""
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        for number, (labels, value) in enumerate(metric.samples):
            name = metric.name + (metric.suffixes[number] if metric.suffixes else "")
            text = ",".join(f'{key}="{_escape(item)}"' for key, item in labels)
            # 15 digits: a counter of millions must still show every step.
            lines.append(f"{name}{{{text}}} {value:.15g}" if text else f"{name} {value:.15g}")
    return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class ProbeServer:
    """A small HTTP server for the kubelet and Prometheus; ``port`` 0 takes a free one, see ``bound_port``."""

    def __init__(
        self,
        *,
        port: int,
        health: Callable[[], Health],
        metrics: Callable[[], Iterable[Metric]],
        host: str = "0.0.0.0",  # noqa: S104 -- the kubelet comes from outside the pod
    ) -> None:
        self._host = host
        self._port = port
        self._health = health
        self._metrics = metrics
        self._runner: web.AppRunner | None = None
        self.bound_port = 0

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self.bound_port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        health = self._health()
        text = "ok" if health.alive else f"stuck: work has waited {health.stalled_for:.0f} s without progress"
        return web.Response(status=200 if health.alive else 503, text=text + "\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        health = self._health()
        if health.ready:
            return web.Response(text="ok\n")
        if not health.synced:
            return web.Response(status=503, text="not yet: the first complete list is still running\n")
        return web.Response(status=503, text="stale: no complete list for too long, or no progress\n")

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=render(self._metrics()).encode(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )
