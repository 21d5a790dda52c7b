"""Every metric of the data plane, in a registry of its own.

Guarantees: no series carries a tenant, a key, an alias or anything else that a caller chooses (``records.md``), so the
number of series is bounded by the code; names follow Prometheus' conventions. ``docs/metrics.md`` lists exactly these;
a test compares both.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """One process's metrics. Instances are independent, so that tests and an in-process server do not meet."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry(auto_describe=True)
        reg = self.registry
        self.requests: Final = Counter(
            "tenantplane_requests",
            "Answered requests by route, HTTP status and error code (empty when it succeeded).",
            ("route", "status", "code"),
            registry=reg,
        )
        self.request_seconds: Final = Histogram(
            "tenantplane_request_duration_seconds",
            "Time from acceptance of a request to the last byte of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=reg,
        )
        self.first_byte_seconds: Final = Histogram(
            "tenantplane_time_to_first_byte_seconds",
            "Time from acceptance of a request to the first byte of a streamed answer's body.",
            ("route",),
            buckets=_SECONDS,
            registry=reg,
        )
        self.in_flight: Final = Gauge("tenantplane_requests_in_flight", "Requests being served now.", registry=reg)
        self.tokens: Final = Counter(
            "tenantplane_tokens",
            "Tokens by direction (input, output) and who counted them (provider, estimated).",
            ("direction", "measured"),
            registry=reg,
        )
        self.connections: Final = Gauge(
            "tenantplane_connections", "Client connections open on the public port.", registry=reg
        )
        self.socket_refusals: Final = Counter(
            "tenantplane_socket_refusals",
            "Connections refused or cut by a socket limit, before any tenant was known.",
            ("reason",),
            registry=reg,
        )
        self.auth_failures: Final = Counter(
            "tenantplane_authentication_failures",
            "Requests whose credential was refused, by error code.",
            ("code",),
            registry=reg,
        )
        self.limit_refusals: Final = Counter(
            "tenantplane_limit_refusals", "Requests refused by a limit, by kind of limit.", ("limiter",), registry=reg
        )
        self.upstream_requests: Final = Counter(
            "tenantplane_upstream_requests", "Requests to engines by outcome.", ("outcome",), registry=reg
        )
        self.upstream_seconds: Final = Histogram(
            "tenantplane_upstream_first_byte_seconds",
            "Time from sending a request to an engine to the head of its answer.",
            buckets=_SECONDS,
            registry=reg,
        )
        self.config_documents: Final = Gauge(
            "tenantplane_config_documents",
            "Runtime documents held, by kind and state.",
            ("kind", "state"),
            registry=reg,
        )
        self.config_changes: Final = Counter(
            "tenantplane_config_changes", "Changes of runtime documents that took effect.", ("kind",), registry=reg
        )
        self.config_conflicts: Final = Gauge(
            "tenantplane_config_key_conflicts", "API key hashes that more than one tenant claims.", registry=reg
        )
        self.config_last_change: Final = Gauge(
            "tenantplane_config_last_change_timestamp_seconds", "Unix time of the last change taken up.", registry=reg
        )
        self.usage_events: Final = Counter("tenantplane_usage_events", "Usage events written.", registry=reg)
        self.usage_lost: Final = Counter(
            "tenantplane_usage_events_lost", "Usage events that could not be written.", registry=reg
        )
        self.usage_queue: Final = Gauge(
            "tenantplane_usage_queue_events", "Usage events waiting to be written.", registry=reg
        )
        self.watcher_restarts: Final = Counter(
            "tenantplane_watcher_restarts", "Times the watcher process ended and was started again.", registry=reg
        )

    def render(self) -> bytes:
        """The text exposition of all series."""
        return generate_latest(self.registry)
