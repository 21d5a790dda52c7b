"""The command line of `tenantplane up`; everything heavy is imported when it runs."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

import typer

from tenantplane_cli.output import CliError, UsageError, note
from tenantplane_cli.up.state import State, StateOption, default_folder


def command(
    folder: Annotated[Path, typer.Argument(help="Folder of YAML: Tenants, APIKeys, ModelDeployments, platform.yaml.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes any free one.", min=0, max=65535)] = 8080,
    strict: Annotated[bool, typer.Option("--strict", help="Do not start when an object is not valid.")] = False,
    state: StateOption = None,
) -> None:
    """Serve a folder of YAML from one process: no Kubernetes, no database, no GPU, nothing to download.

    Other commands find it: `tenantplane status`, `keys`, `ingest` and `chat` take its --state folder, and use the
    default one by themselves while it runs. Not enforced without Kubernetes: network policies, quotas, container
    limits, access rights, Pod Security.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: `tenantplane new acme > acme/tenant.yaml` makes a beginning")
    try:
        import asyncio

        from tenantplane_cli.up.run import Options, Standalone
        from tenantplane_cli.up.world import NOT_ENFORCED
        from tenantplane_dataplane.observability.logs import setup_logging
    except ImportError as error:
        raise CliError(
            f"standalone needs the data plane ({error.name} is missing): pip install 'tenantplane[dataplane]'"
        ) from None
    if not _is_loopback(host):
        note(f"warning: {host} can be reached from other machines, without TLS: put a TLS proxy in front")
    place = State(state or default_folder())
    place.open()
    try:
        with (place.folder / "up.log").open("a", encoding="utf-8") as log:
            setup_logging(level="INFO", stream=log)
            note(f"standalone: {folder} (state, API keys and log in {place.folder})")
            for part in NOT_ENFORCED:
                note(f"not enforced without Kubernetes: {part}")
            note("read a key: tenantplane keys get default --tenant NAME --show" + _state_hint(state))
            options = Options(folder=folder.resolve(), host=host, port=port, strict=strict)
            asyncio.run(_run(options, place, Standalone))
    finally:
        place.close()
    note("ended")


async def _run(options: object, state: State, standalone: type) -> None:
    await standalone(options, state, note).run()


def _state_hint(state: Path | None) -> str:
    return "" if state is None else f" --state {state}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
