"""The ``Subprocess`` builder: extract and finalise as fenced processes beside the operator, for local runs.

Extract runs as nobody (when we are root) and reads strangers' documents; finalise runs as ourselves and reads only
extract's inert output. Guarantees what ``sandbox`` guarantees for each, and that a success was read back from the
store. The chart refuses this runner: a pod that holds the operator's credentials must not parse documents.
"""

import asyncio
import importlib.util
import json
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from tenantplane_api.runtime.indexjob import IndexJob, JobSource, encode_job
from tenantplane_api.runtime.manifest import (
    GENERATION_PATTERN,
    MANIFEST_MAX_BYTES,
    MANIFEST_NAME,
    IndexManifest,
    ManifestError,
    manifest_sha256,
    verify_manifest,
)
from tenantplane_api.runtime.names import TenantID
from tenantplane_api.runtime.platform import Platform
from tenantplane_operator.knowledge.inputs import InputError, copy_directory, resolve_directory, write_config_map
from tenantplane_operator.knowledge.runner import BuildFailed, BuildResult, Order, ReadConfigMap, Workspace
from tenantplane_operator.knowledge.sandbox import Fence, Finished, Step, run_fenced, unprivileged_user
from tenantplane_operator.runtime.errors import ApiError

_INDEXER: Final = "tenantplane_dataplane.knowledge.indexer"
_EXTRACT: Final = ("tenantplane_dataplane.knowledge.extract",)
_GENERATION: Final = re.compile(GENERATION_PATTERN)
_MESSAGE_MAX: Final = 900
_MIB: Final = 1024 * 1024


