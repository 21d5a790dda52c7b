"""`plan`, `status` and `doctor` on the real API, in one module so that they share its set-up.

What `plan` predicts is what the operator makes, and nothing would change afterwards; `status` shows each persona what
it may see; `doctor` finds a fence that is gone, and its probe tells enforced from not enforced by what pods report.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.processes import here
from tests.operator.e2e import conftest
from tests.operator.e2e.world import CHILDREN, Operator, World, wait

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_cli.doctor import fences, install, probe, programs
from tenantplane_cli.doctor.report import Finding, Verdict
from tenantplane_cli.kube import Kube
from tenantplane_cli.rest import Rest

world = conftest.world
operator = conftest.operator

RBAC = "rbac.authorization.k8s.io"
NAME, SPACE = "plant", "tenant-plant"
KEY_TEXT = "upstream-credential-0123456789"
TENANT: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": "Tenant",
    "metadata": {"name": NAME},
    "spec": {
        "tenantID": "plant-00000001",
        "displayName": "Plant",
        "plan": "default",
        "access": {"admins": [{"kind": "User", "name": "paula"}], "viewers": [{"kind": "Group", "name": "readers"}]},
        "quota": {"requests.memory": "8Gi"},
        "network": {"egress": {"internet": True}, "ingress": {"namespaces": ["monitoring"]}},
        "auth": {"apiKeys": [{"name": "app", "owner": "paula@plant.example"}]},
        "models": [{"alias": "small", "ref": {"name": "upstream", "namespace": SPACE}}],
        "assistants": [{"name": "helper", "model": "small"}],
    },
}
KEY = {
    "apiVersion": names.API_VERSION,
    "kind": "APIKey",
    "metadata": {"name": "batch", "namespace": SPACE},
    "spec": {"owner": "batch@plant.example"},
}
MODEL = {
    "apiVersion": names.API_VERSION,
    "kind": "ModelDeployment",
    "metadata": {"name": "upstream", "namespace": SPACE},
    "spec": {
        "engine": {"type": "External"},
        "external": {
            "baseURL": "https://engine.example/v1",
            "auth": {"secretRef": {"name": "upstream-key", "key": "token"}},
        },
    },
}
_SERVER = ("uid", "resourceVersion", "managedFields", "generation", "creationTimestamp")


class Person:
    """Somebody who plans."""

    def __init__(self, world: World, folder: Path, kubeconfig: Path) -> None:
        self.world = world
        self.folder = folder
        self.kubeconfig = kubeconfig
        self.platform = world.platform_file()

    def plan(self, *objects: Any, output: str = "diff", code: int, offline: bool = False) -> str:
        """Plan objects; standard output."""
        file = self.folder / "plan.yaml"
        file.write_text(yaml.safe_dump_all(objects))
        where: list[str | Path] = ["--offline"] if offline else ["--kubeconfig", self.kubeconfig]
        done = self.run("plan", file, "-o", output, "--platform", self.platform, *where)
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        assert KEY_TEXT not in done.stdout + done.stderr
        return done.stdout

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The command line, in this process."""
        return here(*arguments, home=self.folder)

    def actions(self, *objects: Any, code: int) -> dict[str, str]:
        """Action by kind and name, without what is unchanged."""
        value = json.loads(self.plan(*objects, output="json", code=code))
        found = [item for plan in value["plans"] for item in plan["objects"] if item["action"] != "none"]
        return {f"{item['kind']}/{item['name']}": item["action"] for item in found}


