"""What tenants' pods may use: refused and allowed by plan, as user and as ServiceAccount, in pods and in templates."""

from __future__ import annotations

from typing import Any

import pytest
from tests.chart.conftest import Plans, World, binding, tenant_namespace, user
from tests.chart.kube import Actor, Answer, Manifest, fence_down, manifest, until
from tests.chart.plans import (
    ALL,
    ANY,
    IMAGE,
    LISTED,
    NEVER,
    SPACES,
    TEMPLATES,
    WITH_IMAGE,
    Act,
    Case,
    container,
    create,
    keep,
    pod,
    pod_spec,
    workload,
)

from tenantplane_api.runtime import limits
from tenantplane_api.runtime.platform import Allowances

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("chart")]

POLICY = "tenantplane-tenant-pods-fence"
CLOSED = SPACES["closed"]
DIGEST = "sha256:" + "0123456789abcdef" * 4


def _image(image: str, allowed: frozenset[str]) -> Case:
    return Case(pod(container(image=image)), allowed, POLICY, f"image {image} ", plans=ALL)


def _case(allowed: frozenset[str], word: str, *containers: Manifest, **more: Any) -> Case:
    return Case(pod(*containers, **more), allowed, POLICY, word)


def _token(audience: str | None, account: str) -> dict[str, Any]:
    token = {"path": "t", "expirationSeconds": 3600} | ({"audience": audience} if audience else {})
    volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": token}]}}
    return {"volumes": [volume], "serviceAccountName": account, "automountServiceAccountToken": False}


def _affinity(kind: str, **term: Any) -> dict[str, Any]:
    full = {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {}, **term}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [full]}}}


def _preferred(**term: Any) -> dict[str, Any]:
    full = {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}, **term}}
    return {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [full]}}}


def _toleration(**toleration: Any) -> dict[str, Any]:
    return {"tolerations": [toleration]}


IMAGES: dict[str, frozenset[str]] = {
    # below a prefix
    "registry.example/acme/app:1": WITH_IMAGE,
    "registry.example/acme/team/app": WITH_IMAGE,
    f"registry.example/acme/app@{DIGEST}": WITH_IMAGE,
    f"registry.example/acme/app:1@{DIGEST}": WITH_IMAGE,
    # what only looks like it
    "registry.example/acme-evil/app": ANY,
    "registry.example/acme": ANY,
    "registry.example.evil/acme/app": ANY,
    "registry.example:5000/acme/app": ANY,
    "evil.example/registry.example/acme/app": ANY,
    "Registry.Example/acme/app": ANY,
    "registry.example/Acme/app": ANY,
    "registry.example/acme/../evil/app": ANY,
    "registry.example/acme//evil": ANY,
    "registry.example/acme/app@evil.example/app": ANY,
    "https://registry.example/acme/app": ANY,
    # a whole repository, with any tag or digest, by each of its names
    "nginx": LISTED,
    "nginx:1.29": LISTED,
    f"nginx@{DIGEST}": LISTED,
    "library/nginx": LISTED,
    "docker.io/nginx:1": LISTED,
    "docker.io/library/nginx": LISTED,
    "index.docker.io/library/nginx": LISTED,
    "index.docker.io/nginx": LISTED,
    "nginx-evil": ANY,
    "nginx/evil": ANY,
    "evil/nginx": ANY,
    "localhost/nginx": ANY,
    "localhost/library/nginx": ANY,
    "docker.io/library/nginx/evil": ANY,
    "docker.io.evil/library/nginx": ANY,
    # one reference exactly, and a registry with a port
    "other.example/one:1.0": LISTED,
    "other.example/one": ANY,
    "other.example/one:1.00": ANY,
    f"other.example/one:1.0@{DIGEST}": ANY,
    "other.example:5000/x/y:2": LISTED,
    "other.example/x/y": ANY,
}

