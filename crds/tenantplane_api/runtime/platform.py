"""The Platform file: what the platform team decides for the whole installation.

One YAML file from the chart's values, three sections (``operator``, ``dataplane``, ``shared``); both programs read and
validate the whole of it, so that neither can start with a file that the other would refuse. An unknown field is an
error: in a file that fences tenants, a misspelt key must not be a silent default.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import yaml
from msgspec import Meta

from tenantplane_api.runtime import limits, names

Quantity = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$", max_length=32)]
"""An unsigned Kubernetes quantity, such as ``500m`` or ``16Gi``."""
Name = Annotated[str, Meta(pattern=limits.DNS_LABEL_PATTERN, max_length=limits.NAMESPACE_MAX)]
Alias = Annotated[str, Meta(pattern=limits.ALIAS_PATTERN, max_length=limits.ALIAS_MAX)]
PositiveInt = Annotated[int, Meta(ge=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]
Cidr = Annotated[str, Meta(pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$", max_length=43)]

DEFAULT_PLATFORM_PATH: Final = "/etc/tenantplane/platform.yaml"


class PlatformError(ValueError):
    """Raise when a Platform file must not be used; the message starts with the path of the wrong field."""


class Section(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of all parts of the Platform file: immutable, camelCase, unknown fields refused."""


class ModelRef(Section, frozen=True):
    """A ModelDeployment; ``namespace`` absent means the platform's models namespace."""

    name: Name
    namespace: Name | None = None


class PlanModel(Section, frozen=True):
    """An alias that tenants of a plan get when they list none."""

    alias: Alias
    ref: ModelRef


class RequestLimits(Section, frozen=True):
    """Request rates; ``None`` is no limit."""

    per_minute: Annotated[int, Meta(ge=1, le=limits.REQUESTS_PER_MINUTE_MAX)] | None = None


class PlanLimits(Section, frozen=True):
    """Limits of a tenant in the data plane."""

    requests: RequestLimits = RequestLimits()
    concurrency: Annotated[int, Meta(ge=1, le=limits.CONCURRENCY_MAX)] | None = None


class ContainerLimits(Section, frozen=True):
    """A LimitRange for containers; maps of resource name to quantity."""

    default: dict[str, Quantity] = {}
    default_request: dict[str, Quantity] = {}
    max: dict[str, Quantity] = {}
    min: dict[str, Quantity] = {}


AllowText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9*._:/@-]+$", min_length=1, max_length=limits.ALLOW_TEXT_MAX)]
"""An entry of an allow-list: no comma, because lists travel comma-separated in an annotation."""
AllowList = Annotated[tuple[AllowText, ...], Meta(max_length=limits.ALLOW_MAX)]
_HOST_LABEL: Final = r"([A-Za-z0-9*_:-]+|[{]tenant(ID)?[}])"
AllowHost = Annotated[
    str, Meta(pattern=rf"^{_HOST_LABEL}([.]{_HOST_LABEL})*$", min_length=1, max_length=limits.ALLOW_TEXT_MAX)
]
"""A host of an allow-list; a whole label of it may be ``{tenant}`` or ``{tenantID}``: each tenant's own.

A part of a label may not: ``{tenant}-app`` of a tenant ``x`` would be ``{tenant}`` of a tenant ``x-app``.
"""