@pytest.fixture(scope="module")
def admin(world: World, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return Person(world, tmp_path_factory.mktemp("admin"), world.cluster.kubeconfig)


def _planned(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(obj["kind"], obj["metadata"]["name"]): obj for obj in yaml.safe_load_all(text) if obj}


def _clean(obj: dict[str, Any]) -> dict[str, Any]:
    meta = {key: value for key, value in obj["metadata"].items() if key not in _SERVER}
    meta["annotations"] = {k: v for k, v in meta["annotations"].items() if k != names.ANNOTATION_APPLIED_HASH}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": meta}


def _matches(planned: Any, real: Any) -> bool:
    """True when they are equal, but for what the plan says that it cannot know."""
    if isinstance(planned, str) and planned.startswith("("):
        return isinstance(real, str)
    if isinstance(planned, dict) and isinstance(real, dict):
        return planned.keys() == real.keys() and all(_matches(planned[key], real[key]) for key in planned)
    if isinstance(planned, list) and isinstance(real, list):
        return len(planned) == len(real) and all(map(_matches, planned, real))
    return bool(planned == real)


def test_what_is_planned_is_what_is_made(world: World, operator: Operator, admin: Person) -> None:
    predicted = _planned(admin.plan(TENANT, KEY, MODEL, output="yaml", offline=True, code=0))
    # With a cluster that has nothing of it, everything is new.
    actions = admin.actions(TENANT, KEY, MODEL, code=2)
    assert set(actions.values()) <= {"create"}
    assert actions["Tenant/plant"] == actions["Namespace/tenant-plant"] == actions["Secret/t.plant"] == "create"

    world.tenant(NAME, **TENANT["spec"])
    world.await_condition("Tenant", NAME, "NamespaceReady", "True", target=3)
    world.create("Secret", "upstream-key", SPACE, stringData={"token": KEY_TEXT})
    world.create("ModelDeployment", "upstream", SPACE, spec=MODEL["spec"])
    world.create("APIKey", "batch", SPACE, spec=KEY["spec"])
    world.await_condition("APIKey", "batch", "Ready", "True", ns=SPACE, target=3)
    world.await_condition("Tenant", NAME, "ModelsReady", "True", target=3)
    world.await_ready(NAME)

    real: dict[tuple[str, str], dict[str, Any]] = {("Namespace", SPACE): world.get("Namespace", SPACE) or {}}
    for kind in CHILDREN:
        for item in world.items(kind, SPACE):
            if names.LABEL_TENANT in item["metadata"].get("labels", {}):
                real[kind, item["metadata"]["name"]] = item
    children = {key: obj for key, obj in predicted.items() if key[0] != "Secret"}
    assert children.keys() == real.keys()
    for key, obj in children.items():
        seen = _clean(real[key])
        labels = {k: v for k, v in seen["metadata"]["labels"].items() if k != names.LABEL_NAMESPACE_NAME}
        assert obj["metadata"]["labels"] == labels, key
        assert obj["metadata"]["annotations"] == seen["metadata"]["annotations"], key
        for part in set(obj) - {"apiVersion", "kind", "metadata"}:
            assert _matches(obj[part], _canonical(key[0], seen[part], obj[part])), (key, part, obj[part], seen[part])
    # The Secrets: names and labels, and never a text.
    for name, space in (("app", SPACE), ("batch", SPACE), ("t.plant", names.NAMESPACE_RUNTIME)):
        secret = world.get("Secret", name, space)
        assert secret is not None
        assert predicted["Secret", name]["metadata"]["labels"] == secret["metadata"]["labels"]
        assert predicted["Secret", name]["type"] == secret["type"]
    assert ("Secret", f"m.{SPACE}.upstream") in predicted

    # Everything is there: nothing would change.
    assert admin.actions(TENANT, KEY, MODEL, code=0) == {}


def _canonical(kind: str, real: Any, planned: Any) -> Any:
    """As it was written: the API server rewrites a quota of `4000m` as `4`, and fills in the schema's defaults."""
    if kind == "APIKey":
        return {key: value for key, value in real.items() if key in planned or value is not False}
    if kind == "ResourceQuota":
        assert real["hard"].keys() == planned["hard"].keys()
        assert real["hard"]["requests.cpu"] == "4"
        return {**real, "hard": {**real["hard"], "requests.cpu": planned["hard"]["requests.cpu"]}}
    return real


def test_a_change_is_shown_and_nothing_else(world: World, operator: Operator, admin: Person) -> None:
    changed = json.loads(json.dumps(TENANT))
    changed["spec"]["access"]["admins"] = [{"kind": "User", "name": "petra"}]
    changed["spec"]["access"].pop("viewers")
    actions = admin.actions(changed, code=2)
    assert actions == {
        "Tenant/plant": "update",
        "RoleBinding/tenantplane-admins": "update",
        "RoleBinding/tenantplane-viewers": "delete",
    }
    shown = admin.plan(changed, code=2)
    lines = [line for line in shown.splitlines() if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))]
    assert "-  name: paula" in lines
    assert "+  name: petra" in lines
    assert not any("quota" in line.lower() for line in lines)
    # The API server was asked, and by dry run nothing was written.
    assert admin.actions(TENANT, code=0) == {}
    # Somebody who may not write those objects is told the same, computed here.
    rights = {
        "metadata": {"name": "test-pat"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "tenantplane-platform-admin"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "pat"}],
    }
    bindings = f"/apis/{RBAC}/v1/clusterrolebindings"
    assert world.call("POST", bindings, rights)[0] == 201
    pat = Person(world, admin.folder, world.cluster.persona("pat").kubeconfig)
    told = wait(lambda: _quietly(lambda: pat.plan(changed, code=2)), "pat may plan", target=2)[0]
    assert "changes are computed here and not by the API server" in told
    changes = [line for line in told.splitlines() if not line.startswith("#")]
    assert changes == [line for line in shown.splitlines() if not line.startswith("#")]
    world.call("DELETE", f"{bindings}/test-pat")

    # What the operator makes of it is what was planned.
    predicted = _planned(admin.plan(changed, output="yaml", code=2))
    world.patch("Tenant", NAME, spec={"access": {"admins": changed["spec"]["access"]["admins"], "viewers": None}})
    generation = (world.get("Tenant", NAME) or {})["metadata"]["generation"]
    _await_observed(world, generation)
    binding = world.get("RoleBinding", "tenantplane-admins", SPACE)
    assert binding is not None
    assert predicted["RoleBinding", "tenantplane-admins"]["subjects"] == binding["subjects"]
    assert admin.actions(changed, code=0) == {}


