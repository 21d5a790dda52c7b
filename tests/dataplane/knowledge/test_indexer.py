"""The program itself: its own process, an empty environment, a user with no rights, real documents."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tests.dataplane.knowledge.building import ACME, HANDBOOK, build, make_job, write_files

from tenantplane_api.runtime.indexjob import encode_job
from tenantplane_dataplane.knowledge.generation import open_index
from tenantplane_dataplane.knowledge.retrieve import RetrievalOptions, search

NOBODY = 65534
DEADLINE = 120


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The indexer as the operator runs it: no environment, its own session."""
    return subprocess.run(
        [sys.executable, "-m", "tenantplane_dataplane.knowledge.indexer", *arguments],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        start_new_session=True,
        check=False,
    )


def as_nobody() -> list[str]:
    """The operator's arguments for dropping rights, where there are any to drop."""
    return ["--user", str(NOBODY)] if os.geteuid() == 0 else []


def job_file(base: Path, folder: Path) -> Path:
    path = base / "job.json"
    path.write_bytes(encode_job(make_job(folder)))
    return path


def test_extract_and_finalise_as_processes(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", HANDBOOK | {"logo.png": b"\x89PNG", "broken.txt": b"a\0b", "empty.md": ""})
    job, out = job_file(tmp_path, folder), tmp_path / "out"
    extracted = run("extract", "--job", str(job), "--out", str(out), *as_nobody())
    assert extracted.returncode == 0, extracted.stderr
    report = json.loads(extracted.stdout)
    assert report["counts"]["documents"] == 3
    assert report["warnings"] == [
        "docs/broken.txt: not read, holds NUL bytes: not a text file",
        "docs/empty.md: skipped, empty",
        "docs/logo.png: skipped, unsupported type",
    ]
    if os.geteuid() == 0:
        assert {path.stat().st_uid for path in out.iterdir()} == {NOBODY}
    store = tmp_path / "store"
    finalised = run("finalise", "--job", str(job), "--input", str(out), "--store", store.as_uri())
    assert finalised.returncode == 0, finalised.stderr
    lines = finalised.stdout.splitlines()
    assert len(lines) == 1
    result = json.loads(lines[0])
    assert result["prefix"] == (store / ACME / "handbook" / result["generation"]).as_uri()
    assert result["warnings"] == report["warnings"]
    again = run("finalise", "--job", str(job), "--input", str(out), "--store", store.as_uri())
    assert json.loads(again.stdout) == result


def test_an_attempt_after_a_killed_one_starts_anew(tmp_path: Path) -> None:
    job = job_file(tmp_path, write_files(tmp_path / "in", HANDBOOK))
    out = write_files(tmp_path / "out", {"chunks.jsonl": "half a li"})
    assert run("extract", "--job", str(job), "--out", str(out)).returncode == 0
    assert run("extract", "--job", str(job), "--out", str(out)).returncode == 0
    done = run("finalise", "--job", str(job), "--input", str(out), "--store", (tmp_path / "store").as_uri())
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to drop")
def test_extract_reads_with_nobodys_rights(tmp_path: Path) -> None:
    """Paired: a private file in a source is refused to nobody and, with the guard away, would have been read."""
    folder = write_files(tmp_path / "in", {"private.txt": "Root's own text."})
    (folder / "private.txt").chmod(0o600)
    job = job_file(tmp_path, folder)
    refused = run("extract", "--job", str(job), "--out", str(tmp_path / "one"), *as_nobody())
    assert refused.returncode == 2
    assert json.loads(refused.stderr.splitlines()[-1])["error"] == "permission_denied"
    assert run("extract", "--job", str(job), "--out", str(tmp_path / "two")).returncode == 0


def test_extract_as_nobody_decodes_every_charset(tmp_path: Path) -> None:
    """After the rights are gone Python cannot load a codec any more, where it lies below a private folder."""
    page = '<meta charset="{}"><p>Plain text of this page.</p>'
    charsets = ("shift_jis", "koi8-r", "windows-1251", "gb18030", "big5", "euc-kr", "iso-8859-15")
    folder = write_files(tmp_path / "in", {f"{name}.html": page.format(name) for name in charsets})
    done = run("extract", "--job", str(job_file(tmp_path, folder)), "--out", str(tmp_path / "out"), *as_nobody())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["documents"] == len(charsets)


def test_extract_loads_no_faiss_and_finalise_no_parser(tmp_path: Path) -> None:
    code = (
        "import sys; from tenantplane_dataplane.knowledge import {}; "
        "loaded = {{m.split('.')[0] for m in sys.modules}}; "
        "print(sorted(loaded & {{'faiss', 'selectolax', 'markdown_it', 'langgraph'}}))"
    )
    loaded = [
        subprocess.run(
            [sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=True, timeout=DEADLINE
        ).stdout.strip()
        for module in ("extract", "finalise")
    ]
    assert loaded == ["['markdown_it', 'selectolax']", "['faiss']"]


@pytest.mark.parametrize(
    ("files", "code", "message"),
    [
        ({"a.png": b"x"}, "no_documents", "docs/a.png: skipped, unsupported type"),
        ({"a.txt": b"\0"}, "no_documents", "docs/a.txt: not read"),
        ({}, "no_documents", "nothing in the sources"),
        ({"link.txt": None}, "symlink_refused", "docs/link.txt"),
    ],
)
def test_bad_input_is_permanent_and_named(
    tmp_path: Path, files: dict[str, bytes | None], code: str, message: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in files.items():
        if content is None:
            (folder / name).symlink_to("/etc/passwd")
        else:
            (folder / name).write_bytes(content)
    done = run("extract", "--job", str(job_file(tmp_path, folder)), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stdout == ""
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["error"] == code
    assert message in error["message"]


def test_a_wrong_job_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"tenant": "acme", "tenantID": "Acme!", "index": "a", "sources": []}')
    done = run("extract", "--job", str(path), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["error"] == "invalid_job"
    assert "$.tenantID" in error["message"]


def test_a_store_that_cannot_be_written_is_transient(tmp_path: Path) -> None:
    built = build(tmp_path, HANDBOOK)
    (tmp_path / "file").write_text("in the way")
    job = tmp_path / "job.json"
    job.write_bytes(encode_job(built.job))
    done = run("finalise", "--job", str(job), "--input", str(built.inert), "--store", (tmp_path / "file").as_uri())
    assert done.returncode == 1
    assert json.loads(done.stderr.splitlines()[-1])["error"] == "io_error"


@pytest.mark.slow
def test_two_hundred_real_documents(tmp_path: Path) -> None:
    """The standard library's own docstrings, as a reference manual: one text per module."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    folder = tmp_path / "in"
    count = 0
    for path in sorted(stdlib.glob("*.py")) + sorted(stdlib.glob("[a-z]*/*.py")):
        if path.parts[-2] in {"test", "site-packages", "idlelib", "lib2to3", "encodings"}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        docstrings = [part.strip() for part in text.split('"""')[1::2] if len(part.split()) > 20]
        if docstrings:
            name = str(path.relative_to(stdlib)).replace("/", ".").removesuffix(".py")
            write_files(folder, {f"{name}.txt": f"{name}\n\n" + "\n\n".join(docstrings)})
            count += 1
    assert count >= 200
    built = build(tmp_path, folder)
    assert built.manifest.counts.documents == count
    index = open_index(built.store, ACME, built.pointer)
    for question, module in {
        "bisect insert item x in list a keeping it sorted": "bisect",
        "Return the median of numeric data": "statistics",
        "calculate the wait time for a token bucket of kubernetes ingress": None,
        "shell-style wildcards filename matching fnmatch": "fnmatch",
    }.items():
        found = [passage.document for passage in search(index, question, RetrievalOptions()).passages]
        assert (f"docs/{module}.txt" in found[:3]) if module else not found, question
