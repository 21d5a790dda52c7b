"""Documents come, change and go while requests are served: no restart, no leak, no guess."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.dataplane.conftest import World
from tests.dataplane.harness import (
    ConfigDir,
    Key,
    Running,
    dataplane,
    eventually,
    new_key,
    tenant_document,
)

from tenantplane_api.runtime import documents
from tenantplane_api.runtime.documents import TenantLimits, TenantRuntime
from tenantplane_api.runtime.names import TenantID
from tenantplane_dataplane.config.directory import SYNCED_MARKER, ConfigDirectoryError
from tenantplane_dataplane.config.snapshot import Snapshot, advance
from tenantplane_dataplane.config.store import ConfigStore
from tenantplane_dataplane.observability.metrics import Metrics


async def status_of(plane: Running, key: Key) -> tuple[int, str]:
    status, body, _ = await plane.request("GET", "/v1/models", key=key)
    return status, body.get("error", {}).get("code", "")


async def becomes(plane: Running, key: Key, expected: tuple[int, str]) -> float:
    """Seconds until a request with ``key`` is answered so; fails at ten times the target of one second."""
    started = time.monotonic()
    while (got := await status_of(plane, key)) != expected:
        assert time.monotonic() - started < 10, got
        await asyncio.sleep(0.01)
    return time.monotonic() - started


async def test_a_new_tenant_a_revoked_key_and_a_deleted_tenant(world: World) -> None:
    first, second = new_key("first"), new_key("second")
    assert await status_of(world.plane, first) == (401, "invalid_api_key")
    world.plane.config.write(tenant_document("initech", keys=[first, second]))
    await becomes(world.plane, first, (200, ""))
    world.plane.config.write(tenant_document("initech", keys=[second]))
    await becomes(world.plane, first, (401, "invalid_api_key"))
    assert await status_of(world.plane, second) == (200, "")
    world.plane.config.remove(tenant_document("initech"))
    await becomes(world.plane, second, (401, "invalid_api_key"))
    assert await status_of(world.plane, world.acme) == (200, "")


async def test_suspension(world: World) -> None:
    suspended = tenant_document("acme", keys=[world.acme], suspended=True)
    world.plane.config.write(suspended)
    await becomes(world.plane, world.acme, (403, "tenant_suspended"))
    assert await status_of(world.plane, world.globex) == (200, "")
    world.plane.config.write(world.documents["acme"])
    await becomes(world.plane, world.acme, (200, ""))


async def test_expiry(world: World) -> None:
    expired, lasting = new_key(expires_at=int(time.time()) - 1), new_key(expires_at=int(time.time()) + 3600)
    world.plane.config.write(tenant_document("initech", keys=[expired, lasting]))
    await becomes(world.plane, lasting, (200, ""))
    assert await status_of(world.plane, expired) == (401, "api_key_expired")


BAD: dict[str, bytes] = {
    "no json": b"{",
    "empty": b"",
    "other kind": documents.canonical(tenant_document("acme")).replace(b"TenantRuntime", b"ModelRuntime"),
    "no fields": b"{}",
    "binary": b"\x00\xff\xfe",
    "deep": b'{"spec":' * 20_000,
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_document_stops_that_tenant_only_and_says_so(world: World, name: str) -> None:
    world.plane.config.write_raw("t.acme.json", BAD[name])
    await becomes(world.plane, world.acme, (503, "tenant_config_invalid"))
    assert await status_of(world.plane, world.globex) == (200, "")
    world.plane.config.write(world.documents["acme"])
    await becomes(world.plane, world.acme, (200, ""))


def broken(acme: Key) -> dict[str, TenantRuntime]:
    """Documents that parse and must not be obeyed."""
    good = tenant_document("acme", keys=[acme])
    replace = msgspec.structs.replace
    return {
        "limit of zero": tenant_document("acme", keys=[acme], limits=TenantLimits(requests_per_minute=0)),
        "negative limit": tenant_document("acme", keys=[acme], limits=TenantLimits(concurrency=-1)),
        "unknown feature": replace(good, requires=("telepathy",)),
        "other version": replace(good, api_version="runtime.tenantplane.dev/v9"),
        "no tenantID": replace(good, tenant_id=TenantID("")),
        "alias like an assistant": tenant_document("acme", keys=[acme], models={"assistant/x": "a/b"}),
    }


@pytest.mark.parametrize("name", list(broken(new_key())))
async def test_a_document_that_contradicts_itself_is_not_obeyed(world: World, name: str) -> None:
    world.plane.config.write(broken(world.acme)[name])
    await becomes(world.plane, world.acme, (503, "tenant_config_invalid"))
    assert await status_of(world.plane, world.globex) == (200, "")


async def test_a_document_under_another_tenants_name_opens_nothing(world: World) -> None:
    """Whoever can write one tenant's Secret must not become another: name and content must agree."""
    intruder = new_key()
    foreign = documents.canonical(
        tenant_document("acme", keys=[intruder], models={"chat": "tenantplane-models/shared"})
    )
    world.plane.config.write_raw("t.globex.json", foreign)
    await becomes(world.plane, world.globex, (503, "tenant_config_invalid"))
    assert await status_of(world.plane, intruder) == (401, "invalid_api_key")
    assert await status_of(world.plane, world.acme) == (200, "")


