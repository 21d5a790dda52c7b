"""pytest plugin: the session's Kubernetes API. Registered by tests/conftest.py.

One cluster per session, and per worker under pytest-xdist. Where none can be had, the tests fail: a skipped isolation
test proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakSet

import pytest

from tenantplane_cli.cluster import Cluster, install_chart, open_cluster

_CHARTED: WeakSet[Cluster] = WeakSet()


def with_chart(cluster: Cluster) -> Cluster:
    """The cluster with the chart installed, once for all modules of a worker: they leave it as they found it."""
    if cluster not in _CHARTED:
        install_chart(cluster, progress=lambda _: None)
        _CHARTED.add(cluster)
    return cluster


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A real API, ready for use, without the chart."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def progress(line: str) -> None:
        # A first build takes minutes, in which a silent pytest looks hung.
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", flush=True)

    with open_cluster(progress=progress) as opened:
        yield opened
