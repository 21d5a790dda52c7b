"""The hot path: raw ASGI from a caller's request to an engine's answer. Knows no FastAPI and no assistant."""
