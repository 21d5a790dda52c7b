"""Which cluster is chosen: decided from environment and files alone, nothing is started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tenantplane_cli.cluster import ClusterUnavailable, open_cluster
from tenantplane_cli.cluster.choose import Choice, Context, Not, choices, docker_reason


def program(folder: Path, name: str, script: str = "exit 0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def context(env: dict[str, str], *, docker: str | None = "no engine", scheduler: bool = False) -> Context:
    return Context({"PATH": "/nonexistent", "HOME": "/nonexistent", **env}, scheduler, lambda _path: docker)


def possible(made: Context) -> list[str]:
    return [choice.name.split("=")[0].split(" (")[0] for choice in choices(made) if isinstance(choice, Choice)]


def reasons(made: Context) -> dict[str, str]:
    return {choice.name.split("=")[0]: choice.reason for choice in choices(made) if isinstance(choice, Not)}


BUILT = "control plane built from tools/controlplane"


def test_order_when_everything_is_there(tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
        program(tmp_path / "assets", name)
    program(tmp_path / "bin", "kind")
    env = {
        "TENANTPLANE_KUBECONFIG": str(tmp_path / "config"),
        "KUBEBUILDER_ASSETS": str(tmp_path / "assets"),
        "PATH": str(tmp_path / "bin"),
    }
    assert possible(context(env, docker=None)) == ["TENANTPLANE_KUBECONFIG", "KUBEBUILDER_ASSETS", "kind", BUILT]
    del env["TENANTPLANE_KUBECONFIG"]
    assert possible(context(env, docker=None)) == ["KUBEBUILDER_ASSETS", "kind", BUILT]
    assert possible(context(env)) == ["KUBEBUILDER_ASSETS", BUILT]  # kind without an engine
    assert possible(context({})) == [BUILT]


def test_assets_without_controller_manager_are_passed_over_and_told(tmp_path: Path) -> None:
    """What setup-envtest installs has no controller manager."""
    for name in ("etcd", "kube-apiserver", "kubectl"):
        program(tmp_path, name)
    made = context({"KUBEBUILDER_ASSETS": str(tmp_path)})
    assert possible(made) == [BUILT]
    assert "no kube-controller-manager" in reasons(made)["KUBEBUILDER_ASSETS"]
    assert "quota is not enforced" in reasons(made)["KUBEBUILDER_ASSETS"]


def test_assets_need_a_scheduler_only_when_one_is_wanted(tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
        program(tmp_path, name)
    env = {"KUBEBUILDER_ASSETS": str(tmp_path)}
    assert possible(context(env)) == ["KUBEBUILDER_ASSETS", BUILT]
    wanted = context(env, scheduler=True)
    assert possible(wanted) == [BUILT]
    assert reasons(wanted)["KUBEBUILDER_ASSETS"] == "no kube-scheduler there"


def test_nothing_to_be_had_tells_everything_that_was_tried(tmp_path: Path) -> None:
    env = {"KUBEBUILDER_ASSETS": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    work = tmp_path / "work"
    with pytest.raises(ClusterUnavailable) as caught:
        open_cluster(workdir=work, progress=lambda _line: None, context=context(env))
    names = [name for name, _reason in caught.value.tried]
    assert names == ["TENANTPLANE_KUBECONFIG", f"KUBEBUILDER_ASSETS={tmp_path}", "kind", BUILT]
    message = str(caught.value)
    assert "no etcd, kube-apiserver, kube-controller-manager there" in message
    assert "no `kind` on PATH" in message
    assert "no `go` on PATH" in message
    assert "tenantplane up" in message
    assert not work.exists()


def test_a_named_cluster_that_does_not_work_is_not_replaced(tmp_path: Path) -> None:
    env = {"TENANTPLANE_KUBECONFIG": str(tmp_path / "gone")}
    with pytest.raises(ClusterUnavailable) as caught:
        open_cluster(progress=lambda _line: None, context=context(env))
    assert len(caught.value.tried) == 1
    assert "unset it to let the others be tried" in str(caught.value)
    assert "No such file" in str(caught.value)


def test_workdir_with_files_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(ValueError, match="is not empty"):
        open_cluster(workdir=tmp_path, progress=lambda _line: None, context=context({}))
    assert (tmp_path / "mine").read_text() == "kept"


def test_docker_reason(tmp_path: Path) -> None:
    assert docker_reason(str(tmp_path)) == "no `docker` on PATH"
    program(tmp_path, "docker", 'echo "Cannot connect to the Docker daemon" >&2; exit 1')
    assert docker_reason(str(tmp_path)) == "no Docker engine answers: Cannot connect to the Docker daemon"
    program(tmp_path, "docker", "echo 29.1.0")
    assert docker_reason(str(tmp_path)) is None


def test_docker_that_hangs_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "docker")

    def hang(*_args: object, **_kwargs: object) -> None:
        raise subprocess.TimeoutExpired("docker", 20)

    monkeypatch.setattr(subprocess, "run", hang)
    assert "does not answer" in str(docker_reason(str(tmp_path)))
