"""A model that does what the test says."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from tenantplane_dataplane.assistants.types import ModelDelta


class ScriptedModel:
    """Streams what it is told; remembers what it was asked and how it ended. Faults are what a real one cannot show."""

    def __init__(self, pieces: Sequence[str], *, error: Exception | None = None, hang: bool = False) -> None:
        self.pieces = pieces
        self.error = error
        self.hang = hang
        self.messages: list[dict[str, str]] = []
        self.options: tuple[int | None, float | None] = (None, None)
        self.closed = False

    async def stream(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int | None, temperature: float | None
    ) -> AsyncIterator[ModelDelta]:
        self.messages = [dict(message) for message in messages]
        self.options = (max_tokens, temperature)
        try:
            for piece in self.pieces:
                yield ModelDelta(piece)
            if self.error:
                raise self.error
            if self.hang:
                await asyncio.Event().wait()
            usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
            yield ModelDelta("", finish_reason="length", usage=usage)
        finally:
            self.closed = True