def _quietly(look: Callable[[], str]) -> str:
    """What it gives, empty while a fresh binding is not in force yet."""
    try:
        return look()
    except AssertionError:
        return ""


def _await_observed(world: World, generation: int) -> None:
    def seen() -> bool:
        status = (world.get("Tenant", NAME) or {}).get("status", {})
        return bool(status.get("observedGeneration") == generation)

    wait(seen, "the change was reconciled", target=2)


# Status.


def _tree(person: Person, *arguments: str | Path, code: int = 0) -> str:
    done = person.run("status", *arguments, "--kubeconfig", person.kubeconfig)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_status_shows_everything_that_belongs_to_a_tenant(world: World, operator: Operator, admin: Person) -> None:
    hashes = [item["status"]["hash"] for item in world.items("APIKey", SPACE)]
    shown = _tree(admin, NAME)
    for text in (
        "tenant plant (Plant): Ready",
        "✓ NetworkReady",
        f"✓ Namespace {SPACE}: Pod Security restricted",
        "ResourceQuota tenantplane",
        "✓ LimitRange tenantplane",
        f"✓ NetworkPolicy {names.CHILD_NETWORK_POLICY_DENY}: Ingress/Egress",
        "RoleBinding tenantplane-admins: tenantplane-tenant-admin: User petra",
        "ServiceAccount tenant",
        "✓ ModelDeployment upstream: Available",
        f"✓ small -> {SPACE}/upstream",
        "last events",
        "Tenant/plant",
    ):
        assert text in shown, (text, shown)
    for digest in hashes:
        assert digest not in shown
    value = json.loads(_tree(admin, NAME, "-o", "json"))
    assert value["ready"] is True
    assert {child["kind"] for child in value["children"]} >= {"Namespace", "ResourceQuota", "NetworkPolicy"}
    assert not any(digest in json.dumps(value) for digest in hashes)

    # A policy that somebody deletes is missed at once; the operator puts it back, so it is asked of a frozen one.
    with operator_frozen(operator):
        _delete(world, "NetworkPolicy", names.CHILD_NETWORK_POLICY_DENY)
        assert f"✗ NetworkPolicy {names.CHILD_NETWORK_POLICY_DENY}: is missing" in _tree(admin, NAME)
        assert admin.actions(_present(world), code=2)["NetworkPolicy/" + names.CHILD_NETWORK_POLICY_DENY] == "create"
    wait(lambda: world.get("NetworkPolicy", names.CHILD_NETWORK_POLICY_DENY, SPACE), "the policy is back", target=3)


@contextlib.contextmanager
def operator_frozen(operator: Operator) -> Iterator[None]:
    """The operator stands still for the time of a block."""
    operator.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        operator.process.send_signal(signal.SIGCONT)


def _delete(world: World, kind: str, name: str) -> None:
    world.delete(kind, name, SPACE)
    wait(lambda: world.get(kind, name, SPACE) is None, f"{kind} {name} is gone")


def _present(world: World) -> dict[str, Any]:
    found = world.get("Tenant", NAME)
    assert found is not None
    return {**TENANT, "spec": found["spec"]}


