"""Server-side request forgery: every way to a private address that a URL or a resolver can take."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.dataplane.harness import dataplane, eventually, external_model, fake_engine, new_key, tenant_document

from tenantplane_api.runtime.platform import ExternalHost, Platform, Shared
from tenantplane_api.runtime.urls import UrlNotAllowedError
from tenantplane_dataplane.upstream.pin import AddressNotAllowedError, PinnedResolver, Pinner

PUBLIC = Pinner([ExternalHost(host="*")])
LOCAL = Pinner([ExternalHost(host="127.0.0.1", http=True, private=True), ExternalHost(host="*", http=True)])


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/v1",
        "https://127.0.0.1/v1",
        "https://[::1]/v1",
        "https://[::ffff:127.0.0.1]/v1",
        "https://10.0.0.1/v1",
        "https://169.254.169.254/latest/meta-data",
        "https://[fd00:ec2::254]/",
        "https://localhost/v1",
        "https://engine.default.svc/v1",
        "https://engine.default.svc.cluster.local/v1",
        "https://metadata.google.internal/",
        "https://user:pass@example.com/v1",
        "https://example.com/v1?x=1",
        "https://example.com/v1#x",
        "https://example.com\\@127.0.0.1/v1",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https:///v1",
        "https://exa mple.com/",
        "https://example.com:99999/",
        "",
    ],
)
def test_urls_that_the_default_rules_refuse(url: str) -> None:
    with pytest.raises(UrlNotAllowedError):
        PUBLIC.check_url(url)


def test_urls_that_pass() -> None:
    PUBLIC.check_url("https://api.openai.com/v1/chat/completions")
    LOCAL.check_url("http://127.0.0.1:8000/v1/chat/completions")
    with pytest.raises(UrlNotAllowedError):
        LOCAL.check_url("http://127.0.0.2:8000/v1")


def test_addresses_of_permitted_names() -> None:
    found = [
        "93.184.216.34",
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:10.0.0.1",
        "2606:2800:220:1::1",
    ]
    assert PUBLIC.permitted("example.com", 443, found) == ["93.184.216.34", "2606:2800:220:1::1"]
    assert PUBLIC.permitted("localhost", 443, found) == []
    private = Pinner([ExternalHost(host="engine.corp", private=True)])
    assert "10.0.0.1" in private.permitted("engine.corp", 443, found)
    assert "169.254.169.254" not in private.permitted("engine.corp", 443, found)
    assert private.permitted("other.corp", 443, found) == []


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0"])
async def test_numbers_that_the_system_reads_as_addresses(host: str) -> None:
    """aiohttp takes these for names; the system's resolver turns them into loopback."""
    with pytest.raises(OSError):  # noqa: PT011 - not resolved, or resolved to what is forbidden
        await PinnedResolver(PUBLIC).resolve(host, 443)


async def test_a_name_that_resolves_to_loopback() -> None:
    rules = Pinner([ExternalHost(host="localhost", http=True)])
    with pytest.raises(AddressNotAllowedError):
        await PinnedResolver(rules).resolve("localhost", 80, socket.AF_INET)
    allowed = Pinner([ExternalHost(host="localhost", http=True, private=True)])
    found = await PinnedResolver(allowed).resolve("localhost", 80, socket.AF_INET)
    assert [item["host"] for item in found] == ["127.0.0.1"]


async def test_rebinding_is_refused_when_connecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A permitted public name whose address became a private one: the pair shows that only the address decides."""
    async with fake_engine() as (engine, url):
        port = int(url.rpartition(":")[2].removesuffix("/v1"))
        loop, real = asyncio.get_running_loop(), asyncio.get_running_loop().getaddrinfo

        async def rebound(host: Any, *args: Any, **kwargs: Any) -> Any:
            return await real("127.0.0.1" if host == "rebound.example.com" else host, *args, **kwargs)

        monkeypatch.setattr(loop, "getaddrinfo", rebound)
        for private, expected in ((False, 502), (True, 200)):
            rules = (ExternalHost(host="rebound.example.com", http=True, private=private),)
            platform, key = Platform(shared=Shared(external_hosts=rules)), new_key()
            async with dataplane(tmp_path / f"c-{private}", platform=platform) as plane:
                plane.config.write(
                    external_model("shared", f"http://rebound.example.com:{port}/v1"),
                    tenant_document("acme", keys=[key], models={"chat": "tenantplane-models/shared"}),
                )
                await eventually(lambda plane=plane: plane.app.store.current.tenants)  # type: ignore[misc]
                status, body, _ = await plane.chat(key, "chat")
            assert status == expected, body
            assert len(engine.requests) == (1 if private else 0)


async def test_redirects_are_not_followed_and_proxies_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    async def trap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        location = b"Location: http://127.0.0.1:1/stolen\r\nSet-Cookie: a=b\r\n"
        writer.write(b"HTTP/1.1 307 Temporary Redirect\r\n" + location + b"Content-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(trap, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    key = new_key()
    async with server, dataplane(tmp_path / "c") as plane:
        plane.config.write(
            external_model("shared", f"http://127.0.0.1:{port}/v1"),
            tenant_document("acme", keys=[key], models={"chat": "tenantplane-models/shared"}),
        )
        await eventually(lambda: plane.app.store.current.tenants)
        for _ in range(2):
            status, body, headers = await plane.chat(key, "chat")
            assert (status, body["error"]["code"]) == (502, "upstream_error")
            assert "location" not in headers
            assert "set-cookie" not in headers
    assert len(seen) == 2
    assert all(b"cookie" not in head.lower() for head in seen)
