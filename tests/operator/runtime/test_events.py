"""The event recorder: told once, counted as a series, bounded, and never in the way; in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.operator.runtime.objects import obj
from tests.operator.runtime.virtualtime import run

from tenantplane_operator.runtime.errors import Unavailable
from tenantplane_operator.runtime.events import BURST, EventRecorder
from tenantplane_operator.runtime.resources import Manifest, ObjectKey


class FakeApi:
    """Keeps what was written; fails while ``down``."""

    def __init__(self) -> None:
        self.created: list[Manifest] = []
        self.patched: list[Manifest] = []
        self.down = False

    async def create(self, manifest: Manifest) -> Manifest:
        if self.down:
            raise Unavailable("away")
        self.created.append(manifest)
        return manifest

    async def merge_patch(self, key: ObjectKey, patch: Manifest, *, manager: str) -> Manifest:
        self.patched.append(patch)
        return patch


def recording(body: Callable[[EventRecorder, FakeApi], Awaitable[None]]) -> FakeApi:
    api = FakeApi()

    async def main() -> None:
        recorder = EventRecorder(api, component="operator", instance="pod-1")  # type: ignore[arg-type]
        task = asyncio.create_task(recorder.run())
        await body(recorder, api)
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main())
    return api


def test_repeats_become_a_series() -> None:
    async def body(recorder: EventRecorder, _: FakeApi) -> None:
        for _number in range(5):
            recorder.record(obj("Tenant", "acme", ns=""), "Warning", "BuildFailed", "no documents")
            await asyncio.sleep(5)
        await asyncio.sleep(10)

    api = recording(body)
    assert len(api.created) == 1
    event = api.created[0]
    assert event["metadata"]["namespace"] == "default"
    assert event["regarding"]["kind"] == "Tenant"
    assert event["reportingController"] == "operator"
    assert api.patched[-1]["series"]["count"] == 5


def test_the_same_news_much_later_is_told_again() -> None:
    async def body(recorder: EventRecorder, _: FakeApi) -> None:
        recorder.record(obj(), "Normal", "Ready", "yes")
        await asyncio.sleep(3600)
        recorder.record(obj(), "Normal", "Ready", "yes")

    assert len(recording(body).created) == 2


def test_one_object_cannot_flood() -> None:
    dropped = 0

    async def body(recorder: EventRecorder, _: FakeApi) -> None:
        nonlocal dropped
        for number in range(500):
            recorder.record(obj(), "Warning", "Noise", f"number {number}")
        recorder.record(obj(uid="other"), "Normal", "Ready", "another object has its own budget")
        await asyncio.sleep(1)
        dropped = recorder.dropped

    api = recording(body)
    assert len(api.created) == BURST + 1
    assert dropped == 500 - BURST


def test_an_api_server_that_is_away_costs_nothing() -> None:
    async def body(recorder: EventRecorder, api: FakeApi) -> None:
        api.down = True
        recorder.record(obj(), "Normal", "Ready", "yes")
        await asyncio.sleep(1)
        api.down = False
        recorder.record(obj(), "Normal", "Ready", "yes")

    assert len(recording(body).created) == 1
