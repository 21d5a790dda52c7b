"""Every name that both programs, the chart and the users must agree on, written once.

Group and kinds, labels, annotations, field managers, namespaces, names of runtime documents and child objects. Pure
strings and pure functions; the chart's copy of these names is checked against this module by a test.
"""

from typing import Final, NewType

TenantName = NewType("TenantName", str)
"""Name of a Tenant object; unique in a cluster, may be reused after deletion."""

TenantID = NewType("TenantID", str)
"""Durable identity of a customer, chosen by the author of the YAML; what outlives a cluster is bound to it."""

Revision = NewType("Revision", str)
"""First 16 hexadecimal digits of the SHA-256 of a runtime document's canonical JSON."""

ModelKey = NewType("ModelKey", str)
"""``namespace/name`` of a ModelDeployment."""

GROUP: Final = "tenantplane.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
RUNTIME_API_VERSION: Final = "runtime.tenantplane.dev/v1"

KIND_TENANT: Final = "Tenant"
KIND_MODEL_DEPLOYMENT: Final = "ModelDeployment"
KIND_API_KEY: Final = "APIKey"
PLURAL_TENANTS: Final = "tenants"
PLURAL_MODEL_DEPLOYMENTS: Final = "modeldeployments"
PLURAL_API_KEYS: Final = "apikeys"
KIND_TENANT_RUNTIME: Final = "TenantRuntime"
KIND_MODEL_RUNTIME: Final = "ModelRuntime"

# Labels. An object is *ours* exactly when it carries LABEL_TENANT.
LABEL_TENANT: Final = f"{GROUP}/tenant"
LABEL_COMPONENT: Final = f"{GROUP}/component"
LABEL_MODEL: Final = f"{GROUP}/model"
LABEL_API_KEY: Final = f"{GROUP}/api-key"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
MANAGED_BY: Final = "tenantplane-operator"
PART_OF: Final = "tenantplane"

# Values of LABEL_COMPONENT.
COMPONENT_FENCE: Final = "fence"
COMPONENT_ACCESS: Final = "access"
COMPONENT_STATUS: Final = "status"
COMPONENT_APIKEY: Final = "apikey"
COMPONENT_INDEX: Final = "index"
COMPONENT_RUNTIME: Final = "runtime"
COMPONENT_DATAPLANE: Final = "dataplane"
COMPONENT_OPERATOR: Final = "operator"

# Annotations.
ANNOTATION_TENANT_ID: Final = f"{GROUP}/tenant-id"
ANNOTATION_ADOPTABLE_BY: Final = f"{GROUP}/adoptable-by"
ANNOTATION_APPLIED_HASH: Final = f"{GROUP}/applied-hash"
ANNOTATION_REVISION: Final = f"{GROUP}/revision"
ANNOTATION_KEY_ID: Final = f"{GROUP}/key-id"
ANNOTATION_KEY_HASH: Final = f"{GROUP}/key-hash"
ANNOTATION_KEY_REQUEST: Final = f"{GROUP}/key-request"
"""On an API key's Secret: the rotation request that was there when its text was made, so that each is answered once."""
ANNOTATION_RECONCILE: Final = f"{GROUP}/reconcile-requested-at"
ANNOTATION_REINDEX: Final = f"{GROUP}/reindex-requested-at"
ANNOTATION_REVOKE: Final = f"{GROUP}/revoke-requested-at"
ANNOTATION_ROTATE: Final = f"{GROUP}/rotate-requested-at"
ANNOTATION_RELEASE: Final = f"{GROUP}/release-requested-at"
ANNOTATION_DEFINITIONS: Final = f"{GROUP}/definitions"
"""On a runtime document: UIDs of the CRDs under which it was published, so that a reinstalled CRD is no deletion."""
ANNOTATION_HELD_SINCE: Final = f"{GROUP}/deletion-held-since"
"""On a runtime document: since when (RFC 3339) something that its objects' disappearance would cut is held."""
ANNOTATION_ALLOW_PREFIX: Final = f"{GROUP}/allow-"
"""On a tenant's Namespace: what the tenant fence lets its pods and Services use, comma-separated, from the plan.

The fence reads them as ``namespaceObject.metadata.annotations``; an absent annotation allows nothing. One annotation
per field of ``platform.Allowances``, see ``platform.allow_annotations``.
"""
ANNOTATION_ROLE_ARN: Final = "eks.amazonaws.com/role-arn"
"""On a ServiceAccount: the role that EKS' webhook gives to its pods."""

FINALIZER: Final = f"{GROUP}/access"

LEASE_NAME: Final = "tenantplane-operator"
"""Lease in the system namespace that the leading operator holds."""

CONFIG_MAP_HELD: Final = "tenantplane-held"
"""ConfigMap in the system namespace: the documents that are held though their objects are gone, and their release."""
HELD_PREFIX: Final = "held."
RELEASE_PREFIX: Final = "release."
RELEASE_ALL: Final = "release.all"

MANAGER_CHILDREN: Final = "tenantplane"
MANAGER_STATUS: Final = "tenantplane-status"
MANAGER_FINALIZER: Final = "tenantplane-finalizer"
MANAGER_HOLD: Final = "tenantplane-hold"

# The platform's own namespaces: defaults of Platform.shared.namespaces.
NAMESPACE_SYSTEM: Final = "tenantplane-system"
NAMESPACE_RUNTIME: Final = "tenantplane-runtime"
NAMESPACE_JOBS: Final = "tenantplane-jobs"
NAMESPACE_MODELS: Final = "tenantplane-models"

