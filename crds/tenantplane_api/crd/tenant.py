"""The Tenant: one customer, its namespace and fence, its keys, models, limits, documents and assistants.

Cluster-scoped. A field is here only when it has an effect. What a plan decides stays unset in ``spec`` and shows in
``status.effective``.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tenantplane_api.crd.common import (
    Alias,
    LabelKey,
    Name,
    NamespaceName,
    ObjectName,
    Quantity,
    Subject,
)
from tenantplane_api.crd.schema import Model, list_map, list_set, rule, with_rules
from tenantplane_api.runtime import limits as bounds
from tenantplane_api.runtime import names

_RESERVED_DOMAINS = "|".join(domain.replace(".", "[.]") for domain in names.RESERVED_LABEL_DOMAINS)
_RESERVED_KEY = f"^([^/]*[.])?({_RESERVED_DOMAINS})/"
Cidr = Annotated[str, StringConstraints(max_length=43)]


class NamespaceSpec(Model):
    """The tenant's namespace."""

    name: NamespaceName | None = Field(
        default=None,
        description="Name of the namespace; `tenant-<name of the Tenant>` when unset. It cannot be changed later, and "
        "`default`, `kube-*` and `tenantplane-*` are refused.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self != 'default' && !self.startsWith('kube-') && !self.startsWith('tenantplane-')",
                    "`default`, `kube-*` and `tenantplane-*` are reserved: choose another namespace",
                )
            ]
        },
    )
    labels: dict[LabelKey, Annotated[str, StringConstraints(max_length=bounds.LABEL_VALUE_MAX)]] = Field(
        default={},
        max_length=bounds.LABELS_MAX,
        description="Labels added to the namespace. Keys of kubernetes.io, k8s.io, tenantplane.dev, istio.io, "
        "gatekeeper.sh and argoproj.io are reserved.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"self.all(key, !key.matches('{_RESERVED_KEY}'))", "a label key of a reserved domain is not allowed"
                ),
                rule(
                    "self.all(key, key.size() <= 317 && key.matches("
                    "'^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",
                    "a label key is malformed",
                ),
                rule(
                    "self.all(key, self[key].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$'))",
                    "a label value is malformed",
                ),
            ]
        },
    )
    annotations: dict[LabelKey, Annotated[str, StringConstraints(max_length=bounds.ANNOTATION_VALUE_MAX)]] = Field(
        default={},
        max_length=bounds.LABELS_MAX,
        description="Annotations added to the namespace; the same keys are reserved as for labels.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"self.all(key, !key.matches('{_RESERVED_KEY}'))",
                    "an annotation key of a reserved domain is not allowed",
                ),
                rule(
                    "self.all(key, key.matches("
                    "'^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",
                    "an annotation key is malformed",
                ),
            ]
        },
    )
    pod_security: Literal["Restricted", "Baseline", "Privileged"] | None = Field(
        default=None,
        description="Pod Security Standard that is enforced in the namespace; the platform's floor when unset. A level "
        "below the platform's floor makes the Tenant Stalled.",
    )
    adoption_policy: Literal["ByConsent", "Never"] = Field(
        default="ByConsent",
        description="Whether an existing namespace may be taken over. `ByConsent` needs the annotation "
        "`tenantplane.dev/adoptable-by: <tenant>` on it, written by a cluster admin; `Never` takes over none.",
    )


def _subjects(description: str) -> list[Subject]:
    field: list[Subject] = Field(
        default=[],
        max_length=bounds.SUBJECTS_MAX,
        description=description,
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.all(s, (s.kind == 'ServiceAccount') == has(s.__namespace__))",
                    "a ServiceAccount needs a namespace, a User or Group must not have one",
                ),
                rule(
                    "self.all(s, !s.name.startsWith('system:'))",
                    "subjects that start with `system:` are not allowed: they are not people of one tenant",
                ),
            ]
        },
    )
    return field


