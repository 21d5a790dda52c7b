"""SIGKILL of operator and data plane at seeded random moments of a busy platform: callers end up with the same."""

import os
import random
import time

import pytest
from tests.operator.e2e.world import wait
from tests.system.stack import Stack

from tenantplane_api.runtime import names

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("TENANTPLANE_KILL_ROUNDS", "10"))
SEED = int(os.environ.get("TENANTPLANE_KILL_SEED", "20261121"))


def change(stack: Stack, number: int) -> None:
    """A change of both tenants; the last one puts everything back."""
    last = number == ROUNDS - 1
    stack.world.patch("Tenant", "north", spec={"suspend": not last and number % 2 == 0, "displayName": f"N{number}"})
    limits = {"requests": {"perMinute": 600 if last else 100 + number}}
    stack.world.patch("Tenant", "south", spec={"limits": limits})
    key = f"key-{number}"
    stack.world.create("APIKey", key, names.default_namespace("south"), spec={})
    if number:
        stack.world.patch("APIKey", f"key-{number - 1}", names.default_namespace("south"), spec={"revoked": True})


def test_kills_converge(stack: Stack) -> None:
    rng = random.Random(SEED)
    before = stack.served()
    for number in range(ROUNDS):
        change(stack, number)
        time.sleep(rng.random() * 0.6)
        victims = rng.choice((("operator",), ("dataplane",), ("operator", "dataplane")))
        if "operator" in victims:
            stack.kill_operator()
        if "dataplane" in victims:
            stack.kill_dataplane()
            stack.start_dataplane(ready=rng.random() < 0.5)
        if "operator" in victims:
            stack.start_operator()
    space = names.default_namespace("south")
    wait(lambda: stack.served() == before, "callers get what they got before", target=6)
    alive = f"key-{ROUNDS - 1}"
    text, _ = wait(lambda: stack.world.key_text(alive, space), "the last key is there", target=3)
    wait(lambda: stack.models("south", key=text).status == 200, "the last key works", target=3)
    published = len(stack.world.hashes("south"))
    assert published == 2, "the default key and the last one, and none of those that were revoked"
    for number in range(ROUNDS - 1):
        assert stack.world.get("Secret", f"key-{number}", space) is None