def test_status_for_those_who_may_see_less(world: World, operator: Operator, tmp_path: Path) -> None:
    petra = Person(world, tmp_path, world.cluster.persona("petra").kubeconfig)
    shown = _tree(petra, NAME)
    assert "tenant plant (Plant): Ready" in shown
    assert f"✓ NetworkPolicy {names.CHILD_NETWORK_POLICY_DENY}" in shown
    assert "batch" in shown
    # Their own namespace and no other; the list of all is not theirs.
    assert "you may read neither Tenants nor namespace tenant-other" in _tree(petra, "other", code=1)
    assert "you may not do that" in _tree(petra, code=1)

    # What a fence would refuse of their apply, the plan refuses; their own key is compared, and nothing would change.
    assert petra.actions(KEY, code=0) == {}
    meta = {"name": "new", "namespace": SPACE}
    new, forged = ({**KEY, "metadata": each} for each in (meta, {**meta, "labels": {names.LABEL_TENANT: "other"}}))
    assert "ValidatingAdmissionPolicy" in petra.plan(forged, code=1)
    assert petra.actions(new, code=2) == {"APIKey/new": "create", "Secret/new": "create"}

    stranger = Person(world, tmp_path, world.cluster.persona("stranger").kubeconfig)
    refused = _tree(stranger, NAME, code=1)
    assert "you may read neither Tenants nor namespace" in refused
    assert "Pod Security" not in refused


def test_unknown_and_broken_tenants(world: World, operator: Operator, admin: Person) -> None:
    assert "there is no Tenant 'plantt'; is it plant?" in _tree(admin, "plantt", code=1)
    done = admin.run("keys", "list", "--tenant", "plantt", "--kubeconfig", admin.kubeconfig)
    assert "there is no Tenant 'plantt'; is it plant?" in done.stderr
    done = admin.run("status", "plant", "--kubeconfig", admin.kubeconfig, "--context", "prod")
    assert "the kubeconfig has no context 'prod'; there: tenantplane" in done.stderr

    broken = {**TENANT, "metadata": {"name": "broken"}, "spec": {"tenantID": "broken-00000001", "plan": "gold"}}
    # What would be refused is told before it is applied...
    assert "STALLED: RuntimePublished is False: UnknownPlan: spec.plan" in admin.plan(broken, code=1)
    rival = {**TENANT, "metadata": {"name": "rival"}, "spec": {"tenantID": TENANT["spec"]["tenantID"]}}
    assert "DuplicateTenantID" in admin.plan(rival, code=1)
    # ... by the API server too, whose rules span more than types.
    doubled = json.loads(json.dumps(TENANT))
    doubled["spec"]["tenantID"] = "plant-00000002"
    assert "the API server refuses it" in admin.plan(doubled, code=1)
    world.tenant("broken", **broken["spec"])
    world.await_condition("Tenant", "broken", "Stalled", "True", "UnknownPlan")
    assert "UnknownPlan: spec.plan: there is no plan 'gold'" in _tree(admin, "broken", code=1)
    table = _tree(admin, code=1)
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [["broken", "no"], ["plant", "yes"]]


def test_columns_of_kubectl_get(world: World, operator: Operator, admin: Person) -> None:
    expected = {
        "tenants": (["Name", "Ready", "Plan", "Namespace", "Models", "Age"], {"Reason"}, "ten"),
        "apikeys": (["Name", "Ready"], {"Reason"}, "tpk"),
        "modeldeployments": (["Name", "Ready"], {"Reason"}, "mdl"),
    }
    resources = world.admin.call("GET", f"/apis/{names.API_VERSION}")[1]["resources"]
    short = {item["name"]: item.get("shortNames") for item in resources}
    for plural, (shown, wide, alias) in expected.items():
        assert short[plural] == [alias]
        status, table = world.admin.call(
            "GET",
            f"/apis/{names.API_VERSION}/{plural}",
            headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"},
        )
        assert status == 200, table
        columns = table["columnDefinitions"]
        visible = [column["name"] for column in columns if column["priority"] == 0]
        assert [name for name in visible if name in shown] == shown
        assert wide <= {column["name"] for column in columns if column["priority"] == 1}
        assert all(column["description"] for column in columns)
        if plural == "tenants":
            names_ = [column["name"] for column in columns]
            rows = {row["cells"][0]: dict(zip(names_, row["cells"], strict=True)) for row in table["rows"]}
            assert (
                rows["plant"] | {"Ready": "True", "Plan": "default", "Namespace": SPACE, "Models": "1/1"}
                == rows["plant"]
            )
            assert rows["broken"]["Reason"] == "UnknownPlan"


