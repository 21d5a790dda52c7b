"""What a cluster says of tenants, under the rights of whoever asks.

Guarantees: no Secret is read. Somebody who may not read Tenants (they are cluster-scoped) is shown what the operator
leaves in the tenant's namespace, and what may not be read is named instead of being shown as missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from tenantplane_api.runtime import names
from tenantplane_cli.keyobjects import condition
from tenantplane_cli.kube import (
    FORBIDDEN,
    Kube,
    KubeError,
    NotFound,
    api_keys_path,
    config_map_path,
    get_tenant,
    namespace_of,
)
from tenantplane_cli.output import CliError, one_line
from tenantplane_cli.status.view import Child, View, view_of

NEARLY_FULL: Final = 0.9
_EVENTS_SHOWN: Final = 5
_CORE: Final = "/api/v1/namespaces/{ns}"


def cluster_views(kube: Kube, name: str | None, namespace: str | None) -> list[View]:
    """One tenant with all that belongs to it, or all in short.

    Raises CliError: there is no such tenant, or nothing of it may be read.
    """
    if name is None:
        return [view_of(item, []) for item in kube.items(f"/apis/{names.API_VERSION}/{names.PLURAL_TENANTS}")]
    try:
        tenant = get_tenant(kube, name)
    except KubeError as error:
        if error.status != FORBIDDEN:
            raise
        return [_from_namespace(kube, name, namespace or names.default_namespace(name))]
    look = _Look(kube, namespace or namespace_of(tenant), name)
    view = view_of(tenant, look.items(api_keys_path(look.namespace), "APIKeys"))
    view.children = look.children()
    view.events = look.events(about_tenant=True)
    view.not_readable = look.denied
    return [view]


def _from_namespace(kube: Kube, name: str, namespace: str) -> View:
    """What the operator leaves in the tenant's namespace for its own people."""
    try:
        data = kube.get(config_map_path(namespace, names.CHILD_STATUS_CONFIG_MAP)).get("data") or {}
    except NotFound:
        raise CliError(
            f"you may not read Tenants, and namespace {namespace} has no ConfigMap {names.CHILD_STATUS_CONFIG_MAP}: "
            "name the tenant's namespace by --namespace"
        ) from None
    except KubeError as error:
        if error.status != FORBIDDEN:
            raise
        raise KubeError(
            FORBIDDEN,
            f"you may read neither Tenants nor namespace {namespace}: name your tenant's namespace by --namespace, or "
            "ask its admin to add you to spec.access",
        ) from None
    look = _Look(kube, namespace, str(data.get("tenant", name)))
    view = view_of(_told(data, name, namespace), look.items(api_keys_path(namespace), "APIKeys"))
    view.children = look.children()
    view.events = look.events(about_tenant=False)
    view.not_readable = look.denied
    return view


def _told(data: dict[str, str], name: str, namespace: str) -> dict[str, Any]:
    """The status ConfigMap as the Tenant that it tells of."""
    import yaml

    try:
        told = {
            key: yaml.safe_load(data.get(key) or "[]") for key in ("models", "assistants", "knowledge", "conditions")
        }
        effective = yaml.safe_load(data.get("effective") or "{}")
    except yaml.YAMLError:
        raise CliError(f"ConfigMap {namespace}/{names.CHILD_STATUS_CONFIG_MAP} is damaged") from None
    return {
        "metadata": {"name": data.get("tenant", name)},
        "spec": {
            "displayName": data.get("displayName", ""),
            "assistants": [{"name": each} for each in told["assistants"]],
        },
        "status": {
            "namespace": namespace,
            "endpoint": data.get("endpoint", ""),
            "effective": {**effective, "models": told["models"]},
            "knowledge": told["knowledge"],
            "conditions": told["conditions"],
        },
    }


