"""Attempts by right: tokens and roles, what the platform or Kubernetes alone says, the neighbour's objects."""

from __future__ import annotations

from collections.abc import Mapping

from tests.isolation.attempts import (
    NOBODY,
    OWN_SECRET,
    TOKEN,
    Attempt,
    api_key,
    binding,
    change,
    claim,
    event,
    foreign,
    labels,
    look,
    make,
    model,
    namespace,
    service,
    token_secret,
)
from tests.isolation.people import (
    ACCOUNTS,
    API_KEYS,
    BINDINGS,
    CLAIMS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    FENCE,
    MODELS,
    NAMESPACE_FENCE,
    NAMESPACES,
    PODS,
    RBAC,
    ROLES,
    SECRETS,
    SERVICES,
    obj,
    pod,
    template,
    url,
    workload,
)

from tenantplane_api.runtime import names


def identity_attempts() -> Mapping[str, Attempt]:
    """Tokens, roles, other people's rights."""
    operator = f"{names.NAMESPACE_SYSTEM}/{names.SERVICE_ACCOUNT_OPERATOR}"
    out: dict[str, Attempt] = {
        f"token Secret of {account}": Attempt(make(SECRETS, token_secret(account)), FENCE, FENCE, OWN_SECRET)
        for account in ("default", names.CHILD_SERVICE_ACCOUNT)
    }
    for account in ("default", names.CHILD_SERVICE_ACCOUNT):
        out[f"token request of {account}"] = Attempt(
            lambda who, own, other, account=account: who.sub(ACCOUNTS, own.space, account, "token", TOKEN),  # type: ignore[misc]
            RBAC,
            FENCE,
            look(ACCOUNTS, account),
        )
        out[f"token request of the neighbour's {account}"] = Attempt(
            lambda who, own, other, account=account: who.sub(ACCOUNTS, other.space, account, "token", TOKEN),  # type: ignore[misc]
            RBAC,
            RBAC,
        )
    out[f"token request of {operator}"] = Attempt(
        lambda who, own, other: who.sub(
            ACCOUNTS, names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR, "token", TOKEN
        ),
        RBAC,
        RBAC,
    )
    arn = {"metadata": {"annotations": {names.ANNOTATION_ROLE_ARN: "arn:aws:iam::111122223333:role/admin"}}}
    out["cloud role of its ServiceAccount"] = Attempt(change(ACCOUNTS, names.CHILD_SERVICE_ACCOUNT, arn), RBAC, FENCE)
    out["cloud role of the default ServiceAccount"] = Attempt(change(ACCOUNTS, "default", arn), RBAC, FENCE)
    new = obj("v1", "ServiceAccount", "probe", annotations=dict(arn["metadata"]["annotations"]))
    out["new ServiceAccount with a cloud role"] = Attempt(make(ACCOUNTS, new), RBAC, FENCE)
    for role in ("cluster-admin", "view", names.CLUSTER_ROLE_OPERATOR_NAMESPACE, names.CLUSTER_ROLE_TENANT_ADMIN):
        out[f"RoleBinding to {role}"] = Attempt(make(BINDINGS, binding(role)), RBAC, FENCE, look(BINDINGS))
        out[f"ClusterRoleBinding to {role}"] = Attempt(
            lambda who, own, other, role=role: who.make(  # type: ignore[misc]
                "rbac.authorization.k8s.io/v1/clusterrolebindings", "", binding(role, cluster=True)
            ),
            RBAC,
            RBAC,
        )
        out[f"RoleBinding to {role} at the neighbour's"] = Attempt(
            lambda who, own, other, role=role: who.make(BINDINGS, other.space, binding(role)),  # type: ignore[misc]
            RBAC,
            RBAC,
        )
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    role_object = obj("rbac.authorization.k8s.io/v1", "Role", "probe", rules=everything)
    out["Role of everything"] = Attempt(make(ROLES, role_object), RBAC, FENCE)
    return out


