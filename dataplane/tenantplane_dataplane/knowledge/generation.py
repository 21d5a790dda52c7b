"""One opened generation: verified, mapped, searchable. Immutable; unmapped when its last user lets go of it."""

from dataclasses import dataclass

from tenantplane_api.runtime.documents import IndexPointer
from tenantplane_api.runtime.manifest import IndexManifest
from tenantplane_api.runtime.names import TenantID
from tenantplane_dataplane.knowledge.bm25 import BM25
from tenantplane_dataplane.knowledge.chunkstore import ChunkStore
from tenantplane_dataplane.knowledge.embed import Embedder, embedder
from tenantplane_dataplane.knowledge.errors import IndexUnavailable
from tenantplane_dataplane.knowledge.store import FileStore
from tenantplane_dataplane.knowledge.vectors import VectorIndex


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """The parts of a generation; row numbers are the same in all of them."""

    name: str
    manifest: IndexManifest
    embedder: Embedder
    vectors: VectorIndex
    bm25: BM25
    chunks: ChunkStore

    @property
    def rows(self) -> int:
        """Number of chunks."""
        return self.manifest.counts.chunks

    @property
    def bytes(self) -> int:
        """Size of the mapped files: what the cache counts."""
        return self.manifest.total_bytes


def open_index(store: FileStore, tenant_id: TenantID, pointer: IndexPointer) -> OpenIndex:
    """Verify and map a generation. Blocking: reads every file once for its checksum.

    Raises:
        IndexUnavailable: it is absent, damaged, foreign, or needs an embedder that is not installed.
    """
    verified = store.open_verified(tenant_id, pointer)
    manifest = verified.manifest
    rows = manifest.counts.chunks
    try:
        return OpenIndex(
            name=pointer.name,
            manifest=manifest,
            embedder=embedder(manifest.embedder, manifest.dimension),
            vectors=VectorIndex(verified.folder, rows=rows, dimension=manifest.dimension),
            bm25=BM25(verified.folder, rows),
            chunks=ChunkStore(verified.folder, rows),
        )
    except (OSError, ValueError) as error:
        raise IndexUnavailable(f"index {pointer.name}: {error}") from error
