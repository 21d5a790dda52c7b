"""What the probe makes of pods' exit codes, and that its programs do what the codes say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_cli.doctor import probe
from tenantplane_cli.doctor.report import EXIT_FAIL, EXIT_WARN, Finding, Verdict, exit_code, fail, ok, run, skip, warn
from tenantplane_cli.kube import KubeError

BOTH, NEAR, NONE = probe.BOTH_ANSWERED, probe.ONLY_THE_NEAR, probe.NOT_EVEN_THE_NEAR


@pytest.mark.parametrize(
    ("inwards", "outwards", "expected", "words"),
    [
        (NEAR, NEAR, Verdict.OK, "enforced both ways"),
        (BOTH, NEAR, Verdict.FAIL, "reached a fenced pod"),
        (NEAR, BOTH, Verdict.FAIL, "a fenced pod reached another namespace"),
        (BOTH, BOTH, Verdict.FAIL, "and"),
        (NONE, NEAR, Verdict.SKIP, "nothing is concluded"),
        (NONE, BOTH, Verdict.FAIL, "reached another namespace"),
        (NEAR, NONE, Verdict.FAIL, "do not reach each other, which its policies allow"),
        (NEAR, 1, Verdict.SKIP, "nothing is concluded"),
        (127, 127, Verdict.SKIP, "nothing is concluded"),
    ],
)
def test_only_both_ways_closed_is_ok(inwards: int, outwards: int, expected: Verdict, words: str) -> None:
    found = probe.verdict(inwards=inwards, outwards=outwards)
    assert found.verdict is expected
    assert words in found.text


def test_the_policies_are_a_tenants_without_its_marks() -> None:
    made = probe.policies("tenantplane-probe-x-fenced", Platform(), "x")
    assert made[0]["metadata"]["name"] == names.CHILD_NETWORK_POLICY_DENY
    assert made[0]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert names.CHILD_NETWORK_POLICY_SAME_NAMESPACE in {policy["metadata"]["name"] for policy in made}
    for policy in made:
        assert policy["metadata"]["labels"] == {probe.LABEL: "x"}
        assert "annotations" not in policy["metadata"]


@pytest.fixture
def server() -> Any:
    """The probe's server as a pod would run it, on a port of its own."""
    code = probe._SERVER.replace(f"{probe.PORT})", "0)").replace(
        "while True", "print(s.getsockname()[1], flush=True)\nwhile True"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stdout is not None
        yield int(running.stdout.readline())
        running.kill()


@pytest.mark.parametrize(
    ("near", "far", "code"), [("127.0.0.1", "127.0.0.1", BOTH), ("127.0.0.1", "127.9.9.9:1", NEAR)]
)
def test_the_client_says_what_it_reached(server: int, near: str, far: str, code: int) -> None:
    closed = far != near
    program = probe._CLIENT.replace(
        f"(host, {probe.PORT})", f"(host.partition(':')[0], 1 if ':' in host else {server})"
    )
    done = subprocess.run([sys.executable, "-c", program, near, far], timeout=60, check=False)
    assert done.returncode == code, closed


def test_the_client_without_any_server_concludes_nothing() -> None:
    program = probe._CLIENT.replace(f"{probe.PORT})", "1)").replace("time.sleep(1)", "pass")
    done = subprocess.run([sys.executable, "-c", program, "127.0.0.1", "127.0.0.1"], timeout=60, check=False)
    assert done.returncode == NONE


def test_pods_satisfy_the_fence_that_tenants_live_in() -> None:
    made = probe.pod("n", "client-0", image="i", command=["python"], run="x")
    container = made["spec"]["containers"][0]
    assert made["spec"]["automountServiceAccountToken"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not any(key.startswith(names.GROUP) and key != probe.LABEL for key in made["metadata"]["labels"])


def test_exit_codes_add_up() -> None:
    assert exit_code([ok("a", ""), skip("b", "")]) == 0
    assert exit_code([ok("a", ""), warn("b", "", "m")]) == EXIT_WARN
    assert exit_code([warn("a", "", "m"), fail("b", "", "m")]) == EXIT_FAIL


@pytest.mark.parametrize(("status", "expected"), [(403, Verdict.SKIP), (0, Verdict.FAIL), (500, Verdict.FAIL)])
def test_a_check_that_cannot_look_is_never_ok(status: int, expected: Verdict) -> None:
    def look() -> list[Finding]:
        raise KubeError(status, "no")

    (found,) = run("check", look)
    assert found.verdict is expected
    assert found.mend


def test_probe_image_has_the_interpreter_that_pods_call() -> None:
    for program in ("operator", "dataplane"):
        text = (Path(__file__).parents[2] / f"Dockerfile.{program}").read_text(encoding="utf-8")
        assert "ENV PATH=/opt/tenantplane/bin" in text.replace("\\\n    ", "")
