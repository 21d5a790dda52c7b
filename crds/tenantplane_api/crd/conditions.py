"""Condition types and reasons of our custom resources: stable words that people wait for, alert on and search for."""

from enum import StrEnum
from typing import Final


class ConditionType(StrEnum):
    """``status.conditions[].type``."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SUSPENDED = "Suspended"
    # Tenant, one per concern.
    NAMESPACE_READY = "NamespaceReady"
    QUOTA_READY = "QuotaReady"
    NETWORK_READY = "NetworkReady"
    ACCESS_READY = "AccessReady"
    IDENTITY_READY = "IdentityReady"
    KEYS_READY = "KeysReady"
    MODELS_READY = "ModelsReady"
    KNOWLEDGE_READY = "KnowledgeReady"
    RUNTIME_PUBLISHED = "RuntimePublished"
    MASS_DELETION_HELD = "MassDeletionHeld"
    """Also of APIKeys and ModelDeployments: deletion waits for `tenantplane release --confirm`."""
    # APIKey.
    PUBLISHED = "Published"
    # ModelDeployment.
    AVAILABLE = "Available"


TENANT_CONCERNS: Final = (
    ConditionType.NAMESPACE_READY,
    ConditionType.QUOTA_READY,
    ConditionType.NETWORK_READY,
    ConditionType.ACCESS_READY,
    ConditionType.IDENTITY_READY,
    ConditionType.KEYS_READY,
    ConditionType.MODELS_READY,
    ConditionType.KNOWLEDGE_READY,
    ConditionType.RUNTIME_PUBLISHED,
)


class Reason(StrEnum):
    """``status.conditions[].reason``."""

    # True
    READY = "Ready"
    APPLIED = "Applied"
    NOT_CONFIGURED = "NotConfigured"
    SERVING_PREVIOUS = "ServingPrevious"
    PUBLISHED = "Published"
    SUSPENDED = "Suspended"
    AVAILABLE = "Available"
    SCALED_TO_ZERO = "ScaledToZero"
    # Retryable
    PROGRESSING = "Progressing"
    BUILDING = "Building"
    WAITING = "Waiting"
    APPLY_FAILED = "ApplyFailed"
    API_UNAVAILABLE = "APIUnavailable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_NOT_SHARED = "ModelNotShared"
    MODEL_NOT_READY = "ModelNotReady"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 -- a reason, not a secret
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    BUILD_FAILED = "BuildFailed"
    DELETING = "Deleting"
    MASS_DELETION_HELD = "MassDeletionHeld"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    FOREIGN_POLICIES = "ForeignPolicies"
    # Permanent until somebody changes something
    INVALID_SPEC = "InvalidSpec"
    UNKNOWN_PLAN = "UnknownPlan"
    NAMESPACE_CONFLICT = "NamespaceConflict"
    NAMESPACE_RESERVED = "NamespaceReserved"
    ADOPTION_NOT_CONSENTED = "AdoptionNotConsented"
    DUPLICATE_TENANT_ID = "DuplicateTenantID"
    ROLE_NOT_ALLOWED = "RoleNotAllowed"
    SUBJECT_DENIED = "SubjectDenied"
    POD_SECURITY_BELOW_FLOOR = "PodSecurityBelowFloor"
    RUNTIME_CONFIG_TOO_LARGE = "RuntimeConfigTooLarge"
    SOURCE_NOT_ALLOWED = "SourceNotAllowed"
    URL_NOT_ALLOWED = "URLNotAllowed"
    SHARING_NOT_ALLOWED = "SharingNotAllowed"
    SECRET_CONFLICT = "SecretConflict"  # noqa: S105 -- a reason, not a secret
    KEY_REJECTED = "KeyRejected"
    KEY_TAMPERED = "KeyTampered"
    EXPIRED = "Expired"
    REVOKED = "Revoked"
    NOT_IN_A_TENANT = "NotInATenant"
