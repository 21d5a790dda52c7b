"""`tenantplane up` as a real process: served by HTTP, asked by the OpenAI SDK and by our own commands."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tests.cli.processes import TENANTPLANE, Running, descendants, environment, running, tenantplane, until

from tenantplane_cli.cluster.process import end, spawn
from tenantplane_cli.conversation import citation_lines
from tenantplane_cli.demo.parts import example, free_port

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUESTION = "How much is the on-call allowance?"


class Up:
    """A running standalone process on a copy of the examples."""

    def __init__(self, base: Path) -> None:
        self.folder = base / "yaml"
        shutil.copytree(EXAMPLES, self.folder)
        self.engine_port, self.port = free_port(), free_port()
        model = self.folder / "models" / "demo-engine.yaml"
        model.write_text(model.read_text().replace("18080", str(self.engine_port)))
        self.env = environment(base)
        self.base = base
        self.process = self.start()

    def start(self) -> Running:
        started = Running("up", self.folder, "--port", str(self.port), env=self.env, log=self.base / "up.log")
        started.until(r"^serving http://127.0.0.1:")
        return started

    def key(self, tenant: str, name: str = "default") -> str:
        done = tenantplane("keys", "get", name, "--tenant", tenant, "--show", env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def client(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    made = Up(tmp_path_factory.mktemp("up"))
    with made.process:
        for name in ("acme", "borealis"):
            done = tenantplane(
                *("ingest", made.folder / name / "documents", "--tenant", name, "--index", "handbook"), env=made.env
            )
            assert done.returncode == 0, done.stderr
            assert "19 documents" in done.stdout
        yield made
        assert made.process.interrupt() == 0
    assert "ended" in made.process.text


def ask(client: openai.OpenAI, model: str, question: str = QUESTION, *, stream: bool = False) -> str:
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    if not stream:
        return client.chat.completions.create(model=model, messages=messages).choices[0].message.content or ""
    chunks = client.chat.completions.create(model=model, messages=messages, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_it_says_what_it_does_not_enforce(up: Up) -> None:
    assert "not enforced without Kubernetes: network policies" in up.process.text
    done = tenantplane("status", "acme", env=up.env)
    assert done.returncode == 0
    assert "not enforced without Kubernetes" in done.stdout
    assert "19 documents" in done.stdout


def test_keys_are_shown_only_when_asked_for(up: Up) -> None:
    key = up.key("acme")
    for arguments in (["keys", "get", "default"], ["keys", "list"], ["keys", "list", "-o", "json"]):
        done = tenantplane(*arguments, "--tenant", "acme", env=up.env)
        assert done.returncode == 0
        assert key[3:11] in done.stdout, "the id is no secret"
        assert key not in done.stdout + done.stderr
    assert key not in up.process.text


@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_sdk_gets_each_tenants_own_answer(up: Up, stream: bool) -> None:
    a, b = (ask(up.client(up.key(name)), "assistant/handbook", stream=stream) for name in ("acme", "borealis"))
    assert "EUR 38 per weekday night" in a
    assert "EUR 310 per on-call week" in b
    assert "EUR 310" not in a
    assert "EUR 38 " not in b


def test_a_key_finds_nothing_of_another_tenant(up: Up) -> None:
    a, b = up.client(up.key("acme")), up.client(up.key("borealis"))
    assert {model.id for model in a.models.list()} == {"acme-fast", "assistant/handbook"}
    assert ask(b, "assistant/calibration-lab")
    for model in ("assistant/calibration-lab", "borealis-fast"):
        with pytest.raises(openai.NotFoundError) as refused:
            ask(a, model)
        assert refused.value.code == "model_not_found"


def test_chat_command_cites_and_streams(up: Up) -> None:
    for option in ("--stream", "--no-stream"):
        done = tenantplane("chat", QUESTION, "--tenant", "acme", option, env=up.env)
        assert done.returncode == 0, done.stderr
        assert "EUR 38 per weekday night" in done.stdout
        assert "[1] handbook/people/on-call-and-working-time.md" in done.stdout
    with_key = {**up.env, "TENANTPLANE_API_KEY": up.key("borealis"), "TENANTPLANE_URL": f"127.0.0.1:{up.port}"}
    done = tenantplane("chat", QUESTION, "-a", "handbook", "-o", "json", env=with_key)
    assert "EUR 310" in json.loads(done.stdout)["answer"]
    assert citation_lines(json.loads(done.stdout)["citations"])
    done = tenantplane("chat", QUESTION, "--tenant", "acme", env=with_key)
    assert "EUR 38" in done.stdout, "a tenant that is named wins over a key in the environment"


def test_a_conversation_at_a_terminal(up: Up) -> None:
    master, slave = pty.openpty()
    talk = subprocess.Popen(
        [TENANTPLANE, "chat", "--tenant", "acme"],
        env=up.env,
        stdin=slave,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(slave)
    try:
        for line in (QUESTION, "", "What is the hotel ceiling in the travel policy?"):
            os.write(master, f"{line}\n".encode())
        os.write(master, b"\x04")
        printed = talk.communicate(timeout=60)[0].decode()
    finally:
        talk.kill()
        talk.wait()
        os.close(master)
    assert talk.returncode == 0
    assert "EUR 38 per weekday night" in printed
    assert "EUR 118 per night" in printed
    assert printed.count("  [1] handbook/people/") == 2


def test_every_question_of_the_examples(up: Up) -> None:
    for name in ("acme", "borealis"):
        client = up.client(up.key(name))
        for question in example(name).questions[:6]:
            answer = ask(client, "assistant/handbook", question.text)
            assert all(part in answer for part in question.answer), (question, answer)
            assert not any(part in answer for part in question.never), (question, answer)


def test_the_shared_model_through_the_fake_engine(up: Up) -> None:
    client = up.client(up.key("acme"))
    with pytest.raises(openai.APIStatusError) as away:
        ask(client, "acme-fast")
    assert away.value.code == "upstream_unavailable"
    with (up.base / "engine.log").open("wb") as log:
        python = TENANTPLANE.with_name("python")
        engine = spawn([python, "-m", "tenantplane_cli.fakeengine", "--port", str(up.engine_port)], stdout=log)
    try:
        until(lambda: "fake engine" in _try(client), (up.base / "engine.log").read_text)
        assert "fake engine" in ask(client, "acme-fast", "hello", stream=True)
        done = tenantplane("chat", "hello", "--tenant", "acme", "--model", "acme-fast", env=up.env)
        assert "fake engine" in done.stdout
    finally:
        end(engine)


def _try(client: openai.OpenAI) -> str:
    try:
        return ask(client, "acme-fast", "hello")
    except openai.APIStatusError:
        return ""


def test_a_change_of_the_folder_takes_effect_without_a_restart(up: Up) -> None:
    path = up.folder / "minimal" / "tenant.yaml"
    before = path.read_text()
    client = up.client(up.key("minimal"))
    client.models.list()
    path.write_text(before + "  suspend: true\n")
    until(lambda: _code(client) == "tenant_suspended", lambda: up.process.text)
    path.write_text(before.replace("minimal-7k3m9x2p", "X"))
    up.process.until(r"refused: minimal/tenant.yaml: Tenant minimal: spec.tenantID.*previous version stays in force")
    assert _code(client) == "tenant_suspended", "an invalid change changes nothing"
    path.unlink()
    until(lambda: _code(client) == "invalid_api_key", lambda: up.process.text)
    path.write_text(before)
    up.process.until(r"gone, its access is cut[\s\S]*tenant minimal: Ready")


def _code(client: openai.OpenAI) -> str | None:
    try:
        client.models.list()
    except openai.APIStatusError as error:
        return error.code
    return None


def test_a_revoked_key_is_refused_and_others_work(up: Up) -> None:
    path = up.folder / "acme" / "key.yaml"
    text = (
        "apiVersion: tenantplane.dev/v1alpha1\nkind: APIKey\n"
        "metadata: {name: ci, namespace: tenant-acme}\nspec: {owner: ci, revoked: %s}\n"
    )
    path.write_text(text % "false")
    up.process.until(r"tenant acme: .*ci \(tp_")
    client = up.client(up.key("acme", "ci"))
    until(lambda: _code(client) is None, lambda: up.process.text)
    path.write_text(text % "true")
    until(lambda: _code(client) == "invalid_api_key", lambda: up.process.text)
    assert _code(up.client(up.key("acme"))) is None
    path.unlink()


def test_ingest_again_replaces_what_is_answered(up: Up) -> None:
    documents = up.base / "again"
    shutil.copytree(up.folder / "acme" / "documents", documents)
    (documents / "zebra.md").write_text("# Zebra\n\nThe zebra crossing at Dunnick is number 8841.\n")
    question = "What number is the zebra crossing at Dunnick?"
    client = up.client(up.key("acme"))
    assert "8841" not in ask(client, "assistant/handbook", question)
    ingest = ("ingest", documents, "--tenant", "acme", "--index", "handbook", "-o", "json")
    done = tenantplane(*ingest, env=up.env)
    assert json.loads(done.stdout)["copied"]["written"] == 1, done.stderr
    assert "8841" in ask(client, "assistant/handbook", question)
    (documents / "zebra.md").unlink()
    done = tenantplane(*ingest, env=up.env)
    assert json.loads(done.stdout)["copied"]["removed"] == 1, done.stderr
    assert "8841" not in ask(client, "assistant/handbook", question)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chat", "x", "--tenant", "nobody"], "there is no tenant 'nobody'"),
        (["chat", "x", "--tenant", "borealis"], "choose by --assistant or --model"),
        (["chat", "x", "--tenant", "acme", "-a", "nope"], "model_not_found"),
        (["status", "nobody"], "there is no tenant 'nobody'"),
        (["ingest", "/nowhere", "-t", "acme", "-i", "handbook"], "/nowhere"),
        (["ingest", ".", "-t", "acme", "-i", "nope"], "no index 'nope'; there: handbook"),
        (["keys", "get", "nope", "--tenant", "acme"], "no key 'nope'"),
        (["keys", "create", "x", "--tenant", "acme"], "put an APIKey object into it"),
        (["keys", "revoke", "default", "--tenant", "acme"], "set spec.revoked: true there"),
        (["up", "."], "another `tenantplane up` runs"),
    ],
)
def test_errors_say_what_to_do(up: Up, arguments: list[str], words: str) -> None:
    done = tenantplane(*arguments, env=up.env)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.slow
def test_a_restart_keeps_keys_and_indices_and_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    up = Up(tmp_path / "home")
    with up.process:
        key = up.key("acme")
        up.process.until(r"index handbook of acme: 2 documents")
        family = descendants(up.process.popen.pid) | {up.process.popen.pid}
        assert up.process.interrupt(signal.SIGTERM) == 0
    until(lambda: not running(family), lambda: str(running(family)))
    again = up.start()
    with again:
        assert up.key("acme") == key
        assert "canteen" in ask(up.client(key), "assistant/handbook", "When does the canteen serve warm meals?")
        assert "index handbook of acme: 2 documents" not in again.text, "nothing changed, nothing is built"
        family = descendants(again.popen.pid)
        again.popen.kill()
        again.popen.wait()
    until(lambda: not running(family), lambda: str(running(family)))


def test_strict_refuses_to_start(tmp_path: Path) -> None:
    folder = tmp_path / "yaml"
    folder.mkdir()
    (folder / "t.yaml").write_text("kind: Tenant\nspec: {}\n")
    done = tenantplane("up", folder, "--strict", "--port", "0", env=environment(tmp_path))
    assert done.returncode == 1
    assert "refused: t.yaml: apiVersion and kind are needed" in done.stderr
    assert "--strict" in done.stderr


def test_a_taken_port_is_named(tmp_path: Path, up: Up) -> None:
    (tmp_path / "yaml").mkdir()
    done = tenantplane("up", tmp_path / "yaml", "--port", str(up.port), env=environment(tmp_path))
    assert done.returncode == 1
    assert f"port {up.port}" in done.stderr
    assert "Traceback" not in done.stderr
