"""Probes and logs: what the kubelet, Prometheus and a log collector see."""

import asyncio
import io
import itertools
import json
import logging

import aiohttp
import kopf

from tenantplane_operator.runtime import watches
from tenantplane_operator.runtime.logs import JsonFormatter
from tenantplane_operator.runtime.probes import (
    Health,
    Metric,
    ProbeServer,
    counters,
    gauge,
    histogram,
    labelled,
    render,
)
from tenantplane_operator.runtime.resync import Listed


def health(*, synced: bool = True, stalled: float = 0.0, since: float | None = 1.0) -> Health:
    return Health(synced=synced, stalled_for=stalled, since_resync=since, resync_seconds=300)


def test_health_is_about_progress() -> None:
    assert health().ready
    assert not health(synced=False).ready
    assert health(synced=False).alive
    assert not health(since=None).ready
    assert not health(since=2000).ready
    assert not health(stalled=400).alive
    assert not health(stalled=400).ready
    # Out of the way before it is restarted.
    assert health(stalled=200).alive
    assert not health(stalled=200).ready


async def test_the_probes_answer() -> None:
    state = health(synced=False)
    server = ProbeServer(port=0, host="127.0.0.1", health=lambda: state, metrics=lambda: [gauge("a_b", "Help.", 3)])
    await server.start()
    base = f"http://127.0.0.1:{server.bound_port}"
    async with aiohttp.ClientSession() as session:
        for path, expected in (("/healthz", 200), ("/readyz", 503), ("/metrics", 200), ("/other", 404)):
            async with session.get(base + path) as answer:
                assert answer.status == expected, path
        state = health()
        async with session.get(base + "/readyz") as answer:
            assert answer.status == 200
        state = health(stalled=400)
        async with session.get(base + "/healthz") as answer:
            assert answer.status == 503
            assert "stuck" in await answer.text()
    await server.stop()
    await asyncio.sleep(0)


def test_metrics_are_prometheus_text() -> None:
    text = render(
        [
            gauge("depth", "Depth.", 2),
            counters("done_total", "Done.", "outcome", [("ok", 3), ('we"ird\n', 1)]),
            Metric("none", "gauge", "None.", ()),
        ]
    )
    assert text == (
        "# HELP depth Depth.\n# TYPE depth gauge\ndepth 2\n"
        '# HELP done_total Done.\n# TYPE done_total counter\ndone_total{outcome="ok"} 3\n'
        'done_total{outcome="we\\"ird\\n"} 1\n'
        "# HELP none None.\n# TYPE none gauge\n"
    )


def test_several_labels_and_histograms() -> None:
    text = render(
        [
            labelled("done_total", "counter", "Done.", ("kind", "outcome"), {("A", "ok"): 2, ("A", "no"): 1}.items()),
            histogram("took_seconds", "Took.", "kind", (0.5, 10.0), {"A": ([3, 1, 1], 42.5)}),
        ]
    )
    assert text == (
        '# HELP done_total Done.\n# TYPE done_total counter\ndone_total{kind="A",outcome="no"} 1\n'
        'done_total{kind="A",outcome="ok"} 2\n'
        "# HELP took_seconds Took.\n# TYPE took_seconds histogram\n"
        'took_seconds_bucket{kind="A",le="0.5"} 3\ntook_seconds_bucket{kind="A",le="10"} 4\n'
        'took_seconds_bucket{kind="A",le="+Inf"} 5\ntook_seconds_sum{kind="A"} 42.5\ntook_seconds_count{kind="A"} 5\n'
    )


def test_a_log_line_is_one_json_object() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("x")
    logger.addHandler(handler)
    try:
        raise ValueError("bad\nnews")
    except ValueError:
        logger.exception("two\nlines %s", "é", extra={"tenant": "acme", "object": object()})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert line["message"] == "two\nlines é"
    assert line["level"] == "error"
    assert line["tenant"] == "acme"
    assert "object" not in line
    assert "ValueError" in line["exception"]


def test_kopf_is_only_a_watcher() -> None:
    settings = kopf.OperatorSettings()
    watches.configure(settings, [Listed("ConfigMap", "a=b"), Listed("Tenant")])
    assert not settings.posting.enabled
    assert settings.peering.standalone
    assert settings.scanning.disabled
    assert settings.queueing.worker_limit is not None
    assert settings.queueing.idle_timeout < 1
    backoffs = settings.networking.error_backoffs
    assert not isinstance(backoffs, float)
    # Twice, because kopf starts over for every request.
    for _ in range(2):
        assert list(itertools.islice(backoffs, 1000))[-1] == 5
    assert list(settings.watching.label_selectors.values()) == ["a=b"]
