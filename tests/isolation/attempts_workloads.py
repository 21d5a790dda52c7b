"""Attempts by what runs: pods and templates of pods, volumes, ways in and out of the network."""

from __future__ import annotations

from collections.abc import Mapping

from tests.isolation.attempts import (
    HARMLESS_DEPLOYMENT,
    HARMLESS_POD,
    HARMLESS_SERVICE,
    Attempt,
    change,
    claim,
    endpoints,
    ephemeral,
    labels,
    look,
    make,
    service,
    slices,
    stateful,
)
from tests.isolation.people import (
    CLAIMS,
    CRON_JOBS,
    DEPLOYMENTS,
    FENCE,
    JOBS,
    NETWORK_POLICIES,
    PODS,
    RBAC,
    SERVICES,
    STATEFUL_SETS,
    TEMPLATE_KINDS,
    container,
    obj,
    pod,
    pod_spec,
    template,
    workload,
)

from tenantplane_api.runtime import names


def pods_attempts() -> Mapping[str, Attempt]:
    """What pods, and templates of pods, may say."""
    out: dict[str, Attempt] = {}
    given = {DEPLOYMENTS, STATEFUL_SETS, JOBS, CRON_JOBS}
    for kind in TEMPLATE_KINDS:
        short = kind.rpartition("/")[2]
        guard = FENCE if kind in given else RBAC
        instead = make(kind, workload(kind, template())) if kind in given else HARMLESS_DEPLOYMENT
        component = template(labels=labels(names.LABEL_COMPONENT, names.COMPONENT_DATAPLANE))
        out[f"{short} whose pods claim to be the data plane"] = Attempt(
            make(kind, workload(kind, component)), guard, FENCE, instead
        )
        image = template(pod_spec(container(image="elsewhere.example/app:1")))
        out[f"{short} with an image from elsewhere"] = Attempt(make(kind, workload(kind, image)), guard, FENCE, instead)
        node = template(pod_spec(nodeName="node-1"))
        out[f"{short} on a node of its choice"] = Attempt(make(kind, workload(kind, node)), guard, FENCE, instead)
    job = workload(CRON_JOBS, template())
    job["spec"]["jobTemplate"]["metadata"] = {"labels": labels()}
    out["CronJob whose Jobs have our label"] = Attempt(make(CRON_JOBS, job), FENCE, FENCE)
    elsewhere = {"reference": "evil.example/x"}
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists"}
    vault = {"path": "t", "audience": "vault"}
    for name, spec, taint in (
        ("an init image from elsewhere", pod_spec(initContainers=[container("i", image="docker.io/x")]), None),
        ("an image volume from elsewhere", pod_spec(volumes=[{"name": "v", "image": elsewhere}]), None),
        ("a registry that only looks allowed", pod_spec(container(image="registry.example.evil/app:1")), None),
        ("no registry at all", pod_spec(container(image="app:1")), None),
        ("the system's priority", pod_spec(priorityClassName="system-cluster-critical"), None),
        ("a toleration of everything", pod_spec(tolerations=[{"operator": "Exists"}]), "example.com/gpu"),
        ("a toleration of GPUs", pod_spec(tolerations=[gpu]), "example.com/gpu"),
        ("another scheduler", pod_spec(schedulerName="mine"), None),
        (
            "a token for another audience",
            pod_spec(volumes=[{"name": "t", "projected": {"sources": [{"serviceAccountToken": vault}]}}]),
            None,
        ),
        (
            "a place beside other namespaces' pods",
            pod_spec(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"namespaceSelector": {}, "labelSelector": {}, "topologyKey": "kubernetes.io/hostname"}]}}),
            None,
        ),
    ):  # fmt: skip
        allowed = pod_spec(tolerations=[{"key": taint, "operator": "Exists"}]) if taint else pod_spec()
        out[f"Pod with {name}"] = Attempt(make(PODS, pod(spec=spec)), FENCE, FENCE, make(PODS, pod(spec=allowed)))
    for name, body, allowed in (
        ("a priority class that is not listed", {"priorityClassName": "vip"}, {"priorityClassName": "batch"}),
        ("a runtime class that is not listed", {"runtimeClassName": "kata"}, {}),
    ):
        out[f"Deployment with {name}"] = Attempt(
            make(DEPLOYMENTS, workload(DEPLOYMENTS, template(pod_spec(**body)))),
            FENCE,
            FENCE,
            make(DEPLOYMENTS, workload(DEPLOYMENTS, template(pod_spec(**allowed)))),
        )
    out["Pod with our label"] = Attempt(make(PODS, pod(labels=labels())), FENCE, FENCE, HARMLESS_POD)
    out["Pod that claims to be managed"] = Attempt(
        make(PODS, pod(labels=labels(names.LABEL_MANAGED_BY, names.MANAGED_BY))), FENCE, FENCE
    )
    return out


