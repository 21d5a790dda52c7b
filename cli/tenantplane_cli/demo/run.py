"""The demo from an empty machine to two customers that chat, each step verified.

Guarantees: exit 0 only when every check held; a failed step says what failed, shows the last lines of the log that
tells more, and where the logs are; nothing keeps running afterwards. Where no Kubernetes API can be had it says so and
points to `tenantplane up`. Steps that do not need one another run at the same time.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tenantplane_cli.cluster import workdir as workdirs
from tenantplane_cli.cluster.model import Cluster
from tenantplane_cli.demo import checks, parts, summary
from tenantplane_cli.demo.apply import Admins, apply_examples, await_ready, key_of, refuse_foreign_secret
from tenantplane_cli.demo.checks import Customer
from tenantplane_cli.demo.parts import HOST, DemoError, Example, Programs
from tenantplane_cli.demo.view import View
from tenantplane_cli.endpoint import Endpoint
from tenantplane_cli.ingest_copy import Bounds, Copied, copy
from tenantplane_cli.output import CliError, note, one_line

_ENGINE: Final = "fake engine"
_DATA_PLANE: Final = "data plane"
_OPERATOR: Final = "operator"
_WATCH_SECONDS: Final = 1.0


@dataclass
class Demo:
    """What the steps share."""

    view: View
    programs: Programs
    workdir: Path
    engine_url: str | None
    examples: list[Example] = field(default_factory=list)
    hosts: list[dict[str, Any]] = field(default_factory=lambda: [{"host": HOST, "http": True, "private": True}])
    public_port: int = 0
    engine_base: str = ""
    served_name: str | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def documents(self) -> Path:
        return self.workdir / "documents"

    @property
    def platform_file(self) -> Path:
        return self.workdir / "platform.yaml"

    @property
    def public_url(self) -> str:
        return f"http://{HOST}:{self.public_port}"


def run(*, once: bool, engine_url: str | None, keep_logs: Path | None) -> int:
    """Run the demo; returns the exit code."""
    with ExitStack() as stack:
        interrupted = stack.enter_context(_signals())
        logs = _logs_folder(keep_logs)
        workdir = workdirs.make(None)
        stack.callback(workdirs.remove, workdir)
        view = View()
        programs = Programs(logs, workdir)
        demo = Demo(view, programs, workdir, engine_url)
        try:
            with view:
                stack.callback(programs.end)
                _run(demo, stack, once=once, stop=interrupted)
        except KeyboardInterrupt:
            view.finish()
            note("interrupted: ending everything")
            _discard(logs, keep_logs)
            return 130
        except CliError as error:
            view.finish()
            _explain(error, programs, logs)
            return 1
        _discard(logs, keep_logs)
    note("ended; nothing keeps running")
    return 0


def _run(demo: Demo, stack: ExitStack, *, once: bool, stop: threading.Event) -> None:
    view = demo.view
    # First what fails at once: nobody should wait for a control plane to hear of a mistyped URL.
    demo.examples = [parts.example(name) for name in parts.TENANTS]
    if demo.engine_url is not None:
        _look_at_engine(demo, demo.engine_url)
    pool = stack.enter_context(ThreadPoolExecutor(max_workers=1, thread_name_prefix="demo"))
    preparing = pool.submit(_prepare, demo, fixed_ports=not once)
    cluster = _open_cluster(demo, stack)
    admins = _install(demo, cluster)
    preparing.result()
    _start_programs(demo, cluster)
    with view.step("apply examples/ (two customers, one shared model)") as step:
        apply_examples(cluster, admins, demo.examples, parts.shared_model(demo.engine_base, demo.served_name))
        step.note = "namespaces and ConfigMaps as cluster admin, the rest as platform admin"
    with view.step("wait until both are Ready") as step:
        await_ready(view, step, admins, demo.examples, demo.programs)
    customers = [Customer(e, Endpoint(demo.public_url, key_of(admins, e)), key_of(admins, e)) for e in demo.examples]
    seconds, told = _verify(demo, admins, customers)
    view.finish()
    for line in ["", *told, "", f"first grounded answer after {seconds:.1f} s"]:
        view.say(line)
    if not cluster.owned:
        view.say(
            "the chart, the shared model and the tenants stay in your cluster: kubectl delete tenants acme borealis"
        )
    if not once:
        for line in summary.lines(demo.public_url, customers, cluster, demo.platform_file):
            view.say(line)
        _stay(demo, stop)


def _look_at_engine(demo: Demo, url: str) -> None:
    with demo.view.step("look at your engine") as step:
        demo.engine_base = url.rstrip("/")
        demo.served_name = summary.served_name(demo.engine_base)
        demo.hosts.append(summary.host_rule(demo.engine_base))
        step.note = f"{demo.engine_base}, model {demo.served_name}"


def _prepare(demo: Demo, *, fixed_ports: bool) -> None:
    """What needs no cluster: documents in place, Platform file, the fake engine running.

    ``fixed_ports``: take the ports that a person expects when they are free.
    """
    view = demo.view
    with view.step("copy the customers' documents into the platform's folder") as step:
        demo.documents.mkdir()
        demo.documents.chmod(0o755)
        store = demo.workdir / "store"
        store.mkdir()
        for example in demo.examples:
            copy(example.documents, example.directory(demo.documents), bounds=Bounds(), report=(report := Copied()))
            step.note += f"{', ' if step.note else ''}{example.name} {report.files} files"
    if demo.engine_url is None:
        port = parts.free_port(parts.ENGINE_PORT if fixed_ports else None)
        demo.engine_base = f"http://{HOST}:{port}/v1"
        with view.step("start the FAKE engine (no model: it repeats what it is sent)") as step:
            demo.programs.start(_ENGINE, [_python(), "-m", "tenantplane_cli.fakeengine", "--port", str(port)])
            step.note = demo.engine_base
    demo.public_port = parts.free_port(parts.PUBLIC_PORT if fixed_ports else None)
    text = parts.platform(
        documents=demo.documents.resolve(),
        store=store.resolve(),
        public_url=demo.public_url,
        probe_port=parts.free_port(),
        hosts=demo.hosts,
    )
    demo.platform_file.write_text(text, encoding="utf-8")


def _open_cluster(demo: Demo, stack: ExitStack) -> Cluster:
    from tenantplane_cli.cluster import ClusterError, ToolError, open_cluster

    with demo.view.step("open a Kubernetes API") as step:
        try:
            cluster = open_cluster(progress=lambda line: demo.view.progress(step, line))
        except (ClusterError, ToolError) as error:
            raise DemoError(str(error)) from None
        stack.callback(cluster.stop)
        stack.callback(demo.programs.end)  # before the API goes away: they end in order and not with errors
        step.note = cluster.choice
    return cluster


def _install(demo: Demo, cluster: Cluster) -> Admins:
    from tenantplane_cli.cluster import PROGRAMS_DISABLED, ClusterError, ToolError, install_chart

    with demo.view.step("install the chart (CRDs, namespaces, rights, fences)") as step:
        group = "platform-admins"
        sets = {**PROGRAMS_DISABLED, "access.platformAdmins": [{"kind": "Group", "name": group}]}
        try:
            install_chart(cluster, sets=sets, progress=lambda line: demo.view.progress(step, line))
            return Admins.of(cluster, platform_group=group)
        except (ClusterError, ToolError) as error:
            raise DemoError(str(error)) from None


def _start_programs(demo: Demo, cluster: Cluster) -> None:
    from tenantplane_api.runtime import names
    from tenantplane_cli.cluster import ClusterError

    with demo.view.step("start operator and data plane, each under its own ServiceAccount") as step:
        try:
            operator = cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_OPERATOR)
            dataplane = cluster.service_account(names.NAMESPACE_SYSTEM, names.SERVICE_ACCOUNT_DATAPLANE)
        except ClusterError as error:
            raise DemoError(str(error)) from None
        platform = ["--platform", str(demo.platform_file)]
        demo.programs.start(
            _OPERATOR,
            [parts.script("tenantplane-operator"), "run", *platform, "--kubeconfig", str(operator.kubeconfig)],
        )
        argv: list[str | Path] = [parts.script("tenantplane-dataplane"), "serve", *platform]
        argv += ["--kubeconfig", str(dataplane.kubeconfig), "--host", HOST, "--port", str(demo.public_port)]
        argv += ["--internal-host", HOST, "--internal-port", str(parts.free_port())]
        demo.programs.start(_DATA_PLANE, argv)
        step.note = demo.public_url


def _verify(demo: Demo, admins: Admins, customers: list[Customer]) -> tuple[float, list[str]]:
    """All checks; returns seconds from the start to the first grounded answer, and lines that show the answers."""
    view, (a, b) = demo.view, customers
    with view.step(f"ask {a.name} a question through POST /chat") as step:
        _, answer = checks.first_answer(a, demo.programs)
        seconds = time.monotonic() - demo.started
        step.note = one_line(answer.text, 160)
    with view.step("the same questions to both: each answers from its own documents, nothing of the other's") as step:
        checks.first_answer(b, demo.programs)
        told = [f"{a.example.questions[0].text}"]
        count = checks.same_question(a, b, told.append)
        step.note = f"{count} questions each"
    with view.step(f"{a.name}'s key finds nothing of {b.name}'s, and the other way round") as step:
        refused = [*checks.nothing_of(b, a), *checks.nothing_of(a, b)]
        checks.stranger(a)
        refuse_foreign_secret(admins, a.example, b.example)
        step.note = f"404 for {', '.join(refused)}; 403 for the other's Secret; 401 for an unknown key"
    with view.step("the shared model through /v1/chat/completions, plain and streaming") as step:
        step.note = "; ".join(f"{c.name}: {checks.through_engine(c, fake=demo.engine_url is None)}" for c in customers)
    demo.programs.check()
    return seconds, told


def _stay(demo: Demo, stop: threading.Event) -> None:
    demo.view.say("\nIt stays up until Ctrl-C.")
    try:
        while not stop.wait(_WATCH_SECONDS):
            demo.programs.check()
    except KeyboardInterrupt:
        demo.view.say("ending everything")


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM end the demo in order: KeyboardInterrupt in the main thread, and an event for who waits."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stop.is_set():
            return  # already ending; a second Ctrl-C must not leave processes behind
        stop.set()
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _explain(error: CliError, programs: Programs, logs: Path) -> None:
    note(f"\nthe demo failed: {error}")
    if isinstance(error, DemoError) and error.log is not None:
        note(f"\nlast lines of the {error.log}:\n{programs.tail(error.log)}")
    note(f"\nlogs: {logs}")


def _logs_folder(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="tenantplane-demo-logs-"))
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"--keep-logs: {wanted}: {error.strerror}") from None
    return wanted.absolute()


def _discard(logs: Path, wanted: Path | None) -> None:
    if wanted is None:
        shutil.rmtree(logs, ignore_errors=True)


def _python() -> Path:
    import sys

    return Path(sys.executable).absolute()
