"""The Platform file: every mistake is an error that starts with the path of the wrong field."""

from pathlib import Path
from typing import Any

import pytest

from tenantplane_api.runtime.platform import PlatformError, load_platform, parse_platform


def test_an_empty_file_is_all_defaults() -> None:
    platform = parse_platform(None)
    assert platform.plan(None) is not None
    assert platform.plan("gold") is None
    assert platform.shared.namespaces.runtime == "tenantplane-runtime"


@pytest.mark.parametrize(
    ("data", "start"),
    [
        ({"operator": {"workers": "many"}}, "operator.workers:"),
        ({"operator": {"workres": 3}}, "operator:"),
        ({"operators": {}}, "the file:"),
        ({"operator": {"plans": {"gold": {}}}}, "operator.defaultPlan:"),
        ({"operator": {"plans": {"default": {"quota": {"pods": "-1"}}}}}, "operator.plans"),
        ({"shared": {"namespaces": {"runtime": "tenantplane-system"}}}, "shared.namespaces:"),
        ({"shared": {"namespaces": {"runtime": "elsewhere"}}}, "shared.namespaces:"),
        ({"shared": {"knowledge": {"store": "file:///x"}}}, "shared.knowledge.store:"),
        ({"shared": {"knowledge": {"store": "ftp://x"}}}, "shared.knowledge.store:"),
        ({"shared": {"knowledge": {"directoryRoot": "relative"}}}, "shared.knowledge.directoryRoot:"),
        ({"shared": {"network": {"clusterCIDRs": ["10.0.0.0/8", "999.0.0.0/8"]}}}, "shared.network.clusterCIDRs[1]:"),
        (["a list"], "the file:"),
        (
            {"operator": {"plans": {"default": {"models": [{"alias": "a", "ref": {"name": "b"}}] * 2}}}},
            "operator.plans.default.models:",
        ),
    ],
)
def test_mistakes_name_their_field(data: Any, start: str) -> None:
    with pytest.raises(PlatformError) as caught:
        parse_platform(data)
    assert str(caught.value).startswith(start), str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="cannot be read"):
        load_platform(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [", encoding="utf-8")
    with pytest.raises(PlatformError, match="is not YAML"):
        load_platform(bad)
