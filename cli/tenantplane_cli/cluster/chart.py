"""Installing the chart into a cluster of the provider: `helm template` piped into server-side apply.

Guarantees: applying twice is the same as once, values included; namespaces and CRDs come first and CRDs are Established
before anything that may use them; at the end every ValidatingAdmissionPolicy of the chart has been seen and
type-checked by the control plane. Does not: run Helm hooks, keep a release record, or prune objects that an earlier
install with other values made (`helm upgrade` is for real installations). Namespaced objects must name their namespace.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tenantplane_api.runtime.names import API_VERSION, KIND_MODEL_DEPLOYMENT
from tenantplane_cli.cluster import toolchain
from tenantplane_cli.cluster.kubectl import kubectl_apply
from tenantplane_cli.cluster.model import Cluster, ClusterError
from tenantplane_cli.cluster.toolchain import Progress
from tenantplane_cli.rest import Rest

CHART = toolchain.REPOSITORY / "charts" / "tenantplane"
NAMESPACE = "tenantplane-system"
RELEASE = "tenantplane"
PROGRAMS_DISABLED: Mapping[str, Any] = {"operator.enabled": False, "dataplane.enabled": False}
_LEAST_HELM = (3, 14)
_SETTLE_SECONDS = 60.0
_FIRST = ("Namespace", "CustomResourceDefinition")
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"


def helm_binary(progress: Progress = print) -> Path:
    """`helm` on PATH when it is 3.14 or newer, else the pinned one from the cache, built when it is not there.

    Raises ToolError.
    """
    found = shutil.which("helm")
    if found is not None:
        asked = subprocess.run([found, "version", "--short"], capture_output=True, text=True, timeout=30, check=False)
        version = re.match(r"v(\d+)\.(\d+)\.", asked.stdout.strip())
        if version is not None and (int(version[1]), int(version[2])) >= _LEAST_HELM:
            return Path(found).absolute()
    return toolchain.ensure(toolchain.HELM, progress) / "helm"


def install_chart(
    cluster: Cluster,
    *,
    values: Sequence[Path] = (),
    sets: Mapping[str, Any] = PROGRAMS_DISABLED,
    progress: Progress = print,
    chart: Path = CHART,
    namespace: str = NAMESPACE,
) -> None:
    """Install or update the chart. `sets` maps dotted keys to values of any YAML type and wins over `values` files.

    Raises ClusterError with Helm's or the API server's own words.
    """
    started = time.monotonic()
    objects = render(cluster, values=values, sets=sets, progress=progress, chart=chart, namespace=namespace)
    with Rest(cluster.kubeconfig) as rest:
        _ensure_namespace(rest, namespace, objects)
        for first in _FIRST:
            _apply(cluster, [item for item in objects if item["kind"] == first])
        _wait("CustomResourceDefinition", _names(objects, "CustomResourceDefinition"), rest, _CRDS, _established)
        _apply(cluster, [item for item in objects if item["kind"] not in _FIRST])
        policies = _names(objects, "ValidatingAdmissionPolicy")
        _wait("ValidatingAdmissionPolicy", policies, rest, _POLICIES, _type_checked)
        for name in policies:
            checking = rest.call("GET", f"{_POLICIES}/{name}")[1].get("status", {}).get("typeChecking", {})
            for warning in checking.get("expressionWarnings", ()):
                progress(f"chart: policy {name}: {warning.get('fieldRef')}: {warning.get('warning')}")
    progress(f"chart: {len(objects)} objects of {chart.name} applied in {time.monotonic() - started:.1f} s")


def render(
    cluster: Cluster,
    *,
    values: Sequence[Path],
    sets: Mapping[str, Any],
    progress: Progress,
    chart: Path,
    namespace: str,
) -> list[dict[str, Any]]:
    """The chart's objects as Helm renders them for this cluster's Kubernetes version, CRDs included, hooks not."""
    helm = helm_binary(progress)
    with Rest(cluster.kubeconfig) as rest:
        version = str(rest.call("GET", "/version")[1]["gitVersion"])
    with tempfile.TemporaryDirectory(prefix="tenantplane-helm-") as home:
        # A file and not `--set`, whose comma, dot and type rules would change some values.
        last = Path(home) / "sets.yaml"
        last.write_text(yaml.safe_dump(nested(sets)))
        command = [helm, "template", RELEASE, chart, f"--namespace={namespace}", "--include-crds", "--no-hooks"]
        # Claimed because CRDs are applied and Established first: the chart then renders its own custom resources as
        # ordinary objects and not as hooks.
        command += [f"--api-versions={API_VERSION}/{KIND_MODEL_DEPLOYMENT}"]
        command += [f"--kube-version={version}", *(f"--values={path}" for path in (*values, last))]
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            # A folder of its own: nothing of the user's Helm configuration or plugins takes part.
            env={"PATH": "/usr/bin:/bin", "HOME": home},
        )
    if done.returncode != 0:
        raise ClusterError(f"helm cannot render {chart}: {done.stderr.strip()}")
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def nested(sets: Mapping[str, Any]) -> dict[str, Any]:
    """`{"operator.enabled": False}` as `{"operator": {"enabled": False}}`. Raises ValueError when two keys collide."""
    tree: dict[str, Any] = {}
    for key, value in sets.items():
        *parents, leaf = key.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"{key!r} lies below {part!r}, which has a value of its own")
        if leaf in node:
            raise ValueError(f"{key!r} is set twice")
        node[leaf] = value
    return tree


def _ensure_namespace(rest: Rest, namespace: str, objects: Sequence[dict[str, Any]]) -> None:
    if namespace in _names(objects, "Namespace"):
        return
    status, answer = rest.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    if status not in (201, 409):
        raise ClusterError(f"namespace {namespace} cannot be made: {answer.get('message', status)}")


def _apply(cluster: Cluster, objects: Sequence[dict[str, Any]]) -> None:
    try:
        kubectl_apply(cluster, objects, arguments=("--force-conflicts", "--field-manager=tenantplane-install"))
    except ClusterError as error:
        raise ClusterError(f"the API server refuses the chart: {error}") from None


def _names(objects: Sequence[dict[str, Any]], kind: str) -> list[str]:
    return [item["metadata"]["name"] for item in objects if item["kind"] == kind]


def _established(item: dict[str, Any]) -> bool:
    # Right after creation the server writes `conditions: null`.
    conditions = item.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _type_checked(item: dict[str, Any]) -> bool:
    return bool(item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"])


def _wait(kind: str, names: Sequence[str], rest: Rest, path: str, holds: Callable[[dict[str, Any]], bool]) -> None:
    deadline = time.monotonic() + _SETTLE_SECONDS
    for name in names:
        while True:
            status, item = rest.call("GET", f"{path}/{name}")
            if status == 200 and holds(item):
                break
            if time.monotonic() > deadline:
                seen = item.get("status", item.get("message"))
                raise ClusterError(f"{kind} {name} is not ready after {_SETTLE_SECONDS:.0f} s: {seen}")
            time.sleep(0.1)
