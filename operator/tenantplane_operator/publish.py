"""Runtime documents as Secrets in the runtime namespace: the one place through which the data plane is told anything.

Guarantees that a document is written only when its revision differs, bound to the UID and resourceVersion that were
seen, so that a late write never replaces a newer one; and that what is read back here is metadata only, so that no
document's content stays in this process. The admission policy of the chart keeps everybody else from writing there.

Beside the document the Secret says under which CRDs it was published and since when something of it is held
(``deletions``): what must be known of objects that are gone.
"""

import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from tenantplane_api.runtime import names
from tenantplane_api.runtime.documents import (
    DocumentError,
    ModelRuntime,
    TenantRuntime,
    decode_model,
    decode_tenant,
)
from tenantplane_api.runtime.names import Revision
from tenantplane_operator.envelope import document_secret
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.errors import ApiError, Conflict
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, annotations_of, key_of, uid_of

logger = logging.getLogger(__name__)


def document_owner(secret: str) -> ObjectKey | None:
    """The object whose runtime document a Secret of this name is; ``None`` for any other name."""
    head, _, rest = secret.partition(".")
    if head == "t" and rest:
        return ObjectKey(names.KIND_TENANT, "", rest)
    namespace, _, name = rest.partition(".")
    if head == "m" and namespace and name:
        return ObjectKey(names.KIND_MODEL_DEPLOYMENT, namespace, name)
    return None


_KINDS: Final = {"t": (names.KIND_TENANT, names.KIND_API_KEY), "m": (names.KIND_MODEL_DEPLOYMENT,)}
"""Of which kinds the content of a document comes, by the first letter of its name."""


class Publisher:
    """Writes and withdraws documents. ``definition`` gives the UID of a kind's CRD, empty while it is not known."""

    def __init__(
        self, api: KubeApi, cache: Cache, namespace: str, *, definition: Callable[[str], str] = lambda _: ""
    ) -> None:
        self._api = api
        self._cache = cache
        self._namespace = namespace
        self._definition = definition
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

    @property
    def namespace(self) -> str:
        """The runtime namespace."""
        return self._namespace

    def _note(self, name: str, annotation: str) -> str | None:
        found = self._cache.get(self.key(name))
        return annotations_of(found).get(annotation) if found is not None else None

    def definitions_of(self, name: str) -> Mapping[str, str]:
        """UID by kind of the CRDs under which this document was published last."""
        pairs = (self._note(name, names.ANNOTATION_DEFINITIONS) or "").split(",")
        return {kind: uid for kind, _, uid in (pair.partition("=") for pair in pairs) if uid}

    def _definitions(self, name: str) -> dict[str, str]:
        """What ``definitions_of`` is to be: what is known now, else what was."""
        before = self.definitions_of(name)
        found = {kind: self._definition(kind) or before.get(kind, "") for kind in _KINDS.get(name[:1], ())}
        return {kind: uid for kind, uid in found.items() if uid}

    def tenant_id(self, name: str) -> str | None:
        """``tenantID`` of the document that stands under this name, ``None`` when there is none."""
        return self._note(name, names.ANNOTATION_TENANT_ID)

    def held_since(self, name: str) -> str | None:
        """Since when something of this document is held, ``None`` when nothing was marked so."""
        return self._note(name, names.ANNOTATION_HELD_SINCE)

    async def mark_held(self, name: str, since: str | None) -> None:
        """Mark a document as held, or no longer (``None``). What the data plane reads of it stays.

        Raises:
            ApiError: it is not marked.
        """
        key = self.key(name)
        found = self._cache.get(key)
        if found is None:
            return
        patch = {"metadata": {"uid": uid_of(found), "annotations": {names.ANNOTATION_HELD_SINCE: since}}}
        ours = self._written.get(key) in (None, found["metadata"].get("resourceVersion"))
        live = await self._api.merge_patch(key, patch, manager=names.MANAGER_HOLD)
        self._cache.put({"apiVersion": "v1", "kind": "Secret", "metadata": live["metadata"]}, notify=False)
        if ours:
            self._written[key] = str(live["metadata"]["resourceVersion"])

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
        if self.definitions_of(key.name) != self._definitions(key.name):
            return False
        return all(
            (meta.get(section) or {}).get(name) == value
            for section in ("labels", "annotations")
            for name, value in manifest["metadata"][section].items()
        )

    async def _write(self, key: ObjectKey, manifest: Manifest) -> None:
        found = self._cache.get(key)
        meta = dict(manifest["metadata"])
        under = self._definitions(key.name)
        if under:
            stamp = ",".join(f"{kind}={uid}" for kind, uid in under.items())
            meta["annotations"] = {**meta["annotations"], names.ANNOTATION_DEFINITIONS: stamp}
        if found is not None:
            meta |= {"uid": uid_of(found), "resourceVersion": found["metadata"]["resourceVersion"]}
        manifest = {**manifest, "metadata": meta}
        with self._cache.writing(key):
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
        return None if found is None else self.decode_tenant(name, found)

    async def read_model(self, name: str) -> ModelRuntime | None:
        """A model's document as it stands published, ``None`` when there is none.

        Raises:
            ApiError: it could not be read.
            DocumentError: it is not a document of that name.
        """
        found = await self._api.find(self.key(name))
        return None if found is None else decode_model(_content(found), document_name=name)

    @staticmethod
    def decode_tenant(name: str, secret: Manifest) -> TenantRuntime:
        """The tenant's document in a Secret.

        Raises:
            DocumentError: it is not a document of that name.
        """
        label = (secret["metadata"].get("labels") or {}).get(names.LABEL_TENANT)
        return decode_tenant(_content(secret), document_name=name, label=str(label))

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


def _content(secret: Manifest) -> bytes:
    try:
        return base64.b64decode(str((secret.get("data") or {}).get(names.DOCUMENT_KEY) or ""), validate=True)
    except binascii.Error:
        raise DocumentError("is not base64") from None
