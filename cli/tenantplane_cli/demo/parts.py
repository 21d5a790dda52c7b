"""What the demo is made of: the examples, the Platform file, free ports, and programs as processes of their own.

Guarantees: every program is in a session of its own and dies with the demo, by SIGKILL of the demo too; each writes one
log file; private files are 0600 in a 0700 folder.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tenantplane_cli.cluster import toolchain
from tenantplane_cli.cluster.process import Process
from tenantplane_cli.output import CliError

REPOSITORY: Final = toolchain.REPOSITORY
EXAMPLES: Final = REPOSITORY / "examples"
CHART_VALUES: Final = REPOSITORY / "charts" / "tenantplane" / "values.yaml"
ENGINE_PORT: Final = 18080
PUBLIC_PORT: Final = 8080
HOST: Final = "127.0.0.1"
TENANTS: Final = ("acme", "borealis")


class DemoError(CliError):
    """Raise when a step did not come out as it must; ``log`` names the program whose log tells more."""

    def __init__(self, message: str, *, log: str | None = None) -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Question:
    """A question whose answer stands in one document of one tenant, and what would be a leak."""

    text: str
    answer: tuple[str, ...]
    document: str
    never: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """One fictional customer. ``tenant`` is the Tenant object, ``before`` what is applied ahead of it."""

    name: str
    before: list[dict[str, Any]]
    tenant: dict[str, Any]
    documents: Path
    questions: tuple[Question, ...]

    @property
    def tenant_id(self) -> str:
        return str(self.tenant["spec"]["tenantID"])

    @property
    def namespace(self) -> str:
        return f"tenant-{self.name}"

    @property
    def assistants(self) -> list[str]:
        return [item["name"] for item in self.tenant["spec"]["assistants"]]

    @property
    def aliases(self) -> list[str]:
        return [item["alias"] for item in self.tenant["spec"]["models"]]

    def directory(self, root: Path) -> Path:
        """Where the documents of its directory source belong."""
        for index in self.tenant["spec"]["knowledge"]:
            for source in index["sources"]:
                if "directory" in source:
                    return root / self.tenant_id / str(source["directory"]["path"])
        raise DemoError(f"examples/{self.name}/tenant.yaml has no directory source")


def example(name: str) -> Example:
    """Read one example. Raises DemoError when the checkout is not complete."""
    folder = EXAMPLES / name
    try:
        objects = list(yaml.safe_load_all((folder / "tenant.yaml").read_text(encoding="utf-8")))
        questions = yaml.safe_load((folder / "questions.yaml").read_text(encoding="utf-8"))
    except OSError as error:
        raise DemoError(f"{error.filename}: {error.strerror}: the demo needs a checkout of the repository") from None
    return Example(
        name=name,
        before=[item for item in objects if item["kind"] != "Tenant"],
        tenant=next(item for item in objects if item["kind"] == "Tenant"),
        documents=folder / "documents",
        questions=tuple(
            Question(q["question"], tuple(q["answer_contains"]), q["document"], tuple(q["never_contains"]))
            for q in questions
        ),
    )


def shared_model(base_url: str, served_name: str | None) -> dict[str, Any]:
    """The examples' shared ModelDeployment at the engine that runs now."""
    text = (EXAMPLES / "models" / "demo-engine.yaml").read_text(encoding="utf-8")
    model: dict[str, Any] = yaml.safe_load(text)
    model["spec"]["external"]["baseURL"] = base_url
    if served_name is not None:
        model["spec"]["model"]["servedName"] = served_name
    return model


def platform(*, documents: Path, store: Path, public_url: str, probe_port: int, hosts: list[dict[str, Any]]) -> str:
    """The Platform file: what the chart ships, and what is different on one machine."""
    values = yaml.safe_load(CHART_VALUES.read_text(encoding="utf-8"))["platform"]
    operator = values.setdefault("operator", {})
    operator["indexer"] = {"runner": "Subprocess"}
    operator["probePort"] = probe_port
    shared = values.setdefault("shared", {})
    shared["dataplane"] = {**shared.get("dataplane", {}), "publicURL": public_url}
    shared["externalHosts"] = hosts
    shared["knowledge"] = {"store": store.as_uri(), "directoryRoot": str(documents)}
    return yaml.safe_dump(values, sort_keys=False)


def free_port(preferred: int | None = None) -> int:
    """``preferred`` when nobody listens there, else any free one. Another program may take it before we do."""
    for wanted in ([preferred] if preferred else []) + [0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("no port of 127.0.0.1 is free")


def script(name: str) -> Path:
    """One of our programs beside this interpreter. Raises DemoError when it is not installed."""
    beside = Path(sys.executable).with_name(name)
    found = beside if beside.exists() else shutil.which(name)
    if found is None:
        raise DemoError(f"{name} is not installed: pip install 'tenantplane[operator,dataplane]', or `make setup`")
    return Path(found).absolute()


class Programs:
    """The processes of the demo, by name; ended in the opposite order of their start."""

    def __init__(self, logs: Path, workdir: Path) -> None:
        self._logs, self._workdir = logs, workdir
        self._running: dict[str, Process] = {}

    def start(self, name: str, argv: list[str | Path]) -> None:
        """Start a program with a clean environment."""
        keep = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
        env = {key: os.environ[key] for key in keep if key in os.environ}
        env |= {"HOME": str(self._workdir), "PYTHONUNBUFFERED": "1", "NO_PROXY": "*"}
        process = Process(name, argv, log=self._logs / f"{name}.log", env=env, cwd=self._workdir)
        self._running[name] = process
        process.start()

    def check(self) -> None:
        """Raise DemoError when a program ended that should run."""
        for name, process in self._running.items():
            if not process.running:
                raise DemoError(f"the {name} ended with exit code {process.returncode}", log=name)

    def tail(self, name: str) -> str:
        """Last lines of a program's log."""
        return self._running[name].log_tail(20) if name in self._running else "(it was not started)"

    def end(self) -> None:
        """End all of them. Idempotent."""
        for process in reversed(self._running.values()):
            process.terminate()
        for process in reversed(self._running.values()):
            process.end()