class Access(Model):
    """Which Kubernetes users may do what in the tenant's namespace."""

    admins: list[Subject] = _subjects(
        "May manage APIKeys, ConfigMaps, Secrets and ModelDeployments in the tenant's namespace."
    )
    editors: list[Subject] = _subjects("May manage ConfigMaps in the tenant's namespace.")
    viewers: list[Subject] = _subjects("May read the tenant's namespace, except Secrets.")
    workloads: Literal["None", "Restricted"] | None = Field(
        default=None,
        description="Whether admins may run workloads in the namespace; the plan decides when unset. Whoever may run "
        "pods there can read that tenant's Secrets.",
    )


class ContainerLimits(Model):
    """What a container in the tenant's namespace gets and may ask for. Each field overrides the plan's as a whole."""

    default: dict[LabelKey, Quantity] = Field(
        default={}, max_length=16, description="Limits of a container that sets none, for example `cpu: 500m`."
    )
    default_request: dict[LabelKey, Quantity] = Field(
        default={}, max_length=16, description="Requests of a container that sets none."
    )
    max: dict[LabelKey, Quantity] = Field(
        default={}, max_length=16, description="The most that a container may ask for."
    )
    min: dict[LabelKey, Quantity] = Field(
        default={}, max_length=16, description="The least that a container must ask for."
    )


class Egress(Model):
    """Where the tenant's pods may connect to, beyond DNS, their own namespace and the data plane."""

    internet: bool = Field(
        default=False,
        description="Permit public addresses. Private, carrier, link-local and the cluster's own ranges stay closed.",
    )
    cidrs: list[Cidr] = Field(
        default=[],
        max_length=bounds.CIDRS_MAX,
        description="Address ranges that are permitted. They must lie outside link-local and the cluster's own ranges; "
        "private ones are permitted only where the platform says which are the cluster's "
        "(`shared.network.clusterCIDRs`).",
        json_schema_extra={
            **list_set(),
            "x-kubernetes-validations": [rule("self.all(c, isCIDR(c))", "an entry is not an address range (CIDR)")],
        },
    )
    namespaces: list[NamespaceName] = Field(
        default=[],
        max_length=bounds.NAMESPACES_MAX,
        description="Namespaces of this cluster that are permitted, by name.",
        json_schema_extra=list_set(),
    )


class Ingress(Model):
    """Who may connect to the tenant's pods, beyond their own namespace."""

    namespaces: list[NamespaceName] = Field(
        default=[],
        max_length=bounds.NAMESPACES_MAX,
        description="Namespaces of this cluster that are permitted, by name.",
        json_schema_extra=list_set(),
    )


class Network(Model):
    """Openings in the default-deny fence around the tenant's namespace."""

    egress: Egress | None = Field(default=None, description="Where the tenant's pods may connect to.")
    ingress: Ingress | None = Field(default=None, description="Who may connect to the tenant's pods.")


class AwsIdentity(Model):
    """An AWS role that the customer brings."""

    role_arn: Annotated[
        str, StringConstraints(pattern=bounds.ROLE_ARN_PATTERN, max_length=bounds.ROLE_ARN_MAX, min_length=20)
    ] = Field(
        alias="roleARN",
        description="ARN of the role that pods under the tenant's ServiceAccount `tenant` assume. It must be on the "
        "platform's allow-list (`operator.aws.allowedRoleARNs`), and its trust policy must name that ServiceAccount.",
    )


class Identity(Model):
    """Who the tenant's pods are outside the cluster."""

    aws: AwsIdentity | None = Field(default=None, description="Identity in AWS.")


class ModelReference(Model):
    """A ModelDeployment."""

    name: Name = Field(description="Name of the ModelDeployment.")
    namespace: NamespaceName | None = Field(
        default=None, description="Its namespace; the platform's namespace for shared models when unset."
    )


