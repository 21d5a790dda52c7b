"""The builder of a platform that cannot build: says what to configure, and builds nothing."""

from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.knowledge.jobs import JobsUnavailable, require
from tenantplane_operator.knowledge.runner import BuildFailed, BuildResult, Order


class UnavailableBuilder:
    """For ``operator.indexer.runner: Job`` where Jobs cannot run."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def build(self, order: Order) -> BuildResult:
        """Raises ``BuildFailed``, always."""
        try:
            require(self._platform.operator.indexer, self._platform.shared.knowledge.store)
        except JobsUnavailable as error:
            raise BuildFailed(f"indices cannot be built on this platform: {error}", transient=False) from None
        raise BuildFailed(
            "indices cannot be built on this platform: this version runs builds only with operator.indexer.runner "
            "Subprocess and a file:// store",
            transient=False,
        )

    async def clean(self, order: Order, built: str) -> None:
        """Nothing was built, so nothing is old."""
