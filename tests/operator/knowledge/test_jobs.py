"""The Jobs of an index build as objects: who runs what, with which rights, confined how."""

import pytest

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Indexer
from tenantplane_operator.knowledge.jobs import (
    JobSpec,
    JobsUnavailable,
    extract_job,
    finalise_job,
    job_name,
    require,
    service_account,
    service_account_name,
)
from tenantplane_operator.runtime.resources import Manifest

SPEC = JobSpec(
    tenant="acme",
    tenant_id="acme-0001",
    index="handbook",
    attempt_key="k1",
    namespace=names.NAMESPACE_JOBS,
    job_config_map="job-acme-1",
    config_maps=(("prices", "copy-1"), ("rules", "copy-2")),
    claim="work-acme-1",
    store="s3://indices/prod",
)
INDEXER = Indexer(image="registry.example.com/tenantplane/dataplane:1", timeout_seconds=77, memory_mi_b=512)
IMAGE = "registry.example.com/tenantplane/dataplane:1"
JOBS = [extract_job(SPEC, INDEXER, image=IMAGE), finalise_job(SPEC, INDEXER, image=IMAGE)]


def pod(job: Manifest) -> Manifest:
    found: Manifest = job["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("job", JOBS, ids=["extract", "finalise"])
def test_both_are_confined_and_end_on_their_own(job: Manifest) -> None:
    spec, container = pod(job), pod(job)["containers"][0]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"] == "512Mi"
    assert "ephemeral-storage" in container["resources"]["limits"]
    assert job["spec"]["activeDeadlineSeconds"] == 77
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert job["metadata"]["namespace"] == names.NAMESPACE_JOBS
    assert job["metadata"]["labels"][names.LABEL_TENANT] == "acme"
    assert job["metadata"]["annotations"][names.ANNOTATION_TENANT_ID] == "acme-0001"
    assert spec["restartPolicy"] == "Never"
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume or "secret" in volume]


def test_who_reads_documents_is_not_who_writes_the_store() -> None:
    extract, finalise = (pod(job) for job in JOBS)
    assert extract["serviceAccountName"] == service_account_name("acme") == "extract-acme"
    assert finalise["serviceAccountName"] == names.SERVICE_ACCOUNT_INDEXER
    assert SPEC.store not in str(extract)
    assert SPEC.store in str(finalise)
    sources = {volume["name"] for volume in extract["volumes"] if volume["name"].startswith("source-")}
    assert sources == {"source-0", "source-1"}
    assert not [volume for volume in finalise["volumes"] if volume["name"].startswith("source-")]


def test_the_tenants_account_has_no_token() -> None:
    account = service_account(SPEC)
    assert account["automountServiceAccountToken"] is False
    assert account["metadata"]["labels"][names.LABEL_TENANT] == "acme"


def test_names_fit_and_do_not_collide() -> None:
    long = JobSpec(**{**{name: getattr(SPEC, name) for name in SPEC.__slots__}, "tenant": "t" * 40})
    assert len(job_name(long, "finalise")) <= 63
    assert len(service_account_name("t" * 40)) <= 63
    other = JobSpec(**{**{name: getattr(SPEC, name) for name in SPEC.__slots__}, "attempt_key": "k2"})
    assert job_name(SPEC, "extract") != job_name(other, "extract")
    assert job_name(SPEC, "extract") == job_name(SPEC, "extract")


def test_what_is_missing_is_named() -> None:
    assert require(INDEXER, "s3://x") == (IMAGE, "s3://x")
    with pytest.raises(JobsUnavailable, match=r"operator\.indexer\.image"):
        require(Indexer(), "s3://x")
    with pytest.raises(JobsUnavailable, match=r"shared\.knowledge\.store"):
        require(INDEXER, None)
