"""SIGKILL of the operator at seeded random moments: a restart converges to the state of a run that was never killed."""

import json
import os
import random
import time

import pytest
from tests.operator.e2e.comparator import consistent, final_state
from tests.operator.e2e.world import World, wait

from tenantplane_api.runtime import names

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

TENANTS = [f"crash-{number}" for number in range(6)]
ROUNDS = int(os.environ.get("TENANTPLANE_KILL_ROUNDS", "3"))
SEED = int(os.environ.get("TENANTPLANE_KILL_SEED", "20261121"))


def script(world: World) -> list[tuple[str, object]]:
    """What people do to the six tenants; each step once, in this order."""
    one = {"auth": {"apiKeys": [{"name": "default"}, {"name": "app"}]}}
    return [
        *[("create", name) for name in TENANTS],
        ("patch", (TENANTS[0], {"limits": {"requests": {"perMinute": 11}}})),
        ("patch", (TENANTS[1], {"suspend": True})),
        ("patch", (TENANTS[2], one)),
        ("revoke", TENANTS[3]),
        ("delete", TENANTS[4]),
        ("drift", TENANTS[0]),
        ("patch", (TENANTS[5], {"plan": "large"})),
    ]


def do(world: World, step: str, what: object) -> None:
    """One step; waits for nothing of the operator's but what the step itself needs."""
    if step == "create":
        spec = {}
        if what == TENANTS[5]:
            folder = world.documents / f"{what}-0001" / "docs"
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(40):
                text = f"# Part {number}\n\nShelf {number} holds bottles of size {number * 7}.\n" * 40
                (folder / f"part-{number}.md").write_text(text, encoding="utf-8")
            source = {"name": "files", "directory": {"path": "docs"}}
            spec = {"knowledge": [{"name": "handbook", "sources": [source]}]}
        world.tenant(str(what), **spec)
    elif step == "patch":
        assert isinstance(what, tuple)
        name, spec = what
        world.patch("Tenant", name, spec=spec)
    elif step == "revoke":
        ns = names.default_namespace(str(what))
        if wait(lambda: world.get("APIKey", "default", ns), "the key is there", target=3):
            world.patch("APIKey", "default", ns, spec={"revoked": True})
    elif step == "delete":
        # A namespace is kept as it was left: to compare, it must have been finished.
        wait(lambda: world.condition("Tenant", str(what)).get("status") == "True", "it is Ready", target=3)
        world.delete("Tenant", str(what))
    elif step == "drift":
        ns = names.default_namespace(str(what))
        wait(lambda: world.items("NetworkPolicy", ns), "the fence is there", target=3)
        world.delete("NetworkPolicy", names.CHILD_NETWORK_POLICY_DENY, ns)


def settled(world: World) -> bool:
    """True when every Tenant is at its end and the operator has nothing to do."""
    for name in TENANTS:
        if name == TENANTS[4]:
            if world.get("Tenant", name) is not None:
                return False
        elif world.condition("Tenant", name).get("status") != "True":
            return False
    return world.operators[-1].idle()


def play(world: World, rng: random.Random | None) -> int:
    """Run the script against an operator that is killed at random moments; how often it was."""
    kills = 0
    current = world.start(resyncSeconds=3600)
    for step, what in script(world):
        do(world, step, what)
        if rng is not None and rng.random() < 0.6:
            time.sleep(rng.random() * 0.4)
            current.kill()
            kills += 1
            # Sometimes the replacement dies young, too.
            if rng.random() < 0.3:
                young = world.spawn(resyncSeconds=3600)
                time.sleep(rng.random() * 2)
                young.kill()
                kills += 1
            current = world.start(resyncSeconds=3600)
    wait(lambda: settled(world), "everything has settled", target=6)
    # Once more from a cold start: what only lived in memory must not have mattered.
    assert current.stop() == 0
    current = world.start(resyncSeconds=3600)
    wait(lambda: settled(world), "everything has settled again", target=6)
    return kills


def wipe(world: World) -> None:
    """Remove the tenants and their namespaces."""
    if world.get("Tenant", TENANTS[4]) is None:
        world.tenant(TENANTS[4])
        wait(lambda: world.condition("Tenant", TENANTS[4]).get("status") == "True", "taken back", target=3)
    for name in TENANTS:
        world.patch("Tenant", name, spec={"deletionPolicy": "Delete"})
        world.delete("Tenant", name)
    wait(lambda: not world.items("Tenant"), "all Tenants are gone", target=8)
    for name in TENANTS:
        ns = names.default_namespace(name)
        wait(lambda ns=ns: world.get("Namespace", ns) is None, "the namespace is gone", target=5)  # type: ignore[misc]
    world.operators[-1].stop()


def test_kills_converge_to_the_same_state(world: World) -> None:
    play(world, None)
    expected = final_state(world, TENANTS)
    assert consistent(world, TENANTS) == []
    wipe(world)
    for round_number in range(ROUNDS):
        rng = random.Random(SEED + round_number)
        kills = play(world, rng)
        found = final_state(world, TENANTS)
        differing = {
            key: (expected.get(key), found.get(key))
            for key in {*expected, *found}
            if expected.get(key) != found.get(key)
        }
        logs = "".join(f"== {started.log.name}\n{started.tail()}" for started in world.operators[-4:])
        assert not differing, f"seed {SEED + round_number}, {kills} kills: {json.dumps(differing, indent=1)}\n{logs}"
        assert consistent(world, TENANTS) == []
        print(f"seed {SEED + round_number}: converged after {kills} kills")
        wipe(world)
