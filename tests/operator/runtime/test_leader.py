"""Leader election against an API that keeps one Lease as the real one would, in virtual time.

The process-level side (SIGKILL, SIGSTOP, real Leases) is in tests/operator/e2e/test_leader.py.
"""

import asyncio
import copy
from typing import Any

import pytest
from tests.operator.runtime.virtualtime import run

from tenantplane_operator.runtime.errors import AlreadyExists, Conflict, NotFound, NotLeading, Unavailable
from tenantplane_operator.runtime.leader import Leader, LeaseLost, Timing
from tenantplane_operator.runtime.resources import Manifest

TIMING = Timing(lease=15, renew=10, retry=2)


class FakeApi:
    """One Lease with resourceVersions. While ``down`` nothing answers; an answer takes ``takes`` seconds."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.version = 0
        self.down = False
        self.takes = 0.0
        self.writes = 0

    async def request(
        self, verb: str, method: str, path: str, *, body: Manifest | None = None, deadline: float | None = None
    ) -> Any:
        assert verb == "lease"
        assert deadline is not None
        if self.down:
            await asyncio.sleep(deadline)
            raise Unavailable("away")
        answer = self.answer(method, path, body)
        await asyncio.sleep(self.takes)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, method: str, path: str, body: Manifest | None) -> Manifest | Exception:
        if method == "GET":
            return copy.deepcopy(self.lease) if self.lease is not None else NotFound("no", status=404)
        assert body is not None
        if method == "POST":
            if self.lease is not None:
                return AlreadyExists("there", status=409)
            return self.store(body)
        if self.lease is None:
            return NotFound("no", status=404)
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            return Conflict("changed", status=409)
        return self.store(body)

    def store(self, body: Manifest) -> Manifest:
        self.version += 1
        self.writes += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


class Candidate:
    """A leader with its task, as the operator runs it."""

    def __init__(self, api: FakeApi, name: str) -> None:
        self.recovered = 0
        loop = asyncio.get_running_loop()
        self.leader = Leader(
            api,  # type: ignore[arg-type]
            namespace="system",
            name="lease",
            identity=name,
            timing=TIMING,
            clock=loop.time,
            draw=lambda: 1.0,
            on_recovered=self.on_recovered,
        )
        self.task = asyncio.create_task(self.main())

    def on_recovered(self) -> None:
        self.recovered += 1

    async def main(self) -> None:
        if not self.leader.holding:
            await self.leader.acquire()
        await self.leader.hold()

    async def pause(self) -> None:
        """SIGKILL, or SIGSTOP when ``resume`` follows: nothing of it runs, the clock goes on."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def resume(self) -> None:
        self.task = asyncio.create_task(self.main())

    def may_write(self) -> bool:
        try:
            self.leader.check()
        except NotLeading:
            return False
        return True


async def seconds_until_leading(candidate: Candidate, at_most: float) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    while not candidate.leader.leading:
        assert loop.time() - started <= at_most, "it does not lead"
        await asyncio.sleep(0.1)
    return loop.time() - started


def test_one_leads_at_once_and_the_other_waits() -> None:
    async def main() -> None:
        api = FakeApi()
        candidates = [Candidate(api, name) for name in "abc"]
        await asyncio.sleep(0.5)
        for _ in range(100):
            await asyncio.sleep(1)
            assert [one.may_write() for one in candidates].count(True) == 1
        assert api.holder == "a"
        # Only the leader writes, once per renewal.
        assert api.writes <= 1 + 100 / TIMING.retry + 1

    run(main())


def test_a_killed_leader_is_followed_in_time_and_not_before_its_lease_ends() -> None:
    async def main() -> None:
        api = FakeApi()
        first, second = Candidate(api, "a"), Candidate(api, "b")
        await asyncio.sleep(60)
        await first.pause()
        took = await seconds_until_leading(second, 20)
        assert took >= TIMING.lease - TIMING.retry - 0.1
        assert not first.may_write()

    run(main())


def test_a_released_lease_is_taken_at_once_and_a_release_is_no_renewal() -> None:
    async def main() -> None:
        api = FakeApi()
        first, second = Candidate(api, "a"), Candidate(api, "b")
        await asyncio.sleep(60)
        await first.pause()
        await first.leader.release()
        assert not first.may_write()
        assert api.holder == ""
        assert await seconds_until_leading(second, 20) <= TIMING.retry * 1.2 + 0.2
        # Whoever does not lead releases nothing.
        await first.leader.release()
        assert api.holder == "b"

    run(main())


