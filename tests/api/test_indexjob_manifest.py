"""Index jobs and manifests: bounds name the field, content addresses hold, skew works."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane_api.runtime.indexjob import IndexJob, decode_job, encode_job
from tenantplane_api.runtime.manifest import (
    Counts,
    FileEntry,
    Generation,
    IndexManifest,
    ManifestError,
    decode_manifest,
    encode_manifest,
    generation_of,
    manifest_sha256,
    seal,
    verify_manifest,
)
from tenantplane_api.runtime.names import TenantID

JOB: dict[str, Any] = {
    "tenant": "acme",
    "tenantID": "acme-0001",
    "index": "handbook",
    "sources": [{"name": "docs", "kind": "directory", "path": "/srv/docs"}],
}
MANIFEST = seal(
    IndexManifest(
        tenant_id=TenantID("acme-0001"),
        index="handbook",
        generation=Generation("0" * 16),
        embedder="hashing",
        dimension=384,
        counts=Counts(documents=1, chunks=2, tokens=3),
        files={"vectors.faiss": FileEntry(sha256="a" * 64, bytes=7)},
        sources_digest="b" * 64,
        built_at="2026-11-21T10:00:00+00:00",
    )
)


def job(**changes: Any) -> IndexJob:
    return decode_job(json.dumps(JOB | changes).encode())


def test_a_job_round_trips_and_ignores_the_unknown() -> None:
    decoded = job(somethingNew=True)
    assert decode_job(encode_job(decoded)) == decoded
    assert decoded.embedder.name == "hashing"


SOURCE = JOB["sources"][0]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tenantID": "short"}, r"\$\.tenantID"),
        ({"tenantID": "acme-0001\n"}, r"\$\.tenantID"),
        ({"tenant": "../x"}, r"\$\.tenant"),
        ({"index": "a" * 41}, r"\$\.index"),
        ({"sources": []}, r"\$\.sources"),
        ({"sources": [SOURCE, SOURCE]}, r"sources\[1\]\.name"),
        ({"sources": [SOURCE | {"path": "relative"}]}, r"sources\[0\]\.path"),
        ({"sources": [SOURCE | {"path": "/a/../b"}]}, r"sources\[0\]\.path"),
        ({"sources": [SOURCE | {"path": "/a\0b"}]}, r"sources\[0\]\.path"),
        ({"sources": [SOURCE | {"kind": "s3"}]}, r"\$\.sources\[0\]\.kind"),
        ({"embedder": {"dimension": 8}}, r"\$\.embedder\.dimension"),
        ({"embedder": {"name": "../x"}}, r"\$\.embedder\.name"),
        ({"chunking": {"targetTokens": 300, "maxTokens": 100}}, r"chunking\.maxTokens"),
        ({"chunking": {"targetTokens": 64, "overlapTokens": 60}}, r"chunking\.overlapTokens"),
        ({"limits": {"maxFileBytes": 100, "maxTotalBytes": 10}}, r"limits\.maxFileBytes"),
        ({"limits": {"maxFiles": 0}}, r"\$\.limits\.maxFiles"),
        ({"kind": "Other"}, "apiVersion and kind"),
    ],
)
def test_out_of_bounds_names_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        job(**changes)


@given(st.binary(max_size=200))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not valid"):
        decode_job(data)
    with pytest.raises(ManifestError, match="not valid"):
        decode_manifest(data)


def test_too_large_is_refused_before_parsing() -> None:
    with pytest.raises(ValueError, match="larger than"):
        decode_job(b"[" * 100_000)
    with pytest.raises(ManifestError, match="larger than"):
        decode_manifest(b"[" * 100_000)


def test_the_address_covers_content_and_not_time() -> None:
    later = msgspec.structs.replace(MANIFEST, built_at="2027-01-01T00:00:00+00:00")
    assert generation_of(later) == MANIFEST.generation
    for change in (
        {"tenant_id": "other-0001"},
        {"index": "other"},
        {"sources_digest": "c" * 64},
        {"files": {"vectors.faiss": FileEntry(sha256="a" * 64, bytes=8)}},
    ):
        assert generation_of(msgspec.structs.replace(MANIFEST, **change)) != MANIFEST.generation


def test_a_manifest_round_trips_and_an_edited_one_is_refused() -> None:
    data = encode_manifest(MANIFEST)
    assert decode_manifest(data) == MANIFEST
    content = json.loads(data)
    with pytest.raises(ManifestError, match="generation"):
        decode_manifest(json.dumps(content | {"dimension": 128}).encode())
    with pytest.raises(ManifestError, match="format"):
        decode_manifest(json.dumps(content | {"format": 2}).encode())


def test_a_newer_writers_field_counts_but_does_not_hurt() -> None:
    content = json.loads(encode_manifest(MANIFEST)) | {"novelty": 1}
    with pytest.raises(ManifestError, match="generation"):
        decode_manifest(json.dumps(content).encode())
    newer = {key: value for key, value in content.items() if key not in ("generation", "builtAt")}
    digest = manifest_sha256(msgspec.json.encode(newer, order="sorted"))[:16]
    assert decode_manifest(json.dumps(content | {"generation": digest}).encode()).generation == digest


def test_verification_is_for_one_tenant_index_and_generation() -> None:
    data = encode_manifest(MANIFEST)
    entitled: dict[str, Any] = {
        "tenant_id": TenantID("acme-0001"),
        "index": "handbook",
        "generation": MANIFEST.generation,
        "sha256": manifest_sha256(data),
    }
    assert verify_manifest(data, **entitled) == MANIFEST
    for change in (
        {"tenant_id": "borealis-0001"},
        {"index": "other"},
        {"generation": "0" * 16},
        {"sha256": "0" * 64},
    ):
        with pytest.raises(ManifestError):
            verify_manifest(data, **entitled | change)
