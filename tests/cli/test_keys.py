"""`tenantplane keys` without a cluster: what it takes, what it refuses, and what it shows of an APIKey."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.cli.processes import environment, here, tenantplane

from tenantplane_api.runtime.durations import parse_duration as go
from tenantplane_cli import keyobjects
from tenantplane_cli.keyobjects import describe, wait_for
from tenantplane_cli.keys import _expiry, _refuse_rotation, _rotated, _withdrawn, go_duration
from tenantplane_cli.kube import KubeError
from tenantplane_cli.output import CliError, UsageError


@pytest.mark.parametrize(
    ("text", "hours"), [("30d", 720), ("12h", 12), ("90m", 1.5), ("1h30m", 1.5), ("0s", 0), ("3600s", 1)]
)
def test_durations_of_a_rotation(text: str, hours: float) -> None:
    assert go(go_duration(text, "--grace")) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "soon", "1w", "-1h", "1.5h", "h"])
def test_what_is_no_duration_names_its_option(text: str) -> None:
    with pytest.raises(UsageError, match=r"--rotate-every: .*not a duration"):
        go_duration(text, "--rotate-every")


def test_an_expiry_is_a_lifetime_or_a_time() -> None:
    assert _expiry("2027-01-31T12:00:00Z") == "2027-01-31T12:00:00Z"
    assert _expiry("2027-01-31T12:00:00+02:00") == "2027-01-31T10:00:00Z"
    assert _expiry("2027-01-31") == "2027-01-31T00:00:00Z"
    left = datetime.fromisoformat(_expiry("90d")) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < left <= timedelta(days=90)
    with pytest.raises(UsageError, match="--expires: 'never' is not a duration"):
        _expiry("never")


def test_an_expiry_at_the_edge_of_time_is_valid_rfc_3339_or_refused() -> None:
    assert _expiry("0900-01-01T00:00:00Z") == "0900-01-01T00:00:00Z"
    assert _expiry("9999-12-31T23:59:59.9Z") == "9999-12-31T23:59:59Z"
    for text in ("9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+01:00"):
        with pytest.raises(UsageError, match=r"--expires: .* lies outside the years 1 to 9999"):
            _expiry(text)


def key(spec: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "ci", "generation": 1}, "spec": spec or {}, "status": status}


def ready(reason: str, status: str = "False", kind: str = "Ready") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": "", "observedGeneration": 1}


def test_what_is_shown_holds_no_hash_and_no_text() -> None:
    shown = describe(
        key(
            {"valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}},
            hash="sha256:00",
            keyID="abcdefgh",
            previous=[{"hash": "sha256:11", "keyID": "ijklmnop", "acceptedUntil": "2027-01-01T00:00:00Z"}],
            conditions=[ready("Ready", "True")],
        )
    )
    assert "sha256" not in json.dumps(shown)
    assert shown["previous"] == [{"keyID": "ijklmnop", "acceptedUntil": "2027-01-01T00:00:00Z"}]
    assert (shown["secret"], shown["state"]) == ("mine", "Ready")


@pytest.mark.parametrize(
    ("this", "words"),
    [
        (key(revokedAt="2026-01-01T00:00:00Z"), "was revoked at 2026-01-01"),
        (key({"valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}}), "comes from Secret mine"),
        (key({"expiresAt": "2026-01-01T00:00:00Z"}, conditions=[ready("Expired")]), "expired at 2026-01-01"),
    ],
)
def test_a_rotation_that_would_never_come_is_refused_at_once(this: dict[str, Any], words: str) -> None:
    _refuse_rotation(key(conditions=[ready("Ready", "True")]))
    with pytest.raises(CliError, match=words):
        _refuse_rotation(this)


def test_a_rotation_is_over_when_its_own_request_is_answered_and_published() -> None:
    published = [ready("Published", "True", "Published")]
    assert _rotated(key(handledRequests={"rotate-requested-at": "now"}, conditions=published), "now")
    assert not _rotated(key(handledRequests={"rotate-requested-at": "before"}, conditions=published), "now")
    waiting = [ready("Progressing", "False", "Published")]
    assert not _rotated(key(handledRequests={"rotate-requested-at": "now"}, conditions=waiting), "now")


def test_a_revocation_is_over_when_the_key_is_withdrawn() -> None:
    at = "2026-01-01T00:00:00Z"
    stalled = ready("Revoked", "True", "Stalled")
    under_way = key(revokedAt=at, conditions=[ready("Progressing", "False", "Published"), stalled])
    done = key(revokedAt=at, conditions=[ready("Revoked", "False", "Published"), stalled])
    assert not _withdrawn(under_way)
    assert _withdrawn(done)
    # Revoked is a stalled state: it must not be taken for a failure on the way.
    assert wait_for(Answers(under_way, done), "x", _withdrawn, "no", stalls=False) is done


class Answers:
    """A cluster that gives these answers, one after the other; the last one again and again."""

    def __init__(self, *answers: dict[str, Any] | KubeError) -> None:
        self.answers = list(answers)

    def get(self, _: str) -> dict[str, Any]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, KubeError):
            raise answer
        return answer


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_a_wait_outlasts_faults_that_pass_and_no_others(
    status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault, done = KubeError(status, "away"), key(conditions=[ready("Published", "True", "Published")])
    assert wait_for(Answers(fault, fault, done), "x", lambda found: found is done, "no") is done
    assert capsys.readouterr().err == "away (asking again)\n"
    with pytest.raises(KubeError, match="no right"):
        wait_for(Answers(KubeError(403, "no right"), done), "x", lambda _: True, "no")
    monkeypatch.setattr(keyobjects, "WAIT_SECONDS", 0.3)
    with pytest.raises(KubeError, match="away"):
        wait_for(Answers(fault), "x", lambda _: True, "no")


class Server(http.server.BaseHTTPRequestHandler):
    """An API server that has one key and the Tenant acme, and says which requests came."""

    seen: ClassVar[list[str]] = []
    keys: ClassVar[list[dict[str, Any]]] = []
    """The states in which the key is found, one after the other; the last one again and again."""

    def _answer(self, body: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.seen.append(f"GET {self.path}")
        path = self.path.partition("?")[0]
        if path.endswith("/tenants"):
            self._answer({"items": [{"metadata": {"name": "acme"}}]})
        elif "/tenants/" in path:
            self._answer({"message": f'tenants.tenantplane.dev "{path.rpartition("/")[2]}" not found'}, 404)
        else:
            self._answer(self.keys.pop(0) if len(self.keys) > 1 else self.keys[0])

    def do_PATCH(self) -> None:
        length = int(self.headers["content-length"])
        self.seen.append(f"PATCH {self.path} {self.rfile.read(length).decode()}")
        self._answer(key(keyID="abcdefgh"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return None


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Server.seen.clear()
    Server.keys[:] = [key(keyID="abcdefgh")]
    config = tmp_path / "kubeconfig"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{server.server_address[1]}'}}}}]\n"
        "users: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    yield config
    server.shutdown()
    server.server_close()


def test_a_request_is_an_annotation_and_never_an_edit_of_the_spec(kubeconfig: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    for arguments in (["rotate", "ci", "--no-wait"], ["revoke", "ci", "--no-wait", "--yes"]):
        done = tenantplane("keys", *arguments, "-n", "tenant-acme", "--kubeconfig", kubeconfig, env=env)
        assert done.returncode == 0, done.stderr
    patches = [json.loads(line.split(" ", 2)[2]) for line in Server.seen if line.startswith("PATCH")]
    assert [list(patch) for patch in patches] == [["metadata"], ["metadata"]]
    assert [name for patch in patches for name in patch["metadata"]["annotations"]] == [
        "tenantplane.dev/rotate-requested-at",
        "tenantplane.dev/revoke-requested-at",
    ]
    # By the namespace alone: nobody asked for a Tenant, which a tenant's admin may not read.
    assert all("/namespaces/tenant-acme/apikeys/ci" in line for line in Server.seen)


def test_without_somebody_to_ask_nothing_is_revoked(kubeconfig: Path, tmp_path: Path) -> None:
    done = tenantplane(
        "keys", "revoke", "ci", "-n", "tenant-acme", "--kubeconfig", kubeconfig, env=environment(tmp_path)
    )
    assert done.returncode == 2
    assert "say --yes" in done.stderr
    assert not [line for line in Server.seen if line.startswith("PATCH")]


@pytest.mark.parametrize("reason", ["KeyTampered", "Expired", "KeyRejected"])
def test_a_stalled_key_is_revoked_like_any_other(kubeconfig: Path, tmp_path: Path, reason: str) -> None:
    before = key(conditions=[ready(reason), ready(reason, "True", "Stalled"), ready(reason, "False", "Published")])
    after = key(
        revokedAt="2026-01-01T00:00:00Z",
        conditions=[ready("Revoked", "True", "Stalled"), ready("Revoked", "False", "Published")],
    )
    # Looked at, asked for, and found as it was before the operator came to it.
    Server.keys[:] = [before, before, after]
    done = here("keys", "revoke", "ci", "-n", "tenant-acme", "--yes", "--kubeconfig", kubeconfig, home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "apikey/ci revoked\n"), done.stderr


@pytest.mark.parametrize(
    "command", [["keys", "list"], ["keys", "get", "ci"], ["keys", "revoke", "ci", "--yes"], ["chat", "hello"]]
)
def test_a_misspelt_tenant_is_told_which_one_is_near(kubeconfig: Path, tmp_path: Path, command: list[str]) -> None:
    done = here(*command, "--tenant", "acmee", "--kubeconfig", kubeconfig, home=tmp_path)
    assert done.returncode == 1
    assert "there is no Tenant 'acmee'; is it acme?" in done.stderr
    assert not [line for line in Server.seen if line.startswith("PATCH")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list"], "name the tenant by --tenant, or its namespace by --namespace"),
        (["create", "x", "-n", "n", "--from-secret", "s", "--rotate-every", "1d"], "rotated by changing the Secret"),
        (["create", "x", "-n", "n", "--grace", "long"], "--grace: 'long' is not a duration"),
        (["rotate", "x", "-n", "n", "--no-wait", "--show"], "leave --no-wait out"),
    ],
)
def test_wrong_usage(kubeconfig: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = tenantplane("keys", *arguments, "--kubeconfig", kubeconfig, env=environment(tmp_path))
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""