@pytest.mark.parametrize("paused", [11.0, 16.0, 100.0])
def test_a_paused_leader_may_write_nothing_when_it_wakes(paused: float) -> None:
    async def main() -> None:
        api = FakeApi()
        first, second = Candidate(api, "a"), Candidate(api, "b")
        await asyncio.sleep(60)
        await first.pause()
        await asyncio.sleep(paused)
        # Not even before it could ask: the clock alone says so.
        assert not first.may_write()
        first.resume()
        await asyncio.sleep(5)
        if second.leader.leading:
            with pytest.raises(LeaseLost, match="another operator leads: b"):
                await first.task
            assert not first.may_write()
        else:
            # Nobody took it meanwhile, which the resourceVersion of its renewal proves.
            assert first.may_write()

    run(main())


def test_an_api_server_that_is_away_stops_writing_and_ends_nothing() -> None:
    async def main() -> None:
        api = FakeApi()
        only = Candidate(api, "a")
        await asyncio.sleep(60)
        assert only.may_write()
        api.down = True
        await asyncio.sleep(TIMING.renew + 0.1)
        assert not only.may_write()
        await asyncio.sleep(300)
        assert not only.may_write()
        assert only.recovered == 0
        api.down = False
        await asyncio.sleep(TIMING.renew)
        assert only.may_write()
        assert only.recovered == 1
        assert not only.task.done()

    run(main())


def test_after_an_outage_of_its_own_a_leader_sees_that_it_was_replaced() -> None:
    async def main() -> None:
        api, broken = FakeApi(), FakeApi()
        first, second = Candidate(broken, "a"), Candidate(api, "b")
        await asyncio.sleep(1)
        # "b" reaches the store that "a" no longer reaches.
        api.lease, api.version = copy.deepcopy(broken.lease), broken.version
        await second.pause()
        second = Candidate(api, "b")
        broken.down = True
        await asyncio.sleep(40)
        assert (first.may_write(), second.may_write()) == (False, True)
        broken.lease, broken.down = api.lease, False
        await asyncio.sleep(20)
        with pytest.raises(LeaseLost):
            await first.task

    run(main())


def test_the_right_to_write_counts_from_the_request_and_not_from_the_answer() -> None:
    async def main() -> None:
        api = FakeApi()
        only = Candidate(api, "a")
        await asyncio.sleep(5)
        api.takes = 4.5
        started = asyncio.get_running_loop().time()
        while api.writes == (before := api.writes):
            await asyncio.sleep(0.1)
            if api.writes > before:
                break
        asked = asyncio.get_running_loop().time()
        assert asked - started <= TIMING.retry + 0.2
        await asyncio.sleep(4.6)
        await only.pause()
        await asyncio.sleep(max(0.0, asked + TIMING.renew - 0.5 - asyncio.get_running_loop().time()))
        assert only.may_write()
        await asyncio.sleep(1.0)
        assert not only.may_write()

    run(main())


def test_clocks_of_others_are_never_compared() -> None:
    async def main() -> None:
        api = FakeApi()
        spec = {"holderIdentity": "x", "leaseDurationSeconds": 15, "renewTime": "1999-01-01T00:00:00.000000Z"}
        api.store({"metadata": {"name": "lease"}, "spec": spec})
        late = Candidate(api, "a")
        await asyncio.sleep(14)
        # Renewed by a machine that lives in the past: alive all the same.
        api.store({"metadata": {"name": "lease"}, "spec": spec | {"renewTime": "1999-01-01T00:00:14.000000Z"}})
        await asyncio.sleep(14)
        assert not late.may_write()
        assert await seconds_until_leading(late, 6) > 0

    run(main())


@pytest.mark.parametrize("spec", [{}, {"holderIdentity": ""}, {"holderIdentity": None, "renewTime": "nonsense"}])
def test_a_lease_without_a_holder_is_free(spec: dict[str, Any]) -> None:
    async def main() -> None:
        api = FakeApi()
        api.store({"metadata": {"name": "lease"}, "spec": spec})
        assert await seconds_until_leading(Candidate(api, "a"), 1) <= 0.2
        assert api.lease is not None
        assert api.lease["spec"]["leaseTransitions"] == 1

    run(main())


def test_edits_and_a_deletion_by_hand_do_not_end_the_leader() -> None:
    async def main() -> None:
        api = FakeApi()
        only = Candidate(api, "a")
        await asyncio.sleep(5)
        assert api.lease is not None
        api.store(api.lease | {"metadata": {"name": "lease", "labels": {"by": "hand"}}})
        await asyncio.sleep(5)
        assert only.may_write()
        api.lease = None
        await asyncio.sleep(5)
        assert only.may_write()
        assert api.holder == "a"
        again: Manifest = api.lease or {}
        # Emptied by somebody: whoever did it wants another one to lead.
        api.store(again | {"spec": {"holderIdentity": ""}})
        await asyncio.sleep(5)
        with pytest.raises(LeaseLost):
            await only.task

    run(main())
