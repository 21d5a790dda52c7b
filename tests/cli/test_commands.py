"""The command line itself: help without heavy imports, exit codes, and errors that say what to do."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import environment, tenantplane

from tenantplane_api.runtime.keys import parse_key
from tenantplane_api.version import __version__
from tenantplane_cli.conversation import citation_lines
from tenantplane_cli.endpoint import ApiRefusal, Endpoint
from tenantplane_cli.keys import describe, parse_duration
from tenantplane_cli.output import CliError, UsageError
from tenantplane_cli.status import view_of

HEAVY = (
    "http.client",
    "ssl",
    "pydantic.main",
    "msgspec",
    "kubernetes",
    "aiohttp",
    "faiss",
    "numpy",
    "kopf",
    "fastapi",
    "langgraph",
    "yaml",
    "rich.console",
)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path)


def test_help_and_version_import_nothing_heavy() -> None:
    code = "import sys; from tenantplane_cli import main; print([m for m in sys.argv[1:] if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_every_command(env: dict[str, str]) -> None:
    done = tenantplane("--help", env=env)
    assert done.returncode == 0
    for name in ("new", "up", "demo", "status", "keys", "ingest", "chat", "version"):
        assert re.search(rf"^\s+{name}\s", done.stdout, re.MULTILINE), name
        assert tenantplane(name, "--help", env=env).returncode == 0


def test_version(env: dict[str, str]) -> None:
    assert __version__ in tenantplane("version", env=env).stdout
    assert json.loads(tenantplane("version", "-o", "json", env=env).stdout)["client"] == __version__


def test_new_prints_yaml_that_can_be_piped(env: dict[str, str]) -> None:
    done = tenantplane("new", "acme", "--display-name", "Acme", env=env)
    assert done.returncode == 0
    assert re.search(r"^  tenantID: acme-[a-z2-9]{8}$", done.stdout, re.MULTILINE)


def test_offline_keys_are_well_formed_and_differ(env: dict[str, str]) -> None:
    first, second = (json.loads(tenantplane("keys", "new", "--offline", "-o", "json", env=env).stdout) for _ in "12")
    assert parse_key(first["key"]).digest == first["hash"]
    assert first["key"] != second["key"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["new", "Not A Name"], 2, "cannot be a Tenant's name"),
        (["new"], 2, "Missing argument"),
        (["nonsense"], 2, "nonsense"),
        (["keys", "new"], 2, "needs --offline"),
        (["keys", "create", "x", "-t", "a", "--expires-in", "soon"], 2, "is not a duration"),
        (["chat", "hi", "--assistant", "a", "--model", "b"], 2, "exclude each other"),
        (["chat", "hi", "--key", "x", "--url", "http://127.0.0.1:1"], 1, "nothing answers at http://127.0.0.1:1"),
        (["chat", "hi", "--key", "x", "--url", "ftp://h"], 1, "is not http(s)://host"),
        (["chat", "hi", "--key", "x", "--url", "http://h:99999"], 1, "no valid port"),
        (["status", "acme"], 1, "no usable kubeconfig"),
        (["status", "acme", "--kubeconfig", "/nowhere"], 1, "/nowhere is not a file"),
        (["status", "acme", "--state", "/nowhere"], 1, "no `tenantplane up` runs on /nowhere"),
        (["ingest", ".", "-t", "a", "-i", "b", "--platform", "/nowhere"], 1, "no usable kubeconfig"),
        (["up", "/nowhere"], 2, "/nowhere is not a folder"),
        (["keys", "list", "-t", "acme"], 1, "no usable kubeconfig"),
    ],
)
def test_errors_are_one_line_and_say_what_to_do(
    env: dict[str, str], arguments: list[str], code: int, words: str
) -> None:
    done = tenantplane(*arguments, env=env)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_an_api_server_that_is_away_is_named(env: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    done = tenantplane("status", "acme", "--kubeconfig", config, env=env)
    assert done.returncode == 1
    assert "http://127.0.0.1:1 does not answer" in done.stderr
    done = tenantplane("status", "acme", "--kubeconfig", config, "--context", "other", env=env)
    assert "other" in done.stderr


class Handler(http.server.BaseHTTPRequestHandler):
    """Something that is no data plane, or one that misbehaves."""

    def do_GET(self) -> None:
        body, kind, status = {
            "/html/v1/models": (b"<html>", "text/html", 200),
            "/error/v1/models": (b"<html>", "text/html", 502),
            "/away/v1/models": (b"", "text/plain", 302),
            "/refused/v1/models": (
                b'{"error": {"code": "rate_limit_exceeded", "message": "slow \\u001b[2Jdown"}}',
                "application/json",
                429,
            ),
        }[self.path]
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", "7")
        self.send_header("location", "http://127.0.0.1:1/")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b'data: {"type": "delta", "text": "half')
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return None


@pytest.fixture
def odd_server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("path", "words"), [("html", "does not answer as"), ("error", "502"), ("away", "302")])
def test_what_is_no_data_plane_is_called_so(odd_server: str, path: str, words: str) -> None:
    with pytest.raises(CliError, match=words) as error:
        Endpoint(f"{odd_server}/{path}", "key").get("/v1/models")
    assert "is --url right?" in str(error.value)


def test_a_refusal_keeps_its_code_and_tells_when_to_come_back(odd_server: str) -> None:
    with pytest.raises(ApiRefusal, match=r"rate_limit_exceeded: .*try again after 7 s") as error:
        Endpoint(f"{odd_server}/refused/v1", "key").get("/v1/models")
    assert error.value.status == 429
    assert "\x1b" not in str(error.value)


def test_a_stream_that_breaks_off_is_an_error(odd_server: str, env: dict[str, str]) -> None:
    done = tenantplane("chat", "hi", "-a", "x", "--key", "k", "--url", odd_server, env=env)
    assert done.returncode == 1
    assert "broke off" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("12h", 43_200), ("90d", 7_776_000)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "1", "0d", "-1d", "1w", "1.5h", "1d\n", "9999999d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration(text)


def test_ready_of_an_older_generation_is_not_believed() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "observedGeneration": 3}
    tenant = {"metadata": {"name": "a", "generation": 3}, "spec": {}, "status": {"conditions": [ready]}}
    assert view_of(tenant, []).ready
    tenant["metadata"] = {"name": "a", "generation": 4}
    assert not view_of(tenant, []).ready


def test_a_key_object_never_shows_its_hash() -> None:
    shown = describe({"metadata": {"name": "k"}, "spec": {}, "status": {"hash": "sha256:00", "keyID": "abc"}})
    assert "sha256:00" not in str(shown)
    assert shown["keyID"] == "abc"


def test_citations_are_a_numbered_list() -> None:
    cited: list[dict[str, Any]] = [
        {"marker": 1, "document": "h/a.md", "section": "A > B"},
        {"marker": None, "document": "h/b.md", "section": ""},
    ]
    assert citation_lines(cited) == ["  [1] h/a.md > A > B", "  [-] h/b.md"]