class Allowances(Section, frozen=True):
    """What pods and Services in the namespaces of a plan may use; the tenant fence refuses what is not listed.

    ``registries``: prefixes of image references that end at a ``/``, repositories or whole references, all in full
    (``registry.example/acme/`` allows every image below it, ``docker.io/library/nginx`` each of its tags, ``*`` any).
    ``image_pull_policies``: of containers. ``service_types``: beyond ClusterIP. ``ingress_classes`` and
    ``ingress_hosts`` (exact, or ``*.domain``) allow Ingresses; ``gateways`` (``namespace/name``) with ``ingress_hosts``
    allow HTTPRoutes. A plan of several tenants lists hosts with ``{tenant}`` or ``{tenantID}`` in them, see
    ``for_tenant``: any other host is all theirs. ``tolerations``: taint keys that pods may tolerate beyond
    ``node.kubernetes.io/not-ready`` and ``…/unreachable``; ``*`` any. Classes by name, ``*`` any.
    """

    registries: AllowList = ()
    image_pull_policies: tuple[Literal["Always", "IfNotPresent", "Never"], ...] = ("Always",)
    service_types: tuple[Literal["LoadBalancer", "NodePort"], ...] = ()
    ingress_classes: AllowList = ()
    ingress_hosts: Annotated[tuple[AllowHost, ...], Meta(max_length=limits.ALLOW_MAX)] = ()
    gateways: AllowList = ()
    storage_classes: AllowList = ()
    priority_classes: AllowList = ()
    runtime_classes: AllowList = ()
    tolerations: AllowList = ()

    def for_tenant(self, name: str, tenant_id: str) -> "Allowances":
        """The same with ``{tenant}`` and ``{tenantID}`` in hosts replaced, as the tenant fence compares them.

        A host that is then longer than DNS knows any (253 characters) is left out.
        """
        hosts = (host.replace("{tenant}", name).replace("{tenantID}", tenant_id) for host in self.ingress_hosts)
        return msgspec.structs.replace(self, ingress_hosts=tuple(host for host in hosts if len(host) <= 253))


def allow_annotations(allow: Allowances) -> dict[str, str]:
    """Annotations of a tenant's Namespace that tell the tenant fence what the plan allows; empty lists are absent.

    ``allow`` is the tenant's own, see ``Allowances.for_tenant``: a placeholder that is left matches no host.
    """
    values: dict[str, list[str]] = msgspec.to_builtins(allow)
    out = {}
    for field, entries in values.items():
        words = re.sub(r"(?<!^)([A-Z])", r"-\1", field).lower()
        if entries:
            out[names.ANNOTATION_ALLOW_PREFIX + words] = ",".join(dict.fromkeys(entries))
    return out


class Plan(Section, frozen=True):
    """Defaults of the tenants of one plan; a Tenant overrides field by field, ``status.effective`` shows the result.

    ``quota`` maps ResourceQuota names (``requests.cpu``, ``count/pods``, ``pods``…) to quantities. ``allow`` is what
    the tenant fence lets workloads use.
    """

    description: str = ""
    quota: dict[str, Quantity] = {}
    container_limits: ContainerLimits = ContainerLimits()
    limits: PlanLimits = PlanLimits()
    models: tuple[PlanModel, ...] = ()
    workloads: Literal["None", "Restricted"] = "None"
    allow: Allowances = Allowances()


class Namespaces(Section, frozen=True):
    """The platform's four namespaces."""

    system: Name = names.NAMESPACE_SYSTEM
    runtime: Name = names.NAMESPACE_RUNTIME
    jobs: Name = names.NAMESPACE_JOBS
    models: Name = names.NAMESPACE_MODELS


class ExternalHost(Section, frozen=True):
    """A host that ModelDeployments may name: an exact name, ``*.domain`` or ``*``.

    ``http`` also permits plain HTTP; ``private`` also permits private and loopback addresses; ``ports`` empty is any.
    """

    host: Annotated[str, Meta(pattern=r"^(\*|(\*\.)?[A-Za-z0-9._:-]+)$", max_length=253)]
    http: bool = False
    private: bool = False
    ports: tuple[Annotated[int, Meta(ge=1, le=65535)], ...] = ()


class Knowledge(Section, frozen=True):
    """Where indices live and how they are embedded. ``directory_root`` unset refuses ``directory`` sources."""

    store: Annotated[str, Meta(pattern=r"^file:///.+", max_length=limits.URL_MAX)] | None = None
    directory_root: Annotated[str, Meta(pattern=r"^/.+", max_length=1024)] | None = None
    embedder: Literal["hashing"] = "hashing"
    dimension: Annotated[int, Meta(ge=16, le=4096)] = 384


