"""Which Kubernetes API tests, demo and benchmarks get.

Order: `TENANTPLANE_KUBECONFIG`, `KUBEBUILDER_ASSETS`, kind (where a Docker engine answers), a control plane built from
`tools/controlplane`. Guarantees: the choice is told as text; a cluster that the user named but that does not work is an
error, never silently replaced; where nothing can be had the error says what was tried and why each failed; work
directories of owners that died are removed at the next start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenantplane_cli.cluster import toolchain
from tenantplane_cli.cluster import workdir as workdirs
from tenantplane_cli.cluster.controlplane import OwnControlPlane
from tenantplane_cli.cluster.existing import ExistingCluster, KindCluster
from tenantplane_cli.cluster.model import Cluster, ClusterError, ClusterUnavailable
from tenantplane_cli.cluster.toolchain import Progress, ToolError

KUBECONFIG_VARIABLE = "TENANTPLANE_KUBECONFIG"
ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"


@dataclass(frozen=True)
class Context:
    """What a choice depends on; tests inject their own. `docker` tells whether an engine answers (None: it does)."""

    env: Mapping[str, str]
    scheduler: bool
    docker: Callable[[str | None], str | None]

    def which(self, program: str) -> Path | None:
        found = shutil.which(program, path=self.env.get("PATH"))
        return None if found is None else Path(found).absolute()


@dataclass(frozen=True)
class Choice:
    """A way to a cluster that looks possible. `final`: the user named it, so its failure is not passed over."""

    name: str
    open: Callable[[Path, Progress], Cluster]
    final: bool = False


@dataclass(frozen=True)
class Not:
    """A way that is not there, and why."""

    name: str
    reason: str


def choices(context: Context) -> list[Choice | Not]:
    """Every way in the order of preference; looks at environment and files, starts nothing but `docker info`."""
    return [_named_kubeconfig(context), _assets(context), _kind(context), _built(context)]


def open_cluster(
    *, workdir: Path | None = None, progress: Progress = print, scheduler: bool = False, context: Context | None = None
) -> Cluster:
    """A Kubernetes API, ready for use; stop it with `stop` or by leaving its `with` block.

    workdir:   an empty or missing folder for keys, data and logs, deleted at stop; a temporary one when None.
    progress:  told what happens (a first build takes minutes).
    scheduler: also run kube-scheduler where the control plane is ours.

    Raises ClusterUnavailable (with everything that was tried) or ValueError (`workdir` holds files already).
    """
    context = context or Context(os.environ, scheduler, docker_reason)
    tried: list[tuple[str, str]] = []
    for choice in choices(context):
        if isinstance(choice, Not):
            tried.append((choice.name, choice.reason))
            continue
        folder = workdirs.make(workdir)
        try:
            cluster = choice.open(folder, progress)
        except (ToolError, ClusterError, OSError, subprocess.SubprocessError) as error:
            workdirs.remove(folder)
            tried.append((choice.name, str(error)))
            if choice.final:
                break
            progress(f"cluster: {choice.name}: {error}")
            continue
        except BaseException:
            workdirs.remove(folder)
            raise
        progress(f"cluster: {cluster.choice}")
        return cluster
    raise ClusterUnavailable(tried)


def _named_kubeconfig(context: Context) -> Choice | Not:
    value = context.env.get(KUBECONFIG_VARIABLE)
    if not value:
        return Not(KUBECONFIG_VARIABLE, "not set")
    path = Path(value).expanduser().absolute()

    def start(workdir: Path, progress: Progress) -> Cluster:
        return ExistingCluster(
            workdir,
            kubeconfig=path,
            choice=f"the cluster of {KUBECONFIG_VARIABLE} ({path}), left as it is at stop",
            kubectl=_kubectl(context, None, progress),
        )

    return Choice(f"{KUBECONFIG_VARIABLE}={value} (unset it to let the others be tried)", start, final=True)


def _assets(context: Context) -> Choice | Not:
    value = context.env.get(ASSETS_VARIABLE)
    if not value:
        return Not(ASSETS_VARIABLE, "not set")
    name, folder = f"{ASSETS_VARIABLE}={value}", Path(value).expanduser().absolute()
    wanted = ["etcd", "kube-apiserver", "kube-controller-manager", *(["kube-scheduler"] if context.scheduler else [])]
    missing = [program for program in wanted if not os.access(folder / program, os.X_OK)]
    if missing == ["kube-controller-manager"]:
        return Not(
            name,
            "no kube-controller-manager there: without it namespaces never finish deleting and quota is not enforced",
        )
    if missing:
        return Not(name, f"no {', '.join(missing)} there")

    def start(workdir: Path, progress: Progress) -> Cluster:
        binaries = {program: folder / program for program in wanted}
        own = folder / "kubectl"
        kubectl = _kubectl(context, own if os.access(own, os.X_OK) else None, progress)
        return _start_own(workdir, f"control plane of {ASSETS_VARIABLE} ({folder})", binaries, kubectl, context)

    return Choice(name, start)


def _kind(context: Context) -> Choice | Not:
    kind = context.which("kind")
    if kind is None:
        return Not("kind", "no `kind` on PATH")
    reason = context.docker(context.env.get("PATH"))
    if reason is not None:
        return Not("kind", reason)
    return Choice(
        "kind",
        lambda workdir, progress: KindCluster.create(workdir, kind=kind, kubectl=_kubectl(context, None, progress)),
    )


def _built(context: Context) -> Choice | Not:
    root = toolchain.cache_root(context.env)

    def start(workdir: Path, progress: Progress) -> Cluster:
        kubernetes = toolchain.ensure(toolchain.CONTROL_PLANE, progress, root=root, path=context.env.get("PATH"))
        etcd = toolchain.ensure(toolchain.ETCD, progress, root=root, path=context.env.get("PATH"))
        binaries = {name: kubernetes / name for name in toolchain.CONTROL_PLANE.binaries} | {"etcd": etcd / "etcd"}
        choice = f"control plane {toolchain.CONTROL_PLANE.version} built from tools/controlplane ({kubernetes.parent})"
        return _start_own(workdir, choice, binaries, lambda: kubernetes / "kubectl", context)

    return Choice("control plane built from tools/controlplane", start)


def _start_own(
    workdir: Path, choice: str, binaries: dict[str, Path], kubectl: Callable[[], Path], context: Context
) -> Cluster:
    cluster = OwnControlPlane(workdir, choice=choice, binaries=binaries, kubectl=kubectl, scheduler=context.scheduler)
    try:
        cluster.start()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _kubectl(context: Context, first: Path | None, progress: Progress) -> Callable[[], Path]:
    """Finds kubectl when it is first needed: beside the control plane, on PATH, in the cache, built."""
    found: list[Path] = [] if first is None else [first]

    def find() -> Path:
        if not found:
            found.append(context.which("kubectl") or _build_kubectl(context, progress))
        return found[0]

    return find


def _build_kubectl(context: Context, progress: Progress) -> Path:
    root = toolchain.cache_root(context.env)
    try:
        folder = toolchain.cached(toolchain.CONTROL_PLANE, root)
        if folder is None:
            folder = toolchain.ensure(toolchain.KUBECTL, progress, root=root, path=context.env.get("PATH"))
    except ToolError as error:
        raise ClusterError(f"no kubectl on PATH, and none can be built: {error}") from error
    return folder / "kubectl"


def docker_reason(path: str | None) -> str | None:
    """None when a Docker engine answers, else why not."""
    docker = shutil.which("docker", path=path)
    if docker is None:
        return "no `docker` on PATH"
    try:
        asked = subprocess.run(
            [docker, "info", "--format", "{{.ServerVersion}}"], capture_output=True, text=True, timeout=20, check=False
        )
    except subprocess.TimeoutExpired:
        return "the Docker engine does not answer within 20 s"
    if asked.returncode == 0 and asked.stdout.strip():
        return None
    lines: Sequence[str] = asked.stderr.strip().splitlines()
    return f"no Docker engine answers: {lines[-1] if lines else f'docker info ended with {asked.returncode}'}"
