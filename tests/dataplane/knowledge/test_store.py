"""Generations: content-addressed, published whole, believed only when everything verifies."""

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from tests.dataplane.knowledge.building import ACME, BOREALIS, HANDBOOK, Built, build, write_files

from tenantplane_api.runtime.documents import IndexPointer
from tenantplane_api.runtime.manifest import manifest_sha256
from tenantplane_api.runtime.names import TenantID
from tenantplane_dataplane.knowledge.errors import IndexUnavailable
from tenantplane_dataplane.knowledge.finalise import finalise
from tenantplane_dataplane.knowledge.generation import open_index
from tenantplane_dataplane.knowledge.store import FileStore


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return build(tmp_path, HANDBOOK)


def unlocked(path: Path) -> Path:
    path.chmod(0o644)
    return path


def test_the_same_content_is_the_same_generation(tmp_path: Path) -> None:
    one, two = build(tmp_path / "one", HANDBOOK), build(tmp_path / "two", HANDBOOK)
    assert one.manifest.generation == two.manifest.generation
    assert one.manifest.files == two.manifest.files
    assert (one.inert / "chunks.jsonl").read_bytes() == (two.inert / "chunks.jsonl").read_bytes()
    changed = build(tmp_path / "three", HANDBOOK | {"faq.txt": "Q: New?\nA: Yes, quite new."})
    other = build(tmp_path / "four", HANDBOOK, tenant_id=BOREALIS)
    assert len({built.manifest.generation for built in (one, changed, other)}) == 3


def test_publishing_twice_keeps_the_first(built: Built) -> None:
    before = (built.folder / "manifest.json").read_bytes()
    published, _ = finalise(built.job, built.inert, built.store)
    assert published.manifest_sha256 == built.pointer.manifest_sha256 == manifest_sha256(before)
    assert sorted(path.name for path in built.folder.parent.iterdir()) == [built.manifest.generation]


def test_a_damaged_generation_is_published_anew(built: Built) -> None:
    unlocked(built.folder / "chunks.jsonl").write_bytes(b"damaged")
    published, _ = finalise(built.job, built.inert, built.store)
    assert published.manifest.generation == built.manifest.generation
    built.store.open_verified(ACME, pointer_to(built, published.manifest_sha256))
    assert sorted(path.name for path in built.folder.parent.iterdir()) == [built.manifest.generation]


def test_leftovers_of_killed_builds_go_after_a_day(built: Built) -> None:
    old, young = (built.folder.parent / name for name in (".build-old", ".build-young"))
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (1, 1))
    build(built.inert.parent, HANDBOOK | {"more.txt": "More text for another generation."})
    assert young.exists()
    assert not old.exists()


def pointer_to(built: Built, sha256: str) -> IndexPointer:
    return msgspec.structs.replace(built.pointer, manifest_sha256=sha256)


def test_files_are_read_only_and_the_folder_readable_by_others(built: Built) -> None:
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in built.folder.iterdir())
    assert built.folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["chunks.jsonl", "chunk-offsets.npy", "vectors.faiss", "bm25-scores.npy"])
@pytest.mark.parametrize("damage", ["changed", "longer", "shorter", "absent", "linked"])
def test_tampered_files_are_refused(built: Built, name: str, damage: str) -> None:
    open_index(built.store, ACME, built.pointer)
    path = unlocked(built.folder / name)
    data = path.read_bytes()
    if damage == "absent":
        path.unlink()
    elif damage == "linked":
        path.rename(built.folder.parent / "elsewhere")
        path.symlink_to(built.folder.parent / "elsewhere")
    else:
        changed = data[:-1] + bytes([data[-1] ^ 1])
        path.write_bytes({"changed": changed, "longer": data + b"\0", "shorter": data[:-1]}[damage])
    with pytest.raises(IndexUnavailable, match="handbook"):
        open_index(built.store, ACME, built.pointer)