class TenantModel(Model):
    """A model under the name that this tenant's clients use."""

    alias: Alias = Field(description="What clients send as `model`.")
    ref: ModelReference = Field(description="The ModelDeployment behind it.")


class RequestLimits(Model):
    """Request rates."""

    per_minute: Annotated[int, Field(ge=1, le=bounds.REQUESTS_PER_MINUTE_MAX)] | None = Field(
        default=None, description="Requests per minute; the plan decides when unset."
    )


class Limits(Model):
    """Limits in the data plane."""

    requests: RequestLimits | None = Field(default=None, description="Request rates of the whole tenant.")
    concurrency: Annotated[int, Field(ge=1, le=bounds.CONCURRENCY_MAX)] | None = Field(
        default=None, description="Requests in flight of the whole tenant; the plan decides when unset."
    )


class BootstrapKey(Model):
    """An APIKey that the operator makes in the tenant's namespace, so that one apply is enough to chat."""

    name: Name = Field(description="Name of the APIKey, and of the Secret that will hold the key.")
    owner: Annotated[str, StringConstraints(max_length=bounds.OWNER_MAX)] = Field(
        default="", description="Who answers for the key: a person, team or system."
    )
    expires_at: datetime | None = Field(default=None, description="When the key stops working; never when unset.")


class Auth(Model):
    """How callers prove that they belong to the tenant."""

    api_keys: list[BootstrapKey] | None = Field(
        default=None,
        max_length=bounds.BOOTSTRAP_KEYS_MAX,
        description="API keys made for the tenant. When unset there is one, named `default`; an empty list makes none.",
        json_schema_extra=list_map("name"),
    )


class Assistant(Model):
    """Answers from the tenant's documents, with citations: `POST /chat` and `model: assistant/<name>`."""

    name: Name = Field(description="Name of the assistant.")
    model: Alias | None = Field(
        default=None,
        description="Alias of the model that writes the answer; when unset, the answer is taken from the documents "
        "word for word (extractive), which needs no model.",
    )
    knowledge: list[Name] = Field(
        default=[],
        max_length=bounds.INDEXES_PER_ASSISTANT_MAX,
        description="Names of the indices that it reads.",
        json_schema_extra=list_set(),
    )
    instructions: Annotated[str, StringConstraints(max_length=bounds.INSTRUCTIONS_MAX)] = Field(
        default="", description="What the model is told about its task, in the system message."
    )


class ConfigMapSource(Model):
    """Documents in a ConfigMap of the tenant's namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap; each of its keys is one document.")


class DirectorySource(Model):
    """Documents in a directory of the platform."""

    path: Annotated[
        str,
        StringConstraints(
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$", max_length=bounds.PATH_MAX
        ),
    ] = Field(
        description="Path below `<shared.knowledge.directoryRoot>/<tenantID>`: relative, without `..` or hidden names."
    )


class Source(Model):
    """Where documents come from."""

    name: Name = Field(description="Name of the source; document ids start with it.")
    config_map: ConfigMapSource | None = Field(default=None, description="Documents in a ConfigMap.")
    directory: DirectorySource | None = Field(default=None, description="Documents in a directory of the platform.")

    model_config = with_rules(
        rule("has(self.configMap) != has(self.directory)", "exactly one of configMap and directory is needed")
    )


class Knowledge(Model):
    """One index over the tenant's documents."""

    name: Name = Field(description="Name of the index.")
    sources: list[Source] = Field(
        min_length=1,
        max_length=bounds.SOURCES_MAX,
        description="Where its documents come from.",
        json_schema_extra=list_map("name"),
    )


