"""The inert format between extract and finalise: data that nobody has to trust.

A folder with three files: ``header.json``; ``chunks.jsonl``, one JSON object per line of at most 64 KiB;
``vectors.f32``, little-endian float32 in row order, of the shape that the header declares. There is nothing in it that
a reader could execute, follow or be made to allocate for: ``read_inert`` treats everything as hostile, checks every
length before it reads, every field against the job, and recomputes every id.
"""

import contextlib
import math
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec
import numpy as np
from msgspec import Meta

from tenantplane_api.runtime.indexjob import Dimension, EmbedderName, IndexJob, Name, TenantIDText
from tenantplane_api.runtime.manifest import Sha256
from tenantplane_dataplane.knowledge.embed import Vectors
from tenantplane_dataplane.knowledge.errors import BadInputError
from tenantplane_dataplane.knowledge.identity import (
    CHUNK_ID_LENGTH,
    DOCUMENT_ID_MAX,
    SECTION_DEPTH_MAX,
    SECTION_MAX,
    TITLE_MAX,
    chunk_id,
    is_clean_text,
    is_safe_document_id,
    one_line,
)
from tenantplane_dataplane.knowledge.tokenizer import estimate_tokens

HEADER_NAME: Final = "header.json"
CHUNKS_NAME: Final = "chunks.jsonl"
VECTORS_NAME: Final = "vectors.f32"
INERT_FORMAT: Final = 1
LINE_MAX: Final = 64 * 1024
HEADER_MAX: Final = 64 * 1024
TEXT_MAX: Final = 24 * 1024
WARNINGS_MAX: Final = 50
_NORM_TOLERANCE: Final = 1e-3

Title = Annotated[str, Meta(max_length=TITLE_MAX)]
Heading = Annotated[str, Meta(min_length=1, max_length=SECTION_MAX)]
Offset = Annotated[int, Meta(ge=0, le=1 << 40)]


class ChunkRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One chunk. ``start`` and ``end`` are character offsets in the document's plain text, ``tokens`` estimated."""

    id: Annotated[str, Meta(pattern=rf"^[0-9a-f]{{{CHUNK_ID_LENGTH}}}\Z")]
    document: Annotated[str, Meta(min_length=3, max_length=DOCUMENT_ID_MAX)]
    source: Name
    title: Title
    section: Annotated[tuple[Heading, ...], Meta(max_length=SECTION_DEPTH_MAX)]
    ordinal: Annotated[int, Meta(ge=0, le=1 << 30)]
    start: Offset
    end: Offset
    tokens: Annotated[int, Meta(ge=1, le=1 << 20)]
    text: Annotated[str, Meta(min_length=1, max_length=TEXT_MAX)]

    @property
    def indexed_text(self) -> str:
        """What is embedded and searched: title and headings lend their words to the text below them."""
        return "\n".join((self.title, " ".join(self.section), self.text))


