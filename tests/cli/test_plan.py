"""`tenantplane plan` without a cluster: what it prints, what it hides, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.processes import here

from tenantplane_api.runtime import names
from tenantplane_api.runtime.platform import Platform
from tenantplane_cli.kube import KubeError
from tenantplane_cli.plan.compare import Action, Change, Plan, _child, applied, shown
from tenantplane_cli.plan.facts import InCluster
from tenantplane_cli.plan.known import Known
from tenantplane_cli.plan.predict import Outlook, Wanted, redacted, tenant_outlook
from tenantplane_cli.plan.render import as_diff, dumped
from tenantplane_cli.up.load import Key, Loaded
from tenantplane_operator.runtime.resources import ObjectKey, key_of
from tenantplane_operator.tenant.identity import claim_of

TENANT: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": "Tenant",
    "metadata": {"name": "acme"},
    "spec": {"tenantID": "acme-00000001", "displayName": "Acme"},
}


def plan(home: Path, *arguments: str | Path, stdin: str = "") -> Any:
    return here("plan", *arguments, home=home, stdin=stdin)


def test_every_child_as_yaml_from_a_file_a_folder_and_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "in" / "acme.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(TENANT))
    outputs = []
    for source, stdin in ((file, ""), (file.parent, ""), ("-", file.read_text())):
        done = plan(tmp_path, source, stdin=stdin)
        assert done.returncode == 0, done.stderr
        outputs.append([obj for obj in yaml.safe_load_all(done.stdout) if obj])
    assert outputs[0] == outputs[1] == outputs[2]
    kinds = [obj["kind"] for obj in outputs[0]]
    assert kinds[0] == "Namespace"
    assert {"NetworkPolicy", "RoleBinding", "ServiceAccount", "APIKey", "Secret", "ConfigMap"} <= set(kinds)
    # Valid manifests of known kinds: whoever wants to may apply all but what only the operator can make.
    assert all(obj["apiVersion"] and obj["metadata"]["name"] for obj in outputs[0])
    assert "offline: nothing was compared" in done.stdout


def test_json_for_scripts(tmp_path: Path) -> None:
    done = plan(tmp_path, "-", "--offline", "-o", "json", stdin=yaml.safe_dump(TENANT))
    value = json.loads(done.stdout)
    assert (value["compared"], value["changed"], value["stalled"]) == (False, False, False)
    assert {item["action"] for item in value["plans"][0]["objects"]} == {"unknown"}


def test_a_folders_own_platform_file_counts(tmp_path: Path) -> None:
    (tmp_path / "tenant.yaml").write_text(yaml.safe_dump(TENANT))
    (tmp_path / "platform.yaml").write_text(
        yaml.safe_dump({"operator": {"plans": {"default": {"quota": {"pods": "7"}}}}})
    )
    done = plan(tmp_path, tmp_path)
    assert "platform.yaml" in done.stdout.splitlines()[0]
    quota = next(obj for obj in yaml.safe_load_all(done.stdout) if obj and obj["kind"] == "ResourceQuota")
    assert quota["spec"]["hard"]["pods"] == "7"
    (tmp_path / "platform.yaml").write_text("operator: {plans: {default: {qouta: {}}}}")
    done = plan(tmp_path, tmp_path)
    assert done.returncode == 1
    assert "platform.yaml" in done.stderr
    assert "qouta" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tenantID": "x"}, "spec.tenantID"),
        ({"unknownField": 1}, "spec.unknownField: there is no such field"),
        ({"plan": "gold"}, "UnknownPlan: spec.plan: there is no plan 'gold'"),
        ({"namespace": {"name": "kube-system"}}, "NamespaceReserved: spec.namespace.name"),
        ({"access": {"admins": [{"kind": "Group", "name": "system:authenticated"}]}}, "SubjectDenied: spec.access"),
    ],
)
def test_what_would_be_refused_is_an_error_that_names_the_field(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    spec = {**TENANT["spec"], **change}
    done = plan(tmp_path, "-", "--offline", stdin=yaml.safe_dump({**TENANT, "spec": spec}))
    assert done.returncode == 1
    assert words in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["/nowhere"], "", "/nowhere: cannot be read"),
        (["-"], "a: [b", "standard input: is not YAML"),
        (["-"], "", "there is no Tenant, APIKey or ModelDeployment"),
        (["-"], "kind: Pod\nmetadata: {name: x}\n", "apiVersion and kind are needed"),
        (
            ["-"],
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n",
            "there is no Tenant, APIKey or ModelDeployment",
        ),
        (["-", "--offline", "-o", "diff"], yaml.safe_dump(TENANT), "-o diff needs a cluster"),
        (["-", "-o", "diff"], yaml.safe_dump(TENANT), "-o diff needs a cluster"),
        (["-", "--offline", "--context", "x"], yaml.safe_dump(TENANT), "--offline asks no cluster"),
        (["-", "--platform", "/nowhere"], yaml.safe_dump(TENANT), "/nowhere: cannot be read"),
        (["-", "--bogus"], "", "No such option"),
    ],
)
def test_errors_exit_with_1_because_2_says_that_something_would_change(
    tmp_path: Path, arguments: list[str], stdin: str, words: str
) -> None:
    done = plan(tmp_path, *arguments, stdin=stdin)
    assert done.returncode == 1, done.stdout
    assert words in done.stderr


def test_nothing_secret_is_shown() -> None:
    external = {"baseURL": "https://e", "apiKey": "topsecret"}
    document: dict[str, Any] = {"name": "x", "spec": {"keys": [{"hash": "sha256:12", "id": "a"}], "external": external}}
    hidden = json.dumps(redacted(document))
    assert "sha256:12" not in hidden
    assert "topsecret" not in hidden
    assert "https://e" in hidden
    assert external["apiKey"] == "topsecret"
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"token": "dG9wc2VjcmV0"}}
    assert "dG9wc2VjcmV0" not in dumped(shown(secret))


def _live(owned: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {"f:spec": {"f:hard": {f"f:{name}": {} for name in owned}}}
    entry = {"manager": names.MANAGER_CHILDREN, "operation": "Apply", "fieldsV1": fields}
    return {
        "kind": "ResourceQuota",
        "metadata": {"name": "q", "managedFields": [entry]},
        "spec": {"hard": {"pods": "20", "requests.cpu": "4", "foreign": "1"}},
    }


def test_an_apply_that_may_not_be_tried_is_computed_from_managed_fields() -> None:
    desired = {"kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "4000m"}}}
    after = applied(desired, _live(["pods", "requests.cpu"]))
    # What we set and no longer want goes, what others set stays, and a quantity that says the same is no change.
    assert after["spec"]["hard"] == {"requests.cpu": "4", "foreign": "1"}
    kept = applied(desired, _live(["requests.cpu"]))
    assert kept["spec"]["hard"] == {"pods": "20", "requests.cpu": "4", "foreign": "1"}
    binding = {"kind": "RoleBinding", "metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "a"}]}
    wider = {**binding, "subjects": [*binding["subjects"], {"kind": "User", "name": "mallory"}]}
    assert applied(binding, wider)["subjects"] == binding["subjects"]


def test_a_diff_cannot_control_the_terminal() -> None:
    obj = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "x\x1b[2Jy"}}
    change = Change(Action.CREATE, ObjectKey("ConfigMap", "n", "c"), None, obj)
    plain = "\n".join(as_diff([Plan(Outlook("Tenant a"), [change])], colour=False))
    assert "\x1b" not in plain
    assert "+++ planned/ConfigMap/n/c" in plain
    painted = "\n".join(as_diff([Plan(Outlook("Tenant a"), [change])], colour=True))
    assert "\x1b[32m+" in painted
    assert "\x1b[2J" not in painted


def test_without_the_operators_libraries_there_is_a_plan_all_the_same() -> None:
    """The base installation has neither aiohttp nor kopf."""
    script = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("aiohttp", "kopf"):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
from tenantplane_cli.main import main
main()
"""
    arguments = [sys.executable, "-c", script, "plan", "-", "--offline"]
    done = subprocess.run(
        arguments, input=yaml.safe_dump(TENANT), text=True, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "kind: NetworkPolicy" in done.stdout


class Cluster:
    """What `InCluster` asks of the API server: answers by verb, and how often each was asked for."""

    server = "https://cluster"

    def __init__(self, **refusals: KubeError) -> None:
        self.refusals = refusals
        self.asked: Counter[str] = Counter()

    def _do(self, verb: str, answer: Any) -> Any:
        self.asked[verb] += 1
        if verb in self.refusals:
            raise self.refusals[verb]
        return answer

    def find(self, path: str) -> None:
        return self._do(f"find {path.rpartition('/')[2]}", None)  # type: ignore[no-any-return]

    def metadata(self, path: str) -> None:
        return self._do("metadata", None)  # type: ignore[no-any-return]

    def items(self, path: str, selector: str = "") -> list[dict[str, Any]]:
        return self._do("items", [])  # type: ignore[no-any-return]

    def create(self, path: str, body: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        assert dry_run
        return self._do("create", body)  # type: ignore[no-any-return]

    def apply_dry(self, path: str, body: dict[str, Any], *, manager: str) -> dict[str, Any]:
        return self._do("apply", body)  # type: ignore[no-any-return]


def facts(**refusals: KubeError) -> InCluster:
    cluster: Any = Cluster(**refusals)
    return InCluster(cluster, runtime_namespace="tenantplane-runtime")


FENCED = "rolebindings \"b\" is forbidden: ValidatingAdmissionPolicy 'tenantplane-tenant-fence' denied request: no"
FOREIGN = "networkpolicies \"n\" is forbidden: ValidatingAdmissionPolicy 'house-rules' denied request: no"


@pytest.mark.parametrize(
    ("status", "message", "told"),
    [
        (422, "spec.alias: not unique", True),
        (403, FENCED, True),
        (403, 'admission webhook "w.example" denied the request: no', True),
        (403, 'apikeys "k" is forbidden: exceeded quota: tenantplane', True),
        (403, "User cannot create resource tenants", False),
        (409, "already exists", False),
    ],
)
def test_what_stops_an_apply_is_told_and_want_of_rights_is_not(status: int, message: str, told: bool) -> None:
    found = facts(create=KubeError(status, message)).check(TENANT, None)
    assert found == (message if told else None)


@pytest.mark.parametrize(
    ("status", "message", "refused", "noted", "asks_again"),
    [
        (422, "spec.hard: invalid quantity", True, False, True),
        (400, "strict decoding error", True, False, True),
        # Our fence refuses the person what it lets the operator do; another's policy perhaps not.
        (403, FENCED, False, False, True),
        (403, FOREIGN, False, True, True),
        (403, "User cannot patch resource networkpolicies", False, False, False),
        (503, "away", False, False, True),
    ],
)
def test_what_comes_of_the_operators_apply(
    status: int, message: str, refused: bool, noted: bool, asks_again: bool
) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "n"}, "data": {}}
    cluster: Any = Cluster(apply=KubeError(status, message))
    asked = InCluster(cluster, runtime_namespace="r")
    tried = asked.try_apply(manifest)
    assert (tried.after, bool(tried.refused), bool(tried.note)) == (None, refused, noted)
    assert not asked.asked_server
    asked.try_apply(manifest)
    assert cluster.asked["apply"] == (2 if asks_again else 1)