async def test_a_first_document_that_is_bad_is_401(world: World) -> None:
    key = new_key()
    world.plane.config.write_raw("t.initech.json", b"{")
    await eventually(lambda: "initech" in world.plane.app.store.current.tenants)
    assert await status_of(world.plane, key) == (401, "invalid_api_key")


async def test_a_key_that_two_tenants_claim_stays_with_the_first(world: World) -> None:
    own = new_key()
    world.plane.config.write(tenant_document("initech", keys=[own, world.acme], models={"x": "a/b"}))
    await becomes(world.plane, own, (200, ""))
    _, body, _ = await world.plane.request("GET", "/v1/models", key=world.acme)
    assert [model["id"] for model in body["data"]] == ["chat", "acme-canary"]
    # Revoked by its holder, it must not wake up as the other's.
    world.plane.config.write(tenant_document("acme", keys=[]))
    await becomes(world.plane, world.acme, (401, "invalid_api_key"))
    world.plane.config.write(tenant_document("initech", keys=[own, world.acme], suspended=True))
    await becomes(world.plane, own, (403, "tenant_suspended"))
    assert await status_of(world.plane, world.acme) == (401, "invalid_api_key")


def test_a_key_that_two_tenants_bring_at_once_is_nobodys() -> None:
    shared, own = new_key(), new_key()
    changes: dict[str, bytes | None] = {
        "t.a": documents.canonical(tenant_document("a", keys=[shared])),
        "t.b": documents.canonical(tenant_document("b", keys=[shared, own])),
    }
    snapshot, conflicts = advance(Snapshot(), changes, frozenset())
    assert shared.entry.hash not in snapshot.keys
    assert snapshot.keys[own.entry.hash][0].tenant == "b"
    assert {conflict.tenant for conflict in conflicts} == {"a", "b"}
    # One of them drops it and the other is written anew: then there is one claim, made knowingly.
    again, conflicts = advance(snapshot, {"t.a": changes["t.a"]}, frozenset({"t.b"}))
    assert not conflicts or shared.entry.hash not in again.keys


def test_snapshots_do_not_change() -> None:
    key = new_key()
    before, _ = advance(Snapshot(), {"t.a": documents.canonical(tenant_document("a", keys=[key]))}, frozenset())
    after, _ = advance(before, {}, frozenset({"t.a"}))
    assert key.entry.hash in before.keys
    assert not after.keys
    assert not after.tenants


async def test_unreadable_is_not_absent(world: World) -> None:
    path = world.plane.config.file(world.documents["acme"])
    path.unlink()
    path.symlink_to("/dev/null")
    await becomes(world.plane, world.acme, (503, "tenant_config_invalid"))


