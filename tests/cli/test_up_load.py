"""A folder of YAML: what is valid, what is refused with file and field, and what stays in force on a reload."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tenantplane_cli.up.load import Key, Loaded, load

REPOSITORY = Path(__file__).resolve().parents[2]
TENANT = """\
apiVersion: tenantplane.dev/v1alpha1
kind: Tenant
metadata: {name: %s}
spec: {tenantID: %s}
"""


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))


def tenants(loaded: Loaded) -> list[str]:
    return [obj["metadata"]["name"] for obj in loaded.of("Tenant")]


def test_the_examples_load_without_a_problem() -> None:
    loaded = load(REPOSITORY / "examples")
    assert loaded.problems == []
    assert tenants(loaded) == ["acme", "borealis", "minimal"]
    assert Key("ConfigMap", "tenant-acme", "acme-notices") in loaded.objects
    assert all("questions.yaml" in line for line in loaded.ignored)


def test_the_smallest_tenant_has_five_lines() -> None:
    text = (REPOSITORY / "examples" / "minimal" / "tenant.yaml").read_text()
    assert len([line for line in text.splitlines() if line and not line.startswith("#")]) == 5


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{}", "spec.tenantID"),
        ("{tenantID: A}", "spec.tenantID"),
        ("{tenantID: acme-12345678, modles: []}", "spec.modles: there is no such field"),
        ("{tenantID: acme-12345678, network: {egres: {}}}", "spec.network.egres: there is no such field"),
        ("{tenantID: acme-12345678, quota: {pods: -1}}", "spec.quota"),
        (
            "{tenantID: acme-12345678, models: [{alias: a, ref: {name: x}}, {alias: a, ref: {name: y}}]}",
            "spec.models[1].alias",
        ),
        ("{tenantID: acme-12345678, assistants: [{name: h, knowledge: [nope]}]}", "spec.assistants"),
        ("{tenantID: acme-12345678, knowledge: [{name: h, sources: [{name: s}]}]}", "spec.knowledge[0].sources[0]"),
    ],
)
def test_an_invalid_tenant_names_file_and_field_and_hides_no_other(tmp_path: Path, spec: str, words: str) -> None:
    write(
        tmp_path, "bad.yaml", "apiVersion: tenantplane.dev/v1alpha1\nkind: Tenant\nmetadata: {name: bad}\nspec: " + spec
    )
    write(tmp_path, "sub/good.yaml", TENANT % ("good", "good-12345678"))
    loaded = load(tmp_path)
    assert tenants(loaded) == ["good"]
    assert len(loaded.problems) == 1
    assert str(loaded.problems[0]).startswith("bad.yaml: Tenant bad: ")
    assert words in str(loaded.problems[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not YAML"),
        ("\x00", "is not YAML"),
        ("kind: Tenant\nspec: {}", "apiVersion and kind are needed"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}", "metadata.namespace is needed"),
        ("apiVersion: tenantplane.dev/v9\nkind: Tenant\nmetadata: {name: x}\nspec: {}", "apiVersion: must be"),
        ("apiVersion: 7\nkind: [x]\nmetadata: {}", "apiVersion and kind are needed"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        (
            "apiVersion: tenantplane.dev/v1alpha1\nkind: Tenant\nmetadata: {name: ../x}\nspec: {tenantID: a-1234567}",
            "name",
        ),
        ("apiVersion: tenantplane.dev/v1alpha1\nkind: Tenant\nmetadata: {name: x}\nspec: [1]", "spec"),
    ],
)
def test_what_is_no_valid_object_is_a_problem_and_not_a_crash(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    loaded = load(tmp_path)
    assert loaded.objects == {}
    assert words in "; ".join(str(problem) for problem in loaded.problems)


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, "list.yaml", "- a\n- b\n")
    write(tmp_path, "deploy.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {}\n")
    write(tmp_path, ".hidden/t.yaml", TENANT % ("hidden", "hidden-123456"))
    write(tmp_path, "documents/t.yaml", TENANT % ("document", "document-123"))
    (tmp_path / "link.yaml").symlink_to(REPOSITORY / "examples" / "minimal" / "tenant.yaml")
    loaded = load(tmp_path)
    assert loaded.objects == {}
    assert len(loaded.ignored) == 2
    assert "symbolic links" in str(loaded.problems[0])


def test_an_object_that_is_there_twice_is_refused_once(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", TENANT % ("acme", "acme-12345678"))
    write(tmp_path, "b.yaml", TENANT % ("acme", "acme-87654321"))
    loaded = load(tmp_path)
    assert loaded.of("Tenant")[0]["spec"]["tenantID"] == "acme-12345678"
    assert "is there twice, in a.yaml" in str(loaded.problems[0])


def test_what_became_invalid_stays_in_force_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", TENANT % ("acme", "acme-12345678"))
    first = load(tmp_path)
    for text in (TENANT % ("acme", "A"), TENANT % ("acme", "other-12345678"), "kind: [", ""):
        write(tmp_path, "a.yaml", text)
        again = load(tmp_path, first)
        if text:
            assert again.objects == first.objects, text
            assert "the previous version stays in force" in str(again.problems[0])
        else:
            assert again.objects == {}, "what is deleted is gone"
    assert "cannot be changed" in str(load_changed(tmp_path, first))


def load_changed(folder: Path, previous: Loaded) -> str:
    write(folder, "a.yaml", TENANT % ("acme", "other-12345678"))
    return str(load(folder, previous).problems[0])