CASES: dict[str, Case] = {
    **{f"image {image}": _image(image, allowed) for image, allowed in IMAGES.items()},
    "init container": _case(ANY, "image evil.example/x", initContainers=[container("i", image="evil.example/x")]),
    "image volume": _case(
        ANY,
        "image evil.example/x",
        volumes=[{"name": "v", "image": {"reference": "evil.example/x", "pullPolicy": "Always"}}],
    ),
    "image volume of the registry": _case(
        WITH_IMAGE, "", volumes=[{"name": "v", "image": {"reference": IMAGE, "pullPolicy": "Always"}}]
    ),
    "second container": _case(ANY, "image evil.example/x", container(), container("d", image="evil.example/x")),
    "pull if not present": _case(LISTED, "imagePullPolicy IfNotPresent", container(imagePullPolicy="IfNotPresent")),
    "pull by default": _case(LISTED, "imagePullPolicy IfNotPresent", {"name": "c", "image": IMAGE}),
    "pull by default of the latest": _case(WITH_IMAGE, "", {"name": "c", "image": "registry.example/acme/app"}),
    "never pull": _case(ANY, "imagePullPolicy Never", container(imagePullPolicy="Never")),
    "image volume not pulled": _case(
        ANY, "imagePullPolicy Never", volumes=[{"name": "v", "image": {"reference": IMAGE, "pullPolicy": "Never"}}]
    ),
    "node by name": _case(NEVER, "nodeName", nodeName="n"),
    "node by selector": _case(WITH_IMAGE, "", nodeSelector={"kubernetes.io/hostname": "n"}),
    "priority of the system": _case(NEVER, "priorityClassName", priorityClassName="system-cluster-critical"),
    "priority of the system, though listed": _case(
        NEVER, "priorityClassName", priorityClassName="system-node-critical"
    ),
    "priority of the plan": _case(LISTED, "priorityClassName", priorityClassName="tenants"),
    "another priority": _case(ANY, "priorityClassName", priorityClassName="tenants2"),
    "runtime of the plan": _case(LISTED, "runtimeClassName", runtimeClassName="gvisor"),
    "another runtime": _case(ANY, "runtimeClassName", runtimeClassName="kata"),
    "toleration of the plan": _case(LISTED, "nvidia.com/gpu", **_toleration(key="nvidia.com/gpu", operator="Exists")),
    "another toleration": _case(
        ANY, "toleration of dedicated", **_toleration(key="dedicated", value="globex", effect="NoSchedule")
    ),
    "toleration of everything": _case(ANY, "every taint", **_toleration(operator="Exists")),
    "toleration of the control plane": _case(
        ANY, "control-plane", **_toleration(key="node-role.kubernetes.io/control-plane", operator="Exists")
    ),
    "toleration that Kubernetes gives too": _case(
        WITH_IMAGE,
        "",
        **_toleration(key="node.kubernetes.io/not-ready", operator="Exists", effect="NoExecute", tolerationSeconds=9),
    ),
    "the tenant's ServiceAccount": _case(WITH_IMAGE, "", serviceAccountName="tenant"),
    "another ServiceAccount": _case(NEVER, "ServiceAccount `default` or `tenant`", serviceAccountName="builder"),
    "token for the API": _case(WITH_IMAGE, "", **_token(None, "default")),
    "token for AWS": _case(WITH_IMAGE, "", **_token("sts.amazonaws.com", "tenant")),
    "token for Pod Identity": _case(WITH_IMAGE, "", **_token("pods.eks.amazonaws.com", "tenant")),
    "token for AWS of the default account": _case(NEVER, "projected token", **_token("sts.amazonaws.com", "default")),
    "token for another system": _case(NEVER, "projected token", **_token("vault", "tenant")),
    "token for the data plane": _case(NEVER, "projected token", **_token("tenantplane", "tenant")),
    "token for Azure": _case(NEVER, "projected token", **_token("api://AzureADTokenExchange", "tenant")),
    "automounted token": _case(WITH_IMAGE, "", automountServiceAccountToken=True),
    "scheduler of its own": _case(NEVER, "schedulerName", schedulerName="mine"),
    "default scheduler by name": _case(WITH_IMAGE, "", schedulerName="default-scheduler"),
    "resource claim": _case(
        NEVER, "resourceClaims", resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "gpu"}]
    ),
    "user namespace of its own": _case(WITH_IMAGE, "", hostUsers=False),
    "keeps all other pods away": _case(NEVER, "podAntiAffinity", **_affinity("podAntiAffinity", namespaceSelector={})),
    "keeps a tenant away": _case(
        NEVER, "podAntiAffinity", **_affinity("podAntiAffinity", namespaces=["tenant-globex"])
    ),
    "seeks another tenant's node": _case(NEVER, "podAffinity", **_affinity("podAffinity", namespaceSelector={})),
    "would rather be away": _case(NEVER, "podAntiAffinity", **_preferred(namespaces=["tenant-globex"])),
    "keeps its own pods apart": _case(WITH_IMAGE, "", **_affinity("podAntiAffinity")),
    "further networks": _case(NEVER, "further networks", annotations={"k8s.v1.cni.cncf.io/networks": "kube-system/x"}),
    "another default network": _case(
        NEVER, "further networks", annotations={"v1.multus-cni.io/default-network": "kube-system/x"}
    ),
    "role of the node's agent": _case(NEVER, "cloud identities", annotations={"iam.amazonaws.com/role": "admin"}),
    **{
        f"annotation {key}": _case(NEVER, "annotations of pods", annotations={key: "x"})
        for key in (
            "karpenter.sh/do-not-disrupt",
            "cluster-autoscaler.kubernetes.io/safe-to-evict",
            "cni.projectcalico.org/ipAddrs",
            "ovn.kubernetes.io/ip_address",
            "net.default.ovn.kubernetes.io/allow_live_migration",
            "k8s.ovn.org/pod-networks",
            "policy.cilium.io/no-track-port",
            "io.cilium/no-track-port",
            "io.katacontainers.config.hypervisor.path",
            "x.katacontainers.config.runtime",
            "io.kubernetes.cri-o.userns-mode",
            "kubernetes.cri-o.Spoofed",
            "cpu-quota.crio.io",
            "irq-load-balancing.crio.io/pod",
            "devices.nri.io/container.c",
            "ulimits.nri.containerd.io/container.c",
            "dev.gvisor.spec.mount.data.source",
            "x.gvisor.dev/y",
            "vpc.amazonaws.com/pod-eni",
            "external-dns.alpha.kubernetes.io/hostname",
            "external-dns.kubernetes.io/internal-hostname",
        )
    },
    **{
        f"annotation {key}, which only looks like it": _case(WITH_IMAGE, "", annotations={key: "x"})
        for key in (
            "note",
            "notkarpenter.sh/x",
            "mycilium.io/x",
            "prometheus.io/scrape",
            "example.com/io.katacontainers.config",
            "kubectl.kubernetes.io/default-container",
        )
    },
    "device by the name of its class": _case(
        NEVER,
        "deviceclass.resource.kubernetes.io",
        container(resources={"limits": {"deviceclass.resource.kubernetes.io/gpu.example.com": "8"}}),
    ),
    "init container's device by the name of its class": _case(
        NEVER,
        "deviceclass.resource.kubernetes.io",
        initContainers=[
            container("i", resources={"limits": {"deviceclass.resource.kubernetes.io/gpu.example.com": "8"}})
        ],
    ),
    "device by its own name": _case(WITH_IMAGE, "", container(resources={"limits": {"nvidia.com/gpu": "1"}})),
    "takes years to end": _case(NEVER, "terminationGracePeriodSeconds", terminationGracePeriodSeconds=10**9),
    "takes an hour to end": _case(WITH_IMAGE, "", terminationGracePeriodSeconds=3600),
    "annotation of its own": _case(WITH_IMAGE, "", annotations={"example.com/a": "b"}),
}

