"""The resync: heals gaps, and never takes an error for an empty list; in virtual time."""

import asyncio

import pytest
from tests.operator.runtime.objects import obj
from tests.operator.runtime.virtualtime import run

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.errors import ApiError, NotFound, Unavailable
from tenantplane_operator.runtime.resources import Manifest
from tenantplane_operator.runtime.resync import Listed, Resync


class FakeApi:
    """Lists what it was given, or fails."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Manifest] | ApiError] = {}
        self.calls: list[str] = []

    async def list_all(self, kind: str, **_: object) -> list[Manifest]:
        self.calls.append(kind)
        answer = self.answers[kind]
        if isinstance(answer, ApiError):
            raise answer
        return answer


def make(api: FakeApi, requeue: list[float]) -> tuple[Cache, Resync]:
    cache = Cache(index_label=names.LABEL_TENANT)
    lists = (Listed("ConfigMap"), Listed("Secret", "a=b", namespace="ns", metadata_only=True))

    def again() -> None:
        requeue.append(asyncio.get_running_loop().time())

    return cache, Resync(api, cache, lists, seconds=100, requeue=again, draw=lambda: 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [Unavailable("away"), NotFound("no such kind", status=404)])
def test_an_error_or_a_missing_kind_is_never_an_empty_list(error: ApiError) -> None:
    async def main() -> None:
        api = FakeApi()
        cache, resync = make(api, [])
        api.answers = {"ConfigMap": [obj(name="x", uid="1")], "Secret": []}
        assert await resync.once()
        assert resync.synced
        api.answers["ConfigMap"] = error
        assert not await resync.once()
        assert len(list(cache.of_kind("ConfigMap"))) == 1
        api.answers["ConfigMap"] = []
        assert await resync.once()
        assert list(cache.of_kind("ConfigMap")) == []

    run(main())


def test_the_start_waits_for_every_kind() -> None:
    async def main() -> None:
        api = FakeApi()
        _, resync = make(api, [])
        api.answers = {"ConfigMap": [], "Secret": Unavailable("away")}
        first = asyncio.create_task(resync.first())
        await asyncio.sleep(10)
        assert not first.done()
        assert not resync.synced
        assert resync.since_complete() is None
        api.answers["Secret"] = []
        await first
        assert resync.synced

    run(main())


def test_it_repeats_and_asks_for_another_look() -> None:
    requeued: list[float] = []

    async def main() -> None:
        api = FakeApi()
        _, resync = make(api, requeued)
        api.answers = {"ConfigMap": [], "Secret": []}
        task = asyncio.create_task(resync.run())
        await asyncio.sleep(350)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main())
    assert [round(at) for at in requeued] == [1100, 1200, 1300]
