"""`tenantplane plan` without a cluster: what it prints, what it hides, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.processes import here

from tenantplane_api.runtime import names
from tenantplane_cli.plan.compare import Action, Change, applied, shown
from tenantplane_cli.plan.predict import redacted
from tenantplane_cli.plan.render import as_diff, dumped
from tenantplane_operator.runtime.resources import ObjectKey

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
    from tenantplane_cli.plan.compare import Plan
    from tenantplane_cli.plan.predict import Outlook

    obj = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "x\x1b[2Jy"}}
    change = Change(Action.CREATE, ObjectKey("ConfigMap", "n", "c"), None, obj)
    plain = "\n".join(as_diff([Plan(Outlook("Tenant a"), [change])], colour=False))
    assert "\x1b" not in plain
    assert "+++ planned/ConfigMap/n/c" in plain
    painted = "\n".join(as_diff([Plan(Outlook("Tenant a"), [change])], colour=True))
    assert "\x1b[32m+" in painted
    assert "\x1b[2J" not in painted
