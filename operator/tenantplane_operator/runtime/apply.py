"""From desired manifests and the cache to the fewest writes: apply what differs, and nothing else.

What differs is decided in ``compare``. Errors are per object: one refusal does not keep the others from being applied.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tenantplane_api.runtime import names
from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.compare import (
    covers,
    differs,
    explicit,
    manifest_hash,
    surplus_annotations,
    with_hash,
)
from tenantplane_operator.runtime.errors import ApiError
from tenantplane_operator.runtime.permits import Places
from tenantplane_operator.runtime.resources import Manifest, ObjectKey, annotations_of, key_of

__all__ = ["Applied", "Applier", "covers", "differs", "explicit", "manifest_hash", "with_hash"]


@dataclass
class Applied:
    """What an apply did: keys written, keys that were as wanted, and one error per key that failed."""

    written: list[ObjectKey] = field(default_factory=list)
    unchanged: list[ObjectKey] = field(default_factory=list)
    errors: dict[ObjectKey, ApiError] = field(default_factory=dict)

    def merge(self, other: "Applied") -> None:
        """Add another result to this one."""
        self.written += other.written
        self.unchanged += other.unchanged
        self.errors |= other.errors


class Applier:
    """Applies desired manifests against the cache; remembers what the server made of them."""

    def __init__(
        self,
        api: KubeApi,
        cache: Cache,
        *,
        manager: str,
        parallel: int = 4,
        news: frozenset[str] = frozenset(),
    ) -> None:
        """Take the services; ``news`` are kinds of which even our own writes are news to somebody."""
        self._api = api
        self._news = news
        self._cache = cache
        self._manager = manager
        # Of all objects together; what hangs, for example in somebody's webhook, does not keep the others waiting.
        self._parallel = Places(parallel * 5, overflow=parallel * 24, slow=2.0)
        self._batch = parallel
        # What the server answered to our last apply of this very manifest: what it defaulted is not drift.
        self._settled: dict[ObjectKey, tuple[str, str]] = {}

    def needs(self, desired: Manifest) -> bool:
        """True when ``desired`` (with its hash) is not what the cache knows."""
        key = key_of(desired)
        live = self._cache.get(key)
        if live is None:
            return True
        settled = self._settled.get(key)
        state = (annotations_of(desired).get(names.ANNOTATION_APPLIED_HASH, ""), _state(live))
        return settled != state and differs(desired, live)

    async def apply(
        self,
        manifests: Sequence[Manifest],
        *,
        recover: Callable[[Manifest, ApiError], bool] | None = None,
    ) -> Applied:
        """Apply those that differ, a few at a time, in order of start.

        Args:
            manifests: desired objects without hash; order matters only to a reader of the API server's audit log.
            recover: asked for each error; True takes the error as handled (it is then not in the result).
        """
        outcome = Applied()
        pending = []
        for manifest in manifests:
            desired = with_hash(explicit(manifest))
            if self.needs(desired):
                pending.append(desired)
            else:
                outcome.unchanged.append(key_of(desired))
        gate = asyncio.Semaphore(self._batch)

        async def one(desired: Manifest) -> None:
            async with gate, self._parallel.holding():
                key = key_of(desired)
                try:
                    await self.write(desired)
                    outcome.written.append(key)
                except ApiError as error:
                    if recover is None or not recover(desired, error):
                        outcome.errors[key] = error

        async with asyncio.TaskGroup() as group:
            for desired in pending:
                group.create_task(one(desired))
        return outcome

    async def write(self, desired: Manifest) -> Manifest:
        """Apply one manifest (with its hash) without asking whether it differs; the answer goes into the cache."""
        key = key_of(desired)
        with self._cache.writing(key):
            return await self._write(key, desired)

    async def _write(self, key: ObjectKey, desired: Manifest) -> Manifest:
        live = await self._api.apply(desired, manager=self._manager)
        surplus = surplus_annotations(desired, live)
        if surplus:
            # An apply leaves what other managers own; a null takes it from whoever does.
            patch = {"metadata": {"uid": live["metadata"]["uid"], "annotations": dict.fromkeys(surplus)}}
            live = await self._api.merge_patch(key, patch, manager=self._manager)
        self._settled[key] = (annotations_of(desired).get(names.ANNOTATION_APPLIED_HASH, ""), _state(live))
        self._cache.put(live, notify=key.kind in self._news)
        return live

    def forget(self, key: ObjectKey) -> None:
        """Forget what was remembered of an object that is gone."""
        self._settled.pop(key, None)


def _state(live: Manifest) -> str:
    meta = live.get("metadata", {})
    return f"{meta.get('uid')}/{meta.get('resourceVersion')}"