def test_a_child_that_the_api_server_refuses_is_stalled() -> None:
    live = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "n"}, "data": {}}
    wanted = Wanted({**live, "data": {"a": "b"}})
    asked = facts(apply=KubeError(422, "data.a: too long"))
    asked._seen[key_of(live)] = live
    outlook = Outlook("Tenant a")
    change = _child(wanted, Known(Loaded(), asked), outlook)
    assert change.action is Action.UPDATE
    assert outlook.stalled == ["the API server refuses ConfigMap n/m: data.a: too long"]


def test_what_may_not_be_read_is_an_error_and_never_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "platform.yaml").write_text("{operator: {plans: {default: {}}}}")
    hidden = {"find tenantplane-status": KubeError(403, "no")}
    for cluster, code in ((Cluster(), 2), (Cluster(**hidden), 1)):
        monkeypatch.setattr("tenantplane_cli.plan.command._connect", lambda *_, made=cluster: made)
        done = plan(tmp_path, "-", "--platform", tmp_path / "platform.yaml", stdin=yaml.safe_dump(TENANT))
        assert done.returncode == code, done.stderr
        assert ("error: not compared" in done.stderr) is (code == 1)
    assert "you may not read it: ConfigMap tenant-acme/tenantplane-status" in done.stderr


def test_a_diff_shows_no_hash_of_a_key() -> None:
    notes = {names.ANNOTATION_KEY_HASH: "sha256:12", names.ANNOTATION_KEY_ID: "abcdefgh"}
    secret = {"kind": "Secret", "metadata": {"name": "s", "namespace": "n", "annotations": notes}}
    gone = Change(Action.DELETE, ObjectKey("Secret", "n", "s"), shown(secret), None)
    text = "\n".join(as_diff([Plan(Outlook("APIKey n/s"), [gone])], colour=False))
    assert "abcdefgh" in text
    assert "sha256" not in text


