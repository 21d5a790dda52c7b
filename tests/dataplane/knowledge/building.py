"""Builds real indices for tests: files on disk, extract, finalise, a store, a pointer."""

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tenantplane_api.runtime.documents import IndexPointer
from tenantplane_api.runtime.indexjob import EmbedderSpec, IndexJob, JobSource, decode_job, encode_job
from tenantplane_api.runtime.manifest import IndexManifest
from tenantplane_api.runtime.names import TenantID, TenantName
from tenantplane_dataplane.knowledge.extract import Extracted, extract
from tenantplane_dataplane.knowledge.finalise import finalise
from tenantplane_dataplane.knowledge.store import FileStore

ACME = TenantID("acme-0001")
BOREALIS = TenantID("borealis-0001")


@dataclass(frozen=True)
class Built:
    """One built index."""

    job: IndexJob
    store: FileStore
    inert: Path
    pointer: IndexPointer
    manifest: IndexManifest
    folder: Path
    extracted: Extracted


def make_job(
    folder: Path, *, tenant_id: TenantID = ACME, index: str = "handbook", kind: str = "directory", dimension: int = 384
) -> IndexJob:
    """A job over one folder."""
    source = {"name": "docs", "kind": kind, "path": str(folder.resolve())}
    job = IndexJob(
        tenant=TenantName(tenant_id.rsplit("-", 1)[0]),
        tenant_id=tenant_id,
        index=index,
        sources=(msgspec.convert(source, JobSource),),
        embedder=EmbedderSpec(dimension=dimension),
    )
    return decode_job(encode_job(job))


def write_files(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files below a folder and return it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def build(
    base: Path,
    files: dict[str, str | bytes] | Path,
    *,
    tenant_id: TenantID = ACME,
    index: str = "handbook",
    dimension: int = 384,
) -> Built:
    """Extract and finalise files, or an existing folder, into ``base/store``."""
    folder = files if isinstance(files, Path) else write_files(base / f"in-{tenant_id}-{index}", files)
    job = make_job(folder, tenant_id=tenant_id, index=index, dimension=dimension)
    number = len(list(base.glob("inert-*")))
    inert = base / f"inert-{number}"
    extracted = extract(job, inert)
    store = FileStore((base / "store").as_uri())
    published, _ = finalise(job, inert, store)
    manifest = published.manifest
    pointer = IndexPointer(
        name=index,
        generation=manifest.generation,
        manifest_sha256=published.manifest_sha256,
        prefix=published.prefix,
        embedder=manifest.embedder,
        dimension=manifest.dimension,
    )
    return Built(job, store, inert, pointer, manifest, store.root / tenant_id / index / manifest.generation, extracted)


def header_of(inert: Path) -> dict[str, object]:
    """The header of an inert folder, to be tampered with."""
    header: dict[str, object] = json.loads((inert / "header.json").read_bytes())
    return header


HANDBOOK: dict[str, str | bytes] = {
    "returns.md": """# Returns

## Deadlines

Customers send faulty goods back within 30 days. Frozen goods are never taken back.

## Refunds

Refunds are paid within 14 days by the account team in Hallmere. A refund above EUR 500 needs the signature of the shift
lead.
""",
    "prices.html": """<html><head><title>Price list</title></head><body><nav>Home Prices</nav>
<h1>Price list 2026</h1><table><tr><th>Service</th><th>Price</th></tr>
<tr><td>Pallet storage per week</td><td>EUR 7.80</td></tr>
<tr><td>Express handling</td><td>EUR 42</td></tr></table>
<dl><dt>Fuel surcharge</dt><dd>4.5 percent of the freight.</dd></dl><script>alert(1)</script></body></html>""",
    "faq.txt": """FREQUENTLY ASKED QUESTIONS

Q: What is the dress code in the office?
A: Clean and without holes.

Q: Who repairs the blast freezer?
A: Mirella Tosh of the plant team, extension 4471.
""",
}
