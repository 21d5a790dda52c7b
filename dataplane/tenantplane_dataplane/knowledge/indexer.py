"""``tenantplane-indexer``: ``extract`` and ``finalise``, the two halves of an index build.

Prints one JSON line on standard output when it succeeded. Exit codes: 0 done; 2 the input is wrong and will be until it
is changed; 1 anything else, which may pass. On failure the last line of standard error is JSON with ``error`` (a stable
code) and ``message`` (names the file or field). Needs nothing from the environment.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tenantplane_api.runtime.indexjob import JOB_MAX_BYTES, IndexJob, decode_job
from tenantplane_dataplane.knowledge.errors import BadInputError

EXIT_OK = 0
EXIT_TRANSIENT = 1
EXIT_BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    # Before NumPy is loaded: threads of its own only cost memory here, and a sandbox may forbid them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        job = _job(options.job)
        result = _extract(job, options) if options.command == "extract" else _finalise(job, options)
    except BadInputError as error:
        return _fail(EXIT_BAD_INPUT, error.code, str(error))
    except OSError as error:
        return _fail(EXIT_TRANSIENT, "io_error", f"{error.strerror or error}: {error.filename or ''}")
    except MemoryError:
        return _fail(EXIT_TRANSIENT, "out_of_memory", "the build needs more memory than it may use")
    print(msgspec.json.encode(result, order="sorted").decode(), flush=True)
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tenantplane-indexer", description="Build a tenant's index.")
    commands = parser.add_subparsers(dest="command", required=True)
    extract = commands.add_parser("extract", help="sources to chunks and vectors, as inert data")
    extract.add_argument("--job", type=Path, required=True, help="the IndexJob, a JSON file")
    extract.add_argument("--out", type=Path, required=True, help="folder for the result; made if absent")
    extract.add_argument("--user", type=int, help="numeric user to become before the sources are read; root only")
    finalise = commands.add_parser("finalise", help="inert data to a generation in the store")
    finalise.add_argument("--job", type=Path, required=True, help="the IndexJob, a JSON file")
    finalise.add_argument("--input", type=Path, required=True, help="what extract wrote")
    finalise.add_argument("--store", required=True, help="file:///root of the store")
    return parser


def _job(path: Path) -> IndexJob:
    with path.open("rb") as file:
        data = file.read(JOB_MAX_BYTES + 1)
    try:
        return decode_job(data)
    except ValueError as error:
        raise BadInputError("invalid_job", str(error)) from None


def _extract(job: IndexJob, options: argparse.Namespace) -> dict[str, object]:
    if options.user is not None and (os.geteuid() != 0 or options.user <= 0):
        raise BadInputError("cannot_drop_rights", "--user: needs root, and another user than root")
    # Imported late: extract must not load FAISS, finalise must not load the parsers.
    from tenantplane_dataplane.knowledge.extract import extract

    found = extract(job, options.out, user=options.user)
    return {
        "counts": {"documents": found.documents, "chunks": found.chunks, "tokens": found.tokens},
        "skipped": found.skipped,
        "warnings": found.warnings,
    }


def _finalise(job: IndexJob, options: argparse.Namespace) -> dict[str, object]:
    from tenantplane_dataplane.knowledge.finalise import finalise
    from tenantplane_dataplane.knowledge.store import FileStore

    try:
        store = FileStore(options.store)
    except ValueError as error:
        raise BadInputError("invalid_store", str(error)) from None
    published, warnings = finalise(job, options.input, store)
    return {
        "generation": published.manifest.generation,
        "manifestSHA256": published.manifest_sha256,
        "prefix": published.prefix,
        "embedder": published.manifest.embedder,
        "dimension": published.manifest.dimension,
        "counts": published.manifest.counts,
        "bytes": published.manifest.total_bytes,
        "warnings": warnings,
    }


def _fail(code: int, error: str, message: str) -> int:
    print(msgspec.json.encode({"error": error, "message": message}).decode(), file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
