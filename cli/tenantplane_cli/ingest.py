"""`tenantplane ingest`: a folder of documents into an index of a tenant, and the wait until it answers from them.

Works on the machine (or share) that holds the platform's document folder, with a cluster or with a running
`tenantplane up`. Guarantees: what `ingest_copy` guarantees; the tenant's folder is found by its tenantID; exit code 0
only when a build that saw the copied files has succeeded. Does not: upload to another machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tenantplane_cli.keys import now_text
from tenantplane_cli.kubeoptions import ContextOption, KubeconfigOption
from tenantplane_cli.output import CliError, Format, OutputOption, clean, console, note, print_json, say
from tenantplane_cli.up.state import State, StateOption, choose, running_or_fail, standalone_tenant

if TYPE_CHECKING:
    from tenantplane_cli.ingest_copy import Bounds, Copied

PLATFORM_VARIABLE: Final = "TENANTPLANE_PLATFORM"
_POLL_SECONDS: Final = 0.2
_SKIPPED_SHOWN: Final = 5


@dataclass(frozen=True)
class Job:
    """One ingest: where documents go, how to ask for a build, and how to see its end."""

    tenant_id: str
    knowledge: list[dict[str, Any]]
    root: Path
    bounds: Bounds
    request: Callable[[str], None]
    poll: Callable[[], tuple[str | None, dict[str, Any]]]
    """Time of the last answered request, and ``status.knowledge`` of the index."""


def command(
    folder: Annotated[Path, typer.Argument(help="Folder of documents: text, Markdown, HTML.")],
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Name of the Tenant.")],
    index: Annotated[str, typer.Option("--index", "-i", help="Name of the index.")],
    source: Annotated[str | None, typer.Option(help="Directory source of the index, when it has several.")] = None,
    directory_root: Annotated[
        Path | None, typer.Option(help="The platform's shared.knowledge.directoryRoot, as seen from here.")
    ] = None,
    platform: Annotated[
        Path | None, typer.Option(envvar=PLATFORM_VARIABLE, help="Platform file that names directoryRoot.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the build.", min=1)] = 900.0,
    output: OutputOption = Format.TEXT,
    state: StateOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Copy a folder of documents into a tenant's index and wait until it is built.

    Only changed files are written; files that are no longer in the folder are removed from the index.
    """
    started = time.monotonic()
    standalone = choose(state, cluster_named=bool(kubeconfig or context))
    if standalone is not None:
        report, entry = _run(_standalone_job(standalone, tenant, index, directory_root), folder, index, source, timeout)
    else:
        from tenantplane_cli.kube import Kube

        with Kube(kubeconfig, context) as kube:
            job = _cluster_job(kube, tenant, index, directory_root, platform)
            report, entry = _run(job, folder, index, source, timeout)
    seconds = time.monotonic() - started
    if output is Format.JSON:
        print_json(
            {
                "documents": entry.get("documents"),
                "chunks": entry.get("chunks"),
                "generation": entry.get("generation"),
                "seconds": round(seconds, 2),
                "copied": {key: getattr(report, key) for key in ("files", "written", "unchanged", "removed", "bytes")},
                "skipped": [{"path": path, "reason": reason} for path, reason in report.skipped],
            }
        )
        return
    say(
        f"index {index} of tenant {tenant}: {entry.get('documents', 0)} documents, {entry.get('chunks', 0)} chunks, "
        f"{seconds:.1f} s ({report.written} files written, {report.unchanged} unchanged, {report.removed} removed)"
    )


def _run(job: Job, folder: Path, index: str, source: str | None, timeout: float) -> tuple[Copied, dict[str, Any]]:
    from tenantplane_cli.ingest_copy import Copied, copy, scan

    path = _directory_path(job, index, source)
    root = job.root.expanduser().absolute()
    if not root.is_dir():
        raise CliError(
            f"the platform's document folder {root} is not there: run this where it is, or name it by --directory-root"
        )
    target = root / job.tenant_id / path
    report = Copied()
    total = len(scan(folder, job.bounds, Copied()))
    if total == 0:
        raise CliError(f"{folder} holds no documents (.txt, .md, .html): nothing was changed")
    with _Progress() as progress:
        progress.files(total)
        copy(folder, target, bounds=job.bounds, report=report, on_file=progress.file_done)
        _tell_skipped(report)
        asked = now_text()
        job.request(asked)
        progress.building()
        entry = _await_build(job, index, asked, timeout)
    return report, entry


def _await_build(job: Job, index: str, asked: str, timeout: float) -> dict[str, Any]:
    from tenantplane_cli.patience import Patience

    patience = Patience(time.monotonic() + timeout)
    while True:
        handled, entry = patience.ask(job.poll) or (None, {})
        if handled == asked:
            if entry.get("failedBuildKey") and entry.get("message"):
                raise CliError(f"index {index} was not built: {clean(str(entry['message']))}")
            if entry.get("generation"):
                return entry
        if patience.over:
            raise CliError(
                f"index {index} is not built after {timeout:.0f} s: see `tenantplane status`, or raise --timeout"
            )
        time.sleep(_POLL_SECONDS)


