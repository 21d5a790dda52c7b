"""What is known beside the file: nothing, or what the cluster says, seen as the operator sees it.

Guarantees: of Secrets only metadata is read, but for the runtime document that a change is compared with; what may not
be read is an error or, for what only reports, remembered in ``denied``, and never taken for absent. Does not: write.
Dry runs are requests that the API server checks and forgets.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from tenantplane_api.runtime import names
from tenantplane_cli.kube import FORBIDDEN, Kube, KubeError, NotFound
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, key_of, resource_of

_INVALID: Final = (400, 422)
_NOT_FENCE: Final = frozenset({"ConfigMap", "Secret"})
"""Kinds of which a person who plans may be allowed to read nothing: none of them is part of the fence."""


@dataclass(frozen=True)
class Tried:
    """What came of a dry run of the operator's apply.

    ``after`` is the object then, ``None`` where the API server could not be asked. ``refused``: why no apply of this
    object can succeed, whoever makes it. ``note``: a refusal that may be for the asking person only.
    """

    after: Manifest | None = None
    refused: str = ""
    note: str = ""


class Facts(Protocol):
    """Where facts come from. ``online``: whether there is a cluster to compare with."""

    online: bool
    denied: set[str]

    def may_read(self, key: ObjectKey) -> bool:
        """False when an object like this could not be looked at, so that ``get`` says nothing about it."""

    def get(self, key: ObjectKey) -> Manifest | None:
        """One object, ``None`` when it does not exist (or nothing is known)."""

    def listing(self, kind: str, namespace: str = "", *, label: str = "") -> list[Manifest]:
        """All objects of a kind, in one namespace or in all."""

    def document(self, name: str) -> dict[str, Any] | None:
        """A published runtime document, ``None`` when there is none or it may not be read."""

    def try_apply(self, manifest: Manifest) -> Tried:
        """What the operator's apply would come to, as far as the API server can be asked."""

    def check(self, manifest: Manifest, live: Manifest | None) -> str | None:
        """What the API server says against a person's apply of this object; ``None`` for nothing."""


class Offline:
    """Nothing is known."""

    online = False

    def __init__(self) -> None:
        self.denied: set[str] = set()

    def may_read(self, key: ObjectKey) -> bool:
        return False

    def get(self, key: ObjectKey) -> Manifest | None:
        return None

    def listing(self, kind: str, namespace: str = "", *, label: str = "") -> list[Manifest]:
        return []

    def document(self, name: str) -> dict[str, Any] | None:
        return None

    def try_apply(self, manifest: Manifest) -> Tried:
        return Tried()

    def check(self, manifest: Manifest, live: Manifest | None) -> str | None:
        return None


class InCluster:
    """What a cluster says to whoever asks."""

    online = True

    def __init__(self, kube: Kube, *, runtime_namespace: str) -> None:
        self._kube = kube
        self._runtime = runtime_namespace
        self._seen: dict[ObjectKey, Manifest | None] = {}
        self._listed: dict[tuple[str, str, str], list[Manifest]] = {}
        self._may_apply = True
        self._computed = False
        self._closed: set[tuple[str, str]] = set()
        self.denied: set[str] = set()

    def may_read(self, key: ObjectKey) -> bool:
        return (key.kind, key.namespace) not in self._closed

    def get(self, key: ObjectKey) -> Manifest | None:
        if key not in self._seen:
            self._seen[key] = self._get(key)
        return self._seen[key]

    def _get(self, key: ObjectKey) -> Manifest | None:
        path = resource_of(key.kind).path(key.namespace, key.name)
        try:
            # Nothing here needs more of a Secret than that it is there.
            return self._kube.metadata(path) if key.kind == "Secret" else self._kube.find(path)
        except KubeError as error:
            if error.status != FORBIDDEN or key.kind not in _NOT_FENCE:
                raise
            self._refused(key.kind, key.namespace)
            return None

    def _refused(self, kind: str, namespace: str) -> None:
        self._closed.add((kind, namespace))
        if kind != "Secret":  # what matters of those stands in the status of their owners too
            self.denied.add(f"{kind}s in {namespace}")

    def listing(self, kind: str, namespace: str = "", *, label: str = "") -> list[Manifest]:
        asked = (kind, namespace, label)
        if asked not in self._listed:
            self._listed[asked] = self._list(kind, namespace, label)
        return self._listed[asked]

    def _list(self, kind: str, namespace: str, label: str) -> list[Manifest]:
        resource = resource_of(kind)
        try:
            found = self._kube.items(resource.path(namespace or None), label)
        except KubeError as error:
            if error.status != FORBIDDEN or kind not in _NOT_FENCE:
                raise
            self._refused(kind, namespace)
            return []
        # Items of a list do not say what they are.
        out = [{"apiVersion": resource.api_version, "kind": kind, **item} for item in found]
        self._seen.update((key_of(item), item) for item in out)
        return out

    def document(self, name: str) -> dict[str, Any] | None:
        try:
            found = self._kube.find(resource_of("Secret").path(self._runtime, name))
            text = ((found or {}).get("data") or {}).get(names.DOCUMENT_KEY) or ""
            value = msgspec.json.decode(base64.b64decode(text, validate=True)) if text else None
        except (KubeError, binascii.Error, msgspec.DecodeError):
            return None
        return value if isinstance(value, dict) else None

    def try_apply(self, manifest: Manifest) -> Tried:
        tried = self._try_apply(manifest) if self._may_apply else Tried()
        self._computed = self._computed or tried.after is None
        return tried

    def _try_apply(self, manifest: Manifest) -> Tried:
        key = key_of(manifest)
        path = resource_of(key.kind).path(key.namespace, key.name)
        try:
            return Tried(self._kube.apply_dry(path, manifest, manager=names.MANAGER_CHILDREN))
        except KubeError as error:
            if error.by_admission:
                # Our own fences are there to refuse this to everybody but the operator.
                ours = any(fence in str(error) for fence in names.FENCES)
                return Tried(note="" if ours else f"refused to you, and perhaps to the operator as well: {error}")
            if error.status == FORBIDDEN:
                self._may_apply = False
            return Tried(refused=str(error) if error.status in _INVALID else "")

    @property
    def asked_server(self) -> bool:
        """False when a dry run was refused to whoever asks, so that changes are computed here."""
        return not self._computed

    def check(self, manifest: Manifest, live: Manifest | None) -> str | None:
        key = key_of(manifest)
        resource = resource_of(key.kind)
        try:
            if live is None:
                self._kube.create(resource.path(key.namespace), manifest, dry_run=True)
            else:
                meta = {**live["metadata"], **{k: v for k, v in manifest["metadata"].items() if k == "labels"}}
                meta.pop("managedFields", None)
                self._kube.replace_dry(
                    resource.path(key.namespace, key.name), {**live, "metadata": meta, "spec": manifest.get("spec")}
                )
        except NotFound:
            # The namespace is not there yet: the apply would have to be repeated anyway.
            return None
        except KubeError as error:
            # Want of rights is no news: another person or a pipeline may apply it. A policy would stop them, too.
            return str(error) if error.status in _INVALID or error.by_admission else None
        return None
