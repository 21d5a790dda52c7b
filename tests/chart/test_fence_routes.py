"""Ways in from outside: Ingresses and routes of the Gateway API, refused and allowed by plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.chart.conftest import Plans, binding, tenant_namespace, user
from tests.chart.kube import Manifest, manifest, until
from tests.chart.plans import ANY, LISTED, NEVER, Act, Case, create, custom, serve

from tenantplane_api.runtime import limits
from tenantplane_api.runtime.platform import Allowances

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("chart")]

INGRESS = "tenantplane-tenant-ingress-fence"
GATEWAY = "tenantplane-tenant-gateway-fence"
DNS_KEYS = tuple(
    f"{prefix}/{key}"
    for prefix in ("external-dns.alpha.kubernetes.io", "external-dns.kubernetes.io")  # before and since 0.22
    for key in ("hostname", "internal-hostname")
)


def _backend(path: str = "/", path_type: str = "Prefix") -> Manifest:
    return {
        "paths": [
            {
                "path": path,
                "pathType": path_type,
                "backend": {"service": {"name": "s", "port": {"number": 80}}},
            }
        ]
    }


def _ingress(
    host: str | None = "app.acme.example",
    annotations: Any = None,
    path: str = "/",
    ingress_class: str | None = "public",
    **spec: Any,
) -> Act:
    rule = {"http": _backend(path, "Prefix" if path == "/" else "ImplementationSpecific")} | (
        {"host": host} if host else {}
    )
    full = {"rules": [rule], **({"ingressClassName": ingress_class} if ingress_class else {}), **spec}
    return create(lambda space: manifest("Ingress", "probe", space, annotations=annotations or {}, spec=full))


NGINX, ALB = "nginx.ingress.kubernetes.io", "alb.ingress.kubernetes.io"


def _steers(key: str, value: str) -> Case:
    return Case(_ingress(annotations={key: value}), NEVER, INGRESS, key, plans=LISTED)


def _harmless(key: str, value: str) -> Case:
    return Case(_ingress(annotations={key: value}), LISTED, INGRESS, "", plans=LISTED)


def _route(
    hosts: tuple[str, ...] = ("app.acme.example",),
    parent: Manifest | None = None,
    kind: str = "HTTPRoute",
    rule: Manifest | None = None,
    annotations: Any = None,
    **spec: Any,
) -> Act:
    full = {
        "parentRefs": [parent or {"name": "public", "namespace": "edge"}],
        "rules": [rule or {"backendRefs": [{"name": "s", "port": 80}]}],
        **({"hostnames": list(hosts)} if hosts else {}),
        **spec,
    }
    return create(lambda space: manifest(kind, "probe", space, annotations=annotations or {}, spec=full))


def _to(**backend: Any) -> Manifest:
    return {"backendRefs": [{"name": "s", "port": 80, **backend}]}


def _through(**filter_: Any) -> Manifest:
    return {"backendRefs": [{"name": "s", "port": 80}], "filters": [filter_]}


CASES: dict[str, Case] = {
    "Ingress": Case(_ingress(), LISTED, INGRESS, "class public"),
    "Ingress of the domain itself": Case(_ingress("acme.example"), LISTED, INGRESS, ""),
    "Ingress of a deeper host": Case(_ingress("a.b.acme.example"), LISTED, INGRESS, ""),
    "Ingress of every host below": Case(_ingress("*.acme.example"), LISTED, INGRESS, ""),
    "Ingress of another host": Case(_ingress("globex.example"), ANY, INGRESS, "host globex.example", plans=LISTED),
    "Ingress of a look-alike": Case(_ingress("evilacme.example"), ANY, INGRESS, "host evilacme.example", plans=LISTED),
    "Ingress of a longer host": Case(_ingress("app.acme.example.evil"), ANY, INGRESS, "host app.acme", plans=LISTED),
    "Ingress of every host": Case(_ingress(None), ANY, INGRESS, "(any", plans=LISTED),
    "Ingress of all else": Case(
        _ingress(defaultBackend={"service": {"name": "s", "port": {"number": 80}}}), ANY, INGRESS, "(any", plans=LISTED
    ),
    "Ingress with another's certificate": Case(
        _ingress(tls=[{"hosts": ["app.acme.example", "globex.example"], "secretName": "s"}]),
        ANY,
        INGRESS,
        "globex",
        plans=LISTED,
    ),
    "Ingress with a certificate": Case(
        _ingress(tls=[{"hosts": ["app.acme.example"]}]), LISTED, INGRESS, "", plans=LISTED
    ),
    "Ingress of another class": Case(_ingress(ingress_class="internal"), ANY, INGRESS, "class internal"),
    "Ingress of no class": Case(_ingress(ingress_class=None), NEVER, INGRESS, "class (none)"),
    "Ingress of another class by annotation": Case(
        _ingress(ingress_class=None, annotations={"kubernetes.io/ingress.class": "internal"}),
        ANY,
        INGRESS,
        "class internal",
    ),
    **{
        f"{kind} with another name by {key}": Case(
            make(annotations={key: "app.acme.example, globex.example"}), ANY, policy, "globex", plans=LISTED
        )
        for key in DNS_KEYS
        for kind, make, policy in (("Ingress", _ingress, INGRESS), ("HTTPRoute", _route, GATEWAY))
    },
    **{
        f"{kind} with its own name by {key}": Case(
            make(annotations={key: "acme.example, a.acme.example"}), LISTED, policy, "", plans=LISTED
        )
        for key in DNS_KEYS
        for kind, make, policy in (("Ingress", _ingress, INGRESS), ("HTTPRoute", _route, GATEWAY))
    },
    "TCPRoute with another name": Case(
        _route(kind="TCPRoute", annotations={DNS_KEYS[2]: "globex.example"}), ANY, GATEWAY, "globex", plans=LISTED
    ),
    "Ingress with a path of code": Case(_ingress(path="/x;}location /y{"), NEVER, INGRESS, "path", plans=LISTED),
    "Ingress with a pattern": Case(_ingress(path="/x(/|.*)"), LISTED, INGRESS, "", plans=LISTED),
    **{
        f"Ingress with {key}": _steers(key, value)
        for key, value in {
            f"{ALB}/group.name": "shared",
            f"{ALB}/actions.x": "{}",
            f"{ALB}/certificate-arn": "arn:aws:acm:eu-central-1:123456789012:certificate/x",
            f"{NGINX}/configuration-snippet": "return 200;",
            f"{NGINX}/server-snippet": "x",
            f"{NGINX}/auth-url": "http://10.0.0.1",
            f"{NGINX}/auth-secret": "tenant-globex/own",
            f"{NGINX}/server-alias": "globex.example",
            f"{NGINX}/backend-protocol": "HTTP;\nx",
            "nginx.org/server-snippets": "x",
            "traefik.ingress.kubernetes.io/router.middlewares": "tenant-globex-auth@kubernetescrd",
            "haproxy.org/backend-config-snippet": "x",
            "konghq.com/plugins": "x",
            "cert-manager.io/common-name": "globex.example",
        }.items()
    },
    **{
        f"Ingress with {key}, which is harmless": _harmless(key, value)
        for key, value in {
            f"{ALB}/target-type": "ip",
            f"{ALB}/healthcheck-path": "/healthz",
            f"{NGINX}/proxy-body-size": "8m",
            f"{NGINX}/ssl-redirect": "true",
            "cert-manager.io/cluster-issuer": "letsencrypt",
            "argocd.argoproj.io/tracking-id": "a:b/c:d",
            "kubectl.kubernetes.io/last-applied-configuration": '{"a": "b;"}',
            "note": "mine; really",
        }.items()
    },
    "HTTPRoute": Case(_route(), LISTED, GATEWAY, "parent edge/public"),
    "HTTPRoute of two hosts": Case(
        _route(("acme.example", "globex.example")), ANY, GATEWAY, "host globex.example", plans=LISTED
    ),
    "HTTPRoute of every host": Case(_route(()), ANY, GATEWAY, "(any", plans=LISTED),
    "HTTPRoute of another Gateway": Case(
        _route(parent={"name": "private", "namespace": "edge"}), ANY, GATEWAY, "parent edge/private"
    ),
    "HTTPRoute of a Gateway nearby": Case(_route(parent={"name": "public"}), ANY, GATEWAY, "/public"),
    "HTTPRoute of a Service": Case(
        _route(parent={"group": "", "kind": "Service", "name": "public", "namespace": "edge"}),
        NEVER,
        GATEWAY,
        "Service",
    ),
    "HTTPRoute of all Gateways": Case(_route(useDefaultGateways="All"), ANY, GATEWAY, "(default)", plans=LISTED),
    "HTTPRoute to another namespace": Case(
        _route(rule=_to(namespace="tenant-globex")), NEVER, GATEWAY, "backendRefs", plans=LISTED
    ),
    "HTTPRoute to something else": Case(
        _route(rule=_to(group="gateway.envoyproxy.io", kind="Backend")), NEVER, GATEWAY, "backendRefs", plans=LISTED
    ),
    "HTTPRoute that mirrors to another namespace": Case(
        _route(
            rule=_through(
                type="RequestMirror", requestMirror={"backendRef": {"name": "s", "namespace": "tenant-globex"}}
            )
        ),
        NEVER,
        GATEWAY,
        "backendRefs",
        plans=LISTED,
    ),
    "HTTPRoute that mirrors": Case(
        _route(rule=_through(type="RequestMirror", requestMirror={"backendRef": {"name": "s"}})),
        LISTED,
        GATEWAY,
        "",
        plans=LISTED,
    ),
    "HTTPRoute with a filter of the controller's": Case(
        _route(rule=_through(type="ExtensionRef", extensionRef={"group": "x", "kind": "y", "name": "z"})),
        NEVER,
        GATEWAY,
        "filter",
        plans=LISTED,
    ),
    "TCPRoute": Case(_route((), kind="TCPRoute"), ANY, GATEWAY, "(any", plans=LISTED),
}


@pytest.fixture(scope="module", autouse=True)
def _gateway_api(plans: Plans) -> Iterator[None]:
    group = "gateway.networking.k8s.io"
    yield from serve(plans.world.admin, custom(group, "HTTPRoute"), custom(group, "TCPRoute"))


@pytest.mark.parametrize("name", CASES)
def test_ways_in_are_the_plans_to_open(plans: Plans, name: str) -> None:
    plans.check(CASES[name])


@pytest.mark.parametrize("policy", [INGRESS, GATEWAY])
def test_without_the_fence_all_of_it_happens(plans: Plans, policy: str) -> None:
    plans.check_without(policy, CASES)


OBJECTS: dict[str, tuple[Manifest, Manifest, str, str]] = {
    # kind: (what is there though the plan no longer allows it, what is refused still, by whom, with which word)
    "Ingress": (
        {"spec": {"ingressClassName": "old", "rules": [{"host": "old.example", "http": _backend()}]}},
        {"spec": {"rules": [{"host": "new.example", "http": _backend()}]}},
        INGRESS,
        "host new.example",
    ),
    "HTTPRoute": (
        {"spec": {"parentRefs": [{"name": "old"}], "hostnames": ["old.example"], "rules": []}},
        {"spec": {"hostnames": ["old.example", "new.example"]}},
        GATEWAY,
        "host new.example",
    ),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_plan_that_shrinks_closes_no_way_that_is_open(plans: Plans, kind: str) -> None:
    there, fresh, policy, word = OBJECTS[kind]
    plans.check_kept(kind, there, fresh, policy, word)


def test_two_tenants_of_one_plan_share_no_host(plans: Plans) -> None:
    plan = Allowances(
        ingress_hosts=("*.{tenant}.apps.example", "{tenantID}.example"),
        ingress_classes=("public",),
        gateways=("edge/public",),
    )
    tenants = {name: f"tenant-{name}" for name in ("plan-one", "plan-two")}
    for name, space in tenants.items():
        own = plan.for_tenant(name, f"{name}-00000001")
        assert plans.world.operator.apply(tenant_namespace(name, space, own)).ok
        assert plans.world.admin.create(binding("everything", space, "cluster-admin", user("carla"))).ok
        until(lambda: not _ingress()(plans.user, space).denied_by_rbac, "the rights are there")  # noqa: B023
    for name in tenants:
        for host in (f"shop.{name}.apps.example", f"{name}-00000001.example"):
            for act, policy in ((_ingress(host), INGRESS), (_route((host,)), GATEWAY)):
                for other, space in tenants.items():
                    answer = act(plans.user, space)
                    assert answer.ok if other == name else answer.denied_by(policy), (host, space, answer.body)
    # The plan's own text is nobody's host.
    assert _route(("*.{tenant}.apps.example",))(plans.user, tenants["plan-one"]).denied_by(GATEWAY)
    for space in tenants.values():
        assert plans.world.operator.delete("Namespace", "", space).ok


def test_many_hosts_and_a_long_list_stay_within_what_kubernetes_lets_a_policy_cost(plans: Plans) -> None:
    admin, space = plans.world.admin, "tenant-plan-hosts"
    domains = tuple(f"{'x' * 60}.tenant{number}.example" for number in range(limits.ALLOW_MAX))
    allow = Allowances(ingress_hosts=tuple(f"*.{domain}" for domain in domains), ingress_classes=("public",))
    assert plans.world.operator.apply(tenant_namespace("plan-hosts", space, allow)).ok
    assert admin.create(binding("everything", space, "cluster-admin", user("carla"))).ok
    hosts = [f"app{number}.{domains[-1]}" for number in range(60)]
    rules = [{"host": host, "http": _backend()} for host in hosts]
    act = _ingress(rules=rules, tls=[{"hosts": hosts, "secretName": "s"}])
    until(lambda: not act(plans.user, space).denied_by_rbac, "the rights are there")
    answer = act(plans.user, space)
    assert answer.ok, answer.body
    answer = _ingress(rules=[*rules, {"host": "globex.example", "http": _backend()}])(plans.user, space)
    assert answer.denied_by(INGRESS)
    assert "host globex.example" in answer.message
    assert plans.world.operator.delete("Namespace", "", space).ok
