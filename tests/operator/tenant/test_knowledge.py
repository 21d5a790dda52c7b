"""When an index is built, and that whatever served goes on serving."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.operator.tenant.build import parsed, platform

from tenantplane_api.crd.tenantstatus import KnowledgeStatus
from tenantplane_api.runtime import indexjob, names
from tenantplane_api.runtime.manifest import Counts, FileEntry, Generation, IndexManifest, seal
from tenantplane_api.runtime.names import TenantID
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.tenant import knowledge
from tenantplane_operator.tenant.concern import Concern
from tenantplane_operator.tenant.knowledge import IndexPlan, IndexState

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LATER = datetime(2026, 11, 2, tzinfo=UTC)
SOURCES: list[dict[str, Any]] = [
    {"name": "docs", "configMap": {"name": "handbook"}},
    {"name": "files", "directory": {"path": "procedures/2026"}},
]


def place(*, indexer: dict[str, Any] | None = None, **section: Any) -> Platform:
    base = {"store": "file:///srv/indexes", "directoryRoot": "/srv/documents"}
    return platform(
        shared={"knowledge": base | section}, operator={"indexer": {"runner": "Subprocess", **(indexer or {})}}
    )


def plan(
    name: str = "acme",
    *,
    where: Platform | None = None,
    sources: list[dict[str, Any]] = SOURCES,
    digest: str | None = "d1",
    requested: str | None = None,
    index: str = "handbook",
) -> IndexPlan | Concern:
    notes = {} if requested is None else {names.ANNOTATION_REINDEX: requested}
    tenant = parsed(name, spec={"knowledge": [{"name": index, "sources": sources}]}, annotations=notes)
    return knowledge.plan_index(
        tenant,
        tenant.spec.knowledge[0],
        platform=where or place(),
        config_maps={} if digest is None else {"handbook": digest},
    )


def good(**parts: Any) -> IndexPlan:
    found = plan(**parts)
    assert isinstance(found, IndexPlan)
    return found


def manifest(tenant_id: str = "acme-0001", index: str = "handbook", digest: str = "0" * 64) -> IndexManifest:
    return seal(
        IndexManifest(
            tenant_id=TenantID(tenant_id),
            index=index,
            generation=Generation("0" * 16),
            embedder="hashing",
            dimension=384,
            counts=Counts(documents=2, chunks=5, tokens=100),
            files={"index.faiss": FileEntry(sha256="0" * 64, bytes=10)},
            sources_digest=digest,
        )
    )


def built(of: IndexPlan, previous: KnowledgeStatus | None = None, digest: str = "0" * 64) -> KnowledgeStatus:
    made = manifest(of.tenant_id, of.index, digest)
    return knowledge.record_success(
        previous, of, manifest=made, manifest_sha256="1" * 64, prefix="file:///srv/indexes/x", built_at=NOW
    )


def test_a_build_knows_its_inputs() -> None:
    job = knowledge.index_job(good(), {"docs": "/in/docs", "files": "/srv/documents/acme-0001/procedures/2026"})
    indexjob.validate_job(job)
    assert indexjob.decode_job(indexjob.encode_job(job)) == job
    assert [source.directory for source in good().sources] == [None, "acme-0001/procedures/2026"]
    assert (job.tenant, job.tenant_id, job.index) == ("acme", "acme-0001", "handbook")


CHANGES: dict[str, dict[str, Any]] = {
    "documents": {"digest": "d2"},
    "a request": {"requested": "2026-11-01T00:00:00Z"},
    "another request": {"requested": "2026-11-02T00:00:00Z"},
    "a source's name": {"sources": [{**SOURCES[0], "name": "other"}, SOURCES[1]]},
    "a path": {"sources": [SOURCES[0], {"name": "files", "directory": {"path": "procedures"}}]},
    "a source less": {"sources": SOURCES[:1]},
    "dimension": {"where": place(dimension=256)},
    "store": {"where": place(store="file:///srv/other")},
    "the root of directories": {"where": place(directoryRoot="/srv/elsewhere")},
    "tenant": {"name": "beta"},
    "index": {"index": "faq"},
}


def test_whatever_decides_the_content_changes_the_key() -> None:
    keys = {name: good(**change).build_key for name, change in {"nothing": {}, **CHANGES}.items()}
    assert len(set(keys.values())) == len(keys)
    assert good().build_key == keys["nothing"]


def test_limits_change_the_attempt_and_not_the_content() -> None:
    wider = good(where=place(indexer={"maxFiles": 30_000}))
    assert wider.build_key == good().build_key
    assert wider.attempt_key != good().attempt_key


def test_a_root_that_no_source_uses_does_not_matter() -> None:
    only_maps = {"sources": SOURCES[:1]}
    assert good(**only_maps).build_key == good(**only_maps, where=place(directoryRoot="/elsewhere")).build_key


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"digest": None}, "ConfigMapNotFound"),
        ({"where": platform(shared={"knowledge": {"directoryRoot": "/x"}})}, "SourceNotAllowed"),
        ({"where": place(directoryRoot=None)}, "SourceNotAllowed"),
    ],
)
def test_what_cannot_be_built(parts: dict[str, Any], reason: str) -> None:
    found = plan(**parts)
    assert isinstance(found, Concern)
    assert found.reason == reason
    first = knowledge.decide("handbook", found, previous=None, building=None)
    assert first.concern == found
    assert first.build is None
    serving = knowledge.decide("handbook", found, previous=built(good()), building=None)
    assert (serving.concern.status, serving.concern.reason) == ("True", "ServingPrevious")
    assert serving.pointer is not None


# previous: none / of this key / of another; last failure: none / this attempt / another; running: none / this / another
TABLE = """
-    -    -     | Building        | build | -
-    -    this  | Building        | -     | -
-    -    other | Building        | build | -
-    this -     | BuildFailed     | -     | -
-    other -    | Building        | build | -
this -    -     | Ready           | -     | serves
this this -     | Ready           | -     | serves
this -    other | Ready           | -     | serves
old  -    -     | ServingPrevious | build | serves
old  -    this  | ServingPrevious | -     | serves
old  -    other | ServingPrevious | build | serves
old  this -     | ServingPrevious | -     | serves
old  other -    | ServingPrevious | build | serves
"""


@pytest.mark.parametrize("row", TABLE.strip().splitlines())
def test_decision_table(row: str) -> None:
    facts, reason, build, serves = (part.strip() for part in row.split("|"))
    before, failure, running = facts.split()
    wanted, other = good(), good(digest="d0")
    status = {"-": None, "this": built(wanted), "old": built(other)}[before]
    if failure != "-":
        status = knowledge.record_failure(status, {"this": wanted, "other": other}[failure], "no text found")
    state = knowledge.decide(
        "handbook",
        wanted,
        previous=status,
        building={"-": None, "this": wanted.attempt_key, "other": other.attempt_key}[running],
    )
    assert state.concern.reason == reason
    assert state.concern.ok is (serves == "serves")
    assert (state.build == wanted) is (build == "build")
    assert (state.pointer is not None) is (serves == "serves")
    if failure == "this" and before != "this":
        assert "no text found" in state.concern.message


def test_a_success_forgets_the_failure() -> None:
    failed = knowledge.record_failure(built(good()), good(digest="d2"), "x" * 5000)
    assert len(failed.message) == 1024
    assert failed.generation == built(good()).generation
    again = built(good(digest="d3"), failed)
    assert (again.failed_build_key, again.message) == (None, "")


def test_the_same_content_keeps_its_time() -> None:
    first = built(good())
    second = knowledge.record_success(
        first, good(digest="d2"), manifest=manifest(), manifest_sha256="1" * 64, prefix="p", built_at=LATER
    )
    assert second.built_at == NOW
    third = knowledge.record_success(
        first,
        good(digest="d2"),
        manifest=manifest(digest="2" * 64),
        manifest_sha256="1" * 64,
        prefix="p",
        built_at=LATER,
    )
    assert third.built_at == LATER


@pytest.mark.parametrize("foreign", [manifest("beta-0001"), manifest(index="faq")])
def test_a_foreign_manifest_never_becomes_a_pointer(foreign: IndexManifest) -> None:
    with pytest.raises(ValueError, match="does not belong"):
        knowledge.record_success(None, good(), manifest=foreign, manifest_sha256="1" * 64, prefix="p", built_at=NOW)


def test_a_status_copied_from_another_tenant_does_not_look_built() -> None:
    # Without a directory source, whose path names the tenant already.
    same = {"sources": SOURCES[:1]}
    foreign = built(good(name="beta", **same))
    assert knowledge.decide("handbook", good(**same), previous=foreign, building=None).build is not None
    assert knowledge.decide("handbook", good(name="beta", **same), previous=foreign, building=None).build is None


def test_digest_is_of_documents_only() -> None:
    plain = {"metadata": {"resourceVersion": "1"}, "data": {"a.md": "x", "b.md": "y"}}
    touched = {"metadata": {"resourceVersion": "2"}, "data": {"b.md": "y", "a.md": "x"}, "binaryData": None}
    assert knowledge.config_map_digest(plain) == knowledge.config_map_digest(touched)
    assert knowledge.config_map_digest(plain) != knowledge.config_map_digest({"data": {"a.md": "x", "b.md": "z"}})
    assert knowledge.config_map_digest({"data": {"a": "eA=="}}) != knowledge.config_map_digest(
        {"binaryData": {"a": "eA=="}}
    )


def test_all_indices_together() -> None:
    ready = knowledge.decide("a", good(), previous=built(good()), building=None)
    behind = knowledge.decide("b", good(digest="d2"), previous=built(good()), building=None)
    down = knowledge.decide("c", good(), previous=None, building=None)
    refused = knowledge.decide("d", plan(where=platform()), previous=None, building=None)

    def reason(**states: IndexState) -> str:
        return knowledge.knowledge_concern(states).reason

    assert reason() == "NotConfigured"
    assert reason(a=ready) == "Ready"
    assert reason(a=ready, b=behind) == "ServingPrevious"
    assert reason(a=ready, b=behind, c=down) == "Building"
    assert reason(c=down, d=refused) == "SourceNotAllowed"