async def test_a_directory_that_is_away_changes_nothing(tmp_path: Path) -> None:
    key = new_key()
    async with dataplane(tmp_path / "c") as plane:
        plane.config.write(tenant_document("acme", keys=[key]))
        await becomes(plane, key, (200, ""))
        (tmp_path / "c").rename(tmp_path / "moved")
        await plane.app.store._rescan()
        assert await status_of(plane, key) == (200, "")


async def test_a_lost_notification_is_found_by_the_next_scan(tmp_path: Path) -> None:
    config, key = ConfigDir(tmp_path / "c"), new_key()
    store = ConfigStore(config.path, metrics=Metrics())
    store.load()
    config.write(tenant_document("acme", keys=[key]))
    await store._rescan()
    assert key.entry.hash in store.current.keys
    generation = store.current.generation
    await store._rescan()
    assert store.current.generation == generation


@pytest.fixture
async def unsynced(tmp_path: Path) -> AsyncIterator[Running]:
    async with dataplane(tmp_path / "c", require_synced=True) as plane:
        yield plane


async def test_not_ready_before_everything_is_there(unsynced: Running) -> None:
    key = new_key()
    assert (await unsynced.request("GET", "/readyz"))[0] == 503
    assert await status_of(unsynced, key) == (503, "not_ready"), "not 401: nobody can know yet"
    unsynced.config.write(tenant_document("acme", keys=[key]))
    unsynced.config.write_raw(SYNCED_MARKER, b"")
    await becomes(unsynced, key, (200, ""))
    assert (await unsynced.request("GET", "/readyz"))[0] == 200


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_directory_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ConfigDirectoryError, match="chmod 700"):
        ConfigStore(folder, metrics=Metrics()).load()


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("missing", "file", "link"):
        with pytest.raises(ConfigDirectoryError):
            ConfigStore(tmp_path / name, metrics=Metrics()).load()


def test_other_files_are_ignored(tmp_path: Path) -> None:
    config = ConfigDir(tmp_path / "c")
    good = documents.canonical(tenant_document("acme"))
    for name in ("acme.json", "t.acme.json.bak", ".t.acme.json", "t.ACME.json", "t..json", "t.a.b.json", "m.x.json"):
        config.write_raw(name, good)
    with contextlib.suppress(FileExistsError):
        (config.path / "t.folder.json").mkdir()
    os.mkfifo(config.path / "t.fifo.json")
    store = ConfigStore(config.path, metrics=Metrics())
    store.load()
    assert set(store.current.tenants) == {"folder", "fifo"}, "what has a document's name is a (bad) document"
    assert all(handle.problem for handle in store.current.tenants.values())
    assert not store.current.models


async def test_a_slow_scan_does_not_bring_an_older_content_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan reads a key, the key is revoked while the scan is still on its way, then the scan arrives."""
    config, key = ConfigDir(tmp_path / "c"), new_key()
    store = ConfigStore(config.path, metrics=Metrics())
    config.write(tenant_document("acme", keys=[key]))
    scan, reading, go_on = store._scan, threading.Event(), threading.Event()

    def slow_scan() -> Any:
        found = scan()
        reading.set()
        go_on.wait(10)
        return found

    monkeypatch.setattr(store, "_scan", slow_scan)
    old = asyncio.create_task(store._rescan())
    await asyncio.to_thread(reading.wait, 10)
    config.write(tenant_document("acme"))
    new = asyncio.create_task(store._take_up({"t.acme.json"}))
    await asyncio.sleep(0.05)
    go_on.set()
    await asyncio.gather(old, new)
    assert key.entry.hash not in store.current.keys


async def test_a_change_that_the_clock_does_not_show_is_taken_up(tmp_path: Path) -> None:
    """Same inode, size and time stamp, other content: what the kernel reported counts."""
    config, key = ConfigDir(tmp_path / "c"), new_key()
    document = tenant_document("acme", keys=[key])
    config.write(document)
    store = ConfigStore(config.path, metrics=Metrics())
    store.load()
    path = config.file(document)
    before = path.stat()
    revoked = documents.canonical(document).replace(key.entry.hash.encode(), b"sha256:" + b"0" * 64)
    with path.open("r+b") as file:
        file.write(revoked)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await store._take_up({path.name})
    assert key.entry.hash not in store.current.keys
