"""Extract: sources → text → chunks → vectors → inert output. Runs sandboxed, on a tenant's own bytes.

Guarantees the same output for the same input, job and version, bytes equal. Files of unknown types and files that do
not parse are passed over and named in the warnings; nothing readable at all is an error. It does not import FAISS and
writes nothing but the inert folder.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from tenantplane_api.runtime.indexjob import IndexJob
from tenantplane_dataplane.knowledge.blocks import ParsedDocument
from tenantplane_dataplane.knowledge.chunk import chunk
from tenantplane_dataplane.knowledge.embed import Embedder, Vectors, embedder
from tenantplane_dataplane.knowledge.errors import BadInputError
from tenantplane_dataplane.knowledge.html import UnparsableError
from tenantplane_dataplane.knowledge.inert import (
    INERT_FORMAT,
    TEXT_MAX,
    WARNINGS_MAX,
    ChunkRecord,
    InertHeader,
    content_id,
    is_unit,
    write_inert,
)
from tenantplane_dataplane.knowledge.sources import SourceFile, SourceWalker
from tenantplane_dataplane.knowledge.text import SUFFIXES, parse_document, preload_codecs
from tenantplane_dataplane.knowledge.tokenizer import estimate_tokens, terms

_BATCH: Final = 256
_WARNING_MAX: Final = 400


@dataclass(slots=True)
class Extracted:
    """What one run found, for the report: counts and what was passed over, as sentences."""

    documents: int = 0
    chunks: int = 0
    tokens: int = 0
    skipped: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Run:
    job: IndexJob
    walker: SourceWalker
    roots: dict[str, int]
    warnings: list[str] = field(default_factory=list)
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    documents: int = 0


def extract(job: IndexJob, out: Path, *, user: int | None = None) -> Extracted:
    """Run the job's extraction into the folder ``out``, which is made if absent.

    With ``user`` the process, which must be root's, opens the folders and then becomes that user for good, before it
    reads the first byte of a source.

    Raises:
        BadInputError: the input is refused, or nothing in it can be indexed.
        OSError: reading or writing failed for a reason that may pass.
    """
    try:
        model = embedder(job.embedder.name, job.embedder.dimension)
    except ValueError as error:
        raise BadInputError("unknown_embedder", str(error)) from None
    with ExitStack() as stack:
        sources = sorted(job.sources, key=lambda source: source.name)
        roots: dict[str, int] = {}
        for source in sources:
            roots[source.name] = SourceWalker.open_root(source)
            stack.callback(os.close, roots[source.name])
        out.mkdir(parents=True, exist_ok=True)
        target = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, target)
        if user is not None:
            os.fchown(target, user, user)
            preload_codecs()
            drop_rights(user)
        return _extract(_Run(job, SourceWalker(job.limits, SUFFIXES), roots), model, target)


def drop_rights(user: int) -> None:
    """Become ``user``, with the group of the same number and no others, for good.

    The process drops its own rights, because a user who cannot pass the folder of the interpreter could not start it.
    """
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _extract(run: _Run, model: Embedder, target: int) -> Extracted:
    job = run.job
    records: list[ChunkRecord] = []
    vectors: list[Vectors] = []
    for batch in _batches(_records(run)):
        made = model.embed([record.indexed_text for record in batch])
        records.extend(batch)
        vectors.append(made)
        if not all(map(is_unit, made)):
            raise RuntimeError(f"the embedder {job.embedder.name} made a vector that is not of length 1")
    skipped = run.walker.report.skipped or []
    warnings = _bounded([*run.warnings, *(f"{document}: skipped, {reason}" for document, reason in skipped)])
    if not records:
        raise BadInputError("no_documents", "; ".join(["nothing in the sources can be indexed", *warnings[:5]]))
    header = InertHeader(
        format=INERT_FORMAT,
        tenant_id=job.tenant_id,
        index=job.index,
        embedder=job.embedder.name,
        dimension=job.embedder.dimension,
        documents=run.documents,
        chunks=len(records),
        tokens=sum(record.tokens for record in records),
        sources_digest=run.digest.hexdigest(),
        warnings=warnings,
    )
    write_inert(target, header, records, np.concatenate(vectors))
    return Extracted(run.documents, header.chunks, header.tokens, len(skipped), warnings)


def _bounded(warnings: list[str]) -> tuple[str, ...]:
    shown = [warning[:_WARNING_MAX] for warning in warnings[:WARNINGS_MAX]]
    if len(warnings) > WARNINGS_MAX:
        shown.append(f"… and {len(warnings) - WARNINGS_MAX} more")
    return tuple(shown)


def _batches(records: Iterator[ChunkRecord]) -> Iterator[list[ChunkRecord]]:
    batch: list[ChunkRecord] = []
    for record in records:
        batch.append(record)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _records(run: _Run) -> Iterator[ChunkRecord]:
    total = 0
    seen: set[str] = set()
    for source in sorted(run.job.sources, key=lambda source: source.name):
        for file in run.walker.walk(source, run.roots[source.name]):
            run.digest.update(hashlib.sha256(file.document.encode()).digest() + hashlib.sha256(file.data).digest())
            try:
                parsed = parse_document(file.data, suffix=file.suffix, name=file.name)
            except UnparsableError as error:
                run.warnings.append(f"{file.document}: not read, {error}")
                continue
            count = 0
            for record in _document_records(run.job, file, parsed, seen):
                count += 1
                total += 1
                if total > run.job.limits.max_chunks:
                    maximum = run.job.limits.max_chunks
                    raise BadInputError("too_many_chunks", f"{file.document}: is beyond limits.maxChunks = {maximum}")
                yield record
            if count:
                run.documents += 1
            else:
                run.warnings.append(f"{file.document}: skipped, empty")


def _document_records(job: IndexJob, file: SourceFile, parsed: ParsedDocument, seen: set[str]) -> Iterator[ChunkRecord]:
    ordinal = 0
    for span in chunk(parsed, job.chunking):
        text = parsed.text[span.start : span.end][:TEXT_MAX]
        identifier = content_id(job, document=file.document, section=span.section, text=text)
        # A chunk without a single term (a rule, a row of dots) can never be found; one that repeats adds nothing.
        if identifier in seen or not terms(text):
            continue
        seen.add(identifier)
        yield ChunkRecord(
            id=identifier,
            document=file.document,
            source=file.source,
            title=parsed.title,
            section=span.section,
            ordinal=ordinal,
            start=span.start,
            end=span.start + len(text),
            tokens=estimate_tokens(text),
            text=text,
        )
        ordinal += 1