# Children in a tenant's namespace. Fixed names, so that a user finds them and a restore hits the same objects.
NAMESPACE_PREFIX: Final = "tenant-"
CHILD_WORKLOAD_PREFIX: Final = "tenantplane-"
"""Every workload (apps/*) that the operator makes for a tenant begins so: the tenant fence keeps it from others."""
CHILD_QUOTA: Final = "tenantplane"
CHILD_LIMIT_RANGE: Final = "tenantplane"
CHILD_SERVICE_ACCOUNT: Final = "tenant"
CHILD_STATUS_CONFIG_MAP: Final = "tenantplane-status"
CHILD_NETWORK_POLICY_DENY: Final = "tenantplane-default-deny"
CHILD_NETWORK_POLICY_DNS: Final = "tenantplane-allow-dns"
CHILD_NETWORK_POLICY_SAME_NAMESPACE: Final = "tenantplane-allow-same-namespace"
CHILD_NETWORK_POLICY_DATAPLANE: Final = "tenantplane-allow-dataplane"
CHILD_NETWORK_POLICY_MODELS: Final = "tenantplane-allow-dataplane-to-models"
CHILD_NETWORK_POLICY_EGRESS: Final = "tenantplane-allow-egress"
CHILD_NETWORK_POLICY_INGRESS: Final = "tenantplane-allow-ingress"
CHILD_ROLE_BINDING_ADMINS: Final = "tenantplane-admins"
CHILD_ROLE_BINDING_EDITORS: Final = "tenantplane-editors"
CHILD_ROLE_BINDING_VIEWERS: Final = "tenantplane-viewers"
CHILD_ROLE_BINDING_WORKLOADS: Final = "tenantplane-workloads"
CHILD_ROLE_BINDING_OPERATOR: Final = "tenantplane-operator"

# ClusterRoles of the chart that RoleBindings in tenants' namespaces refer to.
CLUSTER_ROLE_TENANT_ADMIN: Final = "tenantplane-tenant-admin"
CLUSTER_ROLE_TENANT_EDITOR: Final = "tenantplane-tenant-editor"
CLUSTER_ROLE_TENANT_VIEWER: Final = "tenantplane-tenant-viewer"
CLUSTER_ROLE_TENANT_WORKLOADS: Final = "tenantplane-tenant-workloads"
CLUSTER_ROLE_OPERATOR_NAMESPACE: Final = "tenantplane-operator-namespace"

FENCES: Final = (
    "tenantplane-operator-fence",
    "tenantplane-runtime-fence",
    "tenantplane-namespace-fence",
    "tenantplane-overlay-fence",
    "tenantplane-tenant-fence",
    "tenantplane-tenant-boundary-fence",
    "tenantplane-tenant-gateway-fence",
    "tenantplane-tenant-identity-fence",
    "tenantplane-tenant-ingress-fence",
    "tenantplane-tenant-pods-fence",
    "tenantplane-tenant-services-fence",
    "tenantplane-tenant-storage-fence",
)
"""Admission policies of the chart, each with a binding of the same name; one that is missing is a hole."""

SERVICE_ACCOUNT_OPERATOR: Final = "tenantplane-operator"
SERVICE_ACCOUNT_INDEXER: Final = "tenantplane-indexer"
SERVICE_ACCOUNT_DATAPLANE: Final = "tenantplane-dataplane"

# Runtime documents.
SECRET_TYPE_RUNTIME: Final = "tenantplane.dev/runtime"  # noqa: S105 -- a Secret's type, not a secret
DOCUMENT_KEY: Final = "document.json"
SECRET_KEY_API_KEY: Final = "apiKey"  # noqa: S105 -- the name of a Secret's key
SECRET_KEY_BASE_URL: Final = "baseURL"  # noqa: S105 -- the name of a Secret's key

ASSISTANT_MODEL_PREFIX: Final = "assistant/"

RESERVED_NAMESPACES: Final = frozenset({"default"})
RESERVED_NAMESPACE_PREFIXES: Final = ("kube-", "tenantplane-")
RESERVED_LABEL_DOMAINS: Final = (
    "kubernetes.io",
    "k8s.io",
    "tenantplane.dev",
    "istio.io",
    "gatekeeper.sh",
    "argoproj.io",
)
"""Label keys whose domain is one of these, or below one of these, belong to the platform."""

DENIED_SUBJECTS: Final = frozenset({"system:authenticated", "system:unauthenticated", "system:serviceaccounts"})
"""Groups that would hand a tenant's namespace to everybody; any other ``system:`` subject is refused too."""


def default_namespace(tenant: str) -> str:
    """Namespace of a tenant that names none: ``tenant-<name>``."""
    return f"{NAMESPACE_PREFIX}{tenant}"


def is_reserved_namespace(namespace: str) -> bool:
    """True for namespaces that no tenant may ever be given."""
    return namespace in RESERVED_NAMESPACES or namespace.startswith(RESERVED_NAMESPACE_PREFIXES)


def is_reserved_label_key(key: str) -> bool:
    """True for label or annotation keys whose domain belongs to the platform or to Kubernetes."""
    domain, slash, _ = key.rpartition("/")
    return bool(slash) and any(domain == d or domain.endswith("." + d) for d in RESERVED_LABEL_DOMAINS)


def tenant_document_name(tenant: str) -> str:
    """Name of the Secret that holds a tenant's runtime document: ``t.<tenant>``."""
    return f"t.{tenant}"


def model_document_name(namespace: str, name: str) -> str:
    """Name of the Secret that holds a model's runtime document: ``m.<namespace>.<name>``.

    Unambiguous because both parts are DNS labels and so hold no dot.
    """
    return f"m.{namespace}.{name}"


def model_key(namespace: str, name: str) -> ModelKey:
    """``namespace/name``: how documents name a model."""
    return ModelKey(f"{namespace}/{name}")
