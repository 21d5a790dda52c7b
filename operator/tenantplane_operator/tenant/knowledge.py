"""Which index builds a tenant needs, and what to say about each index.

Guarantees that a build is ordered exactly when something that decides the index's content changed since the last
finished build, that a failed build is not repeated until something changed that could make it succeed, and that the
generation that served before goes on serving whatever happens to its successor. It does not see into directories: what
changed there is found by asking for a rebuild (annotation ``reindex-requested-at``).
"""

import hashlib
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from tenantplane_api.crd.conditions import Reason
from tenantplane_api.crd.tenant import Knowledge, Source
from tenantplane_api.crd.tenantstatus import KnowledgeStatus
from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import IndexPointer
from tenantplane_api.runtime.indexjob import BuildLimits, Chunking, EmbedderSpec, IndexJob, JobSource, SourceKind
from tenantplane_api.runtime.manifest import INDEX_FORMAT, IndexManifest
from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.tenant.concern import Concern, clip, failed, not_configured, ok
from tenantplane_operator.tenant.parse import ParsedTenant

_MESSAGE_MAX: Final = 1024
_CHUNKING: Final = Chunking()


@dataclass(frozen=True, slots=True)
class PlannedSource:
    """One input. ``directory`` is relative to the platform's ``directoryRoot`` and starts with the tenantID."""

    name: str
    kind: SourceKind
    config_map: str | None = None
    directory: str | None = None


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """One build.

    ``build_key`` is a hash of all that decides the content, ``attempt_key`` of that and all that decides whether the
    build can succeed (limits): raising a limit repeats a failed build but rebuilds nothing that works.
    """

    tenant: TenantName
    tenant_id: TenantID
    index: str
    sources: tuple[PlannedSource, ...]
    embedder: EmbedderSpec
    limits: BuildLimits
    build_key: str
    attempt_key: str


@dataclass(frozen=True, slots=True)
class IndexState:
    """What is to be done and said about one index. ``build`` is set when a build has to be started."""

    status: KnowledgeStatus
    concern: Concern
    pointer: IndexPointer | None
    build: IndexPlan | None = None


def config_map_digest(obj: Mapping[str, Any]) -> str:
    """SHA-256 of a ConfigMap's documents: names and contents, nothing of its metadata."""
    content = {"data": obj.get("data") or {}, "binaryData": obj.get("binaryData") or {}}
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def plan_index(
    tenant: ParsedTenant, index: Knowledge, *, platform: Platform, config_maps: Mapping[str, str]
) -> IndexPlan | Concern:
    """The build that the index needs, or why it cannot be built.

    Args:
        tenant, index: whose index.
        platform: store, embedder, limits, directory root.
        config_maps: digest of each ConfigMap in the tenant's namespace that was found.
    """
    knowledge = platform.shared.knowledge
    if knowledge.store is None:
        return failed(
            Reason.SOURCE_NOT_ALLOWED,
            f"index {index.name}: this platform has no index store: ask the platform team to set "
            "shared.knowledge.store",
        )
    sources: list[PlannedSource] = []
    digests: dict[str, str] = {}
    for source in index.sources:
        planned = _planned(tenant, source)
        if planned.kind == "directory" and knowledge.directory_root is None:
            return failed(
                Reason.SOURCE_NOT_ALLOWED,
                f"index {index.name}: source {source.name}: this platform has no shared.knowledge.directoryRoot, so "
                "directory sources are refused: use a ConfigMap",
            )
        if planned.config_map is not None:
            digest = config_maps.get(planned.config_map)
            if digest is None:
                return failed(
                    Reason.CONFIG_MAP_NOT_FOUND,
                    f"index {index.name}: source {source.name}: there is no ConfigMap {planned.config_map} in "
                    f"namespace {tenant.namespace}: create it",
                )
            digests[source.name] = digest
        sources.append(planned)
    embedder = EmbedderSpec(name=knowledge.embedder, dimension=knowledge.dimension)
    limits = _limits(platform)
    key = build_key(
        tenant_id=tenant.tenant_id,
        index=index.name,
        sources=tuple(sources),
        digests=digests,
        embedder=embedder,
        store=knowledge.store,
        directory_root=knowledge.directory_root,
        requested=tenant.annotations.get(names.ANNOTATION_REINDEX, ""),
    )
    return IndexPlan(
        tenant=tenant.name,
        tenant_id=tenant.tenant_id,
        index=index.name,
        sources=tuple(sources),
        embedder=embedder,
        limits=limits,
        build_key=key,
        attempt_key=_digest(
            [key, limits, platform.operator.indexer.timeout_seconds, platform.operator.indexer.memory_mi_b]
        ),
    )


def _planned(tenant: ParsedTenant, source: Source) -> PlannedSource:
    if source.config_map is not None:
        return PlannedSource(name=source.name, kind="configMap", config_map=source.config_map.name)
    path = source.directory.path if source.directory else ""
    return PlannedSource(name=source.name, kind="directory", directory=posixpath.join(tenant.tenant_id, path))


def _limits(platform: Platform) -> BuildLimits:
    indexer = platform.operator.indexer
    return BuildLimits(
        max_files=indexer.max_files,
        max_file_bytes=min(indexer.max_file_bytes, indexer.max_total_bytes),
        max_total_bytes=min(indexer.max_total_bytes, 1 << 36),
    )