def test_a_manifest_that_its_author_made_consistent_is_refused(built: Built) -> None:
    """Checksums by the same author prove nothing: only the pointer's hash of the manifest does."""
    path = unlocked(built.folder / "manifest.json")
    path.write_bytes(json.dumps(json.loads(path.read_bytes()) | {"builtAt": "later"}).encode())
    with pytest.raises(IndexUnavailable, match="pointer names"):
        open_index(built.store, ACME, built.pointer)


def test_another_tenants_generation_is_refused(tmp_path: Path) -> None:
    """Paired: A opens its own; B gets it neither by pointer, nor by a copy of the folder, nor by a forged prefix."""
    acme, borealis = build(tmp_path, HANDBOOK), build(tmp_path, {"own.txt": "Borealis only."}, tenant_id=BOREALIS)
    open_index(acme.store, ACME, acme.pointer)
    open_index(acme.store, BOREALIS, borealis.pointer)
    with pytest.raises(IndexUnavailable):
        open_index(acme.store, BOREALIS, acme.pointer)
    stolen = acme.store.root / BOREALIS / "handbook" / acme.manifest.generation
    shutil.copytree(acme.folder, stolen)
    renamed = msgspec.structs.replace(
        acme.pointer, prefix=acme.store.prefix(BOREALIS, "handbook", acme.manifest.generation)
    )
    with pytest.raises(IndexUnavailable, match="another tenant"):
        open_index(acme.store, BOREALIS, renamed)


@pytest.mark.parametrize(
    ("field", "value"), [("dimension", 128), ("embedder", "other"), ("generation", "0" * 16), ("name", "other")]
)
def test_a_pointer_that_disagrees_is_refused(built: Built, field: str, value: object) -> None:
    pointer = msgspec.structs.replace(built.pointer, **{field: value})
    with pytest.raises(IndexUnavailable):
        open_index(built.store, ACME, pointer)


@pytest.mark.parametrize(
    "tenant_id", ["../borealis-0001", "acme-0001/..", "", ".", "acme-0001\n", "ACME-0001", "a" * 37]
)
def test_adversarial_tenant_ids_make_no_path(built: Built, tenant_id: str) -> None:
    with pytest.raises(IndexUnavailable):
        built.store.prefix(TenantID(tenant_id), "handbook", "0" * 16)


@pytest.mark.parametrize("index", ["../x", "", "a/b", "x\n", "..", "x" * 41])
def test_adversarial_index_names_make_no_path(built: Built, index: str) -> None:
    with pytest.raises(IndexUnavailable):
        built.store.prefix(ACME, index, "0" * 16)
    with pytest.raises(IndexUnavailable):
        built.store.prefix(ACME, "handbook", index)


@pytest.mark.parametrize("url", ["s3://bucket", "file://host/x", "/x", "file:x", "file:///x?y", ""])
def test_store_urls(url: str) -> None:
    with pytest.raises(ValueError, match="file:///absolute/path"):
        FileStore(url)
    assert FileStore("file:///a%20b").root == Path("/a b")


def test_large_indices_use_a_graph_and_stay_deterministic(tmp_path: Path) -> None:
    texts = (f"Item {n} weighs {n * 7 % 1000} kilograms and lies in shelf {n % 97}." for n in range(5100))
    folder = write_files(tmp_path / "in", {f"{n // 100}/{n}.txt": text for n, text in enumerate(texts)})
    one, two = (build(tmp_path / name, folder, dimension=64) for name in ("one", "two"))
    assert one.manifest.counts.chunks == 5100
    assert one.manifest.generation == two.manifest.generation
    opened = open_index(one.store, ACME, one.pointer)
    vector = opened.embedder.embed([opened.chunks[4711].indexed_text])[0]
    rows, scores = opened.vectors.search(vector, 3)
    assert rows[0] == 4711
    assert scores[0] > 0.98
    assert (one.folder / "vectors.faiss").stat().st_size < 5100 * 64 * 4 * 2