def storage_attempts() -> Mapping[str, Attempt]:
    """Volumes of others, directly and through what makes claims."""
    out: dict[str, Attempt] = {}
    for name, more in (
        ("a class that is not listed", {"storageClassName": "fast"}),
        ("any static volume", {"storageClassName": ""}),
        ("a volume by name", {"volumeName": "pv-of-somebody"}),
    ):
        out[f"claim of {name}"] = Attempt(make(CLAIMS, claim(**more)), FENCE, FENCE, make(CLAIMS, claim()))
        out[f"StatefulSet that claims {name}"] = Attempt(
            make(STATEFUL_SETS, stateful(**more)), FENCE, FENCE, make(STATEFUL_SETS, stateful())
        )
        out[f"Pod that claims {name}"] = Attempt(
            make(PODS, pod(spec=ephemeral(**more))), FENCE, FENCE, make(PODS, pod(spec=ephemeral()))
        )
        body = workload(DEPLOYMENTS, template(ephemeral(**more)))
        out[f"Deployment whose pods claim {name}"] = Attempt(make(DEPLOYMENTS, body), FENCE, FENCE)
    return out


def network_attempts() -> Mapping[str, Attempt]:
    """Traffic of others, and ways in."""
    now = "2026-11-21T10:00:00Z"
    healthy = {"type": "Healthy", "status": "True", "reason": "x", "message": "", "lastTransitionTime": now}
    out: dict[str, Attempt] = {}
    for name, more in (
        ("a load balancer", {"type": "LoadBalancer"}),
        ("a node port", {"type": "NodePort"}),
        ("an outside name", {"type": "ExternalName", "externalName": "metadata.google.internal", "selector": None}),
        ("a foreign address", {"externalIPs": ["203.0.113.7"]}),
        ("our pods", {"selector": labels(names.LABEL_COMPONENT, names.COMPONENT_DATAPLANE)}),
    ):
        out[f"Service of {name}"] = Attempt(make(SERVICES, service(**more)), FENCE, FENCE, HARMLESS_SERVICE)
    out["forged EndpointSlice"] = Attempt(
        make("discovery.k8s.io/v1/endpointslices", slices("probe")), RBAC, FENCE, HARMLESS_SERVICE
    )
    out["forged Endpoints"] = Attempt(make("v1/endpoints", endpoints()), RBAC, FENCE, HARMLESS_SERVICE)
    out["forged status of a Service"] = Attempt(
        change(SERVICES, "web", {"status": {"conditions": [healthy]}}, sub="status"), RBAC, FENCE
    )  # fmt: skip
    rules = {"podSelector": {}, "egress": [{}], "ingress": [{}], "policyTypes": ["Ingress", "Egress"]}
    opening = obj("networking.k8s.io/v1", "NetworkPolicy", "probe", spec=rules)
    out["NetworkPolicy that opens"] = Attempt(make(NETWORK_POLICIES, opening), RBAC, FENCE, look(NETWORK_POLICIES))
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    ingress = obj("networking.k8s.io/v1", "Ingress", "probe", spec={"defaultBackend": backend})
    out["Ingress for every host"] = Attempt(make("networking.k8s.io/v1/ingresses", ingress), FENCE, FENCE)
    return out
