"""From a tenant's document to limit descriptors, and from a decision to response headers."""

import math

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.config.compiled import CompiledTenant
from tenantplane_dataplane.policy.gcra import Rate
from tenantplane_dataplane.policy.limit_keys import limit_key
from tenantplane_dataplane.policy.limiter import Denial, Descriptor, RateDescriptor, SlotDescriptor, Standing
from tenantplane_dataplane.wire.asgi import Headers, Refusal


def descriptors(tenant: CompiledTenant) -> list[Descriptor]:
    """What one request of this tenant costs; bound to the tenantID, which outlives the tenant's name."""
    found: list[Descriptor] = []
    if tenant.requests_per_minute is not None:
        found.append(
            RateDescriptor(limit_key(tenant.tenant_id, "requests", "minute"), Rate(tenant.requests_per_minute))
        )
    if tenant.concurrency is not None:
        found.append(SlotDescriptor(limit_key(tenant.tenant_id, "concurrency"), tenant.concurrency))
    return found


def limit_headers(standing: Standing | None) -> Headers:
    """``x-ratelimit-*-requests`` as OpenAI's API reference ("Rate limits in headers") names them."""
    if standing is None:
        return []
    return [
        (b"x-ratelimit-limit-requests", b"%d" % standing.limit),
        (b"x-ratelimit-remaining-requests", b"%d" % standing.remaining),
        (b"x-ratelimit-reset-requests", b"%ds" % math.ceil(standing.reset_seconds)),
    ]


def denial_refusal(denial: Denial) -> Refusal:
    """The 429 for a denial. ``Retry-After`` is whole seconds, rounded up: coming back then is never too early."""
    headers = [(b"retry-after", b"%d" % max(1, math.ceil(denial.retry_seconds))), *limit_headers(denial.standing)]
    if denial.kind == "requests":
        message = f"Your tenant may send {denial.limit} requests per minute: wait as Retry-After says."
        return Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, message=message, headers=headers)
    message = f"Your tenant may have {denial.limit} requests in flight: wait for one to end."
    return Refusal(ErrorCode.CONCURRENCY_LIMIT_EXCEEDED, message=message, headers=headers)
