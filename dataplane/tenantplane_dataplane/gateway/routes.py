"""``/v1/chat/completions`` and ``/v1/models``: what each does between authentication and answer."""

from typing import Final

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.gateway.body import parse_chat, require_json
from tenantplane_dataplane.gateway.exchange import Exchange
from tenantplane_dataplane.gateway.responder import Responders
from tenantplane_dataplane.policy.authorise import resolve, usable
from tenantplane_dataplane.wire.asgi import Refusal

MODELS_PATH: Final = "/v1/models"
CHAT_COMPLETIONS_PATH: Final = "/v1/chat/completions"


class OpenAIRoutes:
    """Handlers of the OpenAI-compatible surface."""

    def __init__(self, responders: Responders) -> None:
        self._responders = responders

    async def chat_completions(self, exchange: Exchange) -> None:
        """POST /v1/chat/completions."""
        gate = exchange.gate
        await gate.authenticate(exchange)
        require_json(exchange.headers)
        request = parse_chat(await exchange.read_body())
        exchange.draft.stream = request.stream
        target = resolve(exchange.tenant, request.model, exchange.snapshot)
        responder = self._responders.find(target)
        await gate.admit(exchange, target)
        responder.check(request, target)
        await responder.respond(exchange, request, target)

    async def list_models(self, exchange: Exchange) -> None:
        """GET /v1/models: what the caller may use, and nothing else."""
        await exchange.gate.authenticate(exchange, metered=False)
        await exchange.gate.admit(exchange, None)
        await exchange.respond_json({"object": "list", "data": [_entry(name) for name in self._served(exchange)]})

    async def get_model(self, exchange: Exchange) -> None:
        """GET /v1/models/{id}."""
        await exchange.gate.authenticate(exchange, metered=False)
        await exchange.gate.admit(exchange, None)
        wanted = exchange.scope["path"].removeprefix(MODELS_PATH + "/")
        if wanted not in self._served(exchange):
            raise Refusal(ErrorCode.MODEL_NOT_FOUND, param="model")
        await exchange.respond_json(_entry(wanted))

    def _served(self, exchange: Exchange) -> list[str]:
        """Ids that the caller may use and that this process can answer."""
        found = []
        for name in usable(exchange.tenant, exchange.snapshot):
            try:
                self._responders.find(resolve(exchange.tenant, name, exchange.snapshot))
            except Refusal as refusal:
                if refusal.code is ErrorCode.MODEL_NOT_FOUND:
                    continue
            found.append(name)
        return found


def _entry(name: str) -> dict[str, object]:
    # `created` is required by OpenAI's schema and means nothing here; a constant leaks no deployment time.
    return {"id": name, "object": "model", "created": 0, "owned_by": "tenantplane"}
