"""``IndexManifest``: the description of one immutable generation of one index, and how to believe it.

A generation is content-addressed: its name is a hash of everything in the manifest that is not volatile, the files'
checksums included. The operator publishes the SHA-256 of ``manifest.json`` itself, so whoever holds the pointer can
verify the whole folder. Guarantees that a verified manifest belongs to the tenant, index and generation asked for;
says nothing about the files beside it until their checksums were compared.
"""

import hashlib
from typing import Annotated, Final, Literal, NewType

import msgspec
from msgspec import Meta

from tenantplane_api.runtime import names
from tenantplane_api.runtime.indexjob import Dimension, EmbedderName, JobPart, Name, TenantIDText
from tenantplane_api.runtime.names import TenantID

Generation = NewType("Generation", str)
"""First 16 hexadecimal digits of the SHA-256 over a manifest's content without ``generation`` and ``builtAt``."""

KIND_INDEX_MANIFEST: Final = "IndexManifest"
MANIFEST_NAME: Final = "manifest.json"
MANIFEST_MAX_BYTES: Final = 64 * 1024
INDEX_FORMAT: Final = 1
"""Layout and meaning of the files, the tokenizer included. A reader refuses what it does not know."""
GENERATION_PATTERN: Final = r"^[0-9a-f]{16}\Z"
SHA256_PATTERN: Final = r"^[0-9a-f]{64}\Z"

_VOLATILE: Final = frozenset({"generation", "builtAt"})

Sha256 = Annotated[str, Meta(pattern=SHA256_PATTERN)]
FileName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}\Z")]
Count = Annotated[int, Meta(ge=0, le=1 << 40)]


class ManifestError(ValueError):
    """Raise when a manifest must not be used; the message says which field disagrees."""


class Counts(JobPart, frozen=True, kw_only=True):
    """How much is in the generation; ``tokens`` are estimated."""

    documents: Count
    chunks: Annotated[int, Meta(ge=1, le=5_000_000)]
    tokens: Count


class FileEntry(JobPart, frozen=True, kw_only=True):
    """One file of the generation."""

    sha256: Sha256
    bytes: Count


class IndexManifest(JobPart, frozen=True, kw_only=True):
    """``manifest.json``. ``sources_digest`` is a hash of the names and contents of all documents that were read."""

    api_version: str = names.RUNTIME_API_VERSION
    kind: str = KIND_INDEX_MANIFEST
    format: int = INDEX_FORMAT
    tenant_id: TenantIDText = msgspec.field(name="tenantID")
    index: Name
    generation: Annotated[Generation, Meta(pattern=GENERATION_PATTERN)]
    embedder: EmbedderName
    dimension: Dimension
    metric: Literal["innerProduct"] = "innerProduct"
    counts: Counts
    files: Annotated[dict[FileName, FileEntry], Meta(min_length=1, max_length=32)]
    sources_digest: Sha256
    built_at: Annotated[str, Meta(max_length=40)] = ""

    @property
    def total_bytes(self) -> int:
        """Size of all files together, in bytes."""
        return sum(entry.bytes for entry in self.files.values())


def _address(content: dict[str, object]) -> Generation:
    stable = {key: value for key, value in content.items() if key not in _VOLATILE}
    return Generation(hashlib.sha256(msgspec.json.encode(stable, order="sorted")).hexdigest()[:16])


def generation_of(manifest: IndexManifest) -> Generation:
    """The content address that this manifest must carry; ``generation`` and ``built_at`` do not count."""
    return _address(msgspec.to_builtins(manifest))


def seal(manifest: IndexManifest) -> IndexManifest:
    """The same manifest with its own content address filled in."""
    return msgspec.structs.replace(manifest, generation=generation_of(manifest))


def encode_manifest(manifest: IndexManifest) -> bytes:
    """Canonical JSON: keys sorted, no white space."""
    return msgspec.json.encode(manifest, order="sorted")


def manifest_sha256(data: bytes) -> str:
    """What a pointer names: SHA-256 of the bytes of ``manifest.json``, lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def decode_manifest(data: bytes) -> IndexManifest:
    """Parse a manifest and check it against itself.

    Raises:
        ManifestError: it does not parse, a field is out of bounds, its format is unknown, or its content does not
            hash to its generation.
    """
    if len(data) > MANIFEST_MAX_BYTES:
        raise ManifestError(f"the manifest is larger than {MANIFEST_MAX_BYTES} bytes")
    try:
        manifest = msgspec.json.decode(data, type=IndexManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"the manifest is not valid: {error}") from None
    if manifest.api_version != names.RUNTIME_API_VERSION or manifest.kind != KIND_INDEX_MANIFEST:
        raise ManifestError(f"apiVersion and kind: expected {KIND_INDEX_MANIFEST} of {names.RUNTIME_API_VERSION}")
    if manifest.format != INDEX_FORMAT:
        raise ManifestError(f"format: this version reads {INDEX_FORMAT}; rebuild the index")
    # Over what was read, not over what this version knows of it: a newer writer's extra fields count too.
    if manifest.generation != _address(msgspec.json.decode(data)):
        raise ManifestError("generation: is not the hash of the manifest's content")
    return manifest


def verify_manifest(
    data: bytes,
    *,
    tenant_id: TenantID,
    index: str,
    generation: str,
    sha256: str | None = None,
) -> IndexManifest:
    """Parse a manifest and require that it is the one asked for.

    Args:
        data: bytes of ``manifest.json``.
        tenant_id, index, generation: what the caller is entitled to.
        sha256: what the pointer names; ``None`` only where no pointer exists yet (right after a build).

    Raises:
        ManifestError: anything disagrees; another tenant's manifest is never returned.
    """
    if sha256 is not None and manifest_sha256(data) != sha256:
        raise ManifestError("manifest.json: its SHA-256 is not the one that the pointer names")
    manifest = decode_manifest(data)
    if manifest.tenant_id != tenant_id:
        raise ManifestError("tenantID: the manifest belongs to another tenant")
    if manifest.index != index:
        raise ManifestError("index: the manifest belongs to another index")
    if manifest.generation != generation:
        raise ManifestError("generation: the manifest belongs to another generation")
    return manifest
