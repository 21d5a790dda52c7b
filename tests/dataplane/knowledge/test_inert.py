"""Finalise believes nothing: every way to lie in the inert files is refused with a name."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.dataplane.knowledge.building import BOREALIS, HANDBOOK, Built, build, header_of, make_job

from tenantplane_dataplane.knowledge.errors import BadInputError
from tenantplane_dataplane.knowledge.inert import LINE_MAX, read_inert


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("inert"), HANDBOOK)


@pytest.fixture
def forged(built: Built, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built.inert, tmp_path / "forged"))


def edit_header(folder: Path, **fields: Any) -> None:
    (folder / "header.json").write_text(json.dumps(header_of(folder) | fields))


def edit_chunk(folder: Path, line: int, **fields: Any) -> None:
    lines = (folder / "chunks.jsonl").read_bytes().splitlines()
    lines[line] = json.dumps(json.loads(lines[line]) | fields).encode()
    (folder / "chunks.jsonl").write_bytes(b"\n".join(lines) + b"\n")


def edit_vectors(folder: Path, value: float) -> None:
    data = np.fromfile(folder / "vectors.f32", dtype="<f4")
    data[0] = value
    data.tofile(folder / "vectors.f32")


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def rewritten(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return rewritten


def as_link(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).rename(folder / "elsewhere")
        (folder / name).symlink_to(folder / "elsewhere")

    return change


def as_pipe(folder: Path) -> None:
    (folder / "chunks.jsonl").unlink()
    os.mkfifo(folder / "chunks.jsonl")


LIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "foreign tenant": (lambda f: edit_header(f, tenantID="borealis-0001"), "tenant_id: is not what the job says"),
    "foreign index": (lambda f: edit_header(f, index="other"), "index: is not what the job says"),
    "dimension": (lambda f: edit_header(f, dimension=128), "dimension: is not what the job says"),
    "embedder": (lambda f: edit_header(f, embedder="other"), "embedder: is not what the job says"),
    "format": (lambda f: edit_header(f, format=9), "format: is not what the job says"),
    "chunks beyond any limit": (lambda f: edit_header(f, chunks=10**12), "header.json"),
    "chunks beyond the job": (lambda f: edit_header(f, chunks=300_000), "limits.maxChunks"),
    "more chunks declared": (lambda f: edit_header(f, chunks=9), "must have 13824 bytes"),
    "documents": (lambda f: edit_header(f, documents=7), "documents: is not"),
    "tokens": (lambda f: edit_header(f, tokens=7), "tokens: is not"),
    "digest": (lambda f: edit_header(f, sourcesDigest="x"), "sourcesDigest"),
    "header is no JSON": (rewrite("header.json", lambda _: b"\x80\x04K\x01."), "header.json"),
    "header too large": (rewrite("header.json", lambda data: data + b" " * 70_000), "is larger than"),
    "header nests": (rewrite("header.json", lambda _: b"[" * 60_000), "header.json"),
    "vectors short": (rewrite("vectors.f32", lambda data: data[:-1]), "must have"),
    "vectors long": (rewrite("vectors.f32", lambda data: data + b"\0"), "must have"),
    "nan": (lambda f: edit_vectors(f, float("nan")), "not finite"),
    "infinity": (lambda f: edit_vectors(f, float("inf")), "not finite"),
    "length": (lambda f: edit_vectors(f, 3e38), "length is not 1"),
    "line too long": (rewrite("chunks.jsonl", lambda d: b" " * LINE_MAX + d), "line 1: is longer"),
    "line not ended": (rewrite("chunks.jsonl", lambda d: d[:-1]), "not ended"),
    "line missing": (rewrite("chunks.jsonl", lambda d: d[d.index(b"\n") + 1 :]), "ordinal|fewer"),
    "line doubled": (rewrite("chunks.jsonl", lambda d: d[: d.index(b"\n") + 1] + d), "twice|more lines"),
    "ordinal": (lambda f: edit_chunk(f, 0, ordinal=3), "count from 0"),
    "empty": (rewrite("chunks.jsonl", lambda _: b""), "fewer lines"),
    "link": (as_link("chunks.jsonl"), "plain file"),
    "vectors link": (as_link("vectors.f32"), "plain file"),
    "pipe": (as_pipe, "is not a plain file"),
    "path as id": (lambda f: edit_chunk(f, 0, document="docs/../../etc/passwd"), "not a safe id"),
    "foreign source": (lambda f: edit_chunk(f, 0, source="other"), "source"),
    "document of another source": (lambda f: edit_chunk(f, 0, document="other/faq.txt"), "source"),
    "newline in title": (lambda f: edit_chunk(f, 0, title="a\nb"), "unprintable"),
    "control in text": (lambda f: edit_chunk(f, 0, text="a\u0000b"), "control"),
    "surrogate in text": (rewrite("chunks.jsonl", lambda d: d.replace(b'"text":"', b'"text":"\\ud800', 1)), "line 1"),
    "other text": (lambda f: edit_chunk(f, 0, text="forged"), "apart|hash"),
    "negative offset": (lambda f: edit_chunk(f, 0, start=-1), "start"),
    "chunk id": (lambda f: edit_chunk(f, 0, id="0" * 16), "hash of tenant"),
    "id with newline": (lambda f: edit_chunk(f, 0, id="0" * 16 + "\n"), "line 1"),
    "tokens of a chunk": (lambda f: edit_chunk(f, 0, tokens=5), "estimate"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(lie: str, built: Built, forged: Path) -> None:
    change, message = LIES[lie]
    read_inert(forged, built.job)
    change(forged)
    with pytest.raises(BadInputError, match=message) as caught:
        read_inert(forged, built.job)
    assert caught.value.code == "invalid_extract"


def test_another_tenants_extract_is_refused(built: Built, tmp_path: Path) -> None:
    """Paired: the tenant's own job reads it, the other tenant's job does not, even with the header forged."""
    other = make_job(tmp_path, tenant_id=BOREALIS)
    assert read_inert(built.inert, built.job).header.chunks == built.manifest.counts.chunks
    with pytest.raises(BadInputError, match="tenant_id"):
        read_inert(built.inert, other)
    forged = Path(shutil.copytree(built.inert, tmp_path / "forged"))
    edit_header(forged, tenantID=BOREALIS)
    with pytest.raises(BadInputError, match="hash of tenant"):
        read_inert(forged, other)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    name=st.sampled_from(["header.json", "chunks.jsonl", "vectors.f32"]), at=st.floats(0, 1), data=st.binary(max_size=8)
)
def test_damage_is_refused_or_harmless(built: Built, tmp_path: Path, name: str, at: float, data: bytes) -> None:
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(built.inert, folder)
    content = (folder / name).read_bytes()
    position = int(at * len(content))
    (folder / name).write_bytes(content[:position] + data + content[position + len(data) :])
    try:
        inert = read_inert(folder, built.job)
    except BadInputError:
        return
    assert inert.vectors.shape == (len(inert.chunks), 384)
    assert np.isfinite(inert.vectors).all()
    msgspec.json.encode(inert.chunks)
