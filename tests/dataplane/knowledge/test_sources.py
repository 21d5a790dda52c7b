"""The walker reads what is in the folder and nothing else."""

import os
from pathlib import Path

import msgspec
import pytest
from tests.dataplane.knowledge.building import write_files

from tenantplane_api.runtime.indexjob import BuildLimits, JobSource
from tenantplane_dataplane.knowledge.errors import BadInputError
from tenantplane_dataplane.knowledge.sources import SourceWalker

SUFFIXES = frozenset({"txt", "md"})


def walk(folder: Path, *, kind: str = "directory", limits: BuildLimits | None = None) -> tuple[list[str], SourceWalker]:
    source = msgspec.convert({"name": "docs", "kind": kind, "path": str(folder)}, JobSource)
    walker = SourceWalker(limits or BuildLimits(), SUFFIXES)
    root = walker.open_root(source)
    try:
        return [file.document for file in walker.walk(source, root)], walker
    finally:
        os.close(root)


def refused(folder: Path, *, kind: str = "directory", limits: BuildLimits | None = None) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        walk(folder, kind=kind, limits=limits)
    return caught.value


def test_order_and_skips(tmp_path: Path) -> None:
    write_files(
        tmp_path, {"b.md": "b", "a/z.txt": "z", "a.txt": "a", "x.png": b"\x89", ".git/config.txt": "s", "n": ""}
    )
    documents, walker = walk(tmp_path)
    assert documents == ["docs/a/z.txt", "docs/a.txt", "docs/b.md"]
    assert walker.report.skipped == [
        ("docs/.git", "hidden"),
        ("docs/n", "unsupported type"),
        ("docs/x.png", "unsupported type"),
    ]


def test_links_are_refused_where_ever_they_are(tmp_path: Path) -> None:
    secret = write_files(tmp_path / "outside", {"secret.txt": "s"})
    file_link = write_files(tmp_path / "one", {"a.txt": "a"})
    (file_link / "link.txt").symlink_to(secret / "secret.txt")
    folder_link = write_files(tmp_path / "two", {"a.txt": "a"})
    (folder_link / "sub").symlink_to(secret)
    (tmp_path / "root").symlink_to(secret)
    (tmp_path / "way").symlink_to(tmp_path)
    assert (refused(file_link).code, str(refused(file_link))[:13]) == ("symlink_refused", "docs/link.txt")
    assert (refused(folder_link).code, str(refused(folder_link))[:8]) == ("symlink_refused", "docs/sub")
    assert refused(tmp_path / "root").code == "symlink_refused"
    assert refused(tmp_path / "way" / "outside").code == "symlink_refused"
    assert walk(secret)[0] == ["docs/secret.txt"]


def test_a_folder_exchanged_for_a_link_between_look_and_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race itself: stat sees a folder or file, open meets a link. Nothing outside may be read."""
    secret = write_files(tmp_path / "outside", {"secret.txt": "s"})
    for name in ("sub", "file.txt"):
        root = write_files(tmp_path / f"root-{name}", {"sub/a.txt": "a"} if name == "sub" else {name: "a"})
        real_stat = os.stat

        def exchange(
            path: bytes, *, dir_fd: int, follow_symlinks: bool, root: Path = root, name: str = name
        ) -> os.stat_result:
            result = real_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)  # noqa: B023 -- called at once
            if path == name.encode():
                (root / name).rename(tmp_path / f"away-{name}")
                (root / name).symlink_to(secret if name == "sub" else secret / "secret.txt")
            return result

        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", exchange)
            assert refused(root).code == "symlink_refused"


def test_special_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert refused(tmp_path).code == "special_file_refused"


def test_limits_name_the_file(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.txt": "aaaa", "b.txt": "bbbbbbbb", "c/d/e.txt": ""})
    big = refused(tmp_path, limits=BuildLimits(max_file_bytes=7))
    assert (big.code, str(big)) == ("file_too_large", "docs/b.txt: is larger than 7 bytes")
    total = refused(tmp_path, limits=BuildLimits(max_file_bytes=8, max_total_bytes=11))
    assert (total.code, str(total)[:10]) == ("input_too_large", "docs/b.txt")
    assert refused(tmp_path, limits=BuildLimits(max_files=2)).code == "too_many_files"
    assert refused(tmp_path, limits=BuildLimits(max_depth=1)).code == "too_deep"
    assert len(walk(tmp_path, limits=BuildLimits(max_files=3, max_file_bytes=8, max_total_bytes=12))[0]) == 3


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path / "absent")
    assert (error.code, str(error)) == ("source_not_found", "sources[docs].path: does not exist")


def test_a_config_map_as_a_kubelet_mounts_it(tmp_path: Path) -> None:
    write_files(tmp_path, {"..2026_11_21/faq.md": "f", "..2026_11_21/plain": "p"})
    (tmp_path / "..data").symlink_to("..2026_11_21")
    (tmp_path / "faq.md").symlink_to("..data/faq.md")
    (tmp_path / "plain").symlink_to("..data/plain")
    assert walk(tmp_path, kind="configMap")[0] == ["docs/faq.md", "docs/plain"]
    assert refused(tmp_path).code == "symlink_refused"  # in a directory source the links are only links


@pytest.mark.parametrize("target", ["../outside", "/etc", "..", "sub"])
def test_a_forged_data_link_is_refused(tmp_path: Path, target: str) -> None:
    write_files(tmp_path, {"outside/secret.txt": "s", "root/sub/a.txt": "a"})
    (tmp_path / "root" / "..data").symlink_to(target)
    assert refused(tmp_path / "root", kind="configMap").code == "symlink_refused"


def test_names_equal_after_normalisation_stay_apart(tmp_path: Path) -> None:
    write_files(tmp_path, {"caf\u00e9.md": "1", "cafe\u0301.md": "2"})
    documents, _ = walk(tmp_path)
    assert len(set(documents)) == 2


def test_names_that_are_no_text(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/a\nb\xff.md", "wb") as file:  # noqa: PTH123 -- a name that Path cannot hold
        file.write(b"x")
    assert walk(tmp_path)[0] == ["docs/a%0Ab%FF.md"]
