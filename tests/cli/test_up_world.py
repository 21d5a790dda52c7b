"""From a folder of YAML to documents, keys and states, by the operator's own builders."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from tenantplane_api.runtime import documents
from tenantplane_api.runtime.keys import hash_key, parse_key
from tenantplane_cli.output import CliError
from tenantplane_cli.up.load import load
from tenantplane_cli.up.platformfile import default_platform, read_platform, with_extractive
from tenantplane_cli.up.state import State, choose, running_or_fail
from tenantplane_cli.up.world import Result, World

HEAD = "apiVersion: tenantplane.dev/v1alpha1\n"


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(tmp_path / "state")
    made.open()
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "yaml"
    made.mkdir()
    for name in ("a", "b"):
        tenant(made, name)
    return made


def tenant(folder: Path, name: str, spec: str = "") -> None:
    (folder / f"{name}.yaml").write_text(
        f"{HEAD}kind: Tenant\nmetadata: {{name: {name}}}\nspec: {{tenantID: {name}-12345678{spec}}}\n"
    )


def compile_folder(folder: Path, state: State, world: World | None = None) -> Result:
    platform = read_platform(folder, state, public_url="http://127.0.0.1:1")
    loaded = load(folder)
    assert loaded.problems == []
    with_extractive(loaded, platform)
    return (world or World(state)).compile(loaded, platform, {})


def document(result: Result, name: str) -> Any:
    return documents.decode_tenant(result.documents[f"t.{name}.json"], document_name=f"t.{name}")


def hashes(result: Result, name: str) -> set[str]:
    return {entry.hash for entry in document(result, name).spec.keys}


def test_the_smallest_tenant_gets_key_model_and_document(folder: Path, state: State) -> None:
    result = compile_folder(folder, state)
    assert set(result.documents) == {"t.a.json", "t.b.json", "m.tenantplane-models.extractive.json"}
    found = document(result, "a")
    assert [alias.alias for alias in found.spec.models] == ["default"]
    assert found.spec.limits.requests_per_minute == 600
    assert result.tenants["a"].entry["ready"] is True
    assert not hashes(result, "a") & hashes(result, "b")


def test_keys_are_kept_in_a_private_file_and_never_in_a_document(folder: Path, state: State) -> None:
    result = compile_folder(folder, state)
    text = state.read("keys.json")["a-12345678"]["default"]["text"]
    assert hashes(result, "a") == {parse_key(text).digest} == {hash_key(text)}
    assert stat.S_IMODE(state.keys_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.folder.stat().st_mode) == 0o700
    assert all(text.encode() not in data for data in result.documents.values())
    assert text not in str([found.entry for found in result.tenants.values()])
    assert hashes(compile_folder(folder, state), "a") == hashes(result, "a"), "a restart keeps the key"


def test_a_revoked_key_is_out_and_stays_out(folder: Path, state: State) -> None:
    key = folder / "key.yaml"
    manifest = HEAD + "kind: APIKey\nmetadata: {name: ci, namespace: tenant-a}\nspec: {revoked: %s}\n"
    key.write_text(manifest % "false")
    before = hashes(compile_folder(folder, state), "a")
    assert len(before) == 2
    key.write_text(manifest % "true")
    revoked = compile_folder(folder, state)
    assert len(hashes(revoked, "a")) == 1
    assert "text" not in state.read("keys.json")["a-12345678"]["ci"]
    key.write_text(manifest % "false")
    assert hashes(compile_folder(folder, state), "a") == hashes(revoked, "a"), "there is no way back"
    entry = {row["name"]: row["state"] for row in compile_folder(folder, state).tenants["a"].entry["keys"]}
    assert entry == {"ci": "Revoked", "default": "Ready"}


def test_a_key_is_its_tenants_only(folder: Path, state: State) -> None:
    (folder / "key.yaml").write_text(HEAD + "kind: APIKey\nmetadata: {name: ci, namespace: tenant-b}\nspec: {}\n")
    result = compile_folder(folder, state)
    assert len(hashes(result, "a")) == 1
    assert len(hashes(result, "b")) == 2


def test_a_private_model_reaches_its_own_tenant_only(folder: Path, state: State) -> None:
    (folder / "model.yaml").write_text(
        HEAD + "kind: ModelDeployment\nmetadata: {name: m, namespace: tenant-a}\nspec: {engine: {type: Extractive}}\n"
    )
    for name in ("a", "b"):
        tenant(folder, name, ", models: [{alias: mine, ref: {name: m, namespace: tenant-a}}]")
    result = compile_folder(folder, state)
    assert [alias.alias for alias in document(result, "a").spec.models] == ["mine"]
    assert document(result, "b").spec.models == ()
    assert "not shared" in str(result.tenants["b"].entry["conditions"])


def test_two_tenants_with_one_identity_do_not_both_serve(folder: Path, state: State) -> None:
    (folder / "b.yaml").write_text(f"{HEAD}kind: Tenant\nmetadata: {{name: b}}\nspec: {{tenantID: a-12345678}}\n")
    result = compile_folder(folder, state)
    assert [name for name, found in result.tenants.items() if found.entry["ready"]] == ["a"]
    assert "t.b.json" not in result.documents


def test_a_reserved_namespace_is_refused_and_others_serve(folder: Path, state: State) -> None:
    tenant(folder, "a", ", namespace: {name: kube-system}")
    result = compile_folder(folder, state)
    assert "kube-system" in result.tenants["a"].entry["message"]
    assert set(result.documents) & {"t.a.json", "t.b.json"} == {"t.b.json"}


def test_a_suspended_tenant_says_so_and_is_refused(folder: Path, state: State) -> None:
    tenant(folder, "a", ", suspend: true")
    assert document(compile_folder(folder, state), "a").spec.suspended is True


def test_what_is_not_enforced_is_said(folder: Path, state: State) -> None:
    role = "arn:aws:iam::123456789012:role/a"
    (folder / "platform.yaml").write_text(f"operator: {{aws: {{allowedRoleARNs: ['{role}']}}}}\n")
    tenant(folder, "a", f", quota: {{pods: 1}}, identity: {{aws: {{roleARN: '{role}'}}}}")
    entry = compile_folder(folder, state).tenants["a"].entry
    assert any("quota" in line for line in entry["notEnforced"])
    assert any("spec.identity" in line for line in entry["notEnforced"])
    told = {item["type"]: item["message"] for item in entry["conditions"]}
    for kind in ("QuotaReady", "IdentityReady", "NetworkReady"):
        assert told[kind] == "not enforced without Kubernetes"


def test_upstream_keys_come_from_secrets_of_the_models_namespace(folder: Path, state: State) -> None:
    model = (
        HEAD + "kind: ModelDeployment\nmetadata: {name: ext, namespace: tenantplane-models}\nspec:\n"
        "  engine: {type: External}\n  sharing: {mode: AllTenants}\n"
        "  external: {baseURL: https://api.example.com/v1, auth: {secretRef: {name: up, key: token}}}\n"
    )
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: up, namespace: %s}\nstringData: {token: sk-1}\n"
    (folder / "model.yaml").write_text(model + "---\n" + secret % "tenant-a")
    assert "m.tenantplane-models.ext.json" not in compile_folder(folder, state).documents
    (folder / "model.yaml").write_text(model + "---\n" + secret % "tenantplane-models")
    data = compile_folder(folder, state).documents["m.tenantplane-models.ext.json"]
    assert documents.decode_model(data, document_name="m.tenantplane-models.ext").spec.external == (
        documents.ExternalEndpoint(base_url="https://api.example.com/v1", api_key="sk-1")
    )


def test_a_wrong_platform_file_names_the_field(folder: Path, state: State) -> None:
    (folder / "platform.yaml").write_text("operator: {workers: many}\n")
    with pytest.raises(CliError, match=r"platform\.yaml: operator\.workers"):
        read_platform(folder, state, public_url="http://127.0.0.1:1")


def test_the_default_platform_is_the_charts() -> None:
    import yaml

    from tenantplane_api.runtime.platform import parse_platform
    from tenantplane_cli.demo.parts import CHART_VALUES

    shipped = parse_platform(yaml.safe_load(CHART_VALUES.read_text())["platform"]).operator.plans["default"]
    ours = default_platform().operator.plans["default"]
    assert (ours.models, ours.limits, ours.description) == (shipped.models, shipped.limits, shipped.description)


def test_only_one_process_runs_on_a_state_folder(state: State) -> None:
    with pytest.raises(CliError, match="another `tenantplane up` runs"):
        State(state.folder).open()
    state.write("up.json", {"tenants": {}})
    assert running_or_fail(State(state.folder)) == {"tenants": {}}
    state.close()
    with pytest.raises(CliError, match="no `tenantplane up` runs"):
        running_or_fail(State(state.folder))


def test_a_named_folder_wins_then_a_named_cluster(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "none"))
    assert choose(state.folder, cluster_named=True) is not None
    assert choose(None, cluster_named=True) is None
    assert choose(None, cluster_named=False) is None
    running = State(tmp_path / "none" / "tenantplane")
    running.open()
    running.write("up.json", {"tenants": {}})
    assert choose(None, cluster_named=False) is not None
    assert choose(None, cluster_named=True) is None
    running.close()


def test_damaged_state_is_an_error_that_names_the_file(state: State) -> None:
    state.keys_file.write_text("{")
    with pytest.raises(CliError, match=r"keys\.json cannot be read"):
        World(state)