class DataplaneAddress(Section, frozen=True):
    """How others find the data plane. ``public_url`` is what clients use, without a trailing ``/v1``.

    ``pod_labels`` and the system namespace select its pods in tenants' NetworkPolicies; ``port`` is its public port.
    """

    public_url: Annotated[str, Meta(pattern=r"^https?://[^\s?#]+$", max_length=limits.URL_MAX)] = msgspec.field(
        name="publicURL", default="http://tenantplane-dataplane.tenantplane-system.svc:8080"
    )
    port: Annotated[int, Meta(ge=1, le=65535)] = 8080
    pod_labels: dict[str, str] = msgspec.field(
        default_factory=lambda: {names.LABEL_COMPONENT: names.COMPONENT_DATAPLANE}
    )


class Network(Section, frozen=True):
    """Facts about the cluster's network that NetworkPolicies need."""

    dns: Literal["coredns", "eks-auto", "nodelocal", "gke-clouddns"] = "coredns"
    cluster_cidrs: tuple[Cidr, ...] = msgspec.field(name="clusterCIDRs", default=())


class Shared(Section, frozen=True):
    """What both programs must agree on."""

    namespaces: Namespaces = Namespaces()
    dataplane: DataplaneAddress = DataplaneAddress()
    external_hosts: tuple[ExternalHost, ...] = (ExternalHost(host="*"),)
    knowledge: Knowledge = Knowledge()
    network: Network = Network()


class Indexer(Section, frozen=True):
    """How index builds run: ``Job`` in the jobs namespace, or ``Subprocess`` of the operator (local runs only)."""

    runner: Literal["Job", "Subprocess"] = "Job"
    image: Annotated[str, Meta(max_length=512)] | None = None
    timeout_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 900
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 2
    memory_mi_b: Annotated[int, Meta(ge=256, le=262_144)] = msgspec.field(name="memoryMiB", default=2048)
    max_files: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    max_file_bytes: Annotated[int, Meta(ge=1, le=1 << 30)] = 10 * 1024 * 1024
    max_total_bytes: Annotated[int, Meta(ge=1, le=1 << 40)] = 1024 * 1024 * 1024


class LeaderElection(Section, frozen=True):
    """The Lease of the leading operator, in seconds.

    A lease that was not renewed for ``lease_seconds`` may be taken by another operator; a leader that could not renew
    it for ``renew_seconds`` writes nothing more and ends; ``retry_seconds`` lie between two attempts.
    """

    lease_seconds: Annotated[float, Meta(ge=1, le=300)] = 15.0
    renew_seconds: Annotated[float, Meta(gt=0, le=300)] = 10.0
    retry_seconds: Annotated[float, Meta(gt=0, le=60)] = 2.0


class MassDeletion(Section, frozen=True):
    """When deletions are held until somebody confirms them.

    Held is what goes beyond ``max(floor, fraction * objects of that kind)`` deletions of Tenants, of APIKeys or of
    ModelDeployments within ``window_seconds``.
    """

    floor: Annotated[int, Meta(ge=1, le=100_000)] = 5
    fraction: Annotated[float, Meta(ge=0, le=1)] = 0.1
    window_seconds: Annotated[float, Meta(ge=1, le=86_400)] = 600.0


class Aws(Section, frozen=True):
    """AWS, as far as the operator must know it.

    ``allowed_role_arns``: roles that Tenants may bring (``identity.aws.roleARN``). ``{tenantID}`` in an entry stands
    for the tenant's own, and a final ``*`` for any rest; between the two stands a character that no tenantID has, such
    as ``/``. None are allowed when the list is empty.
    """

    allowed_role_arns: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    pattern=r"^arn:aws[a-z0-9-]*:iam::[0-9]{12}:role/([A-Za-z0-9_/.@+=,-]|[{]tenantID[}])*[*]?$",
                    max_length=limits.ROLE_ARN_MAX,
                ),
            ],
            ...,
        ],
        Meta(max_length=256),
    ] = msgspec.field(name="allowedRoleARNs", default=())


