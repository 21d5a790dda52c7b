"""Every control of the Pod Security Standards against a hostile pod, in a namespace made by the operator.

Each hostile pod differs from the harmless one in one control, and it must be that control by which it is refused. Tried
in containers, init containers and ephemeral containers, and through Deployments, which Pod Security lets pass: there
the controller manager is refused the pods. Upstream's own fixtures are run by test_pod_security_fixtures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.chart.kube import fence_down, until
from tests.isolation.conftest import Place, end_pods
from tests.isolation.people import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    FENCE,
    JOBS,
    NAMESPACE_FENCE,
    NAMESPACES,
    POD_SECURITY,
    PODS,
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

from tenantplane_api.runtime import names

pytestmark = pytest.mark.cluster


def volume(**source: Any) -> Manifest:
    return pod_spec(volumes=[{"name": "v", **source}])


def security(**fields: Any) -> Manifest:
    return {"securityContext": fields}


PROBE = {"httpGet": {"host": "10.0.0.1", "port": 80}}
UNMASKED = security(procMount="Unmasked")
WINDOWS = {"windowsOptions": {"hostProcess": True, "runAsUserName": "ContainerUser"}}

# What Pod Security says, of a container. Wherever a container may stand.
CONTAINERS: dict[str, tuple[str, Manifest]] = {
    "privileged": ("privileged", security(privileged=True, allowPrivilegeEscalation=None)),
    "capability": ("unrestricted capabilities", security(capabilities={"drop": ["ALL"], "add": ["SYS_TIME"]})),
    "capabilities not dropped": ("unrestricted capabilities", security(capabilities={})),
    "privilege escalation": ("allowPrivilegeEscalation != false", security(allowPrivilegeEscalation=True)),
    "root by flag": ("runAsNonRoot != true", security(runAsNonRoot=False)),
    "root by number": ("runAsUser=0", security(runAsUser=0)),
    "seccomp": ("seccompProfile", security(seccompProfile={"type": "Unconfined"})),
    "AppArmor": ("forbidden AppArmor profile", security(appArmorProfile={"type": "Unconfined"})),
    "SELinux type": ("seLinuxOptions", security(seLinuxOptions={"type": "spc_t"})),
    "SELinux user": ("seLinuxOptions", security(seLinuxOptions={"user": "system_u"})),
}
# Not for ephemeral containers, which have neither ports nor probes nor hooks.
LASTING: dict[str, tuple[str, Manifest]] = {
    "host port": ("hostPort", {"ports": [{"containerPort": 80, "hostPort": 80}]}),
}
# Nor for init containers that end.
MAIN: dict[str, tuple[str, Manifest]] = {
    "liveness probe": ("probe or lifecycle host", {"livenessProbe": PROBE}),
    "readiness probe": ("probe or lifecycle host", {"readinessProbe": PROBE}),
    "startup probe": ("probe or lifecycle host", {"startupProbe": PROBE}),
    "hook": ("probe or lifecycle host", {"lifecycle": {"preStop": PROBE}}),
}
HOST_NETWORK: Mapping[str, Any] = {"hostNetwork": True}
WHOLE: dict[str, tuple[str, Manifest]] = {
    "host network": ("host namespaces", pod_spec(**HOST_NETWORK)),
    "host processes": ("host namespaces", pod_spec(hostPID=True)),
    "host IPC": ("host namespaces", pod_spec(hostIPC=True)),
    "host path": ("restricted volume types", volume(hostPath={"path": "/"})),
    "NFS": ("restricted volume types", volume(nfs={"server": "10.0.0.1", "path": "/"})),
    "iSCSI": (
        "restricted volume types",
        volume(iscsi={"targetPortal": "10.0.0.1", "iqn": "iqn.2026-01.x:y", "lun": 0}),
    ),
    "AWS volume": ("restricted volume types", volume(awsElasticBlockStore={"volumeID": "vol-1"})),
    "pod without seccomp": ("seccompProfile", pod_spec(securityContext={"seccompProfile": None})),
    "pod of root": ("runAsUser=0", pod_spec(securityContext={"runAsUser": 0})),
    "pod may be root": ("runAsNonRoot != true", pod_spec(securityContext={"runAsNonRoot": None})),
    "sysctl": ("forbidden sysctls", pod_spec(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]})),
    "pod AppArmor": ("forbidden AppArmor", pod_spec(securityContext={"appArmorProfile": {"type": "Unconfined"}})),
    "pod SELinux": ("seLinuxOptions", pod_spec(securityContext={"seLinuxOptions": {"role": "sysadm_r"}})),
    # Without a user namespace of its own the server finds an unmasked /proc invalid, whatever Pod Security says.
    "/proc": ("procMount", pod_spec(container(**UNMASKED), hostUsers=False)),
    "/proc of an init container": ("procMount", pod_spec(initContainers=[container("i", **UNMASKED)], hostUsers=False)),
    # Likewise a host process that is not on the host's network.
    "Windows host process": ("hostProcess", pod_spec(hostNetwork=True, securityContext=WINDOWS)),
    "Windows host container": ("hostProcess", pod_spec(container(**security(**WINDOWS)), hostNetwork=True)),
}
# A counterpart for the controls that leave something: close to the hostile pod, and let through.
HARMLESS: Mapping[str, Manifest] = {
    "capability": pod_spec(container(**security(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}))),
    "seccomp": pod_spec(container(**security(seccompProfile={"type": "Localhost", "localhostProfile": "x.json"}))),
    "AppArmor": pod_spec(container(**security(appArmorProfile={"type": "RuntimeDefault"}))),
    "SELinux": pod_spec(container(**security(seLinuxOptions={"type": "container_t", "level": "s0:c1,c2"}))),
    "/proc": pod_spec(container(**security(procMount="Default"))),
    "user": pod_spec(container(**security(runAsUser=1000, runAsNonRoot=True))),
    "port": pod_spec(container(ports=[{"containerPort": 80}])),
    "probe": pod_spec(container(livenessProbe={"httpGet": {"port": 80}})),
    "sysctl": pod_spec(securityContext={"sysctls": [{"name": "net.ipv4.ping_group_range", "value": "0 0"}]}),
    "volumes": pod_spec(
        volumes=[
            {"name": "a", "emptyDir": {}},
            {"name": "b", "configMap": {"name": "x"}},
            {"name": "c", "secret": {"secretName": "x"}},
            {"name": "d", "downwardAPI": {}},
            {"name": "e", "projected": {"sources": []}},
            {"name": "f", "persistentVolumeClaim": {"claimName": "x"}},
        ]
    ),
    "init container": pod_spec(initContainers=[container("i")]),
    "own user namespace": pod_spec(hostUsers=False),
}


def hostile() -> Iterator[tuple[str, str, Manifest]]:
    """(name, what Pod Security must say, spec of a pod) of every case that a pod can be made with."""
    for name, (words, fields) in (CONTAINERS | LASTING | MAIN).items():
        yield f"container: {name}", words, pod_spec(container(**fields))
    for name, (words, fields) in (CONTAINERS | LASTING).items():
        yield f"init container: {name}", words, pod_spec(initContainers=[container("i", **fields)])
    for name, (words, fields) in MAIN.items():
        sidecar = container("i", restartPolicy="Always", **fields)
        yield f"sidecar: {name}", words, pod_spec(initContainers=[sidecar])
    for name, (words, spec) in WHOLE.items():
        yield f"pod: {name}", words, spec


def says(message: str, words: str) -> bool:
    """True when the refusal is for that control, and that its level is the platform's floor is told."""
    return words in message and 'violates PodSecurity "restricted:' in message


