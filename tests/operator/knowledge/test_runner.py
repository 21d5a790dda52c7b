"""The build runner: bounded, one per index, retries what may pass, and what a success is."""

import asyncio
import json
import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.operator.runtime.virtualtime import run

from tenantplane_api.runtime.indexjob import IndexJob, JobSource
from tenantplane_api.runtime.platform import Platform, parse_platform
from tenantplane_operator.knowledge.runner import (
    BuildFailed,
    BuildResult,
    BuildRunner,
    Order,
    Source,
    Workspace,
    sweep_workspaces,
)
from tenantplane_operator.knowledge.subprocess import SubprocessBuilder
from tenantplane_operator.knowledge.unavailable import UnavailableBuilder
from tenantplane_operator.runtime.resources import Manifest


def order(index: str = "handbook", attempt: str = "1", tenant: str = "acme", **rest: object) -> Order:
    def job(paths: Mapping[str, str]) -> IndexJob:
        sources = tuple(
            JobSource(name=name, kind="directory" if name == "files" else "configMap", path=path)
            for name, path in sorted(paths.items())
        )
        return IndexJob(tenant=tenant, tenant_id=f"{tenant}-0001", index=index, sources=sources)  # type: ignore[arg-type]

    return Order(
        tenant=tenant,
        tenant_id=f"{tenant}-0001",
        namespace=f"tenant-{tenant}",
        index=index,
        attempt_key=attempt,
        sources=(Source("files", directory=f"{tenant}-0001/docs"), Source("text", config_map="text")),
        job=job,
        **rest,  # type: ignore[arg-type]
    )