class InertHeader(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``header.json``; ``warnings`` are for people."""

    format: int
    tenant_id: TenantIDText = msgspec.field(name="tenantID")
    index: Name
    embedder: EmbedderName
    dimension: Dimension
    documents: Offset
    chunks: Annotated[int, Meta(ge=1, le=5_000_000)]
    tokens: Offset
    sources_digest: Sha256
    warnings: Annotated[tuple[Annotated[str, Meta(max_length=400)], ...], Meta(max_length=WARNINGS_MAX + 1)] = ()


@dataclass(frozen=True, slots=True)
class Inert:
    """A validated build input; ``vectors`` has the shape (chunks, dimension)."""

    header: InertHeader
    chunks: tuple[ChunkRecord, ...]
    vectors: Vectors


def content_id(job: IndexJob, *, document: str, section: tuple[str, ...], text: str) -> str:
    """Id of a chunk of this job; the headings count as content, a price list repeats the same line under several."""
    return chunk_id(tenant_id=job.tenant_id, index=job.index, document=document, content="\n".join((*section, text)))


def write_inert(folder: int, header: InertHeader, chunks: Iterable[ChunkRecord], vectors: Vectors) -> None:
    """Write the three files into an open folder (a descriptor), the header last; ``OSError`` where that fails."""
    encoder = msgspec.json.Encoder()
    with _create(folder, CHUNKS_NAME) as file:
        for record in chunks:
            file.write(encoder.encode(record) + b"\n")
    with _create(folder, VECTORS_NAME) as file:
        file.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
    with _create(folder, HEADER_NAME) as file:
        file.write(encoder.encode(header))


def _create(folder: int, name: str) -> BinaryIO:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)  # what an attempt that was killed left behind
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(name, flags, 0o644, dir_fd=folder), "wb")


def read_inert(folder: Path, job: IndexJob) -> Inert:
    """Read and validate a folder that the job's extract is said to have written.

    Raises:
        BadInputError: anything is not as declared, as the job says, or within bounds; code ``invalid_extract``.
        OSError: reading failed for a reason that may pass.
    """
    header = _header(_read(folder, HEADER_NAME, HEADER_MAX), job)
    vectors = _vectors(folder, header)
    chunks = _chunks(folder, header, job)
    if sum(record.tokens for record in chunks) != header.tokens:
        raise _invalid(HEADER_NAME, "tokens: is not the sum over the chunks")
    if len({record.document for record in chunks}) != header.documents:
        raise _invalid(HEADER_NAME, "documents: is not the number of documents in the chunks")
    return Inert(header, chunks, vectors)


def _invalid(name: str, what: str) -> BadInputError:
    return BadInputError("invalid_extract", f"{name}: {what}")


def _open(folder: Path, name: str) -> int:
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _invalid(name, f"cannot be opened as a plain file ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _invalid(name, "is not a plain file")
    return descriptor


def _read(folder: Path, name: str, limit: int) -> bytes:
    with open(_open(folder, name), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise _invalid(name, f"is larger than {limit} bytes")
    return data


def _header(data: bytes, job: IndexJob) -> InertHeader:
    try:
        header = msgspec.json.decode(data, type=InertHeader)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _invalid(HEADER_NAME, str(error)) from None
    expected = {
        "format": INERT_FORMAT,
        "tenant_id": job.tenant_id,
        "index": job.index,
        "embedder": job.embedder.name,
        "dimension": job.embedder.dimension,
    }
    for field, value in expected.items():
        if getattr(header, field) != value:
            raise _invalid(HEADER_NAME, f"{field}: is not what the job says")
    if header.chunks > job.limits.max_chunks:
        raise _invalid(HEADER_NAME, f"chunks: more than limits.maxChunks = {job.limits.max_chunks}")
    return header


def _vectors(folder: Path, header: InertHeader) -> Vectors:
    size = header.chunks * header.dimension * 4
    descriptor = _open(folder, VECTORS_NAME)
    with open(descriptor, "rb") as file:  # noqa: PTH123 -- a descriptor, not a path
        if os.fstat(descriptor).st_size != size:
            raise _invalid(VECTORS_NAME, f"must have {size} bytes for the declared shape")
        data = file.read(size + 1)
    if len(data) != size:
        raise _invalid(VECTORS_NAME, "changed while it was read")
    vectors = np.frombuffer(data, dtype="<f4").reshape(header.chunks, header.dimension)
    if not np.isfinite(vectors).all():
        raise _invalid(VECTORS_NAME, "holds values that are not finite")
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
    if not (np.abs(lengths - 1.0) <= _NORM_TOLERANCE).all():
        raise _invalid(VECTORS_NAME, "holds vectors whose length is not 1")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _chunks(folder: Path, header: InertHeader, job: IndexJob) -> tuple[ChunkRecord, ...]:
    decoder = msgspec.json.Decoder(ChunkRecord)
    sources = {source.name for source in job.sources}
    seen: set[str] = set()
    finished: set[str] = set()
    chunks: list[ChunkRecord] = []
    with open(_open(folder, CHUNKS_NAME), "rb") as file:
        while line := file.readline(LINE_MAX + 1):
            where = f"{CHUNKS_NAME}, line {len(chunks) + 1}"
            if len(line) > LINE_MAX or not line.endswith(b"\n"):
                raise _invalid(where, f"is longer than {LINE_MAX} bytes or not ended")
            if len(chunks) == header.chunks:
                raise _invalid(CHUNKS_NAME, "has more lines than declared")
            try:
                record = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise _invalid(where, str(error)) from None
            if problem := _problem(record, job, sources):
                raise _invalid(where, problem)
            if record.id in seen:
                raise _invalid(where, "id: is there twice")
            seen.add(record.id)
            previous = chunks[-1] if chunks else None
            if previous is None or previous.document != record.document:
                if record.document in finished or record.ordinal != 0:
                    raise _invalid(where, "ordinal: a document's chunks must be together and count from 0")
                finished.add(record.document)
            elif record.ordinal != previous.ordinal + 1:
                raise _invalid(where, "ordinal: does not follow the one before")
            chunks.append(record)
    if len(chunks) != header.chunks:
        raise _invalid(CHUNKS_NAME, "has fewer lines than declared")
    return tuple(chunks)


def _problem(record: ChunkRecord, job: IndexJob, sources: set[str]) -> str | None:
    """What is wrong with a chunk by itself, or ``None``."""
    problem: str | None = None
    if record.source not in sources or not record.document.startswith(f"{record.source}/"):
        problem = "source: is none of the job's, or not the document's"
    elif not is_safe_document_id(record.document):
        problem = "document: is not a safe id"
    elif record.title != one_line(record.title, TITLE_MAX) or any(
        heading != one_line(heading, SECTION_MAX) for heading in record.section
    ):
        problem = "title, section: hold unprintable characters or odd white space"
    elif not is_clean_text(record.text) or not record.text.strip():
        problem = "text: is blank or holds control characters"
    elif record.end - record.start != len(record.text):
        problem = "start, end: are not as far apart as the text is long"
    elif record.tokens != estimate_tokens(record.text):
        problem = "tokens: is not the estimate for the text"
    elif record.id != content_id(job, document=record.document, section=record.section, text=record.text):
        problem = "id: is not the hash of tenant, index, document and content"
    return problem


def is_unit(vector: Vectors) -> bool:
    """True for a vector that ``read_inert`` will accept."""
    return math.isclose(float(np.sqrt(np.square(vector, dtype=np.float64).sum())), 1.0, abs_tol=_NORM_TOLERANCE)
