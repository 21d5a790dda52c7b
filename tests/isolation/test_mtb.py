"""The 18 checks of kubectl-mtb as a tenant's admin with `access.workloads: Restricted`, each beside its counterpart.

A test bears its check's id (lower case, `-` as `_`). Upstream gave MTB-PL1-BC-HI-1 to two checks, and two later drafts
are here as well. What each asks and what holds is in docs/multi-tenancy-checks.md, which a test compares with this
file.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from tests.chart.kube import until
from tests.isolation.attempts import binding, claim
from tests.isolation.conftest import PLAN, Place, Side, end_pods
from tests.isolation.people import (
    ACCOUNTS,
    BINDINGS,
    CLAIMS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    FENCE,
    JOBS,
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    POD_SECURITY,
    PODS,
    QUOTA,
    QUOTAS,
    RBAC,
    ROLES,
    SECRETS,
    SERVICES,
    Manifest,
    Person,
    container,
    obj,
    pod,
    pod_spec,
    refused_by,
    template,
    workload,
)
from tests.operator.e2e.world import wait

from tenantplane_api.runtime import names

pytestmark = pytest.mark.cluster

DOCUMENT = Path(__file__).parents[2] / "docs" / "multi-tenancy-checks.md"
UPSTREAM = {
    "MTB-PL1-CC-CPI-1": 1,
    "MTB-PL1-BC-CPI-2": 1,
    "MTB-PL1-BC-CPI-3": 1,
    "MTB-PL1-BC-CPI-4": 1,
    "MTB-PL1-BC-CPI-5": 1,
    "MTB-PL1-BC-CPI-6": 1,
    "MTB-PL1-CC-FNS-1": 1,
    "MTB-PL1-CC-FNS-2": 1,
    "MTB-PL1-CC-TI-1": 1,
    "MTB-PL1-CC-TI-2": 1,
    "MTB-PL1-CC-DI-1": 1,
    "MTB-PL1-BC-HI-1": 2,
    "MTB-PL1-BC-HI-3": 1,
    "MTB-PL1-BC-HI-4": 1,
    "MTB-PL1-BC-HI-5": 1,
    "MTB-PL2-BC-OPS-3": 1,
    "MTB-PL2-BC-OPS-4": 1,
}
LATER = {"MTB-PL1-BC-NI-1": 1, "MTB-PL2-CC-TI-1": 1}


def refuses_pod(side: Side, guard: str, *specs: Manifest) -> None:
    """Each pod is refused by that guard, and the harmless pod is really made and deleted by the same person."""
    for spec in specs:
        answer = side.admin.make(PODS, side.space, pod(spec=spec), dry=False)
        assert refused_by(answer) == guard, (spec, answer.body)
    assert side.admin.make(PODS, side.space, pod("harmless"), dry=False).ok
    assert side.admin.remove(PODS, side.space, "harmless", dry=False).ok


def test_mtb_pl1_cc_cpi_1_block_access_to_cluster_resources(place: Place) -> None:
    for side, other in place.both_ways:
        for resource, about in place.cluster_admin.resources(namespaced=False):
            assert refused_by(side.admin.look(resource)) == RBAC, resource
            item = obj(resource.rpartition("/")[0], about["kind"], "probe")
            for verb, answer in (
                ("create", side.admin.make(resource, "", item)),
                ("patch", side.admin.change(resource, "", "probe", {})),
                ("delete", side.admin.remove(resource, "", "probe")),
            ):
                assert refused_by(answer) == RBAC or about["verbs"].count(verb) == 0, (resource, verb, answer.body)
        # A namespace is its own and nobody else's, to be read and nothing more.
        assert side.admin.look(NAMESPACES, name=side.space).ok
        assert refused_by(side.admin.look(NAMESPACES, name=other.space)) == RBAC
        assert refused_by(side.admin.change(NAMESPACES, "", side.space, {"metadata": {"labels": {"a": "b"}}})) == RBAC
        assert side.admin.rules("default") == side.admin.rules("kube-system") == []


def managed(place: Place, side: Side) -> list[tuple[str, Manifest]]:
    """Everything that the operator keeps in a namespace: (resource, object)."""
    # Not by our own label's selector: a managed object without it would be missed.
    return [
        (resource, item)
        for resource, _ in place.cluster_admin.resources(namespaced=True)
        for item in place.cluster_admin.look(resource, side.space).body["items"]
        if item["metadata"].get("labels", {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
    ]


def test_mtb_pl1_bc_cpi_2_block_multitenant_resources(place: Place) -> None:
    side = place.own
    objects = managed(place, side)
    kinds = {resource.rpartition("/")[2] for resource, _ in objects}
    fence = "resourcequotas limitranges networkpolicies rolebindings serviceaccounts configmaps secrets apikeys"
    assert kinds >= set(fence.split())
    # By people and ServiceAccounts with the rights that the chart gives, and by one whom RBAC does not hold at all.
    for who in (side.admin, side.editor, side.viewer, side.robot, side.idle, side.mallory):
        for resource, item in objects:
            name = item["metadata"]["name"]
            marked = {**item, "metadata": {**item["metadata"], "annotations": {"example.com/mark": "x"}}}
            bare = {**item, "metadata": {**item["metadata"], "labels": {}, "managedFields": None}}
            patch = {"metadata": {"annotations": {"example.com/mark": "x"}}}
            finalizer = {"metadata": {"finalizers": ["example.com/hold"]}}
            for what, answer in (
                ("delete", who.remove(resource, side.space, name)),
                ("update", who.replace(resource, side.space, name, marked)),
                ("unlabel", who.replace(resource, side.space, name, bare)),
                *([] if resource.endswith("/apikeys") else [("patch", who.change(resource, side.space, name, patch))]),
                ("finalizer", who.change(resource, side.space, name, finalizer)),
            ):
                guard = refused_by(answer)
                assert guard == FENCE or (guard == RBAC and who is not side.mallory), (who.user, what, answer.body)
    collections = (CONFIG_MAPS, SECRETS, NETWORK_POLICIES, QUOTAS, LIMIT_RANGES, BINDINGS, ACCOUNTS)
    for resource in collections:
        answer = side.mallory.remove(resource, side.space, dry=True)
        assert refused_by(answer) == FENCE, (resource, answer.body)
    for who, right in ((side.admin, True), (side.robot, True), (side.editor, True), (side.viewer, False)):
        item = obj("v1", "ConfigMap", "own", data={"a": "b"})
        made = who.make(CONFIG_MAPS, side.space, item, dry=False)
        assert made.ok == right, made.body
        if right:
            assert who.change(CONFIG_MAPS, side.space, "own", {"data": {"a": "c"}}, dry=False).ok
            assert who.replace(CONFIG_MAPS, side.space, "own", item, dry=False).ok
            assert who.remove(CONFIG_MAPS, side.space, "own", dry=False).ok


def test_mtb_pl1_bc_cpi_3_block_add_capabilities(place: Place) -> None:
    refuses_pod(
        place.own,
        POD_SECURITY,
        *(pod_spec(container(securityContext={"capabilities": {"add": [name]}})) for name in ("SYS_ADMIN", "NET_RAW")),
        pod_spec(container(securityContext={"capabilities": {"drop": ["ALL"], "add": ["ALL"]}})),
        pod_spec(initContainers=[container("i", securityContext={"capabilities": {"add": ["SYS_PTRACE"]}})]),
    )
    # The one capability that Restricted leaves.
    bind = {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}
    assert place.own.admin.make(PODS, place.own.space, pod(spec=pod_spec(container(securityContext=bind)))).ok


def test_mtb_pl1_bc_cpi_4_require_run_as_non_root_user(place: Place) -> None:
    refuses_pod(
        place.own,
        POD_SECURITY,
        pod_spec(securityContext={"runAsNonRoot": None}),
        pod_spec(securityContext={"runAsNonRoot": False}),
        pod_spec(container(securityContext={"runAsNonRoot": False})),
        pod_spec(container(securityContext={"runAsUser": 0})),
        pod_spec(securityContext={"runAsUser": 0}),
    )
    assert place.own.admin.make(PODS, place.own.space, pod(spec=pod_spec(securityContext={"runAsUser": 1000}))).ok


def test_mtb_pl1_bc_cpi_5_block_privileged_containers(place: Place) -> None:
    # `privileged` is invalid beside allowPrivilegeEscalation=false, so that field is left out.
    privileged = {"privileged": True, "allowPrivilegeEscalation": None}
    refuses_pod(
        place.own,
        POD_SECURITY,
        pod_spec(container(securityContext=privileged)),
        pod_spec(initContainers=[container("i", securityContext=privileged)]),
    )


def test_mtb_pl1_bc_cpi_6_block_privilege_escalation(place: Place) -> None:
    refuses_pod(
        place.own,
        POD_SECURITY,
        pod_spec(container(securityContext={"allowPrivilegeEscalation": True})),
        pod_spec(container(securityContext={"allowPrivilegeEscalation": None})),
    )


def hard(side: Side) -> dict[str, str]:
    """The quota as the tenant's admin reads it: one object, in force, with usage beside each entry."""

    def quota() -> Manifest:
        (found,) = side.admin.look(QUOTAS, side.space).body["items"]
        return dict(found)

    until(lambda: quota()["status"].get("hard") == quota()["spec"]["hard"], "the quota is in force")
    assert set(quota()["status"]["used"]) == set(quota()["spec"]["hard"])
    return dict(quota()["spec"]["hard"])


