"""The tenant's Namespace: Pod Security, the plan's allowances, the labels that make it ours, the tenantID of its owner.

Guarantees that the user's labels and annotations never win over ours (that reserved keys do not get here is the
business of schema and ``rules``). The tenant fence reads the plan's allowances here; one that somebody else left,
before an adoption or by hand, is drift, which ``runtime.compare`` sees and removes.

The Namespace has no ownerReference: deleting a Tenant must never delete a customer's data by garbage collection
(capsule#1181). A foreign label or annotation on it survives server-side apply.
"""

from collections.abc import Mapping
from typing import Final

from tenantplane_api.crd.tenant import NamespaceSpec
from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import allow_annotations
from tenantplane_operator.tenant.effective import EffectiveTenant
from tenantplane_operator.tenant.manifest import Manifest, Owner, metadata

_DOMAIN: Final = "pod-security.kubernetes.io"


def namespace_manifest(
    owner: Owner,
    namespace: str,
    *,
    spec: NamespaceSpec | None,
    effective: EffectiveTenant,
) -> Manifest:
    """The Namespace as applied, also over one that was adopted or taken back."""
    own = spec or NamespaceSpec()
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": metadata(
            owner,
            name=namespace,
            component=names.COMPONENT_FENCE,
            labels={**own.labels, **pod_security_labels(effective.pod_security, effective.pod_security_version)},
            annotations={**own.annotations, **allow_annotations(effective.allow)},
        ),
    }


def pod_security_labels(level: str, version: str) -> Mapping[str, str]:
    """Enforce, audit and warn at one level and version, so that what is refused is also what is reported."""
    labels: dict[str, str] = {}
    for mode in ("enforce", "audit", "warn"):
        labels[f"{_DOMAIN}/{mode}"] = level.lower()
        labels[f"{_DOMAIN}/{mode}-version"] = version
    return labels
