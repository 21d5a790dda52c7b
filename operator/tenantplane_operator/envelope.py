"""The Secret in which a runtime document travels. Pure, and free of any client: the command line shows it too."""

import base64

from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import ModelRuntime, TenantRuntime, canonical, revision
from tenantplane_operator.runtime.resources import Manifest


def document_secret(document: TenantRuntime | ModelRuntime, *, namespace: str) -> Manifest:
    """The Secret that carries a document; pure."""
    data = canonical(document)
    labels = {names.LABEL_COMPONENT: names.COMPONENT_RUNTIME, names.LABEL_MANAGED_BY: names.MANAGED_BY}
    if isinstance(document, TenantRuntime):
        name = names.tenant_document_name(document.name)
        labels[names.LABEL_TENANT] = document.name
    else:
        name = names.model_document_name(document.namespace, document.name)
        labels[names.LABEL_MODEL] = document.name
    annotations: dict[str, str] = {names.ANNOTATION_REVISION: revision(data)}
    if document.tenant_id:
        annotations[names.ANNOTATION_TENANT_ID] = document.tenant_id
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations},
        "type": names.SECRET_TYPE_RUNTIME,
        "data": {names.DOCUMENT_KEY: base64.b64encode(data).decode("ascii")},
    }
