"""A persona that acts on a real API server, and the chart's fences taken down and put up again.

Guarantees: an ``Answer`` is what the server said, never an exception; a fence that a test takes down is up again, and
seen to act, when the ``with`` block ends. Does not: hide that admission policies act a moment after they change; tests
wait for that with ``until``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tenantplane_api.runtime import names
from tenantplane_cli.cluster import Persona
from tenantplane_cli.rest import Rest

Manifest = dict[str, Any]

SYSTEM_POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
SECONDS = 30.0  # deadline of everything that waits; well below a second is normal

_PLURALS = {
    "Tenant": ("tenantplane.dev/v1alpha1", "tenants"),
    "APIKey": ("tenantplane.dev/v1alpha1", "apikeys"),
    "ModelDeployment": ("tenantplane.dev/v1alpha1", "modeldeployments"),
    "Namespace": ("v1", "namespaces"),
    "Secret": ("v1", "secrets"),
    "ConfigMap": ("v1", "configmaps"),
    "Pod": ("v1", "pods"),
    "PodTemplate": ("v1", "podtemplates"),
    "ReplicationController": ("v1", "replicationcontrollers"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "ResourceQuota": ("v1", "resourcequotas"),
    "LimitRange": ("v1", "limitranges"),
    "Service": ("v1", "services"),
    "Event": ("v1", "events"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "Role": ("rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", "rolebindings"),
    "ClusterRole": ("rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "Deployment": ("apps/v1", "deployments"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "DaemonSet": ("apps/v1", "daemonsets"),
    "ReplicaSet": ("apps/v1", "replicasets"),
    "Job": ("batch/v1", "jobs"),
    "CronJob": ("batch/v1", "cronjobs"),
    "ControllerRevision": ("apps/v1", "controllerrevisions"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "Endpoints": ("v1", "endpoints"),
    "Binding": ("v1", "bindings"),
    "EndpointSlice": ("discovery.k8s.io/v1", "endpointslices"),
    "Ingress": ("networking.k8s.io/v1", "ingresses"),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers"),
    "ResourceClaim": ("resource.k8s.io/v1", "resourceclaims"),
    "ResourceClaimTemplate": ("resource.k8s.io/v1", "resourceclaimtemplates"),
    "ValidatingAdmissionPolicy": ("admissionregistration.k8s.io/v1", "validatingadmissionpolicies"),
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "HTTPRoute": ("gateway.networking.k8s.io/v1", "httproutes"),
    "TCPRoute": ("gateway.networking.k8s.io/v1", "tcproutes"),
    "PriorityClass": ("scheduling.k8s.io/v1", "priorityclasses"),
    "RuntimeClass": ("node.k8s.io/v1", "runtimeclasses"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "CSIStorageCapacity": ("storage.k8s.io/v1", "csistoragecapacities"),
    "Certificate": ("cert-manager.io/v1", "certificates"),
    "Bucket": ("s3.services.k8s.aws/v1", "buckets"),
    "Gateway": ("gateway.networking.k8s.io/v1", "gateways"),
    "VirtualService": ("networking.istio.io/v1", "virtualservices"),
}


@dataclass(frozen=True)
class Answer:
    """What the server said. ``status`` is the HTTP status, ``body`` the object or the Status."""

    status: int
    body: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    @property
    def denied_by_rbac(self) -> bool:
        return self.status == 403 and "ValidatingAdmissionPolicy" not in self.message

    def denied_by(self, policy: str) -> bool:
        return self.status in (403, 422) and f"ValidatingAdmissionPolicy '{policy}'" in self.message


def manifest(kind: str, name: str, namespace: str = "", **rest: Any) -> Manifest:
    """An object of ``kind``; ``labels`` and ``annotations`` go into its metadata, the rest beside it."""
    metadata: Manifest = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    for key in ("labels", "annotations", "finalizers"):
        if key in rest:
            metadata[key] = rest.pop(key)
    return {"apiVersion": _PLURALS[kind][0], "kind": kind, "metadata": metadata, **rest}


def path(kind: str, namespace: str = "", name: str = "", sub: str = "") -> str:
    """URL path of a collection or an object (or its subresource ``sub``)."""
    version, plural = _PLURALS[kind]
    parts = ["", "api" if version == "v1" else "apis", version]
    parts += ["namespaces", namespace] if namespace else []
    return "/".join([*parts, plural, *([name] if name else []), *([sub] if sub else [])])


class Actor:
    """One user's way to the API. ``dry`` acts pass authorisation and admission and change nothing."""

    def __init__(self, persona: Persona) -> None:
        self.user = persona.user
        self.rest = Rest(persona.kubeconfig)

    def _call(
        self, method: str, url: str, body: object, *, dry: bool, content_type: str = "application/json"
    ) -> Answer:
        query = {"dryRun": "All"} if dry else {}
        if content_type == "application/apply-patch+yaml":
            query |= {"fieldManager": names.MANAGER_CHILDREN, "force": "true"}
        return Answer(*self.rest.call(method, url, body, query=query, content_type=content_type))

    def create(self, item: Manifest, *, dry: bool = False) -> Answer:
        return self._call("POST", path(item["kind"], item["metadata"].get("namespace", "")), item, dry=dry)

    def post(self, kind: str, namespace: str, name: str, sub: str, item: Manifest, *, dry: bool = False) -> Answer:
        """CREATE of a subresource, such as a token or a binding."""
        return self._call("POST", path(kind, namespace, name, sub), item, dry=dry)

    def apply(self, item: Manifest, *, dry: bool = False) -> Answer:
        """Server-side apply, as the operator writes."""
        url = path(item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
        return self._call("PATCH", url, item, dry=dry, content_type="application/apply-patch+yaml")

    def merge(
        self, kind: str, namespace: str, name: str, patch: Manifest, *, dry: bool = False, sub: str = ""
    ) -> Answer:
        url = path(kind, namespace, name, sub)
        return self._call("PATCH", url, patch, dry=dry, content_type="application/merge-patch+json")

    def put(self, kind: str, namespace: str, name: str, item: Manifest, *, dry: bool = False, sub: str = "") -> Answer:
        return self._call("PUT", path(kind, namespace, name, sub), item, dry=dry)

    def delete(self, kind: str, namespace: str, name: str, *, dry: bool = False) -> Answer:
        return self._call("DELETE", path(kind, namespace, name), None, dry=dry)

    def get(self, kind: str, namespace: str = "", name: str = "") -> Answer:
        return self._call("GET", path(kind, namespace, name), None, dry=False)

    def can(self, verb: str, group: str, resource: str, *, namespace: str = "", name: str = "", sub: str = "") -> bool:
        """What the API server answers to `kubectl auth can-i`."""
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": sub}
        attributes |= {key: value for key, value in (("namespace", namespace), ("name", name)) if value}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        status, body = self.rest.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        assert status == 201, body
        return bool(body["status"]["allowed"])


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until ``holds``; fail with ``what`` after the deadline."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not within {SECONDS:.0f} s: {what}"
        time.sleep(0.05)


def until_ok(act: Callable[[], Answer], what: str) -> None:
    """Wait until ``act`` succeeds; fail with the server's last words."""
    deadline = time.monotonic() + SECONDS
    while not (answer := act()).ok:
        assert time.monotonic() < deadline, f"not within {SECONDS:.0f} s: {what}: {dict(answer.body)}"
        time.sleep(0.05)


@contextmanager
def fence_down(admin: Actor, policy: str, probe: Callable[[], Answer]) -> Iterator[None]:
    """Take the binding of ``policy`` away; put it back and wait until ``probe`` is denied by it again."""
    saved = admin.rest.call("GET", f"{SYSTEM_POLICIES}/{policy}")[1]
    status, answer = admin.rest.call("DELETE", f"{SYSTEM_POLICIES}/{policy}")
    assert status == 200, answer
    try:
        yield
    finally:
        metadata = {key: saved["metadata"][key] for key in ("name", "labels")}
        body = {"apiVersion": saved["apiVersion"], "kind": saved["kind"], "metadata": metadata, "spec": saved["spec"]}
        status, answer = admin.rest.call("POST", SYSTEM_POLICIES, body)
        assert status == 201, answer
        until(lambda: probe().denied_by(policy), f"{policy} acts again")
