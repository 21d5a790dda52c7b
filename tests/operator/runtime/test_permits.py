"""Places that are lent on while their holder hangs, and the roll-out; in virtual time."""

import asyncio

from tests.operator.runtime.virtualtime import run

from tenantplane_operator.runtime.permits import Places
from tenantplane_operator.runtime.rollout import RollOut


def test_no_more_than_the_limit_work_and_in_order() -> None:
    async def main() -> None:
        places = Places(2, overflow=2, slow=100)
        running, most, order = 0, 0, []

        async def one(number: int) -> None:
            nonlocal running, most
            async with places.holding():
                order.append(number)
                running += 1
                most = max(most, running)
                await asyncio.sleep(1)
                running -= 1

        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(one(number))
        assert most == 2
        assert order == list(range(10))

    run(main())


def test_who_hangs_lends_its_place_but_only_so_many() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        places = Places(2, overflow=3, slow=5)
        gate = asyncio.Event()
        begun: list[float] = []

        async def hang() -> None:
            async with places.holding():
                begun.append(loop.time())
                await gate.wait()

        started = loop.time()
        tasks = [asyncio.create_task(hang()) for _ in range(8)]
        await asyncio.sleep(100)
        # Two at once, two and one more in the places of those; then all that may be lent is lent.
        assert [round(at - started) for at in begun] == [0, 0, 5, 5, 10]
        assert places.lent == 3
        gate.set()
        await asyncio.gather(*tasks)
        assert places.lent == 0
        # Nothing was lost or made up: two places are there, and no third.
        first, second = await places.acquire(), await places.acquire()
        third = asyncio.create_task(places.acquire())
        await asyncio.sleep(1)
        assert not third.done()
        first.release()
        first.release()
        (await third).release()
        second.release()

    run(main())


def test_a_waiter_that_gives_up_takes_no_place_with_it() -> None:
    async def main() -> None:
        places = Places(1, overflow=0, slow=5)
        held = await places.acquire()
        waiters = [asyncio.create_task(places.acquire()) for _ in range(3)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        held.release()
        # Granted and cancelled in the same moment.
        waiters[1].cancel()
        await asyncio.sleep(1)
        assert waiters[2].done()
        assert not waiters[2].cancelled()

    run(main())


def test_a_roll_out_keeps_its_rate_and_waits_for_a_backlog() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        woken: list[tuple[float, int]] = []
        backlog = 0
        started = loop.time()
        rollout: RollOut[int] = RollOut(lambda key: woken.append((loop.time() - started, key)), backlog=lambda: backlog)
        task = asyncio.create_task(rollout.run())
        rollout.begin(range(20), per_second=5)
        await asyncio.sleep(1.95)
        assert [key for _, key in woken] == list(range(10))
        # A second change: nobody is woken twice who still waits, and nobody loses its place.
        rollout.begin(range(15, 25), per_second=5)
        assert rollout.waiting == 15
        backlog = 32
        await asyncio.sleep(60)
        assert len(woken) <= 11
        backlog = 0
        begun = loop.time() - started
        await asyncio.sleep(2)
        # No burst for the time that was lost.
        assert len([at for at, _ in woken if begun <= at < begun + 1]) <= 6
        await asyncio.sleep(10)
        assert [key for _, key in woken] == list(range(25))
        rollout.begin([1], per_second=1000)
        rollout.stop()
        await asyncio.sleep(1)
        assert len(woken) == 25
        task.cancel()

    run(main())