class FakeBuilder:
    """Takes ten seconds; fails as told."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.built: list[str] = []
        self.failures: list[BuildFailed] = []

    async def build(self, what: Order) -> BuildResult:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(10)
        finally:
            self.running -= 1
        self.built.append(f"{what.index}/{what.attempt_key}")
        if self.failures:
            raise self.failures.pop(0)
        return BuildResult(built_at=datetime.now(UTC), message="built")

    async def clean(self, what: Order, built: str) -> None:
        raise AssertionError("nothing was built")


def test_builds_are_bounded_and_one_per_index() -> None:
    builder, results = FakeBuilder(), list[str]()

    async def main() -> None:
        runner = BuildRunner(builder, concurrency=2, on_result=lambda what, _: results.append(what.index))
        assert runner.start(order("a"))
        assert not runner.start(order("a"))
        for index in ("b", "c", "d"):
            assert runner.start(order(index))
        assert runner.building("acme") == {"a": "1", "b": "1", "c": "1", "d": "1"}
        assert runner.building("other") == {}
        await asyncio.sleep(21)
        assert runner.building("acme") == {}

    run(main())
    assert builder.most == 2
    assert sorted(results) == ["a", "b", "c", "d"]


def test_a_newer_attempt_replaces_an_older_one() -> None:
    builder, results = FakeBuilder(), list[str]()

    async def main() -> None:
        runner = BuildRunner(builder, concurrency=2, on_result=lambda what, _: results.append(what.attempt_key))
        runner.start(order(attempt="1"))
        await asyncio.sleep(1)
        assert runner.start(order(attempt="2"))
        assert runner.building("acme") == {"handbook": "2"}
        await asyncio.sleep(30)

    run(main())
    assert results == ["2"]


def test_what_may_pass_is_tried_again_and_what_will_not_is_not() -> None:
    builder, messages = FakeBuilder(), list[str]()

    async def main() -> None:
        runner = BuildRunner(builder, concurrency=1, on_result=lambda _, result: messages.append(result.message))
        builder.failures = [BuildFailed("away", transient=True)]
        runner.start(order(attempt="1"))
        await asyncio.sleep(60)
        builder.failures = [BuildFailed("bad input", transient=False)]
        runner.start(order(attempt="2"))
        await asyncio.sleep(60)
        builder.failures = [BuildFailed(f"away {number}", transient=True) for number in range(3)]
        runner.start(order(attempt="3"))
        await asyncio.sleep(120)

    run(main())
    assert messages == ["built", "bad input", "away 2"]
    assert builder.built.count("handbook/3") == 3


def test_cancelled_builds_have_no_result() -> None:
    builder, results = FakeBuilder(), list[str]()

    async def main() -> None:
        runner = BuildRunner(builder, concurrency=1, on_result=lambda what, _: results.append(what.tenant))
        runner.start(order(tenant="acme"))
        runner.start(order(tenant="beta"))
        await asyncio.sleep(1)
        runner.cancel("acme")
        await asyncio.sleep(30)
        runner.start(order(tenant="beta", attempt="2"))
        await runner.stop()
        assert runner.building("beta") == {}

    run(main())
    assert results == ["beta"]


async def test_workspaces_go_with_their_build_and_with_dead_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with Workspace(None) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "x").write_text("x")
        assert sweep_workspaces() == 0
    assert not folder.exists()
    (tmp_path / f"tenantplane-build-{2**22 + 1}-left").mkdir()
    (tmp_path / f"tenantplane-build-{os.getpid()}-mine").mkdir()
    (tmp_path / "tenantplane-build-x-y").mkdir()
    assert sweep_workspaces() == 1


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    """A platform that builds here."""
    return parse_platform(
        {
            "operator": {"indexer": {"runner": "Subprocess", "timeoutSeconds": 60}},
            "shared": {"knowledge": {"store": f"file://{tmp_path}/store", "directoryRoot": str(tmp_path / "docs")}},
        }
    )


async def config_map(namespace: str, name: str) -> Manifest | None:
    assert namespace == "tenant-acme"
    data = {"prices.txt": "A crate of twelve bottles costs 12 EUR."}
    return {"metadata": {"name": name}, "data": data} if name == "text" else None


async def test_a_real_build_is_verified_in_the_store(platform: Platform, tmp_path: Path) -> None:
    docs = tmp_path / "docs" / "acme-0001" / "docs"
    docs.mkdir(parents=True)
    (docs / "a.md").write_text("# Returns\n\nGoods come back within 45 days.\n")
    (docs / "b.html").write_text("<html><body><h1>Opening hours</h1><p>From nine to five.</p></body></html>")
    # Only their owner may read them: the build reads a copy.
    for path in (docs, *docs.iterdir()):
        path.chmod(path.stat().st_mode & 0o700)
    builder = SubprocessBuilder(platform, config_map)
    built = await builder.build(order())
    assert built.manifest is not None
    assert built.manifest.tenant_id == "acme-0001"
    assert built.manifest.counts.documents == 3
    folder = Path(built.prefix.removeprefix("file://"))
    assert folder == tmp_path / "store" / "acme-0001" / "handbook" / built.manifest.generation
    assert json.loads((folder / "manifest.json").read_bytes())["generation"] == built.manifest.generation
    # The same content is the same generation; other content leaves the served one and removes older ones.
    assert (await builder.build(order(attempt="2"))).prefix == built.prefix
    (docs / "a.md").write_text("# Returns\n\nGoods come back within 30 days.\n")
    newer = await builder.build(order(attempt="3"))
    assert newer.manifest is not None
    (folder.parent / "0123456789abcdef").mkdir()
    (folder.parent / "not-a-generation").mkdir()
    await builder.clean(order(keep=(built.manifest.generation,)), newer.manifest.generation)
    kept = {path.name for path in folder.parent.iterdir()}
    assert kept == {built.manifest.generation, newer.manifest.generation, "not-a-generation"}


async def test_a_missing_source_says_which(platform: Platform) -> None:
    builder = SubprocessBuilder(platform, config_map)
    with pytest.raises(BuildFailed, match="source files: directory 'docs' does not exist") as failed:
        await builder.build(order())
    assert not failed.value.transient


async def test_nothing_to_index_is_the_tenants_to_mend(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "docs" / "acme-0001" / "docs").mkdir(parents=True)

    async def empty(_: str, name: str) -> Manifest | None:
        return {"metadata": {"name": name}, "data": {}}

    with pytest.raises(BuildFailed) as failed:
        await SubprocessBuilder(platform, empty).build(order())
    assert not failed.value.transient
    assert str(tmp_path) not in failed.value.message


async def test_a_forged_answer_is_not_believed(platform: Platform, tmp_path: Path) -> None:
    builder = SubprocessBuilder(platform, config_map)
    folder = tmp_path / "store" / "acme-0001" / "handbook" / ("a" * 16)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    store = f"file://{tmp_path}/store"
    for prefix in (f"file://{folder}", f"file://{tmp_path}/elsewhere", "https://example.com/x", f"{store}/../x", ""):
        with pytest.raises(BuildFailed, match="does not verify"):
            builder._verified(order(), {"prefix": prefix, "generation": "a" * 16}, store)


async def test_a_platform_that_cannot_build_says_what_to_configure() -> None:
    builder = UnavailableBuilder(Platform())
    with pytest.raises(BuildFailed, match=r"operator\.indexer\.image") as failed:
        await builder.build(order())
    assert not failed.value.transient
    await builder.clean(order(), "x")