# In templates one of each kind is enough: they share the expressions, and differ in where the spec is found.
IN_TEMPLATES: dict[str, tuple[Manifest, str]] = {
    "image": (pod_spec(container(image="evil.example/x")), "image evil.example/x"),
    "init image": (pod_spec(initContainers=[container("i", image="evil.example/x")]), "image evil.example/x"),
    "imagePullPolicy": (pod_spec(container(imagePullPolicy="Never")), "imagePullPolicy Never"),
    "nodeName": (pod_spec(nodeName="n"), "nodeName"),
    "priority": (pod_spec(priorityClassName="system-node-critical"), "priorityClassName"),
    "runtime": (pod_spec(runtimeClassName="kata"), "runtimeClassName"),
    "toleration": (pod_spec(tolerations=[{"operator": "Exists"}]), "every taint"),
    "ServiceAccount": (pod_spec(serviceAccountName="builder"), "ServiceAccount"),
    "token": (pod_spec(**_token("vault", "tenant")), "projected token"),
    "scheduler": (pod_spec(schedulerName="mine"), "schedulerName"),
    "claim": (pod_spec(resourceClaims=[{"name": "g", "resourceClaimTemplateName": "g"}]), "resourceClaims"),
    "device": (
        pod_spec(container(resources={"limits": {"deviceclass.resource.kubernetes.io/gpu.example.com": "8"}})),
        "deviceclass",
    ),
    "end": (pod_spec(terminationGracePeriodSeconds=7200), "terminationGracePeriodSeconds"),
    "affinity": (pod_spec(**_affinity("podAntiAffinity", namespaceSelector={})), "podAntiAffinity"),
}


