"""Several operators as processes on a real API server: one works, whatever happens to it."""

import signal
from typing import Any

import pytest
from tests.operator.e2e.world import Operator, World, wait

from tenantplane_api.runtime import names
from tenantplane_cli.rest import Rest

pytestmark = pytest.mark.cluster
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{names.NAMESPACE_SYSTEM}/leases/{names.LEASE_NAME}"
LONG = {"leaseSeconds": 120, "renewSeconds": 90, "retrySeconds": 0.3}
"""Of which nobody waits for the end."""


def holder(world: World) -> str:
    """Who holds the Lease."""
    status, lease = world.call("GET", LEASE)
    return str(lease["spec"].get("holderIdentity") or "") if status == 200 else ""


def leads(one: Operator) -> bool:
    """True when it says that it leads."""
    return one.metric("leader") == {"": 1}


def writes(one: Operator) -> float:
    """Requests that change something, dry runs and the Lease aside."""
    counted = one.metric("api_requests_total")
    return sum(counted.get(verb, 0) for verb in ("apply", "status", "delete", "patch", "replace"))


def display_name(world: World, tenant: str) -> str:
    """What is published as a Tenant's display name."""
    document = world.document(tenant)
    return document.spec.display_name if document is not None else ""


@pytest.mark.slow
def test_one_works_and_the_other_takes_over_when_it_is_killed(world: World) -> None:
    first = world.start()
    second = world.start()
    world.tenant("led")
    world.await_ready("led")
    assert (leads(first), leads(second)) == (True, False)
    wait(lambda: second.metric("cached_objects")[""] > 5, "the follower's cache is warm")
    assert second.metric("reconcile_total") == {}
    assert writes(second) == 0
    before = holder(world)
    first.kill()
    wait(lambda: leads(second), "the follower takes over", target=2)
    assert holder(world) not in ("", before)
    world.patch("Tenant", "led", spec={"displayName": "by the second"})
    wait(lambda: display_name(world, "led") == "by the second", "the second works")
    second.stop()


@pytest.mark.slow
def test_a_leader_that_is_told_to_end_under_load_hands_over_and_nothing_is_lost(world: World) -> None:
    first = world.start(leaderElection=LONG)
    second = world.start(leaderElection=LONG)
    made = [f"load-{number}" for number in range(12)]
    for name in made:
        world.tenant(name)
    wait(lambda: first.metric("in_flight")[""] > 0 or writes(first) > 0, "it is at work")
    first.process.send_signal(signal.SIGTERM)
    # Within terminationGracePeriodSeconds; measured against it, not against a wish.
    assert first.process.wait(60) == 0
    assert not [line["exception"] for line in first.lines() if "exception" in line]
    assert "the Lease is released" in first.log.read_text(encoding="utf-8")
    # The Lease would have lasted for two minutes.
    wait(lambda: leads(second), "the other leads", target=2)
    for name in made:
        world.await_ready(name, target=8)
    second.stop()


def drift(world: World, namespace: str) -> None:
    """Delete what the operator puts back at once."""
    for kind in ("NetworkPolicy", "ResourceQuota", "LimitRange"):
        for item in world.items(kind, namespace):
            world.delete(kind, item["metadata"]["name"], namespace)


def test_a_leader_that_was_stopped_writes_nothing_when_it_wakes(world: World) -> None:
    first = world.start()
    second = world.start()
    assert leads(first)
    world.tenant("paused")
    world.await_ready("paused")
    wait(first.idle, "idle")
    first.process.send_signal(signal.SIGSTOP)
    wait(lambda: leads(second), "the other takes over", target=2)
    world.patch("Tenant", "paused", spec={"displayName": "meanwhile"})
    wait(lambda: display_name(world, "paused") == "meanwhile", "the other works")
    wait(second.idle, "idle")
    # From here on, only the one that wakes can write: the other is stopped, in the middle of its lease.
    second.process.send_signal(signal.SIGSTOP)
    drift(world, "tenant-paused")
    world.patch("Tenant", "paused", spec={"displayName": "nobody works"})
    before = world.versions("tenant-paused", "paused")
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(60) == 4, first.tail()
    assert world.versions("tenant-paused", "paused") == before
    assert not world.items("NetworkPolicy", "tenant-paused")
    # Nobody took its Lease, so the second goes on, and mends what the first was kept from.
    second.process.send_signal(signal.SIGCONT)
    wait(lambda: display_name(world, "paused") == "nobody works", "the other goes on", target=2)
    wait(lambda: world.items("NetworkPolicy", "tenant-paused"), "drift is healed", target=2)
    assert second.process.poll() is None
    second.stop()


def test_only_its_own_lease_may_be_touched(world: World) -> None:
    account = world.cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR)
    with Rest(account.kubeconfig) as rest:
        status, lease = rest.call("GET", LEASE)
        assert status == 200
        assert rest.call("PUT", LEASE, lease)[0] == 200
        assert rest.call("DELETE", LEASE)[0] == 403
        other: dict[str, Any] = {"metadata": {"name": "other"}, "spec": {"holderIdentity": "x"}}
        elsewhere = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
        assert rest.call("GET", elsewhere)[0] == 403
        assert rest.call("POST", elsewhere, other)[0] == 403
        assert rest.call("GET", LEASE.replace(names.LEASE_NAME, "other"))[0] == 403
