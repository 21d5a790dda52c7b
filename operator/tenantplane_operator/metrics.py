"""The operator's metrics, from the counters of its parts. No series carries a tenant: their number must stay bounded.

Documented in docs/metrics-operator.md; a test compares the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.probes import Metric, counter, counters, gauge, histogram, labelled
from tenantplane_operator.runtime.queue import BUCKETS

if TYPE_CHECKING:
    from tenantplane_operator.compose import OperatorApp

_PREFIX: Final = "tenantplane_operator"


def collect(app: OperatorApp) -> Iterable[Metric]:
    """All metrics, as they stand now."""
    yield from _work(app)
    yield from _api(app)
    yield from _state(app)


def _work(app: OperatorApp) -> Iterable[Metric]:
    queue = app.queue
    yield labelled(
        f"{_PREFIX}_reconcile_total",
        "counter",
        "Reconciles by kind and outcome.",
        ("kind", "outcome"),
        queue.results.items(),
    )
    yield histogram(
        f"{_PREFIX}_reconcile_duration_seconds",
        "Time that reconciles took, by kind.",
        "kind",
        BUCKETS,
        {kind: (seen.counts, seen.seconds) for kind, seen in queue.durations.items()},
    )
    yield gauge(f"{_PREFIX}_queue_depth", "Keys that wait for a worker.", queue.depth)
    yield gauge(f"{_PREFIX}_queue_delayed", "Keys that wait for their time.", queue.delayed)
    yield gauge(f"{_PREFIX}_queue_rollout", "Keys that a changed Platform file has yet to wake.", app.rollout.waiting)
    yield gauge(f"{_PREFIX}_queue_slow", "Keys whose last reconcile was slow; few of them run at once.", queue.slow)
    yield gauge(f"{_PREFIX}_queue_oldest_seconds", "Age of the oldest waiting key.", queue.oldest_age)
    yield gauge(f"{_PREFIX}_in_flight", "Reconciles right now.", queue.in_flight)
    yield gauge(f"{_PREFIX}_stalled_seconds", "Time without progress while work waits.", queue.stalled_for())
    idle = queue.idle_for
    text = "Time since the last finished reconcile; -1 for none yet."
    yield gauge(f"{_PREFIX}_last_progress_seconds", text, -1 if idle is None else idle)


def _api(app: OperatorApp) -> Iterable[Metric]:
    api = app.ctx.api
    text = "API requests by verb and answer (2xx, the code of an error, none without an answer)."
    yield labelled(f"{_PREFIX}_api_requests_total", "counter", text, ("code", "verb"), api.answers.items())
    yield counters(f"{_PREFIX}_api_failures_total", "Failed API requests by verb.", "verb", api.failures.items())
    since = app.resync.since_complete()
    age = -1 if since is None else since
    yield gauge(f"{_PREFIX}_last_list_seconds", "Age of the last complete list; -1 for none.", age)
    yield gauge(f"{_PREFIX}_cached_objects", "Objects in the cache.", len(app.ctx.cache))
    yield counter(f"{_PREFIX}_events_dropped_total", "Events that were not written.", app.ctx.recorder.dropped)


def _state(app: OperatorApp) -> Iterable[Metric]:
    yield gauge(f"{_PREFIX}_leader", "1 while this operator leads and may write.", float(app.leader.leading))
    text = "1 while the Platform file is not usable and an older one is in force."
    yield gauge(
        f"{_PREFIX}_platform_reload_failed", text, float(app.reload.failed if app.reload is not None else False)
    )
    dog = app.watchdog
    yield gauge(f"{_PREFIX}_event_loop_lag_max_seconds", "Longest time that the event loop was blocked.", dog.lag_max)
    yield counter(f"{_PREFIX}_event_loop_blocked_total", "Times that it was blocked for a second.", dog.blocked_total)
    conditions: Counter[tuple[str, str]] = Counter()
    for tenant in app.ctx.cache.of_kind(names.KIND_TENANT):
        for condition in (tenant.get("status") or {}).get("conditions") or ():
            conditions[str(condition.get("type")), str(condition.get("status"))] += 1
    text = "Tenants by condition and its status."
    yield labelled(f"{_PREFIX}_tenants", "gauge", text, ("condition", "status"), conditions.items())
    text = "Deletions that wait for `tenantplane release --confirm`, by kind of object."
    held = {(kind,): count for kind, count in app.ctx.deletions.held_counts().items()}
    yield labelled(f"{_PREFIX}_mass_deletion_held", "gauge", text, ("kind",), held.items())