def test_mtb_pl1_cc_fns_1_configure_namespace_resource_quotas(place: Place) -> None:
    side = place.own
    found = hard(side)
    for entry in ("cpu", "memory", "ephemeral-storage"):
        assert {f"requests.{entry}", f"limits.{entry}"} <= set(found)
    assert {"requests.storage", "requests.nvidia.com/gpu"} <= set(found)
    # Three containers of 2 CPUs each are more than 8 of 4 that may be asked for.
    big = {"resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": "2"}}}
    greedy = [container(f"c{n}", **big) for n in range(3)]
    assert refused_by(side.admin.make(PODS, side.space, pod(spec=pod_spec(*greedy)))) == QUOTA
    assert side.admin.make(PODS, side.space, pod(spec=pod_spec(*greedy[:2]))).ok
    # Who asks for nothing gets the plan's defaults, so that nothing escapes the count.
    made = side.admin.make(PODS, side.space, pod()).body
    assert made["spec"]["containers"][0]["resources"] == {
        "limits": PLAN["containerLimits"]["default"],
        "requests": PLAN["containerLimits"]["defaultRequest"],
    }
    beyond = pod_spec(container(resources={"limits": {"cpu": "3"}, "requests": {"cpu": "1"}}))
    assert "maximum cpu usage per Container" in side.admin.make(PODS, side.space, pod(spec=beyond)).message