def _directory_path(job: Job, index: str, source: str | None) -> str:
    """Path of the directory source below the tenant's folder. Raises CliError with what there is."""
    found = [item for item in job.knowledge if item.get("name") == index]
    if not found:
        there = ", ".join(str(item.get("name")) for item in job.knowledge) or "none"
        raise CliError(f"the tenant has no index {index!r}; there: {there}. Add it to spec.knowledge of the Tenant")
    directories = {
        str(s["name"]): str(s["directory"]["path"]) for s in found[0].get("sources", []) if s.get("directory")
    }
    if source is not None:
        if source not in directories:
            raise CliError(
                f"--source: index {index} has no directory source {source!r}; there: {', '.join(directories) or 'none'}"
            )
        return directories[source]
    if len(directories) != 1:
        raise CliError(
            f"index {index} has no directory source: add one to spec.knowledge of the Tenant"
            if not directories
            else f"index {index} has several directory sources: choose by --source ({', '.join(directories)})"
        )
    return next(iter(directories.values()))


def _tell_skipped(report: Copied) -> None:
    for path, reason in report.skipped[:_SKIPPED_SHOWN]:
        note(f"skipped: {path} ({reason})")
    if len(report.skipped) > _SKIPPED_SHOWN:
        note(f"skipped: {len(report.skipped) - _SKIPPED_SHOWN} more (--output json lists all)")


def _standalone_job(state: State, tenant: str, index: str, directory_root: Path | None) -> Job:
    from tenantplane_cli.ingest_copy import Bounds

    running = running_or_fail(state)
    entry = standalone_tenant(running, tenant)
    tenant_id = str(entry["tenantID"])

    def poll() -> tuple[str | None, dict[str, Any]]:
        now = standalone_tenant(running_or_fail(state), tenant)
        known = {str(item["name"]): item for item in now.get("knowledge", [])}
        return now.get("handledRequest"), known.get(index, {})

    return Job(
        tenant_id=tenant_id,
        knowledge=list(entry.get("indices", [])),
        root=directory_root or Path(str(running["directoryRoot"])),
        bounds=Bounds(**running["bounds"]),
        request=lambda at: state.request_reindex(tenant_id, at),
        poll=poll,
    )


def _cluster_job(kube: Any, tenant: str, index: str, directory_root: Path | None, platform_file: Path | None) -> Job:
    from tenantplane_api.runtime import names
    from tenantplane_api.runtime.platform import Platform, PlatformError, load_platform
    from tenantplane_cli.ingest_copy import Bounds
    from tenantplane_cli.kube import get_tenant, tenant_path

    try:
        platform = Platform() if platform_file is None else load_platform(platform_file)
    except PlatformError as error:
        raise CliError(f"--platform: {error}") from None
    root = directory_root or (Path(found) if (found := platform.shared.knowledge.directory_root) else None)
    if root is None:
        raise CliError(
            f"where are the platform's documents? Name the folder by --directory-root, or the Platform file by "
            f"--platform or {PLATFORM_VARIABLE}"
        )
    spec = get_tenant(kube, tenant).get("spec") or {}
    short = names.ANNOTATION_REINDEX.partition("/")[2]

    def poll() -> tuple[str | None, dict[str, Any]]:
        status = kube.get(tenant_path(tenant)).get("status") or {}
        known = {str(item["name"]): item for item in status.get("knowledge") or ()}
        return (status.get("handledRequests") or {}).get(short), known.get(index, {})

    indexer = platform.operator.indexer
    return Job(
        tenant_id=str(spec.get("tenantID", "")),
        knowledge=list(spec.get("knowledge") or ()),
        root=root,
        bounds=Bounds(indexer.max_files, indexer.max_file_bytes, indexer.max_total_bytes),
        request=lambda at: (
            kube.merge(tenant_path(tenant), {"metadata": {"annotations": {names.ANNOTATION_REINDEX: at}}}) and None
        ),
        poll=poll,
    )


class _Progress:
    """A progress bar on a terminal, nothing otherwise: files first, then the build, whose length nobody knows."""

    def __init__(self) -> None:
        self._console = console(stderr=True)
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> _Progress:
        if self._console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
        return self

    def files(self, total: int) -> None:
        if self._bar is not None:
            self._task = self._bar.add_task("copy", total=total)

    def file_done(self) -> None:
        if self._bar is not None:
            self._bar.advance(self._task)

    def building(self) -> None:
        if self._bar is not None:
            self._bar.add_task("build", total=None)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
