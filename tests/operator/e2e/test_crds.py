"""CRDs deleted and reinstalled, and everything restored into a new cluster: what customers have must survive both."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.operator.e2e.test_hold import metric
from tests.operator.e2e.world import Object, World, wait

from tenantplane_api.runtime import keys, names
from tenantplane_cli.cluster import install_chart, open_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PLURALS = (names.PLURAL_TENANTS, names.PLURAL_API_KEYS, names.PLURAL_MODEL_DEPLOYMENTS)
MODELS = names.NAMESPACE_MODELS
_OWN = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "finalizers", "ownerReferences")


def plain(obj: Object) -> Object:
    """An object as it lies in Git or in a backup: without what a cluster adds."""
    meta = {key: value for key, value in obj["metadata"].items() if key not in _OWN}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": meta}


def post(world: World, kind: str, obj: Object) -> None:
    body = {**plain(obj), "kind": kind, "apiVersion": obj.get("apiVersion") or "v1"}
    ns = str(obj["metadata"].get("namespace") or "")
    status, answer = world.call("POST", world.path(kind, ns=ns), body)
    assert status in (201, 409), answer


def everything(world: World, kind: str) -> list[Object]:
    """All objects of one of our kinds, in all namespaces."""
    plural = {"APIKey": names.PLURAL_API_KEYS, "ModelDeployment": names.PLURAL_MODEL_DEPLOYMENTS}[kind]
    status, answer = world.call("GET", f"/apis/{names.API_VERSION}/{plural}")
    assert status == 200, answer
    return [{**item, "apiVersion": names.API_VERSION} for item in answer["items"]]


class Witness:
    """Looks at published documents all the time and remembers what was ever missing."""

    def __init__(self, world: World, expected: dict[str, set[str]], indexes: dict[str, set[str]]) -> None:
        self.missing: list[str] = []
        self.looks = 0
        self._world = world
        self._expected = expected
        self._indexes = indexes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        # A client of its own: connections are not shared between threads.
        eyes = World(self._world.cluster, self._world.folder)
        while not self._stop.wait(0.05):
            for tenant, hashes in self._expected.items():
                document = eyes.document(tenant)
                if document is None:
                    self.missing.append(f"{tenant}: no document")
                    continue
                gone = hashes - {entry.hash for entry in document.spec.keys}
                if gone:
                    there = [entry.name for entry in document.spec.keys]
                    self.missing.append(f"{time.time():.2f} {tenant}: {len(gone)} keys are gone; there: {there}")
                if not self._indexes.get(tenant, set()) <= {index.generation for index in document.spec.indexes}:
                    self.missing.append(f"{tenant}: an index is gone")
                if "default" not in {alias.alias for alias in document.spec.models}:
                    self.missing.append(f"{tenant}: an alias is gone")
                if eyes.model_document(MODELS, "extractive") is None:
                    self.missing.append("the model is gone")
            self.looks += 1
        eyes.close()

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(60)
        assert self.looks > 10
        assert not self.missing, "\n".join(self.missing)


def test_capsule_1181_reinstalled_crds_lose_nothing(world: World) -> None:
    """CRDs deleted and reinstalled by GitOps gave Tenants new UIDs, and every namespace was deleted."""
    tenants = ["cap-one", "cap-two"]
    source = {"name": "text", "configMap": {"name": "notes"}}
    with world.operator() as first:
        world.tenant("cap-one", deletionPolicy="Delete")
        world.tenant("cap-two", deletionPolicy="Delete")
        for name in tenants:
            world.await_ready(name)
            world.create("ConfigMap", "notes", f"tenant-{name}", data={"a.txt": "A crate holds twelve bottles."})
            world.create("APIKey", "extra", f"tenant-{name}", spec={})
            world.await_condition("APIKey", "extra", "Ready", "True", ns=f"tenant-{name}")
        world.patch("Tenant", "cap-one", spec={"knowledge": [{"name": "notes", "sources": [source]}]})
        world.await_condition("Tenant", "cap-one", "KnowledgeReady", "True", "Ready", target=6)

        def generation() -> str:
            document = world.document("cap-one")
            return document.spec.indexes[0].generation if document is not None and document.spec.indexes else ""

        served, _ = wait(generation, "the index is served", target=3)
        wait(first.idle, "idle")
        spaces = {name: world.get("Namespace", f"tenant-{name}") for name in tenants}
        uids = {name: (world.get("Tenant", name) or {})["metadata"]["uid"] for name in tenants}
        hashes = {name: world.hashes(name) for name in tenants}
        texts = {name: world.key_text("extra", f"tenant-{name}") for name in tenants}
        assert all(len(found) == 2 for found in hashes.values())
        git = [("Tenant", {**item, "apiVersion": names.API_VERSION}) for item in world.items("Tenant")]
        git += [("ModelDeployment", item) for item in everything(world, "ModelDeployment")]
        git += [("APIKey", item) for item in everything(world, "APIKey") if item["metadata"]["name"] == "extra"]
        with Witness(world, hashes, {"cap-one": {served}}).watching():
            for plural in PLURALS:
                status, answer = world.call("DELETE", f"{CRDS}/{plural}.{names.GROUP}")
                assert status == 200, answer

            def removed() -> bool:
                return all(world.call("GET", f"{CRDS}/{plural}.{names.GROUP}")[0] == 404 for plural in PLURALS)

            wait(removed, "the CRDs are gone, nobody waits for our finalizer", target=4)
            wait(lambda: sum(metric(first).values()) >= 2 + 4 + 1, "all is held", target=3)
            first.kill()
            second = world.spawn()
            install_chart(world.cluster, progress=lambda _: None)
            wait(second.ready, "the operator is ready", target=6)
            for kind, obj in git:
                if kind != "APIKey":
                    post(world, kind, obj)
            for kind, obj in git:
                if kind == "APIKey":
                    post(world, kind, obj)
            for name in tenants:
                world.await_ready(name, target=6)
                world.await_condition("APIKey", "extra", "Ready", "True", ns=f"tenant-{name}", target=3)
            wait(lambda: metric(second) == {}, "nothing is held any more", target=3)
            wait(second.idle, "idle")
        for name in tenants:
            tenant, space = world.get("Tenant", name), world.get("Namespace", f"tenant-{name}")
            assert tenant is not None
            assert tenant["metadata"]["uid"] != uids[name]
            assert space is not None
            before = spaces[name]
            assert before is not None
            assert space["metadata"]["uid"] == before["metadata"]["uid"]
            assert "deletionTimestamp" not in space["metadata"]
            assert world.get("ConfigMap", "notes", f"tenant-{name}") is not None
            assert world.hashes(name) == hashes[name]
            assert world.key_text("extra", f"tenant-{name}") == texts[name]
        told = {event["regarding"]["name"] for event in world.events("NamespaceTakenBack")}
        assert set(tenants) <= told
        # Taken back for good: a deletion that is meant goes through.
        world.delete("APIKey", "extra", "tenant-cap-two")
        wait(lambda: world.hashes("cap-two") < hashes["cap-two"], "the key is refused", target=2)
        world.delete("Tenant", "cap-two")
        wait(lambda: world.get("Tenant", "cap-two") is None, "the Tenant is gone", target=3)
        assert world.document("cap-two") is None
        assert world.get("Namespace", "tenant-cap-two") is None
        assert second.stop() == 0


def test_restored_into_a_new_cluster(world: World, tmp_path: Path) -> None:
    """New UIDs, same tenantIDs, no status: with their Secrets keys go on working, without them they are new."""
    kept, bare = "moved-keys", "moved-bare"
    with world.operator() as first:
        world.tenant(kept, namespace={"name": "moved-space", "labels": {"team": "blue"}})
        world.tenant(bare, displayName="Bare")
        for name, ns in ((kept, "moved-space"), (bare, f"tenant-{bare}")):
            world.await_ready(name)
            world.create("ConfigMap", "theirs", ns, data={"a": "b"})
            world.create("APIKey", "extra", ns, spec={"owner": "olga"})
            world.await_condition("APIKey", "extra", "Ready", "True", ns=ns)
        wait(first.idle, "idle")
    spaces = {kept: "moved-space", bare: f"tenant-{bare}"}
    texts = {name: world.key_text("extra", ns) for name, ns in spaces.items()}
    hashes = {name: world.hashes(name) for name in spaces}
    saved: list[tuple[str, Any]] = [("Namespace", world.get("Namespace", ns)) for ns in spaces.values()]
    for name, ns in spaces.items():
        saved += [("ConfigMap", world.get("ConfigMap", "theirs", ns))]
        saved += [("APIKey", {**item, "apiVersion": names.API_VERSION}) for item in world.items("APIKey", ns)]
        if name == kept:
            saved += [("Secret", item) for item in world.items("Secret", ns)]
    saved += [("Tenant", {**(world.get("Tenant", name) or {}), "apiVersion": names.API_VERSION}) for name in spaces]
    with open_cluster(progress=lambda _: None) as other:
        install_chart(other, progress=lambda _: None)
        new = World(other, tmp_path)
        try:
            for kind, obj in saved:
                assert obj is not None
                post(new, kind, obj)
            with new.operator() as started:
                for name, ns in spaces.items():
                    tenant = new.await_ready(name, target=6)
                    old = world.get("Tenant", name)
                    assert old is not None
                    assert tenant["metadata"]["uid"] != old["metadata"]["uid"]
                    assert tenant["spec"] == old["spec"]
                    new.await_condition("APIKey", "extra", "Ready", "True", ns=ns, target=3)
                    assert new.get("ConfigMap", "theirs", ns) is not None
                    assert new.items("NetworkPolicy", ns)
                wait(started.idle, "idle")
                assert (new.get("Namespace", "moved-space") or {})["metadata"]["labels"]["team"] == "blue"
                assert new.hashes(kept) == hashes[kept]
                assert new.key_text("extra", "moved-space") == texts[kept]
                assert new.hashes(bare).isdisjoint(hashes[bare])
                assert keys.hash_key(new.key_text("extra", f"tenant-{bare}")) in new.hashes(bare)
                assert len(new.hashes(bare)) == 2
        finally:
            new.close()