class Operator(Section, frozen=True):
    """What only the operator reads. ``rollout_per_second``: tenants per second that a changed Platform file wakes."""

    plans: dict[Name, Plan] = msgspec.field(default_factory=lambda: {"default": Plan()})
    default_plan: Name = "default"
    indexer: Indexer = Indexer()
    workers: Annotated[int, Meta(ge=1, le=256)] = 16
    resync_seconds: Annotated[float, Meta(ge=5)] = 300.0
    pod_security_floor: Literal["Restricted", "Baseline", "Privileged"] = "Restricted"
    pod_security_version: Annotated[str, Meta(pattern=r"^(latest|v1\.[0-9]{1,3})$")] = "latest"
    denied_subjects: tuple[str, ...] = tuple(sorted(names.DENIED_SUBJECTS))
    probe_port: Annotated[int, Meta(ge=0, le=65535)] = 8090
    leader_election: LeaderElection = LeaderElection()
    mass_deletion: MassDeletion = MassDeletion()
    rollout_per_second: Annotated[float, Meta(gt=0, le=1000)] = 5.0
    aws: Aws = Aws()


class SocketLimits(Section, frozen=True):
    """What one client connection may cost before anybody is authenticated."""

    header_bytes: PositiveInt = limits.REQUEST_HEADER_MAX_BYTES
    headers: PositiveInt = limits.REQUEST_HEADERS_MAX
    body_bytes: PositiveInt = limits.REQUEST_BODY_MAX_BYTES
    header_seconds: PositiveFloat = 10.0
    body_seconds: PositiveFloat = 30.0
    idle_seconds: PositiveFloat = 75.0
    connections: PositiveInt = 2048


class Upstream(Section, frozen=True):
    """Waiting for engines: seconds to connect, to the first byte, and between two reads of a stream."""

    connect_seconds: PositiveFloat = 5.0
    first_byte_seconds: PositiveFloat = 300.0
    read_seconds: PositiveFloat = 120.0
    connections: PositiveInt = 512


class Dataplane(Section, frozen=True):
    """What only the data plane reads."""

    sockets: SocketLimits = SocketLimits()
    upstream: Upstream = Upstream()
    index_cache_mi_b: Annotated[int, Meta(ge=16)] = msgspec.field(name="indexCacheMiB", default=1024)
    drain_seconds: PositiveFloat = 30.0


class Platform(Section, frozen=True):
    """The whole file."""

    operator: Operator = Operator()
    dataplane: Dataplane = Dataplane()
    shared: Shared = Shared()

    def plan(self, name: str | None) -> tuple[str, Plan] | None:
        """Name and content of a plan (``None``: the default plan), or ``None`` when there is no such plan."""
        chosen = name or self.operator.default_plan
        plan = self.operator.plans.get(chosen)
        return None if plan is None else (chosen, plan)