def test_mtb_pl1_cc_fns_2_configure_namespace_object_limits(place: Place) -> None:
    side = place.own
    entries = "pods services services.loadbalancers services.nodeports persistentvolumeclaims secrets configmaps"
    assert {*entries.split(), "replicationcontrollers", "resourcequotas", "count/jobs.batch"} <= set(hard(side))
    filled: dict[str, list[str]] = {}
    try:
        for resource, item in (
            (PODS, pod()),
            (SERVICES, obj("v1", "Service", "x", spec={"ports": [{"port": 80}]})),
            (CLAIMS, claim()),
            (SECRETS, obj("v1", "Secret", "x", stringData={"a": "b"})),
            (CONFIG_MAPS, obj("v1", "ConfigMap", "x", data={"a": "b"})),
            (JOBS, workload(JOBS, template())),
        ):
            made = filled.setdefault(resource, [])
            for number in itertools.count():
                one = {**item, "metadata": {"name": f"fill-{number}"}}
                answer = side.admin.make(resource, side.space, one, dry=False)
                if not answer.ok:
                    break
                made.append(f"fill-{number}")
                assert number < 64, f"{resource} are not bounded"
            assert refused_by(answer) == QUOTA, answer.body
            assert made, f"the quota leaves the tenant no {resource}"
        # What is ours is counted beyond what the plan gives: the tenant got all of it.
        for key in (SERVICES, CLAIMS, SECRETS, CONFIG_MAPS):
            assert len(filled[key]) >= int(PLAN["quota"][key.rpartition("/")[2]]), key
        # With the namespace full, the operator still heals, and gets the Secret of one more key in.
        assert place.cluster_admin.remove(CONFIG_MAPS, side.space, names.CHILD_STATUS_CONFIG_MAP, dry=False).ok
        wait(lambda: side.admin.look(CONFIG_MAPS, side.space, names.CHILD_STATUS_CONFIG_MAP).ok, "it is back", target=3)
        place.world.patch("Tenant", side.name, spec={"auth": {"apiKeys": [{"name": "default"}, {"name": "second"}]}})
        wait(lambda: side.admin.look(SECRETS, side.space, "second").ok, "the second key's Secret", target=5)
        place.world.await_ready(side.name, target=5)
    finally:
        for resource, made in filled.items():
            for name in made:
                place.cluster_admin.remove(resource, side.space, name, dry=False)
                place.cluster_admin.change(resource, side.space, name, {"metadata": {"finalizers": None}}, dry=False)
        end_pods(place, side)
    until(lambda: side.admin.make(PODS, side.space, pod()).ok, "there is room again")
    until(lambda: side.admin.make(SECRETS, side.space, obj("v1", "Secret", "x")).ok, "there is room again")


