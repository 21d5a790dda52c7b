"""Which outside hosts may be named, and which addresses may be connected to."""

import pytest

from tenantplane_api.runtime.platform import ExternalHost
from tenantplane_api.runtime.urls import UrlNotAllowedError, address_allowed, find_rule

PUBLIC = (ExternalHost(host="*"),)
LOCAL = ExternalHost(host="127.0.0.1", http=True, private=True, ports=(8000,))


@pytest.mark.parametrize("url", ["https://api.example.com/v1", "https://API.Example.com:8443/v1"])
def test_public_https_is_allowed_by_default(url: str) -> None:
    assert find_rule(url, PUBLIC) is PUBLIC[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/v1",
        "https://127.0.0.1/v1",
        "https://[::1]/v1",
        "https://localhost/v1",
        "https://engine.models.svc/v1",
        "https://engine.models.svc.cluster.local/v1",
        "https://engine.models.svc.cluster.local./v1",
        "https://metadata.google.internal/v1",
        "https://user:password@api.example.com/v1",
        "https://api.example.com/v1?key=x",
        "https://api.example.com/v1#x",
        "https://api.example.com:99999/v1",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "https://api.example.com\\@evil.example/",
        "https://api.example.com/\r\nHost: x",
        "https://",
        "",
    ],
)
def test_everything_else_is_refused_by_default(url: str) -> None:
    with pytest.raises(UrlNotAllowedError):
        find_rule(url, PUBLIC)


def test_a_listed_private_host_is_allowed_on_its_ports_only() -> None:
    assert find_rule("http://127.0.0.1:8000/v1", (LOCAL, *PUBLIC)) is LOCAL
    with pytest.raises(UrlNotAllowedError, match="port"):
        find_rule("http://127.0.0.1:22/", (LOCAL, *PUBLIC))


def test_a_domain_pattern_matches_subdomains_only() -> None:
    rules = (ExternalHost(host="*.example.com"),)
    assert find_rule("https://a.b.example.com/v1", rules)
    for url in ("https://example.com/v1", "https://evilexample.com/v1", "https://example.com.evil.test/v1"):
        with pytest.raises(UrlNotAllowedError):
            find_rule(url, rules)


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("93.184.215.14", True, True),
        ("2606:4700::1111", True, True),
        ("10.0.0.1", False, True),
        ("100.64.0.1", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("fd00::1", False, True),
        ("::ffff:10.0.0.1", False, True),
        ("64:ff9b::a00:1", False, True),
        ("2002:a00:1::", False, True),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("fd00:ec2::254", False, False),
        ("0.0.0.0", False, False),
        ("224.0.0.1", False, False),
        ("not an address", False, False),
    ],
)
def test_addresses(address: str, public: bool, private: bool) -> None:
    assert address_allowed(address, ExternalHost(host="*")) is public
    assert address_allowed(address, ExternalHost(host="*", private=True)) is private
