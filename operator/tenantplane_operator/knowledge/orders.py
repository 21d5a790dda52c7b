"""From a planned build to an order for the runner, and from its result back to a status. Pure."""

from collections.abc import Mapping

from tenantplane_api.crd.tenantstatus import KnowledgeStatus
from tenantplane_api.runtime.indexjob import IndexJob
from tenantplane_operator.knowledge.runner import BuildResult, Order, Source
from tenantplane_operator.tenant.knowledge import IndexPlan, index_job, record_failure, record_success
from tenantplane_operator.tenant.parse import ParsedTenant


def order_for(tenant: ParsedTenant, plan: IndexPlan, served: KnowledgeStatus | None) -> Order:
    """What the runner needs to build ``plan``; ``served`` is the state of the index now."""

    def job(paths: Mapping[str, str]) -> IndexJob:
        return index_job(plan, paths)

    return Order(
        tenant=tenant.name,
        tenant_id=tenant.tenant_id,
        namespace=tenant.namespace,
        index=plan.index,
        attempt_key=plan.attempt_key,
        sources=tuple(
            Source(name=source.name, config_map=source.config_map, directory=source.directory)
            for source in plan.sources
        ),
        job=job,
        keep=(served.generation,) if served is not None and served.generation else (),
        payload=(tenant.uid, plan),
    )


def settle(order: Order, result: BuildResult, previous: KnowledgeStatus | None) -> tuple[str, KnowledgeStatus]:
    """UID of the Tenant that ordered, and the new state of the index."""
    uid, plan = order.payload
    assert isinstance(plan, IndexPlan)
    if result.manifest is None:
        return uid, record_failure(previous, plan, result.message)
    return uid, record_success(
        previous,
        plan,
        manifest=result.manifest,
        manifest_sha256=result.manifest_sha256,
        prefix=result.prefix,
        built_at=result.built_at,
    )
