"""People in front of a real API server, and who it was that refused them.

Guarantees: an ``Answer`` is what the server said, never an exception; ``refused_by`` names exactly one guard, so that a
test notices when another guard than the intended one answers. Does not: clean up; what a test makes, it deletes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tests.chart.kube import Actor, Answer

from tenantplane_cli.cluster import Persona

Manifest = dict[str, Any]

RBAC = "RBAC"
POD_SECURITY = "Pod Security"
QUOTA = "quota"
FENCE = "tenant fence"
NAMESPACE_FENCE = "tenantplane-namespace-fence"

PODS, SERVICES, CLAIMS = "v1/pods", "v1/services", "v1/persistentvolumeclaims"
SECRETS, CONFIG_MAPS, ACCOUNTS = "v1/secrets", "v1/configmaps", "v1/serviceaccounts"
QUOTAS, LIMIT_RANGES, NAMESPACES = "v1/resourcequotas", "v1/limitranges", "v1/namespaces"
DEPLOYMENTS, STATEFUL_SETS, JOBS = "apps/v1/deployments", "apps/v1/statefulsets", "batch/v1/jobs"
CRON_JOBS, EVENTS = "batch/v1/cronjobs", "v1/events"
NETWORK_POLICIES = "networking.k8s.io/v1/networkpolicies"
ROLES, BINDINGS = "rbac.authorization.k8s.io/v1/roles", "rbac.authorization.k8s.io/v1/rolebindings"
API_KEYS, MODELS = "tenantplane.dev/v1alpha1/apikeys", "tenantplane.dev/v1alpha1/modeldeployments"

_JSON, _MERGE = "application/json", "application/merge-patch+json"
_POLICY = re.compile(r"ValidatingAdmissionPolicy '([^']+)'")


def url(resource: str, ns: str = "", name: str = "", sub: str = "") -> str:
    """URL path; ``resource`` is ``group/version/plural``, or ``v1/plural`` of the core group."""
    version, _, plural = resource.rpartition("/")
    parts = ["", "api" if version == "v1" else "apis", version]
    parts += ["namespaces", ns] if ns else []
    return "/".join([*parts, plural, *([name] if name else []), *([sub] if sub else [])])


def refused_by(answer: Answer) -> str:
    """The guard that refused: one of the words above, or the name of a policy; empty when the act succeeded.

    The tenant fence is several policies, and the server names any one of those that refuse. A 404, or an object that
    the server finds invalid, is told as it is, because it proves nothing about a guard.
    """
    if answer.ok:
        return ""
    policy = policy_of(answer)
    if policy:
        return FENCE if policy.startswith("tenantplane-tenant-") else policy
    if answer.status == 403:
        for words, guard in (
            ("violates PodSecurity", POD_SECURITY),
            ("exceeded quota", QUOTA),
            (" cannot ", RBAC),
            ("attempting to grant RBAC permissions", RBAC),
        ):
            if words in answer.message:
                return guard
    return f"{answer.status} {answer.message}"


def policy_of(answer: Answer) -> str:
    """Name of the admission policy that refused, empty when none did."""
    found = _POLICY.search(answer.message) if answer.status in (403, 422) else None
    return found[1] if found is not None else ""


class Person(Actor):
    """One user. Acts are dry runs unless ``dry`` is false: they pass authorisation and admission all the same."""

    def __init__(self, persona: Persona, **headers: str) -> None:
        super().__init__(persona)
        for key, value in headers.items():
            self.rest._client.set_default_header(key.replace("_", "-"), value)

    def ask(self, method: str, path: str, body: object = None, *, dry: bool = True, kind: str = _JSON) -> Answer:
        """One request; asked again while the quota of a fresh namespace was not counted yet, or a server is busy."""
        deadline = time.monotonic() + 30
        while True:
            answer = self._call(method, path, body, dry=dry and method != "GET", content_type=kind)
            busy = answer.status == 429 or "status unknown for quota" in answer.message
            if not busy or time.monotonic() > deadline:
                return answer
            time.sleep(0.1)

    def look(self, resource: str, ns: str = "", name: str = "", sub: str = "") -> Answer:
        """GET an object, or the list."""
        return self.ask("GET", url(resource, ns, name, sub))

    def make(self, resource: str, ns: str, item: Manifest, *, dry: bool = True) -> Answer:
        """Create an object."""
        return self.ask("POST", url(resource, ns), item, dry=dry)

    def sub(self, resource: str, ns: str, name: str, sub: str, item: Manifest, *, dry: bool = True) -> Answer:
        """POST to a subresource."""
        return self.ask("POST", url(resource, ns, name, sub), item, dry=dry)

    def change(
        self, resource: str, ns: str, name: str, patch: Manifest, *, sub: str = "", dry: bool = True, kind: str = _MERGE
    ) -> Answer:
        """Merge-patch an object or a subresource."""
        return self.ask("PATCH", url(resource, ns, name, sub), patch, dry=dry, kind=kind)

    def replace(self, resource: str, ns: str, name: str, item: Manifest, *, sub: str = "", dry: bool = True) -> Answer:
        """PUT an object."""
        return self.ask("PUT", url(resource, ns, name, sub), item, dry=dry)

    def remove(self, resource: str, ns: str, name: str = "", *, dry: bool = True) -> Answer:
        """DELETE an object, or without a name all of them."""
        return self.ask("DELETE", url(resource, ns, name), dry=dry)

    def resources(self, *, namespaced: bool) -> Iterator[tuple[str, Manifest]]:
        """Every resource of the cluster that objects are stored of: `group/version/plural`, and what discovery says."""
        groups = self.ask("GET", "/apis").body["groups"]
        for version in ("v1", *(group["preferredVersion"]["groupVersion"] for group in groups)):
            path = f"/api/{version}" if version == "v1" else f"/apis/{version}"
            for found in self.ask("GET", path).body["resources"]:
                if found["namespaced"] == namespaced and "list" in found["verbs"] and "/" not in found["name"]:
                    yield f"{version}/{found['name']}", found

    def rules(self, ns: str) -> list[Mapping[str, Any]]:
        """What RBAC gives in a namespace (resource rules), beyond asking about oneself."""
        version = "authorization.k8s.io/v1"
        review = {"apiVersion": version, "kind": "SelfSubjectRulesReview", "spec": {"namespace": ns}}
        answer = self.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review, dry=False)
        assert answer.status == 201, answer.body
        assert not answer.body["status"]["incomplete"]
        own = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
        return [rule for rule in answer.body["status"]["resourceRules"] if not set(rule["resources"]) <= own]


def container(name: str = "c", **more: Any) -> Manifest:
    """A container that every guard lets through; ``more`` wins, also inside ``securityContext``."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, **more.pop("securityContext", {})}
    base = {"name": name, "image": "registry.example/app:1", "imagePullPolicy": "Always"}
    return {**base, **more, "securityContext": security}


