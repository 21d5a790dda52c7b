"""The OpenAPI document: FastAPI's own for ``/chat``, and by hand what raw ASGI serves."""

from typing import Any, Final

from fastapi import FastAPI

from tenantplane_api.version import __version__

_ERROR: Final = {
    "description": "An error.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}},
}
_OBJECT: Final = {"content": {"application/json": {"schema": {"type": "object"}}}}


def _operation(summary: str, **more: Any) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "OK", **_OBJECT}, "default": _ERROR}, **more}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document for all public routes of a data plane."""
    document = app.openapi()
    document["info"] = {
        "title": "tenantplane",
        "version": __version__,
        "description": "Chat for one tenant: the API key decides which. /v1 follows OpenAI's API.",
    }
    document["components"].setdefault("securitySchemes", {})["apiKey"] = {"type": "http", "scheme": "bearer"}
    document["security"] = [{"apiKey": []}]
    parameter = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    public: dict[str, Any] = {"security": []}
    document["paths"] |= {
        "/v1/chat/completions": {
            "post": _operation(
                "OpenAI's chat completion; `model` is an alias or `assistant/<name>`", requestBody={**_OBJECT}
            )
        },
        "/v1/models": {"get": _operation("Models and assistants that the caller may use")},
        "/v1/models/{id}": {"get": _operation("One of them", parameters=[parameter])},
        "/healthz": {"get": _operation("The process answers", **public)},
        "/readyz": {"get": _operation("Requests can be judged", **public)},
        "/openapi.json": {"get": _operation("This document", **public)},
    }
    chat = document["paths"]["/chat"]["post"]
    chat["responses"].pop("422", None)
    chat["responses"]["200"]["content"]["text/event-stream"] = {
        "schema": {"type": "string", "description": "With `stream`: `delta` events, then one `done` event."}
    }
    return document
