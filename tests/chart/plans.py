"""Tenants of four plans, and two kinds of requesters with every right that RBAC can give in each.

``bare`` allows nothing, ``closed`` little more than an image, ``listed`` one thing of each kind, ``any`` everything
that a plan can allow. In each, a user and the tenant's own ServiceAccount are bound to ``cluster-admin`` by a
RoleBinding, so that whatever is refused is refused by the fence, and neither passes it: `bypass` is asked for
cluster-wide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.chart.kube import Actor, Answer, Manifest, manifest, until_ok

from tenantplane_api.runtime.platform import Allowances

IMAGE = "registry.example/acme/app:1"
PLANS = {
    "bare": Allowances(image_pull_policies=()),
    "closed": Allowances(registries=("registry.example/acme/",)),
    "listed": Allowances(
        registries=(
            "registry.example/acme/",
            "docker.io/library/nginx",
            "other.example/one:1.0",
            "other.example:5000/x/",
        ),
        image_pull_policies=("Always", "IfNotPresent"),
        service_types=("LoadBalancer",),
        ingress_classes=("public",),
        ingress_hosts=("acme.example", "*.acme.example"),
        gateways=("edge/public",),
        storage_classes=("standard",),
        priority_classes=("tenants", "system-node-critical"),
        runtime_classes=("gvisor",),
        tolerations=("nvidia.com/gpu",),
    ),
    "any": Allowances(
        registries=("*",),
        image_pull_policies=("Always", "IfNotPresent", "Never"),
        service_types=("LoadBalancer", "NodePort"),
        ingress_classes=("*",),
        ingress_hosts=("*",),
        gateways=("*",),
        storage_classes=("*",),
        priority_classes=("*",),
        runtime_classes=("*",),
        tolerations=("*",),
    ),
}
SPACES = {plan: f"tenant-plan-{plan}" for plan in PLANS}
ALL = frozenset(PLANS)
WITH_IMAGE = ALL - {"bare"}
LISTED = frozenset({"listed", "any"})
ANY = frozenset({"any"})
NEVER: frozenset[str] = frozenset()

Act = Callable[[Actor, str], Answer]


@dataclass(frozen=True)
class Case:
    """An act, the plans under which it succeeds, and who refuses it under the others, with which word."""

    act: Act
    allowed: frozenset[str]
    policy: str
    word: str
    plans: frozenset[str] = field(default=frozenset({"closed", "listed", "any"}))

    def check(self, people: Iterable[Actor]) -> None:
        """Each of ``people`` under each plan, and both of a pair are seen."""
        for who in people:
            for plan in sorted(self.plans):
                answer = self.act(who, SPACES[plan])
                if plan in self.allowed:
                    assert answer.ok, (who.user, plan, answer.message)
                else:
                    assert answer.denied_by(self.policy), (who.user, plan, dict(answer.body))
                    assert self.word in answer.message, (plan, answer.message)
                    assert answer.status == 403, answer.message


def create(make: Callable[[str], Manifest]) -> Act:
    """A dry CREATE of what ``make`` makes for a namespace."""
    return lambda who, space: who.create(make(space), dry=True)


def container(name: str = "c", **more: Any) -> Manifest:
    """A container that Pod Security's `restricted` and every plan but ``bare`` admit."""
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "Always",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        **more,
    }


def pod_spec(*containers: Manifest, **more: Any) -> Manifest:
    """Spec of a pod; ``more`` are its other fields."""
    return {"containers": list(containers or (container(),)), "restartPolicy": "Never", **more}


def pod(*containers: Manifest, name: str = "probe", labels: Any = None, annotations: Any = None, **more: Any) -> Act:
    """A dry CREATE of a pod."""

    def make(space: str) -> Manifest:
        return manifest(
            "Pod",
            name,
            space,
            labels=labels or {},
            annotations=annotations or {},
            spec=pod_spec(*containers, **more),
        )

    return create(make)


def workload(kind: str, spec: Manifest, space: str, *, name: str = "probe", annotations: Any = None) -> Manifest:
    """Any built-in workload kind around one pod spec; nothing of it runs."""
    meta = {"labels": {"app": "x"}, "annotations": annotations or {}}
    once = {"metadata": meta, "spec": {**spec, "restartPolicy": "Never"}}
    always = {"metadata": meta, "spec": {**spec, "restartPolicy": "Always"}}
    selector = {"matchLabels": {"app": "x"}}
    bodies: dict[str, Manifest] = {
        "Deployment": {"spec": {"replicas": 0, "selector": selector, "template": always}},
        "ReplicaSet": {"spec": {"replicas": 0, "selector": selector, "template": always}},
        "StatefulSet": {"spec": {"replicas": 0, "selector": selector, "serviceName": "s", "template": always}},
        "DaemonSet": {"spec": {"selector": selector, "template": always}},
        "ReplicationController": {"spec": {"replicas": 0, "selector": {"app": "x"}, "template": always}},
        "PodTemplate": {"template": always},
        "Job": {"spec": {"suspend": True, "template": once}},
        "CronJob": {"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": once}}}},
        "Pod": {"spec": once["spec"]},
    }
    more: Manifest = {"annotations": annotations or {}} if kind == "Pod" else {}
    return manifest(kind, name, space, **more, **bodies[kind])


TEMPLATES = (
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "ReplicationController",
    "PodTemplate",
    "Job",
    "CronJob",
)


def keep(who: Actor, item: Manifest) -> None:
    """Make an object that stays."""
    until_ok(partial(who.create, item), f"{who.user} makes {item['kind']} {item['metadata']['name']}")


def custom(group: str, kind: str) -> Manifest:
    """A CRD that takes anything, in place of one that an add-on brings."""
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return manifest(
        "CustomResourceDefinition",
        f"{plural}.{group}",
        annotations={"api-approved.kubernetes.io": "unapproved, a stand-in for tests"},
        spec={
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    )


def serve(admin: Actor, *definitions: Manifest) -> Iterator[None]:
    """For a fixture: the kinds are served while it lasts."""
    for item in definitions:
        assert admin.create(item).ok
        probe = manifest(item["spec"]["names"]["kind"], "probe", SPACES["closed"], spec={})
        until_ok(partial(admin.create, probe, dry=True), f"{probe['kind']} is served")
    yield
    for item in definitions:
        assert admin.delete("CustomResourceDefinition", "", item["metadata"]["name"]).ok