def test_every_control_refuses_a_hostile_pod(place: Place) -> None:
    side = place.own
    for name, words, spec in hostile():
        answer = side.admin.make(PODS, side.space, pod(spec=spec))
        assert refused_by(answer) == POD_SECURITY, (name, answer.body)
        assert says(answer.message, words), (name, answer.message)
        # The control alone, or the case would prove another one. (Host network makes ports the host's.)
        reasons = re.split(r"\), ", answer.message.partition('": ')[2])
        assert (
            len(reasons) == 1 or "privileged" in name or "Windows" in name or "capability" in name or "path" in name
        ), (
            name,
            reasons,
        )


@pytest.mark.parametrize("name", HARMLESS)
def test_its_harmless_counterpart_runs(place: Place, name: str) -> None:
    answer = place.own.admin.make(PODS, place.own.space, pod(spec=HARMLESS[name]))
    assert answer.ok, answer.body


def test_ephemeral_containers_are_no_way_around(place: Place) -> None:
    side = place.own
    assert side.admin.make(PODS, side.space, pod("host"), dry=False).ok
    try:

        def debug(who: Person, **fields: Any) -> Any:
            patch = {"spec": {"ephemeralContainers": [container("debug", **fields)]}}
            kind = "application/strategic-merge-patch+json"
            return who.change(PODS, side.space, "host", patch, sub="ephemeralcontainers", kind=kind)

        assert refused_by(debug(side.admin)) == "RBAC"
        for name, (words, fields) in CONTAINERS.items():
            answer = debug(side.mallory, **fields)
            assert refused_by(answer) == POD_SECURITY, (name, answer.body)
            assert says(answer.message, words), (name, answer.message)
        assert refused_by(debug(side.mallory, image="elsewhere.example/app:1")) == FENCE
        assert refused_by(debug(side.mallory, imagePullPolicy="Never")) == FENCE
        assert debug(side.mallory).ok
    finally:
        end_pods(place, side)