@dataclass
class _Look:
    """One look at a tenant's namespace."""

    kube: Kube
    namespace: str
    tenant: str
    denied: list[str] = field(default_factory=list)

    def items(self, path: str, what: str, *, ours: bool = False) -> list[dict[str, Any]]:
        """A list; empty, and remembered, where it may not be read."""
        try:
            return self.kube.items(path, f"{names.LABEL_TENANT}={self.tenant}" if ours else "")
        except KubeError as error:
            if error.status != FORBIDDEN:
                raise
            self.denied.append(what)
            return []

    def children(self) -> list[Child]:
        """The namespace and what lies in it, in the order of the fence."""
        core = _CORE.format(ns=self.namespace)
        network = f"/apis/networking.k8s.io/v1/namespaces/{self.namespace}/networkpolicies"
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}/rolebindings"
        models = f"/apis/{names.API_VERSION}/namespaces/{self.namespace}/{names.PLURAL_MODEL_DEPLOYMENTS}"
        space = self._namespace(core)
        if space is not None and space.healthy is False and space.text == "does not exist":
            return [space]
        kinds: tuple[tuple[str, str, bool, Callable[[dict[str, Any]], Child]], ...] = (
            (f"{core}/resourcequotas", "ResourceQuotas", True, quota_child),
            (f"{core}/limitranges", "LimitRanges", True, limit_range_child),
            (network, "NetworkPolicies", True, _policy),
            (rbac, "RoleBindings", True, _binding),
            (f"{core}/serviceaccounts", "ServiceAccounts", True, _account),
            (models, "ModelDeployments", False, _model),
        )
        found = [] if space is None else [space]
        for path, what, ours, child in kinds:
            items = self.items(path, what, ours=ours)
            found += [child(item) for item in sorted(items, key=lambda item: str(item["metadata"]["name"]))]
        deny = names.CHILD_NETWORK_POLICY_DENY
        if "NetworkPolicies" not in self.denied and not any(child.name == deny for child in found):
            found.append(Child("NetworkPolicy", deny, False, "is missing: the operator puts it back"))
        return found

    def _namespace(self, path: str) -> Child | None:
        try:
            space = self.kube.get(path)
        except NotFound:
            return Child("Namespace", self.namespace, False, "does not exist")
        except KubeError as error:
            if error.status != FORBIDDEN:
                raise
            self.denied.append("Namespace")
            return None
        labels = space["metadata"].get("labels") or {}
        phase = (space.get("status") or {}).get("phase", "")
        if phase == "Terminating":
            held = [
                one_line(str(each.get("message", "")))
                for each in (space.get("status") or {}).get("conditions") or ()
                if each.get("status") == "True"
            ]
            return Child("Namespace", self.namespace, False, "is being deleted", held)
        level = labels.get("pod-security.kubernetes.io/enforce", "not enforced")
        ours = labels.get(names.LABEL_TENANT) == self.tenant
        text = f"Pod Security {level}" if ours else f"does not carry {names.LABEL_TENANT}={self.tenant}"
        return Child("Namespace", self.namespace, ours, text)

    def events(self, *, about_tenant: bool) -> list[str]:
        """The newest events of the operator about this tenant and its objects."""
        found = self._events(self.namespace, "")
        if about_tenant:
            # Events about cluster-scoped objects lie in the namespace `default`.
            found += self._events("default", f"regarding.kind=Tenant,regarding.name={self.tenant}")
        newest = sorted(found, key=event_time, reverse=True)[:_EVENTS_SHOWN]
        return [event_line(event) for event in newest]

    def _events(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """The operator's events there, all pages: the API server does not give the newest first."""
        fields = ",".join(part for part in (f"reportingController={names.MANAGED_BY}", selector) if part)
        try:
            return self.kube.items(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", fields=fields)
        except KubeError as error:
            if error.status != FORBIDDEN:
                raise
            self.denied.append(f"events in {namespace}")
            return []


def event_time(event: dict[str, Any]) -> str:
    """When it was seen last."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime") or event.get("eventTime") or event["metadata"].get("creationTimestamp", "")
    )


def event_line(event: dict[str, Any]) -> str:
    """One event on one line."""
    about = event.get("regarding") or {}
    count = (event.get("series") or {}).get("count")
    times = f" (x{count})" if count else ""
    return one_line(
        f"{event_time(event)} {event.get('type', '')} {about.get('kind', '')}/{about.get('name', '')} "
        f"{event.get('reason', '')}: {event.get('note', '')}{times}"
    )


def quota_child(item: dict[str, Any]) -> Child:
    """A ResourceQuota with what is used of it, the fullest first."""
    from tenantplane_operator.tenant.quantity import parse_quantity

    status = item.get("status") or {}
    hard, used = status.get("hard") or (item.get("spec") or {}).get("hard") or {}, status.get("used") or {}
    rows = []
    for name, bound in hard.items():
        have = used.get(name, "0")
        try:
            limit, taken = parse_quantity(str(bound)), parse_quantity(str(have))
        except ValueError:
            limit, taken = Decimal(0), Decimal(0)
        share = float(taken / limit) if limit else (1.0 if taken else 0.0)
        rows.append((share, f"{name}: {have} of {bound} ({share:.0%})"))
    rows.sort(key=lambda row: (-row[0], row[1]))
    full = [text for share, text in rows if share >= NEARLY_FULL]
    # Without figures the controller manager has not counted yet, or does not run: then nothing is enforced.
    counted = bool(status.get("hard"))
    text = f"{len(full)} of {len(rows)} nearly used up" if full else f"{len(rows)} bounds, none nearly used up"
    if not counted:
        text = "not counted yet"
    marked = [("! " if share >= NEARLY_FULL else "") + line for share, line in rows]
    return Child("ResourceQuota", str(item["metadata"]["name"]), counted or None, text, marked, warning=bool(full))


def limit_range_child(item: dict[str, Any]) -> Child:
    """A LimitRange with its bounds."""
    details = []
    for limit in (item.get("spec") or {}).get("limits") or ():
        for part in ("defaultRequest", "default", "min", "max"):
            if limit.get(part):
                values = ", ".join(f"{name} {value}" for name, value in limit[part].items())
                details.append(f"{limit.get('type', '')} {part}: {values}")
    return Child("LimitRange", str(item["metadata"]["name"]), True, "", details)


def _policy(item: dict[str, Any]) -> Child:
    spec = item.get("spec") or {}
    return Child("NetworkPolicy", str(item["metadata"]["name"]), True, "/".join(spec.get("policyTypes") or ()))


def _binding(item: dict[str, Any]) -> Child:
    subjects = [
        f"{each['kind']} " + (f"{each['namespace']}/" if each.get("namespace") else "") + str(each["name"])
        for each in item.get("subjects") or ()
    ]
    role = (item.get("roleRef") or {}).get("name", "")
    return Child("RoleBinding", str(item["metadata"]["name"]), True, f"{role}: {', '.join(subjects) or 'nobody'}")


def _account(item: dict[str, Any]) -> Child:
    role = (item["metadata"].get("annotations") or {}).get(names.ANNOTATION_ROLE_ARN, "")
    token = "" if item.get("automountServiceAccountToken") is False else "its token is mounted into pods"
    return Child(
        "ServiceAccount", str(item["metadata"]["name"]), True, "; ".join(part for part in (role, token) if part)
    )


def _model(item: dict[str, Any]) -> Child:
    found = condition(item, "Available") or {}
    text = str(found.get("reason", "not looked at yet"))
    if found.get("message"):
        text += f" ({one_line(str(found['message']))})"
    healthy = None if not found else found.get("status") == "True"
    return Child("ModelDeployment", str(item["metadata"]["name"]), healthy, text)
