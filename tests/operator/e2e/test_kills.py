"""SIGKILL of operator and API server at seeded moments of bursts: the end is that of a run that was never disturbed.

Ten kills: four of the operator, three of the API server, three of both, each during a burst of a hundred Tenants with
edits, revocations, deletions and drift on top. Every tenant's end is compared with that of the same fate undisturbed;
no key is there twice, no document or namespace without its owner. ``make bench-kills`` does more of it.
"""

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from tests.operator.e2e.burst import Burst, Victim, draw, judge, play, reference
from tests.operator.e2e.world import World, wait

from tenantplane_cli.cluster import install_chart, open_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

BURST = int(os.environ.get("TENANTPLANE_KILL_BURST", "100"))
SEED = int(os.environ.get("TENANTPLANE_KILL_SEED", "20261121"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A control plane of its own: what is killed here, and left behind, is nobody else's."""
    with open_cluster(progress=lambda _: None) as cluster:
        if not cluster.owned:
            pytest.skip("the API server is not ours to kill")
        install_chart(cluster, progress=lambda _: None)
        made = World(cluster, tmp_path_factory.mktemp("world"))
        made.documents.mkdir()
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def expected(world: World) -> dict[str, dict[str, Any]]:
    """State by fate, from a burst that nobody disturbed."""
    world.start(resyncSeconds=3600)
    return reference(world)


@pytest.fixture(scope="module")
def played(world: World) -> list[Burst]:
    """The bursts so far: later kills must not touch them."""
    return []


@pytest.mark.parametrize(
    ("prefix", "victim", "times"), [("op", "operator", 4), ("as", "API server", 3), ("bo", "both", 3)]
)
def test_kills_during_a_burst_change_nothing_of_its_end(
    world: World, expected: dict[str, dict[str, Any]], played: list[Burst], prefix: str, victim: Victim, times: int
) -> None:
    seed = f"{SEED}-{prefix}"
    burst = Burst(world, prefix, BURST)
    done = play(burst, draw(random.Random(seed), [victim] * times), expected)
    played.append(burst)
    print(f"seed {seed}: converged {done.converged:.1f} s after the last of {done.kills}")
    for earlier in played:
        assert judge(earlier, expected) == []


def test_a_cold_start_finds_nothing_to_mend(
    world: World, expected: dict[str, dict[str, Any]], played: list[Burst]
) -> None:
    assert world.operators[-1].stop() == 0
    last = world.start(resyncSeconds=3600)
    wait(lambda: sum(last.metric("reconcile_total").values()) >= BURST and last.idle(), "all were looked at", target=12)
    for burst in played:
        assert judge(burst, expected) == []
