"""Binaries built from the pinned Go modules in `tools/controlplane` into a cache outside the repository.

Guarantees: one build per key (module files + flags + platform), however many processes ask; a folder under its final
name is complete (built elsewhere, then renamed); progress with elapsed time while it lasts; a cached build needs no Go.
Does not guarantee: old keys being removed (delete the cache folder), or a build without network on a machine whose Go
module cache is cold.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tenantplane_cli.cluster.process import spawn

Progress = Callable[[str], None]

REPOSITORY = Path(__file__).resolve().parents[3]
MODULES = REPOSITORY / "tools" / "controlplane"
_REPORT_EVERY = 10.0  # seconds between progress lines of a running build


class ToolError(Exception):
    """A binary can neither be found nor built; the message says why and what to do."""


@dataclass(frozen=True)
class Component:
    """One Go module of `tools/controlplane` and what building its `tool` lines gives.

    `renamed` maps what `go install` calls a binary to the name that we want (etcd's main package is named `server`).
    """

    name: str
    title: str
    folder: Path
    binaries: tuple[str, ...]
    versioned_by: str
    expect: str
    packages: tuple[str, ...] = ("tool",)
    renamed: Mapping[str, str] = field(default_factory=dict)
    stamp: bool = False

    @property
    def version(self) -> str:
        """The pinned version (`v1.36.3`), read from go.mod so that it stands in one place only."""
        found = re.search(rf"^\s*{re.escape(self.versioned_by)} (v\S+)", self._go_mod(), re.MULTILINE)
        if found is None:
            raise ToolError(f"{self.folder / 'go.mod'} does not require {self.versioned_by}")
        return found[1]

    @property
    def go_version(self) -> tuple[int, int]:
        """The least Go release that go.mod asks for."""
        found = re.search(r"^go (\d+)\.(\d+)", self._go_mod(), re.MULTILINE)
        if found is None:
            raise ToolError(f"{self.folder / 'go.mod'} has no go directive")
        return int(found[1]), int(found[2])

    def flags(self) -> list[str]:
        linker = ["-s", "-w"]
        if self.stamp:
            # Without a stamp the server calls itself v0.0.0-master, and clients that compare versions break.
            major, minor = self.version.removeprefix("v").split(".")[:2]
            values = {"gitVersion": self.version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
            for name, value in values.items():
                linker += ["-X", f"k8s.io/component-base/version.{name}={value}"]
        return ["-trimpath", "-ldflags", " ".join(linker)]

    def key(self) -> str:
        digest = hashlib.sha256()
        parts = [self._read("go.mod"), self._read("go.sum")]
        parts += [" ".join([*self.flags(), *self.packages]).encode(), f"{sys.platform}/{platform.machine()}".encode()]
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()[:16]

    def _go_mod(self) -> str:
        return self._read("go.mod").decode()

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise ToolError(
                f"{self.folder} is missing: building needs a source checkout, not an installed package"
            ) from error


_KUBERNETES = "k8s.io/kubernetes"
CONTROL_PLANE = Component(
    name="kubernetes",
    title="the Kubernetes control plane",
    folder=MODULES,
    binaries=("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"),
    versioned_by=_KUBERNETES,
    expect="6 to 8 minutes on two cores, once",
    stamp=True,
)
KUBECTL = Component(
    name="kubectl",
    title="kubectl",
    folder=MODULES,
    binaries=("kubectl",),
    versioned_by=_KUBERNETES,
    expect="about 2 minutes on two cores, once",
    packages=(f"{_KUBERNETES}/cmd/kubectl",),
    stamp=True,
)
ETCD = Component(
    name="etcd",
    title="etcd",
    folder=MODULES / "etcd",
    binaries=("etcd",),
    versioned_by="go.etcd.io/etcd/server/v3",
    expect="about 1 minute on two cores, once",
    renamed={"server": "etcd"},
)
HELM = Component(
    name="helm",
    title="Helm",
    folder=MODULES / "helm",
    binaries=("helm",),
    versioned_by="helm.sh/helm/v4",
    expect="about 1.5 minutes on two cores, once",
)


def cache_root(env: Mapping[str, str] | None = None) -> Path:
    """`$XDG_CACHE_HOME/tenantplane/controlplane`; a relative XDG_CACHE_HOME is ignored, as its specification asks."""
    env = os.environ if env is None else env
    base = Path(env.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = Path(env.get("HOME") or Path.home()) / ".cache"
    return base / "tenantplane" / "controlplane"


def cached(component: Component, root: Path | None = None) -> Path | None:
    """The folder with the component's binaries, or None when it was not built yet."""
    folder = (root or cache_root()) / f"{component.name}-{component.key()}" / "bin"
    return folder if all(os.access(folder / name, os.X_OK) for name in component.binaries) else None


def ensure(component: Component, progress: Progress, *, root: Path | None = None, path: str | None = None) -> Path:
    """The folder with the component's binaries, built when it is not there.

    Raises ToolError when Go is missing or too old, or the build fails (with the compiler's last lines).
    """
    root = root or cache_root()
    if (found := cached(component, root)) is not None:
        return found
    go = find_go(component.go_version, path)
    root.mkdir(parents=True, exist_ok=True)
    name = f"{component.name}-{component.key()}"
    with _lock(root / f".{name}.lock", component, progress):
        if (found := cached(component, root)) is not None:  # another process has built it meanwhile
            return found
        building = root / f"{name}.building"
        shutil.rmtree(building, ignore_errors=True)  # left by a build that was killed
        try:
            _build(component, go, building / "bin", building / "build.log", progress)
            shutil.rmtree(root / name, ignore_errors=True)  # incomplete: `cached` refused it
            building.rename(root / name)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return root / name / "bin"


def find_go(least: tuple[int, int], path: str | None = None) -> Path:
    """The `go` program on PATH. Raises ToolError when there is none or it is older than `least`."""
    wanted = f"Go {least[0]}.{least[1]} or newer"
    found = shutil.which("go", path=path)
    if found is None:
        raise ToolError(f"{wanted} is needed to build it and there is no `go` on PATH (https://go.dev/dl)")
    # GOTOOLCHAIN=local: what is installed, not what Go would download for some module.
    asked = subprocess.run(
        [found, "env", "GOVERSION"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
        env={**os.environ, "GOTOOLCHAIN": "local"},
    )
    version = re.match(r"go(\d+)\.(\d+)", asked.stdout.strip())
    if version is None:
        said = (asked.stdout + asked.stderr).strip()
        raise ToolError(f"{wanted} is needed to build it and {found} does not tell its version: {said}")
    if (int(version[1]), int(version[2])) < least:
        raise ToolError(
            f"{wanted} is needed to build it and {found} is {asked.stdout.strip()}: install a newer one "
            "(https://go.dev/dl) and put it first on PATH"
        )
    return Path(found).resolve()


@contextlib.contextmanager
def _lock(path: Path, component: Component, progress: Progress) -> Iterator[None]:
    """One builder at a time, across processes. The kernel drops the lock of a process that dies."""
    with path.open("a") as file:
        started, reported = time.monotonic(), 0.0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - started
                if not reported or waited - reported >= _REPORT_EVERY:
                    reported = waited or 0.001
                    progress(f"{component.title}: another process is building it, waiting ({clock(waited)})")
                time.sleep(0.5)
        yield


def _build(component: Component, go: Path, target: Path, log_path: Path, progress: Progress) -> None:
    target.mkdir(parents=True)
    title = f"{component.title} {component.version}"
    progress(f"building {title} from source ({component.expect})")
    env = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(target), "GOTOOLCHAIN": "local"}
    for name in ("GOOS", "GOARCH", "GOWORK"):  # a cross-compiling or workspace shell must not change what we build
        env.pop(name, None)
    env["GOWORK"] = "off"
    started = time.monotonic()
    with log_path.open("wb") as log:
        process = spawn(
            [go, "install", "-v", *component.flags(), *component.packages], stdout=log, env=env, cwd=component.folder
        )
    reported = started
    try:
        while process.poll() is None:
            time.sleep(0.2)
            now = time.monotonic()
            if now - reported >= _REPORT_EVERY:
                reported = now
                progress(f"building {title}: {clock(now - started)}, {_stage(log_path)}")
    finally:
        if process.poll() is None:
            # `go` runs compilers as children: the whole session that we made for it has to go.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        last = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
        raise ToolError(
            f"building {title} failed (exit {process.returncode}) after {clock(time.monotonic() - started)}:\n{last}"
        )
    for built, wanted in component.renamed.items():
        (target / built).rename(target / wanted)
    missing = [name for name in component.binaries if not (target / name).is_file()]
    if missing:
        raise ToolError(f"building {title} gave no {', '.join(missing)}")
    progress(f"built {title} in {clock(time.monotonic() - started)}")


def _stage(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").splitlines()
    downloads = sum(line.startswith("go: downloading ") for line in lines)
    compiled = len(lines) - downloads
    if compiled == 0:
        return f"{downloads} modules fetched" if downloads else "reading the build cache"
    return f"{compiled} packages compiled, now {lines[-1].strip()}"


def clock(seconds: float) -> str:
    """`75.2` as `1m15s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
