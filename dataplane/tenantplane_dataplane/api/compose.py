"""``AssistantApi``: what a process adds to the gateway when it serves assistants too."""

from tenantplane_api.runtime.platform import Platform
from tenantplane_dataplane.api.ask import Assistants
from tenantplane_dataplane.api.chat import CHAT_PATH, OPENAPI_PATH, ChatApi
from tenantplane_dataplane.api.responders import AssistantResponder, ExtractiveResponder
from tenantplane_dataplane.gateway.app import Route
from tenantplane_dataplane.gateway.gate import Gate
from tenantplane_dataplane.gateway.responder import ASSISTANT, Responder
from tenantplane_dataplane.knowledge.cache import IndexCache
from tenantplane_dataplane.knowledge.store import FileStore


class AssistantApi:
    """Routes and responders of assistants, and the cache of indices behind them."""

    def __init__(self, gate: Gate) -> None:
        self._cache = _cache(gate.platform)
        assistants = Assistants(gate.engine, self._cache)
        self._responders: dict[str, Responder] = {
            ASSISTANT: AssistantResponder(assistants),
            "Extractive": ExtractiveResponder(),
        }
        chat = ChatApi(assistants)
        self._routes = [Route(CHAT_PATH, {"POST": chat.chat}), Route(OPENAPI_PATH, {"GET": chat.openapi})]

    def responders(self) -> dict[str, Responder]:
        """By kind of target."""
        return self._responders

    def routes(self) -> list[Route]:
        """Beyond those of the gateway."""
        return self._routes

    def close(self) -> None:
        """Let go of mapped indices."""
        if self._cache is not None:
            self._cache.close()


def _cache(platform: Platform) -> IndexCache | None:
    """``None`` where the platform has no index store: assistants are then ``index_unavailable``."""
    store = platform.shared.knowledge.store
    if store is None:
        return None
    return IndexCache(FileStore(store), max_bytes=platform.dataplane.index_cache_mi_b * 1024 * 1024)
