"""Finalise: inert output → FAISS + BM25 + texts + manifest → store. Runs under the platform's identity.

Guarantees that nothing from extract is believed (``read_inert``) and that the same content always gives the same
generation; a generation that is already there and verifies is left alone.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tenantplane_api.runtime.indexjob import IndexJob
from tenantplane_api.runtime.manifest import Counts, FileEntry, Generation, IndexManifest, seal
from tenantplane_dataplane.knowledge.bm25 import build_bm25
from tenantplane_dataplane.knowledge.chunkstore import build_chunk_store
from tenantplane_dataplane.knowledge.inert import Inert, read_inert
from tenantplane_dataplane.knowledge.store import FileStore, Published
from tenantplane_dataplane.knowledge.tokenizer import terms
from tenantplane_dataplane.knowledge.vectors import build_vectors


def finalise(job: IndexJob, folder: Path, store: FileStore) -> tuple[Published, tuple[str, ...]]:
    """Validate an extract's output, build the index and publish it.

    Args:
        job: the same job that extract ran.
        folder: extract's output.
        store: where the generation goes.

    Returns:
        What was published, and the warnings of extract.

    Raises:
        BadInputError: the input is not what extract writes.
        OSError: the store cannot be written right now.
    """
    inert = read_inert(folder, job)

    def build(target: Path) -> Callable[[dict[str, FileEntry]], IndexManifest]:
        build_chunk_store(inert.chunks, target)
        build_bm25([terms(record.indexed_text) for record in inert.chunks], target)
        build_vectors(inert.vectors, target)
        return lambda files: _manifest(job, inert, files)

    return store.publish(job.tenant_id, job.index, build), inert.header.warnings


def _manifest(job: IndexJob, inert: Inert, files: dict[str, FileEntry]) -> IndexManifest:
    return seal(
        IndexManifest(
            tenant_id=job.tenant_id,
            index=job.index,
            generation=Generation("0" * 16),
            embedder=inert.header.embedder,
            dimension=inert.header.dimension,
            counts=Counts(documents=inert.header.documents, chunks=inert.header.chunks, tokens=inert.header.tokens),
            files=files,
            sources_digest=inert.header.sources_digest,
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )
