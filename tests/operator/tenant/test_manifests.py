"""Each manifest as it is applied, written out: a change of any byte is a change somebody has to mean."""

from decimal import Decimal
from typing import Any

import pytest
import yaml
from tests.operator.tenant.build import ACME, by_name, parsed, platform

from tenantplane_api.runtime import names
from tenantplane_operator.tenant import quantity
from tenantplane_operator.tenant.compile import Compiled, Observed, compile_tenant

PLAN = {
    "quota": {"requests.cpu": "4", "secrets": "10", "count/configmaps": "1k", "pods": "20"},
    "containerLimits": {"default": {"memory": "256Mi", "cpu": "500m"}, "defaultRequest": {"cpu": "100m"}},
    "allow": {"registries": ["registry.example/acme/", "registry.example/tools/"], "storageClasses": ["gp3"]},
}
ROLE = "arn:aws:iam::123456789012:role/tenants/acme-0001/chat"
SPEC: dict[str, Any] = {
    "displayName": "Acme Cold Chain",
    "namespace": {"name": "cold-chain", "labels": {"team": "blue"}, "annotations": {"acme.example/cost": "42"}},
    "access": {
        "admins": [{"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "name": "ci", "namespace": "build"}],
        "viewers": [{"kind": "Group", "name": "acme-staff"}],
        "workloads": "Restricted",
    },
    "network": {
        "egress": {"cidrs": ["192.168.5.0/24"], "namespaces": ["tools"]},
        "ingress": {"namespaces": ["monitoring"]},
    },
    "identity": {"aws": {"roleARN": ROLE}},
    "auth": {"apiKeys": [{"name": "web", "owner": "Ann", "expiresAt": "2027-01-31T12:00:00+02:00"}]},
}
LABELS = """
      tenantplane.dev/tenant: acme
      tenantplane.dev/component: {component}
      app.kubernetes.io/managed-by: tenantplane-operator
"""

EXPECTED = """
- apiVersion: v1
  kind: Namespace
  metadata:
    name: cold-chain
    labels:
      team: blue
      pod-security.kubernetes.io/enforce: restricted
      pod-security.kubernetes.io/enforce-version: v1.36
      pod-security.kubernetes.io/audit: restricted
      pod-security.kubernetes.io/audit-version: v1.36
      pod-security.kubernetes.io/warn: restricted
      pod-security.kubernetes.io/warn-version: v1.36
      tenantplane.dev/tenant: acme
      tenantplane.dev/component: fence
      app.kubernetes.io/managed-by: tenantplane-operator
    annotations:
      acme.example/cost: "42"
      tenantplane.dev/tenant-id: acme-0001
      tenantplane.dev/allow-registries: registry.example/acme/,registry.example/tools/
      tenantplane.dev/allow-storage-classes: gp3
      tenantplane.dev/allow-image-pull-policies: Always
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {name: tenantplane-operator, component: access}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tenantplane-operator-namespace}
  subjects: [{kind: ServiceAccount, name: tenantplane-operator, namespace: tenantplane-system}]
- apiVersion: v1
  kind: ResourceQuota
  metadata: {name: tenantplane, component: fence}
  # a Secret for the key, one while it is rotated; kube-root-ca.crt and tenantplane-status beside 1000 ConfigMaps
  spec: {hard: {count/configmaps: "1002", pods: "20", requests.cpu: "4", secrets: "12"}}
- apiVersion: v1
  kind: LimitRange
  metadata: {name: tenantplane, component: fence}
  spec:
    limits: [{type: Container, default: {cpu: 500m, memory: 256Mi}, defaultRequest: {cpu: 100m}}]
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: tenantplane-default-deny, component: fence}
  spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: tenantplane-allow-dns, component: fence}
  spec:
    podSelector: {}
    policyTypes: [Egress]
    egress:
      - to:
          - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
            podSelector: {matchLabels: {k8s-app: kube-dns}}
        ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: tenantplane-allow-same-namespace, component: fence}
  spec:
    podSelector: {matchExpressions: [{key: tenantplane.dev/component, operator: DoesNotExist}]}
    policyTypes: [Ingress, Egress]
    ingress:
      - from: [{podSelector: {matchExpressions: [{key: tenantplane.dev/component, operator: DoesNotExist}]}}]
    egress:
      - to: [{podSelector: {matchExpressions: [{key: tenantplane.dev/component, operator: DoesNotExist}]}}]
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: tenantplane-allow-dataplane, component: fence}
  spec:
    podSelector: {matchExpressions: [{key: tenantplane.dev/component, operator: DoesNotExist}]}
    policyTypes: [Egress]
    egress:
      - to:
          - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: tenantplane-system}}
            podSelector: {matchLabels: {tenantplane.dev/component: dataplane}}
        ports: [{port: 8080, protocol: TCP}]
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: tenantplane-allow-dataplane-to-models, component: fence}
  spec:
    podSelector: {matchExpressions: [{key: tenantplane.dev/model, operator: Exists}]}
    policyTypes: [Ingress]
    ingress:
      - from:
          - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: tenantplane-system}}
            podSelector: {matchLabels: {tenantplane.dev/component: dataplane}}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: tenantplane-allow-egress, component: fence}
  spec:
    podSelector: {matchExpressions: [{key: tenantplane.dev/component, operator: DoesNotExist}]}
    policyTypes: [Egress]
    egress:
      - to:
          - ipBlock: {cidr: 192.168.5.0/24}
          - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: tools}}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: tenantplane-allow-ingress, component: fence}
  spec:
    podSelector: {matchExpressions: [{key: tenantplane.dev/component, operator: DoesNotExist}]}
    policyTypes: [Ingress]
    ingress:
      - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
- apiVersion: v1
  kind: ServiceAccount
  metadata:
    name: tenant
    component: access
    annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::123456789012:role/tenants/acme-0001/chat"}
  automountServiceAccountToken: false
- apiVersion: v1
  kind: ServiceAccount
  metadata: {name: default, component: access}
  automountServiceAccountToken: false
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {name: tenantplane-admins, component: access}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tenantplane-tenant-admin}
  subjects: &admins
    - {apiGroup: rbac.authorization.k8s.io, kind: User, name: ann}
    - {kind: ServiceAccount, name: ci, namespace: build}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {name: tenantplane-viewers, component: access}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tenantplane-tenant-viewer}
  subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: acme-staff}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {name: tenantplane-workloads, component: access}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tenantplane-tenant-workloads}
  subjects: *admins
- apiVersion: tenantplane.dev/v1alpha1
  kind: APIKey
  metadata: {name: web, component: apikey}
  spec: {description: Made for Tenant acme, owner: Ann, expiresAt: "2027-01-31T10:00:00Z"}
"""


def expected() -> list[dict[str, Any]]:
    """The list above with the metadata of every namespaced object written out."""
    out = []
    for item in yaml.safe_load(EXPECTED):
        meta = item["metadata"]
        component = meta.pop("component", None)
        if component is not None:
            meta["namespace"] = "cold-chain"
            meta["labels"] = yaml.safe_load(LABELS.format(component=component))
            meta["annotations"] = {**meta.get("annotations", {}), "tenantplane.dev/tenant-id": "acme-0001"}
        out.append(item)
    return out


def compiled(spec: dict[str, Any] | None = None, plan: dict[str, Any] | None = None) -> Compiled:
    where = platform(
        operator={
            "plans": {"default": plan or {}},
            "podSecurityVersion": "v1.36",
            "aws": {"allowedRoleARNs": ["arn:aws:iam::123456789012:role/tenants/{tenantID}/*"]},
        },
        shared={"network": {"clusterCIDRs": ["10.0.0.0/16"]}},
    )
    return compile_tenant(parsed(spec=spec), where, Observed())


def test_all_children_in_order() -> None:
    assert [child.manifest for child in compiled(SPEC, PLAN).children] == expected()


def test_a_bare_tenant_has_its_whole_fence() -> None:
    found = by_name([child.manifest for child in compiled().children])
    assert sorted(found) == [
        "APIKey/default",
        "Namespace/tenant-acme",
        "NetworkPolicy/tenantplane-allow-dataplane",
        "NetworkPolicy/tenantplane-allow-dataplane-to-models",
        "NetworkPolicy/tenantplane-allow-dns",
        "NetworkPolicy/tenantplane-allow-same-namespace",
        "NetworkPolicy/tenantplane-default-deny",
        "RoleBinding/tenantplane-operator",
        "ServiceAccount/default",
        "ServiceAccount/tenant",
    ]


def test_rights_to_run_workloads_are_given_only_where_they_are_asked_for() -> None:
    binding = "RoleBinding/tenantplane-workloads"
    people = {"admins": [{"kind": "User", "name": "ann"}]}
    for workloads, plan, bound in (
        (None, "None", False),
        ("None", "Restricted", False),
        ("Restricted", "None", True),
        (None, "Restricted", True),
    ):
        access = {**people, **({"workloads": workloads} if workloads else {})}
        out = compiled({"access": access}, {"workloads": plan})
        assert (binding in by_name([child.manifest for child in out.children])) is bound
    assert binding not in by_name([child.manifest for child in compiled({}, {"workloads": "Restricted"}).children])


def test_every_child_is_recognised_as_ours() -> None:
    for child in compiled(SPEC, PLAN).children:
        meta = child.manifest["metadata"]
        assert meta["labels"][names.LABEL_TENANT] == ACME.name
        assert meta["labels"][names.LABEL_MANAGED_BY] == names.MANAGED_BY
        assert meta["labels"][names.LABEL_COMPONENT]
        assert meta["annotations"][names.ANNOTATION_TENANT_ID] == ACME.tenant_id
        assert "ownerReferences" not in meta


def test_argos_labels_are_never_on_a_child() -> None:
    """argo-cd#8683: Argo prunes children that carry its labels."""
    for child in compiled(SPEC, PLAN).children:
        keys = {*child.manifest["metadata"]["labels"], *child.manifest["metadata"]["annotations"]}
        assert not any(key == "app.kubernetes.io/instance" or "argoproj" in key for key in keys)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", "0"), ("1k", "1000"), ("2Ki", "2048"), ("500m", "0.5"), ("1.5G", "1500000000"), ("1Ei", str(2**60))],
)
def test_quantities(text: str, value: str) -> None:
    assert quantity.parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1 k", "1kk", "0x1", "1.2345", "1\n"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not an unsigned"):
        quantity.parse_quantity(text)


def test_a_fractional_count_counts_as_a_whole_object() -> None:
    assert quantity.raise_count("1500m", 1) == "3"