def folder_of(count: int) -> Loaded:
    loaded = Loaded()
    for number in range(count):
        spec = {"tenantID": f"acme-{number:08}", "displayName": "Acme"}
        loaded.objects[Key("Tenant", "", f"t{number}")] = {
            **TENANT,
            "metadata": {"name": f"t{number}"},
            "spec": {**spec, "network": {"ingress": {"namespaces": [f"tenant-t{number + 1}", "monitoring"]}}},
        }
    return loaded


def test_a_plan_looks_at_each_object_of_a_folder_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not at all of them for each: a thousand tenants would be a million looks."""
    counted: Counter[str] = Counter()

    def claim(obj: dict[str, Any]) -> Any:
        counted[obj["metadata"]["name"]] += 1
        return claim_of(obj)

    monkeypatch.setattr("tenantplane_cli.plan.known.claim_of", claim)
    loaded = folder_of(12)
    known = Known(loaded, facts())
    for obj in loaded.of("Tenant"):
        tenant_outlook(obj, known, Platform())
    assert set(counted.values()) == {1}
    assert known.belongs_to_another("tenant-t1", "t0")
    assert not known.belongs_to_another("tenant-t1", "t1")
    assert not known.belongs_to_another("monitoring", "t1")


def test_a_namespace_is_its_tenants_by_label_and_tenant_id() -> None:
    def owner(marks: str | None, *, loaded: Loaded | None = None, refusal: KubeError | None = None) -> str | None:
        asked = facts(**({} if refusal is None else {"find t0": refusal}))
        annotations = {names.ANNOTATION_TENANT_ID: marks} if marks else {}
        labels = {names.LABEL_TENANT: "t0"} if marks else {}
        space = {"metadata": {"name": "tenant-t0", "labels": labels, "annotations": annotations}}
        asked._seen[ObjectKey("Namespace", "", "tenant-t0")] = space
        found = Known(folder_of(1) if loaded is None else loaded, asked).owner("tenant-t0")
        return None if found is None else found.tenant_id

    assert owner("acme-00000000") == "acme-00000000"
    assert owner(None) == "acme-00000000"
    # Another customer's, and one whose Tenant is gone: as the operator sees it, nobody's keys are made there.
    assert owner("acme-00000009") is None
    assert owner("acme-00000000", loaded=Loaded()) is None
    # A tenant's own people may not read Tenants.
    assert owner("acme-00000000", loaded=Loaded(), refusal=KubeError(403, "no")) == "acme-00000000"