def _template(kind: str, spec: Manifest, annotations: Any = None) -> Act:
    return create(lambda space: workload(kind, spec, space, annotations=annotations))


@pytest.mark.parametrize("name", CASES)
def test_what_pods_may_use_is_the_plans_to_say(plans: Plans, name: str) -> None:
    plans.check(CASES[name])


@pytest.mark.parametrize("kind", TEMPLATES)
def test_templates_are_fenced_like_pods(plans: Plans, kind: str) -> None:
    closed = frozenset({"closed"})
    plans.check(Case(_template(kind, pod_spec()), closed, POLICY, "", plans=closed))
    for spec, word in IN_TEMPLATES.values():
        plans.check(Case(_template(kind, spec), NEVER, POLICY, word, plans=closed))
    networks = {"k8s.v1.cni.cncf.io/networks": "kube-system/x"}
    plans.check(Case(_template(kind, pod_spec(), networks), NEVER, POLICY, "further networks", plans=closed))


def test_without_the_fence_all_of_it_happens(world: World, plans: Plans) -> None:
    probe = _template("Deployment", pod_spec(nodeName="n"))
    refused = {name: case.act for name, case in CASES.items() if "closed" not in case.allowed}
    refused |= {
        f"{kind} {name}": _template(kind, spec) for kind in TEMPLATES for name, (spec, _) in IN_TEMPLATES.items()
    }
    with fence_down(world.admin, POLICY, lambda: probe(plans.user, CLOSED)):
        until(lambda: probe(plans.user, CLOSED).ok, "the fence is down")
        still = {name: answer.message for name, act in refused.items() if not (answer := act(plans.user, CLOSED)).ok}
        assert not still


def test_a_big_pod_and_a_long_list_stay_within_what_kubernetes_lets_a_policy_cost(world: World, plans: Plans) -> None:
    """Beyond that a policy refuses all; a plan at its limits and a pod of 100 containers must not get there."""
    space = "tenant-plan-long"
    entries = tuple(f"registry{number}.example/{'x' * 200}/" for number in range(limits.ALLOW_MAX))
    allow = Allowances(
        registries=entries, tolerations=tuple(f"taint{n}.example/{'x' * 40}" for n in range(limits.ALLOW_MAX))
    )
    assert world.operator.apply(tenant_namespace("plan-long", space, allow)).ok
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    assert world.admin.merge("Namespace", "", space, level).ok
    assert world.admin.create(binding("everything", space, "cluster-admin", user("carla"))).ok
    containers = [container(f"c{n}", image=f"{entries[-1]}app{n}:1") for n in range(100)]
    tolerations = [{"key": key, "operator": "Exists"} for key in allow.tolerations]
    act = pod(*containers, tolerations=tolerations)
    until(lambda: not act(plans.user, space).denied_by_rbac, "the rights are there")
    answer = act(plans.user, space)
    assert answer.ok, answer.body
    answer = pod(*containers, container("last", image="evil.example/x"))(plans.user, space)
    assert answer.denied_by(POLICY)
    assert "image evil.example/x" in answer.message
    assert world.operator.delete("Namespace", "", space).ok


FOREIGN = pod_spec(
    container(image="old.example/app:1", imagePullPolicy="Never"),
    tolerations=[{"key": "old", "operator": "Exists"}],
    schedulerName="old",
    terminationGracePeriodSeconds=7200,
    volumes=_token("vault", "default")["volumes"],
)


