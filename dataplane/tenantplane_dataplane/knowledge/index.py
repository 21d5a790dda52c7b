"""``TenantIndexes``: the only door to indices, bound to one tenant.

There is no way to make one without a tenantID, none to change it, and no argument with which it could reach another
tenant's index: a name that the tenant's own document does not point to is a ``KeyError``.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from tenantplane_api.runtime.documents import IndexPointer
from tenantplane_api.runtime.names import TenantID
from tenantplane_dataplane.knowledge.cache import IndexCache
from tenantplane_dataplane.knowledge.retrieve import Passage, RetrievalOptions, Retrieved, search


class TenantIndexes:
    """One tenant's indices, as its runtime document points to them; cheap to make.

    Args:
        cache: the process-wide cache.
        tenant_id: whose indices.
        pointers: from that tenant's runtime document.
    """

    def __init__(self, cache: IndexCache, tenant_id: TenantID, pointers: Iterable[IndexPointer]) -> None:
        if not tenant_id:
            raise ValueError("tenant_id: is empty")
        self._cache = cache
        self._tenant_id: Final = tenant_id
        self._pointers: Final = {pointer.name: pointer for pointer in pointers}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the indices that have an active generation."""
        return tuple(self._pointers)

    def generation(self, name: str) -> str:
        """The active generation of an index; ``KeyError`` when the tenant has no such index."""
        return self._pointers[name].generation

    async def search(self, names: Sequence[str], question: str, options: RetrievalOptions) -> Retrieved:
        """The best passages over some of the tenant's indices, best first.

        Raises:
            KeyError: a name is not one of this tenant's indices.
            IndexUnavailable: an index cannot be opened.
        """
        pointers = [self._pointers[name] for name in dict.fromkeys(names)]
        results = await asyncio.gather(*(self._search(pointer, question, options) for pointer in pointers))
        weights: dict[str, float] = {}
        passages: list[Passage] = []
        for result in results:
            passages.extend(result.passages)
            for term, weight in (result.weights or {}).items():
                weights[term] = max(weight, weights.get(term, 0.0))
        if len(pointers) > 1:
            passages.sort(key=lambda passage: -passage.score)
        return Retrieved(tuple(passages[: options.top_k]), weights) if passages else Retrieved()

    async def _search(self, pointer: IndexPointer, question: str, options: RetrievalOptions) -> Retrieved:
        opened = await self._cache.get(self._tenant_id, pointer)
        return await self._cache.run(lambda: search(opened, question, options))