def pod_spec(*containers: Manifest, **more: Any) -> Manifest:
    """A pod's spec that every guard lets through; ``more`` wins, also inside ``securityContext``."""
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **more.pop("securityContext", {})}
    return {"containers": list(containers) or [container()], **more, "securityContext": security}


def pod(name: str = "probe", spec: Manifest | None = None, **metadata: Any) -> Manifest:
    """A pod; without ``spec`` a harmless one."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": pod_spec() if spec is None else spec,
    }


def template(spec: Manifest | None = None, *, restart: str = "", **metadata: Any) -> Manifest:
    """A pod template of the label ``app: probe``."""
    labels = {"app": "probe", **metadata.pop("labels", {})}
    body = pod_spec() if spec is None else spec
    return {
        "metadata": {"labels": labels, **metadata},
        "spec": {**body, **({"restartPolicy": restart} if restart else {})},
    }


def obj(api_version: str, kind: str, name: str, **more: Any) -> Manifest:
    """Any object; ``labels``, ``annotations``, ``finalizers`` and ``ownerReferences`` go into its metadata."""
    metadata: Manifest = {"name": name}
    for key in ("labels", "annotations", "finalizers", "ownerReferences"):
        if key in more:
            metadata[key] = more.pop(key)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}


_SELECTOR = {"matchLabels": {"app": "probe"}}


def workload(resource: str, body: Manifest, name: str = "probe") -> Manifest:
    """An object of a kind that makes pods, around a template."""
    kinds: dict[str, tuple[str, str, Manifest]] = {
        DEPLOYMENTS: ("apps/v1", "Deployment", {"selector": _SELECTOR, "template": body}),
        "apps/v1/replicasets": ("apps/v1", "ReplicaSet", {"selector": _SELECTOR, "template": body}),
        "apps/v1/daemonsets": ("apps/v1", "DaemonSet", {"selector": _SELECTOR, "template": body}),
        STATEFUL_SETS: ("apps/v1", "StatefulSet", {"selector": _SELECTOR, "serviceName": "probe", "template": body}),
        "v1/replicationcontrollers": ("v1", "ReplicationController", {"selector": {"app": "probe"}, "template": body}),
        JOBS: ("batch/v1", "Job", {"template": _once(body)}),
        CRON_JOBS: (
            "batch/v1",
            "CronJob",
            {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": _once(body)}}},
        ),
    }
    if resource == "v1/podtemplates":
        return obj("v1", "PodTemplate", name, template=body)
    version, kind, spec = kinds[resource]
    return obj(version, kind, name, spec=spec)


def _once(body: Manifest) -> Manifest:
    return {**body, "spec": {**body["spec"], "restartPolicy": "Never"}}


TEMPLATE_KINDS = (
    DEPLOYMENTS,
    "apps/v1/replicasets",
    "apps/v1/daemonsets",
    STATEFUL_SETS,
    "v1/replicationcontrollers",
    JOBS,
    CRON_JOBS,
    "v1/podtemplates",
)
"""Every built-in kind from which Kubernetes' own controllers make pods."""