# Doctor.


def _doctor(person: Person, *arguments: str | Path, code: int) -> dict[str, dict[str, str]]:
    done = person.run("doctor", "-o", "json", "--kubeconfig", person.kubeconfig, *arguments)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    found = {item["check"]: item for item in json.loads(done.stdout)["findings"]}
    assert all(item.get("mend") or item["verdict"] in ("OK", "SKIP") for item in found.values())
    return found


def test_doctor_finds_a_sound_installation_sound(world: World, operator: Operator, admin: Person) -> None:
    found = _doctor(admin, "--probe", "--probe-image", "python", "--probe-timeout", "1", code=2)
    verdicts = {check: item["verdict"] for check, item in found.items()}
    assert "FAIL" not in verdicts.values(), found
    for check in (
        "api server",
        "platform file",
        "rbac",
        "operator rights",
        "fences",
        "operator lease",
        "runtime documents",
    ):
        assert verdicts[check] == "OK", found[check]
    for fence in ("operator", "runtime", "tenant"):
        assert verdicts[f"in force: tenantplane-{fence}-fence"] == "OK", found
    assert verdicts["crd tenants.tenantplane.dev"] == "OK"
    # The programs run outside, and a Tenant is stalled: said, and not an error.
    assert verdicts["deployment tenantplane-operator"] == verdicts["tenants"] == "WARN"
    assert verdicts["redis"] == "SKIP"
    # No kubelet runs pods here: nothing is concluded, and nothing is left.
    assert verdicts["network policies"] == "SKIP"
    assert "is there a node" in found["network policies"]["text"]
    _await_no_probe(world)


def test_doctor_tells_what_is_held_back(world: World, operator: Operator, admin: Person) -> None:
    held = f"/api/v1/namespaces/{names.NAMESPACE_SYSTEM}/configmaps/{names.CONFIG_MAP_HELD}"
    entry = f"{names.HELD_PREFIX}m.{SPACE}.big"
    with Kube(admin.kubeconfig) as kube, operator_frozen(operator):
        assert _verdict(programs.mass_deletion(kube, Platform()), "") is Verdict.OK
        kube.merge(held, {"data": {entry: "ModelDeployment big since 2026-01-01T00:00:00Z"}})
        (found,) = programs.mass_deletion(kube, Platform())
        kube.merge(held, {"data": {entry: None}})
    assert (found.verdict, f"m.{SPACE}.big" in found.text) == (Verdict.WARN, True)
    assert "tenantplane release --confirm" in found.mend


def test_doctor_for_somebody_without_rights_concludes_nothing(world: World, operator: Operator, tmp_path: Path) -> None:
    stranger = Person(world, tmp_path, world.cluster.persona("stranger").kubeconfig)
    found = _doctor(stranger, code=0)
    assert {item["verdict"] for check, item in found.items() if check != "api server"} == {"SKIP"}


