"""The operator behind a proxy that produces what a healthy API server does not: it survives, forgets nobody, converges.

One operator for the module: surviving one fault must not depend on a fresh process.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.operator.e2e.faultproxy import FaultProxy, Seen
from tests.operator.e2e.world import Operator, TimeoutFailure, World, wait

from tenantplane_api.runtime import names

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
_edits = itertools.count(1)


def command(platform: Path, proxy: FaultProxy) -> list[str]:
    """An operator behind the proxy."""
    program = [sys.executable, "-m", "tenantplane_operator.main", "run", "--probe-port", "0"]
    return [*program, "--platform", str(platform), "--kubeconfig", str(proxy.kubeconfig)]


class Place:
    """The proxy, and the operator behind it."""

    def __init__(self, world: World, proxy: FaultProxy, folder: Path) -> None:
        self.world = world
        self.proxy = proxy
        self.folder = folder
        self.operator = self.start()

    def start(self, **operator: object) -> Operator:
        """An operator behind the proxy."""
        defaults = {"resyncSeconds": 3600, "workers": 4}
        path = self.world.platform_file(**{**defaults, **operator})
        argv = command(path, self.proxy)
        started = self.world.spawn_as(argv)
        wait(started.ready, "the operator is ready", target=5)
        return started

    def edit_is_seen(self, tenant: str, what: str, *, target: float = 3) -> None:
        """An edit takes effect, and the operator is the same process as before."""
        text = f"edit {next(_edits)}"
        self.world.patch("Tenant", tenant, spec={"displayName": text})

        def seen() -> bool:
            document = self.world.document(tenant)
            return document is not None and document.spec.display_name == text

        try:
            wait(seen, f"an edit is seen: {what}", target=target)
        except TimeoutFailure as error:
            raise TimeoutFailure(f"{error}\n{self.operator.tail()}") from None
        assert self.operator.process.poll() is None, self.operator.tail()


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One operator behind a proxy, and a Tenant."""
    account = world.cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR)
    folder = tmp_path_factory.mktemp("proxy")
    with FaultProxy(account.kubeconfig, folder) as proxy:
        made = Place(world, proxy, folder)
        world.tenant("faulty")
        world.await_ready("faulty")
        try:
            yield made
        finally:
            proxy.clear()
            made.operator.stop()


def own(seen: Seen) -> bool:
    """Requests about our kinds and the runtime documents, as the work needs them."""
    return not seen.watch and "/leases/" not in seen.path


def watch(seen: Seen) -> bool:
    """Watches."""
    return seen.watch


def test_watches_that_break_in_every_way_are_resumed(place: Place) -> None:
    proxy = place.proxy
    half = b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","code":%d,"message":"fault"}}\n'
    for what in ("cut", "reset", half % 410, half % 500):
        # What the last fault ended has to be open again, or this one would end nothing.
        wait(lambda: sum(watch(stream.seen) for stream in proxy.watches()) > 5, "watches are open", target=3)
        assert proxy.order(what, watch) > 5
        place.edit_is_seen("faulty", str(what))
    # Refused when they are opened again: expired, not allowed for a moment, no such kind, overloaded.
    for status in (410, 403, 404, 401, 429, 503):
        refused = proxy.fault(watch, status=status, times=12, headers={"Retry-After": "1"})
        proxy.order("reset", watch)
        wait(lambda refused=refused: refused.hits >= 5, f"watches are refused with {status}")  # type: ignore[misc]
        place.edit_is_seen("faulty", f"watches refused with {status}")
    # A list in pages whose snapshot is lost, after the watch asked for a new one.
    proxy.clear()
    proxy.fault(lambda seen: own(seen) and seen.path.endswith("/tenants"), status=410, times=2)
    proxy.order(half % 410, watch)
    place.edit_is_seen("faulty", "lists whose snapshot is lost")


def test_answers_of_every_kind_only_delay_the_work(place: Place) -> None:
    proxy = place.proxy
    for status in (409, 429, 500, 503, 504, 410, 401):
        rule = proxy.fault(
            lambda seen: own(seen) and seen.method != "GET", status=status, times=3, headers={"Retry-After": "1"}
        )
        place.edit_is_seen("faulty", f"answers {status}")
        assert rule.hits > 0
    proxy.fault(own, "reset", times=4)
    place.edit_is_seen("faulty", "broken connections")
    place.world.await_condition("Tenant", "faulty", "Ready", "True")


def test_an_expired_token_is_read_again(place: Place) -> None:
    proxy = place.proxy
    old = proxy.token
    proxy.fault(lambda seen: seen.token == old, status=401)
    proxy.order("reset", watch)
    proxy.token = "a-renewed-token"
    # The file was read less than a minute ago: the refusal itself has it read again.
    place.edit_is_seen("faulty", "a renewed token")
    proxy.clear()


def test_an_outage_of_everything_ends_nothing_and_is_over_at_once(place: Place) -> None:
    proxy, one = place.proxy, place.operator
    proxy.order("reset")
    proxy.fault(lambda _: True, "reset")
    # Longer than the Lease allows to write.
    wait(lambda: one.metric("leader") == {"": 0}, "it stops writing")
    place.world.patch("Tenant", "faulty", spec={"displayName": "during"})
    assert one.get("/healthz")[0] == 200
    proxy.clear()
    place.edit_is_seen("faulty", "after the outage")
    assert one.metric("leader") == {"": 1}


def test_as_many_hanging_tenants_as_workers_do_not_delay_the_others(place: Place) -> None:
    proxy, world = place.proxy, place.world
    bad = [f"hang-{number}" for number in range(5)]
    hangs = proxy.fault(lambda seen: "/namespaces/tenant-hang-" in seen.path and not seen.watch, "hang")
    for name in bad:
        world.tenant(name)
    wait(lambda: hangs.hits >= 4, "every worker hangs")
    # Their requests hang for 30 s each, on four workers.
    world.tenant("good")
    world.await_ready("good", target=2)
    for _ in range(3):
        place.edit_is_seen("good", "beside hanging tenants", target=1)
    proxy.clear()
    for name in bad:
        world.await_ready(name, target=8)
    assert place.operator.metric("event_loop_lag_max_seconds")[""] < 1


def test_kinds_that_are_not_served_yet_are_waited_for(place: Place) -> None:
    place.operator.stop()
    rule = place.proxy.fault(lambda seen: seen.path.startswith(f"/apis/{names.API_VERSION}"), status=404)
    path = place.world.platform_file(resyncSeconds=3600)
    late = place.world.spawn_as(command(path, place.proxy))
    place.operator = late
    wait(lambda: rule.hits >= 3, "it asks again", target=3)
    assert late.get("/healthz")[0] == 200
    assert late.get("/readyz")[0] == 503
    place.proxy.clear()
    wait(late.ready, "it is ready", target=3)
    place.edit_is_seen("faulty", "after the kinds came")


def test_a_watch_that_silently_stalls_is_noticed(place: Place) -> None:
    wait(lambda: len(place.proxy.watches()) >= 11, "everything is watched", target=3)
    before = len(place.proxy.seen)
    assert place.proxy.order("stall", watch) >= 11
    # No list heals this: the resync is an hour away.
    place.edit_is_seen("faulty", "stalled watches", target=15)
    # It was seen because the watch was given up, and not because it went on.
    assert [seen for seen in place.proxy.seen[before:] if seen.watch and seen.path.endswith("/tenants")]
