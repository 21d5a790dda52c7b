"""Upstream's own fixtures of the Pod Security Standards, in namespaces made by the operator, at both levels.

The pods come with the Go module `k8s.io/pod-security-admission`, in the version of the test control plane; the newest
of their versions is run. Without the module (no Go, no network) this is skipped, under CI=true it fails.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.isolation.conftest import PLAN, Side, customer, offboard
from tests.isolation.people import (
    CRON_JOBS,
    JOBS,
    POD_SECURITY,
    PODS,
    Manifest,
    Person,
    container,
    pod_spec,
    refused_by,
    template,
    workload,
)
from tests.operator.e2e.world import World, wait
from tests.support.cluster import with_chart

from tenantplane_cli.cluster import PROGRAMS_DISABLED, Cluster, ToolError, install_chart
from tenantplane_cli.cluster.toolchain import CONTROL_PLANE, find_go

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

MODULE = "k8s.io/pod-security-admission"
# What Pod Security says of each control, by the beginning of its fixtures' names.
WORDS = {
    "allowprivilegeescalation": "allowPrivilegeEscalation != false",
    "apparmorprofile": "forbidden AppArmor profile",
    "capabilities_baseline": "capabilities",
    "capabilities_restricted": "unrestricted capabilities",
    "hostnamespaces": "host namespaces",
    "hostpathvolumes": "volume",
    "hostports": "hostPort",
    "hostprobesandhostlifecycle": "probe or lifecycle host",
    "privileged": "privileged",
    "procmount": "procMount",
    "restrictedvolumes": "restricted volume types",
    "runasnonroot": "runAsNonRoot != true",
    "runasuser": "runAsUser=0",
    "seccompprofile": "seccompProfile",
    "selinuxoptions": "seLinuxOptions",
    "sysctls": "forbidden sysctls",
    "windowshostprocess": "hostProcess",
}


def _module() -> Path:
    """Folder of the module in the version that the control plane is built of; fetched when it is not there."""
    go = find_go(CONTROL_PLANE.go_version)
    done = subprocess.run(
        [go, "mod", "download", "-json", MODULE],
        cwd=CONTROL_PLANE.folder,
        env={**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = json.loads(done.stdout or "{}")
    if done.returncode != 0 or "Dir" not in said:
        raise ToolError(f"{MODULE} cannot be had: {said.get('Error') or done.stderr.strip()}")
    return Path(said["Dir"])


@pytest.fixture(scope="module")
def fixtures() -> Path:
    try:
        return _module() / "test" / "testdata"
    except (ToolError, OSError, subprocess.TimeoutExpired) as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the fixtures must be there in CI: {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def levels(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Side]]:
    """A tenant of each level, under a platform whose floor is Baseline."""
    world = World(with_chart(cluster), tmp_path_factory.mktemp("isolation"))
    # The operator fence has the floor too: without this it refuses the operator's own Namespace of level Baseline.
    floor = {**PROGRAMS_DISABLED, "platform.operator.podSecurityFloor": "Baseline"}
    install_chart(cluster, sets=floor, progress=lambda _: None)
    world.documents.mkdir()
    # Upstream's pods name an image without tag, which is pulled always.
    plan: dict[str, Any] = {**PLAN, "allow": {**PLAN["allow"], "registries": ["*"], "runtimeClasses": ["*"]}}
    operator = world.start(plans={"default": plan}, podSecurityFloor="Baseline", resyncSeconds=3600)
    sides = {level: f"{level}-standard" for level in ("baseline", "restricted")}
    try:
        yield {
            level: customer(world, name, namespace={"podSecurity": level.capitalize()}) for level, name in sides.items()
        }
    finally:
        try:
            if operator.process.poll() is None:
                offboard(world, *sides.values())
                operator.stop()
        finally:
            world.close()
            install_chart(cluster, progress=lambda _: None)


def cases(fixtures: Path, level: str, verdict: str) -> list[tuple[str, Manifest]]:
    """The pods of the newest version, by file name."""
    newest = max((fixtures / level).iterdir(), key=lambda folder: tuple(map(int, folder.name[1:].split("."))))
    found = []
    for file in sorted((newest / verdict).glob("*.yaml")):
        item = yaml.safe_load(file.read_text(encoding="utf-8"))
        # Upstream never sends them: some names hold a `_`.
        item["metadata"]["name"] = file.stem.replace("_", "-")
        found.append((file.stem, item))
    return found


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_fixtures_that_must_fail_are_refused_for_their_control(
    fixtures: Path, levels: dict[str, Side], level: str
) -> None:
    side = levels[level]
    seen = cases(fixtures, level, "fail")
    assert len(seen) >= {"baseline": 30, "restricted": 75}[level]
    unsaid = dict(WORDS)
    for name, item in seen:
        prefix = next(prefix for prefix in sorted(WORDS, key=len, reverse=True) if name.startswith(prefix))
        unsaid.pop(prefix, None)
        for who in (side.admin, side.robot, side.mallory):
            answer = who.make(PODS, side.space, item)
            if prefix == "procmount" and answer.status == 422:
                # An unmasked /proc without a user namespace is invalid, before anybody asks for the level.
                assert "procMount" in answer.message, (name, answer.body)
                continue
            assert refused_by(answer) == POD_SECURITY, (name, answer.body)
            assert WORDS[prefix] in answer.message, (name, answer.message)
            assert f'violates PodSecurity "{level}:' in answer.message, (name, answer.message)
    restricted_only = {
        "allowprivilegeescalation",
        "capabilities_restricted",
        "restrictedvolumes",
        "runasnonroot",
        "runasuser",
    }
    assert set(unsaid) <= (restricted_only if level == "baseline" else set())


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_fixtures_that_must_pass_do(fixtures: Path, levels: dict[str, Side], level: str) -> None:
    side = levels[level]
    seen = cases(fixtures, level, "pass")
    assert len(seen) >= {"baseline": 15, "restricted": 17}[level]
    for name, item in seen:
        answer = side.admin.make(PODS, side.space, item)
        assert answer.ok, (name, answer.body)


def test_a_cron_job_does_not_smuggle_a_hostile_pod_in(levels: dict[str, Side]) -> None:
    """CronJob, Job, pod: three controllers on, and the pod is still judged. Takes until the next full minute."""
    side = levels["restricted"]
    for name, spec in (("hostile", pod_spec(hostPID=True)), ("good", pod_spec(container()))):
        item = workload(CRON_JOBS, template(spec), name)
        item["spec"]["schedule"] = "* * * * *"
        answer = side.admin.make(CRON_JOBS, side.space, item, dry=False)
        assert answer.ok, answer.body

    def jobs(name: str) -> list[str]:
        items = side.admin.look(JOBS, side.space).body["items"]
        return [item["metadata"]["name"] for item in items if item["metadata"]["name"].startswith(f"{name}-")]

    def told() -> bool:
        events = side.admin.look("v1/events", side.space).body["items"]
        return any(
            event["involvedObject"]["name"] in jobs("hostile") and "host namespaces" in event["message"]
            for event in events
        )

    def made() -> list[str]:
        return [item["metadata"]["name"] for item in side.admin.look(PODS, side.space).body["items"]]

    wait(told, "an event tells why the hostile Job has no pod", target=13)
    wait(lambda: any(name.startswith("good-") for name in made()), "the harmless one has its pod", target=13)
    assert not any(name.startswith("hostile-") for name in made())


def test_the_robot_is_judged_like_its_people(levels: dict[str, Side]) -> None:
    side = levels["restricted"]
    people: tuple[Person, ...] = (side.admin, side.robot)
    assert {who.make(PODS, side.space, {"metadata": {"name": "x"}, "spec": pod_spec()}).ok for who in people} == {True}
