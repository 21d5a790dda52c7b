"""The work queue: one worker per key, coalescing, priorities, backoff, deadlines; in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.operator.runtime.virtualtime import run

from tenantplane_operator.runtime.queue import Again, Backoff, Done, Priority, Result, WorkQueue

Reconcile = Callable[[str], Awaitable[Result]]


def now() -> float:
    return asyncio.get_running_loop().time()


async def working(queue: WorkQueue[str], body: Callable[[], Awaitable[None]]) -> None:
    worker = asyncio.create_task(queue.run())
    try:
        await body()
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


def test_a_key_added_many_times_is_one_piece_of_work() -> None:
    seen: list[str] = []

    async def reconcile(key: str) -> Result:
        seen.append(key)
        return Done()

    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(reconcile)
        for _ in range(5):
            queue.add("a")
        queue.add("b")
        assert queue.depth == 2
        await working(queue, queue.join)

    run(main())
    assert seen == ["a", "b"]


def test_one_worker_per_key_and_once_more_when_added_meanwhile() -> None:
    running = 0
    most = 0
    ends: list[float] = []

    async def main() -> None:
        async def reconcile(_: str) -> Result:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1
            ends.append(now())
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile, workers=8)
        queue.add("a")

        async def body() -> None:
            await asyncio.sleep(0.5)
            queue.add("a")
            queue.add("a")
            await queue.join()

        await working(queue, body)

    run(main())
    assert most == 1
    assert len(ends) == 2
    assert ends[1] - ends[0] == pytest.approx(1)


def test_fresh_edits_go_before_rollouts_before_resync() -> None:
    seen: list[str] = []

    async def main() -> None:
        async def reconcile(key: str) -> Result:
            seen.append(key)
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile, workers=1)
        queue.add("resync-1", Priority.RESYNC)
        queue.add("resync-2", Priority.RESYNC)
        queue.add("rollout", Priority.ROLLOUT)
        queue.add("fresh")
        queue.add("resync-2")  # somebody edited it after all
        queue.add("fresh", Priority.RESYNC)  # never demoted
        await working(queue, queue.join)

    run(main())
    assert seen == ["fresh", "resync-2", "rollout", "resync-1"]


def test_resync_is_not_starved_by_a_stream_of_edits() -> None:
    seen: list[str] = []

    async def main() -> None:
        async def reconcile(key: str) -> Result:
            seen.append(key)
            await asyncio.sleep(1)
            if "resync" not in seen:
                queue.add(f"edit-{len(seen)}")
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile, workers=1)
        queue.add("edit-0")
        queue.add("edit-00")
        queue.add("resync", Priority.RESYNC)
        await working(queue, queue.join)

    run(main())
    assert "resync" in seen
    assert seen.index("resync") > 20


def test_failures_back_off_per_key_and_success_forgets_them() -> None:
    times: dict[str, list[float]] = {"bad": [], "good": []}

    async def main() -> None:
        start = now()

        async def reconcile(key: str) -> Result:
            times[key].append(now() - start)
            if key == "bad" and len(times["bad"]) < 5:
                return Again()
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile, backoff=Backoff(base=1, maximum=4, jitter=0))
        queue.add("bad")

        async def body() -> None:
            await asyncio.sleep(3.5)
            queue.add("good")
            await asyncio.sleep(60)
            assert queue.failures("bad") == 0
            assert queue.delayed == 0

        await working(queue, body)

    run(main())
    assert times["bad"] == pytest.approx([0, 1, 3, 7, 11])
    assert times["good"] == pytest.approx([3.5])


def test_jitter_shortens_and_never_lengthens() -> None:
    backoff = Backoff(base=2, maximum=10, jitter=0.5)
    assert backoff.delay(1, 0.0) == 2
    assert backoff.delay(1, 0.999) == pytest.approx(1.0, rel=0.01)
    assert backoff.delay(400, 0.0) == 10


def test_an_edit_does_not_wait_for_the_backoff() -> None:
    times: list[float] = []

    async def main() -> None:
        start = now()

        async def reconcile(_: str) -> Result:
            times.append(now() - start)
            return Again(after=100) if len(times) == 1 else Done()

        queue: WorkQueue[str] = WorkQueue(reconcile)
        queue.add("a")

        async def body() -> None:
            await asyncio.sleep(5)
            queue.add("a")
            await asyncio.sleep(300)

        await working(queue, body)

    run(main())
    assert times == pytest.approx([0, 5])


def test_the_earliest_of_several_plans_counts() -> None:
    times: list[float] = []

    async def main() -> None:
        start = now()

        async def reconcile(_: str) -> Result:
            times.append(now() - start)
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile)
        queue.add_after("a", 50)
        queue.add_after("a", 10)
        queue.add_after("a", 30)
        await working(queue, lambda: asyncio.sleep(100))

    run(main())
    assert times == pytest.approx([10])


def test_a_hanging_reconcile_is_stopped_and_others_go_on() -> None:
    times: dict[str, list[float]] = {"hangs": [], "fine": []}

    async def main() -> None:
        start = now()

        async def reconcile(key: str) -> Result:
            times[key].append(now() - start)
            if key == "hangs" and len(times[key]) == 1:
                await asyncio.sleep(10_000)
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile, workers=2, deadline=30, backoff=Backoff(base=1, jitter=0))
        queue.add("hangs")
        queue.add("fine")
        await working(queue, lambda: asyncio.sleep(60))
        assert queue.outcomes["timeout"] == 1

    run(main())
    assert times["fine"] == pytest.approx([0])
    assert times["hangs"] == pytest.approx([0, 31])


def test_a_bug_in_a_reconcile_is_one_objects_problem(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def main() -> None:
        async def reconcile(key: str) -> Result:
            seen.append(key)
            if key == "bug" and seen.count("bug") < 3:
                raise ZeroDivisionError
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile, workers=1)
        queue.add("bug")
        queue.add("fine")
        await working(queue, lambda: asyncio.sleep(10))
        assert queue.outcomes == {"error": 2, "done": 2}

    run(main())
    assert seen == ["bug", "fine", "bug", "bug"]
    assert "nobody foresaw" in caplog.text


def test_stalled_for_tells_a_stuck_loop_from_an_idle_one() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def reconcile(_: str) -> Result:
            await gate.wait()
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile, workers=1, deadline=10_000, slow=10_000)
        assert queue.stalled_for() == 0
        queue.add("a")
        queue.add("b")

        async def body() -> None:
            await asyncio.sleep(100)
            assert queue.stalled_for() == pytest.approx(100)
            gate.set()
            await queue.join()
            await asyncio.sleep(100)
            assert queue.stalled_for() == 0

        await working(queue, body)

    run(main())


def test_drain_finishes_what_is_in_flight_and_takes_no_more() -> None:
    seen: list[str] = []

    async def main() -> None:
        async def reconcile(key: str) -> Result:
            await asyncio.sleep(2)
            seen.append(key)
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile, workers=1)
        queue.add("a")
        queue.add("b")

        async def body() -> None:
            await asyncio.sleep(1)
            queue.add_after("c", 0.5)
            assert await queue.drain(10)
            queue.add("d")
            await asyncio.sleep(10)

        await working(queue, body)

    run(main())
    assert seen == ["a"]


def test_as_many_hanging_keys_as_workers_do_not_delay_the_others() -> None:
    delays: list[float] = []
    hanging = [f"hang-{number}" for number in range(8)]

    async def main() -> None:
        added: dict[str, float] = {}

        async def reconcile(key: str) -> Result:
            if key in hanging:
                await asyncio.sleep(60)
                return Again()
            delays.append(now() - added.pop(key))
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile, workers=4, deadline=30, slow=5, draw=lambda: 0.0)

        async def body() -> None:
            for key in hanging:
                queue.add(key)
            await asyncio.sleep(60)
            # From now on they are known. Somebody edits something every second, for an hour.
            delays.clear()
            for number in range(3600):
                key = f"fine-{number % 7}"
                added[key] = now()
                queue.add(key)
                if number % 50 == 0:
                    for bad in hanging:
                        queue.add(bad)
                await asyncio.sleep(1)
            assert queue.slow == len(hanging)
            assert queue.outcomes["timeout"] > len(hanging)

        await working(queue, body)

    run(main())
    assert len(delays) == 3600
    assert max(delays) == 0


def test_a_key_that_is_quick_again_waits_with_the_quick_ones() -> None:
    async def main() -> None:
        takes = {"a": 10.0}

        async def reconcile(key: str) -> Result:
            await asyncio.sleep(takes.get(key, 0))
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile, workers=1, slow=5, kind_of=lambda key: key.upper())

        async def body() -> None:
            queue.add("a")
            await queue.join()
            assert queue.slow == 1
            takes.clear()
            queue.add("a", Priority.RESYNC)
            queue.add("a")
            await queue.join()
            assert queue.slow == 0
            assert queue.results == {("A", "done"): 2}
            assert queue.durations["A"].counts[-1] == 0
            assert sum(queue.durations["A"].counts) == 2
            assert queue.durations["A"].seconds == pytest.approx(10)

        await working(queue, body)

    run(main())


def test_a_closed_queue_ignores_everything_until_it_is_opened() -> None:
    seen: list[str] = []

    async def main() -> None:
        async def reconcile(key: str) -> Result:
            seen.append(key)
            return Done()

        queue: WorkQueue[str] = WorkQueue(reconcile)
        queue.add("a")
        queue.add_after("b", 1)
        queue.close()
        queue.add("c")
        queue.add_after("d", 1)
        assert (queue.depth, queue.delayed) == (0, 0)

        async def body() -> None:
            await asyncio.sleep(5)
            assert queue.stalled_for() == 0
            queue.open()
            queue.add("e")
            await queue.join()

        await working(queue, body)

    run(main())
    assert seen == ["e"]
