"""ConfigMap ``tenantplane-status``: what a tenant admin, who cannot read the cluster-scoped Tenant, sees of it.

Guarantees that it changes only when something that it shows changes (no times), and shows nothing of other tenants or
of the platform's insides beyond the conditions' own messages. Values are YAML text, readable with ``kubectl get -o
yaml`` and by programs; keys stay stable.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from tenantplane_api.crd.conditions import ConditionType
from tenantplane_api.runtime import names
from tenantplane_operator.tenant.concern import Concern
from tenantplane_operator.tenant.manifest import Manifest, metadata
from tenantplane_operator.tenant.parse import ParsedTenant


def status_config_map(
    tenant: ParsedTenant,
    *,
    namespace: str,
    status: Mapping[str, Any],
    conditions: Mapping[ConditionType, Concern],
) -> Manifest:
    """The ConfigMap.

    Args:
        tenant: whose.
        namespace: the tenant's namespace.
        status: the Tenant's status body, as ``tenant_status`` makes it.
        conditions: the conditions that go into the Tenant's status with it.
    """
    effective = dict(status.get("effective") or {})
    models = effective.pop("models", [])
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(
            tenant.owner,
            name=names.CHILD_STATUS_CONFIG_MAP,
            namespace=namespace,
            component=names.COMPONENT_STATUS,
        ),
        "data": {
            "tenant": tenant.name,
            "displayName": tenant.spec.display_name,
            "endpoint": str(status.get("endpoint") or ""),
            "models": _text([{"alias": model["alias"], "usable": model["usable"]} for model in models]),
            "assistants": _text([assistant.name for assistant in tenant.spec.assistants]),
            "knowledge": _text(
                [
                    {key: index[key] for key in ("name", "documents", "chunks", "builtAt", "message") if index.get(key)}
                    for index in status.get("knowledge") or []
                ]
            ),
            "effective": _text(effective),
            "conditions": _text(
                [
                    {
                        "type": str(kind),
                        "status": concern.status,
                        "reason": concern.reason,
                        **({"message": concern.message} if concern.message else {}),
                    }
                    for kind, concern in conditions.items()
                ]
            ),
        },
    }


# libyaml, which wheels of PyYAML bring along, is ten times as fast; this text is made in every pass over a Tenant.
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _text(value: Any) -> str:
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096))
