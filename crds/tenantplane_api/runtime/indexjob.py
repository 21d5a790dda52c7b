"""``IndexJob``: what the operator orders when it has an index built, and what the indexer obeys.

Guarantees that a decoded job is within its bounds, names only absolute input folders, and says which field is wrong
otherwise. It does not guarantee that the folders exist or are harmless: the indexer treats them as hostile.
"""

import posixpath
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from tenantplane_api.runtime import limits, names
from tenantplane_api.runtime.names import TenantID, TenantName

KIND_INDEX_JOB: Final = "IndexJob"
JOB_MAX_BYTES: Final = 64 * 1024
DIMENSION_MIN: Final = 16
DIMENSION_MAX: Final = 4096


def whole(pattern: str) -> str:
    """The pattern with its final ``$`` made strict: Python's ``$`` also matches before a final newline."""
    return pattern.removesuffix("$") + r"\Z"


EMBEDDER_PATTERN: Final = whole(r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")

Name = Annotated[str, Meta(pattern=whole(limits.DNS_LABEL_PATTERN), min_length=1, max_length=limits.NAME_MAX)]
TenantIDText = Annotated[TenantID, Meta(pattern=whole(limits.TENANT_ID_PATTERN), max_length=limits.TENANT_ID_MAX)]
Dimension = Annotated[int, Meta(ge=DIMENSION_MIN, le=DIMENSION_MAX)]
EmbedderName = Annotated[str, Meta(pattern=EMBEDDER_PATTERN)]

SourceKind = Literal["configMap", "directory"]


class JobPart(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all parts: immutable, camelCase on the wire, unknown fields ignored (version skew)."""


class EmbedderSpec(JobPart, frozen=True, kw_only=True):
    """Which embedder makes the vectors; ``dimension`` in components per vector."""

    name: EmbedderName = "hashing"
    dimension: Dimension = 384


class Chunking(JobPart, frozen=True, kw_only=True):
    """Sizes in estimated tokens. A chunk grows to ``target_tokens`` and never beyond ``max_tokens``."""

    target_tokens: Annotated[int, Meta(ge=32, le=4096)] = 300
    max_tokens: Annotated[int, Meta(ge=32, le=8192)] = 400
    overlap_tokens: Annotated[int, Meta(ge=0, le=1024)] = 40


class JobSource(JobPart, frozen=True, kw_only=True):
    """One input folder. ``configMap`` folders may have the layout in which a kubelet mounts a ConfigMap."""

    name: Name
    kind: SourceKind
    path: Annotated[str, Meta(min_length=1, max_length=4096)]


class BuildLimits(JobPart, frozen=True, kw_only=True):
    """What one build may read and make; bytes before decoding, over all sources together."""

    max_files: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    max_file_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 8 << 20
    max_total_bytes: Annotated[int, Meta(ge=1, le=1 << 36)] = 512 << 20
    max_chunks: Annotated[int, Meta(ge=1, le=5_000_000)] = 200_000
    max_depth: Annotated[int, Meta(ge=1, le=64)] = 16


class IndexJob(JobPart, frozen=True, kw_only=True):
    """One build of one index of one tenant."""

    api_version: str = names.RUNTIME_API_VERSION
    kind: str = KIND_INDEX_JOB
    tenant: Annotated[
        TenantName, Meta(pattern=whole(limits.DNS_LABEL_PATTERN), min_length=1, max_length=limits.NAME_MAX)
    ]
    tenant_id: TenantIDText = msgspec.field(name="tenantID")
    index: Name
    sources: Annotated[tuple[JobSource, ...], Meta(min_length=1, max_length=limits.SOURCES_MAX)]
    embedder: EmbedderSpec = EmbedderSpec()
    chunking: Chunking = Chunking()
    limits: BuildLimits = BuildLimits()


def encode_job(job: IndexJob) -> bytes:
    """Canonical JSON of a job: keys sorted, no white space."""
    return msgspec.json.encode(job, order="sorted")


def decode_job(data: bytes) -> IndexJob:
    """Parse and validate a job.

    Raises:
        ValueError: it does not parse or a field is out of bounds; the message names the field, never its value.
    """
    if len(data) > JOB_MAX_BYTES:
        raise ValueError(f"the index job is larger than {JOB_MAX_BYTES} bytes")
    try:
        job = msgspec.json.decode(data, type=IndexJob)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the index job is not valid: {error}") from None
    validate_job(job)
    return job


def validate_job(job: IndexJob) -> None:
    """Check what the types cannot say.

    Raises:
        ValueError: names the field and what it must be.
    """
    if job.api_version != names.RUNTIME_API_VERSION or job.kind != KIND_INDEX_JOB:
        raise ValueError(f"apiVersion and kind: expected {KIND_INDEX_JOB} of {names.RUNTIME_API_VERSION}")
    if job.chunking.max_tokens < job.chunking.target_tokens:
        raise ValueError("chunking.maxTokens: must not be less than chunking.targetTokens")
    if job.chunking.overlap_tokens * 2 > job.chunking.target_tokens:
        raise ValueError("chunking.overlapTokens: must be at most half of chunking.targetTokens")
    if job.limits.max_file_bytes > job.limits.max_total_bytes:
        raise ValueError("limits.maxFileBytes: must not be more than limits.maxTotalBytes")
    seen: set[str] = set()
    for position, source in enumerate(job.sources):
        if source.name in seen:
            raise ValueError(f"sources[{position}].name: is there twice")
        seen.add(source.name)
        if not source.path.startswith("/") or "\0" in source.path or posixpath.normpath(source.path) != source.path:
            raise ValueError(f"sources[{position}].path: must be an absolute, normalised path")
