"""The main job, as a process: from nothing to two customers that chat, and nothing left of it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tests.cli.processes import TENANTPLANE, Running, descendants, environment, running, tenantplane, until

from tenantplane_cli.cluster.process import end, spawn
from tenantplane_cli.demo.parts import free_port

# One worker: each demo has a control plane of its own.
pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("demo")]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
START_SECONDS = 300.0
"""Ten times what a warm start may take."""


@pytest.fixture
def base() -> Iterator[Path]:
    yield from folder()


def folder() -> Iterator[Path]:
    """As root, index builds run as nobody, who must be able to pass; pytest's own folders are private."""
    made = Path(tempfile.mkdtemp(prefix="tenantplane-test-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def start(base: Path, *arguments: str, **env: str) -> Running:
    temporary = base / "tmp"
    temporary.mkdir()
    temporary.chmod(0o711)
    # The real home: the control plane is cached there.
    return Running(
        "demo",
        *arguments,
        env={**environment(Path.home()), "TMPDIR": str(temporary), **env},
        log=base / "demo.log",
    )


def assert_nothing_left(demo: Running, family: set[int], base: Path) -> None:
    until(lambda: not running(family), lambda: f"still running: {running(family)}\n{demo.text}")
    assert list((base / "tmp").iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_once(base: Path) -> None:
    with start(base, "--once") as demo:
        demo.until("apply examples/", timeout=START_SECONDS)
        family = descendants(demo.popen.pid)
        demo.until("ended; nothing keeps running", timeout=START_SECONDS)
        assert demo.popen.wait(START_SECONDS) == 0
    text = demo.text
    assert re.search(r"first grounded answer after \d+\.\d s", text)
    assert "EUR 14.60 per pallet" in text
    assert "[1] handbook/prices/price-list-2026.md" in text
    assert "404 for borealis-fast, assistant/calibration-lab, acme-fast; 403 for the other's Secret" in text
    assert "FAKE engine" in text
    assert not re.search(r"tp_[a-z2-7]{8}_", text), "a key of a demo that ended is of no use in a log"
    assert_nothing_left(demo, family, base)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["install the chart", "wait until both are Ready"])
def test_ended_at_any_moment_it_leaves_no_process(base: Path, number: signal.Signals, moment: str) -> None:
    with start(base) as demo:
        demo.until(moment, timeout=START_SECONDS)
        family = descendants(demo.popen.pid)
        assert family
        code = demo.interrupt(number, timeout=60.0)
    if number is signal.SIGKILL:
        until(lambda: not running(family), lambda: f"still running: {running(family)}")
    else:
        assert code == 130
        assert_nothing_left(demo, family, base)


def test_without_a_cluster_it_points_to_up(base: Path) -> None:
    with start(base, "--once", TENANTPLANE_KUBECONFIG=str(base / "none")) as demo:
        assert demo.popen.wait(60.0) == 1
    assert "For a standalone run without Kubernetes: `tenantplane up`" in demo.text
    assert "Traceback" not in demo.text
    logs = re.search(r"^logs: (.*)$", demo.text, re.MULTILINE)
    assert logs is not None
    assert Path(logs[1]).is_dir()


def test_an_engine_that_does_not_answer_is_told_at_once(base: Path) -> None:
    with start(base, "--once", "--engine-url", "http://127.0.0.1:1/v1") as demo:
        assert demo.popen.wait(60.0) == 1
    assert "--engine-url: nothing answers at http://127.0.0.1:1" in demo.text
    assert "open a Kubernetes API" not in demo.text


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_engine_of_ones_own(base: Path) -> None:
    port = free_port()
    python = TENANTPLANE.with_name("python")
    with (base / "engine.log").open("wb") as log:
        engine = spawn([python, "-m", "tenantplane_cli.fakeengine", "--port", str(port)], stdout=log)
    try:
        until(lambda: "127.0.0.1" in (base / "engine.log").read_text(), lambda: "the engine does not start")
        with start(base, "--once", "--engine-url", f"http://127.0.0.1:{port}/v1") as demo:
            assert demo.popen.wait(START_SECONDS) == 0, demo.text
    finally:
        end(engine)
    assert f"http://127.0.0.1:{port}/v1, model fake-chat" in demo.text
    assert "FAKE engine" not in demo.text


class Stay:
    """A demo that stays up, with what it printed to go on by hand."""

    def __init__(self, demo: Running, base: Path) -> None:
        self.demo, self.base = demo, base
        demo.until("It stays up until Ctrl-C", timeout=START_SECONDS)
        exports = dict(re.findall(r"^export (\w+)=(\S+)$", demo.text, re.MULTILINE))
        self.keys = {"acme": exports["ACME_KEY"], "borealis": exports["BOREALIS_KEY"]}
        self.kubectl = demo.until(r"^(\S*kubectl) get tenants")[1]
        self.base_url = demo.until(r'OpenAI\(base_url="([^"]+)"')[1]
        self.env = environment(
            base, KUBECONFIG=exports["KUBECONFIG"], TENANTPLANE_PLATFORM=exports["TENANTPLANE_PLATFORM"]
        )

    def client(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.base_url, api_key=key, max_retries=0)

    def code(self, key: str) -> str | None:
        try:
            self.client(key).models.list()
        except openai.APIStatusError as error:
            return error.code
        return None


@pytest.fixture(scope="module")
def stay() -> Iterator[Stay]:
    for base in folder():
        with start(base) as demo:
            made = Stay(demo, base)
            family = descendants(demo.popen.pid)
            yield made
            assert demo.interrupt() == 0
        assert_nothing_left(demo, family, base)


def ask(client: openai.OpenAI, model: str, question: str) -> str:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content or ""


@pytest.mark.timeout(400)
def test_status_shows_a_ready_tenant(stay: Stay) -> None:
    done = tenantplane("status", "acme", env=stay.env)
    assert done.returncode == 0, done.stderr
    for part in (
        "Ready",
        "NetworkReady",
        "acme-fast -> tenantplane-models/demo-engine",
        "19 documents",
        "tenant-acme",
        "last event",
    ):
        assert part in done.stdout
    found = json.loads(tenantplane("status", "borealis", "-o", "json", env=stay.env).stdout)
    assert found["ready"] is True
    assert found["endpoint"] == stay.base_url
    assert tenantplane("status", env=stay.env).stdout.count("yes") == 2
    assert tenantplane("status", "nobody", env=stay.env).returncode == 1


@pytest.mark.slow
def test_a_key_from_create_to_revoke(stay: Stay) -> None:
    done = tenantplane("keys", "create", "ci", "--tenant", "acme", "--owner", "ci", "--expires-in", "1d", env=stay.env)
    assert done.returncode == 0, done.stderr
    key = tenantplane("keys", "get", "ci", "--tenant", "acme", "--show", env=stay.env).stdout.strip()
    until(lambda: stay.code(key) is None, lambda: str(stay.code(key)))
    assert "EUR 38" in ask(stay.client(key), "assistant/handbook", "How much is the on-call allowance?")
    listed = json.loads(tenantplane("keys", "list", "-t", "acme", "-o", "json", env=stay.env).stdout)
    assert {row["name"]: row["state"] for row in listed} == {"ci": "Ready", "default": "Ready"}
    again = tenantplane("keys", "create", "ci", "--tenant", "acme", env=stay.env)
    assert again.returncode == 1
    assert "already" in again.stderr
    done = tenantplane("keys", "revoke", "ci", "--tenant", "acme", "--yes", env=stay.env)
    assert done.returncode == 0, done.stderr
    until(lambda: stay.code(key) == "invalid_api_key", lambda: str(stay.code(key)))
    assert stay.code(stay.keys["acme"]) is None
    gone = tenantplane("keys", "get", "ci", "--tenant", "acme", "--show", env=stay.env)
    assert gone.returncode == 1
    assert "no Secret" in gone.stderr


@pytest.mark.slow
def test_a_tenants_own_admin_needs_no_right_on_tenants_and_has_none_elsewhere(stay: Stay) -> None:
    personas = Path(stay.env["KUBECONFIG"]).parent
    own = {**stay.env, "KUBECONFIG": str(next(personas.glob("acme-admin-*.kubeconfig")))}
    done = tenantplane("status", "acme", env=own)
    assert done.returncode == 0, done.stderr
    assert "19 documents" in done.stdout
    assert "acme-fast" in done.stdout
    for arguments in (
        ["keys", "create", "mine", "-t", "acme"],
        ["keys", "list", "-t", "acme"],
        ["keys", "get", "mine", "-t", "acme", "--show"],
        ["chat", "What is the standard handling fee?", "-t", "acme", "--key-name", "mine"],
        ["keys", "revoke", "mine", "-t", "acme", "--yes"],
    ):
        done = tenantplane(*arguments, env=own)
        assert done.returncode == 0, (arguments, done.stderr)
    for arguments in (
        ["status", "borealis"],
        ["status"],
        ["keys", "create", "mine", "-t", "borealis"],
        ["keys", "list", "-t", "borealis"],
        ["keys", "get", "default", "-t", "borealis", "--show"],
        ["keys", "revoke", "default", "-t", "borealis", "--yes"],
        ["chat", "hi", "-t", "borealis"],
        ["ingest", ".", "-t", "acme", "-i", "handbook"],
    ):
        done = tenantplane(*arguments, env=own)
        assert done.returncode == 1, arguments
        assert "you may" in done.stderr, done.stderr
        assert done.stdout == ""
    assert stay.code(stay.keys["borealis"]) is None


def test_ingest_replaces_what_is_answered(stay: Stay, tmp_path: Path) -> None:
    (tmp_path / "zebra.md").write_text("# Zebra\n\nThe zebra crossing at Dunnick is number 8841.\n")
    question = "What number is the zebra crossing at Dunnick?"
    done = tenantplane("ingest", tmp_path, "--tenant", "borealis", "--index", "handbook", "-o", "json", env=stay.env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["documents"] == 3  # this one and the two of the ConfigMap
    assert found["copied"]["removed"] == 17
    b, a = stay.client(stay.keys["borealis"]), stay.client(stay.keys["acme"])
    until(lambda: "8841" in ask(b, "assistant/handbook", question), lambda: ask(b, "assistant/handbook", question))
    assert "8841" not in ask(a, "assistant/handbook", question)


def test_chat_with_a_key_from_the_cluster(stay: Stay) -> None:
    done = tenantplane("chat", "What is the standard handling fee?", "--tenant", "acme", env=stay.env)
    assert done.returncode == 0, done.stderr
    assert "EUR 14.60 per pallet" in done.stdout
    assert "[1] handbook/prices/price-list-2026.md" in done.stdout


def kubectl(stay: Stay, *arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        [stay.kubectl, *arguments],
        env={**stay.env, "KUBECACHEDIR": str(stay.base / "kubectl")},
        input=stdin,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_five_lines_are_enough_to_chat_and_deleting_them_cuts_access(stay: Stay) -> None:
    kubectl(stay, "apply", "-f", str(EXAMPLES / "minimal" / "tenant.yaml"))
    done = tenantplane("status", "minimal", "--wait", "60", env=stay.env)
    assert done.returncode == 0, done.stdout + done.stderr
    key = tenantplane("keys", "get", "default", "-t", "minimal", "--show", env=stay.env).stdout.strip()
    until(lambda: stay.code(key) is None, lambda: str(stay.code(key)))
    assert ask(stay.client(key), "default", "The kettle is blue. What colour is the kettle?")
    kubectl(stay, "delete", "tenant", "minimal", "--timeout=60s")
    until(lambda: stay.code(key) == "invalid_api_key", lambda: str(stay.code(key)))
    kubectl(stay, "get", "namespace", "tenant-minimal")
    kubectl(stay, "apply", "-f", str(EXAMPLES / "minimal" / "tenant.yaml"))
    until(lambda: stay.code(key) is None, lambda: str(stay.code(key)))
    kubectl(stay, "delete", "tenant", "minimal", "--timeout=60s")


def test_what_new_prints_becomes_ready(stay: Stay) -> None:
    printed = tenantplane("new", "fresh", "--display-name", "Fresh: #1", env=stay.env)
    kubectl(stay, "apply", "-f", "-", stdin=printed.stdout)
    done = tenantplane("status", "fresh", "--wait", "60", env=stay.env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fresh: #1" in done.stdout
    kubectl(stay, "delete", "tenant", "fresh", "--timeout=60s")


def test_the_examples_apply_as_they_are(stay: Stay) -> None:
    for name in ("acme", "borealis"):
        kubectl(stay, "apply", "--server-side", "--dry-run=server", "-f", str(EXAMPLES / name / "tenant.yaml"))
    kubectl(stay, "apply", "--dry-run=server", "-f", str(EXAMPLES / "models" / "demo-engine.yaml"))


def test_a_tenant_that_cannot_be_is_not_ready_and_says_why(stay: Stay) -> None:
    kubectl(
        stay, "apply", "-f", "-",
        stdin="apiVersion: tenantplane.dev/v1alpha1\nkind: Tenant\nmetadata: {name: odd}\n"
        "spec: {tenantID: odd-12345678, plan: nope}\n",
    )  # fmt: skip

    def told() -> str:
        done = tenantplane("status", "odd", env=stay.env)
        assert done.returncode == 1
        return done.stdout

    until(lambda: "UnknownPlan" in told() and "nope" in told(), told)
    kubectl(stay, "delete", "tenant", "odd", "--timeout=60s")


def test_version_names_the_crds(stay: Stay) -> None:
    done = tenantplane("version", "--kubeconfig", stay.env["KUBECONFIG"], env=stay.env)
    assert "Tenant v1alpha1" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ingest", ".", "-t", "acme", "-i", "nope"], "no index 'nope'; there: handbook"),
        (["chat", "x", "-t", "nobody"], "nobody"),
        (["keys", "list", "-t", "nobody"], "nobody"),
        (["keys", "get", "nope", "-t", "acme"], "nope"),
    ],
)
def test_errors_say_what_to_do(stay: Stay, arguments: list[str], words: str) -> None:
    done = tenantplane(*arguments, env=stay.env)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
