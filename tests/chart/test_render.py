"""What Helm makes of the chart: names, refusals, the two programs, the Platform file. No cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.plans import PLANS

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Allowances, Platform, allow_annotations, parse_platform
from tenantplane_api.version import __version__
from tenantplane_cli.cluster import PROGRAMS_DISABLED, helm_binary
from tenantplane_cli.cluster.chart import CHART, nested
from tenantplane_operator.tenant.containers import merge_limits
from tenantplane_operator.tenant.quota import whole_counts, without_defaults

Manifest = dict[str, Any]

CLUSTER_SCOPED = {
    "Namespace",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


class Helm:
    """Helm with a home of its own: no user configuration, plugin or repository takes part."""

    def __init__(self, home: Path) -> None:
        self._binary = helm_binary()
        self._home = home

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._binary), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={"PATH": os.defpath, "HOME": str(self._home)},
        )

    def template(
        self,
        sets: dict[str, Any] | None = None,
        *,
        namespace: str = names.NAMESPACE_SYSTEM,
        arguments: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        values = self._home / "values.yaml"
        values.write_text(yaml.safe_dump(nested(sets or {})))
        return self.run(
            "template", "tenantplane", str(CHART), f"--namespace={namespace}", f"--values={values}", *arguments
        )

    def objects(self, sets: dict[str, Any] | None = None, *arguments: str) -> dict[tuple[str, str], Manifest]:
        """(kind, namespace/name) to object; fails when two objects have one name."""
        done = self.template(sets, arguments=arguments)
        assert done.returncode == 0, done.stderr
        found: dict[tuple[str, str], Manifest] = {}
        for item in yaml.safe_load_all(done.stdout):
            if item:
                metadata = item["metadata"]
                key = (item["kind"], "/".join(filter(None, (metadata.get("namespace"), metadata["name"]))))
                assert key not in found
                found[key] = item
        return found


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def rendered(helm: Helm) -> dict[tuple[str, str], Manifest]:
    return helm.objects({"namespaces.createSystem": True, "access.platformAdmins": [{"kind": "Group", "name": "team"}]})


def _platform(objects: dict[tuple[str, str], Manifest]) -> Platform:
    text = objects["ConfigMap", "tenantplane-system/tenantplane-platform"]["data"]["platform.yaml"]
    return parse_platform(yaml.safe_load(text))


def _of(objects: dict[tuple[str, str], Manifest], kind: str) -> set[str]:
    return {name for found, name in objects if found == kind}


@pytest.mark.parametrize("sets", [{}, PROGRAMS_DISABLED], ids=["default", "programs-disabled"])
def test_lint_finds_nothing(helm: Helm, tmp_path: Path, sets: dict[str, Any]) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(nested(sets)))
    done = helm.run("lint", str(CHART), "--strict", f"--namespace={names.NAMESPACE_SYSTEM}", f"--values={values}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_chart_has_the_version_of_the_distribution() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_names_are_those_of_the_contract(rendered: dict[tuple[str, str], Manifest]) -> None:
    assert _of(rendered, "Namespace") == {
        names.NAMESPACE_SYSTEM,
        names.NAMESPACE_RUNTIME,
        names.NAMESPACE_JOBS,
        names.NAMESPACE_MODELS,
    }
    assert _of(rendered, "ServiceAccount") == {
        f"{names.NAMESPACE_SYSTEM}/{names.SERVICE_ACCOUNT_OPERATOR}",
        f"{names.NAMESPACE_SYSTEM}/{names.SERVICE_ACCOUNT_DATAPLANE}",
        f"{names.NAMESPACE_JOBS}/tenantplane-indexer",
    }
    assert _of(rendered, "CustomResourceDefinition") == {
        f"{plural}.{names.GROUP}"
        for plural in (names.PLURAL_TENANTS, names.PLURAL_MODEL_DEPLOYMENTS, names.PLURAL_API_KEYS)
    }
    tenants_roles = {
        names.CLUSTER_ROLE_TENANT_ADMIN,
        names.CLUSTER_ROLE_TENANT_EDITOR,
        names.CLUSTER_ROLE_TENANT_VIEWER,
        names.CLUSTER_ROLE_TENANT_WORKLOADS,
        names.CLUSTER_ROLE_OPERATOR_NAMESPACE,
    }
    assert tenants_roles <= _of(rendered, "ClusterRole")
    bind = [r for r in rendered["ClusterRole", "tenantplane-operator"]["rules"] if r["verbs"] == ["bind"]]
    assert [set(rule["resourceNames"]) for rule in bind] == [tenants_roles]
    fence = yaml.safe_dump(rendered["ValidatingAdmissionPolicy", "tenantplane-operator-fence"], width=10_000)
    (listed,) = re.findall(r"b\.roleRef\.name in \[([^]]*)\]", fence.replace("''", "'"))
    assert {name.strip(" '") for name in listed.split(",")} == tenants_roles


def test_fences_use_the_contracts_labels_and_annotations(rendered: dict[tuple[str, str], Manifest]) -> None:
    constants = {value for key, value in vars(names).items() if key.startswith(("LABEL_", "ANNOTATION_"))}
    allowed = allow_annotations(PLANS["any"])
    assert len(allowed) == len(Allowances.__struct_fields__)
    known = constants | set(allowed)
    read: set[str] = set()
    for (kind, name), item in rendered.items():
        if kind != "ValidatingAdmissionPolicy":
            continue
        used = set(re.findall(r"'(tenantplane\.dev/[a-z-]+)'", yaml.safe_dump(item, width=10_000).replace("''", "'")))
        assert used - {names.SECRET_TYPE_RUNTIME} <= known, name
        read |= used & set(allowed)
        assert item["spec"]["failurePolicy"] == "Fail"
        bound = rendered["ValidatingAdmissionPolicyBinding", name]["spec"]
        assert bound == {"policyName": name, "validationActions": ["Deny"]}
    assert read == set(allowed), "each list of a plan is read by a fence"
    assert _of(rendered, "ValidatingAdmissionPolicy") == set(names.FENCES)
    operator = f"system:serviceaccount:{names.NAMESPACE_SYSTEM}:{names.SERVICE_ACCOUNT_OPERATOR}"
    condition = rendered["ValidatingAdmissionPolicy", "tenantplane-operator-fence"]["spec"]["matchConditions"][0]
    assert operator in condition["expression"]


def test_crds_are_the_generated_ones_and_are_never_deleted(rendered: dict[tuple[str, str], Manifest]) -> None:
    files = sorted((CHART / "files" / "crds").glob("*.yaml"))
    assert len(files) == 3
    for file in files:
        generated = yaml.safe_load(file.read_text())
        item = rendered["CustomResourceDefinition", generated["metadata"]["name"]]
        assert item["metadata"].pop("annotations") == {
            "helm.sh/resource-policy": "keep",
            "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        }
        assert item == generated


def test_crds_can_be_left_to_others(helm: Helm) -> None:
    assert not _of(helm.objects({"crds.install": False}), "CustomResourceDefinition")


def test_helm_makes_the_release_namespace_and_the_chart_the_others(helm: Helm) -> None:
    assert _of(helm.objects(), "Namespace") == {names.NAMESPACE_RUNTIME, names.NAMESPACE_JOBS, names.NAMESPACE_MODELS}
    assert not _of(helm.objects({"namespaces.create": False}), "Namespace")


def test_every_namespaced_object_names_its_namespace(rendered: dict[tuple[str, str], Manifest]) -> None:
    for (kind, name), item in rendered.items():
        assert (kind in CLUSTER_SCOPED) == ("namespace" not in item["metadata"]), (kind, name)


def test_namespaces_are_restricted_and_closed(rendered: dict[tuple[str, str], Manifest]) -> None:
    for name in _of(rendered, "Namespace"):
        metadata = rendered["Namespace", name]["metadata"]
        for mode in ("enforce", "audit", "warn"):
            assert metadata["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"
        assert metadata["annotations"]["helm.sh/resource-policy"] == "keep"
        deny = rendered["NetworkPolicy", f"{name}/tenantplane-default-deny"]["spec"]
        assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_operator_has_no_right_that_would_undo_the_fence(rendered: dict[tuple[str, str], Manifest]) -> None:
    for rule in rendered["ClusterRole", "tenantplane-operator"]["rules"]:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "secrets" not in rule["resources"]
        if {"clusterroles", "clusterrolebindings", "roles"} & set(rule["resources"]):
            assert rule["verbs"] == ["bind"]
            assert rule["resourceNames"]
        assert not any(r.startswith(("validatingadmission", "pods")) for r in rule["resources"])
        if "customresourcedefinitions" in rule["resources"]:
            assert rule["verbs"] == ["get"]
            assert all(name.endswith(f".{names.GROUP}") for name in rule["resourceNames"])
    (bound,) = [
        item
        for (kind, name), item in rendered.items()
        if kind == "ClusterRoleBinding" and name == "tenantplane-operator"
    ]
    assert [s["name"] for s in bound["subjects"]] == [names.SERVICE_ACCOUNT_OPERATOR]


def test_both_programs_are_hardened(rendered: dict[tuple[str, str], Manifest]) -> None:
    for program in ("operator", "dataplane"):
        item = rendered["Deployment", f"tenantplane-system/tenantplane-{program}"]
        pod = item["spec"]["template"]["spec"]
        assert item["spec"]["replicas"] == 1
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "privileged": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]) == {"requests", "limits"}
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
        assert container["image"] == f"tenantplane/{program}:{__version__}"
        assert "--platform=/etc/tenantplane/platform.yaml" in container["args"]
        selector = item["spec"]["selector"]["matchLabels"]
        assert selector.items() <= item["spec"]["template"]["metadata"]["labels"].items()
        policy = rendered["NetworkPolicy", f"tenantplane-system/tenantplane-{program}"]
        assert policy["spec"]["podSelector"]["matchLabels"] == selector


def test_the_data_plane_drains_keeps_documents_in_memory_and_hides_its_internal_port(helm: Helm) -> None:
    objects = helm.objects({"platform.dataplane.drainSeconds": 90.5})
    pod = objects["Deployment", "tenantplane-system/tenantplane-dataplane"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 111
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["documents"]["emptyDir"]["medium"] == "Memory"
    service = objects["Service", "tenantplane-system/tenantplane-dataplane"]["spec"]
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(8080, "http")]
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    assert ports == {"http": 8080, "internal": 8081}
    labels = _platform(objects).shared.dataplane.pod_labels
    template = objects["Deployment", "tenantplane-system/tenantplane-dataplane"]["spec"]["template"]
    assert labels.items() <= template["metadata"]["labels"].items()


def test_a_changed_platform_file_restarts_whom_it_must(helm: Helm) -> None:
    """The operator takes plans over while it runs; the data plane reads the file when it starts."""

    def sums(sets: dict[str, Any]) -> dict[str, str]:
        objects = helm.objects(sets)
        return {
            name.rpartition("-")[2]: objects["Deployment", name]["spec"]["template"]["metadata"]["annotations"][
                "checksum/platform"
            ]
            for name in _of(objects, "Deployment")
        }

    def restarted(sets: dict[str, Any]) -> set[str]:
        after = sums(sets)
        return {program for program, before in unchanged.items() if after[program] != before}

    unchanged = sums({})
    assert restarted({}) == set()
    assert restarted({"platform.operator.workers": 8}) == {"operator", "dataplane"}
    assert restarted({"platform.operator.plans.default.description": "Another."}) == {"dataplane"}


def test_toggles(helm: Helm) -> None:
    objects = helm.objects(dict(PROGRAMS_DISABLED))
    assert not _of(objects, "Deployment") | _of(objects, "Service")
    assert len(_of(objects, "ServiceAccount")) == 3
    assert not _of(helm.objects({"models.extractive.create": False}), "ModelDeployment")
    assert not _of(helm.objects({"networkPolicies.enabled": False}), "NetworkPolicy")


# What kubectl-mtb wants every tenant's namespace to be bounded in.
MTB_COUNTS = {
    *(f"{part}.{resource}" for part in ("requests", "limits") for resource in ("cpu", "memory", "ephemeral-storage")),
    "pods",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
}


def test_the_platform_file_is_valid_and_a_short_tenant_chats(rendered: dict[tuple[str, str], Manifest]) -> None:
    platform = _platform(rendered)
    found = platform.plan(None)
    assert found is not None
    name, plan = found
    assert name == "default"
    assert plan.limits.requests.per_minute == 600
    assert plan.limits.concurrency == 32
    assert [(model.alias, model.ref.name, model.ref.namespace) for model in plan.models] == [
        ("default", "extractive", None)
    ]
    model = rendered["ModelDeployment", f"{names.NAMESPACE_MODELS}/extractive"]
    assert model["spec"] == {"engine": {"type": "Extractive"}, "sharing": {"mode": "AllTenants"}}
    assert platform.shared.namespaces.system == names.NAMESPACE_SYSTEM
    assert platform.operator.indexer.image == f"tenantplane/dataplane:{__version__}"
    assert set(plan.quota) >= MTB_COUNTS | {"count/apikeys.tenantplane.dev", "count/modeldeployments.tenantplane.dev"}
    # Nothing that is bounded is refused, or not counted, because a container does not state it.
    limits = merge_limits(None, plan.container_limits, plan_name=name)
    assert limits.problems == ()
    assert without_defaults(plan.quota, limits.limits) == ""
    assert whole_counts(plan.quota, (), plan_name=name)[1] == []


def test_numbers_and_addresses_reach_the_platform_file_unchanged(helm: Helm) -> None:
    objects = helm.objects(
        {
            "platform.operator.indexer.maxTotalBytes": 1_000_000_000,
            "platform.shared.namespaces.models": "tenantplane-models-2",
            "dataplane.service.port": 80,
        }
    )
    platform = _platform(objects)
    assert platform.operator.indexer.max_total_bytes == 1_000_000_000
    assert platform.shared.dataplane.public_url == "http://tenantplane-dataplane.tenantplane-system.svc:80"
    assert ("Role", "tenantplane-models-2/tenantplane-operator") in objects


def test_the_model_is_a_hook_only_where_helm_does_not_know_its_kind(helm: Helm) -> None:
    key = ("ModelDeployment", f"{names.NAMESPACE_MODELS}/extractive")
    first = helm.objects()[key]["metadata"]["annotations"]
    assert first["helm.sh/hook"] == "post-install,post-upgrade"
    assert first["meta.helm.sh/release-name"] == "tenantplane"
    later = helm.objects(None, f"--api-versions={names.API_VERSION}/ModelDeployment")[key]["metadata"]["annotations"]
    assert not any(annotation.startswith(("helm.sh/hook", "meta.")) for annotation in later)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "misspelt platform field": ({"platform.operator.wrokers": 3}, "/platform/operator", "wrokers"),
    "number out of bounds": ({"platform.operator.workers": 0}, "/platform/operator/workers", "minimum"),
    "wrong type": (
        {"platform.operator.plans.default.quota.pods": 3},
        "/platform/operator/plans/default/quota/pods",
        "string",
    ),
    "negative quota": ({"platform.operator.plans.default.quota.pods": "-1"}, "/quota/pods", "pattern"),
    "unknown value": ({"operater.enabled": False}, "operater", "not allowed"),
    "unknown default plan": ({"platform.operator.defaultPlan": "gold"}, "platform.operator.defaultPlan", "gold"),
    "Subprocess runner": (
        {"platform.operator.indexer.runner": "Subprocess"},
        "platform.operator.indexer.runner",
        "Job",
    ),
    "file store": ({"platform.shared.knowledge.store": "file:///srv"}, "platform.shared.knowledge.store", "file://"),
    "two data planes": ({"dataplane.replicas": 2}, "dataplane.replicas", "more than 1"),
    "four operators": ({"operator.replicas": 4}, "operator.replicas", "more than 3"),
    "a namespace that tenants may claim": (
        {"platform.shared.namespaces.jobs": "jobs"},
        "platform.shared.namespaces",
        "jobs",
    ),
    "one namespace twice": (
        {"platform.shared.namespaces.jobs": names.NAMESPACE_RUNTIME},
        "platform.shared.namespaces",
        "differ",
    ),
    "another system namespace": (
        {"platform.shared.namespaces.system": "tenantplane-other"},
        "platform.shared.namespaces.system",
        "leave it out",
    ),
    "no probe port": ({"platform.operator.probePort": 0}, "platform.operator.probePort", "choose one"),
    "everybody as platform admin": (
        {"access.platformAdmins": [{"kind": "Group", "name": "system:authenticated"}]},
        "/access/platformAdmins/0/name",
        "",
    ),
    "ServiceAccount without namespace": (
        {"fence.bypassSubjects": [{"kind": "ServiceAccount", "name": "x"}]},
        "/fence/bypassSubjects/0",
        "namespace",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_values_are_refused_by_name(helm: Helm, case: str) -> None:
    sets, where, why = REFUSED[case]
    done = helm.template(sets)
    assert done.returncode != 0
    assert where in done.stderr
    assert why in done.stderr


def test_a_release_namespace_that_tenants_may_claim_is_refused(helm: Helm) -> None:
    done = helm.template(namespace="default")
    assert done.returncode != 0
    assert "the release namespace is" in done.stderr


def test_the_schema_is_up_to_date() -> None:
    tool = CHART.parent.parent / "tools" / "values_schema.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_readme_documents_every_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    section = (CHART / "README.md").read_text().partition("## Values")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    table = {entry for cell in cells for entry in re.findall(r"`([A-Za-z.]+)`", cell)}
    documented = {entry.partition(".")[0] for entry in table}
    assert documented == set(values)
    for top in ("crds", "namespaces", "access", "fence", "networkPolicies", "jobs", "operator", "dataplane"):
        for key in values[top]:
            assert any(entry == f"{top}.{key}" or entry.startswith(f"{top}.{key}.") for entry in table), f"{top}.{key}"


def test_several_operators_share_a_lease_and_are_kept_apart(helm: Helm) -> None:
    where = f"tenantplane-system/{names.LEASE_NAME}"
    one, three = helm.objects(), helm.objects({"operator.replicas": 3})
    assert ("PodDisruptionBudget", where) not in one
    budget = three["PodDisruptionBudget", where]["spec"]
    deployment = three["Deployment", where]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == deployment["selector"]
    assert deployment["replicas"] == 3
    spread = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert {entry["topologyKey"] for entry in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert {entry["whenUnsatisfiable"] for entry in spread} == {"ScheduleAnyway"}
    rules = one["Role", f"{where}-lease"]["rules"]
    assert [(rule.get("resourceNames"), rule["verbs"]) for rule in rules] == [
        (None, ["create"]),
        ([names.LEASE_NAME], ["get", "update"]),
    ]
