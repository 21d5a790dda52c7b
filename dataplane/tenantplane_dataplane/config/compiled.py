"""One document, compiled: what a request may ask of a tenant or a model.

Parsing happens twice on purpose. ``TenantHandle`` reads the few fields that finding a caller needs, when the document
arrives; ``TenantHandle.compiled`` reads and checks the rest on the first request, so that 10,000 tenants of which few
are active cost little. What does not compile raises ``ConfigInvalid`` on every use: fail closed, that tenant only.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from tenantplane_api.runtime import limits, names
from tenantplane_api.runtime.documents import (
    AssistantEntry,
    DocumentError,
    KeyEntry,
    ModelRuntime,
    TenantRuntime,
    decode_model,
    decode_tenant,
    revision,
)
from tenantplane_api.runtime.names import ModelKey, Revision, TenantID, TenantName
from tenantplane_dataplane.observability.logs import get_logger

_log = get_logger("config")

ENGINES: Final = frozenset({"External", "Extractive"})


class ConfigInvalid(Exception):  # noqa: N818 - a state of a document, named as its error code
    """Raise when a tenant's document cannot be obeyed; the message is for the log, never for a client."""


class _Keys(msgspec.Struct, frozen=True, rename="camel"):
    keys: tuple[KeyEntry, ...] = ()


class _Head(msgspec.Struct, frozen=True):
    """The part of a tenant's document that finding a caller needs."""

    name: str
    kind: str
    spec: _Keys
    api_version: str = msgspec.field(name="apiVersion")
    tenant_id: str = msgspec.field(name="tenantID")


_HEAD: Final = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class CompiledTenant:
    """A tenant's document, checked and indexed by what requests ask for."""

    name: TenantName
    tenant_id: TenantID
    namespace: str
    revision: Revision
    suspended: bool
    requests_per_minute: int | None
    concurrency: int | None
    aliases: dict[str, ModelKey]
    assistants: dict[str, AssistantEntry]
    document: TenantRuntime


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A model's document, checked."""

    key: ModelKey
    revision: Revision
    document: ModelRuntime

    def open_to(self, tenant: TenantName) -> bool:
        """True when the model's own document lets this tenant in; the tenant's document alone is not enough."""
        shared = self.document.spec.shared_with
        return tenant in shared or "*" in shared


def compile_tenant(data: bytes, *, document_name: str) -> CompiledTenant:
    """Check a tenant's document as a whole.

    Raises:
        ConfigInvalid: it does not parse, disagrees with its name, or contradicts itself.
    """
    try:
        document = decode_tenant(data, document_name=document_name)
    except (DocumentError, RecursionError) as error:
        raise ConfigInvalid(str(error)) from None
    spec = document.spec
    if not document.tenant_id:
        raise ConfigInvalid("tenantID is empty")
    aliases = {item.alias: item.model for item in spec.models}
    assistants = {item.name: item for item in spec.assistants}
    indexes = {item.name for item in spec.indexes}
    if len(aliases) != len(spec.models) or len(assistants) != len(spec.assistants) or len(indexes) != len(spec.indexes):
        raise ConfigInvalid("an alias, assistant or index is listed twice")
    if any(alias.startswith(names.ASSISTANT_MODEL_PREFIX) for alias in aliases):
        raise ConfigInvalid("an alias may not begin with assistant/")
    for limit in (spec.limits.requests_per_minute, spec.limits.concurrency):
        # A limit of zero or less has no meaning that both sides agree on.
        if limit is not None and limit < 1:
            raise ConfigInvalid("a limit is less than 1")
    return CompiledTenant(
        name=document.name,
        tenant_id=document.tenant_id,
        namespace=document.namespace,
        revision=revision(data),
        suspended=spec.suspended,
        requests_per_minute=spec.limits.requests_per_minute,
        concurrency=spec.limits.concurrency,
        aliases=aliases,
        assistants=assistants,
        document=document,
    )


def compile_model(data: bytes, *, document_name: str) -> CompiledModel:
    """Check a model's document; see ``compile_tenant``."""
    try:
        document = decode_model(data, document_name=document_name)
    except (DocumentError, RecursionError) as error:
        raise ConfigInvalid(str(error)) from None
    spec = document.spec
    if spec.engine not in ENGINES:
        raise ConfigInvalid("spec.engine is not one that this version knows")
    if spec.max_output_tokens is not None and spec.max_output_tokens < 1:
        raise ConfigInvalid("spec.maxOutputTokens is less than 1")
    return CompiledModel(key=document.key, revision=revision(data), document=document)


class TenantHandle:
    """One tenant's document as it lies in the directory, and its compiled form once somebody asked.

    ``keys`` are the hashes that find a caller. When a document does not parse, they are those of its predecessor, so
    that its callers get 503 with a reason instead of 401 without one; without a predecessor there are none.
    """

    __slots__ = ("_compiled", "_data", "_problem", "document_name", "keys", "rejected", "tenant", "tenant_id")

    def __init__(self, document_name: str, data: bytes | None, *, before: "TenantHandle | None") -> None:
        self.document_name: Final = document_name
        self.tenant: Final = TenantName(document_name.removeprefix("t."))
        self._data: Final = data
        self._compiled: CompiledTenant | None = None
        self._problem: str | None = None
        self.keys: tuple[KeyEntry, ...] = () if before is None else before.keys
        self.tenant_id: str = "" if before is None else before.tenant_id
        self.rejected: frozenset[str] = frozenset()
        """Hashes that this document claims and another tenant's had first."""
        try:
            if data is None or len(data) > limits.RUNTIME_DOCUMENT_MAX_BYTES:
                raise ConfigInvalid("it cannot be read or is too large")
            head = _HEAD.decode(data)
            if (head.api_version, head.kind) != (names.RUNTIME_API_VERSION, names.KIND_TENANT_RUNTIME):
                raise ConfigInvalid("it is of another kind or version")
            if names.tenant_document_name(head.name) != document_name:
                raise ConfigInvalid("the document's name and the name it is stored under disagree")
            self.keys, self.tenant_id = head.spec.keys, head.tenant_id
        except (ConfigInvalid, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._problem = str(error)

    @property
    def problem(self) -> str | None:
        """Why it is known to be invalid; ``None`` also when nobody has compiled it yet."""
        return self._problem

    def compiled(self) -> CompiledTenant:
        """The compiled document.

        Raises:
            ConfigInvalid: it must not be obeyed.
        """
        if self._compiled is not None:
            return self._compiled
        if self._problem is None and self._data is not None:
            try:
                self._compiled = compile_tenant(self._data, document_name=self.document_name)
            except ConfigInvalid as error:
                self._problem = str(error)
                fields = {"tenant": self.tenant, "problem": self._problem}
                _log.error("a tenant's document is invalid: its callers get 503", extra={"fields": fields})
            else:
                return self._compiled
        raise ConfigInvalid(self._problem)
