"""What a build may read: ConfigMaps as files, directories without a way out."""

import base64
import os
from pathlib import Path

import pytest

from tenantplane_operator.knowledge.inputs import InputError, copy_directory, resolve_directory, write_config_map


def test_a_config_map_becomes_files(tmp_path: Path) -> None:
    binary = base64.b64encode(b"\x00\xff").decode()
    config_map = {"metadata": {"name": "c"}, "data": {"a.txt": "é"}, "binaryData": {"b.bin": binary}}
    write_config_map(config_map, tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_bytes() == "é".encode()
    assert (tmp_path / "out" / "b.bin").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("key", ["../a", "a/b", "..", ".", ""])
def test_a_forged_key_is_no_path(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError):
        write_config_map({"metadata": {"name": "c"}, "data": {key: "x"}}, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_binary_data_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="base64"):
        write_config_map({"metadata": {"name": "c"}, "binaryData": {"b": "%"}}, tmp_path / "out")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two tenants' folders."""
    for tenant in ("acme-0001", "beta-0001"):
        (tmp_path / "root" / tenant / "docs" / "deep").mkdir(parents=True)
        (tmp_path / "root" / tenant / "docs" / "deep" / "a.md").write_text(tenant)
    return tmp_path / "root"


def test_the_tenants_own_folder_is_found(root: Path) -> None:
    assert resolve_directory(root, "acme-0001/docs/deep") == root / "acme-0001" / "docs" / "deep"


def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert resolve_directory(tmp_path / "link", "acme-0001/docs") == root / "acme-0001" / "docs"


@pytest.mark.parametrize("path", ["acme-0001/../beta-0001/docs", "acme-0001//docs", "acme-0001/./docs", "/etc", "a\0b"])
def test_malformed_paths_are_refused(root: Path, path: str) -> None:
    with pytest.raises(InputError):
        resolve_directory(root, path)


def test_links_on_the_way_are_refused(root: Path) -> None:
    (root / "acme-0001" / "out").symlink_to(root / "beta-0001")
    (root / "thief-0001").symlink_to(root / "beta-0001")
    for path in ("acme-0001/out", "acme-0001/out/docs", "thief-0001/docs"):
        with pytest.raises(InputError, match="symbolic links"):
            resolve_directory(root, path)


def test_what_is_not_there_or_no_folder_is_told_without_the_machines_path(root: Path) -> None:
    (root / "acme-0001" / "file").write_text("x")
    for path in ("acme-0001/none", "acme-0001/file"):
        with pytest.raises(InputError) as refused:
            resolve_directory(root, path)
        assert str(root) not in str(refused.value)


def test_a_tree_is_copied_within_bounds(root: Path, tmp_path: Path) -> None:
    source = root / "acme-0001" / "docs"
    copy_directory(source, tmp_path / "copy", max_files=10, max_bytes=1000)
    assert (tmp_path / "copy" / "deep" / "a.md").read_text() == "acme-0001"
    with pytest.raises(InputError, match="files"):
        copy_directory(source, tmp_path / "copy2", max_files=0, max_bytes=1000)
    with pytest.raises(InputError, match="maxTotalBytes"):
        copy_directory(source, tmp_path / "copy3", max_files=10, max_bytes=3)


def test_links_and_special_files_inside_are_refused(root: Path, tmp_path: Path) -> None:
    source = root / "acme-0001" / "docs"
    (source / "link.md").symlink_to(root / "beta-0001" / "docs" / "deep" / "a.md")
    with pytest.raises(InputError, match="link"):
        copy_directory(source, tmp_path / "one", max_files=10, max_bytes=1000)
    (source / "link.md").unlink()
    (source / "folder").symlink_to(root / "beta-0001" / "docs")
    with pytest.raises(InputError, match="link"):
        copy_directory(source, tmp_path / "two", max_files=10, max_bytes=1000)
    (source / "folder").unlink()
    os.mkfifo(source / "pipe")
    with pytest.raises(InputError, match="no plain file"):
        copy_directory(source, tmp_path / "three", max_files=10, max_bytes=1000)
