"""The whole platform: chart, operator and data plane as processes of their own under their own ServiceAccounts."""

from collections.abc import Iterator

import pytest
from tests.operator.e2e.conftest import world as world
from tests.operator.e2e.world import World
from tests.system.stack import Stack


@pytest.fixture(scope="module")
def stack(world: World) -> Iterator[Stack]:
    """Two Ready tenants, ``north`` and ``south``, that chat."""
    made = Stack(world)
    try:
        made.start()
        yield made
    finally:
        made.stop()
