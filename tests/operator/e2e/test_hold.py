"""Mass deletions on a real API server: what is held goes on being served, and goes when a person says so."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.operator.e2e.world import Operator, World, wait

from tenantplane_api.runtime import names
from tenantplane_cli.cluster import Persona

pytestmark = pytest.mark.cluster
LIMITS = {"floor": 2, "fraction": 0.0}
SYSTEM, MODELS = names.NAMESPACE_SYSTEM, names.NAMESPACE_MODELS


def release(world: World, *arguments: str, persona: Persona | None = None) -> subprocess.CompletedProcess[str]:
    """Run `tenantplane release`."""
    kubeconfig = persona.kubeconfig if persona is not None else world.cluster.kubeconfig
    argv = [sys.executable, "-m", "tenantplane_cli.main", "release", "--kubeconfig", str(kubeconfig), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def listed(world: World) -> list[str]:
    """Names that `tenantplane release` shows as held."""
    done = release(world, "--output", "json")
    assert done.returncode == 0, done.stderr
    return sorted(item["name"] for item in json.loads(done.stdout))


def metric(operator: Operator) -> dict[str, float]:
    return {kind: count for kind, count in operator.metric("mass_deletion_held").items() if count}


def gone(world: World, *tenants: str) -> None:
    wait(lambda: not [name for name in tenants if world.get("Tenant", name)], f"{tenants} are gone", target=3)


def is_held(world: World, name: str) -> None:
    told = world.await_condition("Tenant", name, "MassDeletionHeld", "True")
    assert "release --confirm" in told["message"]
    ready, stalled = world.condition("Tenant", name), world.condition("Tenant", name, "Stalled")
    assert (ready["status"], ready["reason"]) == ("False", "MassDeletionHeld")
    assert stalled["status"] == "True"
    tenant = world.get("Tenant", name)
    assert tenant is not None
    assert names.FINALIZER in tenant["metadata"]["finalizers"]
    assert world.document(name) is not None


def test_tenants_are_held_and_released(world: World) -> None:
    for name in ("one", "two", "three", "four"):
        world.tenant(name, deletionPolicy="Delete" if name == "four" else "Retain")
    with world.operator(massDeletion=LIMITS) as first:
        for name in ("one", "two", "three", "four"):
            world.await_ready(name)
        # A handful goes at once.
        world.delete("Tenant", "one")
        world.delete("Tenant", "two")
        gone(world, "one", "two")
        assert world.document("one") is None
        assert metric(first) == {}
        # Beyond it, with what went already, nothing is cut.
        world.delete("Tenant", "three")
        world.delete("Tenant", "four")
        is_held(world, "three")
        is_held(world, "four")
        assert metric(first) == {"Tenant": 2}
        assert {e["regarding"]["name"] for e in world.events("MassDeletionHeld")} >= {"three", "four"}
        # It is served as before: changes take effect.
        world.patch("Tenant", "three", spec={"displayName": "still here"})

        def told() -> bool:
            document = world.document("three")
            return document is not None and document.spec.display_name == "still here"

        wait(told, "a change of a held Tenant is published", target=2)
        text = world.key_text("default", "tenant-three")
        world.patch("APIKey", "default", "tenant-three", spec={"revoked": True})
        wait(lambda: not world.hashes("three"), f"the key {text[:11]} is refused", target=2)
    # Two are no more than the floor, but it is remembered that they were held.
    with world.operator(massDeletion=LIMITS) as second:
        wait(lambda: metric(second) == {"Tenant": 2}, "both are held after a restart", target=2)
        wait(second.idle, "idle")
        is_held(world, "three")
        # A request from before the deletion confirms nothing.
        old = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        world.patch("Tenant", "three", metadata={"annotations": {names.ANNOTATION_RELEASE: old}})
        world.patch("Tenant", "three", spec={"displayName": "seen"})
        wait(lambda: (d := world.document("three")) is not None and d.spec.display_name == "seen", "it was seen")
        is_held(world, "three")
        assert listed(world) == ["four", "three"]
        assert release(world, "three").returncode == 0
        assert world.get("Tenant", "three") is not None, "without --confirm nothing is released"
        assert release(world, "--confirm").returncode == 2
        assert "not held: five" in release(world, "--confirm", "five").stderr
        done = release(world, "--confirm", "three")
        assert done.stdout == "three released\n", done.stderr
        gone(world, "three")
        assert world.document("three") is None
        assert world.get("Namespace", "tenant-three") is not None
        is_held(world, "four")
        assert release(world, "--confirm", "--all").returncode == 0
        gone(world, "four")
        wait(lambda: world.get("Namespace", "tenant-four") is None, "its namespace is gone", target=3)
        assert metric(second) == {}
        # What a person confirmed does not count: the next one goes at once.
        world.tenant("five")
        world.await_ready("five")
        world.delete("Tenant", "five")
        gone(world, "five")


def model(world: World, name: str) -> None:
    spec: dict[str, Any] = {"engine": {"type": "Extractive"}, "sharing": {"mode": "AllTenants"}}
    world.create("ModelDeployment", name, MODELS, spec=spec)


@pytest.mark.slow
def test_what_vanished_while_nobody_looked_is_held_and_released(world: World) -> None:
    models, keys, orphans = ["m1", "m2", "m3"], ["k1", "k2", "k3", "k4"], ["gone1", "gone2", "gone3"]
    ns = "tenant-owner"
    for name in models:
        model(world, name)
    aliases = [{"alias": name, "ref": {"name": name}} for name in models]
    world.tenant("owner", models=aliases)
    for name in orphans:
        world.tenant(name)
    with world.operator(massDeletion=LIMITS):
        world.await_ready("owner")
        for name in keys:
            world.create("APIKey", name, ns, spec={})
        for name in keys:
            world.await_condition("APIKey", name, "Ready", "True", ns=ns)
        for name in orphans:
            world.await_ready(name)
    text = {name: world.key_text(name, ns) for name in keys}
    before = world.hashes("owner")
    assert len(before) == 5
    # Down: finalizers torn off, objects without finalizers deleted.
    for name in orphans:
        world.patch("Tenant", name, metadata={"finalizers": None})
        world.delete("Tenant", name)
    for name in keys[:3]:
        world.delete("APIKey", name, ns)
    for name in models:
        world.delete("ModelDeployment", name, MODELS)
    with world.operator(massDeletion=LIMITS) as second:
        wait(lambda: metric(second) == {"Tenant": 3, "APIKey": 3, "ModelDeployment": 3}, "all is held", target=3)
        wait(second.idle, "idle")
        assert world.hashes("owner") == before
        assert all(world.document(name) is not None for name in orphans)
        document = world.document("owner")
        assert document is not None
        assert {entry.alias for entry in document.spec.models} == set(models)
        assert all(world.model_document(MODELS, name) is not None for name in models)
        assert all(world.key_text(name, ns) == text[name] for name in keys)
        told = world.await_condition("Tenant", "owner", "MassDeletionHeld", "True")
        assert "k1, k2, k3" in told["message"]
        assert world.condition("Tenant", "owner")["status"] == "True", "it can be used as declared"
        # A change of the tenant does not lose them, and a key that is revoked is refused all the same.
        world.patch("Tenant", "owner", spec={"displayName": "changed"})
        wait(lambda: (d := world.document("owner")) is not None and d.spec.display_name == "changed", "published")
        assert world.hashes("owner") == before
        world.patch("APIKey", "k4", ns, spec={"revoked": True})
        wait(lambda: len(world.hashes("owner")) == 4, "the revoked key is refused", target=2)
        documents = [f"m.{MODELS}.{name}" for name in models] + [f"t.{name}" for name in orphans]
        wait(lambda: listed(world) == sorted([*documents, "owner"]), "all that is held is listed", target=3)
    # Nothing of it is forgotten.
    with world.operator(massDeletion={"floor": 100}) as third:
        wait(lambda: metric(third) == {"Tenant": 3, "APIKey": 3, "ModelDeployment": 3}, "all is held", target=3)
        # What comes back is taken back.
        world.tenant("gone1")
        world.await_ready("gone1")
        model(world, "m1")
        wait(lambda: metric(third) == {"Tenant": 2, "APIKey": 3, "ModelDeployment": 2}, "two are back", target=2)
        admin = world.cluster.persona("release-nobody")
        assert release(world, "--confirm", "owner", persona=admin).returncode == 1, "a stranger may not"
        assert release(world, "--confirm", "owner").returncode == 0
        wait(lambda: len(world.hashes("owner")) == 1, "the keys are refused", target=2)
        wait(lambda: not [name for name in keys[:3] if world.get("Secret", name, ns)], "their Secrets go", target=2)
        assert release(world, "--confirm", "gone2", f"m.{MODELS}.m2").returncode == 0
        wait(lambda: world.document("gone2") is None, "access is cut", target=4)
        wait(lambda: world.model_document(MODELS, "m2") is None, "the model is cut", target=4)
        assert world.document("gone3") is not None
        assert release(world, "--confirm", "--all").returncode == 0
        wait(lambda: world.document("gone3") is None and not metric(third), "nothing is held any more", target=4)

        def served() -> set[str]:
            document = world.document("owner")
            return {entry.alias for entry in document.spec.models} if document is not None else set()

        wait(lambda: served() == {"m1"}, "aliases of what is cut are gone", target=3)
        wait(lambda: listed(world) == [], "nothing is listed", target=3)
        assert world.condition("Tenant", "owner", "MassDeletionHeld") == {}
        assert world.document("gone1") is not None
        secret = world.get("Secret", "t.gone1", names.NAMESPACE_RUNTIME)
        assert secret is not None
        assert names.ANNOTATION_HELD_SINCE not in secret["metadata"]["annotations"]


def test_single_deletions_are_never_delayed(world: World) -> None:
    world.tenant("brief")
    with world.operator() as started:
        world.await_ready("brief")
        for name in ("a", "b"):
            world.create("APIKey", name, "tenant-brief", spec={})
            world.await_condition("APIKey", name, "Ready", "True", ns="tenant-brief")
        world.delete("APIKey", "a", "tenant-brief")
        wait(lambda: len(world.hashes("brief")) == 2, "the key is refused", target=1)
        wait(lambda: world.get("Secret", "a", "tenant-brief") is None, "its Secret is gone", target=1)
        world.delete("Tenant", "brief")
        gone(world, "brief")
        assert world.document("brief") is None
        assert metric(started) == {}
