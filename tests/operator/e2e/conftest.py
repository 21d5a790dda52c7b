"""The platform that end-to-end tests share, and an operator that runs for most of them."""

from collections.abc import Iterator

import pytest
from tests.operator.e2e.world import Operator, World, wait
from tests.support.cluster import with_chart

from tenantplane_api.runtime import names
from tenantplane_cli.cluster import Cluster


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The chart installed with both programs off, and nothing of ours left over from other tests."""
    made = World(with_chart(cluster), tmp_path_factory.mktemp("world"))
    made.documents.mkdir()
    try:
        yield made
    finally:
        try:
            _sweep(made)
        finally:
            made.close()


def _sweep(world: World) -> None:
    """Delete all Tenants, and their namespaces without waiting for them: other modules share the cluster."""
    running = [started for started in world.operators if started.process.poll() is None]
    tenants = world.items("Tenant")
    if not tenants:
        return
    if not running:
        world.start()
    for tenant in tenants:
        name = tenant["metadata"]["name"]
        world.delete("Tenant", name)
    wait(lambda: not world.items("Tenant"), "all Tenants are gone", target=6)
    for space in world.items("Namespace"):
        if names.LABEL_TENANT in space["metadata"].get("labels", {}):
            world.delete("Namespace", space["metadata"]["name"])


@pytest.fixture(scope="module")
def operator(world: World) -> Operator:
    """One operator for the tests of a module."""
    # Stopped by `world`, which sweeps with its help.
    return world.start(resyncSeconds=3600)
