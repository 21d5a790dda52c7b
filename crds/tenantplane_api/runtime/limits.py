"""Bounds of everything a user may write, in one place.

The CRD schemas, the CEL cost estimates that the API server computes from them, and the run-time checks all read these
numbers; a change here changes all of them together.
"""

from typing import Final

NAME_MAX: Final = 40  # tenants, keys, models, indices, assistants: leaves room for prefixes in a 63-character label
NAMESPACE_MAX: Final = 63
TENANT_ID_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{6,34}[a-z0-9]$"
TENANT_ID_MIN: Final = 8
TENANT_ID_MAX: Final = 36
DNS_LABEL_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
ALIAS_PATTERN: Final = r"^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?$"
ALIAS_MAX: Final = 64
DISPLAY_NAME_MAX: Final = 128
DESCRIPTION_MAX: Final = 256
OWNER_MAX: Final = 128
INSTRUCTIONS_MAX: Final = 4096
URL_MAX: Final = 512
SERVED_NAME_MAX: Final = 256
SUBJECT_MAX: Final = 253

LABELS_MAX: Final = 32
LABEL_KEY_MAX: Final = 317
LABEL_VALUE_MAX: Final = 63
ANNOTATION_VALUE_MAX: Final = 1024
SUBJECTS_MAX: Final = 32
MODELS_MAX: Final = 64
ASSISTANTS_MAX: Final = 16
INDEXES_MAX: Final = 16
INDEXES_PER_ASSISTANT_MAX: Final = 8
SOURCES_MAX: Final = 16
BOOTSTRAP_KEYS_MAX: Final = 8
CIDRS_MAX: Final = 32
NAMESPACES_MAX: Final = 32
QUOTA_KEYS_MAX: Final = 64
SHARED_WITH_MAX: Final = 256
PATH_MAX: Final = 256

REQUESTS_PER_MINUTE_MAX: Final = 1_000_000
CONCURRENCY_MAX: Final = 10_000
CONTEXT_LENGTH_MAX: Final = 10_000_000
OUTPUT_TOKENS_MAX: Final = 1_000_000

QUOTA_KEY_PATTERN: Final = (
    r"^((requests|limits)[.](cpu|memory|ephemeral-storage)|requests[.]storage|cpu|memory|ephemeral-storage"
    r"|(requests[.])?hugepages-[0-9]+(Ki|Mi|Gi)|pods|services|services[.](loadbalancers|nodeports)|secrets|configmaps"
    r"|persistentvolumeclaims|replicationcontrollers|resourcequotas|requests[.][a-z0-9.-]+/[A-Za-z0-9._-]+"
    r"|count/[a-z0-9]+([.][a-z0-9.-]+)?|[a-z0-9.-]+[.]deviceclass[.]resource[.]k8s[.]io/devices"
    r"|[a-z0-9.-]+[.]storageclass[.]storage[.]k8s[.]io/(requests[.]storage|persistentvolumeclaims))$"
)
"""Names in a ResourceQuota that Kubernetes takes and counts."""
ALLOW_MAX: Final = 64  # entries of one allow-list of a plan
ALLOW_TEXT_MAX: Final = 256  # characters of one entry
ROLE_ARN_PATTERN: Final = r"^arn:aws[a-z0-9-]*:iam::[0-9]{12}:role/[A-Za-z0-9_/.@+=,-]+$"
ROLE_ARN_MAX: Final = 640
DURATION_PATTERN: Final = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"
DURATION_MAX: Final = 24
KEY_GRACE_DEFAULT: Final = "1h"
KEY_GRACE_MAX: Final = "720h"
KEY_ROTATION_MIN: Final = "1h"
PREVIOUS_KEYS_MAX: Final = 4  # texts of one APIKey that are accepted in their grace beside the current one

RUNTIME_DOCUMENT_MAX_BYTES: Final = 512 * 1024
RUNTIME_KEYS_MAX: Final = 1024  # API keys of one tenant

KEY_TEXT_MAX: Final = 64
REQUEST_BODY_MAX_BYTES: Final = 4 * 1024 * 1024
REQUEST_HEADER_MAX_BYTES: Final = 16 * 1024
REQUEST_HEADERS_MAX: Final = 100
