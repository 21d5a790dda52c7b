"""Documentation that lists what the code has is compared with the code."""

import re
from pathlib import Path

from tenantplane_dataplane.observability.metrics import Metrics

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| `(tenantplane_[a-z_]+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)


def test_docs_metrics_lists_exactly_the_metrics_of_the_code() -> None:
    documented = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text.strip())
        for name, kind, labels, text in ROW.findall((DOCS / "metrics.md").read_text(encoding="utf-8"))
    }
    metrics = Metrics()
    existing = {}
    for collector in vars(metrics).values():
        if collector is metrics.registry:
            continue
        (family,) = collector.describe()
        name = family.name + ("_total" if family.type == "counter" else "")
        existing[name] = (family.type, tuple(collector._labelnames), family.documentation)
    assert documented == existing


def test_no_metric_can_name_a_tenant() -> None:
    allowed = {
        "route",
        "status",
        "code",
        "direction",
        "measured",
        "reason",
        "limiter",
        "outcome",
        "kind",
        "state",
    }
    for name, collector in vars(Metrics()).items():
        if name != "registry":
            assert set(collector._labelnames) <= allowed, name
