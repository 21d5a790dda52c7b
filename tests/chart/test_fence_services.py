"""Services: addresses, names and annotations by which one reaches beyond a tenant's own pods."""

from __future__ import annotations

from typing import Any

import pytest
from tests.chart.conftest import Plans
from tests.chart.kube import Answer, manifest
from tests.chart.plans import ANY, LISTED, NEVER, SPACES, WITH_IMAGE, Act, Case, create

from tenantplane_api.runtime import names

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("chart")]

SERVICES = "tenantplane-tenant-services-fence"
CLOSED = SPACES["closed"]


def _service(annotations: Any = None, **spec: Any) -> Act:
    full = {"selector": {"app": "x"}, "ports": [{"port": 80}], **spec}
    return create(lambda space: manifest("Service", "probe", space, annotations=annotations or {}, spec=full))


DNS_KEYS = tuple(
    f"{prefix}/{key}"
    for prefix in ("external-dns.alpha.kubernetes.io", "external-dns.kubernetes.io")  # before and since 0.22
    for key in ("hostname", "internal-hostname")
)
NLB = "service.beta.kubernetes.io/aws-load-balancer"
HARMLESS = (
    "note",
    "prometheus.io/scrape",
    "meta.helm.sh/release-name",
    "kustomize.toolkit.fluxcd.io/prune",
    f"{NLB}-scheme",
    f"{NLB}-type",
    "service.kubernetes.io/topology-mode",
    "external-dns.kubernetes.io/ttl",
)
CASES: dict[str, Case] = {
    "Service": Case(_service(), WITH_IMAGE, SERVICES, ""),
    "headless Service": Case(_service(clusterIP="None"), WITH_IMAGE, SERVICES, ""),
    "Service with a load balancer": Case(_service(type="LoadBalancer"), LISTED, SERVICES, "allow.serviceTypes"),
    "Service with a node port": Case(_service(type="NodePort"), ANY, SERVICES, "allow.serviceTypes"),
    "Service with another's name": Case(
        _service(type="ExternalName", externalName="tenantplane-dataplane.tenantplane-system.svc"),
        NEVER,
        SERVICES,
        "ExternalName",
    ),
    "Service that takes an address": Case(_service(externalIPs=["203.0.113.7"]), NEVER, SERVICES, "externalIPs"),
    "Service to our pods": Case(_service(selector={names.LABEL_COMPONENT: "model"}), NEVER, SERVICES, "selector"),
    "Service without selector": Case(_service(selector={}), WITH_IMAGE, SERVICES, ""),
    **{
        f"Service with a name of the plan by {key}": Case(
            _service({key: "a.acme.example, acme.example"}, clusterIP="None"), LISTED, SERVICES, "external-dns"
        )
        for key in DNS_KEYS
    },
    **{
        f"Service with a name of another by {key}": Case(
            _service({key: "a.acme.example,globex.example"}, clusterIP="None"), ANY, SERVICES, "external-dns"
        )
        for key in DNS_KEYS
    },
    **{
        f"Service with {key}": Case(_service({key: "x"}, type=kind), NEVER, SERVICES, key, plans=plans)
        for kind, plans, keys in (
            (
                "LoadBalancer",
                LISTED,
                (
                    f"{NLB}-ssl-cert",
                    f"{NLB}-security-groups",
                    f"{NLB}-eip-allocations",
                    f"{NLB}-name",
                    "metallb.universe.tf/allow-shared-ip",
                ),
            ),
            ("ClusterIP", WITH_IMAGE, ("service.cilium.io/global", "getambassador.io/config")),
        )
        for key in keys
    },
    "Service with harmless annotations": Case(
        _service(dict.fromkeys(HARMLESS, "x")),
        WITH_IMAGE,
        SERVICES,
        "",
    ),
    "Service that takes a load balancer's address": Case(
        _service(type="LoadBalancer", loadBalancerIP="203.0.113.9"), NEVER, SERVICES, "loadBalancerIP", plans=LISTED
    ),
    "Service that chooses the controller": Case(
        _service(type="LoadBalancer", loadBalancerClass="internal.example/vip"),
        NEVER,
        SERVICES,
        "loadBalancerClass",
        plans=LISTED,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_service_reaches_is_the_plans_to_say(plans: Plans, name: str) -> None:
    plans.check(CASES[name])


def test_without_the_fence_all_of_it_happens(plans: Plans) -> None:
    plans.check_without(SERVICES, CASES)


def test_a_quarrel_between_two_policies_names_one(plans: Plans) -> None:
    """Whoever reads the refusal sees which fence said it, what was wrong, and what to do."""
    answer: Answer = _service(type="NodePort")(plans.user, CLOSED)
    assert f"ValidatingAdmissionPolicy '{SERVICES}' with binding '{SERVICES}' denied request: " in answer.message
    assert "use type ClusterIP" in answer.message
    assert answer.body["reason"] == "Forbidden"