def test_doctor_sees_what_is_gone(world: World, operator: Operator, admin: Person) -> None:
    bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
    with Kube(admin.kubeconfig) as kube:
        with removed(world, f"{bindings}/{fences.TENANT_FENCE}"):
            assert any("not bound" in each.text for each in fences.present(kube))
            wait(
                lambda: _verdict(fences.in_force(kube, Platform()), fences.TENANT_FENCE) is Verdict.FAIL,
                "seen",
                target=2,
            )
        with removed(world, f"{bindings}/{fences.OPERATOR_FENCE}"):
            wait(
                lambda: _verdict(fences.in_force(kube, Platform()), fences.OPERATOR_FENCE) is Verdict.FAIL,
                "seen",
                target=2,
            )
        wait(lambda: {each.verdict for each in fences.in_force(kube, Platform())} == {Verdict.OK}, "mended", target=2)
        role = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
        bypass = {
            "metadata": {"name": "test-bypass"},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "tenantplane-fence-bypass"},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "petra"}],
        }
        assert world.call("POST", role, bypass)[0] == 201
        # The tenant's only admin may pass the fence now: that says nothing about the fence.
        wait(lambda: _verdict(fences.in_force(kube, Platform()), fences.TENANT_FENCE) is Verdict.SKIP, "seen", target=2)
        world.call("DELETE", f"{role}/test-bypass")
        with removed(world, f"{role}/tenantplane-fence-bypass"):
            assert _verdict(install.roles(kube), "") is Verdict.FAIL
            wait(lambda: _verdict(install.operator_rights(kube, Platform()), "") is Verdict.FAIL, "seen", target=2)
        excess = {
            "metadata": {"name": "test-excess"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [
                {"kind": "ServiceAccount", "name": "tenantplane-operator", "namespace": names.NAMESPACE_SYSTEM}
            ],
        }
        assert world.call("POST", role, excess)[0] == 201
        try:
            wait(
                lambda: any("which no operator" in each.text for each in install.operator_rights(kube, Platform())),
                "the excess is seen",
                target=2,
            )
        finally:
            world.call("DELETE", f"{role}/test-excess")


def _verdict(found: Iterator[Finding], part: str) -> Verdict:
    return next(each.verdict for each in found if part in each.check)


@contextlib.contextmanager
def removed(world: World, path: str) -> Iterator[None]:
    """An object is away for the time of a block."""
    status, obj = world.call("GET", path)
    assert status == 200, obj
    world.call("DELETE", path)
    try:
        yield
    finally:
        kept = {key: value for key, value in obj["metadata"].items() if key in ("name", "labels", "annotations")}
        assert world.call("POST", path.rpartition("/")[0], {**obj, "metadata": kept})[0] == 201


class FakeKubelet:
    """Marks pods of the probe as a node would; ``script`` gives a client's exit code by its namespace and name."""

    def __init__(self, world: World, script: Callable[[str, str], int]) -> None:
        self.rest = Rest(world.cluster.kubeconfig)
        self.script = script
        self.seen: list[dict[str, Any]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> FakeKubelet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)
        self.rest.close()

    def _run(self) -> None:
        done: set[str] = set()
        while not self._ended.wait(0.2):
            query = {"labelSelector": probe.LABEL}
            for pod in self.rest.call("GET", "/api/v1/pods", query=query)[1].get("items", []):
                meta = pod["metadata"]
                if meta["uid"] in done:
                    continue
                status = self._status(meta["namespace"], meta["name"], len(done))
                path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
                patch = "application/merge-patch+json"
                if self.rest.call("PATCH", path, {"status": status}, content_type=patch)[0] == 200:
                    done.add(meta["uid"])
                    self.seen.append(pod)

    def _status(self, namespace: str, name: str, number: int) -> dict[str, Any]:
        if name == "server":
            address = f"10.9.0.{number + 1}"
            return {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        code = self.script(namespace, name)
        ended = {"name": "probe", "ready": False, "restartCount": 0, "image": "i", "imageID": "i"}
        state = {"terminated": {"exitCode": code, "startedAt": None, "finishedAt": None}}
        return {"phase": "Failed" if code else "Succeeded", "containerStatuses": [{**ended, "state": state}]}


def _probe(world: World, script: Callable[[str, str], int]) -> tuple[Finding, list[dict[str, Any]]]:
    with Kube(world.cluster.kubeconfig) as kube, FakeKubelet(world, script) as kubelet:
        (found,) = probe.Probe(kube, Platform(), "registry.example/python:1", timeout=40).look()
    _await_no_probe(world)
    return found, kubelet.seen


def _await_no_probe(world: World) -> None:
    def gone() -> bool:
        query = {"labelSelector": probe.LABEL}
        return not world.admin.call("GET", "/api/v1/namespaces", query=query)[1]["items"]

    wait(gone, "the probe's namespaces are gone", target=6)


@pytest.mark.slow
def test_probe_concludes_from_what_pods_saw(world: World, operator: Operator) -> None:
    near, both = probe.ONLY_THE_NEAR, probe.BOTH_ANSWERED
    started = time.monotonic()
    enforced, pods = _probe(world, lambda *_: near)
    assert enforced.verdict is Verdict.OK, enforced
    assert time.monotonic() - started < 400
    clients = {pod["metadata"]["namespace"][-6:]: pod for pod in pods if pod["metadata"]["name"] == "client-0"}
    near_and_far = [pod["spec"]["containers"][0]["command"][3:] for pod in clients.values()]
    assert sorted(near_and_far[0]) == sorted(near_and_far[1])
    assert near_and_far[0] != near_and_far[1]

    open_inwards, pods = _probe(world, lambda space, _: both if space.endswith("-open") else near)
    assert open_inwards.verdict is Verdict.FAIL
    assert "a pod of another namespace reached a fenced pod" in open_inwards.text
    # It was asked again before it was believed.
    assert len([pod for pod in pods if pod["metadata"]["name"].startswith("client")]) == 4
