"""Copying documents: hostile names, links, limits, and the target after every kind of change."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from tenantplane_cli import ingest_copy
from tenantplane_cli.ingest_copy import SUFFIXES, Bounds, Copied, copy, scan
from tenantplane_cli.output import CliError
from tenantplane_dataplane.knowledge import text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    (made / "sub").mkdir(parents=True)
    (made / "a.md").write_text("# A")
    (made / "sub" / "b.txt").write_text("b")
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o755)
    return root / "acme-12345678" / "handbook"


def run(folder: Path, target: Path, **bounds: int) -> Copied:
    report = Copied()
    copy(folder, target, bounds=Bounds(**bounds), report=report)
    return report


def content(target: Path) -> dict[str, bytes]:
    return {str(path.relative_to(target)): path.read_bytes() for path in sorted(target.rglob("*")) if path.is_file()}


def test_endings_are_those_of_the_indexer() -> None:
    assert {ending.removeprefix(".") for ending in SUFFIXES} == set(text.SUFFIXES)


def test_copy_then_only_what_changed(folder: Path, target: Path) -> None:
    first = run(folder, target)
    assert (first.files, first.written, first.removed) == (2, 2, 0)
    assert content(target) == {"a.md": b"# A", "sub/b.txt": b"b"}
    before = {path: path.stat().st_ino for path in target.rglob("*.*")}
    (folder / "sub" / "b.txt").write_text("B")
    second = run(folder, target)
    assert (second.written, second.unchanged) == (1, 1)
    assert (target / "a.md").stat().st_ino == before[target / "a.md"]
    assert content(target)["sub/b.txt"] == b"B"


def test_removed_files_and_empty_folders_go(folder: Path, target: Path) -> None:
    run(folder, target)
    (folder / "sub" / "b.txt").unlink()
    (folder / "sub").rmdir()
    assert run(folder, target).removed == 1
    assert content(target) == {"a.md": b"# A"}
    assert not (target / "sub").exists()


def test_a_file_becomes_a_folder_and_back(folder: Path, target: Path) -> None:
    (folder / "x.md").mkdir()
    (folder / "x.md" / "y.md").write_text("y")
    run(folder, target)
    (folder / "x.md" / "y.md").unlink()
    (folder / "x.md").rmdir()
    (folder / "x.md").write_text("x")
    run(folder, target)
    assert content(target)["x.md"] == b"x"
    (folder / "x.md").unlink()
    (folder / "x.md").mkdir()
    (folder / "x.md" / "y.md").write_text("y")
    run(folder, target)
    assert content(target)["x.md/y.md"] == b"y"


def test_permission_bits_come_from_the_platforms_folder(folder: Path, target: Path) -> None:
    (folder / "a.md").chmod(0o600)
    old = os.umask(0o077)
    try:
        run(folder, target)
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in [target.parent, target, target / "sub"]} == {0o755}
    assert stat.S_IMODE((target / "a.md").stat().st_mode) == 0o644


def test_links_are_never_followed(folder: Path, target: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.md"
    secret.write_text("SECRET")
    (folder / "link.md").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path)
    report = run(folder, target)
    assert content(target) == {"a.md": b"# A", "sub/b.txt": b"b"}
    assert sorted(report.skipped) == [("link.md", "symbolic link"), ("out", "symbolic link")]


def test_a_file_swapped_for_a_link_after_listing_is_not_followed(
    folder: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.md"
    secret.write_text("SECRET")
    listed = scan(folder, Bounds(), Copied())
    monkeypatch.setattr(ingest_copy, "scan", lambda *_: listed)
    (folder / "a.md").unlink()
    (folder / "a.md").symlink_to(secret)
    with pytest.raises(CliError):
        run(folder, target)
    assert b"SECRET" not in b"".join(content(target).values())


def test_links_in_the_target_are_replaced_not_followed(folder: Path, target: Path, tmp_path: Path) -> None:
    victim, victims = tmp_path / "victim.md", tmp_path / "victims"
    victim.write_text("keep")
    victims.mkdir()
    target.mkdir(parents=True)
    (target / "a.md").symlink_to(victim)
    (target / "sub").symlink_to(victims)
    run(folder, target)
    assert victim.read_text() == "keep"
    assert list(victims.iterdir()) == []
    assert content(target) == {"a.md": b"# A", "sub/b.txt": b"b"}
    assert not (target / "a.md").is_symlink()


@pytest.mark.parametrize(
    "name", [b"..md.md", b"a\nb.md", b"\xff\xfe.md", b"\xe2\x80\xae.md", b"-rf.md", b"a\\b.md", b" .md", b"%2e%2e.md"]
)
def test_adversarial_names_are_copied_as_they_are_or_skipped(folder: Path, target: Path, name: bytes) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(b"x")
    report = run(folder, target)
    names = {os.fsencode(path.name) for path in target.iterdir()}
    if name.startswith(b"."):
        assert report.skipped
    else:
        assert name in names
    assert {path.name for path in target.parent.iterdir()} == {"handbook"}
    assert all(shown.isprintable() for shown, _ in report.skipped)


def test_hidden_and_unsupported_files_are_reported(folder: Path, target: Path) -> None:
    (folder / ".env").write_text("KEY=1")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.md").write_text("x")
    (folder / "logo.png").write_bytes(b"png")
    assert sorted(run(folder, target).skipped) == [
        (".env", "hidden"),
        (".git", "hidden"),
        ("logo.png", "unsupported type"),
    ]


def test_special_files_are_refused(folder: Path, target: Path) -> None:
    os.mkfifo(folder / "pipe.md")
    with pytest.raises(CliError, match=r"pipe\.md is no regular file"):
        run(folder, target)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [({"files": 1}, "more than 1 documents"), ({"file_bytes": 2}, r"a\.md is larger"), ({"total_bytes": 3}, "3 bytes")],
)
def test_limits_refuse_before_anything_changes(folder: Path, target: Path, bounds: dict[str, int], words: str) -> None:
    with pytest.raises(CliError, match=words):
        run(folder, target, **bounds)
    assert not target.exists()


def test_a_file_that_grows_while_it_is_read_does_not_pass(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = scan(folder, Bounds(), Copied())
    monkeypatch.setattr(ingest_copy, "scan", lambda *_: listed)
    (folder / "a.md").write_bytes(b"x" * 100)
    with pytest.raises(CliError, match=r"a\.md is larger than 50 bytes"):
        run(folder, target, file_bytes=50)
    assert "a.md" not in content(target)
    assert not [path for path in target.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("inside", ["target in folder", "folder in target", "same"])
def test_folder_and_target_must_not_overlap(folder: Path, tmp_path: Path, inside: str) -> None:
    source, target = {
        "target in folder": (folder, folder / "t"),
        "folder in target": (folder / "sub", folder),
        "same": (folder, folder),
    }[inside]
    with pytest.raises(CliError, match="inside one another"):
        run(source, target)
    assert (folder / "sub" / "b.txt").read_text() == "b"


def test_leftovers_of_a_killed_run_are_swept_and_not_in_the_way(folder: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for name in (b"a.md", b"gone.md"):
        (target / (ingest_copy._TEMPORARY + hashlib.sha256(name).hexdigest()[:24])).write_text("half")
    run(folder, target)
    assert sorted(content(target)) == ["a.md", "sub/b.txt"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, target: Path) -> None:
    with pytest.raises(CliError, match="nowhere"):
        run(tmp_path / "nowhere", target)
