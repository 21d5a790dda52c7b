"""A whole platform for end-to-end tests: a real API server with the chart, and the operator as its own process.

The operator runs under its own ServiceAccount's token; tests act as the cluster's administrator or as personas. Every
wait has a deadline of ten times its target and returns what it took.
"""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tenantplane_api.runtime import documents, names
from tenantplane_cli.cluster import Cluster
from tenantplane_cli.cluster.process import end, spawn
from tenantplane_cli.rest import Rest

T = TypeVar("T")
Object = dict[str, Any]

_JSON, _MERGE = "application/json", "application/merge-patch+json"
_GROUP = f"/apis/{names.API_VERSION}"
PATHS = {
    "Tenant": f"{_GROUP}/tenants",
    "APIKey": f"{_GROUP}/namespaces/{{ns}}/apikeys",
    "ModelDeployment": f"{_GROUP}/namespaces/{{ns}}/modeldeployments",
    "Namespace": "/api/v1/namespaces",
    "Secret": "/api/v1/namespaces/{ns}/secrets",
    "ConfigMap": "/api/v1/namespaces/{ns}/configmaps",
    "ServiceAccount": "/api/v1/namespaces/{ns}/serviceaccounts",
    "ResourceQuota": "/api/v1/namespaces/{ns}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{ns}/limitranges",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/rolebindings",
}
CHILDREN = ("ResourceQuota", "LimitRange", "NetworkPolicy", "RoleBinding", "ServiceAccount", "ConfigMap", "APIKey")
API_VERSIONS = {"Tenant": names.API_VERSION, "APIKey": names.API_VERSION, "ModelDeployment": names.API_VERSION}
PLATFORM: Object = {
    "operator": {
        "indexer": {"runner": "Subprocess", "timeoutSeconds": 120},
        # Short, so that what takes over from a killed operator need not wait for long.
        "leaderElection": {"leaseSeconds": 6, "renewSeconds": 4, "retrySeconds": 0.5},
        # Tests delete what they made; the hold has tests of its own.
        "massDeletion": {"floor": 10_000},
        "plans": {
            "default": {
                "quota": {"requests.cpu": "4000m", "pods": "20", "secrets": "50", "configmaps": "50"},
                "containerLimits": {"default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}},
                "limits": {"requests": {"perMinute": 600}},
                "models": [{"alias": "default", "ref": {"name": "extractive"}}],
            },
            "large": {"limits": {"requests": {"perMinute": 6000}, "concurrency": 64}},
        },
    },
    "shared": {"externalHosts": [{"host": "*"}, {"host": "127.0.0.1", "http": True, "private": True}]},
}


class TimeoutFailure(AssertionError):  # noqa: N818 -- a failed test, not an error
    """A state did not come."""


def wait(probe: Callable[[], T], what: str, *, target: float = 1.0) -> tuple[T, float]:
    """Wait until ``probe`` gives something true; that and the seconds it took. Deadline: 10 x ``target``."""
    started = time.monotonic()
    while True:
        found = probe()
        took = time.monotonic() - started
        if found:
            return found, took
        if took > 10 * target:
            raise TimeoutFailure(f"after {took:.1f} s: {what}")
        time.sleep(0.05)


class Operator:
    """The operator's process."""

    def __init__(self, argv: list[str], log: Path) -> None:
        self.argv = argv
        self.log = log
        with log.open("ab") as output:
            self.process = spawn(argv, stdout=output, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        self._offset = 0

    def lines(self) -> list[Object]:
        """The log's JSON lines."""
        out = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                out.append(json.loads(line))
        return out

    @property
    def port(self) -> int:
        """Port of the probes."""
        ports = [line["port"] for line in self.lines() if line.get("message") == "probes are served"]
        return int(ports[-1]) if ports else 0

    def get(self, path: str) -> tuple[int, str]:
        """Ask the probes; status 0 when they do not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        """True when it works."""
        if self.process.poll() is not None:
            raise AssertionError(f"the operator ended with {self.process.returncode}: {self.tail()}")
        return self.port > 0 and self.get("/readyz")[0] == 200

    def metric(self, name: str) -> dict[str, float]:
        """Values of a metric by its last label's value (empty without labels), summed over the other labels."""
        out: dict[str, float] = {}
        for line in self.get("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == f"tenantplane_operator_{name}":
                key = head.rpartition('="')[2].rstrip('"}') if "{" in head else ""
                out[key] = out.get(key, 0) + float(value)
        return out

    def idle(self) -> bool:
        """True when no work waits or runs."""
        return self.metric("queue_depth") == {"": 0} and self.metric("in_flight") == {"": 0}

    def tail(self) -> str:
        """The end of the log."""
        return self.log.read_text(encoding="utf-8")[-3000:]

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        end(self.process, grace=40)
        return int(self.process.returncode)


class World:
    """What tests see."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.admin = Rest(cluster.kubeconfig)
        self.documents = folder / "docs"
        self.store = folder / "store"
        self._started = 0
        self.operators: list[Operator] = []

    # The operator.

    def platform_file(self, **operator: Any) -> Path:
        """A Platform file; ``operator`` overrides fields of that section."""
        platform = json.loads(json.dumps(PLATFORM))
        platform["operator"] |= operator
        platform["shared"]["knowledge"] = {"store": f"file://{self.store}", "directoryRoot": str(self.documents)}
        path = self.folder / f"platform-{self._started}.yaml"
        path.write_text(yaml.safe_dump(platform), encoding="utf-8")
        return path

    def spawn(self, **operator: Any) -> Operator:
        """Start an operator and do not wait for it."""
        self._started += 1
        account = self.cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR)
        argv = [
            sys.executable, "-m", "tenantplane_operator.main", "run", "--platform", str(self.platform_file(**operator)),
            "--kubeconfig", str(account.kubeconfig), "--probe-port", "0",
        ]  # fmt: skip
        return self.spawn_as(argv)

    def spawn_as(self, argv: list[str]) -> Operator:
        """Start an operator by a command line of the caller's and do not wait for it."""
        started = Operator(argv, self.folder / f"operator-{len(self.operators) + 1}.log")
        self.operators.append(started)
        return started

    def start(self, **operator: Any) -> Operator:
        """Start an operator and wait until it works."""
        started = self.spawn(**operator)
        wait(started.ready, "the operator is ready", target=5)
        return started

    @contextlib.contextmanager
    def operator(self, **operator: Any) -> Iterator[Operator]:
        """An operator for the time of a block."""
        started = self.start(**operator)
        try:
            yield started
        finally:
            started.stop()

    # Objects.

    def call(
        self, method: str, path: str, body: object = None, *, rest: Rest | None = None, content_type: str = _JSON
    ) -> tuple[int, Object]:
        """One request; asked again while the API server is still setting up storage for a kind."""
        for _ in range(20):
            status, answer = (rest or self.admin).call(method, path, body, content_type=content_type)
            if status != 429:
                break
            time.sleep(0.5)
        return status, answer

    def path(self, kind: str, name: str = "", ns: str = "") -> str:
        """URL path of an object."""
        return PATHS[kind].format(ns=ns) + (f"/{name}" if name else "")

    def get(self, kind: str, name: str, ns: str = "") -> Object | None:
        """One object, ``None`` when it is not there."""
        status, answer = self.call("GET", self.path(kind, name, ns))
        if status == 404:
            return None
        assert status == 200, answer
        return answer

    def items(self, kind: str, ns: str = "") -> list[Object]:
        """All objects of a kind in a namespace."""
        status, answer = self.call("GET", self.path(kind, ns=ns))
        assert status == 200, answer
        return list(answer["items"])

    def create(self, kind: str, name: str, ns: str = "", *, rest: Rest | None = None, **body: Any) -> Object:
        """Create an object; ``metadata`` in ``body`` is merged."""
        meta = {"name": name, **body.pop("metadata", {})}
        if ns:
            meta["namespace"] = ns
        manifest = {"apiVersion": API_VERSIONS.get(kind, "v1"), "kind": kind, "metadata": meta, **body}
        status, answer = self.call("POST", self.path(kind, ns=ns), manifest, rest=rest)
        assert status == 201, answer
        return answer

    def patch(self, kind: str, name: str, ns: str = "", *, rest: Rest | None = None, **body: Any) -> Object:
        """Merge-patch an object."""
        status, answer = self.call("PATCH", self.path(kind, name, ns), body, rest=rest, content_type=_MERGE)
        assert status == 200, answer
        return answer

    def delete(self, kind: str, name: str, ns: str = "") -> None:
        """Delete an object."""
        status, answer = self.call("DELETE", self.path(kind, name, ns))
        assert status in (200, 202, 404), answer

    # Tenants.

    def tenant(self, name: str, **spec: Any) -> Object:
        """Create a Tenant; its tenantID is ``<name>-0001`` unless given."""
        return self.create("Tenant", name, spec={"tenantID": f"{name}-0001", **spec})

    def condition(self, kind: str, name: str, of: str = "Ready", ns: str = "") -> Object:
        """One condition of an object, empty when it is not there."""
        obj = self.get(kind, name, ns) or {}
        found = [c for c in obj.get("status", {}).get("conditions", []) if c["type"] == of]
        return found[0] if found else {}

    def await_ready(self, name: str, *, target: float = 3) -> Object:
        """Wait until a Tenant is Ready; the Tenant."""

        def ready() -> bool:
            return self.condition("Tenant", name).get("status") == "True"

        try:
            wait(ready, f"Tenant {name} is Ready", target=target)
        except TimeoutFailure as error:
            log = self.operators[-1].tail() if self.operators else ""
            raise TimeoutFailure(
                f"{error}: {json.dumps((self.get('Tenant', name) or {}).get('status'))}\n{log}"
            ) from None
        found = self.get("Tenant", name)
        assert found is not None
        return found

    def await_condition(
        self, kind: str, name: str, of: str, status: str, reason: str = "", *, ns: str = "", target: float = 2
    ) -> Object:
        """Wait for a condition's status and reason; the condition."""

        def there() -> Object:
            found = self.condition(kind, name, of, ns)
            return found if found.get("status") == status and reason in ("", found.get("reason")) else {}

        try:
            return wait(there, f"{kind} {name}: {of}={status} {reason}", target=target)[0]
        except TimeoutFailure as error:
            log = self.operators[-1].tail() if self.operators else ""
            raise TimeoutFailure(
                f"{error}: {json.dumps((self.get(kind, name, ns) or {}).get('status'))}\n{log}"
            ) from None

    def document(self, tenant: str) -> documents.TenantRuntime | None:
        """A tenant's published document, ``None`` when there is none."""
        name = names.tenant_document_name(tenant)
        secret = self.get("Secret", name, names.NAMESPACE_RUNTIME)
        if secret is None:
            return None
        data = base64.b64decode(secret["data"][names.DOCUMENT_KEY])
        return documents.decode_tenant(data, document_name=name, label=secret["metadata"]["labels"][names.LABEL_TENANT])

    def model_document(self, namespace: str, name: str) -> documents.ModelRuntime | None:
        """A model's published document, ``None`` when there is none."""
        document = names.model_document_name(namespace, name)
        secret = self.get("Secret", document, names.NAMESPACE_RUNTIME)
        if secret is None:
            return None
        return documents.decode_model(base64.b64decode(secret["data"][names.DOCUMENT_KEY]), document_name=document)

    def hashes(self, tenant: str) -> set[str]:
        """Key hashes in a tenant's document."""
        document = self.document(tenant)
        return {entry.hash for entry in document.spec.keys} if document is not None else set()

    def key_text(self, name: str, ns: str) -> str:
        """The text of an API key, as its user reads it."""
        secret = self.get("Secret", name, ns)
        return base64.b64decode(secret["data"][names.SECRET_KEY_API_KEY]).decode() if secret is not None else ""

    def versions(self, ns: str, tenant: str) -> dict[str, str]:
        """resourceVersion of everything of a tenant, by kind and name."""
        out = {f"{kind}/{item['metadata']['name']}": item for kind in CHILDREN for item in self.items(kind, ns)}
        out |= {f"Secret/{item['metadata']['name']}": item for item in self.items("Secret", ns)}
        for kind, name, where in (
            ("Tenant", tenant, ""),
            ("Namespace", ns, ""),
            ("Secret", names.tenant_document_name(tenant), names.NAMESPACE_RUNTIME),
        ):
            found = self.get(kind, name, where)
            if found is not None:
                out[f"{kind} {name}"] = found
        # Usage in a quota's status is the controller manager's, and it writes when it pleases.
        return {
            key: json.dumps(item.get("spec"))
            if key.startswith("ResourceQuota/")
            else item["metadata"]["resourceVersion"]
            for key, item in out.items()
        }

    def events(self, reason: str) -> list[Object]:
        """Events with a reason, in all namespaces."""
        status, answer = self.call("GET", "/apis/events.k8s.io/v1/events")
        assert status == 200, answer
        return [item for item in answer["items"] if item["reason"] == reason]

    def close(self) -> None:
        """End operators that a test left behind, and remove all Tenants."""
        for started in self.operators:
            if started.process.poll() is None:
                started.kill()
        self.admin.close()


def run(argv: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **env})
