"""Builds: found in the cache, built once, complete or absent, and clear when they cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tenantplane_cli.cluster import ToolError
from tenantplane_cli.cluster.toolchain import (
    CONTROL_PLANE,
    ETCD,
    HELM,
    Component,
    cache_root,
    cached,
    clock,
    ensure,
    find_go,
)

from .test_choose import program

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="the builds themselves need Go")


def module(
    folder: Path, source: str = "package main\n\nfunc main() { println(word) }\n\nvar word string\n"
) -> Component:
    """A Go module with one program and no dependency: the real compiler, in a second."""
    folder.mkdir(parents=True)
    replaced = "replace (\n\texample.test/thing v1.2.3 => ./thing\n)\n"
    (folder / "go.mod").write_text(f"module example.test/main\n\ngo 1.21\n\n{replaced}")
    (folder / "go.sum").write_text("")
    (folder / "main.go").write_text(source)
    return Component(
        "tiny", "a tiny program", folder, ("tiny",), "example.test/thing", "at once", (".",), {"main": "tiny"}
    )


def test_missing_go_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"Go 1\.26 or newer is needed .* no `go` on PATH"):
        find_go(CONTROL_PLANE.go_version, str(tmp_path))


def test_older_go_is_named(tmp_path: Path) -> None:
    program(tmp_path, "go", "echo go1.21.3")
    with pytest.raises(ToolError, match=r"Go 1\.26 or newer is needed .*/go is go1\.21\.3"):
        find_go((1, 26), str(tmp_path))
    assert find_go((1, 21), str(tmp_path)) == tmp_path / "go"
    assert find_go((1, 9), str(tmp_path)) == tmp_path / "go"  # compared as numbers


def test_go_that_tells_no_version(tmp_path: Path) -> None:
    program(tmp_path, "go", "echo broken >&2; exit 1")
    with pytest.raises(ToolError, match="does not tell its version: broken"):
        find_go((1, 26), str(tmp_path))


def test_versions_come_from_the_modules() -> None:
    for component in (CONTROL_PLANE, ETCD, HELM):
        assert component.version.count(".") == 2
        assert component.go_version >= (1, 26)
        assert len(component.key()) == 16
    stamp = CONTROL_PLANE.flags()[-1]
    assert f"version.gitVersion={CONTROL_PLANE.version} " in stamp
    assert "gitMajor=1 " in stamp


def test_cache_root() -> None:
    assert cache_root({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path("/c/tenantplane/controlplane")
    assert cache_root({"XDG_CACHE_HOME": "rel", "HOME": "/h"}) == Path("/h/.cache/tenantplane/controlplane")
    assert cache_root({"HOME": "/h"}) == Path("/h/.cache/tenantplane/controlplane")


def test_key_follows_modules_and_flags(tmp_path: Path) -> None:
    component = module(tmp_path / "m")
    first = component.key()
    (tmp_path / "m" / "go.sum").write_text("x v1 h1:\n")
    assert component.key() != first


def test_without_a_checkout(tmp_path: Path) -> None:
    component = Component("x", "x", tmp_path / "none", ("x",), "m", "")
    with pytest.raises(ToolError, match="needs a source checkout"):
        ensure(component, lambda _line: None, root=tmp_path)


@needs_go
def test_concurrent_callers_build_once(tmp_path: Path) -> None:
    component, root = module(tmp_path / "m"), tmp_path / "cache"
    said: list[str] = []
    found: list[Path] = []
    callers = [
        threading.Thread(target=lambda: found.append(ensure(component, said.append, root=root))) for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert sum(line.startswith("built ") for line in said) == 1
    assert any("another process is building it" in line for line in said)
    done = subprocess.run([found[0] / "tiny"], capture_output=True, check=True)
    assert done.returncode == 0
    assert [entry.name for entry in root.iterdir() if not entry.name.startswith(".")] == [found[0].parent.name]
    assert ensure(component, said.append, root=root, path="/nonexistent") == found[0]  # cached: no Go needed


@needs_go
def test_failed_build_tells_the_compilers_words_and_leaves_nothing(tmp_path: Path) -> None:
    component, root = module(tmp_path / "m", "package main\n\nfunc main() { nonsense() }\n"), tmp_path / "cache"
    with pytest.raises(ToolError, match=r"building a tiny program v1\.2\.3 failed(.|\n)*undefined: nonsense"):
        ensure(component, lambda _line: None, root=root)
    assert [entry.name for entry in root.iterdir() if not entry.name.startswith(".")] == []
    assert cached(component, root) is None


@needs_go
def test_what_a_killed_build_left_is_replaced(tmp_path: Path) -> None:
    component, root = module(tmp_path / "m"), tmp_path / "cache"
    for name in (f"tiny-{component.key()}", f"tiny-{component.key()}.building"):
        (root / name / "bin").mkdir(parents=True)
        (root / name / "bin" / "junk").write_text("")
    folder = ensure(component, lambda _line: None, root=root)
    assert [entry.name for entry in folder.iterdir()] == ["tiny"]
    assert os.access(folder / "tiny", os.X_OK)


def test_clock() -> None:
    assert (clock(7.9), clock(75.2)) == ("7s", "1m15s")
