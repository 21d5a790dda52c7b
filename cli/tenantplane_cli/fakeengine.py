"""A fake OpenAI-compatible engine for tests, the demo and a first look. **It is no model**: it repeats what it is sent.

Guarantees: answers have the schema of OpenAI's API (a test checks them against the SDK's own types), they are the same
for the same request, and every one of them says that a fake engine gave it (``model``, ``owned_by``, the text). Faults
can be switched on by the constructor, by the attribute ``fault``, or per request by the header ``x-fake-fault``.

Run it with ``python -m tenantplane_cli.fakeengine --port 9000``.
"""

import argparse
import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import uvicorn

MODEL: Final = "fake-chat"
OWNER: Final = "tenantplane-fake-engine"
_PREFACE: Final = "[fake engine, no model] You said:"
_CREATED: Final = 1_700_000_000


@dataclass(frozen=True)
class Fault:
    """What goes wrong. Written in a header as ``status=503``, ``hang=2.5``, ``drop``, ``stall=2.5``, ``error-event``.

    ``status`` answers with that error; ``hang`` waits that many seconds before the head of the answer; ``drop_after``
    cuts the connection after that many chunks; ``stall`` waits that long in the middle of a stream; ``error_event``
    ends a stream with an error event; ``no_usage`` leaves the usage out.
    """

    status: int | None = None
    hang: float = 0.0
    drop_after: int | None = None
    stall: float = 0.0
    error_event: bool = False
    no_usage: bool = False

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """From the header's value.

        Raises:
            ValueError: not one of the forms above.
        """
        name, _, value = text.strip().partition("=")
        match name:
            case "status":
                return cls(status=int(value))
            case "hang":
                return cls(hang=float(value))
            case "stall":
                return cls(stall=float(value))
            case "drop":
                return cls(drop_after=int(value or "2"))
            case "error-event":
                return cls(error_event=True)
            case "no-usage":
                return cls(no_usage=True)
        raise ValueError(f"unknown fault {name!r}")


@dataclass
class Seen:
    """One request as the engine saw it; ``cancelled`` when the caller went away before the end."""

    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes
    cancelled: bool = False


