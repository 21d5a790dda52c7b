"""The benchmarks run to their end at toy size and say what they promise; what they measure here is nobody's figure."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench.common import SettingError, quantile, setting, spread, usage

ROOT = Path(__file__).resolve().parents[2]


def run(module: str, **env: str) -> tuple[int, dict[str, Any], str]:
    """A benchmark as `make` runs it: exit code, its RESULT, everything that it said."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    last = (done.stdout.splitlines() or [""])[-1]
    said = done.stdout + done.stderr
    return done.returncode, json.loads(last.removeprefix("RESULT ")) if last.startswith("RESULT ") else {}, said


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bench_operator() -> None:
    code, result, said = run("bench.operator_bench", TENANTS="3", ROUNDS="1", IDLE="2", WORKERS="4")
    assert code == 0, said
    floor, operator = result["floor"], result["operator"]
    for side in (floor, operator):
        assert side["p50_s"][0] <= side["p99_s"][0] <= side["max_s"][0]
    # What the operator writes is at least what was captured as needed.
    assert operator["writes_per_tenant"][0] >= floor["writes_per_tenant"] - 1
    assert floor["writes"]["namespaces"] == floor["writes"]["finalizer"] == floor["writes"]["tenants/status"] == 1
    assert floor["writes"]["secrets"] == 2, "the key and the document"
    # Tenant once, its key twice: no first document, and so no first status, without the key.
    assert operator["requests_per_tenant"]["status"][0] <= 4
    assert operator["restart_changed_objects"] == operator["idle_changed_objects"] == 0
    assert set(operator["idle_requests"]) <= {"lease"}
    assert result["versions"]["kubernetes"].startswith("v1.")


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bench_kills() -> None:
    code, result, said = run("bench.kills", KILLS="1", BURST="11")
    assert code == 0, said
    assert list(result["converged_s_by_victim"]) == ["operator"]


@pytest.mark.parametrize("module", ["bench.operator_bench", "bench.kills"])
def test_a_wrong_setting_is_refused_before_anything_is_started(module: str) -> None:
    code, result, said = run(module, TENANTS="many", KILLS="many")
    assert code == 2
    assert result == {}
    assert "give a whole number" in said


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDS", "0")
    with pytest.raises(SettingError, match="ROUNDS=0: give at least 1"):
        setting("ROUNDS", 3, least=1)
    monkeypatch.setenv("ROUNDS", "")
    assert setting("ROUNDS", 3, least=1) == 3


def test_quantiles_are_values_that_were_measured() -> None:
    assert [quantile([4.0, 1.0, 3.0, 2.0], share) for share in (0.0, 0.5, 0.51, 0.99, 1.0)] == [1.0, 2.0, 3.0, 4.0, 4.0]
    assert quantile([5.0], 0.99) == 5.0
    assert spread([3.0, 1.0, 2.0]) == [2.0, 1.0, 3.0]


def test_usage_of_a_process() -> None:
    mine = usage(os.getpid())
    assert mine is not None
    assert mine.peak_mib > 1
    assert usage(None) is None
