"""How a tenant is shown: what counts as healthy, what is nearly used up, what is never printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.cli.processes import here

from tenantplane_cli.kube import KubeError
from tenantplane_cli.status import command
from tenantplane_cli.status.observe import _Look, event_line, limit_range_child, quota_child
from tenantplane_cli.status.render import tree_of
from tenantplane_cli.status.view import Child, View, view_of

DIGEST = "sha256:" + "ab" * 32


def text_of(view: View) -> str:
    console = Console(width=200, record=True, file=None, force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(tree_of(view))
    return captured.get()


def quota(**used: str) -> dict[str, Any]:
    hard = {"pods": "10", "requests.memory": "1Gi", "services.nodeports": "0"}
    return {"metadata": {"name": "tenantplane"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}}


def test_what_is_nearly_used_up_comes_first_and_is_marked() -> None:
    child = quota_child(quota(pods="9", **{"requests.memory": "512Mi", "services.nodeports": "0"}))
    assert (child.healthy, child.warning) == (True, True)
    assert child.details[0] == "! pods: 9 of 10 (90%)"
    assert child.details[1] == "requests.memory: 512Mi of 1Gi (50%)"
    assert child.details[2] == "services.nodeports: 0 of 0 (0%)"
    assert not quota_child(quota(pods="8")).warning
    shown = text_of(View("a", True, children=[child]))
    assert "! ResourceQuota tenantplane: 1 of 3 nearly used up" in shown
    assert "! pods: 9 of 10 (90%)" in shown


def test_a_quota_that_nobody_counts_is_not_called_healthy() -> None:
    item = quota()
    del item["status"]
    assert quota_child(item).healthy is None
    odd = {**quota(), "status": {"hard": {"pods": "many"}, "used": {"pods": "?"}}}
    assert quota_child(odd).details == ["pods: ? of many (0%)"]


def test_a_limit_range_with_its_bounds() -> None:
    limits = [{"type": "Container", "default": {"cpu": "1"}, "max": {"cpu": "2"}}]
    child = limit_range_child({"metadata": {"name": "l"}, "spec": {"limits": limits}})
    assert child.details == ["Container default: cpu 1", "Container max: cpu 2"]


def test_keys_show_expiry_rotation_and_grace_and_no_hash() -> None:
    status = {
        "hash": DIGEST,
        "keyID": "abcdefgh",
        "nextRotationAt": "2027-01-01T00:00:00Z",
        "previous": [{"hash": DIGEST, "keyID": "zyxwvuts", "acceptedUntil": "2026-12-01T00:00:00Z"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    key = {"metadata": {"name": "k"}, "spec": {"expiresAt": "2027-06-01T00:00:00Z", "owner": "o"}, "status": status}
    view = view_of({"metadata": {"name": "a"}}, [key])
    shown = text_of(view)
    assert "abcdefgh, Ready, expires 2027-06-01T00:00:00Z, owner o, next rotation 2027-01-01T00:00:00Z" in shown
    assert "zyxwvuts works until 2026-12-01T00:00:00Z" in shown
    assert DIGEST not in shown + str(view.as_json())


def test_an_older_generations_ready_and_a_deletion_are_said() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "observedGeneration": 1}
    tenant: dict[str, Any] = {"metadata": {"name": "a", "generation": 2}, "status": {"conditions": [ready]}}
    view = view_of(tenant, [])
    assert (view.ready, view.reason) == (False, "Outdated")
    tenant["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert view_of(tenant, []).reason == "Deleting"


def test_what_comes_from_a_server_cannot_control_the_terminal() -> None:
    view = View("a\x1b[2J", False, message="m\x1b]0;t\x07", events=["e\x1b[1m"], not_readable=["Secrets"])
    view.children = [Child("Kind", "n\x1b[2J", False, "t\r", ["d\x1b[2J"])]
    shown = text_of(view)
    assert not set(shown) & set("\x1b\x07\r")
    assert "you may not read" in shown


def test_events_on_one_line() -> None:
    event = {
        "metadata": {},
        "eventTime": "2026-01-01T00:00:00Z",
        "series": {"count": 3, "lastObservedTime": "2026-01-02T00:00:00Z"},
        "type": "Warning",
        "reason": "UnknownPlan",
        "note": "two\nlines",
        "regarding": {"kind": "Tenant", "name": "a"},
    }
    assert event_line(event) == "2026-01-02T00:00:00Z Warning Tenant/a UnknownPlan: two lines (x3)"


def looks(*answers: list[View] | KubeError) -> Callable[[], list[View]]:
    """One answer after the other; the last one again and again."""
    left = list(answers)

    def look() -> list[View]:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, KubeError):
            raise answer
        return answer

    return look


def test_a_wait_and_a_watch_outlast_faults_that_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(command, "_WATCH_SECONDS", 0.01)
    away, gone = KubeError(503, "away"), KubeError(404, "no such Tenant")
    waiting, ready = [View("a", False)], [View("a", True)]
    assert command._until(looks(away, waiting, away, ready), 60) is ready
    # Without --wait nothing is waited out, nor what will not pass.
    for look, wait, words in ((looks(away), 0, "away"), (looks(away), 0.05, "away"), (looks(gone, ready), 60, "no su")):
        with pytest.raises(KubeError, match=words):
            command._until(look, wait)
    capsys.readouterr()
    with pytest.raises(KubeError, match="no such Tenant"):
        command._watch(looks(waiting, away, away, ready, gone), "a")
    shown = capsys.readouterr()
    assert "✓ tenant a" in shown.out
    assert shown.err.count("away (asking again)") == 1
    with pytest.raises(KubeError, match="away"):
        command._watch(looks(away, ready), "a")


def test_the_newest_events_are_shown_whatever_page_they_are_on() -> None:
    class Paged:
        """An API server that gives old events first, and other programs' only to who does not ask for ours."""

        def items(self, path: str, selector: str = "", *, fields: str = "") -> list[dict[str, Any]]:
            assert fields.startswith("reportingController=tenantplane")
            return [
                {"metadata": {}, "eventTime": f"2026-01-01T00:{n // 60:02}:{n % 60:02}Z", "note": f"event {n}"}
                for n in range(600)
            ]

        def get(self, *_: Any) -> dict[str, Any]:
            return {"items": self.items("", fields="reportingController=tenantplane")[:500]}

    kube: Any = Paged()
    shown = _Look(kube, "tenant-a", "a").events(about_tenant=False)
    assert "event 599" in shown[0]

    class Slow:
        def items(self, *_: Any, **__: Any) -> None:
            raise KubeError(self.status, "no")

        get = items
        status = 0

    slow: Any = Slow()
    look = _Look(slow, "tenant-a", "a")
    with pytest.raises(KubeError):
        look.events(about_tenant=False)
    slow.status = 403
    assert look.events(about_tenant=False) == []
    assert look.denied == ["events in tenant-a"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["status", "--watch", "--wait", "3"], 2, "--watch goes with neither"),
        (["status", "-n", "x"], 2, "name the tenant too"),
        (["status", "acme"], 1, "no usable kubeconfig"),
        (["doctor"], 1, "no usable kubeconfig"),
        (["doctor", "--probe-timeout", "0"], 1, "probe-timeout"),
    ],
)
def test_errors_say_what_to_do(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    done = here(*arguments, home=tmp_path)
    assert done.returncode == code
    assert words in done.stderr