class SubprocessBuilder:
    """Builds on this machine into a ``file://`` store."""

    def __init__(
        self,
        platform: Platform,
        read_config_map: ReadConfigMap,
        *,
        user: tuple[int, int] | None = None,
    ) -> None:
        self._platform = platform
        self._read = read_config_map
        self._user = user if user is not None else unprivileged_user()

    @property
    def _fence(self) -> Fence:
        indexer = self._platform.operator.indexer
        return Fence(
            memory_mib=indexer.memory_mi_b,
            file_mib=max(64, 4 * indexer.max_total_bytes // _MIB),
            seconds=float(indexer.timeout_seconds),
        )

    async def build(self, order: Order) -> BuildResult:
        """Extract, finalise, verify.

        Raises:
            BuildFailed: with a message for the tenant.
        """
        store = self._platform.shared.knowledge.store
        if store is None:
            raise BuildFailed("shared.knowledge.store is not set: ask the platform team", transient=False)
        if importlib.util.find_spec("faiss") is None or importlib.util.find_spec("tenantplane_dataplane") is None:
            raise BuildFailed(
                "the indexer is not installed beside the operator: install the extra `dataplane`", transient=False
            )
        async with Workspace(self._user) as folder:
            paths = await self._inputs(order, folder)
            try:
                job = order.job(paths)
            except ValueError as error:
                raise BuildFailed(str(error), transient=False) from None
            job_file = folder / "job.json"
            await asyncio.to_thread(_write_public, job_file, encode_job(job))
            inert = folder / "inert"
            rehearsal: tuple[str, ...] = ()
            if self._user is not None:
                rehearsal = await asyncio.to_thread(_rehearsal, folder / "rehearsal", job)
            _answer(
                await run_fenced(
                    Step(
                        _INDEXER,
                        ("extract", "--job", str(job_file), "--out", str(inert)),
                        preload=_EXTRACT,
                        rehearsal=rehearsal,
                    ),
                    fence=self._fence, scratch=folder, user=self._user,
                ),
                "extract", self._fence,
            )  # fmt: skip
            answer = _answer(
                await run_fenced(
                    Step(_INDEXER, ("finalise", "--job", str(job_file), "--input", str(inert), "--store", store)),
                    fence=self._fence, scratch=folder, user=None, umask=0o022,
                ),
                "finalise", self._fence,
            )  # fmt: skip
        return await asyncio.to_thread(self._verified, order, answer, store)

    async def _inputs(self, order: Order, folder: Path) -> dict[str, str]:
        paths: dict[str, str] = {}
        sources = folder / "sources"
        await asyncio.to_thread(_public_folder, sources)
        for source in order.sources:
            try:
                target = sources / source.name
                if source.config_map is not None:
                    found = await self._read(order.namespace, source.config_map)
                    if found is None:
                        raise BuildFailed(f"ConfigMap {source.config_map} is not there", transient=True)
                    await asyncio.to_thread(write_config_map, found, target)
                else:
                    root = self._platform.shared.knowledge.directory_root
                    if root is None or source.directory is None:
                        raise BuildFailed("directory sources are switched off on this platform", transient=False)
                    resolved = await asyncio.to_thread(resolve_directory, Path(root), source.directory)
                    await asyncio.to_thread(self._copy, resolved, target)
                paths[source.name] = str(target.resolve())
            except InputError as error:
                raise BuildFailed(f"source {source.name}: {error}", transient=False) from None
            except ApiError as error:
                raise BuildFailed(f"source {source.name}: {error.message}", transient=True) from None
            except OSError as error:
                raise BuildFailed(f"source {source.name}: cannot be read: {error.strerror}", transient=True) from None
        return paths

    def _copy(self, source: Path, target: Path) -> None:
        indexer = self._platform.operator.indexer
        copy_directory(source, target, max_files=indexer.max_files, max_bytes=indexer.max_total_bytes)

    def _verified(self, order: Order, answer: Mapping[str, Any], store: str) -> BuildResult:
        prefix, generation = str(answer.get("prefix") or ""), str(answer.get("generation") or "")
        try:
            folder = _inside(store, prefix)
            with (folder / MANIFEST_NAME).open("rb") as file:
                data = file.read(MANIFEST_MAX_BYTES + 1)
            manifest: IndexManifest = verify_manifest(
                data, tenant_id=TenantID(order.tenant_id), index=order.index, generation=generation
            )
        except (OSError, ManifestError) as error:
            raise BuildFailed(f"the built index does not verify in the store: {error}", transient=True) from None
        return BuildResult(
            built_at=datetime.now(UTC), manifest=manifest, manifest_sha256=manifest_sha256(data), prefix=prefix
        )

    async def clean(self, order: Order, built: str) -> None:
        """Keep the new generation and those that are served; delete the others of this index."""
        store = self._platform.shared.knowledge.store
        if store is not None:
            folder = _root(store) / order.tenant_id / order.index
            await asyncio.to_thread(_clean, folder, {built, *order.keep})


_SAMPLES: Final = {
    "sample.md": "# Sample\n\n- caf\u00e9 & `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "sample.txt": "A plain sample, na\u00efve and harmless.\n",
    "sample.html": "<html><head><title>s</title></head><body><h1>S</h1><p>a &amp; b</p><table><tr><td>1</td></tr>"
    "</table><ul><li>x</li></ul><pre>y</pre></body></html>",
}


def _rehearsal(folder: Path, job: IndexJob) -> tuple[str, ...]:
    """Arguments of an extract over a sample of each format: what the indexer imports late is imported then."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name, text in _SAMPLES.items():
        (source / name).write_text(text, encoding="utf-8")
    sample = msgspec.structs.replace(job, sources=(JobSource(name="sample", kind="directory", path=str(source)),))
    job_file = folder / "job.json"
    job_file.write_bytes(encode_job(sample))
    return ("extract", "--job", str(job_file), "--out", str(folder / "inert"))


def _public_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)


def _write_public(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o644)


def _root(store: str) -> Path:
    return Path(unquote(urlsplit(store).path))


def _inside(store: str, prefix: str) -> Path:
    folder = Path(unquote(urlsplit(prefix).path))
    if not prefix.startswith("file:///") or not folder.is_relative_to(_root(store)) or ".." in folder.parts:
        raise ManifestError("prefix: lies outside the store")
    return folder


def _clean(folder: Path, keep: set[str]) -> None:
    for entry in sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else ():
        if _GENERATION.match(entry.name) and entry.name not in keep and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)


def _answer(finished: Finished, step: str, fence: Fence) -> dict[str, Any]:
    """The step's one line of JSON, or the failure that its exit says."""
    if finished.timed_out:
        raise BuildFailed(
            f"{step} took longer than {fence.seconds:.0f} s: split the sources, or ask for a larger "
            "operator.indexer.timeoutSeconds",
            transient=False,
        )
    if finished.code != 0:
        raise BuildFailed(_why(finished, step), transient=finished.code != 2)
    try:
        answer = json.loads(finished.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise BuildFailed(f"{step} gave no answer", transient=True) from None
    if not isinstance(answer, dict):
        raise BuildFailed(f"{step} gave no answer", transient=True)
    return answer


def _why(finished: Finished, step: str) -> str:
    lines = [line for line in finished.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    if lines:
        try:
            told = json.loads(lines[-1])
            if isinstance(told, dict) and told.get("message"):
                return f"{step}: {told['message']}"[:_MESSAGE_MAX]
        except ValueError:
            pass
    if finished.code < 0:
        return f"{step} was ended by signal {-finished.code}: it may have hit a limit of operator.indexer"
    # Tracebacks may quote document text; only their last line's type is told, the log has no more either.
    kind = lines[-1].split(":", 1)[0][:80] if lines else "no message"
    return f"{step} failed with exit code {finished.code} ({kind})"
