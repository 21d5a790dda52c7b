"""An index to ask."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.dataplane.knowledge.building import ACME, HANDBOOK, build

from tenantplane_dataplane.knowledge.cache import IndexCache
from tenantplane_dataplane.knowledge.index import TenantIndexes

# Examples share two cores with everything else: a deadline per example would judge the machine.
settings.register_profile("tenantplane", deadline=None)
settings.load_profile("tenantplane")


@pytest.fixture(scope="session")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], TenantIndexes]]:
    """Makes handles to ACME's handbook."""
    built = build(Path(tmp_path_factory.mktemp("assistants")), HANDBOOK)
    cache = IndexCache(built.store, max_bytes=1 << 30)
    yield lambda: TenantIndexes(cache, ACME, [built.pointer])
    cache.close()


@pytest.fixture
def indexes(handbook: Callable[[], TenantIndexes]) -> TenantIndexes:
    return handbook()
