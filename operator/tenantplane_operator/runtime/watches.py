"""kopf as watcher and login, and nothing else.

Guarantees that kopf writes nothing: only ``on.event`` handlers, no finalizer, annotation, index, timer or daemon, no
events of its own; and that it shares our bounded connection pool. A handler only fills the cache and returns, so a
kopf worker is free at once. The cache tells the rest of the program what changed.
"""

import itertools
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import kopf

from tenantplane_operator.runtime.api import KubeApi
from tenantplane_operator.runtime.cache import Cache
from tenantplane_operator.runtime.calm import calm
from tenantplane_operator.runtime.resources import Manifest, key_of, resource_of
from tenantplane_operator.runtime.resync import Listed

logger = logging.getLogger(__name__)


SILENCE: Final = 70.0
"""Seconds without even a bookmark, which the API server sends every minute, after which a watch counts as dead."""


class _Backoffs(Iterable[float]):
    """1, 2, 4, 5, 5, … without an end: an API outage of any length must not end the watches, nor its end wait long."""

    def __iter__(self) -> Any:
        return itertools.chain((1.0, 2.0, 4.0), itertools.repeat(5.0))


class _NoDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing of an object. kopf's own copies every object twice per event, for handlers that we have not:
    with it, a third of the time that an event costs."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """Remembers no handler's progress: ours have none."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass

    def purge(self, **_: Any) -> None:
        pass

    def touch(self, **_: Any) -> None:
        pass

    def clear(self, *, essence: Any) -> Any:
        return essence


def configure(settings: kopf.OperatorSettings, lists: Iterable[Listed], *, silence: float = SILENCE) -> None:
    """Set what keeps kopf a watcher. The reasons stand in the comments; each was a measured problem."""
    # A worker keeps its slot for the idle timeout, so the limit is only bearable with a short one.
    settings.queueing.worker_limit = 64
    settings.queueing.idle_timeout = 0.1
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    # Kinds are fixed and known; scanning would watch all CRDs and need rights for it.
    settings.scanning.disabled = True
    settings.networking.error_backoffs = _Backoffs()
    # A list of 500 objects takes a second at most; what hangs, for example on an API server that died, is asked again.
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 10.0
    settings.watching.chunk_size = 500
    settings.watching.connect_timeout = 10.0
    # A stream that silently stalls is noticed by itself, and the server ends each before we do.
    settings.watching.inactivity_timeout = silence
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300.0
    settings.process.ultimate_exiting_timeout = 60.0
    for listed in lists:
        if listed.label_selector:
            resource = resource_of(listed.kind)
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = listed.label_selector


def register(registry: kopf.OperatorRegistry, api: KubeApi, cache: Cache, lists: Iterable[Listed]) -> None:
    """Add the login and one event handler per kind to ``registry``."""

    @kopf.on.login(registry=registry, id="shared-session")
    async def login(**_: Any) -> kopf.AiohttpSession:
        # A session of its own over our pool: kopf closes it when the API server answers 401 for a moment.
        return kopf.AiohttpSession(server=api.server, aiohttp_session=api.new_session(calm))

    for listed in lists:
        resource = resource_of(listed.kind)

        name = f"see-{resource.plural}"
        kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=name)(
            _handler(cache, listed.kind)
        )


def _handler(cache: Cache, kind: str) -> Any:
    # kopf passes its own view of the event; the raw object is what we keep.
    async def seen(event: Mapping[str, Any], **_: Any) -> None:
        take(cache, kind, event)

    return seen


def take(cache: Cache, kind: str, event: Mapping[str, Any]) -> None:
    """Bring one watch event into the cache."""
    obj: Manifest = dict(event["object"])
    obj["metadata"] = dict(obj["metadata"])
    obj["apiVersion"], obj["kind"] = resource_of(kind).api_version, kind
    if event.get("type") == "DELETED":
        cache.remove(key_of(obj), obj)
    else:
        cache.put(obj)
