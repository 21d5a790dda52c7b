"""Runtime documents as Secrets in the runtime namespace: the one place through which the data plane is told anything.

Guarantees that a document is written only when its revision differs, bound to the UID and resourceVersion that were
seen, so that a late write never replaces a newer one; and that what is read back here is metadata only, so that no
document's content stays in this process. The admission policy of the chart keeps everybody else from writing there.
"""

import base64
import binascii
import logging
from typing import Any

from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import (
    DocumentError,
    ModelRuntime,
    TenantRuntime,
    canonical,
    decode_tenant,
    revision,
)
from tenantplane_api.runtime.names import Revision
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.errors import ApiError, Conflict
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, annotations_of, key_of, uid_of

logger = logging.getLogger(__name__)


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


class Publisher:
    """Writes and withdraws documents."""

    def __init__(self, api: KubeApi, cache: Cache, namespace: str) -> None:
        self._api = api
        self._cache = cache
        self._namespace = namespace
        # Our last write of each Secret: a resourceVersion that is not ours means that somebody wrote there.
        self._written: dict[ObjectKey, str] = {}

    def key(self, name: str) -> ObjectKey:
        """Key of a document's Secret."""
        return ObjectKey("Secret", self._namespace, name)

    def revision(self, name: str) -> Revision | None:
        """Revision that stands published under this name, ``None`` when nothing is."""
        found = self._cache.get(self.key(name))
        value = annotations_of(found).get(names.ANNOTATION_REVISION) if found is not None else None
        return Revision(value) if value else None

    async def publish(self, document: TenantRuntime | ModelRuntime) -> tuple[Revision, bool]:
        """Have this document published; its revision, and whether it had to be written.

        Raises:
            ApiError: it could not be written; what was published before stands.
        """
        manifest = document_secret(document, namespace=self._namespace)
        key = key_of(manifest)
        wanted = Revision(manifest["metadata"]["annotations"][names.ANNOTATION_REVISION])
        if self._stands(key, manifest):
            return wanted, False
        try:
            await self._write(key, manifest)
        except Conflict:
            # What we knew was old: look again, and decide again.
            await self._look(key)
            if self._stands(key, manifest):
                return wanted, False
            await self._write(key, manifest)
        return wanted, True

    def _stands(self, key: ObjectKey, manifest: Manifest) -> bool:
        found = self._cache.get(key)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return False
        meta: dict[str, Any] = found["metadata"]
        written = self._written.get(key)
        if written is not None and written != meta.get("resourceVersion"):
            return False
        return all(
            (meta.get(section) or {}).get(name) == value
            for section in ("labels", "annotations")
            for name, value in manifest["metadata"][section].items()
        )

    async def _write(self, key: ObjectKey, manifest: Manifest) -> None:
        found = self._cache.get(key)
        if found is not None:
            meta = {
                **manifest["metadata"],
                "uid": uid_of(found),
                "resourceVersion": found["metadata"]["resourceVersion"],
            }
            manifest = {**manifest, "metadata": meta}
        live = await self._api.apply(manifest, manager=names.MANAGER_CHILDREN)
        self._keep(key, live)

    def _keep(self, key: ObjectKey, live: Manifest) -> None:
        self._written[key] = str(live["metadata"]["resourceVersion"])
        self._cache.put({"apiVersion": "v1", "kind": "Secret", "metadata": live["metadata"]}, notify=False)

    async def _look(self, key: ObjectKey) -> None:
        self._written.pop(key, None)
        live = await self._api.find(key)
        known = self._cache.get(key)
        if live is not None:
            self._cache.put({"apiVersion": "v1", "kind": "Secret", "metadata": live["metadata"]}, notify=False)
        elif known is not None:
            self._cache.remove(key, known)

    async def read_tenant(self, name: str) -> TenantRuntime | None:
        """A tenant's document as it stands published, ``None`` when there is none. It is not kept here.

        Raises:
            ApiError: it could not be read.
            DocumentError: it is not a document of that name.
        """
        found = await self._api.find(self.key(name))
        if found is None:
            return None
        try:
            data = base64.b64decode(str((found.get("data") or {}).get(names.DOCUMENT_KEY) or ""), validate=True)
        except binascii.Error:
            raise DocumentError("is not base64") from None
        label = (found["metadata"].get("labels") or {}).get(names.LABEL_TENANT)
        return decode_tenant(data, document_name=name, label=str(label))

    async def withdraw(self, name: str) -> bool:
        """Delete a document, so that the data plane stops serving it; True when there was one.

        Raises:
            ApiError: it may still be there.
        """
        key = self.key(name)
        known = self._cache.get(key)
        self._written.pop(key, None)
        try:
            gone = await self._api.delete(key)
        except ApiError as error:
            if error.status != 404:
                raise
            gone = False
        if known is not None:
            self._cache.remove(key, known)
        return gone
