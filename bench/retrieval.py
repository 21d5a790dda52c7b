"""`make bench-retrieval`: from a folder of real documents to an index, and how long a question takes.

Method: `tenantplane-indexer extract` and `finalise` as processes of their own, once; then each round asks every
question once through `TenantIndexes.search` (hybrid: vectors, BM25, fusion, gate, MMR; files mapped, warm) and once
through a plain FAISS flat search over the same vectors, which is what a user would pick instead; rounds alternate.
Prints medians over rounds with their spread, and a last line `RESULT {…}`.

Environment: DOCS (folder; the example handbooks when unset), QUESTIONS (number, 100), ROUNDS (5).
"""

import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np

from tenantplane_api.runtime.documents import IndexPointer
from tenantplane_api.runtime.indexjob import EmbedderSpec, IndexJob, JobSource, encode_job
from tenantplane_api.runtime.names import TenantID
from tenantplane_api.version import __version__
from tenantplane_dataplane.knowledge.cache import IndexCache
from tenantplane_dataplane.knowledge.embed import embedder
from tenantplane_dataplane.knowledge.index import TenantIndexes
from tenantplane_dataplane.knowledge.retrieve import RetrievalOptions
from tenantplane_dataplane.knowledge.store import FileStore

TENANT = TenantID("bench-00000000")
ROOT = Path(__file__).resolve().parents[1]


def build(documents: Path, work: Path) -> tuple[dict[str, object], float, float]:
    """Extract and finalise; the answer of finalise and the seconds of both."""
    job = IndexJob(
        tenant="bench",
        tenant_id=TENANT,
        index="bench",
        embedder=EmbedderSpec(name="hashing", dimension=384),
        sources=(JobSource(name="docs", kind="directory", path=str(documents.resolve())),),
    )
    (work / "job.json").write_bytes(encode_job(job))
    program = [sys.executable, "-m", "tenantplane_dataplane.knowledge.indexer"]
    started = time.perf_counter()
    subprocess.run([*program, "extract", "--job", work / "job.json", "--out", work / "out"], check=True)
    extracted = time.perf_counter()
    command = [*program, "finalise", "--job", work / "job.json", "--input", work / "out", "--store", f"file://{work}/s"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return answer, extracted - started, time.perf_counter() - extracted


def make_questions(texts: list[str], count: int) -> list[str]:
    """Questions out of the documents' own words: six words from the middle of every n-th chunk."""
    step = max(1, len(texts) // count)
    questions = []
    for text in texts[::step][:count]:
        words = re.findall(r"[A-Za-z]{3,}", text)
        questions.append("What about " + " ".join(words[len(words) // 2 :][:6]) + "?")
    return questions


def quantiles(samples: list[list[float]]) -> dict[str, list[float]]:
    """Median over rounds of p50 and p95, with the lowest and highest round, in milliseconds."""
    out = {}
    for name, share in (("p50_ms", 0.50), ("p95_ms", 0.95)):
        rounds = [float(np.quantile(s, share)) * 1000 for s in samples]
        out[name] = [round(v, 3) for v in (statistics.median(rounds), min(rounds), max(rounds))]
    return out


async def measure(work: Path, answer: dict[str, object], count: int, rounds: int) -> dict[str, object]:
    """Query times of both ways."""
    cache = IndexCache(FileStore(f"file://{work}/s"), max_bytes=1 << 31)
    pointer = IndexPointer(
        name="bench",
        generation=str(answer["generation"]),
        manifest_sha256=str(answer["manifestSHA256"]),
        prefix=str(answer["prefix"]),
        embedder=str(answer["embedder"]),
        dimension=int(str(answer["dimension"])),
    )
    indexes = TenantIndexes(cache, TENANT, [pointer])
    opened = await cache.get(TENANT, pointer)
    questions = make_questions([opened.chunks[row].text for row in range(opened.rows)], count)
    model = embedder("hashing", 384)
    flat = faiss.IndexFlatIP(384)
    flat.add(model.embed([opened.chunks[row].text for row in range(opened.rows)]))
    options = RetrievalOptions()
    ours: list[list[float]] = []
    plain: list[list[float]] = []
    found = 0
    for _ in range(rounds):
        ours.append([])
        plain.append([])
        for question in questions:
            started = time.perf_counter()
            result = await indexes.search(["bench"], question, options)
            ours[-1].append(time.perf_counter() - started)
            found += bool(result.passages)
        for question in questions:
            started = time.perf_counter()
            flat.search(model.embed([question]), 6)
            plain[-1].append(time.perf_counter() - started)
    cache.close()
    return {
        "questions": len(questions),
        "rounds": rounds,
        "answered_share": round(found / rounds / len(questions), 3),
        "hybrid": quantiles(ours),
        "faiss_flat_only": quantiles(plain),
    }


def main() -> int:
    """Build, measure, print."""
    documents = Path(os.environ.get("DOCS", ROOT / "examples"))
    count, rounds = int(os.environ.get("QUESTIONS", "100")), int(os.environ.get("ROUNDS", "5"))
    with tempfile.TemporaryDirectory(prefix="bench-retrieval-") as folder:
        work = Path(folder)
        answer, extract, finalise = build(documents, work)
        size = sum(path.stat().st_size for path in (work / "s").rglob("*") if path.is_file())
        result: dict[str, object] = {
            "counts": answer["counts"],
            "extract_s": round(extract, 2),
            "finalise_s": round(finalise, 2),
            "index_mib": round(size / 2**20, 2),
            **asyncio.run(measure(work, answer, count, rounds)),
            "versions": {
                "tenantplane": __version__,
                "python": platform.python_version(),
                "faiss": faiss.__version__,
                "numpy": np.__version__,
            },
        }
    print(__doc__)
    for key, value in result.items():
        print(f"{key:18} {value}")
    print("p50 and p95 are [median, lowest, highest] over rounds")
    print("RESULT " + json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
