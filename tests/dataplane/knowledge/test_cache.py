"""The cache: one opening for all who wait, shares between tenants, no way around the tenant handle."""

import asyncio
import inspect
import threading
from collections.abc import Iterator

import pytest
from tests.dataplane.knowledge.building import ACME, BOREALIS, HANDBOOK, Built, build

from tenantplane_api.runtime.documents import IndexPointer
from tenantplane_api.runtime.names import TenantID
from tenantplane_dataplane.knowledge import cache as cache_module
from tenantplane_dataplane.knowledge.cache import FAILURE_SECONDS, IndexCache
from tenantplane_dataplane.knowledge.errors import IndexUnavailable
from tenantplane_dataplane.knowledge.generation import OpenIndex, open_index
from tenantplane_dataplane.knowledge.index import TenantIndexes
from tenantplane_dataplane.knowledge.retrieve import RetrievalOptions
from tenantplane_dataplane.knowledge.store import FileStore

CAESAR = TenantID("caesar-0001")
OPTIONS = RetrievalOptions()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[TenantID, str], Built]:
    """Indices a, b, c of three tenants, all of about the same size."""
    base = tmp_path_factory.mktemp("shelf")
    return {
        (tenant_id, name): build(base, HANDBOOK, tenant_id=tenant_id, index=name)
        for tenant_id in (ACME, BOREALIS, CAESAR)
        for name in ("a", "b", "c")
    }


class Cabinet:
    """A cache with room for some indices of the shelf."""

    def __init__(self, shelf: dict[tuple[TenantID, str], Built], room: float, share: float) -> None:
        self.shelf = shelf
        self.size = max(built.manifest.total_bytes for built in shelf.values())
        self.now = 0.0
        store = next(iter(shelf.values())).store
        self.cache = IndexCache(store, max_bytes=int(room * self.size), tenant_share=share, clock=lambda: self.now)

    async def load(self, tenant_id: TenantID, names: str) -> None:
        for name in names:
            await self.cache.get(tenant_id, self.shelf[tenant_id, name].pointer)

    def held(self) -> set[str]:
        return {f"{tenant_id[0]}{name}" for tenant_id, name, _ in self.cache.generations()}


@pytest.fixture
def cabinet(shelf: dict[tuple[TenantID, str], Built]) -> Iterator[Cabinet]:
    made = Cabinet(shelf, 4.1, 0.5)
    yield made
    made.cache.close()


async def test_the_oldest_goes_first(cabinet: Cabinet) -> None:
    await cabinet.load(ACME, "ab")
    await cabinet.load(BOREALIS, "ab")
    await cabinet.load(ACME, "a")  # used again
    await cabinet.load(CAESAR, "a")
    assert cabinet.held() == {"aa", "ba", "bb", "ca"}
    assert cabinet.cache.stats().evicted == 1


async def test_who_is_over_the_share_loses_its_own(cabinet: Cabinet) -> None:
    await cabinet.load(BOREALIS, "a")
    await cabinet.load(ACME, "abc")  # over its share, but there is room
    assert cabinet.held() == {"ba", "aa", "ab", "ac"}
    await cabinet.load(CAESAR, "a")  # needs room: acme pays, though borealis' is the oldest
    assert cabinet.held() == {"ba", "ab", "ac", "ca"}


async def test_a_newcomer_over_its_share_makes_its_own_room(shelf: dict[tuple[TenantID, str], Built]) -> None:
    cabinet = Cabinet(shelf, 4.1, 0.5)
    await cabinet.load(BOREALIS, "ab")
    await cabinet.load(ACME, "abc")
    assert cabinet.held() == {"ba", "bb", "ab", "ac"}
    cabinet.cache.close()


async def test_an_index_larger_than_the_cache_is_refused(shelf: dict[tuple[TenantID, str], Built]) -> None:
    cabinet = Cabinet(shelf, 0.5, 1.0)
    with pytest.raises(IndexUnavailable, match="more than the cache may hold"):
        await cabinet.load(ACME, "a")
    cabinet.cache.close()


async def test_concurrent_requests_share_one_opening(cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    gate = threading.Event()

    def slow(store: FileStore, tenant_id: TenantID, pointer: IndexPointer) -> OpenIndex:
        assert threading.current_thread() is not threading.main_thread()
        calls.append(pointer.name)
        assert gate.wait(30)
        return open_index(store, tenant_id, pointer)

    monkeypatch.setattr(cache_module, "open_index", slow)
    pointer = cabinet.shelf[ACME, "a"].pointer
    waiting = [asyncio.create_task(cabinet.cache.get(ACME, pointer)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # the one that started it goes away
    gate.set()
    opened = await asyncio.gather(*waiting[1:])
    assert calls == ["a"]
    assert all(index is opened[0] for index in opened)
    assert waiting[0].cancelled()


async def test_a_failed_opening_is_not_repeated_at_once(cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def failing(store: FileStore, tenant_id: TenantID, pointer: IndexPointer) -> OpenIndex:
        calls.append(pointer.name)
        if len(calls) == 1:
            raise IndexUnavailable("damaged")
        return open_index(store, tenant_id, pointer)

    monkeypatch.setattr(cache_module, "open_index", failing)
    for _ in range(3):
        with pytest.raises(IndexUnavailable, match="damaged"):
            await cabinet.load(ACME, "a")
    assert len(calls) == 1
    await cabinet.load(BOREALIS, "a")  # nobody else waits for it
    cabinet.now = FAILURE_SECONDS + 1
    await cabinet.load(ACME, "a")
    assert cabinet.held() == {"aa", "ba"}


async def test_the_handle_reaches_only_its_tenants_indices(cabinet: Cabinet) -> None:
    """Paired: same question, same process, same cache; each handle finds its own and cannot name the other's."""
    pointers = [cabinet.shelf[ACME, "a"].pointer]
    acme = TenantIndexes(cabinet.cache, ACME, pointers)
    assert (await acme.search(["a"], "What is the fuel surcharge?", OPTIONS)).passages
    with pytest.raises(KeyError):
        await acme.search(["b"], "What is the fuel surcharge?", OPTIONS)
    thief = TenantIndexes(cabinet.cache, BOREALIS, pointers)  # A's pointer in B's document, A's entry in the cache
    with pytest.raises(IndexUnavailable):
        await thief.search(["a"], "What is the fuel surcharge?", OPTIONS)
    with pytest.raises(ValueError, match="tenant_id"):
        TenantIndexes(cabinet.cache, TenantID(""), pointers)
    assert inspect.signature(TenantIndexes).parameters["tenant_id"].default is inspect.Parameter.empty
    assert "tenant_id" not in inspect.signature(TenantIndexes.search).parameters


async def test_without_the_tenant_in_the_key_the_thief_would_succeed(
    cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other half of the pair: with the guards away (key and manifest), the same call does leak."""
    pointers = [cabinet.shelf[ACME, "a"].pointer]
    real = open_index
    monkeypatch.setattr(cache_module, "open_index", lambda store, _tenant, pointer: real(store, ACME, pointer))
    thief = TenantIndexes(cabinet.cache, BOREALIS, pointers)
    assert (await thief.search(["a"], "What is the fuel surcharge?", OPTIONS)).passages
