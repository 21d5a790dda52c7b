"""An operator, a data plane and two tenants, for tests of what only the whole can promise."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.operator.e2e.world import Operator, World, wait

from tenantplane_api.runtime import names
from tenantplane_cli.cluster.process import end, spawn

TENANTS = ("north", "south")
SECRETS = {"north": "The lighthouse code is amber-seventeen.", "south": "The harbour code is cobalt-thirty."}


@dataclass(frozen=True)
class Answer:
    """Status and body of a request; status 0 when nobody answered."""

    status: int
    body: dict[str, Any]

    @property
    def code(self) -> str:
        """``error.code``, empty when there is none."""
        return str(self.body.get("error", {}).get("code", ""))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """What tests see. Ports stay the same over restarts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.port, self.internal_port = _free_port(), _free_port()
        self.keys: dict[str, str] = {}
        self.operator: Operator | None = None
        self._dataplane: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Everything up, both tenants Ready and served."""
        self.start_operator()
        self.start_dataplane()
        for name in TENANTS:
            space = names.default_namespace(name)
            # An earlier module's namespace of this name may still be going away.
            wait(lambda space=space: self.world.get("Namespace", space) is None, f"{space} is gone", target=5)  # type: ignore[misc]
            self.world.create(
                "Namespace",
                space,
                metadata={"annotations": {names.ANNOTATION_ADOPTABLE_BY: name}},
            )
            self.world.create("ConfigMap", "notes", space, data={"code.md": SECRETS[name]})
            self.world.tenant(
                name,
                models=[{"alias": f"{name}-chat", "ref": {"name": "extractive"}}],
                knowledge=[{"name": "notes", "sources": [{"name": "notes", "configMap": {"name": "notes"}}]}],
                assistants=[{"name": f"{name}-desk", "knowledge": ["notes"]}],
            )
        for name in TENANTS:
            self.world.await_ready(name, target=6)
            self.keys[name] = self.world.key_text("default", names.default_namespace(name))
            wait(lambda name=name: self.models(name).status == 200, f"{name} is served", target=2)  # type: ignore[misc]

    def stop(self) -> None:
        """Everything down; the world sweeps."""
        if self._dataplane is not None:
            end(self._dataplane, grace=20)

    def start_operator(self) -> None:
        """A (new) operator that works."""
        self.operator = self.world.start(resyncSeconds=3600)

    def kill_operator(self) -> None:
        """SIGKILL."""
        assert self.operator is not None
        self.operator.kill()

    def start_dataplane(self, *, ready: bool = True) -> None:
        """A (new) data plane, by default one that answers."""
        account = self.world.cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_DATAPLANE)
        argv = [
            sys.executable, "-m", "tenantplane_dataplane.app.main", "serve",
            "--platform", str(self.world.platform_file()), "--kubeconfig", str(account.kubeconfig),
            "--port", str(self.port), "--internal-port", str(self.internal_port),
        ]  # fmt: skip
        with (self.world.folder / "dataplane.log").open("ab") as log:
            self._dataplane = spawn(argv, stdout=log)
        if ready:
            wait(lambda: self._get("/readyz").status == 200, "the data plane is ready", target=5)

    def kill_dataplane(self) -> None:
        """SIGKILL."""
        assert self._dataplane is not None
        with contextlib.suppress(ProcessLookupError):
            self._dataplane.send_signal(signal.SIGKILL)
        self._dataplane.wait(30)

    # Requests.

    def _get(self, path: str, *, key: str = "", body: object = None) -> Answer:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return Answer(answer.status, json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.load(error))
        except (OSError, ValueError):
            return Answer(0, {})

    def models(self, tenant: str, *, key: str | None = None) -> Answer:
        """``GET /v1/models`` with a tenant's key."""
        return self._get("/v1/models", key=key or self.keys[tenant])

    def ask(self, tenant: str, question: str, *, assistant: str | None = None) -> Answer:
        """``POST /chat`` with a tenant's key."""
        body = {"query": question, "assistant": assistant or f"{tenant}-desk"}
        return self._get("/chat", key=self.keys[tenant], body=body)

    def served(self) -> dict[str, object]:
        """The named comparator: what each tenant's callers get, without ids, times and key material."""
        out: dict[str, object] = {}
        for name in TENANTS:
            listed = self.models(name)
            answered = self.ask(name, f"What is the {'lighthouse' if name == 'north' else 'harbour'} code?")
            out[name] = {
                "models": (listed.status, listed.code, sorted(m["id"] for m in listed.body.get("data", []))),
                "chat": (answered.status, answered.code, answered.body.get("answer")),
            }
        return out