def load_platform(path: Path) -> Platform:
    """Read and validate a Platform file.

    Raises:
        PlatformError: it cannot be read or is not valid; the message starts with the file or the field's path.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlatformError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlatformError(f"{path}: is not YAML: {error}") from None
    return parse_platform(data)


def parse_platform(data: Any) -> Platform:
    """Validate parsed YAML as a Platform file; see ``load_platform``."""
    try:
        platform = msgspec.convert({} if data is None else data, Platform)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.operator.workers`" becomes "operator.workers: expected …".
        message, _, where = str(error).partition(" - at `$")
        raise PlatformError(f"{where.rstrip('`').lstrip('.') or 'the file'}: {message}") from None
    _check(platform)
    return platform


def _refuse_line_breaks(value: Any, where: str = "") -> None:
    """``$`` in a pattern also matches before a final line break, which no name, URL or range here may have."""
    if isinstance(value, str):
        if value != value.rstrip("\r\n"):
            raise PlatformError(f"{where.lstrip('.')}: ends with a line break")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_line_breaks(key, f"{where}.{key.strip()}")
            if key != "description":  # prose, often a YAML block
                _refuse_line_breaks(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _refuse_line_breaks(item, f"{where}[{number}]")


def _check(platform: Platform) -> None:
    """What the structs' own bounds cannot say, because it spans fields."""
    _refuse_line_breaks(msgspec.to_builtins(platform))
    operator, shared = platform.operator, platform.shared
    if operator.default_plan not in operator.plans:
        raise PlatformError(f"operator.defaultPlan: there is no plan {operator.default_plan!r} in operator.plans")
    spaces = msgspec.to_builtins(shared.namespaces)
    if len(set(spaces.values())) != len(spaces):
        raise PlatformError("shared.namespaces: the four namespaces must differ")
    if any(not re.match(r"^(tenantplane-|kube-)", value) for value in spaces.values()):
        # Only names under the reserved prefix can never be asked for by a Tenant.
        raise PlatformError("shared.namespaces: names must start with `tenantplane-`, which no Tenant can claim")
    for number, cidr in enumerate(shared.network.cluster_cidrs):
        try:
            ipaddress.ip_network(cidr, strict=False)
        except ValueError as error:
            raise PlatformError(f"shared.network.clusterCIDRs[{number}]: {error}") from None
    _refuse_whole_families(shared.network.cluster_cidrs)
    knowledge, indexer = shared.knowledge, operator.indexer
    if indexer.runner == "Job" and (knowledge.store or "").startswith("file:"):
        raise PlatformError("shared.knowledge.store: file:// works only with operator.indexer.runner Subprocess")
    election = operator.leader_election
    if not election.retry_seconds < election.renew_seconds < election.lease_seconds:
        raise PlatformError(
            "operator.leaderElection: retrySeconds must be less than renewSeconds, and that less than leaseSeconds"
        )
    _refuse_lent_roles(operator.aws.allowed_role_arns)
    for name, plan in operator.plans.items():
        for key in plan.quota:
            if not re.match(limits.QUOTA_KEY_PATTERN, key):
                raise PlatformError(f"operator.plans.{name}.quota: {key!r} is not a ResourceQuota resource name")
        aliases = [model.alias for model in plan.models]
        if len(set(aliases)) != len(aliases):
            raise PlatformError(f"operator.plans.{name}.models: an alias is listed twice")


def _refuse_whole_families(cidrs: tuple[str, ...]) -> None:
    """A cluster that calls every address its own leaves no internet, and is rather a mistake than a wish."""
    found = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
    whole: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = [
        *ipaddress.collapse_addresses(n for n in found if isinstance(n, ipaddress.IPv4Network)),
        *ipaddress.collapse_addresses(n for n in found if isinstance(n, ipaddress.IPv6Network)),
    ]
    if any(network.prefixlen == 0 for network in whole):
        raise PlatformError(
            "shared.network.clusterCIDRs: together they are every address: list the ranges of the cluster's pods, "
            "Services and nodes"
        )


def _refuse_lent_roles(entries: tuple[str, ...]) -> None:
    """Where a tenantID ends or begins must be plain from the text: else one tenant is lent another one's role.

    One tenantID may begin with another (`{tenantID}-*`, and `{tenantID}-prod` beside `{tenantID}`) or end with it
    (`prod-{tenantID}` beside `{tenantID}`).
    """
    places: dict[str, int] = {}
    for number, entry in enumerate(entries):
        if re.search(r"[{]tenantID[}][a-z0-9{*-]", entry):
            raise PlatformError(
                f"operator.aws.allowedRoleARNs[{number}]: after {{tenantID}} put a character that no tenantID has, "
                "such as `/`: one tenantID may begin with another"
            )
        before, found, _ = entry.partition("{tenantID}")
        if found:
            places.setdefault(before, number)
    for short, one in places.items():
        for long, other in places.items():
            if long.startswith(short) and re.fullmatch(r"[a-z0-9-]+", long[len(short) :]):
                raise PlatformError(
                    f"operator.aws.allowedRoleARNs[{other}]: what stands before {{tenantID}} could be the beginning of "
                    f"a tenantID in entry [{one}]: put a character that no tenantID has between, such as `/`"
                )