class TenantSpec(Model):
    """What a platform team decides about one customer."""

    tenant_id: Annotated[
        str,
        StringConstraints(
            pattern=bounds.TENANT_ID_PATTERN, min_length=bounds.TENANT_ID_MIN, max_length=bounds.TENANT_ID_MAX
        ),
    ] = Field(
        alias="tenantID",
        description="Durable identity of the customer, for example an account number: everything that outlives a "
        "cluster is bound to it. Keep it in Git. It cannot be changed. `tenantplane new` makes one.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("self == oldSelf", "tenantID cannot be changed: another customer needs another Tenant")
            ]
        },
    )
    display_name: Annotated[str, StringConstraints(max_length=bounds.DISPLAY_NAME_MAX)] = Field(
        default="", description="Name for people."
    )
    plan: Name | None = Field(default=None, description="Plan of the Platform file; its default plan when unset.")
    suspend: bool = Field(
        default=False, description="Refuse all requests (403 `tenant_suspended`); nothing is deleted."
    )
    deletion_policy: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description="What happens to the namespace when the Tenant is deleted: `Retain` keeps it with its fence, "
        "`Delete` deletes it last.",
    )
    namespace: NamespaceSpec | None = Field(default=None, description="The tenant's namespace.")
    access: Access | None = Field(default=None, description="Which Kubernetes users may do what in the namespace.")
    quota: dict[Annotated[str, StringConstraints(max_length=bounds.LABEL_KEY_MAX)], Quantity] = Field(
        default={},
        max_length=bounds.QUOTA_KEYS_MAX,
        description="ResourceQuota entries of the namespace, for example `requests.cpu: 4`; each overrides the plan's.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"self.all(key, key.matches('{bounds.QUOTA_KEY_PATTERN}'))",
                    "an entry is not a ResourceQuota resource name",
                )
            ]
        },
    )
    container_limits: ContainerLimits | None = Field(
        default=None, description="Defaults and bounds of containers in the namespace."
    )
    network: Network | None = Field(default=None, description="Openings in the default-deny network fence.")
    identity: Identity | None = Field(default=None, description="Who the tenant's pods are outside the cluster.")
    models: list[TenantModel] | None = Field(
        default=None,
        max_length=bounds.MODELS_MAX,
        description="Models that the tenant's clients may use; the plan's when unset.",
        json_schema_extra=list_map("alias"),
    )
    limits: Limits | None = Field(default=None, description="Limits in the data plane; each overrides the plan's.")
    auth: Auth | None = Field(default=None, description="How callers prove that they belong to the tenant.")
    assistants: list[Assistant] = Field(
        default=[],
        max_length=bounds.ASSISTANTS_MAX,
        description="Assistants that answer from the tenant's documents.",
        json_schema_extra=list_map("name"),
    )
    knowledge: list[Knowledge] = Field(
        default=[],
        max_length=bounds.INDEXES_MAX,
        description="Indices over the tenant's documents.",
        json_schema_extra=list_map("name"),
    )

    model_config = with_rules(
        {
            # The namespace's default depends on the Tenant's name, so presence itself must not change.
            "rule": "(has(oldSelf.__namespace__) && has(oldSelf.__namespace__.name)) == "
            "(has(self.__namespace__) && has(self.__namespace__.name)) && "
            "(!(has(self.__namespace__) && has(self.__namespace__.name)) || "
            "self.__namespace__.name == oldSelf.__namespace__.name)",
            "message": "namespace.name cannot be changed after creation",
            "fieldPath": ".namespace",
        },
        rule(
            "!has(self.assistants) || self.assistants.all(a, !has(a.knowledge) || a.knowledge.all(k, "
            "has(self.knowledge) && self.knowledge.exists(i, i.name == k)))",
            "an assistant names an index that is not in spec.knowledge",
            field=".assistants",
        ),
        rule(
            "!has(self.assistants) || !has(self.models) || self.assistants.all(a, !has(a.model) || "
            "self.models.exists(m, m.alias == a.model))",
            "an assistant names a model alias that is not in spec.models",
            field=".assistants",
        ),
        rule(
            "!has(self.models) || self.models.all(m, !m.alias.startsWith('assistant/'))",
            "an alias must not start with `assistant/`",
            field=".models",
        ),
    )
