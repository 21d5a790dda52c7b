"""The Kubernetes Jobs of an index build, as pure manifests.

Two Jobs, because reading strangers' documents and writing what others will trust must not be one process: *extract*
runs under a ServiceAccount of that tenant, without an API token, and only writes inert output; *finalise* runs under
the platform's identity and alone may write the store. Both are confined by Pod Security ``restricted``, have limits,
a deadline, and vanish on their own.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Indexer
from tenantplane_operator.runtime.resources import Manifest

INPUT: Final = "/input"
WORK: Final = "/work"
JOB_FILE: Final = "job.json"


class JobsUnavailable(ValueError):  # noqa: N818 -- a state of the platform, not a crash
    """Raise when the Platform file says ``Job`` and lacks what Jobs need; the message names the field."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the two Jobs of one build are made from.

    ``attempt_key`` makes the names unique per attempt; ``config_maps`` maps a source's name to the ConfigMap in the
    jobs namespace that holds its copy; ``claim`` is the volume on which the inert output is handed over.
    """

    tenant: str
    tenant_id: str
    index: str
    attempt_key: str
    namespace: str
    job_config_map: str
    config_maps: tuple[tuple[str, str], ...]
    claim: str
    store: str


def require(indexer: Indexer, store: str | None) -> tuple[str, str]:
    """Image and store that Jobs need.

    Raises:
        JobsUnavailable: says what to configure.
    """
    if indexer.image is None:
        raise JobsUnavailable("operator.indexer.image is not set: name the data-plane image that builds indices")
    if store is None:
        raise JobsUnavailable("shared.knowledge.store is not set: name the store that indices are kept in")
    return indexer.image, store


def job_name(spec: JobSpec, step: str) -> str:
    """``<step>-<tenant>-<10 hex>``: stable per attempt, ≤ 63 characters."""
    digest = hashlib.sha256(f"{spec.tenant}\0{spec.index}\0{spec.attempt_key}".encode()).hexdigest()[:10]
    return f"{step}-{spec.tenant}-{digest}"


def service_account_name(tenant: str) -> str:
    """Name of the ServiceAccount in the jobs namespace under which a tenant's documents are read."""
    return f"extract-{tenant}"


def service_account(spec: JobSpec) -> Manifest:
    """The tenant's ServiceAccount for extraction: no token, no rights."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": service_account_name(spec.tenant),
            "namespace": spec.namespace,
            "labels": _labels(spec),
            "annotations": {names.ANNOTATION_TENANT_ID: spec.tenant_id},
        },
        "automountServiceAccountToken": False,
    }


def _labels(spec: JobSpec) -> dict[str, str]:
    return {
        names.LABEL_TENANT: spec.tenant,
        names.LABEL_COMPONENT: names.COMPONENT_INDEX,
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
    }


def extract_job(spec: JobSpec, indexer: Indexer, *, image: str) -> Manifest:
    """The Job that reads the documents. It can reach neither the API server nor the store."""
    mounts = [{"name": "job", "mountPath": f"{INPUT}/job", "readOnly": True}]
    volumes: list[dict[str, Any]] = [{"name": "job", "configMap": {"name": spec.job_config_map}}]
    for number, (source, config_map) in enumerate(spec.config_maps):
        volumes.append({"name": f"source-{number}", "configMap": {"name": config_map}})
        mounts.append({"name": f"source-{number}", "mountPath": f"{INPUT}/sources/{source}", "readOnly": True})
    arguments = ["extract", "--job", f"{INPUT}/job/{JOB_FILE}", "--out", f"{WORK}/inert"]
    return _job(
        spec, indexer, "extract", image=image, arguments=arguments, account=service_account_name(spec.tenant),
        volumes=volumes, mounts=mounts,
    )  # fmt: skip


def finalise_job(spec: JobSpec, indexer: Indexer, *, image: str) -> Manifest:
    """The Job that turns inert output into a served generation. It never sees the documents themselves."""
    mounts = [{"name": "job", "mountPath": f"{INPUT}/job", "readOnly": True}]
    volumes: list[dict[str, Any]] = [{"name": "job", "configMap": {"name": spec.job_config_map}}]
    arguments = [
        "finalise", "--job", f"{INPUT}/job/{JOB_FILE}", "--input", f"{WORK}/inert", "--store", spec.store,
    ]  # fmt: skip
    return _job(
        spec, indexer, "finalise", image=image, arguments=arguments, account=names.SERVICE_ACCOUNT_INDEXER,
        volumes=volumes, mounts=mounts,
    )  # fmt: skip


def _job(
    spec: JobSpec,
    indexer: Indexer,
    step: str,
    *,
    image: str,
    arguments: list[str],
    account: str,
    volumes: list[dict[str, Any]],
    mounts: list[dict[str, Any]],
) -> Manifest:
    memory = f"{indexer.memory_mi_b}Mi"
    container = {
        "name": step,
        "image": image,
        "command": ["tenantplane-indexer"],
        "args": arguments,
        "env": [{"name": "OMP_NUM_THREADS", "value": "1"}, {"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "resources": {
            "requests": {"cpu": "500m", "memory": memory, "ephemeral-storage": "1Gi"},
            "limits": {"cpu": "2", "memory": memory, "ephemeral-storage": "4Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            *mounts,
            {"name": "work", "mountPath": WORK},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 -- a folder of the container's own
        ],
    }
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            *volumes,
            {"name": "work", "persistentVolumeClaim": {"claimName": spec.claim}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(spec, step),
            "namespace": spec.namespace,
            "labels": _labels(spec),
            "annotations": {names.ANNOTATION_TENANT_ID: spec.tenant_id},
        },
        "spec": {
            "backoffLimit": 1,
            "activeDeadlineSeconds": indexer.timeout_seconds,
            "ttlSecondsAfterFinished": 3600,
            "template": {"metadata": {"labels": _labels(spec)}, "spec": pod},
        },
    }