def _digest(content: object) -> str:
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def build_key(
    *,
    tenant_id: TenantID,
    index: str,
    sources: tuple[PlannedSource, ...],
    digests: Mapping[str, str],
    embedder: EmbedderSpec,
    store: str,
    directory_root: str | None,
    requested: str,
) -> str:
    """SHA-256, hexadecimal, over everything that decides what the index will hold and where it will lie.

    The tenantID and the index's name are part of it, so that a status copied from one tenant to another never makes a
    build look done.
    """
    return _digest(
        {
            "format": INDEX_FORMAT,
            "tenantID": tenant_id,
            "index": index,
            "sources": [
                [source.name, source.kind, source.config_map or source.directory, digests.get(source.name, "")]
                for source in sources
            ],
            "embedder": embedder,
            "chunking": _CHUNKING,
            "store": store,
            "directoryRoot": directory_root if any(source.kind == "directory" for source in sources) else None,
            "requested": requested,
        }
    )


def index_job(plan: IndexPlan, paths: Mapping[str, str]) -> IndexJob:
    """The order for the indexer.

    Args:
        plan: what to build.
        paths: absolute, resolved folder of each source, by the source's name.
    """
    return IndexJob(
        tenant=plan.tenant,
        tenant_id=plan.tenant_id,
        index=plan.index,
        sources=tuple(
            JobSource(name=source.name, kind=source.kind, path=paths[source.name]) for source in plan.sources
        ),
        embedder=plan.embedder,
        chunking=_CHUNKING,
        limits=plan.limits,
    )


def decide(
    index: str, plan: IndexPlan | Concern, *, previous: KnowledgeStatus | None, building: str | None
) -> IndexState:
    """One index: what to do, say and serve.

    Args:
        index: its name.
        plan: the outcome of ``plan_index``.
        previous: its last known state.
        building: ``attempt_key`` of a build that runs or waits now.
    """
    status = previous or KnowledgeStatus(name=index)
    pointer = pointer_of(status)
    if isinstance(plan, Concern):
        return IndexState(status, _unless_serving(plan, pointer), pointer)
    if status.generation is not None and status.build_key == plan.build_key:
        return IndexState(status, ok(), pointer)
    if status.failed_build_key == plan.attempt_key:
        why = f"index {index}: the last build failed: {status.message or 'no reason given'}"
        return IndexState(status, _unless_serving(failed(Reason.BUILD_FAILED, clip(why)), pointer), pointer)
    under_way = building == plan.attempt_key
    concern = failed(Reason.BUILDING, f"index {index}: the {'first' if pointer is None else 'next'} build is under way")
    return IndexState(status, _unless_serving(concern, pointer), pointer, build=None if under_way else plan)


def _unless_serving(concern: Concern, pointer: IndexPointer | None) -> Concern:
    """A problem with the next generation is no outage while the previous one serves."""
    return concern if pointer is None else ok(Reason.SERVING_PREVIOUS, concern.message)


def pointer_of(status: KnowledgeStatus) -> IndexPointer | None:
    """The generation that a status says is served; ``None`` before the first success."""
    if not (status.generation and status.manifest_sha256 and status.prefix and status.embedder and status.dimension):
        return None
    return IndexPointer(
        name=status.name,
        generation=status.generation,
        manifest_sha256=status.manifest_sha256,
        prefix=status.prefix,
        embedder=status.embedder,
        dimension=status.dimension,
    )


def record_success(
    previous: KnowledgeStatus | None,
    plan: IndexPlan,
    *,
    manifest: IndexManifest,
    manifest_sha256: str,
    prefix: str,
    built_at: datetime,
) -> KnowledgeStatus:
    """The index's state after a build whose manifest was verified.

    Raises:
        ValueError: the manifest is of another tenant or index; it must never become a pointer.
    """
    if manifest.tenant_id != plan.tenant_id or manifest.index != plan.index:
        raise ValueError("the manifest does not belong to this tenant and index")
    unchanged = previous is not None and previous.generation == manifest.generation
    return KnowledgeStatus(
        name=plan.index,
        generation=manifest.generation,
        manifestSHA256=manifest_sha256,
        prefix=prefix,
        embedder=manifest.embedder,
        dimension=manifest.dimension,
        documents=manifest.counts.documents,
        chunks=manifest.counts.chunks,
        # The same content is the same generation: it was built when it was built first.
        built_at=previous.built_at if unchanged and previous is not None and previous.built_at else built_at,
        build_key=plan.build_key,
    )


def record_failure(previous: KnowledgeStatus | None, plan: IndexPlan, message: str) -> KnowledgeStatus:
    """The index's state after a build that failed for good; what was served stays."""
    status = previous or KnowledgeStatus(name=plan.index)
    text = message if len(message) <= _MESSAGE_MAX else message[: _MESSAGE_MAX - 1] + "…"
    return status.model_copy(update={"failed_build_key": plan.attempt_key, "message": text})


def knowledge_concern(states: Mapping[str, IndexState]) -> Concern:
    """``KnowledgeReady`` over all indices: what does not serve first, then what serves an older state."""
    if not states:
        return not_configured()
    down = [state.concern for state in states.values() if not state.concern.ok]
    behind = [state.concern for state in states.values() if state.concern.reason == Reason.SERVING_PREVIOUS]
    shown = sorted(down, key=lambda concern: not concern.permanent) or behind
    if not shown:
        return ok()
    return Concern(shown[0].status, shown[0].reason, clip("; ".join(concern.message for concern in shown)))
