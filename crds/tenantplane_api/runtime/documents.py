"""Runtime documents: what the operator compiles and the data plane obeys.

One ``TenantRuntime`` per tenant and one ``ModelRuntime`` per model, each the ``document.json`` of a Secret in the
runtime namespace. Unknown fields are ignored, so that N-1 works both ways, except features that a document names in
``requires``: a reader that lacks one refuses that document only. A document whose file name, label and content
disagree is refused: nobody may pass off one tenant's document as another's.

A document holds key *hashes*, upstream credentials and index pointers; it never holds an API key's text.
"""

import hashlib
from typing import Final, TypeVar

import msgspec

from tenantplane_api.runtime import limits, names
from tenantplane_api.runtime.names import ModelKey, Revision, TenantID, TenantName

FEATURES: Final[frozenset[str]] = frozenset()
"""Features that this version understands; grows with the first one that an older reader must not ignore."""


_T = TypeVar("_T", "TenantRuntime", "ModelRuntime")


class DocumentError(ValueError):
    """Raise when a runtime document must not be used; the message says which part disagrees, never a value."""


class Doc(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of all parts: immutable, camelCase on the wire, defaults left out."""


class KeyEntry(Doc, frozen=True):
    """One accepted API key. ``hash`` is ``sha256:<hex>`` of its text, ``expires_at`` unix seconds."""

    hash: str
    id: str
    name: str
    owner: str = ""
    expires_at: int | None = None


class ModelAlias(Doc, frozen=True):
    """A name under which the tenant uses a model."""

    alias: str
    model: ModelKey


class IndexPointer(Doc, frozen=True):
    """The active generation of one index. ``prefix`` is the URL of the generation's folder in the store."""

    name: str
    generation: str
    manifest_sha256: str = msgspec.field(name="manifestSHA256")
    prefix: str
    embedder: str
    dimension: int


class AssistantEntry(Doc, frozen=True):
    """One assistant. ``model`` is an alias of the same tenant; ``None`` answers extractively."""

    name: str
    model: str | None = None
    knowledge: tuple[str, ...] = ()
    instructions: str = ""


class TenantLimits(Doc, frozen=True):
    """``None`` means not limited. ``requests_per_minute`` in requests, ``concurrency`` in requests in flight."""

    requests_per_minute: int | None = None
    concurrency: int | None = None


class TenantSpec(Doc, frozen=True):
    """What the data plane obeys for one tenant."""

    display_name: str = ""
    plan: str = ""
    suspended: bool = False
    keys: tuple[KeyEntry, ...] = ()
    models: tuple[ModelAlias, ...] = ()
    assistants: tuple[AssistantEntry, ...] = ()
    indexes: tuple[IndexPointer, ...] = ()
    limits: TenantLimits = TenantLimits()


class ExternalEndpoint(Doc, frozen=True):
    """An OpenAI-compatible endpoint. ``base_url`` ends before ``/chat/completions`` (usually in ``/v1``)."""

    base_url: str
    api_key: str | None = None


class ModelSpec(Doc, frozen=True):
    """What the data plane obeys for one model.

    ``engine`` is ``External`` or ``Extractive``. ``shared_with`` holds tenant names or ``"*"``; a tenant that is not in
    it gets 404 even when its own document names the model, so that one wrong document cannot open a model.
    ``suspended`` answers 503 ``model_suspended``.
    """

    engine: str
    served_name: str
    shared_with: tuple[str, ...] = ()
    context_length: int | None = None
    max_output_tokens: int | None = None
    external: ExternalEndpoint | None = None
    suspended: bool = False


class TenantRuntime(Doc, frozen=True):
    """Envelope of a tenant's document. ``namespace`` is the tenant's namespace."""

    api_version: str = msgspec.field(name="apiVersion")
    kind: str
    name: TenantName
    namespace: str
    tenant_id: TenantID = msgspec.field(name="tenantID")
    spec: TenantSpec
    requires: tuple[str, ...] = ()


class ModelRuntime(Doc, frozen=True):
    """Envelope of a model's document. ``tenant_id`` is empty for a shared model of the platform."""

    api_version: str = msgspec.field(name="apiVersion")
    kind: str
    name: str
    namespace: str
    spec: ModelSpec
    tenant_id: TenantID = msgspec.field(name="tenantID", default=TenantID(""))
    requires: tuple[str, ...] = ()

    @property
    def key(self) -> ModelKey:
        """``namespace/name``."""
        return names.model_key(self.namespace, self.name)


def tenant_runtime(*, name: str, namespace: str, tenant_id: str, spec: TenantSpec) -> TenantRuntime:
    """A tenant's document with its envelope filled in."""
    return TenantRuntime(
        api_version=names.RUNTIME_API_VERSION,
        kind=names.KIND_TENANT_RUNTIME,
        name=TenantName(name),
        namespace=namespace,
        tenant_id=TenantID(tenant_id),
        spec=spec,
    )


def model_runtime(*, name: str, namespace: str, tenant_id: str = "", spec: ModelSpec) -> ModelRuntime:
    """A model's document with its envelope filled in."""
    return ModelRuntime(
        api_version=names.RUNTIME_API_VERSION,
        kind=names.KIND_MODEL_RUNTIME,
        name=name,
        namespace=namespace,
        tenant_id=TenantID(tenant_id),
        spec=spec,
    )


def canonical(document: TenantRuntime | ModelRuntime) -> bytes:
    """Canonical JSON: UTF-8, keys sorted, no white space, defaults left out."""
    return msgspec.json.encode(msgspec.to_builtins(document), order="sorted")


def revision(data: bytes) -> Revision:
    """First 16 hexadecimal digits of the SHA-256 of a document's canonical JSON."""
    return Revision(hashlib.sha256(data).hexdigest()[:16])


def largest_part(document: TenantRuntime) -> tuple[str, int]:
    """Name and size in bytes of the largest field of ``spec``: what to shrink when a document is too large."""
    sizes = {name: len(msgspec.json.encode(value)) for name, value in msgspec.to_builtins(document.spec).items()}
    return max(sizes.items(), key=lambda item: item[1], default=("spec", 0))


def _check_envelope(document: TenantRuntime | ModelRuntime, *, kind: str) -> None:
    if document.api_version != names.RUNTIME_API_VERSION or document.kind != kind:
        raise DocumentError(f"expected {kind} of {names.RUNTIME_API_VERSION}")
    missing = sorted(set(document.requires) - FEATURES)
    if missing:
        raise DocumentError(f"requires features that this version lacks: {', '.join(missing)}")


def _decode(data: bytes, document_type: type[_T]) -> _T:
    if len(data) > limits.RUNTIME_DOCUMENT_MAX_BYTES:
        raise DocumentError(f"larger than {limits.RUNTIME_DOCUMENT_MAX_BYTES} bytes")
    try:
        return msgspec.json.decode(data, type=document_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # msgspec's messages name the path and the expected type, never the value.
        raise DocumentError(str(error)) from None


def decode_tenant(data: bytes, *, document_name: str, label: str | None = None) -> TenantRuntime:
    """Parse and verify a tenant's document.

    Args:
        data: content of ``document.json``.
        document_name: name of the Secret or file without ending; must be ``t.<tenant>``.
        label: value of the label ``tenantplane.dev/tenant`` where there is one.

    Raises:
        DocumentError: it does not parse, requires an unknown feature, or disagrees with its name or label.
    """
    document = _decode(data, TenantRuntime)
    _check_envelope(document, kind=names.KIND_TENANT_RUNTIME)
    if names.tenant_document_name(document.name) != document_name:
        raise DocumentError("the document's name and the name it is stored under disagree")
    if label is not None and label != document.name:
        raise DocumentError("the document's name and its label disagree")
    return document


def decode_model(data: bytes, *, document_name: str) -> ModelRuntime:
    """Parse and verify a model's document; see ``decode_tenant``. Its stored name must be ``m.<namespace>.<name>``."""
    document = _decode(data, ModelRuntime)
    _check_envelope(document, kind=names.KIND_MODEL_RUNTIME)
    if names.model_document_name(document.namespace, document.name) != document_name:
        raise DocumentError("the document's name and the name it is stored under disagree")
    if document.spec.engine == "External" and document.spec.external is None:
        raise DocumentError("spec.external is missing for engine External")
    return document