@dataclass
class FakeEngine:
    """The engine as an ASGI application.

    ``latency`` is the wait before the head, ``interval`` the wait between chunks, in seconds; ``chunks`` the number of
    pieces a stream is cut into (0: one per word); ``api_key`` is required as a bearer token when set.
    """

    latency: float = 0.0
    interval: float = 0.0
    chunks: int = 0
    models: tuple[str, ...] = (MODEL,)
    api_key: str | None = None
    fault: Fault = field(default_factory=Fault)
    requests: list[Seen] = field(default_factory=list)
    """The last 1,000 requests."""
    active: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        assert scope["type"] == "http"
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path, method = scope["path"], scope["method"]
        if path == "/health":
            await _json(send, 200, {"status": "ok", "engine": OWNER})
        elif self.api_key is not None and headers.get("authorization") != f"Bearer {self.api_key}":
            await _error(send, 401, f"Incorrect API key provided: {headers.get('authorization', '')}")
        elif path == "/v1/models" and method == "GET":
            await _json(send, 200, {"object": "list", "data": [_model(name) for name in self.models]})
        elif path == "/v1/chat/completions" and method == "POST":
            await self._chat(headers, bytes(body), receive, send)
        else:
            await _error(send, 404, f"The fake engine has no {method} {path}.")

    async def _chat(self, headers: dict[str, str], raw: bytes, receive: Any, send: Any) -> None:
        try:
            body = msgspec.json.decode(raw)
            fault = Fault.parse(headers["x-fake-fault"]) if "x-fake-fault" in headers else self.fault
        except ValueError as error:
            await _error(send, 400, str(error))
            return
        seen = Seen("/v1/chat/completions", headers, body, raw)
        self.requests.append(seen)
        del self.requests[:-1000]
        problem = self._problem(body)
        if problem is not None:
            await _error(send, *problem)
            return
        self.active += 1
        gone = asyncio.create_task(_disconnected(receive))
        work = asyncio.create_task(self._answer(body, fault, send))
        try:
            done, _ = await asyncio.wait([gone, work], return_when=asyncio.FIRST_COMPLETED)
            if work not in done:
                seen.cancelled = True
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
            else:
                work.result()
        finally:
            gone.cancel()
            self.active -= 1

    def _problem(self, body: Any) -> tuple[int, str] | None:
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
            return 400, "[fake engine] messages: a list that is not empty is required"
        if body.get("model") not in self.models:
            return 404, f"The model `{body.get('model')}` does not exist."
        bound = body.get("max_tokens")
        if bound is not None and (not isinstance(bound, int) or bound < 1):
            return 400, "max_tokens must be at least 1"
        return None

    async def _answer(self, body: dict[str, Any], fault: Fault, send: Any) -> None:
        await asyncio.sleep(self.latency + fault.hang)
        if fault.status is not None:
            await _error(send, fault.status, f"[fake engine] fault {fault.status} at http://engine.internal:8000/v1")
            return
        words = _reply(body["messages"])
        bound = body.get("max_tokens") or body.get("max_completion_tokens")
        finish = "stop"
        if bound is not None and len(words) > bound:
            words, finish = words[:bound], "length"
        usage = {"prompt_tokens": _count(body["messages"]), "completion_tokens": len(words)}
        usage["total_tokens"] = sum(usage.values())
        if not body.get("stream"):
            await self._whole(body, fault, send, words, finish, usage)
        else:
            await self._stream(body, fault, send, words, finish, usage)

    async def _whole(
        self, body: dict[str, Any], fault: Fault, send: Any, words: list[str], finish: str, usage: dict[str, int]
    ) -> None:
        message = {"role": "assistant", "content": " ".join(words), "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        content: dict[str, Any] = _base(body, "chat.completion") | {"choices": [choice]}
        if not fault.no_usage:
            content["usage"] = usage
        if fault.drop_after is not None:
            await send(_start(200, b"application/json", length=10_000))
            await send({"type": "http.response.body", "body": b'{"id":', "more_body": True})
            raise ConnectionResetError("fault: drop")
        await _json(send, 200, content)

    async def _stream(
        self, body: dict[str, Any], fault: Fault, send: Any, words: list[str], finish: str, usage: dict[str, int]
    ) -> None:
        include = bool((body.get("stream_options") or {}).get("include_usage")) and not fault.no_usage
        await send(_start(200, b"text/event-stream; charset=utf-8"))
        count = 0
        async for delta, reason in self._deltas(words, finish, fault):
            if fault.drop_after is not None and count >= fault.drop_after:
                raise ConnectionResetError("fault: drop")
            choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
            chunk: dict[str, Any] = _base(body, "chat.completion.chunk") | {"choices": [choice]}
            if include:
                chunk["usage"] = None
            await _event(send, chunk)
            count += 1
        if fault.error_event:
            await _event(send, {"error": {"message": "[fake engine] out of memory on gpu-7.internal", "code": 500}})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if include:
            await _event(send, _base(body, "chat.completion.chunk") | {"choices": [], "usage": usage})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    async def _deltas(
        self, words: list[str], finish: str, fault: Fault
    ) -> AsyncIterator[tuple[dict[str, Any], str | None]]:
        yield {"role": "assistant", "content": ""}, None
        pieces = [word + " " for word in words[:-1]] + words[-1:]
        if self.chunks:
            text = "".join(pieces)
            size = max(1, -(-len(text) // self.chunks))
            pieces = [text[i : i + size] for i in range(0, len(text), size)]
        for number, piece in enumerate(pieces):
            if self.interval:
                await asyncio.sleep(self.interval)
            if fault.stall and number == 1:
                await asyncio.sleep(fault.stall)
            yield {"content": piece}, None
        yield {}, finish


def _reply(messages: list[Any]) -> list[str]:
    last = next((m for m in reversed(messages) if isinstance(m, dict) and m.get("role") == "user"), {})
    content = last.get("content")
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return f"{_PREFACE} {content or ''}".split()[:200]


def _count(messages: list[Any]) -> int:
    return sum(4 + len(str(m.get("content", "")).split()) for m in messages if isinstance(m, dict))


def _base(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-fake",
        "object": kind,
        "created": _CREATED,
        "model": body["model"],
        "system_fingerprint": OWNER,
    }


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": OWNER}


def _start(status: int, content_type: bytes, *, length: int | None = None) -> dict[str, Any]:
    headers = [(b"content-type", content_type), (b"x-engine", OWNER.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _json(send: Any, status: int, content: Any) -> None:
    body = msgspec.json.encode(content)
    await send(_start(status, b"application/json", length=len(body)))
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _error(send: Any, status: int, message: str) -> None:
    kind = "invalid_request_error" if status < 500 else "server_error"
    await _json(send, status, {"error": {"message": message, "type": kind, "param": None, "code": None}})


async def _event(send: Any, content: Any) -> None:
    await send(
        {"type": "http.response.body", "body": b"data: %b\n\n" % msgspec.json.encode(content), "more_body": True}
    )


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def running(engine: FakeEngine, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve ``engine`` inside this event loop; yields its base URL, which ends in ``/v1``."""
    sock = socket.create_server((host, port))
    config = uvicorn.Config(
        engine, lifespan="off", log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        yield f"http://{host}:{sock.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
        sock.close()


def main() -> None:
    """``python -m tenantplane_cli.fakeengine``."""
    parser = argparse.ArgumentParser(description="A fake OpenAI-compatible engine. It is no model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 takes a free one, which is printed")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer begins")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between chunks of a stream")
    parser.add_argument("--chunks", type=int, default=0, help="pieces of a stream; 0: one per word")
    parser.add_argument("--model", action="append", default=[], help=f"served model names (default {MODEL})")
    parser.add_argument("--api-key", help="require this bearer token")
    arguments = parser.parse_args()
    engine = FakeEngine(
        latency=arguments.latency,
        interval=arguments.interval,
        chunks=arguments.chunks,
        models=tuple(arguments.model) or (MODEL,),
        api_key=arguments.api_key,
    )

    async def run() -> None:
        async with running(engine, host=arguments.host, port=arguments.port) as url:
            print(f"fake engine (no model) at {url}", file=sys.stderr, flush=True)
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


if __name__ == "__main__":
    main()
