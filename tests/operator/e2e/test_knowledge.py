"""Index builds through the operator: from ConfigMaps and directories to what is served; failures and isolation."""

import shutil

import pytest
from tests.operator.e2e.world import Object, Operator, World, wait

from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import IndexPointer

pytestmark = pytest.mark.cluster


def pointer(world: World, tenant: str) -> IndexPointer | None:
    """The tenant's first index pointer."""
    document = world.document(tenant)
    return document.spec.indexes[0] if document is not None and document.spec.indexes else None


def directory(world: World, tenant: str, **files: str) -> None:
    """Fill a tenant's folder ``docs``."""
    folder = world.documents / f"{tenant}-0001" / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def from_directory(path: str = "docs") -> dict[str, object]:
    """A Tenant's ``knowledge`` and an assistant over it."""
    return {
        "knowledge": [{"name": "handbook", "sources": [{"name": "files", "directory": {"path": path}}]}],
        "assistants": [{"name": "help", "knowledge": ["handbook"]}],
    }


def reindex(world: World, tenant: str, stamp: int) -> None:
    """Ask for a rebuild."""
    value = f"2027-01-01T00:00:{stamp:02d}Z"
    world.patch("Tenant", tenant, metadata={"annotations": {names.ANNOTATION_REINDEX: value}})


def test_documents_of_both_kinds_become_an_index(world: World, operator: Operator) -> None:
    directory(world, "reader", returns="# Returns\n\nGoods come back within 45 days.\n")
    world.create("Namespace", "tenant-reader", metadata={"annotations": {names.ANNOTATION_ADOPTABLE_BY: "reader"}})
    world.create("ConfigMap", "prices", "tenant-reader", data={"prices.txt": "A crate costs 12 EUR."})
    sources: list[Object] = [
        {"name": "files", "directory": {"path": "docs"}},
        {"name": "prices", "configMap": {"name": "prices"}},
    ]
    world.tenant("reader", knowledge=[{"name": "handbook", "sources": sources}])
    tenant = world.await_ready("reader", target=6)
    state = tenant["status"]["knowledge"][0]
    assert state["documents"] == 2
    active = pointer(world, "reader")
    assert active is not None
    assert active.generation == state["generation"]
    assert active.prefix.endswith(f"/reader-0001/handbook/{active.generation}")
    assert (world.store / "reader-0001" / "handbook" / active.generation / "manifest.json").exists()
    assert world.events("IndexBuilt")


def test_a_rebuild_on_request_replaces_the_generation_and_keeps_one_old(world: World, operator: Operator) -> None:
    directory(world, "rebuild", a="# One\n\nFirst text.\n")
    world.tenant("rebuild", **from_directory())
    world.await_ready("rebuild", target=6)
    seen = [pointer(world, "rebuild")]
    for number in (1, 2):
        directory(world, "rebuild", a=f"# One\n\nText number {number}.\n")
        reindex(world, "rebuild", number)
        wait(lambda: pointer(world, "rebuild") != seen[-1], "a new generation serves", target=6)
        seen.append(pointer(world, "rebuild"))
    assert None not in seen
    generations = [item.generation for item in seen if item is not None]
    folder = world.store / "rebuild-0001" / "handbook"
    kept = set(generations[1:])
    wait(lambda: {item.name for item in folder.iterdir()} == kept, "only active and previous are kept")
    wait(
        lambda: (world.get("Tenant", "rebuild") or {})["status"]["handledRequests"]["reindex-requested-at"].endswith(
            "02Z"
        ),
        "the request is answered",
    )


def test_a_failed_rebuild_keeps_serving(world: World, operator: Operator) -> None:
    directory(world, "broken", a="# One\n\nText.\n")
    world.tenant("broken", **from_directory())
    world.await_ready("broken", target=6)
    served = pointer(world, "broken")
    shutil.rmtree(world.documents / "broken-0001")
    reindex(world, "broken", 1)
    world.await_condition("Tenant", "broken", "KnowledgeReady", "True", "ServingPrevious", target=3)
    wait(lambda: [e for e in world.events("BuildFailed") if e["regarding"]["name"] == "broken"], "an event tells")
    assert pointer(world, "broken") == served
    assert world.condition("Tenant", "broken")["status"] == "True"


def test_links_out_of_the_tenants_folder_are_refused(world: World, operator: Operator) -> None:
    directory(world, "victim", secret="# Secret\n\nOnly for the victim.\n")
    thief = world.documents / "thief-0001"
    thief.mkdir()
    (thief / "docs").symlink_to(world.documents / "victim-0001" / "docs")
    (thief / "deep").mkdir()
    (thief / "deep" / "stolen.md").symlink_to(world.documents / "victim-0001" / "docs" / "secret.md")
    for name, path in (("thief", "docs"), ("thief2", "deep")):
        if name == "thief2":
            (world.documents / "thief2-0001").symlink_to(thief)
        world.tenant(name, **from_directory(path))
        failed = world.await_condition("Tenant", name, "KnowledgeReady", "False", "BuildFailed", target=3)
        assert "symbolic link" in failed["message"]
        assert pointer(world, name) is None


def test_a_config_map_that_comes_later_is_found(world: World, operator: Operator) -> None:
    source = {"name": "text", "configMap": {"name": "later"}}
    world.tenant("patient", knowledge=[{"name": "handbook", "sources": [source]}])
    world.await_condition("Tenant", "patient", "KnowledgeReady", "False", "ConfigMapNotFound", target=3)
    world.create("ConfigMap", "later", "tenant-patient", data={"a.txt": "Here at last."})
    world.await_ready("patient", target=12)


def test_a_restart_rebuilds_nothing(world: World, operator: Operator) -> None:
    directory(world, "steady", a="# One\n\nText.\n")
    world.tenant("steady", **from_directory())
    world.await_ready("steady", target=6)
    served = pointer(world, "steady")
    assert world.operators[-1].stop() == 0
    folder = world.store / "steady-0001" / "handbook"
    before = {item.name: item.stat().st_mtime_ns for item in folder.iterdir()}
    again = world.start(resyncSeconds=3600)
    wait(again.idle, "idle")
    assert pointer(world, "steady") == served
    assert {item.name: item.stat().st_mtime_ns for item in folder.iterdir()} == before
    assert not [e for e in world.events("BuildStarted") if e["regarding"]["name"] == "steady" and e.get("series")]


def test_an_index_that_is_taken_away_is_no_longer_served(world: World, operator: Operator) -> None:
    directory(world, "less", a="# One\n\nText.\n")
    world.tenant("less", **from_directory())
    world.await_ready("less", target=6)
    world.patch("Tenant", "less", spec={"knowledge": None, "assistants": None})
    wait(lambda: pointer(world, "less") is None, "the pointer is gone")
    world.await_condition("Tenant", "less", "KnowledgeReady", "True", "NotConfigured")