def test_a_plan_that_shrinks_stops_nothing_that_is_there(world: World, plans: Plans) -> None:
    """What an object already holds may stay in it; what is new in it must be allowed."""
    for kind in ("Deployment", "Pod", "CronJob"):
        keep(world.admin, workload(kind, FOREIGN, CLOSED, name="old"))
    try:
        for who in (plans.user, plans.robots["closed"]):
            for kind in ("Deployment", "Pod", "CronJob"):
                label = {"metadata": {"labels": {"touched": "yes"}}}
                assert (answer := who.merge(kind, CLOSED, "old", label, dry=True)).ok, answer.body
            restart = {
                "spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}
            }
            assert (answer := who.merge("Deployment", CLOSED, "old", restart, dry=True)).ok, answer.body
            assert who.merge("Deployment", CLOSED, "old", {"spec": {"replicas": 1}}, dry=True, sub="scale").ok
            fresh: list[tuple[Manifest, str]] = [
                ({"containers": [container(image="old.example/app:2")]}, "image old.example/app:2"),
                ({"containers": [container(imagePullPolicy="Never")]}, "imagePullPolicy Never"),
                ({"tolerations": [{"key": "new", "operator": "Exists"}]}, "toleration of new"),
                ({"schedulerName": "new"}, "schedulerName"),
                ({"terminationGracePeriodSeconds": 7201}, "terminationGracePeriodSeconds"),
                ({"serviceAccountName": "tenant"}, "projected token"),
                ({"nodeName": "n"}, "nodeName"),
            ]
            for change, word in fresh:
                patch = {"spec": {"template": {"spec": change}}}
                answer = who.merge("Deployment", CLOSED, "old", patch, dry=True)
                assert answer.denied_by(POLICY), answer.body
                assert word in answer.message
            allowed = {"spec": {"template": {"spec": {"containers": [container()]}}}}
            assert who.merge("Deployment", CLOSED, "old", allowed, dry=True).ok
            running = world.admin.get("Pod", CLOSED, "old").body["spec"]["containers"][0]
            image = {"spec": {"containers": [{**running, "image": "new.example/x"}]}}
            assert (answer := who.merge("Pod", CLOSED, "old", image, dry=True)).denied_by(POLICY), answer.body
    finally:
        for kind in ("Deployment", "Pod", "CronJob"):
            assert world.admin.delete(kind, CLOSED, "old").ok


def test_an_ephemeral_container_is_a_container(world: World, plans: Plans) -> None:
    keep(world.admin, workload("Pod", pod_spec(), CLOSED, name="debugged"))

    def debug(who: Actor, **more: Any) -> Answer:
        full = container("debugger", **more)
        patch = {"spec": {"ephemeralContainers": [full]}}
        return who.merge("Pod", CLOSED, "debugged", patch, dry=True, sub="ephemeralcontainers")

    for who in (plans.user, plans.robots["closed"]):
        assert (answer := debug(who)).ok, answer.body
        answer = debug(who, image="evil.example/x")
        assert answer.denied_by(POLICY)
        assert "image evil.example/x" in answer.message
        answer = debug(who, imagePullPolicy="Never")
        assert answer.denied_by(POLICY)
        assert "imagePullPolicy Never" in answer.message
    with fence_down(world.admin, POLICY, lambda: debug(plans.user, image="evil.example/x")):
        until(lambda: debug(plans.user, image="evil.example/x").ok, "the fence is down")
    assert world.admin.delete("Pod", CLOSED, "debugged").ok


def test_kubernetes_makes_pods_of_an_admitted_template_and_finishes_them(world: World, plans: Plans) -> None:
    """Its controllers pass the fence, also when the plan has shrunk since."""
    job = workload("Job", FOREIGN, CLOSED, name="late")
    job["spec"]["suspend"] = False
    keep(world.admin, job)

    def pods() -> list[Manifest]:
        items = world.admin.get("Pod", CLOSED).body["items"]
        return [p for p in items if p["metadata"]["name"].startswith("late-")]

    until(lambda: bool(pods()), "the Job's pod is made")
    (made,) = pods()
    assert made["spec"]["containers"][0]["image"] == "old.example/app:1"
    quota = manifest("ResourceQuota", "counted", CLOSED, spec={"hard": {"pods": "9"}})
    keep(world.admin, quota)
    until(
        lambda: "used" in world.admin.get("ResourceQuota", CLOSED, "counted").body.get("status", {}),
        "the quota controller writes what is used",
    )
    # The tenant ends its own Job; the collector removes the pod with it.
    assert plans.user.delete("Job", CLOSED, "late").ok
    until(
        lambda: (
            plans.user.merge("Pod", CLOSED, made["metadata"]["name"], {"metadata": {"finalizers": None}}).status
            in (200, 404)
        ),
        "no finalizer",
    )
    assert world.admin.delete("ResourceQuota", CLOSED, "counted").ok
