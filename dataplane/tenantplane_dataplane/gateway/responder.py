"""Who answers a chat completion: the seam by which other layers add answerers without the gateway knowing them."""

from collections.abc import Mapping
from typing import Final, Protocol

from tenantplane_api.runtime.errors import ErrorCode
from tenantplane_dataplane.gateway.body import ChatRequest
from tenantplane_dataplane.gateway.exchange import Exchange
from tenantplane_dataplane.policy.authorise import AliasTarget, Target
from tenantplane_dataplane.wire.asgi import Refusal

ASSISTANT: Final = "assistant"


class Responder(Protocol):
    """Answers requests for one kind of target: an engine type, or ``ASSISTANT``."""

    def check(self, request: ChatRequest, target: Target) -> None:
        """Refuse what this kind cannot do, before the request counts against a limit.

        Raises:
            Refusal: names the field.
        """
        ...

    async def respond(self, exchange: Exchange, request: ChatRequest, target: Target) -> None:
        """Answer an admitted request and leave its usage in ``exchange.draft``."""
        ...


class Responders:
    """What this process can answer. A kind that nobody registered is answered like a model that does not exist."""

    def __init__(self, responders: Mapping[str, Responder]) -> None:
        self._responders = dict(responders)

    def register(self, kind: str, responder: Responder) -> None:
        """Add a kind, once."""
        if kind in self._responders:
            raise ValueError(f"{kind} is registered already")
        self._responders[kind] = responder

    def find(self, target: Target) -> Responder:
        """Who answers for ``target``.

        Raises:
            Refusal: ``model_not_found``.
        """
        kind = target.engine if isinstance(target, AliasTarget) else ASSISTANT
        responder = self._responders.get(kind)
        if responder is None:
            raise Refusal(ErrorCode.MODEL_NOT_FOUND, param="model")
        return responder
