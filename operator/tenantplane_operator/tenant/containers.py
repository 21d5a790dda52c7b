"""The LimitRange of a tenant from plan and Tenant, made to agree with itself.

The API server refuses a LimitRange whose default lies above its max, with a message that names neither plan nor
Tenant, and would leave the namespace without any. So a value that breaks a bound is moved onto the bound and reported:
what is enforced is never looser than what was asked for. Names of resources that no container has are left out.

Source: ``k8s.io/kubernetes`` ``pkg/apis/core/validation`` (ValidateLimitRange) and ``v1/defaults.go``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tenantplane_api.crd.tenant import ContainerLimits as OwnLimits
from tenantplane_api.runtime.platform import ContainerLimits as PlanLimits
from tenantplane_operator.tenant.quantity import parse_quantity

SECTIONS: Final = ("default", "defaultRequest", "max", "min")
_NATIVE: Final = re.compile(r"cpu|memory|ephemeral-storage|hugepages-[0-9]+(Ki|Mi|Gi)")
_EXTENDED: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_SHARED: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
"""Resources whose request may be less than the limit; all others are given whole."""


@dataclass(frozen=True, slots=True)
class MergedLimits:
    """``limits`` by section, empty ones left out; ``problems`` name the field and what is enforced instead."""

    limits: Mapping[str, Mapping[str, str]]
    problems: tuple[str, ...] = ()


@dataclass
class _Item:
    """One resource while it is made to agree; ``where`` is the path of each section."""

    resource: str
    values: dict[str, str]
    where: Mapping[str, str]
    problems: list[str] = field(default_factory=list)

    def limit(self, section: str, bound: str, *, above: bool) -> None:
        """Move a section's value onto another section's when it lies beyond it."""
        value, edge = self.values.get(section), self.values.get(bound)
        if value is None or edge is None:
            return
        number, limit = parse_quantity(value), parse_quantity(edge)
        if (number > limit) if above else (number < limit):
            self._replace(section, edge, f"{'more' if above else 'less'} than {self._path(bound)}: {edge}")

    def whole(self) -> None:
        """A resource that is not shared is requested as it is limited."""
        given, request = self.values.get("default", self.values.get("max")), self.values.get("defaultRequest")
        if self.resource in _SHARED or given is None or request is None:
            return
        if parse_quantity(given) != parse_quantity(request):
            self._replace("defaultRequest", given, f"not its default limit {given}, as {self.resource} needs")

    def _path(self, section: str) -> str:
        return f"{self.where[section]}.{section}.{self.resource}"

    def _replace(self, section: str, by: str, why: str) -> None:
        self.problems.append(f"{self._path(section)}: {self.values[section]} is {why}; {by} is enforced instead")
        self.values[section] = by


def merge_limits(own: OwnLimits | None, plan: PlanLimits, *, plan_name: str) -> MergedLimits:
    """The Tenant's sections, each as a whole over the plan's, within their bounds."""
    mine = own or OwnLimits()
    chosen: dict[str, Mapping[str, str]] = {}
    where: dict[str, str] = {}
    for section, listed, base in (
        ("default", mine.default, plan.default),
        ("defaultRequest", mine.default_request, plan.default_request),
        ("max", mine.max, plan.max),
        ("min", mine.min, plan.min),
    ):
        chosen[section] = listed or base
        where[section] = "spec.containerLimits" if listed else f"plan {plan_name}: containerLimits"
    problems: list[str] = []
    out: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for resource in sorted({key for value in chosen.values() for key in value}):
        if not _NATIVE.fullmatch(resource) and not (
            _EXTENDED.fullmatch(resource) and not resource.startswith("requests.")
        ):
            named = next(section for section in SECTIONS if resource in chosen[section])
            problems.append(
                f"{where[named]}.{named}: {resource!r} is no resource of a container: use cpu, memory, "
                "ephemeral-storage, hugepages-<size> or an extended resource such as nvidia.com/gpu"
            )
            continue
        item = _Item(resource, {s: chosen[s][resource] for s in SECTIONS if resource in chosen[s]}, where)
        # In this order each step leaves what the earlier ones made true: min ≤ default ≤ max, min ≤ request ≤ default.
        item.limit("min", "max", above=True)
        item.limit("default", "max", above=True)
        item.limit("default", "min", above=False)
        item.limit("defaultRequest", "default", above=True)
        item.limit("defaultRequest", "max", above=True)
        item.limit("defaultRequest", "min", above=False)
        item.whole()
        problems += item.problems
        for section, value in item.values.items():
            out[section][resource] = value
    return MergedLimits({section: items for section, items in out.items() if items}, tuple(problems))


def has_default(limits: Mapping[str, Mapping[str, str]], part: str, resource: str) -> bool:
    """True when a container that states none gets a request (``part`` ``requests``) or limit of ``resource``.

    Kubernetes takes a missing default limit from ``max``, and a missing default request from the limit or ``min``.
    """
    sections = ("default", "max") if part == "limits" else SECTIONS
    return any(resource in limits.get(section, {}) for section in sections)