def test_mtb_pl1_cc_ti_1_block_modification_of_resource_quotas(place: Place) -> None:
    for side in (place.own, place.other):
        more = {"spec": {"hard": {"pods": "999"}}}
        wide = obj("v1", "ResourceQuota", "more", spec=more["spec"])
        current = dict(side.admin.look(QUOTAS, side.space, names.CHILD_QUOTA).body)
        for who in (side.admin, side.editor, side.viewer, side.robot):
            for answer in (
                who.make(QUOTAS, side.space, wide),
                who.change(QUOTAS, side.space, names.CHILD_QUOTA, more),
                who.replace(QUOTAS, side.space, names.CHILD_QUOTA, {**current, **more}),
                who.change(QUOTAS, side.space, names.CHILD_QUOTA, {"status": more["spec"]}, sub="status"),
                who.remove(QUOTAS, side.space, names.CHILD_QUOTA),
                who.remove(QUOTAS, side.space),
                who.remove(LIMIT_RANGES, side.space, names.CHILD_LIMIT_RANGE),
            ):
                assert refused_by(answer) == RBAC, answer.body
        # Not even with every right in the namespace, whether by the quota itself or by forging what it counted.
        for answer in (
            side.mallory.change(QUOTAS, side.space, names.CHILD_QUOTA, more),
            side.mallory.change(QUOTAS, side.space, names.CHILD_QUOTA, {"status": {"used": {}}}, sub="status"),
            side.mallory.remove(QUOTAS, side.space, names.CHILD_QUOTA),
        ):
            assert refused_by(answer) == FENCE, answer.body
        assert side.viewer.look(QUOTAS, side.space, names.CHILD_QUOTA).ok
    # Who may change it is the platform team, through the Tenant.
    place.world.patch("Tenant", place.own.name, spec={"quota": {"pods": "7"}})
    wait(lambda: hard(place.own)["pods"] == "7", "the Tenant's own number", target=3)
    place.world.patch("Tenant", place.own.name, spec={"quota": None})


def test_mtb_pl1_cc_ti_2_block_access_to_other_tenant_resources(place: Place) -> None:
    for side, other in place.both_ways:
        for who in (side.admin, side.editor, side.viewer, side.mallory, side.robot, side.idle):
            assert who.rules(other.space) == [], who.user
        assert side.admin.rules(side.space)
        for resource, about in place.cluster_admin.resources(namespaced=True):
            answers = [side.mallory.look(resource, other.space), side.mallory.remove(resource, other.space, "probe")]
            item = obj(resource.rpartition("/")[0], about["kind"], "probe")
            answers += [side.mallory.make(resource, other.space, item)] if "create" in about["verbs"] else []
            assert {refused_by(answer) for answer in answers} == {RBAC}, resource
            assert side.mallory.look(resource, side.space).ok, resource
    assert place.stranger.rules(place.own.space) == []


