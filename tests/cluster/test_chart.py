"""Installing a chart: order, values, idempotence and the server's own words on failure."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tenantplane_cli.cluster import Cluster, ClusterError, helm_binary, install_chart
from tenantplane_cli.cluster.chart import nested
from tenantplane_cli.rest import Rest

CHART = """\
apiVersion: v2
name: probe
version: 0.1.0
"""
TEMPLATES = """\
apiVersion: probe.example.test/v1
kind: Probe
metadata: {name: first, namespace: {{ .Release.Namespace }}}
spec: {word: {{ .Values.word | default "none" | quote }}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: probes.probe.example.test}
spec:
  group: probe.example.test
  scope: Namespaced
  names: {kind: Probe, plural: probes, singular: probe}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties: {word: {type: string, maxLength: 10}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: probe.example.test}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [probe.example.test], apiVersions: [v1], operations: [CREATE], resources: [probes]}]
  validations: [{expression: "object.spec.word != 'bad'"}]
{{- if .Values.operator.enabled }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: operator-is-enabled, namespace: {{ .Release.Namespace }}}
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: hook, namespace: {{ .Release.Namespace }}, annotations: {helm.sh/hook: test}}
"""
PROBE = "/apis/probe.example.test/v1/namespaces/chart-probe/probes/first"
CONFIG_MAPS = "/api/v1/namespaces/chart-probe/configmaps"


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    (tmp_path / "probe" / "templates").mkdir(parents=True)
    (tmp_path / "probe" / "Chart.yaml").write_text(CHART)
    (tmp_path / "probe" / "templates" / "all.yaml").write_text(TEMPLATES)
    return tmp_path / "probe"


def test_helm_is_new_enough() -> None:
    done = subprocess.run([helm_binary(), "version", "--short"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(("v3.", "v4."))


@pytest.mark.cluster
def test_install_orders_waits_and_can_be_repeated(cluster: Cluster, chart: Path, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("word: a,b=c.d\n")
    said: list[str] = []
    install_chart(cluster, chart=chart, namespace="chart-probe", values=[values], progress=said.append)
    assert "4 objects" not in said[-1]
    assert "3 objects of probe applied" in said[-1]
    with Rest(cluster.kubeconfig) as rest:
        first = rest.call("GET", PROBE)[1]
        assert first["spec"]["word"] == "a,b=c.d"
        assert rest.call("GET", f"{CONFIG_MAPS}/operator-is-enabled")[0] == 404  # both programs are off by default
        assert rest.call("GET", f"{CONFIG_MAPS}/hook")[0] == 404
        install_chart(cluster, chart=chart, namespace="chart-probe", values=[values], progress=said.append)
        again = rest.call("GET", PROBE)[1]
        assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        sets = {"word": "won", "operator.enabled": True}
        install_chart(cluster, chart=chart, namespace="chart-probe", values=[values], sets=sets, progress=said.append)
        assert rest.call("GET", PROBE)[1]["spec"]["word"] == "won"
        assert rest.call("GET", f"{CONFIG_MAPS}/operator-is-enabled")[0] == 200


@pytest.mark.cluster
def test_failures_are_told_in_their_own_words(cluster: Cluster, chart: Path) -> None:
    with pytest.raises(ClusterError, match=r"the API server refuses the chart(.|\n)*spec\.word.*Too long"):
        install_chart(
            cluster,
            chart=chart,
            namespace="chart-probe",
            sets={"word": "x" * 11, "operator.enabled": False},
            progress=lambda _line: None,
        )
    (chart / "templates" / "all.yaml").write_text("{{ .Values.nothing.deeper }}")
    with pytest.raises(ClusterError, match=r"helm cannot render(.|\n)*nil pointer"):
        install_chart(cluster, chart=chart, namespace="chart-probe", progress=lambda _line: None)


def test_nested_sets() -> None:
    assert nested({"a.b": 1, "a.c": [2], "d": None}) == {"a": {"b": 1, "c": [2]}, "d": None}
    for wrong in ({"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}):
        with pytest.raises(ValueError, match="'a"):
            nested(wrong)
