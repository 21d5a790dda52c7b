"""Documentation that lists what the operator exposes is compared with the code."""

import re
from pathlib import Path

from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.compose import OperatorApp
from tenantplane_operator.runtime.kubeconfig import Connection

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| `(tenantplane_operator_[a-z_]+)` \| (\w+) \| ([^|]+) \|$", re.MULTILINE)


async def test_docs_list_exactly_the_operators_metrics() -> None:
    connection = Connection(server="http://127.0.0.1:9", tls=None, token=lambda: None)
    app = OperatorApp(Platform(), connection, probe_port=0)
    existing = {metric.name: (metric.kind, metric.help) for metric in app.metrics()}
    text = (DOCS / "metrics-operator.md").read_text(encoding="utf-8")
    assert {name: (kind, what.strip()) for name, kind, what in ROW.findall(text)} == existing