def test_mtb_pl1_cc_di_1_require_always_image_pull_policy(place: Place) -> None:
    refuses_pod(
        place.own,
        FENCE,
        pod_spec(container(imagePullPolicy="Never")),
        pod_spec(container(imagePullPolicy="IfNotPresent")),
        pod_spec(container(imagePullPolicy=None)),  # a tagged image: IfNotPresent
        pod_spec(initContainers=[container("i", imagePullPolicy="Never")]),
    )
    body = template(pod_spec(container(imagePullPolicy="Never")))
    assert refused_by(place.own.admin.make(DEPLOYMENTS, place.own.space, workload(DEPLOYMENTS, body))) == FENCE
    latest = pod_spec(container(image="registry.example/app:latest", imagePullPolicy=None))
    assert place.own.admin.make(PODS, place.own.space, pod(spec=latest)).ok


def test_mtb_pl1_bc_hi_1_block_use_of_host_path_volumes(place: Place) -> None:
    def with_volume(source: Manifest) -> Manifest:
        return pod_spec(volumes=[{"name": "v", **source}])

    refuses_pod(place.own, POD_SECURITY, *(with_volume({"hostPath": {"path": p}}) for p in ("/", "/var/run")))
    assert place.own.admin.make(PODS, place.own.space, pod(spec=with_volume({"emptyDir": {}}))).ok


def test_mtb_pl1_bc_hi_1_block_use_of_node_port_services(place: Place) -> None:
    side = place.own
    web = {"selector": {"app": "probe"}, "ports": [{"port": 80}]}
    assert side.admin.make(SERVICES, side.space, obj("v1", "Service", "web", spec=web), dry=False).ok
    port = obj("v1", "Service", "x", spec={**web, "type": "NodePort"})
    assert refused_by(side.admin.make(SERVICES, side.space, port)) == FENCE
    assert refused_by(side.admin.change(SERVICES, side.space, "web", {"spec": {"type": "NodePort"}})) == FENCE
    assert side.admin.remove(SERVICES, side.space, "web", dry=False).ok


def test_mtb_pl1_bc_hi_3_block_use_of_host_networking_and_ports(place: Place) -> None:
    ports = [{"containerPort": 8080, "hostPort": 8080}]
    refuses_pod(
        place.own,
        POD_SECURITY,
        pod_spec(hostNetwork=True),
        pod_spec(container(ports=ports)),
        pod_spec(initContainers=[container("i", ports=ports)]),
    )
    assert place.own.admin.make(PODS, place.own.space, pod(spec=pod_spec(container(ports=[{"containerPort": 80}])))).ok


def test_mtb_pl1_bc_hi_4_block_use_of_host_pid(place: Place) -> None:
    refuses_pod(place.own, POD_SECURITY, pod_spec(hostPID=True))
    assert place.own.admin.make(PODS, place.own.space, pod(spec=pod_spec(shareProcessNamespace=True))).ok


def test_mtb_pl1_bc_hi_5_block_use_of_host_ipc(place: Place) -> None:
    refuses_pod(place.own, POD_SECURITY, pod_spec(hostIPC=True))


