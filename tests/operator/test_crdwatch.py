"""Looks at our CRDs: what they conclude, and that a look never relies on an answer from before it was asked for."""

import asyncio
from typing import Any, cast

import pytest

from tenantplane_operator.crdwatch import COUNTABLE_AFTER, OwnKinds, State
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.errors import ApiError, Forbidden, NotFound, Unavailable


class Server:
    """Answers for all three CRDs; ``gate`` keeps answers back until it is set."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | ApiError = crd()
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def request(self, *_: object, **__: object) -> dict[str, Any]:
        self.asked += 1
        answer = self.answer
        await self.gate.wait()
        if isinstance(answer, ApiError):
            raise answer
        return answer


def crd(uid: str = "u1", *, deleting: bool = False, since: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    meta = {"uid": uid, **({"deletionTimestamp": since} if deleting else {})}
    return {
        "metadata": meta,
        "status": {"conditions": [{"type": "Established", "status": "True", "lastTransitionTime": since}]},
    }


def watched(server: Server, changes: list[str] | None = None) -> OwnKinds:
    return OwnKinds(cast("KubeApi", server), on_change=(changes if changes is not None else []).append)


@pytest.mark.parametrize(
    ("answer", "state", "uid"),
    [
        (crd(), State.SERVED, "u1"),
        (crd(deleting=True), State.TERMINATING, "u1"),
        (NotFound("no such CRD", status=404), State.MISSING, ""),
    ],
)
async def test_what_a_look_concludes(answer: dict[str, Any] | ApiError, state: State, uid: str) -> None:
    server = Server()
    server.answer = answer
    found = await watched(server).look("Tenant")
    assert (found.state, found.uid) == (state, uid)
    assert bool(found.problem) is (state is not State.SERVED), "only what is served tells anything by its absence"


@pytest.mark.parametrize("answer", [Unavailable("away"), Forbidden("no right", status=403)])
async def test_no_answer_is_no_conclusion(answer: ApiError) -> None:
    """Nor is a refusal: a restarted API server refuses everything until it has read its roles."""
    server, changes = Server(), list[str]()
    kinds = watched(server, changes)
    await kinds.look("Tenant")
    server.answer = answer
    with pytest.raises(type(answer)):
        await kinds.look("Tenant")
    assert kinds.known("Tenant").state is State.SERVED
    assert changes == ["Tenant"]


async def test_a_look_that_failed_is_nobody_elses_answer() -> None:
    server = Server()
    kinds = watched(server)
    await kinds.look("Tenant")
    server.answer = Unavailable("away")
    server.gate.clear()
    first = asyncio.create_task(kinds.look("Tenant"))
    later = [asyncio.create_task(kinds.look("Tenant")) for _ in range(2)]
    await asyncio.sleep(0.01)
    server.gate.set()
    for look in (first, *later):
        with pytest.raises(Unavailable):
            await look


async def test_looks_share_an_answer_but_never_an_older_one() -> None:
    server = Server()
    kinds = watched(server)
    server.gate.clear()
    first = asyncio.create_task(kinds.look("Tenant"))
    await asyncio.sleep(0.01)
    assert server.asked == 1
    # The first answer is on its way already: it may be from before whatever these are asked for.
    server.answer = crd(deleting=True)
    later = [asyncio.create_task(kinds.look("Tenant")) for _ in range(5)]
    await asyncio.sleep(0.01)
    server.gate.set()
    assert (await first).state is State.SERVED
    assert {found.state for found in await asyncio.gather(*later)} == {State.TERMINATING}
    assert server.asked == 2


async def test_a_change_is_told_once_per_kind() -> None:
    server, changes = Server(), list[str]()
    kinds = watched(server, changes)
    await kinds.look("Tenant")
    await kinds.look("Tenant")
    assert changes == ["Tenant"]
    server.answer = crd("u2")
    await kinds.look("Tenant")
    await kinds.look("APIKey")
    assert changes == ["Tenant", "Tenant", "APIKey"]


async def test_fresh_definitions_are_not_countable() -> None:
    server = Server()
    kinds = watched(server)
    assert kinds.countable(0.0) == COUNTABLE_AFTER, "unknown is not yet"
    await kinds.look_at_all()
    since = 1_767_225_600.0
    assert kinds.countable(since) == COUNTABLE_AFTER
    assert kinds.countable(since + 20) == COUNTABLE_AFTER - 20
    assert kinds.countable(since + COUNTABLE_AFTER) == 0
    # Reinstalled: it begins anew, also when only metadata was seen of it.
    server.answer = crd("u2")
    await kinds.look("APIKey")
    assert kinds.countable(since + 1000) == COUNTABLE_AFTER