def test_a_deployment_does_not_smuggle_a_hostile_pod_in(place: Place) -> None:
    side = place.own
    chosen = {name: (words, spec) for name, words, spec in hostile() if name.startswith(("container: ", "pod: "))}
    names_of = {f"d{number}": name for number, name in enumerate(chosen)}
    try:
        for short, name in list(names_of.items()):
            body = template(chosen[name][1], labels={"app": "probe", "which": short})
            item = workload(DEPLOYMENTS, body, short)
            item["spec"]["selector"] = {"matchLabels": {"which": short}}
            guard = refused_by(side.admin.make(DEPLOYMENTS, side.space, item, dry=False))
            if guard:
                # Volumes from outside the cluster do not even get so far.
                assert (guard, chosen[name][0]) == (FENCE, "restricted volume types"), name
                del names_of[short]
        assert len(names_of) > 20
        good = workload(DEPLOYMENTS, template(), "good")
        assert side.admin.make(DEPLOYMENTS, side.space, good, dry=False).ok
        seen: dict[str, str] = {}

        def told() -> bool:
            for item in side.admin.look(DEPLOYMENTS, side.space).body["items"]:
                for condition in item.get("status", {}).get("conditions", []):
                    if condition["type"] == "ReplicaFailure" and condition["reason"] == "FailedCreate":
                        seen[item["metadata"]["name"]] = condition["message"]
            return set(seen) == set(names_of)

        until(told, "every hostile Deployment reports FailedCreate")
        for short, name in names_of.items():
            assert says(seen[short], chosen[name][0]), (name, seen[short])
        until(lambda: len(side.admin.look(PODS, side.space).body["items"]) == 1, "the harmless one has its pod")
        (made,) = side.admin.look(PODS, side.space).body["items"]
        assert made["metadata"]["name"].startswith("good-")
    finally:
        for short in (*names_of, "good"):
            side.admin.remove(DEPLOYMENTS, side.space, short, dry=False)
        until(
            lambda: not side.admin.look("apps/v1/replicasets", side.space).body["items"], "their ReplicaSets are gone"
        )
        end_pods(place, side)


def test_a_job_does_not_either(place: Place) -> None:
    side = place.own
    hostile_job = workload(JOBS, template(pod_spec(hostPID=True)), "hostile")
    try:
        assert side.admin.make(JOBS, side.space, hostile_job, dry=False).ok
        assert side.admin.make(JOBS, side.space, workload(JOBS, template(), "good"), dry=False).ok

        def told() -> bool:
            events = side.admin.look("v1/events", side.space).body["items"]
            mine = [e["message"] for e in events if e["involvedObject"]["name"] == "hostile"]
            return any(says(message, "host namespaces") for message in mine)

        until(told, "an event tells why the Job has no pod")
        until(lambda: len(side.admin.look(PODS, side.space).body["items"]) == 1, "the harmless one has its pod")
    finally:
        for name in ("hostile", "good"):
            side.admin.remove(JOBS, side.space, name, dry=False)
        end_pods(place, side)
        until(lambda: not side.admin.look(PODS, side.space).body["items"], "no pod is left")


def test_who_could_take_pod_security_down_cannot(place: Place) -> None:
    """With every right in the namespace; and seen to matter: with the guard off it works, and the pod gets in."""
    side = place.own
    enforce = "pod-security.kubernetes.io/enforce"
    privileged = {"metadata": {"labels": {enforce: "privileged"}}}
    removed = {"metadata": {"labels": {enforce: None}}}
    older = {"metadata": {"labels": {f"{enforce}-version": "v1.0"}}}
    for patch in (privileged, removed, older):
        assert refused_by(side.mallory.change(NAMESPACES, "", side.space, patch)) == NAMESPACE_FENCE
        assert refused_by(side.admin.change(NAMESPACES, "", side.space, patch)) == "RBAC"
    # What the customer may say of its namespace is said in the Tenant.
    place.world.patch("Tenant", side.name, spec={"namespace": {"labels": {"example.com/a": "b"}}})
    until(
        lambda: "example.com/a" in side.admin.look(NAMESPACES, name=side.space).body["metadata"]["labels"],
        "the label is there",
    )
    evil = pod(spec=pod_spec(hostPID=True))
    with fence_down(
        place.cluster_admin,
        NAMESPACE_FENCE,
        lambda: side.mallory.change(NAMESPACES, "", side.space, {"metadata": {"labels": {names.LABEL_TENANT: "x"}}}),
    ):
        until(lambda: side.mallory.change(NAMESPACES, "", side.space, privileged).ok, "the namespace fence is down")
        assert side.mallory.change(NAMESPACES, "", side.space, privileged, dry=False).ok
        # The operator puts the label back within moments; until then the pod passes.
        until(lambda: refused_by(side.admin.make(PODS, side.space, evil)) == POD_SECURITY, "the label is back")
    assert refused_by(side.admin.make(PODS, side.space, evil)) == POD_SECURITY


def test_without_its_label_the_hostile_pods_are_let_in(place: Place) -> None:
    """The counterproof of this file: the namespace's Pod Security is what refuses, and nothing else."""
    assert place.cluster_admin.make(NAMESPACES, "", obj("v1", "Namespace", "unfenced"), dry=False).ok
    try:
        until(lambda: place.cluster_admin.look(CONFIG_MAPS, "unfenced", "kube-root-ca.crt").ok, "it is set up")
        until(lambda: place.cluster_admin.look("v1/serviceaccounts", "unfenced", "default").ok, "it is set up")
        for name, _, spec in hostile():
            answer = place.cluster_admin.make(PODS, "unfenced", pod(spec=spec))
            assert answer.ok, (name, answer.body)
    finally:
        place.cluster_admin.remove(NAMESPACES, "", "unfenced", dry=False)