def test_mtb_pl2_bc_ops_3_create_role_bindings(place: Place) -> None:
    """Self-service is refused by choice: who may come in is written in the Tenant, where the platform team sees it."""
    side = place.own
    role = obj("rbac.authorization.k8s.io/v1", "Role", "more", rules=[])
    for who in (side.admin, side.robot, side.editor):
        assert refused_by(who.make(ROLES, side.space, role)) == RBAC
        for name in ("view", names.CLUSTER_ROLE_TENANT_VIEWER, "cluster-admin"):
            assert refused_by(who.make(BINDINGS, side.space, binding(name))) == RBAC
    newcomer = Person(place.world.cluster.persona(f"newcomer@{side.name}"))
    access: dict[str, Any] = dict((place.world.get("Tenant", side.name) or {})["spec"]["access"])
    assert refused_by(newcomer.look(CONFIG_MAPS, side.space)) == RBAC
    viewers = [*access["viewers"], {"kind": "User", "name": newcomer.user}]
    place.world.patch("Tenant", side.name, spec={"access": {**access, "viewers": viewers}})
    until(lambda: newcomer.look(CONFIG_MAPS, side.space).ok, "the newcomer reads")
    assert refused_by(newcomer.look(SECRETS, side.space)) == RBAC
    assert refused_by(newcomer.look(CONFIG_MAPS, place.other.space)) == RBAC
    place.world.patch("Tenant", side.name, spec={"access": access})
    until(lambda: refused_by(newcomer.look(CONFIG_MAPS, side.space)) == RBAC, "the newcomer is out")


def test_mtb_pl2_bc_ops_4_create_network_policies(place: Place) -> None:
    """Self-service is refused by choice: policies add up, so one of the tenant's could open the fence."""
    side = place.own
    before = {item["metadata"]["name"] for item in side.admin.look(NETWORK_POLICIES, side.space).body["items"]}
    opening = obj(
        "networking.k8s.io/v1", "NetworkPolicy", "open", spec={"podSelector": {}, "egress": [{}], "ingress": [{}]}
    )
    for who in (side.admin, side.robot, side.editor):
        assert refused_by(who.make(NETWORK_POLICIES, side.space, opening)) == RBAC
    for name in sorted(before):
        assert refused_by(side.admin.remove(NETWORK_POLICIES, side.space, name)) == RBAC
    place.world.patch("Tenant", side.name, spec={"network": {"ingress": {"namespaces": ["monitoring"]}}})

    def opened() -> bool:
        policy = side.admin.look(NETWORK_POLICIES, side.space, names.CHILD_NETWORK_POLICY_INGRESS)
        return policy.ok and "monitoring" in str(policy.body["spec"])

    wait(opened, "the Tenant's own opening", target=3)
    place.world.patch("Tenant", side.name, spec={"network": None})
    wait(lambda: not opened(), "the opening is closed again", target=3)


def test_mtb_pl1_bc_ni_1_default_deny_network_connections_across_tenants(place: Place) -> None:
    """What is applied; a control plane enforces nothing. Flows over the generated policies are judged elsewhere."""
    for side in (place.own, place.other):
        deny = side.admin.look(NETWORK_POLICIES, side.space, names.CHILD_NETWORK_POLICY_DENY).body["spec"]
        assert deny["podSelector"] == {}
        assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
        assert not deny.get("ingress")
        assert not deny.get("egress")


def test_mtb_pl2_cc_ti_1_block_role_privilege_escalation(place: Place) -> None:
    side = place.own
    rules = [rule for who in (side.admin, side.editor, side.viewer, side.robot) for rule in who.rules(side.space)]
    assert rules
    for rule in rules:
        assert not {"escalate", "bind", "impersonate", "*"} & set(rule["verbs"]), rule
        assert not {"*", "roles", "clusterroles"} & set(rule["resources"]), rule
        assert "*" not in rule["apiGroups"], rule
        written = {"create", "update", "patch", "delete", "deletecollection"} & set(rule["verbs"])
        assert not written or not {"rolebindings", "serviceaccounts", "serviceaccounts/token"} & set(rule["resources"])


def test_document_and_tests_are_in_step() -> None:
    rows = re.findall(r"^\| (MTB-\S+) \|.*\| `(test_\w+)` \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    tests = [name for name in globals() if name.startswith("test_mtb_")]
    assert sorted(test for _, test in rows) == sorted(tests)
    for check, test in rows:
        assert test.startswith(f"test_{check.lower().replace('-', '_')}_")
    listed = [check for check, _ in rows]
    assert {check: listed.count(check) for check in listed} == UPSTREAM | LATER
    assert sum(UPSTREAM.values()) == 18