def control_attempts() -> Mapping[str, Attempt]:
    """What only Kubernetes or the operator says, and what is ours in the namespace."""
    ours = "ours"
    revision = obj("apps/v1", "ControllerRevision", "probe", revision=1, data={"spec": {"template": template()}})
    bind = obj("v1", "Binding", "theirs", target={"kind": "Node", "name": "node-1"})
    address = {"status": {"podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}]}}
    mine = change(API_KEYS, "theirs", {"spec": {"description": "mine"}})
    leader = {"spec": {"holderIdentity": "me"}}
    evict = obj("policy/v1", "Eviction", ours)
    scale = {"spec": {"replicas": 0}}
    finalizer = {"metadata": {"finalizers": [names.FINALIZER]}}
    out = {
        "binding of a pod to a node": Attempt(
            lambda who, own, other: who.sub(PODS, own.space, "theirs", "binding", bind),
            RBAC,
            FENCE,
        ),
        "binding, as it was once written": Attempt(make("v1/bindings", bind), RBAC, FENCE),
        "forged status of a pod": Attempt(change(PODS, "theirs", address, sub="status"), RBAC, FENCE),
        "forged ControllerRevision": Attempt(make("apps/v1/controllerrevisions", revision), RBAC, FENCE),
        "forged status of an APIKey": Attempt(
            change(API_KEYS, "theirs", {"status": {"hash": "sha256:" + "0" * 64}}, sub="status"),
            RBAC,
            FENCE,
            mine,
        ),
        "our finalizer on an own object": Attempt(change(API_KEYS, "theirs", finalizer), FENCE, FENCE, mine),
        "end of our pod": Attempt(
            lambda who, own, other: who.remove(PODS, own.space, ours),
            FENCE,
            FENCE,
            lambda who, own, other: who.remove(PODS, own.space, "theirs"),
        ),
        "change of our pod": Attempt(
            change(PODS, ours, {"metadata": {"annotations": {"a": "b"}}}),
            FENCE,
            FENCE,
            change(PODS, "theirs", {"metadata": {"annotations": {"a": "b"}}}),
        ),
        "eviction of our pod": Attempt(
            lambda who, own, other: who.sub(PODS, own.space, ours, "eviction", evict), RBAC, FENCE
        ),
        "scale of our Deployment": Attempt(
            change(DEPLOYMENTS, ours, scale, sub="scale"),
            FENCE,
            FENCE,
            change(DEPLOYMENTS, "theirs", scale, sub="scale"),
        ),
        "a shared model": Attempt(
            make(MODELS, model({"sharing": {"mode": "AllTenants"}})),
            "tenantplane-overlay-fence",
            NOBODY,
            make(MODELS, model()),
        ),
        "lease of the operator": Attempt(
            lambda who, own, other: who.change(
                "coordination.k8s.io/v1/leases", names.NAMESPACE_SYSTEM, names.LEASE_NAME, leader
            ),
            RBAC,
            RBAC,
        ),
        "event in the name of others": Attempt(
            lambda who, own, other: who.make(EVENTS, other.space, event(other.space)), RBAC, RBAC, look(EVENTS)
        ),
        "runtime documents": Attempt(
            lambda who, own, other: who.look(SECRETS, names.NAMESPACE_RUNTIME), RBAC, RBAC, look(SECRETS)
        ),
        "a runtime document by name": Attempt(
            lambda who, own, other: who.look(SECRETS, names.NAMESPACE_RUNTIME, names.tenant_document_name(own.name)),
            RBAC,
            RBAC,
        ),
        "kube-system's Secrets": Attempt(lambda who, own, other: who.look(SECRETS, "kube-system"), RBAC, RBAC),
        "the Platform file": Attempt(lambda who, own, other: who.look(CONFIG_MAPS, names.NAMESPACE_SYSTEM), RBAC, RBAC),
        "all Secrets": Attempt(lambda who, own, other: who.ask("GET", url(SECRETS)), RBAC, RBAC, look(SECRETS)),
        "a node's kubelet": Attempt(
            lambda who, own, other: who.ask("GET", url("v1/nodes", "", "node-1", "proxy") + "/runningpods/"), RBAC, RBAC
        ),
    }
    for name, patch, sub in (
        ("label of the tenant", {"metadata": {"labels": labels()}}, ""),
        ("other label", {"metadata": {"labels": {"team": "operations"}}}, ""),
        ("registries of the plan", {"metadata": {"annotations": {"tenantplane.dev/allow-registries": "*"}}}, ""),
        ("consent", {"metadata": {"annotations": {names.ANNOTATION_ADOPTABLE_BY: "x"}}}, ""),
        ("tenantID", {"metadata": {"annotations": {names.ANNOTATION_TENANT_ID: "somebody-else"}}}, ""),
        ("Pod Security", {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}, ""),
    ):
        out[f"Namespace: {name}"] = Attempt(namespace(patch, sub), RBAC, NAMESPACE_FENCE)
    out["Namespace: finalized by hand"] = Attempt(
        lambda who, own, other: who.replace(
            NAMESPACES, "", own.space, obj("v1", "Namespace", own.space, spec={"finalizers": []}), sub="finalize"
        ),
        RBAC,
        NAMESPACE_FENCE,
    )
    out["Namespace: its end"] = Attempt(
        lambda who, own, other: who.remove(NAMESPACES, "", own.space), RBAC, NAMESPACE_FENCE
    )
    return out


def foreign_attempts() -> Mapping[str, Attempt]:
    """The neighbour's objects; each beside the same act at home."""
    out: dict[str, Attempt] = {}
    for resource, item, existing in (
        (API_KEYS, api_key(), "default"),
        (MODELS, model(), "theirs"),
        (SECRETS, obj("v1", "Secret", "probe"), "default"),
        (CONFIG_MAPS, obj("v1", "ConfigMap", "probe"), names.CHILD_STATUS_CONFIG_MAP),
        (PODS, pod(), "theirs"),
        (SERVICES, service(), "web"),
        (DEPLOYMENTS, workload(DEPLOYMENTS, template()), "theirs"),
        (CLAIMS, claim(), "theirs"),
    ):
        short = resource.rpartition("/")[2]
        for verb, act in foreign(resource, item, existing).items():
            at_home = {"list": look(resource), "make": make(resource, item)}.get(verb)
            out[f"neighbour's {short}: {verb}"] = Attempt(act, RBAC, RBAC, at_home)
    for resource in (MODELS, DEPLOYMENTS):
        out[f"neighbour's {resource.rpartition('/')[2]}: scale"] = Attempt(
            lambda who, own, other, resource=resource: who.change(  # type: ignore[misc]
                resource, other.space, "theirs", {"spec": {"replicas": 0}}, sub="scale"
            ),
            RBAC,
            RBAC,
            change(DEPLOYMENTS, "theirs", {"spec": {"replicas": 0}}, sub="scale"),
        )
    for sub in ("exec", "attach", "portforward", "log", "proxy", "ephemeralcontainers", "eviction"):
        out[f"neighbour's pod: {sub}"] = Attempt(
            lambda who, own, other, sub=sub: who.ask(  # type: ignore[misc]
                "GET" if sub in ("log", "proxy") else "POST", url(PODS, other.space, "theirs", sub), dry=False
            ),
            RBAC,
            RBAC,
        )
    return out
